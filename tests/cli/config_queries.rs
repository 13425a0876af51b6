//! `config show`, `explain`, `diff` and `graph`: what they say about a small fleet, and about what is not there.

use crate::program::Home;

/// Compares without noting the expression, which only repeats the transcript.
macro_rules! assert_transcript {
    ($text:expr) => {
        insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!($text) })
    };
}

/// Two stage4s that share a stage3 definition, one of their own, and things that nobody uses.
pub(crate) const FLEET: &[(&str, &str)] = &[
    ("cpu.defines/generic-amd64/make.conf", "COMMON_FLAGS=\"-O2 -pipe\"\nCPU_FLAGS_X86=\"sse2\"\n"),
    ("cpu.defines/znver4/make.conf", "COMMON_FLAGS=\"-O2 -march=znver4\"\n"),
    (
        "portage.global/make.conf",
        "USE=\"X nls ssl\"\nACCEPT_LICENSE=\"-* @FREE\"\nFEATURES=\"parallel-fetch\"\n# for all\nMAKEOPTS=\"-j2\"\n",
    ),
    ("portage.global/package.use/base", "dev-lang/python sqlite\n*/* VIDEO_CARDS: amdgpu\napp-misc/hello nls\n"),
    ("portage.global/package.accept_keywords", "app-misc/newcomer\n"),
    ("portage.global/env/no-lto", "CFLAGS=\"-O1\"\n"),
    ("portage.global/package.env", "app-misc/hello no-lto\n"),
    ("portage.locals/server/make.conf", "USE=\"-X\n  ldap\" # override: the server has no screen\n"),
    ("portage.locals/server/package.use", "dev-lang/python -tk\n=app-misc/hello-2* -nls # override\n"),
    ("portage.locals/server/package.mask", ">=dev-libs/greet-1.1\n"),
    ("portage.locals/desktop/make.conf", "USE=\"wayland\"\nCFLAGS=\"${COMMON_FLAGS} -ggdb\"\nMAKEOPTS=\"-j8\"\n"),
    ("portage.locals/desktop/package.license", "media-fonts/* free-noncomm\n"),
    ("portage.locals/desktop/savedconfig/sys-apps/busybox", "CONFIG_X=y\n"),
    ("portage.locals/old/make.conf", "USE=\"qt4\"\n"),
    ("package.sets/base", "app-misc/hello\n@tools\n"),
    ("package.sets/tools", "app-text/tree\n"),
    ("package.sets/forgotten", "app-misc/slow\n"),
    ("stage3.defines/server/cpu", "generic-amd64\n"),
    ("stage3.defines/server/portage.local", "server\n"),
    ("stage3.defines/server/packages", "@base\n"),
    ("stage3.defines/desktop/cpu", "znver4\n"),
    ("stage3.defines/desktop/portage.local", "# everything\ndesktop\n"),
    ("stage3.defines/desktop/packages", "@base\n@world\napp-arch/lz4\n"),
    ("stage3.defines/desktop/portage.profile", "default/linux/amd64/testbed\n"),
    ("stage4.defines/web/profile", "demo\n"),
    ("stage4.defines/web/stage3", "server\n"),
    ("stage4.defines/web/packages", "www-servers/nginx\n"),
    ("stage4.defines/web/scripts", "enable-sshd\n"),
    ("stage4.defines/web/removes", "docs\n/usr/include\n"),
    ("stage4.defines/web/kconf", "server\n"),
    ("stage4.defines/mail/profile", "demo\n"),
    ("stage4.defines/mail/stage3", "server\n"),
    ("stage4.defines/mail/packages", "mail-mta/postfix\n@tools\n"),
    ("stage4.defines/office/profile", "demo\n"),
    ("stage4.defines/office/stage3", "desktop\n"),
    ("kernel.configs/server.kconf", "CONFIG_X=y\n"),
    ("kernel.configs/laptop.kconf", "CONFIG_Y=y\n"),
    ("user.scripts/enable-sshd", "#!/bin/sh\ntrue\n"),
    ("user.scripts/old", "#!/bin/sh\ntrue\n"),
    ("user.removes/docs", "/usr/share/doc\n/usr/share/man\n"),
    ("user.removes/headers", "/usr/include\n"),
    ("user.patches/quiet/app-misc/hello/quiet.patch", "--- a\n+++ b\n"),
    ("hooks/finish.d/50-motd.sh", "#!/bin/sh\ntrue\n"),
];

