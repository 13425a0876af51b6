//! `gentoomuch audit [STAGE4|PROFILE|ARTIFACT]`

use std::process::ExitCode;

use clap::ValueEnum;
use serde::Serialize;

use crate::installed::audit;
use crate::installed::audit::{Audits, Finding, Kind};
use crate::progress::{Event, Observer as _};
use crate::query::audit::{Advisory, Status, Version};

use super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::opened::Opened;
use crate::cli::report::{self, Failure};
use crate::cli::table::{Table, count, print, print_json};

/// List security advisories, newer and removed versions of packages
///
/// What is installed is held against the ebuild trees. Gentoo's security advisories (GLSAs) are those of the newest tree, or of the one
/// that `env/tree` pins; Portage itself says which packages they mean. A tree without advisories, such as a plain clone by git, says nothing: then they are unknown, and `--fail-on glsa` fails.
/// Nothing is built or changed; what was found is kept for the page of `gentoomuch report`. Without a name all stage4s and profiles that have a state are looked at.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch audit
  gentoomuch audit web --fail-on glsa,removed
  gentoomuch audit data/stages/web/stage4-amd64-web-20261125T194004Z-4f1a.tar.xz --json

Exit codes: 0 it was looked at, 10 `--fail-on`: there is something of the kind.")]
pub(crate) struct Args {
    /// A stage4, a profile, any name of a build state, or the file of an artifact [default: all stage4s and profiles]
    #[arg(value_name = "STAGE4|PROFILE|ARTIFACT")]
    what: Option<String>,
    /// Exit with 10 if there is something of these kinds
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    fail_on: Vec<FailOn>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// A security advisory is about a package, or that is unknown
    Glsa,
    /// An installed version is gone from the trees, and there is no newer one
    Removed,
    /// There is a newer version
    Outdated,
}

