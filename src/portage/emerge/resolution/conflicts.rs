//! Slot conflicts, blockers and circular dependencies, without emerge's page of advice about each.

use super::{MAX_KEPT, MAX_WORD_CHARS, Problem, Pulled, cpv, cpv_or_atom};

/// How many packages that require another one are kept.
const MAX_PARENTS: usize = 16;

pub(super) fn read(lines: &[&str]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let rest = &lines[at + 1..];
        if line.starts_with("!!! Multiple package instances within a single package slot") {
            problems.extend(slot_conflicts(rest));
        } else if line.contains("Error: The above package list contains") {
            problems.push(Problem::Blocked { blocks: blocks(lines), instances: instances(rest) });
        } else if line.contains("Error: circular dependencies:") {
            problems.push(circle(rest));
        }
    }
    problems
}

/// ```text
/// app-misc/gear:0
///
///   (app-misc/gear-2.0:0/0::gentoo, ebuild scheduled for merge) USE="" pulled in by
///     >=app-misc/gear-2 required by (app-misc/mill-1.0:0/0::gentoo, ebuild scheduled for merge) USE=""
/// ```
fn slot_conflicts(lines: &[&str]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut slot: Option<(&str, usize)> = None;
    let is_advice = |line: &str| {
        line.starts_with("It may be possible") || line.starts_with("It might be possible") || line.starts_with("NOTE:")
    };
    let end = lines.iter().position(|line| is_advice(line)).unwrap_or(lines.len());
    let mut close = |slot: Option<(&str, usize)>, until: usize| {
        if let Some((name, from)) = slot {
            let instances = instances(&lines[from..until]);
            if !instances.is_empty() && problems.len() < MAX_KEPT {
                problems.push(Problem::SlotConflict { slot: name.chars().take(MAX_WORD_CHARS).collect(), instances });
            }
        }
    };
    for (at, line) in lines[..end].iter().enumerate() {
        let names_slot = !line.starts_with([' ', '!']) && line.contains('/') && line.contains(':') && !line.contains('"');
        if names_slot {
            close(slot, at);
            slot = line.split_whitespace().next().map(|name| (name, at + 1));
        }
    }
    close(slot, end);
    problems
}

/// Packages with those that require them, up to the end of the paragraphs about them.
fn instances(lines: &[&str]) -> Vec<Pulled> {
    let mut all: Vec<Pulled> = Vec::new();
    for line in lines {
        if let Some(rest) = line.strip_prefix("  (") {
            let Some((package, state)) = rest.split_once(", ") else { continue };
            if !line.ends_with(" pulled in by") || all.len() == MAX_KEPT {
                continue;
            }
            all.push(Pulled { package: cpv(package), installed: state.starts_with("installed"), by: Vec::new() });
        } else if let (Some(parent), Some(pulled)) = (line.strip_prefix("    "), all.last_mut()) {
            let marks_only = parent.chars().all(|c| c == '^' || c == ' ');
            if !marks_only && pulled.by.len() < MAX_PARENTS {
                pulled.by.extend(parent_of(parent));
            }
        } else if !line.is_empty() && !line.starts_with(' ') && !all.is_empty() {
            break;
        }
    }
    all
}

/// `>=a/b-2 required by (c/d-1.0:0/0::gentoo, …)`, `a/b (Argument)`, `a/b`.
fn parent_of(line: &str) -> Option<(String, Option<String>)> {
    let atom = cpv_or_atom(line.split_whitespace().next()?);
    let by = line.split_once(" required by ").map(|(_, by)| by.trim_start_matches('('));
    let by =
        by.map(|by| by.split([',', ' ']).next().unwrap_or(by)).map(|by| if by.starts_with('@') { by.to_owned() } else { cpv(by) });
    Some((atom, by))
}

/// `[blocks B      ] a/b ("a/b" is hard blocking c/d-1.0)`; a small `b` is a soft blocker that emerge solves itself.
fn blocks(lines: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in lines {
        let Some((_, why)) = line.strip_prefix("[blocks B").and_then(|rest| rest.split_once('"')) else { continue };
        let Some((atom, by)) = why.split_once('"') else { continue };
        let by = by.split_once("blocking ").map_or("", |(_, by)| by).trim_end_matches(')');
        let pair = (atom.chars().take(MAX_WORD_CHARS).collect(), by.split(", ").map(cpv).collect::<Vec<_>>().join(", "));
        if found.len() < MAX_KEPT && !found.contains(&pair) {
            found.push(pair);
        }
    }
    found
}

/// ```text
/// (a/b-1.0:0/0::gentoo, ebuild scheduled for merge) depends on
///  (c/d-1.0:0/0::gentoo, ebuild scheduled for merge) (buildtime, USE=docs)
///   (a/b-1.0:0/0::gentoo, ebuild scheduled for merge) (buildtime)
/// ```
fn circle(lines: &[&str]) -> Problem {
    let mut packages: Vec<String> = Vec::new();
    let mut ways_out = Vec::new();
    let mut listed = false;
    for line in lines {
        if let Some(package) = line.trim_start().strip_prefix('(')
            && !listed
        {
            let package = cpv(package.split_once(',').map_or(package, |(package, _)| package));
            if packages.first() == Some(&package) {
                // The circle is closed.
                listed = true;
            } else if packages.len() < MAX_KEPT {
                packages.push(package);
            }
        } else if let Some((package, flags)) = line.strip_prefix("- ").and_then(|line| line.split_once(" (Change USE: "))
            && ways_out.len() < MAX_KEPT
        {
            let flags = flags.split(')').next().unwrap_or_default();
            ways_out.push((cpv(package), flags.split_whitespace().map(|flag| flag.trim_start_matches('+').to_owned()).collect()));
        }
    }
    Problem::Circle { packages, ways_out }
}
