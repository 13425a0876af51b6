//! One budget of make jobs for several sessions at the same time.
//!
//! ```text
//!                     JobServer: one purse of so many tokens, one a job
//!          ┌──────────────────┬─┴────────────────┬───────────────────┐
//!   pipe of session A   pipe of session B    claim of session C    free
//!   emerge, makes       emerge, makes        emerge -j1, make -jN
//! ```
//!
//! The tokens are those of GNU make's job server: bytes in a named pipe. A process takes one before it starts a job and puts one back
//! afterwards. `emerge` does so for each package (`FEATURES=jobserver-token`, Portage 3.0.76); the make that it starts uses that
//! package's token as the one that every make begins with. So the tokens taken are the jobs running, however many emerges and makes there
//! are.
//!
//! **Why each session has its own pipe.** A killed process puts nothing back, and a byte in a pipe does not say who took it. With one
//! pipe for all, the tokens of a killed build would be lost to the others, until all of them wait for ever. With one pipe each we know
//! what each session was given: when its emerge has ended, however it ended, all of that returns to the purse. The price is a thread that
//! moves tokens between the pipes: every `TICK` it takes idle tokens from one pipe while another is empty, and offers them less and less
//! often to sessions that do not use them. Each emerge gets at least one in the end, so none waits for ever.
//!
//! **Older versions.** make knows named pipes since 4.4, Portage tokens since 3.0.76. A session with older ones claims a fixed part of
//! the purse before it starts, waits for at least one token, and runs one package at a time with that many jobs. Both kinds share one
//! purse.
//!
//! Nothing outlives the process: a killed run leaves no tokens behind, and its sessions die with it.

use std::fs;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::durable::Result;
use crate::path_error::{OfFile as _, PathError};
use crate::threads;
use crate::threads::NoThread;

/// How often tokens are moved between pipes.
const TICK: Duration = Duration::from_millis(20);
/// A session that does not use its tokens is offered some again after at most so many ticks.
const LONGEST_WAIT: u32 = 32;
/// Name of a session's pipe in its directory.
pub(crate) const PIPE: &str = "jobserver";
/// Its path inside: `sys-apps/sandbox` lets a build write there.
pub(crate) const PIPE_INSIDE: &str = "/dev/shm/gentoomuch-jobserver";

/// The budget. Dropping it ends its thread.
#[derive(Debug)]
pub struct JobServer {
    pub(crate) shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    purse: Mutex<Purse>,
    changed: Condvar,
    /// The fixed part of a session that cannot use tokens.
    part: usize,
    budget: u32,
}

#[derive(Debug)]
struct Purse {
    free: usize,
    takers: Vec<Taker>,
    /// How many sessions wait for a claim.
    claimants: usize,
    next: u64,
    over: bool,
}

/// A session with a pipe, while its emerge runs.
#[derive(Debug)]
struct Taker {
    id: u64,
    pipe: File,
    /// How many tokens are in its pipe or in use by its jobs.
    given: usize,
    /// Whether the last tick gave it some.
    tried: bool,
    backoff: u32,
    wait: u32,
    at_most: Option<usize>,
}

/// A session's pipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pipe {
    pub(crate) path: PathBuf,
    /// How many of its tokens may be in use. Such a pipe is for make alone, which goes on without a token; an emerge needs one.
    pub(crate) at_most: Option<usize>,
}

/// What a session has of the budget.
#[derive(Debug, Default)]
pub(crate) enum Share {
    /// There is no budget.
    #[default]
    Whole,
    /// It uses tokens.
    Pipes(Arc<Shared>, Vec<Pipe>),
    /// A fixed part, held as long as this lives.
    Fixed(#[expect(dead_code, reason = "held, not read")] Claim),
}

/// A fixed part of the budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    shared: Arc<Shared>,
    pub(crate) jobs: usize,
}

/// A run of emerge that uses tokens. Dropping it takes all of them back, so every process of the run must have ended.
#[derive(Debug)]
pub(crate) struct Turn {
    shared: Arc<Shared>,
    ids: Vec<u64>,
}

