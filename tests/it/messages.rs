//! What ebuilds say to their user, news of trees, and configuration files that wait: told after a build, kept, read again.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::package_keys::define;
use crate::place::{self, Place, Ran};
use crate::shared::{BULK, shared};

const HEAD: &str = "EAPI=8\nDESCRIPTION=\"said\"\nSLOT=\"0\"\nKEYWORDS=\"amd64\"\nLICENSE=\"GPL-2\"\nS=\"${WORKDIR}\"\n";
/// The postinst of a binary package runs, too. What comes after the line with escapes has no heading of ours.
const TALKER: &str = r#"
pkg_setup() { elog "Read the handbook."; }
src_compile() { eqawarn "for authors"; }
src_install() { dodir /usr/share/talker; }
pkg_postinst() {
    ewarn "Rebuild your modules."
    printf 'ERROR \033]0;owned\007Careful\033[2J\033[31m!\n' >> "${T}/logging/postinst"
    einfo "of no interest"
}
"#;
/// More than anybody reads, and a line without end.
const FLOOD: &str = r#"
src_install() { dodir /usr/share/flood; }
pkg_postinst() {
    { printf 'LOG '; head -c 100000 /dev/zero | tr '\0' x; echo; yes 'LOG all the same' | head -n 300000; } >> "${T}/logging/postinst"
}
"#;
const FAILS: &str = r#"
src_compile() { eerror "Your kernel lacks \033]0;owned\007FEATURE"; die; }
"#;
/// Long enough to be followed.
const SLOW: &str = r#"
src_compile() {
    echo "line one"
    printf '\033[32mgreen\033[0m \033]0;owned\007text\n'
    sleep 8
    echo "last line"
}
src_install() { dodir /usr/share/slow; }
"#;

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn news(tree: &Path, name: &str, title: &str, restriction: &str) {
    let text = format!(
        "Title: {title}\nAuthor: A <a@example.org>\nContent-Type: text/plain\nPosted: 2026-01-01\nRevision: 1\nNews-Item-Format: \
         2.0\n{restriction}\nText.\n"
    );
    write(&tree.join(format!("metadata/news/{name}/{name}.en.txt")), &text);
}

/// A tree whose packages have a version that no run before had.
fn tree(place: &Place, name: &str, version: u32) -> PathBuf {
    let tree = place.path(&format!("said-trees/{name}"));
    if tree.exists() {
        fs::remove_dir_all(&tree).unwrap();
    }
    write(&tree.join("profiles/repo_name"), &format!("{name}\n"));
    write(&tree.join("profiles/categories"), "app-said\n");
    write(&tree.join("metadata/layout.conf"), "masters = gentoo\nthin-manifests = true\n");
    for (package, text) in [("talker", TALKER), ("flood", FLOOD), ("fails", FAILS), ("slow", SLOW)] {
        let dir = tree.join("app-said").join(package);
        write(&dir.join(format!("{package}-{version}.ebuild")), &format!("{HEAD}{text}"));
        write(&dir.join("Manifest"), "");
    }
    // States of earlier runs have told theirs.
    news(&tree, &format!("2026-01-01-of-talker-{version}"), "For \u{1b}[2Jwho has it", "Display-If-Installed: app-said/talker\n");
    news(&tree, "2026-01-02-of-others", "For others", "Display-If-Installed: app-said/none\n");
    // Names that are not UTF-8, with which Portage itself cannot deal, hide no other and fail no build.
    let odd = std::ffi::OsStr::from_bytes(b"2026-01-03-\xff");
    let mut file = odd.to_owned();
    file.push(".en.txt");
    fs::create_dir_all(tree.join("metadata/news").join(odd)).unwrap();
    fs::write(tree.join("metadata/news").join(odd).join(file), "Title: odd\n").unwrap();
    tree
}

/// A stage of these packages, in a configuration of one's own.
fn stage(place: &Place, name: &str, packages: &str) {
    define(&place.config, ("demo", name), name, "", &[]);
    for (file, text) in [("packages", packages), ("removes", BULK)] {
        fs::write(place.config.join(format!("stage4.defines/{name}/{file}")), format!("{text}\n")).unwrap();
    }
}

fn json(ran: Ran) -> Value {
    serde_json::from_str(&ran.ok().text()).unwrap()
}

