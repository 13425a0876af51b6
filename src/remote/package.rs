//! What a binary package is elsewhere, as documents. Nothing is asked here.
//!
//! ```text
//! manifest    under the tag of its key: names the others by their digests; it goes last
//! origin      the inputs of its pool, its package key, and its entry in Portage's index
//! statement   clear-signed: of each package of a push key, name, the digest of its origin, and digest and size of its file
//! package     the file, as it lies in the pool
//! ```
//!
//! A package key says nothing about what all packages of a pool have in common, and nothing of the libc. So the key here is one over all three.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::document::{Descriptor, KEY, MADE, Manifest, NAME, digest_of, is_digest, is_hex};
use super::{Error, Flaw, Result};
use crate::portage::binpkgs::index::{Stanza, describing};
use crate::portage::binpkgs::{self, Index, LIBC, PackageFile, PackageKey, PoolInputs, key_in};
use crate::registry::Blob;

pub(super) const PACKAGE_TYPE: &str = "application/vnd.gentoomuch.package.v1";
const ORIGIN_TYPE: &str = "application/vnd.gentoomuch.package.origin.v1+json";
const FILE_TYPE: &str = "application/vnd.gentoomuch.package.v1.gpkg+tar";
const TAG_PREFIX: &str = "package-";
/// The first line of what is signed, so that no other document of the signer is taken for it.
const STATEMENT: &str = "gentoomuch remote packages 1";
/// Raise it when a key changes its meaning, so that older packages are not used.
const RECIPE: &str = "remote-package-2";

/// By how much the clocks of two machines may differ.
const CLOCKS_DIFFER_SECS: i64 = 24 * 60 * 60;

/// The key of a package in a remote: 64 hexadecimal digits. Pools do not know the `libc`, since a machine has no older one than before.
/// Another machine may, and what was built against a newer libc does not run there.
pub(super) fn key_of(pool: &PoolInputs, libc: &str, key: &PackageKey) -> String {
    // Neither a digest nor a package key has a space.
    let text = format!("{RECIPE} {} {key} {libc}", binpkgs::pool_digest(pool));
    hex::encode(Sha256::digest(text))
}

pub(super) fn tag_of(key: &str) -> String {
    format!("{TAG_PREFIX}{key}")
}

/// The key of a tag, if it is one of a package.
pub(super) fn key_of_tag(tag: &str) -> Option<&str> {
    tag.strip_prefix(TAG_PREFIX).filter(|key| is_key(key))
}

pub(super) fn is_key(text: &str) -> bool {
    is_hex(text, 64)
}

/// What is signed of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SignedPackage {
    pub(super) key: String,
    /// Its name with version: `app-misc/hello-2.10`.
    pub(super) package: String,
    /// The digest of its [`PackageOrigin`].
    pub(super) origin: String,
    /// The digest and the size of its file.
    pub(super) blob: String,
    pub(super) size: u64,
}

impl SignedPackage {
    pub(super) fn blob(&self) -> Blob {
        Blob { digest: self.blob.clone(), size: self.size }
    }
}

/// One statement, clear-signed, is about all packages of a push.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Statement {
    statement: String,
    packages: Vec<SignedPackage>,
}

impl Statement {
    pub(super) fn new(packages: Vec<SignedPackage>) -> Self {
        Self { statement: STATEMENT.to_owned(), packages }
    }

    /// The text that is signed.
    pub(super) fn text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Reads a text whose signature was verified.
    pub(super) fn parse(text: &str) -> std::result::Result<Self, Flaw> {
        let statement: Self = serde_json::from_str(text).map_err(|source| Flaw::Json { what: "statement", source })?;
        if statement.statement == STATEMENT { Ok(statement) } else { Err(Flaw::Kind(statement.statement)) }
    }

    /// What was signed of the package with this key.
    pub(super) fn of_key(&self, key: &str) -> std::result::Result<SignedPackage, Flaw> {
        let says = || self.packages.iter().map(|package| package.key.clone()).collect::<Vec<_>>().join(", ");
        let signed = self.packages.iter().find(|package| package.key == key).ok_or_else(|| Flaw::Key { says: says() })?;
        if is_digest(&signed.blob) { Ok(signed.clone()) } else { Err(Flaw::Digest { says: signed.blob.clone() }) }
    }
}

/// What a package was built for, and what Portage has to know of it without opening it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PackageOrigin {
    pub(super) pool: PoolInputs,
    pub(super) package_key: PackageKey,
    /// Its entry in the pool's index.
    pub(super) entry: Stanza,
}

