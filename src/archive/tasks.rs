//! What runs inside the id map: importing a verified archive into a layer, exporting a build state.
//!
//! Each task has a function on the caller's side ([`import`], [`export`]). It starts the task, turns its events into progress and returns
//! its typed result. [`lookup`] finds the functions on the helper's side. Nothing is synced here.

use std::fs::File;
use std::io::Seek as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::decode;
use super::digest::{Algorithm, Digests};
use super::encode::{Codec, encode};
use super::error::{Error, Result};
use super::exclude::Excludes;
use super::fits;
use super::member::Limits;
use super::owners::OwnerNames;
use super::pack::{Format, PackOptions, Packed, View, measure, pack};
use super::unpack::{UnpackOptions, Unpacked, unpack};
use crate::beneath::TreeDir;
use crate::progress::{Event, Observer, Unit};
use crate::sandbox::{EventSink, Launcher, TaskContext, TaskFailure, TaskFn, TaskOptions};
use crate::sys::overlay;
use crate::{beneath, sandbox};

/// Unpacks a verified archive. Takes an [`ImportInput`] and the open archive, returns [`Unpacked`].
pub(crate) const IMPORT: &str = "archive.import";
/// Packs a chain of layers. Takes an [`ExportInput`], the output and perhaps a second one for its `CONTENTS`, returns [`Exported`].
pub(crate) const EXPORT: &str = "archive.export";

/// An archive may unpack to this many times its size, or to [`SMALL_BYTES`] if that is more. A stage3 reaches 5.
const RATIO_MAX: u64 = 200;
const SMALL_BYTES: u64 = 4 << 30;

/// Input of [`IMPORT`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportInput {
    /// For messages. The descriptor is what is read.
    pub source: PathBuf,
    /// The empty directory to unpack into.
    pub into: PathBuf,
    /// The size in bytes that was verified.
    pub size: u64,
    /// The SHA512 that was verified, in lower-case hex.
    pub sha512: String,
    /// The BLAKE2B that was verified, in lower-case hex; empty if upstream gave none.
    pub blake2b: String,
    /// Threads for decompression.
    pub threads: u32,
    /// It is an exact layer ([`ExportInput::exact`]), of which this SHA-256 was verified, in lower-case hex. The other digests are not asked
    /// for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_sha256: Option<String>,
}

impl ImportInput {
    /// What was verified, and must come again.
    fn wanted(&self) -> Vec<(Algorithm, &String)> {
        match &self.layer_sha256 {
            Some(sha256) => vec![(Algorithm::Sha256, sha256)],
            None => vec![(Algorithm::Sha512, &self.sha512), (Algorithm::Blake2b, &self.blake2b)],
        }
    }
}

/// Input of [`EXPORT`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportInput {
    /// Directories of the layers, topmost first.
    pub layers: Vec<PathBuf>,
    /// Packs a single layer as a layer of an OCI image, with what it hides.
    #[serde(default)]
    pub as_layer: bool,
    /// Packs a single layer so that it can become the same layer again.
    #[serde(default)]
    pub exact: bool,
    pub format: Format,
    /// The compressor's level; `None` means its default.
    pub level: Option<u32>,
    /// Threads for compression.
    pub threads: u32,
    /// Patterns for what is left out, see [`Excludes`].
    pub exclude: Vec<String>,
    /// Patterns for what is kept all the same.
    pub keep: Vec<String>,
    /// Seconds since 1970. Later modification times are written as this one.
    pub mtime_clamp: i64,
    /// Seconds since 1970. Earlier modification times are written as this one.
    pub mtime_floor: i64,
}

