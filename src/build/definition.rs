//! Applies a stage3 definition to a profile's upstream state: one build state for each (profile, definition), shared by every
//! stage4 that names it. The builder is one of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use sha2::{Digest as _, Sha256};

use super::engine::{Engine, Work};
use super::error::{Error, Result};
use super::inspect::PoolOf;
use super::key::Inputs;
use super::keys::{NOTED, PoolUse};
use super::patch::{Candidate, PatchedPackage, note_patches};
use super::relink::RelinkInput;
use super::session::{HOOKS_DIR, PORTAGE_DIR, REPOS_DIR};
use super::standing::{Asked, Parts, Standing};
use super::supply::{Downloads, Foreseen};
use super::tree::PinnedTree;
use super::work::{Given, StepsDone, Subject, note_emerge_opts};
use crate::beneath::RootDir;
pub use crate::config::BUILDER;
use crate::config::cpu::{self, CpuInfo};
use crate::config::hooks::{Hooks, Phase};
use crate::config::patches::PatchRecord;
use crate::config::{BinaryPackages, ConfigDir, NetworkUse, PortageDir, Stage3Definition, Stage4Definition, UserScript};
use crate::portage::binpkgs::{PackageKey, PoolInputs, PoolKind};
use crate::portage::cpv::Cpv;
use crate::portage::emerge::FailureKind;
use crate::portage::emerge::request::{Existing, Goal, Mode, Request};
use crate::portage::emerge::resume;
use crate::portage::profile::PortageProfile;
use crate::sandbox::plan::Network;
use crate::store::{NewState, Purpose, Session, State};

/// A state that was asked for.
#[derive(Debug, Clone)]
pub struct Built {
    /// The state.
    pub state: State,
    /// Whether it was there already.
    pub reused: bool,
}

/// The lock on a profile as a whole: shared by what builds on it, exclusive for what changes which stage3 or builder it has.
pub(super) fn profile_lock(profile: &str) -> String {
    format!("profile/{profile}")
}

/// The lock on one definition on a profile; taken after that on the profile, and so named to follow it.
pub(super) fn definition_lock(profile: &str, definition: &str) -> String {
    format!("stage3/{profile}/{definition}")
}

/// Name of the ref of a profile's state.
pub(super) fn ref_name(profile: &str, definition: &str) -> String {
    format!("profile/{profile}/{definition}")
}

/// The script that puts the merged configuration into the root; written beside the hooks of every session.
pub(super) const APPLY: &str = include_str!("apply.sh");
/// Its name there.
pub(super) const APPLY_NAME: &str = "apply.sh";

/// All that decides what a definition becomes.
pub(super) struct Recipe {
    pub(super) definition: Stage3Definition,
    pub(super) portage: PortageDir,
    pub(super) downloads: Downloads,
    pub(super) packages: Vec<String>,
    pub(super) hooks: Hooks,
    pub(super) trees: Vec<PinnedTree>,
    pub(super) portage_profile: String,
    /// Packages that are built on it next, if it is built for their sake: their patches are tried first, too.
    pub(super) ahead: Vec<String>,
}

