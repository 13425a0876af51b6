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
//! A line that is indented more than the one that a setting began on belongs to its value, whatever comments and empty lines are between
//! (`configparser.py`, `_read`); a value of several lines is not `true`.

/// A name with its value, and the line that it begins on, counted from 1.
struct Setting {
    line: u32,
    key: String,
    value: String,
}

/// What Python's `str.strip` takes away.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// Lines as Python has them in a text file: a lone carriage return ends one, too.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

/// Everything that is set, in order.
fn settings(text: &str) -> Vec<Setting> {
    let mut found: Vec<Setting> = Vec::new();
    // Of the line that the setting, or the section, began on.
    let mut indent = 0;
    // Whether the last line of that kind was a setting.
    let mut open = false;
    for (line, whole) in (1..).zip(lines(text)) {
        let said = whole.trim_matches(is_space);
        if said.is_empty() || said.starts_with(['#', ';']) {
            continue;
        }
        let before = whole.chars().take_while(|c| is_space(*c)).count();
        if open && before > indent {
            if let Some(last) = found.last_mut() {
                last.value.push('\n');
                last.value.push_str(&said.to_lowercase());
            }
            continue;
        }
        indent = before;
        if said.strip_prefix('[').and_then(|rest| rest.rfind(']')).is_some_and(|at| at > 0) {
            open = false;
        } else if let Some((key, value)) = said.split_once(['=', ':']) {
            let plain = |text: &str| text.trim_matches(is_space).to_lowercase();
            found.push(Setting { line, key: plain(key), value: plain(value) });
            open = true;
        }
    }
    found
}

/// Whether a host is named.
pub fn names_a_host(text: &str) -> bool {
    settings(text).iter().any(|setting| setting.key == "sync-uri" && !setting.value.is_empty())
}

/// Lines, counted from 1, by which signatures would not be verified.
pub fn unverified(text: &str) -> impl Iterator<Item = u32> {
    let off = |setting: &Setting| setting.key == "verify-signature" && !matches!(setting.value.as_str(), "true" | "yes");
    settings(text).into_iter().filter(off).map(|setting| setting.line)
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
        assert!(names_a_host("[own]\nsync-uri =\n  http://h\n"));
        assert!(!names_a_host("[own]\npriority = 1\n  sync-uri = http://h\n"));
    }
}
