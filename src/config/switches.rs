//! Unites lists of switches from several fragments, and finds contradictions.

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostic::{Findings, Place};
use super::history::{Said, Touch};
use crate::portage::use_flags::Switch;

/// What to do about a conflict.
pub(crate) const WAYS_OUT: &str = "drop one of the two, end the later one with `# override`, or move both into one fragment";

/// An entry of a united list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) switch: Switch,
    /// Every line that says so.
    pub(crate) places: Vec<Place>,
    /// Index of the fragment that said so last.
    fragment: usize,
}

/// A word of a fragment, to be united with what earlier fragments say.
#[derive(Debug, Clone)]
pub(crate) struct Word {
    pub(crate) switch: Switch,
    pub(crate) place: Place,
    pub(crate) overrides: bool,
}

impl Word {
    /// The same as a part of the history.
    pub(crate) fn touch(&self, fragment: usize) -> Touch {
        Touch { fragment, place: self.place.clone(), said: Said::Switch(self.switch.clone()), overrides: self.overrides }
    }
}

/// A list of switches in the order of reading.
#[derive(Debug, Clone, Default)]
pub(crate) struct Switches {
    pub(crate) entries: Vec<Entry>,
    /// The position of each name, except of words that clear. Only kept for long lists.
    index: BTreeMap<String, usize>,
}

/// Shorter lists are searched linearly.
const INDEXED_FROM: usize = 24;

impl PartialEq for Switches {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Eq for Switches {}

impl Switches {
    /// Adds the word of fragment number `fragment`. `subject` begins the message of a conflict: "`USE`", "`package.use` for `a/b`".
    pub(crate) fn unite(&mut self, findings: &mut Findings<'_>, fragment: usize, words: Vec<Word>, subject: &str) {
        for word in words {
            match &word.switch {
                Switch::Clear(prefix) => self.clear(findings, fragment, &word, &prefix.clone(), subject),
                Switch::On(_) | Switch::Off(_) => self.switch(findings, fragment, word, subject),
            }
        }
    }

    /// Adds names of which the last one counts most: one that is named again moves to the end.
    pub(crate) fn follow(&mut self, fragment: usize, words: Vec<Word>) {
        for word in words {
            let mut places = match self.position(word.switch.name()) {
                Some(at) => self.remove(at).places,
                None => Vec::new(),
            };
            places.push(word.place);
            self.push(Entry { switch: word.switch, places, fragment });
        }
    }

    fn position(&self, name: &str) -> Option<usize> {
        if self.entries.len() < INDEXED_FROM {
            let same = |entry: &Entry| !matches!(entry.switch, Switch::Clear(_)) && entry.switch.name() == name;
            return self.entries.iter().position(same);
        }
        self.index.get(name).copied()
    }

    fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
        match self.entries.len() {
            short if short < INDEXED_FROM => {}
            INDEXED_FROM => self.reindex(),
            long => self.note(long - 1),
        }
    }

    fn note(&mut self, at: usize) {
        if !matches!(self.entries[at].switch, Switch::Clear(_)) {
            self.index.insert(self.entries[at].switch.name().to_owned(), at);
        }
    }

    fn reindex(&mut self) {
        self.index.clear();
        if self.entries.len() >= INDEXED_FROM {
            (0..self.entries.len()).for_each(|at| self.note(at));
        }
    }

    fn remove(&mut self, at: usize) -> Entry {
        let entry = self.entries.remove(at);
        self.reindex();
        entry
    }

    /// Keeps what `keep` says.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&Entry) -> bool) {
        self.entries.retain(keep);
        self.reindex();
    }

    fn switch(&mut self, findings: &mut Findings<'_>, fragment: usize, word: Word, subject: &str) {
        let Some(at) = self.position(word.switch.name()) else {
            self.push(Entry { switch: word.switch, places: vec![word.place], fragment });
            return;
        };
        let entry = &mut self.entries[at];
        if entry.switch == word.switch {
            entry.fragment = fragment;
            // Places are added in reading order, so a duplicate is the last one.
            if entry.places.last() != Some(&word.place) {
                entry.places.push(word.place);
            }
            return;
        }
        if entry.fragment != fragment && !word.overrides {
            let (now, before) = if matches!(word.switch, Switch::On(_)) { ("on", "off") } else { ("off", "on") };
            let other = entry.places.last().map(ToString::to_string).unwrap_or_default();
            findings.error_with_hint(
                &word.place,
                format!("{subject} switches `{}` {now}, but `{other}` switches it {before}", word.switch.name()),
                WAYS_OUT,
            );
        }
        // The word keeps its own, later position: a `-* a` before it must not clear it.
        self.remove(at);
        self.push(Entry { switch: word.switch, places: vec![word.place], fragment });
    }

    fn clear(&mut self, findings: &mut Findings<'_>, fragment: usize, word: &Word, prefix: &str, subject: &str) {
        let contradicted = self.entries.iter().find(|entry| {
            entry.fragment != fragment
                && matches!(&entry.switch, Switch::On(name) if name.starts_with(prefix) && !name.starts_with("${"))
        });
        if let Some(entry) = contradicted.filter(|_| !word.overrides) {
            let other = entry.places.last().map(ToString::to_string).unwrap_or_default();
            findings.error_with_hint(
                &word.place,
                format!(
                    "{subject} clears everything before with `-{prefix}*`, but `{other}` switches `{}` on",
                    entry.switch.name()
                ),
                WAYS_OUT,
            );
        }
        self.retain(|entry| !entry.switch.name().starts_with(prefix));
        self.push(Entry { switch: word.switch.clone(), places: vec![word.place.clone()], fragment });
    }

    /// The words, separated by spaces.
    pub(crate) fn joined(&self) -> String {
        let words: Vec<String> = self.entries.iter().map(|entry| entry.switch.to_string()).collect();
        words.join(" ")
    }

    /// Every line that contributed, in order, each once.
    pub(crate) fn places(&self) -> Vec<Place> {
        let mut seen = BTreeSet::new();
        self.entries.iter().flat_map(|entry| &entry.places).filter(|place| seen.insert(*place)).cloned().collect()
    }
}
