use std::ffi::{CStr, CString};
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::*;

const WAYS: [Way; 2] = [Way::Kernel, Way::Stepwise];

/// A root with ways out and round in circles, and a secret beside it.
fn shaped() -> (tempfile::TempDir, PathBuf) {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("root");
    fs::create_dir_all(root.join("a/b/c")).unwrap();
    fs::create_dir(outer.path().join("secret")).unwrap();
    fs::write(outer.path().join("secret/key"), "secret").unwrap();
    fs::write(root.join("a/plain"), "12345").unwrap();
    for (to, name) in [
        ("../secret", "out"),
        ("../../../../../secret/key", "key"),
        ("/a", "absolute"),
        ("b", "a/in"),
        ("plain", "a/again"),
        ("loop", "loop"),
        ("../../a/../a//b/.", "a/b/round"),
        ("nothing", "dangling"),
    ] {
        symlink(to, root.join(name)).unwrap();
    }
    symlink(outer.path().join("secret/key"), root.join("straight")).unwrap();
    rustix::fs::mkfifoat(CWD, root.join("fifo"), Mode::RWXU).unwrap();
    drop(std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap());
    (outer, root)
}

#[test]
fn links_are_resolved_inside_of_a_root() {
    let (_outer, path) = shaped();
    for way in WAYS {
        let root = RootDir::open(&path).unwrap().by(way);
        for (asked, real) in [
            ("", ""),
            ("/", ""),
            ("a/b/c", "a/b/c"),
            ("/absolute/in", "a/b"),
            ("absolute/b/round/c/", "a/b/c"),
            ("../../a", "a"),
            ("a/b/../../a/b/..", "a"),
        ] {
            let inode = rustix::fs::fstat(root.open_dir(asked).unwrap()).unwrap().st_ino;
            assert_eq!(inode, fs::metadata(path.join(real)).unwrap().ino(), "{asked} {way:?}");
        }
        assert_eq!(root.read("absolute/plain", 5).unwrap(), b"12345", "{way:?}");
        assert_eq!(root.follow("absolute/again").unwrap().read(5).unwrap(), b"12345", "{way:?}");
        for missing in ["out", "out/key", "key/x", "dangling/x", "a/plainer"] {
            assert!(root.open_dir(missing).unwrap_err().is_absent(), "{missing} {way:?}");
        }
        for missing in ["key", "straight", "out/key"] {
            assert!(root.follow(missing).unwrap_err().is_absent(), "{missing} {way:?}");
        }
        assert!(matches!(root.open_dir("loop").unwrap_err(), Error::Link { .. }), "{way:?}");
        assert_eq!(root.open_dir("a/plain").unwrap_err().errno(), Some(rustix::io::Errno::NOTDIR), "{way:?}");
    }
}

#[test]
fn nothing_is_followed_in_a_tree() {
    let (_outer, path) = shaped();
    for way in WAYS {
        let tree = TreeDir::open(&path).unwrap().by(way);
        for plain in ["", "/", "a/b/c", "a//b/./c", "/a"] {
            let inode = rustix::fs::fstat(tree.open_dir(plain).unwrap()).unwrap().st_ino;
            assert_eq!(inode, fs::metadata(path.join(plain.trim_start_matches('/'))).unwrap().ino(), "{plain} {way:?}");
        }
        for link in ["out", "out/key", "a/in", "a/in/c", "absolute/b", "loop", "a/b/round"] {
            let error = tree.open_dir(link).unwrap_err();
            assert!(matches!(error, Error::Link { .. }), "{link} {way:?}: {error}");
            assert!(tree.place(link).is_err(), "{link} {way:?}");
        }
        for up in ["..", "a/../..", "a/.."] {
            assert!(tree.open_dir(up).is_err(), "{up} {way:?}");
        }
        assert_eq!(tree.kind("out").unwrap(), Some(FileType::Symlink), "{way:?}");
        assert_eq!(tree.kind("nothing").unwrap(), None, "{way:?}");
        assert_eq!(tree.kind("a/plain/x").unwrap(), None, "{way:?}");
        assert_eq!(tree.read_link("out").unwrap().to_bytes(), b"../secret", "{way:?}");
        assert!(tree.read_link("a").is_err() && tree.read_link("nothing").unwrap_err().is_absent(), "{way:?}");
    }
}

