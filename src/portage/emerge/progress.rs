//! The progress of a run, from emerge's output and log: the fallback for a Portage without `FEATURES=observability`.
//!
//! ```text
//! >>> Emerging (2 of 3) dev-libs/libx-1.0::repo            MergeListItem.py     (also "Emerging binary", "Fetching")
//! >>> Installing (2 of 3) dev-libs/libx-1.0::repo          PackageMerge.py
//! >>> Completed (2 of 3) dev-libs/libx-1.0::repo
//! >>> Failed to emerge dev-libs/libx-1.0, Log file:        Scheduler.py
//! >>> Jobs: 1 of 3 complete, 1 running   Load avg: …       JobStatusDisplay.py
//! 1700000000:  >>> emerge (2 of 3) dev-libs/libx-1.0 to /           emerge.log
//! 1700000000:  === (2 of 3) Compiling/Merging (dev-libs/libx-1.0::/…/libx-1.0.ebuild)
//! 1700000000:  ::: completed emerge (2 of 3) dev-libs/libx-1.0 to /
//! ```

use std::time::Instant;

use crate::progress::{EmergeStatus, EmergeTask};
use crate::terminal_text::sanitize_line;

/// A hostile output may claim more packages; no run works on so many at once.
const MAX_RUNNING: usize = 256;
/// A `category/name-version` is far shorter.
const MAX_CPV_CHARS: usize = 200;

/// What a line of output or of `emerge.log` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// A package reached a stage: `fetch`, `build`, `unpack` (a binary package), `merge`.
    Started {
        /// Its position in the merge list, from 1.
        position: usize,
        /// Length of the merge list.
        total: usize,
        /// `category/name-version`.
        cpv: String,
        phase: &'static str,
    },
    /// A package is installed.
    Completed {
        /// Its position in the merge list, from 1.
        position: usize,
        /// Length of the merge list.
        total: usize,
        /// `category/name-version`.
        cpv: String,
    },
    /// A package failed.
    Failed {
        /// `category/name-version`.
        cpv: String,
    },
    /// emerge's own count.
    Jobs {
        /// Packages finished.
        done: usize,
        /// Packages in this run.
        total: usize,
    },
}

/// Parses a line of output or of `emerge.log`, with or without colours; [`None`] if it tells no progress.
pub(crate) fn read_line(line: &str) -> Option<Told> {
    let plain = sanitize_line(line.as_bytes(), 600);
    let line = plain.trim();
    // emerge.log: seconds since the epoch, then the message.
    let (from_log, line) = match line.split_once(": ") {
        Some((stamp, rest)) if !stamp.is_empty() && stamp.bytes().all(|b| b.is_ascii_digit()) => (true, rest.trim()),
        _ => (false, line),
    };
    if from_log {
        return read_log_message(line);
    }
    let rest = line.strip_prefix(">>> ")?;
    if let Some(jobs) = rest.strip_prefix("Jobs: ") {
        let (done, rest) = jobs.split_once(" of ")?;
        let (total, _) = rest.split_once(" complete")?;
        return Some(Told::Jobs { done: done.parse().ok()?, total: total.parse().ok()? });
    }
    if let Some(failed) = rest.strip_prefix("Failed to ") {
        let (_, rest) = failed.split_once(' ')?;
        return Some(Told::Failed { cpv: cpv_of(rest)? });
    }
    let (verb, rest) = rest.split_once(" (")?;
    let (position, total, rest) = counted(rest)?;
    let cpv = cpv_of(rest)?;
    let phase = match verb {
        "Emerging" => "build",
        "Emerging binary" => "unpack",
        "Fetching" => "fetch",
        "Installing" => "merge",
        "Completed" => return Some(Told::Completed { position, total, cpv }),
        _ => return None,
    };
    Some(Told::Started { position, total, cpv, phase })
}

