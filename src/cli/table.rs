//! What commands print on standard output: aligned tables, and JSON.

use std::io;

use serde::Serialize;

use crate::cli::screen::{self, Text};

pub(crate) use crate::report::sizes::bytes as human_bytes;

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

    /// The table as text, each line ended. On a terminal it fits, as far as its words do.
    pub(crate) fn render(&self) -> String {
        self.render_within(screen::width())
    }

    /// The same within so many columns: cells are wrapped between words, and where that is not enough, each row becomes a block of lines.
    fn render_within(&self, width: Option<usize>) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widest = |of: fn(&str) -> usize| -> Vec<usize> {
            let in_column = |column| self.rows.iter().filter_map(move |row: &Vec<String>| row.get(column));
            (0..columns).map(|column| in_column(column).map(|cell| of(cell)).max().unwrap_or(0)).collect()
        };
        let mut widths = widest(|cell| cell.chars().count());
        let Some(width) = width else { return self.lines(&widths) };
        let least = widest(|cell| cell.split(' ').map(|word| word.chars().count()).max().unwrap_or(0));
        let room = width.saturating_sub(GAP.len() * columns.saturating_sub(1));
        if least.iter().sum::<usize>() > room {
            return self.blocks();
        }
        while widths.iter().sum::<usize>() > room {
            // The widest one that can give something has the most lines to gain.
            let gives = (0..columns).filter(|column| widths[*column] > least[*column]).max_by_key(|column| widths[*column]);
            let Some(column) = gives else { break };
            widths[column] -= 1;
        }
        self.lines(&widths)
    }

    fn lines(&self, widths: &[usize]) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<Vec<String>> = row.iter().zip(widths).map(|(cell, width)| wrapped(cell, *width)).collect();
            let last = cells.len().saturating_sub(1);
            for at in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
                let mut line = String::new();
                for (column, cell) in cells.iter().enumerate() {
                    let part = cell.get(at).map_or("", String::as_str);
                    let is_right = self.right.get(column).copied().unwrap_or(false);
                    // One long cell does not make all others of its column as long.
                    let missing = if column == last && !is_right { 0 } else { widths[column] - part.chars().count() };
                    let padding = " ".repeat(missing);
                    line.push_str(if column > 0 { GAP } else { "" });
                    line.push_str(&if is_right { padding + part } else { part.to_owned() + &padding });
                }
                text.push_str(line.trim_end());
                text.push('\n');
            }
        }
        text
    }

    /// Each row by itself, a line for each cell that is not empty.
    fn blocks(&self) -> String {
        let [headings, rows @ ..] = self.rows.as_slice() else { return String::new() };
        let label = headings.iter().map(|heading| heading.chars().count()).max().unwrap_or(0);
        let block = |row: &Vec<String>| {
            let cells = headings.iter().zip(row).filter(|(_, cell)| !cell.is_empty());
            cells.map(|(heading, cell)| format!("{heading:<label$}{GAP}{cell}\n")).collect::<Vec<_>>().concat()
        };
        rows.iter().map(block).collect::<Vec<_>>().join("\n")
    }
}

/// What is between two columns.
const GAP: &str = "  ";

/// A cell in lines of so many columns, which end between words. A word is never broken.
fn wrapped(cell: &str, width: usize) -> Vec<String> {
    if cell.chars().count() <= width {
        return vec![cell.to_owned()];
    }
    let mut lines: Vec<String> = Vec::new();
    for word in cell.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
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
    fn a_table_fits_and_breaks_no_word() {
        let mut table = Table::new(&["NAME", ">SIZE", "WHY"]);
        table.row(["stage4/web", "10 B", "earlier state of it, last used in May"]);
        table.row(["kept/x", "1.5 MiB", ""]);
        let whole = table.render_within(None);
        assert_eq!(table.render_within(Some(200)), whole);
        assert_eq!(
            table.render_within(Some(40)),
            "NAME           SIZE  WHY\n\
             stage4/web     10 B  earlier state of\n                     it, last used in\n                     May\n\
             kept/x      1.5 MiB\n"
        );
        // Wherever it fits, it fits, and has all its words.
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
        for width in 26..80 {
            let text = table.render_within(Some(width));
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}\n{text}");
            assert_eq!(words(&text), words(&whole), "{width}");
        }
        assert_eq!(
            table.render_within(Some(20)),
            "NAME  stage4/web\nSIZE  10 B\nWHY   earlier state of it, last used in May\n\nNAME  kept/x\nSIZE  1.5 MiB\n"
        );
        assert_eq!(
            (Table::new(&["A"]).render_within(Some(0)).as_str(), Table::default().render_within(Some(9)).as_str()),
            ("", "")
        );
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
}
