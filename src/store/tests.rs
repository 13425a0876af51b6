//! The store as a whole, as an ordinary user would see it: trees of one owner, and tasks run by this very process.

mod by_hand;
mod cleaning;
mod damaged;
mod missing;
mod older;
mod suspending;
mod verifying;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::session::{CRASH_AFTER, Fault};
use super::*;
use crate::store::recover::Recovered;

/// Runs tasks where it is.
struct Here;

impl InMap for Here {
    fn run_task(&self, name: &'static str, input: Value) -> std::result::Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Ok(tasks::function(name).expect("a task of the store")(input)?)
    }
}

/// For what must not start a helper.
struct Nowhere;

impl InMap for Nowhere {
    fn run_task(&self, name: &'static str, _: Value) -> std::result::Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        panic!("`{name}` was started although there is nothing to do")
    }
}

fn idmap(first: u32) -> IdMap {
    let ranges = || vec![IdRange { inside: 0, outside: 1000, count: 1 }, IdRange { inside: 1, outside: first, count: 65536 }];
    IdMap { uids: ranges(), gids: ranges() }
}

struct Fixture {
    _dir: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open_as(&dir.path().join("data/store"), &idmap(100_000), "gentoomuch test").unwrap();
        Self { _dir: dir, store }
    }

    /// The same store as another process opens it.
    fn reopen(&self) -> Store {
        Store::open(self.store.root(), &idmap(100_000)).unwrap()
    }

    fn commit(&self, base: Option<&State>, key: &str) -> State {
        let session = self.store.session_create(base, Purpose::Stage, key).unwrap();
        fs::write(session.upper().join(key), key).unwrap();
        session.commit(new_state(base, key)).unwrap()
    }

    /// Every path below the store but locks, sorted.
    fn listing(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut waiting = vec![self.store.root().to_owned()];
        while let Some(dir) = waiting.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    waiting.push(path.clone());
                }
                found.push(path.strip_prefix(self.store.root()).unwrap().to_str().unwrap().to_owned());
            }
        }
        found.retain(|p| !p.starts_with("locks/"));
        found.sort();
        found
    }
}

