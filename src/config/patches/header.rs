//! The header of a patch: the lines before its first change.
//!
//! ```text
//! Purpose: keep quiet when there is nothing to greet
//! Package: app-misc/hello-2.10
//! Date: 2026-11-25
//! Bug: https://bugs.gentoo.org/917047
//!
//! diff --git a/src/hello.c b/src/hello.c
//! ```
//!
//! Patches come from anywhere, so the values are bounded and made safe to print. The fields of mail and of other distributions
//! (`Subject`, `Description`) are used where they mean the same.

use crate::terminal_text::sanitize_line;

/// Nobody writes a longer one. This keeps a file without any change from being read to its end.
const MAX_BYTES: usize = 64 * 1024;
const MAX_FIELDS: usize = 64;
const MAX_NAME_CHARS: usize = 40;
const MAX_VALUE_CHARS: usize = 1000;

/// The fields before the first change of a patch. Values are safe to print.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    fields: Vec<(String, String)>,
}

impl Header {
    /// Reads what comes before the first change.
    pub fn read(patch: &[u8]) -> Self {
        let mut fields: Vec<(String, String)> = Vec::new();
        let mut goes_on = false;
        for line in patch[..patch.len().min(MAX_BYTES)].split(|byte| *byte == b'\n') {
            if [b"--- ".as_slice(), b"diff ", b"Index: ", b"*** "].iter().any(|start| line.starts_with(start)) {
                break;
            }
            if goes_on && line.starts_with(b" ") {
                if let Some((_, value)) = fields.last_mut() {
                    let longer = format!("{value} {}", sanitize_line(line, MAX_VALUE_CHARS).trim());
                    *value = sanitize_line(longer.trim().as_bytes(), MAX_VALUE_CHARS);
                }
                continue;
            }
            let field = field(line).filter(|_| fields.len() < MAX_FIELDS);
            goes_on = field.is_some();
            fields.extend(field);
        }
        Self { fields }
    }

    /// The value of a field; case does not matter.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, value)| known.eq_ignore_ascii_case(name) && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// What the patch is for.
    pub fn purpose(&self) -> Option<&str> {
        ["Purpose", "Subject", "Description"].iter().find_map(|name| self.get(name))
    }

    /// The package whose source it was made from.
    pub fn package(&self) -> Option<&str> {
        self.get("Package")
    }

    /// When it was made.
    pub fn date(&self) -> Option<&str> {
        self.get("Date")
    }

    /// Where upstream or the distribution knows of it.
    pub fn bug(&self) -> Option<&str> {
        ["Bug", "Bug-Gentoo", "Bug-Upstream"].iter().find_map(|name| self.get(name))
    }

    #[cfg(test)]
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

fn field(line: &[u8]) -> Option<(String, String)> {
    let colon = line.iter().take(MAX_NAME_CHARS + 1).position(|byte| *byte == b':')?;
    let (name, value) = (std::str::from_utf8(&line[..colon]).ok()?, &line[colon + 1..]);
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        // Not `https://…`.
        && !value.starts_with(b"//");
    is_name.then(|| (name.to_owned(), sanitize_line(value, MAX_VALUE_CHARS).trim().to_owned()))
}
