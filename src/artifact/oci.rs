//! Exports a build state as an OCI image layout: each of our layers becomes a layer of the image.
//!
//! ```text
//! stage4-ARCH-NAME-TIME.oci/
//!   oci-layout
//!   index.json                  one manifest, tagged with the stage4's name
//!   blobs/sha256/DIGEST         the manifest, the configuration, the layers
//! cache/oci-layers/KEY          a packed layer, shared by hard links; KEY.json has its digests
//! ```
//!
//! The bytes of an image's layer depend on our layer, the exclusions, and the newest input of the state that the layer was made for, not
//! of the exported state. So layers that two stage4s share have the same digests in both, and are compressed once.
//!
//! The documents are `oci-spec` types, written through [`serde_json::Value`], whose objects are sorted: the types contain hash maps,
//! whose order changes with each run.

use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use oci_spec::image::{
    Config, ConfigBuilder, Descriptor, History, HistoryBuilder, ImageConfigurationBuilder, ImageIndexBuilder, ImageManifestBuilder,
    MediaType, RootFsBuilder, SCHEMA_VERSION, Sha256Digest,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::archive::digest::Algorithm;
use crate::archive::tasks::ExportInput;
use crate::archive::{Format, tasks as archive_tasks};
use crate::artifact::{Error, Result, exclusions};
use crate::build_key::Inputs;
use crate::config::{LayerCompression, OciConfig};
use crate::context;
use crate::context::Context;
use crate::durable::Unfinished;
use crate::path_error::OfFile as _;
use crate::store::{LayerId, State};

/// Raise it whenever the same layer is packed to other bytes.
const PACKER: &str = "1";
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const DEFAULT_CMD: &str = "/bin/sh";

/// The contents of an image besides the state.
#[derive(Debug)]
pub(crate) struct ImageOptions<'a> {
    /// The image's name in its layout.
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    pub(crate) arch: &'a str,
    pub(crate) keep: &'a [String],
    pub(crate) config: &'a OciConfig,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    pub(crate) layers: usize,
    /// How many layers had been packed before.
    pub(crate) layers_reused: usize,
    pub(crate) entries: u64,
    pub(crate) bytes_tar: u64,
    /// Of all files.
    pub(crate) size_bytes: u64,
    /// Name and size of each blob.
    pub(crate) blobs: Vec<(String, u64)>,
}

/// What is stored beside a packed layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Packed {
    /// SHA-256 of the compressed layer.
    digest: String,
    size_bytes: u64,
    /// SHA-256 of the tar.
    diff_id: String,
    entries: u64,
    bytes_tar: u64,
}

/// Writes the layout into the empty directory `dir`.
pub(crate) fn write_image(cx: &Context<'_>, dir: &Path, state: &State, options: &ImageOptions<'_>) -> Result<Image> {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(Error::io("create", &blobs))?;
    let compression = options.config.compression.unwrap_or_default();
    let mut image = Image::default();
    let (mut layers, mut diff_ids, mut history) = (Vec::new(), Vec::new(), Vec::new());
    for (layer, of) in provenance(cx, state) {
        let clamp = clamp(cx, &of);
        let (packed, reused) = packed_layer(cx, &layer, clamp, compression, options.keep, &blobs)?;
        image.layers += 1;
        image.layers_reused += usize::from(reused);
        image.entries += packed.entries;
        image.bytes_tar += packed.bytes_tar;
        image.blobs.push((packed.digest.clone(), packed.size_bytes));
        let media = match compression {
            LayerCompression::Gzip => MediaType::ImageLayerGzip,
            LayerCompression::Zstd => MediaType::ImageLayerZstd,
        };
        layers.push(descriptor(media, packed.size_bytes, &packed.digest)?);
        diff_ids.push(format!("sha256:{}", packed.diff_id));
        history.push(step(&of, clamp)?);
    }
    let created = rfc3339(clamp(cx, state));
    let rootfs = RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build()?;
    let configuration = ImageConfigurationBuilder::default()
        .created(created.clone())
        .architecture(go_arch(options.arch))
        .os("linux")
        .config(container(options.config)?)
        .rootfs(rootfs)
        .history(history)
        .build()?;
    let config = image.document(&blobs, MediaType::ImageConfig, &configuration)?;
    let annotations = HashMap::from([
        (oci_spec::image::ANNOTATION_CREATED.to_owned(), created),
        (oci_spec::image::ANNOTATION_TITLE.to_owned(), options.name.to_owned()),
        (oci_spec::image::ANNOTATION_VERSION.to_owned(), options.version.to_owned()),
    ]);
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers(layers)
        .annotations(annotations)
        .build()?;
    let mut manifest = image.document(&blobs, MediaType::ImageManifest, &manifest)?;
    let name = HashMap::from([(oci_spec::image::ANNOTATION_REF_NAME.to_owned(), options.name.to_owned())]);
    manifest.set_annotations(Some(name));
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests([manifest])
        .build()?;
    let layout = serde_json::json!({ "imageLayoutVersion": "1.0.0" });
    for (name, bytes) in [("oci-layout", json(&layout)), ("index.json", json(&index))] {
        image.size_bytes += bytes.len() as u64;
        crate::artifact::write_synced(&dir.join(name), &bytes)?;
    }
    image.blobs.sort();
    image.blobs.dedup();
    image.size_bytes += image.blobs.iter().map(|(_, size)| size).sum::<u64>();
    Ok(image)
}