impl FailOn {
    fn kind(self) -> Kind {
        match self {
            Self::Glsa => Kind::Glsa,
            Self::Removed => Kind::Removed,
            Self::Outdated => Kind::Outdated,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Glsa => "glsa",
            Self::Removed => "removed",
            Self::Outdated => "outdated",
        }
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cli) struct Report<'a> {
    audited: &'a [Finding],
    /// The kinds of `--fail-on` of which there is something.
    failed_on: Vec<&'static str>,
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let opened = Opened::open(invocation)?.entered()?;
    let audits = audit::audit(&opened.context(None), args.what.as_deref());
    invocation.progress.clear();
    let Audits { found, failed: unanswered } = audits?;
    let failed: Vec<(FailOn, usize)> = failures(&args.fail_on, &found);
    if args.json {
        print_json(&Report { audited: &found, failed_on: failed.iter().map(|(kind, _)| kind.word()).collect() })?;
    } else {
        print(found.iter().map(words).collect::<Vec<_>>().join("\n"))?;
    }
    let unanswered = unanswered.into_iter().map(|(name, error)| Failure::from(error).about(format!("cannot audit `{name}`")));
    let mut unanswered: Vec<Failure> = unanswered.collect();
    // What could not be asked about may be anything, so it comes first.
    if let Some(last) = unanswered.pop() {
        for other in &unanswered {
            invocation.progress.event(&Event::Warning(&other.in_one_line()));
        }
        return Err(last);
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let reasons: Vec<String> = failed.iter().map(|(kind, number)| format!("{} ({number})", kind.word())).collect();
    invocation.progress.event(&Event::Note(&format!("--fail-on: {}", reasons.join(", "))));
    Ok(ExitCode::from(report::Kind::ChangeNeeded.code()))
}

/// The kinds to fail on of which there is something, and how much.
fn failures(asked: &[FailOn], found: &[Finding]) -> Vec<(FailOn, usize)> {
    let number = |kind: &FailOn| found.iter().map(|finding| finding.count(kind.kind())).sum::<usize>();
    let all = FailOn::value_variants().iter().filter(|kind| asked.contains(kind));
    all.map(|kind| (*kind, number(kind))).filter(|(_, number)| *number > 0).collect()
}

fn words(finding: &Finding) -> String {
    let mut text = format!("{}: {}, {}\n", finding.name, count(finding.package_count as u64, "package"), against(finding));
    text.push_str(&advisories(finding));
    text.push_str(&versions(&finding.versions));
    text.push_str(&list("not read of its package database", &finding.unread));
    text
}

/// Which trees it was held against, and how old they are.
fn against(finding: &Finding) -> String {
    let date = |secs| jiff::Timestamp::from_second(secs).map(|time| time.strftime("%Y-%m-%d").to_string()).unwrap_or_default();
    let trees = finding.trees.iter().map(|tree| format!("`{}` of {}", tree.name, date(tree.newest)));
    format!("against {}", trees.collect::<Vec<_>>().join(", "))
}

fn advisories(finding: &Finding) -> String {
    let Some(known) = &finding.advisories else {
        return "  security advisories: unknown, since the tree has none; a signed snapshot or rsync brings them\n".to_owned();
    };
    if known.found.is_empty() && known.unread.is_empty() {
        return format!("  security advisories: none of {} is about a package\n", known.known);
    }
    let mut table = Table::new(&["  GLSA", "SEVERITY", "PACKAGE", "FIXED IN", "TITLE"]);
    for one in &known.found {
        rows(&mut table, one);
    }
    let text = if known.found.is_empty() { String::new() } else { table.render() };
    text + &list("advisories that cannot be read", &known.unread)
}

/// An advisory with a row for each package.
fn rows(table: &mut Table, one: &Advisory) {
    let accepted = if one.accepted { " (accepted)" } else { "" };
    for (at, package) in one.packages.iter().enumerate() {
        let fixed = if package.fixed.is_empty() { "no version" } else { &package.fixed };
        let first = |text: String| if at == 0 { text } else { String::new() };
        table.row([
            format!("  {}", first(format!("{}{accepted}", one.id))),
            first(one.severity.clone()),
            package.cpv.clone(),
            fixed.to_owned(),
            first(one.title.clone()),
        ]);
    }
}

fn versions(versions: &[Version]) -> String {
    if versions.is_empty() {
        return "  versions: all are the newest of their slots\n".to_owned();
    }
    let mut table = Table::new(&["  PACKAGE", "SLOT", "STATUS", "NEWEST"]);
    for version in versions {
        let status = match version.status {
            Status::Outdated => "outdated".to_owned(),
            Status::Removed => "removed".to_owned(),
            Status::Unknown => format!("unknown: no tree `{}`", version.repository),
        };
        let newest = if version.newest.is_empty() { "-" } else { &version.newest };
        table.row([format!("  {}", version.cpv), version.slot.clone(), status, newest.to_owned()]);
    }
    table.render()
}

fn list(what: &str, items: &[String]) -> String {
    if items.is_empty() {
        String::new()
    } else {
        format!("  {what}:\n{}", items.iter().map(|item| format!("    {item}\n")).collect::<Vec<_>>().concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::installed::audit::TreeSeen;
    use crate::query::audit::{Advisories, Affected};

    fn finding() -> Finding {
        let version = |cpv: &str, status, newest: &str, repository: &str| Version {
            cpv: cpv.to_owned(),
            slot: "0".to_owned(),
            status,
            newest: newest.to_owned(),
            repository: repository.to_owned(),
        };
        let affected = |cpv: &str, fixed: &str| Affected { cpv: cpv.to_owned(), fixed: fixed.to_owned() };
        let advisory = Advisory {
            id: "202611-01".to_owned(),
            title: "Hello: too friendly\u{1b}[2J".to_owned(),
            severity: "high".to_owned(),
            packages: vec![affected("app-misc/hello-2.10", "app-misc/hello-2.12"), affected("a/b-1", "")],
            accepted: true,
        };
        Finding {
            name: "stage4/web".to_owned(),
            state: None,
            package_count: 1,
            trees: vec![TreeSeen { name: "gentoo".to_owned(), digest: String::new(), newest: 1_700_000_000 }],
            advisories: Some(Advisories { known: 3, found: vec![advisory], unread: vec!["glsa-1: broken".to_owned()] }),
            versions: vec![
                version("app-misc/hello-2.10", Status::Outdated, "app-misc/hello-2.12", ""),
                version("a/b-1", Status::Removed, "", ""),
                version("c/d-1", Status::Unknown, "", "over"),
            ],
            unread: vec!["e/f".to_owned()],
        }
    }

    #[test]
    fn what_was_found_in_words() {
        insta::assert_snapshot!(crate::cli::screen::Text::from(words(&finding())).as_str(), @r"
        stage4/web: 1 package, against `gentoo` of 2023-11-14
          GLSA                  SEVERITY  PACKAGE              FIXED IN             TITLE
          202611-01 (accepted)  high      app-misc/hello-2.10  app-misc/hello-2.12  Hello: too friendly\u{1b}[2J
                                          a/b-1                no version
          advisories that cannot be read:
            glsa-1: broken
          PACKAGE              SLOT  STATUS                   NEWEST
          app-misc/hello-2.10  0     outdated                 app-misc/hello-2.12
          a/b-1                0     removed                  -
          c/d-1                0     unknown: no tree `over`  -
          not read of its package database:
            e/f
        ");
    }

    #[test]
    fn what_is_unknown_is_not_called_clean() {
        let clean = Finding {
            versions: vec![],
            unread: vec![],
            advisories: Some(Advisories { known: 3, found: vec![], unread: vec![] }),
            ..finding()
        };
        let said = words(&clean);
        assert!(said.contains("none of 3 is about a package") && said.contains("all are the newest"), "{said}");
        let unknown = Finding { advisories: None, ..clean };
        assert!(words(&unknown).contains("security advisories: unknown, since the tree has none"));
        assert_eq!(failures(&[FailOn::Outdated, FailOn::Glsa], std::slice::from_ref(&unknown)), [(FailOn::Glsa, 1)]);
        assert_eq!(failures(&[FailOn::Outdated], &[unknown]), []);
    }
}
