//! Fragments become one Portage directory.
//!
//! The order is that of the design: the `cpu` fragment, `portage.global`, then each `portage.local` as listed, and `user.patches`.
//!
//! - Variables that are lists (`USE`, `VIDEO_CARDS`, …) are united word by word; any other is last-wins, and `X="${X} more"` extends.
//! - A reference to another variable sees its merged value. The output is sorted so that Portage sees it too.
//! - Lines of `package.*` files are united per atom.
//! - Everything else is copied; the same file with different bytes is a conflict, as is a switch that is on here and off there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::diagnostic::{Findings, Place};
use super::fragment::{Copied, Fragment, Part, Variable};
use super::history::{Fragments, Said, Touch, written};
use super::switches::{Switches, WAYS_OUT, Word};
use crate::portage::atom::is_flag;
use crate::portage::package_files::{Line, LineFile};
use crate::portage::use_flags::{self, Kind, Switch};

/// What the stage3's own `make.conf` derives from `COMMON_FLAGS`. It has done so before ours is read, so ours must do it again.
const FROM_COMMON_FLAGS: [&str; 4] = ["CFLAGS", "CXXFLAGS", "FCFLAGS", "FFLAGS"];

/// The merged value of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Single(Vec<Part>),
    Switches(Switches),
}

/// A merged variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Merged {
    pub(crate) name: String,
    pub(crate) value: Value,
    /// The assignment that decided a single value, or the first of a list.
    pub(crate) place: Place,
    /// Everything that was said about it.
    pub(crate) history: Vec<Touch>,
}

impl Merged {
    /// Every line that contributed, in order.
    pub(crate) fn places(&self) -> Vec<Place> {
        match &self.value {
            Value::Switches(switches) => switches.places(),
            Value::Single(parts) => {
                let mut places = Vec::new();
                for part in parts {
                    let (Part::Text(_, place) | Part::Reference(_, place) | Part::Earlier(_, place)) = part;
                    if !places.contains(place) {
                        places.push(place.clone());
                    }
                }
                if places.is_empty() { vec![self.place.clone()] } else { places }
            }
        }
    }

    fn references(&self) -> Vec<&str> {
        let mut names = Vec::new();
        match &self.value {
            Value::Single(parts) => names.extend(parts.iter().filter_map(|part| match part {
                Part::Reference(name, _) => Some(name.as_str()),
                Part::Text(..) | Part::Earlier(..) => None,
            })),
            Value::Switches(_) => {}
        }
        names
    }
}

/// Lines of one `package.*` file about one atom.
#[derive(Debug, Clone)]
pub(crate) struct AtomLines {
    pub(crate) atom: String,
    /// `package.mask` and `package.unmask`: whether the atom is taken back.
    pub(crate) negated: bool,
    pub(crate) switches: Switches,
    pub(crate) places: Vec<Place>,
    /// Everything that was said about it.
    pub(crate) history: Vec<Touch>,
    fragment: usize,
    /// A later fragment took the line back with `# override`.
    dropped: bool,
}

/// All fragments together.
#[derive(Debug, Default)]
pub(crate) struct Merge {
    /// In order of first assignment until [`Merge::finish`], then each after those it refers to.
    pub(crate) variables: Vec<Merged>,
    pub(crate) lines: BTreeMap<LineFile, Vec<AtomLines>>,
    /// Lines that a later fragment took back.
    pub(crate) dropped: BTreeMap<LineFile, Vec<AtomLines>>,
    pub(crate) copied: BTreeMap<PathBuf, Copied>,
    /// Where the lines of an atom are in `lines`.
    line_index: BTreeMap<(LineFile, String), usize>,
    pub(crate) fragments: Fragments,
}

impl Merge {
    /// Adds the next fragment.
    pub(crate) fn add(&mut self, findings: &mut Findings<'_>, fragment: Fragment) {
        let number = self.fragments.push(fragment.dir);
        let own: BTreeSet<String> = fragment.variables.iter().map(|variable| variable.name.clone()).collect();
        for variable in &fragment.variables {
            match use_flags::kind(&variable.name) {
                Kind::Switches => self.add_switches(findings, number, &fragment.variables, variable),
                Kind::Single => self.add_single(number, &own, variable),
            }
        }
        for (kind, lines) in fragment.lines {
            for (line, file) in lines {
                self.add_line(findings, number, kind, &line, &file);
            }
        }
        for (target, copied) in fragment.copied {
            self.add_copied(findings, target, copied);
        }
    }

