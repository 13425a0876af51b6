//! What nothing leads to goes.

use super::*;
use crate::store::clean;

#[test]
fn what_is_unused_goes_and_what_anything_leads_to_stays() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let base = fixture.commit(None, "base");
    let (old, top, lost) = (fixture.commit(Some(&base), "old"), fixture.commit(Some(&base), "top"), fixture.commit(None, "lost"));
    store.ref_set("stage4/web", &old.id).unwrap();
    store.ref_set("stage4/web", &top.id).unwrap();
    let held = store.session_create(Some(&lost), Purpose::Stage, "held").unwrap();
    let left = store.session_create(None, Purpose::Stage, "left").unwrap();
    let (session, lock) = (left.id().clone(), left.path("lock"));
    left.suspend("interrupted").unwrap();
    let exclusive = store.lock_exclusive(Wait::NoWait).unwrap();
    // Asked to remove everything, it removes nothing that anything leads to.
    let all = Unused {
        states: store.states().unwrap().into_iter().map(|state| state.id).collect(),
        layers: store.layers().unwrap().into_iter().map(|layer| layer.id).collect(),
        sessions: [held.id().clone(), session].into(),
        ..Unused::default()
    };
    // One whose lock is gone is nobody's.
    fs::remove_file(lock).unwrap();
    store.remove_unused(&exclusive, &all, &Here).unwrap();
    assert_eq!((store.states().unwrap().len(), store.layers().unwrap().len()), (4, 4));
    assert_eq!(store.sessions().unwrap().iter().map(|record| &record.id).collect::<Vec<_>>(), [held.id()]);
    held.discard(&Here).unwrap();
    store.ref_forget(&exclusive, "stage4/web", &[0, 1, 7].into()).unwrap();
    assert_eq!(store.ref_history("stage4/web").unwrap().len(), 1);
    store.remove_unused(&exclusive, &all, &Here).unwrap();
    let there: BTreeSet<StateId> = store.states().unwrap().into_iter().map(|state| state.id).collect();
    assert_eq!((there, store.layers().unwrap().len()), (BTreeSet::from([base.id, top.id]), 2));
    assert!(store.verify().unwrap().is_clean());
    assert!(store.recover(&Nowhere).unwrap().is_nothing());
}

/// A store that was damaged.
#[test]
fn a_circle_of_states_has_an_end() {
    let ids: Vec<StateId> = ["0", "1", "2"].map(|digit| digit.repeat(32).parse().unwrap()).into();
    let parent = |id: &StateId| match ids.iter().position(|known| known == id) {
        Some(2) => Ok(None),
        Some(at) => Ok::<_, Error>(Some(Some(ids[1 - at].clone()))),
        None => panic!("{id}"),
    };
    let reached = Reached::from(ids.clone(), parent).unwrap();
    assert_eq!((reached.there, reached.missing), (ids[..2].iter().cloned().collect(), ids[2..].iter().cloned().collect()));
}

#[test]
fn what_cannot_be_moved_away_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    durable::rename(&from, &to).unwrap();
    fs::create_dir(&from).unwrap();
    fs::write(&to, "").unwrap();
    let error = durable::rename(&from, &to).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot move away `{}`", from.display()));
}

#[test]
fn a_cleaning_that_was_cut_off_is_finished_by_recovery() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let state = fixture.commit(None, "a");
    let area = store.temp_area().unwrap();
    fs::write(area.path().join(clean::MARK), "").unwrap();
    fs::rename(store.root().join(format!("states/{}.json", state.id)), area.path().join("state")).unwrap();
    // While it is locked, it is somebody's.
    assert!(fixture.reopen().recover(&Here).unwrap().is_nothing());
    drop(area);
    let recovered = fixture.reopen().recover(&Here).unwrap();
    assert_eq!(recovered, Recovered { sessions: 0, layers: 1, temporary: 1 });
    assert!(!recovered.is_nothing());
    assert!(store.verify().unwrap().is_clean());
}

#[test]
fn the_whole_store_goes_unless_somebody_works_in_it() {
    let fixture = Fixture::new();
    let store = fixture.reopen();
    store.ref_set("kept/x", &fixture.commit(None, "a").id).unwrap();
    let session = fixture.store.session_create(None, Purpose::Stage, "held").unwrap();
    let error = store.clone().remove_everything(store.lock_exclusive(Wait::NoWait).unwrap(), &Here).unwrap_err();
    assert_eq!(error.to_string(), format!("a process still works in session `{}`", session.id()));
    assert_eq!(store.states().unwrap().len(), 1);
    session.suspend("interrupted").unwrap();
    store.clone().remove_everything(store.lock_exclusive(Wait::NoWait).unwrap(), &Here).unwrap();
    assert!(!store.root().exists());
}

#[test]
fn the_last_use_of_a_state_is_noted() {
    let fixture = Fixture::new();
    let state = fixture.commit(None, "a");
    let path = fixture.store.root().join(format!("states/{}.json", state.id));
    fs::File::options().write(true).open(&path).unwrap().set_modified(std::time::UNIX_EPOCH + Duration::from_secs(7)).unwrap();
    assert_eq!(fixture.store.last_used(&state.id), 7);
    fixture.store.session_create(Some(&state), Purpose::Throwaway, "").unwrap().discard(&Here).unwrap();
    assert!(fixture.store.last_used(&state.id) > 1_700_000_000);
    assert_eq!(fixture.store.state(&state.id).unwrap(), state);
}
