//! What is wrong with a configuration directory, for people, programs, and the annotations of a workflow run.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::config::{Diagnostic, Severity};
use serde::Serialize;

use crate::cli::screen::Shown as _;
use crate::cli::screen::{Style, Text};
use crate::cli::table::count;

/// Everything that was found; as JSON, this is what `--json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Report {
    /// The configuration directory.
    directory: PathBuf,
    pub(crate) errors: usize,
    pub(crate) warnings: usize,
    notes: usize,
    findings: Vec<Finding>,
}

/// One thing to say about one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Finding {
    severity: Severity,
    /// Relative to the configuration directory; `.` for all of it.
    file: PathBuf,
    /// From 1; none for the file as a whole.
    line: Option<u32>,
    message: String,
    hint: Option<String>,
}

impl Report {
    /// Errors first, then warnings, then notes; each sorted by file and line, as `all` is.
    pub(crate) fn new(directory: &Path, all: &[Diagnostic]) -> Self {
        let of = |severity: Severity| {
            all.iter().filter(move |diagnostic| diagnostic.severity == severity).map(move |diagnostic| Finding {
                severity,
                file: relative(&diagnostic.file, directory),
                line: (diagnostic.line > 0).then_some(diagnostic.line),
                message: diagnostic.message.clone(),
                hint: diagnostic.hint.clone(),
            })
        };
        let (errors, warnings, notes) = (of(Severity::Error).count(), of(Severity::Warning).count(), of(Severity::Note).count());
        let findings = of(Severity::Error).chain(of(Severity::Warning)).chain(of(Severity::Note)).collect();
        Self { directory: directory.to_owned(), errors, warnings, notes, findings }
    }

    fn summary(&self) -> String {
        let words = [(self.errors, "error"), (self.warnings, "warning"), (self.notes, "note")];
        words.map(|(number, what)| count(number as u64, what)).join(", ")
    }
}

fn relative(file: &Path, directory: &Path) -> PathBuf {
    if file == directory { PathBuf::from(".") } else { file.strip_prefix(directory).unwrap_or(file).to_owned() }
}

fn label(severity: Severity) -> (&'static str, Style) {
    match severity {
        Severity::Error => ("error", Style::Error),
        Severity::Warning => ("warning", Style::Warning),
        Severity::Note => ("note", Style::Strong),
    }
}

/// `FILE:LINE: error: …` as compilers have it; paths as one would open them from `cwd`.
pub(crate) fn text(report: &Report, cwd: &Path, color: bool) -> Text {
    let mut out = Text::default();
    let mut before = None;
    for finding in &report.findings {
        if before.is_some_and(|before| before != finding.severity) {
            out = out.words("\n");
        }
        before = Some(finding.severity);
        // Without the `.` that stands for the directory itself.
        let path: PathBuf = report.directory.join(&finding.file).components().collect();
        let path = path.strip_prefix(cwd).ok().filter(|path| !path.as_os_str().is_empty()).unwrap_or(&path);
        let (word, style) = label(finding.severity);
        let line = finding.line.map(|line| format!(":{line}")).unwrap_or_default();
        let place = Text::line(&format!("{}{line}: ", path.shown()));
        out =
            out.text(&place).painted(style, &format!("{word}:"), color).words(" ").text(&Text::line(&finding.message)).words("\n");
        if let Some(hint) = &finding.hint {
            out = out.words("  ").painted(Style::Hint, "hint:", color).words(" ").text(&Text::line(hint)).words("\n");
        }
    }
    if before.is_some() {
        out = out.words("\n");
    }
    out.words(&report.summary()).words("\n")
}

/// Workflow commands of GitHub Actions, which show each finding at its line. Their paths count from the top of the work tree.
///
/// Source: "Workflow commands for GitHub Actions" and `escapeData`, `escapeProperty` of the actions' toolkit.
pub(crate) fn github(report: &Report) -> String {
    let top = top_of_work_tree(&report.directory);
    let mut out = String::new();
    for finding in &report.findings {
        let file: PathBuf = top.join(&finding.file).components().collect();
        let command = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "notice",
        };
        let line = finding.line.map(|line| format!(",line={line}")).unwrap_or_default();
        let hint = finding.hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        let _ = writeln!(
            out,
            "::{command}{}{line}::{}",
            // What is about the whole directory has no file to be shown at.
            if finding.file == Path::new(".") { String::new() } else { format!(" file={}", escaped_property(&file.shown())) },
            escaped(&format!("{}{hint}", finding.message))
        );
    }
    let _ = writeln!(out, "{}", report.summary());
    out
}

fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn escaped_property(text: &str) -> String {
    escaped(text).replace(':', "%3A").replace(',', "%2C")
}

/// Where the directory lies in the git work tree around it; empty where there is none.
fn top_of_work_tree(directory: &Path) -> PathBuf {
    // A link to it would hide the work tree that it lies in.
    let real = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    // `.git` is a file in work trees made by `git worktree` and in submodules.
    let top = real.ancestors().find(|dir| dir.join(".git").exists());
    top.and_then(|top| real.strip_prefix(top).ok()).map(Path::to_owned).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(directory: &Path) -> Report {
        let diagnostic = |file: &str, line, severity, message: &str, hint: Option<&str>| Diagnostic {
            file: directory.join(file),
            line,
            severity,
            message: message.to_owned(),
            hint: hint.map(str::to_owned),
        };
        Report::new(
            directory,
            &[
                diagnostic("a,b", 0, Severity::Warning, "50% of it", None),
                diagnostic("a:b", 3, Severity::Error, "there is no `x`", Some("did you mean `y`?")),
                diagnostic("c", 1, Severity::Note, "without effect", None),
            ],
        )
    }

    #[test]
    fn people_see_errors_first_and_paths_from_where_they_are() {
        let report = report(Path::new("/home/me/config"));
        assert_eq!(
            text(&report, Path::new("/home/me"), false).as_str(),
            "config/a:b:3: error: there is no `x`\n  hint: did you mean `y`?\n\nconfig/a,b: warning: 50% of it\n\nconfig/c:1: note: \
             without effect\n\n1 error, 1 warning, 1 note\n"
        );
        assert!(text(&report, Path::new("/"), true).as_str().starts_with("home/me/config/a:b:3: \x1b[1;31merror:\x1b[0m there"));
        assert!(text(&report, Path::new("/srv"), false).as_str().starts_with("/home/me/config/a:b:3: error: "));
        assert_eq!(text(&Report::new(Path::new("/c"), &[]), Path::new("/"), false).as_str(), "0 errors, 0 warnings, 0 notes\n");
    }

    #[test]
    fn annotations_are_escaped_and_count_from_the_top_of_the_work_tree() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("hosts/config");
        std::fs::create_dir_all(&config).unwrap();
        let alone = "::error file=a%3Ab,line=3::there is no `x`%0Ahint: did you mean `y`?\n::warning file=a%2Cb::50%25 of it\n::notice \
                     file=c,line=1::without effect\n1 error, 1 warning, 1 note\n";
        assert_eq!(github(&report(&config)), alone);
        std::fs::create_dir(dir.path().join(".git")).unwrap();
        let nested = github(&report(&config));
        assert!(nested.starts_with("::error file=hosts/config/a%3Ab,line=3::"), "{nested}");
        // A work tree of `git worktree`, and the directory by another name.
        std::fs::write(config.join(".git"), "gitdir: elsewhere\n").unwrap();
        std::os::unix::fs::symlink(&config, dir.path().join("link")).unwrap();
        assert_eq!(github(&report(&dir.path().join("link"))), alone);
    }

    #[test]
    fn programs_get_severity_file_line_message_and_hint() {
        let json = serde_json::to_value(report(Path::new("/c"))).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "directory": "/c", "errors": 1, "warnings": 1, "notes": 1,
                "findings": [
                    { "severity": "error", "file": "a:b", "line": 3, "message": "there is no `x`", "hint": "did you mean `y`?" },
                    { "severity": "warning", "file": "a,b", "line": null, "message": "50% of it", "hint": null },
                    { "severity": "note", "file": "c", "line": 1, "message": "without effect", "hint": null },
                ],
            })
        );
    }
}
