//! Makes a kernel's payload: in a session on its sources that is thrown away, what is kept is written elsewhere.

use std::collections::BTreeSet;

use crate::build_key::Inputs;
use crate::config::ConfigDir;
use crate::config::kconfig::{SymbolChange, Symbols};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::jobserver::PIPE_INSIDE;
use crate::names::refs::kernel_ref;
use crate::portage::binpkgs::PoolInputs;
use crate::portage::emerge::request::{Existing, Goal, Mode, Request};
use crate::progress::Event;
use crate::recipe::definition::{Built, subject_of};
use crate::recipe::kernel::error::KernelError;
use crate::recipe::kernel::sources::{SourcesFacts, WantedSources};
use crate::recipe::kernel::{KernelRecipe, give, given, script, sources};
use crate::recipe::{kernel, merge, settle};
use crate::sandbox::Exit;
use crate::sandbox::plan::Network;
use crate::session::inspect::PoolOf;
use crate::session::keys::PoolUse;
use crate::session::root::UserBind;
use crate::session::work::{Given, StepsDone, Subject};
use crate::session::{Work, keys, open, run, work};
use crate::store::{NewState, Purpose, Session, State};

/// Where the session sees the layers that it fills.
const PAYLOAD: &str = "/run/gentoomuch/payload";
const DEVEL: &str = "/run/gentoomuch/devel";
/// Names of what the session is given.
const KCONF: &str = "kconf";
const DRACUT: &str = "dracut";
/// The script's exit code where there is no dracut.
const NO_DRACUT: i32 = 90;
/// So many symbols that were not got are told one by one.
const MOST_UNMET: usize = 12;

/// What a kernel turned out to be.
struct Kernel {
    release: String,
    unmet: Vec<SymbolChange>,
    got: Symbols,
}

/// What is being made, for whom.
struct Task<'t> {
    recipe: &'t KernelRecipe,
    profile: &'t str,
    sources: &'t State,
    facts: &'t SourcesFacts,
    /// What decides the payload.
    content: &'t Inputs,
}

/// The state of a kernel: reused when nothing that goes in has changed, its payload when nothing has that counts for it, else built; its
/// name is moved there. The caller holds the lock on the profile, shared, and that on the kernel.
pub(crate) fn kernel(cx: &Context<'_>, config: &ConfigDir, recipe: &KernelRecipe, profile: &str, builder: &State) -> Result<Built> {
    let name = kernel_ref(profile, &recipe.config.label());
    let inputs = recipe.inputs(&builder.key);
    let key = inputs.key();
    if let Some(state) = cx.store.state_by_key(&key)? {
        cx.store.ref_set(&name, &state.id)?;
        return Ok(Built { state, reused: true });
    }
    let wanted = WantedSources { atom: &recipe.config.sources, at: recipe.config.sources_at.clone(), trees: &recipe.trees };
    let (sources, facts) = sources::kernel_sources(cx, config, &wanted, profile, builder)?;
    let content = content(recipe, &sources, &facts, builder);
    let task = Task { recipe, profile, sources: &sources, facts: &facts, content: &content };
    let payload = match cx.store.state_by_key(&content.key())? {
        Some(payload) => {
            cx.observer.note(&format!(
                "{} on {profile} is what was built before: its sources, configuration and toolchain are the same",
                recipe.config.label()
            ));
            payload
        }
        None => make_payload(cx, config, &task)?,
    };
    let mut origin = payload.origin.clone();
    origin["inputs"] = serde_json::json!(inputs);
    origin["name"] = serde_json::json!(recipe.config.label());
    origin["profile"] = serde_json::json!(profile);
    let new = NewState { key, origin, newest_input: payload.newest_input, parent: Some(payload.id.clone()) };
    let state = cx.store.state_of_layers(payload.layers.clone(), new)?;
    cx.store.ref_set(&name, &state.id)?;
    Ok(Built { state, reused: false })
}

fn make_payload(cx: &Context<'_>, config: &ConfigDir, task: &Task<'_>) -> Result<State> {
    let label = task.recipe.config.label();
    let name = kernel_ref(task.profile, &label);
    let key = task.content.key();
    let (mut session, resumed) = open::open_session(cx, task.sources, Purpose::Kernel, &key, &subject_of(config, &name))?;
    let (word, package) = (if resumed { "resuming" } else { "building" }, &task.facts.package);
    cx.observer.step(&format!("{word} kernel {label} on {} from {package}", task.profile));
    let made = fill_kernel(cx, &mut session, task);
    // All that is kept lies elsewhere by now.
    settle::settle(cx, made, session, |session, state: State| {
        session.discard(cx.launcher)?;
        Ok(state)
    })
}

