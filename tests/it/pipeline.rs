//! `pipeline`: a graph of stage4s, built side by side, killed and interrupted at each step, resumed, and left alone when nothing has changed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::child;
use crate::place::{Place, Ran, command_line, run};
use crate::shared::{BULK, User, shared};
use crate::tiny::sum;
use crate::traced;

/// Three stage4s of the test's own, of which two share a stage3 definition that is theirs alone, with a make that knows named pipes.
fn fleet(test: &str) -> Option<(User, Place, Names)> {
    let shared = shared()?;
    let config = shared.config(&format!("pipeline {test}"));
    let names = Names::new(test);
    for example in ["hello", "server", "container"] {
        fs::remove_dir_all(config.join("stage4.defines").join(example)).unwrap();
    }
    let place = shared.place.with_config(config);
    let (fleet, one, two, three) = (&names.fleet, &names.one, &names.two, &names.three);
    // For these alone: all other packages would be compiled anew, too.
    set(&place, &format!("portage.locals/{fleet}/env/slow"), "SLOW_UNITS=\"16\"\nSLOW_TIMED=\"1\"\nMANY_FILES=\"3\"");
    let of_these = ["app-misc/slow", "app-fleet/slow", "app-misc/manyfiles"].map(|package| format!("{package} slow"));
    set(&place, &format!("portage.locals/{fleet}/package.env"), &of_these.join("\n"));
    // Portage takes patches into account when it picks binary packages: with one of its own, no run installs what another has built.
    let patch = format!("--- /dev/null\n+++ b/{fleet}\n@@ -0,0 +1 @@\n+built for one test");
    for category in ["app-misc", "app-fleet"] {
        set(&place, &format!("portage.locals/{fleet}/patches/{category}/slow/{fleet}.patch"), &patch);
    }
    set(
        &place,
        &format!("portage.locals/{fleet}/repos.conf/fleet.conf"),
        &format!("[{repo}]\nlocation = /var/db/repos/{repo}\nmasters = gentoo", repo = repository(test)),
    );
    place.run(&["sync", "--from", tree(&shared, &place, test).to_str().unwrap()]).ok();
    set(&place, &format!("stage3.defines/{fleet}/cpu"), "generic-amd64");
    set(&place, &format!("stage3.defines/{fleet}/portage.local"), fleet);
    set(&place, &format!("stage3.defines/{fleet}/packages"), "dev-build/gnumake");
    stage4(&place, one, fleet, "app-misc/slow");
    // What both compiled would be compiled once.
    stage4(&place, two, fleet, "app-fleet/slow\napp-misc/manyfiles");
    stage4(&place, three, "plain", "app-text/tree");
    Some((shared, place, names))
}

/// What a package says when it is compiled.
const COMPILED: &str = "nobody else compiles this";

/// What the tree of a test is called. All tests of a place share its store, where each name leads to one tree.
fn repository(test: &str) -> String {
    format!("fleet-{test}")
}

/// A tree with another slow package, and one that takes some seconds, of a version that no run before had.
fn tree(shared: &User, place: &Place, test: &str) -> PathBuf {
    let tree = place.path(&format!("fleet-tree-{test}"));
    if tree.exists() {
        fs::remove_dir_all(&tree).unwrap();
    }
    let write = |path: &str, text: &str| {
        fs::create_dir_all(tree.join(path).parent().unwrap()).unwrap();
        fs::write(tree.join(path), text).unwrap();
    };
    write("profiles/repo_name", &format!("{}\n", repository(test)));
    write("profiles/categories", "app-fleet\n");
    write("metadata/layout.conf", "masters = gentoo\nthin-manifests = true\n");
    let testbed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testbed/repo/app-misc/slow/slow-1.0.ebuild");
    write("app-fleet/slow/slow-1.0.ebuild", &fs::read_to_string(testbed).unwrap());
    let source = shared.testbed.distfiles.join("slow-1.0.tar.xz");
    let digests = ["b2sum", "sha512sum"].map(|program| sum(program, &source).split(' ').next().unwrap().to_owned());
    let size = fs::metadata(&source).unwrap().len();
    write("app-fleet/slow/Manifest", &format!("DIST slow-1.0.tar.xz {size} BLAKE2B {} SHA512 {}\n", digests[0], digests[1]));
    let shared = format!(
        "EAPI=8\nDESCRIPTION=\"takes some seconds\"\nSLOT=\"0\"\nKEYWORDS=\"amd64\"\nLICENSE=\"GPL-2\"\nS=\"${{WORKDIR}}\"\n\
         src_compile() {{ echo {COMPILED}; sleep 8; }}\nsrc_install() {{ dodir /usr/share/shared; }}\n"
    );
    write(&format!("app-fleet/shared/shared-{}.ebuild", std::process::id()), &shared);
    write("app-fleet/shared/Manifest", "");
    tree
}

