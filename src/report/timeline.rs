//! When each node and package ran, and beside what.
//!
//! ```text
//! slot 1   | stage3/demo/plain          || stage4/web    |     a row for each node that could be built at the same time
//!          | gcc-14.3 ----------  ======                       below it, the packages of that node, a line for each at the same time
//! ```
//!
//! Lengths are percent of the run, so the picture is as wide as the page. Words are cut by the box they are in: an inner `svg` clips.

use std::collections::BTreeMap;

use crate::record::{NodeRun, Outcome, PackageRun, Run};
use crate::report::html::Html;
use crate::report::sizes::{count, duration};

/// More would be narrower than a pixel. The longest are shown.
const MOST_BARS: usize = 3000;
/// Of lines for packages below a node; a build has as many as it has jobs.
const MOST_LANES: usize = 64;
const NODE_HEIGHT: u64 = 26;
const LANE_HEIGHT: u64 = 18;
const GAP: u64 = 3;
/// Between the marks of the time axis.
const TICKS: [i64; 16] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200];
const MOST_TICKS: i64 = 8;
/// In a shorter box no word would be whole.
const LEAST_WITH_WORDS: f64 = 0.03;

/// From a time to its place in the picture.
#[derive(Debug, Clone, Copy)]
struct Scale {
    began: i64,
    span: i64,
}

impl Scale {
    #[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
    fn at(self, time: i64) -> f64 {
        (time - self.began) as f64 / self.span as f64
    }

    fn length(self, from: i64, to: i64) -> f64 {
        self.at(to) - self.at(from)
    }
}

/// The section; empty if nothing was begun.
pub(super) fn section(run: &Run) -> Html {
    let mut out = Html::new();
    let begun: Vec<&NodeRun> = run.nodes.iter().filter(|node| node.was_begun()).collect();
    let Some(began) = begun.iter().filter_map(|node| node.began).min() else { return out };
    let ended = last(run, &begun, began);
    let scale = Scale { began, span: (ended - began).max(1) };
    let mut slots: BTreeMap<usize, Vec<&NodeRun>> = BTreeMap::new();
    for node in begun {
        slots.entry(node.slot.unwrap_or_default()).or_default().push(node);
    }
    out.raw("<section id=\"timeline\"><h2>Timeline</h2><div class=\"card\"><div class=\"scroll\"><div class=\"wide\">");
    let bars = shown(run);
    for (slot, nodes) in &slots {
        self::slot(&mut out, *slot, nodes, scale, bars, ended);
    }
    axis(&mut out, scale.span);
    out.raw("</div></div>");
    legend(&mut out);
    out.raw("</div></section>");
    out
}

/// The end of the picture.
fn last(run: &Run, begun: &[&NodeRun], began: i64) -> i64 {
    let packages = begun.iter().flat_map(|node| &node.packages).map(|package| package.ended.unwrap_or(package.began));
    let nodes = begun.iter().filter_map(|node| node.ended);
    // Of a run that was killed nobody knows the end.
    let known = nodes.chain(packages).chain(begun.iter().filter_map(|node| node.began)).max().unwrap_or(began);
    if begun.iter().any(|node| node.ended.is_none()) { run.ended.unwrap_or(known).max(known) } else { known }
}

/// The packages that are drawn must last so long, milliseconds.
fn shown(run: &Run) -> i64 {
    let mut lengths: Vec<i64> = run.nodes.iter().flat_map(|node| &node.packages).map(length).collect();
    if lengths.len() <= MOST_BARS {
        return 0;
    }
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    lengths[MOST_BARS - 1] + 1
}

fn length(package: &PackageRun) -> i64 {
    package.ended.unwrap_or(package.began) - package.began
}

fn slot(out: &mut Html, slot: usize, nodes: &[&NodeRun], scale: Scale, least: i64, ended: i64) {
    let lanes = nodes.iter().flat_map(|node| &node.packages).map(|package| package.lane + 1).max().unwrap_or(0).min(MOST_LANES);
    let height = NODE_HEIGHT + GAP + lanes as u64 * (LANE_HEIGHT + GAP);
    out.raw("<div class=\"slot\"><div class=\"label soft\">slot ").number(slot as u64 + 1).raw("</div>");
    out.raw("<svg class=\"lanes\" role=\"img\" aria-label=\"slot ")
        .number(slot as u64 + 1)
        .raw("\" height=\"")
        .number(height)
        .raw("\">");
    for node in nodes {
        let (from, to) = (node.began.unwrap_or(scale.began), node.ended.unwrap_or(ended));
        bar(
            out,
            class_of(node.result),
            scale,
            (from, to),
            (0, NODE_HEIGHT),
            |out| {
                out.text(&node.id).raw(": ").text(super::page::result_words(node.result)).raw(", ").text(&duration(to - from));
            },
            &node.id,
        );
        for package in node.packages.iter().filter(|package| package.lane < MOST_LANES && length(package) >= least) {
            self::package(out, package, scale, to);
        }
    }
    out.raw("</svg></div>");
}

fn package(out: &mut Html, package: &PackageRun, scale: Scale, node_ended: i64) {
    let (from, to) = (package.began, package.ended.unwrap_or(node_ended));
    let top = NODE_HEIGHT + GAP + package.lane as u64 * (LANE_HEIGHT + GAP);
    let class = match (package.failed, package.binary) {
        (true, _) => "failed",
        (_, true) => "binary",
        _ => "source",
    };
    let how = match (package.failed, package.binary) {
        (true, _) => "did not end well",
        (_, true) => "from a binary package",
        _ => "compiled",
    };
    let name = package.package.split_once('/').map_or(package.package.as_str(), |(_, name)| name);
    bar(
        out,
        class,
        scale,
        (from, to),
        (top, LANE_HEIGHT),
        |out| {
            out.text(&package.package).raw(": ").raw(how).raw(", ").text(&duration(to - from));
        },
        name,
    );
    if let Some(merged) = package.merged.filter(|merged| *merged < to && !package.failed) {
        out.raw("<rect class=\"merge\" x=\"").percent(scale.at(merged)).raw("\" width=\"").percent(scale.length(merged, to));
        out.raw("\" y=\"").number(top + LANE_HEIGHT - 3).raw("\" height=\"3\"/>");
    }
}

