//! The user's `EMERGE_DEFAULT_OPTS`: which options our runs of emerge use, and which are refused.
//!
//! emerge runs with `--ignore-default-opts`, since a single word of that variable (`--oneshot`, `--exclude=…`, `--pretend`) changes what
//! is installed, or whether anything is. Options that only say how to work are passed on:
//!
//! ```text
//! bounded     --jobs, --load-average          at most what the session has
//! taken over  --keep-going, --with-bdeps, --backtrack, …
//! left out    --ask, --verbose, --color, …    for somebody in front of a terminal
//! ours        --usepkg, --newuse, …           what our runs do anyway; another value is refused
//! refused     the rest
//! ```
//!
//! The words are read as `_emerge/main.py` reads them (3.0.83: `shlex.split`, `insert_optional_args`, `parse_opts`).

use std::collections::VecDeque;

use Fate::{Jobs, KeepGoing, LeftOut, Load, Ours, Refused, TakenOver, WithBdeps};
use Takes::{Maybe, MaybeNumber, MaybeYesNo, Nothing, Value, YesNo};
use serde::{Deserialize, Serialize};

/// The options that our runs use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DefaultOpts {
    /// `--jobs`: at most so many packages at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs: Option<u32>,
    /// `--load-average`: above this no further package is started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<f32>,
    /// `--keep-going`: build what does not need the package that failed. The run fails all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_going: Option<bool>,
    /// `--with-bdeps`: keep build dependencies up to date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with_bdeps: Option<bool>,
    /// Others, as emerge takes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<String>,
}

/// A word that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// An option that decides what is installed, or whether.
    #[error("`{0}` in `EMERGE_DEFAULT_OPTS` would change the result of a build")]
    Refused(String),
    /// Not an option.
    #[error("every run of emerge would install `{0}` in `EMERGE_DEFAULT_OPTS`")]
    Target(String),
    /// Unknown to emerge.
    #[error("`{0}` in `EMERGE_DEFAULT_OPTS` is no option of emerge")]
    Unknown(String),
    /// Not a value of the option.
    #[error("`{option}` in `EMERGE_DEFAULT_OPTS` does not take `{value}`")]
    Value {
        option: String,
        /// As written.
        value: String,
    },
    /// An option without the value that it needs.
    #[error("`{0}` in `EMERGE_DEFAULT_OPTS` has no value")]
    NoValue(String),
    /// A quote that is not closed, or a backslash at the end.
    #[error("`EMERGE_DEFAULT_OPTS` has a quote that is not closed")]
    Quotes,
}

impl Fault {
    /// What the user can do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Target(_) => "list packages in `packages` of a definition",
            Self::Refused(option) => {
                let name = option.split('=').next().unwrap_or_default();
                INSTEAD.iter().find(|(beginning, _)| name.starts_with(beginning)).map_or(TAKE_OUT, |(_, instead)| instead)
            }
            _ => TAKE_OUT,
        }
    }
}

const TAKE_OUT: &str = "remove it: only options that do not change the result are used, such as `--jobs` and `--keep-going`";
/// The setting of ours to use instead, by the option's beginning.
const INSTEAD: [(&str, &str); 7] = [
    ("--autounmask", "remove it: `gentoomuch resolve STAGE --write FRAGMENT` writes the needed lines"),
    ("--accept-properties", "write `ACCEPT_PROPERTIES` into `make.conf`"),
    ("--accept-restrict", "write `ACCEPT_RESTRICT` into `make.conf`"),
    ("--config-root", "remove it: a stage is a root of its own"),
    ("--prefix", "remove it: a stage is a root of its own"),
    ("--root", "remove it: a stage is a root of its own"),
    ("--sysroot", "remove it: a stage is a root of its own"),
];

/// Which values an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    /// `y` or `n`; alone it means `y`.
    MaybeYesNo,
    /// A number, also `y` or `n`; alone it means no limit.
    MaybeNumber,
    /// One of these; alone it means the option's default.
    Maybe(&'static [&'static str]),
    /// `y` or `n`.
    YesNo,
    /// Anything.
    Value,
}

/// What we do with an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Jobs,
    Load,
    KeepGoing,
    WithBdeps,
    TakenOver,
    LeftOut,
    /// Our runs use it with `y`, or with `n`.
    Ours(bool),
    Refused,
}

