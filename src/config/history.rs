//! Who said what: every word, value and line of the fragments in order, including those that a later one undid.
//!
//! ```text
//! portage.global/make.conf:1      USE="X nls"               touches of `USE`:  X (replaced), nls (cleared)
//! portage.locals/tty/make.conf:4  USE="-X" # override                          -X
//! portage.locals/min/make.conf:2  USE="-* ssl" # override                      -*, ssl
//! ```
//!
//! Merging keeps only the result; this keeps the steps, to explain it.

use std::fmt;
use std::path::{Path, PathBuf};

use super::diagnostic::Place;
use crate::portage::make_conf::Piece;
use crate::portage::use_flags::Switch;

/// A line's statement about a variable or an atom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A word of a list: on, off, or everything before cleared.
    Switch(Switch),
    /// The whole value, references to other variables as `${NAME}`.
    Value(Box<str>),
    /// A whole value that a later assignment of the same fragment replaced, as in a single file.
    Replaced(Box<str>),
    /// The atom, with nothing after it.
    Listed,
    /// `-atom` in `package.mask` and `package.unmask`.
    TakenBack,
}

impl fmt::Display for Said {
    /// As written; `listed` for a line with nothing but its atom.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(switch) => switch.fmt(f),
            Self::Value(text) | Self::Replaced(text) => f.write_str(text),
            Self::Listed => f.write_str("listed"),
            Self::TakenBack => f.write_str("taken back"),
        }
    }
}

/// A statement and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// Which fragment, as a number of [`Fragments`].
    pub(crate) fragment: usize,
    pub place: Place,
    pub said: Said,
    /// Whether it ends with `# override`.
    pub overrides: bool,
}

impl Touch {
    /// Whether it affects the entry `name` of a list: sets it, or clears it together with others.
    pub fn concerns(&self, name: &str) -> bool {
        match &self.said {
            Said::Switch(Switch::Clear(prefix)) => name.starts_with(prefix.as_str()),
            Said::Switch(switch) => switch.name() == name,
            Said::Value(_) | Said::Replaced(_) | Said::Listed | Said::TakenBack => false,
        }
    }
}

/// The fragments of a merge, in order, as directories relative to the configuration directory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fragments(Vec<PathBuf>);

impl Fragments {
    /// Adds the next one and returns its number.
    pub(crate) fn push(&mut self, dir: PathBuf) -> usize {
        self.0.push(dir);
        self.0.len() - 1
    }

    /// The directory of the fragment that said `touch`.
    pub(crate) fn of(&self, touch: &Touch) -> &Path {
        self.0.get(touch.fragment).map_or(Path::new(""), PathBuf::as_path)
    }

    pub(crate) fn as_slice(&self) -> &[PathBuf] {
        &self.0
    }
}

/// A value as written, without its quotes.
pub(crate) fn written(parts: &[Part]) -> Box<str> {
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Text(part, _) => text.push_str(part),
            Part::Reference(name, _) | Part::Earlier(name, _) => {
                text.push_str("${");
                text.push_str(name);
                text.push('}');
            }
        }
    }
    text.into()
}

/// Part of a value, with the line that it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Text(String, Place),
    /// The merged value of another variable.
    Reference(String, Place),
    /// The value that earlier fragments gave to a variable which this fragment sets later, or in the same assignment.
    Earlier(String, Place),
}