#[test]
fn mounts_are_not_entered_by_trees() {
    for way in WAYS {
        let error = TreeDir::open(Path::new("/")).unwrap().by(way).open_dir("proc").unwrap_err();
        assert_eq!(error.to_string(), "something is mounted on `/proc`", "{way:?}");
        RootDir::open(Path::new("/")).unwrap().by(way).open_dir("proc").unwrap();
    }
}

/// `/proc/self/fd/N` is a link that leads to an open file instead of to a path.
#[test]
fn magic_links_do_not_lead_out_of_a_root() {
    let (outer, _) = shaped();
    let secret = fs::File::open(outer.path().join("secret")).unwrap();
    let link = format!("self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&secret));
    for way in WAYS {
        let proc = RootDir::open(Path::new("/proc")).unwrap().by(way);
        proc.open_dir(&link).unwrap_err();
        proc.place(&link).unwrap_err();
    }
}

#[test]
fn only_regular_files_are_read_and_only_up_to_the_limit() {
    let (_outer, path) = shaped();
    fs::File::create(path.join("hole")).unwrap().set_len(4 << 40).unwrap();
    for way in WAYS {
        let tree = TreeDir::open(&path).unwrap().by(way);
        let said = |name: &str| tree.read(name, 5).unwrap_err().to_string();
        let shown = path.display();
        for odd in ["fifo", "socket", "a", "straight", "dangling"] {
            assert_eq!(said(odd), format!("`{shown}/{odd}` is not a regular file"), "{way:?}");
        }
        assert_eq!(said("hole"), format!("`{shown}/hole` has more than 5 bytes"));
        assert_eq!(tree.read("a/plain", 4).unwrap_err().to_string(), format!("`{shown}/a/plain` has more than 4 bytes"));
        let zero = RootDir::open(Path::new("/dev")).unwrap().by(way).read("zero", 1 << 20).unwrap_err();
        assert_eq!(zero.to_string(), "`/dev/zero` is not a regular file");
    }
}

#[test]
fn a_file_that_grows_is_read_up_to_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "1").unwrap();
    let plain = TreeDir::open(dir.path()).unwrap().open_file("f").unwrap();
    fs::write(dir.path().join("f"), "123456").unwrap();
    assert!(matches!(plain.read(5).unwrap_err(), Error::TooBig { limit_bytes: 5, .. }));
}

#[test]
fn entries_are_sorted_and_bounded() {
    let (_outer, path) = shaped();
    let root = RootDir::open(&path).unwrap();
    let names = |dir: &RootDir| dir.entries(20).unwrap().iter().map(|e| e.text().unwrap().to_owned()).collect::<Vec<_>>();
    let expected = ["a", "absolute", "dangling", "fifo", "key", "loop", "out", "socket", "straight"];
    assert_eq!(names(&root), expected);
    assert_eq!(names(&root), expected, "a second listing begins anew");
    let place = RootDir::from_fd(root.place("").unwrap(), "x");
    assert_eq!(names(&place), expected, "a descriptor of O_PATH is opened anew");
    assert_eq!(place.entries(8).unwrap_err().to_string(), "directory `x` has more than 8 entries");
}

