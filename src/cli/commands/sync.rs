//! `gentoomuch sync [NAME…]`, `gentoomuch sync --from SOURCE`

use std::path::Path;
use std::process::ExitCode;

use crate::config::is_repository_name;
use crate::config::source::{Revision, TreeSource};
use crate::trees;
use crate::trees::{SyncFrom, SyncOptions, Synced};

use super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::opened::Opened;
use crate::cli::report::{Failure, Kind};
use crate::cli::table::{print, print_json};

/// Fetch the ebuild trees that the configuration names
///
/// Without `--from`, it fetches the repositories of `repos.conf` and `env/tree`, each at its pin if it has one, and always `gentoo`. Each
/// becomes an immutable snapshot, which sessions see read-only. A snapshot needs a trusted signature (of the commit, the top-level Manifest
/// or the archive), or a pin that is a commit or a digest.
#[derive(Debug, clap::Args)]
#[command(after_help = "Sources:
  git+https://HOST/PATH[#BRANCH|TAG|COMMIT]   also git+ssh, git+http, git+file and git://
  rsync://HOST/MODULE                         with the host's rsync
  webrsync+https://MIRROR[#YYYYMMDD]          the signed snapshots of a mirror
  https://HOST/NAME.tar.xz                    a signed tarball
  FILE or DIR                                 a published snapshot, or a directory that holds a tree

Examples:
  gentoomuch sync
  gentoomuch sync --pin latest gentoo
  gentoomuch sync --from git+https://github.com/gentoo-mirror/gentoo.git#stable
  gentoomuch sync --from gentoo-20260811.tar.xz
  gentoomuch sync --from ~/src/my-overlay --name my-overlay")]
pub(crate) struct Args {
    /// Repositories of the configuration [default: all]
    #[arg(value_name = "NAME", conflicts_with_all = ["from", "name"])]
    names: Vec<String>,
    /// Import from this source instead of the configured one
    #[arg(long, value_name = "SOURCE")]
    from: Option<String>,
    /// Name of the repository [default: the one in its `profiles/repo_name`]
    #[arg(long, requires = "from")]
    name: Option<String>,
    /// Fetch this revision, and write it to `env/tree`: a commit, a day, `sha256:DIGEST`, or `latest` for the newest one
    #[arg(long, value_name = "REV")]
    pin: Option<String>,
    /// Accept a tree without a trusted signature, for this reason; the reason is recorded for good
    #[arg(long, value_name = "REASON")]
    allow_unsigned: Option<String>,
    /// Accept a good signature even if its key has expired since then
    #[arg(long)]
    allow_expired: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    if let Some(pin) = args.pin.as_deref().filter(|pin| *pin != "latest") {
        check_pin(pin)?;
    }
    let keys = invocation.trusted_keys()?;
    let verify = Invocation::verify_options(args.allow_unsigned.as_ref(), args.allow_expired)?;
    let programs = Invocation::programs();
    let Some(from) = &args.from else {
        let config = invocation.config()?;
        if args.pin.is_some() && args.names.len() != 1 && args.pin.as_deref() != Some("latest") {
            return Err(
                Failure::message(Kind::Usage, "a pin is for one repository").hint("name it: `gentoomuch sync --pin REV NAME`")
            );
        }
        let opened = Opened::open(invocation)?.entered()?;
        let options = |source, rev, name, pinned| SyncOptions {
            from: SyncFrom::Remote(source),
            rev,
            name: Some(name),
            pinned,
            verify: verify.clone(),
            programs: programs.clone(),
        };
        let synced = trees::sync_configured(&opened.context(None), &config, &args.names, options, &keys, args.pin.as_deref())?;
        invocation.progress.clear();
        if args.json {
            print_json(&synced)?;
        } else {
            print(synced.iter().map(render).collect::<Vec<_>>().join("\n"))?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    if let Some(name) = args.name.as_ref().filter(|name| !is_repository_name(name)) {
        return Err(Failure::message(Kind::Usage, format!("`{}` cannot be the name of a repository", name.escape_debug()))
            .hint("letters, digits and `_-`, not beginning with `-`"));
    }
    let (from, mut rev) = source(from, invocation)?;
    if let Some(pin) = args.pin.as_deref().filter(|pin| *pin != "latest") {
        rev = Some(match &from {
            SyncFrom::Remote(source) => source.revision(pin).map_err(usage)?,
            SyncFrom::Local(_) => Revision::parse(pin).map_err(usage)?,
        });
    }
    let remote = match &from {
        SyncFrom::Remote(source) => Some(source.clone()),
        SyncFrom::Local(_) => None,
    };
    let config = if args.pin.is_some() { Some(invocation.config()?) } else { None };
    let options = SyncOptions { from, rev, name: args.name.clone(), pinned: false, verify, programs };
    let opened = Opened::open(invocation)?.entered()?;
    let cx = opened.context(None);
    let mut synced = trees::sync(&cx, &options, &keys)?;
    if let Some(config) = config {
        synced.pin = Some(trees::write_pin(&cx, &config, &synced, remote)?);
    }
    invocation.progress.clear();
    if args.json {
        print_json(&synced)?;
    } else {
        print(render(&synced))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn usage(error: crate::config::source::SourceError) -> Failure {
    trees::Error::from(error).into()
}

fn check_pin(pin: &str) -> Result<(), Failure> {
    match Revision::parse(pin) {
        Ok(rev) if rev.is_fixed() => Ok(()),
        Ok(rev) => Err(Failure::message(Kind::Usage, format!("`{rev}` may mean another tree tomorrow"))
            .hint("a pin is a full commit id, a day (`20260811`), `sha256:DIGEST`, or `latest` for the newest one")),
        Err(error) => Err(usage(error)),
    }
}

/// What exists here is a file or directory; everything else is an address.
fn source(text: &str, invocation: &Invocation) -> Result<(SyncFrom, Option<Revision>), Failure> {
    let path = invocation.path(Path::new(text));
    if path.exists() {
        return Ok((SyncFrom::Local(path), None));
    }
    match TreeSource::parse(text) {
        Ok((source, rev)) => Ok((SyncFrom::Remote(source), rev)),
        // It looks like a path.
        Err(_) if !text.contains("://") && !text.contains('+') => {
            Invocation::given_file(&path)?;
            Ok((SyncFrom::Local(path), None))
        }
        Err(error) => Err(usage(error)),
    }
}

fn render(synced: &Synced) -> String {
    let unchanged = if synced.unchanged { "  (unchanged)" } else { "" };
    let signer = match (synced.signer.as_deref(), synced.vouched.as_str()) {
        (Some(signer), _) => signer,
        (None, "pin") => "nobody; it is what the pin says",
        (None, _) => "nobody",
    };
    let Synced { name, id, rev, files, .. } = synced;
    let pin = synced.pin.as_ref().map(|pin| format!("pin     {pin}\n")).unwrap_or_default();
    format!("tree    {name}\nid      {id}{unchanged}\nrev     {rev}\nfiles   {files}\nsigner  {signer}\n{pin}")
}
