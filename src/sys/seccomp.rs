//! A seccomp filter for every way in which a program can call this kernel: its own architecture, the 32-bit one, and x32.
//!
//! ```text
//! load arch --> section of that arch: load nr [drop the x32 bit]; nr of a refused call? its errno
//!          |                          nr of ioctl? low half of the request refused? EPERM
//!          |                          nr of socket or socketpair? family not in the list? EAFNOSUPPORT; netlink? protocol likewise
//!          |                          nr of socketcall? of `socket`? ENOSYS
//!          |                          nr of clone or unshare? CLONE_NEWCGROUP among the flags? EPERM; CLONE_NEWUSER? ENOSPC
//!          |                          [nr of prlimit64? new limits for a process by its number? EPERM]
//!          |                          allow
//!          `-> unknown arch: ENOSYS
//! ```
//!
//! All of these arguments but the last are 32-bit integers to the kernel, which ignores the high half of the register. The filter ignores
//! it as well; else a program could set a high bit and pass. The last one, the address of new limits, is a pointer: both halves count.
//!
//! `prlimit64` is checked only if PID 1, which measures what the session uses, has the session's user. The session could otherwise give
//! PID 1 limits with which it can open nothing.
//!
//! Other crates make a filter for one architecture; Gentoo's multilib profiles run programs of two. Since Linux 5.11 the kernel remembers
//! which calls a filter allows whatever their arguments, so the many comparisons cost nothing.

use super::seccomp_tables::{
    FAMILIES, NETLINK, NETLINK_PROTOCOLS, NEW_CGROUP, NEW_USER, REFUSED_IOCTLS, SOCKETCALL_SOCKET, TABLES, Table, X32_BIT,
};
use super::{Error, Result};

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
/// The low half of an argument, counted from 0.
const fn argument_low(index: u32) -> u32 {
    16 + 8 * index + if cfg!(target_endian = "big") { 4 } else { 0 }
}
const fn argument_high(index: u32) -> u32 {
    16 + 8 * index + if cfg!(target_endian = "big") { 0 } else { 4 }
}

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const JUMP_IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const JUMP_IF_SET: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// An assembled filter.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    program: Vec<libc::sock_filter>,
}

impl Filter {
    /// The filter of a session. `watched_by_own` says that its PID 1 has the session's user. `None` on an architecture without a table.
    pub(crate) fn for_this_machine(watched_by_own: bool) -> Option<Self> {
        (!TABLES.is_empty()).then(|| Self::assemble(TABLES, watched_by_own))
    }

    fn assemble(tables: &[Table], watched_by_own: bool) -> Self {
        let mut program = vec![statement(LOAD, ARCH)];
        for table in tables {
            let section = section(table, watched_by_own);
            // A conditional jump reaches 255 instructions, an unconditional one everywhere.
            program.push(jump(table.audit_arch, 1, 0));
            program.push(statement(libc::BPF_JMP | libc::BPF_JA, u32::try_from(section.len()).unwrap_or(u32::MAX)));
            program.extend(section);
        }
        program.push(answer(libc::ENOSYS));
        Self { program }
    }

    /// Installs the filter for this thread, for good. Needs `no_new_privs`.
    ///
    /// The kernel would switch on mitigations against speculation for a filtered program; `SPEC_ALLOW` leaves them off. The filter
    /// separates no programs that distrust each other, and with the mitigations Python runs 1.5 times slower.
    pub(crate) fn install(&self) -> Result<()> {
        let program = libc::sock_fprog {
            len: u16::try_from(self.program.len()).map_err(|_| Error::new("seccomp", "too long", rustix::io::Errno::TOOBIG))?,
            filter: self.program.as_ptr().cast_mut(),
        };
        // SAFETY: the program is an array of the length given with it; the kernel copies it and writes nothing back.
        let code = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
                &raw const program,
            )
        };
        if code == 0 {
            Ok(())
        } else {
            Err(Error::new("seccomp", "SECCOMP_SET_MODE_FILTER, SPEC_ALLOW", std::io::Error::last_os_error()))
        }
    }
}

