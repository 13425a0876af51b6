//! Work by hand on a failed session: it never becomes a state, and never touches that session.

use super::*;
use crate::store::session::read_record;

fn failed(store: &Store) -> SessionId {
    let session = store.session_create_for(None, Purpose::Stage, "key", Some("stage4/web")).unwrap();
    fs::write(session.upper().join("built"), "clean").unwrap();
    let id = session.id().clone();
    session.suspend("emerge failed").unwrap();
    id
}

#[test]
fn what_a_hand_has_touched_becomes_no_state_whatever_happens_in_between() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let id = failed(store);
    assert!(!store.session_has_by_hand(&id).unwrap());
    let mut session = store.session_by_hand(store.session_hold(&id).unwrap().unwrap()).unwrap();
    let dir = session.path("");
    // From its first instant.
    assert_eq!(read_record(&dir).unwrap().by_hand, Some(id.clone()));
    assert_eq!(session.below().unwrap().record().id, id);
    fs::write(session.upper().join("made"), "by hand").unwrap();
    session.keep_whatever_happens("by hand").unwrap();
    // This process is killed: nobody says any more what becomes of it.
    drop(session);
    assert!(fixture.reopen().recover(&Nowhere).unwrap().is_nothing());

    let session = store.session_by_hand(store.session_hold(&id).unwrap().unwrap()).unwrap();
    assert_eq!(fs::read_to_string(session.upper().join("made")).unwrap(), "by hand", "another session");
    let error = session.commit(new_state(None, "key")).unwrap_err();
    assert!(matches!(error, Error::ByHand { .. }), "{error}");
    assert_eq!((store.states().unwrap().len(), store.layers().unwrap().len()), (0, 0));
    let mut bound = store.session_create_on(None, Purpose::Stage, "k", None, store.session_hold(&id).unwrap()).unwrap();
    bound.bind_upper();
    assert!(matches!(bound.commit_bound(new_state(None, "k"), &Here), Err(Error::ByHand { .. })));
}

#[test]
fn the_failed_session_waits_meanwhile_and_goes_on_alone() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let id = failed(store);
    let session = store.session_by_hand(store.session_hold(&id).unwrap().unwrap()).unwrap();
    assert!(store.session_hold(&id).unwrap().is_none(), "held twice");
    assert!(store.session_find_suspended("key").unwrap().is_none(), "it goes on below a hand");
    let held = session.lock_fd_below().unwrap().unwrap();
    session.suspend("by hand").unwrap();
    assert!(store.session_find_suspended("key").unwrap().is_none(), "a process of that session is still there");
    drop(held);
    assert!(store.session_has_by_hand(&id).unwrap());
    assert_eq!(store.session_discard_by_hand("stage4/mail", &Nowhere).unwrap(), 0);
    assert_eq!(store.session_discard_by_hand("stage4/web", &Here).unwrap(), 1);
    let session = store.session_find_suspended("key").unwrap().unwrap();
    assert_eq!(session.record().id, id);
    let state = session.commit(new_state(None, "key")).unwrap();
    assert_eq!((state.key.as_str(), store.sessions().unwrap().len()), ("key", 0));
    assert!(store.session_hold(&id).unwrap().is_none());
}
