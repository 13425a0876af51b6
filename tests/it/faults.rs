//! What is in the way at the start: arguments, descriptors, signals and limits of a caller who is careless.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use crate::place::{Place, Ran, run};
use crate::tiny::{Tiny, tiny};

/// A place with the profile `demo`, in whose sessions nothing can be run but what the host shows them.
fn demo() -> Option<Tiny> {
    let tiny = tiny()?;
    fs::create_dir(tiny.place.path("tiny/root")).unwrap();
    tiny.another("demo", "x");
    Some(tiny)
}

/// A shell that does `before`, then becomes the program with `args`.
fn after(place: &Place, before: &str, args: &[&str]) -> Ran {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{before}\nexec \"$@\""), "sh", env!("CARGO_BIN_EXE_gentoomuch")]).args(args);
    command.env_clear().envs(place.environment()).current_dir(&place.dir).stdin(std::process::Stdio::null());
    run(&mut command)
}

/// What no session of that place can run, and says so.
const NOTHING: [&str; 3] = ["freshroot", "--", "/etc/passwd"];

#[test]
fn an_argument_may_be_of_any_bytes() {
    let Some(tiny) = demo() else { return };
    let odd = tiny.place.path("").join(OsStr::from_bytes(b"q\xff"));
    fs::create_dir_all(&odd).unwrap();
    let stage3 = odd.join(tiny.stage3.file_name().unwrap());
    for entry in fs::read_dir(tiny.stage3.parent().unwrap()).unwrap().flatten() {
        fs::copy(entry.path(), odd.join(entry.file_name())).unwrap();
    }
    let args = |words: &[&OsStr]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<OsString>>();
    let os = OsStr::new;
    tiny.place.run(&args(&[os("stage3"), os("verify"), stage3.as_os_str()])).ok();
    tiny.place.run(&args(&[os("bootstrap"), os("--no-rebuild"), os("odd"), stage3.as_os_str()])).ok();
    tiny.place.run(&args(&[os("cp"), os("profile/demo/upstream:/etc/passwd"), odd.join("passwd").as_os_str()])).ok();
    assert!(odd.join("passwd").is_file());
    // What is kept there could not be removed, and what is read there could not be named in JSON.
    for place in ["--config", "--data", "--cache"] {
        let dir = odd.join("there");
        let refused = tiny.place.run(&args(&[os("store"), os("ls"), os(place), dir.as_os_str()])).fails(2);
        refused
            .says("error: gentoomuch cannot keep its files there\n")
            .says("is not UTF-8\n")
            .says("hint: choose places with names");
        assert!(!dir.exists());
    }
}

#[test]
fn a_caller_who_ignores_signals_changes_nothing() {
    let Some(tiny) = demo() else { return };
    for ignored in ["CHLD", "CHLD,PIPE,INT,TERM"] {
        after(&tiny.place, &format!("set -- env --ignore-signal={ignored} \"$@\""), &NOTHING).fails(126);
    }
}

#[test]
fn whatever_fails_around_a_command_is_told_from_it() {
    let Some(tiny) = demo() else { return };
    let place = &tiny.place;
    for command in [&["freshroot", "--", "true"][..], &["shell", "profile/demo", "--", "true"]] {
        after(place, "mkdir gone && cd gone && rmdir ../gone", command).fails(125).says("cannot find the current directory");
        after(place, "exec </", command).fails(125).says("standard input is a directory");
        let elsewhere = [&["--data", "/proc/self"], command].concat();
        place.run(&elsewhere).fails(125).says("gentoomuch cannot keep its files there");
    }
    // Not where no command is run.
    after(place, "exec </", &["freshroot", "--print-plan"]).fails(2);
    after(place, "exec </", &["store", "ls"]).fails(2);
}

#[test]
fn a_session_that_was_not_made_leaves_no_logs() {
    let Some(tiny) = demo() else { return };
    let logs = || fs::read_dir(tiny.place.path("data/logs")).map_or(0, Iterator::count);
    let before = logs();
    tiny.place.run(&NOTHING).fails(126);
    tiny.place.run(&["freshroot", "--", "no-such-command"]).fails(127);
    tiny.place.run(&["shell", "profile/demo", "--", "no-such-command"]).fails(127);
    tiny.place.run(&["freshroot", "--timeout", "1s", "--", "/etc/passwd"]);
    let many = ["freshroot", "--pids", "18446744073709551615", "--", "/etc/passwd"];
    tiny.place.run(&many).fails(2).says("is more than the 4194304 processes and threads that Linux can have");
    tiny.place.run(&["freshroot", "--pids", "4194304", "--", "/etc/passwd"]).fails(126);
    assert_eq!(logs(), before);
}

#[test]
fn a_full_output_is_not_a_full_disk() {
    let Some(tiny) = demo() else { return };
    for args in [&["store", "ls"][..], &["store", "ls", "--json"], &["cp", "profile/demo/upstream:/etc/passwd", "-"]] {
        let ran = after(&tiny.place, "exec >/dev/full", args).fails(1);
        let ran = ran.says("error: cannot write to standard output\ncaused by: ").says("No space left on device");
        let ran = ran.says("hint: there is no space left where standard output is written\n");
        assert!(!ran.stderr.contains("on the file system of"), "{ran}");
    }
}

#[test]
fn a_file_that_may_not_grow_is_an_error_with_words() {
    let Some(tiny) = demo() else { return };
    let ran = after(&tiny.place, "ulimit -f 1", &["cp", "profile/demo/upstream:/usr/bin/tool", "tool"]);
    ran.fails(1).says("File too large").says("`ulimit -f unlimited`");
    let ran = after(&tiny.place, "ulimit -f 0", &["freshroot", "--", "/etc/passwd"]);
    ran.fails(125).says("File too large").says("`ulimit -f unlimited`");
    // A session of which not even the record could be written is litter for the next command.
    tiny.place.run(&["store", "ls"]).ok();
}

