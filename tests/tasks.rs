//! Tasks inside the id map, in a program that embeds the library: its own executable is the helper.
//!
//! Runs without the test harness, whose `main` starts threads before ours could ask to be the helper.
#![expect(clippy::print_stderr, clippy::unwrap_used, reason = "a test program of its own")]

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use gentoomuch::internals::sandbox::{
    Error, HelperSource, IdMap, IdRange, Launcher, TaskContext, TaskFailure, TaskFn, TaskOptions, helper,
};
use gentoomuch::internals::sys::mount::Attributes;
use serde_json::{Value, json};

type Test = (&'static str, fn(&Launcher));

fn main() -> ExitCode {
    helper::enter_if_asked(tasks);
    let map = match id_map() {
        Ok(map) => map,
        Err(why) => {
            eprintln!("skipped: {why}");
            let strict = std::env::var_os("GENTOOMUCH_TEST_STRICT").is_some_and(|value| value == "1");
            return ExitCode::from(u8::from(strict));
        }
    };
    let launcher = Launcher::new(HelperSource::CurrentExe, map);
    // As a victim, started by a test below.
    if std::env::args().any(|word| word == "--wait-for-ever") {
        launcher.task("wait", &Value::Null, TaskOptions::default(), &mut |event| eprintln!("{event}")).unwrap();
    }
    let tests: [Test; 7] = [
        ("a task is root of the whole range", is_root),
        ("events arrive in order, from any thread", events),
        ("descriptors and locks come along", descriptors),
        ("failures keep their kind and causes", failures),
        ("a panic is an error, and names its place", panics),
        ("mounts stay private", mounts),
        ("a task ends with the program that asked for it", deaths),
    ];
    for (name, test) in tests {
        test(&launcher);
        eprintln!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

fn id_map() -> Result<IdMap, String> {
    let uid = nix::unistd::getuid();
    if uid.is_root() {
        return Err("these tests run as an ordinary user, and this is root".to_owned());
    }
    let user = nix::unistd::User::from_uid(uid).unwrap().ok_or("this user has no name")?;
    IdMap::of_host(Path::new("/"), uid.as_raw(), user.gid.as_raw(), &user.name, &[], None).map_err(|error| error.to_string())
}

fn tasks(name: &str) -> Option<TaskFn> {
    Some(match name {
        "root" => |context| {
            let path = PathBuf::from(context.input["path"].as_str().unwrap());
            std::fs::write(&path, "x").unwrap();
            std::os::unix::fs::chown(&path, Some(250), Some(65534)).unwrap();
            let ids = [nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw()];
            Ok(json!({ "ids": ids, "variables": std::env::vars().count(), "input": context.input }))
        },
        "events" => |context| {
            for number in 0..100 {
                context.events.send(&json!({ "number": number })).unwrap();
            }
            let events = context.events.clone();
            std::thread::spawn(move || events.send(&"from a thread").unwrap()).join().unwrap();
            Ok(Value::Null)
        },
        "descriptors" => |context| {
            let count = context.fds.len();
            let mut writer = std::fs::File::from(context.fds.pop().unwrap());
            writer.write_all(b"written").unwrap();
            Ok(json!(count))
        },
        "fail" => |_| {
            let error = std::fs::read("/nonexistent").unwrap_err();
            Err(TaskFailure { kind: "test".to_owned(), ..TaskFailure::of("", &Wrapped(error)) })
        },
        "panic" => |_| panic!("by design"),
        "mounts" => mount_something,
        "wait" => |context| {
            context.events.send(&std::process::id()).unwrap();
            loop {
                std::thread::sleep(Duration::from_secs(1000));
            }
        },
        _ => return None,
    })
}

#[derive(Debug, thiserror::Error)]
#[error("cannot do what was asked")]
struct Wrapped(#[source] std::io::Error);

fn mount_something(context: &mut TaskContext) -> Result<Value, TaskFailure> {
    let target = PathBuf::from(context.input.as_str().unwrap());
    let tmpfs = gentoomuch::internals::sys::mount::NewFileSystem::open("tmpfs")
        .and_then(|new| new.mount(Attributes::TEMPORARY))
        .map_err(|error| TaskFailure::of("mount", &error))?;
    let place = std::fs::File::open(&target).unwrap();
    gentoomuch::internals::sys::mount::attach(std::os::fd::AsFd::as_fd(&tmpfs), std::os::fd::AsFd::as_fd(&place), target.display())
        .unwrap();
    std::fs::write(target.join("inside"), "x").unwrap();
    Ok(json!(target.join("inside").exists()))
}

fn quiet(_: Value) {}

fn is_root(launcher: &Launcher) {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let input = json!({ "path": dir.path().join("file"), "long": "x".repeat(1 << 20) });
    let answer = launcher.task("root", &input, TaskOptions::default(), &mut quiet).unwrap();
    assert_eq!(answer, json!({ "ids": [0, 0], "variables": 0, "input": input }));
    let file = std::fs::metadata(dir.path().join("file")).unwrap();
    let outside = |ranges: &[IdRange], id| {
        ranges.iter().find(|r| (r.inside..r.inside + r.count).contains(&id)).map(|r| id - r.inside + r.outside)
    };
    let map = launcher.id_map();
    assert_eq!((Some(file.uid()), Some(file.gid())), (outside(&map.uids, 250), outside(&map.gids, 65534)));
}

fn events(launcher: &Launcher) {
    let mut seen = Vec::new();
    launcher.task("events", &Value::Null, TaskOptions::default(), &mut |event| seen.push(event)).unwrap();
    let numbers: Vec<u64> = seen.iter().filter_map(|event| event["number"].as_u64()).collect();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    assert_eq!(seen.last(), Some(&json!("from a thread")));
}

fn descriptors(launcher: &Launcher) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let lock = tempfile::tempfile().unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let options =
        TaskOptions { fds: vec![null.into(), OwnedFd::from(writer)], hold: vec![lock.into()], mounts: false, cancel: None };
    assert_eq!(launcher.task("descriptors", &Value::Null, options, &mut quiet).unwrap(), json!(2));
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "written");
}

fn failures(launcher: &Launcher) {
    let error = launcher.task("fail", &Value::Null, TaskOptions::default(), &mut quiet).unwrap_err();
    let causes: Vec<String> =
        std::iter::successors(std::error::Error::source(&error), |error| error.source()).map(ToString::to_string).collect();
    assert_eq!(causes, ["cannot do what was asked", "No such file or directory (os error 2)"]);
    let Error::Task { name, failure, .. } = error else { panic!("{error:?}") };
    assert_eq!((name.as_str(), failure.kind.as_str()), ("fail", "test"));
    assert_eq!(failure.causes, ["cannot do what was asked", "No such file or directory (os error 2)"]);
    let error = launcher.task("unknown", &Value::Null, TaskOptions::default(), &mut quiet).unwrap_err();
    assert_eq!(error.to_string(), "a helper process sent no word of a task `unknown`");
}

fn panics(launcher: &Launcher) {
    let error = launcher.task("panic", &Value::Null, TaskOptions::default(), &mut quiet).unwrap_err();
    assert!(matches!(error, Error::Panic { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("by design") && text.contains("tests/tasks.rs"), "{text}");
}

fn mounts(launcher: &Launcher) {
    let dir = tempfile::tempdir().unwrap();
    let options = TaskOptions { mounts: true, ..TaskOptions::default() };
    assert_eq!(launcher.task("mounts", &dir.path(), options, &mut quiet).unwrap(), json!(true));
    assert!(!dir.path().join("inside").exists());
}

fn deaths(_: &Launcher) {
    let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
        .arg("--wait-for-ever")
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(victim.stderr.take().unwrap()), &mut line).unwrap();
    let task = PathBuf::from(format!("/proc/{}", line.trim()));
    assert!(task.exists(), "{line:?}");
    victim.kill().unwrap();
    victim.wait().unwrap();
    let begin = Instant::now();
    while task.exists() {
        assert!(begin.elapsed() < Duration::from_mins(4), "the task outlives the program");
        std::thread::sleep(Duration::from_millis(5));
    }
}
