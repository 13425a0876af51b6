//! Real keys and signatures made by gpg, judged by us. Every refusal's words are asserted.

mod keys;

use std::error::Error as _;
use std::fs;
use std::path::PathBuf;

use super::*;
use pgp::packet::{PacketParser, SubpacketData};
use pgp::types::KeyDetails as _;

use crate::progress::Silent;
use crate::stage3::keys::{Purpose, TrustedKeys};
use crate::stage3::publish::{FileDigests, digests_body, sha256_body};
use crate::stage3::test_gpg::TestGpg;
use crate::stage3::{Certificate, CertificateError};

const STAGE: &str = "stage3-amd64-openrc-20260811T083102Z.tar.xz";

/// A release: tarball (an xz file as far as its ends tell) and its listing, in a directory.
struct Release<'g> {
    gpg: &'g TestGpg,
    stage: PathBuf,
}

impl<'g> Release<'g> {
    fn new(gpg: &'g TestGpg) -> Self {
        let release = Self { gpg, stage: gpg.path(STAGE) };
        let mut bytes = b"\xfd7zXZ\0".to_vec();
        bytes.extend((0..100_000_u32).flat_map(u32::to_le_bytes));
        bytes.extend(b"YZ");
        fs::write(&release.stage, bytes).unwrap();
        fs::write(release.beside(".CONTENTS.gz"), b"listing").unwrap();
        release
    }

    fn beside(&self, ending: &str) -> PathBuf {
        self.gpg.path(&format!("{STAGE}{ending}"))
    }

    fn write(&self, ending: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.beside(ending), bytes).unwrap();
    }

    fn digests(&self, ending: &str) -> FileDigests {
        let bytes = fs::read(self.beside(ending)).unwrap();
        FileDigests::read(&format!("{STAGE}{ending}"), bytes.as_slice(), |_| ()).unwrap()
    }

    fn digests_text(&self) -> String {
        digests_body(&[self.digests(""), self.digests(".CONTENTS.gz")])
    }

    fn sign(&self, key: &str) {
        self.write(".asc", self.gpg.detach::<&str>(key, &[], &self.stage));
    }

    fn sign_all(&self, key: &str) {
        self.sign(key);
        self.write(".DIGESTS", self.gpg.clear_sign(key, &self.digests_text()));
        self.write(".sha256", self.gpg.clear_sign(key, &sha256_body(&self.digests(""))));
    }

    fn verify(&self, trusted: &TrustedKeys) -> Result<Verified, VerifyError> {
        verify(&self.stage, trusted.counting_for(Purpose::Stage3), &options(), &Silent)
    }

    /// The words of the refusal, one cause a line.
    fn refusal(&self, trusted: &TrustedKeys) -> String {
        words(&self.verify(trusted).unwrap_err())
    }
}

fn words(error: &VerifyError) -> String {
    let mut lines = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        lines.push(cause.to_string());
        source = cause.source();
    }
    lines.join("\n").replace(STAGE, "STAGE")
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn options() -> VerifyOptions {
    VerifyOptions { now: now(), ..VerifyOptions::default() }
}

