//! What a kernel configuration sets, read as the kernel's own `scripts/kconfig/confdata.c` reads a `.config`.
//!
//! ```text
//! CONFIG_64BIT=y            y, m, a number or a text in quotes
//! # CONFIG_BPF is not set   n
//! ```
//!
//! Other lines are ignored, and of two lines about one symbol the later one counts. Pure: no file is read here.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::terminal_text::sanitize_line;

pub(crate) use crate::origin::SymbolChange;

/// Longer texts are cut in messages.
const MAX_VALUE_CHARS: usize = 200;

/// Symbols that describe the toolchain: whoever saved the configuration may have had another one.
const TOOLCHAIN: [&str; 10] = ["CC_", "GCC_", "CLANG_", "LD_", "LLD_", "AS_", "RUSTC_", "PAHOLE_", "BINDGEN_", "TOOLS_SUPPORT_"];

/// The symbols of a configuration, without `CONFIG_`, and their values: `y`, `m`, `n`, or as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Symbols(BTreeMap<String, String>);

impl Symbols {
    /// Reads a configuration. This cannot fail.
    pub fn parse(text: &str) -> Self {
        let mut symbols = BTreeMap::new();
        for line in text.lines() {
            if let Some((name, value)) = symbol(line.trim_end()) {
                symbols.insert(name.to_owned(), value.to_owned());
            }
        }
        Self(symbols)
    }

    #[cfg(test)]
    fn get(&self, symbol: &str) -> Option<&str> {
        self.0.get(symbol).map(String::as_str)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many have this value.
    pub fn count(&self, value: &str) -> usize {
        self.0.values().filter(|known| *known == value).count()
    }

    /// SHA-256 of all values, hexadecimal, without comments and order.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (name, value) in &self.0 {
            hash.update(format!("{name}={value}\n"));
        }
        hex::encode(hash.finalize())
    }

    /// What differs in `after`, by name.
    pub fn changes(&self, after: &Self) -> Vec<SymbolChange> {
        let names: std::collections::BTreeSet<&String> = self.0.keys().chain(after.0.keys()).collect();
        let differs = |name: &&String| self.0.get(*name) != after.0.get(*name);
        let change = |name: &String| SymbolChange {
            symbol: name.clone(),
            before: self.0.get(name).map(printable),
            after: after.0.get(name).map(printable),
        };
        names.into_iter().filter(differs).map(change).collect()
    }

    /// Options set here that `got` does not have, which `make olddefconfig` made of it: the sources lack the option, or its dependencies
    /// are not met. Symbols of the toolchain are left out.
    pub fn unmet(&self, got: &Self) -> Vec<SymbolChange> {
        let switched_off = |value: Option<&str>| value.is_none_or(|value| value == "n");
        let of_toolchain = |name: &str| TOOLCHAIN.iter().any(|prefix| name.starts_with(prefix));
        let is_unmet = |change: &SymbolChange| {
            let (asked, is) = (change.before.as_deref(), change.after.as_deref());
            asked.is_some() && !(switched_off(asked) && switched_off(is)) && !of_toolchain(&change.symbol)
        };
        self.changes(got).into_iter().filter(is_unmet).collect()
    }
}

/// A symbol or value, safe to print: configurations come out of sessions.
fn printable(value: &String) -> String {
    sanitize_line(value.as_bytes(), MAX_VALUE_CHARS)
}

/// The symbol that a line sets, and its value.
fn symbol(line: &str) -> Option<(&str, &str)> {
    let (name, value) = match line.strip_prefix("# CONFIG_") {
        Some(rest) => (rest.strip_suffix(" is not set")?, "n"),
        None => line.strip_prefix("CONFIG_")?.split_once('=')?,
    };
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then_some((name, value))
}

/// Whether a line sets a symbol.
pub(crate) fn is_option(line: &str) -> bool {
    symbol(line).is_some()
}

/// `+ BPF y`, `- BPF y`, `~ BPF m -> y`.
impl std::fmt::Display for SymbolChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.before, &self.after) {
            (None, Some(after)) => write!(f, "+ {} {after}", self.symbol),
            (Some(before), None) => write!(f, "- {} {before}", self.symbol),
            (before, after) => {
                let value = |value: &Option<String>| value.clone().unwrap_or_default();
                write!(f, "~ {} {} -> {}", self.symbol, value(before), value(after))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(changes: &[SymbolChange]) -> Vec<String> {
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn lines_that_set_something() {
        for (line, expected) in [
            ("CONFIG_64BIT=y", Some(("64BIT", "y"))),
            ("# CONFIG_BPF is not set", Some(("BPF", "n"))),
            ("CONFIG_NAME=\"x=y\"", Some(("NAME", "\"x=y\""))),
            ("CONFIG_EMPTY=", Some(("EMPTY", ""))),
            ("CONFIG_=y", None),
            ("CONFIG_A-B=y", None),
            (" CONFIG_A=y", None),
            ("# CONFIG_A is set", None),
            ("CONFIG_A", None),
            ("", None),
        ] {
            assert_eq!(symbol(line), expected, "{line}");
        }
    }

    #[test]
    fn the_last_line_counts_and_comments_do_not() {
        let symbols = Symbols::parse("# CONFIG_A is not set\r\n# Linux 6.12\nCONFIG_B=m\nCONFIG_A=y\n");
        assert_eq!((symbols.get("A"), symbols.get("B"), symbols.get("C")), (Some("y"), Some("m"), None));
        assert_eq!((symbols.count("y"), symbols.count("m"), symbols.count("n")), (1, 1, 0));
        assert_eq!(symbols.digest(), Symbols::parse("CONFIG_A=y\nCONFIG_B=m").digest());
        assert_ne!(symbols.digest(), Symbols::parse("CONFIG_A=y\nCONFIG_B=y").digest());
        assert!(Symbols::parse("\u{0}\u{1f}").is_empty());
    }

    #[test]
    fn what_differs() {
        let before = Symbols::parse("CONFIG_A=y\nCONFIG_B=m\nCONFIG_C=y\n");
        let after = Symbols::parse("CONFIG_B=y\n# CONFIG_D is not set\nCONFIG_C=y\n");
        assert_eq!(words(&before.changes(&after)), ["- A y", "~ B m -> y", "+ D n"]);
        assert!(before.changes(&before).is_empty());
    }

    #[test]
    fn what_was_asked_for_and_not_got() {
        let asked = Symbols::parse(
            "CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D=y\nCONFIG_CC_VERSION_TEXT=\"gcc 13\"\n# CONFIG_E is not set\n",
        );
        let got = Symbols::parse("CONFIG_A=y\nCONFIG_B=y\nCONFIG_F=y\nCONFIG_CC_VERSION_TEXT=\"gcc 12\"\nCONFIG_E=y\n");
        assert_eq!(words(&asked.unmet(&got)), ["~ B m -> y", "- D y", "~ E n -> y"]);
    }

    #[test]
    fn changes_are_safe_to_print() {
        let (before, after) = (Symbols::parse("CONFIG_A=\"\u{1b}[2J\"\n"), Symbols::parse("CONFIG_A=\"x\"\n"));
        let changes = before.changes(&after);
        assert_eq!(changes[0].after.as_deref(), Some("\"x\""));
        assert!(!changes[0].before.as_deref().unwrap().contains('\u{1b}'), "{changes:?}");
    }
}
