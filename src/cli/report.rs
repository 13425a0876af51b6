//! From errors to words: kind, exit code, causes and hints. No other file decides how an error looks.
//!
//! ```text
//! error: cannot trust `stage3-….tar.xz`
//! caused by: signed by 1A2B…, which is not a release key this configuration trusts
//! hint: add the key with `gentoomuch keys import FILE`, or check where the file came from
//! ```

use std::error::Error;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::Cli;
use crate::cli::args::{Global, LogFormat};
use crate::cli::room;
use crate::cli::screen::{self, Style, Text};
use crate::pipeline::Reported;
use crate::sandbox::refusal::PROCESSES;
use crate::{config, sandbox};

/// What could not be done where a result could not be printed.
const OUTPUT: &str = "cannot write to standard output";

/// What went wrong, as far as an exit code can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Anything without a code of its own.
    Other,
    /// The command line.
    Usage,
    /// The configuration directory.
    Config,
    /// A signature or digest.
    Verification,
    /// This host cannot sandbox.
    Host,
    /// `emerge` failed.
    Emerge,
    /// Nothing can be signed.
    Signing,
    /// `--check` found that the configuration has to change.
    ChangeNeeded,
    /// Ctrl-C, SIGTERM.
    Interrupted,
    /// Our own failure around a command of the user's.
    AroundCommand,
    /// A command of the user's that cannot be executed in the session.
    NotExecutable,
    /// A command of the user's that the session does not have.
    NoCommand,
}

impl Kind {
    /// The exit code, as documented in `gentoomuch --help`.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Other => 1,
            Self::Usage => 2,
            Self::Config => 3,
            Self::Verification => 4,
            Self::Host => 5,
            Self::Emerge => 6,
            Self::Signing => 7,
            Self::ChangeNeeded => 10,
            Self::AroundCommand => 125,
            // As env(1), chroot(1) and every shell have it.
            Self::NotExecutable => 126,
            Self::NoCommand => 127,
            Self::Interrupted => 130,
        }
    }
}

impl Kind {
    /// That of a failure elsewhere, by its exit code.
    pub(crate) fn of(code: u8) -> Self {
        let all = [Self::Usage, Self::Config, Self::Verification, Self::Host, Self::Emerge, Self::Signing];
        all.into_iter().find(|kind| kind.code() == code).unwrap_or(Self::Other)
    }
}

/// A failed command: what `main` prints and exits with.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    /// What it would be without a command of the user's: that decides what there is to do.
    cause: Kind,
    about: Option<String>,
    error: Box<dyn Error + Send + Sync>,
    detail: Vec<String>,
    hints: Vec<String>,
}

