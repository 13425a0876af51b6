//! What has lost its definition, or its profile: nothing builds it again under its name.
//!
//! Names of stage4s and of stage3 definitions are held against the configuration, and the profile of everything on a profile against the
//! bootstrapped ones. What is kept, tagged or was exported by its id has no definition, and is no orphan.

use std::collections::BTreeMap;

use crate::config::{BUILDER, ConfigDir};
use crate::context::Context;
use crate::history::Result;
use crate::names::profiles::profiles;
use crate::names::refs::UPSTREAM;

/// What there is a definition for.
#[derive(Debug)]
pub(crate) struct Defined {
    config: ConfigDir,
    profiles: Vec<String>,
    /// Whether what cannot be known is an error; else it is no orphan.
    strict: bool,
}

impl Defined {
    /// Fails without a configuration that has definitions: everything would be an orphan then.
    pub(crate) fn read(cx: &Context<'_>, strict: bool) -> Result<Self> {
        let config = ConfigDir::open(&cx.places.config)?;
        config.check_has_definitions()?;
        Ok(Self { config, profiles: profiles(cx)?, strict })
    }

    /// Why the name is an orphan, if it is one.
    pub(crate) fn orphaned(&self, name: &str) -> Result<Option<String>> {
        match self.judged(name) {
            Err(_) if !self.strict => Ok(None),
            judged => judged,
        }
    }

    fn judged(&self, name: &str) -> Result<Option<String>> {
        let Some((kind, rest)) = name.split_once('/') else { return Ok(None) };
        if kind == "stage4" {
            let gone = !self.config.has_stage4(rest)?;
            return Ok(gone.then(|| format!("the stage4 definition `{rest}` is gone")));
        }
        let (profile, definition) = rest.split_once('/').unwrap_or((rest, ""));
        if ["profile", "kernel", "kernel-sources"].contains(&kind) && !self.profiles.iter().any(|known| known == profile) {
            return Ok(Some(format!("the profile `{profile}` is gone")));
        }
        let is_defined = kind != "profile" || [UPSTREAM, BUILDER].contains(&definition) || self.config.has_stage3(definition)?;
        Ok((!is_defined).then(|| format!("the stage3 definition `{definition}` is gone")))
    }

    /// The orphans among `names`, each with the reason.
    pub(crate) fn orphans<'n>(&self, names: impl Iterator<Item = &'n str>) -> Result<BTreeMap<String, String>> {
        let mut found = BTreeMap::new();
        for name in names {
            if let Some(why) = self.orphaned(name)? {
                found.insert(name.to_owned(), why);
            }
        }
        Ok(found)
    }
}

/// How many there are, for who did not ask for them.
pub(crate) fn note(names: usize, artifacts: usize) -> Option<String> {
    let counted = |number: usize, what: &str| match number {
        0 => None,
        1 => Some(format!("1 {what}")),
        _ => Some(format!("{number} {what}s")),
    };
    let all: Vec<String> = [counted(names, "name"), counted(artifacts, "artifact")].into_iter().flatten().collect();
    let has = if names + artifacts == 1 { "has" } else { "have" };
    (!all.is_empty()).then(|| format!("{} {has} no definition or profile any more; `--orphans` takes them too", all.join(" and ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_many_there_are() {
        for (names, artifacts, words) in [
            (0, 0, None),
            (1, 0, Some("1 name has no definition or profile any more; `--orphans` takes them too")),
            (2, 1, Some("2 names and 1 artifact have no definition or profile any more; `--orphans` takes them too")),
        ] {
            assert_eq!(note(names, artifacts).as_deref(), words);
        }
    }

    #[test]
    fn what_is_an_orphan() {
        let dir = tempfile::tempdir().unwrap();
        for definition in ["stage4.defines/web", "stage4.defines/group/db", "stage3.defines/plain"] {
            std::fs::create_dir_all(dir.path().join(definition)).unwrap();
        }
        let defined = Defined { config: ConfigDir::open(dir.path()).unwrap(), profiles: vec!["demo".to_owned()], strict: true };
        let names = [
            "stage4/web",
            "stage4/old",
            "stage4/group/db",
            "stage4/group/old",
            "profile/demo/upstream",
            "profile/demo/gentoomuch/builder",
            "profile/demo/plain",
            "profile/demo/old",
            "profile/gone/plain",
            "kernel/demo/qemu",
            "kernel/gone/qemu",
            "kernel-sources/gone/gentoo-sources",
            "kept/x",
            "tag/stage4",
            "state/0123",
        ];
        let found = defined.orphans(names.into_iter()).unwrap();
        let found: Vec<String> = found.into_iter().map(|(name, why)| format!("{name}: {why}")).collect();
        assert_eq!(
            found,
            [
                "kernel-sources/gone/gentoo-sources: the profile `gone` is gone",
                "kernel/gone/qemu: the profile `gone` is gone",
                "profile/demo/old: the stage3 definition `old` is gone",
                "profile/gone/plain: the profile `gone` is gone",
                "stage4/group/old: the stage4 definition `group/old` is gone",
                "stage4/old: the stage4 definition `old` is gone",
            ]
        );
    }

    #[test]
    fn without_definitions_nothing_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let error = ConfigDir::open(dir.path()).unwrap().check_has_definitions().unwrap_err();
        assert_eq!(error.to_string(), format!("there are no definitions in `{}`", dir.path().display()));
    }
}
