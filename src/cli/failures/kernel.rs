//! Kinds and hints of what keeps a kernel configuration from being made.

use crate::kernel;

use crate::cli::report::{Failure, Kind};

impl From<kernel::Error> for Failure {
    fn from(error: kernel::Error) -> Self {
        use kernel::Error as E;
        let (kind, hint) = match error {
            E::Context(error) => return error.into(),
            E::Config(error) => return error.into(),
            E::Trees(error) => return error.into(),
            E::Names(error) => return error.into(),
            E::Session(error) => return error.into(),
            E::Recipe(error) => return error.into(),
            E::Resolve(error) => return error.into(),
            E::NoTerminal { .. } => {
                (Kind::Usage, "run it in a terminal, or use `--target olddefconfig`, `defconfig` or `tinyconfig`".to_owned())
            }
            E::Target { ref target, .. } if target.ends_with("config") && target.len() <= "menuconfig".len() => {
                (Kind::Other, "the menus need `sys-libs/ncurses` in the builder; nothing was written".to_owned())
            }
            E::Target { .. } => {
                (Kind::Other, "check the sources with `gentoomuch kernel prep NAME --target olddefconfig`".to_owned())
            }
            E::NothingSaved => (Kind::Usage, "choose Save before leaving the menus; nothing was written".to_owned()),
            E::OldLayout { ref name, .. } => (
                Kind::Config,
                format!(
                    "another file chooses the sources: move the configuration to `kernel.configs/{name}.kconf`, and remove the \
                     old file"
                ),
            ),
        };
        Self::new(kind, error).hint(hint)
    }
}
