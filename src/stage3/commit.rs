//! Signed git commits.
//!
//! ```text
//! tree 9c1f…                                     ┐
//! parent 77aa…                                   │
//! author A U Thor <author@example.org> 176… +0000│ what was signed is the object without these lines
//! committer …                                    │
//! gpgsig -----BEGIN PGP SIGNATURE-----           │ ┐
//!  …                                             │ │ each further line begins with a space
//!  -----END PGP SIGNATURE-----                   │ ┘
//!                                                │
//! the message                                    ┘
//! ```
//!
//! The commit names the tree by its hash, and the tree its files. git checks these hashes when it receives them.

use super::keys::KeysFor;
use super::openpgp::{self, Over, Signer};
use super::verify::{Reason, VerifyError, VerifyOptions};

/// The headers with signatures: one for each of git's two object formats.
const HEADERS: [&[u8]; 2] = [b"gpgsig ", b"gpgsig-sha256 "];

/// Who signed the commit `id`, whose object is `raw`. `None` if nobody did.
pub(crate) fn verify_commit(
    id: &str,
    raw: &[u8],
    trusted: KeysFor<'_>,
    options: &VerifyOptions,
) -> Result<Option<Signer>, VerifyError> {
    let Some((signature, payload)) = take_apart(raw) else { return Ok(None) };
    let rejected = |source| {
        let reason = Reason::Signature { sidecar: "gpgsig".to_owned(), source };
        VerifyError::Rejected { file: format!("commit {id}"), reason }
    };
    let (signer, _) = openpgp::check_bytes(&signature, &payload, Over::File, trusted, options.policy()).map_err(rejected)?;
    Ok(Some(signer))
}

/// The signature, and the bytes that it covers.
fn take_apart(raw: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut signature, mut payload) = (Vec::new(), Vec::new());
    let mut lines = raw.split_inclusive(|byte| *byte == b'\n');
    let mut within = None;
    for line in lines.by_ref() {
        if line == b"\n" {
            payload.extend_from_slice(line);
            break;
        }
        if let Some(at) = HEADERS.iter().position(|header| line.starts_with(header)) {
            within = Some(at);
            if at == 0 {
                signature.extend_from_slice(&line[HEADERS[at].len()..]);
            }
        } else if let (Some(at), Some(rest)) = (within, line.strip_prefix(b" ")) {
            if at == 0 {
                signature.extend_from_slice(rest);
            }
        } else {
            within = None;
            payload.extend_from_slice(line);
        }
    }
    lines.for_each(|line| payload.extend_from_slice(line));
    (!signature.is_empty()).then_some((signature, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_taken_out_of_the_headers_and_out_of_nothing_else() {
        let raw = b"tree 1\ngpgsig A\n B\n \nmergetag x\n y\ngpgsig-sha256 C\n D\nencoding z\n\ngpgsig no\n no\n";
        let (signature, payload) = take_apart(raw).unwrap();
        assert_eq!(signature, b"A\nB\n\n");
        assert_eq!(payload, b"tree 1\nmergetag x\n y\nencoding z\n\ngpgsig no\n no\n");
        assert_eq!(take_apart(b"tree 1\n\ngpgsig A\n"), None);
    }
}
