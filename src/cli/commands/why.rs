//! `gentoomuch why PACKAGE [STAGE|PROFILE]`

use std::process::ExitCode;

use crate::installed::why;
use crate::installed::why::{Explained, Sized, Step, Way};

use super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::opened::Opened;
use crate::cli::table::{Table, count, human_bytes, print, print_json};

/// So many ways are shown; `--json` has more.
const WAYS_SHOWN: usize = 10;
/// So many packages that could go.
const GOING_SHOWN: usize = 20;

/// Say what pulls a package in, and what could go without it
///
/// For each package that needs it you get the shortest way from a line of the configuration, or of the Portage profile, with the atoms on
/// the way and installed sizes. The end says what the state would not need either if the package went, as `emerge --depclean` sees it:
/// what is only there to build others counts as needed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch why dev-libs/openssl web
  gentoomuch why python
  gentoomuch why sys-devel/gcc stage4/web --json")]
pub(crate) struct Args {
    /// An installed package, by its name or as an atom
    package: String,
    /// A stage4, a profile, or any name of a build state [default: the default profile]
    #[arg(value_name = "STAGE|PROFILE")]
    what: Option<String>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let opened = Opened::open(invocation)?.entered()?;
    let explained = why::why(&opened.context(None), &args.package, args.what.as_deref());
    invocation.progress.clear();
    let explained = explained?;
    if args.json {
        print_json(&explained)?;
    } else {
        print(explained.iter().map(words).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn words(explained: &Explained) -> String {
    let mut text = format!("{} in {}\n", with_size(&explained.package), explained.of);
    if explained.ways.is_empty() {
        text.push_str("  nothing needs it: `emerge --depclean` would remove it\n");
    }
    for way in explained.ways.iter().take(WAYS_SHOWN) {
        text.push_str(&way_words(way));
    }
    let more = explained.ways.len().saturating_sub(WAYS_SHOWN) + explained.more_ways;
    if more > 0 {
        text.push_str(&format!("  and {} to it; `--json` has more of them\n", count(more as u64, "further way")));
    }
    text.push_str(&going_words(explained));
    for unread in &explained.unread {
        text.push_str(&format!("  cannot be read: {unread}\n"));
    }
    text
}

fn with_size(Sized { package, size_bytes }: &Sized) -> String {
    format!("{package} ({})", size_bytes.map_or_else(|| "size unknown".to_owned(), human_bytes))
}

fn way_words(way: &Way) -> String {
    let (set, atom) = (&way.set, &way.atom);
    let line = match (way.places.as_slice(), set.as_str()) {
        ([], "selected") => format!("the world file alone: {atom}"),
        ([], _) => format!("@{set}: {atom}"),
        (places, "selected") => format!("{}: {atom}", places.join(", ")),
        (places, _) => format!("{}: {atom} of @{set}", places.join(", ")),
    };
    let mut text = format!("  {line}\n");
    for (depth, step) in (2..).zip(&way.packages) {
        text.push_str(&format!("{}{}\n", "  ".repeat(depth), step_words(step)));
    }
    text
}

fn step_words(step: &Step) -> String {
    let by = step.by.as_ref().map(|atom| format!("  as {atom}")).unwrap_or_default();
    let build = if step.only_to_build { ", only to build the one above" } else { "" };
    format!("{}{by}{build}", with_size(&step.package))
}

fn going_words(explained: &Explained) -> String {
    let size = human_bytes(explained.could_go_bytes);
    let going = &explained.could_go;
    if going.len() == 1 {
        return format!("  without it nothing else could go: {size}\n");
    }
    let mut text = format!("  without it {} could go, {size}:\n", count(going.len() as u64, "package"));
    let mut table = Table::new(&["    PACKAGE", ">SIZE"]);
    for package in going.iter().take(GOING_SHOWN) {
        let size = package.size_bytes.map_or_else(|| "unknown".to_owned(), human_bytes);
        table.row([format!("    {}", package.package), size]);
    }
    text.push_str(&table.render());
    if going.len() > GOING_SHOWN {
        text.push_str(&format!("    and {} more\n", going.len() - GOING_SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(package: &str, size_bytes: Option<u64>) -> Sized {
        Sized { package: package.to_owned(), size_bytes }
    }

    fn step(package: &str, by: Option<&str>, only_to_build: bool) -> Step {
        Step { package: sized(package, Some(2048)), by: by.map(str::to_owned), only_to_build }
    }

    fn way(set: &str, places: &[&str], packages: Vec<Step>) -> Way {
        let places = places.iter().map(|place| (*place).to_owned()).collect();
        Way { set: set.to_owned(), atom: "a/a".to_owned(), places, packages }
    }

    #[test]
    fn the_ways_in_words() {
        let explained = Explained {
            of: "stage4/web".to_owned(),
            state: "407a5c90314cded027f4a1c99334f7fd".parse().unwrap(),
            package: sized("c/c-1", None),
            ways: vec![
                way(
                    "selected",
                    &["stage4.defines/web/packages:3"],
                    vec![step("a/a-1", None, false), step("c/c-1", Some("c/c:0/1="), false)],
                ),
                way(
                    "selected",
                    &[],
                    vec![step("a/a-1", None, false), step("b/b-1", Some("b/b"), true), step("c/c-1", Some("c/c\u{1b}[2J"), false)],
                ),
                way("system", &["gentoo:profiles/base/packages:7"], vec![step("a/a-1", None, false)]),
                way("tools", &[], vec![step("a/a-1", None, false)]),
            ],
            more_ways: 3,
            could_go: vec![sized("d/d-1", Some(4096)), sized("c/c-1", None)],
            could_go_bytes: 4096,
            unread: vec!["RDEPEND of x/y-1: broken".to_owned()],
        };
        insta::assert_snapshot!(crate::cli::screen::Text::from(words(&explained)).as_str(), @r"
        c/c-1 (size unknown) in stage4/web
          stage4.defines/web/packages:3: a/a
            a/a-1 (2.0 KiB)
              c/c-1 (2.0 KiB)  as c/c:0/1=
          the world file alone: a/a
            a/a-1 (2.0 KiB)
              b/b-1 (2.0 KiB)  as b/b, only to build the one above
                c/c-1 (2.0 KiB)  as c/c\u{1b}[2J
          gentoo:profiles/base/packages:7: a/a of @system
            a/a-1 (2.0 KiB)
          @tools: a/a
            a/a-1 (2.0 KiB)
          and 3 further ways to it; `--json` has more of them
          without it 2 packages could go, 4.0 KiB:
            PACKAGE     SIZE
            d/d-1    4.0 KiB
            c/c-1    unknown
          cannot be read: RDEPEND of x/y-1: broken
        ");
        let alone = Explained {
            ways: vec![],
            more_ways: 0,
            could_go: vec![sized("c/c-1", Some(1))],
            could_go_bytes: 1,
            unread: vec![],
            ..explained
        };
        insta::assert_snapshot!(words(&alone), @r"
        c/c-1 (size unknown) in stage4/web
          nothing needs it: `emerge --depclean` would remove it
          without it nothing else could go: 1 B
        ");
    }
}
