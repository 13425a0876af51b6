//! What cannot be trusted is refused, each case with its own words, and leaves no trace in the store.

use std::fs;
use std::process::Command;

use crate::child;
use crate::gpg::beside;
use crate::place::Ran;
use crate::tiny::{Tiny, sum, tiny};

/// Tries to bootstrap, and holds it against the store as it was before.
fn refused(tiny: &Tiny, profile: &str) -> Ran {
    let before = tiny.place.listing();
    let files = store_files(tiny);
    let ran = tiny.place.run(&["bootstrap", profile, tiny.stage3.to_str().unwrap(), "--no-rebuild"]);
    assert_eq!(tiny.place.listing(), before, "{ran}");
    assert_eq!(store_files(tiny), files, "{ran}");
    let verify = tiny.place.run(&["stage3", "verify", tiny.stage3.to_str().unwrap()]);
    assert_eq!(verify.status.code(), ran.status.code(), "{verify}");
    ran.fails(4).says("error: cannot trust `stage3-amd64-tiny-20260811T083102Z.tar.xz`\n").says("\nhint: ")
}

/// Names and sizes of all that is in the store, locks aside.
fn store_files(tiny: &Tiny) -> String {
    let mut find = Command::new("find");
    find.arg(tiny.place.store()).args(["-path", "*/locks", "-prune", "-o", "-printf", "%p %s %i\\n"]);
    String::from_utf8(child::check(&mut find)).unwrap()
}

fn flip_a_byte(file: &std::path::Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_good_one_is_taken_and_its_signer_recorded() {
    let Some(tiny) = tiny() else { return };
    let args = ["bootstrap", "good", tiny.stage3.to_str().unwrap(), "--no-rebuild"];
    crate::place::run(&mut tiny.place.command_with_umask("077", &args)).ok();
    let show: serde_json::Value =
        serde_json::from_str(&tiny.place.run(&["store", "show", "profile/good/upstream", "--json"]).ok().text()).unwrap();
    assert_eq!(show["origin"]["signer"]["primary"], tiny.key.as_str());
    assert_eq!(show["origin"]["allow_unsigned"], serde_json::Value::Null);
    let sha512 = sum("sha512sum", &tiny.stage3);
    assert_eq!(show["origin"]["sha512"], sha512.split(' ').next().unwrap());
    let mode = fs::metadata(tiny.place.store()).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o700);
}

#[test]
fn a_store_is_closed_to_others_whatever_the_umask() {
    let Some(tiny) = tiny() else { return };
    let args = ["bootstrap", "open", tiny.stage3.to_str().unwrap(), "--no-rebuild"];
    crate::place::run(&mut tiny.place.command_with_umask("000", &args)).ok();
    let mode = fs::metadata(tiny.place.store()).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o700);
}

#[test]
fn a_tampered_tarball_is_refused() {
    let Some(tiny) = tiny() else { return };
    flip_a_byte(&tiny.stage3, 200);
    refused(&tiny, "x").says("its BLAKE2B is not the one in").says("from another mirror");
}

#[test]
fn a_tampered_signature_is_refused() {
    let Some(tiny) = tiny() else { return };
    // A signature of something else, by the right key.
    let other = tiny.place.path("other");
    fs::write(&other, "something else").unwrap();
    tiny.gpg.detach(&tiny.key, &other, None);
    fs::copy(beside(&other, "asc"), beside(&tiny.stage3, "asc")).unwrap();
    refused(&tiny, "x").says(".asc` does not count").says("bad signature: the data is not what").says(&tiny.key);
}

#[test]
fn tampered_digests_are_refused() {
    let Some(tiny) = tiny() else { return };
    let digests = beside(&tiny.stage3, "DIGESTS");
    let text = fs::read_to_string(&digests).unwrap();
    let tampered = text.replacen("\n# SHA512 HASH\n", "\n# SHA512 HASH \n", 1).replacen("# BLAKE2B HASH", "# BLAKE2B hash", 1);
    assert_ne!(text, tampered);
    fs::write(&digests, tampered).unwrap();
    refused(&tiny, "x").says(".DIGESTS` does not count").says("bad signature: the data is not what");
}