/// What the test's definitions are called: states of earlier runs in a kept place must not be reused.
struct Names {
    fleet: String,
    one: String,
    two: String,
    three: String,
}

impl Names {
    fn new(test: &str) -> Self {
        let name = |what: &str| format!("{test}-{what}-{}", std::process::id());
        Self { fleet: name("fleet"), one: name("one"), two: name("two"), three: name("three") }
    }

    fn base(&self) -> String {
        format!("stage3/demo/{}", self.fleet)
    }
}

fn set(place: &Place, file: &str, text: &str) {
    let path = place.config.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("{text}\n")).unwrap();
}

fn stage4(place: &Place, name: &str, stage3: &str, packages: &str) {
    // tar.zst is the quickest to write, and what is removed takes most of the time.
    let files = [("profile", "demo"), ("stage3", stage3), ("packages", packages), ("format", "tar.zst"), ("removes", BULK)];
    for (file, text) in files {
        set(place, &format!("stage4.defines/{name}/{file}"), text);
    }
}

const RUN: [&str; 2] = ["pipeline", "--no-sign"];

fn pipeline(place: &Place, more: &[&str]) -> Ran {
    place.run(&[&RUN[..], more].concat())
}

/// The results of a run, by node.
fn results(ran: &Ran) -> BTreeMap<String, String> {
    let report: serde_json::Value = serde_json::from_str(&ran.text()).unwrap_or_else(|error| panic!("{error}: {ran}"));
    let nodes = report["nodes"].as_array().unwrap();
    nodes.iter().map(|node| (node["id"].as_str().unwrap().to_owned(), node["result"].as_str().unwrap().to_owned())).collect()
}

/// Starts a run and sends `signal` as soon as it says one of `words`.
fn stop_at(place: &Place, words: &[&str], signal: Signal) -> (Option<i32>, String) {
    let mut command = place.command(&RUN);
    let mut running = child::spawn(&mut command);
    let stderr = running.child().stderr.take().unwrap();
    let pid = Pid::from_raw(i32::try_from(running.id()).unwrap());
    let mut said = String::new();
    let mut sent = false;
    for line in BufReader::new(stderr).lines() {
        let line = line.unwrap();
        said.push_str(&line);
        said.push('\n');
        if !sent && words.iter().any(|words| line.contains(words)) {
            kill(pid, signal).unwrap();
            sent = true;
        }
    }
    assert!(sent, "{words:?} never came: {said}");
    let what = command_line(&command);
    let ended = crate::place::finish(what, running);
    child::assert_no_strangers();
    (ended.status.code(), said)
}

/// Where a run is stopped.
#[derive(Debug, Clone, Copy)]
enum Step {
    World,
    Packages,
    Export,
}

/// Stops a run again and again: what was killed begins anew, what was interrupted goes on.
fn stopped(place: &Place, names: &Names, stops: &[(Step, Signal)]) {
    for &(step, signal) in stops {
        let at = match step {
            Step::World => vec![format!("[{}] * emerging world", names.base())],
            Step::Packages => [&names.one, &names.two].map(|name| format!("[stage4/{name}] * emerging packages")).into(),
            Step::Export => vec!["* exporting".to_owned()],
        };
        let words: Vec<&str> = at.iter().map(String::as_str).collect();
        let (code, said) = stop_at(place, &words, signal);
        let killed = signal == Signal::SIGKILL;
        assert_eq!(code, (!killed).then_some(130), "{words:?} {signal}: {said}");
        if !killed {
            assert!(said.contains("error: interrupted\nhint: repeat the command to go on"), "{said}");
        }
        // What a killed run has left, the next command puts in order before it looks.
        place.run(&["store", "verify"]).ok();
    }
}

