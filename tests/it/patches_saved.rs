//! Saved patches in builds: applied before anything is compiled, proven afterwards, built for several profiles.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::child;
use crate::host::{self, Testbed};
use crate::place::{Place, Ran, build_quickly, copy, shipped_config};
use crate::shared::{BULK, small_world};

/// A place of its own, whose tree has more packages, and two profiles, of which one has a builder.
struct World {
    place: Place,
    stage3: PathBuf,
}

/// EAPI 5: nothing calls `eapply_user`.
const ALOOF: &str = "EAPI=5\nDESCRIPTION=\"Applies no patches\"\nHOMEPAGE=\"https://distfiles.example/\"\nLICENSE=\"GPL-2\"\nSLOT=\"0\"\n\
                     KEYWORDS=\"amd64\"\nS=\"${WORKDIR}\"\nsrc_unpack() { echo kept >words; }\n\
                     src_install() { insinto /usr/share/aloof; doins words; }\n";

/// What it installs tells which patches were applied.
fn scoped(slot: &str) -> String {
    format!(
        "EAPI=8\nDESCRIPTION=\"Installs what patches bring\"\nHOMEPAGE=\"https://distfiles.example/\"\nLICENSE=\"GPL-2\"\nSLOT=\"{slot}/x\"\n\
         KEYWORDS=\"amd64\"\nS=\"${{WORKDIR}}/s\"\nsrc_unpack() {{ mkdir s || die; echo ${{PVR}} >s/release || die; }}\n\
         src_install() {{ insinto /usr/share/scoped-${{SLOT%/*}}; doins *; }}\n"
    )
}

/// A patch that makes a file.
fn brings(file: &str) -> String {
    format!("Purpose: brings {file}\n\n--- /dev/null\n+++ b/{file}\n@@ -0,0 +1 @@\n+{file}\n")
}

/// A patch of the line that keeps `broken.c` from compiling.
fn line_5(before: &str, after: &str) -> String {
    format!(
        "--- a/broken.c\n+++ b/broken.c\n@@ -2,6 +2,6 @@\n \n int main(void)\n {{\n-\tprintf(\"%d\\n\", {before});\n\
         +\tprintf(\"%d\\n\", {after});\n \treturn 0;\n }}\n"
    )
}

/// `packages`: what the builder has besides its world.
fn world(packages: &str) -> Option<World> {
    let testbed = host::testbed()?;
    if !host::has("tar") || !host::has("zstd") {
        return None;
    }
    let world = World { place: Place::new()?, stage3: testbed.stage3.clone() };
    let place = &world.place;
    copy(&shipped_config(), &place.config);
    build_quickly(&place.config);
    for example in ["hello", "server", "container"] {
        fs::remove_dir_all(place.config.join("stage4.defines").join(example)).unwrap();
    }
    place.write("config/package.sets/gentoomuch/builder", packages);
    small_world(&place.config, "app-text/tree");
    child::check(Command::new("cp").arg("-R").arg(&testbed.distfiles).arg(place.path("cache")));
    place.run(&["keys", "import", "--trust", testbed.key.to_str().unwrap()]).ok();
    world.sync(&testbed);
    place.run(&["bootstrap", "one", testbed.stage3.to_str().unwrap()]).ok();
    Some(world)
}

impl World {
    /// The testbed's tree, and packages of these tests.
    fn sync(&self, testbed: &Testbed) {
        let place = &self.place;
        fs::create_dir_all(place.path("tree")).unwrap();
        let mut tar = Command::new("tar");
        tar.arg("-xJf").arg(&testbed.tree).args(["--strip-components=1", "-C"]).arg(place.path("tree"));
        child::check(&mut tar);
        place.write("tree/app-misc/aloof/aloof-1.0.ebuild", ALOOF);
        for (version, slot) in [("1.0", "0"), ("1.0-r1", "0"), ("3.0", "3")] {
            place.write(&format!("tree/app-misc/scoped/scoped-{version}.ebuild"), scoped(slot));
        }
        place.run(&["sync", "--from", place.path("tree").to_str().unwrap(), "--allow-unsigned", "made by a test"]).ok();
    }

    fn patch(&self, path: &str, text: &str) {
        self.place.write(&format!("config/user.patches/{path}"), text);
    }

    fn drop_patches(&self) {
        fs::remove_dir_all(self.place.config.join("user.patches")).unwrap();
    }

