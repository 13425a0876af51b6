//! `stage build`: builds the state of a stage4 definition, and makes a signed artifact of it.

use serde::Serialize;

use crate::artifact;
use crate::artifact::Artifact;
use crate::causes::in_one_line;
use crate::config::{ArtifactFormat, ConfigDir, Stage4Definition};
use crate::context::Context;
use crate::names::profiles;
use crate::pipeline;
use crate::pipeline::run::{Outcome, PassOn};
use crate::pipeline::{Error, PipelineOptions, Result};
use crate::portage::cpv::Cpv;
use crate::recipe::stage4::names_of;
use crate::session;
use crate::stage3::sign::Gpg;

/// What to build and how to export it.
#[derive(Debug, Clone)]
pub(crate) struct StageOptions {
    /// The stage4 definition.
    pub name: String,
    /// Form and compression; the definition's if `None`.
    pub format: Option<ArtifactFormat>,
    /// The `gpg` to sign with; `None` leaves the artifact unsigned.
    pub gpg: Option<Gpg>,
    /// Whether to make the files.
    pub export: bool,
    /// Packages of the definition to leave out, `category/name`.
    pub skip: Vec<String>,
    /// Leave out those that do not build, too.
    pub keep_going: bool,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct StageBuilt {
    /// The stage4 definition.
    pub name: String,
    pub state: String,
    /// Whether the state existed before.
    pub state_reused: bool,
    /// Packages of the definition that it lacks: those that were to be left out, and those that did not build.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
    /// Packages with patches, and what became of these; see [`PatchedPackage`](crate::recipe::patches::applied::PatchedPackage). Null where there are none.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    #[cfg_attr(test, schemars(with = "Option<Vec<crate::recipe::patches::applied::PatchedPackage>>"))]
    pub patched: serde_json::Value,
    /// What its packages have said, unread news, and configuration files that wait for a decision; null where there is nothing of it.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    #[cfg_attr(test, schemars(with = "Option<crate::portage::messages::Messages>"))]
    pub messages: serde_json::Value,
    /// The files, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
}

/// Builds a stage4 with everything that it needs, and exports it: a pipeline of one stage. With `keep_going` it is built again without what
/// does not build; packages that were built are binary packages by then.
pub(crate) fn stage_build(cx: &Context<'_>, config: &ConfigDir, options: &StageOptions) -> Result<StageBuilt> {
    let definition = config.stage4(&options.name)?;
    let known = checked_skips(&definition, &options.skip)?;
    let mut options = options.clone();
    loop {
        match built(cx, config, &options) {
            Err(error) if options.keep_going => match to_skip(&error, &options, &known) {
                Some(package) => {
                    cx.observer.warn(&format!("{}: going on without `{package}`", in_one_line(&error)));
                    options.skip.push(package);
                }
                None => return Err(error),
            },
            built => return built,
        }
    }
}

/// The packages of a stage4; fails if one of `skip` is not among them.
pub(crate) fn checked_skips(definition: &Stage4Definition, skip: &[String]) -> Result<Vec<String>> {
    let known: Vec<String> = names_of(definition).collect();
    match skip.iter().find(|package| !known.contains(package)) {
        Some(package) => Err(Error::NotSkippable { package: package.clone(), stage4: definition.name.clone(), known }),
        None => Ok(known),
    }
}

/// The package that has failed, if the stage4 can be built without it.
fn to_skip(error: &Error, options: &StageOptions, known: &[String]) -> Option<String> {
    let Error::Session(session::Error::Emerge { failure, enter, .. }) = error else { return None };
    let name = Cpv::name_of(failure.package.as_deref()?).to_owned();
    // Not in what it is built on: that is the base of others, too.
    let is_own = enter.as_deref() == Some(options.name.as_str());
    (is_own && known.contains(&name) && !options.skip.contains(&name)).then_some(name)
}

fn built(cx: &Context<'_>, config: &ConfigDir, options: &StageOptions) -> Result<StageBuilt> {
    let StageOptions { name, format, gpg, export, skip, .. } = options.clone();
    let gpg = gpg.filter(|_| export);
    profiles::profile_of(cx, &config.stage4(&name)?.profile)?;
    let options = PipelineOptions {
        names: vec![name.clone()],
        format,
        gpg: gpg.clone(),
        no_files: !export,
        one_by_one: true,
        skip: skip.clone(),
    };
    let planned = pipeline::pipeline(cx, config, options);
    if planned.is_err() && gpg.is_some() {
        // The plan also tries the key, but before that it may have to fetch a tree, which takes long. So a key that cannot sign is
        // reported here.
        let signer = artifact::signer(cx, config.env(&cx.settings.arch)?.sign_key.map(|key| key.value), gpg.as_ref())?;
        artifact::try_signer(cx, signer.as_ref())?;
    }
    let report = planned?.run(false, &PassOn(cx.observer))?;
    let artifact = report.nodes.iter().find_map(|node| node.artifact.clone());
    let stage = report.into_node(&format!("stage4/{name}"))?;
    let state = stage.state.map(|id| cx.store.state(&id)).transpose()?;
    Ok(StageBuilt {
        skipped: skip,
        name,
        patched: state.as_ref().map_or(serde_json::Value::Null, |state| serde_json::json!(state.origin.patched())),
        messages: state.as_ref().map_or(serde_json::Value::Null, |state| state.origin.messages().json()),
        state: state.map(|state| state.id.to_string()).unwrap_or_default(),
        state_reused: stage.outcome != Outcome::Built,
        artifact: artifact.filter(|_| export),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portage::emerge::output::EmergeLog;

    #[test]
    fn only_a_package_of_the_stage_itself_is_left_out_and_only_once() {
        let known = ["app-misc/broken", "app-misc/hello"].map(str::to_owned);
        let tried = |enter: &str, package: Option<&str>, skip: &[&str]| {
            let log = EmergeLog::create(std::path::Path::new("/dev/null")).unwrap();
            let mut failure = Box::new(log.into_failure(|_| None));
            failure.package = package.map(str::to_owned);
            let enter = Some(enter.to_owned());
            let error = session::Error::Emerge { failure, log: "/log".into(), resumable: true, enter }.into();
            let skip = skip.iter().map(|name| (*name).to_owned()).collect();
            let options = StageOptions { name: "web".to_owned(), format: None, gpg: None, export: false, skip, keep_going: true };
            to_skip(&error, &options, &known)
        };
        let broken = Some("app-misc/broken-1.0-r2");
        assert_eq!(tried("web", broken, &[]).as_deref(), Some("app-misc/broken"));
        for (enter, package, skip) in [
            ("demo/plain", broken, &[][..]),
            ("web", Some("dev-libs/needed-1.0"), &[]),
            ("web", None, &[]),
            // As a dependency of another package.
            ("web", broken, &["app-misc/broken"]),
        ] {
            assert_eq!(tried(enter, package, skip), None, "{enter} {package:?} {skip:?}");
        }
    }
}
