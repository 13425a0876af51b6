//! Names of stage3 variants, and upstream's directories for them.

use std::fmt;

use super::{Error, Result};

/// Directories below `releases/`, with the first parts of variant names where those differ.
const DIRECTORIES: [(&str, &[&str]); 16] = [
    ("alpha", &[]),
    ("amd64", &["x32"]),
    ("arm", &["armv4tl", "armv5tel", "armv6j", "armv6j_hardfp", "armv7a", "armv7a_hardfp"]),
    ("arm64", &["arm64be", "aarch64_be"]),
    ("hppa", &["hppa1.1", "hppa2.0"]),
    ("ia64", &[]),
    ("loong", &["loong64"]),
    ("m68k", &[]),
    ("mips", &["mips2", "mips3", "mipsel2", "mipsel3", "mips32r2", "mips64r2", "mipsel32r2", "mips64el"]),
    ("ppc", &["power9le", "ppc64", "ppc64le"]),
    ("riscv", &["rv32_ilp32d", "rv64_lp64", "rv64_lp64d", "rv64_multilib"]),
    ("s390", &["s390x"]),
    ("sh", &["sh4", "sh4a", "sh4_ml"]),
    ("sparc", &["sparc64"]),
    ("x86", &["i386", "i486", "i586", "i686"]),
    ("ppc64", &[]),
];

/// A stage3's variant: `amd64-openrc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variant {
    /// The directory: `amd64`.
    pub arch: String,
    /// As in the file's name: `amd64-openrc`, `i686-hardened-openrc`.
    pub name: String,
}

impl Variant {
    /// Takes `amd64-openrc`, `stage3-amd64-openrc`, or `openrc` alone for `host_arch`.
    pub(crate) fn parse(text: &str, host_arch: &str) -> Result<Self> {
        let name = text.strip_prefix("stage3-").unwrap_or(text);
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_+.".contains(c);
        if name.is_empty() || name.starts_with(['-', '.']) || !name.chars().all(allowed) {
            return Err(Error::Variant { text: text.escape_debug().to_string() });
        }
        let first = name.split('-').next().unwrap_or_default();
        Ok(match directory_of(first) {
            Some(arch) => Self { arch: arch.to_owned(), name: name.to_owned() },
            None => Self { arch: directory_of(host_arch).unwrap_or(host_arch).to_owned(), name: format!("{host_arch}-{name}") },
        })
    }

    /// The directory of an architecture that is given alone: `amd64`, `i686`.
    pub(crate) fn directory(text: &str) -> Result<&'static str> {
        directory_of(text).ok_or_else(|| Error::Arch { text: text.escape_debug().to_string() })
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

fn directory_of(first: &str) -> Option<&'static str> {
    // Upstream keeps ppc64 in `ppc`. The row is only there so that the name is known.
    let row =
        DIRECTORIES.iter().find(|(_, names)| names.contains(&first)).or_else(|| DIRECTORIES.iter().find(|(dir, _)| *dir == first));
    row.map(|(dir, _)| *dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_variants_are() {
        let table = [
            ("amd64-openrc", "amd64", "amd64-openrc"),
            ("stage3-amd64-musl-hardened", "amd64", "amd64-musl-hardened"),
            ("openrc", "arm64", "arm64-openrc"),
            ("nomultilib-systemd-mergedusr", "arm64", "arm64-nomultilib-systemd-mergedusr"),
            ("i686-openrc", "x86", "i686-openrc"),
            ("ppc64le-systemd", "ppc", "ppc64le-systemd"),
            ("ppc64-openrc", "ppc", "ppc64-openrc"),
            ("armv7a_hardfp-openrc", "arm", "armv7a_hardfp-openrc"),
            ("rv64_lp64d-openrc", "riscv", "rv64_lp64d-openrc"),
        ];
        for (text, arch, name) in table {
            let variant = Variant::parse(text, "arm64").unwrap();
            assert_eq!((variant.arch.as_str(), variant.name.as_str()), (arch, name), "{text}");
        }
        for text in ["", "../amd64", "a/b", "-x", "a b", "amd64\n"] {
            assert!(Variant::parse(text, "amd64").is_err(), "{text}");
        }
    }
}
