//! Test fixture: a real `gpg` with a keyring of its own, which makes the keys and signatures that the tests judge.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::keys::TrustedKeys;
use super::{Certificate, Fingerprint};

/// A keyring in a temporary directory, with a scratch directory beside it.
pub(crate) struct TestGpg {
    dir: TempDir,
}

impl TestGpg {
    /// `None`, said aloud, where there is no gpg; a failure if `GENTOOMUCH_TEST_STRICT` is set.
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    pub(crate) fn new() -> Option<Self> {
        if Command::new("gpg").arg("--version").output().is_err() {
            assert!(std::env::var_os("GENTOOMUCH_TEST_STRICT").is_none_or(|value| value != "1"), "gpg is not installed");
            eprintln!("skipped: gpg is not installed");
            return None;
        }
        // gpg-agent's socket lies in its home, and the path of a socket has at most 107 bytes.
        let dir = tempfile::Builder::new().prefix("gm").tempdir_in("/tmp").unwrap();
        std::fs::create_dir(dir.path().join("home")).unwrap();
        let test = Self { dir };
        std::fs::set_permissions(test.path("home"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        Some(test)
    }

    /// A path in the scratch directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn environment(&self) -> Vec<(OsString, OsString)> {
        vec![
            ("GNUPGHOME".into(), self.path("home").into()),
            ("HOME".into(), self.dir.path().into()),
            ("PATH".into(), "/usr/bin:/bin".into()),
        ]
    }

    /// Runs gpg on `input`, expects success, returns what it printed.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: &[S], input: &[u8]) -> Vec<u8> {
        let mut child = Command::new("gpg")
            .env_clear()
            .envs(self.environment())
            .env("LC_ALL", "C")
            .args(["--batch", "--no-tty", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback", "--yes"])
            .args(["--trust-model", "always"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Makes a key and returns its fingerprint.
    pub(crate) fn key(&self, uid: &str, algorithm: &str, usage: &str, expiry: &str) -> String {
        self.run(&["--quick-gen-key", uid, algorithm, usage, expiry], b"");
        self.newest_fingerprint(uid)
    }

    /// The same, with the clock set to `time` (`20200101T000000`, UTC).
    pub(crate) fn key_at(&self, time: &str, uid: &str, algorithm: &str, usage: &str, expiry: &str) -> String {
        self.run(&["--faked-system-time", &format!("{time}!"), "--quick-gen-key", uid, algorithm, usage, expiry], b"");
        self.newest_fingerprint(uid)
    }

    pub(crate) fn secret_key(&self, key: &str) -> pgp::composed::SignedSecretKey {
        use pgp::composed::Deserializable as _;
        let bytes = self.run(&["--export-secret-keys", key], b"");
        pgp::composed::SignedSecretKey::from_bytes(bytes.as_slice()).unwrap()
    }

    fn newest_fingerprint(&self, uid: &str) -> String {
        self.fingerprints(uid).into_iter().next().unwrap()
    }

    /// Fingerprints of the primary key and its subkeys, in order.
    pub(crate) fn fingerprints(&self, key: &str) -> Vec<String> {
        let key = key.split_once('<').map_or(key, |(_, address)| address.trim_end_matches('>'));
        let listing = String::from_utf8(self.run(&["--list-keys", "--with-colons", key], b"")).unwrap();
        let fingerprints = listing.lines().filter(|line| line.starts_with("fpr:"));
        fingerprints.map(|line| line.split(':').nth(9).unwrap().to_owned()).collect()
    }

    pub(crate) fn export(&self, key: &str) -> Vec<u8> {
        self.run(&["--export", key], b"")
    }

    /// An armoured detached signature of `file` by `key`, with options of the caller's.
    pub(crate) fn detach<S: AsRef<OsStr>>(&self, key: &str, options: &[S], file: &Path) -> Vec<u8> {
        let mut arguments: Vec<OsString> = options.iter().map(|option| option.as_ref().to_owned()).collect();
        arguments.extend(["--local-user", key, "--armor", "--output", "-", "--detach-sign"].map(OsString::from));
        arguments.push(file.into());
        self.run(&arguments, b"")
    }

    /// A clear-signed document.
    pub(crate) fn clear_sign(&self, key: &str, text: &str) -> Vec<u8> {
        self.run(&["--local-user", key, "--clearsign"], text.as_bytes())
    }

    /// A configuration that has `known` keys and trusts those of `trusted`.
    pub(crate) fn keys(&self, known: &[&str], trusted: &[&str]) -> TrustedKeys {
        let mut keys = TrustedKeys::default();
        for key in known {
            for certificate in Certificate::parse_all(&self.export(key)).unwrap() {
                keys.add(certificate, None);
            }
        }
        for key in trusted {
            keys.pin(key.parse::<Fingerprint>().unwrap(), &[], "test");
        }
        keys
    }
}

impl Drop for TestGpg {
    fn drop(&mut self) {
        let kill = Command::new("gpgconf").env_clear().envs(self.environment()).args(["--kill", "gpg-agent"]).output();
        drop(kill);
    }
}
