//! What is asked about a configuration, and what is made of answers: those of Portage, and those of somebody who means harm.

use crate::config::ConfigDir;
use crate::config::tests::config;
use crate::query::names::Unknown;
use crate::recipe::consult::answers;
use crate::recipe::consult::questions::Questions;

const FILES: &[(&str, &str)] = &[
    ("stage3.defines/base/portage.local", "one\ntwo\n"),
    ("stage3.defines/base/packages", "app-misc/hello\n@testbed\n"),
    ("stage3.defines/base/network", "app-misc/live\n"),
    (
        "portage.locals/one/make.conf",
        "USE=\"-* nls\n -X ${MORE}\"\nVIDEO_CARDS=\"amdgpu\"\nACCEPT_LICENSE=\"-* @FREE\"\nACCEPT_KEYWORDS=\"~amd64\"\n",
    ),
    ("portage.locals/one/package.use", "app-misc/hello nls VIDEO_CARDS: -* amdgpu\n*/* X\n"),
    ("portage.locals/one/package.mask", ">=app-misc/hello-9\n"),
    ("portage.locals/two/make.conf", "FEATURES=\"-test\"\nPYTHON_SINGLE_TARGET=\"python3_13\"\nUSE=\"nls\"\n"),
    ("portage.locals/two/package.license", "app-misc/hello GPL-3+\n"),
    ("portage.locals/two/package.accept_keywords", "app-misc/hello\n"),
    ("portage.locals/two/package.env", "app-misc/hello slow\n"),
    ("portage.locals/two/env/slow", "MAKEOPTS=\"-j1\"\n"),
];

fn questions(config: &ConfigDir) -> Questions {
    let base = config.stage3("base").unwrap();
    let mut questions = Questions::default();
    questions.of_packages(&base.packages);
    questions.of_atoms(&base.network.atoms);
    questions.of_configuration(&config.portage_dir(&base).unwrap());
    questions
}

#[test]
fn each_thing_is_asked_once_with_every_line_that_names_it() {
    let (_dir, config) = config(FILES);
    let questions = questions(&config);
    let asked: Vec<String> = questions
        .with_places()
        .map(|(question, places)| {
            let question = serde_json::to_string(question).unwrap().replace('"', "");
            let places: Vec<String> = places.iter().map(ToString::to_string).collect();
            format!("{question} {}", places.join(" "))
        })
        .collect();
    insta::assert_snapshot!(asked.join("\n"));
}

#[test]
fn every_problem_has_words_at_its_lines() {
    let (dir, config) = config(FILES);
    let questions = questions(&config);
    let asked: Vec<serde_json::Value> = questions.asked().map(|question| serde_json::to_value(question).unwrap()).collect();
    let number = |json: &str| {
        let wanted: serde_json::Value = serde_json::from_str(json).unwrap();
        asked.iter().position(|question| *question == wanted).unwrap_or_else(|| panic!("{json} in {asked:?}"))
    };
    let hello = r#"{"kind": "atom", "atom": "app-misc/hello", "future": false}"#;
    let target = r#"{"kind": "target", "atom": "app-misc/hello"}"#;
    let flag = r#"{"kind": "flag", "atom": "app-misc/hello", "flag": "nls", "on": true}"#;
    let mut all = Vec::new();
    for (question, problem) in [
        (hello, r#""no-repository", "details": ["gentoo"]"#),
        (hello, r#""no-package", "near": ["app-misc/hallo", "app-text/hello"]"#),
        (hello, r#""no-version", "details": ["1.0", "2.0"]"#),
        (hello, r#""refused", "details": ["invalid atom"]"#),
        (target, r#""no-package""#),
        (target, r#""no-version", "details": ["1.0"]"#),
        (target, r#""masked", "details": ["app-misc/hello-2", "~amd64 keyword"]"#),
        (target, r#""masked", "details": ["app-misc/hello-2", "missing keyword"]"#),
        (target, r#""masked", "details": ["app-misc/hello-2", "package.mask", "GPL-3 license(s)"]"#),
        (target, r#""masked", "details": ["app-misc/hello-2", "GPL-3 X license(s)"]"#),
        (target, r#""masked", "details": ["app-misc/hello-2", "EAPI 99"]"#),
        (target, r#""masked""#),
        (flag, r#""no-flag", "near": ["nl"], "details": ["nl", "x"]"#),
        (flag, r#""no-flag", "details": ["x"]"#),
        (flag, r#""no-flag""#),
        (flag, r#""masked-flag""#),
        (flag, r#""forced-flag""#),
        (r#"{"kind": "global-flag", "flag": "nls", "on": true}"#, r#""masked-flag""#),
        (r#"{"kind": "global-flag", "flag": "X", "on": false}"#, r#""forced-flag""#),
        (r#"{"kind": "global-flag", "flag": "X", "on": false}"#, r#""unknown-flag", "near": ["x"]"#),
        (r#"{"kind": "value", "variable": "VIDEO_CARDS", "value": "amdgpu", "on": true}"#, r#""unknown-value""#),
        (r#"{"kind": "value", "variable": "VIDEO_CARDS", "value": "amdgpu", "on": true}"#, r#""masked-flag""#),
        (r#"{"kind": "flag", "atom": "*/*", "flag": "X", "on": true}"#, r#""masked-flag""#),
        (r#"{"kind": "licence", "name": "@FREE"}"#, r#""no-licence", "near": ["@FSF"]"#),
        (r#"{"kind": "licence", "name": "GPL-3+"}"#, r#""no-licence", "near": ["GPL-3"]"#),
        (r#"{"kind": "keyword", "name": "~amd64"}"#, r#""no-keyword""#),
        (r#"{"kind": "feature", "name": "test"}"#, r#""no-feature""#),
        (r#"{"kind": "set", "name": "testbed"}"#, r#""no-set", "near": ["testbeds"]"#),
    ] {
        let mut answers: Vec<Option<Unknown>> = vec![None; asked.len()];
        answers[number(question)] = Some(serde_json::from_str(&format!("{{\"problem\": {problem}}}")).unwrap());
        all.extend(answers::findings(&config, &questions, &answers));
    }
    let root = format!("{}/", dir.path().display());
    let all: Vec<String> = all.iter().map(|finding| finding.to_string().replace(&root, "")).collect();
    insta::assert_snapshot!(all.join("\n"));
}
