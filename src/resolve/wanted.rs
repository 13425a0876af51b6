//! Turns emerge's output into lines of the configuration: its proposals, and flags that satisfy `REQUIRED_USE`.

use crate::config::proposal::{Fragments, WantedLine};
use crate::portage::atom::{Atom, Operator};
use crate::portage::emerge::resolution::required_use::{Changes, Expression, FlagState, Flags};
use crate::portage::emerge::resolution::{Change, ChangeKind, Problem};
use crate::portage::package_files;
use crate::portage::package_files::LineFile;

/// Longer expressions are cut in comments.
const MAX_COMMENT_CHARS: usize = 160;

/// All lines that are needed so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) lines: Vec<WantedLine>,
    /// Other changes that would help as well, in words.
    pub(crate) alternatives: Vec<String>,
}

impl Wanted {
    /// Adds what emerge proposes. Returns whether something is new; `Err`: it contradicts an earlier need.
    pub(crate) fn add_changes(&mut self, changes: &[Change]) -> Result<bool, String> {
        let mut news = false;
        for change in changes {
            news |= self.add(line_of(change))?;
        }
        Ok(news)
    }

    /// Adds flags for packages whose `REQUIRED_USE` fails, and flags that emerge names without proposing them.
    pub(crate) fn add_solutions(&mut self, problems: &[Problem], fragments: &Fragments) -> Result<bool, String> {
        let mut news = false;
        for problem in problems {
            match problem {
                Problem::RequiredUse { package, flags, unsatisfied, expression, .. } => {
                    let parsed = Expression::parse(unsatisfied).and_then(|part| Ok((part, Expression::parse(expression)?)));
                    let Ok((part, whole)) = parsed else { continue };
                    let needed = part.with_known(whole, flags);
                    if let Some((line, alternatives)) = self.satisfy(package, flags, (expression, &needed), fragments) {
                        news |= self.add(line)?;
                        self.alternatives.extend(alternatives);
                    }
                }
                Problem::Unsatisfied { wanted, candidates, required_by, .. } => {
                    for (package, why) in candidates {
                        if let Some(line) = change_use(package, why, wanted, required_by) {
                            news |= self.add(line)?;
                            break;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(news)
    }

    fn add(&mut self, line: WantedLine) -> Result<bool, String> {
        let Some(known) = self.lines.iter_mut().find(|known| known.file == line.file && known.atom == line.atom) else {
            self.lines.push(line);
            return Ok(true);
        };
        let mut news = false;
        for word in line.words {
            if known.words.contains(&opposite(&word)) {
                return Err(format!("`{} {word}` is needed, and so is `{}`", known.atom, opposite(&word)));
            }
            if !known.words.contains(&word) {
                known.words.push(word);
                news = true;
            }
        }
        if news {
            known.because.extend(line.because.into_iter().filter(|reason| !known.because.contains(reason)).collect::<Vec<_>>());
        }
        Ok(news)
    }

    /// The smallest set of flags that satisfies the package's expression. Flags that the user set are only changed if nothing else helps;
    /// placing then reports the contradiction.
    fn satisfy(
        &self,
        package: &str,
        flags: &Flags,
        (expression, needed): (&str, &Expression),
        fragments: &Fragments,
    ) -> Option<(WantedLine, Option<String>)> {
        let versioned: Atom = format!("={package}").parse().ok()?;
        let atom = Atom { operator: None, version: None, ..versioned };
        let mut flags = flags.clone();
        let wanted = self.lines.iter().filter(|line| line.file == LineFile::Use && line.atom.name() == atom.name());
        for word in wanted.flat_map(|line| &line.words) {
            decide(&mut flags, word, true);
        }
        let mut decided = flags.clone();
        for word in words_about(fragments, &atom) {
            decide(&mut decided, &word, false);
        }
        let mut solutions = needed.solutions(&decided);
        if solutions.is_empty() {
            solutions = needed.solutions(&flags);
        }
        let first = solutions.first().filter(|first| !first.is_empty())?;
        let alternatives = (solutions.len() > 1).then(|| {
            let others: Vec<String> = solutions[1..].iter().take(3).map(|way| format!("`{}`", words(way).join(" "))).collect();
            let more = if solutions.len() > 4 { format!(" and {} more", solutions.len() - 4) } else { String::new() };
            format!("REQUIRED_USE of {package}: `{}` chosen; as few changes: {}{more}", words(first).join(" "), others.join(", "))
        });
        let mut reason = format!("REQUIRED_USE of {package}: {expression}");
        if reason.chars().count() > MAX_COMMENT_CHARS {
            reason = reason.chars().take(MAX_COMMENT_CHARS - 1).collect::<String>() + "…";
        }
        let line =
            WantedLine { file: LineFile::Use, atom, words: words(first), because: vec![reason], masked_by_configuration: false };
        Some((line, alternatives))
    }
}

fn words(changes: &Changes) -> Vec<String> {
    changes.iter().map(|(name, on)| if *on { name.clone() } else { format!("-{name}") }).collect()
}

fn opposite(word: &str) -> String {
    word.strip_prefix('-').map_or_else(|| format!("-{word}"), str::to_owned)
}

/// Marks a flag as decided; `sets`: also as something that emerge has not seen yet.
fn decide(flags: &mut Flags, word: &str, sets: bool) {
    let (name, on) = word.strip_prefix('-').map_or((word, true), |name| (name, false));
    if let Some(flag) = flags.get_mut(name).filter(|flag| !flag.fixed) {
        *flag = FlagState { on: if sets { on } else { flag.on }, fixed: true };
    }
}

/// The flags that the configuration names for a package.
fn words_about(fragments: &Fragments, atom: &Atom) -> Vec<String> {
    let files = fragments.all.iter().flat_map(|fragment| {
        let top = fragment.dir.join(LineFile::Use.file_name());
        fragment.texts.iter().filter(move |(path, _)| path.starts_with(&top)).map(|(_, text)| text)
    });
    let lines = files.flat_map(|text| package_files::parse(LineFile::Use, text).0);
    lines.filter(|line| line.atom.name() == atom.name()).flat_map(|line| line.words).collect()
}

/// emerge's line as we write it. Its lower bound `>=` is only the version that it looked at, so USE flags and licences are written for
/// the package. Keywords and masks are written for the exact version that was asked for.
fn line_of(change: &Change) -> WantedLine {
    let file = match change.kind {
        ChangeKind::Keywords => LineFile::AcceptKeywords,
        ChangeKind::Unmask => LineFile::Unmask,
        ChangeKind::Use => LineFile::Use,
        ChangeKind::License => LineFile::License,
    };
    let lower_bound = change.atom.operator == Some(Operator::GreaterOrEqual) && matches!(file, LineFile::Use | LineFile::License);
    let atom = if lower_bound { Atom { operator: None, version: None, ..change.atom.clone() } } else { change.atom.clone() };
    let mut because = vec![because(&change.required_by)];
    because.extend(change.comments.iter().filter(|comment| !comment.is_empty()).map(|comment| format!("masked: {comment}")));
    let masked_by_configuration = change.masked_in.as_deref().is_some_and(|path| path.starts_with("/etc/portage/"));
    WantedLine { file, atom, words: change.words.clone(), because, masked_by_configuration }
}

/// `needed by app-misc/picky-1.0, for app-misc/picky`
fn because(required_by: &[String]) -> String {
    match required_by {
        [] => "needed".to_owned(),
        // A package name has a version and no operator; an atom that was asked for has both or neither.
        [only] if only.starts_with('@') || format!("={only}").parse::<Atom>().is_ok() => format!("needed by {only}"),
        [asked] => format!("asked for: {asked}"),
        [first, .., last] => format!("needed by {first}, for {last}"),
    }
}

/// The change in `Change USE: +foo -bar, this change violates use flag constraints …`. The next round shows what follows from it.
fn change_use(package: &str, why: &str, wanted: &str, required_by: &[String]) -> Option<WantedLine> {
    let flags = why.strip_prefix("Change USE: ")?.split(',').next()?;
    let words: Vec<String> = flags.split_whitespace().map(|flag| flag.trim_start_matches('+').to_owned()).collect();
    let valid = !words.is_empty() && words.iter().all(|word| crate::portage::atom::is_flag(word.strip_prefix('-').unwrap_or(word)));
    let versioned: Atom = format!("={package}").parse().ok().filter(|_| valid)?;
    let atom = Atom { operator: None, version: None, ..versioned };
    let because = if required_by.is_empty() { format!("asked for: {wanted}") } else { because(required_by) };
    Some(WantedLine { file: LineFile::Use, atom, words, because: vec![because], masked_by_configuration: false })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;
    use crate::config::proposal::{FragmentFiles, Role};
    use crate::portage::emerge::resolution::Resolution;

    fn fragments(package_use: &str) -> Fragments {
        let texts = BTreeMap::from([(PathBuf::from("portage.global/package.use"), package_use.to_owned())]);
        let global = FragmentFiles {
            dir: "portage.global".into(),
            role: Role::Global,
            shared_with: Vec::new(),
            texts,
            directories: std::collections::BTreeSet::new(),
        };
        Fragments { root: "".into(), definition: "web".to_owned(), all: vec![global], list: ("list".into(), None) }
    }

    /// Lines after one round.
    fn after(output: &[u8], package_use: &str) -> Vec<String> {
        let resolution = Resolution::parse(output);
        let mut wanted = Wanted::default();
        wanted.add_changes(&resolution.changes).unwrap();
        wanted.add_solutions(&resolution.problems, &fragments(package_use)).unwrap();
        let show = |line: &WantedLine| format!("{} {} # {}", line.atom, line.words.join(" "), line.because.join(" # "));
        wanted.lines.iter().map(show).chain(wanted.alternatives).collect()
    }

    macro_rules! transcript {
        ($name:literal) => {
            include_bytes!(concat!("../portage/emerge/resolution/transcripts/", $name, ".txt"))
        };
    }

    #[test]
    fn real_transcripts_become_lines() {
        let cases: [(&[u8], &str, &[&str]); 6] = [
            (
                transcript!("several"),
                "",
                &[
                    "=app-misc/newcomer-0.1 ~amd64 # asked for: app-misc/newcomer",
                    "dev-libs/greet static-libs # needed by app-misc/picky-1.0, for app-misc/picky",
                    "app-resolve/eula testbed-EULA # asked for: app-resolve/eula",
                ],
            ),
            (
                transcript!("shunned"),
                "",
                &["=app-resolve/shunned-1.0  # asked for: app-resolve/shunned # masked: The gentoomuch authors <testbed@distfiles.example> (2026-11-22) # masked: Masked to try what unmasking takes."],
            ),
            (
                transcript!("chooser"),
                "",
                &[
                    "app-resolve/chooser readline -gnutls fastcgi # REQUIRED_USE of app-resolve/chooser-1.0: exactly-one-of ( readline editline ) at-most-one-of ( openssl gnutls ) web? ( any-of ( wsgi fastcgi ) )",
                    "REQUIRED_USE of app-resolve/chooser-1.0: `readline -gnutls fastcgi` chosen; as few changes: `readline -gnutls -web`, `readline -openssl fastcgi`, `readline -openssl -web` and 4 more",
                ],
            ),
            (
                transcript!("chooser"),
                "app-resolve/chooser gnutls -readline\n",
                &[
                    "app-resolve/chooser editline -openssl fastcgi # REQUIRED_USE of app-resolve/chooser-1.0: exactly-one-of ( readline editline ) at-most-one-of ( openssl gnutls ) web? ( any-of ( wsgi fastcgi ) )",
                    "REQUIRED_USE of app-resolve/chooser-1.0: `editline -openssl fastcgi` chosen; as few changes: `editline -openssl -web`",
                ],
            ),
            (
                transcript!("change-use"),
                "",
                &["app-misc/greeter json -color # asked for: app-misc/greeter[json] # REQUIRED_USE of app-misc/greeter-1.0: any-of ( ascii color ) json? ( !color )"],
            ),
            (
                b"emerge: there are no ebuilds built with USE flags to satisfy \"a/b[x]\".\n- a/b-1::g (Change USE: +x -y, this change violates use flag constraints defined by a/b-1: 'x? ( z )')\n(dependency required by \"c/d-1::g\" [ebuild])\n",
                "",
                &["a/b x -y # needed by c/d-1"],
            ),
        ];
        for (output, package_use, want) in cases {
            assert_eq!(after(output, package_use), want);
        }
    }

    #[test]
    fn needs_that_contradict_each_other_end_it() {
        let line = |words: &str| {
            format!("The following USE changes are necessary to proceed:\n (see)\n# required by c/d-1\n>=a/b-1 {words}\n\n")
        };
        let changes = |words| Resolution::parse(line(words).as_bytes()).changes;
        let mut wanted = Wanted::default();
        assert_eq!(wanted.add_changes(&changes("x y")), Ok(true));
        assert_eq!(wanted.add_changes(&changes("x")), Ok(false));
        assert_eq!(wanted.add_changes(&changes("z")), Ok(true));
        assert_eq!(wanted.add_changes(&changes("-y")), Err("`a/b -y` is needed, and so is `y`".to_owned()));
    }
}
