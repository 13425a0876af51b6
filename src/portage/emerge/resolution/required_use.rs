//! `REQUIRED_USE`: parses it and finds the fewest USE changes that satisfy it.
//!
//! ```text
//! ^^ ( readline editline ) ?? ( openssl gnutls ) web? ( || ( wsgi fastcgi ) )
//! exactly-one-of           at-most-one-of               any-of                  the words that emerge prints for the same
//! ```
//!
//! The meaning of an expression is that of `check_required_use` in `portage/dep/__init__.py` (3.0.83), with empty groups as since EAPI 7.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Longer expressions are refused (the longest of the Gentoo repository has some 600 words).
const MAX_WORDS: usize = 4096;
/// Maximum nesting of groups.
const MAX_DEPTH: usize = 64;
/// Solutions with more changes are not proposed: the user has to decide.
const MAX_CHANGES: usize = 8;
/// How many settings are tried at most.
const MAX_TRIALS: usize = 20_000;
/// More solutions than this are not listed.
const MAX_SOLUTIONS: usize = 64;

/// An expression about USE flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// `flag`, `!flag`
    Flag {
        name: String,
        /// What it has to be.
        on: bool,
    },
    /// `( … )`, and the whole.
    All(Vec<Self>),
    /// `|| ( … )`
    Any(Vec<Self>),
    /// `^^ ( … )`
    ExactlyOne(Vec<Self>),
    /// `?? ( … )`
    AtMostOne(Vec<Self>),
    /// `flag? ( … )`, `!flag? ( … )`
    If {
        name: String,
        /// The condition.
        on: bool,
        /// The part that counts then.
        then: Vec<Self>,
    },
}

/// Why a text is not an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// Unbalanced parentheses, or an operator without them.
    #[error("brackets do not match")]
    Brackets,
    /// A word that is no flag.
    #[error("a word is no USE flag")]
    Flag,
    /// Longer or deeper than those of any ebuild.
    #[error("it is too long")]
    TooLong,
}

/// One flag of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlagState {
    pub on: bool,
    /// Whether it must not be changed: the Portage profile forces or masks it, or somebody decided it.
    pub fixed: bool,
}

/// Flags by name. A missing flag is off and fixed.
pub type Flags = BTreeMap<String, FlagState>;

/// A solution: the flags to change with their new values, in the order of the expression.
pub(crate) type Changes = Vec<(String, bool)>;

