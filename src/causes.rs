//! An error with what it was caused by, in words.

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
