//! Signs a binary package, in the form that Portage verifies.
//!
//! ```text
//! hello-2.10-1.gpkg.tar
//!   hello-2.10-1/gpkg-1                    empty, unsigned
//!   hello-2.10-1/metadata.tar.zst
//!   hello-2.10-1/metadata.tar.zst.sig      detached signature
//!   hello-2.10-1/image.tar.zst
//!   hello-2.10-1/image.tar.zst.sig
//!   hello-2.10-1/Manifest                  clear-signed: `DATA name size BLAKE2B … SHA512 …` of each of the above
//! ```
//!
//! Source: `portage/gpkg.py` (`_verify_binpkg`). If a signature is required, the Manifest must be clear-signed, each member but `gpkg-1`
//! must have a good detached signature, and each must have the size and digests of the Manifest; none may be missing or unknown.
//!
//! The parts and their headers are copied byte for byte. They are compared with the package's own Manifest before they are signed, since
//! a signature vouches for them.
//!
//! [`verify()`] is the other direction: it looks at a package that somebody else has signed.

mod identity;
mod members;
mod verify;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use blake2::Blake2b512;
use sha2::{Digest as _, Sha512};
use tar::{Builder, Header};

use self::members::{Members, Trouble};
use crate::terminal_text::sanitize_line;

pub(crate) use identity::{Identity, identity};
pub(crate) use verify::Refusal;
pub(crate) use verify::verify;

const MANIFEST: &str = "Manifest";
const SIGNATURE: &str = ".sig";
/// The member that names the format. It is empty and not signed.
const VERSION: &str = "gpkg-1";
const MAX_MANIFEST_BYTES: u64 = 64 * 1024;

/// Makes signatures.
pub(crate) trait Signer {
    /// Makes a detached signature of the file.
    fn detached(&self, file: &Path) -> std::result::Result<Vec<u8>, crate::stage3::sign::SignError>;
    /// Makes a clear-signed document of the text.
    fn clear(&self, text: &str) -> std::result::Result<Vec<u8>, crate::stage3::sign::SignError>;
}

/// Why a package was not signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The package could not be read or the signed one not written.
    #[error("cannot sign `{}`", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It is not a container as Portage makes it.
    #[error("`{}` cannot be signed as a binary package: {problem}", path.display())]
    Refused { path: PathBuf, problem: Problem },
    /// `gpg` made no signature.
    #[error("cannot sign `{}`", path.display())]
    Sign {
        path: PathBuf,
        #[source]
        source: crate::stage3::sign::SignError,
    },
}

/// What is wrong with a package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A name that is not `PACKAGE/PART`, a duplicate, or a member that is no regular file.
    #[error("`{0}` in it is not a part of a package")]
    Member(String),
    /// There is no readable Manifest.
    #[error("its Manifest is missing or cannot be read")]
    Manifest,
    /// A part does not match the Manifest.
    #[error("`{0}` in it does not match its Manifest")]
    Differs(String),
    /// Too many members.
    #[error("it has too many parts")]
    Many,
    /// A Manifest or signature of absurd size.
    #[error("`{0}` in it is too large")]
    Large(String),
    /// The Manifest lists a member that is missing.
    #[error("`{0}` is missing from it")]
    Missing(String),
}

/// A part of the package.
struct Part {
    name: String,
    header: Header,
    /// Its bytes, in a file, since `gpg` wants one.
    file: Scratch,
    line: Line,
}

/// Size and digests of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    size: u64,
    blake2b: String,
    sha512: String,
}

impl Line {
    fn render(&self, name: &str) -> String {
        format!("DATA {name} {} BLAKE2B {} SHA512 {}\n", self.size, self.blake2b, self.sha512)
    }
}

/// Writes the package `source` with signatures to the empty `target`. `scratch` is a directory of the caller's, with room for one package.
pub(crate) fn sign(source: &Path, target: &mut File, scratch: &Path, signer: &dyn Signer) -> Result<(), Error> {
    let failed = |error: io::Error| Error::Io { path: source.to_owned(), source: error };
    let refused = |problem| Error::Refused { path: source.to_owned(), problem };
    let signed = |error| Error::Sign { path: source.to_owned(), source: error };
    let (prefix, mut parts, manifest) = read(source, scratch)?;
    check(&parts, &manifest).map_err(refused)?;
    let mut out = Builder::new(target);
    let mut text = String::new();
    for part in &mut parts {
        text.push_str(&part.line.render(&part.name));
        append(&mut out, part.header.clone(), &prefix, &part.name, part.line.size, &mut part.file.file).map_err(failed)?;
        if part.line.size == 0 {
            // The version file is empty and not signed.
            continue;
        }
        let signature = signer.detached(&part.file.path).map_err(signed)?;
        let name = format!("{}{SIGNATURE}", part.name);
        let line = Line::of(&mut signature.as_slice(), &mut io::sink()).map_err(failed)?;
        text.push_str(&line.render(&name));
        append(&mut out, part.header.clone(), &prefix, &name, line.size, &mut signature.as_slice()).map_err(failed)?;
    }
    let manifest = signer.clear(&text).map_err(signed)?;
    let header = parts.first().map_or_else(Header::new_ustar, |part| part.header.clone());
    append(&mut out, header, &prefix, MANIFEST, manifest.len() as u64, &mut manifest.as_slice()).map_err(failed)?;
    out.into_inner().and_then(Write::flush).map_err(failed)
}

