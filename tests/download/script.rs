//! What Portage runs in a session to get a file.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use gentoomuch::internals::fetch::{BinHost, SCRIPT};

use crate::binhosts::binhost;
use crate::broker::{Desk, digests, mirror};
use crate::packages::Owner;

/// The script with paths of a test, run as Portage runs it.
fn script(desk: &Desk, args: &[&str]) -> Output {
    let at = |name: &str| desk.path(name).display().to_string();
    let text = SCRIPT
        .replace("/run/gentoomuch/fetch", &at("door"))
        .replace("/run/gentoomuch/distfiles", &at("distfiles"))
        .replace("/run/gentoomuch/packages", &at("packages"));
    desk.write("fetch.py", text);
    fs::create_dir_all(desk.path("distdir")).unwrap();
    Command::new("python3").arg("-ISB").arg(desk.path("fetch.py")).args(args).output().unwrap()
}

#[test]
fn what_the_script_leaves_for_portage() {
    let Some(owner) = Owner::new() else { return };
    let (server, mirror) = (binhost(owner.package(b"image")), mirror(&[("one.tar", b"contents")]));
    let mut desk = Desk::new(&[&mirror]);
    desk.tree("gentoo", &[("one", b"contents", "SRC_URI=one.tar")]);
    desk.sources.hosts = vec![BinHost { name: "own".into(), sync_uri: server.url("/pool"), configured: true }];
    desk.keys = owner.keys();
    let serving = desk.serve();
    let distdir = desk.path("distdir");
    let run = |args: &[&str]| {
        let output = script(&desk, args);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let dir = distdir.to_str().unwrap();
    let file = |name: &str| Path::new(dir).join(name);
    let digests = digests(b"contents");
    assert_eq!(run(&["source", dir, "one.tar.__download__", "http://x/one.tar", &digests]), (Some(0), String::new()));
    assert_eq!(fs::read_link(file("one.tar.__download__")).unwrap(), desk.path("distfiles/one.tar"));
    assert_eq!(
        run(&["source", dir, ".layout.conf.gentoomuch.invalid.__download__", "http://x/layout.conf", ""]),
        (Some(0), String::new())
    );
    assert_eq!(fs::read(file(".layout.conf.gentoomuch.invalid.__download__")).unwrap(), b"[structure]\n0=flat\n");
    let (code, words) = run(&["source", dir, "two.tar.__download__", "http://x/two.tar", "sha512:00"]);
    assert_eq!(
        (code, words.as_str()),
        (Some(1), "`two.tar` was not fetched: no Manifest of this session's ebuild trees lists it with these digests\n")
    );
    assert!(!file("two.tar.__download__").exists());
    // Portage makes the index's file beforehand.
    fs::write(file("tmpindex"), "").unwrap();
    assert_eq!(run(&["package", dir, "tmpindex", &server.url("/pool/Packages")]).0, Some(0));
    assert!(fs::read(file("tmpindex")).unwrap().starts_with(b"PACKAGES: 2"));
    assert_eq!(run(&["package", dir, "b-1-1.gpkg.tar.partial", &server.url("/pool/a/b/b-1-1.gpkg.tar")]).0, Some(0));
    assert!(fs::symlink_metadata(file("b-1-1.gpkg.tar.partial")).unwrap().is_file());
    drop(serving);
    let (code, words) = run(&["source", dir, "one.tar.__download__", "http://x/one.tar", &digests]);
    assert_eq!(code, Some(1));
    assert!(words.starts_with("gentoomuch cannot be asked for this file: "), "{words}");
}
