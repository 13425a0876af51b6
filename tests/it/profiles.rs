//! Profiles: shown, updated, taken back, renamed and removed.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::child;
use crate::place::{Place, command_line, finish};
use crate::shared::shared;
use crate::tiny::{Tiny, tiny};

/// A command's result as a value.
fn json(place: &Place, args: &[&str]) -> Value {
    let ran = place.run(&[args, &["--json"]].concat()).ok();
    serde_json::from_str(&ran.text()).unwrap_or_else(|error| panic!("{error} in {ran}"))
}

fn states(place: &Place, profile: &str) -> Vec<String> {
    let shown = json(place, &["profile", "show", profile]);
    shown["history"].as_array().unwrap().iter().map(|entry| entry["state"].as_str().unwrap().to_owned()).collect()
}

fn packages(updated: &Value) -> Vec<String> {
    let words = |change: &Value| format!("{} {}", change["change"].as_str().unwrap(), change["package"].as_str().unwrap());
    updated["packages"].as_array().unwrap().iter().map(words).collect()
}

/// The shared place with a configuration and a profile of one test's own. What is built is the shared builder until the configuration changes;
/// nothing of an earlier run of the same test fits.
fn profile(name: &str) -> Option<(crate::shared::User, Place, String)> {
    let shared = shared()?;
    let place = shared.place.with_config(shared.config(name));
    let profile = format!("{name}-{}", std::process::id());
    place.run(&["bootstrap", &profile, shared.testbed.stage3.to_str().unwrap()]).ok().says_nothing_of("emerging");
    Some((shared, place, profile))
}

fn builder_file(place: &Place, name: &str) -> PathBuf {
    place.config.join("portage.locals/gentoomuch/builder").join(name)
}

#[test]
fn an_update_builds_what_a_use_change_reaches_and_can_be_taken_back() {
    let Some((shared, place, profile)) = profile("updated") else { return };
    let stage3 = shared.testbed.stage3.to_str().unwrap();
    let bootstrapped = states(&place, &profile);
    assert_eq!(bootstrapped.len(), 1);
    let nothing = place.run(&["profile", "update", &profile]).ok().says_nothing_of("* ");
    assert!(nothing.text().contains("(unchanged)"), "{nothing}");

    fs::write(builder_file(&place, "package.use"), "app-misc/greeter -color\n").unwrap();
    let own = builder_file(&place, "env").join(&profile);
    fs::create_dir_all(own.parent().unwrap()).unwrap();
    fs::write(&own, "# nobody else's\n").unwrap();
    let shown = json(&place, &["profile", "show", &profile]);
    assert_eq!(shown["builder"]["differs"], serde_json::json!(["configuration"]));
    let updated = json(&place, &["profile", "update", &profile]);
    assert_eq!(packages(&updated), ["rebuilt app-misc/greeter-1.0"], "{updated}");
    let [after, before] = &states(&place, &profile)[..] else { panic!("two states: {updated}") };
    assert_eq!((updated["state"].as_str(), updated["previous"].as_str()), (Some(after.as_str()), Some(before.as_str())));
    assert_eq!(*before, bootstrapped[0]);
    // Of those that the update left alone, too: a binary package host has the builder's.
    let keys = |state: &str| {
        let shown = json(&place, &["store", "show", state]);
        let keys = shown["origin"]["package_keys"].as_object().unwrap_or_else(|| panic!("{shown}"));
        keys.keys().cloned().collect::<BTreeSet<_>>()
    };
    assert!(keys(before).len() > 3 && keys(after).is_superset(&keys(before)), "{:?} {:?}", keys(after), keys(before));

    // Whoever asks for the builder now gets this one, by name and by key.
    let flags = |profile: &str| {
        place.run(&["freshroot", "--profile", profile, "--network", "none", "--", "greeter", "--flags"]).ok().text()
    };
    assert!(!flags(&profile).contains("color=1") && flags(&format!("{profile}@{{1}}")) != flags(&profile), "{}", flags(&profile));
    let again = place.run(&["bootstrap", &profile, stage3]).ok().says_nothing_of("emerging");
    assert_eq!(again.value("builder"), format!("{after}  (unchanged)"));
    let shown = place.run(&["profile", "show", &profile]).ok();
    for words in ["1 update", "up to date      yes", &format!("{profile}@{{1}}"), "signed by", "in 3 layers"] {
        assert!(shown.text().contains(words), "{words:?} is not in {shown}");
    }

    // What the configuration does not bring any more goes.
    fs::remove_file(builder_file(&place, "package.use")).unwrap();
    // The only other fragment that has lines for this file.
    fs::remove_dir_all(place.config.join("portage.global/package.use")).unwrap();
    fs::write(&own, "# and again\n").unwrap();
    let updated = json(&place, &["profile", "update", &profile]);
    assert_eq!(packages(&updated), ["rebuilt app-misc/greeter-1.0"], "{updated}");
    let list = place.run(&["freshroot", "--profile", &profile, "--network", "none", "--", "find", "/etc/portage/package.use"]);
    assert!(!list.text().contains("50-gentoomuch"), "{list}");

    let third = updated["state"].as_str().unwrap();
    let back = place.run(&["profile", "rollback", &profile]).ok();
    assert!(back.text().contains(&format!("-> {}", &after[..12])) && back.text().contains("configuration"), "{back}");
    assert_eq!(states(&place, &profile)[0], *after);
    place.run(&["profile", "rollback", &profile, "--to", "3"]).ok();
    assert_eq!(states(&place, &profile)[0], *before);
    place.run(&["profile", "rollback", &profile, "--to", "9"]).fails(2).says("has no state 9").says("with the present one: 5;");
    // Going by the configuration goes forward again, and says so.
    let forward = place.run(&["bootstrap", &profile, stage3]).ok().says("as the configuration says");
    assert!(forward.value("builder").starts_with(third), "{forward}");
    what_portage_does_not_compare_is_compared(&place, &profile);
}

