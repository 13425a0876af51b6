//! The process that becomes the session's command: it drops what the command must not have, then executes it.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::capabilities;
use super::channel::Channel;
use super::limits::Limits;
use super::outer::report_panics;
use super::plan::CommandLine;
use super::plan::MountCalls;
use super::profile_env;
use super::request::{Failure, FromSession, ToSession};
use crate::beneath::{RootDir, Way};
use crate::priority::Priority;
use crate::sys::namespace::{self, Namespace};
use crate::sys::seccomp::Filter;
use crate::sys::springboard::{self, Attempt};
use crate::sys::{self, fd, landlock, process, pty, signal};

/// Where programs are searched if the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs as the session's process; returns only when there is nothing to execute.
pub(crate) fn run(control: &Channel) -> i32 {
    if let Ok(clone) = control.try_clone() {
        report_panics(clone, FromSession::Failed);
    }
    match become_command(control) {
        Ok(never) => match never {},
        Err(failure) => {
            let _ = control.send(&FromSession::Failed(failure), &[]);
            1
        }
    }
}

fn prepare(error: sys::Error) -> Failure {
    Failure::Prepare(error.into())
}

fn become_command(control: &Channel) -> Result<Infallible, Failure> {
    let gone = |_| Failure::Died { who: "the session's PID 1".to_owned() };
    // PID 1 is not dumpable, and neither is its copy. The files of such a process in `/proc` belong to a root that nobody here is, so
    // nobody could write its map. Nothing of the session runs before the command, and executing gives a process new memory.
    process::set_dumpable(true).map_err(prepare)?;
    // Opened while `/proc` is the host's: in the new root a layer may have put anything there.
    let own_proc = place(Path::new("/proc/self")).map_err(prepare)?;
    let namespaces = place(Path::new("/proc/sys/user")).map_err(prepare)?;
    // Also while `/proc` is the host's. When memory runs out, the kernel kills the session before anything else of the user.
    process::be_killed_first();
    let group = process::scheduling_group();
    control.send(&FromSession::Ready, &[own_proc.as_fd()]).map_err(gone)?;
    drop(own_proc);
    let Ok(Some((ToSession::Enter { command, terminal, calls, limits, priority, watched_by_own }, stdio))) =
        control.receive::<ToSession>()
    else {
        return Err(Failure::Died { who: "the session's PID 1".to_owned() });
    };
    confine(&limits).map_err(prepare)?;
    namespace::unshare(&[Namespace::User, Namespace::Mount]).map_err(|error| Failure::Nested(error.into()))?;
    control.send(&FromSession::Unshared, &[]).map_err(gone)?;
    let Ok(Some((ToSession::Mapped, _))) = control.receive::<ToSession>() else {
        return Err(Failure::Died { who: "the session's PID 1".to_owned() });
    };
    namespace::drop_groups().and_then(|()| namespace::become_root()).map_err(|error| Failure::Nested(error.into()))?;
    // This needs CAP_SYS_RESOURCE in this namespace, which is dropped below.
    namespace::forbid_user_namespaces(namespaces.as_fd()).map_err(prepare)?;
    drop(namespaces);
    process::new_session().map_err(prepare)?;
    stand_back(priority, group);
    standard_descriptors(&stdio, terminal).map_err(prepare)?;
    drop(stdio);
    enter_directory(&command.cwd, calls)?;
    capabilities::reduce().map_err(prepare)?;
    process::set_no_new_privileges().map_err(prepare)?;
    fd::close_others_on_exec().map_err(prepare)?;
    signal::reset_all().map_err(prepare)?;
    // Without scopes in the kernel the session goes on; `host::rung` records which protection it had.
    landlock::scope().map_err(prepare)?;
    let filter = Filter::for_this_machine(watched_by_own)
        .ok_or_else(|| sys::Error::new("seccomp", std::env::consts::ARCH, rustix::io::Errno::NOSYS));
    filter.and_then(|filter| filter.install()).map_err(prepare)?;
    execute(control, &command)
}

fn place(path: &Path) -> sys::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(sys::Error::of("open", path.display()))
}

/// Enters the command's directory. A layer may have made it a link to anything, and a link in `/proc` leads to whatever a descriptor of
/// this process refers to. So no such link is followed (CVE-2024-21626).
fn enter_directory(cwd: &Path, calls: MountCalls) -> Result<(), Failure> {
    let way = if calls == MountCalls::Oldest { Way::Stepwise } else { Way::Kernel };
    let found = RootDir::open(Path::new("/")).and_then(|root| root.by(way).place(cwd)).map_err(sys::Error::from);
    let entered = found.and_then(|directory| rustix::process::fchdir(&directory).map_err(sys::Error::of("fchdir", cwd.display())));
    entered.map_err(|error| Failure::Directory(error.into()))
}

