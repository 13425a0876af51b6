//! `freshroot`: a throw-away session on the builder, and `shell`: one on any build state.
//!
//! A session starts in a fraction of a second. It sees the binary packages of the release pool and of the pool for throw-away sessions.
//! What is built in it is published to the second one, which releases never read unless the user promotes it.

use std::fs;

use crate::causes::{by_way_of, lifted};
use crate::config::BUILDER;
use crate::context::Context;
use crate::names::refs::{kept_ref, ref_name};
use crate::names::{named, profiles};
use crate::origin::{Kept, Origin};
use crate::path_error::OfFile as _;
use crate::portage::binpkgs::PoolKind;
use crate::progress::Event;
use crate::sandbox::Exit;
use crate::sandbox::plan::{Network, Plan};
use crate::session::keys::pools::{PoolUse, packages_of};
use crate::session::keys::throwaway::{attach_throwaway_pools, pool_of, throwaway_pools};
use crate::session::keys::{learn, pools};
use crate::session::root::{Run, UserBind};
use crate::session::work::{Given, Subject};
use crate::session::{Work, keyring, run, tidy, work};
use crate::store::{Lock, NewState, Purpose, Session, State};
use crate::{beneath, config, context, names, origin, sandbox, session, store};

/// Why a session is not opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store, the sandbox, files of ours; or the user has ended it.
    #[error(transparent)]
    Context(#[from] context::Error),
    #[error(transparent)]
    Config(#[from] config::Error),
    /// Names of states and profiles.
    #[error(transparent)]
    Names(names::Error),
    #[error(transparent)]
    Session(session::Error),
    /// A kept session's name is taken.
    #[error("`{name}` is already kept")]
    KeptExists { name: String },
    /// There is no kept state of this name.
    #[error("nothing is kept as `{name}`")]
    NoKept { name: String, known: Vec<String> },
}

/// What functions of this room return.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

by_way_of!(Error::Context: store::Error, sandbox::Error, crate::path_error::PathError, beneath::Error, crate::threads::NoThread);
lifted!(Error::Names: names { Context });
lifted!(Error::Session: session { Context, Config });

/// Starts bash as a login shell, else sh: an exported image need not have bash.
const ANY_SHELL: &str = "command -v bash >/dev/null && exec bash -l; exec sh -l";

/// Printed whenever it is given: without a network a session is safe since nothing in it reaches anybody.
const NETWORK_WARNING: &str =
    "the session has the host's network: programs in it can connect to everything that you can, also on this machine";

/// What to run and where.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent answers to independent questions")]
pub struct FreshrootOptions {
    /// The profile, or an earlier state of it, `NAME@{N}`; `None` for the default one.
    pub profile: Option<String>,
    /// Start from this kept state instead of the builder.
    pub from: Option<String>,
    /// Start from this build state instead, by any name that `store show` takes.
    pub state: Option<String>,
    /// Keep the result under this name, if the command succeeds. A shell has no result, so what was done in it is kept.
    pub keep: Option<String>,
    /// Keep it even if the command fails.
    pub keep_failed: bool,
    /// Keep it even if there is a state of this name, which `NAME@{1}` then stands for.
    pub replace: bool,
    /// Directories of the host to show inside.
    pub binds: Vec<UserBind>,
    /// Whether it has the host's network. emerge's downloads do not need it: we fetch them outside.
    pub network: Network,
    /// Publish what was built into the release pool.
    pub promote: bool,
    /// The command; a login shell if empty.
    pub command: Vec<String>,
    /// Whether standard input and output are a terminal.
    pub terminal: bool,
}

impl FreshrootOptions {
    /// Whether what a command leaves is to be kept. The status of a shell is that of its last command, which says nothing.
    fn keeps(&self, exit: Exit) -> bool {
        self.keep_failed || self.command.is_empty() || exit == Exit::Code(0)
    }
}

/// How a session ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The exit status of the command.
    pub exit: Exit,
    /// The state that was kept.
    pub kept: Option<State>,
    /// Binary packages that were published.
    pub published: usize,
}

