//! `config check`: everything that is wrong with a directory, in one run. (What Portage says to it is tested in tests/it.)

use std::fs;

use crate::program::Home;

/// Compares without noting the expression, which only repeats the transcript.
macro_rules! assert_transcript {
    ($text:expr) => {
        insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!($text) })
    };
}

/// One mistake of each kind that can be told without Portage.
const BROKEN: &[(&str, &str)] = &[
    ("build.hooks/rm/docs", "usr/share/doc\n"),
    ("build.list", "web\n"),
    ("cpu.defines/generic-amd64/make.conf", "COMMON_FLAGS=\"-O2\n"),
    ("cpu.defines/lost", ""),
    ("env/arch", "amd46\n"),
    ("env/jobs", "many\n"),
    ("env/remote", "dir:/srv/states puhs\n"),
    ("env/sing_key", "1A2B\n"),
    ("env/uid", "1000\n"),
    ("hooks/finish.d/last.sh", "#!/bin/sh\n"),
    ("hooks/finish.d/50-x.sh", "true\n"),
    ("hooks/prepar.d/10-x.sh", "#!/bin/sh\n"),
    ("kernel.configs/README.md", "not read\n"),
    ("kernel.configs/empty.kconf", "# nothing\n"),
    ("kernel.configs/server", "CONFIG_64BIT=y\n"),
    ("kernel.configs/server.kconf", "CONFIG_64BIT=y\nCONFIG-SMP=y\n"),
    ("kernel.defines/old/config", "sever\n"),
    ("kernel.defines/old/sources", "gentoo-sources:\n"),
    ("keys/trusted", "# ours\nabc\n"),
    ("package.sets/one", "@two\napp-misc/hello-2\n"),
    ("package.sets/two", "@one\n@toosl\n"),
    ("package.sets/tools", "app-misc/tree\n>=dev-lang/python\n"),
    ("package.sets/world", "app-misc/hello\n"),
    ("patch.profiles/musl", "fix\n"),
    ("portage.global/make.conf", "USE=\"X\"\n"),
    ("portage.local/x/make.conf", ""),
    ("portage.locals/server/make.conf", "USE=\"-X ssl,nls\"\n"),
    ("portage.locals/server/package.env", "app-misc/hello no-lto.cnf\n"),
    ("portage.locals/server/env/no-lto.conf", "CFLAGS=\"-O2\"\n"),
    ("portage.locals/server/package.uses", "app-misc/hello nls\n"),
    ("portage.locals/server/package.use.mask", "app-misc/hello nls\n"),
    ("portage.locals/unused/package.use/x", "hello nls\n"),
    ("portage.locals/unused/make.conf", "# jobs\nMAKEOPTS=\"-j$(nproc)\"\n"),
    ("portage.locals/unused/make.profile", "default/linux\n"),
    ("stage3.defines/base/cpu", "generic-amd46\nother\n"),
    ("stage3.defines/base/portage.local", "server\nsevrer\n/etc\n"),
    ("stage3.defines/base/packages", "@tools\nhello\n"),
    ("stage3.defines/base/portage.profile", "../../x\n"),
    ("stage3.defines/base/network", "!app-misc/live\n"),
    ("stage3.defines/old/flags", "server\n"),
    ("stage3.defines/my base/packages", "app-misc/hello:\n"),
    ("stage4.defines/web/profile", "web/demo\n"),
    ("stage4.defines/web/stage3", "bse\n"),
    ("stage4.defines/web/kconf", "servr\n"),
    ("stage4.defines/web/scripts", "../setup\nsetpu\n"),
    ("stage4.defines/web/removes", "dosc\n/\n"),
    ("stage4.defines/web/keep", "etc/machine-id\n"),
    ("stage4.defines/web/format", "zip\n"),
    ("stage4.defines/web/pakages", "app-misc/hello\n"),
    ("stage4.defines/mail/stage3", "base\nbase\n"),
    ("user.patches/fix/app-misc/hello-2.10/x.patch", "not one\n"),
    ("user.patches/fix/app-misc/hello-2.10/notes.txt", "why\n"),
    ("user.patches/fix/y.patch", "--- a\n+++ b\n"),
    ("user.patches/fix/app misc/hello/z.patch", "--- a\n+++ b\n"),
    ("user.removes/docs", "/usr/../etc\n"),
    ("user.scripts/setup", "true\n"),
    ("user.scripts/nothing", "\n"),
    ("user.scripts/dos", "#!/bin/sh\r\ntrue\r\n"),
];