/// The instructions for calls of one architecture. Each path through them ends in an answer.
fn section(table: &Table, watched_by_own: bool) -> Vec<libc::sock_filter> {
    let mut section = vec![statement(LOAD, NUMBER)];
    if table.has_x32 {
        section.push(statement(AND, !X32_BIT));
    }
    for (_, number, errno) in table.refused {
        section.push(jump(*number, 0, 1));
        section.push(answer(*errno));
    }
    for number in table.ioctl {
        let mut asked = vec![statement(LOAD, argument_low(1))];
        asked.extend(one_of(&REFUSED_IOCTLS, &[answer(libc::EPERM)], &[allow()]));
        only_for(*number, asked, &mut section);
    }
    for number in table.sockets {
        only_for(*number, socket(), &mut section);
    }
    if let Some(number) = table.socketcall {
        let mut asked = vec![statement(LOAD, argument_low(0))];
        asked.extend(one_of(&[SOCKETCALL_SOCKET], &[answer(libc::ENOSYS)], &[allow()]));
        only_for(number, asked, &mut section);
    }
    for number in table.flags {
        let mut asked = vec![statement(LOAD, argument_low(0))];
        // The answer to the second is the kernel's, where `user.max_user_namespaces` is 0.
        for (flag, errno) in [(NEW_CGROUP, libc::EPERM), (NEW_USER, libc::ENOSPC)] {
            asked.extend([libc::sock_filter { jt: 0, jf: 1, ..statement(JUMP_IF_SET, flag) }, answer(errno)]);
        }
        asked.push(allow());
        only_for(*number, asked, &mut section);
    }
    if watched_by_own {
        only_for(table.limits, limits_of_others(), &mut section);
    }
    section.push(allow());
    section
}

/// The answer to `prlimit64(pid, resource, new, old)`. Process 0 is the caller, and reading limits is allowed.
fn limits_of_others() -> Vec<libc::sock_filter> {
    let refuse = [answer(libc::EPERM)];
    let high = [&[statement(LOAD, argument_high(2))][..], &one_of(&[0], &[allow()], &refuse)].concat();
    let low = [&[statement(LOAD, argument_low(2))][..], &one_of(&[0], &high, &refuse)].concat();
    [&[statement(LOAD, argument_low(0))][..], &one_of(&[0], &[allow()], &low)].concat()
}

/// Adds `asked` for calls of this number only. Each path through `asked` must end in an answer.
fn only_for(number: u32, asked: Vec<libc::sock_filter>, section: &mut Vec<libc::sock_filter>) {
    section.push(jump(number, 0, u8::try_from(asked.len()).unwrap_or(u8::MAX)));
    section.extend(asked);
}

/// The answer to `socket(family, type, protocol)` and `socketpair`.
fn socket() -> Vec<libc::sock_filter> {
    let refuse = [answer(libc::EAFNOSUPPORT)];
    let mut netlink = vec![statement(LOAD, argument_low(2))];
    netlink.extend(one_of(&NETLINK_PROTOCOLS, &[allow()], &refuse));
    let mut section = vec![statement(LOAD, argument_low(0))];
    section.extend(one_of(&FAMILIES, &[allow()], &one_of(&[NETLINK], &netlink, &refuse)));
    section
}

/// `yes` if what is loaded is one of `values`, else `no`. Both are short and end in answers.
fn one_of(values: &[u32], yes: &[libc::sock_filter], no: &[libc::sock_filter]) -> Vec<libc::sock_filter> {
    let length = |instructions: usize| u8::try_from(instructions).unwrap_or(u8::MAX);
    let mut section = Vec::new();
    for (index, value) in values.iter().enumerate() {
        // Over the jumps that are left and all of `no`.
        section.push(jump(*value, length(values.len() - index - 1 + no.len()), 0));
    }
    section.extend_from_slice(no);
    section.extend_from_slice(yes);
    section
}

fn allow() -> libc::sock_filter {
    statement(RETURN, libc::SECCOMP_RET_ALLOW)
}

fn answer(errno: i32) -> libc::sock_filter {
    statement(RETURN, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned())
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap_or(u16::MAX), jt: 0, jf: 0, k }
}

fn jump(k: u32, equal: u8, different: u8) -> libc::sock_filter {
    libc::sock_filter { jt: equal, jf: different, ..statement(JUMP_IF_EQUAL, k) }
}

#[cfg(test)]
mod tests {
    use super::super::seccomp_tables::{AARCH64, ARM, I386, X86_64};
    use super::*;

    /// Runs a filter as the kernel would, for a call whose second argument alone matters.
    fn ask(filter: &Filter, arch: u32, number: u32, request: u64) -> u32 {
        ask_with(filter, arch, number, [0, request, 0])
    }

