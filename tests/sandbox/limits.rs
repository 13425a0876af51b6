//! A session that uses more than it may is ended, with all its processes, and told what was too much.

use std::io::Read as _;
use std::process::Command;

use gentoomuch::internals::limits::{Exceeded, Limits};
use gentoomuch::internals::sandbox::{Error, Exit, MountCalls};

use crate::fixture::{Fixture, Output, fixture, options, skip};

const MIB: u64 = 1 << 20;

fn run(fixture: &Fixture, limits: Limits, used_ms: u64, argv: &[&str]) -> Result<Output, Error> {
    let (plan, place) = fixture.plan(argv);
    let (mut reader, mut options) = options(place.clone(), MountCalls::Newest);
    options.limits = limits;
    options.used_ms = used_ms;
    let mut running = fixture.launcher.session(&plan, options)?;
    let mut text = String::new();
    // The end of the pipe is the end of every process that had it.
    reader.read_to_string(&mut text).unwrap();
    let exit = running.wait();
    assert!(!place.exists(), "{} was to be removed", place.display());
    Ok(Output { exit: exit?, text })
}

fn exceeded(result: Result<Output, Error>) -> Exceeded {
    match result {
        Err(Error::Exceeded(exceeded)) => exceeded,
        other => panic!("{other:?}"),
    }
}

fn has_python() -> bool {
    let has = Command::new("python3").arg("--version").output().is_ok();
    if !has {
        skip("no python3");
    }
    has
}

#[test]
fn a_fork_bomb_ends_its_session_whoever_throws_it() {
    let Some(fixture) = fixture() else { return };
    let limits = Limits { pids: Some(200), ..Limits::default() };
    let bomb = "f() { f | f & }; f; sleep 1000";
    let processes = "python3 -c 'import os\nwhile True:\n try: os.fork()\n except OSError: pass'";
    let threads =
        "python3 -c 'import threading, time\nfor n in range(1000): threading.Thread(target=time.sleep, args=(1000,)).start()'";
    let other_user = "exec setpriv --reuid 250 --clear-groups sh -c 'f() { f | f & }; f; sleep 1000'";
    let own_namespace = "exec unshare --pid --fork sh -c 'f() { f | f & }; f; sleep 1000'";
    for script in [bomb, processes, threads, other_user, own_namespace] {
        if script.starts_with("python3") && !has_python() {
            continue;
        }
        let found = exceeded(run(&fixture, limits, 0, &["sh", "-c", script]));
        assert_eq!(found, Exceeded::Pids { limit: 200 }, "{script}");
    }
}

/// What one process may have is no limit for many, and not more than the kernel lets them have in between two looks.
#[test]
fn the_kernel_stops_a_bomb_before_we_have_looked() {
    let Some(fixture) = fixture() else { return };
    let limits = Limits { pids: Some(100), ..Limits::default() };
    let script = "n=0; while [ $n -lt 20000 ]; do sleep 1000 & n=$((n+1)); done 2>/dev/null; echo all";
    let (plan, place) = fixture.plan(&["sh", "-c", script]);
    let (mut reader, mut options) = options(place, MountCalls::Newest);
    options.limits = limits;
    let mut running = fixture.launcher.session(&plan, options).unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert!(running.wait().is_err());
    assert!(!text.contains("all"), "20000 processes were started");
}

/// System V segments that nobody has attached.
const SEGMENTS: &str = "import ctypes, time
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
libc.shmdt.argtypes = [ctypes.c_void_p]
for n in range(25):
    at = libc.shmat(libc.shmget(0, ctypes.c_size_t(16 << 20), 0o1600), None, 0)
    ctypes.memset(ctypes.c_void_p(at), 1, 16 << 20)
    libc.shmdt(at)
time.sleep(1000)
print('not seen')";

#[test]
fn a_memory_hog_ends_its_session_wherever_it_puts_it() {
    let Some(fixture) = fixture() else { return };
    if !has_python() {
        return;
    }
    let limits = Limits { memory_bytes: Some(200 * MIB), ..Limits::default() };
    let scripts = [
        "python3 -c 'import time; x = bytearray(400 << 20); time.sleep(1000)'",
        "head -c 400M /dev/zero >/tmp/hog; sleep 1000",
        "head -c 400M /dev/zero >/dev/shm/hog; sleep 1000",
        "head -c 400M /dev/zero >/run/hog; sleep 1000",
        "python3 -c \"$SEGMENTS\"",
        "unshare --ipc python3 -c \"$SEGMENTS\"",
        "python3 -c 'import mmap, time; m = mmap.mmap(-1, 400 << 20); [m.write(bytes(1 << 20)) for n in range(400)]; time.sleep(1000)'",
        "python3 -c 'import os, time; f = os.memfd_create(\"x\"); [os.write(f, bytes(1 << 20)) for n in range(400)]; time.sleep(1000)'",
        "for n in 1 2 3 4; do python3 -c 'import time; x = bytearray(100 << 20); time.sleep(1000)' & done; wait",
    ];
    for script in scripts {
        let script = &script.replace("$SEGMENTS", SEGMENTS);
        let found = exceeded(run(&fixture, limits, 0, &["sh", "-c", script]));
        assert_eq!(found, Exceeded::Memory { limit_bytes: 200 * MIB }, "{script}");
    }
}

