//! The result of an experiment as text.

use crate::try_it::outcome::{Differences, Outcome};
use crate::try_it::{Experiment, Tried};

use crate::cli::screen::{Shown as _, Style, Text};
use crate::cli::table::{Table, count, human_bytes};

/// Of the files that differ so many are named for each combination.
const NAMED: usize = 10;
/// Longer lists of libraries than this are counted.
const LIBRARIES: usize = 6;

/// An outcome in a few words.
pub(super) fn in_short(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Built(built) => format!("built in {:.1} s, {}", built.seconds, human_bytes(built.size_bytes)),
        Outcome::Failed(failed) => failed.reason.clone(),
        Outcome::LeftOut { reason } => format!("left out: {reason}"),
    }
}

/// The whole result.
pub(super) fn render(experiment: &Experiment, color: bool) -> Text {
    let mut table = Table::new(&["COMBINATION", "RESULT", ">TIME", ">SIZE", "LIBRARIES", "FILES"]);
    for tried in &experiment.combinations {
        table.row(cells(tried));
    }
    let heading = format!("{} on {}\n\n", experiment.packages.join(", "), experiment.profile);
    let mut text = Text::from(heading).text(&painted(&table.render(), experiment, color));
    for tried in &experiment.combinations {
        let about = about(tried) + &keep(tried, experiment.combinations.iter().find(|one| !one.keep.is_empty()));
        if !about.is_empty() {
            text = text.words(&format!("\n{}\n{about}", tried.name));
        }
    }
    text
}

fn cells(tried: &Tried) -> [String; 6] {
    let name = tried.name.clone();
    let rest = match &tried.outcome {
        Outcome::Built(built) => {
            let libraries = match &built.differences {
                Some(differences) => signed(&differences.libraries_added, &differences.libraries_removed),
                None => listed(built.libraries.iter()),
            };
            let files = match &built.differences {
                Some(differences) => numbers(differences),
                None => "compared with".to_owned(),
            };
            ["built".to_owned(), format!("{:.1} s", built.seconds), human_bytes(built.size_bytes), libraries, files]
        }
        Outcome::Failed(failed) => {
            let phase = failed.phase.as_ref().map_or_else(|| "failed".to_owned(), |phase| format!("failed: {phase}"));
            [phase, "-".to_owned(), "-".to_owned(), "-".to_owned(), "-".to_owned()]
        }
        Outcome::LeftOut { .. } => ["left out".to_owned(), "-".to_owned(), "-".to_owned(), "-".to_owned(), "-".to_owned()],
    };
    let [result, time, size, libraries, files] = rest;
    [name, result, time, size, libraries, files]
}

fn listed<'a>(libraries: impl ExactSizeIterator<Item = &'a String>) -> String {
    match libraries.len() {
        0 => "none".to_owned(),
        some if some > LIBRARIES => count(some as u64, "library").replace("librarys", "libraries"),
        _ => libraries.cloned().collect::<Vec<_>>().join(" "),
    }
}

fn signed(added: &[String], removed: &[String]) -> String {
    let words: Vec<String> =
        added.iter().map(|name| format!("+{name}")).chain(removed.iter().map(|name| format!("-{name}"))).collect();
    match words.len() {
        0 => "same".to_owned(),
        some if some > LIBRARIES => format!("+{} -{}", added.len(), removed.len()),
        _ => words.join(" "),
    }
}

fn numbers(differences: &Differences) -> String {
    let Differences { added, removed, changed, .. } = differences;
    let parts = [('+', added.len()), ('-', removed.len()), ('~', changed.len())];
    let parts: Vec<String> =
        parts.into_iter().filter(|(_, number)| *number > 0).map(|(sign, number)| format!("{sign}{number}")).collect();
    if parts.is_empty() { "same".to_owned() } else { parts.join(" ") }
}

