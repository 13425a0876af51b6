//! `tree ls` and `tree rm`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::context;
use crate::context::Context;
use crate::store::{Lock, Tree, TreeId, Unused};
use crate::trees::{Error, Result, method_word};

const TREE: &str = "tree/";

/// A snapshot in the list.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct TreeListRow {
    pub id: TreeId,
    pub name: String,
    /// The names that lead to it: the repository's name for the latest, `NAME/REV` for a pinned one.
    pub names: Vec<String>,
    /// When it was synced, RFC 3339.
    pub created: String,
    /// By which method: `git`, `rsync`, `webrsync`, `tar` or `file`.
    pub method: String,
    pub from: String,
    /// Commit, day or digest.
    pub rev: String,
    /// Fingerprint of the signer's primary key.
    pub signer: Option<String>,
    /// Who vouches for it.
    pub vouched: String,
    /// Files in it.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: Option<u64>,
    /// States that were built with it: their name, or the id if they have none.
    pub used_by: Vec<String>,
}

/// A snapshot that was removed.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RemovedTree {
    pub id: TreeId,
    pub name: String,
    /// The name that was removed with it.
    pub removed_name: Option<String>,
    /// Another name leads to it, so it stays.
    pub stays: bool,
}

/// All snapshots, oldest first.
pub(crate) fn tree_rows(cx: &Context<'_>) -> Result<Vec<TreeListRow>> {
    let _shared = context::share_store(cx)?;
    let refs = cx.store.tree_refs()?;
    let users = users_of_trees(cx)?;
    let mut rows = Vec::new();
    for tree in cx.store.trees()? {
        let origin = &tree.meta.origin;
        let text = |field: &str| origin[field].as_str().map(str::to_owned);
        let digest = text("digest").unwrap_or_default();
        let vouched = match (text("vouched"), origin["signer"].is_string()) {
            (Some(word), _) => word,
            (None, true) => "signature".to_owned(),
            (None, false) => "nobody".to_owned(),
        };
        rows.push(TreeListRow {
            name: text("name").unwrap_or_default(),
            names: refs.iter().filter(|(_, id)| *id == tree.id).map(|(name, _)| name.clone()).collect(),
            created: tree.meta.created.clone(),
            method: text("method").unwrap_or_else(|| method_word(None)),
            from: text("from").unwrap_or_default(),
            rev: text("rev").unwrap_or_else(|| format!("sha256:{digest}")),
            signer: text("signer"),
            vouched,
            files: origin["files"].as_u64().unwrap_or_default(),
            bytes: origin["bytes"].as_u64(),
            used_by: users.iter().filter(|(origin, _)| tree.went_into(origin)).map(|(_, name)| name.clone()).collect(),
            id: tree.id,
        });
    }
    Ok(rows)
}

/// The origin of every state as text, and the state's name. Every layout of an origin contains the digests of its trees.
fn users_of_trees(cx: &Context<'_>) -> Result<Vec<(String, String)>> {
    let refs = cx.store.refs()?;
    let named: BTreeMap<_, _> = refs.iter().rev().map(|(name, id)| (id, name)).collect();
    let states = cx.store.states()?.into_iter();
    Ok(states
        .map(|state| (state.origin.to_string(), named.get(&state.id).map_or_else(|| state.id.to_string(), |name| (*name).clone())))
        .collect())
}

/// The snapshot that `NAME`, `NAME@{N}`, `NAME/REV` or the beginning of an id means. Also the name, if the text was a whole one.
pub(crate) fn tree_named(cx: &Context<'_>, text: &str) -> Result<(Tree, Option<String>)> {
    let refs = cx.store.tree_refs()?;
    let unknown = || Error::Unknown { text: text.to_owned(), known: refs.iter().map(|(name, _)| name.clone()).collect() };
    let name = text.split("@{").next().unwrap_or_default();
    if refs.iter().any(|(known, _)| known == name) {
        let id = cx.store.tree_ref_get(text)?.ok_or_else(unknown)?;
        return Ok((cx.store.tree(&id)?, (name == text).then(|| text.to_owned())));
    }
    if text.len() >= 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let mut fits = cx.store.trees()?;
        // The revision of a pin is accepted, too.
        fits.retain(|tree| {
            tree.id.as_str().starts_with(text)
                || tree.meta.origin["rev"].as_str().is_some_and(|rev| rev.trim_start_matches("sha256:").starts_with(text))
        });
        match fits.len() {
            0 => {}
            1 => return Ok((fits.remove(0), None)),
            count => return Err(crate::store::Error::Ambiguous { text: text.to_owned(), count }.into()),
        }
    }
    Err(unknown())
}

/// Removes snapshots that nothing needs. It holds the store's exclusive lock, so that no build starts to use one meanwhile; but what is
/// needed already is said before anybody waits for that.
pub(crate) fn remove_trees(cx: &Context<'_>, texts: &[String]) -> Result<Vec<RemovedTree>> {
    removable(cx, texts)?;
    let exclusive = context::lock_store(cx)?;
    let removed = removable(cx, texts)?;
    remove_now(cx, &exclusive, &removed)?;
    Ok(removed.into_iter().map(|(row, _)| row).collect())
}

/// The snapshots, each with the name that goes.
fn removable(cx: &Context<'_>, texts: &[String]) -> Result<Vec<(RemovedTree, Option<String>)>> {
    if let Some(path) = cx.store.doubts()?.into_iter().next() {
        return Err(crate::store::Error::Doubt { path }.into());
    }
    let users = users_of_trees(cx)?;
    let mut removed: Vec<(RemovedTree, Option<String>)> = Vec::new();
    for text in texts {
        let (tree, name) = tree_named(cx, text)?;
        let others: Vec<String> = cx
            .store
            .tree_refs()?
            .into_iter()
            .filter(|(other, id)| *id == tree.id && Some(other) != name.as_ref() && !texts.contains(other))
            .map(|(other, _)| other)
            .collect();
        // The name of a pin may go while the snapshot stays for other names.
        let stays = name.as_ref().is_some_and(|name| name.contains('/')) && !others.is_empty();
        if !stays {
            let mut by: Vec<String> =
                users.iter().filter(|(origin, _)| tree.went_into(origin)).map(|(_, name)| format!("build state {name}")).collect();
            by.extend(others.iter().map(|other| format!("the name {other}")));
            if !by.is_empty() {
                return Err(Error::InUse { id: tree.id, by, name: others.first().cloned() });
            }
        }
        let repository = tree.meta.origin["name"].as_str().unwrap_or_default().to_owned();
        removed.push((RemovedTree { id: tree.id, name: repository, removed_name: name.clone(), stays }, name));
    }
    Ok(removed)
}

fn remove_now(cx: &Context<'_>, exclusive: &Lock, removed: &[(RemovedTree, Option<String>)]) -> Result<()> {
    for name in removed.iter().filter_map(|(_, name)| name.as_ref()) {
        cx.store.ref_remove(&format!("{TREE}{name}"))?;
    }
    let gone: BTreeSet<TreeId> = removed.iter().filter(|(row, _)| !row.stays).map(|(row, _)| row.id.clone()).collect();
    for (name, history) in cx.store.tree_histories()? {
        let positions: BTreeSet<usize> =
            history.iter().enumerate().skip(1).filter(|(_, entry)| gone.contains(&entry.value)).map(|(at, _)| at).collect();
        if !positions.is_empty() {
            cx.store.ref_forget(exclusive, &format!("{TREE}{name}"), &positions)?;
        }
    }
    cx.store.remove_unused(exclusive, &Unused { trees: gone, ..Unused::default() }, cx.launcher)?;
    Ok(())
}
