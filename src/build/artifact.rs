//! Exports a build state as an artifact, with everything beside it that upstream puts beside a stage3.
//!
//! ```text
//! stages/NAME/stage4-ARCH-NAME-TIME.tar.xz       the archive; TIME is that of the newest input, so equal inputs give equal names
//!             ….tar.xz.asc                       detached signature
//!             ….tar.xz.CONTENTS.gz               what is in it
//!             ….tar.xz.DIGESTS                   clear-signed: BLAKE2B and SHA512 of archive and CONTENTS
//!             ….tar.xz.sha256                    clear-signed
//!             ….tar.xz.json                      inputs, versions, isolation, packages
//! stages/kept/NAME/, stages/state/ID/            the same of other states
//! ```
//!
//! In place of an archive there may be `….squashfs`, or a directory `….oci`, see [`super::oci`]. Of that one `index.json` is what is
//! signed and listed: it leads to all else by digests.
//!
//! All of it is made in a hidden directory beside its place and appears by renames, the archive last but for its metadata.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::engine::Engine;
use super::error::{Error, Result};
use super::exclusions;
use super::oci::{self, ImageOptions};
use super::tasks::{INVENTORY, InventoryInput};
use crate::archive::Format;
use crate::archive::digest::{Algorithm, Digests};
use crate::archive::tasks::{self as archive_tasks, ExportInput, Exported};
use crate::config::{ArtifactFormat, OciConfig, Stage4Definition};
use crate::sandbox::TaskOptions;
use crate::stage3::publish::{FileDigests, digests_body, sha256_body};
use crate::stage3::sign::{Gpg, SecretKey};
use crate::store::State;

/// Ending of the hidden directory in which an artifact is made.
const UNFINISHED: &str = ".new";

/// How to export.
#[derive(Debug, Clone)]
pub(super) struct ExportOptions {
    pub(super) format: ArtifactFormat,
    /// What an image says of itself.
    pub(super) oci: OciConfig,
    /// What is brought back of what is left out by default.
    pub(super) keep: Vec<String>,
    pub(super) signer: Option<(Gpg, SecretKey)>,
    pub(super) arch: String,
}

impl ExportOptions {
    /// What a stage4's artifact is like, unsigned: as its definition says, if there is one, unless `format` says otherwise.
    pub(super) fn of(definition: Option<&Stage4Definition>, format: Option<ArtifactFormat>, arch: &str) -> Self {
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

/// Where an artifact goes, and what it is called.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) dir: PathBuf,
    pub(super) file_name: String,
    /// Whether an image is to be one file instead of a directory.
    pub(super) one_file: bool,
    /// Whether the place is ours, where a newer artifact replaces an older one, and where killed runs may have left something.
    pub(super) ours: bool,
}

/// Layers of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ImageLayers {
    /// How many there are.
    pub count: usize,
    /// How many of them were packed before.
    pub reused: usize,
}

/// What is made first, and what the rest is about.
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
pub struct Artifact {
    /// The archive.
    pub path: PathBuf,
    /// Its size, bytes.
    pub size_bytes: u64,
    /// Its SHA-512, hexadecimal; of an image that of its `index.json`.
    pub sha512: String,
    /// Entries in it.
    pub entries: u64,
    /// Fingerprint of the signing key.
    pub signed_by: Option<String>,
    /// Whether it was there already, and nothing was done.
    pub reused: bool,
    /// Of an image, its layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<ImageLayers>,
}

