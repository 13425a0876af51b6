//! `binrepos.conf`: the binary package hosts that a root may install from.
//!
//! ```text
//! [own]                             a name
//! sync-uri = https://host/path      where Packages and the packages are; file:///path or /path is a directory
//! priority = 10
//! verify-signature = true           Portage's default since 3.0.78
//! ```
//!
//! Source: `portage/binrepo/config.py`. A value with several lines does not count as `true`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::configparser::{Setting, parse};

/// Numbers of the lines, from 1, that switch off verification of signatures.
pub fn unverified(text: &str) -> impl Iterator<Item = u32> {
    let is_on = |value: &str| matches!(value.to_lowercase().as_str(), "true" | "yes");
    let off = move |setting: &Setting| setting.key == "verify-signature" && !is_on(&setting.value);
    parse(text).settings.into_iter().filter(off).map(|setting| setting.line)
}

/// Why a host cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreachable {
    /// Its address is neither HTTP(S) nor a directory.
    Protocol,
    /// Its address contains `%(name)s`, which we do not expand.
    Reference,
}

/// Hosts that cannot be used: line number from 1, address, and reason.
pub(crate) fn unreachable(text: &str) -> impl Iterator<Item = (u32, String, Unreachable)> {
    let why = |value: &str| {
        let Some(uri) = interpolated(value) else { return Some(Unreachable::Reference) };
        let lower = uri.trim().to_ascii_lowercase();
        let is_asked = lower.is_empty() || lower.starts_with("http://") || lower.starts_with("https://");
        (!is_asked && directory(&uri).is_none()).then_some(Unreachable::Protocol)
    };
    let settings = parse(text).settings.into_iter().filter(|setting| setting.key == "sync-uri");
    settings.filter_map(move |setting| Some((setting.line, why(&setting.value)?)).map(|(line, why)| (line, setting.value, why)))
}

/// The directory of an address: `file:///DIR`, `file:/DIR` or `/DIR`. Like Portage, it does not decode `%20`.
pub(crate) fn directory(uri: &str) -> Option<PathBuf> {
    let uri = uri.trim();
    let path = match uri.split_at_checked(5) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("file:") => match rest.strip_prefix("//") {
            // Portage ignores the host and reads a directory of this machine, which nobody means.
            Some(rest) => rest.strip_prefix("localhost").filter(|rest| rest.starts_with('/')).unwrap_or(rest),
            None => rest,
        },
        _ => uri,
    };
    (path.starts_with('/') && !path.starts_with("//")).then(|| PathBuf::from("/").join(path.trim_matches('/')))
}

/// The hosts of these files in order: name and `sync-uri` without slashes at its end.
pub fn hosts<'a>(files: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, String> {
    let mut hosts = BTreeMap::new();
    let mut default = None;
    for text in files {
        let parsed = parse(text);
        for section in &parsed.sections {
            hosts.entry(section.clone()).or_insert(None);
        }
        for setting in parsed.settings.into_iter().filter(|setting| setting.key == "sync-uri") {
            match setting.section.map(|at| &parsed.sections[at]) {
                Some(section) if section == "DEFAULT" => default = Some(setting.value),
                Some(section) => drop(hosts.insert(section.clone(), Some(setting.value))),
                None => {}
            }
        }
    }
    hosts.remove("DEFAULT");
    let uri = |uri: Option<String>| Some(interpolated(&uri.or_else(|| default.clone())?)?.trim_end_matches('/').to_owned());
    let known = hosts.into_iter().filter_map(|(name, said)| Some((name, uri(said)?)));
    known.filter(|(_, uri)| !uri.is_empty()).collect()
}

