//! Threads that cannot be started, as where the user has as many as `ulimit -u` allows: an error with words, not a panic.
//!
//! [`pool`] comes before the first use of `rayon`, which would panic.

use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle};

/// The system lets us start no more threads.
#[derive(Debug, thiserror::Error)]
#[error("cannot start a thread to {what}")]
pub struct NoThread {
    what: &'static str,
    #[source]
    source: io::Error,
}

impl NoThread {
    /// What it was for: `read the output of a command`.
    pub(crate) fn new(what: &'static str, source: io::Error) -> Self {
        Self { what, source }
    }
}

/// Starts a thread of a scope; `what` it is for ends the words "cannot start a thread to".
pub(crate) fn scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, NoThread> {
    builder().spawn_scoped(scope, work).map_err(|source| NoThread::new(what, source))
}

impl From<NoThread> for io::Error {
    fn from(error: NoThread) -> Self {
        Self::new(error.source.kind(), error)
    }
}

/// Does `work` in so many threads, or as many as can be started: at least in this one.
pub(crate) fn crew(count: usize, work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        let started = (0..count).filter(|_| scoped(scope, "work with", &work).is_ok()).count();
        if started == 0 {
            work();
        }
    });
}

/// Begins a thread; in tests, one that cannot be started.
pub(crate) fn builder() -> Builder {
    let builder = Builder::new();
    #[cfg(test)]
    if tests::NONE.get() {
        // More than there are addresses.
        return builder.stack_size(1 << 60);
    }
    builder
}

/// Makes the threads that share work on large collections: one for each processor.
///
/// # Errors
///
/// One of them cannot be started. Then nothing may be shared: `rayon` would panic, and it waits for ever for one that it counts on.
pub(crate) fn pool() -> Result<(), NoThread> {
    static REFUSED: OnceLock<Option<i32>> = OnceLock::new();
    let refused = REFUSED.get_or_init(|| {
        let refused = Mutex::new(None);
        let start = |thread: rayon::ThreadBuilder| match builder().name("share".to_owned()).spawn(|| thread.run()) {
            Ok(_) => Ok(()),
            Err(error) => {
                *refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.raw_os_error().unwrap_or(libc::EAGAIN));
                Err(error)
            }
        };
        // It also fails if an embedding program has made one already, which will do.
        drop(rayon::ThreadPoolBuilder::new().spawn_handler(start).build_global());
        refused.into_inner().unwrap_or_else(PoisonError::into_inner)
    });
    refused.map_or(Ok(()), |code| Err(NoThread::new("work with", io::Error::from_raw_os_error(code))))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// Whether this thread can start no other.
        pub(crate) static NONE: Cell<bool> = const { Cell::new(false) };
    }

    /// Does `work` while this thread can start no other.
    pub(crate) fn without_any<T>(work: impl FnOnce() -> T) -> T {
        NONE.set(true);
        let done = work();
        NONE.set(false);
        done
    }

    #[test]
    fn a_thread_that_cannot_be_started_is_an_error_with_words() {
        let error = without_any(|| std::thread::scope(|scope| scoped(scope, "listen with", || ()).map(drop))).unwrap_err();
        assert_eq!(error.to_string(), "cannot start a thread to listen with");
        assert!(std::error::Error::source(&error).is_some());
        assert_eq!(std::thread::scope(|scope| scoped(scope, "count with", || 7).map(|thread| thread.join().unwrap())).unwrap(), 7);
        let done = std::sync::atomic::AtomicUsize::new(0);
        let work = || _ = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        crew(3, work);
        without_any(|| crew(3, work));
        assert_eq!(done.into_inner(), 4);
        pool().unwrap();
    }
}
