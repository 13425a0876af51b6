//! `stage build`: a stage4 definition becomes a build state, and the state a signed artifact.

use serde::Serialize;

use super::artifact::{Artifact, ExportOptions};
use super::definition::{Built, Filled, Recipe, definition_lock, network_record, profile_lock, script_digests, subject_of};
use super::engine::Engine;
use super::error::Result;
use super::kernel::{keeps_sources, kernel_record};
use super::key::Inputs;
use super::keys::{NOTED, PoolUse};
use super::patch::note_patches;
use super::pipeline::PipelineOptions;
use super::script::REMOVE;
use super::tree::PinnedTree;
use super::work::{Given, StepsDone, Subject};
use crate::config::hooks::{Hooks, Phase};
use crate::config::{ArtifactFormat, ConfigDir, PathPattern, Stage4Definition};
use crate::portage::emerge::request::{Existing, Goal};
use crate::stage3::sign::Gpg;
use crate::store::{NewState, Purpose, Session, State};

/// What to build and how to export it.
#[derive(Debug, Clone)]
pub struct StageOptions {
    /// The stage4 definition.
    pub name: String,
    /// Form and compression; the definition's if `None`.
    pub format: Option<ArtifactFormat>,
    /// The `gpg` to sign with; `None` leaves the artifact unsigned.
    pub gpg: Option<Gpg>,
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
    /// Packages with patches, and what became of these; see [`super::patch::PatchedPackage`]. Null where there are none.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub patched: serde_json::Value,
    /// The files.
    pub artifact: Artifact,
}

/// All that decides what a stage4 becomes on a base.
pub(super) struct Stage4Recipe {
    pub(super) definition: Stage4Definition,
    pub(super) packages: Vec<String>,
    pub(super) removes: Vec<PathPattern>,
    pub(super) hooks: Hooks,
    pub(super) trees: Vec<PinnedTree>,
}

impl Stage4Recipe {
    pub(super) fn new(definition: Stage4Definition, hooks: Hooks, trees: Vec<PinnedTree>) -> Self {
        let packages = definition.packages.iter().map(|package| package.value.to_string()).collect();
        let removes = definition.removes.iter().map(|pattern| pattern.value.clone()).collect();
        Self { definition, packages, removes, hooks, trees }
    }

    /// What goes in, on a base with this build key and with a kernel of that, if it has one.
    pub(super) fn inputs(&self, base_key: &str, kernel_key: Option<&str>) -> Inputs {
        let inputs = Inputs::new("stage4");
        let inputs = kernel_key.into_iter().fold(inputs, |inputs, key| inputs.with("kernel", key));
        inputs
            .with("parent", base_key)
            .with("definition", self.definition.name.as_str())
            .with_list("packages", &self.packages)
            .with_list("scripts", script_digests(&self.definition.scripts))
            .with_list("removes", self.removes.iter().map(ToString::to_string))
            .with("remover", REMOVE)
            .with("hooks", self.hooks.digest_of(&[Phase::Stage, Phase::Finish]))
            .with_list("trees", self.trees.iter().map(|tree| format!("{}={}", tree.name, tree.digest)))
            .with("network", network_record(&self.definition.network).to_string())
    }
}

/// The lock on a stage4's name and artifacts; taken after those on the profile and the definition, and so named to follow them.
pub(super) fn stage4_lock(name: &str) -> String {
    format!("stage4/{name}")
}

/// Name of the ref of a stage4's state.
pub(super) fn stage4_ref(name: &str) -> String {
    format!("stage4/{name}")
}

