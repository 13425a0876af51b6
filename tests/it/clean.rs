//! `clean`: what goes, what stays, and that the store is whole afterwards.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::child;
use crate::place::{Place, command_line, finish};
use crate::shared::shared;
use crate::tiny::tiny;

fn json(place: &Place, args: &[&str]) -> Value {
    let ran = place.run(&[args, &["--json"]].concat()).ok();
    serde_json::from_str(&ran.text()).unwrap_or_else(|error| panic!("{error} in {ran}"))
}

/// Kind and name of each item, with why it goes.
fn items(plan: &Value) -> Vec<String> {
    let word = |item: &Value, name: &str| item[name].as_str().unwrap().to_owned();
    plan["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| format!("{} {}: {}", word(item, "kind"), word(item, "name"), word(item, "why")))
        .collect()
}

/// What is allocated below `path`, whoever owns it.
fn du(path: &Path) -> u64 {
    let script = "du -s -B 1 -- \"$1\" | cut -f 1";
    String::from_utf8(child::in_ids(script, &[path])).unwrap().trim().parse().unwrap()
}

fn tree(place: &Place, text: &str) {
    place.write("tree/profiles/repo_name", "gentoo\n");
    place.write("tree/app-misc/hello/Manifest", format!("DIST {text} 5 BLAKE2B ab SHA512 cd\n"));
    place.run(&["sync", "--from", "tree"]).ok();
}

#[test]
fn compiler_caches_keep_to_their_limit_and_go_with_their_profile() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    let write = |package: &str, bytes: usize, secs: u64| {
        let file = format!("cache/ccache/{package}/da/2cs1qe4evbcm8s46n9spfhr1905u2ka");
        place.write(&file, vec![b'x'; bytes]);
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(secs);
        fs::File::options().append(true).open(place.path(&file)).unwrap().set_modified(time).unwrap();
    };
    tiny.another("demo", "a");
    write("demo/a/old", 700 << 10, 1000);
    write("demo/a/new", 700 << 10, 2000);
    write("gone/a/b", 10, 3000);
    fs::create_dir_all(place.config.join("env")).unwrap();
    fs::write(place.config.join("env/ccache"), "1M\n").unwrap();
    let expected =
        ["ccache demo: a/old: more than `env/ccache` says, and others are newer", "ccache gone: a/b: there is no such profile"];
    assert_eq!(items(&json(place, &["clean", "--dry-run"])), expected);
    assert_eq!(items(&json(place, &["clean", "binpkgs", "--dry-run"])), [""; 0]);
    place.run(&["clean", "ccache", "--yes"]).ok();
    assert!(place.path("cache/ccache/demo/a/new").exists() && !place.path("cache/ccache/demo/a/old").exists());
    assert!(!place.path("cache/ccache/gone/a/b").exists());
    // The least recently grown goes with the rest.
    let shrunk = items(&json(place, &["clean", "ccache", "--dry-run", "--max-size", "1K"]));
    assert!(matches!(&shrunk[..], [one] if one.starts_with("ccache demo: a/new: not used since ")), "{shrunk:?}");
    // A line that is none: nothing is known to be too much.
    fs::write(place.config.join("env/ccache"), "much\n").unwrap();
    assert_eq!(items(&json(place, &["clean", "--dry-run"])), [""; 0]);
    fs::remove_file(place.config.join("env/ccache")).unwrap();
    assert_eq!(items(&json(place, &["clean", "--dry-run"])), ["ccache demo: a/new: the configuration has no `env/ccache`"]);
}

