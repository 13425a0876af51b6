//! Applies a stage3 definition to a profile's upstream state: one build state for each (profile, definition), shared by every
//! stage4 that names it. The builder is one of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rustix::fs::FileType;
use sha2::{Digest as _, Sha256};

use crate::beneath::RootDir;
use crate::build_key::Inputs;
use crate::config::cpu::CpuInfo;
use crate::config::hooks::{Hooks, Phase};
use crate::config::patches::PatchRecord;
use crate::config::{
    BUILDER, BinaryPackages, ConfigDir, NetworkUse, PortageDir, REPOS_DIR, Stage3Definition, Stage4Definition, UserScript, cpu,
};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::names::profiles::upstream;
use crate::names::refs::ref_name;
use crate::portage::binpkgs::{PackageKey, PoolInputs};
use crate::portage::emerge::request::{Existing, Goal};
use crate::portage::profile::PortageProfile;
use crate::recipe::merge::{emerge_goal, emerge_live, live_goal};
use crate::recipe::patches::applied::{PatchedPackage, note_patches};
use crate::recipe::patches::{applied, rehearse};
use crate::recipe::standing::parts::Parts;
use crate::recipe::standing::{Asked, Standing};
use crate::recipe::{consult, definition, settle, standing};
use crate::sandbox::plan::Network;
use crate::session::emerge::request_in;
use crate::session::hooks::hooks;
use crate::session::inspect::PoolOf;
use crate::session::keys::{NOTED, PoolUse, choose_pool};
use crate::session::open::open_session;
use crate::session::relink::relink;
use crate::session::root::{HOOKS_DIR, PORTAGE_DIR};
use crate::session::supply::downloads::Downloads;
use crate::session::tidy::tidy;
use crate::session::work::{APPLY_NAME, Given, StepsDone, Subject, note_emerge_opts};
use crate::session::{Work, keys, run, script, work};
use crate::store::{NewState, Purpose, Session, State};
use crate::trees::choose;
use crate::trees::choose::PinnedTree;

/// A state that was asked for.
#[derive(Debug, Clone)]
pub struct Built {
    /// The state.
    pub state: State,
    /// Whether it was there already.
    pub reused: bool,
}

/// All that decides what a definition becomes.
pub(crate) struct Recipe {
    pub(crate) definition: Stage3Definition,
    pub(crate) portage: PortageDir,
    pub(crate) downloads: Downloads,
    pub(crate) packages: Vec<String>,
    pub(crate) hooks: Hooks,
    pub(crate) trees: Vec<PinnedTree>,
    pub(crate) portage_profile: String,
    /// Packages that are built on it next, if it is built for their sake: their patches are tried first, too.
    pub(crate) ahead: Vec<String>,
}

/// The state of `definition` on `profile`: reused when nothing that goes in has changed, else built. The caller holds the
/// profile's lock, exclusively or together with that of the definition.
pub(crate) fn definition(cx: &Context<'_>, config: &ConfigDir, profile: &str, definition: &str) -> Result<Built> {
    let upstream = upstream(cx, profile)?;
    let recipe = recipe(cx, config, definition, &upstream)?;
    definition_by(cx, config, profile, &upstream, &recipe, &[])
}

/// As [`definition`], by a recipe that was read already. Portage is asked about `stage4s`, too, before anything is built: it is
/// for their sake.
pub(crate) fn definition_by(
    cx: &Context<'_>,
    config: &ConfigDir,
    profile: &str,
    upstream: &State,
    recipe: &Recipe,
    stage4s: &[Stage4Definition],
) -> Result<Built> {
    let definition = recipe.definition.name.as_str();
    let inputs = recipe.inputs(upstream, definition);
    let key = inputs.key();
    let name = ref_name(profile, definition);
    if let Some(state) = cx.store.state_by_key(&key)? {
        name_definition(cx, profile, definition, &state)?;
        return Ok(Built { state, reused: true });
    }
    if let Standing::Same(state) = standing_definition(cx, recipe, &name, &inputs)? {
        cx.observer.note(&format!("nothing that has changed concerns {definition} on {profile}"));
        // After a rollback it is another one than the name's.
        name_definition(cx, profile, definition, &state)?;
        return Ok(Built { state, reused: true });
    }
    for unknown in check_cpu(cx, definition, recipe)? {
        cx.observer.note(&unknown.to_string());
    }
    consult::assert_known(cx, config, profile, &recipe.definition, stage4s)?;
    let (mut session, resumed) = open_session(
        cx,
        upstream,
        if definition == BUILDER { Purpose::Bootstrap } else { Purpose::Stage },
        &key,
        &subject_of(config, &name),
    )?;
    if resumed {
        cx.observer.step(&format!("resuming {definition} on {profile}"));
    } else {
        cx.observer.step(&format!("building {definition} on {profile}"));
    }
    let subject =
        Subject { log_name: format!("{profile}-{definition}"), profile: profile.to_owned(), definition: definition.to_owned() };
    let filled = fill(cx, &mut session, upstream, recipe, &subject);
    let pool = settle::settle(cx, filled, session, |session, pool: Filled| {
        let newest_input = recipe.newest_input(upstream);
        let mut origin = recipe.origin(profile, &inputs, &pool.inputs, upstream);
        crate::session::binhost::note_packages(&mut origin, &session);
        note_patches(&mut origin, &recipe.patches(), &pool.patched);
        origin[NOTED] = serde_json::json!(pool.keys);
        Ok(session.commit(NewState { key: key.clone(), origin, newest_input, parent: Some(upstream.id.clone()) })?)
    })?;
    cx.store.ref_set(&name, &pool.id)?;
    Ok(Built { state: pool, reused: false })
}

