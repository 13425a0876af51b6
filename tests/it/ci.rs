//! The CI files that users copy (`docs/src/ci`): their steps, run here as an engine would run them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::child;
use crate::gpg::Gpg;
use crate::host;
use crate::place::{Place, Ran, build_quickly, copy, run, shipped_config};
use crate::shared::small_world;

/// In the order in which a job needs them.
const STEPS: [&str; 6] = ["host", "restore", "check", "build", "audit", "save"];

fn files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/src/ci")
}

/// The steps of `fleet` that each file runs, job by job as they stand there.
fn steps() -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(files()).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let text = fs::read_to_string(entry.path()).unwrap();
        let commands = text.lines().map(|line| line.trim_start().trim_start_matches("- ").trim_start_matches("run: "));
        let steps = commands.filter_map(|line| line.trim_start_matches('/').strip_prefix("ci/fleet ").map(str::to_owned));
        if name.ends_with("ml") {
            found.insert(name, steps.collect());
        }
    }
    found
}

#[test]
fn the_files_of_all_engines_run_the_same_steps() {
    let expected = [
        ("forgejo.yml", &["host", "check", "build", "audit"][..]),
        ("github.yml", &STEPS),
        ("gitlab.yml", &["host", "check", "host", "restore", "check", "build", "audit", "save"]),
        ("kubernetes.yaml", &["host", "check", "build", "audit"]),
    ];
    let expected = expected.map(|(name, steps)| (name.to_owned(), steps.iter().map(|step| (*step).to_owned()).collect()));
    assert_eq!(steps(), BTreeMap::from(expected));
    let usage = run(Command::new(files().join("fleet")).arg("deploy")).fails(2);
    usage.says(&format!("fleet: usage: fleet {}\n", STEPS.join("|")));
}

/// A checkout of a fleet's configuration, as a runner has it.
struct Checkout {
    place: Place,
    dir: PathBuf,
}

impl Checkout {
    fn step(&self, step: &str) -> Ran {
        let mut command = Command::new(self.dir.join("ci/fleet"));
        let program = Path::new(env!("CARGO_BIN_EXE_gentoomuch")).parent().unwrap();
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", program.display());
        let ours = self.place.environment().into_iter().filter(|(name, _)| name == "HOME" || name == "GNUPGHOME");
        command.arg(step).env_clear().envs(ours).env("PATH", path).current_dir(&self.dir).stdin(Stdio::null());
        command.env("STAGE3", "amd64-testbed").env("BOOTSTRAP", "--no-rebuild");
        run(&mut command)
    }

    fn pipeline(&self) -> BTreeMap<String, String> {
        let text = fs::read_to_string(self.dir.join(".gentoomuch/pipeline.json")).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let word = |node: &serde_json::Value, name: &str| node[name].as_str().unwrap().to_owned();
        value["nodes"].as_array().unwrap().iter().map(|node| (word(node, "id"), word(node, "result"))).collect()
    }
}

#[test]
#[ignore = "long: a fleet is built on a runner that has nothing, and again on another with what the first has kept"]
fn an_empty_runner_goes_on_with_what_another_has_kept() {
    let (Some(testbed), Some(place)) = (host::testbed(), Place::new()) else { return };
    let keyring = Gpg::new();
    let dir = place.path("check out");
    let config = dir.join("config");
    fs::create_dir_all(dir.join("ci")).unwrap();
    copy(&files().join("fleet"), &dir.join("ci/fleet"));
    copy(&shipped_config(), &config);
    build_quickly(&config);
    small_world(&config, "app-misc/hello");
    for other in ["container", "server"] {
        fs::remove_dir_all(config.join("stage4.defines").join(other)).unwrap();
    }
    fs::write(config.join("stage4.defines/hello/packages"), "app-misc/hello\n").unwrap();

    let release = testbed.distfiles.parent().unwrap();
    let mut serve = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testbed/serve"));
    let mut server = child::start(serve.arg(release).stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut mirror = String::new();
    BufReader::new(server.child().stdout.take().unwrap()).read_line(&mut mirror).unwrap();
    let mirror = mirror.trim();
    let date = testbed.tree.file_name().unwrap().to_str().unwrap().trim_start_matches("gentoo-").trim_end_matches(".tar.xz");
    let repository = format!("[gentoo]\nsync-type = webrsync\nsync-uri = {mirror}\n");
    fs::write(config.join("portage.global/repos.conf"), repository).unwrap();
    fs::write(config.join("env/tree"), format!("gentoo {date}\n")).unwrap();
    let make_conf = config.join("portage.global/make.conf");
    let text = fs::read_to_string(&make_conf).unwrap();
    fs::write(&make_conf, format!("{text}GENTOO_MIRRORS=\"{mirror}\"\n")).unwrap();
    fs::write(config.join("env/sign_key"), keyring.key("Fleet <fleet@example.org>", "never") + "\n").unwrap();
    let checkout = Checkout { place: place.with_config(config), dir };
    std::os::unix::fs::symlink(&keyring.home, place.path("gnupg")).unwrap();
    checkout.place.run(&["keys", "import", "--trust", "--comment", "testbed", testbed.key.to_str().unwrap()]).ok();

    checkout.step("host").ok();
    checkout.step("restore").ok().says("nothing is kept of data").says("nothing is kept of cache");
    checkout.step("check").ok();
    checkout.step("build").ok().says("building stage4 hello");
    assert_eq!(checkout.pipeline()["stage4/hello"], "built");
    // The testbed's tree has no advisories, and nobody takes that for none.
    checkout.step("audit").fails(10).says("glsa");
    checkout.step("save").ok();
    // Another runner: the same checkout and what the engine has kept, and nothing else.
    let wipe = "find \"$1\" -mindepth 1 -delete && rmdir \"$1\"";
    child::in_ids(wipe, &[&checkout.dir.join(".gentoomuch")]);
    checkout.step("restore").ok();
    let again = checkout.step("build").ok();
    assert!(!again.stderr.contains("building"), "{again}");
    let results = checkout.pipeline();
    assert!(results.len() >= 2 && results.values().all(|result| result == "reused" || result == "unchanged"), "{results:?}");
    let mut deep = place.command(&["store", "verify", "--deep"]);
    run(deep.env("GENTOOMUCH_DATA", checkout.dir.join(".gentoomuch/data"))).ok();
    // What a full disk or a signal leaves of a step takes nothing away.
    fs::write(checkout.dir.join(".kept/data.new"), "cut off").unwrap();
    checkout.step("save").ok();
    assert!(!checkout.dir.join(".kept/data.new").exists());
    child::in_ids(wipe, &[&checkout.dir.join(".gentoomuch")]);
    drop(server.child().stdin.take());
}
