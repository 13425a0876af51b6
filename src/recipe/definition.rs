//! Applies a stage3 definition to a profile's upstream state. There is one build state for each pair of profile and definition, and every
//! stage4 that names the definition shares it. The builder is one of them.

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
use crate::names::profiles::upstream;
use crate::names::refs::{definition_lock, ref_name};
use crate::origin::Origin;
use crate::portage::binpkgs::{PackageKey, PoolInputs};
use crate::portage::emerge::request::{Existing, Goal};
use crate::portage::profile::PortageProfile;
use crate::recipe::merge::{emerge_goal, emerge_live, live_goal};
use crate::recipe::patches::applied::{PatchedPackage, note_patches};
use crate::recipe::patches::{applied, rehearse};
use crate::recipe::realise::{Built, InSession, Recipe, in_session, realise};
use crate::recipe::standing::parts::Parts;
use crate::recipe::standing::{Asked, Standing};
use crate::recipe::{Error, Result, consult, definition, standing};
use crate::sandbox::Isolation;
use crate::sandbox::plan::Network;
use crate::session::emerge_argv::request_in;
use crate::session::hooks::hooks;
use crate::session::inspect::PoolOf;
use crate::session::keys::pools::{PoolUse, choose_pool};
use crate::session::keys::{NOTED, learn, pools};
use crate::session::relink::relink;
use crate::session::root::{HOOKS_DIR, PORTAGE_DIR};
use crate::session::supply::downloads::Downloads;
use crate::session::tidy::tidy;
use crate::session::work::{APPLY_NAME, Given, StepsDone, Subject, note_emerge_opts};
use crate::session::{Work, run, script, work};
use crate::store::{Purpose, Session, State};
use crate::trees::choose;
use crate::trees::choose::PinnedTree;

/// Everything that decides what a definition becomes.
pub(crate) struct Stage3 {
    pub(crate) definition: Stage3Definition,
    /// Which hosts of binary packages it asks now.
    pub(crate) hosts: Hosts,
    pub(crate) portage: PortageDir,
    pub(crate) downloads: Downloads,
    pub(crate) packages: Vec<String>,
    pub(crate) hooks: Hooks,
    pub(crate) trees: Vec<PinnedTree>,
    pub(crate) portage_profile: String,
}

/// Which hosts of binary packages are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// Those that are named.
    Any,
    /// Those that are named, since the profile has its first builder or none.
    First,
    None,
}

impl Hosts {
    /// As an input; [`Hosts::Any`] is none, so that keys of older states stay the same.
    pub(crate) const NONE: &str = "none";
    const FIRST: &str = "first";
}

/// The input of a stage3 that says which hosts are asked.
pub(crate) const HOSTS_INPUT: &str = "binary package hosts";

/// The input of a stage3 that says which hooks ran.
pub(crate) const HOOKS_INPUT: &str = "hooks";
/// Those of a definition.
pub(crate) const HOOK_PHASES: [Phase; 3] = [Phase::Prepare, Phase::AfterWorld, Phase::Finish];

/// The definition `name` on a profile.
pub(crate) fn recipe(cx: &Context<'_>, config: &ConfigDir, profile: &str, name: &str, upstream: &State) -> Result<Stage3> {
    recipe_with(cx, config, [profile, name], upstream, Hooks::with_config(config.root())?)
}

/// As [`recipe`], of a profile and a definition, with the hooks that all definitions share.
pub(crate) fn recipe_with(
    cx: &Context<'_>,
    config: &ConfigDir,
    [profile, name]: [&str; 2],
    upstream: &State,
    hooks: Hooks,
) -> Result<Stage3> {
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
        // The stage3 comes with a profile. Only its own link says which.
        None => stage3_profile(&cx.store.lower_dirs(upstream)),
    };
    let downloads = Downloads::of(&portage, &cx.store.lower_dirs(upstream));
    let hosts = hosts(cx, profile, &definition.binary_packages)?;
    let mut stage3 = Stage3 { definition, hosts, portage, downloads, packages, hooks, trees, portage_profile };
    if hosts == Hosts::None {
        stage3.forget_hosts();
    }
    Ok(stage3)
}

/// The hosts that a definition asks on a profile.
fn hosts(cx: &Context<'_>, profile: &str, said: &BinaryPackages) -> Result<Hosts> {
    if said.no_hosts.is_some() {
        return Ok(Hosts::None);
    }
    if said.first_hosts.is_none() {
        return Ok(Hosts::Any);
    }
    let Some(builder) = cx.store.ref_get(&ref_name(profile, BUILDER))? else { return Ok(Hosts::First) };
    Ok(if has_first_packages(&cx.store.state(&builder)?) { Hosts::First } else { Hosts::None })
}

