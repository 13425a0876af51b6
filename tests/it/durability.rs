//! What a command has told is on the disk, whatever happens next.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::child;
use crate::host;
use crate::place::Place;
use crate::shared::shared;
use crate::strace::undurable;
use crate::tiny::tiny;

/// What of all that the command has written was not on the disk when it told of it.
#[track_caller]
fn durable(place: &Place, args: &[&str], all: &mut BTreeSet<String>) {
    let dirs = ["data", "cache", "config", "out", "made"].map(|dir| place.path(dir));
    let (ran, undurable) = undurable(place, args, &dirs.each_ref().map(std::path::PathBuf::as_path));
    ran.ok();
    all.extend(undurable.into_iter().map(|what| format!("{args:?}: {what}")));
}

#[test]
fn what_small_commands_have_told_is_on_the_disk() {
    let Some(tiny) = tiny() else { return };
    if !host::has("strace") {
        return;
    }
    let place = &tiny.place;
    let mut all = BTreeSet::new();
    durable(place, &["init", "made"], &mut all);
    let key = place.path("other.asc");
    tiny.gpg.export(&tiny.gpg.key("Other <other@example.org>", "never"), &key);
    durable(place, &["keys", "import", "--trust", "other.asc"], &mut all);
    durable(place, &["bootstrap", "--no-rebuild", "small", tiny.stage3.to_str().unwrap()], &mut all);
    durable(place, &["bootstrap", "--no-rebuild", "other", tiny.stage3.to_str().unwrap()], &mut all);
    for args in [
        &["profile", "set", "other"][..],
        &["profile", "rename", "other", "third"],
        &["tag", "profile/small", "first"],
        &["store", "seal", "profile/small"],
        &["profile", "rm", "small"],
    ] {
        durable(place, args, &mut all);
    }
    place.write("out/mine", "");
    durable(place, &["cp", "profile/third/upstream:/usr/bin/tool", "out/tool"], &mut all);
    place.write("tree/profiles/repo_name", "gentoo\n");
    durable(place, &["sync", "--from", "tree"], &mut all);
    assert_eq!(all, BTreeSet::new());
}

#[test]
fn what_is_fetched_and_handed_out_is_on_the_disk() {
    let Some(shared) = shared() else { return };
    if !host::has("strace") {
        return;
    }
    let place = &shared.place;
    let mut all = BTreeSet::new();
    let release = shared.testbed.distfiles.parent().unwrap();
    let mut serve = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testbed/serve"));
    let mut server = child::start(serve.arg(release).stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut mirror = String::new();
    BufReader::new(server.child().stdout.take().unwrap()).read_line(&mut mirror).unwrap();
    let cache = place.path("out/cache");
    durable(place, &["stage3", "fetch", "amd64-testbed", "--mirror", mirror.trim(), "--cache", cache.to_str().unwrap()], &mut all);
    assert!(cache.join("stage3/lists.json").exists());
    durable(place, &["binhost", "export", "--profile", "demo", "out/binhost"], &mut all);
    durable(place, &["export", "stage4/hello", "--no-sign", "--format", "tar.zst", "-o", "out/hello.tar.zst"], &mut all);
    fs::remove_dir_all(place.path("out")).unwrap();
    assert_eq!(all, BTreeSet::new());
    drop(server.child().stdin.take());
}
