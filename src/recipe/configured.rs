//! A throw-away session in which a stage's configuration is in place, for questions to Portage.
//!
//! ```text
//! the definition's state is up to date       that state as it is
//! it is not, or was never built              the profile's upstream state, the configuration applied, prepare hooks run
//! ```
//!
//! Binary packages are offered as for builds if somebody asks what emerge would do ([`Configured::offer_packages`]). The session is always
//! discarded, whatever happens in it.

use crate::config::hooks::Phase;
use crate::config::{ConfigDir, PortageDir, Stage};
use crate::context;
use crate::context::Context;
use crate::names::profiles;
use crate::recipe::definition::Stage3;
use crate::recipe::{Result, definition};
use crate::session::inspect::PoolOf;
use crate::session::keys::pools;
use crate::session::keys::pools::PoolUse;
use crate::session::work::Subject;
use crate::session::{Work, hooks, work};
use crate::store::{Purpose, Session, State};

/// A root whose `/etc/portage` is as a stage3 definition makes it.
#[derive(Debug)]
pub(crate) struct Configured<'s> {
    pub(crate) work: Work<'s>,
    pub(crate) portage: PortageDir,
    /// `REPOSITORY:PATH` of the Portage profile.
    pub(crate) portage_profile: String,
    pub(crate) profile: String,
    /// What the session stands on: the definition's state, or the profile's upstream state.
    pub(crate) base: State,
    /// `base` is the definition's state, so the packages of the definition are installed.
    pub(crate) is_built: bool,
    pool_of: PoolOf,
}

impl Configured<'_> {
    /// Attaches the binary package pools. emerge's answers depend on them; those about names and versions in trees do not.
    pub(crate) fn offer_packages(&mut self, cx: &Context<'_>) -> Result<()> {
        pools::choose_pool(cx, &mut self.work, self.pool_of.clone(), PoolUse::Look, &[])?;
        Ok(())
    }
}

/// What a configuration is put on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum On<'a> {
    /// A profile; `None`: the one of the stage4 definition, else the default one.
    Profile(Option<&'a str>),
    /// A profile, and the state in which the packages of the definition are installed, if only with a configuration that does not concern them.
    State(&'a str, &'a State),
    /// A profile that may not exist yet, and its stage3.
    Upstream(&'a str, &'a State),
}

/// Runs `ask` in a throw-away session with the configuration of `stage`. `purpose` is a word for the name of the log directory, which is
/// removed unless something fails.
///
/// The profile is `profile`, else the one of the stage4 definition, else the default one.
pub(crate) fn with_configuration<R>(
    cx: &Context<'_>,
    config: &ConfigDir,
    stage: &Stage,
    profile: Option<&str>,
    purpose: &str,
    ask: impl FnOnce(&mut Configured<'_>) -> Result<R>,
) -> Result<R> {
    with_configuration_on(cx, config, stage, On::Profile(profile), purpose, ask)
}

/// The same on what the caller knows.
pub(crate) fn with_configuration_on<R>(
    cx: &Context<'_>,
    config: &ConfigDir,
    stage: &Stage,
    on: On<'_>,
    purpose: &str,
    ask: impl FnOnce(&mut Configured<'_>) -> Result<R>,
) -> Result<R> {
    let _shared = context::share_store(cx)?;
    let (profile, upstream) = match on {
        On::Upstream(profile, upstream) => (profile.to_owned(), upstream.clone()),
        On::Profile(Some(profile)) | On::State(profile, _) => {
            let profile = profiles::profile_or_default(cx, Some(profile))?;
            let upstream = profiles::upstream(cx, &profile)?;
            (profile, upstream)
        }
        On::Profile(None) => {
            let profile = profiles::profile_or_default(cx, stage.profile())?;
            let upstream = profiles::upstream(cx, &profile)?;
            (profile, upstream)
        }
    };
    let definition = &stage.stage3.name;
    let recipe = definition::recipe(cx, config, &profile, definition, &upstream)?;
    let key = recipe.inputs(&upstream).key();
    let built = match on {
        On::State(_, state) => Some(state.clone()),
        _ => cx.store.state_by_key(&key)?,
    };
    let is_built = built.is_some();
    let base = built.unwrap_or(upstream);
    let is_applied = is_built && base.key == key;
    let subject = Subject { log_name: format!("{purpose}-{profile}-{}", stage.name()), profile, definition: definition.clone() };
    let mut session = cx.store.session_create(Some(&base), Purpose::Throwaway, "")?;
    let outcome = ask_configured(cx, &mut session, base, [is_built, is_applied], recipe, &subject, ask);
    session.discard(cx.launcher)?;
    outcome
}

fn ask_configured<R>(
    cx: &Context<'_>,
    session: &mut Session,
    base: State,
    [is_built, is_applied]: [bool; 2],
    recipe: Stage3,
    subject: &Subject,
    ask: impl FnOnce(&mut Configured<'_>) -> Result<R>,
) -> Result<R> {
    let work = work::work(cx, session, &base, subject, recipe.given())?;
    if !is_applied {
        definition::apply(cx, &work, &recipe)?;
        hooks::hooks(cx, &work, &recipe.hooks, Phase::Prepare)?;
    }
    let pool_of = recipe.pool_of();
    let Stage3 { portage, portage_profile, .. } = recipe;
    let mut configured = Configured { work, portage, portage_profile, profile: subject.profile.clone(), base, is_built, pool_of };
    tracing::debug!(
        profile = configured.profile,
        base = %configured.base.id,
        built = configured.is_built,
        portage_profile = configured.portage_profile,
        files = configured.portage.files.len(),
        "the configuration is in place"
    );
    let answer = ask(&mut configured)?;
    configured.work.forget_logs();
    Ok(answer)
}
