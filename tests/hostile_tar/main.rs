//! Archives made to do harm, byte by byte: each is refused in words of its own or made harmless, and nothing outside the target is
//! touched.
//!
//! Around the target lies a directory of sentinels, which must be identical afterwards: names, contents, modes, times, link counts.
#![expect(
    clippy::unwrap_used,
    clippy::unnecessary_debug_formatting,
    clippy::needless_for_each,
    reason = "failing tests may panic, and skipped ones say so"
)]

mod refused;
mod tar;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use gentoomuch::internals::archive::{Error, Limits, Owners, UnpackOptions, Unpacked, unpack};
use gentoomuch::internals::beneath::Way;

use refused::refused;
use tar::{Tar, seal};

/// The target with its surroundings.
struct Arena {
    place: tempfile::TempDir,
    before: String,
    options: UnpackOptions,
}

impl Arena {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("outside/deep")).unwrap();
        fs::write(place.path().join("outside/secret"), "secret").unwrap();
        fs::write(place.path().join("outside/deep/file"), "file").unwrap();
        symlink("secret", place.path().join("outside/link")).unwrap();
        fs::set_permissions(place.path().join("outside/secret"), fs::Permissions::from_mode(0o640)).unwrap();
        let limits = Limits { stream_bytes: 64 << 20, ..Limits::default() };
        let options = UnpackOptions { owners: Owners::Ignore, limits, layer: false, way: Way::Kernel, writers: 3 };
        let mut arena = Self { place, before: String::new(), options };
        arena.before = arena.outside();
        arena
    }

    fn outside(&self) -> String {
        let mut out = String::new();
        show(&self.place.path().join("outside"), &mut out);
        for entry in fs::read_dir(self.place.path()).unwrap() {
            let name = entry.unwrap().file_name();
            assert!(name == "outside" || name == "target", "{name:?} appeared beside the target");
        }
        out
    }

    fn target(&self) -> std::path::PathBuf {
        self.place.path().join("target")
    }

    /// Unpacks into a fresh target, then looks at the sentinels.
    fn unpack(&self, bytes: &[u8]) -> Result<Unpacked, Error> {
        let target = self.target();
        if target.exists() {
            for entry in walk(&target) {
                if entry.symlink_metadata().unwrap().is_dir() {
                    fs::set_permissions(&entry, fs::Permissions::from_mode(0o700)).unwrap();
                }
            }
            fs::remove_dir_all(&target).unwrap();
        }
        fs::create_dir(&target).unwrap();
        let fd = File::open(&target).unwrap();
        let result = unpack(bytes, fd.as_fd(), &self.options, &mut |_| {});
        assert_eq!(self.outside(), self.before, "something outside was touched");
        result
    }
}

