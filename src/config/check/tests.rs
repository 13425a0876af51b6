//! Directories of older layouts, and what no stage uses, as the check sees them.

use crate::config::tests::config;

/// Everything said about a directory made of `files`, a line each, paths relative to it.
fn said(files: &[(&str, &str)]) -> Vec<String> {
    let (dir, config) = config(files);
    shown(&dir, &config.check("amd64"))
}

fn shown(dir: &tempfile::TempDir, all: &[super::Diagnostic]) -> Vec<String> {
    let root = format!("{}/", dir.path().display());
    all.iter().map(|diagnostic| diagnostic.to_string().replace(&root, "").replace("\n  hint: ", " | ")).collect()
}

const KCONF: &str = "CONFIG_64BIT=y\n";

#[test]
fn nothing_is_said_about_folders_that_hold_nothing() {
    let files = [
        ("README.md", "about it"),
        ("build.hooks/README.md", "about hooks"),
        ("patch.profiles/README.md", "about patches"),
        ("stage.defines/PLACEHOLDER", ""),
        ("stage3.defines/README.md", "about definitions"),
        ("stage3.defines/PLACEHOLDER", ""),
        ("user.patches/README.md", "about patches"),
        ("kernel.defines/gentoomuch/README.md", "about kernels"),
    ];
    assert_eq!(said(&files), Vec::<String>::new());
    // But they are there: with none of them it is no configuration.
    assert_eq!(
        said(&[("Makefile", "")]),
        ["stage3.defines: warning: this directory has no folder of a configuration | `gentoomuch init` makes a configuration \
            directory"]
    );
}

#[test]
fn what_portage_does_not_read_is_named_unless_a_program_of_the_fragments_reads_it() {
    let files = [
        ("stage3.defines/base/portage.local", "web\n"),
        ("portage.global/bashrc", "for f in /etc/portage/bashrc.d/*; do . \"$f\"; done\n"),
        ("portage.global/bashrc.d/10-flags", "[[ -f ${PORTAGE_CONFIGROOT}/etc/portage/package.cflags ]] && source_flags\n"),
        ("portage.global/package.cflags", "a/b -O1\n"),
        ("portage.global/desktop/make.conf", "USE=\"x\"\n"),
        ("portage.global/desktop/package.use", "a/b c\n"),
        ("portage.global/scripts/run", "true\n"),
        ("portage.global/empty/README.md", "nothing\n"),
        ("portage.global/world", "a/b\n"),
        ("portage.locals/web/package.use", "a/b c\n"),
        ("portage.locals/web/late/package.use", "a/b -c\n"),
        ("portage.locals/web/notes/one", "x\n"),
        // That of one is read by the program of another.
        ("portage.locals/web/bashrc.d/20-more", "true\n"),
    ];
    let of = |name: &str, hint: &str| format!("warning: Portage does not read the directory `{name}` | {hint}");
    let copied = "it is copied to `/etc/portage` anyway; this note goes away when a `bashrc` names it";
    let fragment = "a fragment lies in `portage.locals/desktop`, and definitions list it in `portage.local`";
    assert_eq!(
        said(&files),
        [
            format!("portage.global/desktop: {}", of("desktop", fragment)),
            format!("portage.global/scripts: {}", of("scripts", copied)),
            "portage.global/world: note: Portage does not read `world`; it is copied to `/etc/portage` anyway".to_owned(),
            format!("portage.locals/web/notes: {}", of("notes", copied)),
        ]
    );
    // Nothing is lost of what only looks like a fragment.
    let (_dir, config) = config(&files);
    let portage = config.portage_dir(&config.stage3("base").unwrap()).unwrap();
    let has = |path: &str| portage.files.contains_key(std::path::Path::new(path));
    assert!(has("desktop/make.conf") && has("scripts/run") && has("bashrc.d/20-more") && !has("late/package.use"));
    let inside = [
        ("stage3.defines/base/portage.local", "web\n"),
        ("portage.locals/web/bashrc", ". /etc/portage/hooks/bashrc\n"),
        ("portage.locals/web/hooks/bashrc", "true\n"),
    ];
    let (_dir, config) = crate::config::tests::config(&inside);
    let portage = config.portage_dir(&config.stage3("base").unwrap()).unwrap();
    assert!(portage.files.contains_key(std::path::Path::new("hooks/bashrc")), "it is read by the program beside it");
}

