//! Exports a build state as an artifact, with the files that upstream publishes beside a stage3.
//!
//! ```text
//! stages/NAME/stage4-ARCH-NAME-TIME-ID.tar.xz    the archive; TIME is that of the newest input, ID the start of the state's id
//!             ….tar.xz.asc                       detached signature
//!             ….tar.xz.CONTENTS.gz               what is in it
//!             ….tar.xz.DIGESTS                   clear-signed: BLAKE2B and SHA512 of archive and CONTENTS
//!             ….tar.xz.sha256                    clear-signed
//!             ….tar.xz.json                      inputs, versions, isolation, packages, and the digests of the files above
//!             stage4-ARCH-NAME-TIME-ID-2.tar.xz  the same state with other exclusions
//! stages/kept/NAME/, stages/state/ID/            artifacts of other states
//! ```
//!
//! Instead of an archive there may be `….squashfs`, or a directory `….oci`, see [`crate::artifact::oci`]. Of the latter, `index.json` is
//! signed and listed: it refers to everything else by digest.
//!
//! Everything is made in a hidden directory beside its place and named by [`publish`], the metadata last. `recorded.rs` compares existing
//! files with their metadata. A published archive is never replaced by another; if only the signature has to change, the archive stays.

mod error;
pub(crate) mod exclusions;
pub(crate) mod metadata;
pub(crate) mod native;
pub(crate) mod oci;
pub(crate) mod of_state;
pub(crate) mod publish;
pub(crate) mod push;
pub(crate) mod recorded;
pub(crate) mod seen;
pub(crate) mod squashfs;

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::archive::digest::{Algorithm, Digests};
use crate::archive::tasks::{ExportInput, Exported};
use crate::archive::{Format, tasks as archive_tasks};
use crate::artifact::metadata::{Hashes, Metadata};
use crate::artifact::oci::ImageOptions;
use crate::artifact::recorded::{FileMark, Lacking, PACKER, Recorded, Signature, Wanted, all_files, beside};
use crate::config::{ArtifactFormat, OciConfig, Stage4Definition};
use crate::context::Context;
use crate::inventory::inventory;
use crate::path_error::OfFile as _;
use crate::stage3::name::ID_DIGITS;
use crate::stage3::publish::{FileDigests, digests_body, sha256_body};
use crate::stage3::sign::{Gpg, SecretKey};
use crate::store::State;
use crate::{context, durable};

pub use error::Error;
pub(crate) use error::Result;

/// Suffix of the hidden directory in which an artifact is made.
const UNFINISHED: &str = ".new";

/// How to export.
#[derive(Debug, Clone)]
pub(crate) struct ExportOptions {
    pub(crate) format: ArtifactFormat,
    /// The configuration of an image.
    pub(crate) oci: OciConfig,
    /// Default exclusions that are brought back.
    pub(crate) keep: Vec<String>,
    pub(crate) signer: Option<(Gpg, SecretKey)>,
    pub(crate) arch: String,
}

impl ExportOptions {
    /// The artifact of a stage4, unsigned: as its definition says, if there is one, unless `format` is given.
    pub(crate) fn of(definition: Option<&Stage4Definition>, format: Option<ArtifactFormat>, arch: &str) -> Self {
        let own = definition.and_then(|definition| definition.format.as_ref()).map(|format| format.value);
        Self {
            format: format.or(own).unwrap_or(ArtifactFormat::TarXz),
            oci: definition.and_then(|definition| definition.oci.clone()).unwrap_or_default(),
            keep: definition.iter().flat_map(|definition| &definition.keep).map(|pattern| pattern.value.to_string()).collect(),
            signer: None,
            arch: arch.to_owned(),
        }
    }
}

/// The place and name of an artifact.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) dir: PathBuf,
    pub(crate) file_name: String,
    /// Whether an image is one file instead of a directory.
    pub(crate) one_file: bool,
    /// Whether the directory is ours, so that we may remove what killed runs left in it.
    pub(crate) ours: bool,
}