fn new_state(base: Option<&State>, key: &str) -> NewState {
    NewState {
        key: key.to_owned(),
        origin: json!({ "made": "by a test" }).into(),
        newest_input: 1,
        parent: base.map(|b| b.id.clone()),
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// A session that writes its upper directory through an overlay cannot forge these; one that was given the directory itself can.
#[test]
fn marks_of_overlayfs_do_not_get_into_a_layer_that_was_bound() {
    use rustix::fs::{FileType, Mode, XattrFlags};
    type Forge = fn(&Path);
    let fixture = Fixture::new();
    let cases: [(&str, Forge, &str); 5] = [
        (
            "usr/gone",
            |upper| {
                rustix::fs::mknodat(rustix::fs::CWD, upper.join("usr/gone"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
            },
            "is or has a whiteout; only overlayfs can write that",
        ),
        (
            "usr",
            |upper| rustix::fs::setxattr(upper.join("usr"), "user.overlay.opaque", b"y", XattrFlags::empty()).unwrap(),
            "is or has an attribute of overlayfs; only overlayfs can write that",
        ),
        (
            "usr/file",
            |upper| rustix::fs::setxattr(upper.join("usr/file"), "user.overlay.metacopy", b"", XattrFlags::empty()).unwrap(),
            "is or has an attribute of overlayfs; only overlayfs can write that",
        ),
        (
            "",
            |upper| rustix::fs::setxattr(upper, "user.overlay.redirect", b"/etc", XattrFlags::empty()).unwrap(),
            "is or has an attribute of overlayfs; only overlayfs can write that",
        ),
        (
            "usr/hole",
            |upper| fs::File::create(upper.join("usr/hole")).unwrap().set_len(4 << 40).unwrap(),
            "has more than 68719476736 bytes",
        ),
    ];
    for (path, forge, words) in cases {
        let mut session = fixture.store.session_create(None, Purpose::Kernel, path).unwrap();
        let upper = session.bind_upper();
        fs::create_dir(upper.join("usr")).unwrap();
        fs::write(upper.join("usr/file"), "x").unwrap();
        rustix::fs::setxattr(upper.join("usr/file"), "user.mine", b"y", XattrFlags::empty()).unwrap();
        forge(&upper);
        let error = session.commit_bound(new_state(None, path), &Here).unwrap_err();
        let shown = if path.is_empty() { upper } else { upper.join(path) };
        assert_eq!(crate::causes::all(&error).last().unwrap(), &format!("`{}` {words}", shown.display()));
    }
    let mut session = fixture.store.session_create(None, Purpose::Kernel, "good").unwrap();
    fs::write(session.bind_upper().join("file"), "x").unwrap();
    let state = session.commit_bound(new_state(None, "good"), &Here).unwrap();
    assert_eq!(state.layers.len(), 1);
    let mut session = fixture.store.session_create(None, Purpose::Kernel, "forgotten").unwrap();
    session.bind_upper();
    let error = session.commit(new_state(None, "forgotten")).unwrap_err();
    assert!(error.to_string().ends_with("was mounted in another one"), "{error}");
}

#[test]
fn directories_are_private_and_stay_so() {
    let fixture = Fixture::new();
    let root = fixture.store.root();
    assert_eq!(mode(root), 0o700);
    for name in DIRECTORIES {
        assert_eq!(mode(&root.join(name)), 0o700, "{name}");
    }
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    fixture.reopen();
    assert_eq!(mode(root), 0o700);
    let file = root.join("store.json");
    let error = Store::open(&file, &idmap(100_000)).unwrap_err();
    assert_eq!(error.to_string(), format!("`{}` is not a directory", file.display()));
}

#[test]
fn an_id_map_covers_another_in_whatever_pieces() {
    let range = |inside, outside, count| IdRange { inside, outside, count };
    let whole = [range(0, 1000, 1), range(1, 100_000, 65536)];
    let pieces = [range(0, 1000, 1), range(1, 100_000, 999), range(1000, 100_999, 64537)];
    assert!(covers(&pieces, &whole) && covers(&whole, &pieces) && covers(&whole, &[range(5, 100_004, 10)]));
    for other in [
        &whole[..1],
        &[range(0, 1000, 1), range(1, 100_000, 65535)],
        &[range(0, 1000, 1), range(1, 100_000, 999), range(1001, 101_000, 64536)],
        &[range(0, 1000, 1), range(1, 100_000, 999), range(1000, 100_998, 64537)],
        &[range(0, 1001, 1), range(1, 100_000, 65536)],
    ] {
        assert!(!covers(other, &whole), "{other:?}");
    }
}

#[test]
fn commit_then_ref() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let base = fixture.commit(None, "key-a");
    let top = fixture.commit(Some(&base), "key-b");
    assert_eq!(top.layers.len(), 2);
    assert_eq!(top.layers[0], base.layers[0]);
    let lower = store.lower_dirs(&top);
    assert_eq!(fs::read_to_string(lower[0].join("key-b")).unwrap(), "key-b");
    assert_eq!(fs::read_to_string(lower[1].join("key-a")).unwrap(), "key-a");
    assert_eq!(store.state(&top.id).unwrap(), top);
    assert_eq!(store.state_by_key("key-a").unwrap(), Some(base.clone()));
    assert_eq!(store.state_by_key("key-c").unwrap(), None);

    assert_eq!(store.ref_get("profile/x/upstream").unwrap(), None);
    store.ref_set("profile/x/upstream", &base.id).unwrap();
    store.ref_set("profile/x", &base.id).unwrap();
    store.ref_set("profile/x/upstream", &top.id).unwrap();
    store.ref_set("profile/x/upstream", &top.id).unwrap();
    assert_eq!(store.ref_get("profile/x/upstream").unwrap(), Some(top.id.clone()));
    assert_eq!(store.ref_get("profile/x/upstream@{1}").unwrap(), Some(base.id.clone()));
    let error = store.ref_get("profile/x/upstream@{2}").unwrap_err();
    assert_eq!(error.to_string(), "`profile/x/upstream` has no value 2: 2 are kept");
    assert_eq!(
        store.refs().unwrap(),
        [("profile/x".to_owned(), base.id.clone()), ("profile/x/upstream".to_owned(), top.id.clone())]
    );
    assert_eq!(store.resolve(&top.id.as_str()[..12]).unwrap(), top.id);
    assert_eq!(store.resolve("profile/x/upstream@{1}").unwrap(), base.id);
    for text in [&top.id.as_str()[..3], "", "nothing", "tree/gentoo"] {
        assert_eq!(store.resolve(text).unwrap_err().to_string(), format!("no build state is called `{text}`"));
    }
    assert_eq!(store.resolve("profile/y").unwrap_err().to_string(), "no build state is called `profile/y`");

    fs::create_dir_all(store.root().join("refs/kept/directory.ref")).unwrap();
    let error = store.ref_get("kept/directory").unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read `{}`", store.root().join("refs/kept/directory.ref").display()));
    let error = store.ref_remove("kept/directory").unwrap_err();
    assert_eq!(error.to_string(), format!("cannot remove `{}`", store.root().join("refs/kept/directory.ref").display()));
    fs::remove_dir_all(store.root().join("refs/kept")).unwrap();
    assert!(store.ref_remove("profile/x/upstream").unwrap());
    assert!(!store.ref_remove("profile/x/upstream").unwrap());
    assert!(!store.root().join("refs/profile/x").exists(), "a directory without a name in it goes, too");
    assert_eq!(store.refs().unwrap().len(), 1);
    assert!(store.recover(&Nowhere).unwrap().is_nothing());
}

#[test]
fn refs_remember_a_bounded_number_of_values() {
    let fixture = Fixture::new();
    let states = [fixture.commit(None, "a"), fixture.commit(None, "b")];
    for i in 0..40 {
        fixture.store.ref_set("kept/x", &states[i % 2].id).unwrap();
    }
    let history = fixture.store.ref_history("kept/x").unwrap();
    assert_eq!(history.len(), 32);
    assert_eq!(history[0].value, states[1].id);
    assert_eq!(history[1].value, states[0].id);
}

#[test]
fn a_ref_cannot_name_what_is_not_there() {
    let fixture = Fixture::new();
    let id: StateId = "0".repeat(32).parse().unwrap();
    let error = fixture.store.ref_set("kept/x", &id).unwrap_err();
    assert_eq!(error.to_string(), format!("there is no build state `{id}`"));
    let state = fixture.commit(None, "a");
    let error = fixture.store.ref_set("tree/gentoo", &state.id).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`tree/gentoo` cannot be a name in the store: only names of tree snapshots begin with `tree/`, and all of them do"
    );
}

#[test]
fn a_crash_after_each_step_of_a_commit_leaves_nothing_visible() {
    let cases = [Fault::LayerMeta, Fault::Sync, Fault::Rename, Fault::RenameSync, Fault::State, Fault::Sweep];
    for fault in cases {
        let fixture = Fixture::new();
        let base = fixture.commit(None, "base");
        let before = fixture.listing();
        let session = fixture.store.session_create(Some(&base), Purpose::Stage, "top").unwrap();
        fs::write(session.upper().join("file"), "content").unwrap();
        // As overlayfs leaves it.
        fs::create_dir(session.work().join("work")).unwrap();
        fs::set_permissions(session.work().join("work"), fs::Permissions::from_mode(0o000)).unwrap();
        CRASH_AFTER.set(Some(fault));
        let result = session.commit(new_state(Some(&base), "top"));
        CRASH_AFTER.set(None);
        assert!(matches!(result, Err(Error::Injected)), "{fault:?}");

        let store = fixture.reopen();
        let mut recovered = store.recover(&Here).unwrap();
        let committed = matches!(fault, Fault::State | Fault::Sweep);
        let sessions = usize::from(fault != Fault::Sweep);
        for _ in 0..200 {
            if recovered.sessions == sessions {
                break;
            }
            // A child that another test starts has our lock, too, from its fork to its exec.
            std::thread::sleep(std::time::Duration::from_millis(10));
            let more = store.recover(&Here).unwrap();
            recovered.sessions += more.sessions;
            recovered.layers += more.layers;
        }
        assert_eq!(recovered.sessions, sessions, "{fault:?}");
        assert_eq!(recovered.layers, usize::from(matches!(fault, Fault::Rename | Fault::RenameSync)), "{fault:?}");
        assert_eq!(store.state_by_key("top").unwrap().is_some(), committed, "{fault:?}");
        if !committed {
            assert_eq!(fixture.listing(), before, "{fault:?}");
        }
        assert!(store.recover(&Nowhere).unwrap().is_nothing(), "{fault:?}");
        let top = fixture.commit(Some(&base), "top");
        assert_eq!(store.lower_dirs(&top).len(), 2);
    }
}

#[test]
fn suspended_sessions_are_resumed_during_the_same_boot_only() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let session = store.session_create(None, Purpose::Bootstrap, "key").unwrap();
    fs::write(session.upper().join("half"), "done").unwrap();
    let id = session.id().clone();
    assert!(store.session_find_suspended("key").unwrap().is_none());
    session.suspend("interrupted").unwrap();
    assert!(store.recover(&Nowhere).unwrap().is_nothing());
    assert!(store.session_find_suspended("other").unwrap().is_none());
    let resumed = store.session_find_suspended("key").unwrap().unwrap();
    assert_eq!(*resumed.id(), id);
    assert_eq!(fs::read_to_string(resumed.upper().join("half")).unwrap(), "done");
    assert!(store.session_find_suspended("key").unwrap().is_none(), "resumed twice");
    resumed.suspend("interrupted again").unwrap();

    // After a reboot.
    let path = store.session_dir(&id).join("session.json");
    let mut record: SessionRecord = durable::read_json(&path).unwrap().unwrap();
    record.boot_id = "an earlier one".to_owned();
    fs::write(&path, serde_json::to_vec(&record).unwrap()).unwrap();
    assert!(store.session_find_suspended("key").unwrap().is_none());
    assert_eq!(store.recover(&Here).unwrap().sessions, 1);
    assert!(store.sessions().unwrap().is_empty());
}

#[test]
fn a_layer_on_nothing_lies_on_several_bases_without_a_copy() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let payload = fixture.commit(None, "payload");
    for name in ["one", "two"] {
        let base = fixture.commit(None, name);
        let layers: Vec<LayerId> = base.layers.iter().chain(&payload.layers).cloned().collect();
        let both = store.state_of_layers(layers.clone(), new_state(Some(&base), &format!("{name} with payload"))).unwrap();
        assert_eq!((&both.layers, &both.parent), (&layers, &Some(base.id.clone())));
        assert_eq!(store.state_by_key(&both.key).unwrap(), Some(both.clone()));
        let top = fixture.commit(Some(&both), &format!("{name} top"));
        assert_eq!(top.layers[..2], layers);
    }
    assert_eq!(store.layers().unwrap().len(), 5);
    let unknown = LayerId::fresh().unwrap();
    assert!(matches!(store.state_of_layers(vec![unknown], new_state(None, "x")), Err(Error::NoSuchLayer(_))));
}

