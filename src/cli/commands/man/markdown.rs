//! From the Markdown of the book's reference to the roff of man pages.
//!
//! It knows what those pages use: headings, paragraphs, lists of one level, tables, fenced blocks, and in a line `code`, **bold**, *italics*
//! and links. A link becomes its words: where it leads is another section of the same page, or a page of its own.
//!
//! ```text
//! ## Heading     .SS      | a | b |  .TP, and the other cells below     ```    .nf between .RS and .RE
//! ### Heading    .PP .B   - item     .IP with a bullet                  <!-- … --> is left out
//! ```

use std::iter::Peekable;
use std::str::Lines;

/// The body of a page, without its first heading.
pub(super) fn roff(text: &str) -> String {
    let mut page = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix("### ") {
            page += &format!(".PP\n\\fB{}\\fR\n", inline(heading));
        } else if let Some(heading) = line.strip_prefix("## ") {
            page += &format!(".SS \"{}\"\n", title(heading));
        } else if line.starts_with("```") {
            let inside: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
            page += &literal(&inside);
        } else if line.starts_with("<!--") {
            let mut last = line;
            while !last.contains("-->") {
                let Some(next) = lines.next() else { break };
                last = next;
            }
        } else if line.starts_with('|') {
            page += &table(line, &mut lines);
        } else if let Some((mark, first)) = item(line) {
            page += &format!(".IP \"{mark}\" 3\n{}", text_lines(&joined(first, &mut lines)));
        } else if !line.trim().is_empty() {
            page += &paragraph(&joined(line, &mut lines));
        }
    }
    page
}

/// A paragraph of its own.
pub(super) fn paragraph(text: &str) -> String {
    format!(".PP\n{}", text_lines(&text.split_whitespace().collect::<Vec<_>>().join(" ")))
}

/// Lines as they are, indented.
pub(super) fn literal<L: AsRef<str>>(lines: &[L]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let body: String = lines.iter().map(|line| protected(&escaped(line.as_ref(), true)) + "\n").collect();
    format!(".PP\n.RS 4\n.nf\n{body}.fi\n.RE\n")
}

/// A heading as an argument of a macro.
pub(super) fn title(words: &str) -> String {
    escaped(&words.replace('`', ""), false).replace('"', "\\(dq")
}

/// The mark of a list's item, and its first line.
fn item(line: &str) -> Option<(String, &str)> {
    if let Some(rest) = line.strip_prefix("- ") {
        return Some(("\\(bu".to_owned(), rest));
    }
    let (number, rest) = line.split_once(". ")?;
    (!number.is_empty() && number.chars().all(|digit| digit.is_ascii_digit())).then(|| (format!("{number}."), rest))
}

/// A line with those that continue it.
fn joined(first: &str, lines: &mut Peekable<Lines<'_>>) -> String {
    let mut all = first.trim().to_owned();
    while let Some(next) = lines.next_if(|next| continues(next)) {
        all.push(' ');
        all.push_str(next.trim());
    }
    all
}

fn continues(line: &str) -> bool {
    !line.trim().is_empty() && !["#", "```", "|", "<!--"].iter().any(|mark| line.starts_with(mark)) && item(line).is_none()
}

/// A table: each row under its first cell. With more than two columns, each further cell is told with the head of its column.
fn table(head: &str, lines: &mut Peekable<Lines<'_>>) -> String {
    let head = cells(head);
    let mut page = String::new();
    while let Some(line) = lines.next_if(|next| next.starts_with('|')) {
        let row = cells(line);
        if row.iter().all(|cell| cell.chars().all(|mark| matches!(mark, '-' | ':'))) {
            continue;
        }
        let [first, rest @ ..] = row.as_slice() else { continue };
        page += &format!(".TP\n{}", text_lines(first));
        if let [only] = rest {
            page += &text_lines(only);
            continue;
        }
        for (number, cell) in rest.iter().enumerate() {
            let name = head.get(number + 1).copied().unwrap_or_default();
            page += if number == 0 { "" } else { ".br\n" };
            page += &text_lines(&format!("{name}: {cell}"));
        }
    }
    page
}

