//! `gentoomuch binhost export|serve`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use gentoomuch::binhost::export;
use gentoomuch::binhost::export::{BinhostOptions, Exported};
use gentoomuch::binhost::server::{Answered, Server};
use gentoomuch::names::profiles;
use gentoomuch::sandbox::Interrupt;
use gentoomuch::stage3::sign::Gpg;

use super::Outcome;
use crate::invocation::Invocation;
use crate::opened::Opened;
use crate::report::Failure;
use crate::screen::{Shown as _, Text};
use crate::table::{count, human_bytes, print, print_json};

/// Hand out the binary packages of a profile, signed
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "Examples:\n  gentoomuch binhost export /srv/www/gentoo\n  gentoomuch binhost serve --address 0.0.0.0")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a directory that any web server can hand out
    ///
    /// The packages that releases on the profile are built from, each signed with the key of `env/sign_key`, with Portage's index, the
    /// public key, and what a client has to do in `README` and `binrepos.conf`. What is signed already stays as it is; what the pool has no
    /// more is removed.
    #[command(after_help = "Example:\n  gentoomuch binhost export --uri https://gentoo.example.org/server /srv/www/gentoo/server")]
    Export {
        /// A new or empty directory, or one that was exported before
        dir: PathBuf,
        /// The profile [default: the default one]
        #[arg(long)]
        profile: Option<String>,
        /// Where clients will find it, for `binrepos.conf`
        #[arg(long, value_name = "URI")]
        uri: Option<String>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Export and hand out over HTTP, until it is interrupted
    ///
    /// For a few machines, or for trying. Only this machine can reach it, unless `--address` says otherwise. Anybody who can reach it can read
    /// the packages.
    #[command(after_help = "Examples:\n  gentoomuch binhost serve\n  gentoomuch binhost serve --address 192.0.2.1 --port 80")]
    Serve {
        /// Serve this directory, exported before, as it is [default: export the profile first]
        dir: Option<PathBuf>,
        /// The profile [default: the default one]
        #[arg(long, conflicts_with = "dir")]
        profile: Option<String>,
        /// The address to listen on
        #[arg(long, default_value = "127.0.0.1")]
        address: String,
        /// The port to listen on; 0 takes any that is free
        #[arg(long, default_value_t = 8080)]
        port: u16,
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
        Command::Serve { dir, profile, address, port } => serve(invocation, dir.as_ref(), profile.as_deref(), address, *port)?,
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
    let env = invocation.config()?.env(crate::opened::host_arch())?;
    let gpg = Gpg { key: env.sign_key.map(|key| key.value), ..Invocation::gpg() };
    let options = BinhostOptions { profile: profile.map(str::to_owned), dir, gpg, uri };
    let exported = export::binhost_export(&opened.context(None), &options)?;
    invocation.progress.clear();
    Ok(exported)
}

fn serve(invocation: &Invocation, dir: Option<&PathBuf>, profile: Option<&str>, address: &str, port: u16) -> Result<(), Failure> {
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let address = format!("{host}:{port}");
    // What was exported before needs neither store nor sandbox.
    if let Some(dir) = dir {
        return hand_out(invocation, &invocation.path(dir), &address, &Interrupt::install()?);
    }
    let opened = Opened::open(invocation)?;
    let name = match profile {
        Some(profile) => profile.to_owned(),
        None => profiles::default_profile(&opened.context(None))?.ok_or(gentoomuch::error::Error::NoDefaultProfile)?,
    };
    let exported = export(invocation, &opened, Some(&name), invocation.places.binhosts().join(&name), None)?;
    print(words(&exported))?;
    hand_out(invocation, &exported.dir, &address, &opened.interrupt)
}

fn hand_out(invocation: &Invocation, dir: &Path, address: &str, interrupt: &Interrupt) -> Result<(), Failure> {
    let server = Server::bind(dir, address).map_err(gentoomuch::error::Error::from)?;
    print(format!("serving   http://{}  (Ctrl-C ends it)\n", server.address()))?;
    let told = |answered: &Answered| {
        let Answered { client, request, status, bytes } = answered;
        let line = format!("  {status} {request}, {} to {client}", human_bytes(*bytes));
        invocation.progress.write(&Text::line(&line).words("\n"));
    };
    let quiet = |_: &Answered| {};
    Ok(server.run(interrupt.fd(), if invocation.global.quiet { &quiet } else { &told })?)
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
