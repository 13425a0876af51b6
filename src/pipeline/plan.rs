//! From the configuration to nodes: what can be built, with which keys, and what exists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use rayon::prelude::*;

use crate::artifact::recorded::{Lacking, Signature};
use crate::artifact::{Artifact, ExportOptions};
use crate::build_key::Inputs;
use crate::config::hooks::Hooks;
use crate::config::{BUILDER, ConfigDir, Diagnostic, Env, KernelConfig, Located, Stage4Definition};
use crate::context::Context;
use crate::names::profiles;
use crate::names::refs::{kernel_ref, profile_lock, ref_name, stage4_ref};
use crate::pipeline::why::Reason;
use crate::pipeline::{Error, Made, Node, NodeKind, Pipeline, PipelineOptions, Result, why};
use crate::recipe::definition;
use crate::recipe::definition::Stage3;
use crate::recipe::kernel::Kernel;
use crate::recipe::stage4::Stage4;
use crate::recipe::standing::Standing;
use crate::store::State;
use crate::{artifact, config, context, remote};

/// A node with its recipe.
pub(crate) struct Part {
    pub(crate) node: Node,
    pub(crate) what: What,
    /// What of it exists.
    pub(crate) made: Made,
    /// Whether the existing state has other inputs, but no change concerns its packages, so that it is used.
    pub(crate) stands: bool,
}

/// How a node is built. A further kind needs a variant here, an arm in `run.rs`, and its nodes in [`Planner::parts`].
pub(crate) enum What {
    /// Applied to its profile's stage3. `asked_for` is the stage4 that needs it; proposals name it.
    Definition { recipe: Arc<Stage3>, upstream: State, asked_for: String },
    /// Built on the state of the node `builder`.
    Kernel { recipe: Box<Kernel>, builder: String, asked_for: String },
    /// Built on the states of the nodes `base` and `kernel`.
    Stage4 { recipe: Box<Stage4>, base: String, kernel: Option<String> },
    /// Made of the state of the node `of`.
    Artifact { of: String, options: Box<ExportOptions> },
}

/// What is read before there are nodes.
struct Planner<'p, 'a> {
    cx: &'p Context<'a>,
    config: &'p ConfigDir,
    hooks: Hooks,
}

/// A state that is wanted.
struct Wanted {
    inputs: Inputs,
    key: String,
}

impl Wanted {
    fn new(inputs: Inputs) -> Self {
        let key = inputs.key();
        Self { inputs, key }
    }
}

impl Made {
    fn stands(&self, wanted: &Wanted) -> bool {
        self.state.as_ref().is_some_and(|state| state.key != wanted.inputs.key())
    }
}

pub(crate) type OnProfile = (String, String);
/// Each with the first stage4 that needs it.
type Recipes = BTreeMap<OnProfile, (Arc<Stage3>, String)>;

/// A kernel with the first stage4 that needs it.
struct WantedKernel {
    recipe: Kernel,
    asked_for: String,
    wanted: Wanted,
}

/// The nodes asked for; the planner adds those that they need.
#[derive(Default)]
pub(crate) struct Wishes {
    /// Names of stage4 definitions.
    pub(crate) stage4s: BTreeSet<String>,
    /// Profiles, with a stage3 definition each.
    pub(crate) stage3s: BTreeSet<OnProfile>,
    /// Profiles, with a kernel each.
    pub(crate) kernels: Vec<(String, KernelConfig)>,
    /// The profile whose lock the caller holds exclusively. Taking it again would wait for ourselves.
    pub(crate) locked: Option<String>,
}

impl Wishes {
    /// The stage4s that `options` name.
    pub(crate) fn of(config: &ConfigDir, options: &PipelineOptions) -> Self {
        let names = if options.names.is_empty() { config.stage4_names() } else { options.names.clone() };
        Self { stage4s: names.into_iter().collect(), ..Self::default() }
    }

    /// Profiles named in the request.
    fn profiles(&self) -> impl Iterator<Item = &str> {
        self.stage3s.iter().map(|(profile, _)| profile.as_str()).chain(self.kernels.iter().map(|(profile, _)| profile.as_str()))
    }
}