/// Whether packages of hosts are in a builder that was not updated since it was built.
pub(crate) fn has_first_packages(builder: &State) -> bool {
    match &*builder.origin {
        Origin::Definition(made) => {
            made.updated_from.is_none() && made.binhost_packages.as_ref().is_some_and(|all| !all.is_empty())
        }
        _ => false,
    }
}

/// Refuses settings that this machine cannot execute. Returns those for which we cannot tell.
pub(crate) fn check_cpu(cx: &Context<'_>, recipe: &Stage3) -> Result<Vec<cpu::Reason>> {
    cpu::host_can_run(&recipe.portage, &CpuInfo::parse(&cx.settings.cpuinfo))
        .map_err(|reasons| Error::Cpu { definition: recipe.definition.name.clone(), reasons })
}

/// A stage3 definition on the stage3 of a profile: the builder, or the base of stage4s.
pub(crate) struct Stage3Recipe<'a> {
    pub(crate) config: &'a ConfigDir,
    pub(crate) profile: &'a str,
    pub(crate) upstream: &'a State,
    pub(crate) stage3: &'a Stage3,
    /// The stage4s for which it is built. Portage is asked about them before anything is built, too.
    pub(crate) stage4s: &'a [Stage4Definition],
}

/// The state of `definition` on `profile`. The caller holds the lock on the profile.
pub(crate) fn definition(cx: &Context<'_>, config: &ConfigDir, profile: &str, definition: &str) -> Result<Built> {
    let upstream = upstream(cx, profile)?;
    let stage3 = recipe(cx, config, profile, definition, &upstream)?;
    realise(cx, &Stage3Recipe { config, profile, upstream: &upstream, stage3: &stage3, stage4s: &[] })
}

impl Stage3Recipe<'_> {
    fn definition(&self) -> &str {
        &self.stage3.definition.name
    }
}

impl Recipe for Stage3Recipe<'_> {
    fn name(&self) -> Option<String> {
        Some(ref_name(self.profile, self.definition()))
    }

    fn lock(&self) -> String {
        definition_lock(self.profile, self.definition())
    }

    fn words(&self) -> String {
        definition_words(self.profile, self.definition())
    }

    fn inputs(&self) -> Inputs {
        self.stage3.inputs(self.upstream)
    }

    fn standing(&self, cx: &Context<'_>, inputs: &Inputs) -> Result<Standing> {
        self.stage3.standing(cx, &ref_name(self.profile, self.definition()), inputs)
    }

    fn check(&self, cx: &Context<'_>) -> Result<()> {
        for unknown in check_cpu(cx, self.stage3)? {
            cx.observer.note(&unknown.to_string());
        }
        consult::assert_known(cx, self.config, self.profile, &self.stage3.definition, self.stage4s)
    }

    fn make(&self, cx: &Context<'_>) -> Result<Built> {
        in_session(cx, self)
    }
}

impl InSession for Stage3Recipe<'_> {
    type Filled = Filled;

    fn base(&self, _cx: &Context<'_>) -> Result<Option<State>> {
        Ok(Some(self.upstream.clone()))
    }

    fn purpose(&self) -> Purpose {
        if self.definition() == BUILDER { Purpose::Bootstrap } else { Purpose::Stage }
    }

    fn subject(&self) -> Option<String> {
        Some(subject_of(self.config, &ref_name(self.profile, self.definition())))
    }

    fn step(&self, resumed: bool) -> String {
        format!("{} {}", if resumed { "resuming" } else { "building" }, self.words())
    }

    fn fill(&self, cx: &Context<'_>, session: &mut Session, _base: Option<&State>) -> Result<Filled> {
        let definition = self.definition();
        let subject = Subject {
            log_name: format!("{}-{definition}", self.profile),
            profile: self.profile.to_owned(),
            definition: definition.to_owned(),
        };
        // The patches for the stage4s' packages are tried now, too.
        let ahead: Vec<String> =
            self.stage4s.iter().flat_map(|stage4| &stage4.packages).map(|package| package.value.to_string()).collect();
        fill(cx, session, self, &subject, &ahead)
    }

    fn origin(&self, _base: Option<&State>, filled: &Filled) -> serde_json::Value {
        self.stage3.origin(self.profile, filled, self.upstream)
    }

    fn newest_input(&self, _base: Option<&State>, _filled: &Filled) -> i64 {
        self.stage3.newest_input(self.upstream)
    }
}

