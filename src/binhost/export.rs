//! A pool as a signed binhost.
//!
//! ```text
//! DIR/Packages, Packages.gz                    Portage's index, of the signed files
//!     app-misc/hello/hello-2.10-1.gpkg.tar     signed
//!     gentoomuch.asc                           the public key
//!     binrepos.conf                            for /etc/portage/binrepos.conf/ of a client
//!     README                                   what a client has to do
//!     .gentoomuch-binhost.json                 what was exported: the next export signs only what is new
//!     .incoming/                               unfinished files
//! ```
//!
//! A package appears by a rename, and the index after all packages; packages that left the pool are removed after the index. A signature
//! contains the time of signing, so a signed package is kept as it is: a repeated export changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use md5::Md5;
use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};

use crate::binhost::{Error, Result};
use crate::config::BUILDER;
use crate::context::Context;
use crate::durable::{Mode, Replace};
use crate::names::profiles;
use crate::names::refs::ref_name;
use crate::path_error::OfFile as _;
use crate::portage::binpkgs::gpkg::Signer;
use crate::portage::binpkgs::index::{Stanza, describing, describing_all};
use crate::portage::binpkgs::{INDEX, Index, PackageKey, PoolInputs, PoolKind, gpkg, key_in, pool_dir, pool_key, unused};
use crate::remote::Signers;
use crate::stage3::sign::{Gpg, SignError};
use crate::{context, durable};

const RECORD: &str = ".gentoomuch-binhost.json";
const INCOMING: &str = ".incoming";
const PUBLIC_KEY: &str = "gentoomuch.asc";
const CLIENT_CONF: &str = "binrepos.conf";
const README: &str = "README";
/// How many new signatures are made before they are recorded.
const NOTED_EVERY: usize = 50;
/// The address in the files for clients if the user names none.
const SOMEWHERE: &str = "http://HOST:8080";

/// What to export.
#[derive(Debug, Clone)]
pub(crate) struct BinhostOptions {
    /// The default profile if `None`.
    pub profile: Option<String>,
    pub dir: PathBuf,
    pub gpg: Gpg,
    /// The address for clients, written into `binrepos.conf`.
    pub uri: Option<String>,
}

/// A package that was not exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct LeftOut {
    /// Its path in the pool.
    pub path: String,
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Exported {
    pub profile: String,
    pub pool: String,
    pub dir: PathBuf,
    /// Packages in the directory.
    pub packages: usize,
    /// Signed in this run; the others were signed before.
    pub signed: usize,
    /// Removed since they are not in the pool any more.
    pub removed: usize,
    /// Packages that were not exported, with the reason.
    pub left_out: Vec<LeftOut>,
    /// Fingerprint of the key.
    pub signed_by: String,
    /// Size of all packages, bytes.
    pub bytes: u64,
}

/// The last export, by path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// The profile. Records of earlier versions have none: then the next export sets it.
    #[serde(default)]
    profile: Option<String>,
    /// The primary key that signed all packages.
    key: String,
    /// The last address for clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    packages: BTreeMap<String, Done>,
}

/// A package of the pool, and the signed file made from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Done {
    source_bytes: u64,
    source_mtime: i64,
    source_md5: String,
    bytes: u64,
    md5: String,
    sha1: String,
}

struct GpgSigner<'a>(&'a Gpg);

impl Signer for GpgSigner<'_> {
    fn detached(&self, file: &Path) -> std::result::Result<Vec<u8>, SignError> {
        Ok(self.0.detach_sign(file)?.bytes)
    }

    fn clear(&self, text: &str) -> std::result::Result<Vec<u8>, SignError> {
        Ok(self.0.clear_sign(text)?.bytes)
    }
}

