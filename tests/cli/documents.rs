//! What README.md and the book promise. (That every command shown anywhere is one that the program takes is tested beside the grammar, in
//! `src/cli/shown.rs`.)

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::help::COMMANDS;
use crate::program::repository;

/// What mdbook makes a book of.
const BOOK: &str = "docs/src/";
/// What `gentoomuch init` writes.
const CONFIG: &str = "config/";

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every document of the repository, by its path in it: the book's pages, README and its like. Not those of the original tool's configuration
/// that `tests/it` goes on with.
pub(crate) fn documents() -> Vec<String> {
    let not_ours = ["target", "tests/it/original", "tests/testbed/cache"].map(Path::new);
    let (mut found, mut directories) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(repository().join(&directory)).unwrap().map(Result::unwrap) {
            let (name, path) = (entry.file_name(), directory.join(entry.file_name()));
            if entry.file_type().unwrap().is_dir() {
                if !name.to_str().unwrap().starts_with('.') && !not_ours.contains(&path.as_path()) {
                    directories.push(path);
                }
            } else if path.extension().is_some_and(|end| end == "md") {
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The pages of the book, by their paths in it.
fn pages() -> BTreeSet<String> {
    documents().iter().filter_map(|document| document.strip_prefix(BOOK)).map(str::to_owned).collect()
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
fn the_main_job_in_the_book_is_what_the_demo_runs() {
    let transcript = fenced(&read("docs/src/tutorial/first-stage4.md"), "console");
    let shown: BTreeSet<String> = transcript.iter().filter_map(|line| line.strip_prefix("$ gentoomuch ")).map(command).collect();
    for wanted in ["doctor", "keys import", "stage3 verify", "sync", "bootstrap", "freshroot", "stage build"] {
        assert!(shown.contains(wanted), "`{wanted}` is not in the transcript of the first tutorial");
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
        assert!(run.contains(&command), "`{command}` is in the first tutorial and not in scripts/demo");
    }
}

#[test]
fn every_make_target_is_documented() {
    let contributing = read("CONTRIBUTING.md");
    for line in read("Makefile").lines() {
        if let Some((target, _)) = line.split_once(": ## ") {
            assert!(
                target == "help" || contributing.contains(&format!("`make {target}`")),
                "`make {target}` is not in CONTRIBUTING.md"
            );
        }
    }
}

#[test]
fn the_readme_is_read_in_minutes() {
    assert!(read("README.md").lines().count() <= 150);
}

#[test]
fn the_summary_names_every_page_once() {
    let summary = read("docs/src/SUMMARY.md");
    let named = links(&summary);
    let mut wanted = pages();
    assert!(wanted.remove("SUMMARY.md"));
    assert_eq!(named.iter().cloned().collect::<BTreeSet<_>>(), wanted);
    assert_eq!(named.len(), wanted.len(), "a page is named twice");
}

/// What is outside of fenced blocks and of `code`.
fn prose(text: &str) -> String {
    let (mut prose, mut is_fenced) = (String::new(), false);
    for line in text.lines() {
        let is_fence = line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        if !is_fenced && !is_fence {
            line.split('`').step_by(2).for_each(|words| prose.push_str(words));
        }
        prose.push('\n');
    }
    prose
}

/// Where the links of a document lead. There is one form of link.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    for other in ["][", "]: ", "<a ", "<img ", "href="] {
        assert!(!prose.contains(other), "a link of another form is not followed: {other}");
    }
    prose.split("](").skip(1).map(|part| part.split(')').next().unwrap().to_owned()).collect()
}

/// The anchors of a document's headings for which mdbook and the usual forges agree: of `--max-size`, only forges keep the dashes.
fn anchors(text: &str) -> BTreeSet<String> {
    let (mut anchors, mut times, mut is_fenced) = (BTreeSet::new(), BTreeMap::new(), false);
    for line in text.lines() {
        is_fenced ^= line.trim_start().starts_with("```");
        let heading = line.trim_start_matches('#');
        if is_fenced || heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_');
        let anchor: String = heading.trim().to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect();
        if anchor.starts_with('-') {
            continue;
        }
        let count = times.entry(anchor.clone()).or_insert(0);
        anchors.insert(if *count == 0 { anchor } else { format!("{anchor}-{count}") });
        *count += 1;
    }
    anchors
}

/// `path` without the `..` in it.
fn without_parents(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        if part.as_os_str() == ".." {
            assert!(out.pop(), "{} leads out of the repository", path.display());
        } else {
            out.push(part);
        }
    }
    out
}

#[test]
fn links_lead_somewhere() {
    let mut checked = 0;
    for document in documents() {
        let text = read(&document);
        for link in links(&text) {
            if link.contains("://") {
                continue;
            }
            let (target, anchor) = link.split_once('#').map_or((link.as_str(), None), |(target, anchor)| (target, Some(anchor)));
            let path = match target {
                "" => PathBuf::from(&document),
                target => without_parents(&Path::new(&document).with_file_name(target)),
            };
            assert!(repository().join(&path).exists(), "{document} links to {link}: there is no {}", path.display());
            for apart in [BOOK, CONFIG].iter().filter(|top| document.starts_with(**top)) {
                assert!(
                    path.starts_with(apart),
                    "{document} links to {link}, which does not come along where {apart} is copied to"
                );
            }
            if let Some(anchor) = anchor {
                let there = anchors(&read(path.to_str().unwrap()));
                assert!(there.contains(anchor), "{document} links to {link}; there are {there:?}");
            }
            checked += 1;
        }
    }
    assert!(checked > 150, "only {checked} links found: is the search still right?");
}

#[test]
fn links_and_anchors_are_read_as_they_are_meant() {
    assert_eq!(links("a [b](c.md#d) `[x](y)`\n```\n[z](w)\n```\n[e\nf](g)"), ["c.md#d", "g"]);
    let there = anchors("# What `clean` removes\n## --max-size\n```\n# not\n```\n## env/limits\n## A\n## A\n");
    assert_eq!(there.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "a-1", "envlimits", "what-clean-removes"]);
}