fn fill_kernel(cx: &Context<'_>, session: &mut Session, task: &Task<'_>) -> Result<State> {
    let Task { recipe, profile, sources, facts, .. } = task;
    let mut steps = StepsDone::of(session)?;
    let subject = Subject {
        log_name: format!("kernel-{profile}-{}", recipe.config.label()),
        profile: (*profile).to_owned(),
        definition: crate::recipe::kernel::BUILDER.to_owned(),
    };
    let mut work = work::work(cx, session, sources, &subject, Given { trees: Some(&recipe.trees), ..Given::default() })?;
    let dracut = recipe.config.dracut.as_ref().map(|lines| lines.join("\n"));
    give(&work, &[(KCONF, &recipe.config.text), (DRACUT, dracut.as_deref().unwrap_or_default())])?;
    let resumed = steps.any();
    let pool = keys::choose_pool(cx, &mut work, PoolOf::recorded(&sources.origin), PoolUse::Publish)?;
    if recipe.config.dracut.is_some() {
        match in_kernel(cx, &work, &["need_dracut"]) {
            Err(Error::Command { exit: Exit::Code(NO_DRACUT), .. }) => {
                return Err(KernelError::NoDracut { kernel: recipe.config.name.clone() }.into());
            }
            other => other?,
        }
    }
    if facts.distribution {
        emerge_kernel(cx, &work, &mut steps, facts, resumed)?;
    } else {
        steps.once("configure", || in_kernel(cx, &work, &["configure", &facts.tree, &given(KCONF)]))?;
        warn_of_unmet(cx, &kernel_made(cx, &work, task, false)?.unmet);
        steps.once("compile", || {
            cx.observer.step("compiling the kernel");
            in_kernel(cx, &work, &["compile", &facts.tree])
        })?;
    }
    let kernel = kernel_made(cx, &work, task, true)?;
    if facts.distribution {
        warn_of_unmet(cx, &kernel.unmet);
    }
    keys::tell_published(cx, &work, &pool);
    keep_kernel(cx, &mut work, task, &kernel)
}

/// Tells what the configuration asks for and these sources do not give.
fn warn_of_unmet(cx: &Context<'_>, unmet: &[SymbolChange]) {
    for change in unmet.iter().take(MOST_UNMET) {
        let got = change.after.as_deref().unwrap_or("no such option");
        let asked = change.before.as_deref().unwrap_or_default();
        cx.observer.event(&Event::Warning(&format!("CONFIG_{}: asked for {asked}, got {got}", change.symbol)));
    }
    if unmet.len() > MOST_UNMET {
        let more = unmet.len() - MOST_UNMET;
        cx.observer.event(&Event::Warning(&format!("and {more} more options that were asked for and are not so")));
    }
}

/// A distribution kernel, configured and built by its ebuild.
fn emerge_kernel(cx: &Context<'_>, work: &Work<'_>, steps: &mut StepsDone, facts: &SourcesFacts, resumed: bool) -> Result<()> {
    steps.once("accept", || in_kernel(cx, work, &["accept", &facts.package, &given(KCONF)]))?;
    let goal = Goal::Packages { atoms: vec![format!("={}", facts.package)], existing: Existing::Rebuild, oneshot: true };
    let name = facts.package_name();
    // A binary package does not say which configuration it was built with.
    let request = Request { usepkg_exclude: vec![name.clone()], buildpkg_exclude: vec![name], ..Request::new(goal, Mode::Run) };
    merge::emerge_request(cx, work, steps, "kernel", request, resumed, false)
}

/// What came of the configuration, and how the kernel calls itself, if it is built by now.
fn kernel_made(cx: &Context<'_>, work: &Work<'_>, task: &Task<'_>, is_built: bool) -> Result<Kernel> {
    let facts = task.facts;
    let (release, path) = if facts.distribution {
        let answer = kernel::ask_kernel(cx, work, &["collected", &facts.package])?;
        (answer.get("RELEASE").to_owned(), answer.get("CONFIG").to_owned())
    } else if is_built {
        let answer = kernel::ask_kernel(cx, work, &["release", &facts.tree])?;
        (answer.get("RELEASE").to_owned(), format!("{}/.config", facts.tree))
    } else {
        (String::new(), format!("{}/.config", facts.tree))
    };
    let text = kernel::kernel_text(cx, work, &path)?.ok_or(KernelError::NoConfiguration)?;
    let got = Symbols::parse(&text);
    let mut unmet = task.recipe.config.symbols.unmet(&got);
    if !facts.distribution && !unmet.is_empty() {
        let argv = script(&["options", &facts.tree]);
        let (_, options) = run::exit_and_output(cx, work, argv, crate::recipe::kernel::CONFIG_LIMIT_BYTES)?;
        let options = String::from_utf8_lossy(&options).into_owned();
        let followers: BTreeSet<&str> = options.lines().filter_map(|line| line.strip_prefix("d ")).collect();
        // What nobody can choose follows from other options: nobody has asked for it.
        unmet.retain(|change| !followers.contains(change.symbol.as_str()));
    }
    Ok(Kernel { release, unmet, got })
}

