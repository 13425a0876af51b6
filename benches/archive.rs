//! Functions of the archive module: names, unpacking of many small files, packing.

use std::fs::{self, File};
use std::hint::black_box;
use std::os::fd::AsFd;
use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput};
use gentoomuch::internals::archive::{
    Excludes, Format, OwnerNames, Owners, PackOptions, UnpackOptions, decode, name, pack, unpack,
};
use gentoomuch::internals::beneath::Way;

const FILES: usize = 2000;

/// A tree like a root file system's: most files small, some large.
fn make_tree(root: &Path) {
    for n in 0..FILES {
        let directory = root.join(format!("usr/share/package-{}", n / 20));
        fs::create_dir_all(&directory).expect("a temporary directory can be written");
        let size = if n % 100 == 0 { 1 << 20 } else { 100 + n * 7 % 9000 };
        let text: Vec<u8> = (0..size).map(|i| b"the quick brown fox "[(i * 7 + n) % 20]).collect();
        fs::write(directory.join(format!("file-{n}.txt")), text).expect("a temporary directory can be written");
    }
}

fn options(format: Format) -> PackOptions {
    PackOptions {
        view: gentoomuch::internals::archive::View::Merged,
        format,
        level: None,
        threads: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
        exclude: Excludes::default(),
        mtime_clamp: 0,
        mtime_floor: i64::MIN,
        names: OwnerNames::default(),
        digests: Vec::new(),
    }
}

fn names(c: &mut Criterion) {
    c.bench_function("normalise a path", |b| {
        b.iter(|| name::normalise(black_box(b"./usr/lib/python3.13/site-packages/portage/__init__.py"), 4000, 512));
    });
}

fn trees(c: &mut Criterion) {
    let place = tempfile::tempdir().expect("a temporary directory");
    let tree = place.path().join("tree");
    make_tree(&tree);
    let root = File::open(&tree).expect("the tree was just made");
    let mut group = c.benchmark_group("tree of 2000 files");
    group.sample_size(10).throughput(Throughput::Elements(FILES as u64));
    for format in [Format::TarXz, Format::TarZst, Format::TarGz] {
        group.bench_function(format!("pack {format:?}"), |b| {
            b.iter(|| pack(root.as_fd(), std::io::sink(), &options(format), &mut |_| {}));
        });
    }
    let archive = place.path().join("a.tar.zst");
    let out = File::create(&archive).expect("a temporary directory can be written");
    pack(root.as_fd(), out, &options(Format::TarZst), &mut |_| {}).expect("the tree can be packed");
    for way in [Way::Kernel, Way::Stepwise] {
        let how = UnpackOptions { owners: Owners::Ignore, way, ..UnpackOptions::default() };
        group.bench_function(if way == Way::Stepwise { "unpack without openat2" } else { "unpack" }, |b| {
            b.iter_batched(
                || tempfile::tempdir_in(place.path()).expect("a temporary directory"),
                |into| {
                    let input = decode::open_file(File::open(&archive).expect("just written"), 2, &[]).expect("a thread");
                    let fd = File::open(into.path()).expect("just made");
                    unpack(input, fd.as_fd(), &how, &mut |_| {}).expect("our own archive unpacks");
                    into
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    names(&mut criterion);
    trees(&mut criterion);
    criterion.final_summary();
}