#[test]
fn documents_name_files_that_exist() {
    let mut checked = 0;
    // What has changed names things that are gone.
    for document in documents().into_iter().filter(|document| document != "CHANGELOG.md") {
        let mut inside = false;
        let text = read(&document);
        let prose: Vec<&str> = text
            .lines()
            .filter(|line| {
                let fence = line.trim_start().starts_with("```");
                inside ^= fence;
                !inside && !fence
            })
            .collect();
        for span in prose.join(" ").split('`').skip(1).step_by(2) {
            // Its arguments are not part of its name.
            let path = span.split(' ').next().unwrap();
            let is_path = ["src/", "tests/", "scripts/", "config/", "docs/", "packaging/", "benches/", "rootfs-hooks/"]
                .iter()
                .any(|root| path.starts_with(root));
            if is_path {
                assert!(repository().join(path).exists(), "{document} names `{span}`");
                checked += 1;
            }
        }
    }
    assert!(checked > 100, "only {checked} paths found: is the search still right?");
    assert!(read("ARCHITECTURE.md").matches("**Architecture invariant:**").count() > 10);
}

#[test]
fn the_ci_files_run_both_kinds_of_tests() {
    assert!(read("Makefile").contains("\ntest-long: ## "));
    assert!(read(".ci/run").contains("make --no-print-directory test "));
    for file in [".github/workflows/ci.yml", ".gitlab-ci.yml"] {
        let text = read(file);
        // Not what comments say.
        let steps: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
        for command in [".ci/run", "make test-long"] {
            assert!(steps.iter().any(|step| step.ends_with(command)), "{file} does not run {command}");
        }
    }
}
