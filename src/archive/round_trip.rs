//! Tests over the whole module: our archives in GNU tar's hands and its archives in ours.

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use super::digest::Algorithm;
use super::error::Result;
use super::exclude::Excludes;
use super::pack::{PackOptions, Packed, View, measure, pack};
use super::*;
use crate::beneath::Way;

/// Runs a program, which must succeed; returns what it printed.
fn run(program: &str, args: &[&str], directory: &Path) -> String {
    let output = Command::new(program)
        .args(args)
        .current_dir(directory)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .output()
        .unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    // Only compared with itself; names that are not UTF-8 stay different enough.
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What an independent tool sees of a tree: type, mode, owner, size, links, time, path, target; and contents.
fn listing(root: &Path) -> String {
    let format = "%y %m %U:%G %s %n %T@ %p %l\\n";
    let mut lines: Vec<String> =
        run("find", &[".", "(", "-type", "d", "-printf", "%y %m %U:%G - - %T@ %p\\n", ")", "-o", "-printf", format], root)
            .lines()
            .map(str::to_owned)
            .collect();
    lines.sort();
    let sums = run("sh", &["-c", "find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum"], root);
    lines.join("\n") + "\n" + &sums
}

/// Shows only the lines that differ.
fn assert_same(a: &str, b: &str, what: &str) {
    let (a, b): (Vec<_>, Vec<_>) = (a.lines().collect(), b.lines().collect());
    let only = |x: &[&str], y: &[&str]| x.iter().filter(|line| !y.contains(line)).copied().collect::<Vec<_>>().join("\n");
    assert!(a == b, "{what}:\n{}\nagainst\n{}", only(&a, &b), only(&b, &a));
}

fn set_mtime(path: &Path, secs: i64, nanos: i64) {
    let time = rustix::fs::Timespec { tv_sec: secs, tv_nsec: nanos };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// A tree with something of everything that needs no privileges.
fn make_tree(root: &Path) {
    let deep: PathBuf = ["a-directory-name-of-thirty-chars"; 9].iter().collect();
    for directory in ["bin", "etc", "empty", "with space", "bin.d", "x/y/z"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::create_dir_all(root.join(&deep)).unwrap();
    fs::write(root.join(&deep).join("file"), "deep").unwrap();
    fs::write(root.join("x").join("n".repeat(200)), "long name").unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nme:x:12345:12345::/:\n").unwrap();
    fs::write(root.join("with space/schöne Grüße \\ und\tTab"), "utf-8").unwrap();
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"latin-\xe4")), "latin").unwrap();
    fs::write(root.join("big"), (0..300_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>()).unwrap();
    fs::write(root.join("exact"), [7; 1024]).unwrap();
    fs::write(root.join("zero"), "").unwrap();
    fs::hard_link(root.join("big"), root.join("bin/linked")).unwrap();
    fs::hard_link(root.join("big"), root.join("x/y/z/also linked")).unwrap();
    symlink("../etc/passwd", root.join("bin/link")).unwrap();
    symlink("t/".repeat(120), root.join("bin/long link")).unwrap();
    symlink("nach/öben", root.join("bin/link ö")).unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(5 << 20).unwrap();
    rustix::io::pwrite(&sparse, &[1; 4096], 2 << 20).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), rustix::fs::FileType::Fifo, 0o640.into(), 0).unwrap();
    for (path, mode) in
        [("bin/linked", 0o4755), ("etc", 0o2750), ("empty", 0o1777), ("exact", 0o600), ("zero", 0o444), ("x/y", 0o555)]
    {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    for (path, secs, nanos) in
        [("big", 1_000_000_000, 123_456_789), ("zero", -5, 0), ("bin/link", 77, 0), ("fifo", 88, 0), ("exact", 4_000_000_000, 0)]
    {
        set_mtime(&root.join(path), secs, nanos);
    }
    for directory in ["bin", "etc", "empty", "with space", "bin.d", "x/y", "x"] {
        set_mtime(&root.join(directory), 1_600_000_000, 0);
    }
}