fn fill(cx: &Context<'_>, session: &mut Session, on: &Stage3Recipe<'_>, subject: &Subject, ahead: &[String]) -> Result<Filled> {
    let Stage3Recipe { stage3: recipe, upstream, .. } = *on;
    let mut steps = StepsDone::of(session)?;
    let mut work = work::work(cx, session, upstream, subject, recipe.given())?;
    let resumed = steps.any();
    steps.once("apply", || apply(cx, &work, recipe))?;
    steps.once("hooks:prepare", || hooks(cx, &work, &recipe.hooks, Phase::Prepare))?;
    let inputs = choose_pool(cx, &mut work, recipe.pool_of(), PoolUse::Publish, &recipe.packages)?;
    let network = recipe.definition.network.everything.is_some();
    let mut goals = vec![("world", Goal::RebuildWorld)];
    if !recipe.packages.is_empty() {
        goals.push(("packages", Goal::Packages { atoms: recipe.packages.clone(), existing: Existing::Update, oneshot: false }));
    }
    // All goals are foreseen at once: no key is made after something of the run was executed.
    for goal in live_goal(&recipe.definition.network).iter().chain(goals.iter().map(|(_, goal)| goal)) {
        learn::foresee_and_learn(cx, &work, &request_in(cx, &work, goal.clone()))?;
    }
    steps.once("patches ahead", || rehearse::rehearse_ahead(cx, &work, ahead))?;
    emerge_live(cx, &work, &mut steps, &recipe.definition.network, resumed)?;
    for (name, goal) in goals {
        emerge_goal(cx, &work, &mut steps, name, goal, resumed, network)?;
        // After world and before the definition's packages.
        if name == "world" {
            steps.once("hooks:after-world", || hooks(cx, &work, &recipe.hooks, Phase::AfterWorld))?;
        }
    }
    let patched = applied::bring_patches(cx, &work, &mut steps, resumed, network)?;
    Ok(Filled { patched, ..finish_definition(cx, &work, &mut steps, recipe, inputs)? })
}

/// The steps after all packages of a definition are installed: hooks, scripts, publishing, and making the session fit to be a layer.
pub(crate) fn finish_definition(
    cx: &Context<'_>,
    work: &Work<'_>,
    steps: &mut StepsDone,
    recipe: &Stage3,
    inputs: PoolInputs,
) -> Result<Filled> {
    let network = recipe.definition.network.everything.is_some();
    for script in &recipe.definition.scripts {
        steps.once(&format!("script:{}", script.name.value), || script::script(cx, work, script, network))?;
    }
    steps.once("hooks:finish", || hooks(cx, work, &recipe.hooks, Phase::Finish))?;
    pools::tell_published(cx, work, &inputs);
    relink(cx, work)?;
    tidy(cx, work)?;
    Ok(Filled { inputs, patched: Vec::new(), keys: work.keys.recorded(), isolation: cx.launcher.isolation() })
}

/// Copies the merged configuration into the root and sets the link to the Portage profile.
pub(crate) fn apply(cx: &Context<'_>, work: &Work<'_>, recipe: &Stage3) -> Result<()> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let link = recipe.definition.portage_profile.as_ref().map(|profile| profile.value.link_target().display().to_string());
    let mut argv = words(&["/bin/sh", &format!("{HOOKS_DIR}/{APPLY_NAME}"), PORTAGE_DIR, &link.unwrap_or_default()]);
    for (dir, name) in recipe.portage.directories() {
        argv.extend([dir.display().to_string(), name.to_owned()]);
    }
    Ok(run::command(cx, work, argv, Network::None)?)
}

/// A definition on a profile, in words for users.
pub(crate) fn definition_words(profile: &str, definition: &str) -> String {
    format!("{definition} on {profile}")
}

/// The store's name for what a session makes. The same definition in another configuration directory is another subject.
pub(crate) fn subject_of(config: &ConfigDir, name: &str) -> String {
    format!("{name} of {}", config.root().display())
}

/// What filling a session gives for the record.
pub(crate) struct Filled {
    pub(crate) inputs: PoolInputs,
    pub(crate) patched: Vec<PatchedPackage>,
    pub(crate) keys: BTreeMap<String, PackageKey>,
    pub(crate) isolation: Isolation,
}

/// For the record: what a definition's `network` file allows.
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

impl Stage3 {
    /// From now on no host of binary packages is asked.
    fn forget_hosts(&mut self) {
        self.hosts = Hosts::None;
        self.downloads.forget_hosts();
    }

    /// As it is after the first update: hosts that were only for the first builder are asked no more.
    pub(crate) fn after_first(mut self) -> Self {
        if self.hosts == Hosts::First {
            self.forget_hosts();
        }
        self
    }

    /// The pool that its packages come from and go to.
    pub(crate) fn pool_of(&self) -> PoolOf {
        let own = self.definition.binary_packages.own.as_ref().map(|_| self.definition.name.clone());
        PoolOf { portage_profile: self.portage_profile.clone(), own }
    }

