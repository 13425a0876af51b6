//! Checks everything that definitions may name, also what none names yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::diagnostic::{Findings, Place};
use super::super::fragment::Fragment;
use super::super::mentions::Mentions;
use super::super::merge::Merge;
use super::super::names::Shape;
use super::super::{definition, kernel, names, packages, patches, reading};
use crate::did_you_mean::{nearest, question};
use crate::portage::package_files::LineFile;

/// The files that Portage reads in profiles, and so below `/etc/portage/profile/`, but not directly in `/etc/portage` (portage(5),
/// 3.0.83).
const PROFILE_NAMES: [&str; 16] = [
    "make.defaults",
    "package.provided",
    "package.use.force",
    "package.use.mask",
    "package.use.stable",
    "package.use.stable.force",
    "package.use.stable.mask",
    "packages",
    "packages.build",
    "parent",
    "soname.provided",
    "use.force",
    "use.mask",
    "use.stable",
    "use.stable.force",
    "use.stable.mask",
];

pub(super) fn check(findings: &mut Findings<'_>) {
    check_sets(findings);
    check_fragments(findings);
    check_kernels(findings);
    for name in names::list(findings.root(), "user.scripts", Shape::File) {
        definition::read_script(findings, &Path::new("user.scripts").join(name));
    }
    for name in names::list(findings.root(), "user.removes", Shape::File) {
        definition::read_removal(findings, &Path::new("user.removes").join(name));
    }
    patches::add(findings, &mut Merge::default());
    patches::check(findings);
}

fn check_sets(findings: &mut Findings<'_>) {
    for name in names::list(findings.root(), "package.sets", Shape::File) {
        let file = Path::new("package.sets").join(&name);
        if packages::is_portage_set(&name) {
            findings.error_with_hint(
                &Place::whole(&file),
                format!("this set would hide Portage's own `@{name}`"),
                "give it another name",
            );
        }
        packages::read(findings, &file);
    }
}

fn check_fragments(findings: &mut Findings<'_>) {
    let mut dirs = Vec::new();
    for folder in ["cpu.defines", "portage.locals"] {
        dirs.extend(names::list(findings.root(), folder, Shape::Fragment).iter().map(|name| Path::new(folder).join(name)));
    }
    if findings.root().join("portage.global").is_dir() {
        dirs.push("portage.global".into());
    }
    let mut mentions = Mentions::default();
    for dir in &dirs {
        mentions.add(findings, dir);
    }
    findings.each(dirs, |findings, dir: PathBuf| {
        check_file_names(findings, &dir, &mentions);
        let fragment = Fragment::read(findings, &dir);
        let mut merge = Merge::default();
        merge.add(findings, fragment);
        merge.finish(findings);
    });
}

/// Files that Portage does not read are copied all the same. A misspelt name among them has no effect, so it is reported.
fn check_file_names(findings: &mut Findings<'_>, dir: &Path, mentions: &Mentions) {
    for entry in reading::entries_of(findings, dir) {
        let name = entry.name.as_str();
        let place = Place::whole(&dir.join(name));
        if names::PORTAGE_NAMES.contains(&name) || mentions.has(name) {
            continue;
        }
        if PROFILE_NAMES.contains(&name) {
            let hint = format!("move it to `{}`", dir.join("profile").join(name).display());
            findings.warning(&place, format!("Portage reads `{name}` only below `profile/`"), hint);
        } else if let Some(near) = nearest(name, names::PORTAGE_NAMES).filter(|near| near.len() > 4) {
            findings.warning(&place, format!("Portage does not read `{name}`"), question(near));
        } else if name.starts_with("package.") || name.starts_with("make.") {
            let known = names::PORTAGE_NAMES.iter().filter(|known| known.starts_with("package."));
            let known: Vec<String> = known.map(|known| format!("`{known}`")).collect();
            findings.warning(&place, format!("Portage does not read `{name}`"), format!("there are {}", known.join(", ")));
        } else if entry.is_dir {
            check_directory(findings, dir, name);
        } else {
            findings.note(&place, format!("Portage does not read `{name}`; it is copied to `/etc/portage` anyway"));
        }
    }
}

/// A directory of a fragment that neither Portage nor a program of the fragment reads.
fn check_directory(findings: &mut Findings<'_>, dir: &Path, name: &str) {
    let path = dir.join(name);
    let is_fragment = names::is_fragment(&findings.root().join(&path));
    if is_fragment && !dir.starts_with("portage.global") {
        // A fragment of its own, with a nested name.
        return;
    }
    if reading::files_below(findings, &path).is_empty() {
        return;
    }
    let hint = if is_fragment {
        format!("a fragment lies in `portage.locals/{name}`, and definitions list it in `portage.local`")
    } else {
        "it is copied to `/etc/portage` anyway; this note goes away when a `bashrc` names it".to_owned()
    };
    findings.warning(&Place::whole(&path), format!("Portage does not read the directory `{name}`"), hint);
}

/// Files of `env/` that `package.env` names and no fragment contains: by line and name, the definitions that lack them and what to do.
#[derive(Debug, Default)]
pub(super) struct MissingEnv(BTreeMap<(Place, String), (Vec<String>, String)>);

impl MissingEnv {
    /// Checks the fragments of a definition together: only then can something be missing.
    pub(super) fn look(&mut self, definition: &str, merge: &Merge) {
        let env: Vec<&str> = merge.copied.keys().filter_map(|path| path.strip_prefix("env").ok()?.to_str()).collect();
        let entries = merge.lines.get(&LineFile::Env).into_iter().flatten().flat_map(|line| &line.switches.entries);
        for entry in entries.filter(|entry| !env.contains(&entry.switch.name())) {
            let name = entry.switch.name();
            let hint = match (nearest(name, env.iter().copied()), env.is_empty()) {
                (Some(near), _) => question(near),
                (None, true) => "none of them has a file in `env/`".to_owned(),
                (None, false) => format!("there are {}", env.join(", ")),
            };
            for place in &entry.places {
                let lacking = self.0.entry((place.clone(), name.to_owned())).or_insert_with(|| (Vec::new(), hint.clone()));
                lacking.0.push(format!("`{definition}`"));
            }
        }
    }

    pub(super) fn report(self, findings: &mut Findings<'_>) {
        for ((place, name), (definitions, hint)) in self.0 {
            findings.warning(&place, format!("no fragment of {} has a file `env/{name}`", definitions.join(", ")), hint);
        }
    }
}

fn check_kernels(findings: &mut Findings<'_>) {
    for name in names::list(findings.root(), kernel::CONFIGS, Shape::File) {
        let file = Path::new(kernel::CONFIGS).join(&name);
        if file.extension().is_some_and(|extension| extension == "kconf") {
            kernel::check_text(findings, &file);
        } else if file.extension().is_some_and(|extension| extension == "dracut") {
            if !findings.root().join(file.with_extension("kconf")).is_file() {
                let hint = format!("there is no `{}` beside this file", file.with_extension("kconf").display());
                findings.warning(&Place::whole(&file), "no kernel uses these arguments for dracut", hint);
            }
        } else {
            let hint = format!("kernel configurations are called `NAME.kconf`: rename it `{name}.kconf`");
            findings.warning(&Place::whole(&file), "this file is not read", hint);
        }
    }
}
