//! Patches: from the source that emerge would build, by way of a work set, to a patch that every stage gets.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::child;
use crate::place::{Place, Ran};
use crate::shared::{User, shared};

/// The shared place with a configuration of one test's own.
fn place(name: &str) -> Option<(User, Place)> {
    let shared = shared()?;
    let place = shared.place.with_config(shared.config(name));
    Some((shared, place))
}

fn patch(place: &Place, words: &[&str]) -> Ran {
    place.run(&[&["patch"], words].concat())
}

fn json(place: &Place, words: &[&str], code: i32) -> Value {
    let ran = patch(place, &[words, &["--json"]].concat()).fails(code);
    serde_json::from_str(&ran.text()).unwrap_or_else(|error| panic!("{error} in {ran}"))
}

fn work_set(place: &Place, name: &str) -> PathBuf {
    place.path("data/patches").join(name)
}

/// The user's own git, with no configuration but the repository's.
fn git(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(dir).args(args).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    String::from_utf8(child::check(&mut command)).unwrap()
}

fn edit(dir: &Path, file: &str, from: &str, to: &str) {
    let path = dir.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from:?} is not in {text:?}");
    fs::write(&path, text.replace(from, to)).unwrap();
}

#[test]
fn a_package_that_does_not_compile_is_mended_and_the_patch_saved() {
    let Some((_shared, place)) = place("patches mend") else { return };
    let prepared = patch(&place, &["prep", "mend", "app-misc/broken"]).ok();
    assert_eq!(prepared.value("package"), "app-misc/broken-1.0::gentoo, prepared by demo");
    let dir = work_set(&place, "mend");
    assert_eq!(prepared.value("work set"), dir.display().to_string());
    assert_eq!(fs::metadata(&dir).unwrap().uid(), nix::unistd::getuid().as_raw());
    assert_eq!(git(&dir, &["log", "--format=%s %an"]), "app-misc/broken-1.0::gentoo gentoomuch\n");
    patch(&place, &["prep", "mend", "app-misc/broken"]).fails(2).says("there is a work set `mend` already");
    patch(&place, &["save", "mend"]).fails(2).says("the work set `mend` has no changes");
    patch(&place, &["shell", "mend"]).fails(125).says("there is no failed build of the patch `mend`");

    // As it is: the log is on the screen, and the session is kept.
    let failed = patch(&place, &["try", "mend"]).fails(6).says("error: ‘undeclared_on_purpose’ undeclared");
    assert_eq!(failed.value("result"), "failed: `app-misc/broken-1.0` failed in its compile phase");
    assert!(fs::metadata(failed.value("log")).unwrap().len() > 0, "{failed}");
    assert!(patch(&place, &["ls"]).ok().text().contains("(failed)"));
    // Other tests have work sets in the same place.
    let listed = json(&place, &["ls"], 0);
    let mend = listed.as_array().unwrap().iter().find(|row| row["name"] == "mend").unwrap_or_else(|| panic!("{listed}"));
    assert_eq!(mend["failed_build"], true, "{listed}");
    let looked = patch(&place, &["shell", "mend", "--", "sh", "-c", "pwd; ls; exit 7"]).fails(7).says_nothing_of("warning");
    assert_eq!(looked.text(), "/var/tmp/portage/app-misc/broken-1.0/work/broken-1.0\nMakefile\nbroken.c\n");
    place.run(&["store", "verify"]).ok();

    edit(&dir, "broken.c", "undeclared_on_purpose", "42");
    let built = patch(&place, &["try", "mend"]).ok().says("Applying mend-mend.patch");
    assert_eq!(built.value("changes"), "1 file, +1 -1");
    assert!(built.value("result").starts_with("built in "), "{built}");
    patch(&place, &["shell", "mend"]).fails(125).says("no failed build");
    patch(&place, &["rm", "mend"]).fails(2).says("the work set `mend` has changes that are not saved");

    let bug = "https://bugs.gentoo.org/917047";
    let saved = patch(&place, &["save", "mend", "--purpose", "declare nothing", "--bug", bug]).ok();
    assert_eq!(saved.value("for"), "~app-misc/broken-1.0");
    let file = place.config.join("user.patches/mend/app-misc/broken-1.0/mend.patch");
    assert_eq!(saved.value("file"), file.display().to_string());
    let text = fs::read_to_string(&file).unwrap();
    let today = text.lines().find_map(|line| line.strip_prefix("Date: ")).unwrap();
    let header = format!("Purpose: declare nothing\nPackage: app-misc/broken-1.0::gentoo\nDate: {today}\nBug: {bug}\n\n");
    assert!(text.starts_with(&format!("{header}diff --git a/broken.c b/broken.c\n")), "{text}");
    assert!(text.contains("\n--- a/broken.c\n+++ b/broken.c\n@@ "), "{text}");
    assert!(patch(&place, &["save", "mend"]).ok().value("file").ends_with("(unchanged)"));
    assert!(patch(&place, &["show", "mend", "--changes"]).ok().text().starts_with("diff --git a/broken.c"));
    let shown = json(&place, &["show", "mend"], 0);
    assert_eq!((&shown["saved"][0]["bug"], &shown["saved"][0]["added"]), (&bug.into(), &1.into()), "{shown}");

    // For other versions it moves, and what was said of it stays.
    let moved = patch(&place, &["save", "mend", "--for", "any"]).ok();
    assert_eq!((moved.value("for"), moved.value("removed")), ("app-misc/broken".to_owned(), file.display().to_string()));
    assert!(!file.parent().unwrap().exists(), "an empty directory was left");
    let any = place.config.join("user.patches/mend/app-misc/broken/mend.patch");
    assert!(fs::read_to_string(any).unwrap().starts_with(&header), "{moved}");
    place.run(&["config", "check"]).ok();

    // Begun again, it is where it was.
    patch(&place, &["rm", "mend"]).ok();
    assert!(!dir.exists());
    assert_eq!(patch(&place, &["prep", "mend", "app-misc/broken"]).ok().value("applied"), "what was saved of it");
    assert!(patch(&place, &["show", "mend", "--changes"]).ok().text().contains("+\tprintf(\"%d\\n\", 42);"));
    patch(&place, &["rm", "mend", "--saved"]).fails(2).says("all changes of `mend` would be lost");
    let gone = patch(&place, &["rm", "mend", "--saved", "--force"]).ok();
    assert_eq!(gone.text().lines().count(), 2, "{gone}");
    assert!(!place.config.join("user.patches/mend").exists());
    patch(&place, &["show", "mend"]).fails(2).says("there is no patch `mend`");
}

