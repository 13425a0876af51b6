//! An artifact's metadata, and whether its files still match them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::archive::digest::Algorithm;
use crate::artifact::seen::Stamps;
use crate::artifact::{Artifact, Error, ExportOptions, Result, exclusions};
use crate::config::ArtifactFormat;
use crate::path_error::OfFile as _;
use crate::stage3::hashing::Hasher;
use crate::stage3::publish::FileDigests;
use crate::store::State;

/// Raise it whenever the same inputs are packed to other bytes.
pub(crate) const PACKER: &str = "1";
/// The files beside an artifact. The metadata come last: their presence means that all others are there.
pub(crate) const BESIDE: [&str; 5] = ["CONTENTS.gz", "DIGESTS", "sha256", "asc", "json"];
const CHUNK_BYTES: usize = 1 << 20;

/// The signature that an artifact should have.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signature<'a> {
    /// None.
    None,
    /// By the key with this primary fingerprint.
    By(&'a str),
    /// By the key that gpg finds for these words; by gpg's default key if `None`.
    Of(Option<&'a str>),
}

/// Why an artifact has to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lacking {
    /// It does not exist, or not all of its files.
    Absent,
    /// A file does not match the metadata.
    Damaged,
    /// It has another form, or other times in it.
    OtherForm,
    /// It is that of another state.
    OtherState,
    /// Other things were kept in it.
    OtherKeep,
    /// The default exclusions were others, or are unknown.
    OtherExclusions,
    /// Its container configuration differs.
    OtherImage,
    /// Its signature is missing, unwanted, or by another key.
    OtherSignature,
}

/// Everything that decides an artifact's bytes, except the signature.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) state: &'a State,
    pub(crate) options: &'a ExportOptions,
    pub(crate) clamp: i64,
    /// What decides an image's bytes besides the state.
    pub(crate) image: serde_json::Value,
    /// The directory of [`super::seen`].
    pub(crate) seen: PathBuf,
}

/// The parts of an artifact's metadata that decide whether it is up to date.
#[derive(Debug, Deserialize)]
pub(crate) struct Recorded {
    pub(crate) state: String,
    /// The form. Earlier versions did not record it; then the file's name tells.
    pub(crate) form: Option<String>,
    source_date_epoch: i64,
    pub(crate) signed_by: Option<String>,
    #[serde(default = "unknown")]
    sign_key: serde_json::Value,
    keep: Vec<String>,
    /// Unknown in artifacts of earlier versions.
    leaves_out: Option<Vec<String>>,
    packer: Option<String>,
    pub(crate) size: u64,
    pub(crate) entries: u64,
    #[serde(default)]
    pub(crate) bytes_tar: u64,
    digests: BTreeMap<String, String>,
    #[serde(default)]
    image: serde_json::Value,
    /// The blobs of an image with their sizes.
    #[serde(default)]
    pub(crate) blobs: BTreeMap<String, u64>,
    /// All other files except the metadata.
    #[serde(default)]
    files: BTreeMap<String, FileMark>,
}

/// How a file is recognised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct FileMark {
    size: u64,
    #[serde(rename = "BLAKE2B")]
    blake2b: String,
}

impl FileMark {
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let (size, hash) = hashed(path, Hasher::blake2b()).map_err(Error::io("read", path))?;
        Ok(Self { size, blake2b: hash })
    }

    fn fits(&self, path: &Path) -> bool {
        is_file_of(path, self.size) && hashed(path, Hasher::blake2b()).is_ok_and(|(_, hash)| hash == self.blake2b)
    }
}

fn is_file_of(path: &Path, size: u64) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == size)
}

fn hashed(path: &Path, mut hasher: Hasher) -> std::io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut size = 0;
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok((size, hasher.hex())),
            count => {
                hasher.update(&chunk[..count]);
                size += count as u64;
            }
        }
    }
}

/// Earlier versions did not record the words of the key.
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

