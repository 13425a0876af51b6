//! Shell hooks that run inside a root at fixed phases of a build.
//!
//! ```text
//! rootfs-hooks/PHASE.d/NN-NAME.sh    shipped, and part of the program
//! config/hooks/PHASE.d/NN-NAME.sh    the user's: added by order of name; one of the same phase and name replaces a shipped one,
//!                                    an empty one switches it off
//! ```
//!
//! A hook runs as root of the session with `/` as its working directory and, besides `PATH`, `HOME` and `LANG`, these variables:
//! `GENTOOMUCH_PHASE`, `GENTOOMUCH_PROFILE`, `GENTOOMUCH_DEFINITION`, `GENTOOMUCH_ARCH`. A hook that fails fails the build.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fmt, fs, io};

use sha2::{Digest, Sha256};

use super::diagnostic::{Findings, Place};
use super::{names, reading};
use crate::did_you_mean::nearest;

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Phase {
    /// The Portage profile is selected and the Portage directory installed; nothing has been fetched yet.
    Prepare,
    /// World has been rebuilt, the definition's packages are not installed yet.
    AfterWorld,
    /// A stage4 is about to install its packages.
    Stage,
    /// Everything is installed, scripts have run; the commit comes next.
    Finish,
}

impl Phase {
    /// All phases, in order.
    pub(crate) const ALL: [Self; 4] = [Self::Prepare, Self::AfterWorld, Self::Stage, Self::Finish];

    /// As in `PHASE.d` and `GENTOOMUCH_PHASE`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::AfterWorld => "after-world",
            Self::Stage => "stage",
            Self::Finish => "finish",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A phase that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no phase; there are `prepare`, `after-world`, `stage` and `finish`")]
pub struct UnknownPhase(String);

impl FromStr for Phase {
    type Err = UnknownPhase;

    fn from_str(text: &str) -> Result<Self, UnknownPhase> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == text).ok_or_else(|| UnknownPhase(text.to_owned()))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hook {
    /// When it runs.
    pub phase: Phase,
    /// `NN-NAME.sh`
    pub name: String,
    /// Where it was read; `None` for a shipped one.
    pub path: Option<PathBuf>,
    /// The script.
    pub contents: String,
}

/// Errors of hooks.
#[derive(Debug, thiserror::Error)]
pub enum HooksError {
    /// A directory or file that cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// What could not be read.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A directory that is not called `PHASE.d`.
    #[error("`{path}` is no directory of hooks")]
    Phase {
        path: PathBuf,
        #[source]
        source: UnknownPhase,
    },
    /// A file whose name does not give its order.
    #[error("`{0}` is not named `NN-NAME.sh`")]
    Name(PathBuf),
    /// A script without its `#!` line.
    #[error("`{0}` does not begin with `#!`")]
    Interpreter(PathBuf),
}

/// The hooks of a build, by phase and name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hooks(BTreeMap<(Phase, String), Hook>);

/// The files of `rootfs-hooks/`, compiled in so that an installed program has them.
const SHIPPED: [(Phase, &str, &str); 5] = [
    (Phase::Prepare, "10-portage-dirs.sh", include_str!("../../rootfs-hooks/prepare.d/10-portage-dirs.sh")),
    (Phase::Prepare, "20-locale.sh", include_str!("../../rootfs-hooks/prepare.d/20-locale.sh")),
    (Phase::AfterWorld, "50-preserved-libs.sh", include_str!("../../rootfs-hooks/after-world.d/50-preserved-libs.sh")),
    (Phase::Stage, "10-env-update.sh", include_str!("../../rootfs-hooks/stage.d/10-env-update.sh")),
    (Phase::Finish, "90-env-update.sh", include_str!("../../rootfs-hooks/finish.d/90-env-update.sh")),
];

impl Hooks {
    /// The shipped ones.
    pub(crate) fn shipped() -> Self {
        let hook = |(phase, name, contents): (Phase, &str, &str)| {
            ((phase, name.to_owned()), Hook { phase, name: name.to_owned(), path: None, contents: contents.to_owned() })
        };
        Self(SHIPPED.into_iter().map(hook).collect())
    }

    /// The shipped ones and those of `hooks/` in the configuration directory `config`.
    pub(crate) fn with_config(config: &Path) -> Result<Self, HooksError> {
        let mut hooks = Self::shipped();
        let dir = config.join("hooks");
        if dir.is_dir() {
            hooks.extend(Self::load(&dir)?);
        }
        Ok(hooks)
    }