impl ExportInput {
    /// Packs one directory as `tar.zst` so that it can become the same layer again.
    pub(crate) fn exact(directory: PathBuf, level: u32, threads: u32) -> Self {
        Self {
            layers: vec![directory],
            as_layer: false,
            exact: true,
            format: Format::TarZst,
            level: Some(level),
            threads,
            exclude: Vec::new(),
            keep: Vec::new(),
            mtime_clamp: i64::MAX,
            mtime_floor: i64::MIN,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// Entries in the archive.
    pub entries: u64,
    /// Bytes of the uncompressed tar.
    pub bytes_tar: u64,
    /// SHA-256 of the uncompressed tar, if it is of a layer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tar_sha256: String,
    /// Size and digests (SHA512, BLAKE2B, SHA256) of the archive.
    pub archive: Digests,
    /// The same of `CONTENTS.gz`, if there is one.
    pub contents: Option<Digests>,
}

/// What a task tells while it goes on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Told {
    /// How many bytes were done since the last event.
    Advance { bytes: u64 },
    /// How many there will be.
    Total { total: u64 },
}

/// Finds this module's tasks by name.
pub(crate) fn lookup(name: &str) -> Option<TaskFn> {
    match name {
        IMPORT => Some(run_import),
        EXPORT => Some(run_export),
        _ => None,
    }
}

/// Unpacks the open, verified archive into a layer, inside the launcher's id map. Progress is in bytes of the compressed file. The task's
/// process keeps the lock descriptors in `hold`.
///
/// On failure the layer holds a part of the archive and must be thrown away. A [`sandbox::Error::Task`] of kind `archive-changed` means
/// that the file is not the one that was verified.
pub fn import(
    launcher: &Launcher,
    input: &ImportInput,
    archive: OwnedFd,
    hold: Vec<OwnedFd>,
    cancel: Option<OwnedFd>,
    observer: &dyn Observer,
) -> sandbox::Result<Unpacked> {
    let options = TaskOptions { fds: vec![archive], mounts: false, hold, cancel };
    call(
        launcher,
        IMPORT,
        input,
        options,
        observer,
        &Event::Begin { what: "unpacking", total: Some(input.size), unit: Unit::Bytes },
    )
}

/// Packs a chain of layers into `out`, inside the launcher's id map and a mount namespace of its own. `contents` gets a compressed
/// listing. Progress is in bytes of the uncompressed tar.
pub fn export(
    launcher: &Launcher,
    input: &ExportInput,
    out: OwnedFd,
    contents: Option<OwnedFd>,
    hold: Vec<OwnedFd>,
    cancel: Option<OwnedFd>,
    observer: &dyn Observer,
) -> sandbox::Result<Exported> {
    let options = TaskOptions { fds: std::iter::once(out).chain(contents).collect(), mounts: true, hold, cancel };
    call(launcher, EXPORT, input, options, observer, &Event::Begin { what: "packing", total: None, unit: Unit::Bytes })
}

fn call<T: for<'a> Deserialize<'a>>(
    launcher: &Launcher,
    task: &'static str,
    input: &impl Serialize,
    options: TaskOptions,
    observer: &dyn Observer,
    begin: &Event<'_>,
) -> sandbox::Result<T> {
    observer.event(begin);
    let answer = launcher.task(task, input, options, &mut |event| match serde_json::from_value(event) {
        Ok(Told::Total { total }) => observer.event(&Event::Total(total)),
        Ok(Told::Advance { bytes }) => observer.event(&Event::Advance(bytes)),
        Err(_) => {}
    });
    observer.event(&Event::End);
    serde_json::from_value(answer?).map_err(|error| {
        let failure = TaskFailure::of("archive-protocol", &Error::Input { task, source: error });
        sandbox::Error::task(task, failure)
    })
}

fn run_import(context: &mut TaskContext) -> std::result::Result<serde_json::Value, TaskFailure> {
    answer(IMPORT, do_import(context))
}

fn run_export(context: &mut TaskContext) -> std::result::Result<serde_json::Value, TaskFailure> {
    answer(EXPORT, do_export(context))
}

fn answer<T: Serialize>(task: &'static str, result: Result<T>) -> std::result::Result<serde_json::Value, TaskFailure> {
    result
        .and_then(|value| serde_json::to_value(value).map_err(|source| Error::Input { task, source }))
        .map_err(|error| TaskFailure::of(kind(&error), &error))
}

/// The word that callers in the other process match on.
fn kind(error: &Error) -> &'static str {
    match error {
        Error::Changed { .. } | Error::Resized { .. } => "archive-changed",
        Error::Refused { .. } | Error::TooManyEntries { .. } | Error::TooManyBytes { .. } => "archive-refused",
        Error::Read { .. } | Error::Truncated { .. } | Error::Header { .. } => "archive-damaged",
        Error::UnmappedOwner { .. } | Error::Owners { .. } => "archive-unmapped-owner",
        Error::Pattern(_) => "archive-pattern",
        Error::Beneath(beneath::Error::TooBig { .. } | beneath::Error::Holes { .. }) => "archive-too-big",
        _ => "archive-io",
    }
}

