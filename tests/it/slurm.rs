//! The nodes of a pipeline as jobs of a Slurm cluster of two nodes, which `tests/slurm/cluster` starts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::child::{self, Known};
use crate::folder::{Folder, another, trust};
use crate::host;
use crate::interruption::slow;
use crate::place::{Place, Ran, command_line, finish, run};
use crate::registry::{Kind, PASSWORD, Registry};
use crate::shared::{BULK, User};

/// Runs until it is dropped.
struct Cluster {
    dir: tempfile::TempDir,
}

impl Cluster {
    fn new() -> Option<Self> {
        let all = ["slurmctld", "slurmd", "sbatch", "munged"];
        if !all.into_iter().all(host::has) {
            return None;
        }
        let cluster = Self { dir: tempfile::Builder::new().prefix("gm").tempdir().unwrap() };
        // Two at the same time have other ports.
        let port = 20_000 + std::process::id() % 10_000 * 4;
        cluster.ask(&["start"], &[&port.to_string()]);
        Some(cluster)
    }

    fn ask(&self, what: &[&str], more: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slurm/cluster");
        // Its daemons are not ours to wait for, and would hold a pipe open.
        let log = fs::File::options().append(true).create(true).open(self.dir.path().join("script.log")).unwrap();
        let mut command = Command::new(script);
        command.args(what).arg(self.dir.path()).args(more).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let status = child::start(&mut command).child().wait().unwrap();
        let said = || fs::read_to_string(self.dir.path().join("script.log")).unwrap_or_default();
        assert!(status.success(), "{what:?} {more:?}: {}", said());
    }

    fn configuration(&self) -> PathBuf {
        self.dir.path().join("slurm.conf")
    }

    /// What `squeue` says of the jobs that run or wait: state and node.
    fn queue(&self) -> Vec<(String, String)> {
        let mut command = Command::new("squeue");
        command.args(["--noheader", "--format=%T %N"]).env("SLURM_CONF", self.configuration());
        // A controller that was killed answers nothing.
        let output = child::spawn(command.stdin(Stdio::null())).output();
        let lines = String::from_utf8(output.stdout).unwrap();
        let pair = |line: &str| line.split_once(' ').map(|(state, node)| (state.to_owned(), node.trim().to_owned()));
        lines.lines().filter_map(|line| pair(line).or_else(|| Some((line.to_owned(), String::new())))).collect()
    }

    /// The node of the job that runs.
    fn running(&self) -> Option<String> {
        self.queue().into_iter().find(|(state, _)| state == "RUNNING").map(|(_, node)| node)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.ask(&["stop"], &[]);
    }
}

/// Waits until something is there, for as long as a build may take.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(since.elapsed() < Duration::from_mins(5), "{what} never came");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A submitting machine, whose jobs go to the cluster.
struct Fleet {
    shared: User,
    place: Place,
    cluster: Cluster,
    /// Where jobs make their data directories.
    nodes: PathBuf,
    runs: PathBuf,
}

/// A fleet whose definitions are its own, with app-misc/slow taking `secs`.
fn fleet(name: &str, secs: u32, remote: &str) -> Option<Fleet> {
    let cluster = Cluster::new()?;
    let (shared, place) = slow(name, secs)?;
    fs::remove_dir_all(place.config.join("stage4.defines")).unwrap();
    place_stage3(&place, name);
    trust(&place, &shared.key, &shared.place.path("sign_key.asc"));
    let [nodes, runs] = ["nodes", "runs"].map(|what| place.path(&format!("{name}-{what}")));
    for dir in [&nodes, &runs] {
        // A place that is kept may have what a test that failed has left.
        child::in_ids("rm -rf -- \"$1\"", &[dir]);
        fs::create_dir(dir).unwrap();
    }
    let env = place.config.join("env");
    fs::write(env.join("remote_key"), format!("{}\n", shared.key)).unwrap();
    fs::write(env.join("remote"), format!("{remote}\n")).unwrap();
    let distfiles = place.path("cache/distfiles");
    let text = format!("directory {}\nshared {}\ndistfiles {}\n", nodes.display(), runs.display(), distfiles.display());
    fs::write(env.join("slurm"), text).unwrap();
    Some(Fleet { shared, place, cluster, nodes, runs })
}

