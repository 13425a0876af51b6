//! `config explain` against Portage itself: the same merged configuration is put before Portage in a session, and every flag of every
//! package, every mask and keyword, and the variables must come out the same.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::place::Place;
use crate::shared::shared;

/// Prints what Portage makes of the directory `/mnt/asked` and of the Portage profile in its first argument.
const ASK: &str = r#"
import json, os, shutil, sys
root, etc, own = "/tmp/asked", "/tmp/asked/etc/portage", "/etc/portage/make.conf"
shutil.copytree("/mnt/asked", etc)
if os.path.isdir(own):
    own += "/00-make.conf"
if os.path.exists(own):
    os.makedirs(etc + "/make.conf", exist_ok=True)
    shutil.copy(own, etc + "/make.conf/00-make.conf")
os.symlink("/var/db/repos/gentoo/profiles/" + sys.argv[1], etc + "/make.profile")
import portage
settings = portage.config(config_root=root, target_root="/", env={"PATH": os.environ["PATH"]})
variables = {name: settings.get(name, "") for name in sys.argv[2:]}
portdb = portage.portdbapi(mysettings=settings)
packages = {}
for cp in portdb.cp_all():
    for cpv in portdb.cp_list(cp):
        keys = ["IUSE", "SLOT", "KEYWORDS", "LICENSE", "repository", "EAPI"]
        metadata = dict(zip(keys, portdb.aux_get(cpv, keys)))
        one = portage.config(clone=settings)
        one.setcpv(cpv, mydb=portdb)
        iuse = {flag.lstrip("+-") for flag in metadata["IUSE"].split()}
        metadata["USE"] = one["PORTAGE_USE"]
        packages[str(cpv)] = {
            "use": sorted(iuse & set(one["PORTAGE_USE"].split())),
            "licences": sorted(set(settings._getMissingLicenses(cpv, metadata))),
            "keywords": bool(settings._getMissingKeywords(cpv, metadata)),
            "mask": settings._getMaskAtom(cpv, metadata) is not None,
        }
print(json.dumps({"variables": variables, "packages": packages}))
"#;

/// Words in the order of which does not matter.
const LISTS: [&str; 5] = ["USE", "ACCEPT_KEYWORDS", "CONFIG_PROTECT", "USE_EXPAND", "ENV_UNSET"];
const SINGLE: [&str; 5] = ["CFLAGS", "CXXFLAGS", "LDFLAGS", "MAKEOPTS", "GENTOO_MIRRORS"];

/// A Portage profile whose parent is in another repository.
const STACK: &[(&str, &str)] = &[
    ("profiles/repo_name", "stack\n"),
    ("metadata/layout.conf", "masters = gentoo\nprofile-formats = portage-2\n"),
    ("profiles/site/eapi", "5\n"),
    ("profiles/site/parent", "gentoo:default/linux/amd64/testbed/desktop/careful\n"),
    ("profiles/site/make.defaults", "USE=\"${USE} json\"\nUSE=\"${USE} -color\"\n"),
    ("profiles/site/package.use.force", "app-misc/greeter -ascii\n"),
];