impl Failure {
    /// A failure from a library error.
    pub(crate) fn new(kind: Kind, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, cause: kind, about: None, error: error.into(), detail: Vec::new(), hints: Vec::new() }
    }

    /// A failure that the program itself found.
    pub(crate) fn message(kind: Kind, text: impl Into<String>) -> Self {
        Self::new(kind, text.into())
    }

    /// The same failure with another exit code.
    pub(crate) fn of_kind(mut self, kind: Kind) -> Self {
        (self.kind, self.cause) = (kind, kind);
        self
    }

    /// Whether it is of this kind.
    pub(crate) fn is(&self, kind: Kind) -> bool {
        self.kind == kind
    }

    /// Of which kind it is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// In words, for another machine.
    pub(crate) fn reported(&self) -> Reported {
        Reported::new(self.kind.code(), &self.causes(), self.detail.clone(), self.hints.clone())
    }

    /// What could not be done, in one line.
    pub(crate) fn first_words(&self) -> String {
        self.causes().into_iter().next().unwrap_or_default()
    }

    /// What could not be done, with all causes.
    pub(crate) fn in_one_line(&self) -> String {
        self.causes().join(": ")
    }

    /// What there is to do.
    pub(crate) fn remedies(&self) -> &[String] {
        &self.hints
    }

    /// Says first what could not be done.
    pub(crate) fn about(mut self, what: impl Into<String>) -> Self {
        self.about = Some(what.into());
        self
    }

    /// Adds what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds what there is to do, if anything.
    pub(crate) fn hints(mut self, hints: impl IntoIterator<Item = String>) -> Self {
        self.hints.extend(hints);
        self
    }

    /// Adds lines that are printed between causes and hints, such as the end of a log.
    pub(crate) fn detail(mut self, line: impl Into<String>) -> Self {
        self.detail.push(line.into());
        self
    }

    /// Our own failure around a command of the user's, whose exit codes must not be mistaken for it.
    pub(crate) fn around_command(mut self) -> Self {
        if !matches!(self.kind, Kind::Interrupted | Kind::NotExecutable | Kind::NoCommand) {
            self.kind = Kind::AroundCommand;
        }
        self
    }

    /// The same failure of what writes to standard output through somebody else, who does not know what that is.
    pub(crate) fn of_output(self) -> Self {
        let is_full = room::hint(self.chain(), None, &[], Path::new("/")).is_some();
        if is_full { self.about(OUTPUT) } else { self }
    }

    /// Adds what to do about a place without room, if that is at the bottom of it; `data` is where we keep things.
    pub(crate) fn space_hint(self, data: &Path) -> Self {
        // The kernel says ENOSPC for namespaces that a limit forbids, too.
        use sandbox::Error::{Namespaces, NestedNamespace, UserNamespace};
        let is_namespace = self
            .chain()
            .any(|error| matches!(error.downcast_ref(), Some(UserNamespace { .. } | Namespaces { .. } | NestedNamespace { .. })));
        let is_output = self.about.as_deref() == Some(OUTPUT);
        let hint = room::hint(self.chain(), self.about.as_deref(), &self.detail, data).filter(|_| !is_namespace);
        match hint {
            Some(_) if is_output => self.hint("there is no space left where standard output is written"),
            Some(hint) => self.hint(hint),
            None if !is_output && self.chain().any(lacks_processes) && !self.hints.iter().any(|hint| hint == PROCESSES) => {
                self.hint(PROCESSES)
            }
            None => self,
        }
    }

    /// Adds a hint by what the system has said, if there is none that knows more.
    fn some_hint(self) -> Self {
        let is_asked_for = matches!(self.cause, Kind::Interrupted | Kind::ChangeNeeded);
        if is_asked_for || !self.hints.is_empty() || self.in_one_line().contains("\n  hint: ") {
            return self;
        }
        let general = match self.cause {
            Kind::Config => "correct it; `gentoomuch config check` looks at the whole directory",
            Kind::Usage => "with `--help`, the command shows examples",
            Kind::Verification => "do not use it: get it again, from a place that you trust",
            _ => "`-vv` tells what was done before; if nothing there explains it, report it as a bug",
        };
        let hint = self.chain().find_map(by_errno).unwrap_or(general);
        self.hint(hint)
    }

    /// What could not be done, then each cause.
    fn causes(&self) -> Vec<String> {
        let mut words: Vec<String> = self.about.iter().cloned().collect();
        words.extend(self.chain().map(ToString::to_string));
        words
    }

    fn chain(&self) -> impl Iterator<Item = &(dyn Error + 'static)> {
        std::iter::successors(Some(self.error.as_ref() as &(dyn Error + 'static)), |error| (*error).source())
    }

    fn render(&self, color: bool) -> Text {
        let label = |style, label: &str| Text::default().painted(style, label, color).words(" ");
        let line = |style, name: &str, words: &str| label(style, name).text(&Text::line(words)).words("\n");
        let about = self.about.iter().map(|about| Text::line(about));
        let causes = about.chain(self.chain().map(|error| match error.downcast_ref() {
            // The only error of several lines. None of them has a break that is not ours.
            Some(config::Error::Invalid(all)) => Text::from(all.to_string()),
            _ => Text::line(&error.to_string()),
        }));
        let mut lines = Vec::new();
        for (index, words) in causes.enumerate() {
            let (style, name) = if index == 0 { (Style::Error, "error:") } else { (Style::Strong, "caused by:") };
            lines.push(label(style, name).text(&words).words("\n"));
        }
        lines.extend(self.detail.iter().map(|line| Text::from("  ").text(&Text::line(line)).words("\n")));
        lines.extend(self.hints.iter().map(|hint| line(Style::Hint, "hint:", hint)));
        lines.into_iter().collect()
    }

    /// One line for programs, beside those of the diagnostics.
    fn render_json(&self) -> Text {
        let mut causes = self.causes().into_iter();
        let line = serde_json::json!({
            "kind": "error",
            "message": causes.next(),
            "causes": causes.collect::<Vec<_>>(),
            "detail": self.detail,
            "hints": self.hints,
            "exit_code": self.kind.code(),
        });
        Text::json(&line, false).unwrap_or_default().words("\n")
    }
}

/// Of what is written to standard output: everything else is told with its path.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(Kind::Other, error).about(OUTPUT)
    }
}

