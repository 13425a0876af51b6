//! A signed release of a few megabytes, and the program to fetch it with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::server::{Answer, Asked};

/// Six months before the second build.
pub(crate) const FIRST: (&str, i64) = ("20260101T000000Z", 1_767_225_600);
pub(crate) const SECOND: (&str, i64) = ("20260701T000000Z", 1_782_864_000);

/// Says so, or fails where that is asked for.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("GENTOOMUCH_TEST_STRICT").is_none_or(|value| value != "1"), "must not be skipped: {why}");
    eprintln!("skipped: {why}");
}

pub(crate) struct Release {
    dir: tempfile::TempDir,
    pub(crate) fingerprint: String,
}

impl Drop for Release {
    fn drop(&mut self) {
        drop(Command::new("gpgconf").arg("--homedir").arg(self.path("gnupg")).args(["--kill", "all"]).output());
    }
}

impl Release {
    /// `None`, said aloud, without gpg.
    pub(crate) fn new() -> Option<Self> {
        if Command::new("gpg").arg("--version").output().is_err() {
            skip("gpg is not installed");
            return None;
        }
        // The agent's socket needs a short path.
        let dir = tempfile::Builder::new().prefix("gm").tempdir_in("/tmp").unwrap();
        let mut release = Self { dir, fingerprint: String::new() };
        fs::create_dir(release.path("gnupg")).unwrap();
        std::os::unix::fs::chown(release.path("gnupg"), None, None).unwrap();
        release.gpg(&["--quick-gen-key", "Test <test@download.example>", "ed25519", "sign", "never"]);
        let listed = String::from_utf8(release.gpg(&["--with-colons", "--list-keys"])).unwrap();
        let fingerprint = listed.lines().find_map(|line| line.strip_prefix("fpr:::::::::")?.strip_suffix(':')).unwrap();
        release.fingerprint.push_str(fingerprint);
        fs::write(release.path("key.asc"), release.gpg(&["--armor", "--export"])).unwrap();
        release.publish(FIRST);
        release.publish(SECOND);
        Some(release)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn gpg(&self, args: &[&str]) -> Vec<u8> {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(self.path("gnupg")).args([
            "--batch",
            "--quiet",
            "--no-tty",
            "--passphrase",
            "",
            "--pinentry-mode",
            "loopback",
        ]);
        let output = command.args(args).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "gpg {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    pub(crate) fn tarball(time: &str) -> String {
        format!("releases/amd64/autobuilds/{time}/stage3-amd64-tiny-{time}.tar.xz")
    }

    /// Makes a build, and it the latest.
    fn publish(&self, (time, made): (&str, i64)) {
        let tarball = self.path(&Self::tarball(time));
        let name = tarball.file_name().unwrap().to_str().unwrap().to_owned();
        fs::create_dir_all(tarball.parent().unwrap()).unwrap();
        let seed = u32::try_from(made).unwrap();
        let bytes: Vec<u8> = (0..500_000u32).flat_map(|number| (number ^ seed).wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        fs::write(&tarball, &bytes).unwrap();
        fs::write(tarball.with_file_name(format!("{name}.CONTENTS.gz")), b"not covered by the digests").unwrap();
        let sum = Command::new("sha512sum").arg(&name).current_dir(tarball.parent().unwrap()).output().unwrap();
        let digests = format!("# SHA512 HASH\n{}", String::from_utf8(sum.stdout).unwrap());
        self.clear_sign(&tarball.with_file_name(format!("{name}.DIGESTS")), &digests);
        let path = tarball.to_str().unwrap();
        self.gpg(&["--yes", "--armor", "--output", &format!("{path}.asc"), "--detach-sign", path]);
        let list = format!("# ts={made}\n{time}/{name} {}\n", bytes.len());
        self.clear_sign(&self.path(&format!("list-{time}.txt")), &list);
        fs::copy(self.path(&format!("list-{time}.txt")), self.path("releases/amd64/autobuilds/latest-stage3.txt")).unwrap();
    }

    fn clear_sign(&self, path: &Path, text: &str) {
        let plain = self.path("plain.txt");
        fs::write(&plain, text).unwrap();
        self.gpg(&["--yes", "--output", path.to_str().unwrap(), "--clear-sign", plain.to_str().unwrap()]);
    }

    /// What a mirror answers.
    pub(crate) fn serve(root: &Path, asked: &Asked) -> Answer {
        match fs::read(root.join(asked.target.trim_start_matches('/'))) {
            Ok(body) => Answer::ranged(asked, &body),
            Err(_) => Answer::status(404),
        }
    }
}

/// A user's home.
pub(crate) struct Home(tempfile::TempDir);

impl Home {
    /// One that trusts the release's key.
    pub(crate) fn of(release: &Release) -> Self {
        let home = Self::empty();
        let key = release.path("key.asc");
        home.says(&["keys", "import", "--trust", key.to_str().unwrap()], 0);
        home
    }

    pub(crate) fn empty() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(home.path(".config/gentoomuch")).unwrap();
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn kept(&self, name: &str) -> PathBuf {
        self.path(".cache/gentoomuch/stage3").join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gentoomuch"));
        command.args(args).env_clear().env("HOME", self.0.path()).env("PATH", "/usr/bin:/bin").current_dir(self.0.path());
        command.stdin(Stdio::null());
        command
    }

    /// Standard output, then standard error, of a run that ends with `code`.
    pub(crate) fn says(&self, args: &[&str], code: i32) -> String {
        Self::ended(self.command(args).output().unwrap(), code)
    }

    /// What it prints as JSON, which has to be as documented.
    pub(crate) fn json(&self, args: &[&str]) -> serde_json::Value {
        let args = [args, &["--json"]].concat();
        let output = self.command(&args).output().unwrap();
        crate::schema::check(&args, output.status.success(), &output.stdout);
        let words = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {args:?}: {words}"))
    }

    pub(crate) fn ended(output: Output, code: i32) -> String {
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        text
    }
}
