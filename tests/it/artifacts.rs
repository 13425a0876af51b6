//! Artifacts: what is published under one name belongs together, and nothing published is replaced by something else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::child;
use crate::gpg::beside;
use crate::host;
use crate::place::{Ran, run};
use crate::tiny::{Tiny, tiny};

/// A place with a profile `small`, whose upstream state is tagged `first`.
fn with_state() -> Option<Tiny> {
    let tiny = tiny()?;
    tiny.place.run(&["bootstrap", "--no-rebuild", "small", tiny.stage3.to_str().unwrap()]).ok();
    tiny.place.run(&["tag", "profile/small/upstream", "first"]).ok();
    Some(tiny)
}

impl Tiny {
    /// `export` with a key that can sign.
    fn signing(&self, args: &[&str]) -> Ran {
        run(self.place.command(&[&["export"], args].concat()).env("GNUPGHOME", &self.gpg.home))
    }

    fn export(&self, args: &[&str]) -> Ran {
        self.place.run(&[&["export", "--no-sign"], args].concat())
    }
}

/// The names in a directory, sorted.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn artifact(ran: Ran) -> (PathBuf, bool) {
    let ran = ran.ok();
    let is_reused = ran.text().contains("(unchanged)");
    (ran.value("artifact").trim_end_matches("  (unchanged)").into(), is_reused)
}

#[test]
fn what_an_unsigned_artifact_replaces_leaves_no_signature_behind() {
    let Some(tiny) = with_state() else { return };
    for format in ["tar.gz", "oci"] {
        let (signed, _) = artifact(tiny.signing(&["first", "--format", format]));
        assert!(beside(&signed, "asc").exists());
        let bytes = child::check(
            Command::new("tar").args(["-C"]).arg(signed.parent().unwrap()).arg("-cf-").arg(signed.file_name().unwrap()),
        );
        let (plain, is_reused) = artifact(tiny.export(&["first", "--format", format]));
        assert_eq!((&plain, is_reused), (&signed, false), "{format}");
        assert!(!beside(&signed, "asc").exists(), "{format}");
        for list in ["DIGESTS", "sha256"] {
            assert!(!fs::read_to_string(beside(&signed, list)).unwrap().contains("SIGNATURE"), "{format} {list}");
        }
        let after = child::check(
            Command::new("tar").args(["-C"]).arg(signed.parent().unwrap()).arg("-cf-").arg(signed.file_name().unwrap()),
        );
        assert!(bytes == after, "what was signed stays as it is, its times included: {format}");
        // And back.
        assert!(!artifact(tiny.signing(&["first", "--format", format])).1);
        assert!(beside(&signed, "asc").exists());
        assert!(artifact(tiny.signing(&["first", "--format", format])).1, "{format}");
    }
}

#[test]
fn a_file_that_is_not_what_was_made_is_made_again() {
    let Some(tiny) = with_state() else { return };
    let mut formats = vec!["tar.xz", "oci"];
    formats.extend(host::has("mksquashfs").then_some("squashfs"));
    for format in formats {
        let (path, _) = artifact(tiny.signing(&["first", "--format", format]));
        let all = files_of(&path);
        for file in &all {
            let mut wrong = fs::read(file).unwrap();
            if file.extension().is_some_and(|ending| ending == "json") {
                wrong.truncate(wrong.len() / 2);
            } else {
                // As long as before: sizes tell nothing.
                let middle = wrong.len() / 2;
                wrong[middle] ^= 1;
            }
            fs::remove_file(file).unwrap();
            fs::write(file, &wrong).unwrap();
            let (again, is_reused) = artifact(tiny.signing(&["first", "--format", format]));
            assert_eq!((&again, is_reused), (&path, false), "{}", file.display());
            assert!(fs::read(file).unwrap() != wrong, "{}", file.display());
            fs::remove_file(file).unwrap();
            assert!(!artifact(tiny.signing(&["first", "--format", format])).1, "{} is missing", file.display());
        }
        assert!(artifact(tiny.signing(&["first", "--format", format])).1);
        assert_eq!(files_of(&path).len(), all.len());
    }
}

