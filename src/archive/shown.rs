//! Names of entries as messages print them.

use std::fmt;
use std::fmt::Write as _;

/// Names longer than this are cut when printed.
pub(crate) const DISPLAY_CHARS_MAX: usize = 240;

pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut shown = 0;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if shown == DISPLAY_CHARS_MAX {
                out.push('…');
                return out;
            }
            shown += 1;
            if c == '`' || is_bidi_control(c) {
                out.extend(c.escape_unicode());
            } else if c == '\\' || c.is_control() {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
            shown += 1;
        }
    }
    out
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
