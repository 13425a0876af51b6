//! Kernels: configured, compiled from real sources, shared by stage4s, left alone when nothing has changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::child;
use crate::folder::{self, Folder};
use crate::place::{Place, Ran, copy};
use crate::shared::{BULK, User, shared};
use crate::terminal::Terminal;
use crate::traced;

/// What tinyconfig leaves out of a kernel that has modules, one of its own, and says how it was configured.
const MORE: &str = "CONFIG_64BIT=y
CONFIG_MODULES=y
CONFIG_CRC_ITU_T=m
CONFIG_IKCONFIG=y
CONFIG_KERNEL_XZ=n
CONFIG_KERNEL_GZIP=y
CONFIG_NO_SUCH_OPTION=y
";

/// A place with a configuration of the test's own. The shared builder takes the newer sources, too. Names have the test's process in them:
/// nothing of an earlier run in a kept place is to be reused.
fn place(test: &str) -> Option<(User, Place)> {
    let shared = shared()?;
    let config = shared.config(&format!("kernels {test}"));
    for example in ["hello", "server", "container"] {
        fs::remove_dir_all(config.join("stage4.defines").join(example)).unwrap();
    }
    let place = shared.place.with_config(config);
    Some((shared, place))
}

fn set(place: &Place, file: &str, text: &str) {
    let path = place.config.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("{text}\n")).unwrap();
}

fn stage4(place: &Place, name: &str, kconf: &str, packages: &str) {
    let own = [("kconf", kconf), ("packages", packages), ("format", "tar.zst"), ("removes", BULK)];
    for (file, text) in [("profile", "demo"), ("stage3", "plain")].into_iter().chain(own) {
        set(place, &format!("stage4.defines/{name}/{file}"), text);
    }
}

fn named(what: &str) -> String {
    format!("{what}-{}", std::process::id())
}

fn kconf(place: &Place, name: &str) -> PathBuf {
    place.config.join(format!("kernel.configs/{name}.kconf"))
}

/// Makes a configuration, and adds `more` to it. A name of the kernel's own makes it one that no earlier run has built.
fn prepare(place: &Place, name: &str, sources: &str, more: &str) -> String {
    let prepared = place.run(&["kernel", "prep", name, "--profile", "demo", "--sources", sources, "--target", "tinyconfig"]).ok();
    assert!(prepared.text().starts_with(&format!("wrote {}", kconf(place, name).display())), "{prepared}");
    let text = fs::read_to_string(kconf(place, name)).unwrap();
    assert!(text.contains("\nCONFIG_CC_OPTIMIZE_FOR_SIZE=y\n"), "no tinyconfig: {text}");
    let name_of = |line: &str| line.trim_start_matches("# ").split(['=', ' ']).next().unwrap_or_default().to_owned();
    let wanted = |line: &&str| !more.lines().any(|more| name_of(more) == name_of(line));
    let kept: Vec<&str> = text.lines().filter(wanted).filter(|line| !line.contains("CONFIG_LOCALVERSION=")).collect();
    let local = format!("CONFIG_LOCALVERSION=\"-{name}\"");
    fs::write(kconf(place, name), format!("{}\n{more}{local}\n", kept.join("\n"))).unwrap();
    assert!(place.run(&["kernel", "ls"]).ok().text().lines().any(|line| line.starts_with(name) && line.contains("not built")));
    text
}

fn version(kconf: &str) -> String {
    kconf.lines().find_map(|line| line.strip_prefix("# gentoomuch: version ")).unwrap().to_owned()
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.text()).unwrap_or_else(|error| panic!("{error}: {ran}"))
}

fn tar(artifact: &Path, args: &[&str]) -> Vec<u8> {
    let mut command = Command::new("tar");
    child::check(command.args(["--zstd", "-f"]).arg(artifact).args(args))
}

fn layers(place: &Place, state: &str) -> Vec<Value> {
    json(&place.run(&["store", "show", state, "--json"]).ok())["layers"].as_array().unwrap().clone()
}