pub(crate) fn plan<'e, 'a>(
    cx: &'e Context<'a>,
    config: &'e ConfigDir,
    wishes: Wishes,
    options: PipelineOptions,
) -> Result<Pipeline<'e, 'a>> {
    let begun = Instant::now();
    let mut locks = vec![context::share_store(cx)?];
    let env = config.env(&cx.settings.arch)?;
    let definitions = all(wishes.stage4s.par_iter().map(|name| Ok(config.stage4(name)?)).collect())?;
    // A map, since locks are taken by order of name. The value is where the configuration names the profile.
    let mut wanted: BTreeMap<&str, Option<&Located<String>>> = wishes.profiles().map(|profile| (profile, None)).collect();
    for definition in &definitions {
        wanted.entry(definition.profile.value.as_str()).or_insert(Some(&definition.profile));
    }
    let mut upstreams = BTreeMap::new();
    for (profile, named) in wanted {
        if let Some(named) = named {
            profiles::profile_of(cx, named)?;
        }
        if wishes.locked.as_deref() != Some(profile) {
            locks.push(context::lock_shared(cx, &profile_lock(profile))?);
        }
        upstreams.insert(profile.to_owned(), profiles::upstream(cx, profile)?);
    }
    let planner = Planner { cx, config, hooks: Hooks::with_config(config.root())? };
    let parts = planner.parts(definitions, wishes, &upstreams, &env, &options)?;
    Ok(Pipeline { cx, config, options, env, parts, begun, _locks: locks })
}

impl Planner<'_, '_> {
    fn parts(
        &self,
        definitions: Vec<Stage4Definition>,
        wishes: Wishes,
        upstreams: &BTreeMap<String, State>,
        env: &Env,
        options: &PipelineOptions,
    ) -> Result<Vec<Part>> {
        let kernels = all(definitions.par_iter().map(|definition| Ok(self.config.kernel_of(definition)?)).collect())?;
        let recipes = self.recipes(&definitions, &kernels, &wishes, upstreams)?;
        let mut bases: BTreeMap<OnProfile, Wanted> =
            recipes.iter().map(|(at, (recipe, _))| (at.clone(), Wanted::new(recipe.inputs(&upstreams[&at.0])))).collect();
        let mut concerned = BTreeMap::new();
        let standing = self.standing_bases(&recipes, &mut bases, &mut concerned)?;
        let labels: Vec<Option<OnProfile>> = definitions
            .iter()
            .zip(&kernels)
            .map(|(definition, kernel)| Some((definition.profile.value.clone(), kernel.as_ref()?.label())))
            .collect();
        let of_stages =
            definitions.iter().zip(kernels).filter_map(|(definition, kernel)| Some((definition.profile.value.clone(), kernel?)));
        let kernels = wanted_kernels(of_stages.chain(wishes.kernels), &recipes, &bases);
        let stages: Vec<(Stage4, OnProfile, Option<OnProfile>, Wanted)> = definitions
            .into_par_iter()
            .zip(labels)
            .map(|(definition, kernel)| {
                let at = (definition.profile.value.clone(), definition.stage3.value.clone());
                let on = &recipes[&at].0;
                let recipe = Stage4::new(definition, self.hooks.clone(), on.trees.clone(), Arc::clone(on), &options.skip);
                let kernel_key = kernel.as_ref().map(|kernel| kernels[kernel].wanted.key.as_str());
                let since = standing.get(&at).map(|base| recipe.since(base)).unwrap_or_default();
                let wanted = Wanted::new(recipe.inputs(&bases[&at].key, &since, kernel_key));
                (recipe, at, kernel, wanted)
            })
            .collect();
        let of_stages = stages.iter().map(|(_, _, _, wanted)| wanted.key.as_str());
        let of_kernels = kernels.values().map(|kernel| kernel.wanted.key.as_str());
        let keys: Vec<&str> = bases.values().map(|base| base.key.as_str()).chain(of_kernels).chain(of_stages).collect();
        let mut found = self.cx.store.states_by_key(&keys)?;
        for (recipe, at, _, wanted) in &stages {
            // If the base is rebuilt, so is everything on it.
            if !found.contains_key(&wanted.key) && found.contains_key(&bases[at].key) {
                match recipe.standing(self.cx, &wanted.inputs)? {
                    Standing::Same(state) => drop(found.insert(wanted.key.clone(), state)),
                    Standing::Concerned(words) => drop(concerned.insert(wanted.key.clone(), words)),
                    Standing::Other => {}
                }
            }
        }
        let missing: Vec<&str> = keys.into_iter().filter(|key| !found.contains_key(*key)).collect();
        let suspended = if missing.is_empty() { Vec::new() } else { self.cx.store.sessions_suspended(&missing)? };
        let remote = remote::known(self.cx, &missing)?;
        let here = Here { found, suspended, remote, concerned };

        let mut parts = Vec::new();
        for (at, (recipe, asked_for)) in recipes {
            parts.push(self.definition_part(&at, recipe, asked_for, &upstreams[&at.0], &bases[&at], &here)?);
        }
        let kernel_is_built: BTreeMap<OnProfile, bool> =
            kernels.iter().map(|(at, kernel)| (at.clone(), !here.found.contains_key(&kernel.wanted.key))).collect();
        for (at, kernel) in kernels {
            parts.push(self.kernel_part(&at, kernel, &bases[&(at.0.clone(), BUILDER.to_owned())].key, &here)?);
        }
        let made: Vec<(Part, Option<Part>)> = stages
            .into_par_iter()
            .map(|(recipe, at, kernel, wanted)| {
                let (form, name) =
                    (ExportOptions::of(Some(&recipe.definition), options.format, &env.arch), recipe.definition.name.clone());
                let kernel = kernel.map(|at| (kernel_ref(&at.0, &at.1), kernel_is_built[&at]));
                let stage = self.stage4_part(&at, &bases[&at].key, recipe, kernel, &wanted, &here)?;
                let artifact = (!options.no_files).then(|| self.artifact_part(&name, &stage, form, env, options));
                Ok((stage, artifact))
            })
            .collect::<Result<_>>()?;
        let (stages, artifacts): (Vec<Part>, Vec<Option<Part>>) = made.into_iter().unzip();
        parts.extend(stages);
        parts.extend(artifacts.into_iter().flatten());
        Ok(parts)
    }

