//! Why a run failed: what its output and build log tell, as types, safe to print.
//!
//! Evidence is collected line by line from the output, in bounded memory, and evaluated only if emerge has failed. The wording is
//! Portage's: `bin/isolated-functions.sh` (`die`), `_emerge/Scheduler.py`, `_emerge/depgraph.py`, `fetch.py`, `digestcheck.py`.

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};

use super::progress;
use super::progress::Told;
use super::violation::Violations;
use crate::terminal_text::{sanitize, sanitize_line};

/// How many lines of a log are shown.
pub(crate) const LAST_LINES: usize = 30;
/// Longer explanations of emerge about dependencies are cut.
const MAX_EXPLANATION_LINES: usize = 120;
const MAX_PROPOSALS: usize = 64;
/// How many lines of `die`'s message, often two, are read. After those come call stack and advice.
const DIE_MESSAGE_LINES: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// A phase of an ebuild failed.
    BuildFailed,
    /// Portage's sandbox did not allow what a package did.
    SandboxViolation,
    /// A file could not be downloaded.
    FetchFailed,
    /// No visible package fits: masked, keyword, license or USE change needed, or none exists.
    Unsatisfied,
    /// Packages that cannot be installed together, or two for one slot.
    Conflict,
    /// Packages that each need the other built first.
    CircularDependencies,
    /// A package's USE flags contradict its own `REQUIRED_USE`.
    RequiredUse,
    /// A file differs from what the Manifest (or the pool's index) says.
    ManifestMismatch,
    /// A binary package that Portage refuses to install; without it the package is built.
    BinpkgUnusable,
    /// The file system, or a quota, is full.
    OutOfSpace,
    /// None of these; the last lines are shown.
    Other,
}

impl FailureKind {
    /// Whether dependencies are the reason, so that a change of the configuration may help.
    pub fn is_about_dependencies(self) -> bool {
        matches!(self, Self::Unsatisfied | Self::Conflict | Self::CircularDependencies | Self::RequiredUse)
    }
}

/// Why a package of a binary package host was not installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// No signature at all.
    #[error("it is not signed")]
    Unsigned,
    /// A signature by somebody.
    #[error("it is signed by a key that this configuration does not trust")]
    UnknownKey,
    /// A signature by a key that has expired.
    #[error("it is signed by a key that has expired")]
    Expired,
    /// The signature is of something else.
    #[error("it was changed after it was signed")]
    Changed,
    /// Not the file that the host's index describes: it may be damaged, or another one.
    #[error("it does not match the index of its host")]
    Damaged,
    /// Portage gives no reason.
    #[error("Portage could not verify it")]
    Unverified,
}

/// Where Portage stores packages of binary package hosts, inside a root.
const BINHOST_DIR: &str = "/var/cache/binhost/";

/// One change to the configuration that emerge proposes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The file it belongs in: `package.use`, `package.accept_keywords`, `package.license`, `package.unmask`.
    pub file: String,
    /// Its lines, with emerge's comments (`# required by …`).
    pub lines: Vec<String>,
}

