//! `kernel prep`: makes or changes a configuration with the kernel's own tools, on the user's terminal.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::kconfig::{SymbolChange, Symbols};
use crate::config::proposal::Edit;
use crate::config::{BUILDER, ConfigDir, DEFAULT_SOURCES, KernelConfig, proposal, with_kernel_header};
use crate::context::Context;
use crate::kernel::{Error, Result};
use crate::names::profiles;
use crate::names::refs::profile_lock;
use crate::portage::atom::Atom;
use crate::portage::emerge::request::{Existing, Goal, Mode, Part, Request};
use crate::progress::Event;
use crate::recipe::kernel::error::KernelError;
use crate::recipe::kernel::sources::{SourcesFacts, WantedSources};
use crate::recipe::kernel::{give, given, script, sources};
use crate::recipe::{definition, kernel};
use crate::sandbox::Exit;
use crate::sandbox::plan::Network;
use crate::session::root::Run;
use crate::session::supply::sources::bring_sources;
use crate::session::work::{Given, Subject};
use crate::session::{Work, run, work};
use crate::store::{Purpose, Session, State};
use crate::trees::choose;
use crate::{context, names};

/// Name of the configuration in the session.
const KCONF: &str = "kconf";
/// Where the sources of a distribution kernel are unpacked.
const UNPACKED: &str = "/usr/src/gentoomuch-prep";

