//! Pairs of configurations that differ in one thing, built in both orders from one pool: what is installed is what a build without any
//! pool installs. Each pair is about a package of its own, so that all are built at once.
//!
//! ```text
//! pool one: A (as without any pool), then B, then A        pool two: B (as without any pool)
//! ```
//!
//! And, in a minute: A and B have two keys, or one where the difference decides nothing. `GENTOOMUCH_PAIRS=cflags,patch` takes only these.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use gentoomuch::internals::portage::binpkgs::PackageKey;
use gentoomuch::internals::query;
use gentoomuch::internals::query::keys::Keys;
use serde_json::Value;

use crate::child;
use crate::place::{Place, run};
use crate::shared::shared;

/// Variables that one package gets through `package.env`: the name of the pair, the variable, its two values; `-` is none.
const VARIABLES: &[(&str, &str, &str, &str)] = &[
    ("cflags", "CFLAGS", "-O2 -g", "-O0 -g"),
    ("cflags-order", "CFLAGS", "-O2 -O1", "-O1 -O2"),
    ("cxxflags", "CXXFLAGS", "-O2", "-Os"),
    ("cppflags", "CPPFLAGS", "-", "-DPAIR"),
    ("ldflags", "LDFLAGS", "-Wl,-O1", "-Wl,-O1 -Wl,-z,now"),
    ("asflags", "ASFLAGS", "-", "--reduce-memory-overheads"),
    ("rustflags", "RUSTFLAGS", "-Copt-level=2", "-Copt-level=3"),
    ("goflags", "GOFLAGS", "-", "-v"),
    ("cc", "CC", "-", "gcc -DOTHER"),
    ("cxx", "CXX", "-", "g++ -DOTHER"),
    ("econf", "EXTRA_ECONF", "-", "--with-pairs"),
    ("emake", "EXTRA_EMAKE", "V=0", "V=1"),
    ("cmake", "MYCMAKEARGS", "-", "-DPAIR=ON"),
    ("buildtype", "CMAKE_BUILD_TYPE", "Release", "Debug"),
    ("meson", "MYMESONARGS", "-", "-Dpair=true"),
    ("linguas", "LINGUAS", "de", "de en"),
    ("locale", "LC_ALL", "C", "C.UTF-8"),
    ("zone", "TZ", "-", "Europe/Vienna"),
    ("epoch", "SOURCE_DATE_EPOCH", "1", "2"),
    ("unknown", "PAIRS_OF_NOBODY", "one", "two"),
    ("appears", "PAIRS_OF_NOBODY", "-", "one"),
    ("vanishes", "PAIRS_OF_NOBODY", "one", "-"),
    ("compress", "PORTAGE_COMPRESS", "bzip2", "gzip"),
    ("compress-none", "PORTAGE_COMPRESS", "bzip2", ""),
    ("compress-flags", "PORTAGE_COMPRESS_FLAGS", "-9", "-1"),
    ("pkg-mask", "PKG_INSTALL_MASK", "-", "/usr/share/man"),
    ("merge-mask", "INSTALL_MASK", "-", "/usr/share/man"),
    ("merge-mask-gone", "INSTALL_MASK", "/usr/share/man", "-"),
    ("splitdebug", "FEATURES", "-splitdebug", "splitdebug"),
    ("compressdebug", "FEATURES", "splitdebug", "splitdebug compressdebug"),
    ("nostrip", "FEATURES", "-nostrip", "nostrip"),
    ("nodoc", "FEATURES", "-nodoc", "nodoc"),
    ("noman", "FEATURES", "noman", "-noman"),
    ("noinfo", "FEATURES", "-noinfo", "noinfo"),
    ("test", "FEATURES", "-test", "test"),
    ("use-env", "USE", "-flag", "flag"),
];

/// Variables that decide nothing of what is in the package: one build serves both.
const NEUTRAL: &[(&str, &str, &str, &str)] = &[
    ("jobs", "MAKEOPTS", "-j1", "-j2"),
    ("nice", "PORTAGE_NICENESS", "1", "2"),
    ("fetch", "FETCHCOMMAND", "/bin/false a", "/bin/false b"),
    ("features", "FEATURES", "-parallel-fetch", "parallel-fetch"),
];