    fn stage4(&self, name: &str, packages: &str) {
        // What the packages install is looked at.
        let removes = BULK.strip_prefix("/usr/share\n").unwrap();
        let files = [("profile", "one"), ("stage3", "plain"), ("packages", packages), ("format", "tar.zst"), ("removes", removes)];
        for (file, text) in files {
            self.place.write(&format!("config/stage4.defines/{name}/{file}"), format!("{text}\n"));
        }
    }

    fn build(&self, name: &str) -> Ran {
        self.place.run(&["stage", "build", name, "--no-export"])
    }

    /// What a shell says in a state.
    fn says(&self, state: &str, script: &str) -> String {
        self.place.run(&["shell", state, "--network", "none", "--", "sh", "-c", script]).ok().text()
    }

    /// The newest logs called so.
    fn newest_logs(&self, what: &str) -> PathBuf {
        let logs = fs::read_dir(self.place.path("data/logs")).unwrap().map(|entry| entry.unwrap().path());
        let mut found: Vec<PathBuf> = logs.filter(|dir| dir.file_name().unwrap().to_str().unwrap().starts_with(what)).collect();
        found.sort_by_key(|dir| fs::metadata(dir).unwrap().modified().unwrap());
        found.pop().unwrap_or_else(|| panic!("no logs {what}"))
    }

    fn compile(&self, args: &[&str], code: i32) -> Vec<[String; 4]> {
        let ran = self.place.run(&[&["patch", "compile", "--json"], args].concat()).fails(code);
        let value: Value = serde_json::from_str(&ran.text()).unwrap_or_else(|error| panic!("{error} in {ran}"));
        let word = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
        let rows = value["patches"].as_array().unwrap().iter();
        rows.map(|row| ["patch", "package", "profile", "result"].map(|name| word(row, name))).collect()
    }

    fn sessions(&self) -> usize {
        self.place.sessions().len()
    }
}

#[test]
fn saved_patches_reach_what_they_are_for() {
    let Some(world) = world("") else { return };
    all_kinds_are_built(&world);
    a_stage4_has_them_and_says_so(&world);
    a_conflict_is_found_before_anything_is_built(&world);
}

#[test]
#[ignore = "long: two builders, and three stage4s"]
fn saved_patches_reach_nothing_else() {
    let Some(world) = world("") else { return };
    all_kinds_are_built(&world);
    every_profile_is_built_with_them(&world);
    world.drop_patches();
    what_concerns_no_package_of_a_state_rebuilds_nothing(&world);
}

#[test]
#[ignore = "long: a builder is updated three times"]
fn saved_patches_reach_what_is_installed() {
    let Some(world) = world("app-text/tree\n") else { return };
    what_is_installed_is_built_again(&world);
}

/// What becomes of each patch that [`all_kinds_are_built`] saves.
fn expected(profile: &str) -> [[String; 4]; 9] {
    [
        ("aloof", "app-misc/aloof-1.0", "not-applied"),
        ("fix", "app-misc/broken-1.0", "built"),
        ("more", "app-misc/broken-1.0", "built"),
        ("first", "app-misc/scoped-1.0", "built"),
        ("revision", "app-misc/scoped-1.0-r1", "built"),
        ("version", "app-misc/scoped-1.0-r1", "built"),
        ("any", "app-misc/scoped-3.0", "built"),
        ("slot", "app-misc/scoped-3.0", "built"),
        ("gone", "~app-misc/scoped-9", "no-version"),
    ]
    .map(|(patch, package, result)| [patch, package, profile, result].map(str::to_owned))
}

fn all_kinds_are_built(world: &World) {
    let place = &world.place;
    place.run(&["patch", "compile"]).fails(2).says("no patches are saved");
    world.patch("fix/app-misc/broken/line.patch", &line_5("undeclared_on_purpose", "41"));
    world.patch("more/app-misc/broken/line.patch", &line_5("41", "42"));
    world.patch("any/app-misc/scoped/x.patch", &brings("any"));
    world.patch("version/app-misc/scoped-1.0/x.patch", &brings("version"));
    world.patch("first/app-misc/scoped-1.0-r0/x.patch", &brings("first"));
    world.patch("revision/app-misc/scoped-1.0-r1/x.patch", &brings("revision"));
    world.patch("slot/app-misc/scoped:3/x.patch", &brings("slot"));
    world.patch("gone/app-misc/scoped-9/x.patch", &brings("gone"));
    world.patch("aloof/app-misc/aloof/x.patch", &brings("aloof"));
    assert_eq!(world.compile(&["--profile", "one"], 6), expected("one"));
    place.run(&["patch", "compile", "fxi"]).fails(3).says("did you mean `fix`?");
    assert_eq!(world.sessions(), 0);
}

