//! Every command that a document, a help text or a hint shows is one that this program takes.

use std::fs;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};

use crate::cli::Cli;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Splits a line as a shell would: quotes, comments; what is redirected or piped on ends it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for character in line.chars() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '#') if word.is_none() => break,
            (None, '>' | '|' | '&' | ';') => break,
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

/// README and its like, and every page of the book.
fn documents() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "config/README.md",
        "tests/testbed/README.md",
        "rootfs-hooks/README.md",
    ]
    .map(|name| repository().join(name))
    .into();
    let mut directories = vec![repository().join("docs/src")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found
}

fn assert_taken(line: &str, place: &str) {
    if let Err(error) = Cli::try_parse_from(words(line)) {
        panic!("{place} shows `{line}`, which is refused:\n{error}");
    }
}

/// Commands in fenced blocks: after a prompt in `console` ones, at the beginning of a line in `sh` ones.
fn in_blocks(text: &str) -> Vec<String> {
    let (mut found, mut language) = (Vec::new(), None);
    for line in text.lines() {
        if let Some(fence) = line.trim_start().strip_prefix("```") {
            language = if language.is_some() { None } else { Some(fence.trim()) };
            continue;
        }
        let command = match language {
            Some("console") => line.strip_prefix("$ "),
            Some("sh") => Some(line),
            _ => None,
        };
        found.extend(command.filter(|command| command.starts_with("gentoomuch ")).map(str::to_owned));
    }
    found
}

/// Commands in `code` within a line, which may have placeholders in capitals.
fn in_spans(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("```"))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|span| span.starts_with("gentoomuch ") && !span.contains(['{', '…']))
        .collect()
}

/// A span may be incomplete, and hold placeholders, but no word in it may be unknown.
fn assert_known(span: &str, place: &str) {
    let Err(error) = Cli::try_parse_from(words(span)) else { return };
    let fine = match error.kind() {
        ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand
        | ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => true,
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            words(span).iter().any(|word| word.chars().all(|letter| letter.is_ascii_uppercase()))
        }
        _ => false,
    };
    assert!(fine, "{place} names `{span}`, which is refused:\n{error}");
}

#[test]
fn documents_show_commands_that_exist() {
    let mut shown = 0;
    for document in documents() {
        let (text, document) = (read(&document), document.display().to_string());
        for line in in_blocks(&text) {
            assert_taken(&line, &document);
            shown += 1;
        }
        for span in in_spans(&text) {
            assert_known(span, &document);
            shown += 1;
        }
    }
    assert!(shown > 150, "only {shown} commands found: is the search still right?");
}

fn examples(command: &clap::Command, found: &mut Vec<(String, String)>) {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let own = text.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| line.starts_with("gentoomuch "));
    found.extend(own.map(|line| (command.get_name().to_owned(), line.to_owned())));
    for below in command.get_subcommands() {
        examples(below, found);
    }
}

#[test]
fn examples_in_help_are_taken() {
    let mut found = Vec::new();
    examples(&Cli::command(), &mut found);
    assert!(found.len() > 25, "only {} examples found: is the search still right?", found.len());
    for (command, line) in found {
        assert_taken(&line, &format!("`{command} --help`"));
    }
}

#[test]
fn hints_name_commands_that_exist() {
    let mut directories = vec![repository().join("src")];
    let mut found = 0;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !["shown.rs", "tests.rs"].iter().any(|name| path.ends_with(name))
            {
                // A backslash at the end of a line goes on with the same string literal.
                let text = read(&path).split("\\\n").map(str::trim_start).collect::<String>();
                for span in in_spans(&text) {
                    // A module's title may describe a whole family: `gentoomuch store ls|show|du`.
                    if !span.contains(['|', '[', '*']) {
                        assert_known(span, &path.display().to_string());
                        found += 1;
                    }
                }
            }
        }
    }
    assert!(found > 20, "only {found} commands found: is the search still right?");
}

/// Letter and name of each option in the table of `docs/src/reference/options.md`; an option may have no letter.
fn table_of_options() -> Vec<(Option<char>, String)> {
    let text = read(&repository().join("docs/src/reference/options.md"));
    let rows = text.lines().filter(|line| line.starts_with('|')).skip(2);
    let cell = |row: &str, at: usize| row.split('|').nth(at).unwrap().trim().trim_matches('`').trim_start_matches('-').to_owned();
    rows.map(|row| (cell(row, 1).chars().next(), cell(row, 2))).collect()
}

fn assert_options(command: &clap::Command, table: &[(Option<char>, String)]) {
    for option in command.get_arguments() {
        let Some(name) = option.get_long() else { continue };
        let row = table.iter().find(|(letter, long)| long == name || letter.is_some() && *letter == option.get_short());
        let Some((letter, long)) = row else {
            assert_eq!(option.get_short(), None, "`{} --{name}` has a letter that is not in the table", command.get_name());
            continue;
        };
        assert_eq!((long.as_str(), *letter), (name, option.get_short()), "of `{}`", command.get_name());
    }
    // What `help` takes are clap's own copies.
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        assert_options(below, table);
        let other = [("ls", "list"), ("rm", "remove")].into_iter().find(|(name, _)| *name == below.get_name());
        let names: Vec<&str> = below.get_all_aliases().collect();
        assert!(other.is_none_or(|(_, alias)| names.contains(&alias)), "`{} {}`", command.get_name(), below.get_name());
    }
}

#[test]
fn options_have_the_same_letter_everywhere() {
    let table = table_of_options();
    assert!(table.len() > 10, "{table:?}");
    let mut program = Cli::command();
    program.build();
    assert_options(&program, &table);
}

#[test]
fn the_grammar_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn words_are_those_of_a_shell() {
    assert_eq!(words("a 'b c' \"d  e\" f'g h'i  # j"), ["a", "b c", "d  e", "fg hi"]);
    assert_eq!(words("a '' b > c"), ["a", "", "b"]);
    assert_eq!(
        in_blocks("```console\n$ gentoomuch x\noutput\n```\n```sh\ngentoomuch y\n```\ngentoomuch z\n"),
        ["gentoomuch x", "gentoomuch y"]
    );
}
