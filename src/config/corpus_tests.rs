//! What we read in the files of `tests/portage/corpus`, beside what Portage reads in them.
//!
//! `tests/portage/expected.json` is what Portage said; `tests/it` asks it again. A case that Portage reads without a word is either
//! read alike, or its refusal is one of those that `tests/portage/README.md` gives a reason for: the snapshot lists them all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;
use crate::portage::atom::Atom;
use crate::portage::package_files::{self, LineFile};
use crate::portage::use_flags::{self, Kind};

fn place() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/portage")
}

fn expected() -> BTreeMap<String, Value> {
    serde_json::from_slice(&fs::read(place().join("expected.json")).unwrap()).unwrap()
}

/// What came of a case: values, or why not.
type Outcome = std::result::Result<BTreeMap<String, Vec<String>>, String>;

/// A configuration directory whose only fragment has the case as `target`.
struct Fixture(tempfile::TempDir);

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("stage3.defines/base")).unwrap();
        fs::write(dir.path().join("stage3.defines/base/portage.local"), "case\n").unwrap();
        Self(dir)
    }

    fn read(&self, case: &Path, target: &str) -> Result<PortageDir> {
        let fragment = self.0.path().join("portage.locals/case");
        if fragment.exists() {
            fs::remove_dir_all(&fragment).unwrap();
        }
        fs::create_dir_all(&fragment).unwrap();
        copy(case, &fragment.join(target));
        if target == "package.env" {
            for name in ["one", "two", "qt", "no-lto.conf", "dir/one.conf", "-one"] {
                fs::create_dir_all(fragment.join("env/dir")).unwrap();
                fs::write(fragment.join("env").join(name), "A=\"1\"\n").unwrap();
            }
        }
        let config = ConfigDir::open(self.0.path()).unwrap();
        config.portage_dir(&config.stage3("base").unwrap())
    }

    fn message(&self, error: &Error) -> String {
        let fragment = format!("{}/", self.0.path().join("portage.locals/case").display());
        error.to_string().replace(&fragment, "")
    }
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        fs::copy(from, to).unwrap();
        return;
    }
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

/// The words that still count: an entry again, or its opposite, replaces the one before, and `-*` all.
fn folded<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for word in words {
        let name = word.strip_prefix('-').unwrap_or(word);
        match word.strip_prefix('-').and_then(|rest| rest.strip_suffix('*')) {
            Some(prefix) if prefix.is_empty() || prefix.ends_with('_') => {
                out.retain(|old| !old.strip_prefix('-').unwrap_or(old).starts_with(prefix));
            }
            _ => out.retain(|old| old.strip_prefix('-').unwrap_or(old) != name),
        }
        out.push(word.to_owned());
    }
    out
}

/// The same words in another order mean the same, but for what `-*` clears.
fn sorted(mut words: Vec<String>) -> Vec<String> {
    let from = words.iter().rposition(|word| word == "-*").map_or(0, |at| at + 1);
    words[from..].sort();
    words
}

fn variable_words(name: &str, value: &str) -> Vec<String> {
    if use_flags::is_use_expand(name) {
        // `make.conf` knows no `-` there; Portage leaves these out when it makes flags of the value.
        return sorted(value.split_whitespace().filter(|word| !word.starts_with('-')).map(str::to_owned).collect());
    }
    match use_flags::kind(name) {
        Kind::Switches => sorted(folded(value.split_whitespace())),
        Kind::Single => vec![value.trim().to_owned()],
    }
}

fn our_variables(fixture: &Fixture, case: &Path) -> (Outcome, bool) {
    match fixture.read(case, "make.conf") {
        Ok(dir) => {
            let value = |name: &str| variable_words(name, &dir.variable(name).unwrap_or_default());
            // What hangs on `COMMON_FLAGS` is there whether a fragment says it or not.
            let said = |name: &String| !name.ends_with("FLAGS") || !dir.touches(name).is_empty();
            let ours = dir.variables().into_iter().map(|(name, _)| name).filter(said).map(|name| (name.clone(), value(&name)));
            (Ok(ours.collect()), !dir.notes.is_empty())
        }
        Err(error) => (Err(fixture.message(&error)), true),
    }
}

