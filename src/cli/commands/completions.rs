//! `gentoomuch completions SHELL`

use std::process::ExitCode;

use super::Outcome;

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  mkdir -p ~/.local/share/bash-completion/completions
  gentoomuch completions bash > ~/.local/share/bash-completion/completions/gentoomuch")]
pub(crate) struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

/// Prints the script on standard output.
pub(crate) fn run(args: &Args) -> Outcome {
    let mut script = Vec::new();
    crate::cli::complete::write_script(&args.shell.to_string(), &mut script)?;
    crate::cli::table::print(&*String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
