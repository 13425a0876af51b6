//! `env/tmpfs`: where packages are compiled, what becomes of those that do not fit, and that nothing else differs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::Value;

use crate::child;
use crate::place::{Place, Ran, copy, run};
use crate::shared::shared;

const NAME: &str = "in-memory";
/// It has files of a page each: more than the memory.
const LARGE: &str = "app-misc/manyfiles";
const SMALL: &str = "app-misc/slow";
/// Says where it is. What a file cannot have in memory before Linux 6.6 is tried, too.
const BASHRC: &str = r#"
in_memory_said() {
    python3 -c 'import os, sys; os.setxattr(sys.argv[1], "user.x", b"1")' "${T}" || die
    elog "${PN} is compiled on $(stat -f -c %T "${T}") in ${T}"
}
[[ ${EBUILD_PHASE} != install ]] || in_memory_said
"#;
/// All that a layer has, but for times and for what only tells of the run.
const LAYER: &str = r#"cd "$1"
find . -printf '%P %y %m %U %G %l\n' | sort
find . -type f ! -name CONTENTS ! -name BUILD_TIME ! -name COUNTER ! -name BUILD_ID ! -name BINPKGMD5 ! -name environment.bz2 ! -name metadata \
    ! -path './var/cache/*' ! -path './var/log/*' ! -path './var/lib/portage/*' -exec sha256sum {} + | sort -k 2
find . -name CONTENTS | sort | xargs sed 's/ [0-9]*$//'
find . -name metadata | sort | xargs sed '/^BUILD_TIME=/d; /^#dir_mtime=/d'"#;

struct Stage(Place);

impl Stage {
    fn set(&self, file: &str, text: &str) {
        let path = self.0.config.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{}\n", text.trim_end())).unwrap();
    }

    /// What an earlier run has built is known to be too large.
    fn forget_sizes(&self) {
        let lock = fs::File::options().write(true).open(self.0.store().join("locks/name%build-times")).unwrap();
        lock.lock().unwrap();
        let path = self.0.path("data/build-times");
        let text = fs::read_to_string(&path).unwrap();
        let is_kept = |line: &&str| !line.contains("\"size\"") || !line.contains(LARGE);
        fs::write(path, text.lines().filter(is_kept).collect::<Vec<_>>().join("\n") + "\n").unwrap();
    }

    /// Builds with a cache that has nothing but sources, and returns the keys of the packages that were built, too.
    fn build(&self, cache: &str) -> (Ran, BTreeMap<String, String>) {
        let cache = self.0.path(&format!("{NAME}-{cache}"));
        if !cache.exists() {
            fs::create_dir(&cache).unwrap();
            fs::set_permissions(&cache, fs::Permissions::from_mode(0o700)).unwrap();
            copy(&self.0.path("cache/distfiles"), &cache.join("distfiles"));
        }
        let ran = run(self.0.command(&["stage", "build", NAME, "--no-export"]).env("GENTOOMUCH_CACHE", &cache)).ok();
        let pools = fs::read_dir(cache.join("binpkgs")).unwrap().map(|pool| pool.unwrap().path().join("Packages"));
        let index: String = pools.filter_map(|index| fs::read_to_string(index).ok()).collect();
        let of = |stanza: &str, name: &str| stanza.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
        let keys = index.split("\n\n").filter_map(|stanza| Some((of(stanza, "CPV: ")?, of(stanza, "GENTOOMUCH_KEY: ")?)));
        (ran, keys.filter(|(cpv, _)| [LARGE, SMALL].iter().any(|name| cpv.starts_with(name))).collect())
    }

    /// What the stage's own layer has, and which layer that is.
    fn layer(&self) -> (String, String) {
        let list = self.0.list();
        let named = list["refs"].as_array().unwrap().iter().find(|one| one["name"] == format!("stage4/{NAME}"));
        let state = named.unwrap_or_else(|| panic!("{list}"))["state"].as_str().unwrap();
        let state = fs::read(self.0.store().join(format!("states/{state}.json"))).unwrap();
        let state: Value = serde_json::from_slice(&state).unwrap();
        let layer = state["layers"].as_array().unwrap().last().unwrap().as_str().unwrap().to_owned();
        let mut command = Command::new("unshare");
        command
            .args(["--map-auto", "--map-root-user", "sh", "-ec", LAYER, "sh"])
            .arg(self.0.store().join("layers").join(&layer).join("fs"));
        (String::from_utf8(child::check(&mut command)).unwrap(), layer)
    }
}

