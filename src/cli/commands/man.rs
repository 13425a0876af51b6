//! `gentoomuch man DIR`
//!
//! A page for each command is made from its help, with sections that several pages share: those are the book's own pages. The page
//! gentoomuch-config(5) is the book's reference of the configuration directory.

mod markdown;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use clap::CommandFactory as _;
use clap_mangen::Man;

use super::Outcome;
use crate::cli::Cli;
use crate::cli::invocation::Invocation;
use crate::cli::report::{Failure, Kind};
use crate::cli::screen::{Shown as _, Text};

/// Write the man pages of all commands and of the configuration
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  gentoomuch man ~/.local/share/man")]
pub(crate) struct Args {
    /// Where to write; `man1` and `man5` are created in it if needed
    dir: PathBuf,
}

const EXIT_CODES: &str = include_str!("../../../docs/src/reference/exit-codes.md");
const PLACES: &str = include_str!("../../../docs/src/reference/places.md");
const ENVIRONMENT: &str = include_str!("../../../docs/src/reference/environment.md");

/// No hyphenation and no wide gaps: a broken option or name is another one when it is copied.
const UNBROKEN: &str = ".nh\n.ad l\n";

/// A page of the book, by its name there.
macro_rules! configuration {
    ($($name:literal)*) => {
        [$(($name, include_str!(concat!("../../../docs/src/reference/configuration/", $name)))),*]
    };
}

/// What gentoomuch-config(5) is made of, in the order of the book.
const CONFIGURATION: [(&str, &str); 15] = configuration!(
    "index.md" "env.md" "repositories.md" "keys.md" "fragments.md" "binary-packages.md" "package-sets.md" "stage3-defines.md"
    "stage4-defines.md" "kernel-configs.md" "user-scripts.md" "user-patches.md" "hooks.md" "checks.md" "older-layouts.md"
);

/// Writes `man1/gentoomuch.1`, `man1/gentoomuch-bootstrap.1`, …, `man5/gentoomuch-config.5` and prints each path.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let dir = invocation.path(&args.dir);
    let written = write(&dir)
        .map_err(|error| Failure::new(Kind::Other, error).about(format!("cannot write man pages to `{}`", dir.shown())))?;
    let line = |path: &PathBuf| Text::line(&path.shown()).words("\n");
    crate::cli::table::print(written.iter().map(line).collect::<Text>())?;
    Ok(ExitCode::SUCCESS)
}

fn write(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut pages = pages()?;
    pages.push(("man5/gentoomuch-config.5".to_owned(), configuration_page()));
    pages.sort();
    let mut written = Vec::new();
    for (name, text) in pages {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap_or(dir))?;
        fs::write(&path, text)?;
        written.push(path);
    }
    Ok(written)
}

/// The pages of all commands, by their path below the directory of man pages.
fn pages() -> io::Result<Vec<(String, String)>> {
    let mut top = Cli::command().flatten_help(false).disable_help_subcommand(true);
    top.build();
    let (mut pages, mut left) = (Vec::new(), vec![(None, top)]);
    while let Some((above, command)) = left.pop() {
        let name = page_name(&command);
        pages.push((format!("man1/{name}.1"), command_page(&command, above.as_deref())?));
        left.extend(visible(&command).map(|below| (Some(name.clone()), below.clone())));
    }
    Ok(pages)
}

/// What a command's page is called: `gentoomuch-stage-build`.
fn page_name(command: &clap::Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
}

/// One page; `above` is that of the command that this one belongs to.
fn command_page(command: &clap::Command, above: Option<&str>) -> io::Result<String> {
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    page.extend_from_slice(UNBROKEN.as_bytes());
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    page.extend_from_slice(further_sections(command, above).as_bytes());
    if command.get_version().is_some() {
        man.render_version_section(&mut page)?;
    }
    String::from_utf8(page).map_err(io::Error::other)
}