impl Engine<'_> {
    /// Who signs: the key that `env/sign_key` names, else the one that `gpg` was given, else its default one. Nobody without `gpg`.
    pub(super) fn signer(&self, sign_key: Option<String>, gpg: Option<&Gpg>) -> Result<Option<(Gpg, SecretKey)>> {
        let Some(gpg) = gpg else { return Ok(None) };
        let gpg = Gpg { key: sign_key.or_else(|| gpg.key.clone()), ..gpg.clone() };
        // Ctrl-C ends gpg, too.
        let key = gpg.secret_key_available().map_err(|error| self.interrupted_or(Error::Sign(error)))?;
        Ok(Some((gpg, key)))
    }

    /// What a failure was if the user has asked to stop: what did not fail by itself.
    fn interrupted_or(&self, error: Error) -> Error {
        if self.interrupt.count() > 0 { Error::Interrupted { resumable: true } } else { error }
    }

    /// Where the artifact of `state` goes if the user has no other wish. `name` is the stage4's, or the state's.
    pub(super) fn target(&self, name: &str, kind: &str, state: &State, options: &ExportOptions) -> Target {
        let flat = name.replace('/', "-");
        let file_name = format!("{kind}-{}-{flat}-{}.{}", options.arch, stamp(self.clamp(state)), options.format);
        Target { dir: self.places.stages().join(name), file_name, one_file: false, ours: true }
    }

    /// Makes the artifact of `state`, unless it is there.
    pub(super) fn export(&self, name: &str, target: &Target, state: &State, options: &ExportOptions) -> Result<Artifact> {
        let Target { dir, file_name, .. } = target;
        if target.ours {
            fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
            remove_unfinished(dir)?;
        }
        let path = dir.join(file_name);
        let signed_by = options.signer.as_ref().map(|(_, key)| key.primary.to_string());
        let by = signed_by.as_ref().map_or(Signature::None, |fingerprint| Signature::By(fingerprint));
        if let Ok(artifact) = existing(&path, state, options, self.clamp(state), by) {
            note_sign_key(&path, options)?;
            return Ok(artifact);
        }
        if !target.ours
            && let Some(path) = all_files(&path).find(|path| fs::symlink_metadata(path).is_ok())
        {
            // Whatever it is, it is the user's.
            return Err(Error::ArtifactExists { path });
        }
        self.step(&format!("exporting {file_name}"));
        let staging = dir.join(format!(".{file_name}{UNFINISHED}"));
        if !target.ours && staging.is_dir() {
            fs::remove_dir_all(&staging).map_err(Error::io("remove", &staging))?;
        }
        fs::create_dir(&staging).map_err(Error::io("create", &staging))?;
        let made = self.export_into(&staging, name, target, state, options, signed_by).and_then(|(mut artifact, files)| {
            for file in files {
                put(&staging.join(&file), &dir.join(&file))?;
            }
            // Also what was exchanged for something new.
            fs::remove_dir_all(&staging).map_err(Error::io("remove", &staging))?;
            artifact.path = path;
            Ok(artifact)
        });
        if made.is_err()
            && let Err(left) = fs::remove_dir_all(&staging)
        {
            tracing::warn!("cannot remove `{}`: {left}", staging.display());
        }
        made.map_err(|error| self.interrupted_or(error))
    }

    /// The artifact of the stage4 `name` if it is there as asked for, else why it has to be made. Nothing is written, and nobody asked for
    /// keys.
    pub(super) fn artifact_standing(
        &self,
        name: &str,
        state: &State,
        options: &ExportOptions,
        signature: Signature<'_>,
    ) -> std::result::Result<Artifact, Lacking> {
        let Target { dir, file_name, .. } = self.target(name, "stage4", state, options);
        existing(&dir.join(file_name), state, options, self.clamp(state), signature)
    }

    /// Writes all files into `staging`; returns their names, the metadata last.
    fn export_into(
        &self,
        staging: &Path,
        name: &str,
        target: &Target,
        state: &State,
        options: &ExportOptions,
        signed_by: Option<String>,
    ) -> Result<(Artifact, Vec<String>)> {
        let file_name = &target.file_name;
        let archive = staging.join(file_name);
        let clamp = self.clamp(state);
        let inventory = self.inventory(state)?;
        let made = match options.format {
            ArtifactFormat::Oci => self.make_image(&archive, name, target, state, options)?,
            _ => self.make_archive(&archive, file_name, state, options)?,
        };
        let contents_name = made.contents.as_ref().map(|contents| contents.name.clone());
        let mut files: Vec<String> = contents_name.into_iter().chain([file_name.clone()]).collect();
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
            let signed = gpg.detach_sign(&staging.join(&made.digests.name)).map_err(Error::Sign)?;
            write_synced(&staging.join(format!("{file_name}.asc")), &signed.bytes)?;
            files.push(format!("{file_name}.asc"));
        }
        let digests = &made.digests;
        let metadata = serde_json::json!({
            "format": 1,
            "name": file_name,
            "state": state.id,
            "key": state.key,
            "source_date_epoch": clamp,
            "gentoomuch": env!("CARGO_PKG_VERSION"),
            "isolation": crate::host::rung(),
            "keep": options.keep,
            "signed_by": signed_by,
            "form": options.format.to_string(),
            // By which words it was found, so that it can be told without asking gpg whether it still is the right one.
            "sign_key": options.signer.as_ref().and_then(|(gpg, _)| gpg.key.as_deref()),
            "entries": made.entries,
            "bytes_tar": made.bytes_tar,
            "size": made.size_bytes,
            "digests": { "BLAKE2B": digests.blake2b, "SHA256": digests.sha256, "SHA512": digests.sha512 },
            "image": (options.format == ArtifactFormat::Oci).then(|| image_inputs(options)),
            "blobs": made.blobs.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "origin": state.origin,
            "packages": inventory,
        });
        write_synced(&staging.join(format!("{file_name}.json")), &with_newline(&metadata))?;
        files.push(format!("{file_name}.json"));
        let artifact = Artifact {
            path: archive,
            size_bytes: made.size_bytes,
            sha512: digests.sha512.clone(),
            entries: made.entries,
            signed_by,
            reused: false,
            layers: made.layers,
        };
        Ok((artifact, files))
    }

    fn make_archive(&self, archive: &Path, file_name: &str, state: &State, options: &ExportOptions) -> Result<Made> {
        let contents_name = format!("{file_name}.CONTENTS.gz");
        let contents = archive.with_file_name(&contents_name);
        let clamp = self.clamp(state);
        let create = |path: &Path| File::create_new(path).map_err(Error::io("create", path));
        let contents_file = create(&contents)?;
        let open = |file: &File, path: &Path| file.try_clone().map(OwnedFd::from).map_err(Error::io("open", path));
        let listing = open(&contents_file, &contents)?;
        let format = match options.format {
            ArtifactFormat::TarXz => Format::TarXz,
            ArtifactFormat::TarZst => Format::TarZst,
            ArtifactFormat::TarGz => Format::TarGz,
            ArtifactFormat::Squashfs | ArtifactFormat::Oci => Format::Tar,
        };
        let (packed, digests) = if options.format == ArtifactFormat::Squashfs {
            let packed = self.write_squashfs(archive, clamp, |out| self.pack(out, listing, format, state, options))?;
            (packed, digests_of(archive, file_name)?)
        } else {
            let file = create(archive)?;
            let packed = self.pack(open(&file, archive)?, listing, format, state, options)?;
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

    fn pack(&self, out: OwnedFd, listing: OwnedFd, format: Format, state: &State, options: &ExportOptions) -> Result<Exported> {
        let input = ExportInput {
            layers: self.store.lower_dirs(state),
            as_layer: false,
            format,
            level: None,
            threads: self.settings.processors,
            exclude: exclusions::DEFAULT.iter().map(|pattern| (*pattern).to_owned()).collect(),
            keep: options.keep.clone(),
            mtime_clamp: self.clamp(state),
        };
        let exported =
            archive_tasks::export(self.launcher, &input, out, Some(listing), Vec::new(), Some(self.cancel()?), self.observer);
        // The state is there: the next run has only this to do.
        self.not_interrupted().map_err(|_| Error::Interrupted { resumable: true })?;
        Ok(exported?)
    }

    fn make_image(&self, archive: &Path, name: &str, target: &Target, state: &State, options: &ExportOptions) -> Result<Made> {
        let file_name = &target.file_name;
        let clamp = self.clamp(state);
        let layout = if target.one_file { archive.with_file_name("layout") } else { archive.to_owned() };
        let (flat, version) = (name.replace('/', "-"), stamp(clamp));
        let image = ImageOptions { name: &flat, version: &version, arch: &options.arch, keep: &options.keep, config: &options.oci };
        let image = self.write_image(&layout, state, &image)?;
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

    /// The packages in a state, as its VDB has them.
    pub(super) fn inventory(&self, state: &State) -> Result<serde_json::Value> {
        self.inventory_of(self.store.lower_dirs(state))
    }

    /// The same of any stack of trees, topmost first.
    pub(super) fn inventory_of(&self, lower: Vec<std::path::PathBuf>) -> Result<serde_json::Value> {
        let input = InventoryInput { lower };
        self.task(INVENTORY, &input, TaskOptions { mounts: true, ..TaskOptions::default() }, &mut |_| {})
    }
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

/// Whose signature an artifact shall have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Signature<'a> {
    /// Nobody's.
    None,
    /// That of the key with this primary fingerprint.
    By(&'a str),
    /// That of the key found by these words, as gpg takes them; of gpg's default key if there are none.
    Of(Option<&'a str>),
}

/// Why an artifact has to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lacking {
    /// There is none of this name, or not all of its files.
    Absent,
    /// It is a file of another form, or with other times in it.
    OtherForm,
    /// It is that of another state.
    OtherState,
    /// Other things were kept in it.
    OtherKeep,
    /// It says another thing about how a container runs.
    OtherImage,
    /// It is signed by another key, or not, or should not be.
    OtherSignature,
}

/// What an artifact's metadata say, as far as it decides whether it is the right one.
#[derive(Deserialize)]
struct Recorded {
    state: String,
    /// What kind of file it is; of artifacts of earlier versions their names tell.
    form: Option<String>,
    source_date_epoch: i64,
    signed_by: Option<String>,
    #[serde(default = "unknown")]
    sign_key: serde_json::Value,
    keep: Vec<String>,
    size: u64,
    entries: u64,
    digests: BTreeMap<String, String>,
    /// What decides an image beside the state.
    #[serde(default)]
    image: serde_json::Value,
    /// Files of an image with their sizes.
    #[serde(default)]
    blobs: BTreeMap<String, u64>,
}

/// Of artifacts of earlier versions it is not known by which words their key was found.
fn unknown() -> serde_json::Value {
    false.into()
}

impl Signature<'_> {
    fn fits(self, made: &Recorded) -> bool {
        match (self, &made.signed_by) {
            (Self::None, None) => true,
            (Self::By(fingerprint), Some(by)) => by == fingerprint,
            (Self::Of(words), Some(by)) => made.sign_key == serde_json::json!(words) || words.is_some_and(|words| means(words, by)),
            _ => false,
        }
    }
}

/// Whether `words` are the fingerprint or the long key id of a key.
fn means(words: &str, fingerprint: &str) -> bool {
    let digits: String = words.trim_start_matches("0x").chars().filter(|c| !c.is_whitespace()).collect();
    digits.len() >= 16 && digits.chars().all(|c| c.is_ascii_hexdigit()) && fingerprint.ends_with(&digits.to_ascii_uppercase())
}

fn digests_of(path: &Path, name: &str) -> Result<FileDigests> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    FileDigests::read(name, file, |_| {}).map_err(Error::io("read", path))
}

fn stamp(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH).strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// What decides an image beside the state.
fn image_inputs(options: &ExportOptions) -> serde_json::Value {
    serde_json::json!({ "config": options.oci, "arch": options.arch })
}

/// Moves a file or directory into its place. A directory that is there is exchanged for it.
fn put(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() && to.is_dir() {
        let cwd = rustix::fs::CWD;
        return rustix::fs::renameat_with(cwd, from, cwd, to, rustix::fs::RenameFlags::EXCHANGE).map_err(|errno| Error::Io {
            action: "replace",
            path: to.to_owned(),
            source: errno.into(),
        });
    }
    fs::rename(from, to).map_err(Error::io("rename", from))
}

/// Notes by which words the key of the artifact at `path` is found now, so that the next look needs no gpg.
fn note_sign_key(path: &Path, options: &ExportOptions) -> Result<()> {
    let Some((gpg, _)) = &options.signer else { return Ok(()) };
    let file = PathBuf::from(format!("{}.json", path.display()));
    let bytes = fs::read(&file).map_err(Error::io("read", &file))?;
    let Ok(mut metadata) = serde_json::from_slice::<serde_json::Value>(&bytes) else { return Ok(()) };
    let words = serde_json::json!(gpg.key);
    if metadata["sign_key"] == words {
        return Ok(());
    }
    metadata["sign_key"] = words;
    let new = PathBuf::from(format!("{}{UNFINISHED}", file.display()));
    write_synced(&new, &with_newline(&metadata))?;
    fs::rename(&new, &file).map_err(Error::io("rename", &new))
}

fn with_newline(metadata: &serde_json::Value) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(metadata).unwrap_or_default();
    text.push(b'\n');
    text
}