#[test]
fn what_ebuilds_say_is_told_and_kept_and_safe() {
    let Some(shared) = shared() else { return };
    let version = std::process::id();
    let name = "said";
    let place = shared.place.with_config(shared.config(name));
    place.run(&["sync", "--from", tree(&place, name, version).to_str().unwrap()]).ok();
    stage(&place, name, "app-said/talker\napp-said/flood");
    let hook = place.config.join("hooks/prepare.d/60-pending.sh");
    write(&hook, &format!("#!/bin/sh\n: >/etc/._cfg0000_{version}\n: >\"/etc/._cfg0000_{version}$(printf '\\377')\"\n"));

    let built = place.run(&["stage", "build", name, "--format", "tar.zst", "--no-sign"]).ok();
    let talker = format!(
        "  app-said/talker-{version} says:\n    elog    Read the handbook.\n    ewarn   Rebuild your modules.\n    eerror  Careful!\n"
    );
    let built = built.says(&talker).says("    elog    all the same\n").says("…\n");
    let built = built.says(&format!("  news: 2026-01-01-of-talker-{version}: For \\u{{1b}}[2Jwho has it\n"));
    let built = built.says(&format!("  configuration: `/etc/._cfg0000_{version}` waits for `dispatch-conf`\n"));
    let built = built.says(&format!("  configuration: `/etc/._cfg0000_{version}\\xff` waits for `dispatch-conf`\n"));
    let built = built.says(&format!("`gentoomuch logs elog stage4/{name}`")).says("\n  log: /");
    assert!(!built.stderr.contains('\u{1b}') && !built.stderr.contains("for authors"), "{built}");
    assert!(!built.stderr.contains("of-others"), "{built}");
    assert!(built.stderr.len() < 100_000, "{} bytes", built.stderr.len());

    // The state was found, and still has it; so has the file beside the artifact.
    let again = place.run(&["stage", "build", name, "--format", "tar.zst", "--no-sign", "--json"]);
    assert!(!again.stderr.contains("handbook"), "{again}");
    let again = json(again);
    assert_eq!(again["state_reused"], true);
    let packages = again["messages"]["packages"].as_array().unwrap();
    let of = |package: &str| packages.iter().find(|said| said["package"] == format!("app-said/{package}-{version}")).unwrap();
    let first = serde_json::json!({ "class": "log", "phase": "setup", "lines": ["Read the handbook."] });
    assert_eq!(of("talker")["messages"][0], first);
    assert_eq!(of("flood")["more"], true);
    let lines = of("flood")["messages"][0]["lines"].as_array().unwrap();
    assert!(lines.len() <= 200 && lines[0].as_str().unwrap().chars().count() <= 2000, "{}", lines.len());
    let artifact = built.value("artifact");
    let recorded: Value = serde_json::from_slice(&fs::read(format!("{artifact}.json")).unwrap()).unwrap();
    assert!(recorded.to_string().contains("Rebuild your modules."), "{recorded}");

    for words in [["logs", "elog", name], ["logs", "elog", "stage4/said"]] {
        let text = place.run(&words).ok().text();
        assert!(text.starts_with(&format!("stage4 definition {name}\n")), "{text}");
        assert!(text.contains(&format!("\napp-said/talker-{version}\n    elog    Read the handbook.\n")), "{text}");
        assert!(text.contains("… and more, which is in its log only"), "{text}");
        assert!(text.contains(&format!("2026-01-01-of-talker-{version} ({name}): For \\u{{1b}}[2Jwho has it")), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
    let kept = json(place.run(&["logs", "elog", name, "--json"]));
    assert_eq!((kept[0]["kind"].as_str(), kept[0]["packages"].as_array()), (Some("stage4 definition"), Some(packages)));
    let color = place.run(&["logs", "elog", name, "--color", "always"]).ok().text();
    assert!(color.contains("\u{1b}[33mewarn \u{1b}[0m  Rebuild your modules."), "{color}");
    // All of it is with the other logs, with what is for authors.
    let file = place.run(&["logs", name, &format!("elog app-said/talker-{version}")]).ok();
    assert!(file.text().contains("for authors") && file.stderr.contains("  log: /"), "{file}");
    place.run(&["logs", "elog", "stage4/sai"]).fails(2).says("hint: did you mean `stage4/said`?");
    let nothing = place.run(&["logs", "elog", "profile/demo/upstream"]).ok().text();
    assert_eq!(nothing, "nothing was said when profile/demo/upstream was made\n");

    // From the pool the compiler's phases do not run, but the package still says what it says when it is merged.
    for (file, text) in [("profile", "demo"), ("stage3", name), ("packages", "app-said/talker")] {
        write(&place.config.join("stage4.defines/said-again").join(file), &format!("{text}\n"));
    }
    let again = place.run(&["stage", "build", "said-again", "--no-export", "--log-format", "json"]).ok();
    let said = again.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let said: Vec<Value> =
        said.inspect(|line| crate::schema::valid("messages", line)).filter(|line| line["kind"] == "elog").collect();
    let warned = serde_json::json!(
        { "kind": "elog", "class": "ewarn", "package": format!("app-said/talker-{version}"), "message": "Rebuild your modules." }
    );
    assert!(said.contains(&warned), "{again}");
    assert!(!again.stderr.contains("for authors"), "{again}");
}

#[test]
fn what_a_package_says_before_it_fails_is_told() {
    let Some(shared) = shared() else { return };
    let (name, version) = ("said-fails", std::process::id());
    let place = shared.place.with_config(shared.config(name));
    place.run(&["sync", "--from", tree(&place, name, version).to_str().unwrap()]).ok();
    stage(&place, name, "app-said/fails");
    let failed = place.run(&["stage", "build", name, "--no-export"]).fails(6);
    let failed = failed.says(&format!("  app-said/fails-{version} says:\n    eerror  Your kernel lacks FEATURE\nerror: "));
    assert!(!failed.stderr.contains('\u{1b}'), "{failed}");
}

#[test]
fn a_build_is_followed_to_its_end() {
    let Some(shared) = shared() else { return };
    let (name, version) = ("said-slow", std::process::id());
    let place = shared.place.with_config(shared.config(name));
    place.run(&["sync", "--from", tree(&place, name, version).to_str().unwrap()]).ok();
    stage(&place, name, "app-said/slow");
    let runs = || {
        let runs = fs::read_dir(place.path("data/logs")).unwrap().flatten();
        runs.filter(|run| run.file_name().to_str().unwrap().starts_with(&format!("stage-{name}-"))).count()
    };
    let before = runs();
    let mut build = place.command(&["stage", "build", name, "--no-export"]);
    let mut build = build.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while runs() == before && begun.elapsed() < Duration::from_mins(5) {
        assert!(build.try_wait().unwrap().is_none(), "it ended before it had a log");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Both wait for what is not there yet, and end with the build.
    let follow = |words: &[&str]| {
        let mut command = place.command(&[&["logs", "-f", name], words].concat());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::spawn(move || child.wait_with_output().unwrap())
    };
    let (emerge, package) = (follow(&[]), follow(&["app-said/slow", "--color", "always"]));
    let (emerge, package) = (emerge.join().unwrap(), package.join().unwrap());
    assert!(build.wait().unwrap().success());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&emerge.stdout), text(&emerge.stderr));
    assert!(
        emerge.status.success() && out.contains(&format!("app-said/slow-{version}")) && out.contains(">>> Completed (1 of 1) "),
        "{out}{err}"
    );
    assert!(!out.contains('\u{1b}') && err.contains(&format!("/logs/stage-{name}-")), "{out}{err}");
    let (out, err) = (text(&package.stdout), text(&package.stderr));
    assert!(package.status.success() && out.contains("line one\n") && out.contains("\nlast line\n"), "{out}{err}");
    assert!(out.contains("\u{1b}[32mgreen\u{1b}[0m text\n") && !out.contains("owned"), "{out}");
    assert!(err.contains("waiting for app-said/slow") && err.contains(&format!("packages/app-said:slow-{version}:")), "{err}");

    // Now there is nothing to follow.
    place.run(&["logs", "-f", name, "slow"]).ok().says(&format!("stage-{name} is over"));
    place.run(&["logs", "-f", name, "slwo"]).fails(2).says("has no log of `slwo`");
    let one = json(place.run(&["logs", name, "slow", "--json"]));
    assert_eq!(one["name"], format!("app-said/slow-{version}"));
    let elsewhere = place::run(&mut place.command(&["logs", "--data", place.path("no-data").to_str().unwrap(), "-f"]));
    elsewhere.fails(2).says("nothing is being built\nhint: `gentoomuch logs` lists what was built");
}