#[test]
fn everything_wrong_is_said_in_one_run() {
    let home = Home::with_config(BROKEN);
    let text = home.transcript("config check --no-portage");
    assert_transcript!(text.clone());
    // Each of the files above has something to be said about it, but the one that documents.
    for (file, _) in BROKEN.iter().filter(|(file, _)| !file.ends_with("README.md")) {
        // Or the folder as a whole.
        let file = file.strip_suffix("/10-x.sh").or(file.strip_suffix("/x/make.conf")).unwrap_or(file);
        assert!(text.contains(file) || file == "portage.locals/server/env/no-lto.conf", "nothing is said about {file}");
    }
}

#[test]
fn findings_are_sorted_by_file_and_line() {
    let home = Home::with_config(BROKEN);
    let output = home.run(&["config", "check", "--no-portage", "--json"]);
    assert_eq!(output.status.code(), Some(3));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["directory"], home.config().to_str().unwrap());
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.len() > 60, "{}", findings.len());
    let mut keys: Vec<(usize, String, u64)> = Vec::new();
    for finding in findings {
        let severity = ["error", "warning", "note"].iter().position(|word| finding["severity"] == *word).unwrap();
        keys.push((severity, finding["file"].as_str().unwrap().to_owned(), finding["line"].as_u64().unwrap_or(0)));
        let message = finding["message"].as_str().unwrap();
        assert!(!message.ends_with('.') && !message.starts_with(char::is_uppercase) || message.starts_with("Portage"), "{message}");
    }
    assert!(keys.windows(2).all(|pair| pair[0] <= pair[1]), "{keys:?}");
    for (number, severity) in [("errors", "error"), ("warnings", "warning"), ("notes", "note")] {
        assert_eq!(report[number], findings.iter().filter(|finding| finding["severity"] == severity).count());
    }
}

#[test]
fn warnings_count_when_asked() {
    let warned =
        Home::with_config(&[("stage3.defines/base/flags", "x\n"), ("portage.locals/x/make.conf", ""), ("env/gid", "1000\n")]);
    assert_transcript!(warned.transcripts(&["config check --no-portage", "config check --no-portage --strict"]));
    let noted = Home::with_config(&[("env/gid", "1000\n")]);
    assert_eq!(noted.run(&["config", "check", "--no-portage", "--strict"]).status.code(), Some(0));
}

#[test]
fn annotations_lie_on_the_right_lines_of_the_work_tree() {
    let home = Home::with_config(&[
        ("stage3.defines/base/portage.local", "# fragments\nsevrer\n"),
        ("portage.locals/server/make.conf", "USE=\"100%\"\n"),
        ("env/uid", "1000\n"),
    ]);
    assert_transcript!(home.transcript("config check --no-portage --format github"));
    // The work tree begins further up: its top is where annotations count from.
    fs::create_dir(home.path().join(".git")).unwrap();
    assert_transcript!(home.transcript("config check --no-portage --format github"));
}

#[test]
fn one_stage_and_one_that_is_not_there() {
    let home = Home::with_config(BROKEN);
    assert_transcript!(home.transcripts(&[
        "config check --no-portage old",
        "config check stage3:web",
        "config check --json --format text"
    ]));
}

#[test]
fn portage_is_not_asked_where_no_profile_is_bootstrapped() {
    let home = Home::with_config(&[("stage3.defines/base/packages", "app-misc/hello\n")]);
    assert_transcript!(home.transcripts(&["config check", "config check base --json", "config check --strict --format github"]));
    // Nothing was made for it.
    assert!(!home.path().join(".local").exists());
}

#[test]
fn the_shipped_directory_has_nothing_wrong() {
    assert_transcript!(Home::with_shipped_config().transcript("config check --no-portage --strict"));
}
