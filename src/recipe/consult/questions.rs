//! What there is to ask Portage about a stage's configuration, each question once, with every line that raises it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::config::{Located, Package, Place, PortageDir};
use crate::portage::atom::Atom;
use crate::portage::package_files::LineFile;
use crate::portage::use_flags::Switch;

/// A question, in the form that the script takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Question {
    /// Can this be installed?
    Target { atom: String },
    /// Is there such a set?
    Set { name: String },
    /// Does anything match the atom of a `package.*` line? `future`: one that is not there yet may be meant.
    Atom { atom: String, future: bool },
    /// Has any version that matches the flag, and can it be switched so?
    Flag { atom: String, flag: String, on: bool },
    /// Has any package the flag, and can it be switched so?
    GlobalFlag { flag: String, on: bool },
    /// Is it a value of the variable, if that is one of `USE_EXPAND`, and can it be switched so?
    Value { variable: String, value: String, on: bool },
    /// Is there such a licence, or group of licences?
    Licence { name: String },
    /// Is it a keyword of an architecture?
    Keyword { name: String },
    /// Is it one of `FEATURES`?
    Feature { name: String },
}

/// Questions in order, and where each comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Questions(BTreeMap<Question, Vec<Place>>);

impl Questions {
    /// All that a merged configuration raises.
    pub(crate) fn of_configuration(&mut self, portage: &PortageDir) {
        for kind in LineFile::ALL {
            for entry in portage.entries(kind) {
                let atom = entry.atom.to_owned();
                self.add(Question::Atom { atom: atom.clone(), future: kind == LineFile::Mask }, entry.places);
                for word in entry.words() {
                    let Some(name) = name_of(word.switch) else { continue };
                    let on = matches!(word.switch, Switch::On(_));
                    let question = match kind {
                        LineFile::Use => Question::Flag { atom: atom.clone(), flag: name, on },
                        LineFile::License => Question::Licence { name },
                        LineFile::AcceptKeywords | LineFile::Keywords => Question::Keyword { name },
                        _ => continue,
                    };
                    self.add(question, word.places);
                }
            }
        }
        for (variable, _) in portage.variables() {
            self.of_variable(portage, &variable);
        }
    }

    fn of_variable(&mut self, portage: &PortageDir, variable: &str) {
        let question = |name: String, on| match variable {
            "USE" => Question::GlobalFlag { flag: name, on },
            "ACCEPT_LICENSE" => Question::Licence { name },
            "ACCEPT_KEYWORDS" => Question::Keyword { name },
            "FEATURES" => Question::Feature { name },
            _ => Question::Value { variable: variable.to_owned(), value: name, on },
        };
        if let Some(list) = portage.list(variable) {
            for word in list {
                let Some(name) = name_of(word.switch) else { continue };
                self.add(question(name, matches!(word.switch, Switch::On(_))), word.places);
            }
        } else if variable.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_') {
            for word in portage.located_words(variable).unwrap_or_default() {
                let place = word.place();
                self.add(question(word.value, true), &[place]);
            }
        }
    }

    /// What is to be installed.
    pub(crate) fn of_packages(&mut self, packages: &[Located<Package>]) {
        for package in packages {
            let question = match &package.value {
                Package::Atom(atom) => Question::Target { atom: atom.to_string() },
                Package::Set(name) => Question::Set { name: name.clone() },
            };
            self.add(question, &[package.place()]);
        }
    }

    /// What may use the network while it is built.
    pub(crate) fn of_atoms(&mut self, atoms: &[Located<Atom>]) {
        for atom in atoms {
            self.add(Question::Target { atom: atom.value.to_string() }, &[atom.place()]);
        }
    }

    fn add(&mut self, question: Question, places: &[Place]) {
        let known = self.0.entry(question).or_default();
        for place in places {
            if !known.contains(place) {
                known.push(place.clone());
            }
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The questions by their numbers, and the lines that raise each.
    pub(crate) fn numbered(&self) -> Vec<(&Question, &[Place])> {
        self.0.iter().map(|(question, places)| (question, places.as_slice())).collect()
    }

    /// What the script reads.
    pub(crate) fn request(&self) -> serde_json::Value {
        serde_json::json!({ "questions": self.0.keys().collect::<Vec<_>>() })
    }
}

/// What is switched on or off; nothing where a list is cleared, or refers to what only Portage knows.
fn name_of(switch: &Switch) -> Option<String> {
    match switch {
        Switch::Clear(_) => None,
        Switch::On(name) | Switch::Off(name) => (!name.contains("${")).then(|| name.clone()),
    }
}
