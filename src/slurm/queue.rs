//! What Slurm says of jobs.

use std::collections::BTreeMap;
use std::path::Path;

/// Where a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// In the queue.
    Waiting,
    /// On this machine.
    Running(String),
    /// It has ended so, in Slurm's word.
    Ended(String),
}

/// The format for `squeue` that [`parsed`] reads.
pub(super) const FORMAT: &str = "%i|%T|%N|%Z";

/// What `squeue` prints, by job. (Its JSON needs a plugin that some packages lack, and differs from version to version.)
pub(super) fn parsed(text: &str) -> BTreeMap<String, Seen> {
    let line = |line: &str| {
        let mut fields = line.trim().split('|');
        let (job, state, host) = (fields.next()?, fields.next()?, fields.next().unwrap_or_default());
        // slurm.schedmd.com/job_state_codes.html
        let seen = match state {
            "PENDING" | "CONFIGURING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED" | "RESV_DEL_HOLD" | "SPECIAL_EXIT" => {
                Seen::Waiting
            }
            "RUNNING" | "COMPLETING" | "SUSPENDED" | "STOPPED" | "SIGNALING" | "STAGE_OUT" | "RESIZING" => {
                Seen::Running(host.to_owned())
            }
            ended => Seen::Ended(ended.to_owned()),
        };
        Some((job.to_owned(), seen))
    };
    text.lines().filter_map(line).collect()
}

/// The jobs in the same text that have not ended, and whose working directory is `dir`.
pub(super) fn jobs_in(text: &str, dir: &Path) -> Vec<String> {
    let is_there = |line: &&str| line.trim().splitn(4, '|').nth(3).is_some_and(|found| Path::new(found) == dir);
    let there = parsed(&text.lines().filter(is_there).collect::<Vec<_>>().join("\n"));
    there.into_iter().filter(|(_, seen)| !matches!(seen, Seen::Ended(_))).map(|(job, _)| job).collect()
}

/// What to do about a job that has ended without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is submitted again.
    Lost,
    /// Its node has failed.
    Failed,
}

/// `None`: Slurm does not know the job any more. Slurm itself may have cancelled it in the queue (`is_dropped`), since a job before it has
/// made its node and ended badly all the same.
pub(super) fn verdict(state: Option<&str>, is_dropped: bool) -> Verdict {
    match state {
        Some("CANCELLED") if is_dropped => Verdict::Lost,
        // Again, it would come to the same end; or somebody does not want it.
        Some("TIMEOUT" | "DEADLINE" | "OUT_OF_MEMORY" | "CANCELLED" | "REVOKED") => Verdict::Failed,
        _ => Verdict::Lost,
    }
}

/// The job that `sbatch --parsable` has made: `ID`, or `ID;CLUSTER`.
pub(super) fn job_of(answer: &str) -> Option<String> {
    let id = answer.lines().next()?.split(';').next()?.trim();
    (!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit())).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_by_their_states() {
        let seen = parsed("12|PENDING|\n13|RUNNING|n1\n14|NODE_FAIL|n2\n15|COMPLETED|n1\n\nnonsense\n");
        assert_eq!(seen.len(), 4);
        assert_eq!((&seen["12"], &seen["13"]), (&Seen::Waiting, &Seen::Running("n1".to_owned())));
        assert_eq!(seen["14"], Seen::Ended("NODE_FAIL".to_owned()));
    }

    #[test]
    fn jobs_of_a_run_by_its_directory() {
        let text =
            "12|PENDING||/runs/a\n13|RUNNING|n1|/runs/a\n14|COMPLETED|n1|/runs/a\n15|RUNNING|n2|/runs/a|b\n16|PENDING||/runs/b\n";
        assert_eq!(jobs_in(text, Path::new("/runs/a")), ["12", "13"]);
        assert_eq!(jobs_in(text, Path::new("/runs/a|b")), ["15"]);
    }

    #[test]
    fn what_is_lost_is_not_what_has_failed() {
        for (state, expected) in [
            (None, Verdict::Lost),
            (Some("NODE_FAIL"), Verdict::Lost),
            (Some("COMPLETED"), Verdict::Lost),
            (Some("FAILED"), Verdict::Lost),
            (Some("TIMEOUT"), Verdict::Failed),
            (Some("CANCELLED"), Verdict::Failed),
        ] {
            assert_eq!(verdict(state, false), expected, "{state:?}");
        }
        assert_eq!(verdict(Some("CANCELLED"), true), Verdict::Lost);
        assert_eq!(verdict(Some("TIMEOUT"), true), Verdict::Failed);
    }

    #[test]
    fn the_answer_of_sbatch() {
        assert_eq!(job_of("17\n").as_deref(), Some("17"));
        assert_eq!(job_of("17;fleet\n").as_deref(), Some("17"));
        for answer in ["", "\n", "Submitted batch job 17", "-1"] {
            assert_eq!(job_of(answer), None, "{answer}");
        }
    }
}
