//! Unified diffs of whole texts.

use std::fmt::Write as _;

use similar::TextDiff;

use super::Edit;

/// The edits as one unified diff, applicable with `patch -p1` and `git apply`. Empty if nothing changes.
pub(crate) fn unified(edits: &[Edit]) -> String {
    let mut text = String::new();
    for edit in edits.iter().filter(|edit| edit.before.as_deref() != Some(&edit.after)) {
        let path = edit.path.display();
        let before = if edit.before.is_some() { format!("a/{path}") } else { "/dev/null".to_owned() };
        let (old, new) = (lines(edit.before.as_deref().unwrap_or_default()), lines(&edit.after));
        let diff = TextDiff::configure().newline_terminated(true).diff_slices(&old, &new);
        _ = write!(text, "--- {before}\n+++ b/{path}\n{}", diff.unified_diff());
    }
    text
}

/// The diff library also splits lines at carriage returns, which `patch` does not.
fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}