fn read_log_message(message: &str) -> Option<Told> {
    if let Some(rest) = message.strip_prefix(">>> emerge (") {
        let (position, total, rest) = counted(rest)?;
        return Some(Told::Started { position, total, cpv: cpv_of(rest)?, phase: "build" });
    }
    if let Some(rest) = message.strip_prefix("::: completed emerge (") {
        let (position, total, rest) = counted(rest)?;
        return Some(Told::Completed { position, total, cpv: cpv_of(rest)? });
    }
    let (position, total, rest) = counted(message.strip_prefix("=== (")?)?;
    let (what, rest) = rest.split_once(" (")?;
    let phase = match what {
        "Cleaning" | "Post-Build Cleaning" => "clean",
        "Compiling/Merging" | "Compiling/Packaging" => "build",
        "Merging" | "Merging Binary" => "merge",
        _ => return None,
    };
    Some(Told::Started { position, total, cpv: cpv_of(rest.trim_end_matches(')'))?, phase })
}

/// `2 of 3) rest`
fn counted(text: &str) -> Option<(usize, usize, &str)> {
    let (count, rest) = text.split_once(") ")?;
    let (position, total) = count.split_once(" of ")?;
    Some((position.parse().ok()?, total.parse().ok()?, rest))
}

/// `category/name-version`, in front of `::repo`, ` to /`, `, Log file:` or the end.
fn cpv_of(text: &str) -> Option<String> {
    let word = text.split([' ', ',']).next()?;
    let cpv = word.split("::").next()?;
    let valid = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "+_.-".contains(c));
    let (category, package) = cpv.split_once('/')?;
    (valid(category) && valid(package) && cpv.len() <= MAX_CPV_CHARS).then(|| cpv.to_owned())
}

/// A hostile output may claim more.
const MAX_FINISHED: usize = 20_000;

/// A package that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finished {
    /// `category/name-version`.
    pub(crate) cpv: String,
    /// Whether it came from a binary package.
    pub(crate) binary: bool,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
}

/// Follows a run line by line.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    done: usize,
    total: usize,
    running: Vec<Begun>,
    finished: Vec<Finished>,
}

/// A package that emerge works on.
#[derive(Debug)]
struct Begun {
    task: EmergeTask,
    since: Instant,
    binary: bool,
    /// Whether its sources alone are fetched: nothing is built then.
    fetched: bool,
}

impl Progress {
    /// Nothing known yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Takes a line; `true` if the status changed.
    #[cfg(test)]
    fn line(&mut self, line: &str, now: Instant) -> bool {
        read_line(line).is_some_and(|told| self.take(told, now))
    }

    /// Takes what a line has told; `true` if the status changed. `now` starts the clock of a package.
    pub(crate) fn take(&mut self, told: Told, now: Instant) -> bool {
        match told {
            Told::Started { position, total, cpv, phase } => {
                self.total = total;
                if phase == "clean" {
                    return false;
                }
                if phase == "fetch" {
                    // A fetch run does not announce the end of a package: the start of the next one does.
                    self.done = self.done.max(position.saturating_sub(1));
                    self.running.clear();
                }
                if let Some(begun) = self.running.iter_mut().find(|begun| begun.task.cpv == cpv) {
                    phase.clone_into(&mut begun.task.phase);
                } else if self.running.len() < MAX_RUNNING {
                    let task = EmergeTask { cpv, phase: phase.to_owned(), elapsed_secs: 0, expected: None };
                    let (binary, fetched) = (phase == "unpack", phase == "fetch");
                    self.running.push(Begun { task, since: now, binary, fetched });
                } else {
                    return false;
                }
            }
            Told::Completed { total, cpv, .. } => {
                self.total = total;
                // Both output and emerge.log may be read: the first one to tell counts.
                if let Some(at) = self.running.iter().position(|begun| begun.task.cpv == cpv) {
                    let Begun { since: began, binary, fetched, .. } = self.running.remove(at);
                    self.done = (self.done + 1).min(self.total);
                    if !fetched && self.finished.len() < MAX_FINISHED {
                        self.finished.push(Finished { cpv, binary, began, ended: now });
                    }
                }
            }
            Told::Failed { cpv } => self.running.retain(|begun| begun.task.cpv != cpv),
            Told::Jobs { done, total } => {
                // It is printed with every change, also with a count from before the line above it.
                self.done = if total == self.total { self.done.max(done) } else { done };
                self.total = total;
                if done == total {
                    self.running.clear();
                }
            }
        }
        true
    }

