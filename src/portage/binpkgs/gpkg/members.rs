//! The members of a package's container: what it has and where, without reading any of it.

use std::fs::File;
use std::io;
use std::io::{Read, Seek as _};
use std::os::unix::fs::FileExt as _;

use tar::{Archive, EntryType, Header};

use super::{MANIFEST, Problem, SIGNATURE};
use crate::terminal_text::sanitize_line;

/// A container has six members; one with more than this is refused.
const MAX_MEMBERS: usize = 16;
const BLOCK_BYTES: u64 = 512;

/// A member, by its name without the directory.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) header: Header,
    pub(super) size: u64,
    at: u64,
}

/// All members of a container, in order. There is a Manifest.
#[derive(Debug)]
pub(super) struct Members {
    /// The directory in which all of them are.
    pub(super) prefix: String,
    pub(super) all: Vec<Member>,
    /// Where the last one ends.
    end: u64,
}

/// Why the members are not known.
#[derive(Debug)]
pub(super) enum Trouble {
    Io(io::Error),
    Problem(Problem),
}

impl Member {
    /// Neither the Manifest nor a signature.
    pub(super) fn is_part(&self) -> bool {
        self.name != MANIFEST && !self.name.ends_with(SIGNATURE)
    }

    /// Its bytes. An end of the file before that of the member is an error.
    pub(super) fn reader<'f>(&self, file: &'f File) -> Window<'f> {
        Window { file, at: self.at, left: self.size }
    }

    /// All of its bytes, if they are not more than `limit`.
    pub(super) fn bytes(&self, file: &File, limit: u64) -> Result<Vec<u8>, Trouble> {
        if self.size > limit {
            return Err(Trouble::Problem(Problem::Large(self.name.clone())));
        }
        let mut bytes = Vec::new();
        self.reader(file).read_to_end(&mut bytes).map_err(Trouble::Io)?;
        Ok(bytes)
    }
}

impl Members {
    pub(super) fn of(file: &File) -> Result<Self, Trouble> {
        let mut reader = file;
        reader.rewind().map_err(Trouble::Io)?;
        let mut archive = Archive::new(reader);
        let (mut prefix, mut all): (Option<String>, Vec<Member>) = (None, Vec::new());
        let mut end = 0;
        // Raw entries: otherwise the reader would load a hostile extended header into memory. Portage needs none for names this short.
        for (count, entry) in archive.entries_with_seek().map_err(Trouble::Io)?.raw(true).enumerate() {
            if count >= MAX_MEMBERS {
                return Err(Trouble::Problem(Problem::Many));
            }
            let entry = entry.map_err(Trouble::Io)?;
            let full = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let odd = || Trouble::Problem(Problem::Member(sanitize_line(full.as_bytes(), 400)));
            let (directory, name) = full.split_once('/').filter(|(d, n)| !d.is_empty() && !n.is_empty()).ok_or_else(odd)?;
            // What a name begins with must not make another kind of file of it: Portage would unpack that first. And both forms of header say
            // where the name is.
            let of_words = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+_.-".contains(&byte));
            let header = entry.header();
            let known_form = header.as_ustar().is_some() || header.as_gnu().is_some();
            let plain = header.entry_type() == EntryType::Regular && known_form && of_words(directory) && of_words(name);
            let plain = plain && !directory.starts_with('.');
            let known = all.iter().any(|member| member.name == name);
            if !plain || known || prefix.as_deref().is_some_and(|prefix| prefix != directory) {
                return Err(odd());
            }
            prefix = Some(directory.to_owned());
            let (at, size) = (entry.raw_file_position(), entry.size());
            end = at.saturating_add(size).next_multiple_of(BLOCK_BYTES);
            all.push(Member { name: name.to_owned(), header: entry.header().clone(), size, at });
        }
        let has_manifest = all.iter().any(|member| member.name == MANIFEST);
        match prefix.filter(|_| has_manifest) {
            Some(prefix) => Ok(Self { prefix, all, end }),
            None => Err(Trouble::Problem(Problem::Manifest)),
        }
    }

    pub(super) fn named(&self, name: &str) -> Option<&Member> {
        self.all.iter().find(|member| member.name == name)
    }

    /// Whether something is behind the last member. An archive ends with zeros.
    pub(super) fn has_more(&self, file: &File) -> io::Result<bool> {
        let (mut at, mut buffer) = (self.end, vec![0; 64 * 1024]);
        loop {
            match file.read_at(&mut buffer, at)? {
                0 => return Ok(false),
                count if buffer[..count].iter().any(|byte| *byte != 0) => return Ok(true),
                count => at += count as u64,
            }
        }
    }
}

/// A part of a file.
#[derive(Debug)]
pub(super) struct Window<'f> {
    file: &'f File,
    at: u64,
    left: u64,
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.file.read_at(&mut buffer[..wanted], self.at)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}
