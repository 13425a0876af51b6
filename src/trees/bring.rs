//! Gets a tree into an area of the store, by each of the methods.

use std::fs;
use std::fs::{File, TryLockError};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::beneath::{self, TreeDir};
use crate::config::source::{Method, Revision, TreeSource};
use crate::context::Context;
use crate::download::{Downloader, Url};
use crate::git::Mirror;
use crate::path_error::OfFile as _;
use crate::progress::{Event, Unit};
use crate::stage3::keys::KeysFor;
use crate::stage3::{Reason, Signer, Verified, VerifyError, VerifyOptions};
use crate::store::{TempArea, Tree};
use crate::trees::contents::{copy_tree, make_plain, single_directory};
use crate::trees::{Error, Result, SyncFrom, SyncOptions, manifests};
use crate::{archive, context, download, stage3};

/// A published snapshot has some 50 MB.
const TARBALL_LIMIT_BYTES: u64 = 4 << 30;
const SIGNATURE_LIMIT_BYTES: u64 = 256 << 10;

/// What makes us trust a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vouched {
    /// A trusted key.
    Signature,
    /// The pin. It names a commit or a digest of the contents.
    Pin,
    /// The user, who named a directory.
    User,
    /// Nobody so far.
    Nobody,
}

impl Vouched {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Pin => "pin",
            Self::User => "user",
            Self::Nobody => "nobody",
        }
    }
}

/// A tarball of a tree.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Archive {
    sha512: String,
    /// The day that its directory is named after.
    day: Option<String>,
}

/// A tree that has come.
#[derive(Debug)]
pub(crate) struct Brought {
    pub(crate) from: String,
    /// The method's own name of this state, if it has one.
    pub(crate) rev: Option<Revision>,
    /// Fingerprint of the primary key.
    pub(crate) signer: Option<String>,
    /// When it was made, in seconds since 1970, according to its signer. Times of files do not tell: a server may set them to anything.
    pub(crate) made: Option<i64>,
    pub(crate) vouched: Vouched,
    /// The user's reason for taking it unsigned.
    pub(crate) allow_unsigned: Option<String>,
    /// Why nothing vouches for it, for the error.
    pub(crate) why: &'static str,
    /// An existing snapshot of the same commit, archive or Manifest. Then nothing was written into the area.
    pub(crate) here: Option<Tree>,
    /// The archive that it was.
    pub(crate) archive: Option<Archive>,
}

pub(crate) fn bring(cx: &Context<'_>, area: &TempArea, options: &SyncOptions, keys: KeysFor<'_>) -> Result<Brought> {
    let mut brought = match &options.from {
        SyncFrom::Local(path) => by_hand(cx, area, path, options, keys)?,
        SyncFrom::Remote(source) => match source.method {
            Method::Git => by_git(cx, area, source, options, keys)?,
            Method::Rsync => by_rsync(cx, area, source, options, keys)?,
            Method::Webrsync | Method::Tar => by_download(cx, area, source, options, keys)?,
        },
    };
    if let Some(signer) = &brought.signer {
        cx.observer.note(&format!("signed by {signer}"));
    }
    let unvouched = brought.vouched == Vouched::Nobody;
    brought.allow_unsigned = options.verify.allow_unsigned.clone().filter(|_| unvouched);
    Ok(brought)
}

fn by_hand(cx: &Context<'_>, area: &TempArea, path: &Path, options: &SyncOptions, keys: KeysFor<'_>) -> Result<Brought> {
    let from = path.display().to_string();
    if fs::metadata(path).map_err(Error::io("read", path))?.is_dir() {
        cx.observer.step(&format!("copying {from}"));
        copy_tree(path, &area.tree())?;
        return Ok(Brought {
            from,
            rev: None,
            signer: None,
            made: None,
            vouched: Vouched::User,
            allow_unsigned: None,
            why: "",
            here: None,
            archive: None,
        });
    }
    let unpacked = unpack_snapshot(cx, area, path, &options.verify, keys)?;
    let archive = Some(unpacked.archive());
    let Unpacked { verified, day, here } = unpacked;
    Ok(Brought { from, rev: day, here, archive, ..signed_or_not(verified.signer.as_ref()) })
}

