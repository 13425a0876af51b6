//! What the program keeps is closed to other users, whatever the umask, and is kept nowhere where others could put something else.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use crate::place::run;
use crate::shared::shared;
use crate::tiny::{Tiny, tiny};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A user of the machine who is in no group of ours can pass through none of these.
fn assert_closed(tiny: &Tiny) {
    for top in ["data", "cache"] {
        assert_eq!(mode(&tiny.place.path(top)), 0o700, "{top}");
        for entry in fs::read_dir(tiny.place.path(top)).unwrap() {
            let entry = entry.unwrap();
            let (name, found) = (entry.file_name(), mode(&entry.path()));
            // What is bound into sessions by itself has to let other ids of the user pass.
            let wanted = if name == "distfiles" { 0o755 } else { 0o700 };
            assert!(!entry.path().is_dir() || found == wanted, "{top}/{}: {found:o}", name.display());
        }
    }
}

#[test]
fn data_and_cache_are_closed_whatever_the_umask() {
    for umask in ["000", "022", "077"] {
        let Some(tiny) = tiny() else { return };
        for top in ["data", "cache"] {
            fs::remove_dir(tiny.place.path(top)).unwrap();
        }
        let stage3 = tiny.stage3.to_str().unwrap().to_owned();
        for args in [&["bootstrap", "x", &stage3, "--no-rebuild"][..], &["export", "profile/x/upstream", "--no-sign"]] {
            let ran = run(&mut tiny.place.command_with_umask(umask, args)).ok();
            assert!(!ran.stderr.contains("closed"), "{ran}");
        }
        assert_closed(&tiny);
    }
}

#[test]
fn what_is_found_open_is_closed_and_said_once() {
    let Some(tiny) = tiny() else { return };
    let list = || tiny.place.run(&["store", "ls"]).ok();
    list();
    chmod(&tiny.place.path("data"), 0o755);
    chmod(&tiny.place.path("cache"), 0o777);
    chmod(&tiny.place.path("data/logs"), 0o1777);
    let told = list();
    for (path, mode) in [("data", "0755"), ("cache", "0777"), ("data/logs", "1777")] {
        let words = format!("closed `{}` to other users: its mode was {mode}", tiny.place.path(path).display());
        assert_eq!(told.stderr.matches(&words).count(), 1, "{told}");
    }
    assert_closed(&tiny);
    assert!(!list().stderr.contains("closed"));
    // The configuration is the user's own business.
    chmod(&tiny.place.config, 0o755);
    list();
    assert_eq!(mode(&tiny.place.config), 0o755);
}

#[test]
fn a_place_where_others_can_put_something_else_is_refused() {
    let Some(tiny) = tiny() else { return };
    let open = tiny.place.path("everybody");
    fs::create_dir(&open).unwrap();
    let data = open.join("data");
    let there = |data: &Path| tiny.place.run(&["--data", data.to_str().unwrap(), "store", "ls"]);
    chmod(&open, 0o777);
    there(&data)
        .fails(2)
        .says("gentoomuch cannot keep its files there")
        .says(&format!("other users can rename files in `{}` (mode 0777)", open.display()))
        .says(&format!("`chmod +t {}`", open.display()));
    assert!(!data.join("store").exists());
    chmod(&open, 0o1777);
    there(&data).ok();
    // Root's, and nobody is let in.
    if nix_uid() != 0 {
        there(Path::new("/usr")).fails(2).says("`/usr` belongs to another user (uid 0)");
    }
}

fn nix_uid() -> u32 {
    fs::metadata("/proc/self").unwrap().uid()
}

/// The ids of Portage's own user pass through what the umask would have closed.
#[test]
fn packages_are_built_with_a_umask_that_closes_everything() {
    let Some(shared) = shared() else { return };
    let args = ["freshroot", "--", "sh", "-ec", "umask; emerge --quiet-build=y -1 app-misc/hello; hello"];
    run(&mut shared.place.command_with_umask("077", &args)).ok();
}

#[test]
fn a_writable_bind_is_warned_of_once() {
    let Some(shared) = shared() else { return };
    let dir = shared.place.path("bound");
    fs::create_dir_all(&dir).unwrap();
    let bind = |more: &str| format!("{}:/mnt/{more}", dir.display());
    let words = format!("programs in the session can change `{0}`, `{0}` in your name", dir.display());
    let ran =
        shared.place.run(&["freshroot", "--bind", &bind("a"), "--bind", &bind("b"), "--bind", &bind("c:ro"), "--", "true"]).ok();
    assert_eq!(ran.stderr.matches(&words).count(), 1, "{ran}");
    let ran = shared.place.run(&["freshroot", "--bind", &bind("c:ro"), "--", "true"]).ok();
    assert!(!ran.stderr.contains("in your name"), "{ran}");
}