/// A chain of directories too deep for paths and descriptors, with a file in each.
fn deep(top: &Path, levels: usize, name: &CStr) {
    fs::create_dir(top).unwrap();
    let mut at = rustix::fs::open(top, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..levels {
        rustix::fs::mkdirat(&at, name, Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        rustix::fs::openat(&at, c"file", OFlags::WRONLY | OFlags::CREATE, Mode::RUSR).unwrap();
    }
}

#[test]
fn walks_are_bounded_in_descriptors_and_names() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("t");
    deep(&top, 1500, c"d");
    for way in WAYS {
        let mut walk = TreeDir::open(&top).unwrap().by(way).walk().unwrap();
        let (mut files, mut deepest) = (0, 0);
        loop {
            while let Some(entry) = walk.next_name() {
                if entry.is_dir() {
                    walk.enter(&entry.name).unwrap();
                    deepest = deepest.max(walk.depth());
                } else {
                    assert_eq!(walk.relative(&entry.name).len(), "d/".len() * walk.depth() + "file".len());
                    walk.open_file(&entry.name).unwrap();
                    files += 1;
                }
            }
            if walk.leave().unwrap().is_none() {
                break;
            }
        }
        assert_eq!((files, deepest), (1500, 1500), "{way:?}");
    }
    let mut walk = Walk::bounded(&TreeDir::open(&top).unwrap(), |a, b| a.name.cmp(&b.name), 1 << 10).unwrap();
    let error = loop {
        let entry = walk.next_name().unwrap();
        if let Err(error) = walk.enter(&entry.name) {
            break error;
        }
    };
    assert!(matches!(error, Error::TooWide { limit_bytes: 1024, .. }), "{error}");
}

#[test]
fn walks_do_not_enter_links() {
    let (_outer, path) = shaped();
    for way in WAYS {
        let mut walk = TreeDir::open(&path).unwrap().by(way).walk().unwrap();
        assert!(matches!(walk.enter(c"out").unwrap_err(), Error::Link { .. }), "{way:?}");
        assert_eq!(walk.enter(c"fifo").unwrap_err().errno(), Some(rustix::io::Errno::NOTDIR), "{way:?}");
    }
}

#[test]
fn the_way_back_up_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("t");
    deep(&top, 100, c"d");
    let mut walk = TreeDir::open(&top).unwrap().walk().unwrap();
    for _ in 0..100 {
        walk.enter(c"d").unwrap();
    }
    // A directory is taken elsewhere while we are in it; what we kept open is not affected, what we closed is.
    let middle: PathBuf = std::iter::once(top.clone()).chain((0..20).map(|_| "d".into())).collect();
    fs::rename(&middle, dir.path().join("elsewhere")).unwrap();
    let error = std::iter::from_fn(|| walk.leave().transpose()).find_map(std::result::Result::err).unwrap();
    assert_eq!(error.to_string(), format!("`{}` was moved while it was read", middle.display()));
}

#[test]
fn trees_of_any_depth_and_width_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("t");
    let long = CString::new("d".repeat(200)).unwrap();
    deep(&top, 1500, &long);
    // More names than are read at a time, high above the depth at which directories are closed.
    for number in 0..5000 {
        fs::write(top.join(format!("wide{number}")), "").unwrap();
    }
    remove_tree(&top).unwrap();
    assert!(!top.exists());
    remove_tree(&top).unwrap();
    fs::write(&top, "").unwrap();
    remove_tree(&top).unwrap();
    assert!(!top.exists());
}

#[test]
fn links_are_removed_and_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (top, outside) = (dir.path().join("t"), dir.path().join("outside"));
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "x").unwrap();
    for way in WAYS {
        fs::create_dir_all(top.join("below")).unwrap();
        symlink(&outside, top.join("below/link")).unwrap();
        symlink("/nonexistent", top.join("dangling")).unwrap();
        TreeDir::open(dir.path()).unwrap().by(way).remove("t").unwrap();
        assert!(!top.exists() && outside.join("precious").exists());
        // Named itself, a link is removed as a link; behind one, nothing is.
        symlink(&outside, &top).unwrap();
        assert!(TreeDir::open(dir.path()).unwrap().by(way).remove("t/precious").is_err());
        remove_tree(&top).unwrap();
        assert!(!top.is_symlink() && outside.join("precious").exists());
    }
}

/// As root this passes for another reason; the suite is run as an ordinary user too.
#[test]
fn directories_without_permissions_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("t");
    fs::create_dir_all(top.join("work/work/inner")).unwrap();
    fs::write(top.join("work/work/inner/f"), "").unwrap();
    for (path, mode) in [("work/work/inner", 0o400), ("work/work", 0o000), ("work", 0o555), ("", 0o000)] {
        fs::set_permissions(top.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    remove_tree(&top).unwrap();
    assert!(!top.exists());
}

#[test]
fn several_may_remove_the_same_tree() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("t");
    fs::create_dir(&top).unwrap();
    for i in 0..4 {
        deep(&top.join(format!("deep{i}")), 90, c"d");
        for j in 0..50 {
            fs::write(top.join(format!("{i}-{j}")), "").unwrap();
        }
    }
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3).map(|_| scope.spawn(|| remove_tree(&top))).collect();
        for worker in workers {
            worker.join().unwrap().unwrap();
        }
    });
    assert!(!top.exists());
}

#[test]
fn removal_names_the_path() {
    let error = remove_tree(Path::new("/proc/self/environ")).unwrap_err();
    assert_eq!(error.to_string(), "cannot remove `/proc/self/environ`");
}