    pub(crate) fn given(&self) -> Given<'_> {
        Given {
            hooks: Some(&self.hooks),
            portage: Some(&self.portage),
            downloads: Some(&self.downloads),
            trees: Some(&self.trees),
            ..Given::default()
        }
    }

    pub(crate) fn patches(&self) -> Vec<PatchRecord> {
        self.portage.patches().iter().map(PatchRecord::from).collect()
    }

    pub(crate) fn origin(&self, profile: &str, filled: &Filled, upstream: &State) -> serde_json::Value {
        let trees = self
            .trees
            .iter()
            .map(|tree| serde_json::json!({ "name": tree.name, "digest": tree.digest, "location": tree.location }));
        let mut origin = serde_json::json!({
            "kind": "stage3 definition",
            "profile": profile,
            "definition": self.definition.name,
            "portage_profile": self.portage_profile,
            // If the configuration no longer has one of these files, an update removes it.
            "portage_files": self.portage.files.keys().collect::<Vec<_>>(),
            "inputs": self.inputs(upstream),
            "pool": filled.inputs,
            "stage3": upstream.origin,
            "trees": trees.collect::<Vec<_>>(),
            "isolation": filled.isolation.to_string(),
            "network": network_record(&self.definition.network),
        });
        // What is built on this state asks the same hosts and runs emerge in the same way.
        self.downloads.note(&mut origin);
        note_emerge_opts(&mut origin, &self.portage.emerge_opts);
        Parts::of(&self.portage).note(&mut origin);
        note_patches(&mut origin, &self.patches(), &filled.patched);
        origin[NOTED] = serde_json::json!(filled.keys);
        origin
    }

    /// See [`State::newest_input`].
    pub(crate) fn newest_input(&self, upstream: &State) -> i64 {
        self.trees.iter().map(|tree| tree.newest).chain([upstream.newest_input]).max().unwrap_or(0)
    }

    /// Whether a state is still what would be built. For the builder this is always no: kernel sources are chosen and installed on it
    /// with the configuration that it has.
    pub(crate) fn standing(&self, cx: &Context<'_>, name: &str, inputs: &Inputs) -> Result<Standing> {
        if self.definition.name == BUILDER {
            return Ok(Standing::Other);
        }
        let parts = Parts::of(&self.portage);
        standing::standing(cx, &Asked { name, inputs, parts: Some(&parts), packages: &self.packages, trees: &self.trees })
    }

    pub(crate) fn inputs(&self, upstream: &State) -> Inputs {
        let own = self.definition.binary_packages.own.as_ref().map(|_| "own");
        let hosts = match self.hosts {
            Hosts::Any => None,
            Hosts::First => Some(Hosts::FIRST),
            Hosts::None => Some(Hosts::NONE),
        };
        // Added only if they are set, so that keys of older states stay the same.
        let choices = [("binary packages", own), (HOSTS_INPUT, hosts)];
        let chosen = choices.into_iter().filter_map(|(name, value)| Some((name, value?)));
        chosen
            .fold(Inputs::new("stage3"), |inputs, (name, value)| inputs.with(name, value))
            .with("parent", &upstream.key)
            .with("definition", &self.definition.name)
            .with("configuration", self.portage.digest())
            .with("portage profile", &self.portage_profile)
            .with_list("packages", &self.packages)
            .with_list("scripts", script_digests(&self.definition.scripts))
            .with(HOOKS_INPUT, self.hooks.digest_of(&HOOK_PHASES))
            .with_list("trees", self.trees.iter().map(|tree| format!("{}={}", tree.name, tree.digest)))
            .with("network", network_record(&self.definition.network).to_string())
    }
}

/// The target of `/etc/portage/make.profile` in a stage3.
pub(crate) fn profile_link(lower: &[PathBuf]) -> Option<String> {
    let link = lower.iter().find_map(|layer| RootDir::open(layer).ok()?.read_link("etc/portage/make.profile").ok())?;
    Some(link.to_string_lossy().into_owned())
}

/// The Portage profile that a stage3 comes with, from its link: `../../var/db/repos/gentoo/profiles/default/…`.
pub(crate) fn stage3_profile(lower: &[PathBuf]) -> String {
    let link = profile_link(lower).unwrap_or_default();
    let below_repos = link.split_once(&format!("{REPOS_DIR}/")).map(|(_, rest)| rest);
    match below_repos.and_then(|rest| rest.split_once("/profiles/")) {
        Some((repository, path)) => format!("{repository}:{path}"),
        None => link,
    }
}

/// The inputs in which the configuration differs from the one that a builder was built with. `None` if we cannot tell.
pub(crate) fn differs_from(cx: &Context<'_>, config: &ConfigDir, state: &State, stage3: &State) -> Option<Vec<String>> {
    let (definition, profile) = (state.origin.definition()?, state.origin.profile()?);
    let before = state.origin.inputs()?;
    // If the configuration is broken now, the error comes when it is used.
    let recipe = definition::recipe(cx, config, profile, definition, stage3)
        .inspect_err(|error| tracing::debug!(%error, "not compared"))
        .ok()?;
    Some(recipe.inputs(stage3).changed_since(before))
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