#[test]
fn what_fits_is_compiled_in_memory_and_what_is_built_is_the_same() {
    let Some(shared) = shared() else { return };
    let stage = Stage(shared.place.with_config(shared.config(NAME)));
    let local = |file: &str| format!("portage.locals/{NAME}/{file}");
    for (file, text) in [
        (format!("stage3.defines/{NAME}/cpu"), "generic-amd64"),
        (format!("stage3.defines/{NAME}/portage.local"), NAME),
        (format!("stage3.defines/{NAME}/packages"), ""),
        (format!("stage4.defines/{NAME}/profile"), "demo"),
        (format!("stage4.defines/{NAME}/stage3"), NAME),
        (format!("stage4.defines/{NAME}/packages"), &*format!("{LARGE}\n{SMALL}")),
        // No other run has these packages.
        (format!("stage4.defines/{NAME}/removes"), NAME),
        (format!("user.removes/{NAME}"), "/nothing"),
        (local("bashrc"), &format!("{BASHRC}# {}", std::process::id())),
        (local("env/in-memory"), "SLOW_UNITS=2\nMANY_FILES=1500"),
        (local("package.env"), &format!("{LARGE} in-memory\n{SMALL} in-memory")),
    ] {
        stage.set(&file, text);
    }
    stage.forget_sizes();
    stage.set("env/tmpfs", "4M");
    for cache in ["one", "two"].map(|name| stage.0.path(&format!("{NAME}-{name}"))).iter().filter(|cache| cache.exists()) {
        fs::remove_dir_all(cache).unwrap();
    }
    let said = |name: &str, place: &str| format!("{name} is compiled on {place} in /var/tmp/portage/app-misc/{name}-1.0/temp\n");

    // One does not fit, and is built on the disk, in the same place.
    let (first, keys) = stage.build("one");
    let first = first.says("the memory of `env/tmpfs` is full: building app-misc/manyfiles-1.0 on the disk");
    let disk = child::check(Command::new("stat").args(["-f", "-c", "%T"]).arg(stage.0.store()));
    let disk = String::from_utf8(disk).unwrap().trim().to_owned();
    let first = first.says(&said("slow", "tmpfs")).says(&said("manyfiles", &disk));
    assert!(!first.stderr.contains("ERROR") && !first.stderr.contains("died"), "{first}");
    let log = stage.0.run(&["logs", NAME, LARGE]).ok().text();
    assert!(log.contains("Final size") && !log.contains("rmdir"), "{log}");
    assert_eq!(keys.len(), 2, "{keys:?}");
    let (in_memory, layer) = stage.layer();
    assert!(in_memory.contains("usr/bin/slow") && !in_memory.contains("var/tmp/portage/app-misc"), "{in_memory}");

    // It is in no key.
    fs::remove_file(stage.0.config.join("env/tmpfs")).unwrap();
    stage.build("one");
    assert_eq!(stage.layer().1, layer);

    // All on the disk: one is known to be too large, the other one is named. Another state, of the same packages.
    stage.set("env/tmpfs", &format!("4M\n{SMALL} disk"));
    stage.set(&format!("user.removes/{NAME}"), "/nothing/else");
    let (second, again) = stage.build("two");
    let second = second.says(&said("slow", &disk)).says(&said("manyfiles", &disk));
    assert!(!second.stderr.contains("`env/tmpfs`"), "{second}");
    assert_eq!(again, keys);
    let (on_disk, other) = stage.layer();
    assert_ne!(other, layer);
    let [a, b] = [&in_memory, &on_disk].map(|text| text.lines().collect::<BTreeSet<_>>());
    let apart: Vec<_> = a.symmetric_difference(&b).collect();
    assert!(apart.is_empty() && in_memory == on_disk, "{apart:#?}");
}
