//! Comparing versions as Portage does (`portage/versions.py`, `vercmp`; PMS 3.3).
//!
//! ```text
//! 1.2.3b_rc1_p2-r4
//! │ │   │      └ revision
//! │ │   └ suffixes: alpha < beta < pre < rc < none < p
//! │ └ letter
//! └ numbers; after the first, one with a leading zero compares like a decimal fraction
//! ```

use std::cmp::Ordering;

/// Compares two versions, each with an optional revision. Invalid versions compare as text.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    match (Parts::of(a), Parts::of(b)) {
        (Some(a), Some(b)) => a.compare(&b),
        _ => a.cmp(b),
    }
}

#[derive(Debug)]
struct Parts<'a> {
    numbers: Vec<&'a str>,
    letter: Option<char>,
    suffixes: Vec<(i8, &'a str)>,
    revision: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Option<Self> {
        if !super::cpv::is_version(text) {
            return None;
        }
        let (version, revision) = super::cpv::split_revision(text);
        let revision = revision.unwrap_or_default();
        let mut parts = version.split('_');
        let numbers = parts.next()?;
        let letter = numbers.chars().next_back().filter(char::is_ascii_lowercase);
        let numbers = numbers.trim_end_matches(|c: char| c.is_ascii_lowercase()).split('.').collect();
        let suffixes = parts.map(suffix).collect::<Option<_>>()?;
        Some(Self { numbers, letter, suffixes, revision })
    }

    fn compare(&self, other: &Self) -> Ordering {
        compare_numbers(&self.numbers, &other.numbers)
            .then_with(|| self.compare_letters(other))
            .then_with(|| compare_suffixes(&self.suffixes, &other.suffixes))
            .then_with(|| compare_integers(self.revision, other.revision))
    }

    /// Portage appends the letter to the numbers: it is only looked at when these are as many.
    fn compare_letters(&self, other: &Self) -> Ordering {
        self.letter.cmp(&other.letter)
    }
}

fn suffix(text: &str) -> Option<(i8, &str)> {
    // "pre" before "p", which is its prefix.
    let known = [("alpha", -4), ("beta", -3), ("pre", -2), ("rc", -1), ("p", 0)];
    known.into_iter().find_map(|(word, value)| text.strip_prefix(word).map(|number| (value, number)))
}

fn compare_numbers(a: &[&str], b: &[&str]) -> Ordering {
    let mut order = compare_integers(a[0], b[0]);
    for index in 1..a.len().max(b.len()) {
        order = order.then_with(|| match (a.get(index), b.get(index)) {
            (Some(a), Some(b)) if a.starts_with('0') || b.starts_with('0') => {
                let width = a.len().max(b.len());
                format!("{a:0<width$}").cmp(&format!("{b:0<width$}"))
            }
            (Some(a), Some(b)) => compare_integers(a, b),
            (a, b) => a.is_some().cmp(&b.is_some()),
        });
    }
    order
}

fn compare_suffixes(a: &[(i8, &str)], b: &[(i8, &str)]) -> Ordering {
    for index in 0..a.len().max(b.len()) {
        let order = match (a.get(index), b.get(index)) {
            (Some((a, number_a)), Some((b, number_b))) => a.cmp(b).then_with(|| compare_integers(number_a, number_b)),
            // An implicit suffix is `_p-1`.
            (Some((a, _)), None) => a.cmp(&0).then(Ordering::Greater),
            (None, Some((b, _))) => 0.cmp(b).then(Ordering::Less),
            (None, None) => Ordering::Equal,
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

/// Of any length; an empty text is zero.
fn compare_integers(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_versions_as_portage_does() {
        // From `portage/tests/versions/test_vercmp.py` (3.0.83).
        for (greater, less) in [
            ("6.0", "5.0"),
            ("5.0", "5"),
            ("1.0-r1", "1.0-r0"),
            ("1.0-r1", "1.0"),
            ("999999999999999999", "999999999999999998"),
            ("1.0.0", "1.0"),
            ("1.0.0", "1.0b"),
            ("1b", "1"),
            ("1b_p1", "1_p1"),
            ("1.1b", "1.1"),
            ("12.2.5", "12.2b"),
            ("4.0", "4.0_beta"),
            ("4.0", "4.0_pre"),
            ("1.0", "1.0_alpha"),
            ("1.0_p1", "1.0"),
            ("1.0_rc1", "1.0_beta5"),
            ("1.0_p2", "1.0_p"),
            ("1.1", "1.02"),
            ("1.02", "1.010"),
            ("1_alpha_p", "1_alpha"),
        ] {
            assert_eq!(compare(greater, less), Ordering::Greater, "{greater} > {less}");
            assert_eq!(compare(less, greater), Ordering::Less, "{less} < {greater}");
        }
        for (a, b) in [("4.0", "4.0"), ("1.0", "1.0-r0"), ("1.0-r1", "1.0-r01"), ("1.0_p", "1.0_p0")] {
            assert_eq!(compare(a, b), Ordering::Equal, "{a} = {b}");
        }
    }
}
