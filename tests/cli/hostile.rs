//! Nobody's words reach the terminal as something that it obeys: arguments, names and contents of files, what servers say.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Output;

use crate::program::Home;

/// Title, clipboard, colours, eight-bit controls, a line of its own, a text that runs backwards.
const HOSTILE: &str =
    "x\x1b]0;owned\x07\x1b]52;c;ZWNobw==\x1b\\\x1b[31m\u{9b}2J\u{9d}0;t\u{9c}\u{7f}\r\nerror: forged\u{202e}y\u{200b}\x08";

fn is_obeyed(c: char) -> bool {
    let unseen = matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    (c.is_control() && c != '\n' && c != '\t') || unseen
}

fn assert_tame(what: &str, output: &Output) {
    for (stream, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        let text = std::str::from_utf8(bytes).unwrap_or_else(|_| panic!("{what}: {stream} is no text: {bytes:?}"));
        // Our own codes, where colour was asked for.
        let plain = ["0", "1", "2", "31", "32", "33", "36", "1;31", "1;32", "1;33", "1;36"]
            .iter()
            .fold(text.to_owned(), |text, code| text.replace(&format!("\x1b[{code}m"), ""));
        assert!(!plain.contains(is_obeyed), "{what}: {stream} has {text:?}");
        assert!(!plain.lines().any(|line| line.starts_with("error: forged")), "{what}: {stream} has {text:?}");
    }
}

/// Runs a command of which the word `@` is replaced, in each form of output.
fn run(home: &Home, command: &str, bytes: &[u8]) {
    let options: [&[&str]; 4] = [&[], &["--log-format", "json"], &["--color", "always"], &["-vvv"]];
    for more in options {
        let mut program = home.program();
        program.args(more);
        for word in command.split(' ') {
            match word.split_once('@') {
                Some((before, after)) => {
                    program.arg(OsStr::from_bytes(&[before.as_bytes(), bytes, after.as_bytes()].concat()));
                }
                None => {
                    program.arg(word);
                }
            }
        }
        let output = program.output().unwrap();
        let code = output.status.code();
        assert!(code.is_some_and(|code| code != 70), "{command} {more:?}: {output:?}");
        assert_tame(&format!("{command} {more:?}"), &output);
    }
}

#[test]
fn arguments() {
    let home = Home::with_shipped_config();
    let commands = [
        "@",
        "--@",
        "--color=@ doctor",
        "--config @ config check --no-portage",
        "clean @",
        "clean --max-size @",
        "clean --older-than=@",
        "config show @",
        "config explain @ @",
        "config diff @ @",
        "config check --no-portage @",
        "config graph @",
        "keys trust @",
        "keys trust --for @ 0123456789ABCDEF0123456789ABCDEF01234567",
        "keys trust --comment @ 0123456789ABCDEF0123456789ABCDEF01234567",
        "keys import @",
        "keys fetch --wkd @ 0123456789ABCDEF0123456789ABCDEF01234567",
        "keys rm @",
        "stage3 verify @",
        "stage3 fetch @",
        "stage3 ls --arch @",
        "stage3 ls --mirror @",
        "stage build @",
        "stage build --format @ server",
        "bootstrap @ @",
        "bootstrap --allow-unsigned @ x @",
        "freshroot --bind @ -- true",
        "freshroot --network @",
        "shell @",
        "cp @ @",
        "cp @:@ @",
        "export @ --format @",
        "log @",
        "diff @ @",
        "rollback @",
        "tag @ @",
        "store show @",
        "tree diff @ @",
        "tree rm @",
        "sync @",
        "sync --from @",
        "try @",
        "try --use @ app-misc/hello",
        "try --matrix @ app-misc/hello",
        "patch prep @",
        "patch ls @",
        "patch save @ @",
        "patch rm @",
        "kernel diff @ @",
        "kernel prep @",
        "pipeline @",
        "pipeline plan --format @",
        "pipeline node @",
        "pipeline node --configuration-digest @ stage4/hello",
        "pipeline attach @",
        "profile show @",
        "profile rename @ @",
        "resolve @",
        "resolve --stage @ app-misc/hello",
        "completions @",
        "man @/@",
        "init --config @",
    ];
    for command in commands {
        run(&home, command, HOSTILE.as_bytes());
    }
    run(&home, "config show @", b"not text \xff\x1b[1m\x9b");
}

