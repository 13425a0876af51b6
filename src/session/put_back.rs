//! `/etc/portage` belongs to the configuration, hooks and scripts. What packages change there is taken back.
//!
//! ```text
//! before a run of emerge              /etc/portage --mirror.py--> sessions/SESSION/configuration
//! before whatever runs next, or       /etc/portage <--mirror.py-- sessions/SESSION/configuration
//! the session becomes a layer
//! ```
//!
//! Some packages install files there (`save_config` of savedconfig.eclass), and any package may write there in `pkg_postinst`. Portage's
//! database of the state still lists such files. That does no harm: when the package is removed, Portage skips files that are not there,
//! and when a later build brings the file again, it is merged like any new file.
//!
//! This protects against packages that act in good faith. The session's own Python puts the configuration back, and a hostile package
//! could have replaced it.
//!
//! A mark file says that the copy is complete and a run has begun. So the configuration of an interrupted session is put back when it is
//! resumed.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;

use crate::context::Context;
use crate::path_error::OfFile as _;
use crate::sandbox::plan::Network;
use crate::session::readable_files::{create_open, write_public};
use crate::session::root::{CONFIGURATION_DIR, ETC_PORTAGE, HOOKS_DIR, UserBind, session_files};
use crate::session::{Error, Result, Work, launch};
use crate::store::Session;

const SCRIPT: &str = include_str!("mirror.py");
const SCRIPT_NAME: &str = "mirror.py";
/// After it, the script takes a command to become.
const THEN: &str = "--";
/// Of the session's directory.
const COPY: &str = "configuration";
const MARK: &str = "configuration.kept";

/// The state of a session's configuration while packages may change it.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The copy, outside of the root.
    pub(crate) dir: PathBuf,
    mark: PathBuf,
    /// Packages may have changed the configuration.
    is_due: Cell<bool>,
}

impl Kept {
    /// As an earlier run of the session has left it.
    pub(crate) fn of(session: &Session) -> Self {
        let mark = session.path(MARK);
        Self { dir: session.path(COPY), is_due: Cell::new(mark.exists()), mark }
    }
}

/// Copies the configuration. From now on it is put back before anything else runs.
pub(crate) fn keep_configuration(cx: &Context<'_>, work: &Work<'_>) -> Result<()> {
    create_open(&work.kept.dir)?;
    // What packages of an earlier run have changed must not get into the copy.
    put_back_configuration(cx, work)?;
    mirror(cx, work, [ETC_PORTAGE, CONFIGURATION_DIR], false)?;
    // The mark comes after the copy: a copy without a mark may be incomplete.
    fs::write(&work.kept.mark, "").map_err(Error::io("write", &work.kept.mark))?;
    work.kept.is_due.set(true);
    Ok(())
}

/// Puts the configuration back if packages may have changed it.
pub(crate) fn put_back_configuration(cx: &Context<'_>, work: &Work<'_>) -> Result<()> {
    if !work.kept.is_due.get() {
        return Ok(());
    }
    mirror(cx, work, [CONFIGURATION_DIR, ETC_PORTAGE], true)?;
    is_done(work)
}

/// What puts the configuration back in front of a command, in the same run.
#[derive(Debug)]
pub(crate) struct Before {
    /// The command follows it.
    pub(crate) argv: Vec<String>,
    /// The copy, which that run sees.
    pub(crate) shown: UserBind,
}

/// `None` if packages cannot have changed the configuration. Once the run has ended well, [`is_done`] notes it.
pub(crate) fn before(work: &Work<'_>) -> Result<Option<Before>> {
    if !work.kept.is_due.get() {
        return Ok(None);
    }
    let mut before = mirroring(work, [CONFIGURATION_DIR, ETC_PORTAGE], true)?;
    before.argv.push(THEN.to_owned());
    Ok(Some(before))
}

/// The configuration was put back.
pub(crate) fn is_done(work: &Work<'_>) -> Result<()> {
    fs::remove_file(&work.kept.mark).map_err(Error::io("remove", &work.kept.mark))?;
    work.kept.is_due.set(false);
    Ok(())
}

fn mirror(cx: &Context<'_>, work: &Work<'_>, from_to: [&str; 2], read_only: bool) -> Result<()> {
    let Before { argv, shown } = mirroring(work, from_to, read_only)?;
    launch::logged(cx, work, argv, Network::None, Some(shown), &mut |_| {})
}

