//! Stages that lack what does not build, or what was left out: said, recorded, and never taken for whole ones.

use std::fs;

use crate::place::{Place, Ran};
use crate::shared::shared;

fn build(place: &Place, options: &[&str]) -> Ran {
    place.run(&[&["stage", "build", "lacking", "--no-export"], options].concat())
}

/// What is written about the state that a build has made.
fn origin(place: &Place, built: &Ran) -> serde_json::Value {
    let state = built.value("state").trim_end_matches("  (unchanged)").to_owned();
    let record = fs::read(place.store().join(format!("states/{state}.json"))).unwrap();
    serde_json::from_slice::<serde_json::Value>(&record).unwrap()["origin"].clone()
}

#[test]
fn a_stage_that_lacks_something_says_so_and_is_never_taken_for_a_whole_one() {
    let Some(shared) = shared() else { return };
    let place = shared.place.with_config(shared.config("lacking"));
    let dir = place.config.join("stage4.defines/lacking");
    fs::create_dir_all(&dir).unwrap();
    for (file, text) in [("profile", "demo"), ("stage3", "plain"), ("packages", "app-misc/broken\napp-misc/hello")] {
        fs::write(dir.join(file), format!("{text}\n")).unwrap();
    }
    let error = build(&place, &["--skip", "app-misc/other"]).fails(2);
    error.says("`app-misc/other` is not among the packages").says("there are: app-misc/broken, app-misc/hello");

    let ran = build(&place, &["--keep-going"]);
    assert_eq!(ran.status.code(), Some(6), "{ran}");
    let ran = ran.says("failed: `app-misc/broken-1.0`, compile phase: going on without `app-misc/broken`");
    assert_eq!(ran.value("lacks"), "app-misc/broken", "{ran}");
    let of = origin(&place, &ran);
    assert_eq!(of["skipped"], serde_json::json!(["app-misc/broken"]), "{of}");
    assert!(of["inputs"].to_string().contains("skipped"), "{of}");
    place.run(&["shell", "stage4/lacking", "--", "hello"]).ok();

    // By name it is what the user wants, and it is there already.
    let again = build(&place, &["--skip", "app-misc/broken"]).ok();
    assert!(again.value("state").ends_with("(unchanged)"), "{again}");
    let json = build(&place, &["--skip", "app-misc/broken", "--json"]).ok();
    assert!(json.text().contains("\"skipped\": [\n    \"app-misc/broken\"\n  ]"), "{json}");
    // The whole one is another.
    build(&place, &[]).fails(6).says("`app-misc/broken-1.0` failed in its compile phase");
    fs::write(dir.join("packages"), "app-misc/hello\n").unwrap();
    // In a place that is kept, too, it is built.
    fs::write(place.config.join("user.scripts/lacking"), format!("#!/bin/sh\n# {}\n", std::process::id())).unwrap();
    fs::write(dir.join("scripts"), "lacking\n").unwrap();
    let whole = build(&place, &["-vv"]).ok();
    // Each start of Portage is a quarter of a second: one before the build, one for all that its packages are made from, one after emerge.
    assert_eq!(whole.stderr.lines().filter(|line| line.contains("/query/ask.py")).count(), 3, "{whole}");
    // The base has ended with what a stage4 begins with.
    assert!(!whole.stderr.contains("stage.d/10-env-update") && whole.stderr.contains("finish.d/90-env-update"), "{whole}");
    assert!(!whole.value("state").contains(&again.value("state")[..12]), "{whole} has the state of {again}");
    assert!(origin(&place, &whole)["skipped"].is_null() && !whole.text().contains("lacks"), "{whole}");
}
