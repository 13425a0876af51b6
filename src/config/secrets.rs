//! Finds secrets in the configuration: everybody who has an artifact would have them.

use std::path::{Component, Path};

use super::diagnostic::{Findings, Place};

/// The first lines of private keys: OpenPGP, OpenSSH, PEM.
const BEGIN: &str = "-----BEGIN ";
const PRIVATE: [&str; 2] = ["PRIVATE KEY-----", "PRIVATE KEY BLOCK-----"];
/// Such a line is not longer than this.
const LINE_LIMIT_BYTES: usize = 80;

/// Says what is secret in a file of a fragment. `target` is its place below `/etc/portage`.
pub(super) fn check(findings: &mut Findings<'_>, file: &Path, target: &Path, bytes: &[u8]) {
    if target.starts_with("gnupg")
        && let Some(what) = of_gnupg(target)
    {
        findings.error_with_hint(
            &Place::whole(file),
            format!("this is {what}: every artifact would contain it"),
            "remove it; import public keys of binary package hosts with `gentoomuch keys import --for binpkg FILE`",
        );
    } else if let Some(line) = private_key(bytes) {
        let (message, hint) = ("this is a private key: every artifact would contain it", "remove it");
        let place = Place::new(file, line);
        if target.starts_with("gnupg") {
            findings.error_with_hint(&place, message, hint);
        } else {
            findings.warning(&place, message, hint);
        }
    }
}

/// What a file of `gnupg/` is, if it is secret. `getuto` writes the passphrase to `pass`.
fn of_gnupg(target: &Path) -> Option<&'static str> {
    let parts: Vec<&str> = target.components().filter_map(component).collect();
    match (parts.last()?, parts.get(1)?) {
        (_, &"private-keys-v1.d") | (&"secring.gpg", _) => Some("a private key"),
        (_, &"openpgp-revocs.d") => Some("a revocation certificate"),
        (&"pass", _) => Some("the passphrase of a private key"),
        _ => None,
    }
}

fn component(component: Component<'_>) -> Option<&str> {
    match component {
        Component::Normal(part) => part.to_str(),
        _ => None,
    }
}

/// The line where a private key begins.
fn private_key(bytes: &[u8]) -> Option<u32> {
    (1..).zip(bytes.split(|byte| *byte == b'\n')).find_map(|(number, line)| {
        let line = std::str::from_utf8(line.get(..LINE_LIMIT_BYTES).unwrap_or(line)).ok()?.trim();
        (line.starts_with(BEGIN) && PRIVATE.iter().any(|end| line.ends_with(end))).then_some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_gnupg() {
        for (path, secret) in [
            ("gnupg/private-keys-v1.d/0123.key", true),
            ("gnupg/secring.gpg", true),
            ("gnupg/pass", true),
            ("gnupg/openpgp-revocs.d/0123.rev", true),
            ("gnupg/pubring.kbx", false),
            ("gnupg/trustdb.gpg", false),
            ("gnupg", false),
        ] {
            assert_eq!(of_gnupg(Path::new(path)).is_some(), secret, "{path}");
        }
    }

    #[test]
    fn keys_by_their_first_line() {
        for text in
            ["-----BEGIN PGP PRIVATE KEY BLOCK-----\n", "-----BEGIN OPENSSH PRIVATE KEY-----\r\n", "  -----BEGIN PRIVATE KEY-----"]
        {
            assert_eq!(private_key(format!("x\n\u{fffd}\n{text}").as_bytes()), Some(3), "{text}");
        }
        for text in
            ["", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n", "# -----BEGIN PRIVATE KEY-----\n", "-----BEGIN CERTIFICATE-----\n"]
        {
            assert_eq!(private_key(text.as_bytes()), None, "{text}");
        }
        assert_eq!(private_key(&[0xff; 500]), None);
    }
}