fn unpack_file(archive: &Path, into: &Path, stepwise: bool) -> Result<Unpacked> {
    fs::create_dir_all(into).unwrap();
    let decoder = decode::open_file(File::open(archive).unwrap(), 2, &[]).unwrap();
    let options = UnpackOptions {
        owners: Owners::Ignore,
        way: if stepwise { Way::Stepwise } else { Way::Kernel },
        ..UnpackOptions::default()
    };
    let directory = File::open(into).unwrap();
    let mut seen = 0;
    let unpacked = unpack(decoder, directory.as_fd(), &options, &mut |n| seen += n)?;
    assert_eq!(seen, unpacked.stream_bytes);
    Ok(unpacked)
}

fn options(format: Format) -> PackOptions {
    PackOptions {
        view: super::pack::View::Merged,
        format,
        level: Some(1),
        threads: 2,
        exclude: Excludes::default(),
        mtime_clamp: i64::MAX,
        mtime_floor: i64::MIN,
        names: OwnerNames::default(),
        digests: vec![Algorithm::Sha256],
    }
}

fn pack_tree(root: &Path, out: &Path, options: &PackOptions) -> Packed {
    let directory = File::open(root).unwrap();
    let mut seen = 0;
    let packed = pack(directory.as_fd(), File::create(out).unwrap(), options, &mut |n| seen += n).unwrap();
    assert_eq!(seen, packed.bytes_tar);
    packed
}

#[test]
fn gnu_tars_archives_unpack_as_gnu_tar_unpacks_them() {
    let place = tempfile::tempdir().unwrap();
    let tree = place.path().join("tree");
    fs::create_dir(&tree).unwrap();
    make_tree(&tree);
    for (n, (format, compress)) in
        [("gnu", "xz -T2 --block-size=1MiB"), ("posix", "zstd -1 -q"), ("posix", "gzip -1"), ("gnu", "cat")].into_iter().enumerate()
    {
        for sparse in [None, Some("1.0")] {
            let archive = place.path().join(format!("{n}.tar"));
            let name = archive.to_str().unwrap();
            let holes = sparse.map_or(String::new(), |v| format!("-S --sparse-version={v}"));
            run("sh", &["-c", &format!("tar -c --format={format} {holes} . | {compress} > {name}")], &tree);
            {
                let stepwise = sparse.is_none();
                let (ours, theirs) = (place.path().join("ours"), place.path().join("theirs"));
                let unpacked = unpack_file(&archive, &ours, stepwise).unwrap();
                fs::create_dir(&theirs).unwrap();
                run("sh", &["-c", &format!("{} < {name} | tar -xp --no-same-owner", decompressor(compress))], &theirs);
                assert_same(&listing(&ours), &listing(&theirs), &format!("{format} {compress} {sparse:?} {stepwise}"));
                assert_eq!(unpacked.hardlinks, 2);
                let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(ours.join("sparse")).unwrap());
                assert!(sparse.is_none() || blocks < 64, "holes became {blocks} blocks");
                run("chmod", &["-R", "u+rwX", "ours", "theirs"], place.path());
                fs::remove_dir_all(&ours).unwrap();
                fs::remove_dir_all(&theirs).unwrap();
            }
        }
    }
}

/// GNU tar writes them if it is told to; no stage3 has them.
#[test]
fn formats_that_no_stage3_has_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let tree = place.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let sparse = File::create(tree.join("sparse")).unwrap();
    sparse.set_len(5 << 20).unwrap();
    rustix::io::pwrite(&sparse, &[1; 4096], 2 << 20).unwrap();
    let version = "refused entry `sparse`: its sparse format is not GNU's version 1.0; other versions are not supported";
    for (options, expected) in [
        ("--format=posix -S --sparse-version=0.0", version),
        ("--format=posix -S --sparse-version=0.1", version),
        ("--format=v7", "refused entry `sparse`: its header is of the V7 format, which is not supported"),
    ] {
        run("sh", &["-c", &format!("tar -c {options} -f ../x.tar sparse")], &tree);
        let error = unpack_file(&place.path().join("x.tar"), &place.path().join("ours"), false).unwrap_err();
        assert_eq!(crate::causes::in_one_line(&error), expected, "{options}");
    }
}

fn decompressor(compress: &str) -> &str {
    match compress.split(' ').next() {
        Some("xz") => "xz -dc",
        Some("zstd") => "zstd -dcq",
        Some("gzip") => "gzip -dc",
        _ => "cat",
    }
}

