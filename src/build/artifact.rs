//! Exports a build state as an artifact, with everything beside it that upstream puts beside a stage3.
//!
//! ```text
//! stages/NAME/stage4-ARCH-NAME-TIME.tar.xz       the archive; TIME is that of the newest input, so equal inputs give equal names
//!             ….tar.xz.asc                       detached signature
//!             ….tar.xz.CONTENTS.gz               what is in it
//!             ….tar.xz.DIGESTS                   clear-signed: BLAKE2B and SHA512 of archive and CONTENTS
//!             ….tar.xz.sha256                    clear-signed
//!             ….tar.xz.json                      inputs, versions, isolation, packages
//! ```
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
use super::tasks::{INVENTORY, InventoryInput};
use crate::archive::Format;
use crate::archive::digest::{Algorithm, Digests};
use crate::archive::tasks::{self as archive_tasks, ExportInput, Exported};
use crate::sandbox::TaskOptions;
use crate::stage3::publish::{FileDigests, digests_body, sha256_body};
use crate::stage3::sign::{Gpg, SecretKey};
use crate::store::State;

/// Ending of the hidden directory in which an artifact is made.
const UNFINISHED: &str = ".new";

/// How to export.
#[derive(Debug)]
pub(super) struct ExportOptions<'a> {
    pub(super) format: Format,
    /// What is brought back of what is left out by default.
    pub(super) keep: Vec<String>,
    pub(super) signer: Option<(&'a Gpg, SecretKey)>,
    pub(super) arch: String,
}

/// The files of an artifact.
#[derive(Debug, Clone, Serialize)]
pub struct Artifact {
    /// The archive.
    pub path: PathBuf,
    /// Its size, bytes.
    pub size_bytes: u64,
    /// Its SHA-512, hexadecimal.
    pub sha512: String,
    /// Entries in it.
    pub entries: u64,
    /// Fingerprint of the signing key.
    pub signed_by: Option<String>,
    /// Whether it was there already, and nothing was done.
    pub reused: bool,
}

