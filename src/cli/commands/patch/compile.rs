//! `gentoomuch patch compile [NAME…]`

use std::process::ExitCode;

use crate::patch::compile;
use crate::patch::compile::{CompileOptions, CompileWatcher, Compiled, PatchResult};

use super::super::live::Live;
use super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::invocation::processors;
use crate::cli::limits::LimitArgs;
use crate::cli::opened::Opened;
use crate::cli::report::Kind;
use crate::cli::screen::Shown as _;
use crate::cli::table::{Table, count, print, print_json};

/// Build packages with their saved patches, for several profiles
///
/// Each package that has a saved patch is compiled in a throw-away session on the builder of each profile, several at the same time. The
/// session uses the present configuration, and all patches for the same version. Dependencies come from binary packages if there are any.
/// Portage's records show whether a patch was applied. Only binary packages of dependencies stay.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch patch compile
  gentoomuch patch compile quiet-hello --all
  gentoomuch patch compile quiet-hello fix-musl --profile musl-hardened

Exit codes: 0 all packages were built with their patches, 6 one or more were not.")]
pub(super) struct Args {
    /// Saved patches [default: all of them]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// The profile [default: the one set with `gentoomuch profile set`]
    #[arg(short, long, value_name = "NAME", conflicts_with = "all")]
    profile: Option<String>,
    /// Build for all profiles
    #[arg(long)]
    all: bool,
    /// Packages and make jobs to run at the same time [default: `env/jobs` of the configuration, or the number of processors]
    #[arg(short, long, value_name = "N")]
    jobs: Option<u32>,
    /// Start no new package after one has failed
    #[arg(long)]
    fail_fast: bool,
    #[command(flatten)]
    limits: LimitArgs,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let config = invocation.config()?;
    // What is wrong with the words given needs no sandbox to be found out.
    for name in &args.names {
        config.patch(name)?;
    }
    let jobs = Invocation::jobs(args.jobs, &config)?;
    let opened = Opened::for_sessions(invocation, args.limits)?;
    let options =
        CompileOptions { names: args.names.clone(), profile: args.profile.clone(), all: args.all, fail_fast: args.fail_fast };
    let live = Live::new(&invocation.progress);
    let compiled = compile::patch_compile(&opened.context(Some(jobs.unwrap_or_else(processors))), &config, &options, &live);
    live.clear();
    invocation.progress.clear();
    let compiled = compiled?;
    if args.json {
        print_json(&compiled)?;
    } else {
        print(table(&compiled))?;
    }
    let good = compiled.patches.iter().all(|row| row.result.is_good());
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(Kind::Emerge.code()) })
}

impl CompileWatcher for Live<'_> {
    fn planned(&self, names: &[String]) {
        let step = format!("building {}", count(names.len() as u64, "package"));
        self.begin(names.to_vec(), names.len(), &step);
    }

    fn working(&self, index: usize, what: &str) {
        self.show(index, what);
    }

    fn ended(&self, index: usize, result: &PatchResult) {
        self.end(index, &in_short(result));
    }
}

fn in_short(result: &PatchResult) -> String {
    match result {
        PatchResult::Built { seconds } => format!("built in {seconds:.1} s"),
        PatchResult::NotApplied { .. } => "built without its patches".to_owned(),
        PatchResult::Failed { reason, .. } => reason.clone(),
        PatchResult::NoVersion => "no such version".to_owned(),
        PatchResult::Replaced => "replaced".to_owned(),
        PatchResult::NotTried => "not tried".to_owned(),
    }
}

fn table(compiled: &Compiled) -> String {
    let mut table = Table::new(&["PATCH", "PACKAGE", "PROFILE", "RESULT", ">TIME"]);
    let mut about = Vec::new();
    for row in &compiled.patches {
        let mut time = "-".to_owned();
        let mut tell = |lines: Vec<String>| {
            let text = format!("\n{} on {}\n  {}\n", row.package, row.profile, lines.join("\n  "));
            // Patches of one package fail together.
            if !about.contains(&text) {
                about.push(text);
            }
        };
        let result = match &row.result {
            PatchResult::Built { seconds } => {
                time = format!("{seconds:.1} s");
                "built".to_owned()
            }
            PatchResult::NotApplied { reason } => {
                tell(vec![reason.clone()]);
                "not applied".to_owned()
            }
            PatchResult::Failed { reason, phase, log } => {
                tell(vec![reason.clone(), format!("log: {}", log.shown())]);
                phase.as_ref().map_or_else(|| "failed".to_owned(), |phase| format!("failed: {phase}"))
            }
            PatchResult::NoVersion => "no such version".to_owned(),
            PatchResult::Replaced => "replaced".to_owned(),
            PatchResult::NotTried => "not tried".to_owned(),
        };
        table.row([&row.patch, &row.package, &row.profile, &result, &time]);
    }
    let good = compiled.patches.iter().filter(|row| row.result.is_good()).count();
    let total = count(compiled.patches.len() as u64, "row");
    format!("{}{}\n{good} of {total} built with the patch\n", table.render(), about.concat())
}

#[cfg(test)]
mod tests {
    use crate::patch::compile::CompiledPatch;

    use super::*;

    #[test]
    fn what_failed_is_told_once() {
        let failed = PatchResult::Failed {
            reason: "`a/b-1` failed in its compile phase".to_owned(),
            phase: Some("compile".to_owned()),
            log: "/logs/b.log".into(),
        };
        let row = |patch: &str, package: &str, result: &PatchResult| CompiledPatch {
            patch: patch.to_owned(),
            package: package.to_owned(),
            profile: "demo".to_owned(),
            result: result.clone(),
        };
        let patches = vec![
            row("one", "a/b-1", &failed),
            row("two", "a/b-1", &failed),
            row("one", "~a/c-2", &PatchResult::NoVersion),
            row("three", "a/d-1", &PatchResult::Built { seconds: 2.5 }),
        ];
        assert_eq!(
            table(&Compiled { patches }),
            "PATCH  PACKAGE  PROFILE  RESULT            TIME\n\
             one    a/b-1    demo     failed: compile      -\n\
             two    a/b-1    demo     failed: compile      -\n\
             one    ~a/c-2   demo     no such version      -\n\
             three  a/d-1    demo     built            2.5 s\n\n\
             a/b-1 on demo\n  `a/b-1` failed in its compile phase\n  log: /logs/b.log\n\n1 of 4 rows built with the patch\n"
        );
    }
}
