//! `--json` of commands that no other test asks for it. `place.rs` holds every output against its schema, these too.

use std::fs;

use serde_json::Value;

use crate::place::Place;
use crate::shared::shared;
use crate::terminal::Terminal;
use crate::tiny::tiny;

fn json(place: &Place, words: &str) -> Value {
    let args: Vec<&str> = words.split(' ').chain(["--json"]).collect();
    let ran = place.run(&args).ok();
    serde_json::from_str(&ran.text()).unwrap_or_else(|error| panic!("{error} in {ran}"))
}

#[test]
fn states_names_and_keys() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    tiny.another("demo", "a");
    let stage3 = tiny.stage3.to_str().unwrap();
    assert_eq!(json(place, "keys import tiny.asc")[0]["fingerprint"], tiny.key.as_str());
    assert_eq!(json(place, "profile ls")[0]["name"], "demo");
    let verified = place.run(&["stage3", "verify", "--json", stage3]).ok();
    assert!(verified.text().contains(&tiny.key), "{verified}");
    tiny.keep("one", "profile/demo/upstream", 1);
    tiny.keep("one", "kept/one", 2);
    assert_eq!(json(place, "tag kept/one v1")["name"], "v1");
    assert_eq!(json(place, "tag ls")[0]["name"], "v1");
    assert_eq!(json(place, "diff profile/demo/upstream kept/one")["packages"], Value::from(Vec::<Value>::new()));
    assert!(json(place, "store du")["total_bytes"].as_u64().unwrap() > 0);
    assert_eq!(json(place, "store seal kept/one").as_array().unwrap().len(), 4);
    assert_eq!(json(place, "rollback kept/one")["name"], "kept/one");
    assert_eq!(json(place, "cp kept/one:/usr/bin/tool out")["to"], place.path("out").to_str().unwrap());
    assert_eq!(json(place, "tag rm v1")["name"], "v1");
    assert_eq!(json(place, "profile rename demo lab")["to"], "lab");
    for words in ["kernel ls", "kernel update", "patch ls", "logs", "tree ls"] {
        assert_eq!(json(place, words), Value::from(Vec::<Value>::new()), "{words}");
    }
}

#[test]
fn plans_and_trees() {
    let Some(shared) = shared() else { return };
    let place = &shared.place;
    // The key of the place's gpg is found, and written where builds look for it.
    let made = json(place, "init json-made --profile lab");
    assert_eq!(made["signing_key"]["fingerprint"], shared.key.as_str(), "{made}");
    let file = fs::read_to_string(place.path("json-made/env/sign_key")).unwrap();
    assert_eq!(file.lines().last(), Some(shared.key.as_str()), "{file}");
    fs::remove_dir_all(place.path("json-made")).unwrap();
    let plan: Value = serde_json::from_str(&place.run(&["pipeline", "plan", "--format", "json"]).ok().text()).unwrap();
    assert!(!plan["nodes"].as_array().unwrap().is_empty(), "{plan}");
    assert_eq!(json(place, "tree diff gentoo gentoo")["packages"], Value::from(Vec::<Value>::new()));
}

#[test]
fn stage4s_whose_profile_nobody_has_bootstrapped_get_the_one_that_is() {
    let Some(tiny) = tiny() else { return };
    let (place, stage3) = (&tiny.place, tiny.stage3.to_str().unwrap());
    let profile = |stage4: &str| fs::read_to_string(place.config.join("stage4.defines").join(stage4).join("profile")).unwrap();
    // Nobody can be asked.
    let asked = place.run(&["bootstrap", "--no-rebuild", "lab", stage3]).ok();
    asked.says("names `demo`, which is not bootstrapped; `--set-profiles` writes `lab` into it");
    assert_eq!(profile("hello"), "demo\n");
    // On a terminal the user is.
    let answered = |answer: &str| {
        let mut terminal = Terminal::start(place, &["bootstrap", "--no-rebuild", "lab", stage3])?;
        terminal.sees("names `demo`, which is not bootstrapped. Write `lab` into it? [y/N] ");
        terminal.types(answer);
        let (code, seen) = terminal.end();
        assert_eq!(code, Some(0), "{seen}");
        Some(seen)
    };
    for no in ["n\r", "\r"] {
        let seen = answered(no);
        assert!(seen.is_none_or(|seen| !seen.contains("written   ")));
        assert_eq!(profile("hello"), "demo\n");
    }
    if let Some(seen) = answered("Yes\r") {
        for stage4 in ["container", "hello", "server"] {
            assert!(seen.contains(&format!("stage4.defines/{stage4}/profile\r\n")), "{seen}");
        }
        assert_eq!(profile("hello"), "lab\n");
        assert!(profile("container").ends_with("\nlab\n"));
    }
    for stage4 in ["container", "hello", "server"] {
        let file = place.config.join("stage4.defines").join(stage4).join("profile");
        fs::write(&file, profile(stage4).replace("lab\n", "demo\n")).unwrap();
    }
    let set = place.run(&["bootstrap", "--no-rebuild", "--set-profiles", "lab", stage3, "--json"]).ok();
    let set: Value = serde_json::from_str(&set.text()).unwrap();
    let files = ["container", "hello", "server"].map(|stage4| format!("stage4.defines/{stage4}/profile"));
    assert_eq!(set["set_profiles"], Value::from(files.to_vec()));
    assert_eq!((profile("hello").as_str(), profile("container").ends_with("\nlab\n")), ("lab\n", true));
    // Each names one that is there, whichever that is.
    place.run(&["bootstrap", "--no-rebuild", "other", stage3]).ok().says_nothing_of("bootstrapped");
    assert_eq!(profile("server"), "# The name that you gave to `gentoomuch bootstrap`.\nlab\n");
}
