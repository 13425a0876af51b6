//! `gentoomuch shell STATE [-- COMMAND]`

use crate::freshroot::FreshrootOptions;

use super::Outcome;
use super::freshroot::{NetworkArg, parse_bind, run_with};
use crate::cli::invocation::Invocation;
use crate::cli::limits::LimitArgs;
use crate::cli::report::Failure;

/// Open a throw-away session on any build state
///
/// You can name a state in four ways: by its name (`stage4/web`, `kept/with-hello`, `profile/server/gentoomuch/builder`, or
/// `profile/server` for short), by `NAME@{N}` for an earlier state of that name, by a tag, or by the beginning of its id. `gentoomuch store
/// ls` lists them. The state itself never changes. Exit codes are those of `gentoomuch freshroot`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch shell stage4/web
  gentoomuch shell 'stage4/web@{1}' -- cat /etc/os-release
  gentoomuch shell kept/with-hello -- hello
  gentoomuch shell 41aa1be94f4f")]
pub(crate) struct Args {
    /// A name, `NAME@{N}`, a tag, or the beginning of an id
    state: String,
    /// Keep the result under this name, if the command succeeds; a shell is always kept
    #[arg(long, value_name = "NAME")]
    keep: Option<String>,
    /// Keep the result even if the command fails
    #[arg(long, requires = "keep")]
    keep_failed: bool,
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

impl Args {
    /// Whether no command is run.
    pub(super) fn prints_plan(&self) -> bool {
        self.print_plan
    }
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    run_with(&options(args, invocation)?, args.limits, args.print_plan, invocation)
}

fn options(args: &Args, invocation: &Invocation) -> Result<FreshrootOptions, Failure> {
    Ok(FreshrootOptions {
        profile: None,
        from: None,
        state: Some(args.state.clone()),
        keep: args.keep.clone(),
        keep_failed: args.keep_failed,
        binds: args.bind.iter().map(|text| parse_bind(text, invocation)).collect::<Result<_, _>>()?,
        network: args.network.into(),
        promote: false,
        command: args.command.clone(),
        terminal: crate::sandbox::terminal::is_ours(),
    })
}
