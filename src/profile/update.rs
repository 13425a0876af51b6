//! `profile update`: updates the existing builder to the configuration and trees of now.
//!
//! ```text
//! bootstrap    stage3 ---------------- emerge --emptytree @world, packages ------------> builder    key K(stage3, configuration, trees, …)
//! update       builder as it is ------ emerge --update --deep --newuse @world; what is stale; packages -> builder    the same key
//! ```
//!
//! **The key is that of a bootstrap** from the same stage3 with the same inputs: an updated builder counts as the builder of those
//! inputs. So everything that looks for one (`freshroot` by name; `stage build`, `bootstrap` and questions to Portage by key) finds it,
//! and a repeated `bootstrap` does not build a second one. Therefore an update has to do what a bootstrap would do:
//!
//! - files that the configuration does not have any more are removed from `/etc/portage`, and the stage3's own file comes back;
//! - packages that the definition does not list any more leave the world file (and the root, with `--depclean`);
//! - what was made from something else than it would be made from now is built again (`recipe::update::stale`): Portage compares neither compiler flags nor
//!   `package.env`, and not the text of an ebuild; global compiler flags have all of world built again, also what has no package key;
//! - hooks and scripts run again, since a rebuilt package may have overwritten their changes. So they must be repeatable.
//!
//! The updated state lies on top of the one before, which stays as `NAME@{1}`.

use serde::Serialize;

use crate::config::{BUILDER, ConfigDir};
use crate::context::Context;
use crate::inventory::{PackageChange, changes, packages_of};
use crate::names::profiles;
use crate::names::refs::{profile_lock, ref_name};
use crate::profile::{Error, Result, show};
use crate::recipe::definition;
use crate::recipe::pretend::Pretended;
use crate::recipe::realise::realise;
use crate::recipe::update::UpdateRecipe;
use crate::recipe::update::pretend::update_lists;
use crate::store::{State, StateId};
use crate::{context, resolve};

/// What to update.
#[derive(Debug, Clone, Default)]
pub(crate) struct UpdateOptions {
    /// The profile; `None` for the default one.
    pub profile: Option<String>,
    /// Remove packages that nothing needs.
    pub depclean: bool,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct UpdatedProfile {
    pub profile: String,
    /// The builder's state.
    pub state: StateId,
    /// The one before; `None` when nothing has changed.
    pub previous: Option<StateId>,
    /// Whether the state was there already, and nothing was built.
    pub reused: bool,
    /// Packages with patches, and what became of these; see [`PatchedPackage`](crate::recipe::patches::applied::PatchedPackage). Null where there are none.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    #[cfg_attr(test, schemars(with = "Option<Vec<crate::recipe::patches::applied::PatchedPackage>>"))]
    pub patched: serde_json::Value,
    /// What its packages have said, unread news, and configuration files that wait for a decision; null where there is nothing of it.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    #[cfg_attr(test, schemars(with = "Option<crate::portage::messages::Messages>"))]
    pub messages: serde_json::Value,
    /// What has changed in the list of packages, by name.
    pub packages: Vec<PackageChange>,
}

/// What an update would merge, by emerge's own list. Nothing is built or written.
pub(crate) fn profile_update_pretend(
    cx: &Context<'_>,
    config: &ConfigDir,
    options: &UpdateOptions,
    color: bool,
) -> Result<Pretended> {
    let _shared = context::share_store(cx)?;
    let (profile, base, upstream) = present(cx, options)?;
    let recipe = definition::recipe(cx, config, &profile, BUILDER, &upstream)?.after_first();
    let pretended =
        Pretended { target: profile.clone(), profile: profile.clone(), up_to_date: None, besides: Vec::new(), lists: Vec::new() };
    if !options.depclean && recipe.inputs(&upstream).key() == base.key {
        return Ok(Pretended { up_to_date: Some(base.id.to_string()), ..pretended });
    }
    let update = UpdateRecipe::of(cx, config, &profile, &recipe, [&base, &upstream], options.depclean)?;
    Ok(Pretended { lists: update_lists(cx, &update, color)?, ..pretended })
}

/// The profile with its builder and its stage3.
fn present(cx: &Context<'_>, options: &UpdateOptions) -> Result<(String, State, State)> {
    show::present_only(options.profile.as_deref())?;
    let profile = profiles::profile_or_default(cx, options.profile.as_deref())?;
    if cx.store.ref_get(&ref_name(&profile, BUILDER))?.is_none() {
        return Err(Error::NoBuilder { profile });
    }
    let base = profiles::profile_state(cx, &profile, 0)?;
    let upstream = profiles::upstream(cx, &profile)?;
    if profiles::root_of(cx, &base)?.id != upstream.id {
        return Err(Error::OtherStage3 { profile });
    }
    Ok((profile, base, upstream))
}

/// Brings a profile's builder up to date. Its name moves only when that has succeeded.
pub(crate) fn profile_update(cx: &Context<'_>, config: &ConfigDir, options: &UpdateOptions) -> Result<UpdatedProfile> {
    let _shared = context::share_store(cx)?;
    show::present_only(options.profile.as_deref())?;
    let profile = profiles::profile_or_default(cx, options.profile.as_deref())?;
    let _lock = context::lock(cx, &profile_lock(&profile))?;
    let (profile, base, upstream) = present(cx, options)?;
    let recipe = definition::recipe(cx, config, &profile, BUILDER, &upstream)?.after_first();
    if !options.depclean && recipe.inputs(&upstream).key() == base.key {
        let state = base.id.clone();
        let patched = serde_json::json!(base.origin.patched());
        let messages = base.origin.messages().json();
        return Ok(UpdatedProfile { profile, state, previous: None, reused: true, patched, messages, packages: Vec::new() });
    }
    let update = UpdateRecipe::of(cx, config, &profile, &recipe, [&base, &upstream], options.depclean)?;
    let built = realise(cx, &update).map_err(|error| resolve::with_proposal(cx, config, BUILDER, &profile, error))?;
    let state = built.state;
    let moved = state.id != base.id;
    let packages = if moved { changes(&update.before, &packages_of(cx, &state)?) } else { Vec::new() };
    Ok(UpdatedProfile {
        profile: profile.clone(),
        previous: moved.then(|| base.id.clone()),
        reused: built.reused,
        patched: serde_json::json!(state.origin.patched()),
        messages: state.origin.messages().json(),
        state: state.id,
        packages,
    })
}
