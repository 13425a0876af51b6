//! `freshroot`: a throw-away session on the builder, and `shell`: one on any build state.
//!
//! It starts in a fraction of a second, sees the binary packages of the release pool and of a pool for throw-away sessions, and
//! what is built in it lands in the latter, which releases never read unless the user promotes it.

use std::fs;
use std::path::PathBuf;

use super::definition::{BUILDER, ref_name};
use super::engine::{Engine, Work};
use super::error::{Error, Result};
use super::keys::{PoolUse, packages_of};
use super::session::{Run, UserBind};
use super::work::{Given, Subject};
use crate::portage::binpkgs::{PoolInputs, PoolKind};
use crate::progress::Event;
use crate::sandbox::Exit;
use crate::sandbox::plan::{Network, Plan};
use crate::store::{NewState, Purpose, Session, State};

/// The best login shell that a root has.
const ANY_SHELL: &str = "command -v bash >/dev/null && exec bash -l; exec sh -l";

/// Said aloud: a session is safe to be with because nothing in it reaches anybody.
const NETWORK_WARNING: &str =
    "the session has the host's network: what runs in it reaches all that you reach, also on this machine";

/// What to run and where.
#[derive(Debug, Clone)]
pub struct FreshrootOptions {
    /// The profile, or an earlier state of it, `NAME@{N}`; `None` for the default one.
    pub profile: Option<String>,
    /// Start from this kept state instead of the builder.
    pub from: Option<String>,
    /// Start from this build state instead, whatever [`Engine::named`] knows it by.
    pub state: Option<String>,
    /// Keep the result under this name.
    pub keep: Option<String>,
    /// Directories of the host's to show.
    pub binds: Vec<UserBind>,
    /// Whether it has the host's network; what emerge wants to download comes without one.
    pub network: Network,
    /// Publish what was built into the release pool.
    pub promote: bool,
    /// The command; a login shell if empty.
    pub command: Vec<String>,
    /// Whether standard input and output are a terminal.
    pub terminal: bool,
}

/// How it ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// As the command did.
    pub exit: Exit,
    /// The state that was kept.
    pub kept: Option<State>,
    /// Binary packages that were published.
    pub published: usize,
}

