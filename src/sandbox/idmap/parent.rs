//! The ids that this process's own user namespace has, by `/proc/self/uid_map` and `gid_map`.
//!
//! Root of a namespace may map any of them in a new namespace below, without `newuidmap`. The kernel wants each line of the new map to lie
//! within one line of the parent's: with `0 1000 1` and `1 100000 65536` above, `0 0 65536` is EPERM, but `0 0 1` and `1 1 65535` are not.

use std::path::Path;

use super::{COMFORTABLE_COUNT, IdMap, IdMapError, IdRange, NEEDED_COUNT};

/// The ids of a namespace, in runs that the kernel does not let a line of a child's map exceed: first id and count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parent {
    uids: Vec<(u32, u32)>,
    gids: Vec<(u32, u32)>,
}

impl Parent {
    /// The namespace of this process. `proc` is `/proc`, except in tests. Where there is no such file all ids are assumed to be there: a
    /// map with others is refused when it is written.
    pub(crate) fn read(proc: &Path) -> Self {
        let read = |name: &str| std::fs::read_to_string(proc.join("self").join(name)).unwrap_or_default();
        Self::of(&read("uid_map"), &read("gid_map"))
    }

    /// By the text of its maps.
    pub(crate) fn of(uid_map: &str, gid_map: &str) -> Self {
        let known = |text: &str| {
            let extents = extents(text);
            if extents.is_empty() { vec![(0, u32::MAX)] } else { extents }
        };
        Self { uids: known(uid_map), gids: known(gid_map) }
    }

    /// The number of user ids or of group ids, whichever is smaller.
    pub(crate) fn count(&self) -> u64 {
        let total = |extents: &[(u32, u32)]| extents.iter().map(|(_, count)| u64::from(*count)).sum::<u64>();
        total(&self.uids).min(total(&self.gids))
    }

    /// Whether a file can have this owner.
    pub(crate) fn has_owner(&self, uid: u32, gid: u32) -> bool {
        holding(&self.uids, uid).is_some() && holding(&self.gids, gid).is_some()
    }

    /// What a session in a namespace with these ids has of them: all but the user that watches it.
    pub(crate) fn of_session(&self) -> Self {
        let (nested, _) = self.own().nested();
        let extents = |ranges: &[IdRange]| ranges.iter().map(|range| (range.inside, range.count)).collect();
        Self { uids: extents(&nested.uids), gids: extents(&nested.gids) }
    }

    /// Every id as itself, as far as a Gentoo system needs them.
    pub(super) fn own(&self) -> IdMap {
        let own = |extents: &[(u32, u32)]| {
            let limit = u32::try_from(COMFORTABLE_COUNT).unwrap_or(u32::MAX);
            let below = |(first, count): &(u32, u32)| limit.checked_sub(*first).map(|left| (*first, left.min(*count)));
            let ranges = extents.iter().filter_map(below).filter(|(_, count)| *count > 0);
            ranges.map(|(first, count)| IdRange { inside: first, outside: first, count }).collect()
        };
        joined(IdMap { uids: own(&self.uids), gids: own(&self.gids) })
    }

    /// The same, if Portage can work with them.
    pub(super) fn enough(&self) -> Result<IdMap, IdMapError> {
        let own = self.own();
        if own.count() < NEEDED_COUNT { Err(IdMapError::TooFew { count: own.count() }) } else { Ok(own) }
    }

    /// The same map in lines that the kernel accepts.
    pub(super) fn split(&self, map: &IdMap) -> IdMap {
        IdMap { uids: split(&map.uids, &self.uids), gids: split(&map.gids, &self.gids) }
    }

    /// Whether all ids outside of the map are here.
    pub(super) fn has(&self, map: &IdMap) -> bool {
        let inside = |ranges: &[IdRange], extents: &[(u32, u32)]| {
            split(ranges, extents).iter().all(|range| holding(extents, range.outside).is_some())
        };
        inside(&map.uids, &self.uids) && inside(&map.gids, &self.gids)
    }
}

