//! Kernel sources, installed once on the builder. Configurations are asked for and kernels are compiled on that state.

use crate::build_key::Inputs;
use crate::config::{ConfigDir, Place};
use crate::context::Context;
use crate::origin::Origin;
use crate::portage::atom::{Atom, Operator};
use crate::portage::binpkgs::PoolInputs;
use crate::portage::cpv::Cpv;
use crate::portage::emerge::request::{Existing, Goal, Mode, Request};
use crate::recipe::definition::subject_of;
use crate::recipe::kernel::error::KernelError;
use crate::recipe::kernel::give;
use crate::recipe::realise::{Built, InSession, Recipe, in_session, realise, under_another_key};
use crate::recipe::{Result, kernel, merge};
use crate::session::inspect::PoolOf;
use crate::session::keys::pools;
use crate::session::keys::pools::PoolUse;
use crate::session::work::{Given, StepsDone, Subject};
use crate::session::{Work, relink, tidy, work};
use crate::store::{Purpose, Session, State};
use crate::trees::choose::PinnedTree;

pub(crate) use crate::origin::SourcesFacts;

impl SourcesFacts {
    /// From a state's origin.
    pub(crate) fn of(state: &State) -> Option<Self> {
        match &*state.origin {
            Origin::KernelSources(of) => of.sources.clone(),
            _ => None,
        }
    }

    pub(crate) fn package_name(&self) -> String {
        Cpv::name_of(&self.package).to_owned()
    }

    pub(crate) fn version(&self) -> String {
        Cpv::parse(&self.package).map_or_else(String::new, |cpv| cpv.version.to_owned())
    }
}

fn subject(profile: &str) -> Subject {
    Subject {
        log_name: format!("kernel-sources-{profile}"),
        profile: profile.to_owned(),
        definition: crate::recipe::kernel::BUILDER.to_owned(),
    }
}

pub(crate) struct WantedSources<'a> {
    pub(crate) atom: &'a Atom,
    /// Where the configuration names them.
    pub(crate) at: Option<Place>,
    pub(crate) trees: &'a [PinnedTree],
}

impl WantedSources<'_> {
    /// Whether it can mean only one package of one tree.
    fn is_exact(&self) -> bool {
        self.atom.operator == Some(Operator::Equal) && self.atom.version.as_ref().is_some_and(|version| !version.ends_with('*'))
    }
}

struct SourcesRecipe<'a> {
    config: &'a ConfigDir,
    profile: &'a str,
    wanted: &'a WantedSources<'a>,
    builder: &'a State,
}

/// The state in which the sources are installed. It is made if it is missing. The caller holds the lock on the profile, shared.
pub(crate) fn kernel_sources(
    cx: &Context<'_>,
    config: &ConfigDir,
    wanted: &WantedSources<'_>,
    profile: &str,
    builder: &State,
) -> Result<(State, SourcesFacts)> {
    let state = realise(cx, &SourcesRecipe { config, profile, wanted, builder })?.state;
    let facts = SourcesFacts::of(&state).ok_or_else(|| KernelError::NotSources { package: wanted.atom.to_string() })?;
    Ok((state, facts))
}

impl Recipe for SourcesRecipe<'_> {
    fn name(&self) -> Option<String> {
        Some(self.lock())
    }

    fn lock(&self) -> String {
        format!("kernel-sources/{}/{}", self.profile, crate::config::sources_label(self.wanted.atom))
    }

    fn words(&self) -> String {
        format!("{} on {}", self.wanted.atom, self.profile)
    }

    fn inputs(&self) -> Inputs {
        Inputs::new("kernel sources")
            .with("parent", &self.builder.key)
            .with("sources", self.wanted.atom.to_string())
            .with_list("trees", self.wanted.trees.iter().map(|tree| format!("{}={}", tree.name, tree.digest)))
    }

    fn accepts(&self, state: &State) -> bool {
        SourcesFacts::of(state).is_some()
    }

    fn make(&self, cx: &Context<'_>) -> Result<Built> {
        if self.wanted.is_exact() {
            return in_session(cx, self);
        }
        // Find out which package the atom means today. That one may be installed already under its exact name.
        let facts = ask_for_sources(cx, self.wanted, self.profile, self.builder)?;
        let exact = Atom::parse_target(&format!("={}", facts.package))
            .map_err(|_| KernelError::NotSources { package: facts.package.clone() })?;
        let exact = WantedSources { atom: &exact, at: self.wanted.at.clone(), trees: self.wanted.trees };
        let state = realise(cx, &SourcesRecipe { wanted: &exact, ..*self })?.state;
        under_another_key(cx, &state, &self.inputs(), state.origin.json().clone())
    }
}