#[test]
fn show() {
    let home = Home::with_config(FLEET);
    assert_transcript!(home.transcripts(&["config show web", "config show desktop --tree"]));
    let shown: serde_json::Value = serde_json::from_slice(&home.run(&["config", "show", "web", "--json"]).stdout).unwrap();
    assert_eq!((&shown["stage"], &shown["stage3"]), (&"web".into(), &"server".into()));
    let variable = shown["variables"].as_array().unwrap().iter().find(|variable| variable["name"] == "USE").unwrap();
    assert_transcript!(serde_json::to_string_pretty(variable).unwrap());
    let file = shown["files"].as_array().unwrap().iter().find(|file| file["path"] == "env/no-lto").unwrap();
    assert_transcript!(serde_json::to_string_pretty(file).unwrap());
}

#[test]
fn show_what_is_not_there() {
    let home = Home::with_config(&[("stage3.defines/bare/packages", ""), ("stage3.defines/logo/portage.local", "logo\n")]);
    std::fs::create_dir_all(home.config().join("portage.locals/logo/logos")).unwrap();
    std::fs::write(home.config().join("portage.locals/logo/logos/x.png"), b"\x89PNG\n\x1a\n").unwrap();
    assert_transcript!(home.transcripts(&[
        "config show bare",
        "config show bare --tree",
        "config show logo",
        "config show bear",
        "config show stage3:bear",
        "config show bare --tree --json",
    ]));
    assert_transcript!(Home::with_config(&[("stage3.defines/bare/portage.local", "nothing\n")]).transcript("config show bare"));
    assert_transcript!(Home::empty().transcript("config show bare"));
}

#[test]
fn graph() {
    let home = Home::with_config(FLEET);
    assert_transcript!(home.transcripts(&["config graph web", "config graph", "config graph server --dot"]));
    let graph: serde_json::Value = serde_json::from_slice(&home.run(&["config", "graph", "web", "--json"]).stdout).unwrap();
    assert_eq!(graph["roots"][0]["uses"][1]["named_at"]["file"], "stage4.defines/web/stage3");
    assert!(graph["unused"].as_array().unwrap().iter().any(|unused| unused["path"] == "portage.locals/old"), "{graph}");
}

#[test]
fn graph_of_what_is_wrong() {
    let home = Home::with_config(&[
        ("stage4.defines/web/stage3", "srever\n"),
        ("stage4.defines/web/scripts", "../x\nnothing\n"),
        ("stage4.defines/\"quoted\"/stage3", "server\n"),
        ("stage3.defines/server/packages", "@loop\n@tols\nword\n"),
        ("package.sets/loop", "@pool\n"),
        ("package.sets/pool", "@loop\n"),
        ("portage.locals/only/directories/package.use/x", "a/b c\n"),
    ]);
    assert_transcript!(home.transcripts(&["config graph", "config graph --dot", "config graph wbe", "config graph stage4:server"]));
    assert_transcript!(Home::with_config(&[("env/jobs", "2")]).transcript("config graph"));
}

#[test]
fn diff() {
    let home = Home::with_config(FLEET);
    assert_transcript!(home.transcripts(&[
        "config diff web mail",
        "config diff web office",
        "config diff web web --exit-code",
        "config diff web wbe",
        "config diff web",
    ]));
    assert_eq!(home.run(&["config", "diff", "web", "mail", "--exit-code"]).status.code(), Some(1));
    let told: serde_json::Value = serde_json::from_slice(&home.run(&["config", "diff", "web", "mail", "--json"]).stdout).unwrap();
    assert_transcript!(serde_json::to_string_pretty(&told["differences"][1]).unwrap());
    assert_eq!((&told["from"]["stage"], &told["to"]["stage"]), (&"web".into(), &"mail".into()));
    let coloured = home.run(&["--color", "always", "config", "diff", "web", "mail"]);
    assert!(String::from_utf8(coloured.stdout).unwrap().contains("\x1b[32m  + mail-mta/postfix"));
}