#[test]
fn a_source_comes_along_byte_for_byte_and_its_git_settings_do_not() {
    let Some((_shared, place)) = place("patches awkward") else { return };
    let prepared = json(&place, &["prep", "awkward", "=app-misc/awkward-1.0"], 0);
    assert_eq!(prepared["nested_repositories"], serde_json::json!([".git", "vendor/.git"]), "{prepared}");
    assert_eq!(prepared["special_files"], serde_json::json!(["pipe"]), "{prepared}");
    let dir = work_set(&place, "awkward");
    assert_eq!(fs::read(dir.join("dos.txt")).unwrap(), b"first line\r\nsecond line\r\nthird line\r\n");
    assert_eq!(fs::read_link(dir.join("link")).unwrap(), Path::new("words"));
    assert_eq!(fs::metadata(dir.join("configure")).unwrap().permissions().mode() & 0o777, 0o755);
    // What is ignored is part of it, and nothing that the source says makes git see or do anything else.
    let files = git(&dir, &["ls-files"]);
    assert_eq!(files, ".gitattributes\n.gitignore\na file.txt\nconfigure\ndos.txt\nlink\nlogo.bin\nwords\n");
    assert_eq!(git(&dir, &["status", "--porcelain"]), "");
    assert!(!dir.join("pwned").exists() && !dir.join(".git/hooks").exists());
    assert!(git(&dir, &["show", "HEAD:words"]).ends_with("three\nprepared\n"), "the ebuild's own changes are in it");

    let raw = fs::read(dir.join("dos.txt")).unwrap();
    let changed = String::from_utf8(raw).unwrap().replace("second", "2nd");
    fs::write(dir.join("dos.txt"), changed).unwrap();
    fs::write(dir.join("a file.txt"), "now\nwith a newline\n").unwrap();
    fs::write(dir.join("new"), "new\n").unwrap();
    fs::write(dir.join("build.log"), "ignored\n").unwrap();
    fs::set_permissions(dir.join("words"), PermissionsExt::from_mode(0o755)).unwrap();
    let built = patch(&place, &["try", "awkward"]).ok();
    assert!(built.text().contains("since git ignores them") && built.text().contains("  build.log\n"), "{built}");
    let saved = json(&place, &["save", "awkward"], 0);
    let text = fs::read(place.config.join(saved["path"].as_str().unwrap())).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("-second line\r\n+2nd line\r\n"), "{text:?}");
    assert!(!text.contains("build.log") && text.contains("+++ b/new\n"), "{text}");

    // Added by hand it counts.
    git(&dir, &["add", "--force", "build.log"]);
    let saved = json(&place, &["save", "awkward"], 0);
    let files: Vec<&str> = saved["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(files, ["a file.txt", "build.log", "dos.txt", "new", "words"], "{saved}");
    // So do commits of the user's.
    git(&dir, &["-c", "user.name=me", "-c", "user.email=me@example.org", "commit", "--quiet", "--all", "--message", "mine"]);
    assert_eq!(json(&place, &["save", "awkward"], 0)["unchanged"], true);

    // What cannot be a patch.
    fs::write(dir.join("logo.bin"), b"\x00other").unwrap();
    patch(&place, &["save", "awkward"]).fails(2).says("a patch cannot change binary files: logo.bin");
    patch(&place, &["try", "awkward"]).fails(2).says("hint: take the files back with `git checkout`, or remove them");
    git(&dir, &["checkout", "--quiet", "logo.bin"]);
    git(&dir, &["init", "--quiet", "own"]);
    fs::write(dir.join("own/file"), "x").unwrap();
    git(&dir.join("own"), &["add", "."]);
    git(&dir.join("own"), &["-c", "user.name=me", "-c", "user.email=me@example.org", "commit", "--quiet", "--message", "own"]);
    patch(&place, &["save", "awkward"]).fails(2).says("git repositories within the work set cannot be part of a patch: own");
    patch(&place, &["rm", "awkward", "--saved", "--force"]).ok();
    assert!(!dir.exists());
}

