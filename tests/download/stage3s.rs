//! `stage3 ls` and `stage3 fetch`.

use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::release::{FIRST, Home, Release, SECOND};
use crate::server::{Answer, Server, Then};

const NAME: &str = "stage3-amd64-tiny-20260701T000000Z.tar.xz";

#[test]
fn listed_fetched_and_kept() {
    let Some(release) = Release::new() else { return };
    let root = release.path("");
    let server = Server::new(move |asked| Release::serve(&root, asked));
    let mirror = server.url("/");
    let home = Home::of(&release);
    let list = home.says(&["stage3", "ls", "amd64", "--mirror", &mirror, "--quiet"], 0);
    assert!(list.starts_with("VARIANT     BUILT                SIZE  HERE\namd64-tiny  2026-07-01 00:00  1.9 MiB\n"), "{list}");
    assert!(list.contains(" weeks old: "), "{list}");

    // The mirror that the configuration names.
    let global = home.path(".config/gentoomuch/portage.global");
    fs::create_dir_all(&global).unwrap();
    fs::write(global.join("make.conf"), format!("GENTOO_MIRRORS=\"rsync://x/ {mirror}\"\n")).unwrap();
    let kept = home.kept(NAME);
    let fetch = home.command(&["stage3", "fetch", "amd64-tiny"]).output().unwrap();
    assert_eq!(String::from_utf8(fetch.stdout).unwrap(), format!("{}\n", kept.display()));
    let mut names: Vec<_> =
        fs::read_dir(kept.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let expected = ["", ".CONTENTS.gz", ".DIGESTS", ".asc"].map(|suffix| format!("{NAME}{suffix}"));
    assert_eq!(names[1..], expected);

    // Once more only the list is read; offline not even that.
    let before = server.asked().len();
    let json = home.json(&["stage3", "fetch", "amd64-tiny"]);
    assert_eq!((json["url"].is_null(), json["size"].as_u64(), json["path"].as_str()), (true, Some(2_000_000), kept.to_str()));
    assert_eq!(server.asked().len(), before + 1);
    assert!(home.says(&["stage3", "fetch", "amd64-tiny", "--offline"], 0).starts_with(kept.to_str().unwrap()));
    assert_eq!(server.asked().len(), before + 1);

    // What is listed, also where it is here.
    let list = home.json(&["stage3", "ls", "amd64"]);
    assert!(list.to_string().contains("\"amd64-tiny\""), "{list}");

    // Another build by its time, and what is not there.
    home.says(&["stage3", "fetch", "amd64-tiny", "--date", FIRST.0], 0);
    let words = home.says(&["stage3", "fetch", "amd64-huge"], 2);
    assert!(
        words.contains("error: there is no stage3 `amd64-huge` in the list of amd64\nhint: there are: amd64-tiny\n"),
        "{words}"
    );
    let words = home.says(&["stage3", "fetch", "amd64-tiny", "--date", "20250101T000000Z"], 1);
    assert!(words.contains(".DIGESTS: the server says 404 (not found)\nhint: "), "{words}");
    let words = home.says(&["stage3", "fetch", "amd64-tiny", "--date", "../x"], 2);
    assert!(words.contains("error: `../x` is not the time of a build\n"), "{words}");
    let words = home.says(&["stage3", "fetch", "arm64-tiny", "--offline"], 1);
    assert!(words.contains("error: no `stage3-arm64-tiny` is here, and downloads are switched off\nhint: repeat"), "{words}");
}

#[test]
fn a_key_that_is_gone_costs_no_stage3() {
    let Some(release) = Release::new() else { return };
    let root = release.path("");
    let server = Server::new(move |asked| Release::serve(&root, asked));
    let home = Home::of(&release);
    home.says(&["stage3", "fetch", "amd64-tiny", "--mirror", &server.url("/")], 0);
    let kept = home.kept(NAME);
    fs::remove_dir_all(home.path(".config/gentoomuch/keys")).unwrap();
    let words = home.says(&["stage3", "fetch", "amd64-tiny", "--offline"], 4);
    assert!(words.contains(&format!("error: cannot trust `{NAME}`\n")), "{words}");
    assert!(kept.is_file(), "the file is as good as it was");
    // One that is damaged is of no use to anybody.
    let key = release.path("key.asc");
    home.says(&["keys", "import", "--trust", key.to_str().unwrap()], 0);
    let mut bytes = fs::read(&kept).unwrap();
    bytes[1000] ^= 1;
    fs::write(&kept, bytes).unwrap();
    home.says(&["stage3", "fetch", "amd64-tiny", "--mirror", &server.url("/")], 0);
}

#[test]
fn killed_and_resumed() {
    let Some(release) = Release::new() else { return };
    let root = release.path("");
    let stalls = Arc::new(AtomicBool::new(true));
    let stalling = Arc::clone(&stalls);
    let server = Server::new(move |asked| {
        let answer = Release::serve(&root, asked);
        let tarball = asked.target.ends_with(".tar.xz");
        if tarball && stalling.load(Ordering::SeqCst) { answer.only(1_200_000, Then::Stall) } else { answer }
    });
    let home = Home::of(&release);
    let mirror = server.url("/");
    let args = ["stage3", "fetch", "amd64-tiny", "--mirror", &mirror, "--json"];
    let part = home.kept(&format!("{NAME}.part"));
    for signal in [libc::SIGKILL, libc::SIGINT] {
        let mut child = home.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let since = Instant::now();
        let before = server.asked().len();
        let asked = || server.asked()[before..].iter().any(|asked| asked.target.ends_with(".tar.xz"));
        while !asked() || fs::metadata(&part).map_or(0, |part| part.len()) < 1_200_000 {
            assert!(since.elapsed() < Duration::from_mins(4), "nothing came");
            std::thread::sleep(Duration::from_millis(20));
        }
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()),
            nix::sys::signal::Signal::try_from(signal).unwrap(),
        )
        .unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), if signal == libc::SIGINT { Some(130) } else { None });
        if signal == libc::SIGKILL {
            // The second one shall go on, and be stopped as far on.
            assert_eq!(fs::metadata(&part).unwrap().len(), 1_200_000);
            fs::OpenOptions::new().write(true).open(&part).unwrap().set_len(500_000).unwrap();
        }
    }
    stalls.store(false, Ordering::SeqCst);
    let output = home.command(&args).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(json["resumed_bytes"].as_u64().unwrap() >= 1_200_000, "{json}");
    assert!(!part.exists());
}

