//! What Portage itself says to a configuration, at file and line.

use std::fs;

use crate::place::{Place, Ran};
use crate::shared::{Shared, shared};
use crate::tiny::tiny;

/// One mistake of each kind that only Portage can tell.
const MISTAKES: &[(&str, &str)] = &[
    ("stage3.defines/slips/cpu", "generic-amd64\n"),
    ("stage3.defines/slips/portage.local", "slips\n"),
    ("stage3.defines/slips/packages", "app-misc/newcomer\napp-misc/grteer\n@testbed\n@testbd\napp-misc/hello::guru\n"),
    ("stage3.defines/elsewhere/portage.profile", "default/linux/amd64/testbedd\n"),
    ("stage3.defines/nowhere/portage.profile", "guru:default/linux\n"),
    ("stage4.defines/slips/profile", "demo\n"),
    ("stage4.defines/slips/stage3", "slips\n"),
    ("stage4.defines/slips/packages", "app-misc/hello\napp-text/hello\n=dev-libs/greet-1.1\n"),
    ("stage4.defines/later/profile", "production\n"),
    ("stage4.defines/later/stage3", "plain\n"),
    (
        "portage.locals/slips/make.conf",
        "# each line has one\nUSE=\"nls\n  -hardend static-libs\"\nVIDEO_CARDS=\"amdgpu amdgup virgl\"\nACCEPT_LICENSE=\"GPL-2 GPL-22 @FRE\"\n\
         ACCEPT_KEYWORDS=\"~amd46\"\nFEATURES=\"ccahce\"\n",
    ),
    (
        "portage.locals/slips/package.use/10-more",
        "app-misc/hello nlss\napp-misc/helo nls\n>=app-misc/hello-99 nls\napp-misc/*::guru nls\ndev-libs/greet:3 utf8\n\
         */* L10N: xx\ndev-libs/gr* utf9 utf8\napp-misc/hello -static-libs -nls prefix\n\
         */*::gentoo nls\ndev-libs/*:0 utf8\ndev-libs/*:9 utf8\n=dev-libs/*-*9999* utf8\n=app-misc/hello-2* nls\n\
         app-resolve/chooser wsgi fastcgi\n",
    ),
    ("portage.locals/slips/profile/use.mask", "static-libs\nvideo_cards_virgl\n"),
    ("portage.locals/slips/profile/use.force", "kernel_linux\n"),
    ("portage.locals/slips/profile/use.stable.mask", "json\n"),
    ("portage.locals/slips/profile/package.use.stable.force", "app-misc/slow again\n"),
    ("portage.locals/slips/profile/package.use.stable.mask", "app-misc/greeter color\n"),
    ("portage.locals/slips/profile/package.use.force", "app-misc/greeter ascii\n"),
    (
        "portage.locals/slips/package.use/20-forced",
        "app-misc/greeter -ascii\napp-arch/lz4 static-libs\n*/* static-libs VIDEO_CARDS: virgl\n*/* -kernel_linux json\n\
         app-misc/slow -again\napp-misc/greeter color\n",
    ),
    ("portage.locals/slips/package.mask", ">=app-misc/hello-99\napp-misc/nothing\n"),
    ("portage.locals/slips/package.license", "app-misc/hello GPL-44 @NONE\n"),
    ("portage.locals/slips/package.accept_keywords", "app-misc/oddfiles ~amd46 **\n"),
];

/// The shared configuration with mistakes in it.
fn slips(shared: &Shared, name: &str) -> Place {
    let config = shared.config(name);
    for (file, text) in MISTAKES {
        let path = config.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    shared.place.with_config(config)
}

fn check(place: &Place, args: &[&str]) -> Ran {
    place.run(&[&["config", "check"], args].concat())
}

#[test]
fn portage_is_asked_about_everything_that_is_named() {
    let Some(shared) = shared() else { return };
    let place = slips(&shared, "slips");
    let ran = check(&place, &[]).fails(3);
    // Versions of what the distribution provides differ from host to host.
    let text = ran.text();
    let hello = text.split_once("matches `>=app-misc/hello-99`").unwrap().1.split('`').nth(1).unwrap().to_owned();
    // Other tests bootstrap other profiles.
    let profiles = text.split_once("use one of: ").unwrap().1.lines().next().unwrap().to_owned();
    let text = text.replace(&format!("`{hello}`"), "`VERSION`").replace(&profiles, "PROFILES");
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(text) });
    // One session for each profile and definition; those that cannot be asked have none.
    for asked in ["slips", "plain", "gentoomuch/builder"] {
        assert_eq!(ran.stderr.matches(&format!("* asking Portage about {asked} on demo\n")).count(), 1, "{ran}");
    }
    assert!(!ran.stderr.contains("production"), "{ran}");
}

