//! What packages said when a state was made, and when those below it were: of states that were found, too.

use serde::Serialize;

use crate::context::Context;
use crate::history::{Error, Result};
use crate::names;
use crate::names::named;
use crate::origin::Recorded;
use crate::portage::messages::Messages;
use crate::store::StateId;

/// What one build had to tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Told {
    /// What was built: `stage4 definition`.
    pub kind: String,
    /// `web`, `gentoomuch/builder`.
    pub name: String,
    #[serde(flatten)]
    pub messages: Messages,
}

/// What has been told of the state that is called `name`, by any of its names, and of those below it. The topmost comes first; who had
/// nothing to tell is left out.
pub(crate) fn told(cx: &Context<'_>, name: &str) -> Result<Vec<Told>> {
    let state = cx.store.state(&id(cx, name)?)?;
    let chain = std::iter::successors(Some(&state.origin), |origin| origin.below());
    let told = chain.map(|origin: &Recorded| Told {
        kind: origin.kind().unwrap_or_default().to_owned(),
        name: origin.definition().or(origin.name()).unwrap_or_default().to_owned(),
        messages: origin.messages(),
    });
    Ok(told.filter(|told| !told.messages.is_empty()).collect())
}

/// Also by the names that a run of a build has: `web`, `stage3/demo/plain`, `demo/plain`.
fn id(cx: &Context<'_>, name: &str) -> Result<StateId> {
    let of_profile = name.strip_prefix("stage3/").unwrap_or(name);
    let names = [name.to_owned(), format!("stage4/{name}"), format!("profile/{of_profile}"), format!("kept/{name}")];
    let mut first = None;
    for name in names {
        match named::named_id(cx, &name) {
            Err(error @ names::Error::Unknown { .. }) => first = first.or(Some(error)),
            found => return Ok(found?),
        }
    }
    Err(first.map_or_else(|| Error::NothingLogged, Into::into))
}
