//! Whether an archive's owners fit into a short id map: asked before the first file is made, since unpacking would fail half-way.

use std::fs::File;
use std::io::{self, BufRead, Seek as _};

use super::decode;
use super::error::{Error, Result};
use super::member::{Limits, Members};
use crate::sandbox::idmap::{COMFORTABLE_COUNT, Parent};

/// Reads through the archive if this namespace has fewer ids than a Gentoo system wants. That costs one more decompression.
///
/// # Errors
///
/// [`Error::Owners`] with the highest ids of the archive, and whatever is wrong with the archive.
pub(super) fn check(archive: &File, threads: u32, limits: &Limits) -> Result<()> {
    let ids = Parent::read("/proc".as_ref());
    if ids.count() >= COMFORTABLE_COUNT {
        return Ok(());
    }
    let file = archive.try_clone().map_err(read_failed)?;
    let mut decoder = decode::open_file(file, threads, &[])?;
    let highest = highest(&mut decoder, limits, &ids.of_session());
    // Ends its thread, which reads the same descriptor.
    drop(decoder.finish());
    let mut archive = archive;
    archive.rewind().map_err(read_failed)?;
    match highest? {
        Some((uid, gid)) => Err(Error::Owners { uid, gid, count: ids.count() }),
        None => Ok(()),
    }
}

fn read_failed(source: io::Error) -> Error {
    Error::Read { offset: 0, source }
}

/// The highest user and group id, if there is an owner that `ids` do not have.
fn highest(input: impl BufRead, limits: &Limits, ids: &Parent) -> Result<Option<(u32, u32)>> {
    let mut members = Members::new(input, limits.clone());
    let (mut uid, mut gid, mut fits) = (0, 0, true);
    while let Some(member) = members.next_member()? {
        (uid, gid) = (uid.max(member.uid), gid.max(member.gid));
        fits &= ids.has_owner(member.uid, member.gid);
    }
    members.drain()?;
    Ok((!fits).then_some((uid, gid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(owners: &[(u64, u64)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (number, (uid, gid)) in owners.iter().enumerate() {
            let mut header = tar::Header::new_ustar();
            header.set_uid(*uid);
            header.set_gid(*gid);
            header.set_size(3);
            header.set_mode(0o644);
            header.set_entry_type(tar::EntryType::Regular);
            builder.append_data(&mut header, format!("file{number}"), &b"abc"[..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn the_highest_owner_is_found_if_one_does_not_fit() {
        let ids = Parent::of("0 100000 1000\n", "0 100000 300\n");
        assert_eq!(ids.count(), 300);
        for (owners, found) in [
            (&[(0, 0), (999, 299), (250, 250)][..], None),
            (&[(0, 0), (250, 300), (7, 7)], Some((250, 300))),
            (&[(65534, 0), (0, 65533)], Some((65534, 65533))),
            (&[], None),
        ] {
            let archive = archive(owners);
            assert_eq!(highest(archive.as_slice(), &Limits::default(), &ids).unwrap(), found, "{owners:?}");
        }
        let error = Error::Owners { uid: 65534, gid: 250, count: 300 }.to_string();
        assert_eq!(error, "the archive has files of user ids up to 65534 and group ids up to 250, and there are only 300 ids here");
    }
}
