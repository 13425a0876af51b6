//! Binary package hosts: ours, as others' roots see it, and others', as our sessions use them.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::child::{self, Known};
use crate::place::{Place, copy};
use crate::shared::{Shared, shared};

/// No other test builds it in other ways, so that there is one of it in the pool.
const GREETER: &str = "app-misc/greeter/greeter-1.0-1.gpkg.tar";

/// A web server with an exported directory, as the documentation shows.
struct Host {
    _running: Known,
    address: String,
}

impl Host {
    fn of(dir: &Path) -> Self {
        let mut command = Command::new("python3");
        command.args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory"]).arg(dir).arg("0");
        let mut running = child::spawn(command.stdin(Stdio::null()).stderr(Stdio::null()));
        let mut line = String::new();
        BufReader::new(running.child().stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let port =
            line.split(" port ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_else(|| panic!("no port in {line:?}"));
        Self { address: format!("http://127.0.0.1:{port}"), _running: running }
    }
}

fn export(place: &Place, dir: &Path) -> Value {
    let ran = place.run(&["binhost", "export", "--profile", "demo", "--json", dir.to_str().unwrap()]).ok();
    serde_json::from_str(&ran.text()).unwrap()
}

fn fresh(place: &Place, name: &str) -> PathBuf {
    let dir = place.path(name);
    if dir.exists() {
        fs::remove_dir_all(&dir).unwrap();
    }
    dir
}

fn sum(program: &str, file: &Path) -> String {
    let text = String::from_utf8(child::check(Command::new(program).arg(file))).unwrap();
    text.split(' ').next().unwrap().to_owned()
}

/// Has the index say what the package is now: who can change a package can change the index, too.
fn fix_index(dir: &Path) {
    let package = dir.join(GREETER);
    let text = fs::read_to_string(dir.join("Packages")).unwrap();
    let stanzas: Vec<String> = text
        .split("\n\n")
        .map(|stanza| {
            if !stanza.contains(&format!("PATH: {GREETER}")) {
                return stanza.to_owned();
            }
            let lines = stanza.lines().map(|line| match line.split_once(": ") {
                Some(("SIZE", _)) => format!("SIZE: {}", fs::metadata(&package).unwrap().len()),
                Some(("MD5", _)) => format!("MD5: {}", sum("md5sum", &package)),
                Some(("SHA1", _)) => format!("SHA1: {}", sum("sha1sum", &package)),
                _ => line.to_owned(),
            });
            lines.collect::<Vec<_>>().join("\n")
        })
        .collect();
    fs::write(dir.join("Packages"), stanzas.join("\n\n") + "\n").unwrap();
    fs::remove_file(dir.join("Packages.gz")).unwrap();
}

#[test]
fn a_root_of_its_own_installs_what_was_exported_and_signed() {
    let Some(shared) = shared() else { return };
    let place = &shared.place;
    let dir = fresh(place, "binhost-a");
    let first = export(place, &dir);
    assert_eq!((&first["signed_by"], &first["left_out"]), (&Value::from(shared.key.as_str()), &Value::from(Vec::<Value>::new())));
    let packages = first["packages"].as_u64().unwrap();
    assert!(packages >= 6 && first["signed"] == packages, "{first}");
    let index = fs::read(dir.join("Packages.gz")).unwrap();
    let again = export(place, &dir);
    assert_eq!((&again["signed"], &again["removed"]), (&Value::from(0), &Value::from(0)));
    assert_eq!(fs::read(dir.join("Packages.gz")).unwrap(), index, "nothing has changed");
    // What is missing is signed again.
    fs::remove_file(dir.join(GREETER)).unwrap();
    assert_eq!(export(place, &dir)["signed"], 1);
    // So is one that is not what was signed, however long it is.
    let mut bytes = fs::read(dir.join(GREETER)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(dir.join(GREETER), &bytes).unwrap();
    assert_eq!(export(place, &dir)["signed"], 1);
    assert!(fs::read(dir.join(GREETER)).unwrap() != bytes);

    // Another profile's packages would take the place of these.
    let record = dir.join(".gentoomuch-binhost.json");
    let of_demo = fs::read_to_string(&record).unwrap();
    fs::write(&record, of_demo.replace("\"profile\": \"demo\"", "\"profile\": \"server\"")).unwrap();
    place
        .run(&["binhost", "export", "--profile", "demo", "binhost-a"])
        .fails(2)
        .says("/binhost-a` has the binary packages of profile `server`\n")
        .says("hint: name another directory, or export `server` with `--profile server`");
    assert!(dir.join(GREETER).exists());
    fs::write(&record, of_demo).unwrap();
    assert_eq!(export(place, &dir)["signed"], 0);

    place.write("binhost-other/file", "mine");
    place
        .run(&["binhost", "export", "binhost-other"])
        .fails(2)
        .says("is neither empty nor an exported binhost")
        .says("hint: name a new");

    // By the instructions for clients, in a root that nothing of ours was applied to.
    let host = Host::of(&dir);
    let bare = "binhost-bare";
    place.run(&["bootstrap", "--no-rebuild", bare, shared.testbed.stage3.to_str().unwrap()]).ok();
    let readme = fs::read_to_string(dir.join("README")).unwrap();
    let steps: Vec<&str> = readme.lines().filter_map(|line| line.strip_prefix("    ")).filter(|line| *line != "getuto").collect();
    let (emerge, setup) = steps.split_last().unwrap();
    // As it is on another's system: nobody is asked outside. The environment wins over the session's settings.
    let own = "export FETCHCOMMAND_HTTP='wget -q -O \"${DISTDIR}/${FILE}\" \"${URI}\"'";
    let script = format!(
        "set -e; {own}; cd /mnt/host\n{}\nsed -i 's,http://HOST:8080,{},' /etc/portage/binrepos.conf/*\n{} --getbinpkgonly --oneshot app-misc/hello\nhello",
        setup.join("\n"),
        host.address,
        emerge.trim_end_matches(" PACKAGE")
    );
    let bind = format!("{}:/mnt/host:ro", dir.display());
    let client =
        |script: &str| place.run(&["freshroot", "--profile", bare, "--network", "host", "--bind", &bind, "--", "sh", "-c", script]);
    let ran = client(&script).ok();
    assert!(ran.text().contains("Emerging binary") && ran.text().ends_with("Hello, world!\n"), "{ran}");
    // A key that is merely there is not enough for Portage.
    let keyless: String =
        script.lines().filter(|line| !line.contains("ownertrust") && *line != "hello").flat_map(|l| [l, "\n"]).collect();
    let refused = client(&keyless.replace("set -e;", "")).fails(1);
    assert!((refused.text() + &refused.stderr).contains("GnuPG verification failed"), "{refused}");
    place.run(&["profile", "rm", bare]).ok();
    // Where it is found is said once.
    let uri = ["binhost", "export", "--profile", "demo", "--uri", "http://found.example:1", dir.to_str().unwrap()];
    place.run(&uri).ok();
    export(place, &dir);
    assert!(fs::read_to_string(dir.join("binrepos.conf")).unwrap().contains("sync-uri = http://found.example:1\n"));
}

/// A configuration whose builder has flags that no pool was built with, and a binhost at `address`.
fn client(shared: &Shared, name: &str, address: &str, trust: bool) -> Place {
    let config = shared.config_with_world(name, "app-misc/greeter");
    let place = shared.place.with_config(config.clone());
    let conf = config.join("portage.locals/gentoomuch/builder/make.conf");
    let text = fs::read_to_string(&conf).unwrap_or_default();
    fs::write(&conf, format!("{text}\nCOMMON_FLAGS=\"${{COMMON_FLAGS}} -fno-{name}\"\n").replace("-fno-binhost-", "-DBINHOST_"))
        .unwrap();
    name_host(&place, address);
    if trust {
        trust_host(shared, &place);
    }
    place
}

fn name_host(place: &Place, address: &str) {
    fs::create_dir_all(place.config.join("portage.global")).unwrap();
    fs::write(place.config.join("portage.global/binrepos.conf"), format!("[own]\nsync-uri = {address}\n")).unwrap();
}

/// Exported by the keyring's owner, as any binhost publishes its key.
fn trust_host(shared: &Shared, place: &Place) {
    place.run(&["keys", "import", "--trust", "--comment", "binhost", shared.place.path("sign_key.asc").to_str().unwrap()]).ok();
}

fn bootstrap(shared: &Shared, place: &Place, profile: &str) -> crate::place::Ran {
    place.run(&["bootstrap", profile, shared.testbed.stage3.to_str().unwrap()])
}

#[test]
fn sessions_install_from_a_binhost_only_what_its_key_has_signed() {
    let Some(shared) = shared() else { return };
    let dir = fresh(&shared.place, "binhost-b");
    // Of a run that failed, in a place that is kept.
    for profile in ["binhost-c", "binhost-gone", "binhost-here"] {
        shared.place.run(&["profile", "rm", "--force", profile]);
    }
    export(&shared.place, &dir);
    let good = fresh(&shared.place, "binhost-good");
    copy(&dir, &good);
    let host = Host::of(&dir);
    let host_address = host.address.clone();

    // Nobody knows the key.
    let stranger = client(&shared, "binhost-stranger", &host.address, false);
    let refused = bootstrap(&shared, &stranger, "binhost-c").fails(4).says("error: cannot trust `own/");
    let by = format!("caused by: signed by {}, which is not a release key this configuration trusts", shared.key);
    refused.says("caused by: the signature of its `Manifest` does not count\n").says(&by).says("hint: if that key is right");

    // Not signed, and changed.
    let place = client(&shared, "binhost-client", &host.address, true);
    let index = |dir: &Path| fs::read_to_string(dir.join("Packages")).unwrap();
    let pool: Value =
        serde_json::from_str(&shared.place.run(&["binhost", "export", "--json", dir.to_str().unwrap()]).ok().text()).unwrap();
    let unsigned = shared.place.path(&format!("cache/binpkgs/{}/{GREETER}", pool["pool"].as_str().unwrap()));
    fs::copy(&unsigned, dir.join(GREETER)).unwrap();
    fix_index(&dir);
    bootstrap(&shared, &place, "binhost-c")
        .fails(4)
        .says(&format!("error: cannot trust `own/{GREETER}`\ncaused by: it is not signed\n"));
    let mut bytes = fs::read(good.join(GREETER)).unwrap();
    let header = bytes.windows(9).position(|name| name == b"image.tar").unwrap() / 512 * 512;
    bytes[header + 512 + 40] ^= 0xff;
    fs::write(dir.join(GREETER), bytes).unwrap();
    fs::write(dir.join("Packages"), index(&good)).unwrap();
    fs::copy(good.join("Packages.gz"), dir.join("Packages.gz")).unwrap();
    fix_index(&dir);
    let changed = bootstrap(&shared, &place, "binhost-c").fails(4);
    changed
        .says(&format!("error: cannot trust `own/{GREETER}`\ncaused by: `image.tar"))
        .says(" in it does not match its Manifest\n")
        .says("it was not installed");
    assert!(!shared.place.listing().contains("profile/binhost-c/gentoomuch"), "nothing was built");

    // As it should be.
    for name in [GREETER, "Packages", "Packages.gz"] {
        fs::copy(good.join(name), dir.join(name)).unwrap();
    }
    let built = bootstrap(&shared, &place, "binhost-c").ok();
    assert!(!built.stderr.contains("published"), "nothing of a binhost gets into a pool: {built}");
    let shown = place.run(&["store", "show", "--json", "profile/binhost-c/gentoomuch/builder"]).ok();
    let shown: Value = serde_json::from_str(&shown.text()).unwrap();
    let used: Vec<&str> = shown["origin"]["binhost_packages"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
    let wanted = [GREETER, "dev-libs/greet/greet-1.0-1.gpkg.tar", "sys-apps/baselayout/baselayout-2.18-1.gpkg.tar"];
    assert_eq!(used, wanted.map(|path| format!("own/{path}")));
    let layer = shared.place.store().join("layers").join(shown["layers"].as_array().unwrap().last().unwrap().as_str().unwrap());
    let names: Vec<_> = fs::read_dir(layer.join("fs/etc/portage/binrepos.conf")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["50-gentoomuch.conf"]);
    assert!(!layer.join("fs/var/cache/binhost").exists() && !layer.join("fs/var/cache/edb/binhost").exists());
    // By hand, it is as in a build.
    let emerge = ["freshroot", "--profile", "binhost-c", "--", "emerge", "--getbinpkgonly", "--oneshot", "app-misc/hello"];
    assert!(place.run(&emerge).ok().text().contains("Emerging binary (1 of 1) app-misc/hello-2.10"));
    // Whatever comes by another way than ours, Portage refuses it, too.
    fs::copy(&unsigned, dir.join(GREETER)).unwrap();
    fix_index(&dir);
    let script = format!(
        r#"set -e
        printf '#!/bin/sh\ncp "/mnt/host/${{3#{host_address}/}}" "$1/$2"\n' >/usr/local/bin/own-fetch; chmod +x /usr/local/bin/own-fetch
        sed -i 's|^fetchcommand = .*|fetchcommand = /usr/local/bin/own-fetch "${{DISTDIR}}" "${{FILE}}" "${{URI}}"|' \
            /etc/portage/binrepos.conf/zz-gentoomuch-session.conf
        emerge --getbinpkgonly --oneshot app-misc/greeter"#
    );
    let bind = format!("{}:/mnt/host:ro", dir.display());
    let refused = place.run(&["freshroot", "--profile", "binhost-c", "--bind", &bind, "--", "sh", "-c", &script]).fails(1);
    assert!((refused.text() + &refused.stderr).contains("binpkg appears unsigned"), "{refused}");

    // A host that is gone is said once, however many runs of emerge find it out. Everything is in the pool.
    drop(host);
    let place_without = shared.place.with_config(shared.config_with_world("binhost-gone", "app-misc/greeter"));
    name_host(&place_without, &host_address);
    trust_host(&shared, &place_without);
    let gone = bootstrap(&shared, &place_without, "binhost-gone").ok();
    let told = |ran: &crate::place::Ran| ran.stderr.matches("binhost `own`: ").count();
    assert_eq!(told(&gone), 1, "{gone}");
    gone.says("; packages that it may have are built from source");
    shared.place.run(&["profile", "rm", "binhost-gone"]).ok();
    // As a directory, it needs neither a server nor a network.
    let here = client(&shared, "binhost-here", &format!("file://{}", good.display()), true);
    let offline = here.run(&["--offline", "bootstrap", "binhost-here", shared.testbed.stage3.to_str().unwrap()]).ok();
    assert_eq!(told(&offline), 0, "{offline}");
    let shown = here.run(&["store", "show", "--json", "profile/binhost-here/gentoomuch/builder"]).ok();
    assert!(shown.text().contains(&format!("\"own/{GREETER}\"")), "{shown}");
    shared.place.run(&["profile", "rm", "binhost-here"]).ok();

    // Not to be verified: that cannot be had.
    let conf = place.config.join("portage.global/binrepos.conf");
    fs::write(&conf, "[own]\nsync-uri = http://127.0.0.1:9\nverify-signature = false\n").unwrap();
    let refused = bootstrap(&shared, &place, "binhost-c").fails(3);
    refused.says("portage.global/binrepos.conf:3: signatures of a binary package host are always verified");
    shared.place.run(&["profile", "rm", "binhost-c"]).ok();
}

#[test]
fn a_definition_that_takes_nothing_of_hosts_asks_none() {
    let Some(shared) = shared() else { return };
    shared.place.run(&["profile", "rm", "--force", "binhost-none"]);
    // With the settings of the shared builder: everything is in the pool. Nobody listens at the address.
    let place = shared.place.with_config(shared.config_with_world("binhost-none", "app-misc/greeter"));
    name_host(&place, "http://127.0.0.1:9");
    trust_host(&shared, &place);
    fs::write(place.config.join("stage3.defines/gentoomuch/builder/binhost"), "none\n").unwrap();
    let built = bootstrap(&shared, &place, "binhost-none").ok();
    assert!(!built.stderr.contains("binhost `own`"), "{built}");
    shared.place.run(&["profile", "rm", "binhost-none"]).ok();
}

#[test]
#[ignore = "long: a builder and its update"]
fn the_first_builder_is_a_hosts_and_its_update_is_ones_own() {
    let Some(shared) = shared() else { return };
    shared.place.run(&["profile", "rm", "--force", "binhost-first"]);
    let dir = fresh(&shared.place, "binhost-e");
    export(&shared.place, &dir);
    let host = Host::of(&dir);
    // Flags of this run only: what the update publishes would be found by the next one, in a place that is kept.
    let place = client(&shared, &format!("binhost-first{}", std::process::id()), &host.address, true);
    fs::write(place.config.join("env/binhost"), "first\n").unwrap();
    let shown = || -> Value {
        let ran = place.run(&["store", "show", "--json", "profile/binhost-first/gentoomuch/builder"]).ok();
        serde_json::from_str(&ran.text()).unwrap()
    };
    let built = bootstrap(&shared, &place, "binhost-first").ok();
    assert!(!built.stderr.contains("published"), "nothing of a binhost gets into a pool: {built}");
    built.says("`gentoomuch profile update binhost-first` compiles them with your flags");
    let first = shown();
    assert!(first["origin"]["binhost_packages"].to_string().contains(&format!("\"own/{GREETER}\"")), "{first}");
    assert!(bootstrap(&shared, &place, "binhost-first").ok().value("builder").ends_with("(unchanged)"));
    // What stands on it takes them, too.
    let stage = || -> Value {
        place.run(&["stage", "build", "binhost-first", "--no-export"]).ok();
        serde_json::from_str(&place.run(&["store", "show", "--json", "stage4/binhost-first"]).ok().text()).unwrap()
    };
    for (file, text) in [("profile", "binhost-first"), ("stage3", "gentoomuch/builder"), ("packages", "app-misc/hello")] {
        let dir = place.config.join("stage4.defines/binhost-first");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(file), format!("{text}\n")).unwrap();
    }
    let early = stage();
    assert!(early["origin"].to_string().contains(&format!("\"own/{GREETER}\"")), "{early}");

    // From now on nobody is asked: the host is gone, which would be told.
    drop(host);
    let pretended = place.run(&["profile", "update", "--pretend", "binhost-first"]).ok().says_nothing_of("binhost `own`").text();
    assert!(pretended.starts_with("@world anew, since packages came from a binary package host\n"), "{pretended}");
    assert!(pretended.contains("[ebuild   R    ] app-misc/greeter-1.0"), "{pretended}");
    let updated = place.run(&["profile", "update", "binhost-first"]).ok();
    updated
        .says_nothing_of("binhost `own`")
        .says("rebuilding all packages that were not built here")
        .says("binary packages published in");
    let own = shown();
    assert_eq!((&own["origin"]["binhost_packages"], own["id"] == first["id"]), (&Value::Null, false), "{own}");
    assert_eq!(own["origin"]["inputs"]["binary package hosts"], "none", "{own}");
    let late = stage();
    assert!(late["id"] != early["id"] && !late["origin"].to_string().contains("\"own/"), "{late}");
    let built = |state: &Value| {
        let mut layers = state["layers"].as_array().unwrap().iter().rev();
        let file = |id: &Value| {
            let layer = shared.place.store().join("layers").join(id.as_str().unwrap());
            fs::read(layer.join("fs/var/db/pkg/app-misc/greeter-1.0/BUILD_TIME")).ok()
        };
        layers.find_map(file).unwrap()
    };
    assert_ne!(built(&early), built(&late), "it is the host's");
    // What a bootstrap would make now is that.
    let again = bootstrap(&shared, &place, "binhost-first").ok().says_nothing_of("binhost `own`");
    assert!(again.value("builder").ends_with("(unchanged)"), "{again}");
    shared.place.run(&["profile", "rm", "--force", "binhost-first"]).ok();
}

/// What a damaged package is made of a whole one by, and whether the index knows of it.
type Damage = (&'static str, fn(&[u8]) -> Vec<u8>, bool);

#[test]
fn a_package_that_is_damaged_ends_with_the_code_of_a_digest() {
    damaged("binhost-damaged", &[("a bit", flipped, false), ("zeros, and the index says so", zeros, true)]);
}

#[test]
#[ignore = "long: the same for other damages"]
fn a_package_that_is_damaged_in_any_way_ends_with_the_code_of_a_digest() {
    let damages: [Damage; 4] = [
        ("cut off", half, false),
        ("longer", |whole| [whole, &[0; 512]].concat(), false),
        ("zeros", zeros, false),
        ("cut off, and the index says so", half, true),
    ];
    damaged("binhost-damages", &damages);
}

fn flipped(whole: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    bytes[whole.len() / 2] ^= 1;
    bytes
}

fn zeros(whole: &[u8]) -> Vec<u8> {
    vec![0; whole.len()]
}

fn half(whole: &[u8]) -> Vec<u8> {
    whole[..whole.len() / 2].to_vec()
}

fn damaged(profile: &str, damages: &[Damage]) {
    let Some(shared) = shared() else { return };
    let dir = fresh(&shared.place, profile);
    shared.place.run(&["profile", "rm", "--force", profile]);
    export(&shared.place, &dir);
    let good = fresh(&shared.place, &format!("{profile}-whole"));
    copy(&dir, &good);
    let host = Host::of(&dir);
    let place = client(&shared, profile, &host.address, true);
    let whole = fs::read(good.join(GREETER)).unwrap();
    for &(what, damage, index) in damages {
        fs::write(dir.join(GREETER), damage(&whole)).unwrap();
        for name in ["Packages", "Packages.gz"] {
            fs::copy(good.join(name), dir.join(name)).unwrap();
        }
        if index {
            fix_index(&dir);
        }
        let ran = bootstrap(&shared, &place, profile);
        assert_eq!(ran.status.code(), Some(4), "{what}: {ran}");
        ran.says(&format!("error: cannot trust `own/{GREETER}`\n")).says("it was not installed");
    }
    shared.place.run(&["profile", "rm", "--force", profile]);
}