impl Target {
    /// The form, in words.
    fn form(&self, options: &ExportOptions) -> String {
        if self.one_file { "oci-archive".to_owned() } else { options.format.to_string() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ImageLayers {
    /// How many there are.
    pub count: usize,
    /// How many of them had been packed before.
    pub reused: usize,
}

/// The main file, which the other files are about.
struct Made {
    entries: u64,
    bytes_tar: u64,
    size_bytes: u64,
    /// Of the archive, or of `index.json` of an image.
    digests: FileDigests,
    contents: Option<FileDigests>,
    blobs: Vec<(String, u64)>,
    layers: Option<ImageLayers>,
}

/// The files of an artifact.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Artifact {
    /// The archive.
    pub path: PathBuf,
    /// What it is: `tar.xz`, `oci`, `oci-archive`, …
    pub format: String,
    /// Its size, bytes.
    pub size_bytes: u64,
    /// Its SHA-512, hexadecimal; of an image that of its `index.json`.
    pub sha512: String,
    /// Entries in it.
    pub entries: u64,
    /// Fingerprint of the signing key.
    pub signed_by: Option<String>,
    /// Whether it existed, so that nothing was done.
    pub reused: bool,
    /// Of an image, its layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<ImageLayers>,
}

/// The signing key: `env/sign_key`, else the one given with `gpg`, else gpg's default key. `None` without `gpg`.
pub(crate) fn signer(cx: &Context<'_>, sign_key: Option<String>, gpg: Option<&Gpg>) -> Result<Option<(Gpg, SecretKey)>> {
    let Some(gpg) = gpg else { return Ok(None) };
    let gpg = Gpg { key: sign_key.or_else(|| gpg.key.clone()), ..gpg.clone() };
    // Ctrl-C also ends gpg, whose failure is then an interruption.
    let key = gpg.secret_key_available().map_err(|error| interrupted_or(cx, Error::Sign(error)))?;
    Ok(Some((gpg, key)))
}

/// Makes a test signature: an hour of building or packing must not end with a key that cannot sign, or with a passphrase prompt that
/// nobody sees.
pub(crate) fn try_signer(cx: &Context<'_>, signer: Option<&(Gpg, SecretKey)>) -> Result<()> {
    let Some((gpg, _)) = signer else { return Ok(()) };
    gpg.try_out().map_err(|error| interrupted_or(cx, Error::Sign(error)))
}

/// The error, or an interruption if the user asked to stop.
fn interrupted_or(cx: &Context<'_>, error: Error) -> Error {
    if cx.interrupt.count() > 0 { context::Error::Interrupted { resumable: true }.into() } else { error }
}

/// The default place of an artifact of `state`. `name` is the stage4's or the state's; `None` if the state has no name.
pub(crate) fn target(cx: &Context<'_>, name: Option<&str>, kind: &str, state: &State, options: &ExportOptions) -> Target {
    let short = short_id(state);
    let flat = name.map_or_else(String::new, |name| format!("{}-", name.replace('/', "-")));
    let file_name = format!("{kind}-{}-{flat}{}-{short}.{}", options.arch, stamp(oci::clamp(cx, state)), options.format);
    let dir = cx.places.stages().join(name.map_or_else(|| format!("state/{short}"), str::to_owned));
    Target { dir, file_name, one_file: false, ours: true }
}

/// Makes the artifact of `state`, unless it exists.
pub(crate) fn export(cx: &Context<'_>, name: &str, target: Target, state: &State, options: &ExportOptions) -> Result<Artifact> {
    let dir = target.dir.clone();
    if target.ours {
        durable::make_dirs(&dir, durable::Mode::AtMost(0o777))?;
        remove_unfinished(&dir)?;
    } else {
        take_back(&dir, &target.file_name)?;
    }
    let wanted = artifact_wanted(cx, name, &target, state, options);
    let signed_by = options.signer.as_ref().map(|(_, key)| key.primary.to_string());
    let signature = signed_by.as_deref().map_or(Signature::None, Signature::By);
    let (file_name, found) = choose(&target, &wanted, signature);
    let target = Target { file_name, ..target };
    let path = dir.join(&target.file_name);
    let lacking = match found {
        Ok(recorded) => {
            note_sign_key(&path, options)?;
            return Ok(recorded.artifact(path, target.form(options)));
        }
        Err(lacking) => lacking,
    };
    if !target.ours
        && let Some(path) = all_files(&path).find(|path| fs::symlink_metadata(path).is_ok())
    {
        // We did not make it, so we do not touch it.
        return Err(Error::ArtifactExists { path });
    }
    try_signer(cx, options.signer.as_ref())?;
    note_native(cx, name, state);
    let staging = staging_of(&dir, &target.file_name);
    fs::create_dir(&staging).map_err(Error::io("create", &staging))?;
    let before = (lacking == Lacking::OtherSignature).then(|| Recorded::read(&path)).flatten();
    let made = export_into(cx, &staging, name, &target, &wanted, before).and_then(|(mut artifact, files)| {
        put_in_place(&dir, &staging, &target.file_name, &files)?;
        artifact.path = path;
        Ok(artifact)
    });
    if made.is_err()
        && let Err(left) = take_back(&dir, &target.file_name)
    {
        tracing::warn!("the files made so far stay: {left}");
    }
    made.map_err(|error| interrupted_or(cx, error))
}

/// Notes that an artifact only runs on processors like the builder's (`-march=native`): nothing in the artifact says so.
fn note_native(cx: &Context<'_>, name: &str, state: &State) {
    if let Some(flag) = native::flag_in(&cx.store.lower_dirs(state)) {
        cx.observer.note(&format!(
            "`{name}` is compiled with `{flag}`: it runs only on processors that have all features of this \
            one"
        ));
    }
}

/// The artifact of the stage4 `name` if it exists as asked for, else why it has to be made. Makes nothing and asks for no key.
pub(crate) fn artifact_standing(
    cx: &Context<'_>,
    name: &str,
    state: &State,
    options: &ExportOptions,
    signature: Signature<'_>,
) -> std::result::Result<Artifact, Lacking> {
    let target = target(cx, Some(name), "stage4", state, options);
    let (file_name, found) = choose(&target, &artifact_wanted(cx, name, &target, state, options), signature);
    found.map(|recorded| recorded.artifact(target.dir.join(file_name), target.form(options)))
}

fn artifact_wanted<'w>(cx: &Context<'_>, name: &str, target: &Target, state: &'w State, options: &'w ExportOptions) -> Wanted<'w> {
    let image = serde_json::json!({
        "config": options.oci, "arch": options.arch, "name": name.replace('/', "-"), "one_file": target.one_file,
    });
    Wanted { state, options, clamp: oci::clamp(cx, state), image, seen: cx.places.seen_artifacts() }
}