    /// The stage3 definitions of all stage4s by profile, each merged once, with the first stage4 that needs it.
    fn recipes(
        &self,
        definitions: &[Stage4Definition],
        kernels: &[Option<KernelConfig>],
        wishes: &Wishes,
        upstreams: &BTreeMap<String, State>,
    ) -> Result<Recipes> {
        let mut wanted: BTreeMap<OnProfile, String> = BTreeMap::new();
        for definition in definitions {
            let at = (definition.profile.value.clone(), definition.stage3.value.clone());
            wanted.entry(at).or_insert_with(|| definition.name.clone());
        }
        for at in &wishes.stage3s {
            wanted.entry(at.clone()).or_insert_with(|| at.1.clone());
        }
        // The builder compiles kernels.
        let of_stages =
            definitions.iter().zip(kernels).filter(|(_, kernel)| kernel.is_some()).map(|(stage4, _)| &stage4.profile.value);
        for profile in of_stages.chain(wishes.kernels.iter().map(|(profile, _)| profile)) {
            wanted.entry((profile.clone(), BUILDER.to_owned())).or_insert_with(|| format!("stage3:{BUILDER}"));
        }
        let wanted: Vec<(OnProfile, String)> = wanted.into_iter().collect();
        let read = wanted.into_par_iter().map(|(at, asked_for)| {
            let upstream = &upstreams[&at.0];
            let recipe = definition::recipe_with(self.cx, self.config, [&at.0, &at.1], upstream, self.hooks.clone())?;
            Ok((at, (Arc::new(recipe), asked_for)))
        });
        Ok(all(read.collect())?.into_iter().collect())
    }

    /// Definitions whose state is used although its key has changed, since no change concerns its packages.
    fn standing_bases(
        &self,
        recipes: &Recipes,
        bases: &mut BTreeMap<OnProfile, Wanted>,
        concerned: &mut BTreeMap<String, Vec<String>>,
    ) -> Result<BTreeMap<OnProfile, State>> {
        let store = &self.cx.store;
        let mut standing = BTreeMap::new();
        for (at, (recipe, _)) in recipes {
            let (Some(wanted), name) = (bases.get_mut(at), ref_name(&at.0, &at.1)) else { continue };
            let Some(id) = store.ref_get(&name)? else { continue };
            if store.state(&id).is_ok_and(|state| state.key == wanted.key) || store.state_by_key(&wanted.key)?.is_some() {
                continue;
            }
            match recipe.standing(self.cx, &name, &wanted.inputs)? {
                Standing::Same(state) => {
                    wanted.key.clone_from(&state.key);
                    standing.insert(at.clone(), state);
                }
                Standing::Concerned(words) => drop(concerned.insert(wanted.key.clone(), words)),
                Standing::Other => {}
            }
        }
        Ok(standing)
    }