#[test]
fn what_was_suspended_with_other_inputs_is_superseded() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let begin = |subject, key| store.session_create_for(None, Purpose::Stage, key, Some(subject)).unwrap();
    begin("stage4/web", "old").suspend("emerge failed").unwrap();
    begin("stage4/web", "older").suspend("emerge failed").unwrap();
    begin("stage4/web", "new").suspend("interrupted").unwrap();
    begin("stage4/mail", "old").suspend("emerge failed").unwrap();
    store.session_create(None, Purpose::Stage, "old").unwrap().suspend("nameless").unwrap();
    let living = begin("stage4/web", "at work");
    assert_eq!(store.session_discard_superseded("stage4/web", "new", &Here).unwrap(), 2);
    assert_eq!(store.session_discard_superseded("stage4/web", "new", &Nowhere).unwrap(), 0);
    let left: Vec<String> = store.sessions().unwrap().into_iter().map(|record| record.key).collect();
    assert_eq!(left, ["new", "old", "old", "at work"]);
    living.discard(&Here).unwrap();
}

#[test]
fn living_sessions_are_left_alone_and_dropped_ones_are_not() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let session = store.session_create(None, Purpose::Throwaway, "").unwrap();
    let kept_by_pid1 = session.lock_fd().unwrap();
    assert!(fixture.reopen().recover(&Nowhere).unwrap().is_nothing());
    drop(session);
    assert!(store.recover(&Nowhere).unwrap().is_nothing(), "PID 1 still has the lock");
    drop(kept_by_pid1);
    assert_eq!(store.recover(&Here).unwrap(), Recovered { sessions: 1, layers: 0, temporary: 0 });
    assert!(store.sessions().unwrap().is_empty());
}

