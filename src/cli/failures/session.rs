//! Kinds and hints of a session in which something has failed.

use crate::fetch::Missing;
use crate::portage::emerge::{Distrust, Failure as EmergeFailure, FailureKind};
use crate::session;

use crate::cli::report::{Failure, Kind};
use crate::cli::screen::Shown as _;
use crate::cli::table::human_bytes;

impl From<session::Error> for Failure {
    fn from(error: session::Error) -> Self {
        use session::Error as E;
        match error {
            E::Context(error) => error.into(),
            E::Config(error) => error.into(),
            E::Trees(error) => error.into(),
            E::Missing { ref missing } => {
                let file =
                    |missing: &Missing| format!("{}  {}  {}", missing.name, human_bytes(missing.bytes), missing.packages.join(" "));
                let lines: Vec<String> = missing.iter().map(file).collect();
                lines.into_iter().fold(Self::new(Kind::Emerge, error), Self::detail).hint("repeat the command without `--offline`")
            }
            E::Emerge { failure, log, resumable, enter } => emerge(&failure, &log.shown(), resumable, enter.as_deref()),
            E::Unmet { ref unmet, ref log, .. } => {
                let (log, lines) = (log.shown(), unmet.iter().map(ToString::to_string).collect::<Vec<_>>());
                let failure = lines.into_iter().fold(Self::new(Kind::Emerge, error), Self::detail);
                failure
                    .hint("look for a hook, script or `bashrc` that changes emerge's options, environment or database")
                    .hint(format!("the whole output is in {log}"))
            }
            E::Unchecked { .. } => Self::new(Kind::Emerge, error),
            E::Command { ref log, ref last_lines, .. } => {
                let (log, last_lines) = (log.shown(), last_lines.clone());
                let failure = last_lines.into_iter().fold(Self::new(Kind::Other, error), Self::detail);
                failure.hint(format!("the whole output is in {log}")).hint("correct the cause and repeat the command")
            }
            E::NoCompiler => Self::new(Kind::Config, error).hint(
                "the stage3 must have gcc or clang; name another compiler with `CC` in \
                    make.conf",
            ),
            E::Untrusted { ref log, ref why, .. } => {
                let log = format!("the whole output is in {}", log.shown());
                let hint = match why {
                    Distrust::UnknownKey => "if that key is right, import it with `gentoomuch keys import --for binpkg FILE`",
                    Distrust::Expired => "import a newer copy of the key with `gentoomuch keys import FILE`",
                    _ => "it was not installed; ask the owner of the binhost, or remove the binhost from `binrepos.conf`",
                };
                Self::new(Kind::Verification, error).hint(hint).hint(log)
            }
            E::Refused { ref log, ref why, .. } => {
                let (hint, log) = (why.hint(), log.shown());
                Self::new(Kind::Verification, error).hint(hint).hint(format!("the whole output is in {log}"))
            }
            E::NoKeys => {
                Self::new(Kind::Config, error).hint("import the host's key with `gentoomuch keys import --for binpkg FILE`")
            }
            E::Hooks(_) | E::Keys(_) => Self::new(Kind::Config, error),
            E::Keyring(_) => Self::new(Kind::Other, error).hint(
                "the stage3 needs `app-crypt/gnupg` to verify packages of a \
                binhost",
            ),
            E::NoAnswer(_) => Self::new(Kind::Other, error).hint("see whether `gentoomuch freshroot -- emerge --info` works"),
            E::Binpkgs(_) | E::Fetch(_) | E::Request(_) | E::Output(_) => Self::new(Kind::Other, error),
        }
    }
}

fn emerge(failure: &EmergeFailure, log: &str, resumable: bool, enter: Option<&str>) -> Failure {
    let mut shown = Failure::new(Kind::Emerge, failure.to_string());
    // What emerge says about dependencies is the end of its output, too, and holds its proposals.
    let lines = if failure.explanation.is_empty() { &failure.last_lines } else { &failure.explanation };
    for line in lines {
        shown = shown.detail(line.clone());
    }
    if failure.kind == FailureKind::SandboxViolation {
        shown =
            shown.hint("this is a bug of the package; until it is fixed, a file of `env/` with `SANDBOX_WRITE`, or a patch, helps");
    }
    shown = shown.hint(format!("the whole output is in {log}"));
    if let Some(what) = enter {
        shown = shown.hint(format!("look at it where it failed with `gentoomuch shell --failed {what}`"));
    }
    if resumable { shown.hint("correct the cause and repeat the command to go on where it stopped") } else { shown }
}
