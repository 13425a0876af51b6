//! Properties that hold for any input: reading undoes writing, and merging is associative, idempotent and stable.
//!
//! Cases are made from the bytes of a fixed generator, short ones first. A failing case is shortened as long as it still fails, and
//! printed: it becomes a test of its own.

use std::fmt::Debug;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use arbitrary::{Result as Made, Unstructured};

use super::*;
use crate::portage::atom::Atom;
use crate::portage::make_conf::{self, Piece, Statement};
use crate::portage::package_files::{self, LineFile};
use crate::portage::use_flags::Switch;

/// Bytes of splitmix64.
fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    };
    (0..length.div_ceil(8)).flat_map(|_| next()).take(length).collect()
}

/// Runs `property` on `cases` values of `make`.
fn holds<T: Debug>(cases: usize, length: usize, make: fn(&mut Unstructured<'_>) -> Made<T>, property: impl Fn(&T)) {
    let fails = |bytes: &[u8]| {
        let value = make(&mut Unstructured::new(bytes)).ok()?;
        let panicked = catch_unwind(AssertUnwindSafe(|| property(&value))).is_err();
        panicked.then_some(value)
    };
    for case in 0..cases {
        let mut bytes = bytes(case as u64, 1 + length * case / cases);
        let Some(mut shortest) = fails(&bytes) else { continue };
        let mut at = 0;
        while at < bytes.len() {
            let mut shorter = bytes.clone();
            shorter.remove(at);
            match fails(&shorter) {
                Some(value) => (bytes, shortest) = (shorter, value),
                None => at += 1,
            }
        }
        property(&shortest);
        panic!("case {case}: {shortest:?}");
    }
}

fn text_of(u: &mut Unstructured<'_>, alphabet: &[&str], longest: usize) -> Made<String> {
    let length = u.int_in_range(0..=longest)?;
    (0..length).map(|_| Ok(*u.choose(alphabet)?)).collect()
}

const ALPHABET: [&str; 30] = [
    "a",
    "B",
    "_",
    "0",
    " ",
    "\t",
    "\n",
    "\r\n",
    "'",
    "\"",
    "\\",
    "$",
    "${A}",
    "$B",
    "{",
    "}",
    "#",
    "=",
    "A=",
    "B=\"",
    "\"\n",
    "source",
    "export ",
    "-",
    "*",
    "ü",
    "# override\n",
    "\\\n",
    "/",
    "1",
];

#[test]
fn what_is_read_in_a_make_conf_can_be_written_and_read_again() {
    let make = |u: &mut Unstructured<'_>| text_of(u, &ALPHABET, 40);
    holds(20_000, 120, make, |text| {
        let Ok(statements) = make_conf::parse(text) else { return };
        let mut written = String::new();
        for statement in &statements {
            let Statement::Assign(assignment) = statement else { return };
            if make_conf::unread_reference(&assignment.value).is_some() {
                return;
            }
            written.push_str(&format!("{}={}\n", assignment.name, make_conf::quote(&assignment.value)));
        }
        let again = make_conf::parse(&written).unwrap_or_else(|error| panic!("{error} in {written:?}"));
        assert_eq!(flat(&again), flat(&statements), "{written:?}");
    });
}

#[test]
fn any_value_can_be_written_into_a_make_conf() {
    let make = |u: &mut Unstructured<'_>| -> Made<Vec<Piece>> {
        (0..u.int_in_range(0..=6)?)
            .map(|_| {
                if u.ratio(1, 3)? {
                    return Ok(Piece::Reference { name: "A".to_owned(), line: 1 });
                }
                let text = text_of(u, &["a", " ", "'", "\"", "\\", "$", "#", "source", "{", "ü"], 6)?;
                Ok(Piece::Text { text, line: 1 })
            })
            .collect()
    };
    holds(20_000, 80, make, |value| {
        if make_conf::unread_reference(value).is_some() {
            return;
        }
        let written = format!("A={}", make_conf::quote(value));
        let read = make_conf::parse(&written).unwrap_or_else(|error| panic!("{error} in {written:?}"));
        let meant = if flat_value(value) == "source" { " source".to_owned() } else { flat_value(value) };
        assert_eq!(flat(&read), [("A".to_owned(), meant)], "{written:?}");
    });
}

fn flat_value(value: &[Piece]) -> String {
    let piece = |piece: &Piece| match piece {
        Piece::Text { text, .. } => text.clone(),
        Piece::Reference { name, .. } => format!("\u{1}{name}\u{2}"),
    };
    value.iter().map(piece).collect()
}

fn flat(statements: &[Statement]) -> Vec<(String, String)> {
    let one = |statement: &Statement| match statement {
        Statement::Assign(assignment) => (assignment.name.clone(), flat_value(&assignment.value)),
        Statement::Source { file, .. } => ("source".to_owned(), flat_value(file)),
    };
    statements.iter().map(one).collect()
}

