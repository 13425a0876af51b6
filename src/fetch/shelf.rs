//! A directory of verified files, which several processes and sessions share.
//!
//! ```text
//! NAME                        never replaced, whoever put it there
//! by-content/HASH/NAME        another file of the same name
//! .incoming/HASH/NAME.part    a file on its way; the directory is locked while somebody works on it
//! ```
//!
//! A file is given out only after its hashes were compared with a Manifest's. That result holds as long as the kernel says that the file
//! is the same and unchanged. A new file gets its name by a rename that replaces nothing.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{fs, io};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use super::Result;
use crate::beneath::TreeDir;
use crate::path_error::PathError;
use crate::portage::manifest::Expected;
use crate::{beneath, durable};

/// Where files lie whose name is taken by another file.
pub(crate) const BY_CONTENT: &str = "by-content";
/// Where incomplete files lie.
pub(crate) const INCOMING: &str = ".incoming";
/// How much must stay free on the disk, so that a session that asks for everything does not fill it.
const RESERVE_BYTES: u64 = 256 << 20;
/// After copying this much we check whether to go on.
const PIECE_BYTES: u64 = 4 << 20;
/// How often we try to get a lock.
const TICK: Duration = Duration::from_millis(100);

/// Why a file cannot be found on the shelf or put there.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShelfError {
    /// Something that is not a file has its name.
    #[error("`{}` is {kind}, but should be a source archive; move it away", path.display())]
    Obstacle {
        path: PathBuf,
        /// With its article, for the message.
        kind: &'static str,
    },
    #[error(transparent)]
    Beneath(#[from] beneath::Error),
    #[error(transparent)]
    Io(#[from] PathError),
    /// The disk would be full.
    #[error("`{}` has no space for {bytes} bytes; {} MiB must stay free", path.display(), RESERVE_BYTES >> 20)]
    Space {
        path: PathBuf,
        /// The file's size.
        bytes: u64,
    },
    /// The user wants to stop.
    #[error("interrupted")]
    Interrupted,
}

type Outcome<T> = std::result::Result<T, ShelfError>;

/// What the kernel says about a file that was verified. As long as it says the same, the file is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Verified {
    dev: u64,
    ino: u64,
    size: u64,
    // The time of change, too: a program can set the time of modification, but not this one.
    modified: (i64, i64),
    changed: (i64, i64),
    hash: String,
}

#[derive(Debug)]
pub(super) struct Shelf {
    path: PathBuf,
    dir: TreeDir,
    verified: Mutex<BTreeSet<Verified>>,
}

/// Lets users of a session other than its root open files below, whatever the umask. The directories above keep other users of this
/// machine out.
fn let_pass(dir: &Path) -> io::Result<()> {
    let mode = fs::metadata(dir)?.permissions().mode() & 0o7777;
    if mode & 0o011 == 0o011 { Ok(()) } else { fs::set_permissions(dir, fs::Permissions::from_mode(mode | 0o011)) }
}