    fn ask_with(filter: &Filter, arch: u32, number: u32, arguments: [u64; 3]) -> u32 {
        let mut data = [0u8; 64];
        data[0..4].copy_from_slice(&number.to_ne_bytes());
        data[4..8].copy_from_slice(&arch.to_ne_bytes());
        for (index, argument) in arguments.into_iter().enumerate() {
            data[16 + 8 * index..24 + 8 * index].copy_from_slice(&argument.to_ne_bytes());
        }
        let (mut at, mut register) = (0usize, 0u32);
        loop {
            let one = filter.program[at];
            at += 1;
            match u32::from(one.code) {
                LOAD => register = u32::from_ne_bytes(data[one.k as usize..one.k as usize + 4].try_into().unwrap()),
                AND => register &= one.k,
                JUMP_IF_EQUAL => at += usize::from(if register == one.k { one.jt } else { one.jf }),
                JUMP_IF_SET => at += usize::from(if register & one.k != 0 { one.jt } else { one.jf }),
                RETURN => return one.k,
                code if code == libc::BPF_JMP | libc::BPF_JA => at += one.k as usize,
                code => panic!("instruction {code:#x}"),
            }
        }
    }

    fn errno(number: i32) -> u32 {
        libc::SECCOMP_RET_ERRNO | number.cast_unsigned()
    }

    #[test]
    fn each_architecture_has_its_own_answers() {
        let filter = Filter::assemble(&[X86_64, I386], false);
        for table in [X86_64, I386] {
            for (name, number, wanted) in table.refused {
                assert_eq!(ask(&filter, table.audit_arch, *number, 0), errno(*wanted), "{name}");
            }
        }
        // keyctl of the one is openat2's neighbour of the other.
        assert_eq!(ask(&filter, X86_64.audit_arch, 0x120, 0), libc::SECCOMP_RET_ALLOW);
        assert_eq!(ask(&filter, I386.audit_arch, 250, 0), libc::SECCOMP_RET_ALLOW);
        assert_eq!(ask(&filter, X86_64.audit_arch, 0xf8 | X32_BIT, 0), errno(libc::ENOSYS));
        assert_eq!(ask(&filter, I386.audit_arch, 0x11e | X32_BIT, 0), libc::SECCOMP_RET_ALLOW);
        assert_eq!(ask(&filter, X86_64.audit_arch, u32::MAX, 0), libc::SECCOMP_RET_ALLOW);
        assert_eq!(ask(&filter, 0x1234, 0, 0), errno(libc::ENOSYS));
    }

    #[test]
    fn terminal_input_is_refused_whatever_the_high_bits_say() {
        let filter = Filter::assemble(&[X86_64, I386, AARCH64, ARM], false);
        let calls = [(X86_64, 16), (X86_64, 0x202 | X32_BIT), (I386, 54), (AARCH64, 29), (ARM, 54)];
        for (table, number) in calls {
            for request in REFUSED_IOCTLS {
                for high in [0u64, 1 << 32, 0xffff_ffff << 32] {
                    assert_eq!(ask(&filter, table.audit_arch, number, u64::from(request) | high), errno(libc::EPERM));
                }
            }
            assert_eq!(ask(&filter, table.audit_arch, number, 0x5413), libc::SECCOMP_RET_ALLOW);
        }
    }

    #[test]
    fn sockets_are_of_the_families_that_a_build_needs() {
        let filter = Filter::assemble(&[X86_64, I386, AARCH64, ARM], false);
        let calls = [
            (X86_64, 41),
            (X86_64, 53),
            (X86_64, 0x29 | X32_BIT),
            (I386, 359),
            (I386, 360),
            (AARCH64, 198),
            (AARCH64, 199),
            (ARM, 281),
            (ARM, 288),
        ];
        for (table, number) in calls {
            for high in [0u64, 1 << 32, 0xffff_ffff << 32] {
                let asked = |family: u32, protocol: u32| {
                    ask_with(&filter, table.audit_arch, number, [u64::from(family) | high, 1 | high, u64::from(protocol) | high])
                };
                // AF_UNIX with any protocol, AF_INET, AF_INET6; netlink: route, uevent.
                for (family, protocol) in [(1, 0), (1, 12), (2, 6), (2, 262), (10, 17), (16, 0), (16, 15)] {
                    assert_eq!(asked(family, protocol), libc::SECCOMP_RET_ALLOW, "{number} {family} {protocol}");
                }
                // AF_VSOCK, AF_ALG, AF_PACKET, AF_TIPC, none, all bits; netlink: netfilter, generic, usersock, sock_diag, audit.
                for (family, protocol) in [
                    (40, 0),
                    (38, 0),
                    (17, 0),
                    (30, 0),
                    (0, 0),
                    (u32::MAX, 0),
                    (16, 12),
                    (16, 16),
                    (16, 2),
                    (16, 4),
                    (16, 9),
                    (16, u32::MAX),
                ] {
                    assert_eq!(asked(family, protocol), errno(libc::EAFNOSUPPORT), "{number} {family} {protocol}");
                }
            }
        }
    }

