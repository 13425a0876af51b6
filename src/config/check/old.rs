//! Folders of older layouts: read where their meaning is clear, else reported with what replaces them; never silently ignored.
//!
//! ```text
//! kernel.defines/NAME/{config,sources}   read, where a stage4's `kconf` names NAME
//! patch.profiles/PROFILE                 a list of patches for one profile: now every patch applies to every stage
//! build.hooks/KIND/NAME                  scripts, rm, empty, unmerge, services, and tuple.defines that put them together
//! stage.defines/, packages.sets/, …      renamed since
//! stage3.defines/gentoomuch-builder      what `gentoomuch/builder` was called
//! build.list                             the stages to build
//! ```
//!
//! A folder with nothing but a `README.md` is not reported.

use std::path::Path;

use super::super::diagnostic::{Findings, Place};
use super::super::kernel;
use super::super::names::{self, Shape};
use super::super::reading;
use super::super::{BUILDER, OLD_BUILDER};

/// Folders that were renamed.
const RENAMED: [(&str, &str); 4] = [
    ("packages.flags", "portage.locals"),
    ("packages.sets", "package.sets"),
    ("stage.defines", "stage3.defines"),
    ("patches", "user.patches"),
];

/// Folders below `build.hooks`, and what replaces each.
const BUILD_HOOKS: [(&str, &str); 6] = [
    ("scripts", "put the script into `user.scripts` and name it in `scripts` of the definition"),
    ("rm", "list the paths in a file of `user.removes` and name it in `removes` of a stage4 definition"),
    ("empty", "list the paths in a file of `user.removes` and name it in `removes` of a stage4 definition"),
    ("unmerge", "write a script in `user.scripts` that calls `emerge --unmerge`, and name it in `scripts` of the definition"),
    (
        "services",
        "write a script in `user.scripts` that calls `rc-update add` or `systemctl enable`, and name it in `scripts` of the definition",
    ),
    ("tuple.defines", "name scripts in `scripts` and removals in `removes` of each definition"),
];

/// Whether a folder called `name` is one of an older layout.
pub(super) fn is_folder(name: &str) -> bool {
    [kernel::DEFINES, "patch.profiles", "build.hooks"].contains(&name) || RENAMED.iter().any(|(old, _)| *old == name)
}

/// Reports what older layouts have and this one has not.
pub(super) fn check(findings: &mut Findings<'_>) {
    check_kernels(findings);
    let builders = [BUILDER, OLD_BUILDER].map(|name| Path::new("stage3.defines").join(name));
    if builders.iter().map(|dir| findings.root().join(dir).is_dir()).eq([false, true]) {
        findings.note(&Place::whole(&builders[1]), format!("this is of an older layout: `bootstrap` builds it as `{BUILDER}`"));
    }
    for name in files(findings, "patch.profiles") {
        findings.warning(
            &Place::whole(&Path::new("patch.profiles").join(name)),
            "this list of an older layout is not read: every patch of `user.patches` applies to every stage",
            "keep the patches that you want in `user.patches`, and remove the list",
        );
    }
    for name in files(findings, "build.hooks") {
        let kind = name.split('/').next().unwrap_or_default();
        let replacement =
            BUILD_HOOKS.iter().find(|(known, _)| *known == kind).map_or("hooks lie in `hooks/PHASE.d/NN-NAME.sh`", |k| k.1);
        findings.warning(
            &Place::whole(&Path::new("build.hooks").join(&name)),
            "this hook of an older layout is not read",
            replacement,
        );
    }
    for (old, new) in RENAMED {
        if !files(findings, old).is_empty() {
            findings.warning(
                &Place::whole(Path::new(old)),
                "this folder of an older layout is not read",
                format!("its name is `{new}` now: move the files there"),
            );
        }
    }
    if findings.root().join("build.list").is_file() {
        findings.warning(
            &Place::whole(Path::new("build.list")),
            "this list of an older layout is not read",
            "build each of the stages with `gentoomuch stage build NAME`",
        );
    }
}

fn files(findings: &Findings<'_>, folder: &str) -> Vec<String> {
    names::list(findings.root(), folder, Shape::File)
}

fn check_kernels(findings: &mut Findings<'_>) {
    for name in names::list(findings.root(), kernel::DEFINES, Shape::Directory) {
        let dir = Path::new(kernel::DEFINES).join(&name);
        for entry in reading::entries_of(findings, &dir) {
            if !entry.is_dir && entry.name != "config" && entry.name != "sources" {
                findings.warning(
                    &Place::whole(&dir.join(&entry.name)),
                    "this file of a kernel definition is not read",
                    "a kernel definition has only `config` and `sources`",
                );
            }
        }
        let (config, sources) = (dir.join("config"), dir.join("sources"));
        if findings.root().join(&config).exists() {
            if kernel::read_define(findings, &dir).is_some() {
                findings.note(
                    &Place::whole(&config),
                    format!(
                        "this is of an older layout: it is read if `kconf` of a stage4 \
                    names `{name}`"
                    ),
                );
            }
        } else if findings.root().join(&sources).exists() {
            // The old tool's builder had this one, with its kernel sources.
            findings.warning(
                &Place::whole(&sources),
                "this file is not read: without `config` beside it there is no kernel to build",
                "to install the sources, list them in `packages` of the definition",
            );
        }
    }
}
