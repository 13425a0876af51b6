//! What the store knows about the surroundings of a stage's configuration: tree snapshots, Portage profile, the stage3's own files.
//!
//! Nothing is run for that, so the answers of [`crate::config::explain`] take milliseconds.

use crate::config::explain::{MAKE_GLOBALS, STAGE3_MAKE_CONF, Surroundings};
use crate::config::{ConfigDir, Stage};
use crate::context::Context;
use crate::merged_view::read;
use crate::names::profiles;
use crate::portage::profile::PortageProfile;
use crate::portage::profile_stack::ProfileStack;
use crate::portage::repository::Repository;
use crate::recipe::definition::stage3_profile;
use crate::resolve::Result;
use crate::trees::choose;
use crate::{context, names, trees};

/// What is known, and a line for each thing that is not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Around {
    /// What is known.
    pub surroundings: Surroundings,
    /// `REPOSITORY:PATH` of the Portage profile.
    pub portage_profile: Option<String>,
    pub missing: Vec<String>,
}

/// The surroundings of `stage`'s configuration. The profile is `profile`, else the one that its stage4 definition names, else the default
/// one; only `profile` has to exist.
pub(crate) fn surroundings(cx: &Context<'_>, stage: &Stage, profile: Option<&str>) -> Result<Around> {
    let _shared = context::share_store(cx)?;
    let mut around = Around::default();
    // The configuration may be that of another commit, whose trees need not be here. Then all trees in the store are used.
    let portage = ConfigDir::open(&cx.places.config).and_then(|config| config.portage_dir(&stage.stage3)).ok();
    match portage.map_or_else(|| choose::trees(cx), |portage| choose::trees_for(cx, &portage)) {
        Ok(trees) => {
            for tree in trees {
                around.surroundings.repositories.push(Repository::read(&tree.name, &tree.path)?);
            }
        }
        Err(trees::Error::NoTree) => {
            around.missing.push("no ebuild tree is imported: the answer has no versions and no Portage profile".to_owned());
        }
        Err(error @ (trees::Error::NotHere { .. } | trees::Error::PinNotHere { .. })) => {
            around.missing.push(format!("{error}: the answer has no versions and no Portage profile"));
        }
        Err(error) => return Err(error.into()),
    }
    let own = match profiles::profile_or_default(cx, profile.or_else(|| stage.profile())) {
        Ok(name) => {
            let lower = cx.store.lower_dirs(&profiles::upstream(cx, &name)?);
            around.surroundings.make_globals = read(&lower, MAKE_GLOBALS)?;
            around.surroundings.make_conf = read(&lower, STAGE3_MAKE_CONF)?;
            Some(stage3_profile(&lower))
        }
        Err(error @ names::Error::NoProfile { .. }) if profile.is_some() => return Err(error.into()),
        Err(names::Error::NoProfile { profile, .. }) => {
            around.missing.push(format!("the profile `{profile}` is not bootstrapped: the answer is without its stage3"));
            None
        }
        Err(names::Error::NoDefaultProfile) => {
            around.missing.push("no profile is chosen: the answer is without a stage3".to_owned());
            None
        }
        Err(error) => return Err(error.into()),
    };
    let asked = stage.stage3.portage_profile.as_ref().map(|profile| profile.value.to_string());
    if let Some(name) = asked.or(own)
        && !around.surroundings.repositories.is_empty()
    {
        match name.parse::<PortageProfile>() {
            Ok(profile) => {
                let stack = ProfileStack::read(&around.surroundings.repositories, &profile.repository, &profile.path)?;
                around.surroundings.profile = Some(stack);
            }
            Err(error) => around.missing.push(format!("the stage3's Portage profile is unknown: {error}")),
        }
        around.portage_profile = Some(name);
    }
    Ok(around)
}
