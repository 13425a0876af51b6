//! Everything that gentoomuch reads, given what a fuzzer makes up: nothing may panic or hang, and what is read is printed as it was.
//!
//! One program for all targets, so that it is linked once; `FUZZ_TARGET` says which. `scripts/fuzz` builds and runs it.
#![no_main]

mod files;

use std::sync::OnceLock;

use gentoomuch::internals::config::kconfig::Symbols;
use gentoomuch::internals::config::{PathPattern, with_kernel_header};
use gentoomuch::internals::portage::atom::Atom;
use gentoomuch::internals::portage::binrepos;
use gentoomuch::internals::portage::emerge::failure;
use gentoomuch::internals::portage::emerge::resolution::Resolution;
use gentoomuch::internals::portage::emerge::resolution::required_use::{Expression, Flags};
use gentoomuch::internals::portage::make_conf::{self, Piece, Statement};
use gentoomuch::internals::portage::manifest::source_archives;
use gentoomuch::internals::portage::package_files::{self, LineFile};
use gentoomuch::internals::portage::profile::PortageProfile;
use gentoomuch::internals::portage::src_uri::{self, Conditions};
use gentoomuch::internals::portage::use_flags::{self, Switch};
use gentoomuch::internals::query;
use gentoomuch::internals::query::audit::Audit;
use gentoomuch::internals::query::fulfilled::Fulfilled;
use gentoomuch::internals::query::keys::Keys;
use gentoomuch::internals::query::names::Named;
use gentoomuch::internals::query::versions::{NotVisible, Version};
use gentoomuch::internals::query::why::Why;
use gentoomuch::internals::terminal_text::{is_obeyed, sanitize};
use libfuzzer_sys::fuzz_target;

const TARGETS: [(&str, fn(&str)); 19] = [
    ("atom", atom),
    ("binrepos", binrepos_file),
    ("directory", files::directory),
    ("emerge-output", emerge_output),
    ("kernel-config", kernel_config),
    ("make-conf", make_conf_file),
    ("oci", files::oci_file),
    ("package-files", package_file),
    ("partial", files::partial_download),
    ("path-pattern", path_pattern),
    ("portage-profile", portage_profile),
    ("query", answers),
    ("repos-conf", files::repos_conf_file),
    ("required-use", required_use),
    ("resolution", resolution),
    ("sanitize", sanitized),
    ("sources", sources),
    ("tree-pins", files::tree_pins),
    ("use-flags", use_flags_words),
];

static TARGET: OnceLock<fn(&str)> = OnceLock::new();

fuzz_target!(
    init: {
        let asked = std::env::var("FUZZ_TARGET").unwrap_or_default();
        match TARGETS.iter().find(|(name, _)| *name == asked) {
            Some((_, target)) => drop(TARGET.set(*target)),
            None => {
                let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
                eprintln!("FUZZ_TARGET is one of: {}", names.join(" "));
                std::process::exit(2);
            }
        }
    },
    |data: &[u8]| {
        let text = String::from_utf8_lossy(data);
        TARGET.get().expect("it was set in the beginning")(&text);
    }
);

fn atom(text: &str) {
    if let Ok(atom) = text.parse::<Atom>() {
        assert_eq!(atom.to_string(), text);
        assert!(!text.contains(char::is_whitespace));
    }
    let _ = Atom::parse_target(text);
}

fn kernel_config(text: &str) {
    let symbols = Symbols::parse(text);
    let written: String = symbols.iter().map(|(name, value)| format!("CONFIG_{name}={value}\n")).collect();
    assert_eq!(Symbols::parse(&written), symbols);
    assert!(symbols.changes(&symbols).is_empty() && symbols.unmet(&symbols).is_empty());
    // A header changes nothing, however often it is written.
    let once = with_kernel_header(text, "sys-kernel/x", Some("1"));
    assert_eq!(with_kernel_header(&once, "sys-kernel/x", Some("1")), once);
    assert_eq!(Symbols::parse(&once), symbols);
}

/// What the file says already changes nothing about a section that is added.
fn binrepos_file(text: &str) {
    let lines: Vec<u32> = binrepos::unverified(text).collect();
    assert!(lines.is_sorted_by(|one, other| one < other), "{lines:?}");
    if !text.ends_with('\n') {
        return;
    }
    let longer = format!("{text}[added]\nsync-uri = http://h\nverify-signature = no\n");
    assert!(binrepos::hosts([longer.as_str()]).values().any(|uri| uri == "http://h"), "{longer:?}");
    let all: Vec<u32> = binrepos::unverified(&longer).collect();
    assert_eq!(all.split_last().expect("one was added").1, lines);
}

/// Names that an ebuild, or a Manifest, gives to files are names.
fn sources(text: &str) {
    let is_name = |name: &str| !name.is_empty() && !name.contains(['/', '\0']) && !matches!(name, "." | "..");
    for conditions in [Conditions::All, Conditions::None, Conditions::On(&|flag| flag.len() % 2 == 0)] {
        let found = src_uri::source_uris(text, conditions).unwrap_or_default();
        assert!(found.iter().all(|found| is_name(found.file)), "{found:?}");
    }
    assert!(source_archives(text).all(|(name, expected)| is_name(name) && !expected.hashes.is_empty()));
    assert!(gentoomuch::internals::fetch::dictionary(text).values().all(|words| !words.is_empty()));
}

