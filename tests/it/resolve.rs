//! `resolve`: each kind of change, each reason why there is none, and that what is written is enough.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::child;
use crate::place::{Place, Ran};
use crate::shared::shared;

fn define(place: &Place, folder: &str, files: &[(&str, &str)]) {
    let dir = place.config.join(folder);
    fs::create_dir_all(&dir).unwrap();
    for (file, text) in files {
        fs::write(dir.join(file), format!("{text}\n")).unwrap();
    }
}

/// A stage4 on a stage3 definition of its own, with a fragment of its own.
fn define_stage(place: &Place, name: &str, packages: &str) {
    define(place, &format!("stage4.defines/{name}"), &[("profile", "demo"), ("stage3", name), ("packages", packages)]);
    define(place, &format!("stage3.defines/{name}"), &[("cpu", "generic-amd64"), ("portage.local", name)]);
    define(place, &format!("portage.locals/{name}"), &[("make.conf", "# nothing yet")]);
}

/// Every file of a configuration with its text.
fn contents(dir: &Path) -> Vec<(String, String)> {
    let listed = child::check(Command::new("find").arg(dir).args(["-type", "f"]));
    let mut all: Vec<String> = String::from_utf8(listed).unwrap().lines().map(str::to_owned).collect();
    all.sort();
    all.into_iter().map(|path| (path.clone(), String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned())).collect()
}

fn resolve(place: &Place, args: &[&str]) -> Ran {
    place.run(&[&["resolve"], args].concat())
}

#[test]
fn a_stage_with_every_kind_of_need_gets_one_diff_that_is_enough() {
    let Some(shared) = shared() else { return };
    let place = shared.place.with_config(shared.config("needy"));
    define_stage(
        &place,
        "needy",
        "app-misc/newcomer\napp-resolve/eula\napp-resolve/shunned\napp-resolve/chooser\napp-resolve/chain",
    );
    fs::write(place.config.join("portage.locals/needy/package.license"), "app-resolve/eula Some-Licence").unwrap();
    let before = contents(&place.config);
    let ran = resolve(&place, &["--check", "needy"]).fails(10);
    let diff = ran.text();
    for line in [
        "+++ b/portage.locals/needy/package.accept_keywords",
        "+=app-misc/newcomer-0.1 ~amd64",
        "+# asked for: app-misc/newcomer",
        "+=app-resolve/link-1.0 ~amd64",
        "-app-resolve/eula Some-Licence",
        "+app-resolve/eula Some-Licence testbed-EULA",
        "+=app-resolve/shunned-1.0",
        "+# masked: Masked to try what unmasking takes.",
        "+app-resolve/chooser readline -gnutls fastcgi",
        "+app-resolve/chain north",
        "+# REQUIRED_USE of app-resolve/link-1.0: any-of ( left right )",
        "+app-resolve/link left",
    ] {
        assert!(diff.lines().any(|known| known == line), "{line:?} is not in\n{diff}");
    }
    ran.says("`readline -gnutls fastcgi` chosen; as few changes: ").says("round 2: ");
    assert_eq!(contents(&place.config), before, "nothing is written");

    fs::write(place.path("needy.diff"), &diff).unwrap();
    child::check(Command::new("git").arg("apply").arg(place.path("needy.diff")).current_dir(&place.config));
    let ran = resolve(&place, &["--check", "needy"]).ok();
    assert!(ran.text().starts_with("needy resolves: "), "{ran}");
}

#[test]
fn rounds_are_bounded() {
    let Some(shared) = shared() else { return };
    let ran = resolve(&shared.place, &["--rounds", "1", "app-resolve/chain"]).fails(6);
    ran.says("round 1: ").says("Portage needs another change after 1 round; allow more with `--rounds`");
    resolve(&shared.place, &["--rounds", "0", "app-resolve/chain"]).fails(2).says("0 is not in 1..=1000");
}

#[test]
fn what_no_change_can_mend_is_explained_in_a_few_lines() {
    let Some(shared) = shared() else { return };
    let place = &shared.place;
    for (atoms, words) in [
        (
            &["app-resolve/oldmill", "app-resolve/newmill"][..],
            &[
                "error: Portage cannot resolve `app-resolve/oldmill app-resolve/newmill`",
                "`app-resolve/gear:0` can hold one package, but several are needed:",
                "app-resolve/gear-2.0 for app-resolve/newmill-1.0 (>=app-resolve/gear-2)",
                "app-resolve/gear-1.0 for app-resolve/oldmill-1.0 (<app-resolve/gear-2)",
            ][..],
        ),
        (&["app-resolve/loner", "app-resolve/shy"], &["`app-resolve/loner-1.0` cannot be installed beside `app-resolve/shy`:"]),
        (
            &["app-resolve/egg"],
            &[
                "packages that need each other to be built first: ",
                "hint: `app-resolve/hen -docs` in `package.use` breaks the \
                circle",
            ],
        ),
        (&["app-resolve/head"], &["`app-resolve/head-1.0`", "`app-resolve/tail-1.0`"]),
        (
            &["app-resolve/stubborn"],
            &[
                "nothing satisfies `app-resolve/chooser[wsgi]`",
                "needed by app-resolve/stubborn-1.0",
                "masked or forced by the Portage profile",
            ],
        ),
        (&["app-misc/hallo"], &["nothing satisfies `app-misc/hallo`", "did you mean `app-misc/hello`"]),
    ] {
        let ran = resolve(place, atoms).fails(6);
        let ran = words.iter().fold(ran, |ran, words| ran.says(words)).says("hint: the whole output is in ");
        assert!(ran.stdout.is_empty(), "{ran}");
        assert!(ran.stderr.lines().count() < 9, "{ran}");
    }
}

