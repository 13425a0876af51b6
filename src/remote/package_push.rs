//! Publishes the binary packages of states: what their sessions have built or taken from the pool.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::document::MANIFEST_TYPE;
use super::package::{self, PackageOrigin, SignedPackage, Statement};
use super::package_pull::{Verified, is_itself};
use super::push::made_from;
use super::{Error, Remote, Result, Signers};
use crate::context::{self, Context};
use crate::path_error::PathError;
use crate::portage::binpkgs::index::Stanza;
use crate::portage::binpkgs::{self, PoolKind, key_in};
use crate::portage::untrusted;
use crate::progress::{Event, Unit};
use crate::registry::Blob;
use crate::store::State;
use crate::threads;

/// How many packages are sent at once.
const AT_ONCE: usize = 4;

/// What became of a push of packages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PackagesPushed {
    /// What was published, by name with version.
    pub(crate) packages: Vec<String>,
    /// How many were there already.
    pub(crate) there: usize,
    /// Who signed.
    pub(crate) signer: Option<String>,
}

/// A package in a pool.
struct Candidate {
    pool: PathBuf,
    origin: PackageOrigin,
}

/// A package that is ready but for its signature.
struct Ready {
    signed: SignedPackage,
    origin: PackageOrigin,
    document: Blob,
}

/// Publishes what the pools have of the packages of states; if `wholly`, also of those that they were made from. Each package counts once. What
/// is there stays if it is whole, counts here, and is not older than ours. A remote for states only gets none.
pub(crate) fn push_packages(remote: &Remote<'_>, states: &[State], wholly: bool) -> Result<PackagesPushed> {
    if !remote.settings.packages {
        return Ok(PackagesPushed::default());
    }
    let mut all = BTreeMap::new();
    for state in states {
        let chain = if wholly { made_from(remote.cx, state)? } else { vec![state.clone()] };
        all.extend(chain.into_iter().map(|state| (state.id.clone(), state)));
    }
    let mut candidates = candidates(remote.cx, all.values())?;
    let tags: Vec<String> = candidates.keys().map(|key| package::tag_of(key)).collect();
    let there: Vec<String> = remote.repository.has(&tags)?.into_iter().collect();
    let verified = Verified::default();
    let whole = threads::each(AT_ONCE, &there, |tag| match package::key_of_tag(tag) {
        Some(key) => is_whole(remote, key, candidates.get(key), &verified),
        None => Ok(true),
    });
    context::not_interrupted(remote.cx)?;
    let mut pushed = PackagesPushed::default();
    for (tag, is_whole) in there.iter().zip(whole?) {
        if is_whole && let Some(key) = package::key_of_tag(tag) {
            candidates.remove(key);
            pushed.there += 1;
        }
    }
    if candidates.is_empty() {
        return Ok(pushed);
    }
    let sign = |source| Error::Sign { place: remote.shown(), source };
    if !remote.settings.signs() {
        remote.settings.gpg.try_out().map_err(sign)?;
    }
    let ready = sent(remote, &candidates.into_values().collect::<Vec<_>>())?;
    if ready.is_empty() {
        return Ok(pushed);
    }
    let text = Statement::new(ready.iter().map(|ready| ready.signed.clone()).collect()).text();
    let signed = remote.settings.gpg.clear_sign(&text).map_err(sign)?;
    context::not_interrupted(remote.cx)?;
    let statement = remote.put(&signed.bytes)?;
    let named = threads::each(AT_ONCE, &ready, |ready| name(remote, ready, &statement));
    context::not_interrupted(remote.cx)?;
    pushed.packages = named?;
    pushed.signer = Some(signed.fingerprint.to_string());
    Ok(pushed)
}

/// What the pools have of the packages of states, by their keys in a remote: of several builds the youngest.
fn candidates<'s>(cx: &Context<'_>, states: impl Iterator<Item = &'s State>) -> Result<BTreeMap<String, Candidate>> {
    // What we sign counts everywhere, whoever has signed it before.
    let signers = Signers::new(cx);
    let mut found: BTreeMap<String, Candidate> = BTreeMap::new();
    for state in states {
        let (Some(inputs), keys) = (state.origin.made_from().pool(), state.origin.package_keys()) else { continue };
        let pool = binpkgs::pool_dir(&cx.places.binpkgs(), PoolKind::Release, &binpkgs::pool_key(inputs));
        let is_wanted = |entry: &Stanza| {
            let says = |name: &str| entry.get(name).map_or("", String::as_str);
            key_in(entry).is_some_and(|key| keys.get(&format!("{}::{}", says("CPV"), says("REPO"))) == Some(&key))
        };
        for entry in binpkgs::publish::index_of(&pool)?.packages.values().filter(|entry| is_wanted(entry)) {
            let Some(origin) = PackageOrigin::new(inputs, entry).filter(|_| signers.count(entry)) else { continue };
            let key = origin.key();
            if found.get(&key).is_none_or(|other| other.origin.modified() < origin.modified()) {
                found.insert(key, Candidate { pool: pool.clone(), origin });
            }
        }
    }
    Ok(found)
}

