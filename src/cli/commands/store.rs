//! `gentoomuch store ls|show|du|seal|verify`

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use crate::ccache::OfProfile;
use crate::config::BUILDER;
use crate::names::named;
use crate::names::refs::UPSTREAM;
use crate::origin::Recorded;
use crate::store::{
    DeepReport, LayerId, LayerRow, ListReport, RefRow, SessionRow, SessionStatus, Severity, ShowReport, StateId, StateRow, TreeRow,
    VerifyReport,
};
use crate::uses::Use;
use crate::{ccache, context, uses};
use clap::Subcommand;
use serde::Serialize;

use super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::opened::Opened;
use crate::cli::report::{Failure, Kind};
use crate::cli::table;
use crate::cli::table::{Table, count, human_bytes, print, print_json, short_id, short_time};

/// What states are for.
type Uses = BTreeMap<StateId, BTreeSet<Use>>;

/// Look at layers, build states and names; seal and verify them
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "Examples:\n  gentoomuch store ls\n  gentoomuch store du\n  gentoomuch store verify --deep")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List build states and what they are for, trees and sessions
    #[command(after_help = "Example:\n  gentoomuch store ls --json")]
    #[command(alias = "list")]
    Ls {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one build state: where it came from, its layers
    #[command(
        after_help = "Examples:\n  gentoomuch store show profile/server/gentoomuch/builder\n  gentoomuch store show 'stage4/web@{1}'"
    )]
    Show {
        /// A name, `NAME@{N}`, or the beginning of an id
        state: String,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show how much of the disk each state takes: shared and own bytes
    #[command(after_help = "Example:\n  gentoomuch store du")]
    Du {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Record digests of layers, for `verify --deep` to compare
    #[command(after_help = "Examples:\n  gentoomuch store seal\n  gentoomuch store seal profile/server/upstream")]
    Seal {
        /// Names or ids of build states [default: all layers]
        states: Vec<String>,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Check that everything in the store fits together
    #[command(after_help = "Examples:\n  gentoomuch store verify --deep\n  gentoomuch store verify --deep --seal")]
    Verify {
        /// Read every file of sealed layers and compare it; layers without a seal cannot be checked
        #[arg(long)]
        deep: bool,
        /// Seal layers that have no seal, as they are now, so that the next check can compare them
        #[arg(long, requires = "deep")]
        seal: bool,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let opened = Opened::open(invocation)?;
    match &args.command {
        Command::Ls { json } => {
            let (list, uses) = (opened.tools.store.list()?, uses::uses(&opened.context(None))?);
            let caches = ccache::listing(&invocation.places.ccache()).map_err(context::Error::from)?;
            if *json {
                print_json(&with_uses(&list, &uses, &caches))?;
            } else {
                print(render_list(&list, &uses, &caches))?;
            }
            all_was_readable(&opened)?;
        }
        Command::Show { state, json } => {
            let report = opened.tools.store.show(named::named_id(&opened.context(None), state)?.as_str())?;
            if *json { print_json(&report)? } else { print(render_show(&report))? }
        }
        Command::Du { json } => disk_usage(&opened, *json)?,
        Command::Seal { states, json } => seal(&opened, states, *json)?,
        Command::Verify { deep, seal, json } => return verify(&opened, *deep, *seal, *json),
    }
    Ok(ExitCode::SUCCESS)
}

/// Fails if something was left out of what was shown.
pub(super) fn all_was_readable(opened: &Opened<'_>) -> Result<(), Failure> {
    match opened.tools.store.damaged().len() {
        0 => Ok(()),
        count => {
            let what = if count == 1 { "what it describes" } else { "what they describe" };
            let text = format!("{} of the store cannot be read, and {what} is not listed", table::count(count as u64, "file"));
            Err(Failure::message(Kind::Verification, text).hint("see what is affected with `gentoomuch store verify`"))
        }
    }
}

fn or_dash(words: &[String]) -> String {
    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
}

/// What `ls --json` prints: the list with what each state is for.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Listed<'a> {
    refs: &'a [RefRow],
    /// Oldest first.
    states: Vec<StateFor<'a>>,
    /// Oldest first.
    layers: &'a [LayerRow],
    /// Oldest first.
    sessions: &'a [SessionRow],
    /// Oldest first.
    trees: &'a [TreeRow],
    /// Compiler caches.
    ccache: &'a [OfProfile],
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct StateFor<'a> {
    #[serde(flatten)]
    row: &'a StateRow,
    /// What it is for.
    r#for: BTreeSet<Use>,
}

fn with_uses<'a>(list: &'a ListReport, uses: &Uses, ccache: &'a [OfProfile]) -> Listed<'a> {
    let ListReport { refs, states, layers, sessions, trees } = list;
    let states = states.iter().map(|row| StateFor { row, r#for: uses.get(&row.id).cloned().unwrap_or_default() }).collect();
    Listed { refs, states, layers, sessions, trees, ccache }
}

/// So many of a state's uses are said in words. A stage3 can be the base of all else.
const MOST_USES: usize = 6;

/// What a state is for, in words.
fn purpose(uses: Option<&BTreeSet<Use>>) -> String {
    let words = |what: &Use| match what {
        Use::Named { name } => named_words(name),
        Use::BaseOf { name } => format!("base of {name}"),
        Use::Session { of, .. } => format!("a session of {of}"),
        Use::ResumeOf { of, .. } => format!("resume of {of}"),
        Use::Earlier { name } => format!("earlier {name}"),
    };
    let all = uses.into_iter().flatten();
    let said: Vec<String> = all.clone().take(MOST_USES).map(words).collect();
    match all.count() {
        0 => "nothing: `clean` removes it".to_owned(),
        count if count > MOST_USES => format!("{} and {} more", said.join(", "), count - MOST_USES),
        _ => said.join(", "),
    }
}

/// What a name is, in words.
fn named_words(name: &str) -> String {
    let (kind, rest) = name.split_once('/').unwrap_or((name, ""));
    match (kind, rest.split_once('/')) {
        ("profile", Some((profile, UPSTREAM))) => format!("stage3 of profile {profile}"),
        ("profile", Some((profile, BUILDER))) => format!("builder of profile {profile}"),
        ("profile", Some((profile, definition))) => format!("stage {definition} on profile {profile}"),
        ("kernel", Some((profile, label))) => format!("kernel {label} of profile {profile}"),
        ("kernel-sources", Some((profile, label))) => format!("kernel sources {label} of profile {profile}"),
        ("stage4", _) => format!("stage4 {rest}"),
        ("kept", _) => format!("kept by freshroot as {rest}"),
        _ => format!("tag {rest}"),
    }
}

fn render_list(list: &ListReport, uses: &Uses, caches: &[OfProfile]) -> String {
    if list.refs.is_empty() && list.states.is_empty() && list.trees.is_empty() {
        return "the store is empty\n".to_owned();
    }
    let mut sections = Vec::new();
    let mut table = Table::new(&["STATE", "CREATED", ">LAYERS", "NAMES", "FOR"]);
    for state in &list.states {
        let purpose = purpose(uses.get(&state.id));
        table.row([short_id(&state.id), short_time(&state.created), state.layers.to_string(), or_dash(&state.refs), purpose]);
    }
    if !list.states.is_empty() {
        sections.push(table.render());
    }
    let mut table = Table::new(&["TREE", "CREATED", "NAMES"]);
    for tree in &list.trees {
        table.row([tree.id.to_string(), short_time(&tree.created), or_dash(&tree.refs)]);
    }
    if !list.trees.is_empty() {
        sections.push(table.render());
    }
    let mut table = Table::new(&["SESSION", "CREATED", "PURPOSE", "STATUS"]);
    for session in &list.sessions {
        table.row([session.id.to_string(), short_time(&session.created), session.purpose.to_string(), status(&session.status)]);
    }
    if !list.sessions.is_empty() {
        sections.push(table.render());
    }
    let mut table = Table::new(&["COMPILER CACHE", ">PACKAGES", ">OBJECTS", ">SIZE"]);
    for cache in caches {
        table.row([cache.profile.clone(), cache.packages.to_string(), cache.objects.to_string(), human_bytes(cache.bytes)]);
    }
    if !caches.is_empty() {
        sections.push(table.render());
    }
    sections.join("\n")
}

fn render_show(report: &ShowReport) -> String {
    let state = &report.state;
    let mut text = format!(
        "state    {}\nnames    {}\ncreated  {}\nparent   {}\nkey      {}\n",
        state.id,
        or_dash(&report.refs),
        state.created,
        state.parent.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
        state.key
    );
    for layer in &report.layer_rows {
        let sealed = layer.digest.as_deref().unwrap_or("unsealed");
        text.push_str(&format!("layer    {}  {}  {sealed}\n", layer.id, layer.purpose));
    }
    for child in &report.children {
        text.push_str(&format!("child    {child}\n"));
    }
    text + &render_origin(&state.origin) + "see the whole origin with `--json`\n"
}

/// Where a state came from, as far as it fits: what it is, then what that was made from.
fn render_origin(origin: &Recorded) -> String {
    let mut text = String::new();
    let mut next = Some(origin);
    while let Some(origin) = next {
        text.push_str(&format!("origin   {}", origin.kind().unwrap_or("unknown")));
        let named = [("name", origin.name()), ("definition", origin.definition()), ("profile", origin.profile())];
        text.extend(named.iter().filter_map(|(name, word)| word.map(|word| format!(", {name} {word}"))));
        text.push('\n');
        let stage3 = origin.as_import();
        for (label, value) in [
            ("signer", stage3.and_then(|stage3| Some(stage3.signer.as_ref()?.primary.to_string()))),
            ("unsigned", stage3.and_then(|stage3| stage3.allow_unsigned.clone())),
            ("portage profile", origin.portage_profile().map(str::to_owned)),
            ("isolation", origin.isolation().map(str::to_owned)),
        ] {
            text.extend(value.map(|value| format!("         {label} {value}\n")));
        }
        for tree in origin.trees().unwrap_or_default() {
            text.push_str(&format!("         tree {} {}\n", tree.name, tree.digest));
        }
        next = origin.below();
    }
    text
}

fn disk_usage(opened: &Opened<'_>, json: bool) -> Result<(), Failure> {
    let _shared = context::share_store(&opened.context(None))?;
    let usage = opened.tools.store.disk_usage(&opened.tools.launcher)?;
    if json {
        print_json(&usage)?;
        return all_was_readable(opened);
    }
    let mut table = Table::new(&["STATE", ">TOTAL", ">SHARED", ">OWN", "NAMES"]);
    for state in &usage.states {
        table.row([
            short_id(&state.id),
            human_bytes(state.total_bytes),
            human_bytes(state.shared_bytes),
            human_bytes(state.own_bytes),
            or_dash(&state.refs),
        ]);
    }
    let sessions: u64 = usage.sessions.values().map(|tree| tree.bytes).sum();
    let trees: u64 = usage.trees.values().map(|tree| tree.bytes).sum();
    let mut text = if usage.states.is_empty() { String::new() } else { table.render() + "\n" };
    text.push_str(&format!(
        "trees     {}\nsessions  {}\ntotal     {}\n",
        human_bytes(trees),
        human_bytes(sessions),
        human_bytes(usage.total_bytes)
    ));
    print(&text)?;
    all_was_readable(opened)
}

fn seal(opened: &Opened<'_>, states: &[String], json: bool) -> Result<(), Failure> {
    let _shared = context::share_store(&opened.context(None))?;
    let mut layers = Vec::new();
    if states.is_empty() {
        layers.extend(opened.tools.store.layers()?.into_iter().map(|layer| layer.id));
    }
    for text in states {
        layers.extend(named::named(&opened.context(None), text)?.state.layers);
    }
    layers.sort();
    layers.dedup();
    let mut reports = Vec::new();
    for layer in &layers {
        reports.push(opened.tools.store.seal(layer, &opened.tools.launcher)?);
    }
    if json {
        return Ok(print_json(&reports)?);
    }
    let mut table = Table::new(&["LAYER", ">FILES", ">SIZE", "DIGEST"]);
    for report in &reports {
        let sealed = &report.sealed;
        table.row([report.id.to_string(), sealed.files.to_string(), human_bytes(sealed.bytes), sealed.digest.clone()]);
    }
    Ok(print(&if reports.is_empty() { "nothing to seal\n".to_owned() } else { table.render() })?)
}

fn status(status: &SessionStatus) -> String {
    match status {
        SessionStatus::Active => "active".to_owned(),
        SessionStatus::Suspended { note, .. } => format!("suspended: {note}"),
    }
}

/// The contents of layers; `users` are the names of what has a layer.
fn render_deep(contents: &DeepReport, sealed: bool, users: &dyn Fn(&LayerId) -> Vec<String>) -> String {
    let mut text =
        format!("contents  {} as sealed, {} different\n", count(contents.good.len() as u64, "layer"), contents.different.len());
    for layer in &contents.different {
        text.push_str(&format!("error     layer {} has {}\n", layer.layer, count(layer.count, "difference")));
        for difference in &layer.first {
            text.push_str(&format!("          {}: {}\n", difference.path, difference.what));
        }
        let names = users(&layer.layer);
        let what = if names.is_empty() { "it has no name: `gentoomuch clean` removes it".to_owned() } else { names.join(", ") };
        let remedy = if names.is_empty() { "" } else { "restore it from a backup, or build again the states that have it: " };
        text.push_str(&format!("          {remedy}{what}\n"));
    }
    for layer in &contents.unsealed {
        let words = if sealed { "sealed now, as it is" } else { "never sealed: it may have changed" };
        text.push_str(&format!("unsealed  {layer}  {words}\n"));
    }
    if !sealed && !contents.unsealed.is_empty() {
        text.push_str("          use `--seal` to seal them as they are now, so that the next check can compare them\n");
    }
    text
}

/// What a verification comes to: whether all is well, `None` if that cannot be known.
fn verdict(report: &VerifyReport, contents: Option<&DeepReport>) -> Option<bool> {
    let good = report.is_clean() && contents.is_none_or(|contents| contents.different.is_empty());
    let known = contents.is_none_or(|contents| contents.unsealed.is_empty());
    if good && !known { None } else { Some(good) }
}

fn render_verify(report: &VerifyReport, contents: Option<&DeepReport>) -> String {
    match (verdict(report, contents), contents) {
        (Some(true), _) => "clean     yes\n".to_owned(),
        (None, Some(contents)) => {
            format!("clean     yes, but the contents of {} were not checked\n", count(contents.unsealed.len() as u64, "layer"))
        }
        _ => "clean     no\n".to_owned(),
    }
}

/// What `verify --json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Verified<'a> {
    /// Whether all is well; null if that cannot be known, since layers have no seal.
    clean: Option<bool>,
    structure: &'a VerifyReport,
    /// With `--deep`.
    contents: Option<&'a DeepReport>,
}

fn verify(opened: &Opened<'_>, deep: bool, seal: bool, json: bool) -> Outcome {
    let _shared = context::share_store(&opened.context(None))?;
    let report = opened.tools.store.verify()?;
    let contents = if deep { Some(opened.tools.store.verify_deep(&opened.tools.launcher, 20, |_| {})?) } else { None };
    if seal {
        for layer in contents.iter().flat_map(|contents| &contents.unsealed) {
            opened.tools.store.seal(layer, &opened.tools.launcher)?;
        }
    }
    let verdict = verdict(&report, contents.as_ref());
    if json {
        print_json(&Verified { clean: verdict, structure: &report, contents: contents.as_ref() })?;
    } else {
        let mut text = format!(
            "checked   {}, {}, {}, {}\n",
            count(report.refs as u64, "name"),
            count(report.states as u64, "state"),
            count(report.layers as u64, "layer"),
            count(report.trees as u64, "tree")
        );
        for finding in &report.findings {
            let severity = if finding.severity() == Severity::Error { "error" } else { "note" };
            text.push_str(&format!("{severity:<9} {finding}\n          {}\n", finding.remedy()));
        }
        if let Some(contents) = &contents {
            text.push_str(&render_deep(contents, seal, &|layer| opened.tools.store.names_with(layer).unwrap_or_default()));
        }
        text.push_str(&render_verify(&report, contents.as_ref()));
        print(&text)?;
    }
    if verdict == Some(false) {
        return Err(
            Failure::message(Kind::Verification, "the store is not as it should be").hint("each finding above says what to do")
        );
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_state_is_for_in_words() {
        let named = |name: &str| Use::Named { name: name.to_owned() };
        for (name, words) in [
            ("profile/demo/upstream", "stage3 of profile demo"),
            ("profile/demo/gentoomuch/builder", "builder of profile demo"),
            ("profile/demo/plain", "stage plain on profile demo"),
            ("kernel/demo/qemu", "kernel qemu of profile demo"),
            ("kernel-sources/demo/gentoo-sources", "kernel sources gentoo-sources of profile demo"),
            ("stage4/group/web", "stage4 group/web"),
            ("kept/x", "kept by freshroot as x"),
            ("tag/v1", "tag v1"),
        ] {
            assert_eq!(purpose(Some(&BTreeSet::from([named(name)]))), words);
        }
        let of = "stage4/web".to_owned();
        let all = BTreeSet::from([
            Use::Earlier { name: "stage4/web@{1}".to_owned() },
            Use::ResumeOf { session: "0".to_owned(), of: of.clone() },
            Use::BaseOf { name: of },
            named("kept/x"),
        ]);
        assert_eq!(purpose(Some(&all)), "kept by freshroot as x, base of stage4/web, resume of stage4/web, earlier stage4/web@{1}");
        assert_eq!(purpose(None), "nothing: `clean` removes it");
        let many = (0..MOST_USES + 2).map(|number| Use::BaseOf { name: format!("kept/{number}") }).collect();
        assert_eq!(
            purpose(Some(&many)),
            "base of kept/0, base of kept/1, base of kept/2, base of kept/3, base of kept/4, base of kept/5 and 2 more"
        );
    }

    #[test]
    fn an_origin_is_told_from_the_top_to_the_stage3() {
        const KEY: &str = "13EBBDBEDE7A12775DFDB1BABB572E0E2D182910";
        let origin = Recorded::from(serde_json::json!({
            "kind": "stage4 definition", "definition": "web", "profile": "server", "isolation": "all",
            "base": {
                "kind": "stage3 definition", "definition": "plain", "profile": "server", "portage_profile": "gentoo:default",
                "trees": [{ "name": "gentoo", "digest": "9136" }],
                "stage3": { "kind": "stage3", "name": "stage3.tar.xz", "signer": { "fingerprint": KEY, "primary": KEY, "uid": null, "signed_at": 1, "expired": null }, "allow_unsigned": null },
            },
        }));
        assert_eq!(
            render_origin(&origin),
            "origin   stage4 definition, definition web, profile server\n         isolation all\n\
             origin   stage3 definition, definition plain, profile server\n         portage profile gentoo:default\n         tree gentoo 9136\n\
             origin   stage3, name stage3.tar.xz\n         signer 13EBBDBEDE7A12775DFDB1BABB572E0E2D182910\n"
        );
    }
}
