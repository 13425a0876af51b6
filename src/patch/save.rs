//! `patch save`: writes the changes of a work set as a file of the configuration. `try` uses the same diff.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::patches::{Header, SavedPatch, Scope, USER_PATCHES};
use crate::config::{ConfigDir, proposal};
use crate::context::Context;
use crate::names::profiles;
use crate::patch::work_set::WorkSet;
use crate::patch::{Error, OUT_DIR, PatchError, Result, WORK_DIR, bind, lock_name, scripts, source, words, work_set};
use crate::path_error::OfFile as _;
use crate::portage::binpkgs::unused::remove_empty;
use crate::portage::untrusted;
use crate::sandbox::plan::Network;
use crate::session::readable_files::create_open;
use crate::session::{Work, run};
use crate::{context, patch};

/// Larger diffs are refused.
const MAX_PATCH_BYTES: u64 = 64 << 20;
/// How many names of one kind are read.
const MAX_LIST_BYTES: u64 = 1 << 20;
const MAX_LINE_CHARS: usize = 1000;

/// For which versions a patch is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    /// All.
    Any,
    /// Those in the slot of the work set's version.
    Slot,
    /// The work set's version with all its revisions.
    Version,
    /// Exactly the revision of the work set.
    Revision,
}

/// What to save.
#[derive(Debug, Clone)]
pub(crate) struct SaveOptions {
    pub name: String,
    /// For which versions; `None`: as it was saved before, else for this version.
    pub span: Option<Span>,
    /// Its purpose; `None`: as it was saved before, else the patch's name.
    pub purpose: Option<String>,
    /// Upstream's bug; `None`: as it was saved before.
    pub bug: Option<String>,
    /// Keep files of it for other versions.
    pub keep: bool,
}

#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SavedAs {
    pub name: String,
    /// The file, relative to the configuration directory.
    pub path: PathBuf,
    /// Removed files of it, which were for other versions.
    pub replaced: Vec<PathBuf>,
    /// An atom of the versions that it is for.
    pub atom: String,
    /// Files that it changes.
    pub files: Vec<Changed>,
    /// Files that git ignores, and that are not part of the patch.
    pub ignored: Vec<String>,
    /// Whether the same text had been saved before.
    pub unchanged: bool,
}

/// A file that a patch changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Changed {
    /// Its path in the source.
    pub path: String,
    /// Lines added.
    pub added: u64,
    /// Lines removed.
    pub removed: u64,
}

/// The changes of a work set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Diff {
    pub(crate) patch: Vec<u8>,
    pub(crate) files: Vec<Changed>,
    pub(crate) ignored: Vec<String>,
}

/// Saves the changes of a work set as a patch that every stage gets.
pub(crate) fn patch_save(cx: &Context<'_>, config: &ConfigDir, options: &SaveOptions) -> Result<SavedAs> {
    let name = &options.name;
    work_set::check_name(name)?;
    for line in options.purpose.iter().chain(&options.bug) {
        check_header_line(line)?;
    }
    let _shared = context::share_store(cx)?;
    let _lock = context::lock(cx, &lock_name(name))?;
    let set = patch::work_set(cx, Some(config), name)?;
    let diff = patch_diff(cx, &set, name)?;
    if diff.patch.is_empty() {
        return Err(PatchError::Unchanged(name.clone()).into());
    }
    let saved = config.patches()?;
    let own: Vec<&SavedPatch> = saved.iter().filter(|patch| is_own(patch, name, &set)).collect();
    let scope = scope_of(&set, options.span, &own);
    let path: PathBuf = [USER_PATCHES, name, &set.category, &scope.to_string(), &format!("{name}.patch")].iter().collect();
    let before = own.iter().find(|patch| patch.path == path).or(own.first());
    let contents = with_header(options, &set, before.map(|patch| patch.header()).as_ref(), &diff.patch);
    let there = own.iter().find(|patch| patch.path == path);
    // The date of the change, so that saving the same again changes nothing.
    let unchanged = there.is_some_and(|patch| without_date(&patch.contents) == without_date(&contents));
    if !unchanged {
        proposal::replace(&config.root().join(&path), &contents)?;
    }
    let mut replaced = Vec::new();
    for other in own.iter().filter(|patch| patch.path != path && !options.keep) {
        let file = config.root().join(&other.path);
        std::fs::remove_file(&file).map_err(Error::io("remove", &file))?;
        remove_empty(file.parent(), &config.root().join(USER_PATCHES));
        replaced.push(other.path.clone());
    }
    let atom = scope.atom(&set.category);
    Ok(SavedAs { name: name.clone(), path, replaced, atom, files: diff.files, ignored: diff.ignored, unchanged })
}

/// The changes of a work set, found by git in a session of its own.
pub(crate) fn patch_diff(cx: &Context<'_>, set: &WorkSet, name: &str) -> Result<Diff> {
    let base = profiles::profile_state(cx, &set.profile, 0)?;
    source::with_git(cx, &base, &set.profile, name, |work| patch_diff_in(cx, work, name))
}

