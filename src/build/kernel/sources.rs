//! Kernel sources, installed once on the builder: where a configuration is asked for, and kernels are compiled.

use serde::{Deserialize, Serialize};

use super::super::definition::subject_of;
use super::super::engine::{Engine, Work};
use super::super::error::Result;
use super::super::inspect::PoolOf;
use super::super::key::Inputs;
use super::super::keys::PoolUse;
use super::super::work::{Given, StepsDone, Subject};
use super::{KernelError, give};
use crate::config::{ConfigDir, Place};
use crate::portage::atom::{Atom, Operator};
use crate::portage::binpkgs::PoolInputs;
use crate::portage::cpv::Cpv;
use crate::portage::emerge::request::{Existing, Goal, Mode, Request};
use crate::store::{NewState, Purpose, Session, State};

use super::super::tree::PinnedTree;

/// What sources turned out to be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SourcesFacts {
    /// Category, name and version of their package.
    pub(super) package: String,
    /// Whether that package builds the kernel, so that nothing is installed yet.
    pub(super) distribution: bool,
    /// Where they lie.
    pub(super) tree: String,
    /// Digest of the names and checksums of all files of the package.
    pub(super) contents: String,
}

impl SourcesFacts {
    /// As they were noted.
    pub(super) fn of(state: &State) -> Option<Self> {
        serde_json::from_value(state.origin["sources"].clone()).ok()
    }

    /// Category and name without the version.
    pub(super) fn package_name(&self) -> String {
        Cpv::name_of(&self.package).to_owned()
    }

    /// The version, as Portage has it.
    pub(super) fn version(&self) -> String {
        Cpv::parse(&self.package).map_or_else(String::new, |cpv| cpv.version.to_owned())
    }
}

fn subject(profile: &str) -> Subject {
    Subject { log_name: format!("kernel-sources-{profile}"), profile: profile.to_owned(), definition: super::BUILDER.to_owned() }
}

/// Which sources are wanted.
pub(super) struct WantedSources<'a> {
    pub(super) atom: &'a Atom,
    /// Where they are named.
    pub(super) at: Option<Place>,
    pub(super) trees: &'a [PinnedTree],
}

impl WantedSources<'_> {
    /// Whether only one package of one tree can be meant.
    fn is_exact(&self) -> bool {
        self.atom.operator == Some(Operator::Equal) && self.atom.version.as_ref().is_some_and(|version| !version.ends_with('*'))
    }
}

