//! The last program that is ours before a session's command: a dozen machine instructions in a sealed file in memory.
//!
//! Who executes a command can be made to execute *itself* again: the command may be a script of the session's root whose interpreter is
//! `/proc/self/exe`. That is then a process of the session, under libraries of the session, which can open its own program and write to
//! it (CVE-2019-5736). So the process that executes the command must not be the installed program. It first executes this one, which
//! nobody has a use for.
//!
//! ```text
//! page 0   ELF header, program headers, the instructions
//! page 1   length of the report (u32, little endian), a word that is its mark, the rows, then what the caller puts in
//!          strings and arrays that the rows point to
//! row      number and three arguments of a system call, its result, and when it is made
//! ```
//!
//! The instructions make the system calls of the rows, one by one, and note the results. All else is decided when the rows are made:
//! 1. mark the socket close-on-exec, which it could not be before; without it, end: then this is somebody else's execution;
//! 2. execute each candidate; a script without `#!` by a shell;
//! 3. write the report to the socket, and end.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::usage::page_bytes;
use super::{Error, Result, memfd};

/// One way to execute the command.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) program: CString,
    pub(crate) argv: Vec<CString>,
    /// Only if the attempt before this one has failed with ENOEXEC.
    pub(crate) as_script: bool,
}

/// Where the file is put into memory. Everything lies below 2 GiB, so that all addresses are short.
const CODE_AT: u64 = 0x0040_0000;
const DATA_AT: u64 = 0x0080_0000;

const WORD: usize = 8;
/// Number, three arguments, result, `prev`, `equal`.
const ROW: usize = 7;
const RESULT: usize = 4;
/// The rows come after the length and the mark.
const ROWS_AT: u64 = DATA_AT + 2 * WORD as u64;

/// The condition of a row: it is made if (the result before it == `value`) == `equal`. No call has the result 1.
#[derive(Debug, Clone, Copy)]
struct When {
    value: i64,
    equal: bool,
}

const ALWAYS: When = When { value: 1, equal: false };
const AFTER_FAILURE: When = When { value: 0, equal: false };
const AFTER_ENOEXEC: When = When { value: -(libc::ENOEXEC as i64), equal: true };

/// Executes the first of `attempts` that can be, with `env`, and gives it no descriptor but the standard ones. If none can be, the
/// report and `words` behind it are written to `socket`, and this process ends.
///
/// The caller has marked all descriptors close-on-exec.
pub(crate) fn execute(socket: BorrowedFd<'_>, attempts: &[Attempt], env: &[CString], words: &[u8]) -> Result<Infallible> {
    let code = machine::code();
    if code.is_empty() {
        return Err(Error::new("execveat", std::env::consts::ARCH, rustix::io::Errno::NOSYS));
    }
    let file = memfd::sealed("command", &image(code, socket.as_raw_fd(), attempts, env, words))?;
    super::fd::keep_on_exec(socket)?;
    // Not by `/proc`, which may be anything in the new root.
    nix::unistd::execveat(&file, c"", &[c"gentoomuch-enter"], &[] as &[&std::ffi::CStr; 0], nix::fcntl::AtFlags::AT_EMPTY_PATH)
        .map_err(Error::of("execveat", "what executes the command"))
}

/// What came of the attempts, and the caller's words behind it. `None` if it is not a report. An attempt that was not made has the
/// result 0, any other one its errno.
pub(crate) fn results(report: &[u8]) -> Option<(Vec<i32>, &[u8])> {
    let (mark, rest) = report.split_first_chunk::<WORD>()?;
    // The lowest byte of a mark is 0, which no message in JSON begins with.
    let rows = usize::try_from(u64::from_le_bytes(*mark) >> 8).ok().filter(|rows| mark[0] == 0 && *rows >= BEFORE + AFTER)?;
    let (table, words) = rest.split_at_checked(rows.checked_mul(ROW * WORD)?)?;
    let made = &table.chunks_exact(ROW * WORD).collect::<Vec<_>>()[BEFORE..rows - AFTER];
    let errno = |row: &&[u8]| {
        let result: [u8; WORD] = row[RESULT * WORD..][..WORD].try_into().ok()?;
        i32::try_from(-i64::from_ne_bytes(result)).ok()
    };
    Some((made.iter().map(errno).collect::<Option<_>>()?, words))
}

/// How many rows come before and after the attempts.
const BEFORE: usize = 2;
const AFTER: usize = 2;