/// Lines of `package.env`, for one.
fn what_portage_does_not_compare_is_compared(place: &Place, profile: &str) {
    let export = || {
        let dir = place.path(&format!("{profile}-binhost"));
        let exported = json(place, &["binhost", "export", "--profile", profile, dir.to_str().unwrap()]);
        assert!(exported["packages"].as_u64().unwrap() > 0, "{exported}");
        let index = fs::read_to_string(dir.join("Packages")).unwrap();
        index.lines().filter_map(|line| line.strip_prefix("CPV: ")).map(str::to_owned).collect::<BTreeSet<String>>()
    };
    let before = export();
    let flag = format!("-DOF_ONE_{}", std::process::id());
    fs::write(builder_file(place, "package.env"), "app-misc/greeter of-one\n").unwrap();
    fs::write(builder_file(place, "env").join("of-one"), format!("CFLAGS=\"${{CFLAGS}} {flag}\"\n")).unwrap();
    let ran = place.run(&["profile", "update", profile, "--json"]).ok();
    let ran = ran.says("rebuilding, since their inputs have changed, which Portage does not notice: app-misc/greeter-1.0\n");
    let updated: Value = serde_json::from_str(&ran.text()).unwrap();
    assert_eq!(packages(&updated), ["rebuilt app-misc/greeter-1.0"], "{updated}");
    let recorded = || {
        let file = "/var/db/pkg/app-misc/greeter-1.0/CFLAGS";
        place.run(&["freshroot", "--profile", profile, "--network", "none", "--", "cat", file]).ok().text()
    };
    assert!(recorded().contains(&flag), "{}", recorded());
    // Each is recorded by what it is made from: the one that was built again, and those that were left alone.
    assert!(before.contains("app-misc/greeter-1.0"), "{before:?}");
    let after = export();
    assert!(after.is_superset(&before), "{before:?} {after:?}");

    // What may not be installed any more stays, and is recorded as what it is.
    fs::write(builder_file(place, "package.mask"), "app-misc/greeter\n").unwrap();
    fs::write(builder_file(place, "env").join("of-one"), "CFLAGS=\"${CFLAGS} -DOF_NOBODY\"\n").unwrap();
    let ran = place.run(&["profile", "update", profile, "--json"]).ok();
    let ran = ran.says("not rebuilt, although their inputs have changed, since they are masked now: app-misc/greeter-1.0\n");
    let updated: Value = serde_json::from_str(&ran.text()).unwrap();
    assert_eq!(packages(&updated), [""; 0], "{updated}");
    assert!(recorded().contains(&flag), "{}", recorded());
    assert!(export().contains("app-misc/greeter-1.0"));
}

