//! The configuration directory as it was at a commit, by the user's own `git`.
//!
//! One function starts `git`: with pinned locale and options, without the terminal as standard input, and without variables that point to
//! another repository. Work tree, index and refs stay untouched: the commit is read into an index of ours, and checked out from there
//! into a directory of ours, with the filters that a checkout would apply.
//!
//! ```text
//! SCRATCH/gentoomuch-PID-N/      0700, removed when the value is dropped
//!   index                        of the whole commit, so that attributes above the directory count
//!   tree/PATH/IN/REPOSITORY/     the configuration directory
//! ```
//!
//! [`Mirror`] is the other use of git: it fetches other people's repositories into one of ours.

mod mirror;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, io};

use crate::did_you_mean::nearest;
use crate::program;
use crate::program::{Attendance, Heard};
use crate::terminal_text::sanitize_line;

pub(crate) use mirror::Mirror;

/// How to start `git`.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    /// `git`, which is looked up in `PATH`, or a path.
    pub program: PathBuf,
    /// Its environment: `HOME`, `PATH`, and the variables that its filters need. Variables that name a repository are left out.
    pub environment: Vec<(OsString, OsString)>,
    /// Where temporary directories are made.
    pub scratch: PathBuf,
}

/// A directory as it was at a commit. Its files are removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Checkout {
    scratch: Scratch,
    prefix: PathBuf,
    /// The full hash of the commit.
    pub commit: String,
}

/// Why a commit cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// git is missing, failed or was interrupted.
    #[error(transparent)]
    Program(#[from] program::Error),
    /// The directory is under no version control.
    #[error("`{0}` is not in a git repository")]
    NotARepository(PathBuf),
    /// There is no commit of this name.
    #[error("there is no revision `{revision}` in the repository `{repository}`")]
    UnknownRevision {
        /// As asked for.
        revision: String,
        /// Top of the work tree.
        repository: PathBuf,
        /// The branch or tag with the nearest spelling.
        nearest: Option<String>,
        /// Branches and tags.
        known: Vec<String>,
    },
    /// The commit exists, but the directory is not in it.
    #[error("`{path}` is not there at revision `{revision}`")]
    NoSuchDirectory {
        /// The directory below the top of the work tree.
        path: PathBuf,
        /// As asked for.
        revision: String,
    },
    /// The server does not have the commit, or only hands out commits that a branch or tag points to.
    #[error("`{uri}` does not serve the commit {commit}")]
    NotGiven { commit: String, uri: String },
    /// Downloads are switched off.
    #[error("`{uri}` is needed, but downloads are switched off")]
    Offline { uri: String },
    /// The bare repository cannot be made.
    #[error("cannot use `{path}`")]
    Mirror {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The temporary directory cannot be made.
    #[error("cannot create `{path}`")]
    Scratch {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

pub(crate) type Result<T> = std::result::Result<T, GitError>;

/// A temporary directory, removed on drop.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!("cannot remove `{}`: {error}", self.0.display());
        }
    }
}

impl Scratch {
    fn new(within: &Path) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = within.join(format!("gentoomuch-{}-{number}", std::process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                // Left by a killed process that had our PID.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(GitError::Scratch { path, source }),
            }
        }
    }
}

impl Checkout {
    /// Where the directory is.
    pub(crate) fn path(&self) -> PathBuf {
        self.scratch.0.join("tree").join(&self.prefix)
    }
}

impl Git {
    /// The directory `dir` of a work tree as it was at `revision`: a branch, a tag, a commit, `HEAD~3`, `main@{yesterday}`.
    pub(crate) fn checkout(&self, dir: &Path, revision: &str) -> Result<Checkout> {
        let asked = self.run(dir, &["rev-parse", "--show-toplevel"], &[], b"")?;
        if !asked.status.success() && asked.stderr.contains("not a git repository") {
            return Err(GitError::NotARepository(dir.to_owned()));
        }
        let top = PathBuf::from(OsStr::from_bytes(first_line(&asked.ok()?)));
        let prefix = self.run(dir, &["rev-parse", "--show-prefix"], &[], b"")?;
        let prefix: PathBuf = Path::new(OsStr::from_bytes(first_line(&prefix.stdout))).components().collect();
        let commit = self.commit(&top, revision)?;
        let listed = self.run(&top, &["ls-tree", "-r", "-z", "--name-only", "--full-tree", &commit], &[], b"")?.ok()?;
        let within: Vec<u8> = listed
            .split_inclusive(|byte| *byte == 0)
            .filter(|name| Path::new(OsStr::from_bytes(&name[..name.len() - 1])).starts_with(&prefix))
            .flatten()
            .copied()
            .collect();
        if within.is_empty() {
            return Err(GitError::NoSuchDirectory { path: prefix, revision: revision.to_owned() });
        }
        let scratch = Scratch::new(&self.scratch)?;
        let index = scratch.0.join("index");
        let index = [(OsStr::new("GIT_INDEX_FILE"), index.as_os_str())];
        let mut target = OsString::from("--prefix=");
        // git puts the prefix in front of each path as a string, so the slash is needed.
        target.push(scratch.0.join("tree/"));
        self.run(&top, &["read-tree", &commit], &index, b"")?.ok()?;
        let arguments = [OsStr::new("checkout-index"), &target, OsStr::new("-z"), OsStr::new("--stdin")];
        self.run(&top, &arguments, &index, &within)?.ok()?;
        Ok(Checkout { scratch, prefix, commit })
    }