impl Expression {
    /// Reads an expression in an ebuild's or in emerge's words.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        let words: Vec<&str> = text.split_whitespace().take(MAX_WORDS + 1).collect();
        if words.len() > MAX_WORDS {
            return Err(ExpressionError::TooLong);
        }
        let mut rest = words.as_slice();
        let all = parse_all(&mut rest, 0)?;
        if rest.is_empty() { Ok(Self::All(all)) } else { Err(ExpressionError::Brackets) }
    }

    /// Whether it holds. `None`: it has no effect, such as a group whose condition is not met.
    fn holds(&self, flags: &Flags) -> Option<bool> {
        let is_on = |name: &str| flags.get(name).is_some_and(|flag| flag.on);
        let count = |parts: &[Self]| parts.iter().filter(|part| part.holds(flags) == Some(true)).count();
        let all = |parts: &[Self]| parts.iter().all(|part| part.holds(flags) != Some(false));
        match self {
            Self::Flag { name, on } => Some(is_on(name) == *on),
            Self::All(parts) if parts.iter().all(|part| part.holds(flags).is_none()) => None,
            Self::All(parts) => Some(all(parts)),
            Self::Any(parts) => Some(count(parts) > 0),
            Self::ExactlyOne(parts) => Some(count(parts) == 1),
            Self::AtMostOne(parts) => Some(count(parts) <= 1),
            Self::If { name, on, then } => (is_on(name) == *on).then(|| all(then)),
        }
    }

    /// Both expressions, the second one without the parts about flags that are missing in `flags`. emerge hides some flags
    /// (`elibc_musl`); parts that it does not complain about hold.
    #[must_use]
    pub fn with_known(self, other: Self, flags: &Flags) -> Self {
        let parts = |expression| match expression {
            Self::All(parts) => parts,
            single => vec![single],
        };
        let known = parts(other).into_iter().filter(|part| part.is_known(flags));
        let mut all = parts(self);
        all.extend(known);
        Self::All(all)
    }

    fn is_known(&self, flags: &Flags) -> bool {
        match self {
            Self::Flag { name, .. } => flags.contains_key(name),
            Self::If { name, then, .. } => flags.contains_key(name) && then.iter().all(|part| part.is_known(flags)),
            Self::All(parts) | Self::Any(parts) | Self::ExactlyOne(parts) | Self::AtMostOne(parts) => {
                parts.iter().all(|part| part.is_known(flags))
            }
        }
    }

    /// The first part of the whole that fails.
    pub fn violated<'a>(&'a self, flags: &Flags) -> Option<&'a Self> {
        match self {
            Self::All(parts) => parts.iter().find(|part| part.holds(flags) == Some(false)),
            other => (other.holds(flags) == Some(false)).then_some(other),
        }
    }

    /// Flags that may repair a failing part, the most natural first: in `a? ( … )` the required flag rather than `a`; in a group with too
    /// few flags the first one, since ebuilds list their preferred ones first; in a group with too many the last one.
    fn menders<'a>(&'a self, flags: &Flags, found: &mut Vec<&'a str>) {
        match self {
            Self::Flag { name, .. } => {
                if !found.contains(&name.as_str()) {
                    found.push(name);
                }
            }
            Self::All(parts) => {
                for part in parts {
                    part.menders(flags, found);
                }
            }
            Self::Any(parts) | Self::ExactlyOne(parts) | Self::AtMostOne(parts) => {
                let too_many = parts.iter().filter(|part| part.holds(flags) == Some(true)).count() > 1;
                if too_many {
                    let (on, off): (Vec<&Self>, Vec<&Self>) = parts.iter().rev().partition(|part| part.holds(flags) == Some(true));
                    for part in on.into_iter().chain(off) {
                        part.menders(flags, found);
                    }
                } else {
                    for part in parts {
                        part.menders(flags, found);
                    }
                }
            }
            Self::If { name, then, .. } => {
                for part in then {
                    part.menders(flags, found);
                }
                if !found.contains(&name.as_str()) {
                    found.push(name);
                }
            }
        }
    }

    /// All smallest sets of changes that make `flags` satisfy it, the most natural first. Empty if none was found within the limits.
    pub fn solutions(&self, flags: &Flags) -> Vec<Changes> {
        let mut trials = 0;
        for size in 0..=MAX_CHANGES {
            let mut search = Search { expression: self, found: Vec::new(), seen: BTreeSet::new(), trials: &mut trials };
            search.extend(&mut flags.clone(), &mut Vec::new(), size);
            if !search.found.is_empty() {
                return search.found;
            }
            if trials >= MAX_TRIALS {
                tracing::debug!(trials, "gave up looking for USE flags");
                break;
            }
        }
        Vec::new()
    }
}

impl fmt::Display for Expression {
    /// As ebuilds write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = |on: &bool| if *on { "" } else { "!" };
        let (before, parts) = match self {
            Self::Flag { name, on } => return write!(f, "{}{name}", not(on)),
            Self::All(parts) => (String::new(), parts),
            Self::Any(parts) => ("|| ".to_owned(), parts),
            Self::ExactlyOne(parts) => ("^^ ".to_owned(), parts),
            Self::AtMostOne(parts) => ("?? ".to_owned(), parts),
            Self::If { name, on, then } => (format!("{}{name}? ", not(on)), then),
        };
        write!(f, "{before}(")?;
        for part in parts {
            write!(f, " {part}")?;
        }
        f.write_str(" )")
    }
}