const ATOM_PARTS: [&str; 34] = [
    "app-misc", "/", "hello", "-", "1", "2.10", "-r1", "_rc1", ":", "0", "3=", "::", "gentoo", "[", "]", "x", ",", "(+)", "?", "!",
    "=", ">=", "<", "~", "*", "a", "lib", "+", "_", ".", "*/*", "cat/pkg", "-1.0", "@",
];

#[test]
fn an_atom_is_printed_as_it_was_read() {
    let make = |u: &mut Unstructured<'_>| text_of(u, &ATOM_PARTS, 12);
    holds(60_000, 24, make, |text| {
        if let Ok(atom) = text.parse::<Atom>() {
            assert_eq!(atom.to_string(), *text);
        }
    });
}

#[test]
fn lines_are_printed_as_they_were_read() {
    let words =
        ["a/b", ">=c/d-1:2", "*/*", "x", "-y", "VIDEO_CARDS:", "-*", " ", " ", "\t", "#", "# override", "\n", "\r", "~amd64", "-"];
    let make = |u: &mut Unstructured<'_>| Ok((*u.choose(&LineFile::ALL)?, u.int_in_range(0..=30)?, u.arbitrary::<[u8; 30]>()?));
    holds(20_000, 40, make, |(kind, length, choices)| {
        let text: String = choices[..*length].iter().map(|choice| words[usize::from(*choice) % words.len()]).collect();
        let (lines, _) = package_files::parse(*kind, &text);
        let written = lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let (again, errors) = package_files::parse(*kind, &written);
        assert!(errors.is_empty(), "{errors:?} in {written:?}");
        let plain = |lines: &[package_files::Line]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(plain(&again), plain(&lines));
        assert_eq!(
            again.iter().map(|line| (&line.atom, &line.words, line.negated, line.overrides)).collect::<Vec<_>>(),
            lines.iter().map(|line| (&line.atom, &line.words, line.negated, line.overrides)).collect::<Vec<_>>()
        );
    });
}

#[test]
fn a_switch_is_printed_as_it_was_read() {
    let make = |u: &mut Unstructured<'_>| text_of(u, &["-", "*", "_", "a", "+", "~", "@", "x_"], 8);
    holds(5_000, 12, make, |word| assert_eq!(Switch::parse(word).to_string(), *word));
}

/// A fragment that contradicts no other: whether a name is on or off hangs on the name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Files(Vec<(String, String)>);

fn switch(u: &mut Unstructured<'_>, name: &str) -> Made<String> {
    let number = u.int_in_range(0..=9)?;
    Ok(format!("{}{name}{number}", if number % 3 == 0 { "-" } else { "" }))
}

fn switches(u: &mut Unstructured<'_>, name: &str) -> Made<String> {
    let words: Made<Vec<String>> = (0..u.int_in_range(0..=4)?).map(|_| switch(u, name)).collect();
    Ok(words?.join(" "))
}

fn fragment(u: &mut Unstructured<'_>, first: bool) -> Made<Files> {
    let mut files = Vec::new();
    let mut make_conf = String::new();
    for _ in 0..u.int_in_range(0..=5)? {
        let line = match u.int_in_range(0..=8)? {
            0 => format!("USE=\"${{USE}} {}\"\n", switches(u, "flag")?),
            1 if first => "FEATURES=\"-* x\"\n".to_owned(),
            1 => format!("FEATURES=\"{}\"\n", switches(u, "feature")?),
            2 => format!("VIDEO_CARDS=\"card{}\"\n", u.int_in_range(0..=5)?),
            3 if !make_conf.contains("CFLAGS=") => format!("COMMON_FLAGS=\"${{COMMON_FLAGS}} -O{}\"\n", u.int_in_range(0..=3)?),
            4 => format!("SINGLE=\"{} \\\\ it's \\\" \\$x\"\n", u.int_in_range(0..=3)?),
            // What `COMMON_FLAGS` was before the fragment changed it cannot be said in a merged file.
            5 if !make_conf.contains("COMMON_FLAGS") => "CFLAGS=\"${COMMON_FLAGS} -g\"\n".to_owned(),
            6 => format!("SINGLE=\"<${{SINGLE}}{}>\"\n", u.int_in_range(0..=3)?),
            7 => format!("L10N=\"{}\"\n", switches(u, "de")?),
            _ => format!("USE=\"{}\"\n", switches(u, "flag")?),
        };
        make_conf.push_str(&line);
    }
    files.push(("make.conf".to_owned(), make_conf));
    let atoms = ["a/b", ">=a/b-1", "*/*", "c/*", "a/b:0", "a/b::gentoo", "=c/d-1*"];
    for kind in LineFile::ALL {
        let mut text = String::new();
        for _ in 0..u.int_in_range(0..=3)? {
            let atom = u.choose_index(atoms.len())?;
            let words = match kind {
                LineFile::Mask | LineFile::Unmask => String::new(),
                LineFile::Env => format!(" env{} env{}", u.int_in_range(0..=3)?, u.int_in_range(0..=3)?),
                LineFile::AcceptKeywords | LineFile::Keywords if atom % 2 == 0 => String::new(),
                LineFile::Use => format!(" {} X: {}", switch(u, "flag")?, switch(u, "e")?),
                _ => format!(" {}", switch(u, "word")?),
            };
            let minus = if kind.is_mask() && atom % 2 == 0 { "-" } else { "" };
            // What one fragment masks, none unmasks.
            if kind != LineFile::Unmask || atom % 2 == 0 {
                text.push_str(&format!("{minus}{}{words}\n", atoms[atom]));
            }
        }
        files.push((kind.file_name().to_owned(), text));
    }
    if u.arbitrary()? {
        files.push(("env/env0".to_owned(), "A=\"1\"\n".to_owned()));
    }
    Ok(Files(files))
}