/// Whether `words` are the fingerprint or long key id of the key.
fn means(words: &str, fingerprint: &str) -> bool {
    let digits: String = words.trim_start_matches("0x").chars().filter(|c| !c.is_whitespace()).collect();
    digits.len() >= 16 && digits.chars().all(|c| c.is_ascii_hexdigit()) && fingerprint.ends_with(&digits.to_ascii_uppercase())
}

/// `PATH.SUFFIX`
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}.{suffix}", path.display()))
}

/// All files that can belong to an artifact at `path`.
pub(crate) fn all_files(path: &Path) -> impl Iterator<Item = PathBuf> {
    std::iter::once(path.to_owned()).chain(BESIDE.into_iter().map(move |suffix| beside(path, suffix)))
}

/// The artifact of this form in `dir` that was made last, by its metadata.
pub(crate) fn newest_of(dir: &Path, form: &str) -> Option<(PathBuf, Recorded)> {
    let made = fs::read_dir(dir).ok()?.flatten().filter_map(|entry| {
        let path = dir.join(entry.file_name().to_str()?.strip_suffix(".json")?);
        let recorded = Recorded::read(&path).filter(|made| made.form.as_deref() == Some(form))?;
        Some((entry.metadata().ok()?.modified().ok()?, path, recorded))
    });
    made.max_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1))).map(|(_, path, recorded)| (path, recorded))
}

