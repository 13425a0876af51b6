//! The whole directory in one go: everything that is wrong anywhere.

use super::diagnostic::{Diagnostic, Findings, Place};
use super::{ConfigDir, definition, env, packages, reading};
use crate::config::names::{self, Shape};
use std::path::Path;

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

/// Folders of older layouts, and what replaces them.
const OLD_FOLDERS: [(&str, &str); 3] = [
    ("kernel.defines", "kernel configurations are files `kernel.configs/NAME.kconf`"),
    ("patch.profiles", "patches lie in `user.patches/PATCH/CATEGORY/PACKAGE/`"),
    ("build.hooks", "hooks lie in `hooks/PHASE.d/NN-NAME.sh`"),
];

impl ConfigDir {
    /// Everything that can be said about the directory, sorted by file and line. It may be built from if no error is among it.
    pub fn check(&self, default_arch: &str) -> Vec<Diagnostic> {
        let mut findings = Findings::new(self.root());
        check_folders(&mut findings);
        env::read(&mut findings, default_arch);
        for name in names::list(self.root(), "package.sets", Shape::File) {
            packages::read(&mut findings, &Path::new("package.sets").join(name));
        }
        for name in self.stage3_names() {
            let definition = definition::read_stage3(&mut findings, &name, &Path::new("stage3.defines").join(&name));
            self.merge(&mut findings, &definition);
        }
        for name in self.stage4_names() {
            definition::read_stage4(&mut findings, &name, &Path::new("stage4.defines").join(&name));
        }
        super::hooks::check(&mut findings);
        findings.into_all()
    }
}

fn check_folders(findings: &mut Findings<'_>) {
    for entry in reading::entries_of(findings, Path::new("")) {
        let place = Place::whole(Path::new(&entry.name));
        if FOLDERS.contains(&entry.name.as_str()) {
            continue;
        }
        if let Some((_, replacement)) = OLD_FOLDERS.iter().find(|(name, _)| *name == entry.name) {
            findings.warning(&place, "this folder of an older layout is not read", *replacement);
        } else if entry.is_dir {
            let hint = match names::nearest(&entry.name, FOLDERS) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}", FOLDERS.join(", ")),
            };
            findings.warning(&place, "this folder is not read", hint);
        }
    }
}
