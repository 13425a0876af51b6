//! What is installed, and the packages that are made of it. `scripts/test-packages` tries what takes minutes: the static program, and the
//! ebuilds on the testbed.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::program::{Home, copy, repository};

const PROGRAM: &str = env!("CARGO_BIN_EXE_gentoomuch");

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn skip(why: &str) {
    assert!(std::env::var_os("GENTOOMUCH_TEST_STRICT").is_none_or(|value| value != "1"), "must not be skipped: {why}");
    eprintln!("skipped: {why}");
}

/// Runs a script of the checkout as on a shell with nothing but a `PATH`.
fn script(name: &str, args: &[&Path], variables: &[(&str, &Path)]) -> Output {
    let mut command = Command::new(repository().join(name));
    command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", "/nonexistent").env("DEB_LEVEL", "0");
    command.envs(variables.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// The files below `dir` with their modes.
fn files(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let mode = path.symlink_metadata().unwrap().permissions().mode() & 0o7777;
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(format!("{mode:04o} {}", path.strip_prefix(dir).unwrap().display()));
            }
        }
    }
    found
}

/// All but the man pages of commands, the configuration and the hooks, which are many.
const INSTALLED: [&str; 11] = [
    "0644 usr/share/bash-completion/completions/gentoomuch",
    "0644 usr/share/doc/gentoomuch/CHANGELOG.md",
    "0644 usr/share/doc/gentoomuch/LICENSE",
    "0644 usr/share/doc/gentoomuch/README.md",
    "0644 usr/share/doc/gentoomuch/SECURITY.md",
    "0644 usr/share/fish/vendor_completions.d/gentoomuch.fish",
    "0644 usr/share/gentoomuch/config/README.md",
    "0644 usr/share/man/man1/gentoomuch.1",
    "0644 usr/share/man/man5/gentoomuch-config.5",
    "0644 usr/share/zsh/site-functions/_gentoomuch",
    "0755 usr/bin/gentoomuch",
];

#[test]
fn everything_is_installed() {
    let out = tempfile::tempdir().unwrap();
    let output =
        script("scripts/install", &[], &[("BINARY", Path::new(PROGRAM)), ("DESTDIR", out.path()), ("PREFIX", Path::new("/usr"))]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "");
    let mut found = files(out.path());
    let trees = [
        ("config", "usr/share/gentoomuch/config"),
        ("rootfs-hooks", "usr/share/gentoomuch/rootfs-hooks"),
        ("docs/json", "usr/share/doc/gentoomuch/json"),
    ];
    for (shipped, installed) in trees {
        let names = |files: &BTreeSet<String>| files.iter().map(|file| file[5..].to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&files(&repository().join(shipped))), names(&files(&out.path().join(installed))));
        found.retain(|file| !file.contains(installed) || file.ends_with("/config/README.md"));
    }
    found.retain(|file| !file.contains("/man1/gentoomuch-"));
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), INSTALLED);
    assert_eq!(fs::read(out.path().join("usr/bin/gentoomuch")).unwrap(), fs::read(PROGRAM).unwrap());
}

#[test]
fn below_a_home_nothing_lies_where_the_program_keeps_its_data() {
    let home = tempfile::tempdir().unwrap();
    let prefix = home.path().join(".local");
    let output = script("scripts/install", &[], &[("BINARY", Path::new(PROGRAM)), ("HOME", home.path()), ("PREFIX", &prefix)]);
    let said = format!(
        "install: hooks and configuration are not copied into {0}/share/gentoomuch, which is for data; `gentoomuch init` writes yours\n\
         install: installed below {0}\n",
        prefix.display()
    );
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), said));
    assert!(prefix.join("bin/gentoomuch").exists() && prefix.join("share/man/man1/gentoomuch.1").exists());
    assert!(!prefix.join("share/gentoomuch").exists());
}

#[test]
fn a_program_that_is_not_there_is_not_installed() {
    let out = tempfile::tempdir().unwrap();
    let output = script("scripts/install", &[], &[("BINARY", Path::new("/nonexistent/gentoomuch")), ("DESTDIR", out.path())]);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(1), "install: no program: /nonexistent/gentoomuch\n"));
    assert!(files(out.path()).is_empty());
}

/// The program without what debuggers want, which is three quarters of it.
fn stripped(dir: &Path) -> PathBuf {
    let path = dir.join("gentoomuch");
    succeeds(Command::new("strip").arg("-o").arg(&path).arg(PROGRAM));
    path
}