fn place_stage3(place: &Place, name: &str) {
    let dir = place.config.join("stage3.defines").join(name);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("portage.local"), "slow\n").unwrap();
    fs::write(dir.join("cpu"), "generic-amd64\n").unwrap();
}

impl Fleet {
    fn define(&self, stage3: &str, name: &str, package: &str) {
        let dir = self.place.config.join("stage4.defines").join(name);
        fs::create_dir_all(&dir).unwrap();
        let files = [("profile", "demo"), ("stage3", stage3), ("packages", package), ("format", "tar.zst"), ("removes", BULK)];
        for (file, text) in files {
            fs::write(dir.join(file), format!("{text}\n")).unwrap();
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.place.command(args);
        command.env("SLURM_CONF", self.cluster.configuration());
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        run(&mut self.command(args))
    }

    /// What jobs have left on nodes, and runs in the shared directory.
    fn left(&self) -> Vec<PathBuf> {
        let list =
            |dir: &Path| -> Vec<PathBuf> { fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect() };
        let of_nodes = list(&self.nodes).into_iter().flat_map(|dir| list(&dir));
        of_nodes.chain(list(&self.runs).into_iter().filter(|path| !path.ends_with("trees"))).collect()
    }

    fn assert_nothing_is_left(&self) {
        // The last job may still be at it.
        wait_for("the end of all jobs", || self.cluster.queue().is_empty().then_some(()));
        assert_eq!(self.left(), Vec::<PathBuf>::new());
    }
}

/// The process of the job that builds a node of this run.
fn job_of(run: &str) -> i32 {
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_it = |pid: &i32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = words.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        words.first().is_some_and(|program| program.ends_with("gentoomuch")) && words.iter().any(|word| word.ends_with(run))
    };
    let found: Vec<i32> =
        all.filter(is_it).filter(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap().contains("node")).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0]
}

fn signal(running: &Known, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(running.id()).unwrap()), signal).unwrap();
}

