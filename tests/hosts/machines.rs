//! Hosts in virtual machines.
//!
//! All hosts of a kernel are made one after the other in one machine. What is downloaded and made for it is kept in
//! `~/.cache/gentoomuch-hosts`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::climb::Climb;
use crate::table::{Host, NOBODY, Place};
use crate::{PROGRAM, script, skip};

/// `image` ends with it where this host cannot have what a machine needs.
const CANNOT: i32 = 3;

pub(crate) fn climb_all(place: Place) {
    let hosts = crate::hosts(place);
    if hosts.is_empty() {
        return;
    }
    let Some(image) = Image::new(place) else { return };
    let output = image.boot(&hosts);
    let climbs: Vec<_> = hosts.iter().map(|host| (*host, climb(&output, host.name))).collect();
    crate::judge(place, &climbs);
}

/// Where machines keep what they are made of.
fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(".cache"), PathBuf::from);
    base.join("gentoomuch-hosts")
}

/// What boots.
pub(crate) struct Image {
    dir: PathBuf,
    qemu: String,
    vmlinuz: String,
    initrd: String,
}

impl Image {
    /// Said aloud, where there is none for this kernel.
    pub(crate) fn new(place: Place) -> Option<Self> {
        let dir = cache();
        std::fs::create_dir_all(&dir).unwrap();
        let output = Command::new(script("image")).arg(&dir).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(CANNOT) {
            // No failure where nothing may be skipped, either: only Debian has these kernels.
            eprintln!("skipped: {}", said.lines().last().unwrap_or_default());
            return None;
        }
        assert!(output.status.success(), "image: {said}");
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
        let qemu = lines.iter().find(|line| line[0] == "qemu").expect("qemu")[1].to_owned();
        let Some(kernel) = lines.iter().find(|line| line[..2] == ["kernel", place.kernel()]) else {
            skip(&format!("apt knows no Linux {}", place.kernel()));
            return None;
        };
        Some(Self { dir, qemu, vmlinuz: kernel[2].to_owned(), initrd: kernel[3].to_owned() })
    }

    /// What the machine wrote, with these hosts one after the other.
    fn boot(&self, hosts: &[&Host]) -> String {
        let mut lines = String::new();
        for host in hosts {
            let _ = writeln!(lines, "{}\t{}", host.name, host.made);
        }
        self.boot_with(&lines, &[])
    }

    /// What the machine wrote that has these lines on its first disk; `more` for `boot`.
    pub(crate) fn boot_with(&self, lines: &str, more: &[&str]) -> String {
        let scratch = tempfile::tempdir_in(&self.dir).unwrap();
        let list = scratch.path().join("lines");
        std::fs::write(&list, lines).unwrap();
        let stage3 = crate::stage3(scratch.path(), NOBODY);
        let output = Command::new(script("boot"))
            .arg(&self.dir)
            .args([&self.qemu, &self.vmlinuz, &self.initrd, PROGRAM])
            .args([&stage3, &list])
            .args(more)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// The part of the output that is about one host.
fn climb(output: &str, name: &str) -> Climb {
    let begin = format!("@host {name}\n");
    let Some((_, rest)) = output.split_once(&begin) else { return Climb::default() };
    Climb::read(rest.split("@end\n").next().unwrap_or(rest))
}