impl Recorded {
    /// The metadata of the artifact at `path`.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        Self::parse(&fs::read(beside(path, "json")).ok()?)
    }

    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// The metadata of an up-to-date, complete artifact; else why it has to be made.
    pub(crate) fn standing(path: &Path, wanted: &Wanted<'_>, signature: Signature<'_>) -> std::result::Result<Self, Lacking> {
        let made = Self::read(path).ok_or(Lacking::Absent)?;
        made.is_wanted(wanted)?;
        made.is_whole(path, &wanted.seen)?;
        if signature.fits(&made) { Ok(made) } else { Err(Lacking::OtherSignature) }
    }

    /// The metadata of the artifact at `path`, `None` if there are none: then it is the rest of a killed run. Else why it is damaged, as far
    /// as sizes tell. `within` are the files of an image, relative to it.
    pub(crate) fn judged(path: &Path, within: &[PathBuf]) -> std::result::Result<Option<Self>, String> {
        let json = beside(path, "json");
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = match fs::read(&json) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| format!("`{}` cannot be read: {error}", name(&json)))?,
        };
        let made: Self = serde_json::from_slice(&bytes).map_err(|_| format!("`{}` is damaged", name(&json)))?;
        let (dir, is_image) = (path.parent().unwrap_or(path), path.is_dir());
        let blobs = made.blobs.iter().map(|(name, size)| (path.join("blobs/sha256").join(name), *size));
        let others = made.files.iter().map(|(name, mark)| (dir.join(name), mark.size));
        let main = (!is_image).then(|| (path.to_owned(), made.size));
        let all: Vec<(PathBuf, u64)> = main.into_iter().chain(others).chain(blobs).collect();
        if let Some((wrong, _)) = all.iter().find(|(path, size)| !is_file_of(path, *size)) {
            return Err(format!("`{}` is not as it was written", name(wrong)));
        }
        let index = path.join("index.json");
        let known = |file: &PathBuf| path.join(file) == index || all.iter().any(|(known, _)| *known == path.join(file));
        match within.iter().find(|file| !known(file)) {
            Some(foreign) => Err(format!("`{}` in it does not belong to it", foreign.display())),
            None => Ok(Some(made)),
        }
    }

    fn is_wanted(&self, wanted: &Wanted<'_>) -> std::result::Result<(), Lacking> {
        let options = wanted.options;
        let form = self.form.as_ref().is_none_or(|form| *form == options.format.to_string());
        if !form || self.source_date_epoch != wanted.clamp {
            return Err(Lacking::OtherForm);
        }
        if self.state != wanted.state.id.as_str() {
            return Err(Lacking::OtherState);
        }
        if self.keep != options.keep {
            return Err(Lacking::OtherKeep);
        }
        let left_out = self.leaves_out.as_ref().is_some_and(|list| list.iter().eq(exclusions::DEFAULT));
        if !left_out || self.packer.as_deref() != Some(PACKER) {
            return Err(Lacking::OtherExclusions);
        }
        if options.format == ArtifactFormat::Oci && self.image != wanted.image {
            return Err(Lacking::OtherImage);
        }
        Ok(())
    }

    /// Whether each file has its digest.
    pub(crate) fn is_whole(&self, path: &Path, seen: &Path) -> std::result::Result<(), Lacking> {
        let dir = path.parent().unwrap_or(path);
        let is_image = path.is_dir();
        let main = if is_image { path.join("index.json") } else { path.to_owned() };
        let blob = |name: &String| path.join("blobs/sha256").join(name);
        let all = self.files.keys().map(|name| dir.join(name)).chain([main.clone()]).chain(self.blobs.keys().map(blob));
        let stamps = Stamps::of(&all.chain([beside(path, "json")]).collect::<Vec<_>>());
        let stamps = stamps.filter(|_| !self.files.is_empty() && self.blobs.is_empty() != is_image).ok_or(Lacking::Absent)?;
        if stamps.are_noted(seen, path) {
            return Ok(());
        }
        let right = (is_image || is_file_of(&main, self.size))
            && hashed(&main, Hasher::blake2b()).is_ok_and(|(_, hash)| self.digests.get(Algorithm::Blake2b.name()) == Some(&hash))
            && self.files.iter().all(|(name, mark)| mark.fits(&dir.join(name)))
            && self.blobs.iter().all(|(name, size)| {
                is_file_of(&blob(name), *size) && hashed(&blob(name), Hasher::sha256()).is_ok_and(|(_, hash)| hash == *name)
            });
        if !right {
            return Err(Lacking::Damaged);
        }
        stamps.note(seen, path);
        Ok(())
    }

    /// Files in `dir` that match these metadata, `file_name` first.
    pub(crate) fn own_files(&self, dir: &Path, file_name: &str) -> Vec<String> {
        let main = dir.join(file_name);
        let index = main.join("index.json");
        let digested = if main.is_dir() { &index } else { &main };
        let is_own =
            hashed(digested, Hasher::blake2b()).is_ok_and(|(_, hash)| self.digests.get(Algorithm::Blake2b.name()) == Some(&hash));
        let main = is_own.then(|| file_name.to_owned());
        let others = self.files.iter().filter(|(name, mark)| !name.contains('/') && mark.fits(&dir.join(name)));
        main.into_iter().chain(others.map(|(name, _)| name.clone())).collect()
    }

    /// The digests of the archive, or of an image's `index.json`, called `name`.
    pub(crate) fn digests(&self, name: String) -> FileDigests {
        let of = |algorithm: Algorithm| self.digests.get(algorithm.name()).cloned().unwrap_or_default();
        FileDigests {
            name,
            size: self.size,
            blake2b: of(Algorithm::Blake2b),
            sha512: of(Algorithm::Sha512),
            sha256: of(Algorithm::Sha256),
        }
    }

    pub(crate) fn artifact(self, path: PathBuf, format: String) -> Artifact {
        let sha512 = self.digests(String::new()).sha512;
        let Self { size, entries, signed_by, .. } = self;
        Artifact { path, format, size_bytes: size, sha512, entries, signed_by, reused: true, layers: None }
    }
}

/// The name of the artifact in `dir` that is meant. A state has one name; if it is exported with other exclusions, the name gets a
/// number: `NAME-2.tar.xz`.
pub(crate) fn choose(
    dir: &Path,
    stem: &str,
    ending: &str,
    wanted: &Wanted<'_>,
    signature: Signature<'_>,
) -> (String, std::result::Result<Recorded, Lacking>) {
    let name = |number: u32| if number == 1 { format!("{stem}.{ending}") } else { format!("{stem}-{number}.{ending}") };
    let (mut taken, mut free, mut why) = (BTreeSet::new(), None, Lacking::Absent);
    for number in numbers(dir, stem, ending) {
        match Recorded::standing(&dir.join(name(number)), wanted, signature) {
            Ok(made) => return (name(number), Ok(made)),
            Err(lacking @ (Lacking::OtherSignature | Lacking::Damaged)) => return (name(number), Err(lacking)),
            // Without metadata it is a leftover of a killed run, so the name is free.
            Err(Lacking::Absent) => free = free.or(Some(number)),
            Err(other) => {
                taken.insert(number);
                why = other;
            }
        }
    }
    let number = free.or_else(|| (1..=u32::MAX).find(|number| !taken.contains(number))).unwrap_or(1);
    (name(number), Err(why))
}

