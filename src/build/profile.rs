//! Profiles: which are bootstrapped, and which one commands use by default.

use std::fs;

use serde::Serialize;

use super::definition::{BUILDER, ref_name};
use super::engine::Engine;
use super::error::{Error, Result};
use crate::store::{Lock, Wait};

/// One row of `profile ls`.
#[derive(Debug, Clone, Serialize)]
pub struct ProfileRow {
    /// Its name.
    pub name: String,
    /// Whether commands use it when none is named.
    pub default: bool,
    /// The stage3 it was made from.
    pub stage3: Option<String>,
    /// When its builder was committed, RFC 3339.
    pub builder: Option<String>,
    /// The other stage3 definitions that were built on it.
    pub definitions: Vec<String>,
}

impl Engine<'_> {
    /// Held by every command that uses the store, so that nothing it relies on is deleted meanwhile.
    pub(super) fn share_store(&self) -> Result<Lock> {
        let cancelled = || self.interrupt.count() > 0;
        let mut notify = |busy: &crate::store::Busy| self.note(&format!("waiting: {busy}"));
        let wait =
            if self.settings.no_wait { Wait::NoWait } else { Wait::BlockUnless { notify: &mut notify, cancelled: &cancelled } };
        match self.store.lock_shared(wait) {
            Err(crate::store::Error::Cancelled { .. }) => Err(Error::Interrupted { resumable: false }),
            other => Ok(other?),
        }
    }

    /// Names of the bootstrapped profiles, sorted.
    pub fn profiles(&self) -> Result<Vec<String>> {
        let refs = self.store.refs()?;
        Ok(refs
            .iter()
            .filter_map(|(name, _)| name.strip_prefix("profile/")?.strip_suffix("/upstream").map(str::to_owned))
            .collect())
    }

    /// Everything `profile ls` shows.
    pub fn profile_rows(&self) -> Result<Vec<ProfileRow>> {
        let default = self.default_profile()?;
        let refs = self.store.refs()?;
        let mut rows = Vec::new();
        for name in self.profiles()? {
            let prefix = format!("profile/{name}/");
            let mut row = ProfileRow {
                default: default.as_deref() == Some(&name),
                stage3: None,
                builder: None,
                definitions: Vec::new(),
                name,
            };
            for (definition, id) in refs.iter().filter_map(|(name, id)| Some((name.strip_prefix(&prefix)?, id))) {
                let state = self.store.state(id)?;
                match definition {
                    "upstream" => row.stage3 = state.origin["name"].as_str().map(str::to_owned),
                    BUILDER => row.builder = Some(state.created),
                    other => row.definitions.push(other.to_owned()),
                }
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// The profile that commands use when none is named.
    pub fn default_profile(&self) -> Result<Option<String>> {
        let path = self.places.data.join("default-profile");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.split_whitespace().next().map(str::to_owned)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { action: "read", path, source }),
        }
    }

    /// Sets it; the profile must be bootstrapped.
    pub fn set_default_profile(&self, name: &str) -> Result<()> {
        let known = self.profiles()?;
        if !known.iter().any(|profile| profile == name) {
            return Err(Error::NoProfile { profile: name.to_owned(), known });
        }
        let path = self.places.data.join("default-profile");
        let new = self.places.data.join("default-profile.new");
        fs::write(&new, format!("{name}\n")).map_err(Error::io("write", &new))?;
        fs::rename(&new, &path).map_err(Error::io("rename", &new))
    }

    /// `named`, or the default one; it must be bootstrapped.
    pub(super) fn profile_or_default(&self, named: Option<&str>) -> Result<String> {
        let name = match named {
            Some(name) => name.to_owned(),
            None => self.default_profile()?.ok_or(Error::NoDefaultProfile)?,
        };
        if self.store.ref_get(&ref_name(&name, "upstream"))?.is_none() {
            return Err(Error::NoProfile { profile: name, known: self.profiles()? });
        }
        Ok(name)
    }
}
