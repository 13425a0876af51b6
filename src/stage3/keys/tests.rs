//! The directory of keys, with keys made by gpg.

use std::fs;

use super::*;
use crate::stage3::test_gpg::TestGpg;

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn named(comment: &str) -> Trust<'_> {
    Trust { purposes: &[], comment }
}

const KEY: &str = "0123456789ABCDEF0123456789ABCDEF01234567";

#[test]
fn gentoos_keys_count_for_what_gentoo_uses_them_for() {
    let dir = tempfile::tempdir().unwrap();
    let counts = |keys: &TrustedKeys, fingerprint: &str| {
        Purpose::ALL.map(|purpose| keys.counting_for(purpose).count(&fingerprint.parse().unwrap()))
    };
    let (releng, snapshots, mirror) = (GENTOO[0].fingerprint, GENTOO[1].fingerprint, GENTOO[2].fingerprint);
    let keys = TrustedKeys::load(dir.path(), GENTOO).unwrap();
    assert_eq!(counts(&keys, releng), [true, false, true, false]);
    assert_eq!(counts(&keys, snapshots), [false, true, false, false]);
    assert_eq!(counts(&keys, mirror), [false, true, false, false]);
    assert_eq!(counts(&keys, KEY), [false; 4]);
    // A line of an older `trusted` said nothing new of them, and says nothing new now. A purpose is new.
    fs::write(dir.path().join("trusted"), format!("{releng}\n{mirror}  binpkg\n{KEY}  # ours\n")).unwrap();
    let keys = TrustedKeys::load(dir.path(), GENTOO).unwrap();
    assert_eq!(counts(&keys, releng), [true, false, true, false]);
    assert_eq!(counts(&keys, mirror), [false, true, true, false]);
    // Nor does it say that somebody may give us whole states: that is newer than such lines.
    assert_eq!(counts(&keys, KEY), [true, true, true, false]);
    fs::write(dir.path().join("trusted"), format!("{KEY}  remote  # a runner\n")).unwrap();
    assert_eq!(counts(&TrustedKeys::load(dir.path(), GENTOO).unwrap(), KEY), [false, false, false, true]);
}

#[test]
fn what_a_key_counts_for_is_written_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let file = dir.join("trusted");
    let key: Fingerprint = KEY.parse().unwrap();
    let spaced = "89AB CDEF 0123 4567 89AB  CDEF 0123 4567 89AB CDEF";
    fs::write(&file, format!("# ours\n{spaced} binpkg # lab\n\n")).unwrap();
    let text = || fs::read_to_string(&file).unwrap();
    let how = |purposes| Trust { purposes, comment: "" };
    let said = |change: Option<Change>| match change {
        Some(Change::Trusted { purposes, .. }) => purposes.to_string(),
        other => format!("{other:?}"),
    };
    let other = spaced.parse().unwrap();
    assert_eq!(said(trust(dir, &other, how(&[Purpose::Tree])).unwrap()), "trees and binary packages");
    assert_eq!(text(), "# ours\n89ABCDEF0123456789ABCDEF0123456789ABCDEF  tree binpkg  # lab\n\n");
    assert_eq!(trust(dir, &other, how(&[Purpose::Binpkg])).unwrap(), None);
    assert_eq!(said(trust(dir, &other, how(&[])).unwrap()), "stage3s and trees and binary packages");
    assert_eq!(text(), "# ours\n89ABCDEF0123456789ABCDEF0123456789ABCDEF  # lab\n\n");
    // What counts for everything is not made to count for less.
    assert_eq!(trust(dir, &other, how(&[Purpose::Tree])).unwrap(), None);
    let all = "stage3s and trees and binary packages and remotes";
    assert_eq!(said(trust(dir, &other, how(&[Purpose::Remote])).unwrap()), all);
    assert_eq!(text(), "# ours\n89ABCDEF0123456789ABCDEF0123456789ABCDEF  stage3 tree binpkg remote  # lab\n\n");
    trust(dir, &key, Trust { purposes: &[Purpose::Stage3, Purpose::Stage3], comment: "c" }).unwrap();
    assert!(text().ends_with(&format!("\n{KEY}  stage3  # c\n")), "{}", text());

    for (line, words) in [
        (format!("{KEY} stage4"), "`stage4` is not a purpose of a key; there are stage3, tree, binpkg and remote"),
        (format!("{KEY} tree, binpkg"), "`tree,` is not a purpose of a key; there are stage3, tree, binpkg and remote"),
        ("BB572E0E2D182910 tree".to_owned(), "`BB572E0E2D182910` is not a fingerprint of 40 or 64 hexadecimal digits"),
        (
            format!("tree {KEY}"),
            "`tree 0123456789ABCDEF0123456789ABCDEF01234567` is not a fingerprint of 40 or 64 hexadecimal digits",
        ),
    ] {
        fs::write(&file, format!("# c\n{line}\n")).unwrap();
        let error = TrustedKeys::load(dir, GENTOO).unwrap_err();
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), words);
        assert!(error.to_string().starts_with(&format!("{}:2: not a ", file.display())), "{error}");
    }
}

