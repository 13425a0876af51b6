//! `pipeline`: all stage4s, and the states that they need, as a graph whose independent parts are built side by side.
//!
//! ```text
//! stage3/demo/plain ──┬── stage4/web ──── artifact/web          a node is what is done or reused as a whole:
//!                     └── stage4/mail ─── artifact/mail         a stage3 definition on a profile (its state),
//! stage3/demo/hard ───┬── stage4/vault ── artifact/vault        a stage4 (its state), the files made of that state;
//!        kernel/demo/x ─┘                                       a kernel (its state), on the builder of the profile
//! ```
//!
//! **Planning** reads the configuration once, for all nodes (`plan.rs`). A node's build key depends on keys alone, so that all are known before
//! anything is built, and one look at the store says which states are there; nothing is started, entered or written for that, unless
//! what has changed may concern no package of a state ([`crate::recipe::standing`]). What is not there gets its reasons (`why.rs`): which inputs differ from those of the state that the node's name stands for. **Running** (`run.rs`)
//! gives nodes to threads as soon as what they need is done. Each node is built by what `stage build` uses, in a session of its own, so
//! that a node that is interrupted or fails is suspended and goes on the next time, and one that was killed is built anew from the
//! binary packages published so far.
//!
//! **A failure** ends nothing that runs: its work would have to be done again in the end. Without `keep_going` nothing more is begun; with
//! it, all is done that does not need what failed. An interruption goes to all sessions at once, each of which is suspended.
//!
//! **Locks.** A run holds the store's lock and, shared, the lock of each profile, all of it from planning to end: what was planned is what
//! is built, and `bootstrap` and `profile update`, `rollback`, `rename` and `rm`, which take a profile's lock exclusively, wait for its end (or it
//! for theirs). Two builds on one profile exclude each other in nothing but the node that both want: a definition on a profile
//! (`stage3/PROFILE/DEFINITION`), a kernel (`kernel/PROFILE/NAME`) or a stage4 (`stage4/NAME`) is locked exclusively while it is looked for once more, built and named, so that
//! whoever comes second finds it done. That is sound, since a definition reads the profile's stage3, which the shared lock keeps in place, and
//! writes a layer nobody sees before it is committed, and one name of its own; binary packages are published under the pool's own lock.
//! Trees may come meanwhile: a node mounts those that its build key was made with. `rollback` of a stage4's name waits for its node only.
//! It cannot deadlock: locks of profiles are taken in the order of their names, before any of a node; each thread holds that of one node
//! at a time, and waits for no other lock while it does, but for those that are held for moments.
//!
//! **Load.** `settings.jobs` is the budget of all nodes together: so many are built at the same time at most, and their emerges and makes share
//! so many jobs ([`crate::jobserver`]). Archives are compressed one after the other, since each takes all processors. None of it
//! is part of a build key.

pub(crate) mod bootstrap;
mod error;
pub(crate) mod formats;
pub(crate) mod kernel;
pub(crate) mod plan;
pub(crate) mod run;
pub(crate) mod stage;
pub(crate) mod why;

use serde::Serialize;

use crate::artifact::Artifact;
use crate::config::{ArtifactFormat, BUILDER, ConfigDir, Env};
use crate::context::Context;
use crate::pipeline::plan::{Part, Wishes};
use crate::pipeline::why::Reason;
use crate::stage3::sign::Gpg;
use crate::store::{Lock, State, StateId};

pub use error::Error;
pub(crate) use error::Result;

/// What to build and how to export it.
#[derive(Debug, Clone, Default)]
pub struct PipelineOptions {
    /// Names of stage4 definitions; all if empty.
    pub names: Vec<String>,
    /// Form and compression of the artifacts; each definition's if `None`.
    pub format: Option<ArtifactFormat>,
    /// The `gpg` to sign with; `None` leaves artifacts unsigned.
    pub gpg: Option<Gpg>,
    /// Make no artifacts.
    pub no_files: bool,
    /// Build one node after the other.
    pub one_by_one: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// A stage3 definition on a profile.
    Stage3,
    /// A kernel, built on a profile.
    Kernel,
    Stage4,
    /// The files made of a stage4.
    Artifact,
}