/// Depth first. Only flags of the first failing part are changed, since every solution has to change one of them.
struct Search<'a, 'b> {
    expression: &'a Expression,
    found: Vec<Changes>,
    seen: BTreeSet<Changes>,
    trials: &'b mut usize,
}

impl Search<'_, '_> {
    fn extend(&mut self, flags: &mut Flags, changed: &mut Vec<String>, left: usize) {
        *self.trials += 1;
        if *self.trials >= MAX_TRIALS || self.found.len() >= MAX_SOLUTIONS {
            return;
        }
        let Some(violated) = self.expression.violated(flags) else {
            let changes: Changes = changed.iter().map(|name| (name.clone(), flags[name].on)).collect();
            let mut sorted = changes.clone();
            sorted.sort();
            if self.seen.insert(sorted) {
                self.found.push(changes);
            }
            return;
        };
        if left == 0 {
            return;
        }
        let mut menders = Vec::new();
        violated.menders(flags, &mut menders);
        for name in menders {
            let may = flags.get(name).is_some_and(|flag| !flag.fixed) && !changed.iter().any(|known| known == name);
            if !may {
                continue;
            }
            toggle(flags, name);
            changed.push(name.to_owned());
            self.extend(flags, changed, left - 1);
            changed.pop();
            toggle(flags, name);
        }
    }
}

fn toggle(flags: &mut Flags, name: &str) {
    if let Some(flag) = flags.get_mut(name) {
        flag.on = !flag.on;
    }
}

fn parse_all(words: &mut &[&str], depth: usize) -> Result<Vec<Expression>, ExpressionError> {
    if depth > MAX_DEPTH {
        return Err(ExpressionError::TooLong);
    }
    let mut parts = Vec::new();
    while let Some((word, rest)) = words.split_first() {
        if *word == ")" {
            break;
        }
        *words = rest;
        parts.push(match *word {
            "(" => {
                let parts = parse_all(words, depth + 1)?;
                close(words)?;
                Expression::All(parts)
            }
            "||" | "any-of" => Expression::Any(group(words, depth)?),
            "^^" | "exactly-one-of" => Expression::ExactlyOne(group(words, depth)?),
            "??" | "at-most-one-of" => Expression::AtMostOne(group(words, depth)?),
            word => match word.strip_suffix('?') {
                Some(condition) => {
                    let (name, on) = flag(condition)?;
                    Expression::If { name, on, then: group(words, depth)? }
                }
                None => {
                    let (name, on) = flag(word)?;
                    Expression::Flag { name, on }
                }
            },
        });
    }
    Ok(parts)
}

fn group(words: &mut &[&str], depth: usize) -> Result<Vec<Expression>, ExpressionError> {
    match words.split_first() {
        Some((&"(", rest)) => *words = rest,
        _ => return Err(ExpressionError::Brackets),
    }
    let parts = parse_all(words, depth + 1)?;
    close(words)?;
    Ok(parts)
}

fn close(words: &mut &[&str]) -> Result<(), ExpressionError> {
    match words.split_first() {
        Some((&")", rest)) => {
            *words = rest;
            Ok(())
        }
        _ => Err(ExpressionError::Brackets),
    }
}

