//! What a remote has of the packages that a run would compile is brought into the pool first.
//!
//! ```text
//! emerge --pretend     what would be compiled, with its keys
//! remote               is asked once for each of them, for all at the same time; what it has comes into the pool
//! emerge --pretend     again, if anything came: binary packages need less than those that are compiled
//! ```
//!
//! Package keys exist only once the configuration is in place and the dependencies are calculated. So this is the moment: no plan asks for
//! packages, and none comes that the run does not need.

use crate::context::Context;
use crate::portage::binpkgs;
use crate::portage::emerge::request::Request;
use crate::remote;
use crate::session::foreseen::Foreseen;
use crate::session::{Result, Work};

/// Asks the remote for the packages that emerge would compile. Returns whether any came into the pool: then emerge has to look once more.
pub(super) fn bring(cx: &Context<'_>, work: &Work<'_>, foreseen: &Foreseen, request: &Request) -> Result<bool> {
    if cx.settings.remote.is_none() {
        return Ok(false);
    }
    let mut wanted = work.keys.to_compile(foreseen, request);
    wanted.retain(|key, _| work.keys.asked.borrow_mut().insert(key.clone()));
    // Both kinds of pools have the same inputs. What comes is as good as a release, since who signed it is trusted.
    let inputs = work.keys.pool.as_deref().and_then(binpkgs::inputs_of);
    let Some(inputs) = inputs.filter(|_| !wanted.is_empty() && work.keys.view.borrow().is_some()) else { return Ok(false) };
    // What was built against a newer libc than the root has does not run in it.
    let Some(libc) = work.keys.libc.borrow().clone() else { return Ok(false) };
    Ok(remote::bring_packages(cx, &inputs, &libc, &wanted)?)
}
