//! Other engines run the graph: what `pipeline plan` writes for them, run by them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::host;
use crate::place::{Place, Ran, run};
use crate::shared::shared;

/// A new stage4, so that there is something to do.
fn stage4(place: &Place, name: &str) {
    let dir = place.config.join("stage4.defines").join(name);
    fs::create_dir_all(&dir).unwrap();
    for (file, text) in [("profile", "demo"), ("stage3", "plain"), ("packages", "app-misc/hello"), ("format", "tar.zst")] {
        fs::write(dir.join(file), format!("{text}\n")).unwrap();
    }
}

/// Runs an engine where our program is the one of its jobs.
fn engine(place: &Place, dir: &Path, command: &[&str]) -> Ran {
    let program = Path::new(env!("CARGO_BIN_EXE_gentoomuch")).parent().unwrap().to_str().unwrap().to_owned();
    let path = std::env::var("PATH").unwrap();
    let mut engine = Command::new("env");
    engine.args(command).env_clear().envs(place.environment()).env("PATH", format!("{program}:{path}"));
    run(engine.current_dir(dir).stdin(Stdio::null()))
}

fn is_built(place: &Place, name: &str) {
    let all = place.run(&["pipeline", "--no-sign", "--json", name]).ok();
    let report: serde_json::Value = serde_json::from_str(&all.text()).unwrap();
    let nodes = report["nodes"].as_array().unwrap();
    assert!(nodes.len() == 3 && nodes.iter().all(|node| node["result"] == "reused"), "{all}");
}

#[test]
#[ignore = "long: needs Snakemake and gitlab-ci-local, which `make test-long` installs"]
fn snakemake_and_gitlab_run_the_nodes() {
    let Some(shared) = shared() else { return };
    if !host::has("snakemake") || !host::has("gitlab-ci-local") {
        return;
    }
    let config = shared.config("engines");
    fs::remove_dir_all(config.join("stage4.defines")).unwrap();
    let place = shared.place.with_config(config);
    let dir = place.path("engines");
    fs::create_dir_all(&dir).unwrap();
    let plan = |format: &str, name: &str, file: &str| {
        let planned = place.run(&["pipeline", "plan", "--no-sign", "--jobs", "2", "--format", format, name]).ok();
        fs::write(dir.join(file), planned.text()).unwrap();
    };

    let name = format!("engine-snakemake-{}", std::process::id());
    stage4(&place, &name);
    plan("snakemake", &name, "Snakefile");
    for attempt in ["the first", "another"] {
        let ran = engine(&place, &dir, &["snakemake", "--cores", "2", "--nocolor"]).ok();
        assert!(ran.stderr.contains("4 of 4 steps (100%) done"), "{attempt}: {ran}");
        assert!(!dir.join(".gentoomuch-nodes").exists(), "{attempt}: marks stay");
        is_built(&place, &name);
    }

    let name = format!("engine-gitlab-{}", std::process::id());
    stage4(&place, &name);
    plan("gitlab", &name, ".gitlab-ci.yml");
    // It wants a repository with an address.
    let git = "git init -q . && git -c user.email=ci@example.org -c user.name=ci commit -q --allow-empty -m pipeline \
               && git remote add origin git@gitlab.example:fleet/config.git";
    engine(&place, &dir, &["sh", "-c", git]).ok();
    let ran = engine(&place, &dir, &["gitlab-ci-local", "--no-color"]).ok();
    for id in ["stage3/demo/plain".to_owned(), format!("stage4/{name}"), format!("artifact/{name}")] {
        assert!(ran.text().lines().any(|line| line.trim() == format!("PASS  {id}")), "{id}: {ran}");
    }
    is_built(&place, &name);
    fs::remove_dir_all(&dir).unwrap();
}
