//! `stage build`: a stage4 definition becomes a build state.

use std::path::PathBuf;
use std::sync::Arc;

use crate::build_key::Inputs;
use crate::config::hooks::{Hooks, Phase};
use crate::config::{ConfigDir, Package, PathPattern, Stage4Definition};
use crate::context::Context;
use crate::names::refs::{stage4_lock, stage4_ref};
use crate::portage::emerge::request::{Existing, Goal};
use crate::recipe::definition::{Filled, HOOK_PHASES, HOOKS_INPUT, Stage3, network_record, script_digests, subject_of};
use crate::recipe::kernel::stage;
use crate::recipe::kernel::stage::{keeps_sources, kernel_record};
use crate::recipe::patches::applied;
use crate::recipe::patches::applied::note_patches;
use crate::recipe::realise::{Built, InSession, Recipe, in_session};
use crate::recipe::standing::parts::{Changes, Parts};
use crate::recipe::standing::{Asked, SINCE_BASE, Standing};
use crate::recipe::update::retired;
use crate::recipe::{Result, consult, definition, merge, standing, update};
use crate::session::inspect::PoolOf;
use crate::session::keys::pools::PoolUse;
use crate::session::keys::{NOTED, pools};
use crate::session::script::REMOVE;
use crate::session::work::{Given, StepsDone, Subject};
use crate::session::{hooks, relink, script, tidy, work};
use crate::store::{Purpose, Session, State};
use crate::trees::choose::PinnedTree;

/// Everything that decides what a stage4 becomes on a base.
pub(crate) struct Stage4 {
    pub(crate) definition: Stage4Definition,
    pub(crate) packages: Vec<String>,
    /// Packages of its configuration that this build leaves out, `category/name`. The definition here does not have them.
    pub(crate) skipped: Vec<String>,
    pub(crate) removes: Vec<PathPattern>,
    pub(crate) hooks: Hooks,
    pub(crate) trees: Vec<PinnedTree>,
    /// The stage3 definition that makes its base.
    pub(crate) on: Arc<Stage3>,
}

impl Stage4 {
    /// Without the packages `skip`.
    pub(crate) fn new(
        mut definition: Stage4Definition,
        hooks: Hooks,
        trees: Vec<PinnedTree>,
        on: Arc<Stage3>,
        skip: &[String],
    ) -> Self {
        let is_skipped = |name: &str| skip.iter().any(|skipped| skipped == name);
        let mut skipped: Vec<String> = names_of(&definition).filter(|name| is_skipped(name)).collect();
        skipped.sort();
        skipped.dedup();
        definition.packages.retain(|package| !name_of(&package.value).is_some_and(|name| is_skipped(&name)));
        let packages = definition.packages.iter().map(|package| package.value.to_string()).collect();
        let removes = definition.removes.iter().map(|pattern| pattern.value.clone()).collect();
        Self { definition, packages, skipped, removes, hooks, trees, on }
    }

    /// The packages about which the configuration says something else now than when `base` was made. The base does not have them, but the
    /// stage4 may get them.
    pub(crate) fn since(&self, base: &State) -> Changes {
        if base.origin.inputs().and_then(|inputs| inputs.get("configuration")) == Some(&self.on.portage.digest()) {
            return Changes::new();
        }
        let before = base.origin.parts();
        before.and_then(|before| Parts::of(&self.on.portage).changes_since(before)).unwrap_or_default()
    }

    /// Whether its state is still what would be built.
    pub(crate) fn standing(&self, cx: &Context<'_>, inputs: &Inputs) -> Result<Standing> {
        let name = stage4_ref(&self.definition.name);
        standing::standing(cx, &Asked { name: &name, inputs, parts: None, packages: &self.packages, trees: &self.trees })
    }

    /// The inputs: the base's build key, what has changed since the base was made, and the kernel's key if it has one.
    pub(crate) fn inputs(&self, base_key: &str, since: &Changes, kernel_key: Option<&str>) -> Inputs {
        let mut inputs = Inputs::new("stage4");
        if let Some(key) = kernel_key {
            inputs = inputs.with("kernel", key);
        }
        if !self.skipped.is_empty() {
            // A state that lacks something is never taken for a whole one.
            inputs = inputs.with_list("skipped", &self.skipped);
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

/// `category/name` of each of its packages that is no set.
pub(crate) fn names_of(definition: &Stage4Definition) -> impl Iterator<Item = String> {
    definition.packages.iter().filter_map(|package| name_of(&package.value))
}

pub(crate) fn name_of(package: &Package) -> Option<String> {
    match package {
        Package::Atom(atom) => Some(format!("{}/{}", atom.category, atom.package)),
        Package::Set(_) => None,
    }
}

/// A stage4 on the state of its stage3 definition, perhaps with a kernel.
pub(crate) struct Stage4Recipe<'a> {
    pub(crate) config: &'a ConfigDir,
    pub(crate) profile: &'a str,
    pub(crate) stage4: &'a Stage4,
    pub(crate) base: &'a State,
    pub(crate) kernel: Option<&'a State>,
    /// Portage was asked about it already.
    pub(crate) is_asked: bool,
    pub(crate) since: Changes,
}

impl Recipe for Stage4Recipe<'_> {
    fn name(&self) -> Option<String> {
        Some(stage4_ref(&self.stage4.definition.name))
    }

    fn lock(&self) -> String {
        stage4_lock(&self.stage4.definition.name)
    }

    fn words(&self) -> String {
        self.stage4.definition.name.clone()
    }

    fn inputs(&self) -> Inputs {
        self.stage4.inputs(&self.base.key, &self.since, self.kernel.map(|kernel| kernel.key.as_str()))
    }

    fn standing(&self, cx: &Context<'_>, inputs: &Inputs) -> Result<Standing> {
        self.stage4.standing(cx, inputs)
    }

    fn check(&self, cx: &Context<'_>) -> Result<()> {
        if self.is_asked {
            return Ok(());
        }
        let definition = &self.stage4.definition;
        let stage3 = self.config.stage3(&definition.stage3.value)?;
        consult::assert_known(cx, self.config, self.profile, &stage3, std::slice::from_ref(definition))
    }

    fn make(&self, cx: &Context<'_>) -> Result<Built> {
        in_session(cx, self)
    }
}

impl InSession for Stage4Recipe<'_> {
    type Filled = Filled;

