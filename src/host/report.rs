//! `doctor`: every check with its finding and, where it fails, what to do.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::facts::Facts;
use super::{facts, probe};
use crate::sandbox::{IdMap, Launcher};

/// Less free space than this is not enough for a build.
const SPACE_WANTED_BYTES: u64 = 10 << 30;
const SPACE_NEEDED_BYTES: u64 = 1 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// As it should be.
    Ok,
    /// Building works, but something is missing or slow.
    Warning,
    /// Building does not work.
    Failed,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// What is checked, in a few words.
    pub name: &'static str,
    pub status: Status,
    pub found: String,
    /// What to do, if it failed.
    pub remedy: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// Whether building works.
    pub ready: bool,
    /// The isolation of sessions; absent if there can be none.
    pub isolation: Option<&'static str>,
    /// Each check depends on those before it.
    pub checks: Vec<Check>,
}

/// What is examined.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    /// The user's id map, or why there is none and what to do.
    pub id_map: Result<&'a IdMap, (String, String)>,
    /// Root writes id maps itself, without `newuidmap`.
    pub is_root: bool,
    /// Starts helpers with that map.
    pub launcher: Option<&'a Launcher>,
    /// Where programs are looked for.
    pub search_path: &'a [PathBuf],
    /// The data directory; it exists.
    pub data: &'a Path,
    /// The key that signs artifacts, or why there is none and what to do.
    pub signing_key: Result<String, (String, String)>,
}

/// Runs all checks.
pub(crate) fn examine(subject: &Subject<'_>) -> Report {
    let facts = Facts::read(Path::new("/"));
    let mut checks = vec![kernel(&facts), namespaces(&facts), id_ranges(subject)];
    if !subject.is_root {
        checks.extend(["newuidmap", "newgidmap"].map(|name| map_program(name, subject.search_path)));
    }
    checks.push(no_new_privs(&facts, subject.is_root));
    checks.push(file_system(subject.data));
    checks.push(space(subject.data));
    if let Some(launcher) = subject.launcher {
        checks.push(overlay(launcher, subject.data));
        checks.push(session(launcher, &facts));
    }
    checks.push(scopes(crate::sys::landlock::abi()));
    checks.push(ptrace(&facts));
    let gpg = gpg(subject.search_path);
    let has_gpg = gpg.status == Status::Ok;
    checks.push(gpg);
    if has_gpg {
        checks.push(signing_key(&subject.signing_key));
    }
    let ready = checks.iter().all(|check| check.status != Status::Failed) && subject.launcher.is_some();
    Report { ready, isolation: ready.then(super::rung), checks }
}

fn ok(name: &'static str, found: impl Into<String>) -> Check {
    Check { name, status: Status::Ok, found: found.into(), remedy: None }
}

fn bad(name: &'static str, status: Status, found: impl Into<String>, remedy: impl Into<String>) -> Check {
    Check { name, status, found: found.into(), remedy: Some(remedy.into()) }
}

fn kernel(facts: &Facts) -> Check {
    let problem = facts.problems().into_iter().find(|problem| matches!(problem, facts::HostProblem::OldKernel { .. }));
    match problem {
        Some(problem) => bad("kernel", Status::Failed, problem.to_string(), problem.remedy()),
        None => ok("kernel", &facts.kernel),
    }
}

fn namespaces(facts: &Facts) -> Check {
    use facts::HostProblem::{NamespacesOff, NamespacesRootOnly};
    if let Some(problem) = facts.problems().into_iter().find(|problem| matches!(problem, NamespacesOff | NamespacesRootOnly)) {
        return bad("user namespaces", Status::Failed, problem.to_string(), problem.remedy());
    }
    if facts.apparmor_restrict == Some(1) {
        // An AppArmor profile for this program may allow it all the same: the session below shows.
        let problem = facts::HostProblem::AppArmor;
        return bad("user namespaces", Status::Warning, problem.to_string(), problem.remedy());
    }
    let limit = facts.max_user_namespaces.map_or_else(|| "no limit known".to_owned(), |limit| format!("up to {limit}"));
    ok("user namespaces", limit)
}

