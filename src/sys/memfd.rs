//! Sealed copies of our own program in memory.
//!
//! The helper is executed from such a copy. So nothing that runs in a session can reach the program's file on disk through
//! `/proc/PID/exe`, and a new version may replace the file during a build.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};

use super::{Error, Result};

/// Copies `file` from its beginning into a memory file that can no longer be written, grown, shrunk or unsealed.
pub(crate) fn sealed_copy(name: &str, file: &File) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Linux 6.3 and later want the flag and refuse it if `vm.memfd_noexec` is 2. Before 6.3 it is unknown: EINVAL.
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
    seal(&memfd, true)?;
    Ok(memfd)
}

/// Seals the copy. Its owner is root in a session and could change its mode, so `EXEC` seals that, too. Before Linux 6.3 this seal is
/// unknown (`with_mode` is false in tests, which force that case).
fn seal(memfd: &OwnedFd, with_mode: bool) -> Result<()> {
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    if with_mode {
        match rustix::fs::fcntl_add_seals(memfd, seals | SealFlags::EXEC) {
            Err(rustix::io::Errno::INVAL) => {}
            answer => return answer.map_err(Error::of("fcntl", "F_ADD_SEALS")),
        }
    }
    rustix::fs::fcntl_add_seals(memfd, seals).map_err(Error::of("fcntl", "F_ADD_SEALS"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use rustix::fs::Mode;
    use rustix::io::Errno;

    use super::*;

    fn copy() -> OwnedFd {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::write(&path, "program").unwrap();
        sealed_copy("test", &File::open(path).unwrap()).unwrap()
    }

    #[test]
    fn a_copy_is_neither_written_nor_given_another_mode() {
        let file = File::from(copy());
        assert_eq!(file.write_at(b"x", 0).unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(file.set_len(0).unwrap_err().raw_os_error(), Some(libc::EPERM));
        let seals = rustix::fs::fcntl_get_seals(&file).unwrap();
        assert!(seals.contains(SealFlags::SEAL | SealFlags::WRITE));
        assert_eq!(rustix::fs::fcntl_add_seals(&file, SealFlags::FUTURE_WRITE), Err(Errno::PERM));
        let mode = rustix::fs::fstat(&file).unwrap().st_mode;
        // Asked of another file, so that a copy without the seal is seen where the kernel knows it.
        let other = rustix::fs::memfd_create("other", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        let is_known = rustix::fs::fcntl_add_seals(&other, SealFlags::EXEC) != Err(Errno::INVAL);
        assert_eq!(seals.contains(SealFlags::EXEC), is_known);
        if is_known {
            for wish in [0o600, 0o000, 0o644, 0o666] {
                assert_eq!(rustix::fs::fchmod(&file, Mode::from_raw_mode(wish)), Err(Errno::PERM), "{wish:o}");
            }
            assert_eq!(rustix::fs::fstat(&file).unwrap().st_mode, mode);
        }
    }

    #[test]
    fn a_kernel_without_the_seal_of_the_mode_has_the_others() {
        let memfd = rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        seal(&memfd, false).unwrap();
        let seals = rustix::fs::fcntl_get_seals(&memfd).unwrap();
        assert!(
            seals.contains(SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)
                && !seals.contains(SealFlags::EXEC)
        );
    }
}