    fn get(&self, name: &str) -> Option<&Merged> {
        self.variables.iter().find(|merged| merged.name == name)
    }

    fn add_single(&mut self, fragment: usize, own: &BTreeSet<String>, variable: &Variable) {
        let mut value = Vec::new();
        for part in &variable.value {
            match part {
                Part::Earlier(name, place) => match self.get(name).map(|merged| (&merged.value, &merged.place)) {
                    Some((Value::Single(parts), _)) => value.extend(parts.iter().cloned()),
                    Some((Value::Switches(switches), place)) => value.push(Part::Text(switches.joined(), place.clone())),
                    // The stage3's own `make.conf` is read before ours and may have a value.
                    None if *name == variable.name || !own.contains(name) => {
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
        match self.variables.iter_mut().find(|merged| merged.name == variable.name) {
            Some(merged) => {
                (merged.value, merged.place) = (value, place);
                merged.history.append(&mut history);
            }
            None => self.variables.push(Merged { name: variable.name.clone(), value, place, history }),
        }
    }

    fn add_switches(&mut self, findings: &mut Findings<'_>, fragment: usize, own: &[Variable], variable: &Variable) {
        let mut text = Vec::new();
        self.flatten(&variable.name, own, &variable.value, 0, &mut text);
        let mut words = Vec::new();
        for (word, place) in split_words(&text) {
            if word.contains(['"', '\'', '\\', '`']) {
                findings.error(&place, format!("`{}` has a word with quotes or backslashes: `{word}`", variable.name));
                continue;
            }
            let switch = Switch::parse(&word);
            if variable.name == "USE" && !word.contains("${") && !matches!(switch, Switch::Clear(_)) && !is_flag(switch.name()) {
                findings.error_with_hint(&place, format!("`{word}` is no USE flag"), "flags are separated by spaces");
                continue;
            }
            words.push(Word { switch, place, overrides: variable.overrides });
        }
        let at = self.variables.iter().position(|merged| merged.name == variable.name).unwrap_or_else(|| {
            let value = Value::Switches(Switches::default());
            let (name, place) = (variable.name.clone(), variable.place.clone());
            self.variables.push(Merged { name, value, place, history: Vec::new() });
            self.variables.len() - 1
        });
        let history = &mut self.variables[at].history;
        history.extend(replaced(fragment, variable));
        history.extend(words.iter().map(|word| word.touch(fragment)));
        if let Value::Switches(switches) = &mut self.variables[at].value {
            switches.unite(findings, fragment, words, &format!("`{}`", variable.name));
        }
    }

    /// Replaces references as far as anything is known about them; `${NAME}` stays where nothing is.
    fn flatten(&self, list: &str, own: &[Variable], parts: &[Part], depth: usize, out: &mut Vec<(String, Place)>) {
        for part in parts {
            match part {
                Part::Text(text, place) => out.push((text.clone(), place.clone())),
                // The list itself: what is there already is united anyway.
                Part::Earlier(name, _) if name == list && self.get(name).is_some() => {}
                Part::Reference(name, place) | Part::Earlier(name, place) => {
                    let here =
                        matches!(part, Part::Reference(..)).then(|| own.iter().find(|variable| variable.name == *name)).flatten();
                    match (here, self.get(name).map(|merged| &merged.value)) {
                        (Some(variable), _) if depth < 16 => self.flatten(list, own, &variable.value, depth + 1, out),
                        (None, Some(Value::Single(parts))) if depth < 16 => self.flatten(list, own, parts, depth + 1, out),
                        (None, Some(Value::Switches(switches))) => out.push((switches.joined(), place.clone())),
                        _ => out.push((format!("${{{name}}}"), place.clone())),
                    }
                }
            }
        }
    }

    fn add_line(&mut self, findings: &mut Findings<'_>, fragment: usize, kind: LineFile, line: &Line, file: &Path) {
        let place = Place::new(file, line.line);
        let text = line.atom.to_string();
        if kind.is_mask() {
            self.check_mask(findings, fragment, kind, line, &text, &place);
        }
        let list = self.lines.entry(kind).or_default();
        let key = (kind, text.clone());
        let Some(&at) = self.line_index.get(&key) else {
            self.line_index.insert(key, list.len());
            let history = touches(kind, line, fragment, &place);
            let mut switches = Switches::default();
            switches.unite(findings, fragment, words(kind, line, &place), "");
            let (negated, places) = (line.negated, vec![place]);
            list.push(AtomLines { atom: text, negated, switches, places, history, fragment, dropped: false });
            return;
        };
        let known = &mut list[at];
        known.history.extend(touches(kind, line, fragment, &place));
        let name = kind.file_name();
        let other = known.places.last().map(ToString::to_string).unwrap_or_default();
        if known.negated != line.negated && known.fragment != fragment && !line.overrides {
            let (now, before) = if line.negated { ("takes back", "names") } else { ("names", "takes back") };
            findings.error_with_hint(&place, format!("`{name}` {now} `{text}`, but `{other}` {before} it"), WAYS_OUT);
        }
        if !kind.is_mask() && line.words.is_empty() != known.switches.0.is_empty() && known.fragment != fragment {
            // Portage would silently take the words alone.
            findings.error_with_hint(
                &place,
                format!("`{name}` has `{text}` with keywords and without, the other time in `{other}`"),
                "write the testing keyword out in both, for example `~amd64`",
            );
        }
        known.negated = line.negated;
        known.fragment = fragment;
        let words = words(kind, line, &place);
        known.places.push(place);
        known.switches.unite(findings, fragment, words, &format!("`{name}` for `{text}`"));
    }

    /// The same atom masked by one fragment and unmasked by another.
    fn check_mask(&mut self, findings: &mut Findings<'_>, fragment: usize, kind: LineFile, line: &Line, text: &str, place: &Place) {
        if line.negated {
            return;
        }
        let other_kind = if kind == LineFile::Mask { LineFile::Unmask } else { LineFile::Mask };
        let key = (other_kind, text.to_owned());
        let Some(list) = self.lines.get_mut(&other_kind) else { return };
        let Some(at) = self.line_index.get(&key).copied().filter(|&at| !list[at].negated && list[at].fragment != fragment) else {
            return;
        };
        if line.overrides {
            list[at].dropped = true;
            self.line_index.remove(&key);
            return;
        }
        let other = list[at].places.last().map(ToString::to_string).unwrap_or_default();
        let (now, before) = if kind == LineFile::Mask { ("masks", "unmasks") } else { ("unmasks", "masks") };
        findings.error_with_hint(place, format!("`{}` {now} `{text}`, but `{other}` {before} it", kind.file_name()), WAYS_OUT);
    }

    pub(crate) fn add_copied(&mut self, findings: &mut Findings<'_>, target: PathBuf, copied: Copied) {
        if let Some(known) = self.copied.get_mut(&target) {
            if known.bytes != copied.bytes {
                findings.error_with_hint(
                    &Place::whole(&copied.source),
                    format!("brings `{}` with other content than `{}`", target.display(), known.source.display()),
                    "drop one of the two, or give them different names",
                );
            }
            known.same.push(copied.source);
            return;
        }
        self.copied.insert(target, copied);
    }

    /// Restates what hangs on `COMMON_FLAGS`, sorts the variables by their references and looks for what cannot be.
    pub(crate) fn finish(&mut self, findings: &mut Findings<'_>) {
        for (kind, lines) in &mut self.lines {
            let dropped: Vec<AtomLines> = lines.extract_if(.., |line| line.dropped).collect();
            if !dropped.is_empty() {
                self.dropped.insert(*kind, dropped);
            }
        }
        self.restate_common_flags();
        self.sort_by_references(findings);
        self.check_spelling(findings);
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

    /// An apostrophe or a backslash before a reference would keep Portage from replacing it, where two fragments meet so.
    fn check_spelling(&self, findings: &mut Findings<'_>) {
        for merged in &self.variables {
            let Value::Single(parts) = &merged.value else { continue };
            let mut before = "";
            for part in parts {
                match part {
                    Part::Text(text, _) if text.contains('\'') => before = "an apostrophe",
                    Part::Text(text, _) if text.ends_with('\\') => before = "a backslash",
                    Part::Text(..) if before == "a backslash" => before = "",
                    Part::Reference(name, place) | Part::Earlier(name, place) if !before.is_empty() => {
                        findings.error_with_hint(
                            place,
                            format!("`${{{name}}}` in `{}` comes after {before}, where Portage does not replace it", merged.name),
                            "write the value out",
                        );
                    }
                    Part::Text(..) | Part::Reference(..) | Part::Earlier(..) => {}
                }
            }
        }
    }

    fn restate_common_flags(&mut self) {
        let Some(place) = self.get("COMMON_FLAGS").map(|merged| merged.place.clone()) else { return };
        for name in FROM_COMMON_FLAGS {
            if self.get(name).is_none() {
                let value = Value::Single(vec![Part::Reference("COMMON_FLAGS".to_owned(), place.clone())]);
                self.variables.push(Merged { name: name.to_owned(), value, place: place.clone(), history: Vec::new() });
            }
        }
    }

    fn sort_by_references(&mut self, findings: &mut Findings<'_>) {
        let mut sorted = Vec::new();
        let mut done = BTreeSet::new();
        for variable in &self.variables {
            let mut path = Vec::new();
            self.visit(findings, &variable.name, &mut path, &mut done, &mut sorted);
        }
        self.variables = sorted;
    }

    fn visit(
        &self,
        findings: &mut Findings<'_>,
        name: &str,
        path: &mut Vec<String>,
        done: &mut BTreeSet<String>,
        sorted: &mut Vec<Merged>,
    ) {
        let Some(variable) = self.get(name) else { return };
        if done.contains(name) {
            return;
        }
        if let Some(at) = path.iter().position(|earlier| earlier == name) {
            let circle: Vec<String> = path[at..].iter().map(|name| format!("`{name}`")).collect();
            findings.error(&variable.place, format!("{} refer to each other in a circle", circle.join(" and ")));
            return;
        }
        path.push(name.to_owned());
        // A reference to itself means the value of the stage3's own `make.conf`.
        for reference in variable.references().into_iter().filter(|reference| *reference != name) {
            self.visit(findings, reference, path, done, sorted);
        }
        path.pop();
        if done.insert(name.to_owned()) {
            sorted.push(variable.clone());
        }
    }
}

/// Earlier assignments of the same fragment, which are of no effect any more.
fn replaced(fragment: usize, variable: &Variable) -> Vec<Touch> {
    let touch = |(place, text): &(Place, Box<str>)| Touch {
        fragment,
        place: place.clone(),
        said: Said::Replaced(text.clone()),
        overrides: false,
    };
    variable.replaced.iter().map(touch).collect()
}

fn touches(kind: LineFile, line: &Line, fragment: usize, place: &Place) -> Vec<Touch> {
    if !line.words.is_empty() {
        return words(kind, line, place).iter().map(|word| word.touch(fragment)).collect();
    }
    let said = if line.negated { Said::TakenBack } else { Said::Listed };
    vec![Touch { fragment, place: place.clone(), said, overrides: line.overrides }]
}

fn words(kind: LineFile, line: &Line, place: &Place) -> Vec<Word> {
    line.words
        .iter()
        .map(|word| {
            // Names of files below `env/` know no minus.
            let switch = if kind == LineFile::Env { Switch::On(word.clone()) } else { Switch::parse(word) };
            Word { switch, place: place.clone(), overrides: line.overrides }
        })
        .collect()
}

/// Splits joined parts at white space; a word belongs to the line where it begins.
fn split_words(parts: &[(String, Place)]) -> Vec<(String, Place)> {
    let mut words: Vec<(String, Place)> = Vec::new();
    let mut within = false;
    for (text, place) in parts {
        for c in text.chars() {
            if c.is_whitespace() {
                within = false;
            } else if within {
                if let Some((word, _)) = words.last_mut() {
                    word.push(c);
                }
            } else {
                words.push((c.to_string(), place.clone()));
                within = true;
            }
        }
    }
    words
}
