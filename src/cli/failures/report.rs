//! Kinds and hints of reports that cannot be made.

use crate::did_you_mean::{nearest, question};
use crate::{context, report};

use crate::cli::report::{Failure, Kind};

impl From<report::Error> for Failure {
    fn from(error: report::Error) -> Self {
        use report::Error as E;
        let hint = match &error {
            E::NoRuns => {
                "a run that builds something is recorded: `gentoomuch pipeline` or `gentoomuch stage build NAME`".to_owned()
            }
            E::NoRun { name, known } => nearest(name, known).map_or("`gentoomuch report` lists the runs".to_owned(), question),
            E::Logs(_) => String::new(),
        };
        match error {
            E::Logs(error) => context::Error::from(error).into(),
            error => Self::new(Kind::Usage, error).hint(hint),
        }
    }
}
