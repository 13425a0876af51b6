//! Opens a session for work: its directories on the host, its root, and which steps of a longer job are done.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::config::PortageDir;
use crate::config::hooks::Hooks;
use crate::config::patches::PatchRecord;
use crate::context::Context;
use crate::fetch::Metadata;
use crate::jobserver::Share;
use crate::path_error::OfFile as _;
use crate::portage::emerge::DefaultOpts;
use crate::portage::session_conf::SessionConf;
use crate::query::versions::{Ebuild, EbuildFacts};
use crate::sandbox::Interrupt;
use crate::session::ask::ask;
use crate::session::keys::Keys;
use crate::session::logs::LiveLogs;
use crate::session::put_back::Kept;
use crate::session::readable_files::{create_open, write_public};
use crate::session::root::{Root, UserBind};
use crate::session::supply::Supply;
use crate::session::supply::downloads::Downloads;
use crate::session::{Error, Result, Work, binhost, given, inspect, logs, supply, work};
use crate::store::{Purpose, Session, State};
use crate::trees;
use crate::trees::choose;
use crate::trees::choose::PinnedTree;

/// What a session works on: names for logs, hooks and scripts.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    /// `bootstrap-demo`, `stage-web`: name of the log directory.
    pub(crate) log_name: String,
    pub(crate) profile: String,
    /// The stage3 or stage4 definition. Empty for a freshroot.
    pub(crate) definition: String,
}

/// What a session gets in addition to its layers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given<'a> {
    /// For those who run hooks.
    pub(crate) hooks: Option<&'a Hooks>,
    /// The merged configuration, if it must still be put in place.
    pub(crate) portage: Option<&'a PortageDir>,
    /// What the configuration says about downloads. `None`: what the base was made with.
    pub(crate) downloads: Option<&'a Downloads>,
    /// The tree snapshots of the build key. No others are mounted, even if there are newer ones by now. `None`: the trees of the base, as
    /// they are now.
    pub(crate) trees: Option<&'a [PinnedTree]>,
    /// Directories of the host.
    pub(crate) binds: Vec<UserBind>,
    /// The run that needs the result of this work while it goes on. Both share the time of one session, and this work ends with the run.
    /// It has no broker: otherwise what it runs could start further works without end.
    pub(crate) behalf: Option<&'a Supply>,
}

