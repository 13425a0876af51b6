//! Several commands at once on one store.

use std::fs;

use crate::child;
use crate::place::{command_line, finish};
use crate::shared::shared;
use crate::tiny::tiny;

#[test]
fn two_freshroots_run_at_once() {
    let Some(shared) = shared() else { return };
    let meeting = shared.place.path("meeting point");
    drop(fs::remove_dir_all(&meeting));
    fs::create_dir_all(&meeting).unwrap();
    let bind = format!("{}:/mnt/meet", meeting.display());
    let start = |mine: &str, theirs: &str| {
        // Neither ends before it has seen the other.
        let script =
            format!("touch /mnt/meet/{mine} /root/{mine}; while ! test -e /mnt/meet/{theirs}; do sleep 0.05; done; ls /root");
        let mut command = shared.place.command(&["freshroot", "--network", "none", "--bind", &bind, "--", "sh", "-c", &script]);
        (command_line(&command), child::spawn(&mut command))
    };
    let (one, two) = (start("one", "two"), start("two", "one"));
    assert_eq!(finish(one.0, one.1).ok().text(), "one\n");
    assert_eq!(finish(two.0, two.1).ok().text(), "two\n");
}

#[test]
fn a_stage3_that_several_import_at_once_is_imported_once() {
    let Some(tiny) = tiny() else { return };
    let args = ["bootstrap", "same", tiny.stage3.to_str().unwrap(), "--no-rebuild"];
    let running: Vec<_> = (0..4).map(|_| child::spawn(&mut tiny.place.command(&args))).collect();
    let unchanged = running
        .into_iter()
        .map(|running| finish(args.join(" "), running).ok().text())
        .filter(|text| text.contains("(unchanged)"))
        .count();
    assert_eq!(unchanged, 3);
    let list: serde_json::Value = serde_json::from_str(&tiny.place.listing()).unwrap();
    assert_eq!(list["layers"].as_array().unwrap().len(), 1, "{list}");
}
