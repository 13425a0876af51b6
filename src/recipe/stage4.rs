//! `stage build`: a stage4 definition becomes a build state, and the state a signed artifact.

use std::path::PathBuf;
use std::sync::Arc;

use crate::build_key::Inputs;
use crate::config::hooks::{Hooks, Phase};
use crate::config::{ConfigDir, PathPattern, Stage4Definition};
use crate::context::Context;
use crate::error::Result;
use crate::names::refs::stage4_ref;
use crate::portage::emerge::request::{Existing, Goal};
use crate::recipe::definition::{Built, Filled, Recipe, network_record, script_digests, subject_of};
use crate::recipe::kernel::stage;
use crate::recipe::kernel::stage::{keeps_sources, kernel_record};
use crate::recipe::patches::applied;
use crate::recipe::patches::applied::note_patches;
use crate::recipe::standing::parts::{Changes, Parts};
use crate::recipe::standing::{Asked, SINCE_BASE, Standing};
use crate::recipe::update::retired;
use crate::recipe::{consult, definition, merge, settle, standing, update};
use crate::session::inspect::PoolOf;
use crate::session::keys::{NOTED, PoolUse};
use crate::session::script::REMOVE;
use crate::session::work::{Given, StepsDone, Subject};
use crate::session::{hooks, keys, open, relink, script, tidy, work};
use crate::store::{NewState, Purpose, Session, State};
use crate::trees::choose::PinnedTree;

/// All that decides what a stage4 becomes on a base.
pub(crate) struct Stage4Recipe {
    pub(crate) definition: Stage4Definition,
    pub(crate) packages: Vec<String>,
    pub(crate) removes: Vec<PathPattern>,
    pub(crate) hooks: Hooks,
    pub(crate) trees: Vec<PinnedTree>,
    /// What its base is made by.
    pub(crate) on: Arc<Recipe>,
}

impl Stage4Recipe {
    pub(crate) fn new(definition: Stage4Definition, hooks: Hooks, trees: Vec<PinnedTree>, on: Arc<Recipe>) -> Self {
        let packages = definition.packages.iter().map(|package| package.value.to_string()).collect();
        let removes = definition.removes.iter().map(|pattern| pattern.value.clone()).collect();
        Self { definition, packages, removes, hooks, trees, on }
    }

    /// About which packages something else is said now than when `base` was made, which does not have them. The stage4 may get them.
    pub(crate) fn since(&self, base: &State) -> Changes {
        if base.origin["inputs"]["configuration"] == self.on.portage.digest() {
            return Changes::new();
        }
        let before = Parts::noted(&base.origin);
        before.and_then(|before| Parts::of(&self.on.portage).changes_since(&before)).unwrap_or_default()
    }

