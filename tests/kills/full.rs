//! A data directory without room: the message says where and what to do, nothing is left, and with room the same command succeeds. And
//! one that is read-only: whoever only looks sees everything.
//!
//! The small file system is a tmpfs in a user and mount namespace of our own, where the program runs as that namespace's root with
//! the rest of the user's ids: `/etc/subuid` says so there, and the map tools are copies that belong to that root.

use crate::place::{Place, both};
use crate::release::Release;

/// What each script in that namespace begins with: `$1` data, `$2` program, `$3` tarball, `$4` scratch, `$5` how large the file system is.
const BEGIN: &str = r#"
set -eu
data=$1 program=$2 tarball=$3 scratch=$4
mount -t tmpfs -o "$5,mode=0700" tmpfs "$data"
echo root:1:65535 >"$scratch/subid"
mount --bind "$scratch/subid" /etc/subuid
mount --bind "$scratch/subid" /etc/subgid
[ -e "$scratch/newuidmap" ] || cp /usr/bin/newuidmap /usr/bin/newgidmap "$scratch"
chmod u+s "$scratch/newuidmap" "$scratch/newgidmap"
PATH=$scratch:$PATH
"#;

/// Imports where there is no room, then where there is some.
const IMPORT: &str = r#"
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

/// Cleans where no byte and no inode is left, and something that a killed command left lies around.
const CLEAN: &str = r#"
"$program" bootstrap --no-rebuild kills "$tarball"
"$program" profile rm kills
mkdir "$data/store/tmp/left"
: >"$data/fill"
i=0
while mkdir "$data/inode.$i" 2>/dev/null; do i=$((i + 1)); done
cat /dev/zero >>"$data/fill" 2>/dev/null || :
[ "$(stat -f -c %a/%d "$data")" = 0/0 ]
"$program" clean --yes
"$program" store verify --json
"$program" store ls
[ -n "$(ls "$data/store/ballast")" ]
echo done
"#;

/// Pushes to a folder without room and pulls to where there is none: into the cache, then into the store. `KEY` signs.
const REMOTE: &str = r#"
"$program" bootstrap --no-rebuild kills "$tarball"
"$program" store show profile/kills --json | grep '^  "id"'
folder=$scratch/folder blobs=$GENTOOMUCH_CACHE/remote
mkdir -p "$folder" "$blobs"
attempt() {
    status=0
    "$program" --remote "dir:$folder" remote "$@" || status=$?
    echo "status $status"
}
store() {
    find "$data/store/layers" "$data/store/states" "$data/store/sessions" "$data/store/tmp" -mindepth 1
}
echo "== folder"
mount -t tmpfs -o size=64k,mode=0700 tmpfs "$folder"
attempt push profile/kills/upstream
find "$folder" "$blobs" -type f
mount -o remount,size=100m "$folder"
attempt push profile/kills/upstream
"$program" profile rm kills
"$program" clean --yes
store
echo "== cache"
mount -t tmpfs -o size=64k,mode=0700 tmpfs "$blobs"
attempt pull profile/kills/upstream
find "$blobs" -type f
store
umount "$blobs"
echo "== store"
: >"$data/fill"
cat /dev/zero >>"$data/fill" 2>/dev/null || :
truncate -s -2M "$data/fill"
attempt pull profile/kills/upstream
"$program" store verify --json
store
rm "$data/fill"
attempt pull profile/kills/upstream --tag back
"$program" store show back --json | grep '^  "id"'
"$program" store verify --json
find "$blobs" -type f -name 'sha256-*'
gpgconf --kill all
echo done
"#;

/// Looks at a store on a file system that is mounted read-only, as is the cache.
const READ: &str = r#"
"$program" bootstrap --no-rebuild kills "$tarball"
"$program" store seal
mount -o remount,ro "$data"
mount --bind "$GENTOOMUCH_CACHE" "$GENTOOMUCH_CACHE"
mount -o remount,bind,ro "$GENTOOMUCH_CACHE"
for command in "store verify" "store verify --deep" "store ls" "store du" "store show profile/kills" "log" "profile ls" "tree ls" \
    "diff profile/kills/upstream profile/kills/upstream" "export --no-sign -o $scratch/out.tar profile/kills/upstream" \
    "cp profile/kills/upstream:/usr/bin/su $scratch/su" "clean --dry-run"; do
    echo "== $command"
    # shellcheck disable=SC2086
    "$program" $command
