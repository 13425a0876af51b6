//! `export`: any build state as a tarball, an OCI image or a squashfs image.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::artifact::{Artifact, ExportOptions, Target};
use super::engine::Engine;
use super::error::{Error, Result};
use super::naming::Named;
use super::stage4::stage4_lock;
use crate::config::{ArtifactFormat, ConfigDir, LayerCompression, Stage4Definition};
use crate::stage3::sign::Gpg;
use crate::store::StateId;

/// Of an id so many digits go into a file's name.
const SHORT_ID: usize = 12;

/// What to export, and how.
#[derive(Debug, Clone)]
pub struct ExportRequest {
    /// The state.
    pub state: String,
    /// The form; by default that of the file's name, else that of the stage4 definition, else `tar.xz`.
    pub format: Option<ArtifactFormat>,
    /// Of the layers of an image.
    pub compression: Option<LayerCompression>,
    /// Where to: a directory that is there, or what the artifact is called.
    pub to: Option<PathBuf>,
    /// The `gpg` to sign with; `None` leaves the artifact unsigned.
    pub gpg: Option<Gpg>,
}

/// What was exported.
#[derive(Debug, Clone, Serialize)]
pub struct ExportedState {
    /// The name it was found by, if not by its id.
    pub name: Option<String>,
    /// The state.
    pub state: StateId,
    /// The files.
    pub artifact: Artifact,
}

impl Engine<'_> {
    /// Exports a state. One of a stage4 is exported as its definition wants it, if there is one still.
    pub fn export_state(&self, config: Option<&ConfigDir>, request: &ExportRequest) -> Result<ExportedState> {
        let _shared = self.share_store()?;
        let Named { at, state } = self.named(&request.state)?;
        let definition = self.stage4_definition(config, &state.origin)?;
        let env = config.map(|config| config.env(&self.settings.arch)).transpose()?;
        let (arch, sign_key) = env.map_or((self.settings.arch.clone(), None), |env| (env.arch, env.sign_key));
        let signer = self.signer(sign_key.map(|key| key.value), request.gpg.as_ref())?;
        let definition = definition.as_ref();
        let by_name = request.to.as_deref().and_then(format_of);
        let mut options = ExportOptions { signer, ..ExportOptions::of(definition, request.format.or(by_name), &arch) };
        options.oci.compression = request.compression.or(options.oci.compression);
        // Only the present value of a name may take the place that goes by it.
        let present = at.as_ref().filter(|at| at.index == 0).map(|at| at.name.as_str());
        let short: String = state.id.as_str().chars().take(SHORT_ID).collect();
        let (name, kind) = match present.map(|name| (name, name.strip_prefix("stage4/"))) {
            Some((_, Some(stage))) => (stage.to_owned(), "stage4"),
            Some((name, None)) => (name.to_owned(), "state"),
            None => (format!("state/{short}"), "state"),
        };
        let _lock = self.lock(&if kind == "stage4" { stage4_lock(&name) } else { "export".to_owned() })?;
        let mut target = self.target(&name, kind, &state, &options);
        if let Some(to) = &request.to {
            target = chosen(to, target, options.format)?;
        }
        let artifact = self.export(&name, &target, &state, &options)?;
        Ok(ExportedState { name: at.map(|at| at.to_string()), state: state.id, artifact })
    }

    /// The definition that a state was built by, as it is now.
    fn stage4_definition(&self, config: Option<&ConfigDir>, origin: &serde_json::Value) -> Result<Option<Stage4Definition>> {
        let (Some(config), Some("stage4 definition"), Some(name)) =
            (config, origin["kind"].as_str(), origin["definition"].as_str())
        else {
            return Ok(None);
        };
        match config.stage4(name) {
            Ok(definition) => Ok(Some(definition)),
            Err(crate::config::Error::Unknown { .. }) => {
                self.note(&format!("the configuration has no stage4 `{name}` any more: exporting without its `keep` and `oci`"));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The form that a file's name says; an image in one file is a tar.
fn format_of(path: &Path) -> Option<ArtifactFormat> {
    let name = path.file_name()?.to_str()?;
    let format = ArtifactFormat::ALL.into_iter().find(|format| name.ends_with(&format!(".{format}")));
    format.or_else(|| match path.extension()?.to_str()? {
        "tar" => Some(ArtifactFormat::Oci),
        "sqfs" => Some(ArtifactFormat::Squashfs),
        _ => None,
    })
}

/// The place that the user has chosen.
fn chosen(to: &Path, usual: Target, format: ArtifactFormat) -> Result<Target> {
    if to.is_dir() && !(format == ArtifactFormat::Oci && to.join("oci-layout").is_file()) {
        return Ok(Target { dir: to.to_owned(), ours: false, ..usual });
    }
    let one_file = format == ArtifactFormat::Oci && to.extension().is_some_and(|extension| extension == "tar");
    let (Some(parent), Some(name)) = (to.parent(), to.file_name().and_then(|name| name.to_str())) else {
        return Err(Error::ArtifactExists { path: to.to_owned() });
    };
    Ok(Target { dir: parent.to_owned(), file_name: name.to_owned(), one_file, ours: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_says_its_form() {
        for (name, format) in [
            ("/x/a.tar.zst", Some(ArtifactFormat::TarZst)),
            ("/x/a.tar.gz", Some(ArtifactFormat::TarGz)),
            ("/x/a.tar", Some(ArtifactFormat::Oci)),
            ("/x/a.oci", Some(ArtifactFormat::Oci)),
            ("/x/a.squashfs", Some(ArtifactFormat::Squashfs)),
            ("/x/a.sqfs", Some(ArtifactFormat::Squashfs)),
            ("/x/a", None),
        ] {
            assert_eq!(format_of(Path::new(name)), format, "{name}");
        }
    }
}
