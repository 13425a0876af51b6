//! Explains packages: which versions can be installed, with which flags, and by which lines of the configuration.

use std::collections::BTreeSet;

use serde::Serialize;

use super::super::diagnostic::Place;
use super::{ExplainError, Explainer, FlagExplained, Origin, Result, Step};
use crate::did_you_mean::nearest;
use crate::portage::atom::Atom;
use crate::portage::effective_use::verdicts;
use crate::portage::matching::{Version, by_specificity};
use crate::portage::package_files::LineFile;
use crate::portage::profile_stack::PackageLine;
use crate::portage::repository::Ebuild;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PackageExplained {
    /// `category/name`
    pub package: String,
    /// The matching versions, lowest first; `None` without a repository.
    pub versions: Vec<VersionExplained>,
    /// The version whose flags are shown: the highest that can be installed, else the highest.
    pub version: Option<String>,
    pub flags: Vec<PackageFlag>,
    /// Lines of the configuration that match the package or one of its versions.
    pub lines: Vec<PackageNote>,
}

/// Whether a version can be installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct VersionExplained {
    #[serde(flatten)]
    pub version: Version,
    /// Its `KEYWORDS`, if none of them is accepted.
    pub missing_keywords: Option<Vec<String>>,
    /// Its licences that are not accepted, if any.
    pub missing_licences: Option<Vec<String>>,
    /// The line that masks it, unless another one unmasks it.
    pub masked_by: Option<Mask>,
    /// The line that would mask it, if it were not unmasked.
    pub unmasked: Option<Mask>,
}

impl VersionExplained {
    /// Whether keywords, licences and masks allow it.
    pub(crate) fn is_visible(&self) -> bool {
        self.missing_keywords.is_none() && self.missing_licences.is_none() && self.masked_by.is_none()
    }
}

/// A line of `package.mask`, or the stronger one of `package.unmask`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Mask {
    /// As written.
    pub atom: String,
    pub origin: Origin,
}

/// A flag of a version, and who decides it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PackageFlag {
    pub flag: String,
    pub enabled: bool,
    /// Who sets it; `None` if nobody does, and it is off.
    pub decided_by: Option<Step>,
}

/// A line of the configuration about a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PackageNote {
    /// `package.use` or one of its relatives.
    pub file: &'static str,
    pub atom: String,
    /// All statements about them.
    pub said: String,
    pub places: Vec<Place>,
}

