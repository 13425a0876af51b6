//! Kind and hints of a place where nothing should be kept.

use crate::places;

use crate::cli::report::{Failure, Kind};

impl From<places::Unsafe> for Failure {
    fn from(error: places::Unsafe) -> Self {
        let hint = error.hint();
        Self::new(Kind::Usage, error).about("gentoomuch cannot keep its files there").hint(hint)
    }
}