/// Exports the packages that releases of a profile are built from.
pub(crate) fn binhost_export(cx: &Context<'_>, options: &BinhostOptions) -> Result<Exported> {
    let _shared = context::share_store(cx)?;
    let profile = profiles::profile_or_default(cx, options.profile.as_deref())?;
    let inputs = pool_of_profile(cx, &profile)?;
    let key = options.gpg.secret_key_available().map_err(Error::Sign)?.primary;
    let pool = pool_dir(&cx.places.binpkgs(), PoolKind::Release, &pool_key(&inputs));
    let dir = &options.dir;
    let _lock = context::lock(cx, &lock_name(dir)?)?;
    let mut record = open_dir(dir, &profile)?;
    if record.key != key.to_string() {
        record.key = key.to_string();
        record.packages.clear();
    }
    if options.uri.is_some() {
        record.uri.clone_from(&options.uri);
    }
    let (mut index, signers) = (read_index(&pool)?, Signers::new(cx));
    index.packages.retain(|_, entry| signers.count(entry));
    let mut out = Index { header: describing_all(&index.header), packages: BTreeMap::new() };
    let mut done = Exported {
        pool: pool_key(&inputs).to_string(),
        dir: dir.clone(),
        packages: 0,
        signed: 0,
        removed: 0,
        left_out: Vec::new(),
        signed_by: key.to_string(),
        bytes: 0,
        profile: profile.clone(),
    };
    let (paths, left_out) = fitting(cx, &profile, &index)?;
    done.left_out = left_out;
    let export = |path: &str, before: Option<&Done>| {
        context::not_interrupted(cx)?;
        let stanza = index.packages.get(path).cloned().unwrap_or_default();
        match export_package(cx, &pool, dir, path, &stanza, before, &options.gpg) {
            Ok((entry, new)) => {
                done.signed += usize::from(new);
                done.bytes += entry.bytes;
                out.packages.insert(path.to_owned(), stanza_of(&stanza, &entry));
                Ok(Some((entry, new)))
            }
            Err(Error::Package(gpkg::Error::Refused { problem, .. })) => {
                done.left_out.push(LeftOut { path: path.to_owned(), why: problem.to_string() });
                Ok(None)
            }
            Err(error) => Err(error),
        }
    };
    export_all(&mut record, paths, export, |record| write_record(dir, record))?;
    done.packages = record.packages.len();
    write_record(dir, &record)?;
    write_index(dir, &out)?;
    write(dir, PUBLIC_KEY, &options.gpg.public_key(&key).map_err(Error::Sign)?)?;
    let name = conf_name(&done.profile);
    write(dir, CLIENT_CONF, client_conf(&name, record.uri.as_deref()).as_bytes())?;
    write(dir, README, readme(&name, &done).as_bytes())?;
    done.removed = remove_others(dir, &record)?;
    let incoming = dir.join(INCOMING);
    fs::remove_dir_all(&incoming).map_err(Error::io("remove", &incoming))?;
    Ok(done)
}

/// The packages of a pool that fit the profile's builder and what was built on it. A client only sees version and flags of a package:
/// where two packages differ in something else, the builder's is exported, and none if neither is the builder's.
fn fitting(cx: &Context<'_>, profile: &str, index: &Index) -> Result<(BTreeSet<String>, Vec<LeftOut>)> {
    let mut builder = BTreeSet::new();
    let mut all = BTreeSet::new();
    for (name, id) in cx.store.refs()? {
        let state = cx.store.state(&id)?;
        if state.origin.profile() == Some(profile) {
            let keys = state.origin.package_keys().into_values();
            if name == ref_name(profile, BUILDER) { builder.extend(keys) } else { all.extend(keys) }
        }
    }
    Ok(choose(index, &builder, &all))
}

/// The inputs of the pool of a profile's builder.
fn pool_of_profile(cx: &Context<'_>, profile: &str) -> Result<PoolInputs> {
    let none = || Error::NoPool { profile: profile.to_owned() };
    let id = cx.store.ref_get(&ref_name(profile, BUILDER))?.ok_or_else(none)?;
    cx.store.state(&id)?.origin.pool().cloned().ok_or_else(none)
}