/// Looks into the image of a stage4: the kernel and what belongs to it is there, its sources are not.
fn look_into(artifact: &Path, release: &str, modules: &[&str]) {
    let list = String::from_utf8(tar(artifact, &["-t"])).unwrap();
    for file in ["vmlinuz", "System.map", "config"] {
        assert!(list.contains(&format!("./boot/{file}-{release}\n")), "{file}: {list}");
    }
    for module in modules {
        assert!(list.contains(&format!("./usr/lib/modules/{release}/{module}\n")), "{module} of {release} in {list}");
    }
    assert!(!list.lines().any(|entry| entry.starts_with("./usr/src/") && entry != "./usr/src/"), "{list}");
    assert!(!list.contains("/build\n"), "{list}");

    let image = tar(artifact, &["-xO", &format!("./boot/vmlinuz-{release}")]);
    // Documentation/arch/x86/boot.rst: the magic, and where the version is.
    assert_eq!(&image[0x202..0x206], b"HdrS");
    let at = usize::from(u16::from_le_bytes([image[0x20e], image[0x20f]])) + 0x200;
    let says = String::from_utf8_lossy(&image[at..at + 100]).into_owned();
    assert!(says.starts_with(&format!("{release} (gentoomuch@gentoomuch) #1 ")), "{says}");

    let config = String::from_utf8(tar(artifact, &["-xO", &format!("./boot/config-{release}")])).unwrap();
    assert!(config.contains("\nCONFIG_CRC_ITU_T=m\n") && config.contains("\nCONFIG_IKCONFIG=y\n"), "{config}");
}

/// What an earlier run on this machine has compiled: a kernel is most of what all tests compile. ccache decides what of it still fits.
struct Objects {
    kept: PathBuf,
    published: PathBuf,
}

impl Objects {
    fn bring(place: &Place) -> Self {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
        let published = place.path("cache/ccache/demo/sys-kernel/testbed-sources");
        let objects = Self { kept: cache.join("gentoomuch-it/objects of kernels"), published };
        set(place, "env/ccache", "64M");
        if objects.kept.is_dir() && !objects.published.exists() {
            copy(&objects.kept, &objects.published);
        }
        objects
    }

    /// Unless nearly all were there.
    fn keep(&self, built: &Ran) {
        let (hits, all) = cached(built);
        assert!(all > 100 && self.published.is_dir(), "{built}");
        if hits < all * 9 / 10 {
            let new = self.kept.with_extension(std::process::id().to_string());
            copy(&self.published, &new);
            if self.kept.exists() {
                fs::remove_dir_all(&self.kept).unwrap();
            }
            // Another checkout may have been first.
            if fs::rename(&new, &self.kept).is_err() {
                fs::remove_dir_all(new).unwrap();
            }
        }
    }
}

/// How many objects the compiler cache had, and of how many.
fn cached(built: &Ran) -> (usize, usize) {
    let note = built.stderr.lines().find_map(|line| line.split_once("compiler cache: ")).unwrap_or_else(|| panic!("{built}"));
    let counts: Vec<usize> = note.1.split(' ').filter_map(|word| word.parse().ok()).collect();
    (counts[0], counts[1])
}

#[test]
fn a_kernel_is_configured_once_compiled_once_and_shared() {
    let Some((shared, place)) = place("shared") else { return };
    // The kernel's headers have its name: only the next kernel of the same name compiles without running the preprocessor for each file.
    let has = place.run(&["store", "show", "kernel/demo/tiny"]).status.success();
    let tiny = if has { named("tiny") } else { "tiny".to_owned() };
    shared_by_two(&place, &tiny, "kernel");
    fetched_elsewhere(&shared, &place, &tiny, &format!("kernel/demo/{tiny}"));
}

