//! Counts the processes that a program starts, by tracing it: whoever forks or executes is stopped and seen by the kernel's own account.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use crate::child;
use crate::place::{Ran, command_line, finish};

/// Runs `command` to its end; how many processes it has started, threads not counted.
pub(crate) fn run(command: &mut Command) -> (Ran, usize) {
    // A shell that stops itself until it is traced, and then becomes the program.
    let mut stopped = Command::new("/bin/sh");
    stopped.args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
    stopped.env_clear();
    stopped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    stopped.current_dir(command.get_current_dir().unwrap()).stdin(std::process::Stdio::null());
    let running = child::spawn(&mut stopped);
    let pid = Pid::from_raw(i32::try_from(running.id()).unwrap());
    assert!(matches!(waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap(), WaitStatus::Stopped(_, Signal::SIGSTOP)));
    let options =
        Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEVFORK | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_TRACEEXEC;
    ptrace::seize(pid, options).unwrap();
    kill(pid, Signal::SIGCONT).unwrap();
    let started = follow(pid);
    (finish(command_line(command), running), started)
}

/// The same for a command that has nothing to do. What another test has left, since it was killed, is mended by the next command, whoever's
/// it is, and who removes something from the store makes others wait: then it is run again, and that counts.
pub(crate) fn run_idle(mut command: impl FnMut() -> Command) -> (Ran, usize) {
    let (ran, started) = run(&mut command());
    if started == 0 && ran.stderr.is_empty() { (ran, started) } else { run(&mut command()) }
}

/// Lets all threads of a traced process run to the end of all but the first one, which is left for its parent to reap.
fn follow(first: Pid) -> usize {
    let mut tasks = BTreeSet::from([first]);
    let mut started = 0;
    while !tasks.is_empty() {
        let mut idle = true;
        for task in tasks.clone() {
            // The first one's end is left for whoever has started it.
            let look =
                WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT | WaitPidFlag::__WALL;
            if task == first && matches!(waitid(Id::Pid(task), look), Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..))) {
                tasks.remove(&task);
                continue;
            }
            match waitpid(task, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
                Ok(WaitStatus::StillAlive) => continue,
                Ok(WaitStatus::PtraceEvent(_, _, event)) => {
                    if matches!(event, libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE) {
                        tasks.insert(Pid::from_raw(i32::try_from(ptrace::getevent(task).unwrap()).unwrap()));
                        started += usize::from(event != libc::PTRACE_EVENT_CLONE);
                    }
                    let _ = ptrace::cont(task, None);
                }
                Ok(WaitStatus::Stopped(_, signal)) => {
                    let signal = (!matches!(signal, Signal::SIGTRAP | Signal::SIGSTOP)).then_some(signal);
                    let _ = ptrace::cont(task, signal);
                }
                _ => drop(tasks.remove(&task)),
            }
            idle = false;
        }
        if idle {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    started
}