/// Tables of the kernel that all sessions and the user himself share.
#[test]
fn a_session_leaves_the_user_some_of_what_is_counted_for_both() {
    let Some(fixture) = fixture() else { return };
    if !has_python() {
        return;
    }
    let host: u64 = std::fs::read_to_string("/proc/sys/user/max_inotify_instances").unwrap().trim().parse().unwrap();
    let hog = "import ctypes, os, resource, signal
libc = ctypes.CDLL(None)
for uid in (0, 250, 1000):
  pid = os.fork()
  if pid == 0:
    os.setuid(uid)
    n = 0
    while libc.inotify_init1(0) >= 0: n += 1
    print(n, flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
  os.waitpid(pid, os.WUNTRACED)
print('files', resource.getrlimit(resource.RLIMIT_NOFILE)[1])";
    let output = run(&fixture, Limits::default(), 0, &["python3", "-c", hog]).unwrap();
    let instances: u64 = output.text.lines().filter_map(|line| line.parse::<u64>().ok()).sum();
    // As whatever user it is.
    assert!(instances > 0 && instances <= host / 2, "{output:?} of {host}");
    let files: u64 = output.text.lines().find_map(|line| line.strip_prefix("files ")).unwrap().parse().unwrap();
    assert!((1024..=16384).contains(&files), "{output:?}");
}

/// Pages that many processes share, and files that the kernel can drop, are nobody's hog.
#[test]
fn what_is_shared_counts_once_and_what_can_be_dropped_not_at_all() {
    let Some(fixture) = fixture() else { return };
    if !has_python() {
        return;
    }
    let limits = Limits { memory_bytes: Some(300 * MIB), ..Limits::default() };
    let shared = "import os, time\nx = bytearray(60 << 20)\npids = [os.fork() or time.sleep(2) or os._exit(0) for n in range(10)]\n[os.wait() for pid in pids]\nprint('done')";
    let output = run(&fixture, limits, 0, &["python3", "-c", shared]).unwrap();
    assert_eq!((output.exit, output.text.as_str()), (Exit::Code(0), "done\n"));
    let file = "import mmap, time\nf = open('/file', 'w+b')\nf.truncate(500 << 20)\n[f.write(bytes(1 << 20)) for n in range(500)]\nm = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)\nsum(m[::4096])\ntime.sleep(1)\nprint('done')";
    let output = run(&fixture, limits, 0, &["python3", "-c", file]).unwrap();
    assert_eq!((output.exit, output.text.as_str()), (Exit::Code(0), "done\n"));
}

/// What lies in memory, and is for a few links only.
#[test]
fn what_is_not_counted_is_small() {
    let Some(fixture) = fixture() else { return };
    let script = "head -c 64M /dev/zero >/dev/hog; stat -c %s /dev/hog; rm /dev/hog; for n in $(seq 5000); do (: >/dev/$n) 2>/dev/null || break; done; ls /dev | wc -l";
    let output = fixture.sh(script);
    let numbers: Vec<u64> = output.text.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(numbers.len() == 2 && numbers[0] <= 4 * MIB && numbers[1] <= 1100, "{output:?}");
}

/// A look has to be short, or a limit would be passed by whoever makes it long.
#[test]
fn what_takes_too_long_to_look_at_ends_its_session() {
    let Some(fixture) = fixture() else { return };
    if !has_python() {
        return;
    }
    let script = "import os, resource, time
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
file = os.memfd_create('x')
for n in range(min(hard, 20000) - 40): os.dup(file)
for n in range(400):
    if os.fork() == 0:
        time.sleep(1000)
        os._exit(0)
time.sleep(20)
print('the end')";
    let limits = Limits { memory_bytes: Some(1 << 40), ..Limits::default() };
    let error = run(&fixture, limits, 0, &["python3", "-c", script]).unwrap_err();
    assert_eq!(error.to_string(), "the session has too many processes and open files to measure its memory in time");
    // Its time is over while a look goes on.
    let limits = Limits { timeout_ms: Some(8000), ..limits };
    let error = run(&fixture, limits, 0, &["python3", "-c", script]).unwrap_err();
    assert!(matches!(error, Error::Exceeded(_)), "{error}");
}

#[test]
fn time_is_over_for_the_whole_session() {
    let Some(fixture) = fixture() else { return };
    let limits = Limits { timeout_ms: Some(500), ..Limits::default() };
    let script = "trap '' TERM INT HUP; sleep 1000 & setsid sleep 1000 & sleep 1000";
    assert_eq!(exceeded(run(&fixture, limits, 0, &["sh", "-c", script])), Exceeded::Time { limit_ms: 500 });
    // Runs of one session have one time together.
    let limits = Limits { timeout_ms: Some(3_600_000), ..Limits::default() };
    let error = run(&fixture, limits, 3_600_000, &["sleep", "1000"]).unwrap_err();
    assert_eq!(error.to_string(), "the session ran for more than 1 h, its limit");
}

#[test]
fn within_its_limits_a_session_works() {
    let Some(fixture) = fixture() else { return };
    let limits = Limits { memory_bytes: Some(1 << 30), pids: Some(500), cpus: Some(1), timeout_ms: Some(600_000) };
    let script = "n=0; while [ $n -lt 100 ]; do sleep 1 & n=$((n+1)); done; wait; nproc; cat /proc/self/oom_score_adj; exit 3";
    let output = run(&fixture, limits, 0, &["sh", "-c", script]).unwrap();
    assert_eq!((output.exit, output.text.as_str()), (Exit::Code(3), "1\n1000\n"));
    let none = run(&fixture, Limits::default(), 0, &["sh", "-c", "exit 4"]).unwrap();
    assert_eq!(none.exit, Exit::Code(4));
}