    fn commit(&self, top: &Path, revision: &str) -> Result<String> {
        let name = format!("{revision}^{{commit}}");
        // `--end-of-options`: a revision that begins with a dash is no option. `^{commit}` turns a tag into its commit.
        let found = self.run(top, &["rev-parse", "--verify", "--quiet", "--end-of-options", &name], &[], b"")?;
        let commit = String::from_utf8_lossy(first_line(&found.stdout)).into_owned();
        if found.status.success() && !commit.is_empty() {
            return Ok(commit);
        }
        let refs = ["for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags"];
        let known = self.run(top, &refs, &[], b"")?.ok()?;
        let known: Vec<String> = String::from_utf8_lossy(&known).lines().map(printable).collect();
        let nearest = nearest(revision, &known).map(str::to_owned);
        Err(GitError::UnknownRevision { revision: revision.to_owned(), repository: top.to_owned(), nearest, known })
    }

    /// Starts git in `dir`, gives it `input` and waits for it.
    fn run<S: AsRef<OsStr>>(
        &self,
        dir: &Path,
        arguments: &[S],
        variables: &[(&OsStr, &OsStr)],
        input: &[u8],
    ) -> Result<program::Ended> {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(dir).env_clear();
        command.envs(self.environment.iter().filter(|(name, _)| !names_a_repository(name)).map(|(name, value)| (name, value)));
        // `GIT_OPTIONAL_LOCKS=0` keeps git from refreshing the user's index. Messages are parsed, so they must not be translated.
        command.envs([("LC_ALL", "C"), ("LANGUAGE", ""), ("GIT_TERMINAL_PROMPT", "0"), ("GIT_OPTIONAL_LOCKS", "0")]);
        let asked = self.environment.iter().find(|(name, _)| name == "GIT_CONFIG_COUNT");
        let before = asked.and_then(|(_, count)| count.to_str()?.parse().ok()).unwrap_or(0);
        let quiet = ["core.fsmonitor", "core.sparseCheckout", "advice.detachedHead"].map(|name| (name.to_owned(), "false"));
        command.envs(settings(before, &quiet)).envs(variables.iter().copied());
        let attendance = Attendance { heard: Heard::Stderr, line: &mut |_| {}, cancelled: &|| false, reaches_out: false };
        Ok(program::run(command, input, attendance)?)
    }
}

/// The settings as `GIT_CONFIG_*` variables, numbered after the `before` ones of the caller. They keep the command line short enough to
/// read.
fn settings(before: usize, settings: &[(String, &str)]) -> Vec<(String, String)> {
    let mut variables = vec![("GIT_CONFIG_COUNT".to_owned(), (before + settings.len()).to_string())];
    for (number, (name, value)) in (before..).zip(settings) {
        variables.push((format!("GIT_CONFIG_KEY_{number}"), name.clone()));
        variables.push((format!("GIT_CONFIG_VALUE_{number}"), (*value).to_owned()));
    }
    variables
}

fn first_line(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == b'\n').next().unwrap_or_default()
}

fn printable(line: &str) -> String {
    sanitize_line(line.as_bytes(), 400)
}

