//! Orchestration: what each workflow does with the parts below it. Every workflow is a method of [`Engine`], in a file of its own.
//!
//! ```text
//! bootstrap    stage3 -> profile/NAME/upstream -> definition
//! definition   a stage3 definition on a profile's upstream state: the builder and every stage4's base
//! stage4       a stage4 definition on such a state -> artifact
//! pipeline     all stage4s with what they need, as a graph, side by side
//! profile      a profile as a whole: shown, updated, taken back, renamed, removed
//! freshroot    a throw-away session on the builder
//! configured   a throw-away session with a stage's configuration in place, to ask Portage
//! resolve      what the configuration lacks, asked of Portage round by round
//! explain      what is around a stage's configuration, for `config explain`
//! tree         an ebuild tree into the store
//! jobserver    one budget of make jobs for several sessions
//! engine       how commands and emerge are run in a session; work: what a session's root looks like
//! ```

mod artifact;
mod bootstrap;
mod configured;
mod consult;
mod definition;
mod engine;
mod error;
pub mod exclusions;
mod explain;
mod freshroot;
mod inspect;
mod jobserver;
pub mod key;
mod pipeline;
mod profile;
mod relink;
mod resolve;
mod script;
pub mod session;
mod stage4;
pub mod tasks;
mod tidy;
mod tree;
mod work;

pub use artifact::Artifact;
pub use bootstrap::{BootstrapOptions, Bootstrapped};
pub use definition::{BUILDER, Built};
pub use engine::{Engine, Settings};
pub use error::{Error, Result};
pub use explain::Around;
pub use freshroot::{Ended, FreshrootOptions};
pub use jobserver::JobServer;
pub use pipeline::{
    Drawing, Node, NodeKind, NodeReport, Outcome, Pipeline, PipelineError, PipelineOptions, Reason, Report as PipelineReport,
    Watcher,
};
pub use profile::{
    BuilderShown, Change, DefinitionShown, HistoryShown, Moved, PackageChange, ProfileRow, ProfileShown, RemovedProfile,
    RenamedProfile, RolledBack, Stage3Shown, TreeShown, UpdateOptions, UpdatedProfile,
};
pub use resolve::{PackageCount, ResolveOptions, Resolved};
pub use session::UserBind;
pub use stage4::{StageBuilt, StageOptions};
pub use tree::{SyncOptions, Synced};