#[test]
fn a_chain_as_long_as_linux_stacks_is_opened_and_not_made_longer() {
    let Some(tiny) = demo() else { return };
    tiny.keep("long", "profile/demo/upstream", 499);
    tiny.place.run(&["freshroot", "--from", "long", "--", "/etc/passwd"]).fails(126);
    tiny.place.run(&["cp", "kept/long:/etc/long", "-"]).ok();
    let ran = tiny.place.run(&["freshroot", "--from", "long", "--keep", "longer", "--", "/etc/passwd"]).fails(125);
    ran.says("has 500 layers, and Linux stacks at most 500\nhint: start from an earlier state");
}

#[test]
fn damaged_files_of_the_store_hide_nothing_else() {
    let Some(tiny) = demo() else { return };
    let place = &tiny.place;
    tiny.another("other", "y");
    tiny.another("third", "z");
    place.run(&["profile", "rm", "third"]).ok();
    let third = || place.run(&["store", "ls", "--json"]).text().matches("\"key\"").count();
    assert_eq!(third(), 3);
    place.run(&["store", "ls"]).ok();
    let damaged = place.store().join("refs/profile/demo/upstream.ref");
    let before = fs::read(&damaged).unwrap();
    fs::write(&damaged, "?\n").unwrap();
    let warning = format!("`{}` is damaged", damaged.display());
    let ran = place.run(&["store", "ls"]).fails(4).says(&warning);
    let ran = ran.says("error: 1 file of the store cannot be read, and what it describes is not listed");
    assert!(ran.text().contains("profile/other/upstream") && !ran.text().contains("profile/demo"), "{ran}");
    place.run(&["log"]).fails(4).says(&warning);
    let ran = place.run(&["log", "profile/other"]).ok().says(&warning);
    assert!(ran.text().contains("profile/other/upstream"), "{ran}");
    place.run(&["log", "profile/demo"]).fails(1).says(&warning);
    place.run(&["profile", "ls"]).ok();
    assert!(place.run(&["store", "verify"]).fails(4).text().contains("is not an id and a time"));
    // Nobody knows which of the states the name means, so all of them stay.
    let ran = place.run(&["clean", "--yes"]).ok().says(&warning);
    assert!(ran.text().contains("is needed, but missing or damaged: all states, layers and trees stay"), "{ran}");
    assert_eq!(third(), 3);
    fs::write(&damaged, before).unwrap();
    place.run(&["store", "verify"]).ok();
    place.run(&["clean", "--yes"]).ok();
    assert_eq!(third(), 2);
}

/// How many processes and threads this user has.
fn tasks_of_ours() -> usize {
    use std::os::unix::fs::MetadataExt as _;
    let me = nix::unistd::getuid().as_raw();
    let processes = fs::read_dir("/proc").unwrap().flatten().filter(|entry| entry.metadata().is_ok_and(|meta| meta.uid() == me));
    processes.map(|process| fs::read_dir(process.path().join("task")).map_or(0, Iterator::count)).sum()
}

#[test]
fn sandboxes_that_get_no_thread_say_so() {
    let Some(tiny) = demo() else { return };
    let stage3 = tiny.stage3.to_str().unwrap().to_owned();
    let out = tiny.place.path("out.tar.gz").to_str().unwrap().to_owned();
    let state = "profile/demo/upstream";
    for args in [
        &["bootstrap", "--no-rebuild", "late", &stage3][..],
        &["export", "--no-sign", "-o", &out, state],
        &["store", "seal"],
        &["store", "verify", "--deep"],
        &["diff", state, state],
        &["cp", &format!("{state}:/etc/passwd"), "-"],
        &NOTHING,
        &["clean", "--dry-run"],
    ] {
        for more in (1..16).step_by(2) {
            let limited = format!("set -- prlimit --nproc={} \"$@\"", tasks_of_ours() + more);
            let ran = after(&tiny.place, &limited, args);
            assert!(ran.status.code().is_some_and(|code| code != 70), "{more}: {ran}");
            assert!(!ran.stderr.contains("panicked"), "{more}: {ran}");
            if ran.stderr.contains("os error 11") {
                ran.says("`ulimit -u`");
            }
        }
        tiny.place.run(&["store", "verify"]).ok();
        let _ = fs::remove_file(&out);
    }
}

/// Runs the program in a user namespace of its own, whose user may have so many processes and threads.
fn with_threads(place: &Place, limit: u32, args: &[&str]) -> Ran {
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-current-user", "prlimit", &format!("--nproc={limit}"), env!("CARGO_BIN_EXE_gentoomuch")])
        .args(args);
    command.env_clear().envs(place.environment()).current_dir(&place.dir).stdin(std::process::Stdio::null());
    run(&mut command)
}

#[test]
fn threads_that_cannot_be_started_are_no_bug() {
    let Some(tiny) = demo() else { return };
    let stage3 = tiny.stage3.to_str().unwrap();
    for args in
        [&["config", "check", "--no-portage"][..], &["stage3", "verify", stage3], &["store", "ls"], &["pipeline", "--dry-run"]]
    {
        for limit in 1..8 {
            let ran = with_threads(&tiny.place, limit, args);
            assert!(ran.status.code().is_some_and(|code| code != 70), "{limit}: {ran}");
            assert!(!ran.stderr.contains("panicked"), "{limit}: {ran}");
            if ran.stderr.contains("os error 11") {
                ran.says(": cannot start ").says("`ulimit -u`");
            }
        }
    }
}