#[test]
fn a_line_that_says_the_opposite_is_for_the_user_to_decide() {
    let Some(shared) = shared() else { return };
    let place = shared.place.with_config(shared.config("opposite"));
    define(&place, "portage.global/package.use", &[("mine", "# plain\napp-misc/greeter -json")]);
    let ran = resolve(&place, &["app-misc/greeter[json]"]).fails(3);
    let at = place.config.join("portage.global/package.use/mine:2");
    ran.says(&format!("error: {}: `app-misc/greeter -json` contradicts what is needed: `app-misc/greeter json", at.display()))
        .says("asked for: app-misc/greeter[json]")
        .says("# override` in a fragment that is merged later");
    resolve(&place, &["--check", "app-misc/greeter[json]"]).fails(10).says("contradicts");

    define(&place, "portage.global/package.mask", &[("mine", "app-arch/lz4")]);
    define(&place, "portage.global/package.use", &[("mine", "app-misc/greeter ascii")]);
    resolve(&place, &["app-arch/lz4"]).fails(3).says("portage.global/package.mask/mine:1: `app-arch/lz4` contradicts");

    // The line that is there is extended, in the fragment that has it; both flags, since one needs the other.
    let ran = resolve(&place, &["app-misc/greeter[json]", "--json"]).ok();
    let report: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(report["change_needed"], true);
    assert_eq!(report["changes"][0]["file"], "portage.global/package.use/mine");
    assert_eq!(report["changes"][0]["line"], "app-misc/greeter json -color");
    let diff = report["diff"].as_str().unwrap();
    assert!(diff.contains("\n+app-misc/greeter ascii json -color\n"), "{diff}");
    assert_eq!(
        report["changes"][0]["chosen"],
        "`portage.global` has a line for `app-misc/greeter` already: the new one goes there, which is for every stage"
    );
}

#[test]
fn words_that_cannot_be_resolved_are_refused_before_anything_is_started() {
    let Some(shared) = shared() else { return };
    let place = &shared.place;
    resolve(place, &["nosuch"]).fails(3).says("there is no stage4 or stage3 definition `nosuch`").says("an atom has a category");
    resolve(place, &["--stage", "nosuch", "a/b"]).fails(3).says("`nosuch`");
    resolve(place, &["hello", "app-misc/hello"]).fails(2).says("`hello` has no category").says("give one stage alone");
    resolve(place, &["app-misc/hello-2.10"]).fails(2).says("has a version but no operator");
    resolve(place, &["hello", "--write", "../up"]).fails(2).says("`../up` cannot be the name of a fragment");
    resolve(place, &["hello", "--profile", "nosuch"]).fails(2).says("profile `nosuch` is not bootstrapped");
    resolve(place, &["hello", "--write", "x", "--check"]).fails(2).says("cannot be used with");
}

#[test]
fn what_is_written_is_enough_and_leaves_the_rest_as_it_was() {
    let Some(shared) = shared() else { return };
    let place = shared.place.with_config(shared.config("written"));
    define_stage(&place, "written", "app-resolve/eula\napp-misc/picky");
    // A pool of its own, in which nobody has built the package: a binary package needs less.
    fs::write(place.config.join("portage.locals/written/make.conf"), "CFLAGS=\"-O1 -pipe\"\n").unwrap();
    let file = place.config.join("portage.locals/written/package.license");
    let licences =
        "# ours\n\napp-resolve/terms  MIT # because\n# the one in question\napp-resolve/eula   Some-Licence # old\n\n# end";
    fs::write(&file, licences).unwrap();
    let flags = place.config.join("portage.locals/written/package.use");
    fs::write(&flags, "# zlib before a\r\nsys-libs/zlib minizip # for unzip\r\n\r\napp-a/a x\r\n").unwrap();
    let list = place.config.join("stage3.defines/written/portage.local");
    fs::write(&list, "# all of it\nwritten # ours\n\n# last\n").unwrap();

    let said = resolve(&place, &["written", "--write", "written"]).ok().text();
    assert!(said.contains("wrote portage.locals/written/package.license\n"), "{said}");
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        licences.replace(
            "app-resolve/eula   Some-Licence # old",
            "# testbed-EULA: asked for: app-resolve/eula\napp-resolve/eula   Some-Licence testbed-EULA # old"
        )
    );
    assert_eq!(
        fs::read_to_string(&flags).unwrap(),
        "# zlib before a\r\nsys-libs/zlib minizip # for unzip\r\n\r\napp-a/a x\r\n\
         # needed by app-misc/picky-1.0, for app-misc/picky\r\ndev-libs/greet static-libs\r\n"
    );
    assert_eq!(fs::read_to_string(&list).unwrap(), "# all of it\nwritten # ours\n\n# last\n");
    // Portage reads it all, and nothing is needed any more.
    let before = contents(&place.config);
    resolve(&place, &["--check", "written"]).ok();
    assert_eq!(contents(&place.config), before);
    // A fragment that is new is added to the list, whose own words stay.
    fs::write(&flags, "").unwrap();
    resolve(&place, &["written", "--write", "more"]).ok();
    assert_eq!(fs::read_to_string(&list).unwrap(), "# all of it\nwritten # ours\n\n# last\nmore\n");
    resolve(&place, &["--check", "written"]).ok();
}
