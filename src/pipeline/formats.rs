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

    /// A child pipeline for GitLab: a job for each node. `GENTOOMUCH_FLAGS` may be set where it is triggered. What all jobs have besides
    /// (image, tags, scripts) is included beside it.
    pub(crate) fn gitlab(&self, flags: &str) -> String {
        let mut text = String::from("# The pipeline as a child pipeline: include it as an artifact, below `trigger`.\n");
        let _ = write!(
            text,
            "variables:\n  GENTOOMUCH_FLAGS: {}\n\nstages: [build]\n\n.node:\n  stage: build\n  script:\n    \
             - gentoomuch pipeline node $GENTOOMUCH_FLAGS \"$NODE\"\n",
            quoted(flags)
        );
        for node in &self.nodes {
            let id = quoted(&node.id);
            let _ = write!(text, "\n{id}:\n  extends: .node\n  variables:\n    NODE: {id}\n");
            if node.needs.is_empty() {
                text.push_str("  needs: []\n");
            } else {
                text.push_str("  needs:\n");
            }
            for needed in &node.needs {
                let _ = writeln!(text, "    - job: {}\n      artifacts: false", quoted(needed));
            }
        }
        text
    }

    /// For GitHub, whose matrices know no order: the ids of each kind, in the order of the kinds. Nodes of a kind do not need each other, but
    /// may need nodes of the kinds before.
    pub(crate) fn github(&self) -> String {
        let of = |kind: NodeKind| self.nodes.iter().filter(|node| node.kind == kind).map(|node| &node.id).collect::<Vec<_>>();
        let ids = [NodeKind::Stage3, NodeKind::Kernel, NodeKind::Stage4, NodeKind::Artifact].map(of);
        let kinds = ["stage3", "kernel", "stage4", "artifact"].into_iter().zip(ids);
        let members: Vec<String> = kinds.map(|(kind, ids)| format!("{}:{}", quoted(kind), serde_json::json!(ids))).collect();
        // One line, as `GITHUB_OUTPUT` wants it.
        format!("{{{}}}\n", members.join(","))
    }

    /// A Snakefile with a rule for each node. Its files are only marks, which Snakemake removes at the end: gentoomuch itself knows what is
    /// built.
    pub(crate) fn snakemake(&self, flags: &str) -> String {
        let mark = |id: &str| quoted(&format!(".gentoomuch-nodes/{id}"));
        let marks = |ids: &mut dyn Iterator<Item = &str>| ids.fold(String::new(), |text, id| text + "        " + &mark(id) + ",\n");
        let mut text = String::from("# The pipeline as a Snakefile: `snakemake --cores 2 --keep-going --snakefile FILE`.\n");
        let _ = write!(
            text,
            "# For each node: `--config flags=...`; with --cores N, N nodes are built at the same time.\nFLAGS = config.get(\"flags\", {})\n",
            quoted(flags)
        );
        let ends = marks(&mut self.nodes.iter().filter(|node| node.kind == NodeKind::Artifact).map(|node| node.id.as_str()));
        let _ = write!(text, "\nrule all:\n    input:\n{ends}");
        for (number, node) in self.nodes.iter().enumerate() {
            let _ = writeln!(text, "\nrule node_{}:", number + 1);
            if !node.needs.is_empty() {
                let _ = write!(text, "    input:\n{}", marks(&mut node.needs.iter().map(String::as_str)));
            }
            let _ = writeln!(text, "    output:\n        temp(touch({}))", mark(&node.id));
            let _ = writeln!(text, "    shell:\n        {}", quoted(&format!("gentoomuch pipeline node {{FLAGS}} {}", node.id)));
        }
        text
    }
}

/// A text as YAML, Python and JSON have it.
fn quoted(text: &str) -> String {
    serde_json::json!(text).to_string()
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
            fetch: false,
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

    #[test]
    fn for_gitlab() {
        insta::assert_snapshot!(Drawing::new(nodes().iter()).gitlab("--jobs 2"));
    }

    #[test]
    fn for_github() {
        insta::assert_snapshot!(Drawing::new(nodes().iter()).github(), @r#"{"stage3":["stage3/demo/plain"],"kernel":[],"stage4":["stage4/web"],"artifact":["artifact/web"]}"#);
    }

    #[test]
    fn for_snakemake() {
        insta::assert_snapshot!(Drawing::new(nodes().iter()).snakemake("--jobs 2"));
    }
}
