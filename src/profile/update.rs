//! `profile update`: the builder as it is, brought up to what configuration and trees ask for now.
//!
//! ```text
//! bootstrap    stage3 ---------------- emerge --emptytree @world, packages ------------> builder    key K(stage3, configuration, trees, …)
//! update       builder as it is ------ emerge --update --deep --newuse @world; what is stale; packages -> builder    the same key
//! ```
//!
//! **The key is that of a bootstrap** from the same stage3 with the same inputs: an updated builder *is* the builder of those inputs. So
//! whatever asks for one (`freshroot` by name; `stage build`, `bootstrap` and questions to Portage by key) finds it, and a repeated
//! `bootstrap` does not put an older or a second one in its place. What a bootstrap would do otherwise, an update has to do as well:
//!
//! - what the configuration brought and does not bring any more is taken out of `/etc/portage`, the stage3's own file comes back;
//! - packages that the definition does not list any more leave the world file (and the root, with `--depclean`);
//! - what was made from something else than it would be made from now is built again ([`stale`]): Portage compares neither compiler flags nor
//!   `package.env`, and not the text of an ebuild; global compiler flags have all of world built again, also what has no package key;
//! - hooks and scripts run again, since a rebuilt package may have replaced what they had changed: they have to stand that.
//!
//! The updated state lies on top of the one before, which stays as `NAME@{1}`.

use serde::Serialize;

use crate::config::{BUILDER, ConfigDir};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::inventory::{PackageChange, changes, packages_of};
use crate::names::profiles;
use crate::names::refs::{profile_lock, ref_name};
use crate::profile::show;
use crate::recipe::update::update;
use crate::recipe::{consult, definition};
use crate::store::{State, StateId};
use crate::{context, resolve};

/// What to update.
#[derive(Debug, Clone, Default)]
pub struct UpdateOptions {
    /// The profile; `None` for the default one.
    pub profile: Option<String>,
    /// Remove packages that nothing needs.
    pub depclean: bool,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct UpdatedProfile {
    /// The profile.
    pub profile: String,
    /// The builder's state.
    pub state: StateId,
    /// The one before; `None` when nothing has changed.
    pub previous: Option<StateId>,
    /// Whether the state was there already, and nothing was built.
    pub reused: bool,
    /// Packages with patches, and what became of these; see [`PatchedPackage`](crate::build::PatchedPackage). Null where there are none.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub patched: serde_json::Value,
    /// What has changed in the list of packages, by name.
    pub packages: Vec<PackageChange>,
}

/// Brings a profile's builder up to date. Its name moves only when that has succeeded.
pub fn profile_update(cx: &Context<'_>, config: &ConfigDir, options: &UpdateOptions) -> Result<UpdatedProfile> {
    let _shared = context::share_store(cx)?;
    show::present_only(options.profile.as_deref())?;
    let profile = profiles::profile_or_default(cx, options.profile.as_deref())?;
    let _lock = context::lock(cx, &profile_lock(&profile))?;
    let name = ref_name(&profile, BUILDER);
    if cx.store.ref_get(&name)?.is_none() {
        return Err(Error::NoBuilder { profile });
    }
    let base = profiles::profile_state(cx, &profile, 0)?;
    let upstream = profiles::upstream(cx, &profile)?;
    if profiles::root_of(cx, &base)?.id != upstream.id {
        return Err(Error::OtherStage3 { profile });
    }
    let recipe = definition::recipe(cx, config, BUILDER, &upstream)?;
    let inputs = recipe.inputs(&upstream, BUILDER);
    let key = inputs.key();
    let reused = |state: &State, packages| UpdatedProfile {
        profile: profile.clone(),
        state: state.id.clone(),
        previous: (state.id != base.id).then(|| base.id.clone()),
        reused: true,
        patched: state.origin["patched"].clone(),
        packages,
    };
    if !options.depclean {
        if key == base.key {
            return Ok(reused(&base, Vec::new()));
        }
        if let Some(state) = cx.store.state_by_key(&key)? {
            let packages = changes(&packages_of(cx, &base)?, &packages_of(cx, &state)?);
            cx.store.ref_set(&name, &state.id)?;
            return Ok(reused(&state, packages));
        }
    }
    for unknown in definition::check_cpu(cx, BUILDER, &recipe)? {
        cx.observer.note(&unknown.to_string());
    }
    let known = consult::assert_known(cx, config, &profile, &recipe.definition, &[]);
    let state = known.and_then(|()| update(cx, &profile, &recipe, &inputs, &base, &upstream, options.depclean));
    let state = state.map_err(|error| resolve::with_proposal(cx, config, BUILDER, &profile, error))?;
    let Some((state, packages)) = state else { return Ok(reused(&base, Vec::new())) };
    cx.store.ref_set(&name, &state.id)?;
    let patched = state.origin["patched"].clone();
    Ok(UpdatedProfile { profile, state: state.id, previous: Some(base.id), reused: false, patched, packages })
}