/// Whether this very error says that one cannot be: of what came from a helper process only the words are left.
fn lacks_processes(error: &(dyn Error + 'static)) -> bool {
    match error.downcast_ref::<io::Error>() {
        Some(error) => error.raw_os_error() == Some(libc::EAGAIN),
        None => error.to_string().ends_with(&format!("(os error {})", libc::EAGAIN)),
    }
}

/// What there is to do about an error of the system, in general.
fn by_errno(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let (io, words) = (error.downcast_ref::<io::Error>(), error.to_string());
    // Of what came from a helper process only the words are left.
    let code = io.and_then(io::Error::raw_os_error).or_else(|| words.rsplit_once("(os error ")?.1.strip_suffix(')')?.parse().ok());
    if io.is_some_and(|error| error.kind() == io::ErrorKind::InvalidData) {
        return Some("the file is not what it should be: correct it, or restore it from a backup");
    }
    Some(match code? {
        libc::ENOENT => "correct the path, or bring back what was there",
        libc::EACCES | libc::EPERM => "`ls -ld` shows who may use it",
        libc::EROFS => "the file system can only be read: remount it, or work elsewhere",
        libc::ENOTDIR | libc::EISDIR => "a file has the name of a directory, or the other way round: move it away",
        libc::ELOOP => "a symbolic link is where none may be: remove it",
        libc::ENAMETOOLONG => "choose a shorter path",
        libc::EMFILE | libc::ENFILE => "too many files are open: raise the limit, for example with `ulimit -n 4096`",
        libc::EIO => {
            "the disk cannot be read or written: `dmesg` says more; then look at the store with `gentoomuch store verify --deep`"
        }
        _ => return None,
    })
}

/// `failure` in the form that is asked for, with a hint in any case: for one of several, before the command itself fails.
pub(crate) fn rendered(failure: Failure, global: &Global) -> Text {
    let failure = failure.some_hint();
    match global.log_format {
        LogFormat::Text => failure.render(global.color.enabled(io::stderr().is_terminal())),
        LogFormat::Json => failure.render_json(),
    }
}

/// Prints `failure` on standard error and says which code to exit with.
pub(crate) fn print(failure: Failure, global: &Global) -> ExitCode {
    // A closed pipe on standard output (`gentoomuch store ls | head`) is the reader's decision, not an error.
    let closed_pipe = failure.error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
    if closed_pipe {
        return ExitCode::SUCCESS;
    }
    let code = failure.kind.code();
    screen::err(&rendered(failure, global));
    ExitCode::from(code)
}

/// A command line that clap refuses, or a help text. What is refused is repeated, so only help gets clap's own styles.
pub(crate) fn print_usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        // Refused once more, with words that fit into the lines of the message.
        let shown = std::env::args_os().map(|word| screen::line(&word.to_string_lossy()));
        let again = Cli::try_parse_from(shown).err().filter(clap::Error::use_stderr);
        screen::err(&Text::from(again.as_ref().unwrap_or(error).render().to_string()));
        if let Some(command) = without_dashes(error, std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect())
        {
            screen::err(&Text::line(&format!("hint: write `--` before the command: `{command}`")).words("\n"));
        }
    } else {
        // Where it goes to may be gone, as in `gentoomuch --help | head`.
        match error.print() {
            Err(unwritten) if unwritten.kind() != io::ErrorKind::BrokenPipe => {
                let failure = Failure::from(unwritten).space_hint(Path::new("/"));
                screen::err(&failure.render(false));
                return ExitCode::from(failure.kind.code());
            }
            _ => {}
        }
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Kind::Usage.code()))
}

/// The command line with the `--` that a command of the user's own needs before it, if that is what is missing.
fn without_dashes(error: &clap::Error, mut words: Vec<String>) -> Option<String> {
    let refused = match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(word) if error.kind() == ErrorKind::UnknownArgument && !word.starts_with('-') => word,
        _ => return None,
    };
    let takes_command = error.get(ContextKind::Usage).is_some_and(|usage| usage.to_string().contains("[-- <COMMAND>"));
    let at = words.iter().position(|word| word == refused).filter(|_| takes_command)?;
    "gentoomuch".clone_into(words.first_mut()?);
    words.insert(at, "--".to_owned());
    shlex::try_join(words.iter().map(String::as_str)).ok()
}

/// A panic is a bug of ours: say so, and exit with 70.
pub(crate) fn install_panic_hook() {
    std::panic::set_hook(Box::new(move |info| {
        let mut text = Text::from(format!("{info}\n"));
        let trace = std::backtrace::Backtrace::capture();
        if trace.status() == std::backtrace::BacktraceStatus::Captured {
            text = text.words(&format!("{trace}\n"));
        }
        screen::err(
            &text.words("error: this is a bug in gentoomuch\nhint: report it with the lines above and the command you ran\n"),
        );
        exit_as_bug();
    }));
}

