//! Brings binary packages into their pools.
//!
//! ```text
//! manifests, statements, origins    asked for at the same time; a signature that does not count, or a document that does not agree: refused
//! files                             fetched, and held against digest and size
//! packages-…/Packages    , a/b/…    as a session would leave them; each file says itself that it is the package of its entry
//! pool                              takes them as it takes those of a session
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, FileTimes};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use super::document::Manifest;
use super::package::{self, PACKAGE_TYPE, PackageOrigin, SignedPackage, Statement};
use super::pull::lock_of;
use super::{Error, Flaw, Remote, Result, Signers, layers};
use crate::beneath::remove_tree;
use crate::context::{self, Context};
use crate::durable::{self, Mode};
use crate::path_error::PathError;
use crate::portage::binpkgs::gpkg::{Identity, identity};
use crate::portage::binpkgs::index::Stanza;
use crate::portage::binpkgs::publish::Reason;
use crate::portage::binpkgs::{self, Examiner, INDEX, Index, LIBC, Note, PackageFile, PoolKind, SIGNER, Transfer, key_in};
use crate::registry::Blob;
use crate::sandbox::Interrupt;
use crate::stage3::Signer;
use crate::threads;

/// How many documents are asked for at once.
const AT_ONCE: usize = 8;

/// Packages that were brought, and those that were not.
#[derive(Debug, Default)]
pub(crate) struct Came {
    /// By name with version.
    pub(crate) packages: Vec<String>,
    /// Of their files.
    pub(crate) bytes: u64,
    /// The primary keys of who has signed them.
    pub(crate) signers: BTreeSet<String>,
    /// What is there and does not count, by key.
    pub(crate) refused: Vec<(String, Error)>,
}

/// A package that a remote has, signed by who counts for remotes.
#[derive(Debug)]
pub(super) struct FoundPackage {
    pub(super) signed: SignedPackage,
    pub(super) origin: PackageOrigin,
    pub(super) signer: Signer,
}

/// Statements that were verified, by digest: one is about all packages of a push.
pub(super) type Verified = Mutex<BTreeMap<String, (Arc<Statement>, Signer)>>;

impl Remote<'_> {
    /// What the remote has under the key of a package, once its signature counts. Nothing else is read before.
    pub(super) fn look_for_package(&self, key: &str, verified: &Verified) -> Result<Option<FoundPackage>> {
        let Some(bytes) = self.repository.manifest(&package::tag_of(key))? else { return Ok(None) };
        let (statement, document) = Manifest::parse(&bytes, PACKAGE_TYPE)?.documents(key)?;
        let known = || verified.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known().get(&statement.digest).cloned();
        let (said, signer) = match before {
            Some(before) => before,
            None => {
                let (text, signer) = self.signed_text(&statement, "package")?;
                let said = (Arc::new(Statement::parse(&text)?), signer);
                known().insert(statement.digest.clone(), said.clone());
                said
            }
        };
        let signed = said.of_key(key)?;
        if signed.origin != document.digest {
            return Err(Flaw::Other("origin").into());
        }
        let origin = PackageOrigin::parse(&self.document(&document)?, &signed)?;
        origin.check_time(crate::clock::now().as_second())?;
        Ok(Some(FoundPackage { signed, origin, signer }))
    }
}

impl Remote<'_> {
    /// What a package is called by who has signed it, if that counts and it is not `name`.
    pub(super) fn other_name(&self, key: &str, name: &str, verified: &Verified) -> Result<Option<String>> {
        match self.look_for_package(key, verified) {
            Err(error) if error.is_of_one() => Ok(None),
            found => Ok(found?.map(|found| found.signed.package).filter(|signed| signed != name)),
        }
    }
}

/// The keys of the packages in the pools of this machine that may be used, as remotes have them.
pub(super) fn keys_here(cx: &Context<'_>) -> Result<BTreeSet<String>> {
    let (mut keys, signers) = (BTreeSet::new(), Signers::new(cx));
    for pool in binpkgs::unused::pools(&cx.places.binpkgs())?.into_iter().filter(|pool| !pool.throwaway) {
        let Some(inputs) = binpkgs::inputs_of(&pool.path) else { continue };
        let index = binpkgs::publish::index_of(&pool.path)?;
        let usable = index.packages.values().filter(|entry| signers.count(entry));
        keys.extend(usable.filter_map(|entry| Some(PackageOrigin::new(&inputs, entry)?.key())));
    }
    Ok(keys)
}