#[test]
fn one_stage_is_asked_about_alone_and_nothing_of_it_stays() {
    let Some(shared) = shared() else { return };
    let place = slips(&shared, "slips of one stage");
    // Other tests make states in the same store meanwhile.
    let states = || -> Vec<String> {
        let list = shared.place.list();
        list["states"].as_array().unwrap().iter().map(|state| state["id"].as_str().unwrap().to_owned()).collect()
    };
    let before = states();
    let ran = check(&place, &["stage3:slips", "--json"]).fails(3);
    let report: serde_json::Value = serde_json::from_str(&ran.text()).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let wanted = serde_json::json!({
        "severity": "warning", "file": "portage.locals/slips/make.conf", "line": 3,
        "message": "no package has a flag `hardend`", "hint": "did you mean `hardened`?",
    });
    assert!(findings.contains(&wanted), "{report}");
    assert!(!ran.text().contains("stage4.defines"), "{report}");
    assert_eq!(ran.stderr, "* asking Portage about slips on demo\n");
    for state in states().iter().filter(|state| !before.contains(state)) {
        let shown = shared.place.run(&["store", "show", state, "--json"]);
        assert!(!shown.text().contains("slips"), "{shown}");
    }
    // What is no error to the directory alone.
    let alone = check(&place, &["stage3:slips", "--no-portage", "--json"]).ok();
    assert!(alone.stderr.is_empty(), "{alone}");
}

#[test]
fn the_shipped_directory_has_nothing_that_portage_does_not_know() {
    let Some(shared) = shared() else { return };
    let ran = check(&shared.place.with_config(shared.config("asked")), &["--strict"]).ok();
    assert!(ran.text().ends_with("0 errors, 0 warnings, 0 notes\n"), "{ran}");
}

#[test]
fn what_cannot_be_asked_is_a_note_and_what_fails_a_warning() {
    let Some(tiny) = tiny() else { return };
    let not_asked = "Portage did not check packages, flags and other names: no profile is bootstrapped";
    let ran = check(&tiny.place, &["--strict"]).ok();
    assert!(ran.text().contains(not_asked), "{ran}");
    // A stage3 without a tree, then one that has a tree but no Portage.
    tiny.place.run(&["bootstrap", "demo", tiny.stage3.to_str().unwrap(), "--no-rebuild"]).ok();
    let ran = check(&tiny.place, &[]).ok();
    assert!(
        ran.text().contains(
            "note: Portage did not check it: there is no ebuild tree in the store\n  hint: fetch one with `gentoomuch \
                sync`"
        ),
        "{ran}"
    );
    let tree = tiny.place.path("tree/profiles");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("repo_name"), "gentoo\n").unwrap();
    tiny.place.run(&["sync", "--from", "tree"]).ok();
    let ran = check(&tiny.place, &["stage3:plain"]).ok();
    assert!(ran.text().contains("stage3.defines/plain: warning: Portage could not check it: "), "{ran}");
    check(&tiny.place, &["stage3:plain", "--strict"]).fails(3);
    // A profile that may be made later, and one that is a typing error.
    for (profile, said) in [
        (
            "laptop",
            "1: note: Portage did not check it: profile `laptop` is not bootstrapped\n  hint: make it with `gentoomuch bootstrap laptop STAGE3`, or use one of: demo\n",
        ),
        (
            "dmeo",
            "1: note: Portage did not check it: profile `dmeo` is not bootstrapped\n  hint: did you mean `demo`? Or make it with `gentoomuch bootstrap dmeo STAGE3`, or use one of: demo\n",
        ),
    ] {
        tiny.place.write("config/stage4.defines/hello/profile", profile);
        let ran = check(&tiny.place, &["hello"]).ok();
        assert!(ran.text().contains(&format!("stage4.defines/hello/profile:{said}")), "{ran}");
    }
    tiny.place.run(&["stage", "build", "hello"]).fails(2).says("hint: did you mean `demo`?\n");
    // A definition with mistakes is not put to Portage, nor one with hooks that have some.
    tiny.place.write("config/hooks/finish.d/x", "");
    let ran = check(&tiny.place, &["stage3:plain"]).fails(3);
    assert!(ran.text().contains("stage3.defines/plain: note: Portage checks it once you have corrected its errors\n"), "{ran}");
    fs::remove_dir_all(tiny.place.path("config/hooks")).unwrap();
    tiny.place.write("config/stage3.defines/plain/portage.local", "nothing\n");
    let ran = check(&tiny.place, &["stage3:plain"]).fails(3);
    assert!(ran.text().contains("stage3.defines/plain: note: Portage checks it once you have corrected its errors\n"), "{ran}");
}
