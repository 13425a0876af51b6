//! What a configuration asks of emerge and of Portage's places: taken over, replaced, or refused before anything is built.

use std::fs;

use crate::place::{Place, Ran};
use crate::shared::{Shared, shared};

/// A configuration whose stage `asked` has these packages and a fragment of its own.
fn asking(shared: &Shared, name: &str, packages: &str, files: &[(&str, &str)]) -> Place {
    let config = shared.config(name);
    let all = [
        ("stage3.defines/asked/cpu", "generic-amd64\n"),
        ("stage3.defines/asked/portage.local", "asked\n"),
        ("stage3.defines/asked/packages", packages),
        ("stage4.defines/asked/profile", "demo\n"),
        ("stage4.defines/asked/stage3", "asked\n"),
        ("stage4.defines/asked/packages", "app-text/tree\n"),
        ("portage.locals/asked/package.use", "app-misc/hello -nls\n"),
    ];
    for (file, text) in all.iter().chain(files) {
        let path = config.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    shared.place.with_config(config)
}

fn build(place: &Place) -> Ran {
    place.run(&["stage", "build", "asked", "--no-export"])
}

#[test]
fn options_that_decide_what_is_installed_stop_every_build() {
    let Some(shared) = shared() else { return };
    for option in ["--oneshot", "--exclude=app-misc/hello", "--onlydeps", "--pretend", "--fetchonly", "--buildpkgonly"] {
        let make_conf = format!("EMERGE_DEFAULT_OPTS=\"--jobs=2\n  {option}\"\n");
        let place = asking(&shared, "options", "dev-libs/greet\n", &[("portage.locals/asked/make.conf", &make_conf)]);
        let words = format!("`{option}` in `EMERGE_DEFAULT_OPTS` would change the result of a build");
        let ran = build(&place).fails(3).says(&format!("portage.locals/asked/make.conf:2: {words}"));
        assert!(!ran.stderr.contains("emerging"), "{ran}");
        let ran = place.run(&["config", "check", "--no-portage"]).fails(3);
        assert!(ran.text().contains(&format!("portage.locals/asked/make.conf:2: error: {words}")), "{ran}");
    }
}

#[test]
fn another_root_stops_every_build() {
    let Some(shared) = shared() else { return };
    let place = asking(&shared, "root", "dev-libs/greet\n", &[("portage.locals/asked/make.conf", "ROOT=\"/mnt/target\"\n")]);
    build(&place).fails(3).says("portage.locals/asked/make.conf:1: `ROOT` is `/mnt/target`, but a stage is always built for `/`");
}

/// Packages that do what those of a real stage3 do.
const OF_A_STAGE3: [&str; 7] = [
    "app-alternatives/greeting",
    "app-misc/capable",
    "app-misc/configured",
    "app-misc/recorder",
    "app-misc/static32",
    "sys-apps/hosts",
    "sys-devel/slotted",
];
/// A link that was chosen; capabilities and a user that come with merging; a program of another architecture; what only `env.d` leads to; a
/// file that sessions have, too; and what a package was told.
const LOOK: &str = "readlink /usr/bin/greeting; getcap /usr/bin/capable; stat -c '%U:%G %a' /var/lib/testbedder/owned; static32
slotted-cc --version; head -n 1 /etc/hosts; cat /usr/share/configured/config; grep -E '^(CFLAGS|EXTRA_ECONF|text)=' /usr/share/recorder/record";
const SEEN: &str = "hello\n/usr/bin/capable cap_net_raw=ep\ntestbedder:testbedder 640\ni386\nslotted 1.0\n127.0.0.1\tlocalhost hosts-1.0\n\
                    ANSWER=default\nCFLAGS=-O2 -pipe -march=x86-64\nEXTRA_ECONF=(unset)\ntext=unpatched\n";

#[test]
fn what_says_how_to_work_is_taken_over_and_places_are_the_sessions() {
    let Some(shared) = shared() else { return };
    let make_conf = "EMERGE_DEFAULT_OPTS=\"--ask --jobs=1 --keep-going --with-bdeps=n --backtrack=7\"\n\
                     PORTDIR=\"/usr/portage\"\nPORTDIR_OVERLAY=\"/usr/local/portage\"\nPKGDIR=\"/srv/none\"\n";
    let packages = OF_A_STAGE3.join("\n");
    let files = [
        ("portage.locals/asked/make.conf", make_conf),
        ("portage.locals/asked/package.env", "dev-libs/greet elsewhere\n"),
        ("stage4.defines/asked/packages", &*packages),
        ("portage.locals/asked/env/elsewhere", "PORTAGE_TMPDIR=\"/var/tmp/none\"\nPKGDIR=\"/srv/other\"\nDISTDIR=\"/srv/dist\"\n"),
    ];
    let place = asking(&shared, "taken over", "dev-libs/greet\n", &files);
    let checked = place.run(&["config", "check", "stage3:asked"]).ok().text();
    for words in [
        "`PORTDIR` has no effect",
        "`PKGDIR` has an effect in the finished system",
        "env/elsewhere:1: note: `PORTAGE_TMPDIR` has \
            an effect",
    ] {
        assert!(checked.contains(words), "{words} in {checked}");
    }
    // The tree is where it always is, and nothing is dead.
    assert!(!checked.contains("there is no package"), "{checked}");
    build(&place).ok();
    let of = |path: &str| place.run(&["cp", &format!("stage4/asked:{path}"), "-"]);
    assert_eq!(of("/var/lib/portage/world").ok().text().lines().filter(|line| line.starts_with("dev-libs/")).count(), 1);
    of("/var/db/pkg/dev-libs/greet-1.0/PF").ok();
    assert_eq!(place.run(&["shell", "stage4/asked", "--network", "none", "--", "sh", "-c", LOOK]).ok().text(), SEEN);
    for gone in ["/srv/none", "/srv/other", "/srv/dist", "/var/tmp/none"] {
        of(gone).fails(2);
    }
}

/// A hook that puts a program before the real `emerge`, which gets its arguments after `options`, and these variables.
fn wrapper(options: &str, environment: &str) -> String {
    let guard = "case \" $* \" in *\" --pretend \"*|*\" @world \"*|*\" --depclean \"*) exec /usr/bin/emerge \"$@\";; esac";
    format!(
        "#!/bin/sh\nset -e\ncat > /usr/local/sbin/emerge <<'EOF'\n#!/bin/sh\n{guard}\nexec env {environment} /usr/bin/emerge {options} \"$@\"\n\
         EOF\nchmod +x /usr/local/sbin/emerge\n"
    )
}

#[test]
fn what_emerge_did_not_do_fails_the_build_whatever_its_exit_code() {
    not_done(&[("--oneshot", "X=", "`app-arch/lz4` is installed, but not recorded in world")]);
}

#[test]
#[ignore = "long: the same with nothing installed, and with other USE flags"]
fn what_emerge_did_otherwise_fails_the_build_whatever_its_exit_code() {
    not_done(&[
        ("--pretend", "X=", "no installed package satisfies `app-arch/lz4`"),
        ("--nospinner", "USE=static-libs", "` is installed with other USE flags than decided: static-libs"),
    ]);
}

/// Has `emerge` run with options and an environment, and expects these words.
fn not_done(cases: &[(&str, &str, &str)]) {
    let Some(shared) = shared() else { return };
    for (options, environment, words) in cases {
        let hook = wrapper(options, environment);
        let place = asking(&shared, "not done", "app-arch/lz4\n", &[("hooks/prepare.d/50-wrapper.sh", &hook)]);
        let ran = build(&place).fails(6).says("emerge succeeded, but `packages` is not as requested").says(words);
        ran.says("hint: look for a hook, script or `bashrc` that changes emerge's options");
    }
}

#[test]
fn portage_is_asked_before_anything_is_compiled() {
    let Some(shared) = shared() else { return };
    let packages = "app-resolve/eula\napp-misc/hello\napp-misc/newcomer\napp-misc/helo\n=app-misc/hello-99\n";
    let place = asking(&shared, "refused", packages, &[]);
    let mut ran = build(&place).fails(3);
    for words in [
        "stage3.defines/asked/packages:1: `app-resolve/eula` is masked",
        "stage3.defines/asked/packages:3: `app-misc/newcomer` is masked",
        "stage3.defines/asked/packages:4: there is no package `app-misc/helo`",
        "stage3.defines/asked/packages:5: no version matches `=app-misc/hello-99`",
    ] {
        ran = ran.says(words);
    }
    assert!(!ran.stderr.contains("building asked") && !ran.stderr.contains("emerging"), "{ran}");
    let ran = place.run(&["pipeline", "--no-sign", "asked"]).fails(3).says("there is no package `app-misc/helo`");
    assert!(!ran.stderr.contains("emerging"), "{ran}");
    // What stands on it is asked about as well.
    let place = asking(&shared, "refused above", "dev-libs/greet\n", &[("stage4.defines/asked/packages", "app-resolve/eula\n")]);
    let ran = build(&place).fails(3).says("stage4.defines/asked/packages:1: `app-resolve/eula` is masked");
    let ran = ran.says("+app-resolve/eula testbed-EULA").says("hint: write it with `gentoomuch resolve asked --write FRAGMENT`");
    assert!(!ran.stderr.contains("building asked"), "{ran}");
}
