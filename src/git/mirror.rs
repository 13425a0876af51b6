//! Commits of other people's repositories, fetched into a bare repository of ours.
//!
//! ```text
//! cache/repos/NAME.git/       bare and shallow; whatever was fetched before makes the next time short
//! cache/repos/NAME.git/       bare and shallow; objects of earlier fetches make the next one short
//! ```
//!
//! What is fetched is hostile. git gets no configuration but that of the bare repository, which is ours: no hooks, no filters, no
//! templates, no protocol but that of the address, and nothing that prompts on a terminal. Objects are checked on arrival
//! (`fsckObjects`), which also refuses paths that lead out of a work tree. Locks and partial packs of a killed git are removed first.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use super::{Git, GitError, Result, printable};
use crate::config::source::Revision;
use crate::did_you_mean::nearest;
use crate::program;
use crate::program::{Attendance, Heard};
use crate::progress::{Event, Observer, Unit};

/// The ref of the wanted commit. Without one, `gc` would remove it.
const REF: &str = "refs/gentoomuch/wanted";
/// The variables of the caller that git gets: how to reach servers, and where things are.
const VARIABLES: [&str; 17] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "USER",
    "LOGNAME",
    "SSH_AUTH_SOCK",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "GIT_EXEC_PATH",
];

/// git's settings; it reads no others.
const SETTINGS: [(&str, &str); 16] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.autocrlf", "false"),
    ("core.symlinks", "true"),
    ("core.askPass", ""),
    ("credential.helper", ""),
    // The scheme of the address is allowed for each fetch (see `run_with`): a redirect or a submodule cannot switch to `ext::` or
    // `file://`.
    ("protocol.allow", "never"),
    ("fetch.fsckObjects", "true"),
    ("transfer.fsckObjects", "true"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("submodule.recurse", "false"),
    // git has no timeout of its own: a server that sends less than 100 bytes a second for a minute is given up.
    ("http.lowSpeedLimit", "100"),
    ("http.lowSpeedTime", "60"),
    ("init.defaultBranch", "main"),
];

/// The bare repository of one ebuild repository.
pub(crate) struct Mirror<'a> {
    git: &'a Git,
    dir: PathBuf,
    observer: &'a dyn Observer,
    cancelled: &'a dyn Fn() -> bool,
}

impl std::fmt::Debug for Mirror<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mirror").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// A commit that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Its full hash.
    pub id: String,
    /// The object as git hashes it, without the header: a signature is over this.
    pub raw: Vec<u8>,
    /// When it was committed, seconds since 1970.
    pub committed: i64,
}

impl<'a> Mirror<'a> {
    /// The repository at `dir`, made if it is not there. The caller holds its lock.
    pub(crate) fn open(git: &'a Git, dir: &Path, observer: &'a dyn Observer, cancelled: &'a dyn Fn() -> bool) -> Result<Self> {
        let mirror = Self { git, dir: dir.to_owned(), observer, cancelled };
        if dir.join("HEAD").is_file() {
            mirror.remove_litter().map_err(mirror.io())?;
            if mirror.run(None, &["rev-parse", "--is-bare-repository"])?.status.success() {
                return Ok(mirror);
            }
            // A damaged cache is made anew.
        }
        if dir.exists() {
            fs::remove_dir_all(dir).map_err(mirror.io())?;
        }
        fs::create_dir_all(dir).map_err(mirror.io())?;
        mirror.run(None, &["init", "--quiet", "--bare", "--template="])?.ok()?;
        Ok(mirror)
    }

    fn io(&self) -> impl Fn(io::Error) -> GitError + use<> {
        let path = self.dir.clone();
        move |source| GitError::Mirror { path: path.clone(), source }
    }