/// The changes of a work set, found in an existing session.
pub(crate) fn patch_diff_in(cx: &Context<'_>, work: &mut Work<'_>, name: &str) -> Result<Diff> {
    let out = work.session.borrow().path("out");
    create_open(&out)?;
    let dir = work_set::dir(cx.places, name);
    work_set::check(&dir)?;
    work.root.binds = vec![bind(dir, WORK_DIR, true), bind(out.clone(), OUT_DIR, false)];
    let done = run::command(cx, work, words(&["sh", &scripts::path(scripts::DIFF), WORK_DIR, OUT_DIR]), Network::None);
    work.root.binds.clear();
    done?;
    Ok(read_diff(&out)?)
}

fn read_diff(out: &Path) -> std::result::Result<Diff, PatchError> {
    let root = untrusted::open_root(out)?;
    let read = |name: &str, limit_bytes| untrusted::read_in(root.as_fd(), Path::new(name), limit_bytes);
    let unmerged = scripts::lines(&read("unmerged", MAX_LIST_BYTES)?);
    if !unmerged.is_empty() {
        return Err(PatchError::Conflicts(unmerged));
    }
    let raw = scripts::lines(&read("raw", MAX_PATCH_BYTES)?);
    let repositories: Vec<String> = raw.iter().filter(|line| is_gitlink(line)).filter_map(|line| last_field(line)).collect();
    if !repositories.is_empty() {
        return Err(PatchError::Repositories(repositories));
    }
    let numbers = scripts::lines(&read("numstat", MAX_PATCH_BYTES)?);
    let binary: Vec<String> =
        numbers.iter().filter(|line| line.starts_with("-\t-\t")).filter_map(|line| last_field(line)).collect();
    if !binary.is_empty() {
        return Err(PatchError::Binary(binary));
    }
    let files = numbers.iter().filter_map(|line| {
        let mut fields = line.splitn(3, '\t');
        let (added, removed) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Changed { path: fields.next()?.to_owned(), added, removed })
    });
    let ignored = scripts::lines(&read("ignored", MAX_LIST_BYTES)?);
    Ok(Diff { files: files.collect(), ignored, patch: read("patch", MAX_PATCH_BYTES)? })
}

/// `:000000 160000 … A\tpath`: a submodule's commit.
fn is_gitlink(line: &str) -> bool {
    line.split(' ').take(2).any(|mode| mode.trim_start_matches(':') == "160000")
}

fn last_field(line: &str) -> Option<String> {
    line.rsplit_once('\t').map(|(_, path)| path.to_owned())
}

pub(crate) fn is_own(patch: &SavedPatch, name: &str, set: &WorkSet) -> bool {
    patch.name == name
        && patch.category == set.category
        && patch.scope.package == set.package
        && patch.path.starts_with(USER_PATCHES)
        && patch.path.file_name().is_some_and(|file| file == format!("{name}.patch").as_str())
}

/// As asked for; else as it was saved, if in one place only; else for this version.
fn scope_of(set: &WorkSet, span: Option<Span>, own: &[&SavedPatch]) -> Scope {
    let span = span.unwrap_or_else(|| match own {
        [patch] => span_of(&patch.scope),
        _ => Span::Version,
    });
    Scope {
        package: set.package.clone(),
        version: matches!(span, Span::Version | Span::Revision).then(|| set.version.clone()),
        revision: (span == Span::Revision).then(|| set.revision.trim_start_matches('r').to_owned()),
        slot: (span == Span::Slot).then(|| set.slot.clone()),
    }
}

fn span_of(scope: &Scope) -> Span {
    match scope {
        Scope { revision: Some(_), .. } => Span::Revision,
        Scope { version: Some(_), .. } => Span::Version,
        Scope { slot: Some(_), .. } => Span::Slot,
        _ => Span::Any,
    }
}

/// A single line that no program takes for the start of a change.
fn check_header_line(text: &str) -> std::result::Result<(), PatchError> {
    let good = !text.trim().is_empty() && text.len() <= MAX_LINE_CHARS && !text.chars().any(char::is_control);
    if good { Ok(()) } else { Err(PatchError::HeaderLine(text.escape_debug().to_string())) }
}

/// The diff with its header.
fn with_header(options: &SaveOptions, set: &WorkSet, before: Option<&Header>, diff: &[u8]) -> Vec<u8> {
    let purpose = options.purpose.as_deref().or_else(|| before.and_then(Header::purpose)).unwrap_or(&options.name);
    let bug = options.bug.as_deref().or_else(|| before.and_then(Header::bug));
    let date = crate::clock::now().strftime("%Y-%m-%d");
    let mut text = format!("Purpose: {}\nPackage: {}::{}\nDate: {date}\n", purpose.trim(), set.cpv, set.repository);
    if let Some(bug) = bug {
        text.push_str(&format!("Bug: {}\n", bug.trim()));
    }
    text.push('\n');
    [text.as_bytes(), diff].concat()
}