/// Writes the missing files into `staging`; returns the names of all new files, the metadata last. `before` are the existing metadata, if
/// only the signature differs.
fn export_into(
    cx: &Context<'_>,
    staging: &Path,
    name: &str,
    target: &Target,
    wanted: &Wanted<'_>,
    before: Option<Recorded>,
) -> Result<(Artifact, Vec<String>)> {
    let Wanted { state, options, .. } = *wanted;
    let file_name = &target.file_name;
    let (place, verb) = match (&before, &options.signer) {
        (None, _) => (staging, "exporting"),
        (Some(_), Some(_)) => (target.dir.as_path(), "signing"),
        (Some(_), None) => (target.dir.as_path(), "removing the signature of"),
    };
    cx.observer.step(&format!("{verb} {file_name}"));
    let mut files = Vec::new();
    let made = match before {
        Some(before) => made_before(&target.dir.join(file_name), before)?,
        None => {
            let archive = staging.join(file_name);
            let made = match options.format {
                ArtifactFormat::Oci => make_image(cx, &archive, name, target, state, options)?,
                _ => make_archive(cx, &archive, file_name, state, options)?,
            };
            files.extend(made.contents.as_ref().map(|contents| contents.name.clone()));
            files.push(file_name.clone());
            made
        }
    };
    let listed: Vec<FileDigests> = std::iter::once(made.digests.clone()).chain(made.contents.clone()).collect();
    for (suffix, text) in [("DIGESTS", digests_body(&listed)), ("sha256", sha256_body(&listed[0]))] {
        let bytes = match &options.signer {
            Some((gpg, _)) => gpg.clear_sign(&text).map_err(Error::Sign)?.bytes,
            None => text.into_bytes(),
        };
        write_synced(&staging.join(format!("{file_name}.{suffix}")), &bytes)?;
        files.push(format!("{file_name}.{suffix}"));
    }
    if let Some((gpg, _)) = &options.signer {
        let signed = gpg.detach_sign(&place.join(&made.digests.name)).map_err(Error::Sign)?;
        write_synced(&staging.join(format!("{file_name}.asc")), &signed.bytes)?;
        files.push(format!("{file_name}.asc"));
    }
    let marks = marks(place, staging, target, &made, &files)?;
    let metadata = artifact_metadata(cx, target, wanted, &made, &marks)?;
    write_synced(&staging.join(format!("{file_name}.json")), &with_newline(&metadata))?;
    files.push(format!("{file_name}.json"));
    let artifact = Artifact {
        path: place.join(file_name),
        format: target.form(options),
        size_bytes: made.size_bytes,
        sha512: made.digests.sha512.clone(),
        entries: made.entries,
        signed_by: options.signer.as_ref().map(|(_, key)| key.primary.to_string()),
        reused: false,
        layers: made.layers,
    };
    Ok((artifact, files))
}

