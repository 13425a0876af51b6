//! Standard output is for results, standard error for everything else; JSON, colour and closed pipes.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::program::Home;

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)))
}

/// A key of our own making is not at hand without gpg; a fingerprint is enough here.
const FINGERPRINT: &str = "0123456789ABCDEF0123456789ABCDEF01234567";

#[test]
fn results_as_json() {
    let home = Home::with_shipped_config();
    let list = json(&home.run(&["keys", "ls", "--json"]).stdout);
    assert!(list.as_array().unwrap().iter().any(|key| key["fingerprint"] == "13EBBDBEDE7A12775DFDB1BABB572E0E2D182910"), "{list}");
    let trusted = json(&home.run(&["keys", "trust", FINGERPRINT, "--comment", "ours", "--json"]).stdout);
    assert_eq!(trusted[0]["change"], "trusted");
    assert_eq!(trusted[0]["fingerprint"], FINGERPRINT);
    assert_eq!(json(&home.run(&["keys", "trust", FINGERPRINT, "--json"]).stdout), serde_json::json!([]));
    assert_eq!(json(&home.run(&["keys", "rm", FINGERPRINT, "--json"]).stdout)[0]["change"], "distrusted");
    // Whatever this host allows, the report is one.
    let report = json(&home.run(&["doctor", "--json"]).stdout);
    assert!(report["ready"].is_boolean(), "{report}");
    for check in report["checks"].as_array().unwrap() {
        assert!(["ok", "warning", "failed", "not-tried"].contains(&check["status"].as_str().unwrap()), "{check}");
        assert_eq!(check["remedy"].is_null(), ["ok", "not-tried"].contains(&check["status"].as_str().unwrap()), "{check}");
    }
    let rungs: Vec<&str> = report["rungs"].as_array().unwrap().iter().map(|rung| rung["rung"].as_str().unwrap()).collect();
    assert_eq!(rungs, ["subordinate-ids", "own-ids", "shared-proc"]);
    // Also where it cannot even find its directories.
    let output = home.program().env_remove("HOME").args(["doctor", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let report = json(&output.stdout);
    assert_eq!((&report["ready"], &report["checks"][0]["name"]), (&false.into(), &"directories".into()), "{report}");
}

#[test]
fn failures_as_json() {
    let home = Home::empty();
    let output = home.run(&["stage", "build", "web", "--log-format", "json"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(output.stdout.is_empty());
    let failure = json(&output.stderr);
    assert_eq!(failure["kind"], "error");
    assert_eq!(failure["exit_code"], 3);
    assert!(failure["message"].as_str().unwrap().contains("/.config/gentoomuch"), "{failure}");
    assert!(!failure["hints"].as_array().unwrap().is_empty(), "{failure}");
}

#[test]
fn nothing_but_results_on_standard_output() {
    let home = Home::with_shipped_config();
    fs::write(home.path().join("stage3.tar.xz"), vec![0; 4 << 20]).unwrap();
    let output = home.run(&["stage3", "verify", "stage3.tar.xz", "--json", "-vv"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(output.stdout.is_empty(), "{output:?}");
    // Quiet means that only the failure is told.
    let quiet = home.run(&["--quiet", "stage3", "verify", "stage3.tar.xz"]);
    assert!(String::from_utf8(quiet.stderr).unwrap().starts_with("error: "));
}

#[test]
fn colour_where_it_is_wanted() {
    let home = Home::empty();
    let escapes = |args: &[&str], variable: Option<(&str, &str)>| {
        let mut program = home.program();
        program.args(args).envs(variable);
        let output = program.output().unwrap();
        [output.stdout, output.stderr].concat().contains(&0x1b)
    };
    let build = ["stage", "build", "web"];
    assert!(!escapes(&build, None), "a pipe gets no colour");
    assert!(escapes(&["--color", "always", "stage", "build", "web"], None));
    assert!(!escapes(&["--color", "never", "stage", "build", "web"], None));
    assert!(escapes(&["--color", "always", "stage", "build", "web"], Some(("NO_COLOR", "1"))), "an option beats a variable");
}

/// What a command prints on a terminal, made by script(1); `None` where that is not installed.
fn on_a_terminal(home: &Home, command: &str, variable: Option<(&str, &str)>) -> Option<Vec<u8>> {
    let program = env!("CARGO_BIN_EXE_gentoomuch");
    let output = std::process::Command::new("script")
        .args(["--quiet", "--return", "--command", &format!("{program} {command}"), "/dev/null"])
        .env_clear()
        .envs([("HOME", home.path().to_str()?), ("PATH", "/usr/bin:/bin"), ("TERM", "xterm"), ("SHELL", "/bin/sh")])
        .envs(variable)
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) => Some(output.stdout),
        Err(error) => {
            let strict = std::env::var_os("GENTOOMUCH_TEST_STRICT").is_some_and(|value| value == "1");
            assert!(!strict, "script: {error}");
            None
        }
    }
}

#[test]
fn colour_on_a_terminal_unless_no_color() {
    let home = Home::empty();
    let Some(coloured) = on_a_terminal(&home, "stage build web", None) else { return };
    assert!(coloured.contains(&0x1b), "{}", String::from_utf8_lossy(&coloured));
    let plain = on_a_terminal(&home, "stage build web", Some(("NO_COLOR", "1"))).unwrap();
    assert!(!plain.contains(&0x1b), "{}", String::from_utf8_lossy(&plain));
    let empty = on_a_terminal(&home, "stage build web", Some(("NO_COLOR", ""))).unwrap();
    assert!(empty.contains(&0x1b), "an empty NO_COLOR is none");
    for term in ["dumb", ""] {
        let plain = on_a_terminal(&home, "stage build web", Some(("TERM", term))).unwrap();
        assert!(!plain.contains(&0x1b), "{term:?}: {}", String::from_utf8_lossy(&plain));
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let home = Home::with_shipped_config();
    for args in [&["completions", "bash"][..], &["keys", "ls"], &["keys", "ls", "--json"], &["--help"], &["doctor"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = home.program().args(args).stdout(Stdio::from(writer)).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{args:?}: {output:?}");
    }
}

#[test]
fn a_full_disk_is_one() {
    let home = Home::with_shipped_config();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = home.program().args(["keys", "ls"]).stdout(Stdio::from(full)).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("No space left"));
}
