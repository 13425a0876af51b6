//! Which ids a user may use: subordinate ones (`subid`), or, for root, those of the user namespace that this process is in (`parent`).

mod parent;
mod subid;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

pub(crate) use parent::Parent;
use subid::Subids;

use super::isolation::Rung;
use crate::sys;

/// A run of ids, as in `/proc/PID/uid_map`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First id inside the namespace.
    pub inside: u32,
    /// The same id outside.
    pub outside: u32,
    pub count: u32,
}

/// The whole map of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    pub uids: Vec<IdRange>,
    pub gids: Vec<IdRange>,
}

/// Why there is no map.
#[derive(Debug, thiserror::Error)]
pub enum IdMapError {
    #[error("cannot read `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The user has no range of his own.
    #[error("`{user}` has no range of ids in `{path}`")]
    NoRange { user: String, path: PathBuf },
    /// One of the user's lines has the wrong form.
    #[error("{path}:{line}: `{text}` is not `NAME:FIRST:COUNT`")]
    Line {
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        text: String,
    },
    /// The files give the user ids that this user namespace does not have.
    #[error("the subordinate ids of `{user}` are not in this user namespace")]
    NotHere { user: String },
    /// Only root's ids can be mapped without a range.
    #[error("only root, of a host or of a user namespace, has ids of its own to give")]
    NotRoot,
    /// Root of a user namespace that has too few ids itself.
    #[error("this user namespace has {count} ids, and Portage needs at least {NEEDED_COUNT}: its own user is 250")]
    TooFew { count: u64 },
}

/// How many ids a Gentoo system wants: `nobody` is 65534.
pub(crate) const COMFORTABLE_COUNT: u64 = 65536;

/// How many it needs: those of `root` to `portage`.
pub(crate) const NEEDED_COUNT: u64 = 251;

/// Fixed ids (`acct-user/portage`, `nobody` of `sys-apps/baselayout`).
const NEEDED: [(&str, u32); 2] = [("portage", 250), ("nobody", 65534)];

/// The kernel accepts this many lines in a map (Linux 4.15; before that, 5).
const RANGES_LIMIT: usize = 340;

impl IdMap {
    /// What this host grants the user: 0 is mapped to the user's own ids, and 1 upwards to all subordinate ranges, in their order. Root
    /// needs no such ranges: without them, every id of this user namespace is mapped to itself.
    ///
    /// `root` is `/`, except in tests; `getsubids` is looked for in `search`. If a kind of ids is `demanded`, there is no other.
    pub fn of_host(
        root: &Path,
        uid: u32,
        gid: u32,
        user: &str,
        search: &[PathBuf],
        demanded: Option<Rung>,
    ) -> Result<Self, IdMapError> {
        let granted =
            Subids { root, search }.of(user, uid).map(|[uids, gids]| Self { uids: stack(uid, &uids), gids: stack(gid, &gids) });
        if uid != 0 {
            return if demanded == Some(Rung::OwnIds) { Err(IdMapError::NotRoot) } else { granted };
        }
        let parent = Parent::read(&root.join("proc"));
        match granted {
            Err(error) if demanded == Some(Rung::SubordinateIds) => Err(error),
            _ if demanded == Some(Rung::OwnIds) => parent.enough(),
            // A file that came with a container's image may give root ids that the container does not have.
            Ok(granted) if parent.has(&granted) => Ok(granted),
            Err(error @ IdMapError::Line { .. }) => Err(error),
            Ok(_) if demanded == Some(Rung::SubordinateIds) => Err(IdMapError::NotHere { user: user.to_owned() }),
            _ => parent.enough(),
        }
    }

    /// The same map in lines that the kernel accepts from this process: none spans two lines of this namespace's own map.
    pub(crate) fn in_pieces(&self) -> Self {
        Parent::read(Path::new("/proc")).split(self)
    }

    /// The map of a session's namespace inside this one. Every id stays the same, and the last user id is left out. PID 1, who watches
    /// the session, becomes that user (the second value): the kernel lets a process signal processes of its own user and change their
    /// limits and priorities, and nobody in the session can become a user that the map does not have. `None` if no id can be spared.
    #[must_use]
    pub fn nested(&self) -> (Self, Option<u32>) {
        let same = |ranges: &[IdRange]| ranges.iter().map(|range| IdRange { outside: range.inside, ..*range }).collect();
        let mut nested = Self { uids: same(&self.uids), gids: same(&self.gids) };
        let spared = |range: &&mut IdRange| {
            let last = range.inside + (range.count - 1);
            last > 0 && NEEDED.iter().all(|(_, id)| *id != last)
        };
        let watcher = nested.uids.last_mut().filter(spared).map(|range| {
            range.count -= 1;
            range.inside + range.count
        });
        nested.uids.retain(|range| range.count > 0);
        (nested, watcher)
    }

