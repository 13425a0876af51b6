//! HTML, made in one place: what is ours is a literal, and everything else is escaped on its way in.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::terminal_text::is_obeyed;

/// A piece of HTML.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Html(String);

impl Html {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Markup of ours. A literal, so that nobody else's words get here.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Anybody's words, as text or as the value of an attribute in quotation marks. What changes the direction of text, is invisible or
    /// controls something is written as `\u{202e}`.
    pub(super) fn text(&mut self, words: &str) -> &mut Self {
        for c in words.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\t' => self.0.push(' '),
                c if is_obeyed(c) => self.0.extend(c.escape_unicode()),
                c => self.0.push(c),
            }
        }
        self
    }

    pub(super) fn number(&mut self, number: impl Into<u64>) -> &mut Self {
        self.text(&number.into().to_string())
    }

    /// A part of a whole in percent, for a length or a place.
    pub(super) fn percent(&mut self, part: f64) -> &mut Self {
        let part = if part.is_finite() { part.clamp(0.0, 1.0) * 100.0 } else { 0.0 };
        self.text(&format!("{part:.3}%"))
    }

    pub(super) fn html(&mut self, other: &Self) -> &mut Self {
        self.0.push_str(&other.0);
        self
    }

    /// A link to a log on this machine. A browser runs no script of a file that is called `.log`; other names get no link.
    pub(super) fn log_link(&mut self, path: &Path, words: &str) -> &mut Self {
        if !(path.is_absolute() && path.extension().is_some_and(|extension| extension == "log")) {
            return self.text(words);
        }
        self.raw("<a href=\"file://");
        for byte in path.as_os_str().as_bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => self.0.push(char::from(*byte)),
                byte => self.0.push_str(&format!("%{byte:02X}")),
            }
        }
        self.raw("\">").text(words).raw("</a>")
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobodys_words_are_markup() {
        let mut html = Html::new();
        html.raw("<p title=\"")
            .text("\" onload='x()' \u{1b}[31m")
            .raw("\">")
            .text("<script>&amp;\u{202e}\u{0}\n</script>")
            .raw("</p>");
        assert_eq!(
            html.into_string(),
            "<p title=\"&quot; onload=&#39;x()&#39; \\u{1b}[31m\">&lt;script&gt;&amp;amp;\\u{202e}\\u{0}\\u{a}&lt;/script&gt;</p>"
        );
    }

    #[test]
    fn only_logs_are_linked_and_by_their_bytes() {
        let link = |path: &str| {
            let mut html = Html::new();
            html.log_link(Path::new(path), "<log>");
            html.into_string()
        };
        assert_eq!(link("/logs/a b\"<:#?.log"), "<a href=\"file:///logs/a%20b%22%3C%3A%23%3F.log\">&lt;log&gt;</a>");
        for other in ["/logs/a.html", "/logs/a.log.svg", "/logs/a", "javascript:x.log"] {
            assert_eq!(link(other), "&lt;log&gt;", "{other}");
        }
    }

    #[test]
    fn a_part_is_between_nothing_and_all() {
        for (part, text) in [(0.5, "50.000%"), (-1.0, "0.000%"), (7.0, "100.000%"), (f64::NAN, "0.000%")] {
            let mut html = Html::new();
            html.percent(part);
            assert_eq!(html.into_string(), text);
        }
    }
}
