//! The questions to Portage about a stage's configuration. Each is asked once, with every line that raises it.

use std::collections::BTreeMap;

use crate::config::{Located, Package, Place, PortageDir};
use crate::portage::atom::Atom;
use crate::portage::package_files::LineFile;
use crate::portage::session_conf::PackageJobs;
use crate::portage::use_flags::Switch;
use crate::query::names::Named;

/// Questions in order, with the lines that they come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Questions(BTreeMap<Named, Vec<Place>>);

impl Questions {
    /// Adds all questions of a merged configuration.
    pub(crate) fn of_configuration(&mut self, portage: &PortageDir) {
        for kind in LineFile::ALL {
            for entry in portage.entries(kind) {
                let atom = entry.atom.to_owned();
                self.add(Named::Atom { atom: atom.clone(), future: kind == LineFile::Mask }, entry.places);
                for word in entry.words() {
                    let Some(name) = name_of(word.switch) else { continue };
                    let on = matches!(word.switch, Switch::On(_));
                    let question = match kind {
                        LineFile::Use => Named::Flag { atom: atom.clone(), flag: name, on },
                        LineFile::License => Named::Licence { name },
                        LineFile::AcceptKeywords | LineFile::Keywords => Named::Keyword { name },
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
            "USE" => Named::GlobalFlag { flag: name, on },
            "ACCEPT_LICENSE" => Named::Licence { name },
            "ACCEPT_KEYWORDS" => Named::Keyword { name },
            "FEATURES" => Named::Feature { name },
            _ => Named::Value { variable: variable.to_owned(), value: name, on },
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

    /// Adds packages that are to be installed.
    pub(crate) fn of_packages(&mut self, packages: &[Located<Package>]) {
        for package in packages {
            let question = match &package.value {
                Package::Atom(atom) => Named::Target { atom: atom.to_string() },
                Package::Set(name) => Named::Set { name: name.clone() },
            };
            self.add(question, &[package.place()]);
        }
    }

    /// Adds packages that may use the network while they are built.
    pub(crate) fn of_atoms(&mut self, atoms: &[Located<Atom>]) {
        for atom in atoms {
            self.add(Named::Target { atom: atom.value.to_string() }, &[atom.place()]);
        }
    }

    /// Adds packages that have their own number of jobs.
    pub(crate) fn of_package_jobs(&mut self, lines: &[Located<PackageJobs>]) {
        for line in lines {
            self.add(Named::Atom { atom: line.value.atom.clone(), future: false }, &[line.place()]);
        }
    }

    /// Adds packages that are not compiled in memory.
    pub(crate) fn of_packages_on_disk(&mut self, atoms: &[Located<Atom>]) {
        for atom in atoms {
            self.add(Named::Atom { atom: atom.value.to_string(), future: false }, &[atom.place()]);
        }
    }

    fn add(&mut self, question: Named, places: &[Place]) {
        let known = self.0.entry(question).or_default();
        for place in places {
            if !known.contains(place) {
                known.push(place.clone());
            }
        }
    }

    /// In the order of [`Questions::with_places`].
    pub(crate) fn asked(&self) -> impl Iterator<Item = &Named> {
        self.0.keys()
    }

    /// The questions with the lines that raise each.
    pub(crate) fn with_places(&self) -> impl Iterator<Item = (&Named, &[Place])> {
        self.0.iter().map(|(question, places)| (question, places.as_slice()))
    }
}

/// The name that is switched on or off. `None` if a list is cleared, or if the name has a variable that only Portage can expand.
fn name_of(switch: &Switch) -> Option<String> {
    match switch {
        Switch::Clear(_) => None,
        Switch::On(name) | Switch::Off(name) => (!name.contains("${")).then(|| name.clone()),
    }
}
