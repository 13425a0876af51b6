//! A package that means harm, and the work set that is made of it: the user calls git in there.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::child;
use crate::place::{Place, Ran};
use crate::shared::{User, shared};

fn place(name: &str) -> Option<(User, Place)> {
    let shared = shared()?;
    let place = shared.place.with_config(shared.config(name));
    Some((shared, place))
}

fn patch(place: &Place, words: &[&str]) -> Ran {
    place.run(&[&["patch"], words].concat())
}

/// Everything below `dir`, relative to it.
fn everything(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.strip_prefix(dir).unwrap().to_owned());
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                todo.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A user whose git has a configuration of its own: drivers that the package may name, and hooks by a path within each repository.
struct UserOfGit {
    home: PathBuf,
}

impl UserOfGit {
    fn new(place: &Place) -> Self {
        let home = place.path("home of git");
        fs::create_dir_all(&home).unwrap();
        let marker = home.join("pwned");
        let run = format!("touch '{}'; cat", marker.display());
        let config = format!(
            "[user]\n\tname = me\n\temail = me@example.org\n[core]\n\thooksPath = .githooks\n[filter \"lfs\"]\n\tclean = \"{run}\"\n\
             \tsmudge = \"{run}\"\n\trequired = true\n[diff \"lfs\"]\n\ttextconv = \"{run}\"\n[merge \"lfs\"]\n\tdriver = \"{run}\"\n\
             [submodule]\n\trecurse = true\n[status]\n\tsubmoduleSummary = true\n[diff]\n\tsubmodule = log\n"
        );
        fs::write(home.join(".gitconfig"), config).unwrap();
        Self { home }
    }

    /// What git started besides itself, as its own trace says.
    fn starts(&self, dir: &Path, args: &[&str]) -> Vec<String> {
        let trace = self.home.join("trace");
        fs::write(&trace, "").unwrap();
        let mut command = Command::new("git");
        command.arg("-C").arg(dir).args(args).env_clear().env("HOME", &self.home).env("PATH", "/usr/bin:/bin");
        command.env("GIT_TRACE", &trace).env("GIT_EDITOR", "true").env("GIT_PAGER", "cat");
        child::check(&mut command);
        let text = fs::read_to_string(&trace).unwrap();
        assert!(text.contains("trace: built-in: git"), "git has traced nothing: {text}");
        text.lines().filter(|line| line.contains("trace: run_command:") && !is_own(line)).map(str::to_owned).collect()
    }
}

/// The program itself once more, for a part of its work, or what the test names as editor and pager.
fn is_own(line: &str) -> bool {
    let mut run = line.split("run_command: ").nth(1).unwrap_or_default();
    // Variables come first, as a shell would take them, with their values in quotes where these have blanks.
    while run.starts_with("GIT_") {
        let (_, value) = run.split_once('=').unwrap_or_default();
        run = match value.strip_prefix('\'') {
            Some(quoted) => quoted.split_once("' ").unwrap_or_default().1,
            None => value.split_once(' ').unwrap_or_default().1,
        };
    }
    let program = run.split(' ').next().unwrap_or_default();
    program == "git" || program.starts_with("git-") || ["cat", "true"].contains(&program)
}

#[test]
fn what_git_runs_is_told_from_git_itself() {
    let line = |run: &str| format!("10:00:00.000000 run-command.c:655 trace: run_command: {run}");
    for own in ["git status", "GIT_DIR=/a/.git git status", "GIT_DIR='/a b/.git' GIT_WORK_TREE='/a b' git status", "cat"] {
        assert!(is_own(&line(own)), "{own}");
    }
    for foreign in ["pwned", "GIT_DIR=git pwned", "GIT_DIR='/a git b' pwned", "GIT_DIR='git ", "./git"] {
        assert!(!is_own(&line(foreign)), "{foreign}");
    }
}