/// Variables that git sets for its hooks and that would make our git use that repository (`git rev-parse --local-env-vars`). They are set
/// when gentoomuch is run from a hook.
fn names_a_repository(name: &OsStr) -> bool {
    const HARMLESS: [&str; 3] = ["GIT_EXEC_PATH", "GIT_CEILING_DIRECTORIES", "GIT_SSH"];
    name.to_str().is_some_and(|name| name.starts_with("GIT_") && !name.starts_with("GIT_CONFIG_") && !HARMLESS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git() -> Git {
        let path = std::env::var_os("PATH").unwrap();
        Git {
            program: "git".into(),
            environment: vec![("PATH".into(), path), ("GIT_DIR".into(), "/nonexistent".into())],
            scratch: std::env::temp_dir(),
        }
    }

    /// Runs git as a user would.
    fn by_hand(dir: &Path, words: &[&str]) {
        let status = Command::new("git")
            .args(["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main", "-C"])
            .arg(dir)
            .args(words)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{words:?}");
    }

    fn repository() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        fs::create_dir_all(top.join("a fleet/env")).unwrap();
        fs::write(top.join("a fleet/env/jobs"), "1\n").unwrap();
        fs::write(top.join("a fleet/hidden"), "x\n").unwrap();
        // An archive would leave it out.
        fs::write(top.join(".gitattributes"), "hidden export-ignore\n*.crlf text eol=crlf\n").unwrap();
        fs::write(top.join("a fleet/lines.crlf"), "a\nb\n").unwrap();
        by_hand(top, &["init", "-q"]);
        by_hand(top, &["add", "."]);
        by_hand(top, &["commit", "-qm", "first"]);
        by_hand(top, &["tag", "v1"]);
        fs::write(top.join("a fleet/env/jobs"), "2\n").unwrap();
        fs::create_dir(top.join("later")).unwrap();
        fs::write(top.join("later/x"), "").unwrap();
        by_hand(top, &["add", "."]);
        by_hand(top, &["commit", "-qm", "second"]);
        fs::write(top.join("a fleet/env/jobs"), "3\n").unwrap();
        dir
    }

    #[test]
    fn a_directory_comes_as_it_was() {
        let dir = repository();
        let config = dir.path().join("a fleet");
        for (revision, jobs) in [("HEAD", "2\n"), ("HEAD~1", "1\n"), ("v1", "1\n"), ("main", "2\n")] {
            let checkout = git().checkout(&config, revision).unwrap();
            assert_eq!(fs::read_to_string(checkout.path().join("env/jobs")).unwrap(), jobs, "{revision}");
            assert!(checkout.path().join("hidden").exists());
            assert_eq!(fs::read(checkout.path().join("lines.crlf")).unwrap(), b"a\r\nb\r\n");
            assert_eq!(checkout.commit.len(), 40);
            let scratch = checkout.scratch.0.clone();
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&scratch).unwrap().permissions()) & 0o777, 0o700);
            assert!(!scratch.join("tree/later").exists());
            drop(checkout);
            assert!(!scratch.exists());
        }
        assert_eq!(fs::read_to_string(config.join("env/jobs")).unwrap(), "3\n", "the work tree is left alone");
    }

    #[test]
    fn a_work_tree_of_its_own_and_the_top_of_one_will_do() {
        let dir = repository();
        let other = tempfile::tempdir().unwrap();
        let tree = other.path().join("work tree");
        by_hand(dir.path(), &["worktree", "add", "-q", "--detach", tree.to_str().unwrap(), "v1"]);
        assert!(tree.join(".git").is_file());
        let checkout = git().checkout(&tree.join("a fleet"), "main").unwrap();
        assert_eq!(fs::read_to_string(checkout.path().join("env/jobs")).unwrap(), "2\n");
        let checkout = git().checkout(&tree, "HEAD").unwrap();
        assert!(checkout.path().join("a fleet/env/jobs").exists());
    }

    #[test]
    fn says_what_is_missing() {
        let dir = repository();
        let config = dir.path().join("a fleet");
        let message = |error: GitError| error.to_string().replace(&dir.path().display().to_string(), "DIR");
        let error = git().checkout(&config, "mian").unwrap_err();
        let GitError::UnknownRevision { nearest, known, .. } = &error else { panic!("{error}") };
        assert_eq!((nearest.as_deref(), known.as_slice()), (Some("main"), &["main".to_owned(), "v1".to_owned()][..]));
        assert_eq!(message(error), "there is no revision `mian` in the repository `DIR`");
        for revision in ["--all", "", "v1:a fleet"] {
            assert!(matches!(git().checkout(&config, revision), Err(GitError::UnknownRevision { .. })), "{revision:?}");
        }
        let error = git().checkout(&dir.path().join("later"), "v1").unwrap_err();
        assert_eq!(message(error), "`later` is not there at revision `v1`");
        let elsewhere = tempfile::tempdir().unwrap();
        let error = git().checkout(elsewhere.path(), "HEAD").unwrap_err();
        assert_eq!(error.to_string(), format!("`{}` is not in a git repository", elsewhere.path().display()));
        let none = Git { program: "git-of-nowhere".into(), ..git() };
        assert_eq!(none.checkout(&config, "HEAD").unwrap_err().to_string(), "cannot find `git-of-nowhere`");
        let full = Git { scratch: "/nonexistent".into(), ..git() };
        assert!(full.checkout(&config, "HEAD").unwrap_err().to_string().starts_with("cannot create `/nonexistent/gentoomuch-"));
        let error = git().checkout(&dir.path().join(".git"), "HEAD").unwrap_err();
        assert_eq!(error.to_string(), "`git rev-parse --show-toplevel` failed with exit status: 128");
        let GitError::Program(program::Error::Failed { last_lines, .. }) = error else { panic!() };
        assert_eq!(last_lines, ["fatal: this operation must be run in a work tree"]);
    }
}
