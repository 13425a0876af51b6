//! The *package key*: a hash of what a binary package was made from.
//!
//! Portage picks a binary package by version, USE flags and dependencies. It does not compare compiler flags, `package.env`, the text of
//! the ebuild, or a saved configuration. So we do: a session only sees packages with the key that its own build of them would have.
//!
//! ```text
//! part          what is hashed
//! ebuild        the ebuild, the files beside it, digests of its sources
//! eclasses      those that it inherits
//! patches       of the user, for this very package
//! savedconfig   likewise
//! bashrc        each bashrc that Portage reads for it; if there is one, also `env/` and the files of /etc/portage that are not
//! Portage's, which it may read
//! compiler      its name and major version; a package that sets one (`CC` in `package.env`) that cannot be run has no key
//! $NAME         each variable that Portage gives the ebuild, except those without effect (`portage::variables`, and below)
//! ```
//!
//! Versions of other packages are not included: `:=`, `--binpkg-changed-deps` and sonames take care of these.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::portage::variables::counts_for_what_is_built;

/// Raise it when a part changes its meaning, so that older packages are not used.
pub(crate) const RECIPE: &str = "package-2";

/// The key of a package: 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PackageKey(String);

impl PackageKey {
    /// Parses a key from an index.
    pub fn parse(text: &str) -> Option<Self> {
        let is_key = text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        is_key.then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for PackageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Variables of an ebuild that do not count, besides those of [`crate::portage::variables`].
///
/// A tree's lists for all packages change with every second tree. The flags of this package are in `USE`.
const NEUTRAL: &str = "ALL_PROXY all_proxy DEFINED_PHASES FTP_PROXY HTTPS_PROXY HTTP_PROXY IUSE_IMPLICIT NO_PROXY OLDPWD \
                       PROFILE_ONLY_VARIABLES PWD SHELL SHLVL USE_EXPAND USE_EXPAND_HIDDEN";
/// The same by prefix: our own variables, the tree's lists, the sandbox, distributed compiling.
const NEUTRAL_PREFIXES: [&str; 4] = ["GENTOOMUCH_", "USE_EXPAND_VALUES_", "SANDBOX_", "ICECC_"];

/// `FEATURES` that change nothing in a package. Unknown ones count, as Portage may add some.
const NEUTRAL_FEATURES: &[&str] = &[
    "assume-digests",
    "binpkg-ignore-signature",
    "binpkg-logs",
    "binpkg-multi-instance",
    "binpkg-request-signature",
    "binpkg-signing",
    "buildpkg",
    "buildpkg-live",
    "buildsyspkg",
    "candy",
    "ccache",
    "cgroup",
    "clean-logs",
    "collision-protect",
    "compress-build-logs",
    "compress-index",
    "config-protect-if-modified",
    "digest",
    "distcc",
    "distcc-pump",
    "distlocks",
    "downgrade-backup",
    "ebuild-locks",
    "fail-clean",
    "fakeroot",
    "force-mirror",
    "getbinpkg",
    "gpg-keepalive",
    "icecream",
    "ipc-sandbox",
    "jobserver-token",
    "keeptemp",
    "keepwork",
    "lmirror",
    "merge-sync",
    "merge-wait",
    "metadata-transfer",
    "mirror",
    "mount-sandbox",
    "network-sandbox",
    "network-sandbox-proxy",
    "news",
    "noclean",
    "notitles",
    "observability",
    "parallel-fetch",
    "parallel-install",
    "pid-sandbox",
    "pkgdir-index-trusted",
    "preserve-libs",
    "protect-owned",
    "qa-unresolved-soname-deps",
    "sandbox",
    "sesandbox",
    "sign",
    "skiprocheck",
    "split-elog",
    "split-log",
    "strict",
    "unknown-features-filter",
    "unknown-features-warn",
    "unmerge-backup",
    "unmerge-logs",
    "unmerge-orphans",
    "userfetch",
    "userpriv",
    "usersandbox",
    "usersync",
    "warn-on-large-env",
    "webrsync-gpg",
];

/// What Portage says about a package before building it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Described {
    /// `category/name-version`.
    pub cpv: String,
    /// The repository of its ebuild.
    pub repository: String,
    /// Hashes, and the compiler, by part.
    pub parts: BTreeMap<String, String>,
    /// The environment that Portage gives its ebuild.
    pub environment: BTreeMap<String, String>,
    /// Whether it is installed. Not part of the key.
    pub installed: bool,
    /// The compiler of this package, if other packages have another one. Not part of the key.
    pub own_compiler: String,
}

impl Described {
    /// All parts by name; names of variables begin with `$`.
    pub fn inputs(&self) -> BTreeMap<String, String> {
        let words = |value: &str| value.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let variables = self.environment.iter().filter(|(name, _)| counts(name)).map(|(name, value)| {
            let value = match name.as_str() {
                // Not all versions of Portage sort these.
                "USE" => BTreeSet::from_iter(words(value)).into_iter().collect::<Vec<_>>().join(" "),
                "FEATURES" => features(value).join(" "),
                "MAKEFLAGS" | "GNUMAKEFLAGS" => make_flags(value).join(" "),
                // Portage sets it whether or not the configuration does.
                "PORTAGE_INST_UID" | "PORTAGE_INST_GID" if value == "0" => String::new(),
                // The order of flags matters, white space between them does not.
                _ => words(value).join(" "),
            };
            (format!("${name}"), value)
        });
        let parts = self.parts.iter().map(|(name, value)| (name.clone(), value.clone()));
        // An empty variable is the same as an unset one.
        parts.chain(variables).filter(|(_, value)| !value.is_empty()).collect()
    }

