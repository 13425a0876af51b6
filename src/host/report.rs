//! `doctor`: every check with its finding and, where it fails, what to do.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::facts::Facts;
use super::{HostProblem, place, probe};
use crate::sandbox::idmap::COMFORTABLE_COUNT;
use crate::sandbox::refusal::find_program;
use crate::sandbox::{self, IdMap, Launcher, Rung};
use crate::store::{IdMapChange, Store};

/// Less free space than this is not enough for a build.
const SPACE_WANTED_BYTES: u64 = 10 << 30;
const SPACE_NEEDED_BYTES: u64 = 1 << 30;
/// A stage3 has about 100,000 files, and each package compiles some thousands.
const INODES_NEEDED: u64 = 200_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Status {
    /// As it should be.
    Ok,
    /// Building works, but something is missing or slow.
    Warning,
    /// Building does not work.
    Failed,
    /// A check before it failed, so this one could not be made.
    NotTried,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Check {
    /// What is checked, in a few words.
    pub name: &'static str,
    pub status: Status,
    pub found: String,
    /// What to do, if it failed.
    pub remedy: Option<String>,
}

/// One kind of isolation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RungReport {
    pub rung: Rung,
    pub works: bool,
    /// Why it does not work.
    pub lacks: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Report {
    /// Whether building works.
    pub ready: bool,
    /// What has to be so for that, in words, if anything.
    pub condition: Option<String>,
    /// The isolation of sessions; absent if there can be none.
    pub isolation: Option<String>,
    /// Each check depends on those before it.
    pub checks: Vec<Check>,
    /// The strongest first.
    pub rungs: Vec<RungReport>,
}

/// A launcher with the ids of one rung, or why there are none and what to do.
pub(crate) type Candidate = Result<Launcher, (String, String)>;

/// What is examined.
pub(crate) struct Subject<'a> {
    /// With the ids that commands would use.
    pub launcher: &'a Candidate,
    pub rungs: Vec<(Rung, Candidate)>,
    /// What to do about a sandbox that could not be made.
    pub remedies: &'a dyn Fn(&sandbox::Error) -> Vec<String>,
    /// Where programs are looked for.
    pub search_path: &'a [PathBuf],
    /// The data directory; it need not exist.
    pub data: &'a Path,
    /// The key that signs artifacts, or why there is none and what to do.
    pub signing_key: Result<String, (String, String)>,
}

/// Runs all checks. Nothing is left behind.
pub(crate) fn examine(subject: &Subject<'_>) -> Report {
    let facts = Facts::read(Path::new("/"));
    let entered = if facts.gvisor { not_tried(NAMESPACE, "since this is not Linux") } else { entered(subject) };
    let mut checks = vec![kernel(&facts), id_ranges(subject.launcher), entered];
    let entered = checks.iter().all(|check| check.status <= Status::Warning).then_some(subject.launcher.as_ref().ok()).flatten();
    checks.push(file_system(subject.data));
    checks.push(space(subject.data));
    let has_place = checks.iter().any(|check| check.name == FILE_SYSTEM && check.status == Status::Ok);
    checks.push(match entered {
        Some(launcher) if has_place => overlay(subject, launcher),
        Some(_) => not_tried("overlayfs", "since the data directory cannot lie there"),
        None => not_tried("overlayfs", NO_NAMESPACE),
    });
    let (session, isolation) = match entered {
        Some(launcher) => session(subject, launcher),
        None => (not_tried("session", NO_NAMESPACE), None),
    };
    checks.push(session);
    checks.extend(entered.filter(|_| has_place).and_then(|launcher| store(launcher, subject.data)));
    checks.push(scopes(crate::sys::landlock::abi()));
    checks.push(ptrace(&facts));
    let gpg = gpg(subject.search_path);
    let has_gpg = gpg.status == Status::Ok;
    checks.push(gpg);
    if has_gpg {
        checks.push(signing_key(&subject.signing_key));
    }
    checks.push(optional(|program| find_program(program, subject.search_path).is_some()));
    let ready = checks.iter().all(|check| check.status <= Status::Warning) && isolation.is_some();
    let rungs = subject.rungs.iter().map(|(rung, candidate)| rung_report(*rung, candidate, &facts)).collect();
    let condition = subject.launcher.as_ref().ok().and_then(|launcher| condition(launcher.id_map())).filter(|_| ready);
    Report { ready, condition, isolation: isolation.filter(|_| ready), checks, rungs }
}