impl Engine<'_> {
    /// Builds the stage3 definition it names, the stage4 on that, and exports it.
    pub fn stage_build(&self, config: &ConfigDir, options: &StageOptions) -> Result<StageBuilt> {
        let definition = config.stage4(&options.name)?;
        let _shared = self.share_store()?;
        let profile = self.profile_or_default(Some(&definition.profile.value))?;
        let env = config.env(&self.settings.arch)?;
        // An hour of building must not end with "no secret key".
        let signer = self.signer(env.sign_key.map(|key| key.value), options.gpg.as_ref())?;
        if signer.is_some() && !self.is_built(config, options) {
            self.try_signer(signer.as_ref())?;
        }
        let _profile = self.lock_shared(&profile_lock(&profile))?;
        let built = self.stage_states(config, definition, &profile);
        let (recipe, built) = built.map_err(|error| self.with_proposal(config, &options.name, &profile, error))?;
        let export = ExportOptions { signer, ..ExportOptions::of(Some(&recipe.definition), options.format, &env.arch) };
        let _stage = self.lock(&stage4_lock(&options.name))?;
        let target = self.target(Some(&options.name), "stage4", &built.state, &export);
        let artifact = self.export(&options.name, target, &built.state, &export)?;
        let patched = built.state.origin["patched"].clone();
        Ok(StageBuilt {
            name: options.name.clone(),
            state: built.state.id.to_string(),
            state_reused: built.reused,
            patched,
            artifact,
        })
    }

    /// Whether nothing is to be done, not even to sign. What cannot be told will be said by the build.
    fn is_built(&self, config: &ConfigDir, options: &StageOptions) -> bool {
        let StageOptions { name, format, gpg } = options.clone();
        self.pipeline(config, PipelineOptions { names: vec![name], format, gpg }).is_ok_and(|pipeline| pipeline.is_current())
    }

    fn stage_states(&self, config: &ConfigDir, definition: Stage4Definition, profile: &str) -> Result<(Stage4Recipe, Built)> {
        let stage3 = definition.stage3.value.clone();
        let base = {
            let _definition = self.lock(&definition_lock(profile, &stage3))?;
            let upstream = self.upstream(profile)?;
            let ahead = definition.packages.iter().map(|package| package.value.to_string()).collect();
            let recipe = Recipe { ahead, ..self.recipe(config, &stage3, &upstream)? };
            self.definition_by(config, profile, &upstream, &recipe, std::slice::from_ref(&definition))?
        };
        let kernel = self.kernel_of_stage(config, &definition, profile)?;
        let _stage = self.lock(&stage4_lock(&definition.name))?;
        let recipe = Stage4Recipe::new(definition, Hooks::with_config(config.root())?, self.trees_of_state(&base.state)?);
        let built = self.stage4(config, &recipe, profile, &base.state, kernel.as_ref(), !base.reused)?;
        Ok((recipe, built))
    }

    /// The state of a stage4 on `base`: reused when nothing that goes in has changed, else built; its name is moved there. The caller holds
    /// the lock on the profile, shared, and that on the stage4, and says whether Portage was asked about it already.
    pub(super) fn stage4(
        &self,
        config: &ConfigDir,
        recipe: &Stage4Recipe,
        profile: &str,
        base: &State,
        kernel: Option<&State>,
        is_asked: bool,
    ) -> Result<Built> {
        let name = &recipe.definition.name;
        let inputs = recipe.inputs(&base.key, kernel.map(|kernel| kernel.key.as_str()));
        let key = inputs.key();
        if let Some(state) = self.store.state_by_key(&key)? {
            self.store.ref_set(&stage4_ref(name), &state.id)?;
            return Ok(Built { state, reused: true });
        }
        if !is_asked {
            let stage3 = config.stage3(&recipe.definition.stage3.value)?;
            self.assert_known(config, profile, &stage3, std::slice::from_ref(&recipe.definition))?;
        }
        let with_kernel = kernel.map(|kernel| self.with_kernel(base, kernel)).transpose()?;
        let base = with_kernel.as_ref().unwrap_or(base);
        let (mut session, resumed) = self.open_session(base, Purpose::Stage, &key, &subject_of(config, &stage4_ref(name)))?;
        self.step(&format!("{} stage4 {name}", if resumed { "resuming" } else { "building" }));
        let filled = self.fill_stage4(&mut session, base, recipe, profile, kernel);
        let newest_input = recipe.trees.iter().map(|tree| tree.newest).chain([base.newest_input]).max().unwrap_or(0);
        let state = self.settle(filled, session, |session, Filled { inputs: pool, patched, keys }| {
            let mut origin = serde_json::json!({
                "kind": "stage4 definition",
                "profile": profile,
                "definition": name,
                "inputs": inputs,
                // Not the base's: what its world brought, such as a newer compiler, counts for what is built on it.
                "pool": pool,
                "portage_profile": base.origin["portage_profile"],
                "base": base.origin,
                "kernel": kernel.map(kernel_record),
                "isolation": crate::host::rung(),
                "network": network_record(&recipe.definition.network),
            });
            super::binhost::note_packages(&mut origin, &session);
            note_patches(&mut origin, &[], &patched);
            origin[NOTED] = serde_json::json!(keys);
            Ok(session.commit(NewState { key: key.clone(), origin, newest_input, parent: Some(base.id.clone()) })?)
        })?;
        self.store.ref_set(&stage4_ref(name), &state.id)?;
        Ok(Built { state, reused: false })
    }

    fn fill_stage4(
        &self,
        session: &mut Session,
        base: &State,
        recipe: &Stage4Recipe,
        profile: &str,
        kernel: Option<&State>,
    ) -> Result<Filled> {
        let Stage4Recipe { definition, packages, removes, hooks, .. } = recipe;
        let subject = Subject {
            log_name: format!("stage-{}", definition.name),
            profile: profile.to_owned(),
            definition: definition.name.clone(),
        };
        let mut steps = StepsDone::of(session)?;
        let mut work =
            self.work(session, base, &subject, Given { hooks: Some(hooks), trees: Some(&recipe.trees), ..Given::default() })?;
        let resumed = steps.any();
        let network = definition.network.everything.is_some();
        if let Some(kernel) = kernel {
            if !keeps_sources(definition.keep.iter().map(|pattern| pattern.value.to_string())) {
                self.show_headers(&mut work, kernel)?;
            }
            steps.once("kernel", || self.mark_modules(&work))?;
        }
        steps.once("hooks:stage", || self.hooks(&work, hooks, Phase::Stage))?;
        let portage_profile = base.origin["portage_profile"].as_str().unwrap_or_default().to_owned();
        let pool = self.choose_pool(&mut work, &portage_profile, PoolUse::Publish)?;
        if !packages.is_empty() {
            let goal = Goal::Packages { atoms: packages.clone(), existing: Existing::Update, oneshot: false };
            self.emerge_goal(&work, &mut steps, "packages", goal, resumed, network)?;
        }
        let patched = self.bring_patches(&work, &mut steps, resumed, network)?;
        if let Some(kernel) = kernel {
            self.rebuild_modules(&work, &mut steps, kernel, resumed)?;
        }
        for script in &definition.scripts {
            steps.once(&format!("script:{}", script.name.value), || self.script(&work, script, network))?;
        }
        steps.once("removes", || self.remove(&work, removes))?;
        steps.once("hooks:finish", || self.hooks(&work, hooks, Phase::Finish))?;
        self.tell_published(&work, &pool);
        self.relink(&work)?;
        self.tidy(&work)?;
        Ok(Filled { inputs: pool, patched, keys: work.keys.recorded() })
    }
}
