//! The compiler cache: what a build has made is there for the next one, of the same package only, and only if its result counts.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::place::{Place, Ran};
use crate::shared::{BULK, Shared, shared};

const PACKAGE: &str = "app-misc/slow";
/// As many C files as the package has then, and one more.
const UNITS: usize = 8;
const ALL: usize = UNITS + 1;

/// Adds a step to the build of the package.
const STEP: &str = "--- a/Makefile
+++ b/Makefile
@@ -3,5 +3,6 @@
 
 slow: $(OBJECTS)
 \t$(CC) $(LDFLAGS) -o $@ $(OBJECTS)
+\tsh ./step
 
 %.o: %.c
--- /dev/null
+++ b/step
";

/// The name of an object that no compiler has made.
const PLANTED: &str = "2cs1qe4evbcm8s46n9spfhr1905u2ka";

/// What a package may not do: leave objects for another one, or change what was published; and what must not be followed.
const HOSTILE: &str = "#!/bin/sh
own=$CCACHE_DIR/objects
mkdir -p $own/app-text/tree/da || exit 1
echo planted >$own/app-text/tree/da/2cs1qe4evbcm8s46n9spfhr1905u2ka || exit 1
mkdir -p $own/app-misc/slow/da || exit 1
ln -s /etc $own/app-misc/slow/zz || exit 1
ln -s /etc/passwd $own/app-misc/slow/da/2cs1qe4evbcm8s46n9spfhr1905u2ka || exit 1
for dir in published published/app-misc/slow; do
mkdir -p /run/gentoomuch/ccache/$dir/planted 2>/dev/null && exit 1
rm -r /run/gentoomuch/ccache/$dir/?? 2>/dev/null && exit 1
done
exit 0
";

struct Cached {
    place: Place,
    /// Differs from that of all other runs: else a binary package is taken.
    run: std::cell::Cell<u32>,
}

impl Cached {
    fn new(shared: &Shared, name: &str) -> Self {
        let place = shared.place.with_config(shared.config(name));
        let cached = Self { place, run: 0.into() };
        for (file, text) in [("profile", "demo"), ("stage3", "plain"), ("packages", PACKAGE), ("format", "tar.zst")] {
            cached.set(&format!("stage4.defines/{name}/{file}"), text);
        }
        cached.set(&format!("stage4.defines/{name}/removes"), BULK);
        cached.set("portage.global/package.env", &format!("{PACKAGE} slow-units"));
        cached.set("env/ccache", "64M");
        cached
    }

    fn set(&self, file: &str, text: &str) {
        let path = self.place.config.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{}\n", text.trim_end())).unwrap();
    }

    /// Compiles the package once more.
    fn build(&self, name: &str) -> Ran {
        self.run.set(self.run.get() + 1);
        let run = format!("SLOW_UNITS={UNITS}\nSLOW_RUN={}-{}", std::process::id(), self.run.get());
        self.set("portage.global/env/slow-units", &run);
        self.place.run(&["stage", "build", name, "--no-export"])
    }

    fn dir(&self, package: &str) -> PathBuf {
        self.place.path(&format!("cache/ccache/demo/{package}"))
    }

    /// The names of published objects.
    fn objects(&self, package: &str) -> Vec<PathBuf> {
        let list = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
        list(self.dir(package)).flat_map(list).collect()
    }

    fn forget(&self) {
        if self.dir(PACKAGE).exists() {
            fs::remove_dir_all(self.dir(PACKAGE)).unwrap();
        }
    }

    /// A patch that adds a step to the package.
    fn step(&self, script: &str) {
        let lines: Vec<String> = script.lines().map(|line| format!("+{line}")).collect();
        let patch = format!("{STEP}@@ -0,0 +1,{} @@\n{}", lines.len(), lines.join("\n"));
        self.set(&format!("user.patches/step/{PACKAGE}/step.patch"), &patch);
    }
}

fn hits(count: usize) -> String {
    format!("compiler cache: {count} of {ALL} objects were there")
}