fn our_lines(fixture: &Fixture, kind: LineFile, case: &Path) -> (Outcome, bool) {
    match fixture.read(case, kind.file_name()) {
        Ok(dir) => {
            let merged = dir.files.get(&Path::new(kind.file_name()).join("50-gentoomuch"));
            let text = String::from_utf8(merged.cloned().unwrap_or_default()).unwrap();
            let (lines, errors) = package_files::parse(kind, &text);
            assert!(errors.is_empty(), "we cannot read what we write: {errors:?} in {text}");
            let ours = lines.into_iter().map(|line| {
                let minus = if line.negated { "-" } else { "" };
                (format!("{minus}{}", line.atom), sorted(line.words))
            });
            (Ok(ours.collect()), !dir.notes.is_empty())
        }
        Err(error) => (Err(fixture.message(&error)), true),
    }
}

/// Portage's value in the form of ours.
fn theirs(kind: &str, value: &Value) -> BTreeMap<String, Vec<String>> {
    let words =
        |value: &Value| -> Vec<String> { value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect() };
    match value {
        Value::Object(entries) if kind == "make.conf" => {
            entries.iter().map(|(name, value)| (name.clone(), variable_words(name, value.as_str().unwrap()))).collect()
        }
        Value::Object(entries) => entries
            .iter()
            .map(|(atom, list)| {
                let list = words(list);
                let folded = folded(list.iter().map(String::as_str));
                (atom.clone(), if kind == "package.env" { folded } else { sorted(folded) })
            })
            .collect(),
        // A mask list: what is taken back is taken back if it was there before.
        Value::Array(_) => folded(words(value).iter().map(String::as_str)).into_iter().map(|atom| (atom, Vec::new())).collect(),
        _ => BTreeMap::new(),
    }
}

