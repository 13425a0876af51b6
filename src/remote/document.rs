//! What a state is made of elsewhere, as documents. Nothing is asked or unpacked here.
//!
//! ```text
//! manifest    under the tag of its key: names the others by their digests; it goes last
//! origin      the state and all that it was made from, as our store has them, and what each layer was when it was sealed
//! statement   clear-signed: of each state key, id, the digest of its origin, and of each layer id, contents, blob
//! layer       one blob each, an exact archive: whoever packs the same layer gets the same blob
//! ```
//!
//! Who may write to a remote can put anything there. So the manifest only says where to look: what counts is what the statement says, once
//! its signer is trusted for remotes, and each document has to agree with it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Error, Flaw, Result};
use crate::registry::Blob;
use crate::store::{LayerId, LayerMeta, State, StateId};

pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const STATE_TYPE: &str = "application/vnd.gentoomuch.state.v1";
const ORIGIN_TYPE: &str = "application/vnd.gentoomuch.state.origin.v1+json";
const LAYER_TYPE: &str = "application/vnd.gentoomuch.layer.v1.tar+zstd";
pub(super) const STATEMENT_TYPE: &str = "application/vnd.gentoomuch.statement.v1+pgp";
/// What tells the tags of states from others.
const TAG_PREFIX: &str = "state-";
pub(super) const KEY: &str = "vnd.gentoomuch.key";
const STATE: &str = "vnd.gentoomuch.state";
pub(super) const NAME: &str = "vnd.gentoomuch.name";
pub(super) const MADE: &str = "org.opencontainers.image.created";
/// The first line of what is signed, so that no other document of the signer is taken for it.
const STATEMENT: &str = "gentoomuch remote states 1";
/// An origin of this program's has a megabyte at most.
pub(super) const MAX_ORIGIN_BYTES: u64 = 64 << 20;
pub(super) const MAX_STATEMENT_BYTES: u64 = 4 << 20;

/// The tag of a build key: `state-HEX`, of a session that was kept `state-kept.HEX`, since no tag has a colon.
pub(super) fn tag_of(key: &str) -> String {
    format!("{TAG_PREFIX}{}", key.replacen(':', ".", 1))
}

/// The build key of a tag, if it is one of a state.
pub(super) fn key_of(tag: &str) -> Option<String> {
    let key = tag.strip_prefix(TAG_PREFIX)?.replacen('.', ":", 1);
    is_key(&key).then_some(key)
}

/// Whether states have such keys: 64 digits, or `kept:` and the id of a session.
pub(super) fn is_key(key: &str) -> bool {
    is_hex(key, 64) || key.strip_prefix("kept:").is_some_and(|id| is_hex(id, 20))
}

/// Whether it is so many hexadecimal digits.
pub(super) fn is_hex(text: &str, count: usize) -> bool {
    text.len() == count && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether it is the beginning of a key or of an id. A name that looks so stands for nothing.
pub(super) fn is_beginning(text: &str) -> bool {
    text.len() >= 6 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether it is `sha256:HEX`. Others never become a part of an address or of a path.
pub(super) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| is_hex(hex, 64))
}

/// `sha256:HEX` of some bytes.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
}

impl Descriptor {
    pub(super) fn new(media_type: &str, blob: &Blob) -> Self {
        Self { media_type: media_type.to_owned(), digest: blob.digest.clone(), size: blob.size }
    }

    fn blob(&self) -> Blob {
        Blob { digest: self.digest.clone(), size: self.size }
    }
}

/// An OCI image manifest (version 1.1) of an artifact that is no image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    schema_version: u32,
    media_type: String,
    artifact_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// What a list shows of a manifest. Nobody has signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) name: Option<String>,
    pub(super) state: String,
    pub(super) made: String,
    pub(super) layers: usize,
    pub(super) bytes: u64,
}

