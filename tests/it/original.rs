//! A directory laid out as the original tool's own example was (tests/it/original/): it passes the check as it is, and builds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::child;
use crate::place::{Place, Ran, copy};
use crate::shared::{Shared, shared};

/// The directory in a place of its own configuration, with the key that signs named as the old tool had it.
fn original(shared: &Shared, name: &str) -> Place {
    let config = shared.place.path(&format!("configs/{name}"));
    if config.exists() {
        fs::remove_dir_all(&config).unwrap();
    }
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/original"), &config);
    fs::write(config.join("env/stage_key"), &shared.key).unwrap();
    let place = shared.place.with_config(config);
    place.run(&["keys", "import", "--trust", "--comment", "testbed", shared.testbed.key.to_str().unwrap()]).ok();
    place
}

fn artifact(built: &str) -> PathBuf {
    let line = built.lines().find_map(|line| line.strip_prefix("artifact")).unwrap();
    line.trim().trim_end_matches("  (unchanged)").into()
}

fn tar(args: &[&str], artifact: &Path) -> String {
    let mut command = Command::new("tar");
    command.args(["--zstd", "-f"]).arg(artifact).args(args);
    String::from_utf8(child::check(&mut command)).unwrap()
}

/// Nothing is wrong; what is of an older layout is named.
#[test]
fn a_directory_of_the_original_tool_is_right_as_it_is() {
    let Some(shared) = shared() else { return };
    let before = original(&shared, "original").run(&["config", "check", "--no-portage"]).ok().text();
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(before) });
}

#[test]
#[ignore = "long: two stages, of which one compiles what the other has not"]
fn a_directory_of_the_original_tool_builds_as_it_is_and_its_stages_share_their_base() {
    let Some(shared) = shared() else { return };
    let place = bootstrapped(&shared, "original-two");
    let first = build(&shared, &place, "example-desktop");
    let second = build(&shared, &place, "example-desktop-amd");
    // Both are on the base that the first one built.
    assert!(first.stderr.contains("* building example-desktop on original\n"), "{first}");
    assert!(!second.stderr.contains("building example-desktop on"), "{second}");
    let parent = |stage4: &str| {
        let show = place.run(&["store", "show", &format!("stage4/{stage4}"), "--json"]).ok().text();
        serde_json::from_str::<serde_json::Value>(&show).unwrap()["parent"].clone()
    };
    assert!(parent("example-desktop").is_string());
    assert_eq!(parent("example-desktop"), parent("example-desktop-amd"));
}

/// The directory and a profile, with stages that can be built here.
fn bootstrapped(shared: &Shared, name: &str) -> Place {
    let place = original(shared, name);
    let check = |args: &[&str]| place.run(&[&["config", "check"], args].concat()).ok().text();
    let before = check(&["--no-portage"]);
    place.run(&["bootstrap", "original", shared.testbed.stage3.to_str().unwrap(), "--no-rebuild"]).ok();
    // Kernels have tests of their own, and these sources nobody has here.
    for stage in ["example-desktop", "example-desktop-amd"] {
        fs::remove_file(place.config.join("stage4.defines").join(stage).join("kconf")).unwrap();
    }
    // Portage, too, has nothing to say about it.
    assert_eq!(check(&[]), before);

    // In a place that stays, the base of the last run would do. The world of the stage3 is no part of the directory.
    let own = place.config.join("hooks/prepare.d/90-own.sh");
    fs::create_dir_all(own.parent().unwrap()).unwrap();
    fs::write(own, format!("#!/bin/sh\n# {name} {}\n: >/var/lib/portage/world\n", std::process::id())).unwrap();
    place
}

/// Builds a stage and looks into its archive.
fn build(shared: &Shared, place: &Place, stage: &str) -> Ran {
    let built = place.run(&["stage", "build", stage, "--format", "tar.zst"]).ok();
    assert!(built.text().contains(&format!("signed    {}\n", shared.key)), "{built}");
    let artifact = artifact(&built.text());
    let stamp = tar(&["-xO", "./etc/stamp"], &artifact);
    // The patch was applied, the script has run, nested fragments and sets were read.
    assert!(stamp.starts_with("< ") && stamp.contains("\nhello\n") && stamp.contains("\ntree\n"), "{stamp}");
    assert_eq!(stamp.contains("\nlz4\n"), stage.ends_with("-amd"), "{stamp}");
    let entries = tar(&["-t"], &artifact);
    for (path, there) in [
        ("./etc/portage/make.conf/50-gentoomuch.conf\n", true),
        ("./etc/portage/env/one-job.conf\n", true),
        ("./etc/portage/bashrc\n", true),
        ("./etc/portage/lite/", false),
        ("./usr/share/doc/", false),
        ("./usr/share/man/", false),
    ] {
        assert_eq!(entries.contains(path), there, "{path}");
    }
    built
}