fn cells(line: &str) -> Vec<&str> {
    line.trim().trim_matches('|').split('|').map(str::trim).collect()
}

/// Text that is filled, with its end.
fn text_lines(text: &str) -> String {
    protected(&inline(text)) + "\n"
}

/// No line of text is taken for a request.
fn protected(line: &str) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() }
}

/// What is marked within a line.
pub(super) fn inline(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(['`', '*', '[', '<']) {
        out += &escaped(&rest[..at], false);
        let marked = &rest[at..];
        let (done, after) = span(marked).unwrap_or_else(|| (escaped(&marked[..1], false), &marked[1..]));
        out += &done;
        rest = after;
    }
    out + &escaped(rest, false)
}

/// The span that `text` begins with, and what comes after it.
fn span(text: &str) -> Option<(String, &str)> {
    let between = |open: &str, close: &str| text.strip_prefix(open)?.split_once(close);
    if let Some((code, after)) = between("`", "`") {
        return Some((format!("\\fB{}\\fR", escaped(code, true)), after));
    }
    if let Some((strong, after)) = between("**", "**") {
        return Some((format!("\\fB{}\\fR", escaped(&strong.replace('`', ""), false)), after));
    }
    if let Some((words, after)) = between("*", "*") {
        return Some((format!("\\fI{}\\fR", escaped(words, false)), after));
    }
    if let Some((address, after)) = between("<", ">").filter(|(address, _)| address.starts_with("http")) {
        return Some((escaped(address, true), after));
    }
    let (words, after) = between("[", "](")?;
    let (target, after) = after.split_once(')')?;
    let words = inline(words);
    Some((if target.starts_with("http") { format!("{words} ({})", escaped(target, true)) } else { words }, after))
}

/// Without anything that roff obeys. In code, marks and hyphens are those that one types.
fn escaped(text: &str, is_code: bool) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '\\' => out += "\\e",
            '-' if is_code => out += "\\-",
            '\'' if is_code => out += "\\(aq",
            '`' if is_code => out += "\\(ga",
            '^' => out += "\\(ha",
            '~' => out += "\\(ti",
            character => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_reference_uses_becomes_roff() {
        let page = "Some `code-x`, **bold**, *italics* and a\n[link](a.md#b) or [other](https://a.example/).\n\n## A \"heading\"\n\n\
                    ### Below\n\n- one\n  goes on\n- two\n\n1. first\n2. second\n\n<!-- not\nshown -->\n.dot\n\n\
                    | file | content |\n|---|---|\n| `a` | b |\n\n| a | b | c |\n|---|---|---|\n| 1 | 2 | 3 |\n\n\
                    ```sh\n.x 'a' \\\n\nb\n```\n";
        insta::assert_snapshot!(roff(page), @r#"
        .PP
        Some \fBcode\-x\fR, \fBbold\fR, \fIitalics\fR and a link or other (https://a.example/).
        .SS "A \(dqheading\(dq"
        .PP
        \fBBelow\fR
        .IP "\(bu" 3
        one goes on
        .IP "\(bu" 3
        two
        .IP "1." 3
        first
        .IP "2." 3
        second
        .PP
        \&.dot
        .TP
        \fBa\fR
        b
        .TP
        1
        b: 2
        .br
        c: 3
        .PP
        .RS 4
        .nf
        \&.x \(aqa\(aq \e

        b
        .fi
        .RE
        "#);
    }

    #[test]
    fn marks_that_mark_nothing_stay() {
        assert_eq!(inline("a * b < c [d] `e"), "a * b < c [d] `e");
        assert_eq!(inline("`*` and `a*b`"), "\\fB*\\fR and \\fBa*b\\fR");
        assert_eq!(inline("[`code`](x.md)"), "\\fBcode\\fR");
    }
}