#[test]
#[ignore = "long: each step is killed and interrupted"]
fn a_fleet_goes_on_after_each_way_to_stop_it_at_each_step() {
    let Some((_shared, place, names)) = fleet("stopped") else { return };
    let stops = [Step::World, Step::Packages, Step::Export].map(|step| [(step, Signal::SIGKILL), (step, Signal::SIGINT)]);
    stopped(&place, &names, &stops.concat());
    let last = pipeline(&place, &["--json"]).ok();
    assert_eq!(results(&last)[&names.base()], "reused", "{last}");
    child::assert_no_strangers();
    by_make(&place, &names);
}

#[test]
fn a_fleet_is_interrupted_goes_on_and_is_left_alone() {
    let Some((_shared, place, names)) = fleet("fleet") else { return };
    let Names { one, two, three, .. } = &names;
    let base = names.base();

    let dry = pipeline(&place, &["--dry-run"]).ok().text();
    for (id, plan) in [(base.as_str(), "build"), ("stage3/demo/plain", "reuse"), (&format!("stage4/{two}"), "build")] {
        assert!(dry.lines().any(|line| line.split_whitespace().collect::<Vec<_>>().starts_with(&[id, plan])), "{id} {plan}: {dry}");
    }
    assert!(dry.contains("never built") && dry.contains("\n7 of 8 nodes to build"), "{dry}");

    stopped(&place, &names, &[(Step::Packages, Signal::SIGTERM)]);
    let last = pipeline(&place, &["--json"]).ok();
    let results = results(&last);
    assert_eq!(results[&base], "reused", "{last}");
    assert_eq!(results.len(), 8, "{last}");
    child::assert_no_strangers();
    // Other tests use the same store meanwhile.
    let own = place.config.display().to_string();
    for entry in fs::read_dir(place.store().join("sessions")).unwrap().flatten() {
        let record = fs::read_to_string(entry.path().join("session.json")).unwrap_or_default();
        assert!(!record.contains(&own), "left in the store: {record}");
    }

    // What two share is there once.
    let layers = |name: &str| {
        let show: serde_json::Value =
            serde_json::from_str(&place.run(&["store", "show", &format!("stage4/{name}"), "--json"]).ok().text()).unwrap();
        show["layers"].as_array().unwrap().clone()
    };
    assert_eq!(layers(one)[..2], layers(two)[..2]);
    assert_ne!(layers(one)[..2], layers(three)[..2]);
    unchanged(&place);
    one_flag(&place, &names);
    compiled_once(&place, &names);
}

/// Two stage4s need the same package: one compiles it, the other waits for that and takes it from the pool.
fn compiled_once(place: &Place, names: &Names) {
    let Names { fleet, one, two, .. } = names;
    for name in [one, two] {
        stage4(place, name, fleet, "app-fleet/shared");
    }
    let ran = pipeline(place, &["--jobs", "2", "--json", one, two]).ok();
    let results = results(&ran);
    assert_eq!((results[&format!("stage4/{one}")].as_str(), results[&format!("stage4/{two}")].as_str()), ("built", "built"));
    // In logs of theirs: directories of others come and go.
    let of = |path: &PathBuf, name: &str| path.file_name().unwrap().to_str().unwrap().starts_with(&format!("stage-{name}-"));
    let runs = fs::read_dir(place.path("data/logs")).unwrap().flatten().map(|entry| entry.path());
    let mut grep = Command::new("grep");
    grep.args(["-rlF", COMPILED]).args(runs.filter(|path| [one, two].iter().any(|name| of(path, name))));
    grep.arg("--include=*shared*.log");
    let logs = String::from_utf8(child::check(&mut grep)).unwrap();
    assert_eq!(logs.lines().filter(|log| log.contains("/packages/")).count(), 1, "{logs}");
    let waits_for = |who: &str| {
        let words = format!("waiting for app-fleet/shared-{}, which stage4/{who} is compiling\n", std::process::id());
        ran.stderr.contains(&words)
    };
    assert!(waits_for(one) != waits_for(two), "{ran}");
}

