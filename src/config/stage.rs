//! A stage's name on the command line: a stage4 definition with its stage3 definition, or a stage3 definition alone.
//!
//! ```text
//! web              the stage4 definition `web`; without one, the stage3 definition
//! stage3:web       the stage3 definition, even where both exist
//! stage4:web       the stage4 definition
//! ```

use super::{ConfigDir, Error, Result, Stage3Definition, Stage4Definition, names};
use crate::did_you_mean::nearest;

/// The kind of definition that a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Stage3(String),
    Stage4(String),
}

/// A stage, read.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The stage4 definition, unless only a stage3 definition was asked for.
    pub stage4: Option<Stage4Definition>,
    /// The stage3 definition: the one asked for, or the stage4's.
    pub stage3: Stage3Definition,
}

impl Stage {
    /// Its name without a prefix.
    pub fn name(&self) -> &str {
        self.stage4.as_ref().map_or(&self.stage3.name, |stage4| &stage4.name)
    }

    /// The profile that its stage4 definition names.
    pub fn profile(&self) -> Option<&str> {
        self.stage4.as_ref().map(|stage4| stage4.profile.value.as_str())
    }
}

impl ConfigDir {
    /// The stage called `name`, which may begin with `stage3:` or `stage4:`.
    pub fn stage(&self, name: &str) -> Result<Stage> {
        match self.find_stage(name)? {
            Found::Stage3(name) => Ok(Stage { stage4: None, stage3: self.stage3(&name)? }),
            Found::Stage4(name) => {
                let stage4 = self.stage4(&name)?;
                let stage3 = self.stage3(&stage4.stage3.value)?;
                Ok(Stage { stage4: Some(stage4), stage3 })
            }
        }
    }

    /// Which definition `name` means. It exists, but is not read yet.
    pub(super) fn find_stage(&self, name: &str) -> Result<Found> {
        if let Some(name) = name.strip_prefix("stage3:") {
            return Ok(Found::Stage3(self.known_stage3(name)?));
        }
        if let Some(name) = name.strip_prefix("stage4:") {
            return Ok(Found::Stage4(self.known_stage4(name)?));
        }
        if names::is_listed(self.root(), "stage4.defines", name) {
            return Ok(Found::Stage4(name.to_owned()));
        }
        if names::is_listed(self.root(), "stage3.defines", name) {
            return Ok(Found::Stage3(name.to_owned()));
        }
        let mut known = self.stage4_names();
        known.extend(self.stage3_names());
        known.sort();
        known.dedup();
        let nearest = nearest(name, &known).map(str::to_owned);
        Err(Error::Unknown {
            what: "stage4 or stage3 definition",
            name: name.to_owned(),
            folder: self.root().to_owned(),
            nearest,
            known,
        })
    }

    /// All stages, stage4 definitions first. A stage3 definition with the name of a stage4 gets its prefix.
    pub fn stage_names(&self) -> Vec<String> {
        let mut all = self.stage4_names();
        let stage3s = self.stage3_names();
        let prefixed = stage3s.into_iter().map(|name| if all.contains(&name) { format!("stage3:{name}") } else { name });
        let prefixed: Vec<String> = prefixed.collect();
        all.extend(prefixed);
        all
    }
}