    /// The hooks of a directory of `PHASE.d` directories.
    pub(crate) fn load(dir: &Path) -> Result<Self, HooksError> {
        let mut hooks = Self::default();
        for entry in read_entries(dir)? {
            let path = dir.join(&entry.name);
            let phase: Phase = entry
                .name
                .strip_suffix(".d")
                .filter(|_| entry.is_dir)
                .unwrap_or(&entry.name)
                .parse()
                .map_err(|source| HooksError::Phase { path: path.clone(), source })?;
            for file in read_entries(&path)? {
                let path = path.join(&file.name);
                if !is_hook_name(&file.name) || file.is_dir {
                    return Err(HooksError::Name(path));
                }
                let contents = fs::read_to_string(&path).map_err(|source| HooksError::Read { path: path.clone(), source })?;
                if !contents.is_empty() && !contents.starts_with("#!") {
                    return Err(HooksError::Interpreter(path));
                }
                let hook = Hook { phase, name: file.name.clone(), path: Some(path), contents };
                hooks.0.insert((phase, file.name), hook);
            }
        }
        Ok(hooks)
    }

    /// Adds `others`: those with the same phase and name replace earlier ones, empty ones switch them off.
    pub(crate) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// The hooks of `phase`, in order.
    pub(crate) fn of(&self, phase: Phase) -> impl Iterator<Item = &Hook> {
        self.iter().filter(move |hook| hook.phase == phase)
    }

    /// All hooks, by phase and in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Hook> {
        self.0.values().filter(|hook| !hook.contents.is_empty())
    }

    /// The first hook of a stage4 if that does again what the hooks of a definition have done last: both are the shipped ones, which bring
    /// `/etc/profile.env` and the linker's cache up to date.
    pub(crate) fn done_by_base(&self) -> Option<&Hook> {
        let is = |hook: &Hook, name: &str| hook.path.is_none() && hook.name == name;
        let first = self.of(Phase::Stage).next().filter(|hook| is(hook, "10-env-update.sh"))?;
        self.of(Phase::Finish).last().is_some_and(|hook| is(hook, "90-env-update.sh")).then_some(first)
    }

    /// SHA-256 over names and contents for some phases, in hexadecimal: a change to a stage4's hook must not rebuild its base.
    pub(crate) fn digest_of(&self, phases: &[Phase]) -> String {
        let mut hash = Sha256::new();
        for hook in self.iter().filter(|hook| phases.contains(&hook.phase)) {
            for part in [hook.phase.as_str(), &hook.name, &hook.contents] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part);
            }
        }
        hex::encode(hash.finalize())
    }
}

/// Two digits, a hyphen, a name, `.sh`.
fn is_hook_name(name: &str) -> bool {
    let Some((number, rest)) = name.split_once('-') else { return false };
    let two_digits = number.len() == 2 && number.bytes().all(|digit| digit.is_ascii_digit());
    two_digits && rest.strip_suffix(".sh").is_some_and(|rest| !rest.is_empty()) && names::is_name(name)
}

fn read_entries(dir: &Path) -> Result<Vec<reading::Entry>, HooksError> {
    reading::entries(dir).map_err(|source| HooksError::Read { path: dir.to_owned(), source })
}

/// Reports all errors in `hooks/` of the configuration directory.
pub(crate) fn check(findings: &mut Findings<'_>) {
    let dir = Path::new("hooks");
    if !findings.root().join(dir).is_dir() {
        return;
    }
    for entry in reading::entries_of(findings, dir) {
        let path = dir.join(&entry.name);
        let phase = entry.name.strip_suffix(".d").filter(|_| entry.is_dir).unwrap_or(&entry.name);
        if let Err(error) = phase.parse::<Phase>() {
            let near = nearest(phase, Phase::ALL.map(Phase::as_str));
            let hint = near.map_or_else(|| "hooks lie in `hooks/PHASE.d/`".to_owned(), |near| format!("did you mean `{near}.d`?"));
            findings.error_with_hint(&Place::whole(&path), error.to_string(), hint);
            continue;
        }
        if !entry.is_dir {
            findings.error_with_hint(
                &Place::whole(&path),
                "this is no directory of hooks",
                format!("hooks lie in `hooks/{phase}.d/`"),
            );
            continue;
        }
        for file in reading::entries_of(findings, &path) {
            check_hook(findings, &path.join(&file.name), &file);
        }
    }
}

