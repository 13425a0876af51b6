//! A page about one run of a pipeline, for a browser.
//!
//! ```text
//! record::Run   what the run did, and when   --.
//! store, logs   sizes, differences, which logs are there: `facts.rs` --> `page.rs` --> one file: HTML, CSS, SVG; no script, nothing from elsewhere
//! ```
//!
//! What it shows comes from builds: names, messages, paths. `html.rs` is the one place where they become HTML, and the page forbids what it
//! has no use for (`Content-Security-Policy`).

mod audits;
mod changes;
mod error;
mod facts;
mod html;
mod page;
pub(crate) mod sizes;
mod timeline;
mod told;

use crate::context::Context;
use crate::record;
use crate::record::{NodeRun, Run};

pub(crate) use self::error::{Error, Result};

/// The newest run that is called `name`: a stage, a profile, a node of a pipeline that it has built, or its own name. Without a name the
/// newest of all.
pub(crate) fn find(cx: &Context<'_>, name: Option<&str>) -> Result<Run> {
    let runs = record::runs(cx)?;
    let Some(name) = name else { return runs.into_iter().next().ok_or(Error::NoRuns) };
    let known = || {
        let mut known: Vec<String> =
            runs.iter().flat_map(|run| &run.nodes).filter(|node| node.was_begun()).map(|node| node.id.clone()).collect();
        known.sort();
        known.dedup();
        known
    };
    let found =
        runs.iter().find(|run| run.name() == Some(name) || run.nodes.iter().any(|node| node.was_begun() && is_called(node, name)));
    found.cloned().ok_or_else(|| Error::NoRun { name: name.to_owned(), known: known() })
}

/// By its id, or as `logs` calls what it logs.
fn is_called(node: &NodeRun, name: &str) -> bool {
    let NodeRun { id, kind, profile, name: own, .. } = node;
    let flat = name.replace('/', "-");
    id == name
        || id.replace('/', "-") == flat
        || match kind.as_str() {
            "stage4" => own == name || format!("stage-{own}").replace('/', "-") == flat,
            "stage3" => {
                let of_profile = name.strip_prefix("profile/").unwrap_or(name);
                profile == of_profile
                    || format!("{profile}/{own}") == of_profile
                    || format!("{profile}-{own}").replace('/', "-") == flat
            }
            _ => false,
        }
}

/// The page of a run. Sizes and differences are measured unless it is known that nothing was done: that needs no process.
pub(crate) fn page(cx: &Context<'_>, run: &Run) -> String {
    page::page(run, &facts::Facts::of(cx, run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_called_by_what_it_has_built() {
        let node = |id: &str, kind: &str, profile: &str, name: &str| NodeRun {
            id: id.to_owned(),
            kind: kind.to_owned(),
            profile: profile.to_owned(),
            name: name.to_owned(),
            ..NodeRun::default()
        };
        let web = node("stage4/web", "stage4", "demo", "web");
        let base = node("stage3/demo/gentoomuch/builder", "stage3", "demo", "gentoomuch/builder");
        for (node, names) in [
            (&web, &["web", "stage4/web", "stage-web"][..]),
            (
                &base,
                &["stage3/demo/gentoomuch/builder", "demo/gentoomuch/builder", "demo-gentoomuch-builder", "demo", "profile/demo"],
            ),
            (&node("kernel/demo/x", "kernel", "demo", "x"), &["kernel/demo/x", "kernel-demo-x"]),
            (&node("artifact/web", "artifact", "demo", "web"), &["artifact/web"]),
        ] {
            for name in names {
                assert!(is_called(node, name), "{name}");
            }
            assert!(!is_called(node, "we") && !is_called(node, "builder"));
        }
        assert!(!is_called(&web, "demo"));
    }
}