/// All options of emerge (3.0.83) except its actions.
const OPTIONS: &[(Fate, Takes, &str)] = &[
    (Jobs, MaybeNumber, "--jobs"),
    (Load, MaybeNumber, "--load-average"),
    (KeepGoing, MaybeYesNo, "--keep-going"),
    (WithBdeps, YesNo, "--with-bdeps"),
    // They decide which binary packages are used and made, how deep dependencies are examined, and what else is rebuilt.
    (TakenOver, Nothing, "--newrepo"),
    (TakenOver, MaybeNumber, "--jobs-tmpdir-require-free-gb"),
    (
        TakenOver,
        MaybeYesNo,
        "--binpkg-changed-deps --changed-deps --changed-slot --complete-graph --rebuild-if-new-rev --rebuild-if-new-slot \
         --rebuild-if-new-ver --rebuild-if-unbuilt --usepkg-exclude-live",
    ),
    (TakenOver, YesNo, "--complete-graph-if-new-use --complete-graph-if-new-ver --with-bdeps-auto"),
    (
        TakenOver,
        Value,
        "--backtrack --buildpkg-exclude --getbinpkg-exclude --getbinpkg-include --merge-wait-scope --usepkg-exclude --usepkg-include",
    ),
    (
        LeftOut,
        Nothing,
        "--alphabetical --ask-enter-invalid --cols --columns --debug --ignore-default-opts --noconfmem --nospinner \
         --quiet-repo-display --quiet-unmerge-warn --searchdesc --tree --unordered-display --verbose-conflicts",
    ),
    (
        LeftOut,
        MaybeYesNo,
        "--alert --ask --autounmask --autounmask-keep-keywords --autounmask-keep-masks --autounmask-unrestricted-atoms \
         --changed-deps-report --fail-clean --fuzzy-search --quiet --quiet-build --quiet-fail --read-news --verbose \
         --verbose-missing-ebuilds --verbose-slot-rebuilds",
    ),
    (LeftOut, YesNo, "--autounmask-license --autounmask-use --color --misspell-suggestions --regex-search-auto --search-index"),
    (LeftOut, Maybe(&["text", "json"]), "--circular-deps-report"),
    (LeftOut, Value, "--autounmask-backtrack --search-similarity --sync-submodule"),
    // Some ask for less than our runs do: `--changed-use` is part of `--newuse`.
    (Ours(true), Nothing, "--changed-use --newuse --noreplace --update --update-if-installed"),
    (
        Ours(true),
        MaybeYesNo,
        "--binpkg-respect-use --binpkg-respect-user-patches --buildpkg --depclean-lib-check --getbinpkg --package-moves --select \
         --selective --usepkg",
    ),
    (Ours(true), MaybeNumber, "--deep"),
    (Ours(true), YesNo, "--dynamic-deps --ignore-soname-deps --implicit-system-deps"),
    (
        Ours(false),
        MaybeYesNo,
        "--autounmask-continue --autounmask-only --autounmask-write --deselect --getbinpkgonly --ignore-world --rebuilt-binaries \
         --use-ebuild-visibility --usepkgonly --with-test-deps",
    ),
    (Ours(false), YesNo, "--ignore-built-slot-operator-deps --quickpkg-direct"),
    (
        Refused,
        Nothing,
        "--buildpkgonly --digest --emptytree --fetch-all-uri --fetchonly --nobindeps --nodeps --oneshot --onlydeps --pretend --resume \
         --skip-first --skipfirst",
    ),
    (Refused, MaybeYesNo, "--onlydeps-with-ideps --onlydeps-with-rdeps"),
    (Refused, Maybe(&["rdeps"]), "--root-deps"),
    (
        Refused,
        Value,
        "--accept-properties --accept-restrict --config-root --exclude --pkg-format --prefix --quickpkg-direct-root --rebuild-exclude \
         --rebuild-ignore --rebuilt-binaries-timestamp --reinstall --reinstall-atoms --root --sysroot --useoldpkg-atoms",
    ),
    (
        Refused,
        Nothing,
        "--check-news --clean --config --depclean --help --info --list-sets --metadata --moo --prune --rage-clean --regen --search \
         --status --sync --unmerge --version",
    ),
];

