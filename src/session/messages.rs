//! What the packages of a session say to the user. It is kept beside the session, so that a session that goes on another day still knows
//! what was said on the first, and in the end it becomes a part of the state's origin.

use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::beneath;
use crate::beneath::TreeDir;
use crate::causes::in_one_line;
use crate::context::Context;
use crate::portage::messages::{FIELD, FILE_LIMIT_BYTES, MOST_PACKAGES, Messages, Said, package_of, parse};
use crate::session::Work;
use crate::session::readable_files::write_public;
use crate::store::Session;

/// Beside the session's directories, and never visible in the session.
const RECORD: &str = "messages.json";
/// Below `PORTAGE_LOGDIR`.
const ELOG: &str = "elog";
/// `elog/CATEGORY` with `FEATURES=split-elog`.
const MAX_DEPTH: usize = 2;

/// Takes up what packages have said in this run, of logs that are ours by now. If that does not work, nothing else is lost.
pub(crate) fn collect(cx: &Context<'_>, work: &Work<'_>) {
    match said_in(&work.package_logs()) {
        Ok(said) if said.is_empty() => {}
        Ok(said) => note(cx, work, |messages| messages.add(said)),
        Err(error) => cx.observer.warn(&format!("what packages have said is not kept: {}", in_one_line(&error))),
    }
}

/// Forgets what a package has said that is built once more.
pub(crate) fn forget(cx: &Context<'_>, work: &Work<'_>, package: &str) {
    let forgotten = TreeDir::open(&work.package_logs()).and_then(|logs| {
        let elog = logs.open_dir(ELOG)?;
        let files = logs_in(&elog)?.into_iter().filter(|(of, _)| of == package);
        files.into_iter().try_for_each(|(_, file)| elog.unlink(file))
    });
    if let Err(error) = forgotten {
        tracing::debug!("what {package} has said stays: {}", in_one_line(&error));
    }
    note(cx, work, |messages| messages.packages.retain(|said| said.package != package));
}

/// Changes the record.
pub(crate) fn note(cx: &Context<'_>, work: &Work<'_>, change: impl FnOnce(&mut Messages)) {
    let session = work.session.borrow();
    let before = of(&session);
    let mut messages = before.clone();
    change(&mut messages);
    if messages == before {
        return;
    }
    let text = serde_json::json!(messages).to_string();
    if let Err(error) = write_public(&session.path(RECORD), text.as_bytes(), 0o644) {
        cx.observer.warn(&format!("what packages have said is not kept: {}", in_one_line(&error)));
    }
}

/// What was recorded of a session. A record that a crash has cut off is none.
pub(crate) fn of(session: &Session) -> Messages {
    std::fs::read(session.path(RECORD)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Notes it in the origin of what the session becomes.
pub(crate) fn note_in(origin: &mut serde_json::Value, session: &Session) {
    let messages = of(session);
    if !messages.is_empty() {
        origin[FIELD] = serde_json::json!(messages);
    }
}

/// The logs of packages in a directory of ours: `CATEGORY:PF:TIME.log`, or `CATEGORY/PF:TIME.log`. The newest of each package is the last.
pub(crate) fn logs_in(dir: &TreeDir) -> beneath::Result<Vec<(String, PathBuf)>> {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut walk = dir.walk()?;
    loop {
        while let Some(entry) = walk.next_name() {
            match entry.kind {
                FileType::Directory if walk.depth() < MAX_DEPTH => walk.enter(&entry.name)?,
                FileType::RegularFile if files.len() < MOST_PACKAGES => {
                    files.push(std::ffi::OsStr::from_bytes(&walk.relative(&entry.name)).into());
                }
                _ => {}
            }
        }
        if walk.leave()?.is_none() {
            break;
        }
    }
    // The name ends with the time.
    files.sort();
    Ok(files.into_iter().filter_map(|file| Some((package_of(&file)?, file))).collect())
}

/// All that the files below `logs` say, each package's in the order of time.
fn said_in(logs: &Path) -> beneath::Result<Vec<Said>> {
    let logs = TreeDir::open(logs)?;
    if logs.kind(ELOG)? != Some(FileType::Directory) {
        return Ok(Vec::new());
    }
    let elog = logs.open_dir(ELOG)?;
    let mut said = Vec::new();
    for (package, file) in logs_in(&elog)? {
        let plain = elog.open_file(&file)?;
        let (mut bytes, cut) = (Vec::new(), plain.size() > FILE_LIMIT_BYTES);
        let read = plain.file.take(FILE_LIMIT_BYTES).read_to_end(&mut bytes);
        read.map_err(|error| beneath::Error::io("read", elog.shown(&file), error))?;
        said.extend(parse(package, &bytes, cut));
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn files_of_both_forms_are_read_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        assert!(said_in(dir.path()).unwrap().is_empty());
        let elog = dir.path().join("elog");
        fs::create_dir_all(elog.join("app-misc/deep/deeper")).unwrap();
        for (file, text) in [
            ("app-misc:hello-1:20260101-000002.log", "LOG: postinst\nnew\n"),
            ("app-misc:hello-1:20260101-000001.log", "LOG: postinst\nold\n"),
            ("app-misc/split-1:20260101-000001.log", "WARN: setup\nsplit\n"),
            ("app-misc/deep/deeper/a:b-1:1.log", "WARN: setup\ntoo deep\n"),
            ("summary.log", "LOG: postinst\nno package\n"),
        ] {
            fs::write(elog.join(file), text).unwrap();
        }
        fs::write(dir.path().join("secret"), "LOG: setup\nsecret\n").unwrap();
        std::os::unix::fs::symlink("../secret", elog.join("a:link-1:1.log")).unwrap();
        fs::File::create(elog.join("a:huge-1:1.log")).unwrap().set_len(1 << 40).unwrap();
        let mut messages = Messages::default();
        messages.add(said_in(dir.path()).unwrap());
        let words: Vec<(&str, Option<&str>)> = messages
            .packages
            .iter()
            .map(|said| (said.package.as_str(), said.messages.first().map(|message| message.lines[0].as_str())))
            .collect();
        assert_eq!(words, [("a/huge-1", None), ("app-misc/hello-1", Some("new")), ("app-misc/split-1", Some("split"))]);
        assert!(messages.packages[0].more);
        // A link in the place of the directory leads nowhere.
        let other = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(&elog, other.path().join("elog")).unwrap();
        assert!(said_in(other.path()).unwrap().is_empty());
    }
}