#[test]
fn gentoos_keys_are_trusted_before_they_are_here() {
    let dir = tempfile::tempdir().unwrap();
    let keys = TrustedKeys::load(&dir.path().join("missing"), GENTOO).unwrap();
    let list = keys.list(now());
    assert_eq!(list.len(), GENTOO.len());
    assert!(list.iter().all(|key| key.trusted && key.files.is_empty() && key.uid.is_none()));
    let subkey = "534E4209AB49EEE1C19D96162C44695DB9F6043D".parse().unwrap();
    let (primary, comment) = keys.pinned_primary_of(&subkey).unwrap();
    assert_eq!((primary.as_str(), comment), ("13EBBDBEDE7A12775DFDB1BABB572E0E2D182910", "Gentoo weekly releases"));
}

#[test]
fn import_trust_and_removal_change_what_they_say() {
    let Some(gpg) = TestGpg::new() else { return };
    let dir = gpg.path("keys");
    let one = gpg.key("One <one@x>", "ed25519", "sign", "1y");
    let two = gpg.key("Two <two@x>", "rsa2048", "sign", "never");
    let (fpr_one, fpr_two): (Fingerprint, Fingerprint) = (one.parse().unwrap(), two.parse().unwrap());
    let bundle = gpg.path("bundle.gpg");
    fs::write(&bundle, [gpg.export(&one), gpg.export(&two)].concat()).unwrap();

    let changes = import(&dir, &bundle, None).unwrap();
    let path = dir.join(format!("{one}.asc"));
    assert_eq!(changes.len(), 2);
    assert_eq!(changes[0], Change::Stored { fingerprint: fpr_one.clone(), path: path.clone(), refreshed: false });
    assert!(matches!(&import(&dir, &bundle, None).unwrap()[0], Change::Stored { refreshed: true, .. }));
    let list = TrustedKeys::load(&dir, &[]).unwrap().list(now());
    let seen: Vec<_> =
        list.iter().map(|key| (key.uid.as_deref().unwrap(), key.algorithm.as_deref().unwrap(), key.trusted)).collect();
    assert!(seen.contains(&("One <one@x>", "ed25519", false)) && seen.contains(&("Two <two@x>", "rsa2048", false)), "{seen:?}");

    assert!(matches!(trust(&dir, &fpr_one, named("first")).unwrap(), Some(Change::Trusted { .. })));
    assert_eq!(trust(&dir, &fpr_one, named("again")).unwrap(), None);
    assert!(
        matches!(import(&dir, &bundle, Some(named("both"))).unwrap().as_slice(), [_, _, Change::Trusted { fingerprint, .. }] if *fingerprint == fpr_two)
    );
    assert_eq!(
        fs::read_to_string(dir.join("trusted")).unwrap(),
        format!(
            "# Trusted keys: one fingerprint of a primary key a line, then what it is trusted for: stage3, tree, binpkg, remote. Without that, for all but remote.\n\
             {one}  # first\n{two}  # both\n"
        )
    );
    let keys = TrustedKeys::load(&dir, &[]).unwrap();
    assert!(keys.is_trusted(&fpr_one) && keys.is_trusted(&fpr_two));

    // A file of the user's with several keys loses only the one that goes.
    fs::copy(&bundle, dir.join("ours.gpg")).unwrap();
    let changes = remove(&dir, &fpr_one).unwrap();
    let kinds: Vec<&str> = changes
        .iter()
        .map(|change| match change {
            Change::Removed { .. } => "removed",
            Change::Rewritten { .. } => "rewritten",
            Change::Distrusted { .. } => "distrusted",
            _ => "other",
        })
        .collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "removed").count(), 1);
    assert_eq!(kinds.iter().filter(|kind| **kind == "rewritten").count(), 1);
    assert_eq!(kinds.last(), Some(&"distrusted"));
    assert!(!path.exists());
    let keys = TrustedKeys::load(&dir, &[]).unwrap();
    assert!(!keys.is_trusted(&fpr_one) && keys.is_trusted(&fpr_two));
    assert_eq!(keys.certificates().count(), 1);
    let error = remove(&dir, &fpr_one).unwrap_err();
    assert_eq!(error.to_string(), format!("no key `{one}` in `{}`", dir.display()));
    let leftover = fs::read_dir(&dir).unwrap().any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with('.'));
    assert!(!leftover, "temporary files remain");
}

