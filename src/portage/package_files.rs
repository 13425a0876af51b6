//! The line files of a Portage directory: `package.use`, `package.mask` and their relatives.
//!
//! ```text
//! >=media-libs/mesa-24 vulkan -X VIDEO_CARDS: amdgpu    # override
//! └ atom               └ words                          └ comment
//! ```
//!
//! Each may be a file or a directory of files (`portage/util/__init__.py`: `grabdict`, `grabfile_package`). A `#` at the beginning of any
//! word begins a comment. `tests/portage` compares all this with Portage.

use std::fmt;

use crate::portage::atom::{Atom, AtomError};
use crate::portage::make_conf::{is_override, unix_newlines};
use crate::portage::use_flags;
use crate::portage::use_flags::Switch;

/// The kinds of line files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LineFile {
    /// `package.use`: flags, with the `VIDEO_CARDS: …` form.
    Use,
    /// `package.accept_keywords`: keywords; none means the testing keyword of the architecture.
    AcceptKeywords,
    /// `package.keywords`, its former name.
    Keywords,
    /// `package.license`
    License,
    /// `package.properties`
    Properties,
    /// `package.accept_restrict`
    AcceptRestrict,
    /// `package.env`: files below `env/`, in order.
    Env,
    /// `package.mask`: atoms; `-atom` removes a mask of the Portage profile.
    Mask,
    /// `package.unmask`: atoms.
    Unmask,
}

impl LineFile {
    pub const ALL: [Self; 9] = [
        Self::Use,
        Self::AcceptKeywords,
        Self::Keywords,
        Self::License,
        Self::Properties,
        Self::AcceptRestrict,
        Self::Env,
        Self::Mask,
        Self::Unmask,
    ];

    /// The file's name below `/etc/portage`.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Use => "package.use",
            Self::AcceptKeywords => "package.accept_keywords",
            Self::Keywords => "package.keywords",
            Self::License => "package.license",
            Self::Properties => "package.properties",
            Self::AcceptRestrict => "package.accept_restrict",
            Self::Env => "package.env",
            Self::Mask => "package.mask",
            Self::Unmask => "package.unmask",
        }
    }

    /// The kind called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|file| file.file_name() == name)
    }

    /// Whether atoms may have `[flag]`.
    fn takes_use_dependencies(self) -> bool {
        !matches!(self, Self::Use | Self::AcceptKeywords | Self::Keywords)
    }

    /// Whether a line is an atom alone.
    pub fn is_mask(self) -> bool {
        matches!(self, Self::Mask | Self::Unmask)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub atom: Atom,
    /// `-atom` in a mask file.
    pub negated: bool,
    /// The words after the atom; `USE_EXPAND` flags are written out.
    pub words: Vec<String>,
    /// Whether `# override` ends the line.
    pub overrides: bool,
    /// Line number, from 1.
    pub line: u32,
}

impl fmt::Display for Line {
    /// The line in normal form; `USE_EXPAND` flags are written out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.negated { "-" } else { "" }, self.atom)?;
        for word in &self.words {
            write!(f, " {word}")?;
        }
        f.write_str(if self.overrides { " # override" } else { "" })
    }
}