#[test]
#[ignore = "long: another kernel is compiled, or comes from the cache, and all that can change about it"]
fn a_kernel_is_made_anew_only_by_what_decides_something_about_it() {
    let Some((_shared, place)) = place("changed") else { return };
    let tiny = named("changing");
    let Kernel { two, older, newest, release } = shared_by_two(&place, &tiny, "changing");
    let kernel = format!("kernel/demo/{tiny}");
    modules_from_elsewhere(&place, &tiny, &release);
    the_builder_changes(&place, &tiny, &kernel);
    newer_sources(&place, &tiny, &older, &newest);
    several_versions(&place, &two, &tiny, &older);
    cleaned(&place, &kernel);
}

/// What is known of a kernel.
struct Kernel {
    /// One of the stage4s that have it.
    two: String,
    /// Versions of its sources.
    older: String,
    newest: String,
    release: String,
}

/// Two stage4s, whose names begin with `stages`, have the kernel that is configured as `tiny`.
fn shared_by_two(place: &Place, tiny: &str, stages: &str) -> Kernel {
    let (one, two) = (named(&format!("{stages}-one")), named(&format!("{stages}-two")));
    let prepared = prepare(place, tiny, "testbed-sources", MORE);
    let objects = Objects::bring(place);
    let newest = version(&prepared);
    let older = newest.strip_suffix("-r1").unwrap().to_owned();
    assert!(prepared.starts_with("# gentoomuch: sources sys-kernel/testbed-sources\n"), "{prepared}");

    // Both stage4s have it; one has a package with a module besides.
    stage4(place, &one, tiny, "sys-kernel/testbed-modules");
    stage4(place, &two, &format!("{tiny}.kconf"), "app-text/tree");
    let kernel = format!("kernel/demo/{tiny}");
    let plan = place.run(&["pipeline", "--dry-run"]).ok().text();
    for node in [&kernel, &format!("stage4/{one}"), &format!("stage4/{two}")] {
        assert!(plan.lines().any(|line| line.contains(node.as_str())), "{node}: {plan}");
    }
    let built = place.run(&["pipeline", "--no-sign", "--json"]).ok();
    assert!(built.stderr.contains("CONFIG_NO_SUCH_OPTION: asked for y, got no such option"), "{built}");
    assert!(!built.stderr.contains("CONFIG_CRC_ITU_T: asked for"), "{built}");
    assert_eq!(built.stderr.matches("* compiling the kernel").count(), 1, "{built}");
    objects.keep(&built);
    let nodes = json(&built)["nodes"].as_array().unwrap().clone();
    let artifact = |name: &str| {
        let id = format!("artifact/{name}");
        let node = nodes.iter().find(|node| node["id"] == id.as_str()).unwrap();
        PathBuf::from(node["artifact"]["path"].as_str().unwrap())
    };
    let release = format!("{older}-testbed-r1-{tiny}");
    let own = "kernel/lib/crc-itu-t.ko";
    look_into(&artifact(&one), &release, &[own, "extra/testbed_greeting.ko", "modules.dep"]);
    look_into(&artifact(&two), &release, &[own, "modules.dep"]);
    let dep = |name: &str| {
        String::from_utf8(tar(&artifact(name), &["-xO", &format!("./usr/lib/modules/{release}/modules.dep")])).unwrap()
    };
    assert!(dep(&one).contains("extra/testbed_greeting.ko:") && dep(&two).contains("crc-itu-t.ko:"), "{} {}", dep(&one), dep(&two));
    assert!(!dep(&two).contains("testbed_greeting"));

    // One layer for both, on one base.
    let payload = layers(place, &kernel);
    let (of_one, of_two) = (layers(place, &format!("stage4/{one}")), layers(place, &format!("stage4/{two}")));
    assert_eq!(payload.len(), 1, "{payload:?}");
    assert_eq!(of_one[..of_one.len() - 1], of_two[..of_two.len() - 1]);
    assert_eq!(of_one[of_one.len() - 2], payload[0], "{of_one:?} {payload:?}");
    place.run(&["store", "verify"]).ok();

    // Nothing is done again, in none of the ways to ask for it.
    let (again, started) = traced::run_idle(|| place.command(&["pipeline", "--no-sign"]));
    assert_eq!(started, 0, "{again}");
    let again = place.run(&["kernel", "build", tiny, "--profile", "demo"]).ok();
    assert!(again.text().contains("(unchanged)") && again.text().contains(&release), "{again}");
    let again = place.run(&["stage", "build", &two, "--no-sign"]).ok();
    assert_eq!(again.text().matches("(unchanged)").count(), 2, "{again}");

    let rows = json(&place.run(&["kernel", "ls", "--json"]).ok());
    let row = rows.as_array().unwrap().iter().find(|row| row["name"] == tiny).unwrap();
    assert_eq!(row["stages"], serde_json::json!([one, two]));
    assert_eq!((&row["built"][0]["release"], &row["built"][0]["current"]), (&release.as_str().into(), &true.into()), "{row}");
    assert!(row["built"][0]["size_bytes"].as_u64().unwrap() > 500_000, "{row}");

    Kernel { two, older, newest, release }
}