/// A commit of everything in `dir`.
fn commit(dir: &std::path::Path, message: &str) {
    for words in [&["init", "-q"][..], &["add", "-A", "."], &["commit", "-q", "-m", message]] {
        let status = std::process::Command::new("git")
            .args(["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"])
            .args(words)
            .current_dir(dir)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .status()
            .unwrap();
        assert!(status.success(), "{words:?}");
    }
}

#[test]
fn diff_with_a_commit() {
    let home = Home::with_config(FLEET);
    std::fs::remove_file(home.config().join("portage.global/env/no-lto")).unwrap();
    // The directory is a part of the repository, which is the whole home here.
    commit(home.path(), "first");
    home.write(
        "portage.global/make.conf",
        "USE=\"X nls ssl pam\"\nACCEPT_LICENSE=\"-* @FREE\"\n# one line more\n\nMAKEOPTS=\"-j2\"\n",
    );
    home.write("portage.global/env/no-lto", "CFLAGS=\"-O1\"\n");
    home.write("kernel.configs/server.kconf", "CONFIG_X=m\n# CONFIG_Z is not set\n");
    home.write("hooks/finish.d/50-motd.sh", "#!/bin/sh\nfalse\n");
    home.write("stage4.defines/new/profile", "demo\n");
    home.write("stage4.defines/new/stage3", "server\n");
    home.write("stage4.defines/mail/stage3", "sever\n");
    commit(home.path(), "second");
    home.write("stage4.defines/mail/stage3", "server\n");
    assert_transcript!(home.transcripts(&[
        "config diff --rev HEAD~1 web",
        "config diff --rev main web",
        "config diff --rev HEAD~1 new",
        "config diff --rev HEAD mail",
        "config diff --rev mian web",
        "config diff --rev nothing web",
        "config diff --rev HEAD web mail",
    ]));
}

#[test]
fn diff_with_a_commit_that_cannot_be() {
    let home = Home::with_config(FLEET);
    assert_transcript!(home.transcripts(&["config diff --rev HEAD web"]));
    std::fs::write(home.path().join("file"), "").unwrap();
    std::fs::write(home.path().join(".gitignore"), ".config\n").unwrap();
    commit(home.path(), "without the configuration");
    assert_transcript!(home.transcripts(&["config diff --rev HEAD web"]));
    let program = |name: &str, value: &std::path::Path| {
        let output = home.program().env(name, value).args(["config", "diff", "--rev", "HEAD", "web"]).output().unwrap();
        String::from_utf8(output.stderr).unwrap().replace(&std::process::id().to_string(), "PID")
    };
    assert_transcript!(program("PATH", std::path::Path::new("/nonexistent")));
}

#[test]
fn explain_without_a_store() {
    let home = Home::with_config(FLEET);
    home.write("portage.locals/german/make.conf", "L10N=\"de en\"\n");
    home.write("portage.locals/french/make.conf", "L10N=\"fr en\"\n");
    home.write("stage3.defines/both/portage.local", "german\nfrench\n");
    assert_transcript!(home.transcripts(&[
        "config explain web USE:X",
        "config explain web USE",
        "config explain web CFLAGS",
        "config explain desktop CFLAGS",
        "config explain web MAKEOPTS",
        "config explain web VIDEO_CARDS:amdgpu",
        "config explain both L10N",
        "config explain both L10N:de",
        "config explain web FEATURES:parallel-fetch",
        "config explain web app-misc/hello",
        "config explain web app-misc/hello:nls",
        "config explain web dev-lang/python:3.12",
        "config explain web dev-lang/python:3.12:tk",
    ]));
    assert!(!home.path().join(".local").exists(), "a question makes no store");
}

#[test]
fn explain_what_is_not_there() {
    let home = Home::with_config(FLEET);
    assert_transcript!(home.transcripts(&[
        "config explain wbe USE",
        "config explain web MAKEOTPS",
        "config explain web USE:lpda",
        "config explain web FEATURES:parallel-fecth",
        "config explain web hello",
        "config explain web app-misc/hello-2.10",
        "config explain web */*",
        "config explain web USE --profile nowhere",
        "config explain web",
    ]));
    assert!(!home.path().join(".local").exists(), "a question makes no store");
}
