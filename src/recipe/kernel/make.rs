//! Makes a kernel's payload. It is compiled in a session on the sources that is thrown away; what is kept is written into layers of its
//! own.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::build_key::Inputs;
use crate::build_times::{self, Build};
use crate::config::ConfigDir;
use crate::config::kconfig::{SymbolChange, Symbols};
use crate::context::Context;
use crate::jobserver::PIPE_INSIDE;
use crate::names::refs::{kernel_lock, kernel_ref};
use crate::portage::emerge::request::{Existing, Goal, Mode, Request};
use crate::progress::{Event, Unit};
use crate::recipe::definition::subject_of;
use crate::recipe::kernel::error::KernelError;
use crate::recipe::kernel::sources::{SourcesFacts, WantedSources};
use crate::recipe::kernel::{Kernel, give, given, script, sources};
use crate::recipe::realise::{Built, InSession, Recipe, in_session, realise, under_another_key};
use crate::recipe::{Result, kernel, merge};
use crate::sandbox::Exit;
use crate::sandbox::plan::Network;
use crate::session;
use crate::session::inspect::PoolOf;
use crate::session::keys::pools;
use crate::session::keys::pools::PoolUse;
use crate::session::root::UserBind;
use crate::session::work::{Given, StepsDone, Subject};
use crate::session::{Work, ccache, run, work};
use crate::store::{NewState, Purpose, Session, State};

/// Where the session sees the layers that it fills.
const PAYLOAD: &str = "/run/gentoomuch/payload";
const DEVEL: &str = "/run/gentoomuch/devel";
/// Names of the files that the session gets.
const KCONF: &str = "kconf";
const DRACUT: &str = "dracut";
/// The script's exit code if there is no dracut.
const NO_DRACUT: i32 = 90;
/// How many symbols with another value are reported one by one.
const MOST_UNMET: usize = 12;

struct Compiled {
    release: String,
    unmet: Vec<SymbolChange>,
    got: Symbols,
}

/// A kernel on the builder of a profile. A pipeline must know its key before anything is built.
pub(crate) struct KernelRecipe<'a> {
    pub(crate) config: &'a ConfigDir,
    pub(crate) profile: &'a str,
    pub(crate) kernel: &'a Kernel,
    pub(crate) builder: &'a State,
}

impl Recipe for KernelRecipe<'_> {
    fn name(&self) -> Option<String> {
        Some(kernel_ref(self.profile, &self.kernel.config.label()))
    }

    fn lock(&self) -> String {
        kernel_lock(self.profile, &self.kernel.config.label())
    }

    fn words(&self) -> String {
        kernel_words(self.profile, &self.kernel.config.label())
    }

    fn inputs(&self) -> Inputs {
        self.kernel.inputs(&self.builder.key)
    }

    fn make(&self, cx: &Context<'_>) -> Result<Built> {
        let Self { config, profile, kernel, builder } = *self;
        let label = kernel.config.label();
        let wanted = WantedSources { atom: &kernel.config.sources, at: kernel.config.sources_at.clone(), trees: &kernel.trees };
        let (sources, facts) = sources::kernel_sources(cx, config, &wanted, profile, builder)?;
        let content = content(kernel, &sources, &facts, builder);
        let payload = PayloadRecipe { config, recipe: kernel, profile, sources: &sources, facts: &facts, content: &content };
        let made = realise(cx, &payload)?;
        if made.reused {
            cx.observer
                .note(&format!("{label} on {profile} is reused: its sources, configuration and toolchain are the same as before"));
        }
        let mut origin = made.state.origin.json().clone();
        origin["name"] = serde_json::json!(label);
        origin["profile"] = serde_json::json!(profile);
        under_another_key(cx, &made.state, &self.inputs(), origin)
    }
}

/// A compiled kernel, by what decides its contents. Several kernels may have the same one.
struct PayloadRecipe<'a> {
    config: &'a ConfigDir,
    recipe: &'a Kernel,
    profile: &'a str,
    sources: &'a State,
    facts: &'a SourcesFacts,
    content: &'a Inputs,
}

impl Recipe for PayloadRecipe<'_> {
    fn name(&self) -> Option<String> {
        None
    }

    fn lock(&self) -> String {
        format!("kernel-payload/{}", &self.content.key()[..16])
    }

    fn words(&self) -> String {
        kernel_words(self.profile, &self.recipe.config.label())
    }

    fn inputs(&self) -> Inputs {
        self.content.clone()
    }

    fn make(&self, cx: &Context<'_>) -> Result<Built> {
        in_session(cx, self)
    }
}

