//! Processes: attributes, waiting, and the two ways to leave.

use std::ffi::CString;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, WaitStatus};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::{Error, Result};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It returned this status.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// Whether the status is 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(out, "status {code}"),
            Self::Signal(number) => match nix::sys::signal::Signal::try_from(*number) {
                Ok(signal) => write!(out, "signal {number} ({signal})"),
                Err(_) => write!(out, "signal {number}"),
            },
        }
    }
}

/// Whether other processes of the user can read this one's memory, `/proc/PID/exe` and descriptors.
pub(crate) fn set_dumpable(dumpable: bool) -> Result<()> {
    nix::sys::prctl::set_dumpable(dumpable).map_err(Error::of("prctl", format_args!("PR_SET_DUMPABLE, {}", u8::from(dumpable))))
}

/// From now on set-id programs and file capabilities give nothing to this process and its children.
pub(crate) fn set_no_new_privileges() -> Result<()> {
    nix::sys::prctl::set_no_new_privs().map_err(Error::of("prctl", "PR_SET_NO_NEW_PRIVS, 1"))
}

/// Becomes another user and keeps all capabilities.
pub(crate) fn become_user(uid: u32) -> Result<()> {
    // SAFETY: the call takes integers. It changes what the next ones do to the capabilities of this process, which has one thread.
    let code = unsafe { libc::prctl(libc::PR_SET_SECUREBITS, libc::c_ulong::from(SECBIT_NO_SETUID_FIXUP), 0, 0, 0) };
    if code != 0 {
        return Err(Error::new("prctl", "PR_SET_SECUREBITS, NO_SETUID_FIXUP", std::io::Error::last_os_error()));
    }
    let user = nix::unistd::Uid::from_raw(uid);
    nix::unistd::setresuid(user, user, user).map_err(Error::of("setresuid", format_args!("{uid}, {uid}, {uid}")))?;
    // `setresuid` has set it to `fs.suid_dumpable`.
    set_dumpable(false)
}

/// Of `linux/securebits.h`.
const SECBIT_NO_SETUID_FIXUP: u32 = 1 << 2;

/// Makes this process the leader of a session and a process group of its own, without a terminal.
pub(crate) fn new_session() -> Result<()> {
    nix::unistd::setsid().map(drop).map_err(Error::of("setsid", ""))
}

/// Reaps one child that has ended, of any process group, without waiting. `None` if none has ended or there is none.
pub(crate) fn reap_any() -> Result<Option<(i32, Exit)>> {
    reap(None, WaitPidFlag::WNOHANG)
}

/// Waits for the end of any child. `None` if there is none.
pub(crate) fn wait_any() -> Result<Option<(i32, Exit)>> {
    reap(None, WaitPidFlag::empty())
}

pub(crate) fn wait_for(pid: i32) -> Result<Exit> {
    match reap(Some(Pid::from_raw(pid)), WaitPidFlag::empty())? {
        Some((_, exit)) => Ok(exit),
        None => Err(Error::new("waitpid", pid, nix::errno::Errno::ECHILD)),
    }
}

fn reap(pid: Option<Pid>, flags: WaitPidFlag) -> Result<Option<(i32, Exit)>> {
    loop {
        match nix::sys::wait::waitpid(pid, Some(flags | WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Exited(pid, code)) => return Ok(Some((pid.as_raw(), Exit::Code(code)))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => return Ok(Some((pid.as_raw(), Exit::Signal(signal as i32)))),
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return Ok(None),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(Error::new("waitpid", pid.map_or(-1, Pid::as_raw), errno)),
        }
    }
}

/// A descriptor that becomes readable when the child `pid` ends (Linux 5.3).
pub(crate) fn open_pidfd(pid: i32) -> Result<OwnedFd> {
    let number = rustix::process::Pid::from_raw(pid).ok_or_else(|| Error::new("pidfd_open", pid, rustix::io::Errno::INVAL))?;
    rustix::process::pidfd_open(number, rustix::process::PidfdFlags::empty()).map_err(Error::of("pidfd_open", pid))
}

/// Sends SIGKILL to the process that `pidfd` names. Does nothing if it has ended.
pub(crate) fn kill_pidfd(pidfd: impl AsFd) -> Result<()> {
    match rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(Error::new("pidfd_send_signal", "SIGKILL", errno)),
    }
}