/// The numbers in use, including those of leftovers.
fn numbers(dir: &Path, stem: &str, ending: &str) -> BTreeSet<u32> {
    let number = |name: &str| {
        let rest = name.strip_prefix(stem)?;
        let (number, rest) = match rest.strip_prefix('-') {
            Some(rest) => {
                let (digits, _) = rest.split_once('.')?;
                (digits.parse().ok().filter(|number| *number > 1)?, &rest[digits.len()..])
            }
            None => (1, rest),
        };
        let suffix = rest.strip_prefix('.')?.strip_prefix(ending)?;
        let is_known = suffix.is_empty() || suffix.strip_prefix('.').is_some_and(|suffix| BESIDE.contains(&suffix));
        is_known.then_some(number)
    };
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| number(entry.file_name().to_str()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BY: &str = "32A28C91034C80B37486745F00AE59BC68EB1A4D";

    fn made(sign_key: serde_json::Value, signed_by: Option<&str>) -> Recorded {
        let mut made: Recorded = serde_json::from_value(serde_json::json!({
            "state": "", "source_date_epoch": 0, "keep": [], "size": 0, "entries": 0, "digests": {}, "signed_by": signed_by,
        }))
        .unwrap();
        assert_eq!(made.sign_key, unknown());
        made.sign_key = sign_key;
        made
    }

    #[test]
    fn a_key_is_told_by_fingerprint_long_id_or_the_words_it_was_found_by() {
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
    fn what_was_left_out_by_other_rules_is_another_artifact() {
        let state: State = State {
            id: "0".repeat(32).parse().unwrap(),
            layers: Vec::new(),
            parent: None,
            key: String::new(),
            origin: serde_json::Value::Null.into(),
            created: String::new(),
            newest_input: 0,
            adopted: false,
        };
        let options = ExportOptions::of(None, None, "amd64");
        let image = serde_json::Value::Null;
        let wanted = Wanted { state: &state, options: &options, clamp: 0, image, seen: PathBuf::new() };
        let judged = |leaves_out: Option<&[&str]>, packer: Option<&str>| {
            let mut recorded = made(serde_json::Value::Null, None);
            state.id.as_str().clone_into(&mut recorded.state);
            recorded.leaves_out = leaves_out.map(|list| list.iter().map(|pattern| (*pattern).to_owned()).collect());
            recorded.packer = packer.map(str::to_owned);
            recorded.is_wanted(&wanted)
        };
        let all = exclusions::DEFAULT;
        assert_eq!(judged(Some(all), Some(PACKER)), Ok(()));
        let more = [all, &["/srv"]].concat();
        for other in [Some(&all[1..]), Some(&more[..]), Some(&[][..]), None] {
            assert_eq!(judged(other, Some(PACKER)), Err(Lacking::OtherExclusions), "{other:?}");
        }
        for packer in [Some("0"), None] {
            assert_eq!(judged(Some(all), packer), Err(Lacking::OtherExclusions), "{packer:?}");
        }
    }

    #[test]
    fn what_is_there_has_numbers() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "a-1.tar.xz.DIGESTS",
            "a-1-2.tar.xz",
            "a-1-4.tar.xz.json",
            "a-1-1.tar.xz",
            "a-1-x.tar.xz",
            "a-1-5.tar.gz",
            "a-1-6.tar.xz.mine",
            "a-17.tar.xz",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(numbers(dir.path(), "a-1", "tar.xz"), BTreeSet::from([1, 2, 4]));
    }
}
