//! Chooses the snapshots that a session mounts: the main repository and those in the stage's `repos.conf`, each at its pin in `env/tree`
//! or at its latest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config;
use crate::config::source::{Method, Revision, TreeSource};
use crate::config::{ConfigDir, Located, PortageDir, REPOS_DIR, TreePin};
use crate::context::Context;
use crate::release::OFFICIAL;
use crate::store::{State, Tree};
use crate::trees::{Error, Result};

/// The main repository if the configuration does not name one.
const MAIN: &str = "gentoo";

/// A tree snapshot as sessions see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PinnedTree {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Where sessions see it.
    pub(crate) location: PathBuf,
    pub(crate) digest: String,
    pub(crate) newest: i64,
}

/// A repository in a configuration.
#[derive(Debug, Clone)]
pub(crate) struct Configured {
    pub(crate) name: String,
    pub(crate) source: Option<TreeSource>,
    /// Its pin.
    pub(crate) rev: Option<Located<Revision>>,
    /// The branch to follow if there is no pin.
    pub(crate) branch: Option<Revision>,
    /// A new pin must also name the source, since nothing else in the configuration does.
    pub(crate) say_source: bool,
}

/// The name (without `tree/`) of a pinned snapshot.
pub(crate) fn pin_ref(name: &str, rev: &Revision) -> String {
    format!("{name}/{}", rev.as_name())
}

type Pins = BTreeMap<String, Located<TreePin>>;

/// All repositories of the store, each at its pin. `gentoo` comes first.
pub(crate) fn trees(cx: &Context<'_>) -> Result<Vec<PinnedTree>> {
    let pins = pins(cx)?;
    let names = names_of_trees(cx)?;
    chosen(cx, names.iter().map(|name| (name.as_str(), None)), &pins)
}

/// The repositories of a merged configuration: the main one and those in its `repos.conf`.
pub(crate) fn trees_for(cx: &Context<'_>, portage: &PortageDir) -> Result<Vec<PinnedTree>> {
    let pins = pins(cx)?;
    let repositories = &portage.repositories;
    let known = names_of_trees(cx)?;
    let main = match &repositories.main {
        Some(main) => Some(main.value.clone()),
        None if known.iter().any(|name| name == MAIN) || pins.contains_key(MAIN) => Some(MAIN.to_owned()),
        None if known.len() == 1 => known.first().cloned(),
        None => None,
    };
    let mut wanted: Vec<(&str, Option<&Path>)> = Vec::new();
    for entry in &repositories.entries {
        let name = entry.name.value.as_str();
        if !known.iter().any(|known| known == name) && !pins.contains_key(name) {
            // Without any tree, the error says that one must be synced first.
            let error = if known.is_empty() { Error::NoTree } else { not_here(&entry.name) };
            return Err(error);
        }
        wanted.push((name, Some(&entry.location)));
    }
    if let Some(main) = main.as_deref().filter(|main| repositories.get(main).is_none()) {
        wanted.push((main, None));
    }
    chosen(cx, wanted.into_iter(), &pins)
}

/// The repositories that a state was made with, as they are now. All repositories if the state does not say.
pub(crate) fn trees_of_state(cx: &Context<'_>, state: &State) -> Result<Vec<PinnedTree>> {
    let used = state.origin.trees().or_else(|| state.origin.as_stage4()?.base.as_ref()?.trees());
    let Some(used) = used.filter(|used| !used.is_empty()) else { return trees(cx) };
    chosen(cx, used.iter().map(|tree| (tree.name.as_str(), tree.location.as_deref())), &pins(cx)?)
}

fn pins(cx: &Context<'_>) -> Result<Pins> {
    match ConfigDir::open(&cx.places.config) {
        Ok(config) => Ok(config.env(&cx.settings.arch)?.tree),
        Err(config::Error::Missing(_) | config::Error::NotADirectory(_)) => Ok(Pins::new()),
        Err(error) => Err(error.into()),
    }
}

/// Names of repositories in the store, without pinned snapshots.
pub(crate) fn names_of_trees(cx: &Context<'_>) -> Result<Vec<String>> {
    Ok(cx.store.tree_refs()?.into_iter().map(|(name, _)| name).filter(|name| !name.contains('/')).collect())
}

