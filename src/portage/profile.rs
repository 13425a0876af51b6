//! Names of Portage profiles, such as `default/linux/amd64/23.0/musl` or `gentoo:default/linux/amd64/23.0`.
//!
//! A Portage profile is a directory below `profiles/` of an ebuild repository; `/etc/portage/make.profile` is a link to the one in use.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A Portage profile by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct PortageProfile {
    /// Repository that contains it.
    pub repository: String,
    /// Path below `profiles/`.
    pub path: String,
}

/// Why a text is not the name of a Portage profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    #[error("the name of a Portage profile is empty")]
    Empty,
    /// The part before the colon.
    #[error("`{0}` is no repository name")]
    Repository(String),
    /// Absolute, with `..`, or with characters that no profile has.
    #[error("`{0}` is no path of a Portage profile")]
    Path(String),
}

impl PortageProfile {
    /// The target of `/etc/portage/make.profile` for this profile, with repositories below `/var/db/repos`.
    pub fn link_target(&self) -> PathBuf {
        ["../../var/db/repos", &self.repository, "profiles", &self.path].iter().collect()
    }
}

impl FromStr for PortageProfile {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, ProfileError> {
        let (repository, path) = text.split_once(':').unwrap_or(("gentoo", text));
        if text.is_empty() {
            return Err(ProfileError::Empty);
        }
        let word = |text: &str, more: &[char]| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-') || more.contains(&c))
        };
        if !word(repository, &[]) {
            return Err(ProfileError::Repository(repository.to_owned()));
        }
        if !path.split('/').all(|part| word(part, &['.', '+'])) {
            return Err(ProfileError::Path(path.to_owned()));
        }
        Ok(Self { repository: repository.to_owned(), path: path.to_owned() })
    }
}

impl fmt::Display for PortageProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_to_the_gentoo_repository() {
        let profile: PortageProfile = "default/linux/amd64/23.0/musl".parse().unwrap();
        assert_eq!(profile.to_string(), "gentoo:default/linux/amd64/23.0/musl");
        assert_eq!(profile.link_target().to_str(), Some("../../var/db/repos/gentoo/profiles/default/linux/amd64/23.0/musl"));
        assert_eq!("guru:x/y".parse::<PortageProfile>().unwrap().repository, "guru");
    }

    #[test]
    fn refuses_what_leads_elsewhere() {
        for (text, message) in [
            ("", "the name of a Portage profile is empty"),
            ("/etc", "`/etc` is no path of a Portage profile"),
            ("default/../../x", "`default/../../x` is no path of a Portage profile"),
            ("a b:c", "`a b` is no repository name"),
        ] {
            assert_eq!(text.parse::<PortageProfile>().unwrap_err().to_string(), message);
        }
    }
}
