//! Names of archive members: made safe to resolve, and safe to print.
//!
//! A member's path is bytes that somebody else chose. [`normalise`] gives the canonical relative form (`./usr//bin/.` and `usr/bin` are
//! one), which the rest of the module uses as key, or says why the path is refused. `shown::EntryName` prints it so that it cannot control the
//! terminal.

use super::error::Refusal;

/// Longest name of one component: `NAME_MAX` of every file system that can hold a layer.
const COMPONENT_BYTES_MAX: usize = 255;

/// The canonical form of a member's path: relative, without `.` components and without doubled or trailing slashes. The root of the
/// archive (`./`) is the empty path.
///
/// `path_bytes_max` and `depth_max` bound the result.
pub fn normalise(raw: &[u8], path_bytes_max: usize, depth_max: usize) -> Result<Vec<u8>, Refusal> {
    if raw.is_empty() {
        return Err(Refusal::EmptyPath);
    }
    if raw.contains(&0) {
        return Err(Refusal::NulInPath);
    }
    if raw[0] == b'/' {
        return Err(Refusal::AbsolutePath);
    }
    if raw.len() > path_bytes_max {
        return Err(Refusal::PathTooLong { bytes: raw.len(), limit: path_bytes_max });
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut depth = 0;
    for component in raw.split(|b| *b == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => return Err(Refusal::ParentComponent),
            _ => {}
        }
        if component.len() > COMPONENT_BYTES_MAX {
            return Err(Refusal::ComponentTooLong { bytes: component.len(), limit: COMPONENT_BYTES_MAX });
        }
        depth += 1;
        if depth > depth_max {
            return Err(Refusal::TooDeep { limit: depth_max });
        }
        if !out.is_empty() {
            out.push(b'/');
        }
        out.extend_from_slice(component);
    }
    Ok(out)
}

/// Splits a normalised path into its directory and its last component. `None` for the root.
pub(super) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    })
}

#[cfg(test)]
mod tests {
    use super::super::shown::{DISPLAY_CHARS_MAX, EntryName};
    use super::*;

    #[test]
    fn spellings_of_one_path_become_one() {
        for (raw, canonical) in [
            (&b"./"[..], &b""[..]),
            (b".", b""),
            (b"./usr//bin/.", b"usr/bin"),
            (b"usr/bin/", b"usr/bin"),
            (b"./a/./b", b"a/b"),
            (b"...", b"..."),
            (b"a..b/..c", b"a..b/..c"),
        ] {
            assert_eq!(normalise(raw, 4096, 512).unwrap(), canonical, "{}", EntryName::new(raw));
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        let long = [b'a'; 256];
        let deep = "a/".repeat(513);
        let endless = [b'a', b'/'].repeat(2049);
        for (raw, words) in [
            (&b""[..], "its path is empty"),
            (b"/etc/passwd", "its path is absolute"),
            (b"//etc", "its path is absolute"),
            (b"..", "its path has a `..` component"),
            (b"a/../../b", "its path has a `..` component"),
            (b"./..", "its path has a `..` component"),
            (b"a\0b", "its path has a NUL byte"),
            (&long, "a component of its path has 256 bytes, more than 255"),
            (deep.as_bytes(), "it lies deeper than 512 directories"),
            (&endless, "its path has 4098 bytes, more than 4096"),
        ] {
            assert_eq!(normalise(raw, 4096, 512).unwrap_err().to_string(), words);
        }
        let (depth, component) = ("a/".repeat(512), [b'a'; 255]);
        let longest = [[b'a'; 127].as_slice(), b"/"].concat().repeat(32);
        for raw in [depth.as_bytes(), &component, &longest] {
            assert!(normalise(raw, 4096, 512).is_ok(), "{}", EntryName::new(raw));
        }
    }

    #[test]
    fn names_cannot_speak_to_the_terminal() {
        for (raw, shown) in [
            (&b"plain name"[..], "plain name"),
            (b"a\x1b[2Jb", "a\\u{1b}[2Jb"),
            (b"a\nb`c", "a\\nb\\u{60}c"),
            ("schöne\u{202e}dateien".as_bytes(), "schöne\\u{202e}dateien"),
            (b"\xff\xfe", "\\xff\\xfe"),
        ] {
            assert_eq!(EntryName::new(raw).to_string(), shown);
        }
        assert_eq!(EntryName::new(&[b'x'; 1000]).to_string().chars().count(), DISPLAY_CHARS_MAX + 1);
        let mixed = [&[b'x'; DISPLAY_CHARS_MAX - 1][..], b"\xff\xff\xffx"].concat();
        for (raw, end) in [(&[0xff; 1000][..], "\\xff…"), (&mixed, "x\\xff…"), (&mixed[..DISPLAY_CHARS_MAX], "x\\xff")] {
            let shown = EntryName::new(raw).to_string();
            assert!(shown.ends_with(end) && shown.chars().count() <= 4 * DISPLAY_CHARS_MAX + 1, "{shown}");
        }
    }
}
