//! What packages are made from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::portage::binpkgs::Described;
use crate::query::{Question, shown};

/// What decides the result of building these packages? Packages that are in no tree are left out.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "kind", rename = "keys")]
pub struct Keys<'a> {
    /// Name with version, and repository.
    pub packages: &'a [(String, String)],
    /// Also for the ones that are installed.
    pub here: bool,
    /// Also for what emerge would take for these atoms.
    pub targets: &'a [String],
}

impl Question for Keys<'_> {
    type Answer = Made;
    /// Two kilobytes for each of thirty thousand packages.
    const ANSWER_LIMIT_BYTES: usize = 64 << 20;
}

/// The answers for packages. To keep them short, each has only what differs from the one before.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Made(Vec<Line>);

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(deserialize_with = "shown")]
    cpv: String,
    #[serde(deserialize_with = "shown")]
    repository: String,
    parts: BTreeMap<String, String>,
    env: BTreeMap<String, String>,
    unset: Vec<String>,
    installed: bool,
    #[serde(deserialize_with = "shown")]
    own_compiler: String,
}

impl Made {
    pub fn described(self) -> Vec<Described> {
        let mut environment = BTreeMap::new();
        let described = self.0.into_iter().map(|line| {
            let Line { cpv, repository, parts, env, unset, installed, own_compiler } = line;
            for name in &unset {
                environment.remove(name);
            }
            environment.extend(env);
            Described { cpv, repository, parts, environment: environment.clone(), installed, own_compiler }
        });
        described.collect()
    }
}