impl InSession for PayloadRecipe<'_> {
    /// The layers are written before the session ends. If that fails, what was compiled is not lost.
    type Filled = State;

    fn base(&self, _cx: &Context<'_>) -> Result<Option<State>> {
        Ok(Some(self.sources.clone()))
    }

    fn purpose(&self) -> Purpose {
        Purpose::Kernel
    }

    fn subject(&self) -> Option<String> {
        Some(subject_of(self.config, &kernel_ref(self.profile, &self.recipe.config.label())))
    }

    fn step(&self, resumed: bool) -> String {
        format!("{} {} from {}", if resumed { "resuming" } else { "building" }, self.words(), self.facts.package)
    }

    fn fill(&self, cx: &Context<'_>, session: &mut Session, _base: Option<&State>) -> Result<State> {
        fill_kernel(cx, session, self)
    }

    fn origin(&self, _base: Option<&State>, filled: &State) -> serde_json::Value {
        filled.origin.json().clone()
    }

    fn newest_input(&self, _base: Option<&State>, filled: &State) -> i64 {
        filled.newest_input
    }

    fn keep(&self, cx: &Context<'_>, session: Session, _base: Option<&State>, filled: State) -> Result<State> {
        session.discard(cx.launcher)?;
        Ok(filled)
    }
}

/// A kernel in words for users.
pub(crate) fn kernel_words(profile: &str, label: &str) -> String {
    format!("kernel {label} on {profile}")
}

fn fill_kernel(cx: &Context<'_>, session: &mut Session, task: &PayloadRecipe<'_>) -> Result<State> {
    let PayloadRecipe { recipe, profile, sources, facts, .. } = task;
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
    let pool = pools::choose_pool(cx, &mut work, PoolOf::recorded(&sources.origin), PoolUse::Publish, &[])?;
    if recipe.config.dracut.is_some() {
        match in_kernel(cx, &work, &["need_dracut"]) {
            Err(session::Error::Command { exit: Exit::Code(NO_DRACUT), .. }) => {
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
            let environment = ccache::environment(&work, &facts.package_name());
            let compiled = compile(cx, &work, environment, task);
            ccache::end(cx, &work);
            compiled
        })?;
    }
    let kernel = kernel_made(cx, &work, task, true)?;
    if facts.distribution {
        warn_of_unmet(cx, &kernel.unmet);
    }
    pools::tell_published(cx, &work, &pool);
    let state = keep_kernel(cx, &mut work, task, &kernel)?;
    ccache::publish(cx, &work, &BTreeSet::from([facts.package_name()]));
    ccache::end(cx, &work);
    Ok(state)
}

/// Compiles the kernel. How much it has to say is known from the last time.
fn compile(cx: &Context<'_>, work: &Work<'_>, environment: Vec<String>, task: &PayloadRecipe<'_>) -> session::Result<()> {
    let name = format!("{}/{}", task.profile, task.recipe.config.label());
    let total = build_times::estimates(cx).work(build_times::Kind::Kernel, &name);
    cx.observer.event(&Event::Begin { what: "compiling", total, unit: Unit::Things("lines") });
    let (begun, mut said) = (Instant::now(), 0);
    let compiled = in_kernel_with(cx, work, environment, &["compile", &task.facts.tree], &mut |lines| {
        if lines > said {
            cx.observer.event(&Event::Advance(lines - said));
            said = lines;
        }
    });
    cx.observer.event(&Event::End);
    compiled?;
    let version = task.facts.version();
    let build = Build::new(build_times::Kind::Kernel, &name, &version, begun.elapsed().as_secs_f64().round());
    #[expect(clippy::cast_precision_loss, reason = "there is no kernel with that many lines")]
    build_times::add(cx, vec![build.with_work(said as f64)]);
    Ok(())
}

/// Warns of options that the configuration asks for and these sources do not give.
fn warn_of_unmet(cx: &Context<'_>, unmet: &[SymbolChange]) {
    for change in unmet.iter().take(MOST_UNMET) {
        let got = change.after.as_deref().unwrap_or("no such option");
        let asked = change.before.as_deref().unwrap_or_default();
        cx.observer.event(&Event::Warning(&format!("CONFIG_{}: asked for {asked}, got {got}", change.symbol)));
    }
    if unmet.len() > MOST_UNMET {
        let more = unmet.len() - MOST_UNMET;
        cx.observer.event(&Event::Warning(&format!("and {more} more options that have another value than you asked for")));
    }
}

