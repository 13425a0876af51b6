//! A stage in Portage's terms: every flag, keyword, licence, mask, variable, package, patch, script, removal and file separately, with
//! its lines. So two stages can be compared whatever the order and shape of their files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::binary_packages::BinaryPackages;
use super::definition::{NetworkUse, UserScript};
use super::diagnostic::{Findings, Located, Place};
use super::hooks::Hooks;
use super::packages::Package;
use super::portage_dir::{AtomEntry, PortageDir};
use super::stage::Stage;
use super::{ConfigDir, reading};
use crate::portage::package_files::LineFile;
use crate::portage::use_flags::Switch;

/// What a term is about, in the order in which differences are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// Profile, Portage profile, stage3 definition, format.
    Definition,
    /// What is installed.
    Packages,
    /// USE flags, also those of one package, and of `USE_EXPAND` variables.
    Flags,
    /// `ACCEPT_KEYWORDS` and `package.accept_keywords`.
    Keywords,
    /// `ACCEPT_LICENSE` and `package.license`.
    Licences,
    /// `package.mask` and `package.unmask`.
    Masks,
    /// `ACCEPT_PROPERTIES`, `ACCEPT_RESTRICT` and their `package.*` files.
    Properties,
    /// `package.env`.
    Environments,
    /// The other variables of `make.conf`.
    Variables,
    /// `patches/`.
    Patches,
    /// Options of the kernel.
    Kernel,
    /// `user.scripts`.
    Scripts,
    Hooks,
    Removes,
    /// What is brought back.
    Keeps,
    /// Who may use the network.
    Network,
    /// Any other file of the Portage directory.
    Files,
}

impl Topic {
    /// As a heading.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Definition => "definition",
            Self::Packages => "packages",
            Self::Flags => "flags",
            Self::Keywords => "keywords",
            Self::Licences => "licences",
            Self::Masks => "masks",
            Self::Properties => "properties and restrictions",
            Self::Environments => "environments",
            Self::Variables => "variables",
            Self::Patches => "patches",
            Self::Kernel => "kernel",
            Self::Scripts => "scripts",
            Self::Hooks => "hooks",
            Self::Removes => "removes",
            Self::Keeps => "keeps",
            Self::Network => "network",
            Self::Files => "files",
        }
    }
}

/// What is said about a subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Term {
    /// `on`, `off`, a value, or the start of a digest; empty if its presence says everything.
    pub value: String,
    /// The lines that say so; relative to the configuration directory.
    pub places: Vec<Place>,
}

/// All terms of a stage by topic and subject.
pub(crate) type Terms = BTreeMap<(Topic, String), Term>;

impl ConfigDir {
    /// The terms of a stage with the merged Portage directory `portage`.
    pub fn terms(&self, stage: &Stage, portage: &PortageDir) -> Terms {
        let mut teller = Teller::default();
        teller.definition(stage);
        teller.packages(stage.stage3.packages.iter().chain(stage.stage4.iter().flat_map(|stage4| &stage4.packages)));
        teller.make_conf(portage);
        for kind in LineFile::ALL {
            for entry in portage.entries(kind) {
                teller.line(kind, &entry);
            }
        }
        teller.files(portage);
        teller.stage4(stage);
        teller.kernel(self.root(), stage);
        teller.hooks(self.root());
        teller.0
    }
}

#[derive(Default)]
struct Teller(Terms);

impl Teller {
    fn tell(&mut self, topic: Topic, subject: impl Into<String>, value: impl Into<String>, places: Vec<Place>) {
        self.0.insert((topic, subject.into()), Term { value: value.into(), places });
    }

