//! `gentoomuch sync --from FILE|DIR`

use std::path::PathBuf;
use std::process::ExitCode;

use gentoomuch::build::SyncOptions;

use super::Outcome;
use crate::context::Context;
use crate::shop::Shop;

/// Import an ebuild tree as a pinned tree snapshot
///
/// A published snapshot must carry a trusted signature beside it (`.gpgsig`, `.asc` or `.sig`). Sessions see the tree, read-only,
/// at `/var/db/repos/NAME`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch sync --from gentoo-20260811.tar.xz
  gentoomuch sync --from ~/src/my-overlay --name my-overlay")]
pub(crate) struct Args {
    /// A published snapshot, or a directory that holds a tree
    #[arg(long, value_name = "FILE|DIR")]
    from: PathBuf,
    /// Name of the repository [default: the one in its `profiles/repo_name`]
    #[arg(long)]
    name: Option<String>,
    /// Take a snapshot without a trusted signature; the reason is recorded for ever
    #[arg(long, value_name = "REASON")]
    allow_unsigned: Option<String>,
    /// Accept a good signature by a key that has expired since
    #[arg(long)]
    allow_expired: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    let keys = context.trusted_keys()?;
    let options = SyncOptions {
        from: context.path(&args.from),
        name: args.name.clone(),
        verify: Context::verify_options(args.allow_unsigned.as_ref(), args.allow_expired)?,
    };
    Context::given_file(&options.from)?;
    let shop = Shop::open(context)?;
    let synced = shop.engine(None).sync(&options, &keys)?;
    context.progress.clear();
    if args.json {
        crate::table::print_json(&synced)?;
    } else {
        let unchanged = if synced.unchanged { "  (unchanged)" } else { "" };
        let signer = synced.signer.as_deref().unwrap_or("nobody");
        let text =
            format!("tree    {}\nid      {}{unchanged}\nfiles   {}\nsigner  {signer}\n", synced.name, synced.id, synced.files);
        crate::table::print(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}
