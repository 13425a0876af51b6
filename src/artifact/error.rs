//! Why an artifact is not made.

use std::path::{Path, PathBuf};

use super::ArtifactFormat;
use super::squashfs::SquashfsError;
use crate::causes::{by_way_of, lifted};
use crate::threads::NoThread;
use crate::{beneath, config, context, names, registry, sandbox, stage3, store};

/// An artifact that was not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store, the sandbox, files of ours; or the user has ended it.
    #[error(transparent)]
    Context(#[from] context::Error),
    #[error(transparent)]
    Names(names::Error),
    #[error(transparent)]
    Config(#[from] config::Error),
    /// A squashfs image that `mksquashfs` did not make.
    #[error(transparent)]
    Squashfs(#[from] SquashfsError),
    /// A document of an OCI image without a required field.
    #[error("cannot describe the image")]
    Oci(#[from] oci_spec::OciSpecError),
    /// There is a file where the artifact would go.
    #[error("`{}` already exists", path.display())]
    ArtifactExists {
        /// What is in the way.
        path: PathBuf,
    },
    /// An archive, or a layer of an image, could not be written.
    #[error("cannot make `{}`", path.display())]
    Making {
        path: PathBuf,
        #[source]
        source: Box<Self>,
    },
    /// No secret key for signing.
    #[error("cannot sign artifacts")]
    Sign(#[source] stage3::sign::SignError),
    /// A registry that the image goes to.
    #[error(transparent)]
    Registry(registry::Error),
    /// Something else than an image is in the place of one.
    #[error("`{address}` is no image, and nothing else is replaced")]
    NotAnImage { address: String },
    /// Only images are pushed.
    #[error("`{asked}` cannot be pushed to a registry, only an OCI image")]
    PushedForm { asked: ArtifactFormat },
    #[error("`{}` is an image in one file, which cannot be pushed", path.display())]
    PushedFile { path: PathBuf },
    /// A file that we have written is not there any more, or another one.
    #[error("the image `{}` is damaged", path.display())]
    BrokenLayout { path: PathBuf },
    /// The file's ending is not that of any form.
    #[error("`{}` cannot be the name of an artifact: no format has the ending `.{ending}`", path.display())]
    Ending { path: PathBuf, ending: String },
    /// The file's ending is not that of the form asked for.
    #[error("the name `{}` does not fit the format `{asked}` that you asked for", path.display())]
    OtherForm {
        path: PathBuf,
        /// The form asked for.
        asked: ArtifactFormat,
    },
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

by_way_of!(Error::Context: store::Error, sandbox::Error, crate::path_error::PathError, beneath::Error, NoThread);
lifted!(Error::Names: names { Context });

impl From<registry::Error> for Error {
    fn from(error: registry::Error) -> Self {
        match error {
            // What has arrived is there already the next time.
            registry::Error::Interrupted => context::Error::Interrupted { resumable: true }.into(),
            registry::Error::Io(error) => error.into(),
            error => Self::Registry(error),
        }
    }
}

impl Error {
    /// Wraps an error of writing `path`, unless it is an interruption.
    pub(crate) fn making(path: &Path) -> impl FnOnce(Self) -> Self {
        move |source| {
            if source.is_interrupted() { source } else { Self::Making { path: path.to_owned(), source: Box::new(source) } }
        }
    }

    /// Whether the user interrupted it.
    pub(crate) fn is_interrupted(&self) -> bool {
        matches!(self, Self::Context(context::Error::Interrupted { .. }))
    }
}
