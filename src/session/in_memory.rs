//! `env/tmpfs`: packages are compiled in memory, as far as they fit.
//!
//! ```text
//! /var/tmp/portage                 a file system in memory, of one run of emerge
//! /var/tmp/portage/CATEGORY/PF     of a package that is too large: bound from the disk
//! /run/gentoomuch/scratch          the session's `scratch/`, on the disk
//! ```
//!
//! The place of a build directory gets into what is built, so it is the same wherever it lies. Which packages are too large is what the
//! configuration says, and what their last build took (`build_times`). A package that no build is known of is tried in memory. What does
//! not fit is built once more, on the disk.
//!
//! What a failed package has left must be there for whoever enters its session: `in_memory.py`, which runs emerge, puts it on the disk.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use crate::beneath;
use crate::beneath::TreeDir;
use crate::build_times::{self, Build};
use crate::causes::in_one_line;
use crate::config::resources::Tmpfs;
use crate::context::{self, Context};
use crate::limits::Exceeded;
use crate::portage::atom::Atom;
use crate::portage::cpv::Cpv;
use crate::portage::emerge::FailureKind;
use crate::portage::emerge::progress::Finished;
use crate::portage::emerge::request::{Goal, Request};
use crate::portage::matching::Version;
use crate::sandbox;
use crate::sandbox::Exit;
use crate::sandbox::plan::Step;
use crate::session::forecast::Coming;
use crate::session::messages::logs_in;
use crate::session::readable_files::write_public;
use crate::session::root::{BUILD_DIR, HOOKS_DIR, SCRATCH_DIR};
use crate::session::{Error, Result, Work, messages};
use crate::sys::memfd;

const SCRIPT_NAME: &str = "in_memory.py";
const SCRIPT: &str = include_str!("in_memory.py");
/// A file that Portage leaves alone.
const STAYS: &str = ".gentoomuch";
/// What the script ends with if emerge has failed and the memory is full.
const FULL: Exit = Exit::Code(libc::ENOSPC);
/// A package whose last build took more than this part of the memory is compiled on the disk: others may be compiled at the same time.
const MOST_PART: u64 = 2;

/// A run of emerge that compiles in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InMemory {
    pub(crate) size_bytes: u64,
    /// `CATEGORY/PF` of those that are compiled on the disk.
    pub(crate) on_disk: BTreeSet<String>,
}

/// What has turned out to be too large for the memory of this session.
#[derive(Debug, Default)]
pub(crate) struct TooLarge {
    packages: BTreeSet<String>,
    /// All packages: nothing is compiled in memory any more.
    all: bool,
}

impl InMemory {
    /// Makes the directories; `scratch` is that of the session.
    pub(crate) fn steps(&self, scratch: &Path) -> Vec<Step> {
        let mut steps = vec![
            Step::Bind { source: scratch.to_owned(), target: SCRATCH_DIR.into(), read_only: false },
            Step::Tmpfs { target: BUILD_DIR.into(), size: Some(self.size_bytes), mode: 0o755 },
        ];
        for package in &self.on_disk {
            let target = Path::new(BUILD_DIR).join(package);
            // Portage removes the directory once it is empty, which would fail, since it is a mount.
            let stays = target.join(STAYS);
            steps.push(Step::BindInside { top: SCRATCH_DIR.into(), inside: package.into(), target });
            steps.push(Step::Remove { path: stays.clone() });
            steps.push(Step::File { path: stays, contents: String::new(), mode: 0o644 });
        }
        steps
    }

    /// The command that runs emerge.
    pub(crate) fn around(argv: &[String]) -> Vec<String> {
        let script = format!("{HOOKS_DIR}/{SCRIPT_NAME}");
        let words = ["python3", "-I", "-B", &script, BUILD_DIR, SCRATCH_DIR].map(str::to_owned);
        words.into_iter().chain(argv.iter().cloned()).collect()
    }

    /// Whether emerge failed while its memory was full. Not every program says so.
    pub(crate) fn was_full(exit: Exit) -> bool {
        exit == FULL
    }
}

/// How a run of emerge is to compile in memory, if it is.
pub(crate) fn of_run(cx: &Context<'_>, work: &Work<'_>, request: &Request) -> Result<Option<InMemory>> {
    let Some(tmpfs) = cx.settings.tmpfs.as_ref().filter(|_| request.goal != Goal::Depclean) else { return Ok(None) };
    let too_large = work.too_large.borrow();
    let foreseen = work.foreseen.borrow();
    if too_large.all {
        return Ok(None);
    }
    let sizes = build_times::sizes(cx);
    let mut on_disk = on_disk(tmpfs, &foreseen, |name| sizes.get(name).copied());
    on_disk.extend(too_large.packages.iter().cloned());
    if !foreseen.iter().any(|coming| !coming.binary && !on_disk.contains(&coming.cpv)) {
        return Ok(None);
    }
    if !memfd::has_user_attributes() {
        if cx.told.is_new("no tmpfs") {
            let why = "this kernel keeps no user attributes of files in memory; Linux 6.6 and later do";
            cx.observer.warn(&format!("`env/tmpfs` has no effect: {why}"));
        }
        return Ok(None);
    }
    write_public(&work.root.hooks.join(SCRIPT_NAME), SCRIPT.as_bytes(), 0o644)?;
    let in_memory = InMemory { size_bytes: tmpfs.size_bytes.value, on_disk };
    tracing::debug!(?in_memory, "compiling");
    Ok(Some(in_memory))
}

