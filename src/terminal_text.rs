//! Makes text of others safe to print. Packages, servers, keys and files can contain terminal escapes, which change the window's title,
//! the clipboard, or what was printed before.
//!
//! ```text
//! sanitize, sanitize_line    escapes are removed: for output of programs, which meant them for a terminal
//! visible_line, _lines       escapes are written as `\u{1b}`: for names and messages
//! blotted                    each becomes U+FFFD: for text that is stored and compared
//! ```

/// Longer lines are cut before printing: build logs have command lines of a hundred kilobytes.
pub(crate) const MAX_LINE_CHARS: usize = 2000;

/// `bytes` as text without terminal escapes and control characters; of those only line feed and tab stay. Carriage returns end a line.
///
/// Covered are CSI, OSC, DCS, SOS, PM and APC sequences with a seven-bit introducer, and the eight-bit controls (C1), with which some
/// terminals start the same. Bidirectional overrides and other invisible format characters, which can make a text read as another, go
/// too. Invalid UTF-8 becomes U+FFFD. Each line is cut after [`MAX_LINE_CHARS`].
pub fn sanitize(bytes: &[u8]) -> String {
    sanitize_lines(bytes, MAX_LINE_CHARS, false)
}

/// As [`sanitize`], but lines are not cut: for JSON, which a cut would break.
pub(crate) fn sanitize_uncut(bytes: &[u8]) -> String {
    sanitize_lines(bytes, usize::MAX, false)
}

/// As [`sanitize_uncut`], but colours and other attributes of characters stay: `ESC [`, digits and semicolons, `m` (SGR of ECMA-48).
pub(crate) fn sanitize_but_colors(bytes: &[u8]) -> String {
    sanitize_lines(bytes, usize::MAX, true)
}

fn sanitize_lines(bytes: &[u8], max_line_chars: usize, colors: bool) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut column = 0usize;
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => {
                if let Some(parameters) = colors.then(|| color(chars.clone())).flatten() {
                    out.extend(["\x1b[", &parameters, "m"]);
                }
                skip_escape(&mut chars);
            }
            '\u{9b}' => skip_csi(&mut chars),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => skip_string(&mut chars),
            '\r' | '\n' => {
                if c == '\r' && chars.peek() == Some(&'\n') {
                    continue;
                }
                out.push('\n');
                column = 0;
            }
            c if is_obeyed(c) && c != '\t' => {}
            c => {
                column += 1;
                match column.cmp(&max_line_chars) {
                    std::cmp::Ordering::Less => out.push(c),
                    std::cmp::Ordering::Equal => out.push('…'),
                    std::cmp::Ordering::Greater => {}
                }
            }
        }
    }
    out
}

/// One line: as [`sanitize`], line breaks turned to spaces, at most `max_chars` long.
pub(crate) fn sanitize_line(bytes: &[u8], max_chars: usize) -> String {
    let text = sanitize(bytes);
    let text = text.trim_end();
    let mut out: String = text.chars().map(|c| if c == '\n' { ' ' } else { c }).take(max_chars).collect();
    if text.chars().nth(max_chars).is_some() {
        out.pop();
        out.push('…');
    }
    out
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// The parameters of a colour, if that is what follows ESC.
fn color(mut chars: Chars<'_>) -> Option<String> {
    chars.next_if_eq(&'[')?;
    let mut parameters = String::new();
    while let Some(c) = chars.next_if(|c| c.is_ascii_digit() || *c == ';') {
        parameters.push(c);
    }
    // No colour needs as many.
    (parameters.len() <= 32 && chars.next() == Some('m')).then_some(parameters)
}

/// Skips what follows ESC. Characters that do not fit the grammar stay: they are ordinary text, or begin the next control.
fn skip_escape(chars: &mut Chars<'_>) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            skip_csi(chars);
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            chars.next();
            skip_string(chars);
        }
        Some(' '..='/') => {
            while chars.next_if(|c| matches!(c, ' '..='/')).is_some() {}
            chars.next_if(|c| matches!(c, '0'..='~'));
        }
        Some('0'..='~') => {
            chars.next();
        }
        _ => {}
    }
}

/// Parameters, intermediates, final.
fn skip_csi(chars: &mut Chars<'_>) {
    while chars.next_if(|c| matches!(c, ' '..='?')).is_some() {}
    chars.next_if(|c| matches!(c, '@'..='~'));
}

/// A control string ends with BEL or ST. An unterminated one would swallow the rest of the log, so it also ends at the end of its line.
fn skip_string(chars: &mut Chars<'_>) {
    while let Some(&c) = chars.peek() {
        match c {
            '\n' | '\r' => return,
            '\x07' | '\u{9c}' => {
                chars.next();
                return;
            }
            '\x1b' => {
                chars.next();
                chars.next_if_eq(&'\\');
                return;
            }
            _ => {
                chars.next();
            }
        }
    }
}

