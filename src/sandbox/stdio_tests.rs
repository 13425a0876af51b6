use std::io::{Read as _, Seek as _, Write as _};

use super::*;

fn null() -> OwnedFd {
    fd::null().unwrap()
}

fn is_fifo(fd: impl AsFd) -> bool {
    kind(fd.as_fd()).unwrap() == Kind::Pipe
}

fn pair() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = pipe().unwrap();
    (reader.into(), writer.into())
}

fn copy(fd: &OwnedFd) -> OwnedFd {
    fd.try_clone().unwrap()
}

fn file(fd: &OwnedFd) -> File {
    copy(fd).into()
}

/// What is in a pipe whose other side is closed.
fn rest(reader: OwnedFd) -> Vec<u8> {
    let mut all = Vec::new();
    File::from(reader).read_to_end(&mut all).unwrap();
    all
}

/// Bytes that tell where they stand.
fn numbered(length: u32) -> Vec<u8> {
    (0..length).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// What `/proc/self/fd/N` is for a session.
fn opened_anew(fd: &OwnedFd, options: &std::fs::OpenOptions) -> File {
    options.open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(fd))).unwrap()
}

#[test]
fn none_of_ours_is_given_away() {
    let (input, _writer) = pair();
    let (_reader, output) = pair();
    let socket = std::os::unix::net::UnixStream::pair().unwrap().0;
    let (file, socket) = (OwnedFd::from(tempfile::tempfile().unwrap()), OwnedFd::from(socket));
    for kinds in [[&input, &output, &output], [&file, &socket, &output]] {
        let joined = join(kinds.map(copy)).unwrap();
        let inode = |fd: &OwnedFd| {
            let stat = rustix::fs::fstat(fd).unwrap();
            (stat.st_dev, stat.st_ino)
        };
        for ours in kinds {
            assert!(joined.fds.iter().all(|theirs| is_fifo(theirs) && inode(theirs) != inode(ours)));
        }
    }
}

#[test]
fn a_copy_that_cannot_begin_is_an_error_and_nothing_is_taken() {
    let (input, writer) = pair();
    file(&writer).write_all(b"for the next one").unwrap();
    let error = crate::threads::tests::without_any(|| join([copy(&input), null(), null()])).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "cannot start a thread to fill standard input");
    let error = crate::threads::tests::without_any(|| join([null(), copy(&writer), null()])).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "cannot start a thread to copy the output");
    let mut left = [0; 16];
    file(&input).read_exact(&mut left).unwrap();
    assert_eq!(&left, b"for the next one");
}

#[test]
fn what_was_not_read_stays_in_the_pipe() {
    for (length, read) in [(60_000, 0), (60_000, 1), (60_000, 1000), (5000, 4999), (5000, 5000), (0, 0)] {
        let (input, writer) = pair();
        let bytes = numbered(length);
        file(&writer).write_all(&bytes).unwrap();
        let joined = join([copy(&input), null(), null()]).unwrap();
        let mut some = vec![0; read];
        file(&joined.fds[0]).read_exact(&mut some).unwrap();
        assert!(some == bytes[..read]);
        drop(joined);
        drop(writer);
        assert!(rest(input) == bytes[read..], "{read} of {length}");
    }
}

#[test]
fn a_slow_writer_is_heard_line_by_line() {
    let (input, writer) = pair();
    let joined = join([input, null(), null()]).unwrap();
    let mut stdin = file(&joined.fds[0]);
    for line in ["one\n", "two\n", "three\n"] {
        file(&writer).write_all(line.as_bytes()).unwrap();
        let mut some = [0; 100];
        let length = stdin.read(&mut some).unwrap();
        assert_eq!(&some[..length], line.as_bytes());
    }
    drop(writer);
    assert_eq!(stdin.read(&mut [0; 100]).unwrap(), 0);
}

#[test]
fn all_of_a_pipe_arrives_however_it_is_read() {
    let bytes = numbered(3_000_000);
    for (put, take) in [(1 << 20, 1 << 17), (10_000, 300), (4096, 10_240), (700, 1 << 16)] {
        let (input, writer) = pair();
        let (reader, output) = pair();
        let Inherited { fds: [stdin, stdout, stderr], copies } = join([input, output, null()]).unwrap();
        drop(stderr);
        let arrived = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut writer = File::from(writer);
                bytes.chunks(put).for_each(|chunk| writer.write_all(chunk).unwrap());
            });
            scope.spawn(move || {
                let (mut stdin, mut stdout, mut chunk) = (File::from(stdin), File::from(stdout), vec![0; take]);
                while let length @ 1.. = stdin.read(&mut chunk).unwrap() {
                    stdout.write_all(&chunk[..length]).unwrap();
                }
            });
            rest(reader)
        });
        drop(copies);
        assert!(arrived == bytes, "{put} {take}: {} bytes", arrived.len());
    }
}