#[test]
fn names_and_contents_of_configuration_files() {
    let home = Home::empty();
    let texts = [
        "env/arch",
        "env/jobs",
        "env/tmpfs",
        "env/sign_key",
        "env/tree",
        "keys/trusted",
        "stage3.defines/plain/packages",
        "stage3.defines/plain/cpu",
        "stage3.defines/plain/portage.local",
        "stage4.defines/web/packages",
        "stage4.defines/web/profile",
        "stage4.defines/web/format",
        "stage4.defines/web/oci",
        "stage4.defines/web/kconf",
        "portage.global/make.conf",
        "portage.global/package.use",
        "portage.global/package.license",
        "portage.global/repos.conf",
        "portage.global/binrepos.conf",
        "user.removes/x",
        "package.sets/x",
    ];
    for path in texts {
        home.write(path, &format!("{HOSTILE}\nA=\"{HOSTILE}\"\n[{HOSTILE}]\n{HOSTILE} = {HOSTILE}\n"));
    }
    // Directories where no text was put above.
    for dir in [
        "env",
        "keys",
        "stage3.defines",
        "stage4.defines",
        "portage.locals",
        "package.sets",
        "kernel.configs",
        "user.scripts",
        "hooks",
        "hooks/finish.d",
    ] {
        home.write(&format!("{dir}/{HOSTILE}/{HOSTILE}"), HOSTILE);
        home.write(&format!("{dir}/{HOSTILE}.asc"), HOSTILE);
    }
    for command in [
        "config check --no-portage",
        "config check --no-portage --json",
        "config check --no-portage --format github",
        "config graph",
        "config graph --json",
        "config show plain",
        "config show web",
        "config explain web USE",
        "keys ls",
        "pipeline --dry-run",
        "stage build web",
    ] {
        run(&home, command, b"");
    }
}

#[test]
fn what_a_server_says() {
    let home = Home::empty();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let evil = HOSTILE.replace(['\r', '\n'], "");
            let answers = [
                format!("HTTP/1.1 404 {evil}\r\nContent-Length: 0\r\nX: {evil}\r\n\r\n"),
                format!("HTTP/1.1 302 Found\r\nLocation: http://{evil}/{evil}\r\nContent-Length: 0\r\n\r\n"),
                format!("{evil}\r\n\r\n"),
                format!("HTTP/1.1 200 OK\r\nContent-Type: {evil}\r\nContent-Length: {evil}\r\n\r\n{evil}"),
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>".to_owned(),
            ];
            let at = usize::from(stream.peer_addr().unwrap().port()) % answers.len();
            let _ = stream.write_all(answers[at].as_bytes());
        }
    });
    let fingerprint = "0123456789ABCDEF0123456789ABCDEF01234567";
    assert!(home.run(&["keys", "trust", fingerprint]).status.success());
    run(&home, &format!("keys fetch --hkps hkp://127.0.0.1:{port} {fingerprint}"), b"");
    run(&home, &format!("stage3 ls --mirror http://127.0.0.1:{port}"), b"");
}

#[test]
fn directories_that_the_program_is_told_of() {
    let home = Home::empty();
    let base = home.path().join(HOSTILE);
    fs::create_dir_all(base.join("config/env")).unwrap();
    fs::write(base.join("config/env/arch"), "nonsense\n").unwrap();
    for (name, value) in [("GENTOOMUCH_CONFIG", "config"), ("GENTOOMUCH_DATA", "data"), ("GENTOOMUCH_CACHE", "cache")] {
        for command in
            [&["config", "check", "--no-portage"][..], &["keys", "ls"], &["doctor"], &["store", "ls"], &["stage", "build", "x"]]
        {
            let output = home.program().env(name, base.join(value)).args(command).output().unwrap();
            assert_tame(&format!("{name} {command:?}"), &output);
        }
    }
    fs::write(base.join("file"), "").unwrap();
    let output = home.program().env("GENTOOMUCH_DATA", base.join("file/below")).args(["doctor"]).output().unwrap();
    assert_tame("a data directory below a file", &output);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
}
