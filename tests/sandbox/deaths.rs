//! SIGKILL for each of our processes: the kernel must leave nothing of the session.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use gentoomuch::internals::sandbox::{Error, MountCalls};

use crate::fixture::{fixture, id_map, launcher, options, place_in, plan};

/// A process like the command line program, with a session, its lock, and what names its processes.
struct Victim {
    child: Child,
    pid1: i32,
    outer: i32,
    place: PathBuf,
    lock: PathBuf,
    marker: String,
}

/// What the other process does: it is this test program, started with this test alone.
#[test]
#[ignore = "run by the tests of this file, in a process of its own"]
fn as_the_command_line_program() {
    let Some(dir) = std::env::var_os("GENTOOMUCH_VICTIM").map(PathBuf::from) else { return };
    let place = place_in(&dir, "run");
    let lock = std::fs::File::create(dir.join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let marker = std::fs::read_to_string(dir.join("marker")).unwrap();
    let plan = plan(&place, &["sh", "-c", &format!("sleep {marker} & unshare --pid --fork --mount-proc sleep {marker}")]);
    let (_reader, mut options) = options(place, MountCalls::Newest);
    options.hold = vec![lock.try_clone().unwrap().into()];
    let mut running = launcher(id_map().unwrap()).session(&plan, options).unwrap();
    drop(lock);
    std::fs::write(dir.join("pids.new"), running.pid1().to_string()).unwrap();
    std::fs::rename(dir.join("pids.new"), dir.join("pids")).unwrap();
    running.wait().unwrap();
}

/// For what fails only: nothing that is waited for takes so long on the slowest machine.
const PATIENCE: Duration = Duration::from_mins(4);

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "{what} after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn victim(dir: &Path, number: u32) -> Victim {
    let dir = dir.join(format!("victim-{number}"));
    std::fs::create_dir(&dir).unwrap();
    let marker = format!("{}.{}{number}", 7_000_000, std::process::id());
    std::fs::write(dir.join("marker"), &marker).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "deaths::as_the_command_line_program", "--ignored", "--nocapture"])
        .env("GENTOOMUCH_VICTIM", &dir)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until("no session", || dir.join("pids").exists());
    let pid1: i32 = std::fs::read_to_string(dir.join("pids")).unwrap().parse().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid1}/status")).unwrap();
    let outer = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
    // Both of the session's sleepers: one with a PID namespace of its own.
    until("no sleepers", || count(&marker) >= 2);
    let lock = dir.join("lock");
    assert!(!is_free(&lock), "the lock is held while the session lives");
    Victim { child, pid1, outer, place: dir.join("run"), lock, marker }
}

/// Processes with the marker among their arguments.
fn count(marker: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter(|entry| std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| is_sleeper(&line, marker))).count()
}

fn is_sleeper(line: &[u8], marker: &str) -> bool {
    line.starts_with(b"sleep\0") && line.windows(marker.len()).any(|part| part == marker.as_bytes())
}

fn mounted(place: &Path) -> bool {
    let name = place.to_str().unwrap();
    let tables = std::fs::read_dir("/proc").unwrap().flatten();
    tables.flat_map(|entry| std::fs::read_to_string(entry.path().join("mountinfo"))).any(|table| table.contains(name))
}

fn is_free(lock: &Path) -> bool {
    let file = std::fs::File::open(lock).unwrap();
    rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
}