#[test]
fn what_no_name_leads_to_goes_and_the_rest_stays() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    assert!(place.run(&["clean"]).ok().text().contains("nothing to clean"));
    for mark in ["a", "b", "c"] {
        tiny.another("demo", mark);
    }
    tiny.another("other", "d");
    assert!(place.run(&["clean"]).ok().text().contains("nothing to clean"), "every state has a name, or had one");

    // Without a terminal only `--yes` removes anything.
    let refused = place.run(&["clean", "--keep", "1"]).fails(2);
    assert!(refused.text().contains("earlier state `profile/demo/upstream@{2}`"), "{refused}");
    refused.says("error: nothing was removed: there is no terminal to ask you on\n").says("hint: `--yes` removes what is shown");
    let plan = json(place, &["clean", "--keep", "1", "--dry-run"]);
    assert_eq!((plan["items"].as_array().unwrap().len(), &plan["removed"]), (2, &Value::Bool(false)), "{plan}");
    assert_eq!(items(&json(place, &["clean", "--keep", "1", "--older-than", "1d", "--dry-run"])), [""; 0], "they are new");
    assert_eq!(items(&json(place, &["clean", "--keep", "1", "--dry-run", "trees", "layers"])), [""; 0]);

    // To fit, earlier states go before the present one, which stays.
    let fit = json(place, &["clean", "-n", "--max-size", "1K"]);
    let earlier = items(&fit).into_iter().filter(|item| item.contains(": earlier state `profile/demo/upstream@{")).count();
    assert_eq!((earlier, fit["forgotten"][0]["positions"].clone()), (2, serde_json::json!([1, 2])), "{fit}");
    assert!(fit["total_bytes"].as_u64().unwrap() > fit["bytes"].as_u64().unwrap());

    let before = du(&place.store());
    let done = json(place, &["clean", "--keep", "2", "--yes"]);
    assert_eq!((items(&done).len(), &done["removed"]), (1, &Value::Bool(true)), "{done}");
    let freed = before - du(&place.store());
    let said = done["bytes"].as_u64().unwrap();
    assert!(said > 100_000 && freed.abs_diff(said) <= 8192, "said {said}, and it was {freed}");
    assert_eq!(json(place, &["profile", "show", "demo"])["history"].as_array().unwrap().len(), 2);
    place.run(&["profile", "rollback", "demo"]).ok();
    place.run(&["store", "verify"]).ok();

    // A removed profile's states, and what a removal by hand has left.
    let removed = place.run(&["profile", "rm", "other"]).ok();
    assert!(removed.text().contains("`gentoomuch clean` frees it"), "{removed}");
    let lost = place.store().join("layers/0123456789abcdef0123");
    fs::create_dir_all(lost.join("fs")).unwrap();
    fs::write(lost.join("layer.json"), r#"{"id":"0123456789abcdef0123","created":"","purpose":"import","base":null}"#).unwrap();
    place.run(&["store", "verify"]).fails(4);
    let shown = place.run(&["clean", "-n"]).ok().text();
    assert!(shown.contains("layers") && shown.contains("no build state has it") && shown.contains("it has no name"), "{shown}");
    let freed = place.run(&["clean", "--yes"]).ok().text();
    assert!(freed.contains("freed  ") && freed.ends_with("in 2 items\n"), "{freed}");
    place.run(&["store", "verify"]).ok();
    assert_eq!(place.list()["layers"].as_array().unwrap().len(), 2);
}

/// An artifact of `state` with the files beside it; an image shares its blob with what was packed.
fn artifact(place: &Place, day: u32, path: &str, state: &str) {
    let main = format!("data/stages/{path}");
    let is_image = Path::new(path).extension().is_some_and(|ending| ending == "oci");
    let files = if is_image {
        vec![format!("{main}/index.json"), format!("{main}/oci-layout"), format!("{main}/blobs/sha256/{day}")]
    } else {
        vec![main.clone()]
    };
    let beside = [".DIGESTS", ".sha256"].map(|suffix| format!("{main}{suffix}"));
    place.write(&format!("{main}.json"), serde_json::json!({ "state": state }).to_string());
    for path in files.iter().chain(&beside) {
        place.write(path, "x");
    }
    if is_image {
        let (blob, packed) = (place.path(files.last().unwrap()), place.path(&format!("cache/oci-layers/{day}")));
        fs::create_dir_all(packed.parent().unwrap()).unwrap();
        fs::write(&blob, "y".repeat(1_000_000)).unwrap();
        fs::hard_link(&blob, packed).unwrap();
    }
    let touched = [format!("{main}.json"), main].into_iter().chain(files).chain(beside);
    let paths: Vec<_> = touched.map(|path| place.path(&path)).collect();
    child::check(Command::new("touch").args(["-d", &format!("2026-01-0{day}")]).args(paths));
}

