//! Reading and changing the files below `config/keys/`.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Serialize;

use super::{KeysError, Purpose, Purposes, read_key_file};
use crate::durable;
use crate::durable::Mode;
use crate::path_error::PathError;
use crate::stage3::certificate::Certificate;
use crate::stage3::fingerprint::Fingerprint;

/// A change in the directory of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "change", rename_all = "lowercase")]
pub(crate) enum Change {
    /// A public key was written.
    Stored {
        fingerprint: Fingerprint,
        /// Its file.
        path: PathBuf,
        /// An older copy was there, and the two were merged.
        refreshed: bool,
    },
    /// A fingerprint was added to `trusted`, or its line changed.
    Trusted {
        fingerprint: Fingerprint,
        /// What it counts for now.
        purposes: Purposes,
        path: PathBuf,
    },
    /// A fingerprint was removed from `trusted`.
    Distrusted { fingerprint: Fingerprint, path: PathBuf },
    /// A public key was removed from a file that has other keys, too.
    Rewritten { fingerprint: Fingerprint, path: PathBuf },
    /// A file was removed, since the public key was the only one in it.
    Removed { fingerprint: Fingerprint, path: PathBuf },
}

/// How a key is to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Trust<'a> {
    /// For which kinds of files. Empty means all.
    pub purposes: &'a [Purpose],
    /// Whose it is; may be empty.
    pub comment: &'a str,
}

/// Stores the public keys in the file `source`, each as `<FINGERPRINT>.asc`, merged with the copy that is there. With `trust`, their
/// fingerprints are pinned, too.
pub(crate) fn import(dir: &Path, source: &Path, trust: Option<Trust<'_>>) -> Result<Vec<Change>, KeysError> {
    let certificates = read_key_file(source)?;
    let fingerprints: Vec<Fingerprint> = certificates.iter().map(|certificate| certificate.fingerprint().clone()).collect();
    let mut changes = store_certificates(dir, certificates)?;
    if let Some(how) = trust {
        for fingerprint in fingerprints {
            changes.extend(self::trust(dir, &fingerprint, how)?);
        }
    }
    Ok(changes)
}

/// Stores public keys, each as `<FINGERPRINT>.asc`, merged with the copy that is there.
pub(crate) fn store_certificates(dir: &Path, certificates: Vec<Certificate>) -> Result<Vec<Change>, KeysError> {
    let mut changes = Vec::new();
    for mut certificate in certificates {
        let fingerprint = certificate.fingerprint().clone();
        let path = dir.join(format!("{fingerprint}.asc"));
        let refreshed = path.exists();
        if refreshed {
            for known in read_key_file(&path)? {
                if known.fingerprint() == &fingerprint {
                    certificate.merge(known);
                }
            }
        }
        write_atomically(&path, armored(&path, &[certificate])?.as_bytes())?;
        tracing::debug!(%fingerprint, path = %path.display(), "key stored");
        changes.push(Change::Stored { fingerprint, path, refreshed });
    }
    Ok(changes)
}

/// Pins `fingerprint`. If `trusted` has it already, the purposes are added to those in its line. `None` if nothing changes.
pub(crate) fn trust(dir: &Path, fingerprint: &Fingerprint, how: Trust<'_>) -> Result<Option<Change>, KeysError> {
    if how.comment.chars().any(char::is_control) {
        return Err(KeysError::Comment);
    }
    let path = dir.join("trusted");
    let mut purposes = Purposes::of(how.purposes);
    let known: Vec<TrustedLine> = read_trusted(dir)?.into_iter().filter(|known| known.fingerprint == *fingerprint).collect();
    let had = known.iter().map(|known| Purposes::of(&known.purposes)).reduce(|one, other| one.with(&other));
    let text = read_optional(&path)?;
    let text = if let (Some(first), Some(had)) = (known.first(), had) {
        purposes = purposes.with(&had);
        if purposes == had {
            return Ok(None);
        }
        let comment = if how.comment.is_empty() { &first.comment } else { how.comment };
        let new = trusted_line(fingerprint, &purposes, comment);
        text.lines().zip(1..).flat_map(|(line, number)| [if number == first.line { new.as_str() } else { line }, "\n"]).collect()
    } else {
        let heading = "# Trusted keys: one fingerprint of a primary key a line, then what it is trusted for: stage3, tree, \
            binpkg, remote. Without that, for all but remote.\n";
        let begin = if text.is_empty() { heading } else { &text };
        let end = if begin.ends_with('\n') { "" } else { "\n" };
        format!("{begin}{end}{}\n", trusted_line(fingerprint, &purposes, how.comment))
    };
    write_atomically(&path, text.as_bytes())?;
    Ok(Some(Change::Trusted { fingerprint: fingerprint.clone(), purposes, path }))
}

