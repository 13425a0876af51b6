//! What a node tells while it is built, as lines of a file that others read.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::progress::{EmergeStatus, Event, Observer, PackageStep, Unit};

/// How often what is told is written down, if it can wait.
const PAUSE: Duration = Duration::from_millis(500);
/// A node that writes more has something else to say than progress.
const MOST_BYTES: u64 = 64 << 20;
/// What is counted besides bytes.
const THINGS: [&str; 5] = ["lines", "files", "objects", "deltas", "parts"];
const CLASSES: [&str; 6] = ["elog", "ewarn", "eerror", "einfo", "eqawarn", "log"];

/// An [`Event`] in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Told {
    Step(String),
    Begin { what: String, total: Option<u64>, things: Option<String> },
    Total(u64),
    Advance(u64),
    End,
    Note(String),
    Warning(String),
    Output(String),
    Emerge(EmergeStatus),
    Package { package: String, step: PackageStep },
    Said { package: String, lines: Vec<(String, String)> },
}

impl Told {
    fn of(event: &Event<'_>) -> Self {
        match *event {
            Event::Step(text) => Self::Step(text.to_owned()),
            Event::Begin { what, total, unit } => {
                let things = match unit {
                    Unit::Bytes => None,
                    Unit::Things(things) => Some(things.to_owned()),
                };
                Self::Begin { what: what.to_owned(), total, things }
            }
            Event::Total(total) => Self::Total(total),
            Event::Advance(more) => Self::Advance(more),
            Event::End => Self::End,
            Event::Note(text) => Self::Note(text.to_owned()),
            Event::Warning(text) => Self::Warning(text.to_owned()),
            Event::Output(text) => Self::Output(text.to_owned()),
            Event::Emerge(status) => Self::Emerge(status.clone()),
            Event::Package { package, step } => Self::Package { package: package.to_owned(), step },
            Event::Said { package, lines } => Self::Said {
                package: package.to_owned(),
                lines: lines.iter().map(|(class, line)| ((*class).to_owned(), (*line).to_owned())).collect(),
            },
        }
    }

    fn pass_on(&self, observer: &dyn Observer) {
        let known =
            |text: &str, all: &'static [&'static str]| *all.iter().find(|known| **known == text).unwrap_or(&all[all.len() - 1]);
        match self {
            Self::Step(text) => observer.event(&Event::Step(text)),
            Self::Begin { what, total, things } => {
                let unit = things.as_deref().map_or(Unit::Bytes, |things| Unit::Things(known(things, &THINGS)));
                observer.event(&Event::Begin { what, total: *total, unit });
            }
            Self::Total(total) => observer.event(&Event::Total(*total)),
            Self::Advance(more) => observer.event(&Event::Advance(*more)),
            Self::End => observer.event(&Event::End),
            Self::Note(text) => observer.event(&Event::Note(text)),
            Self::Warning(text) => observer.event(&Event::Warning(text)),
            Self::Output(text) => observer.event(&Event::Output(text)),
            Self::Emerge(status) => observer.event(&Event::Emerge(status)),
            Self::Package { package, step } => observer.event(&Event::Package { package, step: *step }),
            Self::Said { package, lines } => {
                let lines: Vec<_> = lines.iter().map(|(class, line)| (known(class, &CLASSES), line.as_str())).collect();
                observer.event(&Event::Said { package, lines: &lines });
            }
        }
    }
}

/// Writes down what it hears. If that does not work, nobody reads it, and nothing else is lost.
#[derive(Debug)]
pub(super) struct Teller {
    path: PathBuf,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    lines: String,
    /// How far a part has come since.
    advance: u64,
    /// Where emerge stands.
    emerge: Option<EmergeStatus>,
    written: Instant,
    bytes: u64,
}

impl Kept {
    fn add(&mut self, told: &Told) {
        if let Ok(line) = serde_json::to_string(told) {
            self.lines += &line;
            self.lines.push('\n');
        }
    }

