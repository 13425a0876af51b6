//! `gentoomuch shell STATE [-- COMMAND]`, `gentoomuch shell --failed STAGE|PROFILE [-- COMMAND]`

use std::process::ExitCode;

use crate::by_hand;
use crate::by_hand::Deed;
use crate::freshroot::FreshrootOptions;

use super::Outcome;
use super::by_hand as questions;
use super::by_hand::Next;
use super::freshroot::{NetworkArg, parse_bind, run_with};
use crate::cli::invocation::Invocation;
use crate::cli::limits::LimitArgs;
use crate::cli::opened::Opened;
use crate::cli::report::Failure;

/// Open a session on any build state, or where a build failed
///
/// The session is a throw-away one. You can name a state in four ways: by its name (`stage4/web`, `kept/with-hello`, `profile/server/gentoomuch/builder`, or
/// `profile/server` for short), by `NAME@{N}` for an earlier state of that name, by a tag, or by the beginning of its id. `gentoomuch store
/// ls` lists them. The state itself never changes. Exit codes are those of `gentoomuch freshroot`.
///
/// With `--failed` it opens the build directory of the package that failed, as the build has left it, with the environment that `ebuild`
/// has there: its variables, its functions, and the user that Portage runs the phase as. You work on a copy. Nothing that you do or build
/// there is published or becomes part of a state. When you leave the shell, you are asked what to do next: start the package anew, save
/// your edits as a patch, try the phase again by hand, or give up. Your edits stay until the build goes on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch shell stage4/web
  gentoomuch shell 'stage4/web@{1}' -- cat /etc/os-release
  gentoomuch shell kept/with-hello -- hello
  gentoomuch shell 41aa1be94f4f
  gentoomuch shell --failed web
  gentoomuch shell --failed web -- emake V=1
  gentoomuch shell --failed web --save-patch mend")]
pub(crate) struct Args {
    /// A name, `NAME@{N}`, a tag, or the beginning of an id
    #[arg(required_unless_present = "failed")]
    state: Option<String>,
    #[command(flatten)]
    by_hand: FailedArgs,
    /// Keep the result under this name, if the command succeeds; a shell is always kept
    #[arg(long, value_name = "NAME")]
    keep: Option<String>,
    /// Keep the result even if the command fails
    #[arg(long, requires = "keep")]
    keep_failed: bool,
    /// Replace the state that was kept under this name; `kept/NAME@{1}` is that one then
    #[arg(long, requires = "keep")]
    force: bool,
    /// Show a directory of the host in the session; can be given several times
    #[arg(long, value_name = "SRC:DST[:ro]")]
    bind: Vec<String>,
    /// Which network the session sees; emerge downloads do not need one
    #[arg(long, value_enum, default_value_t = NetworkArg::None)]
    network: NetworkArg,
    /// Print the steps that would set up the session, and stop
    #[arg(long)]
    print_plan: bool,
    #[command(flatten)]
    limits: LimitArgs,
    /// The command and its arguments [default: a login shell]
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// For a failed build instead of a state.
#[derive(Debug, clap::Args)]
struct FailedArgs {
    /// Open the failed build of this stage4, or of a definition on this profile, instead
    #[arg(long, value_name = "STAGE|PROFILE", conflicts_with_all = ["state", "keep", "bind", "network", "print_plan"])]
    failed: Option<String>,
    /// With `--failed`: be root of the session, whoever runs the phase
    #[arg(long, requires = "failed")]
    as_root: bool,
    /// With `--failed`: try the phase again, on what you have changed
    #[arg(long, requires = "failed", conflicts_with_all = ["as_root", "command"])]
    again: bool,
    /// With `--failed`: save what you have changed in the source as a patch of this name
    #[arg(long, value_name = "NAME", requires = "failed", conflicts_with_all = ["as_root", "command", "again"])]
    save_patch: Option<String>,
}

impl Args {
    /// Whether no command is run.
    pub(super) fn prints_plan(&self) -> bool {
        self.print_plan
    }
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    if let Some(what) = &args.by_hand.failed {
        return failed(what, args, invocation);
    }
    run_with(&options(args, invocation)?, args.limits, args.print_plan, invocation)
}

/// Does what was asked for in a failed build. On a terminal it asks then what is next.
fn failed(what: &str, args: &Args, invocation: &Invocation) -> Outcome {
    let opened = Opened::for_sessions(invocation, args.limits)?;
    let cx = opened.context(None);
    let (_, build) = by_hand::failed_build(&cx, what)?;
    let terminal = crate::sandbox::terminal::is_ours();
    let code = if let Some(name) = &args.by_hand.save_patch {
        questions::save(what, name, invocation, &opened)?;
        ExitCode::SUCCESS
    } else if args.by_hand.again {
        questions::code_of(questions::again(what, &build, invocation, &opened)?)
    } else {
        let deed = Deed::Shell { command: args.command.clone(), as_root: args.by_hand.as_root };
        questions::code_of(by_hand::enter(&cx, what, &deed, terminal)?)
    };
    invocation.progress.clear();
    // Who gives a command knows what to do next.
    if args.by_hand.save_patch.is_some() {
        questions::tell_anew(&build, invocation);
        return Ok(code);
    }
    if !terminal || !args.command.is_empty() {
        questions::tell(&build, invocation);
        return Ok(code);
    }
    match (questions::ask(what, invocation, &opened)?, build.stage4()) {
        (Next::GiveUp, _) => Ok(code),
        (Next::Anew, Some(stage4)) => {
            drop(opened);
            super::stage::build_anew(stage4, args.limits, invocation)
        }
        (Next::Anew, None) => {
            questions::tell_anew(&build, invocation);
            Ok(code)
        }
    }
}

fn options(args: &Args, invocation: &Invocation) -> Result<FreshrootOptions, Failure> {
    Ok(FreshrootOptions {
        profile: None,
        from: None,
        state: args.state.clone(),
        keep: args.keep.clone(),
        keep_failed: args.keep_failed,
        replace: args.force,
        binds: args.bind.iter().map(|text| parse_bind(text, invocation)).collect::<Result<_, _>>()?,
        network: args.network.into(),
        promote: false,
        command: args.command.clone(),
        terminal: crate::sandbox::terminal::is_ours(),
    })
}
