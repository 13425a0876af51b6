//! Kinds and hints of names that lead nowhere.

use crate::names;

use super::{meant_and_all, there_are};
use crate::cli::report::{Failure, Kind};

impl From<names::Error> for Failure {
    fn from(error: names::Error) -> Self {
        use names::Error as E;
        let one = |hint: &str| vec![hint.to_owned()];
        let hints: Vec<String> = match &error {
            E::Unknown { nearest: Some(nearest), .. } => vec![format!("did you mean `{nearest}`?")],
            E::Unknown { known, .. } if known.is_empty() => one("nothing has been built yet"),
            E::Unknown { known, .. } => there_are(known).into_iter().collect(),
            E::NoEntry { name, kept: 1, .. } => vec![format!("`{name}` has only its present value, `{name}@{{0}}`")],
            E::NoEntry { name, kept, .. } => {
                vec![format!("use `{name}@{{0}}` (the present one) to `{name}@{{{}}}`", kept - 1)]
            }
            E::Ambiguous { fits, .. } => {
                let fits: Vec<String> = fits.iter().take(8).map(|id| id.as_str().chars().take(12).collect()).collect();
                vec![format!("give more digits: {}", fits.join(", "))]
            }
            E::NotAName { names, .. } if names.is_empty() => one("it has no name; `gentoomuch store ls` lists names"),
            E::NotAName { names, .. } => vec![format!("it is called {}", names.join(", "))],
            E::Gone { .. } => one("see what is missing with `gentoomuch store verify`"),
            E::NoProfile { profile, known, named_in } => {
                let named = named_in.as_ref().map(|place| format!("`{place}` names it"));
                let make = "make it with `gentoomuch bootstrap PROFILE STAGE3`".to_owned();
                named.into_iter().chain(meant_and_all(profile, known)).chain([make]).collect()
            }
            E::NoProfileState { kept, profile, .. } => {
                vec![format!("states that are kept, with the present one: {kept}; `gentoomuch profile show {profile}` lists them")]
            }
            E::StateGone { .. } => vec![
                "`gentoomuch profile show` lists the states that you can go back to".to_owned(),
                "if nobody removed it on purpose, check the store with `gentoomuch store verify`".to_owned(),
            ],
            E::NoDefaultProfile => one("name one with `--profile`, or make one with `gentoomuch bootstrap PROFILE STAGE3`"),
            E::Name { .. } => one("letters, digits and `._+-`, not beginning with `.` or `-`"),
            E::Context(_) => Vec::new(),
        };
        match error {
            E::Context(error) => error.into(),
            error => Self::new(Kind::Usage, error).hints(hints),
        }
    }
}
