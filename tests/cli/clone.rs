//! A clone that nobody may write to: as a system's package of sources is, or another user's.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::program::{copy, repository};

/// In place of cargo: "compiles" where cargo would.
const CARGO: &str =
    "#!/bin/sh\nset -e\ndir=${CARGO_TARGET_DIR:-target}/release\nmkdir -p \"$dir\"\ncp \"$PROGRAM\" \"$dir/gentoomuch\"\n";

fn allow(path: &Path, mode: &str) {
    assert!(Command::new("chmod").args(["-R", mode]).arg(path).status().unwrap().success());
}

#[test]
fn a_clone_that_cannot_be_written_to_is_installed_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (clone, bin, out) = (dir.path().join("a clone"), dir.path().join("bin"), dir.path().join("out"));
    for name in ["scripts", "config", "rootfs-hooks"] {
        copy(&repository().join(name), &clone.join(name));
    }
    fs::copy(repository().join("Makefile"), clone.join("Makefile")).unwrap();
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("cargo"), CARGO).unwrap();
    fs::set_permissions(bin.join("cargo"), fs::Permissions::from_mode(0o755)).unwrap();
    allow(&clone, "a-w");
    let mut make = Command::new("make");
    make.args(["-C"]).arg(&clone).arg("install").env_clear().env("HOME", dir.path().join("home"));
    make.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display())).env("PROGRAM", env!("CARGO_BIN_EXE_gentoomuch"));
    let output = make.env("DESTDIR", &out).env("PREFIX", "/usr").output().unwrap();
    allow(&clone, "u+w");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!clone.join("target").exists());
    for file in
        ["bin/gentoomuch", "share/man/man1/gentoomuch.1", "share/man/man5/gentoomuch-config.5", "share/gentoomuch/config/README.md"]
    {
        assert!(out.join("usr").join(file).is_file(), "{file}");
    }
    let built: Vec<_> = fs::read_dir(dir.path().join("home/.cache/gentoomuch-target")).unwrap().collect();
    assert_eq!(built.len(), 1, "each clone has its own");
}

/// The demo begins with the same lines, and calls cargo in the same way.
#[test]
fn the_demo_runs_what_it_compiled() {
    let demo = fs::read_to_string(repository().join("scripts/demo")).unwrap();
    let begin = demo.find(". \"$(dirname -- \"${BASH_SOURCE[0]}\")/environment.sh\"").unwrap();
    let compile = demo.find("cargo build --release").unwrap();
    let path = demo.find("PATH=$(realpath \"${CARGO_TARGET_DIR:-target}\")/release:$PATH").unwrap();
    assert!(begin < compile && compile < path);
}
