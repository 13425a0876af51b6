//! The lines of the configuration that would make a combination permanent. Nothing is written.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::config::proposal::WantedLine;
use crate::config::{BUILDER, ConfigDir, proposal};
use crate::portage::package_files::LineFile;

/// A line of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Keep {
    /// The file that it belongs in, relative to the configuration directory.
    pub file: PathBuf,
    pub line: String,
    /// A line that says the opposite and has to go, with its place.
    pub against: Option<String>,
}

/// The lines for flags by package, and for keywords of the tried packages. Lines without a place are left out, since this is only advice.
pub(crate) fn lines(
    config: &ConfigDir,
    changes: &BTreeMap<String, Vec<String>>,
    tried: &[String],
    keywords: &[String],
) -> Vec<Keep> {
    let fragments = config
        .stage3(BUILDER)
        .map_err(|error| error.to_string())
        .and_then(|definition| config.fragments(&definition, None).map_err(|error| error.to_string()));
    let fragments = match fragments {
        Ok(fragments) => fragments,
        Err(error) => {
            tracing::debug!(error, "no advice about the configuration");
            return Vec::new();
        }
    };
    let keywords = tried.iter().filter(|_| !keywords.is_empty()).map(|name| (LineFile::AcceptKeywords, name, keywords));
    let flags = changes.iter().map(|(name, words)| (LineFile::Use, name, words.as_slice()));
    let mut lines = Vec::new();
    for (file, name, words) in keywords.chain(flags) {
        let Ok(atom) = name.parse() else { continue };
        let line = format!("{name} {}", words.join(" "));
        let wanted = WantedLine { file, atom, words: words.to_vec(), because: Vec::new(), masked_by_configuration: false };
        match proposal::propose(&fragments, &[wanted], None) {
            Ok((_, placed)) => {
                let keep = |placed: proposal::Placed| Keep { file: placed.file, line: line.clone(), against: None };
                lines.extend(placed.into_iter().map(keep));
            }
            Err(proposal::Error::Contradiction(contradiction)) => {
                let against = format!("{}: {}", contradiction.there, contradiction.line);
                lines.push(Keep { file: contradiction.place.file.to_path_buf(), line, against: Some(against) });
            }
            Err(error) => tracing::debug!(%error, line, "no advice about the configuration"),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_its_place() {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("portage.global/package.use", "a/b y\n"),
            ("portage.locals/mine/package.use", "c/d -z\n"),
            ("stage3.defines/gentoomuch/builder/portage.local", "mine\n"),
            ("stage3.defines/gentoomuch/builder/packages", ""),
        ] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let config = ConfigDir::open(dir.path()).unwrap();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let changes =
            [("a/b", words(&["x"])), ("c/d", words(&["z"])), ("e/f", words(&["-w"]))].map(|(name, words)| (name.to_owned(), words));
        let keep = lines(&config, &changes.into(), &words(&["a/b"]), &words(&["~amd64"]));
        let shown: Vec<String> = keep
            .iter()
            .map(|keep| {
                format!(
                    "{}: {}{}",
                    keep.file.display(),
                    keep.line,
                    keep.against.as_ref().map_or(String::new(), |a| format!(" against {a}"))
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                "portage.locals/mine/package.accept_keywords: a/b ~amd64",
                "portage.global/package.use: a/b x",
                "portage.locals/mine/package.use: c/d z against portage.locals/mine/package.use:1: c/d -z",
                "portage.locals/mine/package.use: e/f -w",
            ]
        );
    }
}