/// Why a run of `emerge` failed. All text in it is safe to print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    /// `category/name-version`; the atom for dependencies that cannot be satisfied.
    pub package: Option<String>,
    /// The ebuild phase: `compile`.
    pub phase: Option<String>,
    /// The file that could not be fetched, that differs, or that the sandbox protects.
    pub file: Option<String>,
    /// The complete build log, inside the root.
    pub build_log: Option<PathBuf>,
    /// The last lines of the build log before the error, or else of the output.
    pub last_lines: Vec<String>,
    /// What emerge says about dependencies, when they are the reason.
    pub explanation: Vec<String>,
    /// What emerge proposes to change.
    pub proposals: Vec<Proposal>,
    /// Why a file of a binary package host cannot be trusted, if that is the reason.
    pub distrust: Option<Distrust>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let package = self.package.as_deref().unwrap_or("a package");
        match self.kind {
            FailureKind::BuildFailed => match &self.phase {
                Some(phase) => write!(f, "`{package}` failed in its {phase} phase"),
                None => write!(f, "`{package}` failed"),
            },
            FailureKind::SandboxViolation => {
                let path = self.file.as_deref().unwrap_or("a file");
                write!(f, "the sandbox denied `{package}` access to `{path}`")?;
                self.phase.as_ref().map_or(Ok(()), |phase| write!(f, " in its {phase} phase"))
            }
            FailureKind::FetchFailed => match &self.file {
                Some(file) => write!(f, "cannot fetch `{file}` for `{package}`"),
                None => write!(f, "cannot fetch the sources of `{package}`"),
            },
            FailureKind::Unsatisfied if !self.proposals.is_empty() => {
                let files: Vec<String> = self.proposals.iter().map(|proposal| format!("`{}`", proposal.file)).collect();
                write!(f, "the configuration has to change first: {}", files.join(", "))
            }
            FailureKind::Unsatisfied => write!(f, "nothing visible satisfies `{package}`"),
            FailureKind::Conflict => f.write_str("some packages cannot be installed together"),
            FailureKind::CircularDependencies => f.write_str("some packages need each other to be built first"),
            FailureKind::RequiredUse => write!(f, "USE flags of `{package}` contradict its REQUIRED_USE"),
            FailureKind::ManifestMismatch => match &self.file {
                Some(file) => write!(f, "`{file}` does not match its Manifest"),
                None => write!(f, "a file of `{package}` does not match its Manifest"),
            },
            FailureKind::BinpkgUnusable => match &self.file {
                Some(file) => write!(f, "the binary package `{file}` cannot be installed"),
                None => write!(f, "the binary package of `{package}` cannot be installed"),
            },
            FailureKind::OutOfSpace => match &self.package {
                Some(package) => write!(f, "no space left during the build of `{package}`"),
                None => f.write_str("no space left"),
            },
            FailureKind::Other => f.write_str("emerge failed"),
        }
    }
}

impl std::error::Error for Failure {}

/// What the output has told so far.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a line scanner, each with its own line to wait for")]
pub struct Evidence {
    tail: VecDeque<String>,
    /// The last lines when the first ebuild died.
    death: Option<Death>,
    failed: Option<String>,
    build_log: Option<PathBuf>,
    expect_log_path: bool,
    fetch_package: Option<String>,
    fetch_file: Option<String>,
    mismatch: Option<String>,
    expect_mismatch_file: bool,
    unusable_binpkg: Option<String>,
    unverified: bool,
    distrust: Option<Distrust>,
    no_space: bool,
    merging: bool,
    resolution: Option<FailureKind>,
    subject: Option<String>,
    explanation: Vec<String>,
    in_advice: bool,
    proposals: Vec<Proposal>,
    proposal_open: bool,
    violations: Violations,
}

#[derive(Debug)]
struct Death {
    package: String,
    phase: Option<String>,
    last_lines: Vec<String>,
    message_lines_missing: usize,
}

impl Evidence {
    /// Nothing seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a line of output, without its line break.
    pub fn line(&mut self, raw: &[u8]) {
        for line in sanitize(raw).trim_end_matches('\n').split('\n') {
            self.plain_line(line.trim_end());
        }
    }

    fn plain_line(&mut self, line: &str) {
        self.remember(line);
        self.violations.line(line);
        self.space(line);
        self.death(line);
        self.failed_package(line);
        self.fetch(line);
        self.manifest(line);
        if !self.merging {
            self.proposal(line);
            self.resolution(line);
        }
    }

    fn remember(&mut self, line: &str) {
        if line.starts_with(">>> Jobs: ") {
            return;
        }
        if self.tail.len() == LAST_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
        if let Some(death) = &mut self.death
            && death.message_lines_missing > 0
        {
            death.message_lines_missing -= 1;
            if is_message(line) {
                death.last_lines.push(line.to_owned());
            } else {
                death.message_lines_missing = 0;
            }
        }
    }

    fn space(&mut self, line: &str) {
        self.no_space |= ["No space left on device", "Disk quota exceeded", "[Errno 28]"].iter().any(|words| line.contains(words));
    }

