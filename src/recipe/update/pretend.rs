//! `profile update --pretend`: emerge's own list of what an update would merge.

use crate::config::hooks::Phase;
use crate::context::Context;
use crate::portage::emerge::request::{Existing, Goal};
use crate::recipe::pretend::{List, lists};
use crate::recipe::update::{Anew, UpdateRecipe, bring_back, deselect, retire, select_profile};
use crate::recipe::{Result, definition};
use crate::session::keys::pools;
use crate::session::keys::pools::PoolUse;
use crate::session::work::{Given, Subject};
use crate::session::{hooks, work};
use crate::store::{Purpose, Session};

/// Asks emerge in a throw-away session on the present builder, with the configuration and the trees of now.
pub(crate) fn update_lists(cx: &Context<'_>, update: &UpdateRecipe<'_>, color: bool) -> Result<Vec<List>> {
    let mut session = cx.store.session_create(Some(update.base), Purpose::Throwaway, "")?;
    let outcome = lists_in(cx, &mut session, update, color);
    session.discard(cx.launcher)?;
    outcome
}

fn lists_in(cx: &Context<'_>, session: &mut Session, update: &UpdateRecipe<'_>, color: bool) -> Result<Vec<List>> {
    let recipe = update.stage3;
    let subject = Subject {
        log_name: format!("pretend-{}-update", update.profile),
        profile: update.profile.to_owned(),
        definition: crate::config::BUILDER.to_owned(),
    };
    let (portage, retired) = bring_back(cx, recipe, update);
    let mut work = work::work(cx, session, update.base, &subject, Given { portage: Some(&portage), ..recipe.given() })?;
    retire(cx, &work, &retired)?;
    definition::apply(cx, &work, recipe)?;
    select_profile(cx, &work, recipe, update)?;
    hooks::hooks(cx, &work, &recipe.hooks, Phase::Prepare)?;
    let inputs = pools::choose_pool(cx, &mut work, recipe.pool_of(), PoolUse::Look, &[])?;
    deselect(cx, &work, &update.dropped)?;
    let updated = |atoms| Goal::Packages { atoms, existing: Existing::Update, oneshot: false };
    let mut goals = Vec::new();
    if let Some(why) = Anew::of(update, &inputs) {
        let why = match why {
            Anew::OfHosts => "packages came from a binary package host",
            Anew::Flags => "compiler flags have changed",
        };
        goals.push((format!("@world anew, since {why}"), Goal::RebuildWorld));
    }
    goals.push(("@world".to_owned(), updated(vec!["@world".to_owned()])));
    if !recipe.packages.is_empty() {
        goals.push((format!("the packages of {}", recipe.definition.name), updated(recipe.packages.clone())));
    }
    if update.depclean {
        goals.push(("what nothing needs any more".to_owned(), Goal::Depclean));
    }
    let lists = lists(cx, &work, goals, color)?;
    work.forget_logs();
    Ok(lists)
}