/// Whether a terminal acts on it instead of showing it: controls (C0, DEL, C1), line breaks and tabs among them, and characters that are
/// invisible or change the direction of text.
pub fn is_obeyed(c: char) -> bool {
    c.is_control() || is_invisible(c)
}

/// Text of others as one line for a terminal: controls are written as Rust writes them, `\u{1b}`.
pub(crate) fn visible_line(words: &str) -> String {
    visible(words, false)
}

/// As [`visible_line`], but line breaks stay.
pub(crate) fn visible_lines(words: &str) -> String {
    visible(words, true)
}

fn visible(words: &str, breaks: bool) -> String {
    let mut out = String::with_capacity(words.len());
    for c in words.chars() {
        match c {
            '\t' => out.push(c),
            '\n' if breaks => out.push(c),
            c if is_obeyed(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// U+FFFD for a character that a terminal acts on, else the character.
pub(crate) fn blotted(c: char) -> char {
    if is_obeyed(c) { char::REPLACEMENT_CHARACTER } else { c }
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_stay_where_they_are_wanted() {
        let log = b"\x1b[32;01m * \x1b[39;49;00mok\x1b[2J\x1b]0;title\x07\x1b[m\x1b[1;x\x1b[?1m!\n";
        assert_eq!(sanitize_but_colors(log), "\u{1b}[32;01m * \u{1b}[39;49;00mok\u{1b}[m!\n");
        assert_eq!(sanitize_uncut(log), " * ok!\n");
    }

    #[test]
    fn an_answer_is_as_long_as_it_is() {
        let line = format!("@gentoomuch {}\x1b[31m\n", "x".repeat(MAX_LINE_CHARS * 3));
        assert_eq!(sanitize_uncut(line.as_bytes()).len(), line.len() - 5);
        assert_eq!(sanitize(line.as_bytes()).chars().count(), MAX_LINE_CHARS + 1);
    }

    #[test]
    fn known_sequences_go_text_stays() {
        let cases: [(&[u8], &str); 14] = [
            (b"plain \xc3\xa4\tb\n", "plain ä\tb\n"),
            (b"\x1b[32;01m*\x1b[39;49;00m ok", "* ok"),
            (b"\x1b]0;owned\x07text", "text"),
            (b"\x1b]52;c;ZWNobyBoaQ==\x1b\\text", "text"),
            (b"\x1bPq#0;2;0;0;0\x1b\\x", "x"),
            (b"\x1b(B\x1b)0\x1b=a\x1bcb", "ab"),
            (b"\x9b31mred", "\u{fffd}31mred"),
            ("\u{9b}31mred\u{9d}0;t\u{9c}!".as_bytes(), "red!"),
            (b"a\r\nb\rc", "a\nb\nc"),
            (b"a\x08\x08b\x00\x7f", "ab"),
            (b"\x1b]never ends\nnext", "\nnext"),
            (b"\x1b[", ""),
            ("a\u{202e}b".as_bytes(), "ab"),
            (b"\x1b\x1b[31mx", "x"),
        ];
        for (bytes, want) in cases {
            assert_eq!(sanitize(bytes), want, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    /// Whatever goes in, nothing comes out that a terminal would obey.
    #[test]
    fn nothing_that_a_terminal_obeys_comes_out() {
        let alphabet: Vec<&[u8]> = vec![
            b"\x1b",
            b"[",
            b"]",
            b"P",
            b"\x07",
            b"\\",
            b"\x9b",
            "\u{9b}".as_bytes(),
            "\u{9d}".as_bytes(),
            b"0;",
            b"m",
            b"\n",
            b"\r",
            b"\t",
            b"a",
            b"\x00",
            b"\x7f",
            b"\xc2",
            b"\xff",
            b"(",
        ];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            let mut input = Vec::new();
            for _ in 0..state % 24 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                if state & 1 == 0 {
                    input.push(state.to_le_bytes()[4]);
                } else {
                    input.extend_from_slice(alphabet[(state >> 8) as usize % alphabet.len()]);
                }
            }
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let out = sanitize(&input);
            assert!(out.chars().all(|c| !c.is_control() || c == '\n' || c == '\t'), "{input:?} -> {out:?}");
            assert!(!sanitize_line(&input, 10).contains('\n'));
            assert!(sanitize_line(&input, 10).chars().count() <= 10);
        }
    }

    #[test]
    fn long_lines_are_cut_each_for_itself() {
        let long = "x".repeat(MAX_LINE_CHARS * 3);
        let out = sanitize(format!("{long}\nshort\n{long}").as_bytes());
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[0].chars().count(), MAX_LINE_CHARS);
        assert!(lines[0].ends_with('…') && lines[2].ends_with('…'));
        assert_eq!(lines[1], "short");
    }
}