impl PackageOrigin {
    /// Of an entry in the index of a pool. `None`: it is not in the form that goes elsewhere.
    pub(super) fn new(pool: &PoolInputs, entry: &Stanza) -> Option<Self> {
        let libc = entry.get(LIBC).filter(|libc| !libc.is_empty())?;
        let mut described = describing(entry);
        described.insert(LIBC.to_owned(), libc.clone());
        let origin = Self { pool: pool.clone(), package_key: key_in(entry)?, entry: described };
        origin.file().map(|_| origin)
    }

    pub(super) fn key(&self) -> String {
        key_of(&self.pool, self.says(LIBC), &self.package_key)
    }

    /// What the entry says under this name.
    pub(super) fn says(&self, name: &str) -> &str {
        self.entry.get(name).map_or("", String::as_str)
    }

    /// When it was changed last, seconds since the epoch.
    pub(super) fn modified(&self) -> Option<u64> {
        self.says("MTIME").parse().ok()
    }

    /// Refuses a time that is not over yet, since the youngest build of a key is the one that is used.
    pub(super) fn check_time(&self, now_secs: i64) -> std::result::Result<(), Flaw> {
        let latest = now_secs.saturating_add(CLOCKS_DIFFER_SECS);
        let is_over = |name: &str| self.says(name).parse::<i64>().is_ok_and(|secs| (0..=latest).contains(&secs));
        let built = self.says("BUILD_TIME").is_empty() || is_over("BUILD_TIME");
        if built && is_over("MTIME") { Ok(()) } else { Err(Flaw::Package("it says that it was built in the future")) }
    }

    /// Its file in a pool, if the entry is one that Portage writes of a package in the present format.
    pub(super) fn file(&self) -> Option<PackageFile> {
        let file = PackageFile::parse(self.says("PATH")).filter(|file| file.path.ends_with(".gpkg.tar"))?;
        let mut index = Index::default();
        index.packages.insert(file.path.clone(), self.entry.clone());
        // A line break in a value would be another entry.
        let is_one = Index::parse(&index.render(0)).packages == index.packages;
        let fits = is_one && file.cpv == self.says("CPV") && file.build_id.is_some() && self.modified().is_some();
        fits.then_some(file)
    }

    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|source| Error::Flaw(Box::new(Flaw::Json { what: "origin", source })))
    }

    /// Whether it is the origin of the package that was signed, and of this key.
    pub(super) fn parse(bytes: &[u8], signed: &SignedPackage) -> std::result::Result<Self, Flaw> {
        if digest_of(bytes) != signed.origin {
            return Err(Flaw::Other("origin"));
        }
        let origin: Self = serde_json::from_slice(bytes).map_err(|source| Flaw::Json { what: "origin", source })?;
        if origin.key() != signed.key {
            return Err(Flaw::Key { says: origin.key() });
        }
        if key_in(&origin.entry).as_ref() != Some(&origin.package_key) {
            return Err(Flaw::Other("package key"));
        }
        let fits = origin.file().is_some_and(|file| file.cpv == signed.package) && origin.says("SIZE") == signed.size.to_string();
        if fits { Ok(origin) } else { Err(Flaw::Other("entry in the index")) }
    }
}