#[test]
fn a_whole_release_is_verified_and_left_open_at_its_beginning() {
    let Some(gpg) = TestGpg::new() else { return };
    let key = gpg.key("Releng <r@x>", "ed25519", "sign", "1y");
    let release = Release::new(&gpg);
    release.sign_all(&key);
    let mut verified = release.verify(&gpg.keys(&[&key], &[&key])).unwrap();
    assert_eq!(verified.name, STAGE);
    assert_eq!((verified.arch.as_deref(), verified.variant.as_deref()), (Some("amd64"), Some("openrc")));
    let signer = verified.signer.clone().unwrap();
    assert_eq!((signer.primary.as_str(), signer.uid.as_deref()), (key.as_str(), Some("Releng <r@x>")));
    assert_eq!(signer.expired, None);
    assert_eq!(verified.contents.as_deref(), Some(release.beside(".CONTENTS.gz").as_path()));
    assert_eq!(verified.allow_unsigned, None);
    let checks: Vec<String> = verified.checks.iter().map(|check| format!("{} {} {}", check.file, check.what, check.by)).collect();
    insta::assert_snapshot!(checks.join("\n").replace(STAGE, "STAGE"), @"
    STAGE.DIGESTS signature STAGE.DIGESTS
    STAGE.sha256 signature STAGE.sha256
    STAGE BLAKE2B STAGE.DIGESTS
    STAGE SHA512 STAGE.DIGESTS
    STAGE SHA256 STAGE.sha256
    STAGE signature STAGE.asc
    STAGE.CONTENTS.gz BLAKE2B STAGE.DIGESTS
    STAGE.CONTENTS.gz SHA512 STAGE.DIGESTS
    ");
    // What comes out of the descriptor is what was verified, even if the path is another file by now.
    fs::remove_file(&release.stage).unwrap();
    fs::write(&release.stage, "other").unwrap();
    let mut bytes = Vec::new();
    verified.file.read_to_end(&mut bytes).unwrap();
    let digests = FileDigests::read("", bytes.as_slice(), |_| ()).unwrap();
    assert_eq!((digests.sha512, digests.blake2b, digests.size), (verified.sha512, verified.blake2b, verified.size));
}

#[test]
fn each_part_alone_is_enough() {
    let Some(gpg) = TestGpg::new() else { return };
    let key = gpg.key("Releng <r@x>", "ed25519", "sign", "1y");
    let trusted = gpg.keys(&[&key], &[&key]);
    let release = Release::new(&gpg);
    assert_eq!(
        release.refusal(&trusted),
        "cannot trust `STAGE`\nno signature found beside it: neither `STAGE.asc` nor a clear-signed `STAGE.DIGESTS`"
    );
    for ending in [".asc", ".DIGESTS", ".sha256"] {
        release.sign_all(&key);
        for other in [".asc", ".DIGESTS", ".sha256"].iter().filter(|other| **other != ending) {
            fs::remove_file(release.beside(other)).unwrap();
        }
        let verified = release.verify(&trusted).unwrap();
        assert_eq!(verified.signer.unwrap().primary.as_str(), key, "{ending}");
        assert_eq!(verified.contents.is_some(), ending == ".DIGESTS");
        fs::remove_file(release.beside(ending)).unwrap();
    }
    // Unsigned lists are compared, and prove nothing.
    release.write(".DIGESTS", release.digests_text());
    assert!(release.refusal(&trusted).starts_with("cannot trust `STAGE`\nno signature found beside it"));
    // Of old: a detached signature of the list, or a clear-signed copy.
    release.write(".DIGESTS.asc", gpg.detach::<&str>(&key, &[], &release.beside(".DIGESTS")));
    assert!(release.verify(&trusted).unwrap().contents.is_some());
    release.write(".DIGESTS.asc", gpg.clear_sign(&key, &release.digests_text()));
    assert!(release.verify(&trusted).unwrap().contents.is_some());
}

#[test]
fn keys_of_each_kind_and_binary_signatures_are_accepted() {
    let Some(gpg) = TestGpg::new() else { return };
    let release = Release::new(&gpg);
    for algorithm in ["ed25519", "rsa2048", "dsa2048", "nistp256", "nistp384"] {
        let key = gpg.key(&format!("{algorithm} <{algorithm}@x>"), algorithm, "sign", "1y");
        let trusted = gpg.keys(&[&key], &[&key]);
        release.sign(&key);
        release.verify(&trusted).unwrap();
        let binary = gpg.run(&["--local-user", &key, "--output", "-", "--detach-sign", release.stage.to_str().unwrap()], b"");
        assert!(binary[0] & 0x80 != 0);
        // So many are looked at, and no more.
        assert_eq!(openpgp::read_signatures(&binary.repeat(17)).unwrap().len(), 16);
        release.write(".asc", binary);
        release.verify(&trusted).unwrap();
    }
}

#[test]
fn a_signing_subkey_counts_for_its_primary_key() {
    let Some(gpg) = TestGpg::new() else { return };
    let key = gpg.key("Releng <r@x>", "rsa2048", "cert", "1y");
    gpg.run(&["--quick-add-key", &key, "ed25519", "sign", "1y"], b"");
    let subkey = gpg.fingerprints(&key)[1].clone();
    let release = Release::new(&gpg);
    release.sign_all(&key);
    let signer = release.verify(&gpg.keys(&[&key], &[&key])).unwrap().signer.unwrap();
    assert_eq!((signer.primary.as_str(), signer.fingerprint.as_str()), (key.as_str(), subkey.as_str()));

    // Pinning a subkey trusts nothing: only primary keys are compared.
    let words = release.refusal(&gpg.keys(&[&key], &[&subkey]));
    assert!(
        words.ends_with(&format!("signed by {key} (Releng <r@x>), which is not a release key this configuration trusts")),
        "{words}"
    );

    // A stranger who files the subkey under another primary key: the binding there is not by that key.
    let stranger = gpg.key("Stranger <s@x>", "rsa2048", "cert", "1y");
    for adopted in [
        adopt(&gpg, &stranger, &key, Theft::BindingAsItIs),
        adopt(&gpg, &stranger, &key, Theft::NewBindingWithoutBackSignature),
        adopt(&gpg, &stranger, &key, Theft::NewBindingWithForeignBackSignature),
    ] {
        let mut keys = TrustedKeys::default();
        keys.add(adopted, None);
        keys.pin(stranger.parse().unwrap(), &[], "");
        let words = release.refusal(&keys);
        let refusal = format!("signed by {subkey}, which {stranger} does not vouch for as a subkey of its own");
        assert!(words.ends_with(&refusal), "{words}");
    }
}

/// Ways to claim somebody else's signing subkey.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Theft {
    BindingAsItIs,
    NewBindingWithoutBackSignature,
    NewBindingWithForeignBackSignature,
}

