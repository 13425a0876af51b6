//! Why a kernel cannot be made, apart from compiler errors.

use crate::config::Place;

#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Portage would install nothing for the atom.
    #[error("{}no package fits the kernel sources `{atom}`", place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default())]
    NoSources { atom: String, place: Option<Place> },
    /// The package installs no sources.
    #[error("`{package}` installs no kernel sources")]
    NotSources { package: String },
    /// The package is a compiled kernel and cannot be configured.
    #[error("`{package}` brings a kernel that was built elsewhere, and takes no configuration")]
    Prebuilt { package: String },
    /// An initramfs is wanted, but nothing can make it.
    #[error("the initramfs of `{kernel}` cannot be made: the builder has no dracut")]
    NoDracut { kernel: String },
    /// The file is larger than any kernel configuration.
    #[error("what `make` has made is no kernel configuration")]
    NoConfiguration,
}