/// The packages that are known to be too large, or are to be compiled on the disk.
fn on_disk(tmpfs: &Tmpfs, foreseen: &[Coming], size_bytes: impl Fn(&str) -> Option<u64>) -> BTreeSet<String> {
    let most = tmpfs.size_bytes.value / MOST_PART;
    let is_on_disk = |cpv: &Cpv<'_>| {
        let [category, package, version] = [cpv.category, cpv.package, cpv.version].map(str::to_owned);
        let version = Version { category, package, version, slot: None, repository: None };
        tmpfs.on_disk.iter().any(|atom| atom.value.matches(&version)) || size_bytes(cpv.name()).is_some_and(|size| size > most)
    };
    let foreseen = foreseen.iter().filter(|coming| is_package(&coming.cpv));
    let on_disk = foreseen.filter(|coming| Cpv::parse(&coming.cpv).is_some_and(|cpv| is_on_disk(&cpv)));
    on_disk.map(|coming| coming.cpv.clone()).collect()
}

/// The package that has failed, if this run was to compile it: its name comes from output that any package can write. So each package is the
/// reason for one more run at most.
fn compiled<'p>(package: Option<&'p str>, foreseen: &[Coming]) -> Option<&'p str> {
    package.filter(|package| is_package(package) && foreseen.iter().any(|coming| !coming.binary && coming.cpv == *package))
}

/// Names come from emerge's output, and become paths.
fn is_package(cpv: &str) -> bool {
    Atom::parse_target(&format!("={cpv}")).is_ok_and(|atom| format!("={cpv}") == atom.to_string())
}

/// Whether a run that ended with `error` is to be repeated, with less in memory. Says so.
pub(crate) fn is_to_be_repeated(cx: &Context<'_>, work: &Work<'_>, in_memory: &InMemory, error: &Error) -> bool {
    let mut too_large = work.too_large.borrow_mut();
    let (what, why) = match error {
        Error::Emerge { failure, .. } if failure.kind == FailureKind::OutOfSpace => {
            let why = "the memory of `env/tmpfs` is full";
            let foreseen = work.foreseen.borrow();
            match compiled(failure.package.as_deref(), &foreseen) {
                // It is the disk that is full.
                Some(package) if in_memory.on_disk.contains(package) => return false,
                Some(package) => {
                    too_large.packages.insert(package.to_owned());
                    remember_too_large(cx, package, in_memory.size_bytes);
                    messages::forget(cx, work, package);
                    (format!("building {package} on the disk"), why.to_owned())
                }
                None => {
                    too_large.all = true;
                    ("building on the disk".to_owned(), why.to_owned())
                }
            }
        }
        Error::Context(context::Error::Sandbox(sandbox::Error::Exceeded(exceeded @ Exceeded::Memory { .. }))) => {
            too_large.all = true;
            ("building on the disk".to_owned(), exceeded.to_string())
        }
        _ => return false,
    };
    cx.observer.note(&format!("{why}: {what}"));
    true
}

/// The next build of this package begins on the disk. If that succeeds, it says how large it really is.
fn remember_too_large(cx: &Context<'_>, package: &str, size_bytes: u64) {
    let size = Cpv::parse(package).map(|cpv| Build::of_size(cpv.name(), cpv.version, size_bytes));
    build_times::add(cx, size.into_iter().collect());
}

/// Remembers how much packages took that were compiled: their logs say so.
pub(crate) fn remember(cx: &Context<'_>, logs: &Path, finished: &[Finished]) {
    let compiled: BTreeSet<&str> = finished.iter().filter(|one| !one.binary).map(|one| one.cpv.as_str()).collect();
    if cx.settings.tmpfs.is_none() || compiled.is_empty() {
        return;
    }
    match sizes(logs, &compiled) {
        Ok(sizes) => build_times::add(cx, sizes),
        Err(error) => tracing::debug!("how large packages are is not kept: {}", in_one_line(&error)),
    }
}

/// By the logs of single packages, which are ours; with `FEATURES=split-log` they are in `build/`.
fn sizes(logs: &Path, compiled: &BTreeSet<&str>) -> beneath::Result<Vec<Build>> {
    let logs = TreeDir::open(logs)?;
    let split = logs.kind("build")?.map(|_| logs.open_dir("build")).transpose()?;
    let mut sizes = Vec::new();
    for dir in std::iter::once(logs).chain(split) {
        for (package, file) in logs_in(&dir)?.into_iter().filter(|(package, _)| compiled.contains(package.as_str())) {
            let Some(bytes) = built_bytes(dir.open_file(file)?.file) else { continue };
            sizes.extend(Cpv::parse(&package).map(|cpv| Build::of_size(cpv.name(), cpv.version, bytes)));
        }
    }
    Ok(sizes)
}

