//! Compares a tree with its Manifests, from the signed one at its top down to every file.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::beneath::{self, TreeDir};
use crate::path_error::OfFile as _;
use crate::portage::manifest::{Difference, Expected, Manifest};
use crate::stage3;
use crate::stage3::keys::KeysFor;
use crate::stage3::{Signer, VerifyOptions};
use crate::trees::contents::list;
use crate::trees::{Error, Result};

pub(crate) const TOP: &str = "Manifest";
/// A larger Manifest is refused, packed or not.
pub(crate) const LIMIT_BYTES: u64 = 64 << 20;
/// How many Manifests are read before they are put together.
const AT_ONCE: usize = 256;

/// Who signed the tree at `root`, and when it was made (seconds since 1970), if its top Manifest says so. `None` if it has no signed
/// Manifest. Hidden files that no Manifest lists are removed: Portage's own verifier ignores them, so anybody could have added them.
pub(crate) fn verify(root: &Path, keys: KeysFor<'_>, options: &VerifyOptions) -> Result<Option<(Signer, Option<i64>)>> {
    let tree = TreeDir::open(root)?;
    let top = match tree.read(TOP, LIMIT_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.is_absent() => return Ok(None),
        // Such as a link: it came from outside.
        Err(_) => return Err(wrong(Path::new(TOP), "cannot be read")),
    };
    if !stage3::cleartext::is_clear_signed(&top) {
        return Ok(None);
    }
    let (text, signer) = stage3::verify_clear_signed(TOP, &top, keys, options)?;
    let manifest = parse(Path::new(TOP), &text)?;
    let made = made(&manifest);
    nothing_else(&tree, &compare_listed(&tree, manifest)?)?;
    Ok(Some((signer, made)))
}

/// Who signed this top Manifest, if it is the one of the tree at `root`: then each file that Manifests list is the same in both.
pub(crate) fn is_of(root: &Path, top: &[u8], keys: KeysFor<'_>, options: &VerifyOptions) -> Result<Option<(Signer, Option<i64>)>> {
    if begins_with(root, top).is_err() || !stage3::cleartext::is_clear_signed(top) {
        return Ok(None);
    }
    let (text, signer) = stage3::verify_clear_signed(TOP, top, keys, options)?;
    Ok(Some((signer, made(&parse(Path::new(TOP), &text)?))))
}

/// Fails unless the tree at `root` has this Manifest at its top.
pub(crate) fn begins_with(root: &Path, top: &[u8]) -> Result<()> {
    let same = TreeDir::open(root)?.read(TOP, LIMIT_BYTES).is_ok_and(|bytes| bytes == top);
    if same { Ok(()) } else { Err(wrong(Path::new(TOP), "is not the one that was there a moment ago")) }
}

/// When the tree was made, seconds since 1970.
fn made(manifest: &Manifest) -> Option<i64> {
    manifest.timestamp.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok()).map(jiff::Timestamp::as_second)
}

/// What Manifests list and exclude.
#[derive(Debug, Default)]
struct Listed {
    /// Files that Manifests list, other Manifests among them.
    files: BTreeSet<PathBuf>,
    ignored: Vec<PathBuf>,
}

impl Listed {
    /// Whether `path` is excluded.
    fn ignores(&self, path: &Path) -> bool {
        self.ignored.iter().any(|ignored| path.starts_with(ignored))
    }
}

/// What is kept of a Manifest whose files were compared: not their digests, which would be most of the memory.
#[derive(Debug)]
struct Compared {
    files: Vec<PathBuf>,
    ignored: Vec<PathBuf>,
    manifests: BTreeMap<PathBuf, Expected>,
}

fn parse(path: &Path, text: &str) -> Result<Manifest> {
    let dir = path.parent().unwrap_or(Path::new(""));
    Manifest::parse(dir, text).map_err(|source| Error::Manifest { manifest: path.to_owned(), source })
}