/// Fragments in which almost everything is said about almost everything.
const FRAGMENTS: &[(&str, &str)] = &[
    ("stage3.defines/asked/portage.local", "one\ntwo\n"),
    ("stage3.defines/hard/portage.local", "two\n"),
    ("stage3.defines/hard/portage.profile", "default/linux/amd64/testbed/hardened\n"),
    ("stage3.defines/empty/packages", ""),
    ("stage3.defines/deep/portage.profile", "default/linux/amd64/testbed/desktop/careful\n"),
    ("stage3.defines/site/portage.profile", "stack:site\n"),
    ("stage3.defines/site/portage.local", "stack\n"),
    ("portage.locals/stack/repos.conf/stack.conf", "[stack]\nlocation = /var/db/repos/stack\nmasters = gentoo\n"),
    (
        "portage.locals/one/make.conf",
        "USE=\"static-libs -nls json\"\nVIDEO_CARDS=\"intel\"\nL10N=\"de en\"\nACCEPT_KEYWORDS=\"~amd64\"\nFEATURES=\"test\"\n\
         CFLAGS=\"${CFLAGS} -ggdb\"\nMAKEOPTS=\"-j3\"\nCONFIG_PROTECT=\"/opt/etc\"\nELIBC=\"musl\"\n",
    ),
    (
        "portage.locals/one/package.use",
        "*/* color\napp-misc/* -json\n*/greeter:0 json\napp-misc/hello nls\n=app-misc/hello-2* -nls\n<app-misc/hello-99 nls\n\
         >=dev-libs/greet-1.1 -utf8\n<dev-libs/greet-1.1 static-libs\n~dev-libs/greet-1.1 static-libs\ndev-libs/greet:0 -static-libs\n\
         app-arch/lz4::gentoo -static-libs\napp-arch/lz4::elsewhere static-libs\n=app-misc/*-*0* ascii\n",
    ),
    ("portage.locals/one/package.env", "app-misc/greeter extra\n"),
    ("portage.locals/one/env/extra", "USE=\"hardened -color\"\nCFLAGS=\"-O0\"\n"),
    (
        "portage.locals/one/package.accept_keywords",
        "=dev-libs/greet-1.1 -~amd64\napp-misc/newcomer -*\napp-misc/slow ~arm64 -amd64\n",
    ),
    (
        "portage.locals/one/package.license",
        "app-resolve/eula testbed-EULA\ndev-libs/* -MIT\n*/greeter -@OURS\napp-misc/hello -GPL-3+ @THEIRS\n",
    ),
    ("portage.locals/one/license_groups", "OURS GPL-2 @THEIRS\nTHEIRS GPL-3+\n"),
    ("portage.locals/one/package.mask", ">=dev-libs/greet-1.1\napp-misc/h*\napp-misc/broken\napp-misc/slow:1\n"),
    ("portage.locals/two/package.unmask", "=app-misc/hello-2*\n"),
    ("portage.locals/two/package.mask", "-app-misc/broken # override\n"),
    ("portage.locals/two/package.use/late", "app-misc/greeter -json # override\n*/* -video_cards_intel\n"),
    (
        "portage.locals/two/make.conf",
        "COMMON_FLAGS=\"-O3\"\nLDFLAGS=\"${LDFLAGS} -Wl,-z,now\"\nACCEPT_LICENSE=\"* -BSD-2 -GPL-3\"\n",
    ),
    ("portage.locals/two/profile/use.mask", "static-libs\n"),
    ("portage.locals/two/profile/use.force", "# forced\nutf8\n"),
    ("portage.locals/two/profile/package.use.mask", "app-arch/lz4 -static-libs\n=app-misc/greeter-1* ascii\n"),
    ("portage.locals/two/profile/package.use.force", "app-misc/greeter color\n"),
    ("portage.locals/two/profile/package.use.stable.force", "app-misc/hello nls\n"),
    ("portage.locals/two/profile/package.use", "dev-libs/* utf8\napp-misc/greeter hardened\n"),
    ("portage.locals/two/profile/make.defaults", "USE=\"json\"\nL10N=\"fr\"\nCXXFLAGS=\"${CFLAGS} -fno-rtti\"\n"),
];

fn explain(place: &Place, stage: &str, subject: &str) -> Value {
    let ran = place.run(&["config", "explain", stage, subject, "--profile", "demo", "--json"]).ok();
    serde_json::from_str(&ran.text()).unwrap_or_else(|error| panic!("{error} in {ran}"))
}