fn check_hook(findings: &mut Findings<'_>, path: &Path, file: &reading::Entry) {
    if file.is_dir || !is_hook_name(&file.name) {
        findings.error_with_hint(
            &Place::whole(path),
            "the hook is not named `NN-NAME.sh`",
            "the two digits give the order of the hooks of a phase",
        );
        return;
    }
    let Some(text) = reading::text(findings, path) else { return };
    // An empty one switches off a shipped one.
    if !text.is_empty() && !text.starts_with("#!") {
        findings.error_with_hint(
            &Place::new(path, 1),
            "the hook does not begin with `#!`",
            "begin it with `#!/bin/sh` or `#!/bin/bash`",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, file: &str, contents: &str) {
        let path = dir.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    #[test]
    fn ships_every_file_of_the_repository() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("rootfs-hooks");
        let on_disk = Hooks::load(&dir).unwrap();
        let shipped = Hooks::shipped();
        assert_eq!(on_disk.digest_of(&Phase::ALL), shipped.digest_of(&Phase::ALL));
        assert!(shipped.of(Phase::Finish).next().is_some());
        for hook in shipped.iter() {
            let opening: Vec<&str> = hook.contents.lines().skip(1).take_while(|line| line.starts_with('#')).collect();
            for part in ["# Purpose:", "# When:", "# Inputs:"] {
                assert!(opening.iter().any(|line| line.starts_with(part)), "{} lacks `{part}`", hook.name);
            }
        }
    }

    #[test]
    fn only_the_shipped_hooks_at_their_places_repeat_each_other() {
        let shipped = Hooks::shipped();
        assert_eq!(shipped.done_by_base().map(|hook| (hook.phase, hook.name.as_str())), Some((Phase::Stage, "10-env-update.sh")));
        for (file, contents) in [
            ("stage.d/05-before.sh", "#!/bin/sh\n"),
            ("stage.d/10-env-update.sh", "#!/bin/sh\n"),
            ("stage.d/10-env-update.sh", ""),
            ("finish.d/95-after.sh", "#!/bin/sh\n"),
            ("finish.d/90-env-update.sh", "#!/bin/sh\n"),
            ("finish.d/90-env-update.sh", ""),
        ] {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), &format!("hooks/{file}"), contents);
            assert_eq!(Hooks::with_config(dir.path()).unwrap().done_by_base(), None, "{file} {contents}");
        }
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "hooks/stage.d/20-mine.sh", "#!/bin/sh\n");
        write(dir.path(), "hooks/finish.d/50-mine.sh", "#!/bin/sh\n");
        assert!(Hooks::with_config(dir.path()).unwrap().done_by_base().is_some());
    }

    #[test]
    fn the_users_add_replace_and_switch_off() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "hooks/finish.d/90-env-update.sh", "");
        write(dir.path(), "hooks/prepare.d/20-locale.sh", "#!/bin/sh\ntrue\n");
        write(dir.path(), "hooks/prepare.d/15-mine.sh", "#!/bin/sh\ntrue\n");
        write(dir.path(), "hooks/README.md", "about them");
        let hooks = Hooks::with_config(dir.path()).unwrap();
        let names: Vec<&str> = hooks.of(Phase::Prepare).map(|hook| hook.name.as_str()).collect();
        assert_eq!(names, ["10-portage-dirs.sh", "15-mine.sh", "20-locale.sh"]);
        assert!(hooks.of(Phase::Prepare).nth(2).unwrap().path.is_some());
        assert_eq!(hooks.of(Phase::Finish).count(), 0);
        assert_ne!(hooks.digest_of(&Phase::ALL), Hooks::shipped().digest_of(&Phase::ALL));
        assert_eq!(hooks.digest_of(&[Phase::Stage]), Hooks::shipped().digest_of(&[Phase::Stage]));
    }

    #[test]
    fn says_which_file_is_no_hook() {
        for (file, contents, message) in [
            ("prepar.d/10-x.sh", "#!/bin/sh\n", "prepar.d` is no directory of hooks"),
            ("prepare.d/x.sh", "#!/bin/sh\n", "prepare.d/x.sh` is not named `NN-NAME.sh`"),
            ("prepare.d/10-x.sh", "true\n", "prepare.d/10-x.sh` does not begin with `#!`"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), file, contents);
            let error = Hooks::load(dir.path()).unwrap_err().to_string();
            assert!(error.ends_with(message), "{error}");
        }
        let error = Hooks::load(Path::new("/nonexistent")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read `/nonexistent`");
    }
}
