//! What is written beside a suspended session whose build failed in a package, so that a user can enter it by hand.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::causes::in_one_line;
use crate::config::BUILDER;
use crate::context::Context;
use crate::portage::atom::Atom;
use crate::portage::emerge::Failure;
use crate::recipe::realise::Recipe;
use crate::recipe::{Error, Result};
use crate::session;
use crate::session::readable_files::write_public;
use crate::store::{Session, SessionRecord, SessionStatus};

/// Beside the session's directories, and never visible in the session.
const RECORD: &str = "failed.json";

/// A build that failed in a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailedBuild {
    /// The name that the state would have got: `stage4/web`, `profile/demo/plain`.
    pub name: String,
    /// The lock of whoever builds it.
    pub lock: String,
    /// `category/name-version`.
    pub package: String,
    /// The phase of its ebuild.
    pub phase: String,
    /// emerge's whole output, on the host.
    pub log: PathBuf,
}

impl FailedBuild {
    /// How users call it: `web`, `demo` for a profile's builder, `demo/plain` for another definition on it.
    pub(crate) fn short(&self) -> &str {
        short(&self.name)
    }

    /// The stage4 definition, if it is one.
    pub(crate) fn stage4(&self) -> Option<&str> {
        self.name.strip_prefix("stage4/")
    }

    /// Whether a user means it by `what`. A profile's name stands for each definition on it.
    pub(crate) fn is_called(&self, what: &str) -> bool {
        let of_profile = || self.name.strip_prefix("profile/").and_then(|rest| rest.split_once('/')).map(|(profile, _)| profile);
        self.name == what || self.short() == what || of_profile() == Some(what)
    }
}

fn short(name: &str) -> &str {
    if let Some(stage4) = name.strip_prefix("stage4/") {
        return stage4;
    }
    let Some(rest) = name.strip_prefix("profile/") else { return name };
    rest.strip_suffix(BUILDER).and_then(|profile| profile.strip_suffix('/')).unwrap_or(rest)
}

/// A package and a phase: without them there is no build directory to go to. Both are words of a log, which may be hostile.
fn place_of(failure: &Failure) -> Option<(&str, &str)> {
    let (package, phase) = (failure.package.as_deref()?, failure.phase.as_deref()?);
    let is_package = Atom::parse_target(&format!("={package}")).is_ok();
    (is_package && phase.bytes().all(|byte| byte.is_ascii_lowercase())).then_some((package, phase))
}

/// Records a failure in its session. If that does not work, the session cannot be entered by hand, and nothing else is lost.
pub(crate) fn note(session: &Session, recipe: &impl Recipe, error: &Error) {
    let Error::Session(session::Error::Emerge { failure, log, .. }) = error else { return };
    let (Some((package, phase)), Some(name)) = (place_of(failure), recipe.name()) else { return };
    let (package, phase) = (package.to_owned(), phase.to_owned());
    let build = FailedBuild { name, lock: recipe.lock(), package, phase, log: log.clone() };
    let text = serde_json::json!(build).to_string();
    if let Err(error) = write_public(&session.path(RECORD), text.as_bytes(), 0o644) {
        tracing::warn!("the session cannot be entered by hand: {}", in_one_line(&error));
    }
}

/// A session that goes on has not failed.
pub(crate) fn forget(session: &Session) {
    let _ = std::fs::remove_file(session.path(RECORD));
}

/// Says in the error how the session can be entered.
pub(crate) fn named(error: Error, recipe: &impl Recipe) -> Error {
    match error {
        Error::Session(session::Error::Emerge { failure, log, resumable: true, .. }) => {
            let name = recipe.name().filter(|_| place_of(&failure).is_some());
            let enter = name.map(|name| short(&name).to_owned());
            session::Error::Emerge { failure, log, resumable: true, enter }.into()
        }
        other => other,
    }
}

/// All failed builds whose sessions can go on, the newest first.
pub(crate) fn all(cx: &Context<'_>) -> Result<Vec<(SessionRecord, FailedBuild)>> {
    let suspended = |record: &SessionRecord| matches!(record.status, SessionStatus::Suspended { .. });
    let records = cx.store.sessions()?.into_iter().rev().filter(suspended);
    let failed = records.filter_map(|record| {
        let build = serde_json::from_slice(&cx.store.session_file(&record.id, RECORD)?).ok()?;
        Some((record, build))
    });
    Ok(failed.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(name: &str) -> FailedBuild {
        let [lock, package, phase] = ["stage4/web", "app-misc/broken-1.0", "compile"].map(str::to_owned);
        FailedBuild { name: name.to_owned(), lock, package, phase, log: "/log".into() }
    }

    #[test]
    fn a_failed_build_is_called_by_its_stage_or_its_profile() {
        for (name, short, called, others) in [
            ("stage4/web", "web", vec!["web", "stage4/web"], vec!["demo", "stage4"]),
            ("profile/demo/gentoomuch/builder", "demo", vec!["demo", "profile/demo/gentoomuch/builder"], vec!["builder", ""]),
            ("profile/demo/plain", "demo/plain", vec!["demo", "demo/plain", "profile/demo/plain"], vec!["plain"]),
            ("kernel/demo/x", "kernel/demo/x", vec!["kernel/demo/x"], vec!["demo"]),
        ] {
            let build = build(name);
            assert_eq!(build.short(), short);
            assert!(called.iter().all(|what| build.is_called(what)), "{name}");
            assert!(!others.iter().any(|what| build.is_called(what)), "{name}");
        }
        assert_eq!((build("stage4/web").stage4(), build("profile/demo/plain").stage4()), (Some("web"), None));
    }

    #[test]
    fn only_a_package_in_a_phase_has_a_place() {
        let failure = |package: Option<&str>, phase: Option<&str>| {
            let log = crate::portage::emerge::output::EmergeLog::create(std::path::Path::new("/dev/null")).unwrap();
            let mut failure = log.into_failure(|_| None);
            (failure.package, failure.phase) = (package.map(str::to_owned), phase.map(str::to_owned));
            failure
        };
        for (package, phase, good) in [
            (Some("app-misc/broken-1.0"), Some("compile"), true),
            (Some("app-misc/broken-1.0"), None, false),
            (None, Some("compile"), false),
            (Some("../../etc-1.0"), Some("compile"), false),
            (Some("app-misc/broken-1.0"), Some("; reboot"), false),
        ] {
            assert_eq!(place_of(&failure(package, phase)).is_some(), good, "{package:?} {phase:?}");
        }
    }
}
