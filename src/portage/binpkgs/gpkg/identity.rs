//! Which package a container holds, by its own metadata. Whoever takes one from elsewhere compares that with what it was said to be.

use std::fs::File;
use std::io::Read as _;

use tar::{Archive, EntryType};

use super::members::Members;
use super::{Problem, Refusal};
use crate::portage::binpkgs::contents::unpacked;

/// A category or a name with version is shorter.
const MAX_VALUE_BYTES: u64 = 1024;
/// The ebuild and the environment are the largest parts.
const MAX_METADATA_BYTES: u64 = 64 << 20;
const METADATA: &str = "metadata.tar";

/// A package by name, version and repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `category/name-version`.
    pub(crate) cpv: String,
    pub(crate) repository: String,
}

/// Reads it from the container. Nothing but its metadata is unpacked.
pub(crate) fn identity(package: &File) -> Result<Identity, Refusal> {
    let members = Members::of(package)?;
    let is_metadata = |name: &str| name.strip_prefix(METADATA).is_some_and(|rest| rest.is_empty() || is_extension(rest));
    let mut found = members.all.iter().filter(|member| is_metadata(&member.name));
    let member = found.next().ok_or_else(|| Problem::Missing(METADATA.to_owned()))?;
    // Portage could read another one than we do.
    if let Some(other) = found.next() {
        return Err(Problem::Member(other.name.clone()).into());
    }
    let extension = &member.name.as_bytes()[METADATA.len()..];
    let odd = || Refusal::from(Problem::Member(member.name.clone()));
    let reader = unpacked(extension, member.reader(package))?.ok_or_else(odd)?;
    let (mut category, mut name, mut repository) = (None, None, None);
    for entry in Archive::new(reader.take(MAX_METADATA_BYTES)).entries()?.raw(true) {
        let entry = entry?;
        // An extended header gives the next member another name for Portage. It writes none here.
        if entry.header().entry_type() != EntryType::Regular {
            return Err(odd());
        }
        let value = match &*entry.path_bytes() {
            b"metadata/CATEGORY" => &mut category,
            b"metadata/PF" => &mut name,
            b"metadata/repository" => &mut repository,
            _ => continue,
        };
        let mut text = String::new();
        entry.take(MAX_VALUE_BYTES).read_to_string(&mut text)?;
        // Portage's tar could hold the same name twice, and the last one would count.
        if value.replace(text.trim().to_owned()).is_some() {
            return Err(odd());
        }
    }
    let (Some(category), Some(name)) = (category, name) else { return Err(odd()) };
    Ok(Identity { cpv: format!("{category}/{name}"), repository: repository.unwrap_or_default() })
}

fn is_extension(text: &str) -> bool {
    text.len() > 1 && text.starts_with('.') && !text.ends_with(super::SIGNATURE)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, data) in members {
            let mut header = tar::Header::new_ustar();
            header.set_size(data.len() as u64);
            tar.append_data(&mut header, name, *data).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn of(name: &str, metadata: &[u8]) -> Result<Identity, String> {
        let mut file = tempfile::tempfile().unwrap();
        let container = [("p/gpkg-1", &b""[..]), (name, metadata), ("p/metadata.tar.sig", b"x"), ("p/Manifest", b"")];
        file.write_all(&tar(&container)).unwrap();
        identity(&file).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn what_its_metadata_say() {
        let metadata = tar(&[
            ("metadata/repository", b"gentoo\n"),
            ("metadata/PF", b"hello-2.10"),
            ("metadata/SLOT", b"0"),
            ("metadata/CATEGORY", b"app-misc\n"),
        ]);
        let hello = Identity { cpv: "app-misc/hello-2.10".to_owned(), repository: "gentoo".to_owned() };
        assert_eq!(of("p/metadata.tar", &metadata), Ok(hello.clone()));
        assert_eq!(of("p/metadata.tar.zst", &zstd::encode_all(&metadata[..], 1).unwrap()), Ok(hello));
        assert_eq!(of("p/metadata.tar.lz", &metadata).unwrap_err(), "`metadata.tar.lz` in it is not a part of a package");
        assert_eq!(of("p/image.tar", &metadata).unwrap_err(), "`metadata.tar` is missing from it");
        of("p/metadata.tar.zst", &metadata).unwrap_err();
        let twice = tar(&[("metadata/PF", b"a-1"), ("metadata/CATEGORY", b"a"), ("metadata/PF", b"b-1")]);
        let mut extended = tar::Builder::new(Vec::new());
        extended.append_pax_extensions([("path", &b"metadata/PF"[..])]).unwrap();
        let mut extended = extended.into_inner().unwrap();
        extended.truncate(extended.len() - 1024);
        extended.extend(&metadata);
        for odd in [&twice[..], &extended, &tar(&[("metadata/PF", b"a-1")])] {
            assert_eq!(of("p/metadata.tar", odd).unwrap_err(), "`metadata.tar` in it is not a part of a package");
        }
    }
}
