//! What `--pretend` of several commands prints.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use super::Outcome;
use crate::cli::forecast::amount_words;
use crate::cli::invocation::Invocation;
use crate::cli::report::{Failure, Kind};
use crate::cli::screen::{Style, Text};
use crate::cli::table::{count, print, print_json};
use crate::recipe::pretend::{List, Pretended};

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
        if let Some(words) = estimated(list) {
            text = text.words(&words).words("\n\n");
        }
    }
    for node in besides {
        text = text.text(&Text::line(&format!("{node} would be built besides"))).words("\n");
    }
    text
}

/// As emerge says its total, in a line of its own. Of what was never built there is none.
fn estimated(list: &List) -> Option<String> {
    let left = list.estimated.as_ref()?;
    let mut besides = Vec::new();
    if left.unknown > 0 {
        besides.push(format!("without {} that {} never built here", count(left.unknown as u64, "package"), were(left.unknown)));
    }
    if left.guess {
        besides.push("by builds on another machine".to_owned());
    }
    let besides = if besides.is_empty() { String::new() } else { format!(" ({})", besides.join(", ")) };
    Some(format!("Estimated time: {}{besides}", amount_words(left)?))
}

fn were(number: usize) -> &'static str {
    if number == 1 { "was" } else { "were" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Left;

    #[test]
    fn an_estimate_says_what_it_leaves_out() {
        let of = |left| {
            estimated(&List { what: "@world".to_owned(), packages: Vec::new(), failed: false, estimated: left, output: Vec::new() })
        };
        let left = |secs, unknown, guess| Some(Left { secs, unknown, guess });
        assert_eq!(of(left(720, 0, false)).unwrap(), "Estimated time: ~12 min");
        assert_eq!(of(left(720, 1, false)).unwrap(), "Estimated time: over 12 min (without 1 package that was never built here)");
        let both = "Estimated time: over 12 min? (without 2 packages that were never built here, by builds on another machine)";
        assert_eq!(of(left(720, 2, true)).unwrap(), both);
        assert_eq!((of(None), of(left(0, 3, false))), (None, None));
    }
}
