//! A second build knows how long the first one took.

use std::fs;

use serde_json::Value;

use crate::shared::{BULK, shared};
use crate::terminal::Terminal;

/// What was drawn, in pieces between what a terminal obeys.
fn drawn(seen: &str) -> Vec<String> {
    let (mut pieces, mut rest) = (vec![String::new()], seen.chars());
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => drop(rest.by_ref().skip(1).find(char::is_ascii_alphabetic)),
            '\r' | '\n' => {}
            c => {
                pieces.last_mut().unwrap().push(c);
                continue;
            }
        }
        pieces.push(String::new());
    }
    pieces.retain(|piece| !piece.trim().is_empty());
    pieces
}

#[test]
#[ignore = "long: two builds of the same"]
fn the_second_build_knows_how_long_the_first_one_took() {
    let Some(shared) = shared() else { return };
    let name = &format!("forecast-{}", std::process::id());
    let place = shared.place.with_config(shared.config("forecast"));
    let set = |file: &str, text: &str| {
        let path = place.config.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    };
    set(&format!("stage3.defines/{name}/cpu"), "generic-amd64");
    set(&format!("stage3.defines/{name}/portage.local"), name);
    set(&format!("stage3.defines/{name}/packages"), "");
    set(&format!("portage.locals/{name}/env/slow"), "SLOW_UNITS=\"1\"\nSLOW_SECONDS=\"6\"");
    set(&format!("portage.locals/{name}/package.env"), "app-misc/slow slow");
    // No other test has compiled this.
    let patch = format!("--- /dev/null\n+++ b/{name}\n@@ -0,0 +1 @@\n+built for one test");
    set(&format!("portage.locals/{name}/patches/app-misc/slow/{name}.patch"), &patch);
    for (file, text) in
        [("profile", "demo"), ("stage3", name), ("packages", "app-misc/slow"), ("format", "tar.zst"), ("removes", BULK)]
    {
        set(&format!("stage4.defines/{name}/{file}"), text);
    }

    let first = place.run(&["--log-format", "json", "pipeline", "--no-sign", name]).ok();
    let lines: Vec<Value> = first.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let is_slow = |line: &&Value| line["emerge"]["running"][0]["package"] == "app-misc/slow-1.0";
    let told = lines.iter().find(is_slow).unwrap_or_else(|| panic!("{first}"));
    assert_eq!((&told["node"], &told["emerge"]["total"]), (&format!("stage4/{name}").into(), &1.into()), "{told}");
    let times = fs::read_to_string(place.path("data/build-times")).unwrap();
    for what in ["\"app-misc/slow\"", &format!("\"stage4/{name}\""), &format!("\"artifact/{name}\"")] {
        assert!(times.contains(&format!("\"name\":{what}")), "{what}: {times}");
    }

    set(&format!("portage.locals/{name}/package.use"), "app-misc/slow again");
    let pretended = place.run(&["stage", "build", "--pretend", "--json", name]).ok();
    let of: Value = serde_json::from_str(&pretended.text()).unwrap();
    let list = of["lists"].as_array().unwrap().last().unwrap();
    assert_eq!(list["packages"][0]["package"], "app-misc/slow-1.0", "{of}");
    // It sleeps that long.
    assert!(list["packages"][0]["expected"]["secs"].as_u64().unwrap() >= 6 && list["estimated"]["unknown"] == 0, "{of}");
    let dry = place.run(&["pipeline", "--dry-run", name]).ok().text();
    assert!(dry.contains("\n2 of 3 nodes to build, ~") && dry.ends_with(" by earlier builds\n"), "{dry}");

    let Some(mut terminal) = Terminal::start(&place, &["pipeline", "--no-sign", name]) else { return };
    terminal.resize(40);
    terminal.sees("app-misc/slow");
    terminal.sees(" left");
    let narrow = drawn(terminal.seen());
    terminal.resize(100);
    terminal.sees("app-misc/slow-1.0 compile 0:0");
    terminal.sees(" of ~");
    // Somebody has to read what is drawn.
    terminal.sees("3 nodes, 2 built, 1 reused, in ");
    let (code, seen) = terminal.end();
    assert_eq!(code, Some(0), "{seen}");
    // Lines are filled up to the width, and follow each other.
    let lines = narrow.iter().map(|piece| piece.chars().take(40).collect::<String>());
    let of_slow: Vec<String> = lines.filter(|line| line.starts_with("  0/1 app-misc/slow")).collect();
    assert!(of_slow.iter().any(|line| line.trim_end().ends_with(" left") && line.ends_with(' ')), "{narrow:#?}");
    let nodes = format!("  stage4/{name}");
    assert!(
        drawn(&seen).iter().any(|piece| piece.starts_with(&nodes) && piece.contains(" of ~") && piece.contains(" left")),
        "{seen}"
    );
    // The last line says what is left of all nodes.
    assert!(drawn(&seen).iter().any(|piece| piece.contains(" of 2 nodes done") && piece.contains(" left")), "{seen}");
}