/// Nothing is started, nothing is written.
fn unchanged(place: &Place) {
    // Of what is ours: other tests use the same store meanwhile.
    let kept = || {
        let list = place.list();
        let refs = list["refs"].as_array().unwrap().iter().filter(|it| it["name"].as_str().unwrap().contains("fleet-"));
        let logs = fs::read_dir(place.path("data/logs")).unwrap().flatten().map(|log| log.file_name());
        let logs: Vec<_> = logs.filter(|name| name.to_str().unwrap().contains("fleet-")).collect();
        let times = fs::read_to_string(place.path("data/build-times")).unwrap();
        (refs.cloned().collect::<Vec<_>>(), logs.len(), times.lines().filter(|line| line.contains("fleet-")).count())
    };
    let before = kept();
    assert!(before.0.len() >= 4 && before.1 > 0, "{before:?}");
    let (ran, started) = traced::run_idle(|| place.command(&RUN));
    let ran = ran.ok();
    assert_eq!(started, 0, "an unchanged pipeline has started processes: {ran}");
    assert!(ran.text().contains("8 nodes, nothing to do, in ") && ran.stderr.is_empty(), "{ran}");
    assert_eq!(kept(), before);
    let dry = pipeline(place, &["--dry-run"]).ok().text();
    assert!(dry.ends_with("\nnothing to do\n") && !dry.contains("build"), "{dry}");
}

/// One USE flag of one package rebuilds the stages that have the package and nothing else, with no more compilers at once than there are jobs.
fn one_flag(place: &Place, names: &Names) {
    let Names { fleet, one, two, three, .. } = names;
    set(place, &format!("portage.locals/{fleet}/package.use"), "app-misc/slow again\napp-fleet/slow again");
    // Part of no key: what follows is as without it, but for the compilers.
    set(place, "env/jobs", "app-misc/slow 1\napp-fleet/slow 2");
    let dry = pipeline(place, &["--dry-run"]).ok().text();
    let said: Vec<String> = dry.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in [
        format!("{} reuse", names.base()),
        "package.use: + app-misc/slow again".to_owned(),
        "app-misc/slow is in it".to_owned(),
        "stage3/demo/plain reuse".to_owned(),
        format!("stage4/{one} build changed: configuration"),
        format!("stage4/{three} reuse"),
        format!("artifact/{three} reuse"),
    ] {
        assert!(said.contains(&line), "{line:?} is not in\n{dry}");
    }
    // The artifacts at least were built before in one go.
    assert!(said.iter().any(|line| line.starts_with("4 of 8 nodes to build, ") && line.ends_with(" by earlier builds")), "{dry}");
    let ran = pipeline(place, &["--json", "--jobs", "3"]).ok();
    let results = results(&ran);
    for (id, result) in [
        (names.base(), "reused"),
        (format!("stage4/{one}"), "built"),
        (format!("stage4/{two}"), "built"),
        (format!("stage4/{three}"), "reused"),
        (format!("artifact/{two}"), "built"),
        (format!("artifact/{three}"), "reused"),
        ("stage3/demo/plain".to_owned(), "reused"),
    ] {
        assert_eq!(results[&id], result, "{id}: {ran}");
    }
    let report: serde_json::Value = serde_json::from_str(&ran.text()).unwrap();
    assert_eq!(report["jobs"], 3);
    let node = report["nodes"].as_array().unwrap().iter().find(|node| node["id"] == format!("stage4/{one}").as_str()).unwrap();
    assert_eq!(node["why"][0]["input"], "configuration of packages", "{node}");
    assert!(node["size_bytes"].as_u64().unwrap() > 0 && node["seconds"].as_f64().unwrap() > 0.0, "{node}");

    let most = compilers(place, &[one, two]);
    assert!((2..=3).contains(&most), "{most} compilers ran at the same time, with 3 jobs for both stages");
    let [one, two] = [one, two].map(|name| compilers(place, &[name]));
    assert!(one == 1 && two <= 2, "{one} and {two} compilers of packages that have 1 and 2 jobs");
}

/// How many compilers ran at the same time at most in the newest builds of these stage4s, by what their logs say.
fn compilers(place: &Place, stages: &[&String]) -> i32 {
    let mut events: Vec<(String, i32)> = Vec::new();
    for stage in stages {
        let mut logs: Vec<PathBuf> = fs::read_dir(place.path("data/logs"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&format!("stage-{stage}-")))
            .collect();
        logs.sort_by_key(|path| fs::metadata(path).unwrap().created().unwrap());
        let packages = logs.last().unwrap().join("packages");
        for log in fs::read_dir(&packages).unwrap().flatten().filter(|log| log.file_name().to_str().unwrap().contains("slow")) {
            let text = fs::read_to_string(log.path()).unwrap();
            assert!(!text.contains("jobserver unavailable"), "{text}");
            for line in text.lines() {
                events.extend(line.strip_prefix("compiler ends ").map(|at| (at.to_owned(), -1)));
                events.extend(line.strip_prefix("compiler begins ").map(|at| (at.to_owned(), 1)));
            }
        }
    }
    assert!(events.len() >= stages.len() * 2 * 16, "all were compiled: {}", events.len());
    events.sort();
    let running = events.iter().scan(0, |running, (_, step)| {
        *running += step;
        Some(*running)
    });
    running.max().unwrap()
}

