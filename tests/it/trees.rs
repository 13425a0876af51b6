//! Ebuild trees from real servers: git over HTTP, rsync, signed snapshots; pins, overlays, and what each refusal says.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::child;
use crate::gpg::Gpg;
use crate::place::{Place, Ran, command_line, copy, finish, shipped_config};
use crate::serve::{Http, http, rsyncd};
use crate::{host, shared};

/// A place that trusts a key, an upstream repository signed with it, and a server.
struct World {
    place: Place,
    gpg: Gpg,
    key: String,
    http: Http,
    /// `git/main.git`'s work tree.
    upstream: PathBuf,
}

fn world() -> Option<World> {
    let place = Place::new()?;
    if !host::has("gpg") || !host::has("git") {
        return None;
    }
    copy(&shipped_config(), &place.config);
    let gpg = Gpg::new();
    let key = gpg.key("Upstream <upstream@example.org>", "never");
    gpg.export(&key, &place.path("upstream.asc"));
    place.run(&["keys", "import", "--trust", "upstream.asc"]).ok();
    let upstream = place.path("www/git/main");
    let http = http(&place.path("www"));
    let world = World { place, gpg, key, http, upstream };
    world.write("profiles/repo_name", "gentoo\n");
    world.write("app-misc/a/a-1.ebuild", "EAPI=8\n");
    world.git(&["init", "--quiet", "--initial-branch=main", "."]);
    world.commit("one", true);
    Some(world)
}