#[test]
fn a_patch_is_brought_to_a_newer_version() {
    let Some((_shared, place)) = place("patches refresh") else { return };
    // As the original tool had it.
    patch(&place, &["prep", "newer", "app-misc/awkward", "1.0"]).ok();
    let dir = work_set(&place, "newer");
    edit(&dir, "words", "two\n", "two\ntwo and a half\n");
    edit(&dir, "dos.txt", "third", "3rd");
    fs::write(dir.join("new"), "new\n").unwrap();
    patch(&place, &["save", "newer"]).ok();

    // The same lines were changed on both sides.
    let refreshed = json(&place, &["refresh", "newer"], 1);
    assert_eq!(
        (&refreshed["before"], &refreshed["source"]["cpv"]),
        (&"app-misc/awkward-1.0".into(), &"app-misc/awkward-1.1".into())
    );
    assert_eq!(refreshed["conflicts"], serde_json::json!(["words"]), "{refreshed}");
    let words = fs::read_to_string(dir.join("words")).unwrap();
    assert!(words.starts_with("version 1.1\nzero\none\ntwo\n<<<<<<< "), "{words}");
    assert!(words.contains("three and a half\n=======\ntwo and a half\nthree\n>>>>>>> "), "{words}");
    assert_eq!(fs::read(dir.join("dos.txt")).unwrap(), b"first line\r\nsecond line\r\n3rd line\r\n");
    for command in ["try", "save", "refresh"] {
        patch(&place, &[command, "newer"]).fails(1).says("there are conflicts of a merge in words").says("hint: correct the files");
    }
    fs::write(dir.join("words"), "version 1.1\nzero\none\ntwo\ntwo and a half\nthree and a half\nprepared\n").unwrap();
    let tried = json(&place, &["try", "newer"], 0);
    assert_eq!((&tried["name"], &tried["result"]), (&"newer".into(), &"built".into()), "{tried}");
    let saved = json(&place, &["save", "newer"], 0);
    assert_eq!(saved["path"], "user.patches/newer/app-misc/awkward-1.1/newer.patch", "{saved}");
    assert_eq!(saved["replaced"], serde_json::json!(["user.patches/newer/app-misc/awkward-1.0/newer.patch"]), "{saved}");
    // What it was is not lost.
    assert!(git(&dir, &["show", "refs/gentoomuch/changes:words"]).contains("two and a half\nthree\n"));
    patch(&place, &["refresh", "newer"]).fails(2).says("the work set `newer` is for app-misc/awkward-1.1 already");
    patch(&place, &["refresh", "newer", "--to", "app-misc/broken"]).fails(2).says("`app-misc/broken` is not `app-misc/awkward`");

    // Back again, from what was saved alone: nothing of a work set is needed.
    patch(&place, &["rm", "newer"]).ok();
    let back = patch(&place, &["refresh", "newer", "--to", "=app-misc/awkward-1.0"]).fails(1);
    assert_eq!((back.value("from"), back.value("to")), ("what was saved".to_owned(), "app-misc/awkward-1.0::gentoo".to_owned()));
    assert_eq!(back.value("result"), "merged with conflicts");
    let words = fs::read_to_string(dir.join("words")).unwrap();
    assert!(words.contains("<<<<<<<") && words.contains("two and a half"), "{words}");
    let removed = json(&place, &["rm", "newer", "--saved", "--force"], 0);
    assert_eq!(removed["saved"].as_array().map(Vec::len), Some(1), "{removed}");
}

