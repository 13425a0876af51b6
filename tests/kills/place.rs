//! Where one test works: its own home, configuration, data and cache, and the program with an environment built from nothing.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::processes;

const PROGRAM: &str = env!("CARGO_BIN_EXE_gentoomuch");
const PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

/// Directories below one temporary directory, removed inside the id map in the end.
#[derive(Debug)]
pub(crate) struct Place {
    /// Short, for the sockets of gpg-agent.
    base: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        processes::adopt_orphans();
        let place = Self { base: tempfile::Builder::new().prefix("gmk").tempdir_in("/tmp").unwrap() };
        for name in ["home", "config", "data", "cache/distfiles", "tmp", "gnupg"] {
            std::fs::create_dir_all(place.path(name)).unwrap();
        }
        std::fs::set_permissions(place.path("gnupg"), PermissionsExt::from_mode(0o700)).unwrap();
        copy_tree(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config"), &place.path("config"));
        place
    }

    pub(crate) fn base(&self) -> &Path {
        self.base.path()
    }

    pub(crate) fn path(&self, sub: &str) -> PathBuf {
        self.base.path().join(sub)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// A file of the configuration.
    pub(crate) fn configure(&self, file: &str, text: &str) {
        let path = self.path("config").join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(if text.starts_with("#!") { 0o755 } else { 0o644 })).unwrap();
    }

    /// Any program, in the same scrubbed environment.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOME", self.path("home"))
            .env("PATH", PATH)
            .env("LC_ALL", "C.UTF-8")
            .env("TMPDIR", self.path("tmp"))
            .env("GNUPGHOME", self.path("gnupg"))
            .env("GENTOOMUCH_CONFIG", self.path("config"))
            .env("GENTOOMUCH_DATA", self.data())
            .env("GENTOOMUCH_CACHE", self.path("cache"))
            .stdin(std::process::Stdio::null());
        command
    }

    /// The program.
    pub(crate) fn program(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(PROGRAM);
        command.args(arguments);
        command
    }

    /// The program, telling each step as a line of JSON.
    pub(crate) fn traced(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(&["-vv", "--log-format", "json"]);
        command.args(arguments);
        command
    }

    /// Runs the program and expects success; answers its standard output.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        expect_success(&mut self.program(arguments))
    }

    /// Runs a program of the host's inside the same id map, as its root.
    pub(crate) fn in_map(&self, arguments: &[&str]) -> String {
        let mut command = self.command("unshare");
        command.args(["--map-auto", "--map-root-user", "--"]).args(arguments);
        expect_success(&mut command)
    }

    /// Forgets everything but configuration and cache.
    pub(crate) fn forget(&self) {
        self.in_map(&["rm", "-rf", "--", self.data().to_str().unwrap()]);
    }

    /// What must hold whenever none of our processes runs, before the next command sets anything right.
    pub(crate) fn nothing_lives(&self) {
        processes::none_is_left();
        processes::nothing_is_mounted(self.base());
        processes::nothing_is_locked(&self.path("data/store"));
        processes::nothing_is_locked(&self.path("cache"));
    }

    /// What must hold after a normal run: a store without any remark, and nothing half-made anywhere.
    pub(crate) fn all_is_clean(&self) {
        let report = self.run(&["store", "verify", "--json"]);
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["structure"]["findings"], serde_json::json!([]), "store verify");
        for empty in ["data/store/sessions", "data/store/tmp", "tmp"] {
            assert_eq!(names(&self.path(empty)), Vec::<String>::new(), "`{empty}` should be empty");
        }
        for dir in std::iter::once(self.path("data/stages")).chain(subdirectories(&self.path("data/stages"))) {
            let hidden: Vec<String> = names(&dir).into_iter().filter(|name| name.starts_with('.')).collect();
            assert_eq!(hidden, Vec::<String>::new(), "unfinished artifacts in {}", dir.display());
        }
        for pool in subdirectories(&self.path("cache/binpkgs")) {
            let incoming = names(&pool.join(".incoming"));
            assert_eq!(incoming, Vec::<String>::new(), "unfinished packages in {}", pool.display());
        }
        let partial: Vec<String> =
            names(&self.path("cache/distfiles")).into_iter().filter(|name| name.contains("__download__")).collect();
        assert_eq!(partial, Vec::<String>::new(), "unfinished downloads");
        let known = ["audits", "binhost", "build-times", "default-profile", "logs", "repos", "stages", "store", "patches"];
        let strange: Vec<String> = names(&self.data()).into_iter().filter(|name| !known.contains(&name.as_str())).collect();
        assert_eq!(strange, Vec::<String>::new(), "in the data directory");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let kill = self.command("gpgconf").args(["--kill", "all"]).output();
        drop(kill);
        let mut remove = self.command("unshare");
        remove.args(["--map-auto", "--map-root-user", "--", "rm", "-rf", "--"]).arg(self.data()).arg(self.path("cache"));
        drop(remove.output());
    }
}

/// Names in a directory, sorted; none if there is no such directory.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    let children: Vec<PathBuf> = names(dir).iter().map(|name| dir.join(name)).filter(|path| path.is_dir()).collect();
    children.iter().flat_map(|child| std::iter::once(child.clone()).chain(subdirectories(child))).collect()
}

pub(crate) fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in names(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            copy_tree(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}

/// Runs a command; answers its standard output.
pub(crate) fn expect_success(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}\n{}", both(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Status and all that was printed, for messages.
pub(crate) fn both(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr))
}
