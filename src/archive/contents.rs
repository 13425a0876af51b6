//! Lines of a `CONTENTS` file. They look like the output of `tar tvf` in UTC, which is how upstream makes them.
//!
//! ```text
//! drwxr-xr-x root/root         0 2026-08-11 08:31 ./etc/
//! -rwsr-xr-x root/root     70000 2026-08-11 08:31 ./bin/su
//! lrwxrwxrwx root/root         0 2026-08-11 08:31 ./lib -> usr/lib
//! hrwxr-xr-x root/root         0 2026-08-11 08:31 ./bin/b link to ./bin/a
//! ```
//!
//! When a line needs a wider size column, the column stays that wide for the lines after it, as in GNU tar.

use std::fmt::Write as _;

use super::member::Kind;

/// GNU tar's initial width of owner, group and size together.
const WIDTH: usize = 19;

/// One entry as a listing shows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) kind: &'a Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) user: &'a [u8],
    pub(super) group: &'a [u8],
    pub(super) size: u64,
    pub(super) mtime_secs: i64,
    pub(super) path: &'a [u8],
}

/// Formats lines one after the other.
#[derive(Debug)]
pub(super) struct Lines {
    width: usize,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self { width: WIDTH }
    }

    /// Appends one line to `out`, with its newline.
    pub(super) fn append(&mut self, out: &mut Vec<u8>, line: &Line<'_>) {
        let owner = |name: &[u8], id: u32| if name.is_empty() { id.to_string().into_bytes() } else { name.to_vec() };
        let (user, group) = (owner(line.user, line.uid), owner(line.group, line.gid));
        let size = match line.kind {
            Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => format!("{major},{minor}"),
            _ => line.size.to_string(),
        };
        let least = user.len() + 1 + group.len() + 1 + size.len();
        self.width = self.width.max(least);
        out.extend_from_slice(mode_string(line.kind, line.mode).as_bytes());
        out.push(b' ');
        out.extend_from_slice(&user);
        out.push(b'/');
        out.extend_from_slice(&group);
        let mut rest = String::new();
        // Writing to a string cannot fail.
        let _ = write!(rest, " {size:>width$} {} ", date(line.mtime_secs), width = size.len() + self.width - least);
        out.extend_from_slice(rest.as_bytes());
        escape(out, line.path);
        match line.kind {
            Kind::Symlink(target) => {
                out.extend_from_slice(b" -> ");
                escape(out, target);
            }
            Kind::Hardlink(target) => {
                out.extend_from_slice(b" link to ");
                escape(out, target);
            }
            _ => {}
        }
        out.push(b'\n');
    }
}

fn mode_string(kind: &Kind, mode: u32) -> String {
    let mut text = String::with_capacity(10);
    text.push(match kind {
        Kind::File => '-',
        Kind::Hardlink(_) => 'h',
        Kind::Symlink(_) => 'l',
        Kind::Directory => 'd',
        Kind::Fifo => 'p',
        Kind::CharDevice(..) => 'c',
        Kind::BlockDevice(..) => 'b',
    });
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// `2026-08-11 08:31`. A time outside of the calendar is written as its number of seconds.
fn date(secs: i64) -> String {
    jiff::Timestamp::from_second(secs).map_or_else(|_| secs.to_string(), |time| time.strftime("%Y-%m-%d %H:%M").to_string())
}

/// GNU's quoting style `escape` in a UTF-8 locale.
fn escape(out: &mut Vec<u8>, name: &[u8]) {
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\x07' => out.extend_from_slice(b"\\a"),
                '\x08' => out.extend_from_slice(b"\\b"),
                '\x0c' => out.extend_from_slice(b"\\f"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\x0b' => out.extend_from_slice(b"\\v"),
                '\\' => out.extend_from_slice(b"\\\\"),
                c if c.is_control() => octal(out, c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        octal(out, chunk.invalid());
    }
}

fn octal(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        out.extend_from_slice(format!("\\{byte:03o}").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_look_like_tars() {
        let mut lines = Lines::new();
        let mut out = Vec::new();
        let base = Line {
            kind: &Kind::Directory,
            mode: 0o1777,
            uid: 0,
            gid: 0,
            user: b"root",
            group: b"root",
            size: 0,
            mtime_secs: 1_786_437_060,
            path: b"./tmp/",
        };
        lines.append(&mut out, &base);
        let kind = Kind::Symlink(b"a\tb".to_vec());
        lines.append(&mut out, &Line { kind: &kind, mode: 0o777, user: b"", uid: 65534, group: b"a-very-long-group-name", ..base });
        lines.append(&mut out, &Line { kind: &Kind::File, mode: 0o4711, size: 70000, path: "./ö\\\x1b\u{80}".as_bytes(), ..base });
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "drwxrwxrwt root/root         0 2026-08-11 08:31 ./tmp/\n\
             lrwxrwxrwx 65534/a-very-long-group-name 0 2026-08-11 08:31 ./tmp/ -> a\\tb\n\
             -rws--x--x root/root                70000 2026-08-11 08:31 ./ö\\\\\\033\\302\\200\n"
        );
    }
}