/// All files of an artifact.
fn files_of(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let mut found = Vec::new();
    let mut waiting = vec![path.parent().unwrap().to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                waiting.push(entry);
            } else if entry.to_str().unwrap().contains(name) {
                found.push(entry);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn each_state_has_files_of_its_own() {
    let Some(tiny) = with_state() else { return };
    let place = &tiny.place;
    // Another stage3 of the same day.
    fs::write(place.path("tiny/usr/bin/tool"), "#!/bin/sh\nexit 1\n").unwrap();
    let root = place.path("tiny");
    child::check(Command::new("tar").arg("-C").arg(&root).args(["--owner=0", "--group=0", "-cJf"]).arg(&tiny.stage3).arg("."));
    fs::remove_file(beside(&tiny.stage3, "CONTENTS.gz")).unwrap();
    tiny.sign(&tiny.key, None);
    place.run(&["bootstrap", "--no-rebuild", "other", tiny.stage3.to_str().unwrap()]).ok();

    let (one, _) = artifact(tiny.export(&["first", "--format", "tar.gz"]));
    let bytes = fs::read(&one).unwrap();
    place.run(&["tag", "--force", "profile/other/upstream", "first"]).ok();
    let (other, is_reused) = artifact(tiny.export(&["first", "--format", "tar.gz"]));
    assert!(!is_reused && one != other);
    assert_eq!(fs::read(&one).unwrap(), bytes);
    for path in [&one, &other] {
        let json: Value = serde_json::from_slice(&fs::read(beside(path, "json")).unwrap()).unwrap();
        let id: String = json["state"].as_str().unwrap().chars().take(12).collect();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.ends_with(&format!("Z-{id}.tar.gz")), "{name}");
        assert_eq!(json["name"], name);
    }
    // Nothing of it was made twice, and both are there to be taken.
    place.run(&["rollback", "first"]).ok();
    assert_eq!(artifact(tiny.export(&["first", "--format", "tar.gz"])), (one.clone(), true));

    // It was made when by default other things were left out.
    let metadata = beside(&one, "json");
    let mut made: Value = serde_json::from_slice(&fs::read(&metadata).unwrap()).unwrap();
    made["leaves_out"].as_array_mut().unwrap().pop().unwrap();
    fs::write(&metadata, serde_json::to_vec(&made).unwrap()).unwrap();
    let (anew, is_reused) = artifact(tiny.export(&["first", "--format", "tar.gz"]));
    assert!(!is_reused && anew != one, "{}", anew.display());
    assert_eq!(artifact(tiny.export(&["first", "--format", "tar.gz"])), (anew, true));
    assert_eq!(fs::read(&one).unwrap(), bytes);

    // One state, said to be started in another way: two images.
    let image = |compression| artifact(tiny.export(&["first", "--format", "oci", "--compression", compression])).0;
    let (gzip, zstd) = (image("gzip"), image("zstd"));
    assert_ne!(gzip, zstd);
    assert_eq!((image("gzip"), image("zstd")), (gzip.clone(), zstd));
    assert_eq!(
        names(gzip.parent().unwrap())
            .iter()
            .filter(|name| Path::new(name).extension().is_some_and(|ending| ending == "oci"))
            .count(),
        2
    );
}

#[test]
fn a_name_that_no_artifact_has_is_refused_and_a_result_says_what_it_is() {
    let Some(tiny) = with_state() else { return };
    let place = &tiny.place;
    for name in ["out.qcow2", "out.iso", "out.tar.bz2", "out.img", "out.tgz"] {
        tiny.export(&["first", "-o", name]).fails(2).says("cannot be the name of an artifact").says(
            "hint: artifacts end in \
            .tar.xz",
        );
        assert!(!place.path(name).exists(), "{name}");
    }
    let other = tiny.export(&["first", "--format", "tar.zst", "-o", "out.squashfs"]).fails(2);
    other.says("out.squashfs` does not fit the format `tar.zst` that you asked for");
    tiny.export(&["first", "--format", "tar", "-o", "oci-archive:out.tar"]).fails(2).says("the format `tar` that you asked for");

    let listed = |name: &str| {
        let listed = child::check(Command::new("tar").arg("-tf").arg(place.path(name)));
        String::from_utf8(listed).unwrap()
    };
    for (to, name, form, member) in [
        ("plain.tar", "plain.tar", "tar", "./usr/bin/tool"),
        ("named.tar.zst", "named.tar.zst", "tar.zst", "./usr/bin/tool"),
        ("oci-archive:image.img", "image.img", "oci-archive", "oci-layout"),
        ("oci-archive:image.tar", "image.tar", "oci-archive", "oci-layout"),
    ] {
        let ran = tiny.export(&["first", "-o", to]).ok();
        assert_eq!(ran.value("format"), form, "{to}");
        assert!(listed(name).contains(member), "{to}: {}", listed(name));
        assert!(tiny.export(&["first", "-o", to]).ok().text().contains("(unchanged)"), "{to}");
    }
    assert_eq!(&fs::read(place.path("plain.tar")).unwrap()[257..262], b"ustar", "not compressed");
    let ran = tiny.export(&["first", "--format", "oci", "-o", "asked.tar"]).ok();
    assert_eq!(ran.value("format"), "oci-archive");
    let (signed, _) = artifact(tiny.signing(&["first", "--format", "tar"]));
    place.run(&["stage3", "verify", signed.to_str().unwrap()]).ok();
    let json = tiny.export(&["first", "--format", "tar", "--json"]).ok().text();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["artifact"]["format"], "tar");
}