/// Files of the fragment: the name of the pair, the path, its two texts; `-` is none. In both `@` is the name, and `%` the version.
const FILES: &[(&str, &str, &str, &str)] = &[
    ("use", "package.use", "app-pairs/@ -flag", "app-pairs/@ flag"),
    ("use-default", "package.use", "app-pairs/@ other", "app-pairs/@ -other"),
    ("use-version", "package.use", "-", "=app-pairs/@-% flag"),
    ("use-forced", "profile/package.use.force", "-", "app-pairs/@ flag"),
    ("use-masked", "profile/package.use.mask", "-", "app-pairs/@ other"),
    ("use-profile", "profile/package.use", "-", "app-pairs/@ flag"),
    ("env-file", "env/app-pairs/@", "PAIRS_OF_NOBODY=one", "PAIRS_OF_NOBODY=two"),
    ("env-version", "env/app-pairs/@-%", "-", "PAIRS_OF_NOBODY=one"),
    ("env-slot", "env/app-pairs/@:0", "-", "PAIRS_OF_NOBODY=one"),
    ("env-hook", "env/app-pairs/@", "-", "post_src_install() { echo hook >\"${ED}\"/usr/share/pairs/@/hook; }"),
    ("bashrc", "profile/package.bashrc", "-", "app-pairs/@ pairs.bashrc"),
    ("saved", "savedconfig/app-pairs/@", "-", "CONFIG=y"),
    ("saved-text", "savedconfig/app-pairs/@", "CONFIG=n", "CONFIG=y"),
    ("saved-version", "savedconfig/app-pairs/@-%", "CONFIG=n", "CONFIG=y"),
    ("saved-host", "savedconfig/x86_64-pc-linux-gnu/app-pairs/@", "-", "CONFIG=y"),
    ("saved-directory", "savedconfig/app-pairs/@/part", "CONFIG=n", "CONFIG=y"),
    ("patch", "patches/app-pairs/@/a.patch", "-", "!one"),
    ("patch-text", "patches/app-pairs/@/a.patch", "!one", "!two"),
    ("patch-diff", "patches/app-pairs/@/a.diff", "-", "!one"),
    ("patch-version", "patches/app-pairs/@-%/a.patch", "-", "!one"),
    ("patch-revision", "patches/app-pairs/@-%-r0/a.patch", "-", "!one"),
    ("patch-slot", "patches/app-pairs/@:0/a.patch", "-", "!one"),
    ("patch-both", "patches/app-pairs/@-%:0/a.patch", "!one", "!two"),
];

/// Files of the tree, likewise. What ends in `+` is added to the ebuild.
const TREE: &[(&str, &str, &str, &str)] = &[
    ("text", "+", "PAIRS_TEXT=one", "PAIRS_TEXT=two"),
    ("comment", "+", "# one", "# two"),
    ("phase", "+", "-", "pkg_postinst() { echo there >\"${EROOT}/usr/share/pairs/@/postinst\"; }"),
    ("description", "+", "DESCRIPTION=one", "DESCRIPTION=two"),
    ("dependency", "+", "-", "RDEPEND=sys-apps/baselayout"),
    ("beside", "app-pairs/@/files/text", "one", "two"),
    ("eclass", "eclass/pair-@.eclass", "PAIRS_TEXT=one", "PAIRS_TEXT=two"),
];