fn set(value: &Value) -> BTreeSet<String> {
    value.as_str().unwrap().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn explanations_are_what_portage_makes_of_it() {
    let Some(shared) = shared() else { return };
    let config = shared.config("explain");
    for (path, text) in FRAGMENTS {
        let path = config.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let place = shared.place.with_config(config);
    let stack = shared.place.path("explain-trees/stack");
    for (path, text) in STACK {
        let path = stack.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    place.run(&["sync", "--from", stack.to_str().unwrap()]).ok();
    let stack = format!("{}:/var/db/repos/stack:ro", stack.display());
    let mut compared = 0;
    for (stage, profile) in [
        ("asked", "default/linux/amd64/testbed"),
        ("hard", "default/linux/amd64/testbed/hardened"),
        ("empty", "default/linux/amd64/testbed"),
        ("deep", "default/linux/amd64/testbed/desktop/careful"),
        ("site", "../../stack/profiles/site"),
    ] {
        let shown: Value = serde_json::from_str(&place.run(&["config", "show", stage, "--json"]).ok().text()).unwrap();
        let dir = shared.place.path(&format!("asked {stage}"));
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        fs::create_dir_all(&dir).unwrap();
        for file in shown["files"].as_array().unwrap() {
            let path = dir.join(file["path"].as_str().unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file["text"].as_str().unwrap()).unwrap();
        }
        let bind = format!("{}:/mnt/asked:ro", dir.display());
        let mut words = vec![
            "freshroot",
            "--profile",
            "demo",
            "--network",
            "none",
            "--bind",
            &bind,
            "--bind",
            &stack,
            "--",
            "python3",
            "-c",
            ASK,
            profile,
        ];
        words.extend(LISTS.iter().chain(&SINGLE));
        let asked = shared.place.run(&words).ok();
        let portage: Value =
            serde_json::from_str(asked.text().lines().last().unwrap()).unwrap_or_else(|e| panic!("{e} in {asked}"));
        for name in LISTS {
            let own = explain(&place, stage, name);
            assert_eq!(set(&own["variable"]["value"]), set(&portage["variables"][name]), "{stage} {name}: {own:#}");
        }
        for name in SINGLE.into_iter().filter(|name| portage["variables"][name] != "") {
            let own = explain(&place, stage, name);
            assert_eq!(own["variable"]["value"], portage["variables"][name], "{stage} {name}: {own:#}");
        }
        for (cpv, theirs) in portage["packages"].as_object().unwrap() {
            let own = &explain(&place, stage, &format!("={cpv}"))["package"];
            let flags = own["flags"].as_array().unwrap().iter();
            let enabled: Value = flags.filter(|flag| flag["enabled"] == true).map(|flag| flag["flag"].clone()).collect();
            assert_eq!(enabled, theirs["use"], "{stage} {cpv}: {own:#}");
            let version = &own["versions"][0];
            assert_eq!(version["missing_keywords"].is_array(), theirs["keywords"] == true, "{stage} {cpv}: {version:#}");
            let lacking: BTreeSet<&str> =
                version["missing_licences"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            assert_eq!(serde_json::json!(lacking), theirs["licences"], "{stage} {cpv}: {version:#}");
            assert_eq!(version["masked_by"].is_object(), theirs["mask"] == true, "{stage} {cpv}: {version:#}");
            compared += 1 + own["flags"].as_array().unwrap().len();
        }
    }
    assert!(compared > 60, "only {compared} packages and flags were compared");
}

#[test]
fn explanations_name_what_they_override() {
    let Some(shared) = shared() else { return };
    let config = shared.config("explain-words");
    for (path, text) in FRAGMENTS {
        let path = config.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let place = shared.place.with_config(config);
    let told = |stage: &str, subject: &str| {
        let text = place.run(&["config", "explain", stage, subject, "--profile", "demo"]).ok().text();
        format!("$ gentoomuch config explain {stage} {subject}\n{text}")
    };
    let all = [
        told("asked", "USE:nls"),
        told("asked", "dev-libs/greet:utf8"),
        told("asked", "app-misc/greeter"),
        told("hard", "app-misc/greeter:hardened"),
        told("hard", "ELIBC"),
    ];
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(all.join("\n")) });
    for (subject, words) in [
        ("app-misc/helo", "error: there is no package `app-misc/helo` in gentoo\nhint: did you mean `app-misc/hello`?\n"),
        ("hello", "error: `hello` is neither a variable nor an atom\nhint: did you mean app-misc/hello?\n"),
        ("=dev-libs/greet-3", "error: `=dev-libs/greet-3` matches no version of `dev-libs/greet`\nhint: there are: 1.0, 1.1\n"),
        ("app-misc/hello:nsl", "has no flag `nsl`\nhint: did you mean `nls`?\n"),
    ] {
        place.run(&["config", "explain", "asked", subject]).fails(2).says(words);
    }
    place
        .run(&["config", "explain", "asked", "USE", "--profile", "nowhere"])
        .fails(2)
        .says("error: profile `nowhere` is not bootstrapped\n");
}
