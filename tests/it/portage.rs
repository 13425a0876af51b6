//! Portage itself says what configuration files mean: the corpus of `tests/portage`, and whole merged directories.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use gentoomuch::internals::config::{ConfigDir, PortageDir};
use gentoomuch::internals::portage::package_files::LineFile;
use gentoomuch::internals::portage::use_flags::{self, Kind};
use gentoomuch::internals::portage::variables;
use serde_json::Value;

use crate::child;
use crate::place::copy;
use crate::shared::{Shared, shared};

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/portage")
}

/// A script of `tests/portage` in a throw-away session, where `place` is `/mnt/place`.
fn in_session(shared: &Shared, script: &str, place: &Path, args: &[&str]) -> Value {
    let scripts = format!("{}:/mnt/portage:ro", here().display());
    let place = format!("{}:/mnt/place:ro", place.display());
    let script = format!("/mnt/portage/{script}");
    let command = ["freshroot", "--network", "none", "--bind", &scripts, "--bind", &place, "--", "python3", "-B", &script];
    let ran = shared.place.run(&[&command, args].concat()).ok();
    serde_json::from_str(&ran.text()).unwrap_or_else(|error| panic!("{error}: {ran}"))
}

#[test]
fn the_recorded_corpus_is_what_portage_says() {
    let Some(shared) = shared() else { return };
    let said = in_session(&shared, "record.py", &here(), &["/mnt/place/corpus"]);
    if let Some(file) = std::env::var_os("GENTOOMUCH_RECORD") {
        let mut text = serde_json::to_string_pretty(&said).unwrap();
        text.push('\n');
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(file), text).unwrap();
        return;
    }
    let recorded: BTreeMap<String, Value> = serde_json::from_slice(&fs::read(here().join("expected.json")).unwrap()).unwrap();
    let said = said.as_object().unwrap();
    assert_eq!(said.keys().collect::<BTreeSet<_>>(), recorded.keys().collect::<BTreeSet<_>>());
    for (case, recorded) in &recorded {
        assert_eq!(&said[case], recorded, "{case}: record it again, see tests/portage/README.md");
    }
}

/// A configuration directory, merged, and the place of its fragments in order.
struct Merged {
    name: String,
    root: PathBuf,
    dir: PortageDir,
}

fn merged() -> Vec<Merged> {
    let folder = here().join("directories");
    let mut names: Vec<String> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let read = |name: String| {
        let root = folder.join(&name);
        let config = ConfigDir::open(&root).unwrap();
        let dir = config.portage_dir(&config.stage3("base").unwrap()).unwrap_or_else(|error| panic!("{error}"));
        Merged { name, root, dir }
    };
    names.into_iter().map(read).collect()
}

/// Writes the merged directory, and one in which Portage adds the fragments' lines up by itself.
fn write(place: &Path, merged: &Merged) {
    let (ours, added_up) = (place.join(&merged.name), place.join(format!("{} added up", merged.name)));
    for (path, bytes) in &merged.dir.files {
        for (target, takes) in [(&ours, true), (&added_up, LineFile::ALL.iter().all(|kind| !path.starts_with(kind.file_name())))] {
            if takes {
                fs::create_dir_all(target.join(path).parent().unwrap()).unwrap();
                fs::write(target.join(path), bytes).unwrap();
            }
        }
    }
    for (number, fragment) in merged.dir.fragments().iter().enumerate() {
        for kind in LineFile::ALL {
            let lines = merged.root.join(fragment).join(kind.file_name());
            if lines.exists() {
                copy(&lines, &added_up.join(kind.file_name()).join(format!("{number:02}")));
            }
        }
    }
}

/// The values that are left when Portage adds `words` to `before`, in which order does not matter.
fn added(before: &str, words: &str) -> BTreeSet<String> {
    let mut values: BTreeSet<String> = before.split_whitespace().map(str::to_owned).collect();
    for word in words.split_whitespace() {
        match word.strip_prefix('-') {
            Some("*") => values.clear(),
            Some(name) => drop(values.remove(name)),
            None => drop(values.insert(word.to_owned())),
        }
    }
    values
}

