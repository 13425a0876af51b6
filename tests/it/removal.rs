//! `rm`, `stage ls|show|rm`, `clean --orphans` and what is kept anew: what goes, what stays, and what is said.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ChildStderr;

use gentoomuch::internals::store::{Purpose, Session, Store, Wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::child::{self, Known};
use crate::place::{Place, Ran, command_line, finish};
use crate::shared::shared;
use crate::terminal::Terminal;
use crate::tiny::{Tiny, tiny};

fn json(place: &Place, args: &[&str]) -> Value {
    let ran = place.run(&[args, &["--json"]].concat()).ok();
    serde_json::from_str(&ran.text()).unwrap_or_else(|error| panic!("{error} in {ran}"))
}

fn store(place: &Place) -> Store {
    let record: Value = serde_json::from_slice(&fs::read(place.store().join("store.json")).unwrap()).unwrap();
    Store::open(&place.store(), &serde_json::from_value(record["idmap"].clone()).unwrap()).unwrap()
}

fn names(place: &Place) -> Vec<String> {
    let list = place.list();
    list["refs"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

/// Fails unless it was refused with these words and a hint. Not held against a transcript: ids of states are in names of files, and some
/// names are not for files at all.
#[track_caller]
fn refused(ran: &Ran, words: &str) {
    let all = (ran.status.code(), ran.stderr.contains(words), ran.stderr.contains("\nhint: "));
    assert_eq!(all, (Some(2), true, true), "{words:?} in {ran}");
}

/// A place with the profile `demo`, `kept/one` on it and `kept/two` on that one.
fn two_kept() -> Option<Tiny> {
    let tiny = tiny()?;
    tiny.another("demo", "a");
    tiny.keep("one", "profile/demo/upstream", 1);
    tiny.keep("two", "kept/one", 1);
    Some(tiny)
}

/// Gives the state `base` further names.
fn name(place: &Place, base: &str, names: &[&str]) {
    let store = store(place);
    let id = store.ref_get(base).unwrap().unwrap();
    for name in names {
        store.ref_set(name, &id).unwrap();
    }
}

fn session_on(place: &Place, base: &str) -> Session {
    let store = store(place);
    let state = store.state(&store.ref_get(base).unwrap().unwrap()).unwrap();
    store.session_create(Some(&state), Purpose::Throwaway, "").unwrap()
}

#[test]
fn a_name_goes_once_it_was_shown_and_agreed_to() {
    let Some(tiny) = two_kept() else { return };
    let place = &tiny.place;
    let plan = json(place, &["rm", "--dry-run", "two", "kept/one"]);
    let planned: Vec<&str> = plan["names"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!((planned, &plan["removed"], &plan["unnamed_states"]), (vec!["kept/two", "kept/one"], &false.into(), &2.into()));
    assert!(plan["unnamed_bytes"].as_u64().unwrap() > 0, "{plan}");
    let shown = place.run(&["rm", "two"]).fails(2).says("nothing was removed: there is no terminal").says("hint: `--yes` removes");
    assert!(shown.text().contains("kept/two") && shown.text().contains("kept session"), "{shown}");
    assert_eq!(names(place), ["kept/one", "kept/two", "profile/demo/upstream"]);

    let done = place.run(&["rm", "--yes", "two"]).ok().text();
    assert!(done.contains("removed  kept/two\n1 state without a name now: "), "{done}");
    let done = json(place, &["rm", "-y", "kept/one"]);
    assert_eq!((&done["removed"], names(place)), (&true.into(), vec!["profile/demo/upstream".to_owned()]));
    place.run(&["clean", "--yes"]).ok();
    assert_eq!(place.list()["states"].as_array().unwrap().len(), 1);
    place.run(&["store", "verify"]).ok();
}

#[test]
fn what_something_stands_on_stays() {
    let Some(tiny) = two_kept() else { return };
    let place = &tiny.place;
    place.run(&["rm", "--yes", "one"]).fails(2).says("`kept/one` is in use\n  kept `two` was built on it\n");
    // Another name for it is enough.
    place.run(&["tag", "kept/one", "base"]).ok();
    place.run(&["rm", "--yes", "kept/one"]).ok();
    place.run(&["rm", "--yes", "base"]).fails(2).says("`tag/base` is in use");
    let forced = place.run(&["rm", "--yes", "--force", "base"]).ok().text();
    assert!(forced.contains("left     kept `two` was built on it\n"), "{forced}");
    place.run(&["clean", "--yes"]).ok();
    assert_eq!(place.run(&["cp", "kept/two:/etc/one", "-"]).ok().text(), "one");

    // A session that waits for being resumed is something, too, and one that runs is not to be disturbed.
    let session = session_on(place, "kept/two");
    for force in [&[][..], &["--force"]] {
        let ran = place.run(&[&["rm", "--yes", "two"], force].concat()).fails(2);
        ran.says("`kept/two` is in use\n  a throwaway session is running in it\nhint: end it first");
    }
    session.suspend("interrupted").unwrap();
    place
        .run(&["rm", "--yes", "two"])
        .fails(2)
        .says("a throwaway session on it is suspended: interrupted\nhint: remove the name anyway");
    place.run(&["rm", "--yes", "two", "--force"]).ok();
    place.run(&["clean", "--yes", "--sessions"]).ok();
    assert_eq!(place.list()["states"].as_array().unwrap().len(), 1);
}

#[test]
fn what_has_a_definition_stays() {
    let Some(tiny) = two_kept() else { return };
    let place = &tiny.place;
    let all = ["stage4/hello", "stage4/old", "profile/demo/plain", "profile/demo/old", "kernel/demo/qemu", "kernel/demo/old"];
    place.write("config/kernel.configs/qemu.kconf", "CONFIG_64BIT=y\n");
    name(place, "kept/two", &all);
    name(place, "kept/two", &["kernel-sources/demo/gentoo-sources", "profile/demo/gentoomuch/builder"]);
    for (name, words) in [
        ("hello", "`stage4/hello` has a definition: `stage4.defines/hello`\nhint: remove `stage4.defines/hello` from"),
        ("profile/demo/plain", "`profile/demo/plain` has a definition: `stage3.defines/plain`\n"),
        ("kernel/demo/qemu", "`kernel/demo/qemu` has a definition: `kernel.configs/qemu`\n"),
    ] {
        place.run(&["rm", "--yes", name]).fails(2).says(words);
    }
    // What a profile consists of goes with it, whatever is said.
    for name in ["demo", "profile/demo", "profile/demo/upstream", "profile/demo/gentoomuch/builder"] {
        place
            .run(&["rm", "--yes", "--force", name])
            .fails(2)
            .says("belongs to the profile `demo`\nhint: `gentoomuch profile rm demo`");
    }
    place.run(&["rm", "--yes", "stage4/old", "profile/demo/old", "kernel/demo/old", "kernel-sources/demo/gentoo-sources"]).ok();
    place.run(&["rm", "--yes", "--force", "hello"]).ok();
    assert_eq!(
        names(place),
        [
            "kept/one",
            "kept/two",
            "kernel/demo/qemu",
            "profile/demo/gentoomuch/builder",
            "profile/demo/plain",
            "profile/demo/upstream"
        ]
    );

    // Whoever cannot read the definitions does not know that there is none.
    name(place, "kept/two", &["stage4/old"]);
    let folder = place.config.join("stage4.defines");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o000)).unwrap();
    place.run(&["rm", "--yes", "stage4/old"]).fails(3).says("cannot read");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    place.run(&["--config", "nowhere", "rm", "--yes", "stage4/old"]).fails(3).says("there is no configuration directory");
    place.run(&["--config", "nowhere", "rm", "--yes", "two"]).ok();
}

#[test]
fn names_that_mean_nothing_or_too_much() {
    let Some(tiny) = two_kept() else { return };
    let place = &tiny.place;
    place.run(&["tag", "kept/two", "one"]).ok();
    place
        .run(&["rm", "--yes", "one"])
        .fails(2)
        .says("`one` means more than one thing\nhint: write one of these: tag/one, kept/one");
    let id = store(place).ref_get("kept/one").unwrap().unwrap().to_string();
    let long = "x".repeat(300);
    for (name, words) in [
        ("", "no build state is called ``"),
        ("../../store.json", "no build state is called"),
        ("kept/", "no build state is called"),
        ("kept/tow", "hint: did you mean `kept/two`?"),
        ("a\u{1b}[31m\n", "no build state is called `a\\u{1b}[31m\\n`"),
        (long.as_str(), "no build state is called"),
        ("kept/one@{0}", "`kept/one@{0}` is an earlier state of a name"),
        ("kept/one@{1}", "names are removed as a whole\nhint: `gentoomuch clean --keep N` removes earlier states"),
        (&id[..12], "is the id of a build state, not a name\nhint: it is called kept/one"),
    ] {
        refused(&place.run(&["rm", "--yes", name]), words);
    }
    // Nothing of it goes if one of them is wrong.
    place.run(&["rm", "--yes", "two", "nobody"]).fails(2).says("no build state is called `nobody`");
    assert_eq!(names(place), ["kept/one", "kept/two", "profile/demo/upstream", "tag/one"]);
    place.write("tree/profiles/repo_name", "gentoo\n");
    place.run(&["sync", "--from", "tree", "--json"]).ok();
    place.run(&["rm", "--yes", "tree/gentoo"]).fails(2).says("`tree/gentoo` is a tree snapshot\nhint: `gentoomuch tree rm gentoo`");
}

/// Reads what a command says until it waits for a lock; the rest can be read on.
fn until_it_waits(running: &mut Known) -> BufReader<ChildStderr> {
    let mut stderr = BufReader::new(running.child().stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("waiting: ") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended without waiting");
    }
    stderr
}

#[test]
fn a_name_is_whole_or_gone_wherever_it_ends() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    tiny.another("demo", "a");
    let chain = [("one", "profile/demo/upstream"), ("one", "kept/one"), ("two", "kept/one"), ("three", "kept/two")];
    for (name, base) in chain {
        tiny.keep(name, base, 1);
    }
    for (signal, left) in [(Signal::SIGKILL, "kept/two"), (Signal::SIGTERM, "kept/one")] {
        // It removes the youngest one, and waits for the next.
        let lock = store(place).lock_named(left, Wait::Quietly).unwrap();
        let all = ["rm", "--yes", "--force", "one", "two", "three"];
        let args = if signal == Signal::SIGKILL { &all[..] } else { &all[..5] };
        let mut command = place.command(args);
        let mut running = child::spawn(&mut command);
        let mut stderr = until_it_waits(&mut running);
        kill(Pid::from_raw(i32::try_from(running.id()).unwrap()), signal).unwrap();
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        let ended = finish(command_line(&command), running);
        assert!(!ended.status.success(), "{ended}");
        assert_eq!(rest.contains("interrupted\n  removed before: "), signal == Signal::SIGTERM, "{rest}");
        drop(lock);
        place.run(&["store", "verify"]).ok();
        assert!(names(place).contains(&left.to_owned()));
    }
    assert_eq!(json(place, &["log", "kept/one"]).as_array().unwrap().len(), 2, "with all that it was before");
}

#[test]
fn of_two_at_once_one_removes_it() {
    let Some(tiny) = two_kept() else { return };
    let place = &tiny.place;
    let lock = store(place).lock_named("kept/two", Wait::Quietly).unwrap();
    let start = || {
        let mut running = child::spawn(&mut place.command(&["rm", "--yes", "two"]));
        let stderr = until_it_waits(&mut running);
        (running, stderr)
    };
    let both = [start(), start()];
    drop(lock);
    let mut said = Vec::new();
    for (running, mut stderr) in both {
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        said.push((running.output().status.code(), rest));
    }
    said.sort();
    assert_eq!((said[0].0, said[1].0), (Some(0), Some(2)), "{said:?}");
    assert!(said[1].1.contains("error: `kept/two` is not what it was when it was shown\nhint: repeat the command"), "{said:?}");
    assert_eq!(names(place), ["kept/one", "profile/demo/upstream"]);
}

#[test]
fn a_kept_state_is_replaced_if_that_is_said() {
    let Some(shared) = shared() else { return };
    let name = format!("replaced-{}", std::process::id());
    let freshroot = |args: &[&str]| shared.place.run(&[&["freshroot", "--network", "none"], args].concat());
    freshroot(&["--keep", &name, "--", "sh", "-c", "echo 1 >/root/which"]).ok();
    let refused = freshroot(&["--keep", &name, "--", "true"]).fails(125);
    refused.says("is already kept").says("hint: choose another name, or replace it with `--force`");
    freshroot(&["--force", "--", "true"]).fails(2).says("--keep <NAME>");
    // A command that fails replaces nothing.
    freshroot(&["--keep", &name, "--force", "--", "false"]).fails(1).says("nothing is kept");
    let script = "echo 2 >>/root/which";
    let ran = freshroot(&["--from", &name, "--keep", &name, "--force", "--", "sh", "-c", script]).ok();
    ran.says(&format!("`kept/{name}@{{1}}` is what was kept before"));
    let which = |at: &str| shared.place.run(&["cp", &format!("kept/{name}{at}:/root/which"), "-"]).ok().text();
    assert_eq!((which(""), which("@{1}")), ("1\n2\n".to_owned(), "1\n".to_owned()));
    // By `shell`, too; and what was replaced goes like the earlier states of other names.
    shared.place.run(&["shell", &format!("kept/{name}"), "--keep", &name, "--force", "--", "true"]).ok();
    let plan = json(&shared.place, &["clean", "--dry-run", "--keep", "1", "states"]);
    let forgotten = plan["forgotten"].as_array().unwrap().iter().find(|row| row["name"] == format!("kept/{name}").as_str());
    assert_eq!(forgotten.unwrap()["positions"], serde_json::json!([1, 2]), "{plan}");

    // Another one that keeps the same waits for the first.
    let lock = store(&shared.place).lock_named(&format!("kept/{name}"), Wait::Quietly).unwrap();
    let mut second = child::spawn(&mut shared.place.command(&["freshroot", "--keep", &name, "--force", "--", "true"]));
    let stderr = until_it_waits(&mut second);
    drop((lock, stderr));
    assert!(second.output().status.success());
    shared.place.run(&["rm", "--yes", &name]).ok();
    assert!(!Path::new(&shared.place.store()).join(format!("refs/kept/{name}.ref")).exists());
}

/// The rows of `stage ls`, by name.
fn stage(place: &Place, name: &str) -> Value {
    let rows = json(place, &["stage", "ls"]);
    rows.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {rows}")).clone()
}

/// A place in which `stage4/old` and `stage4/hello` are exported, and only the second has a definition.
fn two_exported() -> Option<Tiny> {
    let tiny = two_kept()?;
    name(&tiny.place, "kept/two", &["stage4/old", "stage4/hello"]);
    for (stage, format) in [("old", "tar.xz"), ("old", "oci"), ("hello", "tar.xz")] {
        tiny.place.run(&["export", "--no-sign", "--format", format, &format!("stage4/{stage}")]).ok();
    }
    Some(tiny)
}

fn files(place: &Place, dir: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(place.path(dir)) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The artifact of `stage` in `format`.
fn artifact(place: &Place, stage: &str, format: &str) -> String {
    let ending = format!(".{format}");
    files(place, &format!("data/stages/{stage}")).into_iter().find(|name| name.ends_with(&ending)).unwrap()
}

#[test]
fn stages_are_listed_with_their_artifacts() {
    let Some(tiny) = two_exported() else { return };
    let place = &tiny.place;
    let row = stage(place, "old");
    assert_eq!((&row["defined"], &stage(place, "hello")["defined"]), (&false.into(), &true.into()));
    assert_eq!(row["artifacts"].as_array().unwrap().len(), 2, "{row}");
    for artifact in row["artifacts"].as_array().unwrap() {
        let all = (&artifact["condition"], &artifact["current"], &artifact["signed_by"]);
        assert_eq!(all, (&"complete".into(), &true.into(), &Value::Null), "{row}");
        assert!(artifact["size_bytes"].as_u64().unwrap() > 100, "{row}");
    }
    // A definition that was never built is one, too.
    let never = stage(place, "server");
    assert_eq!((&never["state"], &never["artifacts"]), (&Value::Null, &serde_json::json!([])));
    let text = place.run(&["stage", "list"]).ok().text();
    assert!(text.starts_with("STAGE") && text.contains("no definition") && text.contains("nobody"), "{text}");

    // Earlier artifacts are no longer those of the present state.
    name(place, "kept/one", &["stage4/old"]);
    let text = place.run(&["stage", "show", "old"]).ok().text();
    for words in [
        "stage4    old\n",
        "note      it has no definition\n",
        "base      profile/demo/upstream\n",
        "packages  0\n",
        "of an earlier state, not signed",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    let shown = json(place, &["stage", "show", "old"]);
    assert_eq!((&shown["name"], &shown["package_count"]), (&"old".into(), &0.into()), "{shown}");
    place.run(&["stage", "show", "odl"]).fails(2).says("there is no stage4 `odl`\nhint: did you mean `old`?");
    assert!(place.run(&["stage", "show", "server"]).ok().text().contains("state     not built yet\n"));
}

#[test]
fn artifacts_of_a_stage_go_by_themselves_or_with_its_state() {
    let Some(tiny) = two_exported() else { return };
    let place = &tiny.place;
    let tar = artifact(place, "old", "tar.xz");
    place.run(&["stage", "rm", "nobody"]).fails(2).says("there is no stage4 `nobody`");
    place
        .run(&["stage", "rm", "old", "--artifact", "x.tar", "--yes"])
        .fails(2)
        .says("`old` has no artifact `x.tar`\nhint: there are: ");
    refused(&place.run(&["stage", "rm", "old", "--artifact", &tar]), "nothing was removed: there is no terminal");
    let plan = json(place, &["stage", "rm", "old", "-n"]);
    let counts = (plan["artifacts"].as_array().unwrap().len(), plan["names"].as_array().unwrap().len(), plan["removed"].clone());
    assert_eq!(counts, (2, 1, false.into()));
    place.run(&["stage", "rm", "old", "--artifact", &tar, "--yes"]).ok();
    assert!(!files(place, "data/stages/old").iter().any(|name| name.contains(".tar.xz")), "{:?}", files(place, "data/stages/old"));

    let done = place.run(&["stage", "remove", "old", "--yes"]).ok().text();
    assert!(done.contains("removed  stage4/old\n"), "{done}");
    assert!(!place.path("data/stages/old").exists() && !names(place).contains(&"stage4/old".to_owned()));

    // What has a definition keeps its state; without it, artifacts go all the same.
    place.run(&["stage", "rm", "hello", "--yes"]).fails(2).says("`stage4/hello` has a definition").says("--force");
    place.run(&["stage", "rm", "hello", "--artifact", "all", "--yes"]).ok();
    assert_eq!((files(place, "data/stages/hello").len(), names(place).contains(&"stage4/hello".to_owned())), (0, true));
    assert_eq!(place.run(&["stage", "rm", "hello", "--artifact", "all"]).ok().text(), "there is nothing to remove\n");
    place.run(&["stage", "rm", "hello", "--force", "--yes"]).ok();
    place.run(&["store", "verify"]).ok();
}

#[test]
fn what_is_damaged_or_not_ours_is_shown_and_stays() {
    let Some(tiny) = two_exported() else { return };
    let place = &tiny.place;
    let (tar, image) = (artifact(place, "old", "tar.xz"), artifact(place, "old", "oci"));
    let at = |name: &str| place.path(&format!("data/stages/old/{name}"));
    fs::write(at("notes.txt"), "mine").unwrap();
    fs::write(at(&image).join("mine.txt"), "mine").unwrap();
    // As long as it was, so that only its digest tells.
    let mut bytes = fs::read(at(&tar)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(at(&tar), &bytes).unwrap();
    let listed = place.run(&["stage", "ls"]).ok().text();
    for words in ["damaged: `mine.txt` in it does not belong to it", "`notes.txt` is not ours"] {
        assert!(listed.contains(words), "{words:?} is not in {listed}");
    }
    let ran = place.run(&["stage", "rm", "old", "--artifact", &image, "--yes"]);
    refused(&ran, "is damaged: `mine.txt` in it does not belong to it\nhint: it is left as it is");
    let before = files(place, "data/stages/old");
    let done = place.run(&["stage", "rm", "old", "--yes"]).ok().text();
    for words in ["its contents are not what its `.json` says", "stays    `notes.txt` is not ours", "removed  stage4/old\n"] {
        assert!(done.contains(words), "{words:?} is not in {done}");
    }
    assert_eq!(files(place, "data/stages/old"), before);

    // Cut short, and with metadata of nobody.
    fs::write(at(&tar), &bytes[1..]).unwrap();
    fs::write(at(&format!("{image}.json")), "{").unwrap();
    let row = stage(place, "old");
    let why: Vec<&str> = row["artifacts"].as_array().unwrap().iter().map(|row| row["why"].as_str().unwrap()).collect();
    assert!(why.iter().any(|why| why.ends_with(".tar.xz` is not as it was written")), "{why:?}");
    assert!(why.iter().any(|why| why.ends_with(".oci.json` is damaged")), "{why:?}");
    assert!(place.run(&["stage", "rm", "old", "--yes"]).ok().text().starts_with("there is nothing to remove\nstays "));
    assert_eq!(files(place, "data/stages/old"), before);

    // What a killed removal has left: the metadata go first.
    fs::remove_file(at(&format!("{tar}.json"))).unwrap();
    assert!(place.run(&["stage", "ls"]).ok().text().contains(&format!("`{tar}` is the rest of a killed run")));
    place.run(&["stage", "rm", "old", "--yes"]).ok();
    assert!(!files(place, "data/stages/old").iter().any(|name| name.starts_with(&tar)));
}

#[test]
fn orphans_go_if_they_are_asked_for() {
    let Some(tiny) = two_exported() else { return };
    let place = &tiny.place;
    name(place, "kept/two", &["profile/demo/old", "profile/demo/plain", "kernel/gone/qemu"]);
    let top = tiny.keep("top", "kept/two", 1);
    store(place).ref_set("stage4/old", &top.id).unwrap();
    store(place).ref_remove("kept/top").unwrap();
    place.run(&["export", "--no-sign", "profile/demo/old"]).ok();
    let plain = place.run(&["clean"]).ok().text();
    let note = "note     3 names have no definition or profile any more; `--orphans` takes them too\nnothing to clean\n";
    assert!(plain.ends_with(note), "{plain}");

    // A definition that is back by the time of the removal keeps what was shown.
    let lock = store(place).lock_shared(Wait::Quietly).unwrap();
    let mut running = child::spawn(&mut place.command(&["clean", "--orphans", "--yes", "states"]));
    let stderr = until_it_waits(&mut running);
    for definition in ["stage4.defines/old", "stage3.defines/old"] {
        place.write(&format!("config/{definition}/profile"), "demo\n");
    }
    place.run(&["rm", "--yes", "kernel/gone/qemu"]).ok();
    drop((lock, stderr));
    assert!(running.output().status.success());
    assert!(names(place).contains(&"stage4/old".to_owned()) && names(place).contains(&"profile/demo/old".to_owned()));
    for definition in ["stage4.defines/old", "stage3.defines/old"] {
        fs::remove_dir_all(place.config.join(definition)).unwrap();
    }
    name(place, "kept/two", &["kernel/gone/qemu"]);

    // The artifacts are of `kept/two` and stay; so does what is in use otherwise.
    let shown = place.run(&["clean", "--orphans", "--dry-run"]).ok().text();
    for words in [
        "the stage4 definition `old` is gone",
        "forgets  `stage4/old`\n",
        "forgets  `profile/demo/old`\n",
        "forgets  `kernel/gone/qemu`\n",
    ] {
        assert!(shown.contains(words), "{words:?} is not in {shown}");
    }
    let plan = json(place, &["clean", "--orphans", "--yes"]);
    let kinds: Vec<&str> = plan["items"].as_array().unwrap().iter().map(|item| item["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["states"], "{plan}");
    assert_eq!(names(place), ["kept/one", "kept/two", "profile/demo/plain", "profile/demo/upstream", "stage4/hello"]);
    place.run(&["store", "verify"]).ok();
    // Once nothing keeps the state, they go.
    place.run(&["rm", "--yes", "two"]).ok();
    let note = "note     3 artifacts have no definition or profile any more; `--orphans` takes them too\n";
    assert!(place.run(&["clean", "-n"]).ok().text().contains(note));
    let plan = json(place, &["clean", "--orphans", "--yes", "artifacts"]);
    let why: Vec<&str> = plan["items"].as_array().unwrap().iter().map(|item| item["why"].as_str().unwrap()).collect();
    let stage4 = "the stage4 definition `old` is gone";
    assert_eq!(why, ["the stage3 definition `old` is gone", stage4, stage4], "{plan}");
    assert!(!place.path("data/stages/old").exists());
    assert!(place.run(&["clean", "--orphans"]).ok().text().ends_with("nothing to clean\n"));

    // Without definitions nobody knows.
    let folder = place.config.join("stage4.defines");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o000)).unwrap();
    place.run(&["clean", "--orphans", "--yes"]).fails(3).says("cannot read");
    let plain = place.run(&["clean"]).ok().text();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(plain.ends_with("nothing to clean\n") && !plain.contains("--orphans"), "{plain}");
    place.run(&["--config", "nowhere", "clean", "--orphans"]).fails(3).says("there is no configuration directory");
    fs::create_dir(place.path("empty")).unwrap();
    place
        .run(&["--config", "empty", "clean", "--orphans", "--yes"])
        .fails(3)
        .says("there are no definitions in")
        .says("hint: choose");
    assert!(place.run(&["--config", "empty", "clean"]).ok().text().ends_with("nothing to clean\n"));
}

#[test]
fn the_store_says_what_its_states_are_for() {
    let Some(tiny) = two_kept() else { return };
    let place = &tiny.place;
    tiny.keep("one", "kept/two", 1);
    session_on(place, "kept/two").suspend("interrupted").unwrap();
    name(place, "kept/two", &["stage4/web"]);
    let list = place.list();
    let of = |name: &str| {
        let states = list["states"].as_array().unwrap();
        let state = states.iter().find(|state| state["refs"].as_array().unwrap().contains(&name.into())).unwrap();
        state["for"].as_array().unwrap().iter().map(|one| one["use"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of("kept/one"), ["named"]);
    assert_eq!(of("kept/two"), ["named", "named", "base-of", "resume-of"]);
    let text = place.run(&["store", "ls"]).ok().text();
    for words in [
        "stage3 of profile demo, base of kept/one@{1}",
        "kept by freshroot as two, stage4 web, base of kept/one, resume of throwaway",
        "base of kept/two, base of stage4/web, earlier kept/one@{1}",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    store(place).ref_remove("kept/one").unwrap();
    assert!(place.run(&["store", "ls"]).ok().text().contains("nothing: `clean` removes it"));
}

#[test]
fn an_artifact_says_who_signed_it() {
    let Some(shared) = shared() else { return };
    let row = stage(&shared.place, "hello");
    let made = row["artifacts"].as_array().unwrap().iter().find(|artifact| artifact["path"] == shared.artifact().to_str().unwrap());
    let made = made.unwrap_or_else(|| panic!("{row}"));
    assert_eq!((&made["signed_by"], &made["condition"]), (&shared.key.as_str().into(), &"complete".into()), "{row}");
    let text = shared.place.run(&["stage", "show", "hello"]).ok();
    assert!(text.value("packages").parse::<usize>().unwrap() > 3 && text.value("base").contains("plain"), "{text}");
    assert!(text.text().contains(&format!("signed by {}", shared.key)), "{text}");
}

#[test]
fn at_a_terminal_rm_asks_and_tables_fit() {
    let Some(tiny) = two_kept() else { return };
    let place = &tiny.place;
    name(place, "kept/two", &["kept/a-name-of-a-state", "stage4/a-name-of-a-stage"]);
    for (types, code, says, stays) in [
        ("n\r", 0, "nothing was removed", true),
        ("\x03", 130, "interrupted: nothing", true),
        ("y\r", 0, "removed  kept/two", false),
    ] {
        let Some(mut terminal) = Terminal::start(place, &["rm", "two"]) else { return };
        terminal.sees("remove 1 name? [y/N] ");
        terminal.types(types);
        terminal.sees(says);
        assert_eq!(terminal.end().0, Some(code), "{types:?}");
        assert_eq!(names(place).contains(&"kept/two".to_owned()), stays, "{types:?}");
    }
    let Some(terminal) = Terminal::start(place, &["store", "ls"]) else { return };
    let (code, seen) = terminal.end();
    assert_eq!(code, Some(0), "{seen}");
    // The terminal of these tests has 97 columns, and the whole table is wider.
    assert!(seen.contains("kept/a-name-of-a-state") && seen.lines().all(|line| line.trim_end().chars().count() <= 97), "{seen}");
    let piped = place.run(&["store", "ls"]).ok().text();
    assert!(piped.lines().any(|line| line.chars().count() > 97), "{piped}");
}