fn listed(place: &Place, dir: &str) -> Vec<String> {
    let entries = fs::read_dir(place.path(dir)).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_image_goes_with_all_that_is_beside_it_and_each_form_keeps_its_newest() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    for day in [1, 2, 3] {
        artifact(place, day, &format!("web/stage4-amd64-web-{day}.oci"), "none");
        artifact(place, day, &format!("kept/x/state-amd64-kept-x-{day}.squashfs"), "none");
    }
    artifact(place, 1, "web/stage4-amd64-web-1.tar.xz", "none");
    place.write("data/stages/state/0/.state-amd64-0.oci.new/state-amd64-0.oci/index.json", "x");
    let done = json(place, &["clean", "--yes", "--keep", "1"]);
    let expected = [
        "artifacts stage4-amd64-web-2.oci: a newer one stays",
        "artifacts state-amd64-kept-x-2.squashfs: a newer one stays",
        "artifacts .state-amd64-0.oci.new: an interrupted export",
        "artifacts stage4-amd64-web-1.oci: there are 2 newer ones",
        "artifacts state-amd64-kept-x-1.squashfs: there are 2 newer ones",
    ];
    assert_eq!(items(&done), expected);
    assert!(done["bytes"].as_u64().unwrap() < 500_000, "the blobs stay, as packed layers: {done}");
    let of = |name: &str| ["", ".DIGESTS", ".json", ".sha256"].map(|suffix| format!("{name}{suffix}"));
    assert_eq!(listed(place, "data/stages/web"), [of("stage4-amd64-web-1.tar.xz"), of("stage4-amd64-web-3.oci")].concat());
    assert_eq!(listed(place, "data/stages/kept/x"), of("state-amd64-kept-x-3.squashfs"));
    assert!(place.path("cache/oci-layers/1").exists());
    assert!(!place.path("data/stages/state").exists());

    // What an interrupted removal has left goes before what is whole, however new it is.
    for suffix in [".json", ".DIGESTS"] {
        fs::remove_file(place.path(&format!("data/stages/web/stage4-amd64-web-3.oci{suffix}"))).unwrap();
    }
    artifact(place, 4, "web/stage4-amd64-web-2.oci", "none");
    child::check(Command::new("touch").args(["-d", "2026-01-09"]).arg(place.path("data/stages/web/stage4-amd64-web-3.oci")));
    let all = items(&json(place, &["clean", "--yes", "--keep", "1"]));
    assert_eq!(all, ["artifacts stage4-amd64-web-3.oci: it is incomplete, and a complete one stays"]);
}

#[test]
fn the_artifact_of_the_present_state_stays_after_a_rollback() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    tiny.another("demo", "a");
    tiny.another("demo", "b");
    let shown = json(place, &["profile", "show", "demo"]);
    let [second, first] = [0, 1].map(|at| shown["history"][at]["state"].as_str().unwrap().to_owned());
    // As `stage build` and `stage rollback` would have it.
    let name = |values: [&str; 2]| {
        let lines: Vec<String> =
            values.iter().zip(["3", "2"]).map(|(value, day)| format!("{value} 2026-01-0{day}T00:00:00Z\n")).collect();
        fs::create_dir_all(place.store().join("refs/stage4")).unwrap();
        fs::write(place.store().join("refs/stage4/web.ref"), lines.concat()).unwrap();
    };
    name([&first, &second]);
    for (day, state) in [(1, &first), (2, &second), (3, &second)] {
        artifact(place, day, &format!("web/stage4-amd64-web-{day}.oci"), state);
        artifact(place, day, &format!("profile/demo/upstream/state-amd64-demo-{day}.squashfs"), state);
    }
    for limit in [["--keep", "1"], ["--max-size", "1K"]] {
        let all = items(&json(place, &[&["clean", "-n", "artifacts"][..], &limit].concat()));
        let mut gone: Vec<&str> = all.iter().map(|item| item.split([' ', ':']).nth(1).unwrap()).collect();
        gone.sort_unstable();
        assert_eq!(gone, ["stage4-amd64-web-2.oci", "state-amd64-demo-1.squashfs"], "{limit:?}: {all:?}");
    }
    // What has a tag is kept with what was made from it.
    place.run(&["tag", &second, "released"]).ok();
    let all = items(&json(place, &["clean", "-n", "artifacts", "--keep", "1"]));
    assert_eq!(all, ["artifacts state-amd64-demo-1.squashfs: there are 2 newer ones"], "{all:?}");
}

