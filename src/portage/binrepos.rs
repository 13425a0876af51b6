//! `binrepos.conf`: the binary package hosts that a root may install from.
//!
//! ```text
//! [own]                             a name
//! sync-uri = https://host/path      where Packages and the packages are
//! priority = 10
//! verify-signature = true           Portage's default since 3.0.78
//! ```
//!
//! Source: `portage/binrepo/config.py`, which reads it with Python's `configparser`: `=` or `:`, whichever comes first, between name and value.

/// A line that says something.
fn settings(text: &str) -> impl Iterator<Item = (u32, String, String)> + '_ {
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim_start().starts_with(['#', ';'])).filter_map(|(number, line)| {
        let (key, value) = line.split_once(['=', ':'])?;
        Some((number, key.trim().to_lowercase(), value.trim().to_lowercase()))
    })
}

/// Whether a host is named.
pub fn names_a_host(text: &str) -> bool {
    settings(text).any(|(_, key, value)| key == "sync-uri" && !value.is_empty())
}

/// Lines, counted from 1, by which signatures would not be verified.
pub fn unverified(text: &str) -> impl Iterator<Item = u32> + '_ {
    settings(text).filter(|(_, key, value)| key == "verify-signature" && !matches!(value.as_str(), "true" | "yes")).map(|(n, ..)| n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_what_would_not_be_verified() {
        let text = "# verify-signature = no\n[own]\nsync-uri: http://h\nverify-signature = Yes\n[b]\nVerify-Signature : off\n; x\nverify-signature=\n";
        assert!(names_a_host(text));
        assert_eq!(unverified(text).collect::<Vec<_>>(), [6, 8]);
        assert!(!names_a_host("# sync-uri = http://h\n[own]\nsync-uri =\n"));
        assert_eq!(unverified("").count(), 0);
    }
}