fn flat(statements: &[Statement]) -> Vec<(&str, String)> {
    let text = |pieces: &[Piece]| {
        let piece = |piece: &Piece| match piece {
            Piece::Text { text, .. } => text.clone(),
            Piece::Reference { name, .. } => format!("\u{1}{name}\u{2}"),
        };
        pieces.iter().map(piece).collect()
    };
    let one = |statement| match statement {
        &Statement::Assign(ref assignment) => (assignment.name.as_str(), text(&assignment.value)),
        Statement::Source { file, .. } => ("source", text(file)),
    };
    statements.iter().map(one).collect()
}

/// Also what Portage reads in files of `env/`.
fn make_conf_file(text: &str) {
    let Ok(statements) = make_conf::parse(text) else { return };
    let mut written = String::new();
    for statement in &statements {
        match statement {
            Statement::Assign(assignment) if make_conf::unread_reference(&assignment.value).is_none() => {
                written.push_str(&format!("{}={}\n", assignment.name, make_conf::quote(&assignment.value)));
            }
            _ => return,
        }
    }
    let again = make_conf::parse(&written).unwrap_or_else(|error| panic!("{error} in {written:?}"));
    assert_eq!(flat(&again), flat(&statements), "{written:?}");
}

fn package_file(text: &str) {
    for kind in LineFile::ALL {
        let (lines, _) = package_files::parse(kind, text);
        let written: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let (again, errors) = package_files::parse(kind, &written);
        assert!(errors.is_empty(), "{errors:?} in {written:?}");
        let printed: String = again.iter().map(|line| format!("{line}\n")).collect();
        assert_eq!(printed, written);
    }
}

fn path_pattern(text: &str) {
    let (pattern, path) = text.split_once('\n').unwrap_or((text, "/usr/share/doc/x"));
    if let Ok(parsed) = pattern.parse::<PathPattern>() {
        parsed.covers(path);
        parsed.leads_below(path);
        parsed.search();
        let again: PathPattern = parsed.to_string().parse().expect("it was just printed");
        assert_eq!(again.to_string(), parsed.to_string());
    }
}

fn portage_profile(text: &str) {
    if let Ok(profile) = text.parse::<PortageProfile>() {
        assert_eq!(profile.to_string().parse(), Ok(profile.clone()));
        assert!(profile.link_target().components().skip(2).all(|part| part.as_os_str() != ".."));
    }
}

/// Whatever a session answers, what is shown of it is safe to print. The input is one answer, or a whole output.
fn answers(text: &str) {
    let output = format!("@gentoomuch {text}\n@gentoomuch-done 1\n");
    for output in [text.as_bytes(), output.as_bytes()] {
        let mut shown: Vec<String> = Vec::new();
        if let Ok(answers) = query::answers::<&Named>(output, 1) {
            shown.extend(answers.into_iter().flatten().flat_map(|it| [it.near, it.details].concat()));
        }
        for taken in query::answers::<Version<'_>>(output, 1).unwrap_or_default() {
            match taken.found("a/b") {
                Ok(found) => shown.push(found.cpv),
                Err(NotVisible::NoPackage { near, .. }) => shown.extend(near),
                Err(error @ NotVisible::Masked { .. }) => shown.push(error.to_string()),
            }
        }
        for unmet in query::answers::<Fulfilled<'_>>(output, 1).unwrap_or_default().into_iter().flat_map(|told| told.unmet) {
            shown.push(unmet.to_string());
        }
        for made in query::answers::<Keys<'_>>(output, 1).unwrap_or_default() {
            shown.extend(made.described().into_iter().flat_map(|it| [it.cpv, it.repository, it.own_compiler]));
        }
        for told in query::answers::<Audit<'_>>(output, 1).unwrap_or_default() {
            shown.extend(told.unread);
            shown.extend(told.versions.into_iter().flat_map(|one| [one.cpv, one.slot, one.newest, one.repository]));
            for one in told.advisories.into_iter().flat_map(|known| known.found) {
                shown.extend([one.id, one.title, one.severity]);
                shown.extend(one.packages.into_iter().flat_map(|package| [package.cpv, package.fixed]));
            }
        }
        for graph in query::answers::<Why<'_>>(output, 1).unwrap_or_default() {
            shown.extend(graph.unread);
            shown.extend(graph.needs.into_iter().map(|need| need.atom));
            shown.extend(graph.roots.into_iter().flat_map(|root| [root.set, root.atom, root.place]));
        }
        assert!(!shown.iter().flat_map(|words| words.chars()).any(|c| is_obeyed(c) && c != '\t'), "{shown:?}");
    }
}

fn resolution(text: &str) {
    Resolution::parse(text.as_bytes());
}

fn required_use(text: &str) {
    if let Ok(expression) = Expression::parse(text) {
        let flags = Flags::default();
        expression.solutions(&flags);
    }
}

fn emerge_output(text: &str) {
    let mut parser = failure::Evidence::new();
    for line in text.as_bytes().split(|byte| *byte == b'\n') {
        parser.line(line);
    }
    parser.into_failure(|_| None);
}

fn sanitized(text: &str) {
    let plain = sanitize(text.as_bytes());
    assert!(!plain.contains('\u{1b}'));
    assert_eq!(sanitize(plain.as_bytes()), plain);
}

fn use_flags_words(text: &str) {
    for word in text.split_whitespace() {
        assert_eq!(Switch::parse(word).to_string(), word);
    }
    use_flags::written_out(text.split_whitespace());
}
