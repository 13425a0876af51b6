//! Hosts made of this one, for one process.

use std::path::Path;
use std::process::Command;

use crate::climb::Climb;
use crate::table::{Host, Place};
use crate::{PROGRAM, script, skip};

pub(crate) fn climb_all() {
    if nix::unistd::getuid().is_root() {
        return skip("these hosts are made by an ordinary user, and this is root");
    }
    let mapped = Command::new("unshare").args(["--map-auto", "--map-root-user", "true"]).output().unwrap();
    if !mapped.status.success() {
        return skip(&format!("no subordinate ids: {}", String::from_utf8_lossy(&mapped.stderr).trim()));
    }
    let dir = tempfile::Builder::new().prefix("gmh").tempdir_in("/var/tmp").unwrap();
    let filter = dir.path().join("filter");
    let compiled = Command::new("cc").args(["-Wall", "-o"]).arg(&filter).arg(script("filter.c")).status().unwrap();
    assert!(compiled.success(), "filter.c does not compile");
    let climbs: Vec<_> = crate::hosts(Place::Here).into_iter().map(|host| (host, climb(host, dir.path(), &filter))).collect();
    crate::judge(Place::Here, &climbs);
}

fn climb(host: &Host, dir: &Path, filter: &Path) -> Climb {
    let place = dir.join("place");
    std::fs::create_dir(&place).unwrap();
    let stage3 = crate::stage3(dir, host.expected.highest_owner());
    let output = Command::new(script("here"))
        .args(host.made.split_whitespace())
        .env_clear()
        .env("HOME", &place)
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("PROGRAM", PROGRAM)
        .env("STAGE3", stage3)
        .env("PLACE", &place)
        .env("FILTER", filter)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    // What a failed climb has left may belong to subordinate ids.
    let removed = Command::new("unshare").args(["--map-auto", "--map-root-user", "rm", "-rf", "--"]).arg(&place).status().unwrap();
    assert!(removed.success(), "{} cannot be removed", place.display());
    Climb::read(&format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout)))
}
