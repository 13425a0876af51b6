//! How long earlier builds took: of packages, of nodes of the pipeline, of kernels. And how much room packages took.
//!
//! ```text
//! data/build-times     JSON, a line for each build; the newest last
//! {"kind":"compiled","name":"app-misc/hello","version":"2.10","secs":3.2,"cpu":"AMD …","jobs":8,"at":1700000000}
//! ```
//!
//! It is for the display, and for where packages are compiled (`env/tmpfs`). Lines that are not like this are ignored and dropped by the next
//! write, and no error of the file reaches a build. It is bounded: the newest builds of each thing on each machine, and of those the newest [`MOST_LINES`].

mod estimate;
pub(crate) mod schedule;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::store::Wait;
use crate::{clock, durable};

pub(crate) use estimate::{Estimates, run_left};

/// How many builds of a thing are remembered for each machine: an odd number, of which the median is one.
const MOST_OF_EACH: usize = 3;
/// How many lines the file may have.
const MOST_LINES: usize = 20_000;
/// How much of a file is read: ours has less.
const MOST_BYTES: u64 = 16 << 20;
/// Names and versions are shorter.
const MOST_CHARS: usize = 200;
/// No build takes longer, in seconds.
const LONGEST: f64 = 30.0 * 24.0 * 3600.0;
/// The lock of those who write.
const LOCK: &str = "build-times";

/// What was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A package, from its source.
    Compiled,
    /// A package, from a binary package.
    Binary,
    /// All packages of one run of emerge; `work` is the sum of their times, `secs` the time of the run.
    Run,
    /// A node of the pipeline, by its id.
    Node,
    /// A kernel, by its label; `work` is how many lines it has said.
    Kernel,
    /// How much room a package took while it was compiled; `work` in bytes.
    Size,
}

/// The name of all [`Kind::Run`]s.
pub(crate) const RUN: &str = "emerge";

/// A machine, as far as it decides how long a build takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Machine {
    /// The model of its processor.
    pub(crate) cpu: String,
    /// How many jobs a build may have at a time.
    pub(crate) jobs: u32,
}

impl Machine {
    /// This one.
    pub(crate) fn here(cx: &Context<'_>) -> Self {
        Self { cpu: model(&cx.settings.cpuinfo, &cx.settings.arch), jobs: cx.settings.jobs.max(1) }
    }
}

/// The processor's name in `/proc/cpuinfo`; what it is called differs between architectures.
fn model(cpuinfo: &str, arch: &str) -> String {
    let fields = || cpuinfo.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name.trim(), value.trim()));
    let of = |wanted: &str| fields().find(|(name, value)| *name == wanted && !value.is_empty()).map(|(_, value)| value);
    let found = ["model name", "cpu model", "uarch", "cpu", "Processor", "CPU part"].iter().find_map(|name| of(name));
    found.unwrap_or(arch).chars().filter(|c| !c.is_control()).take(MOST_CHARS).collect()
}

/// One build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Build {
    pub(crate) kind: Kind,
    /// `category/name` of a package, the id of a node, the label of a kernel.
    pub(crate) name: String,
    /// Of a package.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) version: String,
    /// How long it took.
    pub(crate) secs: f64,
    /// See [`Kind`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) work: f64,
    #[serde(default)]
    cpu: String,
    #[serde(default)]
    jobs: u32,
    /// When it ended, seconds since 1970.
    #[serde(default)]
    at: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl Build {
    /// A build that has just ended.
    pub(crate) fn new(kind: Kind, name: &str, version: &str, secs: f64) -> Self {
        let (name, version) = (name.to_owned(), version.to_owned());
        Self { kind, name, version, secs, work: 0.0, cpu: String::new(), jobs: 0, at: 0 }
    }

    /// With how much there was to do, see [`Kind`].
    #[must_use]
    pub(crate) fn with_work(self, work: f64) -> Self {
        Self { work, ..self }
    }

    /// How much room a package took.
    pub(crate) fn of_size(name: &str, version: &str, size_bytes: u64) -> Self {
        Self::new(Kind::Size, name, version, 0.0).with_work(size_bytes as f64)
    }

    fn machine(&self) -> Machine {
        Machine { cpu: self.cpu.clone(), jobs: self.jobs.max(1) }
    }

    fn is_sound(&self) -> bool {
        let sane = |number: f64| number.is_finite() && (0.0..=1e12).contains(&number);
        let short = |text: &str| text.len() <= MOST_CHARS && !text.chars().any(char::is_control);
        sane(self.secs)
            && self.secs <= LONGEST
            && sane(self.work)
            && [&self.name, &self.version, &self.cpu].map(|text| short(text)) == [true; 3]
    }
}

/// What earlier builds say of builds on this machine. Empty if nothing is known.
pub(crate) fn estimates(cx: &Context<'_>) -> Estimates {
    Estimates::new(Machine::here(cx), read(&cx.places.build_times()))
}