fn exists(pid: i32) -> bool {
    // A zombie whose parent has not looked yet does not count.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

fn nothing_is_left(victim: &Victim, who: &str) {
    until(&format!("a process of the session lives on after the death of {who}"), || count(&victim.marker) == 0);
    until(&format!("PID 1 outlives {who}"), || !exists(victim.pid1));
    until(&format!("the outer helper outlives {who}"), || !exists(victim.outer));
    until(&format!("a mount outlives {who}"), || !mounted(&victim.place));
    until(&format!("the lock is held after the death of {who}"), || is_free(&victim.lock));
}

#[test]
fn killing_the_program_leaves_nothing() {
    let Some(fixture) = fixture() else { return };
    for number in 0..3 {
        let mut victim = victim(fixture.dir.path(), number);
        // What `ps` and `top` show, cut by the kernel.
        let names = [victim.outer, victim.pid1].map(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap());
        assert_eq!(names, ["gentoomuch-help\n", "gentoomuch-init\n"]);
        victim.child.kill().unwrap();
        victim.child.wait().unwrap();
        nothing_is_left(&victim, "the program");
        assert!(!victim.place.exists(), "what had to be removed is removed all the same");
    }
}

#[test]
fn killing_the_outer_helper_leaves_nothing() {
    let Some(fixture) = fixture() else { return };
    for number in 0..3 {
        let mut victim = victim(fixture.dir.path(), number);
        kill(victim.outer);
        let status = victim.child.wait().unwrap();
        assert!(status.signal().is_none() && !status.success(), "the program is told: {status}");
        nothing_is_left(&victim, "the outer helper");
        fixture.remove(&victim.place);
    }
}

#[test]
fn killing_pid_1_leaves_nothing() {
    let Some(fixture) = fixture() else { return };
    for number in 0..3 {
        let mut victim = victim(fixture.dir.path(), number);
        kill(victim.pid1);
        let status = victim.child.wait().unwrap();
        assert!(!status.success(), "the program is told: {status}");
        nothing_is_left(&victim, "PID 1");
        assert!(!victim.place.exists());
    }
}

#[test]
fn a_dead_helper_is_an_error_of_its_own() {
    let Some(fixture) = fixture() else { return };
    let (plan, place) = fixture.plan(&["sleep", "1000"]);
    let (mut running, _reader) = fixture.start(&plan, &place, MountCalls::Newest).unwrap();
    kill(running.pid1());
    let error = running.wait().unwrap_err();
    assert!(matches!(error, Error::Died { .. }), "{error:?}");
    assert_eq!(error.to_string(), "the session's PID 1 died unexpectedly");
}

/// Kills one process after another while they start, and waits each time until all are gone. A process of its own, and made the
/// one that inherits orphans: when it has no child left, nothing is left.
#[test]
#[ignore = "run by the test below, in a process of its own"]
#[expect(clippy::zombie_processes, reason = "children and grandchildren are all reaped by `waitpid`")]
fn as_the_nanny() {
    let Some(dir) = std::env::var_os("GENTOOMUCH_NANNY").map(PathBuf::from) else { return };
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let mut killed: BTreeMap<String, u32> = BTreeMap::new();
    // Not random, so that a failure can be seen again; the machine's own unrest spreads the moments further.
    // On a busy machine most rounds meet a process that has not come far; then there are more rounds.
    let enough = |killed: &BTreeMap<String, u32>| OURS.iter().all(|name| killed.get(*name).is_some_and(|count| *count >= 2));
    for round in 0..400u64 {
        if round >= 60 && enough(&killed) {
            break;
        }
        let dir = dir.join(format!("round-{round}"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("marker"), "0.2").unwrap();
        let victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "deaths::as_the_command_line_program", "--ignored"])
            .env("GENTOOMUCH_VICTIM", &dir)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // The more rounds it takes, the later the kill: on a busy machine nothing else has begun at first.
        std::thread::sleep(Duration::from_millis(round * 37 % (150 + 10 * round.saturating_sub(60))));
        let mut targets = vec![i32::try_from(victim.id()).unwrap()];
        let mut at = 0;
        while let Some(parent) = targets.get(at) {
            targets.extend(children(*parent));
            at += 1;
        }
        let target = targets[usize::try_from(round).unwrap() % targets.len()];
        let line = std::fs::read(format!("/proc/{target}/cmdline")).unwrap_or_default();
        let name = String::from_utf8_lossy(line.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
        *killed.entry(name.rsplit('/').next().unwrap_or_default().to_owned()).or_default() += 1;
        // A set-id map tool is not ours to kill.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(target), nix::sys::signal::Signal::SIGKILL);
        let begin = Instant::now();
        while !matches!(nix::sys::wait::waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG)), Err(nix::errno::Errno::ECHILD)) {
            assert!(begin.elapsed() < PATIENCE, "round {round}: {:?} outlive {target} of {targets:?}", children(own_pid()));
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(!dir.join("lock").exists() || is_free(&dir.join("lock")), "round {round}");
        until("a mount", || !mounted(&dir));
    }
    eprintln!("killed: {killed:?}");
    assert!(enough(&killed), "too few of one kind were killed: {killed:?}");
}

/// Processes of a session that must each have been killed.
const OURS: [&str; 2] = ["gentoomuch-helper", "gentoomuch-init"];

fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

fn children(parent: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()).collect()
}

#[test]
fn killing_any_process_at_any_moment_leaves_nothing() {
    let Some(fixture) = fixture() else { return };
    let dir = fixture.dir.path().join("nanny");
    std::fs::create_dir(&dir).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "deaths::as_the_nanny", "--ignored", "--nocapture"])
        .env("GENTOOMUCH_NANNY", &dir)
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    fixture.remove(&dir);
    assert!(status.success(), "{status}");
}