/// Whether the state of a definition stays what it would be. The builder never does: sources of kernels are chosen and installed on it, by
/// the configuration that it has.
pub(crate) fn standing_definition(cx: &Context<'_>, recipe: &Recipe, name: &str, inputs: &Inputs) -> Result<Standing> {
    if recipe.definition.name == BUILDER {
        return Ok(Standing::Other);
    }
    let parts = Parts::of(&recipe.portage);
    standing::standing(cx, &Asked { name, inputs, parts: Some(&parts), packages: &recipe.packages, trees: &recipe.trees })
}

/// Points the name of a definition at a state that was there already.
pub(crate) fn name_definition(cx: &Context<'_>, profile: &str, definition: &str, state: &State) -> Result<()> {
    let name = ref_name(profile, definition);
    if let Some(before) = cx.store.ref_get(&name)?.filter(|before| *before != state.id) {
        // Nothing is built, so that nothing else would tell; after a rollback this goes forward again.
        cx.observer.note(&format!("{definition} on {profile} is {}, as the configuration says (it was {before})", state.id));
    }
    Ok(cx.store.ref_set(&name, &state.id)?)
}

pub(crate) fn recipe(cx: &Context<'_>, config: &ConfigDir, name: &str, upstream: &State) -> Result<Recipe> {
    recipe_with(cx, config, name, upstream, Hooks::with_config(config.root())?)
}

/// As [`recipe`], with the hooks that all definitions have in common.
pub(crate) fn recipe_with(cx: &Context<'_>, config: &ConfigDir, name: &str, upstream: &State, hooks: Hooks) -> Result<Recipe> {
    let definition = config.stage3(name)?;
    let portage = config.portage_dir(&definition)?;
    let packages = definition.packages.iter().map(|package| package.value.to_string()).collect();
    let trees = choose::trees_for(cx, &portage)?;
    let portage_profile = match &definition.portage_profile {
        Some(profile) => {
            let PortageProfile { repository, path } = &profile.value;
            let tree = trees.iter().find(|tree| tree.name == *repository);
            let is_profile = |tree: &PinnedTree| {
                let found = RootDir::open(&tree.path).and_then(|root| root.leads_to(format!("profiles/{path}")));
                matches!(found, Ok(Some(FileType::Directory)))
            };
            if !tree.is_some_and(is_profile) {
                return Err(Error::NoPortageProfile { profile: path.clone(), tree: repository.clone(), place: profile.place() });
            }
            format!("{repository}:{path}")
        }
        // The stage3 comes with a profile set; which, only its own link knows.
        None => stage3_profile(&cx.store.lower_dirs(upstream)),
    };
    let mut downloads = Downloads::of(&portage, &cx.store.lower_dirs(upstream));
    if definition.binary_packages.no_hosts.is_some() {
        downloads.forget_hosts();
    }
    Ok(Recipe { definition, portage, downloads, packages, hooks, trees, portage_profile, ahead: Vec::new() })
}

/// Refuses what this machine cannot execute; what it may not be able to, nobody knows.
pub(crate) fn check_cpu(cx: &Context<'_>, definition: &str, recipe: &Recipe) -> Result<Vec<cpu::Reason>> {
    cpu::host_can_run(&recipe.portage, &CpuInfo::parse(&cx.settings.cpuinfo))
        .map_err(|reasons| Error::Cpu { definition: definition.to_owned(), reasons })
}

