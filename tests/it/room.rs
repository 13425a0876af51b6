//! Places without room: the message names the place, and what there is none of.

use std::fs;
use std::process::{Command, Stdio};

use crate::host;
use crate::place::run;
use crate::tiny::tiny;

#[test]
fn output_that_cannot_be_written_is_told_as_such() {
    let Some(tiny) = tiny() else { return };
    for args in [&["store", "ls"][..], &["keys", "ls", "--json"], &["--help"], &["completions", "bash"]] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = tiny.place.command(args).stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("error: cannot write to standard output\n"), "{args:?}: {said}");
        assert!(said.ends_with("hint: there is no room where standard output goes to\n"), "{args:?}: {said}");
    }
}

#[test]
fn the_place_is_named_and_a_limit_on_files_is_no_full_disk() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    // What does not get small.
    let noise: Vec<u8> = (0..300_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    fs::write(place.path("tiny/usr/bin/noise"), noise).unwrap();
    crate::child::check(
        Command::new("tar").arg("-C").arg(place.path("tiny")).args(["--owner=0", "--group=0", "-cJf"]).arg(&tiny.stage3).arg("."),
    );
    fs::remove_file(crate::gpg::beside(&tiny.stage3, "CONTENTS.gz")).unwrap();
    tiny.sign(&tiny.key, None);
    place.run(&["bootstrap", "--no-rebuild", "small", tiny.stage3.to_str().unwrap()]).ok();

    // Files may have 100 KiB.
    let limited = |args: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -f 200; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_gentoomuch")]).args(args);
        command.env_clear().envs(place.environment()).current_dir(&place.dir).stdin(Stdio::null());
        run(&mut command)
    };
    let mut formats = vec!["tar", "tar.gz", "oci"];
    formats.extend(host::has("mksquashfs").then_some("squashfs"));
    for format in &formats {
        let ran = limited(&["export", "--no-sign", "--format", format, "profile/small/upstream"]).fails(1);
        let ran = ran.says("would be larger than allowed: raise the limit (`ulimit -f unlimited`)");
        assert!(!ran.stderr.contains("free some space"), "{ran}");
    }
    // Not the data directory, but where the file was to be.
    let elsewhere = tempfile::tempdir().unwrap();
    let to = elsewhere.path().to_str().unwrap();
    for format in formats.iter().filter(|format| **format != "oci") {
        let ran = limited(&["export", "--no-sign", "--format", format, "-o", to, "profile/small/upstream"]).fails(1);
        ran.says(&format!("hint: a file on the file system of `{to}` would be larger than allowed"));
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0, "{format}: nothing half-made");
    }
}
