//! Uniting lists of switches from several fragments, and finding where they contradict each other.

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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Switches(pub(crate) Vec<Entry>);

impl Switches {
    /// Adds what fragment number `fragment` says. `subject` begins the message of a conflict: "`USE`", "`package.use` for `a/b`".
    pub(crate) fn unite(&mut self, findings: &mut Findings<'_>, fragment: usize, words: Vec<Word>, subject: &str) {
        for word in words {
            match &word.switch {
                Switch::Clear(prefix) => self.clear(findings, fragment, &word, &prefix.clone(), subject),
                Switch::On(_) | Switch::Off(_) => self.switch(findings, fragment, word, subject),
            }
        }
    }

    fn switch(&mut self, findings: &mut Findings<'_>, fragment: usize, word: Word, subject: &str) {
        let same_name = |entry: &Entry| !matches!(entry.switch, Switch::Clear(_)) && entry.switch.name() == word.switch.name();
        let Some(at) = self.0.iter().position(same_name) else {
            self.0.push(Entry { switch: word.switch, places: vec![word.place], fragment });
            return;
        };
        let entry = &mut self.0[at];
        if entry.switch == word.switch {
            entry.fragment = fragment;
            if !entry.places.contains(&word.place) {
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
        // The later one stands at its own place in the order: `-* a` before it must not clear it.
        self.0.remove(at);
        self.0.push(Entry { switch: word.switch, places: vec![word.place], fragment });
    }

    fn clear(&mut self, findings: &mut Findings<'_>, fragment: usize, word: &Word, prefix: &str, subject: &str) {
        let contradicted = self.0.iter().find(|entry| {
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
        self.0.retain(|entry| !entry.switch.name().starts_with(prefix));
        self.0.push(Entry { switch: word.switch.clone(), places: vec![word.place.clone()], fragment });
    }

    /// The words, separated by spaces.
    pub(crate) fn joined(&self) -> String {
        let words: Vec<String> = self.0.iter().map(|entry| entry.switch.to_string()).collect();
        words.join(" ")
    }

    /// Every line that contributed, in order, each once.
    pub(crate) fn places(&self) -> Vec<Place> {
        let mut places: Vec<Place> = self.0.iter().flat_map(|entry| entry.places.iter().cloned()).collect();
        let mut seen = std::collections::BTreeSet::new();
        places.retain(|place| seen.insert(place.clone()));
        places
    }
}