#[test]
fn a_session_without_a_readable_record_is_an_orphan() {
    let fixture = Fixture::new();
    let session = fixture.store.session_create(None, Purpose::Import, "").unwrap();
    fs::write(session.path("session.json"), "").unwrap();
    let id = session.id().clone();
    drop(session);
    // Killed between the first two steps of making one.
    let bare = fixture.store.path("sessions").join(SessionId::fresh().unwrap().as_str());
    fs::create_dir(&bare).unwrap();
    assert_eq!(fixture.store.recover(&Here).unwrap().sessions, 2);
    assert!(!fixture.store.session_dir(&id).exists() && !bare.exists());
}

#[test]
fn nothing_is_committed_while_pid1_runs() {
    let fixture = Fixture::new();
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let mut session = fixture.store.session_create(None, Purpose::Stage, "").unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    session.record_pid1(pid).unwrap();
    let id = session.id().clone();
    let error = session.commit(new_state(None, "")).unwrap_err();
    assert_eq!(error.to_string(), format!("process {pid} of session `{id}` is still running"));
    // Recovery waits for it.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        assert_eq!(fixture.store.recover(&Here).unwrap().sessions, 1);
    });
}

#[test]
fn what_is_over_is_committed() {
    let fixture = Fixture::new();
    let mut session = fixture.store.session_create(None, Purpose::Stage, "").unwrap();
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    session.record_pid1(i32::try_from(child.id()).unwrap()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    session.commit(new_state(None, "")).unwrap();
}

#[test]
fn upper_directories_that_are_none_are_refused() {
    type Spoil = fn(&Path);
    let cases: [(Spoil, &str); 3] = [
        (|upper| fs::remove_dir(upper).unwrap(), "it is not a directory"),
        (
            |upper| {
                fs::remove_dir(upper).unwrap();
                symlink("/etc", upper).unwrap();
            },
            "it is not a directory",
        ),
        (
            |upper| fs::set_permissions(upper, fs::Permissions::from_mode(0o070)).unwrap(),
            "its mode is 70, so its owner cannot read and enter it",
        ),
    ];
    for (spoil, problem) in cases {
        let fixture = Fixture::new();
        let session = fixture.store.session_create(None, Purpose::Import, "").unwrap();
        let upper = session.upper();
        spoil(&upper);
        let error = session.commit(new_state(None, "")).unwrap_err();
        assert_eq!(error.to_string(), format!("`{}` cannot become a layer: {problem}", upper.display()));
        assert!(fixture.store.layers().unwrap().is_empty());
        assert_eq!(fixture.store.recover(&Here).unwrap().sessions, 1);
    }
}

#[test]
fn a_changed_id_map_stops_writing_and_a_longer_one_does_not() {
    let fixture = Fixture::new();
    let changed = Store::open(fixture.store.root(), &idmap(200_000)).unwrap();
    assert_eq!(changed.idmap_change(), IdMapChange::Changed);
    assert_eq!(*changed.idmap(), idmap(100_000));
    let error = changed.session_create(None, Purpose::Import, "").unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "`{}` was made with uids 1000, 100000-165535; gids 1000, 100000-165535, but the host now grants uids 1000, 200000-265535; gids \
             1000, 200000-265535",
            changed.root().display()
        )
    );
    let mut longer = idmap(100_000);
    longer.uids.push(IdRange { inside: 65537, outside: 900_000, count: 10 });
    assert_eq!(Store::open(fixture.store.root(), &longer).unwrap().idmap_change(), IdMapChange::None);
    let mut shorter = idmap(100_000);
    shorter.gids[1].count -= 1;
    assert_eq!(Store::open(fixture.store.root(), &shorter).unwrap().idmap_change(), IdMapChange::Changed);
}

