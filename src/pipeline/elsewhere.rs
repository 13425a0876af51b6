//! Nodes that are built on other machines, and what a store there needs before it can plan one as we did.

use std::collections::BTreeMap;

use crate::config::BUILDER;
use crate::names::refs::{UPSTREAM, kernel_ref, ref_name, stage4_ref};
use crate::pipeline::plan::{Part, What};
use crate::pipeline::{Node, NodeKind, Pipeline, Result};
use crate::progress::Observer;
use crate::store::State;
use crate::trees::choose::PinnedTree;

/// Builds nodes on other machines, which hand states to each other by the remote.
pub(crate) trait Elsewhere: Sync {
    /// Whether it builds this node.
    fn takes(&self, node: &Node) -> bool;

    /// Waits until the node is built, and passes on what is said meanwhile.
    ///
    /// # Errors
    ///
    /// It failed there, or the user has interrupted it.
    fn wait(&self, node: &Node, observer: &dyn Observer) -> Result<Arrived>;
}

/// Takes nothing: all is here or in the remote, and what is not is not built here.
#[derive(Debug)]
pub(crate) struct Nowhere;

impl Elsewhere for Nowhere {
    fn takes(&self, _: &Node) -> bool {
        false
    }

    fn wait(&self, node: &Node, _: &dyn Observer) -> Result<Arrived> {
        Err(super::Error::NotArrived { id: node.id.clone() })
    }
}

/// How a node was built elsewhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrived {
    /// False if it was there already.
    pub(crate) is_built: bool,
    /// How long it took.
    pub(crate) seconds: f64,
}

impl Pipeline<'_, '_> {
    /// The tree snapshots that its nodes are built with, each once.
    pub(crate) fn trees(&self) -> Vec<PinnedTree> {
        let of_parts = self.parts.iter().flat_map(|part| match &part.what {
            What::Definition { recipe, .. } => recipe.trees.as_slice(),
            _ => &[],
        });
        let trees: BTreeMap<(&str, &str), &PinnedTree> =
            of_parts.map(|tree| ((tree.name.as_str(), tree.digest.as_str()), tree)).collect();
        trees.into_values().cloned().collect()
    }

    /// The states that another store must have, by their names there, to plan and build `node` as it is planned here: the stage3, what the
    /// node needs and is built already, and a builder by whose presence binary packages are chosen.
    pub(crate) fn given(&self, node: &Node) -> Result<BTreeMap<String, State>> {
        let mut given = BTreeMap::new();
        for part in self.parts.iter().filter(|part| part.node.profile == node.profile) {
            let is_needed = node.needs.contains(&part.node.id);
            if let What::Definition { recipe, upstream, .. } = &part.what {
                given.insert(ref_name(&node.profile, UPSTREAM), upstream.clone());
                let builder = ref_name(&node.profile, BUILDER);
                if recipe.definition.binary_packages.first_hosts.is_some()
                    && let Some(id) = self.cx.store.ref_get(&builder)?
                {
                    given.insert(builder, self.cx.store.state(&id)?);
                }
            }
            if let (true, Some(state), Some(name)) = (is_needed, &part.made.state, name_of(part)) {
                given.insert(name, state.clone());
            }
        }
        Ok(given)
    }
}

fn name_of(part: &Part) -> Option<String> {
    let Node { kind, profile, name, .. } = &part.node;
    match kind {
        NodeKind::Stage3 => Some(ref_name(profile, name)),
        NodeKind::Kernel => Some(kernel_ref(profile, name)),
        NodeKind::Stage4 => Some(stage4_ref(name)),
        NodeKind::Artifact => None,
    }
}
