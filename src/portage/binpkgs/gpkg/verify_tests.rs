//! Packages that gpg has signed, and what others make of them. Every refusal's words are asserted.

use std::io::Write as _;
use std::path::Path;

use tar::{Builder, EntryType, Header};

use super::*;
use crate::causes::in_one_line;
use crate::portage::binpkgs::gpkg::{Signer, sign};
use crate::stage3::keys::{Purpose, TrustedKeys};
use crate::stage3::sign::SignError;
use crate::stage3::test_gpg::TestGpg;

/// Of a package: its name, what is in it, its kind.
type Piece = (String, Vec<u8>, EntryType);

struct Key<'g>(&'g TestGpg, &'g str);

impl Signer for Key<'_> {
    fn detached(&self, file: &Path) -> Result<Vec<u8>, SignError> {
        Ok(self.0.detach::<&str>(self.1, &[], file))
    }

    fn clear(&self, text: &str) -> Result<Vec<u8>, SignError> {
        Ok(self.0.clear_sign(self.1, text))
    }
}

fn container(pieces: &[Piece]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (name, data, kind) in pieces {
        let mut header = Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_entry_type(*kind);
        tar.append_data(&mut header, name, data.as_slice()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn piece(name: &str, data: impl AsRef<[u8]>) -> Piece {
    (format!("h-1-1/{name}"), data.as_ref().to_vec(), EntryType::Regular)
}

fn line(name: &str, data: &[u8]) -> String {
    let mut hashers = [crate::stage3::hashing::Hasher::blake2b(), crate::stage3::hashing::Hasher::sha512()];
    for hasher in &mut hashers {
        hasher.update(data);
    }
    format!("DATA {name} {} BLAKE2B {} SHA512 {}\n", data.len(), hashers[0].hex(), hashers[1].hex())
}

/// As Portage makes it, and signed as `binhost export` does.
fn signed(gpg: &TestGpg, key: &str) -> Vec<Piece> {
    let parts = [("gpkg-1", &b""[..]), ("metadata.tar.zst", b"meta"), ("image.tar.zst", b"image")];
    let manifest: String = parts.iter().map(|(name, data)| line(name, data)).collect();
    let pieces: Vec<Piece> = parts.iter().map(|(name, data)| piece(name, data)).chain([piece("Manifest", manifest)]).collect();
    std::fs::write(gpg.path("plain"), container(&pieces)).unwrap();
    let mut target = tempfile::tempfile().unwrap();
    sign(&gpg.path("plain"), &mut target, &gpg.path(""), &Key(gpg, key)).unwrap();
    std::io::Seek::rewind(&mut target).unwrap();
    let mut archive = tar::Archive::new(target);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut data = Vec::new();
        io::Read::read_to_end(&mut entry, &mut data).unwrap();
        (name, data, EntryType::Regular)
    });
    entries.collect()
}

/// The Manifest is signed anew for what is there.
fn with_manifest(gpg: &TestGpg, key: &str, mut pieces: Vec<Piece>) -> Vec<Piece> {
    pieces.retain(|(name, ..)| !name.ends_with("/Manifest"));
    let text: String = pieces.iter().map(|(name, data, _)| line(name.rsplit('/').next().unwrap(), data)).collect();
    pieces.push(piece("Manifest", gpg.clear_sign(key, &text)));
    pieces
}

fn set(mut pieces: Vec<Piece>, name: &str, data: impl AsRef<[u8]>) -> Vec<Piece> {
    let (_, old, _) = pieces.iter_mut().find(|(known, ..)| known.ends_with(name)).unwrap();
    *old = data.as_ref().to_vec();
    pieces
}

fn judged(bytes: &[u8], keys: &TrustedKeys) -> Result<(), String> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let now = jiff::Timestamp::now().as_second();
    verify(&file, keys.counting_for(Purpose::Binpkg), now).map_err(|refusal| in_one_line(&refusal))
}