/// The file: see the head of this module.
fn image(code: &[u8], socket: i32, attempts: &[Attempt], env: &[CString], words: &[u8]) -> Vec<u8> {
    let rows = BEFORE + attempts.len() + AFTER;
    let mut memory = Memory { bytes: vec![0; 2 * WORD + rows * ROW * WORD] };
    memory.bytes.extend(words);
    let report = memory.bytes.len();
    memory.bytes.resize(report.next_multiple_of(WORD), 0);
    let env = memory.array(env);
    let socket = u64::try_from(socket).unwrap_or(u64::MAX);
    let end = |when| Row { number: libc::SYS_exit_group, arguments: [1, 0, 0], when };
    let mut table = vec![
        Row { number: libc::SYS_fcntl, arguments: [socket, libc::F_SETFD as u64, libc::FD_CLOEXEC as u64], when: ALWAYS },
        end(AFTER_FAILURE),
    ];
    for Attempt { program, argv, as_script } in attempts {
        let arguments = [memory.string(program), memory.array(argv), env];
        table.push(Row { number: libc::SYS_execve, arguments, when: if *as_script { AFTER_ENOEXEC } else { ALWAYS } });
    }
    // The frame of `sandbox/channel.rs` begins in the middle of the first word.
    let begin = WORD / 2;
    let length = (report - begin) as u64;
    table.push(Row { number: libc::SYS_write, arguments: [socket, DATA_AT + begin as u64, length], when: ALWAYS });
    table.push(end(ALWAYS));
    let frame = u32::try_from(report - WORD).unwrap_or(u32::MAX);
    memory.bytes[begin..WORD].copy_from_slice(&frame.to_le_bytes());
    memory.bytes[WORD..2 * WORD].copy_from_slice(&((table.len() as u64) << 8).to_le_bytes());
    let words = table.iter().flat_map(Row::words).flat_map(u64::to_ne_bytes);
    for (place, byte) in memory.bytes[2 * WORD..].iter_mut().zip(words) {
        *place = byte;
    }
    elf(code, &memory.bytes)
}

/// A system call to be made.
#[derive(Debug)]
struct Row {
    number: libc::c_long,
    arguments: [u64; 3],
    when: When,
}

impl Row {
    fn words(&self) -> [u64; ROW] {
        let [first, second, third] = self.arguments;
        let When { value, equal } = self.when;
        [self.number.cast_unsigned(), first, second, third, 0, value.cast_unsigned(), u64::from(equal)]
    }
}

/// The data, with what is added behind the rows.
#[derive(Debug)]
struct Memory {
    bytes: Vec<u8>,
}

impl Memory {
    fn end(&self) -> u64 {
        DATA_AT + self.bytes.len() as u64
    }

    fn string(&mut self, text: &CString) -> u64 {
        let place = self.end();
        self.bytes.extend(text.as_bytes_with_nul());
        place
    }

    /// An array of pointers to strings, with a null pointer at its end.
    fn array(&mut self, texts: &[CString]) -> u64 {
        let mut pointers: Vec<u64> = texts.iter().map(|text| self.string(text)).collect();
        pointers.push(0);
        self.bytes.resize(self.bytes.len().next_multiple_of(WORD), 0);
        let place = self.end();
        self.bytes.extend(pointers.into_iter().flat_map(u64::to_ne_bytes));
        place
    }
}

/// An executable of two segments: the instructions, and data that may be written.
fn elf(code: &[u8], data: &[u8]) -> Vec<u8> {
    const HEADER: u16 = 64;
    const PROGRAM_HEADER: u16 = 56;
    const LOAD: u32 = 1;
    const STACK: u32 = 0x6474_e551;
    let entry = u64::from(HEADER + 3 * PROGRAM_HEADER).next_multiple_of(16);
    let data_offset = page_bytes();
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // An executable (2) for this machine, version 1.
    file.extend([2_u16.to_le_bytes(), machine::ELF.to_le_bytes()].concat());
    file.extend(1_u32.to_le_bytes());
    for field in [CODE_AT + entry, u64::from(HEADER), 0] {
        file.extend(field.to_le_bytes());
    }
    file.extend(machine::ELF_FLAGS.to_le_bytes());
    for field in [HEADER, PROGRAM_HEADER, 3, 0, 0, 0] {
        file.extend(field.to_le_bytes());
    }
    let all = entry + code.len() as u64;
    for (kind, flags, offset, address, length) in
        [(LOAD, 5_u32, 0, CODE_AT, all), (LOAD, 6, data_offset, DATA_AT, data.len() as u64), (STACK, 6, 0, 0, 0)]
    {
        file.extend([kind.to_le_bytes(), flags.to_le_bytes()].concat());
        for field in [offset, address, address, length, length, data_offset] {
            file.extend(field.to_le_bytes());
        }
    }
    file.resize(usize::try_from(entry).unwrap_or(0), 0);
    file.extend(code);
    file.resize(usize::try_from(data_offset).unwrap_or(0), 0);
    file.extend(data);
    file
}

