//! The program in an environment of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A home directory that lasts as long as this.
pub(crate) struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    /// An empty one.
    pub(crate) fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// One with a configuration: `files` below `~/.config/gentoomuch`.
    pub(crate) fn with_config(files: &[(&str, &str)]) -> Self {
        let home = Self::empty();
        for (path, text) in files {
            home.write(path, text);
        }
        home
    }

    /// One with the shipped configuration.
    pub(crate) fn with_shipped_config() -> Self {
        let home = Self::empty();
        copy(&repository().join("config"), &home.config());
        home
    }

    /// Writes a file of the configuration.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.config().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path().join(".config/gentoomuch")
    }

    /// The program, with nothing in its environment but a `PATH` and this home.
    pub(crate) fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gentoomuch"));
        command
            .env_clear()
            .env("HOME", self.path())
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("LANG", "C.UTF-8")
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs it with `args`.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let output = self.program().args(args).output().unwrap();
        crate::schema::check(args, output.status.success(), &output.stdout);
        output
    }

    /// What one sees: the command, its output, its messages and its exit code. `args` are split at blanks.
    pub(crate) fn transcript(&self, args: &str) -> String {
        let output = self.run(&args.split_whitespace().collect::<Vec<_>>());
        let mut text = format!("$ gentoomuch {args}\n");
        text.push_str(&self.portable(&output.stdout));
        text.push_str(&self.portable(&output.stderr));
        text.push_str(&format!("[exit {}]\n", output.status.code().unwrap()));
        text
    }

    /// Several of them.
    pub(crate) fn transcripts(&self, commands: &[&str]) -> String {
        commands.iter().map(|args| self.transcript(args)).collect::<Vec<_>>().join("\n")
    }

    fn portable(&self, bytes: &[u8]) -> String {
        String::from_utf8(bytes.to_vec()).unwrap().replace(&self.path().display().to_string(), "HOME")
    }
}

/// The checkout.
pub(crate) fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