/// Brings the packages with these keys that the remote has and no pool here. If a user has asked for them by a `name`, only what was signed
/// says whether they have it.
pub(crate) fn pull_packages(remote: &Remote<'_>, wanted: &BTreeSet<String>, name: Option<&str>) -> Result<Came> {
    let tags: Vec<String> = wanted.iter().map(|key| package::tag_of(key)).collect();
    let there = remote.repository.has(&tags)?;
    if there.is_empty() {
        return Ok(Came::default());
    }
    // Of several sessions that need the same packages one fetches them, and the others find them here. The lock is for other commands.
    let _turn = remote.settings.turn.lock().unwrap_or_else(PoisonError::into_inner);
    let _lock = context::lock(remote.cx, &lock_of(remote))?;
    let here = keys_here(remote.cx)?;
    let keys = there.iter().filter_map(|tag| package::key_of_tag(tag)).filter(|key| !here.contains(*key));
    let (mut came, keys) = (Came::default(), keys.collect::<Vec<&str>>());
    let mut found = look_for_all(remote, &keys, &mut came)?;
    if let Some(name) = name {
        for other in found.extract_if(.., |found| found.signed.package != name) {
            came.refused.push((other.signed.key, Flaw::NotMeant { wanted: name.to_owned() }.into()));
        }
    }
    let found = fetch(remote, found, &mut came)?;
    let mut seen = BTreeSet::new();
    let repeated = found.iter().map(|found| found.signed.blob.clone()).filter(|blob| !seen.insert(blob.clone()));
    let shared: BTreeMap<String, PathBuf> =
        repeated.map(|blob| Ok((blob.clone(), remote.path_of(&Blob { digest: blob, size: 0 })?))).collect::<Result<_>>()?;
    let mut pools: BTreeMap<String, Vec<FoundPackage>> = BTreeMap::new();
    for package in found {
        pools.entry(binpkgs::pool_digest(&package.origin.pool)).or_default().push(package);
    }
    for packages in pools.into_values() {
        enter(remote, packages, &shared, &mut came)?;
    }
    for path in shared.values() {
        durable::remove_if_there(path)?;
    }
    Ok(came)
}

/// What the remote has under these keys. What does not count is noted.
fn look_for_all(remote: &Remote<'_>, keys: &[&str], came: &mut Came) -> Result<Vec<FoundPackage>> {
    let verified = Verified::default();
    let looked = threads::each(AT_ONCE, keys, |key| match remote.look_for_package(key, &verified) {
        Err(error) if error.is_of_one() => Ok(Err(((*key).to_owned(), error))),
        looked => looked.map(Ok),
    });
    context::not_interrupted(remote.cx)?;
    let mut all = Vec::new();
    for looked in looked? {
        match looked {
            Ok(found) => all.extend(found),
            Err(refused) => came.refused.push(refused),
        }
    }
    Ok(all)
}

/// Fetches the files of packages. One that is not what was signed is noted, and removed from the list.
fn fetch(remote: &Remote<'_>, mut found: Vec<FoundPackage>, came: &mut Came) -> Result<Vec<FoundPackage>> {
    let blobs = found.iter().map(|found| found.signed.blob()).collect();
    let mut failed = remote.fetch_blobs(blobs, true)?;
    let lost: Vec<FoundPackage> = found.extract_if(.., |found| failed.contains_key(&found.signed.blob)).collect();
    for FoundPackage { signed, .. } in lost {
        // Two packages may have the same file.
        let error = failed.remove(&signed.blob).map_or_else(|| Flaw::Other("file").into(), Error::from);
        came.refused.push((signed.key, error));
    }
    Ok(found)
}

/// Packages on their way into a pool, as a session would leave them. They are removed when this is dropped.
struct Staging {
    dir: PathBuf,
    index: Index,
}

impl Staging {
    fn new(cx: &Context<'_>) -> Result<Self> {
        let staging = Self { dir: layers::place(cx)?.join(layers::unique(layers::STAGING)), index: Index::default() };
        durable::make_dirs(&staging.dir, Mode::Exactly(0o700))?;
        Ok(staging)
    }

