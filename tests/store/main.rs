//! The store with trees of mapped owners, in real namespaces: run as an ordinary user with subordinate ids.
#![expect(clippy::print_stderr, clippy::unwrap_used, reason = "failing tests may panic, and skipped ones say so")]

mod older;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use gentoomuch::internals::sandbox::{
    CommandLine, Exit, HelperSource, IdMap, Launcher, Network, Plan, Proc, SessionOptions, Stdio, Step,
};
use gentoomuch::internals::store::{InMap, NewState, Purpose, Session, State, Store, Wait};

/// Held by each test to its end: what one test starts is, until it executes, a copy of this process with the other test's locks.
static ALONE: Mutex<()> = Mutex::new(());

/// A launcher for this user; nothing, said aloud, if this user has no subordinate ids.
fn launcher() -> Option<Launcher> {
    let uid = nix::unistd::getuid();
    let user = nix::unistd::User::from_uid(uid).unwrap().unwrap();
    match IdMap::of_host(Path::new("/"), uid.as_raw(), user.gid.as_raw(), &user.name, &[], None) {
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
    steps.extend(Step::standard(Proc::New));
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