/// A session opens `/proc/self/fd/0` for writing: what it puts there is for nobody but itself, and does not count as unread.
#[test]
fn what_is_written_into_standard_input_reaches_nobody_and_moves_nothing_back() {
    for (own, read) in [(18, 0), (5000, 1000), (60_000, 2000)] {
        let (input, writer) = pair();
        let bytes = numbered(3000);
        file(&writer).write_all(&bytes).unwrap();
        let mut taken = tempfile::tempfile().unwrap();
        taken.write_all(b"read by others before").unwrap();
        taken.write_all(&bytes).unwrap();
        taken.seek(std::io::SeekFrom::Start(21)).unwrap();
        for ours in [copy(&input), taken.try_clone().unwrap().into()] {
            let joined = join([ours, null(), null()]).unwrap();
            let stdin = &joined.fds[0];
            file(stdin).read_exact(&mut vec![0; read]).unwrap();
            // Room for it, and it may hide whatever a session does not want to be counted.
            rustix::pipe::fcntl_setpipe_size(stdin, 1 << 18).unwrap();
            opened_anew(stdin, std::fs::OpenOptions::new().write(true)).write_all(&vec![b'x'; own]).unwrap();
            drop(joined);
        }
        drop(writer);
        let left = rest(input);
        // Never before the beginning, never behind what was read.
        assert!(left.len() <= 3000 && left.len() >= 3000 - read && left == bytes[3000 - left.len()..], "{} left", left.len());
        let position = taken.stream_position().unwrap();
        assert!((21..=21 + read as u64).contains(&position), "{position}");
    }
}

#[test]
fn what_others_wrote_is_not_read_and_flags_are_not_shared() {
    let (reader, output) = pair();
    file(&output).write_all(b"of another command\n").unwrap();
    let Inherited { fds, copies } = join([null(), copy(&output), copy(&output)]).unwrap();
    for fd in &fds[1..] {
        let mut some = [0; 100];
        let mut options = std::fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::custom_flags(options.read(true), libc::O_NONBLOCK);
        assert_eq!(opened_anew(fd, &options).read(&mut some).unwrap_err().raw_os_error(), Some(libc::EAGAIN));
        without_waiting(fd.as_fd()).unwrap();
    }
    drop((fds, copies));
    assert!(!rustix::fs::fcntl_getfl(&output).unwrap().contains(OFlags::NONBLOCK));
    drop(output);
    assert_eq!(rest(reader), b"of another command\n");
}

#[test]
fn the_order_of_output_and_error_in_one_file_stays() {
    let (reader, output) = pair();
    let mut printed = tempfile::tempfile().unwrap();
    let as_file = OwnedFd::from(printed.try_clone().unwrap());
    let wanted = (0..2000).map(|number| format!("out {number}\nerr {number}\n")).collect::<Vec<_>>().concat();
    for ours in [&output, &as_file] {
        let Inherited { fds: [_, stdout, stderr], copies } = join([null(), copy(ours), copy(ours)]).unwrap();
        for number in 0..2000 {
            file(&stdout).write_all(format!("out {number}\n").as_bytes()).unwrap();
            file(&stderr).write_all(format!("err {number}\n").as_bytes()).unwrap();
        }
        drop((stdout, stderr, copies));
    }
    drop(output);
    assert!(rest(reader) == wanted.as_bytes());
    let mut text = String::new();
    printed.rewind().unwrap();
    printed.read_to_string(&mut text).unwrap();
    assert!(text == wanted, "{text}");
}

/// A caller that does not want to wait loses nothing, and one that leaves is noticed at the next byte, or before.
#[test]
fn output_reaches_who_does_not_wait_and_ends_with_who_leaves() {
    let (reader, output) = pair();
    without_waiting(output.as_fd()).unwrap();
    let bytes = numbered(500_000);
    let Inherited { fds: [_, stdout, stderr], copies } = join([null(), output, null()]).unwrap();
    let arrived = std::thread::scope(|scope| {
        scope.spawn(move || File::from(stdout).write_all(&bytes).unwrap());
        let arrived = scope.spawn(move || {
            let mut all = vec![0; 500_000];
            std::thread::sleep(std::time::Duration::from_millis(100));
            let mut reader = File::from(reader);
            reader.read_exact(&mut all).unwrap();
            all
        });
        arrived.join().unwrap()
    });
    assert!(arrived == numbered(500_000));
    drop((stderr, copies));

    let (reader, output) = pair();
    let Inherited { fds: [_, stdout, _stderr], copies } = join([null(), output, null()]).unwrap();
    drop(reader);
    // Without a byte of it having been written.
    let mut polled = [PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::empty())];
    rustix::event::poll(&mut polled, None).unwrap();
    assert!(polled[0].revents().contains(PollFlags::ERR));
    drop(copies);
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
