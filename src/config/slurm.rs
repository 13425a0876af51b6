//! `env/slurm`: what jobs ask a cluster for. Nothing here is part of a key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::diagnostic::Findings;
use super::reading;
use crate::did_you_mean::{nearest, question};
use crate::limits;

pub(super) const FILE: &str = "env/slurm";
const NAMES: [&str; 8] = ["partition", "time", "memory", "cpus", "directory", "shared", "distfiles", "option"];

/// Options of `sbatch` by which a job would not be the one that we wait for. It also knows them by their beginnings.
const OURS: [&str; 17] = [
    "array",
    "chdir",
    "clusters",
    "dependency",
    "error",
    "export",
    "export-file",
    "help",
    "kill-on-invalid-dep",
    "open-mode",
    "output",
    "parsable",
    "test-only",
    "usage",
    "version",
    "wait",
    "wrap",
];

/// Less is a slip of the pen: bytes without a unit.
const LEAST_MEMORY_BYTES: u64 = 1 << 20;

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Slurm {
    pub(crate) partition: Option<String>,
    /// As `sbatch --time` takes it.
    pub(crate) time: Option<String>,
    /// Bytes.
    pub(crate) memory: Option<u64>,
    pub(crate) cpus: Option<u32>,
    /// Where a job makes its data directory, on its node.
    pub(crate) directory: Option<PathBuf>,
    /// What this machine and all nodes see.
    pub(crate) shared: Option<PathBuf>,
    /// Source archives of all jobs; each fetches its own without it.
    pub(crate) distfiles: Option<PathBuf>,
    /// More options of `sbatch`.
    pub(crate) options: Vec<String>,
}

/// `NAME VALUE`, each name once but for `option`.
pub(super) fn read(findings: &mut Findings<'_>) -> Slurm {
    let mut slurm = Slurm::default();
    let mut lines: BTreeMap<String, u32> = BTreeMap::new();
    for entry in reading::list(findings, Path::new(FILE)).unwrap_or_default() {
        let (name, value) = entry.value.split_once(char::is_whitespace).unwrap_or((entry.value.as_str(), ""));
        let (name, value) = (name.to_owned(), value.trim());
        let place = entry.place();
        if !NAMES.contains(&name.as_str()) {
            let hint = nearest(&name, NAMES).map_or_else(|| format!("there are {}", NAMES.join(", ")), question);
            findings.error_with_hint(&place, format!("there is no setting `{}`", name.escape_debug()), hint);
            continue;
        }
        if let Err(wrong) = slurm.set(&name, value) {
            findings.error(&place, wrong);
        }
        if let Some(line) = lines.insert(name.clone(), entry.line).filter(|_| name != "option") {
            findings.error(&place, format!("line {line} has `{name}` already"));
        }
    }
    slurm
}

impl Slurm {
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let text = || {
            let is_text = !value.is_empty() && !value.chars().any(char::is_control);
            is_text.then(|| value.to_owned()).ok_or_else(|| format!("`{name}` has no value"))
        };
        let path = || {
            let path = Some(PathBuf::from(value)).filter(|path| path.is_absolute());
            path.ok_or_else(|| format!("`{}` is not an absolute path", value.escape_debug()))
        };
        match name {
            "partition" => self.partition = Some(text()?),
            "time" if !value.is_empty() && value.chars().all(|c| c.is_ascii_digit() || ":-".contains(c)) => {
                self.time = Some(value.to_owned());
            }
            "time" => return Err(format!("`{}` is no time of Slurm, such as `90` (minutes) or `8:00:00`", value.escape_debug())),
            "memory" => match limits::size(value) {
                Some(bytes @ LEAST_MEMORY_BYTES..) => self.memory = Some(bytes),
                _ => return Err(format!("`{}` is no size for a job, such as `16G`", value.escape_debug())),
            },
            "cpus" => match value.parse() {
                Ok(cpus @ 1..) => self.cpus = Some(cpus),
                _ => return Err(format!("`{}` is no number of processors", value.escape_debug())),
            },
            "directory" => self.directory = Some(path()?),
            "shared" => self.shared = Some(path()?),
            "distfiles" => self.distfiles = Some(path()?),
            _ if value.starts_with("--") => match ours(value) {
                Some(ours) => {
                    return Err(format!("`--{ours}` cannot be an option: gentoomuch sets it, or could not follow the job"));
                }
                None => self.options.push(text()?),
            },
            _ => return Err("an option of `sbatch` begins with `--`: `option --account=gentoo`".to_owned()),
        }
        Ok(())
    }
}

/// The option of [`OURS`] that `sbatch` would take this for.
fn ours(option: &str) -> Option<&'static str> {
    let name = option.trim_start_matches("--").split(['=', ' ', '\t']).next().unwrap_or_default();
    OURS.into_iter().find(|ours| ours.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_setting() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("env")).unwrap();
        let text = "partition build\ntime 8:00:00\nmemory 16G\ncpus 16 # of 64\ndirectory /scratch\noption --qos=long\n\
                    option --comment=a fleet\n";
        std::fs::write(dir.path().join(FILE), text).unwrap();
        let mut findings = Findings::new(dir.path());
        let slurm = read(&mut findings);
        let (slurm, _) = findings.finish(slurm).unwrap();
        assert_eq!((slurm.partition.as_deref(), slurm.time.as_deref(), slurm.cpus), (Some("build"), Some("8:00:00"), Some(16)));
        assert_eq!(slurm.options, ["--qos=long", "--comment=a fleet"]);
        assert_eq!((slurm.directory.as_deref(), slurm.shared), (Some(Path::new("/scratch")), None));
    }

    #[test]
    fn what_is_wrong_is_said_by_line() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("env")).unwrap();
        let text = "partitoin build\ntime soon\nmemory much\ncpus 0\ndirectory scratch\noption -p x\ncpus 4\n\
                    option --array=0-9\noption --outp=x\noption --export=ALL\noption --wait-all-nodes=1\noption --mem-per-cpu=1G\n";
        std::fs::write(dir.path().join(FILE), text).unwrap();
        let mut findings = Findings::new(dir.path());
        let slurm = read(&mut findings);
        let said = findings.finish(slurm).unwrap_err().to_string().replace(&format!("{}/", dir.path().display()), "");
        insta::assert_snapshot!(said, @r"
        env/slurm:1: there is no setting `partitoin`
          hint: did you mean `partition`?
        env/slurm:2: `soon` is no time of Slurm, such as `90` (minutes) or `8:00:00`
        env/slurm:3: `much` is no size for a job, such as `16G`
        env/slurm:4: `0` is no number of processors
        env/slurm:5: `scratch` is not an absolute path
        env/slurm:6: an option of `sbatch` begins with `--`: `option --account=gentoo`
        env/slurm:7: line 4 has `cpus` already
        env/slurm:8: `--array` cannot be an option: gentoomuch sets it, or could not follow the job
        env/slurm:9: `--output` cannot be an option: gentoomuch sets it, or could not follow the job
        env/slurm:10: `--export` cannot be an option: gentoomuch sets it, or could not follow the job
        ");
    }
}