    fn death(&mut self, line: &str) {
        if let Some((package, phase)) = died(line) {
            if self.death.is_none() {
                let last_lines = self.tail.iter().cloned().collect();
                self.death = Some(Death { package, phase, last_lines, message_lines_missing: DIE_MESSAGE_LINES });
            }
        } else if let Some(path) =
            line.split_once("complete build log is located at '").and_then(|(_, rest)| rest.strip_suffix("'."))
        {
            self.build_log.get_or_insert_with(|| PathBuf::from(path));
        }
    }

    fn failed_package(&mut self, line: &str) {
        let told = progress::read_line(line);
        // emerge may print its count between the two lines of the message.
        if self.expect_log_path && !matches!(told, Some(Told::Jobs { .. })) {
            self.expect_log_path = false;
            if let Some(path) = line.strip_prefix(">>>").and_then(|rest| rest.trim().strip_prefix('\'')?.strip_suffix('\'')) {
                self.build_log.get_or_insert_with(|| PathBuf::from(path));
            }
        }
        match told {
            Some(Told::Failed { cpv }) => {
                self.expect_log_path = self.failed.is_none();
                self.failed.get_or_insert(cpv);
            }
            Some(Told::Started { .. }) => self.start_merging(),
            _ => {}
        }
    }

    /// Dependencies were satisfied, so earlier words about them (skipped updates) explain no later failure.
    fn start_merging(&mut self) {
        self.merging = true;
        self.resolution = None;
        self.explanation.clear();
        self.proposals.clear();
    }

    fn fetch(&mut self, line: &str) {
        if let Some(package) = line.split_once("Fetch failed for '").and_then(|(_, rest)| rest.split('\'').next()) {
            self.fetch_package.get_or_insert_with(|| sanitize_line(package.as_bytes(), 200));
        } else if let Some(file) = line.strip_prefix("!!! Couldn't download '").and_then(|rest| rest.split('\'').next())
            // The layout file of a mirror, which is optional.
            && !file.starts_with(".layout.conf.")
        {
            self.fetch_file.get_or_insert_with(|| sanitize_line(file.as_bytes(), 200));
        }
    }

    fn manifest(&mut self, line: &str) {
        self.signature(line);
        if let Some((path, why)) = line.strip_prefix("!!! Error extracting '").and_then(|rest| rest.split_once('\'')) {
            // Portage only checks for pipes and devices once the signature is good.
            self.unverified |= path.starts_with(BINHOST_DIR) && !why.contains("Unsupported file type");
            self.unusable_binpkg.get_or_insert_with(|| sanitize_line(path.as_bytes(), 400));
        }
        let mut name = |file: &str| {
            self.mismatch.get_or_insert_with(|| sanitize_line(file.as_bytes(), 400));
        };
        if let Some(file) = line.strip_prefix("!!! Fetched file: ").and_then(|rest| rest.strip_suffix(" VERIFY FAILED!")) {
            name(file);
        } else if let Some((path, _)) =
            line.split_once("File renamed to '").and_then(|(_, rest)| rest.split_once("._checksum_failure_."))
        {
            // The file was there but wrong; it is downloaded again.
            name(path.rsplit('/').next().unwrap_or(path));
        } else if let Some(file) = line.strip_prefix("!!! A file listed in the Manifest could not be found: ") {
            name(file);
        } else if let Some(file) = line.strip_prefix("!!! A file is not listed in the Manifest: ") {
            name(file.trim_matches('\''));
        } else if let Some(file) = line.strip_prefix("!!! Missing digest for ") {
            name(file.trim_matches('\''));
        } else if std::mem::take(&mut self.expect_mismatch_file) {
            if let Some(file) = line.strip_prefix("!!! ") {
                name(file);
            }
        } else {
            self.expect_mismatch_file = line == "!!! Digest verification failed:";
        }
    }

