//! What a package did that Portage's sandbox (sys-apps/sandbox) denies.
//!
//! ```text
//!  * ACCESS DENIED:  open_wr:      /etc/foo                        at once, on standard error
//!  * -------------- ACCESS VIOLATION SUMMARY --------------        at the end of the phase, which fails by it
//! FORMAT: F - Function called
//! …
//! F: open_wr
//! S: deny
//! P: ../../etc/foo
//! A: /var/../etc/foo
//! R: /etc/foo                                                      with links followed
//! C: touch ../../etc/foo
//! ```
//!
//! If a phase fails only because of this, emerge's output does not give the reason.

use crate::terminal_text::sanitize_line;

/// Longer paths are cut.
const PATH_CHARS: usize = 400;
/// The words that announce a phase in Portage's output, and the phase.
const PHASES: [(&str, &str); 8] = [
    (">>> Unpacking source", "unpack"),
    (">>> Preparing source", "prepare"),
    (">>> Configuring source", "configure"),
    (">>> Compiling source", "compile"),
    (">>> Test phase", "test"),
    (">>> Install ", "install"),
    (">>> Installing ", "preinst"),
    (">>> Running pre-merge checks for ", "pretend"),
];

/// Reads a log line by line.
#[derive(Debug, Clone, Default)]
pub(super) struct Violations {
    phase: Option<&'static str>,
    in_summary: bool,
    /// `P:` of the summary, until its `R:` follows.
    asked: Option<String>,
    first: Option<Violation>,
}

/// The first denied access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) path: String,
    pub(super) phase: Option<&'static str>,
}

impl Violations {
    /// The result for a whole log.
    pub(super) fn of(text: &str) -> Self {
        let mut violations = Self::default();
        text.lines().for_each(|line| violations.line(line.trim_end()));
        violations
    }

    /// Takes a line that is safe to print.
    pub(super) fn line(&mut self, line: &str) {
        if let Some((_, phase)) = PHASES.iter().find(|(words, _)| line.starts_with(words)) {
            self.phase = Some(phase);
        }
        if let Some((_, denied)) = line.split_once("ACCESS DENIED:") {
            // The function, then the path.
            if let Some((_, path)) = denied.trim_start().split_once(':') {
                self.found(path.trim());
            }
        }
        self.in_summary |= line == "FORMAT: C - Command Line" || line.contains("ACCESS VIOLATION SUMMARY");
        if self.in_summary {
            if let Some(path) = line.strip_prefix("P: ") {
                self.asked = Some(path.to_owned());
            } else if let Some(path) = line.strip_prefix("R: ") {
                self.found(path);
            } else if line.starts_with("C: ")
                && let Some(path) = self.asked.take()
            {
                self.found(&path);
            }
        }
    }

    fn found(&mut self, path: &str) {
        self.asked = None;
        if self.first.is_none() && !path.is_empty() {
            self.first = Some(Violation { path: sanitize_line(path.as_bytes(), PATH_CHARS), phase: self.phase });
        }
    }

    /// The first, if there was one.
    pub(super) fn into_first(self) -> Option<Violation> {
        self.first
    }
}
