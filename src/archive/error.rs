//! What can go wrong with an archive.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use crate::archive::shown::EntryName;
use crate::beneath;
use crate::path_error::PathError;

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl From<beneath::Error> for Error {
    fn from(error: beneath::Error) -> Self {
        match error {
            beneath::Error::Io(PathError { doing, path, source }) => {
                let path = if path.as_os_str().is_empty() { b"." } else { path.as_os_str().as_bytes() };
                Self::Entry { action: doing, entry: EntryName::new(path), source }
            }
            other => Self::Beneath(other),
        }
    }
}

/// Errors cross processes as text, and callers look for this one.
pub(crate) const NO_INODES: &str = "the file system has no inodes left";

/// Why an archive could not be read, unpacked or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading the stream failed, or its compression is damaged.
    #[error("cannot read the archive at byte {offset} of its tar stream")]
    Read {
        /// In the uncompressed stream.
        offset: u64,
        #[source]
        source: io::Error,
    },
    /// The stream ends before the archive does.
    #[error("archive is truncated: it ends at byte {offset} of its tar stream, {during}")]
    Truncated {
        /// Length of the uncompressed stream that there was.
        offset: u64,
        /// What was being read.
        during: Part,
    },
    /// A block where a header should be is not one.
    #[error("header at byte {offset} of the tar stream is damaged: {what}")]
    Header {
        /// Where the block starts.
        offset: u64,
        what: Damage,
    },
    /// We do not unpack this entry.
    #[error("refused entry `{entry}`")]
    Refused {
        /// As the archive spells it.
        entry: EntryName,
        #[source]
        cause: Refusal,
    },
    /// More entries than the limit.
    #[error("archive has more than {limit} entries")]
    TooManyEntries { limit: u64 },
    /// More bytes than the limit.
    #[error("archive unpacks to more than {limit} bytes")]
    TooManyBytes { limit: u64 },
    /// A system call on an entry failed.
    #[error("cannot {action} `{entry}`")]
    Entry {
        /// What was tried: `create`, `set the owner of`.
        action: &'static str,
        entry: EntryName,
        #[source]
        source: io::Error,
    },
    /// The tree that is to be packed is not what it should be.
    #[error(transparent)]
    Beneath(beneath::Error),
    /// The id map is too short for the whole archive.
    #[error("the archive has files of user ids up to {uid} and group ids up to {gid}, and there are only {count} ids here")]
    Owners { uid: u32, gid: u32, count: u64 },
    /// The id map does not have this owner.
    #[error("cannot give `{entry}` to {uid}:{gid}, which is not in the id map")]
    UnmappedOwner { entry: EntryName, uid: u32, gid: u32 },
    /// An extended attribute could not be written or read.
    #[error("cannot {action} the extended attribute `{attribute}` of `{entry}`")]
    Xattr {
        action: &'static str,
        attribute: EntryName,
        entry: EntryName,
        #[source]
        source: io::Error,
    },
    /// The bytes that we read are not those that were verified.
    #[error("`{}` changed after it was verified: its {algorithm} is {found}, not {expected}", path.display())]
    Changed {
        path: PathBuf,
        algorithm: &'static str,
        /// Hexadecimal, of what we read.
        found: String,
        /// Hexadecimal, of what was verified.
        expected: String,
    },
    /// The file has another size than the one that was verified.
    #[error("`{}` changed after it was verified: it has {found} bytes, not {expected}", path.display())]
    Resized { path: PathBuf, found: u64, expected: u64 },
    /// The tree has something that an archive cannot hold.
    #[error("cannot pack `{entry}`: {what}")]
    Unpackable {
        /// Its path below the root.
        entry: EntryName,
        what: Oddity,
    },
    /// The disk has room for bytes but no inodes. We say so here, because once the user looks, the unpacked part has been removed.
    #[error("{NO_INODES}")]
    NoInodes(#[source] Box<Error>),
    /// Writing the archive failed.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// A compressor or decompressor could not be started.
    #[error("cannot start {codec}")]
    Codec {
        codec: &'static str,
        #[source]
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    #[error(transparent)]
    Pattern(#[from] crate::patterns::PatternError),
    /// Opening a place on disk failed.
    #[error("cannot open `{}`", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot mount the merged view of {layers} layers")]
    Merge {
        layers: usize,
        #[source]
        source: crate::sys::Error,
    },
    /// A task was called with something other than its input.
    #[error("invalid input for the task `{task}`")]
    Input {
        task: &'static str,
        #[source]
        source: serde_json::Error,
    },
    /// A task was called with too few descriptors.
    #[error("task `{task}` needs {needed} descriptors and got {got}")]
    Descriptors { task: &'static str, needed: usize, got: usize },
}

/// The part of an archive that was being read when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A header block.
    Header,
    /// An extended header, long name or sparse map.
    Extension,
    /// Contents of a file.
    Data,
    /// Between two entries. The two zero blocks at the end of an archive are missing.
    End,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Header => "within a header",
            Self::Extension => "within an extended header",
            Self::Data => "within a file's contents",
            Self::End => "before its end marker",
        })
    }
}

