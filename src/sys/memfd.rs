//! Sealed copies of our own program in memory.
//!
//! The helper is executed from such a copy, so that nothing that runs in a session can reach the program's file on disk through
//! `/proc/PID/exe`, and so that replacing the file during a build does not matter.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};

use super::{Error, Result};

/// Copies `file` from its beginning into a memory file that can no longer be written, grown, shrunk or unsealed.
pub fn sealed_copy(name: &str, file: &File) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Where `vm.memfd_noexec` is 2, asking for execution is refused; before Linux 6.3 the flag is unknown.
    let memfd = rustix::fs::memfd_create(name, flags | MemfdFlags::EXEC)
        .or_else(|errno| if errno == rustix::io::Errno::INVAL { rustix::fs::memfd_create(name, flags) } else { Err(errno) })
        .map_err(Error::of("memfd_create", name))?;
    let length = file.metadata().map_err(Error::of("fstat", name))?.len();
    let mut offset = 0u64;
    while offset < length {
        let wish = usize::try_from(length - offset).unwrap_or(usize::MAX);
        let sent = rustix::fs::sendfile(memfd.as_fd(), file, Some(&mut offset), wish).map_err(Error::of("sendfile", name))?;
        if sent == 0 {
            return Err(Error::new("sendfile", name, std::io::Error::from(std::io::ErrorKind::UnexpectedEof)));
        }
    }
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&memfd, seals).map_err(Error::of("fcntl", "F_ADD_SEALS"))?;
    Ok(memfd)
}