#[test]
fn keys_that_only_their_owner_should_have_are_errors() {
    let files = [
        ("stage3.defines/base/portage.local", "web\n"),
        ("portage.locals/web/gnupg/pubring.kbx", "x"),
        ("portage.locals/web/gnupg/pass", "secret\n"),
        ("portage.locals/web/gnupg/private-keys-v1.d/1.key", "x"),
        ("portage.locals/web/gnupg/own.asc", "\n-----BEGIN PGP PRIVATE KEY BLOCK-----\n"),
        ("portage.locals/web/env/modules", "x\n-----BEGIN PRIVATE KEY-----\n"),
    ];
    let hint = "remove it; import public keys of binary package hosts with `gentoomuch keys import --for binpkg FILE`";
    assert_eq!(
        said(&files),
        [
            "portage.locals/web/env/modules:2: warning: this is a private key: every artifact would contain it | remove it"
                .to_owned(),
            "portage.locals/web/gnupg/own.asc:2: this is a private key: every artifact would contain it | remove it".to_owned(),
            format!(
                "portage.locals/web/gnupg/pass: this is the passphrase of a private key: every artifact would contain it | {hint}"
            ),
            format!(
                "portage.locals/web/gnupg/private-keys-v1.d/1.key: this is a private key: every artifact would contain it | {hint}"
            ),
        ]
    );
    let (_dir, config) = config(&files);
    assert!(config.portage_dir(&config.stage3("base").unwrap()).is_err(), "a build refuses it, too");
}

#[test]
fn sets_that_a_fragment_brings_are_known() {
    let files = [
        ("stage3.defines/base/portage.local", "web\n"),
        ("stage3.defines/base/packages", "@mine\n@global\n@tools/own\n@nobodys\n"),
        ("portage.locals/web/sets/mine", "a/b\n"),
        ("portage.locals/web/sets/tools/own", "a/b\n"),
        ("portage.global/sets/global", "a/b\n"),
    ];
    let said = said(&files);
    assert!(
        said.len() == 1 && said[0].starts_with("stage3.defines/base/packages:4: note: no file defines the set `@nobodys`"),
        "{said:?}"
    );
}

#[test]
fn a_host_in_make_conf_has_no_effect() {
    let stage = [("stage3.defines/base/portage.local", "web\n"), ("portage.locals/web/package.use", "a/b c\n")];
    let with = |file, text| said(&[&stage[..], &[(file, text)]].concat());
    let hosts = "USE=\"nls\"\nPORTAGE_BINHOST=\"http://h/x\"\n";
    let warning = "portage.global/make.conf/50-hosts:2: warning: `PORTAGE_BINHOST` has no effect | name hosts in `binrepos.conf`";
    assert_eq!(with("portage.global/make.conf/50-hosts", hosts), [warning]);
    assert_eq!(with("portage.global/make.conf", "PORTAGE_BINHOST=\"\"\n"), Vec::<String>::new(), "names none");
    let continued = with("portage.global/binrepos.conf", "[own]\nsync-uri = http://h\nverify-signature = true\n  always\n");
    assert!(continued[0].starts_with("portage.global/binrepos.conf:3: signatures of a binary"), "{continued:?}");
}

#[test]
fn commands_that_download_have_no_effect() {
    let stage = [("stage3.defines/base/portage.local", "web\n"), ("portage.locals/web/package.use", "a/b c\n")];
    let with = |text| said(&[&stage[..], &[("portage.global/make.conf", text)]].concat());
    let warning = |line, name| {
        format!(
            "portage.global/make.conf:{line}: warning: `{name}` has no effect: gentoomuch fetches what a session needs | name mirrors in \
             `GENTOO_MIRRORS` or in the file `mirrors`"
        )
    };
    let text = "FETCHCOMMAND=\"curl \\${URI}\"\nGENTOO_MIRRORS=\"http://m\"\nRESUMECOMMAND_SFTP=\"x\"\nFETCH_WRAPPER=\"nice\"\n";
    assert_eq!(with(text), [warning(1, "FETCHCOMMAND"), warning(3, "RESUMECOMMAND_SFTP"), warning(4, "FETCH_WRAPPER")]);
}

