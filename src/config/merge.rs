//! Merges fragments into one Portage directory.
//!
//! The order: the `cpu` fragment, `portage.global`, then each `portage.local` as listed, and `user.patches`.
//!
//! - Lists (`USE`, `VIDEO_CARDS`, …) are united word by word; of other variables the last value wins, and `X="${X} more"` extends it.
//! - A reference to another variable sees its merged value. The output is sorted so that it does in Portage, too.
//! - Lines of `package.*` files are united per atom.
//! - Everything else is copied. The same file with different bytes is a conflict, and so is a switch that is on here and off there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::diagnostic::{Findings, Place};
use super::fragment::{AtomLine, Copied, Fragment, Variable};
use super::history::Part;
use super::history::{Fragments, Said, Touch, written};
use super::merged::{Merged, Value};
use super::repos_conf::Repositories;
use super::switches::{Switches, WAYS_OUT, Word};
use super::variables::Within;
use super::{names, reading, repos_conf, variables};
use crate::portage::emerge::default_opts::DefaultOpts;
use crate::portage::make_conf::Piece;
use crate::portage::package_files::LineFile;
use crate::portage::use_flags::{Kind, Switch};
use crate::portage::{make_conf, use_flags};

/// The variables that a stage3's own `make.conf` derives from `COMMON_FLAGS`. It does so before ours is read, so ours has to do it again.
const FROM_COMMON_FLAGS: [&str; 4] = ["CFLAGS", "CXXFLAGS", "FCFLAGS", "FFLAGS"];

/// Lines of one `package.*` file about one atom.
#[derive(Debug, Clone)]
pub(crate) struct AtomLines {
    pub(crate) atom: String,
    /// `package.mask` and `package.unmask`: whether the line is `-atom`.
    pub(crate) negated: bool,
    pub(crate) switches: Switches,
    pub(crate) places: Vec<Place>,
    /// All statements about it.
    pub(crate) history: Vec<Touch>,
    fragment: usize,
    /// A later fragment removed the line with `# override`.
    dropped: bool,
}

/// The merged fragments.
#[derive(Debug, Default)]
pub(crate) struct Merge {
    /// In order of first assignment; [`Merge::finish`] puts each after those that it refers to.
    pub(crate) variables: Vec<Merged>,
    pub(crate) lines: BTreeMap<LineFile, Vec<AtomLines>>,
    pub(crate) copied: BTreeMap<PathBuf, Copied>,
    /// What `repos.conf` among them says.
    pub(crate) repositories: Repositories,
    /// The part of `EMERGE_DEFAULT_OPTS` that our runs of emerge use.
    pub(crate) emerge_opts: DefaultOpts,
    /// Index of each variable in `variables`.
    index: BTreeMap<String, usize>,
    /// Index of an atom's lines in `lines`.
    line_index: BTreeMap<LineFile, HashMap<String, usize>>,
    pub(crate) fragments: Fragments,
}

impl Merge {
    /// Adds the next fragment.
    pub(crate) fn add(&mut self, findings: &mut Findings<'_>, fragment: Fragment) {
        let number = self.fragments.push(fragment.dir);
        let own = Own::new(self, &fragment.variables);
        for variable in &fragment.variables {
            match use_flags::kind(&variable.name) {
                Kind::Switches => self.add_switches(findings, number, &own, variable),
                Kind::Single => self.add_single(number, &own, variable),
            }
        }
        for (kind, lines) in fragment.lines {
            for line in lines {
                self.add_line(findings, number, kind, line);
            }
        }
        for (target, copied) in fragment.copied {
            self.add_copied(findings, target, copied);
        }
    }

    fn get(&self, name: &str) -> Option<&Merged> {
        self.index.get(name).map(|&at| &self.variables[at])
    }

    fn push(&mut self, merged: Merged) {
        self.index.insert(merged.name.clone(), self.variables.len());
        self.variables.push(merged);
    }

