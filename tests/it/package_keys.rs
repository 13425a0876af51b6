//! A binary package is used only where its own build would have made the same; and none that is complete is lost.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::child;
use crate::place::{Place, Ran, packages_below};
use crate::shared::shared;

const HEAD: &str = "EAPI=8\nDESCRIPTION=\"keys\"\nSLOT=\"0\"\nKEYWORDS=\"amd64\"\nLICENSE=\"GPL-2\"\nS=\"${WORKDIR}\"\n";
/// What each package writes down of what it was built from.
const PACKAGES: [(&str, &str); 7] = [
    ("plain", "echo plain"),
    ("flags", "echo \"${CFLAGS} ${EXTRA_ECONF}\""),
    ("saved", "cat /etc/portage/savedconfig/app-keys/saved || echo none"),
    ("bashrc", "echo \"${KEYS_BASHRC:-none}\""),
    ("features", "has splitdebug ${FEATURES} && echo split || echo whole"),
    ("patched", "cat text"),
    ("text", "echo @TEXT@"),
];

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn ebuild(tree: &Path, name: &str, version: u32, text: &str) {
    let dir = tree.join("app-keys").join(name);
    write(&dir.join(format!("{name}-{version}.ebuild")), &format!("{HEAD}{text}"));
    write(&dir.join("Manifest"), "");
}

/// A tree with these packages, of a version that no run before had; its ebuilds say `text`.
pub(crate) fn tree(place: &Place, name: &str, version: u32, text: &str) -> PathBuf {
    let tree = place.path(&format!("keys-trees/{name}"));
    if tree.exists() {
        fs::remove_dir_all(&tree).unwrap();
    }
    write(&tree.join("profiles/repo_name"), &format!("{name}\n"));
    write(&tree.join("profiles/categories"), "app-keys\n");
    write(&tree.join("metadata/layout.conf"), "masters = gentoo\nthin-manifests = true\n");
    for (name, record) in PACKAGES {
        let record = record.replace("@TEXT@", text);
        let unpack = "src_unpack() { echo before > text; }\n";
        let install = format!(
            "src_install() {{ mkdir -p \"${{ED}}/usr/share/keys\"; {{ {record}; }} > \"${{ED}}/usr/share/keys/{name}\"; }}\n"
        );
        ebuild(&tree, name, version, &format!("{unpack}{install}"));
    }
    let fails = "RDEPEND=\"app-keys/plain\"\nDEPEND=\"app-keys/plain app-keys/first\"\n\
                 src_compile() { [[ ${KEYS_BASHRC} != slow ]] || sleep 600; [[ ${KEYS_BASHRC} = works ]] || die; }\n";
    ebuild(&tree, "last", version, fails);
    ebuild(&tree, "first", version, "src_install() { dodir /usr/share/first; }\n");
    tree
}

/// A configuration with the definition `name` and a stage4 of it on `profile`, whose fragment has `files` and the tree.
pub(crate) fn define(config: &Path, (profile, tree): (&str, &str), name: &str, packages: &str, files: &[(&str, &str)]) {
    let local = config.join("portage.locals").join(name);
    write(
        &local.join("repos.conf/keys.conf"),
        &format!("[DEFAULT]\nmain-repo = gentoo\n\n[{tree}]\nlocation = /var/db/repos/{tree}\nmasters = gentoo\n"),
    );
    for (path, text) in files {
        write(&local.join(path), text);
    }
    for (file, text) in [("cpu", "generic-amd64"), ("portage.local", name), ("packages", packages)] {
        write(&config.join("stage3.defines").join(name).join(file), &format!("{text}\n"));
    }
    for (file, text) in [("profile", profile), ("stage3", name), ("packages", "")] {
        write(&config.join("stage4.defines").join(name).join(file), &format!("{text}\n"));
    }
}

fn build(place: &Place, name: &str) -> Ran {
    place.run(&["stage", "build", name, "--no-export"])
}

/// What the packages of a definition's state, `PROFILE/DEFINITION`, have written down.
pub(crate) fn records(place: &Place, name: &str) -> BTreeMap<String, String> {
    let target = place.path(&format!("keys-found-{}", name.replace('/', "-")));
    if target.exists() {
        fs::remove_dir_all(&target).unwrap();
    }
    place.run(&["cp", &format!("profile/{name}:/usr/share/keys"), target.to_str().unwrap()]).ok();
    let files = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap())).collect()
}