fn by_git(cx: &Context<'_>, area: &TempArea, source: &TreeSource, options: &SyncOptions, keys: KeysFor<'_>) -> Result<Brought> {
    let cache = cx.places.repos();
    let dir = cache.join(format!("{}.git", cache_name(options.name.as_deref(), source)));
    fs::create_dir_all(&cache).map_err(Error::io("create", &cache))?;
    let _lock = lock_file(cx, &dir.with_extension("git.lock"))?;
    cx.observer.step(&format!("fetching {source}"));
    let cancelled = || cx.interrupt.count() > 0;
    let mirror = Mirror::open(&options.programs.git, &dir, cx.observer, &cancelled)?;
    let commit = mirror.fetch(&source.uri, options.rev.as_ref(), cx.settings.download.offline)?;
    let named = matches!(options.rev, Some(Revision::Commit(_)));
    let short: String = commit.id.chars().take(12).collect();
    let signer = unless_pinned(
        cx,
        stage3::verify_commit(&commit.id, &commit.raw, keys, &options.verify),
        named || matches!(options.rev, Some(Revision::Digest(_))),
        &options.verify,
    )?;
    // The same commit always has the same files, wherever it comes from. So a snapshot that we have need not be checked out again.
    let here = cx.store.trees()?.into_iter().rev().find(|tree| tree.meta.origin["rev"] == commit.id.as_str());
    if here.is_none() {
        cx.observer.step(&format!("checking out {short}"));
        let index = area.path().join("index");
        mirror.checkout(&commit, &area.tree(), &index)?;
        fs::remove_file(&index).map_err(Error::io("remove", &index))?;
        make_plain(&area.tree(), Some(commit.committed))?;
    }
    let mut brought = Brought { rev: Some(Revision::Commit(commit.id)), here, ..signed_or_not(signer.as_ref()) };
    brought.from = source.to_string();
    brought.why = "its commit has no signature of a trusted key";
    if named && brought.vouched == Vouched::Nobody {
        brought.vouched = Vouched::Pin;
    }
    Ok(brought)
}

fn by_rsync(cx: &Context<'_>, area: &TempArea, source: &TreeSource, options: &SyncOptions, keys: KeysFor<'_>) -> Result<Brought> {
    if cx.settings.download.offline {
        return Err(Error::Offline { uri: source.to_string() });
    }
    cx.observer.step(&format!("fetching {source}"));
    let latest = match &options.name {
        Some(name) => cx.store.tree_ref_get(name)?.and_then(|id| cx.store.tree(&id).ok()),
        None => cx.store.trees()?.into_iter().rev().find(|tree| tree.meta.origin["uri"] == source.uri.as_str()),
    };
    let cancelled = || cx.interrupt.count() > 0;
    let rsync = &options.programs.rsync;
    let top = if latest.is_some() { top_manifest(cx, area, source, options)? } else { None };
    if let Some(latest) = latest.as_ref().filter(|latest| may_stand(latest, source, options))
        && let Some(top) = &top
        // What does not count is decided about when all has come.
        && let Some((signer, made)) = manifests::is_of(&latest.path, top, keys, &options.verify).ok().flatten()
    {
        let from = source.to_string();
        return Ok(Brought { from, made, here: Some(latest.clone()), ..signed_or_not(Some(&signer)) });
    }
    let (like, tree) = (latest.map(|tree| tree.path), area.tree());
    let fetch = |like: Option<&Path>| {
        rsync.fetch(&source.uri, &tree, like, cx.observer, &cancelled)?;
        make_plain(&tree, None)?;
        cx.observer.step("comparing the tree with its Manifests");
        if let Some(top) = top.as_ref().filter(|_| like.is_some()) {
            manifests::begins_with(&tree, top)?;
        }
        manifests::verify(&tree, keys, &options.verify)
    };
    let verified = match fetch(like.as_deref()) {
        // What has the size and time of a file of ours was taken from there. It may be another one all the same.
        Err(Error::NotAsSigned { .. }) if like.is_some() => {
            cx.observer.step(&format!("fetching all of {source}"));
            beneath::remove_tree(&tree)?;
            fs::create_dir(&tree).map_err(Error::io("create", &tree))?;
            fetch(None)
        }
        verified => verified,
    };
    let pinned = matches!(options.rev, Some(Revision::Digest(_)));
    let (signer, made) = match verified {
        Err(Error::Untrusted(error)) => (unless_pinned(cx, Err(error), pinned, &options.verify)?, None),
        other => other?.map_or((None, None), |(signer, made)| (Some(signer), made)),
    };
    let why = "it has no signed Manifest at its top";
    Ok(Brought { from: source.to_string(), why, made, ..signed_or_not(signer.as_ref()) })
}

