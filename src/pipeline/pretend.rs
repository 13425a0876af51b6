//! `stage build --pretend` and `bootstrap --pretend`: emerge's own list of what would be merged. The plan of nodes, which needs no session, is
//! `pipeline --dry-run`.

use std::collections::BTreeSet;

use crate::config::{BUILDER, ConfigDir};
use crate::context;
use crate::context::Context;
use crate::names::profiles::check_profile_name;
use crate::pipeline::stage::checked_skips;
use crate::pipeline::{NodeKind, PipelineOptions, Result, pipeline};
use crate::recipe::configured::On;
use crate::recipe::definition;
use crate::recipe::import::{BootstrapOptions, import_unnamed};
use crate::recipe::pretend::Pretended;
use crate::recipe::stage4::name_of;
use crate::resolve::ResolveOptions;
use crate::resolve::pretend::pretend_on;
use crate::stage3::keys::TrustedKeys;
use crate::store::{State, Unused};

/// What a build of a stage4 would merge, without the packages `skip`.
pub(crate) fn stage_pretend(cx: &Context<'_>, config: &ConfigDir, name: &str, skip: &[String], color: bool) -> Result<Pretended> {
    let definition = config.stage4(name)?;
    checked_skips(&definition, skip)?;
    let profile = definition.profile.value.clone();
    let options =
        PipelineOptions { names: vec![name.to_owned()], no_files: true, skip: skip.to_vec(), ..PipelineOptions::default() };
    let plan = pipeline(cx, config, options)?;
    let mut base = None;
    let mut besides = Vec::new();
    for node in plan.nodes() {
        match node.kind {
            NodeKind::Stage4 if !node.build => {
                let up_to_date = node.state.as_ref().map(ToString::to_string);
                return Ok(Pretended { target: name.to_owned(), profile, up_to_date, besides, lists: Vec::new() });
            }
            NodeKind::Stage3 if !node.build && node.name == definition.stage3.value => base.clone_from(&node.state),
            NodeKind::Kernel if node.build => besides.push(node.id.clone()),
            _ => {}
        }
    }
    // Its locks on profiles are taken again below.
    drop(plan);
    let base: Option<State> = base.map(|id| cx.store.state(&id)).transpose()?;
    let mut stage = config.stage(name)?;
    if let Some(stage4) = &mut stage.stage4 {
        stage4.packages.retain(|package| !name_of(&package.value).is_some_and(|name| skip.contains(&name)));
    }
    let on = base.as_ref().map_or(On::Profile(Some(&profile)), |base| On::State(&profile, base));
    let pretended = pretend_on(cx, config, &stage, &ResolveOptions::new(name, Vec::new()), on, color)?;
    Ok(Pretended { besides, ..pretended })
}

/// What a bootstrap would merge into the stage3. If that was not imported before, it is for the moment, without a name.
pub(crate) fn bootstrap_pretend(
    cx: &Context<'_>,
    config: &ConfigDir,
    keys: &TrustedKeys,
    options: &BootstrapOptions,
    color: bool,
) -> Result<Pretended> {
    let profile = &options.profile;
    check_profile_name(profile)?;
    let imported = {
        let _shared = context::share_store(cx)?;
        // As a bootstrap does it: errors of the configuration come before the stage3 is unpacked.
        config.portage_dir(&config.stage3(BUILDER)?)?;
        import_unnamed(cx, keys, options)?
    };
    let pretended = pretended_on(cx, config, profile, &imported.state, color);
    if !imported.reused {
        forget(cx, imported.state);
    }
    pretended
}

fn pretended_on(cx: &Context<'_>, config: &ConfigDir, profile: &str, upstream: &State, color: bool) -> Result<Pretended> {
    let recipe = definition::recipe(cx, config, profile, BUILDER, upstream)?;
    if let Some(state) = cx.store.state_by_key(&recipe.inputs(upstream).key())? {
        let up_to_date = Some(state.id.to_string());
        return Ok(Pretended {
            target: profile.to_owned(),
            profile: profile.to_owned(),
            up_to_date,
            besides: Vec::new(),
            lists: Vec::new(),
        });
    }
    let stage = config.stage(BUILDER)?;
    let options = ResolveOptions::new(BUILDER, Vec::new());
    let pretended = pretend_on(cx, config, &stage, &options, On::Upstream(profile, upstream), color)?;
    Ok(Pretended { target: profile.to_owned(), ..pretended })
}

/// Removes a stage3 that nobody has named meanwhile. If others work in the store, `clean` does it.
fn forget(cx: &Context<'_>, imported: State) {
    let Ok(exclusive) = cx.store.lock_exclusive(crate::store::Wait::NoWait) else {
        cx.observer.note("the imported stage3 stays until `gentoomuch clean`, since the store is in use");
        return;
    };
    let unused =
        Unused { states: [imported.id].into(), layers: imported.layers.into_iter().collect::<BTreeSet<_>>(), ..Unused::default() };
    if let Err(error) = cx.store.remove_unused(&exclusive, &unused, cx.launcher) {
        cx.observer.warn(&format!("the imported stage3 stays until `gentoomuch clean`: {}", crate::causes::in_one_line(&error)));
    }
}
