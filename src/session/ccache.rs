//! The compiler cache in a session: what it sees of the published one, where it writes, and what becomes of that.
//!
//! ```text
//! /run/gentoomuch/ccache/published   (ro) the cache of its profile
//! /run/gentoomuch/ccache/own         (rw) the session's `ccache/`; objects/CATEGORY/PACKAGE is what may be published
//! ```
//!
//! Only sessions whose packages are published have it: what comes of throw-away sessions is nothing that others build with. ccache itself
//! finds the directory of a package, by the variables that Portage gives each build.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::beneath::TreeDir;
use crate::causes::in_one_line;
use crate::ccache;
use crate::context::Context;
use crate::path_error::OfFile as _;
use crate::portage::session_conf::CCACHE_CONFIGPATH;
use crate::session::inspect::{Facts, numbers};
use crate::session::readable_files::write_public;
use crate::session::root::{CCACHE_OWN, CCACHE_PUBLISHED, HOOKS_DIR};
use crate::session::{Error, Result, Work};

/// Beside the hooks.
const CONFIG_NAME: &str = "ccache.conf";
/// What is hashed into each object besides the compiler: the programs that it runs.
const TOOLCHAIN: &str = "ccache.toolchain";
/// The first version that can do without a cache of its own beside the directories that it is given.
const OLDEST: [u32; 2] = [4, 7];
/// Positions in ccache's files of statistics (`Statistic.hpp`): they are never used for something else.
const MISSES: usize = 4;
const HITS: [usize; 2] = [8, 22];
const STATS_LIMIT_BYTES: u64 = 16 << 10;

/// A session's part in the compiler cache.
#[derive(Debug)]
pub(crate) struct Cached {
    published: PathBuf,
    own: PathBuf,
    /// Where the root has compilers' names that lead to ccache.
    links: String,
    limit_bytes: u64,
    has_grown: Cell<bool>,
    /// Hits and misses that were told.
    told: Cell<(u64, u64)>,
}

/// Gives a session the cache of its profile, if the configuration wants one and the root has ccache.
pub(crate) fn attach(cx: &Context<'_>, work: &mut Work<'_>, facts: &Facts) -> Result<()> {
    let Some(limit_bytes) = cx.settings.ccache else { return Ok(()) };
    let links = facts.get("CCACHE_LINKS").to_owned();
    if let Some(why) = unusable(facts) {
        if cx.told.is_new("no ccache") {
            let hint = "name `dev-util/ccache` in `stage3.defines/DEFINITION/packages`";
            cx.observer.warn(&format!("`env/ccache` has no effect in {}: {why}; {hint}", named(work)));
        }
        return Ok(());
    }
    let published = cx.places.ccache().join(&work.profile);
    if let Err(error) = ccache::make_open(&cx.places.cache, &published) {
        cx.observer.warn(&format!("compiling without the compiler cache: {}", in_one_line(&error)));
        return Ok(());
    }
    let own = work.session.borrow().path("ccache");
    make_writable(&own)?;
    write_public(&work.root.hooks.join(TOOLCHAIN), facts.get("CCACHE_TOOLCHAIN").as_bytes(), 0o644)?;
    write_public(&work.root.hooks.join(CONFIG_NAME), config(facts.get("CCACHE_FILES")).as_bytes(), 0o644)?;
    work.root.session_conf.ccache = true;
    work.root.ccache = Some([published.clone(), own.clone()]);
    // What a session that goes on has told before.
    let told = Cell::new(stats(&own));
    work.ccache = Some(Cached { published, own, links, limit_bytes, has_grown: Cell::new(false), told });
    Ok(())
}

/// Why the root's ccache cannot be used, if it cannot.
fn unusable(facts: &Facts) -> Option<String> {
    let version = facts.get("CCACHE_VERSION").strip_prefix("ccache version ").unwrap_or_default();
    if version.is_empty() {
        return Some("it has no ccache".to_owned());
    }
    if numbers(version) < OLDEST.to_vec() {
        return Some(format!("its ccache {version} is older than 4.7"));
    }
    facts.get("CCACHE_LINKS").is_empty().then(|| "it has no `/usr/lib/ccache` with links to ccache".to_owned())
}

/// What the session makes, in words.
fn named(work: &Work<'_>) -> String {
    let subject = work.session.borrow().record().subject.clone().unwrap_or_default();
    let name = subject.split(' ').next().unwrap_or_default();
    if name.is_empty() { "this session".to_owned() } else { format!("the root of `{name}`") }
}

/// Every user in the session compiles. Outside, the store keeps others out. That of a session which goes on stays as it is.
fn make_writable(own: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    match std::fs::create_dir(own) {
        Ok(()) => {
            std::fs::set_permissions(own, std::fs::Permissions::from_mode(0o777)).map_err(Error::io("change the mode of", own))
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::io("create", own)(error)),
    }
}

