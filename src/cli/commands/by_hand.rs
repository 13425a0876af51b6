//! A failed build at the terminal: what can be done about it, asked or told. For `shell --failed` and `--on-failure ask`.

use std::io;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use crate::by_hand;
use crate::by_hand::{Deed, SavedEdits};
use crate::config::ConfigDir;
use crate::progress::{Event, Observer as _};
use crate::recipe::failed::FailedBuild;
use crate::sandbox::Exit;
use crate::{pipeline, session};
use clap::ValueEnum;

use crate::cli::ask;
use crate::cli::invocation::Invocation;
use crate::cli::opened::Opened;
use crate::cli::report::{self, Failure};
use crate::cli::screen::Text;
use crate::cli::table::print;

/// What to do when a package does not build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OnFailure {
    /// Ask on the terminal what to do; without one: keep
    Ask,
    /// Keep the session: the next build goes on in it
    Keep,
    /// Remove the session: the next build begins anew, with the packages built so far
    Stop,
}

/// For commands that build one thing.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(super) struct FailureArgs {
    /// What to do if a package does not build [default: ask on a terminal, else keep]
    #[arg(long, value_enum)]
    on_failure: Option<OnFailure>,
}

impl FailureArgs {
    /// Builds until that succeeds, or the user gives up: then with what the command ends.
    pub(super) fn build<T>(
        self,
        json: bool,
        invocation: &Invocation,
        opened: &Opened<'_>,
        mut build: impl FnMut(&ConfigDir) -> Result<T, pipeline::Error>,
    ) -> Result<Result<T, ExitCode>, Failure> {
        loop {
            // Read each time: a patch may have been saved.
            let error = match build(&invocation.config()?) {
                Ok(built) => return Ok(Ok(built)),
                Err(error) => error,
            };
            if let Some(code) = self.after(error, json, invocation, opened)? {
                return Ok(Err(code));
            }
        }
    }

    /// What comes after a failed build: it is built again (`None`), or ends with a code or a failure.
    fn after(
        self,
        mut error: pipeline::Error,
        json: bool,
        invocation: &Invocation,
        opened: &Opened<'_>,
    ) -> Result<Option<ExitCode>, Failure> {
        let asks = crate::sandbox::terminal::is_ours() && io::stderr().is_terminal() && !json;
        let pipeline::Error::Session(session::Error::Emerge { enter, resumable, .. }) = &mut error else {
            return Err(error.into());
        };
        match (self.on_failure.unwrap_or(OnFailure::Ask), enter.clone()) {
            (OnFailure::Ask, Some(what)) if asks => {
                let code = report::print(error.into(), &invocation.global);
                Ok(match ask(&what, invocation, opened)? {
                    Next::Anew => None,
                    Next::GiveUp => Some(code),
                })
            }
            (OnFailure::Stop, Some(what)) => {
                (*enter, *resumable) = (None, false);
                by_hand::remove(&opened.context(None), &what)?;
                Err(error.into())
            }
            _ => Err(error.into()),
        }
    }
}

/// What the user has chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The build goes on: it starts the package anew.
    Anew,
    GiveUp,
}

/// What can be chosen, by its letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Shell,
    Again,
    Patch,
    Anew,
    GiveUp,
}

impl Choice {
    fn of(answer: &str, choices: &[Self]) -> Option<Self> {
        choices.iter().copied().find(|choice| answer.eq_ignore_ascii_case(choice.letter()))
    }

    fn letter(self) -> &'static str {
        match self {
            Self::Shell => "s",
            Self::Again => "t",
            Self::Patch => "p",
            Self::Anew => "a",
            Self::GiveUp => "g",
        }
    }

    fn words(self, phase: &str) -> String {
        match self {
            Self::Shell => "open a shell where it failed".to_owned(),
            Self::Again => format!("try the {phase} phase again by hand"),
            Self::Patch => "save what you changed as a patch, and start the package anew".to_owned(),
            Self::Anew => "start the package anew, from a clean unpack".to_owned(),
            Self::GiveUp => "give up; the next build goes on where this one stopped".to_owned(),
        }
    }
}

/// What is asked, with a line for each choice.
fn question(build: &FailedBuild, choices: &[Choice]) -> Text {
    let mut text = Text::line(&format!("{} failed in its {} phase. What next?", build.package, build.phase)).words("\n");
    for choice in choices {
        text = text.words("  ").words(choice.letter()).words("  ").text(&Text::line(&choice.words(&build.phase))).words("\n");
    }
    let letters: Vec<&str> = choices.iter().map(|choice| choice.letter()).collect();
    text.words(&format!("[{}] ", letters.join("/")))
}

