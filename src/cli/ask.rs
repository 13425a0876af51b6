//! Questions to whoever sits at the terminal.

use std::io;
use std::io::{BufRead as _, IsTerminal as _};
use std::os::fd::AsFd as _;

use crate::cli::opened::Opened;
use crate::cli::report::{Failure, Kind};
use crate::cli::screen;
use crate::cli::screen::Text;
use crate::cli::table::print;

/// What is answered to a question. `None` without a terminal, and at the end of the input.
///
/// # Errors
///
/// Ctrl-C; `otherwise` says what was not done.
pub(crate) fn answer(question: &Text, otherwise: &str, opened: &Opened<'_>) -> Result<Option<String>, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Ok(None);
    }
    screen::err(question);
    // Ctrl-C only counts up while the program runs: here it has to end the question.
    crate::sys::fd::wait_readable(&[stdin.as_fd(), opened.tools.interrupt.fd()], None)
        .map_err(|error| Failure::new(Kind::Other, error))?;
    if opened.tools.interrupt.count() > 0 {
        screen::err(&"\n".into());
        return Err(Failure::message(Kind::Interrupted, format!("interrupted: {otherwise}")));
    }
    let mut answer = String::new();
    let length = stdin.lock().read_line(&mut answer)?;
    Ok((length > 0).then(|| answer.trim().to_owned()))
}

/// Whether `question` is answered with yes on the terminal. `false` was said; without a terminal it is a failure, since nobody has agreed.
pub(crate) fn agreed(question: &str, opened: &Opened<'_>) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::message(Kind::Usage, "nothing was removed: there is no terminal to ask you on")
            .hint("`--yes` removes what is shown, `--dry-run` only shows it"));
    }
    let answer = answer(&Text::line(&format!("{question}? [y/N] ")), "nothing was removed", opened)?.unwrap_or_default();
    let agreed = ["y", "yes"].contains(&answer.to_lowercase().as_str());
    if !agreed {
        print("nothing was removed\n")?;
    }
    Ok(agreed)
}