fn do_import(context: &mut TaskContext) -> Result<Unpacked> {
    let input: ImportInput = parse(IMPORT, context)?;
    let [archive] = descriptors(IMPORT, context)?;
    let mut archive = File::from(archive);
    let open = |source| Error::Open { path: input.source.clone(), source };
    // The verifier has read the same open file to its end.
    archive.rewind().map_err(open)?;
    let into = TreeDir::open(&input.into)?;
    let mut options = UnpackOptions { layer: input.layer_sha256.is_some(), ..UnpackOptions::default() };
    options.limits.stream_bytes = stream_limit(input.size, options.limits.stream_bytes);
    // What is decompressed keeps the other half busy.
    options.writers = input.threads / 2;
    fits::check(&archive, input.threads, &options.limits).map_err(|error| match error {
        Error::Read { offset: 0, source } => open(source),
        error => error,
    })?;
    let algorithms: Vec<Algorithm> = input.wanted().into_iter().map(|(algorithm, _)| algorithm).collect();
    let mut decoder = decode::open_file(archive, input.threads, &algorithms)?;
    let mut progress = Progress { events: context.events.clone(), position: decoder.position(), told: 0 };
    let unpacked = unpack(&mut decoder, into.as_fd(), &options, &mut |_| progress.tell(1 << 20));
    let unpacked = unpacked.map_err(|error| without_names(error, into.as_fd()));
    progress.tell(1);
    // Also after a failure: if the file was exchanged, that explains every other error.
    let digests = decoder.finish()?;
    check(&input, &digests)?;
    unpacked
}

