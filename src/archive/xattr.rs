//! Extended attributes: which ones we restore and write, and in what form.
//!
//! | attribute | coming in | going out |
//! |---|---|---|
//! | `user.*` | set | written |
//! | `security.capability` | set as version 2 (inside the id map the kernel stores version 3) | written as version 2 |
//! | `system.posix_acl_access`, `system.posix_acl_default` | set | written |
//! | `SCHILY.acl.*` (an ACL as text) | converted and set | – |
//! | `user.overlay.*`, `trusted.overlay.*` | dropped: they would speak to our overlay | never written |
//! | the same in an exact layer | refused, but for `user.overlay.opaque` of a directory, which is set | that one written |
//! | `security.selinux` and all else | dropped and counted: they belong to the host's policy | never written |
//!
//! Version 2 of a capability has 20 bytes. Version 3 adds the root id of the namespace that may use it (linux/capability.h).

use super::error::Refusal;
use super::pax::Pax;

pub(super) const CAPABILITY: &[u8] = b"security.capability";
pub(super) const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
pub(super) const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";
/// Set to `y` on a directory of a layer, it hides the contents that lower layers have there (fs/overlayfs, `userxattr`).
pub(super) const OPAQUE: &[u8] = b"user.overlay.opaque";
pub(super) const IS_OPAQUE: &[u8; 1] = b"y";

/// `XATTR_NAME_MAX` and `XATTR_SIZE_MAX` of linux/limits.h.
const NAME_BYTES_MAX: usize = 255;
pub(super) const VALUE_BYTES_MAX: usize = 65536;

const REVISION_MASK: u32 = 0xff00_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;

/// Whether an attribute is restored and written, see the table above.
pub(super) fn travels(name: &[u8]) -> bool {
    (name.starts_with(b"user.") && name != b"user.overlay" && !name.starts_with(b"user.overlay."))
        || [CAPABILITY, ACL_ACCESS, ACL_DEFAULT].contains(&name)
}

/// Whether an attribute tells overlayfs something about a layer.
pub(super) fn speaks_to_overlayfs(name: &[u8]) -> bool {
    [&b"user.overlay"[..], b"trusted.overlay"]
        .iter()
        .any(|prefix| name.strip_prefix(*prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(b".")))
}

/// The attributes that the records ask for, with ACLs converted from text. Refused beyond the kernel's limits and ours.
pub(super) fn gather(pax: &Pax, limit: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Refusal> {
    let mut xattrs = pax.xattrs.clone();
    for (text, name) in [(&pax.acl_access, ACL_ACCESS), (&pax.acl_default, ACL_DEFAULT)] {
        if let Some(text) = text
            && !xattrs.iter().any(|(known, _)| known == name)
        {
            xattrs.push((name.to_vec(), acl_from_text(text).ok_or(Refusal::Acl)?));
        }
    }
    if xattrs.len() > limit || !xattrs.iter().all(is_sane) {
        return Err(Refusal::Xattrs { limit });
    }
    Ok(xattrs)
}

/// Whether a kernel takes an attribute of this name and value.
pub(super) fn is_sane((name, value): &(Vec<u8>, Vec<u8>)) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(&0) && value.len() <= VALUE_BYTES_MAX
}

/// A capability in the form that means the same in every namespace: version 3 loses its root id.
pub(super) fn portable_capability(value: &[u8]) -> Vec<u8> {
    if let Some((magic, rest)) = value.split_first_chunk::<4>() {
        let magic = u32::from_le_bytes(*magic);
        if magic & REVISION_MASK == REVISION_3 && value.len() == 24 {
            let magic = (magic & !REVISION_MASK) | REVISION_2;
            return [&magic.to_le_bytes()[..], &rest[..16]].concat();
        }
    }
    value.to_vec()
}