impl Engine<'_> {
    /// The plan that [`Engine::freshroot`] would execute, without doing anything but making an empty session for a moment.
    pub fn freshroot_plan(&self, options: &FreshrootOptions) -> Result<Plan> {
        let _shared = self.share_store()?;
        let (profile, base) = self.freshroot_base(options)?;
        let mut session = self.store.session_create(Some(&base), Purpose::Throwaway, "")?;
        let plan = self
            .freshroot_work(&mut session, &profile, &base, options, false)
            .map(|(work, _)| work.root.plan(&self.freshroot_run(&work, options)));
        session.discard(self.launcher)?;
        plan
    }

    /// Runs a command, or a shell, in a throw-away session.
    pub fn freshroot(&self, options: &FreshrootOptions) -> Result<Ended> {
        let _shared = self.share_store()?;
        if let Some(name) = &options.keep
            && self.store.ref_get(&kept_ref(name))?.is_some()
        {
            return Err(Error::KeptExists { name: name.clone() });
        }
        let (profile, base) = self.freshroot_base(options)?;
        let mut session = self.store.session_create(Some(&base), Purpose::Throwaway, "")?;
        let outcome = self.freshroot_in(&mut session, &profile, &base, options);
        match (outcome, &options.keep) {
            (Ok((exit, published)), Some(name)) => {
                let origin = serde_json::json!({
                    "kind": "kept session",
                    "name": name,
                    "profile": profile,
                    "command": options.command,
                    "parent": made_from(&base.origin),
                    "isolation": crate::host::rung(),
                    "network": options.network.to_string(),
                });
                // A kept session is no function of its inputs: its key is its own.
                let key = format!("kept:{}", session.id());
                let newest_input = base.newest_input;
                let state = session.commit(NewState { key, origin, newest_input, parent: Some(base.id.clone()) })?;
                self.store.ref_set(&kept_ref(name), &state.id)?;
                Ok(Ended { exit, kept: Some(state), published })
            }
            (Ok((exit, published)), None) => {
                session.discard(self.launcher)?;
                Ok(Ended { exit, kept: None, published })
            }
            (Err(error), _) => {
                session.discard(self.launcher)?;
                Err(error)
            }
        }
    }

    fn freshroot_base(&self, options: &FreshrootOptions) -> Result<(String, State)> {
        if let Some(text) = &options.state {
            let state = self.named(text)?.state;
            let profile = state.origin["profile"].as_str().unwrap_or_default().to_owned();
            return Ok((profile, state));
        }
        if let Some(name) = &options.from {
            let Some(id) = self.store.ref_get(&kept_ref(name))? else {
                let refs = self.store.refs()?;
                let known = refs.iter().filter_map(|(name, _)| name.strip_prefix("kept/").map(str::to_owned)).collect();
                return Err(Error::NoKept { name: name.clone(), known });
            };
            let state = self.store.state(&id)?;
            let profile = state.origin["profile"].as_str().unwrap_or_default().to_owned();
            return Ok((profile, state));
        }
        let (profile, index) = self.profile_and_index(options.profile.as_deref())?;
        if self.store.ref_get(&ref_name(&profile, BUILDER))?.is_none() {
            self.note(&format!("profile `{profile}` has no builder yet: starting from its stage3"));
        }
        let state = self.profile_state(&profile, index)?;
        Ok((profile, state))
    }

    fn freshroot_work<'s>(
        &self,
        session: &'s mut Session,
        profile: &str,
        base: &State,
        options: &FreshrootOptions,
        runs: bool,
    ) -> Result<(Work<'s>, Subject)> {
        let log_name = if options.state.is_some() { "shell".to_owned() } else { format!("freshroot-{profile}") };
        let subject = Subject { log_name, profile: profile.to_owned(), definition: String::new() };
        let mut work = self.work(session, base, &subject, Given { binds: options.binds.clone(), ..Given::default() })?;
        if runs {
            self.attach_throwaway_pools(&mut work, base)?;
        } else if let Some(pools) = self.throwaway_pools(base)? {
            self.attach(&mut work, &pools, PoolUse::Look)?;
        }
        Ok((work, subject))
    }

    /// Shows a session the binary packages that fit its base: those of throw-away sessions, and those that were released.
    pub(super) fn attach_throwaway_pools(&self, work: &mut Work<'_>, base: &State) -> Result<()> {
        let Some(pools) = self.throwaway_pools(base)? else { return Ok(()) };
        self.learn_as_before(work, base, &packages_of(&pools)?)?;
        self.attach(work, &pools, PoolUse::Look)
    }

    /// The same for a session that has another configuration than its base.
    pub(super) fn show_throwaway_pools(&self, work: &mut Work<'_>, base: &State) -> Result<()> {
        let Some(pools) = self.throwaway_pools(base)? else { return Ok(()) };
        self.show_pools(work, &pools, PoolUse::Publish)
    }

    fn throwaway_pools(&self, base: &State) -> Result<Option<[PathBuf; 2]>> {
        let Some(inputs) = pool_of(base) else { return Ok(None) };
        Ok(Some([self.pool(PoolKind::Throwaway, &inputs)?, self.pool(PoolKind::Release, &inputs)?]))
    }

    fn freshroot_run(&self, work: &Work<'_>, options: &FreshrootOptions) -> Run {
        let argv: Vec<String> = match (options.command.as_slice(), &options.state) {
            ([], None) => ["/bin/bash", "-l"].map(str::to_owned).into(),
            // A finished image need not have bash.
            ([], Some(_)) => ["/bin/sh", "-c", ANY_SHELL].map(str::to_owned).into(),
            (command, _) => command.to_vec(),
        };
        let mut env = work.env.clone();
        if let (true, Some(term)) = (options.terminal, &self.settings.term) {
            env.push(("TERM".to_owned(), term.clone()));
        }
        if !options.terminal {
            // Portage colours what its build helpers print, also into a pipe.
            env.push(("NO_COLOR".to_owned(), "1".to_owned()));
        }
        Run { argv, env, network: options.network, terminal: options.terminal, hostname: work.hostname.clone(), shown: None }
    }

    fn freshroot_in(
        &self,
        session: &mut Session,
        profile: &str,
        base: &State,
        options: &FreshrootOptions,
    ) -> Result<(Exit, usize)> {
        let (mut work, subject) = self.freshroot_work(session, profile, base, options, true)?;
        if options.network == Network::Host {
            self.observer.event(&Event::Warning(NETWORK_WARNING));
        }
        if work.root.binhost.is_some() && !self.settings.download.offline {
            self.make_keyring(&work)?;
            let log = work.log_dir.join("commands.log");
            fs::remove_file(&log).map_err(Error::io("remove", &log))?;
        }
        let run = self.freshroot_run(&work, options);
        let exit = self.attend(&work, &run)?;
        if self.interrupt.count() > 0 && options.keep.is_none() && !options.terminal {
            return Err(Error::Interrupted { resumable: false });
        }
        let kind = if options.promote { PoolKind::Release } else { PoolKind::Throwaway };
        let published = self.publish_by_hand(&mut work, &subject, base, kind)?;
        if options.keep.is_some() {
            self.tidy(&work)?;
        }
        Ok((exit, published))
    }

    /// Publishes what somebody built by hand, as what the configuration of its base makes of it; says how many packages that were.
    fn publish_by_hand(&self, work: &mut Work<'_>, subject: &Subject, base: &State, kind: PoolKind) -> Result<usize> {
        let (Some(packages), Some(inputs)) = (&work.root.packages, pool_of(base)) else { return Ok(0) };
        let built = packages_of(std::slice::from_ref(&packages.own))?;
        if built.is_empty() {
            return Ok(0);
        }
        if work.root.has_own_configuration() {
            self.note("packages built with another /etc/portage than that of the state are not kept for later");
            return Ok(0);
        }
        self.learn_beside(work, subject, base, &built)?;
        let pool = self.pool(kind, &inputs)?;
        let count = self.publish_last(work, pool)?;
        if count > 0 {
            self.tell_published(work, &inputs);
        }
        Ok(count)
    }
}

/// What the pool of a state, or of the state that a kept one was made from, is keyed by. An imported stage3 has none yet.
fn pool_of(state: &State) -> Option<PoolInputs> {
    serde_json::from_value(made_from(&state.origin)["pool"].clone()).ok()
}

/// The origin of the state below all kept sessions. A kept session on a kept session says only this of what is below it: an origin that grew
/// with each one could not be read any more after some 120, and the ids of the states between are in `State::parent`.
fn made_from(mut origin: &serde_json::Value) -> &serde_json::Value {
    while origin["kind"] == "kept session" {
        origin = &origin["parent"];
    }
    origin
}

fn kept_ref(name: &str) -> String {
    format!("kept/{name}")
}