/// What is said about a fragment with this `make.conf`, without the file's name.
fn of_make_conf(text: &str) -> Vec<String> {
    let stage = [("stage3.defines/base/portage.local", "web\n"), ("portage.locals/web/package.use", "a/b c\n")];
    let said = said(&[&stage[..], &[("portage.global/make.conf", text)]].concat());
    said.iter().map(|line| line.trim_start_matches("portage.global/make.conf:").to_owned()).collect()
}

#[test]
fn variables_that_decide_places_are_findings() {
    let top = "remove it: a stage4 is a root of its own, which you can export or unpack to any place";
    let repos = "write a section of `repos.conf` for each, with `location`, `sync-type` and `sync-uri`";
    let places = "sessions have their own directories for this, and share the contents";
    let moved = |name: &str| format!("1: warning: `{name}` has no effect: `repos.conf` names the ebuild repositories | {repos}");
    let held = |name: &str, hint: &str| {
        format!(
            "1: note: `{name}` has an effect in the finished system, but not while gentoomuch builds \
            | {hint}"
        )
    };
    for (text, expected) in [
        ("ROOT=\"/mnt/target\"\n", Some(format!("1: `ROOT` is `/mnt/target`, but a stage is always built for `/` | {top}"))),
        ("SYSROOT=\"/usr/x\"\n", Some(format!("1: `SYSROOT` is `/usr/x`, but a stage is always built for `/` | {top}"))),
        ("EPREFIX=\"/home/x\"\n", Some(format!("1: `EPREFIX` is `/home/x`, but a stage is always built for `/` | {top}"))),
        (
            "A_ROOT=\"/mnt\"\nROOT=\"${A_ROOT}\"\n",
            Some(format!("2: `ROOT` is `/mnt`, but a stage is always built for `/` | {top}")),
        ),
        ("ROOT=\"/\"\nEPREFIX=\"\"\nSYSROOT=\"//\"\n", None),
        ("PORTDIR=\"/usr/portage\"\n", Some(moved("PORTDIR"))),
        ("PORTDIR_OVERLAY=\"/usr/local/portage\"\n", Some(moved("PORTDIR_OVERLAY"))),
        ("PORTDIR=\"/var/db/repos/gentoo\"\nPORTDIR_OVERLAY=\"\"\n", None),
        ("PKGDIR=\"/srv/packages\"\n", Some(held("PKGDIR", places))),
        ("DISTDIR=\"/var/cache/distfiles/\"\nPORTAGE_TMPDIR=\"/var/tmp\"\nBINPKG_FORMAT=\"gpkg\"\n", None),
        ("MAKEOPTS=\"-j2\"\n", Some(held("MAKEOPTS", "`env/jobs` says how many jobs run"))),
        (
            "CCACHE_SIZE=\"2G\"\n",
            Some(
                "1: note: `CCACHE_SIZE` has an effect in the finished system, but makes no compiler cache that lasts from build to \
                 build | `env/ccache` does: it has the size"
                    .to_owned(),
            ),
        ),
        ("CLEAN_DELAY=\"3\"\n", Some(held("CLEAN_DELAY", "sessions use their own value"))),
        (
            "WORKDIR=\"/x\"\n",
            Some("1: warning: `WORKDIR` has no effect: Portage sets it itself | remove it, or give it another name".to_owned()),
        ),
    ] {
        assert_eq!(of_make_conf(text), expected.into_iter().collect::<Vec<_>>(), "{text}");
    }
}