/// Signs one package, unless it was signed before.
fn export_package(
    cx: &Context<'_>,
    pool: &Path,
    dir: &Path,
    path: &str,
    stanza: &Stanza,
    before: Option<&Done>,
    gpg: &Gpg,
) -> Result<(Done, bool)> {
    let refused = |problem| {
        let error = gpkg::Error::Refused { path: pool.join(path), problem };
        Error::Package(error)
    };
    let source = pool.join(path);
    let meta = match fs::symlink_metadata(&source) {
        Ok(meta) if meta.is_file() && path.ends_with(".gpkg.tar") => meta,
        _ => return Err(refused(gpkg::Problem::Member(path.to_owned()))),
    };
    let target = dir.join(path);
    let source_md5 = stanza.get("MD5").cloned().unwrap_or_default();
    let fits = |done: &&Done| {
        (done.source_bytes, done.source_mtime, &done.source_md5) == (meta.len(), meta.mtime(), &source_md5)
            && fs::symlink_metadata(&target).is_ok_and(|there| there.is_file() && there.len() == done.bytes)
            && digest(&target).is_ok_and(|(md5, sha1, _)| (&md5, &sha1) == (&done.md5, &done.sha1))
    };
    if let Some(done) = before.filter(fits) {
        return Ok((done.clone(), false));
    }
    cx.observer.step(&format!("signing {path}"));
    let incoming = dir.join(INCOMING);
    let temporary = incoming.join("package");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&temporary)
        .map_err(Error::io("create", &temporary))?;
    gpkg::sign(&source, &mut file, &incoming, &GpgSigner(gpg)).map_err(Error::Package)?;
    let digests = digest(&temporary)?;
    let time = meta.modified().map_err(Error::io("read", &source))?;
    file.set_modified(time).map_err(Error::io("write", &temporary))?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o644)).map_err(Error::io("change the mode of", &temporary))?;
    let parent = target.parent().unwrap_or(dir);
    durable::make_dirs(parent, Mode::AtMost(0o777))?;
    durable::publish(&temporary, &target)?;
    let (md5, sha1, bytes) = digests;
    Ok((Done { source_bytes: meta.len(), source_mtime: meta.mtime(), source_md5, bytes, md5, sha1 }, true))
}

/// See [`fitting`].
fn choose(index: &Index, builder: &BTreeSet<PackageKey>, others: &BTreeSet<PackageKey>) -> (BTreeSet<String>, Vec<LeftOut>) {
    let mut same: BTreeMap<(Option<&String>, Option<&String>, Option<&String>), Vec<(&String, PackageKey)>> = BTreeMap::new();
    for (path, stanza) in &index.packages {
        if let Some(key) = key_in(stanza).filter(|key| builder.contains(key) || others.contains(key)) {
            same.entry((stanza.get("CPV"), stanza.get("REPO"), stanza.get("USE"))).or_default().push((path, key));
        }
    }
    let (mut chosen, mut left_out) = (BTreeSet::new(), Vec::new());
    for builds in same.into_values() {
        let of_builder = builds.iter().find(|(_, key)| builder.contains(key));
        match (of_builder, builds.as_slice()) {
            (Some((path, _)), _) | (None, [(path, _)]) => drop(chosen.insert((*path).clone())),
            _ => {
                let why =
                    "several builds of this version and these flags were made from different things, none of them for the builder";
                left_out.extend(builds.iter().map(|(path, _)| LeftOut { path: (*path).clone(), why: why.to_owned() }));
            }
        }
    }
    (chosen, left_out)
}

/// Exports `paths`, and updates `record`. New signatures are recorded now and then and at the end, also on failure, together with the old
/// ones: they need not be made again.
fn export_all(
    record: &mut Record,
    paths: BTreeSet<String>,
    mut export: impl FnMut(&str, Option<&Done>) -> Result<Option<(Done, bool)>>,
    mut note: impl FnMut(&Record) -> Result<()>,
) -> Result<()> {
    let mut exported = BTreeSet::new();
    let mut signed = 0;
    for path in paths {
        match export(&path, record.packages.get(&path)) {
            Ok(Some((entry, new))) => {
                record.packages.insert(path.clone(), entry);
                exported.insert(path);
                signed += usize::from(new);
                if new && signed % NOTED_EVERY == 0 {
                    note(record)?;
                }
            }
            Ok(None) => {}
            Err(error) => {
                if let Err(unnoted) = note(record) {
                    tracing::debug!(%unnoted, "what was signed is not noted");
                }
                return Err(error);
            }
        }
    }
    record.packages.retain(|path, _| exported.contains(path));
    Ok(())
}

/// The lock of the directory, which is created if it is missing: two profiles must not be exported into one directory at the same time.
fn lock_name(dir: &Path) -> Result<String> {
    durable::make_dirs(dir, Mode::AtMost(0o777))?;
    let path = fs::canonicalize(dir).map_err(Error::io("resolve", dir))?;
    let digest = hex::encode(Sha1::digest(path.as_os_str().as_encoded_bytes()));
    Ok(format!("binhost/{digest}"))
}