/// How many builds of a package the pools for releases have.
fn builds(place: &Place, name: &str, version: u32) -> usize {
    packages_in_pools(place, name, version).len()
}

fn packages_in_pools(place: &Place, name: &str, version: u32) -> Vec<PathBuf> {
    let mut found = packages_below(&place.path("cache/binpkgs"), &format!("{name}-{version}"));
    found.retain(|path| !path.to_str().unwrap().contains("binpkgs/throwaway/"));
    found
}

pub(crate) fn expected(values: &[(&str, &str)]) -> BTreeMap<String, String> {
    values.iter().map(|(name, value)| ((*name).to_owned(), format!("{value}\n"))).collect()
}

pub(crate) fn patch(to: &str) -> String {
    format!("--- a/text\n+++ b/text\n@@ -1 +1 @@\n-before\n+{to}\n")
}

fn all() -> String {
    PACKAGES.iter().fold(String::new(), |mut all, (name, _)| {
        writeln!(all, "app-keys/{name}").unwrap();
        all
    })
}

#[test]
fn what_is_reused_is_what_would_have_been_built() {
    let Some(shared) = shared() else { return };
    let version = std::process::id();
    let config = shared.config("keys-short");
    let (keys, one, two) = (("demo", "keys-short"), "keys-short-one", "keys-short-two");
    let place = shared.place.with_config(config.clone());
    let sync = |text: &str| place.run(&["sync", "--from", tree(&place, "keys-short", version, text).to_str().unwrap()]).ok();
    sync("first");
    let packages = "app-keys/flags\napp-keys/patched\napp-keys/text";
    define(&config, keys, one, packages, &[]);
    let own = [
        ("package.env", "app-keys/flags slow\n"),
        ("env/slow", "CFLAGS=\"-O0 -g0\"\nEXTRA_ECONF=\"--with-keys\"\n"),
        ("patches/app-keys/patched/change.patch", &patch("after")),
    ];
    define(&config, keys, two, packages, &own);
    let of_one = [("flags", "-O2 -pipe -march=x86-64 "), ("patched", "before"), ("text", "first")];
    for (name, made) in [(one, of_one), (two, [("flags", "-O0 -g0 --with-keys"), ("patched", "after"), ("text", "first")])] {
        build(&place, name).ok();
        assert_eq!(records(&place, &format!("demo/{name}")), expected(&made));
    }
    // What is the same was compiled once. An ebuild that says something else without a new version is another package.
    assert_eq!(["flags", "patched", "text"].map(|name| builds(&place, name, version)), [2, 2, 1]);
    sync("second");
    build(&place, one).ok();
    assert_eq!(records(&place, &format!("demo/{one}")), expected(&[of_one[0], of_one[1], ("text", "second")]));
    assert_eq!(["flags", "patched", "text"].map(|name| builds(&place, name, version)), [2, 2, 2]);
    for definition in [one, two] {
        fs::remove_dir_all(place.path(&format!("keys-found-demo-{definition}"))).unwrap();
    }
}

#[test]
#[ignore = "long: the same for each kind of thing that decides about one package"]
fn what_is_reused_is_what_would_have_been_built_whatever_has_changed() {
    reused("keys-middle", std::process::id().wrapping_add(7_000_000), 1);
}

#[test]
#[ignore = "long: the same with files that only a bashrc reads, and with a patch of a revision"]
fn what_is_reused_is_what_would_have_been_built_whoever_reads_what_has_changed() {
    reused("keys-long", std::process::id().wrapping_add(5_000_000), 2);
}