    fn base(&self, cx: &Context<'_>) -> Result<Option<State>> {
        match self.kernel {
            Some(kernel) => stage::with_kernel(cx, self.base, kernel).map(Some),
            None => Ok(Some(self.base.clone())),
        }
    }

    fn purpose(&self) -> Purpose {
        Purpose::Stage
    }

    fn subject(&self) -> Option<String> {
        Some(subject_of(self.config, &stage4_ref(&self.stage4.definition.name)))
    }

    fn step(&self, resumed: bool) -> String {
        format!("{} stage4 {}", if resumed { "resuming" } else { "building" }, self.stage4.definition.name)
    }

    fn fill(&self, cx: &Context<'_>, session: &mut Session, base: Option<&State>) -> Result<Filled> {
        let anew = (!self.since.is_empty()).then(|| retired(self.base, &self.stage4.on));
        fill(cx, session, base.unwrap_or(self.base), self, anew.as_deref())
    }

    fn origin(&self, base: Option<&State>, filled: &Filled) -> serde_json::Value {
        let base = base.unwrap_or(self.base);
        let mut origin = serde_json::json!({
            "kind": "stage4 definition",
            "profile": self.profile,
            "definition": self.stage4.definition.name,
            "inputs": self.inputs(),
            // Not the base's pool: its world may have brought a newer compiler, and that one counts for what is built on it.
            "pool": filled.inputs,
            "portage_profile": base.origin.portage_profile(),
            "base": base.origin,
            "kernel": self.kernel.map(kernel_record),
            "isolation": filled.isolation.to_string(),
            "network": network_record(&self.stage4.definition.network),
        });
        let mut patches = Vec::new();
        if !self.since.is_empty() {
            origin["portage_files"] = serde_json::json!(self.stage4.on.portage.files.keys().collect::<Vec<_>>());
            patches = self.stage4.on.patches();
        }
        note_patches(&mut origin, &patches, &filled.patched);
        if !self.stage4.skipped.is_empty() {
            origin["skipped"] = serde_json::json!(self.stage4.skipped);
        }
        origin[NOTED] = serde_json::json!(filled.keys);
        origin
    }

    fn newest_input(&self, base: Option<&State>, _filled: &Filled) -> i64 {
        let base = base.unwrap_or(self.base);
        self.stage4.trees.iter().map(|tree| tree.newest).chain([base.newest_input]).max().unwrap_or(0)
    }
}

/// Whether a definition's state was made with the hooks of now.
fn has_these_hooks(base: &State, hooks: &Hooks) -> bool {
    base.origin.inputs().and_then(|inputs| inputs.get(HOOKS_INPUT)) == Some(&hooks.digest_of(&HOOK_PHASES))
}

/// `anew`: the base has another configuration. These are its files that the present one does not have. The present one replaces it.
fn fill(cx: &Context<'_>, session: &mut Session, base: &State, on: &Stage4Recipe<'_>, anew: Option<&[PathBuf]>) -> Result<Filled> {
    let Stage4Recipe { stage4: recipe, profile, kernel, .. } = on;
    let Stage4 { definition, packages, removes, hooks, on, .. } = recipe;
    let subject = Subject {
        log_name: format!("stage-{}", definition.name),
        profile: (*profile).to_owned(),
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
    // Where nothing came between, the base has ended with what the first hook would do.
    let is_done = anew.is_none() && kernel.is_none() && has_these_hooks(base, hooks);
    let done = if is_done { hooks.done_by_base() } else { None };
    steps.once("hooks:stage", || hooks::hooks_but(cx, &work, hooks, Phase::Stage, done))?;
    let pool = pools::choose_pool(cx, &mut work, PoolOf::recorded(&base.origin), PoolUse::Publish, packages)?;
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
    pools::tell_published(cx, &work, &pool);
    relink::relink(cx, &work)?;
    tidy::tidy(cx, &work)?;
    Ok(Filled { inputs: pool, patched, keys: work.keys.recorded(), isolation: cx.launcher.isolation() })
}
