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

/// Nothing that is called so is left: no name, no session, no logs. Others work in the place at the same time.
fn assert_nothing_stays(place: &Place, name: &str) {
    let mut runs: Vec<String> =
        fs::read_dir(place.path("data/logs")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    runs.retain(|run| run.starts_with("pretend") && run.contains(name));
    assert_eq!(runs, Vec::<String>::new());
    let sessions = place.sessions();
    assert!(sessions.iter().all(|session| !session.to_string().contains(name)), "{sessions:?}");
    let listing = place.listing();
    assert!(!listing.contains(&format!("stage4/{name}")) && !listing.contains(&format!("profile/{name}/upstream")), "{listing}");
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

    assert_nothing_stays(&place, "pretended");
}

#[test]
fn a_profile_is_as_it_was_after_an_update_or_a_bootstrap_that_was_pretended() {
    let Some(shared) = shared() else { return };
    let place = shared.place.with_config(shared.config("pretend-profile"));
    let stage3 = shared.testbed.stage3.to_str().unwrap();
    // Found by its key. Others build with the profile `demo`, and move its names.
    place.run(&["bootstrap", "looked-at", stage3]).ok().says_nothing_of("emerging");
    let row = || {
        let mut row = json(place.run(&["profile", "show", "looked-at", "--json"]));
        // What no other profile has: others come and go meanwhile.
        row.as_object_mut().unwrap().remove("own_bytes").unwrap();
        row
    };
    let up_to_date = place.run(&["profile", "update", "--pretend", "looked-at"]).ok().text();
    assert!(up_to_date.starts_with("looked-at: nothing would be merged, "), "{up_to_date}");
    let again = place.run(&["bootstrap", "--pretend", "looked-at", stage3]).ok().text();
    assert_eq!(again, up_to_date);

    let packages = place.config.join("stage3.defines/gentoomuch/builder/packages");
    let text = fs::read_to_string(&packages).unwrap();
    fs::write(&packages, format!("{text}app-misc/slow\n")).unwrap();
    let before = row();
    let update = place.run(&["profile", "update", "--pretend", "looked-at"]).ok().text();
    assert!(update.starts_with("@world\n") && update.contains("the packages of gentoomuch/builder\n"), "{update}");
    assert!(update.contains("N     ] app-misc/slow-1.0::gentoo"), "{update}");
    let of = json(place.run(&["profile", "update", "looked-at", "--depclean", "--pretend", "--json"]));
    let of = of.as_array().map_or(&of, |all| &all[0]);
    assert_eq!(of["lists"].as_array().unwrap().last().unwrap()["what"], "what nothing needs any more", "{of}");

    // A stage3 that was not imported before: without its signature it is another one.
    let copy = place.path("pretend-stage3.tar.xz");
    child::check(std::process::Command::new("cp").arg(stage3).arg(&copy));
    let words = ["bootstrap", "--pretend", "--allow-unsigned", "a test", "looked-fresh", copy.to_str().unwrap()];
    let fresh = place.run(&words).ok();
    let text = fresh.text();
    assert!(text.starts_with("@world for gentoomuch/builder\n") && text.contains("R    ] sys-apps/baselayout-"), "{text}");
    assert_eq!(row(), before);
    assert_nothing_stays(&place, "looked-fresh");
    let listing = place.listing();
    assert!(!listing.contains("pretend-stage3") || fresh.stderr.contains("stays until `gentoomuch clean`"), "{listing}{fresh}");
}
