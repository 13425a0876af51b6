//! Starting, ending and signalling.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use gentoomuch::internals::sandbox::{Error, Exit, HelperSource, IdMap, IdRange, Launcher, MountCalls, SessionOptions, Stdio};

use crate::fixture::{chain, fixture, id_map, launcher, skip};

#[test]
fn the_commands_status_is_the_sessions() {
    let Some(fixture) = fixture() else { return };
    for (script, wanted) in [
        ("true", Exit::Code(0)),
        ("exit 3", Exit::Code(3)),
        ("exit 255", Exit::Code(255)),
        ("kill -9 $$", Exit::Signal(9)),
        ("kill -TERM $$", Exit::Signal(15)),
        // What stays behind ends with the command.
        ("sleep 1000 & exit 4", Exit::Code(4)),
    ] {
        assert_eq!(fixture.sh(script).exit, wanted, "{script}");
    }
}

#[test]
fn commands_that_cannot_run_say_why() {
    let Some(fixture) = fixture() else { return };
    let failure = |argv: &[&str], cwd: &str| {
        let (mut plan, place) = fixture.plan(argv);
        plan.command.cwd = PathBuf::from(cwd);
        fixture.run_plan(&plan, &place, MountCalls::Newest).unwrap_err()
    };
    let error = failure(&["no-such-command"], "/");
    assert!(matches!(error, Error::CommandNotFound { .. }));
    assert_eq!(chain(&error), "no command `no-such-command` in the session");
    assert_eq!(
        chain(&failure(&["/etc/passwd"], "/")),
        "cannot execute `/etc/passwd` in the session\ncaused by: `execve(/etc/passwd)` failed\ncaused by: Permission denied (os error 13)"
    );
    assert_eq!(
        chain(&failure(&["true"], "/nowhere")),
        "cannot enter `/nowhere` in the session\ncaused by: `open(/nowhere)` failed\ncaused by: No such file or directory (os error 2)"
    );
}

#[test]
fn a_script_without_interpreter_runs_in_the_shell() {
    let Some(fixture) = fixture() else { return };
    let (mut plan, place) = fixture.plan(&["gentoomuch-test", "word"]);
    std::fs::create_dir(place.join("lower/opt")).unwrap();
    let last = plan.steps.len() - 1;
    let step = gentoomuch::internals::sandbox::Step::File {
        path: "/opt/gentoomuch-test".into(),
        contents: "echo ran $1\n".to_owned(),
        mode: 0o755,
    };
    plan.steps.insert(last, step);
    plan.command.env[0].1.push_str(":/opt");
    assert_eq!(fixture.run_plan(&plan, &place, MountCalls::Newest).unwrap().text, "ran word\n");
}

#[test]
fn signals_reach_the_commands_group() {
    let Some(fixture) = fixture() else { return };
    let script = "trap 'echo told; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let (plan, place) = fixture.plan(&["sh", "-c", script]);
    let (mut running, mut reader) = fixture.start(&plan, &place, MountCalls::Newest).unwrap();
    let mut ready = [0u8; 6];
    reader.read_exact(&mut ready).unwrap();
    assert_eq!(running.wait_timeout(Duration::from_millis(20)).unwrap(), None);
    running.signal(15).unwrap();
    assert_eq!(running.wait().unwrap(), Exit::Code(5));
    assert_eq!(running.wait_timeout(Duration::ZERO).unwrap(), Some(Exit::Code(5)));
    running.signal(15).unwrap();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("told"), "{rest:?}");
}

#[test]
fn a_killed_session_is_gone_at_once() {
    let Some(fixture) = fixture() else { return };
    let (plan, place) = fixture.plan(&["sh", "-c", "trap '' TERM INT HUP; echo ready; sleep 1000"]);
    let (mut running, mut reader) = fixture.start(&plan, &place, MountCalls::Newest).unwrap();
    reader.read_exact(&mut [0u8; 6]).unwrap();
    let pid1 = running.pid1();
    running.kill().unwrap();
    assert_eq!(running.wait().unwrap(), Exit::Signal(9));
    assert!(!PathBuf::from(format!("/proc/{pid1}")).exists());
    assert!(!place.exists());
}

#[test]
fn a_dropped_session_is_gone_too() {
    let Some(fixture) = fixture() else { return };
    let (plan, place) = fixture.plan(&["sleep", "1000"]);
    let (running, _reader) = fixture.start(&plan, &place, MountCalls::Newest).unwrap();
    let pid1 = running.pid1();
    drop(running);
    assert!(!PathBuf::from(format!("/proc/{pid1}")).exists());
    assert!(!place.exists());
}