/// The store is in use while the name moves: what was shown goes, and nothing else.
#[test]
fn a_name_that_moves_before_the_removal_forgets_only_what_was_shown() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    for mark in ["a", "b", "c"] {
        tiny.another("demo", mark);
    }
    let history = || -> Vec<String> {
        let shown = json(place, &["profile", "show", "demo"]);
        shown["history"].as_array().unwrap().iter().map(|entry| entry["state"].as_str().unwrap().to_owned()).collect()
    };
    let before = history();
    let mut holder = Command::new("flock");
    holder.arg("-s").arg(place.store().join("locks/store")).args(["sh", "-c", "echo held; cat"]);
    let mut holding = child::spawn(holder.stdin(std::process::Stdio::piped()));
    std::io::Read::read_exact(holding.child().stdout.as_mut().unwrap(), &mut [0; 5]).unwrap();
    let mut command = place.command(&["clean", "--keep", "1", "--yes", "--json"]);
    let mut cleaning = child::spawn(&mut command);
    let mut said = std::io::BufReader::new(cleaning.child().stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("waiting: `store` is in use by") {
        line.clear();
        assert_ne!(std::io::BufRead::read_line(&mut said, &mut line).unwrap(), 0, "it did not wait");
    }
    place.run(&["profile", "rollback", "demo"]).ok();
    drop(holding.child().stdin.take());
    holding.output();
    std::io::Read::read_to_string(&mut said, &mut line).unwrap();
    let done: Value = serde_json::from_str(&finish(command_line(&command), cleaning).ok().text()).unwrap();
    assert_eq!(history(), [&before[1..2], &before[..1]].concat(), "{done}");
    assert_eq!(done["forgotten"][0]["values"], serde_json::json!(before[1..]), "{done}");
    // The other value that was shown is what the name stands for now.
    assert_eq!((items(&done).len(), place.list()["states"].as_array().unwrap().len()), (1, 2), "{done}");
    assert!(!place.store().join(format!("states/{}.json", before[2])).exists());
    place.run(&["store", "verify"]).ok();
}

#[test]
fn trees_distfiles_logs_and_artifacts_go_by_their_rules() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    place.write("cache/distfiles/hello-1.tar.xz", "hello");
    assert_eq!(items(&json(place, &["clean", "-n"])), [""; 0], "without a tree nobody knows");
    tree(place, "hello-1.tar.xz");
    tree(place, "hello-2.tar.xz");
    for name in
        ["hello-2.tar.xz", "hello-2.tar.xz.__download__", "x._checksum_failure_.ab12", "layout.conf", ".locks/x", "git3-src/y"]
    {
        place.write(&format!("cache/distfiles/{name}"), "x");
    }
    place.write("data/logs/old-1/emerge.log", "x");
    place.write("data/logs/new-1/emerge.log", "x");
    child::check(Command::new("touch").args(["-d", "40 days ago"]).arg(place.path("data/logs/old-1")));
    for (time, name) in [("1", "stage4-amd64-web-1.tar.xz"), ("2", "stage4-amd64-web-2.tar.xz"), ("3", "stage4-amd64-web-3.tar.xz")]
    {
        for suffix in ["", ".json", ".CONTENTS.gz"] {
            let path = format!("data/stages/web/{name}{suffix}");
            place.write(&path, "x");
            child::check(Command::new("touch").args(["-d", &format!("2026-01-0{time}")]).arg(place.path(&path)));
        }
    }
    let plan = json(place, &["clean", "-n"]);
    let failed = "distfiles x._checksum_failure_.ab12: a download that does not match its Manifest";
    assert_eq!(items(&plan), [failed, "logs old-1: older than 30 days"], "the tree of before has a name");
    let plan = json(place, &["clean", "-n", "--keep", "1"]);
    let all = items(&plan);
    assert_eq!(all.len(), 6, "{all:?}");
    assert!(all[0].starts_with("trees ") && all[0].ends_with("it has no name, and no kept state was built with it"), "{all:?}");
    assert!(all.contains(&"distfiles hello-1.tar.xz: not in the Manifests of the trees that stay".to_owned()), "{all:?}");
    assert!(all.contains(&"artifacts stage4-amd64-web-1.tar.xz: there are 2 newer ones".to_owned()), "{all:?}");
    let old = place.list()["trees"][0]["origin"]["digest"].as_str().unwrap().to_owned();
    place.write("config/env/tree", format!("gentoo sha256:{old}\n"));
    let pinned = items(&json(place, &["clean", "-n", "--keep", "1"]));
    assert!(pinned.iter().all(|item| !item.starts_with("trees ") && !item.contains("hello-1.tar.xz")), "{pinned:?}");
    fs::remove_file(place.config.join("env/tree")).unwrap();
    let done = place.run(&["clean", "--yes", "--keep", "1"]).ok();
    assert!(done.text().contains("in 6 items"), "{done}");
    let left = |dir: &str| {
        let mut names: Vec<_> =
            fs::read_dir(place.path(dir)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(left("cache/distfiles"), [".locks", "git3-src", "hello-2.tar.xz", "hello-2.tar.xz.__download__", "layout.conf"]);
    assert_eq!(
        (left("data/logs"), left("data/stages/web").len(), left("data/store/trees").len()),
        (vec!["new-1".to_owned()], 3, 1)
    );
    assert!(place.run(&["clean", "--keep", "1"]).ok().text().contains("nothing to clean"));

    // Until it fits: what was used last stays longest, and what is in use always.
    place.write("cache/distfiles/hello-2.tar.xz", "y".repeat(3_000_000));
    let shrunk = json(place, &["clean", "--yes", "--max-size", "1M"]);
    assert!(items(&shrunk).iter().any(|item| item.starts_with("distfiles hello-2.tar.xz: not used since 20")), "{shrunk}");
    let small = json(place, &["clean", "-n", "--max-size", "1K"]);
    assert_eq!(small["max_size_bytes"], 1024, "{small}");
    let words = place.run(&["clean", "-n", "--max-size", "1K"]).ok().text();
    assert!(words.contains("note     more than the 1.0 KiB that you asked for: the rest is in use\n"), "{words}");
    place.run(&["clean", "--max-size", "big"]).fails(2).says("a size is a number with K, M, G or T");
    place.run(&["clean", "--everything", "--keep", "2"]).fails(2);
}

#[test]
fn everything_goes_without_root() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    tiny.another("demo", "a");
    place.write("data/patches/work/file", "mine");
    place.write("cache/distfiles/x", "x");
    let plan = place.run(&["clean", "-n", "--everything"]).ok().text();
    assert!(plan.contains("all layers (1)") && plan.contains("patches` stays: it has your own work"), "{plan}");
    place.run(&["clean", "--everything"]).fails(2).says("no terminal to ask you on");
    assert!(place.store().exists());
    place.run(&["clean", "--everything", "--yes"]).ok();
    assert!(!place.store().exists() && !place.path("cache/distfiles").exists() && place.path("data/patches/work/file").exists());
    assert!(place.run(&["store", "ls"]).ok().text().contains("the store is empty"));
}

