//! Sessions with a terminal.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::time::Duration;

use gentoomuch::internals::sandbox::{Exit, Interrupt, Plan, Running, SessionOptions, Stdio, TerminalSize, terminal};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::fixture::{Fixture, chain, fixture};

/// Signals of this process are watched by one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn start(fixture: &Fixture, argv: &[&str], edit: impl FnOnce(&mut Plan)) -> Running {
    let (mut plan, place) = fixture.plan(argv);
    plan.terminal = true;
    edit(&mut plan);
    let mut options = SessionOptions::new(Stdio::Null);
    options.remove_after = vec![place];
    options.terminal_size = Some(TerminalSize { rows: 33, columns: 99 });
    fixture.launcher.session(&plan, options).unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// What the session prints until its terminal closes.
fn read_all(running: &Running) -> String {
    let mut master = std::fs::File::from(running.pty().unwrap().try_clone_to_owned().unwrap());
    let (mut text, mut chunk) = (Vec::new(), [0u8; 1024]);
    while let Ok(length @ 1..) = master.read(&mut chunk) {
        text.extend_from_slice(&chunk[..length]);
    }
    String::from_utf8_lossy(&text).replace('\r', "")
}

#[test]
fn the_command_has_a_terminal_of_its_own() {
    let Some(fixture) = fixture() else { return };
    // Compiled by the fixture for another test as well.
    if fixture.probe("", |_| {}).is_none() {
        return;
    }
    let probe = fixture.dir.path().join("probe");
    let mut running = start(&fixture, &["/probe", "terminal"], |plan| {
        let last = plan.steps.len() - 1;
        plan.steps
            .insert(last, gentoomuch::internals::sandbox::Step::Bind { source: probe, target: "/probe".into(), read_only: true });
    });
    let text = read_all(&running);
    assert_eq!(running.wait().unwrap(), Exit::Code(0));
    assert_eq!(text, "isatty 111\nttyname /dev/pts/0\nsize 33x99\nleader 1 foreground 1\ndev-tty ok\ntiocsti EPERM\n");
}

#[test]
fn signals_go_to_the_foreground_group() {
    let Some(fixture) = fixture() else { return };
    let mut running =
        start(&fixture, &["sh", "-c", "trap 'echo got it; exit 6' INT; echo ready; while :; do sleep 0.05; done"], |_| {});
    let mut master = std::fs::File::from(running.pty().unwrap().try_clone_to_owned().unwrap());
    master.read_exact(&mut [0u8; 6]).unwrap();
    running.signal(2).unwrap();
    assert_eq!(running.wait().unwrap(), Exit::Code(6));
}

