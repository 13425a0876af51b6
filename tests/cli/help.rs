//! `--help` of every command: one file each in `tests/cli/help/`, and each with an example.

use crate::program::Home;

/// Every command, in the order of `gentoomuch --help`.
pub(crate) const COMMANDS: &[&str] = &[
    "",
    "doctor",
    "init",
    "config",
    "config check",
    "config show",
    "config explain",
    "config diff",
    "config graph",
    "keys",
    "keys ls",
    "keys fetch",
    "keys import",
    "keys rm",
    "keys trust",
    "sync",
    "tree",
    "tree ls",
    "tree diff",
    "tree rm",
    "stage3",
    "stage3 ls",
    "stage3 fetch",
    "stage3 verify",
    "bootstrap",
    "profile",
    "profile ls",
    "profile set",
    "profile show",
    "profile update",
    "profile rollback",
    "profile rename",
    "profile rm",
    "resolve",
    "try",
    "patch",
    "patch prep",
    "patch try",
    "patch shell",
    "patch save",
    "patch compile",
    "patch refresh",
    "patch ls",
    "patch show",
    "patch rm",
    "kernel",
    "kernel prep",
    "kernel build",
    "kernel update",
    "kernel diff",
    "kernel ls",
    "freshroot",
    "shell",
    "cp",
    "stage",
    "stage build",
    "stage ls",
    "stage show",
    "stage rm",
    "pipeline",
    "pipeline plan",
    "pipeline node",
    "pipeline attach",
    "export",
    "report",
    "logs",
    "log",
    "diff",
    "why",
    "audit",
    "rollback",
    "tag",
    "tag ls",
    "tag rm",
    "rm",
    "store",
    "store ls",
    "store show",
    "store du",
    "store seal",
    "store verify",
    "remote",
    "remote ls",
    "remote push",
    "remote pull",
    "remote rm",
    "remote gc",
    "binhost",
    "binhost export",
    "clean",
    "completions",
    "man",
];

fn help(command: &str) -> String {
    let home = Home::empty();
    let output = home.run(&command.split_whitespace().chain(["--help"]).collect::<Vec<_>>());
    assert!(output.status.success(), "{command}: {output:?}");
    assert!(output.stderr.is_empty(), "{command}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that a help text lists, `help` aside.
fn listed(help: &str) -> Vec<String> {
    let Some((_, commands)) = help.split_once("\nCommands:\n") else { return Vec::new() };
    commands
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .filter(|name| name != "help")
        .collect()
}

#[test]
fn every_command_explains_itself_with_an_example() {
    insta::with_settings!({ snapshot_path => "help", prepend_module_to_snapshot => false, omit_expression => true }, {
        for command in COMMANDS {
            let text = help(command);
            let name = format!("gentoomuch {command}").trim_end().replace(' ', "-");
            assert!(text.contains("Example"), "`{command} --help` has no example");
            assert!(text.lines().all(|line| line.chars().count() <= 100), "`{command} --help` is wider than 100 columns");
            assert!(text.lines().all(|line| line.trim_end() == line || line.trim().is_empty()), "`{command} --help` has trailing blanks");
            insta::assert_snapshot!(name, text);
        }
    });
}

#[test]
fn the_list_above_is_complete() {
    let mut found = vec![String::new()];
    let mut next = 0;
    while let Some(command) = found.get(next).cloned() {
        let below = listed(&help(&command)).into_iter().map(|name| format!("{command} {name}").trim_start().to_owned());
        found.splice((next + 1)..=next, below);
        next += 1;
    }
    assert_eq!(found, COMMANDS);
}

#[test]
fn each_command_is_listed_in_one_line() {
    for command in COMMANDS.iter().filter(|command| !command.contains(' ')) {
        for name in listed(&help(command)) {
            let line = help(command).lines().find(|line| line.trim_start().starts_with(&format!("{name} "))).unwrap().to_owned();
            assert!(line.len() <= 80, "{line}");
            assert!(line.split_whitespace().nth(1).is_some_and(|word| word.starts_with(char::is_uppercase)), "{line}");
        }
    }
}

#[test]
fn short_and_long_help_and_none_at_all() {
    let home = Home::empty();
    let short = home.run(&["stage", "build", "-h"]);
    assert!(short.status.success() && short.stdout.len() < help("stage build").len());
    // `pipeline` alone is a command, too.
    for command in COMMANDS.iter().filter(|command| **command != "pipeline" && !listed(&help(command)).is_empty()) {
        let output = home.run(&command.split_whitespace().collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(2), "{command}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("\nCommands:\n") && text.contains("Example"), "{command}: {text}");
    }
}

#[test]
fn exit_codes_are_documented_where_people_look() {
    let text = help("").split_whitespace().collect::<Vec<_>>().join(" ");
    let page = std::fs::read_to_string(crate::program::repository().join("docs/src/reference/exit-codes.md")).unwrap();
    for code in ["0", "1", "2", "3", "4", "5", "6", "70", "125", "130"] {
        assert!(text.contains(&format!(" {code} ")), "{code} is not in `--help`");
        assert!(page.contains(&format!("| {code} |")), "{code} is not in the book");
    }
}