#[test]
fn everything_goes_although_something_is_damaged() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    tiny.another("demo", "a");
    place.write("data/default-profile", "demo\n");
    let state = json(place, &["profile", "show", "demo"])["history"][0]["state"].as_str().unwrap().to_owned();
    let damaged = format!("data/store/states/{state}.json");
    fs::remove_file(place.path(&damaged)).unwrap();
    place.write(&damaged, "{");
    let plan = place.run(&["clean", "-n", "--everything"]).ok().text();
    assert!(plan.contains("all build states (1), the names of profiles with them"), "{plan}");
    place.run(&["clean", "--everything", "--yes"]).ok();
    assert!(!place.store().exists() && !place.path("data/default-profile").exists());
}

#[test]
fn pins_that_cannot_be_read_are_no_leave_to_remove_trees() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    tree(place, "hello-1.tar.xz");
    tree(place, "hello-2.tar.xz");
    let pins = place.config.join("env/tree");
    fs::write(&pins, [0xff, b'\n']).unwrap();
    let refused = place.run(&["clean", "--yes", "--keep", "1", "trees"]).fails(1);
    refused.says(&format!("cannot read `{}`", pins.display()));
    assert_eq!(place.list()["trees"].as_array().unwrap().len(), 2);
    fs::remove_file(pins).unwrap();
    assert_eq!(items(&json(place, &["clean", "--yes", "--keep", "1", "trees"])).len(), 1);
}

/// Only the state says which pool it was built with.
#[test]
fn a_state_that_is_lost_keeps_what_it_may_need() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    place.run(&["bootstrap", "--no-rebuild", "demo", tiny.stage3.to_str().unwrap(), "--allow-unsigned", "made here"]).ok();
    place.write("cache/binpkgs/pool/pool.json", "{}");
    let states = place.store().join("states");
    let state = fs::read_dir(&states).unwrap().next().unwrap().unwrap().path();
    fs::rename(&state, place.path("state.json")).unwrap();
    let done = json(place, &["clean", "--yes"]);
    assert_eq!(items(&done), [""; 0], "{done}");
    assert!(done.to_string().contains("is needed, but missing or damaged"), "{done}");
    // Restored, it needs nothing of the pool.
    fs::rename(place.path("state.json"), &state).unwrap();
    assert_eq!(items(&json(place, &["clean", "--yes"])), ["binpkgs pool, 0 packages: no build state uses this pool"]);
}

