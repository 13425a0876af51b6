//! Slurm's own programs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::queue::{FORMAT, Seen, job_of, jobs_in, parsed};
use super::{Error, Result};
use crate::context::{self, Context};
use crate::program::{self, Attendance, Heard};

/// What the programs, and so the jobs, get of our environment. `SBATCH_*`, `SQUEUE_*` and the like would change what we ask, and jobs must
/// not carry about whatever secrets are in it.
const PASSED: [&str; 26] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "TMPDIR",
    "SLURM_CONF",
    "SLURM_CONF_SERVER",
    "SLURM_JWT",
    "GNUPGHOME",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
    "REGISTRY_AUTH_FILE",
    "DOCKER_CONFIG",
    "SSL_CERT_FILE",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "NO_COLOR",
    "SOURCE_DATE_EPOCH",
    "GENTOOMUCH_ISOLATION",
];
/// How long one of them may take. They give up by themselves long before, unless something holds them.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long one goes on that must not be cut off without need.
const GRACE: Duration = Duration::from_secs(5);

/// Submits a job, or an array of jobs, and returns its number.
pub(super) fn submit(cx: &Context<'_>, args: &[String], script: &str) -> Result<String> {
    // Cut off, it may have made a job that nobody knows: `jobs_of` finds it.
    let since = Instant::now();
    let answer = run(cx, "sbatch", args, script, &|| cx.interrupt.count() > 0 && since.elapsed() > GRACE)?;
    job_of(&answer).ok_or(Error::NoJob { answer })
}

/// The user's jobs, also those that have ended some minutes ago.
pub(super) fn look(cx: &Context<'_>) -> Result<BTreeMap<String, Seen>> {
    Ok(parsed(&queue(cx, &|| cx.interrupt.count() > 0)?))
}

/// The jobs of a run that have not ended, whether or not they were written down. They are known by their working directory.
pub(super) fn jobs_of(cx: &Context<'_>, run: &Path) -> Result<Vec<String>> {
    Ok(jobs_in(&queue(cx, &|| false)?, run))
}

fn queue(cx: &Context<'_>, cancelled: &dyn Fn() -> bool) -> Result<String> {
    let args = ["--me", "--noheader", "--array", "--states=all", &format!("--format={FORMAT}")].map(str::to_owned);
    run(cx, "squeue", &args, "", cancelled)
}

/// Ends jobs. Those that have ended are no error.
pub(super) fn cancel(cx: &Context<'_>, jobs: &[String]) -> Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    let args: Vec<String> = std::iter::once("--quiet".to_owned()).chain(jobs.iter().cloned()).collect();
    run(cx, "scancel", &args, "", &|| false).map(drop)
}

/// Runs one of them to its end.
fn run(cx: &Context<'_>, program: &'static str, args: &[String], input: &str, cancelled: &dyn Fn() -> bool) -> Result<String> {
    let since = Instant::now();
    let is_late = || since.elapsed() > PATIENCE;
    let either = || cancelled() || is_late();
    let attendance = Attendance { heard: Heard::Stderr, line: &mut |_: &str| {}, cancelled: &either, reaches_out: true };
    let command = command(program, args, &cx.settings.environment);
    match program::run(command, input.as_bytes(), attendance).and_then(program::Ended::ok) {
        Ok(stdout) => Ok(String::from_utf8_lossy(&stdout).into_owned()),
        Err(program::Error::Interrupted) if !cancelled() => Err(Error::Silent { program, seconds: PATIENCE.as_secs() }),
        Err(program::Error::Interrupted) => Err(context::Error::Interrupted { resumable: false }.into()),
        Err(source) => Err(Error::Program { program, source }),
    }
}

fn command(program: &str, args: &[String], environment: &[(OsString, OsString)]) -> Command {
    let mut command = Command::new(program);
    command.args(args).env_clear();
    let passed = environment.iter().filter(|(name, _)| PASSED.iter().any(|passed| name == passed));
    command.envs(passed.cloned()).env("LC_ALL", "C");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_is_passed_on() {
        let environment = [
            ("PATH", "/bin"),
            ("SLURM_CONF", "/c"),
            ("SBATCH_ARRAY_INX", "0-9"),
            ("SQUEUE_PARTITION", "other"),
            ("SCANCEL_PARTITION", "other"),
            ("SLURM_CLUSTERS", "other"),
            ("TOKEN", "secret"),
        ];
        let environment = environment.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let command = command("sbatch", &[], &environment);
        let passed: Vec<_> = command.get_envs().filter_map(|(name, value)| value.and(name.to_str())).collect();
        assert_eq!(passed, ["LC_ALL", "PATH", "SLURM_CONF"]);
    }
}
