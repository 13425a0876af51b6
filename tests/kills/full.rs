//! A data directory without room: the message says where and what to do, nothing is left, and with room the same command succeeds.
//!
//! The small file system is a tmpfs in a user and mount namespace of our own, where the program runs as that namespace's root with
//! the rest of the user's ids: `/etc/subuid` says so there, and the map tools are copies that belong to that root.

use std::path::Path;

use crate::place::{Place, both};
use crate::release::Release;

/// What the shell in that namespace does: `$1` data, `$2` program, `$3` tarball, `$4` scratch, `$5` how small.
const SCRIPT: &str = r#"
set -eu
data=$1 program=$2 tarball=$3 scratch=$4 small=$5
mount -t tmpfs -o "$small,mode=0700" tmpfs "$data"
echo root:1:65535 >"$scratch/subid"
mount --bind "$scratch/subid" /etc/subuid
mount --bind "$scratch/subid" /etc/subgid
cp /usr/bin/newuidmap /usr/bin/newgidmap "$scratch"
chmod u+s "$scratch/newuidmap" "$scratch/newgidmap"
PATH=$scratch:$PATH
status=0
"$program" bootstrap --no-rebuild kills "$tarball" || status=$?
echo "status $status"
"$program" store verify --json
find "$data/store/layers" "$data/store/states" "$data/store/sessions" "$data/store/tmp" "$data/store/refs" -mindepth 1
mount -o remount,size=200m,nr_inodes=100000 "$data"
"$program" bootstrap --no-rebuild kills "$tarball"
"$program" store verify --json
echo done
"#;

pub(crate) fn import() {
    let place = Place::new();
    let release = Release::new(&place);
    let scratch = place.path("scratch");
    std::fs::create_dir(&scratch).unwrap();
    // No room for bytes, and none for names.
    for (small, lacks) in [("size=8m", "space"), ("size=100m,nr_inodes=1000", "names")] {
        with(&place, &release, &scratch, small, lacks);
    }
}

fn with(place: &Place, release: &Release, scratch: &Path, small: &str, lacks: &str) {
    let mut command = place.command("unshare");
    command.args(["--map-auto", "--map-root-user", "--mount", "--", "sh", "-c", SCRIPT, "sh"]);
    command.arg(place.data()).arg(env!("CARGO_BIN_EXE_gentoomuch")).arg(&release.tarball).arg(scratch).arg(small);
    let output = command.output().unwrap();
    let all = both(&output);
    assert!(output.status.success(), "{all}");
    let (said, printed) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert!(said.contains("No space left on device"), "{all}");
    let there = format!("the file system of `{}`", place.data().display());
    let hint =
        if lacks == "names" { format!("hint: {there} has no inodes left") } else { format!("hint: free some space on {there}") };
    assert!(said.contains(&hint), "{all}");
    let (failed, recovered) = printed.split_once("status 1\n").unwrap_or_else(|| panic!("{all}"));
    assert_eq!(failed, "", "{all}");
    let left: Vec<&str> =
        recovered.lines().take_while(|line| !line.starts_with("profile")).filter(|line| line.starts_with('/')).collect();
    assert_eq!(left, Vec::<&str>::new(), "left by the failed run");
    assert_eq!(recovered.matches(r#""findings": []"#).count(), 2, "{all}");
    assert!(recovered.ends_with("done\n"), "{all}");
    crate::processes::none_is_left();
}
