//! Binary packages that gpg has signed.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use gentoomuch::TrustedKeys;

use crate::broker::hash;
use crate::release::skip;

/// Whose packages they are.
pub(crate) struct Owner {
    dir: tempfile::TempDir,
    pub(crate) fingerprint: String,
}

impl Drop for Owner {
    fn drop(&mut self) {
        drop(Command::new("gpgconf").arg("--homedir").arg(self.path("gnupg")).args(["--kill", "all"]).output());
    }
}

impl Owner {
    /// `None`, said aloud, without gpg.
    pub(crate) fn new() -> Option<Self> {
        if Command::new("gpg").arg("--version").output().is_err() {
            skip("gpg is not installed");
            return None;
        }
        // The agent's socket needs a short path.
        let mut owner = Self { dir: tempfile::Builder::new().prefix("gm").tempdir_in("/tmp").unwrap(), fingerprint: String::new() };
        fs::create_dir(owner.path("gnupg")).unwrap();
        fs::set_permissions(owner.path("gnupg"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        owner.gpg(&["--quick-gen-key", "Test <test@packages.example>", "ed25519", "sign", "never"], b"");
        let listed = String::from_utf8(owner.gpg(&["--with-colons", "--list-keys"], b"")).unwrap();
        let fingerprint = listed.lines().find_map(|line| line.strip_prefix("fpr:::::::::")?.strip_suffix(':')).unwrap();
        owner.fingerprint.push_str(fingerprint);
        fs::create_dir(owner.path("keys")).unwrap();
        fs::write(owner.path("keys/key.asc"), owner.gpg(&["--armor", "--export"], b"")).unwrap();
        fs::write(owner.path("keys/trusted"), format!("{fingerprint} binpkg\n")).unwrap();
        Some(owner)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn gpg(&self, args: &[&str], input: &[u8]) -> Vec<u8> {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(self.path("gnupg")).args(["--batch", "--quiet", "--no-tty", "--passphrase", ""]);
        command.args(["--pinentry-mode", "loopback"]).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "gpg {args:?}");
        output.stdout
    }

    /// A configuration that trusts it.
    pub(crate) fn keys(&self) -> TrustedKeys {
        TrustedKeys::load(&self.path("keys"), &[]).unwrap()
    }

    /// A package with this image.
    pub(crate) fn package(&self, image: &[u8]) -> Vec<u8> {
        let signature = |data: &[u8]| self.gpg(&["--armor", "--detach-sign"], data);
        let parts = [
            ("gpkg-1", Vec::new()),
            ("metadata.tar", b"metadata".to_vec()),
            ("metadata.tar.sig", signature(b"metadata")),
            ("image.tar", image.to_vec()),
            ("image.tar.sig", signature(image)),
        ];
        container(&parts, |manifest| self.gpg(&["--clear-sign"], manifest.as_bytes()))
    }
}

/// A package that nobody has signed.
pub(crate) fn unsigned(image: &[u8]) -> Vec<u8> {
    container(&[("gpkg-1", Vec::new()), ("image.tar", image.to_vec())], |manifest| manifest.as_bytes().to_vec())
}

fn container(parts: &[(&str, Vec<u8>)], sign: impl Fn(&str) -> Vec<u8>) -> Vec<u8> {
    let line = |(name, data): &(&str, Vec<u8>)| {
        format!("DATA {name} {} BLAKE2B {} SHA512 {}\n", data.len(), hash("b2sum", data), hash("sha512sum", data))
    };
    let manifest = ("Manifest", sign(&parts.iter().map(line).collect::<String>()));
    let mut tar = tar::Builder::new(Vec::new());
    for (name, data) in parts.iter().chain([&manifest]) {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("p-1-1/{name}"), data.as_slice()).unwrap();
    }
    tar.into_inner().unwrap()
}