#[test]
fn a_stale_copy_does_not_take_back_a_refreshed_expiry() {
    let Some(gpg) = TestGpg::new() else { return };
    let dir = gpg.path("keys");
    let key = gpg.key_at("20200101T000000", "One <one@x>", "ed25519", "sign", "1y");
    let stale = gpg.path("stale.gpg");
    fs::write(&stale, gpg.export(&key)).unwrap();
    gpg.run(&["--quick-set-expire", &key, "2040-01-01"], b"");
    let fresh = gpg.path("fresh.gpg");
    fs::write(&fresh, gpg.export(&key)).unwrap();
    import(&dir, &stale, None).unwrap();
    assert!(TrustedKeys::load(&dir, &[]).unwrap().list(now())[0].expires.unwrap() < now());
    import(&dir, &fresh, None).unwrap();
    import(&dir, &stale, None).unwrap();
    assert!(TrustedKeys::load(&dir, &[]).unwrap().list(now())[0].expires.unwrap() > now());
}

#[test]
fn what_is_wrong_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let file = dir.join("broken.asc");
    fs::write(&file, "nonsense").unwrap();
    let error = TrustedKeys::load(dir, GENTOO).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot use `{}`", file.display()));
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "not an OpenPGP public key");
    fs::remove_file(&file).unwrap();
    fs::write(dir.join("trusted"), "# fine\n\nBB572E0E2D182910  # a key id\n").unwrap();
    let error = TrustedKeys::load(dir, GENTOO).unwrap_err();
    assert_eq!(error.to_string(), format!("{}:3: not a fingerprint", dir.join("trusted").display()));
    let fingerprint = GENTOO[0].fingerprint.parse().unwrap();
    let error = trust(dir, &fingerprint, named("two\nlines")).unwrap_err();
    assert_eq!(error.to_string(), "a comment must be one line without control characters");
    let error = import(dir, &dir.join("missing"), None).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read `{}`", dir.join("missing").display()));
    let large = dir.join("large.gpg");
    fs::File::create(&large).unwrap().set_len(MAX_KEY_FILE_BYTES + 1).unwrap();
    assert_eq!(read_key_file(&large).unwrap_err().to_string(), format!("`{}` is larger than 16777216 bytes", large.display()));
    fs::File::create(&large).unwrap().set_len(MAX_KEY_FILE_BYTES).unwrap();
    assert_eq!(read_key_file(&large).unwrap_err().to_string(), format!("cannot use `{}`", large.display()));
    assert!(store::key_files(&dir.join("missing")).unwrap().is_empty());
    let nowhere = tempfile::tempdir().unwrap();
    fs::create_dir(nowhere.path().join("trusted")).unwrap();
    let error = store::read_trusted(nowhere.path()).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read `{}`", nowhere.path().join("trusted").display()));
    let error = store::key_files(&dir.join("trusted")).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read `{}`", dir.join("trusted").display()));
}
