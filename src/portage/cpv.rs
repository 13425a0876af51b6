//! `category/name-version`: the only code that decides where a package's name ends and its version begins.
//!
//! PMS 3.1.2 and 3.2: the version is the part after the last hyphen, or after the last but one if a revision follows; it has to read as a
//! version, and a name never ends like one. So `media-fonts/font-adobe-100dpi-1.0.4` is version 1.0.4 of `font-adobe-100dpi`.

/// A package of a version, as Portage writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cpv<'a> {
    /// `app-misc`
    pub category: &'a str,
    /// `hello`
    pub package: &'a str,
    /// `2.10-r1`
    pub version: &'a str,
    text: &'a str,
}

impl<'a> Cpv<'a> {
    /// Parses `category/name-version`; `None` without a version.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (category, pf) = text.split_once('/')?;
        let (package, version) = split_pf(pf)?;
        (!category.is_empty() && !package.is_empty()).then_some(Self { category, package, version, text })
    }

    /// `category/name`
    pub(crate) fn name(&self) -> &'a str {
        &self.text[..self.text.len() - self.version.len() - 1]
    }

    /// `name-version`
    pub(crate) fn pf(&self) -> &'a str {
        &self.text[self.category.len() + 1..]
    }

    /// `category/name` of a [`Cpv`] as text; the text itself if it is none.
    pub(crate) fn name_of(text: &'a str) -> &'a str {
        Self::parse(text).map_or(text, |cpv| cpv.name())
    }
}

/// Splits `name-1.2-r3` into name and version, if it ends in a version.
pub(crate) fn split_pf(text: &str) -> Option<(&str, &str)> {
    let mut candidates = text.rmatch_indices('-').map(|(at, _)| at).take(2);
    // If the last part is a revision, the version is the part before it.
    let last = candidates.next()?;
    if split_revision(&text[last..]).1.is_some() {
        let at = candidates.next()?;
        return is_version(&text[at + 1..]).then(|| (&text[..at], &text[at + 1..]));
    }
    is_version(&text[last + 1..]).then(|| (&text[..last], &text[last + 1..]))
}

/// Splits `1.2-r3` into the version and the number of its revision.
pub(crate) fn split_revision(version: &str) -> (&str, Option<&str>) {
    match version.rsplit_once("-r") {
        Some((rest, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => (rest, Some(number)),
        _ => (version, None),
    }
}

/// PMS 3.2: numbers with dots, an optional letter, any number of `_suffixN`, an optional revision.
pub(crate) fn is_version(text: &str) -> bool {
    let (version, _) = split_revision(text);
    let mut parts = version.split('_');
    let numbers = parts.next().unwrap_or_default();
    let numbers = numbers.strip_suffix(|c: char| c.is_ascii_lowercase()).unwrap_or(numbers);
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    numbers.split('.').all(digits)
        && parts.all(|suffix| {
            ["alpha", "beta", "pre", "rc", "p"]
                .iter()
                .any(|word| suffix.strip_prefix(word).is_some_and(|number| number.is_empty() || digits(number)))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_where_its_version_begins() {
        let cases = [
            ("app-misc/hello-2.10", Some(("app-misc/hello", "2.10"))),
            ("media-fonts/font-adobe-100dpi-1.0.4", Some(("media-fonts/font-adobe-100dpi", "1.0.4"))),
            ("media-fonts/font-adobe-100dpi-1.0.4-r2", Some(("media-fonts/font-adobe-100dpi", "1.0.4-r2"))),
            ("dev-libs/libfoo-bar-1.2_rc3-r1", Some(("dev-libs/libfoo-bar", "1.2_rc3-r1"))),
            ("dev-lang/python-3.13.0_rc1_p2", Some(("dev-lang/python", "3.13.0_rc1_p2"))),
            ("a/b-1x-2", Some(("a/b-1x", "2"))),
            ("x11-libs/gtk+-2.24.33", Some(("x11-libs/gtk+", "2.24.33"))),
            ("media-libs/libpng-1.2.59b", Some(("media-libs/libpng", "1.2.59b"))),
            ("sys-kernel/gentoo-sources-6.12.9999", Some(("sys-kernel/gentoo-sources", "6.12.9999"))),
            ("app-misc/r2-d2-r5-1", Some(("app-misc/r2-d2-r5", "1"))),
            ("virtual/x-9999", Some(("virtual/x", "9999"))),
            ("a/b", None),
            ("a/b-r1", None),
            ("a/b-100dpi", None),
            ("a/-1", None),
            ("/b-1", None),
            ("b-1", None),
        ];
        for (text, expected) in cases {
            let found = Cpv::parse(text);
            assert_eq!(found.map(|cpv| (cpv.name(), cpv.version)), expected, "{text}");
            assert_eq!(Cpv::name_of(text), expected.map_or(text, |(name, _)| name));
            if let Some(cpv) = found {
                assert_eq!(format!("{}/{}-{}", cpv.category, cpv.package, cpv.version), text);
            }
        }
    }
}