/// What does not fit into a row.
fn about(tried: &Tried) -> String {
    let mut lines = Vec::new();
    match &tried.outcome {
        Outcome::Built(built) => {
            if !built.not_applied.is_empty() {
                lines.push(format!("without effect: {}", built.not_applied.join(" ")));
            }
            lines.extend(built.unpatched.iter().cloned());
            if let Some(differences) = &built.differences {
                let all = [('+', &differences.added), ('-', &differences.removed), ('~', &differences.changed)];
                let all: Vec<String> =
                    all.into_iter().flat_map(|(sign, paths)| paths.iter().map(move |path| format!("{sign} {path}"))).collect();
                lines.extend(all.iter().take(NAMED).cloned());
                if all.len() > NAMED {
                    lines.push(format!("and {} more: `--json` has all", all.len() - NAMED));
                }
            }
        }
        Outcome::Failed(failed) => {
            lines.push(failed.reason.clone());
            lines.extend(failed.proposals.iter().map(|line| format!("needs {line}")));
            lines.push(format!("log: {}", failed.log.shown()));
        }
        Outcome::LeftOut { reason } => lines.push(reason.clone()),
    }
    lines.iter().fold(String::new(), |text, line| text + "  " + line + "\n")
}

/// How to make it permanent, unless that is what the first one says that has advice.
fn keep(tried: &Tried, first: Option<&Tried>) -> String {
    if let Some(first) = first.filter(|first| first.name != tried.name && first.keep == tried.keep) {
        return format!("  to keep it: as {}\n", first.name);
    }
    let mut text = String::new();
    for keep in &tried.keep {
        text.push_str(&format!("    {}: {}\n", keep.file.shown(), keep.line));
        if let Some(against) = &keep.against {
            text.push_str(&format!("      instead of {against}\n"));
        }
    }
    if text.is_empty() { text } else { format!("  to keep it, in the configuration:\n{text}") }
}

/// The table with results in colour.
fn painted(table: &str, experiment: &Experiment, color: bool) -> Text {
    let paint = |style, line: &str| Text::default().painted(style, line, color).words("\n");
    let mut lines = table.lines();
    let mut text = lines.next().map(|heading| paint(Style::Strong, heading)).unwrap_or_default();
    for (line, tried) in lines.zip(&experiment.combinations) {
        let style = match tried.outcome {
            Outcome::Built(_) => Style::Green,
            Outcome::Failed(_) => Style::Red,
            Outcome::LeftOut { .. } => Style::Dim,
        };
        text = text.text(&paint(style, line));
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::try_it::keeping::Keep;
    use crate::try_it::outcome::Built as BuiltCombination;

    use super::*;

    fn tried(name: &str, lines: &[&str]) -> Tried {
        let built = BuiltCombination {
            seconds: 1.0,
            size_bytes: 2048,
            packages: Vec::new(),
            libraries: ["libc.so.6".to_owned()].into(),
            not_applied: Vec::new(),
            unpatched: Vec::new(),
            differences: None,
        };
        let keep = |line: &&str| {
            let (line, against) = line.split_once(" against ").map_or((*line, None), |(line, against)| (line, Some(against)));
            Keep { file: "package.use".into(), line: line.to_owned(), against: against.map(str::to_owned) }
        };
        Tried {
            name: name.to_owned(),
            words: [].into(),
            cflags: None,
            outcome: Outcome::Built(built),
            keep: lines.iter().map(keep).collect(),
        }
    }

    #[test]
    fn advice_stands_below_its_combination() {
        let combinations = vec![
            tried("x", &[]),
            tried("-x y", &["a/b -x", "c/d y against there:1: c/d -y"]),
            tried("y", &["c/d y"]),
            tried("-x y -O3", &["a/b -x", "c/d y against there:1: c/d -y"]),
        ];
        let state = "a".repeat(32).parse().unwrap();
        let experiment = Experiment { profile: "demo".to_owned(), state, packages: vec!["a/b-1".to_owned()], combinations };
        let text = render(&experiment, false);
        let advice = text.as_str().split_once("\n\n-x y\n").unwrap().1;
        assert_eq!(
            advice,
            "  to keep it, in the configuration:\n    package.use: a/b -x\n    package.use: c/d y\n      instead of there:1: c/d -y\n\n\
             y\n  to keep it, in the configuration:\n    package.use: c/d y\n\n-x y -O3\n  to keep it: as -x y\n"
        );
    }
}
