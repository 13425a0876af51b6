//! Functions of the config module: a configuration of 500 fragments and 20,000 lines, read, merged, rendered, checked.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use gentoomuch::internals::config::ConfigDir;
use gentoomuch::internals::portage::package_files::{self, LineFile};

#[path = "shared/fragments.rs"]
mod fragments;

use fragments::{LINES, generate, package_use};

const FRAGMENTS: usize = 500;

fn whole_directories(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("there is a temporary directory");
    generate(dir.path(), FRAGMENTS);
    let config = ConfigDir::open(dir.path()).expect("it was just made");
    let fleet = config.stage3("fleet").expect("it is right");
    let mut group = c.benchmark_group("500 fragments, 20,000 lines");
    group.sample_size(20);
    group.throughput(Throughput::Elements((FRAGMENTS * LINES) as u64));
    group.bench_function("definition read", |b| b.iter(|| config.stage3(black_box("fleet")).expect("it is right")));
    group.bench_function("read, merged and rendered", |b| {
        b.iter(|| config.portage_dir(black_box(&fleet)).unwrap_or_else(|_| panic!("nothing contradicts")).files.len());
    });
    group.bench_function("check of the whole directory", |b| b.iter(|| config.check(black_box("amd64")).len()));
    group.finish();
}

fn lines(c: &mut Criterion) {
    let text: String = (0..1000).map(package_use).collect();
    let mut group = c.benchmark_group("20,000 lines");
    group.sample_size(20);
    group.throughput(Throughput::Elements(20_000));
    group.bench_function("package.use parsed", |b| {
        b.iter(|| package_files::parse(LineFile::Use, black_box(&text)).0.len());
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    whole_directories(&mut criterion);
    lines(&mut criterion);
    criterion.final_summary();
}
