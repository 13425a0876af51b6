//! The words about USE flags in Portage's order: see [`crate::portage::effective_use`].

use std::collections::{BTreeMap, BTreeSet};

use super::super::history::Touch;
use super::{Explainer, Heard, Known, MAKE_GLOBALS, Origin, Result, STAGE3_MAKE_CONF, outside, source_of, switches};
use crate::portage::atom::Atom;
use crate::portage::effective_use::{Action, Layer, Word};
use crate::portage::matching::by_specificity;
use crate::portage::package_files::LineFile;
use crate::portage::profile_stack::{Default, Node, PackageLine, Source, evaluate};
use crate::portage::repository::{Ebuild, Repository};
use crate::portage::use_flags::Switch;

/// The atom for all packages, `*/*`. Portage treats its lines as a part of `make.conf`.
const EVERYTHING: &str = "*/*";

type Words = Vec<Word<Heard>>;

impl Explainer<'_> {
    /// All words that apply to every package.
    pub(super) fn global_words(&self) -> Result<Words> {
        let mut words = Words::new();
        let expand = self.stacked("USE_EXPAND")?;
        self.features(&mut words)?;
        let mut known = Known::new();
        for node in self.nodes() {
            self.defaults(&node.make_defaults(&mut known)?, &expand, Layer::Profile, &mut words)?;
        }
        self.make_conf(&expand, &mut words)?;
        for (layer, file) in [(Layer::Force, "use.force"), (Layer::Mask, "use.mask")] {
            for node in self.nodes() {
                flags(node, layer, file, &mut words)?;
            }
        }
        Ok(words)
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.stack.iter().flat_map(|stack| &stack.nodes)
    }

    /// All words that apply to one version of a package.
    pub(super) fn package_words(&self, ebuild: &Ebuild, stable: bool) -> Result<Words> {
        let mut words = Words::new();
        let expand = self.stacked("USE_EXPAND")?;
        let repositories = self.with_masters(ebuild)?;
        for node in &repositories {
            self.defaults(&node.make_defaults(&mut Known::new())?, &expand, Layer::Repository, &mut words)?;
            packages(node, Layer::Repository, "package.use", ebuild, &mut words)?;
        }
        self.features(&mut words)?;
        for flag in ebuild.words("IUSE").filter(|flag| flag.starts_with(['+', '-'])) {
            let origin = Origin::Ebuild { version: ebuild.version.to_string() };
            push(&mut words, Layer::Ebuild, flag.trim_start_matches('+'), origin, "IUSE");
        }
        let mut known = Known::new();
        for node in self.nodes() {
            self.defaults(&node.make_defaults(&mut known)?, &expand, Layer::Profile, &mut words)?;
            packages(node, Layer::Profile, "package.use", ebuild, &mut words)?;
        }
        self.make_conf(&expand, &mut words)?;
        self.package_env(&expand, ebuild, &mut words)?;
        self.package_use(ebuild, &mut words);
        for (layer, what) in [(Layer::Force, "force"), (Layer::Mask, "mask")] {
            for node in repositories.iter().chain(self.nodes()) {
                let stable = stable && node.eapi_at_least(5);
                flags(node, layer, &format!("use.{what}"), &mut words)?;
                if stable {
                    flags(node, layer, &format!("use.stable.{what}"), &mut words)?;
                }
                packages(node, layer, &format!("package.use.{what}"), ebuild, &mut words)?;
                if stable {
                    packages(node, layer, &format!("package.use.stable.{what}"), ebuild, &mut words)?;
                }
            }
        }
        Ok(words)
    }

    /// `FEATURES="test"` sets the USE flag `test`, unless something else does.
    fn features(&self, words: &mut Words) -> Result<()> {
        if let Some(step) = self.entry_steps("FEATURES", "test")?.into_iter().next_back().filter(|step| step.said == "test") {
            push(words, Layer::Features, "test", step.origin, "FEATURES");
        }
        Ok(())
    }

    /// The repository of a package after its masters: the settings in `profiles/` for all profiles.
    pub(super) fn with_masters(&self, ebuild: &Ebuild) -> Result<Vec<Node>> {
        let find = |name: &str| self.around.repositories.iter().find(|repository| repository.name == name);
        let Some(own) = ebuild.version.repository.as_deref().and_then(find) else { return Ok(Vec::new()) };
        let main = self.around.repositories.first().filter(|main| main.name != own.name);
        let masters: Vec<&Repository> = match &own.masters {
            Some(masters) => masters.iter().filter_map(|name| find(name)).collect(),
            None => main.into_iter().collect(),
        };
        masters.into_iter().chain([own]).map(|repository| Ok(Node::of_repository(repository)?)).collect()
    }

    /// A `make.defaults`: `USE_EXPAND` variables first, then `USE`.
    fn defaults(&self, defaults: &[Default], expand: &[String], layer: Layer, words: &mut Words) -> Result<()> {
        let unprefixed = self.stacked("USE_EXPAND_UNPREFIXED")?;
        let mut add = |default: &Default, prefix: &str| {
            for (word, source) in &default.words {
                let (minus, name) = word.strip_prefix('-').map_or(("", word.as_str()), |name| ("-", name));
                let origin = outside(source);
                push(words, layer, &format!("{minus}{prefix}{name}"), origin, &default.name);
            }
        };
        let prefixed = expand.iter().map(|name| (name.as_str(), format!("{}_", name.to_lowercase())));
        let all = unprefixed.iter().map(|name| (name.as_str(), String::new())).chain(prefixed).chain([("USE", String::new())]);
        for (name, prefix) in all {
            for default in defaults.iter().filter(|default| default.name == name) {
                add(default, &prefix);
            }
        }
        Ok(())
    }

    /// `make.conf`: the stage3's, unless the fragments replace it, then theirs, then `package.use` of `*/*`, then `USE_EXPAND` variables.
    fn make_conf(&self, expand: &[String], words: &mut Words) -> Result<()> {
        let own = self.portage.touches("USE");
        let kept = own.is_empty() || self.portage.written("USE").is_some_and(|value| value.contains("${USE}"));
        let stage3 = self.stage3_make_conf()?;
        for default in stage3.iter().filter(|default| default.name == "USE") {
            for (word, source) in &default.words {
                let switch = Switch::parse(word);
                let action = if kept { Action::Switch(switch) } else { Action::Replaced(switch) };
                let origin = Heard { origin: outside(source), about: "USE".to_owned(), said: word.clone() };
                words.push(Word { layer: Layer::MakeConf, action, origin });
            }
        }
        self.touches(Layer::MakeConf, "USE", own, words);
        for entry in self.portage.entries(LineFile::Use).filter(|entry| entry.atom == EVERYTHING) {
            self.touches(Layer::MakeConf, "package.use */*", entry.history, words);
        }
        let fallback: Vec<String>;
        let expand = if expand.is_empty() {
            let set = self.portage.variables().into_iter().map(|(name, _)| name);
            fallback = set.filter(|name| crate::portage::use_flags::is_use_expand(name)).collect();
            &fallback
        } else {
            expand
        };
        // Variables that only profiles may set are ignored in `make.conf`.
        let profile_only = self.stacked("PROFILE_ONLY_VARIABLES")?;
        for name in expand.iter().filter(|name| !profile_only.contains(name)) {
            let theirs = stage3.iter().rev().find(|default| default.name == *name);
            let Some(value) = self.portage.variable(name) else {
                if let Some(default) = theirs {
                    words.push(replacing(name, &default.value, outside(&default.source)));
                }
                continue;
            };
            if let Some(last) = self.portage.touches(name).last() {
                words.push(replacing(name, &value, self.fragment(last)));
                // A list is united from several values: each word has the line of its own.
                let prefix = format!("{}_", name.to_lowercase());
                for (touch, switch) in switches(self.portage.touches(name)) {
                    let own = match switch {
                        Switch::On(value) => Switch::On(format!("{prefix}{value}")),
                        Switch::Off(value) => Switch::Off(format!("{prefix}{value}")),
                        Switch::Clear(_) => continue,
                    };
                    let origin = Heard { origin: self.fragment(touch), about: name.clone(), said: switch.to_string() };
                    words.push(Word { layer: Layer::MakeConf, action: Action::Switch(own), origin });
                }
            }
        }
        Ok(())
    }

    /// The assignments of the stage3's own `make.conf`, the last one of each name.
    pub(super) fn stage3_make_conf(&self) -> Result<Vec<Default>> {
        let mut known = Known::new();
        if let Some(text) = &self.around.make_globals {
            drop(evaluate(text, &source_of(MAKE_GLOBALS), &mut known));
        }
        for node in self.nodes() {
            node.make_defaults(&mut known)?;
        }
        let Some(text) = &self.around.make_conf else { return Ok(Vec::new()) };
        // Portage would refuse this root. We answer as far as we can without the file.
        let all = evaluate(text, &source_of(STAGE3_MAKE_CONF), &mut known).unwrap_or_default();
        let last: BTreeMap<String, Default> = all.into_iter().map(|default| (default.name.clone(), default)).collect();
        Ok(last.into_values().collect())
    }

    fn touches(&self, layer: Layer, about: &str, touches: &[Touch], words: &mut Words) {
        for (touch, switch) in switches(touches) {
            // Words from the stage3's value are the stage3's.
            if !switch.name().contains("${") {
                push(words, layer, &switch.to_string(), self.fragment(touch), about);
            }
        }
    }

    /// The words in files of `env/` that `package.env` names for the package.
    fn package_env(&self, expand: &[String], ebuild: &Ebuild, words: &mut Words) -> Result<()> {
        let mut known = self.known()?;
        let mut replace = Words::new();
        for entry in self.meaning(&[LineFile::Env], &ebuild.version) {
            for word in entry.words() {
                let path = std::path::Path::new("env").join(word.switch.name());
                let text = self.portage.files.get(&path).and_then(|bytes| super::effective::text(bytes));
                let file = self.portage.sources(&path).first().cloned().unwrap_or(path);
                let source = Source { repository: None, file, line: 0 };
                for default in text.and_then(|text| evaluate(text, &source, &mut known).ok()).unwrap_or_default() {
                    let own = &default.source.file;
                    let origin = |source: &Source| {
                        if source.file == *own {
                            Origin::Fragment {
                                fragment: source.file.parent().and_then(std::path::Path::parent).unwrap_or(&source.file).to_owned(),
                                place: super::Place::new(&source.file, source.line),
                                overrides: false,
                            }
                        } else {
                            outside(source)
                        }
                    };
                    if default.name == "USE" {
                        for (word, source) in &default.words {
                            push(words, Layer::Package, word, origin(source), "package.env");
                        }
                    } else if expand.contains(&default.name) {
                        let mut word = replacing(&default.name, &default.value, origin(&default.source));
                        word.layer = Layer::Package;
                        replace.push(word);
                    }
                }
            }
        }
        // Portage reads these after `package.use`. Nobody uses both for one package, and this order keeps related words together.
        words.extend(replace);
        Ok(())
    }

    fn package_use(&self, ebuild: &Ebuild, words: &mut Words) {
        for entry in self.meaning(&[LineFile::Use], &ebuild.version).into_iter().filter(|entry| entry.atom != EVERYTHING) {
            self.touches(Layer::Package, &format!("package.use {}", entry.atom), entry.history, words);
        }
    }
}

