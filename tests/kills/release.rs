//! A small release of our own: a signed tarball of the shape of a stage3, of which we know every file.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::place::{Place, expect_success};

const NAME: &str = "stage3-amd64-kills-20260811T083102Z.tar.xz";
const FILES: u32 = 3000;

/// The tarball, and what must be there once it is imported.
#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) tarball: PathBuf,
    /// One line for each entry, sorted: path, type, mode, owner, group, bytes.
    pub(crate) listing: String,
}

impl Release {
    /// Makes key, tarball, digests and signatures in `place`, and trusts the key.
    pub(crate) fn new(place: &Place) -> Self {
        let dir = place.path("release");
        std::fs::create_dir(&dir).unwrap();
        let (tar, listing) = archive();
        std::fs::write(dir.join("tar"), tar).unwrap();
        let tarball = dir.join(NAME);
        let mut xz = place.command("xz");
        // Small blocks, so that several threads decode it as they do a real one.
        xz.args(["-1", "-T2", "--block-size=512KiB", "-c"]).arg(dir.join("tar"));
        xz.stdout(std::fs::File::create(&tarball).unwrap());
        assert!(xz.status().unwrap().success());
        std::fs::remove_file(dir.join("tar")).unwrap();
        let gpg = |arguments: &[&str]| {
            let mut gpg = place.command("gpg");
            gpg.args(["--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback"]).args(arguments);
            gpg
        };
        expect_success(&mut gpg(&["--quick-gen-key", "Kills <kills@example.org>", "ed25519", "sign", "1y"]));
        let path = tarball.to_str().unwrap();
        expect_success(&mut gpg(&["--armor", "--output", &format!("{path}.asc"), "--detach-sign", path]));
        let mut digests = String::new();
        for (title, program) in [("BLAKE2B", "b2sum"), ("SHA512", "sha512sum")] {
            let line = expect_success(place.command(program).arg(NAME).current_dir(&dir));
            let _ = write!(digests, "# {title} HASH\n{line}");
        }
        let mut sign = gpg(&["--clearsign", "--output", &format!("{path}.DIGESTS")]).stdin(Stdio::piped()).spawn().unwrap();
        sign.stdin.take().unwrap().write_all(digests.as_bytes()).unwrap();
        assert!(sign.wait().unwrap().success());
        let key = dir.join("key.asc");
        expect_success(&mut gpg(&["--armor", "--output", key.to_str().unwrap(), "--export"]));
        place.run(&["keys", "import", "--trust", "--comment", "kills", key.to_str().unwrap()]);
        // Its agent is not one of the processes that we look for later.
        expect_success(place.command("gpgconf").args(["--kill", "all"]));
        Self { tarball, listing }
    }

    /// Compares the one layer of the store with what was packed, as `find` inside the id map shows it.
    pub(crate) fn must_be_in(&self, place: &Place) {
        let layers = crate::place::names(&place.path("data/store/layers"));
        let [layer] = layers.as_slice() else { panic!("one layer expected, and there are {layers:?}") };
        let tree = place.path("data/store/layers").join(layer).join("fs");
        let found = place.in_map(&["find", tree.to_str().unwrap(), "-mindepth", "1", "-printf", r"%P %y %m %U %G %s\n"]);
        assert!(
            sorted(&found) == self.listing,
            "the imported tree is not what was packed: {}",
            difference(&sorted(&found), &self.listing)
        );
    }
}

fn difference(found: &str, expected: &str) -> String {
    let (found, expected): (Vec<&str>, Vec<&str>) = (found.lines().collect(), expected.lines().collect());
    let lacking = expected.iter().filter(|line| !found.contains(line)).take(5);
    let surplus = found.iter().filter(|line| !expected.contains(line)).take(5);
    format!("lacking {:?}, instead {:?}", lacking.collect::<Vec<_>>(), surplus.collect::<Vec<_>>())
}

fn sorted(text: &str) -> String {
    // The size of a directory is the file system's own business.
    let mut lines: Vec<String> =
        text.lines()
            .map(|line| {
                if line.split(' ').nth(1) == Some("d") {
                    format!("{} 0", line.rsplit_once(' ').unwrap().0)
                } else {
                    line.to_owned()
                }
            })
            .collect();
    lines.sort();
    lines.join("\n")
}

struct Packing {
    tar: tar::Builder<Vec<u8>>,
    listing: String,
}

impl Packing {
    fn entry(&mut self, path: &str, kind: tar::EntryType, mode: u32, owner: (u64, u64), data: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner.0);
        header.set_gid(owner.1);
        header.set_mtime(1_786_000_000);
        let letter = match kind {
            tar::EntryType::Directory => "d",
            tar::EntryType::Symlink => "l",
            _ => "f",
        };
        let (shown, size) = if kind == tar::EntryType::Symlink { (0o777, data.len()) } else { (mode, data.len()) };
        let _ = writeln!(self.listing, "{path} {letter} {shown:o} {} {} {size}", owner.0, owner.1);
        if kind == tar::EntryType::Symlink {
            header.set_size(0);
            self.tar.append_link(&mut header, Path::new(path), std::str::from_utf8(data).unwrap()).unwrap();
        } else {
            header.set_size(data.len() as u64);
            self.tar.append_data(&mut header, Path::new(path), data).unwrap();
        }
    }
}

/// A few thousand files with several owners and modes, incompressible, so that decoding takes its time.
fn archive() -> (Vec<u8>, String) {
    let mut packing = Packing { tar: tar::Builder::new(Vec::new()), listing: String::new() };
    let mut noise: u64 = 1;
    for dir in ["etc", "root", "usr", "usr/bin", "usr/lib", "var", "var/lib"] {
        packing.entry(dir, tar::EntryType::Directory, 0o755, (0, 0), b"");
    }
    packing.entry("bin", tar::EntryType::Symlink, 0o777, (0, 0), b"usr/bin");
    packing.entry("usr/bin/su", tar::EntryType::Regular, 0o4711, (0, 0), b"set-id");
    packing.entry("var/lib/portage", tar::EntryType::Directory, 0o2775, (250, 250), b"");
    packing.entry("var/lib/portage/world", tar::EntryType::Regular, 0o644, (250, 250), b"world");
    for number in 0..FILES {
        if number % 100 == 0 {
            packing.entry(&format!("usr/lib/{}", number / 100), tar::EntryType::Directory, 0o755, (0, 0), b"");
        }
        let size = 200 + (number * 37) % 9000;
        let data: Vec<u8> = (0..size)
            .map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (noise >> 56) as u8
            })
            .collect();
        let owner = [(0, 0), (250, 250), (1000, 100), (65_534, 65_534)][number as usize % 4];
        let mode = [0o644, 0o755, 0o600, 0o640][(number as usize / 4) % 4];
        packing.entry(&format!("usr/lib/{}/file {number}", number / 100), tar::EntryType::Regular, mode, owner, &data);
    }
    (packing.tar.into_inner().unwrap(), sorted(&packing.listing))
}
