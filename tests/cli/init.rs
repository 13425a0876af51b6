//! `gentoomuch init`: what it writes, keeps and refuses, in any directory and on any machine.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::program::Home;

/// Transcripts without what differs: the machine is another one everywhere, and the list of what is shipped grows.
fn transcripts(home: &Home, commands: &[&str]) -> String {
    let text = home.transcripts(commands);
    let mut lines = Vec::new();
    let mut written = false;
    for line in text.lines() {
        let is_further = line.starts_with("               ");
        written = line.starts_with("written   ") || written && is_further;
        match line {
            _ if written && is_further => {}
            _ if written => lines.push("written        …"),
            _ if line.starts_with("this machine   ") => lines.push("this machine   …"),
            line => lines.push(line),
        }
        written &= !line.is_empty();
    }
    lines.join("\n") + "\n"
}

macro_rules! assert_transcript {
    ($text:expr) => {
        insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!($text) })
    };
}

#[test]
fn an_empty_home_and_again() {
    let home = Home::empty();
    assert_transcript!(transcripts(&home, &["init", "init", "stage build helo"]));
    assert!(home.config().join("cpu.defines/this-host/make.conf").exists());
}

#[test]
fn another_directory_with_something_in_it() {
    let home = Home::empty();
    for (path, text) in [("fleet/portage.global/make.conf", "USE=\"nls\"\n"), ("fleet/env/jobs", "3\n")] {
        fs::create_dir_all(home.path().join(path).parent().unwrap()).unwrap();
        fs::write(home.path().join(path), text).unwrap();
    }
    assert_transcript!(transcripts(&home, &["init fleet"]));
    assert_eq!(fs::read_to_string(home.path().join("fleet/env/jobs")).unwrap(), "3\n");
    assert_eq!(fs::read_to_string(home.path().join("fleet/portage.global/make.conf")).unwrap(), "USE=\"nls\"\n");
}

#[test]
fn where_it_cannot_be() {
    let home = Home::empty();
    fs::write(home.path().join("file"), "").unwrap();
    fs::create_dir(home.path().join("odd")).unwrap();
    fs::write(home.path().join("odd/env"), "").unwrap();
    assert_transcript!(transcripts(&home, &["init file", "init file/below", "init odd"]));
    assert_eq!(fs::read_dir(home.path().join("odd")).unwrap().count(), 1, "nothing is half done");
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn where_nothing_may_be_written() {
    let home = Home::empty();
    let closed = home.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(closed.join("probe"), "").is_ok() {
        eprintln!("skipped: this user may write everywhere");
        return;
    }
    assert_transcript!(transcripts(&home, &["init closed", "init closed/below"]));
}

#[test]
fn as_json() {
    let home = Home::empty();
    let output = home.run(&["init", "--json", "dir"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["dir"], home.path().join("dir").display().to_string());
    assert!(json["machine"]["jobs"].as_u64().unwrap() >= 1);
    let item = |path: &str| json["items"].as_array().unwrap().iter().find(|item| item["path"] == path).unwrap().clone();
    assert_eq!(item("cpu.defines/this-host")["status"], "written");
    let again: serde_json::Value = serde_json::from_slice(&home.run(&["init", "--json", "dir"]).stdout).unwrap();
    assert!(again["items"].as_array().unwrap().iter().all(|item| item["status"] == "same"), "{again}");
}

#[test]
fn what_is_chosen_and_what_is_found() {
    let home = Home::empty();
    assert_transcript!(transcripts(
        &home,
        &["init --profile lab/x dir", "init --profile lab --binhost dir", "init --binhost --profile lab dir"]
    ));
    assert_eq!(fs::read_to_string(home.path().join("dir/stage4.defines/hello/profile")).unwrap(), "lab\n");
    assert!(!home.path().join(".gnupg").exists(), "who only asks makes no keyring");
    let host = fs::read_to_string(home.path().join("dir/portage.global/binrepos.conf/gentoobinhost.conf")).unwrap();
    assert!(host.contains("sync-uri = https://distfiles.gentoo.org/releases/"), "{host}");
    // Where there is a configuration already, it says what is missing for the host.
    let kept = transcripts(&home, &["init other", "init --binhost other"]);
    let said = "`portage.global` stayed as before. For Gentoo's packages, env/binhost says `first`, and a file in portage.global/binrepos.conf:\n";
    assert!(kept.contains(said), "{kept}");
}