#[test]
fn another_version_is_refused() {
    let fixture = Fixture::new();
    let path = fixture.store.path("store.json");
    let text = fs::read_to_string(&path).unwrap().replace("\"version\": 1", "\"version\": 9");
    fs::write(&path, text).unwrap();
    let error = Store::open(fixture.store.root(), &idmap(100_000)).unwrap_err();
    assert_eq!(error.to_string(), format!("`{}` has layout version 9, but this program knows 1", path.display()));
}

#[test]
fn tree_snapshots() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let area = store.tree_begin().unwrap();
    fs::create_dir(area.tree().join("profiles")).unwrap();
    fs::write(area.tree().join("profiles/repo_name"), "gentoo\n").unwrap();
    assert!(store.recover(&Nowhere).unwrap().is_nothing());
    let id = area.commit_tree(json!({ "file": "gentoo-20260811.tar.xz" })).unwrap();
    store.tree_ref_set("gentoo", &id).unwrap();
    let tree = store.tree(&store.tree_ref_get("gentoo").unwrap().unwrap()).unwrap();
    assert_eq!(fs::read_to_string(tree.path.join("profiles/repo_name")).unwrap(), "gentoo\n");
    assert_eq!(tree.meta.origin["file"], "gentoo-20260811.tar.xz");
    assert_eq!(store.tree_refs().unwrap(), [("gentoo".to_owned(), id.clone())]);
    let histories = store.tree_histories().unwrap();
    let values: Vec<_> = histories.iter().flat_map(|(name, values)| values.iter().map(move |entry| (name, &entry.value))).collect();
    assert_eq!(values, [(&"gentoo".to_owned(), &id)]);
    assert!(store.refs().unwrap().is_empty());
    assert!(store.recover(&Nowhere).unwrap().is_nothing());

    // One that is dropped half-way, a stray file, and a directory whose lock was never made.
    drop(store.tree_begin().unwrap());
    fs::write(store.path("tmp").join("stray"), "").unwrap();
    fs::create_dir(store.path("tmp").join("bare")).unwrap();
    assert_eq!(store.recover(&Here).unwrap().temporary, 3);
    assert_eq!(fs::read_dir(store.path("tmp")).unwrap().count(), 0);
    assert_eq!(store.trees().unwrap().len(), 1);
}

