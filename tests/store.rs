//! The store with trees of mapped owners, in real namespaces: run as an ordinary user with subordinate ids.
#![expect(clippy::print_stderr, clippy::unwrap_used, reason = "failing tests may panic, and skipped ones say so")]

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use gentoomuch::internals::origin::{Kept, Origin, Recorded};
use gentoomuch::internals::sandbox::{
    CommandLine, Exit, HelperSource, IdMap, Launcher, Network, Plan, SessionOptions, Stdio, Step,
};
use gentoomuch::internals::store::{InMap, NewState, Purpose, Session, State, Store, Wait};

/// Held by each test to its end: what one test starts is, until it executes, a copy of this process with the other test's locks.
static ALONE: Mutex<()> = Mutex::new(());

/// A launcher for this user; nothing, said aloud, if this user has no subordinate ids.
fn launcher() -> Option<Launcher> {
    let uid = nix::unistd::getuid();
    let user = nix::unistd::User::from_uid(uid).unwrap().unwrap();
    let (subuid, subgid) = (Path::new("/etc/subuid"), Path::new("/etc/subgid"));
    match IdMap::for_user(uid.as_raw(), user.gid.as_raw(), &user.name, subuid, subgid) {
        Ok(map) => Some(Launcher::new(HelperSource::Path(PathBuf::from(env!("CARGO_BIN_EXE_gentoomuch"))), map)),
        Err(error) if std::env::var_os("GENTOOMUCH_TEST_STRICT").is_none() => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Runs a shell command in the session, on the host's programs.
fn run(launcher: &Launcher, session: &mut Session, script: &str) {
    let lower = session.path("lower");
    std::fs::create_dir_all(&lower).unwrap();
    let mut lowers = session.lower_dirs();
    lowers.push(lower);
    let mut steps = vec![Step::Overlay {
        lower: lowers,
        upper: session.upper(),
        work: session.work(),
        mountpoint: session.root(),
        volatile: true,
    }];
    steps.push(Step::Bind { source: "/usr".into(), target: "/usr".into(), read_only: true });
    for name in ["bin", "sbin", "lib", "lib64"] {
        steps.push(Step::Symlink { path: Path::new("/").join(name), to: Path::new("usr").join(name) });
    }
    steps.extend(Step::standard());
    steps.push(Step::PivotRoot);
    let command = CommandLine {
        argv: vec!["sh".into(), "-ec".into(), script.into()],
        env: vec![("PATH".into(), "/usr/bin:/usr/sbin".into())],
        login: false,
        cwd: "/".into(),
    };
    let plan = Plan { hostname: "test".into(), network: Network::None, steps, command, terminal: false };
    let mut options = SessionOptions::new(Stdio::Null);
    options.hold = vec![session.lock_fd().unwrap()];
    let mut running = launcher.session(&plan, options).unwrap();
    session.record_pid1(running.pid1()).unwrap();
    assert_eq!(running.wait().unwrap(), Exit::Code(0));
}

fn commit(session: Session, key: &str, base: Option<&State>) -> State {
    let new =
        NewState { key: key.into(), origin: serde_json::Value::Null.into(), newest_input: 0, parent: base.map(|b| b.id.clone()) };
    session.commit(new).unwrap()
}

fn is_empty(path: &Path) -> bool {
    std::fs::read_dir(path).unwrap().next().is_none()
}

const FILL: &str = "mkdir /data /data/closed; echo hi > /data/own; chown 250:250 /data/own; chmod 4711 /data/own; \
                    chown 65534:100 /data/closed; echo x > /data/closed/f; chmod 000 /data/closed";

#[test]
fn a_layer_with_mapped_owners_from_its_session_to_its_removal() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(launcher) = launcher() else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store"), launcher.id_map()).unwrap();
    let _shared = store.lock_shared(Wait::NoWait).unwrap();
    let mut session = store.session_create(None, Purpose::Stage, "one").unwrap();
    run(&launcher, &mut session, FILL);
    let one = commit(session, "one", None);
    let mut session = store.session_create(Some(&one), Purpose::Stage, "two").unwrap();
    run(&launcher, &mut session, "test \"$(cat /data/own)\" = hi; rm /data/own; rm -r /data/closed; mkdir /data/closed");
    let two = commit(session, "two", Some(&one));
    store.ref_set("kept/two", &two.id).unwrap();

    // Owners as inside, a directory that nobody may read read, whiteouts and opaque directories told.
    for id in &two.layers {
        store.seal(id, &launcher).unwrap();
    }
    let manifest = |id| std::fs::read_to_string(store.layer(id).unwrap().manifest()).unwrap();
    let first = manifest(&two.layers[0]);
    assert!(first.contains("\ndata/own file 4711 250 250 3 sha256:"), "{first}");
    assert!(first.contains("\ndata/closed dir 0000 65534 100\n"), "{first}");
    assert!(first.contains("\ndata/closed/f file 0644 0 0 2 sha256:"), "{first}");
    let second = manifest(&two.layers[1]);
    assert!(second.contains("\ndata/own char 0000 0 0 0:0\n"), "{second}");
    assert!(second.contains("\ndata/closed dir 0755 0 0 user.overlay.opaque=79\n"), "{second}");
    let deep = store.verify_deep(&launcher, 10, |_| {}).unwrap();
    assert_eq!((deep.good.len(), deep.different.len(), deep.unsealed.len()), (2, 0, 0));
    let usage = store.disk_usage(&launcher).unwrap();
    assert!(usage.layers.iter().all(|l| l.usage.bytes > 0));

    // What the sessions left of overlayfs' own, and then nothing.
    store.recover(&launcher).unwrap();
    assert!(is_empty(&dir.path().join("store/sessions")) && is_empty(&dir.path().join("store/tmp")));
    let report = store.verify().unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    launcher.remove_trees(&[dir.path().join("store")]).unwrap();
    assert!(is_empty(dir.path()));
}

#[test]
fn an_orphaned_session_of_mapped_owners_is_removed() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(launcher) = launcher() else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store"), launcher.id_map()).unwrap();
    for discard in [true, false] {
        let mut session = store.session_create(None, Purpose::Throwaway, "").unwrap();
        run(&launcher, &mut session, FILL);
        if discard {
            session.discard(&launcher).unwrap();
            assert!(store.recover(&launcher).unwrap().is_nothing());
        } else {
            drop(session);
            assert_eq!(store.recover(&launcher).unwrap().sessions, 1);
        }
        assert!(is_empty(&dir.path().join("store/sessions")) && is_empty(&dir.path().join("store/tmp")));
    }
}

