//! What is read of Portage's answers, and of those of somebody who means harm.

use super::*;
use crate::query::audit::{Affected, Audit, Status};
use crate::query::fulfilled::{self, Fulfilled, Item, Unmet};
use crate::query::keys::Keys;
use crate::query::names::{Named, Problem, Unknown};
use crate::query::toolset::Toolset;
use crate::query::versions::{Ebuild, NotVisible, Rehearsal, Version};
use crate::query::why::{Built, Why};

fn read<Q: Question>(text: &str, count: usize) -> Result<Vec<Q::Answer>, String> {
    answers::<Q>(text.as_bytes(), count).map_err(|error| error.to_string())
}

/// The answer to one question.
fn one<Q: Question>(json: &str) -> Q::Answer {
    read::<Q>(&format!("!!! Portage says something\n@gentoomuch {json}\n@gentoomuch-done 1\n"), 1).unwrap().pop().unwrap()
}

#[test]
fn a_request_is_a_list_of_kinds_and_their_fields() {
    let questions = [Named::Set { name: "a".to_owned() }, Named::GlobalFlag { flag: "b".to_owned(), on: true }];
    let request = request(&questions.iter().collect::<Vec<_>>()).unwrap();
    let expected = r#"[{"kind":"set","name":"a"},{"kind":"global-flag","flag":"b","on":true}]"#;
    assert_eq!(String::from_utf8(request).unwrap(), expected);
}

#[test]
fn each_question_has_one_answer_in_order() {
    let text = "noise\n@gentoomuch null\n * more\n@gentoomuch {\"problem\": \"no-set\"}\n@gentoomuch-done 2\n@gentoomuch ignored\n";
    let expected = Unknown { problem: Problem::NoSet, near: Vec::new(), details: Vec::new() };
    assert_eq!(read::<&Named>(text, 2).unwrap(), [None, Some(expected)]);
    assert_eq!(read::<&Named>("@gentoomuch-done 0\n", 0).unwrap(), []);
}

