//! Extended headers (POSIX.1-2001 "pax"): records `LENGTH KEYWORD=VALUE\n`, where LENGTH counts the whole record.
//!
//! Values may hold any byte, newlines included, so a record ends where its length says and must have its newline there; anything
//! else is damage. Keywords that only describe how the archive came about (`comment`, `atime`, `LIBARCHIVE.creationtime`, …) are
//! skipped. Sources: POSIX pax(1), "pax Extended Header"; GNU tar manual, "Storing Sparse Files"; star(5) for `SCHILY.*`;
//! libarchive's tar(5) for `LIBARCHIVE.xattr.*`.

use super::error::Damage;
use super::member::Time;
use super::sparse::Extent;

/// What the records before one entry say about it. An absent record leaves the header's own field in force.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) user: Option<Vec<u8>>,
    pub(super) group: Option<Vec<u8>>,
    pub(super) mtime: Option<Time>,
    /// Name and value of each extended attribute, in the order of the records.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// `SCHILY.acl.access` and `SCHILY.acl.default`: access control lists as text.
    pub(super) acl_access: Option<Vec<u8>>,
    pub(super) acl_default: Option<Vec<u8>>,
    pub(super) sparse: SparseRecords,
}

/// GNU's three ways to describe holes in PAX records.
#[derive(Debug, Default)]
pub(super) struct SparseRecords {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    /// The file's real name; `path` is made up for readers that know nothing of holes.
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    /// Version 0.0 repeats `offset` and `numbytes`; 0.1 has them all in `map`.
    pub(super) extents: Option<Vec<Extent>>,
    offset: Option<u64>,
}

impl Pax {
    /// Reads all records of one local extended header.
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, Damage> {
        let mut pax = Self::default();
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes)?;
            pax.take(key, value)?;
            bytes = rest;
        }
        if pax.sparse.offset.is_some() {
            return Err(Damage::PaxValue("GNU.sparse.numbytes"));
        }
        Ok(pax)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Damage> {
        // An empty value takes back an earlier record.
        let text = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.link_path = text(),
            b"size" => self.size = optional(value, number, "size")?,
            b"uid" => self.uid = optional(value, number, "uid")?,
            b"gid" => self.gid = optional(value, number, "gid")?,
            b"uname" => self.user = text(),
            b"gname" => self.group = text(),
            b"mtime" => self.mtime = optional(value, Time::parse, "mtime")?,
            b"SCHILY.acl.access" => self.acl_access = text(),
            b"SCHILY.acl.default" => self.acl_default = text(),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.set_xattr(percent_decode(name), value.to_vec(), true);
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    let value = base64(value).ok_or(Damage::PaxValue("LIBARCHIVE.xattr"))?;
                    self.set_xattr(percent_decode(name), value, false);
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.take(key, value)?;
                }
            }
        }
        Ok(())
    }

    /// libarchive writes each attribute twice; the raw form wins.
    fn set_xattr(&mut self, name: Vec<u8>, value: Vec<u8>, raw: bool) {
        match self.xattrs.iter_mut().find(|(known, _)| *known == name) {
            Some(known) if raw => known.1 = value,
            Some(_) => {}
            None => self.xattrs.push((name, value)),
        }
    }
}

impl SparseRecords {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Damage> {
        let numeric = |name| number(value).ok_or(Damage::PaxValue(name));
        match key {
            b"major" => self.major = Some(numeric("GNU.sparse.major")?),
            b"minor" => self.minor = Some(numeric("GNU.sparse.minor")?),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.real_size = Some(numeric("GNU.sparse.size")?),
            // Only an announcement; the records are counted as they come.
            b"numblocks" => {
                numeric("GNU.sparse.numblocks")?;
                self.extents.get_or_insert_default();
            }
            b"offset" => {
                let offset = numeric("GNU.sparse.offset")?;
                if self.offset.replace(offset).is_some() {
                    return Err(Damage::PaxValue("GNU.sparse.offset"));
                }
            }
            b"numbytes" => {
                let len = numeric("GNU.sparse.numbytes")?;
                let offset = self.offset.take().ok_or(Damage::PaxValue("GNU.sparse.numbytes"))?;
                self.extents.get_or_insert_default().push(Extent { offset, len });
            }
            b"map" => self.extents = Some(map_list(value).ok_or(Damage::PaxValue("GNU.sparse.map"))?),
            _ => {}
        }
        Ok(())
    }
}

/// Splits the first record off: keyword, value, rest.
pub(super) fn record(bytes: &[u8]) -> Result<(&[u8], &[u8], &[u8]), Damage> {
    let space = bytes.iter().take(20).position(|b| *b == b' ').ok_or(Damage::PaxRecord)?;
    let len = number(&bytes[..space]).and_then(|n| usize::try_from(n).ok()).ok_or(Damage::PaxRecord)?;
    // The shortest body is `=` and a newline.
    if len > bytes.len() || len < space + 3 || bytes[len - 1] != b'\n' {
        return Err(Damage::PaxRecord);
    }
    let body = &bytes[space + 1..len - 1];
    let equals = body.iter().position(|b| *b == b'=').filter(|n| *n > 0).ok_or(Damage::PaxRecord)?;
    Ok((&body[..equals], &body[equals + 1..], &bytes[len..]))
}

