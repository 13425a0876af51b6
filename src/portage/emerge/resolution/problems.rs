//! Unsatisfied dependencies, and `REQUIRED_USE` that does not hold.

use super::required_use::{FlagState, Flags};
use super::{MAX_KEPT, MAX_WORD_CHARS, Problem, cpv, dependency_chain};

/// All problems, each once.
pub(super) fn read(lines: &[&str]) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let rest = &lines[at + 1..];
        let problem = if line.starts_with("!!! The ebuild selected to satisfy ") {
            required_use(line, rest)
        } else {
            unsatisfied(line, rest)
        };
        if let Some(problem) = problem
            && problems.len() < MAX_KEPT
            && !problems.contains(&problem)
        {
            problems.push(problem);
        }
    }
    problems
}

/// What stands between the quotes.
fn quoted(line: &str) -> Option<String> {
    let quote = if line.contains('"') { '"' } else { '\'' };
    let text = line.split(quote).nth(1)?;
    Some(text.chars().take(MAX_WORD_CHARS).collect())
}

/// ```text
/// - app-misc/a-1.0::gentoo USE="x -y (-z)" PYTHON_TARGETS="python3_12"
///
///   The following REQUIRED_USE flag constraints are unsatisfied:
///     x? ( y )
///
///   The above constraints are a subset of the following complete expression:
///     x? ( y ) any-of ( x y )
/// ```
fn required_use(line: &str, rest: &[&str]) -> Option<Problem> {
    let wanted = quoted(line)?;
    let package_line = rest.first()?.strip_prefix("- ")?;
    let (package, flags) = package_line.split_once(' ').unwrap_or((package_line, ""));
    let expression_after = |words: &str| {
        // Both follow within a few lines; a later problem may repeat them for another package.
        let at = rest.iter().take(8).position(|line| line.trim_start().starts_with(words))?;
        rest.get(at + 1).map(|line| line.trim().to_owned())
    };
    let unsatisfied = expression_after("The following REQUIRED_USE flag constraints")?;
    let complete = expression_after("The above constraints are a subset");
    let chain_at = rest.iter().take(10).position(|line| line.starts_with("(dependency required by"));
    Some(Problem::RequiredUse {
        wanted,
        package: cpv(package),
        flags: read_flags(flags),
        expression: complete.unwrap_or_else(|| unsatisfied.clone()),
        unsatisfied,
        required_by: chain_at.map(|at| dependency_chain(&rest[at..])).unwrap_or_default(),
    })
}

/// `USE="x -y (-z)" PYTHON_TARGETS="(python3_12) -python3_11"`; flags in parentheses are forced or masked.
fn read_flags(text: &str) -> Flags {
    let mut flags = Flags::new();
    let mut rest = text;
    while let Some((variable, after)) = rest.split_once("=\"") {
        let (values, after) = after.split_once('"').unwrap_or((after, ""));
        rest = after;
        let variable = variable.trim();
        let prefix = if variable == "USE" { String::new() } else { format!("{}_", variable.to_ascii_lowercase()) };
        for word in values.split_whitespace() {
            let inner = word.strip_prefix('(').and_then(|word| word.strip_suffix(')'));
            let name = inner.unwrap_or(word).trim_end_matches(['*', '%']);
            let (name, on) = name.strip_prefix('-').map_or((name, true), |name| (name, false));
            flags.insert(format!("{prefix}{name}"), FlagState { on, fixed: inner.is_some() });
        }
    }
    flags
}

fn unsatisfied(line: &str, rest: &[&str]) -> Option<Problem> {
    let beginnings = [
        "emerge: there are no ebuilds to satisfy ",
        "emerge: there are no binary packages to satisfy ",
        "emerge: there are no ebuilds built with USE flags to satisfy ",
        "emerge: there are no sets to satisfy ",
        "emerge: There are no sets to satisfy ",
        "!!! All ebuilds that could satisfy ",
        "!!! All binary packages that could satisfy ",
    ];
    beginnings.iter().find(|words| line.starts_with(**words))?;
    let mut wanted = quoted(line)?;
    if line.contains("no sets") && !wanted.starts_with('@') {
        wanted.insert(0, '@');
    }
    let (mut candidates, mut similar): (Vec<(String, String)>, Vec<String>) = (Vec::new(), Vec::new());
    let mut chain = Vec::new();
    for (at, line) in rest.iter().enumerate() {
        if let Some(candidate) = line.strip_prefix("- ").and_then(|line| line.strip_suffix(')')) {
            if let Some((package, why)) = candidate.split_once(" (") {
                let candidate = (cpv(package), why.to_owned());
                if candidates.len() < 8 && !candidates.contains(&candidate) {
                    candidates.push(candidate);
                }
            }
        } else if let Some((_, names)) = line.strip_prefix("emerge: Maybe you meant").and_then(|rest| rest.split_once(' ')) {
            let names = names.trim_start_matches("any of these: ").trim_end_matches('?');
            similar = names.split(", ").map(|name| name.chars().take(MAX_WORD_CHARS).collect()).take(8).collect();
        } else if line.starts_with("(dependency required by") {
            chain = dependency_chain(&rest[at..]);
            break;
        } else if line.starts_with("emerge: there are no") || line.starts_with("!!! All ") {
            break;
        }
    }
    Some(Problem::Unsatisfied { wanted, candidates, similar, required_by: chain })
}