/// The manifest of a package.
pub(super) fn manifest(signed: &SignedPackage, origin: &PackageOrigin, origin_blob: &Blob, statement: &Blob) -> Manifest {
    let built = origin.says("BUILD_TIME").parse().ok().or_else(|| i64::try_from(origin.modified()?).ok());
    let made = built.and_then(|secs| jiff::Timestamp::from_second(secs).ok());
    let mut annotations = BTreeMap::from([(KEY.to_owned(), signed.key.clone()), (NAME.to_owned(), signed.package.clone())]);
    annotations.extend(made.map(|made| (MADE.to_owned(), made.to_string())));
    let file = Descriptor::new(FILE_TYPE, &signed.blob());
    Manifest::of(PACKAGE_TYPE, Descriptor::new(ORIGIN_TYPE, origin_blob), statement, vec![file], annotations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(changes: &[(&str, &str)]) -> PackageOrigin {
        let entry = [
            ("BUILD_ID", "1"),
            ("CPV", "app-misc/hello-2.10"),
            ("GENTOOMUCH_KEY", "00112233445566778899aabbccddeeff"),
            ("GENTOOMUCH_LIBC", "sys-libs/glibc-2.40-r5"),
            ("MTIME", "1700000000"),
            ("PATH", "app-misc/hello/hello-2.10-1.gpkg.tar"),
            ("SIZE", "20480"),
        ];
        let entry = entry.iter().chain(changes).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let package_key = PackageKey::parse("00112233445566778899aabbccddeeff").unwrap();
        PackageOrigin { pool: PoolInputs { chost: "x".to_owned(), ..PoolInputs::default() }, package_key, entry }
    }

    fn signed(origin: &PackageOrigin) -> SignedPackage {
        let package = "app-misc/hello-2.10".to_owned();
        let digest = digest_of(&origin.bytes().unwrap());
        SignedPackage { key: origin.key(), package, origin: digest.clone(), blob: digest, size: 20480 }
    }

    #[test]
    fn tags_of_keys_and_back() {
        let key = origin(&[]).key();
        assert_eq!(key_of_tag(&tag_of(&key)), Some(key.as_str()));
        for tag in ["package-", "state-00", &key, &format!("package-{}", &key[1..])] {
            assert_eq!(key_of_tag(tag), None, "{tag}");
        }
        let mut other = origin(&[]);
        other.pool.chost = "y".to_owned();
        assert_ne!(other.key(), key, "a package key alone does not say what it was built for");
        let newer = origin(&[("GENTOOMUCH_LIBC", "sys-libs/glibc-2.42")]);
        assert_ne!(newer.key(), key, "what was built against a newer libc does not run on an older one");
        let mut unknown = newer.entry.clone();
        assert_eq!(PackageOrigin::new(&newer.pool, &unknown).unwrap().key(), newer.key());
        unknown.remove("GENTOOMUCH_LIBC");
        assert!(PackageOrigin::new(&newer.pool, &unknown).is_none(), "nobody knows where it runs");
    }

    #[test]
    fn an_origin_that_is_not_what_was_signed_is_refused() {
        let good = origin(&[]);
        PackageOrigin::parse(&good.bytes().unwrap(), &signed(&good)).unwrap();
        let refused = |origin: &PackageOrigin, signed: &SignedPackage| {
            PackageOrigin::parse(&origin.bytes().unwrap(), signed).unwrap_err().to_string()
        };
        let table = [
            (("GENTOOMUCH_KEY", "ff112233445566778899aabbccddeeff"), "package key"),
            (("CPV", "app-misc/hello-2.11"), "entry in the index"),
            (("PATH", "app-misc/hello/hello-2.10-1.xpak"), "entry in the index"),
            (("PATH", "../../hello/hello-2.10-1.gpkg.tar"), "entry in the index"),
            (("SIZE", "1"), "entry in the index"),
            (("MTIME", ""), "entry in the index"),
            (("DESC", "x\n\nCPV: app-misc/other-1"), "entry in the index"),
        ];
        for (change, what) in table {
            let bad = origin(&[change]);
            assert_eq!(refused(&bad, &signed(&bad)), format!("its {what} is not the one that was signed"), "{change:?}");
        }
        assert_eq!(refused(&origin(&[("SLOT", "1")]), &signed(&good)), "its origin is not the one that was signed");
        let other = SignedPackage { key: "0".repeat(64), ..signed(&good) };
        assert_eq!(refused(&good, &other), format!("it is of another key: {}", good.key()));
        let elsewhere = SignedPackage { package: "app-misc/other-1".to_owned(), ..signed(&good) };
        assert_eq!(refused(&good, &elsewhere), "its entry in the index is not the one that was signed");
    }

    #[test]
    fn nothing_was_built_in_the_future() {
        let now = 1_700_000_000;
        let checked = |name: &str, value: String| origin(&[(name, &value)]).check_time(now).is_ok();
        for name in ["MTIME", "BUILD_TIME"] {
            let day = 24 * 60 * 60;
            assert!(checked(name, (now - day).to_string()) && checked(name, (now + day).to_string()), "{name}");
            let bad = [(now + day + 1).to_string(), u64::MAX.to_string(), i64::MAX.to_string(), "-1".to_owned(), "soon".to_owned()];
            for bad in bad {
                assert!(!checked(name, bad.clone()), "{name} {bad}");
            }
        }
        assert!(checked("BUILD_TIME", String::new()));
    }

    #[test]
    fn a_statement_is_about_packages_and_names_their_keys() {
        let good = signed(&origin(&[]));
        let statement = Statement::parse(&Statement::new(vec![good.clone()]).text()).unwrap();
        assert_eq!(statement.of_key(&good.key).unwrap(), good);
        assert!(matches!(statement.of_key(&"0".repeat(64)), Err(Flaw::Key { .. })));
        let states = Statement { statement: "gentoomuch remote states 1".to_owned(), packages: Vec::new() };
        assert!(matches!(Statement::parse(&states.text()), Err(Flaw::Kind(_))));
        let odd = SignedPackage { blob: "sha256:../x".to_owned(), ..good };
        assert!(matches!(Statement::new(vec![odd.clone()]).of_key(&odd.key), Err(Flaw::Digest { .. })));
    }
}
