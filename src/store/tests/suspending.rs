//! Sessions on a disk where nothing new can be made: what is in them is not lost.

use super::*;

/// Nothing can be made in a directory of the store, as on a full disk; until this is dropped.
struct Closed(std::path::PathBuf);

impl Closed {
    fn new(path: std::path::PathBuf) -> Self {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o500)).unwrap();
        Self(path)
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        fs::set_permissions(&self.0, fs::Permissions::from_mode(0o700)).unwrap();
    }
}

fn note(store: &Store) -> String {
    let [record] = &store.sessions().unwrap()[..] else { panic!("one session") };
    match &record.status {
        SessionStatus::Suspended { note, .. } => note.clone(),
        SessionStatus::Active => String::new(),
    }
}

#[test]
fn a_session_is_suspended_where_no_file_can_be_made() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let mut session = store.session_create(None, Purpose::Stage, "key").unwrap();
    assert!(!session.is_worth_keeping());
    fs::write(session.upper().join("built"), "for hours").unwrap();
    {
        let _full = Closed::new(store.path("tmp"));
        assert!(session.record_pid1(i32::MAX).is_err());
        session.suspend("emerge failed").unwrap();
        assert_eq!(note(store), "emerge failed");
        // One that cannot be resumed either stays as it is.
        assert!(matches!(store.session_find_suspended("key"), Err(Error::Io { .. })));
        assert_eq!(note(store), "emerge failed");
        assert!(store.recover(&Nowhere).unwrap().is_nothing());
    }
    let session = store.session_find_suspended("key").unwrap().unwrap();
    assert!(session.is_worth_keeping() && session.upper().join("built").exists());
    assert_eq!(note(store), "");
    session.commit(new_state(None, "key")).unwrap();
}

#[test]
fn a_session_whose_record_cannot_be_read_now_is_not_removed() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let session = store.session_create(None, Purpose::Stage, "key").unwrap();
    let (id, record) = (session.id().clone(), session.path("session.json"));
    session.suspend("interrupted").unwrap();
    fs::set_permissions(&record, fs::Permissions::from_mode(0o0)).unwrap();
    assert!(store.recover(&Nowhere).unwrap().is_nothing());
    let report = store.verify().unwrap();
    assert!(
        matches!(&report.findings[..], [crate::store::verify::Finding::Unreadable { path, .. }] if *path == record),
        "{:?}",
        report.findings
    );
    fs::set_permissions(&record, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(*store.session_find_suspended("key").unwrap().unwrap().id(), id);
    // Garbled, it is what a power cut leaves.
    fs::write(&record, "{").unwrap();
    store.recover(&Here).unwrap();
    assert!(!record.exists());
}

#[test]
fn what_cannot_become_a_layer_yet_is_suspended_if_it_is_worth_it() {
    for full in ["layers", "tmp", "states"] {
        for worth in [true, false] {
            let fixture = Fixture::new();
            let store = &fixture.store;
            let mut session = store.session_create(None, Purpose::Stage, "key").unwrap();
            fs::write(session.upper().join("built"), "for hours").unwrap();
            if worth {
                session.mark_worth_keeping();
            }
            let error = {
                let _full = Closed::new(store.path(full));
                session.commit(new_state(None, "key")).unwrap_err()
            };
            assert!(matches!(error, Error::Io { .. }), "{full}: {error}");
            assert!(store.states().unwrap().is_empty(), "{full}");
            if worth {
                assert!(note(store).starts_with("cannot "), "{full}: {}", note(store));
                assert!(store.recover(&Nowhere).unwrap().is_nothing(), "{full}");
                let session = store.session_find_suspended("key").unwrap().unwrap();
                let state = session.commit(new_state(None, "key")).unwrap();
                assert!(store.lower_dirs(&state)[0].join("built").exists(), "{full}");
            } else {
                store.recover(&Here).unwrap();
                assert!(store.sessions().unwrap().is_empty(), "{full}");
            }
            assert_eq!(store.layers().unwrap().len(), usize::from(worth), "{full}");
        }
    }
}
