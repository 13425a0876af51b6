//! `gentoomuch profile ls|set|show|update|rollback|rename|rm`

mod profile_lines;

use std::process::ExitCode;

use crate::config::ConfigDir;
use crate::context::Context;
use crate::history::rollback;
use crate::names::profiles;
use crate::profile;
use crate::profile::update::UpdateOptions;
use crate::profile::{names, show, update};
use crate::progress::{Event, Observer as _};
use clap::Subcommand;

use super::{Outcome, pretended};
use crate::cli::invocation::Invocation;
use crate::cli::limits::LimitArgs;
use crate::cli::opened::Opened;
use crate::cli::report::Failure;
use crate::cli::table::{print, print_either, print_json};

pub(super) use self::profile_lines::rolled_back;

/// Show, update, roll back, rename and remove profiles
///
/// `gentoomuch bootstrap` makes a profile from one stage3. Earlier states of its builder are kept: `NAME` is the present one, `NAME@{1}`
/// the one before. `gentoomuch profile show` lists them.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "Examples:
  gentoomuch profile ls
  gentoomuch profile set musl-hardened
  gentoomuch profile update
  gentoomuch profile update --all
  gentoomuch profile rollback")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the bootstrapped profiles
    #[command(after_help = "Example:\n  gentoomuch profile ls --json")]
    #[command(alias = "list")]
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
    /// Show what a profile was made from and when, and its earlier states
    #[command(after_help = "Examples:\n  gentoomuch profile show\n  gentoomuch profile show --packages 'musl-hardened@{1}'")]
    Show {
        /// A profile, or an earlier state of it: `NAME@{N}` [default: the default one]
        #[arg(value_name = "NAME[@{N}]")]
        name: Option<String>,
        /// Also list the installed packages
        #[arg(long)]
        packages: bool,
        /// Print as JSON, with the packages
        #[arg(long)]
        json: bool,
    },
    /// Update the builder to the present configuration and ebuild tree
    ///
    /// It starts from the present builder; `gentoomuch bootstrap` would build everything again from the stage3. It builds packages that
    /// have a newer version, packages whose USE flags changed, and packages that would be made from something else now: other compiler
    /// flags, a line of `package.env`, a changed ebuild of the same version.
    ///
    /// Only when that has succeeded, the profile gets the new builder, and the one before is `NAME@{1}`. If the build fails or you
    /// interrupt it, the same command goes on.
    #[command(
        after_help = "Examples:\n  gentoomuch profile update\n  gentoomuch profile update --depclean musl-hardened\n  gentoomuch profile update --pretend"
    )]
    Update {
        /// A bootstrapped profile [default: the default one]
        name: Option<String>,
        /// Update all profiles, one after the other
        #[arg(long, conflicts_with = "name")]
        all: bool,
        /// Remove packages that nothing needs any more
        #[arg(long)]
        depclean: bool,
        /// Build nothing: print emerge's own list (`emerge -pv`) of what would be merged
        #[arg(long)]
        pretend: bool,
        /// Packages and make jobs to run at the same time [default: `env/jobs` of the configuration, or the number of processors]
        #[arg(short, long, value_name = "N")]
        jobs: Option<u32>,
        #[command(flatten)]
        limits: LimitArgs,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Go back to an earlier state of a profile
    ///
    /// A rollback is a step like any other: a second rollback undoes the first. Configuration and tree do not change, so the next build may
    /// go forward again; you are told if it will.
    #[command(after_help = "Examples:\n  gentoomuch profile rollback\n  gentoomuch profile rollback --to 3 musl-hardened")]
    Rollback {
        /// A bootstrapped profile [default: the default one]
        name: Option<String>,
        /// How many steps back, as `profile show` counts them [default: 1]
        #[arg(long, value_name = "N")]
        to: Option<usize>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Give a profile another name
    ///
    /// All its states move to the new name. Stage4 definitions that use the old name are listed, but not changed.
    #[command(after_help = "Example:\n  gentoomuch profile rename musl musl-hardened")]
    Rename {
        /// A bootstrapped profile
        old: String,
        /// Its new name
        new: String,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove the names of a profile
    ///
    /// It refuses while something uses the profile or was built on it. The states stay in the store until `clean`; the same bootstrap uses
    /// them again.
    #[command(after_help = "Examples:\n  gentoomuch profile rm musl\n  gentoomuch profile rm --force musl")]
    #[command(alias = "remove")]
    Rm {
        /// A bootstrapped profile
        name: String,
        /// Remove it even if stages were built on it, or a session on it is suspended
        #[arg(long)]
        force: bool,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    if let Command::Update { name, all, depclean, pretend, jobs, limits, json } = &args.command {
        let config = invocation.config()?;
        let jobs = Invocation::jobs(*jobs, &config)?;
        let opened = Opened::for_sessions(invocation, *limits)?;
        let cx = opened.context(jobs);
        if *pretend {
            let color = pretended::color(invocation, *json);
            let pretend = |profile| {
                let options = UpdateOptions { profile, depclean: *depclean };
                update::profile_update_pretend(&cx, &config, &options, color)
            };
            if !*all {
                return pretended::printed(&pretend(name.clone())?, *json, invocation);
            }
            let all = with_builders(&cx)?.into_iter().map(|name| pretend(Some(name))).collect::<profile::Result<Vec<_>>>()?;
            return pretended::all_printed(&all, *json, invocation);
        }
        if *all {
            return update_all(invocation, &cx, &config, *depclean, *json);
        }
        let options = UpdateOptions { profile: name.clone(), depclean: *depclean };
        let done = update::profile_update(&cx, &config, &options)?;
        invocation.progress.clear();
        let others = with_builders(&cx)?.into_iter().filter(|other| name.is_none() && *other != done.profile).count();
        if others > 0 {
            let words =
                format!("the default profile is updated; use `gentoomuch profile update --all` to update the other {others}, too");
            invocation.progress.event(&Event::Note(&words));
        }
        return printed(*json, &done, profile_lines::updated);
    }
    let opened = Opened::open(invocation)?;
    let cx = opened.context(None);
    // Of use, but no need: what it is compared with works without.
    let config = || ConfigDir::open(&invocation.places.config).ok();
    match &args.command {
        Command::Ls { json } => printed(*json, &profile::profile_rows(&cx)?, |rows| profile_lines::rows(rows)),
        Command::Set { name } => {
            profiles::set_default_profile(&cx, name)?;
            print(format!("default profile  {name}\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Show { name, packages, json } => {
            let shown = show::profile_show(&cx, name.as_deref(), config().as_ref())?;
            printed(*json, &shown, |shown| profile_lines::shown(shown, *packages))
        }
        Command::Rollback { name, to, json } => {
            let done = rollback::profile_rollback(&cx, name.as_deref(), *to, config().as_ref())?;
            printed(*json, &done, profile_lines::rolled_back)
        }
        Command::Rename { old, new, json } => {
            printed(*json, &names::profile_rename(&cx, old, new, config().as_ref())?, profile_lines::renamed)
        }
        Command::Rm { name, force, json } => printed(*json, &names::profile_remove(&cx, name, *force)?, profile_lines::removed),
        Command::Update { .. } => Ok(ExitCode::SUCCESS),
    }
}

/// The profiles that have a builder.
fn with_builders(cx: &Context<'_>) -> Result<Vec<String>, Failure> {
    let rows = profile::profile_rows(cx)?;
    Ok(rows.into_iter().filter(|row| row.builder.is_some()).map(|row| row.name).collect())
}

/// Updates each profile that has a builder. One that fails ends it: the same command goes on there.
fn update_all(invocation: &Invocation, cx: &Context<'_>, config: &ConfigDir, depclean: bool, json: bool) -> Outcome {
    let mut all = Vec::new();
    for name in with_builders(cx)? {
        invocation.progress.event(&Event::Step(&format!("updating profile {name}")));
        let done = update::profile_update(cx, config, &UpdateOptions { profile: Some(name), depclean })?;
        invocation.progress.clear();
        if !json {
            print(profile_lines::updated(&done))?;
        }
        all.push(done);
    }
    if json {
        print_json(&all)?;
    } else if all.is_empty() {
        print("no profile has a builder; `gentoomuch bootstrap NAME STAGE3` makes one\n".to_owned())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn printed<T: serde::Serialize>(json: bool, value: &T, words: impl Fn(&T) -> String) -> Outcome {
    print_either(json, value, words)?;
    Ok(ExitCode::SUCCESS)
}