/// The upper bound of times in an export of `state`.
pub(crate) fn clamp(cx: &Context<'_>, state: &State) -> i64 {
    cx.settings.source_date_epoch.unwrap_or(state.newest_input)
}

/// The layers of a state, bottom first, each with the state that it was made for: the earliest one that has it. If that was removed, the
/// next later one takes its place.
fn provenance(cx: &Context<'_>, state: &State) -> Vec<(LayerId, State)> {
    let mut chain = vec![state.clone()];
    while let Some(parent) = chain.last().and_then(|state| state.parent.as_ref()) {
        match cx.store.state(parent) {
            Ok(parent) => chain.push(parent),
            Err(error) => {
                tracing::debug!(%error, "the chain of states ends early");
                break;
            }
        }
    }
    let of = |index: usize| {
        let earliest = chain.iter().rev().find(|state| state.layers.len() > index);
        earliest.unwrap_or(state).clone()
    };
    state.layers.iter().enumerate().map(|(index, layer)| (layer.clone(), of(index))).collect()
}

/// Puts a layer into `blobs`; also returns whether it had been packed before.
fn packed_layer(
    cx: &Context<'_>,
    layer: &LayerId,
    clamp: i64,
    compression: LayerCompression,
    keep: &[String],
    blobs: &Path,
) -> Result<(Packed, bool)> {
    let key = Inputs::new("oci layer")
        .with("packer", PACKER)
        .with("layer", layer.to_string())
        .with("clamp", clamp.to_string())
        .with("compression", compression.name())
        .with_list("exclude", exclusions::DEFAULT)
        .with_list("keep", keep)
        .key();
    let cache = cx.places.oci_layers();
    fs::create_dir_all(&cache).map_err(Error::io("create", &cache))?;
    let (blob, meta) = (cache.join(&key), cache.join(format!("{key}.json")));
    let (packed, reused) = match remembered(&blob, &meta) {
        Some(packed) => (packed, true),
        None => (pack_layer(cx, layer, clamp, compression, keep, &blob, &meta)?, false),
    };
    let to = blobs.join(&packed.digest);
    match fs::hard_link(&blob, &to) {
        // Two layers can have the same contents: two empty ones have.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => {
            // The artifact may be on another file system than the cache.
            tracing::debug!(%error, "copying instead of linking");
            fs::copy(&blob, &to).map_err(Error::io("write", &to))?;
            File::open(&to).and_then(|file| file.sync_all()).map_err(Error::io("sync", &to))?;
        }
        Ok(()) => {}
    }
    Ok((packed, reused))
}

