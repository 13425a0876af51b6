//! The distribution's own `gpg` with a keyring of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::child;

/// A keyring in a directory with a short path.
#[derive(Debug)]
pub(crate) struct Gpg {
    pub(crate) home: PathBuf,
}

impl Gpg {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("gm").tempdir_in("/tmp").unwrap();
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        Self { home: dir.keep() }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("gpg");
        command.env_clear().env("GNUPGHOME", &self.home).env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
        command.args(["--batch", "--no-tty", "--quiet", "--yes", "--passphrase", "", "--pinentry-mode", "loopback"]);
        command.args(["--trust-model", "always"]);
        command
    }

    pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Vec<u8> {
        child::check(self.command().args(args))
    }

    /// Makes a key that can sign; returns its fingerprint. `expiry` as gpg takes it: `never`, `1y`.
    pub(crate) fn key(&self, uid: &str, expiry: &str) -> String {
        self.run(&["--quick-gen-key", uid, "ed25519", "sign", expiry]);
        self.fingerprint(uid)
    }

    /// The same in 2020, for a day: expired since.
    pub(crate) fn expired_key(&self, uid: &str) -> String {
        self.run(&["--faked-system-time", "20200101T000000!", "--quick-gen-key", uid, "ed25519", "sign", "1d"]);
        self.fingerprint(uid)
    }

    fn fingerprint(&self, uid: &str) -> String {
        let listing = String::from_utf8(self.run(&["--list-keys", "--with-colons", uid])).unwrap();
        listing.lines().find_map(|line| line.strip_prefix("fpr:")).unwrap().trim_matches(':').to_owned()
    }

    /// Writes the public key to a file.
    pub(crate) fn export(&self, key: &str, to: &Path) {
        fs::write(to, self.run(&["--armor", "--export", key])).unwrap();
    }

    /// Writes `FILE.asc`, signed at `time` (`20200101T000000`) if given.
    pub(crate) fn detach(&self, key: &str, file: &Path, time: Option<&str>) {
        let mut command = self.command();
        command.args(time.iter().flat_map(|time| ["--faked-system-time".to_owned(), format!("{time}!")]));
        let signature = beside(file, "asc");
        child::check(command.args(["--local-user", key, "--armor", "--output"]).arg(signature).arg("--detach-sign").arg(file));
    }

    /// Writes `text` to `file`, clear-signed.
    pub(crate) fn clear_sign(&self, key: &str, text: &str, file: &Path, time: Option<&str>) {
        let mut command = self.command();
        command.args(time.iter().flat_map(|time| ["--faked-system-time".to_owned(), format!("{time}!")]));
        command.args(["--local-user", key, "--output"]).arg(file).arg("--clearsign").stdin(Stdio::piped());
        let mut running = child::spawn(&mut command);
        std::io::Write::write_all(&mut running.child().stdin.take().unwrap(), text.as_bytes()).unwrap();
        let output = running.output();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        drop(Command::new("gpgconf").env("GNUPGHOME", &self.home).args(["--kill", "all"]).output());
        drop(fs::remove_dir_all(&self.home));
    }
}

/// `FILE.SUFFIX`
pub(crate) fn beside(file: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}.{suffix}", file.display()))
}
