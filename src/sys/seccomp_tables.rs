//! What the filter refuses, by architecture.
//!
//! A build needs none of these. The kernel refuses most of them anyway, for want of a capability in the first user namespace; the filter
//! also keeps a program from reaching the code behind them. Calls that programs try in order to find out whether they exist answer
//! `ENOSYS`, so that the programs take their other way. Calls that set something answer `EPERM`. `adjtimex` stays allowed because
//! programs read the clock's state with it: the filter cannot see whether a call writes, and the kernel refuses writes.
//!
//! `clone3` has its flags in memory, where the filter cannot look. So it answers ENOSYS, and the C library calls `clone`. `setns` needs
//! no entry: the kernel lets nobody into a cgroup namespace that another user namespace owns, and the session can make none.
//!
//! Numbers: `asm/unistd_64.h`, `asm/unistd_32.h`, `asm/unistd_x32.h`, `asm-generic/unistd.h`, and `arm` in the kernel's
//! `arch/arm/tools/syscall.tbl`.

/// A refused call: its name for messages, its number, and the answer.
pub(super) type Refused = (&'static str, u32, i32);

/// One architecture of system calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    /// `AUDIT_ARCH_*`.
    pub(super) audit_arch: u32,
    /// Whether calls of x32 share the architecture and are told by a bit of their number.
    pub(super) has_x32: bool,
    /// The numbers of `ioctl`.
    pub(super) ioctl: &'static [u32],
    /// `socket` and `socketpair`: only some families, see [`FAMILIES`] and [`NETLINK_PROTOCOLS`].
    pub(super) sockets: &'static [u32],
    /// `socketcall`, whose arguments lie in memory where the filter cannot look: a `socket` through it answers ENOSYS.
    pub(super) socketcall: Option<u32>,
    /// Calls whose first argument is flags of `clone`: without [`NEW_CGROUP`] and [`NEW_USER`].
    pub(super) flags: &'static [u32],
    /// `prlimit64`.
    pub(super) limits: u32,
    /// Everything refused whatever its arguments.
    pub(super) refused: &'static [Refused],
}

const EPERM: i32 = libc::EPERM;
const ENOSYS: i32 = libc::ENOSYS;
const EACCES: i32 = libc::EACCES;

/// Requests of `ioctl` that put characters into a terminal's input. A session on our terminal could type commands for our shell with
/// them.
pub(super) const REFUSED_IOCTLS: [u32; 2] = [0x5412 /* TIOCSTI */, 0x541c /* TIOCLINUX */];

/// The families of sockets that a session has; any other is EAFNOSUPPORT, as on a kernel that was built without it.
///
/// A build talks to itself and, if it may, to the network. The others (virtual machines, the kernel's cryptography, Bluetooth, CAN, TIPC,
/// RDS, …) are modules that a build does not need and that the kernel loads for anybody who asks.
pub(super) const FAMILIES: [u32; 3] =
    [libc::AF_UNIX.cast_unsigned(), libc::AF_INET.cast_unsigned(), libc::AF_INET6.cast_unsigned()];

pub(super) const NETLINK: u32 = libc::AF_NETLINK.cast_unsigned();

/// The protocols of netlink that a session has. C libraries list addresses with `ROUTE` (`getifaddrs`), and `ip` sets up a network
/// namespace with it. libudev and libusb listen to `KOBJECT_UEVENT` as soon as they are used; it only brings messages of the kernel, and
/// none about the host's devices into another namespace.
///
/// Netfilter, `XFRM`, `GENERIC` (wireguard, nl80211, …) and the like are missing: with `NET_ADMIN` in their own network namespace,
/// programs would reach deep into the kernel through them. `USERSOCK` talks to processes of the host, `SOCK_DIAG` lists their sockets.
/// `AUDIT` does not work in a namespace: shadow and PAM take EAFNOSUPPORT for a kernel without it, but EPERM for a failure.
pub(super) const NETLINK_PROTOCOLS: [u32; 2] = [libc::NETLINK_ROUTE.cast_unsigned(), libc::NETLINK_KOBJECT_UEVENT.cast_unsigned()];

/// The number of `socket` among the calls of `socketcall` (`linux/net.h`).
pub(super) const SOCKETCALL_SOCKET: u32 = 1;

/// A cgroup namespace of its own would let a session mount the cgroups that hold its limits, as their owner.
pub(super) const NEW_CGROUP: u32 = libc::CLONE_NEWCGROUP.cast_unsigned();

