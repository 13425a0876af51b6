//! `gentoomuch clean [WHAT…]`

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use crate::history::clean;
use crate::history::clean::{CleanItem, CleanKind, CleanOptions, CleanPlan, everything};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;

use super::Outcome;
use crate::cli::ask::agreed;
use crate::cli::invocation::Invocation;
use crate::cli::opened::Opened;
use crate::cli::table::{Table, count, human_bytes, print, print_json};

/// So many lines a reason are shown; `-v` shows all.
const LINES: usize = 12;

/// Delete data that is no longer needed
///
/// It first shows what it would delete, how much space that takes and why it is not needed; then it asks you. Without a limit it deletes
/// only data that nothing refers to: states and layers without a name, tree snapshots without a name that no kept state was built with,
/// binary packages that no state has installed and the next build cannot use, compiler caches beyond `env/ccache`, distfiles that no
/// Manifest names, and logs older than 30 days. States that you kept or tagged (`kept/`, `tag/`) stay.
///
/// It waits until no other command uses the store. You can kill it at any time: the next command finishes what it began.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch clean --dry-run
  gentoomuch clean --keep 3 --older-than 30d
  gentoomuch clean --yes --max-size 20G
  gentoomuch clean binpkgs distfiles
  gentoomuch clean --orphans --dry-run
  gentoomuch clean --everything

Sizes are powers of 1024 (K, M, G, T). Durations are hours, days, weeks, months of 30 days, or years: 12h, 30d, 2w, 6m, 1y.
Without a terminal, nothing is removed unless you give `--yes`.")]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line, each on its own")]
pub(crate) struct Args {
    /// What to clean [default: all]
    #[arg(value_parser = what(), value_name = "WHAT")]
    what: Vec<What>,
    /// Only show what would be removed
    #[arg(short = 'n', long, visible_alias = "plan")]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Also remove suspended sessions that could still go on
    #[arg(long)]
    sessions: bool,
    /// Also remove states and artifacts whose stage4 or stage3 definition, or whose profile, is gone
    #[arg(long)]
    orphans: bool,
    /// Keep the N newest states of each name and the N newest artifacts of each stage4, and remove earlier ones
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Remove states that were replaced this long ago, and artifacts and logs this old; with `--keep`, only what both options name
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<i64>,
    /// Then remove what was not used for the longest time, until the rest takes no more than this
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,
    /// Remove the whole store, all artifacts, logs, distfiles, binary packages and compiler caches; the configuration stays
    #[arg(long, conflicts_with_all = ["what", "sessions", "orphans", "keep", "older_than", "max_size"])]
    everything: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// What to clean: one kind, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct What(Option<CleanKind>);

impl What {
    const ALL: &'static str = "all";