/// Makes the session's directories and describes its root. Nothing is mounted yet.
pub(crate) fn work<'s>(
    cx: &Context<'_>,
    session: &'s mut Session,
    base: &State,
    subject: &Subject,
    given: Given<'_>,
) -> Result<Work<'s>> {
    let Given { hooks, portage, downloads, trees, binds, behalf } = given;
    let log_dir = logs::log_dir(cx, &subject.log_name)?;
    let before = base.origin.patches().to_vec();
    let (upper, overlay_work, mountpoint) = (session.upper(), session.work(), session.root());
    let dir = |name: &str| -> Result<PathBuf> {
        let path = session.path(name);
        create_open(&path)?;
        Ok(path)
    };
    let hooks_dir = dir("hooks")?;
    for hook in hooks.iter().flat_map(|hooks| hooks.iter()) {
        let phase = hooks_dir.join(format!("{}.d", hook.phase));
        create_open(&phase)?;
        write_public(&phase.join(&hook.name), hook.contents.as_bytes(), 0o755)?;
    }
    write_public(&hooks_dir.join(work::APPLY_NAME), work::APPLY.as_bytes(), 0o755)?;
    write_public(&hooks_dir.join(inspect::SCRIPT_NAME), inspect::SCRIPT.as_bytes(), 0o755)?;
    let portage_dir = dir("portage")?;
    if let Some(portage) = portage {
        write_portage(portage, &portage_dir)?;
    }
    let trees = match trees {
        Some(trees) => {
            given::note_trees(session, trees)?;
            trees.to_vec()
        }
        None => match choose::trees_of_state(cx, base) {
            // A build has asked for its trees before, so this is only for others.
            Err(trees::Error::NoTree) => Vec::new(),
            trees => trees?,
        },
    };
    let downloads = downloads.cloned().unwrap_or_else(|| Downloads::recorded(&base.origin));
    let began = behalf.map_or_else(Instant::now, Supply::began);
    let (supply, ways) = supply::supply(cx, session, base, &trees, &downloads, began, ask_ebuilds)?;
    if behalf.is_none() {
        supply.open(&ways)?;
    }
    let (status, scratch, logs) = (dir("status")?, dir("scratch")?, dir("logs")?);
    LiveLogs { job: log_dir.to_path_buf(), logs: logs.clone() }.note(session);
    let binhost = match binhost::binhost_client(cx, session, &downloads, supply.keys()) {
        // A session that only looks around needs no keys.
        Err(Error::NoKeys) if subject.definition.is_empty() => None,
        client => client?,
    };
    let lower = cx.store.lower_dirs(base);
    let synced = crate::trees::synced::session_conf(portage, &lower, &trees);
    let kept = Kept::of(session);
    Ok(Work {
        root: Root {
            lower,
            upper,
            work: overlay_work,
            mountpoint,
            trees: trees.into_iter().map(|tree| (tree.location, tree.path)).collect(),
            ways,
            packages: None,
            ccache: None,
            binhost,
            hooks: hooks_dir,
            portage: portage_dir,
            status,
            logs,
            scratch,
            scratch_below: None,
            session_conf: session_conf(cx, false),
            resolv_conf: cx.settings.resolv_conf.clone(),
            pipes: Vec::new(),
            kernel_tree: None,
            configuration: kept.dir.clone(),
            binds,
            synced,
            proc: cx.launcher.isolation().proc(),
        },
        profile: subject.profile.clone(),
        ccache: None,
        session: RefCell::new(session),
        log_dir,
        hostname: "gentoomuch".to_owned(),
        env: vec![
            ("GENTOOMUCH_PROFILE".to_owned(), subject.profile.clone()),
            ("GENTOOMUCH_DEFINITION".to_owned(), subject.definition.clone()),
            ("GENTOOMUCH_ARCH".to_owned(), cx.settings.arch.clone()),
        ],
        began,
        over: behalf.map(Supply::over),
        jobs: Share::default(),
        supply,
        emerge_opts: match portage {
            Some(portage) => portage.emerge_opts.clone(),
            None => base.origin.emerge_opts().cloned().unwrap_or_default(),
        },
        patches: match portage {
            Some(portage) => portage.patches().iter().map(PatchRecord::from).collect(),
            None => before.clone(),
        },
        patches_before: before,
        keys: Keys::new(Interrupt::asked),
        kept,
        foreseen: RefCell::default(),
        too_large: RefCell::default(),
    })
}

/// The settings that all sessions have in common.
pub(crate) fn session_conf(cx: &Context<'_>, observability: bool) -> SessionConf {
    let logdir = crate::session::root::LOG_DIR.to_owned();
    let own_proc = cx.launcher.isolation().proc().allows_another();
    let package_jobs = cx.settings.package_jobs.clone();
    SessionConf { package_jobs, logdir, observability, own_proc, ..SessionConf::new(cx.settings.jobs) }
}

/// The field of a state's origin.
const EMERGE_OPTS: &str = "emerge_opts";

/// Notes the configuration's options for emerge, for builds on this state.
pub(crate) fn note_emerge_opts(origin: &mut serde_json::Value, opts: &DefaultOpts) {
    origin[EMERGE_OPTS] = serde_json::json!(opts);
}

/// Writes the merged configuration into `dir`. A script puts it in place from there.
fn write_portage(portage: &PortageDir, dir: &Path) -> Result<()> {
    for (name, contents) in &portage.files {
        let path = dir.join(name);
        for parent in path.ancestors().skip(1).take_while(|parent| *parent != dir).collect::<Vec<_>>().into_iter().rev() {
            create_open(parent)?;
        }
        write_public(&path, contents, portage.modes.get(name).copied().unwrap_or(0o644))?;
    }
    Ok(())
}

/// Which steps of a job are done. It is kept in the session's directory, so that a resumed session does not repeat them.
#[derive(Debug)]
pub(crate) struct StepsDone {
    path: PathBuf,
    done: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Recorded {
    done: Vec<String>,
}

impl StepsDone {
    /// Reads what an earlier run of the same session recorded.
    pub(crate) fn of(session: &Session) -> Result<Self> {
        Self::at(session.path("steps.json"))
    }

    fn at(path: PathBuf) -> Result<Self> {
        let done = match fs::read(&path) {
            // An incomplete record is left only by a crash of the machine. Then every step is done again.
            Ok(bytes) => serde_json::from_slice::<Recorded>(&bytes).map(|recorded| recorded.done).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(Error::io("read", path)(source)),
        };
        Ok(Self { path, done })
    }