/// The graph in each form; make runs it, two nodes at a time.
fn by_make(place: &Place, names: &Names) {
    let Names { one, three, .. } = names;
    stage4(place, three, "plain", "app-text/tree\napp-misc/hello");
    set(place, &format!("stage4.defines/{one}/removes"), &format!("{BULK}/usr/share/doc/none"));
    let plan = |format: &str| place.run(&["pipeline", "plan", "--no-sign", "--format", format]).ok().text();
    let json: serde_json::Value = serde_json::from_str(&plan("json")).unwrap();
    let nodes = json["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|node| node["id"] == format!("stage4/{three}").as_str()).unwrap();
    assert_eq!((&node["build"], &node["needs"]), (&true.into(), &serde_json::json!(["stage3/demo/plain"])), "{node}");
    assert_eq!(node["why"][0]["detail"], serde_json::json!(["+ app-misc/hello"]), "{node}");
    let dot = plan("dot");
    assert!(dot.contains(&format!("\"stage4/{three}\" [style=filled];")), "{dot}");
    assert!(dot.contains(&format!("\"{}\" -> \"stage4/{one}\";", names.base())), "{dot}");

    // As the matrices of GitHub read it.
    let lists: serde_json::Value = serde_json::from_str(&plan("github")).unwrap();
    let mut bases = [names.base(), "stage3/demo/plain".to_owned()];
    bases.sort();
    assert_eq!(lists["stage3"], serde_json::json!(bases), "{lists}");
    assert!(lists["artifact"].as_array().unwrap().contains(&format!("artifact/{one}").into()), "{lists}");

    // Nodes are called as the plan was.
    let told = place
        .run(&["pipeline", "plan", "--format", "make", "--remote", "none", "--offline", "--push", "--data", "data"])
        .ok()
        .text();
    assert!(told.contains("\nFLAGS ?= --jobs 2 --data=data --remote=none --push --offline\n"), "{told}");
    place.run(&["pipeline", "plan", "--format", "make", "--remote", "dir:/a $(b)"]).fails(2).says(
        "error: a plan cannot hold `--remote dir:/a $(b)`\nhint: set `GENTOOMUCH_REMOTE` instead, here and where the nodes run\n",
    );
    // Formats without commands have none of them.
    place.run(&["pipeline", "plan", "--format", "dot", "--remote", "dir:/a $(b)"]).ok();

    let id = format!("artifact/{three}");
    place
        .run(&["pipeline", "node", "--no-sign", &id])
        .fails(2)
        .says(&format!("hint: run `gentoomuch pipeline node stage4/{three}` first"));
    place.run(&["pipeline", "node", "stage4/nobody"]).fails(2).says("error: there is no node `stage4/nobody`\nhint: there are: ");

    fs::write(place.path("pipeline.mk"), plan("make")).unwrap();
    let program = format!("GENTOOMUCH={}", env!("CARGO_BIN_EXE_gentoomuch"));
    let mut make = Command::new("make");
    make.args(["-j2", "-f", "pipeline.mk", &program])
        .env_clear()
        .envs(place.environment())
        .current_dir(&place.dir)
        .stdin(Stdio::null());
    let made = run(&mut make).ok();
    assert!(made.text().contains(&format!("pipeline node --jobs 2 --no-sign artifact/{one}")), "{made}");
    let all = place.run(&["pipeline", "--no-sign", "--json"]).ok();
    assert!(results(&all).values().all(|result| result == "reused"), "{all}");
}

#[test]
fn after_a_failure_the_rest_is_built_or_not_begun() {
    let Some(shared) = shared() else { return };
    let config = shared.config("pipeline failing");
    let place = shared.place.with_config(config);
    for example in ["hello", "server", "container"] {
        fs::remove_dir_all(place.config.join("stage4.defines").join(example)).unwrap();
    }
    let name = |what: &str| format!("{what}-{}", std::process::id());
    let (bad, good) = (name("bad"), name("good"));
    stage4(&place, &bad, "plain", "app-misc/broken");
    stage4(&place, &good, "plain", "app-text/tree");

    let at_once = |more: &[&str], runner: Option<&str>| {
        let mut command = place.command(&[&RUN[..], &["--jobs", "1"], more].concat());
        run(command.envs(runner.map(|name| (name, "true"))))
    };
    let ran = at_once(&[], Some("GITLAB_CI")).fails(6);
    assert_eq!(result_of(&ran, &format!("stage4/{good}")), "not begun", "{ran}");
    assert_eq!(result_of(&ran, &format!("artifact/{bad}")), "skipped", "{ran}");
    let section = format!("stage4_{}", bad.replace('-', "_"));
    for words in [
        format!("error: cannot build `stage4/{bad}`\ncaused by: `app-misc/broken-1.0` failed in its compile phase\n"),
        "hint: use `--keep-going` to build the nodes that do not need a failed one\n".to_owned(),
        "[0Ksection_start:".to_owned(),
        format!(":{section}[collapsed=true]\r\x1b[0Kstage4/{bad} failed after "),
        format!(":{section}\r\x1b[0K\n"),
    ] {
        assert!(ran.stderr.contains(&words), "{words:?} is not in {ran}");
    }

    let ran = at_once(&["--keep-going"], Some("GITHUB_ACTIONS")).fails(6);
    assert_eq!(result_of(&ran, &format!("stage4/{good}")), "built", "{ran}");
    assert_eq!(result_of(&ran, &format!("artifact/{good}")), "built", "{ran}");
    for words in [
        format!("stage4/{bad}: begun\n"),
        format!("::group::stage4/{bad} failed after "),
        format!("::error title=stage4/{bad}::failed after "),
        format!("::group::stage4/{good} built in "),
        "* building stage4 ".to_owned(),
        "::endgroup::\n".to_owned(),
        "error: 1 of 5 nodes failed, 1 that need them were skipped\n".to_owned(),
    ] {
        assert!(ran.stderr.contains(&words), "{words:?} is not in {ran}");
    }
    assert_eq!(ran.stderr.matches("::group::").count(), ran.stderr.matches("::endgroup::").count());

    // As JSON, and with nothing but results and errors.
    let ran = at_once(&["--keep-going", "--json", "--quiet"], None).fails(6);
    let results = results(&ran);
    assert_eq!((results[&format!("stage4/{bad}")].as_str(), results[&format!("stage4/{good}")].as_str()), ("failed", "reused"));
    assert!(ran.stderr.starts_with("error: "), "{ran}");
    let ran = at_once(&["--keep-going", "--log-format", "json"], None).fails(6);
    let lines: Vec<serde_json::Value> = ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["node"] == format!("stage4/{bad}").as_str() && line["kind"] == "step"), "{ran}");
    assert_eq!(lines.last().unwrap()["exit_code"], 6, "{ran}");
}