    /// Takes a package in, and its file, unless that is another package's, too. Returns its path.
    fn take(&mut self, found: &FoundPackage, fetched: &Path, is_shared: bool) -> Result<String> {
        let lacks = || Flaw::Other("entry in the index");
        let file = File::open(fetched).map_err(PathError::of("open", fetched))?;
        is_itself(&file, &found.origin)?;
        let mut package = found.origin.file().ok_or_else(lacks)?;
        // Two repositories may have a package of one name.
        while self.index.packages.contains_key(&package.path) {
            let next = package.build_id.and_then(|number| package.with_build_id(number.checked_add(1)?));
            package = next.ok_or_else(lacks)?;
        }
        let PackageFile { path, .. } = package;
        let target = self.dir.join(&path);
        durable::make_dirs(target.parent().unwrap_or(&self.dir), Mode::Exactly(0o700))?;
        let modified =
            found.origin.modified().and_then(|secs| UNIX_EPOCH.checked_add(Duration::from_secs(secs))).ok_or_else(lacks)?;
        if is_shared {
            std::fs::copy(fetched, &target).map_err(PathError::of("write", &target))?;
        } else {
            durable::publish(fetched, &target)?;
        }
        let set_time = |file: File| file.set_times(FileTimes::new().set_modified(modified));
        File::open(&target).and_then(set_time).map_err(PathError::of("write", &target))?;
        let mut entry: Stanza = found.origin.entry.clone();
        entry.insert("PATH".to_owned(), path.clone());
        entry.insert(SIGNER.to_owned(), found.signer.primary.to_string());
        self.index.packages.insert(path.clone(), entry);
        Ok(path)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.dir) {
            tracing::debug!(%error, "the next pull removes {}", self.dir.display());
        }
    }
}

/// Whether a file is the package that its entry says.
pub(super) fn is_itself(file: &File, origin: &PackageOrigin) -> std::result::Result<(), Flaw> {
    let Identity { cpv, repository } = identity(file)?;
    if cpv == origin.says("CPV") && repository == origin.says("REPO") {
        return Ok(());
    }
    Err(Flaw::OtherPackage { says: format!("{cpv}::{repository}") })
}

/// What [`Staging::take`] has noted of a package.
fn note_in(entry: &Stanza) -> Option<Note> {
    let says = |name: &str| entry.get(name).cloned();
    Some(Note { key: key_in(entry)?, libc: says(LIBC), signer: says(SIGNER) })
}

/// Puts packages of one pool into it. `shared` files are those of several packages, by digest.
fn enter(remote: &Remote<'_>, packages: Vec<FoundPackage>, shared: &BTreeMap<String, PathBuf>, came: &mut Came) -> Result<()> {
    let cx = remote.cx;
    let Some(inputs) = packages.first().map(|found| found.origin.pool.clone()) else { return Ok(()) };
    let mut staging = Staging::new(cx)?;
    let mut taken = BTreeMap::new();
    for found in packages {
        let fetched = remote.path_of(&found.signed.blob())?;
        let is_shared = shared.contains_key(&found.signed.blob);
        match staging.take(&found, &fetched, is_shared) {
            Ok(path) => drop(taken.insert(path, found)),
            Err(error) if error.is_of_one() => {
                if !is_shared {
                    durable::remove_if_there(&fetched)?;
                }
                came.refused.push((found.signed.key, error));
            }
            Err(error) => return Err(error),
        }
    }
    let now = crate::clock::now().as_second();
    durable::replace(&staging.dir.join(INDEX), staging.index.render(now).as_bytes(), Mode::Exactly(0o600))?;
    let pool = binpkgs::open_pool(&cx.places.binpkgs(), PoolKind::Release, &inputs, cx.observer)?;
    let examiner = Examiner::new(Interrupt::asked);
    let published = binpkgs::publish(&staging.dir, &pool, &note_in, Transfer::Move, now, cx.observer, &examiner)?;
    context::not_interrupted(cx)?;
    for skipped in published.skipped {
        let flaw = match skipped.reason {
            // Somebody else has brought or built it meanwhile.
            Reason::AlreadyThere | Reason::Older => continue,
            Reason::Broken => "it is damaged",
            Reason::HoldsDevices => "it holds device nodes, which Portage does not install",
            Reason::TooBig => "it is too large",
            _ => "it is not in the form that Portage writes",
        };
        let Some(found) = taken.remove(&skipped.path) else { continue };
        came.refused.push((found.signed.key, Flaw::Package(flaw).into()));
    }
    for found in taken.into_values() {
        came.packages.push(found.signed.package);
        came.bytes += found.signed.size;
        came.signers.insert(found.signer.primary.to_string());
    }
    Ok(())
}
