//! The progress of a run from `FEATURES=observability` (Portage 3.0.83, `_emerge/_observability.py`).
//!
//! ```text
//! /run/portage/emerge-<pid>.json     one JSON object, rewritten by rename about every second, removed when emerge ends
//! /run/portage/emerge-<pid>.sock     the same objects as a stream (not used: a file cannot block us)
//!
//! {"type": "snapshot", "schema": 1, "emerge_pid": 7, "timestamp": 1.7e9,
//!  "jobs": {"running": 1, "max": 2, "completed": 3, "total": 12, "failed": 0, "merge_wait": 0, "merges_pending": 0},
//!  "tasks": [{"cpv": "a/b-1", "kind": "build"|"merge", "phase": "compile"|null, "elapsed": 12.5|null, …}]}
//! ```
//!
//! The directory is bind-mounted from the host, and the session writes its files, so they are hostile. Objects of an unknown `type` are
//! ignored, as Portage's documentation asks.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use serde::Deserialize;

use crate::portage::untrusted;
use crate::progress::{EmergeStatus, EmergeTask};
use crate::terminal_text::sanitize_line;

const MAX_FILE_BYTES: u64 = 1 << 20;
const MAX_ENTRIES: usize = 64;
const MAX_TASKS: usize = 256;

/// Reads the status that runs in one session publish.
#[derive(Debug)]
pub(crate) struct Status {
    dir: OwnedFd,
    path: PathBuf,
}

impl Status {
    /// `dir` is the host's side of the bind mount at `/run/portage`. It must be new for each session: a killed emerge leaves its file
    /// behind.
    pub(crate) fn open(dir: &Path) -> untrusted::Result<Self> {
        Ok(Self { dir: untrusted::open_root(dir)?, path: dir.to_owned() })
    }

    /// The newest status; [`None`] while no emerge has published one, or if Portage is too old.
    ///
    /// Of several runs the one that published last counts. Unreadable files are skipped: the output is the fallback, and a run never
    /// fails because of its display.
    /// output, and a run is never failed over its display.
    pub(crate) fn poll(&self) -> Option<EmergeStatus> {
        let entries = untrusted::entries(self.dir.as_fd(), &self.path, MAX_ENTRIES)
            .inspect_err(|error| tracing::debug!(%error, "no live status"))
            .ok()?;
        let snapshots =
            entries.iter().filter(|(name, kind)| *kind == FileType::RegularFile && is_status_file(name)).filter_map(|(name, _)| {
                let contents = untrusted::read_in(self.dir.as_fd(), Path::new(name), MAX_FILE_BYTES)
                    .inspect_err(|error| tracing::debug!(%error, "live status"))
                    .ok()?;
                read_snapshot(&contents)
            });
        snapshots.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, status)| status)
    }
}

fn is_status_file(name: &str) -> bool {
    name.strip_prefix("emerge-")
        .and_then(|n| n.strip_suffix(".json"))
        .is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()))
}

#[derive(Deserialize)]
struct Snapshot {
    #[serde(default)]
    timestamp: f64,
    #[serde(default)]
    jobs: Jobs,
    #[serde(default)]
    tasks: Vec<Task>,
}

#[derive(Deserialize, Default)]
struct Jobs {
    #[serde(default)]
    completed: u32,
    #[serde(default)]
    total: u32,
}

#[derive(Deserialize)]
struct Task {
    cpv: String,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    phase: Option<String>,
    #[serde(default)]
    elapsed: Option<f64>,
}

/// The snapshot's time (seconds since the epoch, from the session) and status.
fn read_snapshot(contents: &[u8]) -> Option<(f64, EmergeStatus)> {
    let object: serde_json::Value = serde_json::from_slice(contents).ok()?;
    if object.get("type")?.as_str()? != "snapshot" {
        return None;
    }
    let snapshot: Snapshot =
        serde_json::from_value(object).inspect_err(|error| tracing::debug!(%error, "live status of another shape")).ok()?;
    let running = snapshot.tasks.into_iter().take(MAX_TASKS).map(|task| EmergeTask {
        cpv: sanitize_line(task.cpv.as_bytes(), 200),
        phase: sanitize_line(task.phase.or(task.kind).unwrap_or_default().as_bytes(), 40),
        elapsed_secs: whole_seconds(task.elapsed.unwrap_or(0.0)),
        expected: None,
    });
    let status = EmergeStatus {
        done: snapshot.jobs.completed as usize,
        total: snapshot.jobs.total as usize,
        running: running.collect(),
        ..EmergeStatus::default()
    };
    Some((snapshot.timestamp, status))
}