fn artifact_metadata<'a>(
    cx: &Context<'_>,
    target: &'a Target,
    wanted: &'a Wanted<'_>,
    made: &'a Made,
    files: &'a BTreeMap<String, FileMark>,
) -> Result<Metadata<'a>> {
    let Wanted { state, options, clamp, ref image, .. } = *wanted;
    let digests = &made.digests;
    let isolation = state.origin.isolation();
    Ok(Metadata {
        format: 1,
        name: &target.file_name,
        state: &state.id,
        key: &state.key,
        source_date_epoch: clamp,
        gentoomuch: env!("CARGO_PKG_VERSION"),
        isolation: isolation.map_or_else(|| cx.launcher.isolation().to_string(), str::to_owned),
        rung: if isolation.is_some() { state.origin.rung() } else { Some(cx.launcher.isolation().rung()) },
        keep: &options.keep,
        leaves_out: exclusions::DEFAULT,
        packer: PACKER,
        signed_by: options.signer.as_ref().map(|(_, key)| key.primary.to_string()),
        form: options.format.to_string(),
        sign_key: options.signer.as_ref().and_then(|(gpg, _)| gpg.key.as_deref()),
        entries: made.entries,
        bytes_tar: made.bytes_tar,
        size: made.size_bytes,
        digests: Hashes { blake2b: &digests.blake2b, sha256: &digests.sha256, sha512: &digests.sha512 },
        image: (options.format == ArtifactFormat::Oci).then_some(image),
        blobs: made.blobs.iter().cloned().collect(),
        files,
        origin: &state.origin,
        packages: inventory(cx, state)?,
    })
}

