//! What a command has brought to the disk before it tells of success, by its system calls.
//!
//! Only the first thread of the program is traced: set-id programs would lose their rights, and what our helpers write is brought to the disk by
//! the program.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use crate::child;
use crate::place::{Place, Ran, command_line, finish};

const CALLS: &str = "openat,open,creat,write,pwrite64,writev,copy_file_range,sendfile,ftruncate,rename,renameat,renameat2,link,linkat,\
                     mkdir,mkdirat,unlink,unlinkat,rmdir,fsync,fdatasync,syncfs,sync";

/// What is not on the disk, at a point of the trace.
#[derive(Debug, Default, Clone)]
struct Disk {
    /// Files whose contents are not.
    contents: BTreeSet<PathBuf>,
    /// Names that their directories have not brought there.
    names: BTreeSet<PathBuf>,
    /// Files that got another name before their contents were there.
    hasty: BTreeSet<PathBuf>,
}

/// Runs the program in `place`; what of `below` was not on the disk when it began to tell its result.
pub(crate) fn undurable(place: &Place, args: &[&str], below: &[&Path]) -> (Ran, BTreeSet<String>) {
    let log = place.path("strace.log");
    let program = place.command(args);
    let mut traced = Command::new("strace");
    traced.args(["-qq", "-y", "-s", "4096", "-e", "signal=none", "-e", &format!("trace={CALLS}"), "-o"]).arg(&log);
    traced.arg(program.get_program()).args(program.get_args());
    traced.env_clear().envs(place.environment()).current_dir(&place.dir).stdin(std::process::Stdio::null());
    let ran = finish(command_line(&traced), child::spawn(&mut traced));
    let text = fs::read_to_string(&log).unwrap();
    let found = look(&text, &place.dir);
    let shown = |path: &Path| path.strip_prefix(&place.dir).unwrap_or(path).display().to_string();
    let is_ours = |path: &&PathBuf| path.exists() && below.iter().any(|dir| path.starts_with(dir)) && !is_passing(path);
    let mut undurable = BTreeSet::new();
    undurable.extend(found.contents.iter().filter(is_ours).map(|path| format!("contents of {}", shown(path))));
    undurable.extend(found.names.iter().filter(is_ours).map(|path| format!("name of {}", shown(path))));
    undurable.extend(found.hasty.iter().filter(is_ours).map(|path| format!("contents after the name of {}", shown(path))));
    (ran, undurable)
}

/// What nobody needs after a power cut: locks, logs, what is on its way, files that only take room.
fn is_passing(path: &Path) -> bool {
    let parts: Vec<_> =
        path.components().filter_map(|part| if let Component::Normal(name) = part { name.to_str() } else { None }).collect();
    let any = |names: &[&str]| parts.iter().any(|part| names.contains(part));
    any(&["ballast", "locks", ".locks", "tmp", "sessions", "logs", ".lock"])
        || parts.last().is_some_and(|name| name.strip_suffix("lock").is_some_and(|stem| stem.is_empty() || stem.ends_with('.')))
}

/// Follows the trace to the first word on standard output, or to its end.
fn look(text: &str, cwd: &Path) -> Disk {
    let mut disk = Disk::default();
    for call in text.lines() {
        if call.starts_with("write(1<") {
            return disk;
        }
        follow(call, cwd, &mut disk);
    }
    disk
}

/// What lies between quotes, and what descriptors are, in order.
fn paths(arguments: &str, cwd: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dir = cwd.to_owned();
    let mut rest = arguments;
    while let Some(at) = rest.find(['"', '<']) {
        let end = if rest[at..].starts_with('"') { '"' } else { '>' };
        let Some(length) = rest[at + 1..].find(end) else { break };
        let text = &rest[at + 1..at + 1 + length];
        if end == '"' {
            found.push(dir.join(text));
        } else {
            dir = PathBuf::from(text);
        }
        rest = &rest[at + 2 + length..];
    }
    found
}