done
[ "$(cat "$scratch/su")" = set-id ]
tar -tf "$scratch/out.tar" | grep -c . >/dev/null
status=0
"$program" tag profile/kills/upstream late || status=$?
echo "status $status"
echo done
"#;

pub(crate) fn import() {
    let place = Place::new();
    let release = Release::new(&place);
    // No room for bytes, and none for names.
    for (small, lacks) in [("size=8m", "space"), ("size=100m,nr_inodes=1000", "names")] {
        import_into(&place, &release, small, lacks);
    }
}

/// What a script prints: errors, results, and both for messages.
fn run(place: &Place, release: &Release, script: &str, size: &str) -> (String, String, String) {
    let scratch = place.path("scratch");
    std::fs::create_dir_all(&scratch).unwrap();
    let mut command = place.command("unshare");
    command.args(["--map-auto", "--map-root-user", "--mount", "--", "sh", "-c", &format!("{BEGIN}{script}"), "sh"]);
    command.arg(place.data()).arg(env!("CARGO_BIN_EXE_gentoomuch")).arg(&release.tarball).arg(scratch).arg(size);
    let output = command.output().unwrap();
    let all = both(&output);
    assert!(output.status.success(), "{all}");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    crate::processes::none_is_left();
    (text(&output.stderr), text(&output.stdout), all)
}

pub(crate) fn clean() {
    let place = Place::new();
    let release = Release::new(&place);
    let (_, printed, all) = run(&place, &release, CLEAN, "size=200m,nr_inodes=20000");
    assert!(printed.contains(r#""findings": []"#), "{all}");
    assert!(printed.ends_with("the store is empty\ndone\n"), "{all}");
}

pub(crate) fn remote() {
    let place = Place::new();
    let release = Release::new(&place);
    let keys = place.command("gpg").args(["--list-keys", "--with-colons"]).output().unwrap();
    let keys = String::from_utf8(keys.stdout).unwrap();
    let key = keys.lines().find_map(|line| line.strip_prefix("fpr:")).unwrap().trim_matches(':');
    place.configure("env/remote_key", &format!("{key}\n"));
    place.run(&["keys", "trust", key, "--for", "remote"]);
    let (said, printed, all) = run(&place, &release, REMOTE, "size=60m,nr_inodes=20000");
    let part = |name: &str| {
        let rest = printed.split_once(&format!("== {name}\n")).unwrap_or_else(|| panic!("{all}")).1;
        rest.split("\n== ").next().unwrap().to_owned()
    };
    // Three failed for lack of room, and each said where.
    assert_eq!(said.matches("No space left on device").count(), 3, "{all}");
    for place in [place.path("scratch/folder/blobs/sha256"), place.path("cache/remote"), place.data()] {
        assert!(said.contains(&format!("hint: free some space on the file system of `{}`", place.display())), "{all}");
    }
    let of =
        |text: &str| text.lines().filter(|line| line.starts_with("status ") || line.starts_with('/')).map(str::to_owned).collect();
    let [folder, cache, store]: [Vec<String>; 3] = ["folder", "cache", "store"].map(|name| of(&part(name)));
    assert_eq!(folder, ["status 1", "status 0"], "{all}");
    assert_eq!(cache, ["status 1"], "{all}");
    assert_eq!(store, ["status 1", "status 0"], "{all}");
    assert_eq!(printed.matches(r#""findings": []"#).count(), 2, "{all}");
    let ids: Vec<&str> = printed.lines().filter(|line| line.contains(r#""id": "#)).collect();
    assert!(ids.len() == 2 && ids[0] == ids[1], "{all}");
    assert!(printed.ends_with("done\n"), "{all}");
}

pub(crate) fn read_only() {
    let place = Place::new();
    let release = Release::new(&place);
    let (said, printed, all) = run(&place, &release, READ, "size=200m,nr_inodes=20000");
    assert!(said.contains("Read-only file system"), "{all}");
    assert!(printed.ends_with("status 1\ndone\n"), "{all}");
}

fn import_into(place: &Place, release: &Release, small: &str, lacks: &str) {
    let (said, printed, all) = run(place, release, IMPORT, small);
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
}
