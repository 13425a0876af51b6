//! `SRC_URI` and `RESTRICT` of an ebuild, read as Portage does (`dbapi/porttree.py`: `_parse_uri_map`; PMS, section 8.2.10).
//!
//! ```text
//! https://host/a-1.tar.xz                     the file's name is the last part of the address
//! https://host/v1.tar.gz -> a-1.tar.gz        the file is stored under another name
//! mirror://gnu/a/a-1.tar.xz                   from the mirrors called `gnu`
//! fetch+https://…, mirror+https://…           allowed despite RESTRICT="fetch" (EAPI 8); the second also despite "mirror"
//! a-1.bin                                     without an address
//! doc? ( https://host/a-1-doc.tar.xz )
//! ```

use std::fmt;

use super::atom::is_flag;

/// No `SRC_URI` has deeper brackets.
const MAX_DEPTH: usize = 64;

/// A source of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceUri<'a> {
    /// The name under which the file is stored and listed in the Manifest.
    pub file: &'a str,
    /// Its address without prefix; `None` if there is only a name.
    pub uri: Option<&'a str>,
    /// The restrictions that its prefix lifts.
    pub lifts: Lifts,
}

/// The restrictions that a prefix lifts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifts {
    /// No prefix.
    Nothing,
    /// `fetch+`: this address may be used.
    Fetch,
    /// `mirror+`: this address and mirrors may be used.
    Mirror,
}

/// Which conditions count as met.
#[derive(Clone, Copy)]
pub enum Conditions<'a> {
    /// All: every file that some USE flags would need.
    All,
    /// None: files that everybody needs.
    None,
    /// As these flags decide.
    On(&'a dyn Fn(&str) -> bool),
}

impl fmt::Debug for Conditions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "All",
            Self::None => "None",
            Self::On(_) => "On",
        })
    }
}

impl Conditions<'_> {
    fn holds(&self, condition: &str) -> Option<bool> {
        let flag = condition.strip_suffix('?')?;
        let (flag, wanted) = flag.strip_prefix('!').map_or((flag, true), |flag| (flag, false));
        is_flag(flag).then(|| match self {
            Self::All => true,
            Self::None => false,
            Self::On(is_on) => is_on(flag) == wanted,
        })
    }
}

/// The words of `text` whose conditions are met; `None` if it cannot be parsed.
pub(crate) fn words<'a>(text: &'a str, conditions: Conditions<'_>) -> Option<Vec<&'a str>> {
    let mut found = Vec::new();
    // For each open bracket, whether its contents count.
    let mut open = vec![true];
    let mut condition: Option<bool> = None;
    for word in text.split_whitespace() {
        let counts = *open.last()?;
        match word {
            "(" if open.len() > MAX_DEPTH => return None,
            "(" => {
                let holds = condition.take().unwrap_or(true);
                open.push(counts && holds);
            }
            _ if condition.is_some() => return None,
            ")" => {
                open.pop();
                open.last()?;
            }
            word if word.ends_with('?') => condition = Some(conditions.holds(word)?),
            word if counts => found.push(word),
            _ => {}
        }
    }
    (open.len() == 1 && condition.is_none()).then_some(found)
}

/// The addresses in a `SRC_URI`, in order; `None` if it cannot be parsed.
pub fn source_uris<'a>(text: &'a str, conditions: Conditions<'_>) -> Option<Vec<SourceUri<'a>>> {
    let mut words = words(text, conditions)?.into_iter().peekable();
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        let (uri, lifts) = match (word.strip_prefix("mirror+"), word.strip_prefix("fetch+")) {
            (Some(uri), _) => (uri, Lifts::Mirror),
            (_, Some(uri)) => (uri, Lifts::Fetch),
            _ => (word, Lifts::Nothing),
        };
        let file = match words.next_if_eq(&"->") {
            Some(_) => words.next()?,
            None => uri.rsplit('/').next()?,
        };
        if file.is_empty() || file == "->" || file.contains('/') || file.contains(char::is_control) || file == "." || file == ".." {
            return None;
        }
        found.push(SourceUri { file, uri: uri.contains(':').then_some(uri), lifts });
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, conditions: Conditions<'_>) -> Option<Vec<String>> {
        let shown = |found: SourceUri<'_>| format!("{} {:?} {}", found.file, found.lifts, found.uri.unwrap_or("-"));
        source_uris(text, conditions).map(|found| found.into_iter().map(shown).collect())
    }

    #[test]
    fn all_that_stands_in_src_uri() {
        let text = "https://h/a.tgz mirror://gnu/x/b.tgz -> c.tgz\nfetch+http://h/d mirror+mirror://gnu/e d.bin";
        let expected = [
            "a.tgz Nothing https://h/a.tgz",
            "c.tgz Nothing mirror://gnu/x/b.tgz",
            "d Fetch http://h/d",
            "e Mirror mirror://gnu/e",
            "d.bin Nothing -",
        ];
        assert_eq!(read(text, Conditions::None).unwrap(), expected);
    }

    #[test]
    fn conditions_decide() {
        let text = "a doc? ( b !test? ( c ( d ) ) ) !doc? ( e -> f )";
        let files = |conditions: Conditions<'_>| -> Vec<String> {
            source_uris(text, conditions).unwrap().into_iter().map(|found| found.file.to_owned()).collect()
        };
        assert_eq!(files(Conditions::All), ["a", "b", "c", "d", "f"]);
        assert_eq!(files(Conditions::None), ["a"]);
        assert_eq!(files(Conditions::On(&|flag| flag == "doc")), ["a", "b", "c", "d"]);
        assert_eq!(files(Conditions::On(&|_| false)), ["a", "f"]);
        assert_eq!(files(Conditions::On(&|_| true)), ["a", "b"]);
    }

    #[test]
    fn what_is_no_src_uri() {
        let deep = "( ".repeat(70) + &") ".repeat(70);
        for text in
            ["(", ")", "doc?", "doc? a", "-> a", "a ->", "a -> -> b", "a -> ..", "a -> b/c", "https://h/", "+? ( a )", &deep]
        {
            assert_eq!(read(text, Conditions::All), None, "{text}");
        }
        assert_eq!(read("", Conditions::All), Some(Vec::new()));
    }
}