fn follow(call: &str, cwd: &Path, disk: &mut Disk) {
    let Some((name, rest)) = call.split_once('(') else { return };
    // Short lines are padded.
    let Some((arguments, result)) = rest.rsplit_once(" = ") else { return };
    let Some(arguments) = arguments.trim_end().strip_suffix(')') else { return };
    if result.starts_with('-') {
        return;
    }
    let descriptor = || arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| PathBuf::from(path));
    let paths = paths(arguments, cwd);
    match (name, paths.as_slice()) {
        ("open" | "openat" | "creat", [path, ..]) if arguments.contains("O_CREAT") || name == "creat" => {
            disk.names.insert(path.clone());
        }
        ("write" | "pwrite64" | "writev" | "ftruncate" | "sendfile", _) => disk.contents.extend(descriptor()),
        ("copy_file_range", _) => {
            let out = arguments.split('<').nth(2).and_then(|rest| rest.split_once('>')).map(|(path, _)| PathBuf::from(path));
            disk.contents.extend(out);
        }
        ("mkdir" | "mkdirat", [path]) => drop(disk.names.insert(path.clone())),
        ("rename" | "renameat" | "renameat2", [from, to]) => {
            let exchanged = arguments.contains("RENAME_EXCHANGE");
            let moved = |path: &PathBuf| {
                let under = |old: &Path, new: &Path| path.strip_prefix(old).ok().map(|rest| join(new, rest));
                under(from, to).or_else(|| exchanged.then(|| under(to, from)).flatten()).unwrap_or_else(|| path.clone())
            };
            disk.contents = disk.contents.iter().map(moved).collect();
            disk.names = disk.names.iter().map(moved).collect();
            disk.hasty.retain(|path| path != to);
            disk.hasty.extend(disk.contents.iter().filter(|path| path.starts_with(to)).cloned());
            disk.names.insert(to.clone());
            if exchanged {
                disk.names.insert(from.clone());
            }
        }
        ("link" | "linkat", [_, to]) => drop(disk.names.insert(to.clone())),
        ("unlink" | "unlinkat" | "rmdir", [path, ..]) => {
            disk.contents.remove(path);
            disk.names.remove(path);
            disk.hasty.remove(path);
        }
        ("fsync" | "fdatasync", _) => {
            let Some(path) = descriptor() else { return };
            disk.contents.remove(&path);
            disk.names.retain(|name| name.parent() != Some(&path));
        }
        ("syncfs" | "sync", _) => {
            disk.contents.clear();
            disk.names.clear();
        }
        _ => {}
    }
}

fn join(dir: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { dir.to_owned() } else { dir.join(rest) }
}

#[test]
fn a_trace_is_read_as_the_kernel_would() {
    let read = |lines: &str| {
        let disk = look(lines, Path::new("/c"));
        let list = |paths: BTreeSet<PathBuf>| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ");
        format!("{} | {} | {}", list(disk.contents), list(disk.names), list(disk.hasty))
    };
    let create =
        "openat(AT_FDCWD</c>, \"/c/a b.new\", O_WRONLY|O_CREAT|O_EXCL, 0600) = 5</c/a b.new>\nwrite(5</c/a b.new>, \"x\", 1) = 1\n";
    let (sync, rename) = ("fsync(5</c/a b.new>) = 0\n", "rename(\"a b.new\", \"/c/a b\") = 0\n");
    let (dir, told) = ("fsync(6</c>)       = 0\n", "write(1</dev/null>, \"done\", 4) = 4\n");
    assert_eq!(read(&[create, sync, rename, dir, told].concat()), " |  | ");
    assert_eq!(read(&[create, sync, rename, told, dir].concat()), " | /c/a b | ");
    assert_eq!(read(&[create, rename, dir, told].concat()), "/c/a b |  | /c/a b");
    assert_eq!(read(&[create, "syncfs(6</c>) = 0\n", rename].concat()), " | /c/a b | ");
    assert_eq!(read("rename(\"/x\", \"/c/y\") = -1 ENOENT (No such file or directory)\n"), " |  | ");
    assert_eq!(
        read("mkdirat(4</c>, \"d\", 0700) = 0\nrenameat2(4</c>, \"d\", 5</e>, \"f\", RENAME_NOREPLACE) = 0\n"),
        " | /e/f | "
    );
}
