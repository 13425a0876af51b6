//! Slurm's own programs.

use std::collections::BTreeMap;
use std::process::Command;

use super::queue::{FORMAT, Seen, job_of, parsed};
use super::{Error, Result};
use crate::context::{self, Context};
use crate::program::{self, Attendance, Heard};

/// What would change the questions.
const VARIABLES: [&str; 7] =
    ["SQUEUE_ALL", "SQUEUE_FORMAT", "SQUEUE_FORMAT2", "SQUEUE_STATES", "SQUEUE_USERS", "SCANCEL_STATE", "SCANCEL_NAME"];

/// Submits a job and returns its number.
pub(super) fn submit(args: &[String], script: &str) -> Result<String> {
    // Not cut off: nobody would know the job.
    let answer = run("sbatch", args, script, &|| false)?;
    job_of(&answer).ok_or(Error::NoJob { answer })
}

/// The user's jobs, also those that have ended some minutes ago.
pub(super) fn look(cx: &Context<'_>) -> Result<BTreeMap<String, Seen>> {
    let args = ["--me", "--noheader", "--states=all", &format!("--format={FORMAT}")].map(str::to_owned);
    Ok(parsed(&run("squeue", &args, "", &|| cx.interrupt.count() > 0)?))
}

/// Ends jobs. Those that have ended are no error.
pub(super) fn cancel(jobs: &[String]) -> Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    let args: Vec<String> = std::iter::once("--quiet".to_owned()).chain(jobs.iter().cloned()).collect();
    run("scancel", &args, "", &|| false).map(drop)
}

/// Runs one of them to its end.
fn run(program: &'static str, args: &[String], input: &str, cancelled: &dyn Fn() -> bool) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args).env("LC_ALL", "C");
    for name in VARIABLES {
        command.env_remove(name);
    }
    let attendance = Attendance { heard: Heard::Stderr, line: &mut |_: &str| {}, cancelled, reaches_out: true };
    match program::run(command, input.as_bytes(), attendance).and_then(program::Ended::ok) {
        Ok(stdout) => Ok(String::from_utf8_lossy(&stdout).into_owned()),
        Err(program::Error::Interrupted) => Err(context::Error::Interrupted { resumable: false }.into()),
        Err(source) => Err(Error::Program { program, source }),
    }
}
