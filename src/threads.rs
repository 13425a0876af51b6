//! Starting threads. Where the user has as many as `ulimit -u` allows, that is an error with words instead of a panic.
//!
//! Call [`pool`] before the first use of `rayon`, which panics otherwise.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

/// The system refused to start another thread.
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

/// Starts a thread of a scope; `what` completes the message "cannot start a thread to".
pub(crate) fn scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, NoThread> {
    builder().spawn_scoped(scope, work).map_err(|source| NoThread::new(what, source))
}

/// Whether a thread can be started now: for libraries that panic if theirs cannot be.
pub(crate) fn spare(what: &'static str) -> Result<(), NoThread> {
    let thread = builder().spawn(|| ()).map_err(|source| NoThread::new(what, source))?;
    drop(thread.join());
    Ok(())
}

impl From<NoThread> for io::Error {
    fn from(error: NoThread) -> Self {
        Self::new(error.source.kind(), error)
    }
}

/// Runs `work` in up to `count` threads; in this one if none can be started.
pub(crate) fn crew(count: usize, work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        let started = (0..count).filter(|_| scoped(scope, "work with", &work).is_ok()).count();
        if started == 0 {
            work();
        }
    });
}

/// Does `work` with each of `items`, up to `most` of them at a time. Returns the results in the order of the items.
///
/// # Errors
///
/// The first failure. No further item is begun after it.
pub(crate) fn each<T: Sync, R: Send, E: Send>(
    most: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let (next, done, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(None));
    crew(most.min(items.len()), || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { break };
            match work(item) {
                Ok(result) => done.lock().unwrap_or_else(PoisonError::into_inner).push((at, result)),
                Err(error) => {
                    next.store(items.len(), Ordering::Relaxed);
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        }
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

/// Every thread is started through this, so that tests can make it fail.
pub(crate) fn builder() -> Builder {
    let builder = Builder::new();
    #[cfg(test)]
    if tests::NONE.get() {
        // A stack larger than the address space.
        return builder.stack_size(1 << 60);
    }
    builder
}

/// Starts `rayon`'s threads, one for each processor.
///
/// # Errors
///
/// One of them cannot be started. The caller must not use `rayon` then: it panics, or waits for ever for the missing thread.
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
        // This also fails if the embedding program has built the pool already; then that one is used.
        drop(rayon::ThreadPoolBuilder::new().spawn_handler(start).build_global());
        refused.into_inner().unwrap_or_else(PoisonError::into_inner)
    });
    refused.map_or(Ok(()), |code| Err(NoThread::new("work with", io::Error::from_raw_os_error(code))))
}

/// Fewer small files are read sooner by one thread than others are started.
const WORTH_SHARING: usize = 256;

/// Does a little work with each of `items`, in all threads of the pool where these are many and it can be had. Returns the results in the order
/// of the items, up to the first error.
pub(crate) fn share<T: Send, R: Send, E: Send>(items: Vec<T>, work: impl Fn(T) -> Result<R, E> + Sync) -> Result<Vec<R>, E> {
    if items.len() < WORTH_SHARING || pool().is_err() {
        return items.into_iter().map(work).collect();
    }
    items.into_par_iter().map(&work).collect()
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
    fn results_keep_their_order_and_nothing_is_begun_after_a_failure() {
        let items: Vec<u32> = (0..100).collect();
        let doubled = |item: &u32| Ok::<_, ()>(item * 2);
        let expected: Vec<u32> = items.iter().map(|item| item * 2).collect();
        assert_eq!(each(3, &items, doubled).unwrap(), expected);
        assert_eq!(without_any(|| each(3, &items, doubled)).unwrap(), expected);
        assert!(each(3, &[], doubled).unwrap().is_empty());
        let begun = AtomicUsize::new(0);
        let fails = |item: &u32| {
            begun.fetch_add(1, Ordering::Relaxed);
            if *item == 4 { Err("the fifth") } else { Ok(()) }
        };
        assert_eq!(without_any(|| each(3, &items, fails)).unwrap_err(), "the fifth");
        assert_eq!(begun.into_inner(), 5);
    }

    #[test]
    fn a_thread_that_cannot_be_started_is_an_error_with_words() {
        let error = without_any(|| std::thread::scope(|scope| scoped(scope, "listen with", || ()).map(drop))).unwrap_err();
        assert_eq!(error.to_string(), "cannot start a thread to listen with");
        assert!(std::error::Error::source(&error).is_some());
        assert!(spare("ask with").is_ok() && without_any(|| spare("ask with")).is_err());
        assert_eq!(std::thread::scope(|scope| scoped(scope, "count with", || 7).map(|thread| thread.join().unwrap())).unwrap(), 7);
        let done = std::sync::atomic::AtomicUsize::new(0);
        let work = || _ = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        crew(3, work);
        without_any(|| crew(3, work));
        assert_eq!(done.into_inner(), 4);
        pool().unwrap();
    }

    #[test]
    fn many_items_are_shared_and_keep_their_order() {
        let double = |number: usize| if number == 700 { Err(number) } else { Ok(2 * number) };
        for count in [0, 3, 700] {
            assert_eq!(share((0..count).collect(), double), Ok((0..count).map(|number| 2 * number).collect()));
        }
        assert_eq!(share((0..1000).collect(), double), Err(700));
    }
}