fn fill(cx: &Context<'_>, session: &mut Session, upstream: &State, recipe: &Recipe, subject: &Subject) -> Result<Filled> {
    let mut steps = StepsDone::of(session)?;
    let mut work = work::work(cx, session, upstream, subject, recipe.given())?;
    let resumed = steps.any();
    steps.once("apply", || apply(cx, &work, recipe))?;
    steps.once("hooks:prepare", || hooks(cx, &work, &recipe.hooks, Phase::Prepare))?;
    let inputs = choose_pool(cx, &mut work, recipe.pool_of(), PoolUse::Publish)?;
    let network = recipe.definition.network.everything.is_some();
    let mut goals = vec![("world", Goal::RebuildWorld)];
    if !recipe.packages.is_empty() {
        goals.push(("packages", Goal::Packages { atoms: recipe.packages.clone(), existing: Existing::Update, oneshot: false }));
    }
    // Of all at once: no key is made after something of the run was executed.
    for goal in live_goal(recipe).iter().chain(goals.iter().map(|(_, goal)| goal)) {
        keys::foresee_and_learn(cx, &work, &request_in(cx, &work, goal.clone()))?;
    }
    steps.once("patches ahead", || rehearse::rehearse_ahead(cx, &work, &recipe.ahead))?;
    emerge_live(cx, &work, &mut steps, recipe, resumed)?;
    for (name, goal) in goals {
        emerge_goal(cx, &work, &mut steps, name, goal, resumed, network)?;
        // Before the definition's packages.
        if name == "world" {
            steps.once("hooks:after-world", || hooks(cx, &work, &recipe.hooks, Phase::AfterWorld))?;
        }
    }
    let patched = applied::bring_patches(cx, &work, &mut steps, resumed, network)?;
    Ok(Filled { patched, ..finish_definition(cx, &work, &mut steps, recipe, inputs)? })
}

/// What comes once all packages of a definition are installed: hooks, scripts, publishing, and making the session fit to be a layer.
pub(crate) fn finish_definition(
    cx: &Context<'_>,
    work: &Work<'_>,
    steps: &mut StepsDone,
    recipe: &Recipe,
    inputs: PoolInputs,
) -> Result<Filled> {
    let network = recipe.definition.network.everything.is_some();
    for script in &recipe.definition.scripts {
        steps.once(&format!("script:{}", script.name.value), || script::script(cx, work, script, network))?;
    }
    steps.once("hooks:finish", || hooks(cx, work, &recipe.hooks, Phase::Finish))?;
    keys::tell_published(cx, work, &inputs);
    relink(cx, work)?;
    tidy(cx, work)?;
    Ok(Filled { inputs, patched: Vec::new(), keys: work.keys.recorded() })
}

/// Copies the merged configuration into the root and points at the Portage profile.
pub(crate) fn apply(cx: &Context<'_>, work: &Work<'_>, recipe: &Recipe) -> Result<()> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut argv = words(&["/bin/sh", &format!("{HOOKS_DIR}/{APPLY_NAME}"), PORTAGE_DIR]);
    for (dir, name) in recipe.portage.directories() {
        argv.extend([dir.display().to_string(), name.to_owned()]);
    }
    run::command(cx, work, argv, Network::None)?;
    if let Some(profile) = &recipe.definition.portage_profile {
        let target = profile.value.link_target();
        run::command(cx, work, words(&["ln", "-sfn", &target.display().to_string(), "/etc/portage/make.profile"]), Network::None)?;
    }
    Ok(())
}

/// What a session makes, for the store: another configuration directory's attempt at the same is another matter.
pub(crate) fn subject_of(config: &ConfigDir, name: &str) -> String {
    format!("{name} of {}", config.root().display())
}

/// What filling a session leaves to be recorded.
pub(crate) struct Filled {
    pub(crate) inputs: PoolInputs,
    /// What became of the patches.
    pub(crate) patched: Vec<PatchedPackage>,
    /// What its packages are made from.
    pub(crate) keys: BTreeMap<String, PackageKey>,
}

/// What a definition's `network` file allows, for the record.
pub(crate) fn network_record(network: &NetworkUse) -> serde_json::Value {
    if network.everything.is_some() {
        return serde_json::json!("everything");
    }
    serde_json::json!(network.atoms.iter().map(|atom| atom.value.to_string()).collect::<Vec<_>>())
}

/// Digests of scripts, by name.
pub(crate) fn script_digests(scripts: &[UserScript]) -> Vec<String> {
    scripts.iter().map(|script| format!("{}={}", script.name.value, hex::encode(Sha256::digest(&script.contents)))).collect()
}

impl Recipe {
    /// Which pool its packages come from and go to.
    pub(crate) fn pool_of(&self) -> PoolOf {
        let own = self.definition.binary_packages.own.as_ref().map(|_| self.definition.name.clone());
        PoolOf { portage_profile: self.portage_profile.clone(), own }
    }