/// Another machine takes it from a remote: no sources are installed there, and nothing is compiled.
fn fetched_elsewhere(shared: &User, place: &Place, tiny: &str, kernel: &str) {
    let folder = Folder::new(place, "remote-kernels");
    set(place, "env/remote_key", &shared.key);
    folder::trust(place, &shared.key, &place.path("sign_key.asc"));
    folder.run(place, &["remote", "push", kernel, &folder::builder(shared, place)]).ok();
    let Some(second) = folder::another(&place.config) else { return };
    set(&second, "env/remote", &folder.address);
    second.run(&["sync", "--from", shared.testbed.tree.to_str().unwrap()]).ok();
    second.run(&["bootstrap", "demo", shared.testbed.stage3.to_str().unwrap()]).ok();
    let built = second.run(&["kernel", "build", tiny, "--profile", "demo"]).ok().says("came from dir:");
    let built = built.says_nothing_of("* compiling").says_nothing_of("emerging");
    assert!(built.text().contains("  (fetched)\n"), "{built}");
    assert_eq!(folder::digests(&second, kernel), folder::digests(place, kernel));
}

/// The pool has the module as a binary package, which may be for any kernel: it is compiled for this one.
fn modules_from_elsewhere(place: &Place, tiny: &str, release: &str) {
    let three = named("kernel-three");
    stage4(place, &three, tiny, "sys-kernel/testbed-modules\napp-text/tree");
    let built = place.run(&["stage", "build", &three, "--no-sign"]).ok();
    assert!(built.stderr.contains("kernel modules of sys-kernel/testbed-modules-1.0 are compiled for this kernel"), "{built}");
    look_into(Path::new(&built.value("artifact")), release, &["extra/testbed_greeting.ko"]);
    fs::remove_dir_all(place.config.join("stage4.defines").join(three)).unwrap();
}

/// What decides nothing about a kernel makes none anew.
fn the_builder_changes(place: &Place, tiny: &str, kernel: &str) {
    let before = layers(place, kernel);
    set(place, "portage.locals/gentoomuch/builder/package.use", "app-misc/none some");
    let built = place.run(&["kernel", "build", tiny, "--profile", "demo"]).ok();
    assert!(built.stderr.contains("its sources, configuration and toolchain are the same"), "{built}");
    assert!(!built.stderr.contains("* compiling"), "{built}");
    assert_eq!(layers(place, kernel), before);
}

