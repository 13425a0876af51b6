//! `gentoomuch export STATE`

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::artifact::of_state;
use crate::artifact::of_state::{Destination, ExportRequest};
use crate::config::{ConfigDir, LayerCompression};
use crate::registry::ImageAddress;
use clap::ValueEnum;

use super::Outcome;
use super::stage::{FormatArg, extent};
use crate::cli::invocation::Invocation;
use crate::cli::opened::Opened;
use crate::cli::screen::Shown as _;
use crate::cli::table::{human_bytes, print, print_json, short_id};

/// Export any build state as tarball, OCI image or squashfs
///
/// Host keys, logs and caches are left out, as in a stage4. A state of a stage4 is exported as its definition says (`format`, `keep`,
/// `oci`). The artifact is signed; digests and metadata are written beside it. In an OCI image layout, the signature covers `index.json`,
/// which names all other files by digest.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch export stage4/web
  gentoomuch export stage4/web -o oci-archive:web.img
  gentoomuch export kept/with-hello --format tar.zst --no-sign -o /tmp
  gentoomuch export 'stage4/web@{1}' -o before.squashfs
  gentoomuch export stage4/web --to oci://ghcr.io/team/web:1.0")]
pub(crate) struct Args {
    /// A name, `NAME@{N}`, a tag, or the beginning of an id
    state: String,
    /// Format of the artifact [default: by the ending of PLACE, else `format` of the stage4, else tar.xz]
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    /// Compression of the layers of an OCI image [default: `compression` in `oci`, or gzip]
    #[arg(long, value_enum)]
    compression: Option<CompressionArg>,
    /// Where to write it: an existing directory, or a new name; `oci-archive:FILE` makes an OCI image in one file [default: below `stages`
    /// in the data directory]
    #[arg(short, long, value_name = "PLACE")]
    output: Option<PathBuf>,
    /// Also push the image to a registry [default of TAG: latest]; with `oci+http://` by http
    #[arg(long, value_name = "oci://HOST/REPOSITORY[:TAG]")]
    to: Option<ImageAddress>,
    /// Do not sign the artifact
    #[arg(long)]
    no_sign: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Compression of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CompressionArg {
    /// Every container engine reads it
    Gzip,
    /// Smaller and faster
    Zstd,
}

fn destination(given: &Path, invocation: &Invocation) -> Destination {
    match given.as_os_str().as_bytes().strip_prefix(b"oci-archive:") {
        Some(file) => Destination::OciArchive(invocation.path(Path::new(OsStr::from_bytes(file)))),
        None => Destination::Path(invocation.path(given)),
    }
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    // States can be exported without a configuration; one that is there must be right.
    let config = if invocation.places.config.exists() { Some(ConfigDir::open(&invocation.places.config)?) } else { None };
    let opened = Opened::open(invocation)?.entered()?;
    let request = ExportRequest {
        state: args.state.clone(),
        format: args.format.map(Into::into),
        compression: args.compression.map(|compression| match compression {
            CompressionArg::Gzip => LayerCompression::Gzip,
            CompressionArg::Zstd => LayerCompression::Zstd,
        }),
        push: args.to.clone(),
        to: args.output.as_deref().map(|path| destination(path, invocation)),
        gpg: if args.no_sign { None } else { Some(Invocation::gpg()) },
    };
    let done = of_state::export_state(&opened.context(None), config.as_ref(), &request)?;
    invocation.progress.clear();
    if args.json {
        print_json(&done)?;
        return Ok(ExitCode::SUCCESS);
    }
    let artifact = &done.artifact;
    print(format!(
        "state     {}{}\nartifact  {}{}\nformat    {}\nsize      {}\nsigned    {}\n",
        short_id(&done.state),
        done.name.as_ref().map_or_else(String::new, |name| format!("  ({name})")),
        artifact.path.shown(),
        if artifact.reused { "  (unchanged)" } else { "" },
        artifact.format,
        extent(artifact),
        artifact.signed_by.as_deref().unwrap_or("no"),
    ))?;
    if let Some(pushed) = &done.pushed {
        print(format!(
            "pushed    {}{}\ndigest    {}\nruns on   {}\nsent      {} of {} blobs, {}\n",
            pushed.address,
            if pushed.unchanged { "  (unchanged)" } else { "" },
            pushed.digest,
            pushed.platforms.join(", "),
            pushed.blobs_sent,
            pushed.blobs_sent + pushed.blobs_there,
            human_bytes(pushed.bytes_sent),
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