/// What [`freshroot`] would do. Nothing is run; an empty session exists for a moment.
pub(crate) fn freshroot_plan(cx: &Context<'_>, options: &FreshrootOptions) -> Result<Plan> {
    let _shared = context::share_store(cx)?;
    let (profile, base) = freshroot_base(cx, options)?;
    let mut session = cx.store.session_create(Some(&base), Purpose::Throwaway, "")?;
    let plan = freshroot_work(cx, &mut session, &profile, &base, options, false)
        .map(|(work, _)| work.root.plan(&freshroot_run(cx, &work, options)));
    session.discard(cx.launcher)?;
    plan
}

/// Runs a command, or a shell, in a throw-away session.
pub fn freshroot(cx: &Context<'_>, options: &FreshrootOptions) -> Result<Ended> {
    let _shared = context::share_store(cx)?;
    // Until the end, so that of two sessions that keep the same name the second one is told before it does its work.
    let _keeping = keeping(cx, options)?;
    let (profile, base) = freshroot_base(cx, options)?;
    if options.keep.is_some() {
        base.check_room()?;
    }
    let mut session = cx.store.session_create(Some(&base), Purpose::Throwaway, "")?;
    let outcome = freshroot_in(cx, &mut session, &profile, &base, options);
    match (outcome, &options.keep) {
        (Ok((exit, published)), Some(name)) if options.keeps(exit) => {
            let origin = Origin::Kept(Kept {
                name: name.clone(),
                profile,
                command: options.command.clone(),
                parent: Some(base.origin.made_from().clone()),
                isolation: cx.launcher.isolation().to_string(),
                network: Some(origin::Network::Word(options.network.to_string())),
                ..Kept::default()
            });
            // A kept session cannot be rebuilt from inputs, so its key is its id.
            let key = format!("kept:{}", session.id());
            let newest_input = base.newest_input;
            let state = session.commit(NewState { key, origin: origin.into(), newest_input, parent: Some(base.id.clone()) })?;
            cx.store.ref_set(&kept_ref(name), &state.id)?;
            Ok(Ended { exit, kept: Some(state), published })
        }
        (Ok((exit, published)), _) => {
            session.discard(cx.launcher)?;
            Ok(Ended { exit, kept: None, published })
        }
        (Err(error), _) => {
            session.discard(cx.launcher)?;
            Err(error)
        }
    }
}

/// The lock on the name that is to be kept. It is not taken for a name that is there and must stay.
fn keeping(cx: &Context<'_>, options: &FreshrootOptions) -> Result<Option<Lock>> {
    let Some(name) = &options.keep else { return Ok(None) };
    let is_free = || match cx.store.ref_get(&kept_ref(name))? {
        Some(_) if !options.replace => Err(Error::KeptExists { name: name.clone() }),
        _ => Ok(()),
    };
    is_free()?;
    let lock = context::lock(cx, &kept_ref(name))?;
    is_free()?;
    Ok(Some(lock))
}

fn freshroot_base(cx: &Context<'_>, options: &FreshrootOptions) -> Result<(String, State)> {
    if let Some(text) = &options.state {
        let state = named::named(cx, text)?.state;
        let profile = state.origin.profile().unwrap_or_default().to_owned();
        return Ok((profile, state));
    }
    if let Some(name) = &options.from {
        let Some(id) = cx.store.ref_get(&kept_ref(name))? else {
            let refs = cx.store.refs()?;
            let known = refs.iter().filter_map(|(name, _)| name.strip_prefix("kept/").map(str::to_owned)).collect();
            return Err(Error::NoKept { name: name.clone(), known });
        };
        let state = cx.store.state(&id)?;
        let profile = state.origin.profile().unwrap_or_default().to_owned();
        return Ok((profile, state));
    }
    let (profile, index) = profiles::profile_and_index(cx, options.profile.as_deref())?;
    if cx.store.ref_get(&ref_name(&profile, BUILDER))?.is_none() {
        cx.observer.note(&format!("profile `{profile}` has no builder yet: starting from its stage3"));
    }
    let state = profiles::profile_state(cx, &profile, index)?;
    Ok((profile, state))
}