fn every_profile_is_built_with_them(world: &World) {
    let place = &world.place;
    // For a profile without a builder of its own, one is built.
    place.run(&["bootstrap", "--no-rebuild", "two", world.stage3.to_str().unwrap()]).ok();
    let [_, fix, more, ..] = expected("two");
    assert_eq!(world.compile(&["fix", "more", "--profile", "two"], 0), [fix, more]);
    let of_both = [expected("one"), expected("two")].map(|[aloof, ..]| aloof);
    assert_eq!(world.compile(&["aloof", "--all"], 6), of_both);
    let text = place.run(&["patch", "compile", "aloof", "gone", "--profile", "two"]).fails(6).text();
    assert!(text.contains("gone   ~app-misc/scoped-9  two      no such version") && text.contains("0 of 2 rows"), "{text}");
    assert_eq!(world.sessions(), 0);
}

fn a_stage4_has_them_and_says_so(world: &World) {
    let place = &world.place;
    // What an earlier configuration has built without the patch is no binary package to take, whatever Portage thinks of it.
    let version = place.config.join("user.patches/version");
    fs::rename(&version, place.path("version")).unwrap();
    world.stage4("before", "=app-misc/scoped-1.0-r1");
    world.build("before").ok();
    assert_eq!(world.says("stage4/before", "cat /usr/share/scoped-0/*"), "any\n1.0-r1\nrevision\n");
    fs::rename(place.path("version"), &version).unwrap();
    world.stage4("web", "app-misc/broken\n=app-misc/scoped-1.0-r1\napp-misc/scoped:3\napp-misc/aloof\n");
    let ran = world.build("web").ok();
    let ran = ran.says("applying patches to app-misc/broken-1.0, app-misc/scoped-1.0-r1, app-misc/scoped-3.0").says(
        "`user.patches/aloof/app-misc/aloof/x.patch` is not applied to app-misc/aloof-1.0: its ebuild has EAPI 5, which does not \
         call `eapply_user`",
    );
    // Not by the second thought that follows a build.
    assert!(!ran.stderr.contains("Portage does not notice that patches have changed"), "{ran}");
    assert_eq!(world.says("stage4/web", "broken && cat /usr/share/scoped-0/* && cat /usr/share/scoped-3/*"), {
        "42\nany\n1.0-r1\nrevision\nversion\nany\n3.0\nslot\n"
    });
    // One that is there already is told once, when it was built.
    let state: Value = serde_json::from_str(&place.run(&["store", "show", "stage4/web", "--json"]).ok().text()).unwrap();
    let text = state.to_string();
    assert!(
        text.contains("\"patched\"") && text.contains("\"not-called\"") && text.contains("user.patches/fix/app-misc"),
        "{text}"
    );
    world.stage4("plain", "app-misc/scoped:3");
    place.run(&["pipeline", "--no-sign", "plain"]).ok();
    world.patch("slot/app-misc/scoped:3/x.patch", &brings("slot two").replace("b/slot two", "b/slot"));
    let planned = place.run(&["pipeline", "--dry-run", "plain"]).ok().text();
    assert!(planned.contains("~ user.patches/slot/app-misc/scoped:3/x.patch"), "{planned}");
    place.run(&["pipeline", "--no-sign", "plain"]).ok();
    assert_eq!(world.says("stage4/plain", "cat /usr/share/scoped-3/slot"), "slot two\n");
}