    fn definition_part(
        &self,
        at: &OnProfile,
        recipe: Arc<Stage3>,
        asked_for: String,
        upstream: &State,
        wanted: &Wanted,
        here: &Here,
    ) -> Result<Part> {
        let (profile, name) = at;
        let node = here.node(NodeKind::Stage3, format!("stage3/{profile}/{name}"), profile, name, Vec::new(), wanted);
        let why = if node.build {
            here.with_concerned(why::of_state(self.cx, &ref_name(profile, name), &wanted.inputs, &[], Some(&recipe))?, wanted)
        } else {
            Vec::new()
        };
        let made = Made { state: here.found.get(&wanted.key).cloned(), artifact: None };
        let what = What::Definition { recipe, upstream: upstream.clone(), asked_for };
        Ok(Part { node: Node { why, ..node }, what, stands: made.stands(wanted), made })
    }

    fn kernel_part(&self, at: &OnProfile, kernel: WantedKernel, builder_key: &str, here: &Here) -> Result<Part> {
        let WantedKernel { recipe, asked_for, wanted } = kernel;
        let (builder, id) = (format!("stage3/{}/{BUILDER}", at.0), kernel_ref(&at.0, &at.1));
        let builder_is_built = !here.found.contains_key(builder_key);
        let node = here.node(NodeKind::Kernel, id.clone(), &at.0, &at.1, vec![builder.clone()], &wanted);
        let why = if node.build {
            why::of_state(self.cx, &id, &wanted.inputs, &[("parent", &builder, builder_is_built)], None)?
        } else {
            Vec::new()
        };
        let made = Made { state: here.found.get(&wanted.key).cloned(), artifact: None };
        Ok(Part {
            node: Node { why, ..node },
            what: What::Kernel { recipe: Box::new(recipe), builder, asked_for },
            made,
            stands: false,
        })
    }

    /// `kernel` is the id of the kernel's node, and whether it is built.
    fn stage4_part(
        &self,
        at: &OnProfile,
        base_key: &str,
        recipe: Stage4,
        kernel: Option<(String, bool)>,
        wanted: &Wanted,
        here: &Here,
    ) -> Result<Part> {
        let name = recipe.definition.name.clone();
        let base = format!("stage3/{}/{}", at.0, at.1);
        let mut from = vec![("parent", base.as_str(), !here.found.contains_key(base_key))];
        from.extend(kernel.as_ref().map(|(id, is_built)| ("kernel", id.as_str(), *is_built)));
        let needs = from.iter().map(|(_, id, _)| (*id).to_owned()).collect();
        let node = here.node(NodeKind::Stage4, format!("stage4/{name}"), &at.0, &name, needs, wanted);
        let why = if node.build {
            why::of_state(self.cx, &stage4_ref(&name), &wanted.inputs, &from, Some(&recipe.on))?
        } else {
            Vec::new()
        };
        let why = here.with_concerned(why, wanted);
        let made = Made { state: here.found.get(&wanted.key).cloned(), artifact: None };
        let kernel = kernel.map(|(id, _)| id);
        Ok(Part {
            node: Node { why, ..node },
            what: What::Stage4 { recipe: Box::new(recipe), base, kernel },
            stands: made.stands(wanted),
            made,
        })
    }

    fn artifact_part(&self, name: &str, stage: &Part, form: ExportOptions, env: &Env, options: &PipelineOptions) -> Part {
        let of = stage.node.id.clone();
        let words = options.gpg.as_ref().map(|gpg| env.sign_key.as_ref().map(|key| key.value.as_str()).or(gpg.key.as_deref()));
        let signature = words.map_or(Signature::None, Signature::Of);
        let standing: std::result::Result<Artifact, Vec<Reason>> = match &stage.made.state {
            None => Err(vec![Reason::new(format!("{of} is built"))]),
            Some(state) => artifact::artifact_standing(self.cx, name, state, &form, signature)
                .map_err(|lacking| vec![Reason::new(words_for(lacking))]),
        };
        let (artifact, why) = match standing {
            Ok(artifact) => (Some(artifact), Vec::new()),
            Err(why) => (None, why),
        };
        let node = Node {
            id: format!("artifact/{name}"),
            kind: NodeKind::Artifact,
            profile: stage.node.profile.clone(),
            name: name.to_owned(),
            needs: vec![of.clone()],
            key: None,
            build: artifact.is_none(),
            fetch: false,
            resumes: false,
            why,
            state: stage.node.state.clone(),
            artifact: artifact.clone(),
        };
        Part {
            node,
            what: What::Artifact { of, options: Box::new(form) },
            made: Made { state: stage.made.state.clone(), artifact },
            stands: false,
        }
    }
}