fn freshroot_work<'s>(
    cx: &Context<'_>,
    session: &'s mut Session,
    profile: &str,
    base: &State,
    options: &FreshrootOptions,
    runs: bool,
) -> Result<(Work<'s>, Subject)> {
    let log_name = if options.state.is_some() { "shell".to_owned() } else { format!("freshroot-{profile}") };
    let subject = Subject { log_name, profile: profile.to_owned(), definition: String::new() };
    let mut work = work::work(cx, session, base, &subject, Given { binds: options.binds.clone(), ..Given::default() })?;
    if runs {
        attach_throwaway_pools(cx, &mut work, base)?;
    } else if let Some(pools) = throwaway_pools(cx, base)? {
        pools::attach(cx, &mut work, &pools, PoolUse::Look)?;
    }
    Ok((work, subject))
}

fn freshroot_run(cx: &Context<'_>, work: &Work<'_>, options: &FreshrootOptions) -> Run {
    let argv: Vec<String> = match (options.command.as_slice(), &options.state) {
        ([], None) => ["/bin/bash", "-l"].map(str::to_owned).into(),
        // An exported image need not have bash.
        ([], Some(_)) => ["/bin/sh", "-c", ANY_SHELL].map(str::to_owned).into(),
        (command, _) => command.to_vec(),
    };
    let mut env = work.env.clone();
    if let (true, Some(term)) = (options.terminal, &cx.settings.term) {
        env.push(("TERM".to_owned(), term.clone()));
    }
    if !options.terminal {
        // Portage also colours what its build helpers print into a pipe.
        env.push(("NO_COLOR".to_owned(), "1".to_owned()));
    }
    Run {
        argv,
        env,
        network: options.network,
        terminal: options.terminal,
        hostname: work.hostname.clone(),
        shown: None,
        in_memory: None,
    }
}

fn freshroot_in(
    cx: &Context<'_>,
    session: &mut Session,
    profile: &str,
    base: &State,
    options: &FreshrootOptions,
) -> Result<(Exit, usize)> {
    let (mut work, subject) = freshroot_work(cx, session, profile, base, options, true)?;
    if options.network == Network::Host {
        cx.observer.event(&Event::Warning(NETWORK_WARNING));
    }
    if work.root.binhost.is_some() && !cx.settings.download.offline {
        keyring::make_keyring(cx, &work)?;
        let log = work.log_dir.join("commands.log");
        fs::remove_file(&log).map_err(Error::io("remove", &log))?;
    }
    let run = freshroot_run(cx, &work, options);
    let exit = run::attend(cx, &work, &run)?;
    if cx.interrupt.count() > 0 && options.keep.is_none() && !options.terminal {
        return Err(context::Error::Interrupted { resumable: false }.into());
    }
    let kind = if options.promote { PoolKind::Release } else { PoolKind::Throwaway };
    let published = publish_by_hand(cx, &mut work, &subject, base, kind)?;
    if options.keep.is_some() && options.keeps(exit) {
        tidy::tidy(cx, &work)?;
    }
    Ok((exit, published))
}

/// Publishes packages that were built by hand as packages of the base's configuration; returns how many.
fn publish_by_hand(cx: &Context<'_>, work: &mut Work<'_>, subject: &Subject, base: &State, kind: PoolKind) -> Result<usize> {
    let (Some(packages), Some(inputs)) = (&work.root.packages, pool_of(base)) else { return Ok(0) };
    let built = packages_of(std::slice::from_ref(&packages.own))?;
    if built.is_empty() {
        return Ok(0);
    }
    if work.root.has_own_configuration() {
        cx.observer.note("packages that were built with a changed /etc/portage are not kept for later");
        return Ok(0);
    }
    crate::threads::pool()?;
    learn::learn_beside(cx, work, subject, base, &built)?;
    let pool = pools::pool(cx, kind, &inputs)?;
    let count = pools::publish_last(cx, work, pool)?;
    if count > 0 {
        pools::tell_published(cx, work, &inputs);
    }
    Ok(count)
}
