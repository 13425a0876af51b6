//! The testbed's release fetched from its mirror, and builds without one.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::child;
use crate::place::Ran;
use crate::shared::shared;

#[test]
fn the_testbeds_stage3_comes_from_its_mirror() {
    let Some(shared) = shared() else { return };
    let place = &shared.place;
    let release = shared.testbed.distfiles.parent().unwrap();
    let mut serve = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testbed/serve"));
    let mut server = child::start(serve.arg(release).stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut mirror = String::new();
    BufReader::new(server.child().stdout.take().unwrap()).read_line(&mut mirror).unwrap();

    let cache = place.path("fetched");
    let run = |args: &[&str]| place.run(&[args, &["--mirror", mirror.trim(), "--cache", cache.to_str().unwrap()]].concat()).ok();
    let name = shared.testbed.stage3.file_name().unwrap().to_str().unwrap();
    assert!(run(&["stage3", "ls", "amd64"]).text().contains("\namd64-testbed  "));
    assert!(run(&["stage3", "ls", "amd64", "--json"]).text().contains("\"amd64-testbed\""));
    let path = cache.join("stage3").join(name);
    assert_eq!(run(&["stage3", "fetch", "amd64-testbed"]).text(), format!("{}\n", path.display()));
    assert!(fs::read(&path).unwrap() == fs::read(&shared.testbed.stage3).unwrap());
    place.run(&["stage3", "verify", path.to_str().unwrap()]).ok();
    fs::remove_dir_all(&cache).unwrap();
    drop(server.child().stdin.take());
}

#[test]
fn offline_a_build_says_which_source_is_missing() {
    let Some(shared) = shared() else { return };
    let place = shared.place.with_config(shared.config("offline"));
    let dir = place.config.join("stage4.defines/offline");
    fs::create_dir_all(&dir).unwrap();
    let files = [("profile", "demo\n"), ("stage3", "plain\n"), ("packages", "app-misc/broken\n"), ("scripts", "offline\n")];
    for (file, text) in files {
        fs::write(dir.join(file), text).unwrap();
    }
    // In a place that stays, the last run's session would go on behind the fetching.
    fs::write(place.config.join("user.scripts/offline"), format!("#!/bin/sh\n# {}\n", std::process::id())).unwrap();
    let cache = place.path("offline");
    drop(fs::remove_file(cache.join("distfiles/broken-1.0.tar.xz")));
    let build = || -> Ran {
        let args = ["stage", "build", "offline", "--no-sign", "--offline", "--cache", cache.to_str().unwrap()];
        place.run(&args).fails(6)
    };
    let ran = build().says("cannot fetch `broken-1.0.tar.xz` for `app-misc/broken-1.0`, and downloads are switched off");
    ran.says("hint: repeat the command without `--offline`");
    // With it there, the build itself begins; this package is one that does not compile.
    fs::copy(shared.testbed.distfiles.join("broken-1.0.tar.xz"), cache.join("distfiles/broken-1.0.tar.xz")).unwrap();
    build().says("compile");
}
