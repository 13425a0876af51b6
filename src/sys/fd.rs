//! Descriptors: duplicates, the three standard ones, and the closing of all others.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};

use super::{Error, Result};

/// A duplicate with close-on-exec set, at number 3 or above.
pub(crate) fn duplicate(fd: impl AsFd) -> Result<OwnedFd> {
    let fd = fd.as_fd();
    rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(Error::of("fcntl", format_args!("{}, F_DUPFD_CLOEXEC", fd.as_raw_fd())))
}

/// Duplicates of descriptors 0, 1 and 2 of this process.
pub(crate) fn duplicate_stdio() -> Result<[OwnedFd; 3]> {
    Ok([duplicate(rustix::stdio::stdin())?, duplicate(rustix::stdio::stdout())?, duplicate(rustix::stdio::stderr())?])
}

/// `/dev/null`, for reading and writing.
pub(crate) fn null() -> Result<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(Error::of("open", "/dev/null"))
}

/// Names a file, which it opens neither for reading nor for writing (`O_PATH`).
pub(crate) fn name(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(Error::of("open", path.display()))
}

/// Makes `fds` the descriptors 0, 1 and 2 of this process.
pub(crate) fn replace_stdio(fds: [BorrowedFd<'_>; 3]) -> Result<()> {
    rustix::stdio::dup2_stdin(fds[0]).map_err(Error::of("dup2", "stdin"))?;
    rustix::stdio::dup2_stdout(fds[1]).map_err(Error::of("dup2", "stdout"))?;
    rustix::stdio::dup2_stderr(fds[2]).map_err(Error::of("dup2", "stderr"))
}

/// Moves descriptor 0, a socket, to another number and leaves `/dev/null` in its place.
pub(crate) fn take_stdin() -> Result<OwnedFd> {
    let taken = duplicate(rustix::stdio::stdin())?;
    let null = null()?;
    rustix::stdio::dup2_stdin(null).map_err(Error::of("dup2", "/dev/null, 0"))?;
    Ok(taken)
}

/// Marks every descriptor from 3 upwards close-on-exec, whoever opened it.
pub(crate) fn close_others_on_exec() -> Result<()> {
    // SAFETY: the call takes three integers; it changes flags of descriptors and closes none.
    let code = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    // The flag came with Linux 5.11. Seccomp filters of containers answer EPERM for calls that they do not know.
    if code == 0 { Ok(()) } else { close_listed_on_exec(Path::new(LIST)) }
}

/// Closes every descriptor from 3 upwards, for a process that was given nothing there.
pub(crate) fn close_others() -> Result<()> {
    // SAFETY: the call takes three integers; the caller owns no descriptor yet.
    let code = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) };
    // Linux 5.9. Seccomp filters of containers answer EPERM for calls that they do not know.
    if code == 0 { Ok(()) } else { close_listed(Path::new(LIST)) }
}

/// [`close_others`] for the descriptors that `list` names, one call each.
fn close_listed(list: &Path) -> Result<()> {
    for number in listed(list)? {
        // SAFETY: nobody owns it, as above. The one that read the list is closed already: EBADF, which does no harm.
        unsafe { libc::close(number) };
    }
    Ok(())
}

/// Makes `socket` the only descriptor besides the three standard ones, for a process that was forked: it owns nothing else. What its
/// parent owned is never dropped in it, since it never returns there.
pub(crate) fn keep_only(socket: OwnedFd) -> Result<OwnedFd> {
    rustix::stdio::dup2_stdin(&socket).map_err(Error::of("dup2", "a socket, 0"))?;
    // Closed by number like the others.
    std::mem::forget(socket);
    close_others()?;
    take_stdin()
}

/// Lets `fd` stay open when this process executes.
pub(crate) fn keep_on_exec(fd: impl AsFd) -> Result<()> {
    let fd = fd.as_fd();
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())
        .map_err(Error::of("fcntl", format_args!("{}, F_SETFD, 0", fd.as_raw_fd())))
}

/// Where the kernel lists the descriptors of this process.
const LIST: &str = "/proc/self/fd";

/// [`close_others_on_exec`] for the descriptors that `list` names, one call each.
fn close_listed_on_exec(list: &Path) -> Result<()> {
    for number in listed(list)? {
        // SAFETY: the call takes integers; a number that is no descriptor any more is EBADF.
        if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
            let error = std::io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EBADF) {
                return Err(Error::new("fcntl", format_args!("{number}, F_SETFD, FD_CLOEXEC"), error));
            }
        }
    }
    Ok(())
}

/// The descriptors from 3 upwards that `list` names.
fn listed(list: &Path) -> Result<Vec<i32>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(list).map_err(Error::of("opendir", list.display()))? {
        let name = entry.map_err(Error::of("readdir", list.display()))?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()).filter(|number| *number > 2));
    }
    Ok(numbers)
}

/// Waits until one of `fds` is readable or hung up, at most `timeout_ms` milliseconds (forever if absent). The answer has one entry for
/// each of `fds`. None is set if the time is over or a signal arrived.
pub fn wait_readable(fds: &[BorrowedFd<'_>], timeout_ms: Option<u64>) -> Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let timeout = timeout_ms.map(|ms| Timespec {
        tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
        tv_nsec: i64::from(u32::try_from(ms % 1000).unwrap_or(0)) * 1_000_000,
    });
    match rustix::event::poll(&mut polled, timeout.as_ref()) {
        Ok(_) => Ok(polled.iter().map(|entry| !entry.revents().is_empty()).collect()),
        Err(rustix::io::Errno::INTR) => Ok(vec![false; fds.len()]),
        Err(errno) => Err(Error::new("poll", fds.len(), errno)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::IntoRawFd as _;

    use super::*;

    #[test]
    fn both_ways_mark_what_a_careless_parent_left_open() {
        let ways: [fn() -> Result<()>; 2] = [close_others_on_exec, || close_listed_on_exec(Path::new(LIST))];
        for way in ways {
            let file = null().unwrap();
            rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
            way().unwrap();
            assert_eq!(rustix::io::fcntl_getfd(&file).unwrap(), rustix::io::FdFlags::CLOEXEC);
        }
        let number = rustix::io::fcntl_dupfd_cloexec(null().unwrap(), 900).unwrap().into_raw_fd();
        let list = tempfile::tempdir().unwrap();
        std::fs::write(list.path().join(number.to_string()), "").unwrap();
        std::fs::write(list.path().join("1"), "").unwrap();
        close_listed(list.path()).unwrap();
        assert!(!Path::new(LIST).join(number.to_string()).exists() && Path::new(LIST).join("1").exists());
        let error = close_listed_on_exec(Path::new("/nonexistent")).unwrap_err();
        assert_eq!(error.to_string(), "`opendir(/nonexistent)` failed");
    }
}
