//! `export`: makes a tarball, an OCI image or a squashfs image of any build state.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::artifact::push;
use crate::artifact::push::Pushed;
use crate::artifact::{Artifact, Error, ExportOptions, Result, Target, short_id};
use crate::config::{ArtifactFormat, ConfigDir, LayerCompression, Stage4Definition};
use crate::context::Context;
use crate::names::named;
use crate::names::named::Named;
use crate::names::refs::stage4_lock;
use crate::origin::Origin;
use crate::registry::ImageAddress;
use crate::stage3::sign::Gpg;
use crate::store::StateId;
use crate::{artifact, context};

/// What to export, and how.
#[derive(Debug, Clone)]
pub struct ExportRequest {
    pub state: String,
    /// The form; `None`: that of the file's ending, else of the stage4 definition, else `tar.xz`.
    pub format: Option<ArtifactFormat>,
    /// Compression of an image's layers.
    pub compression: Option<LayerCompression>,
    /// The user's place; `None`: the default one.
    pub to: Option<Destination>,
    /// Also push the image there.
    pub push: Option<ImageAddress>,
    /// The `gpg` to sign with; `None` leaves the artifact unsigned.
    pub gpg: Option<Gpg>,
}

/// A place that the user chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// An existing directory, or the artifact's path.
    Path(PathBuf),
    /// The path of an OCI image in one file.
    OciArchive(PathBuf),
}

#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ExportedState {
    /// The name by which it was found, unless by its id.
    pub name: Option<String>,
    pub state: StateId,
    /// The files.
    pub artifact: Artifact,
    /// What was pushed to a registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushed: Option<Pushed>,
}

/// Exports a state. A stage4's state is exported as its definition says, if that still exists.
pub fn export_state(cx: &Context<'_>, config: Option<&ConfigDir>, request: &ExportRequest) -> Result<ExportedState> {
    crate::threads::pool()?;
    let asked = match (&request.push, request.format) {
        (Some(_), Some(asked)) if asked != ArtifactFormat::Oci => return Err(Error::PushedForm { asked }),
        (Some(_), _) => Some(ArtifactFormat::Oci),
        (None, asked) => asked,
    };
    let said = request.to.as_ref().map(|to| said_by(to, asked)).transpose()?.flatten();
    let _shared = context::share_store(cx)?;
    let Named { at, state } = named::named(cx, &request.state)?;
    let definition = stage4_definition(cx, config, &state.origin)?;
    let env = config.map(|config| config.env(&cx.settings.arch)).transpose()?;
    let (arch, sign_key) = env.map_or((cx.settings.arch.clone(), None), |env| (env.arch, env.sign_key));
    let signer = artifact::signer(cx, sign_key.map(|key| key.value), request.gpg.as_ref())?;
    let definition = definition.as_ref();
    let mut options = ExportOptions { signer, ..ExportOptions::of(definition, said.or(asked), &arch) };
    options.oci.compression = request.compression.or(options.oci.compression);
    // The default place belongs to the present value of a name; earlier values go to the place of their id.
    let present = at.as_ref().filter(|at| at.index == 0).map(|at| at.name.as_str());
    let unnamed = format!("state-{}", short_id(&state));
    let (name, kind) = match present.map(|name| (name, name.strip_prefix("stage4/"))) {
        Some((_, Some(stage))) => (Some(stage), "stage4"),
        Some((name, None)) => (Some(name), "state"),
        None => (None, "state"),
    };
    let _lock = context::lock(cx, &name.filter(|_| kind == "stage4").map_or_else(|| "export".to_owned(), stage4_lock))?;
    let mut target = artifact::target(cx, name, kind, &state, &options);
    if let Some(to) = &request.to {
        target = chosen(to, target, options.format)?;
    }
    let place = match &request.push {
        Some(_) if target.one_file => return Err(Error::PushedFile { path: target.dir.join(&target.file_name) }),
        Some(address) => Some(push::Destination::open(cx, address)?),
        None => None,
    };
    let artifact = artifact::export(cx, name.unwrap_or(&unnamed), target, &state, &options)?;
    let pushed = place.map(|place| place.push(cx, &artifact.path)).transpose()?;
    Ok(ExportedState { name: at.map(|at| at.to_string()), state: state.id, artifact, pushed })
}