    /// The status at `now`.
    pub(crate) fn status(&self, now: Instant) -> EmergeStatus {
        let running = self
            .running
            .iter()
            .map(|begun| EmergeTask { elapsed_secs: now.saturating_duration_since(begun.since).as_secs(), ..begun.task.clone() })
            .collect();
        EmergeStatus { done: self.done, total: self.total, running, ..EmergeStatus::default() }
    }

    /// What is installed by now, in the order of its end.
    pub(crate) fn finished(&self) -> &[Finished] {
        &self.finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn short(status: &EmergeStatus) -> String {
        let running: Vec<String> = status.running.iter().map(|t| format!("{} {}", t.cpv, t.phase)).collect();
        format!("{}/{} [{}]", status.done, status.total, running.join(", "))
    }

    #[test]
    fn follows_parallel_output() {
        let steps = [
            ("Calculating dependencies... done!", "0/0 []"),
            (">>> Verifying ebuild manifests", "0/0 []"),
            (">>> Emerging (1 of 3) dev-libs/libx-1.0-r2::testbed", "0/3 [dev-libs/libx-1.0-r2 build]"),
            (
                ">>> Emerging binary (2 of 3) app-misc/hello-2.10::testbed for /mnt/",
                "0/3 [dev-libs/libx-1.0-r2 build, app-misc/hello-2.10 unpack]",
            ),
            (
                ">>> Jobs: 0 of 3 complete, 2 running               Load avg: 1.00, 0.5, 0.4",
                "0/3 [dev-libs/libx-1.0-r2 build, app-misc/hello-2.10 unpack]",
            ),
            (
                "\x1b[32m>>>\x1b[39m Installing (\x1b[33;1m1\x1b[39m of \x1b[33m3\x1b[39m) \x1b[32mdev-libs/libx-1.0-r2::testbed\x1b[0m",
                "0/3 [dev-libs/libx-1.0-r2 merge, app-misc/hello-2.10 unpack]",
            ),
            (">>> Completed (1 of 3) dev-libs/libx-1.0-r2::testbed", "1/3 [app-misc/hello-2.10 unpack]"),
            (">>> Failed to emerge app-misc/hello-2.10, Log file:", "1/3 []"),
            (">>> Jobs: 3 of 3 complete", "3/3 []"),
        ];
        let (mut progress, now) = (Progress::new(), Instant::now());
        for (line, want) in steps {
            progress.line(line, now);
            assert_eq!(short(&progress.status(now)), want, "after {line:?}");
        }
    }

    #[test]
    fn follows_emerge_log() {
        let steps = [
            ("1700000000: Started emerge on: Nov 22, 2026 08:00:00", "0/0 []"),
            ("1700000000:  >>> emerge (1 of 2) dev-libs/libx-1.0 to /", "0/2 [dev-libs/libx-1.0 build]"),
            (
                "1700000000:  === (1 of 2) Cleaning (dev-libs/libx-1.0::/var/db/repos/testbed/dev-libs/libx/libx-1.0.ebuild)",
                "0/2 [dev-libs/libx-1.0 build]",
            ),
            (
                "1700000002:  === (1 of 2) Merging (dev-libs/libx-1.0::/var/db/repos/testbed/dev-libs/libx/libx-1.0.ebuild)",
                "0/2 [dev-libs/libx-1.0 merge]",
            ),
            ("1700000003:  ::: completed emerge (1 of 2) dev-libs/libx-1.0 to /", "1/2 []"),
        ];
        let (mut progress, now) = (Progress::new(), Instant::now());
        for (line, want) in steps {
            progress.line(line, now);
            assert_eq!(short(&progress.status(now)), want, "after {line:?}");
        }
    }

    /// A whole run: never backwards, everything done, nothing left running.
    #[test]
    fn real_transcripts() {
        for (output, total) in
            [(include_str!("transcripts/world-from-source.txt"), 6), (include_str!("transcripts/resumed.txt"), 2)]
        {
            let (mut progress, now) = (Progress::new(), Instant::now());
            let (mut seen, mut most_running) = (Vec::new(), 0);
            for line in output.lines() {
                if progress.line(line, now) {
                    let status = progress.status(now);
                    seen.push(status.done);
                    most_running = most_running.max(status.running.len());
                    assert_eq!(status.total, total);
                }
            }
            assert!(seen.is_sorted() && most_running > 0, "{seen:?}");
            assert_eq!(short(&progress.status(now)), format!("{total}/{total} []"));
        }
    }

    #[test]
    fn a_fetch_run_advances_with_its_successor() {
        let (mut progress, now) = (Progress::new(), Instant::now());
        progress.line(">>> Fetching (1 of 2) a/b-1::x", now);
        progress.line(">>> Fetching (2 of 2) a/c-1::x", now);
        assert_eq!(short(&progress.status(now)), "1/2 [a/c-1 fetch]");
    }

    #[test]
    fn output_and_log_together_count_once() {
        let (mut progress, now) = (Progress::new(), Instant::now());
        for line in [
            ">>> Emerging (1 of 2) a/b-1::x",
            "1:  >>> emerge (1 of 2) a/b-1 to /",
            ">>> Completed (1 of 2) a/b-1::x",
            "2:  ::: completed emerge (1 of 2) a/b-1 to /",
        ] {
            progress.line(line, now);
        }
        assert_eq!(short(&progress.status(now)), "1/2 []");
    }

    #[test]
    fn elapsed_time_counts_from_the_first_line() {
        let (mut progress, now) = (Progress::new(), Instant::now());
        progress.line(">>> Emerging (1 of 1) a/b-1::x", now);
        progress.line(">>> Installing (1 of 1) a/b-1::x", now + Duration::from_secs(5));
        assert_eq!(progress.status(now + Duration::from_secs(7)).running[0].elapsed_secs, 7);
    }

    #[test]
    fn what_is_installed_is_known_with_its_times() {
        let (mut progress, now) = (Progress::new(), Instant::now());
        for (line, at) in [
            (">>> Emerging (1 of 4) a/b-1::x", 0),
            (">>> Emerging binary (2 of 4) a/c-2::x", 1),
            (">>> Completed (2 of 4) a/c-2::x", 3),
            (">>> Installing (1 of 4) a/b-1::x", 6),
            (">>> Completed (1 of 4) a/b-1::x", 7),
            (">>> Completed (1 of 4) a/b-1::x", 8),
            (">>> Emerging (3 of 4) a/d-1::x", 9),
            (">>> Failed to emerge a/d-1, Log file:", 10),
            (">>> Completed (4 of 4) a/e-1::x", 11),
        ] {
            progress.line(line, now + Duration::from_secs(at));
        }
        let finished = progress.finished().iter().map(|f| (f.cpv.as_str(), f.binary, (f.ended - f.began).as_secs()));
        assert_eq!(finished.collect::<Vec<_>>(), [("a/c-2", true, 2), ("a/b-1", false, 7)]);
    }

    #[test]
    fn build_output_does_not_look_like_progress() {
        for line in [
            ">>> Source compiled.",
            ">>> Emerging (x of 3) a/b-1",
            ">>> Emerging (1 of 3) no-slash",
            ">>> Emerging (1 of 3) ../../etc::x/y",
            "Jobs: 1 of 3 complete",
            "12: text",
            "",
        ] {
            assert_eq!(read_line(line), None, "{line}");
        }
    }
}