impl Engine<'_> {
    /// The state in which sources are installed, made if need be. The caller holds the lock on the profile, shared.
    pub(super) fn kernel_sources(
        &self,
        config: &ConfigDir,
        wanted: &WantedSources<'_>,
        profile: &str,
        builder: &State,
    ) -> Result<(State, SourcesFacts)> {
        let name = format!("kernel-sources/{profile}/{}", crate::config::sources_label(wanted.atom));
        let inputs = Inputs::new("kernel sources")
            .with("parent", &builder.key)
            .with("sources", wanted.atom.to_string())
            .with_list("trees", wanted.trees.iter().map(|tree| format!("{}={}", tree.name, tree.digest)));
        let key = inputs.key();
        if wanted.is_exact() {
            let _lock = self.lock(&name)?;
            self.install_exactly(config, wanted, profile, builder, &name, &inputs)
        } else if let Some(found) = self.sources_by_key(&name, &key)? {
            Ok(found)
        } else {
            // What the atom means today; under that name it may be there.
            let facts = self.ask_for_sources(wanted, profile, builder)?;
            let exact = Atom::parse_target(&format!("={}", facts.package))
                .map_err(|_| KernelError::NotSources { package: facts.package.clone() })?;
            let exact = WantedSources { atom: &exact, at: wanted.at.clone(), trees: wanted.trees };
            let (state, facts) = self.kernel_sources(config, &exact, profile, builder)?;
            let mut origin = state.origin.clone();
            origin["inputs"] = serde_json::json!(inputs);
            let new = NewState { key, origin, newest_input: state.newest_input, parent: Some(state.id.clone()) };
            let state = self.store.state_of_layers(state.layers.clone(), new)?;
            self.store.ref_set(&name, &state.id)?;
            Ok((state, facts))
        }
    }

    /// Sources that are there under a build key; their name is moved there.
    fn sources_by_key(&self, name: &str, key: &str) -> Result<Option<(State, SourcesFacts)>> {
        let Some(state) = self.store.state_by_key(key)? else { return Ok(None) };
        let Some(facts) = SourcesFacts::of(&state) else { return Ok(None) };
        self.store.ref_set(name, &state.id)?;
        Ok(Some((state, facts)))
    }

    /// Asks Portage which package an atom means, in a session that is thrown away.
    fn ask_for_sources(&self, wanted: &WantedSources<'_>, profile: &str, builder: &State) -> Result<SourcesFacts> {
        let mut session = self.store.session_create(Some(builder), Purpose::Kernel, "")?;
        let asked = (|| {
            let subject = subject(profile);
            let work = self.work(&mut session, builder, &subject, Given { trees: Some(wanted.trees), ..Given::default() })?;
            give(&work, &[])?;
            let facts = self.resolve_sources(&work, wanted);
            work.forget_logs();
            facts
        })();
        session.discard(self.launcher)?;
        asked
    }

    fn install_exactly(
        &self,
        config: &ConfigDir,
        wanted: &WantedSources<'_>,
        profile: &str,
        builder: &State,
        name: &str,
        inputs: &Inputs,
    ) -> Result<(State, SourcesFacts)> {
        let (atom, key) = (wanted.atom.to_string(), inputs.key());
        if let Some(found) = self.sources_by_key(name, &key)? {
            return Ok(found);
        }
        let (mut session, resumed) = self.open_session(builder, Purpose::Kernel, &key, &subject_of(config, name))?;
        self.step(&format!("{} {atom} on {profile}", if resumed { "resuming" } else { "installing" }));
        let filled = self.install_sources(&mut session, builder, wanted, &subject(profile));
        let newest_input = wanted.trees.iter().map(|tree| tree.newest).chain([builder.newest_input]).max().unwrap_or(0);
        let (state, facts) = self.settle(filled, session, |session, (facts, pool): (SourcesFacts, PoolInputs)| {
            let mut origin = builder.origin.clone();
            for (name, value) in [
                ("kind", serde_json::json!("kernel sources")),
                ("name", serde_json::json!(facts.package)),
                ("definition", serde_json::Value::Null),
                ("sources", serde_json::json!(facts)),
                ("inputs", serde_json::json!(inputs)),
                ("pool", serde_json::json!(pool)),
            ] {
                origin[name] = value;
            }
            let state = session.commit(NewState { key: key.clone(), origin, newest_input, parent: Some(builder.id.clone()) })?;
            Ok((state, facts))
        })?;
        self.store.ref_set(name, &state.id)?;
        Ok((state, facts))
    }

    fn install_sources(
        &self,
        session: &mut Session,
        builder: &State,
        wanted: &WantedSources<'_>,
        subject: &Subject,
    ) -> Result<(SourcesFacts, PoolInputs)> {
        let mut steps = StepsDone::of(session)?;
        let mut work = self.work(session, builder, subject, Given { trees: Some(wanted.trees), ..Given::default() })?;
        let resumed = steps.any();
        give(&work, &[])?;
        let pool = self.choose_pool(&mut work, PoolOf::recorded(&builder.origin), PoolUse::Publish)?;
        let facts = self.resolve_sources(&work, wanted)?;
        let facts = if facts.distribution {
            facts
        } else {
            let goal = Goal::Packages { atoms: vec![format!("={}", facts.package)], existing: Existing::Keep, oneshot: true };
            // A binary package of a million files would be of use to nobody.
            let request = Request { buildpkg_exclude: vec![facts.package_name()], ..Request::new(goal, Mode::Run) };
            self.emerge_request(&work, &mut steps, "kernel sources", request, resumed, false)?;
            self.examine_sources(&work, facts)?
        };
        self.tell_published(&work, &pool);
        self.relink(&work)?;
        self.tidy(&work)?;
        Ok((facts, pool))
    }

    /// Which package the atom means, as the configuration of the session has it.
    pub(super) fn resolve_sources(&self, work: &Work<'_>, wanted: &WantedSources<'_>) -> Result<SourcesFacts> {
        let atom = wanted.atom.to_string();
        let answer = self.ask_kernel(work, &["resolve", &atom])?;
        let package = answer.get("PACKAGE").to_owned();
        if package.is_empty() {
            return Err(KernelError::NoSources { atom, place: wanted.at.clone() }.into());
        }
        let flags = answer.get("IUSE").split_whitespace().map(|flag| flag.trim_start_matches(['+', '-']));
        let distribution = flags.into_iter().any(|flag| flag == "savedconfig");
        Ok(SourcesFacts { package, distribution, tree: String::new(), contents: String::new() })
    }

    /// What was installed, by the package's own list.
    fn examine_sources(&self, work: &Work<'_>, facts: SourcesFacts) -> Result<SourcesFacts> {
        let answer = self.ask_kernel(work, &["examine", &facts.package])?;
        if !answer.get("BUILT").is_empty() {
            return Err(KernelError::Prebuilt { package: facts.package }.into());
        }
        if answer.get("TREE").is_empty() {
            return Err(KernelError::NotSources { package: facts.package }.into());
        }
        Ok(SourcesFacts { tree: answer.get("TREE").to_owned(), contents: answer.get("CONTENTS").to_owned(), ..facts })
    }
}
