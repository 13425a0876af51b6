//! Which ids a user may use: `/etc/subuid` and `/etc/subgid`.
//!
//! ```text
//! NAME-OR-UID:FIRST:COUNT          one range a line; several lines a user are allowed (subuid(5))
//! ```

use std::path::{Path, PathBuf};
use std::{fmt, io};

use serde::{Deserialize, Serialize};

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
}

/// How many ids a Gentoo system wants: `nobody` is 65534.
pub(crate) const COMFORTABLE_COUNT: u64 = 65536;

/// Fixed ids (`acct-user/portage`, `nobody` of `sys-apps/baselayout`).
const NEEDED: [(&str, u32); 2] = [("portage", 250), ("nobody", 65534)];

/// The kernel accepts this many lines in a map (Linux 4.15; before that, 5).
const RANGES_LIMIT: usize = 340;

impl IdMap {
    /// Maps 0 to the user's own ids, and 1 upwards to all the ranges that the files (`/etc/subuid`, `/etc/subgid`) give the user, in
    /// their order.
    pub fn for_user(uid: u32, gid: u32, user: &str, uid_file: &Path, gid_file: &Path) -> Result<Self, IdMapError> {
        let read = |path: &Path| std::fs::read_to_string(path).map_err(|source| IdMapError::Read { path: path.to_owned(), source });
        let uids = parse(&read(uid_file)?, user, uid, uid_file)?;
        let gids = parse(&read(gid_file)?, user, uid, gid_file)?;
        Ok(Self { uids: stack(uid, &uids), gids: stack(gid, &gids) })
    }

    /// The map of a session's namespace inside this one. Every id stays the same, and the last user id is left out. PID 1, who watches
    /// the session, becomes that user (the second value): the kernel lets a process signal processes of its own user and change their
    /// limits and priorities, and nobody in the session can become a user that the map does not have. `None` if no id can be spared.
    #[must_use]
    pub fn nested(&self) -> (Self, Option<u32>) {
        let same = |ranges: &[IdRange]| ranges.iter().map(|range| IdRange { outside: range.inside, ..*range }).collect();
        let mut nested = Self { uids: same(&self.uids), gids: same(&self.gids) };
        let spared =
            |range: &&mut IdRange| range.inside > 0 && NEEDED.iter().all(|(_, id)| *id != range.inside + (range.count - 1));
        let watcher = nested.uids.last_mut().filter(spared).map(|range| {
            range.count -= 1;
            range.inside + range.count
        });
        nested.uids.retain(|range| range.count > 0);
        (nested, watcher)
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

/// The user's ranges. A broken line of another user is ignored.
fn parse(text: &str, user: &str, uid: u32, path: &Path) -> Result<Vec<(u32, u32)>, IdMapError> {
    let number = uid.to_string();
    let mut ranges = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let mut fields = line.split(':').map(str::trim);
        let owner = fields.next().unwrap_or_default();
        if owner.is_empty() || (owner != user && owner != number) {
            continue;
        }
        let range = (|| {
            let (first, count) = (fields.next()?.parse::<u32>().ok()?, fields.next()?.parse::<u32>().ok()?);
            (fields.next().is_none() && first.checked_add(count).is_some()).then_some((first, count))
        })();
        match range {
            Some(range) => ranges.push(range),
            None => return Err(IdMapError::Line { path: path.to_owned(), line: index + 1, text: line.to_owned() }),
        }
    }
    if ranges.iter().all(|(_, count)| *count == 0) {
        return Err(IdMapError::NoRange { user: user.to_owned(), path: path.to_owned() });
    }
    Ok(ranges)
}

/// The lines of `/proc/PID/uid_map`.
pub(crate) fn map_file(ranges: &[IdRange]) -> String {
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

    fn ranges(text: &str) -> Result<Vec<(u32, u32)>, String> {
        parse(text, "larry", 1000, Path::new("/etc/subuid")).map_err(|error| error.to_string())
    }

    fn from_ranges(uid: u32, gid: u32, uids: &[(u32, u32)], gids: &[(u32, u32)]) -> IdMap {
        IdMap { uids: stack(uid, uids), gids: stack(gid, gids) }
    }

    #[test]
    fn subid_files() {
        for (text, wanted) in [
            ("larry:100000:65536\n", Ok(vec![(100_000, 65536)])),
            ("# comment\n\nroot:1:1\nlarry:100000:65536 # his\n1000:300000:10\n", Ok(vec![(100_000, 65536), (300_000, 10)])),
            ("larry2:1:1\n10001:1:1\nbroken\n", Err("`larry` has no range of ids in `/etc/subuid`")),
            ("", Err("`larry` has no range of ids in `/etc/subuid`")),
            ("larry:100000:0\n", Err("`larry` has no range of ids in `/etc/subuid`")),
            ("\nlarry:many:1\n", Err("/etc/subuid:2: `larry:many:1` is not `NAME:FIRST:COUNT`")),
            ("larry:4294967295:2\n", Err("/etc/subuid:1: `larry:4294967295:2` is not `NAME:FIRST:COUNT`")),
            ("larry:1:2:3\n", Err("/etc/subuid:1: `larry:1:2:3` is not `NAME:FIRST:COUNT`")),
        ] {
            assert_eq!(ranges(text), wanted.map_err(str::to_owned), "{text:?}");
        }
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
    fn overlapping_ranges_are_cut() {
        let map = from_ranges(1000, 1000, &[(900, 200), (1000, 200)], &[(1000, 1)]);
        assert_eq!(map.to_string(), "uid 0:1000+1 1:900+100 101:1001+99 200:1100+100, gid 0:1000+1");
    }

    #[test]
    fn files_are_named_when_they_cannot_be_read() {
        let missing = Path::new("/nonexistent/subuid");
        let error = IdMap::for_user(1000, 1000, "larry", missing, missing).unwrap_err();
        assert_eq!(error.to_string(), "cannot read `/nonexistent/subuid`");
    }
}
