//! `pipeline`: the graph of all stage4s and the states that they need, whose independent nodes are built in parallel.
//!
//! ```text
//! stage3/demo/plain ──┬── stage4/web ──── artifact/web          a node is built or reused as a whole:
//!                     └── stage4/mail ─── artifact/mail         a stage3 definition on a profile (its state),
//! stage3/demo/hard ───┬── stage4/vault ── artifact/vault        a stage4 (its state), the files made of that state;
//!        kernel/demo/x ─┘                                       a kernel (its state), on the builder of the profile
//! ```
//!
//! **Planning** (`plan.rs`) reads the configuration once for all nodes. A node's build key depends only on other keys, so all of them are
//! known before anything is built, and one look at the store tells which states exist. Nothing is started, entered or written for that,
//! unless a change may concern no package of a state ([`crate::recipe::standing`]). `why.rs` gives the reasons for each node to build:
//! which inputs differ from those of the state that has the node's name.
//!
//! **Running** (`run.rs`) gives each node to a thread as soon as those that it needs are done. Nodes are built like `stage build` does,
//! each in a session of its own: an interrupted or failed node is suspended and resumes the next time, and a killed one is built again
//! from the binary packages published so far.
//!
//! **A failure** does not end nodes that are running, since their work would have to be repeated. Without `keep_going` no further node is
//! started; with it, everything is built that does not need the failed node. An interruption suspends all sessions at once.
//!
//! **Locks.** A run holds the store's lock and, shared, the lock of each profile from planning to its end, so that what was planned is
//! what is built. `bootstrap` and `profile update`, `rollback`, `rename` and `rm` take a profile's lock exclusively: they wait for the
//! run, or it for them. Two builds on one profile only exclude each other on a node that both want. A definition on a profile
//! (`stage3/PROFILE/DEFINITION`), a kernel (`kernel/PROFILE/NAME`) or a stage4 (`stage4/NAME`) is locked exclusively while it is looked
//! up once more, built and named, so the second build finds it done. This is safe: a definition reads the profile's stage3, which the
//! shared lock keeps in place, and writes a layer that nobody sees before its commit, and a name of its own; binary packages are
//! published under the pool's lock. New trees may arrive meanwhile: a node mounts those of its build key. `rollback` of a stage4 only
//! waits for its node. There is no deadlock: locks of profiles are taken in the order of their names and before any node's; a thread
//! holds the lock of one node at a time, and waits for no other lock meanwhile except those held for moments.
//!
//! **Elsewhere.** Nodes may be built on other machines (`elsewhere.rs`): then a thread waits for each, and gets its state from the remote.
//! Files are made here, where the key is that signs them.
//!
//! **Load.** `settings.jobs` is the budget of all nodes together: at most so many are built at the same time, and their emerges and makes
//! share so many jobs ([`crate::jobserver`]). Archives are compressed one after the other, since each uses all processors. None of this
//! is part of a build key.

pub(crate) mod bootstrap;
pub(crate) mod elsewhere;
mod error;
pub(crate) mod expected;
pub(crate) mod formats;
pub(crate) mod kernel;
pub(crate) mod plan;
pub(crate) mod pretend;
mod recorded;
pub(crate) mod run;
pub(crate) mod stage;
pub(crate) mod why;

use std::collections::BTreeSet;

use serde::Serialize;

use crate::artifact::Artifact;
use crate::config::{ArtifactFormat, BUILDER, ConfigDir, Env};
use crate::context::Context;
use crate::pipeline::plan::{Part, Wishes};
use crate::pipeline::why::Reason;
use crate::stage3::sign::Gpg;
use crate::store::{Lock, State, StateId};

pub use error::Error;
pub(crate) use error::{Reported, Result};

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
    /// Packages of stage4 definitions that are left out, `category/name`. The states say which, and have keys of their own.
    pub skip: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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

/// A unit that is built or reused as a whole.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Node {
    /// `stage3/PROFILE/DEFINITION`, `kernel/PROFILE/NAME`, `stage4/NAME`, `artifact/NAME`.
    pub id: String,
    pub kind: NodeKind,
    pub profile: String,
    /// The definition.
    pub name: String,
    /// Ids of the nodes that it needs.
    pub needs: Vec<String>,
    /// Its build key; none for artifacts.
    pub key: Option<String>,
    /// Whether it has to be built.
    pub build: bool,
    /// Whether the remote has its state, so that it is fetched instead, if who signed it counts.
    pub fetch: bool,
    /// Whether a suspended session is resumed for that.
    pub resumes: bool,
    /// Why it has to be built; empty otherwise.
    pub why: Vec<Reason>,
    /// Its state, if it exists.
    pub state: Option<StateId>,
    /// Its files, if they exist.
    pub artifact: Option<Artifact>,
}

/// A graph that can be run. It holds its profiles' locks as long as it lives.
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

/// Plans all stage4s that `options` names.
pub fn pipeline<'e, 'a>(cx: &'e Context<'a>, config: &'e ConfigDir, options: PipelineOptions) -> Result<Pipeline<'e, 'a>> {
    crate::threads::pool()?;
    plan::plan(cx, config, Wishes::of(config, &options), options)
}

/// Plans the single node `id`. The nodes that it needs must be built already, or a remote must have them.
pub(crate) fn pipeline_node<'e, 'a>(
    cx: &'e Context<'a>,
    config: &'e ConfigDir,
    mut options: PipelineOptions,
    id: &str,
) -> Result<Pipeline<'e, 'a>> {
    let unknown = |known| Error::UnknownNode { id: id.to_owned(), known };
    options.names = match id.split_once('/') {
        Some(("stage4" | "artifact", name)) if config.stage4_names().iter().any(|known| known == name) => vec![name.to_owned()],
        // Any stage4 on this definition gives its recipe. Others are not read, since they may have errors.
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
    let needed = pipeline.needed_by(&node);
    let unbuilt: Vec<String> = pipeline
        .nodes()
        .filter(|other| other.build && !other.fetch && needed.contains(&other.id))
        .map(|other| other.id.clone())
        .collect();
    if node.build && !unbuilt.is_empty() {
        return Err(Error::Unbuilt { id: node.id, needs: unbuilt });
    }
    pipeline.parts.retain(|part| part.node.id == node.id || needed.contains(&part.node.id));
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

    /// The nodes without which `node` cannot be made: those that it needs, and what has to be fetched for them first.
    fn needed_by(&self, node: &Node) -> BTreeSet<String> {
        let mut needed: BTreeSet<String> = node.needs.iter().cloned().collect();
        // Each comes after those that it needs.
        for other in self.nodes().collect::<Vec<_>>().into_iter().rev() {
            if other.build && needed.contains(&other.id) {
                needed.extend(other.needs.iter().cloned());
            }
        }
        needed
    }
}

/// The state of a node that was built or found.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    state: Option<State>,
    artifact: Option<Artifact>,
}
