//! `make.conf` read as Portage reads it.
//!
//! Portage splits the file with Python's `shlex` in POSIX mode and then expands variables in each value (`portage/util/__init__.py`:
//! `getconfig`, `varexpand`). Both differ from bash. We do the same, since Portage is what reads the result:
//!
//! - a `#` outside quotes begins a comment even within a word;
//! - quotes are removed before variables are expanded, so `'${X}'` is expanded too;
//! - within a value, an apostrophe (as in `"it's ${X}"`) switches expansion off until the next one;
//! - a newline within a value is a space, a backslash before a newline joins the lines;
//! - commands such as `$(nproc)` do not exist;
//! - the word `source` is the statement wherever it stands, even as a value;
//! - the file is opened as Python opens text: `\r\n` and `\r` end lines too.
//!
//! `tests/portage` compares all this with Portage.

use std::borrow::Cow;
use std::collections::VecDeque;

/// A statement of a `make.conf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// `NAME="value"`
    Assign(Assignment),
    /// `source FILE`
    Source {
        /// The file, relative to the one that has the statement.
        file: Vec<Piece>,
        /// Line of the word `source`, from 1.
        line: u32,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub name: String,
    /// Value, with references not yet replaced.
    pub value: Vec<Piece>,
    /// Line of the name, from 1.
    pub line: u32,
    /// Whether `# override` follows the value.
    pub overrides: bool,
}

/// Part of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Text {
        /// The text; quotes and backslashes are resolved.
        text: String,
        /// Line where it begins.
        line: u32,
    },
    /// `${NAME}` or `$NAME`.
    Reference {
        /// Name of the other variable.
        name: String,
        /// Line where it stands.
        line: u32,
    },
}

/// A `make.conf` that Portage would refuse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct SyntaxError {
    /// Line, from 1.
    pub line: u32,
    pub problem: SyntaxProblem,
}

/// What is wrong in a `make.conf`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxProblem {
    /// The file ends within quotes.
    #[error("the quote {0} that begins here is never closed")]
    OpenQuote(char),
    /// The file ends after a backslash.
    #[error("the file ends after a backslash")]
    Backslash,
    /// A name without `=` and value.
    #[error("`{}` is not followed by `=`", .0.escape_debug())]
    NoEquals(String),
    /// `NAME=` without a value: Portage would take the first word of the next line.
    #[error("`{0}=` has no value; write an empty value as `{0}=\"\"`")]
    NoValue(String),
    /// A name with invalid characters.
    #[error("`{}` is no name of a variable", .0.escape_debug())]
    Name(String),
    /// `${NAME` without `}`.
    #[error("the reference `${{{0}` is not closed by `}}`; Portage knows only the form `${{NAME}}`")]
    OpenReference(String),
    /// `$(`, `${}` and the like.
    #[error("`$` is not followed by a variable; Portage runs no commands here; write a dollar sign as `\\$`")]
    Substitution,
    /// `source` without a file.
    #[error("`source` names no file")]
    NoSource,
    /// `A="source"`: Portage takes this for the statement.
    #[error("Portage would read the value `source` as a statement; write `{0}=\" source\"`")]
    SourceValue(String),
    /// A value that is too large.
    #[error("the value of `{0}` has more than {max} bytes", max = super::profile_stack::VALUE_LIMIT_BYTES)]
    LargeValue(String),
    /// Values that are too large together.
    #[error("with `{0}`, all values of the profiles together have more than {max} \
        bytes", max = super::profile_stack::VALUES_LIMIT_BYTES)]
    LargeValues(String),
    /// A character that is not allowed in values.
    #[error("the value of `{name}` has the control character `{}`", .character.escape_default())]
    Control { name: String, character: char },
}

/// The text as Python's text mode reads it: every line ends with `\n`.
pub(crate) fn unix_newlines(text: &str) -> Cow<'_, str> {
    if text.contains('\r') { Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")) } else { Cow::Borrowed(text) }
}

/// Reads a whole file. Like Portage, it stops at the first error.
pub fn parse(text: &str) -> Result<Vec<Statement>, SyntaxError> {
    let text = unix_newlines(text);
    let mut lexer = Lexer::new(&text);
    let mut statements = Vec::new();
    while let Some(mut key) = lexer.token()? {
        if key.text() == "export" {
            match lexer.token()? {
                Some(next) => key = next,
                None => break,
            }
        }
        if key.text() == "source" {
            let file = lexer.token()?.filter(|file| file.line == key.line);
            let file = file.ok_or(SyntaxError { line: key.line, problem: SyntaxProblem::NoSource })?;
            statements.push(Statement::Source { file: expand(&file.chars)?, line: key.line });
            continue;
        }
        statements.push(Statement::Assign(assignment(&mut lexer, &key)?));
    }
    Ok(statements)
}

