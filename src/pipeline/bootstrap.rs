//! `bootstrap`: makes a profile of a stage3: its upstream state, and the builder on it.

use serde::Serialize;

use crate::config::{BUILDER, ConfigDir};
use crate::context;
use crate::context::Context;
use crate::names::profiles;
use crate::names::profiles::check_profile_name;
use crate::names::refs::profile_lock;
use crate::pipeline::Result;
use crate::pipeline::plan::Wishes;
use crate::pipeline::run::build_one;
use crate::recipe::definition::has_first_packages;
use crate::recipe::import::{BootstrapOptions, import};
use crate::recipe::realise::Built;
use crate::stage3::keys::TrustedKeys;
use crate::trees::choose;

/// What came of it.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Bootstrapped {
    pub profile: String,
    /// State of the imported stage3.
    pub upstream: String,
    /// Whether the stage3 had been imported before.
    pub upstream_reused: bool,
    /// State of the builder, unless it was not asked for.
    pub builder: Option<String>,
    /// Whether the builder had been built before.
    pub builder_reused: bool,
    /// Packages with patches, and what became of these; Null where there are none.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    #[cfg_attr(test, schemars(with = "Option<Vec<crate::recipe::patches::applied::PatchedPackage>>"))]
    pub patched: serde_json::Value,
    /// What the builder's packages have said, unread news, and configuration files that wait for a decision; null where there is nothing.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    #[cfg_attr(test, schemars(with = "Option<crate::portage::messages::Messages>"))]
    pub messages: serde_json::Value,
}

/// Verifies and imports the stage3, and builds the builder.
pub fn bootstrap(cx: &Context<'_>, config: &ConfigDir, keys: &TrustedKeys, options: &BootstrapOptions) -> Result<Bootstrapped> {
    crate::threads::pool()?;
    let profile = &options.profile;
    check_profile_name(profile)?;
    let _shared = context::share_store(cx)?;
    let _lock = context::lock(cx, &profile_lock(profile))?;
    if !options.no_rebuild {
        // Report errors of the configuration before an hour of unpacking and building.
        choose::trees_for(cx, &config.portage_dir(&config.stage3(BUILDER)?)?)?;
    }
    let upstream = import(cx, keys, options)?;
    if profiles::default_profile(cx)?.is_none() {
        profiles::set_default_profile(cx, profile)?;
    }
    let builder = if options.no_rebuild { None } else { Some(builder(cx, config, profile)?) };
    let is_first = config.stage3(BUILDER).is_ok_and(|definition| definition.binary_packages.first_hosts.is_some());
    if is_first && builder.as_ref().is_some_and(|built| has_first_packages(&built.state)) {
        cx.observer.note(&format!(
            "it has packages of a binary package host: `gentoomuch profile update {profile}` compiles them with your flags"
        ));
    }
    Ok(Bootstrapped {
        profile: profile.clone(),
        upstream: upstream.state.id.to_string(),
        upstream_reused: upstream.reused,
        builder_reused: builder.as_ref().is_some_and(|built| built.reused),
        patched: builder.as_ref().map_or(serde_json::Value::Null, |built| serde_json::json!(built.state.origin.patched())),
        messages: builder.as_ref().map_or(serde_json::Value::Null, |built| built.state.origin.messages().json()),
        builder: builder.map(|built| built.state.id.to_string()),
    })
}

/// The pipeline of a profile's builder. The caller holds the lock on the profile.
fn builder(cx: &Context<'_>, config: &ConfigDir, profile: &str) -> Result<Built> {
    let wishes = Wishes {
        stage3s: [(profile.to_owned(), BUILDER.to_owned())].into(),
        locked: Some(profile.to_owned()),
        ..Wishes::default()
    };
    build_one(cx, config, wishes, &format!("stage3/{profile}/{BUILDER}"))
}