#[test]
fn our_archives_unpack_the_same_with_gnu_tar_and_with_us() {
    let place = tempfile::tempdir().unwrap();
    let tree = place.path().join("tree");
    fs::create_dir(&tree).unwrap();
    make_tree(&tree);
    // Whole seconds are what an archive of ours keeps.
    set_mtime(&tree.join("big"), 1_000_000_000, 0);
    run("sh", &["-c", "find . -exec touch -h -d '@1500000000' {} +"], &tree);
    for format in [Format::TarXz, Format::TarZst, Format::TarGz] {
        let archive = place.path().join(format!("a.{format:?}"));
        let packed = pack_tree(&tree, &archive, &options(format));
        let decompress = decompressor(["xz", "zstd", "gzip"][format as usize]);
        let name = archive.to_str().unwrap();
        let (ours, theirs) = (place.path().join("ours"), place.path().join("theirs"));
        unpack_file(&archive, &ours, false).unwrap();
        fs::create_dir(&theirs).unwrap();
        run("sh", &["-c", &format!("{decompress} < {name} | tar -xp --no-same-owner")], &theirs);
        assert_same(&listing(&ours), &listing(&theirs), &format!("{format:?}"));
        // `find` shows owners; in this test both are the caller's.
        assert_same(&listing(&ours), &listing(&tree), &format!("{format:?}"));
        let verbose = run("sh", &["-c", &format!("{decompress} < {name} | tar -tv")], &tree);
        assert_same(&String::from_utf8_lossy(&packed.contents), &verbose, "contents");
        assert_eq!(packed.entries, verbose.lines().count() as u64);
        let sum = run("sha256sum", &[name], &tree);
        assert!(sum.starts_with(packed.digests.get(Algorithm::Sha256)), "{sum}");
        run("chmod", &["-R", "u+rwX", "ours", "theirs"], place.path());
        fs::remove_dir_all(&ours).unwrap();
        fs::remove_dir_all(&theirs).unwrap();
    }
}

/// Those of the formats' own programs. With others, the same state would have other bytes.
#[test]
fn levels_stay_as_they_are() {
    let formats = [Format::TarXz, Format::TarZst, Format::TarGz, Format::Tar];
    assert_eq!(formats.map(Format::default_level), [6, 3, 6, 0]);
}

/// Order of creation, umask, thread count and directory hashing must not show.
#[test]
fn two_archives_of_one_tree_are_identical() {
    let place = tempfile::tempdir().unwrap();
    let names = ["b", "a.b", "a/x", "a0", "ä", "A", "a-", "z/1", "z/2", "z.d/1"];
    let mut sums = BTreeMap::new();
    for (n, order) in [names.to_vec(), names.iter().rev().copied().collect()].into_iter().enumerate() {
        let tree = place.path().join(format!("tree{n}"));
        for name in order {
            let path = tree.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut file = File::create(&path).unwrap();
            // More than one xz block and one zstd job at these levels.
            let noise: Vec<String> = (0..60_000_u32).map(|i| format!("{name} {} ", i.wrapping_mul(2_654_435_761))).collect();
            let noise = noise.concat();
            file.write_all(noise.as_bytes()).unwrap();
        }
        run("chmod", &["-R", "u=rwX,go=rX", "."], &tree);
        for format in [Format::TarXz, Format::TarZst, Format::TarGz] {
            for threads in [1, 2, 5] {
                let out = place.path().join(format!("{n}-{threads}.{format:?}"));
                let packed = pack_tree(&tree, &out, &PackOptions { threads, mtime_clamp: 1_400_000_000, ..options(format) });
                let names: Vec<_> = std::str::from_utf8(&packed.contents)
                    .unwrap()
                    .lines()
                    .map(|l| l.split(" ./").nth(1).unwrap().to_owned())
                    .collect();
                assert_eq!(names, ["", "A", "a-", "a.b", "a/", "a/x", "a0", "b", "z.d/", "z.d/1", "z/", "z/1", "z/2", "ä"]);
                assert!(String::from_utf8_lossy(&packed.contents).lines().all(|line| line.contains("2014-05-13 16:53")));
                let first = sums.entry(format).or_insert_with(|| packed.clone());
                assert_eq!(&packed, first, "{format:?} {threads} threads");
            }
        }
    }
}

