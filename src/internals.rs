//! Private functions for the tests, benchmarks and fuzzers outside of the crate, under the same names as inside.
//!
//! Only with the feature `internals`, and without any promise of stability.

pub mod archive {
    pub use crate::archive::exclude::Excludes;
    pub use crate::archive::pack::{PackOptions, View, pack};
    pub use crate::archive::unpack::Limits;
    pub use crate::archive::{Error, Format, OwnerNames, Owners, UnpackOptions, Unpacked, unpack};
    pub mod decode {
        pub use crate::archive::decode::open_file;
    }
    pub mod digest {
        pub use crate::archive::digest::Algorithm;
    }
    pub mod name {
        pub use crate::archive::name::normalise;
    }
    pub mod tasks {
        pub use crate::archive::tasks::{ExportInput, Exported, ImportInput, export, import};
    }
}
pub mod artifact {
    pub mod exclusions {
        pub use crate::artifact::exclusions::DEFAULT;
    }
}
pub mod beneath {
    pub use crate::beneath::Way;
}
pub mod config {
    pub use crate::config::env::pin_line;
    pub use crate::config::{ConfigDir, OciConfig, PathPattern, PortageDir, with_kernel_header, write_pin};
    pub mod kconfig {
        pub use crate::config::kconfig::Symbols;
    }
}
pub mod context {
    pub use crate::context::{Context, Settings, Told};
}
pub mod download {
    pub use crate::download::{Downloaded, Downloader, Error, Proxies, Request, Settings, Url};
}
pub mod fetch {
    pub use crate::fetch::{
        AskMetadata, BinHost, Broker, Files, Metadata, Missing, Reason, SCRIPT, Shelves, Sources, Tree, Wanted, dictionary, listen,
    };
}
pub mod limits {
    pub use crate::limits::{Exceeded, Limits};
}
pub mod priority {
    pub use crate::priority::{IoClass, Priority};
}
pub mod origin {
    pub use crate::origin::{Kept, Origin, Recorded};
}
pub mod pipeline {
    pub use crate::pipeline::{Node, NodeKind, PipelineOptions, pipeline};
    pub mod run {
        pub use crate::pipeline::run::{NodeReport, Watcher};
    }
}
pub mod places {
    pub use crate::places::Places;
}
pub mod portage {
    pub mod atom {
        pub use crate::portage::atom::Atom;
    }
    pub mod binpkgs {
        pub use crate::portage::binpkgs::{Described, Index, PackageKey};
    }
    pub mod binrepos {
        pub use crate::portage::binrepos::{hosts, unverified};
    }
    pub mod emerge {
        pub mod failure {
            pub use crate::portage::emerge::failure::Evidence;
        }
        pub mod resolution {
            pub use crate::portage::emerge::resolution::Resolution;
            pub mod required_use {
                pub use crate::portage::emerge::resolution::required_use::{Expression, Flags};
            }
        }
    }
    pub mod make_conf {
        pub use crate::portage::make_conf::{Piece, Statement, parse, quote, unread_reference};
    }
    pub mod manifest {
        pub use crate::portage::manifest::source_archives;
    }
    pub mod package_files {
        pub use crate::portage::package_files::{LineFile, parse};
    }
    pub mod profile {
        pub use crate::portage::profile::PortageProfile;
    }
    pub mod src_uri {
        pub use crate::portage::src_uri::{Conditions, source_uris};
    }
    pub mod use_flags {
        pub use crate::portage::use_flags::{INCREMENTAL, Kind, Switch, is_single_valued, is_use_expand, kind, written_out};
    }
    pub mod variables {
        pub use crate::portage::variables::class_of;
    }
}
pub mod progress {
    pub use crate::progress::{Event, Silent};
}
pub mod query {
    pub use crate::query::{answers, request};
    pub mod audit {
        pub use crate::query::audit::Audit;
    }
    pub mod fulfilled {
        pub use crate::query::fulfilled::Fulfilled;
    }
    pub mod keys {
        pub use crate::query::keys::Keys;
    }
    pub mod names {
        pub use crate::query::names::Named;
    }
    pub mod versions {
        pub use crate::query::versions::{NotVisible, Version};
    }
    pub mod why {
        pub use crate::query::why::Why;
    }
}
pub mod registry {
    pub use crate::registry::{Access, Address, Blob, Error, Repository, Sources, open};
}
pub mod sandbox {
    pub use crate::sandbox::idmap::IdRange;
    pub use crate::sandbox::plan::MountCalls;
    pub use crate::sandbox::plan::{CommandLine, Plan, Step};
    pub use crate::sandbox::{
        Error, Exit, HelperSource, IdMap, Interrupt, Isolation, Launcher, Network, Proc, Result, Rung, Running, SessionOptions,
        Stdio, TaskContext, TaskFailure, TaskFn, TaskOptions,
    };
    pub use crate::sys::pty::TerminalSize;
    pub mod capabilities {
        pub use crate::sandbox::capabilities::kept_mask;
    }
    pub mod helper {
        pub use crate::sandbox::helper::enter_if_asked;
    }
    pub mod plan {
        pub use crate::sandbox::plan::Source;
    }
    pub mod terminal {
        pub use crate::sandbox::terminal::proxy;
    }
}
pub mod stage3 {
    pub mod publish {
        pub use crate::stage3::publish::FileDigests;
    }
}
pub mod store {
    pub use crate::store::{InMap, NewState, Purpose, Session, State, Store, Wait};
}
pub mod sys {
    pub mod fd {
        pub use crate::sys::fd::wait_readable;
    }
    pub mod landlock {
        pub use crate::sys::landlock::{SCOPES_ABI, abi};
    }
    pub mod mount {
        pub use crate::sys::mount::{Attributes, NewFileSystem, attach};
    }
}
pub mod terminal_text {
    pub use crate::terminal_text::{is_obeyed, sanitize};
}