impl Engine<'_> {
    /// A profile's imported stage3.
    pub(super) fn upstream(&self, profile: &str) -> Result<State> {
        match self.store.ref_get(&ref_name(profile, "upstream"))? {
            Some(id) => Ok(self.store.state(&id)?),
            None => Err(Error::NoProfile { profile: profile.to_owned(), known: self.profiles()?, named_in: None }),
        }
    }

    /// The state of `definition` on `profile`: reused when nothing that goes in has changed, else built. The caller holds the
    /// profile's lock, exclusively or together with that of the definition.
    pub(super) fn definition(&self, config: &ConfigDir, profile: &str, definition: &str) -> Result<Built> {
        let upstream = self.upstream(profile)?;
        let recipe = self.recipe(config, definition, &upstream)?;
        self.definition_by(config, profile, &upstream, &recipe, &[])
    }

    /// As [`Engine::definition`], by a recipe that was read already. Portage is asked about `stage4s`, too, before anything is built: it is
    /// for their sake.
    pub(super) fn definition_by(
        &self,
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
        if let Some(state) = self.store.state_by_key(&key)? {
            self.name_definition(profile, definition, &state)?;
            return Ok(Built { state, reused: true });
        }
        if let Standing::Same(state) = self.standing_definition(recipe, &name, &inputs)? {
            self.note(&format!("nothing that has changed concerns {definition} on {profile}"));
            // After a rollback it is another one than the name's.
            self.name_definition(profile, definition, &state)?;
            return Ok(Built { state, reused: true });
        }
        for unknown in self.check_cpu(definition, recipe)? {
            self.note(&unknown.to_string());
        }
        self.assert_known(config, profile, &recipe.definition, stage4s)?;
        let (mut session, resumed) = self.open_session(
            upstream,
            if definition == BUILDER { Purpose::Bootstrap } else { Purpose::Stage },
            &key,
            &subject_of(config, &name),
        )?;
        if resumed {
            self.step(&format!("resuming {definition} on {profile}"));
        } else {
            self.step(&format!("building {definition} on {profile}"));
        }
        let subject =
            Subject { log_name: format!("{profile}-{definition}"), profile: profile.to_owned(), definition: definition.to_owned() };
        let filled = self.fill(&mut session, upstream, recipe, &subject);
        let pool = self.settle(filled, session, |session, pool: Filled| {
            let newest_input = recipe.newest_input(upstream);
            let mut origin = recipe.origin(profile, &inputs, &pool.inputs, upstream);
            super::binhost::note_packages(&mut origin, &session);
            note_patches(&mut origin, &recipe.patches(), &pool.patched);
            origin[NOTED] = serde_json::json!(pool.keys);
            Ok(session.commit(NewState { key: key.clone(), origin, newest_input, parent: Some(upstream.id.clone()) })?)
        })?;
        self.store.ref_set(&name, &pool.id)?;
        Ok(Built { state: pool, reused: false })
    }

    /// Whether the state of a definition stays what it would be. The builder never does: sources of kernels are chosen and installed on it, by
    /// the configuration that it has.
    pub(super) fn standing_definition(&self, recipe: &Recipe, name: &str, inputs: &Inputs) -> Result<Standing> {
        if recipe.definition.name == BUILDER {
            return Ok(Standing::Other);
        }
        let parts = Parts::of(&recipe.portage);
        self.standing(&Asked { name, inputs, parts: Some(&parts), packages: &recipe.packages, trees: &recipe.trees })
    }

    /// Points the name of a definition at a state that was there already.
    pub(super) fn name_definition(&self, profile: &str, definition: &str, state: &State) -> Result<()> {
        let name = ref_name(profile, definition);
        if let Some(before) = self.store.ref_get(&name)?.filter(|before| *before != state.id) {
            // Nothing is built, so that nothing else would tell; after a rollback this goes forward again.
            self.note(&format!("{definition} on {profile} is {}, as the configuration says (it was {before})", state.id));
        }
        Ok(self.store.ref_set(&name, &state.id)?)
    }

    pub(super) fn recipe(&self, config: &ConfigDir, name: &str, upstream: &State) -> Result<Recipe> {
        self.recipe_with(config, name, upstream, Hooks::with_config(config.root())?)
    }

    /// As [`Engine::recipe`], with the hooks that all definitions have in common.
    pub(super) fn recipe_with(&self, config: &ConfigDir, name: &str, upstream: &State, hooks: Hooks) -> Result<Recipe> {
        let definition = config.stage3(name)?;
        let portage = config.portage_dir(&definition)?;
        let packages = definition.packages.iter().map(|package| package.value.to_string()).collect();
        let trees = self.trees_for(&portage)?;
        let portage_profile = match &definition.portage_profile {
            Some(profile) => {
                let PortageProfile { repository, path } = &profile.value;
                let tree = trees.iter().find(|tree| tree.name == *repository);
                let is_profile = |tree: &PinnedTree| {
                    let found = RootDir::open(&tree.path).and_then(|root| root.leads_to(format!("profiles/{path}")));
                    matches!(found, Ok(Some(FileType::Directory)))
                };
                if !tree.is_some_and(is_profile) {
                    return Err(Error::NoPortageProfile {
                        profile: path.clone(),
                        tree: repository.clone(),
                        place: profile.place(),
                    });
                }
                format!("{repository}:{path}")
            }
            // The stage3 comes with a profile set; which, only its own link knows.
            None => stage3_profile(&self.store.lower_dirs(upstream)),
        };
        let mut downloads = Downloads::of(&portage, &self.store.lower_dirs(upstream));
        if definition.binary_packages.no_hosts.is_some() {
            downloads.forget_hosts();
        }
        Ok(Recipe { definition, portage, downloads, packages, hooks, trees, portage_profile, ahead: Vec::new() })
    }

    /// Refuses what this machine cannot execute; what it may not be able to, nobody knows.
    pub(super) fn check_cpu(&self, definition: &str, recipe: &Recipe) -> Result<Vec<cpu::Reason>> {
        cpu::host_can_run(&recipe.portage, &CpuInfo::parse(&self.settings.cpuinfo))
            .map_err(|reasons| Error::Cpu { definition: definition.to_owned(), reasons })
    }

    /// A suspended session with this key, or a new one. One that was suspended while `subject` was made from something else, such as a
    /// configuration that has been corrected since, is of no use any more.
    pub(super) fn open_session(&self, base: &State, purpose: Purpose, key: &str, subject: &str) -> Result<(Session, bool)> {
        let superseded = self.store.session_discard_superseded(subject, key, self.launcher)?;
        if superseded > 0 {
            self.note(&format!("what was left of an earlier attempt at {subject} does not fit any more: removed"));
        }
        if let Some(session) = self.store.session_find_suspended(key)? {
            return Ok((session, true));
        }
        Ok((self.store.session_create_for(Some(base), purpose, key, Some(subject))?, false))
    }

    fn fill(&self, session: &mut Session, upstream: &State, recipe: &Recipe, subject: &Subject) -> Result<Filled> {
        let mut steps = StepsDone::of(session)?;
        let mut work = self.work(session, upstream, subject, recipe.given())?;
        let resumed = steps.any();
        steps.once("apply", || self.apply(&work, recipe))?;
        steps.once("hooks:prepare", || self.hooks(&work, &recipe.hooks, Phase::Prepare))?;
        let inputs = self.choose_pool(&mut work, recipe.pool_of(), PoolUse::Publish)?;
        let network = recipe.definition.network.everything.is_some();
        let mut goals = vec![("world", Goal::RebuildWorld)];
        if !recipe.packages.is_empty() {
            goals.push(("packages", Goal::Packages { atoms: recipe.packages.clone(), existing: Existing::Update, oneshot: false }));
        }
        // Of all at once: no key is made after something of the run was executed.
        for goal in live_goal(recipe).iter().chain(goals.iter().map(|(_, goal)| goal)) {
            self.foresee_and_learn(&work, &self.request_in(&work, goal.clone()))?;
        }
        steps.once("patches ahead", || self.rehearse_ahead(&work, &recipe.ahead))?;
        self.emerge_live(&work, &mut steps, recipe, resumed)?;
        for (name, goal) in goals {
            self.emerge_goal(&work, &mut steps, name, goal, resumed, network)?;
            // Before the definition's packages.
            if name == "world" {
                steps.once("hooks:after-world", || self.hooks(&work, &recipe.hooks, Phase::AfterWorld))?;
            }
        }
        let patched = self.bring_patches(&work, &mut steps, resumed, network)?;
        Ok(Filled { patched, ..self.finish_definition(&work, &mut steps, recipe, inputs)? })
    }

    /// Builds the packages that may use the network, such as live ebuilds: they alone see it, and what comes after finds them as binary
    /// packages.
    pub(super) fn emerge_live(&self, work: &Work<'_>, steps: &mut StepsDone, recipe: &Recipe, resumed: bool) -> Result<()> {
        let Some(goal) = live_goal(recipe) else { return Ok(()) };
        self.emerge_goal(work, steps, "packages with network", goal, resumed, true)
    }

    /// What comes once all packages of a definition are installed: hooks, scripts, publishing, and making the session fit to be a layer.
    pub(super) fn finish_definition(
        &self,
        work: &Work<'_>,
        steps: &mut StepsDone,
        recipe: &Recipe,
        inputs: PoolInputs,
    ) -> Result<Filled> {
        let network = recipe.definition.network.everything.is_some();
        for script in &recipe.definition.scripts {
            steps.once(&format!("script:{}", script.name.value), || self.script(work, script, network))?;
        }
        steps.once("hooks:finish", || self.hooks(work, &recipe.hooks, Phase::Finish))?;
        self.tell_published(work, &inputs);
        self.relink(work)?;
        self.tidy(work)?;
        Ok(Filled { inputs, patched: Vec::new(), keys: work.keys.recorded() })
    }

    /// Copies the merged configuration into the root and points at the Portage profile.
    pub(super) fn apply(&self, work: &Work<'_>, recipe: &Recipe) -> Result<()> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let mut argv = words(&["/bin/sh", &format!("{HOOKS_DIR}/{APPLY_NAME}"), PORTAGE_DIR]);
        for (dir, name) in recipe.portage.directories() {
            argv.extend([dir.display().to_string(), name.to_owned()]);
        }
        self.command(work, argv, Network::None)?;
        if let Some(profile) = &recipe.definition.portage_profile {
            let target = profile.value.link_target();
            self.command(work, words(&["ln", "-sfn", &target.display().to_string(), "/etc/portage/make.profile"]), Network::None)?;
        }
        Ok(())
    }

    /// Builds while what it needs is brought.
    pub(super) fn emerge_goal(
        &self,
        work: &Work<'_>,
        steps: &mut StepsDone,
        name: &str,
        goal: Goal,
        resumed: bool,
        network: bool,
    ) -> Result<()> {
        self.emerge_request(work, steps, name, Request::new(goal, Mode::Run), resumed, network)
    }

    /// The request for a goal, with the jobs that this session has.
    pub(super) fn request_in(&self, work: &Work<'_>, goal: Goal) -> Request {
        Request { jobs: work.root.session_conf.jobs, load: Some(self.settings.jobs as f32), ..Request::new(goal, Mode::Run) }
    }

    /// As [`Engine::emerge_goal`], for a request that is more than its goal.
    pub(super) fn emerge_request(
        &self,
        work: &Work<'_>,
        steps: &mut StepsDone,
        name: &str,
        mut request: Request,
        resumed: bool,
        network: bool,
    ) -> Result<()> {
        request.jobs = work.root.session_conf.jobs;
        request.load = Some(self.settings.jobs as f32);
        let patched = !work.patches.is_empty();
        let (mut candidates, mut foreseen, mut compiling) = (Vec::new(), Foreseen::default(), None);
        if !steps.has(&format!("emerge:{name}")) {
            self.step(&format!("looking at what {name} needs"));
            let (list, claims) = self.foresee_and_claim(work, &request)?;
            (foreseen, compiling) = (list, Some(claims));
            if patched {
                candidates = self.to_rehearse(work, &mut request, &foreseen)?;
            }
            let first: Vec<&str> = candidates.iter().map(Candidate::cpv).collect();
            foreseen.compile(&first);
            self.want(work, &foreseen, &first)?;
        }
        steps.once(&format!("patches:{name}"), || self.rehearse(work, &candidates))?;
        let network = if network { Network::Host } else { Network::None };
        let emerged = steps.once(&format!("emerge:{name}"), || {
            self.step(&format!("emerging {name}"));
            let log = work.log_dir.join("emerge.log");
            if resumed && can_resume(&work.root.upper) {
                let mut again = Request::new(Goal::Resume, Mode::Run);
                again.jobs = request.jobs;
                again.load = request.load;
                match self.emerge_with(work, &again, network, &log) {
                    Err(Error::Emerge { .. }) => {}
                    other => return other.and_then(|()| self.fulfilled(work, name, &request, &foreseen)),
                }
                // The list that was left may not fit any more; packages built so far are binary packages by now.
                self.note("cannot go on with the list that was left: starting over with the packages built so far");
            }
            self.emerge_or_from_source(work, &request, network, &log)?;
            self.fulfilled(work, name, &request, &foreseen)
        });
        drop(compiling);
        emerged
    }

    /// Foresees what a run needs, has it brought, and runs it.
    pub(super) fn emerge_supplied(&self, work: &Work<'_>, request: &Request) -> Result<()> {
        let foreseen = self.foresee_and_learn(work, request)?;
        self.want(work, &foreseen, &[])?;
        self.emerge_or_from_source(work, request, Network::None, &work.log_dir.join("emerge.log"))?;
        self.fulfilled(work, "packages", request, &foreseen)
    }

    /// Runs `emerge`; a binary package that it will not install is built from source in a second run.
    pub(super) fn emerge_or_from_source(&self, work: &Work<'_>, request: &Request, network: Network, log: &Path) -> Result<()> {
        match self.emerge_patched(work, request, network, log) {
            Err(Error::Emerge { failure, .. }) if failure.kind == FailureKind::BinpkgUnusable && failure.package.is_some() => {
                // What this very session built, or an old pool holds, and Portage will not install: build it again.
                let package = failure.package.as_deref().map(Cpv::name_of).unwrap_or_default();
                self.note(&format!("{failure}: building {package} from source"));
                let mut from_source = request.clone();
                from_source.usepkg_exclude.push(package.to_owned());
                self.emerge_patched(work, &from_source, network, log)
            }
            other => other,
        }
    }

    /// Runs the hooks of a phase, in order of their names.
    pub(super) fn hooks(&self, work: &Work<'_>, hooks: &Hooks, phase: Phase) -> Result<()> {
        for hook in hooks.of(phase) {
            // The others run before keys are made, and Portage is asked with what they have done.
            if matches!(phase, Phase::AfterWorld | Phase::Finish) {
                Self::close_keys(work)?;
            }
            let mut argv = vec!["/usr/bin/env".to_owned(), format!("GENTOOMUCH_PHASE={phase}")];
            argv.push(format!("{HOOKS_DIR}/{phase}.d/{}", hook.name));
            self.command(work, argv, Network::None)?;
        }
        Ok(())
    }

    /// Finds out which pool fits the root, and attaches it.
    pub(super) fn choose_pool(&self, work: &mut Work<'_>, of: PoolOf, used: PoolUse) -> Result<PoolInputs> {
        let facts = self.inspect(work)?;
        let inputs = facts.pool_inputs(of);
        work.supply.set_host(&inputs.chost);
        work.root.session_conf = self.session_conf(facts.has_observability());
        self.share_jobs(work, &facts)?;
        let pool = self.pool(PoolKind::Release, &inputs)?;
        self.show_pools(work, &[pool], used)?;
        Ok(inputs)
    }

    /// Puts hard links together that emerge, merging the same files again, has made overlayfs take apart.
    pub(super) fn relink(&self, work: &Work<'_>) -> Result<()> {
        let options = crate::sandbox::TaskOptions { hold: vec![work.session.borrow().lock_fd()?], ..Default::default() };
        let input = RelinkInput { upper: work.root.upper.clone(), lower: work.root.lower.clone() };
        let linked = self.task(super::tasks::RELINK, &input, options, &mut |_| {})?;
        tracing::debug!(%linked, "hard links restored");
        Ok(())
    }

    /// Removes what only the session needed, and takes back what packages did to the configuration.
    pub(super) fn tidy(&self, work: &Work<'_>) -> Result<()> {
        self.put_back_configuration(work)?;
        let options = crate::sandbox::TaskOptions { hold: vec![work.session.borrow().lock_fd()?], ..Default::default() };
        self.launcher.task(super::tasks::TIDY, &work.root.litter(), options, &mut |_| {})?;
        Ok(())
    }
}