/// A configuration of the older version hears of what the newer has.
fn newer_sources(place: &Place, tiny: &str, older: &str, newest: &str) {
    let old = named("old");
    fs::copy(kconf(place, tiny), kconf(place, &old)).unwrap();
    // Complete, but for one option.
    let prepared = place.run(&["kernel", "prep", &old, "--profile", "demo", "--target", "olddefconfig"]).ok();
    assert!(prepared.text().contains(" more\nwrote "), "{prepared}");
    let text = fs::read_to_string(kconf(place, &old)).unwrap();
    let without: Vec<&str> = text.lines().filter(|line| !line.contains("TESTBED_ANSWER")).collect();
    let text = without.join("\n").replace(&format!("# gentoomuch: version {newest}"), &format!("# gentoomuch: version {older}"));
    set(place, &format!("kernel.configs/{old}.kconf"), &text);
    let news = place.run(&["kernel", "update", &old, "--profile", "demo"]).ok();
    assert!(news.text().contains("TESTBED_ANSWER"), "{news}");
    assert!(news.text().contains(&format!("testbed-sources-{newest} instead of {older}: 1 option not in")), "{news}");
    let unwritten = fs::read_to_string(kconf(place, &old)).unwrap();
    assert_eq!(version(&unwritten), older);
    let written = json(&place.run(&["kernel", "update", &old, "--profile", "demo", "--write", "--json"]).ok());
    assert_eq!((&written["written"], &written["new"][0]["symbol"]), (&true.into(), &"TESTBED_ANSWER".into()), "{written}");
    assert_eq!(version(&fs::read_to_string(kconf(place, &old)).unwrap()), newest);
    // The kernel's own way to go on with a configuration: it asks, and the answer is written.
    let Some(mut terminal) = Terminal::start(place, &["kernel", "prep", &old, "--profile", "demo", "--target", "oldconfig"]) else {
        return;
    };
    terminal.sees("(TESTBED_ANSWER) [N/m/y/?] (NEW)");
    terminal.types("m\r");
    let (code, seen) = terminal.end();
    assert!(code == Some(0) && seen.contains("+ TESTBED_ANSWER m\r\n"), "{code:?} {seen}");
    let answered = fs::read_to_string(kconf(place, &old)).unwrap();
    assert!(answered.contains("\nCONFIG_TESTBED_ANSWER=m\n") && version(&answered) == newest, "{answered}");
    // Without questions there is nothing more to do.
    let prepared = place.run(&["kernel", "prep", &old, "--profile", "demo", "--target", "olddefconfig"]).ok();
    assert!(prepared.text().contains(" stays as it is: "), "{prepared}");
    fs::remove_file(kconf(place, &old)).unwrap();
}

/// A stage4 chooses other sources for the same configuration: another kernel, beside the first.
fn several_versions(place: &Place, stage: &str, tiny: &str, older: &str) {
    set(place, &format!("stage4.defines/{stage}/kernel.sources"), &format!("testbed-sources-{older}"));
    let other = format!("kernel/demo/{tiny}+testbed-sources-{older}");
    let plan = json(&place.run(&["pipeline", "plan", "--format", "json"]).ok());
    let nodes = plan["nodes"].as_array().or_else(|| plan.as_array()).unwrap();
    let node = |id: &str| nodes.iter().find(|node| node["id"] == id).unwrap_or_else(|| panic!("{id} is not in {plan}"));
    assert_eq!(node(&other)["build"], true);
    let needs = node(&format!("stage4/{stage}"))["needs"].to_string();
    assert!(needs.contains(&other), "{needs}");
    assert!(node(&format!("stage4/{stage}"))["why"].to_string().contains("is built anew"), "{plan}");
}

/// What names lead to is not taken away.
fn cleaned(place: &Place, kernel: &str) {
    let plan = place.run(&["clean", "--dry-run", "--json"]).ok();
    let id = json(&place.run(&["store", "show", kernel, "--json"]).ok())["id"].as_str().unwrap().to_owned();
    assert!(!plan.text().contains(&id), "{plan}");
    for layer in layers(place, kernel) {
        assert!(!plan.text().contains(layer.as_str().unwrap()), "{layer}: {plan}");
    }
}