    /// Removes what a killed git left; the caller's lock keeps other processes out.
    fn remove_litter(&self) -> io::Result<()> {
        let mut pending = vec![self.dir.clone(), self.dir.join("objects/pack"), self.dir.join("refs/gentoomuch")];
        while let Some(dir) = pending.pop() {
            let Ok(entries) = fs::read_dir(&dir) else { continue };
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with("tmp_") || (Path::new(&name).extension().is_some_and(|e| e == "lock") && entry.path().is_file())
                {
                    fs::remove_file(entry.path())?;
                }
            }
        }
        Ok(())
    }

    /// The commit `rev` of the repository at `uri`, or that of its `HEAD`; fetched if it is not here.
    pub(crate) fn fetch(&self, uri: &str, rev: Option<&Revision>, offline: bool) -> Result<Commit> {
        let wanted = match rev {
            Some(Revision::Commit(id)) => {
                if let Some(commit) = self.whole(id)? {
                    return Ok(commit);
                }
                id.clone()
            }
            Some(Revision::Moving(_) | Revision::Date(_) | Revision::Digest(_)) | None if offline => String::new(),
            Some(Revision::Moving(name) | Revision::Date(name)) => self.named(uri, name)?,
            Some(Revision::Digest(_)) | None => "HEAD".to_owned(),
        };
        if offline {
            return Err(GitError::Offline { uri: uri.to_owned() });
        }
        let refspec = format!("+{wanted}:{REF}");
        // `--update-shallow`: the other repository may be shallow itself, and git refuses its refs otherwise.
        let options = ["--depth=1", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--update-shallow"];
        let mut arguments = vec!["fetch", "--progress", "--force"];
        arguments.extend(options);
        arguments.extend(["--", uri, &refspec]);
        let ended = self.run(Some(uri), &arguments)?;
        if !ended.status.success() {
            // The words of `upload-pack` and of `fetch` when a server does not hand out commits by id; git has no exit status for it.
            let refused = ["not our ref", "unadvertised object", "couldn't find remote ref", "no such remote ref"];
            if matches!(rev, Some(Revision::Commit(_))) && refused.iter().any(|words| ended.stderr.contains(words)) {
                return Err(GitError::NotGiven { commit: wanted, uri: uri.to_owned() });
            }
            ended.ok()?;
        }
        let id = self.run(None, &["rev-parse", "--verify", &format!("{REF}^{{commit}}")])?.ok()?;
        let id = String::from_utf8_lossy(&id).trim().to_owned();
        // `SETTINGS` switch automatic gc off: it would go on in the background after our lock is released. Here it runs in the
        // foreground. Commits of earlier shallow fetches are unreachable, so they are pruned at once.
        self.run(
            None,
            &["-c", "gc.autoDetach=false", "-c", "gc.pruneExpire=now", "-c", "gc.auto=6700", "gc", "--auto", "--quiet"],
        )?;
        self.whole(&id)?.ok_or_else(|| GitError::NotGiven { commit: id, uri: uri.to_owned() })
    }

    /// The full name of a branch or tag; a branch comes first.
    fn named(&self, uri: &str, name: &str) -> Result<String> {
        let listed = self.run(Some(uri), &["ls-remote", "--refs", "--", uri])?.ok()?;
        let listed = String::from_utf8_lossy(&listed);
        let refs: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
        for prefix in ["refs/heads/", "refs/tags/"] {
            let whole = format!("{prefix}{name}");
            if refs.contains(&whole.as_str()) {
                return Ok(whole);
            }
        }
        let short = |name: &&str| name.strip_prefix("refs/heads/").or_else(|| name.strip_prefix("refs/tags/")).map(printable);
        let known: Vec<String> = refs.iter().filter_map(short).collect();
        let nearest = nearest(name, &known).map(str::to_owned);
        Err(GitError::UnknownRevision { revision: name.to_owned(), repository: uri.into(), nearest, known })
    }

    /// The commit `id`, if it and all its trees are here.
    fn whole(&self, id: &str) -> Result<Option<Commit>> {
        let raw = self.run(None, &["cat-file", "commit", id])?;
        if !raw.status.success() {
            return Ok(None);
        }
        // Lists every tree, so that a missing one is found. Blobs are not checked: a fetch brings them together with the trees.
        if !self.run(None, &["ls-tree", "-r", "--name-only", "-z", id])?.status.success() {
            return Ok(None);
        }
        let committed = committed(&raw.stdout);
        Ok(Some(Commit { id: id.to_owned(), raw: raw.stdout, committed }))
    }

    /// Writes the files of a commit into `target`, an empty directory. `index` is a temporary file of git's, which the caller removes.
    pub(crate) fn checkout(&self, commit: &Commit, target: &Path, index: &Path) -> Result<()> {
        let variables = [(OsStr::new("GIT_INDEX_FILE"), index.as_os_str()), (OsStr::new("GIT_WORK_TREE"), target.as_os_str())];
        self.run_with(None, &["read-tree", &commit.id], &variables)?.ok()?;
        let mut prefix = OsString::from("--prefix=");
        prefix.push(target);
        // git puts the prefix in front of each path as a string.
        prefix.push("/");
        self.run_with(None, &[OsStr::new("checkout-index"), OsStr::new("--all"), OsStr::new("--quiet"), &prefix], &variables)?
            .ok()?;
        Ok(())
    }

    fn run<S: AsRef<OsStr>>(&self, uri: Option<&str>, arguments: &[S]) -> Result<program::Ended> {
        self.run_with(uri, arguments, &[])
    }

    fn run_with<S: AsRef<OsStr>>(
        &self,
        uri: Option<&str>,
        arguments: &[S],
        variables: &[(&OsStr, &OsStr)],
    ) -> Result<program::Ended> {
        let mut settings: Vec<(String, &str)> = SETTINGS.map(|(name, value)| (name.to_owned(), value)).into();
        if let Some((scheme, _)) = uri.and_then(|uri| uri.split_once("://")) {
            settings.push((format!("protocol.{scheme}.allow"), "always"));
        }
        let mut command = Command::new(&self.git.program);
        command.args(arguments).current_dir(&self.dir).env_clear();
        let passed = |name: &OsString| name.to_str().is_some_and(|name| VARIABLES.contains(&name));
        command.envs(self.git.environment.iter().filter(|(name, _)| passed(name)).map(|(name, value)| (name, value)));
        command.envs([
            ("LC_ALL", "C"),
            ("LANGUAGE", ""),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            // ssh prompts on the terminal by itself, whatever git's settings say.
            ("GIT_SSH_COMMAND", "ssh -oBatchMode=yes"),
        ]);
        command.env("GIT_DIR", &self.dir).envs(super::settings(0, &settings)).envs(variables.iter().copied());
        let mut counted = Counted { observer: self.observer, part: None };
        let mut line = |line: &str| counted.line(line);
        let ended = program::run(
            command,
            b"",
            Attendance { heard: Heard::Stderr, line: &mut line, cancelled: self.cancelled, reaches_out: uri.is_some() },
        );
        counted.end();
        Ok(ended?)
    }
}