fn pack_layer(
    cx: &Context<'_>,
    layer: &LayerId,
    clamp: i64,
    compression: LayerCompression,
    keep: &[String],
    blob: &Path,
    meta: &Path,
) -> Result<Packed> {
    let unfinished = Unfinished::beside(blob, 0o600)?;
    let input = ExportInput {
        layers: vec![cx.store.layer(layer)?.path],
        as_layer: true,
        exact: false,
        format: match compression {
            LayerCompression::Gzip => Format::TarGz,
            LayerCompression::Zstd => Format::TarZst,
        },
        level: None,
        threads: cx.settings.processors,
        exclude: exclusions::DEFAULT.iter().map(|pattern| (*pattern).to_owned()).collect(),
        keep: keep.to_vec(),
        mtime_clamp: clamp,
        mtime_floor: i64::MIN,
    };
    let out = &unfinished.file;
    let fd = OwnedFd::from(out.try_clone().map_err(Error::io("open", blob))?);
    let exported = archive_tasks::export(cx.launcher, &input, fd, None, Vec::new(), Some(context::cancel(cx)?), cx.observer);
    context::not_interrupted(cx).map_err(|_| context::Error::Interrupted { resumable: true })?;
    let exported = exported.map_err(Error::from).map_err(Error::making(blob))?;
    let packed = Packed {
        digest: exported.archive.get(Algorithm::Sha256).to_owned(),
        size_bytes: exported.archive.size,
        diff_id: exported.tar_sha256,
        entries: exported.entries,
        bytes_tar: exported.bytes_tar,
    };
    // The blob is hard-linked into several images, so nobody may write to it.
    let finish = out.set_permissions(fs::Permissions::from_mode(0o444)).and_then(|()| out.sync_all());
    finish.map_err(Error::io("sync", blob))?;
    unfinished.finish(blob)?;
    crate::artifact::write_synced(meta, &json(&packed))?;
    Ok(packed)
}

impl Image {
    /// Writes a document as a blob and describes it.
    fn document(&mut self, blobs: &Path, media: MediaType, document: &impl Serialize) -> Result<Descriptor> {
        let bytes = json(document);
        let digest = hex::encode(Sha256::digest(&bytes));
        crate::artifact::write_synced(&blobs.join(&digest), &bytes)?;
        self.blobs.push((digest.clone(), bytes.len() as u64));
        descriptor(media, bytes.len() as u64, &digest)
    }
}

/// The record of a packed layer, if the blob is unchanged.
fn remembered(blob: &Path, meta: &Path) -> Option<Packed> {
    let packed: Packed = serde_json::from_slice(&fs::read(meta).ok()?).ok()?;
    let mut file = File::open(blob).ok()?;
    let mut hash = Sha256::new();
    let size = std::io::copy(&mut file, &mut hash).ok()?;
    (size == packed.size_bytes && hex::encode(hash.finalize()) == packed.digest).then_some(packed)
}

fn descriptor(media: MediaType, size: u64, digest: &str) -> Result<Descriptor> {
    let digest: Sha256Digest = digest.parse()?;
    Ok(Descriptor::new(media, size, digest))
}

/// Sorted JSON, so that equal documents have equal bytes.
fn json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_value(document).and_then(|value| serde_json::to_vec(&value)).unwrap_or_default()
}

fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// The history entry of a layer.
fn step(of: &State, clamp: i64) -> Result<History> {
    let name = of.origin.definition().or_else(|| of.origin.name()).unwrap_or_default();
    let kind = of.origin.kind().unwrap_or("session");
    let created_by = format!("gentoomuch: {kind} {name}").trim_end().to_owned();
    Ok(HistoryBuilder::default().created(rfc3339(clamp)).created_by(created_by).comment(format!("key {}", of.key)).build()?)
}

fn container(config: &OciConfig) -> Result<Config> {
    let mut env: Vec<String> = config.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if !config.env.contains_key("PATH") {
        env.insert(0, format!("PATH={DEFAULT_PATH}"));
    }
    let mut builder = ConfigBuilder::default().env(env);
    if !config.entrypoint.is_empty() {
        builder = builder.entrypoint(config.entrypoint.clone());
    }
    if !config.cmd.is_empty() {
        builder = builder.cmd(config.cmd.clone());
    } else if config.entrypoint.is_empty() {
        builder = builder.cmd([DEFAULT_CMD.to_owned()]);
    }
    if !config.labels.is_empty() {
        builder = builder.labels(config.labels.clone().into_iter().collect::<HashMap<_, _>>());
    }
    if let Some(user) = &config.user {
        builder = builder.user(user.clone());
    }
    if let Some(workdir) = &config.workdir {
        builder = builder.working_dir(workdir.clone());
    }
    if !config.expose.is_empty() {
        builder = builder.exposed_ports(config.expose.clone());
    }
    if !config.volumes.is_empty() {
        builder = builder.volumes(config.volumes.clone());
    }
    if let Some(signal) = &config.stop_signal {
        builder = builder.stop_signal(signal.clone());
    }
    Ok(builder.build()?)
}