/// Adds a member with the times and owners of `header`.
fn append(
    out: &mut Builder<&mut File>,
    mut header: Header,
    prefix: &str,
    name: &str,
    size: u64,
    data: &mut dyn Read,
) -> io::Result<()> {
    header.set_size(size);
    header.set_path(format!("{prefix}/{name}"))?;
    header.set_cksum();
    out.append(&header, data.take(size))
}

/// The top directory's name, the parts in order without Manifest and signatures, and the text of the Manifest.
fn read(source: &Path, scratch: &Path) -> Result<(String, Vec<Part>, String), Error> {
    let failed = |error: io::Error| Error::Io { path: source.to_owned(), source: error };
    let trouble = |trouble| match trouble {
        Trouble::Io(error) => failed(error),
        Trouble::Problem(problem) => Error::Refused { path: source.to_owned(), problem },
    };
    let file = File::open(source).map_err(failed)?;
    let members = Members::of(&file).map_err(trouble)?;
    let manifest = members.named(MANIFEST).ok_or(Trouble::Problem(Problem::Manifest)).map_err(trouble)?;
    let manifest = String::from_utf8(manifest.bytes(&file, MAX_MANIFEST_BYTES).map_err(trouble)?)
        .map_err(|_| trouble(Trouble::Problem(Problem::Manifest)))?;
    let mut parts = Vec::new();
    for member in members.all.iter().filter(|member| member.is_part()) {
        let mut scratch = Scratch::new(scratch, &member.name).map_err(failed)?;
        let line = Line::of(&mut member.reader(&file), &mut scratch.file).map_err(failed)?;
        scratch.file.rewind().map_err(failed)?;
        parts.push(Part { name: member.name.clone(), header: member.header.clone(), file: scratch, line });
    }
    Ok((members.prefix, parts, manifest))
}

impl Line {
    /// Copies `data` to `copy` and digests it.
    fn of(data: &mut dyn Read, copy: &mut dyn Write) -> io::Result<Self> {
        let (mut blake2b, mut sha512, mut size) = (Blake2b512::new(), Sha512::new(), 0);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = match data.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let chunk = &buffer[..count];
            blake2b.update(chunk);
            sha512.update(chunk);
            copy.write_all(chunk)?;
            size += count as u64;
        }
        Ok(Self { size, blake2b: hex::encode(blake2b.finalize()), sha512: hex::encode(sha512.finalize()) })
    }
}

/// Compares the parts with the Manifest. A signature around it is ignored, since it gets a new one.
fn check(parts: &[Part], manifest: &str) -> Result<(), Problem> {
    let mut named: BTreeMap<&str, Line> = BTreeMap::new();
    for line in manifest.lines().filter_map(|line| line.strip_prefix("DATA ")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let value = |name: &str| words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1)).copied();
        let (Some(name), Some(Ok(size)), Some(blake2b), Some(sha512)) =
            (words.first(), words.get(1).map(|size| size.parse()), value("BLAKE2B"), value("SHA512"))
        else {
            return Err(Problem::Manifest);
        };
        named.insert(name, Line { size, blake2b: blake2b.to_lowercase(), sha512: sha512.to_lowercase() });
    }
    for part in parts {
        match named.remove(part.name.as_str()) {
            Some(line) if line == part.line => {}
            _ => return Err(Problem::Differs(part.name.clone())),
        }
    }
    match named.into_keys().find(|name| !name.ends_with(SIGNATURE)) {
        Some(name) => Err(Problem::Missing(sanitize_line(name.as_bytes(), 400))),
        None => Ok(()),
    }
}

/// A temporary file, removed on drop.
struct Scratch {
    file: File,
    path: PathBuf,
}

