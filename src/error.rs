//! What can go wrong while building, each with what was being done.

use std::path::PathBuf;

use crate::causes::{by_way_of, lifted};
use crate::portage::emerge::resolution::Problem;
use crate::recipe::patches::rehearse::PatchMisfit;
use crate::threads::NoThread;
use crate::{artifact, beneath, binhost, config, context, durable, names, sandbox, session, store, trees};

/// A build that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store, the sandbox, files of ours; or the user has ended it.
    #[error(transparent)]
    Context(#[from] context::Error),
    /// Ebuild trees.
    #[error(transparent)]
    Trees(trees::Error),
    /// Names of states and profiles.
    #[error(transparent)]
    Names(names::Error),
    /// A session.
    #[error(transparent)]
    Session(session::Error),
    /// An artifact.
    #[error(transparent)]
    Artifact(artifact::Error),
    /// A binary package host of ours.
    #[error(transparent)]
    Binhost(binhost::Error),
    /// A stage3 that cannot be trusted.
    #[error(transparent)]
    Untrusted(#[from] crate::stage3::VerifyError),
    /// The configuration directory.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The configuration lacks something, and it is known what.
    #[error("the configuration of `{stage}` has to change first")]
    Unconfigured {
        /// The stage.
        stage: String,
        /// How `resolve` is told of it.
        arguments: String,
        /// What has to change.
        resolved: Box<crate::resolve::Resolved>,
        /// emerge's whole output, on the host.
        log: PathBuf,
    },
    /// Portage does not know, or does not allow, something that is about to be built.
    #[error("{findings}")]
    Refused {
        /// What is said of the configuration; errors are among it.
        findings: config::Diagnostics,
        /// How `resolve` is told of the stage, and what has to change, if that is known.
        proposal: Option<(String, Box<crate::resolve::Resolved>)>,
    },
    /// No change of the configuration would help.
    #[error("Portage cannot resolve `{target}`")]
    Unresolvable {
        /// A stage, or atoms.
        target: String,
        /// What is in the way.
        problems: Vec<Problem>,
        /// What was needed at the same time and cannot be.
        contradiction: Option<String>,
        /// The end of emerge's output, safe to print.
        last_lines: Vec<String>,
        /// emerge's whole output, on the host.
        log: PathBuf,
    },
    /// An experiment that cannot begin.
    #[error(transparent)]
    Experiment(#[from] crate::try_it::ExperimentError),
    /// A patch, or its work set.
    #[error(transparent)]
    Patch(#[from] crate::patch::error::PatchError),
    /// A saved patch that cannot be applied, found before anything was built.
    #[error(transparent)]
    DoesNotApply(Box<PatchMisfit>),
    /// Files that cannot be copied out of a build state.
    #[error(transparent)]
    Copy(#[from] crate::history::cp::CopyError),
    /// What is not done with a name.
    #[error(transparent)]
    History(#[from] crate::history::log::HistoryError),
    /// A needed change that cannot be placed.
    #[error(transparent)]
    Proposal(#[from] config::proposal::Error),
    /// A build that has ended early, whose session was kept: repeating the command goes on from here.
    #[error(transparent)]
    Suspended(Box<Error>),
    /// A profile whose builder was never built.
    #[error("profile `{profile}` has no builder")]
    NoBuilder {
        /// The profile.
        profile: String,
    },
    /// Its stage3 has been replaced, so that the builder is not one of it any more.
    #[error("the builder of profile `{profile}` was built from another stage3 than the profile has now")]
    OtherStage3 {
        /// The profile.
        profile: String,
    },
    /// A profile that is not removed, since something depends on it.
    #[error("profile `{profile}` is in use")]
    ProfileInUse {
        /// The profile.
        profile: String,
        /// What uses it, in words.
        by: Vec<String>,
        /// Whether the user may remove it nevertheless.
        may_force: bool,
    },
    /// A new name that is taken.
    #[error("there is a profile `{profile}` already")]
    ProfileExists {
        /// The name.
        profile: String,
    },
    /// A Portage profile that the tree does not have.
    #[error("{place}: `{profile}` is not a Portage profile of the tree `{tree}`")]
    NoPortageProfile {
        /// Where it is asked for.
        place: config::Place,
        /// As in `portage.profile`.
        profile: String,
        /// Name of the repository.
        tree: String,
    },
    /// Settings that this processor cannot execute.
    #[error("this processor cannot run what `{definition}` would build")]
    Cpu {
        /// The stage3 definition.
        definition: String,
        /// Each reason, with its place.
        reasons: Vec<config::cpu::Reason>,
    },
    /// A graph of stages.
    #[error(transparent)]
    Pipeline(#[from] crate::pipeline::PipelineError),
    /// A kernel that cannot be made.
    #[error(transparent)]
    Kernel(#[from] crate::recipe::kernel::error::KernelError),
    /// A kept session's name is taken.
    #[error("`{name}` is already kept")]
    KeptExists {
        /// The name.
        name: String,
    },
    /// No such kept state.
    #[error("nothing is kept as `{name}`")]
    NoKept {
        /// The name.
        name: String,
        /// What is.
        known: Vec<String>,
    },
}

/// What this module returns.
pub type Result<T> = std::result::Result<T, Error>;

by_way_of!(Error::Session: config::hooks::HooksError, crate::portage::binpkgs::Error, crate::portage::emerge::request::Error);
by_way_of!(Error::Trees: crate::portage::repository::RepositoryError);
by_way_of!(Error::Context: store::Error, sandbox::Error, crate::path_error::PathError, beneath::Error, NoThread);

lifted!(Error::Trees: trees { Context, Config });
lifted!(Error::Names: names { Context });
lifted!(Error::Session: session { Context, Config, Trees });
lifted!(Error::Artifact: artifact { Context, Config, Names });
lifted!(Error::Binhost: binhost { Context, Config, Names });

impl Error {
    /// Whether the user has ended it.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Self::Context(context::Error::Interrupted { .. }))
    }
}
