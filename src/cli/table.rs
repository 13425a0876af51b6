//! What commands print on standard output: aligned tables, and JSON.

use std::io;

use serde::Serialize;

use crate::cli::screen::{self, Text};

/// Rows of text, printed in aligned columns without borders.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<bool>,
}

impl Table {
    /// A table with a heading row; a heading that starts with `>` aligns its column to the right.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self {
            right: headings.iter().map(|heading| heading.starts_with('>')).collect(),
            rows: vec![headings.iter().map(|heading| heading.trim_start_matches('>').to_owned()).collect()],
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        // Before widths are counted, and so that nobody's name makes a row of its own.
        self.rows.push(cells.into_iter().map(|cell| screen::line(&cell.into())).collect());
    }

    /// The table as text, each line ended.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let padding = " ".repeat(widths[column] - cell.chars().count());
                let right = self.right.get(column).copied().unwrap_or(false);
                if column > 0 {
                    line.push_str("  ");
                }
                if right {
                    line.push_str(&padding);
                }
                line.push_str(cell);
                if !right {
                    line.push_str(&padding);
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Writes `text` to standard output.
pub(crate) fn print(text: impl Into<Text>) -> io::Result<()> {
    screen::out(&text.into())
}

/// Writes `value` as indented JSON, with a final newline, to standard output.
pub(crate) fn print_json(value: &impl Serialize) -> io::Result<()> {
    print(Text::json(value, true)?.words("\n"))
}

/// Writes `value` as JSON if that is asked for, else in words.
pub(crate) fn print_either<T: Serialize>(json: bool, value: &T, words: impl FnOnce(&T) -> String) -> io::Result<()> {
    if json { print_json(value) } else { print(words(value)) }
}

/// `1 layer`, `2 layers`.
pub(crate) fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// Time of day in UTC without fractions of a second, from RFC 3339.
pub(crate) fn short_time(rfc3339: &str) -> String {
    let seconds = rfc3339.split_once('.').map_or_else(|| rfc3339.trim_end_matches('Z'), |(seconds, _)| seconds);
    seconds.replacen('T', " ", 1)
}

/// As much of a state's id as tells it from others; every command takes it.
pub(crate) fn short_id(id: &impl ToString) -> String {
    id.to_string().chars().take(12).collect()
}

/// How long ago something was, for people: `5 min`, `3 h`, `12 days`.
pub(crate) fn age(secs: i64) -> String {
    match u64::try_from(secs).unwrap_or(0) {
        secs @ 0..3600 => format!("{} min", secs / 60),
        secs @ 3600..172_800 => format!("{} h", secs / 3600),
        secs => count(secs / 86_400, "day"),
    }
}

/// `bytes` for people: `0 B`, `512 B`, `1.5 MiB`.
pub(crate) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_not_padded() {
        let mut table = Table::new(&["NAME", ">SIZE", "NOTE"]);
        table.row(["a", "10 B", "x"]);
        table.row(["longer", "9 B", ""]);
        assert_eq!(table.render(), "NAME    SIZE  NOTE\na       10 B  x\nlonger   9 B\n");
        table.row(["x\n\u{1b}[1m", "", "y"]);
        assert_eq!(table.render().lines().last(), Some("x\\n\\u{1b}[1m        y"));
    }

    #[test]
    fn words_for_people() {
        assert_eq!((count(1, "tree"), count(0, "tree")), ("1 tree".to_owned(), "0 trees".to_owned()));
        for time in ["2026-11-22T09:39:42.78Z", "2026-11-22T09:39:42Z"] {
            assert_eq!(short_time(time), "2026-11-22 09:39:42");
        }
        for (secs, text) in [(-5, "0 min"), (59, "0 min"), (3599, "59 min"), (3600, "1 h"), (172_799, "47 h"), (172_800, "2 days")]
        {
            assert_eq!(age(secs), text);
        }
        assert_eq!(short_id(&"28c4490114768c079ad4bc66ef930186"), "28c449011476");
    }

    #[test]
    fn sizes_for_people() {
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_572_864, "1.5 MiB")] {
            assert_eq!(human_bytes(bytes), text);
        }
    }
}
