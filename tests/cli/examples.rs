//! The examples of all documents, run as they stand there.
//!
//! ````text
//! ```example                          begins with an empty configuration directory
//! ==> portage.global/make.conf <==    a file of it, by its path in the directory
//! USE="ipv6"
//!
//! $ gentoomuch config show web        run there
//! …                                   what it prints, to the next `$` or `==>`; `[exit 3]` where that is not 0
//! ```
//!
//! ```example, continued               goes on with the directory of the one before
//! ````
//!
//! An empty line before `==>`, `$` or the end belongs to nobody. After an intended change of words, `INSTA_UPDATE=always cargo test
//! --test cli` writes what the program says now into the document.

use std::fs;

use crate::documents::documents;
use crate::program::{Home, repository};

enum Part {
    File { path: String, text: String },
    Run { args: String, output: String },
}

/// The parts of one example.
fn parts(lines: &[&str]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for line in lines {
        let file = line.strip_prefix("==> ").and_then(|rest| rest.strip_suffix(" <==")).filter(|path| !path.starts_with('/'));
        if let Some(path) = file {
            parts.push(Part::File { path: path.to_owned(), text: String::new() });
        } else if let Some(args) = line.strip_prefix("$ gentoomuch ") {
            parts.push(Part::Run { args: args.to_owned(), output: String::new() });
        } else {
            let (Part::File { text, .. } | Part::Run { output: text, .. }) =
                parts.last_mut().unwrap_or_else(|| panic!("an example begins with {line:?}"));
            text.push_str(line);
            text.push('\n');
        }
    }
    for part in &mut parts {
        let (Part::File { text, .. } | Part::Run { output: text, .. }) = part;
        text.truncate(text.trim_end_matches('\n').len());
        text.push_str(if text.is_empty() { "" } else { "\n" });
    }
    parts
}

/// Runs one example and returns it with what the program said.
fn run(home: &Home, parts: &[Part]) -> String {
    let mut text = String::new();
    for part in parts {
        if !text.is_empty() {
            text.push('\n');
        }
        match part {
            Part::File { path, text: contents } => {
                let file = home.config().join(path);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, contents).unwrap();
                text.push_str(&format!("==> {path} <==\n{contents}"));
            }
            Part::Run { args, .. } => {
                let output = home.program().args(args.split(' ')).current_dir(home.config()).output().unwrap();
                let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
                text.push_str(&format!("$ gentoomuch {args}\n"));
                said.lines().for_each(|line| text.push_str(&format!("{}\n", line.trim_end())));
                if !output.status.success() {
                    text.push_str(&format!("[exit {}]\n", output.status.code().unwrap()));
                }
            }
        }
    }
    text
}

#[test]
fn every_example_of_the_documents_is_true() {
    let examples: usize = documents().iter().map(|name| check(name)).sum();
    assert!(examples >= 25, "only {examples} examples found: is the search still right?");
}

/// Runs the examples of a document; how many there are.
fn check(name: &str) -> usize {
    let path = repository().join(name);
    let document = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = document.lines().collect();
    let mut now = String::new();
    let (mut at, mut examples, mut commands) = (0, 0, 0);
    let mut home = Home::empty();
    while at < lines.len() {
        now.push_str(lines[at]);
        now.push('\n');
        at += 1;
        let Some(kind) = lines[at - 1].strip_prefix("```example") else { continue };
        let end = at + lines[at..].iter().position(|line| *line == "```").expect("closed");
        let parts = parts(&lines[at..end]);
        if kind != ", continued" {
            assert_eq!(kind, "", "{name}:{at}");
            home = Home::empty();
        }
        examples += 1;
        commands += parts.iter().filter(|part| matches!(part, Part::Run { .. })).count();
        now.push_str(&run(&home, &parts));
        at = end;
    }
    assert!(commands >= examples, "{name}: {examples} examples with {commands} commands");
    if now != document && std::env::var_os("INSTA_UPDATE").is_some_and(|value| value == "always") {
        fs::write(&path, &now).unwrap();
        return examples;
    }
    for (number, (is, was)) in now.lines().zip(document.lines()).enumerate() {
        assert_eq!(was, is, "{name}:{}: left is what the document says, right what is true", number + 1);
    }
    assert_eq!(now.lines().count(), document.lines().count(), "{name}");
    examples
}