#[test]
fn holes_stay_holes() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = fs::File::create(dir.path().join("from")).unwrap();
    file.seek(SeekFrom::Start(1 << 40)).unwrap();
    file.write_all(b"middle").unwrap();
    file.set_len(4 << 40).unwrap();
    let tree = TreeDir::open(dir.path()).unwrap();
    let from = tree.open_file("from").unwrap();
    let found: Vec<_> = extents(from.as_fd(), from.size()).map(std::result::Result::unwrap).collect();
    assert!(found.len() == 1 && found[0].contains(&(1 << 40)) && found[0].end - found[0].start < 1 << 20, "{found:?}");
    let to = tree.create("to", 0o640).unwrap();
    copy_plain(&from, &to).unwrap();
    let meta = fs::metadata(dir.path().join("to")).unwrap();
    assert_eq!(meta.len(), 4 << 40);
    assert!(meta.blocks() < 1 << 12, "{}", meta.blocks());
    let mut copy = fs::File::open(dir.path().join("to")).unwrap();
    copy.seek(SeekFrom::Start((1 << 40) - 1)).unwrap();
    let mut around = [0; 8];
    copy.read_exact(&mut around).unwrap();
    assert_eq!(&around, b"\0middle\0");
    fs::write(dir.path().join("plain"), "no hole").unwrap();
    copy_plain(&tree.open_file("plain").unwrap(), &tree.create("again", 0o600).unwrap()).unwrap();
    assert_eq!(fs::read(dir.path().join("again")).unwrap(), b"no hole");
}

#[test]
fn changes_stay_in_the_tree() {
    let (outer, path) = shaped();
    for way in WAYS {
        let tree = TreeDir::open(&path).unwrap().by(way);
        for link in ["out/new", "absolute/new", "a/in/new"] {
            assert!(tree.create(link, 0o644).is_err(), "{link} {way:?}");
            assert!(tree.make_dir(link, 0o755).is_err(), "{link} {way:?}");
            assert!(tree.symlink(link, "x").is_err(), "{link} {way:?}");
            assert!(tree.rename("a/plain", &tree, link).is_err(), "{link} {way:?}");
            assert!(tree.link("a/plain", &tree, link).is_err(), "{link} {way:?}");
        }
        assert!(tree.create("straight", 0o644).is_err(), "a link in the place of the file");
        let made = tree.make_dir("made", 0o1777).unwrap();
        assert_eq!(fs::metadata(path.join("made")).unwrap().mode() & 0o7777, 0o1777);
        made.create("file", 0o600).unwrap().write_all(b"x").unwrap();
        tree.link("made/file", &made, "second").unwrap();
        tree.rename("made/second", &tree, "third").unwrap();
        made.symlink("link", "anything").unwrap();
        assert_eq!(fs::metadata(path.join("third")).unwrap().nlink(), 2);
        tree.unlink("third").unwrap();
        tree.unlink("third").unwrap();
        tree.remove("made").unwrap();
        assert!(!path.join("made").exists());
    }
    assert_eq!(fs::read_dir(outer.path().join("secret")).unwrap().count(), 1);
}

#[test]
fn a_root_is_furnished_inside() {
    let (outer, path) = shaped();
    for way in WAYS {
        let root = RootDir::open(&path).unwrap().by(way);
        root.directory(Path::new("/absolute/new/er"), 0o1777).unwrap();
        assert_eq!(fs::metadata(path.join("a/new/er")).unwrap().mode() & 0o7777, 0o1777);
        root.write(Path::new("/absolute/again"), b"replaced", 0o600).unwrap();
        assert_eq!(fs::read(path.join("a/again")).unwrap(), b"replaced", "not through the link");
        assert_eq!(fs::read(path.join("a/plain")).unwrap(), b"12345");
        root.file_target(Path::new("/a/target")).unwrap();
        root.symlink(Path::new("/a/target"), Path::new("elsewhere")).unwrap();
        root.rename(Path::new("/a/target"), Path::new("/a/new/target")).unwrap();
        // A link with an absolute target is followed inside: `secret` is made there, not beside the root.
        root.remove(Path::new("/absolute/new")).unwrap();
        root.remove(Path::new("/nothing/at/all")).unwrap();
        root.remove(Path::new("/straight/through")).unwrap();
        assert!(!path.join("a/new").exists());
        fs::remove_file(path.join("a/again")).unwrap();
        symlink("plain", path.join("a/again")).unwrap();
    }
    assert_eq!(fs::read(outer.path().join("secret/key")).unwrap(), b"secret");
}

