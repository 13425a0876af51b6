//! Runs the user's scripts and removals in a session.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::engine::{Engine, Work};
use super::error::{Error, Result};
use super::session::HOOKS_DIR;
use super::work::write_public;
use crate::config::UserScript;
use crate::sandbox::plan::Network;

/// Removes what matches the patterns it is given: globs are expanded, words are not split.
const REMOVE: &str = "IFS=; for pattern do rm -rf -- $pattern || exit 1; done";

impl Engine<'_> {
    /// Runs one of `user.scripts/` as root of the session.
    pub(super) fn script(&self, work: &Work<'_>, script: &UserScript, network: bool) -> Result<()> {
        self.step(&format!("running script {}", script.name.value));
        let contents = &script.contents;
        let dir = work.root.hooks.join("scripts");
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).map_err(Error::io("change the mode of", &dir))?;
        let file_name = script.name.value.replace('/', "-");
        write_public(&dir.join(&file_name), contents, 0o755)?;
        let inside = format!("{HOOKS_DIR}/scripts/{file_name}");
        // What has no interpreter line is for the shell, as when it is typed there.
        let argv = if contents.starts_with(b"#!") { vec![inside] } else { vec!["/bin/sh".to_owned(), inside] };
        self.command(work, argv, if network { Network::Host } else { Network::None })
    }

    /// Removes what matches `patterns`, absolute paths with globs.
    pub(super) fn remove(&self, work: &Work<'_>, patterns: &[String]) -> Result<()> {
        if patterns.is_empty() {
            return Ok(());
        }
        let mut argv: Vec<String> = ["/bin/sh", "-c", REMOVE, "sh"].map(str::to_owned).into();
        argv.extend(patterns.iter().cloned());
        self.command(work, argv, Network::None)
    }
}