    /// Whether a user of this host is one of the session's.
    pub(crate) fn has_user(&self, uid: u32) -> bool {
        self.uids.iter().any(|range| uid.checked_sub(range.outside).is_some_and(|distance| distance < range.count))
    }

    /// The highest id up to which all users and groups are in the map.
    pub(crate) fn highest_owner(&self) -> Option<u32> {
        let whole = |ranges: &[IdRange]| {
            let mut ranges: Vec<_> = ranges.iter().map(|range| (range.inside, range.count)).collect();
            ranges.sort_unstable();
            ranges.into_iter().fold(0_u32, |next, (first, count)| if first == next { next.saturating_add(count) } else { next })
        };
        whole(&self.uids).min(whole(&self.gids)).checked_sub(1)
    }

    /// Whether every id is itself: root of a namespace has given its own ids.
    pub(crate) fn is_own(&self) -> bool {
        self.uids.iter().chain(&self.gids).all(|range| range.inside == range.outside)
    }

    /// The number of user ids or of group ids, whichever is smaller. Below [`COMFORTABLE_COUNT`] some packages cannot be installed.
    pub fn count(&self) -> u64 {
        let total = |ranges: &[IdRange]| ranges.iter().map(|range| u64::from(range.count)).sum::<u64>();
        total(&self.uids).min(total(&self.gids))
    }
}

/// Puts the ranges behind one another, from 1 upwards. The kernel refuses overlapping ranges (an administrator's mistake), so they are
/// cut. The user's own id is left out of a range that holds it, since 0 is mapped to it.
fn stack(own: u32, ranges: &[(u32, u32)]) -> Vec<IdRange> {
    let mut taken = vec![(own, 1)];
    let mut free = Vec::new();
    for range in ranges {
        let mut parts = vec![*range];
        for used in &taken {
            parts = parts.into_iter().flat_map(|part| subtract(part, *used)).collect();
        }
        taken.extend(&parts);
        free.extend(parts);
    }
    let mut map = vec![IdRange { inside: 0, outside: own, count: 1 }];
    let mut next = 1u32;
    for (first, count) in free.into_iter().take(RANGES_LIMIT - 1) {
        let count = count.min(u32::MAX - next);
        if count > 0 {
            map.push(IdRange { inside: next, outside: first, count });
            next += count;
        }
    }
    map
}