/// A decimal number of digits only.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |n, digit| match digit {
        b'0'..=b'9' => n.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

fn optional<T>(value: &[u8], parse: impl Fn(&[u8]) -> Option<T>, name: &'static str) -> Result<Option<T>, Damage> {
    if value.is_empty() { Ok(None) } else { parse(value).map(Some).ok_or(Damage::PaxValue(name)) }
}

/// `offset,numbytes,offset,numbytes,…` of version 0.1.
fn map_list(value: &[u8]) -> Option<Vec<Extent>> {
    let mut extents = Vec::new();
    if value.is_empty() {
        return Some(extents);
    }
    let mut numbers = value.split(|b| *b == b',').map(number);
    while let Some(offset) = numbers.next() {
        extents.push(Extent { offset: offset?, len: numbers.next()?? });
    }
    Some(extents)
}

/// `%3D` and its like, which stand for bytes that a keyword cannot hold. A `%` that starts no such sequence is itself.
fn percent_decode(name: &[u8]) -> Vec<u8> {
    let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut out = Vec::with_capacity(name.len());
    let mut i = 0;
    while i < name.len() {
        if name[i] == b'%'
            && let (Some(high), Some(low)) = (name.get(i + 1).copied().and_then(hex), name.get(i + 2).copied().and_then(hex))
        {
            out.push(high << 4 | low);
            i += 3;
        } else {
            out.push(name[i]);
            i += 1;
        }
    }
    out
}

/// Decodes base64 with or without padding.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let mut bits = 0_u32;
    let mut held = 0;
    for byte in text.iter().filter(|b| !matches!(b, b'=' | b'\n')) {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from(bits >> held).ok()?);
            bits &= (1 << held) - 1;
        }
    }
    Some(out)
}

/// Writes one record; its length counts its own digits.
pub(super) fn append_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let body = key.len() + value.len() + 3;
    let mut len = body;
    while len != body + len.to_string().len() {
        len = body + len.to_string().len();
    }
    out.extend_from_slice(len.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rec(key: &str, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        append_record(&mut out, key.as_bytes(), value);
        out
    }

    #[test]
    fn values_may_hold_newlines_and_equal_signs() {
        let mut bytes = rec("path", b"a\nb=c");
        bytes.extend(rec("SCHILY.xattr.user.x%3Dy", b"\0\n\n"));
        bytes.extend(rec("size", b"12"));
        let pax = Pax::parse(&bytes).unwrap();
        assert_eq!(pax.path.unwrap(), b"a\nb=c");
        assert_eq!(pax.size, Some(12));
        assert_eq!(pax.xattrs, [(b"user.x=y".to_vec(), b"\0\n\n".to_vec())]);
    }

    #[test]
    fn the_raw_attribute_wins_over_the_encoded_one() {
        let mut bytes = rec("LIBARCHIVE.xattr.user.a", b"aGVsbG8");
        bytes.extend(rec("SCHILY.xattr.user.a", b"raw"));
        bytes.extend(rec("LIBARCHIVE.xattr.user.b", b"aGVsbG8="));
        let pax = Pax::parse(&bytes).unwrap();
        assert_eq!(pax.xattrs, [(b"user.a".to_vec(), b"raw".to_vec()), (b"user.b".to_vec(), b"hello".to_vec())]);
    }

    #[test]
    fn all_three_sparse_versions_are_understood() {
        let mut old = rec("GNU.sparse.size", b"100");
        old.extend(rec("GNU.sparse.numblocks", b"2"));
        for (offset, len) in [("0", "10"), ("90", "10")] {
            old.extend(rec("GNU.sparse.offset", offset.as_bytes()));
            old.extend(rec("GNU.sparse.numbytes", len.as_bytes()));
        }
        let new = [rec("GNU.sparse.size", b"100"), rec("GNU.sparse.map", b"0,10,90,10")].concat();
        for bytes in [old, new] {
            let sparse = Pax::parse(&bytes).unwrap().sparse;
            assert_eq!(sparse.real_size, Some(100));
            assert_eq!(sparse.extents.unwrap(), [Extent { offset: 0, len: 10 }, Extent { offset: 90, len: 10 }]);
        }
    }

    #[test]
    fn lengths_that_lie_are_damage() {
        for bytes in [
            &b"11 path=abc\n"[..],
            b"13 path=abc\n",
            b"999999999999999999999 path=abc\n",
            b"-12 path=abc\n",
            b"012345678901234567890123456789",
            b"3 \n",
            b"5 =a\n",
            b"4 a\n",
            b"12 path=abcX",
            b"0 path=abc\n",
        ] {
            assert_eq!(Pax::parse(bytes).unwrap_err(), Damage::PaxRecord, "{}", bytes.escape_ascii());
        }
        for (key, value) in
            [("size", "-1"), ("size", "99999999999999999999"), ("uid", "root"), ("mtime", "noon"), ("GNU.sparse.map", "1")]
        {
            let error = Pax::parse(&rec(key, value.as_bytes())).unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
    }
}
