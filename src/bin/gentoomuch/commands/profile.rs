//! `gentoomuch profile ls|set`

use std::process::ExitCode;

use clap::Subcommand;

use super::Outcome;
use crate::context::Context;
use crate::shop::Shop;
use crate::table::Table;

/// Show bootstrapped profiles and choose the default one
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "Examples:\n  gentoomuch profile ls\n  gentoomuch profile set musl-hardened")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the bootstrapped profiles
    #[command(after_help = "Example:\n  gentoomuch profile ls --json")]
    Ls {
        /// Print the list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Choose the profile that commands use by default
    #[command(after_help = "Example:\n  gentoomuch profile set musl-hardened")]
    Set {
        /// A bootstrapped profile
        name: String,
    },
}

/// Runs it.
pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    let shop = Shop::open(context)?;
    let engine = shop.engine(None);
    match &args.command {
        Command::Set { name } => {
            engine.set_default_profile(name)?;
            crate::table::print(&format!("default profile  {name}\n"))?;
        }
        Command::Ls { json: true } => crate::table::print_json(&engine.profile_rows()?)?,
        Command::Ls { json: false } => {
            let rows = engine.profile_rows()?;
            if rows.is_empty() {
                crate::table::print("no profile is bootstrapped; make one with `gentoomuch bootstrap PROFILE STAGE3`\n")?;
                return Ok(ExitCode::SUCCESS);
            }
            let mut table = Table::new(&["PROFILE", "DEFAULT", "STAGE3", "BUILDER", "DEFINITIONS"]);
            for row in rows {
                table.row([
                    row.name,
                    if row.default { "yes".to_owned() } else { String::new() },
                    row.stage3.unwrap_or_else(|| "-".to_owned()),
                    row.builder.as_deref().map_or_else(|| "-".to_owned(), crate::table::short_time),
                    if row.definitions.is_empty() { "-".to_owned() } else { row.definitions.join(" ") },
                ]);
            }
            crate::table::print(&table.render())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
