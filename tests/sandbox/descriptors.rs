//! What a session makes of its standard descriptors, when the program that starts it has pipes and files there.

use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use gentoomuch::internals::sandbox::{Exit, SessionOptions};

use crate::fixture::{chain, fixture};

/// A program that starts a session with its own standard descriptors, as an embedder may: it is this test program.
#[test]
#[ignore = "run by the tests below, in a process of its own"]
fn as_a_program_with_descriptors() {
    let Some(script) = std::env::var_os("GENTOOMUCH_SCRIPT") else { return };
    let Some(fixture) = fixture() else { return };
    let (plan, place) = fixture.plan(&["sh", "-c", script.to_str().unwrap()]);
    let mut options = SessionOptions::new(gentoomuch::internals::sandbox::Stdio::Inherit);
    options.remove_after = vec![place];
    let mut running = fixture.launcher.session(&plan, options).unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(running.wait().unwrap(), Exit::Code(0));
}

const THIS: [&str; 5] = ["--exact", "descriptors::as_a_program_with_descriptors", "--ignored", "--nocapture", "--quiet"];

fn session(script: &str, fds: [&OwnedFd; 3]) -> ExitStatus {
    let [stdin, stdout, stderr] = fds.map(|fd| Stdio::from(fd.try_clone().unwrap()));
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(THIS).env("GENTOOMUCH_SCRIPT", script).stdin(stdin).stdout(stdout).stderr(stderr).status().unwrap()
}

fn null() -> OwnedFd {
    std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap().into()
}

fn pair() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader.into(), writer.into())
}

fn rest(reader: OwnedFd) -> String {
    let mut all = String::new();
    std::fs::File::from(reader).read_to_string(&mut all).unwrap();
    all
}

/// `… | bash`: the shell reads its script from the pipe that a session has as standard input, too.
fn piped_into_a_shell(lines: &str, dir: &Path) -> String {
    let mut shell = Command::new("bash");
    shell.env("PROGRAM", std::env::current_exe().unwrap()).env("THIS", THIS.join(" ")).env("OUT", dir.join("out"));
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    shell.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = shell.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_script_that_is_piped_into_a_shell_is_not_written_by_a_session() {
    let Some(fixture) = fixture() else { return };
    let dir = fixture.dir.path();
    // Without waiting: the session's own pipe may be full, and nobody but itself would empty it.
    let hostile = "for fd in /proc/$$/fd/0 /proc/1/fd/0; do
  echo \"echo written >>'$OUT'\" | dd of=$fd oflag=nonblock conv=notrunc 2>/dev/null
done
exit 0";
    let script = hostile.replace("$OUT", &dir.join("out").display().to_string());
    std::fs::write(dir.join("script"), script).unwrap();
    let lines = format!(
        "export GENTOOMUCH_SCRIPT=\"$(cat '{}')\"\n\"$PROGRAM\" $THIS >&2\necho the next line\necho the last line\n",
        dir.join("script").display()
    );
    assert_eq!(piped_into_a_shell(&lines, dir), "the next line\nthe last line\n");
    assert!(!dir.join("out").exists(), "{:?}", std::fs::read_to_string(dir.join("out")));
}

#[test]
fn a_session_reads_what_it_wants_of_a_script_and_leaves_the_rest() {
    let Some(fixture) = fixture() else { return };
    let lines = "export GENTOOMUCH_SCRIPT='read a; read b; echo \"got $a, $b\" >&2'\n\"$PROGRAM\" $THIS 2>\"$OUT\" >&2\none\ntwo\necho three\n";
    assert_eq!(piped_into_a_shell(lines, fixture.dir.path()), "three\n");
    let said = std::fs::read_to_string(fixture.dir.path().join("out")).unwrap();
    assert!(said.contains("got one, two\n"), "{said}");
}

#[test]
fn a_file_is_not_moved_back_behind_where_it_began() {
    let Some(fixture) = fixture() else { return };
    let mut list = std::fs::File::create_new(fixture.dir.path().join("list")).unwrap();
    list.write_all(b"first\nsecond\nthird\n").unwrap();
    let mut list = std::fs::File::open(fixture.dir.path().join("list")).unwrap();
    list.seek(std::io::SeekFrom::Start(13)).unwrap();
    let fd = OwnedFd::from(list.try_clone().unwrap());
    assert!(session("sleep 0.2; printf 123456789012345678 >/proc/self/fd/0", [&fd, &null(), &null()]).success());
    assert_eq!(list.stream_position().unwrap(), 13);
}

#[test]
fn a_pipe_for_output_is_not_read_and_keeps_its_flags() {
    let Some(_fixture) = fixture() else { return };
    let (reader, writer) = pair();
    std::fs::File::from(writer.try_clone().unwrap()).write_all(b"of another command\n").unwrap();
    // `dd` without `of=` sets the flag on standard output itself, as any program may.
    let script =
        "dd if=/proc/self/fd/1 iflag=nonblock count=1 of=/dev/null 2>/dev/null; printf x | dd oflag=nonblock 2>/dev/null; exit 0";
    assert!(session(script, [&null(), &writer, &null()]).success());
    assert!(!rustix::fs::fcntl_getfl(&writer).unwrap().contains(rustix::fs::OFlags::NONBLOCK));
    drop(writer);
    let text = rest(reader);
    assert!(text.starts_with("of another command\n") && text.contains('x'), "{text}");
}

#[test]
fn output_and_error_in_one_pipe_keep_their_order() {
    let Some(_fixture) = fixture() else { return };
    let (reader, writer) = pair();
    let script = "n=0; while [ $n -lt 500 ]; do echo out $n; echo err $n >&2; n=$((n+1)); done";
    assert!(session(script, [&null(), &writer, &writer]).success());
    drop(writer);
    let wanted = (0..500).map(|number| format!("out {number}\nerr {number}\n")).collect::<Vec<_>>().concat();
    let text = rest(reader);
    assert!(text.contains(&wanted), "{text}");
}