/// Converts `user::rwx,group::r-x,user:name:r-x:1000,mask::r-x,other::r--` into the kernel's form. A named entry needs a number (star
/// appends one) or the name `root`: before the root file system exists, names mean nothing.
fn acl_from_text(text: &[u8]) -> Option<Vec<u8>> {
    let mut entries = Vec::new();
    for entry in std::str::from_utf8(text).ok()?.split([',', '\n']) {
        let entry = entry.split('#').next()?.trim();
        if entry.is_empty() {
            continue;
        }
        let fields: Vec<&str> = entry.split(':').collect();
        let (&[tag, who, bits] | &[tag, who, bits, _]) = fields.as_slice() else { return None };
        let tag: u16 = match (tag, who.is_empty()) {
            ("user" | "u", true) => 0x01,
            ("user" | "u", false) => 0x02,
            ("group" | "g", true) => 0x04,
            ("group" | "g", false) => 0x08,
            ("mask" | "m", true) => 0x10,
            ("other" | "o", true) => 0x20,
            _ => return None,
        };
        let id = match who {
            "" => u32::MAX,
            "root" => 0,
            _ => fields.get(3).and_then(|n| n.parse().ok()).or_else(|| who.parse().ok())?,
        };
        entries.push((tag, id, permissions(bits)?));
    }
    // The kernel refuses an ACL in any other order.
    entries.sort_unstable();
    let mut out = 2_u32.to_le_bytes().to_vec();
    for (tag, id, perm) in entries {
        out.extend(tag.to_le_bytes());
        out.extend(perm.to_le_bytes());
        out.extend(id.to_le_bytes());
    }
    Some(out)
}

fn permissions(text: &str) -> Option<u16> {
    let bytes = text.as_bytes();
    if bytes.len() != 3 {
        return None;
    }
    let mut bits = 0;
    for (byte, (letter, bit)) in bytes.iter().zip([(b'r', 4), (b'w', 2), (b'x', 1)]) {
        match byte {
            b if *b == letter => bits |= bit,
            b'-' => {}
            _ => return None,
        }
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlay_and_host_attributes_stay_behind() {
        for name in ["user.mime_type", "user.overlayish", "user.pax.flags", "security.capability", "system.posix_acl_access"] {
            assert!(travels(name.as_bytes()), "{name}");
        }
        for name in [
            "user.overlay.opaque",
            "user.overlay.origin",
            "user.overlay",
            "trusted.overlay.opaque",
            "trusted.x",
            "security.selinux",
            "security.ima",
            "",
            "user",
        ] {
            assert!(!travels(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn what_overlayfs_listens_to() {
        for name in ["user.overlay", "user.overlay.opaque", "user.overlay.redirect", "trusted.overlay.metacopy"] {
            assert!(speaks_to_overlayfs(name.as_bytes()) && !travels(name.as_bytes()), "{name}");
        }
        assert!(!speaks_to_overlayfs(b"user.overlayish") && !speaks_to_overlayfs(b"user.note"));
    }

    #[test]
    fn version_3_capabilities_lose_their_root_id() {
        // cap_net_raw=ep, as `setcap` writes it inside and outside of a namespace.
        let v2 = hex::decode("0100000200200000000000000000000000000000").unwrap();
        let v3 = hex::decode("0100000300200000000000000000000000000000a0860100").unwrap();
        assert_eq!(portable_capability(&v3), v2);
        assert_eq!(portable_capability(&v2), v2);
        // Of another length than its version has, it is nothing that we understand.
        let longer_v2 = [&v2[..], &[0; 4]].concat();
        for as_it_is in [b"x", &v3[..4], &v3[..20], &longer_v2] {
            assert_eq!(portable_capability(as_it_is), as_it_is);
        }
    }

    #[test]
    fn acl_text_becomes_the_kernels_form() {
        let kernel = acl_from_text(b"user::rwx,group::r-x,other::r--,user:portage:r-x:250,mask::r-x\n").unwrap();
        let expected = "02000000\
            01000700ffffffff\
            02000500fa000000\
            04000500ffffffff\
            10000500ffffffff\
            20000400ffffffff";
        assert_eq!(hex::encode(kernel), expected);
        for bad in ["user:lisa:rwx", "user::rw", "user::rwz", "king::rwx", "user", "other:x:rwx"] {
            assert_eq!(acl_from_text(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn too_many_or_too_large_attributes_are_refused() {
        let mut pax = Pax::default();
        pax.xattrs.push((b"user.a".to_vec(), vec![0; VALUE_BYTES_MAX + 1]));
        assert!(matches!(gather(&pax, 10), Err(Refusal::Xattrs { limit: 10 })));
        pax.xattrs[0].1.truncate(5);
        assert!(gather(&pax, 1).is_ok());
        assert!(gather(&pax, 0).is_err());
        for name in [&b"user.a\0b"[..], b"", &[b'n'; NAME_BYTES_MAX + 1]] {
            pax.xattrs[0].0 = name.to_vec();
            assert!(gather(&pax, 1).is_err(), "{name:?}");
        }
        pax.xattrs[0].0 = vec![b'n'; NAME_BYTES_MAX];
        assert!(gather(&pax, 1).is_ok());
    }
}