fn a_conflict_is_found_before_anything_is_built(world: &World) {
    let place = &world.place;
    // Alone it applies, after the other two it does not.
    world.patch("other/app-misc/broken/line.patch", &line_5("undeclared_on_purpose", "43"));
    let fails = || {
        let ran = world.build("web").fails(3);
        let ran = ran
            .says("error: user.patches/other/app-misc/broken/line.patch: does not apply to `app-misc/broken-1.0` after")
            .says("`user.patches/fix/app-misc/broken/line.patch`, `user.patches/more/app-misc/broken/line.patch`")
            .says("hint: move it to the version that is built now with `gentoomuch patch refresh other`");
        assert!(!ran.stderr.contains("emerging"), "{ran}");
        ran
    };
    fails().says("the changes do not affect plain on one");
    // Not even the base that it needs, where that has to be built anew.
    let make_conf = place.config.join("portage.global/make.conf");
    let before = fs::read_to_string(&make_conf).unwrap();
    fs::write(&make_conf, format!("{before}\nOF_NOBODY=\"1\"\n")).unwrap();
    let ran = fails();
    fs::write(&make_conf, before).unwrap();
    assert!(!world.newest_logs("one-plain").join("emerge.log").exists(), "emerge was only asked what it would do");
    assert!(!ran.stderr.contains("building stage4"), "{ran}");
    assert_eq!(world.sessions(), 0, "{:?}", place.sessions());
    // One that upstream has taken, or that was made for another version.
    world.drop_patches();
    world.patch("old/app-misc/broken/line.patch", &line_5("something_else", "41"));
    world.build("web").fails(3).says("user.patches/old/app-misc/broken/line.patch: does not apply to `app-misc/broken-1.0`\n");
    world.drop_patches();
}

fn what_concerns_no_package_of_a_state_rebuilds_nothing(world: &World) {
    let place = &world.place;
    world.stage4("bare", "app-misc/aloof");
    place.run(&["pipeline", "--no-sign", "bare"]).ok();
    let state = |name: &str| {
        let shown: Value = serde_json::from_str(&place.run(&["store", "show", name, "--json"]).ok().text()).unwrap();
        shown["id"].as_str().unwrap_or_else(|| panic!("{shown}")).to_owned()
    };
    let before = ["profile/one/plain", "stage4/bare"].map(state);
    world.patch("late/app-misc/scoped/x.patch", &brings("late"));
    let stands = |planned: &str, name: &str| {
        assert!(planned.lines().any(|line| line.starts_with(name) && line.contains(" reuse")), "{planned}");
    };
    let dry = |name: &str| place.run(&["pipeline", "--no-sign", "--dry-run", name]).ok().text();
    for _ in ["found out", "noted"] {
        assert!(dry("bare").contains("nothing to do"), "{}", dry("bare"));
    }
    world.build("bare").ok().says("the changes do not affect plain on one").says("the changes do not affect bare");
    assert_eq!(["profile/one/plain", "stage4/bare"].map(state), before);
    // What stands on it gets the package, and what is said about it now.
    world.stage4("late", "app-misc/scoped:3");
    stands(&dry("late"), "stage3/one/plain ");
    world.build("late").ok().says("applying patches to app-misc/scoped-3.0");
    assert_eq!(world.says("stage4/late", "cat /usr/share/scoped-3/* /etc/portage/patches/app-misc/scoped/*| head -1"), "late\n");
    assert_eq!(state("profile/one/plain"), before[0]);
    stands(&dry("late"), "stage4/late ");
    world.patch("late/app-misc/aloof/x.patch", &brings("late"));
    assert!(dry("bare").contains("app-misc/aloof is in it"), "{}", dry("bare"));
    stands(&dry("late"), "stage4/late ");
    world.drop_patches();
}

fn what_is_installed_is_built_again(world: &World) {
    let place = &world.place;
    let recorded = || world.says("profile/one", "cat /var/db/pkg/app-text/tree-*/USER_PATCHES 2>/dev/null || echo none");
    assert_eq!(recorded(), "none\n");
    world.patch("tree/app-text/tree/x.patch", &brings("tree"));
    world.patch("aloof/app-misc/aloof/x.patch", &brings("aloof"));
    let ran = place.run(&["profile", "update", "one"]).ok();
    ran.says("rebuilding, since Portage does not notice that patches have changed: app-text/tree-");
    assert_eq!(recorded() == "none\n", !host::portage_records_patches());
    place.run(&["profile", "update", "one"]).ok();
    // The builder has a patch that it cannot apply: whoever builds with it is told.
    let tried = place.run(&["try", "app-misc/aloof", "--profile", "one", "--json"]).ok().text();
    assert!(tried.contains("`user.patches/aloof/app-misc/aloof/x.patch` is not applied to app-misc/aloof-1.0"), "{tried}");
    world.drop_patches();
    // With the configuration of before alone, its state would be there already.
    place.write("config/portage.locals/gentoomuch/builder/package.use", "app-text/none flag\n");
    place.run(&["profile", "update", "one"]).ok().says("Portage does not notice that patches have changed");
    assert_eq!(recorded(), "none\n");
}