fn assignment(lexer: &mut Lexer<'_>, key: &Token) -> Result<Assignment, SyntaxError> {
    let name = key.text();
    let fail = |problem| Err(SyntaxError { line: key.line, problem });
    if lexer.token()?.is_none_or(|equals| equals.text() != "=") {
        return fail(SyntaxProblem::NoEquals(name));
    }
    let equals_line = lexer.line;
    let Some(value) = lexer.token()? else { return fail(SyntaxProblem::NoValue(name)) };
    // Portage would read `A=`, `B="x"` as `A=B` and fail on the rest. Our error names the line with the mistake.
    if value.line != equals_line && !value.quoted {
        return fail(SyntaxProblem::NoValue(name));
    }
    let valid = !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !valid || name.is_empty() {
        return fail(SyntaxProblem::Name(name));
    }
    if value.text() == "source" {
        return fail(SyntaxProblem::SourceValue(name));
    }
    if let Some(&(c, line)) = value.chars.iter().find(|(c, _)| c.is_control() && !c.is_whitespace()) {
        return Err(SyntaxError { line, problem: SyntaxProblem::Control { name, character: c } });
    }
    let overrides = lexer.trailing_comment().is_some_and(|comment| is_override(&comment));
    Ok(Assignment { name, value: expand(&value.chars)?, line: key.line, overrides })
}

/// Whether a comment (without its `#`) is `override`: the line wins over earlier ones.
pub(crate) fn is_override(comment: &str) -> bool {
    comment
        .trim_start_matches('#')
        .split_whitespace()
        .next()
        .is_some_and(|word| word.trim_end_matches([':', ',', ';']) == "override")
}

/// Writes `value` so that [`parse`] and Portage read it back after `NAME=`, unless [`unread_reference`] finds a reference.
pub fn quote(value: &[Piece]) -> String {
    let text = |piece: &Piece| match piece {
        Piece::Text { text, .. } => text.clone(),
        Piece::Reference { .. } => " ".to_owned(),
    };
    let is_source = value.iter().map(text).collect::<String>() == "source";
    let mut out = String::from(if is_source { "\" " } else { "\"" });
    let mut reader = Expansion::default();
    for piece in value {
        match piece {
            Piece::Text { text, .. } => {
                for c in text.chars() {
                    match c {
                        '"' => out.push_str("\\\""),
                        // Between apostrophes only the quotes remove a backslash, not the expansion.
                        '$' if reader.single => out.push('$'),
                        '\\' if reader.single => out.push_str("\\\\"),
                        '$' => out.push_str("\\$"),
                        // The quotes and the expansion each halve the backslashes.
                        '\\' => out.push_str("\\\\\\\\"),
                        c => out.push(c),
                    }
                    reader.step(c);
                }
            }
            Piece::Reference { name, .. } => {
                out.push_str("${");
                out.push_str(name);
                out.push('}');
                reader.backslash = false;
            }
        }
    }
    out.push('"');
    out
}

/// The first reference that cannot be written so that Portage expands it, with what stands before it.
pub fn unread_reference(value: &[Piece]) -> Option<(usize, &'static str)> {
    let mut reader = Expansion::default();
    for (at, piece) in value.iter().enumerate() {
        match piece {
            Piece::Text { text, .. } => text.chars().for_each(|c| reader.step(c)),
            Piece::Reference { .. } if reader.single => return Some((at, "an apostrophe")),
            Piece::Reference { .. } if reader.backslash => return Some((at, "a backslash")),
            Piece::Reference { .. } => {}
        }
    }
    None
}

/// The state of `varexpand` within a value that [`quote`] wrote.
#[derive(Default)]
struct Expansion {
    /// Between apostrophes, where nothing is expanded.
    single: bool,
    double: bool,
    /// After a backslash of the value: quotes and dollar signs are literal.
    backslash: bool,
}

impl Expansion {
    fn step(&mut self, c: char) {
        match c {
            '\'' if !self.backslash => self.single ^= !self.double,
            '"' if !self.backslash => self.double ^= !self.single,
            _ => {}
        }
        self.backslash = c == '\\' && !self.single;
    }
}