#[test]
fn portage_makes_of_the_merged_directory_what_it_says_of_itself() {
    let Some(shared) = shared() else { return };
    let place = shared.place.path("merged for Portage");
    if place.exists() {
        fs::remove_dir_all(&place).unwrap();
    }
    let all = merged();
    for merged in &all {
        write(&place, merged);
    }
    let names: Vec<String> = all.iter().flat_map(|merged| [merged.name.clone(), format!("{} added up", merged.name)]).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let said = in_session(&shared, "effective.py", &place, &[&["/mnt/place"], &names[..]].concat());
    let text = |of: &str, name: &str| said[of]["variables"][name].as_str().unwrap_or_default().to_owned();
    let set = |text: String| text.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
    let mut compared = 0;
    for Merged { name, dir, .. } in &all {
        assert_eq!(said[name]["says"].as_array().unwrap().len(), 0, "{name}: {}", said[name]["says"]);
        for variable in said[name]["variables"].as_object().unwrap().keys() {
            let Some(ours) = dir.variable(variable) else {
                continue;
            };
            compared += 1;
            let portage = text(name, variable);
            match use_flags::kind(variable) {
                Kind::Single => {
                    // What no fragment sets, the Portage profile may.
                    let ours = if variable == "LDFLAGS" { portage.clone() } else { ours };
                    assert_eq!(portage, ours, "{name}: {variable}");
                }
                // Sets begin with `-*` in Portage's own list, which keeps it for an empty one.
                Kind::Switches if variable.starts_with("ACCEPT_LICENSE") => {
                    assert_eq!(set(portage), added("-*", &format!("{} {ours}", text("(none)", variable))), "{name}: {variable}");
                }
                Kind::Switches if use_flags::is_use_expand(variable) => assert_eq!(set(portage), set(ours), "{name}: {variable}"),
                Kind::Switches => {
                    let mut portage = set(portage);
                    let mut ours = added(&text("(none)", variable), &ours);
                    if variable == "USE" {
                        let everywhere = dir.entries(LineFile::Use).filter(|entry| entry.atom == "*/*");
                        let words: Vec<String> =
                            everywhere.flat_map(|entry| entry.words()).map(|word| word.switch.to_string()).collect();
                        ours = added(&ours.into_iter().collect::<Vec<_>>().join(" "), &words.join(" "));
                        // Which every profile of this architecture forces.
                        ours.insert("amd64".to_owned());
                        // Flags of USE_EXPAND are compared as such.
                        let plain = |flag: &String| !["video_cards_", "l10n_", "cpu_flags_"].iter().any(|p| flag.starts_with(p));
                        portage.retain(plain);
                        ours.retain(plain);
                    }
                    assert_eq!(portage, ours, "{name}: {variable}");
                }
            }
        }
        let (ours, portage) = (&said[name]["packages"], &said[format!("{name} added up")]["packages"]);
        for (package, effect) in ours.as_object().unwrap() {
            compared += 1;
            assert_eq!(effect, &portage[package], "{name}: {package}");
        }
    }
    assert!(compared > 50, "{compared}");
    // That something was changed at all.
    let hello = |name: &str| {
        let packages = said[name]["packages"].as_object().unwrap();
        packages.iter().find(|(cpv, _)| cpv.starts_with("app-misc/hello-")).unwrap().1.clone()
    };
    assert_eq!(hello("packages")["cflags"].as_str().unwrap().split(' ').next_back(), Some("-O1"));
    assert_ne!(hello("packages")["use"], hello("(none)")["use"]);
    child::check(std::process::Command::new("rm").arg("-r").arg(&place));
}

#[test]
fn the_lists_are_portage_s_and_the_tree_s() {
    let Some(shared) = shared() else { return };
    let said = in_session(&shared, "effective.py", &here(), &["/mnt/place"]);
    let names = |key: &str| -> Vec<String> {
        said["(portage)"][key].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let accept = ["ACCEPT_LICENSE", "ACCEPT_PROPERTIES", "ACCEPT_RESTRICT"].map(str::to_owned);
    let incrementals: BTreeSet<String> = names("incrementals").into_iter().chain(accept).collect();
    assert_eq!(incrementals, use_flags::INCREMENTAL.into_iter().map(str::to_owned).collect());
    for name in names("use_expand") {
        assert!(use_flags::is_use_expand(&name) || use_flags::is_single_valued(&name), "how does `{name}` unite?");
    }
}

#[test]
fn each_variable_that_portage_treats_specially_is_in_the_table() {
    let Some(shared) = shared() else { return };
    let script = "import json\n\
                  from portage.package.ebuild._config import special_env_vars as v\n\
                  names = set().union(v.env_blacklist, v.environ_whitelist, v.environ_filter, v.global_only_vars, v.default_globals)\n\
                  names |= set(v.validate_commands) | set(v.case_insensitive_vars)\n\
                  print(json.dumps([sorted(names), v.environ_whitelist_re.pattern]))";
    let ran = shared.place.run(&["freshroot", "--network", "none", "--", "python3", "-B", "-c", script]).ok();
    let (names, pattern): (Vec<String>, String) = serde_json::from_str(&ran.text()).unwrap();
    assert!(names.len() > 250, "{names:?}");
    let unknown: Vec<&String> = names.iter().filter(|name| variables::class_of(name).is_none()).collect();
    assert!(unknown.is_empty(), "say in `src/portage/variables.rs` what these are for: {unknown:?}");
    let beginnings = pattern.strip_prefix("^(").and_then(|rest| rest.strip_suffix(").*")).unwrap_or_else(|| panic!("{pattern}"));
    for beginning in beginnings.split('|') {
        assert!(variables::class_of(&format!("{beginning}ANY")).is_some(), "{beginning}");
    }
}