    /// What goes in, on a base with this build key, what has changed since that was made, and with a kernel of that, if it has one.
    pub(crate) fn inputs(&self, base_key: &str, since: &Changes, kernel_key: Option<&str>) -> Inputs {
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

/// The state of a stage4 on `base`: reused when nothing that goes in has changed, else built; its name is moved there. The caller holds
/// the lock on the profile, shared, and that on the stage4, and says whether Portage was asked about it already.
pub(crate) fn stage4(
    cx: &Context<'_>,
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
    if let Some(state) = cx.store.state_by_key(&key)? {
        cx.store.ref_set(&stage4_ref(name), &state.id)?;
        return Ok(Built { state, reused: true });
    }
    if let Standing::Same(state) = standing_stage4(cx, recipe, &inputs)? {
        cx.observer.note(&format!("nothing that has changed concerns {name}"));
        cx.store.ref_set(&stage4_ref(name), &state.id)?;
        return Ok(Built { state, reused: true });
    }
    if !is_asked {
        let stage3 = config.stage3(&recipe.definition.stage3.value)?;
        consult::assert_known(cx, config, profile, &stage3, std::slice::from_ref(&recipe.definition))?;
    }
    let anew = (!since.is_empty()).then(|| retired(base, &recipe.on));
    let with_kernel = kernel.map(|kernel| stage::with_kernel(cx, base, kernel)).transpose()?;
    let base = with_kernel.as_ref().unwrap_or(base);
    let (mut session, resumed) = open::open_session(cx, base, Purpose::Stage, &key, &subject_of(config, &stage4_ref(name)))?;
    cx.observer.step(&format!("{} stage4 {name}", if resumed { "resuming" } else { "building" }));
    let filled = fill_stage4(cx, &mut session, base, recipe, profile, kernel, anew.as_deref());
    let newest_input = recipe.trees.iter().map(|tree| tree.newest).chain([base.newest_input]).max().unwrap_or(0);
    let state = settle::settle(cx, filled, session, |session, Filled { inputs: pool, patched, keys }| {
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
        crate::session::binhost::note_packages(&mut origin, &session);
        let mut patches = Vec::new();
        if anew.is_some() {
            origin["portage_files"] = serde_json::json!(recipe.on.portage.files.keys().collect::<Vec<_>>());
            patches = recipe.on.patches();
        }
        note_patches(&mut origin, &patches, &patched);
        origin[NOTED] = serde_json::json!(keys);
        Ok(session.commit(NewState { key: key.clone(), origin, newest_input, parent: Some(base.id.clone()) })?)
    })?;
    cx.store.ref_set(&stage4_ref(name), &state.id)?;
    Ok(Built { state, reused: false })
}

/// Whether the state of a stage4 stays what it would be.
pub(crate) fn standing_stage4(cx: &Context<'_>, recipe: &Stage4Recipe, inputs: &Inputs) -> Result<Standing> {
    let name = stage4_ref(&recipe.definition.name);
    standing::standing(cx, &Asked { name: &name, inputs, parts: None, packages: &recipe.packages, trees: &recipe.trees })
}

/// `anew`: the base has another configuration, with these files, which nothing brings any more; the present one is put in its place.
fn fill_stage4(
    cx: &Context<'_>,
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
    let mut work = work::work(cx, session, base, &subject, given)?;
    let resumed = steps.any();
    if let Some(retired) = anew {
        steps.once("retire", || update::retire(cx, &work, retired))?;
        steps.once("apply", || definition::apply(cx, &work, on))?;
        steps.once("hooks:prepare", || hooks::hooks(cx, &work, hooks, Phase::Prepare))?;
    }
    let network = definition.network.everything.is_some();
    if let Some(kernel) = kernel {
        if !keeps_sources(definition.keep.iter().map(|pattern| pattern.value.to_string())) {
            stage::show_headers(cx, &mut work, kernel)?;
        }
        steps.once("kernel", || stage::mark_modules(cx, &work))?;
    }
    steps.once("hooks:stage", || hooks::hooks(cx, &work, hooks, Phase::Stage))?;
    let pool = keys::choose_pool(cx, &mut work, PoolOf::recorded(&base.origin), PoolUse::Publish)?;
    if !packages.is_empty() {
        let goal = Goal::Packages { atoms: packages.clone(), existing: Existing::Update, oneshot: false };
        merge::emerge_goal(cx, &work, &mut steps, "packages", goal, resumed, network)?;
    }
    let patched = applied::bring_patches(cx, &work, &mut steps, resumed, network)?;
    if let Some(kernel) = kernel {
        stage::rebuild_modules(cx, &work, &mut steps, kernel, resumed)?;
    }
    for script in &definition.scripts {
        steps.once(&format!("script:{}", script.name.value), || script::script(cx, &work, script, network))?;
    }
    steps.once("removes", || script::remove(cx, &work, removes))?;
    steps.once("hooks:finish", || hooks::hooks(cx, &work, hooks, Phase::Finish))?;
    keys::tell_published(cx, &work, &pool);
    relink::relink(cx, &work)?;
    tidy::tidy(cx, &work)?;
    Ok(Filled { inputs: pool, patched, keys: work.keys.recorded() })
}