/// How much room the last build of each package took, bytes, whatever the machine.
pub(crate) fn sizes(cx: &Context<'_>) -> BTreeMap<String, u64> {
    let sizes = read(&cx.places.build_times()).into_iter().filter(|build| build.kind == Kind::Size);
    sizes.map(|build| (build.name, estimate::whole(build.work))).collect()
}

/// Adds builds that have just ended here. Whatever goes wrong, a build does not fail by it.
pub(crate) fn add(cx: &Context<'_>, builds: Vec<Build>) {
    if builds.is_empty() {
        return;
    }
    // A lock that is held while nothing else is taken, so that its place in the order of names does not matter.
    let _lock = match cx.store.lock_named(LOCK, Wait::Quietly) {
        Ok(lock) => lock,
        Err(error) => return tracing::debug!(%error, "the times of these builds are not kept"),
    };
    let path = cx.places.build_times();
    let mut all = read(&path);
    let (Machine { cpu, jobs }, at) = (Machine::here(cx), clock::now().as_second());
    all.extend(builds.into_iter().map(|build| Build { cpu: cpu.clone(), jobs, at, ..build }));
    let written = durable::replace(&path, text(bounded(all)).as_bytes(), durable::Mode::AtMost(0o644));
    written.unwrap_or_else(|error| tracing::debug!(%error, "the times of these builds are not kept"));
}

fn read(path: &Path) -> Vec<Build> {
    let mut bytes = Vec::new();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) => {
            tracing::debug!(%error, path = %path.display(), "no times of earlier builds");
            return Vec::new();
        }
    };
    if let Err(error) = file.take(MOST_BYTES).read_to_end(&mut bytes) {
        tracing::debug!(%error, path = %path.display(), "not all times of earlier builds");
    }
    parsed(&bytes)
}

fn parsed(bytes: &[u8]) -> Vec<Build> {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines.filter_map(|line| serde_json::from_slice::<Build>(line).ok()).filter(Build::is_sound).collect()
}

fn text(builds: Vec<Build>) -> String {
    let lines = builds.into_iter().filter(Build::is_sound).filter_map(|build| serde_json::to_string(&build).ok());
    lines.map(|line| line + "\n").collect()
}

/// The newest of each thing on each machine, and of those the newest.
fn bounded(builds: Vec<Build>) -> Vec<Build> {
    let mut counts: BTreeMap<(Kind, String, Machine), usize> = BTreeMap::new();
    let newest_first = builds.into_iter().rev().filter(|build| {
        let count = counts.entry((build.kind, build.name.clone(), build.machine())).or_default();
        *count += 1;
        *count <= MOST_OF_EACH
    });
    let mut kept: Vec<Build> = newest_first.take(MOST_LINES).collect();
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_keeps_its_sound_lines() {
        let good = r#"{"kind":"compiled","name":"a/b","version":"1","secs":3.5,"cpu":"x","jobs":2,"at":7}"#;
        let bad = [
            "",
            "{",
            "\u{0}\u{0}",
            r#"{"kind":"another","name":"a/b","secs":1}"#,
            r#"{"kind":"compiled","name":"a/b","secs":-1}"#,
            r#"{"kind":"compiled","name":"a/b","secs":1e300}"#,
            r#"{"kind":"compiled","name":"a\u001b[31m","secs":1}"#,
            r#"{"kind":"compiled","secs":1}"#,
        ];
        let file = format!("{}\n{good}\n{good}", bad.join("\n"));
        let read = parsed(file.as_bytes());
        assert_eq!(read.len(), 2);
        assert_eq!(text(read), format!("{good}\n{good}\n"));
        assert_eq!(parsed(b"\xff\xfe\n"), []);
    }

    #[test]
    fn the_newest_of_each_thing_stay() {
        let on =
            |cpu: &str, name: &str, at| Build { cpu: cpu.to_owned(), jobs: 2, at, ..Build::new(Kind::Compiled, name, "1", 1.0) };
        let mut all: Vec<Build> = (0..9).map(|at| on("x", "a/b", at)).collect();
        all.push(on("y", "a/b", 1));
        all.push(Build { kind: Kind::Binary, ..on("x", "a/b", 2) });
        let kept = bounded(all);
        let ats: Vec<i64> = kept.iter().map(|build| build.at).collect();
        assert_eq!(ats, [6, 7, 8, 1, 2]);
        let many = (0..30_000).map(|at| on("x", &format!("a/b{at}"), at)).collect();
        let kept = bounded(many);
        assert_eq!((kept.len(), kept.last().unwrap().at), (MOST_LINES, 29_999));
    }

    #[test]
    fn a_processor_is_known_by_its_name() {
        let x86 = "processor\t: 0\nmodel\t\t: 85\nmodel name\t: Intel(R) Xeon(R) @ 2.80GHz\n";
        assert_eq!(model(x86, "amd64"), "Intel(R) Xeon(R) @ 2.80GHz");
        assert_eq!(model("CPU implementer\t: 0x41\nCPU part\t: 0xd0c\n", "arm64"), "0xd0c");
        assert_eq!(model("", "riscv"), "riscv");
    }
}
