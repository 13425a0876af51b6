use std::io::{Seek as _, Write as _};

use super::*;

fn null() -> OwnedFd {
    fd::null().unwrap()
}

fn is_fifo(fd: impl AsFd) -> bool {
    kind(fd.as_fd()).unwrap() == Kind::Pipe
}

#[test]
fn a_terminal_gets_text_and_colours() {
    let cases: [(&[&[u8]], &str); 11] = [
        (&[b"plain \xc3\xa4\tb\r\n"], "plain ä\tb\r\n"),
        (&[b"\x1b[32;01m*\x1b[39m ok"], "\x1b[32;01m*\x1b[39m ok"),
        (&[b"\x1b[6nx\x1b[2Jy\x1b[?25lz"], "xyz"),
        (&[b"\x1b]0;title\x07a\x1b]52;c;aGk=\x1b\\b"], "ab"),
        (&[b"\x1bP$q\x1b\\x\x1bcy\x1b(0z"], "xyz"),
        // Cut anywhere.
        (&[b"\x1b", b"[", b"6", b"n", b"x\xc3", b"\xa4"], "xä"),
        (&[b"\x1b]0;no end", b" of it\nnext"], "\nnext"),
        // The eight-bit controls, in UTF-8 and bare.
        (&[b"\xc2\x9b6nx\xc2\x9d0;t\x07y"], "xy"),
        (&[b"\x9b6nx"], "\u{fffd}6nx"),
        (&[b"\x1b[1\x1b[6nx\x1b[>4;2my"], "xy"),
        (&[b"a\x00\x05\x0e\x7fb\x08"], "ab\x08"),
    ];
    for (chunks, wanted) in cases {
        let mut cleaner = Cleaner::default();
        let text: String = chunks.iter().map(|chunk| cleaner.text(chunk)).collect();
        assert_eq!(text, wanted, "{chunks:?}");
    }
}

#[test]
fn pipes_are_passed_and_files_are_not() {
    let (reader, writer) = pipe().unwrap();
    let joined = join([reader.into(), writer.into(), tempfile::tempfile().unwrap().into()]).unwrap();
    assert_eq!(joined.copies.threads.len(), 1);
    assert!(joined.fds.iter().all(is_fifo));
}

#[test]
fn what_was_not_read_stays_in_the_file() {
    let mut file = tempfile::tempfile().unwrap();
    // More than a pipe holds.
    file.write_all(&vec![b'x'; 300_000]).unwrap();
    file.rewind().unwrap();
    let joined = join([file.try_clone().unwrap().into(), null(), null()]).unwrap();
    let mut some = [0; 1000];
    File::from(joined.fds[0].try_clone().unwrap()).read_exact(&mut some).unwrap();
    drop(joined);
    assert_eq!(file.stream_position().unwrap(), 1000);
}

#[test]
fn all_of_a_file_arrives_and_all_that_was_written_is_printed() {
    let mut input = tempfile::tempfile().unwrap();
    let mut output = tempfile::tempfile().unwrap();
    let bytes: Vec<u8> = (0..1_000_000u32).map(|number| (number % 251) as u8).collect();
    input.write_all(&bytes).unwrap();
    input.rewind().unwrap();
    let Inherited { fds: [stdin, stdout, stderr], copies } =
        join([input.into(), output.try_clone().unwrap().into(), null()]).unwrap();
    assert_eq!(std::io::copy(&mut File::from(stdin), &mut File::from(stdout)).unwrap(), 1_000_000);
    // Somebody outside was given this one and keeps it.
    let kept = stderr;
    drop(copies);
    drop(kept);
    let mut printed = Vec::new();
    output.rewind().unwrap();
    output.read_to_end(&mut printed).unwrap();
    assert!(printed == bytes);
}

#[test]
fn a_directory_is_refused_wherever_it_is() {
    for at in 0..3 {
        let mut fds = [null(), null(), null()];
        fds[at] = File::open("/").unwrap().into();
        let error = join(fds).err().unwrap().to_string();
        assert_eq!(error, format!("{} is a directory", NAMES[at]));
    }
}