fn id_ranges(subject: &Subject<'_>) -> Check {
    match &subject.id_map {
        Ok(map) => {
            let count = map.count();
            let found = format!("{count} ids");
            if count < crate::sandbox::idmap::COMFORTABLE_COUNT {
                let remedy = "as the administrator: give the user 65536 subordinate ids with `usermod --add-subuids` and \
                    `--add-subgids`; files of owners above the range cannot be unpacked";
                return bad("subordinate ids", Status::Warning, found, remedy);
            }
            ok("subordinate ids", found)
        }
        Err((found, remedy)) => bad("subordinate ids", Status::Failed, found, remedy),
    }
}

fn map_program(name: &'static str, search_path: &[PathBuf]) -> Check {
    match facts::map_program(name, search_path) {
        Ok(path) => ok(name, path.display().to_string()),
        Err(problem) => bad(name, Status::Failed, problem.to_string(), problem.remedy()),
    }
}

fn no_new_privs(facts: &Facts, is_root: bool) -> Check {
    let filter = match facts.seccomp {
        0 => "no seccomp filter",
        _ => "a seccomp filter is in force",
    };
    if facts.no_new_privs && !is_root {
        let problem = facts::HostProblem::NoNewPrivs;
        return bad("privileges", Status::Failed, problem.to_string(), problem.remedy());
    }
    let not = if facts.no_new_privs { "" } else { "not " };
    ok("privileges", format!("`no_new_privs` is {not}set, {filter}"))
}

fn file_system(data: &Path) -> Check {
    const NAME: &str = "file system";
    let name = crate::sys::mount::file_system_name(data).unwrap_or_else(|_| "unknown".to_owned());
    let found = format!("{name} at {}", data.display());
    match name.as_str() {
        "nfs" | "lustre" | "gpfs" | "fuse" | "cifs" | "smb2" | "vfat" | "exfat" => {
            bad(NAME, Status::Warning, found, "put the data directory on a local disk with `--data` or `GENTOOMUCH_DATA`")
        }
        _ => ok(NAME, found),
    }
}

fn space(data: &Path) -> Check {
    const NAME: &str = "free space";
    const REMEDY: &str = "free some, or choose another place with `--data` or `GENTOOMUCH_DATA`";
    match rustix::fs::statvfs(data) {
        Ok(stat) => {
            let free = stat.f_bavail * stat.f_frsize;
            let found = format!("{:.1} GiB", free as f64 / f64::from(1 << 30));
            match free {
                _ if free < SPACE_NEEDED_BYTES => bad(NAME, Status::Failed, found, REMEDY),
                _ if free < SPACE_WANTED_BYTES => bad(NAME, Status::Warning, found, REMEDY),
                _ => ok(NAME, found),
            }
        }
        Err(errno) => bad(NAME, Status::Failed, format!("not known: {errno}"), REMEDY),
    }
}

fn overlay(launcher: &Launcher, data: &Path) -> Check {
    match probe::overlay(launcher, data) {
        Ok(()) => ok("overlayfs", "mounted; whiteout, rename, owner and attribute tried"),
        Err(words) => bad(
            "overlayfs",
            Status::Failed,
            words.join(": "),
            "put the data directory on ext4, xfs, btrfs or tmpfs with `--data` or `GENTOOMUCH_DATA`; in a container, on a volume",
        ),
    }
}

fn session(launcher: &Launcher, facts: &Facts) -> Check {
    match probe::session(launcher) {
        Ok(()) => ok("session", "entered: proc, sys, dev, tmpfs, nested user namespace, seccomp"),
        Err(words) => {
            let remedy = if facts.proc_masked {
                "parts of /proc are hidden, as in a container: start it with `--security-opt unmask=ALL` (podman) or \
                    `--security-opt systempaths=unconfined` (docker)"
                    .to_owned()
            } else if facts.apparmor_restrict == Some(1) {
                facts::HostProblem::AppArmor.remedy()
            } else if facts.seccomp != 0 {
                "a seccomp filter is in force: in docker, start the container with `--security-opt seccomp=unconfined`".to_owned()
            } else {
                "run `gentoomuch -vv doctor` and look at the step that fails".to_owned()
            };
            bad("session", Status::Failed, words.join(": "), remedy)
        }
    }
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
    match facts::find_program("gpg", search_path) {
        Ok(path) => ok("gpg", path.display().to_string()),
        Err(_) => {
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

#[cfg(test)]
mod tests {
    use super::*;

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