#[test]
fn git_runs_nothing_that_a_package_brought() {
    let Some((_shared, place)) = place("patches trapped") else { return };
    let prepared = patch(&place, &["prep", "trapped", "app-misc/trapped", "--json"]).ok();
    let prepared: serde_json::Value = serde_json::from_str(&prepared.text()).unwrap();
    let dir = place.path("data/patches/trapped");

    // By each name that leads git to a repository: one is there, and it is ours.
    let files = everything(&dir);
    let below_git: Vec<&PathBuf> = files.iter().filter(|path| path.starts_with(".git")).collect();
    let kind = |path: &&PathBuf| fs::symlink_metadata(dir.join(path)).unwrap().file_type();
    assert!(below_git.iter().all(|path| kind(path).is_dir() || kind(path).is_file()), "links or worse: {below_git:?}");
    assert!(!dir.join(".git/hooks").exists());
    for path in files.iter().filter(|path| !path.starts_with(".git")) {
        let name = path.file_name().map(OsStr::as_bytes).unwrap().to_ascii_lowercase();
        assert!(![&b".git"[..], b".git ", b"git~1"].contains(&name.as_slice()), "{path:?}");
        assert!(!path.to_string_lossy().contains("pwned") && !path.starts_with("planted"), "{path:?}");
        let meta = fs::symlink_metadata(dir.join(path)).unwrap();
        assert!(!meta.file_type().is_fifo() && meta.mode() & 0o6000 == 0, "{path:?}");
        assert_eq!(meta.uid(), nix::unistd::getuid().as_raw(), "{path:?}");
    }
    let mut told: Vec<&str> = prepared["nested_repositories"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    told.sort_unstable();
    // One of the first two is `.git `, which a file system may take for the same.
    let left_out = [
        ".git",
        ".git",
        "bare/HEAD",
        "deep/er/.GIT",
        "gitfile/.git",
        "git~1",
        "linked/.git",
        "sub/.Git",
        "sub/.git",
        "tests/repository/HEAD",
        "worktree/HEAD",
    ];
    assert_eq!(told, left_out);
    assert_eq!(prepared["special_files"], serde_json::json!(["pipe", "sub/pipe"]));
    // What is no repository any more is content, like all the rest.
    for content in ["bare/config", "bare/objects", "tests/text", ".gitattributes", ".gitmodules", "main.c", "tool"] {
        assert!(fs::symlink_metadata(dir.join(content)).is_ok(), "{content}");
    }
    assert_eq!(fs::read_link(dir.join("outward")).unwrap(), Path::new("/etc/passwd"));

    let user = UserOfGit::new(&place);
    fs::write(dir.join("main.c"), "int main(void) { return 1; }\n").unwrap();
    fs::write(dir.join("sub/new.c"), "int x;\n").unwrap();
    let mut started = Vec::new();
    for (at, args) in [
        ("", &["status"][..]),
        ("sub", &["status"]),
        ("bare", &["status"]),
        ("tests/repository", &["status"]),
        ("worktree", &["status"]),
        ("linked", &["status"]),
        ("gitfile", &["status"]),
        ("", &["diff"]),
        ("", &["stash", "--include-untracked"]),
        ("", &["stash", "pop"]),
        ("bare", &["add", "-A"]),
        ("", &["add", "-A"]),
        ("", &["commit", "--quiet", "--message", "mine"]),
        ("", &["log", "-p"]),
        ("", &["checkout", "--quiet", "HEAD~1"]),
        ("", &["checkout", "--quiet", "work"]),
        ("", &["submodule", "update", "--init", "--recursive"]),
        ("", &["archive", "--output=/dev/null", "HEAD"]),
    ] {
        let found = user.starts(&dir.join(at), args);
        started.extend(found.into_iter().map(|line| format!("{at}: git {}: {line}", args.join(" "))));
    }
    assert!(!user.home.join("pwned").exists(), "a driver of the user's was run: {started:#?}");
    let planted: Vec<PathBuf> = everything(&dir).into_iter().filter(|path| path.to_string_lossy().contains("pwned")).collect();
    assert!(planted.is_empty(), "{planted:?} by {started:#?}");
    assert!(started.is_empty(), "{started:#?}");
    // And the patch is as of any package.
    let saved = patch(&place, &["save", "trapped", "--json"]).ok();
    let saved: serde_json::Value = serde_json::from_str(&saved.text()).unwrap();
    assert_eq!(saved["files"].as_array().unwrap().len(), 2, "{saved}");
    patch(&place, &["rm", "trapped", "--saved", "--force"]).ok();
}
