//! The pool of a build.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What all packages of a pool have in common. Each package's own inputs are in its [key](super::package_key).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolInputs {
    /// The target triple.
    pub chost: String,
    /// The Portage profile, relative to `profiles/`: `default/linux/amd64/23.0`.
    pub portage_profile: String,
    /// Name and major version of the compiler in the root.
    pub toolchain: String,
    /// Effective flags by variable: `CFLAGS`, `CXXFLAGS`, `FFLAGS`, `FCFLAGS`, `LDFLAGS`, `RUSTFLAGS`, …
    pub flags: BTreeMap<String, String>,
    /// Effective `CPU_FLAGS_*`, by variable.
    pub cpu_flags: BTreeMap<String, BTreeSet<String>>,
    /// Set for a definition that does not share its packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<String>,
}

/// The name of a pool's directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct PoolKey(String);

impl PoolKey {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Raise it when an input changes its meaning, so that older packages are not used.
const RECIPE: &str = "pool-2";

/// A hash of all inputs: 64 hexadecimal digits.
pub(crate) fn pool_digest(inputs: &PoolInputs) -> String {
    let mut hash = Sha256::new();
    let mut field = |name: &str, value: &str| {
        // Lengths first, so that different lists of fields never give the same bytes.
        for part in [name, value] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
    };
    field("recipe", RECIPE);
    field("chost", inputs.chost.trim());
    field("portage profile", inputs.portage_profile.trim_matches('/'));
    field("toolchain", inputs.toolchain.trim());
    for (variable, value) in &inputs.flags {
        // The order of flags matters to the compiler, white space between them does not. An empty variable is the same as an unset one.
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        if !value.is_empty() {
            field(variable, &value);
        }
    }
    for (variable, values) in &inputs.cpu_flags {
        if !values.is_empty() {
            field(variable, &values.iter().map(String::as_str).collect::<Vec<_>>().join(" "));
        }
    }
    if let Some(own) = &inputs.own {
        // No variable has this name.
        field("own of", own);
    }
    hex::encode(hash.finalize())
}

/// The pool for `inputs`: a readable part, then a hash of all inputs.
pub(crate) fn pool_key(inputs: &PoolInputs) -> PoolKey {
    let digest = pool_digest(inputs);
    let profile = inputs.portage_profile.trim_matches('/');
    let profile = profile.strip_prefix("default/linux/").unwrap_or(profile);
    PoolKey(format!("{}-{}-{}", in_a_name(&inputs.chost), in_a_name(profile), &digest[..12]))
}

/// `text` as part of a file name: short, without separators, never starting with a dot.
fn in_a_name(text: &str) -> String {
    let plain: String =
        text.trim().chars().map(|c| if c.is_ascii_alphanumeric() || "._+-".contains(c) { c } else { '-' }).take(60).collect();
    let plain = plain.trim_matches(['.', '-']);
    if plain.is_empty() { "unknown".to_owned() } else { plain.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs() -> PoolInputs {
        PoolInputs {
            chost: "x86_64-pc-linux-gnu".to_owned(),
            portage_profile: "default/linux/amd64/23.0".to_owned(),
            toolchain: "sys-devel/gcc-14.3.0 sys-libs/glibc-2.41".to_owned(),
            flags: BTreeMap::from([("CFLAGS".to_owned(), "-O2 -pipe".to_owned())]),
            cpu_flags: BTreeMap::from([("CPU_FLAGS_X86".to_owned(), BTreeSet::from(["avx".to_owned(), "sse4_2".to_owned()]))]),
            own: None,
        }
    }

    #[test]
    fn what_is_a_definition_s_own_is_nobody_else_s() {
        let of = |own: Option<&str>| pool_key(&PoolInputs { own: own.map(str::to_owned), ..inputs() });
        assert_ne!(of(None), of(Some("a")));
        assert_ne!(of(Some("a")), of(Some("b")));
        // As it was written before there were any.
        let text = serde_json::to_string(&inputs()).expect("JSON");
        assert!(!text.contains("own"), "{text}");
        assert_eq!(serde_json::from_str::<PoolInputs>(&text).expect("read"), inputs());
    }

    #[test]
    fn the_name_is_readable_and_does_not_change_with_our_code() {
        assert_eq!(pool_key(&inputs()).as_str(), "x86_64-pc-linux-gnu-amd64-23.0-a8fe9c4c90f6");
    }

    #[test]
    fn each_input_counts() {
        let base = pool_key(&inputs());
        let changes: [fn(&mut PoolInputs); 7] = [
            |i| i.chost = "x86_64-pc-linux-musl".to_owned(),
            |i| i.portage_profile.push_str("/hardened"),
            |i| i.toolchain.push('1'),
            |i| i.flags.entry("CFLAGS".to_owned()).or_default().push_str(" -g"),
            |i| _ = i.flags.insert("LDFLAGS".to_owned(), "-Wl,-O1".to_owned()),
            |i| i.cpu_flags.clear(),
            |i| {
                let cflags = i.flags.remove("CFLAGS").unwrap_or_default();
                i.flags.insert("CXXFLAGS".to_owned(), cflags);
            },
        ];
        let mut keys = BTreeSet::from([base]);
        for change in changes {
            let mut other = inputs();
            change(&mut other);
            assert!(keys.insert(pool_key(&other)), "{other:?}");
        }
    }

    #[test]
    fn space_and_empty_variables_do_not() {
        let mut same = inputs();
        same.flags.insert("CFLAGS".to_owned(), "  -O2\t -pipe\n".to_owned());
        same.flags.insert("FFLAGS".to_owned(), " ".to_owned());
        same.cpu_flags.insert("CPU_FLAGS_ARM".to_owned(), BTreeSet::new());
        assert_eq!(pool_key(&same), pool_key(&inputs()));
    }

    #[test]
    fn a_name_never_leaves_its_directory() {
        let odd = PoolInputs { chost: "../../x".to_owned(), portage_profile: "..".to_owned(), ..PoolInputs::default() };
        let key = pool_key(&odd);
        assert!(key.as_str().starts_with("x-unknown-") || !key.as_str().contains('/'), "{key}");
        assert!(!key.as_str().starts_with('.'));
    }
}
