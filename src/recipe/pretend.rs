//! `--pretend`: what emerge itself says that it would do. Nothing is built, and the session is thrown away.

use serde::Serialize;

use crate::build_times;
use crate::build_times::run_left;
use crate::context::Context;
use crate::portage::emerge::request::{Goal, Mode, Request};
use crate::portage::emerge::resolution::listed::{Listed, listed};
use crate::progress::Left;
use crate::recipe::Result;
use crate::sandbox::Exit;
use crate::session::{Work, emerge_argv, run};

/// emerge prints less about ten thousand packages.
const OUTPUT_LIMIT_BYTES: u64 = 16 << 20;

/// What one run of emerge would do.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct List {
    /// `@world`, `the packages of web`.
    pub what: String,
    /// In emerge's order.
    pub packages: Vec<Listed>,
    /// Whether emerge refused.
    pub failed: bool,
    /// How long it would take, by earlier builds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated: Option<Left>,
    /// As emerge printed it. Hostile: a tree's names and flags are in it.
    #[serde(skip)]
    pub output: Vec<u8>,
}

/// What a build would do.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Pretended {
    /// What would be built: a stage, a profile, atoms.
    pub target: String,
    pub profile: String,
    /// The state that a build would find. Then nothing is merged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up_to_date: Option<String>,
    /// What would be built besides, of which emerge has no list: kernels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub besides: Vec<String>,
    /// Of each run of emerge, in their order.
    pub lists: Vec<List>,
}

impl Pretended {
    /// Whether emerge refused any of it.
    pub(crate) fn has_failed(&self) -> bool {
        self.lists.iter().any(|list| list.failed)
    }
}

/// Asks emerge for its list for each goal. After one that it refuses the others would be of no use.
pub(crate) fn lists(cx: &Context<'_>, work: &Work<'_>, goals: Vec<(String, Goal)>, color: bool) -> Result<Vec<List>> {
    let (mut lists, estimates) = (Vec::new(), build_times::estimates(cx));
    for (what, goal) in goals {
        cx.observer.step(&format!("calculating the dependencies of {what}"));
        let request = Request { color, ..emerge_argv::request_in(cx, work, goal).with_mode(Mode::Pretend) };
        let argv = emerge_argv::emerge_argv(cx, work, &request)?;
        let (exit, output) = run::exit_and_output(cx, work, argv, OUTPUT_LIMIT_BYTES)?;
        let failed = exit != Exit::Code(0);
        let mut packages = listed(&output);
        for package in &mut packages {
            package.expected = estimates.of_package(&package.package, package.binary);
        }
        let expected: Vec<_> = packages.iter().map(|package| package.expected).collect();
        let estimated = if failed { None } else { run_left(&expected, &[], estimates.overlap()) };
        lists.push(List { what, packages, failed, estimated, output });
        if failed {
            break;
        }
    }
    Ok(lists)
}