#[test]
fn a_repository_that_repos_conf_has_may_be_named_the_old_way_too() {
    let files = [
        ("stage3.defines/base/portage.local", "web\n"),
        ("portage.locals/web/make.conf", "PORTDIR=\"/usr/portage\"\nPORTDIR_OVERLAY=\"/usr/local/portage\"\n"),
        (
            "portage.locals/web/repos.conf",
            "[DEFAULT]\nmain-repo = gentoo\n[gentoo]\nlocation = /usr/portage\n[local]\nlocation = /usr/local/portage\n",
        ),
    ];
    assert_eq!(said(&files), Vec::<String>::new());
}

#[test]
fn variables_are_looked_at_wherever_portage_reads_them() {
    let files = [
        ("stage3.defines/base/portage.local", "web\n"),
        ("portage.locals/web/package.env", "a/b places\n"),
        (
            "portage.locals/web/env/places",
            "PORTAGE_TMPDIR=\"/x\"\nMAKEOPTS=\"-j1\"\nEMERGE_DEFAULT_OPTS=\"--pretend\"\nROOT=\"/x\"\n",
        ),
        ("portage.locals/web/env/unused", "ROOT=\"/x\"\n"),
        ("portage.locals/web/profile/make.defaults", "EMERGE_DEFAULT_OPTS=\"--oneshot\"\nUSE=\"x\"\n"),
        ("portage.locals/web/profile/parent", "mine\n"),
        ("portage.locals/web/profile/mine/make.defaults", "FETCHCOMMAND=\"x\"\n"),
    ];
    insta::assert_snapshot!(said(&files).join("\n"));
}

#[test]
fn options_of_emerge_that_decide_what_is_built_are_errors() {
    let rest = "remove it: only options that do not change the result are used, such as `--jobs` and `--keep-going`";
    let refused = |line: u32, option: &str| {
        format!(
            "{line}: `{option}` in `EMERGE_DEFAULT_OPTS` would change the result of a build | \
            {rest}"
        )
    };
    for (text, expected) in [
        ("EMERGE_DEFAULT_OPTS=\"--ask --jobs=4\n  --keep-going -qkv\"\n", vec![]),
        (
            "EMERGE_DEFAULT_OPTS=\"--jobs=4\n  --oneshot\n --exclude=a/b\"\n",
            vec![refused(2, "--oneshot"), refused(3, "--exclude=a/b")],
        ),
        (
            "MINE=\"--onlydeps\"\nEMERGE_DEFAULT_OPTS=\"--ask\"\nEMERGE_DEFAULT_OPTS=\"${EMERGE_DEFAULT_OPTS} ${MINE}\"\n",
            vec![refused(1, "--onlydeps")],
        ),
        (
            "EMERGE_DEFAULT_OPTS=\"--jobz=3 'x\"\n",
            vec![format!(
                "1: `EMERGE_DEFAULT_OPTS` has a quote that is not closed | \
            {rest}"
            )],
        ),
        (
            "EMERGE_DEFAULT_OPTS=\"--jobz=3\"\n",
            vec!["1: `--jobz` in `EMERGE_DEFAULT_OPTS` is no option of emerge | did you mean `--jobs`?".to_owned()],
        ),
    ] {
        assert_eq!(of_make_conf(text), expected, "{text}");
    }
}

