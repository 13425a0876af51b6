//! The one way to the terminal. Nothing else writes to standard output or standard error.
//!
//! Names of files, words of servers, arguments and what packages print are other people's. A terminal obeys some characters in them: it
//! changes its title, its clipboard, or what was printed before. So what is written is a [`Text`], and a [`Text`] is made in two ways only:
//! from words, in which such characters become visible (`\u{1b}`), and from codes that are part of this program.

use std::fmt::Write as _;
use std::io;
use std::io::{IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use crate::sys::pty;

use crate::terminal_text::{is_obeyed, sanitize_but_colors, sanitize_uncut, visible_lines};
use serde::Serialize;

pub(crate) use crate::terminal_text::visible_line as line;

/// How words are set off where there is colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Error,
    Warning,
    Hint,
    Step,
    Strong,
    Dim,
    Red,
    Green,
    Yellow,
    Cyan,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Error => "\x1b[1;31m",
            Self::Warning => "\x1b[1;33m",
            Self::Hint => "\x1b[1;36m",
            Self::Step => "\x1b[1;32m",
            Self::Strong => "\x1b[1m",
            Self::Dim => "\x1b[2m",
            Self::Red => "\x1b[31m",
            Self::Green => "\x1b[32m",
            Self::Yellow => "\x1b[33m",
            Self::Cyan => "\x1b[36m",
        }
    }
}

/// What may be written: words without anything that a terminal obeys but line breaks and tabs, and our own codes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Text(String);

impl Text {
    /// Words in one line: line breaks in them become visible, too.
    pub(crate) fn line(words: &str) -> Self {
        Self(line(words))
    }

    /// A value as JSON. What a terminal obeys is written with JSON's own escapes, so it means the same.
    pub(crate) fn json(value: &impl Serialize, pretty: bool) -> io::Result<Self> {
        let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
        let (text, mut out) = (text.map_err(io::Error::other)?, String::new());
        for c in text.chars() {
            if c != '\n' && is_obeyed(c) {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            } else {
                out.push(c);
            }
        }
        Ok(Self(out))
    }

    /// Words; line breaks and tabs stay.
    #[must_use]
    pub(crate) fn words(self, words: &str) -> Self {
        Self(self.0 + &visible_lines(words))
    }

    /// What a program has printed: its colours stay if there is colour, and nothing else that a terminal obeys but line breaks and tabs.
    pub(crate) fn of_program(bytes: &[u8], color: bool) -> Self {
        Self(if color { sanitize_but_colors(bytes) } else { sanitize_uncut(bytes) })
    }

    /// A code of ours.
    #[must_use]
    pub(crate) fn code(self, code: &'static str) -> Self {
        Self(self.0 + code)
    }

    /// What is safe already.
    #[must_use]
    pub(crate) fn text(self, text: &Self) -> Self {
        Self(self.0 + &text.0)
    }

    /// Words in a style, if there is colour.
    #[must_use]
    pub(crate) fn painted(self, style: Style, words: &str, color: bool) -> Self {
        if color { self.code(style.code()).words(words).code("\x1b[0m") } else { self.words(words) }
    }

    /// All in one string, for what draws by itself.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(words: &str) -> Self {
        Self::default().words(words)
    }
}

impl From<&String> for Text {
    fn from(words: &String) -> Self {
        Self::from(words.as_str())
    }
}

impl From<String> for Text {
    fn from(words: String) -> Self {
        Self::from(words.as_str())
    }
}

impl FromIterator<Self> for Text {
    fn from_iter<I: IntoIterator<Item = Self>>(parts: I) -> Self {
        Self(parts.into_iter().map(|part| part.0).collect())
    }
}

/// A path among words: whatever it is called, it begins no line of its own.
pub(crate) trait Shown {
    /// As it is displayed, in one line.
    fn shown(&self) -> String;
}

impl Shown for Path {
    fn shown(&self) -> String {
        line(&self.display().to_string())
    }
}

/// The columns of the terminal that standard output is, if it is one and knows.
pub(crate) fn width() -> Option<usize> {
    let out = io::stdout();
    let size = if out.is_terminal() { pty::size(out.as_fd()) } else { None };
    size.map(|size| usize::from(size.columns)).filter(|columns| *columns > 0)
}

/// The same for standard error.
pub(crate) fn err_width() -> Option<usize> {
    let err = io::stderr();
    let size = if err.is_terminal() { pty::size(err.as_fd()) } else { None };
    size.map(|size| usize::from(size.columns)).filter(|columns| *columns > 0)
}

/// Writes to standard output.
pub(crate) fn out(text: &Text) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.0.as_bytes())?;
    out.flush()
}

/// Writes to standard error. Nobody can be told that it is gone.
pub(crate) fn err(text: &Text) {
    let mut err = io::stderr().lock();
    drop(err.write_all(text.0.as_bytes()).and_then(|()| err.flush()));
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\x1b[31mb\x07\r\u{9b}0m\u{9d}0;t\u{9c}\u{7f}\u{202e}c\u{200b}\0d";

    #[test]
    fn what_a_terminal_obeys_is_seen_and_not_sent() {
        let seen = "a\\u{1b}[31mb\\u{7}\\r\\u{9b}0m\\u{9d}0;t\\u{9c}\\u{7f}\\u{202e}c\\u{200b}\\u{0}d";
        assert_eq!(Text::from(HOSTILE).as_str(), seen);
        assert_eq!(Text::line(HOSTILE).as_str(), seen);
        assert_eq!(Text::from("one\n\ttwo ä").as_str(), "one\n\ttwo ä");
        assert_eq!(Text::line("one\nerror: two").as_str(), "one\\nerror: two");
        // Codes like ours are no exception.
        let painted = Text::default().painted(Style::Error, "\x1b[0mx", true).words("\x1b[1;31m");
        assert_eq!(painted.as_str(), "\x1b[1;31m\\u{1b}[0mx\x1b[0m\\u{1b}[1;31m");
        assert_eq!(Text::default().painted(Style::Error, "x", false).as_str(), "x");
    }

    #[test]
    fn json_says_the_same_in_characters_that_no_terminal_obeys() {
        let value = serde_json::json!({ HOSTILE: [format!("{HOSTILE}\n\u{e0001}")] });
        for pretty in [true, false] {
            let text = Text::json(&value, pretty).unwrap();
            assert!(text.as_str().chars().all(|c| c == '\n' || !is_obeyed(c)), "{text:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(text.as_str()).unwrap(), value);
        }
    }
}
