//! Starts processes and knows them, so that whatever else turns out to be a child of this process was left by the program.
//!
//! This process is a subreaper: what loses its parent, as a helper of a killed command does, becomes a child of this process.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

static KNOWN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
static SUBREAPER: Once = Once::new();

fn known() -> MutexGuard<'static, BTreeSet<u32>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child that was started here.
#[derive(Debug)]
pub(crate) struct Known(Option<Child>);

impl Known {
    pub(crate) fn id(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    /// Waits for its end, with all that it printed.
    pub(crate) fn output(mut self) -> Output {
        let child = self.0.take().unwrap();
        let id = child.id();
        let output = child.wait_with_output().unwrap();
        known().remove(&id);
        output
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // A test failed while it ran.
            drop(child.kill());
            drop(child.wait());
            known().remove(&child.id());
        }
    }
}

/// Starts `command` with its output in pipes.
pub(crate) fn spawn(command: &mut Command) -> Known {
    SUBREAPER.call_once(|| rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    start(command)
}

/// Starts `command` with its output wherever the caller wants it.
pub(crate) fn start(command: &mut Command) -> Known {
    // Nobody looks for strangers between the start and the note of it.
    let mut known = known();
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    known.insert(child.id());
    Known(Some(child))
}

/// Runs `command`, which must succeed; returns what it printed.
pub(crate) fn check(command: &mut Command) -> Vec<u8> {
    let shown = format!("{command:?}");
    let output = spawn(command.stdin(Stdio::null())).output();
    assert!(output.status.success(), "{shown}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// As [`check`], in a user namespace of the distribution's own tools, where the user is root and has all ids.
pub(crate) fn in_ids(script: &str, arguments: &[&std::path::Path]) -> Vec<u8> {
    let mut command = Command::new("unshare");
    command.args(["--map-auto", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--", "sh", "-ec", script, "sh"]);
    check(command.args(arguments))
}

/// Fails if a process is left that none of these tests started.
pub(crate) fn assert_no_strangers() {
    let since = Instant::now();
    loop {
        let strangers = strangers();
        if strangers.is_empty() {
            return;
        }
        assert!(since.elapsed() < Duration::from_mins(4), "processes are left: {strangers:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Living children that were not started here.
fn strangers() -> Vec<String> {
    let known = known();
    let me = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let (Some(open), Some(close)) = (stat.find('('), stat.rfind(')')) else { continue };
        let (name, rest) = (&stat[open + 1..close], &stat[close + 2..]);
        let mut fields = rest.split(' ');
        let (state, parent) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        // gpg's own daemons stay as long as their home.
        if parent == me && state != "Z" && !known.contains(&pid) && !["gpg-agent", "keyboxd", "scdaemon"].contains(&name) {
            found.push(format!("{pid} {name}"));
        }
    }
    found
}