/// Short options.
const SHORT: [(char, &str); 37] = [
    ('1', "--oneshot"),
    ('A', "--alert"),
    ('B', "--buildpkgonly"),
    ('C', "--unmerge"),
    ('D', "--deep"),
    ('F', "--fetch-all-uri"),
    ('G', "--getbinpkgonly"),
    ('K', "--usepkgonly"),
    ('N', "--newuse"),
    ('O', "--nodeps"),
    ('P', "--prune"),
    ('S', "--searchdesc"),
    ('U', "--changed-use"),
    ('V', "--version"),
    ('W', "--deselect"),
    ('X', "--exclude"),
    ('a', "--ask"),
    ('b', "--buildpkg"),
    ('c', "--depclean"),
    ('d', "--debug"),
    ('e', "--emptytree"),
    ('f', "--fetchonly"),
    ('g', "--getbinpkg"),
    ('h', "--help"),
    ('j', "--jobs"),
    ('k', "--usepkg"),
    ('l', "--load-average"),
    ('n', "--noreplace"),
    ('o', "--onlydeps"),
    ('p', "--pretend"),
    ('q', "--quiet"),
    ('r', "--resume"),
    ('s', "--search"),
    ('t', "--tree"),
    ('u', "--update"),
    ('v', "--verbose"),
    ('w', "--select"),
];

/// Splits a value like Python's `shlex.split`. Each character has its position; a word's position is that of its first character.
///
/// # Errors
///
/// [`Fault::Quotes`] for a quote that stays open.
pub(crate) fn split<P: Clone>(text: impl IntoIterator<Item = (char, P)>) -> Result<Vec<(String, P)>, Fault> {
    let mut words: Vec<(String, P)> = Vec::new();
    let (mut within, mut quote, mut escaped) = (false, None, false);
    for (c, place) in text {
        let starts = !within && (quote.is_some() || !c.is_whitespace());
        if starts {
            words.push((String::new(), place));
            within = true;
        }
        let Some((word, _)) = words.last_mut() else { continue };
        if escaped {
            if quote.is_some() && c != '"' && c != '\\' {
                word.push('\\');
            }
            word.push(c);
            escaped = false;
            continue;
        }
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (None | Some('"'), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (None, c) if c.is_whitespace() => within = false,
            (_, c) => word.push(c),
        }
    }
    if quote.is_some() || escaped { Err(Fault::Quotes) } else { Ok(words) }
}

/// Reads the words: the options to use, and the refused ones.
pub(crate) fn parse<P: Clone>(words: Vec<(String, P)>) -> (DefaultOpts, Vec<(Fault, P)>) {
    let (mut opts, mut faults) = (DefaultOpts::default(), Vec::new());
    let mut rest: VecDeque<(String, P)> = words.into();
    while let Some((word, place)) = rest.pop_front() {
        if let Err(fault) = next(&mut opts, &word, &place, &mut rest) {
            faults.push((fault, place));
        }
    }
    (opts, faults)
}

fn next<P: Clone>(opts: &mut DefaultOpts, word: &str, place: &P, rest: &mut VecDeque<(String, P)>) -> Result<(), Fault> {
    if let Some(long) = word.strip_prefix("--").filter(|long| !long.is_empty()) {
        let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value.to_owned())));
        return option(opts, &format!("--{name}"), value, rest);
    }
    let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty() && *letters != "-") else {
        return Err(Fault::Target(word.to_owned()));
    };
    // As in emerge: digits belong to the letter before them, and a letter with an optional value takes the next word only if it stands
    // alone.
    let first = letters.chars().next().unwrap_or_default();
    let name = SHORT.iter().find(|(letter, _)| *letter == first).map(|(_, name)| *name);
    let Some(name) = name else {
        return Err(Fault::Unknown(format!("-{first}")));
    };
    let after = &letters[first.len_utf8()..];
    if after.is_empty() {
        return option(opts, name, None, rest);
    }
    if takes_of(name) == Some(Value) {
        return option(opts, name, Some(after.to_owned()), rest);
    }
    let digits = after.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(after.len());
    let has_number = digits > 0 && takes_of(name) == Some(MaybeNumber);
    let (number, others) = if has_number { after.split_at(digits) } else { ("", after) };
    if !others.is_empty() {
        rest.push_front((format!("-{others}"), place.clone()));
    }
    // `-jv` means `-j -v`, so the next word is not its value.
    let value = if has_number { number } else { "True" };
    option(opts, name, Some(value.to_owned()), &mut VecDeque::<(String, P)>::new())
}