impl Part {
    /// The same as a piece of a `make.conf`.
    pub(crate) fn piece(&self) -> Piece {
        match self {
            Self::Text(text, place) => Piece::Text { text: text.clone(), line: place.line },
            Self::Reference(name, place) | Self::Earlier(name, place) => Piece::Reference { name: name.clone(), line: place.line },
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Text(text, _) | Self::Reference(text, _) | Self::Earlier(text, _) => text.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PortageDir;
    use crate::config::tests::merged;
    use crate::portage::package_files::LineFile;

    const BASE: (&str, &str) = ("stage3.defines/base/portage.local", "one\ntwo\n");

    fn told(dir: &PortageDir, touches: &[Touch]) -> Vec<String> {
        touches
            .iter()
            .map(|touch| {
                let said = match &touch.said {
                    Said::Value(text) => format!("= {text}"),
                    Said::Replaced(text) => format!("(replaced) {text}"),
                    said => said.to_string(),
                };
                let mark = if touch.overrides { " !" } else { "" };
                format!("{} {} {said}{mark}", dir.fragment_of(touch).display(), touch.place)
            })
            .collect()
    }

    #[test]
    fn nothing_that_was_said_is_forgotten() {
        let dir = merged(&[
            BASE,
            ("portage.global/make.conf", "USE=\"X nls\"\nMAKEOPTS=\"-j1\"\nA=\"1\"\nA=\"${A} 2\"\n"),
            ("portage.locals/one/make.conf", "USE=\"lost\"\nUSE=\"X ssl\"\nsource extra\n"),
            ("portage.locals/one/extra", "MAKEOPTS=\"-j2 ${A}\"\n"),
            ("portage.locals/two/make.conf/10", "USE=\"-* ssl\n -X\" # override\n"),
        ]);
        insta::assert_snapshot!(told(&dir, dir.touches("USE")).join("\n"), @r"
        portage.global portage.global/make.conf:1 X
        portage.global portage.global/make.conf:1 nls
        portage.locals/one portage.locals/one/make.conf:1 (replaced) lost
        portage.locals/one portage.locals/one/make.conf:2 X
        portage.locals/one portage.locals/one/make.conf:2 ssl
        portage.locals/two portage.locals/two/make.conf/10:1 -* !
        portage.locals/two portage.locals/two/make.conf/10:1 ssl !
        portage.locals/two portage.locals/two/make.conf/10:2 -X !
        ");
        insta::assert_snapshot!(told(&dir, dir.touches("MAKEOPTS")).join("\n"), @r"
        portage.global portage.global/make.conf:2 = -j1
        portage.locals/one portage.locals/one/extra:1 = -j2 ${A}
        ");
        insta::assert_snapshot!(told(&dir, dir.touches("A")).join("\n"), @r"portage.global portage.global/make.conf:4 = 1 2");
        assert_eq!(dir.fragments(), ["portage.global", "portage.locals/one", "portage.locals/two"].map(Path::new));
        let nls = dir.touches("USE").iter().filter(|touch| touch.concerns("nls")).count();
        assert_eq!(nls, 2, "switched on, then cleared");
        assert_eq!(dir.written("MAKEOPTS").as_deref(), Some("-j2 ${A}"));
        assert!(dir.list("MAKEOPTS").is_none() && dir.touches("NOTHING").is_empty());
    }

    #[test]
    fn lines_of_an_atom_have_a_history() {
        let dir = merged(&[
            BASE,
            ("portage.locals/one/package.use/a", "a/b x y\na/b y\n"),
            ("portage.locals/two/package.use", "a/b -x # override\n"),
            ("portage.locals/one/package.mask", "a/b\nc/d\n"),
            ("portage.locals/two/package.unmask", "a/b # override\n"),
            ("portage.locals/two/package.mask", "-c/d # override\n"),
            ("portage.locals/one/bashrc", "true\n"),
            ("portage.locals/two/bashrc", "true\n"),
        ]);
        let entry = dir.entries(LineFile::Use).next().unwrap();
        let words: Vec<String> = entry.words().map(|word| format!("{} {}", word.switch, word.places.len())).collect();
        assert_eq!(words, ["y 2", "-x 1"]);
        insta::assert_snapshot!(told(&dir, entry.history).join("\n"), @r"
        portage.locals/one portage.locals/one/package.use/a:1 x
        portage.locals/one portage.locals/one/package.use/a:1 y
        portage.locals/one portage.locals/one/package.use/a:2 y
        portage.locals/two portage.locals/two/package.use:1 -x !
        ");
        let masks: Vec<String> = dir.entries(LineFile::Mask).flat_map(|entry| told(&dir, entry.history)).collect();
        insta::assert_snapshot!(masks.join("\n"), @r"
        portage.locals/one portage.locals/one/package.mask:2 listed
        portage.locals/two portage.locals/two/package.mask:1 taken back !
        ");
        assert_eq!(dir.sources(Path::new("bashrc")), ["portage.locals/one/bashrc", "portage.locals/two/bashrc"].map(Path::new));
    }
}