impl World {
    fn write(&self, name: &str, text: &str) {
        let path = self.upstream.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn git(&self, args: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args([
            "-c",
            "user.name=U",
            "-c",
            "user.email=upstream@example.org",
            "-c",
            &format!("user.signingkey={}", self.key),
        ]);
        command.arg("-C").arg(&self.upstream).args(args).env_clear();
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("GNUPGHOME", &self.gpg.home).env("HOME", &self.place.dir);
        String::from_utf8(child::check(&mut command)).unwrap().trim().to_owned()
    }

    fn commit(&self, message: &str, signed: bool) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", if signed { "-S" } else { "--no-gpg-sign" }, "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn from(&self) -> String {
        format!("git+{}", self.http.url("git/main/.git"))
    }

    fn sync(&self, args: &[&str]) -> Ran {
        self.place.run(&[&["sync"], args].concat())
    }

    /// Every file of the store's trees, with mode and time.
    fn trees(&self) -> String {
        let mut find = Command::new("find");
        find.arg(self.place.store().join("trees")).args(["-path", "*/fs/*", "-type", "f", "-printf", "%P %m %Ts\\n"]);
        String::from_utf8(child::check(&mut find)).unwrap()
    }
}

#[test]
fn a_signed_commit_becomes_a_snapshot_once() {
    let Some(world) = world() else { return };
    let from = world.from();
    let first = crate::place::run(&mut world.place.command_with_umask("077", &["sync", "--from", &from])).ok();
    let commit = world.git(&["rev-parse", "HEAD"]);
    assert_eq!((first.value("rev"), first.value("signer")), (commit.clone(), world.key.clone()));
    first.says("has no metadata/md5-cache: Portage will run its ebuild");
    let time = world.git(&["log", "-1", "--format=%ct"]);
    let files = world.trees();
    assert!(files.contains(&format!("a-1.ebuild 644 {time}\n")), "{files}");
    assert!(!files.contains(".git"));
    let again = world.sync(&["--from", &from]).ok();
    assert!(again.text().contains("(unchanged)"));
    // A newer commit, then the old one by its name, without asking anybody.
    world.write("app-misc/a/a-2.ebuild", "EAPI=8\n");
    world.write("metadata/md5-cache/app-misc/a-2", "EAPI=8\n");
    world.git(&["tag", "v1"]);
    let second = world.commit("two", true);
    assert_eq!(world.sync(&["--from", &from]).ok().value("rev"), second);
    let asked = world.http.requests.load(Ordering::Relaxed);
    world.sync(&["--from", &format!("{from}#{commit}"), "--name", "gentoo"]).ok();
    assert_eq!(world.http.requests.load(Ordering::Relaxed), asked);
    assert_eq!(world.sync(&["--from", &format!("{from}#v1")]).ok().value("rev"), commit);
    let listed = world.place.run(&["tree", "ls"]).ok().text();
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(listed.contains("gentoo (latest)") && listed.contains(&world.key[24..]), "{listed}");
    let difference = world.place.run(&["tree", "diff", &commit[..8], &second[..8]]).ok().text();
    assert!(difference.contains("packages\n  app-misc/a  +2\n"), "{difference}");
}

#[test]
fn who_vouches_for_a_commit_is_asked() {
    let Some(world) = world() else { return };
    let from = world.from();
    let other = world.gpg.key("Stranger <stranger@example.org>", "never");
    world.write("x", "x");
    world.git(&["add", "--all"]);
    world.git(&["commit", "--quiet", &format!("-S{other}"), "-m", "by a stranger"]);
    world.sync(&["--from", &from]).fails(4).says("error: cannot trust `commit ").says(&other).says("keys import FILE");
    world.write("x", "y");
    let commit = world.commit("unsigned", false);
    world.sync(&["--from", &from]).fails(4).says("its commit has no signature of a trusted key").says("--allow-unsigned REASON");
    let reason = world.sync(&["--from", &from, "--allow-unsigned", "trying it"]).ok().says("accepted because: trying it");
    assert_eq!((reason.value("rev"), reason.value("signer")), (commit, "nobody".to_owned()));
    // Whoever names the whole commit knows what it is.
    world.write("x", "z");
    let pinned = world.commit("unsigned again", false);
    let ran = world.sync(&["--from", &format!("{from}#{pinned}")]).ok();
    assert_eq!((ran.value("rev"), ran.value("signer")), (pinned, "nobody; it is what the pin says".to_owned()));
    // A signature of something else.
    world.write("x", "forged");
    let forged = world.commit("good", true);
    let raw = world.git(&["cat-file", "commit", &forged]).replace("\ngood", "\nbad");
    fs::write(world.place.path("raw"), raw + "\n").unwrap();
    let forged = world.git(&["hash-object", "-t", "commit", "-w", world.place.path("raw").to_str().unwrap()]);
    world.git(&["update-ref", "refs/heads/forged", &forged]);
    for extra in [&[][..], &["--allow-unsigned", "x"]] {
        world.sync(&[&["--from", &format!("{from}#forged")][..], extra].concat()).fails(4).says("bad signature");
    }
}

#[test]
fn a_server_that_has_not_what_is_asked_for() {
    let Some(world) = world() else { return };
    let from = world.from();
    world.sync(&["--from", &format!("{from}#mian")]).fails(2).says("there is no revision `mian`").says("did you mean `main`?");
    let commit = "0123456789012345678901234567890123456789";
    world.sync(&["--from", &format!("{from}#{commit}")]).fails(1).says("does not serve the commit 0123456789");
    let nothing = format!("git+{}", world.http.url("git/nothing"));
    world.sync(&["--from", &nothing]).fails(1).says("`git fetch ").says("not found");
    world.sync(&["--from", "git+ext::sh -c x"]).fails(2).says("has a space or a control character");
    world.sync(&["--from", "nothing-here"]).fails(2).says("cannot open `");
    let offline = world.place.run(&["--offline", "sync", "--from", &from]).fails(1);
    offline.says("downloads are switched off").says("without `--offline`");
    world.git(&["rm", "--quiet", "profiles/repo_name"]);
    world.commit("nameless", true);
    world.sync(&["--from", &from]).fails(2).says("is not an ebuild repository: it has no `profiles/repo_name`");
}

#[test]
fn hostile_repositories_run_nothing_and_write_nowhere_else() {
    let Some(world) = world() else { return };
    let touched = world.place.path("touched");
    let evil = format!("#!/bin/sh\ntouch '{}'\n", touched.display());
    // Settings of the user's that would run something, hooks in a template, attributes that ask for filters.
    fs::create_dir_all(world.place.path("home/template/hooks")).unwrap();
    for hook in ["post-checkout", "reference-transaction", "post-index-change", "fsmonitor-watchman"] {
        let path = world.place.path("home/template/hooks").join(hook);
        fs::write(&path, &evil).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let script = world.place.path("home/template/hooks/post-checkout").display().to_string();
    let settings = format!(
        "[init]\ntemplateDir = {0}\n[core]\nhooksPath = {0}/hooks\nfsmonitor = \"'{1}'\"\n[filter \"evil\"]\nsmudge = \"'{1}'\"\n\
         [credential]\nhelper = \"!'{1}'\"\n",
        world.place.path("home/template").display(),
        script
    );
    fs::write(world.place.path("home/.gitconfig"), settings).unwrap();
    world.write(".gitattributes", "* filter=evil\n*.ebuild export-ignore\n");
    std::os::unix::fs::symlink("/etc/hostname", world.upstream.join("profiles/outside")).unwrap();
    std::os::unix::fs::symlink("../../../../../..", world.upstream.join("up")).unwrap();
    world.commit("attributes", true);
    world.sync(&["--from", &world.from()]).ok();
    assert!(!touched.exists());
    // A path that would land in a `.git`: refused when it is received.
    let blob = world.git(&["rev-parse", "HEAD:profiles/repo_name"]);
    fs::write(world.place.path("entry"), format!("100644 blob {blob}\t.GIT\n")).unwrap();
    let mut mktree = Command::new("git");
    mktree.arg("-C").arg(&world.upstream).arg("mktree").env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    let tree = child_with_input(&mut mktree, &world.place.path("entry"));
    let commit = world.git(&["commit-tree", "-S", "-m", "evil", tree.trim()]);
    world.git(&["update-ref", "refs/heads/evil", &commit]);
    world.sync(&["--from", &format!("{}#evil", world.from())]).fails(1).says("hasDotgit");
}

fn child_with_input(command: &mut Command, input: &Path) -> String {
    let mut running = child::spawn(command.stdin(fs::File::open(input).unwrap()));
    drop(running.child().stdin.take());
    let output = running.output();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_interrupted_or_killed_sync_leaves_nothing_and_the_next_one_works() {
    let Some(world) = world() else { return };
    let slow = format!("git+{}", world.http.url("git/slow/.git"));
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let mut command = world.place.command(&["sync", "--from", &slow]);
        let running = child::spawn(&mut command);
        let pid = running.id();
        let since = Instant::now();
        while !has_child(pid, "git") {
            assert!(since.elapsed() < Duration::from_mins(4), "git does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
        let ran = finish(command_line(&command), running);
        if signal == Signal::SIGINT {
            ran.fails(130);
        }
        child::assert_no_strangers();
    }
    // What a git that was killed would have left.
    world.sync(&["--from", &world.from()]).ok();
    let mut mirrors = fs::read_dir(world.place.path("cache/repos")).unwrap().flatten().map(|entry| entry.path());
    let mirror = mirrors.find(|path| path.join("shallow").is_file()).unwrap();
    fs::write(mirror.join("shallow.lock"), "").unwrap();
    fs::write(mirror.join("objects/pack/tmp_pack_x"), "x").unwrap();
    world.write("more", "x");
    let commit = world.commit("more", true);
    assert_eq!(world.sync(&["--from", &world.from()]).ok().value("rev"), commit);
    // A cache is made again.
    fs::write(mirror.join("HEAD"), "nonsense").unwrap();
    fs::remove_dir_all(mirror.join("refs")).unwrap();
    world.write("more", "y");
    world.commit("more", true);
    world.sync(&["--from", &world.from()]).ok();
    world.place.assert_tidy();
}

/// Whether `pid` has a child of this name.
fn has_child(pid: u32, name: &str) -> bool {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let comm = |child: &str| fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
    children.split_whitespace().any(|child| comm(child).trim() == name)
}

#[test]
fn programs_that_are_missing_are_named() {
    let Some(world) = world() else { return };
    let dir = world.place.path("bin");
    fs::create_dir_all(&dir).unwrap();
    for tool in ["newuidmap", "newgidmap"] {
        let found = ["/usr/bin", "/bin", "/usr/local/bin"].iter().map(|dir| Path::new(dir).join(tool)).find(|path| path.exists());
        std::os::unix::fs::symlink(found.unwrap(), dir.join(tool)).unwrap();
    }
    for (from, program) in [(world.from(), "git"), ("rsync://127.0.0.1:9/x".to_owned(), "rsync")] {
        let mut command = world.place.command(&["sync", "--from", &from]);
        crate::place::run(command.env("PATH", &dir))
            .fails(1)
            .says(&format!("cannot find `{program}`"))
            .says(&format!("install {program}"));
    }
}

/// A Manifest of every file, signed.
fn sign_tree(world: &World, tree: &Path, day: &str) {
    let mut text = format!("TIMESTAMP {day}T00:00:00Z\nIGNORE local\n");
    let list = String::from_utf8(child::check(Command::new("find").arg(tree).args(["-type", "f", "-printf", "%P %s\\n"]))).unwrap();
    for line in list.lines().filter(|line| !line.starts_with("Manifest ") && !line.starts_with("local")) {
        let (name, size) = line.rsplit_once(' ').unwrap();
        let sum = String::from_utf8(child::check(Command::new("b2sum").arg(tree.join(name)))).unwrap();
        text.push_str(&format!("DATA {name} {size} BLAKE2B {}\n", sum.split(' ').next().unwrap()));
    }
    drop(fs::remove_file(tree.join("Manifest")));
    world.gpg.clear_sign(&world.key, &text, &tree.join("Manifest"), None);
}

#[test]
fn what_comes_by_rsync_is_held_against_its_manifests() {
    let Some(world) = world() else { return };
    if !host::has("rsync") {
        return;
    }
    let tree = world.place.path("module");
    for (name, text) in [("profiles/repo_name", "gentoo\n"), ("app-misc/a/a-1.ebuild", "EAPI=8\n"), ("local/x", "not sent")] {
        world.place.write(&format!("module/{name}"), text);
    }
    let server = rsyncd(&world.place.dir, &[("gentoo", tree.clone())]);
    let from = server.url("gentoo");
    world.sync(&["--from", &from]).fails(4).says("it has no signed Manifest at its top");
    sign_tree(&world, &tree, "2026-08-11");
    for (change, words) in [
        ("app-misc/a/a-1.ebuild", "`app-misc/a/a-1.ebuild` has other contents"),
        ("app-misc/a/a-2.ebuild", "`app-misc/a/a-2.ebuild` is in no Manifest"),
    ] {
        let before = fs::read(tree.join(change)).ok();
        fs::write(tree.join(change), "EAPI=9\n").unwrap();
        world.sync(&["--from", &from]).fails(4).says(words).says("in the middle of an update");
        match before {
            Some(before) => fs::write(tree.join(change), before).unwrap(),
            None => fs::remove_file(tree.join(change)).unwrap(),
        }
    }
    let ran = world.sync(&["--from", &from]).ok().says("comparing the tree with its Manifests");
    assert_eq!(ran.value("signer"), world.key);
    let digest = ran.value("rev");
    assert!(digest.starts_with("sha256:") && !world.trees().contains("local"));
    // What has the same signed Manifest is the tree that is here: nothing else is asked for.
    fs::write(tree.join("app-misc/a/a-1.ebuild"), "EAPI=9\n").unwrap();
    let again = world.sync(&["--from", &from]).ok().says_nothing_of("comparing the tree with its Manifests");
    assert!(again.text().contains("(unchanged)") && again.value("rev") == digest, "{again}");
    fs::write(tree.join("app-misc/a/a-1.ebuild"), "EAPI=8\n").unwrap();
    // A pin says what it is, until the server has moved on.
    let config = world.place.config.join("env/tree");
    world.sync(&["--from", &from, "--pin", "latest"]).ok();
    assert_eq!(fs::read_to_string(&config).unwrap(), format!("gentoo rsync {from} {digest}\n"));
    world.place.run(&["tree", "rm", &format!("gentoo/{}", digest.replace(':', "-"))]).ok();
    world.place.run(&["tree", "rm", "gentoo"]).ok();
    world.sync(&["gentoo"]).ok();
    fs::write(tree.join("app-misc/a/a-1.ebuild"), "EAPI=8\n# moved on\n").unwrap();
    sign_tree(&world, &tree, "2026-08-11");
    world.sync(&["gentoo"]).ok();
    world.place.run(&["tree", "rm", &format!("gentoo/{}", digest.replace(':', "-"))]).fails(0);
    world.place.run(&["tree", "rm", "gentoo"]).ok();
    world.sync(&["gentoo"]).fails(4).says(&format!("is not `{digest}`")).says("`--pin latest`");
    // An older one, whatever the times of its files say.
    world.sync(&["--from", &from]).ok();
    sign_tree(&world, &tree, "2026-08-10");
    world.sync(&["--from", &from]).ok().says("this `gentoo` is older than the one before");
    let mut dead = world.place.command(&["sync", "--from", "rsync://127.0.0.1:9/x"]);
    crate::place::run(&mut dead).fails(1).says("`rsync ").says("onnection refused");
}

#[test]
fn what_no_manifest_lists_and_what_looks_the_same_is_what_the_server_has() {
    let Some(world) = world() else { return };
    if !host::has("rsync") {
        return;
    }
    let tree = world.place.path("module");
    for (name, text) in [("profiles/repo_name", "gentoo\n"), ("app-misc/a/a-1.ebuild", "EAPI=8\n")] {
        world.place.write(&format!("module/{name}"), text);
    }
    let server = rsyncd(&world.place.dir, &[("gentoo", tree.clone()), ("mirror", tree.clone())]);
    let (from, mirror) = (server.url("gentoo"), server.url("mirror"));
    // To rsync, a file of the same size and time is the same.
    let sign = || {
        sign_tree(&world, &tree, "2026-08-11");
        child::check(Command::new("find").arg(&tree).args(["-type", "f", "-exec", "touch", "-d", "@1700000000", "{}", "+"]));
    };
    sign();
    let digest = world.sync(&["--from", &from, "--name", "gentoo"]).ok().value("rev");
    world.place.run(&["tree", "rm", "gentoo"]).ok();
    // A directory without files is in no Manifest, and yet part of the tree.
    fs::create_dir(tree.join("eclass")).unwrap();
    let other = world.sync(&["--from", &from, "--name", "gentoo"]).ok().value("rev");
    assert_ne!(other, digest);
    fs::remove_dir(tree.join("eclass")).unwrap();
    assert_eq!(world.sync(&["--from", &mirror, "--name", "gentoo"]).ok().value("rev"), digest);
    fs::create_dir(tree.join("eclass")).unwrap();
    assert_eq!(world.sync(&["--from", &from, "--name", "gentoo"]).ok().value("rev"), other);
    fs::remove_dir(tree.join("eclass")).unwrap();
    world.place.write("config/env/tree", format!("gentoo rsync {from} {digest}\n"));
    world.place.run(&["clean", "trees", "--yes"]).ok();
    assert_eq!(world.sync(&["gentoo"]).ok().value("rev"), digest);
    fs::remove_file(world.place.config.join("env/tree")).unwrap();

    fs::write(tree.join("app-misc/a/a-1.ebuild"), "EAPI=7\n").unwrap();
    sign();
    world.sync(&["--from", &from]).ok().says("fetching all of ");
    fs::remove_file(tree.join("Manifest")).unwrap();
    std::os::unix::fs::symlink("profiles/repo_name", tree.join("Manifest")).unwrap();
    world.sync(&["--from", &from]).fails(4).says("the tree is not what its Manifests say: `Manifest` cannot be read");
}

#[test]
fn snapshots_of_a_mirror_are_verified_and_a_day_is_that_day() {
    let Some(world) = world() else { return };
    let snapshots = world.place.path("www/snapshots");
    fs::create_dir_all(&snapshots).unwrap();
    let tree = world.place.path("gentoo-20260811/profiles");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("repo_name"), "gentoo\n").unwrap();
    let archive = snapshots.join("gentoo-latest.tar.xz");
    child::check(Command::new("tar").arg("-C").arg(&world.place.dir).arg("-cJf").arg(&archive).arg("gentoo-20260811"));
    let from = format!("webrsync+{}", world.http.url(""));
    world.sync(&["--from", &from]).fails(4).says("error: cannot trust `gentoo-latest.tar.xz`").says("no signature found");
    world.sync(&["--from", &from, "--allow-unsigned", "a test"]).ok();
    world.gpg.detach(&world.key, &archive, None);
    fs::rename(snapshots.join("gentoo-latest.tar.xz.asc"), snapshots.join("gentoo-latest.tar.xz.gpgsig")).unwrap();
    // The same archive is not unpacked again, and still a snapshot that nobody has signed does not stand for it.
    let ran = world.sync(&["--from", &from, "--pin", "latest"]).ok().says_nothing_of("unpacking");
    assert!(!ran.text().contains("(unchanged)"), "{ran}");
    assert_eq!(
        (ran.value("rev"), ran.value("signer"), ran.value("pin")),
        ("20260811".into(), world.key.clone(), "env/tree:1".into())
    );
    // An old snapshot, passed off as a new one.
    for ending in ["", ".gpgsig"] {
        fs::copy(
            snapshots.join(format!("gentoo-latest.tar.xz{ending}")),
            snapshots.join(format!("gentoo-20260812.tar.xz{ending}")),
        )
        .unwrap();
    }
    world.sync(&["--from", &format!("{from}#20260812")]).fails(4).says("is not `gentoo-20260812`").says("it has gentoo-20260811");
    world.sync(&["--from", &format!("{from}#20260813")]).fails(1).says("404");
    // One that does not say which day it is of: signed just as well.
    let nameless = world.place.path("portage/profiles");
    fs::create_dir_all(&nameless).unwrap();
    fs::write(nameless.join("repo_name"), "gentoo\n").unwrap();
    let other = snapshots.join("gentoo-20260814.tar.xz");
    child::check(Command::new("tar").arg("-C").arg(&world.place.dir).arg("-cJf").arg(&other).arg("portage"));
    world.gpg.detach(&world.key, &other, None);
    world
        .sync(&["--from", &format!("{from}#20260814")])
        .fails(4)
        .says("is not `gentoo-20260814`")
        .says("it has a directory whose name is not a day");
    // A file that is not what it shall be pinned as.
    world
        .sync(&["--from", archive.to_str().unwrap(), "--pin", "20260701"])
        .fails(4)
        .says("is not `20260701`")
        .says("it has 20260811");
    world.sync(&["--from", archive.to_str().unwrap(), "--pin", "20260811"]).ok();
    let tarball = world.http.url("snapshots/gentoo-latest.tar.xz");
    let again = world.sync(&["--from", &tarball]).ok().says("verifying").says_nothing_of("unpacking");
    assert!(again.text().contains("(unchanged)"), "{again}");
    let mut bytes = fs::read(&archive).unwrap();
    bytes[100] ^= 1;
    fs::write(&archive, bytes).unwrap();
    world.sync(&["--from", &tarball]).fails(4).says("bad signature");
}

#[test]
fn a_snapshot_that_was_cut_off_goes_on_where_it_stopped() {
    let Some(world) = world() else { return };
    let snapshots = world.place.path("www/snapshots");
    fs::create_dir_all(&snapshots).unwrap();
    let tree = world.place.path("gentoo-20260811/profiles");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("repo_name"), "gentoo\n").unwrap();
    let archive = snapshots.join("gentoo-20260811.tar.xz");
    child::check(Command::new("tar").arg("-C").arg(&world.place.dir).arg("-cJf").arg(&archive).arg("gentoo-20260811"));
    world.gpg.detach(&world.key, &archive, None);
    let size = fs::metadata(&archive).unwrap().len();
    let from = format!("webrsync+{}#20260811", world.http.url("cut"));
    world.sync(&["--from", &from]).fails(1).says(&format!("cut after {} of {size} bytes", size / 2));
    let parts = || walk(&world.place.path("cache/repos/downloads"));
    let part: Vec<u64> = parts()
        .iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "part"))
        .map(|path| fs::metadata(path).unwrap().len())
        .collect();
    assert_eq!(part, [size / 2]);
    fs::write(world.place.path("www/mended"), "").unwrap();
    assert_eq!(world.sync(&["--from", &from]).ok().value("rev"), "20260811");
    assert!(parts().is_empty(), "{:?}", parts());
}