fn walk(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![directory.to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        if path.symlink_metadata().unwrap().is_dir() {
            let _ = fs::set_permissions(&path, fs::Permissions::from_mode(0o700));
            found.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found
}

fn show(path: &Path, out: &mut String) {
    let meta = path.symlink_metadata().unwrap();
    let contents = if meta.is_file() { fs::read(path).unwrap() } else { Vec::new() };
    let (mode, links) = (meta.mode(), meta.nlink());
    writeln!(
        out,
        "{path:?} {mode:o} {links} {}.{} {}.{} {contents:?}",
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec()
    )
    .unwrap();
    if meta.is_dir() {
        let mut below: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        below.sort();
        below.iter().for_each(|path| show(path, out));
    }
}

/// The error and its causes in one line.
fn words(error: &Error) -> String {
    let chain = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn each_kind_is_answered_in_its_own_words() {
    let mut arena = Arena::new();
    let mut wrong = String::new();
    for way in [Way::Kernel, Way::Stepwise] {
        arena.options.way = way;
        for (name, bytes, expected) in refused() {
            let said = arena.unpack(&bytes).map_or_else(|error| words(&error), |_| "accepted".into());
            let matches = if expected == "refused entry" { said.starts_with(expected) } else { said == expected };
            if !matches {
                writeln!(wrong, "{name}:\n said {said}\n want {expected}").unwrap();
            }
            assert!(said.len() < 600 && !said.contains('\x1b'), "{name}: {said}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn limits_hold() {
    let mut arena = Arena::new();
    arena.options.limits.entries = 3;
    let four = Tar::default().file("a").file("b").file("c").file("d").end();
    assert_eq!(words(&arena.unpack(&four).unwrap_err()), "archive has more than 3 entries");
    arena.options.limits.xattrs = 2;
    let records: Vec<(String, &[u8])> = (0..3).map(|n| (format!("SCHILY.xattr.user.{n}"), &b"x"[..])).collect();
    let records: Vec<(&str, &[u8])> = records.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    let error = arena.unpack(&Tar::default().pax(&records).file("f").end()).unwrap_err();
    assert!(words(&error).contains("exceed 2 in number"), "{error}");
    // What follows the end counts too: a bomb may hide there.
    arena.options.limits.stream_bytes = 4096;
    let padded = [Tar::default().file("a").end(), vec![0; 8192]].concat();
    assert_eq!(words(&arena.unpack(&padded).unwrap_err()), "archive unpacks to more than 4096 bytes");
}

/// Several threads create files. What is told is what comes first in the archive all the same.
#[test]
fn the_first_failure_is_told_whoever_finds_it() {
    type Part<'a> = &'a dyn Fn(Tar) -> Tar;
    let mut arena = Arena::new();
    let target = arena.target();
    let many = |mut tar: Tar, from: usize| {
        for n in from..from + 200 {
            tar = tar.file(&format!("d{}/f{n}", n % 7));
        }
        tar
    };
    let large = vec![7; 100_000];
    let taken = |tar: Tar| tar.file("taken");
    let taken_too = |tar: Tar| tar.entry(b'0', b"large", b"", &large);
    let linked = |tar: Tar| tar.hardlink("link", "d0/f0");
    let refused = |tar: Tar| tar.file("../x");
    let exists = "File exists (os error 17)";
    let create = |name: &str| format!("cannot create `{name}`: {exists}");
    let escapes = "refused entry `../x`: ";
    for writers in [1, 4] {
        arena.options.writers = writers;
        for (parts, expected) in [
            (vec![&taken as Part<'_>, &taken_too, &linked, &refused], create("taken")),
            (vec![&taken_too, &taken, &refused], create("large")),
            (vec![&linked, &taken, &taken_too, &refused], format!("cannot link `link`: {exists}")),
            (vec![&refused, &taken, &linked], escapes.to_owned()),
            (vec![&taken, &linked], create("taken")),
        ] {
            let _ = fs::remove_dir_all(&target);
            fs::create_dir(&target).unwrap();
            // Their names make entries fail.
            for name in ["taken", "large", "link"] {
                fs::write(target.join(name), "").unwrap();
            }
            let mut tar = many(Tar::default(), 0);
            for (n, part) in parts.into_iter().enumerate() {
                tar = many(part(tar), 1000 * (n + 1));
            }
            let bytes = tar.end();
            let fd = File::open(&target).unwrap();
            let error = unpack(&*bytes, fd.as_fd(), &arena.options, &mut |_| {}).unwrap_err();
            assert!(words(&error).starts_with(&expected), "{writers}: {error}, expected: {expected}");
        }
    }
}

#[test]
fn harmless_things_are_accepted_and_stay_inside() {
    let arena = Arena::new();
    let bytes = Tar::default()
        .directory("./")
        .symlink("etc/localtime", "/usr/share/zoneinfo/UTC")
        .symlink("up", "../../../../outside/secret")
        .hardlink("up2", "up")
        .directory("etc")
        .directory("etc/")
        .device(b'3', "dev/null", 1, 3)
        .device(b'4', "./dev/sda", 8, 0)
        .hardlink("dev/zero", "dev/null")
        .entry(b'g', b"pax_global_header", b"", b"52 comment=0123456789012345678901234567890123456789\n")
        .directory("old/")
        .file("old/file")
        .file("A")
        .file("a")
        .entry(b'7', b"contiguous", b"", b"x")
        .entry(b'6', b"fifo", b"", b"")
        .end();
    let unpacked = arena.unpack(&bytes).unwrap();
    assert_eq!((unpacked.files, unpacked.symlinks, unpacked.hardlinks, unpacked.fifos), (4, 2, 1, 1));
    assert_eq!((unpacked.directories, unpacked.devices_skipped), (3, 3));
    let target = arena.target();
    assert_eq!(fs::read_link(target.join("up2")).unwrap(), Path::new("../../../../outside/secret"));
    assert_eq!(fs::read_dir(target.join("dev")).unwrap().count(), 0);
    assert_eq!(fs::metadata(target.join("a")).unwrap().mtime(), 0o14_000_000_000);
}

#[test]
fn two_hundred_levels_are_only_deep() {
    let mut arena = Arena::new();
    let path = "d/".repeat(200);
    let bytes = Tar::default()
        .pax(&[("path", format!("{path}file").as_bytes())])
        .file("x")
        .pax(&[("path", path.as_bytes())])
        .directory("x")
        .end();
    for way in [Way::Kernel, Way::Stepwise] {
        arena.options.way = way;
        let unpacked = arena.unpack(&bytes).unwrap();
        assert_eq!((unpacked.files, unpacked.directories), (1, 200));
        assert_eq!(fs::read(arena.target().join(&path).join("file")).unwrap(), b"data");
    }
}

#[test]
fn four_gibibytes_of_hole_cost_nothing() {
    let arena = Arena::new();
    for bytes in [
        Tar::default().old_sparse("f", (4 << 30) - 512, 512, 4 << 30, &[1; 512]).end(),
        Tar::default().mapped("f", b"4294967296", b"1\n4294966784\n512\n", &[1; 512]).end(),
    ] {
        let unpacked = arena.unpack(&bytes).unwrap();
        let meta = fs::metadata(arena.target().join("f")).unwrap();
        assert_eq!((meta.len(), unpacked.file_bytes), (4 << 30, 512));
        assert!(meta.blocks() < 64, "{} blocks", meta.blocks());
    }
}

/// What is imported has to be sealed and exported some day, and there a hole costs as much as data.
#[test]
fn holes_are_bounded_together() {
    let arena = Arena::new();
    let hole = |tar: Tar, name: &str| tar.old_sparse(name, (4 << 30) - 512, 512, 4 << 30, &[1; 512]);
    let bytes = hole(hole(hole(Tar::default(), "a"), "b"), "c").end();
    assert_eq!(
        words(&arena.unpack(&bytes).unwrap_err()),
        "refused entry `c`: with it, all holes together have more than \
        8589934592 bytes"
    );
    let bytes = Tar::default().mapped("f", b"70866960384", b"1\n0\n512\n", &[1; 512]).end();
    let expected = "refused entry `f`: its size is 70866960384 bytes, more than 68719476736";
    assert_eq!(words(&arena.unpack(&bytes).unwrap_err()), expected);
}

#[test]
fn an_overlay_cannot_be_spoken_to() {
    let arena = Arena::new();
    let attributes: [(&str, &[u8]); 4] = [
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("LIBARCHIVE.xattr.user.overlay.redirect", b"L2V0Yw"),
        ("SCHILY.xattr.security.selinux", b"system_u"),
    ];
    let bytes =
        Tar::default().pax(&attributes).directory("d").pax(&attributes).file("d/f").pax(&attributes).symlink("l", "d").end();
    assert_eq!(arena.unpack(&bytes).unwrap().xattrs_dropped, 12);
    for name in ["d", "d/f"] {
        let file = File::open(arena.target().join(name)).unwrap();
        let mut names = [0; 1000];
        let len = rustix::fs::flistxattr(&file, names.as_mut_slice()).unwrap();
        assert!(!names[..len].windows(7).any(|w| w == b"overlay"), "{name}");
    }
}

/// A sane archive with something of everything.
fn sample() -> Vec<u8> {
    Tar::default()
        .directory("./")
        .directory("d")
        .file("d/f")
        .symlink("d/l", "../../outside/secret")
        .hardlink("d/h", "d/f")
        .pax(&[("path", "d/ö".as_bytes()), ("mtime", b"12.5"), ("SCHILY.xattr.user.x", b"y")])
        .file("x")
        .entry(b'L', b"././@LongLink", b"", &[[b'n'; 150].as_slice(), b"\0"].concat())
        .file("n")
        .old_sparse("sparse", 4096, 512, 8192, &[1; 512])
        .end()
}

#[test]
fn truncated_archives_are_never_taken_for_whole_ones() {
    let arena = Arena::new();
    let bytes = sample();
    assert_eq!(arena.unpack(&bytes).unwrap().files, 4);
    for len in (0..bytes.len() - 1024).step_by(64).chain([bytes.len() - 1023, bytes.len() - 1]) {
        let error = arena.unpack(&bytes[..len]).expect_err(&format!("{len} of {} bytes", bytes.len()));
        assert!(words(&error).starts_with("archive is truncated"), "{len}: {}", words(&error));
    }
}

#[test]
fn flipped_bits_are_refused_or_harmless() {
    let arena = Arena::new();
    let bytes = sample();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut accepted = 0;
    for _ in 0..1500 {
        let mut damaged = bytes.clone();
        // One to four bits; half of the time the checksums are made right again, so that deeper checks are reached.
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random >> 16).unwrap()
        };
        let flips = next() % 4 + 1;
        for _ in 0..flips {
            let at = next() % damaged.len();
            damaged[at] ^= 1 << (next() % 8);
        }
        if next() % 2 == 0 {
            for block in damaged.chunks_exact_mut(512) {
                let block: &mut [u8; 512] = block.try_into().unwrap();
                if &block[257..262] == b"ustar" {
                    seal(block);
                }
            }
        }
        // Whether it is refused is the checks' affair; that nothing outside changes and nothing panics is this test's.
        accepted += u32::from(arena.unpack(&damaged).is_ok());
    }
    // Damaged contents go unnoticed by tar itself; the digests are there for that.
    assert!(accepted > 0 && accepted < 1400, "{accepted} accepted");
}

#[test]
fn the_target_may_not_hold_anything_yet() {
    let arena = Arena::new();
    let target = arena.target();
    fs::create_dir(&target).unwrap();
    symlink("../outside", target.join("d")).unwrap();
    let fd = File::open(&target).unwrap();
    let bytes = Tar::default().file("d/x").end();
    let error = unpack(bytes.as_slice(), fd.as_fd(), &arena.options, &mut |_| {}).unwrap_err();
    assert!(words(&error).starts_with("cannot create the directory `d`: File exists"), "{}", words(&error));
    assert_eq!(arena.outside(), arena.before);
}
