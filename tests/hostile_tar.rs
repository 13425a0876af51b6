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

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use gentoomuch::internals::archive::{Error, Limits, Owners, UnpackOptions, Unpacked, unpack};
use gentoomuch::internals::beneath::Way;

/// Builds an archive out of blocks, true or false.
#[derive(Default, Clone)]
struct Tar(Vec<u8>);

impl Tar {
    /// A header, its checksum right, with `size` as said and `data` as it is.
    fn entry(self, kind: u8, name: &[u8], link: &[u8], data: &[u8]) -> Self {
        self.lying(kind, name, link, data.len() as u64, data)
    }

    fn lying(self, kind: u8, name: &[u8], link: &[u8], size: u64, data: &[u8]) -> Self {
        self.block(header(kind, name, link, size)).data(data)
    }

    fn block(mut self, mut block: [u8; 512]) -> Self {
        seal(&mut block);
        self.0.extend(block);
        self
    }

    fn data(mut self, data: &[u8]) -> Self {
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str) -> Self {
        self.entry(b'0', name.as_bytes(), b"", b"data")
    }

    fn directory(self, name: &str) -> Self {
        self.entry(b'5', name.as_bytes(), b"", b"")
    }

    fn symlink(self, name: &str, to: &str) -> Self {
        self.entry(b'2', name.as_bytes(), to.as_bytes(), b"")
    }

    fn hardlink(self, name: &str, to: &str) -> Self {
        self.entry(b'1', name.as_bytes(), to.as_bytes(), b"")
    }

    fn device(self, kind: u8, name: &str, major: u32, minor: u32) -> Self {
        let mut block = header(kind, name.as_bytes(), b"", 0);
        block[329..336].copy_from_slice(format!("{major:07o}").as_bytes());
        block[337..344].copy_from_slice(format!("{minor:07o}").as_bytes());
        self.block(block)
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let len = (1..20).map(|digits| rest + digits).find(|len| len.to_string().len() == len - rest).unwrap();
            body.extend(format!("{len} {key}=").as_bytes());
            body.extend(*value);
            body.push(b'\n');
        }
        self.entry(b'x', b"PaxHeaders/x", b"", &body)
    }

    /// An old GNU sparse file: one run in the header.
    fn old_sparse(self, name: &str, offset: u64, len: u64, real: u64, data: &[u8]) -> Self {
        let mut block = header(b'S', name.as_bytes(), b"", data.len() as u64);
        block[257..265].copy_from_slice(b"ustar  \0");
        block[345..].fill(0);
        block[386..397].copy_from_slice(format!("{offset:011o}").as_bytes());
        block[398..409].copy_from_slice(format!("{len:011o}").as_bytes());
        block[483..494].copy_from_slice(format!("{real:011o}").as_bytes());
        self.block(block).data(data)
    }

    /// A sparse file of version 1.0: a block with the map, and the data.
    fn mapped(self, name: &str, real: &[u8], map: &[u8], data: &[u8]) -> Self {
        let mut body = map.to_vec();
        body.resize(512, 0);
        body.extend(data);
        self.pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", real)]).entry(
            b'0',
            name.as_bytes(),
            b"",
            &body,
        )
    }

    /// As before POSIX: nothing behind the link's name.
    fn v7(self, kind: u8, name: &str, data: &[u8]) -> Self {
        let mut block = header(kind, name.as_bytes(), b"", data.len() as u64);
        block[257..].fill(0);
        self.block(block).data(data)
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

fn header(kind: u8, name: &[u8], link: &[u8], size: u64) -> [u8; 512] {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name);
    // Whoever runs the tests must be able to enter what is unpacked.
    block[100..108].copy_from_slice(b"0000755\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    if size < 8 << 30 {
        block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    } else {
        block[124] = 0x80;
        block[128..136].copy_from_slice(&size.to_be_bytes());
    }
    block[136..147].copy_from_slice(b"14000000000");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    block
}

