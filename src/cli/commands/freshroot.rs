//! `gentoomuch freshroot [-- COMMAND]`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::freshroot::FreshrootOptions;
use crate::names::refs::kept_ref;
use crate::progress::{Event, Observer as _};
use crate::sandbox::Exit;
use crate::sandbox::plan::Network;
use crate::session::root::UserBind;
use crate::{context, freshroot, sandbox};
use clap::ValueEnum;

use super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::limits::LimitArgs;
use crate::cli::opened::Opened;
use crate::cli::report::{Failure, Kind};
use crate::cli::screen::Shown as _;
use crate::cli::table;

/// Open a throw-away session on the builder: a shell, or one command
///
/// Afterwards everything is gone, except binary packages that were built in it. `--keep` keeps the rest, unless the command fails. The exit
/// code is that of the command; 125 means that gentoomuch itself failed, 126 that the command cannot be executed, 127 that there is no such command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch freshroot
  gentoomuch freshroot -- emerge app-misc/hello
  gentoomuch freshroot --keep with-hello -- emerge app-misc/hello
  gentoomuch freshroot --from with-hello -- hello
  gentoomuch freshroot --from with-hello --keep with-hello --force -- emerge app-misc/greeter
  gentoomuch freshroot --bind ~/src:/mnt/src:ro -- make -C /mnt/src check")]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line, each on its own")]
pub(crate) struct Args {
    /// The profile, or an earlier state of it [default: the one set with `gentoomuch profile set`]
    #[arg(short, long, value_name = "NAME[@{N}]")]
    profile: Option<String>,
    /// Start from the state that was kept under this name
    #[arg(long, value_name = "NAME", conflicts_with = "profile")]
    from: Option<String>,
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
    /// Publish packages that are built in it into the release pool
    #[arg(long)]
    promote: bool,
    /// Print the steps that would set up the session, and stop
    #[arg(long)]
    print_plan: bool,
    #[command(flatten)]
    limits: LimitArgs,
    /// The command and its arguments [default: a login shell]
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Which network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum NetworkArg {
    /// The host's
    Host,
    /// Its own, with only a loopback device
    None,
}

impl From<NetworkArg> for Network {
    fn from(arg: NetworkArg) -> Self {
        match arg {
            NetworkArg::Host => Self::Host,
            NetworkArg::None => Self::None,
        }
    }
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
        profile: args.profile.clone(),
        from: args.from.clone(),
        state: None,
        keep: args.keep.clone(),
        keep_failed: args.keep_failed,
        replace: args.force,
        binds: args.bind.iter().map(|text| parse_bind(text, invocation)).collect::<Result<_, _>>()?,
        network: args.network.into(),
        promote: args.promote,
        command: args.command.clone(),
        terminal: crate::sandbox::terminal::is_ours(),
    })
}

/// Runs a throw-away session, or prints the plan of it.
pub(super) fn run_with(options: &FreshrootOptions, limits: LimitArgs, print_plan: bool, invocation: &Invocation) -> Outcome {
    let opened = Opened::for_one_session(invocation, limits)?;
    let cx = opened.context(None);
    if print_plan {
        let plan = freshroot::freshroot_plan(&cx, options)?;
        table::print(format!("{plan}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let writable: Vec<String> =
        options.binds.iter().filter(|bind| !bind.read_only).map(|bind| format!("`{}`", bind.source.shown())).collect();
    if !writable.is_empty() {
        let what = writable.join(", ");
        let text = format!("programs in the session can change {what} in your name; add `:ro` to the `--bind` to prevent that");
        invocation.progress.event(&Event::Warning(&text));
    }
    let ended = freshroot::freshroot(&cx, options).map_err(failed)?;
    invocation.progress.clear();
    let note = |text: String| invocation.progress.event(&Event::Note(&text));
    if ended.published > 0 {
        let pool = if options.promote { "release pool" } else { "pool of throw-away sessions" };
        note(format!("{} now in the {pool}", table::count(ended.published as u64, "binary package")));
    }
    match (&ended.kept, &options.keep) {
        (Some(state), Some(name)) => {
            note(format!("kept as `{name}`, state {}: `gentoomuch freshroot --from {name}` starts from it", state.id));
            if cx.store.ref_history(&kept_ref(name))?.len() > 1 {
                note(format!("`kept/{name}@{{1}}` is what was kept before"));
            }
        }
        (None, Some(name)) => {
            note(format!("nothing is kept as `{name}`, since the command failed; `--keep-failed` keeps it all the same"));
        }
        _ => {}
    }
    Ok(match ended.exit {
        Exit::Code(code) => ExitCode::from(u8::try_from(code).unwrap_or(255)),
        Exit::Signal(signal) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(255)),
    })
}

/// A command that cannot be started is the user's affair, and told from a sandbox that cannot.
fn failed(error: freshroot::Error) -> Failure {
    let kind = match &error {
        freshroot::Error::Context(context::Error::Sandbox(sandbox::Error::CommandNotFound { .. })) => Some(Kind::NoCommand),
        freshroot::Error::Context(context::Error::Sandbox(sandbox::Error::CommandNotExecutable { .. })) => {
            Some(Kind::NotExecutable)
        }
        _ => None,
    };
    let failure = Failure::from(error);
    match kind {
        Some(kind) => failure.of_kind(kind),
        None => failure,
    }
}

/// Reads `SRC:DST[:ro]`.
pub(super) fn parse_bind(text: &str, invocation: &Invocation) -> Result<UserBind, Failure> {
    let wrong = |why: &str| {
        Failure::message(Kind::Usage, format!("`--bind {text}`: {why}"))
            .hint("write `SRC:DST` or `SRC:DST:ro`, DST an absolute path in the session")
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, read_only) = match parts.as_slice() {
        [source, target] | [source, target, "rw"] => (source, target, false),
        [source, target, "ro"] => (source, target, true),
        _ => return Err(wrong("not of the form `SRC:DST[:ro]`")),
    };
    let target = PathBuf::from(target);
    if !target.is_absolute() || target.components().any(|part| part.as_os_str() == "..") || target == Path::new("/") {
        return Err(wrong("the place in the session must be an absolute path below `/`"));
    }
    let source = invocation.path(Path::new(source));
    if !source.exists() {
        return Err(wrong("the source does not exist"));
    }
    Ok(UserBind { source, target, read_only })
}
