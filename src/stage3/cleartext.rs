//! Clear-signed documents (RFC 9580, section 7): separates what was signed from what was not.
//!
//! ```text
//! anything                                          ignored
//! -----BEGIN PGP SIGNED MESSAGE-----
//! Hash: SHA512                                      the only header there is
//!
//! # SHA512 HASH                                     ┐ signed: lines joined with CR LF, blanks at their ends removed,
//! - -escaped                                        ┘ "- " at their beginning removed
//! -----BEGIN PGP SIGNATURE-----
//! …
//! -----END PGP SIGNATURE-----
//! anything                                          ignored
//! ```
//!
//! Callers get exactly the text that the signature covers, never the file.

/// A clear-signed document whose signature is not verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cleartext {
    /// The signed text, with LF line ends. Nobody may use it before the signature is verified.
    pub text: String,
    pub signature: String,
}

/// What is wrong with a clear-signed document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CleartextError {
    /// It has no `BEGIN PGP SIGNED MESSAGE` line.
    #[error("not a clear-signed document")]
    NotSigned,
    /// The file ends too early.
    #[error("ends before its signature does: truncated")]
    Truncated,
    /// It has a header other than `Hash`.
    #[error("line {line}: unknown header in front of the signed text")]
    Header {
        /// Counted from 1.
        line: usize,
    },
    /// A line begins with a dash that is not escaped.
    #[error("line {line}: a dash that is not escaped in the signed text")]
    Dash {
        /// Counted from 1.
        line: usize,
    },
    /// It has more than one signed text.
    #[error("holds more than one signed text")]
    Several,
    #[error("is not UTF-8 text")]
    Encoding,
}

const BEGIN_MESSAGE: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const BEGIN_SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
const END_SIGNATURE: &str = "-----END PGP SIGNATURE-----";

/// Whether `bytes` have a line that opens a clear-signed document.
pub(crate) fn is_clear_signed(bytes: &[u8]) -> bool {
    bytes.split(|byte| *byte == b'\n').any(|line| line.trim_ascii_end() == BEGIN_MESSAGE.as_bytes())
}

impl Cleartext {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, CleartextError> {
        if !is_clear_signed(bytes) {
            return Err(CleartextError::NotSigned);
        }
        let document = std::str::from_utf8(bytes).map_err(|_| CleartextError::Encoding)?;
        // Blanks at the ends of lines are not signed (section 7.1), so they are removed.
        let mut lines =
            document.split('\n').map(|line| line.trim_end_matches([' ', '\t', '\r'])).enumerate().map(|(i, line)| (i + 1, line));
        lines.find(|(_, line)| *line == BEGIN_MESSAGE).ok_or(CleartextError::NotSigned)?;
        loop {
            let (line, header) = lines.next().ok_or(CleartextError::Truncated)?;
            if header.is_empty() {
                break;
            }
            if !header.starts_with("Hash: ") {
                return Err(CleartextError::Header { line });
            }
        }
        let mut text = String::new();
        loop {
            let (number, line) = lines.next().ok_or(CleartextError::Truncated)?;
            if line == BEGIN_SIGNATURE {
                break;
            }
            let line = match line.strip_prefix("- ") {
                Some(line) => line,
                // An escaped empty line. Its blank was removed above.
                None if line == "-" => "",
                None if line.starts_with('-') => return Err(CleartextError::Dash { line: number }),
                None => line,
            };
            text.push_str(line);
            text.push('\n');
        }
        let mut signature = format!("{BEGIN_SIGNATURE}\n");
        loop {
            let (_, line) = lines.next().ok_or(CleartextError::Truncated)?;
            signature.push_str(line);
            signature.push('\n');
            if line == END_SIGNATURE {
                break;
            }
        }
        // A second document would not be covered by this signature, and a reader could take it for signed.
        if lines.any(|(_, line)| line == BEGIN_MESSAGE || line == BEGIN_SIGNATURE) {
            return Err(CleartextError::Several);
        }
        Ok(Self { text, signature })
    }

    /// The bytes that the signature covers: CR LF between the lines, and none after the last one.
    pub(crate) fn signed_bytes(&self) -> Vec<u8> {
        self.text.strip_suffix('\n').unwrap_or(&self.text).replace('\n', "\r\n").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----\n";

    fn document(body: &str) -> String {
        format!("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{body}\n{SIGNATURE}")
    }

    #[test]
    fn only_the_signed_text_is_handed_on() {
        let file = format!("before\n{}after\n# SHA512 HASH\n", document("a  \n- -b\n- \n\nc\t"));
        let parsed = Cleartext::parse(file.as_bytes()).unwrap();
        assert_eq!(parsed.text, "a\n-b\n\n\nc\n");
        assert_eq!(parsed.signed_bytes(), b"a\r\n-b\r\n\r\n\r\nc");
        assert_eq!(parsed.signature, SIGNATURE);
    }

    #[test]
    fn line_ends_of_windows_change_nothing() {
        let file = document("a\nb");
        assert_eq!(Cleartext::parse(file.replace('\n', "\r\n").as_bytes()), Cleartext::parse(file.as_bytes()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let truncated = document("a").replace("-----END PGP SIGNATURE-----\n", "");
        let table: [(Vec<u8>, &str); 7] = [
            (b"# SHA512 HASH\n".to_vec(), "not a clear-signed document"),
            (truncated.into_bytes(), "ends before its signature does: truncated"),
            (b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512".to_vec(), "ends before its signature does: truncated"),
            (
                document("a").replace("Hash: SHA512", "Comment: x").into_bytes(),
                "line 2: unknown header in front of the signed text",
            ),
            (document("a\n-b").into_bytes(), "line 5: a dash that is not escaped in the signed text"),
            (document("a").repeat(2).into_bytes(), "holds more than one signed text"),
            ([document("a").as_bytes(), b"\xff\n"].concat(), "is not UTF-8 text"),
        ];
        for (file, words) in table {
            assert_eq!(Cleartext::parse(&file).unwrap_err().to_string(), words);
        }
    }
}
