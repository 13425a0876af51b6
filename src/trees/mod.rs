//! Ebuild trees: how they are synced, verified, kept as immutable snapshots, and chosen for a build.
//!
//! ```text
//! bring      by git, rsync, webrsync, as a tarball or from a directory, into an area of the store
//! manifests  what came by rsync against its signed Manifests
//! contents   the digest that names a snapshot by what it holds
//! choose     which snapshots a session mounts: the configuration's repositories, at their pins
//! synced     what a session's `repos.conf` says of how they came
//! rows       `tree ls` and `tree rm`; compare: `tree diff`
//! ```
//!
//! ```text
//! refs/tree/NAME.ref        the latest snapshot, moved by each `sync` that follows no pin
//! refs/tree/NAME/REV.ref    one that a pin asks for, so that `clean` leaves it
//! ```
//!
//! A tree is named by the digest of its contents, whatever way it came. So the same tree is the same input of a build. Something must
//! vouch for it: a trusted signature, a pin of its contents, or the user (with a reason, or by naming a directory).

pub(crate) mod bring;
pub(crate) mod choose;
pub(crate) mod compare;
pub(crate) mod contents;
mod error;
pub(crate) mod manifests;
pub(crate) mod rows;
pub(crate) mod synced;

use std::path::PathBuf;

use serde::Serialize;

use crate::config::source::{Method, Revision, TreeSource};
use crate::config::{ConfigDir, Place, TreePin};
use crate::context::Context;
use crate::git::Git;
use crate::progress::Event;
use crate::rsync::Rsync;
use crate::stage3::VerifyOptions;
use crate::stage3::keys::{Purpose, TrustedKeys};
use crate::store::{InMap as _, TempArea, Tree, TreeId};
use crate::trees::bring::{Brought, Vouched};
use crate::trees::contents::{Contents, copy_tree, digest_tree, repo_name};
use crate::{config, context};

pub(crate) use error::{Error, Result};

/// Programs of the host that fetch trees.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub git: Git,
    pub rsync: Rsync,
}

#[derive(Debug, Clone)]
pub(crate) enum SyncFrom {
    /// A published snapshot or a directory on this machine.
    Local(PathBuf),
    /// Another machine.
    Remote(TreeSource),
}

/// What to sync.
#[derive(Debug, Clone)]
pub(crate) struct SyncOptions {
    pub from: SyncFrom,
    /// Which state of it. `None` for the latest.
    pub rev: Option<Revision>,
    /// Name of the repository, if not the one in its `profiles/repo_name`.
    pub name: Option<String>,
    /// A pin asks for it. Then it does not become the latest one.
    pub pinned: bool,
    /// How strict to be with signatures.
    pub verify: VerifyOptions,
    pub programs: Programs,
}

#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Synced {
    /// Name of the repository.
    pub name: String,
    pub id: TreeId,
    /// Commit, day or digest, as in a pin.
    pub rev: String,
    /// SHA-256 of its contents.
    pub digest: String,
    /// Files in it.
    pub files: u64,
    /// Who signed it: fingerprint of the primary key.
    pub signer: Option<String>,
    /// Who vouches for it: `signature`, `pin`, `user` or `nobody`.
    pub vouched: String,
    /// The store had it already.
    pub unchanged: bool,
    /// The line that pins it.
    pub pin: Option<String>,
}

/// A tree in a temporary area, after it was examined.
struct Found {
    name: String,
    from: String,
    contents: Contents,
    brought: Brought,
    known: Option<TreeId>,
}

/// Syncs a tree and points `tree/NAME` at it.
pub(crate) fn sync(cx: &Context<'_>, options: &SyncOptions, keys: &TrustedKeys) -> Result<Synced> {
    let _shared = context::share_store(cx)?;
    if let (Some(name), Some(rev)) = (&options.name, options.rev.as_ref().filter(|rev| rev.is_fixed()))
        && matches!(options.from, SyncFrom::Remote(_))
        && let Some(tree) = choose::find_revision(cx, name, rev)?
    {
        return point_at(cx, options, name, tree.id, Some(rev));
    }
    let area = cx.store.tree_begin()?;
    let result = sync_into(cx, &area, options, keys);
    match result {
        Ok(found) if found.known.is_some() => {
            cx.launcher.remove_trees(&[area.path().to_owned()])?;
            finish_sync(cx, options, found, None)
        }
        Ok(found) => finish_sync(cx, options, found, Some(area)),
        Err(error) => {
            cx.launcher.remove_trees(&[area.path().to_owned()])?;
            context::not_interrupted(cx)?;
            Err(error)
        }
    }
}