/// The instructions. Registers: the row, and the result of the last call.
mod machine {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64", target_arch = "loongarch64"))]
    pub(super) fn code() -> &'static [u8] {
        unsafe extern "C" {
            static gentoomuch_springboard_begin: u8;
            static gentoomuch_springboard_end: u8;
        }
        let (begin, end) = (&raw const gentoomuch_springboard_begin, &raw const gentoomuch_springboard_end);
        // SAFETY: the labels enclose bytes of this program's read-only memory.
        unsafe { std::slice::from_raw_parts(begin, end.addr() - begin.addr()) }
    }

    /// There is no filter for other machines either, so no session gets this far.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64", target_arch = "loongarch64")))]
    pub(super) fn code() -> &'static [u8] {
        &[]
    }

    /// `e_machine` and `e_flags` of `elf.h`.
    pub(super) const ELF: u16 = if cfg!(target_arch = "x86_64") {
        62
    } else if cfg!(target_arch = "aarch64") {
        183
    } else if cfg!(target_arch = "riscv64") {
        243
    } else {
        258
    };
    /// Floating point in registers of 64 bits, where that must be said.
    pub(super) const ELF_FLAGS: u32 = if cfg!(target_arch = "riscv64") {
        4
    } else if cfg!(target_arch = "loongarch64") {
        0x43
    } else {
        0
    };

    #[cfg(target_arch = "x86_64")]
    std::arch::global_asm!(
        ".pushsection .rodata.gentoomuch_springboard, \"a\"",
        ".globl gentoomuch_springboard_begin, gentoomuch_springboard_end",
        ".hidden gentoomuch_springboard_begin, gentoomuch_springboard_end",
        "gentoomuch_springboard_begin:",
        "mov r12d, {rows}",
        "xor r13d, r13d",
        "2:",
        "xor eax, eax",
        "cmp r13, [r12 + 40]",
        "sete al",
        "cmp rax, [r12 + 48]",
        "jne 3f",
        "mov rax, [r12]",
        "mov rdi, [r12 + 8]",
        "mov rsi, [r12 + 16]",
        "mov rdx, [r12 + 24]",
        "syscall",
        "mov [r12 + 32], rax",
        "mov r13, rax",
        "3:",
        "add r12, 56",
        "jmp 2b",
        "gentoomuch_springboard_end:",
        ".popsection",
        rows = const super::ROWS_AT,
    );

    #[cfg(target_arch = "aarch64")]
    std::arch::global_asm!(
        ".pushsection .rodata.gentoomuch_springboard, \"a\"",
        ".p2align 2",
        ".globl gentoomuch_springboard_begin, gentoomuch_springboard_end",
        ".hidden gentoomuch_springboard_begin, gentoomuch_springboard_end",
        "gentoomuch_springboard_begin:",
        "movz x19, #{low}",
        "movk x19, #{high}, lsl #16",
        "mov x20, #0",
        "2:",
        "ldr x9, [x19, #40]",
        "cmp x20, x9",
        "cset x9, eq",
        "ldr x10, [x19, #48]",
        "cmp x9, x10",
        "b.ne 3f",
        "ldr x8, [x19]",
        "ldp x0, x1, [x19, #8]",
        "ldr x2, [x19, #24]",
        "svc #0",
        "str x0, [x19, #32]",
        "mov x20, x0",
        "3:",
        "add x19, x19, #56",
        "b 2b",
        "gentoomuch_springboard_end:",
        ".popsection",
        low = const super::ROWS_AT & 0xffff,
        high = const super::ROWS_AT >> 16,
    );

    #[cfg(target_arch = "riscv64")]
    std::arch::global_asm!(
        ".pushsection .rodata.gentoomuch_springboard, \"a\"",
        ".p2align 2",
        ".globl gentoomuch_springboard_begin, gentoomuch_springboard_end",
        ".hidden gentoomuch_springboard_begin, gentoomuch_springboard_end",
        "gentoomuch_springboard_begin:",
        "li s2, {rows}",
        "li s3, 0",
        "2:",
        "ld t0, 40(s2)",
        "sub t0, s3, t0",
        "seqz t0, t0",
        "ld t1, 48(s2)",
        "bne t0, t1, 3f",
        "ld a7, 0(s2)",
        "ld a0, 8(s2)",
        "ld a1, 16(s2)",
        "ld a2, 24(s2)",
        "ecall",
        "sd a0, 32(s2)",
        "mv s3, a0",
        "3:",
        "addi s2, s2, 56",
        "j 2b",
        "gentoomuch_springboard_end:",
        ".popsection",
        rows = const super::ROWS_AT,
    );

    #[cfg(target_arch = "loongarch64")]
    std::arch::global_asm!(
        ".pushsection .rodata.gentoomuch_springboard, \"a\"",
        ".p2align 2",
        ".globl gentoomuch_springboard_begin, gentoomuch_springboard_end",
        ".hidden gentoomuch_springboard_begin, gentoomuch_springboard_end",
        "gentoomuch_springboard_begin:",
        "li.w $s0, {rows}",
        "move $s1, $zero",
        "2:",
        "ld.d $t0, $s0, 40",
        "sub.d $t0, $s1, $t0",
        "sltui $t0, $t0, 1",
        "ld.d $t1, $s0, 48",
        "bne $t0, $t1, 3f",
        "ld.d $a7, $s0, 0",
        "ld.d $a0, $s0, 8",
        "ld.d $a1, $s0, 16",
        "ld.d $a2, $s0, 24",
        "syscall 0",
        "st.d $a0, $s0, 32",
        "move $s1, $a0",
        "3:",
        "addi.d $s0, $s0, 56",
        "b 2b",
        "gentoomuch_springboard_end:",
        ".popsection",
        rows = const super::ROWS_AT,
    );
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};

    use super::*;

    fn attempt(argv: &[&str], as_script: bool) -> Attempt {
        let argv: Vec<CString> = argv.iter().map(|word| CString::new(*word).unwrap()).collect();
        Attempt { program: argv[0].clone(), argv, as_script }
    }

    /// Executes an image whose socket is descriptor 0. Answers what it and its command have printed, and what came by the socket.
    fn run(attempts: &[Attempt], env: &[CString], socket: Option<OwnedFd>) -> (String, Option<i32>) {
        let file = memfd::sealed("test", &image(machine::code(), 0, attempts, env, b"[\"words\"]")).unwrap();
        let mut command = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()));
        command.stdin(socket.map_or_else(Stdio::null, Stdio::from)).stderr(Stdio::null());
        let output = command.output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.code())
    }

    #[test]
    fn the_first_program_that_can_be_executed_is_executed() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("script");
        std::fs::write(&script, "echo \"$0\" \"$@\"").unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let script = script.to_str().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let env = [c"A=b".to_owned()];
        let found =
            [attempt(&["/nonexistent/sh"], false), attempt(&["/bin/sh", "-c", "echo $A; [ -e /proc/self/fd/0 ] || exit 3"], false)];
        assert_eq!(run(&found, &env, Some(theirs.into())), ("b\n".to_owned(), Some(3)));
        // Its end means that the command was executed.
        assert_eq!((&ours).read(&mut [0]).unwrap(), 0);
        let (_ours, theirs) = UnixStream::pair().unwrap();
        let scripts = [attempt(&[script], false), attempt(&["/bin/sh", script, "x"], true)];
        assert_eq!(run(&scripts, &[], Some(theirs.into())), (format!("{script} x\n"), Some(0)));
    }

    #[test]
    fn what_cannot_be_executed_is_reported() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let attempts = [
            attempt(&["/nonexistent"], false),
            attempt(&["/bin/sh", "-c", "echo shell"], true),
            attempt(&["/"], false),
            attempt(&["/dev/null/x"], false),
        ];
        assert_eq!(run(&attempts, &[], Some(theirs.into())), (String::new(), Some(1)));
        let mut report = Vec::new();
        ours.read_to_end(&mut report).unwrap();
        let (length, report) = report.split_first_chunk().unwrap();
        assert_eq!(u32::from_le_bytes(*length) as usize, report.len());
        let (errnos, words) = results(report).unwrap();
        assert_eq!((errnos, words), (vec![libc::ENOENT, 0, libc::EACCES, libc::ENOTDIR], &b"[\"words\"]"[..]));
        for other in [&b"\"Unshared\""[..], b"{\"Failed\":1}", &[0; 8], &[0; 3], &report[..30]] {
            assert_eq!(results(other), None);
        }
    }

    /// A session that executes it again as its own interpreter has no socket of ours at that number.
    #[test]
    fn without_the_socket_it_ends() {
        let file = memfd::sealed("test", &image(machine::code(), 99, &[attempt(&["/bin/sh", "-c", "echo ran"], false)], &[], b""))
            .unwrap();
        let output = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd())).output().unwrap();
        assert_eq!((output.status.code(), output.stdout), (Some(1), Vec::new()));
    }
}