type Char = (char, u32);

struct Token {
    chars: Vec<Char>,
    line: u32,
    quoted: bool,
}

impl Token {
    fn text(&self) -> String {
        self.chars.iter().map(|(c, _)| c).collect()
    }
}

/// Python's `shlex` with `posix=True` and the word characters of Portage.
struct Lexer<'a> {
    input: std::iter::Peekable<std::str::Chars<'a>>,
    pushed_back: VecDeque<Char>,
    line: u32,
    /// The comment that ended the last token; `None` if a newline did.
    ended_by: End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Comment(String),
    Newline,
    SameLine,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Between,
    Word,
    Quote(char, u32),
    /// After a backslash, with the state to return to.
    Escape(Option<(char, u32)>),
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "~!@#$%*_\\:;?,./-+{}".contains(c)
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n')
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str) -> Self {
        Self { input: text.chars().peekable(), pushed_back: VecDeque::new(), line: 1, ended_by: End::Newline }
    }

    fn read(&mut self) -> Option<Char> {
        if let Some(c) = self.pushed_back.pop_front() {
            return Some(c);
        }
        let c = self.input.next()?;
        let line = self.line;
        if c == '\n' {
            self.line += 1;
        }
        Some((c, line))
    }

    /// The rest of the line, whose newline is consumed.
    fn comment(&mut self) -> String {
        let mut text = String::new();
        while let Some((c, _)) = self.read() {
            if c == '\n' {
                break;
            }
            text.push(c);
        }
        text
    }

    /// The comment after the token just read, on the same line.
    fn trailing_comment(&mut self) -> Option<String> {
        match std::mem::replace(&mut self.ended_by, End::Newline) {
            End::Comment(text) => Some(text),
            End::Newline => None,
            End::SameLine => {
                while self.pushed_back.is_empty() && self.input.peek().is_some_and(|c| matches!(c, ' ' | '\t')) {
                    self.input.next();
                }
                if self.pushed_back.is_empty() && self.input.peek() == Some(&'#') { Some(self.comment()) } else { None }
            }
        }
    }

    fn token(&mut self) -> Result<Option<Token>, SyntaxError> {
        let mut state = State::Between;
        let mut token = Token { chars: Vec::new(), line: self.line, quoted: false };
        self.ended_by = End::SameLine;
        loop {
            let next = self.read();
            let Some((c, line)) = next else {
                return match state {
                    State::Quote(quote, line) => Err(SyntaxError { line, problem: SyntaxProblem::OpenQuote(quote) }),
                    State::Escape(_) => Err(SyntaxError { line: self.line, problem: SyntaxProblem::Backslash }),
                    State::Between | State::Word => Ok(token.emit()),
                };
            };
            match state {
                State::Between | State::Word if is_space(c) => {
                    if token.is_something() {
                        self.ended_by = if c == '\n' { End::Newline } else { End::SameLine };
                        return Ok(token.emit());
                    }
                    state = State::Between;
                }
                State::Between | State::Word if c == '#' => {
                    let comment = self.comment();
                    if token.is_something() {
                        self.ended_by = End::Comment(comment);
                        return Ok(token.emit());
                    }
                    state = State::Between;
                }
                State::Between | State::Word => {
                    if !token.is_something() {
                        token.line = line;
                    }
                    match c {
                        '\\' => state = State::Escape(None),
                        '"' | '\'' => {
                            token.quoted = true;
                            state = State::Quote(c, line);
                        }
                        c if is_word(c) => {
                            token.chars.push((c, line));
                            state = State::Word;
                        }
                        // Any other character, such as `=`, is a token of its own.
                        c if token.is_something() => {
                            self.pushed_back.push_front((c, line));
                            return Ok(token.emit());
                        }
                        c => {
                            token.chars.push((c, line));
                            return Ok(token.emit());
                        }
                    }
                }
                State::Quote(quote, _) if c == quote => state = State::Word,
                State::Quote('"', opened) if c == '\\' => state = State::Escape(Some(('"', opened))),
                State::Quote(..) => token.chars.push((c, line)),
                State::Escape(within) => {
                    if within.is_some() && c != '\\' && c != '"' {
                        token.chars.push(('\\', line));
                    }
                    token.chars.push((c, line));
                    state = within.map_or(State::Word, |(quote, opened)| State::Quote(quote, opened));
                }
            }
        }
    }
}