/// `%%` is a `%`. We do not know the value of `%(name)s`, and no host uses it in its address.
fn interpolated(value: &str) -> Option<String> {
    let plain = value.replace("%%", "");
    (!plain.contains('%')).then(|| value.replace("%%", "%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_what_would_not_be_verified() {
        let text = "# verify-signature = no\n[own]\nsync-uri: http://h\nverify-signature = Yes\n[b]\nVerify-Signature : off\n; x\nverify-signature=\n";
        assert_eq!(unverified(text).collect::<Vec<_>>(), [6, 8]);
        assert_eq!(unverified("").count(), 0);
    }

    #[test]
    fn hosts_that_cannot_be_asked() {
        let text = "[a]\nsync-uri = file:///srv/x\n[b]\nsync-uri = HTTP://h\n[c]\nsync-uri: ssh://h/x\n[d]\nsync-uri=\n[e]\nSync-Uri = /srv/x\n\
                    [f]\nsync-uri = file://h/x\n[g]\nsync-uri = file:srv\n[h]\nsync-uri = https://h/%(x)s\n[i]\nsync-uri = srv/x\n";
        let found: Vec<_> = unreachable(text).map(|(line, uri, why)| format!("{line} {uri} {why:?}")).collect();
        let expected = [
            "6 ssh://h/x Protocol",
            "12 file://h/x Protocol",
            "14 file:srv Protocol",
            "16 https://h/%(x)s Reference",
            "18 srv/x Protocol",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn directories() {
        let of = |uri: &str| directory(uri).map(|path| path.display().to_string());
        for uri in ["file:///srv/x y", "FILE:/srv/x y", "/srv/x y", " file://localhost/srv/x y "] {
            assert_eq!(of(uri).as_deref(), Some("/srv/x y"), "{uri}");
        }
        assert_eq!(of("file:///a%20b/").as_deref(), Some("/a%20b"));
        for uri in [
            "",
            "file:",
            "file://",
            "file://h/x",
            "file:////x",
            "//h/x",
            "x",
            "http://h/x",
            "file://localhostess/x",
            "fil\u{e9}:/x",
        ] {
            assert_eq!(of(uri), None, "{uri}");
        }
    }

    #[test]
    fn hosts_by_name() {
        let first =
            "[DEFAULT]\npriority = 1\n[own]\nSync-URI = https://H/Path//\n[other]\npriority = 2\n[odd]\nsync-uri = http://%(x)s/\n";
        let second = "[own]\nverify-signature = true\n[other]\nsync-uri: http://h/a%%20b\n[odd]\n";
        let expected = [("other", "http://h/a%20b"), ("own", "https://H/Path")];
        let found = hosts([first, second]);
        assert_eq!(found.iter().map(|(name, uri)| (name.as_str(), uri.as_str())).collect::<Vec<_>>(), expected);
        let found = hosts(["[a]\n[b]\nsync-uri = http://b\n[DEFAULT]\nsync-uri = http://d\n"]);
        assert_eq!(found.values().collect::<Vec<_>>(), ["http://d", "http://b"]);
    }

    #[test]
    fn an_indented_line_belongs_to_the_value_above_it() {
        let of = |text: &str| unverified(text).collect::<Vec<_>>();
        assert_eq!(of("[own]\nverify-signature = true\n  x\n"), [2]);
        assert_eq!(of("[own]\nverify-signature = true\n\n# why not\n\t; nor this\n x = y\n"), [2], "nothing in between ends it");
        assert_eq!(of("[own]\n  verify-signature = true\n  priority = 1\n"), [0_u32; 0], "no more than the first");
        assert_eq!(of("[own]\nverify-signature = true\n  [other]\npriority = 1\n"), [2], "not even a section does");
        assert_eq!(of("[own]\npriority = 1\n  verify-signature = no\n"), [0_u32; 0], "is not said at all");
        assert_eq!(of("[own]\n  verify-signature = no\n"), [2], "after a section nothing goes on");
        assert_eq!(of("[own]\nverify-signature =\n  true\n"), [2], "Portage reads a line break before it");
        assert_eq!(of("[own]\npriority = 1\rverify-signature = no\r\n"), [3], "Python ends lines so, too");
        assert_eq!(of("[own]\nverify-signature\x1f = no\n"), [2]);
        let names_a_host = |text| !hosts([text]).is_empty();
        assert!(names_a_host("[own]\nsync-uri =\n  http://h\n"));
        assert!(!names_a_host("[own]\npriority = 1\n  sync-uri = http://h\n"));
        assert!(!names_a_host("# sync-uri = http://h\n[own]\nsync-uri =\n"));
    }
}