fn without_date(patch: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = patch.split(|byte| *byte == b'\n').collect();
    let header = lines.iter().position(|line| line.is_empty()).unwrap_or(0);
    if let Some(date) = lines[..header].iter().position(|line| line.starts_with(b"Date: ")) {
        lines.remove(date);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> WorkSet {
        WorkSet {
            cpv: "app-misc/hello-2.10-r1".to_owned(),
            category: "app-misc".to_owned(),
            package: "hello".to_owned(),
            version: "2.10".to_owned(),
            revision: "r1".to_owned(),
            slot: "0".to_owned(),
            repository: "gentoo".to_owned(),
            profile: "demo".to_owned(),
            prepared: true,
            subdir: "hello-2.10".to_owned(),
            made: String::new(),
        }
    }

    fn saved(scope: &str, contents: &str) -> SavedPatch {
        SavedPatch {
            name: "quiet".to_owned(),
            category: "app-misc".to_owned(),
            scope: scope.parse().unwrap(),
            file_name: "quiet-quiet.patch".to_owned(),
            path: format!("user.patches/quiet/app-misc/{scope}/quiet.patch").into(),
            contents: contents.into(),
        }
    }

    #[test]
    fn a_patch_stays_for_the_versions_that_it_was_for() {
        let (any, slot, version) = (saved("hello", ""), saved("hello:0", ""), saved("hello-2.9", ""));
        for (span, own, scope) in [
            (None, vec![], "hello-2.10"),
            (None, vec![&any], "hello"),
            (None, vec![&slot], "hello:0"),
            (None, vec![&version], "hello-2.10"),
            (None, vec![&any, &version], "hello-2.10"),
            (Some(Span::Any), vec![&version], "hello"),
            (Some(Span::Slot), vec![], "hello:0"),
            (Some(Span::Version), vec![&any], "hello-2.10"),
            (Some(Span::Revision), vec![], "hello-2.10-r1"),
        ] {
            assert_eq!(scope_of(&set(), span, &own).to_string(), scope, "{span:?} {own:?}");
        }
        assert!(is_own(&any, "quiet", &set()) && !is_own(&any, "loud", &set()));
    }

    #[test]
    fn what_was_said_about_a_patch_stays_unless_it_is_said_anew() {
        let options = SaveOptions { name: "quiet".to_owned(), span: None, purpose: None, bug: None, keep: false };
        let diff = b"diff --git a/x b/x\n";
        let first = String::from_utf8(with_header(&options, &set(), None, diff)).unwrap();
        assert!(first.starts_with("Purpose: quiet\nPackage: app-misc/hello-2.10-r1::gentoo\nDate: 20"), "{first}");
        assert!(first.ends_with("\n\ndiff --git a/x b/x\n") && !first.contains("Bug"), "{first}");
        let said = SaveOptions {
            purpose: Some("say less".to_owned()),
            bug: Some("https://bugs.gentoo.org/1".to_owned()),
            ..options.clone()
        };
        let second = with_header(&said, &set(), Some(&Header::read(first.as_bytes())), diff);
        let third = String::from_utf8(with_header(&options, &set(), Some(&Header::read(&second)), diff)).unwrap();
        assert!(third.starts_with("Purpose: say less\n") && third.contains("\nBug: https://bugs.gentoo.org/1\n\n"), "{third}");
        let other_day = third.replace("Date: 20", "Date: 19");
        assert_ne!(other_day, third);
        assert_eq!(without_date(other_day.as_bytes()), without_date(third.as_bytes()));
        for (line, good) in [("fine: yes", true), ("", false), (" ", false), ("a\nb", false), ("\x1b[0m", false)] {
            assert_eq!(check_header_line(line).is_ok(), good, "{line:?}");
        }
    }

    #[test]
    fn what_cannot_be_a_patch_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let said = |raw: &str, numstat: &str, unmerged: &str| {
            for (name, text) in
                [("raw", raw), ("numstat", numstat), ("unmerged", unmerged), ("ignored", "x.o\n"), ("patch", "diff\n")]
            {
                write(name, text);
            }
            read_diff(dir.path()).map(|diff| diff.files).map_err(|error| error.to_string())
        };
        let plain = ":100644 100644 aaa bbb M\tx.c\n";
        let one = vec![Changed { path: "x.c".to_owned(), added: 1, removed: 2 }];
        assert_eq!(said(plain, "1\t2\tx.c\n", ""), Ok(one));
        assert_eq!(said(plain, "-\t-\tlogo.png\n", "").unwrap_err(), "a patch cannot change binary files: logo.png");
        let link = ":000000 160000 000 bbb A\tlib\n";
        let error = said(link, "1\t0\tlib\n", "").unwrap_err();
        assert_eq!(error, "git repositories within the work set cannot be part of a patch: lib");
        assert_eq!(said(plain, "1\t2\tx.c\n", "x.c\n").unwrap_err(), "there are conflicts of a merge in x.c");
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        std::fs::rename(dir.path().join("link"), dir.path().join("patch")).unwrap();
        assert!(read_diff(dir.path()).is_err(), "a link out of the session");
    }
}
