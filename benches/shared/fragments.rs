//! A configuration of many fragments of 40 lines each.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Of each fragment: `make.conf` has 10, `package.use` 20, the others 10 together.
pub(crate) const LINES: usize = 40;

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

pub(crate) fn package_use(n: usize) -> String {
    (0..20).fold(String::new(), |mut text, line| {
        let number = n * 13 + line;
        let _ = writeln!(text, "{} flag{number} -no{} VIDEO_CARDS: card{} # why", atom(number), number % 50, number % 9);
        text
    })
}

/// A configuration directory whose stage `fleet` uses all of it.
pub(crate) fn generate(root: &Path, fragments: usize) {
    let write = |path: String, text: String| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a temporary directory can be written");
        fs::write(path, text).expect("a temporary directory can be written");
    };
    let mut names = String::new();
    let mut lines = 0;
    for n in 0..fragments {
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
    assert_eq!(lines, fragments * LINES);
    write("portage.global/make.conf".to_owned(), "COMMON_FLAGS=\"-O2 -pipe\"\n".to_owned());
    write("stage3.defines/fleet/portage.local".to_owned(), names);
    write("stage4.defines/fleet/stage3".to_owned(), "fleet\n".to_owned());
    write("stage4.defines/fleet/profile".to_owned(), "demo\n".to_owned());
}
