//! A build state as a squashfs image, by the host's `mksquashfs`.
//!
//! ```text
//! task in the id map: merged view -> tar, normalised as for a tarball --pipe--> mksquashfs - IMAGE -tar
//! ```
//!
//! `mksquashfs` reads an archive, so it needs neither the id map nor a mount, and the image has the same owners, times, attributes and
//! exclusions as a tarball.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{fs, io};

use crate::archive::tasks::Exported;
use crate::artifact::{Error, Result};
use crate::context::Context;
use crate::path_error::OfFile as _;
use crate::terminal_text::sanitize;

const PROGRAM: &str = "mksquashfs";
/// For its caches; by default it takes a quarter of the memory of the machine.
const MEMORY: &str = "128M";
/// Where `mksquashfs` is looked for.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const LAST_LINES: usize = 8;
/// How much of the end of its messages is kept: a hostile layer can make it print a line for each file.
const SAID_LIMIT_BYTES: usize = 64 * 1024;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum SquashfsError {
    /// It is not installed.
    #[error("`{PROGRAM}` is not installed")]
    NotInstalled,
    /// It did not start.
    #[error("cannot run `{PROGRAM}`")]
    Start(#[source] io::Error),
    /// It failed.
    #[error("`{PROGRAM}` failed: {status}")]
    Failed {
        status: std::process::ExitStatus,
        /// Its last messages, safe to print.
        last_lines: Vec<String>,
    },
}

/// Writes the image. `pack` writes the merged view as a tar to the descriptor.
pub(crate) fn write_squashfs(
    cx: &Context<'_>,
    image: &Path,
    clamp: i64,
    pack: impl FnOnce(OwnedFd) -> Result<Exported>,
) -> Result<Exported> {
    let mut child = Command::new(PROGRAM)
        .env_clear()
        // `mksquashfs` ignores the `./` of the archive and takes the root's time from the clock. This variable also bounds that;
        // `-mkfs-time` does not.
        .envs([("PATH", SEARCH_PATH), ("LC_ALL", "C"), ("SOURCE_DATE_EPOCH", &clamp.max(0).to_string())])
        .arg("-")
        .arg(image)
        .args(["-tar", "-noappend", "-no-progress", "-quiet", "-exit-on-error", "-xattrs", "-comp", "zstd", "-mem", MEMORY])
        .args(["-root-mode", "755", "-root-uid", "0", "-root-gid", "0"])
        .args(["-processors", &cx.settings.processors.max(1).to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SquashfsError::NotInstalled,
            _ => SquashfsError::Start(error),
        })?;
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let (packed, said) = std::thread::scope(|scope| {
        let listener = crate::threads::scoped(scope, "listen to mksquashfs with", move || {
            stderr.map_or_else(Vec::new, |stderr| {
                last_of(stderr).unwrap_or_else(|error| {
                    tracing::debug!(%error, "lost what mksquashfs says");
                    Vec::new()
                })
            })
        });
        let packed = stdin.ok_or_else(|| SquashfsError::Start(io::ErrorKind::BrokenPipe.into()).into());
        let (packed, listener) = match listener {
            Ok(listener) => (packed, Some(listener)),
            Err(error) => (Err(error.into()), None),
        };
        let packed = packed.and_then(|stdin| pack(OwnedFd::from(stdin)));
        if packed.is_err() {
            // It would take the end of its input for a complete archive.
            child.kill().unwrap_or_else(|error| tracing::debug!(%error, "mksquashfs has ended"));
        }
        (packed, listener.and_then(|listener| listener.join().ok()).unwrap_or_default())
    });
    let status = child.wait().map_err(SquashfsError::Start)?;
    // If it failed, `pack` fails with a broken pipe: then its own messages are the better error. An interruption comes before both.
    match packed {
        Err(error) if error.is_interrupted() => return Err(error),
        Err(error) if status.code().is_none() => return Err(error),
        _ => {}
    }
    if !status.success() {
        let text = String::from_utf8_lossy(&said);
        let lines: Vec<String> =
            text.lines().filter(|line| !line.trim().is_empty()).map(|line| sanitize(line.as_bytes())).collect();
        let last_lines = lines[lines.len().saturating_sub(LAST_LINES)..].to_vec();
        return Err(SquashfsError::Failed { status, last_lines }.into());
    }
    fs::File::open(image).and_then(|file| file.sync_all()).map_err(Error::io("sync", image))?;
    packed
}

/// Reads a stream to its end and keeps the last part.
fn last_of(mut from: impl io::Read) -> io::Result<Vec<u8>> {
    let (mut last, mut chunk) = (Vec::new(), [0; 8192]);
    loop {
        let count = from.read(&mut chunk)?;
        if count == 0 {
            return Ok(last);
        }
        last.extend_from_slice(&chunk[..count]);
        last.drain(..last.len().saturating_sub(SAID_LIMIT_BYTES));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_said_the_end_is_kept() {
        let text: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        assert_eq!(last_of(&*text).unwrap(), text[text.len() - SAID_LIMIT_BYTES..]);
        assert_eq!(last_of(&text[..100]).unwrap(), text[..100]);
    }
}