    /// The words of gpg and Portage about a package's signature: the first ones are the most precise.
    fn signature(&mut self, line: &str) {
        let signs = [
            ("binpkg appears unsigned", Distrust::Unsigned),
            ("binpkg signed with at least one unknown key", Distrust::UnknownKey),
            ("binpkg signed with a known key of undefined trust", Distrust::UnknownKey),
            ("[GNUPG:] EXPKEYSIG ", Distrust::Expired),
            ("[GNUPG:] BADSIG ", Distrust::Changed),
        ];
        if let Some((_, distrust)) = signs.into_iter().find(|(words, _)| line.contains(words)) {
            self.distrust.get_or_insert(distrust);
        }
    }

    fn proposal(&mut self, line: &str) {
        if line.starts_with("The following ") && line.ends_with(" changes are necessary to proceed:") {
            // The line after names the file.
            self.proposal_open = self.proposals.len() < MAX_PROPOSALS;
            if self.proposal_open {
                self.proposals.push(Proposal { file: String::new(), lines: Vec::new() });
            }
        } else if self.proposal_open
            && let Some(proposal) = self.proposals.last_mut()
        {
            if line.is_empty() {
                self.proposal_open = false;
            } else if proposal.file.is_empty() {
                line.split('"').nth(1).unwrap_or("?").clone_into(&mut proposal.file);
            } else if proposal.lines.len() < MAX_EXPLANATION_LINES {
                proposal.lines.push(line.to_owned());
            }
        }
    }

    fn resolution(&mut self, line: &str) {
        if let Some(kind) = resolution_kind(line) {
            // A proposal can be acted on, and a `REQUIRED_USE` error is more precise still.
            let rank = |kind| match kind {
                FailureKind::RequiredUse => 2,
                FailureKind::Unsatisfied => 1,
                _ => 0,
            };
            if self.resolution.is_none_or(|known| rank(kind) > rank(known)) {
                self.resolution = Some(kind);
            }
            if self.subject.is_none() && line.contains("satisfy") {
                self.subject = line.split('"').nth(1).map(str::to_owned);
            }
        }
        let advice = ["Use --autounmask-write to write", "NOTE: The --autounmask-keep-masks", "For more information, see"];
        // Skip the rest of a paragraph of advice.
        self.in_advice = !line.is_empty() && (self.in_advice || advice.iter().any(|words| line.starts_with(words)));
        if self.resolution.is_some() && self.explanation.len() < MAX_EXPLANATION_LINES && !self.in_advice {
            self.explanation.push(line.to_owned());
        }
    }

    /// Evaluates the evidence of a failed run. `read_log` gets the path of the build log inside the root and returns the end of its
    /// contents (256 KiB are enough), or [`None`] if it cannot be read.
    pub fn into_failure(self, read_log: impl FnOnce(&Path) -> Option<Vec<u8>>) -> Failure {
        let log = self.build_log.as_deref().and_then(read_log);
        let violation = log.as_deref().map(|bytes| Violations::of(&sanitize(bytes))).and_then(Violations::into_first);
        let violation = violation.or_else(|| self.violations.clone().into_first());
        let kind = match self.kind() {
            FailureKind::BuildFailed if violation.is_some() => FailureKind::SandboxViolation,
            kind => kind,
        };
        let distrusted = kind == FailureKind::BinpkgUnusable && self.unverified;
        let is_hosts = self.mismatch.as_ref().is_some_and(|file| file.starts_with(BINHOST_DIR));
        let damaged = (kind == FailureKind::ManifestMismatch && is_hosts).then_some(Distrust::Damaged);
        let distrust = distrusted.then(|| self.distrust.unwrap_or(Distrust::Unverified)).or(damaged);
        let by_dependencies = kind.is_about_dependencies();
        let from_log = log.map(|bytes| last_lines_of_log(&bytes)).filter(|lines| !lines.is_empty());
        let (death_package, phase, death_lines) = match self.death {
            Some(death) => (Some(death.package), death.phase, Some(death.last_lines)),
            None => (None, None, None),
        };
        let mut last_lines = from_log.or(death_lines).unwrap_or_else(|| self.tail.into_iter().collect());
        let excess = last_lines.len().saturating_sub(LAST_LINES);
        last_lines.drain(..excess);
        let package = if by_dependencies { self.subject } else { death_package.or(self.failed).or(self.fetch_package) };
        let file = match kind {
            FailureKind::ManifestMismatch => self.mismatch,
            FailureKind::FetchFailed => self.fetch_file,
            FailureKind::SandboxViolation => violation.as_ref().map(|violation| violation.path.clone()),
            FailureKind::BinpkgUnusable => self.unusable_binpkg,
            _ => None,
        };
        let phase = phase.or_else(|| {
            let violation = violation.as_ref().filter(|_| kind == FailureKind::SandboxViolation);
            violation.and_then(|violation| violation.phase).map(str::to_owned)
        });
        let mut explanation = if by_dependencies { self.explanation } else { Vec::new() };
        while explanation.last().is_some_and(String::is_empty) {
            explanation.pop();
        }
        let mut proposals = if by_dependencies { self.proposals } else { Vec::new() };
        proposals.retain(|proposal| !proposal.lines.is_empty());
        Failure { kind, package, phase, file, build_log: self.build_log, last_lines, explanation, proposals, distrust }
    }

