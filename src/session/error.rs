//! What can go wrong in a session.

use std::path::PathBuf;

use crate::causes::{by_way_of, lifted};
use crate::fetch::Missing;
use crate::portage::emerge::Failure;
use crate::threads::NoThread;
use crate::{beneath, config, context, fetch, sandbox, store, trees};

/// Something in a session failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Errors of the store, the sandbox and our files, and the user's interruption.
    #[error(transparent)]
    Context(#[from] context::Error),
    #[error(transparent)]
    Trees(trees::Error),
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Hooks(#[from] config::hooks::HooksError),
    /// Portage's output is not an answer to our questions.
    #[error("cannot read Portage's answer")]
    NoAnswer(#[from] crate::query::Error),
    /// We cannot find out which compiler would build a package.
    #[error("the root in which packages would be built has no working C compiler")]
    NoCompiler,
    #[error(transparent)]
    Binpkgs(#[from] crate::portage::binpkgs::Error),
    /// The broker cannot work.
    #[error(transparent)]
    Fetch(#[from] fetch::Error),
    /// A request that cannot be made to emerge.
    #[error(transparent)]
    Request(#[from] crate::portage::emerge::request::Error),
    /// emerge's output could not be kept.
    #[error(transparent)]
    Output(#[from] crate::portage::emerge::output::Error),
    #[error("emerge failed{}", package_and_phase(failure))]
    Emerge {
        /// As its output says.
        failure: Box<Failure>,
        /// Its whole output, on the host.
        log: PathBuf,
        /// The session was kept. Repeating the command goes on from here.
        resumable: bool,
        /// How `shell --failed` calls that session, if a package has failed in it.
        enter: Option<String>,
    },
    /// emerge ended with 0, but not everything that it was asked for is there.
    #[error("emerge succeeded, but `{what}` is not as requested")]
    Unmet {
        what: String,
        unmet: Vec<crate::query::fulfilled::Unmet>,
        /// emerge's whole output, on the host.
        log: PathBuf,
    },
    /// We could not find out whether it is there.
    #[error("cannot tell whether `{what}` is as requested")]
    Unchecked {
        what: String,
        #[source]
        source: crate::query::Error,
    },
    /// Downloads are switched off, and some files are not here.
    #[error("{}, and downloads are switched off", missing_words(missing))]
    Missing { missing: Vec<Missing> },
    /// One of our commands in a session failed.
    #[error("`{command}` failed in the session: {exit}")]
    Command {
        command: String,
        exit: sandbox::Exit,
        /// Its whole output, on the host.
        log: PathBuf,
        /// Of its output, safe to print.
        last_lines: Vec<String>,
    },
    /// Portage refused a package.
    #[error("cannot trust `{package}`")]
    Untrusted {
        /// The host's name, and the package's path there.
        package: String,
        #[source]
        why: crate::portage::emerge::Distrust,
        log: PathBuf,
    },
    /// The broker refused a package.
    #[error("cannot trust `{package}`")]
    Refused {
        /// The host's name, and the package's path there.
        package: String,
        #[source]
        why: Box<crate::portage::binpkgs::gpkg::Refusal>,
        log: PathBuf,
    },
    /// There is no key to verify packages with.
    #[error("`binrepos.conf` names a binhost, but no key here is trusted for binary packages")]
    NoKeys,
    /// The configuration's keys cannot be read.
    #[error(transparent)]
    Keys(#[from] crate::stage3::keys::KeysError),
    /// The root has no gpg.
    #[error("cannot make a keyring in the session")]
    Keyring(#[source] Box<Self>),
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

by_way_of!(Error::Context: store::Error, sandbox::Error, crate::path_error::PathError, beneath::Error, NoThread);
lifted!(Error::Trees: trees { Context, Config });

impl Error {
    pub(crate) fn is_interrupted(&self) -> bool {
        matches!(self, Self::Context(context::Error::Interrupted { .. }))
    }
}

/// For one file the words of Portage's own failure; for several their number.
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