impl Manifest {
    pub(super) fn new(state: &State, name: Option<&str>, origin: &Blob, statement: &Blob, layers: &[SignedLayer]) -> Self {
        let mut annotations = BTreeMap::from([
            (KEY.to_owned(), state.key.clone()),
            (STATE.to_owned(), state.id.to_string()),
            (MADE.to_owned(), state.created.clone()),
        ]);
        annotations.extend(name.map(|name| (NAME.to_owned(), name.to_owned())));
        let layers = layers.iter().map(|layer| Descriptor::new(LAYER_TYPE, &layer.blob())).collect();
        Self::of(STATE_TYPE, Descriptor::new(ORIGIN_TYPE, origin), statement, layers, annotations)
    }

    /// A manifest that names a signed statement before its `layers`.
    pub(super) fn of(
        artifact_type: &str,
        config: Descriptor,
        statement: &Blob,
        layers: Vec<Descriptor>,
        annotations: BTreeMap<String, String>,
    ) -> Self {
        Self {
            schema_version: 2,
            media_type: MANIFEST_TYPE.to_owned(),
            artifact_type: artifact_type.to_owned(),
            config,
            layers: std::iter::once(Descriptor::new(STATEMENT_TYPE, statement)).chain(layers).collect(),
            annotations,
        }
    }

    /// Reads one of this type.
    pub(super) fn parse(bytes: &[u8], artifact_type: &str) -> std::result::Result<Self, Flaw> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|source| Flaw::Json { what: "manifest", source })?;
        if manifest.artifact_type != artifact_type {
            return Err(Flaw::Kind(manifest.artifact_type));
        }
        Ok(manifest)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The statement and the origin, to be fetched. Both are bounded.
    pub(super) fn documents(&self, key: &str) -> std::result::Result<(Blob, Blob), Flaw> {
        let says = self.annotations.get(KEY).map_or("none", String::as_str);
        if says != key {
            return Err(Flaw::Key { says: says.to_owned() });
        }
        let mut statements = self.layers.iter().filter(|layer| layer.media_type == STATEMENT_TYPE);
        let (Some(statement), None) = (statements.next(), statements.next()) else { return Err(Flaw::NotSigned) };
        for (document, limit) in [(statement, MAX_STATEMENT_BYTES), (&self.config, MAX_ORIGIN_BYTES)] {
            if !is_digest(&document.digest) {
                return Err(Flaw::Digest { says: document.digest.clone() });
            }
            if document.size > limit {
                return Err(Flaw::Large { digest: document.digest.clone(), limit });
            }
        }
        Ok((statement.blob(), self.config.blob()))
    }

    pub(super) fn shown(&self) -> Shown {
        let annotation = |name: &str| self.annotations.get(name).cloned();
        Shown {
            name: annotation(NAME),
            state: annotation(STATE).unwrap_or_default(),
            made: annotation(MADE).unwrap_or_default(),
            layers: self.layers.iter().filter(|layer| layer.media_type == LAYER_TYPE).count(),
            bytes: self.layers.iter().chain([&self.config]).fold(0, |sum, layer| sum.saturating_add(layer.size)),
        }
    }
}

/// What is signed of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SignedLayer {
    pub(super) id: LayerId,
    /// Its digest when it was sealed.
    pub(super) contents: String,
    /// The digest and the size of its blob.
    pub(super) blob: String,
    pub(super) size: u64,
}

impl SignedState {
    /// Whether a user who asks for `wanted` means it.
    pub(super) fn answers_to(&self, wanted: &str) -> bool {
        let is = |text: &str| if is_beginning(wanted) { text.starts_with(wanted) } else { text == wanted };
        is(&self.key) || is(self.state.as_str()) || (!is_beginning(wanted) && self.name.as_deref() == Some(wanted))
    }
}

impl SignedLayer {
    pub(super) fn blob(&self) -> Blob {
        Blob { digest: self.blob.clone(), size: self.size }
    }
}