/// The text of ccache's configuration.
///
/// Nothing in it makes hits more frequent at the price of other results: paths and directories stay as they are. The compiler is known by
/// its contents, since files of binary packages can have any time; the programs that it runs, which ccache does not look at, by
/// [`TOOLCHAIN`] and by the lists of files of the packages that they belong to.
fn config(files: &str) -> String {
    let package = "${CATEGORY}/${PN}";
    let objects = ccache::OBJECTS;
    let extra: Vec<String> = std::iter::once(format!("{HOOKS_DIR}/{TOOLCHAIN}"))
        .chain(files.split(':').filter(|file| !file.is_empty()).map(str::to_owned))
        .collect();
    format!(
        "cache_dir = {CCACHE_OWN}\nremote_only = true\nremote_storage = file:{CCACHE_PUBLISHED}/{package}|read-only \
         file:{CCACHE_OWN}/{objects}/{package}|umask=000\ncompiler_check = content\nextra_files_to_hash = {}\ninode_cache = \
         false\numask = 000\n",
        extra.join(":")
    )
}

/// What a compiler that Portage does not start needs, to have the objects of `package`.
pub(crate) fn environment(work: &Work<'_>, package: &str) -> Vec<String> {
    let (Some(cached), Some((category, name))) = (&work.ccache, package.split_once('/')) else { return Vec::new() };
    vec![
        format!("PATH={}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", cached.links),
        format!("CCACHE_DIR={CCACHE_OWN}"),
        format!("CCACHE_CONFIGPATH={CCACHE_CONFIGPATH}"),
        format!("CATEGORY={category}"),
        format!("PN={name}"),
    ]
}

/// Publishes what was compiled for packages whose results count. If that fails, they are compiled again some time.
pub(crate) fn publish(cx: &Context<'_>, work: &Work<'_>, packages: &BTreeSet<String>) {
    let Some(cached) = &work.ccache else { return };
    for package in packages {
        match ccache::merge(&cached.own, &cached.published, package, cached.limit_bytes) {
            Ok(0) => {}
            Ok(count) => {
                tracing::debug!(package, count, "objects of compilers published");
                cached.has_grown.set(true);
            }
            Err(error) => {
                if cx.told.is_new("ccache not kept") {
                    let why = in_one_line(&error);
                    cx.observer.warn(&format!("what was compiled for `{package}` is not in the compiler cache: {why}"));
                }
            }
        }
    }
}

/// The end of a run: says what came from the cache, and keeps that within its limit.
pub(crate) fn end(cx: &Context<'_>, work: &Work<'_>) {
    let Some(cached) = &work.ccache else { return };
    let (hits, misses) = stats(&cached.own);
    let (hits_before, misses_before) = cached.told.replace((hits, misses));
    let (hits, all) = (hits.saturating_sub(hits_before), (hits + misses).saturating_sub(hits_before + misses_before));
    if all > 0 {
        cx.observer.note(&format!("compiler cache: {hits} of {all} objects were there"));
    }
    if cached.has_grown.take()
        && let Err(error) = ccache::trim(&cached.published, cached.limit_bytes)
    {
        cx.observer.warn(&format!("the compiler cache may be larger than `env/ccache` says: {}", in_one_line(&error)));
    }
}

/// Hits and misses, as far as the session's own files can be believed.
fn stats(own: &Path) -> (u64, u64) {
    let Ok(own) = TreeDir::open(own) else { return (0, 0) };
    let digits = || ('0'..='9').chain('a'..='f');
    let files = digits()
        .flat_map(|one| std::iter::once(format!("{one}/stats")).chain(digits().map(move |two| format!("{one}/{two}/stats"))));
    files.fold((0, 0), |(hits, misses), file| {
        let text = own.read(&file, STATS_LIMIT_BYTES).unwrap_or_default();
        let counts: Vec<u64> =
            String::from_utf8_lossy(&text).lines().map(|line| line.parse::<u32>().map_or(0, u64::from)).collect();
        let count = |at: usize| counts.get(at).copied().unwrap_or(0);
        (hits + HITS.into_iter().map(count).sum::<u64>(), misses + count(MISSES))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_without_a_usable_ccache_says_why() {
        let facts = |version: &str, links: &str| Facts::parse(&format!("CCACHE_VERSION={version}\nCCACHE_LINKS={links}\n"));
        for (version, links, why) in [
            ("ccache version 4.7.5", "/usr/lib/ccache/bin", None),
            ("ccache version 5.0", "/l", None),
            ("", "/l", Some("it has no ccache")),
            ("ccache version 4.6.3", "/l", Some("its ccache 4.6.3 is older than 4.7")),
            ("ccache version 4.10", "", Some("it has no `/usr/lib/ccache` with links to ccache")),
        ] {
            assert_eq!(unusable(&facts(version, links)).as_deref(), why, "{version} {links}");
        }
    }

    #[test]
    fn each_package_has_a_directory_of_its_own() {
        let text = config("/var/db/pkg/sys-devel/gcc-14.2.0/CONTENTS");
        insta::assert_snapshot!(text);
        assert!(config("").contains("extra_files_to_hash = /run/gentoomuch/hooks/ccache.toolchain\n"));
    }

    #[test]
    fn statistics_are_added_up_and_nonsense_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let lines = |all: &[(usize, &str)]| -> String {
            (0..30).map(|at| all.iter().find(|(of, _)| *of == at).map_or("0", |(_, text)| text).to_owned() + "\n").collect()
        };
        for (file, text) in [
            ("7/stats", lines(&[(4, "3"), (22, "2")])),
            ("7/a/stats", lines(&[(8, "1"), (22, "99999999999999999999")])),
            ("f/f/stats", "x\n-1\n".to_owned()),
        ] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("stats")).unwrap();
        assert_eq!(stats(dir.path()), (3, 3));
        assert_eq!(stats(&dir.path().join("none")), (0, 0));
    }
}
