//! The directory through which a session reaches us.

use std::fs;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::{Result, SCRIPT};
use crate::path_error::PathError;

/// Makes `dir` anew with the script and a socket, and listens on the socket. Programs of any user in the session may ask. The directory
/// is bound into no other session.
pub fn listen(dir: &Path) -> Result<UnixListener> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(PathError::new("remove", dir, error).into()),
        _ => fs::create_dir(dir).map_err(PathError::of("create", dir))?,
    }
    // Connecting to a socket needs write permission on it, and the umask takes that away from others.
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(PathError::of("change the mode of", path))
    };
    mode(dir, 0o755)?;
    let script = dir.join("fetch");
    let written = File::options().write(true).create_new(true).mode(0o755).open(&script);
    written
        .and_then(|mut file| std::io::Write::write_all(&mut file, SCRIPT.as_bytes()))
        .map_err(PathError::of("write", &script))?;
    mode(&script, 0o755)?;
    // The path of a socket has at most 108 bytes (unix(7)), and paths of sessions are long. So it is bound through the directory's
    // descriptor.
    let opened = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let opened = opened.map_err(PathError::of("open", dir))?;
    let socket = dir.join("socket");
    let listener =
        UnixListener::bind(format!("/proc/self/fd/{}/socket", opened.as_raw_fd())).map_err(PathError::of("bind", &socket))?;
    mode(&socket, 0o666)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_long_path_is_no_obstacle_and_what_was_there_goes() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("d".repeat(200)).join("fetch");
        fs::create_dir_all(dir.join("socket")).unwrap();
        let listener = listen(&dir).unwrap();
        assert_eq!(fs::read_to_string(dir.join("fetch")).unwrap(), SCRIPT);
        assert_eq!(fs::metadata(dir.join("socket")).unwrap().permissions().mode() & 0o777, 0o666);
        let fd = File::open(&dir).unwrap();
        UnixStream::connect(format!("/proc/self/fd/{}/socket", fd.as_raw_fd())).unwrap();
        listener.accept().unwrap();
    }
}
