//! What `pipeline` prints on standard output.

use std::time::Duration;

use crate::pipeline::run::{NodeReport, Outcome, Report as PipelineReport};
use crate::pipeline::{Node, NodeKind};
use crate::progress::Left;

use crate::cli::forecast::amount_words;
use crate::cli::screen::Shown as _;
use crate::cli::table::{Table, count, human_bytes};

/// What would be built, and why.
pub(super) fn planned(nodes: &[&Node], left: Option<Left>) -> String {
    if nodes.is_empty() {
        return NOTHING.to_owned();
    }
    let mut table = Table::new(&["NODE", "PLAN", "WHY"]);
    for node in nodes {
        let plan = match node {
            Node { build: false, .. } => "reuse",
            Node { fetch: true, .. } => "fetch",
            Node { resumes: true, .. } => "resume",
            _ => "build",
        };
        let mut why = node
            .why
            .iter()
            .flat_map(|reason| std::iter::once(reason.words.clone()).chain(reason.detail.iter().map(|line| format!("  {line}"))));
        table.row([node.id.as_str(), plan, &why.next().unwrap_or_default()]);
        for line in why {
            table.row(["", "", &line]);
        }
    }
    let fetched = nodes.iter().filter(|node| node.fetch).count();
    let built = nodes.iter().filter(|node| node.build).count() - fetched;
    let words = match (fetched, built) {
        (0, 0) => "nothing to do".to_owned(),
        (0, built) => format!("{built} of {} to build", nodes_of(nodes.len())),
        (fetched, built) => format!("{fetched} to fetch and {built} to build of {}", nodes_of(nodes.len())),
    };
    let time = left.as_ref().and_then(amount_words).map(|words| format!(", {words} by earlier builds"));
    format!("{}{words}{}\n", table.render(), time.unwrap_or_default())
}

/// What became of each node, and where the artifacts are.
pub(super) fn summary(report: &PipelineReport) -> String {
    if report.nodes.is_empty() {
        return NOTHING.to_owned();
    }
    let time = seconds(report.seconds);
    let reused = report.count(|outcome| *outcome == Outcome::Reused);
    let mut text = String::new();
    if reused < report.nodes.len() {
        text.push_str(&nodes(report));
        text.push('\n');
    }
    let artifacts = artifacts(report);
    if !artifacts.is_empty() {
        text.push_str(&artifacts);
        text.push('\n');
    }
    let all = nodes_of(report.nodes.len());
    if reused == report.nodes.len() {
        return format!("{text}{all}, nothing to do, in {time}\n");
    }
    let mut words = vec![format!("{} built", report.count(|outcome| *outcome == Outcome::Built)), format!("{reused} reused")];
    for (number, what) in [
        (report.count(|outcome| *outcome == Outcome::Fetched), "fetched"),
        (report.count(|outcome| *outcome == Outcome::Failed), "failed"),
        (report.count(|outcome| matches!(outcome, Outcome::Skipped { .. })), "skipped"),
        (report.count(|outcome| *outcome == Outcome::Interrupted), "interrupted"),
        (report.count(|outcome| *outcome == Outcome::NotBegun), "not begun"),
    ] {
        words.extend((number > 0).then(|| format!("{number} {what}")));
    }
    let jobs = count(u64::from(report.jobs), "job");
    format!("{text}{all}, {}, in {time} with {jobs}\n", words.join(", "))
}

const NOTHING: &str = "no stage4 definitions: nothing to do\n";

fn nodes_of(number: usize) -> String {
    count(number as u64, "node")
}

fn nodes(report: &PipelineReport) -> String {
    let mut table = Table::new(&["NODE", "RESULT", ">TIME", ">SIZE", "WHY"]);
    for node in &report.nodes {
        let time = if node.seconds > 0.0 { seconds(node.seconds) } else { String::new() };
        let size = node.size_bytes.map(human_bytes).unwrap_or_default();
        table.row([node.id.clone(), result(&node.outcome).to_owned(), time, size, why(node)]);
    }
    table.render()
}

fn artifacts(report: &PipelineReport) -> String {
    let made = report.nodes.iter().filter(|node| node.kind == NodeKind::Artifact);
    let made: Vec<_> = made.filter_map(|node| node.artifact.as_ref().map(|artifact| (node, artifact))).collect();
    if made.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["STAGE4", ">SIZE", "ARTIFACT"]);
    for (node, artifact) in made {
        let name = node.id.strip_prefix("artifact/").unwrap_or(&node.id);
        table.row([name.to_owned(), human_bytes(artifact.size_bytes), artifact.path.shown()]);
    }
    table.render()
}

fn why(node: &NodeReport) -> String {
    match &node.outcome {
        Outcome::Failed => node.error.clone().unwrap_or_default(),
        Outcome::Skipped { because } => format!("{because} failed"),
        _ => node.why.iter().map(|reason| reason.words.as_str()).collect::<Vec<_>>().join("; "),
    }
}

pub(super) fn result(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Reused => "reused",
        Outcome::Fetched => "fetched",
        Outcome::Built => "built",
        Outcome::Failed => "failed",
        Outcome::Skipped { .. } => "skipped",
        Outcome::Interrupted => "interrupted",
        Outcome::NotBegun => "not begun",
    }
}

/// `0.04 s`, `12.3 s`, `3 min 20 s`, `1 h 02 min`.
pub(in crate::cli::commands) fn seconds(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds + 0.5).unwrap_or_default().as_secs();
    match whole {
        0 => format!("{seconds:.2} s"),
        1..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_for_people() {
        for (secs, text) in [(0.041, "0.04 s"), (12.34, "12.3 s"), (59.4, "59.4 s"), (200.0, "3 min 20 s"), (3725.0, "1 h 02 min")]
        {
            assert_eq!(seconds(secs), text);
        }
    }
}
