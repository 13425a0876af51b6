//! The loopback device of a fresh network namespace.

use std::os::fd::AsRawFd;

use nix::sys::ioctl::ioctl_num_type;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::{Error, Result};

/// Brings `lo` up. The kernel then gives it `127.0.0.1` and `::1` by itself.
pub(crate) fn loopback_up() -> Result<()> {
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(Error::of("socket", "AF_INET, SOCK_DGRAM"))?;
    // SAFETY: `ifreq` is plain data, for which all zeroes is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(i16::MAX);
    // musl declares the request's number as `int`, glibc as `unsigned long`.
    let set_flags = libc::SIOCSIFFLAGS as ioctl_num_type;
    // SAFETY: the request carries a terminated name and the flags, and outlives the call.
    let code = unsafe { libc::ioctl(socket.as_raw_fd(), set_flags, &raw const request) };
    if code == 0 { Ok(()) } else { Err(Error::new("ioctl", "SIOCSIFFLAGS, lo, IFF_UP", std::io::Error::last_os_error())) }
}
