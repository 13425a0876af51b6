//! Work by hand where a build failed: what a user finds there, what becomes of it, and what does not.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::child;
use crate::place::{Place, Ran, packages_below};
use crate::shared::{User, shared};
use crate::terminal::Terminal;

/// A stage with a package that does not compile, in a configuration of one test's own.
fn failing(name: &str) -> Option<(User, Place)> {
    let shared = shared()?;
    let place = shared.place.with_config(shared.config(name));
    let dir = place.config.join("stage4.defines").join(name);
    fs::create_dir_all(&dir).unwrap();
    for (file, text) in [("profile", "demo"), ("stage3", "plain"), ("packages", "app-misc/broken")] {
        fs::write(dir.join(file), format!("{text}\n")).unwrap();
    }
    Some((shared, place))
}

fn build(place: &Place, name: &str) -> Ran {
    place.run(&["stage", "build", name, "--no-export"])
}

/// `shell --failed NAME`, then these words.
fn failed(place: &Place, name: &str, words: &[&str]) -> Ran {
    place.run(&[&["shell", "--failed", name], words].concat())
}

/// A script in the build directory.
fn does(place: &Place, name: &str, script: &str) -> Ran {
    failed(place, name, &["--", "sh", "-c", script])
}

/// The session for work by hand on that of `stage4/NAME`.
fn session_by_hand(place: &Place, name: &str) -> Option<serde_json::Value> {
    place.session_of(&format!("by-hand:stage4/{name}"))
}

/// Files below the pools of binary packages that have the package's name.
fn published(place: &Place) -> Vec<String> {
    packages_below(&place.path("cache/binpkgs"), "broken").iter().map(|path| path.display().to_string()).collect()
}

/// Who publishes one, or looks whether somebody has, is alone.
fn alone(place: &Place) -> fs::File {
    let lock = fs::File::create(place.path("broken.lock")).unwrap();
    lock.lock().unwrap();
    lock
}

const MEND: &str = "sed -i s/undeclared_on_purpose/42/ broken.c";