/// Builds packages that may use the network.
pub(super) fn live_goal(recipe: &Recipe) -> Option<Goal> {
    let atoms: Vec<String> = recipe.definition.network.atoms.iter().map(|atom| atom.value.to_string()).collect();
    (!atoms.is_empty()).then_some(Goal::Packages { atoms, existing: Existing::Keep, oneshot: true })
}

/// What a session makes, for the store: another configuration directory's attempt at the same is another matter.
pub(super) fn subject_of(config: &ConfigDir, name: &str) -> String {
    format!("{name} of {}", config.root().display())
}

/// What filling a session leaves to be recorded.
pub(super) struct Filled {
    pub(super) inputs: PoolInputs,
    /// What became of the patches.
    pub(super) patched: Vec<PatchedPackage>,
    /// What its packages are made from.
    pub(super) keys: BTreeMap<String, PackageKey>,
}

/// What a definition's `network` file allows, for the record.
pub(super) fn network_record(network: &NetworkUse) -> serde_json::Value {
    if network.everything.is_some() {
        return serde_json::json!("everything");
    }
    serde_json::json!(network.atoms.iter().map(|atom| atom.value.to_string()).collect::<Vec<_>>())
}

/// Digests of scripts, by name.
pub(super) fn script_digests(scripts: &[UserScript]) -> Vec<String> {
    scripts.iter().map(|script| format!("{}={}", script.name.value, hex::encode(Sha256::digest(&script.contents)))).collect()
}

