//! Where a source archive may be, in the order in which Portage would ask (`package/ebuild/fetch.py`, `async_fetch`):
//!
//! 1. the mirrors called `local` in `etc/portage/mirrors`, then `GENTOO_MIRRORS`;
//! 2. what `mirror://NAME/` stands for: first the user's, then the tree's;
//! 3. the other addresses of `SRC_URI`, the last first.
//!
//! With `RESTRICT="primaryuri"` 3 comes first. `RESTRICT="mirror"` removes `GENTOO_MIRRORS`; `RESTRICT="fetch"` removes these and 3. The
//! prefixes `mirror+` and `fetch+` bring them back.

use std::collections::BTreeMap;

use super::Metadata;
use crate::portage::src_uri::{Conditions, Lifts, source_uris, words};

/// Mirrors by where they are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mirrors {
    /// `GENTOO_MIRRORS`.
    pub(super) general: Vec<String>,
    /// `etc/portage/mirrors`.
    pub(super) custom: BTreeMap<String, Vec<String>>,
    /// `profiles/thirdpartymirrors`.
    pub(super) third_party: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Below `distfiles/` of this mirror, according to its layout.
    Mirror(String),
    Address(String),
}

/// All places that may have a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// The best first.
    pub(super) places: Vec<Place>,
    /// The ebuild wants it fetched by hand.
    pub(super) restricted: bool,
}

impl Places {
    /// Adds the places of another ebuild at the end.
    pub(super) fn extend(&mut self, other: Self) {
        for place in other.places {
            if !self.places.contains(&place) {
                self.places.push(place);
            }
        }
    }
}

/// Where `file` is according to this ebuild. `None` if the ebuild does not want the file, or cannot be understood. If we do not know the
/// USE flags, all conditions of `SRC_URI` count and none of `RESTRICT`: then we may ask one address too many, but miss none.
pub(super) fn of(metadata: &Metadata, file: &str, is_on: Option<&dyn Fn(&str) -> bool>, mirrors: &Mirrors) -> Option<Places> {
    let uris = source_uris(&metadata.src_uri, is_on.map_or(Conditions::All, Conditions::On))?;
    let restrict = words(&metadata.restrict, is_on.map_or(Conditions::None, Conditions::On))?;
    let has = |word: &str| restrict.contains(&word);
    let (fetch, mirror) = (has("fetch"), has("mirror") || has("nomirror"));
    let mut of_file = uris.iter().filter(|found| found.file == file).peekable();
    let first = of_file.peek()?;
    let general_too = !(fetch || mirror) || first.lifts == Lifts::Mirror;
    let local = mirrors.custom.get("local").map_or(&[][..], Vec::as_slice).iter();
    let general = mirrors.general.iter().filter(|_| general_too);
    let trimmed = |base: &String| base.trim_end_matches('/').to_owned();
    let mut others: Vec<Place> = local.chain(general).map(|base| Place::Mirror(trimmed(base))).collect();
    let (mut primary, mut third_party) = (Vec::new(), Vec::new());
    for found in of_file {
        let Some(uri) = found.uri else { continue };
        let Some(rest) = uri.strip_prefix("mirror://") else {
            if !fetch || found.lifts != Lifts::Nothing {
                primary.push(Place::Address(uri.to_owned()));
            }
            continue;
        };
        let Some((name, path)) = rest.split_once('/') else { continue };
        let below = |base: &String| Place::Address(format!("{}/{path}", base.trim_end_matches('/')));
        others.extend(mirrors.custom.get(name).into_iter().flatten().map(below));
        let mut of_tree: Vec<Place> = mirrors.third_party.get(name).into_iter().flatten().map(below).collect();
        // Portage shuffles them, so that not everybody asks the first one. We turn the list by the file's name instead: its order stays
        // the same, so that a partial download goes on at the same server.
        let turn = file.bytes().map(usize::from).sum::<usize>() % of_tree.len().max(1);
        of_tree.rotate_left(turn);
        others.extend(of_tree.iter().cloned());
        third_party.extend(of_tree);
    }
    primary.reverse();
    primary.extend(third_party);
    let order = if has("primaryuri") { [primary, others] } else { [others, primary] };
    let mut found = Places { places: Vec::new(), restricted: fetch };
    for places in order {
        found.extend(Places { places, restricted: fetch });
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirrors() -> Mirrors {
        let list = |words: &str| words.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        Mirrors {
            general: list("http://m1 http://m2/"),
            custom: BTreeMap::from([("local".to_owned(), list("http://l/")), ("gnu".to_owned(), list("http://own/"))]),
            third_party: BTreeMap::from([("gnu".to_owned(), list("http://g/"))]),
        }
    }

    fn places(src_uri: &str, restrict: &str, file: &str) -> Option<(String, bool)> {
        let metadata = Metadata { src_uri: src_uri.to_owned(), restrict: restrict.to_owned(), ..Metadata::default() };
        let found = of(&metadata, file, None, &mirrors())?;
        let shown = |place: &Place| match place {
            Place::Mirror(base) => format!("<{base}>"),
            Place::Address(uri) => uri.clone(),
        };
        Some((found.places.iter().map(shown).collect::<Vec<_>>().join(" "), found.restricted))
    }

    /// As `fetch(listonly=1)` of Portage 3.0.83 prints them for these.
    #[test]
    fn portages_order() {
        let both = "http://a/f http://b/x -> f mirror://gnu/y -> f http://c/other";
        let table = [
            (both, "", "<http://l> <http://m1> <http://m2> http://own/y http://g/y http://b/x http://a/f", false),
            (both, "mirror", "<http://l> http://own/y http://g/y http://b/x http://a/f", false),
            (both, "fetch", "<http://l> http://own/y http://g/y", true),
            (both, "primaryuri", "http://b/x http://a/f http://g/y <http://l> <http://m1> <http://m2> http://own/y", false),
            (both, "primaryuri mirror", "http://b/x http://a/f http://g/y <http://l> http://own/y", false),
            ("http://a/f fetch+http://b/f", "fetch", "<http://l> http://b/f", true),
            ("mirror+http://b/f", "fetch", "<http://l> <http://m1> <http://m2> http://b/f", true),
            ("mirror+http://b/f", "mirror", "<http://l> <http://m1> <http://m2> http://b/f", false),
            ("http://a/f mirror+http://b/f", "fetch", "<http://l> http://b/f", true),
            ("mirror://unknown/f", "", "<http://l> <http://m1> <http://m2>", false),
            ("f", "", "<http://l> <http://m1> <http://m2>", false),
            ("f", "fetch", "<http://l>", true),
        ];
        for (src_uri, restrict, expected, restricted) in table {
            assert_eq!(places(src_uri, restrict, "f"), Some((expected.to_owned(), restricted)), "{src_uri:?} {restrict:?}");
        }
        assert_eq!(places(both, "", "none"), None);
        assert_eq!(places("a ( b", "", "a"), None);
    }

    #[test]
    fn conditions_that_are_known_count() {
        let metadata = Metadata {
            src_uri: "doc? ( http://a/f ) !doc? ( http://b/f )".into(),
            restrict: "bindist? ( fetch )".into(),
            ..Metadata::default()
        };
        let count = |is_on: Option<&dyn Fn(&str) -> bool>| {
            let found = of(&metadata, "f", is_on, &Mirrors::default()).unwrap();
            (found.places.len(), found.restricted)
        };
        assert_eq!(count(None), (2, false));
        assert_eq!(count(Some(&|flag| flag == "doc")), (1, false));
        assert_eq!(count(Some(&|flag| flag == "bindist")), (0, true));
    }
}
