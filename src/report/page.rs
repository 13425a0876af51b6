//! The page as a whole.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

use crate::record::{NodeRun, Outcome, PackageRun, Run};
use crate::report::facts::Facts;
use crate::report::html::Html;
use crate::report::sizes::{bytes, count, difference, duration};
use crate::report::{audits, changes, sizes, timeline, told};

const STYLE: &str = include_str!("style.css");
/// Targets that the title names.
const MOST_NAMES: usize = 4;

/// The page of a run.
pub(super) fn page(run: &Run, facts: &Facts) -> String {
    let mut out = Html::new();
    out.raw("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    out.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-").text(&style_hash());
    out.raw("'; base-uri 'none'; form-action 'none'\">");
    out.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">");
    out.raw("<meta name=\"referrer\" content=\"no-referrer\"><title>").text(&title(run)).raw(" – gentoomuch</title>");
    out.raw("<style>").raw(STYLE).raw("</style></head><body><main>");
    header(&mut out, run, facts);
    failures(&mut out, run, facts);
    let sections = [
        timeline::section(run),
        nodes(run),
        artifacts(run),
        audits::section(facts),
        changes::section(facts),
        sizes::section(facts),
    ];
    for section in sections.iter().chain(&[told::messages(run), told::logs(run, facts)]) {
        out.html(section);
    }
    footer(&mut out, run);
    out.raw("</main></body></html>\n");
    out.into_string()
}

/// What the policy allows: this style, and no other.
fn style_hash() -> String {
    BASE64_STANDARD.encode(Sha256::digest(STYLE.as_bytes()))
}

/// What was asked for: `web, mail`, `5 stages`.
fn title(run: &Run) -> String {
    let name = |id: &String| {
        let node = run.nodes.iter().find(|node| node.id == *id);
        node.filter(|node| ["stage4", "artifact"].contains(&node.kind.as_str()))
            .map_or_else(|| id.clone(), |node| node.name.clone())
    };
    let names: Vec<String> = run.wanted.iter().map(name).collect();
    match names.len() {
        0 => "nothing".to_owned(),
        1..=MOST_NAMES => names.join(", "),
        more => count(more, "stage"),
    }
}

pub(super) fn result_words(result: Outcome) -> &'static str {
    match result {
        Outcome::Waiting => "waiting",
        Outcome::Begun => "not finished",
        Outcome::Reused => "reused",
        Outcome::Fetched => "fetched",
        Outcome::Built => "built",
        Outcome::Failed => "failed",
        Outcome::Skipped => "skipped",
        Outcome::Interrupted => "interrupted",
        Outcome::NotBegun => "not begun",
    }
}

fn tag(out: &mut Html, result: Outcome) {
    out.raw(match result {
        Outcome::Built => "<span class=\"tag built\">",
        Outcome::Failed | Outcome::Interrupted => "<span class=\"tag failed\">",
        Outcome::Begun | Outcome::Skipped | Outcome::NotBegun => "<span class=\"tag warn\">",
        Outcome::Reused | Outcome::Fetched | Outcome::Waiting => "<span class=\"tag\">",
    });
    out.raw(result_words(result)).raw("</span>");
}

/// How the whole of it ended.
fn verdict(run: &Run, facts: &Facts) -> (&'static str, &'static str) {
    let all = run.nodes.len();
    match () {
        () if facts.goes_on => ("goes on", "<span class=\"badge warn\">"),
        () if run.count(Outcome::Failed) > 0 => ("failed", "<span class=\"badge failed\">"),
        () if run.count(Outcome::Interrupted) + run.count(Outcome::NotBegun) > 0 => {
            ("interrupted", "<span class=\"badge failed\">")
        }
        () if run.ended.is_none() => ("cut off", "<span class=\"badge failed\">"),
        () if run.count(Outcome::Reused) == all => ("up to date", "<span class=\"badge built\">"),
        () if run.count(Outcome::Reused) + run.count(Outcome::Fetched) == all => ("fetched", "<span class=\"badge built\">"),
        () => ("built", "<span class=\"badge built\">"),
    }
}

fn header(out: &mut Html, run: &Run, facts: &Facts) {
    let (words, badge) = verdict(run, facts);
    out.raw("<header><p class=\"kicker\">gentoomuch report</p><h1><span>").text(&title(run)).raw("</span> ");
    out.raw(badge).raw(words).raw("</span></h1><p class=\"soft\">");
    let began = jiff::Timestamp::from_millisecond(run.began).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    out.raw("<time>").text(&began.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()).raw("</time>");
    if let Some(ended) = run.ended {
        out.raw(" · ").text(&duration(ended - run.began));
    }
    out.raw(" · ").text(&count(run.jobs as usize, "job")).raw("</p><dl class=\"tiles\">");
    let whole: Vec<&PackageRun> =
        run.nodes.iter().flat_map(|node| &node.packages).filter(|package| package.ended.is_some() && !package.failed).collect();
    let binary = whole.iter().filter(|package| package.binary).count();
    for (label, number, always) in [
        ("nodes", run.nodes.len(), true),
        ("built", run.count(Outcome::Built), true),
        ("reused", run.count(Outcome::Reused), true),
        ("fetched", run.count(Outcome::Fetched), false),
        ("failed", run.count(Outcome::Failed), false),
        ("interrupted", run.count(Outcome::Interrupted), false),
        ("skipped", run.count(Outcome::Skipped), false),
        ("not begun", run.count(Outcome::NotBegun), false),
        ("packages compiled", whole.len() - binary, false),
        ("binary packages", binary, false),
    ] {
        if always || number > 0 {
            out.raw("<div><dt>").raw(label).raw("</dt><dd>").number(number as u64).raw("</dd></div>");
        }
    }
    out.raw("</dl></header>");
}

