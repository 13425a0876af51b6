//! Kind and hints of what keeps a kernel from being made.

use gentoomuch::recipe::kernel::error::KernelError;

use crate::report::{Failure, Kind};

impl From<KernelError> for Failure {
    fn from(error: KernelError) -> Self {
        use KernelError as E;
        let (kind, hint) = match &error {
            E::NoSources { atom, place } => {
                let kind = if place.is_some() { Kind::Config } else { Kind::Usage };
                let name = atom.trim_start_matches(['=', '~', '<', '>']);
                (
                    kind,
                    format!(
                        "`gentoomuch resolve --stage gentoomuch/builder {atom}` says what keeps {name} out: it may be masked, or not in the tree"
                    ),
                )
            }
            E::NotSources { .. } => (
                Kind::Config,
                "name a package that installs `/usr/src/linux-VERSION`, such as `sys-kernel/gentoo-sources`".to_owned(),
            ),
            E::Prebuilt { .. } => (
                Kind::Config,
                "name sources, or a distribution kernel that has the flag `savedconfig`, such as `sys-kernel/gentoo-kernel`"
                    .to_owned(),
            ),
            E::NoDracut { kernel } => (
                Kind::Config,
                format!(
                    "add `sys-kernel/dracut` to the packages of `gentoomuch/builder`, or remove `kernel.configs/{kernel}.dracut`"
                ),
            ),
            E::NoTerminal { .. } => {
                (Kind::Usage, "without one there are `--target olddefconfig`, `defconfig` and `tinyconfig`".to_owned())
            }
            E::Target { target, .. } if target.ends_with("config") && target.len() <= "menuconfig".len() => {
                (Kind::Other, "the menus need `sys-libs/ncurses` in the builder; nothing was written".to_owned())
            }
            E::Target { .. } => {
                (Kind::Other, "`gentoomuch kernel prep NAME --target olddefconfig` tells whether the sources are usable".to_owned())
            }
            E::NothingSaved => (Kind::Usage, "choose Save before leaving the menus; nothing was written".to_owned()),
            E::NoConfiguration => (Kind::Other, "nothing was written; see the logs".to_owned()),
            E::OldLayout { name, .. } => (
                Kind::Config,
                format!(
                    "another file chooses the sources: move the configuration to `kernel.configs/{name}.kconf`, and remove that"
                ),
            ),
        };
        Self::new(kind, error).hint(hint)
    }
}
