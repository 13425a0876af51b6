//! Files that cannot be read: lists go on without them, and what they may need stays.

use super::*;

#[test]
fn one_damaged_file_hides_nothing_else() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let (good, bad) = (fixture.commit(None, "good"), fixture.commit(None, "bad"));
    for (name, state) in [("stage4/good", &good), ("stage4/bad", &bad), ("stage4/damaged", &good)] {
        store.ref_set(name, &state.id).unwrap();
    }
    let damaged = [
        store.root().join("refs/stage4/damaged.ref"),
        store.state_path(&bad.id),
        store.layer_dir(&bad.layers[0]).join("layer.json"),
    ];
    for path in &damaged {
        fs::write(path, "?").unwrap();
    }
    let list = store.list().unwrap();
    assert_eq!(list.refs.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["stage4/bad", "stage4/good"]);
    assert_eq!(list.states.iter().map(|row| &row.id).collect::<Vec<_>>(), [&good.id]);
    assert_eq!(list.layers.iter().map(|row| &row.id).collect::<Vec<_>>(), [&good.layers[0]]);
    assert_eq!(store.damaged(), damaged.iter().cloned().collect());
    assert_eq!(store.show("stage4/good").unwrap().refs, ["stage4/good"]);
    assert_eq!(store.disk_usage(&Here).unwrap().states.len(), 1);
    assert_eq!(store.state_by_key("bad").unwrap(), None);
    assert_eq!(store.state_by_key("good").unwrap().map(|state| state.id), Some(good.id.clone()));
    let mut doubts = store.doubts().unwrap();
    doubts.sort();
    assert_eq!(doubts, damaged[..2]);
    assert!(matches!(store.histories(), Err(Error::DamagedRef { .. })));
    assert_eq!(store.readable_histories().unwrap().len(), 2);
    assert_eq!(store.ref_names().unwrap(), ["stage4/bad", "stage4/damaged", "stage4/good"]);
    // It is not read to be removed, and what it led to stays.
    assert!(store.ref_remove("stage4/damaged").unwrap());
    assert!(store.named_layers().unwrap().is_none());
}

#[test]
fn a_description_that_is_lost_hides_nothing_else() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let (good, bad) = (fixture.commit(None, "good"), fixture.commit(None, "bad"));
    let trees = [(); 2].map(|()| store.tree_begin().unwrap().commit_tree(serde_json::Value::Null).unwrap());
    let lost =
        [store.layer_dir(&bad.layers[0]).join("layer.json"), store.root().join("trees").join(trees[1].as_str()).join("tree.json")];
    for path in &lost {
        fs::remove_file(path).unwrap();
    }
    let list = store.list().unwrap();
    assert_eq!(list.layers.iter().map(|row| &row.id).collect::<Vec<_>>(), [&good.layers[0]]);
    assert_eq!(store.trees().unwrap().into_iter().map(|tree| tree.id).collect::<Vec<_>>(), [trees[0].clone()]);
    assert_eq!(store.damaged(), lost.iter().cloned().collect());
    // What the tree was brought from decides what is needed.
    assert_eq!(store.doubts().unwrap(), lost[1..]);
}

#[test]
fn a_chain_that_is_as_long_as_linux_stacks_gets_no_further_layer() {
    let fixture = Fixture::new();
    let mut base = fixture.commit(None, "base");
    base.layers = vec![base.layers[0].clone(); 500];
    let session = fixture.store.session_create(Some(&base), Purpose::Throwaway, "").unwrap();
    let error = session.commit(new_state(Some(&base), "more")).unwrap_err();
    assert_eq!(error.to_string(), format!("build state `{}` has 500 layers, and Linux stacks at most 500", base.id));
    assert_eq!(fixture.store.layer_ids().unwrap().len(), 1);
    base.layers.pop();
    let session = fixture.store.session_create(Some(&base), Purpose::Throwaway, "").unwrap();
    assert_eq!(session.commit(new_state(Some(&base), "last")).unwrap().layers.len(), 500);
}

#[test]
fn a_full_disk_takes_the_ballast_once() {
    let fixture = Fixture::new();
    let ballast = || fs::read_dir(fixture.store.root().join("ballast")).unwrap().count();
    assert_eq!(ballast(), 8);
    let full = |code: i32| Error::io("create", Path::new("x"), std::io::Error::from_raw_os_error(code));
    let tries = std::cell::Cell::new(0);
    let second = |code: i32| {
        tries.set(tries.get() + 1);
        if ballast() > 0 { Err(full(code)) } else { Ok(()) }
    };
    assert!(fixture.store.with_ballast(|| second(libc::EIO)).is_err());
    assert_eq!((tries.take(), ballast()), (1, 8));
    fixture.store.with_ballast(|| second(libc::ENOSPC)).unwrap();
    assert_eq!((tries.take(), ballast()), (2, 0));
    // Nothing is left to be given up.
    let nothing = || {
        tries.set(tries.get() + 1);
        Err::<(), _>(full(libc::EDQUOT))
    };
    assert!(fixture.store.with_ballast(nothing).is_err());
    assert_eq!(tries.take(), 1);
    fixture.reopen();
    assert_eq!(ballast(), 8);
    // As a process leaves one that was killed before it had its blocks.
    let empty = fixture.store.root().join("ballast/3");
    fs::write(&empty, "").unwrap();
    fixture.reopen();
    assert_eq!(fs::metadata(&empty).unwrap().len(), 64 << 10);
}
