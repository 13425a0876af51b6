//! Keys that expire, are revoked, too weak, or made for something else.

use super::*;

#[test]
fn expired_keys_are_refused_until_accepted_or_refreshed() {
    let Some(gpg) = TestGpg::new() else { return };
    let at = |time: &str| vec!["--faked-system-time".to_owned(), format!("{time}!")];
    let key = gpg.key_at("20200101T000000", "Releng <r@x>", "ed25519", "sign", "1y");
    let release = Release::new(&gpg);
    release.write(".asc", gpg.detach(&key, &at("20200601T000000"), &release.stage));
    let stale = gpg.keys(&[&key], &[&key]);
    let refusal = format!(
        "cannot trust `STAGE`\nthe signature in `STAGE.asc` does not count\nsignature good, key expired on 2020-12-31 ({key})"
    );
    assert_eq!(release.refusal(&stale), refusal);
    let accept = VerifyOptions { accept_expired: true, ..options() };
    let signer = verify(&release.stage, stale.counting_for(Purpose::Stage3), &accept, &Silent).unwrap().signer.unwrap();
    assert_eq!(openpgp::Day(signer.expired.unwrap()).to_string(), "2020-12-31");
    // At the time, it was good.
    let then = VerifyOptions { now: signer.signed_at + 60, ..VerifyOptions::default() };
    assert_eq!(verify(&release.stage, stale.counting_for(Purpose::Stage3), &then, &Silent).unwrap().signer.unwrap().expired, None);

    // A refreshed copy, merged with the stale one in either order.
    let old = Certificate::parse_all(&gpg.export(&key)).unwrap().remove(0);
    gpg.run(&["--quick-set-expire", &key, "2030-01-01"], b"");
    let new = Certificate::parse_all(&gpg.export(&key)).unwrap().remove(0);
    for pair in [[old.clone(), new.clone()], [new, old]] {
        let mut keys = TrustedKeys::default();
        for certificate in pair {
            keys.add(certificate, None);
        }
        keys.pin(key.parse().unwrap(), &[], "");
        assert_eq!(release.verify(&keys).unwrap().signer.unwrap().expired, None);
    }
}

/// An old signature is what `--allow-expired` is for. Who gets hold of a key that its owner has let expire signs today.
#[test]
fn a_signature_made_after_the_expiry_is_refused_whatever_is_accepted() {
    let Some(gpg) = TestGpg::new() else { return };
    let accept = VerifyOptions { accept_expired: true, ..options() };
    let release = Release::new(&gpg);
    let refusal = |keys: &TrustedKeys| {
        let verified = verify(&release.stage, keys.counting_for(Purpose::Stage3), &accept, &Silent);
        words(&verified.unwrap_err()).lines().last().unwrap().to_owned()
    };
    let key = gpg.key_at("20200101T000000", "Releng <r@x>", "ed25519", "sign", "1y");
    let stale = gpg.keys(&[&key], &[&key]);
    // gpg signs with a key that is valid; the configuration's copy says that it is not.
    gpg.run(&["--quick-set-expire", &key, "2040-01-01"], b"");
    let at = |time: &str| vec!["--faked-system-time".to_owned(), format!("{time}!")];
    release.write(".asc", gpg.detach(&key, &at("20210601T000000"), &release.stage));
    let words = format!("signature is from 2021-06-01, after its key expired on 2020-12-31 ({key})");
    assert_eq!(refusal(&stale), words);
    let error = verify(&release.stage, stale.counting_for(Purpose::Stage3), &accept, &Silent).unwrap_err();
    assert!(error.hint().unwrap().contains("get a refreshed copy"), "{error:?}");
    // At the time of the signature it was so already.
    let then = VerifyOptions { now: stale.list(now())[0].expires.unwrap() + 86_400 * 200, ..accept.clone() };
    assert!(verify(&release.stage, stale.counting_for(Purpose::Stage3), &then, &Silent).is_err());
    // The second in which it expires is not one in which it was valid.
    release.write(".asc", gpg.detach(&key, &at("20201231T000000"), &release.stage));
    assert_eq!(refusal(&stale), format!("signature is from 2020-12-31, after its key expired on 2020-12-31 ({key})"));

    // Of a subkey likewise, of a primary key that is valid.
    let key = gpg.key_at("20200101T000000", "Subkeys <s@x>", "ed25519", "cert", "never");
    gpg.run(&["--faked-system-time", "20200101T000000!", "--quick-add-key", &key, "ed25519", "sign", "1y"], b"");
    let subkey = gpg.fingerprints("Subkeys <s@x>").remove(1);
    let stale = gpg.keys(&[&key], &[&key]);
    gpg.run(&["--quick-set-expire", &key, "2040-01-01", &subkey], b"");
    release.write(".asc", gpg.detach(&key, &at("20210601T000000"), &release.stage));
    assert_eq!(refusal(&stale), format!("signature is from 2021-06-01, after its key expired on 2020-12-31 ({subkey})"));
}

