//! `stage build`: a stage4 definition becomes a build state, and the state a signed artifact.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::artifact::{Artifact, ExportOptions};
use super::definition::{Built, Filled, Recipe, definition_lock, network_record, profile_lock, script_digests, subject_of};
use super::engine::Engine;
use super::error::Result;
use super::inspect::PoolOf;
use super::kernel::{keeps_sources, kernel_record};
use super::key::Inputs;
use super::keys::{NOTED, PoolUse};
use super::patch::note_patches;
use super::pipeline::PipelineOptions;
use super::profile::retired;
use super::script::REMOVE;
use super::standing::{Asked, Changes, Parts, SINCE_BASE, Standing};
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
    /// Packages with patches, and what became of these; see [`super::patch::PatchedPackage`]. Null where there are none.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub patched: serde_json::Value,
    /// The files, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Artifact>,
}

/// All that decides what a stage4 becomes on a base.
pub(super) struct Stage4Recipe {
    pub(super) definition: Stage4Definition,
    pub(super) packages: Vec<String>,
    pub(super) removes: Vec<PathPattern>,
    pub(super) hooks: Hooks,
    pub(super) trees: Vec<PinnedTree>,
    /// What its base is made by.
    pub(super) on: Arc<Recipe>,
}

impl Stage4Recipe {
    pub(super) fn new(definition: Stage4Definition, hooks: Hooks, trees: Vec<PinnedTree>, on: Arc<Recipe>) -> Self {
        let packages = definition.packages.iter().map(|package| package.value.to_string()).collect();
        let removes = definition.removes.iter().map(|pattern| pattern.value.clone()).collect();
        Self { definition, packages, removes, hooks, trees, on }
    }

    /// About which packages something else is said now than when `base` was made, which does not have them. The stage4 may get them.
    pub(super) fn since(&self, base: &State) -> Changes {
        if base.origin["inputs"]["configuration"] == self.on.portage.digest() {
            return Changes::new();
        }
        let before = Parts::noted(&base.origin);
        before.and_then(|before| Parts::of(&self.on.portage).changes_since(&before)).unwrap_or_default()
    }

    /// What goes in, on a base with this build key, what has changed since that was made, and with a kernel of that, if it has one.
    pub(super) fn inputs(&self, base_key: &str, since: &Changes, kernel_key: Option<&str>) -> Inputs {
        let mut inputs = Inputs::new("stage4");
        if let Some(key) = kernel_key {
            inputs = inputs.with("kernel", key);
        }
        if !since.is_empty() {
            inputs = inputs.with_list(SINCE_BASE, since.iter().map(|(name, digest)| format!("{name}={digest}")));
        }
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
        let profile = self.profile_of(&definition.profile)?;
        let env = config.env(&self.settings.arch)?;
        // An hour of building must not end with "no secret key".
        let gpg = options.gpg.as_ref().filter(|_| options.export);
        let signer = self.signer(env.sign_key.map(|key| key.value), gpg)?;
        if signer.is_some() && !self.is_built(config, options) {
            self.try_signer(signer.as_ref())?;
        }
        let _profile = self.lock_shared(&profile_lock(&profile))?;
        let built = self.stage_states(config, definition, &profile);
        let (recipe, built) = built.map_err(|error| self.with_proposal(config, &options.name, &profile, error))?;
        let export = ExportOptions { signer, ..ExportOptions::of(Some(&recipe.definition), options.format, &env.arch) };
        let artifact = if options.export {
            let _stage = self.lock(&stage4_lock(&options.name))?;
            let target = self.target(Some(&options.name), "stage4", &built.state, &export);
            Some(self.export(&options.name, target, &built.state, &export)?)
        } else {
            None
        };
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
        let StageOptions { name, format, gpg, .. } = options.clone();
        self.pipeline(config, PipelineOptions { names: vec![name], format, gpg }).is_ok_and(|pipeline| pipeline.is_current())
    }