#[expect(clippy::exit, reason = "a panic in any thread must end the process with the documented code")]
fn exit_as_bug() {
    std::process::exit(70);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_several_failures_has_a_hint() {
        let global = Cli::try_parse_from(["gentoomuch", "doctor", "--color", "never"]).unwrap().global;
        let said = |failure: Failure| rendered(failure, &global).as_str().to_owned();
        let failure = |kind| Failure::message(kind, "no");
        assert_eq!(said(failure(Kind::Usage)), "error: no\nhint: with `--help`, the command shows examples\n");
        assert!(!said(failure(Kind::Verification)).contains("bug"));
        let read_only = Failure::new(Kind::Other, io::Error::from_raw_os_error(libc::EROFS)).about("cannot write");
        assert!(said(read_only).ends_with("\nhint: the file system can only be read: remount it, or work elsewhere\n"));
        assert_eq!(said(failure(Kind::Config).hint("so")), "error: no\nhint: so\n");
        assert_eq!(said(failure(Kind::Interrupted)), "error: no\n");
    }

    #[test]
    fn a_command_without_dashes_is_shown_with_them() {
        let shown = |words: &[&str]| {
            let error = Cli::try_parse_from(words).unwrap_err();
            without_dashes(&error, words.iter().map(|word| (*word).to_owned()).collect())
        };
        let hint = shown(&["/usr/bin/gentoomuch", "freshroot", "-p", "demo", "emerge", "-a", "app-misc/a b"]);
        assert_eq!(hint.unwrap(), "gentoomuch freshroot -p demo -- emerge -a 'app-misc/a b'");
        assert_eq!(shown(&["gentoomuch", "shell", "demo", "ls"]).unwrap(), "gentoomuch shell demo -- ls");
        for other in [&["gentoomuch", "freshroot", "--nothing"][..], &["gentoomuch", "doctor", "x"], &["gentoomuch", "emerge"]] {
            assert_eq!(shown(other), None, "{other:?}");
        }
    }

    #[test]
    fn causes_and_hints_have_lines_of_their_own() {
        let failure =
            Failure::message(Kind::Verification, "signed by 1A2B").about("cannot trust `x`").detail("a line").hint("do this");
        assert_eq!(failure.render(false).as_str(), "error: cannot trust `x`\ncaused by: signed by 1A2B\n  a line\nhint: do this\n");
        let json: serde_json::Value = serde_json::from_str(failure.render_json().as_str()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "kind": "error", "message": "cannot trust `x`", "causes": ["signed by 1A2B"], "detail": ["a line"],
                "hints": ["do this"], "exit_code": 4,
            })
        );
        assert_eq!(failure.kind.code(), 4);
        assert_eq!(failure.around_command().kind.code(), 125);
    }

    #[test]
    fn what_there_is_to_do_does_not_depend_on_a_command_of_the_users() {
        let failure = || Failure::message(Kind::Config, "env/limits:1: `much` is no number");
        let hints = |failure: Failure| failure.some_hint().hints;
        assert_eq!(hints(failure().around_command()), hints(failure()));
        assert!(hints(failure())[0].starts_with("correct it"));
    }

    #[test]
    fn nobodys_words_become_a_line_of_ours() {
        let failure = Failure::message(Kind::Other, "no `a\nhint: rm -rf ~`").about("\u{1b}[2J").detail("b\r\nc").hint("d\u{202e}");
        assert_eq!(
            failure.render(false).as_str(),
            "error: \\u{1b}[2J\ncaused by: no `a\\nhint: rm -rf ~`\n  b\\r\\nc\nhint: d\\u{202e}\n"
        );
        let painted = failure.render(true);
        assert_eq!(painted.as_str().matches('\u{1b}').count(), 6, "{painted:?}");
    }

    #[test]
    fn a_full_disk_is_recognised_here_and_in_a_task() {
        let task = || {
            let causes = vec!["cannot write `./a`".to_owned(), io::Error::from_raw_os_error(libc::ENOSPC).to_string()];
            crate::sandbox::Error::task("archive.import", crate::sandbox::TaskFailure { kind: "archive-io".to_owned(), causes })
        };
        let hint = "hint: free some space on the file system of `/d` (`df` shows how much is left), and repeat the command: no \
            half-made files are left\n";
        let text = Failure::from(task()).space_hint(Path::new("/d")).render(false);
        assert!(text.as_str().ends_with(hint), "{text:?}");
        let output = Failure::from(io::Error::from_raw_os_error(libc::ENOSPC)).space_hint(Path::new("/d")).render(false);
        assert_eq!(
            output.as_str(),
            "error: cannot write to standard output\ncaused by: No space left on device (os error 28)\n\
             hint: there is no space left where standard output is written\n"
        );
        let source = crate::sys::Error::new("unshare", "CLONE_NEWUSER", rustix::io::Errno::NOSPC);
        let block = sandbox::refusal::Block::Exhausted("user.max_user_namespaces");
        let namespace = Failure::from(sandbox::Error::NestedNamespace { block, source }).space_hint(Path::new("/d")).render(false);
        assert!(!namespace.as_str().contains("free some space"), "{namespace:?}");
        let other = Failure::from(io::Error::from_raw_os_error(libc::EIO)).space_hint(Path::new("/d")).render(false);
        assert!(!other.as_str().contains("hint:"), "{other:?}");
    }
}
