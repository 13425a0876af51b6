//! What keeps a kernel from being made, besides a compiler that fails.

use crate::config::Place;

/// A kernel that cannot be made, or not so.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Portage would install nothing for the atom.
    #[error("{}no package fits the kernel sources `{atom}`", place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default())]
    NoSources {
        atom: String,
        /// Where it is said, if anywhere.
        place: Option<Place>,
    },
    /// A package that has no sources.
    #[error("`{package}` installs no kernel sources")]
    NotSources {
        /// Category, name and version.
        package: String,
    },
    /// A package that is a kernel already and cannot be told how to be configured.
    #[error("`{package}` brings a kernel that was built elsewhere, and takes no configuration")]
    Prebuilt {
        /// Category, name and version.
        package: String,
    },
    /// An initramfs is wanted, and nothing can make it.
    #[error("the initramfs of `{kernel}` cannot be made: the builder has no dracut")]
    NoDracut { kernel: String },
    /// A configuration larger than any kernel's.
    #[error("what `make` has made is no kernel configuration")]
    NoConfiguration,
}