#[test]
fn what_a_package_has_compiled_is_there_for_its_next_build_and_for_nobody_else() {
    let Some(shared) = shared() else { return };
    let cached = Cached::new(&shared, "cached");
    cached.forget();
    let first = cached.build("cached").ok().says(&hits(0));
    assert!(first.stderr.contains("1 binary package published"), "{first}");
    let objects = cached.objects(PACKAGE);
    assert!(objects.len() >= 2 * ALL, "{objects:?}");

    // It is said where it is, and how large.
    let list = cached.place.list();
    let of_demo = list["ccache"].as_array().unwrap().iter().find(|row| row["profile"] == "demo").unwrap().clone();
    assert!(of_demo["bytes"].as_u64().unwrap() > 1000 && of_demo["packages"].as_u64().unwrap() >= 1, "{of_demo}");
    assert!(cached.place.run(&["store", "ls"]).ok().text().contains("COMPILER CACHE"));

    // The next build finds it. A hostile one leaves nothing for another package, and changes nothing that was published.
    cached.step(HOSTILE);
    cached.build("cached").ok().says(&hits(ALL));
    assert!(!cached.objects("app-text/tree").iter().any(|path| path.ends_with(PLANTED)));
    let names: Vec<_> =
        cached.objects(PACKAGE).iter().map(|path| path.strip_prefix(cached.dir(PACKAGE)).unwrap().to_owned()).collect();
    assert!(!names.is_empty() && names.iter().all(|name| !name.starts_with("zz") && !name.ends_with(PLANTED)), "{names:?}");

    // Damaged objects are none.
    for object in &cached.objects(PACKAGE) {
        fs::write(object, "").unwrap();
    }
    cached.build("cached").ok().says(&hits(0));

    // What a package has compiled that does not build is not kept.
    cached.forget();
    cached.step("exit 1\n");
    assert_eq!(cached.build("cached").status.code(), Some(6));
    assert!(cached.objects(PACKAGE).is_empty(), "{:?}", cached.objects(PACKAGE));
    fs::remove_dir_all(cached.place.config.join("user.patches/step")).unwrap();

    // Nor does a throw-away session have any of it.
    let freshroot = cached.place.run(&["freshroot", "--", "ls", "/run/gentoomuch"]).ok();
    assert!(freshroot.text().contains("hooks") && !freshroot.text().contains("ccache"), "{freshroot}");

    // A cache that cannot be written is no reason to fail.
    let dir = cached.dir("app-misc");
    fs::create_dir_all(&dir).unwrap();
    let mode = |mode| fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    let built = cached.build("cached");
    mode(0o755);
    built.ok().says(&format!("what was compiled for `{PACKAGE}` is not in the compiler cache: ")).says("Permission denied");

    // Without the file there is none, and what there was is to be cleaned.
    fs::remove_file(cached.place.config.join("env/ccache")).unwrap();
    let without = cached.build("cached").ok();
    assert!(!without.stderr.contains("compiler cache"), "{without}");
    fs::create_dir_all(cached.dir(PACKAGE).join("da")).unwrap();
    fs::write(cached.dir(PACKAGE).join("da/2cs1qe4evbcm8s46n9spfhr1905u2ka"), "x").unwrap();
    let plan = cached.place.run(&["clean", "ccache", "--dry-run", "--json"]).ok();
    let plan: Value = serde_json::from_str(&plan.text()).unwrap();
    let item = plan["items"].as_array().unwrap().iter().find(|item| item["name"] == "demo: app-misc/slow").unwrap();
    assert_eq!(item["why"], "the configuration has no `env/ccache`", "{plan}");
}

#[test]
fn a_root_without_ccache_compiles_without_and_says_once_what_to_do() {
    let Some(shared) = shared() else { return };
    let cached = Cached::new(&shared, "uncached");
    let hook = cached.place.config.join("hooks/prepare.d/60-no-ccache.sh");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\n[ \"$GENTOOMUCH_DEFINITION\" != bare ] || rm /usr/bin/ccache\n").unwrap();
    for file in ["cpu", "portage.local"] {
        let text = fs::read_to_string(cached.place.config.join("stage3.defines/plain").join(file)).unwrap();
        cached.set(&format!("stage3.defines/bare/{file}"), &text);
    }
    cached.set("stage4.defines/uncached/stage3", "bare");
    let built = cached.build("uncached").ok();
    let said = "`env/ccache` has no effect in the root of `profile/demo/bare`: it has no ccache; name `dev-util/ccache` in";
    assert_eq!(built.stderr.matches(said).count(), 1, "{built}");
    assert_eq!(built.stderr.matches("has no effect").count(), 1, "{built}");
    assert!(!built.stderr.contains("compiler cache:"), "{built}");
}
