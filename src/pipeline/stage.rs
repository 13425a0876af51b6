//! `stage build`: builds the state of a stage4 definition, and makes a signed artifact of it.

use serde::Serialize;

use crate::artifact;
use crate::artifact::Artifact;
use crate::config::{ArtifactFormat, ConfigDir};
use crate::context::Context;
use crate::names::profiles;
use crate::pipeline;
use crate::pipeline::run::{Outcome, PassOn};
use crate::pipeline::{PipelineOptions, Result};
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
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct StageBuilt {
    /// The stage4 definition.
    pub name: String,
    pub state: String,
    /// Whether the state existed before.
    pub state_reused: bool,
    /// Packages with patches, and what became of these; see [`PatchedPackage`](crate::recipe::patches::applied::PatchedPackage). Null where there are none.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub patched: serde_json::Value,
    /// The files, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
}

/// Builds a stage4 with everything that it needs, and exports it: a pipeline of one stage.
pub(crate) fn stage_build(cx: &Context<'_>, config: &ConfigDir, options: &StageOptions) -> Result<StageBuilt> {
    let StageOptions { name, format, gpg, export } = options.clone();
    let gpg = gpg.filter(|_| export);
    profiles::profile_of(cx, &config.stage4(&name)?.profile)?;
    let options = PipelineOptions { names: vec![name.clone()], format, gpg: gpg.clone(), no_files: !export, one_by_one: true };
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
        name,
        patched: state.as_ref().map_or(serde_json::Value::Null, |state| serde_json::json!(state.origin.patched())),
        state: state.map(|state| state.id.to_string()).unwrap_or_default(),
        state_reused: stage.outcome == Outcome::Reused,
        artifact: artifact.filter(|_| export),
    })
}
