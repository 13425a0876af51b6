//! Whose packages are meant, and in which state Portage is asked about them.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::artifact::recorded::{Recorded, beside};
use crate::config::{BUILDER, ConfigDir};
use crate::context::Context;
use crate::did_you_mean::nearest;
use crate::installed::{Error, Result, check_count};
use crate::names;
use crate::names::refs::{UPSTREAM, ref_name, stage4_ref};
use crate::names::{named, profiles};
use crate::origin;
use crate::path_error::OfFile as _;
use crate::portage::vdb::Package;
use crate::store::{State, StateId};
use crate::uses;

/// A `.json` with thirty thousand packages is shorter.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// Packages, and who knows more about them.
#[derive(Debug)]
pub(super) struct Whose {
    /// A name that commands take, or the path of an artifact.
    pub(super) name: String,
    pub(super) contents: Contents,
    /// Its Portage is asked.
    pub(super) base: State,
}

/// Where packages are listed.
#[derive(Debug)]
pub(super) enum Contents {
    State(State),
    /// An artifact whose state is gone.
    Listed {
        path: PathBuf,
        packages: Vec<Package>,
    },
}

impl Whose {
    pub(super) fn state(&self) -> Option<&StateId> {
        match &self.contents {
            Contents::State(state) => Some(&state.id),
            Contents::Listed { .. } => None,
        }
    }

    fn of(cx: &Context<'_>, name: String, state: State) -> Result<Self> {
        let base = portage_of(cx, &state)?;
        Ok(Self { name, contents: Contents::State(state), base })
    }
}

/// What `words` mean: a stage4, a profile, a definition on the default profile, any name of a state, or the file of an artifact. Without
/// words it is the default profile.
pub(super) fn whose(cx: &Context<'_>, words: Option<&str>) -> Result<Whose> {
    let Some(words) = words else {
        let profile = profiles::profile_or_default(cx, None)?;
        return of_profile(cx, &profile);
    };
    if let Ok(Some(id)) = cx.store.ref_get(&stage4_ref(words)) {
        let name = stage4_ref(words);
        let state = profiles::complete_state(cx, &id).map_err(|source| names::Error::Gone { text: name.clone(), source })?;
        return Whose::of(cx, name, state);
    }
    if profiles::profiles(cx)?.iter().any(|profile| profile == words) {
        return of_profile(cx, words);
    }
    if let Some(profile) = profiles::default_profile(cx)?
        && let Ok(Some(_)) = cx.store.ref_get(&ref_name(&profile, words))
    {
        let name = ref_name(&profile, words);
        let state = named::named(cx, &name)?.state;
        return Whose::of(cx, name, state);
    }
    match named::named(cx, words) {
        Ok(found) => Whose::of(cx, found.at.map_or_else(|| words.to_owned(), |at| at.to_string()), found.state),
        Err(names::Error::Unknown { .. }) if Path::new(words).exists() => of_artifact(cx, Path::new(words)),
        Err(names::Error::Unknown { .. }) if has_definition(cx, words) => Err(Error::NotBuilt { stage: words.to_owned() }),
        Err(names::Error::Unknown { text, nearest: None, known }) => {
            // By itself a stage4 or a profile has a shorter name than as a state.
            let short = known.iter().filter_map(|name| {
                name.strip_prefix("stage4/").or_else(|| name.strip_prefix("profile/")?.strip_suffix("/upstream"))
            });
            let nearest = nearest(&text, short).map(str::to_owned);
            Err(names::Error::Unknown { text, nearest, known }.into())
        }
        Err(error) => Err(error.into()),
    }
}

fn has_definition(cx: &Context<'_>, stage: &str) -> bool {
    ConfigDir::open(&cx.places.config).and_then(|config| config.has_stage4(stage)).unwrap_or(false)
}