    fn add_single(&mut self, fragment: usize, own: &Own<'_>, variable: &Variable) {
        let mut value = Vec::new();
        for part in &variable.value {
            match part {
                Part::Earlier(name, place) => match own.earlier(self, &variable.name, name) {
                    Some((Value::Single(parts), _)) => {
                        // In the value of another variable, the stage3's own value could not be told from the merged one.
                        let is_stage3s = |part: &&Part| matches!(part, Part::Reference(other, _) if other == name);
                        value.extend(parts.iter().filter(|part| *name == variable.name || !is_stage3s(part)).cloned());
                    }
                    Some((Value::Switches(switches), place)) => value.push(Part::Text(switches.joined(), place.clone())),
                    // The stage3's own `make.conf` is read before ours and may set it.
                    None if *name == variable.name || !own.sets(name) => {
                        value.push(Part::Reference(name.clone(), place.clone()));
                    }
                    None => {}
                },
                Part::Text(..) | Part::Reference(..) => value.push(part.clone()),
            }
        }
        let value = Value::Single(value);
        let place = variable.place.clone();
        let mut history = replaced(fragment, variable);
        history.push(Touch {
            fragment,
            place: place.clone(),
            said: Said::Value(written(&variable.value)),
            overrides: variable.overrides,
        });
        match self.index.get(&variable.name).map(|&at| &mut self.variables[at]) {
            Some(merged) => {
                (merged.value, merged.place) = (value, place);
                merged.history.append(&mut history);
            }
            None => self.push(Merged { name: variable.name.clone(), value, place, history }),
        }
    }

    fn add_switches(&mut self, findings: &mut Findings<'_>, fragment: usize, own: &Own<'_>, variable: &Variable) {
        let name = &variable.name;
        let mut text = Vec::new();
        self.flatten(name, own, &variable.value, 0, &mut text);
        let mut words = Vec::new();
        for (word, place) in split_words(&text) {
            if word.text.contains(['"', '\'', '\\', '`']) || word.dollar {
                let word = &word.text;
                findings.error(&place, format!("`{name}` has a word with quotes, dollar signs or backslashes: `{word}`"));
                continue;
            }
            let switch = Switch::parse(&word.text);
            if name == "USE" && !word.reference && !switch.is_flag() {
                findings.error_with_hint(&place, format!("`{}` is no USE flag", word.text), "flags are separated by spaces");
                continue;
            }
            words.push(Word { switch, place, overrides: variable.overrides });
        }
        let at = self.index.get(name).copied().unwrap_or_else(|| {
            let value = Value::Switches(Switches::default());
            self.push(Merged { name: name.clone(), value, place: variable.place.clone(), history: Vec::new() });
            self.variables.len() - 1
        });
        let history = &mut self.variables[at].history;
        history.extend(replaced(fragment, variable));
        history.extend(words.iter().map(|word| word.touch(fragment)));
        if let Value::Switches(switches) = &mut self.variables[at].value {
            switches.unite(findings, fragment, words, &format!("`{name}`"));
        }
    }

    /// Replaces known references; `${NAME}` stays for unknown ones.
    fn flatten(&self, list: &str, own: &Own<'_>, parts: &[Part], depth: usize, out: &mut Vec<(Flat, Place)>) {
        for part in parts {
            match part {
                Part::Text(text, place) => out.push((Flat::Text(text.clone()), place.clone())),
                // A reference to the list itself adds nothing, since its words are united anyway.
                Part::Earlier(name, _) if name == list && self.get(name).is_some() => {}
                Part::Reference(name, place) | Part::Earlier(name, place) => {
                    let is_earlier = matches!(part, Part::Earlier(..));
                    let here = if is_earlier { None } else { own.variable(name) };
                    let known = if is_earlier {
                        own.earlier(self, list, name).map(|(value, _)| value)
                    } else {
                        self.get(name).map(|merged| &merged.value)
                    };
                    match (here, known) {
                        (Some(variable), _) if depth < 16 => self.flatten(list, own, &variable.value, depth + 1, out),
                        (None, Some(Value::Single(parts))) if depth < 16 => self.flatten(list, own, parts, depth + 1, out),
                        (None, Some(Value::Switches(switches))) => out.push((Flat::Text(switches.joined()), place.clone())),
                        (None, None) if is_earlier && name != list && own.sets(name) => {}
                        _ => out.push((Flat::Reference(format!("${{{name}}}")), place.clone())),
                    }
                }
            }
        }
    }