fn flag(word: &str) -> Result<(String, bool), ExpressionError> {
    let (name, on) = word.strip_prefix('!').map_or((word, true), |name| (name, false));
    if crate::portage::atom::is_flag(name) { Ok((name.to_owned(), on)) } else { Err(ExpressionError::Flag) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a -b (c) (-d)`: brackets mean fixed, as emerge prints them.
    fn flags(text: &str) -> Flags {
        text.split_whitespace()
            .map(|word| {
                let inner = word.strip_prefix('(').and_then(|word| word.strip_suffix(')'));
                let (name, on) =
                    inner.unwrap_or(word).strip_prefix('-').map_or((inner.unwrap_or(word), true), |name| (name, false));
                (name.to_owned(), FlagState { on, fixed: inner.is_some() })
            })
            .collect()
    }

    fn solutions(expression: &str, state: &str) -> Vec<String> {
        let all = Expression::parse(expression).unwrap().solutions(&flags(state));
        let show = |changes: &Changes| {
            changes.iter().map(|(name, on)| format!("{}{name}", if *on { "" } else { "-" })).collect::<Vec<_>>().join(" ")
        };
        all.iter().map(show).collect()
    }

    #[test]
    fn the_fewest_changes_the_natural_one_first() {
        for (expression, state, want) in [
            ("a? ( b )", "a -b", vec!["b", "-a"]),
            ("a? ( b )", "a (-b)", vec!["-a"]),
            ("a? ( b )", "(a) (-b)", vec![]),
            ("a? ( b )", "-a -b", vec![""]),
            ("^^ ( a b c )", "-a -b -c", vec!["a", "b", "c"]),
            ("^^ ( a b c )", "a b -c", vec!["-b", "-a"]),
            ("^^ ( a b c )", "a b c", vec!["-c -b", "-c -a", "-b -a"]),
            ("?? ( a b )", "a b", vec!["-b", "-a"]),
            ("?? ( a b )", "-a -b", vec![""]),
            ("|| ( a b )", "-a -b", vec!["a", "b"]),
            ("|| ( a b )", "(-a) -b", vec!["b"]),
            ("any-of ( ascii color ) json? ( !color )", "ascii color (json) -hardened", vec!["-color"]),
            ("any-of ( ascii color ) json? ( !color )", "-ascii color (json)", vec!["-color ascii"]),
            (
                "exactly-one-of ( readline editline ) at-most-one-of ( openssl gnutls ) web? ( any-of ( wsgi fastcgi ) )",
                "gnutls openssl web -editline -fastcgi -readline (-wsgi)",
                vec![
                    "readline -gnutls fastcgi",
                    "readline -gnutls -web",
                    "readline -openssl fastcgi",
                    "readline -openssl -web",
                    "editline -gnutls fastcgi",
                    "editline -gnutls -web",
                    "editline -openssl fastcgi",
                    "editline -openssl -web",
                ],
            ),
            ("!a? ( b )", "-a -b", vec!["b", "a"]),
            ("|| ( ( a b ) c )", "-a -b -c", vec!["c"]),
            ("a", "-b", vec![]),
        ] {
            let got = solutions(expression, state);
            assert_eq!(got, want, "{expression} with {state}");
        }
    }

    /// What Portage's own `check_required_use` says about the same.
    #[test]
    fn means_what_it_means_to_portage() {
        for (expression, state, holds) in [
            ("|| ( )", "", false),
            ("^^ ( )", "", false),
            ("?? ( )", "", true),
            ("( )", "", true),
            ("|| ( a? ( b ) c )", "-a -b -c", false),
            ("|| ( a? ( b ) c )", "a b -c", true),
            ("?? ( a? ( b ) c )", "-a b c", true),
            ("^^ ( ( a b ) c )", "a b c", false),
            ("^^ ( ( a b ) c )", "a -b c", true),
            ("a? ( !b? ( c ) )", "a -b -c", false),
            ("", "", true),
        ] {
            let found = Expression::parse(expression).unwrap().holds(&flags(state)) != Some(false);
            assert_eq!(found, holds, "{expression} with {state}");
        }
    }

    /// A random expression.
    fn expression(next: &mut dyn FnMut(u64) -> u64, depth: u64) -> String {
        let name = ["a", "b", "c", "d", "e"][usize::try_from(next(5)).unwrap()];
        let not = if next(3) == 0 { "!" } else { "" };
        if depth == 0 {
            return format!("{not}{name}");
        }
        let parts: Vec<String> = (0..=next(2)).map(|_| expression(next, depth - 1)).collect();
        let parts = parts.join(" ");
        match next(6) {
            0 => format!("|| ( {parts} )"),
            1 => format!("^^ ( {parts} )"),
            2 => format!("?? ( {parts} )"),
            3 => format!("{not}{name}? ( {parts} )"),
            4 => format!("( {parts} )"),
            _ => parts,
        }
    }

    /// Against trying everything: the number of changes is the least, and every smallest set is found.
    #[test]
    fn nothing_smaller_is_overlooked() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 16) % below
        };
        for _ in 0..3000 {
            let text = format!("{} {}", expression(&mut next, 2), expression(&mut next, 2));
            let parsed = Expression::parse(&text).unwrap();
            let all: Flags = ["a", "b", "c", "d", "e"]
                .iter()
                .map(|name| ((*name).to_owned(), FlagState { on: next(2) == 0, fixed: next(4) == 0 }))
                .collect();
            let free: Vec<&String> = all.iter().filter(|(_, flag)| !flag.fixed).map(|(name, _)| name).collect();
            let mut best: Option<(usize, usize)> = None;
            for mask in 0..1_u32 << free.len() {
                let mut trial = all.clone();
                for (bit, name) in free.iter().enumerate() {
                    if mask >> bit & 1 == 1 {
                        let flag = trial.get_mut(*name).unwrap();
                        flag.on = !flag.on;
                    }
                }
                let size = mask.count_ones() as usize;
                if parsed.holds(&trial) != Some(false) {
                    best = match best {
                        Some((least, count)) if least == size => Some((least, count + 1)),
                        Some((least, count)) if least < size => Some((least, count)),
                        _ => Some((size, 1)),
                    };
                }
            }
            let found = parsed.solutions(&all);
            assert_eq!(found.first().map(|first| (first.len(), found.len())), best, "{text} with {all:?}");
        }
    }

    #[test]
    fn an_expression_is_printed_as_it_is_read() {
        for text in ["( a !b )", "( || ( a ( b c ) ) ^^ ( d ) ?? ( ) !e? ( f? ( !g ) ) )"] {
            let Expression::All(parts) = Expression::parse(text).unwrap() else { panic!() };
            assert_eq!(parts[0].to_string(), text);
        }
        let whole = Expression::parse("|| ( a b ) json? ( !color )").unwrap();
        assert_eq!(whole.violated(&flags("a json color")).unwrap().to_string(), "json? ( !color )");
    }

    #[test]
    fn flags_that_emerge_hides_do_not_matter() {
        let state = flags("-a -b c");
        let complete = Expression::parse("|| ( kernel_linux d ) || ( a b ) b? ( !c )").unwrap();
        let all = Expression::parse("|| ( a b )").unwrap().with_known(complete, &state);
        assert_eq!(all.solutions(&state), [vec![("a".to_owned(), true)]]);
        assert_eq!((all.holds(&flags("a -b c")), all.holds(&flags("-a b c"))), (Some(true), Some(false)));
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for (text, error) in [
            ("( a", ExpressionError::Brackets),
            ("a )", ExpressionError::Brackets),
            ("|| a", ExpressionError::Brackets),
            ("a? b", ExpressionError::Brackets),
            ("||", ExpressionError::Brackets),
            ("a;b", ExpressionError::Flag),
            ("!", ExpressionError::Flag),
            ("?", ExpressionError::Flag),
        ] {
            assert_eq!(Expression::parse(text), Err(error), "{text}");
        }
        assert_eq!(Expression::parse(&"( ".repeat(5000)), Err(ExpressionError::TooLong));
        assert_eq!(Expression::parse(&"( ".repeat(1000)), Err(ExpressionError::TooLong));
    }

    #[test]
    fn a_hostile_expression_ends_soon() {
        let names: Vec<String> = (0..200).map(|n| format!("f{n}")).collect();
        let text: Vec<String> = names.chunks(10).map(|some| format!("^^ ( {} )", some.join(" "))).collect();
        let state: Flags = names.iter().map(|name| (name.clone(), FlagState { on: false, fixed: false })).collect();
        assert!(
            Expression::parse(&text.join(" ")).unwrap().solutions(&state).is_empty(),
            "twenty changes are more than is proposed"
        );
    }
}