/// The files of the artifact at `path`.
fn all_files(path: &Path) -> impl Iterator<Item = PathBuf> {
    let suffixes = ["", ".CONTENTS.gz", ".DIGESTS", ".sha256", ".asc", ".json"];
    suffixes.into_iter().map(move |suffix| PathBuf::from(format!("{}{suffix}", path.display())))
}

/// The artifact that is at `path` already, if it is of this state, complete, and signed as asked for.
fn existing(
    path: &Path,
    state: &State,
    options: &ExportOptions,
    clamp: i64,
    signature: Signature<'_>,
) -> std::result::Result<Artifact, Lacking> {
    let beside = |suffix: &str| PathBuf::from(format!("{}.{suffix}", path.display()));
    let read = || Some((fs::read(beside("json")).ok()?, fs::symlink_metadata(path).ok()?));
    let (metadata, found) = read().ok_or(Lacking::Absent)?;
    let made: Recorded = serde_json::from_slice(&metadata).map_err(|_| Lacking::Absent)?;
    let signed = made.signed_by.is_some();
    let is_image = options.format == ArtifactFormat::Oci;
    let there = if found.is_dir() { is_image && image_is_there(path, &made) } else { found.len() == made.size };
    let contents = if is_image { &[][..] } else { &["CONTENTS.gz"] };
    let complete = there
        && contents.iter().chain(&["DIGESTS", "sha256"]).all(|suffix| beside(suffix).is_file())
        && (!signed || beside("asc").is_file());
    if !complete {
        return Err(Lacking::Absent);
    }
    if made.form.as_ref().is_some_and(|form| *form != options.format.to_string()) || made.source_date_epoch != clamp {
        return Err(Lacking::OtherForm);
    }
    if made.state != state.id.as_str() {
        return Err(Lacking::OtherState);
    }
    if made.keep != options.keep {
        return Err(Lacking::OtherKeep);
    }
    if is_image && made.image != image_inputs(options) {
        return Err(Lacking::OtherImage);
    }
    if !signature.fits(&made) {
        return Err(Lacking::OtherSignature);
    }
    Ok(Artifact {
        path: path.to_owned(),
        size_bytes: made.size,
        sha512: made.digests.get(Algorithm::Sha512.name()).cloned().unwrap_or_default(),
        entries: made.entries,
        signed_by: made.signed_by,
        reused: true,
        layers: None,
    })
}