    fn add_line(&mut self, findings: &mut Findings<'_>, fragment: usize, kind: LineFile, line: AtomLine) {
        if kind.is_mask() {
            self.check_mask(findings, fragment, kind, &line);
        }
        let AtomLine { atom, negated, overrides, place, words, mut touches } = line;
        for touch in &mut touches {
            touch.fragment = fragment;
        }
        let list = self.lines.entry(kind).or_default();
        let index = self.line_index.entry(kind).or_default();
        let Some(&at) = index.get(&atom) else {
            index.insert(atom.clone(), list.len());
            let mut switches = Switches::default();
            add_words(&mut switches, findings, fragment, kind, words, &atom);
            list.push(AtomLines { atom, negated, switches, places: vec![place], history: touches, fragment, dropped: false });
            return;
        };
        let known = &mut list[at];
        known.history.append(&mut touches);
        let name = kind.file_name();
        let other = |known: &AtomLines| known.places.last().map(ToString::to_string).unwrap_or_default();
        if known.negated != negated && known.fragment != fragment && !overrides {
            let (now, before) = if negated { ("takes back", "names") } else { ("names", "takes back") };
            let message = format!("`{name}` {now} `{atom}`, but `{}` {before} it", other(known));
            findings.error_with_hint(&place, message, WAYS_OUT);
        }
        if !kind.is_mask() && words.is_empty() != known.switches.entries.is_empty() && known.fragment != fragment {
            // Portage would silently take the words alone.
            findings.error_with_hint(
                &place,
                format!("`{name}` has `{atom}` once with keywords and once without; the other line is in `{}`", other(known)),
                "write the testing keyword in both, for example `~amd64`",
            );
        }
        known.negated = negated;
        known.fragment = fragment;
        known.places.push(place);
        add_words(&mut known.switches, findings, fragment, kind, words, &atom);
    }

    /// Reports atoms that one fragment masks and another unmasks.
    fn check_mask(&mut self, findings: &mut Findings<'_>, fragment: usize, kind: LineFile, line: &AtomLine) {
        if line.negated {
            return;
        }
        let text = &line.atom;
        let other_kind = if kind == LineFile::Mask { LineFile::Unmask } else { LineFile::Mask };
        let (Some(list), Some(index)) = (self.lines.get_mut(&other_kind), self.line_index.get_mut(&other_kind)) else { return };
        let Some(at) = index.get(text).copied().filter(|&at| !list[at].negated && list[at].fragment != fragment) else {
            return;
        };
        if line.overrides {
            list[at].dropped = true;
            index.remove(text);
            return;
        }
        let other = list[at].places.last().map(ToString::to_string).unwrap_or_default();
        let (now, before) = if kind == LineFile::Mask { ("masks", "unmasks") } else { ("unmasks", "masks") };
        let message = format!("`{}` {now} `{text}`, but `{other}` {before} it", kind.file_name());
        findings.error_with_hint(&line.place, message, WAYS_OUT);
    }

    pub(crate) fn add_copied(&mut self, findings: &mut Findings<'_>, target: PathBuf, copied: Copied) {
        if let Some(known) = self.copied.get_mut(&target) {
            if known.bytes != copied.bytes {
                findings.error_with_hint(
                    &Place::whole(&copied.source),
                    format!("has a file `{}` that differs from the one in `{}`", target.display(), known.source.display()),
                    "drop one of the two, or give them different names",
                );
            }
            known.same.push(copied.source);
            return;
        }
        self.copied.insert(target, copied);
    }

    /// Repeats what is derived from `COMMON_FLAGS`, sorts the variables by their references, and reports impossible combinations.
    pub(crate) fn finish(&mut self, findings: &mut Findings<'_>) {
        self.repositories = repos_conf::read(findings, &self.copied);
        for lines in self.lines.values_mut() {
            lines.retain(|line| !line.dropped);
        }
        self.restate_common_flags();
        self.drop_off_switches(findings);
        self.sort_by_references(findings);
        self.check_spelling(findings);
        self.check_env_files(findings);
        self.emerge_opts = variables::check(findings, &self.variables, &self.repositories, &self.copied);
        let mut files: Vec<(PathBuf, PathBuf)> =
            self.copied.iter().map(|(target, copied)| (target.clone(), copied.source.clone())).collect();
        files.sort();
        for pair in files.windows(2) {
            if pair[1].0.starts_with(&pair[0].0) {
                findings.error(
                    &Place::whole(&pair[1].1),
                    format!("needs a directory `{}`, but `{}` makes it a file", pair[0].0.display(), pair[0].1.display()),
                );
            }
        }
    }