#[test]
fn an_export_that_was_killed_can_be_repeated() {
    let Some(tiny) = with_state() else { return };
    let place = &tiny.place;
    let whole = tiny.export(&["first", "-o", "out.tar.gz"]).ok();
    assert_eq!(whole.value("format"), "tar.gz");
    let all = ["", ".CONTENTS.gz", ".DIGESTS", ".sha256"].map(|suffix| format!("out.tar.gz{suffix}"));
    let bytes = all.clone().map(|name| fs::read(place.path(&name)).unwrap());
    // As it is after a kill between the last file and the metadata.
    fs::create_dir(place.path(".out.tar.gz.new")).unwrap();
    fs::rename(place.path("out.tar.gz.json"), place.path(".out.tar.gz.new/out.tar.gz.json")).unwrap();
    assert!(!artifact(tiny.export(&["first", "-o", "out.tar.gz"])).1);
    assert!(bytes == all.map(|name| fs::read(place.path(&name)).unwrap()));
    assert!(!place.path(".out.tar.gz.new").exists());
    // The same one step later: the directory is gone, the metadata wait for their name.
    fs::rename(place.path("out.tar.gz.json"), place.path(".out.tar.gz.json.new")).unwrap();
    assert!(!artifact(tiny.export(&["first", "-o", "out.tar.gz"])).1);
    assert!(!place.path(".out.tar.gz.json.new").exists() && place.path("out.tar.gz.json").exists());
    // Killed before it has taken the name from metadata that stand: their files are theirs.
    fs::create_dir(place.path(".out.tar.gz.new")).unwrap();
    fs::copy(place.path("out.tar.gz.json"), place.path(".out.tar.gz.new/out.tar.gz.json")).unwrap();
    assert!(artifact(tiny.export(&["first", "-o", "out.tar.gz"])).1, "it stands");
    assert!(!place.path(".out.tar.gz.new").exists());
    // What is not what that export made is the user's.
    fs::create_dir(place.path(".out.tar.gz.new")).unwrap();
    fs::rename(place.path("out.tar.gz.json"), place.path(".out.tar.gz.new/out.tar.gz.json")).unwrap();
    fs::write(place.path("out.tar.gz"), "mine").unwrap();
    tiny.export(&["first", "-o", "out.tar.gz"]).fails(2).says("out.tar.gz` already exists");
    assert_eq!(fs::read_to_string(place.path("out.tar.gz")).unwrap(), "mine");
}
