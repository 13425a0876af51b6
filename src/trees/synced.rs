//! What a session tells Portage about how its trees were synced.
//!
//! With `sync-type = git`, Portage asks git for the repository's commit whenever it builds a package of it, to record it as
//! `REPO_REVISIONS`. A snapshot has no `.git`, so git prints "fatal: not a git repository" into each build log. Before that, Portage
//! makes git trust the directory, in `/etc/gitconfig` of the finished system. So while a session runs, the last file of `repos.conf` says
//! something else:
//!
//! ```text
//! [NAME]
//! sync-type = rsync         where the tree has `metadata/timestamp.commit`, in which Portage finds the commit then
//! sync-type =               elsewhere: nothing is recorded
//! sync-uri =                Portage would complain of one without the other
//! ```
//!
//! Source: `_emerge/EbuildPhase.py` (`_setup_repo_revisions`), `retrieve_head` of `portage/sync/modules/` (3.0.83).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::beneath::TreeDir;
use crate::config::PortageDir;
use crate::merged_view;
use crate::portage::configparser::parse;
use crate::trees::choose::PinnedTree;

/// The last file of the directory, so that it wins.
pub(crate) const SESSION_FILE: &str = "/etc/portage/repos.conf/zz-gentoomuch-session.conf";
/// The directory. Portage also accepts a file of this name.
pub(crate) const REPOS_CONF: &str = "/etc/portage/repos.conf";
/// With these methods Portage runs a program in the tree's directory.
const ASKING: [&str; 2] = ["git", "mercurial"];
/// The text of [`SESSION_FILE`] for `trees`. `None` if Portage would run nothing. `layers` are the root's, topmost first; `portage` is
/// what is put into it.
pub(crate) fn session_conf(portage: Option<&PortageDir>, layers: &[PathBuf], trees: &[PinnedTree]) -> Option<String> {
    let mut files = merged_view::files_of(layers, REPOS_CONF)?;
    for (path, bytes) in portage.iter().flat_map(|portage| &portage.files) {
        if let Ok(name) = path.strip_prefix("repos.conf") {
            files.insert(name.to_owned(), String::from_utf8_lossy(bytes).into_owned());
        }
    }
    let methods = methods(files.values().map(String::as_str));
    let asked = trees.iter().filter(|tree| {
        let own = methods.get(&tree.name).or_else(|| methods.get("DEFAULT"));
        own.is_some_and(|method| ASKING.contains(&method.as_str()))
    });
    let section = |tree: &PinnedTree| {
        let method = if has_commit(&tree.path) { "sync-type = rsync" } else { "sync-type =\nsync-uri =" };
        format!("[{}]\n{method}\n", tree.name)
    };
    let sections: String = asked.map(section).collect();
    (!sections.is_empty()).then(|| format!("# Of this session only.\n{sections}"))
}

/// `sync-type` of each section. The files come in Portage's order.
fn methods<'a>(texts: impl Iterator<Item = &'a str>) -> BTreeMap<String, String> {
    let mut methods = BTreeMap::new();
    for text in texts {
        let parsed = parse(text);
        for setting in parsed.settings.into_iter().filter(|setting| setting.key == "sync-type") {
            if let Some(section) = setting.section {
                methods.insert(parsed.sections[section].clone(), setting.value);
            }
        }
    }
    methods
}

/// Whether the tree itself tells its commit. Those of Gentoo's mirrors do.
fn has_commit(tree: &Path) -> bool {
    let kind = TreeDir::open(tree).and_then(|tree| tree.kind("metadata/timestamp.commit"));
    matches!(kind, Ok(Some(FileType::RegularFile)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn trees_for_which_git_would_be_asked_are_said_to_have_come_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("bottom/etc/portage/repos.conf/a.conf", "[gentoo]\nsync-type = rsync\n[over]\nsync-type = git\n");
        write("top/etc/portage/repos.conf/b.conf", "[gentoo]\nsync-type: git\n");
        write("mirror/metadata/timestamp.commit", "0123 2026\n");
        write("plain/profiles/repo_name", "over\n");
        let layers = ["top", "bottom"].map(|name| dir.path().join(name));
        let tree = |name: &str, path: &str| PinnedTree {
            name: name.to_owned(),
            path: dir.path().join(path),
            location: format!("/var/db/repos/{name}").into(),
            digest: String::new(),
            newest: 0,
        };
        let trees = [tree("gentoo", "mirror"), tree("over", "plain"), tree("other", "plain")];
        let said = session_conf(None, &layers, &trees);
        assert_eq!(
            said.as_deref(),
            Some("# Of this session only.\n[gentoo]\nsync-type = rsync\n[over]\nsync-type =\nsync-uri =\n")
        );
        assert_eq!(session_conf(None, &layers, &trees[2..]), None);
        // A file that hides one of below.
        write("top/etc/portage/repos.conf/a.conf", "[over]\nsync-type = webrsync\n");
        assert_eq!(session_conf(None, &layers, &trees[1..2]), None);
        write("top/etc/portage/repos.conf/c.conf", "[DEFAULT]\nsync-type = git\n");
        assert_eq!(
            session_conf(None, &layers, &trees[2..]).as_deref(),
            Some("# Of this session only.\n[other]\nsync-type =\nsync-uri =\n")
        );
        // What is applied comes last, and of a file nothing can be said beside it.
        write("file/etc/portage/repos.conf", "[over]\nsync-type = git\n");
        assert_eq!(session_conf(None, &[dir.path().join("file")], &trees), None);
        let (_dir, config) = crate::config::tests::config(&[
            ("stage3.defines/x/portage.local", "own\n"),
            ("portage.locals/own/repos.conf", "[over]\nlocation = /var/db/repos/over\nsync-type = git\nsync-uri = https://h/x\n"),
        ]);
        let portage = config.portage_dir(&config.stage3("x").unwrap()).unwrap();
        let said = session_conf(Some(&portage), &[dir.path().join("none")], &trees);
        assert_eq!(said.as_deref(), Some("# Of this session only.\n[over]\nsync-type =\nsync-uri =\n"));
    }
}