#[test]
fn what_is_wrong_comes_from_another_mirror_or_not_at_all() {
    let Some(release) = Release::new() else { return };
    let root = release.path("");
    let good = Server::new(move |asked| Release::serve(&root, asked));
    let root = release.path("");
    let bad = Server::new(move |asked| {
        let mut answer = Release::serve(&root, asked);
        if asked.target.ends_with(".tar.xz") {
            answer.body[1000] ^= 1;
        }
        answer
    });
    let home = Home::of(&release);
    let (bad, good) = (bad.url("/"), good.url("/"));
    let words = home.says(&["stage3", "fetch", "amd64-tiny", "--mirror", &bad], 4);
    assert!(words.contains(&format!("error: cannot trust `{bad}{}`\ncaused by: ", Release::tarball(SECOND.0))), "{words}");
    assert!(!home.kept(NAME).exists());
    let words = home.says(&["stage3", "fetch", "amd64-tiny", "--mirror", &bad, "--mirror", &good], 0);
    assert!(words.contains("; trying the next mirror\n"), "{words}");

    // Parts of two files that do not belong together.
    let home = Home::of(&release);
    fs::create_dir_all(home.kept("")).unwrap();
    fs::write(home.kept(&format!("{NAME}.part")), vec![0; 700_000]).unwrap();
    let origin = r#"{"url": "http://elsewhere/", "total": 2000000, "validator": null}"#;
    fs::write(home.kept(&format!("{NAME}.part.json")), origin).unwrap();
    let words = home.says(&["stage3", "fetch", "amd64-tiny", "--mirror", &good], 0);
    assert!(words.contains("its parts may not belong together: downloading it again from the beginning\n"), "{words}");
}

#[test]
fn lists_that_are_not_believed() {
    let Some(release) = Release::new() else { return };
    let list = |time: &str| fs::read(release.path(&format!("list-{time}.txt"))).unwrap();
    let (old, new) = (list(FIRST.0), list(SECOND.0));
    let mut changed = String::from_utf8(new.clone()).unwrap();
    changed = changed.replace("tiny", "evil");
    let serving = |bytes: Vec<u8>| Server::new(move |asked| Answer::ranged(asked, &bytes));
    let (old, new, changed) = (serving(old), serving(new), serving(changed.into_bytes()));
    let plain = serving(b"# ts=1\n20260701T000000Z/stage3-amd64-tiny-20260701T000000Z.tar.xz 1\n".to_vec());
    let home = Home::of(&release);
    let ls = |mirror: &Server, code| home.says(&["stage3", "ls", "amd64", "--mirror", &mirror.url("/")], code);
    assert!(ls(&changed, 4).contains("\ncaused by: bad signature: "));
    assert!(ls(&plain, 4).contains("\ncaused by: not a clear-signed document\n"));
    ls(&new, 0);
    let words = ls(&old, 4);
    assert!(words.contains("is from 2026-01-01, older than one from 2026-07-01 seen before\nhint: "), "{words}");
    // Who trusts nobody believes nobody.
    let stranger = Home::empty();
    let words = stranger.says(&["stage3", "ls", "amd64", "--mirror", &new.url("/")], 4);
    assert!(words.contains("which is not a release key this configuration trusts\nhint: "), "{words}");
    let page = Server::new(|_| Answer { body: b"<html>".to_vec(), ..Answer::status(200) }.with("Content-Type", "text/html"));
    let words = home.says(&["stage3", "ls", "amd64", "--mirror", &page.url("/")], 1);
    assert!(words.contains("the server sent a web page instead of the file\nhint: it may be a login page"), "{words}");
}