/// The parts of the first range that are not in the second.
fn subtract((first, count): (u32, u32), (used, used_count): (u32, u32)) -> Vec<(u32, u32)> {
    let (first, end) = (u64::from(first), u64::from(first) + u64::from(count));
    let (used, used_end) = (u64::from(used), u64::from(used) + u64::from(used_count));
    [(first, end.min(used)), (first.max(used_end), end)]
        .into_iter()
        .filter_map(|(from, to)| Some((u32::try_from(from).ok()?, u32::try_from(to.checked_sub(from)?).ok()?)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// The directory of a process in `/proc`.
pub(crate) fn process_directory(pid: u32) -> sys::Result<OwnedFd> {
    sys::overlay::open_directory(&Path::new("/proc").join(pid.to_string()))
}

/// Writes the map of a process's new user namespace. `proc` is the process's directory in a `/proc` that need not be mounted any more:
/// `/proc` of a new root may be anything.
pub(crate) fn write(proc: &OwnedFd, map: &IdMap) -> sys::Result<()> {
    for (name, ranges) in [("uid_map", &map.uids), ("gid_map", &map.gids)] {
        let file = rustix::fs::openat(proc, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(sys::Error::of("openat", format_args!("/proc/PID/{name}")))?;
        let lines = map_file(ranges);
        // The kernel accepts one write to a map, with all its lines.
        rustix::io::write(&file, lines.as_bytes()).map_err(sys::Error::of("write", format_args!("/proc/PID/{name}, {lines:?}")))?;
    }
    Ok(())
}

/// The lines of `/proc/PID/uid_map`.
fn map_file(ranges: &[IdRange]) -> String {
    let lines: Vec<String> = ranges.iter().map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count)).collect();
    lines.concat()
}

/// The arguments of `newuidmap` after the process id.
pub(crate) fn map_arguments(ranges: &[IdRange]) -> Vec<String> {
    ranges.iter().flat_map(|range| [range.inside, range.outside, range.count]).map(|number| number.to_string()).collect()
}

impl fmt::Display for IdMap {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, ranges) in [("uid", &self.uids), (", gid", &self.gids)] {
            out.write_str(name)?;
            for IdRange { inside, outside, count } in ranges {
                write!(out, " {inside}:{outside}+{count}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_ranges(uid: u32, gid: u32, uids: &[(u32, u32)], gids: &[(u32, u32)]) -> IdMap {
        IdMap { uids: stack(uid, uids), gids: stack(gid, gids) }
    }

    #[test]
    fn maps_use_every_range_in_order() {
        let map = from_ranges(1000, 100, &[(100_000, 65536), (300_000, 1000)], &[(500_000, 70000)]);
        assert_eq!(map.to_string(), "uid 0:1000+1 1:100000+65536 65537:300000+1000, gid 0:100+1 1:500000+70000");
        let (nested, watcher) = map.nested();
        assert_eq!(nested.to_string(), "uid 0:0+1 1:1+65536 65537:65537+999, gid 0:0+1 1:1+70000");
        assert_eq!(watcher, Some(66536));
        assert_eq!(map.count(), 66537);
        assert_eq!(map_file(&nested.gids), "0 0 1\n1 1 70000\n");
        // All ids may be one range.
        let own = IdMap { uids: vec![IdRange { inside: 0, outside: 0, count: 65536 }], gids: vec![] }.nested();
        assert_eq!((own.0.to_string().as_str(), own.1), ("uid 0:0+65535, gid", Some(65535)));
        // The last range may be one id, none may be spared, and there may be none.
        for (ranges, map, watcher) in [
            (&[(100, 10), (300, 1)][..], "uid 0:0+1 1:1+10, gid 0:0+1", Some(11)),
            (&[(100, 65534)], "uid 0:0+1 1:1+65534, gid 0:0+1", None),
            (&[], "uid 0:0+1, gid 0:0+1", None),
        ] {
            let nested = from_ranges(1, 1, ranges, &[]).nested();
            assert_eq!((nested.0.to_string().as_str(), nested.1), (map, watcher));
        }
        assert_eq!(map_arguments(&map.gids), ["0", "100", "1", "1", "500000", "70000"]);
    }

    #[test]
    fn the_highest_owner_is_below_the_first_hole() {
        for (uids, gids, highest) in [
            (&[(0, 1), (1, 999)][..], &[(0, 65536)][..], Some(999)),
            (&[(0, 65536)], &[(1, 300), (0, 1)], Some(300)),
            (&[(0, 1000), (2000, 1000)], &[(0, 65536)], Some(999)),
            (&[(1, 1000)], &[(0, 65536)], None),
            (&[], &[], None),
        ] {
            let ranges = |all: &[(u32, u32)]| all.iter().map(|&(inside, count)| IdRange { inside, outside: 7, count }).collect();
            let map = IdMap { uids: ranges(uids), gids: ranges(gids) };
            assert_eq!(map.highest_owner(), highest, "{map}");
        }
    }

    #[test]
    fn overlapping_ranges_are_cut() {
        let map = from_ranges(1000, 1000, &[(900, 200), (1000, 200)], &[(1000, 1)]);
        assert_eq!(map.to_string(), "uid 0:1000+1 1:900+100 101:1001+99 200:1100+100, gid 0:1000+1");
    }

    /// A host of these files, as the user sees it.
    fn found(files: &[(&str, &str)], uid: u32, user: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        IdMap::of_host(dir.path(), uid, uid, user, &[], None)
            .map(|map| map.to_string())
            .map_err(|error| error.to_string().replace(&dir.path().display().to_string(), ""))
    }

    #[test]
    fn root_needs_no_subordinate_ids() {
        let container =
            [("proc/self/uid_map", "0 1005 1\n1 2262144 65536\n"), ("proc/self/gid_map", "0 1005 1\n1 2262144 65536\n")];
        let with = |more: &[(&'static str, &'static str)]| [&container, more].concat();
        let own = Ok("uid 0:0+65536, gid 0:0+65536".to_owned());
        assert_eq!(found(&with(&[]), 0, "root"), own);
        assert_eq!(found(&[], 0, "root"), own);
        // Its subordinate ids count if this namespace has them.
        let granted = |range: &'static str| with(&[("etc/subuid", range), ("etc/subgid", range)]);
        assert_eq!(
            found(&granted("root:1000:60000\n"), 0, "root"),
            Ok("uid 0:0+1 1:1000+60000, gid 0:0+1 1:1000+60000".to_owned())
        );
        assert_eq!(found(&granted("root:100000:65536\n"), 0, "root"), own);
        assert_eq!(
            found(&with(&[("etc/subuid", "root:x:1\n")]), 0, "root"),
            Err("/etc/subuid:1: `root:x:1` is not `NAME:FIRST:COUNT`".to_owned())
        );
        let few = [("proc/self/uid_map", "0 1005 1\n"), ("proc/self/gid_map", "0 1005 1\n")];
        let words = "this user namespace has 1 ids, and Portage needs at least 251: its own user is 250";
        assert_eq!(found(&few, 0, "root"), Err(words.to_owned()));
        // Whoever is not root gets nothing of it.
        assert_eq!(found(&container, 1000, "larry"), Err("cannot read `/etc/subuid`".to_owned()));
    }
}
