//! What is chosen for a new configuration directory, and what that changes in it.

use std::path::{Path, PathBuf};

use serde::Serialize;

/// The profile that the shipped stage4s are for.
const SHIPPED_PROFILE: &str = "demo";
/// Ends a line of a shipped list that names what only the testbed's tree has: a new directory builds from the Gentoo repository.
const OF_TESTBED: &str = "# only in the testbed";
/// The file with the key that signs.
pub(crate) const SIGN_KEY: &str = "env/sign_key";
/// Where Gentoo publishes its binary packages, and which of an architecture's run on every machine of it.
const GENTOO_HOST: &str = "https://distfiles.gentoo.org/releases";
const GENTOO_PACKAGES: [(&str, &str); 2] = [("amd64", "23.0/x86-64"), ("arm64", "23.0/arm64")];

/// What is chosen; nothing by default.
#[derive(Debug, Clone, Default)]
pub(crate) struct Choices {
    /// The profile that the stage4s name.
    pub(crate) profile: Option<String>,
    pub(crate) signing_key: Option<SigningKey>,
    /// Address of a host of binary packages for the first builder.
    pub(crate) binhost: Option<String>,
}

/// A key that can sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SigningKey {
    pub(crate) fingerprint: String,
    /// Its first user id, in one line.
    pub(crate) uid: Option<String>,
}

impl Choices {
    pub(crate) fn profile(&self) -> &str {
        self.profile.as_deref().unwrap_or(SHIPPED_PROFILE)
    }

    /// Gentoo's host of binary packages for an architecture, if it has packages for every machine of that.
    pub(crate) fn gentoo_host(arch: &str) -> Option<String> {
        let (_, packages) = GENTOO_PACKAGES.iter().find(|(known, _)| *known == arch)?;
        Some(format!("{GENTOO_HOST}/{arch}/binpackages/{packages}/"))
    }

    /// A shipped file as it is chosen.
    pub(super) fn adapt(&self, path: &Path, contents: Vec<u8>) -> Vec<u8> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !path.starts_with("stage4.defines") || !["profile", "packages"].contains(&name) {
            return contents;
        }
        let text = String::from_utf8_lossy(&contents);
        let kept = text.lines().filter(|line| !line.ends_with(OF_TESTBED));
        let lines = kept.map(|line| if name == "profile" && line == SHIPPED_PROFILE { self.profile() } else { line });
        lines.flat_map(|line| [line, "\n"]).collect::<String>().into_bytes()
    }

    /// The files that are made for them.
    pub(super) fn files(&self) -> Vec<(PathBuf, String)> {
        let mut files = Vec::new();
        if let Some(SigningKey { fingerprint, uid }) = &self.signing_key {
            let whose = uid.as_ref().map_or_else(String::new, |uid| format!("# {uid}\n"));
            files.push((PathBuf::from(SIGN_KEY), format!("{whose}{fingerprint}\n")));
        }
        if let Some(address) = &self.binhost {
            let about = "# Packages of hosts until a profile is updated for the first time: `gentoomuch profile update` compiles them anew.\n";
            files.push((PathBuf::from("env/binhost"), format!("{about}first\n")));
            let host = format!("# Its packages are for any machine of the architecture.\n[gentoobinhost]\nsync-uri = {address}\n");
            files.push((PathBuf::from("portage.global/binrepos.conf/gentoobinhost.conf"), host));
        }
        files
    }
}
