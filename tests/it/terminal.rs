//! A user at a terminal: the program as the foreground process of a terminal of its own.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, Winsize, tcgetattr};

use crate::child::{self, Known};
use crate::host;
use crate::place::Place;
use crate::shared::shared;
use crate::tiny::tiny;

/// What a user types into and looks at.
pub(crate) struct Terminal {
    user: OwnedFd,
    /// Keeps the terminal open, and knows its modes.
    program: OwnedFd,
    seen: String,
    running: Option<Known>,
}

impl Terminal {
    /// Starts the program with a terminal that is its controlling one.
    pub(crate) fn start(place: &Place, args: &[&str]) -> Option<Self> {
        if !host::has("setsid") {
            return None;
        }
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let user = rustix::pty::openpt(flags).unwrap();
        rustix::pty::grantpt(&user).unwrap();
        rustix::pty::unlockpt(&user).unwrap();
        let program = rustix::pty::ioctl_tiocgptpeer(&user, flags).unwrap();
        rustix::termios::tcsetwinsize(&user, Winsize { ws_row: 31, ws_col: 97, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", env!("CARGO_BIN_EXE_gentoomuch")]).args(args);
        command.env_clear().envs(place.environment()).env("TERM", "xterm");
        command.stdin(program.try_clone().unwrap()).stdout(program.try_clone().unwrap()).stderr(program.try_clone().unwrap());
        let running = child::start(&mut command);
        Some(Self { user, program, seen: String::new(), running: Some(running) })
    }

    /// Its path.
    pub(crate) fn name(&self) -> String {
        rustix::termios::ttyname(&self.program, Vec::new()).unwrap().into_string().unwrap()
    }

    /// Gives it another width.
    pub(crate) fn resize(&self, columns: u16) {
        let size = Winsize { ws_row: 31, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.user, size).unwrap();
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> &str {
        &self.seen
    }

    pub(crate) fn types(&self, text: &str) {
        File::from(self.user.try_clone().unwrap()).write_all(text.as_bytes()).unwrap();
    }

    /// Reads what the user sees until it contains `wanted`.
    #[track_caller]
    pub(crate) fn sees(&mut self, wanted: &str) {
        let mut screen = File::from(self.user.try_clone().unwrap());
        let since = Instant::now();
        let mut chunk = [0; 4096];
        while !self.seen.contains(wanted) {
            let ready = gentoomuch::internals::sys::fd::wait_readable(&[self.user.as_fd()], Some(1000)).unwrap();
            if ready == [true] {
                let length = screen.read(&mut chunk).unwrap();
                self.seen.push_str(&String::from_utf8_lossy(&chunk[..length]));
            }
            assert!(since.elapsed() < Duration::from_mins(4), "no {wanted:?} in {:?}", self.seen);
        }
    }

    /// Waits for the end of the program; returns its exit status and all that was seen.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let status = self.running.take().unwrap().output().status;
        let modes = tcgetattr(&self.program).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO), "the terminal's mode is not restored: {modes:?}");
        let mut screen = File::from(self.user.try_clone().unwrap());
        while gentoomuch::internals::sys::fd::wait_readable(&[self.user.as_fd()], Some(100)).unwrap() == [true] {
            let mut chunk = [0; 4096];
            let length = screen.read(&mut chunk).unwrap();
            self.seen.push_str(&String::from_utf8_lossy(&chunk[..length]));
        }
        (status.code(), self.seen)
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.program).unwrap().local_modes.contains(LocalModes::ICANON)
    }
}

#[test]
fn a_command_has_a_terminal_of_its_size() {
    let Some(shared) = shared() else { return };
    let script = "test -t 0 && test -t 1 && test -t 2 && tty && stty size && echo $TERM; exit 9";
    let Some(terminal) = Terminal::start(&shared.place, &["freshroot", "--network", "none", "--", "sh", "-c", script]) else {
        return;
    };
    let (code, seen) = terminal.end();
    assert_eq!(code, Some(9), "{seen}");
    assert!(seen.ends_with("/dev/pts/0\r\n31 97\r\nxterm\r\n"), "{seen:?}");
}

#[test]
fn a_shell_gets_ctrl_c_follows_the_window_and_leaves_the_terminal_as_it_was() {
    let Some(shared) = shared() else { return };
    let Some(mut terminal) = Terminal::start(&shared.place, &["freshroot", "--network", "none", "--", "bash", "--norc", "-i"])
    else {
        return;
    };
    terminal.types("PS1='$((6*7))> '\r");
    terminal.sees("42> ");
    assert!(terminal.is_raw());
    terminal.types("echo begun $((40+1)); sleep 1000; echo slept $?\r");
    terminal.sees("begun 41");
    // `sleep` is in the foreground then, or is about to be.
    std::thread::sleep(Duration::from_millis(500));
    terminal.types("\x03");
    terminal.sees("^C");
    rustix::termios::tcsetwinsize(&terminal.user, Winsize { ws_row: 44, ws_col: 55, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    terminal.types("stty size; sleep 100 & jobs; kill %1; exit 7\r");
    terminal.sees("44 55");
    let (code, seen) = terminal.end();
    assert_eq!(code, Some(7), "{seen:?}");
    assert!(!seen.contains("job control"), "{seen:?}");
}

#[test]
fn a_killed_program_leaves_nothing_running() {
    let Some(shared) = shared() else { return };
    let Some(mut terminal) =
        Terminal::start(&shared.place, &["freshroot", "--network", "none", "--", "sh", "-c", "echo up $((1+1)); sleep 1000"])
    else {
        return;
    };
    terminal.sees("up 2");
    // The user closes the window.
    let Terminal { user, program, running, .. } = terminal;
    drop((user, program));
    let output = running.unwrap().output();
    assert!(!output.status.success());
    child::assert_no_strangers();
}

#[test]
fn clean_asks_before_it_removes_anything() {
    let Some(tiny) = tiny() else { return };
    let log = tiny.place.path("data/logs/old-terminal");
    std::fs::create_dir_all(&log).unwrap();
    child::check(Command::new("touch").args(["-d", "40 days ago"]).arg(&log));
    for (types, code, says, stays) in
        [("n\r", 0, "nothing was removed", true), ("\x03", 130, "interrupted: nothing", true), ("y\r", 0, "freed  ", false)]
    {
        let Some(mut terminal) = Terminal::start(&tiny.place, &["clean", "logs"]) else { return };
        terminal.sees("remove 1 item, 4.0 KiB? [y/N] ");
        terminal.types(types);
        terminal.sees(says);
        assert_eq!(terminal.end().0, Some(code), "{types:?}");
        assert_eq!(log.exists(), stays, "{types:?}");
    }
}