/// In a user namespace of its own a program would get all capabilities. `user.max_user_namespaces` forbids it, too, where it can be written.
pub(super) const NEW_USER: u32 = libc::CLONE_NEWUSER.cast_unsigned();

/// The bit of a call's number that says x32.
pub(super) const X32_BIT: u32 = 0x4000_0000;

#[cfg(target_arch = "x86_64")]
pub(super) const TABLES: &[Table] = &[X86_64, I386];
#[cfg(target_arch = "aarch64")]
pub(super) const TABLES: &[Table] = &[AARCH64, ARM];
#[cfg(target_arch = "riscv64")]
pub(super) const TABLES: &[Table] = &[RISCV64];
#[cfg(target_arch = "loongarch64")]
pub(super) const TABLES: &[Table] = &[LOONGARCH64];
/// Without a table there is no filter, and a session fails to start: see `Filter::for_this_machine`.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64", target_arch = "loongarch64")))]
pub(super) const TABLES: &[Table] = &[];

#[cfg(any(target_arch = "x86_64", test))]
pub(super) const X86_64: Table = Table {
    audit_arch: 0xc000_003e,
    has_x32: true,
    ioctl: &[16, 514],
    sockets: &[41, 53],
    socketcall: None,
    flags: &[56, 272],
    limits: 302,
    refused: &[
        ("clone3", 435, ENOSYS),
        ("add_key", 248, ENOSYS),
        ("request_key", 249, ENOSYS),
        ("keyctl", 250, ENOSYS),
        ("io_uring_setup", 425, ENOSYS),
        ("io_uring_enter", 426, ENOSYS),
        ("io_uring_register", 427, ENOSYS),
        ("userfaultfd", 323, ENOSYS),
        ("perf_event_open", 298, EACCES),
        ("bpf", 321, EPERM),
        ("kexec_load", 246, EPERM),
        ("kexec_load (x32)", 528, EPERM),
        ("kexec_file_load", 320, EPERM),
        ("create_module", 174, EPERM),
        ("init_module", 175, EPERM),
        ("finit_module", 313, EPERM),
        ("delete_module", 176, EPERM),
        ("get_kernel_syms", 177, EPERM),
        ("query_module", 178, EPERM),
        ("reboot", 169, EPERM),
        ("swapon", 167, EPERM),
        ("swapoff", 168, EPERM),
        ("clock_settime", 227, EPERM),
        ("settimeofday", 164, EPERM),
        ("ioperm", 173, EPERM),
        ("iopl", 172, EPERM),
        ("open_by_handle_at", 304, EPERM),
        ("quotactl", 179, EPERM),
        ("quotactl_fd", 443, EPERM),
        ("acct", 163, EPERM),
        ("nfsservctl", 180, ENOSYS),
        ("lookup_dcookie", 212, EPERM),
        ("syslog", 103, EPERM),
        ("fanotify_init", 300, EPERM),
        ("vhangup", 153, EPERM),
        ("uselib", 134, ENOSYS),
        ("_sysctl", 156, ENOSYS),
    ],
};

#[cfg(any(target_arch = "x86_64", test))]
pub(super) const I386: Table = Table {
    audit_arch: 0x4000_0003,
    has_x32: false,
    ioctl: &[54],
    sockets: &[359, 360],
    socketcall: Some(102),
    flags: &[120, 310],
    limits: 340,
    refused: &[
        ("clone3", 435, ENOSYS),
        ("add_key", 286, ENOSYS),
        ("request_key", 287, ENOSYS),
        ("keyctl", 288, ENOSYS),
        ("io_uring_setup", 425, ENOSYS),
        ("io_uring_enter", 426, ENOSYS),
        ("io_uring_register", 427, ENOSYS),
        ("userfaultfd", 374, ENOSYS),
        ("perf_event_open", 336, EACCES),
        ("bpf", 357, EPERM),
        ("kexec_load", 283, EPERM),
        ("create_module", 127, EPERM),
        ("init_module", 128, EPERM),
        ("finit_module", 350, EPERM),
        ("delete_module", 129, EPERM),
        ("get_kernel_syms", 130, EPERM),
        ("query_module", 167, EPERM),
        ("reboot", 88, EPERM),
        ("swapon", 87, EPERM),
        ("swapoff", 115, EPERM),
        ("clock_settime", 264, EPERM),
        ("clock_settime64", 404, EPERM),
        ("settimeofday", 79, EPERM),
        ("stime", 25, EPERM),
        ("ioperm", 101, EPERM),
        ("iopl", 110, EPERM),
        ("vm86", 166, EPERM),
        ("vm86old", 113, EPERM),
        ("open_by_handle_at", 342, EPERM),
        ("quotactl", 131, EPERM),
        ("quotactl_fd", 443, EPERM),
        ("acct", 51, EPERM),
        ("nfsservctl", 169, ENOSYS),
        ("lookup_dcookie", 253, EPERM),
        ("syslog", 103, EPERM),
        ("fanotify_init", 338, EPERM),
        ("vhangup", 111, EPERM),
        ("uselib", 86, ENOSYS),
        ("_sysctl", 149, ENOSYS),
    ],
};

