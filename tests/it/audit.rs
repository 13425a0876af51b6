//! `audit`: what the trees say of installed packages, asked of Portage. Each test pins a tree of its own, made from the testbed's.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::child;
use crate::gpg::beside;
use crate::place::{Place, Ran};
use crate::shared::{Shared, shared};
use crate::tiny::tiny;

/// An advisory about one package. `paths` are `<vulnerable …>` and `<unaffected …>`.
fn advisory(id: &str, title: &str, severity: &str, package: &str, paths: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE glsa SYSTEM "http://www.gentoo.org/dtd/glsa.dtd">
<glsa id="{id}">
  <title>{title}</title>
  <synopsis>s</synopsis>
  <product type="ebuild">p</product>
  <announced>2026-11-01</announced>
  <revised count="1">2026-11-01</revised>
  <access>remote</access>
  <affected>
    <package {package}>
      {paths}
    </package>
  </affected>
  <background><p>b</p></background>
  <description><p>d</p></description>
  <impact type="{severity}"><p>i</p></impact>
  <workaround><p>w</p></workaround>
  <resolution><p>r</p></resolution>
  <references></references>
</glsa>
"#
    )
}

/// The testbed's tree, changed by `change`, as the pinned one of the configuration `place.config`. Others see no other tree than before: that
/// is why it is a commit.
fn pin_tree(shared: &Shared, place: &Place, change: impl FnOnce(&Path)) {
    let dir = place.path(&format!("trees/{}", place.config.file_name().unwrap().to_str().unwrap()));
    if dir.exists() {
        fs::remove_dir_all(&dir).unwrap();
    }
    fs::create_dir_all(&dir).unwrap();
    let mut tar = Command::new("tar");
    child::check(tar.arg("-C").arg(&dir).args(["--strip-components=1", "-xf"]).arg(&shared.testbed.tree));
    change(&dir);
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.arg("-C").arg(&dir).args(["-c", "user.name=U", "-c", "user.email=u@example.org"]).args(args);
        git.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &place.dir);
        String::from_utf8(child::check(&mut git)).unwrap().trim().to_owned()
    };
    git(&["init", "--quiet", "--initial-branch=main", "."]);
    git(&["add", "--all", "--force"]);
    git(&["commit", "--quiet", "-m", "x"]);
    let commit = git(&["rev-parse", "HEAD"]);
    let url = format!("file://{}", dir.to_str().unwrap().replace(' ', "%20"));
    fs::write(place.config.join("env/tree"), format!("gentoo git {url} {commit}\n")).unwrap();
    place.run(&["sync", "gentoo", "--json"]).ok();
}

/// A further version of a package of the tree, which is the same.
fn add_version(tree: &Path, package: &str, old: &str, new: &str) {
    let name = package.rsplit('/').next().unwrap();
    for dir in [tree.join(package), tree.join("metadata/md5-cache").join(package.split('/').next().unwrap())] {
        let suffix = if dir.starts_with(tree.join("metadata")) { "" } else { ".ebuild" };
        fs::copy(dir.join(format!("{name}-{old}{suffix}")), dir.join(format!("{name}-{new}{suffix}"))).unwrap();
    }
}

fn remove_package(tree: &Path, package: &str) {
    fs::remove_dir_all(tree.join(package)).unwrap();
    let (category, name) = package.split_once('/').unwrap();
    for entry in fs::read_dir(tree.join("metadata/md5-cache").join(category)).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with(name) {
            fs::remove_file(path).unwrap();
        }
    }
}

fn audit(place: &Place, args: &[&str]) -> Ran {
    place.run(&[&["audit"], args].concat())
}

fn json(ran: &Ran) -> Value {
    serde_json::from_slice(&ran.stdout).unwrap()
}

/// Ids of the advisories that were found, with packages and what fixes them.
fn advisories(finding: &Value) -> Vec<String> {
    let found = finding["advisories"]["found"].as_array().unwrap().iter();
    found
        .map(|one| {
            let packages = one["packages"]
                .as_array()
                .unwrap()
                .iter()
                .map(|package| format!(" {}>{}", package["cpv"].as_str().unwrap(), package["fixed"].as_str().unwrap()));
            format!("{}{}", one["id"].as_str().unwrap(), packages.collect::<String>())
        })
        .collect()
}