    fn kind(&self) -> FailureKind {
        if self.no_space {
            FailureKind::OutOfSpace
        } else if self.death.is_some() {
            FailureKind::BuildFailed
        } else if self.unusable_binpkg.is_some() {
            FailureKind::BinpkgUnusable
        } else if self.mismatch.is_some() {
            FailureKind::ManifestMismatch
        } else if self.fetch_package.is_some() || self.fetch_file.is_some() {
            FailureKind::FetchFailed
        } else if self.failed.is_some() {
            FailureKind::BuildFailed
        } else {
            self.resolution.unwrap_or(FailureKind::Other)
        }
    }
}

/// `* ERROR: app-misc/broken-1::testbed failed (compile phase):`
fn died(line: &str) -> Option<(String, Option<String>)> {
    let rest = line.trim_start().strip_prefix("* ERROR: ")?;
    let (package, rest) = rest.split_once(" failed")?;
    let phase = rest.strip_prefix(" (").and_then(|p| p.strip_suffix(" phase):"));
    if phase.is_none() && rest != ":" {
        return None;
    }
    let cpv = package.split("::").next().unwrap_or(package);
    Some((sanitize_line(cpv.as_bytes(), 200), phase.map(|p| sanitize_line(p.as_bytes(), 40))))
}

/// A line of the message of `die`: `*   emake failed`.
fn is_message(line: &str) -> bool {
    line.trim_start().strip_prefix('*').is_some_and(|rest| !rest.trim().is_empty() && !rest.contains("Call stack:"))
}

fn resolution_kind(line: &str) -> Option<FailureKind> {
    let unsatisfied = [
        "emerge: there are no ebuilds to satisfy ",
        "emerge: there are no binary packages to satisfy ",
        "emerge: there are no ebuilds built with USE flags to satisfy ",
        "emerge: there are no sets to satisfy ",
        "!!! All ebuilds that could satisfy ",
        "!!! All binary packages that could satisfy ",
    ];
    if unsatisfied.iter().any(|words| line.starts_with(words)) || line.ends_with(" changes are necessary to proceed:") {
        Some(FailureKind::Unsatisfied)
    } else if line.starts_with("!!! The ebuild selected to satisfy ") {
        Some(FailureKind::RequiredUse)
    } else if line.contains("Multiple package instances within a single package slot")
        || line.contains("Error: The above package list contains")
    {
        Some(FailureKind::Conflict)
    } else if line.contains("Error: circular dependencies:") {
        Some(FailureKind::CircularDependencies)
    } else {
        None
    }
}

/// The last lines of a build log before the first message of `die`; what follows is Portage's call stack and advice.
fn last_lines_of_log(bytes: &[u8]) -> Vec<String> {
    let text = sanitize(bytes);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let end = match lines.iter().position(|line| died(line).is_some()) {
        Some(at) => at + 1 + lines[at + 1..].iter().take(DIE_MESSAGE_LINES).take_while(|line| is_message(line)).count(),
        None => lines.len(),
    };
    lines[end.saturating_sub(LAST_LINES)..end].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