/// Each kernel once, however many stage4s use it.
fn wanted_kernels(
    kernels: impl Iterator<Item = (String, KernelConfig)>,
    recipes: &Recipes,
    bases: &BTreeMap<OnProfile, Wanted>,
) -> BTreeMap<OnProfile, WantedKernel> {
    let mut wanted = BTreeMap::new();
    for (profile, config) in kernels {
        let builder = (profile.clone(), BUILDER.to_owned());
        wanted.entry((profile, config.label())).or_insert_with(|| {
            let recipe = Kernel { config, trees: recipes[&builder].0.trees.clone() };
            let wanted = Wanted::new(recipe.inputs(&bases[&builder].key));
            WantedKernel { recipe, asked_for: format!("stage3:{BUILDER}"), wanted }
        });
    }
    wanted
}

/// What the store and the remote have.
struct Here {
    found: BTreeMap<String, State>,
    suspended: Vec<String>,
    /// Keys that the remote has.
    remote: BTreeSet<String>,
    /// Why changes concern the packages of a state, by its key.
    concerned: BTreeMap<String, Vec<String>>,
}

impl Here {
    /// Adds the packages concerned to the reasons.
    fn with_concerned(&self, mut why: Vec<Reason>, wanted: &Wanted) -> Vec<Reason> {
        why.extend(self.concerned.get(&wanted.key).into_iter().flatten().map(Reason::new));
        why
    }

    fn node(&self, kind: NodeKind, id: String, profile: &str, name: &str, needs: Vec<String>, wanted: &Wanted) -> Node {
        let state = self.found.get(&wanted.key).map(|state| state.id.clone());
        Node {
            id,
            kind,
            profile: profile.to_owned(),
            name: name.to_owned(),
            needs,
            key: Some(wanted.key.clone()),
            build: state.is_none(),
            fetch: state.is_none() && self.remote.contains(&wanted.key),
            resumes: self.suspended.contains(&wanted.key),
            why: Vec::new(),
            state,
            artifact: None,
        }
    }
}

fn words_for(lacking: Lacking) -> &'static str {
    match lacking {
        Lacking::Absent => "there is none in this format",
        Lacking::OtherForm => "its files have another format",
        Lacking::OtherState => "its files are of another state",
        Lacking::Damaged => "its files were changed",
        Lacking::OtherKeep => "changed: keep",
        Lacking::OtherExclusions => "changed: the files that are left out by default",
        Lacking::OtherImage => "changed: oci",
        Lacking::OtherSignature => "its files are signed by another key, or by none",
    }
}

/// All values, or all errors of the configuration, each once however many stages share it; else the first other error.
fn all<T>(results: Vec<Result<T>>) -> Result<Vec<T>> {
    let mut wrong: BTreeSet<Diagnostic> = BTreeSet::new();
    let mut first = None;
    let mut values = Vec::new();
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(Error::Config(config::Error::Invalid(diagnostics))) => wrong.extend(diagnostics.as_slice().iter().cloned()),
            Err(error) => first = first.or(Some(error)),
        }
    }
    if !wrong.is_empty() {
        return Err(config::Error::Invalid(wrong.into_iter().collect::<Vec<_>>().into()).into());
    }
    first.map_or(Ok(values), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trees;

    #[test]
    fn a_mistake_that_several_stages_have_is_said_once() {
        let diagnostic = |line| Diagnostic {
            file: "portage.global/package.use".into(),
            line,
            severity: config::Severity::Error,
            message: "wrong".to_owned(),
            hint: None,
        };
        let invalid = |lines: &[u32]| -> Result<u32> {
            Err(config::Error::Invalid(lines.iter().copied().map(diagnostic).collect::<Vec<_>>().into()).into())
        };
        let error = all(vec![Ok(1), invalid(&[7, 3]), Err(trees::Error::NoTree.into()), invalid(&[3])]).unwrap_err();
        assert_eq!(error.to_string(), "portage.global/package.use:3: wrong\nportage.global/package.use:7: wrong");
        assert!(matches!(all(vec![Ok(1), Err(trees::Error::NoTree.into())]), Err(Error::Trees(trees::Error::NoTree))));
        assert_eq!(all(vec![Ok(1), Ok(2)]).unwrap(), [1, 2]);
    }
}
