//! `stage build`: a stage4 definition becomes a build state, and the state a signed artifact.

use std::sync::Arc;

use serde::Serialize;

use crate::artifact::{Artifact, ExportOptions};
use crate::config::hooks::Hooks;
use crate::config::{ArtifactFormat, ConfigDir, Stage4Definition};
use crate::context::Context;
use crate::error::Result;
use crate::names::profiles;
use crate::names::refs::{definition_lock, profile_lock, stage4_lock};
use crate::pipeline::PipelineOptions;
use crate::recipe::definition::{Built, Recipe};
use crate::recipe::stage4::{Stage4Recipe, stage4};
use crate::recipe::{definition, kernel};
use crate::stage3::sign::Gpg;
use crate::trees::choose;
use crate::{artifact, context, pipeline, resolve};

/// What to build and how to export it.
#[derive(Debug, Clone)]
pub struct StageOptions {
    /// The stage4 definition.
    pub name: String,
    /// Form and compression; the definition's if `None`.
    pub format: Option<ArtifactFormat>,
    /// The `gpg` to sign with; `None` leaves the artifact unsigned.
    pub gpg: Option<Gpg>,
    /// Whether files are made of the state.
    pub export: bool,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct StageBuilt {
    /// The stage4 definition.
    pub name: String,
    /// Its state.
    pub state: String,
    /// Whether the state was there already.
    pub state_reused: bool,
    /// Packages with patches, and what became of these; see [`crate::patch::PatchedPackage`]. Null where there are none.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub patched: serde_json::Value,
    /// The files, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
}

/// Builds the stage3 definition it names, the stage4 on that, and exports it.
pub fn stage_build(cx: &Context<'_>, config: &ConfigDir, options: &StageOptions) -> Result<StageBuilt> {
    let definition = config.stage4(&options.name)?;
    let _shared = context::share_store(cx)?;
    let profile = profiles::profile_of(cx, &definition.profile)?;
    let env = config.env(&cx.settings.arch)?;
    // An hour of building must not end with "no secret key".
    let gpg = options.gpg.as_ref().filter(|_| options.export);
    let signer = artifact::signer(cx, env.sign_key.map(|key| key.value), gpg)?;
    if signer.is_some() && !is_built(cx, config, options) {
        artifact::try_signer(cx, signer.as_ref())?;
    }
    let _profile = context::lock_shared(cx, &profile_lock(&profile))?;
    let built = stage_states(cx, config, definition, &profile);
    let (recipe, built) = built.map_err(|error| resolve::with_proposal(cx, config, &options.name, &profile, error))?;
    let export = ExportOptions { signer, ..ExportOptions::of(Some(&recipe.definition), options.format, &env.arch) };
    let artifact = if options.export {
        let _stage = context::lock(cx, &stage4_lock(&options.name))?;
        let target = artifact::target(cx, Some(&options.name), "stage4", &built.state, &export);
        Some(artifact::export(cx, &options.name, target, &built.state, &export)?)
    } else {
        None
    };
    let patched = built.state.origin["patched"].clone();
    Ok(StageBuilt { name: options.name.clone(), state: built.state.id.to_string(), state_reused: built.reused, patched, artifact })
}

/// Whether nothing is to be done, not even to sign. What cannot be told will be said by the build.
pub(crate) fn is_built(cx: &Context<'_>, config: &ConfigDir, options: &StageOptions) -> bool {
    let StageOptions { name, format, gpg, .. } = options.clone();
    pipeline::pipeline(cx, config, PipelineOptions { names: vec![name], format, gpg }).is_ok_and(|pipeline| pipeline.is_current())
}

pub(crate) fn stage_states(
    cx: &Context<'_>,
    config: &ConfigDir,
    definition: Stage4Definition,
    profile: &str,
) -> Result<(Stage4Recipe, Built)> {
    let stage3 = definition.stage3.value.clone();
    let (on, base) = {
        let _definition = context::lock(cx, &definition_lock(profile, &stage3))?;
        let upstream = profiles::upstream(cx, profile)?;
        let ahead = definition.packages.iter().map(|package| package.value.to_string()).collect();
        let recipe = Recipe { ahead, ..definition::recipe(cx, config, &stage3, &upstream)? };
        let base = definition::definition_by(cx, config, profile, &upstream, &recipe, std::slice::from_ref(&definition))?;
        (Arc::new(recipe), base)
    };
    let kernel = kernel::kernel_of_stage(cx, config, &definition, profile)?;
    let _stage = context::lock(cx, &stage4_lock(&definition.name))?;
    let trees = choose::trees_of_state(cx, &base.state)?;
    let recipe = Stage4Recipe::new(definition, Hooks::with_config(config.root())?, trees, on);
    let built = stage4(cx, config, &recipe, profile, &base.state, kernel.as_ref(), !base.reused)?;
    Ok((recipe, built))
}
