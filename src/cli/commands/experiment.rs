//! `gentoomuch try ATOM…`

mod experiment_lines;

use std::process::ExitCode;

use crate::portage::atom::Atom;
use crate::portage::use_flags::Switch;
use crate::try_it;
use crate::try_it::combinations::Variable;
use crate::try_it::outcome::Outcome as Came;
use crate::try_it::{TryOptions, Watcher};

use super::Outcome;
use super::live::Live;
use crate::cli::invocation::Invocation;
use crate::cli::invocation::processors;
use crate::cli::limits::LimitArgs;
use crate::cli::opened::Opened;
use crate::cli::report::{Failure, Kind};
use crate::cli::table::{print, print_json};

/// Build packages with other settings in throw-away sessions
///
/// `--matrix` turns each of its flags on and off, and every combination is built in a session of its own on the builder, several at the
/// same time. Only binary packages of dependencies stay, in the pool of throw-away sessions. Combinations that contradict `REQUIRED_USE` or
/// the Portage profile are left out.
///
/// For each combination you see whether it builds, how long that takes, the installed size, the libraries that it is linked with, and the
/// files that differ from the first combination. `--use`, `--keyword` and `--cflags` change only the packages that you name, not their
/// dependencies. The configuration is not changed; you get the lines that would make a combination permanent.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch try app-misc/hello --use -nls
  gentoomuch try www-servers/nginx --matrix 'http2 ssl' --use -pcre
  gentoomuch try net-misc/curl --matrix 'http2 dev-libs/openssl:ktls'
  gentoomuch try app-arch/lz4 --cflags '-O2' --cflags '-O3' --cflags '+-flto'
  gentoomuch try '=dev-libs/greet-1.1' --keyword '~amd64'

Exit codes: 0 all were built, 6 one or more failed.")]
pub(crate) struct Args {
    /// Packages, as emerge takes them
    #[arg(required = true, value_name = "ATOM")]
    atoms: Vec<String>,
    /// Flags to set for the packages in every combination
    #[arg(long = "use", value_name = "FLAGS", allow_hyphen_values = true)]
    uses: Vec<String>,
    /// Flags to try on and off; `CATEGORY/PACKAGE:FLAG` is a flag of a dependency
    #[arg(long, value_name = "FLAGS")]
    matrix: Vec<String>,
    /// Keywords to accept for the packages
    #[arg(long = "keyword", value_name = "KEYWORDS")]
    keywords: Vec<String>,
    /// Compiler flags for the packages; a leading `+` adds them to the configured ones; give it several times to try each
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    cflags: Vec<String>,
    /// The profile, or an earlier state of it [default: the one set with `gentoomuch profile set`]
    #[arg(short, long, value_name = "NAME[@{N}]")]
    profile: Option<String>,
    /// Combinations and make jobs to run at the same time [default: `env/jobs` of the configuration, or the number of processors]
    #[arg(short, long, value_name = "N")]
    jobs: Option<u32>,
    /// Also use binary packages for the packages themselves, if they fit
    #[arg(long)]
    usepkg: bool,
    /// Start no new combination after one has failed
    #[arg(long)]
    fail_fast: bool,
    #[command(flatten)]
    limits: LimitArgs,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let options = options(args)?;
    // As with freshroot, a configuration is not needed; without one there is no advice about it.
    let config = invocation.config().ok();
    let jobs = match &config {
        Some(config) => Invocation::jobs(args.jobs, config)?,
        None if args.jobs == Some(0) => return Err(Failure::message(Kind::Usage, "`--jobs` must be at least 1")),
        None => args.jobs,
    };
    let opened = Opened::for_sessions(invocation, args.limits)?;
    let live = Live::new(&invocation.progress);
    let experiment = try_it::experiment(&opened.context(Some(jobs.unwrap_or_else(processors))), &options, config.as_ref(), &live);
    live.clear();
    invocation.progress.clear();
    let experiment = experiment?;
    if args.json {
        print_json(&experiment)?;
    } else {
        let color = invocation.global.color.enabled(std::io::IsTerminal::is_terminal(&std::io::stdout()));
        print(experiment_lines::render(&experiment, color))?;
    }
    let failed = experiment.combinations.iter().any(|one| matches!(one.outcome, Came::Failed(_)));
    Ok(if failed { ExitCode::from(Kind::Emerge.code()) } else { ExitCode::SUCCESS })
}

impl Watcher for Live<'_> {
    fn planned(&self, combinations: &[(String, Option<String>)]) {
        let total = combinations.iter().filter(|(_, left_out)| left_out.is_none()).count();
        let left_out = combinations.len() - total;
        let also = if left_out > 0 { format!(", {left_out} left out") } else { String::new() };
        let what = if total == 1 { "combination" } else { "combinations" };
        let names = combinations.iter().map(|(name, _)| name.clone()).collect();
        self.begin(names, total, &format!("building {total} {what}{also}"));
    }

    fn working(&self, index: usize, what: &str) {
        self.show(index, what);
    }

    fn ended(&self, index: usize, outcome: &Came) {
        self.end(index, &experiment_lines::in_short(outcome));
    }
}

fn options(args: &Args) -> Result<TryOptions, Failure> {
    let split = |texts: &[String]| texts.iter().flat_map(|text| text.split_whitespace()).map(str::to_owned).collect::<Vec<_>>();
    for atom in &args.atoms {
        let parsed = Atom::parse_target(atom).map_err(|error| Failure::new(Kind::Usage, error))?;
        if !parsed.use_dependencies.is_empty() {
            return Err(
                Failure::message(Kind::Usage, format!("`{atom}` has flags in it")).hint("flags go into `--use` or `--matrix`")
            );
        }
    }
    let uses: Vec<Switch> = split(&args.uses).iter().map(|word| Switch::parse(word)).collect();
    if let Some(wrong) = uses.iter().find(|switch| !switch.is_flag()) {
        return Err(Failure::message(Kind::Usage, format!("`{wrong}` is no USE flag")).hint("for example `--use \"ssl -ipv6\"`"));
    }
    let matrix: Result<Vec<Variable>, try_it::Error> = split(&args.matrix).iter().map(|word| word.parse()).collect();
    let keywords = split(&args.keywords);
    let is_keyword = |word: &&String| word.chars().all(|c| c.is_ascii_alphanumeric() || "~*-_".contains(c));
    if let Some(wrong) = keywords.iter().find(|word| !is_keyword(word)) {
        return Err(Failure::message(Kind::Usage, format!("`{wrong}` is no keyword")).hint("for example `--keyword ~amd64`"));
    }
    Ok(TryOptions {
        atoms: args.atoms.clone(),
        uses,
        matrix: matrix?,
        keywords,
        cflags: args.cflags.clone(),
        profile: args.profile.clone(),
        usepkg: args.usepkg,
        fail_fast: args.fail_fast,
    })
}