impl JobServer {
    /// A budget of `jobs`, for up to `sessions` at the same time.
    pub fn start(jobs: u32, sessions: usize) -> std::result::Result<Self, NoThread> {
        let budget = jobs.max(1);
        let free = budget as usize;
        let purse = Purse { free, takers: Vec::new(), claimants: 0, next: 0, over: false };
        let part = (free / sessions.max(1)).max(1);
        let shared = Arc::new(Shared { purse: Mutex::new(purse), changed: Condvar::new(), part, budget });
        let tended = Arc::clone(&shared);
        let thread = threads::builder().spawn(move || tended.tend());
        let thread = thread.map_err(|source| NoThread::new("share make jobs with", source))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The number of jobs.
    pub fn budget(&self) -> u32 {
        self.shared.budget
    }
}

impl Drop for JobServer {
    fn drop(&mut self) {
        self.shared.purse().over = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn purse(&self) -> MutexGuard<'_, Purse> {
        self.purse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves tokens until the budget is given up.
    fn tend(&self) {
        let mut purse = self.purse();
        while !purse.over {
            purse = if purse.takers.is_empty() {
                self.changed.wait(purse).unwrap_or_else(PoisonError::into_inner)
            } else {
                purse.balance();
                if purse.free > 0 && purse.claimants > 0 {
                    self.changed.notify_all();
                }
                self.changed.wait_timeout(purse, TICK).unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }

    /// A fixed part; waits until there is at least one token, or it is `cancelled`.
    pub(crate) fn claim(self: &Arc<Self>, cancelled: &dyn Fn() -> bool) -> Option<Claim> {
        let mut purse = self.purse();
        purse.claimants += 1;
        while purse.free == 0 && !cancelled() {
            purse = self.changed.wait_timeout(purse, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
        purse.claimants -= 1;
        let jobs = purse.free.min(self.part);
        purse.free -= jobs;
        (jobs > 0).then(|| Claim { shared: Arc::clone(self), jobs })
    }

    fn join(self: &Arc<Self>, pipes: &[Pipe]) -> Result<Turn> {
        // For reading and writing: a pipe without a reader cannot be opened for writing without blocking, and one without a writer
        // is at its end (fifo(7)).
        let open = |path: &Path| OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path);
        let open = |pipe: &Pipe| open(&pipe.path).map_err(PathError::io("open", &pipe.path));
        let opened: Vec<File> = pipes.iter().map(open).collect::<Result<_>>()?;
        let mut purse = self.purse();
        let mut ids = Vec::new();
        for (Pipe { at_most, .. }, pipe) in pipes.iter().zip(opened) {
            let id = purse.next;
            purse.next += 1;
            purse.takers.push(Taker { id, pipe, given: 0, tried: false, backoff: 0, wait: 0, at_most: *at_most });
            ids.push(id);
        }
        purse.balance();
        self.changed.notify_all();
        Ok(Turn { shared: Arc::clone(self), ids })
    }
}

impl Purse {
    fn balance(&mut self) {
        let idle: Vec<usize> = self.takers.iter().map(Taker::idle).collect();
        for (taker, idle) in self.takers.iter_mut().zip(&idle) {
            taker.learn(*idle);
        }
        let mut needy: Vec<usize> = (0..self.takers.len()).filter(|at| idle[*at] == 0 && self.takers[*at].is_due()).collect();
        needy.sort_by_key(|at| self.takers[*at].given);
        let wanted = needy.len() + self.claimants;
        for (taker, idle) in self.takers.iter_mut().zip(&idle) {
            for _ in 0..*idle {
                // Idle tokens stay in their pipe unless somebody needs them.
                if self.free < wanted && taker.take() {
                    self.free += 1;
                }
            }
        }
        let mut left = needy.len();
        for at in needy {
            let spare = self.free.saturating_sub(self.claimants);
            let part = spare.div_ceil(left).min(spare);
            self.free -= self.takers[at].give(part);
            left -= 1;
        }
    }
}

impl Taker {
    /// Tokens in the pipe that no job has taken.
    fn idle(&self) -> usize {
        rustix::io::ioctl_fionread(self.pipe.as_fd())
            .map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
            .min(self.given)
    }

    fn learn(&mut self, idle: usize) {
        if std::mem::take(&mut self.tried) {
            self.backoff = if idle == 0 { 0 } else { (self.backoff * 2).clamp(1, LONGEST_WAIT) };
            self.wait = self.backoff;
        }
        self.wait = self.wait.saturating_sub(u32::from(idle == 0));
    }

    fn is_due(&self) -> bool {
        match self.at_most {
            None => self.given == 0 || self.wait == 0,
            Some(most) => self.given < most && self.wait == 0,
        }
    }

    fn take(&mut self) -> bool {
        let taken = matches!(self.pipe.read(&mut [0]), Ok(1));
        self.given -= usize::from(taken);
        taken
    }

    /// Puts up to `count` tokens into the pipe; returns how many.
    fn give(&mut self, count: usize) -> usize {
        let count = self.at_most.map_or(count, |most| count.min(most.saturating_sub(self.given)));
        let given = self.pipe.write(&vec![b'+'; count]).unwrap_or(0);
        self.given += given;
        self.tried = given > 0;
        given
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shared.purse().free += self.jobs;
        self.shared.changed.notify_all();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut purse = self.shared.purse();
        let (back, stay) = std::mem::take(&mut purse.takers).into_iter().partition(|taker| self.ids.contains(&taker.id));
        let back: Vec<Taker> = back;
        purse.takers = stay;
        purse.free += back.iter().map(|taker| taker.given).sum::<usize>();
        self.shared.changed.notify_all();
    }
}

impl Share {
    /// Joins the token exchange, once for each run of emerge.
    pub(crate) fn turn(&self) -> Result<Option<Turn>> {
        match self {
            Self::Pipes(shared, pipes) => shared.join(pipes).map(Some),
            Self::Whole | Self::Fixed(_) => Ok(None),
        }
    }
}

/// A named pipe that every user of a session may open; the store's directory keeps other users out. Replaces one of an earlier run.
pub(crate) fn make_pipe(path: &Path) -> Result<()> {
    crate::durable::remove_if_there(path)?;
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)
        .map_err(|errno| PathError::io("create", path)(errno.into()))?;
    // Not by `mknod`, from whose mode the kernel subtracts the umask.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).map_err(PathError::io("change the mode of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What takes tokens as a make does.
    fn open(path: &Path) -> File {
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap()
    }

    fn take(pipe: &mut File) -> bool {
        let since = std::time::Instant::now();
        while since.elapsed() < TICK * 100 {
            if matches!(pipe.read(&mut [0]), Ok(1)) {
                return true;
            }
            std::thread::sleep(TICK / 4);
        }
        false
    }

    fn take_all(pipe: &mut File) -> usize {
        let mut count = 0;
        for _ in 0..20 {
            while matches!(pipe.read(&mut [0]), Ok(1)) {
                count += 1;
            }
            std::thread::sleep(TICK / 2);
        }
        count
    }

    fn join(server: &JobServer, path: &Path) -> Turn {
        server.shared.join(&[Pipe { path: path.to_owned(), at_most: None }]).unwrap()
    }

    fn pipes(dir: &Path) -> [PathBuf; 2] {
        ["a", "b"].map(|name| {
            let path = dir.join(name);
            make_pipe(&path).unwrap();
            path
        })
    }

    #[test]
    fn all_tokens_go_to_who_is_alone_and_no_more_than_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let [a, _] = pipes(dir.path());
        let server = JobServer::start(5, 2).unwrap();
        let _turn = join(&server, &a);
        assert_eq!(take_all(&mut open(&a)), 5);
    }

    #[test]
    fn what_one_does_not_use_goes_to_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = pipes(dir.path());
        let server = JobServer::start(4, 2).unwrap();
        let _first = join(&server, &a);
        let mut one = open(&a);
        assert!(take(&mut one), "a serial build");
        let _second = join(&server, &b);
        let mut other = open(&b);
        let taken = take_all(&mut other);
        assert_eq!(taken, 3, "the serial build has not asked for more");
        assert!(!take(&mut one), "all four are in use");
        other.write_all(b"+").unwrap();
        assert!(take(&mut one), "what is given back can be had by both");
    }

    #[test]
    fn a_pipe_with_a_limit_gives_no_more_and_takes_nothing_away_that_it_does_not_use() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = pipes(dir.path());
        let server = JobServer::start(4, 1).unwrap();
        let limited = Pipe { path: b.clone(), at_most: Some(1) };
        let turn = server.shared.join(&[Pipe { path: a.clone(), at_most: None }, limited]).unwrap();
        let (mut emerge, mut make) = (open(&a), open(&b));
        assert_eq!(take_all(&mut emerge), 4, "nobody reads the other one");
        emerge.write_all(b"++").unwrap();
        assert_eq!(take_all(&mut make), 1);
        // The token of a job that has ended is the one for the next.
        make.write_all(b"+").unwrap();
        assert!(take(&mut make) && take(&mut emerge));
        assert_eq!(take_all(&mut emerge) + take_all(&mut make), 0, "four are in use");
        drop(turn);
        assert_eq!(server.shared.purse().free, 4);
    }