#[test]
fn a_failed_update_leaves_the_profile_as_it_was() {
    let Some((shared, place, profile)) = profile("failed-update") else { return };
    let before = states(&place, &profile);
    let set = place.config.join("package.sets/gentoomuch/builder");
    let good = fs::read_to_string(&set).unwrap();
    let own = builder_file(&place, "env").join(&profile);
    fs::create_dir_all(own.parent().unwrap()).unwrap();
    fs::write(&own, "").unwrap();
    fs::write(&set, format!("{good}app-misc/broken\n")).unwrap();
    place.run(&["profile", "update", &profile]).fails(6).says("app-misc/broken").says("repeat the command to go on");
    assert_eq!(states(&place, &profile), before);
    place.run(&["profile", "update", &profile]).fails(6).says("* resuming the update of gentoomuch/builder");
    assert_eq!(states(&place, &profile), before);

    // Another package instead, and one that nothing needs later.
    fs::write(&set, format!("{good}app-misc/manyfiles\n")).unwrap();
    fs::write(builder_file(&place, "package.env"), "app-misc/manyfiles many\n").unwrap();
    fs::write(own.with_file_name("many"), "MANY_FILES=\"3\"\n").unwrap();
    let hook = place.config.join("hooks/after-world.d/60-order.sh");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\nls /var/db/pkg/app-misc >>/etc/after-world\n").unwrap();
    let updated = json(&place, &["profile", "update", &profile]);
    assert_eq!(packages(&updated), ["added app-misc/manyfiles-1.0"]);
    let after_world = ["freshroot", "--profile", &profile, "--network", "none", "--", "cat", "/etc/after-world"];
    let after_world = place.run(&after_world).ok().text();
    assert!(
        after_world.contains("greeter-1.0") && !after_world.contains("manyfiles"),
        "before the definition's packages: {after_world}"
    );
    fs::write(&set, &good).unwrap();
    let dropped = json(&place, &["profile", "update", &profile]);
    assert_eq!(packages(&dropped), [""; 0], "it stays: {dropped}");
    let cleaned = json(&place, &["profile", "update", "--depclean", &profile]);
    assert_eq!(packages(&cleaned), ["removed app-misc/manyfiles-1.0"]);
    let nothing = json(&place, &["profile", "update", "--depclean", &profile]);
    assert_eq!((&nothing["previous"], &nothing["state"]), (&Value::Null, &cleaned["state"]));

    // Another stage3, and one that nobody has signed: that is said wherever the profile is shown.
    let root = place.path(&format!("{profile}-root"));
    fs::create_dir_all(root.join("etc")).unwrap();
    let unsigned = place.path(&format!("{profile}/stage3-amd64-unsigned-20260811T083102Z.tar.xz"));
    fs::create_dir_all(unsigned.parent().unwrap()).unwrap();
    child::check(
        std::process::Command::new("tar").arg("-C").arg(&root).args(["--owner=0", "--group=0", "-cJf"]).arg(&unsigned).arg("."),
    );
    let unsigned = unsigned.to_str().unwrap();
    place.run(&["bootstrap", "--no-rebuild", "--allow-unsigned", "made here", &profile, unsigned]).ok();
    let other = place.run(&["profile", "update", &profile]).fails(2).says("was built from another stage3 than the profile has now");
    other.says(&format!("hint: build it from the profile's stage3: `gentoomuch bootstrap {profile} STAGE3`"));
    assert!(place.run(&["profile", "ls"]).ok().text().contains("20260811T083102Z.tar.xz (UNSIGNED)"));
    let bare = format!("{profile}-bare");
    place.run(&["bootstrap", "--no-rebuild", "--allow-unsigned", "made here", &bare, unsigned]).ok();
    let shown = place.run(&["profile", "show", &bare]).ok();
    assert!(shown.text().contains("NOT SIGNED      without a trusted signature; accepted because: made here"), "{shown}");
    place.run(&["profile", "rm", &bare]).ok();
    // The state it is in has a stage3, and that comes back with it.
    let back = json(&place, &["profile", "rollback", "--to", "0", &profile]);
    assert_eq!(back["moved"].as_array().unwrap().len(), 1, "{back}");
    assert_eq!(json(&place, &["profile", "update", "--depclean", &profile])["previous"], Value::Null);

    // In use: by a session that runs; then by nobody.
    let mut command = place.command(&["freshroot", "--profile", &profile, "--network", "none", "--", "sh", "-c", "echo up; cat"]);
    let mut running = child::spawn(command.stdin(std::process::Stdio::piped()));
    running.child().stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
    place
        .run(&["profile", "rm", &profile])
        .fails(2)
        .says("is in use")
        .says("a throwaway session is running in it")
        .says("end it first");
    drop(running.child().stdin.take());
    finish(command_line(&command), running).ok();
    let removed = place.run(&["profile", "rm", &profile]).ok();
    assert!(removed.text().contains("without a name now"), "{removed}");
    assert!(!place.listing().contains(&format!("profile/{profile}")));
    // The stage3 is another profile's, too.
    place.run(&["bootstrap", "--no-rebuild", &profile, shared.testbed.stage3.to_str().unwrap()]).ok().says_nothing_of("unpacking");
    place.run(&["profile", "rm", &profile]).ok();
}

