//! Whether the licences of a version are accepted: `ACCEPT_LICENSE`, then `package.license`.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Explainer, Result};
use crate::portage::atom::Atom;
use crate::portage::effective_use::verdicts;
use crate::portage::licence::{self, LicenceGroups};
use crate::portage::matching::by_specificity;
use crate::portage::package_files::LineFile;
use crate::portage::repository::{Ebuild, RepositoryError};

/// What Portage accepts where nobody says anything.
const DEFAULT: [&str; 2] = ["*", "-@EULA"];

impl Explainer<'_> {
    /// The licences of a version that are not accepted; `None` if all are, or nothing is known of them.
    pub(super) fn missing_licences(&self, ebuild: &Ebuild) -> Result<Option<Vec<String>>> {
        let Some(text) = ebuild.metadata.get("LICENSE") else { return Ok(None) };
        let mut words = self.words_in_force("ACCEPT_LICENSE")?;
        if words.is_empty() {
            words.extend(DEFAULT.map(str::to_owned));
        }
        let entries: Vec<_> = self.portage.entries(LineFile::License).collect();
        let atoms: Vec<Atom> = entries.iter().filter_map(|entry| entry.atom.parse().ok()).collect();
        let atoms: Vec<&Atom> = atoms.iter().collect();
        for index in by_specificity(&atoms, &ebuild.version) {
            words.extend(entries[index].words().map(|word| word.switch.to_string()));
        }
        let accepted = self.licence_groups()?.expand(words.iter().map(String::as_str));
        let on = if text.contains('?') { self.flags_on(ebuild)? } else { BTreeSet::new() };
        let missing = licence::missing(text, &accepted, &|flag| on.contains(flag));
        Ok(missing.filter(|missing| !missing.is_empty()))
    }

    /// Groups of all repositories, and the configuration's own.
    fn licence_groups(&self) -> Result<LicenceGroups> {
        let mut groups = LicenceGroups::default();
        for repository in &self.around.repositories {
            let path = repository.path.join("profiles/license_groups");
            match std::fs::read(&path) {
                Ok(bytes) => groups.add(&String::from_utf8_lossy(&bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(RepositoryError::read(&path)(error).into()),
            }
        }
        if let Some(bytes) = self.portage.files.get(Path::new("license_groups")) {
            groups.add(&String::from_utf8_lossy(bytes));
        }
        Ok(groups)
    }

    fn flags_on(&self, ebuild: &Ebuild) -> Result<BTreeSet<String>> {
        let words = self.package_words(ebuild, self.is_stable(ebuild)?)?;
        let iuse: BTreeSet<String> = ebuild.flags().map(str::to_owned).collect();
        Ok(verdicts(&words, &iuse).into_iter().filter(|(_, verdict)| verdict.enabled).map(|(flag, _)| flag).collect())
    }
}