/// A distribution kernel. Its ebuild configures and builds it.
fn emerge_kernel(cx: &Context<'_>, work: &Work<'_>, steps: &mut StepsDone, facts: &SourcesFacts, resumed: bool) -> Result<()> {
    steps.once("accept", || in_kernel(cx, work, &["accept", &facts.package, &given(KCONF)]))?;
    let goal = Goal::Packages { atoms: vec![format!("={}", facts.package)], existing: Existing::Rebuild, oneshot: true };
    let name = facts.package_name();
    // A binary package does not say with which configuration it was built, so none is used or made.
    let request = Request { usepkg_exclude: vec![name.clone()], buildpkg_exclude: vec![name], ..Request::new(goal, Mode::Run) };
    merge::emerge_request(cx, work, steps, "kernel", request, resumed, false)
}

/// Reads the resulting configuration and, if the kernel is built by now, its release.
fn kernel_made(cx: &Context<'_>, work: &Work<'_>, task: &PayloadRecipe<'_>, is_built: bool) -> Result<Compiled> {
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
        // An option that nobody can choose follows from other options, so nobody has asked for it.
        unmet.retain(|change| !followers.contains(change.symbol.as_str()));
    }
    Ok(Compiled { release, unmet, got })
}

/// Runs the script. A make in it has the session's share of jobs.
fn in_kernel(cx: &Context<'_>, work: &Work<'_>, arguments: &[&str]) -> session::Result<()> {
    in_kernel_with(cx, work, Vec::new(), arguments, &mut |_| {})
}

fn in_kernel_with(
    cx: &Context<'_>,
    work: &Work<'_>,
    environment: Vec<String>,
    arguments: &[&str],
    on_lines: &mut dyn FnMut(u64),
) -> session::Result<()> {
    let _turn = work.jobs.turn()?;
    let jobs = work.root.session_conf.make_jobs.max(1);
    let mut argv = vec!["/usr/bin/env".to_owned()];
    argv.extend(environment);
    match &work.root.session_conf.jobserver {
        // The same flags as a make gets from another make.
        Some(_) => argv.push(format!("MAKEFLAGS= -j{} --jobserver-auth=fifo:{PIPE_INSIDE}", jobs.max(2))),
        None => argv.push(format!("JOBS={jobs}")),
    }
    argv.extend(script(arguments));
    run::command_counted(cx, work, argv, Network::None, on_lines).map_err(|error| match error {
        session::Error::Command { exit, log, last_lines, .. } => {
            session::Error::Command { command: words(arguments), exit, log, last_lines }
        }
        other => other,
    })
}

/// Writes the two layers and makes states of them.
fn keep_kernel(cx: &Context<'_>, work: &mut Work<'_>, task: &PayloadRecipe<'_>, kernel: &Compiled) -> Result<State> {
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
        "isolation": cx.launcher.isolation().to_string(),
        "network": [],
    });
    let newest_input = task.sources.newest_input;
    let of_devel = serde_json::json!({ "kind": "kernel headers", "name": kernel.release, "package": facts.package });
    let new = NewState { key: devel_key(&key), origin: of_devel.into(), newest_input, parent: None };
    let devel = devel.commit_bound(new, cx.launcher);
    let devel = match devel {
        Ok(devel) => devel,
        Err(error) => {
            payload.discard(cx.launcher)?;
            return Err(error.into());
        }
    };
    Ok(payload.commit_bound(NewState { key, origin: origin.into(), newest_input, parent: Some(devel.id) }, cx.launcher)?)
}

fn write_layers(cx: &Context<'_>, work: &Work<'_>, task: &PayloadRecipe<'_>, kernel: &Compiled) -> Result<()> {
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
    Ok(in_kernel(cx, work, &["initramfs", PAYLOAD, &kernel.release, &given(DRACUT)])?)
}

/// What decides a payload: the sources as installed, the configuration, the toolchain.
fn content(recipe: &Kernel, sources: &State, facts: &SourcesFacts, builder: &State) -> Inputs {
    let pool = sources.origin.pool();
    let toolchain = pool.map_or_else(|| builder.key.clone(), |pool| format!("{} {}", pool.chost, pool.toolchain));
    let inputs =
        recipe.with_own(Inputs::new("kernel payload")).with("package", facts.package.as_str()).with("toolchain", toolchain);
    // Two things only the builder decides: what a distribution kernel needs while it is built, and the programs in an initramfs. So the
    // builder's key counts there.
    if facts.distribution || recipe.config.dracut.is_some() {
        inputs.with("contents", facts.contents.as_str()).with("parent", &builder.key)
    } else {
        inputs.with("contents", facts.contents.as_str())
    }
}

/// What the script does, in words for the user who reads that it failed.
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
