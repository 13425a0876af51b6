//! Logs of builds, found by the names of what was built.

use serde_json::Value;

use crate::shared::shared;

#[test]
fn logs_are_listed_and_printed_by_name() {
    let Some(shared) = shared() else { return };
    let place = &shared.place;
    let all: Value = serde_json::from_str(&place.run(&["logs", "--json"]).ok().text()).unwrap();
    let runs: Vec<&str> = all.as_array().unwrap().iter().map(|run| run["what"].as_str().unwrap()).collect();
    assert!(runs.contains(&"stage-hello") && runs.contains(&"demo-gentoomuch-builder"), "{runs:?}");
    let run: Value = serde_json::from_str(&place.run(&["logs", "stage3/demo/gentoomuch/builder", "--json"]).ok().text()).unwrap();
    assert_eq!(run["what"], "demo-gentoomuch-builder");
    // The oldest is that of the bootstrap. Another test may have built the builder anew.
    let first = all.as_array().unwrap().iter().rfind(|run| run["what"] == "demo-gentoomuch-builder").unwrap();
    let first = std::path::Path::new(first["dir"].as_str().unwrap()).file_name().unwrap().to_str().unwrap();
    let run: Value = serde_json::from_str(&place.run(&["logs", first, "--json"]).ok().text()).unwrap();
    let names: Vec<&str> = run["logs"].as_array().unwrap().iter().map(|log| log["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"app-misc/hello-2.10") && names.contains(&"emerge"), "{names:?}");
    let table = place.run(&["logs", first]).ok().text();
    assert!(
        table.contains("\nrun    demo-gentoomuch-builder, began 20") && table.contains("packages/app-misc:hello-2.10:"),
        "{table}"
    );
    for name in ["hello", "app-misc/hello", "app-misc/hello-2.10"] {
        let log = place.run(&["logs", first, name]).ok().text();
        assert!(log.contains("Package:    app-misc/hello-2.10") && !log.contains('\u{1b}'), "{log}");
    }
    // Colours are those that Portage wrote.
    let log = place.run(&["logs", first, "hello", "--color", "always"]).ok().text();
    assert!(log.contains("\u{1b}[") && log.ends_with("\u{1b}[0m"), "{log}");
    place
        .run(&["logs", "demo/gentoomuch/builder", "helo"])
        .fails(2)
        .says("has no log of `helo`\nhint: `gentoomuch logs demo-gentoomuch-builder`");
    place.run(&["logs", "stage-helo"]).fails(2).says("there are no logs of `stage-helo`\nhint: did you mean `stage-hello`?");
}