/// What is done or reused as a whole.
#[derive(Debug, Clone, Serialize)]
pub struct Node {
    /// `stage3/PROFILE/DEFINITION`, `kernel/PROFILE/NAME`, `stage4/NAME`, `artifact/NAME`.
    pub id: String,
    /// What it is.
    pub kind: NodeKind,
    pub profile: String,
    /// The definition.
    pub name: String,
    /// Ids of the nodes that it is made from.
    pub needs: Vec<String>,
    /// Its build key; none for artifacts.
    pub key: Option<String>,
    /// Whether it has to be built.
    pub build: bool,
    /// Whether that goes on in a session that was suspended.
    pub resumes: bool,
    /// Why it has to be built; empty if it has not.
    pub why: Vec<Reason>,
    /// Its state, if that is there.
    pub state: Option<StateId>,
    /// Its files, if they are there.
    pub artifact: Option<Artifact>,
}

/// A graph with what is needed to build it; its profiles stay as they are as long as it lives.
pub struct Pipeline<'e, 'a> {
    cx: &'e Context<'a>,
    config: &'e ConfigDir,
    options: PipelineOptions,
    env: Env,
    parts: Vec<Part>,
    begun: std::time::Instant,
    _locks: Vec<Lock>,
}

impl std::fmt::Debug for Pipeline<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("nodes", &self.nodes().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

/// Plans all of the stage4s that `options` name.
pub fn pipeline<'e, 'a>(cx: &'e Context<'a>, config: &'e ConfigDir, options: PipelineOptions) -> Result<Pipeline<'e, 'a>> {
    plan::plan(cx, config, Wishes::of(config, &options), options)
}

/// Plans the one node `id`. What it is made from must be there if it has to be built.
pub(crate) fn pipeline_node<'e, 'a>(
    cx: &'e Context<'a>,
    config: &'e ConfigDir,
    mut options: PipelineOptions,
    id: &str,
) -> Result<Pipeline<'e, 'a>> {
    let unknown = |known| Error::UnknownNode { id: id.to_owned(), known };
    options.names = match id.split_once('/') {
        Some(("stage4" | "artifact", name)) if config.stage4_names().iter().any(|known| known == name) => vec![name.to_owned()],
        // Any stage4 that stands on it will do; others, which may be wrong, are not read.
        Some(("stage3", rest)) => {
            let stands_on = |name: &String| {
                let definition = config.stage4(name).ok()?;
                let builder = definition.kconf.is_some() && rest == format!("{}/{BUILDER}", definition.profile.value);
                (builder || rest == format!("{}/{}", definition.profile.value, definition.stage3.value)).then(|| name.clone())
            };
            config.stage4_names().iter().find_map(stands_on).into_iter().collect()
        }
        Some(("kernel", rest)) => {
            let has = |name: &String| {
                let definition = config.stage4(name).ok()?;
                let kernel = config.kernel_of(&definition).ok()??;
                (rest == format!("{}/{}", definition.profile.value, kernel.label())).then(|| name.clone())
            };
            config.stage4_names().iter().find_map(has).into_iter().collect()
        }
        _ => Vec::new(),
    };
    if options.names.is_empty() {
        let all = plan::plan(cx, config, Wishes::of(config, &options), options)?;
        return Err(unknown(all.nodes().map(|node| node.id.clone()).collect()));
    }
    let mut pipeline = plan::plan(cx, config, Wishes::of(config, &options), options)?;
    let Some(node) = pipeline.nodes().find(|node| node.id == id).cloned() else {
        return Err(unknown(pipeline.nodes().map(|node| node.id.clone()).collect()));
    };
    let unbuilt: Vec<String> =
        pipeline.nodes().filter(|other| other.build && node.needs.contains(&other.id)).map(|other| other.id.clone()).collect();
    if node.build && !unbuilt.is_empty() {
        return Err(Error::Unbuilt { id: node.id, needs: unbuilt });
    }
    pipeline.keep_only(&node);
    Ok(pipeline)
}

impl Pipeline<'_, '_> {
    /// Its nodes, each after those that it needs.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.parts.iter().map(|part| &part.node)
    }

    /// Whether anything has to be built.
    pub fn is_current(&self) -> bool {
        self.nodes().all(|node| !node.build)
    }

    /// Leaves out all nodes but one and those that it is made from, which are there.
    fn keep_only(&mut self, node: &Node) {
        self.parts.retain(|part| part.node.id == node.id || node.needs.contains(&part.node.id));
        for part in &mut self.parts {
            if part.node.id != node.id {
                part.node.needs.clear();
            }
        }
    }
}

/// The state of a part that was built, or found.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    state: Option<State>,
    artifact: Option<Artifact>,
}