/// Starts a copy of this process, which must have one thread. The copy runs `child` and ends with its answer; it never returns. So it
/// drops nothing that this process owns, but has all of its descriptors until it closes them.
pub(crate) fn fork(name: &str, child: impl FnOnce() -> i32) -> Result<i32> {
    // SAFETY: without other threads no lock is held in the copy, so it may do what this process may. There are none: a process that has
    // some cannot enter a user namespace, and the callers have.
    match unsafe { libc::fork() } {
        -1 => Err(Error::new("fork", name, std::io::Error::last_os_error())),
        0 => {
            rename(name);
            exit_now(child())
        }
        pid => Ok(pid),
    }
}

/// Gives this process another name in `/proc/PID/cmdline` and `/proc/PID/comm`, cut to the length of the arguments it was started with. Only
/// with one thread. Nothing depends on it, so a failure is not told.
pub(crate) fn rename(name: &str) {
    if let Ok(text) = CString::new(name) {
        let _ = nix::sys::prctl::set_name(&text);
    }
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 48 and 49 of proc_pid_stat(5). The second one may have blanks in it and ends with the last `)`.
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(45).map(str::parse::<usize>);
    if let (Some(Ok(begin)), Some(Ok(end))) = (fields.next(), fields.next())
        && begin != 0
        && end > begin
    {
        // The last byte stays the NUL that it is.
        let name = name.bytes().chain(std::iter::repeat(0)).take(end - begin - 1);
        for (offset, byte) in name.enumerate() {
            // SAFETY: the kernel has put the arguments of this process there, writable, and nobody reads them at this moment: there is
            // one thread.
            unsafe { std::ptr::with_exposed_provenance_mut::<u8>(begin + offset).write(byte) };
        }
    }
}

/// Ends this process at once: no destructors, no buffered output. Only for the helper, which must never return into a program that does
/// not know that it is one.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes an integer and does not return.
    unsafe { libc::_exit(code) }
}

/// Removes every capability from the bounding set that `kept` does not name. The loop goes on until the kernel answers EINVAL, so that it
/// also finds capabilities that we do not know.
pub(crate) fn limit_bounding_set(kept: u64) -> Result<()> {
    for number in 0..64u32 {
        if kept >> number & 1 == 1 {
            continue;
        }
        // SAFETY: the call takes integers.
        let code = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
        if code != 0 {
            let error = std::io::Error::last_os_error();
            if error.raw_os_error() == Some(libc::EINVAL) {
                return Ok(());
            }
            return Err(Error::new("prctl", format_args!("PR_CAPBSET_DROP, {number}"), error));
        }
    }
    Ok(())
}

/// Makes this process and its children the first that the kernel kills when memory runs out. They can undo it: only `CAP_SYS_RESOURCE` in
/// the first user namespace sets a value that others cannot lower (`oom_score_adj_min` in fs/proc/base.c). If it fails, the session runs
/// all the same.
pub(crate) fn be_killed_first() {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "1000") {
        tracing::debug!(%error, "no word about running out of memory");
    }
}

/// The group of processes that the scheduler weighs against others: one for each session of `setsid(2)`, with a niceness of its own. Between
/// two groups the niceness of single processes counts nothing (sched(7), "The autogroup feature"). `None` if the kernel has no such groups.
/// The file is for the group that this process has when something is written.
pub(crate) fn scheduling_group() -> Option<File> {
    File::options().write(true).open("/proc/self/autogroup").ok()
}

/// Makes this process, its children and its group as nice as this, or leaves them as they are if they are nicer. Failures do no harm.
pub(crate) fn be_nice(nice: u8, group: Option<File>) {
    let own = rustix::process::getpriority_process(None).unwrap_or(0);
    let nice = i32::from(nice).max(own);
    if let Err(error) = rustix::process::setpriority_process(None, nice) {
        tracing::debug!(%error, nice, "this process gets its turns like others");
    }
    let Some(mut group) = group else { return };
    // The kernel allows one change a tenth of a second, on the whole machine.
    for _ in 0..GROUP_CHANGES {
        match group.write_all(format!("{nice}\n").as_bytes()) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => std::thread::sleep(GROUP_PAUSE),
            Err(error) => return tracing::debug!(%error, nice, "the group gets its turns like others"),
            Ok(()) => return,
        }
    }
}

const GROUP_CHANGES: usize = 4;
const GROUP_PAUSE: Duration = Duration::from_millis(100);

