//! Kinds and hints of remotes.

use crate::cli::report::{Failure, Kind};
use crate::{remote, sandbox};

impl From<remote::Error> for Failure {
    fn from(error: remote::Error) -> Self {
        use remote::Error as E;
        match error {
            E::Registry(error) => error.into(),
            E::Store(error) => error.into(),
            E::Context(error) => error.into(),
            E::None => {
                Self::new(Kind::Usage, error).hint("name it with `--remote ADDRESS`, or write its address into `env/remote`")
            }
            E::NotTrusted { ref source, .. } => {
                let trust = || "trust who signs there: `gentoomuch keys trust FINGERPRINT --for remote`".to_owned();
                let hint = source.hint().unwrap_or_else(trust);
                Self::new(Kind::Verification, error).hint(hint)
            }
            // Else the layer is sound, and this machine cannot unpack it.
            E::Layer { ref source, .. } if !is_about_the_archive(source) => Self::new(Kind::Other, error),
            E::Flaw(_) | E::Layer { .. } => {
                Self::new(Kind::Verification, error).hint("remove it there with `gentoomuch remote rm`, and push it again")
            }
            E::NotThere { .. } => Self::new(Kind::Usage, error).hint("`gentoomuch remote ls` lists what is there"),
            E::Sign { ref source, .. } => {
                let lines = source.last_lines().to_vec();
                lines
                    .into_iter()
                    .fold(Self::new(Kind::Signing, error), Self::detail)
                    .hint("write the fingerprint of a key that can sign into `env/remote_key`; it may lack a passphrase")
            }
            E::NoTag { .. } => Self::new(Kind::Usage, error).hint("leave out `--tag`: builds find packages by their keys"),
            E::Collected { .. } => Self::new(Kind::Other, error).hint("repeat the command"),
            E::NoKey { .. } => Self::new(Kind::Usage, error).hint("push a state that was built or kept"),
            E::Pack { .. } => Self::new(Kind::Other, error)
                .hint("what a remote has must be unpacked by others: change or remove what is named, and build or keep it again"),
            E::Pool(_) | E::Io(_) => Self::new(Kind::Other, error),
        }
    }
}

/// Whether the importer found something wrong with what it unpacked.
fn is_about_the_archive(error: &sandbox::Error) -> bool {
    const KINDS: [&str; 3] = ["archive-changed", "archive-refused", "archive-damaged"];
    matches!(error, sandbox::Error::Task { failure, .. } if KINDS.contains(&failure.kind.as_str()))
}
