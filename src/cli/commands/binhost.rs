//! `gentoomuch binhost export`

use std::path::PathBuf;
use std::process::ExitCode;

use crate::binhost::export;
use crate::binhost::export::{BinhostOptions, Exported};
use crate::stage3::sign::Gpg;
use clap::Subcommand;

use super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::opened::Opened;
use crate::cli::report::Failure;
use crate::cli::screen::Shown as _;
use crate::cli::table::{count, human_bytes, print, print_json};

/// Publish the binary packages of a profile, signed
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "Example:\n  gentoomuch binhost export /srv/www/gentoo")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write signed binary packages that any web server can serve
    ///
    /// The directory gets the packages that releases on the profile are built from, each signed with the key of `env/sign_key`. It also
    /// gets Portage's index, the public key, a `README` that says what a client has to do, and a `binrepos.conf` for the client. A second
    /// export keeps packages that are signed already, and removes those that the pool no longer has.
    #[command(after_help = "Example:\n  gentoomuch binhost export --uri https://gentoo.example.org/server /srv/www/gentoo/server")]
    Export {
        /// A new or empty directory, or one that was exported before
        dir: PathBuf,
        /// The profile [default: the default one]
        #[arg(short, long)]
        profile: Option<String>,
        /// The address where clients find the directory, for `binrepos.conf`
        #[arg(long, value_name = "URI")]
        uri: Option<String>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    match &args.command {
        Command::Export { dir, profile, uri, json } => {
            let opened = Opened::open(invocation)?;
            let exported = export(invocation, &opened, profile.as_deref(), invocation.path(dir), uri.clone())?;
            if *json { print_json(&exported)? } else { print(words(&exported))? }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn export(
    invocation: &Invocation,
    opened: &Opened<'_>,
    profile: Option<&str>,
    dir: PathBuf,
    uri: Option<String>,
) -> Result<Exported, Failure> {
    let env = invocation.config()?.env(crate::cli::invocation::host_arch())?;
    let gpg = Gpg { key: env.sign_key.map(|key| key.value), ..Invocation::gpg() };
    let options = BinhostOptions { profile: profile.map(str::to_owned), dir, gpg, uri };
    let exported = export::binhost_export(&opened.context(None), &options)?;
    invocation.progress.clear();
    Ok(exported)
}

fn words(done: &Exported) -> String {
    let mut text = String::new();
    for left in &done.left_out {
        text.push_str(&format!("left out  {}: {}\n", left.path, left.why));
    }
    let packages = count(done.packages as u64, "package");
    text.push_str(&format!("profile   {}\npool      {}\n", done.profile, done.pool));
    text.push_str(&format!(
        "packages  {packages}, {}: {} signed now, {} removed\n",
        human_bytes(done.bytes),
        done.signed,
        done.removed
    ));
    text + &format!("signed    {}\nbinhost   {}\n", done.signed_by, done.dir.shown())
}
