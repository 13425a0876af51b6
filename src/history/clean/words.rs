//! Names of things, and times, for output.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::store::State;

/// A state for people: the start of its id, its kind and its profile.
pub(crate) fn state(state: &State) -> String {
    let origin = &state.origin;
    let id = &state.id.as_str()[..12];
    let what = origin.definition().or_else(|| origin.name()).or_else(|| origin.kind()).unwrap_or("state");
    let on = origin.profile().map(|profile| format!(" on {profile}")).unwrap_or_default();
    format!("{id} {what}{on}")
}

/// Seconds since 1970 of an RFC 3339 time; 0 if it is invalid, so that it counts as old.
pub(crate) fn seconds(rfc3339: &str) -> i64 {
    rfc3339.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second)
}

/// A day for people, UTC.
pub(crate) fn day(secs: i64) -> String {
    jiff::Timestamp::from_second(secs).unwrap_or(jiff::Timestamp::UNIX_EPOCH).strftime("%Y-%m-%d").to_string()
}

/// What a file takes on the disk, bytes.
pub(crate) fn allocated(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).map_or(0, |meta| meta.blocks() * 512)
}