/// Runs the script; makes in it have the session's share of jobs.
fn in_kernel(cx: &Context<'_>, work: &Work<'_>, arguments: &[&str]) -> Result<()> {
    let _turn = work.jobs.turn()?;
    let jobs = work.root.session_conf.make_jobs.max(1);
    let mut argv = vec!["/usr/bin/env".to_owned()];
    match &work.root.jobserver {
        // As a make gets it from another one.
        Some(_) => argv.push(format!("MAKEFLAGS= -j{} --jobserver-auth=fifo:{PIPE_INSIDE}", jobs.max(2))),
        None => argv.push(format!("JOBS={jobs}")),
    }
    argv.extend(script(arguments));
    run::command(cx, work, argv, Network::None).map_err(|error| match error {
        Error::Command { exit, log, last_lines, .. } => Error::Command { command: words(arguments), exit, log, last_lines },
        other => other,
    })
}

/// Writes the two layers, and makes states of them.
fn keep_kernel(cx: &Context<'_>, work: &mut Work<'_>, task: &Task<'_>, kernel: &Kernel) -> Result<State> {
    let key = task.content.key();
    let mut devel = cx.store.session_create(None, Purpose::Kernel, &devel_key(&key))?;
    let mut payload = match cx.store.session_create(None, Purpose::Kernel, &key) {
        Ok(payload) => payload,
        Err(error) => {
            devel.discard(cx.launcher)?;
            return Err(error.into());
        }
    };
    for (source, target) in [(payload.bind_upper(), PAYLOAD), (devel.bind_upper(), DEVEL)] {
        work.root.binds.push(UserBind { source, target: target.into(), read_only: false });
    }
    if let Err(error) = write_layers(cx, work, task, kernel) {
        payload.discard(cx.launcher)?;
        devel.discard(cx.launcher)?;
        return Err(error);
    }
    let facts = task.facts;
    let count = |value: &str| u64::try_from(kernel.got.count(value)).unwrap_or_default();
    let origin = serde_json::json!({
        "kind": "kernel",
        "name": task.recipe.config.label(),
        "profile": task.profile,
        "package": facts.package,
        "release": kernel.release,
        "configuration": task.recipe.config.symbols.digest(),
        "unmet": kernel.unmet,
        "built_in": count("y"),
        "modules": count("m"),
        "initramfs": task.recipe.config.dracut.is_some(),
        "inputs": task.content,
        "isolation": crate::host::rung(),
        "network": [],
    });
    let newest_input = task.sources.newest_input;
    let of_devel = serde_json::json!({ "kind": "kernel headers", "name": kernel.release, "package": facts.package });
    let new = NewState { key: devel_key(&key), origin: of_devel, newest_input, parent: None };
    let devel = devel.commit_bound(new, cx.launcher);
    let devel = match devel {
        Ok(devel) => devel,
        Err(error) => {
            payload.discard(cx.launcher)?;
            return Err(error.into());
        }
    };
    Ok(payload.commit_bound(NewState { key, origin, newest_input, parent: Some(devel.id) }, cx.launcher)?)
}

fn write_layers(cx: &Context<'_>, work: &Work<'_>, task: &Task<'_>, kernel: &Kernel) -> Result<()> {
    let facts = task.facts;
    cx.observer.step(&format!("keeping kernel {}", kernel.release));
    if facts.distribution {
        in_kernel(cx, work, &["collect", &facts.package, PAYLOAD, DEVEL])?;
    } else {
        in_kernel(cx, work, &["install_built", &facts.tree, PAYLOAD, DEVEL])?;
    }
    if task.recipe.config.dracut.is_none() {
        return Ok(());
    }
    cx.observer.step("making its initramfs");
    in_kernel(cx, work, &["initramfs", PAYLOAD, &kernel.release, &given(DRACUT)])
}

/// What decides a payload: the sources as they are, the configuration, the toolchain.
fn content(recipe: &KernelRecipe, sources: &State, facts: &SourcesFacts, builder: &State) -> Inputs {
    let pool = serde_json::from_value::<PoolInputs>(sources.origin["pool"].clone()).ok();
    let toolchain = pool.map_or_else(|| builder.key.clone(), |pool| format!("{} {}", pool.chost, pool.toolchain));
    let inputs =
        recipe.with_own(Inputs::new("kernel payload")).with("package", facts.package.as_str()).with("toolchain", toolchain);
    // What is not installed before it is built, and what an initramfs takes its programs from, is known by the builder alone.
    if facts.distribution || recipe.config.dracut.is_some() {
        inputs.with("contents", facts.contents.as_str()).with("parent", &builder.key)
    } else {
        inputs.with("contents", facts.contents.as_str())
    }
}

/// What the script does, as whoever reads of its failure knows it.
fn words(arguments: &[&str]) -> String {
    match arguments.first() {
        Some(&"configure") => "make olddefconfig".to_owned(),
        Some(&"compile") => "make all".to_owned(),
        Some(&"install_built") => "make modules_install".to_owned(),
        Some(&"initramfs") => "dracut".to_owned(),
        _ => format!("{} {}", crate::recipe::kernel::SCRIPT_NAME, arguments.join(" ")),
    }
}

fn devel_key(payload: &str) -> String {
    Inputs::new("kernel headers").with("parent", payload).key()
}