/// What clap does not know: gentoomuch(1) has all of it, the others what they need most.
fn further_sections(command: &clap::Command, above: Option<&str>) -> String {
    let is_top = above.is_none();
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let AfterHelp { examples, exit_codes, notes } = AfterHelp::of(&after);
    let notes: String = notes.into_iter().map(markdown::paragraph).collect();
    // The help of the top has the codes in short. Here is the table.
    let own_codes = exit_codes.filter(|_| !is_top).map(markdown::paragraph).unwrap_or_default();
    let mut files = markdown::roff(part(PLACES, None));
    let mut environment = markdown::roff(part(ENVIRONMENT, Some("Variables that gentoomuch reads")));
    if is_top {
        for heading in ["In the data directory", "In the cache directory", "Deleting"] {
            files += &below(PLACES, heading);
        }
        environment += &below(ENVIRONMENT, "Variables in a session");
    }
    let mut others: Vec<(String, u8)> = above.map(|name| (name.to_owned(), 1)).into_iter().collect();
    others.extend(visible(command).map(|below| (page_name(below), 1)));
    [
        section("EXAMPLES", &markdown::literal(&examples)),
        section("NOTES", &notes),
        section("EXIT STATUS", &(own_codes + &markdown::roff(part(EXIT_CODES, None)))),
        section("FILES", &files),
        section("ENVIRONMENT", &environment),
        see_also(others, is_top),
    ]
    .concat()
}

fn visible(command: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    command.get_subcommands().filter(|below| !below.is_hide_set())
}

/// What stands below the options in a help text.
#[derive(Debug, PartialEq, Eq)]
struct AfterHelp<'t> {
    examples: Vec<&'t str>,
    /// What the codes mean that this command gives a meaning of its own.
    exit_codes: Option<&'t str>,
    notes: Vec<&'t str>,
}

impl<'t> AfterHelp<'t> {
    fn of(text: &'t str) -> Self {
        let (mut examples, mut exit_codes, mut notes) = (Vec::new(), None, Vec::new());
        for paragraph in text.split("\n\n") {
            if paragraph.starts_with("Exit codes: ") {
                exit_codes = Some(paragraph);
            } else if paragraph.starts_with("Example") {
                examples.extend(paragraph.lines().skip(1).map(|line| line.strip_prefix("  ").unwrap_or(line)));
            } else if !paragraph.trim().is_empty() {
                notes.push(paragraph);
            }
        }
        Self { examples, exit_codes, notes }
    }
}

/// A part of a page of the book with its heading.
fn below(page: &str, heading: &str) -> String {
    format!(".SS \"{}\"\n{}", markdown::title(heading), markdown::roff(part(page, Some(heading))))
}

fn section(title: &str, body: &str) -> String {
    if body.is_empty() { String::new() } else { format!(".SH \"{title}\"\n{body}") }
}

/// Other pages worth reading, each once: what a command belongs to may be the top itself.
fn see_also(mut pages: Vec<(String, u8)>, is_top: bool) -> String {
    if !is_top {
        pages.push(("gentoomuch".to_owned(), 1));
    }
    pages.push(("gentoomuch-config".to_owned(), 5));
    if is_top {
        pages.extend([("emerge".to_owned(), 1), ("portage".to_owned(), 5), ("make.conf".to_owned(), 5)]);
    }
    let mut named: Vec<String> = Vec::new();
    for (name, number) in &pages {
        let words = markdown::inline(&format!("`{name}`({number})"));
        if !named.contains(&words) {
            named.push(words);
        }
    }
    section("SEE ALSO", &(named.join(",\n") + "\n"))
}

/// A part of a page of the book: what stands under a heading of the second level, or before the first.
fn part<'t>(page: &'t str, heading: Option<&str>) -> &'t str {
    let begin = match heading {
        None => page.find('\n'),
        Some(heading) => page.find(&format!("\n## {heading}\n")).map(|at| at + heading.len() + 4),
    };
    let text = begin.map_or("", |at| &page[at..]);
    text.find("\n## ").map_or(text, |end| &text[..end])
}

