//! Whole directories, written into a temporary place and read.

use std::fs;
use std::path::Path;

use super::env::pin_line;
use super::*;
use crate::priority::{IoClass, Priority};

/// A directory from `(path, content)`.
pub(crate) fn config(files: &[(&str, &str)]) -> (tempfile::TempDir, ConfigDir) {
    let dir = tempfile::tempdir().unwrap();
    for (file, content) in files {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let config = ConfigDir::open(dir.path()).unwrap();
    (dir, config)
}

/// The message of an error with the temporary directory left out.
fn message(dir: &Path, error: &Error) -> String {
    error.to_string().replace(&format!("{}/", dir.display()), "")
}

pub(super) fn merged(files: &[(&str, &str)]) -> PortageDir {
    let (dir, config) = config(files);
    let definition = config.stage3("base").unwrap_or_else(|error| panic!("{}", message(dir.path(), &error)));
    config.portage_dir(&definition).unwrap_or_else(|error| panic!("{}", message(dir.path(), &error)))
}

fn merge_error(files: &[(&str, &str)]) -> String {
    let (dir, config) = config(files);
    let definition = config.stage3("base").unwrap_or_else(|error| panic!("{}", message(dir.path(), &error)));
    message(dir.path(), &config.portage_dir(&definition).unwrap_err())
}

#[test]
fn the_builder_of_the_original_tools_newest_layout_is_the_builder() {
    let (_dir, old) = config(&[("stage3.defines/gentoomuch-builder/packages", "a/b\n")]);
    let builder = old.stage3(BUILDER).unwrap();
    assert_eq!((builder.name.as_str(), builder.packages[0].value.to_string()), (BUILDER, "a/b".to_owned()));
    assert_eq!(old.stage(&format!("stage3:{BUILDER}")).unwrap().stage3.name, BUILDER);
    let (_dir, both) =
        config(&[("stage3.defines/gentoomuch-builder/packages", "a/b\n"), ("stage3.defines/gentoomuch/builder/packages", "c/d\n")]);
    assert_eq!(both.stage3(BUILDER).unwrap().packages[0].value.to_string(), "c/d");
}

#[test]
fn a_missing_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = ConfigDir::open(&dir.path().join("x")).unwrap_err();
    assert_eq!(message(dir.path(), &error), "there is no configuration directory at `x`");
    fs::write(dir.path().join("file"), "").unwrap();
    let error = ConfigDir::open(&dir.path().join("file")).unwrap_err();
    assert_eq!(message(dir.path(), &error), "`file` is not a directory");
}

#[test]
fn reads_env_with_the_old_names() {
    let (_dir, config) = config(&[
        ("env/arch", "# ours\narm64\n"),
        ("env/ccache", "5G # of 200\n"),
        ("env/ionice", "best-effort 6\n"),
        ("env/jobs", "dev-qt/* 2 # memory\r\n8\r\n>=net-libs/webkit-gtk-2:6  1\r\n"),
        ("env/nice", "10\n"),
        ("env/tmpfs", "dev-qt/* disk # large\n4G\n=dev-lang/rust-1.90* disk\n"),
        ("env/stage_key", "0xABCD\n"),
        ("env/uid", "1000"),
        ("env/tree", "gentoo-20260801\nguru git https://example.org/guru.git 0123456789012345678901234567890123456789\n"),
        ("env/README.md", "x"),
    ]);
    let env = config.env("amd64").unwrap();
    assert_eq!((env.ccache, config.ccache().unwrap()), (Some(5 << 30), Some(5 << 30)));
    assert_eq!((env.arch.as_str(), env.resources.jobs.unwrap().value), ("arm64", 8));
    let lines: Vec<String> = env.resources.package_jobs.iter().map(|line| format!("{}: {:?}", line.line, line.value)).collect();
    assert_eq!(
        lines,
        ["1: PackageJobs { atom: \"dev-qt/*\", jobs: 2 }", "3: PackageJobs { atom: \">=net-libs/webkit-gtk-2:6\", jobs: 1 }"]
    );
    assert_eq!(env.resources.priority, Priority { nice: Some(10), io: Some(IoClass::BestEffort(6)) });
    let tmpfs = env.resources.tmpfs.unwrap();
    let on_disk: Vec<String> = tmpfs.on_disk.iter().map(|atom| format!("{}: {}", atom.line, atom.value)).collect();
    assert_eq!((tmpfs.size_bytes.value, on_disk), (4 << 30, vec!["1: dev-qt/*".to_owned(), "3: =dev-lang/rust-1.90*".to_owned()]));
    assert_eq!(env.sign_key.unwrap().value, "0xABCD");
    assert_eq!(pin_line("gentoo", &env.tree["gentoo"].value), "gentoo 20260801");
    let guru = "guru git https://example.org/guru.git 0123456789012345678901234567890123456789";
    assert_eq!(pin_line("guru", &env.tree["guru"].value), guru);
    let notes: Vec<&str> = env.notes.iter().map(|note| note.message.as_str()).collect();
    assert_eq!(
        notes,
        [
            "`stage_key` is the old name of `sign_key`; it is still read",
            "this file has no effect: builds run as the user who \
            starts them"
        ]
    );
}