/// Takes an empty directory, or one that `profile` was exported into before.
fn open_dir(dir: &Path, profile: &str) -> Result<Record> {
    let path = dir.join(RECORD);
    let read = match fs::read(&path) {
        Ok(bytes) => match serde_json::from_slice::<Record>(&bytes) {
            Ok(record) => Some(record),
            // The first export was killed before it wrote anything.
            Err(_) if is_empty(dir)? => None,
            Err(source) => return Err(Error::Damaged { path, source }),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if !is_empty(dir)? {
                return Err(Error::NotOurs(dir.to_owned()));
            }
            None
        }
        Err(source) => return Err(Error::io("read", path)(source)),
    };
    if let Some(other) = read.as_ref().and_then(|record| record.profile.clone()).filter(|other| other != profile) {
        return Err(Error::OtherProfile { dir: dir.to_owned(), profile: other });
    }
    let incoming = dir.join(INCOMING);
    if incoming.exists() {
        fs::remove_dir_all(&incoming).map_err(Error::io("remove", &incoming))?;
    }
    fs::create_dir(&incoming).map_err(Error::io("create", &incoming))?;
    let is_new = read.is_none();
    let record = Record { profile: Some(profile.to_owned()), ..read.unwrap_or_default() };
    if is_new {
        // The record comes first: it marks a half-finished directory as ours.
        write_record(dir, &record)?;
    }
    Ok(record)
}

/// Whether a directory is empty but for the start of a first export.
fn is_empty(dir: &Path) -> Result<bool> {
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let name = entry.map_err(Error::io("list", dir))?.file_name();
        if name != RECORD && name != INCOMING {
            return Ok(false);
        }
    }
    Ok(true)
}

fn write_record(dir: &Path, record: &Record) -> Result<()> {
    let path = dir.join(RECORD);
    let mut text = serde_json::to_vec_pretty(record).map_err(|source| Error::Damaged { path, source })?;
    text.push(b'\n');
    write(dir, RECORD, &text)
}

/// Replaces a file at the top, unless it is unchanged.
fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = dir.join(name);
    if fs::read(&path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let staging = dir.join(INCOMING);
    let replacing = Replace { staging: Some(&staging), ..Replace::with_mode(Mode::Exactly(0o644)) };
    Ok(replacing.replace(&path, bytes)?)
}

fn read_index(pool: &Path) -> Result<Index> {
    let path = pool.join(INDEX);
    match fs::read(&path) {
        Ok(bytes) => Ok(Index::parse(&String::from_utf8_lossy(&bytes))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Index::default()),
        Err(source) => Err(Error::io("read", path)(source)),
    }
}

fn stanza_of(stanza: &Stanza, done: &Done) -> Stanza {
    let mut stanza = describing(stanza);
    for (key, value) in [
        ("SIZE", done.bytes.to_string()),
        ("MTIME", done.source_mtime.to_string()),
        ("MD5", done.md5.clone()),
        ("SHA1", done.sha1.clone()),
    ] {
        stanza.insert(key.to_owned(), value);
    }
    stanza
}

/// Writes the index and its compressed copy, unless they are unchanged: clients compare their times.
fn write_index(dir: &Path, index: &Index) -> Result<()> {
    let path = dir.join(INDEX);
    let old = fs::read(&path).map(|bytes| Index::parse(&String::from_utf8_lossy(&bytes))).unwrap_or_default();
    if old == Index::parse(&index.render(0)) && dir.join("Packages.gz").is_file() {
        return Ok(());
    }
    let now = std::time::SystemTime::now();
    let secs = jiff::Timestamp::try_from(now).unwrap_or(jiff::Timestamp::UNIX_EPOCH).as_second();
    let text = index.render(secs);
    let mut zipped = flate2::GzBuilder::new().write(Vec::new(), flate2::Compression::best());
    let zipped = zipped.write_all(text.as_bytes()).and_then(|()| zipped.finish()).map_err(Error::io("compress", &path))?;
    write(dir, "Packages.gz", &zipped)?;
    write(dir, INDEX, text.as_bytes())?;
    for name in ["Packages.gz", INDEX] {
        let path = dir.join(name);
        File::options().write(true).open(&path).and_then(|file| file.set_modified(now)).map_err(Error::io("write", &path))?;
    }
    Ok(())
}