/// `rounds`: how often what concerns single packages changes. With more than one, all else changes by itself.
fn reused(name: &str, version: u32, rounds: usize) {
    let Some(shared) = shared() else { return };
    let config = shared.config(name);
    let (keys, one, two) = (("demo", name), &*format!("{name}-one"), &*format!("{name}-two"));
    let place = shared.place.with_config(config.clone());
    let sync = |text: &str| place.run(&["sync", "--from", tree(&place, name, version, text).to_str().unwrap()]).ok();
    sync("first");
    define(&config, keys, one, &all(), &[]);
    let package_env = "app-keys/flags slow\napp-keys/features split\n";
    let patch_name = "patches/app-keys/patched/change.patch";
    define(
        &config,
        keys,
        two,
        &all(),
        &[
            ("package.env", package_env),
            ("env/slow", "CFLAGS=\"-O0 -g0\"\nEXTRA_ECONF=\"--with-keys\"\n"),
            ("env/split", "FEATURES=\"splitdebug\"\n"),
            ("savedconfig/app-keys/saved", "CONFIG_KEYS=y\n"),
            ("env/app-keys/bashrc", "KEYS_BASHRC=set\n"),
            (patch_name, &patch("after")),
        ],
    );
    let plain = [
        ("plain", "plain"),
        ("flags", "-O2 -pipe -march=x86-64 "),
        ("saved", "none"),
        ("bashrc", "none"),
        ("features", "whole"),
        ("patched", "before"),
        ("text", "first"),
    ];
    let other = [
        ("plain", "plain"),
        ("flags", "-O0 -g0 --with-keys"),
        ("saved", "CONFIG_KEYS=y"),
        ("bashrc", "set"),
        ("features", "split"),
        ("patched", "after"),
        ("text", "first"),
    ];
    build(&place, one).ok();
    assert_eq!(records(&place, &format!("demo/{one}")), expected(&plain));
    build(&place, two).ok();
    assert_eq!(records(&place, &format!("demo/{two}")), expected(&other));
    // What is the same was compiled once, all else twice.
    for (name, count) in [("plain", 1), ("text", 1), ("flags", 2), ("saved", 2), ("bashrc", 2), ("features", 2), ("patched", 2)] {
        assert_eq!(builds(&place, name, version), count, "{name}");
    }

    // An ebuild says something else without a new version. The other way round: the newer packages are not those that fit.
    sync("second");
    let mut now = plain;
    now[6].1 = "second";
    if rounds > 1 {
        build(&place, one).ok();
        assert_eq!(records(&place, &format!("demo/{one}")), expected(&now));
        assert_eq!((builds(&place, "text", version), builds(&place, "flags", version)), (2, 2));
    }

    // What somebody removes from the pool by hand is compiled again, whatever the index still says.
    for file in packages_in_pools(&place, "flags", version) {
        fs::remove_file(file).unwrap();
    }

    // What concerns one package: it is the package that is built anew, and no other. A bashrc of one package reads a file that Portage does not.
    // The last patch is where `patch save` puts its patches. The compiler is not there, and nobody can say what it would make.
    let of_revision = format!("patches/app-keys/patched-{version}-r0/change.patch");
    let reads = ("env/app-keys/bashrc", "KEYS_BASHRC=$(< /etc/portage/package.cflags)\n");
    let compiler = [("package.env", "app-keys/plain other\n"), ("env/other", "CC=\"keys-cc -m64\"\n")];
    for (files, changed) in [
        (
            &[reads, compiler[0], compiler[1], ("package.cflags", "third\n"), (patch_name, &*patch("third"))][..],
            [(3, "third"), (5, "third")],
        ),
        (&[("package.cflags", "fourth\n"), (&*of_revision, &*patch("fourth"))][..], [(3, "fourth"), (5, "fourth")]),
    ]
    .into_iter()
    .take(rounds)
    {
        define(&config, keys, one, &all(), files);
        let words = "is compiled, and no binary package of it is kept: its compiler `keys-cc -m64` does not answer yet";
        build(&place, one).ok().says(&format!("app-keys/plain-{version} {words}"));
        for (name, value) in changed {
            now[name].1 = value;
        }
        assert_eq!(records(&place, &format!("demo/{one}")), expected(&now));
    }
    let each = 2 + rounds;
    for (name, count) in
        [("plain", 1), ("text", 2), ("flags", 1), ("saved", 2), ("bashrc", each), ("features", 2), ("patched", each)]
    {
        assert_eq!(builds(&place, name, version), count, "{name}");
    }
    for definition in [one, two] {
        fs::remove_dir_all(place.path(&format!("keys-found-demo-{definition}"))).unwrap();
    }
}

