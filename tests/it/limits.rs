//! What a session uses too much of ends it with words of its own, in a shell, in an ebuild and in a stage, and leaves nothing.

use crate::place::{Place, copy};
use crate::shared::{Shared, shared};

const BOMB: &str = "f() { f | f & }; f; sleep 1000";
const HOG: &str = "head -c 900M /dev/zero >/tmp/hog; sleep 1000";

fn freshroot(shared: &Shared, limit: &[&str], script: &str) -> crate::place::Ran {
    shared.place.run(&[&["freshroot", "--network", "none"], limit, &["--", "sh", "-c", script]].concat())
}

#[test]
fn a_command_that_exceeds_a_limit_is_our_failure_around_it() {
    let Some(shared) = shared() else { return };
    freshroot(&shared, &["--pids", "300"], BOMB)
        .fails(125)
        .says("error: the session had more than 300 processes and threads, its limit\n")
        .says("hint: set another limit, or `none`, with `--pids` or a line `pids` in `env/limits`\n");
    freshroot(&shared, &["--memory", "300M"], HOG)
        .fails(125)
        .says("error: the session used more than 300 MiB of memory, its limit\n");
    freshroot(&shared, &["--timeout", "1s"], "sleep 1000").fails(125).says("error: the session ran for more than 1 s, its limit\n");
    assert_eq!(freshroot(&shared, &["--cpus", "1"], "nproc").ok().text(), "1\n");
    // Within a limit, and without any.
    for limit in [&["--memory", "4G", "--pids", "1000", "--timeout", "1h"][..], &["--memory", "none", "--pids", "none"]] {
        assert_eq!(freshroot(&shared, limit, "echo done").ok().text(), "done\n");
    }
    shared.place.run(&["freshroot", "--memory", "lots", "--", "true"]).fails(2).says("`lots` is no amount of memory");
}

/// As an ebuild would in one of its phases.
#[test]
fn an_ebuild_that_exceeds_a_limit_ends_its_session() {
    let Some(shared) = shared() else { return };
    for (phase, hostile, limit, words) in [
        ("compile", BOMB, ["--pids", "400"], "more than 400 processes and threads"),
        ("postinst", HOG, ["--memory", "600M"], "more than 600 MiB of memory"),
        ("unpack", "sleep 1000", ["--timeout", "20s"], "ran for more than 20 s"),
    ] {
        let script = format!(
            "mkdir -p /etc/portage; echo '[ \"$EBUILD_PHASE\" = {phase} ] && {{ {hostile}; }}' >/etc/portage/bashrc; \
             emerge --quiet-build=y --usepkg=n -1 app-misc/hello"
        );
        freshroot(&shared, &limit, &script).fails(125).says(words);
    }
}

fn with_script(shared: &Shared, name: &str, script: &str) -> Place {
    let config = shared.place.path(&format!("limits-{name}"));
    if !config.exists() {
        copy(&shared.place.config, &config);
    }
    let place = shared.place.with_config(config);
    let write = |path: &str, text: &str| {
        let path = place.config.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("stage4.defines/greedy/profile", "demo\n");
    write("stage4.defines/greedy/stage3", "plain\n");
    write("stage4.defines/greedy/packages", "");
    write("stage4.defines/greedy/scripts", "greedy\n");
    write("user.scripts/greedy", &format!("#!/bin/sh\n{script}\n"));
    place
}

#[test]
fn a_stage_that_exceeds_a_limit_fails_and_goes_on_with_another() {
    let Some(shared) = shared() else { return };
    let place = with_script(&shared, "stage", BOMB);
    let build = |more: &[&str]| place.run(&[&["stage", "build", "greedy", "--no-export"], more].concat());
    let words = "error: the session had more than 350 processes and threads, its limit\n";
    build(&["--pids", "350"]).fails(6).says(words);
    let limits = place.config.join("env/limits");
    std::fs::write(&limits, "pids 350\ntimeout 1h  # enough\n").unwrap();
    build(&[]).fails(6).says(words);
    std::fs::write(&limits, "pids 350\npids 360\n").unwrap();
    build(&[]).fails(3).says(&format!("{}:2: line 1 limits `pids` already", limits.display()));
    std::fs::write(&limits, "timeout 2s\n").unwrap();
    let place = with_script(&shared, "stage", "sleep 1000");
    place
        .run(&["pipeline", "greedy", "--no-sign", "--format", "tar.zst"])
        .fails(6)
        .says("the session ran for more than 2 s, its limit");
    let place = with_script(&shared, "stage", "true");
    place.run(&["stage", "build", "greedy", "--no-export", "--timeout", "none"]).ok();
}