fn mirroring(work: &Work<'_>, [from, to]: [&str; 2], read_only: bool) -> Result<Before> {
    write_public(&work.root.hooks.join(SCRIPT_NAME), SCRIPT.as_bytes(), 0o644)?;
    // `-I`: Python ignores what packages could have put in its way, such as PYTHON* variables and modules beside the script.
    let argv = ["python3", "-I", "-B", &format!("{HOOKS_DIR}/{SCRIPT_NAME}"), from, to].map(str::to_owned);
    let spared = session_files().map(|path| path.trim_start_matches(ETC_PORTAGE).trim_start_matches('/').to_owned());
    let shown = UserBind { source: work.kept.dir.clone(), target: CONFIGURATION_DIR.into(), read_only };
    Ok(Before { argv: argv.into_iter().chain(spared).collect(), shown })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// Of all that is below a directory: mode, time, and text or target.
    fn listing(dir: &Path) -> BTreeMap<PathBuf, (u32, i64, String)> {
        let (mut all, mut todo) = (BTreeMap::new(), vec![dir.to_owned()]);
        while let Some(next) = todo.pop() {
            let meta = fs::symlink_metadata(&next).unwrap();
            let text = if meta.is_dir() {
                todo.extend(fs::read_dir(&next).unwrap().map(|entry| entry.unwrap().path()));
                "/".to_owned()
            } else if meta.is_symlink() {
                fs::read_link(&next).unwrap().display().to_string()
            } else {
                fs::read_to_string(&next).unwrap()
            };
            all.insert(next.strip_prefix(dir).unwrap().to_owned(), (meta.mode(), meta.mtime_nsec(), text));
        }
        all
    }

    fn mirror(from: &Path, to: &Path) {
        let mut python = Command::new("python3");
        python.args(["-I", "-B", "-c", SCRIPT]).args([from, to]).args(["make.conf/99-session.conf", "own"]);
        let ran = python.output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Something to be put back, and what it is like.
    fn example(etc: &Path) {
        for path in ["make.conf/50-gentoomuch.conf", "env/slow", "package.use/a", "savedconfig/a/b", "profile/x/y"] {
            write(&etc.join(path), path);
        }
        fs::create_dir(etc.join("sets")).unwrap();
        symlink("../../var/db/repos/gentoo/profiles/p", etc.join("make.profile")).unwrap();
        symlink("nowhere", etc.join("env/dangling")).unwrap();
    }

    #[test]
    fn whatever_is_changed_is_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (etc, copy) = (dir.path().join("etc"), dir.path().join("copy"));
        example(&etc);
        mirror(&etc, &copy);
        let before = listing(&etc);
        assert_eq!(listing(&copy), before);
        let at = |path: &str| etc.join(path);
        let changes: [(&str, &dyn Fn()); 12] = [
            ("nothing", &|| {}),
            ("added", &|| write(&at("savedconfig/a/b-1"), "x")),
            ("a directory", &|| write(&at("patches/a/b/c"), "x")),
            ("a pipe", &|| assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success())),
            ("changed", &|| write(&at("make.conf/50-gentoomuch.conf"), "changed")),
            ("of the same length", &|| write(&at("env/slow"), "env/fast")),
            ("removed", &|| fs::remove_file(at("package.use/a")).unwrap()),
            ("removed as a whole", &|| fs::remove_dir_all(&etc).unwrap()),
            ("of another mode", &|| fs::set_permissions(at("profile/x"), fs::Permissions::from_mode(0o700)).unwrap()),
            ("links elsewhere", &|| {
                fs::remove_file(at("make.profile")).unwrap();
                symlink("/elsewhere", at("make.profile")).unwrap();
            }),
            ("another kind", &|| {
                fs::remove_dir_all(at("profile")).unwrap();
                write(&at("profile"), "file");
                fs::remove_file(at("env/slow")).unwrap();
                write(&at("env/slow/x"), "in a directory");
            }),
            ("a link in place of all", &|| {
                fs::remove_dir_all(&etc).unwrap();
                symlink(dir.path().join("precious"), &etc).unwrap();
            }),
        ];
        let precious = dir.path().join("precious");
        write(&precious.join("file"), "precious");
        for (name, change) in changes {
            change();
            mirror(&copy, &etc);
            assert_eq!(listing(&etc), before, "{name}");
        }
        assert_eq!(fs::read_to_string(precious.join("file")).unwrap(), "precious");
    }

    #[test]
    fn a_command_runs_once_the_configuration_is_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (etc, copy, seen) = (dir.path().join("etc"), dir.path().join("copy"), dir.path().join("seen"));
        example(&etc);
        mirror(&etc, &copy);
        write(&etc.join("package.use/a"), "changed");
        let then = |from: &Path| {
            let mut python = Command::new("python3");
            python.args(["-I", "-B", "-c", SCRIPT]).args([from, &etc]).args(["own", THEN, "/bin/sh", "-c"]);
            python
                .arg(format!("cat '{}/package.use/a' >'{}'; echo \"$@\"; exit 7", etc.display(), seen.display()))
                .args(["sh", "--", "x"]);
            python.output().unwrap()
        };
        let ran = then(&copy);
        assert_eq!((ran.status.code(), ran.stdout.as_slice()), (Some(7), b"-- x\n".as_slice()));
        assert_eq!(fs::read_to_string(&seen).unwrap(), "package.use/a");
        fs::remove_file(&seen).unwrap();
        assert_eq!(then(&dir.path().join("nowhere")).status.code(), Some(1));
        assert!(!seen.exists(), "it ran although nothing was put back");
    }

    #[test]
    fn another_name_of_a_file_keeps_its_contents() {
        let dir = tempfile::tempdir().unwrap();
        let (etc, copy) = (dir.path().join("etc"), dir.path().join("copy"));
        example(&etc);
        mirror(&etc, &copy);
        write(&dir.path().join("binary"), "not ours");
        fs::remove_file(etc.join("package.use/a")).unwrap();
        fs::hard_link(dir.path().join("binary"), etc.join("package.use/a")).unwrap();
        mirror(&copy, &etc);
        assert_eq!(fs::read_to_string(dir.path().join("binary")).unwrap(), "not ours");
        assert_eq!(fs::read_to_string(etc.join("package.use/a")).unwrap(), "package.use/a");
    }

    #[test]
    fn files_of_the_session_are_neither_copied_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (etc, copy) = (dir.path().join("etc"), dir.path().join("copy"));
        example(&etc);
        for path in ["make.conf/99-session.conf", "own", "env/own"] {
            write(&etc.join(path), "session");
        }
        mirror(&etc, &copy);
        assert!(!copy.join("make.conf/99-session.conf").exists() && !copy.join("own").exists());
        assert!(copy.join("env/own").exists(), "of another directory");
        mirror(&copy, &etc);
        assert!(etc.join("make.conf/99-session.conf").exists() && etc.join("own").exists());
    }
}