/// Compares the files of all Manifests that the top one leads to. Each Manifest is compared with its entry before it is read.
fn compare_listed(tree: &TreeDir, top: Manifest) -> Result<Listed> {
    let mut listed = Listed::default();
    let mut pending: Vec<(PathBuf, Expected)> = Vec::new();
    let take = |compared: Compared, next: &mut Vec<(PathBuf, Expected)>, listed: &mut Listed| {
        listed.files.extend(compared.files);
        listed.ignored.extend(compared.ignored);
        next.extend(compared.manifests);
    };
    listed.files.insert(TOP.into());
    take(compare_files(tree, top)?, &mut pending, &mut listed);
    let read = |(path, expected): &(PathBuf, Expected)| {
        let bytes = tree.read(path, LIMIT_BYTES).map_err(|_| wrong(path, "cannot be read"))?;
        check(path, expected, &bytes[..])?;
        let text = unpacked(path, &bytes).ok_or_else(|| wrong(path, "cannot be unpacked"))?;
        compare_files(tree, parse(path, &text)?)
    };
    while !pending.is_empty() {
        // One that two others list is read once, and has to be what both say.
        let (new, again): (Vec<_>, Vec<_>) =
            std::mem::take(&mut pending).into_iter().partition(|(path, _)| listed.files.insert(path.clone()));
        again.iter().try_for_each(|(path, expected)| compare_file(tree, path, expected))?;
        // Each package has one, so they are not all held at once.
        for some in new.chunks(AT_ONCE) {
            let compared: Vec<Result<Compared>> = some.par_iter().map(read).collect();
            for one in compared {
                take(one?, &mut pending, &mut listed);
            }
        }
    }
    Ok(listed)
}

fn compare_files(tree: &TreeDir, manifest: Manifest) -> Result<Compared> {
    manifest.files.par_iter().try_for_each(|(path, expected)| compare_file(tree, path, expected))?;
    Ok(Compared { files: manifest.files.into_keys().collect(), ignored: manifest.ignored, manifests: manifest.manifests })
}

fn compare_file(tree: &TreeDir, path: &Path, expected: &Expected) -> Result<()> {
    match tree.open_file(path) {
        Ok(plain) => check(path, expected, plain.file),
        Err(beneath::Error::Link { .. } | beneath::Error::NotRegular { .. }) => Err(wrong(path, "is no regular file")),
        Err(error) if error.is_no_such_file() => Err(wrong(path, "is missing")),
        Err(error) => Err(error.into()),
    }
}

fn unpacked(path: &Path, bytes: &[u8]) -> Option<String> {
    let mut out = Vec::new();
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz") => flate2::read::MultiGzDecoder::new(bytes).take(LIMIT_BYTES + 1).read_to_end(&mut out).ok()?,
        Some("xz") => liblzma::read::XzDecoder::new(bytes).take(LIMIT_BYTES + 1).read_to_end(&mut out).ok()?,
        Some("bz2" | "lzma") => return None,
        _ => return String::from_utf8(bytes.to_vec()).ok(),
    };
    String::from_utf8(out).ok().filter(|text| text.len() as u64 <= LIMIT_BYTES)
}

/// Fails if there is anything that no Manifest lists or excludes. Hidden files are removed then.
fn nothing_else(tree: &TreeDir, listed: &Listed) -> Result<()> {
    for item in list(tree)? {
        let path = &item.path;
        if item.is_dir() || listed.files.contains(path) || listed.ignores(path) {
            continue;
        }
        if !path.iter().any(|part| part.as_encoded_bytes().starts_with(b".")) {
            return Err(wrong(path, "is in no Manifest"));
        }
        tree.unlink(path)?;
    }
    Ok(())
}

fn check(path: &Path, expected: &Expected, reader: impl std::io::Read) -> Result<()> {
    match expected.difference(reader).map_err(Error::io("read", path))? {
        None => Ok(()),
        Some(Difference::Size) => Err(wrong(path, "has another size")),
        Some(Difference::Contents) => Err(wrong(path, "has other contents")),
    }
}