/// MD5, SHA-1 and size, which Portage's index has. Trust comes from the signature, not from these.
fn digest(path: &Path) -> Result<(String, String, u64)> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let (mut md5, mut sha1, mut size) = (Md5::new(), Sha1::new(), 0);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = file.read(&mut buffer).map_err(Error::io("read", path))?;
        if count == 0 {
            return Ok((hex::encode(md5.finalize()), hex::encode(sha1.finalize()), size));
        }
        md5.update(&buffer[..count]);
        sha1.update(&buffer[..count]);
        size += count as u64;
    }
}

/// Removes packages that are not exported any more, and signed ones that a killed run did not record.
fn remove_others(dir: &Path, record: &Record) -> Result<usize> {
    let there = unused::builds(dir)?.into_iter().map(|build| build.package.path);
    let gone: Vec<String> = there.filter(|path| !record.packages.contains_key(path)).collect();
    for path in &gone {
        crate::durable::remove_if_there(&dir.join(path))?;
        unused::remove_empty(dir.join(path).parent(), dir);
    }
    Ok(gone.len())
}

/// A profile's name as a section of `binrepos.conf`.
fn conf_name(profile: &str) -> String {
    format!("gentoomuch-{profile}")
}

fn client_conf(name: &str, uri: Option<&str>) -> String {
    format!(
        "# /etc/portage/binrepos.conf/{name}.conf of a client\n[{name}]\nsync-uri = {}\npriority = 10\nverify-signature = true\n",
        uri.unwrap_or(SOMEWHERE)
    )
}

