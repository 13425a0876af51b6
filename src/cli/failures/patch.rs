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
            format!("remove it with `gentoomuch patch rm {name}`, or move it on with `gentoomuch patch refresh {name}`"),
        ],
        E::NoWorkSet { name, saved: true, .. } => {
            vec![format!("the patch is saved: unpack the source and apply it with `gentoomuch patch prep {name} ATOM`")]
        }
        E::NoWorkSet { name, known, .. } => {
            let make = format!("make it with `gentoomuch patch prep {name} ATOM`");
            there_are(known).into_iter().chain([make]).collect()
        }
        E::Unknown { nearest: Some(nearest), .. } => vec![format!("did you mean `{nearest}`?")],
        E::Unknown { name, known, .. } => {
            there_are(known).into_iter().chain([format!("begin it with `gentoomuch patch prep {name} ATOM`")]).collect()
        }
        E::SeveralPackages { .. } => vec!["say which with `--to ATOM`".to_owned()],
        E::NotVisible(N::NoPackage { near, .. }) if !near.is_empty() => vec![format!("did you mean {}?", near.join(" or "))],
        E::NotVisible(N::NoPackage { .. }) => vec!["fetch a newer tree with `gentoomuch sync`".to_owned()],
        E::NotVisible(N::Masked { atom, reasons, .. }) => {
            let keyword = reasons.iter().any(|reason| reason.contains("keyword"));
            let accepts = keyword.then(|| format!("the configuration would have to accept {}", accepting(reasons)));
            accepts.into_iter().chain([format!("see the line to add with `gentoomuch resolve {atom}`")]).collect()
        }
        E::OtherPackage { .. } => vec!["begin a patch for it with `gentoomuch patch prep`".to_owned()],
        E::NothingSaved => vec!["save the changes in a work set with `gentoomuch patch save NAME`".to_owned()],
        E::Unchanged(name) => vec![
            format!("see where it is with `gentoomuch patch show {name}`"),
            format!("if this version of the package has the change already: `gentoomuch patch rm {name} --saved`"),
        ],
        E::Binary(_) => vec!["take the files back with `git checkout`, or remove them".to_owned()],
        E::Repositories(_) => vec!["remove their `.git`, or the whole directories".to_owned()],
        E::Conflicts(_) => {
            kind = Kind::Other;
            vec!["correct the files, then remove the marker lines (`<<<<<<<`, `=======`, `>>>>>>>`)".to_owned()]
        }
        E::NothingKept(name) => vec![format!("`gentoomuch patch try {name}` keeps the session if the build fails")],
        E::Unsaved(name) => vec![
            format!("see them with `gentoomuch patch show {name} --changes`, save them with `gentoomuch patch save {name}`"),
            "remove it anyway with `--force`".to_owned(),
        ],
        E::NothingLeft(name) => vec![format!("remove both with `gentoomuch patch rm {name} --saved --force`")],
        E::NothingNewer { name, .. } => vec![
            "fetch a newer tree with `gentoomuch sync`".to_owned(),
            format!("go to another version with `gentoomuch patch refresh {name} --to '=CATEGORY/PACKAGE-VERSION'`"),
        ],
        E::Damaged { .. } => vec!["remove the work set with `gentoomuch patch rm --force`".to_owned()],
        E::Answer(_) => {
            kind = Kind::Other;
            vec!["see whether `gentoomuch freshroot -- emerge --info` works".to_owned()]
        }
        E::Beneath(_) => {
            kind = Kind::Other;
            vec!["correct or remove the file, or remove the whole work set with `gentoomuch patch rm --force`".to_owned()]
        }
        E::Nested(_) | E::Io { .. } => {
            kind = Kind::Other;
            Vec::new()
        }
    };
    Failure::new(kind, error).hints(hints)
}