/// What the table says about a node.
fn result_of(ran: &Ran, id: &str) -> String {
    let text = ran.text();
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(id)).unwrap_or_else(|| panic!("no {id} in {ran}"));
    let rest = line[id.len()..].trim_start();
    if rest.starts_with("not begun") { "not begun".to_owned() } else { rest.split_whitespace().next().unwrap().to_owned() }
}

#[test]
fn what_is_wrong_is_said_before_anything_is_built() {
    let Some(shared) = shared() else { return };
    let place = shared.place.with_config(shared.config("pipeline wrong"));
    pipeline(&place, &["nobody"]).fails(3).says("error: there is no stage4 definition `nobody`");
    // Of all stages at once.
    set(&place, "stage4.defines/hello/format", "zip");
    set(&place, "stage4.defines/server/format", "rar");
    let ran = pipeline(&place, &[]).fails(3).says("stage4.defines/hello/format:1: ").says("stage4.defines/server/format:1: ");
    assert!(!ran.stderr.contains("building"), "{ran}");
    for example in ["hello", "server"] {
        fs::remove_file(place.config.join(format!("stage4.defines/{example}/format"))).unwrap();
    }
    set(&place, "stage4.defines/hello/profile", "elsewhere");
    pipeline(&place, &[])
        .fails(2)
        .says("error: profile `elsewhere` is not bootstrapped")
        .says("`stage4.defines/hello/profile:1` names it");
    for dir in fs::read_dir(place.config.join("stage4.defines")).unwrap().flatten() {
        fs::remove_dir_all(dir.path()).unwrap();
    }
    assert_eq!(pipeline(&place, &[]).ok().text(), "no stage4 definitions: nothing to do\n");
}

