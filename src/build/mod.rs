//! Orchestration: what each workflow does with the parts below it. Every workflow is a method of [`Engine`], in a file of its own.
//!
//! ```text
//! bootstrap    stage3 -> profile/NAME/upstream -> definition
//! definition   a stage3 definition on a profile's upstream state: the builder and every stage4's base
//! stage4       a stage4 definition on such a state -> artifact
//! patch        the source of a package to change, and the change as a patch
//! kernel       a kernel for stage4s, made once from sources, configuration and toolchain
//! pipeline     all stage4s with what they need, as a graph, side by side
//! profile      a profile as a whole: shown, updated, taken back, renamed, removed
//! freshroot    a throw-away session on the builder, or on any build state (`shell`)
//! copy_out     files out of a build state (`cp`)
//! configured   a throw-away session with a stage's configuration in place, to ask Portage
//! resolve      what the configuration lacks, asked of Portage round by round
//! explain      what is around a stage's configuration, for `config explain`
//! binhost      a pool as a signed binary package host, and sessions that install from others
//! clean        what nothing needs any more, found, shown and removed
//! jobserver    one budget of make jobs for several sessions
//! experiment   packages with other settings, in throw-away sessions (`try`)
//! export       any build state as an artifact; artifact: its files; oci, squashfs: their forms
//! log          histories of names, going back in them, tags
//! compare      what two build states have differently (`diff`)
//! naming       what a user calls a build state: NAME, NAME@{N}, a tag, an id or its beginning
//! tree         ebuild trees into the store, and which of them a session mounts
//! visible      packages of which Portage takes no version
//! settle       what becomes of a session that has ended
//! engine       how commands and emerge are run in a session; work: what a session's root looks like
//! ```

mod artifact;
pub mod binhost;
mod bootstrap;
mod clean;
mod compare;
mod configured;
mod consult;
mod copy_out;
mod definition;
mod echo;
mod engine;
mod error;
pub mod exclusions;
mod experiment;
mod explain;
mod export;
mod freshroot;
mod fulfilled;
mod inspect;
mod jobserver;
mod kernel;
pub mod key;
mod keys;
mod log;
mod naming;
mod oci;
mod output;
mod patch;
mod pipeline;
mod profile;
mod put_back;
mod relink;
mod resolve;
mod script;
pub mod session;
mod settle;
mod squashfs;
mod stage4;
mod standing;
mod supply;
pub mod tasks;
mod tidy;
mod tree;
mod visible;
mod work;

pub use self::clean::{CleanItem, CleanKind, CleanOptions, CleanPlan, Forgotten};
pub use artifact::{Artifact, ImageLayers};
pub use binhost::{BinhostError, BinhostOptions, Exported};
pub use bootstrap::{BootstrapOptions, Bootstrapped};
pub use compare::{DiffOptions, FileChange, FileNode, PackageDiff, StateDiff};
pub use copy_out::{Copied, CopiedOut, CopyError, CopyOptions, CopyTo, Skipped};
pub use definition::{BUILDER, Built};
pub use engine::{Engine, Settings, Told};
pub use error::{Error, Result};
pub use experiment::{
    BuiltCombination, Differences, Experiment, ExperimentError, FailedCombination, Keep, Outcome, Tried, TryOptions, Variable,
    Watcher,
};
pub use explain::Around;
pub use export::{Destination, ExportError, ExportRequest, ExportedState};
pub use freshroot::{Ended, FreshrootOptions};
pub use fulfilled::{AnswerError as UnmetAnswerError, Unmet};
pub use jobserver::JobServer;
pub use kernel::{KernelBuilt, KernelError, KernelNews, KernelPrepared, KernelRow, NewSymbol, PrepOptions as KernelPrepOptions};
pub use log::{HistoryError, LogEntry, Rollback, Tag, WentBack};
pub use naming::{Named, NamingError, RefAt, TAGS};
pub use patch::{
    Attempt, AttemptCame, AttemptOptions, CompileOptions, CompileWatcher, Compiled, CompiledPatch, PatchError, PatchFate,
    PatchMisfit, PatchResult, PatchRow, PatchedPackage, PrepOptions, Prepared, RefreshOptions, Refreshed, RemovedPatch,
    SaveOptions, SavedAs, SavedFile, Span, Unpacked, WorkSet,
};
pub use pipeline::{
    Drawing, Node, NodeKind, NodeReport, Outcome as NodeOutcome, Pipeline, PipelineError, PipelineOptions, Reason,
    Report as PipelineReport, Watcher as PipelineWatcher,
};
pub use profile::{
    BuilderShown, Change, DefinitionShown, HistoryShown, Moved, PackageChange, ProfileRow, ProfileShown, RemovedProfile,
    RenamedProfile, RolledBack, Stage3Shown, TreeShown, UpdateOptions, UpdatedProfile,
};
pub use resolve::{PackageCount, ResolveOptions, Resolved};
pub use session::UserBind;
pub use squashfs::SquashfsError;
pub use stage4::{StageBuilt, StageOptions};
pub use tree::{Programs, RemovedTree, SyncFrom, SyncOptions, Synced, TreeChange, TreeDifference, TreeError, TreeListRow};
pub use visible::NotVisible;