fn wrong(path: &Path, problem: &'static str) -> Error {
    Error::NotAsSigned { file: path.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::stage3::hashing::Hasher;

    fn line(kind: &str, name: &str, contents: &[u8]) -> String {
        let mut hasher = Hasher::sha512();
        hasher.update(contents);
        format!("{kind} {name} {} SHA512 {}\n", contents.len(), hasher.hex())
    }

    /// A tree with a packed Manifest, and the text of the one at its top.
    fn tree() -> (tempfile::TempDir, String) {
        use std::io::Write as _;
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b/files")).unwrap();
        fs::write(dir.path().join("a/b/b-1.ebuild"), "x").unwrap();
        fs::write(dir.path().join("a/b/files/p"), "patch").unwrap();
        fs::write(dir.path().join("a/.hidden"), "h").unwrap();
        fs::write(dir.path().join("a/local"), "anything").unwrap();
        fs::write(dir.path().join(TOP), "").unwrap();
        let text = line("EBUILD", "b/b-1.ebuild", b"x") + &line("DATA", "b/files/p", b"patch") + "IGNORE local\n";
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(text.as_bytes()).unwrap();
        let packed = gz.finish().unwrap();
        fs::write(dir.path().join("a/Manifest.gz"), &packed).unwrap();
        let top = line("MANIFEST", "a/Manifest.gz", &packed);
        (dir, top)
    }

    fn verdict(dir: &Path, top: &str) -> String {
        let tree = TreeDir::open(dir).unwrap();
        match parse(Path::new(TOP), top).and_then(|top| compare_listed(&tree, top)).and_then(|all| nothing_else(&tree, &all)) {
            Ok(()) => "good".to_owned(),
            Err(error) => error.to_string().replace("the tree is not what its Manifests say: ", ""),
        }
    }

    #[test]
    fn every_file_is_held_against_the_manifests() {
        let (dir, top) = tree();
        assert_eq!(verdict(dir.path(), &top), "good");
        assert!(!dir.path().join("a/.hidden").exists());
        let cases: [(&str, Option<&str>, &str); 6] = [
            ("a/b/files/p", Some("patCh"), "`a/b/files/p` has other contents"),
            ("a/b/files/p", Some("patch!"), "`a/b/files/p` has another size"),
            ("a/b/files/p", None, "`a/b/files/p` is missing"),
            ("a/b/stray", Some("x"), "`a/b/stray` is in no Manifest"),
            ("a/Manifest.gz", Some("x"), "`a/Manifest.gz` has another size"),
            ("a/Manifest.gz", None, "`a/Manifest.gz` cannot be read"),
        ];
        for (path, contents, expected) in cases {
            let (dir, top) = tree();
            match contents {
                Some(contents) => fs::write(dir.path().join(path), contents).unwrap(),
                None => fs::remove_file(dir.path().join(path)).unwrap(),
            }
            assert_eq!(verdict(dir.path(), &top), expected);
        }
    }

    #[test]
    fn a_packed_manifest_that_is_too_long_is_not_cut() {
        use std::io::Write as _;
        for (bytes, verdict) in [(LIMIT_BYTES, Some(LIMIT_BYTES)), (LIMIT_BYTES + 1, None)] {
            let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::copy(&mut std::io::repeat(b'\n').take(bytes), &mut gz).unwrap();
            let packed = gz.finish().unwrap();
            let text = unpacked(Path::new("a/Manifest.gz"), &packed);
            assert_eq!(text.map(|text| text.len() as u64), verdict);
            let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
            xz.write_all(&vec![b'\n'; usize::try_from(bytes).unwrap()]).unwrap();
            let text = unpacked(Path::new("a/Manifest.xz"), &xz.finish().unwrap());
            assert_eq!(text.map(|text| text.len() as u64), verdict);
        }
    }

    #[test]
    fn a_file_is_all_that_is_said_of_it() {
        for (said, expected) in [(&b"x"[..], "good"), (b"y", "`a/b/b-1.ebuild` has other contents")] {
            let (dir, top) = tree();
            assert_eq!(verdict(dir.path(), &(top + &line("DATA", "a/b/b-1.ebuild", said))), expected);
        }
        let (dir, top) = tree();
        fs::create_dir(dir.path().join("a/local-not")).unwrap();
        fs::write(dir.path().join("a/local-not/x"), "x").unwrap();
        assert_eq!(verdict(dir.path(), &top), "`a/local-not/x` is in no Manifest");
    }

    #[test]
    fn a_manifest_is_what_all_say_that_list_it() {
        let inner = line("EBUILD", "b-1.ebuild", b"x") + &line("DATA", "files/p", b"patch");
        for (said, expected) in [(inner.clone(), "good"), (inner.replace("EBUILD", "AUXILI"), "`a/b/Manifest` has other contents")]
        {
            let (dir, _) = tree();
            fs::remove_file(dir.path().join("a/Manifest.gz")).unwrap();
            fs::write(dir.path().join("a/b/Manifest"), &inner).unwrap();
            let outer = line("MANIFEST", "b/Manifest", said.as_bytes()) + "IGNORE local\n";
            fs::write(dir.path().join("a/Manifest"), &outer).unwrap();
            let top = line("MANIFEST", "a/b/Manifest", inner.as_bytes()) + &line("MANIFEST", "a/Manifest", outer.as_bytes());
            assert_eq!(verdict(dir.path(), &top), expected);
        }
    }

    #[test]
    fn a_link_is_no_file_and_leads_nowhere() {
        let (dir, top) = tree();
        fs::remove_file(dir.path().join("a/b/files/p")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("a/b/files/p")).unwrap();
        assert_eq!(verdict(dir.path(), &top), "`a/b/files/p` is no regular file");
    }
}