impl InSession for SourcesRecipe<'_> {
    type Filled = (SourcesFacts, PoolInputs);

    fn base(&self, _cx: &Context<'_>) -> Result<Option<State>> {
        Ok(Some(self.builder.clone()))
    }

    fn purpose(&self) -> Purpose {
        Purpose::Kernel
    }

    fn subject(&self) -> Option<String> {
        Some(subject_of(self.config, &self.lock()))
    }

    fn step(&self, resumed: bool) -> String {
        format!("{} {}", if resumed { "resuming" } else { "installing" }, self.words())
    }

    fn fill(&self, cx: &Context<'_>, session: &mut Session, _base: Option<&State>) -> Result<Self::Filled> {
        install_sources(cx, session, self.builder, self.wanted, &subject(self.profile))
    }

    fn origin(&self, _base: Option<&State>, (facts, pool): &Self::Filled) -> serde_json::Value {
        let mut origin = self.builder.origin.json().clone();
        for (name, value) in [
            ("kind", serde_json::json!("kernel sources")),
            ("name", serde_json::json!(facts.package)),
            ("definition", serde_json::Value::Null),
            ("sources", serde_json::json!(facts)),
            ("inputs", serde_json::json!(self.inputs())),
            ("pool", serde_json::json!(pool)),
        ] {
            origin[name] = value;
        }
        origin
    }

    fn newest_input(&self, _base: Option<&State>, _filled: &Self::Filled) -> i64 {
        self.wanted.trees.iter().map(|tree| tree.newest).chain([self.builder.newest_input]).max().unwrap_or(0)
    }
}

/// Asks Portage in a throw-away session which package an atom means.
fn ask_for_sources(cx: &Context<'_>, wanted: &WantedSources<'_>, profile: &str, builder: &State) -> Result<SourcesFacts> {
    let mut session = cx.store.session_create(Some(builder), Purpose::Kernel, "")?;
    let asked = (|| {
        let subject = subject(profile);
        let work = work::work(cx, &mut session, builder, &subject, Given { trees: Some(wanted.trees), ..Given::default() })?;
        give(&work, &[])?;
        let facts = resolve_sources(cx, &work, wanted);
        work.forget_logs();
        facts
    })();
    session.discard(cx.launcher)?;
    asked
}

fn install_sources(
    cx: &Context<'_>,
    session: &mut Session,
    builder: &State,
    wanted: &WantedSources<'_>,
    subject: &Subject,
) -> Result<(SourcesFacts, PoolInputs)> {
    let mut steps = StepsDone::of(session)?;
    let mut work = work::work(cx, session, builder, subject, Given { trees: Some(wanted.trees), ..Given::default() })?;
    let resumed = steps.any();
    give(&work, &[])?;
    let pool = pools::choose_pool(cx, &mut work, PoolOf::recorded(&builder.origin), PoolUse::Publish, &[])?;
    let facts = resolve_sources(cx, &work, wanted)?;
    let facts = if facts.distribution {
        facts
    } else {
        let goal = Goal::Packages { atoms: vec![format!("={}", facts.package)], existing: Existing::Keep, oneshot: true };
        // A binary package of kernel sources would be large and of use to nobody.
        let request = Request { buildpkg_exclude: vec![facts.package_name()], ..Request::new(goal, Mode::Run) };
        merge::emerge_request(cx, &work, &mut steps, "kernel sources", request, resumed, false)?;
        examine_sources(cx, &work, facts)?
    };
    pools::tell_published(cx, &work, &pool);
    relink::relink(cx, &work)?;
    tidy::tidy(cx, &work)?;
    Ok((facts, pool))
}

/// Which package the atom means with the session's configuration.
pub(crate) fn resolve_sources(cx: &Context<'_>, work: &Work<'_>, wanted: &WantedSources<'_>) -> Result<SourcesFacts> {
    let atom = wanted.atom.to_string();
    let answer = kernel::ask_kernel(cx, work, &["resolve", &atom])?;
    let package = answer.get("PACKAGE").to_owned();
    if package.is_empty() {
        return Err(KernelError::NoSources { atom, place: wanted.at.clone() }.into());
    }
    let flags = answer.get("IUSE").split_whitespace().map(|flag| flag.trim_start_matches(['+', '-']));
    let distribution = flags.into_iter().any(|flag| flag == "savedconfig");
    Ok(SourcesFacts { package, distribution, tree: String::new(), contents: String::new() })
}

/// Looks at what was installed, by the package's own list.
fn examine_sources(cx: &Context<'_>, work: &Work<'_>, facts: SourcesFacts) -> Result<SourcesFacts> {
    let answer = kernel::ask_kernel(cx, work, &["examine", &facts.package])?;
    if !answer.get("BUILT").is_empty() {
        return Err(KernelError::Prebuilt { package: facts.package }.into());
    }
    if answer.get("TREE").is_empty() {
        return Err(KernelError::NotSources { package: facts.package }.into());
    }
    Ok(SourcesFacts { tree: answer.get("TREE").to_owned(), contents: answer.get("CONTENTS").to_owned(), ..facts })
}