#[test]
fn holes_are_counted_before_anything_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let sparse = |name: &str, size: u64| fs::File::create(dir.path().join(name)).unwrap().set_len(size).unwrap();
    sparse("a", 5 << 30);
    sparse("b", 5 << 30);
    sparse("huge", 4 << 40);
    fs::write(dir.path().join("plain"), vec![1; 3 << 20]).unwrap();
    let tree = TreeDir::open(dir.path()).unwrap();
    let mut budget = Budget::default();
    for name in ["plain", "a", "plain"] {
        let file = tree.open_file(name).unwrap();
        budget.admit(&file).unwrap();
        assert_eq!((&file.file).stream_position().unwrap(), 0);
    }
    let said = |budget: &mut Budget, name: &str| budget.admit(&tree.open_file(name).unwrap()).unwrap_err().to_string();
    let shown = dir.path().display();
    assert_eq!(
        said(&mut budget, "b"),
        format!("`{shown}/b` has too large holes: the files of a tree may have 8 GiB of them in all")
    );
    assert_eq!(said(&mut budget, "huge"), format!("`{shown}/huge` has more than 68719476736 bytes"));
}

#[test]
fn files_are_compared_without_their_holes() {
    use std::os::unix::fs::FileExt as _;
    const SIZE: u64 = 4 << 40;
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, parts: &[(u64, &[u8])], size: u64| {
        let file = fs::File::create(dir.path().join(name)).unwrap();
        file.set_len(size).unwrap();
        for (at, bytes) in parts {
            file.write_all_at(bytes, *at).unwrap();
        }
    };
    let far = SIZE / 2;
    let zeros = vec![0; 1 << 20];
    make("one", &[(0, b"begin"), (far, b"middle")], SIZE);
    make("same", &[(0, b"begin"), (far, b"middle")], SIZE);
    // Zeros that were written are zeros as well, before, between and around what the other has.
    make("written", &[(far - 500_000, &zeros), (far, b"middle"), (0, b"begin"), (far / 2, &zeros)], SIZE);
    make("different", &[(0, b"begin"), (far, b"MIDDLE")], SIZE);
    make("more", &[(0, b"begin"), (far, b"middle"), (far + (1 << 30), b"x")], SIZE);
    make("less", &[(far, b"middle")], SIZE);
    make("shorter", &[(0, b"begin"), (far, b"middle")], SIZE - 1);
    make("holes", &[], SIZE);
    let tree = TreeDir::open(dir.path()).unwrap();
    let same = |one: &str, other: &str| same_contents(&tree.open_file(one).unwrap(), &tree.open_file(other).unwrap()).unwrap();
    for (one, other, expected) in [
        ("one", "same", true),
        ("one", "written", true),
        ("one", "different", false),
        ("one", "more", false),
        ("one", "less", false),
        ("one", "shorter", false),
        ("one", "holes", false),
        ("holes", "holes", true),
    ] {
        assert_eq!(same(one, other), expected, "{one} {other}");
        assert_eq!(same(other, one), expected, "{other} {one}");
    }
}

#[test]
fn only_an_empty_directory_is_removed_as_one() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("full/empty")).unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    symlink("full", dir.path().join("link")).unwrap();
    let tree = TreeDir::open(dir.path()).unwrap();
    for path in ["full", "file", "link", "none", "none/such", "link/empty"] {
        tree.remove_empty(path).unwrap();
    }
    assert!(dir.path().join("full/empty").is_dir() && dir.path().join("file").exists() && dir.path().join("link").is_symlink());
    tree.remove_empty("/full/empty").unwrap();
    tree.remove_empty("full").unwrap();
    assert!(!dir.path().join("full").exists());
}

#[test]
fn names_of_what_is_removed_and_open() {
    for (name, held) in [
        (".nfs0000000000a1b2c300000001", true),
        (".fuse_hidden0000004200000001", true),
        (".nfs", false),
        (".nfs0000", false),
        (".nfs-0123456789", false),
        ("nfs0000000000a1b2c300000001", false),
        (".fuse_hidden.c", false),
    ] {
        assert_eq!(is_held_open(name.as_ref()), held, "{name}");
    }
}