#[test]
fn a_key_counts_only_for_what_it_is_for() {
    let Some(gpg) = TestGpg::new() else { return };
    let key = gpg.key("Trees <t@x>", "ed25519", "sign", "1y");
    let release = Release::new(&gpg);
    release.sign(&key);
    let list = gpg.clear_sign(&key, "a/b.tar.xz 5\n");
    let with = |purposes: &[Purpose]| {
        let mut keys = gpg.keys(&[&key], &[]);
        keys.pin(key.parse().unwrap(), purposes, "");
        keys
    };
    let trees = with(&[Purpose::Tree]);
    let error = release.verify(&trees).unwrap_err();
    let cause = format!("signed by {key} (Trees <t@x>), which is trusted for trees only, not for stage3s");
    assert_eq!(words(&error), format!("cannot trust `STAGE`\nthe signature in `STAGE.asc` does not count\n{cause}"));
    assert_eq!(error.hint().unwrap(), format!("if you also trust it for stage3s: `gentoomuch keys trust {key} --for stage3`"));
    let both = with(&[Purpose::Binpkg, Purpose::Stage3]);
    let error = verify_clear_signed("Manifest", &list, both.counting_for(Purpose::Tree), &options()).unwrap_err();
    let cause = format!("signed by {key} (Trees <t@x>), which is trusted for stage3s and binary packages only, not for trees");
    assert_eq!(words(&error).lines().last(), Some(cause.as_str()));
    assert!(release.verify(&both).is_ok());
    assert!(verify_clear_signed("Manifest", &list, trees.counting_for(Purpose::Tree), &options()).is_ok());
    // Without a word it counts for everything.
    let all = with(&[]);
    assert!(release.verify(&all).is_ok() && all.counting_for(Purpose::Binpkg).count(&key.parse().unwrap()));
    assert!(verify_clear_signed("Manifest", &list, all.counting_for(Purpose::Tree), &options()).is_ok());
}

#[test]
fn expired_signatures_and_those_from_the_future_are_refused() {
    let Some(gpg) = TestGpg::new() else { return };
    let key = gpg.key_at("20200101T000000", "Releng <r@x>", "ed25519", "sign", "never");
    let release = Release::new(&gpg);
    let trusted = gpg.keys(&[&key], &[&key]);
    let doubt = "cannot trust `STAGE`\nthe signature in `STAGE.asc` does not count\n";
    let at = |time: &str, more: &[&str]| {
        let options: Vec<String> = ["--faked-system-time".to_owned(), format!("{time}!")]
            .into_iter()
            .chain(more.iter().map(ToString::to_string))
            .collect();
        release.write(".asc", gpg.detach(&key, &options, &release.stage));
        release.refusal(&trusted)
    };
    assert_eq!(
        at("20200601T000000", &["--default-sig-expire", "10d"]),
        format!("{doubt}signature by {key} was valid until 2020-06-11 only")
    );
    assert_eq!(
        at("20400601T000000", &[]),
        format!("{doubt}signature by {key} is from the future (2040-06-01); is this machine's clock right?")
    );
    // Clocks differ by some minutes.
    let ahead = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(2);
    let options = ["--faked-system-time".to_owned(), format!("{}!", ahead.strftime("%Y%m%dT%H%M%S"))];
    release.write(".asc", gpg.detach(&key, &options, &release.stage));
    release.verify(&trusted).unwrap();
    assert_eq!(
        at("20190601T000000", &["--ignore-time-conflict"]),
        format!("{doubt}signature is older (2019-06-01) than the key {key} that made it")
    );
}