impl Shelf {
    /// Opens a directory and makes it if it is missing. It may be a link, since the user chose it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(PathError::of("create", path))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(PathError::of("open", path))?;
        if let Err(error) = let_pass(path) {
            // It belongs to another user, who decides about its mode.
            tracing::debug!(path = %path.display(), %error, "the mode stays");
        }
        Ok(Self { path: path.to_owned(), dir: TreeDir::from_fd(fd, path), verified: Mutex::default() })
    }

    /// The path of a verified file below the directory. `None` if it is not here.
    pub(super) fn find(&self, name: &str, expected: &Expected) -> Outcome<Option<String>> {
        for place in [name.to_owned(), by_content(name, expected)] {
            if self.is_right(&place, expected)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Whether exactly this file is there.
    pub(super) fn is_right(&self, place: &str, expected: &Expected) -> Outcome<bool> {
        let kind = match self.dir.kind(place)? {
            None => return Ok(false),
            Some(FileType::RegularFile) => None,
            Some(FileType::Directory) => Some("a directory"),
            Some(FileType::Symlink) => Some("a symbolic link"),
            Some(FileType::Fifo) => Some("a named pipe"),
            Some(FileType::Socket) => Some("a socket"),
            Some(_) => Some("a device"),
        };
        let path = || self.path.join(place);
        if let Some(kind) = kind {
            return Err(ShelfError::Obstacle { path: path(), kind });
        }
        let plain = self.dir.open_file(place)?;
        if plain.size() != expected.size {
            return Ok(false);
        }
        let file = plain.file;
        let io = |action| PathError::of(action, self.path.join(place));
        let meta = file.metadata().map_err(io("examine"))?;
        let mode = meta.permissions().mode() & 0o7777;
        // Users of the session are not its owner, so everybody must be able to read it. If another user owns it, we cannot change that.
        if mode & 0o7444 != 0o444 && rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o777 | 0o444)).is_err() {
            tracing::debug!(path = %path().display(), mode, "the mode stays");
        }
        let known = Verified::of(&file.metadata().map_err(io("examine"))?, expected);
        if self.verified.lock().unwrap_or_else(PoisonError::into_inner).contains(&known) {
            return Ok(true);
        }
        let same = expected.difference(&file).map_err(io("read"))?.is_none();
        // If the file was written to while we read it, the result means nothing.
        if same && Verified::of(&file.metadata().map_err(io("examine"))?, expected) == known {
            self.remember(known);
            return Ok(true);
        }
        Ok(false)
    }

    /// A file that [`find`](Self::find) has found.
    pub(super) fn open_found(&self, place: &str) -> Outcome<File> {
        Ok(self.dir.open_file(place)?.file)
    }

    fn remember(&self, verified: Verified) {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).insert(verified);
    }

    /// Writes a file of our own, in place of an older one.
    pub(super) fn put(&self, name: &str, contents: &[u8]) -> Outcome<String> {
        durable::replace(&self.path.join(name), contents, durable::Mode::Exactly(0o644))?;
        Ok(name.to_owned())
    }

    /// A locked directory for a file that is to be fetched. Waits while another process or session fetches the same file.
    pub(super) fn incoming(&self, name: &str, expected: &Expected, cancelled: &dyn Fn() -> bool) -> Outcome<Incoming<'_>> {
        let free = rustix::fs::fstatvfs(self.dir.as_fd()).map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize));
        if free.is_ok_and(|free| free < expected.size.saturating_add(RESERVE_BYTES)) {
            return Err(ShelfError::Space { path: self.path.clone(), bytes: expected.size });
        }
        let dir = self.path.join(INCOMING).join(short(expected));
        loop {
            let io = |action| PathError::of(action, &dir);
            fs::create_dir_all(&dir).map_err(io("create"))?;
            let lock = File::open(&dir).map_err(io("open"))?;
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) if cancelled() => return Err(ShelfError::Interrupted),
                // Polled rather than waited for: a blocking `flock` cannot be cancelled.
                Err(Errno::WOULDBLOCK) => {
                    std::thread::sleep(TICK);
                    continue;
                }
                Err(errno) => return Err(PathError::new("lock", &dir, errno).into()),
            }
            let held = lock.metadata().map_err(io("examine"))?;
            let there = fs::symlink_metadata(&dir);
            if there.is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino())) {
                return Ok(Incoming { shelf: self, dir, name: name.to_owned(), expected: expected.clone(), _lock: lock });
            }
            // Another process had the lock, finished, and removed the directory. Our lock is on a directory without a name.
        }
    }
}

#[derive(Debug)]
pub(super) struct Incoming<'a> {
    shelf: &'a Shelf,
    dir: PathBuf,
    name: String,
    expected: Expected,
    _lock: File,
}