/// Whether index and blobs of an image are there, by digest and by size.
fn image_is_there(dir: &Path, made: &Recorded) -> bool {
    let sha512 = made.digests.get(Algorithm::Sha512.name());
    let index = digests_of(&dir.join("index.json"), "").is_ok_and(|digests| sha512 == Some(&digests.sha512));
    let blob =
        |(name, size): (&String, &u64)| fs::metadata(dir.join("blobs/sha256").join(name)).is_ok_and(|meta| meta.len() == *size);
    index && dir.join("oci-layout").is_file() && made.blobs.iter().all(blob)
}

/// Removes what runs that were killed have left, of this artifact or of one with another name; the lock on the stage4 is the caller's.
fn remove_unfinished(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if [".stage4-", ".state-"].iter().any(|start| name.starts_with(start)) && name.ends_with(UNFINISHED) {
            fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

pub(super) fn write_synced(path: &Path, contents: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    file.write_all(contents).and_then(|()| file.sync_all()).map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_by_fingerprint_long_id_or_the_words_it_was_found_by() {
        const BY: &str = "32A28C91034C80B37486745F00AE59BC68EB1A4D";
        let made = |sign_key: serde_json::Value, signed_by: Option<&str>| Recorded {
            state: String::new(),
            form: None,
            source_date_epoch: 0,
            signed_by: signed_by.map(str::to_owned),
            sign_key,
            keep: Vec::new(),
            size: 0,
            entries: 0,
            digests: BTreeMap::new(),
            image: serde_json::Value::Null,
            blobs: BTreeMap::new(),
        };
        let old = made(unknown(), Some(BY));
        assert!(Signature::By(BY).fits(&old) && Signature::Of(Some(BY)).fits(&old));
        assert!(Signature::Of(Some("0x00ae59bc68eb1a4d")).fits(&old));
        for not in
            [Signature::None, Signature::By("32"), Signature::Of(Some("68EB1A4D")), Signature::Of(Some("me")), Signature::Of(None)]
        {
            assert!(!not.fits(&old), "{not:?}");
        }
        assert!(Signature::Of(Some("me")).fits(&made("me".into(), Some(BY))));
        assert!(!Signature::Of(Some("you")).fits(&made("me".into(), Some(BY))));
        assert!(Signature::Of(None).fits(&made(serde_json::Value::Null, Some(BY))));
        let unsigned = made(serde_json::Value::Null, None);
        assert!(Signature::None.fits(&unsigned) && !Signature::Of(None).fits(&unsigned));
    }

    #[test]
    fn what_killed_runs_left_goes_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let unfinished = [".stage4-amd64-web-1.tar.xz.new", ".stage4-amd64-web-2.tar.zst.new"];
        for name in unfinished {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("part"), "x").unwrap();
        }
        let others = ["stage4-amd64-web-1.tar.xz", "stage4-amd64-web-1.tar.xz.new", ".mine.new"];
        for name in others {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        remove_unfinished(dir.path()).unwrap();
        assert!(unfinished.iter().all(|name| !dir.path().join(name).exists()));
        assert!(others.iter().all(|name| dir.path().join(name).exists()));
    }
}