#[test]
fn digests_of_another_file_are_refused() {
    let Some(tiny) = tiny() else { return };
    let name = tiny.stage3.file_name().unwrap().to_str().unwrap();
    let text = format!("# SHA512 HASH\n{}  {name}\n", "0".repeat(128));
    tiny.gpg.clear_sign(&tiny.key, &text, &beside(&tiny.stage3, "DIGESTS"), None);
    refused(&tiny, "x").says("its SHA512 is not the one in");
}

#[test]
fn an_unknown_key_is_refused() {
    let Some(tiny) = tiny() else { return };
    let other = tiny.gpg.key("Somebody <else@example.org>", "never");
    tiny.sign(&other, None);
    refused(&tiny, "x")
        .says("which is not a release key this configuration trusts")
        .says(&other)
        .says("`gentoomuch keys import FILE`");
    // Known, but not trusted.
    tiny.gpg.export(&other, &tiny.place.path("other.asc"));
    tiny.place.run(&["keys", "import", "other.asc"]).ok();
    refused(&tiny, "x")
        .says("(Somebody <else@example.org>), which is not a release key")
        .says(&format!("`gentoomuch keys trust {other}`"));
}

#[test]
fn an_expired_key_is_refused_unless_that_is_allowed() {
    let Some(tiny) = tiny() else { return };
    let old = tiny.gpg.expired_key("Old <old@example.org>");
    tiny.sign(&old, Some("20200101T000100"));
    tiny.gpg.export(&old, &tiny.place.path("old.asc"));
    tiny.place.run(&["keys", "import", "--trust", "old.asc"]).ok();
    refused(&tiny, "x").says("signature good, key expired on 2020-01-02").says("`--allow-expired`");
    let args = ["bootstrap", "x", tiny.stage3.to_str().unwrap(), "--no-rebuild", "--allow-expired"];
    tiny.place.run(&args).ok().says("key expired on 2020-01-02");
}

#[test]
fn a_truncated_file_is_refused() {
    let Some(tiny) = tiny() else { return };
    let bytes = fs::read(&tiny.stage3).unwrap();
    fs::write(&tiny.stage3, &bytes[..bytes.len() - 100]).unwrap();
    refused(&tiny, "x").says("it looks truncated").says("download it again");
}

#[test]
fn a_missing_signature_is_refused_unless_a_reason_is_given_which_stays() {
    let Some(tiny) = tiny() else { return };
    for suffix in ["asc", "DIGESTS", "sha256"] {
        fs::remove_file(beside(&tiny.stage3, suffix)).unwrap();
    }
    refused(&tiny, "x").says("no signature found beside it");
    let stage3 = tiny.stage3.to_str().unwrap();
    tiny.place.run(&["bootstrap", "x", stage3, "--no-rebuild", "--allow-unsigned", " "]).fails(2).says("needs a reason");
    let reason = "built it myself, honestly";
    tiny.place.run(&["bootstrap", "x", stage3, "--no-rebuild", "--allow-unsigned", reason]).ok().says(reason);
    let show: serde_json::Value =
        serde_json::from_str(&tiny.place.run(&["store", "show", "profile/x/upstream", "--json"]).ok().text()).unwrap();
    assert_eq!(show["origin"]["allow_unsigned"], reason);
    assert_eq!(show["origin"]["signer"], serde_json::Value::Null);
}

#[test]
fn an_unsigned_tree_is_refused() {
    let Some(tiny) = tiny() else { return };
    let tree = tiny.place.path("tree/profiles");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("repo_name"), "gentoo\n").unwrap();
    let archive = tiny.place.path("gentoo-20260811.tar.xz");
    child::check(Command::new("tar").arg("-C").arg(&tiny.place.dir).arg("-cJf").arg(&archive).arg("tree"));
    let sync = || tiny.place.run(&["sync", "--from", archive.to_str().unwrap()]);
    sync().fails(4).says("error: cannot trust `gentoo-20260811.tar.xz`\n");
    tiny.gpg.detach(&tiny.key, &archive, None);
    assert!(sync().ok().text().contains(&tiny.key));
    flip_a_byte(&archive, 100);
    sync().fails(4).says("bad signature");
}