#[test]
fn only_what_a_trusted_key_has_signed_as_it_is() {
    let Some(gpg) = TestGpg::new() else { return };
    let (own, other) = (gpg.key("Own <o@x>", "ed25519", "sign", "1y"), gpg.key("Other <x@x>", "ed25519", "sign", "1y"));
    let keys = gpg.keys(&[&own, &other], &[&own]);
    let good = signed(&gpg, &own);
    assert_eq!(judged(&container(&good), &keys), Ok(()));
    let does_not_count = |part: &str, words: &str| format!("the signature of its `{part}` does not count: {words}");
    let untrusted = format!("signed by {other} (Other <x@x>), which is not a release key this configuration trusts");
    let refused = |pieces: &[Piece], words: &str| assert_eq!(judged(&container(pieces), &keys).unwrap_err(), words);
    let without = |ending: &str| good.iter().filter(|(name, ..)| !name.ends_with(ending)).cloned().collect::<Vec<_>>();
    let text = Manifest::of(&good);

    refused(&signed(&gpg, &other), &does_not_count("Manifest", &untrusted));
    refused(&set(good.clone(), "/Manifest", &text), "it is not signed");
    refused(&with_manifest(&gpg, &own, without("image.tar.zst.sig")), "`image.tar.zst` in it is not signed");
    let foreign = set(good.clone(), "image.tar.zst.sig", gpg.run(&["--local-user", &other, "--detach-sign"], b"image"));
    refused(&foreign, "`image.tar.zst.sig` in it does not match its Manifest");
    refused(&with_manifest(&gpg, &own, foreign), &does_not_count("image.tar.zst", &untrusted));
    let changed = set(good.clone(), "/image.tar.zst", b"imagf");
    refused(&changed, "`image.tar.zst` in it does not match its Manifest");
    let bad = format!("bad signature: the data is not what {own} signed");
    refused(&with_manifest(&gpg, &own, changed), &does_not_count("image.tar.zst", &bad));
    let longer = String::from_utf8(good.last().unwrap().1.clone()).unwrap().replacen("\nDATA", "\nDATA x 0 SHA512 00\nDATA", 1);
    refused(&set(good.clone(), "/Manifest", longer), &does_not_count("Manifest", &bad));
    let mut more = good.clone();
    more.push(piece("more", "x"));
    refused(&more, "`more` in it does not match its Manifest");
    refused(&without("/metadata.tar.zst"), "`metadata.tar.zst` is missing from it");
    refused(&set(good.clone(), "metadata.tar.zst.sig", "no signature"), "`metadata.tar.zst.sig` in it does not match its Manifest");
    let odd = with_manifest(&gpg, &own, set(good.clone(), "metadata.tar.zst.sig", "no signature"));
    refused(&odd, &does_not_count("metadata.tar.zst", "not an OpenPGP signature"));
    for (text, words) in [
        ("DATA image.tar.zst 5\n", "its Manifest is missing or cannot be read"),
        ("DIST image.tar.zst 5 SHA512 00\n", "its Manifest is missing or cannot be read"),
        ("DATA a 0 SHA512 00\nDATA a 0 SHA512 00\n", "its Manifest is missing or cannot be read"),
        ("", "`metadata.tar.zst.sig` in it does not match its Manifest"),
    ] {
        refused(&set(good.clone(), "/Manifest", gpg.clear_sign(&own, text)), words);
    }
    let twice = [good.last().unwrap().1.clone(), good.last().unwrap().1.clone()].concat();
    refused(&set(good.clone(), "/Manifest", twice), "its Manifest cannot be read: holds more than one signed text");

    let mut stage3_only = TrustedKeys::default();
    for certificate in keys.certificates() {
        stage3_only.add(certificate.clone(), None);
    }
    stage3_only.pin(own.parse().unwrap(), &[Purpose::Stage3], "test");
    let said = judged(&container(&good), &stage3_only).unwrap_err();
    assert_eq!(
        said,
        does_not_count(
            "Manifest",
            &format!("signed by {own} (Own <o@x>), which is trusted for stage3s only, not for binary packages")
        )
    );
}

/// Its text, without the signature.
struct Manifest;

impl Manifest {
    fn of(pieces: &[Piece]) -> String {
        let document = pieces.iter().find(|(name, ..)| name.ends_with("/Manifest")).unwrap();
        crate::stage3::cleartext::Cleartext::parse(&document.1).unwrap().text
    }
}