    fn definition(&mut self, stage: &Stage) {
        let stage3 = &stage.stage3;
        if let Some(stage4) = &stage.stage4 {
            self.tell(Topic::Definition, "profile", &stage4.profile.value, vec![stage4.profile.place()]);
            self.tell(Topic::Definition, "stage3", &stage4.stage3.value, vec![stage4.stage3.place()]);
            if let Some(format) = &stage4.format {
                self.tell(Topic::Definition, "format", format.value.to_string(), vec![format.place()]);
            }
        }
        if let Some(profile) = &stage3.portage_profile {
            self.tell(Topic::Definition, "Portage profile", profile.value.to_string(), vec![profile.place()]);
        }
        self.scripts(&stage3.scripts);
        self.network(&stage3.network);
        let BinaryPackages { own, no_hosts, first_hosts } = &stage3.binary_packages;
        let hosts = "binary package hosts";
        for (name, value, place) in [("binary packages", "own", own), (hosts, "none", no_hosts), (hosts, "first", first_hosts)] {
            if let Some(place) = place {
                self.tell(Topic::Definition, name, value, vec![place.clone()]);
            }
        }
    }

    fn packages<'a>(&mut self, packages: impl Iterator<Item = &'a Located<Package>>) {
        for package in packages {
            let term = self.0.entry((Topic::Packages, package.value.to_string()));
            term.or_insert_with(|| Term { value: String::new(), places: Vec::new() }).places.push(package.place());
        }
    }

    fn make_conf(&mut self, portage: &PortageDir) {
        for (name, places) in portage.variables() {
            let Some(entries) = portage.list(&name) else {
                self.tell(Topic::Variables, name.clone(), portage.written(&name).unwrap_or_default(), places);
                continue;
            };
            // A word that keeps the value before it is no entry of the list.
            let itself = format!("${{{name}}}");
            for entry in entries.into_iter().filter(|entry| entry.switch.name() != itself) {
                let (topic, subject) = match name.as_str() {
                    "USE" => (Topic::Flags, subject(entry.switch)),
                    "ACCEPT_KEYWORDS" => (Topic::Keywords, subject(entry.switch)),
                    "ACCEPT_LICENSE" => (Topic::Licences, subject(entry.switch)),
                    "ACCEPT_PROPERTIES" | "ACCEPT_RESTRICT" => (Topic::Properties, format!("{name}: {}", subject(entry.switch))),
                    "FEATURES" | "CONFIG_PROTECT" | "CONFIG_PROTECT_MASK" | "ENV_UNSET" => {
                        (Topic::Variables, format!("{name}: {}", subject(entry.switch)))
                    }
                    _ => (Topic::Flags, format!("{name}: {}", subject(entry.switch))),
                };
                self.tell(topic, subject, on_or_off(entry.switch), entry.places.to_vec());
            }
        }
    }

    fn line(&mut self, kind: LineFile, entry: &AtomEntry<'_>) {
        let atom = entry.atom;
        let topic = match kind {
            LineFile::Use => Topic::Flags,
            LineFile::AcceptKeywords | LineFile::Keywords => Topic::Keywords,
            LineFile::License => Topic::Licences,
            LineFile::Properties | LineFile::AcceptRestrict => Topic::Properties,
            LineFile::Env => Topic::Environments,
            LineFile::Mask | LineFile::Unmask => {
                let value = match (kind, entry.negated) {
                    (LineFile::Mask, false) => "masked",
                    (LineFile::Mask, true) => "not masked any more",
                    (_, false) => "unmasked",
                    (_, true) => "not unmasked any more",
                };
                return self.tell(Topic::Masks, atom, value, entry.places.to_vec());
            }
        };
        let mut words = entry.words().peekable();
        if words.peek().is_none() {
            self.tell(topic, atom, "testing", entry.places.to_vec());
        }
        for word in words {
            self.tell(topic, format!("{atom} {}", subject(word.switch)), on_or_off(word.switch), word.places.to_vec());
        }
    }

    fn files(&mut self, portage: &PortageDir) {
        for path in portage.files.keys() {
            let sources = portage.sources(path);
            if sources.is_empty() {
                continue;
            }
            let (topic, name) = match path.strip_prefix("patches") {
                Ok(patch) => (Topic::Patches, patch),
                Err(_) => (Topic::Files, path.as_path()),
            };
            let executable = portage.modes.get(path).is_some_and(|mode| mode & 0o111 != 0);
            let value = format!("{}{}", digest(&portage.files[path]), if executable { ", executable" } else { "" });
            self.tell(topic, name.display().to_string(), value, sources.iter().map(|source| Place::whole(source)).collect());
        }
    }

    fn stage4(&mut self, stage: &Stage) {
        let Some(stage4) = &stage.stage4 else { return };
        self.scripts(&stage4.scripts);
        self.network(&stage4.network);
        for remove in &stage4.removes {
            self.tell(Topic::Removes, remove.value.to_string(), "", vec![remove.place()]);
        }
        for keep in &stage4.keep {
            self.tell(Topic::Keeps, keep.value.to_string(), "", vec![keep.place()]);
        }
    }

    fn scripts(&mut self, scripts: &[UserScript]) {
        for script in scripts {
            self.tell(Topic::Scripts, &script.name.value, digest(&script.contents), vec![script.name.place()]);
        }
    }

    fn network(&mut self, network: &NetworkUse) {
        if let Some(place) = &network.everything {
            self.tell(Topic::Network, "everything", "", vec![place.clone()]);
        }
        for atom in &network.atoms {
            self.tell(Topic::Network, atom.value.to_string(), "", vec![atom.place()]);
        }
    }

    /// The options that a kernel configuration sets: `CONFIG_X=y`, `# CONFIG_Y is not set`.
    fn kernel(&mut self, root: &Path, stage: &Stage) {
        let Some(kconf) = stage.stage4.as_ref().and_then(|stage4| stage4.kconf.as_ref()) else { return };
        self.tell(Topic::Definition, "kernel", kconf.value.display().to_string(), vec![kconf.place()]);
        if let Some(sources) = stage.stage4.as_ref().and_then(|stage4| stage4.kernel_sources.as_ref()) {
            self.tell(Topic::Definition, "kernel sources", sources.value.to_string(), vec![sources.place()]);
        }
        let Some(text) = reading::text(&mut Findings::new(root), &kconf.value) else { return };
        for (number, line) in (1..).zip(text.lines()) {
            let set = line.split_once('=').filter(|(name, _)| name.starts_with("CONFIG_"));
            let unset = line.strip_prefix("# ").and_then(|line| line.strip_suffix(" is not set"));
            if let Some((option, value)) = set.or(unset.map(|option| (option, "n"))) {
                self.tell(Topic::Kernel, option, value, vec![Place::new(&kconf.value, number)]);
            }
        }
    }

    fn hooks(&mut self, root: &Path) {
        // Their errors are reported before a build.
        let Ok(hooks) = Hooks::with_config(root) else { return };
        for hook in hooks.iter() {
            let name = format!("{}.d/{}", hook.phase, hook.name);
            let places = hook.path.iter().map(|_| Place::whole(&Path::new("hooks").join(&name))).collect();
            self.tell(Topic::Hooks, name, digest(hook.contents.as_bytes()), places);
        }
    }
}