fn extents(text: &str) -> Vec<(u32, u32)> {
    let extent = |line: &str| {
        let mut fields = line.split_whitespace().map(|field| field.parse::<u32>().ok());
        Some((fields.next()??, fields.nth(1)??))
    };
    let mut extents: Vec<_> = text.lines().filter_map(extent).collect();
    extents.sort_unstable();
    extents
}

/// How many ids from `id` on are in the same extent.
fn holding(extents: &[(u32, u32)], id: u32) -> Option<u32> {
    extents.iter().find_map(|(first, count)| count.checked_sub(id.checked_sub(*first)?).filter(|left| *left > 0))
}

fn split(ranges: &[IdRange], extents: &[(u32, u32)]) -> Vec<IdRange> {
    let mut pieces = Vec::new();
    for range in ranges {
        let mut rest = *range;
        while rest.count > 0 {
            // An id that the parent lacks stays in the map, and the kernel's refusal is reported.
            let count = holding(extents, rest.outside).map_or(rest.count, |left| left.min(rest.count));
            pieces.push(IdRange { count, ..rest });
            rest = IdRange {
                inside: rest.inside.saturating_add(count),
                outside: rest.outside.saturating_add(count),
                count: rest.count - count,
            };
        }
    }
    pieces
}

/// Neighbours as one range: how the namespace above cuts them is of no interest to whoever records the map.
fn joined(map: IdMap) -> IdMap {
    let join = |ranges: Vec<IdRange>| {
        let mut joined: Vec<IdRange> = Vec::new();
        for range in ranges {
            match joined.last_mut() {
                Some(last) if last.inside + last.count == range.inside && last.outside + last.count == range.outside => {
                    last.count += range.count;
                }
                _ => joined.push(range),
            }
        }
        joined
    };
    IdMap { uids: join(map.uids), gids: join(map.gids) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(uids: &str, gids: &str) -> Parent {
        Parent::of(uids, gids)
    }

    #[test]
    fn own_ids_are_split_where_the_parent_s_map_is() {
        let whole = "         0          0 4294967295\n";
        for (uids, gids, own, pieces) in [
            (whole, whole, "uid 0:0+65536, gid 0:0+65536", "uid 0:0+65536, gid 0:0+65536"),
            (
                "0 1005 1\n1 2262144 65536\n",
                "0 1006 1\n1 2262144 65535\n",
                "uid 0:0+65536, gid 0:0+65536",
                "uid 0:0+1 1:1+65535, gid 0:0+1 1:1+65535",
            ),
            ("0 1005 1\n", "0 1006 1\n", "uid 0:0+1, gid 0:0+1", "uid 0:0+1, gid 0:0+1"),
            // With a hole, and in another order.
            (
                "100000 1 5\n2000 7 1000\n0 1000 1000\n",
                whole,
                "uid 0:0+1000 2000:2000+1000, gid 0:0+65536",
                "uid 0:0+1000 2000:2000+1000, gid 0:0+65536",
            ),
        ] {
            let parent = parent(uids, gids);
            assert_eq!(parent.own().to_string(), own);
            assert_eq!(parent.split(&parent.own()).to_string(), pieces);
            assert!(parent.has(&parent.own()));
        }
    }

    #[test]
    fn a_session_lacks_the_last_user() {
        let few = parent("0 1005 1\n1 2262144 999\n", "0 1006 1\n1 2262144 999\n").of_session();
        assert!(few.has_owner(998, 999) && !few.has_owner(999, 0) && !few.has_owner(0, 1000));
        let whole = "0 0 4294967295\n";
        assert!(parent(whole, whole).of_session().has_owner(65534, 65534));
    }

    #[test]
    fn ids_that_the_parent_lacks_are_seen() {
        let parent = parent("0 1005 1\n1 2262144 65536\n", "0 0 4294967295\n");
        let subordinate = IdMap {
            uids: vec![IdRange { inside: 0, outside: 0, count: 1 }, IdRange { inside: 1, outside: 60000, count: 10000 }],
            gids: vec![IdRange { inside: 0, outside: 0, count: 1 }],
        };
        assert!(!parent.has(&subordinate));
        assert_eq!(parent.split(&subordinate).to_string(), "uid 0:0+1 1:60000+5537 5538:65537+4463, gid 0:0+1");
    }
}