fn make_archive(cx: &Context<'_>, archive: &Path, file_name: &str, state: &State, options: &ExportOptions) -> Result<Made> {
    let contents_name = format!("{file_name}.CONTENTS.gz");
    let contents = archive.with_file_name(&contents_name);
    let clamp = oci::clamp(cx, state);
    let create = |path: &Path| File::create_new(path).map_err(Error::io("create", path));
    let contents_file = create(&contents)?;
    let open = |file: &File, path: &Path| file.try_clone().map(OwnedFd::from).map_err(Error::io("open", path));
    let listing = open(&contents_file, &contents)?;
    let format = match options.format {
        ArtifactFormat::TarXz => Format::TarXz,
        ArtifactFormat::TarZst => Format::TarZst,
        ArtifactFormat::TarGz => Format::TarGz,
        ArtifactFormat::Tar | ArtifactFormat::Squashfs | ArtifactFormat::Oci => Format::Tar,
    };
    let (packed, digests) = if options.format == ArtifactFormat::Squashfs {
        let packed = squashfs::write_squashfs(cx, archive, clamp, |out| pack(cx, out, listing, format, state, options));
        let packed = packed.map_err(Error::making(archive))?;
        (packed, digests_of(archive, file_name)?)
    } else {
        let file = create(archive)?;
        let packed = pack(cx, open(&file, archive)?, listing, format, state, options).map_err(Error::making(archive))?;
        file.sync_all().map_err(Error::io("sync", archive))?;
        let digests = file_digests(file_name, &packed.archive);
        (packed, digests)
    };
    contents_file.sync_all().map_err(Error::io("sync", &contents))?;
    Ok(Made {
        entries: packed.entries,
        bytes_tar: packed.bytes_tar,
        size_bytes: digests.size,
        digests,
        contents: packed.contents.as_ref().map(|digests| file_digests(&contents_name, digests)),
        blobs: Vec::new(),
        layers: None,
    })
}

fn pack(
    cx: &Context<'_>,
    out: OwnedFd,
    listing: OwnedFd,
    format: Format,
    state: &State,
    options: &ExportOptions,
) -> Result<Exported> {
    // An image of squashfs has 32 bits for a time, and `mksquashfs` refuses an archive with a time before 1970.
    let (clamp, floor) = match options.format {
        ArtifactFormat::Squashfs => (oci::clamp(cx, state).clamp(0, i64::from(u32::MAX)), 0),
        _ => (oci::clamp(cx, state), i64::MIN),
    };
    let input = ExportInput {
        layers: cx.store.lower_dirs(state),
        as_layer: false,
        exact: false,
        format,
        level: None,
        threads: format.threads_within(cx.settings.processors, cx.settings.memory_bytes),
        exclude: exclusions::DEFAULT.iter().map(|pattern| (*pattern).to_owned()).collect(),
        keep: options.keep.clone(),
        mtime_clamp: clamp,
        mtime_floor: floor,
    };
    let exported =
        archive_tasks::export(cx.launcher, &input, out, Some(listing), Vec::new(), Some(context::cancel(cx)?), cx.observer);
    // The state exists, so the next run only has to do this.
    context::not_interrupted(cx).map_err(|_| context::Error::Interrupted { resumable: true })?;
    Ok(exported?)
}

fn make_image(
    cx: &Context<'_>,
    archive: &Path,
    name: &str,
    target: &Target,
    state: &State,
    options: &ExportOptions,
) -> Result<Made> {
    let file_name = &target.file_name;
    let clamp = oci::clamp(cx, state);
    let layout = if target.one_file { archive.with_file_name("layout") } else { archive.to_owned() };
    let (flat, version) = (name.replace('/', "-"), stamp(clamp));
    let image = ImageOptions { name: &flat, version: &version, arch: &options.arch, keep: &options.keep, config: &options.oci };
    let image = oci::write_image(cx, &layout, state, &image)?;
    let (digests, size_bytes) = if target.one_file {
        oci::layout_as_tar(&layout, archive, clamp)?;
        fs::remove_dir_all(&layout).map_err(Error::io("remove", &layout))?;
        let digests = digests_of(archive, file_name)?;
        let size = digests.size;
        (digests, size)
    } else {
        (digests_of(&layout.join("index.json"), &format!("{file_name}/index.json"))?, image.size_bytes)
    };
    Ok(Made {
        entries: image.entries,
        bytes_tar: image.bytes_tar,
        size_bytes,
        digests,
        contents: None,
        blobs: if target.one_file { Vec::new() } else { image.blobs },
        layers: Some(ImageLayers { count: image.layers, reused: image.layers_reused }),
    })
}