#[test]
fn env_defaults_to_the_callers_architecture() {
    let (_dir, config) = config(&[]);
    let env = config.env("riscv").unwrap();
    assert_eq!(env.arch, "riscv");
    assert_eq!((env.ccache, config.ccache().unwrap()), (None, None));
    assert!(env.resources.jobs.is_none() && env.sign_key.is_none() && env.tree.is_empty() && env.notes.is_empty());
}

#[test]
fn everything_wrong_in_env_is_said_at_once() {
    let (dir, config) = config(&[
        ("env/arch", "amd46"),
        ("env/ccache", "10\n"),
        ("env/ionice", "realtime 0"),
        ("env/jobs", "many\n4\n2\na/b 0\n=a/b 2\na/b 2\na/b 3\n*/* 1\na/b 1 2\n"),
        ("env/nice", "-5"),
        ("env/sign_key", "A\nB\n"),
        ("env/sing_key", "A"),
        ("env/limits", "memory 4G\n"),
        ("env/tmpfs", "a/b\n10\n4G\n8G\na/b disk\na/b disk\n*/* disk\n=a/b disk\na/b memory\n"),
    ]);
    insta::assert_snapshot!(message(dir.path(), &config.env("amd64").unwrap_err()), @r"
    env/arch:1: `amd46` is no architecture of Gentoo
      hint: did you mean `amd64`?
    env/ccache:1: `10` is too small for a compiler cache
      hint: a size such as `5G`; without the file there is none
    env/ionice:1: `realtime 0` is no class of input and output: `idle`, or `best-effort` with a level from 0 to 7
    env/jobs:1: `many` is no number of jobs
    env/jobs:3: line 2 says `4` already
    env/jobs:4: `0` is no number of jobs
    env/jobs:5: `=a/b` has an operator but no version
    env/jobs:7: line 6 has `a/b` already
    env/jobs:8: `*/*` is every package
      hint: a line with the number alone is for all of them
    env/jobs:9: a line is `JOBS` or `ATOM JOBS`
      hint: for example `dev-qt/qtwebengine 2`
    env/nice:1: `-5` is no niceness: a number from 0 to 19, such as `10`
    env/sign_key:2: the file holds one value, and `B` is another one
      hint: the first value is `A` on line 1
    env/sing_key: warning: this setting is not known
      hint: did you mean `sign_key`?
    env/tmpfs:1: `a/b` is no size: a number with K, M, G or T, such as `4G`
    env/tmpfs:2: `10` is too small to compile in: a size such as `4G`
    env/tmpfs:3: warning: this is all the memory that `env/limits` leaves a session
      hint: compilers need some, too: the build is repeated on the disk when the limit is exceeded
    env/tmpfs:4: line 3 has the size already
    env/tmpfs:6: line 5 has `a/b` already
    env/tmpfs:7: `*/*` is every package
      hint: without the file, all are compiled on the disk
    env/tmpfs:8: `=a/b` has an operator but no version
    env/tmpfs:9: a line is `SIZE` or `ATOM disk`
      hint: for example `4G`, or `dev-qt/qtwebengine disk`
    ");
}

#[test]
fn reads_a_nested_stage3_definition() {
    let (_dir, config) = config(&[
        ("stage3.defines/gentoomuch/builder/cpu", "v3 # fast\n"),
        ("stage3.defines/gentoomuch/builder/portage.local", "\n# first\ngentoomuch/builder  \r\nmusl\n"),
        ("stage3.defines/gentoomuch/builder/packages", "@gentoomuch/builder\napp-misc/hello\n@world\n"),
        ("stage3.defines/gentoomuch/builder/portage.profile", "default/linux/amd64/23.0/musl\n"),
        ("stage3.defines/gentoomuch/builder/network", "=app-misc/live-9999\n"),
        ("stage3.defines/gentoomuch/README.md", "x"),
        ("stage3.defines/README.md", "x"),
        ("stage3.defines/plain/packages", ""),
        ("cpu.defines/v3/make.conf", "COMMON_FLAGS=\"-O2\"\n"),
        ("portage.locals/gentoomuch/builder/make.conf", "USE=\"a\"\n"),
        ("portage.locals/musl/make.conf", "USE=\"b\"\n"),
        ("package.sets/gentoomuch/builder", "sys-apps/a\n@tools\n"),
        ("package.sets/tools", "# t\nsys-apps/b\napp-misc/hello\n"),
    ]);
    assert_eq!(config.stage3_names(), ["gentoomuch/builder", "plain"]);
    let builder = config.stage3("gentoomuch/builder").unwrap();
    assert_eq!(builder.cpu.as_ref().unwrap().value, "v3");
    let locals: Vec<(&str, u32)> = builder.portage_locals.iter().map(|l| (l.value.as_str(), l.line)).collect();
    assert_eq!(locals, [("gentoomuch/builder", 3), ("musl", 4)]);
    let packages: Vec<String> = builder.packages.iter().map(|p| format!("{} {}", p.place(), p.value)).collect();
    assert_eq!(
        packages,
        [
            "package.sets/gentoomuch/builder:1 sys-apps/a",
            "package.sets/tools:2 sys-apps/b",
            "package.sets/tools:3 app-misc/hello",
            "stage3.defines/gentoomuch/builder/packages:3 @world",
        ]
    );
    assert_eq!(builder.portage_profile.as_ref().unwrap().value.path, "default/linux/amd64/23.0/musl");
    assert_ne!(builder.network, NetworkUse::default());
    assert!(builder.notes.is_empty(), "{:?}", builder.notes);
    assert_eq!(config.portage_dir(&builder).unwrap().variable("USE").as_deref(), Some("a b"));
}

#[test]
fn everything_wrong_in_a_definition_is_said_at_once() {
    let (dir, config) = config(&[
        ("stage3.defines/base/cpu", "generic-amd46\n"),
        ("stage3.defines/base/portage.local", "../x\nnothing\n"),
        ("stage3.defines/base/packages", "hello\n@loop\n@tols\ntools\n"),
        ("stage3.defines/base/scripts", "setup\n"),
        ("stage3.defines/base/portage.profile", "/etc\n"),
        ("stage3.defines/base/pakages", ""),
        ("cpu.defines/generic-amd64/make.conf", ""),
        ("package.sets/loop", "@pool\n"),
        ("package.sets/pool", "@loop\n"),
        ("package.sets/tools", "app-misc/a-1\n"),
        ("user.scripts/setup", "true\n"),
    ]);
    insta::assert_snapshot!(message(dir.path(), &config.stage3("base").unwrap_err()));
}

#[test]
fn the_old_name_of_portage_local_is_read() {
    let (_dir, config) = config(&[("stage3.defines/base/flags", "x\n"), ("portage.locals/x/make.conf", "")]);
    let base = config.stage3("base").unwrap();
    assert_eq!(base.portage_locals[0].value, "x");
    assert_eq!(base.notes[0].message, "`flags` is an old name");
}

#[test]
fn an_unknown_definition_names_its_neighbours() {
    let (dir, config) = config(&[("stage3.defines/plain/packages", ""), ("stage3.defines/gentoomuch/builder/packages", "")]);
    let error = config.stage3("plian").unwrap_err();
    assert_eq!(message(dir.path(), &error), "there is no stage3 definition `plian` in `stage3.defines`");
    let Error::Unknown { nearest, known, .. } = error else { panic!() };
    assert_eq!((nearest.as_deref(), known.len()), (Some("plain"), 2));
    assert!(matches!(config.stage3("../x"), Err(Error::Unknown { .. })));
}

#[test]
fn a_stage_is_a_stage4_before_it_is_a_stage3() {
    let (dir, config) = config(&[
        ("stage3.defines/web/packages", ""),
        ("stage3.defines/base/packages", ""),
        ("stage4.defines/web/profile", "demo\n"),
        ("stage4.defines/web/stage3", "base\n"),
    ]);
    assert_eq!(config.stage_names(), ["web", "base", "stage3:web"]);
    for (name, stage4, stage3, profile) in [
        ("web", true, "base", Some("demo")),
        ("stage4:web", true, "base", Some("demo")),
        ("stage3:web", false, "web", None),
        ("base", false, "base", None),
    ] {
        let stage = config.stage(name).unwrap();
        assert_eq!((stage.stage4.is_some(), stage.stage3.name.as_str(), stage.profile()), (stage4, stage3, profile), "{name}");
        assert_eq!(Some(stage.name()), name.split(':').next_back());
    }
    let error = config.stage("bse").unwrap_err();
    let text = error.to_string().replace(&dir.path().display().to_string(), "DIR");
    assert_eq!(text, "there is no stage4 or stage3 definition `bse` in `DIR`");
    let Error::Unknown { nearest, known, .. } = error else { panic!() };
    assert_eq!((nearest.as_deref(), known), (Some("base"), vec!["base".to_owned(), "web".to_owned()]));
}

#[test]
fn reads_a_stage4_definition() {
    let (_dir, config) = config(&[
        ("stage4.defines/web/profile", "demo"),
        ("stage4.defines/web/stage3", "plain"),
        ("stage4.defines/web/kconf", "server\n"),
        ("stage4.defines/web/packages", "www-servers/nginx\n"),
        ("stage4.defines/web/scripts", "setup\n"),
        ("stage4.defines/web/removes", "docs\n/usr/include\n"),
        ("stage4.defines/web/keep", "/etc/machine-id\n"),
        ("stage4.defines/web/format", "tar.zst\n"),
        ("stage4.defines/web/network", "*\n"),
        ("stage3.defines/plain/packages", ""),
        ("kernel.configs/server.kconf", "CONFIG_X=y\n"),
        ("user.scripts/setup", "#!/bin/sh\ntrue\n"),
        ("user.removes/docs", "# documentation\n/usr/share/doc\n/usr/share/man\n"),
    ]);
    let web = config.stage4("web").unwrap();
    assert_eq!((web.profile.value.as_str(), web.stage3.value.as_str()), ("demo", "plain"));
    assert_eq!(web.kconf.unwrap().value, Path::new("kernel.configs/server.kconf"));
    assert_eq!(web.scripts[0].contents, b"#!/bin/sh\ntrue\n");
    assert!(web.scripts[0].path.is_absolute());
    let removes: Vec<String> = web.removes.iter().map(|r| format!("{} {}", r.place(), r.value)).collect();
    assert_eq!(
        removes,
        ["user.removes/docs:2 /usr/share/doc", "user.removes/docs:3 /usr/share/man", "stage4.defines/web/removes:2 /usr/include"]
    );
    assert_eq!(web.keep[0].value.to_string(), "/etc/machine-id");
    assert_eq!(web.format.unwrap().value, ArtifactFormat::TarZst);
    assert_eq!(web.network.everything.unwrap().to_string(), "stage4.defines/web/network:1");
}

#[test]
fn everything_wrong_in_a_stage4_is_said_at_once() {
    let (dir, config) = config(&[
        ("stage4.defines/web/stage3", "plian"),
        ("stage4.defines/web/kconf", "sever\n"),
        ("stage4.defines/web/scripts", "/etc/passwd\n"),
        ("stage4.defines/web/removes", "docs\n/\n"),
        ("stage4.defines/web/keep", "etc\n"),
        ("stage4.defines/web/format", "zip\n"),
        ("stage3.defines/plain/packages", ""),
        ("kernel.configs/server.kconf", ""),
        ("user.removes/docs", "/usr/../etc\n"),
    ]);
    insta::assert_snapshot!(message(dir.path(), &config.stage4("web").unwrap_err()));
}

const BASE: (&str, &str) = ("stage3.defines/base/portage.local", "one\ntwo\n");

#[test]
fn merges_in_order_and_says_where_from() {
    let files = [
        BASE,
        ("stage3.defines/base/cpu", "v3\n"),
        (
            "cpu.defines/v3/make.conf",
            "COMMON_FLAGS=\"-O2 -march=x86-64-v3\"\nCFLAGS=\"${COMMON_FLAGS}\"\nCPU_FLAGS_X86=\"avx avx2\"\n",
        ),
        ("portage.global/make.conf", "USE=\"-X nls\"\nACCEPT_LICENSE=\"-* @FREE\"\nGENTOO_MIRRORS='http://a http://b'\n"),
        ("portage.global/package.use/base", "dev-lang/python sqlite\n*/* VIDEO_CARDS: amdgpu\n"),
        ("portage.global/README.md", "x"),
        ("portage.locals/one/make.conf/10-a", "USE=\"ssl \\\n  nls\"\n"),
        ("portage.locals/one/make.conf/20-b", "COMMON_FLAGS=\"${COMMON_FLAGS} -pipe\"\nACCEPT_LICENSE=\"linux-fw\"\n"),
        ("portage.locals/one/package.accept_keywords", "app-misc/a\napp-misc/b ~amd64\n"),
        ("portage.locals/one/package.mask", ">=app-misc/a-2\n"),
        ("portage.locals/two/make.conf", "USE=\"X\" # override\nMAKEOPTS=\"-j2\"\n"),
        ("portage.locals/two/package.use", "dev-lang/python -tk sqlite\n"),
        ("portage.locals/two/bashrc", "echo \"$1\"\n"),
        ("user.patches/fix/app-misc/a/0001-x.patch", "--- a\n"),
    ];
    let dir = merged(&files);
    let all: Vec<String> =
        dir.files.iter().map(|(path, bytes)| format!("==> {} <==\n{}", path.display(), String::from_utf8_lossy(bytes))).collect();
    insta::assert_snapshot!(all.join("\n"));
    assert_eq!(dir.variable("CFLAGS").as_deref(), Some("-O2 -march=x86-64-v3 -pipe"));
    assert_eq!(dir.variable("FFLAGS").as_deref(), Some("-O2 -march=x86-64-v3 -pipe"));
    assert_eq!(dir.variable("NOTHING"), None);
    let words = dir.located_words("CFLAGS").unwrap();
    assert_eq!(words[2].place().to_string(), "portage.locals/one/make.conf/20-b:1");
    let flags: Vec<String> = dir.cpu_flags().iter().map(|(name, flag)| format!("{name} {}", flag.value)).collect();
    assert_eq!(flags, ["CPU_FLAGS_X86 avx", "CPU_FLAGS_X86 avx2"]);
    assert_eq!(dir.digest(), merged(&files).digest());
    assert_eq!(
        dir.directories(),
        [
            (PathBuf::from("make.conf"), "10-stage3.conf"),
            (PathBuf::from("package.accept_keywords"), "10-stage3"),
            (PathBuf::from("package.mask"), "10-stage3"),
            (PathBuf::from("package.use"), "10-stage3"),
        ]
    );
}

#[test]
fn a_comment_changes_no_digest() {
    let before = merged(&[BASE, ("portage.locals/one/make.conf", "USE=\"a\"\n"), ("portage.locals/two/make.conf", "")]);
    let after = merged(&[BASE, ("portage.locals/one/make.conf", "# new\n\nUSE=\"a\"\n"), ("portage.locals/two/make.conf", "")]);
    assert_eq!(before.digest(), after.digest());
}

#[test]
fn contradictions_name_both_places() {
    let text = merge_error(&[
        BASE,
        ("portage.locals/one/make.conf", "\nUSE=\"X\n  ssl\"\nFEATURES=\"ccache\"\n"),
        ("portage.locals/two/make.conf", "USE=\"-ssl\"\nFEATURES=\"-*\"\n"),
        ("portage.locals/one/package.use", "a/b x\n"),
        ("portage.locals/two/package.use", "\na/b -x\n"),
        ("portage.locals/one/package.mask", "a/b\n=c/d-1\n"),
        ("portage.locals/two/package.mask", "-=c/d-1\n"),
        ("portage.locals/two/package.unmask", "a/b\n"),
        ("portage.locals/one/package.accept_keywords", "a/b\n"),
        ("portage.locals/two/package.accept_keywords", "a/b **\n"),
        ("portage.locals/one/env/x", "A=1\n"),
        ("portage.locals/two/env/x", "A=2\n"),
        ("portage.locals/one/bashrc", "1\n"),
        ("portage.locals/two/bashrc/x", "2\n"),
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn the_later_one_wins_with_override() {
    let dir = merged(&[
        BASE,
        ("portage.locals/one/make.conf", "USE=\"X ssl\"\nFEATURES=\"ccache\"\n"),
        ("portage.locals/two/make.conf", "USE=\"\n -ssl\n\" # override\nFEATURES=\"-* test\" # override: slow here\n"),
        ("portage.locals/one/package.use", "a/b x y\n"),
        ("portage.locals/two/package.use", "a/b -x # override\n"),
        ("portage.locals/one/package.mask", "a/b\nc/d\n"),
        ("portage.locals/two/package.unmask", "a/b # override\n"),
    ]);
    assert_eq!(dir.variable("USE").as_deref(), Some("X -ssl"));
    assert_eq!(dir.variable("FEATURES").as_deref(), Some("-* test"));
    let text = |name: &str| String::from_utf8(dir.files[Path::new(name)].clone()).unwrap();
    assert!(text("package.use/50-gentoomuch").ends_with("a/b y -x\n"));
    assert!(text("package.mask/50-gentoomuch").ends_with("\nc/d\n"));
    assert!(text("package.unmask/50-gentoomuch").ends_with("\na/b\n"));
}

#[test]
fn variables_mean_what_portage_makes_of_them() {
    for (one, two, variable, expected) in [
        // Within one fragment, the later assignment replaces.
        ("USE=\"a\"\nUSE=\"b\"\n", "", "USE", "b"),
        ("USE=\"a\"\nUSE=\"${USE} b\"\n", "", "USE", "a b"),
        ("USE=\"a -a\"\n", "", "USE", "-a"),
        // A captured value stays what it was when the fragment changes its mind.
        ("A=\"1\"\nB=\"${A}\"\nA=\"2\"\n", "", "B", "1"),
        ("B=\"x${A}\"\nA=\"2\"\n", "", "B", "x"),
        // Between fragments a reference sees the merged value.
        ("A=\"1\"\nB=\"<${A}>\"\n", "A=\"2\"\n", "B", "<2>"),
        ("B=\"<${A}>\"\n", "A=\"2\"\n", "B", "<2>"),
        ("A=\"1\"\n", "B=\"<${A}>\"\n", "B", "<1>"),
        ("A=\"1\"\n", "A=\"${A} 2\"\n", "A", "1 2"),
        ("A=\"1\"\n", "A=\"2\"\n", "A", "2"),
        ("", "A=\"${A} 2\"\n", "A", "2"),
        ("MY=\"a b\"\nUSE=\"${MY} c\"\n", "USE=\"${USE} d a\"\n", "USE", "a b c d"),
        ("USE=\"-* a\"\n", "USE=\"b\"\n", "USE", "-* a b"),
        ("PYTHON_SINGLE_TARGET=\"python3_12\"\n", "PYTHON_SINGLE_TARGET=\"python3_13\"\n", "PYTHON_SINGLE_TARGET", "python3_13"),
        ("source more.conf\nB=\"${A}\"\n", "", "B", "sourced"),
    ] {
        let dir = merged(&[
            BASE,
            ("portage.locals/one/make.conf", one),
            ("portage.locals/two/make.conf", two),
            ("portage.locals/one/more.conf", "A=\"sourced\"\n"),
        ]);
        assert_eq!(dir.variable(variable).as_deref(), Some(expected), "{one:?} {two:?}");
    }
}

#[test]
fn what_the_stage3_sets_can_be_extended() {
    let dir = merged(&[
        BASE,
        ("portage.locals/one/make.conf", "COMMON_FLAGS=\"${COMMON_FLAGS} -g\"\nUSE=\"${USE} x\"\n"),
        ("portage.locals/two/make.conf", ""),
    ]);
    let text = dir.make_conf();
    assert!(text.contains("\nCOMMON_FLAGS=\"${COMMON_FLAGS} -g\"\n"), "{text}");
    assert!(text.contains("\nUSE=\"${USE} x\"\n"), "{text}");
}

#[test]
fn what_portage_could_not_read_is_an_error() {
    let text = merge_error(&[
        BASE,
        ("portage.locals/one/make.conf", "A=\"${B}\"\nMAKEOPTS=\"-j$(nproc)\"\n"),
        ("portage.locals/one/package.use", "hello x\n"),
        ("portage.locals/two/make.conf", "USE=\"a,b\"\nX=\"${Y}\"\nGREETING=\"${GREETING} ${WHO}\"\nsource /etc/portage/x\n"),
        ("portage.locals/two/make.profile/parent", "x\n"),
        ("portage.global/make.conf", "Y=\"${X}\"\nGREETING=\"it's me\"\n"),
        ("user.patches/fix/x.patch", "\n"),
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn files_of_env_are_read_as_portage_reads_them() {
    let text = merge_error(&[
        BASE,
        ("portage.locals/one/package.env", "a/b good bad ../x\nc/d bad\n"),
        ("portage.locals/one/env/good", "CFLAGS=\"-O1\"\n"),
        ("portage.locals/one/env/bad", "# Bash only\nif [ -n \"$X\" ]; then\n"),
        // Sourced by bash for one category, whatever Portage would make of it.
        ("portage.locals/one/env/dev-qt/qtbase", "if true; then :; fi\n"),
        ("portage.locals/two/make.conf", "source more\n"),
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn expanded_variables_know_no_minus_in_make_conf() {
    let dir = merged(&[
        BASE,
        ("portage.locals/one/make.conf", "VIDEO_CARDS=\"amdgpu nouveau\"\nL10N=\"-de\"\n"),
        (
            "portage.locals/two/make.conf",
            "VIDEO_CARDS=\"-nouveau\" # override\nPYTHON_TARGETS=\"-*\"\nINPUT_DEVICES=\"-x\" # override\n",
        ),
    ]);
    for (name, value) in [("VIDEO_CARDS", "amdgpu"), ("L10N", ""), ("PYTHON_TARGETS", ""), ("INPUT_DEVICES", "")] {
        assert_eq!(dir.variable(name).as_deref(), Some(value));
        assert!(dir.make_conf().contains(&format!("\n{name}=\"{value}\"\n")), "{}", dir.make_conf());
    }
    let notes: Vec<&str> = dir.notes.iter().map(|note| note.message.as_str()).collect();
    assert_eq!(notes, ["`-de` has no effect: `L10N` replaces what the Portage profile has"]);
}

#[test]
fn a_value_of_an_earlier_fragment_is_not_that_of_this_one() {
    let dir = merged(&[
        BASE,
        ("portage.locals/one/make.conf", "A=\"1\"\nLIST=\"x\"\n"),
        ("portage.locals/two/make.conf", "B=\"<${A}>\"\nA=\"2\"\nUSE=\"${MINE} y\"\nMINE=\"z\"\n"),
    ]);
    assert_eq!((dir.variable("B").as_deref(), dir.variable("A").as_deref()), (Some("<1>"), Some("2")));
    assert_eq!(dir.variable("USE").as_deref(), Some("y"));
}

#[test]
fn of_files_for_a_package_the_last_one_named_wins() {
    let dir = merged(&[
        BASE,
        ("portage.locals/one/package.env", "a/b one two\n"),
        ("portage.locals/two/package.env", "a/b one\n"),
        ("portage.locals/two/env/one", ""),
        ("portage.locals/two/env/two", ""),
    ]);
    let text = String::from_utf8(dir.files[Path::new("package.env/50-gentoomuch")].clone()).unwrap();
    assert!(text.ends_with("a/b two one\n"), "{text}");
}

#[test]
fn long_lists_are_united_as_short_ones() {
    let flags = |range: std::ops::Range<u32>| range.map(|n| format!("flag{n}")).collect::<Vec<_>>().join(" ");
    let dir = merged(&[
        BASE,
        ("portage.locals/one/make.conf", &format!("USE=\"{}\"\n", flags(0..100))),
        ("portage.locals/two/make.conf", &format!("USE=\"{} -flag7 flag0\" # override\n", flags(50..150))),
    ]);
    let value = dir.variable("USE").unwrap();
    assert_eq!(value.split(' ').count(), 150);
    assert!(value.starts_with("flag0 flag1 ") && value.contains("flag6 flag8 ") && value.ends_with(" flag149 -flag7"), "{value}");
    let cleared = merged(&[
        BASE,
        ("portage.locals/one/make.conf", &format!("USE=\"{}\"\n", flags(0..100))),
        ("portage.locals/two/make.conf", "USE=\"-* flag3\" # override\n"),
    ]);
    assert_eq!(cleared.variable("USE").as_deref(), Some("-* flag3"));
}

#[test]
fn links_do_not_lead_out() {
    let (dir, config) = config(&[BASE, ("portage.locals/one/make.conf", ""), ("portage.locals/two/make.conf", "")]);
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("portage.locals/two/bashrc")).unwrap();
    let error = config.portage_dir(&config.stage3("base").unwrap()).unwrap_err();
    assert_eq!(
        message(dir.path(), &error),
        "portage.locals/two/bashrc: cannot read: the link leads out of the configuration directory"
    );
}

#[test]
fn check_names_what_is_never_read() {
    let (dir, config) = config(&[
        ("kernel.defines/x/config", ""),
        ("portage.local/x/make.conf", ""),
        ("stage3.defines/base/cpu", "none\n"),
        ("hooks/finish.d/x", "#!/bin/sh\n"),
        ("README.md", ""),
    ]);
    let all = Error::Invalid(config.check("amd64").into());
    insta::assert_snapshot!(message(dir.path(), &all));
}

#[test]
fn the_shipped_configuration_is_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let config = ConfigDir::open(&root).unwrap();
    assert_eq!(config.check("amd64"), []);
    let builder = config.stage3(BUILDER).unwrap();
    assert!(!config.portage_dir(&builder).unwrap().files.is_empty());
    let hello = config.stage4("hello").unwrap();
    assert_eq!(hello.profile.value, "demo");
    assert!(!hello.packages.is_empty() && !hello.scripts.is_empty() && !hello.removes.is_empty());
}

#[test]
fn pins_that_are_none_are_said_with_their_lines() {
    let lines = "guru main\nguru git https://example.org/o stable\na b c\nguru hg https://x y\n../x 20260811\n\
                 gentoo rsync rsync://example.org/x 20260811\ngentoo 20260811\n20260812\n0123abcd\n";
    let (dir, config) = config(&[("env/tree", lines)]);
    insta::assert_snapshot!(message(dir.path(), &config.env("amd64").unwrap_err()));
}

#[test]
fn a_pin_is_written_where_the_old_one_was() {
    let (dir, config) = config(&[("env/tree", "# ours\n20260811 # tested\nguru 20260101\n")]);
    let new = |rev: &str| TreePin { source: None, rev: source::Revision::parse(rev).unwrap() };
    let place = write_pin(dir.path(), "gentoo", &new("20261101")).unwrap();
    assert_eq!(place.to_string(), "env/tree:2");
    assert_eq!(write_pin(dir.path(), "other", &new("20261102")).unwrap().to_string(), "env/tree:4");
    let text = fs::read_to_string(dir.path().join("env/tree")).unwrap();
    assert_eq!(text, "# ours\ngentoo 20261101  # tested\nguru 20260101\nother 20261102\n");
    assert_eq!(config.env("amd64").unwrap().tree.len(), 3);
}