/// What is wrong with a header block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The sum over the block differs.
    #[error("its checksum does not match")]
    Checksum,
    /// A numeric field that is no number.
    #[error("its {0} is not a number")]
    Number(&'static str),
    /// A single zero block between entries.
    #[error("a zero block is followed by something else")]
    LoneZeroBlock,
    /// Nothing follows the extended headers.
    #[error("an extended header has no entry after it")]
    Orphan,
    /// Two extended headers of one kind before one entry.
    #[error("two extended headers of one kind describe one entry")]
    Repeated,
    /// The extended header is larger than any real one.
    #[error("an extended header is larger than {limit} bytes")]
    ExtensionTooLarge { limit: u64 },
    /// A PAX record whose length is wrong.
    #[error("a record of its extended header has a wrong length")]
    PaxRecord,
    /// A PAX value of the wrong form.
    #[error("`{0}` of its extended header has no valid value")]
    PaxValue(&'static str),
    /// A global header sets something for every entry after it.
    #[error("a global extended header sets more than a comment")]
    PaxGlobal,
}

/// Why an entry is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No name at all.
    #[error("its path is empty")]
    EmptyPath,
    /// A NUL byte in the name.
    #[error("its path has a NUL byte")]
    NulInPath,
    /// The path starts with a slash.
    #[error("its path is absolute")]
    AbsolutePath,
    /// The path has `..` in it.
    #[error("its path has a `..` component")]
    ParentComponent,
    /// A path longer than the limit.
    #[error("its path has {bytes} bytes, more than {limit}")]
    PathTooLong { bytes: usize, limit: usize },
    /// One component is longer than any file system takes.
    #[error("a component of its path has {bytes} bytes, more than {limit}")]
    ComponentTooLong { bytes: usize, limit: usize },
    /// Too many directories above it.
    #[error("it lies deeper than {limit} directories")]
    TooDeep { limit: usize },
    /// A directory is needed here, but something else is there.
    #[error("`{parent}` above it is not a directory")]
    ParentNotDirectory {
        /// The component in the way.
        parent: EntryName,
    },
    /// The archive already has an entry at this path.
    #[error("the archive has another entry at the same path")]
    Duplicate,
    /// A regular file has the name of a directory.
    #[error("it is a file whose name ends with a slash")]
    FileNamedLikeDirectory,
    /// The root of the archive is not a directory.
    #[error("the root of the archive is not a directory")]
    RootNotDirectory,
    /// A hard link to a path that this archive did not create before.
    #[error("it is a hard link to `{target}`, which is not an earlier entry of the archive")]
    LinkToUnknown { target: EntryName },
    /// The target of a hard link is not acceptable as a path.
    #[error("it is a hard link to `{target}`: {cause}")]
    LinkTarget {
        target: EntryName,
        /// Why that is unacceptable as a path.
        cause: Box<Refusal>,
    },
    /// A hard link to a directory.
    #[error("it is a hard link to the directory `{target}`")]
    LinkToDirectory { target: EntryName },
    /// The target of a symbolic link is empty, too long or has a NUL byte.
    #[error("it is a symbolic link with an empty, overlong or NUL-carrying target")]
    SymlinkTarget,
    /// Overlayfs would show something else than the layer has.
    #[error("its attribute `{0}` would speak to overlayfs")]
    Overlay(EntryName),
    /// A device outside `./dev`.
    #[error("it is a device node outside `./dev`")]
    Device,
    /// A 0:0 character device means "deleted" to overlayfs.
    #[error("it is a 0:0 character device, which overlayfs takes for a deletion")]
    Whiteout,
    /// No root file system has entries of this type.
    #[error("its type `{}` is not supported", char::from(*.0).escape_default())]
    Type(u8),
    /// Only files can have data.
    #[error("it has {0} bytes of data although it is not a file")]
    UnexpectedData(u64),
    /// Header and extended header disagree about the size.
    #[error("its extended header says {pax} bytes and its header {header}")]
    SizeLie {
        /// Size in the extended header.
        pax: u64,
        /// Size in the header.
        header: u64,
    },
    /// The header is older than POSIX. Apart from links it does not say what an entry is.
    #[error("its header is of the V7 format, which is not supported")]
    V7,
    /// Holes are read in version 1.0 and in the old GNU format. GNU tar writes other versions only if told to, since 2006.
    #[error("its sparse format is not GNU's version 1.0; other versions are not supported")]
    SparseVersion,
    /// A sparse map that contradicts itself or the data.
    #[error("its sparse map is inconsistent")]
    SparseMap,
    /// It has more holes than any real file.
    #[error("its sparse map has more than {limit} parts")]
    SparseMapTooLarge { limit: usize },
    /// The file is larger than the limit. Holes count.
    #[error("its size is {size} bytes, more than {limit}")]
    FileTooLarge { size: u64, limit: u64 },
    /// The holes of this file and those before are more than the limit.
    #[error("with it, all holes together have more than {limit} bytes")]
    Holes { limit: u64 },
    /// The kernel cannot store this time, owner or mode.
    #[error("its {0} is out of range")]
    OutOfRange(&'static str),
    /// Too many extended attributes, or too large.
    #[error("its extended attributes exceed {limit} in number, or one exceeds the kernel's limits")]
    Xattrs {
        /// How many are allowed.
        limit: usize,
    },
    /// The text of an ACL cannot be converted.
    #[error("its access control list cannot be read")]
    Acl,
}

/// What an archive cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Oddity {
    /// A device node outside `/dev`.
    #[error("it is a device node")]
    Device,
    /// A whiteout. The tree is a bare layer, not a merged view.
    #[error("it is a whiteout of an overlay; pack the merged view instead")]
    Whiteout,
    #[error("it is a socket")]
    Socket,
    /// The file changed while it was read.
    #[error("it changed while it was read")]
    Changed,
    /// In an OCI image this name of a layer's file means a removal.
    #[error("its name begins with `.wh.`, which marks a removal in OCI images")]
    RemovalMark,
}