fn failures(out: &mut Html, run: &Run, facts: &Facts) {
    let failed: Vec<&NodeRun> = run.nodes.iter().filter(|node| !node.error.is_empty()).collect();
    if failed.is_empty() {
        return;
    }
    out.raw("<section id=\"failures\"><h2>What failed</h2>");
    for node in failed {
        out.raw("<div class=\"card failure\"><h3><code>").text(&node.id).raw("</code></h3>");
        for (at, line) in node.error.iter().enumerate() {
            out.raw(if at == 0 { "<p class=\"line\">" } else { "<p class=\"line soft\">" }).text(line).raw("</p>");
        }
        told::failed_packages(out, node, facts);
        out.raw("</div>");
    }
    out.raw("</section>");
}

fn nodes(run: &Run) -> Html {
    let mut out = Html::new();
    if run.nodes.is_empty() {
        return out;
    }
    out.raw("<section id=\"nodes\"><h2>Nodes</h2><div class=\"card scroll\"><table class=\"stack\"><thead><tr><th>Node</th><th>Result</th>");
    out.raw("<th class=\"num\">Slot</th><th class=\"num\">Time</th><th class=\"num\">Size</th><th>Why</th></tr></thead><tbody>");
    for node in &run.nodes {
        out.raw("<tr><td><code>").text(&node.id).raw("</code></td><td>");
        tag(&mut out, node.result);
        out.raw("</td><td class=\"num place\">");
        if let Some(slot) = node.slot {
            out.number(slot as u64 + 1);
        }
        out.raw("</td><td class=\"num\">");
        if node.ended.is_some() {
            out.text(&duration(node.millis(run)));
        }
        out.raw("</td><td class=\"num\">");
        if let Some(size) = node.artifact.as_ref().map(|artifact| artifact.size_bytes).or(node.layer_bytes) {
            out.text(&bytes(size));
        }
        out.raw("</td><td class=\"why\">");
        why(&mut out, node);
        out.raw("</td></tr>");
    }
    out.raw("</tbody></table></div></section>");
    out
}

/// Why a node was built, or was not.
fn why(out: &mut Html, node: &NodeRun) {
    if let Some(because) = &node.because {
        out.text(because).raw(" failed");
        return;
    }
    if node.result == Outcome::Reused && node.why.is_empty() {
        out.raw("<span class=\"soft\">nothing has changed</span>");
    }
    if node.resumed {
        out.raw("<div>went on where it had stopped</div>");
    }
    for why in &node.why {
        out.raw("<div>").text(&why.words).raw("</div>");
        for line in &why.detail {
            out.raw("<div class=\"detail\"><code>").text(line).raw("</code></div>");
        }
    }
}

fn artifacts(run: &Run) -> Html {
    let mut out = Html::new();
    let made: Vec<_> = run.nodes.iter().filter_map(|node| Some((node, node.artifact.as_ref()?))).collect();
    if made.is_empty() {
        return out;
    }
    out.raw(
        "<section id=\"artifacts\"><h2>Artifacts</h2><div class=\"card scroll\"><table class=\"stack\"><thead><tr><th>Stage</th><th>Format</th>",
    );
    out.raw("<th class=\"num\">Size</th><th class=\"num\">Before</th><th>Signed by</th><th>File</th></tr></thead><tbody>");
    for (node, artifact) in made {
        out.raw("<tr><td><code>").text(&node.name).raw("</code></td><td>").text(&artifact.format).raw("</td><td class=\"num\">");
        out.text(&bytes(artifact.size_bytes)).raw("</td><td class=\"num soft\">");
        if let Some(before) = &node.artifact_before {
            out.text(&difference(before.size_bytes, artifact.size_bytes));
        }
        out.raw("</td><td>");
        match &artifact.signed_by {
            Some(key) => out.raw("<code>").text(key.get(key.len().saturating_sub(16)..).unwrap_or(key)).raw("</code>"),
            None => out.raw("<span class=\"soft\">unsigned</span>"),
        };
        out.raw("</td><td><code class=\"path\">").text(&artifact.path.to_string_lossy()).raw("</code></td></tr>");
    }
    out.raw("</tbody></table></div></section>");
    out
}

fn footer(out: &mut Html, run: &Run) {
    out.raw("<footer class=\"soft\"><p>gentoomuch ").text(&run.program);
    match &run.dir {
        Some(dir) => out.raw(" · recorded in <code class=\"path\">").text(&dir.to_string_lossy()).raw("</code>"),
        None => out.raw(" · nothing to do, so nothing is recorded"),
    };
    out.raw("</p></footer>");
}
