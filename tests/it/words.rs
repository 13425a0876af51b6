//! Errors: their exit codes, their words, and what to do.

use std::fs;

use crate::tiny::tiny;

#[test]
fn no_configuration() {
    let Some(tiny) = tiny() else { return };
    let none = tiny.place.with_config(tiny.place.path("none"));
    let stage3 = tiny.stage3.to_str().unwrap();
    none.run(&["bootstrap", "x", stage3]).fails(3).says("/none`").says("hint: choose one with `--config DIR`");
    none.run(&["stage", "build", "hello"]).fails(3).says("/none`");
}

#[test]
fn errors_in_the_configuration_name_file_and_line() {
    let Some(tiny) = tiny() else { return };
    let tree = tiny.place.path("tree/profiles");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("repo_name"), "gentoo\n").unwrap();
    tiny.place.run(&["sync", "--from", "tree"]).ok();
    let stage3 = tiny.stage3.to_str().unwrap();
    tiny.place.write("config/cpu.defines/generic-amd64/make.conf", "# one\n# two\nCFLAGS=\"-O2\n");
    let ran = tiny.place.run(&["bootstrap", "x", stage3]).fails(3);
    assert!(ran.stderr.contains("cpu.defines/generic-amd64/make.conf:3: "), "{ran}");
    tiny.place.write("config/cpu.defines/generic-amd64/make.conf", "");
    tiny.place.write("config/stage3.defines/gentoomuch/builder/packages", "\n=app-misc/\n");
    let ran = tiny.place.run(&["bootstrap", "x", stage3]).fails(3);
    assert!(ran.stderr.contains("stage3.defines/gentoomuch/builder/packages:2: "), "{ran}");
    // All of that came out before anything was unpacked.
    assert!(!tiny.place.listing().contains("profile/x"), "{}", tiny.place.listing());
}

#[test]
fn no_tree() {
    let Some(tiny) = tiny() else { return };
    let stage3 = tiny.stage3.to_str().unwrap();
    let before = tiny.place.listing();
    tiny.place
        .run(&["bootstrap", "x", stage3])
        .fails(2)
        .says("error: no ebuild tree in the store\n")
        .says("`gentoomuch sync --from");
    assert_eq!(tiny.place.listing(), before);
}

#[test]
fn no_such_profile() {
    let Some(tiny) = tiny() else { return };
    tiny.place.run(&["freshroot", "--", "true"]).fails(125).says("you named no profile, and there is no default profile");
    tiny.place
        .run(&["stage", "build", "hello"])
        .fails(2)
        .says("error: profile `demo` is not bootstrapped\n")
        .says("`gentoomuch bootstrap");
    tiny.place.run(&["bootstrap", "demo", tiny.stage3.to_str().unwrap(), "--no-rebuild"]).ok();
    tiny.place.run(&["profile", "set", "nosuch"]).fails(2).says("`nosuch` is not bootstrapped").says("there are: demo");
    tiny.place.run(&["freshroot", "--profile", "nosuch", "--", "true"]).fails(125).says("`nosuch` is not bootstrapped");
}

#[test]
fn no_such_stage() {
    let Some(tiny) = tiny() else { return };
    tiny.place.run(&["stage", "build", "helo"]).fails(3).says("`helo`").says("hint: did you mean `hello`?");
}

#[test]
fn no_key_to_sign_with_is_found_out_before_anything_is_built() {
    let Some(tiny) = tiny() else { return };
    tiny.place.run(&["bootstrap", "demo", tiny.stage3.to_str().unwrap(), "--no-rebuild"]).ok();
    let before = tiny.place.listing();
    // The place has a keyring without a secret key.
    tiny.place.run(&["stage", "build", "hello"]).fails(7).says("error: cannot sign artifacts\n").says("--no-sign");
    assert_eq!(tiny.place.listing(), before);
}

#[test]
fn flags_that_this_processor_cannot_run_are_refused_before_anything_is_built() {
    let Some(tiny) = tiny() else { return };
    let tree = tiny.place.path("tree/profiles");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("repo_name"), "gentoo\n").unwrap();
    tiny.place.run(&["sync", "--from", "tree"]).ok();
    tiny.place.write("config/stage3.defines/gentoomuch/builder/cpu", "generic-arm64\n");
    let ran = tiny.place.run(&["bootstrap", "x", tiny.stage3.to_str().unwrap()]).fails(3);
    let ran = ran.says("this processor cannot run the programs that `gentoomuch/builder` would build");
    assert!(ran.stderr.contains("armv8-a"), "{ran}");
}

#[test]
fn files_and_places_that_are_not_there() {
    let Some(tiny) = tiny() else { return };
    tiny.place.run(&["store", "ls", "--data", "/proc/nothing"]).fails(1).says("/proc/nothing");
    let other = tiny.place.run(&["bootstrap", "x", "no/such/file.tar.xz", "--no-rebuild"]).fails(2);
    other.says("error: cannot open `").says("no/such/file.tar.xz`").says("No such file or directory");
    tiny.place.run(&["bootstrap", "../x", tiny.stage3.to_str().unwrap()]).fails(2).says("`../x` cannot be used as a name for");
}