impl Recipe {
    /// Which pool its packages come from and go to.
    pub(super) fn pool_of(&self) -> PoolOf {
        let own = self.definition.binary_packages.own.as_ref().map(|_| self.definition.name.clone());
        PoolOf { portage_profile: self.portage_profile.clone(), own }
    }

    /// What a session of it is given.
    pub(super) fn given(&self) -> Given<'_> {
        Given {
            hooks: Some(&self.hooks),
            portage: Some(&self.portage),
            downloads: Some(&self.downloads),
            trees: Some(&self.trees),
            ..Given::default()
        }
    }

    /// The patches that a session of it is given.
    pub(super) fn patches(&self) -> Vec<PatchRecord> {
        self.portage.patches().iter().map(PatchRecord::from).collect()
    }

    /// What a state of this recipe says about itself.
    pub(super) fn origin(&self, profile: &str, inputs: &Inputs, pool: &PoolInputs, upstream: &State) -> serde_json::Value {
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
    pub(super) fn newest_input(&self, upstream: &State) -> i64 {
        self.trees.iter().map(|tree| tree.newest).chain([upstream.newest_input]).max().unwrap_or(0)
    }

    pub(super) fn inputs(&self, upstream: &State, definition: &str) -> Inputs {
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

/// Whether emerge left a list to go on with. The file is hostile: it is only looked at, bounded, and links are not followed.
fn can_resume(upper: &std::path::Path) -> bool {
    let read = RootDir::open(upper).and_then(|root| root.read(resume::MTIMEDB, 16 << 20));
    read.is_ok_and(|bytes| resume::resumable(&bytes))
}

/// Where `/etc/portage/make.profile` of a stage3 points.
pub(super) fn profile_link(lower: &[PathBuf]) -> Option<String> {
    let link = lower.iter().find_map(|layer| RootDir::open(layer).ok()?.read_link("etc/portage/make.profile").ok())?;
    Some(link.to_string_lossy().into_owned())
}

/// Which Portage profile a stage3 comes with, read from its link: `../../var/db/repos/gentoo/profiles/default/…`.
pub(super) fn stage3_profile(lower: &[PathBuf]) -> String {
    let link = profile_link(lower).unwrap_or_default();
    let below_repos = link.split_once(&format!("{REPOS_DIR}/")).map(|(_, rest)| rest);
    match below_repos.and_then(|rest| rest.split_once("/profiles/")) {
        Some((repository, path)) => format!("{repository}:{path}"),
        None => link,
    }
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
