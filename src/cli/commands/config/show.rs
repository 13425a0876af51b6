//! `gentoomuch config show STAGE`

use std::path::Path;
use std::process::ExitCode;

use crate::config::{Effective, EffectiveFile, PortageDir, Stage};
use serde::Serialize;

use super::super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::screen::Shown as _;
use crate::cli::table;
use crate::cli::table::{Table, human_bytes};

/// Show the `/etc/portage` that a stage gets
///
/// It merges the fragments that the stage's stage3 definition names, as a build does; comments name the file that each part comes from.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch config show web
  gentoomuch config show web --tree
  gentoomuch config show stage3:gentoomuch/builder --json")]
pub(crate) struct Args {
    /// A stage4 or stage3 definition
    stage: String,
    #[arg(long, group = "form", help = "The files with their content [default]")]
    merged: bool,
    /// Only the list of files, with size and origin
    #[arg(long, group = "form")]
    tree: bool,
    /// Everything as JSON, each value with its places
    #[arg(long, group = "form")]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Shown<'a> {
    stage: &'a str,
    stage3: &'a str,
    portage_profile: Option<String>,
    #[serde(flatten)]
    effective: Effective,
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let (stage, portage) = super::read(&invocation.config()?, &args.stage)?;
    if args.json {
        table::print_json(&shown(&stage, &portage))?;
    } else if args.tree {
        table::print(tree(&portage))?;
    } else {
        table::print(merged(&portage))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn shown<'a>(stage: &'a Stage, portage: &PortageDir) -> Shown<'a> {
    Shown {
        stage: stage.name(),
        stage3: &stage.stage3.name,
        portage_profile: stage.stage3.portage_profile.as_ref().map(|profile| profile.value.to_string()),
        effective: portage.effective(),
    }
}

const NOTHING: &str = "nothing: no fragment has a file for it\n";

/// Each file after a line with its name, as `tail` prints several.
fn merged(portage: &PortageDir) -> String {
    let files = portage.effective().files;
    if files.is_empty() {
        return NOTHING.to_owned();
    }
    let mut text = String::new();
    for file in files {
        if !text.is_empty() {
            text.push('\n');
        }
        // Files that were merged say themselves where each part is from.
        let origin = if portage.sources(&file.path).is_empty() { String::new() } else { format!(" ({})", origins(&file)) };
        text.push_str(&format!("==> /etc/portage/{}{origin} <==\n", file.path.shown()));
        match &file.text {
            Some(content) => text.push_str(content),
            None => text.push_str(&format!("({}, no text)\n", human_bytes(file.size_bytes))),
        }
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    text
}

fn tree(portage: &PortageDir) -> String {
    let files = portage.effective().files;
    if files.is_empty() {
        return NOTHING.to_owned();
    }
    let mut table = Table::new(&["/etc/portage", ">SIZE", "FROM"]);
    let mut before = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let parts: Vec<&str> = file.path.iter().filter_map(|part| part.to_str()).collect();
        let common = parts.iter().zip(&before).take_while(|(a, b)| a == b).count();
        for depth in common..parts.len() {
            let last = depth + 1 == parts.len();
            let name = format!("{}{}", guides(&files, index, depth), parts[depth]);
            if last {
                table.row([name, human_bytes(file.size_bytes), origins(file)]);
            } else {
                table.row([name]);
            }
        }
        before = parts;
    }
    table.render()
}

/// The lines to the left of the name at `depth` in the path of `files[index]`.
fn guides(files: &[EffectiveFile], index: usize, depth: usize) -> String {
    let path = &files[index].path;
    let ancestor = |depth: usize| path.iter().take(depth).collect::<std::path::PathBuf>();
    let more = |level: usize| {
        let (dir, here) = (ancestor(level), ancestor(level + 1));
        files[index..].iter().any(|file| file.path.starts_with(&dir) && !file.path.starts_with(&here))
    };
    let mut text: String = (0..depth).map(|level| if more(level) { "│   " } else { "    " }).collect();
    text.push_str(if more(depth) { "├── " } else { "└── " });
    text
}

fn origins(file: &EffectiveFile) -> String {
    let files: Vec<String> = file.sources.iter().map(|source: &std::path::PathBuf| Path::new(source).shown()).collect();
    files.join(", ")
}