/// A box with words in it, and what is said when one points at it.
fn bar(
    out: &mut Html,
    class: &'static str,
    scale: Scale,
    (from, to): (i64, i64),
    (top, height): (u64, u64),
    title: impl FnOnce(&mut Html),
    words: &str,
) {
    out.raw("<svg class=\"run ")
        .raw(class)
        .raw("\" x=\"")
        .percent(scale.at(from))
        .raw("\" width=\"")
        .percent(scale.length(from, to));
    out.raw("\" y=\"").number(top).raw("\" height=\"").number(height).raw("\"><title>");
    title(out);
    out.raw("</title><rect width=\"100%\" height=\"100%\" rx=\"3\"/>");
    if scale.length(from, to) >= LEAST_WITH_WORDS {
        out.raw("<text x=\"5\" y=\"50%\">").text(words).raw("</text>");
    }
    out.raw("</svg>");
}

fn axis(out: &mut Html, span: i64) {
    let step = TICKS.iter().map(|secs| secs * 1000).find(|step| span / step <= MOST_TICKS).unwrap_or(span / MOST_TICKS + 1);
    out.raw("<svg class=\"axis\" height=\"22\" aria-hidden=\"true\">");
    let mut time = 0;
    while time <= span {
        #[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
        let at = time as f64 / span as f64;
        out.raw("<line x1=\"").percent(at).raw("\" x2=\"").percent(at).raw("\" y1=\"0\" y2=\"5\"/>");
        // The last one would be cut.
        if at < 0.94 {
            out.raw("<text x=\"").percent(at).raw("\" y=\"18\">").text(&tick_words(time)).raw("</text>");
        }
        time += step;
    }
    out.raw("</svg>");
}

/// `0`, `30 s`, `2 min`, `1:30 h`.
fn tick_words(millis: i64) -> String {
    let secs = millis / 1000;
    match secs {
        0 => "0".to_owned(),
        1..60 => format!("{secs} s"),
        60..3600 if secs % 60 == 0 => format!("{} min", secs / 60),
        60..3600 => format!("{}:{:02} min", secs / 60, secs % 60),
        _ => format!("{}:{:02} h", secs / 3600, secs / 60 % 60),
    }
}

fn legend(out: &mut Html) {
    out.raw("<ul class=\"legend soft\">");
    for (class, words) in [
        ("built", "node built"),
        ("reused", "node found, or not finished"),
        ("failed", "failed or stopped"),
        ("source", "package compiled"),
        ("binary", "binary package"),
        ("merge", "merged into the root"),
    ] {
        out.raw("<li><svg class=\"run ").raw(class).raw("\" width=\"12\" height=\"12\" aria-hidden=\"true\">");
        out.raw("<rect width=\"12\" height=\"12\" rx=\"3\"/></svg>").raw(words).raw("</li>");
    }
    out.raw("</ul>");
}

fn class_of(result: Outcome) -> &'static str {
    match result {
        Outcome::Built => "built",
        Outcome::Reused | Outcome::Fetched => "reused",
        Outcome::Failed | Outcome::Interrupted => "failed",
        Outcome::Waiting | Outcome::Begun | Outcome::Skipped | Outcome::NotBegun => "open",
    }
}

/// What of a node is told beside its name: `3 packages compiled, 2 from binary packages`.
pub(super) fn packages_words(node: &NodeRun) -> String {
    let failed = node.packages.iter().filter(|package| package.failed).count();
    let binary = node.packages.iter().filter(|package| package.binary && !package.failed).count();
    let compiled = node.packages.len() - binary - failed;
    let mut words = Vec::new();
    words.extend((compiled > 0).then(|| format!("{} compiled", count(compiled, "package"))));
    words.extend((binary > 0).then(|| count(binary, "binary package")));
    words.extend((failed > 0).then(|| format!("{failed} failed or stopped")));
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_the_axis_are_few_and_round() {
        for (secs, text) in [(0, "0"), (30, "30 s"), (120, "2 min"), (90, "1:30 min"), (5400, "1:30 h")] {
            assert_eq!(tick_words(secs * 1000), text);
        }
        for span in [1, 999, 60_000, 86_400_000, 864_000_000_000] {
            let mut out = Html::new();
            axis(&mut out, span);
            let marks = out.into_string().matches("<line").count();
            assert!((1..=10).contains(&marks), "{span}: {marks}");
        }
    }

    #[test]
    fn of_many_packages_the_longest_are_drawn() {
        let package = |number: usize| PackageRun {
            package: format!("x/p-{number}"),
            ended: Some(i64::try_from(number).unwrap()),
            ..PackageRun::default()
        };
        let node = NodeRun {
            began: Some(0),
            ended: Some(9000),
            packages: (0..MOST_BARS * 2).map(package).collect(),
            ..NodeRun::default()
        };
        let run = Run { nodes: vec![node], ended: Some(9000), ..Run::default() };
        let text = section(&run).into_string();
        let drawn = text.matches("class=\"run source\" x=").count();
        assert!(drawn <= MOST_BARS && drawn > MOST_BARS - 10, "{drawn}");
        assert!(text.contains(">p-5999<") && !text.contains(">p-100<"));
    }
}
