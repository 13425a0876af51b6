//! Whether the licences of a version are accepted: `ACCEPT_LICENSE`, then `package.license`.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Explainer, Result};
use crate::portage::effective_use::verdict;
use crate::portage::licence::{self, LicenceGroups};
use crate::portage::package_files::LineFile;
use crate::portage::repository::Ebuild;

/// Portage's default.
const DEFAULT: [&str; 2] = ["*", "-@EULA"];

impl Explainer<'_> {
    /// The licences of a version that are not accepted; `None` if all are, or if they are unknown.
    pub(super) fn missing_licences(&self, ebuild: &Ebuild) -> Result<Option<Vec<String>>> {
        let Some(text) = ebuild.metadata.get("LICENSE") else { return Ok(None) };
        let mut words = self.words_in_force("ACCEPT_LICENSE")?;
        if words.is_empty() {
            words.extend(DEFAULT.map(str::to_owned));
        }
        for entry in self.meaning(&[LineFile::License], &ebuild.version) {
            words.extend(entry.words().map(|word| word.switch.to_string()));
        }
        let accepted = self.licence_groups()?.expand(words.iter().map(String::as_str));
        let on = if text.contains('?') { self.flags_on(text, ebuild)? } else { BTreeSet::new() };
        let missing = licence::missing(text, &accepted, &|flag| on.contains(flag));
        Ok(missing.filter(|missing| !missing.is_empty()))
    }

    /// The licence groups of all repositories and of the configuration.
    fn licence_groups(&self) -> Result<&LicenceGroups> {
        if let Some(groups) = self.licence_groups.get() {
            return Ok(groups);
        }
        let mut groups = LicenceGroups::default();
        for repository in &self.around.repositories {
            groups.add(&repository.text("profiles/license_groups")?.unwrap_or_default());
        }
        if let Some(bytes) = self.portage.files.get(Path::new("license_groups")) {
            groups.add(&String::from_utf8_lossy(bytes));
        }
        Ok(self.licence_groups.get_or_init(|| groups))
    }

    /// The flags of conditions in `text` that are on: the package's own, and those that every package has (`PORTAGE_USE`).
    fn flags_on<'t>(&self, text: &'t str, ebuild: &Ebuild) -> Result<BTreeSet<&'t str>> {
        let words = self.package_words(ebuild, self.is_stable(ebuild)?)?;
        let iuse: BTreeSet<String> = ebuild.flags().map(str::to_owned).collect();
        let mut on = BTreeSet::new();
        for flag in text.split_whitespace().filter_map(|word| word.strip_suffix('?')) {
            let flag = flag.strip_prefix('!').unwrap_or(flag);
            if (iuse.contains(flag) || self.is_implicit(flag)?) && verdict(&words, flag, &iuse).enabled {
                on.insert(flag);
            }
        }
        Ok(on)
    }
}