#[test]
fn what_is_done_by_hand_where_a_build_failed_reaches_no_pool_and_no_state() {
    let Some((_shared, place)) = failing("by-hand") else { return };
    // What is left of the package was in memory.
    fs::write(place.config.join("env/tmpfs"), "64M\n").unwrap();
    let ran = failed(&place, "by-hand-nothing", &["--", "true"]);
    assert_eq!(ran.status.code(), Some(125), "{ran}");
    ran.says("no failed build of `by-hand-nothing` is kept");
    let lock = alone(&place);
    let before = published(&place);
    build(&place, "by-hand").fails(6).says("`gentoomuch shell --failed by-hand`");
    assert!(session_by_hand(&place, "by-hand").is_none(), "of an earlier run");
    failed(&place, "by-hand", &["--save-patch", "mend"]).fails(125).says("no file of the source was changed by hand");

    // The place, the user and the environment of the phase.
    let found = does(&place, "by-hand", "id -un; pwd; echo $P $EBUILD_PHASE $CHOST; ls; exit 7").fails(7);
    let source = "/var/tmp/portage/app-misc/broken-1.0/work/broken-1.0";
    assert_eq!(found.text(), format!("portage\n{source}\nbroken-1.0 compile x86_64-pc-linux-gnu\nMakefile\nbroken.c\n"));
    assert_eq!(failed(&place, "by-hand", &["--as-root", "--", "id", "-un"]).ok().text(), "root\n");
    // Functions of Portage and of the ebuild.
    failed(&place, "by-hand", &["--", "src_compile"]).fails(1).says("undeclared_on_purpose").says("emake failed");

    // A program that says 13, and files all over the root, are what a hand leaves.
    does(&place, "by-hand", "sed -i s/undeclared_on_purpose/13/ broken.c && emake CC=gcc && ./broken").ok();
    let again = failed(&place, "by-hand", &["--again"]).ok();
    again.says("the compile phase of app-misc/broken-1.0 succeeds now, by hand");
    let script = "echo 13 >/etc/by-hand && ebuild \"$EBUILD\" package && ls /var/cache/binpkgs/app-misc/broken";
    let packed = failed(&place, "by-hand", &["--as-root", "--", "sh", "-c", script]).ok();
    assert!(packed.text().contains("broken-1.0-1.gpkg.tar"), "{packed}");
    assert_eq!(published(&place), before);
    drop(lock);
    let session = session_by_hand(&place, "by-hand").unwrap();
    assert_eq!(session["by_hand"], place.session_of("stage4/by-hand").unwrap()["id"], "{session}");
    assert_eq!(session["status"]["is"], "suspended", "{session}");

    // Started anew it fails as it did: nothing of all that is there any more.
    let ran = build(&place, "by-hand").fails(6);
    ran.says("removed what was done by hand").says("error: ‘undeclared_on_purpose’ undeclared");
    assert!(session_by_hand(&place, "by-hand").is_none());
    assert_eq!(does(&place, "by-hand", "ls; cat /etc/by-hand || echo none").ok().text(), "Makefile\nbroken.c\nnone\n");

    // The edits become a patch, and what is built with it is clean.
    does(&place, "by-hand", &format!("{MEND} && emake CC=gcc && echo new >new.h && echo 13 >/tmp/x")).ok();
    let saved = failed(&place, "by-hand", &["--save-patch", "by-hand-mend"]).ok();
    assert_eq!((saved.value("for"), saved.value("changes")), ("~app-misc/broken-1.0".to_owned(), "broken.c  +1 -1".to_owned()));
    let saved = saved.says("has no such files: broken, new.h").says("`gentoomuch stage build by-hand` starts app-misc/broken-1.0");
    let patch = fs::read_to_string(saved.value("file")).unwrap();
    assert!(patch.contains("\n+\tprintf(\"%d\\n\", 42);"), "{patch}");
    build(&place, "by-hand").ok();
    let state = place.run(&["shell", "stage4/by-hand", "--", "sh", "-c", "broken; cat /etc/by-hand || echo none"]).ok();
    assert_eq!(state.text(), "42\nnone\n");
    place.run(&["patch", "rm", "by-hand-mend"]).ok();
    assert!(published(&place).iter().any(|path| path.ends_with(".gpkg.tar")), "what is clean is published");
    place.run(&["store", "verify"]).ok();
}