    /// What a session of it is given.
    pub(crate) fn given(&self) -> Given<'_> {
        Given {
            hooks: Some(&self.hooks),
            portage: Some(&self.portage),
            downloads: Some(&self.downloads),
            trees: Some(&self.trees),
            ..Given::default()
        }
    }

    /// The patches that a session of it is given.
    pub(crate) fn patches(&self) -> Vec<PatchRecord> {
        self.portage.patches().iter().map(PatchRecord::from).collect()
    }

    /// What a state of this recipe says about itself.
    pub(crate) fn origin(&self, profile: &str, inputs: &Inputs, pool: &PoolInputs, upstream: &State) -> serde_json::Value {
        let trees = self
            .trees
            .iter()
            .map(|tree| serde_json::json!({ "name": tree.name, "digest": tree.digest, "location": tree.location }));
        let mut origin = serde_json::json!({
            "kind": "stage3 definition",
            "profile": profile,
            "definition": self.definition.name,
            "portage_profile": self.portage_profile,
            // What an update has to take away when the configuration does not bring it any more.
            "portage_files": self.portage.files.keys().collect::<Vec<_>>(),
            "inputs": inputs,
            "pool": pool,
            "stage3": upstream.origin,
            "trees": trees.collect::<Vec<_>>(),
            "isolation": crate::host::rung(),
            "network": network_record(&self.definition.network),
        });
        // Those who build on it ask the same hosts, and run emerge in the same way.
        self.downloads.note(&mut origin);
        note_emerge_opts(&mut origin, &self.portage.emerge_opts);
        Parts::of(&self.portage).note(&mut origin);
        origin
    }

    /// See [`State::newest_input`].
    pub(crate) fn newest_input(&self, upstream: &State) -> i64 {
        self.trees.iter().map(|tree| tree.newest).chain([upstream.newest_input]).max().unwrap_or(0)
    }

    pub(crate) fn inputs(&self, upstream: &State, definition: &str) -> Inputs {
        let BinaryPackages { own, no_hosts } = &self.definition.binary_packages;
        // Only where they are set: what was built before is still what would be built.
        let choices = [("binary packages", "own", own), ("binary package hosts", "none", no_hosts)];
        let inputs = Inputs::new("stage3");
        choices
            .into_iter()
            .filter(|(.., place)| place.is_some())
            .fold(inputs, |inputs, (name, value, _)| inputs.with(name, value))
            .with("parent", &upstream.key)
            .with("definition", definition)
            .with("configuration", self.portage.digest())
            .with("portage profile", &self.portage_profile)
            .with_list("packages", &self.packages)
            .with_list("scripts", script_digests(&self.definition.scripts))
            .with("hooks", self.hooks.digest_of(&[Phase::Prepare, Phase::AfterWorld, Phase::Finish]))
            .with_list("trees", self.trees.iter().map(|tree| format!("{}={}", tree.name, tree.digest)))
            .with("network", network_record(&self.definition.network).to_string())
    }
}

/// Where `/etc/portage/make.profile` of a stage3 points.
pub(crate) fn profile_link(lower: &[PathBuf]) -> Option<String> {
    let link = lower.iter().find_map(|layer| RootDir::open(layer).ok()?.read_link("etc/portage/make.profile").ok())?;
    Some(link.to_string_lossy().into_owned())
}

/// Which Portage profile a stage3 comes with, read from its link: `../../var/db/repos/gentoo/profiles/default/…`.
pub(crate) fn stage3_profile(lower: &[PathBuf]) -> String {
    let link = profile_link(lower).unwrap_or_default();
    let below_repos = link.split_once(&format!("{REPOS_DIR}/")).map(|(_, rest)| rest);
    match below_repos.and_then(|rest| rest.split_once("/profiles/")) {
        Some((repository, path)) => format!("{repository}:{path}"),
        None => link,
    }
}

/// In which inputs the configuration differs from what a builder was built with; `None` where that cannot be told.
pub(crate) fn differs_from(cx: &Context<'_>, config: &ConfigDir, state: &State, stage3: &State) -> Option<Vec<String>> {
    let definition = state.origin["definition"].as_str()?;
    let before: Inputs = serde_json::from_value(state.origin["inputs"].clone()).ok()?;
    // A configuration that is broken now says so when it is used.
    let recipe =
        definition::recipe(cx, config, definition, stage3).inspect_err(|error| tracing::debug!(%error, "not compared")).ok()?;
    Some(recipe.inputs(stage3, definition).changed_since(&before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_portage_profile_of_a_stage3_is_read_from_its_link() {
        let dir = tempfile::tempdir().unwrap();
        let portage = dir.path().join("etc/portage");
        std::fs::create_dir_all(&portage).unwrap();
        std::os::unix::fs::symlink("../../var/db/repos/gentoo/profiles/default/linux/amd64/23.0", portage.join("make.profile"))
            .unwrap();
        assert_eq!(stage3_profile(&[dir.path().to_owned()]), "gentoo:default/linux/amd64/23.0");
        assert_eq!(stage3_profile(&[]), "");
    }
}