fn file_digests(name: &str, digests: &Digests) -> FileDigests {
    let hex = |algorithm| digests.get(algorithm).to_owned();
    FileDigests {
        name: name.to_owned(),
        size: digests.size,
        blake2b: hex(Algorithm::Blake2b),
        sha512: hex(Algorithm::Sha512),
        sha256: hex(Algorithm::Sha256),
    }
}

fn digests_of(path: &Path, name: &str) -> Result<FileDigests> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    FileDigests::read(name, file, |_| {}).map_err(Error::io("read", path))
}

fn stamp(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH).strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// Digests or sizes of all files except the archive, blobs and metadata.
fn marks(place: &Path, staging: &Path, target: &Target, made: &Made, files: &[String]) -> Result<BTreeMap<String, FileMark>> {
    let layout = place.join(&target.file_name).is_dir().then(|| format!("{}/oci-layout", target.file_name));
    let of_before = made.contents.iter().map(|contents| contents.name.clone()).chain(layout).map(|name| (name, place));
    let new = files.iter().filter(|name| **name != target.file_name).map(|name| (name.clone(), staging));
    let all: BTreeMap<String, &Path> = of_before.chain(new).collect();
    all.into_iter().map(|(name, dir)| Ok((name.clone(), FileMark::of(&dir.join(name))?))).collect()
}

/// The start of a state's id, as used in names.
pub(crate) fn short_id(state: &State) -> String {
    state.id.as_str().chars().take(ID_DIGITS).collect()
}

/// The name of the artifact that is meant, and its condition.
fn choose(target: &Target, wanted: &Wanted<'_>, signature: Signature<'_>) -> (String, std::result::Result<Recorded, Lacking>) {
    let ending = wanted.options.format.to_string();
    match target.file_name.strip_suffix(&format!(".{ending}")).filter(|_| target.ours) {
        Some(stem) => recorded::choose(&target.dir, stem, &ending, wanted, signature),
        None => {
            let found = Recorded::standing(&target.dir.join(&target.file_name), wanted, signature);
            (target.file_name.clone(), found)
        }
    }
}

/// The existing main file at `path`, in the form of a new one.
fn made_before(path: &Path, before: Recorded) -> Result<Made> {
    let file_name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = if path.is_dir() { format!("{file_name}/index.json") } else { file_name.to_string() };
    let contents = beside(path, "CONTENTS.gz");
    let contents_digests = || digests_of(&contents, &format!("{file_name}.CONTENTS.gz"));
    Ok(Made {
        entries: before.entries,
        bytes_tar: before.bytes_tar,
        size_bytes: before.size,
        digests: before.digests(name),
        contents: contents.is_file().then(contents_digests).transpose()?,
        blobs: before.blobs.into_iter().collect(),
        layers: None,
    })
}

/// Names the new files and removes the other files of the artifact `file_name`, except those that stay.
fn put_in_place(dir: &Path, staging: &Path, file_name: &str, files: &[String]) -> Result<()> {
    sync_tree(staging)?;
    let stays = |name: &String| [file_name.to_owned(), format!("{file_name}.CONTENTS.gz")].contains(name);
    let is_new = files.iter().any(|name| name == file_name);
    let there = all_files(Path::new(file_name)).map(|name| name.to_string_lossy().into_owned());
    let there = there.filter(|name| fs::symlink_metadata(dir.join(name)).is_ok());
    let gone: Vec<String> = there.filter(|name| is_new || !stays(name)).collect();
    let metadata = format!("{file_name}.json");
    publish::run(&publish::Set { dir, staging, files, gone: &gone, metadata: &metadata }.plan())
}

