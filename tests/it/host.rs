//! What this host can do, and saying so when it cannot.

use std::path::PathBuf;
use std::process::Command;

/// Says why a test does nothing here.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("GENTOOMUCH_TEST_STRICT").is_none_or(|value| value != "1"), "must not be skipped: {why}");
    eprintln!("skipped: {why}");
}

/// An ordinary user with subordinate ids, or not, said aloud.
pub(crate) fn has_ids() -> bool {
    if nix::unistd::getuid().is_root() {
        skip("these tests run as an ordinary user, and this is root");
        return false;
    }
    let mapped = Command::new("unshare").args(["--map-auto", "--map-root-user", "true"]).output();
    match mapped {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            skip(&format!("no subordinate ids: {}", String::from_utf8_lossy(&output.stderr).trim()));
            false
        }
        Err(error) => {
            skip(&format!("no `unshare`: {error}"));
            false
        }
    }
}

/// Whether a program is there, said aloud if not.
pub(crate) fn has(program: &str) -> bool {
    let there =
        Command::new("sh").args(["-c", "command -v \"$1\"", "sh", program]).output().is_ok_and(|output| output.status.success());
    if !there {
        skip(&format!("no `{program}`"));
    }
    there
}

/// The user's own cache directory: large, and on a disk.
pub(crate) fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cache");
    std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from)
}

/// The testbed's release.
#[derive(Debug, Clone)]
pub(crate) struct Testbed {
    pub(crate) stage3: PathBuf,
    pub(crate) tree: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) distfiles: PathBuf,
    /// The other version of Portage, as a layer.
    pub(crate) older: PathBuf,
}

/// Whether the testbed's Portage writes down which patches a package has.
pub(crate) fn portage_records_patches() -> bool {
    portage() != "-3.0.81.2"
}

/// What is selected by the version of Portage that the testbed's stage3 is to have; with a dash before it, or nothing.
fn portage() -> String {
    std::env::var("GENTOOMUCH_TEST_PORTAGE").map(|version| format!("-{version}")).unwrap_or_default()
}

/// Where the testbed's release is, if it was made.
pub(crate) fn testbed() -> Option<Testbed> {
    let dir = std::env::var_os("GENTOOMUCH_TESTBED")
        .map_or_else(|| cache().join(format!("gentoomuch-testbed{}", portage())), PathBuf::from);
    let Ok(current) = std::fs::read_to_string(dir.join("current")) else {
        skip(&format!("no testbed in {}: make it with tests/testbed/make", dir.display()));
        return None;
    };
    let stamp = current.trim();
    let mut trees: Vec<PathBuf> = std::fs::read_dir(dir.join("snapshots"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "xz"))
        .collect();
    trees.sort();
    Some(Testbed {
        stage3: dir.join(format!("releases/amd64/autobuilds/{stamp}/stage3-amd64-testbed-{stamp}.tar.xz")),
        tree: trees.pop().expect("a tree snapshot"),
        key: dir.join("keys/testbed.asc"),
        distfiles: dir.join("distfiles"),
        older: dir.join("portage/portage-3.0.81.2.tar.zst"),
    })
}
