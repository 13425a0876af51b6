//! Stage4s whose `profile` names no bootstrapped profile, and how they come to name one.

use std::fs;
use std::path::PathBuf;

use crate::config::proposal::Edit;
use crate::config::{ConfigDir, Located};
use crate::context::Context;
use crate::names::profiles::profiles;
use crate::path_error::OfFile as _;
use crate::profile::Result;

/// A stage4 that cannot be built, since nobody has bootstrapped its profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Homeless {
    pub(crate) stage4: String,
    pub(crate) profile: Located<String>,
}

/// Those of the configuration, by name. A definition that cannot be read is not one of them: its error comes when it is built.
pub(crate) fn homeless(cx: &Context<'_>, config: &ConfigDir) -> Result<Vec<Homeless>> {
    let known = profiles(cx)?;
    let all = config.stage4_names().into_iter().filter_map(|stage4| {
        let profile = config.stage4(&stage4).ok()?.profile;
        Some(Homeless { stage4, profile })
    });
    Ok(all.filter(|one| !known.contains(&one.profile.value)).collect())
}

/// The changes by which they name `profile`: the name in their files, and nothing else.
pub(crate) fn edits(config: &ConfigDir, homeless: &[Homeless], profile: &str) -> Result<Vec<Edit>> {
    let edit = |one: &Homeless| {
        let path: PathBuf = one.profile.file.to_path_buf();
        let file = config.root().join(&path);
        let before = fs::read_to_string(&file).map_err(crate::context::Error::io("read", &file))?;
        let after = named(&before, one.profile.line, &one.profile.value, profile);
        Ok(Edit { path, before: Some(before), after })
    };
    homeless.iter().map(edit).collect()
}

/// The text with another name in its line, counted from 1.
fn named(text: &str, line: u32, old: &str, new: &str) -> String {
    let lines = text.split_inclusive('\n').zip(1..);
    lines.map(|(words, number)| if number == line { words.replacen(old, new, 1) } else { words.to_owned() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_changes() {
        let text = "# demo is the name.\r\n\n  demo # of demo\nrest";
        assert_eq!(named(text, 3, "demo", "lab"), "# demo is the name.\r\n\n  lab # of demo\nrest");
        assert_eq!(named("demo", 1, "demo", "lab"), "lab");
    }
}