/// Asks what to do about the failed build of `what`, and does it, until the build is to go on or to be given up.
pub(super) fn ask(what: &str, invocation: &Invocation, opened: &Opened<'_>) -> Result<Next, Failure> {
    let cx = opened.context(None);
    loop {
        let (_, build) = by_hand::failed_build(&cx, what)?;
        let mut choices = vec![Choice::Shell, Choice::Again, Choice::Anew, Choice::GiveUp];
        if by_hand::is_touched(&cx, what)? {
            choices.insert(2, Choice::Patch);
        }
        invocation.progress.clear();
        let otherwise = "the session is kept, and the next build goes on where this one stopped";
        let Some(answer) = ask::answer(&question(&build, &choices), otherwise, opened)? else { return Ok(Next::GiveUp) };
        let done = match Choice::of(&answer, &choices) {
            None => continue,
            Some(Choice::GiveUp) => return Ok(Next::GiveUp),
            Some(Choice::Anew) => return Ok(Next::Anew),
            Some(Choice::Shell) => {
                let deed = Deed::Shell { command: Vec::new(), as_root: false };
                by_hand::enter(&cx, what, &deed, crate::sandbox::terminal::is_ours()).map(drop).map_err(Failure::from)
            }
            Some(Choice::Again) => again(what, &build, invocation, opened).map(drop),
            Some(Choice::Patch) => match patch(what, &build, invocation, opened) {
                Ok(true) => return Ok(Next::Anew),
                other => other.map(drop),
            },
        };
        if let Err(failure) = done {
            if failure.is(report::Kind::Interrupted) {
                return Err(failure);
            }
            report::print(failure, &invocation.global);
        }
    }
}

/// Asks for the name of the patch. Whether it was saved.
fn patch(what: &str, build: &FailedBuild, invocation: &Invocation, opened: &Opened<'_>) -> Result<bool, Failure> {
    let name = build.package.rsplit('/').next().unwrap_or_default();
    let question = Text::line(&format!("name of the patch [{name}]: "));
    let Some(answer) = ask::answer(&question, "nothing was saved", opened)? else { return Ok(false) };
    save(what, if answer.is_empty() { name } else { &answer }, invocation, opened)?;
    Ok(true)
}

/// Saves the edits, and prints what became of them.
pub(super) fn save(what: &str, name: &str, invocation: &Invocation, opened: &Opened<'_>) -> Result<(), Failure> {
    let config = invocation.config()?;
    let SavedEdits { saved, left_out } = by_hand::save(&opened.context(Invocation::jobs(None, &config)?), &config, what, name)?;
    invocation.progress.clear();
    print(super::patch::saved_lines(&saved, &invocation.places.config))?;
    if !left_out.is_empty() {
        let text = format!(
            "not in the patch, since the pristine source has no such files: {}; copy what you need into the work set `{name}`, and \
             save it again with `gentoomuch patch save {name}`",
            left_out.join(", ")
        );
        invocation.progress.event(&Event::Note(&text));
    }
    Ok(())
}

/// Tries the phase again; says how that ended.
pub(super) fn again(what: &str, build: &FailedBuild, invocation: &Invocation, opened: &Opened<'_>) -> Result<Exit, Failure> {
    let exit = by_hand::enter(&opened.context(None), what, &Deed::Again, crate::sandbox::terminal::is_ours())?;
    invocation.progress.clear();
    let ended = if exit == Exit::Code(0) { "succeeds now, by hand" } else { "fails again" };
    invocation.progress.event(&Event::Note(&format!("the {} phase of {} {ended}", build.phase, build.package)));
    Ok(exit)
}

/// What can be done next, for whoever has no terminal.
pub(super) fn tell(build: &FailedBuild, invocation: &Invocation) {
    let (what, note) = (build.short(), |text: String| invocation.progress.event(&Event::Note(&text)));
    note("what you did stays until the build goes on; nothing of it is published or becomes part of a state".to_owned());
    note(format!("`gentoomuch shell --failed {what} --again` tries the {} phase again, on your changes", build.phase));
    note(format!("`gentoomuch shell --failed {what} --save-patch NAME` saves your changes of the source as a patch"));
    tell_anew(build, invocation);
}

/// How the build goes on.
pub(super) fn tell_anew(build: &FailedBuild, invocation: &Invocation) {
    let command = match build.stage4() {
        Some(stage4) => format!("`gentoomuch stage build {stage4}`"),
        None => "the command that failed, repeated,".to_owned(),
    };
    invocation.progress.event(&Event::Note(&format!("{command} starts {} anew, from a clean unpack", build.package)));
}

/// The exit code of a command, as a shell has it.
pub(super) fn code_of(exit: Exit) -> ExitCode {
    match exit {
        Exit::Code(code) => ExitCode::from(u8::try_from(code).unwrap_or(255)),
        Exit::Signal(signal) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(255)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_each_choice_with_its_letter() {
        let [name, lock, package, phase] = ["stage4/web", "stage4/web", "app-misc/broken-1.0", "compile"].map(str::to_owned);
        let build = FailedBuild { name, lock, package, phase, log: "/log".into() };
        let choices = [Choice::Shell, Choice::Again, Choice::Patch, Choice::Anew, Choice::GiveUp];
        assert_eq!(
            question(&build, &choices).as_str(),
            "app-misc/broken-1.0 failed in its compile phase. What next?
  s  open a shell where it failed
  t  try the compile phase again by hand
  p  save what you changed as a patch, and start the package anew
  a  start the package anew, from a clean unpack
  g  give up; the next build goes on where this one stopped
[s/t/p/a/g] "
        );
        assert_eq!((Choice::of("S", &choices), Choice::of("", &choices)), (Some(Choice::Shell), None));
        assert_eq!(Choice::of("p", &[Choice::Shell, Choice::GiveUp]), None, "nothing was changed yet");
    }
}
