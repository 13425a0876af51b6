//! What can go wrong in a session.

use std::path::PathBuf;

use crate::causes::{by_way_of, lifted};
use crate::fetch::Missing;
use crate::portage::emerge::Failure;
use crate::threads::NoThread;
use crate::{beneath, config, context, fetch, sandbox, store, trees};

/// A session in which something has failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store, the sandbox, files of ours; or the user has ended it.
    #[error(transparent)]
    Context(#[from] context::Error),
    #[error(transparent)]
    Trees(trees::Error),
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Hooks(#[from] config::hooks::HooksError),
    /// What Portage says is not what was asked.
    #[error("cannot read what Portage says")]
    NoAnswer(#[from] crate::query::Error),
    /// Nothing says which compiler would build a package.
    #[error("no C compiler answers in the root in which `{package}` would be built")]
    NoCompiler { package: String },
    #[error(transparent)]
    Binpkgs(#[from] crate::portage::binpkgs::Error),
    /// Nothing can be brought for a session.
    #[error(transparent)]
    Fetch(#[from] fetch::Error),
    /// A request to emerge that cannot be made.
    #[error(transparent)]
    Request(#[from] crate::portage::emerge::request::Error),
    /// emerge's output could not be kept.
    #[error(transparent)]
    Output(#[from] crate::portage::emerge::output::Error),
    /// emerge failed.
    #[error("emerge failed{}", package_and_phase(failure))]
    Emerge {
        /// What its output says.
        failure: Box<Failure>,
        /// Its whole output, on the host.
        log: PathBuf,
        /// The session that was kept, so that the command can be repeated to go on.
        resumable: bool,
    },
    /// emerge ended well, and what it was asked for is not there.
    #[error("emerge ended well, and `{what}` is not what was asked for")]
    Unmet {
        what: String,
        unmet: Vec<crate::query::fulfilled::Unmet>,
        /// emerge's whole output, on the host.
        log: PathBuf,
    },
    /// Whether it is there could not be found out.
    #[error("cannot tell whether `{what}` is what was asked for")]
    Unchecked {
        what: String,
        #[source]
        source: crate::query::Error,
    },
    /// Downloads are switched off, and something is not here.
    #[error("{}, and downloads are switched off", missing_words(missing))]
    Missing {
        /// All that is not here.
        missing: Vec<Missing>,
    },
    /// A command of ours in a session failed.
    #[error("`{command}` failed in the session: {exit}")]
    Command {
        command: String,
        exit: sandbox::Exit,
        /// Its whole output, on the host.
        log: PathBuf,
        /// The last lines of it, safe to print.
        last_lines: Vec<String>,
    },
    /// A package that Portage refused.
    #[error("cannot trust `{package}`")]
    Untrusted {
        /// The host's name, and the package's path there.
        package: String,
        #[source]
        why: crate::portage::emerge::Distrust,
        log: PathBuf,
    },
    /// No key to verify with.
    #[error("`binrepos.conf` names a binhost, and no key that is here counts for binary packages")]
    NoKeys,
    /// The keys of the configuration.
    #[error(transparent)]
    Keys(#[from] crate::stage3::keys::KeysError),
    /// A root without gpg.
    #[error("cannot make a keyring in the session")]
    Keyring(#[source] Box<Self>),
}

/// What functions of this room return.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

by_way_of!(Error::Context: store::Error, sandbox::Error, crate::path_error::PathError, beneath::Error, NoThread);
lifted!(Error::Trees: trees { Context, Config });

impl Error {
    /// Whether the user has ended it.
    pub(crate) fn is_interrupted(&self) -> bool {
        matches!(self, Self::Context(context::Error::Interrupted { .. }))
    }
}

/// One file as Portage's own failure reads, several by their number.
fn missing_words(missing: &[Missing]) -> String {
    match missing {
        [one] if !one.packages.is_empty() => format!("cannot fetch `{}` for `{}`", one.name, one.packages.join("`, `")),
        [one] => format!("cannot fetch `{}`", one.name),
        all => format!("cannot fetch {} files", all.len()),
    }
}

fn package_and_phase(failure: &Failure) -> String {
    match (&failure.package, &failure.phase) {
        (Some(package), Some(phase)) => format!(": `{package}`, {phase} phase"),
        (Some(package), None) => format!(": `{package}`"),
        _ => String::new(),
    }
}