#[test]
fn pipes_go_straight_through() {
    let Some(fixture) = fixture() else { return };
    let (plan, place) = fixture.plan(&["sh", "-c", "wc -c; echo complaint >&2"]);
    let (stdin, mut typed) = std::io::pipe().unwrap();
    let (mut from, stdout) = std::io::pipe().unwrap();
    let (mut complaints, stderr) = std::io::pipe().unwrap();
    let ends = Stdio::Pipes { stdin: stdin.into(), stdout: OwnedFd::from(stdout), stderr: OwnedFd::from(stderr) };
    let mut options = SessionOptions::new(ends);
    options.remove_after = vec![place];
    let mut running = fixture.launcher.session(&plan, options).unwrap();
    let writer = std::thread::spawn(move || typed.write_all(&vec![b'x'; 1_000_000]).unwrap());
    let mut text = String::new();
    from.read_to_string(&mut text).unwrap();
    writer.join().unwrap();
    let mut said = String::new();
    complaints.read_to_string(&mut said).unwrap();
    assert_eq!((text.trim(), said.as_str()), ("1000000", "complaint\n"));
    assert!(running.wait().unwrap().success());
}

#[test]
fn sessions_run_side_by_side() {
    let Some(fixture) = fixture() else { return };
    let places: Vec<PathBuf> = (0..8).map(|_| fixture.place()).collect();
    let launcher = &fixture.launcher;
    std::thread::scope(|scope| {
        for (number, place) in places.into_iter().enumerate() {
            scope.spawn(move || {
                let plan = crate::fixture::plan(&place, &["sh", "-c", &format!("sleep 0.1; exit {number}")]);
                let (_reader, options) = crate::fixture::options(place, MountCalls::Newest);
                let exit = launcher.session(&plan, options).unwrap().wait().unwrap();
                assert_eq!(exit, Exit::Code(i32::try_from(number).unwrap()));
            });
        }
    });
}

#[test]
fn a_program_that_cannot_be_opened_is_named() {
    let Some(fixture) = fixture() else { return };
    let (plan, place) = fixture.plan(&["true"]);
    let missing = Launcher::new(HelperSource::Path("/nonexistent/helper".into()), fixture.launcher.id_map().clone());
    assert_eq!(
        chain(&missing.session(&plan, SessionOptions::new(Stdio::Null)).unwrap_err()),
        "cannot use the program `/nonexistent/helper` as helper\n\
         caused by: `open(/nonexistent/helper)` failed\n\
         caused by: No such file or directory (os error 2)"
    );
    std::fs::remove_dir_all(place).unwrap();
}

#[test]
fn map_tools_that_are_missing_or_refuse_are_named() {
    let Some(fixture) = fixture() else { return };
    let Ok(map) = id_map() else { return };
    let (plan, place) = fixture.plan(&["true"]);
    let without = launcher(map).search_in(vec!["/nonexistent".into()]);
    let error = without.session(&plan, SessionOptions::new(Stdio::Null)).unwrap_err();
    assert_eq!(error.to_string(), "`newuidmap` is not in /nonexistent");
    // The range of somebody else.
    let with = |own| vec![IdRange { inside: 0, outside: own, count: 1 }, IdRange { inside: 1, outside: 4_000_000, count: 10 }];
    let stolen = IdMap { uids: with(nix::unistd::getuid().as_raw()), gids: with(nix::unistd::getgid().as_raw()) };
    let error = launcher(stolen).session(&plan, SessionOptions::new(Stdio::Null)).unwrap_err();
    assert!(matches!(error, Error::MapRefused { .. }), "{error:?}");
    // A copy has neither set-id bit nor file capabilities.
    let tools = fixture.dir.path().join("tools");
    std::fs::create_dir(&tools).unwrap();
    for name in ["newuidmap", "newgidmap"] {
        match std::fs::copy(format!("/usr/bin/{name}"), tools.join(name)) {
            Ok(_) => std::fs::set_permissions(tools.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap(),
            Err(error) => return skip(&format!("{name} cannot be copied: {error}")),
        }
    }
    let Ok(map) = id_map() else { return };
    let error = launcher(map).search_in(vec![tools]).session(&plan, SessionOptions::new(Stdio::Null)).unwrap_err();
    assert!(matches!(error, Error::MapToolPowerless { .. }), "{error:?}");
    std::fs::remove_dir_all(place).unwrap();
}