/// The present definition of a stage4's state.
fn stage4_definition(cx: &Context<'_>, config: Option<&ConfigDir>, origin: &Origin) -> Result<Option<Stage4Definition>> {
    let (Some(config), Origin::Stage4(stage4)) = (config, origin) else { return Ok(None) };
    let name = &stage4.definition;
    match config.stage4(name) {
        Ok(definition) => Ok(Some(definition)),
        Err(crate::config::Error::Unknown { .. }) => {
            cx.observer.note(&format!("the configuration has no stage4 `{name}` any more: exporting without its `keep` and `oci`"));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The form that the file's name implies, if any. `asked` must not contradict it, and is used where the name has no ending.
fn said_by(to: &Destination, asked: Option<ArtifactFormat>) -> Result<Option<ArtifactFormat>> {
    let (path, said) = match to {
        Destination::OciArchive(path) => (path, Some(ArtifactFormat::Oci)),
        Destination::Path(path) if is_directory(path) => return Ok(None),
        Destination::Path(path) => (path, format_of(path)),
    };
    match (said, asked) {
        // With `--format oci`, `.tar` means an image in one file.
        (Some(ArtifactFormat::Tar), Some(ArtifactFormat::Oci)) => Ok(asked),
        (Some(said), Some(asked)) if said != asked => Err(Error::OtherForm { path: path.clone(), asked }),
        (Some(said), _) => Ok(Some(said)),
        (None, Some(_)) => Ok(None),
        (None, None) => match path.extension() {
            Some(ending) => Err(Error::Ending { path: path.clone(), ending: ending.to_string_lossy().into_owned() }),
            None => Ok(None),
        },
    }
}

/// Whether it is a directory to put artifacts into. An existing OCI layout is a directory too, but an artifact.
fn is_directory(path: &Path) -> bool {
    path.is_dir() && !path.join("oci-layout").is_file()
}

fn format_of(path: &Path) -> Option<ArtifactFormat> {
    let name = path.file_name()?.to_str()?;
    let format = ArtifactFormat::ALL.into_iter().find(|format| name.ends_with(&format!(".{format}")));
    format.or_else(|| (path.extension()? == "sqfs").then_some(ArtifactFormat::Squashfs))
}

/// The target for the user's place.
fn chosen(to: &Destination, usual: Target, format: ArtifactFormat) -> Result<Target> {
    let path = match to {
        Destination::Path(path) | Destination::OciArchive(path) => path,
    };
    if *to == Destination::Path(path.clone()) && is_directory(path) {
        return Ok(Target { dir: path.clone(), ours: false, ..usual });
    }
    let is_tar = path.extension().is_some_and(|extension| extension == "tar");
    let one_file = format == ArtifactFormat::Oci && (is_tar || matches!(to, Destination::OciArchive(_)));
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(Error::ArtifactExists { path: path.clone() });
    };
    Ok(Target { dir: parent.to_owned(), file_name: name.to_owned(), one_file, ours: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_says_its_form_or_is_refused() {
        use ArtifactFormat::{Oci, Squashfs, Tar, TarGz, TarXz, TarZst};
        for (name, asked, said) in [
            ("/x/a.tar.zst", None, Some(TarZst)),
            ("/x/a.tar.gz", Some(TarGz), Some(TarGz)),
            ("/x/a.tar", None, Some(Tar)),
            ("/x/a.tar", Some(Oci), Some(Oci)),
            ("/x/a.oci", None, Some(Oci)),
            ("/x/a.squashfs", None, Some(Squashfs)),
            ("/x/a.sqfs", Some(Squashfs), Some(Squashfs)),
            ("/x/a", None, None),
            ("/x/a", Some(TarXz), None),
            ("/x/release-1.0", Some(TarXz), None),
            ("/", None, None),
        ] {
            assert_eq!(said_by(&Destination::Path(name.into()), asked).unwrap(), said, "{name} {asked:?}");
        }
        for (name, asked, words) in [
            ("/x/a.qcow2", None, "`/x/a.qcow2` cannot be the name of an artifact: no format has the ending `.qcow2`"),
            ("/x/a.iso", None, "`/x/a.iso` cannot be the name of an artifact: no format has the ending `.iso`"),
            ("/x/a.tar.bz2", None, "`/x/a.tar.bz2` cannot be the name of an artifact: no format has the ending `.bz2`"),
            ("/x/a.tar.gz", Some(TarXz), "the name `/x/a.tar.gz` does not fit the format `tar.xz` that you asked for"),
            ("/x/a.tar", Some(Squashfs), "the name `/x/a.tar` does not fit the format `squashfs` that you asked for"),
            ("/x/a.oci", Some(Tar), "the name `/x/a.oci` does not fit the format `tar` that you asked for"),
        ] {
            assert_eq!(said_by(&Destination::Path(name.into()), asked).unwrap_err().to_string(), words);
        }
        let archive = Destination::OciArchive("/x/a.img".into());
        assert_eq!(said_by(&archive, None).unwrap(), Some(Oci));
        assert!(said_by(&archive, Some(Tar)).is_err());
    }
}