/// Whether what is there counts here, has its file, and is not older than `ours`, as in a pool. Else it is replaced.
fn is_whole(remote: &Remote<'_>, key: &str, ours: Option<&Candidate>, verified: &Verified) -> Result<bool> {
    match remote.look_for_package(key, verified) {
        Ok(Some(found)) if ours.is_some_and(|ours| found.origin.modified() < ours.origin.modified()) => Ok(false),
        Ok(Some(found)) => Ok(remote.repository.has_blob(&found.signed.blob())?),
        Ok(None) => Ok(false),
        Err(error) if error.is_of_one() => {
            let words = crate::causes::in_one_line(&error);
            remote.cx.observer.warn(&format!("replacing the package that is there for {key}: {words}"));
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Sends the files and the origins of packages. What is gone from its pool meanwhile is left out.
fn sent(remote: &Remote<'_>, candidates: &[Candidate]) -> Result<Vec<Ready>> {
    let cx = remote.cx;
    let total = candidates.iter().filter_map(|candidate| candidate.origin.says("SIZE").parse::<u64>().ok()).sum();
    cx.observer.event(&Event::Begin { what: "pushing packages", total: Some(total), unit: Unit::Bytes });
    let ready = threads::each(AT_ONCE, candidates, |candidate| ready(remote, candidate));
    cx.observer.event(&Event::End);
    context::not_interrupted(cx)?;
    Ok(ready?.into_iter().flatten().collect())
}

fn ready(remote: &Remote<'_>, candidate: &Candidate) -> Result<Option<Ready>> {
    let origin = &candidate.origin;
    let Some(file) = opened(candidate)? else { return Ok(None) };
    if let Err(flaw) = is_itself(&file, origin).and_then(|()| origin.check_time(crate::clock::now().as_second())) {
        // Nobody would take it.
        tracing::warn!(package = origin.says("CPV"), %flaw, "not pushed");
        return Ok(None);
    }
    let blob = blob_of(&file, &candidate.pool.join(origin.says("PATH")))?;
    if blob.size.to_string() != origin.says("SIZE") {
        return Ok(None);
    }
    remote.repository.put_blob(&blob, &file)?;
    let document = remote.put(&origin.bytes()?)?;
    let signed = SignedPackage {
        key: origin.key(),
        package: origin.says("CPV").to_owned(),
        origin: document.digest.clone(),
        blob: blob.digest,
        size: blob.size,
    };
    Ok(Some(Ready { signed, origin: origin.clone(), document }))
}

/// The file of a package, if it is still in the pool.
fn opened(candidate: &Candidate) -> Result<Option<File>> {
    let read = |source| binpkgs::Error::Read { path: candidate.pool.clone(), source };
    let pool = untrusted::open_root(&candidate.pool).map_err(read)?;
    match untrusted::open_file_in(pool.as_fd(), Path::new(candidate.origin.says("PATH"))) {
        Ok((file, _)) => Ok(Some(file)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(read(error).into()),
    }
}

fn blob_of(mut file: &File, shown: &Path) -> Result<Blob> {
    use std::io::Seek as _;
    let failed = PathError::of("read", shown);
    let mut hash = Sha256::new();
    let size = file.rewind().and_then(|()| io::copy(&mut file, &mut hash)).map_err(failed)?;
    Ok(Blob { digest: format!("sha256:{}", hex::encode(hash.finalize())), size })
}

/// Puts the manifest of a package, which makes it one that is there. Returns its name.
fn name(remote: &Remote<'_>, ready: &Ready, statement: &Blob) -> Result<String> {
    // What somebody has collected meanwhile, the manifest must not name.
    for blob in [&ready.signed.blob(), &ready.document, statement] {
        if !remote.repository.has_blob(blob)? {
            return Err(Error::Collected { place: remote.shown(), digest: blob.digest.clone() });
        }
    }
    let manifest = package::manifest(&ready.signed, &ready.origin, &ready.document, statement);
    remote.repository.put_manifest(&package::tag_of(&ready.signed.key), MANIFEST_TYPE, &manifest.bytes())?;
    Ok(ready.signed.package.clone())
}