/// The numbers that new architectures share.
#[cfg(any(target_arch = "aarch64", target_arch = "riscv64", target_arch = "loongarch64", test))]
const GENERIC: Table = Table {
    audit_arch: 0,
    has_x32: false,
    ioctl: &[29],
    sockets: &[198, 199],
    socketcall: None,
    flags: &[220, 97],
    limits: 261,
    refused: &[
        ("clone3", 435, ENOSYS),
        ("add_key", 217, ENOSYS),
        ("request_key", 218, ENOSYS),
        ("keyctl", 219, ENOSYS),
        ("io_uring_setup", 425, ENOSYS),
        ("io_uring_enter", 426, ENOSYS),
        ("io_uring_register", 427, ENOSYS),
        ("userfaultfd", 282, ENOSYS),
        ("perf_event_open", 241, EACCES),
        ("bpf", 280, EPERM),
        ("kexec_load", 104, EPERM),
        ("kexec_file_load", 294, EPERM),
        ("init_module", 105, EPERM),
        ("finit_module", 273, EPERM),
        ("delete_module", 106, EPERM),
        ("reboot", 142, EPERM),
        ("swapon", 224, EPERM),
        ("swapoff", 225, EPERM),
        ("clock_settime", 112, EPERM),
        ("settimeofday", 170, EPERM),
        ("open_by_handle_at", 265, EPERM),
        ("quotactl", 60, EPERM),
        ("quotactl_fd", 443, EPERM),
        ("acct", 89, EPERM),
        ("nfsservctl", 42, ENOSYS),
        ("lookup_dcookie", 18, EPERM),
        ("syslog", 116, EPERM),
        ("fanotify_init", 262, EPERM),
        ("vhangup", 58, EPERM),
    ],
};

#[cfg(any(target_arch = "aarch64", test))]
pub(super) const AARCH64: Table = Table { audit_arch: 0xc000_00b7, ..GENERIC };
#[cfg(target_arch = "riscv64")]
const RISCV64: Table = Table { audit_arch: 0xc000_00f3, ..GENERIC };
#[cfg(target_arch = "loongarch64")]
const LOONGARCH64: Table = Table { audit_arch: 0xc000_0102, ..GENERIC };

#[cfg(any(target_arch = "aarch64", test))]
pub(super) const ARM: Table = Table {
    audit_arch: 0x4000_0028,
    has_x32: false,
    ioctl: &[54],
    sockets: &[281, 288],
    socketcall: None,
    flags: &[120, 337],
    limits: 369,
    refused: &[
        ("clone3", 435, ENOSYS),
        ("add_key", 309, ENOSYS),
        ("request_key", 310, ENOSYS),
        ("keyctl", 311, ENOSYS),
        ("io_uring_setup", 425, ENOSYS),
        ("io_uring_enter", 426, ENOSYS),
        ("io_uring_register", 427, ENOSYS),
        ("userfaultfd", 388, ENOSYS),
        ("perf_event_open", 364, EACCES),
        ("bpf", 386, EPERM),
        ("kexec_load", 347, EPERM),
        ("kexec_file_load", 401, EPERM),
        ("init_module", 128, EPERM),
        ("finit_module", 379, EPERM),
        ("delete_module", 129, EPERM),
        ("reboot", 88, EPERM),
        ("swapon", 87, EPERM),
        ("swapoff", 115, EPERM),
        ("clock_settime", 262, EPERM),
        ("clock_settime64", 404, EPERM),
        ("settimeofday", 79, EPERM),
        ("open_by_handle_at", 371, EPERM),
        ("quotactl", 131, EPERM),
        ("quotactl_fd", 443, EPERM),
        ("acct", 51, EPERM),
        ("nfsservctl", 169, ENOSYS),
        ("lookup_dcookie", 249, EPERM),
        ("syslog", 103, EPERM),
        ("fanotify_init", 367, EPERM),
        ("vhangup", 111, EPERM),
        ("uselib", 86, ENOSYS),
        ("_sysctl", 149, ENOSYS),
    ],
};