#[test]
fn concurrent_commits_recoveries_and_ref_moves() {
    let fixture = Fixture::new();
    let base = fixture.commit(None, "base");
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (store, base) = (fixture.reopen(), &base);
            scope.spawn(move || {
                for round in 0..6 {
                    let key = format!("{worker}-{round}");
                    store.recover(&Here).unwrap();
                    let session = store.session_create(Some(base), Purpose::Stage, &key).unwrap();
                    fs::write(session.upper().join(&key), &key).unwrap();
                    if round % 3 == 2 {
                        drop(session);
                        continue;
                    }
                    let state = session.commit(new_state(Some(base), &key)).unwrap();
                    store.ref_set("kept/shared", &state.id).unwrap();
                }
            });
        }
    });
    fixture.store.recover(&Here).unwrap();
    assert!(fixture.store.recover(&Nowhere).unwrap().is_nothing());
    let states = fixture.store.states().unwrap();
    assert_eq!(states.len(), 1 + 4 * 4);
    assert_eq!(fixture.store.layers().unwrap().len(), states.len());
    for state in states {
        for path in fixture.store.lower_dirs(&state) {
            assert!(path.is_dir());
        }
    }
    assert_eq!(fixture.store.ref_history("kept/shared").unwrap().len(), 16);
}

#[test]
fn named_locks() {
    let fixture = Fixture::new();
    let held = fixture.store.lock_named("profile/x", Wait::NoWait).unwrap();
    let _other = fixture.store.lock_named("profile/y", Wait::NoWait).unwrap();
    let _shared = fixture.store.lock_shared(Wait::NoWait).unwrap();
    let error = fixture.reopen().lock_named("profile/x", Wait::NoWait).unwrap_err();
    let pid = std::process::id();
    assert_eq!(error.to_string(), format!("`profile/x` is in use by process {pid} (`gentoomuch test`)"));
    assert!(matches!(fixture.store.lock_exclusive(Wait::NoWait), Err(Error::Busy(_))));
    drop(held);
    assert!(fixture.store.lock_named("../x", Wait::NoWait).is_err());
    assert!(fixture.reopen().lock_named("profile/x", Wait::NoWait).is_ok());
    // Shared by several, and then by nobody who wants it alone.
    let one = fixture.store.lock_named_shared("profile/x", Wait::NoWait).unwrap();
    let two = fixture.store.lock_named_shared("profile/x", Wait::NoWait).unwrap();
    drop(one);
    assert!(matches!(fixture.reopen().lock_named("profile/x", Wait::NoWait), Err(Error::Busy(_))));
    drop(two);
    assert!(fixture.reopen().lock_named("profile/x", Wait::NoWait).is_ok());
}

#[test]
fn a_failed_write_leaves_a_valid_store() {
    let fixture = Fixture::new();
    let base = fixture.commit(None, "base");
    let session = fixture.store.session_create(Some(&base), Purpose::Stage, "top").unwrap();
    // `layer.json` cannot be written.
    fs::create_dir(session.path("layer/layer.json")).unwrap();
    let path = session.path("layer/layer.json");
    let error = session.commit(new_state(Some(&base), "top")).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot write `{}`", path.display()));
    assert_eq!(fixture.store.recover(&Here).unwrap().sessions, 1);
    assert_eq!(fixture.store.layers().unwrap().len(), 1);
    assert!(fixture.store.recover(&Nowhere).unwrap().is_nothing());
}