/// What Portage says of a build directory and of an image (`bin/phase-functions.sh`), at the end of the install phase.
const SAID: [&[u8]; 2] = [b"Final size of build directory:", b"Final size of installed tree:"];
/// How long such a line may be.
const LINE_BYTES: usize = 128;
/// No package is larger.
const MOST_BYTES: u64 = 1 << 50;

/// How large build directory and image were at the end, by a package's log.
fn built_bytes(mut log: impl Read) -> Option<u64> {
    let mut kib: [Option<u64>; 2] = [None; 2];
    let (mut text, mut ended) = (Vec::new(), false);
    let mut chunk = vec![0; 64 << 10];
    while !ended {
        let count = log.read(&mut chunk).ok()?;
        ended = count == 0;
        text.extend_from_slice(&chunk[..count]);
        // What begins in the last bytes may go on.
        let whole = if ended { text.len() } else { text.len().saturating_sub(LINE_BYTES) };
        for at in (0..whole).filter(|at| text[*at] == b'F') {
            for (said, kib) in SAID.iter().zip(&mut kib) {
                if let Some(rest) = text[at..].strip_prefix(*said) {
                    *kib = number(&rest[..rest.len().min(LINE_BYTES)]).or(*kib);
                }
            }
        }
        text.drain(..whole);
    }
    let [Some(build), image] = kib else { return None };
    build.checked_add(image.unwrap_or(0))?.checked_mul(1024).filter(|bytes| *bytes <= MOST_BYTES)
}

fn number(rest: &[u8]) -> Option<u64> {
    String::from_utf8_lossy(rest).split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigDir;

    fn tmpfs(text: &str) -> Tmpfs {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("env")).unwrap();
        std::fs::write(dir.path().join("env/tmpfs"), text).unwrap();
        ConfigDir::open(dir.path()).unwrap().resources().unwrap().tmpfs.unwrap()
    }

    #[test]
    fn packages_that_are_large_or_named_are_on_the_disk() {
        let foreseen: Vec<Coming> =
            ["a/small-1", "a/large-1", "a/new-1", "b/named-1", "b/named-2", "a/..-1", "c/../../etc-1", "a/x"]
                .map(|cpv| Coming { cpv: cpv.to_owned(), binary: false })
                .into();
        let sizes = |name: &str| match name {
            "a/small" => Some(512 << 20),
            "a/large" | "c/../../etc" => Some((512 << 20) + 1),
            _ => None,
        };
        let found = on_disk(&tmpfs("=b/named-1* disk\n1G\nc/* disk\n"), &foreseen, sizes);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a/large-1", "b/named-1"]);
    }

    #[test]
    fn only_what_was_to_be_compiled_is_a_reason_to_repeat() {
        let coming = |cpv: &str, binary| Coming { cpv: cpv.to_owned(), binary };
        let foreseen = [coming("a/b-1", false), coming("a/c-1", true), coming("a/..-1", false)];
        let found =
            [Some("a/b-1"), Some("a/c-1"), Some("a/..-1"), Some("a/forged-7"), None].map(|package| compiled(package, &foreseen));
        assert_eq!(found, [Some("a/b-1"), None, None, None, None]);
    }

    #[test]
    fn what_a_build_took_is_in_its_log() {
        let log = " \u{1b}[32m*\u{1b}[39m Final size of build directory:  1234 KiB ( 1.2 MiB)\n * Final size of installed tree:     10 KiB\n";
        assert_eq!(built_bytes(log.as_bytes()), Some(1244 << 10));
        // Wherever the line is cut when it is read.
        for before in (65_500..65_560).chain([131_060, 200_000]) {
            let text = format!("{}\n{log}{}", "F".repeat(before), "x\n".repeat(70_000));
            assert_eq!(built_bytes(text.as_bytes()), Some(1244 << 10), "{before}");
        }
        // The last one counts, and nonsense is none.
        let twice = format!("{log}{}", log.replace("1234", "2").replace("10 KiB", "x KiB"));
        assert_eq!(built_bytes(twice.as_bytes()), Some(12 << 10));
        for none in
            ["", "Final size of build directory:", "Final size of installed tree: 3 KiB\n", &log.replace("1234", &"9".repeat(19))]
        {
            assert_eq!(built_bytes(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn sizes_are_found_in_logs_of_both_forms() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("build/a")).unwrap();
        let of = |kib| format!("Final size of build directory: {kib} KiB\n");
        for (file, kib) in [
            ("a:b-1:20260101-000001.log", 2),
            ("a:b-1:20260101-000000.log", 1),
            ("build/a/c-1:20260101-000000.log", 3),
            ("a:another-1:20260101-000000.log", 4),
            ("summary.log", 5),
        ] {
            std::fs::write(dir.path().join(file), of(kib)).unwrap();
        }
        let found = sizes(dir.path(), &["a/b-1", "a/c-1"].into()).unwrap();
        let wanted = [("a/b", 1), ("a/b", 2), ("a/c", 3)].map(|(name, kib)| Build::of_size(name, "1", kib << 10));
        assert_eq!(found, wanted);
        assert!(sizes(&dir.path().join("none"), &BTreeSet::new()).is_err());
    }
}