/// A terminal as a user has it: what he types and sees, and the side that the program reads and writes.
fn users_terminal() -> (OwnedFd, OwnedFd) {
    let user = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    rustix::pty::grantpt(&user).unwrap();
    rustix::pty::unlockpt(&user).unwrap();
    let program = rustix::pty::ioctl_tiocgptpeer(&user, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    rustix::termios::tcsetwinsize(&user, Winsize { ws_row: 20, ws_col: 70, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    (user, program)
}

/// Reads what the user sees until it contains `wanted`.
fn until(screen: &mut std::fs::File, seen: &mut String, wanted: &str) {
    let mut chunk = [0u8; 1024];
    while !seen.contains(wanted) {
        let ready = gentoomuch::internals::sys::fd::wait_readable(&[screen.as_fd()], Some(240_000)).unwrap();
        assert_eq!(ready, [true], "no {wanted:?} in {seen:?}");
        let length = screen.read(&mut chunk).unwrap();
        seen.push_str(&String::from_utf8_lossy(&chunk[..length]));
    }
}

fn is_raw(terminal: &OwnedFd) -> bool {
    let modes = rustix::termios::tcgetattr(terminal).unwrap();
    !modes.local_modes.contains(rustix::termios::LocalModes::ICANON)
}

#[test]
fn a_shell_has_job_control_and_the_window_follows() {
    let Some(fixture) = fixture() else { return };
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut running = start(&fixture, &["sh", "-i"], |plan| plan.command.env.push(("PS1".to_owned(), "> ".to_owned())));
    let (user, program) = users_terminal();
    let mut screen = std::fs::File::from(user.try_clone().unwrap());
    let interrupt = Interrupt::install().unwrap();
    let (exit, seen) = std::thread::scope(|scope| {
        let typist = scope.spawn(|| {
            let mut seen = String::new();
            until(&mut screen, &mut seen, "> ");
            assert!(is_raw(&user));
            screen.write_all(b"stty size; sleep 1000; echo slept=$?\r").unwrap();
            until(&mut screen, &mut seen, "20 70");
            // `sleep` is in the foreground then, or is about to be.
            std::thread::sleep(Duration::from_millis(300));
            screen.write_all(b"\x03").unwrap();
            until(&mut screen, &mut seen, "^C");
            rustix::termios::tcsetwinsize(&user, Winsize { ws_row: 44, ws_col: 55, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGWINCH).unwrap();
            std::thread::sleep(Duration::from_millis(200));
            screen.write_all(b"echo still $((40+2)); stty size\r").unwrap();
            until(&mut screen, &mut seen, "still 42");
            until(&mut screen, &mut seen, "44 55");
            screen.write_all(b"exit 7\r").unwrap();
            seen
        });
        let exit = terminal::proxy(&mut running, &interrupt, program.as_fd(), program.as_fd()).unwrap();
        (exit, typist.join().unwrap())
    });
    assert_eq!(exit, Exit::Code(7), "{seen}");
    assert!(!seen.contains("job control turned off") && !seen.contains("no job control"), "{seen}");
    assert!(!is_raw(&program), "the mode is restored");
}

#[test]
fn all_that_was_printed_arrives_after_the_end() {
    let Some(fixture) = fixture() else { return };
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut running = start(&fixture, &["sh", "-c", "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done"], |_| {});
    let (user, program) = users_terminal();
    let mut screen = std::fs::File::from(user);
    let interrupt = Interrupt::install().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut seen = String::new();
            until(&mut screen, &mut seen, "line 2999\r\n");
            assert!((0..3000).all(|number| seen.contains(&format!("line {number}\r\n"))));
        });
        assert_eq!(terminal::proxy(&mut running, &interrupt, program.as_fd(), program.as_fd()).unwrap(), Exit::Code(0));
    });
}

#[test]
fn a_vanished_terminal_hangs_up() {
    let Some(fixture) = fixture() else { return };
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut running = start(&fixture, &["sleep", "1000"], |_| {});
    let (user, program) = users_terminal();
    let interrupt = Interrupt::install().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            drop(user);
        });
        assert_eq!(terminal::proxy(&mut running, &interrupt, program.as_fd(), program.as_fd()).unwrap(), Exit::Signal(1));
    });
}

#[test]
fn once_is_told_and_twice_is_killed() {
    let Some(fixture) = fixture() else { return };
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let interrupt = Interrupt::install().unwrap();
    let raise = || nix::sys::signal::raise(nix::sys::signal::Signal::SIGINT).unwrap();
    let (plan, place) = fixture.plan(&["sh", "-c", "trap 'echo told; exit 9' INT; echo ready; while :; do sleep 0.05; done"]);
    let (mut running, mut reader) = fixture.start(&plan, &place, gentoomuch::internals::sandbox::MountCalls::Newest).unwrap();
    reader.read_exact(&mut [0u8; 6]).unwrap();
    raise();
    assert_eq!(interrupt.wait(&mut running).unwrap(), Exit::Code(9));
    assert_eq!((interrupt.count(), interrupt.signal()), (1, Some(2)));
    drop(interrupt);

    let interrupt = Interrupt::install().unwrap();
    let (plan, place) = fixture.plan(&["sh", "-c", "trap '' INT; echo ready; sleep 1000"]);
    let (mut running, mut reader) = fixture.start(&plan, &place, gentoomuch::internals::sandbox::MountCalls::Newest).unwrap();
    reader.read_exact(&mut [0u8; 6]).unwrap();
    raise();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            raise();
        });
        assert_eq!(interrupt.wait(&mut running).unwrap(), Exit::Signal(9));
    });
}