#[test]
fn times_are_bounded_on_both_sides() {
    let place = tempfile::tempdir().unwrap();
    let tree = place.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for (name, secs) in [("early", -5), ("late", 9_000_000_000), ("within", 1_400_000_000)] {
        fs::write(tree.join(name), name).unwrap();
        set_mtime(&tree.join(name), secs, 0);
    }
    let bounded = PackOptions { mtime_clamp: i64::from(u32::MAX), mtime_floor: 0, ..options(Format::Tar) };
    let packed = pack_tree(&tree, &place.path().join("tar"), &bounded);
    let listing = String::from_utf8(packed.contents).unwrap();
    for line in ["1970-01-01 00:00 ./early", "2106-02-07 06:28 ./late", "2014-05-13 16:53 ./within"] {
        assert!(listing.contains(line), "{listing}");
    }
}

#[test]
fn what_is_excluded_is_not_there_and_links_to_it_become_files() {
    let place = tempfile::tempdir().unwrap();
    let tree = place.path().join("tree");
    for path in ["etc/machine-id", "usr/src/linux/Makefile", "usr/src/linux/.config", "var/tmp/a/b", "var/log/x"] {
        fs::create_dir_all(tree.join(path).parent().unwrap()).unwrap();
        fs::write(tree.join(path), path).unwrap();
    }
    fs::hard_link(tree.join("etc/machine-id"), tree.join("var/log/y")).unwrap();
    let exclude = Excludes::new(["/etc/machine-id", "/usr/src", "/var/tmp/*"], ["/usr/src/linux/.config"]).unwrap();
    let out = place.path().join("a.tar.gz");
    pack_tree(&tree, &out, &PackOptions { exclude, ..options(Format::TarGz) });
    let names = run("tar", &["-tf", out.to_str().unwrap()], place.path());
    let expected = "./\n./etc/\n./usr/\n./usr/src/\n./usr/src/linux/\n./usr/src/linux/.config\n./var/\n./var/log/\n./var/log/x\n./var/log/y\n./var/tmp/\n";
    assert_eq!(names, expected);
    assert_eq!(run("tar", &["-xOf", out.to_str().unwrap(), "./var/log/y"], place.path()), "etc/machine-id");
}

#[test]
fn a_file_index_after_the_end_is_tolerated() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("t")).unwrap();
    fs::write(place.path().join("t/f"), "x").unwrap();
    // pixz writes its index as another block after the tar, inside the same xz stream.
    run("sh", &["-c", "(tar c t; printf 'L\\046\\303\\056MA\\256\\333 index, not zeros') | xz -T2 > a.tar.xz"], place.path());
    let unpacked = unpack_file(&place.path().join("a.tar.xz"), &place.path().join("out"), false).unwrap();
    assert_eq!((unpacked.files, unpacked.directories), (1, 1));
}

#[test]
fn several_xz_streams_are_one_archive() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("f"), vec![9; 3 << 20]).unwrap();
    run(
        "sh",
        &["-c", "tar cf a.tar f; (head -c 1000000 a.tar | xz; head -c 8 /dev/zero; tail -c +1000001 a.tar | xz) > a.tar.xz"],
        place.path(),
    );
    assert_eq!(unpack_file(&place.path().join("a.tar.xz"), &place.path().join("out"), false).unwrap().files, 1);
    run("sh", &["-c", "(cat a.tar.xz; echo garbage) > b.tar.xz"], place.path());
    let error = unpack_file(&place.path().join("b.tar.xz"), &place.path().join("out2"), false).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "there is other data after the xz data");
}

