//! The graph in the formats of other programs, which can then run its nodes by `gentoomuch pipeline node ID`.

use std::fmt::Write as _;

use crate::pipeline::{Node, NodeKind};

/// The nodes to write.
#[derive(Debug)]
pub(crate) struct Drawing<'n> {
    nodes: Vec<&'n Node>,
}

impl<'n> Drawing<'n> {
    /// `nodes` in an order in which each follows those that it needs.
    pub(crate) fn new(nodes: impl Iterator<Item = &'n Node>) -> Self {
        Self { nodes: nodes.collect() }
    }

    /// For Graphviz; nodes to build are filled.
    pub(crate) fn dot(&self) -> String {
        let mut text = String::from("digraph gentoomuch {\n  rankdir=LR;\n  node [shape=box];\n");
        for node in &self.nodes {
            let style = if node.build { " [style=filled]" } else { "" };
            let _ = writeln!(text, "  \"{}\"{style};", node.id);
        }
        for node in &self.nodes {
            for needed in &node.needs {
                let _ = writeln!(text, "  \"{needed}\" -> \"{}\";", node.id);
            }
        }
        text.push_str("}\n");
        text
    }

    /// A makefile with a phony target for each node, since gentoomuch itself knows what is built. Each command gets `flags`.
    pub(crate) fn make(&self, flags: &str) -> String {
        let ids = |nodes: &mut dyn Iterator<Item = &&Node>| nodes.map(|node| node.id.clone()).collect::<Vec<_>>().join(" ");
        let all = ids(&mut self.nodes.iter());
        let ends = ids(&mut self.nodes.iter().filter(|node| node.kind == NodeKind::Artifact));
        let mut text = String::from("# The pipeline as a makefile: `make -k -j2 -f FILE`, or one node: `make -f FILE NODE`.\n");
        text.push_str("GENTOOMUCH ?= gentoomuch\n");
        let _ = writeln!(text, "# For each node; with -jN, N times as many jobs run at most.\nFLAGS ?= {flags}\n");
        let _ = writeln!(text, "all: {ends}\n.PHONY: all {all}");
        for node in &self.nodes {
            let rule = std::iter::once(format!("{}:", node.id)).chain(node.needs.iter().cloned()).collect::<Vec<_>>().join(" ");
            let _ = writeln!(text, "\n{rule}\n\t$(GENTOOMUCH) pipeline node $(FLAGS) {}", node.id);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, kind: NodeKind, needs: &[&str], build: bool) -> Node {
        Node {
            id: id.to_owned(),
            kind,
            profile: "demo".to_owned(),
            name: id.rsplit('/').next().unwrap_or_default().to_owned(),
            needs: needs.iter().map(|id| (*id).to_owned()).collect(),
            key: None,
            build,
            resumes: false,
            why: Vec::new(),
            state: None,
            artifact: None,
        }
    }

    fn nodes() -> Vec<Node> {
        vec![
            node("stage3/demo/plain", NodeKind::Stage3, &[], false),
            node("stage4/web", NodeKind::Stage4, &["stage3/demo/plain"], true),
            node("artifact/web", NodeKind::Artifact, &["stage4/web"], true),
        ]
    }

    #[test]
    fn for_graphviz() {
        insta::assert_snapshot!(Drawing::new(nodes().iter()).dot(), @r#"
        digraph gentoomuch {
          rankdir=LR;
          node [shape=box];
          "stage3/demo/plain";
          "stage4/web" [style=filled];
          "artifact/web" [style=filled];
          "stage3/demo/plain" -> "stage4/web";
          "stage4/web" -> "artifact/web";
        }
        "#);
    }

    #[test]
    fn for_make() {
        let text = Drawing::new(nodes().iter()).make("--jobs 2");
        assert!(text.contains("\nall: artifact/web\n"), "{text}");
        assert!(text.contains("\n\nstage4/web: stage3/demo/plain\n\t$(GENTOOMUCH) pipeline node $(FLAGS) stage4/web\n"), "{text}");
    }
}