/// How many files a process of a session may have open. All users share the machine's table. Linkers open some thousands.
const FILES: u64 = 16384;

/// Sets the limits that the kernel enforces. Before the namespace is made, so that they hold for every user of the namespace.
fn confine(limits: &Limits) -> sys::Result<()> {
    if let Some(pids) = limits.pids_at_most() {
        process::limit_processes(pids)?;
    }
    process::limit_files(FILES)?;
    limits.cpus.map_or(Ok(()), process::run_on)
}

/// Leaves processors and disks to others, as far as the host allows it: a build that does not is the same build.
fn stand_back(priority: Priority, group: Option<File>) {
    if let Some(nice) = priority.nice {
        process::be_nice(nice, group);
    }
    if let Some(io) = priority.io {
        process::set_io_priority(io.number());
    }
}

fn standard_descriptors(given: &[OwnedFd], terminal: bool) -> sys::Result<()> {
    match given {
        [only] if terminal => {
            pty::take_control(only)?;
            fd::replace_stdio([only.as_fd(); 3])
        }
        [stdin, stdout, stderr] => fd::replace_stdio([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]),
        _ => Err(sys::Error::new("dup2", format_args!("{} descriptors", given.len()), rustix::io::Errno::BADF)),
    }
}

/// Finds and executes the command as a shell does. The caller answers 127 and 126.
fn execute(control: &Channel, command: &CommandLine) -> Result<Infallible, Failure> {
    let text = |text: &str| CString::new(text).map_err(|_| Failure::Protocol("a NUL byte in an argument".to_owned()));
    let argv: Vec<CString> = command.argv.iter().map(|word| text(word)).collect::<Result<_, _>>()?;
    let variables = if command.login { profile_env::with_login(&command.env) } else { command.env.clone() };
    let env: Vec<CString> = variables.iter().map(|(name, value)| text(&format!("{name}={value}"))).collect::<Result<_, _>>()?;
    let program = command.argv.first().map_or("", String::as_str);
    let path = variables.iter().rev().find(|(name, _)| name == "PATH").map_or(DEFAULT_PATH, |(_, value)| value.as_str());
    let mut attempts = Vec::new();
    for candidate in candidates(program, path) {
        let candidate = text(&candidate)?;
        // A script without `#!`: shells and `execvp` run it with `/bin/sh`.
        let script = [c"/bin/sh".to_owned(), candidate.clone()].into_iter().chain(argv.iter().skip(1).cloned()).collect();
        attempts.push(Attempt { program: candidate, argv: argv.clone(), as_script: false });
        attempts.push(Attempt { program: c"/bin/sh".to_owned(), argv: script, as_script: true });
    }
    let tried: Vec<_> = attempts.iter().map(|attempt| (attempt.program.to_string_lossy(), attempt.as_script)).collect();
    let tried = serde_json::to_vec(&tried).map_err(|error| Failure::Protocol(error.to_string()))?;
    springboard::execute(control.as_fd(), &attempts, &env, &tried).map_err(prepare)
}

/// Why no attempt has succeeded. `None` if `report` is not what the process leaves that could not execute the command.
pub(crate) fn not_executed(report: &[u8]) -> Option<Failure> {
    let (errnos, tried) = springboard::results(report)?;
    let tried: Vec<(String, bool)> = serde_json::from_slice(tried).ok()?;
    let refused = errnos.into_iter().zip(tried).rfind(|(errno, (_, as_script))| match *errno {
        0 => false,
        // The next directory may have it; a shell has tried the script.
        libc::ENOENT | libc::ENOTDIR | libc::ENOEXEC => *as_script,
        _ => true,
    });
    Some(refused.map_or(Failure::CommandNotFound, |(errno, (program, _))| {
        let source = std::io::Error::from_raw_os_error(errno);
        Failure::CommandNotExecutable(sys::Error::new("execve", program, source).into())
    }))
}

/// The paths that are tried for a name, in order.
fn candidates(program: &str, path: &str) -> Vec<String> {
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    path.split(':')
        .map(|directory| if directory.is_empty() { "." } else { directory })
        .map(|directory| format!("{directory}/{program}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_in_order() {
        assert_eq!(candidates("ls", "/usr/bin::/bin"), ["/usr/bin/ls", "./ls", "/bin/ls"]);
        assert_eq!(candidates("./ls", "/usr/bin"), ["./ls"]);
        assert_eq!(candidates("/bin/ls", ""), ["/bin/ls"]);
    }
}
