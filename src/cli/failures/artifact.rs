//! Kinds and hints of what keeps an artifact from being made.

use crate::artifact;
use crate::artifact::squashfs::SquashfsError;

use crate::cli::report::{Failure, Kind};
use crate::cli::screen::Shown as _;

impl From<artifact::Error> for Failure {
    fn from(error: artifact::Error) -> Self {
        use artifact::Error as E;
        match error {
            E::Context(error) => error.into(),
            E::Names(error) => error.into(),
            E::Config(error) => error.into(),
            E::Squashfs(ref squashfs) => {
                let (lines, hint) = match squashfs {
                    SquashfsError::NotInstalled => {
                        (Vec::new(), "install squashfs-tools (`sys-fs/squashfs-tools` on Gentoo), or choose another `--format`")
                    }
                    SquashfsError::Start(_) => (Vec::new(), "see whether `mksquashfs -version` works in a shell"),
                    SquashfsError::Failed { last_lines, .. } => {
                        (last_lines.clone(), "squashfs-tools 4.5 or later with zstd is needed: `mksquashfs -version`")
                    }
                };
                lines.into_iter().fold(Self::new(Kind::Other, error), Self::detail).hint(hint)
            }
            E::Making { path, source } => Self::from(*source).about(format!("cannot make `{}`", path.shown())),
            E::Ending { .. } => Self::new(Kind::Usage, error).hint(
                "artifacts end in .tar.xz, .tar.zst, .tar.gz, .tar, .oci, .squashfs or .sqfs; for a file with another name, give \
                 `--format`",
            ),
            E::OtherForm { .. } => Self::new(Kind::Usage, error).hint("leave out `--format`, or give the file another name"),
            E::ArtifactExists { .. } => Self::new(Kind::Usage, error).hint("move it away, or choose another name with `-o`"),
            E::Sign(ref sign) => {
                let (hint, lines) = (sign.hint(), sign.last_lines().to_vec());
                lines.into_iter().fold(Self::new(Kind::Signing, error), Self::detail).hints(hint.map(str::to_owned))
            }
            E::Oci(_) => Self::new(Kind::Other, error),
            E::Registry(error) => error.into(),
            E::NotAnImage { .. } => Self::new(Kind::Usage, error).hint("choose another tag: `--to oci://HOST/REPOSITORY:TAG`"),
            E::PushedForm { .. } => Self::new(Kind::Usage, error).hint("leave out `--format`, or leave out `--to`"),
            E::PushedFile { .. } => Self::new(Kind::Usage, error).hint("leave out `-o`, or name a directory that ends in `.oci`"),
            E::BrokenLayout { .. } => Self::new(Kind::Other, error).hint("remove it and export it again"),
        }
    }
}