/// Turns git's progress messages into events. git knows the totals itself.
struct Counted<'a> {
    observer: &'a dyn Observer,
    /// What it counts now, up to which number, and how far it is.
    part: Option<(&'static str, u64, u64)>,
}

impl Counted<'_> {
    fn line(&mut self, line: &str) {
        let Some((what, things, done, total)) = counted(line) else { return };
        if self.part.is_none_or(|(known, _, _)| known != what) {
            self.end();
            self.observer.event(&Event::Begin { what, total: Some(total), unit: Unit::Things(things) });
            self.part = Some((what, total, 0));
        }
        let Some((_, known, before)) = &mut self.part else { return };
        if *known != total {
            self.observer.event(&Event::Total(total));
            *known = total;
        }
        if done > *before {
            self.observer.event(&Event::Advance(done - *before));
            *before = done;
        }
    }

    fn end(&mut self) {
        if self.part.take().is_some() {
            self.observer.event(&Event::End);
        }
    }
}

/// What is counted, how many there are of it by now, and in all.
///
/// ```text
/// Receiving objects:  42% (12/29), 1.20 MiB | 3.00 MiB/s
/// Resolving deltas: 100% (7/7), done.
/// Updating files:  50% (5/10)
/// ```
fn counted(line: &str) -> Option<(&'static str, &'static str, u64, u64)> {
    let (words, numbers) = line.split_once(':')?;
    let (what, things) = match words {
        "Receiving objects" => ("receiving", "objects"),
        "Resolving deltas" => ("resolving", "deltas"),
        "Updating files" => ("writing", "files"),
        _ => return None,
    };
    let (_, numbers) = numbers.split_once('(')?;
    let (done, total) = numbers.split_once(')')?.0.split_once('/')?;
    let (done, total) = (done.parse().ok()?, total.parse().ok()?);
    (done <= total).then_some((what, things, done, total))
}

/// The time in a commit's `committer` line.
fn committed(raw: &[u8]) -> i64 {
    let mut headers = raw.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
    let committer = headers.find_map(|line| line.strip_prefix(b"committer ")).unwrap_or_default();
    let text = String::from_utf8_lossy(committer);
    let time = text.rsplit_once('>').and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
    time.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_counts_is_told_with_its_total() {
        for (line, want) in [
            ("Receiving objects:  42% (12/29), 1.20 MiB | 3.00 MiB/s", Some(("receiving", "objects", 12, 29))),
            ("Resolving deltas: 100% (7/7), done.", Some(("resolving", "deltas", 7, 7))),
            ("Updating files:  50% (5/10)", Some(("writing", "files", 5, 10))),
            ("remote: Counting objects: 100% (3/3), done.", None),
            ("Receiving objects: 42% (12/x)", None),
            ("Receiving objects: 42% (12/3)", None),
            ("Receiving objects:", None),
            ("fatal: (1/2)", None),
        ] {
            assert_eq!(counted(line), want, "{line}");
        }
    }

    #[test]
    fn each_count_of_git_is_a_part_of_its_own() {
        #[derive(Default)]
        struct Told(std::sync::Mutex<Vec<String>>);
        impl Observer for Told {
            fn event(&self, event: &Event<'_>) {
                self.0.lock().unwrap().push(match event {
                    Event::Begin { what, total, .. } => format!("{what} {}", total.unwrap()),
                    Event::Total(total) => format!("of {total}"),
                    Event::Advance(more) => format!("+{more}"),
                    Event::End => "end".to_owned(),
                    other => format!("{other:?}"),
                });
            }
        }
        let told = Told::default();
        let mut counted = Counted { observer: &told, part: None };
        for line in ["Receiving objects:  50% (1/2)", "Receiving objects: 100% (4/4), 1 KiB", "Resolving deltas:   0% (0/1)", "x"] {
            counted.line(line);
        }
        counted.end();
        counted.end();
        assert_eq!(told.0.into_inner().unwrap().join(" "), "receiving 2 +1 of 4 +3 end resolving 1 end");
    }

    #[test]
    fn a_commit_tells_when_it_was_made() {
        let raw = b"tree 1\nauthor A <a> 1 +0000\ncommitter B > <b@x> 1760000000 +0200\n\ncommitter C <c> 5 +0000\n";
        assert_eq!(committed(raw), 1_760_000_000);
        assert_eq!(committed(b"tree 1\n\nx"), 0);
    }
}
