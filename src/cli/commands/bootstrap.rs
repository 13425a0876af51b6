//! `gentoomuch bootstrap PROFILE STAGE3`

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::ConfigDir;
use crate::pipeline::{bootstrap, pretend};
use crate::recipe::import::BootstrapOptions;
use crate::release::Which;

use super::by_hand::FailureArgs;
use super::{Outcome, pretended};
use crate::cli::invocation::Invocation;
use crate::cli::limits::LimitArgs;
use crate::cli::opened::Opened;
use crate::cli::report::Failure;

/// Verify and import a stage3, and build a profile's builder from it
///
/// The stage3 definition `gentoomuch/builder` of the configuration decides what the builder becomes. If the build fails or you interrupt
/// it, the same command goes on at the package where it stopped. If you give the name of a variant instead of a file, its latest stage3 is
/// fetched first (as by `gentoomuch stage3 fetch`).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch bootstrap server stage3-amd64-openrc-20260811T083102Z.tar.xz
  gentoomuch bootstrap server amd64-openrc
  gentoomuch bootstrap --pretend server amd64-openrc
  gentoomuch bootstrap --no-rebuild musl ./stage3-amd64-musl-hardened-20260811T083102Z.tar.xz")]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line, each on its own")]
pub(crate) struct Args {
    /// Name of the profile to make or renew
    profile: String,
    /// The tarball, with its `.asc`, `.DIGESTS` and `.sha256` beside it; or a variant to fetch, such as amd64-openrc
    stage3: PathBuf,
    /// Stop after the import, without a builder
    #[arg(long)]
    no_rebuild: bool,
    /// Accept a tarball without a trusted signature, for this reason; the reason is recorded for good
    #[arg(long, value_name = "REASON")]
    allow_unsigned: Option<String>,
    /// Accept a good signature even if its key has expired since then
    #[arg(long)]
    allow_expired: bool,
    /// Packages and make jobs to run at the same time [default: `env/jobs` of the configuration, or the number of processors]
    #[arg(short, long, value_name = "N")]
    jobs: Option<u32>,
    /// Build nothing: print emerge's own list (`emerge -pv`) of what would be merged; the profile stays as it is
    #[arg(long, conflicts_with = "no_rebuild")]
    pretend: bool,
    #[command(flatten)]
    failure: FailureArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let config = invocation.config()?;
    let keys = invocation.trusted_keys()?;
    let jobs = Invocation::jobs(args.jobs, &config)?;
    let options = BootstrapOptions {
        profile: args.profile.clone(),
        stage3: stage3(args, invocation)?,
        verify: Invocation::verify_options(args.allow_unsigned.as_ref(), args.allow_expired)?,
        no_rebuild: args.no_rebuild,
    };
    Invocation::given_file(&options.stage3)?;
    let opened = Opened::for_sessions(invocation, args.limits)?;
    let cx = opened.context(jobs);
    if args.pretend {
        let color = pretended::color(invocation, args.json);
        let list = pretend::bootstrap_pretend(&cx, &config, &keys, &options, color)?;
        return pretended::printed(&list, args.json, invocation);
    }
    let build = |config: &ConfigDir| bootstrap::bootstrap(&cx, config, &keys, &options);
    let done = match args.failure.build(args.json, invocation, &opened, build)? {
        Ok(done) => done,
        Err(code) => return Ok(code),
    };
    invocation.progress.clear();
    if args.json {
        crate::cli::table::print_json(&done)?;
    } else {
        let reused = |yes| if yes { "  (unchanged)" } else { "" };
        let mut text = format!("profile   {}\nupstream  {}{}\n", done.profile, done.upstream, reused(done.upstream_reused));
        if let Some(builder) = &done.builder {
            text.push_str(&format!("builder   {builder}{}\n", reused(done.builder_reused)));
        }
        crate::cli::table::print(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The file that was named, or one that is fetched.
fn stage3(args: &Args, invocation: &Invocation) -> Result<PathBuf, Failure> {
    let file = invocation.path(&args.stage3);
    let variant = args.stage3.to_str().filter(|text| !text.contains('/') && !text.contains(".tar"));
    match variant {
        Some(variant) if !file.exists() => {
            let fetched = super::stage3::fetch(invocation, variant, &Which::Latest, &[], args.allow_expired)?;
            Ok(fetched.path)
        }
        _ => Ok(file),
    }
}