#[test]
#[ignore = "long: a second kernel is compiled"]
fn a_distribution_kernel_is_built_by_its_ebuild_with_our_configuration() {
    let Some((_shared, place)) = place("distribution") else { return };
    let (dist, stage) = (named("dist"), named("kernel-dist"));
    prepare(&place, &dist, "testbed-kernel", MORE);
    stage4(&place, &stage, &dist, "");
    let built = place.run(&["stage", "build", &stage, "--no-sign", "--format", "tar.zst"]).ok();
    let artifact: PathBuf = built.value("artifact").into();
    let list = String::from_utf8(tar(&artifact, &["-t"])).unwrap();
    let release = list.lines().find_map(|line| line.strip_prefix("./boot/vmlinuz-")).unwrap_or_else(|| panic!("{list}"));
    assert!(release.ends_with(&format!("-{dist}")), "{release}");
    assert!(list.contains(&format!("./usr/lib/modules/{release}/kernel/lib/crc-itu-t.ko\n")), "{list}");
    assert!(!list.contains("./usr/src/linux"), "{list}");
    let config = String::from_utf8(tar(&artifact, &["-xO", &format!("./boot/config-{release}")])).unwrap();
    assert!(config.contains("\nCONFIG_CRC_ITU_T=m\n"), "{config}");
}

#[test]
#[ignore = "long: two kernels are compiled"]
fn a_second_kernel_of_the_same_sources_comes_from_the_cache() {
    let Some((_shared, place)) = place("cached") else { return };
    set(&place, "env/ccache", "1G");
    let objects = place.path("cache/ccache/demo/sys-kernel/testbed-sources");
    if objects.exists() {
        fs::remove_dir_all(&objects).unwrap();
    }
    let of = |name: &str| {
        prepare(&place, name, "testbed-sources", MORE);
        cached(&place.run(&["kernel", "build", name, "--profile", "demo"]).ok())
    };
    let (cold, all) = of(&named("cold"));
    assert!(cold < all / 20 && all > 100, "{cold} of {all}");
    let (warm, all) = of(&named("warm"));
    assert!(warm > all * 9 / 10, "{warm} of {all}");
}

#[test]
fn kernels_that_cannot_be_made_say_why() {
    let Some((_shared, place)) = place("failing") else { return };
    let bad = named("bad");
    prepare(&place, &bad, "testbed-sources", "CONFIG_BLK_DEV_INITRD=y\nCONFIG_INITRAMFS_SOURCE=\"/nonexistent\"\n");
    let failed = place.run(&["kernel", "build", &bad, "--profile", "demo"]).fails(1);
    let failed = failed
        .says("error: `make all` failed in the session")
        .says("what failed first:")
        .says("/nonexistent")
        .says("hint: the whole output is in");
    assert!(!failed.stderr.contains("panicked"), "{failed}");

    set(&place, &format!("kernel.configs/{bad}.dracut"), "");
    place.run(&["kernel", "build", &bad, "--profile", "demo"]).fails(3).says("the builder has no dracut").says("sys-kernel/dracut");

    let none = named("none");
    set(&place, &format!("kernel.configs/{none}.kconf"), "# gentoomuch: sources sys-kernel/none\nCONFIG_A=y");
    place
        .run(&["kernel", "build", &none, "--profile", "demo"])
        .fails(3)
        .says(&format!("kernel.configs/{none}.kconf:1: no package matches the kernel sources `sys-kernel/none`"));
    stage4(&place, &named("kernel-none"), &none, "");
    let checked = place.run(&["config", "check", &named("kernel-none")]).fails(3);
    assert!(
        checked.text().contains(&format!("kernel.configs/{none}.kconf:1: error: there is no package `sys-kernel/none`")),
        "{checked}"
    );
    set(&place, &format!("kernel.configs/{none}.kconf"), "# gentoomuch: sources app-text/tree\nCONFIG_A=y");
    place.run(&["kernel", "build", &none, "--profile", "demo"]).fails(3).says("installs no kernel sources");
}
