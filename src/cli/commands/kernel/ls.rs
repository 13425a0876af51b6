//! `gentoomuch kernel ls`

use std::process::ExitCode;

use crate::kernel::rows;
use crate::kernel::rows::KernelRow;

use crate::cli::commands::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::opened::Opened;
use crate::cli::table::{Table, human_bytes, print, print_json};

/// List kernel configurations, kernels, and the stage4s that use them
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  gentoomuch kernel ls --json")]
pub(super) struct Args {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(super) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let config = invocation.config()?;
    let opened = Opened::open(invocation)?;
    let rows = rows::kernel_rows(&opened.context(None), &config)?;
    if args.json {
        print_json(&rows)?;
    } else {
        print(render(&rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn render(rows: &[KernelRow]) -> String {
    if rows.is_empty() {
        return "no kernel configurations; `gentoomuch kernel prep NAME` makes one\n".to_owned();
    }
    let mut table = Table::new(&["NAME", "SOURCES", ">BUILT IN", ">MODULES", "KERNEL", "PROFILE", ">SIZE", "STAGE4S"]);
    for row in rows {
        let sources = row.version.as_ref().map_or_else(|| row.sources.clone(), |version| format!("{}-{version}", row.sources));
        let own = [row.name.clone(), sources, row.built_in.to_string(), row.modules.to_string()];
        let stages = row.stages.join(", ");
        if row.built.is_empty() {
            table.row(own.into_iter().chain(["not built".to_owned(), String::new(), String::new(), stages]));
            continue;
        }
        for (index, built) in row.built.iter().enumerate() {
            let own = if index == 0 { own.clone() } else { std::array::from_fn(|_| String::new()) };
            let release = if built.current { built.release.clone() } else { format!("{} (changed since)", built.release) };
            let stages = if index == 0 { stages.clone() } else { String::new() };
            table.row(own.into_iter().chain([release, built.profile.clone(), human_bytes(built.size_bytes), stages]));
        }
    }
    table.render()
}
