//! ASCII armour (RFC 9580, section 6): from text to packets, one block after the other.
//!
//! Armour says nothing about who made the bytes in it. We only check that it is complete, so that a truncated download gets an error of
//! its own.

use std::io::Read as _;

use pgp::armor::Dearmor;

/// One block of OpenPGP data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Block {
    /// Not armoured.
    Binary(Vec<u8>),
    /// `PGP PUBLIC KEY BLOCK`
    PublicKey(Vec<u8>),
    /// `PGP SIGNATURE`
    Signature(Vec<u8>),
    /// `PGP PRIVATE KEY BLOCK`
    SecretKey,
    /// Some other well-formed block.
    Other,
    /// A BEGIN line without its END line.
    Truncated,
    /// Not OpenPGP data at all.
    Malformed,
}

/// Splits `bytes` into blocks. They are binary if the first byte has its highest bit set, as in every packet. Else all armoured blocks
/// are taken in order, and text around them is ignored.
pub(crate) fn decode(bytes: &[u8]) -> Vec<Block> {
    if bytes.first().is_some_and(|byte| byte & 0x80 != 0) {
        return vec![Block::Binary(bytes.to_vec())];
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return vec![Block::Malformed] };
    let mut blocks = Vec::new();
    let mut open: Option<(&str, String)> = None;
    for line in text.lines() {
        let line = line.trim_end();
        let label = |start: &str| line.strip_prefix(start).and_then(|rest| rest.strip_suffix("-----"));
        if let Some(kind) = label("-----BEGIN PGP ") {
            if open.is_some() {
                blocks.push(Block::Truncated);
            }
            open = Some((kind, format!("{line}\n")));
        } else if let Some((kind, text)) = &mut open {
            text.push_str(line);
            text.push('\n');
            if label("-----END PGP ").is_some_and(|end| end == *kind) {
                blocks.push(decode_block(kind, text));
                open = None;
            }
        }
    }
    if open.is_some() {
        blocks.push(Block::Truncated);
    }
    if blocks.is_empty() {
        blocks.push(Block::Malformed);
    }
    blocks
}

fn decode_block(kind: &str, text: &str) -> Block {
    let make: fn(Vec<u8>) -> Block = match kind {
        "PUBLIC KEY BLOCK" => Block::PublicKey,
        "SIGNATURE" => Block::Signature,
        "PRIVATE KEY BLOCK" => return Block::SecretKey,
        _ => return Block::Other,
    };
    let mut packets = Vec::new();
    match Dearmor::new(text.as_bytes()).read_to_end(&mut packets) {
        Ok(_) if !packets.is_empty() => make(packets),
        Ok(_) => Block::Malformed,
        Err(error) => {
            tracing::debug!(%error, "broken armour");
            Block::Malformed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_told_apart() {
        let signature = "-----BEGIN PGP SIGNATURE-----\n\niQEz\n-----END PGP SIGNATURE-----\n";
        let secret = "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQEz\n-----END PGP PRIVATE KEY BLOCK-----\n";
        let file = format!("hello\n{signature}between\n{secret}");
        assert_eq!(decode(file.as_bytes()), [Block::Signature(vec![0x89, 0x01, 0x33]), Block::SecretKey]);
        assert_eq!(decode(&[0x89, 1]), [Block::Binary(vec![0x89, 1])]);
        assert_eq!(decode(b"<html>404</html>"), [Block::Malformed]);
        assert_eq!(decode(b""), [Block::Malformed]);
        assert_eq!(decode(b"\x01\xff"), [Block::Malformed]);
        for cut in 30..signature.len() - 7 {
            assert_eq!(decode(&signature.as_bytes()[..cut]), [Block::Truncated], "cut at {cut}");
        }
    }
}