fn readme(name: &str, done: &Exported) -> String {
    let key = &done.signed_by;
    format!(
        "Binary packages for Gentoo, built by gentoomuch and signed by\n{key}.\n\n\
         Built with: {pool}\n\
         Portage does not compare compilers or compiler flags: install these packages only where both are right.\n\n\
         On a client, as root, once (`getuto` only where app-portage/getuto is installed):\n\n\
         \x20   getuto\n\
         \x20   mkdir -p -m 0755 /etc/portage/gnupg /etc/portage/binrepos.conf\n\
         \x20   gpg --homedir /etc/portage/gnupg --batch --import {PUBLIC_KEY}\n\
         \x20   echo {key}:6: | gpg --homedir /etc/portage/gnupg --batch --import-ownertrust\n\
         \x20   gpg --homedir /etc/portage/gnupg --batch --check-trustdb\n\
         \x20   chmod a+rX /etc/portage/gnupg /etc/portage/gnupg/pubring.kbx /etc/portage/gnupg/trustdb.gpg\n\
         \x20   cp {CLIENT_CONF} /etc/portage/binrepos.conf/{name}.conf    # sync-uri in it is where the client finds this directory\n\n\
         Compare the fingerprint with what the owner of this binhost tells you by another way. Then:\n\n\
         \x20   emerge --getbinpkg --usepkg PACKAGE\n",
        pool = done.pool,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(md5: &str) -> Done {
        let text = || md5.to_owned();
        Done { source_bytes: 1, source_mtime: 1, source_md5: text(), bytes: 1, md5: text(), sha1: text() }
    }

    #[test]
    fn of_two_packages_that_clients_cannot_tell_apart_the_builders_is_exported() {
        let key = |digit: &str| PackageKey::parse(&digit.repeat(32)).unwrap();
        let stanzas = [
            ("a", "1", "x", "1"),
            ("b", "1", "x", "2"),
            ("c", "1", "", "3"),
            ("d", "2", "", "4"),
            ("e", "2", "", "5"),
            ("f", "3", "", "6"),
        ];
        let index = Index {
            packages: stanzas
                .map(|(path, version, flags, digit)| {
                    let pairs =
                        [("CPV", format!("a/b-{version}")), ("USE", flags.to_owned()), ("GENTOOMUCH_KEY", key(digit).to_string())];
                    (path.to_owned(), pairs.map(|(name, value)| (name.to_owned(), value)).into_iter().collect::<Stanza>())
                })
                .into_iter()
                .collect(),
            ..Index::default()
        };
        let (builder, others) = (BTreeSet::from([key("2")]), ["1", "3", "4", "5"].map(key).into_iter().collect());
        let (chosen, left_out) = choose(&index, &builder, &others);
        assert_eq!(chosen, ["b", "c"].map(str::to_owned).into_iter().collect(), "6 is nobody's");
        assert_eq!(left_out.iter().map(|it| it.path.as_str()).collect::<Vec<_>>(), ["d", "e"]);
    }

    #[test]
    fn an_interruption_forgets_nothing_that_was_signed() {
        let name = |at: usize| format!("p{at:03}");
        let known: BTreeMap<String, Done> = (0..200).map(|at| (name(at), entry("old"))).collect();
        let paths: BTreeSet<String> = (0..180).map(name).collect();
        let mut record = Record { packages: known, ..Record::default() };
        let noted = std::cell::RefCell::new(Vec::new());
        let note = |record: &Record| {
            noted.borrow_mut().push(record.clone());
            Ok(())
        };
        // Each second one has to be signed, until Ctrl-C.
        let sign = |end: usize| {
            move |path: &str, before: Option<&Done>| {
                let at: usize = path[1..].parse().unwrap();
                assert!(before.is_some(), "{path} was known");
                if at == end {
                    return Err(context::Error::Interrupted { resumable: false }.into());
                }
                let new = at.is_multiple_of(2);
                Ok(Some((if new { entry("new") } else { before.unwrap().clone() }, new)))
            }
        };
        export_all(&mut record, paths.clone(), sign(150), note).unwrap_err();
        let new_in = |record: &Record| record.packages.values().filter(|done| done.md5 == "new").count();
        let seen: Vec<_> = noted.borrow().iter().map(|record| (record.packages.len(), new_in(record))).collect();
        assert_eq!(seen, [(200, 50), (200, 75)], "by fifty new ones, and at the end");
        export_all(&mut record, paths.clone(), sign(1000), note).unwrap();
        assert!(record.packages.keys().eq(&paths), "what the pool has no more is forgotten at the end");
        export_all(&mut record, paths, |_, _| Ok(None), note).unwrap();
        assert!(record.packages.is_empty(), "what is left out is not in it");
    }

    #[test]
    fn a_first_export_that_was_cut_off_can_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let record = dir.path().join(RECORD);
        let begun: [&dyn Fn(); 4] = [
            &|| fs::write(&record, "").unwrap(),
            &|| fs::write(&record, "{\"profile\": \"a").unwrap(),
            &|| fs::create_dir(dir.path().join(INCOMING)).unwrap(),
            &|| {
                fs::create_dir(dir.path().join(INCOMING)).unwrap();
                fs::write(dir.path().join(INCOMING).join(RECORD), "{").unwrap();
            },
        ];
        for begin in begun {
            begin();
            assert_eq!(open_dir(dir.path(), "a").unwrap().profile.as_deref(), Some("a"));
            let written: Record = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
            assert_eq!(written.profile.as_deref(), Some("a"));
            fs::remove_file(&record).unwrap();
            fs::remove_dir_all(dir.path().join(INCOMING)).unwrap();
        }
        // With packages in it nobody knows whose it is.
        fs::write(&record, "{").unwrap();
        fs::create_dir(dir.path().join("app-misc")).unwrap();
        let refused = open_dir(dir.path(), "a").unwrap_err().to_string();
        assert_eq!(refused, format!("`{}` is damaged", record.display()));
        fs::remove_file(&record).unwrap();
        let refused = open_dir(dir.path(), "a").unwrap_err().to_string();
        assert_eq!(refused, format!("`{}` is neither empty nor an exported binhost", dir.path().display()));
    }

    #[test]
    fn a_directory_is_of_one_profile() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("host");
        let name = lock_name(&below).unwrap();
        assert_eq!(name, lock_name(&dir.path().join("host/../host")).unwrap());
        assert_ne!(name, lock_name(dir.path()).unwrap());
        assert_eq!(open_dir(&below, "a/b").unwrap().profile.as_deref(), Some("a/b"));
        let refused = open_dir(&below, "c").unwrap_err().to_string();
        assert_eq!(refused, format!("`{}` has the binary packages of profile `a/b`", below.display()));
        assert_eq!(open_dir(&below, "a/b").unwrap().profile.as_deref(), Some("a/b"));
        // Of an export that did not know of profiles.
        fs::write(below.join(RECORD), r#"{"key":"K","packages":{}}"#).unwrap();
        assert_eq!(
            open_dir(&below, "c").unwrap(),
            Record { profile: Some("c".to_owned()), key: "K".to_owned(), ..Record::default() }
        );
    }
}