#[test]
fn user_attributes_travel_both_ways() {
    let place = tempfile::tempdir().unwrap();
    let tree = place.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("f"), "x").unwrap();
    let file = File::open(tree.join("f")).unwrap();
    let value = b"two\nlines\0and = more";
    for name in ["user.note", "user.a=b%c", "user.overlay.opaque"] {
        if rustix::fs::fsetxattr(&file, name, value, rustix::fs::XattrFlags::empty()).is_err() {
            assert!(std::env::var_os("GENTOOMUCH_TEST_STRICT").is_none(), "no user attributes here");
            return;
        }
    }
    let out = place.path().join("a.tar.zst");
    pack_tree(&tree, &out, &options(Format::TarZst));
    unpack_file(&out, &place.path().join("ours"), false).unwrap();
    fs::create_dir(place.path().join("theirs")).unwrap();
    run("tar", &["--xattrs", "-xf", out.to_str().unwrap(), "-C", "theirs"], place.path());
    // GNU tar before 1.35 does not escape `=` in names.
    for (side, names) in [("ours", &["user.note", "user.a=b%c"][..]), ("theirs", &["user.note"])] {
        let file = File::open(place.path().join(side).join("f")).unwrap();
        let mut buffer = [0; 100];
        for name in names {
            let n = rustix::fs::fgetxattr(&file, *name, buffer.as_mut_slice()).unwrap_or_else(|e| panic!("{side} {name}: {e}"));
            assert_eq!(&buffer[..n], value, "{side} {name}");
        }
        assert!(rustix::fs::fgetxattr(&file, "user.overlay.opaque", buffer.as_mut_slice()).is_err());
    }
    run("tar", &["--xattrs", "-C", "tree", "-cf", "gnu.tar", "f"], place.path());
    let unpacked = unpack_file(&place.path().join("gnu.tar"), &place.path().join("from gnu"), false).unwrap();
    assert_eq!(unpacked.xattrs_dropped, 1);
    let file = File::open(place.path().join("from gnu/f")).unwrap();
    let mut buffer = [0; 100];
    let n = rustix::fs::fgetxattr(&file, "user.note", buffer.as_mut_slice()).unwrap();
    assert_eq!(&buffer[..n], value);
}

/// A package that leaves a hole of 4 TiB must not occupy whoever exports it for a day.
#[test]
fn holes_beyond_the_limit_are_refused_before_they_are_read() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir_all(place.path().join("usr/share")).unwrap();
    let root = File::open(place.path()).unwrap();
    for (size, expected) in [
        (4 << 40, "`usr/share/hole` has more than 68719476736 bytes"),
        (9 << 30, "`usr/share/hole` has too large holes: the files of a tree may have 8 GiB of them in all"),
    ] {
        File::create(place.path().join("usr/share/hole")).unwrap().set_len(size).unwrap();
        for view in [View::Merged, View::Layer] {
            let options = PackOptions { view, ..options(Format::Tar) };
            let error = pack(root.as_fd(), std::io::sink(), &options, &mut |_| {}).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}

/// One directory more than a process may have descriptors, in each of them one file.
#[test]
fn trees_deeper_than_descriptors_are_packed() {
    let place = tempfile::tempdir().unwrap();
    let mut here = std::os::fd::OwnedFd::from(File::open(place.path()).unwrap());
    for _ in 0..1100 {
        rustix::fs::mkdirat(&here, "d", rustix::fs::Mode::RWXU).unwrap();
        here = rustix::fs::openat(&here, "d", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    }
    let root = File::open(place.path()).unwrap();
    let packed = pack(root.as_fd(), std::io::sink(), &options(Format::Tar), &mut |_| {}).unwrap();
    assert_eq!(packed.entries, 1101);
    crate::beneath::remove_tree(&place.path().join("d")).unwrap();
}

#[test]
fn the_length_of_an_archive_is_known_before() {
    let place = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: usize| {
        let path = place.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![b'x'; bytes]).unwrap();
    };
    write("usr/bin/tool", 30_000);
    write("usr/share/doc/left out", 1 << 20);
    write("etc/empty", 0);
    fs::hard_link(place.path().join("usr/bin/tool"), place.path().join("usr/bin/same")).unwrap();
    symlink("tool", place.path().join("usr/bin/other")).unwrap();
    let root = File::open(place.path()).unwrap();
    let none: [&str; 0] = [];
    let options = PackOptions { exclude: Excludes::new(["/usr/share/doc"], none).unwrap(), ..options(Format::Tar) };
    let packed = pack(root.as_fd(), std::io::sink(), &options, &mut |_| {}).unwrap();
    assert_eq!(measure(root.as_fd(), &options, &AtomicBool::new(false)), Some(packed.bytes_tar));
    assert!(packed.bytes_tar < 1 << 20, "{packed:?}");
    assert_eq!(measure(root.as_fd(), &options, &AtomicBool::new(true)), None);
}
