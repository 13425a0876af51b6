//! What is said when a command line, a file or the configuration is wrong, and with which exit code.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use crate::program::Home;

/// Compares without noting the expression, which only repeats the transcript.
macro_rules! assert_transcript {
    ($text:expr) => {
        insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!($text) })
    };
}

#[test]
fn wrong_words() {
    assert_transcript!(Home::empty().transcripts(&[
        "frehsroot",
        "doctor --jsno",
        "stage build",
        "stage build --format tar.bz2 web",
        "completions tcsh",
        "keys rm 1A2B",
        "freshroot emerge app-misc/hello",
        "--quiet --verbose doctor",
        "patch prep quiet-hello",
        "patch prep quiet-hello app-misc/*",
        "patch prep quiet-hello =app-misc/hello-2.9 2.10",
        "patch prep quiet-hello app-misc/hello newest",
        "profile update --all demo",
        "patch save quiet-hello --for ever",
    ]));
}

#[test]
fn a_directory_where_text_is_read_or_written() {
    let home = Home::empty();
    let directory = || fs::File::open(home.path()).unwrap();
    for at in 0..3 {
        let mut program = home.program();
        program.arg("tree").arg("ls").stderr(std::process::Stdio::piped());
        match at {
            0 => program.stdin(directory()),
            1 => program.stdout(directory()),
            _ => program.stderr(directory()),
        };
        let output = program.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{at}");
        let said = String::from_utf8(output.stderr).unwrap();
        if at < 2 {
            let name = ["input", "output"][at];
            let hint = "hint: redirect it: from a file or `/dev/null`, or to a file or a pipe (`DIR/NAME` instead of `DIR`)";
            assert_eq!(said, format!("error: standard {name} is a directory\n{hint}\n"));
        }
    }
}

#[test]
fn no_configuration() {
    assert_transcript!(Home::empty().transcripts(&[
        "stage build web",
        "bootstrap server stage3.tar.xz",
        "stage build web --config nowhere",
        "profile update",
    ]));
}

#[test]
fn jobs_without_a_run_or_with_another_configuration() {
    assert_transcript!(Home::with_config(&[("env/arch", "amd64\n")]).transcripts(&[
        "pipeline attach",
        "pipeline attach 20261130-101500-4711",
        "pipeline --detach",
        "pipeline --on pbs",
        "pipeline node --configuration-digest sha256:00 stage4/web",
    ]));
}

#[test]
fn files_that_are_not_there() {
    assert_transcript!(Home::with_shipped_config().transcripts(&[
        "stage3 verify stage3.tar.xz",
        "bootstrap server stage3.tar.xz",
        "sync --from gentoo.tar.xz",
        "sync --from git+ext::sh",
        "sync --from https://example.org/overlay",
        "sync --from rsync://example.org/x#main",
        "sync --from . --name ../x",
        "sync --pin stable gentoo",
        "sync --pin 20260811",
        "sync gentoo --from .",
        "tree rm",
        "keys import keys.asc",
    ]));
}

#[test]
fn values_that_cannot_be() {
    assert_transcript!(Home::with_shipped_config().transcripts(&[
        "stage build --jobs 0 hello",
        "stage build --jobs many hello",
        "profile update --jobs 0",
        "profile rollback --to last",
        "profile rename server",
        "stage build helo",
        "freshroot --bind /usr -- true",
        "freshroot --bind /usr:mnt -- true",
        "freshroot --bind /usr:/../mnt -- true",
        "freshroot --bind /nowhere:/mnt -- true",
        "freshroot --network some -- true",
        "keys rm 0123456789ABCDEF0123456789ABCDEF01234567",
        "clean everything",
        "clean --keep 0",
        "clean --older-than 30",
        "clean --max-size 1.5G",
        "clean --everything --keep 2",
    ]));
}

#[test]
fn a_reason_must_be_given() {
    let home = Home::with_shipped_config();
    let output = home.run(&["sync", "--from", ".", "--allow-unsigned", " "]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("error: `--allow-unsigned` needs a reason\nhint: "), "{text}");
}