    /// In `make.conf` a `USE_EXPAND` variable replaces the Portage profile's value, and `-` has no meaning: Portage warns about each. It
    /// has had its effect between the fragments here, so it is left out.
    fn drop_off_switches(&mut self, findings: &mut Findings<'_>) {
        for merged in self.variables.iter_mut().filter(|merged| use_flags::is_use_expand(&merged.name)) {
            let Value::Switches(switches) = &mut merged.value else { continue };
            for entry in &switches.entries {
                let Switch::Off(flag) = &entry.switch else { continue };
                // `# override` is meant for another fragment.
                let means_another = |touch: &Touch| match &touch.said {
                    Said::Switch(Switch::On(name)) => name == flag,
                    Said::Switch(Switch::Off(name)) => name == flag && touch.overrides,
                    _ => false,
                };
                if let Some(place) = entry.places.last().filter(|_| !merged.history.iter().any(means_another)) {
                    findings.warning(
                        place,
                        format!("`-{flag}` has no effect: `{}` replaces what the Portage profile has", merged.name),
                        format!("to switch off only this flag, write `*/* {}: -{flag}` into `package.use`", merged.name),
                    );
                }
            }
            switches.retain(|entry| matches!(entry.switch, Switch::On(_)));
        }
    }

    /// Two fragments can meet so that an apostrophe or backslash stands before a reference, which Portage does not expand then.
    fn check_spelling(&self, findings: &mut Findings<'_>) {
        for merged in &self.variables {
            let Value::Single(parts) = &merged.value else { continue };
            let pieces: Vec<Piece> = parts.iter().map(Part::piece).collect();
            let Some((at, before)) = make_conf::unread_reference(&pieces) else { continue };
            if let Some(Part::Reference(name, place) | Part::Earlier(name, place)) = parts.get(at) {
                findings.error_with_hint(
                    place,
                    format!("Portage does not replace `${{{name}}}` in `{}`, since it comes after {before}", merged.name),
                    "write the value instead",
                );
            }
        }
    }

    /// Each name in `package.env` is a file below `env/`, which Portage reads like `make.conf`. Only a whole definition can tell whether
    /// it exists: see `check`.
    fn check_env_files(&self, findings: &mut Findings<'_>) {
        let mut read = BTreeSet::new();
        for entry in self.lines.get(&LineFile::Env).into_iter().flatten().flat_map(|line| &line.switches.entries) {
            let (name, Some(place)) = (entry.switch.name(), entry.places.last()) else { continue };
            if let Some(fault) = names::fault(name) {
                findings.error(place, format!("the name of a file of `env/` {fault}: `{}`", name.escape_debug()));
            } else if let Some(copied) = self.copied.get(&Path::new("env").join(name)).filter(|_| read.insert(name)) {
                check_env_file(findings, copied);
                variables::check_file(findings, &self.repositories, Within::EnvFile, copied);
            }
        }
    }

    fn restate_common_flags(&mut self) {
        let Some(place) = self.get("COMMON_FLAGS").map(|merged| merged.place.clone()) else { return };
        for name in FROM_COMMON_FLAGS {
            if self.get(name).is_none() {
                let value = Value::Single(vec![Part::Reference("COMMON_FLAGS".to_owned(), place.clone())]);
                self.push(Merged { name: name.to_owned(), value, place: place.clone(), history: Vec::new() });
            }
        }
    }

    fn sort_by_references(&mut self, findings: &mut Findings<'_>) {
        let mut sorted = Vec::new();
        let mut done = BTreeSet::new();
        for at in 0..self.variables.len() {
            self.visit(findings, at, &mut Vec::new(), &mut done, &mut sorted);
        }
        let mut variables: Vec<Option<Merged>> = std::mem::take(&mut self.variables).into_iter().map(Some).collect();
        self.index.clear();
        for merged in sorted.into_iter().filter_map(|at: usize| variables[at].take()) {
            self.push(merged);
        }
    }

    fn visit(
        &self,
        findings: &mut Findings<'_>,
        at: usize,
        path: &mut Vec<usize>,
        done: &mut BTreeSet<usize>,
        sorted: &mut Vec<usize>,
    ) {
        if done.contains(&at) {
            return;
        }
        let variable = &self.variables[at];
        if let Some(first) = path.iter().position(|earlier| *earlier == at) {
            let circle: Vec<String> = path[first..].iter().map(|at| format!("`{}`", self.variables[*at].name)).collect();
            findings.error(&variable.place, format!("{} refer to each other in a circle", circle.join(" and ")));
            return;
        }
        path.push(at);
        // A reference to itself means the value of the stage3's own `make.conf`.
        for reference in variable.references().into_iter().filter(|reference| *reference != variable.name) {
            if let Some(&other) = self.index.get(reference) {
                self.visit(findings, other, path, done, sorted);
            }
        }
        path.pop();
        if done.insert(at) {
            sorted.push(at);
        }
    }
}