/// Records whatever it may be built from, and installs what the features are about.
const EBUILD: &str = r#"EAPI=8
DESCRIPTION="pairs"
SLOT="0"
KEYWORDS="amd64"
LICENSE="GPL-2"
IUSE="flag +other test"
S="${WORKDIR}"
src_unpack() {
	echo before >text || die
	echo 'int main(void) { int a = 41; return a - 41; }' >prog.c || die
	for line in {1..4000}; do echo "line ${line} of a long text"; done >long || die
	printf '.TH pairs 1\n' | cat - long >@.1 || die
}
src_compile() { ${CC:-gcc} ${CPPFLAGS} ${CFLAGS} ${LDFLAGS} -o prog-@ prog.c || die; }
src_test() { echo tested >tested || die; }
src_install() {
	local name from
	for name in VARIABLES PAIRS_BASHRC PAIRS_TEXT; do
		echo "${name}=${!name-(none)}"
	done >record || die
	echo "$(usev flag) $(usev other) $(usev test)" >>record || die
	cat text >>record || die
	[[ ! -e tested ]] || cat tested >>record || die
	from=$(find /etc/portage/savedconfig{/*,}/app-pairs/@{,-%} -type f 2>/dev/null | sort)
	[[ -z ${from} ]] || cat ${from} >>record || die
	[[ ! -e ${FILESDIR}/text ]] || cat "${FILESDIR}/text" >>record || die
	dobin prog-@
	insinto /usr/share/pairs/@
	doins record
	newdoc long @
	cp long @.info || die
	doinfo @.info
	doman @.1
}
"#;

/// Prints all that is installed: the values of the VDB and the files, but for times and for what only tells of the run.
const INSTALLED: &str = r#"
import hashlib, json, os, stat
base, told = "/var/db/pkg/app-pairs", {}
# BUILD_ID and BINPKGMD5 are of the pool; the environment has the times and places of its build.
passed_over = {"BUILD_TIME", "COUNTER", "BUILD_ID", "BINPKGMD5", "environment.bz2"}
for package in sorted(os.listdir(base)):
    one = told[package] = {}
    for name in sorted(set(os.listdir(os.path.join(base, package))) - passed_over):
        with open(os.path.join(base, package, name), errors="surrogateescape") as file:
            text = file.read()
        if name == "CONTENTS":
            text = "\n".join(line.rsplit(" ", 1)[0] if line[:3] in ("obj", "sym") else line for line in text.splitlines())
            for line in text.splitlines():
                path = line.split(" ")[1]
                try:
                    found = os.lstat(path)
                except FileNotFoundError:
                    one["file " + path] = "missing"
                    continue
                words = [oct(found.st_mode), found.st_uid, found.st_gid]
                if stat.S_ISREG(found.st_mode):
                    with open(path, "rb") as file:
                        words.append(hashlib.sha256(file.read()).hexdigest())
                one["file " + path] = words
        one[name] = text.strip()
print(json.dumps(told))
"#;

/// What is installed of each package: values and files by name.
type Installed = BTreeMap<String, BTreeMap<String, Value>>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    A,
    B,
}

/// Every pair with its two texts and whether one package serves both.
fn pairs() -> Vec<(&'static str, Rule)> {
    let of = |table: &[(&'static str, &'static str, &'static str, &'static str)],
              rule: fn(&'static str, [&'static str; 2]) -> Rule| {
        table.iter().map(|(name, what, a, b)| (*name, rule(what, [a, b]))).collect::<Vec<_>>()
    };
    let mut all =
        [of(VARIABLES, Rule::Variable), of(NEUTRAL, Rule::Variable), of(FILES, Rule::File), of(TREE, Rule::Tree)].concat();
    if let Ok(only) = std::env::var("GENTOOMUCH_PAIRS") {
        all.retain(|(name, _)| only.split(',').any(|wanted| wanted == *name));
    }
    all
}

/// What differs in a pair.
#[derive(Clone, Copy)]
enum Rule {
    Variable(&'static str, [&'static str; 2]),
    File(&'static str, [&'static str; 2]),
    Tree(&'static str, [&'static str; 2]),
}

fn text_of(texts: [&'static str; 2], side: Side) -> Option<&'static str> {
    Some(texts[usize::from(side == Side::B)]).filter(|text| *text != "-")
}

fn add(files: &mut BTreeMap<String, String>, path: String, text: &str) {
    let file = files.entry(path).or_default();
    file.push_str(text);
    file.push('\n');
}

/// The files of one side's fragment.
fn fragment(side: Side, version: u32) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    add(&mut files, "profile/bashrc/pairs.bashrc".to_owned(), "PAIRS_BASHRC=read");
    for (name, rule) in pairs() {
        let filled = |text: &str| text.replace('@', name).replace('%', &version.to_string());
        match rule {
            Rule::Variable(variable, texts) => {
                let Some(value) = text_of(texts, side) else { continue };
                add(&mut files, "package.env".to_owned(), &format!("app-pairs/{name} {name}"));
                add(&mut files, format!("env/{name}"), &format!("{variable}=\"{value}\""));
            }
            Rule::File(path, texts) => match text_of(texts, side).map(|text| (text, text.strip_prefix('!'))) {
                None => {}
                Some((_, Some(word))) => {
                    add(&mut files, filled(path), &format!("--- a/text\n+++ b/text\n@@ -1 +1 @@\n-before\n+{word}"));
                }
                Some((text, None)) => add(&mut files, filled(path), &filled(text)),
            },
            Rule::Tree(..) => {}
        }
    }
    files
}

/// Writes the tree of one side.
fn tree(place: &Place, side: Side, version: u32) -> PathBuf {
    let tree = place.path(if side == Side::A { "pairs-trees/a/pairs" } else { "pairs-trees/b/pairs" });
    if tree.exists() {
        fs::remove_dir_all(&tree).unwrap();
    }
    let write = |path: &str, text: &str| {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("profiles/repo_name", "pairs\n");
    write("profiles/categories", "app-pairs\n");
    write("metadata/layout.conf", "masters = gentoo\nthin-manifests = true\nprofile-formats = portage-2 profile-bashrcs\n");
    let variables: BTreeSet<&str> =
        VARIABLES.iter().map(|(_, name, ..)| *name).filter(|name| !["FEATURES", "USE"].contains(name)).collect();
    let recorder =
        EBUILD.replace("VARIABLES", &variables.into_iter().filter(|name| *name != "INSTALL_MASK").collect::<Vec<_>>().join(" "));
    for (name, rule) in pairs() {
        let mut ebuild = recorder.clone();
        if let Rule::Tree(path, texts) = rule {
            match (path, text_of(texts, side)) {
                ("+", Some(text)) => ebuild.push_str(&format!("{text}\n")),
                (_, Some(text)) => write(&path.replace('@', name), &format!("{text}\n")),
                (_, None) => {}
            }
            if path.starts_with("eclass") {
                ebuild = ebuild.replacen('\n', &format!("\ninherit pair-{name}\n"), 1);
            }
        }
        write(&format!("app-pairs/{name}/{name}-{version}.ebuild"), &ebuild.replace('@', name).replace('%', &version.to_string()));
        write(&format!("app-pairs/{name}/Manifest"), "");
    }
    tree
}

/// A definition of its own name with this fragment.
fn define(config: &Path, name: &str, fragment: &BTreeMap<String, String>) {
    let write = |path: &str, text: &str| {
        let path = config.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let local = |path: &str| format!("portage.locals/{name}/{path}");
    write(
        &local("repos.conf/pairs.conf"),
        "[DEFAULT]\nmain-repo = gentoo\n\n[pairs]\nlocation = /var/db/repos/pairs\nmasters = gentoo\n",
    );
    for (path, text) in fragment {
        write(&local(path), text);
    }
    let packages = pairs().iter().fold(String::new(), |all, (name, _)| all + "app-pairs/" + name + "\n");
    for (file, text) in [("cpu", "generic-amd64\n"), ("portage.local", &*format!("{name}\n")), ("packages", &*packages)] {
        write(&format!("stage3.defines/{name}/{file}"), text);
    }
    for (file, text) in [("profile", "demo\n"), ("stage3", &*format!("{name}\n")), ("packages", "")] {
        write(&format!("stage4.defines/{name}/{file}"), text);
    }
}

/// Builds the side as the definition `name` with packages of `pool`, and reads what is installed.
fn build(place: &Place, pool: &Path, name: &str, side: Side, version: u32) -> Installed {
    place.run(&["sync", "--from", tree(place, side, version).to_str().unwrap()]).ok();
    define(&place.config, name, &fragment(side, version));
    if !pool.exists() {
        fs::create_dir_all(pool).unwrap();
        // What all definitions begin with is there; of these packages it has none.
        for name in ["distfiles", "binpkgs"] {
            child::check(Command::new("cp").arg("-a").arg(place.path("cache").join(name)).arg(pool));
        }
    }
    let mut command = place.command(&["stage", "build", name, "--no-sign", "--format", "tar.zst"]);
    run(command.env("GENTOOMUCH_CACHE", pool)).ok();
    let state = format!("profile/demo/{name}");
    let ran = place.run(&["shell", &state, "--network", "none", "--", "python3", "-B", "-c", INSTALLED]).ok();
    serde_json::from_str(&ran.text()).unwrap_or_else(|error| panic!("{error}: {ran}"))
}

/// How many builds of a package a pool has.
fn builds(pool: &Path, package: &str) -> usize {
    let mut find = Command::new("find");
    find.arg(pool.join("binpkgs")).args(["-name", ".views", "-prune", "-o", "-name", &format!("{package}-*.gpkg.tar"), "-print"]);
    String::from_utf8(child::check(&mut find)).unwrap().lines().count()
}

/// The values that differ, but for what a package that serves both sides may tell of the other.
fn differing<'a>(one: &'a Installed, other: &'a Installed, package: &str, neutral: bool) -> Vec<&'a str> {
    let (one, other) = (&one[package], &other[package]);
    let names: BTreeSet<&str> = one.keys().chain(other.keys()).map(String::as_str).collect();
    names.into_iter().filter(|name| one.get(*name) != other.get(*name) && !(neutral && *name == "FEATURES")).collect()
}

/// The keys that a session with one side's configuration and tree would give its packages, by name.
fn keys(place: &Place, side: Side, version: u32) -> BTreeMap<&'static str, PackageKey> {
    let name = if side == Side::A { "pairs-a" } else { "pairs-b" };
    define(&place.config, name, &fragment(side, version));
    let shown: Value = serde_json::from_str(&place.run(&["config", "show", name, "--json"]).ok().text()).unwrap();
    let asked = place.path(&format!("pairs-asked/{name}"));
    if asked.exists() {
        fs::remove_dir_all(&asked).unwrap();
    }
    for file in shown["files"].as_array().unwrap() {
        let path = asked.join(file["path"].as_str().unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file["text"].as_str().unwrap()).unwrap();
    }
    let packages: Vec<(String, String)> =
        pairs().iter().map(|(name, _)| (format!("app-pairs/{name}-{version}"), "pairs".to_owned())).collect();
    let request = String::from_utf8(query::request(&[Keys { packages: &packages, here: false, targets: &[] }]).unwrap()).unwrap();
    let binds = [
        format!("{}:/mnt/asked:ro", asked.display()),
        format!("{}/src/query:/mnt/query:ro", env!("CARGO_MANIFEST_DIR")),
        format!("{}:/var/db/repos/pairs:ro", tree(place, side, version).display()),
    ];
    let script = "cp -r /mnt/asked/. /etc/portage && echo \"$1\" >/tmp/request && exec python3 -B /mnt/query/ask.py /tmp/request";
    let mut words = vec!["freshroot", "--profile", "demo", "--network", "none"];
    words.extend(binds.iter().flat_map(|bind| ["--bind", bind]));
    words.extend(["--", "sh", "-c", script, "sh", &request]);
    let ran = place.run(&words).ok();
    let made = query::answers::<Keys<'_>>(ran.text().as_bytes(), 1).unwrap().pop().unwrap();
    let name_of = |cpv: &str| pairs().into_iter().find(|(name, _)| cpv == format!("app-pairs/{name}-{version}")).unwrap().0;
    let keys: BTreeMap<&str, PackageKey> = made.described().iter().map(|it| (name_of(&it.cpv), it.key())).collect();
    assert_eq!(keys.len(), pairs().len(), "{ran}");
    keys
}

/// Whether one package serves both sides; what differs where packages are merged may still make two results of it.
fn is_one_package(name: &str, rule: Rule) -> bool {
    NEUTRAL.iter().any(|(neutral, ..)| *neutral == name) || matches!(rule, Rule::Variable("INSTALL_MASK", _))
}

#[test]
#[ignore = "long: a hundred ebuilds without a cache, read twice"]
fn each_difference_makes_another_key_and_nothing_else_does() {
    let Some(shared) = shared() else { return };
    let place = shared.place.with_config(shared.config("pairs-keys"));
    let (a, b) = (keys(&place, Side::A, 1), keys(&place, Side::B, 1));
    let all = pairs();
    let wrong: Vec<&str> =
        all.iter().filter(|(name, rule)| (a[name] == b[name]) != is_one_package(name, *rule)).map(|(name, _)| *name).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(all.len() >= 60, "{}", all.len());
}

#[test]
#[ignore = "long: a hundred small packages, built twice and more"]
fn what_is_installed_does_not_depend_on_what_was_built_before() {
    let Some(shared) = shared() else { return };
    let version = std::process::id();
    let config = shared.config("pairs");
    let place = shared.place.with_config(config);
    let pool = |name: &str| {
        let pool = place.path(&format!("pairs-pools/{name}"));
        if pool.exists() {
            fs::remove_dir_all(&pool).unwrap();
        }
        pool
    };
    let (one, two) = (pool("one"), pool("two"));
    let alone_a = build(&place, &one, "pairs-a-one", Side::A, version);
    let after_a = build(&place, &one, "pairs-b-one", Side::B, version);
    let after_b = build(&place, &one, "pairs-a-two", Side::A, version);
    let alone_b = build(&place, &two, "pairs-b-two", Side::B, version);
    let mut wrong = Vec::new();
    let all = pairs();
    for (name, _) in &all {
        let package = format!("{name}-{version}");
        let neutral = NEUTRAL.iter().any(|(neutral, ..)| neutral == name);
        for (what, found, expected) in [("B after A", &after_a, &alone_b), ("A after B", &after_b, &alone_a)] {
            for value in differing(found, expected, &package, neutral) {
                wrong.push(format!(
                    "{name}, {what}, {value}: {:?} is not {:?}",
                    found[&package].get(value),
                    expected[&package].get(value)
                ));
            }
        }
        // A pair without a difference would prove nothing.
        let apart = !differing(&alone_a, &alone_b, &package, neutral).is_empty();
        let count = builds(&one, &package);
        if neutral && (apart || count != 1) || !neutral && !apart || count > 2 {
            wrong.push(format!("{name}: A and B differ: {apart}, builds in the pool: {count}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} pairs:\n{}", wrong.len(), all.len(), wrong.join("\n"));
    for pool in [one, two] {
        fs::remove_dir_all(pool).unwrap();
    }
}
