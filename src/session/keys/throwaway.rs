//! Pools of throw-away sessions. Release builds never read them.

use std::path::PathBuf;

use crate::context::Context;
use crate::portage::binpkgs::{PoolInputs, PoolKind};
use crate::session::keys::pools::{PoolUse, packages_of};
use crate::session::keys::{learn, pools};
use crate::session::{Result, Work};
use crate::store::State;

/// Shows a session the binary packages that fit its base: those of throw-away sessions and the released ones.
pub(crate) fn attach_throwaway_pools(cx: &Context<'_>, work: &mut Work<'_>, base: &State) -> Result<()> {
    let Some(pools) = throwaway_pools(cx, base)? else { return Ok(()) };
    learn::learn_as_before(cx, work, base, &packages_of(&pools)?)?;
    pools::attach(cx, work, &pools, PoolUse::Look)
}

/// The same for a session with another configuration than its base.
pub(crate) fn show_throwaway_pools(cx: &Context<'_>, work: &mut Work<'_>, base: &State) -> Result<()> {
    let Some(pools) = throwaway_pools(cx, base)? else { return Ok(()) };
    pools::show_pools(cx, work, &pools, PoolUse::Publish)
}

pub(crate) fn throwaway_pools(cx: &Context<'_>, base: &State) -> Result<Option<[PathBuf; 2]>> {
    let Some(inputs) = pool_of(base) else { return Ok(None) };
    Ok(Some([pools::pool(cx, PoolKind::Throwaway, &inputs)?, pools::pool(cx, PoolKind::Release, &inputs)?]))
}

/// What decides the pool of a state, or of the state that a kept one was made from. An imported stage3 has no pool yet.
pub(crate) fn pool_of(state: &State) -> Option<PoolInputs> {
    state.origin.made_from().pool().cloned()
}