fn trusted_line(fingerprint: &Fingerprint, purposes: &Purposes, comment: &str) -> String {
    let words = purposes.words();
    let words = if words.is_empty() { words } else { format!("  {words}") };
    let comment = if comment.is_empty() { String::new() } else { format!("  # {comment}") };
    format!("{fingerprint}{words}{comment}")
}

/// Removes the public key with the primary key `fingerprint` from all files, and the fingerprint from `trusted`.
pub(crate) fn remove(dir: &Path, fingerprint: &Fingerprint) -> Result<Vec<Change>, KeysError> {
    let mut changes = Vec::new();
    for path in key_files(dir)? {
        let all = read_key_file(&path)?;
        let kept: Vec<Certificate> = all.iter().filter(|certificate| certificate.fingerprint() != fingerprint).cloned().collect();
        if kept.len() == all.len() {
            continue;
        }
        let fingerprint = fingerprint.clone();
        if kept.is_empty() {
            fs::remove_file(&path).map_err(|source| KeysError::Write { path: path.clone(), source })?;
            sync_directory(dir)?;
            changes.push(Change::Removed { fingerprint, path });
        } else {
            write_atomically(&path, armored(&path, &kept)?.as_bytes())?;
            changes.push(Change::Rewritten { fingerprint, path });
        }
    }
    let listed: Vec<usize> =
        read_trusted(dir)?.into_iter().filter(|known| known.fingerprint == *fingerprint).map(|known| known.line).collect();
    if !listed.is_empty() {
        let path = dir.join("trusted");
        let text = read_optional(&path)?;
        let kept = text.lines().zip(1..).filter(|(_, line)| !listed.contains(line));
        let text: String = kept.flat_map(|(line, _)| [line, "\n"]).collect();
        write_atomically(&path, text.as_bytes())?;
        changes.push(Change::Distrusted { fingerprint: fingerprint.clone(), path });
    }
    if changes.is_empty() {
        return Err(KeysError::NoSuchKey { fingerprint: fingerprint.clone(), dir: dir.to_owned() });
    }
    Ok(changes)
}

/// A line of `trusted`.
#[derive(Debug)]
pub(super) struct TrustedLine {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) fingerprint: Fingerprint,
    /// As written. Empty means all.
    pub(super) purposes: Vec<Purpose>,
    pub(super) comment: String,
}

/// The lines of `trusted`.
pub(super) fn read_trusted(dir: &Path) -> Result<Vec<TrustedLine>, KeysError> {
    let path = dir.join("trusted");
    let text = read_optional(&path)?;
    let mut lines = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let (text, comment) = text.split_once('#').unwrap_or((text, ""));
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        // A fingerprint may have blanks between its digits. No purpose consists of hexadecimal digits only.
        let is_digits = |word: &str| word.trim_start_matches("0x").bytes().all(|byte| byte.is_ascii_hexdigit());
        let words: Vec<&str> = text.split_whitespace().collect();
        let (digits, words) = words.split_at(words.iter().take_while(|word| is_digits(word)).count());
        let digits = if digits.is_empty() { text.to_owned() } else { digits.join(" ") };
        let fingerprint = digits.parse().map_err(|source| KeysError::Trusted { path: path.clone(), line, source })?;
        let purposes: Result<Vec<Purpose>, _> = words.iter().map(|word| word.parse()).collect();
        let purposes = purposes.map_err(|source| KeysError::Purpose { path: path.clone(), line, source })?;
        lines.push(TrustedLine { line, fingerprint, purposes, comment: comment.trim().to_owned() });
    }
    Ok(lines)
}

/// The files of public keys, sorted by name.
pub(super) fn key_files(dir: &Path) -> Result<Vec<PathBuf>, KeysError> {
    let read = |source| KeysError::Read { path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(read(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(read)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|ending| ending == "asc" || ending == "gpg") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_optional(path: &Path) -> Result<String, KeysError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(KeysError::Read { path: path.to_owned(), source }),
    }
}

fn armored(path: &Path, certificates: &[Certificate]) -> Result<String, KeysError> {
    let blocks: Result<Vec<String>, _> = certificates.iter().map(Certificate::to_armored).collect();
    blocks.map(|blocks| blocks.concat()).map_err(|source| KeysError::Material { path: path.to_owned(), source })
}

/// Replaces `path` by a file with `bytes`. A reader sees either the old content or the new.
fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), KeysError> {
    // Whoever can write in this directory decides whom we trust, so only the owner may.
    durable::make_dirs(path.parent().unwrap_or(Path::new(".")), Mode::AtMost(0o755)).map_err(written)?;
    durable::replace(path, bytes, Mode::AtMost(0o644)).map_err(written)
}

fn written(error: PathError) -> KeysError {
    KeysError::Write { path: error.path, source: error.source }
}

fn sync_directory(dir: &Path) -> Result<(), KeysError> {
    durable::sync_dir(dir).map_err(written)
}
