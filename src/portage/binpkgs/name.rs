//! Names of binary packages in a pool.
//!
//! ```text
//! app-misc/hello/hello-2.10-r1-3.gpkg.tar   FEATURES=binpkg-multi-instance: build 3 of app-misc/hello-2.10-r1
//! app-misc/hello/hello-2.10-r1-3.xpak       the same in the old format
//! app-misc/hello-2.10-r1.gpkg.tar           one build a version
//! app-misc/hello-2.10-r1.tbz2
//! ```

/// A binary package's valid path in its pool.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PackageFile {
    pub path: String,
    /// `category/name-version`.
    pub cpv: String,
    /// The build number of that version, if the name contains it.
    pub build_id: Option<u64>,
}

impl PackageFile {
    /// Parses a path relative to the pool; [`None`] if Portage would not make it.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').collect();
        let (category, package, file) = match parts[..] {
            [category, package, file] => (category, Some(package), file),
            [category, file] => (category, None, file),
            _ => return None,
        };
        let (stem, extension) = split_extension(file)?;
        if !is_word(category) || !is_word(stem) {
            return None;
        }
        let (pf, build_id) = match package {
            Some(package) => {
                let (pf, id) = stem.rsplit_once('-')?;
                if extension == "tbz2"
                    || !is_word(package)
                    || !crate::portage::cpv::is_version(pf.strip_prefix(package)?.strip_prefix('-')?)
                {
                    return None;
                }
                (pf, Some(id.parse().ok().filter(|id| *id > 0 && !id_has_leading_zero(stem))?))
            }
            None if extension == "xpak" => return None,
            None => (stem, None),
        };
        Some(Self { path: path.to_owned(), cpv: format!("{category}/{pf}"), build_id })
    }
}

impl PackageFile {
    /// The path of another build of the same version; `None` if names contain no build number.
    pub(crate) fn with_build_id(&self, number: u64) -> Option<Self> {
        let suffix = |number: u64, extension: &str| format!("-{number}.{extension}");
        let (_, extension) = split_extension(self.path.rsplit('/').next()?)?;
        let stem = self.path.strip_suffix(&suffix(self.build_id?, extension))?;
        Self::parse(&format!("{stem}{}", suffix(number, extension)))
    }
}

fn id_has_leading_zero(stem: &str) -> bool {
    stem.rsplit_once('-').is_some_and(|(_, id)| id.starts_with(['0', '+']))
}

fn split_extension(file: &str) -> Option<(&str, &str)> {
    ["gpkg.tar", "tbz2", "xpak"].into_iter().find_map(|ext| Some((file.strip_suffix(ext)?.strip_suffix('.')?, ext)))
}

/// Whether it is a valid category, package name or name with version (PMS 3.1): never `.`, `..` or hidden.
fn is_word(word: &str) -> bool {
    word.len() <= 200
        && word.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"+_.-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_portage_makes() {
        let cases = [
            ("app-misc/hello/hello-2.10-r1-3.gpkg.tar", "app-misc/hello-2.10-r1", Some(3)),
            ("app-misc/hello/hello-2.10-12.xpak", "app-misc/hello-2.10", Some(12)),
            ("dev-libs/gtk+/gtk+-3.24.50-r2-1.gpkg.tar", "dev-libs/gtk+-3.24.50-r2", Some(1)),
            ("sys-devel/gcc-14.3.0.gpkg.tar", "sys-devel/gcc-14.3.0", None),
            ("sys-devel/gcc-14.3.0.tbz2", "sys-devel/gcc-14.3.0", None),
        ];
        for (path, cpv, build_id) in cases {
            assert_eq!(
                PackageFile::parse(path),
                Some(PackageFile { path: path.to_owned(), cpv: cpv.to_owned(), build_id }),
                "{path}"
            );
        }
    }

    #[test]
    fn another_number_changes_nothing_else() {
        let first = PackageFile::parse("app-misc/hello/hello-2.10-1.gpkg.tar").expect("a name");
        assert_eq!(first.with_build_id(12).expect("a name").path, "app-misc/hello/hello-2.10-12.gpkg.tar");
        assert_eq!(PackageFile::parse("sys-devel/gcc-14.3.0.tbz2").expect("a name").with_build_id(2), None);
    }

    #[test]
    fn names_that_it_does_not() {
        let cases = [
            "Packages",
            "hello-1.gpkg.tar",
            "a/b/c/d-1-1.gpkg.tar",
            "../hello/hello-1-1.gpkg.tar",
            "app-misc/../hello-1-1.gpkg.tar",
            "app-misc/hello/../hello-1-1.gpkg.tar",
            "app-misc/hello/other-1-1.gpkg.tar",
            "app-misc/hello/hello-extra-1-1.gpkg.tar",
            "app-misc/hello/hello-2.10.gpkg.tar",
            "app-misc/hello/hello-2.10-0.gpkg.tar",
            "app-misc/hello/hello-2.10-01.gpkg.tar",
            "app-misc/hello/hello-2.10-+1.gpkg.tar",
            "app-misc/hello/hello-2.10-1.gpkg.tar.99",
            "app-misc/hello/hello-2.10-1.tbz2",
            "app-misc/.hello-1.gpkg.tar",
            "app-misc/hel\nlo-1.gpkg.tar",
            "app-misc/hello 1.gpkg.tar",
            "/hello-1.gpkg.tar",
            "app-misc/.gpkg.tar",
        ];
        for path in cases {
            assert_eq!(PackageFile::parse(path), None, "{path}");
        }
    }
}