/// The certificate of `thief` with the subkey of `victim`.
fn adopt(gpg: &TestGpg, thief: &str, victim: &str, theft: Theft) -> Certificate {
    use pgp::packet::{Packet, PacketTrait as _, Subpacket};
    let victim = gpg.export(victim);
    let packets: Vec<Packet> = PacketParser::new(victim.as_slice()).map(Result::unwrap).collect();
    let at = packets.iter().position(|packet| matches!(packet, Packet::PublicSubkey(_))).unwrap();
    let (Packet::PublicSubkey(subkey), Packet::Signature(binding)) = (&packets[at], &packets[at + 1]) else { panic!() };
    let mut signature = binding.clone();
    if theft != Theft::BindingAsItIs {
        let secret = gpg.secret_key(thief);
        let mut config = binding.config().unwrap().clone();
        config.pub_alg = secret.primary_key.algorithm();
        config.hashed_subpackets.retain(|subpacket| !matches!(subpacket.data, SubpacketData::IssuerFingerprint(_)));
        config.unhashed_subpackets.clear();
        if theft == Theft::NewBindingWithForeignBackSignature {
            let back = Box::new(binding.embedded_signature().unwrap().clone());
            config.unhashed_subpackets.push(Subpacket::regular(SubpacketData::EmbeddedSignature(back)).unwrap());
        }
        let public = secret.primary_key.public_key();
        signature = config.sign_subkey_binding(&secret.primary_key, public, &"".into(), subkey).unwrap();
        signature.verify_subkey_binding(public, subkey).unwrap();
    }
    let mut bytes = gpg.export(thief);
    subkey.to_writer_with_header(&mut bytes).unwrap();
    signature.to_writer_with_header(&mut bytes).unwrap();
    Certificate::parse_all(&bytes).unwrap().remove(0)
}

