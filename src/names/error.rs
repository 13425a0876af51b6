//! Errors of names.

use crate::causes::by_way_of;
use crate::config::Place;
use crate::store::StateId;
use crate::{beneath, context, sandbox, store};

/// A name that is not valid, or that nothing has.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store, the sandbox, files of ours; or the user has ended it.
    #[error(transparent)]
    Context(#[from] context::Error),
    /// Neither a name nor an id.
    #[error("no build state is called `{text}`")]
    Unknown {
        text: String,
        /// What was probably meant.
        nearest: Option<String>,
        known: Vec<String>,
    },
    /// A name's history is shorter than the index.
    #[error("`{name}` has no value {index}")]
    NoEntry {
        /// The name in full.
        name: String,
        index: usize,
        /// How many there are, the present one included.
        kept: usize,
    },
    /// Several ids begin with the text.
    #[error("`{text}` is the beginning of {} ids", fits.len())]
    Ambiguous { text: String, fits: Vec<StateId> },
    /// An id where a name is needed: only names have a history.
    #[error("`{text}` is the id of a build state, not a name")]
    NotAName {
        text: String,
        /// The names of that state.
        names: Vec<String>,
    },
    /// The state, or one of its layers, was removed.
    #[error("the state `{text}` is no longer in the store")]
    Gone {
        text: String,
        #[source]
        source: store::Error,
    },
    /// A profile that was never bootstrapped.
    #[error("profile `{profile}` is not bootstrapped")]
    NoProfile {
        profile: String,
        known: Vec<String>,
        /// Where the configuration names it, if it does.
        named_in: Option<Place>,
    },
    /// A position beyond a profile's history.
    #[error("profile `{profile}` has no state {index}")]
    NoProfileState {
        profile: String,
        /// As asked for; 0 is the present state.
        index: usize,
        /// How many there are, the present one included.
        kept: usize,
    },
    /// A state of a profile that was removed, or a layer of it.
    #[error("the state `{name}` is no longer in the store")]
    StateGone {
        name: String,
        /// What is missing: the state itself, or a layer of it.
        #[source]
        source: store::Error,
    },
    /// No profile was named, and there is no default one.
    #[error("you named no profile, and there is no default profile")]
    NoDefaultProfile,
    /// A name that cannot be used.
    #[error("`{name}` cannot be used as a name for {what}")]
    Name { name: String, what: &'static str },
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

by_way_of!(Error::Context: store::Error, sandbox::Error, crate::path_error::PathError, beneath::Error);
