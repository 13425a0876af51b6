//! `gentoomuch cp STATE:PATH DIR`

use std::io;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::JoinHandle;

use crate::context::Context;
use crate::copy_tree::Copied;
use crate::history::cp;
use crate::history::cp::{CopyOptions, CopyTo};
use crate::progress::{Event, Observer, Silent};

use super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::opened::Opened;
use crate::cli::report::{Failure, Kind};
use crate::cli::screen::{Shown as _, Text};
use crate::cli::table::{count, human_bytes, print, print_json};

/// Of what was left out, and of links that lead elsewhere, so many are named.
const NAMED: usize = 5;
/// A line on a terminal is broken after so many bytes.
const LINE_LIMIT_BYTES: u64 = 64 * 1024;

/// Copy files or directories out of a build state
///
/// The copy belongs to you. It keeps modes and times, but no set-id bits, owners or extended attributes. Devices, pipes and sockets are not
/// copied, and neither are git repositories, since git runs programs that their configuration names. Links on the way to PATH are followed
/// within the state; links below PATH are copied as links. No file is overwritten. On a terminal, `-` shows control characters instead of
/// sending them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch cp stage4/web:/etc/nginx .
  gentoomuch cp profile/server:/etc/portage ./portage-of-server
  gentoomuch cp 'kept/with-hello@{1}:/usr/bin/hello' /tmp
  gentoomuch cp stage4/web:/etc/os-release -")]
pub(crate) struct Args {
    /// A build state (named as for `gentoomuch shell`), and an absolute path in it
    #[arg(value_name = "STATE:PATH")]
    from: String,
    /// The directory to copy into, or the new name of the copy; `-` prints a file on standard output
    #[arg(value_name = "DIR")]
    to: PathBuf,
    /// Print what was copied as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let (state, path) = split(&args.from)?;
    let stream = args.to == Path::new("-");
    if stream && args.json {
        return Err(
            Failure::message(Kind::Usage, "`--json` and `-` both want standard output").hint("name a directory instead of `-`")
        );
    }
    let (to, showing) = if !stream {
        (CopyTo::Path(invocation.path(&args.to)), None)
    } else if io::stdout().is_terminal() {
        let (to, showing) = onto_terminal()?;
        (CopyTo::Stream(to), Some(showing))
    } else {
        (CopyTo::Stream(io::stdout().as_fd().try_clone_to_owned()?), None)
    };
    let opened = Opened::open(invocation)?;
    let options = CopyOptions { state: state.to_owned(), path: path.to_owned(), to };
    let cx = opened.context(None);
    // A bar would stand in the middle of the contents.
    let observer: &dyn Observer = if showing.is_some() { &Silent } else { cx.observer };
    let result = cp::copy_out(&Context { observer, ..cx }, options);
    if let Some(showing) = showing {
        showing.join().map_err(|_| io::Error::other("the contents could not be shown"))??;
    }
    invocation.progress.clear();
    let result = result.map_err(|error| if stream { Failure::from(error).of_output() } else { error.into() })?;
    told(&result.copied, invocation);
    if args.json {
        print_json(&result)?;
    } else if let Some(to) = &result.to {
        print(format!("{}\n", summary(&result.copied, to)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A pipe, and what shows its contents: a terminal obeys some characters, and others have written the file.
fn onto_terminal() -> io::Result<(OwnedFd, JoinHandle<io::Result<()>>)> {
    let (from, to) = io::pipe()?;
    let mut from = BufReader::new(from);
    let showing = crate::threads::builder().spawn(move || {
        let mut line = Vec::new();
        while (&mut from).take(LINE_LIMIT_BYTES).read_until(b'\n', &mut line)? > 0 {
            print(Text::from(&*String::from_utf8_lossy(&line)))?;
            line.clear();
        }
        Ok(())
    })?;
    Ok((to.into(), showing))
}

/// `STATE:PATH`; no name of a state has a colon.
fn split(text: &str) -> Result<(&str, &str), Failure> {
    let wrong = |why: &str| {
        Failure::message(Kind::Usage, format!("`{text}`: {why}")).hint("write `STATE:PATH`, for example `stage4/web:/etc/nginx`")
    };
    match text.split_once(':') {
        Some(("", _)) => Err(wrong("no build state is named")),
        Some((_, path)) if !path.starts_with('/') => Err(wrong("the path in the state must be absolute")),
        Some(parts) => Ok(parts),
        None => Err(wrong("not of the form `STATE:PATH`")),
    }
}

fn summary(copied: &Copied, to: &Path) -> String {
    let parts =
        [(copied.files, "file", "files"), (copied.directories, "directory", "directories"), (copied.links, "link", "links")];
    let some = parts.into_iter().filter(|(number, ..)| *number > 0);
    let parts: Vec<String> = some.map(|(number, one, many)| format!("{number} {}", if number == 1 { one } else { many })).collect();
    format!("{}: {}, {}", to.shown(), parts.join(", "), human_bytes(copied.bytes))
}

fn told(copied: &Copied, invocation: &Invocation) {
    let note = |text: &str| invocation.progress.event(&Event::Note(text));
    for skipped in copied.skipped.iter().take(NAMED) {
        note(&format!("left out: {} is {}", skipped.path, skipped.what));
    }
    more(copied.skipped_count, "left out", &note);
    if copied.set_id > 0 {
        note(&format!("without set-id bits, which the state has: {}", count(copied.set_id, "file")));
    }
    for link in copied.outward.iter().take(NAMED) {
        note(&format!("leads out of the copy: {link}"));
    }
    more(copied.outward_count, "lead out of the copy", &note);
}

fn more(all: u64, what: &str, note: &dyn Fn(&str)) {
    let more = all.saturating_sub(NAMED as u64);
    if more > 0 {
        note(&format!("{more} more {what}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_in_one_line() {
        let copied = Copied { files: 1, directories: 2, bytes: 2048, ..Copied::default() };
        assert_eq!(summary(&copied, Path::new("/d/etc")), "/d/etc: 1 file, 2 directories, 2.0 KiB");
    }
}