/// Syncs the entries of a directory and of those below it.
fn sync_tree(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        if fs::symlink_metadata(&path).map_err(Error::io("read", &path))?.is_dir() {
            sync_tree(&path)?;
        }
    }
    Ok(durable::sync_dir(dir)?)
}

/// The hidden directory in which an artifact is made.
fn staging_of(dir: &Path, file_name: &str) -> PathBuf {
    dir.join(format!(".{file_name}{UNFINISHED}"))
}

/// Removes what a killed or failed export left, including files that were named before their metadata. The unfinished metadata list
/// those.
fn take_back(dir: &Path, file_name: &str) -> Result<()> {
    let metadata = format!("{file_name}.json");
    let (staging, late) = (staging_of(dir, file_name), staging_of(dir, &metadata));
    // Once metadata have their name, the files are theirs.
    if fs::symlink_metadata(dir.join(&metadata)).is_err()
        && let Some(unfinished) = Recorded::read(&staging.join(file_name)).or_else(|| Recorded::parse(&fs::read(&late).ok()?))
    {
        let gone = unfinished.own_files(dir, file_name);
        publish::run(&publish::Set { dir, staging: &staging, files: &[], gone: &gone, metadata: "" }.plan())?;
    }
    if staging.is_dir() {
        fs::remove_dir_all(&staging).map_err(Error::io("remove", &staging))?;
    }
    Ok(durable::remove_if_there(&late)?)
}

/// Records the words by which the key was chosen, so that the next run needs no gpg.
fn note_sign_key(path: &Path, options: &ExportOptions) -> Result<()> {
    let Some((gpg, _)) = &options.signer else { return Ok(()) };
    let file = beside(path, "json");
    let bytes = fs::read(&file).map_err(Error::io("read", &file))?;
    let Ok(mut metadata) = serde_json::from_slice::<serde_json::Value>(&bytes) else { return Ok(()) };
    let words = serde_json::json!(gpg.key);
    if metadata["sign_key"] == words {
        return Ok(());
    }
    metadata["sign_key"] = words;
    let dir = file.parent().unwrap_or(&file);
    let new = staging_of(dir, &file.file_name().unwrap_or_default().to_string_lossy());
    write_synced(&new, &with_newline(&metadata))?;
    fs::rename(&new, &file).map_err(Error::io("rename", &new))?;
    Ok(durable::sync_dir(dir)?)
}

fn with_newline(metadata: &impl Serialize) -> Vec<u8> {
    // By way of a value: its fields are sorted, also when only one of them is written anew.
    let mut text = serde_json::to_value(metadata).and_then(|value| serde_json::to_vec_pretty(&value)).unwrap_or_default();
    text.push(b'\n');
    text
}

/// Whether a name is that of an unfinished artifact's directory.
pub(crate) fn is_unfinished(name: &str) -> bool {
    [".stage4-", ".state-"].iter().any(|start| name.starts_with(start)) && name.ends_with(UNFINISHED)
}

/// Removes unfinished artifacts of killed runs, whatever their names; the caller holds the stage4's lock.
fn remove_unfinished(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        if is_unfinished(&path.file_name().unwrap_or_default().to_string_lossy()) {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

pub(crate) fn write_synced(path: &Path, contents: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    file.write_all(contents).and_then(|()| file.sync_all()).map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_killed_runs_left_goes_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let unfinished = [".stage4-amd64-web-1.tar.xz.new", ".stage4-amd64-web-2.tar.zst.new"];
        for name in unfinished {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("part"), "x").unwrap();
        }
        // Metadata that were to be written anew.
        fs::write(dir.path().join(".stage4-amd64-web-3.tar.xz.json.new"), "x").unwrap();
        let others = ["stage4-amd64-web-1.tar.xz", "stage4-amd64-web-1.tar.xz.new", ".mine.new"];
        for name in others {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        remove_unfinished(dir.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".mine.new", "stage4-amd64-web-1.tar.xz", "stage4-amd64-web-1.tar.xz.new"]);
    }
}
