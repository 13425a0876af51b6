//! `profile show`: what the origins of a profile's states say.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::config::{BUILDER, ConfigDir};
use crate::context::Context;
use crate::names::profiles;
use crate::names::profiles::joined;
use crate::origin::{Import, Origin};
use crate::portage::vdb::Package;
use crate::profile::Result;
use crate::recipe::definition;
use crate::store::{State, StateId, TreeId, split_index};
use crate::{context, inventory, names, uses};

/// Everything that `profile show` shows.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ProfileShown {
    /// `NAME`, or `NAME@{N}` for an earlier state.
    pub name: String,
    /// Whether commands use it when none is named.
    pub default: bool,
    /// The stage3 below it.
    pub stage3: Stage3Shown,
    /// The builder, once it is built.
    pub builder: Option<BuilderShown>,
    /// Layers, bottom first.
    pub layers: usize,
    /// What they occupy, bytes.
    pub total_bytes: u64,
    /// What only this profile has of them, bytes.
    pub own_bytes: u64,
    /// How many packages are installed.
    pub package_count: usize,
    /// The packages, by name.
    pub packages: Vec<Package>,
    /// Other stage3 definitions built on the profile.
    pub definitions: Vec<DefinitionShown>,
    /// Stage4s whose present state was built on it.
    pub stages: Vec<String>,
    /// Its present and earlier states, newest first.
    pub history: Vec<HistoryShown>,
}

/// The stage3 of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Stage3Shown {
    /// The state that it was imported as.
    pub state: StateId,
    /// Name of its file.
    pub name: String,
    /// SHA-512, hexadecimal.
    pub sha512: String,
    /// Fingerprint of the primary key that signed it.
    pub signer: Option<String>,
    /// Whose key that is.
    pub signer_name: Option<String>,
    /// The user's reason for taking an unsigned stage3.
    pub allow_unsigned: Option<String>,
    /// When it was imported, RFC 3339.
    pub imported: String,
}

/// The builder of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct BuilderShown {
    pub state: StateId,
    /// When that was committed, RFC 3339.
    pub created: String,
    /// When it was built from the stage3, RFC 3339: earlier than `created` if it was updated.
    pub bootstrapped: String,
    /// How many updates followed.
    pub updates: usize,
    pub portage_profile: String,
    /// The ebuild trees.
    pub trees: Vec<TreeShown>,
    /// The isolation of the build.
    pub isolation: String,
    /// Which inputs differ from those of the configuration and trees now; `None` if that is unknown.
    pub differs: Option<Vec<String>>,
}

/// An ebuild tree that something was built with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct TreeShown {
    /// Name of the repository.
    pub name: String,
    /// The tree snapshot, if the store still has it.
    pub id: Option<TreeId>,
    /// Digest of its contents.
    pub digest: String,
    /// When it was imported, RFC 3339.
    pub imported: Option<String>,
}

/// A stage3 definition on a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DefinitionShown {
    pub name: String,
    pub state: StateId,
    /// When that was committed, RFC 3339.
    pub created: String,
}

/// A present or earlier state of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct HistoryShown {
    /// `NAME@{N}`, or `NAME` for the present one.
    pub name: String,
    pub state: StateId,
    /// When it became the profile's state, RFC 3339.
    pub since: String,
    /// When it was committed, RFC 3339; `None` if it was removed.
    pub created: Option<String>,
    /// The stage3 below it.
    pub stage3: Option<String>,
    /// Whether `rollback` can go back to it: the state and all its layers exist.
    pub complete: bool,
}

