//! What `--pretend` of several commands prints.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::report::{Failure, Kind};
use crate::cli::screen::{Style, Text};
use crate::cli::table::{print, print_json};
use crate::recipe::pretend::Pretended;

/// Whether emerge's lists are printed in colour.
pub(super) fn color(invocation: &Invocation, json: bool) -> bool {
    !json && invocation.global.color.enabled(io::stdout().is_terminal())
}

/// Prints the lists of one thing.
pub(super) fn printed(pretended: &Pretended, json: bool, invocation: &Invocation) -> Outcome {
    shown(std::slice::from_ref(pretended), if json { Some(&pretended) } else { None }, invocation)
}

/// The same for several things.
pub(super) fn all_printed(all: &[Pretended], json: bool, invocation: &Invocation) -> Outcome {
    shown(all, if json { Some(&all) } else { None }, invocation)
}

fn shown(all: &[Pretended], json: Option<&impl serde::Serialize>, invocation: &Invocation) -> Outcome {
    invocation.progress.clear();
    match json {
        Some(value) => print_json(value)?,
        None => print(all.iter().map(|pretended| text(pretended, color(invocation, false))).collect::<Text>())?,
    }
    match all.iter().find(|pretended| pretended.has_failed()) {
        Some(Pretended { target, .. }) => Err(Failure::message(Kind::Emerge, format!("emerge refuses what `{target}` needs"))
            .hint("`gentoomuch resolve` looks for the change of the configuration that helps")),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn text(pretended: &Pretended, color: bool) -> Text {
    let Pretended { target, up_to_date, besides, lists, .. } = pretended;
    if let Some(state) = up_to_date {
        return Text::line(&format!("{target}: nothing would be merged, {state} is what a build would give")).words("\n");
    }
    let mut text = Text::default();
    for list in lists {
        text = text.painted(Style::Strong, Text::line(&list.what).as_str(), color).words("\n");
        text = text.text(&Text::of_program(&list.output, color)).words("\n");
    }
    for node in besides {
        text = text.text(&Text::line(&format!("{node} would be built besides"))).words("\n");
    }
    text
}