    fn stage_states(&self, config: &ConfigDir, definition: Stage4Definition, profile: &str) -> Result<(Stage4Recipe, Built)> {
        let stage3 = definition.stage3.value.clone();
        let (on, base) = {
            let _definition = self.lock(&definition_lock(profile, &stage3))?;
            let upstream = self.upstream(profile)?;
            let ahead = definition.packages.iter().map(|package| package.value.to_string()).collect();
            let recipe = Recipe { ahead, ..self.recipe(config, &stage3, &upstream)? };
            let base = self.definition_by(config, profile, &upstream, &recipe, std::slice::from_ref(&definition))?;
            (Arc::new(recipe), base)
        };
        let kernel = self.kernel_of_stage(config, &definition, profile)?;
        let _stage = self.lock(&stage4_lock(&definition.name))?;
        let trees = self.trees_of_state(&base.state)?;
        let recipe = Stage4Recipe::new(definition, Hooks::with_config(config.root())?, trees, on);
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
        let since = recipe.since(base);
        let inputs = recipe.inputs(&base.key, &since, kernel.map(|kernel| kernel.key.as_str()));
        let key = inputs.key();
        if let Some(state) = self.store.state_by_key(&key)? {
            self.store.ref_set(&stage4_ref(name), &state.id)?;
            return Ok(Built { state, reused: true });
        }
        if let Standing::Same(state) = self.standing_stage4(recipe, &inputs)? {
            self.note(&format!("nothing that has changed concerns {name}"));
            self.store.ref_set(&stage4_ref(name), &state.id)?;
            return Ok(Built { state, reused: true });
        }
        if !is_asked {
            let stage3 = config.stage3(&recipe.definition.stage3.value)?;
            self.assert_known(config, profile, &stage3, std::slice::from_ref(&recipe.definition))?;
        }
        let anew = (!since.is_empty()).then(|| retired(base, &recipe.on));
        let with_kernel = kernel.map(|kernel| self.with_kernel(base, kernel)).transpose()?;
        let base = with_kernel.as_ref().unwrap_or(base);
        let (mut session, resumed) = self.open_session(base, Purpose::Stage, &key, &subject_of(config, &stage4_ref(name)))?;
        self.step(&format!("{} stage4 {name}", if resumed { "resuming" } else { "building" }));
        let filled = self.fill_stage4(&mut session, base, recipe, profile, kernel, anew.as_deref());
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
            let mut patches = Vec::new();
            if anew.is_some() {
                origin["portage_files"] = serde_json::json!(recipe.on.portage.files.keys().collect::<Vec<_>>());
                patches = recipe.on.patches();
            }
            note_patches(&mut origin, &patches, &patched);
            origin[NOTED] = serde_json::json!(keys);
            Ok(session.commit(NewState { key: key.clone(), origin, newest_input, parent: Some(base.id.clone()) })?)
        })?;
        self.store.ref_set(&stage4_ref(name), &state.id)?;
        Ok(Built { state, reused: false })
    }

    /// Whether the state of a stage4 stays what it would be.
    pub(super) fn standing_stage4(&self, recipe: &Stage4Recipe, inputs: &Inputs) -> Result<Standing> {
        let name = stage4_ref(&recipe.definition.name);
        self.standing(&Asked { name: &name, inputs, parts: None, packages: &recipe.packages, trees: &recipe.trees })
    }

    /// `anew`: the base has another configuration, with these files, which nothing brings any more; the present one is put in its place.
    fn fill_stage4(
        &self,
        session: &mut Session,
        base: &State,
        recipe: &Stage4Recipe,
        profile: &str,
        kernel: Option<&State>,
        anew: Option<&[PathBuf]>,
    ) -> Result<Filled> {
        let Stage4Recipe { definition, packages, removes, hooks, on, .. } = recipe;
        let subject = Subject {
            log_name: format!("stage-{}", definition.name),
            profile: profile.to_owned(),
            definition: definition.name.clone(),
        };
        let mut steps = StepsDone::of(session)?;
        let portage = anew.map(|_| &on.portage);
        let given = Given { hooks: Some(hooks), trees: Some(&recipe.trees), portage, ..Given::default() };
        let mut work = self.work(session, base, &subject, given)?;
        let resumed = steps.any();
        if let Some(retired) = anew {
            steps.once("retire", || self.retire(&work, retired))?;
            steps.once("apply", || self.apply(&work, on))?;
            steps.once("hooks:prepare", || self.hooks(&work, hooks, Phase::Prepare))?;
        }
        let network = definition.network.everything.is_some();
        if let Some(kernel) = kernel {
            if !keeps_sources(definition.keep.iter().map(|pattern| pattern.value.to_string())) {
                self.show_headers(&mut work, kernel)?;
            }
            steps.once("kernel", || self.mark_modules(&work))?;
        }
        steps.once("hooks:stage", || self.hooks(&work, hooks, Phase::Stage))?;
        let pool = self.choose_pool(&mut work, PoolOf::recorded(&base.origin), PoolUse::Publish)?;
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
