//! `pipeline --on slurm`: the nodes of a pipeline as jobs of a cluster.
//!
//! ```text
//! who submits                      shared: this machine and all nodes see it             a node
//! pipeline, planned ──submit──▶ RUN/run.json     what was planned
//!                               RUN/jobs.json    which job builds what
//!                               trees/           ebuild trees, packed
//!        sbatch, a job a node of the pipeline; what waits for the same is one array ────▶ `pipeline node ID --run RUN`
//!                               RUN/NODE/events  what is said meanwhile              ◀──   in a data directory of its own,
//! pipeline::run ◀────follow───  RUN/NODE/result  what became of it, in the end       ◀──   which goes with the job
//!        remote ◀══════════════ states, signed, from one node to the next ══════════════▶ remote
//! ```
//!
//! There is one driver: [`crate::pipeline::run`] gives each node to a thread, here to one that waits for a job. Slurm knows the order of the
//! jobs, so they go on when whoever has submitted them is gone; `pipeline attach` plans again and waits for what is left. What a node of the
//! pipeline becomes is decided by the same code as anywhere, in an empty store that is given what ours has: trees, the stage3, and the states
//! that the node needs (`job.rs`). Files are made where the run is followed, since the key that signs them is there.
//!
//! **A job without a result.** A job writes a result when its node is built or has failed, and nothing when it was told to end. Without one,
//! Slurm is asked what became of it: it may have been put back into the queue, cancelled, or lost with its machine (`queue.rs`). What is
//! lost is submitted again, with all that waits for it.
//!
//! **NFS.** Whoever opens a file sees what was written before the writer closed it. So events are appended by opening, writing and closing,
//! and each look at them opens the file.

mod cluster;
mod error;
mod follow;
mod job;
mod place;
mod queue;
mod run_dir;
mod submit;
mod told;
mod trees;

pub(crate) use error::Error;
pub(crate) use follow::Following;
pub(crate) use job::{Here, Job, without_session};
pub(crate) use run_dir::{Asked, RunDir, find, names as run_names, shared_dir};
pub(crate) use submit::{Submitter, end, submit};

use std::path::Path;

use crate::config::counts;
use crate::trees::contents::digest_of;

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// What a configuration directory holds, in one digest. What the configuration does not read is left out: editors and version control keep
/// things there.
pub(crate) fn configuration_digest(config: &Path) -> Result<String> {
    Ok(format!("sha256:{}", digest_of(config, &counts)?.digest))
}

/// Fails unless the configuration is the one that was planned with.
pub(crate) fn check_configuration(config: &Path, wanted: &str) -> Result<()> {
    let found = configuration_digest(config)?;
    if found == wanted { Ok(()) } else { Err(Error::Configuration { config: config.to_owned(), found, wanted: wanted.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_digest_is_that_of_what_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str| fs::write(dir.path().join(path), "x").unwrap();
        let digest = || configuration_digest(dir.path()).unwrap();
        fs::create_dir_all(dir.path().join("env")).unwrap();
        write("env/remote");
        let before = digest();
        fs::create_dir_all(dir.path().join(".git")).unwrap();
        for aside in [".git/HEAD", "env/.remote.swp", "env/remote~", "env/README.md"] {
            write(aside);
        }
        assert_eq!(digest(), before);
        write("env/slurm");
        assert_ne!(digest(), before);
    }
}
