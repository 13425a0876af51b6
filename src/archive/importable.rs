//! What an importer refuses is not packed as an exact layer: it could be published, and never taken.

use super::error::Refusal;
use super::member::{Kind, Limits};
use super::{name, xattr};

/// Refuses an entry as the importer would. `headers` is how many bytes describe it.
pub(super) fn check(
    limits: &Limits,
    path: &[u8],
    kind: &Kind,
    xattrs: &[(Vec<u8>, Vec<u8>)],
    headers: usize,
) -> Result<(), Refusal> {
    name::normalise(path, limits.path_bytes, limits.depth)?;
    if matches!(kind, Kind::Symlink(target) if target.len() > limits.path_bytes) {
        return Err(Refusal::SymlinkTarget);
    }
    let fits = xattrs.len() <= limits.xattrs && xattrs.iter().all(xattr::is_sane) && headers as u64 <= limits.extension_bytes;
    if fits { Ok(()) } else { Err(Refusal::Xattrs { limit: limits.xattrs }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_the_importer() {
        let limits = Limits::default();
        let refused = |path: &[u8], kind: &Kind, xattrs: usize, headers: usize| {
            let xattrs: Vec<_> = (0..xattrs).map(|number| (format!("user.{number}").into_bytes(), Vec::new())).collect();
            check(&limits, path, kind, &xattrs, headers).err().map(|refusal| refusal.to_string())
        };
        assert_eq!(refused(b"./a/", &Kind::Directory, 128, 1 << 20), None);
        let deep = b"a/".repeat(513);
        for (path, kind, xattrs, headers, words) in [
            (&b"./a"[..], Kind::File, 129, 0, "its extended attributes exceed 128"),
            (b"./a", Kind::File, 0, (1 << 20) + 1, "its extended attributes exceed 128"),
            (&deep, Kind::Directory, 0, 0, "it lies deeper than 512 directories"),
            (&b"a".repeat(4001), Kind::Fifo, 0, 0, "its path has 4001 bytes, more than 4000"),
            (b"./a", Kind::Symlink(b"a".repeat(4001)), 0, 0, "it is a symbolic link with an empty, overlong"),
        ] {
            let refused = refused(path, &kind, xattrs, headers).unwrap();
            assert!(refused.starts_with(words), "{refused}");
        }
    }
}
