//! What can go wrong while building, each with what was being done.

use std::io;
use std::path::PathBuf;

use crate::config::Place;
use crate::fetch::Missing;
use crate::portage::emerge::Failure;
use crate::portage::emerge::resolution::Problem;
use crate::recipe::patches::rehearse::PatchMisfit;
use crate::{archive, config, download, fetch, sandbox, stage3, store};

/// A build that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration directory.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Namespaces, mounts, the helper.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// A stage3 or a tree snapshot that cannot be trusted.
    #[error(transparent)]
    Untrusted(#[from] stage3::VerifyError),
    /// A download.
    #[error(transparent)]
    Download(#[from] download::Error),
    /// Hooks of the configuration.
    #[error(transparent)]
    Hooks(#[from] config::hooks::HooksError),
    /// What Portage says of packages is not what was asked.
    #[error("cannot read what Portage says of packages")]
    Described {
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// Nothing says which compiler would build a package.
    #[error("no C compiler answers in the root in which `{package}` would be built")]
    NoCompiler {
        /// The first package.
        package: String,
    },
    /// A tarball that cannot be unpacked.
    #[error("cannot unpack `{}`", path.display())]
    Unpack {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: archive::Error,
    },
    /// Files of ours, outside of the store.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// `create`, `read`, `write`, …
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Binary packages.
    #[error(transparent)]
    Binpkgs(#[from] crate::portage::binpkgs::Error),
    /// A binary package host, ours or another's.
    #[error(transparent)]
    Binhost(#[from] crate::session::binhost::BinhostError),
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
        /// Which run.
        what: String,
        /// What is otherwise.
        unmet: Vec<crate::session::fulfilled::Unmet>,
        /// emerge's whole output, on the host.
        log: PathBuf,
    },
    /// Whether it is there could not be found out.
    #[error("cannot tell whether `{what}` is what was asked for")]
    Unchecked {
        /// Which run.
        what: String,
        /// Why.
        #[source]
        source: crate::session::fulfilled::AnswerError,
    },
    /// Downloads are switched off, and something is not here.
    #[error("{}, and downloads are switched off", missing_words(missing))]
    Missing {
        /// All that is not here.
        missing: Vec<Missing>,
    },
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
    /// A name of a build state that there is none of.
    #[error(transparent)]
    Naming(#[from] crate::names::named::NamingError),
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
    /// A squashfs image that `mksquashfs` did not make.
    #[error(transparent)]
    Squashfs(#[from] crate::artifact::squashfs::SquashfsError),
    /// A document of an OCI image that lacks something.
    #[error("cannot describe the image")]
    Oci(#[from] oci_spec::OciSpecError),
    /// What is not done with a name.
    #[error(transparent)]
    History(#[from] crate::history::log::HistoryError),
    /// An archive or a layer of an image that cannot be written.
    #[error("cannot make `{}`", path.display())]
    Making {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<Error>,
    },
    /// An artifact cannot be called so.
    #[error(transparent)]
    Export(#[from] crate::artifact::of_state::ExportError),
    /// An artifact would overwrite something.
    #[error("`{}` is there already", path.display())]
    ArtifactExists {
        /// What is in the way.
        path: PathBuf,
    },
    /// A needed change that cannot be placed.
    #[error(transparent)]
    Proposal(#[from] config::proposal::Error),
    /// A command of ours in a session failed.
    #[error("`{command}` failed in the session: {exit}")]
    Command {
        /// Program and arguments.
        command: String,
        /// How it ended.
        exit: sandbox::Exit,
        /// Its whole output, on the host.
        log: PathBuf,
        /// The last lines of it, safe to print.
        last_lines: Vec<String>,
    },
    /// Ctrl-C or SIGTERM.
    #[error("interrupted")]
    Interrupted {
        /// Whether repeating the command goes on from here.
        resumable: bool,
    },
    /// A build that has ended early, whose session was kept: repeating the command goes on from here.
    #[error(transparent)]
    Suspended(Box<Error>),
    /// No thread can be started.
    #[error(transparent)]
    Thread(#[from] crate::threads::NoThread),
    /// A profile that was never bootstrapped.
    #[error("profile `{profile}` is not bootstrapped")]
    NoProfile {
        /// Its name.
        profile: String,
        /// Those that are.
        known: Vec<String>,
        /// Where the configuration names it, if it does.
        named_in: Option<Place>,
    },
    /// A position in a profile's history that it does not have.
    #[error("profile `{profile}` has no state {index}")]
    NoProfileState {
        /// The profile.
        profile: String,
        /// As asked for; 0 is the present state.
        index: usize,
        /// How many there are, the present one included.
        kept: usize,
    },
    /// A state of a profile of which something was removed from the store.
    #[error("the state `{name}` is not in the store any more")]
    StateGone {
        /// `PROFILE@{N}`.
        name: String,
        /// What is missing: the state itself, or a layer of it.
        #[source]
        source: store::Error,
    },
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
    /// No profile was named, and none is set.
    #[error("no profile given, and none is set")]
    NoDefaultProfile,
    /// Ebuild trees.
    #[error(transparent)]
    Tree(#[from] crate::trees::error::TreeError),
    /// No tree snapshot.
    #[error("no ebuild tree in the store")]
    NoTree,
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
    /// A directory or archive that is not an ebuild repository.
    #[error("`{}` is not an ebuild repository: {problem}", path.display())]
    NotATree {
        /// What was given.
        path: PathBuf,
        /// What is missing.
        problem: &'static str,
    },
    /// Settings that this processor cannot execute.
    #[error("this processor cannot run what `{definition}` would build")]
    Cpu {
        /// The stage3 definition.
        definition: String,
        /// Each reason, with its place.
        reasons: Vec<config::cpu::Reason>,
    },
    /// An ebuild repository of the store, or a Portage profile in it.
    #[error(transparent)]
    Repository(#[from] crate::portage::repository::RepositoryError),
    /// A file of a root.
    #[error(transparent)]
    RootFile(#[from] crate::portage::untrusted::Error),
    /// No secret key for signing.
    #[error("cannot sign artifacts")]
    Sign(#[source] stage3::sign::SignError),
    /// A name that cannot be used.
    #[error("`{name}` cannot be used as a name for {what}")]
    Name {
        /// What was given.
        name: String,
        /// What for.
        what: &'static str,
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

impl From<crate::path_error::PathError> for Error {
    fn from(error: crate::path_error::PathError) -> Self {
        Self::Io { action: error.doing, path: error.path, source: error.source }
    }
}

impl Error {
    /// Wraps an I/O error with the file it is about.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

impl Error {
    /// Wraps what went wrong while `path` was written, unless the user has ended it.
    pub(crate) fn making(path: &std::path::Path) -> impl FnOnce(Self) -> Self {
        move |source| match source {
            Self::Interrupted { .. } => source,
            source => Self::Making { path: path.to_owned(), source: Box::new(source) },
        }
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
