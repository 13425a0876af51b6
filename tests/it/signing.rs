//! Signing: what is wrong with a key comes out before anything is built or packed, and passphrases are asked for where the user is.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use crate::child;
use crate::terminal::Terminal;
use crate::tiny::{Tiny, tiny};

/// A pinentry that notes its terminal and enters what it is told to.
const PINENTRY: &str = r#"#!/bin/sh
echo "OK"
while read -r word rest; do
    case $word in
        OPTION) echo "$rest" >>"$(dirname "$0")/options" ;;
        GETPIN) cat "$(dirname "$0")/answer" ;;
        GETINFO) echo "D $$" ;;
        BYE) echo OK; exit ;;
    esac
    echo OK
done
"#;

impl Tiny {
    /// Has the place sign with a key that has a passphrase. Returns its fingerprint.
    fn protected(&self) -> String {
        symlink(&self.gpg.home, self.place.path("gnupg")).unwrap();
        self.gpg.run(&["--passphrase", "secret", "--quick-gen-key", "Protected <p@example.org>", "ed25519", "sign", "never"]);
        let listing = String::from_utf8(self.gpg.run(&["--list-keys", "--with-colons", "p@example.org"])).unwrap();
        let key = listing.lines().find_map(|line| line.strip_prefix("fpr:")).unwrap().trim_matches(':').to_owned();
        self.place.write("config/env/sign_key", format!("{key}\n"));
        self.forget();
        key
    }

    /// Ends the agent, which knows passphrases.
    fn forget(&self) {
        child::check(Command::new("gpgconf").env("GNUPGHOME", &self.gpg.home).args(["--kill", "all"]));
    }

    /// Has the agent ask our pinentry, which gives this answer.
    fn answers(&self, answer: &str) {
        let program = self.gpg.home.join("pinentry");
        fs::write(&program, PINENTRY).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(self.gpg.home.join("answer"), answer).unwrap();
        fs::write(self.gpg.home.join("gpg-agent.conf"), format!("pinentry-program {}\n", program.display())).unwrap();
        self.forget();
    }
}

#[test]
fn a_passphrase_that_cannot_be_asked_for_is_found_out_before_anything_is_built_or_packed() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    place.run(&["bootstrap", "demo", tiny.stage3.to_str().unwrap(), "--no-rebuild"]).ok();
    let key = tiny.protected();
    // No pinentry at all.
    fs::write(tiny.gpg.home.join("gpg-agent.conf"), "pinentry-program /nonexistent\n").unwrap();
    tiny.forget();
    let words = format!("caused by: gpg cannot ask for the passphrase of its key `{key}`");
    let before = place.listing();
    for args in [&["stage", "build", "hello"][..], &["export", "profile/demo/upstream"]] {
        let ran = place.run(args).fails(7).says("error: cannot sign artifacts\n").says(&words).says("No pinentry").says("hint: ");
        assert!(!ran.stderr.contains("exporting") && !ran.stderr.contains("building"), "{ran}");
    }
    assert_eq!(place.listing(), before);
    let stages = place.path("data/stages/profile/demo/upstream");
    assert_eq!(fs::read_dir(stages).unwrap().count(), 0, "nothing half-made");

    // One that nobody answers, and one that is answered wrongly.
    tiny.answers("ERR 83886179 Operation cancelled <Pinentry>\n");
    place.run(&["export", "profile/demo/upstream"]).fails(7).says("caused by: the passphrase was not entered").says("hint: ");
    tiny.answers("D wrong\n");
    place.run(&["export", "profile/demo/upstream"]).fails(7).says("caused by: the passphrase was wrong").says("hint: ");
}

#[test]
fn the_passphrase_is_asked_for_on_the_terminal_in_use() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    place.run(&["bootstrap", "demo", tiny.stage3.to_str().unwrap(), "--no-rebuild"]).ok();
    let key = tiny.protected();
    tiny.answers("D secret\n");
    let Some(mut terminal) = Terminal::start(place, &["export", "profile/demo/upstream"]) else { return };
    terminal.sees(&format!("signed    {key}"));
    let name = terminal.name();
    let (code, _) = terminal.end();
    assert_eq!(code, Some(0));
    let options = fs::read_to_string(tiny.gpg.home.join("options")).unwrap();
    assert!(options.lines().any(|line| line == format!("ttyname={name}")), "{name}: {options}");
}

#[test]
fn doctor_looks_at_the_key_that_would_sign() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    let doctor = || {
        // What a killed one has left.
        let left = place.path("data/.gentoomuch-doctor-7-0");
        fs::create_dir_all(left.join("work/work")).unwrap();
        let ran = place.run(&["doctor"]);
        assert!(!left.exists(), "{ran}");
        String::from_utf8(ran.stdout).unwrap()
    };
    fs::create_dir(place.path("gnupg")).unwrap();
    fs::set_permissions(place.path("gnupg"), fs::Permissions::from_mode(0o700)).unwrap();
    let none = doctor();
    fs::remove_dir_all(place.path("gnupg")).unwrap();
    assert!(none.contains("signing key") && none.contains("gpg has no secret key"), "{none}");
    assert!(none.contains("\nsigning key: make a key with `gpg --quick-generate-key "), "{none}");
    let key = tiny.protected();
    let asks = doctor();
    assert!(asks.contains(&format!("{key}  Protected <p@example.org>, which asks for its passphrase")), "{asks}");
    place.write("config/env/sign_key", format!("{}\n", tiny.key));
    let quiet = doctor();
    assert!(quiet.contains(&format!("{}  Tiny <tiny@example.org>\n", tiny.key)), "{quiet}");
    place.write("config/env/sign_key", "nobody@example.org\n");
    let missing = doctor();
    assert!(missing.contains("gpg has no secret key `nobody@example.org`"), "{missing}");
    assert!(missing.contains("\nsigning key: put the fingerprint of a key that can sign into `env/sign_key`"), "{missing}");
}