fn versions(finding: &Value) -> Vec<String> {
    let all = finding["versions"].as_array().unwrap().iter();
    let words = |one: &Value| ["cpv", "status", "newest"].map(|field| one[field].as_str().unwrap().to_owned()).join(" ");
    all.map(words).collect()
}

/// The tree with all kinds of advisories; `hello` and `greeter` have newer versions, and `oddfiles` is gone.
fn with_advisories(tree: &Path) {
    add_version(tree, "app-misc/hello", "2.10", "2.12");
    add_version(tree, "app-misc/greeter", "1.0", "1.0-r3");
    remove_package(tree, "app-misc/oddfiles");
    let dir = tree.join("metadata/glsa");
    fs::create_dir_all(&dir).unwrap();
    let any = r#"auto="yes" arch="*""#;
    let put = |number: u32, package: &str, paths: &str| {
        let id = format!("202611-{number:02}");
        let title = format!("About {number}\u{202e}");
        fs::write(dir.join(format!("glsa-{id}.xml")), advisory(&id, &title, "high", package, paths)).unwrap();
    };
    let older =
        |version: &str| format!(r#"<unaffected range="ge">{version}</unaffected><vulnerable range="lt">{version}</vulnerable>"#);
    put(1, &format!(r#"name="app-misc/hello" {any}"#), &older("2.12"));
    put(2, r#"name="app-misc/hello" auto="yes" arch="ppc64 sparc""#, &older("2.12"));
    put(3, r#"name="app-misc/hello" auto="yes" arch="amd64 sparc""#, &older("2.10"));
    // Revisions of the version that is installed, and of no other one.
    put(
        4,
        &format!(r#"name="app-misc/greeter" {any}"#),
        r#"<unaffected range="rge">1.0-r2</unaffected><vulnerable range="rlt">1.0-r2</vulnerable>"#,
    );
    put(
        5,
        &format!(r#"name="app-misc/greeter" {any}"#),
        r#"<unaffected range="rge">0.9-r2</unaffected><vulnerable range="rlt">0.9-r2</vulnerable>"#,
    );
    // Slots.
    put(6, &format!(r#"name="dev-libs/greet" {any}"#), r#"<vulnerable range="lt" slot="0">9</vulnerable>"#);
    put(7, &format!(r#"name="dev-libs/greet" {any}"#), r#"<vulnerable range="lt" slot="5">9</vulnerable>"#);
    put(8, &format!(r#"name="app-misc/elsewhere" {any}"#), &older("9"));
    // A name that only a parser of XML understands.
    put(9, &format!(r#"name="app-misc/&#104;ello" {any}"#), &older("2.11"));
    fs::write(dir.join("glsa-202611-10.xml"), "<glsa about=\"app-misc/hello\">").unwrap();
    fs::write(dir.join("Manifest"), "").unwrap();
}

#[test]
fn advisories_and_versions_are_portages() {
    let Some(shared) = shared() else { return };
    let place = shared.place.with_config(shared.config("audit"));
    let state = || {
        let shown = json(&place.run(&["store", "show", "stage4/hello", "--json"]).ok());
        [shown["id"].clone(), shown["layers"].clone()]
    };
    let before = state();
    pin_tree(&shared, &place, with_advisories);
    let report = json(&audit(&place, &["hello", "--json"]).ok());
    assert_eq!(report["failed_on"], serde_json::json!([]));
    let finding = &report["audited"][0];
    assert_eq!(finding["name"], "stage4/hello");
    assert_eq!(
        advisories(finding),
        [
            "202611-01 app-misc/hello-2.10>app-misc/hello-2.12",
            "202611-04 app-misc/greeter-1.0>app-misc/greeter-1.0-r3",
            "202611-06 dev-libs/greet-1.0>",
            "202611-09 app-misc/hello-2.10>app-misc/hello-2.12",
        ]
    );
    assert_eq!(finding["advisories"]["known"], 10);
    let unread = finding["advisories"]["unread"].as_array().unwrap();
    assert!(unread.len() == 1 && unread[0].as_str().unwrap().starts_with("glsa-202611-10: "), "{unread:?}");
    assert_eq!(
        versions(finding),
        [
            "app-misc/greeter-1.0 outdated app-misc/greeter-1.0-r3",
            "app-misc/hello-2.10 outdated app-misc/hello-2.12",
            "app-misc/oddfiles-1.0 removed ",
        ]
    );
    assert_eq!(finding["trees"][0]["name"], "gentoo");

    // In words, and with what a terminal obeys made visible.
    let said = audit(&place, &["hello", "--fail-on", "removed,glsa"]);
    assert_eq!(said.status.code(), Some(10), "{said}");
    let said = said.says("--fail-on: glsa (5), removed (1)");
    let text = said.text();
    let line = text.lines().find(|line| line.starts_with("  202611-06")).unwrap_or_else(|| panic!("{text}"));
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words, ["202611-06", "high", "dev-libs/greet-1.0", "no", "version", "About", "6\\u{202e}"]);
    assert!(!text.contains('\u{202e}'), "{text}");

    // The same of its artifact, whatever became of its state.
    let artifact = shared.artifact();
    assert_eq!(advisories(&json(&audit(&place, &[artifact.to_str().unwrap(), "--json"]).ok())["audited"][0]), advisories(finding));
    let copy = copied(&place, &artifact);
    let mut metadata: Value = serde_json::from_slice(&fs::read(beside(&copy, "json")).unwrap()).unwrap();
    metadata["state"] = "0".repeat(32).into();
    metadata["packages"]
        .as_array_mut()
        .unwrap()
        .push(serde_json::json!({"cpv": "a/b\u{1b}[2J", "slot": "0", "repo": "", "use": []}));
    fs::write(beside(&copy, "json"), metadata.to_string()).unwrap();
    let gone = audit(&place, &[copy.to_str().unwrap(), "--json"]).ok().says("the profile `demo` is asked about its packages");
    let gone = json(&gone);
    assert_eq!((advisories(&gone["audited"][0]), versions(&gone["audited"][0])), (advisories(finding), versions(finding)));
    assert_eq!(gone["audited"][0]["unread"], serde_json::json!(["a/b\\u{1b}[2J"]));
    place.run(&["why", "greet", copy.to_str().unwrap()]).fails(2).says("`.json` does not say what its packages need");
    fs::write(&copy, "cut off").unwrap();
    audit(&place, &[copy.to_str().unwrap()]).fails(4).says("is damaged: ");

    assert_eq!(state(), before, "nothing is changed");
}

/// A copy of an artifact with the files beside it.
fn copied(place: &Place, artifact: &Path) -> PathBuf {
    let dir = place.path("copied artifact");
    fs::create_dir_all(&dir).unwrap();
    let name = artifact.file_name().unwrap().to_str().unwrap();
    for entry in fs::read_dir(artifact.parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_str().unwrap().starts_with(name) {
            fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
        }
    }
    dir.join(name)
}

#[test]
fn a_tree_without_advisories_says_nothing() {
    let Some(shared) = shared() else { return };
    let place = shared.place.with_config(shared.config("audit-unknown"));
    // A directory without one, too.
    pin_tree(&shared, &place, |tree| {
        fs::create_dir_all(tree.join("metadata/glsa")).unwrap();
        fs::write(tree.join("metadata/glsa/Manifest"), "").unwrap();
    });
    let said = audit(&place, &["stage4/hello", "--fail-on", "glsa"]);
    assert_eq!(said.status.code(), Some(10), "{said}");
    let text = said.says("--fail-on: glsa (1)").text();
    assert!(text.contains("security advisories: unknown, since the tree has none"), "{text}");
    let all = audit(&place, &["demo", "--fail-on", "removed,outdated", "--json"]).ok();
    assert_eq!(json(&all)["audited"][0]["advisories"], Value::Null);
    assert_eq!(json(&all)["audited"][0]["name"], "profile/demo/gentoomuch/builder");
}

/// What means harm in an image: a Python of its own, and a database with anything in it.
const HOSTILE: &str = r#"
echo 202611-01 >/var/lib/portage/glsa_injected
printf '#!/bin/sh\necho "@gentoomuch-done 1"\n' >/usr/bin/python3.new && mv /usr/bin/python3.new /usr/bin/python3
cd /var/db/pkg/app-misc
escape=$(printf '\033')
mkdir "esc${escape}[2J-1" evil-1 'spa ce-1' noslot-1 greeter-0.1
for dir in esc* evil-1 'spa ce-1' greeter-0.1; do echo 0 >"$dir/SLOT"; done
printf 'over\033]0;owned\007lay\n' >evil-1/repository
echo '!not/a/slot!' >greeter-0.1/SLOT
"#;

#[test]
fn a_hostile_image_hides_nothing() {
    let Some(shared) = shared() else { return };
    let place = shared.place.with_config(shared.config("audit-hostile"));
    pin_tree(&shared, &place, with_advisories);
    let kept = format!("audit-hostile-{}", std::process::id());
    place.run(&["shell", "stage4/hello", "--keep", &kept, "--", "sh", "-ec", HOSTILE]).ok();
    let name = format!("kept/{kept}");
    let report = audit(&place, &[&name, "--json", "--fail-on", "glsa"]);
    assert_eq!(report.status.code(), Some(10), "{report}");
    let finding = &json(&report)["audited"][0];
    assert_eq!(advisories(finding).len(), 4);
    let accepted: Vec<bool> =
        finding["advisories"]["found"].as_array().unwrap().iter().map(|one| one["accepted"].as_bool().unwrap()).collect();
    assert_eq!(accepted, [true, false, false, false]);
    for known in ["app-misc/evil-1 unknown ", "app-misc/esc-1 removed "] {
        assert!(versions(finding).contains(&known.to_owned()), "{finding}");
    }
    let unread: Vec<&str> = finding["unread"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    assert_eq!(unread, ["app-misc/noslot-1", "app-misc/spa ce-1", "app-misc/greeter-0.1"]);
    let text = audit(&place, &[&name]).ok().text();
    assert!(text.contains("202611-01 (accepted)") && text.contains("unknown: no tree `overlay`"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    place.run(&["rm", "--yes", &name]).ok();
    // Of a state that answers itself, settings lead past no advisory.
    let elsewhere = "mkdir /empty; echo GLSA_DIR=/empty >>/etc/portage/make.conf/zz";
    place.run(&["freshroot", "--keep", &kept, "--", "sh", "-ec", elsewhere]).ok();
    assert_eq!(json(&audit(&place, &[&name, "--json"]).ok())["audited"][0]["advisories"]["known"], 10);
    place.run(&["rm", "--yes", &name]).ok();
}

#[test]
fn what_cannot_be_audited_is_said() {
    let Some(shared) = shared() else { return };
    let place = &shared.place;
    audit(place, &["nosuch"]).fails(2).says("no build state is called `nosuch`");
    audit(place, &["hell"]).fails(2).says("did you mean `hello`?");
    audit(place, &["server"]).fails(2).says("the stage4 `server` has not been built yet").says("stage build server");
    place.write("some file", "x");
    audit(place, &["some file"]).fails(2).says("`some file` is no artifact of ours: there is no `some file.json`");
    audit(place, &["hello", "--fail-on", "everything"]).fails(2).says("glsa, removed, outdated");
}

#[test]
fn without_a_name_everything_is_audited_that_can_be() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    audit(place, &[]).fails(2).says("nothing has been built yet");
    // It has no Portage, and there is no tree.
    tiny.another("small", "a");
    audit(place, &[]).fails(2).says("cannot audit `profile/small/upstream`").says("gentoomuch sync");
    let tree = place.path("tree/profiles");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("repo_name"), "gentoo\n").unwrap();
    fs::set_permissions(place.path("tree"), fs::Permissions::from_mode(0o755)).unwrap();
    place.run(&["sync", "--from", "tree"]).ok();
    tiny.another("other", "b");
    let ran = audit(place, &[]).fails(1);
    ran.says("warning: cannot audit `profile/").says("error: cannot audit `profile/").says("`/root`");
}