#[test]
fn a_debian_package_has_it_all_and_runs() {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        skip("no dpkg-deb");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let program = stripped(dir.path());
    let [first, second] = ["first", "second"].map(|name| {
        let output = script("packaging/debian/build", &[&program, &dir.path().join(name)], &[]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        PathBuf::from(text(&output.stdout).trim_end())
    });
    assert_eq!(first.file_name().unwrap().to_str().unwrap().split('_').nth(1), Some(env!("CARGO_PKG_VERSION")));
    assert!(fs::read(&first).unwrap() == fs::read(second).unwrap(), "the same program makes another package");

    let field = |name| succeeds(Command::new("dpkg-deb").arg("--field").arg(&first).arg(name));
    assert_eq!(field("Package"), "gentoomuch\n");
    assert_eq!(field("Version"), concat!(env!("CARGO_PKG_VERSION"), "\n"));
    let depends = field("Depends");
    assert!(depends.starts_with("uidmap"), "{depends}");
    assert_eq!(depends.contains("libc6 (>= 2."), cfg!(target_env = "gnu"), "{depends}");
    let contents = succeeds(Command::new("dpkg-deb").arg("--contents").arg(&first));
    for line in contents.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        assert!(["drwxr-xr-x", "-rwxr-xr-x", "-rw-r--r--"].contains(&words[0]) && words[1] == "root/root", "{line}");
    }

    let root = dir.path().join("root");
    succeeds(Command::new("dpkg-deb").arg("--raw-extract").arg(&first).arg(&root));
    succeeds(Command::new("md5sum").args(["--check", "--quiet", "DEBIAN/md5sums"]).current_dir(&root));
    for file in ["man/man1/gentoomuch-stage-build.1.gz", "zsh/vendor-completions/_gentoomuch", "doc/gentoomuch/copyright"] {
        assert!(root.join("usr/share").join(file).is_file(), "{file}");
    }
    let home = Home::empty();
    let installed = || {
        let mut command = Command::new(root.join("usr/bin/gentoomuch"));
        command.env_clear().env("HOME", home.path());
        command
    };
    assert_eq!(succeeds(installed().arg("--version")), concat!("gentoomuch ", env!("CARGO_PKG_VERSION"), "\n"));
    succeeds(installed().arg("init"));
    assert!(home.config().join("README.md").is_file());
}

#[test]
fn the_ebuild_names_the_crates_of_the_lock_file() {
    if !Command::new("python3").args(["-c", "import tomllib"]).output().is_ok_and(|output| output.status.success()) {
        skip("no python3 with tomllib");
        return;
    }
    let check = |top: &Path| Command::new(top.join("packaging/gentoo/update")).arg("--check").output().unwrap();
    let output = check(&repository());
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));

    let top = tempfile::tempdir().unwrap();
    copy(&repository().join("packaging/gentoo"), &top.path().join("packaging/gentoo"));
    for name in ["Cargo.toml", "Cargo.lock", "deny.toml"] {
        fs::copy(repository().join(name), top.path().join(name)).unwrap();
    }
    assert!(check(top.path()).status.success());
    let lock = fs::read_to_string(top.path().join("Cargo.lock")).unwrap();
    let begin = lock.find("name = \"libc\"\nversion = \"").unwrap();
    let changed = format!("{}{}", &lock[..begin], lock[begin..].replacen("version = \"", "version = \"9.", 1));
    fs::write(top.path().join("Cargo.lock"), changed).unwrap();
    let output = check(top.path());
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(1), "update: run packaging/gentoo/update\n"));
    assert!(text(&output.stdout).contains("\n+\tlibc@9."), "{}", text(&output.stdout));
}

#[test]
fn ebuilds_are_bash() {
    for name in ["gentoomuch", "gentoomuch-bin"] {
        let ebuild = format!("packaging/gentoo/app-admin/{name}/{name}-{}.ebuild", env!("CARGO_PKG_VERSION"));
        succeeds(Command::new("bash").arg("-n").arg(repository().join(ebuild)));
    }
}

#[test]
fn a_program_that_needs_a_loader_is_not_static() {
    let output = script("scripts/static", &[Path::new("--check"), Path::new("/bin/sh")], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).ends_with("static: not static: /bin/sh\n"), "{}", text(&output.stderr));
}

/// A machine of a kind for which Rust has no library.
#[test]
fn where_no_static_program_can_be_built_the_reason_is_said() {
    let bin = tempfile::tempdir().unwrap();
    fs::write(bin.path().join("uname"), "#!/bin/sh\necho vax\n").unwrap();
    fs::set_permissions(bin.path().join("uname"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.path().display(), std::env::var("PATH").unwrap());
    let output =
        Command::new(repository().join("scripts/static")).env("PATH", path).env("GENTOOMUCH_NO_INSTALL", "1").output().unwrap();
    assert_eq!(output.status.code(), Some(77), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("`make static` needs"), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "");
}
