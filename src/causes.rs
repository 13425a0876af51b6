//! An error with what it was caused by, in words; and how errors of rooms below become part of those above.

use std::error::Error;
use std::iter::successors;

/// The error, then each cause.
pub(crate) fn all(error: &(dyn Error + 'static)) -> Vec<String> {
    successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source()).map(ToString::to_string).collect()
}

/// The same in one line.
pub(crate) fn in_one_line(error: &(dyn Error + 'static)) -> String {
    all(error).join(": ")
}

/// Lets `?` take errors of lower rooms by way of the room between that `$variant` is of.
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

/// Lets `?` take errors of a room below, of which those of `$lifted` get the variant that they have here, too: whoever asks what an error
/// is looks in one place for it, whichever rooms it came through.
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
