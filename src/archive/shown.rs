//! Names of entries as messages print them.

use std::fmt;

/// Names longer than this are cut when printed.
pub(crate) const DISPLAY_CHARS_MAX: usize = 240;

fn escape(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut left = DISPLAY_CHARS_MAX;
    for chunk in bytes.utf8_chunks() {
        let invalid = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}"));
        for shown in chunk.valid().chars().map(escape_char).chain(invalid) {
            if left == 0 {
                out.push('…');
                return out;
            }
            left -= 1;
            out.push_str(&shown);
        }
    }
    out
}

fn escape_char(c: char) -> String {
    if c == '`' || is_bidi_control(c) {
        c.escape_unicode().collect()
    } else if c == '\\' || c.is_control() {
        c.escape_default().collect()
    } else {
        c.to_string()
    }
}

/// Characters that reorder what follows them, so that a path reads as another.
pub(crate) fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A member's path as the archive spells it, for messages: control characters, quotes that would end ours, and bytes that are
/// not UTF-8 are escaped; very long names are cut.
#[derive(Clone, PartialEq, Eq)]
pub struct EntryName(Vec<u8>);

impl EntryName {
    /// Keeps a copy of `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}
