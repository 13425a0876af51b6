//! What the version before has made is read by this one, and goes on: `tests/older`, whose README says where it comes from.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::PoisonError;

use gentoomuch::internals::origin::{Kept, Origin, Recorded};
use gentoomuch::internals::store::{NewState, Purpose, Store, Wait};

use crate::{ALONE, launcher};

fn older(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/older").join(path)
}

/// With the modes of a store, which git does not keep.
fn copy(from: &Path, to: &Path) {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(entry.path()).unwrap(), target).unwrap();
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The home of a user who comes from the version before.
struct Home(tempfile::TempDir);

impl Home {
    fn new(id_map: &gentoomuch::internals::sandbox::IdMap) -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        copy(&older("data"), &home.0.path().join(".local/share/gentoomuch"));
        copy(&older("config"), &home.config());
        let file = home.store().join("store.json");
        let mut record = json(&file);
        record["idmap"] = serde_json::to_value(id_map).unwrap();
        std::fs::write(file, record.to_string()).unwrap();
        home
    }

    fn config(&self) -> PathBuf {
        self.0.path().join(".config/gentoomuch")
    }

    fn store(&self) -> PathBuf {
        self.0.path().join(".local/share/gentoomuch/store")
    }

    /// What the program prints, started in the configuration directory.
    fn run(&self, args: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gentoomuch"));
        command.env_clear().env("HOME", self.0.path()).env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
        let ran = command.current_dir(self.config()).args(args).output().unwrap();
        assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    }

    fn told(&self, args: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.run(args)).unwrap()
    }
}

#[test]
fn a_store_of_the_version_before_is_read_and_goes_on() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(launcher) = launcher() else { return };
    let home = Home::new(launcher.id_map());
    let root = home.store();

    home.run(&["store", "verify"]);
    let stage4 = json(&root.join("states/d74943e296533fb21d068eac4a35a81a.json"))["origin"].clone();
    assert_eq!(home.told(&["store", "show", "stage4/hello", "--json"])["origin"], stage4, "as it was written");
    let text = home.run(&["store", "show", "stage4/hello"]);
    for line in [
        "origin   stage4 definition, definition hello, profile demo",
        "origin   stage3 definition, definition plain, profile demo",
        "         portage profile gentoo:default/linux/amd64/testbed",
        "origin   stage3, name stage3-amd64-testbed-20261128T145737Z.tar.xz",
    ] {
        assert!(text.lines().any(|told| told == line), "{line}\n{text}");
    }
    let profile = home.told(&["profile", "show", "demo", "--json"]);
    assert_eq!(profile["stage3"]["signer"], stage4["base"]["stage3"]["signer"]["primary"], "{profile}");
    assert_eq!(profile["builder"]["trees"][0]["id"], "01a225cd4339ff996a2b", "{profile}");
    assert_eq!(profile["stages"], serde_json::json!(["hello"]), "{profile}");

    {
        let store = Store::open(&root, launcher.id_map()).unwrap();
        let _shared = store.lock_shared(Wait::NoWait).unwrap();
        let base = store.state(&store.ref_get("stage4/hello").unwrap().unwrap()).unwrap();
        let session = store.session_create(Some(&base), Purpose::Throwaway, "").unwrap();
        std::fs::write(session.upper().join("kept"), "by hand").unwrap();
        let kept = Kept { name: "mine".to_owned(), parent: Some(base.origin.made_from().clone()), ..Kept::default() };
        let origin = Recorded::from(Origin::Kept(kept));
        let new = NewState { key: "kept:mine".to_owned(), origin, newest_input: base.newest_input, parent: Some(base.id.clone()) };
        store.ref_set("kept/mine", &session.commit(new).unwrap().id).unwrap();
    }
    home.run(&["tag", "kept/mine", "first"]);
    let out = home.0.path().join("out");
    std::fs::create_dir(&out).unwrap();
    home.run(&["export", "tag/first", "--no-sign", "--format", "tar", "--output", out.to_str().unwrap()]);
    let mut files = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    let artifact = json(&files.find(|path| path.extension().is_some_and(|end| end == "json")).unwrap());
    assert_eq!((&artifact["origin"]["version"], &artifact["origin"]["parent"]), (&1.into(), &stage4), "{artifact}");
    assert_eq!(artifact["packages"].as_array().unwrap().len(), 1, "{artifact}");
    home.run(&["store", "verify"]);
}

#[test]
fn nothing_that_the_version_before_has_built_is_built_again() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(launcher) = launcher() else { return };
    let home = Home::new(launcher.id_map());
    let dry_run = ["pipeline", "--dry-run", "--no-sign", "--format", "tar"];
    assert_eq!(
        home.run(&dry_run),
        "NODE               PLAN   WHY\nstage3/demo/plain  reuse\nstage4/hello       reuse\nartifact/hello     reuse\nnothing to do\n"
    );
    // What is told as reused is compared: a package more is another key.
    let packages = home.config().join("stage4.defines/hello/packages");
    let text = std::fs::read_to_string(&packages).unwrap();
    std::fs::write(packages, text + "app-misc/mine\n").unwrap();
    let told = home.run(&dry_run);
    assert!(told.contains("\nstage4/hello       build  changed: packages\n"), "{told}");
}

#[test]
fn a_configuration_of_the_version_before_means_the_same() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(launcher) = launcher() else { return };
    let home = Home::new(launcher.id_map());
    copy(&older("formats"), &home.config());
    let recorded = |name: &str| std::fs::read_to_string(older("recorded").join(name)).unwrap();
    for (args, name) in [
        (&["config", "check", "--no-portage"][..], "check"),
        (&["config", "graph"], "graph"),
        (&["config", "show", "web"], "show-web"),
        (&["config", "show", "plain"], "show-plain"),
        (&["config", "show", "gentoomuch/builder"], "show-builder"),
    ] {
        assert_eq!(home.run(args), recorded(name), "{args:?}");
    }
    // With the build key of each node.
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let mut planned = json(&home.run(&["pipeline", "--dry-run", "--no-sign", "--json"]));
    // Fields are only added: this one is newer.
    for node in planned["nodes"].as_array_mut().unwrap() {
        assert_eq!(node.as_object_mut().unwrap().remove("fetch"), Some(false.into()));
    }
    assert_eq!(planned, json(&recorded("pipeline.json")));
}