    /// The key that a build of it would have now.
    pub fn key(&self) -> PackageKey {
        let mut hash = Sha256::new();
        let mut field = |text: &str| {
            // Lengths first, so that different lists of fields never give the same bytes.
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        for text in [RECIPE, &self.cpv, &self.repository] {
            field(text);
        }
        for (name, value) in &self.inputs() {
            field(name);
            field(value);
        }
        PackageKey(hex::encode(&hash.finalize()[..16]))
    }
}

/// Whether a variable of an ebuild's environment can change the result of its build.
fn counts(name: &str) -> bool {
    let is_neutral = NEUTRAL.split_whitespace().any(|neutral| neutral == name);
    !is_neutral && !NEUTRAL_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && counts_for_what_is_built(name)
}

/// The ones that count, sorted.
fn features(value: &str) -> Vec<&str> {
    let counted = value.split_whitespace().filter(|feature| !NEUTRAL_FEATURES.contains(feature));
    counted.collect::<BTreeSet<_>>().into_iter().collect()
}

/// `MAKEOPTS` and its like without the number of jobs and the job server, which a session passes in these variables.
fn make_flags(value: &str) -> Vec<&str> {
    let mut counted = Vec::new();
    let mut goes_on = false;
    for word in value.split_whitespace() {
        if goes_on || !is_about_jobs(word) {
            counted.push(word);
        }
        // The space after a backslash belongs to a value, as in `CFLAGS=-O2\ -j`.
        goes_on = word.ends_with('\\');
    }
    counted
}

fn is_about_jobs(word: &str) -> bool {
    const OPTIONS: [&str; 6] =
        ["--jobserver-auth=", "--jobserver-fds=", "--jobs=", "--load-average=", "--max-load=", "--output-sync="];
    let short = word.strip_prefix("-j").or_else(|| word.strip_prefix("-l"));
    OPTIONS.iter().any(|option| word.starts_with(option))
        || short.is_some_and(|n| n.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described() -> Described {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Described {
            cpv: "app-misc/hello-2.10".to_owned(),
            repository: "gentoo".to_owned(),
            parts: map(&[("ebuild", "e1"), ("patches", ""), ("compiler", "gcc 14")]),
            environment: map(&[("CFLAGS", "-O2 -pipe"), ("USE", "nls amd64"), ("FEATURES", "xattr sandbox"), ("MAKEOPTS", "-j2")]),
            installed: false,
            own_compiler: String::new(),
        }
    }

    #[test]
    fn the_key_does_not_change_with_our_code() {
        assert_eq!(described().key().to_string(), "cc099541bc0bfbbb72e4595840fe1ead");
        assert_eq!(PackageKey::parse(&described().key().to_string()), Some(described().key()));
        for odd in ["", "xyz", "../../../../../../../../../../..", "ABCDEF00ABCDEF00ABCDEF00ABCDEF00"] {
            assert_eq!(PackageKey::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn whatever_decides_what_is_built_counts() {
        let mut keys = BTreeSet::from([described().key()]);
        let set = |name: &'static str, value: &'static str| {
            move |it: &mut Described| drop(it.environment.insert(name.to_owned(), value.to_owned()))
        };
        let changes: Vec<Box<dyn Fn(&mut Described)>> = vec![
            Box::new(|it| it.repository = "own".to_owned()),
            Box::new(|it| it.cpv.push('1')),
            Box::new(|it| _ = it.parts.insert("ebuild".to_owned(), "e2".to_owned())),
            Box::new(|it| _ = it.parts.insert("patches".to_owned(), "p".to_owned())),
            Box::new(|it| _ = it.parts.insert("compiler".to_owned(), "clang 14".to_owned())),
            Box::new(set("CFLAGS", "-pipe -O2")),
            Box::new(set("LDFLAGS", "-O2 -pipe")),
            Box::new(set("USE", "amd64")),
            Box::new(set("FEATURES", "xattr splitdebug")),
            Box::new(set("EXTRA_ECONF", "--x")),
            Box::new(set("A_NAME_OF_NOBODY", "1")),
            Box::new(set("PKG_INSTALL_MASK", "/usr/share/doc")),
            Box::new(set("LINGUAS", "de")),
            // Portage deletes empty directories with it.
            Box::new(set("FEATURES", "xattr strict-keepdir")),
            Box::new(set("MAKEFLAGS", "CFLAGS=-O3")),
            Box::new(set("MAKEFLAGS", "CFLAGS=-O3\\ -j2 -j4 --jobserver-auth=fifo:/dev/shm/j")),
            Box::new(set("MAKEFLAGS", "CFLAGS=-O3\\ -j3")),
            Box::new(set("GNUMAKEFLAGS", "CFLAGS=-O3")),
            // Who owns what `dobin` installs.
            Box::new(set("PORTAGE_INST_UID", "1000")),
            Box::new(set("PORTAGE_INST_GID", "1000")),
        ];
        for (at, change) in changes.iter().enumerate() {
            let mut other = described();
            change(&mut other);
            assert!(keys.insert(other.key()), "{at}");
        }
    }

    #[test]
    fn what_does_not_decide_it_does_not() {
        let mut same = described();
        for (name, value) in [
            ("MAKEOPTS", "-j16"),
            ("CFLAGS", " -O2\n-pipe "),
            ("USE", "amd64  nls"),
            ("FEATURES", "sandbox xattr observability buildpkg"),
            ("GENTOOMUCH_DEFINITION", "web"),
            ("FETCHCOMMAND_HTTPS", "x"),
            ("INSTALL_MASK", "/usr/share/doc"),
            ("FFLAGS", ""),
            // Of the session's job server, and Portage's own values.
            ("MAKEFLAGS", "--jobserver-auth=fifo:/dev/shm/gentoomuch-jobs -j4 -l4.0"),
            ("GNUMAKEFLAGS", "--load-average=4 --output-sync=line"),
            ("PORTAGE_INST_UID", "0"),
            ("PORTAGE_INST_GID", "0"),
        ] {
            same.environment.insert(name.to_owned(), value.to_owned());
        }
        assert_eq!(same.key(), described().key());
    }

    #[test]
    fn each_feature_stands_once() {
        let mut seen = BTreeSet::new();
        for name in NEUTRAL_FEATURES {
            assert!(seen.insert(name), "{name}");
        }
    }
}