/// Profile `demo` of a stage3 that has been replaced once.
fn renewed() -> Option<Tiny> {
    let tiny = tiny()?;
    let stage3 = tiny.stage3.to_str().unwrap();
    tiny.place.run(&["bootstrap", "--no-rebuild", "demo", stage3]).ok();
    fs::write(tiny.place.path("tiny/etc/passwd"), "root:x:0:0:root:/root:/bin/bash\n").unwrap();
    child::check(std::process::Command::new("tar").arg("-C").arg(tiny.place.path("tiny")).args([
        "--owner=0",
        "--group=0",
        "-cJf",
        stage3,
        ".",
    ]));
    tiny.sign(&tiny.key, None);
    tiny.place.run(&["bootstrap", "--no-rebuild", "demo", stage3]).ok();
    Some(tiny)
}

#[test]
fn a_profile_goes_back_to_its_former_stage3_and_forward_again() {
    let Some(tiny) = renewed() else { return };
    let place = &tiny.place;
    let [new, old] = &states(place, "demo")[..] else { panic!("two states: {}", place.listing()) };
    let back = json(place, &["profile", "rollback", "demo"]);
    assert_eq!(back["moved"], serde_json::json!([{ "name": "profile/demo/upstream", "from": new, "to": old }]));
    assert_eq!(states(place, "demo")[0], *old);
    place.run(&["profile", "rollback"]).ok();
    assert_eq!(states(place, "demo")[0], *new);
    place.run(&["profile", "rollback", "--to", "0"]).ok();
    assert_eq!(states(place, "demo").len(), 4, "nothing has changed");
    assert_eq!(json(place, &["profile", "show", "demo@{1}"])["stage3"]["state"], **old);

    // A layer that somebody has removed.
    let layer = json(place, &["store", "show", old])["layers"][0].as_str().unwrap().to_owned();
    let (there, away) = (place.store().join("layers").join(&layer), place.path("away"));
    fs::rename(&there, &away).unwrap();
    let gone = place.run(&["profile", "rollback"]).fails(2).says("error: the state `demo@{1}` is no longer in the store\n");
    gone.says(&format!("caused by: there is no layer `{layer}`\n")).says("hint: `gentoomuch profile show`");
    assert_eq!(states(place, "demo")[0], *new);
    let shown = place.run(&["profile", "show"]).ok();
    assert!(shown.text().contains("gone from the store"), "{shown}");
    fs::rename(&away, &there).unwrap();
}

#[test]
fn a_profile_is_renamed_with_all_that_it_had() {
    let Some(tiny) = renewed() else { return };
    let place = &tiny.place;
    let before = states(place, "demo");
    place.run(&["bootstrap", "--no-rebuild", "taken", tiny.stage3.to_str().unwrap()]).ok();
    place
        .run(&["profile", "rename", "demo", "taken"])
        .fails(2)
        .says("error: there is a profile `taken` already\n")
        .says("hint: choose");
    place.run(&["profile", "rename", "demo", "a/b"]).fails(2).says("`a/b` cannot be used as a name for a profile");
    place.run(&["profile", "rename", "none", "other"]).fails(2).says("`none` is not bootstrapped").says("there are: demo, taken");
    let renamed = place.run(&["profile", "rename", "demo", "server"]).ok();
    assert!(renamed.text().contains("stale    stage4.defines/hello/profile:"), "{renamed}");
    assert_eq!(states(place, "server"), before);
    assert_eq!(json(place, &["profile", "show"])["name"], "server", "it is the default one still");
    place.run(&["profile", "show", "demo"]).fails(2).says("`demo` is not bootstrapped");

    // Cut off before the names have moved, and after.
    for (text, name) in [("server later", "server"), ("earlier server", "server")] {
        place.write("data/default-profile", format!("{text}\n"));
        assert_eq!(json(place, &["profile", "show"])["name"], name, "{text}");
    }
    place.run(&["profile", "rename", "server", "demo"]).ok();
    assert_eq!(
        fs::read_to_string(place.path("data/default-profile")).unwrap(),
        "earlier server\n".replace("earlier server", "demo")
    );
}

