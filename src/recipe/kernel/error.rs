//! Why a kernel cannot be made, apart from compiler errors.

use crate::config::Place;

#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Portage would install nothing for the atom.
    #[error("{}no package matches the kernel sources `{atom}`", place.as_ref().map(|place| format!("{place}: \
        ")).unwrap_or_default())]
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
    #[error("`{package}` is a kernel that was built elsewhere, so it cannot have a configuration")]
    Prebuilt {
        /// Category, name and version.
        package: String,
    },
    /// An initramfs is wanted, and nothing can make it.
    #[error("cannot make the initramfs of `{kernel}`: the builder has no dracut")]
    NoDracut { kernel: String },
    /// A configuration larger than any kernel's.
    #[error("the file that `make` wrote is not a kernel configuration")]
    NoConfiguration,
}