#[test]
fn a_tree_that_comes_meanwhile_is_for_the_next_run() {
    let Some(shared) = shared() else { return };
    let place = shared.place.with_config(shared.config("pipeline seam"));
    let (stage3, name) = (format!("seam-base-{}", std::process::id()), format!("seam-{}", std::process::id()));
    let overlay = place.path("seam-overlay");
    let bring = |marker: &str| {
        for (file, text) in [("profiles/repo_name", "seam"), ("metadata/layout.conf", "masters = gentoo"), ("marker", marker)] {
            let path = overlay.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
        place.run(&["sync", "--from", overlay.to_str().unwrap()]).ok();
    };
    bring("one");
    set(&place, "portage.locals/seam/repos.conf", "[seam]\nlocation = /var/db/repos/seam");
    set(&place, "user.scripts/seam", "#!/bin/sh\ncp /var/db/repos/seam/marker /etc/seam");
    for (file, text) in [("cpu", "generic-amd64"), ("portage.local", "seam"), ("scripts", "seam")] {
        set(&place, &format!("stage3.defines/{stage3}/{file}"), text);
    }
    stage4(&place, &name, &stage3, "");
    set(&place, &format!("stage4.defines/{name}/scripts"), "seam");

    let mut command = place.command(&[&RUN[..], &[&name]].concat());
    let mut running = child::spawn(&mut command);
    let mut said = String::new();
    let mut stderr = BufReader::new(running.child().stderr.take().unwrap());
    while !said.contains("* emerging world") {
        assert_ne!(stderr.read_line(&mut said).unwrap(), 0, "{said}");
    }
    bring("two");
    std::io::copy(&mut stderr, &mut std::io::sink()).unwrap();
    crate::place::finish(command_line(&command), running).ok();
    // Its build key says that it was made with the first.
    assert_eq!(place.run(&["cp", &format!("stage4/{name}:/etc/seam"), "-"]).ok().text(), "one\n");
    let dry = pipeline(&place, &["--dry-run", &name]).ok().text();
    assert!(dry.contains("changed: trees"), "{dry}");
    pipeline(&place, &[&name]).ok();
    assert_eq!(place.run(&["cp", &format!("stage4/{name}:/etc/seam"), "-"]).ok().text(), "two\n");
}

#[test]
fn other_words_for_the_same_key_are_learnt_once() {
    let Some(shared) = shared() else { return };
    let place = shared.place.with_config(shared.config("pipeline words"));
    let args = ["pipeline", "hello", "--format", "tar.zst"];
    let dry = || place.run(&[&args[..], &["--dry-run"]].concat()).ok().text();
    assert!(dry().ends_with("\nnothing to do\n"), "{}", dry());
    fs::write(place.config.join("env/sign_key"), "shared@example.org\n").unwrap();
    // Only gpg knows that it is the same key.
    assert!(dry().contains("signed by another key"), "{}", dry());
    let ran = place.run(&args).ok();
    assert!(!ran.stderr.contains("exporting"), "{ran}");
    assert!(!dry().contains("signed by another key"), "{}", dry());
    fs::write(place.config.join("env/sign_key"), format!("{}\n", shared.key)).unwrap();
    assert!(!dry().contains("signed by another key"), "a fingerprint needs nobody: {}", dry());

    // Which binary packages a definition takes decides what is built, wherever it is said; the usual words change nothing.
    for (file, word, changed) in [
        ("stage3.defines/plain/binpkgs", "shared", None),
        ("stage3.defines/plain/binpkgs", "own", Some("changed: binary packages")),
        ("env/binhost", "any", None),
        ("env/binhost", "none", Some("changed: binary package hosts")),
    ] {
        set(&place, file, word);
        let said = dry();
        assert_eq!(said.lines().any(|line| line.trim_end().ends_with(changed.unwrap_or("changed: "))), changed.is_some(), "{said}");
        fs::remove_file(place.config.join(file)).unwrap();
        assert!(!dry().contains("changed: "), "{}", dry());
    }
}
