//! Places in the configuration directory, and diagnostics about them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::{fmt, io};

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::terminal_text::visible_line;

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Located<T> {
    pub value: T,
    /// File, relative to the configuration directory. Shared by all values of the file.
    pub file: Arc<Path>,
    /// Line, from 1.
    pub line: u32,
}

impl<T> Located<T> {
    /// Where it was written.
    pub fn place(&self) -> Place {
        Place { file: self.file.clone(), line: self.line }
    }

    /// The same place with another value.
    pub fn with<U>(&self, value: U) -> Located<U> {
        Located { value, file: self.file.clone(), line: self.line }
    }
}

/// A line of a file of the configuration directory. Prints as `file:line`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Place {
    /// File, relative to the configuration directory. Shared by all places in the file.
    pub file: Arc<Path>,
    /// Line, from 1; 0 means the file as a whole.
    pub line: u32,
}

impl Place {
    /// `line` of `file`.
    pub fn new(file: &Path, line: u32) -> Self {
        Self { file: file.into(), line }
    }

    /// `line` of `file`; shares the path.
    pub(crate) fn of(file: &Arc<Path>, line: u32) -> Self {
        Self { file: Arc::clone(file), line }
    }

    /// `file` as a whole.
    pub fn whole(file: &Path) -> Self {
        Self::new(file, 0)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line == 0 { Ok(()) } else { write!(f, ":{}", self.line) }
    }
}

/// Severity of a diagnostic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is built from this configuration.
    Error,
    /// It works, but should be written otherwise.
    Warning,
    /// It has no effect.
    Note,
}

/// A message about a place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Diagnostic {
    /// Absolute path of the file.
    pub file: PathBuf,
    /// Line, from 1; 0 means the file as a whole.
    pub line: u32,
    /// The severity.
    pub severity: Severity,
    /// The message: lower case, no full stop, objects in backticks. Other places are relative to the configuration directory.
    pub message: String,
    /// What the user can do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A name may contain line breaks. Each diagnostic stays one line, so that a list of them can be read.
        write!(f, "{}:", visible_line(&self.file.display().to_string()))?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        match self.severity {
            Severity::Error => {}
            Severity::Warning => f.write_str(" warning:")?,
            Severity::Note => f.write_str(" note:")?,
        }
        write!(f, " {}", visible_line(&self.message))?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {}", visible_line(hint))?;
        }
        Ok(())
    }
}

/// Several diagnostics, sorted by file and line, one after the other when printed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// All of them, sorted by file and line.
    pub fn as_slice(&self) -> &[Diagnostic] {
        &self.0
    }
}

impl From<Vec<Diagnostic>> for Diagnostics {
    fn from(mut all: Vec<Diagnostic>) -> Self {
        all.sort();
        all.dedup();
        Self(all)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

/// Collects diagnostics while reading goes on.
#[derive(Debug)]
pub(crate) struct Findings<'a> {
    root: &'a Path,
    /// The root without links, once it was needed.
    real_root: OnceLock<PathBuf>,
    all: Vec<Diagnostic>,
}

impl<'a> Findings<'a> {
    pub(crate) fn new(root: &'a Path) -> Self {
        Self { root, real_root: OnceLock::new(), all: Vec::new() }
    }

    /// The configuration directory with links resolved.
    pub(crate) fn real_root(&self) -> io::Result<&Path> {
        if let Some(real) = self.real_root.get() {
            return Ok(real);
        }
        let real = self.root.canonicalize()?;
        Ok(self.real_root.get_or_init(|| real))
    }

    /// Runs a function on each of `items` in parallel. Findings keep the order of the items.
    pub(crate) fn each<T: Send, R: Send>(&mut self, items: Vec<T>, work: impl Fn(&mut Findings<'_>, T) -> R + Sync) -> Vec<R> {
        let (root, real_root) = (self.root, &self.real_root);
        let with_own = |item| {
            let mut own = Findings { root, real_root: real_root.clone(), all: Vec::new() };
            let result = work(&mut own, item);
            (result, own.all)
        };
        let done: Vec<(R, Vec<Diagnostic>)> = items.into_par_iter().map(with_own).collect();
        done.into_iter()
            .map(|(result, mut found)| {
                self.all.append(&mut found);
                result
            })
            .collect()
    }

    pub(crate) fn root(&self) -> &'a Path {
        self.root
    }

    fn push(&mut self, severity: Severity, place: &Place, message: String, hint: Option<String>) {
        self.all.push(Diagnostic { file: self.root.join(&place.file), line: place.line, severity, message, hint });
    }

    pub(crate) fn error(&mut self, place: &Place, message: impl Into<String>) {
        self.push(Severity::Error, place, message.into(), None);
    }

    pub(crate) fn error_with_hint(&mut self, place: &Place, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Severity::Error, place, message.into(), Some(hint.into()));
    }

    pub(crate) fn warning(&mut self, place: &Place, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Severity::Warning, place, message.into(), Some(hint.into()));
    }

    pub(crate) fn note(&mut self, place: &Place, message: impl Into<String>) {
        self.push(Severity::Note, place, message.into(), None);
    }

    pub(crate) fn note_with_hint(&mut self, place: &Place, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Severity::Note, place, message.into(), Some(hint.into()));
    }

    /// All diagnostics, sorted.
    pub(crate) fn into_all(self) -> Vec<Diagnostic> {
        let mut all = self.all;
        all.sort();
        all.dedup();
        all
    }

    /// `value` with the warnings and notes; an error if there is one.
    pub(crate) fn finish<T>(self, value: T) -> Result<(T, Vec<Diagnostic>), super::Error> {
        let all = self.into_all();
        if all.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
            Err(super::Error::Invalid(all.into()))
        } else {
            Ok((value, all))
        }
    }
}
