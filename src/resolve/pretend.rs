//! `resolve --pretend`: emerge's own list for a stage, or for atoms, with the configuration as it is.

use crate::config::{ConfigDir, Located, Package, Stage};
use crate::context::Context;
use crate::portage::emerge::request::{Existing, Goal};
use crate::recipe::configured::{Configured, On, with_configuration_on};
use crate::recipe::pretend;
use crate::recipe::pretend::Pretended;
use crate::resolve::{ResolveOptions, Result};

/// Asks emerge. Nothing is built or written.
pub(crate) fn pretend(cx: &Context<'_>, config: &ConfigDir, options: &ResolveOptions, color: bool) -> Result<Pretended> {
    let stage = config.stage(&options.stage)?;
    // Errors of the configuration need no session.
    config.portage_dir(&stage.stage3)?;
    pretend_on(cx, config, &stage, options, On::Profile(options.profile.as_deref()), color)
}

/// The same on a state that the caller knows.
pub(crate) fn pretend_on(
    cx: &Context<'_>,
    config: &ConfigDir,
    stage: &Stage,
    options: &ResolveOptions,
    on: On<'_>,
    color: bool,
) -> Result<Pretended> {
    Ok(with_configuration_on(cx, config, stage, on, "pretend", |configured| {
        configured.offer_packages(cx)?;
        // A build of a stage4 leaves a base that is there as it is.
        let with_base = !(configured.is_built && stage.stage4.is_some());
        let goals = goals(stage, options, configured, with_base);
        Ok(Pretended {
            target: if options.atoms.is_empty() { options.stage.clone() } else { options.atoms.join(" ") },
            profile: configured.profile.clone(),
            up_to_date: None,
            besides: Vec::new(),
            lists: pretend::lists(cx, &configured.work, goals, color)?,
        })
    })?)
}

/// The build's emerge commands, in order, in words and as goals; `with_base`: also that of the stage3 definition's packages.
pub(super) fn goals(stage: &Stage, options: &ResolveOptions, configured: &Configured<'_>, with_base: bool) -> Vec<(String, Goal)> {
    let packages = |atoms: Vec<String>, oneshot| Goal::Packages { atoms, existing: Existing::Update, oneshot };
    if !options.atoms.is_empty() {
        return vec![(options.atoms.join(" "), packages(options.atoms.clone(), true))];
    }
    let mut goals = Vec::new();
    // A built definition is installed already.
    if !configured.is_built {
        goals.push((format!("@world for {}", stage.stage3.name), Goal::RebuildWorld));
    }
    let of = |packages: &[Located<Package>]| packages.iter().map(|package| package.value.to_string()).collect::<Vec<_>>();
    let stage3 = (stage.stage3.name.clone(), of(&stage.stage3.packages));
    let stage4 = stage.stage4.iter().map(|stage4| (stage4.name.clone(), of(&stage4.packages)));
    for (name, atoms) in Some(stage3).filter(|_| with_base).into_iter().chain(stage4).filter(|(_, atoms)| !atoms.is_empty()) {
        goals.push((format!("the packages of {name}"), packages(atoms, false)));
    }
    goals
}
