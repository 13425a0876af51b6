//! How long the nodes of a pipeline take, by earlier builds of them.

use std::collections::HashMap;

use crate::build_times::schedule::{self, Task};
use crate::build_times::{self, Build, Kind};
use crate::context::Context;
use crate::pipeline::run::{NodeReport, Outcome};
use crate::pipeline::{NodeKind, Pipeline};
use crate::progress::Left;

/// The nodes that are built, in their order, and how many are built at a time.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub(crate) ids: Vec<String>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) workers: usize,
}

impl Expected {
    /// Leaves out one that has come to its end.
    pub(crate) fn ended(&mut self, id: &str) {
        if let Some(at) = self.ids.iter().position(|known| known == id) {
            self.tasks[at] = Task { left: Some(Left { secs: 0, unknown: 0, guess: false }), is_running: true, ..Task::default() };
        }
    }

    /// How long all of them take.
    pub(crate) fn left(&self) -> Option<Left> {
        schedule::left(&self.tasks, self.workers)
    }
}

impl Pipeline<'_, '_> {
    /// What is known of its nodes. Nothing is read if none is built.
    pub(crate) fn expected(&self) -> Expected {
        let todo: Vec<_> = self.nodes().filter(|node| node.build).collect();
        if todo.is_empty() {
            return Expected::default();
        }
        let estimates = build_times::estimates(self.cx);
        let places: HashMap<&String, usize> = todo.iter().enumerate().map(|(place, node)| (&node.id, place)).collect();
        let tasks = todo.iter().map(|node| {
            // Nobody has measured how long fetching takes: next to building, it is nothing.
            let fetched = Left { secs: 0, unknown: 0, guess: false };
            let expected = estimates.expected(Kind::Node, &node.id, "");
            let built = expected.map(|expected| Left { secs: expected.secs, unknown: 0, guess: expected.guess });
            Task {
                left: if node.fetch { Some(fetched) } else { built },
                needs: node.needs.iter().filter_map(|id| places.get(id).copied()).collect(),
                is_alone: node.kind == NodeKind::Artifact,
                is_running: false,
            }
        });
        Expected { tasks: tasks.collect(), ids: todo.iter().map(|node| node.id.clone()).collect(), workers: self.workers() }
    }

    /// How many nodes are built at a time.
    pub(crate) fn workers(&self) -> usize {
        let todo = self.nodes().filter(|node| node.build).count();
        if self.options.one_by_one { 1 } else { todo.min(self.cx.settings.jobs.max(1) as usize) }
    }
}

/// Remembers how long a node has taken, if all of it was built.
pub(crate) fn remember(cx: &Context<'_>, report: &NodeReport, resumed: bool) {
    if report.outcome == Outcome::Built && !resumed {
        build_times::add(cx, vec![Build::new(Kind::Node, &report.id, "", (report.seconds * 10.0).round() / 10.0)]);
    }
}
