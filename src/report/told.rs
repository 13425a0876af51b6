//! What packages said, news, configuration files that wait, warnings; and where the logs are.

use crate::history::logs::{Log, Run as LogRun};
use crate::portage::messages::{Class, Said};
use crate::record::{NodeRun, PackageRun, Run};
use crate::report::facts::Facts;
use crate::report::html::Html;
use crate::report::sizes::{bytes, count, duration};

/// Rows of the table of logs of a node.
const MOST_PACKAGES: usize = 2000;

/// The section about messages; empty if there are none.
pub(super) fn messages(run: &Run) -> Html {
    let mut out = Html::new();
    let told: Vec<&NodeRun> = run.nodes.iter().filter(|node| !node.messages.is_empty() || !node.warnings.is_empty()).collect();
    if told.is_empty() {
        return out;
    }
    out.raw("<section id=\"messages\"><h2>Messages</h2>");
    for node in told {
        out.raw("<details class=\"card\" open><summary><code>").text(&node.id).raw("</code></summary>");
        for warning in &node.warnings {
            out.raw("<p class=\"line\"><span class=\"tag warn\">warning</span> ").text(warning).raw("</p>");
        }
        for said in &node.messages.packages {
            self::said(&mut out, said);
        }
        if !node.messages.news.is_empty() {
            out.raw("<h3>Unread news</h3><ul class=\"plainlist\">");
            for item in &node.messages.news {
                out.raw("<li><code>").text(&item.name).raw("</code> ").text(&item.title).raw("</li>");
            }
            out.raw("</ul>");
        }
        if !node.messages.pending_config.is_empty() {
            out.raw("<h3>Configuration files that wait for <code>dispatch-conf</code></h3><ul class=\"plainlist\">");
            for file in &node.messages.pending_config {
                out.raw("<li><code>").text(file).raw("</code></li>");
            }
            out.raw("</ul>");
        }
        out.raw("</details>");
    }
    out.raw("</section>");
    out
}

fn said(out: &mut Html, said: &Said) {
    out.raw("<div class=\"said\"><h3><code>").text(&said.package).raw("</code></h3>");
    for message in &said.messages {
        let tag = match message.class {
            Class::Log => "<span class=\"tag\">elog</span>",
            Class::Warn => "<span class=\"tag warn\">ewarn</span>",
            Class::Error => "<span class=\"tag failed\">eerror</span>",
        };
        out.raw("<div class=\"message\">").raw(tag).raw("<div class=\"lines\">");
        for line in &message.lines {
            out.raw("<div>").text(line).raw("</div>");
        }
        out.raw("</div></div>");
    }
    if said.more {
        out.raw("<p class=\"soft\">… and more, which is in its log only</p>");
    }
    out.raw("</div>");
}

/// The section about packages one by one, with their logs; empty if nothing was begun.
pub(super) fn logs(run: &Run, facts: &Facts) -> Html {
    let mut out = Html::new();
    let begun: Vec<&NodeRun> = run
        .nodes
        .iter()
        .filter(|node| !node.packages.is_empty() || facts.logs.get(&node.id).is_some_and(|logs| !logs.is_empty()))
        .collect();
    if begun.is_empty() {
        return out;
    }
    out.raw("<section id=\"logs\"><h2>Packages and logs</h2>");
    for node in begun {
        let logs = facts.logs.get(&node.id).map(Vec::as_slice).unwrap_or_default();
        out.raw("<details class=\"card\"");
        if !node.error.is_empty() {
            out.raw(" open");
        }
        out.raw("><summary><code>").text(&node.id).raw("</code> <span class=\"soft\">");
        out.text(&super::timeline::packages_words(node)).raw("</span></summary>");
        own_logs(&mut out, logs);
        if !node.packages.is_empty() {
            packages(&mut out, run, node, logs);
        }
        out.raw("</details>");
    }
    if run.more_packages {
        out.raw("<p class=\"soft\">There were more packages than a record keeps.</p>");
    }
    out.raw("</section>");
    out
}

/// What emerge and the commands around it printed.
fn own_logs(out: &mut Html, runs: &[LogRun]) {
    for run in runs {
        out.raw("<p class=\"soft\">");
        for log in run.logs.iter().filter(|log| ["emerge", "commands"].contains(&log.name.as_str())) {
            out.log_link(&run.dir.join(&log.file), &log.name).raw(" (").text(&bytes(log.bytes)).raw(") ");
        }
        out.raw("in <code class=\"path\">").text(&run.dir.to_string_lossy()).raw("</code></p>");
    }
}

fn packages(out: &mut Html, run: &Run, node: &NodeRun, runs: &[LogRun]) {
    out.raw("<div class=\"scroll\"><table><thead><tr><th>Package</th><th>How</th><th class=\"num\">Began</th><th class=\"num\">Time</th><th>Log</th></tr></thead><tbody>");
    for package in node.packages.iter().take(MOST_PACKAGES) {
        let ended = package.ended.or(node.ended).or(run.ended).unwrap_or(package.began);
        let how = match (package.failed, package.binary) {
            (true, _) => "<span class=\"tag failed\">failed or stopped</span>",
            (_, true) => "<span class=\"tag\">binary package</span>",
            _ => "<span class=\"tag built\">compiled</span>",
        };
        out.raw("<tr><td><code>").text(&package.package).raw("</code></td><td>").raw(how).raw("</td><td class=\"num\">+");
        out.text(&duration(package.began - run.began)).raw("</td><td class=\"num\">").text(&duration(ended - package.began));
        out.raw("</td><td>");
        if let Some((run, log)) = log_of(runs, package) {
            out.log_link(&run.dir.join(&log.file), "log").raw(" <span class=\"soft\">").text(&bytes(log.bytes)).raw("</span>");
        }
        out.raw("</td></tr>");
    }
    out.raw("</tbody></table></div>");
    if node.packages.len() > MOST_PACKAGES {
        out.raw("<p class=\"soft\">and ").text(&count(node.packages.len() - MOST_PACKAGES, "more package")).raw("</p>");
    }
}

/// Where the log of each package that failed is.
pub(super) fn failed_packages(out: &mut Html, node: &NodeRun, facts: &Facts) {
    let logs = facts.logs.get(&node.id).map(Vec::as_slice).unwrap_or_default();
    for package in node.packages.iter().filter(|package| package.failed) {
        let Some((run, log)) = log_of(logs, package) else { continue };
        out.raw("<p>").log_link(&run.dir.join(&log.file), &format!("log of {}", package.package));
        out.raw(" <span class=\"soft\">or <code>gentoomuch logs ").text(&node.id).raw(" ").text(&package.package);
        out.raw("</code></span></p>");
    }
}

fn log_of<'a>(runs: &'a [LogRun], package: &PackageRun) -> Option<(&'a LogRun, &'a Log)> {
    runs.iter().find_map(|run| Some((run, run.log(&package.package).ok().filter(|log| log.name == package.package)?)))
}
