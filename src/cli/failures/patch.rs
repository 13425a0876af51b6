//! What to do about errors of patches.

use crate::patch;
use crate::patch::PatchError;
use crate::query::versions::NotVisible as N;

use super::{accepting, proposal, there_are};
use crate::cli::report::{Failure, Kind};
use crate::cli::screen::Shown as _;

impl From<patch::Error> for Failure {
    fn from(error: patch::Error) -> Self {
        use patch::Error as E;
        match error {
            E::Context(error) => error.into(),
            E::Config(error) => error.into(),
            E::Names(error) => error.into(),
            E::Session(error) => error.into(),
            E::Recipe(error) => error.into(),
            E::Proposal(error) => proposal(error),
            E::Patch(error) => of_patch(error),
        }
    }
}

fn of_patch(error: PatchError) -> Failure {
    use PatchError as E;
    let mut kind = Kind::Usage;
    let hints: Vec<String> = match &error {
        E::Name(_) => vec!["letters, digits and `._+-`, beginning with a letter or digit".to_owned()],
        E::HeaderLine(_) => vec!["one line of text".to_owned()],
        E::Exists { name, dir } => vec![
            format!("it is in {}", dir.shown()),
            format!("`gentoomuch patch rm {name}` removes it, `gentoomuch patch refresh {name}` brings it to a newer version"),
        ],
        E::NoWorkSet { name, saved: true, .. } => {
            vec![format!("the patch is saved: `gentoomuch patch prep {name} ATOM` unpacks the source again and applies it")]
        }
        E::NoWorkSet { name, known, .. } => {
            let make = format!("`gentoomuch patch prep {name} ATOM` makes it");
            there_are(known).into_iter().chain([make]).collect()
        }
        E::Unknown { nearest: Some(nearest), .. } => vec![format!("did you mean `{nearest}`?")],
        E::Unknown { name, known, .. } => {
            there_are(known).into_iter().chain([format!("`gentoomuch patch prep {name} ATOM` begins it")]).collect()
        }
        E::SeveralPackages { .. } => vec!["say which with `--to ATOM`".to_owned()],
        E::NotVisible(N::NoPackage { near, .. }) if !near.is_empty() => vec![format!("did you mean {}?", near.join(" or "))],
        E::NotVisible(N::NoPackage { .. }) => vec!["`gentoomuch sync` brings a newer tree".to_owned()],
        E::NotVisible(N::Masked { atom, reasons, .. }) => {
            let keyword = reasons.iter().any(|reason| reason.contains("keyword"));
            let accepts = keyword.then(|| format!("the configuration would have to accept {}", accepting(reasons)));
            accepts.into_iter().chain([format!("`gentoomuch resolve {atom}` shows where that belongs")]).collect()
        }
        E::OtherPackage { .. } => vec!["`gentoomuch patch prep` begins a patch for it".to_owned()],
        E::NothingSaved => vec!["`gentoomuch patch save NAME` saves what was changed in a work set".to_owned()],
        E::Unchanged(name) => vec![
            format!("`gentoomuch patch show {name}` tells where it is"),
            format!("if this version of the package has the change already: `gentoomuch patch rm {name} --saved`"),
        ],
        E::Binary(_) => vec!["take the files back with `git checkout`, or remove them".to_owned()],
        E::Repositories(_) => vec!["remove their `.git`, or the whole directories".to_owned()],
        E::Conflicts(_) => {
            kind = Kind::Other;
            vec!["mend the files, then take the marker lines out (`<<<<<<<`, `=======`, `>>>>>>>`)".to_owned()]
        }
        E::NothingKept(name) => vec![format!("`gentoomuch patch try {name}` keeps the session if the build fails")],
        E::Unsaved(name) => vec![
            format!("`gentoomuch patch show {name} --changes` shows them, `gentoomuch patch save {name}` saves them"),
            "`--force` removes it all the same".to_owned(),
        ],
        E::NothingLeft(name) => vec![format!("`gentoomuch patch rm {name} --saved --force` removes both")],
        E::NothingNewer { name, .. } => vec![
            "`gentoomuch sync` brings a newer tree".to_owned(),
            format!("`gentoomuch patch refresh {name} --to '=CATEGORY/PACKAGE-VERSION'` goes to another version"),
        ],
        E::Damaged { .. } => vec!["`gentoomuch patch rm --force` removes the work set".to_owned()],
        E::Answer(_) => {
            kind = Kind::Other;
            vec!["see whether `gentoomuch freshroot -- emerge --info` works".to_owned()]
        }
        E::Beneath(_) => {
            kind = Kind::Other;
            vec!["a file of a work set has to be removed or mended; `gentoomuch patch rm --force` removes the work set".to_owned()]
        }
        E::Nested(_) | E::Io { .. } => {
            kind = Kind::Other;
            Vec::new()
        }
    };
    Failure::new(kind, error).hints(hints)
}