#[test]
fn a_pool_that_no_state_is_of_goes_and_what_is_not_a_pool_stays() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    for name in ["old-pool/pool.json", "old-pool/a/b/b-1-1.gpkg.tar", "throwaway/old-pool/pool.json", "mine/a/b/b-1-1.gpkg.tar"] {
        place.write(&format!("cache/binpkgs/{name}"), "x");
    }
    let done = json(place, &["clean", "--yes", "binpkgs"]);
    let why = "no build state uses this pool";
    let expected = [format!("binpkgs old-pool, 1 package: {why}"), format!("binpkgs throwaway/old-pool, 0 packages: {why}")];
    assert_eq!(items(&done), expected);
    let left: Vec<_> = fs::read_dir(place.path("cache/binpkgs")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(!place.path("cache/binpkgs/throwaway/old-pool").exists() && place.path("cache/binpkgs/mine/a/b").exists());
}

#[test]
fn of_a_pool_that_no_state_is_of_what_is_installed_stays() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    place.write("tiny/var/db/pkg/dev-libs/used-1.0/BUILD_ID", "2\n");
    tiny.another("demo", "a");
    for name in ["pool.json", "dev-libs/used/used-1.0-1.gpkg.tar", "dev-libs/used/used-1.0-2.gpkg.tar"] {
        place.write(&format!("cache/binpkgs/old-1-pool/{name}"), "x");
    }
    let done = json(place, &["clean", "--yes", "binpkgs"]);
    let why = "no build state uses its pool, and no state has it installed";
    assert_eq!(items(&done), [format!("binpkgs dev-libs/used/used-1.0-1.gpkg.tar in …pool: {why}")]);
    assert!(place.path("cache/binpkgs/old-1-pool/dev-libs/used/used-1.0-2.gpkg.tar").exists());
    // Without the state nobody has it.
    place.run(&["profile", "rm", "demo"]).ok();
    let whole = items(&json(place, &["clean", "--yes"]));
    assert!(whole.contains(&"binpkgs old-1-pool, 1 package: no build state uses this pool".to_owned()), "{whole:?}");
    assert!(!place.path("cache/binpkgs/old-1-pool").exists());
}

/// Looked at only: other tests work in this place.
#[test]
fn packages_go_by_ecleans_rules_and_nothing_goes_while_somebody_builds() {
    let Some(shared) = shared() else { return };
    let place = &shared.place;
    let state = json(place, &["store", "show", "profile/demo/gentoomuch/builder"]);
    let pools = place.path("cache/binpkgs");
    let mut found = fs::read_dir(&pools).unwrap().map(|entry| entry.unwrap().path());
    let pool = found.find(|pool| pool.join("dev-libs/greet/greet-1.0-1.gpkg.tar").exists()).expect("a pool with packages");
    assert!(state["origin"]["pool"].is_object(), "{state}");
    fs::create_dir_all(pool.join("app-misc/gone")).unwrap();
    fs::write(pool.join("app-misc/gone/gone-1.0-1.gpkg.tar"), "x").unwrap();
    let all = items(&json(place, &["clean", "-n", "binpkgs"]));
    fs::remove_dir_all(pool.join("app-misc/gone")).unwrap();
    let gone = all.iter().find(|item| item.starts_with("binpkgs app-misc/gone/gone-1.0-1.gpkg.tar in"));
    assert!(gone.is_some_and(|item| item.ends_with("no longer in the tree, and not installed in any state")), "{all:?}");
    assert!(!all.iter().any(|item| item.contains("hello-2.10-1")), "installed in the builder: {all:?}");

    let mut command = place.command(&["freshroot", "--network", "none", "--", "sh", "-c", "echo up; cat"]);
    let mut running = child::spawn(command.stdin(std::process::Stdio::piped()));
    std::io::Read::read_exact(running.child().stdout.as_mut().unwrap(), &mut [0; 3]).unwrap();
    place.write("data/logs/old-busy/emerge.log", "x");
    child::check(Command::new("touch").args(["-d", "40 days ago"]).arg(place.path("data/logs/old-busy")));
    let busy = place.run(&["--no-wait", "clean", "--yes", "logs"]).fails(1);
    busy.says("`store` is in use by process").says("freshroot --network none");
    assert!(place.path("data/logs/old-busy").exists());
    fs::remove_dir_all(place.path("data/logs/old-busy")).unwrap();
    drop(running.child().stdin.take());
    finish(command_line(&command), running).ok();
}