#[test]
fn reports() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let base = fixture.commit(None, "base");
    let left = fixture.commit(Some(&base), "left");
    let right = fixture.commit(Some(&base), "right");
    store.ref_set("kept/x", &left.id).unwrap();
    store.ref_set("kept/x", &right.id).unwrap();
    let session = store.session_create(Some(&right), Purpose::Stage, "k").unwrap();
    let list = store.list().unwrap();
    assert_eq!((list.refs.len(), list.states.len(), list.layers.len(), list.sessions.len()), (1, 3, 3, 1));
    assert_eq!(list.refs[0].previous, 1);
    assert_eq!(list.states.iter().find(|state| state.id == right.id).unwrap().refs, ["kept/x"]);
    assert_eq!(list.layers.iter().map(|l| l.states).collect::<Vec<_>>(), [3, 1, 1]);
    assert_eq!(list.sessions[0].id, *session.id());
    let show = store.show("kept/x@{1}").unwrap();
    assert_eq!(show.former_refs, [("kept/x".to_owned(), 1)]);
    assert_eq!(show.refs, [""; 0]);
    // Made within one millisecond, they sort by their ids.
    let children: BTreeSet<StateId> = store.show(base.id.as_str()).unwrap().children.into_iter().collect();
    assert_eq!(children, BTreeSet::from([left.id.clone(), right.id.clone()]));

    let usage = store.disk_usage(&Here).unwrap();
    let of = |state: &State| usage.states.iter().find(|s| s.id == state.id).unwrap();
    let (b, l) = (of(&base), of(&left));
    assert_eq!((b.own_bytes, b.total_bytes), (0, b.shared_bytes));
    assert_eq!(l.shared_bytes, b.shared_bytes);
    assert_eq!(l.total_bytes, l.own_bytes + l.shared_bytes);
    assert!(l.own_bytes > 0);
    let sum = usage.layers.iter().map(|l| l.usage.bytes).sum::<u64>() + usage.sessions.values().map(|s| s.bytes).sum::<u64>();
    assert_eq!(usage.total_bytes, sum);
    let json = serde_json::to_value(&usage).unwrap();
    assert!(json["layers"][0]["bytes"].is_u64());
}

/// Each command pays for it, however large the store is.
#[test]
fn recovery_with_nothing_to_do_reads_no_layer_state_or_name() {
    let fixture = Fixture::new();
    fixture.commit(None, "base");
    let _suspended = fixture.store.session_create(None, Purpose::Bootstrap, "k").unwrap().suspend("test");
    let _running = fixture.store.session_create(None, Purpose::Stage, "k").unwrap();
    for name in ["layers", "states", "refs"] {
        let dir = fixture.store.root().join(name);
        fs::rename(&dir, dir.with_extension("away")).unwrap();
    }
    assert!(fixture.store.recover(&Nowhere).unwrap().is_nothing());
}

#[test]
fn refs_below_a_name_move_together_with_their_histories() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let (first, second) = (fixture.commit(None, "a"), fixture.commit(None, "b"));
    for name in ["profile/old/upstream", "profile/old/gentoomuch/builder", "profile/older/upstream"] {
        store.ref_set(name, &first.id).unwrap();
        store.ref_set(name, &second.id).unwrap();
    }
    store.refs_rename("profile/old", "profile/new").unwrap();
    let names: Vec<String> = store.refs().unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["profile/new/gentoomuch/builder", "profile/new/upstream", "profile/older/upstream"]);
    assert_eq!(store.ref_get("profile/new/upstream@{1}").unwrap(), Some(first.id.clone()));
    let taken = store.refs_rename("profile/new", "profile/older").unwrap_err().to_string();
    assert_eq!(taken, format!("cannot rename `{}`", store.root().join("refs/profile/new").display()));
    let none = store.refs_rename("profile/none", "profile/other").unwrap_err().to_string();
    assert_eq!(none, format!("cannot rename `{}`", store.root().join("refs/profile/none").display()));
    assert!(store.refs_rename("profile/../x", "profile/y").is_err());
}
