//! Events by which the library reports progress; the program decides how they look.

use serde::{Deserialize, Serialize};

/// One thing worth telling while work goes on.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A new step of the work starts; shown as a line of its own.
    Step(&'a str),
    /// A measurable part starts.
    Begin {
        /// What is being done, a few words: `unpacking`.
        what: &'a str,
        /// Its size, when known.
        total: Option<u64>,
        /// What is counted.
        unit: Unit,
    },
    /// The size of the part begun last has become known, or is another one.
    Total(u64),
    /// So much more of the part begun last is done.
    Advance(u64),
    /// The part begun last is over.
    End,
    Note(&'a str),
    Warning(&'a str),
    /// A line of a build log that the user asked to see, safe to print.
    Output(&'a str),
    /// Where a running `emerge` stands.
    Emerge(&'a EmergeStatus),
    /// A package of a running `emerge` has come to another step.
    Package {
        /// `category/name-version`.
        package: &'a str,
        step: PackageStep,
    },
    /// What the ebuild of a package has said to its user: each line with the function that said it (`elog`, `ewarn`, `eerror`), safe to
    /// print.
    Said {
        package: &'a str,
        lines: &'a [(&'static str, &'a str)],
    },
}

/// What the size of a part is counted in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unit {
    #[default]
    Bytes,
    /// Things of a kind: `objects`.
    Things(&'static str),
}

/// Where a package of a running `emerge` has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PackageStep {
    /// It is compiled.
    Building,
    /// Its binary package is unpacked.
    Unpacking,
    /// It is merged into the root.
    Merging,
    /// It is installed.
    Done,
    Failed,
}

/// Receives [`Event`]s, from any thread.
pub trait Observer: Sync {
    /// Takes one event; must be quick and must not fail.
    fn event(&self, event: &Event<'_>);
}

impl dyn Observer + '_ {
    /// Begins a step.
    pub fn step(&self, text: &str) {
        self.event(&Event::Step(text));
    }

    /// Tells something worth knowing.
    pub fn note(&self, text: &str) {
        self.event(&Event::Note(text));
    }

    /// Tells something that needs the user's attention.
    pub fn warn(&self, text: &str) {
        self.event(&Event::Warning(text));
    }
}

/// An observer that ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _event: &Event<'_>) {}
}

/// Where a running `emerge` stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmergeStatus {
    /// Packages finished so far.
    pub done: usize,
    /// Packages in this run.
    pub total: usize,
    /// What is being worked on.
    pub running: Vec<EmergeTask>,
    /// What is brought for it meanwhile, if it needs anything.
    pub fetching: Option<Fetching>,
    /// How long it will still take, if earlier builds tell.
    pub left: Option<Left>,
}

/// How long a package takes, by earlier builds of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Expected {
    /// Seconds from its start to its end.
    pub secs: u64,
    /// It was built on another machine.
    pub guess: bool,
}

/// How long something will still take, by earlier builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Left {
    /// Seconds.
    pub secs: u64,
    /// How many packages or nodes have never been built: `secs` is without them.
    pub unknown: usize,
    /// Some of them were built on another machine.
    pub guess: bool,
}

/// Where fetching for a run stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetching {
    /// Files that are here.
    pub done: usize,
    /// Files that cannot be had.
    pub failed: usize,
    /// Files in all.
    pub total: usize,
    /// Bytes that are here.
    pub bytes_done: u64,
    /// Bytes in all.
    pub bytes_total: u64,
    /// Files that the run waits for.
    pub awaited: Vec<String>,
}

impl Fetching {
    /// Whether there is something to wait for.
    pub fn goes_on(&self) -> bool {
        self.done + self.failed < self.total
    }
}

/// One package that `emerge` is working on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmergeTask {
    /// `category/name-version`.
    pub cpv: String,
    /// The phase, in ebuild terms (`compile`), or `merge`, `fetch`.
    pub phase: String,
    /// Seconds since the package was started.
    pub elapsed_secs: u64,
    /// How long all of it takes, if it was built before.
    pub expected: Option<Expected>,
}