    fn kinds(self) -> Vec<CleanKind> {
        self.0.map_or_else(|| CleanKind::ALL.to_vec(), |kind| vec![kind])
    }
}

/// Reads the name of a kind, and tells which there are.
fn what() -> impl TypedValueParser<Value = What> {
    let names = std::iter::once(What::ALL).chain(CleanKind::ALL.map(CleanKind::name));
    PossibleValuesParser::new(names).map(|name| What(CleanKind::ALL.into_iter().find(|kind| kind.name() == name)))
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let opened = Opened::open(invocation)?;
    let cx = opened.context(None);
    let options = options(args);
    let plan = if args.everything { everything::clean_everything_plan(&cx)? } else { clean::clean_plan(&cx, &options)? };
    let nothing = plan.is_empty();
    if args.dry_run || nothing {
        return shown(args, &plan, false, invocation.global.verbose > 0);
    }
    if !args.json {
        print(render(&plan, invocation.global.verbose > 0))?;
    }
    let question = format!("remove {}, {}", count(plan.items.len() as u64, "item"), human_bytes(plan.bytes));
    if !args.yes && !agreed(&question, &opened)? {
        return Ok(ExitCode::SUCCESS);
    }
    let done = if args.everything { everything::clean_everything(&cx)? } else { clean::clean(&cx, &options, &plan)? };
    invocation.progress.clear();
    if args.json {
        return shown(args, &done, true, true);
    }
    print(format!("freed  {} in {}\n", human_bytes(done.bytes), count(done.items.len() as u64, "item")))?;
    Ok(ExitCode::SUCCESS)
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Cleaned<'a> {
    #[serde(flatten)]
    plan: &'a CleanPlan,
    /// Whether it was done; else it is what would be.
    removed: bool,
}

fn options(args: &Args) -> CleanOptions {
    let what = if args.what.is_empty() { vec![What(None)] } else { args.what.clone() };
    let mut kinds: BTreeSet<CleanKind> = what.iter().flat_map(|what| what.kinds()).collect();
    let suspended = args.sessions || args.what.contains(&What(Some(CleanKind::Sessions)));
    if suspended {
        kinds.insert(CleanKind::Sessions);
    }
    CleanOptions {
        kinds,
        suspended,
        orphans: args.orphans,
        keep: args.keep.map(|keep| keep as usize),
        older_than_secs: args.older_than,
        max_size_bytes: args.max_size,
        now_secs: super::now_secs(),
    }
}

fn shown(args: &Args, plan: &CleanPlan, removed: bool, all: bool) -> Outcome {
    if args.json {
        print_json(&Cleaned { plan, removed })?;
    } else {
        print(render(plan, all))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn render(plan: &CleanPlan, all: bool) -> String {
    let mut text = String::new();
    if !plan.items.is_empty() {
        let mut groups: BTreeMap<(CleanKind, &str), Vec<&CleanItem>> = BTreeMap::new();
        for item in &plan.items {
            groups.entry((item.kind, &item.why)).or_default().push(item);
        }
        let mut table = Table::new(&["KIND", ">SIZE", "WHAT", "WHY"]);
        for ((kind, why), mut items) in groups {
            items.sort_by(|a, b| (b.bytes, &a.name).cmp(&(a.bytes, &b.name)));
            let shown = if all || items.len() <= LINES { items.len() } else { LINES - 1 };
            for item in &items[..shown] {
                table.row([kind.to_string(), human_bytes(item.bytes), item.name.clone(), why.to_owned()]);
            }
            let more = &items[shown..];
            if !more.is_empty() {
                let bytes = more.iter().map(|item| item.bytes).sum();
                table.row([
                    kind.to_string(),
                    human_bytes(bytes),
                    format!("and {} more (`-v` lists them)", more.len()),
                    why.to_owned(),
                ]);
            }
        }
        text.push_str(&table.render());
        text.push('\n');
    }
    for forgotten in &plan.forgotten {
        let values = count(forgotten.positions.len() as u64, "earlier value");
        let what = if forgotten.whole { String::new() } else { format!("{values} of ") };
        text.push_str(&format!("forgets  {what}`{}`\n", forgotten.name));
    }
    if let Some(total) = plan.total_bytes {
        let left = total.saturating_sub(plan.bytes);
        text.push_str(&format!("takes    {} now, {} then\n", human_bytes(total), human_bytes(left)));
        if let Some(max) = plan.max_size_bytes.filter(|max| left > *max) {
            text.push_str(&format!("note     more than the {} that you asked for: the rest is in use\n", human_bytes(max)));
        }
    }
    for note in &plan.notes {
        text.push_str(&format!("note     {note}\n"));
    }
    let items = count(plan.items.len() as u64, "item");
    if plan.is_empty() {
        text.push_str("nothing to clean\n");
    } else {
        text.push_str(&format!("total    {} in {items}\n", human_bytes(plan.bytes)));
    }
    text
}

/// `20G` as bytes.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || "a size is a number with K, M, G or T: `20G`".to_owned();
    let plain = text.trim().trim_end_matches(['b', 'B']).trim_end_matches('i');
    let digits = plain.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match plain[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// `30d` as seconds.
fn duration(text: &str) -> Result<i64, String> {
    let wrong = || "a duration is a number with h, d, w, m (30 days) or y: `30d`".to_owned();
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let hours = match &text[digits.len()..] {
        "h" => 1,
        "d" => 24,
        "w" => 7 * 24,
        "m" => 30 * 24,
        "y" => 365 * 24,
        _ => return Err(wrong()),
    };
    let number: u32 = digits.parse().map_err(|_| wrong())?;
    Ok(i64::from(number) * hours * 3600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations() {
        for (text, bytes) in [("0", 0), ("10", 10), ("1k", 1024), ("2MiB", 2 << 20), ("20G", 20 << 30), ("1TB", 1 << 40)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "x", "1X", "-1G", "1.5G", "99999999999T"] {
            assert!(size(text).is_err(), "{text}");
        }
        for (text, secs) in
            [("12h", 43_200), ("30d", 2_592_000), ("2w", 1_209_600), ("1m", 2_592_000), ("1y", 31_536_000), ("0d", 0)]
        {
            assert_eq!(duration(text), Ok(secs), "{text}");
        }
        for text in ["", "30", "d", "-1d", "1s", "1 d x"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