#[test]
fn configuration_files_mean_what_portage_reads_in_them() {
    let fixture = Fixture::new();
    let (mut compared, mut wrong, mut refused) = (0, Vec::new(), [const { Vec::new() }; 3]);
    for (case, portage) in expected() {
        let (kind, _) = case.split_once('/').unwrap();
        let path = place().join("corpus").join(&case);
        let (ours, said) = match (kind, LineFile::named(kind)) {
            ("make.conf", _) => our_variables(&fixture, &path),
            (_, Some(file)) => our_lines(&fixture, file, &path),
            _ => continue,
        };
        compared += 1;
        let complains = portage.get("says").is_some();
        match (ours, portage.get("value")) {
            (Err(message), value) => {
                let which = if value.is_none() { 0 } else { 1 + usize::from(!complains) };
                refused[which].push(format!("{case}: {message}"));
            }
            (Ok(ours), None) => wrong.push(format!("{case}: Portage gives up ({}), we read {ours:?}", portage["error"])),
            (Ok(_), Some(_)) if complains && !said => wrong.push(format!("{case}: Portage complains, we do not: {portage}")),
            (Ok(ours), Some(value)) => {
                let theirs = theirs(kind, value);
                if ours != theirs {
                    wrong.push(format!("{case}:\n  Portage {theirs:?}\n  we      {ours:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared >= 200, "{compared} cases");
    let [fails, complains, silent] = refused.map(|cases| cases.join("\n"));
    insta::assert_snapshot!(format!(
        "# Portage gives up\n{fails}\n\n# Portage complains and goes on without\n{complains}\n\n# Portage takes it; see tests/portage/README.md\n{silent}"
    ));
}

/// The fields of an atom as Portage names them.
fn our_atom(atom: &Atom) -> Value {
    let operator = atom.operator.map(crate::portage::atom::Operator::as_str);
    let (version, star) = match atom.version.as_deref() {
        Some(version) if version.starts_with('*') => (Some(version), true),
        Some(version) => (Some(version.trim_end_matches('*')), version.ends_with('*')),
        None => (None, false),
    };
    let (slot, slot_operator) = match atom.slot.as_deref() {
        Some(slot) => match slot.strip_suffix(['=', '*']) {
            Some(name) => (Some(name).filter(|name| !name.is_empty()), Some(&slot[name.len()..])),
            None => (Some(slot), None),
        },
        None => (None, None),
    };
    let (slot, sub_slot) = match slot.and_then(|slot| slot.split_once('/')) {
        Some((slot, sub_slot)) => (Some(slot), Some(sub_slot)),
        None => (slot, None),
    };
    serde_json::json!({
        "cp": atom.name(),
        "operator": if star { Some("=*") } else { operator },
        "version": version,
        "build_id": atom.build_id,
        "slot": slot,
        "sub_slot": sub_slot,
        "slot_operator": slot_operator,
        "repo": atom.repository,
        "use": atom.use_dependencies,
        "blocker": false,
        "wildcard": atom.is_wildcard(),
    })
}

#[test]
fn atoms_mean_what_portage_reads_in_them() {
    let (mut compared, mut wrong, mut stricter) = (0, Vec::new(), Vec::new());
    for (case, portage) in expected() {
        let Some(text) = case.strip_prefix("atoms/") else { continue };
        compared += 1;
        match (text.parse::<Atom>(), &portage["value"]) {
            (Err(_), Value::Null) => {}
            (Err(error), _) => stricter.push(format!("{text}: {error}")),
            (Ok(atom), Value::Null) => wrong.push(format!("{text}: Portage refuses it, we read {atom:?}")),
            (Ok(atom), theirs) => {
                let ours = our_atom(&atom);
                if ours != *theirs {
                    wrong.push(format!("{text}:\n  Portage {theirs}\n  we      {ours}"));
                }
                assert_eq!(atom.to_string(), text);
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared >= 150, "{compared} atoms");
    insta::assert_snapshot!(stricter.join("\n"));
}

#[test]
fn sets_mean_what_portage_reads_in_them() {
    let fixture = Fixture::new();
    let (mut compared, mut wrong, mut refused) = (0, Vec::new(), Vec::new());
    for (case, portage) in expected() {
        let Some(name) = case.strip_prefix("sets/") else { continue };
        compared += 1;
        let sets = fixture.0.path().join("package.sets");
        fs::create_dir_all(&sets).unwrap();
        copy(&place().join("corpus").join(&case), &sets.join("case"));
        fs::write(fixture.0.path().join("stage3.defines/base/packages"), "@case\n").unwrap();
        fs::create_dir_all(fixture.0.path().join("portage.locals/case")).unwrap();
        let definition = ConfigDir::open(fixture.0.path()).unwrap().stage3("base");
        let ours: BTreeSet<String> = match definition {
            Ok(definition) => definition.packages.iter().map(|package| package.value.to_string()).collect(),
            Err(error) => {
                let silent = if portage["value"]["wrong"] == 0 { "silent" } else { "complains" };
                let message = error.to_string().replace(&format!("{}/", fixture.0.path().display()), "");
                refused.push(format!("{name} ({silent}): {message}"));
                continue;
            }
        };
        let list = |key: &str| portage["value"][key].as_array().unwrap().iter().map(|atom| atom.as_str().unwrap().to_owned());
        let theirs: BTreeSet<String> = list("atoms").chain(list("sets")).collect();
        // Portage forgets what comes after the first word of a line; here it counts.
        let theirs = if name == "words" { ["a/b", "c/d"].map(str::to_owned).into() } else { theirs };
        if ours != theirs || portage["value"]["wrong"] != 0 {
            wrong.push(format!("{name}: Portage {portage}, we {ours:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong.join("\n"));
    insta::assert_snapshot!(refused.join("\n"));
}
