//! What the last audit of each stage found. None is made for a report: it costs a session.

use crate::installed::kept::{KeptAdvisory, KeptAudit};
use crate::report::facts::Facts;
use crate::report::html::Html;

/// Rows of advisories for a stage.
const MOST_ADVISORIES: usize = 20;

/// The section; empty if the run has no stages.
pub(super) fn section(facts: &Facts) -> Html {
    let mut out = Html::new();
    if facts.audits.is_empty() {
        return out;
    }
    out.raw("<section id=\"audit\"><h2>Audit</h2><div class=\"card scroll\"><table class=\"stack\"><thead><tr><th>Stage</th>");
    out.raw("<th>Audited</th><th>Security advisories</th><th>Versions</th></tr></thead><tbody>");
    for (stage, audit) in &facts.audits {
        out.raw("<tr><td><code>").text(stage).raw("</code></td>");
        match audit {
            Some(audit) => one(&mut out, audit),
            None => {
                out.raw("<td colspan=\"3\"><span class=\"tag\">not audited</span> <code>gentoomuch audit ").text(stage);
                out.raw("</code></td>");
            }
        }
        out.raw("</tr>");
    }
    out.raw("</tbody></table></div></section>");
    out
}

fn one(out: &mut Html, audit: &KeptAudit) {
    let time = |secs, format: &str| jiff::Timestamp::from_second(secs).map(|time| time.strftime(format).to_string());
    out.raw("<td><time>").text(&time(audit.at, "%Y-%m-%d %H:%M UTC").unwrap_or_default()).raw("</time>");
    for tree in &audit.trees {
        out.raw("<div class=\"soft\">against <code>").text(&tree.name).raw("</code> of ");
        out.text(&time(tree.newest, "%Y-%m-%d").unwrap_or_default()).raw("</div>");
    }
    out.raw("</td><td>");
    match &audit.advisories {
        None => drop(out.raw("<span class=\"tag warn\">unknown</span> the tree had none")),
        Some(found) if found.is_empty() && audit.unread == 0 => drop(out.raw("<span class=\"tag built\">none</span>")),
        Some(found) => advisories(out, found, audit.unread),
    }
    out.raw("</td><td>");
    let counts = [(audit.outdated, "outdated"), (audit.removed, "removed"), (audit.unknown, "of unknown trees")];
    if counts.iter().all(|(number, _)| *number == 0) {
        out.raw("<span class=\"soft\">all the newest</span>");
    }
    for (number, what) in counts.into_iter().filter(|(number, _)| *number > 0) {
        out.raw("<div>").number(number as u64).raw(" ").raw(what).raw("</div>");
    }
    out.raw("</td>");
}

fn advisories(out: &mut Html, found: &[KeptAdvisory], unread: usize) {
    for one in found.iter().take(MOST_ADVISORIES) {
        out.raw("<div><span class=\"tag failed\">").text(&one.severity).raw("</span> <code>").text(&one.id).raw("</code> ");
        out.text(&one.title).raw("<div class=\"detail\"><code>").text(&one.packages.join(" ")).raw("</code></div></div>");
    }
    let more = found.len().saturating_sub(MOST_ADVISORIES);
    if more > 0 {
        out.raw("<div class=\"soft\">and ").number(more as u64).raw(" more</div>");
    }
    if unread > 0 {
        out.raw("<div><span class=\"tag warn\">unknown</span> ").number(unread as u64).raw(" could not be read</div>");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page(audit: Option<serde_json::Value>) -> String {
        let audit = audit.map(|audit| serde_json::from_value(audit).unwrap());
        section(&Facts { audits: vec![("web".to_owned(), audit)], ..Facts::default() }).into_string()
    }

    fn kept(advisories: &serde_json::Value, unread: usize, outdated: usize) -> serde_json::Value {
        json!({
            "state": "01a2", "at": 1_700_000_000, "trees": [{"name": "gentoo", "digest": "d", "newest": 1_699_000_000}], "packages": 7,
            "advisories": advisories, "unread": unread, "outdated": outdated, "removed": 0, "unknown": 0,
        })
    }

    #[test]
    fn a_stage_that_nobody_audited_is_not_called_clean() {
        assert_eq!(section(&Facts::default()).into_string(), "");
        let page = page(None);
        assert!(page.contains("<td><code>web</code></td><td colspan=\"3\"><span class=\"tag\">not audited</span>"), "{page}");
        assert!(page.contains("<code>gentoomuch audit web</code>") && !page.contains("none"), "{page}");
    }

    #[test]
    fn what_was_found_is_shown_with_its_day() {
        let one =
            json!([{"id": "202611-01", "severity": "high", "title": "<b>Too</b> friendly", "packages": ["app-misc/hello-2.10"]}]);
        let bad = page(Some(kept(&one, 1, 3)));
        for words in [
            "<time>2023-11-14 22:13 UTC</time>",
            "against <code>gentoo</code> of 2023-11-03",
            "<span class=\"tag failed\">high</span> <code>202611-01</code> &lt;b&gt;Too&lt;/b&gt; friendly",
            "<code>app-misc/hello-2.10</code>",
            "1 could not be read",
            "<div>3 outdated</div>",
        ] {
            assert!(bad.contains(words), "{words:?} is not in {bad}");
        }
        let clean = page(Some(kept(&json!([]), 0, 0)));
        assert!(clean.contains("<span class=\"tag built\">none</span>") && clean.contains("all the newest"), "{clean}");
        let unknown = page(Some(kept(&serde_json::Value::Null, 0, 0)));
        assert!(
            unknown.contains("<span class=\"tag warn\">unknown</span> the tree had none") && !unknown.contains("built"),
            "{unknown}"
        );
    }
}