fn chosen<'n>(cx: &Context<'_>, wanted: impl Iterator<Item = (&'n str, Option<&'n Path>)>, pins: &Pins) -> Result<Vec<PinnedTree>> {
    let mut trees = Vec::new();
    for (name, location) in wanted {
        let tree = match pins.get(name) {
            Some(pin) => find_revision(cx, name, &pin.value.rev)?.ok_or_else(|| Error::PinNotHere {
                place: pin.place(),
                name: name.to_owned(),
                rev: pin.value.rev.to_string(),
            })?,
            None => match cx.store.tree_ref_get(name)? {
                Some(id) => cx.store.tree(&id)?,
                None => return Err(Error::NoTree),
            },
        };
        let origin = &tree.meta.origin;
        trees.push(PinnedTree {
            name: name.to_owned(),
            location: location.map_or_else(|| Path::new(REPOS_DIR).join(name), Path::to_owned),
            digest: origin["digest"].as_str().unwrap_or_default().to_owned(),
            newest: origin["newest"].as_i64().unwrap_or_default(),
            path: tree.path,
        });
    }
    if trees.is_empty() {
        return Err(Error::NoTree);
    }
    trees.sort_by(|a, b| (a.name != MAIN, &a.name).cmp(&(b.name != MAIN, &b.name)));
    Ok(trees)
}

/// The snapshot of `name` at a fixed revision.
pub(crate) fn find_revision(cx: &Context<'_>, name: &str, rev: &Revision) -> Result<Option<Tree>> {
    if let Some(id) = cx.store.tree_ref_get(&pin_ref(name, rev))?
        && let Ok(tree) = cx.store.tree(&id)
    {
        return Ok(Some(tree));
    }
    let fits = |tree: &Tree| {
        let origin = &tree.meta.origin;
        let same = match rev {
            Revision::Digest(digest) => origin["digest"] == digest.as_str(),
            Revision::Commit(_) | Revision::Date(_) => origin["rev"] == rev.to_string(),
            Revision::Moving(_) => false,
        };
        same && origin["name"] == name
    };
    Ok(cx.store.trees()?.into_iter().rev().find(fits))
}

/// The snapshot of a repository with this digest, if the store still has it.
pub(crate) fn tree_with_digest(cx: &Context<'_>, name: &str, digest: &str) -> Result<Option<Tree>> {
    find_revision(cx, name, &Revision::Digest(digest.to_owned()))
}

/// The main repository, and those in any stage3 definition or in `env/tree`.
pub(crate) fn configured_repositories(cx: &Context<'_>, config: &ConfigDir) -> Result<BTreeMap<String, Configured>> {
    let mut found: BTreeMap<String, Configured> = BTreeMap::new();
    let mut sources: BTreeMap<String, Located<TreeSource>> = BTreeMap::new();
    let fresh = |name: &str| Configured { name: name.to_owned(), source: None, rev: None, branch: None, say_source: true };
    for name in config.stage3_names() {
        let repositories = config.portage_dir(&config.stage3(&name)?)?.repositories;
        let main = repositories.main.map_or_else(|| MAIN.to_owned(), |main| main.value);
        found.entry(main.clone()).or_insert_with(|| fresh(&main));
        for entry in repositories.entries {
            let name = entry.name.value;
            let configured = found.entry(name.clone()).or_insert_with(|| fresh(&name));
            configured.branch = configured.branch.take().or(entry.branch);
            let Some(source) = entry.source else { continue };
            let place = source.place();
            let uri = source.value.clone().map_err(|source| Error::BadSource { place: place.clone(), source })?;
            let known = sources.entry(name.clone()).or_insert_with(|| source.with(uri.clone()));
            if known.value != uri {
                let (other_place, other) = (known.place(), known.value.to_string());
                return Err(Error::TwoSources { name, place, uri: uri.to_string(), other_place, other });
            }
            configured.source = Some(uri);
            configured.say_source = false;
        }
    }
    if found.is_empty() {
        found.insert(MAIN.to_owned(), fresh(MAIN));
    }
    for (name, pin) in config.env(&cx.settings.arch)?.tree {
        let configured = found.entry(name.clone()).or_insert_with(|| fresh(&name));
        configured.rev = Some(pin.with(pin.value.rev.clone()));
        if let Some(source) = pin.value.source {
            configured.source = Some(source);
            configured.say_source = true;
        }
    }
    if let Some(gentoo) = found.get_mut(MAIN).filter(|gentoo| gentoo.source.is_none()) {
        // webrsync: it is signed, and needs no other program.
        gentoo.source = Some(TreeSource { method: Method::Webrsync, uri: OFFICIAL.to_owned() });
    }
    Ok(found)
}

fn not_here(name: &Located<String>) -> Error {
    Error::NotHere { place: name.place(), name: name.value.clone() }
}
