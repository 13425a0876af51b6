//! `gentoomuch patch shell NAME [-- COMMAND]`

use std::process::ExitCode;

use crate::patch::attempt;
use crate::sandbox::Exit;

use super::super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::limits::LimitArgs;
use crate::cli::opened::Opened;

/// Open a shell where a package failed to build with a patch
///
/// It opens the session that `gentoomuch patch try` kept, in the source directory in which the package was built. Changes there do not
/// reach the work set or the patch. The exit code is that of the shell or the command; 125 means that gentoomuch itself failed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch patch shell quiet-hello
  gentoomuch patch shell quiet-hello -- make V=1")]
pub(super) struct Args {
    /// The patch
    name: String,
    #[command(flatten)]
    limits: LimitArgs,
    /// A command and its arguments [default: a login shell]
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let opened = Opened::for_sessions(invocation, args.limits)?;
    let exit = attempt::patch_shell(&opened.context(None), &args.name, &args.command, super::has_terminal())?;
    invocation.progress.clear();
    Ok(match exit {
        Exit::Code(code) => ExitCode::from(u8::try_from(code).unwrap_or(255)),
        Exit::Signal(signal) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(255)),
    })
}
