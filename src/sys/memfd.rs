//! Sealed files in memory, which are executed.

use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags};

use super::{Error, Result};

/// An empty file in memory that can be executed. Fails where a setting of the kernel forbids that.
pub(crate) fn executable(name: &str) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Linux 6.3 and later want the flag and refuse it if `vm.memfd_noexec` is 2. Before 6.3 it is unknown: EINVAL.
    rustix::fs::memfd_create(name, flags | MemfdFlags::EXEC)
        .or_else(|errno| if errno == rustix::io::Errno::INVAL { rustix::fs::memfd_create(name, flags) } else { Err(errno) })
        .map_err(Error::of("memfd_create", name))
}

/// The same with `bytes` in it, which can no longer be written, grown, shrunk or unsealed.
pub(crate) fn sealed(name: &str, bytes: &[u8]) -> Result<OwnedFd> {
    let memfd = executable(name)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = rustix::io::write(&memfd, rest).map_err(Error::of("write", name))?;
        rest = &rest[written..];
    }
    seal(&memfd, true)?;
    Ok(memfd)
}

/// Seals the file. Its owner is root in a session and could change its mode, so `EXEC` seals that, too. Before Linux 6.3 this seal is
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

/// Whether files in memory keep attributes of users (`user.*`), which packages may have: Linux 6.6 and later.
pub(crate) fn has_user_attributes() -> bool {
    let memfd = rustix::fs::memfd_create("attributes", MemfdFlags::CLOEXEC);
    memfd.and_then(|memfd| rustix::fs::fsetxattr(&memfd, "user.gentoomuch", b"1", rustix::fs::XattrFlags::empty())).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;

    use rustix::fs::Mode;
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_sealed_file_is_neither_written_nor_given_another_mode() {
        let file = File::from(sealed("test", b"program").unwrap());
        assert_eq!(
            std::io::read_to_string(std::io::Seek::seek(&mut &file, std::io::SeekFrom::Start(0)).map(|_| &file).unwrap()).unwrap(),
            "program"
        );
        assert_eq!(file.write_at(b"x", 0).unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(file.set_len(0).unwrap_err().raw_os_error(), Some(libc::EPERM));
        let seals = rustix::fs::fcntl_get_seals(&file).unwrap();
        assert!(seals.contains(SealFlags::SEAL | SealFlags::WRITE));
        assert_eq!(rustix::fs::fcntl_add_seals(&file, SealFlags::FUTURE_WRITE), Err(Errno::PERM));
        let mode = rustix::fs::fstat(&file).unwrap().st_mode;
        // Asked of another file, so that a file without the seal is seen where the kernel knows it.
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