fn find(name: &str) -> Option<(Fate, Takes)> {
    OPTIONS.iter().find(|(_, _, names)| names.split_whitespace().any(|known| known == name)).map(|(fate, takes, _)| (*fate, *takes))
}

fn takes_of(name: &str) -> Option<Takes> {
    find(name).map(|(_, takes)| takes)
}

/// All names, for suggestions.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().flat_map(|(_, _, names)| names.split_whitespace())
}

impl Takes {
    /// Whether the next word is the option's value and not an option itself.
    fn takes_next(self, word: &str) -> bool {
        match self {
            Nothing => false,
            MaybeYesNo => matches!(word, "y" | "n"),
            MaybeNumber => matches!(word, "y" | "n") || word.parse::<f32>().is_ok_and(|number| number >= 0.0),
            Maybe(values) => values.contains(&word),
            YesNo | Value => true,
        }
    }

    fn is_valid(self, value: Option<&str>) -> bool {
        match (self, value) {
            (Nothing, value) => value.is_none_or(|value| value == "True"),
            (MaybeYesNo | MaybeNumber | Maybe(_), None | Some("True")) | (Value, Some(_)) => true,
            (YesNo, Some(value)) => matches!(value, "y" | "n"),
            (_, Some(value)) => self.takes_next(value),
            (YesNo | Value, None) => false,
        }
    }
}

fn option<P>(opts: &mut DefaultOpts, name: &str, value: Option<String>, rest: &mut VecDeque<(String, P)>) -> Result<(), Fault> {
    let Some((fate, takes)) = find(name) else { return Err(Fault::Unknown(name.to_owned())) };
    let value = match value {
        None if rest.front().is_some_and(|(word, _)| takes.takes_next(word)) => rest.pop_front().map(|(word, _)| word),
        value => value,
    };
    if !takes.is_valid(value.as_deref()) {
        return Err(match value {
            Some(value) => Fault::Value { option: name.to_owned(), value },
            None => Fault::NoValue(name.to_owned()),
        });
    }
    let value = value.filter(|value| value != "True");
    let (said, yes) = (value.as_deref(), value.as_deref() != Some("n"));
    let written = || said.map_or_else(|| name.to_owned(), |value| format!("{name}={value}"));
    match fate {
        Jobs => opts.jobs = if yes { said.map(|value| number(name, value)).transpose()? } else { Some(1) },
        Load => opts.load = said.map(|value| number(name, value)).transpose()?,
        KeepGoing => opts.keep_going = Some(yes),
        WithBdeps => opts.with_bdeps = Some(yes),
        TakenOver => opts.more.push(written()),
        Ours(ours) if yes != ours => return Err(Fault::Refused(written())),
        LeftOut | Ours(_) => {}
        Refused => return Err(Fault::Refused(written())),
    }
    Ok(())
}

