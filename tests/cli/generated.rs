//! Man pages.

use std::fs;
use std::process::{Command, Output};

use crate::help::COMMANDS;
use crate::program::Home;

/// Runs a checker; `None`, said aloud, where it is not installed.
#[expect(clippy::print_stderr, reason = "a skipped check says so")]
fn checker(program: &str, args: &[&str]) -> Option<Output> {
    match Command::new(program).args(args).env("LC_ALL", "C.UTF-8").output() {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("skipped: {program}: {error}");
            None
        }
    }
}

#[test]
fn man_pages_are_complete_and_clean() {
    let home = Home::empty();
    let output = home.run(&["man", "pages"]);
    assert!(output.status.success(), "{output:?}");
    let written: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    let commands: Vec<String> =
        COMMANDS.iter().map(|command| format!("man1/{}.1", format!("gentoomuch {command}").trim_end().replace(' ', "-"))).collect();
    for name in commands.iter().map(String::as_str).chain(["man5/gentoomuch-config.5"]) {
        let page = home.path().join("pages").join(name);
        assert!(written.contains(&page.display().to_string()), "{name} is not in {written:?}");
        let text = fs::read_to_string(&page).unwrap();
        let sections: &[&str] = match name {
            "man5/gentoomuch-config.5" => &["NAME", "DESCRIPTION", "STAGE4.DEFINES", "HOOKS", "FILES", "SEE ALSO"],
            _ => &["NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "EXIT STATUS", "FILES", "ENVIRONMENT", "SEE ALSO"],
        };
        for section in sections {
            let heading = |line: &str| line.strip_prefix(".SH ").is_some_and(|title| title.trim_matches('"') == *section);
            assert_eq!(text.lines().filter(|line| heading(line)).count(), 1, "{name} has no section {section}, or several");
        }
        let path = page.to_str().unwrap();
        if let Some(checked) = checker("man", &["--warnings", "-E", "UTF-8", "-l", path]) {
            assert!(checked.stderr.is_empty(), "{name}: {}", String::from_utf8_lossy(&checked.stderr));
        }
        if let Some(checked) = checker("mandoc", &["-Tlint", "-Werror", path]) {
            assert!(checked.status.success(), "{name}: {}", String::from_utf8_lossy(&checked.stdout));
        }
    }
    assert_eq!(written.len(), COMMANDS.len() + 1, "{written:?}");
    // Twice is as good as once.
    assert!(home.run(&["man", "pages"]).status.success());
}