#[test]
fn what_a_terminal_obeys_is_made_visible() {
    let answer = one::<&Named>(r#"{"problem": "masked", "near": ["a\u001b[2Jb\nc"], "details": ["\u202ex"]}"#).unwrap();
    assert_eq!((answer.near, answer.details), (vec!["a\\u{1b}[2Jb\\nc".to_owned()], vec!["\\u{202e}x".to_owned()]));
    let long = one::<&Named>(&format!(r#"{{"problem": "masked", "near": ["{}"]}}"#, "x".repeat(5000))).unwrap();
    assert_eq!(long.near[0].len(), MAX_WORD_CHARS);
}

#[test]
fn questions_of_two_kinds_share_one_start() {
    let (first, then) = (Toolset { script: "/s".to_owned(), ccache: false }, [Named::Set { name: "a".to_owned() }]);
    let then: Vec<&Named> = then.iter().collect();
    let request = String::from_utf8(request_of_two(&first, &then).unwrap()).unwrap();
    let asked: serde_json::Value = serde_json::from_str(&request).unwrap();
    assert_eq!(asked, serde_json::json!([{"kind": "toolset", "script": "/s", "ccache": false}, {"kind": "set", "name": "a"}]));
    let read = |text: &str, count| answers_of_two::<Toolset, &Named>(text.as_bytes(), count).map_err(|error| error.to_string());
    let both = "noise\n@gentoomuch \"CHOST='x'\\n\"\n@gentoomuch null\n@gentoomuch-done 2\n";
    assert_eq!(read(both, 1).unwrap(), ("CHOST='x'\n".to_owned(), vec![None]));
    assert_eq!(read("@gentoomuch \"\"\n@gentoomuch-done 1\n", 0).unwrap(), (String::new(), Vec::new()));
    for (text, count, message) in [
        ("@gentoomuch null\n", 1, "line 1 of its output is not an answer"),
        ("@gentoomuch \"\"\n@gentoomuch \"\"\n", 1, "line 2 of its output is not an answer"),
        ("@gentoomuch \"\"\n@gentoomuch-done 1\n", 1, "its output ends after 1 answers to 2 questions"),
        ("@gentoomuch-done 0\n", 0, "its output ends after 0 answers to 1 questions"),
    ] {
        assert_eq!(read(text, count).unwrap_err(), message, "{text}");
    }
}

#[test]
fn each_kind_has_a_file_that_answers() {
    let (start, files) = (PROGRAM[0].1, &PROGRAM[1..]);
    for (name, text) in files.iter().filter(|(_, text)| text.contains("\nANSWERS = {")) {
        let answers = text.split_once("\nANSWERS = {").unwrap().1;
        let kinds: Vec<&str> = answers.split('"').skip(1).step_by(2).collect();
        let line = start.lines().find(|line| line.trim().starts_with(&format!("\"{}\": [", name.trim_end_matches(".py"))));
        let mut listed: Vec<&str> =
            line.unwrap_or_default().split_once('[').unwrap_or_default().1.split('"').skip(1).step_by(2).collect();
        listed.sort_unstable();
        let mut kinds = kinds;
        kinds.sort_unstable();
        assert_eq!(listed, kinds, "{name}");
    }
}

#[test]
fn what_is_no_answer_is_refused() {
    let no_answer = "line 1 of its output is not an answer";
    for (text, message) in [
        ("", "its output ends after 0 answers to 2 questions"),
        ("@gentoomuch null\n@gentoomuch null\n", "its output ends after 2 answers to 2 questions"),
        ("@gentoomuch null\n@gentoomuch-done 2\n", "its output ends after 1 answers to 2 questions"),
        ("@gentoomuch null\n@gentoomuch null\n@gentoomuch-done 3\n", "its output ends after 2 answers to 2 questions"),
        (
            "@gentoomuch null\n@gentoomuch null\n@gentoomuch null\n",
            "line 3 of its output is one answer too many: there were 2 questions",
        ),
        ("@gentoomuch {\"problem\": \"masked\", \"near\": [\"a", no_answer),
        ("@gentoomuch [", no_answer),
        ("@gentoomuch {\"problem\": \"strange\"}\n", no_answer),
        ("@gentoomuch {\"problem\": \"masked\", \"run\": \"rm\"}\n", no_answer),
        ("@gentoomuch {\"problem\": \"masked\", \"near\": [1]}\n", no_answer),
        ("\u{1b}[1m\n@gentoomuch \u{7f}{}\n", "line 2 of its output is not an answer"),
    ] {
        assert_eq!(read::<&Named>(text, 2).unwrap_err(), message, "{text}");
    }
}

#[test]
fn too_much_is_refused_unread() {
    let long = format!("x\n@gentoomuch \"{}\"\n", "x".repeat(1 << 20));
    let message = "line 2 of its output has 1048578 bytes, but an answer has at most 1048576";
    assert_eq!(read::<&Named>(&long, 1).unwrap_err(), message);
    let much = vec![b'\n'; usize::try_from(OUTPUT_LIMIT_BYTES).unwrap() + 1];
    assert_eq!(answers::<&Named>(&much, 1).unwrap_err().to_string(), "its output is longer than 64 MiB");
}

#[test]
fn a_version_is_found_or_why_not() {
    let found = r#"{"cpv": "a/b-1-r2", "repository": "r", "slot": "0", "ebuild": "/r/a/b/b-1-r2.ebuild"}"#;
    let taken = one::<Version<'_>>(&format!(r#"{{"found": {found}}}"#)).found("a/b").unwrap();
    assert_eq!((taken.cpv.as_str(), taken.slot.as_str(), taken.flags), ("a/b-1-r2", "0", None));
    let why = |json: &str| one::<Version<'_>>(&format!(r#"{{"missing": {json}}}"#)).found("a/b").unwrap_err();
    assert_eq!(why("{}").to_string(), "there is no package `a/b`");
    let NotVisible::NoPackage { near, .. } = why(r#"{"near": ["a/c\u0007"]}"#) else { panic!() };
    assert_eq!(near, ["a/c\\u{7}"]);
    assert_eq!(
        why(r#"{"versions": ["a/b-1"], "reasons": ["~amd64\u001b[2J keyword"]}"#).to_string(),
        "no version of `a/b` can be installed: a/b-1 is masked (~amd64\\u{1b}[2J keyword)"
    );
    for (no, json) in [
        ("a path", found.replace("a/b-1-r2\"", "../../etc\"")),
        ("a name", found.replace("a/b-1-r2\"", "a/b\"")),
        ("cut off", found.replace(", \"slot\": \"0\"", "")),
        ("more", found.replace("\"slot\"", "\"evil\": 1, \"slot\"")),
    ] {
        let text = format!("@gentoomuch {{\"found\": {json}}}\n@gentoomuch-done 1\n");
        assert_eq!(read::<Version<'_>>(&text, 1).unwrap_err(), "line 1 of its output is not an answer", "{no}");
    }
}

#[test]
fn what_ebuilds_say_is_read() {
    let json = r#"{"eapi": "8", "slot": "0/1", "src_uri": "http://a/b", "restrict": "", "files": ["b"]}"#;
    let facts = one::<Ebuild<'_>>(json).unwrap();
    assert_eq!((facts.eapi.as_str(), facts.slot.as_str(), facts.files), ("8", "0/1", vec!["b".to_owned()]));
    assert_eq!(one::<Ebuild<'_>>("null"), None);
    assert_eq!(one::<Rehearsal<'_>>("\"/var/log/a:b-1.log\"").to_str(), Some("/var/log/a:b-1.log"));
}

#[test]
fn what_is_not_as_it_was_asked_for_is_read() {
    let unmet = r#"[{"problem": "flags", "target": "a/b-1\u001b", "details": ["x\u0007"]}]"#;
    let item = r#"{"repository": "g\u001b", "name": "2026-01-01-x", "title": "a\u202eb"}"#;
    let told = one::<Fulfilled<'_>>(&format!(r#"{{"unmet": {unmet}, "news": [{item}], "pending_config": ["/etc/\u001b"]}}"#));
    let (repository, name, title) = ("g\\u{1b}".to_owned(), "2026-01-01-x".to_owned(), "a\\u{202e}b".to_owned());
    assert_eq!(told.news, [Item { repository, name, title }]);
    assert_eq!(told.pending_config, ["/etc/\\u{1b}"]);
    let (target, details) = ("a/b-1\\u{1b}".to_owned(), vec!["x\\u{7}".to_owned()]);
    assert_eq!(told.unmet, [Unmet { problem: fulfilled::Problem::Flags, target, details }]);
}

#[test]
fn what_packages_are_made_from_is_read_on_top_of_the_one_before() {
    let read = one::<Keys<'_>>(&format!(
        "[{}, {}]",
        r#"{"cpv": "a/b-1", "repository": "r\u001b", "parts": {"ebuild": "x"}, "env": {"CFLAGS": "-O2", "EXTRA": "1\u001b"}, "unset": [], "installed": true, "own_compiler": ""}"#,
        r#"{"cpv": "a/d-1", "repository": "r", "parts": {}, "env": {"CFLAGS": "-O0"}, "unset": ["EXTRA"], "installed": false, "own_compiler": "clang"}"#
    ));
    let read = read.described();
    let told: Vec<_> =
        read.iter().map(|it| (it.cpv.as_str(), it.repository.as_str(), it.installed, it.own_compiler.as_str())).collect();
    assert_eq!(told, [("a/b-1", "r\\u{1b}", true, ""), ("a/d-1", "r", false, "clang")]);
    // What a key is made of stays as it is.
    let inputs: Vec<Vec<(String, String)>> = read.iter().map(|it| it.inputs().into_iter().collect()).collect();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        inputs,
        [vec![pair("$CFLAGS", "-O2"), pair("$EXTRA", "1\u{1b}"), pair("ebuild", "x")], vec![pair("$CFLAGS", "-O0")]]
    );
}

#[test]
fn what_trees_say_of_packages_is_read() {
    let none = one::<Audit<'_>>(r#"{"advisories": null, "versions": [], "unread": ["a\u001b"]}"#);
    assert_eq!((none.advisories, none.versions.len(), none.unread), (None, 0, vec!["a\\u{1b}".to_owned()]));
    let found = r#"{"id": "1", "title": "t\u0007", "severity": "high", "packages": [{"cpv": "a/b-1", "fixed": ""}]}"#;
    let version = r#"{"cpv": "c/d-1", "slot": "0", "status": "removed", "newest": ""}"#;
    let json =
        format!(r#"{{"advisories": {{"known": 2, "found": [{found}], "unread": []}}, "versions": [{version}], "unread": []}}"#);
    let told = one::<Audit<'_>>(&json);
    let advisory = &told.advisories.unwrap().found[0];
    assert_eq!((advisory.title.as_str(), advisory.accepted), ("t\\u{7}", false));
    assert_eq!(advisory.packages, [Affected { cpv: "a/b-1".to_owned(), fixed: String::new() }]);
    assert_eq!((told.versions[0].status, told.versions[0].repository.as_str()), (Status::Removed, ""));
    // It is for the image to say what was dealt with, and not for Portage.
    let forged = json.replace("\"severity\"", "\"accepted\": true, \"severity\"");
    let text = format!("@gentoomuch {forged}\n@gentoomuch-done 1\n");
    assert_eq!(read::<Audit<'_>>(&text, 1).unwrap_err(), "line 1 of its output is not an answer");
}

#[test]
fn who_needs_whom_is_read() {
    let values = [("RDEPEND".to_owned(), "c/d".to_owned())].into();
    let packages = [Built { cpv: "a/b-1", slot: "0", repository: "r", values: &values }];
    let asked = request(&[Why { packages: &packages, world: &["a/b".to_owned()], atom: "c/d" }]).unwrap();
    let expected = r#"[{"kind":"why","packages":[{"cpv":"a/b-1","slot":"0","repository":"r","values":{"RDEPEND":"c/d"}}],"world":["a/b"],"atom":"c/d"}]"#;
    assert_eq!(String::from_utf8(asked).unwrap(), expected);
    let graph = one::<Why<'_>>(
        r#"{"targets": [1], "roots": [{"set": "selected", "atom": "a/b\u001b", "place": "", "package": 0}],
            "needs": [{"from": 0, "to": 1, "atom": "c/d", "run": true}], "unread": []}"#
            .replace('\n', "")
            .as_str(),
    );
    assert_eq!(graph.roots[0].atom, "a/b\\u{1b}");
    assert!(graph.is_within(2) && !graph.is_within(1));
}