/// Syncs the repositories that a configuration names, each at its pin. All of them if `names` is empty.
pub(crate) fn sync_configured(
    cx: &Context<'_>,
    config: &ConfigDir,
    names: &[String],
    options: impl Fn(TreeSource, Option<Revision>, String, bool) -> SyncOptions,
    keys: &TrustedKeys,
    pin: Option<&str>,
) -> Result<Vec<Synced>> {
    let configured = choose::configured_repositories(cx, config)?;
    let names: Vec<&String> = if names.is_empty() { configured.keys().collect() } else { names.iter().collect() };
    let mut wanted = Vec::new();
    for name in &names {
        let Some(repository) = configured.get(*name) else {
            let known = configured.keys().cloned().collect();
            return Err(Error::NotConfigured { name: (*name).clone(), known });
        };
        wanted.push(repository);
    }
    let mut done = Vec::new();
    for repository in wanted {
        let Some(source) = repository.source.clone() else {
            if names.len() > 1 && cx.store.tree_ref_get(&repository.name)?.is_some() {
                cx.observer.note(&format!("`{}` has no source in the configuration: it stays as it was imported", repository.name));
                continue;
            }
            return Err(Error::NoSource { name: repository.name.clone() });
        };
        let fixed = match pin {
            Some("latest") => None,
            Some(rev) => Some(source.revision(rev)?),
            None => repository.rev.as_ref().map(|rev| rev.value.clone()),
        };
        let pinned = fixed.as_ref().is_some_and(Revision::is_fixed);
        let rev = fixed.or_else(|| repository.branch.clone());
        let mut synced = sync(cx, &options(source.clone(), rev, repository.name.clone(), pinned), keys)?;
        if pin.is_some() {
            let source = repository.say_source.then_some(source);
            synced.pin = Some(write_pin(cx, config, &synced, source)?);
        } else if let Some(rev) = &repository.rev {
            synced.pin = Some(rev.place().to_string());
        }
        done.push(synced);
    }
    Ok(done)
}

/// Writes a pin into `env/tree` and returns its place.
pub(crate) fn write_pin(cx: &Context<'_>, config: &ConfigDir, synced: &Synced, source: Option<TreeSource>) -> Result<String> {
    let rev = Revision::parse(&synced.rev)?;
    cx.store.tree_ref_set(&choose::pin_ref(&synced.name, &rev), &synced.id)?;
    let place: Place = config::write_pin(config.root(), &synced.name, &TreePin { source, rev })?;
    Ok(place.to_string())
}

fn sync_into(cx: &Context<'_>, area: &TempArea, options: &SyncOptions, keys: &TrustedKeys) -> Result<Found> {
    let mut brought = bring::bring(cx, area, options, keys.counting_for(Purpose::Tree))?;
    let tree = brought.here.as_ref().map_or_else(|| area.tree(), |tree| tree.path.clone());
    let from = brought.from.clone();
    let own = repo_name(&tree);
    let name = match (&options.name, own) {
        // A user who names a file may give it any name. Only a pinned one must have the repository's own.
        (Some(name), Some(own)) if *name != own && options.pinned => {
            return Err(Error::OtherName { uri: from, name: name.clone(), found: own });
        }
        (Some(name), _) => name.clone(),
        (None, Some(own)) => own,
        (None, None) => {
            return Err(Error::NotATree { path: PathBuf::from(from), problem: "it has no `profiles/repo_name`" });
        }
    };
    let contents = match brought.here.as_ref().and_then(Contents::recorded) {
        Some(contents) => contents,
        None => {
            cx.observer.step(&format!("computing the digest of {name}"));
            digest_tree(&tree)?
        }
    };
    // Only for a file: the other methods check their revision themselves.
    if let (SyncFrom::Local(_), Some(wanted @ (Revision::Date(_) | Revision::Commit(_)))) = (&options.from, &options.rev)
        && brought.rev.as_ref() != Some(wanted)
    {
        let found = brought.rev.as_ref().map_or_else(|| format!("sha256:{}", contents.digest), ToString::to_string);
        return Err(Error::OtherContents { uri: from, wanted: wanted.to_string(), found });
    }
    if let Some(Revision::Digest(wanted)) = &options.rev {
        if *wanted != contents.digest {
            let found = format!("sha256:{}", contents.digest);
            return Err(Error::OtherContents { uri: from, wanted: format!("sha256:{wanted}"), found });
        }
        if brought.vouched == Vouched::Nobody {
            brought.vouched = Vouched::Pin;
        }
    }
    if brought.vouched == Vouched::Nobody && options.verify.allow_unsigned.is_none() {
        let what = format!("`{from}`");
        return Err(Error::Unsigned { what, why: brought.why, digest: Some(contents.digest) });
    }
    // A snapshot that nobody has signed does not stand for the same tree with a signature.
    let fits = |tree: &Tree| {
        let origin = &tree.meta.origin;
        origin["digest"] == contents.digest.as_str() && (origin["signer"].is_string() || brought.signer.is_none())
    };
    let known = cx.store.trees()?.into_iter().find(fits);
    if known.is_none()
        && let Some(here) = &brought.here
    {
        copy_tree(&here.path, &area.tree())?;
    }
    Ok(Found { name, from, contents, brought, known: known.map(|tree| tree.id) })
}

