//! The compiler caches: of profiles that are gone, of a configuration that wants none, and what is beyond its limit.

use std::path::{Path, PathBuf};

use crate::ccache::{self, Object};
use crate::config::ConfigDir;
use crate::context::{self, Context};
use crate::history::Result;
use crate::history::clean::{CleanItem, CleanKind, FileUse, Thing};
use crate::names::profiles::profiles;

/// The compiler cache of one package.
pub(crate) struct OfPackage {
    /// `PROFILE: CATEGORY/PACKAGE`.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) files: Vec<(PathBuf, FileUse)>,
    /// When it last grew, seconds since 1970.
    pub(crate) used: i64,
    pub(crate) bytes: u64,
}

impl OfPackage {
    fn of(profile: &str, dir: &Path, package: &str, objects: Vec<Object>) -> Self {
        let files: Vec<(PathBuf, FileUse)> = objects.into_iter().map(|object| (object.path, FileUse::of(&object.meta))).collect();
        let used = files.iter().map(|(_, file)| file.modified).max().unwrap_or(0);
        let bytes = files.iter().map(|(_, file)| file.bytes).sum();
        Self { name: format!("{profile}: {package}"), path: dir.join(package), files, used, bytes }
    }

    pub(crate) fn item(self, why: String) -> CleanItem {
        let Self { name, path, files, bytes, .. } = self;
        CleanItem { kind: CleanKind::Ccache, name, path, bytes, why, thing: Thing::Files(files) }
    }
}

/// All of them, of one profile.
fn of_profile(cx: &Context<'_>, profile: &str) -> Result<Vec<OfPackage>> {
    let dir = cx.places.ccache().join(profile);
    let packages = ccache::packages(&dir).map_err(context::Error::from)?;
    Ok(packages.into_iter().map(|(package, objects)| OfPackage::of(profile, &dir, &package, objects)).collect())
}

/// All of them.
pub(crate) fn of_packages(cx: &Context<'_>) -> Result<Vec<OfPackage>> {
    let mut all = Vec::new();
    for profile in ccache::profiles(&cx.places.ccache()).map_err(context::Error::from)? {
        all.extend(of_profile(cx, &profile)?);
    }
    Ok(all)
}

/// What no build will use.
pub(crate) fn unused(cx: &Context<'_>) -> Result<Vec<CleanItem>> {
    let known = profiles(cx)?;
    // A configuration that cannot be read says nothing.
    let limit = ConfigDir::open(&cx.places.config).and_then(|config| config.ccache()).ok();
    let mut items = Vec::new();
    for profile in ccache::profiles(&cx.places.ccache()).map_err(context::Error::from)? {
        let mut packages = of_profile(cx, &profile)?;
        let why = match limit {
            _ if !known.contains(&profile) => "there is no such profile".to_owned(),
            Some(None) => "the configuration has no `env/ccache`".to_owned(),
            Some(Some(limit)) => {
                let mut bytes: u64 = packages.iter().map(|package| package.bytes).sum();
                packages.sort_by_key(|package| package.used);
                packages.retain(|package| {
                    let goes = bytes > limit;
                    bytes -= if goes { package.bytes } else { 0 };
                    goes
                });
                "more than `env/ccache` says, and others are newer".to_owned()
            }
            None => continue,
        };
        items.extend(packages.into_iter().map(|package| package.item(why.clone())));
    }
    Ok(items)
}
