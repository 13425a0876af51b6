//! Places without room: the message names the place, and what there is none of.

use std::fs;
use std::process::{Command, Stdio};

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
        assert!(said.ends_with("hint: there is no space left where standard output is written\n"), "{args:?}: {said}");
    }
}

#[test]
fn the_place_is_named_and_a_limit_on_files_is_no_full_disk() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    let elsewhere = tempfile::tempdir().unwrap();
    let to = elsewhere.path().to_str().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 0; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_gentoomuch"), "init", to]);
    let ran = run(command.env_clear().envs(place.environment()).current_dir(&place.dir).stdin(Stdio::null()));
    let ran = ran.fails(1).says("File too large");
    // Not the data directory.
    let ran = ran.says(&format!("hint: a file on the file system of `{to}"));
    let ran = ran.says("would be larger than allowed: raise the limit (`ulimit -f unlimited`)");
    assert!(!ran.stderr.contains("free some space"), "{ran}");
}