/// With the modes of a store, which git does not keep.
fn copy(from: &Path, to: &Path) {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// `tests/older-store` was made by the version before. Only what its layers had is gone, but for a package.
#[test]
fn a_store_of_the_version_before_is_read_and_goes_on() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(launcher) = launcher() else { return };
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join(".local/share/gentoomuch/store");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/older-store"), &root);
    let mut record = json(&root.join("store.json"));
    record["idmap"] = serde_json::to_value(launcher.id_map()).unwrap();
    std::fs::write(root.join("store.json"), record.to_string()).unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gentoomuch"));
        let ran =
            command.env_clear().env("HOME", home.path()).env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").args(args).output().unwrap();
        assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
        ran.stdout
    };
    let told = |args: &[&str]| serde_json::from_slice::<serde_json::Value>(&run(args)).unwrap();

    run(&["store", "verify"]);
    let stage4 = json(&root.join("states/a27a6ca02e9fc7e95fe894987e9d5297.json"))["origin"].clone();
    assert_eq!(told(&["store", "show", "stage4/hello", "--json"])["origin"], stage4, "as it was written");
    let text = String::from_utf8(run(&["store", "show", "stage4/hello"])).unwrap();
    for line in [
        "origin   stage4 definition, definition hello, profile demo",
        "origin   stage3 definition, definition plain, profile demo",
        "         portage profile gentoo:default/linux/amd64/testbed",
        "origin   stage3, name stage3-amd64-testbed-20261128T145737Z.tar.xz",
    ] {
        assert!(text.lines().any(|told| told == line), "{line}\n{text}");
    }
    let profile = told(&["profile", "show", "demo", "--json"]);
    assert_eq!(profile["stage3"]["signer"], stage4["base"]["stage3"]["signer"]["primary"], "{profile}");
    assert_eq!(profile["builder"]["trees"][0]["id"], "01a225cd41ae3eb91966", "{profile}");
    assert_eq!(profile["stages"], serde_json::json!(["hello"]), "{profile}");

    {
        let store = Store::open(&root, launcher.id_map()).unwrap();
        let _shared = store.lock_shared(Wait::NoWait).unwrap();
        let base = store.state(&store.ref_get("stage4/hello").unwrap().unwrap()).unwrap();
        let session = store.session_create(Some(&base), Purpose::Throwaway, "").unwrap();
        std::fs::write(session.upper().join("kept"), "by hand").unwrap();
        let kept = Kept { name: "mine".to_owned(), parent: Some(base.origin.made_from().clone()), ..Kept::default() };
        let origin = Recorded::from(Origin::Kept(kept));
        let new = NewState { key: "kept:mine".to_owned(), origin, newest_input: base.newest_input, parent: Some(base.id.clone()) };
        store.ref_set("kept/mine", &session.commit(new).unwrap().id).unwrap();
    }
    run(&["tag", "kept/mine", "first"]);
    let out = home.path().join("out");
    std::fs::create_dir(&out).unwrap();
    run(&["export", "tag/first", "--no-sign", "--format", "tar", "--output", out.to_str().unwrap()]);
    let mut files = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    let artifact = json(&files.find(|path| path.extension().is_some_and(|end| end == "json")).unwrap());
    assert_eq!((&artifact["origin"]["version"], &artifact["origin"]["parent"]), (&1.into(), &stage4), "{artifact}");
    assert_eq!(artifact["packages"].as_array().unwrap().len(), 1, "{artifact}");
    run(&["store", "verify"]);
}
