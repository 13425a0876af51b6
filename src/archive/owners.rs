//! Names of owners, from the `/etc/passwd` and `/etc/group` of the packed tree itself.
//!
//! The host's names mean nothing inside, so they are not used. An id without a name is written only as a number.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::BorrowedFd;

use crate::beneath::{self, RootDir};

/// A user database is never larger. The rest of a larger file is ignored.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Length of the name fields of a tar header without their NUL.
const NAME_BYTES_MAX: usize = 31;

/// Names for user and group ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnerNames {
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
}

impl OwnerNames {
    /// Reads the names below `root`. What cannot be read, or is not a name, is left out. 0 is always `root`.
    pub fn read(root: BorrowedFd<'_>) -> Self {
        let mut names = Self { users: table(&inside(root, "etc/passwd")), groups: table(&inside(root, "etc/group")) };
        names.users.insert(0, "root".into());
        names.groups.insert(0, "root".into());
        names
    }

    /// The user's name. Empty if it has none.
    pub fn user(&self, uid: u32) -> &str {
        self.users.get(&uid).map_or("", String::as_str)
    }

    /// The group's name. Empty if it has none.
    pub fn group(&self, gid: u32) -> &str {
        self.groups.get(&gid).map_or("", String::as_str)
    }
}

/// Lines of `name:password:id:…`. The first name of an id counts.
fn table(bytes: &[u8]) -> BTreeMap<u32, String> {
    let mut names = BTreeMap::new();
    for line in String::from_utf8_lossy(bytes).lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(_), Some(id)) = (fields.next(), fields.next(), fields.next())
            && is_name(name)
            && let Ok(id) = id.parse()
        {
            names.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    names
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'$' | b'@'))
}

/// A file's contents, with links resolved as if `root` were `/`. Only a regular file is read: a build may have put anything there.
fn inside(root: BorrowedFd<'_>, path: &str) -> Vec<u8> {
    let read = || -> beneath::Result<Vec<u8>> {
        let file = RootDir::borrowed(root, "")?.follow(path)?;
        let mut bytes = Vec::new();
        let read = file.file.take(FILE_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(|error| beneath::Error::io("read", path, error))?;
        Ok(bytes)
    };
    read().unwrap_or_else(|error| {
        tracing::debug!(%error, path, "owner names are incomplete");
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    #[test]
    fn names_come_from_inside_the_root_only() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::create_dir(root.path().join("db")).unwrap();
        fs::write(
            root.path().join("db/passwd"),
            "root:x:0:0::/root:/bin/sh\nportage:x:250:250::/:\nother:x:250:1::/:\nbad name:x:7:7\n# x\nx:y\nz:x:nine\n\
             an-account-with-31-letters-in-i:x:8:8\nan-account-with-32-letters-in-it:x:9:9\n:x:10:10\n",
        )
        .unwrap();
        symlink("/db/passwd", root.path().join("etc/passwd")).unwrap();
        symlink("../../../../etc/group", root.path().join("etc/group")).unwrap();
        let fd = fs::File::open(root.path()).unwrap();
        let names = OwnerNames::read(fd.as_fd());
        assert_eq!(names.user(250), "portage");
        assert_eq!(names.user(0), "root");
        assert_eq!(names.user(8), "an-account-with-31-letters-in-i");
        for id in [7, 9, 10] {
            assert_eq!(names.user(id), "");
        }
        assert_eq!(names.group(0), "root");
        // The link leads to itself inside the root, not to the host's groups.
        assert_eq!(names.groups.len(), 1);
    }
}