impl Token {
    fn is_something(&self) -> bool {
        self.quoted || !self.chars.is_empty()
    }

    fn emit(self) -> Option<Self> {
        self.is_something().then_some(self)
    }
}

/// Portage's `varexpand`, but references are kept.
fn expand(chars: &[Char]) -> Result<Vec<Piece>, SyntaxError> {
    let mut out = Pieces::default();
    let (mut at, mut single, mut double) = (0, false, false);
    while let Some(&(c, line)) = chars.get(at) {
        at += 1;
        match c {
            '\'' => {
                single ^= !double;
                out.push(c, line);
            }
            '"' => {
                double ^= !single;
                out.push(c, line);
            }
            c if single => out.push(c, line),
            '\n' => out.push(' ', line),
            '\\' => {
                let Some(&(escaped, _)) = chars.get(at) else {
                    out.push(c, line);
                    break;
                };
                at += 1;
                match escaped {
                    '$' => out.push('$', line),
                    '\n' => {}
                    '\\' => {
                        out.push('\\', line);
                        if let Some(&(quoted @ ('\'' | '"' | '$'), line)) = chars.get(at) {
                            out.push(quoted, line);
                            at += 1;
                        }
                    }
                    other => {
                        out.push('\\', line);
                        out.push(other, line);
                    }
                }
            }
            '$' if at == chars.len() => out.push('$', line),
            '$' => at = out.reference(chars, at, line)?,
            c => out.push(c, line),
        }
    }
    Ok(out.0)
}

#[derive(Default)]
struct Pieces(Vec<Piece>);

impl Pieces {
    /// Text is split at line ends, so that each word knows its line.
    fn push(&mut self, c: char, at: u32) {
        match self.0.last_mut() {
            Some(Piece::Text { text, line }) if *line == at => text.push(c),
            _ => self.0.push(Piece::Text { text: c.to_string(), line: at }),
        }
    }