    #[test]
    fn what_a_killed_build_held_is_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = pipes(dir.path());
        let server = JobServer::start(3, 2).unwrap();
        let turn = join(&server, &a);
        assert_eq!(take_all(&mut open(&a)), 3);
        let _second = join(&server, &b);
        let mut other = open(&b);
        assert_eq!(take_all(&mut other), 0, "all are taken");
        drop(turn);
        assert_eq!(take_all(&mut other), 3);
    }

    #[test]
    fn fixed_parts_and_tokens_come_out_of_one_purse() {
        let dir = tempfile::tempdir().unwrap();
        let [a, _] = pipes(dir.path());
        let server = JobServer::start(4, 2).unwrap();
        let claim = server.shared.claim(&|| false).unwrap();
        assert_eq!(claim.jobs, 2);
        let _turn = join(&server, &a);
        let mut pipe = open(&a);
        assert!(take(&mut pipe));
        let second = server.shared.claim(&|| false).unwrap();
        assert!((1..=2).contains(&second.jobs), "{second:?}: taken back out of the pipe, since a claim cannot wait for ever");
        drop(claim);
        assert_eq!(take_all(&mut pipe) + 1, 4 - second.jobs);
        let none = server.shared.claim(&|| true);
        assert!(none.is_none(), "{none:?}: waiting can be given up");
    }
}
