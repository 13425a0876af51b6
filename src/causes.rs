//! An error with its causes, in words, and macros that make errors of lower rooms part of those above.

use std::error::Error;
use std::iter::successors;

/// The error's text, then that of each cause.
pub(crate) fn all(error: &(dyn Error + 'static)) -> Vec<String> {
    successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source()).map(ToString::to_string).collect()
}

/// As [`all`], joined to one line.
pub(crate) fn in_one_line(error: &(dyn Error + 'static)) -> String {
    all(error).join(": ")
}

/// Lets `?` take errors of lower rooms through the error of the room in between, which `$variant` wraps.
macro_rules! by_way_of {
    ($error:ident::$variant:ident: $($below:ty),+ $(,)?) => {
        $(impl From<$below> for $error {
            fn from(error: $below) -> Self {
                Self::$variant(error.into())
            }
        })+
    };
}
pub(crate) use by_way_of;

/// Lets `?` take errors of a room below. Those of `$lifted` get a variant of the same name in this room's error: who matches on an error
/// finds it in one place, through whichever rooms it came.
macro_rules! lifted {
    ($error:ident::$variant:ident: $room:ident { $($lifted:ident),+ $(,)? }) => {
        impl From<$room::Error> for $error {
            fn from(error: $room::Error) -> Self {
                match error {
                    $($room::Error::$lifted(error) => Self::$lifted(error),)+
                    error => Self::$variant(error),
                }
            }
        }
    };
}
pub(crate) use lifted;