fn replacing(name: &str, value: &str, origin: Origin) -> Word<Heard> {
    let values: BTreeSet<String> = value.split_whitespace().filter(|word| !word.starts_with('-')).map(str::to_owned).collect();
    let said = format!("{name}=\"{value}\"");
    Word {
        layer: Layer::MakeConf,
        action: Action::Replace { prefix: format!("{}_", name.to_lowercase()), values },
        origin: Heard { origin, about: name.to_owned(), said },
    }
}

fn push(words: &mut Words, layer: Layer, word: &str, origin: Origin, about: &str) {
    let origin = Heard { origin, about: about.to_owned(), said: word.to_owned() };
    words.push(Word { layer, action: Action::Switch(Switch::parse(word)), origin });
}

/// `use.mask` and its relatives.
fn flags(node: &Node, layer: Layer, file: &str, words: &mut Words) -> Result<()> {
    for (word, source) in node.flags(file)? {
        push(words, layer, &word, Origin::Profile { source }, file);
    }
    Ok(())
}

/// `package.use` of a profile, `package.use.mask` and their relatives: the matching lines, the most specific last. Lines with the same
/// atom are one, at the place of the first.
fn packages(node: &Node, layer: Layer, file: &str, ebuild: &Ebuild, words: &mut Words) -> Result<()> {
    let lines = node.packages(file)?;
    let mut atoms: Vec<&Atom> = Vec::new();
    for line in &lines {
        if !atoms.contains(&&line.atom) {
            atoms.push(&line.atom);
        }
    }
    for index in by_specificity(&atoms, &ebuild.version) {
        let of = |line: &&PackageLine| line.atom == *atoms[index];
        for line in lines.iter().filter(of) {
            for word in &line.words {
                let origin = Origin::Profile { source: line.source.clone() };
                push(words, layer, word, origin, &format!("{file} {}", line.atom));
            }
        }
    }
    Ok(())
}