/// Everything about a profile or an earlier state of it (`NAME@{N}`); the default one if `None`.
pub(crate) fn profile_show(cx: &Context<'_>, named: Option<&str>, config: Option<&ConfigDir>) -> Result<ProfileShown> {
    let _shared = context::share_store(cx)?;
    let (profile, index) = profiles::profile_and_index(cx, named)?;
    let state = profiles::profile_state(cx, &profile, index)?;
    let stage3 = profiles::root_of(cx, &state)?;
    let packages: Vec<Package> = serde_json::from_value(inventory::inventory(cx, &state)?)
        .map_err(|source| crate::store::Error::Answer { task: crate::inventory::INVENTORY, source })?;
    let others = states_of_other_profiles(cx, &profile)?;
    let prefix = format!("profile/{profile}/");
    let mut definitions = Vec::new();
    let mut mine = BTreeSet::new();
    for (full, id) in cx.store.refs()? {
        let Some(name) = full.strip_prefix(&prefix) else { continue };
        // A stage4 still belongs to the profile when its base has been rebuilt since.
        mine.extend(cx.store.ref_history(&full)?.into_iter().map(|entry| entry.value));
        if ![BUILDER, "upstream"].contains(&name) {
            let created = cx.store.state(&id)?.created;
            definitions.push(DefinitionShown { name: name.to_owned(), state: id, created });
        }
    }
    let mut stages = Vec::new();
    for (name, id) in cx.store.refs()? {
        if let Some(stage) = name.strip_prefix("stage4/")
            && uses::built_from(cx, &cx.store.state(&id)?)?.is_some_and(|parent| mine.contains(&parent))
        {
            stages.push(stage.to_owned());
        }
    }
    let is_builder = state.parent.is_some();
    Ok(ProfileShown {
        default: profiles::default_profile(cx)?.as_deref() == Some(&profile),
        builder: if is_builder { Some(builder_shown(cx, &state, &stage3, config)?) } else { None },
        layers: state.layers.len(),
        total_bytes: inventory::bytes_of(cx, std::slice::from_ref(&state), &[])?,
        own_bytes: inventory::bytes_of(cx, std::slice::from_ref(&state), &others)?,
        package_count: packages.len(),
        packages,
        definitions,
        stages,
        history: history_shown(cx, &profile)?,
        stage3: stage3_shown(&stage3),
        name: joined(&profile, index),
    })
}

fn builder_shown(cx: &Context<'_>, state: &State, stage3: &State, config: Option<&ConfigDir>) -> Result<BuilderShown> {
    let (mut first, mut updates) = (state.clone(), 0);
    while let Some(parent) = first.parent.as_ref().filter(|parent| **parent != stage3.id) {
        first = cx.store.state(parent)?;
        updates += 1;
    }
    Ok(BuilderShown {
        state: state.id.clone(),
        created: state.created.clone(),
        bootstrapped: first.created,
        updates,
        portage_profile: state.origin.portage_profile().unwrap_or_default().to_owned(),
        trees: trees_of(cx, &state.origin)?,
        isolation: state.origin.isolation().unwrap_or_default().to_owned(),
        differs: config.and_then(|config| definition::differs_from(cx, config, state, stage3)),
    })
}

fn states_of_other_profiles(cx: &Context<'_>, profile: &str) -> Result<Vec<State>> {
    let mine = format!("profile/{profile}/");
    let refs = cx.store.refs()?.into_iter();
    let others = refs.filter(|(name, _)| name.starts_with("profile/") && !name.starts_with(&mine));
    others.map(|(_, id)| Ok(cx.store.state(&id)?)).collect()
}

fn history_shown(cx: &Context<'_>, profile: &str) -> Result<Vec<HistoryShown>> {
    let history = cx.store.ref_history(&profiles::profile_ref(cx, profile)?)?;
    let shown = history.into_iter().enumerate().map(|(index, entry)| {
        let state = cx.store.state(&entry.value).ok();
        let stage3 = state.as_ref().and_then(|state| Some(state.origin.stage3()?.name.clone()));
        HistoryShown {
            name: joined(profile, index),
            since: entry.since,
            created: state.map(|state| state.created),
            stage3,
            complete: profiles::complete_state(cx, &entry.value).is_ok(),
            state: entry.value,
        }
    });
    Ok(shown.collect())
}

/// The trees of a state.
pub(crate) fn trees_of(cx: &Context<'_>, origin: &Origin) -> Result<Vec<TreeShown>> {
    let known = cx.store.trees()?;
    let shown = origin.trees().unwrap_or_default().iter().map(|tree| {
        let found = known.iter().find(|known| known.meta.origin["digest"] == tree.digest.as_str());
        TreeShown {
            name: tree.name.clone(),
            id: found.map(|tree| tree.id.clone()),
            imported: found.map(|tree| tree.meta.created.clone()),
            digest: tree.digest.clone(),
        }
    });
    Ok(shown.collect())
}

/// Refuses an earlier state, for commands that change a profile.
pub(crate) fn present_only(named: Option<&str>) -> Result<()> {
    match named.map(split_index) {
        Some((name, index)) if index > 0 => Err(names::Error::Name { name: joined(name, index), what: "a profile" }.into()),
        _ => Ok(()),
    }
}

fn stage3_shown(state: &State) -> Stage3Shown {
    let Import { name, sha512, signer, allow_unsigned, .. } = state.origin.stage3().cloned().unwrap_or_default();
    Stage3Shown {
        state: state.id.clone(),
        name,
        sha512,
        signer: signer.as_ref().map(|signer| signer.primary.to_string()),
        signer_name: signer.and_then(|signer| signer.uid),
        allow_unsigned,
        imported: state.created.clone(),
    }
}