/// The variables of the fragment that is being added.
struct Own<'a> {
    variables: BTreeMap<&'a str, &'a Variable>,
    /// Earlier fragments' values of variables that other variables of the fragment refer to.
    before: BTreeMap<&'a str, (Value, Place)>,
}

impl<'a> Own<'a> {
    fn new(merge: &Merge, list: &'a [Variable]) -> Self {
        let variables: BTreeMap<&str, &Variable> = list.iter().map(|variable| (variable.name.as_str(), variable)).collect();
        let mut before = BTreeMap::new();
        for variable in list {
            for part in &variable.value {
                if let Part::Earlier(name, _) = part
                    && let Some(merged) = merge.get(name).filter(|_| variables.contains_key(name.as_str()))
                {
                    before.entry(name.as_str()).or_insert_with(|| (merged.value.clone(), merged.place.clone()));
                }
            }
        }
        Self { variables, before }
    }

    fn sets(&self, name: &str) -> bool {
        self.variables.contains_key(name)
    }

    fn variable(&self, name: &str) -> Option<&'a Variable> {
        self.variables.get(name).copied()
    }

    /// The value of earlier fragments for `name`, to which the variable `by` refers.
    fn earlier<'b>(&'b self, merge: &'b Merge, by: &str, name: &str) -> Option<(&'b Value, &'b Place)> {
        if by != name && self.sets(name) {
            return self.before.get(name).map(|(value, place)| (value, place));
        }
        merge.get(name).map(|merged| (&merged.value, &merged.place))
    }
}

fn check_env_file(findings: &mut Findings<'_>, copied: &Copied) {
    match std::str::from_utf8(&copied.bytes) {
        Ok(text) => {
            if let Err(error) = make_conf::parse(text) {
                findings.error(&Place::new(&copied.source, error.line), error.to_string());
            }
        }
        Err(error) => {
            let line = reading::line_of(&copied.bytes[..error.valid_up_to()]);
            findings.error(&Place::new(&copied.source, line), "this is not UTF-8");
        }
    }
}

fn add_words(switches: &mut Switches, findings: &mut Findings<'_>, fragment: usize, kind: LineFile, words: Vec<Word>, atom: &str) {
    if kind == LineFile::Env {
        // Variables of the later file win.
        switches.follow(fragment, words);
    } else if switches.entries.is_empty() {
        switches.unite(findings, fragment, words, "");
    } else {
        switches.unite(findings, fragment, words, &format!("`{}` for `{atom}`", kind.file_name()));
    }
}

/// Earlier assignments of the same fragment without effect.
fn replaced(fragment: usize, variable: &Variable) -> Vec<Touch> {
    let touch = |(place, text): &(Place, Box<str>)| Touch {
        fragment,
        place: place.clone(),
        said: Said::Replaced(text.clone()),
        overrides: false,
    };
    variable.replaced.iter().map(touch).collect()
}

/// A piece of a list with references replaced as far as possible.
enum Flat {
    Text(String),
    /// `${NAME}`
    Reference(String),
}

#[derive(Default)]
struct FlatWord {
    text: String,
    /// A dollar sign that begins no reference.
    dollar: bool,
    reference: bool,
}

/// Splits joined parts at white space; a word belongs to the line where it begins.
fn split_words(parts: &[(Flat, Place)]) -> Vec<(FlatWord, Place)> {
    let mut words: Vec<(FlatWord, Place)> = Vec::new();
    let mut within = false;
    for (flat, place) in parts {
        let (Flat::Text(text) | Flat::Reference(text)) = flat;
        let is_reference = matches!(flat, Flat::Reference(_));
        let mut rest = text.as_str();
        while let Some(start) = rest.find(|c: char| !c.is_whitespace()) {
            within &= start == 0;
            let end = rest[start..].find(char::is_whitespace).map_or(rest.len(), |length| start + length);
            if !within {
                words.push((FlatWord::default(), place.clone()));
            }
            if let Some((word, _)) = words.last_mut() {
                word.text.push_str(&rest[start..end]);
                word.reference |= is_reference;
                word.dollar |= !is_reference && rest[start..end].contains('$');
            }
            within = end == rest.len();
            rest = &rest[end..];
        }
        within &= rest.is_empty();
    }
    words
}
