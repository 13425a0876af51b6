//! What is refused, and in which words.

use super::tar::Tar;

/// What each kind of attack is answered with.
pub(crate) fn refused() -> Vec<(&'static str, Vec<u8>, &'static str)> {
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
