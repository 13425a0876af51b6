//! The combinations of an experiment, and which of them cannot be built. Pure: works on Portage's answers.
//!
//! ```text
//! --matrix "json color"      json color   json -color   -json color   -json -color     the first as it is configured now
//!   REQUIRED_USE             left out: json? ( !color )
//!   forced, masked           left out: the Portage profile fixes the flag
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use crate::did_you_mean::nearest;
use crate::portage::atom::{Atom, is_flag};
use crate::portage::emerge::resolution::required_use::{Expression, FlagState, Flags};
use crate::portage::use_flags::Switch;
use crate::try_it::Error;

/// More are refused: nobody waits for so many builds.
pub(crate) const MAX_COMBINATIONS: usize = 64;
/// How many ways to satisfy `REQUIRED_USE` are shown.
const MAX_WAYS: usize = 3;

/// A flag that is tried both on and off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    /// `category/package` for a flag of a dependency; `None`: of the tried packages.
    pub package: Option<String>,
    pub flag: String,
}

impl FromStr for Variable {
    type Err = Error;

    /// Reads `flag` or `category/package:flag`.
    fn from_str(word: &str) -> Result<Self, Error> {
        let wrong = || Error::Word { word: word.to_owned() };
        let (package, flag) = match word.split_once(':') {
            Some((package, flag)) => (Some(package), flag),
            None => (None, word),
        };
        let is_name = |text: &str| Atom::parse_target(text).is_ok_and(|atom| atom.name() == text);
        if !is_flag(flag) || package.is_some_and(|package| !is_name(package)) {
            return Err(wrong());
        }
        Ok(Self { package: package.map(str::to_owned), flag: flag.to_owned() })
    }
}

/// A package in the version that Portage would take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    /// `category/package`.
    pub(crate) name: String,
    /// With that version.
    pub(crate) cpv: String,
    /// All its flags; those that the Portage profile fixes are `fixed`.
    pub(crate) flags: Flags,
    /// The masked ones among the fixed flags.
    pub(crate) masked: BTreeSet<String>,
    /// `REQUIRED_USE`, if we can parse it.
    pub(crate) required: Option<Expression>,
    /// Whether it is tried itself, and not only named in the matrix as a dependency.
    pub(crate) is_tried: bool,
}

/// One combination.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Combination {
    /// Its name: `json -color`.
    pub(crate) name: String,
    /// The words for `package.use`, by package.
    pub(crate) words: BTreeMap<String, Vec<String>>,
    /// Those of them that differ from the configuration.
    pub(crate) changes: BTreeMap<String, Vec<String>>,
    pub(crate) cflags: Option<String>,
    /// Why it is not built.
    pub(crate) left_out: Option<String>,
}

/// All combinations in the order of the command line. The first is the configuration with the flags asked for.
pub(crate) fn all(
    subjects: &[Subject],
    uses: &[Switch],
    matrix: &[Variable],
    cflags: &[String],
) -> Result<Vec<Combination>, Error> {
    for switch in uses {
        let known = subjects.iter().filter(|subject| subject.is_tried);
        if !matches!(switch, Switch::Clear(_)) && targets(subjects, None, switch.name()).is_empty() {
            return Err(no_flag(switch.name(), known));
        }
    }
    let mut variables: Vec<(&Variable, Vec<usize>)> = Vec::new();
    for variable in matrix.iter().enumerate().filter(|(at, variable)| !matrix[..*at].contains(variable)).map(|(_, one)| one) {
        let found = targets(subjects, variable.package.as_deref(), &variable.flag);
        if found.is_empty() {
            let of = |subject: &&Subject| match &variable.package {
                Some(name) => subject.name == *name,
                None => subject.is_tried,
            };
            return Err(no_flag(&variable.flag, subjects.iter().filter(of)));
        }
        variables.push((variable, found));
    }
    let count = 1_usize.checked_shl(u32::try_from(variables.len()).unwrap_or(u32::MAX)).unwrap_or(usize::MAX);
    let count = count.saturating_mul(cflags.len().max(1));
    if count > MAX_COMBINATIONS {
        return Err(Error::TooMany { count, most: MAX_COMBINATIONS });
    }
    let base: Vec<Flags> = subjects.iter().map(|subject| with(subject, uses)).collect();
    let mut combinations = Vec::new();
    for mask in 0..1_usize << variables.len() {
        let values: Vec<bool> = variables
            .iter()
            .enumerate()
            .map(|(at, (variable, found))| {
                let as_it_is = base[found[0]].get(&variable.flag).is_some_and(|flag| flag.on);
                // The last variable changes first, as in counting.
                as_it_is != (mask >> (variables.len() - 1 - at) & 1 == 1)
            })
            .collect();
        let flags = if cflags.is_empty() { vec![None] } else { cflags.iter().map(Some).collect() };
        for cflags_of_it in flags {
            let mut combination = one(subjects, &base, uses, &variables, &values);
            combination.cflags = cflags_of_it.cloned();
            combination.name = name(uses, &variables, &values, cflags, cflags_of_it);
            combinations.push(combination);
        }
    }
    if combinations.iter().all(|combination| combination.left_out.is_some()) {
        let mut reasons: Vec<String> = combinations.into_iter().filter_map(|combination| combination.left_out).collect();
        reasons.dedup();
        return Err(Error::AllLeftOut { reasons, ways: ways(subjects, &base) });
    }
    Ok(combinations)
}