#[test]
fn an_archive_that_means_harm() {
    let Some(gpg) = TestGpg::new() else { return };
    let own = gpg.key("Own <o@x>", "ed25519", "sign", "1y");
    let keys = gpg.keys(&[&own], &[&own]);
    let good = signed(&gpg, &own);
    let refused = |bytes: &[u8], words: &str| assert_eq!(judged(bytes, &keys).unwrap_err(), words);
    let with = |more: Piece| container(&[good.clone(), vec![more]].concat());
    let odd = |name: &str| format!("`{name}` in it is not a part of a package");

    for kind in [EntryType::Symlink, EntryType::Link, EntryType::Fifo, EntryType::Char, EntryType::Directory] {
        refused(&with(("h-1-1/image".to_owned(), Vec::new(), kind)), &odd("h-1-1/image"));
    }
    refused(&with(("h-1-1/x".to_owned(), b"21 path=h-1-1/image\n".to_vec(), EntryType::XHeader)), &odd("h-1-1/x"));
    refused(&with(piece("image.tar.zst", "image")), &odd("h-1-1/image.tar.zst"));
    refused(&with(("other/x".to_owned(), Vec::new(), EntryType::Regular)), &odd("other/x"));
    refused(&with(piece("a/b", "")), &odd("h-1-1/a/b"));
    refused(&with(piece("a b", "")), &odd("h-1-1/a b"));
    // Python takes a file that begins as gzip does for that.
    let elsewhere: Vec<Piece> =
        good.iter().cloned().map(|(name, data, kind)| (name.replace("h-1-1", "h\u{1f}"), data, kind)).collect();
    assert!(judged(&container(&elsewhere), &keys).unwrap_err().ends_with(" in it is not a part of a package"));
    let mut old = Header::new_old();
    old.set_path("h-1-1/old").unwrap();
    old.set_size(0);
    old.set_cksum();
    refused(&[&old.as_bytes()[..], &container(&good)].concat(), &odd("h-1-1/old"));
    let many: Vec<Piece> = (0..20).map(|number| piece(&format!("p{number}"), "")).collect();
    refused(&container(&many), "it has too many parts");
    refused(&container(&set(good.clone(), "/Manifest", vec![b'\n'; 70_000])), "`Manifest` in it is too large");
    let huge = with_manifest(&gpg, &own, set(good.clone(), "image.tar.zst.sig", vec![0; 70_000]));
    refused(&container(&huge), "`image.tar.zst.sig` in it is too large");

    let whole = container(&good);
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
    refused(&whole[..end - 600], "it ends too early: truncated");
    refused(&whole[..1000], "it is not a tar archive that can be read");
    refused(&whole[..1024], "its Manifest is missing or cannot be read");
    refused(&vec![0; whole.len()], "its Manifest is missing or cannot be read");
    refused(b"no archive", "it is not a tar archive that can be read");
    refused(&[b'x'; 4096], "it is not a tar archive that can be read");
    assert_eq!(judged(&[&whole[..], &[0; 10_240]].concat(), &keys), Ok(()), "archives of Python end with many zeros");
    refused(&[&whole[..], b"more"].concat(), "something follows behind its last part");
}

#[test]
fn a_key_that_has_expired() {
    let Some(gpg) = TestGpg::new() else { return };
    let own = gpg.key_at("20200101T000000", "Own <o@x>", "ed25519", "sign", "seconds=60");
    let clear =
        |text: &str| gpg.run(&["--faked-system-time", "20200101T000010!", "--local-user", &own, "--clearsign"], text.as_bytes());
    let refusal = |keys: &TrustedKeys| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&container(&[piece("gpkg-1", ""), piece("Manifest", clear(&line("gpkg-1", b"")))])).unwrap();
        verify(&file, keys.counting_for(Purpose::Binpkg), jiff::Timestamp::now().as_second()).unwrap_err()
    };
    let expired = refusal(&gpg.keys(&[&own], &[&own]));
    let words = format!("the signature of its `Manifest` does not count: signature good, key expired on 2020-01-01 ({own})");
    assert_eq!(in_one_line(&expired), words);
    assert_eq!(expired.hint(), "import a newer copy of the key with `gentoomuch keys import FILE`");
    let mut pinned = TrustedKeys::default();
    pinned.pin(own.parse().unwrap(), &[], "ours");
    for (keys, hint) in [
        (TrustedKeys::default(), "if that key is right, import it with `gentoomuch keys import --for binpkg FILE`".to_owned()),
        (gpg.keys(&[&own], &[]), format!("if that key is right, trust it with `gentoomuch keys trust {own} --for binpkg`")),
        (pinned, format!("get the public key with `gentoomuch keys fetch {own}` or `gentoomuch keys import FILE`")),
    ] {
        assert_eq!(refusal(&keys).hint(), hint);
    }
    assert!(Refusal::Unsigned.hint().starts_with("it was not installed; ask the owner of the binhost"));
}