impl Engine<'_> {
    /// Makes the artifact of `state`, unless it is there.
    pub(super) fn export(&self, name: &str, state: &State, options: &ExportOptions<'_>) -> Result<Artifact> {
        let clamp = self.clamp(state);
        let path = self.artifact_path(name, state, options.format, &options.arch);
        let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let dir = self.places.stages().join(name);
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        remove_unfinished(&dir)?;
        let signed_by = options.signer.as_ref().map(|(_, key)| key.primary.to_string());
        let by = signed_by.as_ref().map_or(Signature::None, |fingerprint| Signature::By(fingerprint));
        if let Ok(artifact) = existing(&path, state, &options.keep, by) {
            return Ok(artifact);
        }
        self.step(&format!("exporting {file_name}"));
        let staging = dir.join(format!(".{file_name}{UNFINISHED}"));
        fs::create_dir(&staging).map_err(Error::io("create", &staging))?;
        let made = self.export_into(&staging, &file_name, state, options, clamp, signed_by);
        match made {
            Ok((mut artifact, files)) => {
                for file in files {
                    let (from, to) = (staging.join(&file), dir.join(&file));
                    fs::rename(&from, &to).map_err(Error::io("rename", &from))?;
                }
                fs::remove_dir(&staging).map_err(Error::io("remove", &staging))?;
                artifact.path = path;
                Ok(artifact)
            }
            Err(error) => {
                if let Err(left) = fs::remove_dir_all(&staging) {
                    tracing::warn!("cannot remove `{}`: {left}", staging.display());
                }
                Err(error)
            }
        }
    }

    /// The artifact of `state` if it is there as asked for, else why it has to be made. Nothing is written, and nobody asked for keys.
    pub(super) fn artifact_standing(
        &self,
        name: &str,
        state: &State,
        format: Format,
        arch: &str,
        keep: &[String],
        signature: Signature<'_>,
    ) -> std::result::Result<Artifact, Lacking> {
        existing(&self.artifact_path(name, state, format, arch), state, keep, signature)
    }

    /// The latest time that a file in an archive has.
    fn clamp(&self, state: &State) -> i64 {
        self.settings.source_date_epoch.unwrap_or(state.newest_input)
    }

    fn artifact_path(&self, name: &str, state: &State, format: Format, arch: &str) -> PathBuf {
        let time = jiff::Timestamp::from_second(self.clamp(state)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let stamp = time.strftime("%Y%m%dT%H%M%SZ");
        let flat = name.replace('/', "-");
        self.places.stages().join(name).join(format!("stage4-{arch}-{flat}-{stamp}.{}", format.extension()))
    }

    /// Writes all files into `staging`; returns their names, the metadata last.
    fn export_into(
        &self,
        staging: &Path,
        file_name: &str,
        state: &State,
        options: &ExportOptions<'_>,
        clamp: i64,
        signed_by: Option<String>,
    ) -> Result<(Artifact, Vec<String>)> {
        let archive = staging.join(file_name);
        let contents_name = format!("{file_name}.CONTENTS.gz");
        let packed = self.pack(&archive, &staging.join(&contents_name), state, options, clamp)?;
        let inventory = self.inventory(state)?;
        let mut listed = vec![file_digests(file_name, &packed.archive)];
        listed.extend(packed.contents.as_ref().map(|digests| file_digests(&contents_name, digests)));
        let mut files = vec![contents_name, file_name.to_owned()];
        for (suffix, text) in [("DIGESTS", digests_body(&listed)), ("sha256", sha256_body(&listed[0]))] {
            let bytes = match &options.signer {
                Some((gpg, _)) => gpg.clear_sign(&text).map_err(Error::Sign)?.bytes,
                None => text.into_bytes(),
            };
            write_synced(&staging.join(format!("{file_name}.{suffix}")), &bytes)?;
            files.push(format!("{file_name}.{suffix}"));
        }
        if let Some((gpg, _)) = &options.signer {
            let signed = gpg.detach_sign(&archive).map_err(Error::Sign)?;
            write_synced(&staging.join(format!("{file_name}.asc")), &signed.bytes)?;
            files.push(format!("{file_name}.asc"));
        }
        let metadata = serde_json::json!({
            "format": 1,
            "name": file_name,
            "state": state.id,
            "key": state.key,
            "source_date_epoch": clamp,
            "gentoomuch": env!("CARGO_PKG_VERSION"),
            "isolation": crate::host::RUNG,
            "keep": options.keep,
            "signed_by": signed_by,
            // By which words it was found, so that it can be told without asking gpg whether it still is the right one.
            "sign_key": options.signer.as_ref().and_then(|(gpg, _)| gpg.key.as_deref()),
            "entries": packed.entries,
            "bytes_tar": packed.bytes_tar,
            "size": packed.archive.size,
            "digests": packed.archive.hex,
            "origin": state.origin,
            "packages": inventory,
        });
        let mut text = serde_json::to_vec_pretty(&metadata).unwrap_or_default();
        text.push(b'\n');
        write_synced(&staging.join(format!("{file_name}.json")), &text)?;
        files.push(format!("{file_name}.json"));
        let artifact = Artifact {
            path: archive,
            size_bytes: packed.archive.size,
            sha512: packed.archive.get(Algorithm::Sha512).to_owned(),
            entries: packed.entries,
            signed_by,
            reused: false,
        };
        Ok((artifact, files))
    }

    fn pack(&self, archive: &Path, contents: &Path, state: &State, options: &ExportOptions<'_>, clamp: i64) -> Result<Exported> {
        let create = |path: &Path| File::create_new(path).map_err(Error::io("create", path));
        let (archive_file, contents_file) = (create(archive)?, create(contents)?);
        let input = ExportInput {
            layers: self.store.lower_dirs(state),
            format: options.format,
            level: None,
            threads: self.settings.processors,
            exclude: exclusions::DEFAULT.iter().map(|pattern| (*pattern).to_owned()).collect(),
            keep: options.keep.clone(),
            mtime_clamp: clamp,
        };
        let open = |file: &File, path: &Path| file.try_clone().map(OwnedFd::from).map_err(Error::io("open", path));
        let (out, listing) = (open(&archive_file, archive)?, open(&contents_file, contents)?);
        let exported =
            archive_tasks::export(self.launcher, &input, out, Some(listing), Vec::new(), Some(self.cancel()?), self.observer);
        // The state is there: the next run has only this to do.
        self.not_interrupted().map_err(|_| Error::Interrupted { resumable: true })?;
        let exported = exported?;
        for (file, path) in [(archive_file, archive), (contents_file, contents)] {
            file.sync_all().map_err(Error::io("sync", path))?;
        }
        Ok(exported)
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
    /// It is that of another state.
    OtherState,
    /// Other things were kept in it.
    OtherKeep,
    /// It is signed by another key, or not, or should not be.
    OtherSignature,
}

/// What an artifact's metadata say, as far as it decides whether it is the right one.
#[derive(Deserialize)]
struct Made {
    state: String,
    signed_by: Option<String>,
    #[serde(default = "unknown")]
    sign_key: serde_json::Value,
    keep: Vec<String>,
    size: u64,
    entries: u64,
    digests: BTreeMap<String, String>,
}

/// Of artifacts of earlier versions it is not known by which words their key was found.
fn unknown() -> serde_json::Value {
    false.into()
}

impl Signature<'_> {
    fn fits(self, made: &Made) -> bool {
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

/// The artifact that is at `path` already, if it is of this state, complete, and signed as asked for.
fn existing(path: &Path, state: &State, keep: &[String], signature: Signature<'_>) -> std::result::Result<Artifact, Lacking> {
    let beside = |suffix: &str| PathBuf::from(format!("{}.{suffix}", path.display()));
    let read = || Some((fs::read(beside("json")).ok()?, fs::metadata(path).ok()?.len()));
    let (metadata, size_bytes) = read().ok_or(Lacking::Absent)?;
    let made: Made = serde_json::from_slice(&metadata).map_err(|_| Lacking::Absent)?;
    let signed = made.signed_by.is_some();
    let complete = made.size == size_bytes
        && ["CONTENTS.gz", "DIGESTS", "sha256"].iter().all(|suffix| beside(suffix).is_file())
        && (!signed || beside("asc").is_file());
    if !complete {
        return Err(Lacking::Absent);
    }
    if made.state != state.id.as_str() {
        return Err(Lacking::OtherState);
    }
    if made.keep != keep {
        return Err(Lacking::OtherKeep);
    }
    if !signature.fits(&made) {
        return Err(Lacking::OtherSignature);
    }
    Ok(Artifact {
        path: path.to_owned(),
        size_bytes,
        sha512: made.digests.get(Algorithm::Sha512.name()).cloned().unwrap_or_default(),
        entries: made.entries,
        signed_by: made.signed_by,
        reused: true,
    })
}

/// Removes what runs that were killed have left, of this artifact or of one with another name; the lock on the stage4 is the caller's.
fn remove_unfinished(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(".stage4-") && name.ends_with(UNFINISHED) {
            fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

fn write_synced(path: &Path, contents: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    file.write_all(contents).and_then(|()| file.sync_all()).map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_by_fingerprint_long_id_or_the_words_it_was_found_by() {
        const BY: &str = "32A28C91034C80B37486745F00AE59BC68EB1A4D";
        let made = |sign_key: serde_json::Value, signed_by: Option<&str>| Made {
            state: String::new(),
            signed_by: signed_by.map(str::to_owned),
            sign_key,
            keep: Vec::new(),
            size: 0,
            entries: 0,
            digests: BTreeMap::new(),
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
