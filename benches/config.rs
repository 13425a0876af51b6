//! Functions of the config module: a configuration of 500 fragments and 20,000 lines, read, merged, rendered, checked.

use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput};
use gentoomuch::internals::config::ConfigDir;
use gentoomuch::internals::portage::package_files::{self, LineFile};

const FRAGMENTS: usize = 500;
/// Of each fragment: `make.conf` has 10, `package.use` 20, the others 10 together.
const LINES: usize = 40;

/// A package that each of some fragments says something about; never the contrary of what another says.
fn atom(n: usize) -> String {
    let (category, package) = (n % 97, n % 3001);
    match n % 5 {
        0 => format!(">=cat-{category}/lib{package}-{}.{}", n % 7, n % 3),
        1 => format!("cat-{category}/lib{package}:{}", n % 4),
        2 => format!("cat-{category}/lib{package}::gentoo"),
        _ => format!("cat-{category}/lib{package}"),
    }
}

fn make_conf(n: usize) -> String {
    let mut text = String::from("# what this fragment is for\nUSE=\"");
    for flag in 0..6 {
        let _ = write!(text, "flag{} -no{}\n  ", (n * 5 + flag) % 1500, (n + flag) % 700);
    }
    let _ = write!(text, "\"\nVIDEO_CARDS=\"card{}\"\nVARIABLE_{n}=\"value of ${{COMMON_FLAGS}}\"\n", n % 20);
    text
}

fn package_use(n: usize) -> String {
    (0..20).fold(String::new(), |mut text, line| {
        let number = n * 13 + line;
        let _ = writeln!(text, "{} flag{number} -no{} VIDEO_CARDS: card{} # why", atom(number), number % 50, number % 9);
        text
    })
}

/// A configuration directory whose stage `fleet` uses all of it.
fn generate(root: &Path) {
    let write = |path: String, text: String| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a temporary directory can be written");
        fs::write(path, text).expect("a temporary directory can be written");
    };
    let mut names = String::new();
    let mut lines = 0;
    for n in 0..FRAGMENTS {
        let name = format!("part-{}/fragment-{n:03}", n % 10);
        let _ = writeln!(names, "{name}");
        let fragment = format!("portage.locals/{name}");
        let four = |words: &str| (0..4).map(|line| format!("{}{words}\n", atom(n * 7 + line))).collect::<Vec<_>>().concat();
        let keywords: Vec<String> = (0..3).map(|line| format!("{} ~amd64\n", atom(n * 11 + line))).collect();
        let masks: Vec<String> = (0..3).map(|line| format!("<cat-{line}/masked-{n}-2\n")).collect();
        for (file, text) in [
            ("make.conf", make_conf(n)),
            ("package.use/base", package_use(n)),
            ("package.license", four(" licence-a @GROUP")),
            ("package.accept_keywords", keywords.concat()),
            ("package.mask/list", masks.concat()),
        ] {
            lines += text.lines().count();
            write(format!("{fragment}/{file}"), text);
        }
    }
    assert_eq!(lines, FRAGMENTS * LINES);
    write("portage.global/make.conf".to_owned(), "COMMON_FLAGS=\"-O2 -pipe\"\n".to_owned());
    write("stage3.defines/fleet/portage.local".to_owned(), names);
    write("stage4.defines/fleet/stage3".to_owned(), "fleet\n".to_owned());
    write("stage4.defines/fleet/profile".to_owned(), "demo\n".to_owned());
}

fn whole_directories(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("there is a temporary directory");
    generate(dir.path());
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
