//! `kernel update`: newer sources for a kernel, and the options that its configuration does not have.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::config::kconfig::Symbols;
use crate::config::proposal::Edit;
use crate::config::{ConfigDir, KernelConfig, proposal, with_kernel_header};
use crate::context;
use crate::context::Context;
use crate::kernel::prep::bare;
use crate::kernel::{Error, Result, prep};
use crate::recipe::kernel::sources::SourcesFacts;
use crate::recipe::kernel::{CONFIG_LIMIT_BYTES, give, given, script};
use crate::session::{Work, run};
use crate::terminal_text::sanitize;

const KCONF: &str = "kconf";
/// Separates the symbols from their help in the script's output.
const HELP: &str = "--- help";

/// An option that a configuration does not set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct NewSymbol {
    /// Without `CONFIG_`.
    pub symbol: String,
    /// Its default.
    pub default: String,
    /// Its one-line description.
    pub prompt: Option<String>,
}

/// The new options of newer sources.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct KernelNews {
    pub name: String,
    pub path: PathBuf,
    /// The version in the configuration's header, if there is one.
    pub from: Option<String>,
    /// The package of the newest sources.
    pub package: String,
    /// Its version.
    pub to: String,
    /// Options that the configuration does not have.
    pub new: Vec<NewSymbol>,
    /// Whether the version was written.
    pub written: bool,
}

/// Installs the newest sources that the configuration accepts, and lists the options that are new in them. With `write` their version is
/// written into the header.
pub(crate) fn kernel_update(
    cx: &Context<'_>,
    config: &ConfigDir,
    name: &str,
    profile: Option<&str>,
    write: bool,
) -> Result<KernelNews> {
    let kernel = config.kernel(name)?;
    if let Some(place) = kernel.sources_at.as_ref().filter(|place| write && *place.file != *kernel.path) {
        return Err(Error::OldLayout { path: place.to_string(), name: kernel.name });
    }
    let _shared = context::share_store(cx)?;
    let atom = bare(&kernel.sources);
    let ask = |cx: &Context<'_>, work: &mut Work<'_>, facts: &SourcesFacts| new_symbols(cx, work, facts, &kernel);
    let (new, facts) = prep::with_sources(cx, config, profile, &atom, kernel.sources_at.clone(), ask)?;
    let to = facts.version();
    let written = if write {
        let after = with_kernel_header(&kernel.text, &atom.to_string(), Some(&to));
        let edit = Edit { path: kernel.path.clone(), before: Some(kernel.text.clone()), after };
        !proposal::write(config.root(), &[edit])?.is_empty()
    } else {
        false
    };
    let from = kernel.sources.version.clone();
    let path = config.root().join(&kernel.path);
    Ok(KernelNews { name: kernel.name.clone(), path, from, package: facts.package, to, new, written })
}

fn new_symbols(cx: &Context<'_>, work: &Work<'_>, facts: &SourcesFacts, kernel: &KernelConfig) -> Result<Vec<NewSymbol>> {
    give(work, &[(KCONF, &kernel.text)])?;
    cx.observer.step("looking for new options");
    let argv = script(&["news", &facts.tree, &given(KCONF)]);
    let (exit, bytes) = run::exit_and_output(cx, work, argv, CONFIG_LIMIT_BYTES)?;
    let text = sanitize(&bytes);
    if exit != crate::sandbox::Exit::Code(0) {
        return Err(Error::Target { target: "listnewconfig".to_owned(), exit });
    }
    let (symbols, help) = text.split_once(HELP).unwrap_or((&text, ""));
    let prompts = prompts(help);
    let new = Symbols::parse(symbols);
    let named = new.iter().map(|(symbol, default)| NewSymbol {
        symbol: symbol.to_owned(),
        default: default.to_owned(),
        prompt: prompts.get(symbol).cloned(),
    });
    Ok(named.collect())
}

/// The prompt of each symbol, from the kernel's help: the `Prompt: …` after `Symbol: X [=n]`.
fn prompts(help: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut symbol = None;
    for line in help.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("Symbol: ") {
            symbol = rest.split_whitespace().next().map(str::to_owned);
        } else if let (Some(prompt), Some(name)) = (line.strip_prefix("Prompt: "), &symbol) {
            found.entry(name.clone()).or_insert_with(|| prompt.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_read_from_the_help() {
        let help = "CONFIG_A:\n\nA text.\n\nSymbol: A [=n]\nType  : bool\nDefined at x:1\n  Prompt: Do A\n  Prompt: else\n-----\nSymbol: B [=y]\n";
        assert_eq!(prompts(help), BTreeMap::from([("A".to_owned(), "Do A".to_owned())]));
    }
}