#[test]
fn broken_configuration() {
    let home = Home::with_config(&[
        ("stage3.defines/plain/cpu", "generic-amd64\n"),
        ("stage3.defines/plain/portage.local", "desktop\nserver\n"),
        ("stage4.defines/web/profile", "server\n"),
        ("stage4.defines/web/stage3", "plian\n"),
        ("stage4.defines/web/packages", "# the server\nwww-servers/nginx\n>=dev-lang/python\n@no-such-set/at all\n"),
        ("stage4.defines/web/format", "tar.bz2\n"),
    ]);
    assert_transcript!(home.transcripts(&["stage build web"]));
}

#[test]
fn keys_that_are_none() {
    let home = Home::with_config(&[("keys/trusted", "13EBBDBEDE7A12775DFDB1BABB572E0E2D182910\nabc\n")]);
    fs::write(home.path().join("keys.asc"), "no key\n").unwrap();
    assert_transcript!(home.transcripts(&["keys ls", "keys import keys.asc"]));
}

#[test]
fn files_that_nobody_signed() {
    let home = Home::with_shipped_config();
    fs::write(home.path().join("stage3.tar.xz"), "not even an archive").unwrap();
    fs::create_dir(home.path().join("directory")).unwrap();
    assert_transcript!(home.transcripts(&["stage3 verify stage3.tar.xz", "stage3 verify directory"]));
}

#[test]
fn no_home() {
    let home = Home::empty();
    let output = home.program().env_remove("HOME").args(["keys", "ls"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_transcript!(String::from_utf8(output.stderr).unwrap());
    // With every place named nothing is missing.
    let named = ["--config", "/c", "--data", "/d", "--cache", "/e", "keys", "ls"];
    assert!(home.program().env_remove("HOME").args(named).output().unwrap().status.success());
    // A relative one counts as none, by the XDG specification.
    let relative = home.program().env("XDG_CONFIG_HOME", "relative").args(["stage", "build", "web"]).output().unwrap();
    assert!(String::from_utf8(relative.stderr).unwrap().contains("/.config/gentoomuch"));
}

#[test]
fn a_name_below_a_file() {
    let home = Home::empty();
    fs::write(home.path().join("file"), "").unwrap();
    assert_transcript!(home.transcripts(&["man file/below"]));
    let output = home.run(&["doctor", "--data", "file/below"]);
    assert_eq!(output.status.code(), Some(5));
    let words = String::from_utf8(output.stdout).unwrap();
    assert!(words.contains(&format!("`{}` is not a directory\n", home.path().join("file").display())), "{words}");
    assert!(words.contains("file system: choose another place with `--data`\n") && words.ends_with("ready: no\n"), "{words}");
}

/// `HOME` may be anything. The first command says so, not one that comes after an hour of work.
#[test]
fn a_home_whose_name_is_no_text() {
    let home = Home::empty();
    let odd = home.path().join(OsStr::from_bytes(b"x\xff"));
    fs::create_dir(&odd).unwrap();
    let run = |words: &str| home.program().env("HOME", &odd).args(words.split(' ')).output().unwrap();
    for (words, code) in [
        ("init", 2),
        ("doctor", 2),
        ("doctor --json", 2),
        ("config check", 2),
        ("keys ls", 2),
        ("bootstrap x stage3.tar.xz", 2),
        ("freshroot -- true", 125),
        ("stage build x", 2),
    ] {
        let output = run(words);
        assert_eq!(output.status.code(), Some(code), "{words}: {output:?}");
        let said = String::from_utf8_lossy(if words.ends_with("--json") { &output.stdout } else { &output.stderr }).into_owned();
        assert!(
            said.contains("x\u{fffd}/") && said.contains("is not UTF-8") && said.contains("`GENTOOMUCH_DATA`"),
            "{words}: {said}"
        );
    }
    assert_eq!(fs::read_dir(&odd).unwrap().count(), 0);
    let elsewhere = home.program().args(["init"]).arg(odd.join("config")).output().unwrap();
    assert_eq!(elsewhere.status.code(), Some(2), "{elsewhere:?}");
    assert_eq!(fs::read_dir(&odd).unwrap().count(), 0);
    // Where nothing of ours is in it, it is as good as any.
    let mut apart = home.program();
    for (name, dir) in [("GENTOOMUCH_CONFIG", "config"), ("GENTOOMUCH_DATA", "data"), ("GENTOOMUCH_CACHE", "cache")] {
        apart.env(name, home.path().join(dir));
    }
    let output = apart.env("HOME", &odd).args(["init", "--json"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