fn ok(name: &'static str, found: impl Into<String>) -> Check {
    Check { name, status: Status::Ok, found: found.into(), remedy: None }
}

fn bad(name: &'static str, status: Status, found: impl Into<String>, remedy: impl Into<String>) -> Check {
    Check { name, status, found: found.into(), remedy: Some(remedy.into()) }
}

const NAMESPACE: &str = "user namespace";
const FILE_SYSTEM: &str = "file system";
const NO_NAMESPACE: &str = "since there is no user namespace with ids";

fn not_tried(name: &'static str, why: &str) -> Check {
    Check { name, status: Status::NotTried, found: why.to_owned(), remedy: None }
}

fn kernel(facts: &Facts) -> Check {
    const NAME: &str = "kernel";
    if facts.gvisor {
        return bad(NAME, Status::Failed, HostProblem::Gvisor.to_string(), HostProblem::Gvisor.remedy());
    }
    ok(NAME, &facts.kernel)
}

/// The highest owner of a file in a session, if some are missing that Gentoo may have.
fn highest_owner(map: &IdMap) -> Option<u32> {
    map.nested().0.highest_owner().filter(|_| map.count() < COMFORTABLE_COUNT)
}

/// With fewer ids than Gentoo's users and groups may have. Which ones a stage3 has is seen when it is imported.
fn condition(map: &IdMap) -> Option<String> {
    let highest = highest_owner(map)?;
    Some(format!("if no file belongs to a user or group above {highest}"))
}

fn id_ranges(launcher: &Candidate) -> Check {
    const NAME: &str = "ids";
    match launcher {
        Ok(launcher) => {
            let map = launcher.id_map();
            let count = map.count();
            let whose = if map.is_own() { "of this user namespace itself" } else { "subordinate" };
            match highest_owner(map) {
                Some(highest) => {
                    let found = format!(
                        "{count}, {whose}: a stage3 with files of a user or group above {highest} is refused before it is unpacked \
                         (`nobody` is 65534)"
                    );
                    bad(
                        NAME,
                        Status::Warning,
                        found,
                        "ask the administrator for 65536 ids; in a container, start it with 65536 ids",
                    )
                }
                None => ok(NAME, format!("{count}, {whose}")),
            }
        }
        Err((found, remedy)) => bad(NAME, Status::Failed, found, remedy),
    }
}

/// The probe decides: which programs are there and which bits they have does not matter.
fn entered(subject: &Subject<'_>) -> Check {
    match subject.launcher {
        Err(_) => not_tried(NAMESPACE, "since there are no ids"),
        Ok(launcher) => match launcher.enter() {
            Ok(()) => ok(NAMESPACE, "entered, with all ids"),
            Err(error) => sandbox_failed(subject, NAMESPACE, &error),
        },
    }
}

fn sandbox_failed(subject: &Subject<'_>, name: &'static str, error: &sandbox::Error) -> Check {
    let remedies = (subject.remedies)(error);
    let remedy = (!remedies.is_empty()).then(|| remedies.join("; "));
    Check { name, status: Status::Failed, found: crate::causes::in_one_line(error), remedy }
}

fn file_system(data: &Path) -> Check {
    let there = place::existing(data);
    if !there.is_dir() {
        return bad(
            FILE_SYSTEM,
            Status::Failed,
            format!("`{}` is not a directory", there.display()),
            "choose another place with `--data`",
        );
    }
    match place::check_kind(data) {
        Ok(()) => {
            let name = crate::sys::mount::file_system_name(there).unwrap_or_else(|_| "unknown".to_owned());
            ok(FILE_SYSTEM, format!("{name} at {}", data.display()))
        }
        Err(problem) => bad(FILE_SYSTEM, Status::Failed, problem.to_string(), problem.remedy()),
    }
}

