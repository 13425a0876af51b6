//! Build keys: the hash of everything that went into a build state.
//!
//! A key is computed from named inputs. The inputs are stored beside it, so that we can say later which of them changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Raise it whenever one of our steps does something else with the same inputs.
const RECIPE: &str = "4";

/// Named inputs of one step, each a short text or the digest of a longer one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Inputs(BTreeMap<String, String>);

impl Inputs {
    /// Inputs of a step called `step`: `import`, `stage3`, `stage4`.
    pub fn new(step: &str) -> Self {
        Self(BTreeMap::from([("step".to_owned(), step.to_owned()), ("recipe".to_owned(), RECIPE.to_owned())]))
    }

    /// Adds a short text.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a list whose order matters.
    #[must_use]
    pub fn with_list<T: AsRef<str>>(self, name: &str, values: impl IntoIterator<Item = T>) -> Self {
        let values: Vec<String> = values.into_iter().map(|value| value.as_ref().to_owned()).collect();
        // As JSON: joining the values with a separator would give two lists the same text if a value contains the separator.
        self.with(name, serde_json::Value::from(values).to_string())
    }

    /// The build key: 64 hexadecimal digits.
    pub fn key(&self) -> String {
        let mut hash = Sha256::new();
        for (name, value) in &self.0 {
            for text in [name, value] {
                hash.update((text.len() as u64).to_le_bytes());
                hash.update(text.as_bytes());
            }
        }
        hex::encode(hash.finalize())
    }

    /// The input `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The input `name`, a list of `NAME=DIGEST`, by name; empty if there is none.
    pub(crate) fn list(&self, name: &str) -> BTreeMap<String, String> {
        let list = self.get(name).and_then(|text| serde_json::from_str::<Vec<String>>(text).ok()).unwrap_or_default();
        list.iter().filter_map(|one| one.split_once('=')).map(|(name, digest)| (name.to_owned(), digest.to_owned())).collect()
    }

    /// Names of the inputs that differ from `other`, in order.
    pub fn changed_since(&self, other: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        names.into_iter().filter(|name| self.0.get(*name) != other.0.get(*name)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_every_input_and_on_nothing_else() {
        let base = Inputs::new("stage3").with("parent", "a").with_list("packages", ["x", "y"]);
        assert_eq!(base.key(), Inputs::new("stage3").with_list("packages", ["x", "y"]).with("parent", "a").key());
        for other in [
            base.clone().with("parent", "b"),
            base.clone().with_list("packages", ["y", "x"]),
            base.clone().with_list("packages", ["x y"]),
            base.clone().with("more", ""),
            Inputs::new("stage4").with("parent", "a").with_list("packages", ["x", "y"]),
        ] {
            assert_ne!(base.key(), other.key(), "{other:?}");
        }
    }

    #[test]
    fn changes_are_named() {
        let old = Inputs::new("stage3").with("parent", "a").with("gone", "1");
        let new = Inputs::new("stage3").with("parent", "b").with("came", "1");
        assert_eq!(new.changed_since(&old), ["came", "gone", "parent"]);
    }
}