#[test]
fn revoked_keys_are_refused() {
    let Some(gpg) = TestGpg::new() else { return };
    let release = Release::new(&gpg);
    let refused = "cannot trust `STAGE`\nthe signature in `STAGE.asc` does not count\nsignature good, but its key";
    // 1: compromised, 3: no longer used (the codes of gpg's dialogue).
    for (code, hard, reason) in [("1", true, "compromised"), ("3", false, "no longer used"), ("0", true, "no reason given")] {
        let key = gpg.key_at("20200101T000000", &format!("Releng <r{code}@x>"), "ed25519", "sign", "never");
        let before = gpg.detach(&key, &["--faked-system-time", "20200601T000000!"], &release.stage);
        let after = gpg.detach(&key, &["--faked-system-time", "20230601T000000!"], &release.stage);
        let dialogue = format!("y\n{code}\n\ny\n");
        let revocation = gpg.run(
            &["--faked-system-time", "20220101T000000!", "--no-batch", "--command-fd", "0", "--gen-revoke", &key],
            dialogue.as_bytes(),
        );
        gpg.run(&["--import"], &revocation);
        let trusted = gpg.keys(&[&key], &[&key]);
        release.write(".asc", after);
        assert_eq!(release.refusal(&trusted), format!("{refused} {key} was revoked on 2022-01-01 ({reason})"));
        release.write(".asc", before);
        if hard {
            assert_eq!(release.refusal(&trusted), format!("{refused} {key} was revoked on 2022-01-01 ({reason})"));
        } else {
            release.verify(&trusted).unwrap();
        }
    }
}

#[test]
fn revoked_and_expired_subkeys_are_refused() {
    let Some(gpg) = TestGpg::new() else { return };
    let release = Release::new(&gpg);
    let key = gpg.key_at("20200101T000000", "Releng <r@x>", "ed25519", "cert", "never");
    gpg.run(&["--faked-system-time", "20200101T000000!", "--quick-add-key", &key, "ed25519", "sign", "1y"], b"");
    let subkey = gpg.fingerprints(&key)[1].clone();
    release.write(".asc", gpg.detach(&key, &["--faked-system-time", "20200601T000000!"], &release.stage));
    let doubt = "cannot trust `STAGE`\nthe signature in `STAGE.asc` does not count\n";
    assert_eq!(
        release.refusal(&gpg.keys(&[&key], &[&key])),
        format!("{doubt}signature good, key expired on 2020-12-31 ({subkey})")
    );
    gpg.run(&["--no-batch", "--command-fd", "0", "--edit-key", &key, "key 1", "revkey", "save"], b"y\n1\n\ny\n");
    let words = release.refusal(&gpg.keys(&[&key], &[&key]));
    assert!(words.starts_with(&format!("{doubt}signature good, but its key {subkey} was revoked on ")), "{words}");
    assert!(words.ends_with("(compromised)"), "{words}");
}

#[test]
fn weak_hashes_and_keys_are_refused() {
    let Some(gpg) = TestGpg::new() else { return };
    let release = Release::new(&gpg);
    let doubt = "cannot trust `STAGE`\nthe signature in `STAGE.asc` does not count\n";
    let key = gpg.key("Releng <r@x>", "rsa2048", "sign", "1y");
    let trusted = gpg.keys(&[&key], &[&key]);
    for hash in ["SHA1", "RIPEMD160"] {
        release.write(".asc", gpg.detach(&key, &["--digest-algo", hash, "--allow-weak-digest-algos"], &release.stage));
        assert_eq!(release.refusal(&trusted), format!("{doubt}signature by {key} uses {hash}, too weak to rely on"));
    }
    for (algorithm, name) in [("rsa1024", "rsa1024"), ("dsa1024", "dsa1024")] {
        let weak = gpg.key(&format!("Old <{name}@x>"), algorithm, "sign", "1y");
        release.write(".asc", gpg.detach(&weak, &["--digest-algo", "SHA256"], &release.stage));
        assert_eq!(
            release.refusal(&gpg.keys(&[&weak], &[&weak])),
            format!("{doubt}signed by {weak}, a key too weak to rely on ({name})")
        );
    }
}

#[test]
fn keys_for_other_uses_are_refused() {
    let Some(gpg) = TestGpg::new() else { return };
    let release = Release::new(&gpg);
    let key = gpg.key("Releng <r@x>", "ed25519", "sign", "1y");
    release.sign(&key);
    // The same key, its use changed afterwards.
    gpg.run(&["--no-batch", "--command-fd", "0", "--edit-key", &key, "change-usage", "save"], b"s\nq\n");
    assert_eq!(
        release.refusal(&gpg.keys(&[&key], &[&key])),
        format!(
            "cannot trust `STAGE`\nthe signature in `STAGE.asc` does not count\nsigned by {key}, which is not a key for signing data"
        )
    );
}