fn space(data: &Path) -> Check {
    const NAME: &str = "free space";
    const REMEDY: &str = "free some, or choose another place with `--data` or `GENTOOMUCH_DATA`";
    match rustix::fs::statvfs(place::existing(data)) {
        Ok(stat) => {
            let free = stat.f_bavail * stat.f_frsize;
            let found = format!("{:.1} GiB", free as f64 / f64::from(1 << 30));
            match free {
                // btrfs makes inodes as it needs them and says 0 for all.
                _ if stat.f_files > 0 && stat.f_favail < INODES_NEEDED => {
                    bad(NAME, Status::Failed, format!("{found}, but only {} inodes", stat.f_favail), REMEDY)
                }
                _ if free < SPACE_NEEDED_BYTES => bad(NAME, Status::Failed, found, REMEDY),
                _ if free < SPACE_WANTED_BYTES => bad(NAME, Status::Warning, found, REMEDY),
                _ => ok(NAME, found),
            }
        }
        Err(errno) => bad(NAME, Status::Failed, format!("not known: {errno}"), REMEDY),
    }
}

fn overlay(subject: &Subject<'_>, launcher: &Launcher) -> Check {
    const NAME: &str = "overlayfs";
    match place::check(launcher, place::existing(subject.data)) {
        Ok(()) => ok(NAME, "mounted; whiteout, rename, owner and attribute tried"),
        Err(HostProblem::Sandbox(error)) => match *error {
            sandbox::Error::Sys(error) => {
                bad(NAME, Status::Failed, crate::causes::in_one_line(&error), "choose another place with `--data`")
            }
            error => sandbox_failed(subject, NAME, &error),
        },
        Err(problem) => bad(NAME, Status::Failed, crate::causes::in_one_line(&problem), problem.remedy()),
    }
}

/// With the isolation that it had.
fn session(subject: &Subject<'_>, launcher: &Launcher) -> (Check, Option<String>) {
    const NAME: &str = "session";
    match probe::session(launcher) {
        Ok(()) => {
            let found = "entered: proc, sys, dev, tmpfs, nested user namespace, seccomp";
            (ok(NAME, found), Some(launcher.isolation().to_string()))
        }
        Err(probe::SessionError::Sandbox(sandbox::Error::Proc { .. })) if shared_works(subject) => {
            let found =
                "the kernel refuses a new /proc: a session sees the processes of this container, and Portage's pid-sandbox is off";
            let remedy = "start the container with `--security-opt unmask=ALL` (podman), `--security-opt systempaths=unconfined` (docker) \
                or `procMount: Unmasked` (Kubernetes)";
            (bad(NAME, Status::Warning, found, remedy), Some(launcher.isolation().sharing_proc().to_string()))
        }
        Err(probe::SessionError::Sandbox(error)) => (sandbox_failed(subject, NAME, &error), None),
        Err(error) => (bad(NAME, Status::Failed, error.to_string(), "look at the steps with `gentoomuch -vv doctor`"), None),
    }
}

fn shared_works(subject: &Subject<'_>) -> bool {
    let shared = subject.rungs.iter().find(|(rung, _)| *rung == Rung::SharedProc);
    shared.and_then(|(_, candidate)| candidate.as_ref().ok()).is_some_and(|launcher| probe::session(launcher).is_ok())
}

/// Whether the store that is there can be used with these ids.
fn store(launcher: &Launcher, data: &Path) -> Option<Check> {
    const NAME: &str = "store";
    match Store::compare(&data.join("store"), launcher.id_map()) {
        Ok(None) => None,
        Ok(Some(IdMapChange::None)) => Some(ok(NAME, "made with these ids")),
        Ok(Some(IdMapChange::Changed)) => Some(bad(
            NAME,
            Status::Failed,
            "made with other ids",
            "ask the administrator to restore the range in `/etc/subuid` and `/etc/subgid`, or use another `--data` directory",
        )),
        Err(error) => Some(bad(
            NAME,
            Status::Failed,
            crate::causes::in_one_line(&error),
            "see what is affected with `gentoomuch store verify`",
        )),
    }
}

fn rung_report(rung: Rung, candidate: &Candidate, facts: &Facts) -> RungReport {
    let lacks = match candidate {
        _ if facts.gvisor => Some(HostProblem::Gvisor.to_string()),
        Ok(launcher) => probe::session(launcher).err().map(|error| crate::causes::in_one_line(&error)),
        Err((found, _)) => Some(found.clone()),
    };
    RungReport { rung, works: lacks.is_none(), lacks }
}