fn finish_sync(cx: &Context<'_>, options: &SyncOptions, found: Found, area: Option<TempArea>) -> Result<Synced> {
    let Found { name, from, contents, brought, known } = found;
    let unchanged = known.is_some();
    let rev = brought.rev.clone().unwrap_or_else(|| Revision::Digest(contents.digest.clone()));
    say_what_is_odd(cx, &name, &contents, &brought)?;
    let (method, uri) = match &options.from {
        SyncFrom::Local(_) => (None, None),
        SyncFrom::Remote(source) => (Some(source.method), Some(source.uri.clone())),
    };
    let id = match (known, area) {
        (Some(id), _) => id,
        (None, Some(area)) => area.commit_tree(serde_json::json!({
            "name": name,
            "from": from,
            "method": method,
            "uri": uri,
            "rev": rev.to_string(),
            "digest": contents.digest,
            "files": contents.files,
            "ebuilds": contents.ebuilds,
            "cached": contents.cached,
            "bytes": contents.bytes,
            "newest": contents.newest.min(crate::clock::now().as_second()),
            "made": brought.made,
            "signer": brought.signer,
            "archive": brought.archive,
            "vouched": brought.vouched.word(),
            "allow_unsigned": brought.allow_unsigned,
        }))?,
        (None, None) => unreachable!("an area is only given up for a tree that is known"),
    };
    let mut synced = point_at(cx, options, &name, id, Some(&rev))?;
    synced.signer = brought.signer;
    brought.vouched.word().clone_into(&mut synced.vouched);
    synced.unchanged = unchanged;
    Ok(synced)
}

/// Moves the name to the new snapshot.
fn point_at(cx: &Context<'_>, options: &SyncOptions, name: &str, id: TreeId, rev: Option<&Revision>) -> Result<Synced> {
    let asked = options.rev.as_ref().filter(|rev| options.pinned && rev.is_fixed());
    if let Some(rev) = asked {
        cx.store.tree_ref_set(&choose::pin_ref(name, rev), &id)?;
    }
    if asked.is_none() || cx.store.tree_ref_get(name)?.is_none() {
        cx.store.tree_ref_set(name, &id)?;
    }
    let origin = cx.store.tree(&id)?.meta.origin;
    let text = |field: &str| origin[field].as_str().unwrap_or_default().to_owned();
    Ok(Synced {
        name: name.to_owned(),
        id,
        rev: rev.map_or_else(|| text("rev"), ToString::to_string),
        digest: text("digest"),
        files: origin["files"].as_u64().unwrap_or_default(),
        signer: origin["signer"].as_str().map(str::to_owned),
        vouched: text("vouched"),
        unchanged: true,
        pin: None,
    })
}

fn say_what_is_odd(cx: &Context<'_>, name: &str, contents: &Contents, brought: &Brought) -> Result<()> {
    if let Some(reason) = &brought.allow_unsigned {
        cx.observer.event(&Event::Warning(&format!("without a trusted signature; accepted because: {reason}")));
    }
    if !contents.cached && contents.ebuilds > 0 {
        let ebuilds = if contents.ebuilds == 1 { "its ebuild".to_owned() } else { format!("its {} ebuilds", contents.ebuilds) };
        let mirror = if contents.ebuilds > 1000 { "; mirrors such as github.com/gentoo-mirror have a cache" } else { "" };
        cx.observer.note(&format!("`{name}` has no metadata/md5-cache: Portage will run {ebuilds} to get their metadata{mirror}"));
    }
    let Some(id) = cx.store.tree_ref_get(name)? else { return Ok(()) };
    let before = cx.store.tree(&id)?.meta.origin;
    let (before, now) = match (before["made"].as_i64(), brought.made) {
        (Some(before), Some(now)) => (Some(before), now),
        _ => (before["newest"].as_i64(), contents.newest),
    };
    if before.is_some_and(|before| before > now) {
        cx.observer.note(&format!("this `{name}` is older than the one before, {id}"));
    }
    Ok(())
}

/// The word for the source. Files of the user have no method.
fn method_word(method: Option<Method>) -> String {
    method.map_or_else(|| "file".to_owned(), |method| method.to_string())
}
