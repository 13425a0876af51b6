//! What does a root build with?

use serde::Serialize;

use crate::query::Question;

/// Compiler flags by Portage, versions by a script of ours.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename = "toolset")]
pub(crate) struct Toolset {
    /// The path of the script in the session.
    pub(crate) script: String,
    /// Also what the compiler cache depends on.
    pub(crate) ccache: bool,
}

impl Question for Toolset {
    /// Lines of `NAME=VALUE`. They are not cleaned.
    type Answer = String;
    const ANSWER_LIMIT_BYTES: usize = 512 << 10;
}
