//! Packages that do not build: what is said, and that correcting the cause is enough.

use std::fs;
use std::path::{Path, PathBuf};

use crate::place::{Place, Ran};
use crate::shared::shared;

fn define(place: &Place, name: &str, stage3: &str, packages: &str) {
    let dir = place.config.join("stage4.defines").join(name);
    fs::create_dir_all(&dir).unwrap();
    for (file, text) in [("profile", "demo"), ("stage3", stage3), ("packages", packages)] {
        fs::write(dir.join(file), format!("{text}\n")).unwrap();
    }
}

fn build(place: &Place, name: &str) -> Ran {
    place.run(&["stage", "build", name, "--no-export"])
}

/// The log that a failure names.
fn named_log(ran: &Ran) -> PathBuf {
    let line = ran.stderr.lines().find_map(|line| line.strip_prefix("hint: the whole output is in "));
    PathBuf::from(line.unwrap_or_else(|| panic!("no log in {ran}")))
}

#[test]
fn a_package_that_does_not_compile_is_named_with_its_phase_and_last_words() {
    let Some(shared) = shared() else { return };
    let place = shared.place.with_config(shared.config("broken"));
    define(&place, "broken", "plain", "app-misc/broken");
    let ran = build(&place, "broken").fails(6);
    let ran =
        ran.says("app-misc/broken-1.0").says("compile").says("broken.c:5").says("undeclared").says("repeat the command to go on");
    let log = named_log(&ran);
    assert!(fs::read_to_string(&log).unwrap().contains("app-misc/broken"), "{}", log.display());
    assert!(!ran.stderr.contains('\x1b'), "{ran}");
    assert!(!Path::new(&place.path("data/stages/broken")).exists(), "no artifact");
}

#[test]
fn a_change_that_is_needed_is_shown_once_and_is_enough_once_written() {
    let Some(shared) = shared() else { return };
    let place = shared.place.with_config(shared.config("proposed"));
    define(&place, "both", "plain", "app-misc/newcomer\napp-resolve/eula\napp-misc/picky");
    let ran = build(&place, "both").fails(3);
    let ran = ran
        .says("stage4.defines/both/packages:1: `app-misc/newcomer` is masked")
        .says("both/packages:2: `app-resolve/eula` is masked");
    assert!(!ran.stderr.contains("building stage4"), "{ran}");
    let ran = ran.says("+++ b/portage.global/package.accept_keywords");
    for line in ["+=app-misc/newcomer-0.1 ~amd64", "+app-resolve/eula testbed-EULA"] {
        assert_eq!(ran.stderr.matches(line).count(), 1, "{line}: {ran}");
    }
    ran.says("hint: write it with `gentoomuch resolve both --write FRAGMENT`");

    let ran = place.run(&["resolve", "both", "--write", "both"]).ok();
    for file in
        ["portage.locals/both/package.accept_keywords", "portage.locals/both/package.license", "stage3.defines/plain/portage.local"]
    {
        assert!(ran.text().contains(&format!("wrote {file}\n")), "{ran}");
    }
    build(&place, "both").ok();
    for package in ["newcomer-0.1", "picky-1.0"] {
        place.run(&["cp", &format!("stage4/both:/var/db/pkg/app-misc/{package}/PF"), "-"]).ok();
    }
    let again = place.run(&["resolve", "both", "--write", "both"]).ok();
    assert!(again.text().starts_with("both resolves: 0 packages to build"), "{again}");
}

#[test]
fn a_script_that_fails_is_shown_with_its_output() {
    let Some(shared) = shared() else { return };
    let place = shared.place.with_config(shared.config("script"));
    define(&place, "script", "plain", "");
    fs::write(place.config.join("stage4.defines/script/scripts"), "bad\n").unwrap();
    fs::write(place.config.join("user.scripts/bad"), "#!/bin/sh\necho first; echo then this >&2; exit 4\n").unwrap();
    let ran = build(&place, "script").fails(1);
    ran.says("then this").says("hint: correct the cause");
    fs::write(place.config.join("user.scripts/bad"), "#!/bin/sh\n").unwrap();
    build(&place, "script").ok();
}

/// Puts a file in the place of the directory for the logs of single packages, as soon as there is one that was not there before.
fn spoil_logs(place: &Place, what: &str, before: &[PathBuf]) {
    let since = std::time::Instant::now();
    loop {
        let new = logs(place, what).into_iter().find(|log| !before.contains(log) && log.join("packages").is_dir());
        if let Some(log) = new {
            fs::remove_dir(log.join("packages")).unwrap();
            return fs::write(log.join("packages"), "in the way").unwrap();
        }
        assert!(since.elapsed().as_secs() < 240, "no logs of {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn logs(place: &Place, what: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.path("data/logs")).unwrap().flatten().map(|entry| entry.path());
    entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(what)).collect()
}

#[test]
fn logs_that_cannot_be_kept_hide_no_failure_and_end_no_build() {
    let Some(shared) = shared() else { return };
    let place = shared.place.with_config(shared.config("unlogged"));
    for (name, package, code) in [("unlogged-bad", "app-misc/broken", 6), ("unlogged-good", "app-misc/manyfiles", 0)] {
        define(&place, name, "plain", package);
        let what = format!("stage-{name}-");
        let before = logs(&place, &what);
        let ran = std::thread::scope(|scope| {
            scope.spawn(|| spoil_logs(&place, &what, &before));
            build(&place, name)
        });
        let ran = ran.fails(code).says("warning: the logs of single packages are not kept: ");
        if code == 6 {
            let ran = ran.says("error: `app-misc/broken-1.0` failed in its compile phase\n");
            ran.says("hint: correct the cause and repeat the command to go on where it stopped");
            assert_eq!(place.session_of("stage4/unlogged-bad").unwrap()["status"]["is"], "suspended");
        }
    }
}