/// Turns "disk full" into "no inodes left" if that is what was missing. The kernel's code is ENOSPC for both.
fn without_names(error: Error, dir: impl AsFd) -> Error {
    let chain = std::iter::successors(Some(&error as &(dyn std::error::Error + 'static)), |error| error.source());
    let mut codes = chain.filter_map(|error| error.downcast_ref::<std::io::Error>()?.raw_os_error());
    let is_full = codes.any(|code| code == libc::ENOSPC);
    let lacks = |stat: rustix::fs::StatVfs| stat.f_files > 0 && stat.f_favail == 0 && stat.f_bavail > 0;
    if is_full && rustix::fs::fstatvfs(dir).is_ok_and(lacks) { Error::NoInodes(Box::new(error)) } else { error }
}

fn stream_limit(size: u64, most: u64) -> u64 {
    size.saturating_mul(RATIO_MAX).max(SMALL_BYTES).min(most)
}

fn check(input: &ImportInput, digests: &Digests) -> Result<()> {
    if digests.size != input.size {
        return Err(Error::Resized { path: input.source.clone(), found: digests.size, expected: input.size });
    }
    for (algorithm, expected) in input.wanted() {
        let found = digests.get(algorithm);
        let waived = algorithm == Algorithm::Blake2b && expected.is_empty();
        if found != expected && !waived {
            return Err(Error::Changed {
                path: input.source.clone(),
                algorithm: algorithm.name(),
                found: found.to_owned(),
                expected: expected.clone(),
            });
        }
    }
    Ok(())
}

/// Reports how much of the compressed file is read.
struct Progress {
    events: EventSink,
    position: Arc<AtomicU64>,
    told: u64,
}

impl Progress {
    fn tell(&mut self, least: u64) {
        let position = self.position.load(Ordering::Relaxed);
        if position - self.told >= least {
            // If nobody receives it, this process is about to end.
            let _ = self.events.send(&Told::Advance { bytes: position - self.told });
            self.told = position;
        }
    }
}

fn do_export(context: &mut TaskContext) -> Result<Exported> {
    let input: ExportInput = parse(EXPORT, context)?;
    let contents = if context.fds.len() == 2 { context.fds.pop() } else { None };
    let [out] = descriptors(EXPORT, context)?;
    // Nobody else is in this mount namespace, so the view may be mounted over the topmost layer.
    let top = input.layers.first().cloned().unwrap_or_default();
    let is_layer = input.as_layer || input.exact;
    let root = if is_layer {
        TreeDir::open(&top)?.into()
    } else {
        overlay::mount_read_only(&input.layers, &top).map_err(|source| Error::Merge { layers: input.layers.len(), source })?
    };
    let digests = vec![Algorithm::Sha512, Algorithm::Blake2b, Algorithm::Sha256];
    let options = PackOptions {
        view: match (input.exact, input.as_layer) {
            (true, _) => View::Exact,
            (false, true) => View::Layer,
            (false, false) => View::Merged,
        },
        format: input.format,
        level: input.level,
        threads: input.threads,
        exclude: Excludes::new(&input.exclude, &input.keep)?,
        mtime_clamp: input.mtime_clamp,
        mtime_floor: input.mtime_floor,
        // A layer is packed without names: they come from the user database of another layer, and this layer's digest must not depend on
        // that.
        names: if is_layer { OwnerNames::default() } else { OwnerNames::read(root.as_fd()) },
        digests: digests.clone(),
    };
    let (events, measured) = (context.events.clone(), context.events.clone());
    let over = AtomicBool::new(false);
    let packed = std::thread::scope(|scope| {
        // Beside the packing, which needs no total. Without a thread there is none.
        let measuring = crate::threads::builder().name("measure".into()).spawn_scoped(scope, || {
            if let Some(total) = measure(root.as_fd(), &options, &over) {
                let _ = measured.send(&Told::Total { total });
            }
        });
        drop(measuring);
        let packed = pack(root.as_fd(), File::from(out), &options, &mut |bytes| {
            // If nobody receives it, this process is about to end.
            let _ = events.send(&Told::Advance { bytes });
        });
        over.store(true, Ordering::Relaxed);
        packed
    })?;
    let contents = contents
        .map(|out| {
            let chunks = packed.contents.chunks(decode::CHUNK).map(<[u8]>::to_vec);
            encode(chunks, File::from(out), Codec::Gzip(9), input.threads, &digests)
        })
        .transpose()?;
    let Packed { entries, bytes_tar, tar_sha256, digests: archive, .. } = packed;
    let limit = stream_limit(archive.size, Limits::default().stream_bytes);
    if input.exact && bytes_tar > limit {
        // The importer would stop there.
        return Err(Error::TooManyBytes { limit });
    }
    Ok(Exported { entries, bytes_tar, tar_sha256, archive, contents })
}

fn parse<T: for<'a> Deserialize<'a>>(task: &'static str, context: &mut TaskContext) -> Result<T> {
    serde_json::from_value(context.input.take()).map_err(|source| Error::Input { task, source })
}

fn descriptors<const N: usize>(task: &'static str, context: &mut TaskContext) -> Result<[OwnedFd; N]> {
    let fds = std::mem::take(&mut context.fds);
    let got = fds.len();
    fds.try_into().map_err(|_| Error::Descriptors { task, needed: N, got })
}

#[cfg(test)]
mod tests {
    use super::super::unpack::Limits;
    use super::*;

    #[test]
    fn a_ratio_bomb_is_bounded() {
        let most = Limits::default().stream_bytes;
        assert_eq!(stream_limit(1000, most), 4 << 30);
        assert_eq!(stream_limit(100 << 20, most), 20_000 << 20);
        assert_eq!(stream_limit(u64::MAX, most), most);
    }

    #[test]
    fn the_verified_size_and_digests_must_come_again() {
        let input = ImportInput {
            source: "/s/stage3.tar.xz".into(),
            into: "/x".into(),
            size: 3,
            sha512: "aa".into(),
            blake2b: "bb".into(),
            threads: 1,
            layer_sha256: None,
        };
        let digests = |size, sha512: &str, blake2b: &str| Digests {
            size,
            hex: [(Algorithm::Sha512, sha512.to_owned()), (Algorithm::Blake2b, blake2b.to_owned())].into(),
        };
        assert!(check(&input, &digests(3, "aa", "bb")).is_ok());
        assert!(check(&ImportInput { blake2b: String::new(), ..input.clone() }, &digests(3, "aa", "xx")).is_ok());
        // Of a layer nothing but its SHA-256 counts.
        let layer = ImportInput { layer_sha256: Some("cc".into()), ..input.clone() };
        assert!(check(&layer, &digests(3, "aa", "bb")).is_err());
        let sha256 = |hex: &str| Digests { size: 3, hex: [(Algorithm::Sha256, hex.to_owned())].into() };
        assert!(check(&layer, &sha256("cc")).is_ok() && check(&layer, &sha256("dd")).is_err());
        for (found, words) in [
            (digests(4, "aa", "bb"), "`/s/stage3.tar.xz` changed after it was verified: it has 4 bytes, not 3"),
            (digests(3, "ab", "bb"), "`/s/stage3.tar.xz` changed after it was verified: its SHA512 is ab, not aa"),
            (digests(3, "aa", "bc"), "`/s/stage3.tar.xz` changed after it was verified: its BLAKE2B is bc, not bb"),
            (Digests { size: 3, ..Digests::default() }, "`/s/stage3.tar.xz` changed after it was verified: its SHA512 is , not aa"),
        ] {
            let error = check(&input, &found).unwrap_err();
            assert_eq!(error.to_string(), words);
            assert_eq!(kind(&error), "archive-changed");
        }
    }
}