/// The packages that have the flag.
fn targets(subjects: &[Subject], package: Option<&str>, flag: &str) -> Vec<usize> {
    let is = |subject: &Subject| match package {
        Some(name) => subject.name == name,
        None => subject.is_tried,
    };
    (0..subjects.len()).filter(|at| is(&subjects[*at]) && subjects[*at].flags.contains_key(flag)).collect()
}

fn no_flag<'a>(flag: &str, subjects: impl Iterator<Item = &'a Subject>) -> Error {
    let (mut packages, mut known) = (Vec::new(), BTreeSet::new());
    for subject in subjects {
        packages.push(subject.cpv.clone());
        known.extend(subject.flags.keys().cloned());
    }
    let nearest = nearest(flag, known.iter().map(String::as_str)).map(str::to_owned);
    Error::NoFlag { flag: flag.to_owned(), packages, nearest, known: known.into_iter().collect() }
}

/// The flags of a package with those asked for.
fn with(subject: &Subject, uses: &[Switch]) -> Flags {
    let mut flags = subject.flags.clone();
    for switch in uses.iter().filter(|_| subject.is_tried) {
        for (name, flag) in flags.iter_mut().filter(|(_, flag)| !flag.fixed) {
            match switch {
                Switch::On(on) if on == name => flag.on = true,
                Switch::Off(off) if off == name => flag.on = false,
                Switch::Clear(prefix) if name.starts_with(prefix.as_str()) => flag.on = false,
                _ => {}
            }
        }
    }
    flags
}

fn one(
    subjects: &[Subject],
    base: &[Flags],
    uses: &[Switch],
    variables: &[(&Variable, Vec<usize>)],
    values: &[bool],
) -> Combination {
    let mut combination = Combination::default();
    for (at, subject) in subjects.iter().enumerate() {
        let mut flags = base[at].clone();
        let mut words: Vec<String> = Vec::new();
        let has = |switch: &&Switch| matches!(switch, Switch::Clear(_)) || subject.flags.contains_key(switch.name());
        if subject.is_tried {
            words.extend(uses.iter().filter(has).map(ToString::to_string));
        }
        for ((variable, found), on) in variables.iter().zip(values) {
            let (flag, on) = (&variable.flag, *on);
            if !found.contains(&at) {
                continue;
            }
            words.retain(|word| word.strip_prefix('-').unwrap_or(word) != flag);
            words.push(word(flag, on));
            if let Some(FlagState { on: was, fixed: true }) = flags.get(flag).copied()
                && was != on
            {
                let how = if subject.masked.contains(flag) { "masked" } else { "forced" };
                let reason = format!("the Portage profile has `{flag}` of {} {how}", subject.cpv);
                combination.left_out.get_or_insert(reason);
            }
            flags.insert(flag.clone(), FlagState { on, fixed: false });
        }
        if let Some(violated) = subject.required.as_ref().and_then(|required| required.violated(&flags)) {
            combination.left_out.get_or_insert(format!("REQUIRED_USE of {}: {violated}", subject.cpv));
        }
        let is_change = |word: &&String| match Switch::parse(word) {
            Switch::On(flag) => subject.flags.get(&flag).is_some_and(|flag| !flag.on),
            Switch::Off(flag) => subject.flags.get(&flag).is_some_and(|flag| flag.on),
            Switch::Clear(_) => true,
        };
        let changes: Vec<String> = words.iter().filter(is_change).cloned().collect();
        for (all, some) in [(&mut combination.words, words), (&mut combination.changes, changes)] {
            if !some.is_empty() {
                all.insert(subject.name.clone(), some);
            }
        }
    }
    combination
}

