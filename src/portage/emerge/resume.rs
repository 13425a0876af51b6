//! Whether `emerge --resume` has something to do.

use serde_json::Value;

/// Where Portage keeps its merge list between runs, below the root.
pub(crate) const MTIMEDB: &str = "var/cache/edb/mtimedb";

/// Whether `mtimedb` (JSON, hostile) contains a merge list that `emerge --resume` accepts.
///
/// The checks are those of `action_build` in `_emerge/actions.py`, which drops an entry without options or favourites. `resume_backup` is
/// ignored: it is the list of an older run.
pub(crate) fn resumable(mtimedb: &[u8]) -> bool {
    let Ok(Value::Object(db)) = serde_json::from_slice(mtimedb) else { return false };
    let Some(Value::Object(resume)) = db.get("resume") else { return false };
    let listed = matches!(resume.get("mergelist"), Some(Value::Array(list)) if !list.is_empty());
    let options = matches!(resume.get("myopts"), Some(Value::Object(_) | Value::Array(_)));
    listed && options && matches!(resume.get("favorites"), Some(Value::Array(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complete_entry_counts() {
        let whole = r#"{"ldpath": {}, "resume": {"favorites": ["@world"], "mergelist": [["ebuild", "/", "app-misc/hello-2.10", "merge"]], "myopts": {"--jobs": 2}}}"#;
        assert!(resumable(whole.as_bytes()));
        assert!(resumable(include_bytes!("transcripts/mtimedb.json")), "of a run that was killed");
        let cases = [
            ("", "empty file"),
            ("{", "truncated"),
            ("[]", "not an object"),
            ("{}", "nothing to resume"),
            (r#"{"resume": {"favorites": [], "mergelist": [], "myopts": {}}}"#, "empty list"),
            (r#"{"resume": {"mergelist": [["ebuild", "/", "a/b-1", "merge"]], "myopts": {}}}"#, "no favourites"),
            (r#"{"resume": {"favorites": [], "mergelist": [1], "myopts": 3}}"#, "options of another type"),
            (&whole.replace("\"resume\"", "\"resume_backup\""), "only the list of an earlier run"),
        ];
        for (json, what) in cases {
            assert!(!resumable(json.as_bytes()), "{what}");
        }
    }
}