/// What to configure, and how.
#[derive(Debug, Clone)]
pub(crate) struct PrepOptions {
    /// Name of the kernel configuration; it need not exist.
    pub name: String,
    /// The profile whose builder has the sources; `None` for the default one.
    pub profile: Option<String>,
    /// The sources; `None`: those that the configuration names.
    pub sources: Option<Atom>,
    /// A target of the kernel's makefile.
    pub target: String,
    /// Whether it asks questions.
    pub asks: bool,
    /// Whether it starts from the existing configuration.
    pub continues: bool,
    /// Whether standard input and output are a terminal.
    pub terminal: bool,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct KernelPrepared {
    pub name: String,
    pub path: PathBuf,
    /// The package of sources.
    pub package: String,
    /// Whether the file was there before.
    pub existed: bool,
    /// Whether the configuration was written.
    pub written: bool,
    /// Symbols that changed.
    pub changes: Vec<SymbolChange>,
    /// Options that are built in.
    pub built_in: usize,
    /// Options that are modules.
    pub modules: usize,
}

/// Makes or changes a kernel configuration, and writes it to the configuration directory.
pub(crate) fn kernel_prep(cx: &Context<'_>, config: &ConfigDir, options: &PrepOptions) -> Result<KernelPrepared> {
    if options.asks && !options.terminal {
        return Err(Error::NoTerminal { target: options.target.clone() });
    }
    let existing = config.kernel_if_any(&options.name)?;
    if existing.is_none() && !crate::config::is_definition_name(&options.name) {
        return Err(names::Error::Name { name: options.name.clone(), what: "a kernel configuration" }.into());
    }
    let _shared = context::share_store(cx)?;
    let atom = match (&options.sources, &existing) {
        (Some(atom), _) => atom.clone(),
        (None, Some(kernel)) => kernel.sources.clone(),
        (None, None) => Atom::parse_target(DEFAULT_SOURCES)
            .map_err(|_| KernelError::NoSources { atom: DEFAULT_SOURCES.to_owned(), place: None })?,
    };
    let at = existing.as_ref().filter(|_| options.sources.is_none()).and_then(|kernel| kernel.sources_at.clone());
    let (text, facts) = with_sources(cx, config, options.profile.as_deref(), &atom, at, |cx, work, facts| {
        configure(cx, work, facts, options, existing.as_ref())
    })?;
    write_configuration(config, options, existing.as_ref(), &atom, &facts, &text)
}

/// Runs `work` in a throw-away session with the sources in it.
pub(crate) fn with_sources<R>(
    cx: &Context<'_>,
    config: &ConfigDir,
    profile: Option<&str>,
    atom: &Atom,
    at: Option<crate::config::Place>,
    work: impl FnOnce(&Context<'_>, &mut Work<'_>, &SourcesFacts) -> Result<R>,
) -> Result<(R, SourcesFacts)> {
    let profile = profiles::profile_or_default(cx, profile)?;
    let _profile = context::lock_shared(cx, &profile_lock(&profile))?;
    let builder = definition::definition(cx, config, &profile, BUILDER)?.state;
    let trees = choose::trees_of_state(cx, &builder)?;
    let wanted = WantedSources { atom, at, trees: &trees };
    let (sources, facts) = sources::kernel_sources(cx, config, &wanted, &profile, &builder)?;
    let mut session = cx.store.session_create(Some(&sources), Purpose::Kernel, "")?;
    let done = in_sources(cx, &mut session, &sources, &profile, &facts, work);
    // Also after an error, which is returned below.
    session.discard(cx.launcher)?;
    Ok((done?, facts))
}

fn in_sources<R>(
    cx: &Context<'_>,
    session: &mut Session,
    sources: &State,
    profile: &str,
    facts: &SourcesFacts,
    then: impl FnOnce(&Context<'_>, &mut Work<'_>, &SourcesFacts) -> Result<R>,
) -> Result<R> {
    let subject =
        Subject { log_name: format!("kernel-prep-{profile}"), profile: profile.to_owned(), definition: BUILDER.to_owned() };
    let mut work = work::work(cx, session, sources, &subject, Given::default())?;
    give(&work, &[])?;
    let facts = if facts.distribution { unpack_kernel(cx, &work, facts)? } else { facts.clone() };
    let done = then(cx, &mut work, &facts)?;
    work.forget_logs();
    Ok(done)
}

/// Unpacks the sources of a distribution kernel. Its package installs none: they only exist while its ebuild compiles.
fn unpack_kernel(cx: &Context<'_>, work: &Work<'_>, facts: &SourcesFacts) -> Result<SourcesFacts> {
    let goal = Goal::Packages { atoms: vec![format!("={}", facts.package)], existing: Existing::Rebuild, oneshot: true };
    let request = Request { usepkg: false, part: Part::Packages, ..Request::new(goal, Mode::Run) };
    cx.observer.step(&format!("unpacking {}", facts.package));
    bring_sources(cx, work, &request)?;
    run::command(cx, work, script(&["unpack", &facts.package]), Network::None)?;
    Ok(SourcesFacts { tree: UNPACKED.to_owned(), ..facts.clone() })
}

/// Runs the kernel's target; returns the configuration that it saved.
fn configure(
    cx: &Context<'_>,
    work: &Work<'_>,
    facts: &SourcesFacts,
    options: &PrepOptions,
    existing: Option<&KernelConfig>,
) -> Result<String> {
    if let Some(kernel) = existing.filter(|_| options.continues) {
        give(work, &[(KCONF, &kernel.text)])?;
        let config = format!("{}/.config", facts.tree);
        run::command(cx, work, ["/bin/cp", &given(KCONF), &config].map(str::to_owned).into(), Network::None)?;
    }
    let argv = script(&["ask", &facts.tree, &options.target]);
    if options.asks {
        let exit = on_terminal(cx, work, argv)?;
        if exit != Exit::Code(0) {
            return Err(Error::Target { target: options.target.clone(), exit });
        }
    } else {
        run::command(cx, work, argv, Network::None)?;
    }
    let text = kernel::kernel_text(cx, work, &format!("{}/.config", facts.tree))?.ok_or(Error::NothingSaved)?;
    if Symbols::parse(&text).is_empty() {
        return Err(KernelError::NoConfiguration.into());
    }
    Ok(text)
}

fn on_terminal(cx: &Context<'_>, work: &Work<'_>, argv: Vec<String>) -> Result<Exit> {
    let mut env = work.env.clone();
    env.extend(cx.settings.term.iter().map(|term| ("TERM".to_owned(), term.clone())));
    // Our progress display must be gone before `make` uses the terminal.
    cx.observer.event(&Event::End);
    let run =
        Run { argv, env, network: Network::None, terminal: true, hostname: work.hostname.clone(), shown: None, in_memory: None };
    Ok(run::attend(cx, work, &run)?)
}

/// The package of an atom without its version, for the header, which has a line of its own for the version.
pub(crate) fn bare(atom: &Atom) -> Atom {
    Atom { operator: None, version: None, build_id: None, slot: None, use_dependencies: Vec::new(), ..atom.clone() }
}

fn write_configuration(
    config: &ConfigDir,
    options: &PrepOptions,
    existing: Option<&KernelConfig>,
    atom: &Atom,
    facts: &SourcesFacts,
    text: &str,
) -> Result<KernelPrepared> {
    let path = match existing {
        Some(kernel) if kernel.path.starts_with("kernel.configs") => kernel.path.clone(),
        _ => Path::new("kernel.configs").join(format!("{}.kconf", options.name)),
    };
    let (before, symbols) = existing.map(|kernel| (kernel.text.clone(), kernel.symbols.clone())).unzip();
    let before = before.filter(|_| existing.is_some_and(|kernel| kernel.path == path));
    let after = with_kernel_header(text, &bare(atom).to_string(), Some(&facts.version()));
    let got = Symbols::parse(text);
    let edits = [Edit { path: path.clone(), before, after }];
    let written = !proposal::write(config.root(), &edits)?.is_empty();
    Ok(KernelPrepared {
        name: options.name.clone(),
        path: config.root().join(&path),
        package: facts.package.clone(),
        existed: existing.is_some(),
        written,
        changes: symbols.unwrap_or_default().changes(&got),
        built_in: got.count("y"),
        modules: got.count("m"),
    })
}