fn word(flag: &str, on: bool) -> String {
    if on { flag.to_owned() } else { format!("-{flag}") }
}

fn name(
    uses: &[Switch],
    variables: &[(&Variable, Vec<usize>)],
    values: &[bool],
    cflags: &[String],
    cflags_of_it: Option<&String>,
) -> String {
    let mut parts: Vec<String> = variables
        .iter()
        .zip(values)
        .map(|((variable, _), on)| match &variable.package {
            // Written as in an ebuild's dependency.
            Some(package) => {
                let short = package.split_once('/').map_or(package.as_str(), |(_, name)| name);
                format!("{short}[{}]", word(&variable.flag, *on))
            }
            None => word(&variable.flag, *on),
        })
        .collect();
    parts.extend(cflags_of_it.filter(|_| cflags.len() > 1).cloned());
    if parts.is_empty() {
        parts.extend(uses.iter().map(ToString::to_string));
        parts.extend(cflags_of_it.cloned());
    }
    if parts.is_empty() { "as configured".to_owned() } else { parts.join(" ") }
}

/// Which further flags would satisfy `REQUIRED_USE`.
fn ways(subjects: &[Subject], base: &[Flags]) -> Vec<String> {
    let mut ways = Vec::new();
    for (subject, flags) in subjects.iter().zip(base).filter(|(subject, _)| subject.is_tried) {
        let solutions = subject.required.as_ref().map(|required| required.solutions(flags)).unwrap_or_default();
        for solution in solutions.iter().filter(|solution| !solution.is_empty()).take(MAX_WAYS) {
            let words: Vec<String> = solution.iter().map(|(flag, on)| word(flag, *on)).collect();
            ways.push(words.join(" "));
        }
    }
    ways
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.package {
            Some(package) => write!(f, "{package}:{}", self.flag),
            None => f.write_str(&self.flag),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a -b (c) (-d)`: brackets mean fixed.
    fn subject(name: &str, flags: &str, required: &str, is_tried: bool) -> Subject {
        let mut masked = BTreeSet::new();
        let flags = flags
            .split_whitespace()
            .map(|word| {
                let inner = word.strip_prefix('(').and_then(|word| word.strip_suffix(')'));
                let word = inner.unwrap_or(word);
                let (name, on) = word.strip_prefix('-').map_or((word, true), |name| (name, false));
                if inner.is_some() && !on {
                    masked.insert(name.to_owned());
                }
                (name.to_owned(), FlagState { on, fixed: inner.is_some() })
            })
            .collect();
        let required = Some(Expression::parse(required).unwrap());
        Subject { name: name.to_owned(), cpv: format!("{name}-1"), flags, masked, required, is_tried }
    }

    fn shown(subjects: &[Subject], uses: &str, matrix: &str, cflags: &[&str]) -> Vec<String> {
        let uses: Vec<Switch> = uses.split_whitespace().map(Switch::parse).collect();
        let matrix: Vec<Variable> = matrix.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let cflags: Vec<String> = cflags.iter().map(|text| (*text).to_owned()).collect();
        match all(subjects, &uses, &matrix, &cflags) {
            Ok(all) => all
                .into_iter()
                .map(|one| {
                    let words: Vec<String> = one.words.iter().map(|(name, words)| format!("{name} {}", words.join(" "))).collect();
                    match one.left_out {
                        Some(reason) => format!("{}: no, {reason}", one.name),
                        None => format!("{}: {}", one.name, words.join("; ")),
                    }
                })
                .collect(),
            Err(error) => vec![error.to_string()],
        }
    }

    #[test]
    fn the_first_is_what_is_configured_and_the_impossible_is_left_out() {
        let greeter = [subject("a/greeter", "ascii -color -json -hardened", "|| ( ascii color ) json? ( !color )", true)];
        assert_eq!(
            shown(&greeter, "", "json color", &[]),
            [
                "-json -color: a/greeter -json -color",
                "-json color: a/greeter -json color",
                "json -color: a/greeter json -color",
                "json color: no, REQUIRED_USE of a/greeter-1: json? ( !color )",
            ]
        );
        assert_eq!(
            shown(&greeter, "-ascii color", "json", &[]),
            ["-json: a/greeter -ascii color -json", "json: no, REQUIRED_USE of a/greeter-1: json? ( !color )"]
        );
        assert_eq!(shown(&greeter, "-ascii", "", &[]), ["no combination can be built"], "|| ( ascii color ) does not hold");
        assert_eq!(shown(&greeter, "", "", &[]), ["as configured: "]);
        assert_eq!(shown(&greeter, "json", "", &["-O3"]), ["json -O3: a/greeter json"]);
        assert_eq!(shown(&greeter, "", "", &["-O2", "-O3"]), ["-O2: ", "-O3: "]);
        assert_eq!(shown(&greeter, "json", "json json", &[]), ["json: a/greeter json", "-json: a/greeter -json"]);
    }

    #[test]
    fn what_is_configured_already_is_no_change() {
        let one = [subject("a/b", "x -y", "", true)];
        let combinations = all(&one, &[Switch::parse("x")], &["y".parse().unwrap()], &[]).unwrap();
        let changes: Vec<_> = combinations.into_iter().map(|one| one.changes.get("a/b").cloned()).collect();
        assert_eq!(changes, [None, Some(vec!["y".to_owned()])]);
    }

    #[test]
    fn what_the_portage_profile_decides_stays() {
        let one = [subject("a/b", "(x) (-y) z", "", true)];
        assert_eq!(
            shown(&one, "", "x y", &[]),
            [
                "x -y: a/b x -y",
                "x y: no, the Portage profile has `y` of a/b-1 masked",
                "-x -y: no, the Portage profile has `x` of a/b-1 forced",
                "-x y: no, the Portage profile has `x` of a/b-1 forced",
            ]
        );
    }

    #[test]
    fn flags_of_dependencies_are_theirs_alone() {
        let both = [subject("a/b", "x", "", true), subject("l/c", "x -s", "s? ( x )", false)];
        assert_eq!(
            shown(&both, "-x", "l/c:s", &[]),
            ["c[-s]: a/b -x; l/c -s", "c[s]: a/b -x; l/c s"],
            "--use is for the packages that are tried"
        );
        assert_eq!(shown(&both, "", "s", &[]), ["no package that is tried has the flag `s`"]);
    }

    #[test]
    fn too_many_and_unknown() {
        let flags: Vec<String> = (0..7).map(|n| format!("f{n}")).collect();
        let one = [subject("a/b", &flags.join(" "), "", true)];
        assert_eq!(shown(&one, "", &flags.join(" "), &[]), ["128 combinations are more than 64"]);
        assert_eq!(shown(&one, "", &flags[..6].join(" "), &["-O2", "-O3"]), ["128 combinations are more than 64"]);
        assert_eq!(shown(&one, "g1", "", &[]), ["no package that is tried has the flag `g1`"]);
        let error = all(&one, &[], &["f9".parse().unwrap()], &[]).unwrap_err();
        assert!(matches!(error, Error::NoFlag { nearest: Some(near), .. } if near.starts_with('f')));
    }

    #[test]
    fn ways_out() {
        let one = [subject("a/b", "-x -y", "^^ ( x y )", true)];
        let Err(Error::AllLeftOut { reasons, ways }) = all(&one, &[], &[], &[]) else { panic!() };
        assert_eq!((reasons, ways), (vec!["REQUIRED_USE of a/b-1: ^^ ( x y )".to_owned()], vec!["x".to_owned(), "y".to_owned()]));
    }

    #[test]
    fn words_of_a_matrix() {
        for (word, good) in
            [("x", true), ("a/b:x", true), ("a/b:", false), ("-x", false), (":x", false), ("a/b-1:x", false), ("=a/b-1:x", false)]
        {
            assert_eq!(word.parse::<Variable>().is_ok(), good, "{word}");
        }
        assert_eq!("a/b:x".parse::<Variable>().unwrap().to_string(), "a/b:x");
    }
}