fn number<N: std::str::FromStr>(option: &str, value: &str) -> Result<N, Fault> {
    value.parse().map_err(|_| Fault::Value { option: option.to_owned(), value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (DefaultOpts, Vec<Fault>) {
        let words = split(text.chars().map(|c| (c, ()))).expect("closed quotes");
        let (opts, faults) = parse(words);
        (opts, faults.into_iter().map(|(fault, ())| fault).collect())
    }

    fn more(words: &[&str]) -> DefaultOpts {
        DefaultOpts { more: words.iter().map(|word| (*word).to_owned()).collect(), ..DefaultOpts::default() }
    }

    #[test]
    fn words_are_split_as_python_does() {
        let split = |text: &str| -> Vec<String> {
            split(text.chars().map(|c| (c, ()))).expect("closed").into_iter().map(|(word, ())| word).collect()
        };
        assert_eq!(split("--a  --b='x y' \"c\\\"d\" e\\ f ''"), ["--a", "--b=x y", "c\"d", "e f", ""]);
        assert_eq!(split("\"a\\b\" # c"), ["a\\b", "#", "c"]);
        assert_eq!(super::split("--a 'b".chars().map(|c| (c, ()))), Err(Fault::Quotes));
        let lines = super::split("a\n'b'".chars().zip([1, 1, 2, 2, 2])).expect("closed");
        assert_eq!(lines, [("a".to_owned(), 1), ("b".to_owned(), 2)]);
    }

    #[test]
    fn what_says_how_to_work_is_taken_over() {
        for (text, expected) in [
            ("--jobs=3 --load-average 2.5", DefaultOpts { jobs: Some(3), load: Some(2.5), ..DefaultOpts::default() }),
            ("-j4 -l8 --jobs", DefaultOpts { load: Some(8.0), ..DefaultOpts::default() }),
            ("-j 2 --jobs=n", DefaultOpts { jobs: Some(1), ..DefaultOpts::default() }),
            (
                "--keep-going --with-bdeps=y",
                DefaultOpts { keep_going: Some(true), with_bdeps: Some(true), ..DefaultOpts::default() },
            ),
            (
                "--keep-going n --with-bdeps n",
                DefaultOpts { keep_going: Some(false), with_bdeps: Some(false), ..DefaultOpts::default() },
            ),
            ("--backtrack 100 --complete-graph", more(&["--backtrack=100", "--complete-graph"])),
            ("--buildpkg-exclude 'virtual/* sys-kernel/*-sources'", more(&["--buildpkg-exclude=virtual/* sys-kernel/*-sources"])),
            ("-avqt --ask y --color=n --quiet-build=y --nospinner", DefaultOpts::default()),
            ("-uDN --deep 3 -qkvg --buildpkg --usepkg=y --select y --changed-use", DefaultOpts::default()),
            ("--autounmask-write=n --usepkgonly n --autounmask=y", DefaultOpts::default()),
        ] {
            assert_eq!(read(text), (expected, Vec::new()), "{text}");
        }
    }

    #[test]
    fn what_decides_is_refused() {
        let refused = |text: &str| Fault::Refused(text.to_owned());
        for (text, expected) in [
            ("--oneshot -1", vec![refused("--oneshot"), refused("--oneshot")]),
            ("-pv -fq", vec![refused("--pretend"), refused("--fetchonly")]),
            (
                "--exclude=a/b --exclude c/d -X e/f",
                vec![refused("--exclude=a/b"), refused("--exclude=c/d"), refused("--exclude=e/f")],
            ),
            ("--usepkg=n --select n", vec![refused("--usepkg=n"), refused("--select=n")]),
            ("--autounmask-continue", vec![refused("--autounmask-continue")]),
            ("--usepkgonly --root=/mnt --depclean", vec![refused("--usepkgonly"), refused("--root=/mnt"), refused("--depclean")]),
            ("app-misc/x @world", vec![Fault::Target("app-misc/x".to_owned()), Fault::Target("@world".to_owned())]),
            ("--jobz=3", vec![Fault::Unknown("--jobz".to_owned())]),
            ("-z", vec![Fault::Unknown("-z".to_owned())]),
            ("--jobs=many", vec![Fault::Value { option: "--jobs".to_owned(), value: "many".to_owned() }]),
            ("--jobs=2.5", vec![Fault::Value { option: "--jobs".to_owned(), value: "2.5".to_owned() }]),
            ("--nospinner=y", vec![Fault::Value { option: "--nospinner".to_owned(), value: "y".to_owned() }]),
            ("--with-bdeps", vec![Fault::NoValue("--with-bdeps".to_owned())]),
            ("-", vec![Fault::Target("-".to_owned())]),
        ] {
            assert_eq!(read(text).1, expected, "{text}");
        }
    }

    #[test]
    fn hints_say_what_does_it_here() {
        for (fault, hint) in [
            (
                Fault::Refused("--autounmask-write".to_owned()),
                "remove it: `gentoomuch resolve STAGE --write FRAGMENT` writes the needed lines",
            ),
            (Fault::Refused("--root=/mnt".to_owned()), "remove it: a stage is a root of its own"),
            (Fault::Refused("--pretend".to_owned()), TAKE_OUT),
            (Fault::Target("a/b".to_owned()), "list packages in `packages` of a definition"),
        ] {
            assert_eq!(fault.hint(), hint);
        }
    }

    #[test]
    fn no_option_stands_in_the_table_twice() {
        let mut seen = std::collections::BTreeSet::new();
        assert!(names().all(|name| seen.insert(name)));
        for (letter, name) in SHORT {
            assert!(seen.contains(name), "{letter}");
        }
    }
}
