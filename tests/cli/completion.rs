//! Completion as the shells do it: each sources its script and is asked, and the program answers from what lies in its directories.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::program::Home;

const FLAG_CACHE: &str = "DEFINED_PHASES=compile\nEAPI=8\nIUSE=+nls static-libs\nSLOT=0\n";

/// A home with a configuration, and with a store as far as names go. It has no layers, and nobody may enter a sandbox here.
fn home() -> Home {
    let home = Home::with_config(&[
        ("stage3.defines/gentoomuch/packages", ""),
        ("stage4.defines/server/packages", ""),
        ("stage4.defines/desktop/packages", ""),
        ("kernel.configs/small.kconf", "CONFIG_SMP=y\n"),
        ("user.patches/mended/app-misc/hello/x.patch", ""),
        ("keys/trusted", "13EBBDBEDE7A12775DFDB1BABB572E0E2D182910 stage3 # Gentoo\n"),
    ]);
    let data = home.path().join(".local/share/gentoomuch");
    let write = |path: &str, text: &str| {
        let path = data.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let state = "7c0f0000000000000000000000000000 2026-11-01T10:00:00Z\n";
    for name in ["profile/musl/upstream", "profile/glibc/upstream", "stage4/server", "tag/v1", "kept/tried"] {
        write(&format!("store/refs/{name}.ref"), state);
    }
    write("store/refs/profile/damaged/upstream.ref", "\u{1b}[2J");
    write("store/refs/tree/gentoo.ref", "01a22966d0e5d175ac45 2026-11-01T10:00:00Z\n");
    let tree = "store/trees/01a22966d0e5d175ac45/fs";
    for package in ["app-misc/hello", "app-misc/hostess", "app-shells/bash", "sys-apps/coreutils"] {
        write(&format!("{tree}/{package}/metadata.xml"), "");
    }
    write(&format!("{tree}/metadata/md5-cache/app-misc/hello-2.10"), FLAG_CACHE);
    write(&format!("{tree}/metadata/md5-cache/app-misc/hello-world-1"), "IUSE=other\n");
    // A tree is somebody else's: what a terminal would obey is offered to nobody.
    write(&format!("{tree}/app-misc/he\u{1b}]0;x\u{7}/x"), "");
    write("patches/begun/patch.json", "{}");
    write("slurm/20261130-101500-4711/run.json", "{}");
    write("slurm/trees/x.json", "{}");
    // Nor is what a shell would obey.
    for name in ["20261130-101500-4712$(id)", "20261130-101500-`id`", "1;id"] {
        write(&format!("slurm/{name}/run.json"), "{}");
        write(&format!("{tree}/app-misc/j-{name}/x"), "");
    }
    write("logs/stage-server-20261101T100000Z/emerge.log", "");
    for closed in ["", "store", "patches", "logs", "slurm"] {
        fs::set_permissions(data.join(closed), fs::Permissions::from_mode(0o700)).unwrap();
    }
    home
}

/// Runs a script of a shell that finds the program.
fn shell(home: &Home, words: &[&str], script: &str) -> String {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_gentoomuch"));
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", program.parent().unwrap().display());
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(script).env_clear().env("HOME", home.path()).env("PATH", path);
    let output = command.env("TERM", "dumb").env("LANG", "C.UTF-8").current_dir(home.path()).output().unwrap();
    assert!(output.stderr.is_empty(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What bash offers for the last of these words, without options.
fn bash(home: &Home, line: &[&str]) -> String {
    let words = line.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let script = format!(
        "source <(gentoomuch completions bash); COMP_WORDS=(gentoomuch {words}); COMP_CWORD={}; COMP_TYPE=9; \
         _clap_complete_gentoomuch gentoomuch '{}' ''; echo \"${{COMPREPLY[@]}}\"",
        line.len(),
        line[line.len() - 1]
    );
    let offered = shell(home, &["bash", "--norc", "-c"], &script);
    offered.split_whitespace().filter(|word| !word.starts_with("--")).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_this_machine_has_is_offered_for_each_kind_of_word() {
    let home = home();
    let before = listing(&home);
    let found: Vec<String> = [
        "stage bu",
        "stage build ",
        "profile set ",
        "config show ",
        "shell --failed ",
        "pipeline node artifact/",
        "export ",
        "cp kept/",
        "tag rm ",
        "freshroot --from ",
        "rm ",
        "tree rm ",
        "patch show ",
        "patch refresh ",
        "kernel build ",
        "keys rm 13EBB",
        "try ",
        "try app-misc/h",
        "try hel",
        "try sh",
        "try =app-s",
        "try app-misc/hello --use ",
        "try app-misc/hello --use -n",
        "try app-misc/none --use ",
        "resolve d",
        "logs stage-",
        "pipeline attach ",
        "export --format tar.",
        "--config elsewhere stage build ",
        "--data=elsewhere profile set ",
    ]
    .iter()
    .map(|line| format!("{line:32} {}", bash(&home, &line.split(' ').collect::<Vec<_>>())).trim_end().to_owned())
    .collect();
    insta::assert_snapshot!(found.join("\n"));
    assert_eq!(listing(&home), before, "completion has made or removed something");
}

/// All files and directories below a home.
fn listing(home: &Home) -> String {
    let found = Command::new("find").arg(home.path()).args(["-printf", "%P %m %T@\n"]).output().unwrap();
    String::from_utf8(found.stdout).unwrap()
}

#[test]
fn without_anything_to_read_nothing_is_offered() {
    let home = Home::empty();
    for line in ["stage build ", "profile set ", "try app", "keys rm "] {
        let found = bash(&home, &line.split(' ').collect::<Vec<_>>());
        // The keys of Gentoo's releases are built in.
        assert!(found.is_empty() || line.starts_with("keys"), "{line}: {found}");
    }
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn zsh_completes_at_its_prompt() {
    let script = r#"
zmodload zsh/zpty
zpty z 'zsh -f -i'
zpty -w z "autoload -Uz compinit; compinit -u -D; source <(gentoomuch completions zsh); print ready-\$((1+1))"
zpty -r z out '*ready-2*'
zpty -w -n z $'gentoomuch stage build ser\t'
zpty -r z out '*stage build server*'
zpty -w -n z $'\C-ugentoomuch profile set mu\t'
zpty -r z out '*profile set musl*'
zpty -d z
print done
"#;
    // It waits for these words, and the test runner ends a test that waits for ever.
    assert_eq!(shell(&home(), &["zsh", "-f", "-c"], script), "done\n");
}

#[test]
fn fish_completes_at_its_prompt() {
    let script = "gentoomuch completions fish | source; complete -C 'gentoomuch stage build s'; complete -C 'gentoomuch try app-misc/h'; \
                  complete -C 'gentoomuch --data elsewhere try app-misc/h'";
    assert_eq!(shell(&home(), &["fish", "--no-config", "-c"], script), "server\napp-misc/hello\napp-misc/hostess\n");
}

#[test]
fn each_shell_gets_a_script() {
    let home = Home::empty();
    for name in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = home.run(&["completions", name]);
        assert!(output.status.success(), "{name}");
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains("GENTOOMUCH_COMPLETE") && !script.contains(home.path().to_str().unwrap()), "{name}: {script}");
    }
}