#[test]
fn what_older_layouts_have_is_read_or_named_with_what_replaces_it() {
    for (files, expected) in [
        (
            vec![("kernel.defines/desktop/config", "amd"), ("kernel.configs/amd.kconf", KCONF)],
            "kernel.defines/desktop/config: note: this is of an older layout: it is read if `kconf` of a stage4 names `desktop`",
        ),
        (
            vec![("stage3.defines/gentoomuch-builder/packages", "a/b\n")],
            "stage3.defines/gentoomuch-builder: note: this is of an older layout: `bootstrap` builds it as `gentoomuch/builder`",
        ),
        (
            vec![("kernel.defines/gentoomuch/builder/sources", "sys-kernel/gentoo-sources-6.12.4")],
            "kernel.defines/gentoomuch/builder/sources: warning: this file is not read: without `config` beside it there is no kernel to build | to \
             install the sources, list them in `packages` of the definition",
        ),
        (
            vec![("kernel.defines/x/config", KCONF), ("kernel.defines/x/source", "gentoo-sources")],
            "kernel.defines/x/source: warning: this file of a kernel definition is not read | a kernel definition has only \
             `config` and `sources`",
        ),
        (
            vec![("patch.profiles/musl", "fix-x\n")],
            "patch.profiles/musl: warning: this list of an older layout is not read: every patch of `user.patches` applies to every \
             stage | keep the patches that you want in `user.patches`, and remove the list",
        ),
        (
            vec![("build.hooks/rm/docs", "usr/share/doc\n")],
            "build.hooks/rm/docs: warning: this hook of an older layout is not read | list the paths in a file of `user.removes` and \
             name it in `removes` of a stage4 definition",
        ),
        (
            vec![("build.hooks/tuple.defines/desktop/rm", "docs\n")],
            "build.hooks/tuple.defines/desktop/rm: warning: this hook of an older layout is not read | name scripts in `scripts` and \
             removals in `removes` of each definition",
        ),
        (
            vec![("build.hooks/x", "")],
            "build.hooks/x: warning: this hook of an older layout is not read | hooks lie in `hooks/PHASE.d/NN-NAME.sh`",
        ),
        (
            vec![("stage.defines/gentoomuch/desktop/packages", "app-misc/a app-misc/b\n")],
            "stage.defines: warning: this folder of an older layout is not read | its name is `stage3.defines` now: move the \
             files there",
        ),
        (
            vec![("build.list", "desktop\n")],
            "build.list: warning: this list of an older layout is not read | build each of the stages with `gentoomuch stage build \
             NAME`",
        ),
        (
            vec![("stage3.defines/x/hooks", "desktop\n")],
            "stage3.defines/x/hooks: warning: this file of an older layout is not read | list scripts in `scripts`; scripts for \
             every stage go to `hooks/PHASE.d/NN-NAME.sh`",
        ),
        (
            vec![("stage3.defines/x/kernel_src", "gentoo-sources\n")],
            "stage3.defines/x/kernel_src: warning: this file of an older layout is not read | name the kernel sources in `kernel.sources` of a \
             stage4 definition",
        ),
    ] {
        let said = said(&files);
        assert!(said.contains(&expected.to_owned()), "{expected}\nis not in\n{}", said.join("\n"));
        assert!(!said.iter().any(|line| !line.contains("warning:") && !line.contains("note:")), "{said:?}");
    }
}

#[test]
fn directories_of_the_old_tool_are_read_as_they_are() {
    let (_dir, config) = config(&[
        ("stage3.defines/desktop/cpu", "amd/znver4"),
        ("stage3.defines/desktop/portage.local", "desktop\ndesktop/kde\n"),
        ("stage3.defines/desktop/packages", "@gentoomuch/desktop app-misc/a\tapp-misc/b\n"),
        ("package.sets/gentoomuch/desktop", "x11-wm/i3 x11-terms/xterm"),
        ("cpu.defines/amd/make.conf", "A=\"amd\"\n"),
        ("cpu.defines/amd/znver4/make.conf", "B=\"znver4\"\n"),
        ("portage.locals/desktop/make.conf", "USE=\"X\"\n"),
        ("portage.locals/desktop/kde/package.use", "a/b qt\n"),
        ("portage.locals/desktop/bashrc.d/x.sh", "true\n"),
        ("stage4.defines/desktop/profile", "demo"),
        ("stage4.defines/desktop/stage3", "desktop"),
        ("stage4.defines/desktop/kconf", "desktop"),
        ("stage4.defines/desktop/removes", "docs\n"),
        ("kernel.defines/desktop/config", "amd"),
        ("kernel.defines/desktop/sources", "gentoo-sources-6.12.4-r1"),
        ("kernel.configs/amd.kconf", KCONF),
        ("user.removes/docs", "usr/share/doc\n/usr/share/man\n"),
    ]);
    let desktop = config.stage4("desktop").unwrap();
    assert_eq!(desktop.kconf.unwrap().value, std::path::Path::new("kernel.configs/amd.kconf"));
    assert_eq!(desktop.kernel_sources.unwrap().value.to_string(), "=sys-kernel/gentoo-sources-6.12.4-r1");
    let removes: Vec<String> = desktop.removes.iter().map(|pattern| pattern.value.to_string()).collect();
    assert_eq!(removes, ["/usr/share/doc", "/usr/share/man"]);
    let base = config.stage3("desktop").unwrap();
    let packages: Vec<String> = base.packages.iter().map(|package| package.value.to_string()).collect();
    assert_eq!(packages, ["x11-wm/i3", "x11-terms/xterm", "app-misc/a", "app-misc/b"]);
    let portage = config.portage_dir(&base).unwrap();
    assert_eq!((portage.variable("A"), portage.variable("B").as_deref()), (None, Some("znver4")));
    let files: Vec<String> = portage.files.keys().map(|path| path.display().to_string()).collect();
    assert_eq!(files, ["bashrc.d/x.sh", "make.conf/50-gentoomuch.conf", "package.use/50-gentoomuch"]);
}