/// Whether a snapshot by rsync is the tree at its place if that has the same signed Manifest. Some things are in no Manifest: modes, empty
/// directories, files that it ignores. So another server is asked for all of it, and so is one that has to have a certain digest.
fn may_stand(latest: &Tree, source: &TreeSource, options: &SyncOptions) -> bool {
    let origin = &latest.meta.origin;
    let is_digest = |rev: &Revision| matches!(rev, Revision::Digest(digest) if origin["digest"] != digest.as_str());
    origin["method"] == Method::Rsync.to_string()
        && origin["signer"].is_string()
        && origin["uri"] == source.uri.as_str()
        && !options.rev.as_ref().is_some_and(is_digest)
}

/// The Manifest at the top of the tree there.
fn top_manifest(cx: &Context<'_>, area: &TempArea, source: &TreeSource, options: &SyncOptions) -> Result<Option<Vec<u8>>> {
    let top = area.path().join(manifests::TOP);
    let cancelled = || cx.interrupt.count() > 0;
    let fetched = options.programs.rsync.fetch_file(&source.uri, manifests::TOP, &top, manifests::LIMIT_BYTES, &cancelled);
    context::not_interrupted(cx)?;
    fetched?;
    let dir = TreeDir::open(area.path())?;
    let Ok(text) = dir.read(manifests::TOP, manifests::LIMIT_BYTES) else { return Ok(None) };
    dir.unlink(manifests::TOP)?;
    Ok(Some(text))
}

