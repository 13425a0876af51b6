//! Kinds and hints of what keeps a state from being built.

use crate::recipe::kernel::error::KernelError;
use crate::{config, context, recipe, sandbox};

use crate::cli::report::{Failure, Kind};
use crate::cli::screen::Shown as _;

impl From<recipe::Error> for Failure {
    fn from(error: recipe::Error) -> Self {
        use recipe::Error as E;
        match error {
            E::Context(error) => error.into(),
            E::Config(error) => error.into(),
            E::Trees(error) => error.into(),
            E::Names(error) => error.into(),
            E::Session(error) => error.into(),
            E::Kernel(error) => error.into(),
            E::Untrusted(error) => error.into(),
            E::Refused { findings } => config::Error::Invalid(findings).into(),
            E::DoesNotApply(misfit) => {
                let hints = [
                    format!("the whole output is in {}", misfit.log.shown()),
                    format!("move it to the version that is built now with `gentoomuch patch refresh {}`", misfit.name),
                ];
                let lines = misfit.last_lines.clone();
                lines.into_iter().fold(Self::new(Kind::Config, *misfit), Self::detail).hints(hints.to_vec())
            }
            E::Suspended(error) => suspended(*error),
            E::NoPortageProfile { .. } => Self::new(Kind::Config, error).hint("`profiles/profiles.desc` of the tree lists them"),
            E::Cpu { ref reasons, .. } => {
                let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                let failure = reasons.into_iter().fold(Self::new(Kind::Config, error), Self::detail);
                failure.hint("build it on a machine that has them, or choose another `cpu` for the definition")
            }
        }
    }
}

/// A build that has ended early and can go on.
fn suspended(error: recipe::Error) -> Failure {
    // Whoever was killed in the middle of an emerge has it failed.
    let died = matches!(error, recipe::Error::Context(context::Error::Sandbox(sandbox::Error::Died { .. })));
    let failure = Failure::from(error);
    let failure = if died { failure.of_kind(Kind::Emerge) } else { failure };
    failure.hint("the packages built so far are kept: repeat the command to go on where it stopped")
}

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
                        "{name} may be masked, or not in the tree: `gentoomuch resolve --stage gentoomuch/builder {atom}` says \
                         which"
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
            E::NoConfiguration => (Kind::Other, "nothing was written; see the logs".to_owned()),
        };
        Self::new(kind, error).hint(hint)
    }
}
