//! What README.md promises. (That every command shown anywhere is one that the program takes is tested beside the grammar, in
//! `src/bin/gentoomuch/shown.rs`.)

use std::collections::BTreeSet;
use std::fs;

use crate::help::COMMANDS;
use crate::program::repository;

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Lines of blocks fenced as `language`.
fn fenced(text: &str, language: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if let Some(fence) = line.strip_prefix("```") {
            inside = !inside && fence.trim() == language;
        } else if inside {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// The words of a command that choose what it does: `stage build`, `keys import`.
fn command(words: &str) -> String {
    let all: Vec<&str> = words.split_whitespace().collect();
    let mut longest = String::new();
    for length in 1..=all.len().min(2) {
        let candidate = all[..length].join(" ");
        if COMMANDS.contains(&candidate.as_str()) {
            longest = candidate;
        }
    }
    longest
}

#[test]
fn the_main_job_in_the_readme_is_what_the_demo_runs() {
    let shown: BTreeSet<String> =
        fenced(&read("README.md"), "console").iter().filter_map(|line| line.strip_prefix("$ gentoomuch ")).map(command).collect();
    for wanted in ["doctor", "keys import", "stage3 verify", "sync", "bootstrap", "freshroot", "stage build"] {
        assert!(shown.contains(wanted), "`{wanted}` is not in the transcript of README.md");
    }
    let demo = read("scripts/demo");
    let run: BTreeSet<String> = demo
        .lines()
        .filter_map(|line| {
            ["run gentoomuch ", "build=(gentoomuch ", "pipeline=(gentoomuch "].iter().find_map(|begin| line.strip_prefix(begin))
        })
        .map(command)
        .collect();
    assert!(demo.contains("run \"${build[@]}\"") && demo.contains("run \"${pipeline[@]}\"\nrun \"${pipeline[@]}\"\n"));
    for command in shown {
        assert!(run.contains(&command), "`{command}` is in README.md and not in scripts/demo");
    }
}

#[test]
fn every_make_target_is_documented() {
    let readme = read("README.md");
    for line in read("Makefile").lines() {
        if let Some((target, _)) = line.split_once(": ## ") {
            assert!(target == "help" || readme.contains(&format!("`make {target}`")), "`make {target}` is not in README.md");
        }
    }
}

#[test]
fn links_lead_somewhere() {
    for document in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "config/README.md", "tests/testbed/README.md"] {
        let text = read(document);
        for part in text.split("](").skip(1) {
            let target = part.split(')').next().unwrap().split('#').next().unwrap();
            if !target.is_empty() && !target.contains("://") {
                let path = repository().join(document).with_file_name(target);
                assert!(path.exists(), "{document} links to {target}");
            }
        }
    }
}

#[test]
fn the_architecture_names_things_that_exist() {
    let text = read("ARCHITECTURE.md");
    assert!(text.matches("**Architecture invariant:**").count() > 10);
    let mut checked = 0;
    let mut inside = false;
    let prose: Vec<&str> = text
        .lines()
        .filter(|line| {
            let fence = line.starts_with("```");
            inside ^= fence;
            !inside && !fence
        })
        .collect();
    for span in prose.join(" ").split('`').skip(1).step_by(2) {
        let is_path =
            ["src/", "tests/", "scripts/", "config/", "benches/", "rootfs-hooks/"].iter().any(|root| span.starts_with(root));
        if is_path {
            assert!(repository().join(span).exists(), "ARCHITECTURE.md names `{span}`");
            checked += 1;
        }
    }
    assert!(checked > 10);
}
