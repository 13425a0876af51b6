//! `gentoomuch bootstrap PROFILE STAGE3`

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use crate::config::{ConfigDir, proposal};
use crate::pipeline::bootstrap::Bootstrapped;
use crate::pipeline::{bootstrap, pretend};
use crate::profile::adopt;
use crate::profile::adopt::Homeless;
use crate::recipe::import::BootstrapOptions;
use crate::release::Which;
use crate::resolve;

use super::by_hand::FailureArgs;
use super::{Outcome, found, pretended};
use crate::cli::ask::answer;
use crate::cli::invocation::Invocation;
use crate::cli::limits::LimitArgs;
use crate::cli::opened::Opened;
use crate::cli::report::Failure;
use crate::cli::screen::{Shown as _, Text};

/// Verify and import a stage3, and build a profile's builder from it
///
/// The stage3 definition `gentoomuch/builder` of the configuration decides what the builder becomes. If the build fails or you interrupt
/// it, the same command goes on at the package where it stopped. If you give the name of a variant instead of a file, its latest stage3 is
/// fetched first (as by `gentoomuch stage3 fetch`).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch bootstrap server stage3-amd64-openrc-20260811T083102Z.tar.xz
  gentoomuch bootstrap server amd64-openrc
  gentoomuch bootstrap --set-profiles server amd64-openrc
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
    /// Have stage4s whose `profile` names no bootstrapped profile name this one; without it you are asked, on a terminal
    #[arg(long, conflicts_with = "pretend")]
    set_profiles: bool,
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
    let homeless = adopt::homeless(&cx, &config)?;
    let set = |homeless: &[Homeless]| -> Result<Vec<PathBuf>, Failure> {
        let edits = adopt::edits(&config, homeless, &args.profile)?;
        Ok(proposal::write(config.root(), &edits).map_err(resolve::Error::from)?)
    };
    if args.json {
        let set_profiles = if args.set_profiles { set(&homeless)? } else { Vec::new() };
        crate::cli::table::print_json(&Done { done: &done, set_profiles })?;
        return Ok(ExitCode::SUCCESS);
    }
    let came = found(&cx, &done.upstream, done.upstream_reused);
    let mut text = format!("profile   {}\nupstream  {}{came}\n", done.profile, done.upstream);
    if let Some(builder) = &done.builder {
        text.push_str(&format!("builder   {builder}{}\n", found(&cx, builder, done.builder_reused)));
    }
    crate::cli::table::print(&text)?;
    if !homeless.is_empty() && (args.set_profiles || agrees(&homeless, &args.profile, &opened)?) {
        for file in set(&homeless)? {
            crate::cli::table::print(format!("written   {}\n", file.shown()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Done<'a> {
    #[serde(flatten)]
    done: &'a Bootstrapped,
    /// Files of the configuration that name this profile now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    set_profiles: Vec<PathBuf>,
}

/// Whether stage4s shall name this profile. Without a terminal it is only said how.
fn agrees(homeless: &[Homeless], profile: &str, opened: &Opened<'_>) -> Result<bool, Failure> {
    let named: BTreeSet<String> = homeless.iter().map(|one| format!("`{}`", one.profile.value)).collect();
    let stages: Vec<&str> = homeless.iter().map(|one| one.stage4.as_str()).collect();
    let (named, stages) = (named.into_iter().collect::<Vec<_>>().join(", "), stages.join(", "));
    let fact = format!("stage4 {stages}: the file `profile` names {named}, which is not bootstrapped");
    let question = Text::line(&format!("{fact}. Write `{profile}` into it? [y/N] "));
    match answer(&question, "the configuration stays as it is", opened)? {
        Some(answer) => Ok(["y", "yes"].contains(&answer.to_lowercase().as_str())),
        None => {
            opened.context(None).observer.note(&format!("{fact}; `--set-profiles` writes `{profile}` into it"));
            Ok(false)
        }
    }
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