#[test]
fn a_killed_shell_loses_no_edits_and_makes_nothing_clean() {
    let Some((_shared, place)) = failing("by-hand-killed") else { return };
    build(&place, "by-hand-killed").fails(6);
    let script = format!("{MEND} && echo ready && exec sleep 1000");
    let mut command = place.command(&["shell", "--failed", "by-hand-killed", "--", "sh", "-c", &script]);
    let mut running = child::start(command.stdout(Stdio::piped()).stderr(Stdio::null()));
    let mut line = String::new();
    BufReader::new(running.child().stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    // Another one, and a build, are kept out meanwhile.
    let busy = place.run(&["--no-wait", "shell", "--failed", "by-hand-killed", "--", "true"]);
    assert_eq!(busy.status.code(), Some(125), "{busy}");
    running.child().kill().unwrap();
    running.output();
    assert_eq!(does(&place, "by-hand-killed", "grep -c 42 broken.c").ok().text(), "1\n");
    assert!(session_by_hand(&place, "by-hand-killed").unwrap()["by_hand"].is_string());
    build(&place, "by-hand-killed").fails(6).says("‘undeclared_on_purpose’ undeclared");
}

#[test]
fn what_a_package_leaves_to_be_loaded_stays_in_its_session() {
    let Some((_shared, place)) = failing("by-hand-hostile") else { return };
    build(&place, "by-hand-hostile").fails(6);
    let mark = place.path("home/mark");
    let shared_mark = std::path::PathBuf::from(format!("/tmp/gentoomuch-mark-{}", std::process::id()));
    // What is sourced ends the shell; nothing of it happens outside.
    let hostile = format!(
        "echo 'touch {mark} {shared}; id -un; exit 9' >$T/environment",
        mark = mark.display(),
        shared = shared_mark.display()
    );
    does(&place, "by-hand-hostile", &hostile).ok();
    let ran = failed(&place, "by-hand-hostile", &["--", "echo", "not reached"]).fails(9);
    assert_eq!(ran.text(), "portage\n");
    assert!(!mark.exists() && !shared_mark.exists());
    // A source that leads elsewhere is not followed, and no half of a patch stays.
    let script = "cd .. && rm -rf broken-1.0 && ln -s /etc broken-1.0 && exec true";
    build(&place, "by-hand-hostile").fails(6);
    does(&place, "by-hand-hostile", script).ok();
    failed(&place, "by-hand-hostile", &["--save-patch", "elsewhere"]).fails(125);
    assert!(!place.path("data/patches/elsewhere").exists() && !place.config.join("user.patches/elsewhere").exists());
}

#[test]
fn a_failed_build_asks_at_a_terminal_what_is_next() {
    let Some((_shared, place)) = failing("by-hand-asked") else { return };
    let Some(mut terminal) = Terminal::start(&place, &["stage", "build", "by-hand-asked", "--no-export"]) else { return };
    terminal.sees("[s/t/a/g] ");
    terminal.types("nothing of these\r");
    terminal.types("s\r");
    terminal.sees("broken-1.0 compile ");
    terminal.types(&format!("{MEND} && exit\r"));
    terminal.sees("[s/t/p/a/g] ");
    terminal.types("t\r");
    terminal.sees("succeeds now, by hand");
    let _lock = alone(&place);
    terminal.types("p\r");
    terminal.sees("name of the patch [broken-1.0]: ");
    terminal.types("by-hand-asked\r");
    terminal.sees("broken.c  +1 -1");
    let (code, seen) = terminal.end();
    assert_eq!(code, Some(0), "{seen}");
    assert!(place.config.join("user.patches/by-hand-asked").exists(), "{seen}");
    place.run(&["patch", "rm", "by-hand-asked"]).ok();
    let state = place.run(&["shell", "stage4/by-hand-asked", "--", "broken"]).ok();
    assert_eq!(state.text(), "42\n");
}

#[test]
fn who_gives_up_at_the_terminal_finds_everything_as_it_was() {
    let Some((_shared, place)) = failing("by-hand-given-up") else { return };
    let Some(mut terminal) = Terminal::start(&place, &["stage", "build", "by-hand-given-up", "--no-export"]) else { return };
    terminal.sees("What next?");
    terminal.types("g\r");
    let (code, seen) = terminal.end();
    assert_eq!(code, Some(6), "{seen}");
    assert_eq!(place.session_of("stage4/by-hand-given-up").unwrap()["status"]["is"], "suspended");
    // From the shell it goes on, too.
    let Some(mut terminal) = Terminal::start(&place, &["shell", "--failed", "by-hand-given-up"]) else { return };
    terminal.sees("broken-1.0 compile ");
    terminal.types("exit 3\r");
    terminal.sees("What next?");
    terminal.types("\x04");
    assert_eq!(terminal.end().0, Some(3));
    // Without questions.
    let keep = ["stage", "build", "by-hand-given-up", "--no-export", "--on-failure", "keep"];
    let Some(terminal) = Terminal::start(&place, &keep) else { return };
    let (code, seen) = terminal.end();
    assert!(code == Some(6) && !seen.contains("What next?"), "{seen}");
    let stopped = place.run(&["stage", "build", "by-hand-given-up", "--no-export", "--on-failure", "stop"]).fails(6);
    assert!(!stopped.stderr.contains("shell --failed"), "{stopped}");
    assert!(place.session_of("stage4/by-hand-given-up").is_none(), "the session is kept");
}