/// What is signed of a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SignedState {
    pub(super) key: String,
    pub(super) state: StateId,
    /// What it is called where it was pushed.
    pub(super) name: Option<String>,
    /// The digest of its [`Origins`].
    pub(super) origin: String,
    /// Its layers, and those of all that it was made from.
    pub(super) layers: Vec<SignedLayer>,
}

/// One statement, clear-signed, is about all states of a push.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Statement {
    statement: String,
    pub(super) states: Vec<SignedState>,
}

impl Statement {
    pub(super) fn new(states: Vec<SignedState>) -> Self {
        Self { statement: STATEMENT.to_owned(), states }
    }

    /// The text that is signed.
    pub(super) fn text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// What was signed of the state with this key. The text's signature was verified.
    pub(super) fn of_key(text: &str, key: &str) -> std::result::Result<SignedState, Flaw> {
        let statement: Self = serde_json::from_str(text).map_err(|source| Flaw::Json { what: "statement", source })?;
        if statement.statement != STATEMENT {
            return Err(Flaw::Kind(statement.statement));
        }
        let says = statement.states.iter().map(|state| state.key.clone()).collect::<Vec<_>>().join(", ");
        let signed = statement.states.into_iter().find(|state| state.key == key).ok_or(Flaw::Key { says })?;
        match signed.layers.iter().find(|layer| !is_digest(&layer.blob)) {
            Some(layer) => Err(Flaw::Digest { says: layer.blob.clone() }),
            None => Ok(signed),
        }
    }
}

/// A state and what it was made from.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Origins {
    /// What each was made from comes before it; the last one is the state.
    pub(super) states: Vec<State>,
    /// All layers that they have.
    pub(super) layers: Vec<LayerMeta>,
}

impl Origins {
    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|source| Error::Flaw(Box::new(Flaw::Json { what: "origin", source })))
    }

    /// Whether it is the origin of the state that was signed, whole, and with nothing else in it.
    pub(super) fn parse(bytes: &[u8], signed: &SignedState) -> std::result::Result<Self, Flaw> {
        if digest_of(bytes) != signed.origin {
            return Err(Flaw::Other("origin"));
        }
        let origins: Self = serde_json::from_slice(bytes).map_err(|source| Flaw::Json { what: "origin", source })?;
        let is_it = |state: &State| state.id == signed.state && state.key == signed.key;
        if !origins.states.last().is_some_and(is_it) {
            return Err(Flaw::Other("state"));
        }
        let mut before = BTreeSet::new();
        for state in &origins.states {
            if state.parent.as_ref().is_some_and(|parent| !before.contains(parent)) {
                return Err(Flaw::Incomplete);
            }
            before.insert(&state.id);
        }
        let wanted: BTreeSet<&LayerId> = origins.states.iter().flat_map(|state| &state.layers).collect();
        let described: BTreeMap<&LayerId, Option<&String>> =
            origins.layers.iter().map(|meta| (&meta.id, meta.sealed.as_ref().map(|sealed| &sealed.digest))).collect();
        let listed: BTreeMap<&LayerId, Option<&String>> =
            signed.layers.iter().map(|layer| (&layer.id, Some(&layer.contents))).collect();
        if described != listed || !wanted.iter().eq(listed.keys()) || listed.len() != signed.layers.len() {
            return Err(Flaw::Incomplete);
        }
        Ok(origins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_keys_and_back() {
        let built = "0123456789abcdef".repeat(4);
        for key in [built.as_str(), "kept:0123456789abcdef0123"] {
            assert_eq!(key_of(&tag_of(key)).as_deref(), Some(key));
        }
        for tag in ["state-", "state-kept.", "latest", "package-00", &format!("state-{}", built.to_uppercase()), &built] {
            assert_eq!(key_of(tag), None, "{tag}");
        }
        assert!(!is_key("") && !is_key("kept:../../../../../../x"));
    }
}
