//! The stage4, unpacked by GNU tar in a plain user namespace and looked at by nothing of ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::child::{check, in_ids};
use crate::shared::{User, shared};

static ROOT: OnceLock<PathBuf> = OnceLock::new();

/// The unpacked stage4.
fn unpacked() -> Option<(User, &'static Path)> {
    let shared = shared()?;
    let root = ROOT.get_or_init(|| {
        let root = shared.place.path(&format!("unpacked {}", std::process::id()));
        fs::create_dir(&root).unwrap();
        let tar = "tar --zstd -C \"$2\" --xattrs --xattrs-include='*' --numeric-owner -xpf \"$1\"";
        in_ids(tar, &[&shared.artifact(), &root]);
        root
    });
    Some((shared, root))
}

fn inside(root: &Path, command: &str) -> String {
    let script = "mount --rbind /dev \"$1/dev\" && mount -t proc proc \"$1/proc\" && exec chroot \"$1\" /bin/bash -ec \"$2\"";
    String::from_utf8(in_ids(script, &[root, Path::new(command)])).unwrap()
}

#[test]
fn its_programs_run() {
    let Some((_shared, root)) = unpacked() else { return };
    assert_eq!(inside(root, "hello"), "Hello, world!\n");
    assert!(inside(root, "greeter --flags").starts_with("ascii=1"));
    assert!(inside(root, "emerge --version").starts_with("Portage 3"));
}

#[test]
fn owners_modes_capabilities_links_and_names_are_as_the_ebuild_set_them() {
    let Some((_shared, root)) = unpacked() else { return };
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testbed/oddfiles");
    let found = String::from_utf8(in_ids("exec \"$1\" list \"$2\"", &[&tool, root])).unwrap();
    // Compiled for this very definition: no other one in the place makes the same package. Archives have zeros where holes were.
    let expected = String::from_utf8(check(Command::new(&tool).arg("expect"))).unwrap().replace(",sparse ", " ");
    assert!(expected.lines().count() > 20 && expected.contains("security.capability"), "{expected}");
    assert_eq!(found, expected);
}

#[test]
fn what_identifies_one_machine_or_one_build_is_left_out() {
    let Some((shared, root)) = unpacked() else { return };
    // By tar's own listing: what ran in the unpacked root has left traces there.
    let listing = String::from_utf8(check(Command::new("tar").arg("-tf").arg(shared.artifact()))).unwrap();
    let names: Vec<&str> = listing.lines().map(|line| line.trim_start_matches("./").trim_end_matches('/')).collect();
    assert!(names.contains(&"usr/bin/hello"), "{listing}");
    let entries = |dir: &str| -> Vec<&str> {
        names.iter().copied().filter(|name| name.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))).collect()
    };
    for empty in ["var/tmp", "tmp", "run", "dev", "proc", "sys", "usr/src", "var/db/repos", "var/cache", "var/log"] {
        assert_eq!(entries(empty), [""; 0], "below {empty}");
    }
    for gone in ["etc/machine-id", "etc/ssh/ssh_host_rsa_key", "root/.bash_history"] {
        assert!(!names.contains(&gone) && !root.join(gone).exists(), "{gone}");
    }
}

#[test]
fn the_definition_decides_what_is_removed_and_its_scripts_have_run() {
    let Some((_shared, root)) = unpacked() else { return };
    for gone in ["usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/gtk-doc"] {
        assert!(!root.join(gone).exists(), "{gone}");
    }
    let info = fs::read_to_string(root.join("etc/build-info")).unwrap();
    assert_eq!(info, "profile=demo\ndefinition=hello\narch=amd64\n");
}

#[test]
fn nothing_of_the_session_is_in_it() {
    let Some((shared, root)) = unpacked() else { return };
    assert!(!root.join("etc/portage/make.conf/99-session.conf").exists());
    assert!(root.join("etc/portage/make.conf").exists(), "the configuration itself is in it");
    // What of the following is in the stage3 is in the stage4, and nothing else.
    let listing = check(Command::new("tar").arg("-tf").arg(&shared.testbed.stage3));
    let listing = String::from_utf8_lossy(&listing);
    let upstream: std::collections::BTreeSet<&str> =
        listing.lines().map(|line| line.trim_start_matches("./").trim_end_matches('/')).collect();
    for path in [
        "etc/resolv.conf",
        "var/cache/binpkgs",
        "var/cache/distfiles",
        "var/tmp/portage",
        "var/db/repos/gentoo",
        "run/gentoomuch",
        "run/portage",
        "root/.cache",
        "dev/null",
    ] {
        if root.join(path).exists() {
            assert!(upstream.contains(path), "`{path}` was only the session's");
        }
    }
    let strings = in_ids("grep -rl gentoomuch-it \"$1/etc\" \"$1/var\" \"$1/root\" || true", &[root]);
    assert_eq!(String::from_utf8_lossy(&strings), "", "files that know the host's paths");
}