impl Explainer<'_> {
    /// All ebuilds that match `atom`, lowest version first; for the same version those of the main repository first.
    pub(super) fn ebuilds(&self, atom: &Atom) -> Result<Vec<Ebuild>> {
        let mut ebuilds = Vec::new();
        for repository in self.around.repositories.iter().rev() {
            ebuilds.extend(repository.ebuilds(&atom.category, &atom.package)?);
        }
        ebuilds.retain(|ebuild| atom.matches(&ebuild.version));
        ebuilds.sort_by(|a, b| crate::portage::version::compare(&a.version.version, &b.version.version));
        Ok(ebuilds)
    }

    /// The matching ebuilds, one without version if no repository is known; an error if there are none.
    fn meant(&self, atom: &Atom) -> Result<Vec<Ebuild>> {
        if atom.is_wildcard() {
            let source = crate::portage::atom::AtomError::Wildcard(atom.to_string());
            return Err(ExplainError::Atom { word: atom.to_string(), source });
        }
        if self.around.repositories.is_empty() {
            let version = Version {
                category: atom.category.clone(),
                package: atom.package.clone(),
                version: String::new(),
                slot: None,
                repository: None,
            };
            return Ok(vec![Ebuild { version, metadata: std::collections::BTreeMap::new() }]);
        }
        let ebuilds = self.ebuilds(atom)?;
        if !ebuilds.is_empty() {
            return Ok(ebuilds);
        }
        let any =
            Atom { operator: None, version: None, slot: None, repository: None, use_dependencies: Vec::new(), ..atom.clone() };
        let known = self.ebuilds(&any)?;
        let package = atom.name();
        if !known.is_empty() {
            let known = known.iter().map(|ebuild| ebuild.version.version.clone()).collect();
            return Err(ExplainError::NoVersion { atom: atom.to_string(), package, known });
        }
        let mut all = Vec::new();
        for repository in &self.around.repositories {
            all.extend(repository.packages()?);
        }
        let nearest = nearest(&package, &all).map(str::to_owned);
        let repositories = self.around.repositories.iter().map(|repository| repository.name.clone()).collect();
        Err(ExplainError::NoPackage { package, repositories, nearest })
    }

    /// The matching version that emerge would take.
    fn chosen(&self, ebuilds: Vec<Ebuild>) -> Result<(Vec<VersionExplained>, Option<Ebuild>)> {
        let mut versions = Vec::new();
        for ebuild in &ebuilds {
            versions.push(self.visibility(ebuild)?);
        }
        let best = versions.iter().rposition(VersionExplained::is_visible).or(ebuilds.len().checked_sub(1));
        Ok((versions, best.and_then(|index| ebuilds.into_iter().nth(index))))
    }

    /// Explains the package of `atom`.
    pub(crate) fn package(&self, atom: &Atom) -> Result<PackageExplained> {
        let known = !self.around.repositories.is_empty();
        let (versions, chosen) = self.chosen(self.meant(atom)?)?;
        let mut flags = Vec::new();
        if let Some(ebuild) = chosen.as_ref().filter(|_| known) {
            let words = self.package_words(ebuild, self.is_stable(ebuild)?)?;
            let iuse: BTreeSet<String> = ebuild.flags().map(str::to_owned).collect();
            for (flag, verdict) in verdicts(&words, &iuse) {
                let decided_by = verdict.decided_by().map(|index| super::step(&words[index], super::Outcome::Decides));
                flags.push(PackageFlag { flag, enabled: verdict.enabled, decided_by });
            }
        }
        Ok(PackageExplained {
            package: atom.name(),
            versions: if known { versions } else { Vec::new() },
            version: chosen.filter(|_| known).map(|ebuild| ebuild.version.version),
            flags,
            lines: self.lines_about(atom),
        })
    }

    /// Explains the flag `flag` of the package of `atom`.
    pub(crate) fn package_flag(&self, atom: &Atom, flag: &str) -> Result<FlagExplained> {
        let (_, chosen) = self.chosen(self.meant(atom)?)?;
        let Some(ebuild) = chosen else {
            return Err(ExplainError::NoVersion { atom: atom.to_string(), package: atom.name(), known: Vec::new() });
        };
        let words = self.package_words(&ebuild, self.is_stable(&ebuild)?)?;
        let iuse: BTreeSet<String> = ebuild.flags().map(str::to_owned).collect();
        let explained = super::explained(&words, flag, &iuse);
        let exists = (!ebuild.metadata.is_empty()).then(|| iuse.contains(flag) || self.is_implicit(flag).unwrap_or(false));
        let mentioned = explained.steps.iter().any(|step| step.said.trim_start_matches('-') == flag);
        if exists == Some(false) && !mentioned {
            let nearest = nearest(flag, &iuse).map(str::to_owned);
            let (version, known) = (ebuild.version.to_string(), iuse.into_iter().collect());
            return Err(ExplainError::NoFlag { version, flag: flag.to_owned(), nearest, known });
        }
        Ok(FlagExplained { version: Some(ebuild.version.to_string()), exists, ..explained })
    }

    /// Whether every package has a flag, by `IUSE_IMPLICIT` and `USE_EXPAND_IMPLICIT` (PMS 11.1.1).
    pub(super) fn is_implicit(&self, flag: &str) -> Result<bool> {
        if self.stacked("IUSE_IMPLICIT")?.iter().any(|implicit| implicit == flag) {
            return Ok(true);
        }
        let unprefixed = self.stacked("USE_EXPAND_UNPREFIXED")?;
        for variable in self.stacked("USE_EXPAND_IMPLICIT")? {
            let values = self.stacked(&format!("USE_EXPAND_VALUES_{variable}"))?;
            let prefix = if unprefixed.contains(&variable) { String::new() } else { format!("{}_", variable.to_lowercase()) };
            if values.iter().any(|value| flag.strip_prefix(&prefix) == Some(value)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Lines of the configuration that mean the package or a version of it.
    fn lines_about(&self, atom: &Atom) -> Vec<PackageNote> {
        let mut lines = Vec::new();
        for kind in LineFile::ALL {
            for entry in self.portage.entries(kind) {
                let means = entry.atom.parse::<Atom>().is_ok_and(|own| own.can_mean(&atom.category, &atom.package));
                if means {
                    let words: Vec<String> = entry.words().map(|word| word.switch.to_string()).collect();
                    let minus = if entry.negated { "-" } else { "" };
                    let (atom, places) = (format!("{minus}{}", entry.atom), entry.places.to_vec());
                    lines.push(PackageNote { file: kind.file_name(), atom, said: words.join(" "), places });
                }
            }
        }
        lines
    }

    fn visibility(&self, ebuild: &Ebuild) -> Result<VersionExplained> {
        let accepted = self.accepted(ebuild)?;
        let keywords: Vec<String> = ebuild.words("KEYWORDS").filter(|word| *word != "-*").map(str::to_owned).collect();
        let missing = !ebuild.metadata.is_empty() && !accepts(&accepted, &keywords);
        let (masked_by, unmasked) = match self.mask(ebuild)? {
            Some((mask, None)) => (Some(mask), None),
            Some((_, Some(unmask))) => (None, Some(unmask)),
            None => (None, None),
        };
        Ok(VersionExplained {
            version: ebuild.version.clone(),
            missing_keywords: missing.then_some(keywords),
            missing_licences: self.missing_licences(ebuild)?,
            masked_by,
            unmasked,
        })
    }

    /// The keywords that are accepted for a version (`_config/KeywordsManager.py`).
    fn accepted(&self, ebuild: &Ebuild) -> Result<BTreeSet<String>> {
        let global = self.variable("ACCEPT_KEYWORDS").map(|explained| explained.value).unwrap_or_default();
        let global: Vec<&str> = global.split_whitespace().collect();
        let testing = || global.iter().filter(|word| !word.starts_with(['~', '-'])).map(|word| format!("~{word}"));
        let mut words: Vec<String> = global.iter().map(|word| (*word).to_owned()).collect();
        for node in self.stack.iter().flat_map(|stack| &stack.nodes) {
            let lines = node.packages("package.accept_keywords")?;
            let atoms: Vec<&Atom> = lines.iter().map(|line| &line.atom).collect();
            for index in by_specificity(&atoms, &ebuild.version) {
                let line: &PackageLine = &lines[index];
                if line.words.is_empty() { words.extend(testing()) } else { words.extend(line.words.iter().cloned()) }
            }
        }
        for entry in self.meaning(&[LineFile::Keywords, LineFile::AcceptKeywords], &ebuild.version) {
            let own: Vec<String> = entry.words().map(|word| word.switch.to_string()).collect();
            if own.is_empty() { words.extend(testing()) } else { words.extend(own) }
        }
        let mut accepted = BTreeSet::new();
        for word in words {
            match word.strip_prefix('-') {
                Some("*") => accepted.clear(),
                Some(word) => {
                    accepted.remove(word);
                }
                None => {
                    accepted.insert(word);
                }
            }
        }
        Ok(accepted)
    }

    /// Whether the `*.stable.*` files apply: the version is accepted, and would not be if it had only testing keywords.
    pub(super) fn is_stable(&self, ebuild: &Ebuild) -> Result<bool> {
        let accepted = self.accepted(ebuild)?;
        let keywords: Vec<String> = ebuild.words("KEYWORDS").filter(|word| *word != "-*").map(str::to_owned).collect();
        let testing: Vec<String> =
            keywords.iter().map(|word| if word.starts_with('~') { word.clone() } else { format!("~{word}") }).collect();
        Ok(accepts(&accepted, &keywords) && !accepts(&accepted, &testing))
    }

    /// The line that masks a version, and the one that unmasks it (`_config/MaskManager.py`).
    fn mask(&self, ebuild: &Ebuild) -> Result<Option<(Mask, Option<Mask>)>> {
        let find =
            |masks: Vec<(Atom, Mask)>| masks.into_iter().find(|(atom, _)| atom.matches(&ebuild.version)).map(|(_, mask)| mask);
        let Some(mask) = find(self.masks(ebuild, "package.mask", LineFile::Mask)?) else { return Ok(None) };
        Ok(Some((mask, find(self.masks(ebuild, "package.unmask", LineFile::Unmask)?))))
    }

    fn masks(&self, ebuild: &Ebuild, file: &str, kind: LineFile) -> Result<Vec<(Atom, Mask)>> {
        let mut all = Vec::new();
        for node in self.with_masters(ebuild)? {
            add_masks(&mut all, node.packages(file)?);
        }
        let mut profile = Vec::new();
        for node in self.stack.iter().flat_map(|stack| &stack.nodes) {
            add_masks(&mut profile, node.packages(file)?);
        }
        all.extend(profile);
        for entry in self.portage.entries(kind) {
            let Ok(atom) = entry.atom.parse::<Atom>() else { continue };
            if entry.negated {
                all.retain(|(known, _): &(Atom, Mask)| *known != atom);
            } else if let Some(touch) = entry.history.last() {
                all.push((atom, Mask { atom: entry.atom.to_owned(), origin: self.fragment(touch) }));
            }
        }
        Ok(all)
    }
}

fn add_masks(masks: &mut Vec<(Atom, Mask)>, lines: Vec<PackageLine>) {
    for line in lines {
        if line.negated {
            masks.retain(|(known, _)| *known != line.atom);
        } else {
            let mask = Mask { atom: line.atom.to_string(), origin: Origin::Profile { source: line.source } };
            masks.push((line.atom, mask));
        }
    }
}

/// Whether one of `keywords` is among those that are accepted.
fn accepts(accepted: &BTreeSet<String>, keywords: &[String]) -> bool {
    let testing = keywords.iter().any(|word| word.starts_with('~'));
    let stable = keywords.iter().any(|word| !word.starts_with(['~', '-']));
    keywords
        .iter()
        .any(|word| word == "*" || (word == "~*" && accepted.iter().any(|word| word.starts_with('~'))) || accepted.contains(word))
        || (testing && accepted.contains("~*"))
        || (stable && accepted.contains("*"))
        || accepted.contains("**")
}