#[test]
fn a_profile_is_removed_unless_something_was_built_on_it() {
    let Some(tiny) = renewed() else { return };
    let place = &tiny.place;
    let tree = place.path("tree/profiles");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("repo_name"), "gentoo\n").unwrap();
    place.run(&["sync", "--from", "tree"]).ok();
    place.run(&["profile", "update"]).fails(2).says("error: profile `demo` has no builder\n").says("hint: build it");
    let all = place.run(&["profile", "update", "--all"]).ok();
    assert_eq!(all.text(), "no profile has a builder; `gentoomuch bootstrap NAME STAGE3` makes one\n");
    place.run(&["profile", "update", "demo@{1}"]).fails(2).says("`demo@{1}` cannot be used as a name for a profile");
    place.run(&["profile", "rm", "none"]).fails(2).says("`none` is not bootstrapped");
    let removed = place.run(&["profile", "rm", "demo"]).ok();
    let text = removed.text();
    assert!(text.starts_with("removed  profile/demo/upstream\nThere is no default profile now"), "{removed}");
    assert!(text.contains("2 states without a name now: "), "{removed}");
    place.run(&["profile", "show"]).fails(2).says("you named no profile, and there is no default profile");
    let ls = place.run(&["profile", "ls"]).ok();
    assert!(ls.text().starts_with("no profile is bootstrapped"), "{ls}");
    // The states are there still.
    place.run(&["bootstrap", "--no-rebuild", "demo", tiny.stage3.to_str().unwrap()]).ok().says_nothing_of("unpacking");
}

#[test]
fn a_profile_that_something_was_built_on_is_removed_by_force_alone() {
    let Some((_shared, place, profile)) = profile("forced") else { return };
    // A builder of its own: what it shares with another profile is not in its way.
    fs::write(builder_file(&place, "package.use"), "app-misc/greeter -color\n").unwrap();
    let own = builder_file(&place, "env").join(&profile);
    fs::create_dir_all(own.parent().unwrap()).unwrap();
    fs::write(&own, "# forced\n").unwrap();
    place.run(&["profile", "update", &profile]).ok();
    let kept = format!("on-{profile}");
    let session =
        ["freshroot", "--profile", &profile, "--network", "none", "--keep", &kept, "--", "sh", "-c", "echo kept >/etc/kept"];
    place.run(&session).ok();

    let before = states(&place, &profile);
    let refused = place.run(&["profile", "rm", &profile]).fails(2).says(&format!("error: profile `{profile}` is in use\n"));
    refused.says(&format!("kept `{kept}` was built on it")).says("hint: remove its names anyway with `--force`");
    assert_eq!(states(&place, &profile), before, "nothing has gone");

    let removed = json(&place, &["profile", "rm", "--force", &profile]);
    assert_eq!(
        removed["refs"],
        serde_json::json!([format!("profile/{profile}/gentoomuch/builder"), format!("profile/{profile}/upstream")])
    );
    assert_eq!(removed["left"], serde_json::json!([format!("kept `{kept}` was built on it")]));
    assert!(!place.listing().contains(&format!("profile/{profile}")), "{}", place.listing());
    place.run(&["profile", "show", &profile]).fails(2).says("is not bootstrapped");
    place.run(&["profile", "rm", "--force", &profile]).fails(2).says("is not bootstrapped");

    // What was built on it stands on the same layers as before.
    let inside = ["freshroot", "--from", &kept, "--network", "none", "--", "sh", "-c", "cat /etc/kept && greeter --flags"];
    let inside = place.run(&inside).ok();
    assert!(inside.text().starts_with("kept\n") && !inside.text().contains("color=1"), "{inside}");
}