fn subject(switch: &Switch) -> String {
    match switch {
        Switch::On(name) | Switch::Off(name) => name.clone(),
        Switch::Clear(_) => switch.to_string(),
    }
}

fn on_or_off(switch: &Switch) -> &'static str {
    match switch {
        Switch::On(_) => "on",
        Switch::Off(_) => "off",
        Switch::Clear(_) => "",
    }
}

/// Enough of a SHA-256 to tell two files apart.
fn digest(bytes: &[u8]) -> String {
    let mut text = hex::encode(Sha256::digest(bytes));
    text.truncate(12);
    text
}

/// How two stages differ about one subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Difference {
    /// What it is about.
    pub topic: Topic,
    /// Flag, atom, variable, path.
    pub subject: String,
    /// The first stage's value; `None` if only the second has one.
    pub before: Option<Term>,
    /// The second stage's value; `None` if only the first has one.
    pub after: Option<Term>,
}

/// All subjects in which `before` and `after` differ, by topic and name. Places are not compared. Of two kernel configurations with
/// different names only the names are reported.
pub(crate) fn differences(before: &Terms, after: &Terms) -> Vec<Difference> {
    let kernel = |terms: &Terms| terms.get(&(Topic::Definition, "kernel".to_owned())).map(|term| term.value.clone());
    let same_kernel = kernel(before) == kernel(after);
    let keys: BTreeSet<&(Topic, String)> =
        before.keys().chain(after.keys()).filter(|(topic, _)| same_kernel || *topic != Topic::Kernel).collect();
    let differ = |key: &(Topic, String)| {
        let (before, after) = (before.get(key), after.get(key));
        let same = before.map(|term| &term.value) == after.map(|term| &term.value);
        (!same).then(|| Difference { topic: key.0, subject: key.1.clone(), before: before.cloned(), after: after.cloned() })
    };
    keys.into_iter().filter_map(differ).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::config;

    fn compare(before: &[(&str, &str)], after: &[(&str, &str)]) -> String {
        let terms = |files: &[(&str, &str)]| {
            let mut all = vec![("stage3.defines/base/portage.local", "one\ntwo\n"), ("portage.locals/two/make.conf/00", "")];
            all.extend(files);
            let (_dir, config) = config(&all);
            let stage = config.stage("base").unwrap();
            config.terms(&stage, &config.portage_dir(&stage.stage3).unwrap())
        };
        let value = |term: &Option<Term>| term.as_ref().map_or("-", |term| &term.value).to_owned();
        let told = differences(&terms(before), &terms(after));
        let told: Vec<String> = told
            .iter()
            .map(|one| format!("{} | {} | {} > {}", one.topic.as_str(), one.subject, value(&one.before), value(&one.after)))
            .collect();
        told.join("\n")
    }

    #[test]
    fn order_and_shape_of_files_are_no_difference() {
        let one: &[(&str, &str)] = &[
            ("portage.locals/one/make.conf", "USE=\"a b\"\nCFLAGS=\"-O2\"\nVIDEO_CARDS=\"amdgpu\"\n"),
            ("portage.locals/one/package.use", "a/b x\nc/d y\n"),
        ];
        let other: &[(&str, &str)] = &[
            ("portage.locals/one/make.conf/10", "VIDEO_CARDS=\"amdgpu\"\n"),
            ("portage.locals/two/make.conf/10", "CFLAGS='-O2'\nUSE=\"b\n\na\"\n"),
            ("portage.locals/one/package.use/z", "c/d y\n"),
            ("portage.locals/two/package.use/a", "a/b x\n"),
        ];
        assert_eq!(compare(one, &[other, &[("portage.locals/two/package.use/b", "# none\n")]].concat()), "");
    }

    #[test]
    fn a_reference_to_the_list_itself_is_no_flag() {
        let one = ("portage.locals/one/make.conf", "");
        let extended = |text| compare(&[one], &[one, ("portage.locals/two/make.conf/10", text)]);
        assert_eq!(extended("USE=\"${USE} -nls\"\n"), "flags | nls | - > off");
    }

    #[test]
    fn tells_differences_by_subject() {
        let told = compare(
            &[
                ("portage.locals/one/make.conf", "USE=\"a b\"\nCOMMON_FLAGS=\"-O2\"\nACCEPT_LICENSE=\"-* @FREE\"\n"),
                ("portage.locals/one/package.accept_keywords", "a/b\n"),
                ("portage.locals/one/package.mask", "m/m\n"),
                ("portage.locals/one/bashrc", "1\n"),
                ("stage3.defines/base/network", "*\n"),
            ],
            &[
                (
                    "portage.locals/one/make.conf",
                    "USE=\"a -b\"\nCOMMON_FLAGS=\"-O3\"\nACCEPT_LICENSE=\"@FREE\"\nFEATURES=\"test\"\n",
                ),
                ("portage.locals/one/package.accept_keywords", "a/b **\n"),
                ("portage.locals/one/package.unmask", "m/m\n"),
                ("portage.locals/one/bashrc", "2\n"),
                ("stage3.defines/base/network", "a/b\n"),
            ],
        );
        insta::assert_snapshot!(told, @r"
        flags | b | on > off
        keywords | a/b | testing > -
        keywords | a/b ** | - > on
        licences | -* |  > -
        masks | m/m | masked > unmasked
        variables | COMMON_FLAGS | -O2 > -O3
        variables | FEATURES: test | - > on
        network | a/b | - > 
        network | everything |  > -
        files | bashrc | 4355a46b19d3 > 53c234e5e847
        ");
    }
}