/// Negative if the clock was set back.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits before the cast")]
fn whole_seconds(seconds: f64) -> u64 {
    if seconds.is_finite() { seconds.clamp(0.0, 1e9) as u64 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(timestamp: f64, total: u32, tasks: &str) -> String {
        format!(
            r#"{{"emerge_pid": 7, "jobs": {{"completed": 1, "failed": 0, "max": 2, "merge_wait": 0, "merges_pending": 0, "running": 1, "total": {total}}},
                "schema": 1, "tasks": [{tasks}], "timestamp": {timestamp}, "type": "snapshot"}}"#
        )
    }

    fn status_with(files: &[(&str, &str)]) -> (tempfile::TempDir, Status) {
        let dir = tempfile::tempdir().expect("tempdir");
        for (name, contents) in files {
            std::fs::write(dir.path().join(name), contents).expect("write");
        }
        let status = Status::open(dir.path()).expect("open");
        (dir, status)
    }

    #[test]
    fn reads_the_newest_snapshot() {
        let task = r#"{"binary": false, "build_elapsed": 12.6, "category": "app-misc", "cpv": "app-misc/hello-2.10", "elapsed": 12.6, "kind": "build",
            "merge_wait": false, "operation": "merge", "pf": "hello-2.10", "phase": "compile", "pid": 99, "root": "/", "start_time": 1.7e9}"#;
        let waiting = r#"{"cpv": "a/b-1", "kind": "merge", "phase": null, "elapsed": null}"#;
        let (_dir, status) = status_with(&[
            ("emerge-12.json", &snapshot(5.0, 12, &format!("{task}, {waiting}"))),
            ("emerge-9.json", &snapshot(4.0, 99, "")),
            ("emerge-12.json._update_.77", "half wri"),
        ]);
        let got = status.poll().expect("a snapshot");
        assert_eq!((got.done, got.total), (1, 12));
        let task = |cpv: &str, phase: &str, elapsed_secs| EmergeTask {
            cpv: cpv.to_owned(),
            phase: phase.to_owned(),
            elapsed_secs,
            expected: None,
        };
        assert_eq!(got.running, [task("app-misc/hello-2.10", "compile", 12), task("a/b-1", "merge", 0)]);
    }

    #[test]
    fn reads_a_real_snapshot() {
        let (_dir, status) = status_with(&[("emerge-1.json", include_str!("transcripts/snapshot.json"))]);
        let got = status.poll().expect("a snapshot");
        let running: Vec<String> = got.running.iter().map(|t| format!("{} {} {}", t.cpv, t.phase, t.elapsed_secs)).collect();
        assert_eq!((got.done, got.total), (0, 2));
        assert_eq!(running, ["app-misc/slow-1.0 configure 5", "app-text/tree-2.1.0 unpack 2"]);
    }

    #[test]
    fn what_is_not_a_snapshot_is_ignored() {
        let other = snapshot(5.0, 1, "").replace("\"snapshot\"", "\"something new\"");
        let (dir, status) = status_with(&[
            ("emerge-1.json", &other),
            ("emerge-x.json", &snapshot(1.0, 1, "")),
            ("emerge-2.json", "{"),
            ("emerge-3.json", "[]"),
        ]);
        assert_eq!(status.poll(), None);
        std::os::unix::fs::symlink(dir.path().join("emerge-x.json"), dir.path().join("emerge-4.json")).expect("symlink");
        std::fs::write(dir.path().join("emerge-5.json"), snapshot(1.0, 1, "") + &" ".repeat(1 << 20)).expect("write");
        assert_eq!(status.poll(), None);
    }

    #[test]
    fn hostile_values_are_tamed() {
        let task = r#"{"cpv": "a/\u001b[31mb-1", "phase": "x\ny", "elapsed": -1e300}"#;
        let many = vec![task; 1000].join(",");
        let (_dir, status) = status_with(&[("emerge-1.json", &snapshot(1.0, 1, &many))]);
        let got = status.poll().expect("a snapshot");
        assert_eq!(got.running.len(), MAX_TASKS);
        assert_eq!((got.running[0].cpv.as_str(), got.running[0].phase.as_str(), got.running[0].elapsed_secs), ("a/b-1", "x y", 0));
    }
}