/// Sets class and level of this process's input and output, and of its children's. If the host refuses, they are served like others.
pub(crate) fn set_io_priority(number: i32) {
    // SAFETY: the call takes integers; 0 is this process.
    let code = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, number) };
    if code != 0 {
        tracing::debug!(error = %std::io::Error::last_os_error(), number, "input and output are served like others'");
    }
}

/// Of `linux/ioprio.h`.
const IOPRIO_WHO_PROCESS: libc::c_int = 1;

/// Lets this thread run for short times and therefore soon after each wake-up, however many others want to (Linux 6.12; before, a thread
/// that has slept goes first anyway). Who watches a fork bomb would otherwise wait for a turn until it is over.
pub(crate) fn run_briefly_and_soon() {
    // SAFETY: the structure is plain integers, for which zero is a value.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    attributes.size = u32::try_from(size_of::<libc::sched_attr>()).unwrap_or(0);
    attributes.sched_flags = KEEP_POLICY;
    // SAFETY: the call takes integers.
    attributes.sched_nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    attributes.sched_runtime = 100_000;
    // SAFETY: the kernel reads `size` bytes of the structure, which outlives the call.
    let code = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0u32) };
    if code != 0 {
        tracing::debug!(error = %std::io::Error::last_os_error(), "this thread waits for its turn like others");
    }
}

/// `SCHED_FLAG_KEEP_POLICY` of `linux/sched.h`.
const KEEP_POLICY: u64 = 0x08;

/// Limits the processes and threads of this process and of each user namespace made from now on. Before Linux 5.14 the kernel counted all
/// processes of a user together, also those outside; then this does nothing.
pub(crate) fn limit_processes(most: u64) -> Result<()> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    if !counts_by_namespace(&release) {
        return Ok(());
    }
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NPROC)
        .map_err(Error::of("getrlimit", "RLIMIT_NPROC"))?;
    let most = most.min(hard);
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NPROC, most, most)
        .map_err(Error::of("setrlimit", format_args!("RLIMIT_NPROC, {most}")))
}

/// Limits the open files of this process and of each process that it starts.
pub(crate) fn limit_files(most: u64) -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(Error::of("getrlimit", "RLIMIT_NOFILE"))?;
    let (soft, hard) = (soft.min(most), hard.min(most));
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).map_err(Error::of("setrlimit", format_args!("RLIMIT_NOFILE, {soft}, {hard}")))
}

fn counts_by_namespace(release: &str) -> bool {
    let numbers: Vec<u32> = release.split(|c: char| !c.is_ascii_digit()).take(2).filter_map(|word| word.parse().ok()).collect();
    matches!(numbers[..], [major, minor] if (major, minor) >= (5, 14))
}

/// Runs this process and its children on at most so many of its processors. The first one depends on the process id, so that several
/// sessions do not share the same ones.
pub(crate) fn run_on(processors: u32) -> Result<()> {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    let this = Pid::from_raw(0);
    let may = sched_getaffinity(this).map_err(Error::of("sched_getaffinity", ""))?;
    let known: Vec<usize> = (0..CpuSet::count()).filter(|cpu| may.is_set(*cpu).unwrap_or(false)).collect();
    let mut chosen = CpuSet::new();
    let first = usize::try_from(rustix::process::getpid().as_raw_nonzero().get()).unwrap_or(0);
    for number in 0..known.len().min(usize::try_from(processors).unwrap_or(usize::MAX)) {
        let cpu = known[(first + number) % known.len()];
        chosen.set(cpu).map_err(Error::of("CPU_SET", cpu))?;
    }
    sched_setaffinity(this, &chosen).map_err(Error::of("sched_setaffinity", processors))
}

/// Sends a signal to all processes of a group. Does nothing if they have ended.
pub(crate) fn signal_group(group: i32, signal: nix::sys::signal::Signal) {
    if let Err(errno) = nix::sys::signal::killpg(Pid::from_raw(group), signal) {
        tracing::debug!(group, %signal, %errno, "nobody to tell");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_count_by_namespace_are_known_by_their_release() {
        for (release, counts) in [("5.13.19-arch", false), ("5.14.0", true), ("6.1.0-13-amd64", true), ("4.19", false), ("", false)]
        {
            assert_eq!(counts_by_namespace(release), counts, "{release}");
        }
    }
}
