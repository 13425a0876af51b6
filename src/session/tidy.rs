//! Removes a session's [`Litter`] from its upper directory before that becomes a layer. It runs inside the id map.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::beneath;
use crate::beneath::TreeDir;
use crate::context::Context;
use crate::sandbox::{TaskContext, TaskFailure};
use crate::session::root::{Litter, LitterFile};
use crate::session::{Result, Work, put_back, tidy};

/// Something could not be removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove `{}`, which only the session needed", path.display())]
pub(crate) struct TidyError {
    path: PathBuf,
    #[source]
    source: beneath::Error,
}

/// Removes `litter`. What is not there, or has something of the session's work in it, stays.
pub(crate) fn remove_litter(litter: &Litter) -> std::result::Result<(), TidyError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| TidyError { path, source }
    };
    let upper = TreeDir::open(&litter.upper).map_err(failed(&litter.upper))?;
    let mut lower = Vec::new();
    for layer in &litter.lower {
        lower.push(TreeDir::open(layer).map_err(failed(layer))?);
    }
    for file in &litter.files {
        remove_file(&upper, file).map_err(failed(Path::new(&file.path)))?;
    }
    let mut directories = with_parents(&litter.directories);
    // The deepest first, so that a parent is empty when it comes.
    directories.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    for directory in directories {
        if !lower.iter().any(|layer| matches!(layer.stat(&directory), Ok(Some(_)))) {
            upper.remove_empty(&directory).map_err(failed(&directory))?;
        }
    }
    Ok(())
}

fn with_parents(paths: &[String]) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = paths
        .iter()
        .flat_map(|path| Path::new(path).ancestors().filter(|path| path.parent().is_some()))
        .map(Path::to_owned)
        .collect();
    all.sort();
    all.dedup();
    all
}

/// Removes a regular file. A whiteout means that the session's work has removed the file, so it stays. So does everything else.
fn remove_file(upper: &TreeDir, file: &LitterFile) -> beneath::Result<()> {
    match upper.kind(&file.path) {
        Ok(Some(FileType::RegularFile)) => {}
        Err(error) if !error.is_no_such_file() => return Err(error),
        // This includes paths behind a link.
        _ => return Ok(()),
    }
    if let Some(contents) = &file.only_if {
        match upper.read(&file.path, contents.len() as u64) {
            Ok(found) if found == contents.as_bytes() => {}
            Ok(_) | Err(beneath::Error::TooBig { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    upper.unlink(&file.path)
}

/// Name of the task that removes a [`Litter`] from an upper directory.
pub(crate) const TIDY: &str = "session.tidy";

pub(crate) fn tidy_task(context: &mut TaskContext) -> std::result::Result<serde_json::Value, TaskFailure> {
    let litter: Litter = context.input_as()?;
    tidy::remove_litter(&litter).map_err(|error| TaskFailure::of("tidy", &error))?;
    for tree in &litter.outside {
        crate::beneath::remove_tree(tree).map_err(|error| TaskFailure::of("tidy", &error))?;
    }
    Ok(serde_json::Value::Null)
}

/// Removes what only the session needed, and takes back what packages changed in the configuration.
pub(crate) fn tidy(cx: &Context<'_>, work: &Work<'_>) -> Result<()> {
    put_back::put_back_configuration(cx, work)?;
    let options = crate::sandbox::TaskOptions { hold: vec![work.session.borrow().lock_fd()?], ..Default::default() };
    cx.launcher.task(crate::session::tidy::TIDY, &work.root.litter(), options, &mut |_| {})?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn file(path: &str) -> LitterFile {
        LitterFile { path: path.to_owned(), only_if: None }
    }

    #[test]
    fn a_resolver_that_the_work_itself_wrote_stays() {
        let dir = tempfile::tempdir().unwrap();
        for (contents, stays) in [("ours\n", false), ("ours\nand more\n", true), ("theirs\n", true), ("", true)] {
            fs::write(dir.path().join("resolv.conf"), contents).unwrap();
            let resolver = LitterFile { path: "/resolv.conf".into(), only_if: Some("ours\n".into()) };
            remove_litter(&Litter {
                upper: dir.path().to_owned(),
                lower: vec![],
                files: vec![resolver],
                directories: vec![],
                outside: vec![],
            })
            .unwrap();
            assert_eq!(dir.path().join("resolv.conf").exists(), stays, "{contents:?}");
        }
    }

    #[test]
    fn what_only_the_session_needed_goes_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, lower) = (dir.path().join("upper"), dir.path().join("lower"));
        for path in [
            "upper/var/db/repos/gentoo",
            "upper/var/cache/distfiles",
            "upper/var/tmp/portage/kept",
            "upper/etc/portage/make.conf",
            "lower/var/cache",
        ] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        fs::write(upper.join("etc/portage/make.conf/99-session.conf"), "x").unwrap();
        fs::write(upper.join("etc/portage/make.conf/50-gentoomuch.conf"), "x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", upper.join("etc/resolv.conf")).unwrap();
        let litter = Litter {
            upper: upper.clone(),
            lower: vec![lower],
            files: vec![file("/etc/portage/make.conf/99-session.conf"), file("/etc/resolv.conf"), file("/none/such")],
            directories: vec!["/var/db/repos/gentoo".into(), "/var/cache/distfiles".into(), "/var/tmp/portage".into()],
            outside: vec![],
        };
        remove_litter(&litter).unwrap();
        assert!(!upper.join("var/db").exists(), "mount points and their parents go");
        assert!(upper.join("var/cache").exists(), "a directory that a layer below has stays");
        assert!(!upper.join("var/cache/distfiles").exists());
        assert!(upper.join("var/tmp/portage/kept").exists(), "what holds something stays");
        assert!(!upper.join("etc/portage/make.conf/99-session.conf").exists());
        assert!(upper.join("etc/portage/make.conf/50-gentoomuch.conf").exists());
        assert!(upper.join("etc/resolv.conf").is_symlink(), "a link is the session's own work");
        remove_litter(&litter).unwrap();
    }

    #[test]
    fn a_link_in_the_way_is_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, outside) = (dir.path().join("upper"), dir.path().join("outside"));
        fs::create_dir_all(outside.join("make.conf")).unwrap();
        fs::create_dir_all(upper.join("etc")).unwrap();
        fs::write(outside.join("make.conf/99-session.conf"), "precious").unwrap();
        std::os::unix::fs::symlink(&outside, upper.join("etc/portage")).unwrap();
        let litter = Litter {
            upper,
            lower: vec![],
            files: vec![file("/etc/portage/make.conf/99-session.conf")],
            directories: vec!["/etc/portage/make.conf".into()],
            outside: vec![],
        };
        remove_litter(&litter).unwrap();
        assert!(outside.join("make.conf/99-session.conf").exists());
    }
}