fn configuration_page() -> String {
    let mut page = format!(
        ".TH gentoomuch\\-config 5 \"\" \"gentoomuch {}\" \"\"\n{UNBROKEN}.SH NAME\n\
         gentoomuch\\-config \\- the configuration directory that decides what gentoomuch builds\n",
        env!("CARGO_PKG_VERSION")
    );
    for (number, (_, text)) in CONFIGURATION.iter().enumerate() {
        let title = text.lines().next().unwrap_or_default().trim_start_matches("# ");
        // Where a reader of man pages begins.
        let title = if number == 0 { "DESCRIPTION".to_owned() } else { markdown::title(&title.to_uppercase()) };
        page += &format!(".SH \"{title}\"\n{}", markdown::roff(text.split_once('\n').map_or("", |(_, rest)| rest)));
    }
    page + &section("FILES", &markdown::roff(part(PLACES, None))) + &see_also(vec![("gentoomuch-init".to_owned(), 1)], false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_of_the_configuration_is_in_the_man_page_in_the_order_of_the_book() {
        let summary = include_str!("../../../docs/src/SUMMARY.md");
        let named: Vec<&str> =
            summary.split("](reference/configuration/").skip(1).map(|rest| rest.split(')').next().unwrap_or_default()).collect();
        assert_eq!(named, CONFIGURATION.map(|(name, _)| name));
    }

    #[test]
    fn the_exit_codes_of_the_book_are_those_of_the_program() {
        let kinds = [
            Kind::Other,
            Kind::Usage,
            Kind::Config,
            Kind::Verification,
            Kind::Host,
            Kind::Emerge,
            Kind::Signing,
            Kind::ChangeNeeded,
            Kind::AroundCommand,
            Kind::NotExecutable,
            Kind::NoCommand,
            Kind::Interrupted,
        ];
        // A new kind does not compile here before it is known above.
        for kind in kinds {
            match kind {
                Kind::Other
                | Kind::Usage
                | Kind::Config
                | Kind::Verification
                | Kind::Host
                | Kind::Emerge
                | Kind::Signing
                | Kind::ChangeNeeded
                | Kind::AroundCommand
                | Kind::NotExecutable
                | Kind::NoCommand
                | Kind::Interrupted => {}
            }
        }
        // Success has no kind, and a bug ends the program by itself (`report::install_panic_hook`).
        let mut codes: Vec<u8> = kinds.map(Kind::code).into_iter().chain([0, 70]).collect();
        codes.sort_unstable();
        let told: Vec<u8> =
            EXIT_CODES.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok()).collect();
        assert_eq!(told, codes);
    }

    #[test]
    fn parts_of_a_page_are_found() {
        let page = "# A\n\nfirst\n\n## B\n\nsecond\n\n## C\n\nthird\n";
        assert_eq!(part(page, None).trim(), "first");
        assert_eq!(part(page, Some("B")).trim(), "second");
        assert_eq!(part(page, Some("C")).trim(), "third");
        for (text, heading) in [
            (PLACES, "In the data directory"),
            (PLACES, "In the cache directory"),
            (PLACES, "Deleting"),
            (ENVIRONMENT, "Variables that gentoomuch reads"),
            (ENVIRONMENT, "Variables in a session"),
        ] {
            assert!(!part(text, Some(heading)).trim().is_empty(), "{heading}");
        }
    }

    #[test]
    fn what_stands_below_the_options_is_told_apart() {
        let after = AfterHelp::of("Examples:\n  a\n  b c\n\nExit codes: 0 fine,\n1 not.\n\nSizes are large.");
        assert_eq!(after.examples, ["a", "b c"]);
        assert_eq!(after.exit_codes, Some("Exit codes: 0 fine,\n1 not."));
        assert_eq!(after.notes, ["Sizes are large."]);
    }
}