impl Incoming<'_> {
    pub(super) fn target(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    /// Copies `from` there, but at most one byte more than the expected size. After each piece `go_on` says whether to go on.
    pub(super) fn fill(&self, from: impl Read, mut go_on: impl FnMut(u64) -> bool) -> Outcome<()> {
        let io = |action| PathError::of(action, self.target());
        let mut target = File::create(self.target()).map_err(io("create"))?;
        let mut from = from.take(self.expected.size.saturating_add(1));
        let mut copied = 0;
        loop {
            let piece = io::copy(&mut from.by_ref().take(PIECE_BYTES), &mut target).map_err(io("write"))?;
            copied += piece;
            if !go_on(copied) {
                return Err(ShelfError::Interrupted);
            }
            if piece == 0 {
                return Ok(());
            }
        }
    }

    /// What has come so far.
    pub(super) fn open(&self) -> Outcome<File> {
        let target = self.target();
        Ok(File::open(&target).map_err(PathError::of("open", &target))?)
    }

    /// Whether what was downloaded is the right file. If not, it is removed.
    pub(super) fn verify(&self) -> Outcome<bool> {
        let target = self.target();
        let io = |action| PathError::of(action, self.target());
        let file = self.open()?;
        if self.expected.difference(&file).map_err(io("read"))?.is_none() {
            return Ok(true);
        }
        fs::remove_file(&target).map_err(io("remove"))?;
        Ok(false)
    }

    /// Moves the verified file to its place and returns that place.
    pub(super) fn publish(self) -> Outcome<String> {
        let target = self.target();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o644)).map_err(PathError::of("change the mode of", &target))?;
        let aside = by_content(&self.name, &self.expected);
        let own_name = (!is_reserved(&self.name)).then(|| self.name.clone());
        for place in own_name.into_iter().chain([aside.clone()]) {
            let path = self.shelf.path.join(&place);
            let parents = path.ancestors().skip(1).take_while(|parent| *parent != self.shelf.path);
            for parent in parents.collect::<Vec<_>>().into_iter().rev() {
                durable::make_dirs(parent, durable::Mode::AtMost(0o777))?;
                let_pass(parent).map_err(PathError::of("change the mode of", parent))?;
            }
            match durable::publish_new(&target, &path) {
                Ok(()) => return self.published(place),
                Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => {
                    if self.shelf.is_right(&place, &self.expected)? {
                        self.clear();
                        return Ok(place);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        // In a directory named by the hash lies a file with another hash. It is damaged, so it may be replaced.
        let path = self.shelf.path.join(&aside);
        durable::publish(&target, &path)?;
        self.published(aside)
    }

    fn published(&self, place: String) -> Outcome<String> {
        let path = self.shelf.path.join(&place);
        let io = |action| PathError::of(action, &path);
        let meta = File::open(&path).map_err(io("open"))?.metadata().map_err(io("examine"))?;
        self.shelf.remember(Verified::of(&meta, &self.expected));
        self.clear();
        Ok(place)
    }

    /// Removes the incomplete file and its directory. The directory is locked, so nobody else uses it.
    pub(super) fn clear(&self) {
        for suffix in ["", ".part", ".part.json"] {
            // If something cannot be removed, the next download finds it and goes on with it.
            drop(fs::remove_file(self.dir.join(format!("{}{suffix}", self.name))));
        }
        drop(fs::remove_dir(&self.dir));
    }
}

impl Verified {
    fn of(meta: &fs::Metadata, expected: &Expected) -> Self {
        Self {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            hash: hash_of(expected).to_owned(),
        }
    }
}

/// The hash that stands for a file. Empty if the Manifest has none.
pub(super) fn hash_of(expected: &Expected) -> &str {
    expected.hashes.values().next().map_or("", String::as_str)
}

/// As much of the hash as a directory's name needs.
fn short(expected: &Expected) -> String {
    let hash: String = hash_of(expected).chars().filter(char::is_ascii_hexdigit).take(64).collect();
    if hash.is_empty() { format!("size-{}", expected.size) } else { hash }
}

fn by_content(name: &str, expected: &Expected) -> String {
    format!("{BY_CONTENT}/{}/{name}", short(expected))
}

/// Names that mean something else in a directory of source archives: Portage reads `layout.conf`, and we have `by-content`.
fn is_reserved(name: &str) -> bool {
    name.starts_with('.') || matches!(name, "layout.conf" | BY_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage3::hashing::Hasher;

    fn expected(contents: &[u8]) -> Expected {
        let mut hasher = Hasher::sha512();
        hasher.update(contents);
        Expected { size: contents.len() as u64, hashes: [("SHA512", hasher.hex())].into() }
    }

    struct Desk {
        dir: tempfile::TempDir,
        shelf: Shelf,
    }

    impl Desk {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let shelf = Shelf::open(&dir.path().join("distfiles")).unwrap();
            Self { dir, shelf }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join("distfiles").join(name)
        }

        fn bring(&self, name: &str, contents: &[u8]) -> Outcome<String> {
            let incoming = self.shelf.incoming(name, &expected(contents), &|| false)?;
            fs::write(incoming.target(), contents).unwrap();
            assert!(incoming.verify()?);
            incoming.publish()
        }
    }

    #[test]
    fn nobodys_bytes_change() {
        let desk = Desk::new();
        fs::write(desk.path("a"), "the user's").unwrap();
        assert_eq!(desk.shelf.find("a", &expected(b"ours")).unwrap(), None);
        let place = desk.bring("a", b"ours").unwrap();
        assert_eq!(place, by_content("a", &expected(b"ours")));
        assert_eq!(desk.bring("a", b"third").unwrap(), by_content("a", &expected(b"third")));
        assert_eq!(desk.shelf.find("a", &expected(b"ours")).unwrap(), Some(place.clone()));
        assert_eq!(desk.shelf.find("a", &expected(b"the user's")).unwrap(), Some("a".to_owned()));
        assert_eq!(
            (fs::read(desk.path("a")).unwrap(), fs::read(desk.path(&place)).unwrap()),
            (b"the user's".to_vec(), b"ours".to_vec())
        );
        assert_eq!(desk.bring("b", b"ours").unwrap(), "b");
        // Twice the same is once the same.
        assert_eq!(desk.bring("b", b"ours").unwrap(), "b");
        assert_eq!(fs::metadata(desk.path("b")).unwrap().permissions().mode() & 0o7777, 0o644);
        // Of two damaged ones, ours is replaced.
        fs::write(desk.path(&place), "damaged").unwrap();
        assert_eq!(desk.bring("a", b"ours").unwrap(), place);
        assert_eq!(
            (fs::read(desk.path("a")).unwrap(), fs::read(desk.path(&place)).unwrap()),
            (b"the user's".to_vec(), b"ours".to_vec())
        );
        assert_eq!(fs::read_dir(desk.path(INCOMING)).unwrap().count(), 0);
    }

    #[test]
    fn what_means_something_to_portage_is_kept_apart() {
        let desk = Desk::new();
        for name in ["layout.conf", ".hidden"] {
            assert!(desk.bring(name, b"x").unwrap().starts_with("by-content/"), "{name}");
            assert!(!desk.path(name).exists());
        }
    }

    #[test]
    fn obstacles_are_named_and_not_opened() {
        let desk = Desk::new();
        fs::create_dir(desk.path("dir")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", desk.path("link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, desk.path("fifo"), Mode::RWXU).unwrap();
        drop(std::os::unix::net::UnixListener::bind(desk.path("sock")).unwrap());
        for (name, kind) in [("dir", "a directory"), ("link", "a symbolic link"), ("fifo", "a named pipe"), ("sock", "a socket")] {
            let message = format!("`{}` is {kind}, but should be a source archive; move it away", desk.path(name).display());
            assert_eq!(desk.shelf.find(name, &expected(b"x")).unwrap_err().to_string(), message);
            assert_eq!(desk.bring(name, b"x").unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_file_that_changes_is_read_again() {
        let desk = Desk::new();
        let find = || desk.shelf.find("a", &expected(b"abc")).unwrap();
        fs::write(desk.path("a"), "abc").unwrap();
        assert_eq!(find(), Some("a".to_owned()));
        assert_eq!(desk.shelf.verified.lock().unwrap().len(), 1);
        let before = fs::metadata(desk.path("a")).unwrap();
        fs::write(desk.path("a"), "abd").unwrap();
        let again = File::options().write(true).open(desk.path("a")).unwrap();
        again.set_times(fs::FileTimes::new().set_modified(before.modified().unwrap())).unwrap();
        assert_eq!(find(), None);
    }

    #[test]
    fn users_of_a_session_can_read_what_is_there() {
        let desk = Desk::new();
        fs::write(desk.path("a"), "abc").unwrap();
        fs::set_permissions(desk.path("a"), fs::Permissions::from_mode(0o4700)).unwrap();
        desk.shelf.find("a", &expected(b"abc")).unwrap().unwrap();
        assert_eq!(fs::metadata(desk.path("a")).unwrap().permissions().mode() & 0o7777, 0o744);
    }

    #[test]
    fn one_at_a_time() {
        let desk = Desk::new();
        let first = desk.shelf.incoming("a", &expected(b"abc"), &|| false).unwrap();
        let second = desk.shelf.incoming("a", &expected(b"abc"), &|| true);
        assert!(matches!(second, Err(ShelfError::Interrupted)));
        assert!(desk.shelf.incoming("a", &expected(b"abd"), &|| true).is_ok());
        fs::write(first.target(), "abd").unwrap();
        assert!(!first.verify().unwrap());
        assert!(!first.target().exists());
        fs::write(first.target(), "abc").unwrap();
        let waiting = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| desk.shelf.incoming("a", &expected(b"abc"), &|| false).unwrap().clear());
            assert_eq!(first.publish().unwrap(), "a");
            waiting.join().unwrap();
            desk.shelf.find("a", &expected(b"abc")).unwrap()
        });
        assert_eq!(waiting, Some("a".to_owned()));
    }

    #[test]
    fn what_is_published_is_on_the_disk() {
        let desk = Desk::new();
        let (place, calls) = durable::tests::calls(&desk.dir.path().join("distfiles"), || desk.bring("a", b"ours"));
        assert_eq!(place.unwrap(), "a");
        let names: Vec<&str> = calls.iter().filter_map(|call| call.split_once(' ')).map(|(call, _)| call).collect();
        assert_eq!(names, ["fsync", "rename", "fsync", "fsync"], "{calls:?}");
        assert_eq!(calls[1..3], ["rename a", "fsync ."], "{calls:?}");
        fs::write(desk.path("b"), "the user's").unwrap();
        let (place, calls) = durable::tests::calls(&desk.dir.path().join("distfiles"), || desk.bring("b", b"ours"));
        let place = place.unwrap();
        let dir = Path::new(&place).parent().unwrap().display();
        // The new directory as well, before anything is in it.
        let made =
            calls.iter().position(|call| *call == format!("fsync {}", Path::new(&place).ancestors().nth(2).unwrap().display()));
        let renamed = calls.iter().position(|call| *call == format!("rename {place}"));
        assert!(made.is_some() && made < renamed, "{calls:?}");
        assert_eq!(calls[renamed.unwrap() + 1], format!("fsync {dir}"), "{calls:?}");
        let (put, calls) = durable::tests::calls(&desk.dir.path().join("distfiles"), || desk.shelf.put("layout.conf", b"x"));
        put.unwrap();
        assert_eq!(calls, ["fsync layout.conf", "rename layout.conf", "fsync ."]);
    }

    #[test]
    fn a_full_disk_is_named() {
        let desk = Desk::new();
        let huge = Expected { size: u64::MAX - RESERVE_BYTES, ..expected(b"x") };
        let error = desk.shelf.incoming("a", &huge, &|| false).unwrap_err().to_string();
        assert!(error.ends_with("distfiles` has no space for 18446744073441116159 bytes; 256 MiB must stay free"), "{error}");
    }
}
