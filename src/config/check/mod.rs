//! Checks the whole directory: finds all errors, also in parts that no stage uses.
//!
//! ```text
//! mod.rs        folders, definitions, names; which of it for stages that are named
//! parts.rs      what definitions name: sets, fragments, kernel configurations, scripts, removals, patches
//! old.rs        folders of older layouts, and what replaces them
//! ```
//!
//! An error in a fragment that five stages share is found five times and reported once.

mod old;
mod parts;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::Path;

use self::parts::MissingEnv;
use super::diagnostic::{Diagnostic, Findings, Place};
use super::names::Shape;
use super::{ConfigDir, Error, Result, definition, env, hooks, names, reading};
use crate::did_you_mean::{nearest, question};

/// Folders that are read.
const FOLDERS: [&str; 13] = [
    "cpu.defines",
    "env",
    "hooks",
    "kernel.configs",
    "keys",
    "package.sets",
    "portage.global",
    "portage.locals",
    "stage3.defines",
    "stage4.defines",
    "user.patches",
    "user.removes",
    "user.scripts",
];

/// What an entry of a folder is called, for names that no list could contain.
const NAMED: [(&str, Shape); 8] = [
    ("cpu.defines", Shape::Fragment),
    ("kernel.configs", Shape::File),
    ("package.sets", Shape::File),
    ("portage.locals", Shape::Fragment),
    ("stage3.defines", Shape::Directory),
    ("stage4.defines", Shape::Directory),
    ("user.removes", Shape::File),
    ("user.scripts", Shape::File),
];

impl ConfigDir {
    /// All findings, sorted by file and line. Without an error among them it can be built from.
    pub fn check(&self, default_arch: &str) -> Vec<Diagnostic> {
        let mut findings = Findings::new(self.root());
        check_folders(&mut findings);
        if !FOLDERS.iter().any(|folder| self.root().join(folder).is_dir()) {
            let place = Place::whole(Path::new("stage3.defines"));
            findings.warning(
                &place,
                "this directory has no folder of a configuration",
                "`gentoomuch init` makes a configuration directory",
            );
        }
        check_names(&mut findings);
        old::check(&mut findings);
        env::read(&mut findings, default_arch);
        parts::check(&mut findings);
        hooks::check(&mut findings);
        let mut missing = MissingEnv::default();
        for name in self.stage3_names() {
            self.check_stage3(&mut findings, &mut missing, &name);
        }
        missing.report(&mut findings);
        for name in self.stage4_names() {
            check_definition_name(&mut findings, "stage4.defines", &name);
            definition::read_stage4(&mut findings, &name, &Path::new("stage4.defines").join(&name));
        }
        findings.into_all()
    }

    /// As [`ConfigDir::check`], for the named stages (see [`ConfigDir::stage`]) and what they use.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] for a stage that does not exist.
    pub fn check_stages(&self, names: &[String], default_arch: &str) -> Result<Vec<Diagnostic>> {
        let mut findings = Findings::new(self.root());
        env::read(&mut findings, default_arch);
        hooks::check(&mut findings);
        let mut missing = MissingEnv::default();
        let mut stage3s = BTreeSet::new();
        for name in names {
            match self.stage_kind(name)? {
                (true, name) => {
                    check_definition_name(&mut findings, "stage4.defines", &name);
                    let dir = Path::new("stage4.defines").join(&name);
                    let stage4 = definition::read_stage4(&mut findings, &name, &dir);
                    // A missing definition is reported elsewhere.
                    stage3s.extend(
                        stage4
                            .map(|stage4| stage4.stage3.value)
                            .filter(|name| names::is_listed(self.root(), "stage3.defines", name)),
                    );
                }
                (false, name) => {
                    stage3s.insert(name);
                }
            }
        }
        for name in stage3s {
            self.check_stage3(&mut findings, &mut missing, &name);
        }
        missing.report(&mut findings);
        Ok(findings.into_all())
    }

    fn check_stage3(&self, findings: &mut Findings<'_>, missing: &mut MissingEnv, name: &str) {
        check_definition_name(findings, "stage3.defines", name);
        let definition = definition::read_stage3(findings, name, &Path::new("stage3.defines").join(name));
        let merge = self.merge(findings, &definition);
        missing.look(name, &merge);
    }

    /// Whether `name` means a stage4 definition, and its name without a prefix.
    fn stage_kind(&self, name: &str) -> Result<(bool, String)> {
        let (prefix, bare) = match name.split_once(':') {
            Some((prefix @ ("stage3" | "stage4"), bare)) => (prefix, bare),
            _ => ("", name),
        };
        if prefix != "stage3" && names::is_listed(self.root(), "stage4.defines", bare) {
            return Ok((true, bare.to_owned()));
        }
        if prefix != "stage4" && names::is_listed(self.root(), "stage3.defines", bare) {
            return Ok((false, bare.to_owned()));
        }
        let (stage4s, stage3s) = (self.stage4_names(), self.stage3_names());
        let (what, mut known) = match prefix {
            "stage3" => ("stage3 definition", stage3s),
            "stage4" => ("stage4 definition", stage4s),
            _ => ("stage4 or stage3 definition", [stage4s, stage3s].concat()),
        };
        known.sort();
        known.dedup();
        let nearest = nearest(bare, &known).map(str::to_owned);
        Err(Error::Unknown { what, name: bare.to_owned(), folder: self.root().to_owned(), nearest, known })
    }
}

fn check_folders(findings: &mut Findings<'_>) {
    for entry in reading::entries_of(findings, Path::new("")) {
        let place = Place::whole(Path::new(&entry.name));
        if FOLDERS.contains(&entry.name.as_str()) {
            if !entry.is_dir {
                findings.error(&place, "this is a file, but a folder is expected here");
            }
        } else if entry.is_dir && !old::is_folder(&entry.name) {
            match nearest(&entry.name, FOLDERS) {
                Some(near) => findings.warning(&place, "this folder is not read", question(near)),
                None => findings.note(&place, "this folder is not read"),
            }
        }
    }
}

/// Finds files where only directories are read, and names that no list could contain.
fn check_names(findings: &mut Findings<'_>) {
    for (folder, shape) in NAMED {
        for name in names::list(findings.root(), folder, shape) {
            if name.chars().any(char::is_control) || name.split('/').any(|part| part.trim() != part) {
                let place = Place::whole(&Path::new(folder).join(&name));
                findings.error_with_hint(&place, format!("no definition can name `{}`", name.escape_debug()), "rename it");
            }
        }
        if shape == Shape::File || !findings.root().join(folder).is_dir() {
            continue;
        }
        for entry in reading::entries_of(findings, Path::new(folder)) {
            if !entry.is_dir {
                let what = if shape == Shape::Fragment { "a fragment" } else { "a definition" };
                findings.warning(
                    &Place::whole(&Path::new(folder).join(&entry.name)),
                    "this file is not read",
                    format!("{what} is a directory: `{folder}/NAME/`"),
                );
            }
        }
    }
}

fn check_definition_name(findings: &mut Findings<'_>, folder: &str, name: &str) {
    if let Some(fault) = names::definition_fault(name) {
        findings.error_with_hint(
            &Place::whole(&Path::new(folder).join(name)),
            format!("the name `{}` {fault}", name.escape_debug()),
            "build states and artifacts get this name: rename the definition",
        );
    }
}