#[test]
fn odd_signatures_are_refused_with_words_of_their_own() {
    use pgp::crypto::hash::HashAlgorithm;
    use pgp::packet::{SignatureConfig, SignatureType, Subpacket};
    use pgp::types::{Fingerprint as Named, Timestamp};
    let Some(gpg) = TestGpg::new() else { return };
    let key = gpg.key("Releng <r@x>", "rsa2048", "sign", "1y");
    let secret = gpg.secret_key(&key).primary_key;
    let trusted = gpg.keys(&[&key], &[&key]);
    let time = || Subpacket::regular(SubpacketData::SignatureCreationTime(Timestamp::now())).unwrap();
    let maker = || Subpacket::regular(SubpacketData::IssuerFingerprint(secret.fingerprint())).unwrap();
    let id = || Subpacket::regular(SubpacketData::IssuerKeyId(secret.legacy_key_id())).unwrap();
    let other = || Subpacket::regular(SubpacketData::IssuerFingerprint(Named::V4([7; 20]))).unwrap();
    let judge = |hash, subpackets: Vec<Subpacket>| {
        let mut config = SignatureConfig::v4(SignatureType::Binary, secret.algorithm(), hash);
        config.hashed_subpackets = subpackets;
        let mut bytes = Vec::new();
        let signature = config.sign(&secret, &"".into(), &b"data"[..]).unwrap();
        pgp::packet::PacketTrait::to_writer_with_header(&signature, &mut bytes).unwrap();
        let policy = options().policy();
        openpgp::check_bytes(&bytes, b"data", Over::File, trusted.counting_for(Purpose::Stage3), policy)
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    let strong = HashAlgorithm::Sha512;
    assert_eq!(judge(strong, vec![time(), maker()]), Ok(()));
    assert_eq!(judge(strong, vec![time(), id()]), Ok(()));
    assert_eq!(judge(HashAlgorithm::Sha224, vec![time(), maker()]), Ok(()));
    for seconds_valid in [0, 3600] {
        let validity = SubpacketData::SignatureExpirationTime(pgp::types::Duration::from_secs(seconds_valid));
        assert_eq!(judge(strong, vec![time(), maker(), Subpacket::regular(validity).unwrap()]), Ok(()));
    }
    let refused = |words: &str| Err(words.to_owned());
    assert_eq!(judge(strong, vec![time()]), refused("signature does not say who made it"));
    assert_eq!(judge(strong, vec![maker()]), refused("signature does not say when it was made"));
    let named = "07".repeat(20);
    assert_eq!(
        judge(strong, vec![time(), other(), id()]),
        refused(&format!("signature names {named} as its maker, but was made by another key, {key}"))
    );
    let critical = Subpacket::critical(SubpacketData::Experimental(101, vec![1].into())).unwrap();
    assert_eq!(
        judge(strong, vec![time(), maker(), critical]),
        refused("signature has a critical subpacket 101 that is not understood")
    );
    assert_eq!(
        judge(HashAlgorithm::Sha3_256, vec![time(), maker()]),
        refused("signature uses hash algorithm 12, which is not supported")
    );
}

#[test]
fn strangers_are_named() {
    let Some(gpg) = TestGpg::new() else { return };
    let key = gpg.key("Releng <r@x>", "ed25519", "sign", "1y");
    let stranger = gpg.key("Stranger \u{1b}[31m<s@x>", "ed25519", "sign", "1y");
    let release = Release::new(&gpg);
    release.sign(&stranger);
    let doubt = "cannot trust `STAGE`\nthe signature in `STAGE.asc` does not count\n";
    assert_eq!(
        release.refusal(&gpg.keys(&[&key], &[&key])),
        format!("{doubt}signed by {stranger}, which is not a release key this configuration trusts")
    );
    let known = release.refusal(&gpg.keys(&[&key, &stranger], &[&key]));
    assert_eq!(
        known,
        format!("{doubt}signed by {stranger} (Stranger \u{fffd}[31m<s@x>), which is not a release key this configuration trusts")
    );
    let pinned = release.refusal(&gpg.keys(&[], &[&stranger]));
    assert_eq!(
        pinned,
        format!("{doubt}signed by {stranger} (test), which is trusted, but this configuration does not have its public key")
    );
    let hint = release.verify(&gpg.keys(&[], &[&stranger])).unwrap_err().hint().unwrap();
    assert!(hint.contains("keys import"), "{hint}");
}

#[test]
fn notations_are_accepted_unless_critical() {
    let Some(gpg) = TestGpg::new() else { return };
    let release = Release::new(&gpg);
    let key = gpg.key("Releng <r@x>", "ed25519", "sign", "1y");
    let trusted = gpg.keys(&[&key], &[&key]);
    release.write(".asc", gpg.detach(&key, &["--sig-notation", "issuer-fpr@notations.example.org=%g"], &release.stage));
    release.verify(&trusted).unwrap();
    release.write(".asc", gpg.detach(&key, &["--sig-notation", "!strange@example.org=1"], &release.stage));
    assert_eq!(
        release.refusal(&trusted),
        "cannot trust `STAGE`\nthe signature in `STAGE.asc` does not count\n\
         signature has a critical notation `strange@example.org` that is not understood"
    );
}

#[test]
fn one_good_signature_among_several_is_enough() {
    let Some(gpg) = TestGpg::new() else { return };
    let release = Release::new(&gpg);
    let key = gpg.key("Releng <r@x>", "ed25519", "sign", "1y");
    let stranger = gpg.key("Stranger <s@x>", "rsa2048", "sign", "1y");
    let both = gpg.detach(&key, &["--local-user", &stranger], &release.stage);
    release.write(".asc", &both);
    let verified = release.verify(&gpg.keys(&[&key], &[&key])).unwrap();
    assert_eq!(verified.signer.unwrap().primary.as_str(), key);
    assert_eq!(
        verified.notes.join("\n").replace(STAGE, "STAGE"),
        format!(
            "another signature in `STAGE.asc` does not count: signed by {stranger}, which is not a release key this configuration \
             trusts\n`STAGE.CONTENTS.gz` is ignored: no list of digests covers it"
        )
    );
    // Two armoured blocks one after the other are two signatures, too.
    let separate = [gpg.detach::<&str>(&stranger, &[], &release.stage), gpg.detach::<&str>(&key, &[], &release.stage)].concat();
    release.write(".asc", separate);
    release.verify(&gpg.keys(&[&key], &[&key])).unwrap();
    let words = release.refusal(&gpg.keys(&[&key, &stranger], &[]));
    assert!(words.contains("which is not a release key this configuration trusts"), "{words}");
}

#[test]
fn tampering_is_found_wherever_it_is() {
    let Some(gpg) = TestGpg::new() else { return };
    let release = Release::new(&gpg);
    let key = gpg.key("Releng <r@x>", "ed25519", "sign", "1y");
    let trusted = gpg.keys(&[&key], &[&key]);
    release.sign_all(&key);
    let stage = fs::read(&release.stage).unwrap();
    let digests = fs::read_to_string(release.beside(".DIGESTS")).unwrap();
    let does_not_count = |ending: &str| format!("cannot trust `STAGE`\nthe signature in `STAGE{ending}` does not count\n");

    let mut tampered = stage.clone();
    tampered[5000] ^= 1;
    release.write("", &tampered);
    assert_eq!(release.refusal(&trusted), "cannot trust `STAGE`\nits BLAKE2B is not the one in `STAGE.DIGESTS`");
    fs::remove_file(release.beside(".DIGESTS")).unwrap();
    fs::remove_file(release.beside(".sha256")).unwrap();
    assert_eq!(release.refusal(&trusted), format!("{}bad signature: the data is not what {key} signed", does_not_count(".asc")));
    release.write("", &stage[..stage.len() / 2]);
    assert_eq!(
        release.refusal(&trusted),
        "cannot trust `STAGE`\nit looks truncated: it does not end like an xz file, and `STAGE.asc` does not match it"
    );
    release.write(".DIGESTS", &digests);
    assert_eq!(
        release.refusal(&trusted),
        "cannot trust `STAGE`\nit looks truncated: it does not end like an xz file, and `STAGE.DIGESTS` does not match it"
    );
    release.write("", &stage);
    release.verify(&trusted).unwrap();

    // A digest changed within the signed text.
    let (at, digit) = digests.char_indices().find(|(at, _)| *at >= digests.find("HASH\n").unwrap() + 5).unwrap();
    let mut changed = digests.clone();
    changed.replace_range(at..=at, if digit == '0' { "1" } else { "0" });
    release.write(".DIGESTS", &changed);
    assert_eq!(
        release.refusal(&trusted),
        format!(
            "{}bad signature: the data is not what {key} \
        signed",
            does_not_count(".DIGESTS")
        )
    );
    // Text outside of it is nothing.
    let lies = "# SHA512 HASH\nffff  STAGE\n";
    release.write(".DIGESTS", format!("{lies}{digests}{lies}"));
    release.verify(&trusted).unwrap();
    // A list of another release, well signed.
    release.write(".DIGESTS", gpg.clear_sign(&key, &release.digests_text().replace(STAGE, "stage3-other.tar.xz")));
    assert_eq!(release.refusal(&trusted), "cannot trust `STAGE`\ncannot use `STAGE.DIGESTS`\nno digest for `STAGE`");
    release.write(".DIGESTS", gpg.clear_sign(&key, &format!("# MD5 HASH\n{}  {STAGE}\n", "a".repeat(32))));
    assert_eq!(
        release.refusal(&trusted),
        "cannot trust `STAGE`\ncannot use `STAGE.DIGESTS`\nonly MD5 for `STAGE`, too weak to rely on"
    );
    // Truncated and replaced signatures.
    release.write(".DIGESTS", &digests[..digests.len() - 40]);
    assert_eq!(
        release.refusal(&trusted),
        "cannot trust `STAGE`\ncannot read `STAGE.DIGESTS`\nends before its signature does: truncated"
    );
    release.write(".DIGESTS", &digests);
    let signature = fs::read(release.beside(".asc")).unwrap();
    release.write(".asc", &signature[..signature.len() - 40]);
    assert_eq!(
        release.refusal(&trusted),
        format!("{}the signature's armour ends before its END line: truncated", does_not_count(".asc"))
    );
    release.write(".asc", "<html>404 Not Found</html>");
    assert_eq!(release.refusal(&trusted), format!("{}not an OpenPGP signature", does_not_count(".asc")));
    release.write(".asc", gpg.run(&["--local-user", &key, "--armor", "--textmode", "--detach-sign"], &stage));
    assert_eq!(
        release.refusal(&trusted),
        format!("{}is a signature of type 0x01, but should be one over a file", does_not_count(".asc"))
    );
    release.write(".asc", signature);
    // The listing.
    release.write(".CONTENTS.gz", "other");
    assert_eq!(
        release.refusal(&trusted),
        "cannot trust `STAGE`\nits BLAKE2B is not the one in `STAGE.DIGESTS` (`STAGE.CONTENTS.gz`)"
    );
    // An unsigned list that contradicts.
    release.write(".CONTENTS.gz", "listing");
    release.write(".sha256", format!("{}  {STAGE}\n", "a".repeat(64)));
    assert_eq!(release.refusal(&trusted), "cannot trust `STAGE`\nits SHA256 is not the one in `STAGE.sha256`");
}

#[test]
fn unsigned_is_allowed_for_a_reason_and_tampering_is_not() {
    let Some(gpg) = TestGpg::new() else { return };
    let release = Release::new(&gpg);
    let stranger = gpg.key("Stranger <s@x>", "ed25519", "sign", "1y");
    let allow = VerifyOptions { allow_unsigned: Some("local experiment".to_owned()), ..options() };
    let nobody = TrustedKeys::default();
    let verified = verify(&release.stage, nobody.counting_for(Purpose::Stage3), &allow, &Silent).unwrap();
    assert_eq!((verified.signer, verified.allow_unsigned.as_deref()), (None, Some("local experiment")));
    assert!(verified.checks.is_empty());
    release.sign_all(&stranger);
    let verified = verify(&release.stage, nobody.counting_for(Purpose::Stage3), &allow, &Silent).unwrap();
    assert_eq!((&verified.signer, verified.allow_unsigned.as_deref()), (&None, Some("local experiment")));
    assert!(verified.notes[0].contains("which is not a release key this configuration trusts"), "{:?}", verified.notes);
    // A trusted signature makes the reason superfluous.
    let trusted = gpg.keys(&[&stranger], &[&stranger]);
    let verified = verify(&release.stage, trusted.counting_for(Purpose::Stage3), &allow, &Silent).unwrap();
    assert_eq!((verified.signer.is_some(), verified.allow_unsigned), (true, None));
    // A bad one is no signature that is missing.
    let signature = fs::read(release.beside(".asc")).unwrap();
    release.write(".asc", gpg.detach(&stranger, &[""; 0], &release.beside(".DIGESTS")));
    let error = verify(&release.stage, trusted.counting_for(Purpose::Stage3), &allow, &Silent).unwrap_err();
    assert_eq!(
        words(&error),
        format!(
            "cannot trust `STAGE`\nthe signature in `STAGE.asc` does not count\nbad signature: the data is not what {stranger} signed"
        )
    );
    release.write(".asc", signature);
    // The digests are checked in any case.
    let mut stage = fs::read(&release.stage).unwrap();
    stage[10] ^= 1;
    release.write("", stage);
    let error = verify(&release.stage, nobody.counting_for(Purpose::Stage3), &allow, &Silent).unwrap_err();
    assert_eq!(words(&error), "cannot trust `STAGE`\nits BLAKE2B is not the one in `STAGE.DIGESTS`");
}

#[test]
fn only_regular_files_of_reasonable_size_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = TrustedKeys::default();
    let error = verify(dir.path(), nobody.counting_for(Purpose::Stage3), &options(), &Silent).unwrap_err();
    assert_eq!(error.to_string(), format!("`{}` is not a regular file", dir.path().display()));
    let fifo = dir.path().join("fifo.tar.xz");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let error = verify(&fifo, nobody.counting_for(Purpose::Stage3), &options(), &Silent).unwrap_err();
    assert_eq!(error.to_string(), format!("`{}` is not a regular file", fifo.display()));
    let missing = dir.path().join("missing.tar.xz");
    let error = verify(&missing, nobody.counting_for(Purpose::Stage3), &options(), &Silent).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot open `{}`", missing.display()));
    let stage = dir.path().join("a.tar.xz");
    let signature = dir.path().join("a.tar.xz.asc");
    fs::write(&stage, "").unwrap();
    fs::File::create(&signature).unwrap().set_len((1 << 20) + 1).unwrap();
    let error = verify(&stage, nobody.counting_for(Purpose::Stage3), &options(), &Silent).unwrap_err();
    assert_eq!(error.to_string(), format!("`{}` is larger than 1048576 bytes", signature.display()));
    let loops = dir.path().join("a.tar.xz.sha256");
    fs::File::create(&signature).unwrap().set_len(1 << 20).unwrap();
    std::os::unix::fs::symlink(&loops, &loops).unwrap();
    let error = verify(&stage, nobody.counting_for(Purpose::Stage3), &options(), &Silent).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot open `{}`", loops.display()));
    fs::remove_file(&loops).unwrap();
    nix::unistd::mkfifo(&loops, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let error = verify(&stage, nobody.counting_for(Purpose::Stage3), &options(), &Silent).unwrap_err();
    assert_eq!(error.to_string(), format!("`{}` is not a regular file", loops.display()));
    fs::remove_file(&loops).unwrap();
    let error = verify(&stage, nobody.counting_for(Purpose::Stage3), &options(), &Silent).unwrap_err();
    assert!(matches!(error, VerifyError::Rejected { .. }), "{error}");
}

#[test]
fn a_file_that_changes_meanwhile_is_refused() {
    /// Writes to the file as soon as reading begins.
    struct Meddler(PathBuf);
    impl Observer for Meddler {
        fn event(&self, event: &Event<'_>) {
            if matches!(event, Event::End) {
                let file = OpenOptions::new().write(true).open(&self.0).unwrap();
                file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
            }
        }
    }
    let Some(gpg) = TestGpg::new() else { return };
    let release = Release::new(&gpg);
    let key = gpg.key("Releng <r@x>", "ed25519", "sign", "1y");
    release.sign(&key);
    let trusted = gpg.keys(&[&key], &[&key]);
    let error =
        verify(&release.stage, trusted.counting_for(Purpose::Stage3), &options(), &Meddler(release.stage.clone())).unwrap_err();
    assert_eq!(error.to_string(), format!("`{}` changed while it was being verified", release.stage.display()));
}

#[test]
fn a_tree_snapshot_and_a_list_of_builds_are_verified() {
    let Some(gpg) = TestGpg::new() else { return };
    let key = gpg.key("Releng <r@x>", "ed25519", "sign", "1y");
    let trusted = gpg.keys(&[&key], &[&key]);
    let snapshot = gpg.path("gentoo-20260811.tar.xz");
    fs::write(&snapshot, "tree").unwrap();
    let signature = gpg.path("gentoo-20260811.tar.xz.gpgsig");
    fs::write(&signature, gpg.detach::<&str>(&key, &[], &snapshot)).unwrap();
    let verified = verify_detached(&snapshot, &signature, trusted.counting_for(Purpose::Tree), &options(), &Silent).unwrap();
    assert_eq!((verified.name.as_str(), verified.size), ("gentoo-20260811.tar.xz", 4));
    fs::write(&snapshot, "eert").unwrap();
    let error = verify_detached(&snapshot, &signature, trusted.counting_for(Purpose::Tree), &options(), &Silent).unwrap_err();
    assert!(words(&error).starts_with("cannot trust `gentoo-20260811.tar.xz`\nit looks truncated"), "{}", words(&error));

    let list = gpg.clear_sign(&key, "# ts=1\na/b.tar.xz 5\n");
    let (text, signer) =
        verify_clear_signed("latest-stage3.txt", &list, trusted.counting_for(Purpose::Stage3), &options()).unwrap();
    assert_eq!((text.as_str(), signer.primary.as_str()), ("# ts=1\na/b.tar.xz 5\n", key.as_str()));
    let error =
        verify_clear_signed("latest-stage3.txt", b"a/b.tar.xz 5\n", trusted.counting_for(Purpose::Stage3), &options()).unwrap_err();
    assert_eq!(words(&error), "cannot trust `latest-stage3.txt`\ncannot read `latest-stage3.txt`\nnot a clear-signed document");
}

#[test]
fn flipped_bits_never_verify_and_never_panic() {
    let Some(gpg) = TestGpg::new() else { return };
    let text = "# SHA512 HASH\nabc  file\n";
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for algorithm in ["ed25519", "rsa2048", "nistp256"] {
        let key = gpg.key(&format!("{algorithm} <{algorithm}@x>"), algorithm, "sign", "1y");
        let trusted = gpg.keys(&[&key], &[&key]);
        let document = gpg.clear_sign(&key, text);
        let file = gpg.path("data");
        fs::write(&file, text).unwrap();
        let signature = gpg.run(&["--local-user", &key, "--output", "-", "--detach-sign", file.to_str().unwrap()], b"");
        let policy = options().policy();
        assert!(
            openpgp::check_bytes(&signature, text.as_bytes(), Over::File, trusted.counting_for(Purpose::Stage3), policy).is_ok()
        );
        for _ in 0..500 {
            // Armour and headers have redundancy; what may not change is what is said to be signed.
            let flipped = random.flip(&document);
            if let Ok((read, signer)) = verify_clear_signed("x", &flipped, trusted.counting_for(Purpose::Stage3), &options()) {
                assert_eq!((read.as_str(), signer.primary.as_str()), (text, key.as_str()));
            }
            let flipped = random.flip(&signature);
            if let Ok((signer, _)) =
                openpgp::check_bytes(&flipped, text.as_bytes(), Over::File, trusted.counting_for(Purpose::Stage3), policy)
            {
                assert_eq!(signer.primary.as_str(), key, "only fields that are not signed may change");
            }
            let flipped = random.flip(text.as_bytes());
            assert!(openpgp::check_bytes(&signature, &flipped, Over::File, trusted.counting_for(Purpose::Stage3), policy).is_err());
        }
        // Key material: whatever is read from it, it is another key or says no more than the original.
        let material = gpg.export(&key);
        for _ in 0..500 {
            let flipped = random.flip(&material);
            for certificate in Certificate::parse_all(&flipped).unwrap_or_default() {
                let standing = certificate.standing(now());
                if certificate.fingerprint().as_str() == key && standing.bound {
                    assert_eq!(standing, Certificate::parse_all(&material).unwrap()[0].standing(now()));
                }
            }
        }
    }
}

/// A small generator (xorshift), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below as u64).unwrap()
    }

    /// `bytes` with one bit changed, or cut short.
    fn flip(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        if self.next(10) == 0 {
            bytes.truncate(self.next(bytes.len()));
        } else {
            let at = self.next(bytes.len());
            bytes[at] ^= 1 << self.next(8);
        }
        bytes
    }
}

#[test]
fn key_material_is_judged() {
    let Some(gpg) = TestGpg::new() else { return };
    let key = gpg.key("Releng <r@x>", "ed25519", "sign", "1y");
    let other = gpg.key("Other <o@x>", "ed25519", "sign", "1y");
    let armored = |key: &str| gpg.run(&["--armor", "--export", key], b"");
    let several = [b"Keys:\n".to_vec(), armored(&key), armored(&other), armored(&key)].concat();
    let found: Vec<String> =
        Certificate::parse_all(&several).unwrap().iter().map(|found| found.fingerprint().to_string()).collect();
    assert_eq!(found, [key.clone(), other]);
    let secret = gpg.run(&["--armor", "--export-secret-keys", &key], b"");
    let binary_secret = gpg.run(&["--export-secret-keys", &key], b"");
    let cut = &armored(&key)[..200];
    for (bytes, error) in [
        (secret.as_slice(), CertificateError::Secret),
        (&binary_secret, CertificateError::Secret),
        (cut, CertificateError::Truncated),
        (b"hello", CertificateError::Malformed),
        (b"", CertificateError::Malformed),
    ] {
        assert_eq!(Certificate::parse_all(bytes).unwrap_err(), error);
    }
}