    /// Runs `step` unless it is done, and records it.
    pub(crate) fn once<E: From<Error>>(&mut self, name: &str, step: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        if self.has(name) {
            return Ok(());
        }
        step()?;
        self.done.push(name.to_owned());
        let text = serde_json::json!({ "done": self.done }).to_string();
        // By a new file and a rename, so that a kill in between leaves the old record.
        let new = self.path.with_extension("new");
        fs::write(&new, text).map_err(Error::io("write", &new))?;
        Ok(fs::rename(&new, &self.path).map_err(Error::io("rename", &new))?)
    }

    /// Whether `name` is done.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.done.iter().any(|done| done == name)
    }

    /// Whether an earlier run got anywhere.
    pub(crate) fn any(&self) -> bool {
        !self.done.is_empty()
    }
}

/// The script that puts the merged configuration into the root. It is written beside the hooks of every session.
pub(crate) const APPLY: &str = include_str!("apply.sh");

pub(crate) const APPLY_NAME: &str = "apply.sh";

/// What ebuilds say of their sources, in a session where nothing but Portage has run.
fn ask_ebuilds(cx: &Context<'_>, supply: &Supply, packages: &[(String, String)]) -> Result<Vec<Metadata>> {
    let mut session = cx.store.session_create(Some(&supply.base), Purpose::Throwaway, "")?;
    let answers = ask_in_a_clean_session(cx, &mut session, supply, packages);
    session.discard(cx.launcher)?;
    let metadata = |((cpv, repository), facts): (&(String, String), Option<EbuildFacts>)| {
        let EbuildFacts { src_uri, restrict, .. } = facts.unwrap_or_default();
        Metadata { cpv: cpv.clone(), repository: repository.clone(), src_uri, restrict }
    };
    Ok(packages.iter().zip(answers?).map(metadata).collect())
}

fn ask_in_a_clean_session(
    cx: &Context<'_>,
    session: &mut Session,
    supply: &Supply,
    packages: &[(String, String)],
) -> Result<Vec<Option<EbuildFacts>>> {
    let subject = Subject { log_name: "sources".to_owned(), profile: String::new(), definition: String::new() };
    let given = Given { trees: Some(&supply.trees), behalf: Some(supply), ..Given::default() };
    let mut work = work::work(cx, session, &supply.base, &subject, given)?;
    // The configuration of the run is not in this root, but its trees are mounted.
    work.env.push(("PORTAGE_REPOSITORIES".to_owned(), repositories(&supply.trees)));
    let questions = packages.iter().map(|(cpv, repository)| Ebuild { cpv, repository: Some(repository), files: false });
    let answers = ask(cx, &work, questions)?;
    work.forget_logs();
    Ok(answers)
}

/// The text of a `repos.conf` with these trees.
fn repositories(trees: &[PinnedTree]) -> String {
    let main = trees.iter().find(|tree| tree.name == "gentoo").or(trees.first());
    let head = main.map(|main| format!("[DEFAULT]\nmain-repo = {}\n", main.name));
    let section = |tree: &PinnedTree| format!("[{}]\nlocation = {}\nauto-sync = no\n", tree.name, Path::display(&tree.location));
    head.into_iter().chain(trees.iter().map(section)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_done_once_and_a_failed_one_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("steps.json");
        let mut count = 0;
        let mut steps = StepsDone::at(path.clone()).unwrap();
        assert!(!steps.any());
        let failed = steps.once("a", || Err(Error::from(trees::Error::NoTree)));
        assert!(failed.is_err());
        for _ in 0..2 {
            let mut steps = StepsDone::at(path.clone()).unwrap();
            steps
                .once("a", || {
                    count += 1;
                    Ok::<_, Error>(())
                })
                .unwrap();
            assert!(steps.any());
        }
        assert_eq!(count, 1);
    }

    #[test]
    fn trees_become_the_repositories_of_portage() {
        let tree = |name: &str| PinnedTree {
            name: name.to_owned(),
            path: "/s/t".into(),
            location: format!("/var/db/repos/{name}").into(),
            digest: String::new(),
            newest: 0,
        };
        assert_eq!(
            repositories(&[tree("over"), tree("gentoo")]),
            "[DEFAULT]\nmain-repo = gentoo\n[over]\nlocation = /var/db/repos/over\nauto-sync = no\n[gentoo]\nlocation = \
             /var/db/repos/gentoo\nauto-sync = no\n"
        );
        assert_eq!(repositories(&[]), "");
    }
}