/// `abi` is Landlock's, if the kernel has it.
fn scopes(abi: Option<u32>) -> Check {
    const NAME: &str = "landlock";
    let found = match abi {
        Some(abi) if abi >= crate::sys::landlock::SCOPES_ABI => {
            return ok(NAME, format!("ABI {abi}: a session cannot reach abstract sockets and processes outside"));
        }
        Some(abi) => format!("ABI {abi}, without scopes"),
        None => "missing, or switched off".to_owned(),
    };
    bad(
        NAME,
        Status::Warning,
        format!("{found}: a session with `--network host` can connect to abstract Unix sockets of this machine, as the user"),
        "boot Linux 6.12 or later with `landlock` in `CONFIG_LSM` or `lsm=`; until then, use `--network host` only with packages that you trust",
    )
}

fn ptrace(facts: &Facts) -> Check {
    match facts.ptrace_scope {
        Some(scope @ 2..) => bad(
            "ptrace",
            Status::Warning,
            format!("`kernel.yama.ptrace_scope` is {scope}: Portage's sandbox cannot trace static programs"),
            "as the administrator: `sysctl -w kernel.yama.ptrace_scope=1`; or set `SANDBOX_METHOD=preload` in `portage.global/make.conf`",
        ),
        Some(scope) => ok("ptrace", format!("`kernel.yama.ptrace_scope` is {scope}")),
        None => ok("ptrace", "unrestricted"),
    }
}

fn gpg(search_path: &[PathBuf]) -> Check {
    match find_program("gpg", search_path) {
        Some(path) => ok("gpg", path.display().to_string()),
        None => {
            bad("gpg", Status::Warning, "not installed: artifacts cannot be signed", "install GnuPG, or build with `--no-sign`")
        }
    }
}

fn signing_key(key: &Result<String, (String, String)>) -> Check {
    const NAME: &str = "signing key";
    match key {
        Ok(found) => ok(NAME, found),
        Err((found, remedy)) => bad(NAME, Status::Warning, found, remedy),
    }
}

/// Programs that some commands call, and for what.
const OPTIONAL: [(&str, &str); 3] =
    [("git", "trees from git, `config diff --rev`"), ("mksquashfs", "artifacts as squashfs"), ("rsync", "trees from rsync")];

/// Without them the machine is as ready.
fn optional(has: impl Fn(&str) -> bool) -> Check {
    let (here, missing): (Vec<_>, Vec<_>) = OPTIONAL.into_iter().partition(|(program, _)| has(program));
    let here: Vec<&str> = here.into_iter().map(|(program, _)| program).collect();
    let here = if here.is_empty() { "none".to_owned() } else { here.join(", ") };
    let missing: Vec<String> = missing.into_iter().map(|(program, what)| format!("{program} ({what})")).collect();
    ok("optional", if missing.is_empty() { here } else { format!("{here}; not installed: {}", missing.join(", ")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_are_not_needed_are_named_with_what_they_are_for() {
        assert_eq!(optional(|_| true), ok("optional", "git, mksquashfs, rsync"));
        let found = "git, mksquashfs; not installed: rsync (trees from rsync)";
        assert_eq!(optional(|program| program != "rsync"), ok("optional", found));
        assert!(optional(|_| false).found.starts_with("none; not installed: git ("));
    }

    #[test]
    fn a_key_that_cannot_sign_is_a_warning() {
        assert_eq!(signing_key(&Ok("A1".to_owned())), ok("signing key", "A1"));
        let none = signing_key(&Err(("gpg has no secret key".to_owned(), "make one".to_owned())));
        assert_eq!(none, bad("signing key", Status::Warning, "gpg has no secret key", "make one"));
    }

    #[test]
    fn what_an_older_kernel_leaves_open_is_said() {
        assert_eq!(scopes(Some(7)), ok("landlock", "ABI 7: a session cannot reach abstract sockets and processes outside"));
        let open = ": a session with `--network host` can connect to abstract Unix sockets of this machine, as the user";
        for (abi, found) in [(Some(5), "ABI 5, without scopes"), (None, "missing, or switched off")] {
            let check = scopes(abi);
            assert_eq!((check.status, check.found), (Status::Warning, format!("{found}{open}")));
            assert!(check.remedy.unwrap().starts_with("boot Linux 6.12 or later"));
        }
    }
}