#[test]
fn a_folder_of_several_is_none_of_them() {
    let said =
        said(&[("stage3.defines/x/cpu", "amd\n"), ("cpu.defines/amd/znver4/make.conf", ""), ("cpu.defines/amd/k8/make.conf", "")]);
    assert_eq!(
        said,
        [
            "stage3.defines/x/cpu:1: `amd` is not a CPU definition, but a folder that contains some | looked for `cpu.defines/amd`; there are \
          `amd/k8`, `amd/znver4`"
        ]
    );
}

#[test]
fn a_mistake_that_stages_share_is_said_once() {
    let said = said(&[
        ("portage.locals/x/make.conf", "USE=\"a,b\"\n"),
        ("stage3.defines/one/portage.local", "x\n"),
        ("stage3.defines/two/portage.local", "x\n"),
        ("stage3.defines/three/portage.local", "x\n"),
    ]);
    assert_eq!(said, ["portage.locals/x/make.conf:1: `a,b` is no USE flag | flags are separated by spaces"]);
}

#[test]
fn named_stages_are_checked_with_what_they_use_and_nothing_else() {
    let (dir, config) = config(&[
        ("stage4.defines/web/profile", "demo"),
        ("stage4.defines/web/stage3", "base"),
        ("stage4.defines/web/scripts", "none"),
        ("stage3.defines/base/portage.local", "x\n"),
        ("stage3.defines/other/portage.local", "y\n"),
        ("portage.locals/x/make.conf", "USE=\"a,b\"\n"),
        ("portage.locals/y/make.conf", "USE=\"c,d\"\n"),
        ("stage4.defines/lost/profile", "demo"),
        ("stage4.defines/lost/stage3", "bse"),
    ]);
    let check = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        config.check_stages(&names, "amd64").map(|all| shown(&dir, &all))
    };
    let x = "portage.locals/x/make.conf:1: `a,b` is no USE flag | flags are separated by spaces";
    let y = "portage.locals/y/make.conf:1: `c,d` is no USE flag | flags are separated by spaces";
    let script = "stage4.defines/web/scripts:1: there is no script `none` | looked for `user.scripts/none`; nothing is there yet";
    assert_eq!(check(&["web"]).unwrap(), [x, script]);
    assert_eq!(check(&["stage3:base"]).unwrap(), [x]);
    assert_eq!(check(&["web", "other", "base"]).unwrap(), [x, y, script]);
    assert_eq!(
        check(&["lost"]).unwrap(),
        [
            "stage4.defines/lost/stage3:1: there is no stage3 definition `bse` | did you mean `base`? looked for `stage3.defines/bse`; \
          there are `base`, `other`"
        ]
    );
    for (name, what) in [
        ("wbe", "stage4 or stage3 definition `wbe`"),
        ("stage3:web", "stage3 definition `web`"),
        ("stage4:base", "stage4 definition `base`"),
    ] {
        assert!(check(&[name]).unwrap_err().to_string().starts_with(&format!("there is no {what} in ")));
    }
}
