//! Unified diffs of whole texts.

use std::fmt::Write as _;

use super::Edit;

/// Lines of context around a change.
const CONTEXT: usize = 3;

/// One line of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Keep,
    Remove,
    Add,
}

/// The edits as one unified diff, applicable with `patch -p1` and `git apply`. Empty if nothing changes.
pub fn unified(edits: &[Edit]) -> String {
    let mut text = String::new();
    for edit in edits.iter().filter(|edit| edit.before.as_deref() != Some(&edit.after)) {
        let path = edit.path.display();
        match &edit.before {
            Some(_) => _ = writeln!(text, "--- a/{path}"),
            None => text.push_str("--- /dev/null\n"),
        }
        _ = writeln!(text, "+++ b/{path}");
        hunks(&mut text, edit.before.as_deref().unwrap_or_default(), &edit.after);
    }
    text
}

fn hunks(text: &mut String, before: &str, after: &str) {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.split_inclusive('\n').collect(), after.split_inclusive('\n').collect());
    let ops = compare(&old, &new);
    let changed: Vec<usize> = ops.iter().enumerate().filter(|(_, op)| **op != Op::Keep).map(|(at, _)| at).collect();
    let mut next = 0;
    while let Some(first) = changed.get(next) {
        let from = first.saturating_sub(CONTEXT);
        let mut last = *first;
        while let Some(following) = changed.get(next).filter(|following| **following <= last + 2 * CONTEXT) {
            last = *following;
            next += 1;
        }
        hunk(text, &ops, from, (last + CONTEXT + 1).min(ops.len()), &old, &new);
    }
}

/// Writes `ops[from..to]`.
fn hunk(text: &mut String, ops: &[Op], from: usize, to: usize, old: &[&str], new: &[&str]) {
    let before = |op: Op| ops[..from].iter().filter(|known| **known == Op::Keep || **known == op).count();
    let within = |op: Op| ops[from..to].iter().filter(|known| **known == Op::Keep || **known == op).count();
    let range = |start: usize, count: usize| {
        // As diff has it: an empty range names the line before it.
        let start = if count == 0 { start } else { start + 1 };
        if count == 1 { start.to_string() } else { format!("{start},{count}") }
    };
    let (mut at_old, mut at_new) = (before(Op::Remove), before(Op::Add));
    _ = writeln!(text, "@@ -{} +{} @@", range(at_old, within(Op::Remove)), range(at_new, within(Op::Add)));
    for op in &ops[from..to] {
        let (sign, line) = match op {
            Op::Keep => (' ', old[at_old]),
            Op::Remove => ('-', old[at_old]),
            Op::Add => ('+', new[at_new]),
        };
        at_old += usize::from(*op != Op::Add);
        at_new += usize::from(*op != Op::Remove);
        text.push(sign);
        text.push_str(line);
        if !line.ends_with('\n') {
            text.push_str("\n\\ No newline at end of file\n");
        }
    }
}

/// What is kept, removed and added. Beginnings and ends that are alike are set aside; what lies between is small, since it is ours.
fn compare(old: &[&str], new: &[&str]) -> Vec<Op> {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - head;
    let tail = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let (a, b) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let mut ops = vec![Op::Keep; head];
    if a.len().saturating_mul(b.len()) > 4_000_000 {
        ops.extend(std::iter::repeat_n(Op::Remove, a.len()).chain(std::iter::repeat_n(Op::Add, b.len())));
    } else {
        // length[i][j]: the longest common subsequence of a[i..] and b[j..].
        let mut length = vec![vec![0_u32; b.len() + 1]; a.len() + 1];
        for i in (0..a.len()).rev() {
            for j in (0..b.len()).rev() {
                length[i][j] = if a[i] == b[j] { length[i + 1][j + 1] + 1 } else { length[i + 1][j].max(length[i][j + 1]) };
            }
        }
        let (mut i, mut j) = (0, 0);
        while i < a.len() || j < b.len() {
            if i < a.len() && j < b.len() && a[i] == b[j] {
                ops.push(Op::Keep);
                (i, j) = (i + 1, j + 1);
            } else if i < a.len() && (j == b.len() || length[i + 1][j] >= length[i][j + 1]) {
                ops.push(Op::Remove);
                i += 1;
            } else {
                ops.push(Op::Add);
                j += 1;
            }
        }
    }
    ops.extend(vec![Op::Keep; tail]);
    ops
}