#[test]
#[ignore = "long: needs Slurm, which `make test-long` installs"]
fn jobs_build_nodes_and_hand_them_on() {
    let name = "slurm-jobs";
    let Some(fleet) = fleet(name, 0, "dir:/nonexistent") else { return };
    let folder = Folder::new(&fleet.shared.place, name);
    let remote = fleet.place.config.join("env/remote");
    let [web, mail, wrong] = ["web", "mail", "wrong"].map(|end| format!("{name}-{end}-{}", std::process::id()));
    fleet.define(name, &web, "app-misc/hello");
    fleet.define(name, &mail, "app-misc/manyfiles");

    // Nothing is submitted if jobs could hand on nothing.
    fs::write(&remote, format!("{}\n", folder.address)).unwrap();
    fleet.run(&["pipeline", "--on", "slurm"]).fails(2).says("no remote is pushed to");
    assert_eq!(fleet.left(), Vec::<PathBuf>::new());
    fs::write(&remote, format!("{} push\n", folder.address)).unwrap();

    let ran = fleet.run(&["pipeline", "--on", "slurm", "--json"]).ok();
    let report: serde_json::Value = serde_json::from_str(&ran.text()).unwrap();
    let results: Vec<(&str, &str)> = report["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| (node["id"].as_str().unwrap(), node["result"].as_str().unwrap()))
        .collect();
    assert!(results.len() == 5 && results.iter().all(|(_, result)| *result == "built"), "{ran}");
    // The same live view: steps of the build, by node.
    let heard = format!("[stage4/{web}] * emerging");
    assert!(ran.stderr.contains(&heard) && ran.stderr.contains("runs on n"), "{heard}: {ran}");
    // The two that wait for the same builder are one array.
    for task in ["_1 runs on n", "_2 runs on n"] {
        assert!(ran.stderr.contains(task), "{task}: {ran}");
    }
    fleet.assert_nothing_is_left();
    fleet.run(&["pipeline", "--on", "slurm"]).ok().says_nothing_of("submitting");

    // Another machine builds nothing, and has the same files.
    if let Some(second) = another(&fleet.place.config) {
        second.run(&["sync", "--from", fleet.shared.testbed.tree.to_str().unwrap()]).ok();
        second.run(&["bootstrap", "--no-rebuild", "demo", fleet.shared.testbed.stage3.to_str().unwrap()]).ok();
        let planned = second.run(&["pipeline", "--no-sign", "--dry-run"]).ok().text();
        assert!(planned.contains("3 to fetch and 2 to build of 5 nodes"), "{planned}");
        // Nodes that need the same layers do not stand in each other's way.
        let ran = second.run(&["--no-wait", "pipeline", "--no-sign"]).ok().says_nothing_of("waiting:");
        assert!(ran.text().contains("5 nodes, 2 built, 0 reused, 3 fetched"), "{ran}");
    }

    // A failure brings its log.
    fleet.define(name, &wrong, "app-misc/broken");
    let failed = fleet.run(&["pipeline", "--on", "slurm", &wrong]);
    assert_eq!(failed.status.code(), Some(6), "{failed}");
    let (_, rest) = failed.stderr.split_once("the whole output is in ").unwrap_or_else(|| panic!("{failed}"));
    let log = fs::read_to_string(rest.lines().next().unwrap()).unwrap();
    assert!(log.contains("app-misc/broken") && failed.stderr.contains("undeclared"), "{failed}");
    assert!(!failed.stderr.contains("shell --failed"), "its session is gone: {failed}");
    fleet.assert_nothing_is_left();
}

#[test]
#[ignore = "long: needs Slurm, which `make test-long` installs"]
fn jobs_outlive_their_node_their_controller_and_who_submitted_them() {
    let name = "slurm-lost";
    let Some(fleet) = fleet(name, 12, "dir:/nonexistent") else { return };
    let folder = Folder::new(&fleet.shared.place, name);
    fs::write(fleet.place.config.join("env/remote"), format!("{} push\n", folder.address)).unwrap();
    let web = format!("{name}-web-{}", std::process::id());
    fleet.define(name, &web, "app-misc/slow");

    // Who submits is killed once the package is compiled; the node, too; and the controller is started anew.
    let mut command = fleet.command(&["pipeline", "--on", "slurm"]);
    let running = child::spawn(&mut command);
    let events = |id: &str| {
        let runs = fs::read_dir(&fleet.runs).unwrap().flatten();
        let nodes = runs.flat_map(|run| fs::read_dir(run.path().join("nodes")).into_iter().flatten().flatten());
        let found = nodes.into_iter().find(|node| node.file_name().to_string_lossy().ends_with(id));
        found.and_then(|node| fs::read_to_string(node.path().join("events")).ok()).unwrap_or_default()
    };
    wait_for("the package", || events(&web).contains("app-misc/slow-1.0").then_some(()));
    signal(&running, Signal::SIGKILL);
    drop(running.output());
    let node = fleet.cluster.running().expect("the job runs");
    fleet.cluster.ask(&["kill"], &[&node]);
    fleet.cluster.ask(&["kill"], &["controller"]);
    assert!(!fleet.left().is_empty(), "a killed job leaves its directory");
    fleet.cluster.ask(&["start"], &["controller"]);
    fleet.cluster.ask(&["start"], &[&node]);
    let attached = fleet.run(&["pipeline", "attach"]).ok();
    assert!(attached.text().contains(&format!("stage4/{web}")), "{attached}");
    assert!(attached.stderr.contains("removed what killed jobs have left here: job-"), "{attached}");
    fleet.assert_nothing_is_left();
    fleet.run(&["pipeline", "attach"]).fails(2).says("no run goes on");

    // Detached, followed, cancelled: the session ends and its directory goes before Slurm kills the job.
    let other = format!("{name}-other-{}", std::process::id());
    fleet.define(name, &other, "app-misc/slow\napp-misc/hello");
    fs::write(fleet.place.config.join("portage.locals/slow/env/slow"), "SLOW_UNITS=\"2\"\nSLOW_SECONDS=\"300\"\n").unwrap();
    let run = fleet.run(&["pipeline", "--on", "slurm", "--detach", &other]).ok().text();
    let run = run.trim();
    let mut command = fleet.command(&["pipeline", "attach", run]);
    let what = command_line(&command);
    let running = child::spawn(&mut command);
    wait_for("the package", || events(&other).contains("app-misc/slow-1.0").then_some(()));
    // The job alone is killed, so Slurm takes it for one that has failed.
    kill(Pid::from_raw(job_of(run)), Signal::SIGKILL).unwrap();
    let swept = "removed what killed jobs have left here: job-";
    wait_for("another job", || events(&other).split_once(swept)?.1.contains("app-misc/slow-1.0").then_some(()));
    signal(&running, Signal::SIGINT);
    let ran = finish(what, running);
    assert_eq!(ran.status.code(), Some(130), "{ran}");
    assert!(ran.stderr.contains("(FAILED): it is submitted again, time 1 of 2"), "{ran}");
    // No other job comes that could remove it.
    fleet.assert_nothing_is_left();

    // Nobody follows it, and nobody wants it any more: one job runs at least. Two of an array, and two where the cluster takes no arrays.
    let more = format!("{name}-more-{}", std::process::id());
    fleet.define(name, &more, "app-misc/slow\napp-misc/manyfiles");
    let mut gone = String::new();
    for has_arrays in [true, false] {
        if !has_arrays {
            let mut configuration = fs::read_to_string(fleet.cluster.configuration()).unwrap();
            configuration.push_str("MaxArraySize=1\n");
            fs::write(fleet.cluster.configuration(), configuration).unwrap();
            fleet.cluster.ask(&["kill"], &["controller"]);
            fleet.cluster.ask(&["start"], &["controller"]);
        }
        let run = fleet.run(&["pipeline", "--on", "slurm", "--detach", &other, &more]).ok().text();
        wait_for("a job", || fleet.cluster.running());
        let jobs = fs::read_to_string(fleet.runs.join(run.trim()).join("jobs.json")).unwrap();
        assert_eq!(jobs.matches("_1\"").count(), usize::from(has_arrays), "{jobs}");
        fleet.run(&["pipeline", "attach", "--cancel", run.trim()]).ok();
        fleet.assert_nothing_is_left();
        gone = run;
    }
    fleet.run(&["pipeline", "attach", "--cancel", gone.trim()]).fails(2).says("there is no run");
}

#[test]
#[ignore = "long: needs Slurm, which `make test-long` installs"]
fn jobs_hand_nodes_on_by_a_registry() {
    let Ok(registry) = Registry::new(Kind::Secure).map_err(|why| host::skip(&why)) else { return };
    let name = "slurm-registry";
    let Some(fleet) = fleet(name, 0, &format!("oci://{}/team/states push", registry.host())) else { return };
    let web = format!("{name}-web-{}", std::process::id());
    fleet.define(name, &web, "app-misc/slow");
    let login = registry.login(PASSWORD);
    let there = |args: &[&str]| {
        // Jobs get these variables of who submits.
        run(fleet.command(args).env("REGISTRY_AUTH_FILE", &login).env("SSL_CERT_FILE", registry.authority())).ok()
    };
    let ran = there(&["pipeline", "--on", "slurm", &web]);
    assert!(ran.text().contains("3 nodes, 3 built"), "{ran}");
    fleet.assert_nothing_is_left();
    // A job publishes what it has compiled, too.
    let listed: serde_json::Value = serde_json::from_str(&there(&["remote", "ls", "--packages", "--json"]).text()).unwrap();
    let rows = listed["package_rows"].as_array().unwrap();
    let slow = rows.iter().find(|row| row["name"] == "app-misc/slow-1.0").unwrap_or_else(|| panic!("{listed}"));
    let key = slow["key"].as_str().unwrap();
    let pulled: serde_json::Value = serde_json::from_str(&there(&["remote", "pull", key, "--json"]).text()).unwrap();
    assert!(slow["here"] == true || pulled["packages"] == serde_json::json!([slow["name"]]), "{slow} {pulled}");
}
