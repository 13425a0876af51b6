//! `gentoomuch config graph [STAGE]`

use std::collections::BTreeSet;
use std::process::ExitCode;

use crate::config::{Graph, Node, NodeKind, Unused};

use super::super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::screen::Shown as _;
use crate::cli::table;
use crate::cli::table::{Table, count};

/// Show the files that a stage uses, and the files that no stage uses
///
/// It lists fragments, sets, patches, scripts, removals, hooks and the kernel, each with the line that names it; then the files of the
/// directory that no stage uses. Without STAGE it shows all stages.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch config graph web
  gentoomuch config graph --dot | dot -Tsvg > fleet.svg")]
pub(crate) struct Args {
    /// A stage4 or stage3 definition [default: all of them]
    stage: Option<String>,
    /// Print the graph for Graphviz
    #[arg(long, group = "form")]
    dot: bool,
    /// Print the graph as JSON
    #[arg(long, group = "form")]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let graph = invocation.config()?.graph(args.stage.as_deref())?;
    if args.json {
        table::print_json(&graph)?;
    } else if args.dot {
        table::print(dot(&graph))?;
    } else {
        table::print(tree(&graph))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn tree(graph: &Graph) -> String {
    let mut text = String::new();
    let mut table = Table::new(&["USES", "NAMED IN"]);
    for root in &graph.roots {
        table.row([label(root), place(root)]);
        branches(&mut table, root, "");
    }
    if graph.roots.is_empty() {
        text.push_str("there are no stages\n");
    } else {
        text.push_str(&table.render());
    }
    if graph.unused.is_empty() {
        return text;
    }
    text.push('\n');
    let mut table = Table::new(&["USED BY NOBODY", "LIES IN"]);
    for Unused { kind, name, path } in &graph.unused {
        table.row([format!("{} {name}", kind.as_str()), path.shown()]);
    }
    text.push_str(&table.render());
    text
}

fn branches(table: &mut Table, node: &Node, left: &str) {
    for (index, below) in node.uses.iter().enumerate() {
        let last = index + 1 == node.uses.len();
        let (corner, line) = if last { ("└── ", "    ") } else { ("├── ", "│   ") };
        table.row([format!("{left}{corner}{}", label(below)), place(below)]);
        branches(table, below, &format!("{left}{line}"));
    }
}

fn label(node: &Node) -> String {
    let mut text = match node.kind {
        NodeKind::Everyone => return node.kind.as_str().to_owned(),
        kind => format!("{} {}", kind.as_str(), node.name),
    };
    let what = match node.kind {
        NodeKind::Removes => "path",
        NodeKind::Patch => "file",
        _ => "package",
    };
    if let Some(entries) = node.entries {
        text.push_str(&format!(" ({})", count(entries as u64, what)));
    }
    if node.missing {
        text.push_str(" (missing)");
    } else if node.told_before {
        text.push_str(" (see above)");
    } else if node.kind == NodeKind::Set && node.path.is_none() {
        text.push_str(" (Portage's)");
    }
    text
}

fn place(node: &Node) -> String {
    match (&node.named_at, &node.path, node.kind) {
        (Some(place), ..) => place.to_string(),
        (None, Some(path), _) => path.shown(),
        (None, None, NodeKind::Hook) => "shipped".to_owned(),
        (None, None, _) => String::new(),
    }
}

/// Graphviz's language; its strings have two characters that need a backslash.
fn dot(graph: &Graph) -> String {
    let mut lines = BTreeSet::new();
    let mut text = String::from("digraph gentoomuch {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n");
    for root in &graph.roots {
        arrows(root, &mut lines);
    }
    for unused in &graph.unused {
        let name = quoted(&format!("{} {}", unused.kind.as_str(), unused.name));
        lines.insert(format!("  {name} [style=dashed, tooltip={}];\n", quoted("used by nobody")));
    }
    text.extend(lines);
    text.push_str("}\n");
    text
}

fn arrows(node: &Node, lines: &mut BTreeSet<String>) {
    let name = |node: &Node| quoted(format!("{} {}", node.kind.as_str(), node.name).trim_end());
    let own = name(node);
    let color = if node.missing { " [color=red]" } else { "" };
    lines.insert(format!("  {own}{color};\n"));
    for below in &node.uses {
        let label = below.named_at.as_ref().map(|place| format!(" [label={}]", quoted(&place.to_string()))).unwrap_or_default();
        lines.insert(format!("  {own} -> {}{label};\n", name(below)));
        arrows(below, lines);
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_quotes_stay_names() {
        assert_eq!(quoted(r#"a "b" \c"#), r#""a \"b\" \\c""#);
    }
}