    /// Reads the name after a `$` and returns the position after it.
    fn reference(&mut self, chars: &[Char], mut at: usize, line: u32) -> Result<usize, SyntaxError> {
        let braced = chars[at].0 == '{';
        at += usize::from(braced);
        let name: String = chars[at..].iter().map(|(c, _)| *c).take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        at += name.len();
        if braced {
            if chars.get(at).is_none_or(|(c, _)| *c != '}') {
                return Err(SyntaxError { line, problem: SyntaxProblem::OpenReference(name) });
            }
            at += 1;
        }
        if name.is_empty() {
            return Err(SyntaxError { line, problem: SyntaxProblem::Substitution });
        }
        self.0.push(Piece::Reference { name, line });
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `NAME=value` a line, references as `${NAME}`.
    fn read(text: &str) -> Vec<String> {
        let statements = parse(text).unwrap_or_else(|error| panic!("{text:?}: line {}: {error}", error.line));
        statements
            .iter()
            .map(|statement| match statement {
                Statement::Assign(Assignment { name, value, overrides, .. }) => {
                    format!("{name}={}{}", flat(value), if *overrides { " !" } else { "" })
                }
                Statement::Source { file, .. } => format!("source {}", flat(file)),
            })
            .collect()
    }

    fn flat(value: &[Piece]) -> String {
        value
            .iter()
            .map(|piece| match piece {
                Piece::Text { text, .. } => text.clone(),
                Piece::Reference { name, .. } => format!("${{{name}}}"),
            })
            .collect()
    }

    #[test]
    fn reads_as_portage_does() {
        for (text, expected) in [
            ("A=1", &["A=1"][..]),
            ("A=\"a b\"\nB='c d'", &["A=a b", "B=c d"]),
            ("  export A = \"x\" # c\n", &["A=x"]),
            ("A=a#b\nB=c", &["A=a", "B=c"]),
            ("A=\"a\n  b\"", &["A=a   b"]),
            ("A=\"a\\\nb\"", &["A=ab"]),
            ("A=\"a\\\n  b\"", &["A=a  b"]),
            ("A=\"\"\nB=x", &["A=", "B=x"]),
            ("A=\"${B} $C\"", &["A=${B} ${C}"]),
            ("A='${B}'", &["A=${B}"]),
            ("A=\"it's ${B}\"", &["A=it's ${B}"]),
            ("A=\"\\$B\"", &["A=$B"]),
            ("A=\"a \\\"b\\\" c\"", &["A=a \"b\" c"]),
            ("A=\"a\\\\b\"", &["A=a\\b"]),
            ("A=x\"y\"'z'", &["A=xyz"]),
            ("A=\"x\" # override\nB=\"y\" #overridden\nC=z# override: reason", &["A=x !", "B=y", "C=z !"]),
            ("A=\"x\n y\" # override\n# override\nB=1", &["A=x  y !", "B=1"]),
            ("A=\"x\"\n# override\nB=1", &["A=x", "B=1"]),
            ("A=\"x\"# override", &["A=x !"]),
            ("A=\"1\" B=\"2\"", &["A=1", "B=2"]),
            ("source ../x.conf\nA=1", &["source ../x.conf", "A=1"]),
            ("A=\"x\"\r\nB=\"y\"\r\n", &["A=x", "B=y"]),
            ("A=\"x\" # override\r\n", &["A=x !"]),
            ("A=\"x \\\r\n y\r\n z\"\rB=1", &["A=x  y  z", "B=1"]),
            ("# only a comment", &[]),
            ("A=$", &["A=$"]),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
        // Within the apostrophes Portage leaves `$` alone.
        let apostrophe = parse("A=\"it's ${B}\"").unwrap();
        assert!(matches!(&apostrophe[0], Statement::Assign(a) if a.value.len() == 1));
    }

    #[test]
    fn knows_the_line_of_each_word() {
        let statements = parse("\n# c\nUSE=\"a\n  b\n  ${C}\"\nD=1").unwrap();
        let Statement::Assign(first) = &statements[0] else { panic!() };
        assert_eq!(first.line, 3);
        let lines: Vec<u32> = first
            .value
            .iter()
            .map(|p| match p {
                Piece::Text { line, .. } | Piece::Reference { line, .. } => *line,
            })
            .collect();
        assert_eq!(lines, [3, 4, 5, 5]);
        let Statement::Assign(second) = &statements[1] else { panic!() };
        assert_eq!(second.line, 6);
    }

    #[test]
    fn names_the_line_of_a_mistake() {
        for (text, line, message) in [
            ("A=1\nB=\"x\n\n", 2, "the quote \" that begins here is never closed"),
            ("A", 1, "`A` is not followed by `=`"),
            ("A=1\nfoo bar\n", 2, "`foo` is not followed by `=`"),
            ("A=\nB=1\n", 1, "`A=` has no value; write an empty value as `A=\"\"`"),
            ("A=", 1, "`A=` has no value; write an empty value as `A=\"\"`"),
            ("1A=x", 1, "`1A` is no name of a variable"),
            ("A-B=x", 1, "`A-B` is no name of a variable"),
            ("A=\"${B\"", 1, "the reference `${B` is not closed by `}`; Portage knows only the form `${NAME}`"),
            (
                "A=1\nM=\"-j$(nproc)\"",
                2,
                "`$` is not followed by a variable; Portage runs no commands here; write a dollar sign as `\\$`",
            ),
            ("A=x\\", 1, "the file ends after a backslash"),
            ("source\nA=1", 1, "`source` names no file"),
            ("\nUSE=\"source\"", 2, "Portage would read the value `source` as a statement; write `USE=\" source\"`"),
            ("A=\"x\ny\u{7}\"", 2, "the value of `A` has the control character `\\u{7}`"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.line, error.to_string().as_str()), (line, message), "{text:?}");
        }
    }

    #[test]
    fn quoting_is_undone_by_reading() {
        let source = Piece::Text { text: "source".to_owned(), line: 1 };
        assert_eq!(quote(&[source]), "\" source\"");
        let hard = ["it's a\\b", "it's $x", "\\'", "\\\" '", "\"'\"", "'\"'", "\\\\'$x\\"];
        for text in ["plain", "a \"b\" c", "$HOME", "back\\slash", "a\\", "\\$x", "tab\there"].into_iter().chain(hard) {
            // The other way round, Portage's "bug-for-bug" reading of `\\\\$` leaves no way to write a backslash before a reference.
            let value = vec![Piece::Reference { name: "X".to_owned(), line: 1 }, Piece::Text { text: text.to_owned(), line: 1 }];
            let written = format!("A={}", quote(&value));
            let Statement::Assign(read) = &parse(&written).unwrap()[0] else { panic!() };
            assert_eq!(read.value, value, "{written}");
        }
    }
}