#[test]
fn a_suspended_session_goes_only_when_asked_for() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    tiny.another("demo", "a");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let now = jiff::Timestamp::now();
    let record = serde_json::json!({
        "id": "0123456789abcdef0123", "purpose": "stage", "base": null, "key": "k", "subject": "stage4/web of here",
        "created": now.to_string(), "boot_id": boot.trim(), "pid1": null,
        "status": { "is": "suspended", "note": "emerge failed", "at": now.to_string() },
    });
    let session = "data/store/sessions/0123456789abcdef0123";
    place.write(&format!("{session}/session.json"), record.to_string());
    place.write(&format!("{session}/lock"), "");
    place.write(&format!("{session}/layer/fs/file"), "x");
    place.write("cache/binpkgs/pool/pool.json", "{}");
    let words = place.run(&["clean"]).ok().text();
    assert!(words.contains("note     1 suspended session that can go on stays; `--sessions` takes it too"), "{words}");
    assert!(words.contains("packages without a build state stay while a session is suspended"), "{words}");
    assert_eq!(items(&json(place, &["clean", "-n", "sessions", "--older-than", "1d"])), [""; 0]);
    let done = json(place, &["clean", "--yes", "--sessions"]);
    let pool = "binpkgs pool, 0 packages: no build state uses this pool";
    let session = "sessions 0123456789abcdef0123 stage4/web of here: suspended: emerge failed";
    assert_eq!(items(&done), [session, pool]);
    assert!(!place.store().join("sessions/0123456789abcdef0123").exists() && !place.path("cache/binpkgs/pool").exists());
}

/// As a file system check, or a user, leaves it.
#[test]
fn layers_stay_as_long_as_a_state_is_missing_that_a_name_leads_to() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    tiny.another("demo", "a");
    tiny.another("demo", "b");
    tiny.another("gone", "c");
    place.run(&["profile", "rm", "gone"]).ok();
    let id = json(place, &["profile", "show", "demo"])["history"][1]["state"].as_str().unwrap().to_owned();
    let file = place.store().join(format!("states/{id}.json"));
    let aside = place.path("aside.json");
    fs::rename(&file, &aside).unwrap();
    // What a killed process leaves, so that recovery has something to do.
    place.write("data/store/sessions/0123456789abcdef0123/lock", "");
    let layers = || place.list()["layers"].as_array().unwrap().len();
    assert_eq!(layers(), 3);
    assert_eq!(place.sessions().len(), 0);
    for limits in [&["--yes"][..], &["--yes", "--max-size", "1K"]] {
        let plan = json(place, &[&["clean"], limits].concat());
        assert_eq!((items(&plan), layers()), (Vec::new(), 3), "{limits:?}");
        let note = format!("build state {id} is needed, but missing or damaged: all states, layers and trees stay");
        assert!(plan["notes"].to_string().contains(&note), "{plan}");
    }
    let told = place.run(&["store", "verify"]).fails(4).text();
    assert!(
        told.contains(&format!("`profile/demo/upstream` once named build state `{id}`, but `states/{id}.json` is missing")),
        "{told}"
    );
    assert!(
        told.contains(
            "restore that file from a backup, or give up the earlier value with `gentoomuch clean --keep \
        N`"
        ),
        "{told}"
    );
    fs::rename(&aside, &file).unwrap();
    place.run(&["profile", "rollback", "demo"]).ok();
    assert_eq!(items(&json(place, &["clean", "--yes"])).len(), 1);
    place.run(&["store", "verify"]).ok();

    // Given up, as `store verify` says.
    place.run(&["profile", "rollback", "demo"]).ok();
    fs::remove_file(&file).unwrap();
    let done = json(place, &["clean", "--yes", "--keep", "1"]);
    assert!(done["forgotten"][0]["values"].to_string().contains(&id), "{done}");
    assert_eq!(layers(), 1);
    place.run(&["store", "verify"]).ok();
}
