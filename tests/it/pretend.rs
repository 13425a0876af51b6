//! `--pretend`: emerge's own list, and nothing stays.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::child;
use crate::place::{Place, Ran};
use crate::shared::shared;

fn json(ran: Ran) -> Value {
    serde_json::from_str(&ran.ok().text()).unwrap()
}

/// All that a command that only looks must leave as it is.
fn what_stays(place: &Place) -> (String, Value, Vec<Value>, Vec<String>) {
    let mut runs: Vec<String> =
        fs::read_dir(place.path("data/logs")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    runs.retain(|name| name.contains("pretend"));
    (place.listing(), json(place.run(&["profile", "ls", "--json"])), place.sessions(), runs)
}

fn stage(config: &Path, name: &str, packages: &str) {
    let dir = config.join("stage4.defines").join(name);
    fs::create_dir_all(&dir).unwrap();
    for (file, text) in [("profile", "demo"), ("stage3", "plain"), ("packages", packages)] {
        fs::write(dir.join(file), format!("{text}\n")).unwrap();
    }
}

#[test]
fn emerge_prints_its_list_and_nothing_stays() {
    let Some(shared) = shared() else { return };
    let place = shared.place.with_config(shared.config("pretend"));
    stage(&place.config, "pretended", "app-misc/slow\napp-misc/broken");
    // What others who use the place do at the same time is theirs.
    let (_, profiles, ..) = what_stays(&place);
    let ran = place.run(&["stage", "build", "pretended", "--pretend", "--skip", "app-misc/broken"]).ok();
    let text = ran.text();
    assert!(text.contains("the packages of pretended\n") && text.contains("N     ] app-misc/slow-1.0::gentoo"), "{text}");
    assert!(text.contains("Size of downloads:") && !text.contains("app-misc/broken") && !text.contains("@world"), "{text}");
    let of = json(place.run(&["stage", "build", "pretended", "--pretend", "--json"]));
    let packages = of["lists"].as_array().unwrap().last().unwrap()["packages"].as_array().unwrap();
    let slow = packages.iter().find(|package| package["package"] == "app-misc/slow-1.0").unwrap();
    assert_eq!((&slow["action"], &slow["repository"]), (&"new".into(), &"gentoo".into()), "{of}");
    assert!(packages.iter().any(|package| package["package"] == "app-misc/broken-1.0"), "{of}");
    place.run(&["stage", "build", "pretended", "--pretend", "--skip", "app-misc/other"]).fails(2).says("is not among the packages");
    place.run(&["store", "show", "stage4/pretended"]).fails(2);

    // What is built already is not asked about.
    let hello = place.run(&["stage", "build", "hello", "--pretend"]).ok().text();
    let state = shared.build.value("state").trim_end_matches("  (unchanged)").to_owned();
    assert_eq!(hello, format!("hello: nothing would be merged, {state} is what a build would give\n"));
    assert_eq!(json(place.run(&["stage", "build", "hello", "--pretend", "--json"]))["up_to_date"], state);

    let atoms = place.run(&["resolve", "--pretend", "app-misc/slow", "--color", "always"]).ok().text();
    assert!(atoms.starts_with("\u{1b}[1mapp-misc/slow\u{1b}[0m\n") && atoms.contains("app-misc/slow-1.0"), "{atoms}");
    let refused = place.run(&["resolve", "--pretend", "app-misc/newcomer"]).fails(6);
    let refused = refused.says("emerge refuses what `app-misc/newcomer` needs\nhint: `gentoomuch resolve`");
    assert!(refused.text().contains("=app-misc/newcomer-0.1 ~amd64"), "{refused}");
    place.run(&["resolve", "--pretend", "--check", "hello"]).fails(2).says("cannot be used with");

    let (_, after, sessions, runs) = what_stays(&place);
    assert_eq!((after, runs), (profiles, Vec::new()));
    assert!(sessions.iter().all(|session| !session.to_string().contains("pretend")), "{sessions:?}");
}

#[test]
fn a_profile_is_as_it_was_after_an_update_or_a_bootstrap_that_was_pretended() {
    let Some(shared) = shared() else { return };
    let place = shared.place.with_config(shared.config("pretend-profile"));
    let up_to_date = place.run(&["profile", "update", "--pretend", "demo"]).ok().text();
    assert!(up_to_date.starts_with("demo: nothing would be merged, "), "{up_to_date}");
    let stage3 = shared.testbed.stage3.to_str().unwrap();
    let again = place.run(&["bootstrap", "--pretend", "demo", stage3]).ok().text();
    assert_eq!(again, up_to_date);

    let packages = place.config.join("stage3.defines/gentoomuch/builder/packages");
    let text = fs::read_to_string(&packages).unwrap();
    fs::write(&packages, format!("{text}app-misc/slow\n")).unwrap();
    let before = json(place.run(&["profile", "ls", "--json"]));
    let update = place.run(&["profile", "update", "--pretend", "demo"]).ok().text();
    assert!(update.starts_with("@world\n") && update.contains("the packages of gentoomuch/builder\n"), "{update}");
    assert!(update.contains("N     ] app-misc/slow-1.0::gentoo"), "{update}");
    let all = json(place.run(&["profile", "update", "--all", "--depclean", "--pretend", "--json"]));
    let of = all.as_array().unwrap().iter().find(|one| one["profile"] == "demo").unwrap();
    assert_eq!(of["lists"].as_array().unwrap().last().unwrap()["what"], "what nothing needs any more");

    // A stage3 that was not imported before: without its signature it is another one.
    let copy = place.path("pretend-stage3.tar.xz");
    child::check(std::process::Command::new("cp").arg(stage3).arg(&copy));
    let words = ["bootstrap", "--pretend", "--allow-unsigned", "a test", "pretended", copy.to_str().unwrap()];
    let fresh = place.run(&words).ok();
    let text = fresh.text();
    assert!(text.starts_with("@world for gentoomuch/builder\n") && text.contains("R    ] sys-apps/baselayout-"), "{text}");
    assert_eq!(json(place.run(&["profile", "ls", "--json"])), before);
    let listing = place.listing();
    assert!(!listing.contains("pretend-stage3") || fresh.stderr.contains("stays until `gentoomuch clean`"), "{listing}{fresh}");
}