/// A program that starts a session with its own standard descriptors, as an embedder may, whatever they are: it is this test program.
#[test]
#[ignore = "run by the tests below, in a process of its own"]
fn as_a_program_with_descriptors() {
    let Some(dir) = std::env::var_os("GENTOOMUCH_WITH").map(std::path::PathBuf::from) else { return };
    let Some(fixture) = fixture() else { return };
    let Some((plan, place)) = fixture.probe_plan(&["descriptors", "/out/found"], |plan| {
        let last = plan.steps.len() - 1;
        plan.steps
            .insert(last, gentoomuch::internals::sandbox::Step::Bind { source: dir, target: "/out".into(), read_only: false });
    }) else {
        return;
    };
    let mut options = SessionOptions::new(Stdio::Inherit);
    options.remove_after = vec![place];
    let mut running = fixture.launcher.session(&plan, options).unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(running.wait().unwrap(), Exit::Code(0));
}

/// What a session finds with these descriptors, without line numbers; as leader of a session whose terminal `controlling` is.
fn found(dir: &std::path::Path, controlling: bool, fds: [&OwnedFd; 3]) -> String {
    let [stdin, stdout, stderr] = fds.map(|fd| std::process::Stdio::from(fd.try_clone().unwrap()));
    let program = std::env::current_exe().unwrap();
    let mut command = std::process::Command::new(if controlling { std::path::Path::new("setsid") } else { &program });
    if controlling {
        command.args(["--ctty", "--wait"]).arg(&program);
    }
    let status = command
        .args(["--exact", "terminal::as_a_program_with_descriptors", "--ignored", "--nocapture"])
        .env("GENTOOMUCH_WITH", dir)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    std::fs::read_to_string(dir.join("found")).unwrap()
}

#[test]
fn the_users_terminal_is_given_as_a_whole_or_not_at_all() {
    let Some(fixture) = fixture() else { return };
    // Also where a program gives away all three, but does not ask for a terminal.
    for (at, wanted) in [
        ([true, false, false], "0 device /dev/null\n1 pipe\n2 pipe\n"),
        ([false, true, false], "0 pipe\n1 pipe\n2 pipe\n"),
        ([false, false, true], "0 pipe\n1 pipe\n2 pipe\n"),
        ([true, false, true], "0 device /dev/null\n1 pipe\n2 pipe\n"),
        ([true, true, true], "0 device /dev/null\n1 pipe\n2 pipe\n"),
    ] {
        let (user, program) = users_terminal();
        let mut screen = std::fs::File::from(user.try_clone().unwrap());
        let (input, _keep) = std::io::pipe().unwrap();
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        let input = OwnedFd::from(input);
        let fds =
            [if at[0] { &program } else { &input }, if at[1] { &program } else { &file }, if at[2] { &program } else { &file }];
        let text = found(fixture.dir.path(), at[0], fds);
        assert_eq!(text, format!("{wanted}dev-tty ENXIO\n"), "{at:?}");
        if at[1] {
            let mut seen = String::new();
            until(&mut screen, &mut seen, " text");
            assert!(seen.contains("\x1b[31mred\x1b[0m text"), "{seen:?}");
        }
    }
}

#[test]
fn a_file_is_read_and_written_but_not_opened_anew() {
    let Some(fixture) = fixture() else { return };
    let path = fixture.dir.path().join("input");
    std::fs::write(&path, "mine").unwrap();
    let input = OwnedFd::from(std::fs::File::open(&path).unwrap());
    let output = fixture.dir.path().join("output");
    std::fs::write(&output, "before\n").unwrap();
    let output_fd = OwnedFd::from(std::fs::OpenOptions::new().append(true).open(&output).unwrap());
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let text = found(fixture.dir.path(), false, [&input, &output_fd, &theirs.into()]);
    assert_eq!(text, "0 pipe\n1 pipe\n2 pipe\ndev-tty ENXIO\n");
    assert_eq!(std::fs::read_to_string(path).unwrap(), "mine");
    let printed = std::fs::read_to_string(output).unwrap();
    // To a file it goes as it is.
    assert!(printed.starts_with("before\n") && printed.contains("red\x1b[0m\x1b[6n\x1b]0;title\x07 text\n"), "{printed:?}");
    drop(ours);
}
