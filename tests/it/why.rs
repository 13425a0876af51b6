//! `why`: from lines of the configuration and of the Portage profile to an installed package, as Portage reads dependencies.

use std::fs;

use serde_json::Value;

use crate::place::{Place, Ran};
use crate::shared::shared;

fn why(place: &Place, args: &[&str]) -> Ran {
    place.run(&[&["why"], args].concat())
}

fn json(place: &Place, args: &[&str]) -> Value {
    let ran = why(place, &[args, &["--json"]].concat()).ok();
    serde_json::from_slice::<Value>(&ran.stdout).unwrap()[0].take()
}

/// The packages on each way, with what names the first.
fn ways(explained: &Value) -> Vec<String> {
    let way = |way: &Value| {
        let packages = way["packages"].as_array().unwrap().iter().map(|step| {
            let build = if step["only_to_build"] == true { " (build)" } else { "" };
            format!(" > {}{build}", step["package"].as_str().unwrap())
        });
        format!("{} {}{}", way["set"].as_str().unwrap(), way["atom"].as_str().unwrap(), packages.collect::<String>())
    };
    explained["ways"].as_array().unwrap().iter().map(way).collect()
}

fn going(explained: &Value) -> Vec<String> {
    let mut names: Vec<String> =
        explained["could_go"].as_array().unwrap().iter().map(|one| one["package"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_library_is_there_for_a_line_of_the_configuration() {
    let Some(shared) = shared() else { return };
    let place = &shared.place;
    let ran = why(place, &["greet", "hello"]).ok();
    let text = ran.text();
    let listed = fs::read_to_string(place.config.join("stage4.defines/hello/packages")).unwrap();
    let line = 1 + listed.lines().position(|line| line.split(' ').next() == Some("app-misc/greeter")).unwrap();
    for words in [
        "dev-libs/greet-1.0 (",
        &format!("  stage4.defines/hello/packages:{line}: app-misc/greeter\n    app-misc/greeter-1.0 ("),
        "\n      dev-libs/greet-1.0 (",
        "B)  as dev-libs/greet:0/1=[utf8]\n",
        "  without it nothing else could go: ",
    ] {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
    let explained = json(place, &["app-misc/greeter-1.0", "stage4/hello"]);
    assert_eq!(ways(&explained), ["selected app-misc/greeter > app-misc/greeter-1.0"]);
    assert_eq!(going(&explained), ["app-misc/greeter-1.0", "dev-libs/greet-1.0"]);
    let bytes = explained["could_go"].as_array().unwrap().iter().map(|one| one["size_bytes"].as_u64().unwrap()).sum::<u64>();
    assert!(bytes > 0 && explained["could_go_bytes"] == bytes, "{explained}");
    // What the Portage profile asks for.
    let explained = json(place, &["baselayout"]);
    assert_eq!(ways(&explained), ["system sys-apps/baselayout > sys-apps/baselayout-2.18"], "{explained}");
    let place_of = explained["ways"][0]["places"][0].as_str().unwrap();
    assert!(place_of.starts_with("gentoo:profiles/") && place_of.contains("/packages:"), "{place_of}");
}

/// Dependencies of all kinds, written into the database of an image: alternatives, flags, a circle, a build; and what cannot be read.
const NEEDS: &str = r#"
cd /var/db/pkg/app-misc
[ -d hello-2.10 ]
for name in one two three four alone; do cp -r hello-2.10 $name-1; rm -f $name-1/*DEPEND; echo "$name-1" >$name-1/PF; done
echo '|| ( app-misc/none app-misc/one ) nothing? ( app-misc/four ) !app-misc/alone' >hello-2.10/RDEPEND
echo '>=app-misc/two-1:0' >one-1/RDEPEND
echo 'app-misc/one' >two-1/PDEPEND
echo 'app-misc/three' >two-1/BDEPEND
echo '( broken' >three-1/RDEPEND
printf 'app-misc/four\033[2J\n@no-such\n' >>/var/lib/portage/world
printf 'app-misc/four\n' >>/var/lib/portage/world
printf '#!/bin/sh\nexit 1\n' >/usr/bin/python3.new && mv /usr/bin/python3.new /usr/bin/python3
"#;

#[test]
fn dependencies_are_read_as_portage_reads_them() {
    let Some(shared) = shared() else { return };
    let place = &shared.place;
    let kept = format!("needs-{}", std::process::id());
    place.run(&["shell", "stage4/hello", "--keep", &kept, "--", "sh", "-ec", NEEDS]).ok();
    let name = format!("kept/{kept}");
    let explained = json(place, &["three", &name]);
    let begin = "selected app-misc/hello > app-misc/hello-2.10 > app-misc/one-1 > app-misc/two-1";
    assert_eq!(ways(&explained), [format!("{begin} > app-misc/three-1 (build)")]);
    let unread = explained["unread"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect::<Vec<_>>().join("\n");
    assert!(unread.contains("RDEPEND of app-misc/three-1: ") && unread.contains("@no-such: there is no such set"), "{unread}");
    assert!(!unread.contains('\u{1b}'));
    let one = json(place, &["app-misc/one", &name]);
    assert_eq!(going(&one), ["app-misc/one-1", "app-misc/three-1", "app-misc/two-1"]);
    assert_eq!(ways(&json(place, &["app-misc/four", &name])), ["selected app-misc/four > app-misc/four-1"]);
    let alone = why(place, &["alone", &name]).ok().text();
    assert!(alone.contains("nothing needs it: `emerge --depclean` would remove it"), "{alone}");
    let four = why(place, &["four", &name]).ok().text();
    assert!(four.contains("  the world file alone: app-misc/four\n") && !four.contains('\u{1b}'), "{four}");
    place.run(&["rm", "--yes", &name]).ok();
}

#[test]
fn what_is_not_there_is_said() {
    let Some(shared) = shared() else { return };
    let place = &shared.place;
    why(place, &["app-misc/hallo", "hello"])
        .fails(2)
        .says("`app-misc/hallo` is not installed in `stage4/hello`")
        .says("app-misc/hello`?");
    why(place, &["greeet", "hello"]).fails(2).says("did you mean `dev-libs/greet`?");
    why(place, &[">=app-misc/hello-99", "hello"]).fails(2).says("there is: app-misc/hello-2.10");
    why(place, &["app-misc/hello world", "hello"]).fails(2).says("cannot be a package");
    why(place, &["hello", "nosuch"]).fails(2).says("no build state is called `nosuch`");
    why(place, &["hello", "server"]).fails(2).says("has not been built yet");
}