    /// What was only counted so far.
    fn settle(&mut self) {
        match std::mem::take(&mut self.advance) {
            0 => {}
            more => self.add(&Told::Advance(more)),
        }
        if let Some(status) = self.emerge.take() {
            self.add(&Told::Emerge(status));
        }
    }
}

impl Teller {
    pub(super) fn new(path: PathBuf) -> Self {
        let kept = Kept { lines: String::new(), advance: 0, emerge: None, written: Instant::now(), bytes: 0 };
        Self { path, kept: Mutex::new(kept) }
    }

    fn write(&self, kept: &mut Kept) {
        kept.settle();
        kept.written = Instant::now();
        let lines = std::mem::take(&mut kept.lines);
        kept.bytes += lines.len() as u64;
        if lines.is_empty() || kept.bytes > MOST_BYTES {
            return;
        }
        if let Err(error) = super::place::append(&self.path, lines.as_bytes()) {
            tracing::debug!("nobody hears what is told: {error}");
        }
    }

    /// Writes what is kept back.
    pub(super) fn flush(&self) {
        self.write(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Observer for Teller {
    fn event(&self, event: &Event<'_>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Advance(more) => kept.advance += more,
            Event::Emerge(status) => kept.emerge = Some((*status).clone()),
            event => {
                kept.settle();
                kept.add(&Told::of(event));
            }
        }
        if kept.written.elapsed() >= PAUSE || matches!(event, Event::Step(_) | Event::Warning(_)) {
            self.write(&mut kept);
        }
    }
}

/// Reads what a [`Teller`] writes, from where it has come to.
#[derive(Debug)]
pub(super) struct Listener {
    path: PathBuf,
    at: u64,
    /// The beginning of a line whose end has not come yet.
    rest: Vec<u8>,
}

impl Listener {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, at: 0, rest: Vec::new() }
    }

    pub(super) fn pass_on(&mut self, observer: &dyn Observer) {
        let new = read_from(&self.path, self.at).unwrap_or_default();
        self.at += new.len() as u64;
        self.rest.extend(new);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            if let Ok(told) = serde_json::from_slice::<Told>(&line) {
                told.pass_on(observer);
            }
        }
    }
}

fn read_from(path: &Path, at: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Observer for Heard {
        fn event(&self, event: &Event<'_>) {
            self.0.lock().unwrap().push(format!("{event:?}"));
        }
    }

    #[test]
    fn what_is_told_is_heard_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        std::fs::write(&path, "").unwrap();
        let (teller, mut listener, heard) = (Teller::new(path.clone()), Listener::new(path), Heard::default());
        listener.pass_on(&heard);
        let status = EmergeStatus { done: 1, total: 2, ..EmergeStatus::default() };
        let events = [
            Event::Step("building"),
            Event::Begin { what: "receiving", total: Some(9), unit: Unit::Things("objects") },
            Event::Advance(3),
            Event::Advance(4),
            Event::End,
            Event::Emerge(&status),
            Event::Package { package: "a/b-1", step: PackageStep::Done },
            Event::Said { package: "a/b-1", lines: &[("ewarn", "mind")] },
            Event::Warning("much"),
        ];
        for event in &events {
            teller.event(event);
        }
        teller.flush();
        listener.pass_on(&heard);
        listener.pass_on(&heard);
        let mut expected: Vec<String> = events.iter().map(|event| format!("{event:?}")).collect();
        expected.splice(2..4, ["Advance(7)".to_owned()]);
        assert_eq!(*heard.0.lock().unwrap(), expected);
    }

    #[test]
    fn half_a_line_waits_for_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        let (mut listener, heard) = (Listener::new(path.clone()), Heard::default());
        std::fs::write(&path, "{\"note\":\"a").unwrap();
        listener.pass_on(&heard);
        std::fs::write(&path, "{\"note\":\"a\"}\nnot ours\n{\"note\":\"b\"}\n").unwrap();
        listener.pass_on(&heard);
        assert_eq!(*heard.0.lock().unwrap(), ["Note(\"a\")", "Note(\"b\")"]);
    }
}
