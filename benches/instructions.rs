//! Does one piece of work so many times and nothing else, for `benches/count-instructions`: what two runs differ by is the work alone.
//!
//!     instructions NAME TIMES      without arguments: the names
#![expect(clippy::unwrap_used, reason = "a program of its own, for people")]
#![expect(clippy::print_stdout, reason = "a program of its own")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;

use gentoomuch::internals::config::ConfigDir;
use gentoomuch::internals::portage::binpkgs::{Described, Index};

#[path = "shared/fleet.rs"]
mod fleet;
#[path = "shared/fragments.rs"]
mod fragments;

const FRAGMENTS: usize = 50;
const PACKAGES: usize = 1000;

/// What has a name, in the order of the table.
const WORKS: [(&str, fn(usize)); 5] = [("merge", merge), ("check", check), ("plan", plan), ("key", key), ("index", index)];

fn config() -> (tempfile::TempDir, ConfigDir) {
    let dir = tempfile::tempdir().unwrap();
    fragments::generate(dir.path(), FRAGMENTS);
    let config = ConfigDir::open(dir.path()).unwrap();
    (dir, config)
}

/// 50 fragments of 40 lines, read, merged and rendered.
fn merge(times: usize) {
    let (_dir, config) = config();
    let fleet = config.stage3("fleet").unwrap();
    for _ in 0..times {
        black_box(config.portage_dir(black_box(&fleet)).unwrap_or_else(|_| panic!("nothing contradicts")));
    }
}

/// The check of the same directory.
fn check(times: usize) {
    let (_dir, config) = config();
    for _ in 0..times {
        black_box(config.check("amd64"));
    }
}

/// The plan of 20 stage4s which are all there, and that nothing is done.
fn plan(times: usize) {
    fleet::with_fleet(|run| {
        for _ in 0..times {
            black_box(run());
        }
    });
}

/// The keys of 1,000 packages.
fn key(times: usize) {
    let words = |what: &str, count: usize| (0..count).map(|n| format!("{what}{n}")).collect::<Vec<_>>().join(" ");
    let described = Described {
        cpv: "dev-libs/openssl-3.5.1".to_owned(),
        repository: "gentoo".to_owned(),
        parts: (0..12).map(|n| (format!("part{n}"), "0123456789abcdef".repeat(4))).collect(),
        environment: BTreeMap::from(
            [("USE", words("flag", 60)), ("FEATURES", words("feature", 40)), ("CFLAGS", "-O2 -pipe -march=x86-64-v3".to_owned())]
                .map(|(name, value)| (name.to_owned(), value)),
        )
        .into_iter()
        .chain((0..150).map(|n| (format!("VARIABLE_{n}"), "of some length, as most of them have".to_owned())))
        .collect(),
        ..Described::default()
    };
    for _ in 0..times * PACKAGES {
        black_box(black_box(&described).key());
    }
}

/// The index of a pool of 1,000 packages, read and written.
fn index(times: usize) {
    let mut text = "ARCH: amd64\nCHOST: x86_64-pc-linux-gnu\nPACKAGES: 1000\nVERSION: 0\n\n".to_owned();
    for n in 0..PACKAGES {
        let _ = write!(
            text,
            "BUILD_ID: 1\nCPV: cat-{}/package{n}-1.{n}\nDEPEND: >=dev-libs/a-1:0= dev-libs/b[flag]\nEAPI: 8\nMD5: {n:032x}\nMTIME: {n}\n\
             PATH: cat/package{n}/package{n}-1.gpkg.tar\nRDEPEND: dev-libs/a dev-libs/b\nSHA1: {n:040x}\nSIZE: {n}\nUSE: a b c\n\n",
            n % 50
        );
    }
    for _ in 0..times {
        black_box(Index::parse(black_box(&text)).render(1));
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [name, times] = args.as_slice() else {
        for (name, _) in WORKS {
            println!("{name}");
        }
        return;
    };
    let (_, work) = WORKS.iter().find(|(known, _)| known == name).unwrap();
    work(times.parse().unwrap());
}