/// Merges fragments, and gives what Portage sees of the outcome as one fragment: all but comments.
fn merge(fragments: &[&Files]) -> Files {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let names = (0..fragments.len()).map(|number| format!("f{number}")).collect::<Vec<_>>().join("\n");
    write("stage3.defines/base/portage.local", &names);
    for (number, files) in fragments.iter().enumerate() {
        fs::create_dir_all(dir.path().join(format!("portage.locals/f{number}"))).unwrap();
        for (path, text) in &files.0 {
            write(&format!("portage.locals/f{number}/{path}"), text);
        }
    }
    let config = ConfigDir::open(dir.path()).unwrap();
    let merged = config.portage_dir(&config.stage3("base").unwrap()).unwrap_or_else(|error| panic!("{error}"));
    let again = config.portage_dir(&config.stage3("base").unwrap()).unwrap();
    assert_eq!(merged.files, again.files);
    let seen = |path: &Path, bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).unwrap();
        // What hangs on `COMMON_FLAGS` is added in the end, and no part of merging.
        let meant = |line: &&str| !line.is_empty() && !line.starts_with('#') && !line.ends_with("FLAGS=\"${COMMON_FLAGS}\"");
        let lines = text.lines().filter(meant);
        (path.to_str().unwrap().to_owned(), lines.collect::<Vec<_>>().join("\n") + "\n")
    };
    Files(merged.files.iter().map(|(path, bytes)| seen(path, bytes)).collect())
}

fn three(u: &mut Unstructured<'_>) -> Made<[Files; 3]> {
    Ok([fragment(u, true)?, fragment(u, false)?, fragment(u, false)?])
}

#[test]
fn merging_again_changes_nothing() {
    holds(80, 300, three, |[a, b, c]| {
        let merged = merge(&[a, b, c]);
        assert_eq!(merge(&[&merged]), merged);
    });
}

#[test]
fn the_same_fragment_twice_changes_nothing() {
    // But for variables that extend themselves, which is what these ask for.
    let make = |u: &mut Unstructured<'_>| {
        let mut files = fragment(u, true)?;
        for (_, text) in &mut files.0 {
            *text = text
                .lines()
                .filter(|line| !line.contains("${COMMON") && !line.contains("${SINGLE"))
                .fold(String::new(), |text, line| text + line + "\n");
        }
        Ok(files)
    };
    holds(60, 150, make, |files| {
        // `-*` would take back what the fragment before it switches on.
        let files = Files(files.0.iter().map(|(path, text)| (path.clone(), text.replace("-* ", ""))).collect());
        assert_eq!(merge(&[&files, &files]), merge(&[&files]));
    });
}

#[test]
fn merging_is_associative() {
    holds(80, 300, three, |[a, b, c]| {
        let all = merge(&[a, b, c]);
        assert_eq!(merge(&[&merge(&[a, b]), c]), all, "(a b) c");
        assert_eq!(merge(&[a, &merge(&[b, c])]), all, "a (b c)");
    });
}

#[test]
fn a_set_is_printed_as_it_was_read() {
    let make =
        |u: &mut Unstructured<'_>| text_of(u, &["a/b", "c/d", ">=a/b-1", "@other", "@world", "\n", "\n", " # c\n", "\r\n"], 12);
    holds(150, 24, make, |text| {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("stage3.defines/base")).unwrap();
        fs::create_dir_all(dir.path().join("package.sets")).unwrap();
        fs::write(dir.path().join("package.sets/other"), "e/f\na/b\n").unwrap();
        let read = |text: &str| {
            fs::write(dir.path().join("stage3.defines/base/packages"), text).unwrap();
            let definition = ConfigDir::open(dir.path()).unwrap().stage3("base").ok()?;
            Some(definition.packages.iter().map(|package| package.value.to_string()).collect::<Vec<_>>())
        };
        if let Some(packages) = read(text) {
            assert_eq!(read(&packages.join("\n")), Some(packages));
        }
    });
}