fn seal(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

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
        let options = UnpackOptions { owners: Owners::Ignore, limits, way: Way::Kernel };
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

/// What each kind of attack is answered with.
fn refused() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let t = Tar::default;
    let version = "refused entry `f`: its sparse format is not GNU's version 1.0; other versions are not supported";
    let old_records: [(&str, &[u8]); 4] = [
        ("GNU.sparse.size", b"9999"),
        ("GNU.sparse.numblocks", b"1"),
        ("GNU.sparse.offset", b"0"),
        ("GNU.sparse.numbytes", b"512"),
    ];
    let deep = "d/".repeat(600);
    vec![
        ("absolute path", t().file("/etc/x").end(), "refused entry `/etc/x`: its path is absolute"),
        ("parent", t().file("../outside/x").end(), "refused entry `../outside/x`: its path has a `..` component"),
        (
            "parent in the middle",
            t().file("a/../../outside/secret").end(),
            "refused entry `a/../../outside/secret`: its path has a `..` component",
        ),
        ("parent as directory", t().directory("..").end(), "refused entry `..`: its path has a `..` component"),
        ("empty name", t().file("").end(), "refused entry ``: its path is empty"),
        (
            "parent by extended header",
            t().pax(&[("path", b"../outside/x")]).file("good").end(),
            "refused entry `../outside/x`: its path has a `..` component",
        ),
        (
            "NUL in extended path",
            t().pax(&[("path", b"a\0b")]).file("good").end(),
            "refused entry `a\\u{0}b`: its path has a NUL byte",
        ),
        (
            "parent by long name",
            t().entry(b'L', b"././@LongLink", b"", b"../outside/x\0").file("good").end(),
            "refused entry `../outside/x`: its path has a `..` component",
        ),
        (
            "parent by sparse name",
            t().pax(&[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", b"../outside/x"),
                ("GNU.sparse.realsize", b"4"),
            ])
            .entry(b'0', b"good", b"", &[&b"1\n0\n4\n"[..], &[0; 506], b"data"].concat())
            .end(),
            "refused entry `../outside/x`: its path has a `..` component",
        ),
        (
            "write through a link",
            t().symlink("out", "../outside").file("out/x").end(),
            "refused entry `out/x`: `out` above it is not a directory",
        ),
        (
            "write through an absolute link",
            t().symlink("out", "/tmp").file("out/x").end(),
            "refused entry `out/x`: `out` above it is not a directory",
        ),
        (
            "write through a chain",
            t().symlink("a", "b").symlink("b", "../outside").directory("a/c").end(),
            "refused entry `a/c`: `a` above it is not a directory",
        ),
        (
            "write through a deep link",
            t().directory("d").symlink("d/out", "../../outside").file("d/out/deep/x").end(),
            "refused entry `d/out/deep/x`: `d/out` above it is not a directory",
        ),
        (
            "directory becomes a link",
            t().directory("d").symlink("d", "../outside").file("d/x").end(),
            "refused entry `d`: the archive has another entry at the same path",
        ),
        (
            "link becomes a directory",
            t().symlink("d", "../outside").directory("d").file("d/x").end(),
            "refused entry `d`: the archive has another entry at the same path",
        ),
        (
            "file over a link",
            t().symlink("l", "../outside/secret").file("l").end(),
            "refused entry `l`: the archive has another entry at the same path",
        ),
        ("file twice", t().file("f").file("./f").end(), "refused entry `./f`: the archive has another entry at the same path"),
        (
            "file over a directory",
            t().directory("f").file("f").end(),
            "refused entry `f`: the archive has another entry at the same path",
        ),
        ("file below a file", t().file("f").file("f/x").end(), "refused entry `f/x`: `f` above it is not a directory"),
        (
            "implied directory becomes a file",
            t().file("d/x").file("d").end(),
            "refused entry `d`: the archive has another entry at the same path",
        ),
        ("file named like a directory", t().file("f/").end(), "refused entry `f/`: it is a file whose name ends with a slash"),
        ("root is a link", t().symlink("./", "../outside").end(), "refused entry `./`: the root of the archive is not a directory"),
        (
            "hard link outside",
            t().hardlink("l", "../outside/secret").end(),
            "refused entry `l`: it is a hard link to `../outside/secret`: its path has a `..` component",
        ),
        (
            "absolute hard link",
            t().hardlink("l", "/etc/passwd").end(),
            "refused entry `l`: it is a hard link to `/etc/passwd`: its path is absolute",
        ),
        (
            "hard link through a link",
            t().symlink("out", "../outside").hardlink("l", "out/secret").end(),
            "refused entry `l`: it is a hard link to `out/secret`, which is not an earlier entry of the archive",
        ),
        (
            "hard link to a directory",
            t().directory("d").hardlink("l", "d").end(),
            "refused entry `l`: it is a hard link to the directory `d`",
        ),
        (
            "hard link to the root",
            t().directory("./").hardlink("l", ".").end(),
            "refused entry `l`: it is a hard link to the directory `.`",
        ),
        (
            "hard link to itself",
            t().hardlink("l", "l").end(),
            "refused entry `l`: it is a hard link to `l`, which is not an earlier entry of the archive",
        ),
        (
            "hard link with data",
            t().file("f").entry(b'1', b"l", b"f", b"data").end(),
            "refused entry `l`: it has 4 bytes of data although it is not a file",
        ),
        (
            "empty symbolic link",
            t().symlink("l", "").end(),
            "refused entry `l`: it is a symbolic link with an empty, overlong or NUL-carrying target",
        ),
        ("device", t().device(b'4', "sda", 8, 0).end(), "refused entry `sda`: it is a device node outside `./dev`"),
        (
            "device beside dev",
            t().device(b'3', "dev.d/null", 1, 3).end(),
            "refused entry `dev.d/null`: it is a device node outside `./dev`",
        ),
        (
            "whiteout",
            t().device(b'3', "etc/passwd", 0, 0).end(),
            "refused entry `etc/passwd`: it is a 0:0 character device, which overlayfs takes for a deletion",
        ),
        (
            "whiteout in dev",
            t().device(b'3', "dev/null", 0, 0).end(),
            "refused entry `dev/null`: it is a 0:0 character device, which overlayfs takes for a deletion",
        ),
        ("multi-volume", t().entry(b'M', b"f", b"", b"").end(), "refused entry `f`: its type `M` is not supported"),
        (
            "terminal escapes",
            t().file("/\x1b]0;owned\x07`x").end(),
            "refused entry `/\\u{1b}]0;owned\\u{7}\\u{60}x`: its path is absolute",
        ),
        ("too deep", t().pax(&[("path", deep.as_bytes())]).directory("x").end(), "refused entry"),
        ("too long", t().pax(&[("path", &[b'a', b'/'].repeat(3000))]).directory("x").end(), "refused entry"),
        ("long component", t().pax(&[("path", &[b'a'; 256])]).file("x").end(), "refused entry"),
        (
            "owner beyond 32 bits",
            t().pax(&[("uid", b"4294967296")]).file("x").end(),
            "refused entry `x`: its owner is out of range",
        ),
        (
            "owner that chown ignores",
            t().pax(&[("gid", b"4294967295")]).file("x").end(),
            "refused entry `x`: its owner is out of range",
        ),
        (
            "two sizes",
            t().pax(&[("size", b"512")]).entry(b'0', b"f", b"", b"data").end(),
            "refused entry `f`: its extended header says 512 bytes and its header 4",
        ),
        (
            "size beyond the file",
            t().pax(&[("size", b"9000")]).lying(b'0', b"f", b"", 0, b"data").end(),
            "archive is truncated: it ends at byte 3072 of its tar stream, within a file's contents",
        ),
        (
            "size beyond everything",
            t().pax(&[("size", b"18446744073709551615")]).lying(b'0', b"f", b"", 0, b"data").end(),
            "archive unpacks to more than 67108864 bytes",
        ),
        (
            "size that is no number",
            t().pax(&[("size", b"-1")]).file("f").end(),
            "header at byte 0 of the tar stream is damaged: `size` of its extended header has no valid value",
        ),
        (
            "record that overruns",
            t().entry(b'x', b"x", b"", b"99 path=a\n").file("f").end(),
            "header at byte 0 of the tar stream is damaged: a record of its extended header has a wrong length",
        ),
        (
            "huge extended header",
            t().lying(b'x', b"x", b"", 8 << 30, b"").end(),
            "header at byte 0 of the tar stream is damaged: an extended header is larger than 1048576 bytes",
        ),
        (
            "huge long name",
            t().lying(b'L', b"x", b"", 2 << 20, b"").end(),
            "header at byte 0 of the tar stream is damaged: an extended header is larger than 1048576 bytes",
        ),
        (
            "two extended headers",
            t().pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("f").end(),
            "header at byte 1024 of the tar stream is damaged: two extended headers of one kind describe one entry",
        ),
        (
            "extended header of nothing",
            t().pax(&[("path", b"a")]).end(),
            "header at byte 1024 of the tar stream is damaged: an extended header has no entry after it",
        ),
        (
            "global header with a path",
            t().entry(b'g', b"g", b"", b"20 path=../outside/x\n").file("f").end(),
            "header at byte 0 of the tar stream is damaged: a record of its extended header has a wrong length",
        ),
        (
            "global header with a size",
            t().entry(b'g', b"g", b"", b"10 size=9\n").file("f").end(),
            "header at byte 0 of the tar stream is damaged: a global extended header sets more than a comment",
        ),
        (
            "attribute too large",
            t().pax(&[("SCHILY.xattr.user.a", &[7; 65537])]).file("f").end(),
            "refused entry `f`: its extended attributes exceed 128 in number, or one exceeds the kernel's limits",
        ),
        (
            "sparse map out of order",
            t().mapped("f", b"9999", b"2\n512\n512\n0\n512\n", &[1; 1024]).end(),
            "refused entry `f`: its sparse map is inconsistent",
        ),
        (
            "sparse map with too little data",
            t().mapped("f", b"9999", b"1\n0\n4096\n", &[1; 512]).end(),
            "refused entry `f`: its sparse map is inconsistent",
        ),
        (
            "sparse map beyond the end",
            t().old_sparse("f", 1 << 30, 512, 512, &[1; 512]).end(),
            "refused entry `f`: its sparse map is inconsistent",
        ),
        (
            "sparse file of an exabyte",
            t().mapped("f", b"1152921504606846976", b"1\n0\n512\n", &[1; 512]).end(),
            "refused entry `f`: its size is 1152921504606846976 bytes, more than 68719476736",
        ),
        ("sparse version 0.0", t().pax(&old_records).entry(b'0', b"f", b"", &[1; 512]).end(), version),
        (
            "sparse version 0.1 under another name",
            t().pax(&[("GNU.sparse.name", b"../outside/x"), ("GNU.sparse.size", b"9999"), ("GNU.sparse.map", b"0,512")])
                .entry(b'0', b"f", b"", &[1; 512])
                .end(),
            "refused entry `../outside/x`: its sparse format is not GNU's version 1.0; other versions are not supported",
        ),
        (
            "sparse version 1.1",
            t().pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"1"), ("GNU.sparse.realsize", b"4")]).file("f").end(),
            version,
        ),
        ("sparse name alone", t().pax(&[("GNU.sparse.name", b"f")]).file("good").end(), version),
        ("file of V7", t().v7(0, "f", b"data").end(), "refused entry `f`: its header is of the V7 format, which is not supported"),
        (
            "directory of V7",
            t().v7(0, "d/", b"").end(),
            "refused entry `d/`: its header is of the V7 format, which is not supported",
        ),
        ("entry without a type", t().entry(0, b"f", b"", b"data").end(), "refused entry `f`: its type `\\u{0}` is not supported"),
        (
            "sparse map of a million runs",
            t().pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"4")])
                .entry(b'0', b"f", b"", &[&b"1000000\n0\n1\n"[..], &[0; 1000]].concat())
                .end(),
            "refused entry `f`: its sparse map has more than 262144 parts",
        ),
        ("size bomb", t().lying(b'0', b"f", b"", 7 << 30, b"").end(), "archive unpacks to more than 67108864 bytes"),
        ("no end marker", t().file("f").0, "archive is truncated: it ends at byte 1024 of its tar stream, before its end marker"),
        ("nothing", Vec::new(), "archive is truncated: it ends at byte 0 of its tar stream, before its end marker"),
        (
            "lone zero block",
            Tar([t().file("f").0, vec![0; 512]].concat()).file("g").end(),
            "header at byte 1024 of the tar stream is damaged: a zero block is followed by something else",
        ),
        ("not a tar", vec![b'x'; 2048], "header at byte 0 of the tar stream is damaged: its checksum does not match"),
    ]
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
