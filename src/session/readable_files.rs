//! Directories and files of ours that every user in the session may read.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::path_error::OfFile as _;
use crate::session::{Error, Result};
/// Makes a directory that users other than root can enter inside. Outside, the store keeps others out.
///
/// An existing directory stays as it is. In a resumed session it may belong to another user, like Portage's own directories.
pub(crate) fn create_open(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(Error::io("change the mode of", path)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(Error::io("create", path.to_owned())(source)),
    }
}

/// Writes a file that everybody inside may read.
pub(crate) fn write_public(path: &Path, contents: &[u8], mode: u32) -> Result<()> {
    fs::write(path, contents).map_err(Error::io("write", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::io("change the mode of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_a_resumed_session_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("scratch");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        create_open(&path).unwrap();
        assert_eq!(mode(), 0o755);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        create_open(&path).unwrap();
        assert_eq!(mode(), 0o700);
        assert!(create_open(&path.join("none/such")).is_err());
    }
}
