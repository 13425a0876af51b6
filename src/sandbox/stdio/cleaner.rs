//! What a session prints, made fit for a terminal.

/// Removes what a terminal obeys from a stream of text. Colours stay.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    /// The beginning of a character whose end has not come yet.
    cut: Vec<u8>,
    state: State,
    /// The control sequence so far.
    sequence: String,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC, and the intermediate characters behind it.
    Escape,
    /// After ESC `[`.
    Sequence,
    /// Up to BEL or ESC `\`, or the end of the line.
    Words,
}

/// A longer sequence is none that we let through.
const SEQUENCE_LIMIT: usize = 32;

impl Cleaner {
    pub(super) fn text(&mut self, chunk: &[u8]) -> String {
        let mut bytes = std::mem::take(&mut self.cut);
        bytes.extend_from_slice(chunk);
        // A chunk may end in the middle of a character. Only a sequence that is unfinished is kept for the next chunk; a wrong one
        // becomes U+FFFD at once.
        if let Some(last) = bytes.iter().rposition(|byte| !(0x80..0xc0).contains(byte))
            && std::str::from_utf8(&bytes[last..]).is_err_and(|error| error.error_len().is_none())
        {
            self.cut = bytes.split_off(last);
        }
        let mut out = String::with_capacity(bytes.len());
        for character in String::from_utf8_lossy(&bytes).chars() {
            self.take(character, &mut out);
        }
        out
    }

    fn take(&mut self, character: char, out: &mut String) {
        match (self.state, character) {
            (_, '\x1b') => self.state = State::Escape,
            // A newline ends any sequence, so that a program that stops in the middle of one cannot swallow the rest of the output.
            (_, '\n') | (State::Text, '\t' | '\r' | '\x08') => {
                self.state = State::Text;
                out.push(character);
            }
            (State::Text, '\u{9b}') | (State::Escape, '[') => {
                self.state = State::Sequence;
                self.sequence.clear();
            }
            (State::Text, '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}') | (State::Escape, ']' | 'P' | 'X' | '^' | '_') => {
                self.state = State::Words;
            }
            (State::Text, text) if text.is_control() => {}
            (State::Text, text) => out.push(text),
            (State::Sequence, 'm') => {
                self.state = State::Text;
                if self.sequence.chars().all(|one| one.is_ascii_digit() || one == ';' || one == ':') {
                    out.push_str("\x1b[");
                    out.push_str(&self.sequence);
                    out.push('m');
                }
            }
            (State::Sequence, '@'..='~') | (State::Escape, '0'..='~') | (State::Words, '\x07' | '\u{9c}') => {
                self.state = State::Text;
            }
            (State::Sequence, part) if self.sequence.len() < SEQUENCE_LIMIT => self.sequence.push(part),
            (State::Sequence, _) => self.state = State::Text,
            (State::Escape | State::Words, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_text_and_colours() {
        let cases: [(&[&[u8]], &str); 11] = [
            (&[b"plain \xc3\xa4\tb\r\n"], "plain ä\tb\r\n"),
            (&[b"\x1b[32;01m*\x1b[39m ok"], "\x1b[32;01m*\x1b[39m ok"),
            (&[b"\x1b[6nx\x1b[2Jy\x1b[?25lz"], "xyz"),
            (&[b"\x1b]0;title\x07a\x1b]52;c;aGk=\x1b\\b"], "ab"),
            (&[b"\x1bP$q\x1b\\x\x1bcy\x1b(0z"], "xyz"),
            // Cut anywhere.
            (&[b"\x1b", b"[", b"6", b"n", b"x\xc3", b"\xa4"], "xä"),
            (&[b"\x1b]0;no end", b" of it\nnext"], "\nnext"),
            // The eight-bit controls, in UTF-8 and bare.
            (&[b"\xc2\x9b6nx\xc2\x9d0;t\x07y"], "xy"),
            (&[b"\x9b6nx"], "\u{fffd}6nx"),
            (&[b"\x1b[1\x1b[6nx\x1b[>4;2my"], "xy"),
            (&[b"a\x00\x05\x0e\x7fb\x08"], "ab\x08"),
        ];
        for (chunks, wanted) in cases {
            let mut cleaner = Cleaner::default();
            let text: String = chunks.iter().map(|chunk| cleaner.text(chunk)).collect();
            assert_eq!(text, wanted, "{chunks:?}");
        }
    }
}
