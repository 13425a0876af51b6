//! Extended headers (POSIX.1-2001 "pax"): records `LENGTH KEYWORD=VALUE\n`, where LENGTH counts the whole record.
//!
//! A value may hold any byte, also newlines. So a record ends where its length says, and there it must have its newline; anything else is
//! damage. Keywords that only describe how the archive was made (`comment`, `atime`, `LIBARCHIVE.creationtime`, …) are skipped. Sources:
//! POSIX pax(1), "pax Extended Header"; GNU tar manual, "Storing Sparse Files"; star(5) for `SCHILY.*`; libarchive's tar(5) for
//! `LIBARCHIVE.xattr.*`.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use percent_encoding::percent_decode;

use super::error::Damage;

use super::pax;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true),
);

/// What the records before one entry say about it. If a record is missing, the header's own field counts.
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
    /// `SCHILY.acl.access`: an access control list as text.
    pub(super) acl_access: Option<Vec<u8>>,
    pub(super) acl_default: Option<Vec<u8>>,
    pub(super) sparse: SparseRecords,
}

/// What GNU's records say about a file with holes. We read version 1.0, which has its map in the data. 0.0 and 0.1 have it in records; we
/// only recognise them.
#[derive(Debug, Default)]
pub(super) struct SparseRecords {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    /// The file's real name. `path` is a made-up name for readers that do not know holes.
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    /// Whether there is any such record.
    pub(super) mentioned: bool,
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
        Ok(pax)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Damage> {
        // An empty value cancels an earlier record.
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
                    self.set_xattr(percent_decode(name).collect(), value.to_vec(), true);
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    let value = decode_base64(value).ok_or(Damage::PaxValue("LIBARCHIVE.xattr"))?;
                    self.set_xattr(percent_decode(name).collect(), value, false);
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.take(key, value)?;
                }
            }
        }
        Ok(())
    }

    /// libarchive writes each attribute in both forms. The raw one counts.
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
        self.mentioned = true;
        match key {
            b"major" => self.major = Some(numeric("GNU.sparse.major")?),
            b"minor" => self.minor = Some(numeric("GNU.sparse.minor")?),
            b"name" => self.name = Some(value.to_vec()),
            b"realsize" => self.real_size = Some(numeric("GNU.sparse.realsize")?),
            _ => {}
        }
        Ok(())
    }
}

/// Splits off the first record: keyword, value, rest.
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

/// libarchive writes the standard alphabet without padding. Others pad, and some use the URL-safe alphabet.
fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let plain: Vec<u8> = text
        .iter()
        .filter(|byte| **byte != b'\n')
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => *other,
        })
        .collect();
    BASE64.decode(plain).ok()
}

/// Writes one record. Its length counts its own digits, so it is found by trying.
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

/// A time stamp: seconds since 1970 and nanoseconds after that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Time {
    /// Seconds since 1970-01-01 UTC, negative before.
    pub secs: i64,
    /// Nanoseconds since that second, below 10⁹.
    pub nanos: u32,
}

impl Time {
    /// Parses `-12.345`, as PAX writes times; digits beyond nanoseconds are cut off, towards the past.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix(b"-") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut parts = digits.splitn(2, |b| *b == b'.');
        let secs = i64::try_from(pax::number(parts.next()?)?).ok()?;
        let mut nanos = 0_u32;
        if let Some(fraction) = parts.next() {
            if !fraction.iter().all(u8::is_ascii_digit) {
                return None;
            }
            for place in 0..9 {
                nanos = nanos * 10 + fraction.get(place).map_or(0, |digit| u32::from(digit - b'0'));
            }
        }
        if negative {
            // -1.25 is a quarter before -1: second -2, 0.75 after it.
            let borrow = i64::from(nanos > 0);
            return Some(Self { secs: -secs - borrow, nanos: if nanos > 0 { 1_000_000_000 - nanos } else { 0 } });
        }
        Some(Self { secs, nanos })
    }
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
        bytes.extend(rec("LIBARCHIVE.xattr.user.a", b"aGVsbG8"));
        let pax = Pax::parse(&bytes).unwrap();
        assert_eq!(pax.xattrs, [(b"user.a".to_vec(), b"raw".to_vec()), (b"user.b".to_vec(), b"hello".to_vec())]);
    }

    #[test]
    fn every_sparse_record_is_noticed() {
        for key in ["major", "minor", "realsize", "size", "numblocks", "offset", "numbytes", "map", "name"] {
            assert!(Pax::parse(&rec(&format!("GNU.sparse.{key}"), b"1")).unwrap().sparse.mentioned, "{key}");
        }
        assert!(!Pax::parse(&rec("size", b"1")).unwrap().sparse.mentioned);
    }

    #[test]
    fn attributes_in_base64_of_both_alphabets() {
        for (text, expected) in
            [("-_8", Some(&b"\xfb\xff"[..])), ("+/8=", Some(b"\xfb\xff")), ("", Some(b"")), ("a", None), ("a b", None)]
        {
            let parsed = Pax::parse(&rec("LIBARCHIVE.xattr.user.a", text.as_bytes()));
            match expected {
                Some(value) => assert_eq!(parsed.unwrap().xattrs[0].1, value, "{text}"),
                None => assert_eq!(parsed.unwrap_err(), Damage::PaxValue("LIBARCHIVE.xattr"), "{text}"),
            }
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
            [("size", "-1"), ("size", "99999999999999999999"), ("uid", "root"), ("mtime", "noon"), ("GNU.sparse.realsize", "x")]
        {
            let error = Pax::parse(&rec(key, value.as_bytes())).unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
    }
}
