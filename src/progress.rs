//! How the library tells what it is doing; the program decides how that looks.

use crate::portage::emerge::EmergeStatus;

/// One thing worth telling while work goes on.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A new step of the work starts; shown as a line of its own.
    Step(&'a str),
    /// A measurable part starts.
    Begin {
        /// What is being done, a few words: `unpacking`.
        what: &'a str,
        /// Its size in bytes, when known.
        total: Option<u64>,
    },
    /// So many more bytes of the part begun last are done.
    Advance(u64),
    /// The part begun last is over.
    End,
    /// Something the user may want to know.
    Note(&'a str),
    /// Something the user should know.
    Warning(&'a str),
    /// A line of a build log that the user asked to see, safe to print.
    Output(&'a str),
    /// Where a running `emerge` stands.
    Emerge(&'a EmergeStatus),
}

/// Receives [`Event`]s, from any thread.
pub trait Observer: Sync {
    /// Takes one event; must be quick and must not fail.
    fn event(&self, event: &Event<'_>);
}

impl dyn Observer + '_ {
    /// Tells what is done next.
    pub fn step(&self, text: &str) {
        self.event(&Event::Step(text));
    }

    /// Tells something worth knowing.
    pub fn note(&self, text: &str) {
        self.event(&Event::Note(text));
    }

    /// Tells something that the user should look after.
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