/// All stage4s and profiles that have a state, and those whose state cannot be used.
pub(super) fn all(cx: &Context<'_>) -> Result<(Vec<Whose>, Vec<(String, Error)>)> {
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    let mut put = |name: String, whose: Result<Whose>| match whose {
        Ok(whose) => found.push(whose),
        Err(error) => failed.push((name, error)),
    };
    for profile in profiles::profiles(cx)? {
        let whose = of_profile(cx, &profile);
        put(profile, whose);
    }
    for (name, id) in cx.store.refs()?.into_iter().filter(|(name, _)| name.starts_with("stage4/")) {
        let state = profiles::complete_state(cx, &id).map_err(|source| names::Error::Gone { text: name.clone(), source });
        put(name.clone(), state.map_err(Error::from).and_then(|state| Whose::of(cx, name, state)));
    }
    if found.is_empty() && failed.is_empty() { Err(Error::NothingBuilt) } else { Ok((found, failed)) }
}

/// A profile's builder, or its stage3 as long as there is none.
fn of_profile(cx: &Context<'_>, profile: &str) -> Result<Whose> {
    let state = profiles::profile_state(cx, profile, 0)?;
    let name = [BUILDER, UPSTREAM].map(|definition| ref_name(profile, definition));
    let [builder, upstream] = name;
    let name = if cx.store.ref_get(&builder)?.is_some() { builder } else { upstream };
    Whose::of(cx, name, state)
}

/// What a stage4 was built on, also for a state that was made from a stage4; else the state itself.
fn portage_of(cx: &Context<'_>, state: &State) -> Result<State> {
    let mut at = state.clone();
    while at.origin.as_stage4().is_none() {
        match &at.parent {
            Some(parent) => match cx.store.state(parent) {
                Ok(parent) => at = parent,
                Err(_) => return Ok(state.clone()),
            },
            None => return Ok(state.clone()),
        }
    }
    let base = uses::built_from(cx, &at)?.and_then(|base| profiles::complete_state(cx, &base).ok());
    Ok(base.unwrap_or_else(|| state.clone()))
}

/// What is read of an artifact's `.json`.
#[derive(Debug, Deserialize)]
struct Metadata {
    state: String,
    packages: Vec<Package>,
    origin: origin::Recorded,
}

fn of_artifact(cx: &Context<'_>, path: &Path) -> Result<Whose> {
    let json = beside(path, "json");
    if json.metadata().is_ok_and(|meta| meta.len() > MAX_JSON_BYTES) {
        return Err(Error::Damaged { path: path.to_owned(), why: "its `.json` is too long".to_owned() });
    }
    // Only what it says of the files beside it tells that it belongs to this one. Blobs of an image are compared by their sizes.
    match Recorded::judged(path, &[]) {
        Ok(Some(_)) => {}
        Ok(None) => return Err(Error::NoArtifact { path: path.to_owned(), json }),
        Err(why) => return Err(Error::Damaged { path: path.to_owned(), why }),
    }
    let text = std::fs::read(&json).map_err(Error::io("read", &json))?;
    let damaged = |error: serde_json::Error| Error::Damaged { path: path.to_owned(), why: error.to_string() };
    let made: Metadata = serde_json::from_slice(&text).map_err(damaged)?;
    let name = path.to_string_lossy().into_owned();
    if let Some(state) = made.state.parse().ok().and_then(|id: StateId| profiles::complete_state(cx, &id).ok()) {
        return Whose::of(cx, name, state);
    }
    check_count(&name, made.packages.len())?;
    let profile = made.origin.profile().filter(|profile| profiles::profile_or_default(cx, Some(profile)).is_ok());
    let profile = match profile {
        Some(profile) => profile.to_owned(),
        None => profiles::default_profile(cx)?.ok_or_else(|| Error::NoProfileFor { path: path.to_owned() })?,
    };
    cx.observer.note(&format!("the state of `{name}` is not in the store: the profile `{profile}` is asked about its packages"));
    let base = profiles::profile_state(cx, &profile, 0)?;
    Ok(Whose { name, contents: Contents::Listed { path: path.to_owned(), packages: made.packages }, base })
}