/// Go's name of an architecture, which the OCI specification uses, for Gentoo's keyword.
fn go_arch(keyword: &str) -> &str {
    match keyword.trim_start_matches('~') {
        "x86" => "386",
        "riscv" => "riscv64",
        "loong" => "loong64",
        "ppc64" => "ppc64le",
        "s390" => "s390x",
        "mips" => "mips64le",
        other => other,
    }
}

/// Packs a layout into one tar that `skopeo` and `podman load` read: sorted, without times and owners of this machine.
pub(crate) fn layout_as_tar(dir: &Path, out: &Path, mtime: i64) -> Result<()> {
    let file = File::create_new(out).map_err(Error::io("create", out))?;
    let mut tar = tar::Builder::new(std::io::BufWriter::new(file));
    let mut add = |path: &Path, name: &str| -> std::io::Result<()> {
        let meta = fs::metadata(path)?;
        let mut header = tar::Header::new_ustar();
        header.set_mtime(u64::try_from(mtime).unwrap_or(0));
        if meta.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            tar.append_data(&mut header, format!("{name}/"), std::io::empty())
        } else {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_mode(0o644);
            header.set_size(meta.len());
            tar.append_data(&mut header, name, File::open(path)?)
        }
    };
    let mut names: Vec<PathBuf> = vec!["blobs".into(), "blobs/sha256".into()];
    let blobs = dir.join("blobs/sha256");
    for entry in fs::read_dir(&blobs).map_err(Error::io("list", &blobs))? {
        names.push(Path::new("blobs/sha256").join(entry.map_err(Error::io("list", &blobs))?.file_name()));
    }
    names.extend(["index.json".into(), "oci-layout".into()]);
    names.sort();
    for name in names {
        add(&dir.join(&name), &name.to_string_lossy()).map_err(Error::io("write", out))?;
    }
    let finish = || -> std::io::Result<()> {
        let file = tar.into_inner()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.sync_all()
    };
    finish().map_err(Error::io("write", out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_container_gets() {
        let plain = json(&container(&OciConfig::default()).unwrap());
        assert_eq!(String::from_utf8(plain).unwrap(), format!(r#"{{"Cmd":["/bin/sh"],"Env":["PATH={DEFAULT_PATH}"]}}"#));
        let config = OciConfig {
            entrypoint: vec!["/usr/bin/hello".into()],
            env: [("LANG", "C"), ("PATH", "/bin"), ("A", "1")].map(|(n, v)| (n.to_owned(), v.to_owned())).into(),
            labels: [("z", "1"), ("b", "2"), ("a", "3")].map(|(n, v)| (n.to_owned(), v.to_owned())).into(),
            expose: vec!["80/tcp".into()],
            volumes: vec!["/data".into()],
            ..OciConfig::default()
        };
        let text = String::from_utf8(json(&container(&config).unwrap())).unwrap();
        assert_eq!(
            text,
            r#"{"Entrypoint":["/usr/bin/hello"],"Env":["A=1","LANG=C","PATH=/bin"],"ExposedPorts":{"80/tcp":{}},"Labels":{"a":"3","b":"2","z":"1"},"Volumes":{"/data":{}}}"#
        );
    }

    #[test]
    fn a_changed_blob_is_not_taken_for_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (blob, meta) = (dir.path().join("b"), dir.path().join("b.json"));
        fs::write(&blob, "layer").unwrap();
        let packed =
            Packed { digest: hex::encode(Sha256::digest("layer")), size_bytes: 5, diff_id: "x".into(), entries: 1, bytes_tar: 1 };
        assert!(remembered(&blob, &meta).is_none());
        fs::write(&meta, json(&packed)).unwrap();
        assert!(remembered(&blob, &meta).is_some());
        fs::write(&blob, "lager").unwrap();
        assert!(remembered(&blob, &meta).is_none());
    }
}