impl Scratch {
    fn new(dir: &Path, name: &str) -> io::Result<Self> {
        let path = dir.join(format!("part-{name}"));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        Ok(Self { file, path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The caller removes the whole directory.
        drop(std::fs::remove_file(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use tar::Archive;

    use super::*;

    struct Fake;

    impl Signer for Fake {
        fn detached(&self, file: &Path) -> std::result::Result<Vec<u8>, crate::stage3::sign::SignError> {
            Ok(format!("signature of {} bytes", std::fs::metadata(file).expect("stat").len()).into_bytes())
        }

        fn clear(&self, text: &str) -> std::result::Result<Vec<u8>, crate::stage3::sign::SignError> {
            Ok(format!("-----BEGIN-----\n{text}-----END-----\n").into_bytes())
        }
    }

    fn container(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = Builder::new(Vec::new());
        for (name, data) in members {
            let mut header = Header::new_ustar();
            header.set_size(data.len() as u64);
            header.set_mtime(7);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, *data).expect("append");
        }
        tar.into_inner().expect("tar")
    }

    fn line(name: &str, mut data: &[u8]) -> String {
        Line::of(&mut data, &mut io::sink()).expect("digest").render(name)
    }

    fn signed(bytes: &[u8]) -> Result<Vec<(String, String)>, String> {
        let dir = tempfile::tempdir().expect("tempdir");
        let source = dir.path().join("source");
        std::fs::write(&source, bytes).expect("write");
        let mut target = File::create_new(dir.path().join("target")).expect("create");
        sign(&source, &mut target, dir.path(), &Fake).map_err(|error| match error {
            Error::Refused { problem, .. } => problem.to_string(),
            other => other.to_string(),
        })?;
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 2, "parts are gone");
        let mut archive = Archive::new(File::open(dir.path().join("target")).expect("open"));
        let entries = archive.entries().expect("entries").map(|entry| {
            let mut entry = entry.expect("entry");
            assert_eq!(entry.header().mtime().expect("mtime"), 7);
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("read");
            (entry.path().expect("path").display().to_string(), text)
        });
        Ok(entries.collect())
    }

    #[test]
    fn each_part_is_signed_and_the_manifest_names_all() {
        let manifest = line("gpkg-1", b"") + &line("metadata.tar.zst", b"meta") + &line("image.tar.zst", b"image");
        let bytes = container(&[
            ("h-1-1/gpkg-1", b""),
            ("h-1-1/metadata.tar.zst", b"meta"),
            ("h-1-1/image.tar.zst", b"image"),
            ("h-1-1/Manifest", manifest.as_bytes()),
        ]);
        let found = signed(&bytes).expect("signed");
        let names: Vec<&str> = found.iter().map(|(name, _)| name.trim_start_matches("h-1-1/")).collect();
        assert_eq!(names, ["gpkg-1", "metadata.tar.zst", "metadata.tar.zst.sig", "image.tar.zst", "image.tar.zst.sig", "Manifest"]);
        assert_eq!((found[1].1.as_str(), found[2].1.as_str()), ("meta", "signature of 4 bytes"));
        let expected = line("gpkg-1", b"")
            + &line("metadata.tar.zst", b"meta")
            + &line("metadata.tar.zst.sig", b"signature of 4 bytes")
            + &line("image.tar.zst", b"image")
            + &line("image.tar.zst.sig", b"signature of 5 bytes");
        assert_eq!(found[5].1, format!("-----BEGIN-----\n{expected}-----END-----\n"));
    }

    #[test]
    fn nobody_signs_what_is_not_as_its_manifest_says() {
        let good = line("image.tar", b"image");
        for (members, problem) in [
            (
                &[("p/image.tar", &b"other"[..]), ("p/Manifest", good.as_bytes())][..],
                "`image.tar` in it does not match its Manifest",
            ),
            (
                &[("p/image.tar", b"image"), ("p/more", b"x"), ("p/Manifest", good.as_bytes())],
                "`more` in it does not match its Manifest",
            ),
            (&[("p/Manifest", good.as_bytes())], "`image.tar` is missing from it"),
            (&[("p/image.tar", b"image")], "its Manifest is missing or cannot be read"),
            (&[("p/image.tar", b"image"), ("q/Manifest", good.as_bytes())], "`q/Manifest` in it is not a part of a package"),
            (&[("p/a/b", b"x")], "`p/a/b` in it is not a part of a package"),
            (&[("image.tar", b"x")], "`image.tar` in it is not a part of a package"),
            (&[("p/Manifest", b"DATA x\n")], "its Manifest is missing or cannot be read"),
            (&[("p/Manifest", b""), ("p/Manifest", b"")], "`p/Manifest` in it is not a part of a package"),
        ] {
            assert_eq!(signed(&container(members)).expect_err(problem), problem);
        }
        assert!(signed(b"no tar").is_err());
    }
}