/// A line that Portage would not accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct LineError {
    /// Line number, from 1.
    pub line: u32,
    pub problem: LineProblem,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineProblem {
    /// The first word is no atom.
    #[error(transparent)]
    Atom(#[from] AtomError),
    /// An atom alone, in a file whose lines need more words.
    #[error("there is nothing after `{0}`")]
    NoWords(String),
    /// Words after the atom in a mask file.
    #[error("`{1}` comes after `{0}`, but a line of this file holds one atom")]
    Words(String, String),
    /// `a/b[flag]` in a file where Portage ignores the flag.
    #[error("`{0}`: atoms in `{1}` cannot have USE dependencies")]
    UseDependencies(String, &'static str),
    /// `=a/b-1-2` in `package.license`.
    #[error("`{0}`: atoms in `{1}` cannot have a build number")]
    BuildId(String, &'static str),
    /// `+flag`, `a,b` and the like.
    #[error("`{0}` is no USE flag")]
    Flag(String),
    /// Invisible characters.
    #[error("the line has the control character `{}`", .0.escape_default())]
    Control(char),
    /// `-atom` in a file without masks.
    #[error("`-{0}`: only `package.mask` and `package.unmask` can take an atom back")]
    Negated(String),
}

/// Reads all lines, and reports all errors.
pub fn parse(kind: LineFile, text: &str) -> (Vec<Line>, Vec<LineError>) {
    let (mut lines, mut errors) = (Vec::new(), Vec::new());
    for (number, raw) in (1..).zip(unix_newlines(text).lines()) {
        match parse_line(kind, raw, number) {
            Ok(line) => lines.extend(line),
            Err(problem) => errors.push(LineError { line: number, problem }),
        }
    }
    (lines, errors)
}

fn parse_line(kind: LineFile, raw: &str, line: u32) -> Result<Option<Line>, LineProblem> {
    let (content, comment) = split_comment(raw);
    if let Some(c) = content.chars().find(|c| c.is_control() && !c.is_whitespace()) {
        return Err(LineProblem::Control(c));
    }
    let mut words = content.split_whitespace();
    let Some(first) = words.next() else { return Ok(None) };
    let (negated, text) = match first.strip_prefix('-') {
        Some(atom) => (true, atom),
        None => (false, first),
    };
    let atom: Atom = text.parse()?;
    let text = || text.to_owned();
    if negated && !kind.is_mask() {
        return Err(LineProblem::Negated(text()));
    }
    if !atom.use_dependencies.is_empty() && !kind.takes_use_dependencies() {
        return Err(LineProblem::UseDependencies(text(), kind.file_name()));
    }
    if atom.build_id.is_some() && kind == LineFile::License {
        return Err(LineProblem::BuildId(text(), kind.file_name()));
    }
    let words: Vec<String> = if kind == LineFile::Use { use_flags::written_out(words) } else { words.map(str::to_owned).collect() };
    if kind.is_mask() {
        if let Some(word) = words.first() {
            return Err(LineProblem::Words(text(), word.clone()));
        }
    } else if words.is_empty() && !matches!(kind, LineFile::AcceptKeywords | LineFile::Keywords) {
        return Err(LineProblem::NoWords(text()));
    }
    if kind == LineFile::Use
        && let Some(word) = words.iter().find(|word| !Switch::parse(word).is_flag())
    {
        return Err(LineProblem::Flag(word.clone()));
    }
    Ok(Some(Line { atom, negated, words, overrides: comment.is_some_and(is_override), line }))
}

/// Splits a line at the first word that begins with `#`; the comment is without it.
pub(crate) fn split_comment(line: &str) -> (&str, Option<&str>) {
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        if c == '#' && before.is_whitespace() {
            return (&line[..at], Some(&line[at + 1..]));
        }
        before = c;
    }
    (line, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lines_of_each_kind() {
        let (lines, errors) = parse(
            LineFile::Use,
            "# comment\n\n*/* X -gtk VIDEO_CARDS: amdgpu -nouveau # override\r\n  >=a/b-1:0::gentoo foo@bar\t# no\n",
        );
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(lines[0].words, ["X", "-gtk", "video_cards_amdgpu", "-video_cards_nouveau"]);
        assert!(lines[0].overrides && !lines[1].overrides);
        assert_eq!((lines[0].line, lines[1].line), (3, 4));
        assert_eq!(lines[1].words, ["foo@bar"]);

        let (lines, errors) = parse(LineFile::Mask, "a/b\n-c/d\n");
        assert!(errors.is_empty());
        assert!(!lines[0].negated && lines[1].negated);

        let (lines, _) = parse(LineFile::AcceptKeywords, "a/b\nc/d ** \n");
        assert_eq!((lines[0].words.len(), lines[1].words.len()), (0, 1));
    }

    #[test]
    fn finds_every_mistake() {
        let (lines, errors) = parse(LineFile::Use, "hello x\na/b\n-a/b x\na/b ok\n");
        assert_eq!(lines.len(), 1);
        let messages: Vec<String> = errors.iter().map(|e| format!("{}: {e}", e.line)).collect();
        assert_eq!(
            messages,
            [
                "1: `hello` has no category",
                "2: there is nothing after `a/b`",
                "3: `-a/b`: only `package.mask` and `package.unmask` can take an atom back",
            ]
        );
        for (kind, line, message) in [
            (LineFile::Unmask, "a/b c/d", "`c/d` comes after `a/b`, but a line of this file holds one atom"),
            (LineFile::Use, "a/b VIDEO_CARDS:", "there is nothing after `a/b`"),
            (LineFile::Use, "a/b +x", "`+x` is no USE flag"),
            (LineFile::Use, "a/b x \\", "`\\` is no USE flag"),
            (LineFile::Use, "a/b[x] y", "`a/b[x]`: atoms in `package.use` cannot have USE dependencies"),
            (LineFile::License, "=a/b-1-2 MIT", "`=a/b-1-2`: atoms in `package.license` cannot have a build number"),
            (LineFile::Env, "a/b x\u{1b}[0m", "the line has the control character `\\u{1b}`"),
        ] {
            assert_eq!(parse(kind, line).1[0].to_string(), message);
        }
    }
}
