//! A seccomp filter for every way in which a program can call this kernel: its own architecture, the 32-bit one, and x32.
//!
//! ```text
//! load arch --> section of that arch: load nr [drop the x32 bit]; nr of a refused call? its errno
//!          |                          nr of ioctl? low half of the request refused? EPERM
//!          |                          allow
//!          `-> unknown arch: ENOSYS
//! ```
//!
//! The crates for this know one architecture a filter; Gentoo's multilib profiles run programs of two. Linux 5.11 remembers which
//! calls a filter always allows if it looks at nothing but architecture and number, so the order of the comparisons costs nothing.

use super::seccomp_tables::{REFUSED_IOCTLS, TABLES, Table, X32_BIT};
use super::{Error, Result};

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
/// The kernel looks at the low 32 bits of a request only, and so must the filter, or a set high bit would pass by it.
#[cfg(target_endian = "little")]
const SECOND_ARGUMENT_LOW: u32 = 24;
#[cfg(target_endian = "big")]
const SECOND_ARGUMENT_LOW: u32 = 28;

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const JUMP_IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// An assembled filter.
#[derive(Debug, Clone)]
pub struct Filter {
    program: Vec<libc::sock_filter>,
}

impl Filter {
    /// The filter of a session. `None` on an architecture without a table.
    pub fn for_this_machine() -> Option<Self> {
        (!TABLES.is_empty()).then(|| Self::assemble(TABLES))
    }

    /// Names of the refused calls, sorted, for documentation and `doctor`.
    pub fn refused_names() -> Vec<&'static str> {
        let mut names: Vec<&str> = TABLES.iter().flat_map(|table| table.refused).map(|(name, _, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn assemble(tables: &[Table]) -> Self {
        let mut program = vec![statement(LOAD, ARCH)];
        for table in tables {
            let section = section(table);
            // A conditional jump reaches 255 instructions, an unconditional one everywhere.
            program.push(jump(table.audit_arch, 1, 0));
            program.push(statement(libc::BPF_JMP | libc::BPF_JA, u32::try_from(section.len()).unwrap_or(u32::MAX)));
            program.extend(section);
        }
        program.push(answer(libc::ENOSYS));
        Self { program }
    }

    /// Puts the filter over this thread, for good. Needs `no_new_privs`.
    ///
    /// Mitigations against speculation that the kernel would switch on for filtered programs stay off: the filter is no border
    /// between programs that distrust each other, and Python would run 1.5 times slower.
    pub fn install(&self) -> Result<()> {
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

/// The instructions for calls of one architecture; each way through them ends in an answer.
fn section(table: &Table) -> Vec<libc::sock_filter> {
    let mut section = vec![statement(LOAD, NUMBER)];
    if table.has_x32 {
        section.push(statement(AND, !X32_BIT));
    }
    for (_, number, errno) in table.refused {
        section.push(jump(*number, 0, 1));
        section.push(answer(*errno));
    }
    for number in table.ioctl {
        let requests = u8::try_from(REFUSED_IOCTLS.len()).unwrap_or(u8::MAX);
        // Over: the load, one jump a request, and two answers.
        section.push(jump(*number, 0, requests + 3));
        section.push(statement(LOAD, SECOND_ARGUMENT_LOW));
        for (index, request) in (0u8..).zip(REFUSED_IOCTLS) {
            section.push(jump(request, requests - index, 0));
        }
        section.push(statement(RETURN, libc::SECCOMP_RET_ALLOW));
        section.push(answer(libc::EPERM));
    }
    section.push(statement(RETURN, libc::SECCOMP_RET_ALLOW));
    section
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

    /// Runs a filter as the kernel would.
    fn ask(filter: &Filter, arch: u32, number: u32, request: u64) -> u32 {
        let mut data = [0u8; 64];
        data[0..4].copy_from_slice(&number.to_ne_bytes());
        data[4..8].copy_from_slice(&arch.to_ne_bytes());
        data[24..32].copy_from_slice(&request.to_ne_bytes());
        let (mut at, mut register) = (0usize, 0u32);
        loop {
            let one = filter.program[at];
            at += 1;
            match u32::from(one.code) {
                LOAD => register = u32::from_ne_bytes(data[one.k as usize..one.k as usize + 4].try_into().unwrap()),
                AND => register &= one.k,
                JUMP_IF_EQUAL => at += usize::from(if register == one.k { one.jt } else { one.jf }),
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
        let filter = Filter::assemble(&[X86_64, I386]);
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
        let filter = Filter::assemble(&[X86_64, I386, AARCH64, ARM]);
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
            ] {
                assert_eq!(i64::from(number(name)), wanted, "{name}");
            }
        }
        let sorted = Filter::refused_names();
        assert!(sorted.contains(&"io_uring_setup") && sorted.is_sorted());
    }
}