#[test]
fn patches_that_come_before_are_in_the_source_and_those_after_are_not() {
    let Some((_shared, place)) = place("patches order") else { return };
    for (name, line) in [("a-first", "first"), ("z-last", "last")] {
        let text = format!("--- /dev/null\n+++ b/{line}\n@@ -0,0 +1 @@\n+{line}\n");
        let dir = place.config.join(format!("user.patches/{name}/app-misc/awkward"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("{name}.patch")), text).unwrap();
    }
    let prepared = patch(&place, &["prep", "m-between", "=app-misc/awkward-1.0"]).ok();
    assert_eq!(prepared.value("with"), "the saved a-first");
    let dir = work_set(&place, "m-between");
    assert!(dir.join("first").exists() && !dir.join("last").exists());
    edit(&dir, "words", "one", "1");
    let built = patch(&place, &["try", "m-between"]).ok();
    let order: Vec<usize> = ["a-first-a-first", "m-between-m-between", "z-last-z-last"]
        .map(|name| built.stderr.find(&format!("Applying {name}.patch")).unwrap_or_else(|| panic!("{name} in {built}")))
        .into();
    assert!(order.is_sorted(), "{order:?}");
    patch(&place, &["rm", "m-between", "--force"]).ok();

    let bare = patch(&place, &["prep", "bare", "=app-misc/awkward-1.0", "--no-prepare"]).ok();
    assert_eq!(bare.value("package"), "app-misc/awkward-1.0::gentoo, unpacked, not prepared by demo");
    let dir = work_set(&place, "bare");
    assert!(!dir.join("first").exists() && !fs::read_to_string(dir.join("words")).unwrap().contains("prepared"));
    patch(&place, &["rm", "bare"]).ok();
}

#[test]
fn what_is_wrong_with_a_patch_is_said() {
    let Some((_shared, place)) = place("patches words") else { return };
    for (words, code, said) in [
        (&["prep", "wrong", "app-misc/brokn"][..], 2, "there is no package `app-misc/brokn`\nhint: did you mean app-misc/broken?"),
        (
            &["prep", "wrong", "app-misc/newcomer"],
            2,
            "no version of `app-misc/newcomer` can be installed: app-misc/newcomer-0.1 is masked",
        ),
        (&["prep", "wrong", "app-misc/broken", "--repo", "guru"], 2, "there is no package `app-misc/broken::guru`"),
        (&["prep", "wrong", "app-misc/broken", "--profile", "none"], 2, "profile `none` is not bootstrapped"),
        (&["prep", "../wrong", "app-misc/broken"], 2, "`../wrong` cannot be the name of a patch\nhint: letters, digits"),
        // Other tests' work sets may be named in between.
        (&["try", "wrong"], 2, "there is no work set `wrong`\nhint: "),
        (&["try", "wrong"], 2, "hint: make it with `gentoomuch patch prep wrong ATOM`"),
        (&["save", "wrong", "--purpose", "two\nlines"], 2, "`two\\nlines` cannot be a line of a patch's header"),
        (&["show", "wrong"], 2, "there is no patch `wrong`"),
        (&["refresh", "wrong"], 2, "there is no patch `wrong`"),
        (&["rm", "wrong"], 2, "there is no patch `wrong`"),
    ] {
        patch(&place, words).fails(code).says(said);
        assert!(!work_set(&place, "wrong").exists(), "{words:?}");
        assert!(!place.path("data/patches/.wrong.new").exists(), "{words:?}");
    }
}

#[test]
fn a_killed_prep_leaves_no_half_work_set() {
    let Some((_shared, place)) = place("patches killed") else { return };
    let args = ["patch", "prep", "killed", "net-misc/dropbear"];
    let mut running = child::spawn(&mut place.command(&args));
    let unfinished = place.path("data/patches/.killed.new");
    let since = Instant::now();
    while !unfinished.exists() {
        assert!(since.elapsed() < Duration::from_mins(4), "it never began");
        std::thread::sleep(Duration::from_millis(20));
    }
    kill(Pid::from_raw(i32::try_from(running.id()).unwrap()), Signal::SIGKILL).unwrap();
    running.child().wait().unwrap();
    assert!(!work_set(&place, "killed").exists());
    let prepared = place.run(&args).ok();
    assert!(prepared.value("files").parse::<u32>().unwrap() > 100, "{prepared}");
    assert!(!unfinished.exists());
    patch(&place, &["rm", "killed"]).ok();
    assert!(!work_set(&place, "killed").exists());
}