#[test]
fn a_build_that_fails_at_its_last_package_loses_none_of_the_others() {
    let Some(shared) = shared() else { return };
    let version = std::process::id().wrapping_add(1_000_000);
    let config = shared.config("keys-fail");
    let place = shared.place.with_config(config.clone());
    place.run(&["sync", "--from", tree(&place, "keys-fail", version, "fails").to_str().unwrap()]).ok();
    define(&config, ("demo", "keys-fail"), "keys-fail", "app-keys/last", &[]);
    build(&place, "keys-fail").fails(6).says("app-keys/last");
    for name in ["plain", "first"] {
        assert_eq!(builds(&place, name, version), 1, "{name}");
    }
    // The configuration is corrected: another session, and nothing of before is compiled again.
    define(&config, ("demo", "keys-fail"), "keys-fail", "app-keys/last", &[("env/app-keys/last", "KEYS_BASHRC=works\n")]);
    let ran = build(&place, "keys-fail").ok();
    assert_eq!(
        (builds(&place, "plain", version), builds(&place, "first", version), builds(&place, "last", version)),
        (1, 1, 1),
        "{ran}"
    );
}

#[test]
#[ignore = "long: two packages are compiled twice"]
fn a_definition_that_takes_only_packages_of_its_own_compiles_them_once() {
    let Some(shared) = shared() else { return };
    let version = std::process::id().wrapping_add(6_000_000);
    let config = shared.config("keys-own");
    let place = shared.place.with_config(config.clone());
    place.run(&["sync", "--from", tree(&place, "keys-own", version, "own").to_str().unwrap()]).ok();
    define(&config, ("demo", "keys-own"), "keys-shared", "app-keys/first\napp-keys/plain", &[]);
    build(&place, "keys-shared").ok();
    // Without the compiler of all packages nothing can be built.
    define(&config, ("demo", "keys-own"), "keys-cc", "app-keys/first", &[("make.conf", "CC=\"keys-cc\"\n")]);
    build(&place, "keys-cc").fails(3).says("would be built has no working C compiler");
    write(&config.join("stage3.defines/keys-own/binpkgs"), "own\n");
    for packages in ["app-keys/first", "app-keys/first\napp-keys/plain"] {
        define(&config, ("demo", "keys-own"), "keys-own", packages, &[]);
        build(&place, "keys-own").ok();
    }
    assert_eq!((builds(&place, "plain", version), builds(&place, "first", version)), (2, 2));
}

#[test]
#[ignore = "long: the same after SIGKILL at some moments"]
fn a_build_that_is_killed_loses_none_of_the_packages_before() {
    let Some(shared) = shared() else { return };
    let config = shared.config("keys-kill");
    let place = shared.place.with_config(config.clone());
    for number in 0..5 {
        let version = std::process::id().wrapping_add(3_000_000 + number);
        place.run(&["sync", "--from", tree(&place, "keys-kill", version, "killed").to_str().unwrap()]).ok();
        let name = format!("keys-kill-{number}");
        let let_last = |does: &str| {
            let bashrc = format!("KEYS_BASHRC={does}\n");
            define(&config, ("demo", "keys-kill"), &name, "app-keys/last", &[("env/app-keys/last", &bashrc)]);
        };
        let_last("slow");
        let mut running = child::spawn(&mut place.command(&["stage", "build", &name, "--no-sign", "--format", "tar.zst"]));
        // Its last package compiles; the others are merged.
        let since = std::time::Instant::now();
        while builds(&place, "plain", version) + builds(&place, "first", version) < 2 {
            let ended = running.child().try_wait().unwrap();
            assert!(ended.is_none() && since.elapsed().as_secs() < 240, "the packages are not published: {ended:?}");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        std::thread::sleep(std::time::Duration::from_millis(u64::from(std::process::id() + number * 701) % 3000));
        running.child().kill().unwrap();
        running.output();
        let_last("works");
        build(&place, &name).ok();
        let counts = ["plain", "first", "last"].map(|package| builds(&place, package, version));
        assert_eq!(counts, [1, 1, 1], "kill {number}");
    }
}