/// Files below a directory.
fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn names_of_one_tree_are_removed_together() {
    let Some(world) = world() else { return };
    world.sync(&["--from", &world.from(), "--pin", "latest"]).ok();
    let commit = world.git(&["rev-parse", "HEAD"]);
    let pin = format!("gentoo/{commit}");
    world.place.run(&["tree", "rm", "gentoo"]).fails(2).says(&format!("the name {pin}"));
    world.place.run(&["tree", "rm", "gentoo", &pin]).ok();
    let rows = world.place.run(&["tree", "ls", "--json"]).ok().text();
    assert_eq!(rows.trim(), "[]");
}

#[test]
fn each_definition_has_its_own_main_repository() {
    let Some(world) = world() else { return };
    let fragment = "[DEFAULT]\nmain-repo = mine\n[mine]\nlocation = /var/db/repos/mine\nsync-type = git\nsync-uri = https://example.org/mine\n";
    for (path, text) in [("portage.locals/mine/repos.conf", fragment), ("stage3.defines/zz-last/portage.local", "mine\n")] {
        let path = world.place.config.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    // What the others stand on is still asked for.
    world.sync(&["nowhere"]).fails(2).says("there are: gentoo, mine");
}

#[test]
fn a_tree_that_is_needed_is_not_removed() {
    let Some(shared) = shared::shared() else { return };
    let rows: serde_json::Value = serde_json::from_str(&shared.place.run(&["tree", "ls", "--json"]).ok().text()).unwrap();
    let used = rows.as_array().unwrap().iter().find(|row| !row["used_by"].as_array().unwrap().is_empty()).unwrap();
    let id = used["id"].as_str().unwrap();
    // It is said at once, although somebody works in the store.
    let mut command = shared.place.command(&["freshroot", "--network", "none", "--", "sh", "-c", "echo up; cat"]);
    let mut working = child::spawn(command.stdin(Stdio::piped()));
    let mut up = [0; 3];
    working.child().stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    let refused = shared.place.run(&["tree", "rm", id, "--no-wait"]).fails(2);
    refused.says(&format!("error: the tree `{id}` is in use")).says("build state ").says_nothing_of("waiting: ");
    drop(working.child().stdin.take());
    finish(command_line(&command), working).ok();
    shared.place.run(&["tree", "rm", "nothing"]).fails(2).says("there is no tree `nothing`").says("gentoo");
}

/// An overlay with one package.
const OVERLAID: &str = "EAPI=8\nDESCRIPTION=\"Of an overlay\"\nHOMEPAGE=\"https://example.org\"\nS=\"${WORKDIR}\"\nLICENSE=\"MIT\"\n\
    SLOT=\"0\"\nKEYWORDS=\"amd64 arm64\"\nsrc_install() { echo VERSION >overlaid || die; insinto /usr/share; doins overlaid; }\n";

#[test]
fn an_overlay_is_brought_mounted_at_its_place_and_stays_at_its_pin() {
    let Some(world) = world() else { return };
    let Some(shared) = shared::shared() else { return };
    let overlay = |version: &str| {
        world.write("profiles/repo_name", "tiny-overlay\n");
        world.write("metadata/layout.conf", "masters = gentoo\nthin-manifests = true\n");
        world.write("profiles/categories", "app-overlaid\n");
        world.write(&format!("app-overlaid/thing/thing-{version}.ebuild"), &OVERLAID.replace("VERSION", version));
        world.commit(version, true)
    };
    let first = overlay("1");
    let config = shared.config("overlay");
    let write = |name: &str, text: &str| {
        let path = config.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let uri = world.http.url("git/main/.git");
    let conf = format!(
        "[DEFAULT]\nmain-repo = gentoo\n\n[tiny-overlay]\nlocation = /var/lib/overlays/tiny\nsync-type = git\nsync-uri = {uri}\n\
         masters = gentoo\npriority = 50\n"
    );
    write("portage.locals/overlaid/repos.conf/tiny.conf", &conf);
    write("stage3.defines/overlaid/portage.local", "overlaid\n");
    write("stage3.defines/overlaid/packages", "app-overlaid/thing\n");
    let place = shared.place.with_config(config.clone());
    place.run(&["keys", "import", "--trust", world.place.path("upstream.asc").to_str().unwrap()]).ok();
    let check = || place.run(&["config", "check", "overlaid"]);
    if !place.run(&["tree", "ls"]).ok().text().contains("tiny-overlay") {
        let out = check().fails(3).text();
        let words = "tiny.conf:4: error: the repository `tiny-overlay` is not in the store\n  hint: fetch it with `gentoomuch \
            sync tiny-overlay`";
        assert!(out.contains(words), "{out}");
    }
    let ran = place.run(&["sync", "tiny-overlay", "--pin", "latest"]).ok();
    assert_eq!(ran.value("rev"), first);
    assert_eq!(fs::read_to_string(config.join("env/tree")).unwrap(), format!("tiny-overlay {first}\n"));
    // It moves on; who has pinned it does not.
    overlay("2");
    place.run(&["sync", "--from", &world.from()]).ok();
    let out = check().ok().text();
    assert!(out.contains("0 errors, 0 warnings"), "{out}");
    write("stage3.defines/overlaid/packages", "=app-overlaid/thing-2\n");
    let out = check().fails(3).text();
    assert!(out.contains("no version matches `=app-overlaid/thing-2`") && out.contains("there is `1`"), "{out}");
    fs::remove_file(config.join("env/tree")).unwrap();
    check().ok();
    write("env/tree", "tiny-overlay 0123456789012345678901234567890123456789\n");
    let out = check().fails(3).text();
    assert!(
        out.contains("env/tree:1: error: `tiny-overlay` at 0123456789012345678901234567890123456789 is not in the store"),
        "{out}"
    );
    // Others do not see it.
    write("env/tree", "");
    let plan = shared.place.run(&["freshroot", "--print-plan"]).ok().text();
    assert!(!plan.contains("tiny") && plan.contains("/var/db/repos/gentoo"), "{plan}");
}