    #[test]
    fn a_call_whose_family_cannot_be_seen_makes_no_socket() {
        let filter = Filter::assemble(&[X86_64, I386], false);
        let asked = |call: u64| ask_with(&filter, I386.audit_arch, 102, [call, 0, 0]);
        assert_eq!((asked(1), asked(1 | 1 << 32)), (errno(libc::ENOSYS), errno(libc::ENOSYS)));
        // `connect`, `socketpair`: of descriptors that are there, and of families that have pairs.
        assert_eq!((asked(3), asked(8)), (libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_ALLOW));
        // The other architecture's call of that number is `getuid`.
        assert_eq!(ask_with(&filter, X86_64.audit_arch, 102, [1, 0, 0]), libc::SECCOMP_RET_ALLOW);
    }

    #[test]
    fn nobody_gets_a_cgroup_namespace_or_a_user_namespace() {
        let filter = Filter::assemble(&[X86_64, I386, AARCH64, ARM], false);
        let calls = [
            (X86_64, 56),
            (X86_64, 272),
            (X86_64, 0x110 | X32_BIT),
            (I386, 120),
            (I386, 310),
            (AARCH64, 220),
            (AARCH64, 97),
            (ARM, 120),
            (ARM, 337),
        ];
        for (table, number) in calls {
            for flags in [0x0200_0000u64, 0x0200_0000 | 0x2000_0000 | 0x11, 0x0200_0000 | 1 << 32] {
                assert_eq!(ask_with(&filter, table.audit_arch, number, [flags, 0, 0]), errno(libc::EPERM), "{number} {flags:#x}");
            }
            for flags in [0x1000_0000u64, 0x1000_0000 | 0x2000_0000 | 0x11, 0x1000_0000 | 1 << 32] {
                assert_eq!(ask_with(&filter, table.audit_arch, number, [flags, 0, 0]), errno(libc::ENOSPC), "{number} {flags:#x}");
            }
            // SIGCHLD; what Portage unshares: mount, IPC, PID and network.
            for flags in [17u64, 0x0002_0000 | 0x0800_0000 | 0x2000_0000 | 0x4000_0000, 0x0200_0000 << 32] {
                assert_eq!(
                    ask_with(&filter, table.audit_arch, number, [flags, 0, 0]),
                    libc::SECCOMP_RET_ALLOW,
                    "{number} {flags:#x}"
                );
            }
            assert_eq!(ask(&filter, table.audit_arch, 435, 0), errno(libc::ENOSYS), "clone3");
        }
    }

    #[test]
    fn limits_are_ones_own_where_pid_1_has_the_same_user() {
        let filter = Filter::assemble(&[X86_64, I386, AARCH64, ARM], true);
        for (table, number) in [(X86_64, 302), (X86_64, 0x12e | X32_BIT), (I386, 340), (AARCH64, 261), (ARM, 369)] {
            let asked = |pid: u64, new: u64| ask_with(&filter, table.audit_arch, number, [pid, 7, new]);
            for pid in [1, 1 | 1 << 32, u64::MAX] {
                for new in [0x7ffe_0000_1000, 0x1000, 1 << 32] {
                    assert_eq!(asked(pid, new), errno(libc::EPERM), "{number} {pid:#x} {new:#x}");
                }
                assert_eq!(asked(pid, 0), libc::SECCOMP_RET_ALLOW, "{number} {pid:#x}");
            }
            assert_eq!((asked(0, 0x1000), asked(1 << 32, 0x1000)), (libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_ALLOW));
            let others = Filter::assemble(&[table], false);
            assert_eq!(ask_with(&others, table.audit_arch, number, [1, 7, 0x1000]), libc::SECCOMP_RET_ALLOW);
        }
    }

    #[test]
    fn numbers_are_those_of_the_c_library() {
        let number = |name: &str| X86_64.refused.iter().find(|one| one.0 == name).unwrap().1;
        if cfg!(target_arch = "x86_64") {
            for (name, wanted) in [
                ("keyctl", libc::SYS_keyctl),
                ("bpf", libc::SYS_bpf),
                ("finit_module", libc::SYS_finit_module),
                ("clock_settime", libc::SYS_clock_settime),
                ("open_by_handle_at", libc::SYS_open_by_handle_at),
                ("userfaultfd", libc::SYS_userfaultfd),
                ("perf_event_open", libc::SYS_perf_event_open),
                ("swapoff", libc::SYS_swapoff),
                ("clone3", libc::SYS_clone3),
            ] {
                assert_eq!(i64::from(number(name)), wanted, "{name}");
            }
            let numbers = [libc::SYS_socket, libc::SYS_socketpair, libc::SYS_clone, libc::SYS_unshare];
            let ours = X86_64.sockets.iter().chain(X86_64.flags).map(|number| i64::from(*number));
            assert_eq!(ours.collect::<Vec<_>>(), numbers);
        }
    }
}