fn by_download(
    cx: &Context<'_>,
    area: &TempArea,
    source: &TreeSource,
    options: &SyncOptions,
    keys: KeysFor<'_>,
) -> Result<Brought> {
    let asked = match &options.rev {
        Some(Revision::Date(date)) if source.method == Method::Webrsync => Some(date),
        _ => None,
    };
    let url = match source.method {
        Method::Webrsync => {
            let name = asked.map_or("latest", String::as_str);
            format!("{}/snapshots/gentoo-{name}.tar.xz", source.uri.trim_end_matches('/'))
        }
        _ => source.uri.clone(),
    };
    let url: Url = url.parse().map_err(download::Error::from)?;
    cx.observer.step(&format!("fetching {url}"));
    let target = area.path().join(safe_name(&url.name()));
    let downloader = context::downloader(cx);
    // The tarball comes last: if a signature fails to download, the large file need not be downloaded again.
    for suffix in ["gpgsig", "asc", "sig"] {
        let signature = url.with_suffix(&format!(".{suffix}")).map_err(download::Error::from)?;
        match downloader.bytes(&[signature], SIGNATURE_LIMIT_BYTES, cx.observer) {
            Ok((_, bytes)) => {
                let path = PathBuf::from(format!("{}.{suffix}", target.display()));
                fs::write(&path, bytes).map_err(Error::io("write", &path))?;
                break;
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    download_into(cx, &downloader, &url, &target)?;
    let mut verify = options.verify.clone();
    if matches!(options.rev, Some(Revision::Digest(_))) && verify.allow_unsigned.is_none() {
        verify.allow_unsigned = Some("pinned by its contents".to_owned());
    }
    let unpacked = unpack_snapshot(cx, area, &target, &verify, keys)?;
    let archive = Some(unpacked.archive());
    let Unpacked { verified, day: rev, here } = unpacked;
    // Old snapshots have good signatures, too. A server must not give us one under the name of another day.
    if let Some(asked) = asked
        && !matches!(&rev, Some(Revision::Date(found)) if found == asked)
    {
        let found = match &rev {
            Some(found) => format!("gentoo-{found}"),
            None => "a directory whose name is not a day".to_owned(),
        };
        let wanted = format!("gentoo-{asked}");
        return Err(Error::OtherContents { uri: url.to_string(), wanted, found });
    }
    let rev = rev.filter(|_| source.method == Method::Webrsync);
    let from = source.to_string();
    let why = "there is no signature beside it";
    Ok(Brought { from, rev, why, here, archive, ..signed_or_not(verified.signer.as_ref()) })
}

/// Downloads a tarball. The incomplete file lies in the cache, so that an interrupted command can go on there.
fn download_into(cx: &Context<'_>, downloader: &Downloader, url: &Url, target: &Path) -> Result<()> {
    let name = target.file_name().map_or_else(|| "tree".into(), std::ffi::OsStr::to_os_string);
    let digest = hex::encode(Sha256::digest(url.to_string()));
    let dir = cx.places.repos().join("downloads").join(&digest[..16]);
    fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
    let whole = dir.join(name);
    let request = download::Request {
        urls: std::slice::from_ref(url),
        target: &whole,
        size: None,
        limit: TARBALL_LIMIT_BYTES,
        afresh: false,
        no_wait: cx.settings.no_wait,
    };
    downloader.file(&request, cx.observer)?;
    match fs::rename(&whole, target) {
        // The store may be on another file system.
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
            fs::copy(&whole, target).map_err(Error::io("copy", &whole))?;
            fs::remove_file(&whole).map_err(Error::io("remove", &whole))?;
        }
        moved => moved.map_err(Error::io("move", &whole))?,
    }
    if let Err(error) = fs::remove_dir(&dir) {
        tracing::debug!("kept {}: {error}", dir.display());
    }
    Ok(())
}

/// The result of a signature check. If the tree is pinned or the user takes it unsigned, a signature that does not count is no error. A
/// bad signature always is.
fn unless_pinned(
    cx: &Context<'_>,
    outcome: std::result::Result<Option<Signer>, VerifyError>,
    pinned: bool,
    verify: &VerifyOptions,
) -> Result<Option<Signer>> {
    match outcome {
        Ok(signer) => Ok(signer),
        Err(error) => {
            let bad = matches!(
                &error,
                VerifyError::Rejected { reason: Reason::Signature { source, .. }, .. } if source.is_tampering()
            );
            if bad || !(pinned || verify.allow_unsigned.is_some()) {
                return Err(error.into());
            }
            let cause = std::error::Error::source(&error).and_then(std::error::Error::source).map(ToString::to_string);
            cx.observer.note(&format!("its signature does not count: {}", cause.unwrap_or_else(|| error.to_string())));
            Ok(None)
        }
    }
}

/// A published snapshot that was verified.
struct Unpacked {
    verified: Verified,
    /// The day that its directory is named after.
    day: Option<Revision>,
    /// What this very archive has become before. Then it was not unpacked.
    here: Option<Tree>,
}

impl Unpacked {
    fn archive(&self) -> Archive {
        Archive { sha512: self.verified.sha512.clone(), day: self.day.as_ref().map(ToString::to_string) }
    }
}

/// Verifies a published snapshot and unpacks the same open file.
fn unpack_snapshot(cx: &Context<'_>, area: &TempArea, from: &Path, verify: &VerifyOptions, keys: KeysFor<'_>) -> Result<Unpacked> {
    // A downloaded file lies in a temporary area, so its path means nothing to the user.
    let name = from.file_name().filter(|_| from.starts_with(area.path())).map_or(from, Path::new);
    cx.observer.step(&format!("verifying {}", name.display()));
    let beside = |suffix: &str| PathBuf::from(format!("{}.{suffix}", from.display()));
    let signature = ["gpgsig", "asc", "sig"].map(beside).into_iter().find(|path| path.exists());
    let mut verified = match signature {
        Some(signature) => stage3::verify_detached(from, &signature, keys, verify, cx.observer)?,
        None => stage3::verify(from, keys, verify, cx.observer)?,
    };
    let is_it = |tree: &Tree| tree.meta.origin["archive"]["sha512"] == verified.sha512.as_str();
    if let Some(here) = cx.store.trees()?.into_iter().rev().find(is_it) {
        verified.notes.clear();
        let day = here.meta.origin["archive"]["day"].as_str().and_then(|day| Revision::parse(day).ok());
        return Ok(Unpacked { verified, day, here: Some(here) });
    }
    cx.observer.step(&format!("unpacking {}", name.display()));
    let unpacked = |source| Error::Unpack { path: name.to_owned(), source };
    let staging = area.path().join("unpacked");
    fs::create_dir(&staging).map_err(Error::io("create", &staging))?;
    let into = File::open(&staging).map_err(Error::io("open", &staging))?;
    let file = verified.file.try_clone().map_err(Error::io("open", from))?;
    let total = file.metadata().ok().map(|meta| meta.len());
    cx.observer.event(&Event::Begin { what: "unpacking", total, unit: Unit::Bytes });
    let reader = archive::decode::open_file(file, cx.settings.processors, &[]).map_err(unpacked)?;
    // Of the compressed file: of what comes out of it nobody knows the size.
    let (position, mut told) = (reader.position(), 0);
    let mut progress = |_| {
        let now = position.load(std::sync::atomic::Ordering::Relaxed);
        if now > told {
            cx.observer.event(&Event::Advance(now - told));
            told = now;
        }
    };
    let unpack = archive::UnpackOptions { owners: archive::Owners::Ignore, writers: cx.settings.processors, ..Default::default() };
    // Files belong to the user, who is root inside of sessions.
    let result = archive::unpack(reader, into.as_fd(), &unpack, &mut progress);
    cx.observer.event(&Event::End);
    result.map_err(unpacked)?;
    // Published snapshots have one directory, `gentoo-20260811/`. Other tarballs of a tree may have none.
    let top = single_directory(&staging)?.map_or_else(|| staging.clone(), |only| staging.join(only));
    fs::set_permissions(&top, fs::Permissions::from_mode(0o755)).map_err(Error::io("change the mode of", &top))?;
    let day = top.file_name().and_then(|name| Revision::parse(name.to_str()?).ok());
    let day = day.filter(|day| matches!(day, Revision::Date(_)));
    fs::rename(&top, area.tree()).map_err(Error::io("rename", &top))?;
    verified.notes.clear();
    Ok(Unpacked { verified, day, here: None })
}

/// A lock on a file of the cache. Several stores may share the cache.
fn lock_file(cx: &Context<'_>, path: &Path) -> Result<File> {
    let failed = |source| Error::Lock { path: path.to_owned(), source };
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if cx.settings.no_wait => {
                return Err(failed(std::io::Error::from(std::io::ErrorKind::WouldBlock)));
            }
            Err(TryLockError::WouldBlock) => {
                if !told {
                    cx.observer.note(&format!("waiting: another command is fetching into {}", path.with_extension("").display()));
                    told = true;
                }
                context::not_interrupted(cx)?;
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
}

fn signed_or_not(signer: Option<&Signer>) -> Brought {
    Brought {
        from: String::new(),
        rev: None,
        signer: signer.map(|signer| signer.primary.to_string()),
        made: None,
        vouched: if signer.is_some() { Vouched::Signature } else { Vouched::Nobody },
        allow_unsigned: None,
        why: "no signature of a trusted key covers it",
        here: None,
        archive: None,
    }
}

/// The name of the bare repository: the ebuild repository's name, or the end of the address with a digest of the whole.
fn cache_name(name: Option<&str>, source: &TreeSource) -> String {
    if let Some(name) = name {
        return name.to_owned();
    }
    let digest = hex::encode(Sha256::digest(source.uri.as_bytes()));
    let last = source.uri.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    format!("{}-{}", safe_name(last.trim_end_matches(".git")), &digest[..12])
}

fn safe_name(text: &str) -> String {
    let name: String = text.chars().filter(|c| c.is_ascii_alphanumeric() || "._-+".contains(*c)).take(100).collect();
    format!("{}{name}", if name.starts_with('.') || name.is_empty() { "tree" } else { "" })
}
