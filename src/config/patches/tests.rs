//! Which patches apply to which versions, as `eapply_user` decides, and what is said about them.

use super::*;
use crate::config::tests::config;

fn scope(text: &str) -> Scope {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn scopes_print_as_they_are_written() {
    for (text, package, version, revision, slot) in [
        ("hello", "hello", None, None, None),
        ("hello-2.10", "hello", Some("2.10"), None, None),
        ("hello-2.10-r1", "hello", Some("2.10"), Some("1"), None),
        ("hello-2.10-r0", "hello", Some("2.10"), Some("0"), None),
        ("hello:0", "hello", None, None, Some("0")),
        ("hello-2.10:stable", "hello", Some("2.10"), None, Some("stable")),
        ("gtk+-2.24.33_p1-r10:2", "gtk+", Some("2.24.33_p1"), Some("10"), Some("2")),
        ("font-adobe-100dpi", "font-adobe-100dpi", None, None, None),
        ("foo-2-bar-1.2", "foo-2-bar", Some("1.2"), None, None),
        ("python:3.12", "python", None, None, Some("3.12")),
    ] {
        let scope = scope(text);
        assert_eq!(scope.to_string(), text);
        assert_eq!(
            (scope.package.as_str(), scope.version.as_deref(), scope.revision.as_deref(), scope.slot.as_deref()),
            (package, version, revision, slot),
            "{text}"
        );
    }
}

#[test]
fn names_that_mean_no_package() {
    for (text, error) in [
        ("", "`` is no package name, with a version or without one"),
        (">=hello-2.10", "`>=hello-2.10` is no package name, with a version or without one"),
        ("=hello-2.10", "`=hello-2.10` is no package name, with a version or without one"),
        ("hello-2.10*", "`hello-2.10*` is no package name, with a version or without one"),
        ("hel lo", "`hel lo` is no package name, with a version or without one"),
        ("hello-2.10-1", "`hello-2.10-1` is no package name, with a version or without one"),
        ("hello[nls]", "`hello[nls]` is no package name, with a version or without one"),
        ("*", "`*` is no package name, with a version or without one"),
        ("hello:", "`` is no slot"),
        ("hello:=", "`=` is no slot"),
        ("hello::gentoo", "`:gentoo` is no slot"),
        ("hello:0:1", "`0:1` is no slot"),
    ] {
        assert_eq!(text.parse::<Scope>().unwrap_err().to_string(), error, "{text}");
    }
}

#[test]
fn scopes_match_as_portage_looks() {
    // Directory, version, slot, whether Portage looks into it.
    for (directory, version, slot, expected) in [
        ("hello", "2.10", "0", true),
        ("hello", "2.10-r3", "0/1", true),
        ("hello-2.10", "2.10", "0", true),
        ("hello-2.10", "2.10-r3", "0", true),
        ("hello-2.10", "2.1", "0", false),
        // Compared as text: Portage takes versions that are equal for different ones here.
        ("hello-2.10", "2.010", "0", false),
        ("hello-2.10-r3", "2.10-r3", "0", true),
        ("hello-2.10-r3", "2.10", "0", false),
        ("hello-2.10-r0", "2.10", "0", true),
        ("hello-2.10-r0", "2.10-r0", "0", true),
        ("hello-2.10-r0", "2.10-r1", "0", false),
        ("hello-2.10-r00", "2.10", "0", false),
        ("hello:0", "2.10", "0/5", true),
        ("hello:5", "2.10", "0/5", false),
        ("hello-2.10:0", "2.10-r1", "0", true),
        ("hello-2.10-r1:0", "2.10-r1", "0", true),
        ("hello-2.10-r1:1", "2.10-r1", "0", false),
        ("hello2", "2.10", "0", false),
    ] {
        assert_eq!(scope(directory).matches("hello", version, slot), expected, "{directory} for {version}:{slot}");
    }
    assert_eq!(
        directories("hello", "2.10-r1", "0/2"),
        ["hello", "hello:0", "hello-2.10", "hello-2.10:0", "hello-2.10-r1", "hello-2.10-r1:0"]
    );
}

#[test]
fn scopes_as_atoms() {
    for (directory, atom) in [
        ("hello", "app-misc/hello"),
        ("hello:0", "app-misc/hello:0"),
        ("hello-2.10", "~app-misc/hello-2.10"),
        ("hello-2.10-r0:0", "=app-misc/hello-2.10-r0:0"),
        ("hello-2.10-r1", "=app-misc/hello-2.10-r1"),
    ] {
        assert_eq!(scope(directory).atom("app-misc"), atom);
    }
}

const DIFF: &str = "--- a/x\n+++ b/x\n";

/// Paths of what is applied to `app-misc/hello`, without the folder.
fn applied(files: &[(&str, &str)], version: &str, slot: &str) -> Vec<String> {
    let (_dir, config) = config(files);
    let patches = config.patches().unwrap();
    let applied = applied_to(&patches, "app-misc", "hello", version, slot);
    applied.iter().map(|patch| patch.path.strip_prefix(USER_PATCHES).unwrap().display().to_string()).collect()
}

#[test]
fn patches_are_applied_in_order_of_name() {
    let files = [
        ("user.patches/b/app-misc/hello/1.patch", DIFF),
        ("user.patches/a/app-misc/hello-2.10/2.diff", DIFF),
        ("user.patches/a/app-misc/hello:0/10.patch", DIFF),
        ("user.patches/B/app-misc/hello-2.10-r0/1.patch", DIFF),
        ("user.patches/c/app-misc/hello-2.10-r1/1.patch", DIFF),
        ("user.patches/d/app-misc/other/1.patch", DIFF),
        ("user.patches/e/app-text/hello/1.patch", DIFF),
    ];
    let common = ["a/app-misc/hello:0/10.patch", "a/app-misc/hello-2.10/2.diff", "b/app-misc/hello/1.patch"];
    let with_first = [&["B/app-misc/hello-2.10-r0/1.patch"], &common[..]].concat();
    assert_eq!(applied(&files, "2.10", "0"), with_first, "capitals first, as in the C locale");
    assert_eq!(applied(&files, "2.10-r1", "0/2"), [&common[..], &["c/app-misc/hello-2.10-r1/1.patch"]].concat());
    assert_eq!(applied(&files, "2.9", "1"), ["b/app-misc/hello/1.patch"]);
}

#[test]
fn more_specific_directories_replace_and_take_away() {
    let files =
        |narrow: &'static str, contents: &'static str| [("user.patches/a/app-misc/hello/x.patch", DIFF), (narrow, contents)];
    for narrow in ["hello:0", "hello-2.10", "hello-2.10:0", "hello-2.10-r0", "hello-2.10-r0:0"] {
        let path: &'static str = Box::leak(format!("user.patches/a/app-misc/{narrow}/x.patch").into_boxed_str());
        assert_eq!(applied(&files(path, "diff --git\n"), "2.10", "0"), [format!("a/app-misc/{narrow}/x.patch")]);
        assert_eq!(applied(&files(path, ""), "2.10", "0"), Vec::<String>::new(), "{narrow}");
        assert_eq!(applied(&files(path, ""), "2.11", "1"), ["a/app-misc/hello/x.patch"], "{narrow}");
    }
    // The slot of a version is less specific than the revision without a slot.
    let files =
        [("user.patches/a/app-misc/hello-2.10:0/x.patch", DIFF), ("user.patches/a/app-misc/hello-2.10-r0/x.patch", "diff \n")];
    assert_eq!(applied(&files, "2.10", "0"), ["a/app-misc/hello-2.10-r0/x.patch"]);
}

#[test]
fn the_digest_is_that_which_portage_records() {
    let (_dir, config) =
        config(&[("user.patches/a/app-misc/hello/x.patch", "one\n"), ("user.patches/b/app-misc/hello-2.10/x.patch", "two\n")]);
    let patches = config.patches().unwrap();
    let all = applied_to(&patches, "app-misc", "hello", "2.10-r1", "0");
    // `printf '%s%s' $(sha256sum one) $(sha256sum two) | sha256sum`
    let expected = "a5329b436bdfa399cd0b2c461c23fba4bdf119d47fdf7159726bd892f184d1b4";
    assert_eq!(digest(&all).as_deref(), Some(expected));
    assert_eq!(digest::<SavedPatch>(&[]), None);
    // The version without its revision is nothing that Portage looks at when it picks a binary package.
    let first = applied_to(&patches, "app-misc", "hello", "2.9", "0");
    assert_eq!(digest_for_binaries(&patches, "app-misc", "hello", "2.10-r1", "0"), digest(&first));
    assert_eq!(digest_for_binaries(&patches, "app-misc", "hello", "2.10", "0/1"), digest(&all));
    assert_eq!(digest_for_binaries(&patches, "app-misc", "other", "1", "0"), None);
}

#[test]
fn a_stage_has_the_patches_of_its_fragments_too() {
    let (_dir, config) = config(&[
        ("stage3.defines/base/portage.local", "musl\n"),
        ("portage.locals/musl/patches/app-misc/hello/fix.patch", DIFF),
        ("portage.locals/musl/patches/app-misc/hello/README", "no patch\n"),
        ("portage.locals/musl/patches/app-misc/hello/deeper/fix.patch", DIFF),
        ("user.patches/quiet/app-misc/hello-2.10/greeting.patch", DIFF),
    ]);
    let portage = config.portage_dir(&config.stage3("base").unwrap()).unwrap();
    let patches = portage.patches();
    let shown: Vec<(String, String)> = patches
        .iter()
        .map(|patch| (patch.name.clone(), format!("{} {}", patch.target().display(), patch.path.display())))
        .collect();
    let expected = [
        ("portage.locals/musl", "patches/app-misc/hello/fix.patch portage.locals/musl/patches/app-misc/hello/fix.patch"),
        ("quiet", "patches/app-misc/hello-2.10/quiet-greeting.patch user.patches/quiet/app-misc/hello-2.10/greeting.patch"),
    ];
    assert_eq!(shown, expected.map(|(name, rest)| (name.to_owned(), rest.to_owned())));
}

#[test]
fn patches_are_found_by_name() {
    let (_dir, config) =
        config(&[("user.patches/quiet/app-misc/hello/a.patch", DIFF), ("user.patches/loud/app-misc/hello/b.patch", DIFF)]);
    assert_eq!(config.patch_names(), ["loud", "quiet"]);
    assert_eq!(config.patch("quiet").unwrap().len(), 1);
    let Err(Error::Unknown { what: "saved patch", nearest, known, .. }) = config.patch("quite") else { panic!() };
    assert_eq!((nearest.as_deref(), known.len()), (Some("quiet"), 2));
}

#[test]
fn what_is_said_about_patches() {
    let x = "user.patches/a/app-misc/hello/x.patch";
    for (files, expected) in [
        (vec![(x, DIFF)], vec![]),
        (
            vec![(x, DIFF), ("user.patches/a/app-misc/hello-2.10/x.patch", DIFF)],
            vec!["user.patches/a/app-misc/hello-2.10/x.patch: note: applied in place of `user.patches/a/app-misc/hello/x.patch`"],
        ),
        (
            vec![(x, DIFF), ("user.patches/a/app-misc/hello-2.10/x.patch", "")],
            vec!["user.patches/a/app-misc/hello-2.10/x.patch: note: takes away `user.patches/a/app-misc/hello/x.patch`"],
        ),
        (
            vec![(x, "")],
            vec![
                "user.patches/a/app-misc/hello/x.patch: the patch is empty | make one with `git diff` or `diff -u`; without a \
                 `--- ` line, nothing would be changed",
            ],
        ),
        (
            vec![("user.patches/a/app-misc/hello-2.10-r0/x.patch", DIFF)],
            vec![
                "user.patches/a/app-misc/hello-2.10-r0/x.patch: note: this is for 2.10 without a revision only, not for later revisions | \
             for every revision, write `hello-2.10`",
            ],
        ),
        (
            vec![("user.patches/a/app-misc/hello-2.10-r01/x.patch", DIFF)],
            vec![
                "user.patches/a/app-misc/hello-2.10-r01/x.patch: warning: this is only for an ebuild whose name ends in exactly `-r01` | \
             write revisions without leading zeros: `-r1`",
            ],
        ),
        (
            vec![("user.patches/a-b/app-misc/hello/c.patch", DIFF), ("user.patches/a/app-misc/hello-2.10/b-c.patch", DIFF)],
            vec![
                "user.patches/a/app-misc/hello-2.10/b-c.patch: warning: applied in place of `user.patches/a-b/app-misc/hello/c.patch`, \
             which another patch has | Portage sees the same name `a-b-c.patch` for both: rename one",
            ],
        ),
        (
            vec![("user.patches/a/app-misc/>=hello-2/x.patch", DIFF)],
            vec![
                "user.patches/a/app-misc/>=hello-2/x.patch: `app-misc/>=hello-2` is no package | the directories are \
             `CATEGORY/PACKAGE[-VERSION][:SLOT]`",
            ],
        ),
    ] {
        let (dir, config) = config(&files);
        let root = format!("{}/", dir.path().display());
        let said: Vec<String> = config
            .check("amd64")
            .iter()
            .map(|diagnostic| diagnostic.to_string().replace(&root, "").replace("\n  hint: ", " | "))
            .collect();
        assert_eq!(said, expected, "{files:?}");
    }
}

#[test]
fn headers_are_read_up_to_the_first_change() {
    let text = "Purpose: keep quiet when there is nothing\n to greet\nPackage:app-misc/hello-2.10\nDate: 2026-11-25\n\
                bug: https://bugs.gentoo.org/1\nhttps://example.org: no field\nNot a field: x\n\nEmpty:\n---\n\
                diff --git a/x b/x\nPurpose: another\n";
    let header = Header::read(text.as_bytes());
    assert_eq!(header.purpose(), Some("keep quiet when there is nothing to greet"));
    assert_eq!((header.package(), header.date()), (Some("app-misc/hello-2.10"), Some("2026-11-25")));
    assert_eq!(header.bug(), Some("https://bugs.gentoo.org/1"));
    assert_eq!(header.get("empty"), None);
    assert_eq!(header.fields().count(), 5);
    let mail =
        Header::read(b"From 0123 Mon Sep 17 00:00:00 2001\nFrom: A <a@example.org>\nSubject: [PATCH] fix\n x\n---\n x | 1\n");
    assert_eq!(mail.purpose(), Some("[PATCH] fix x"));
}

#[test]
fn hostile_headers_are_tamed() {
    let mut text = b"Purpose: \x1b]0;owned\x07fine\x1b[2J\nBug: \xff\xfe\xe2\x80\xae\n".to_vec();
    text.extend(b"Date: ");
    text.extend(vec![b'x'; 1 << 20]);
    text.extend((0..1000).flat_map(|n| format!("\nF{n}: x").into_bytes()));
    let header = Header::read(&text);
    assert_eq!(header.purpose(), Some("fine"));
    assert!(header.date().is_some_and(|date| date.chars().count() <= 1000));
    assert!(header.fields().all(|(name, value)| !format!("{name}{value}").chars().any(char::is_control)));
    let many: Vec<u8> = (0..1000).flat_map(|n| format!("F{n}: x\n y\n").into_bytes()).collect();
    assert!(Header::read(&many).fields().count() <= 64);
}
