//! What `store verify` and `store seal` find.

use super::*;
use crate::store::verify::{Difference, Finding};

#[test]
fn a_whole_store_verifies_and_each_kind_of_damage_is_named() {
    type Spoil = fn(&Store, &State);
    let cases: [(&str, Spoil, &str, Severity); 16] = [
        ("layer gone", |s, t| fs::remove_dir_all(s.layer_dir(&t.layers[1])).unwrap(), "needs layer", Severity::Error),
        (
            "layer without tree",
            |s, t| fs::remove_dir_all(s.layer_dir(&t.layers[0]).join("fs")).unwrap(),
            "fs` is not a directory",
            Severity::Error,
        ),
        (
            "layer.json",
            |s, t| fs::write(s.layer_dir(&t.layers[0]).join("layer.json"), "{").unwrap(),
            "is damaged: EOF",
            Severity::Error,
        ),
        (
            "file for a tree",
            |s, t| {
                let fs = s.layer_dir(&t.layers[0]).join("fs");
                fs::remove_dir_all(&fs).unwrap();
                fs::write(fs, "").unwrap();
            },
            "fs` is not a directory",
            Severity::Error,
        ),
        (
            "layer of another name",
            |s, t| {
                let [one, other] = [0, 1].map(|at| s.layer_dir(&t.layers[at]).join("layer.json"));
                fs::copy(one, other).unwrap();
            },
            "layer.json` does not match its name",
            Severity::Error,
        ),
        (
            "tree of another name",
            |s, _| {
                let id = s.tree_ref_get("gentoo").unwrap().unwrap();
                let file = s.path("trees").join(id.as_str()).join("tree.json");
                let text = fs::read_to_string(&file).unwrap().replace(id.as_str(), &"0".repeat(20));
                fs::write(file, text).unwrap();
            },
            "tree.json` does not match its name",
            Severity::Error,
        ),
        ("state gone", |s, t| fs::remove_file(s.state_path(&t.id)).unwrap(), "`kept/top` names build state", Severity::Error),
        ("state damaged", |s, t| fs::write(s.state_path(&t.id), "[]").unwrap(), "cannot be read", Severity::Error),
        (
            "state changed",
            |s, t| {
                let text = fs::read_to_string(s.state_path(&t.id)).unwrap().replace("by a test", "by an intruder");
                fs::write(s.state_path(&t.id), text).unwrap();
            },
            "does not match its id",
            Severity::Error,
        ),
        (
            "ref damaged",
            |s, _| fs::write(s.path("refs/kept/top.ref"), "x\n").unwrap(),
            "line 1 is not an id and a time",
            Severity::Error,
        ),
        ("ref with a bad name", |s, _| fs::write(s.path("refs/-x.ref"), "").unwrap(), "is not a file of the store", Severity::Note),
        (
            "open directory",
            |s, t| set_mode(&s.layer_dir(&t.layers[0]), 0o755).unwrap(),
            "has mode 0755, but should have 0700",
            Severity::Note,
        ),
        (
            "foreign file",
            |s, _| fs::write(s.path("layers/README"), "").unwrap(),
            "README` is not a file of the store",
            Severity::Note,
        ),
        ("a file", |s, _| fs::write(s.path("tmp/x"), "").unwrap(), "was left by a process that was killed", Severity::Note),
        ("litter", |s, _| fs::create_dir(s.path("tmp/x")).unwrap(), "was left by a process that was killed", Severity::Note),
        (
            "tree gone",
            |s, _| {
                let id = s.tree_ref_get("gentoo").unwrap().unwrap();
                fs::remove_dir_all(s.path("trees").join(id.as_str())).unwrap();
            },
            "`tree/gentoo` names tree snapshot",
            Severity::Error,
        ),
    ];
    for (what, spoil, words, severity) in cases {
        let fixture = Fixture::new();
        let base = fixture.commit(None, "base");
        let top = fixture.commit(Some(&base), "top");
        fixture.store.ref_set("kept/top", &top.id).unwrap();
        let tree = fixture.store.tree_begin().unwrap().commit_tree(Value::Null).unwrap();
        fixture.store.tree_ref_set("gentoo", &tree).unwrap();
        let running = fixture.store.session_create(Some(&top), Purpose::Throwaway, "").unwrap();
        let clean = fixture.store.verify().unwrap();
        assert!(clean.is_clean(), "{what}: {:?}", clean.findings);
        assert_eq!((clean.refs, clean.states, clean.layers, clean.trees), (2, 2, 2, 1));
        spoil(&fixture.store, &top);
        let report = fixture.store.verify().unwrap();
        let found = report.findings.iter().find(|f| f.to_string().contains(words));
        let found = found.unwrap_or_else(|| panic!("{what}: {:?}", report.findings));
        assert_eq!(found.severity(), severity, "{what}");
        assert!(!found.remedy().is_empty());
        assert_eq!(
            report.findings.iter().any(|finding| finding.severity() == Severity::Error),
            severity == Severity::Error,
            "{what}: {:?}",
            report.findings
        );
        drop(running);
    }
}

#[test]
fn a_changed_id_map_is_found_with_its_remedy() {
    let fixture = Fixture::new();
    let changed = Store::open(fixture.store.root(), &idmap(200_000)).unwrap();
    let report = changed.verify().unwrap();
    assert_eq!(report.findings.len(), 1);
    assert_eq!(
        report.findings[0].to_string(),
        "the store was made with uids 1000, 100000-165535; gids 1000, 100000-165535, but the host now grants uids 1000, 200000-265535; gids \
         1000, 200000-265535"
    );
    assert!(report.findings[0].remedy().contains("/etc/subuid"));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["findings"][0]["finding"], "id-map-changed");
}

#[test]
fn seal_and_verify_deep() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    let base = fixture.commit(None, "base");
    let top = fixture.commit(Some(&base), "top");
    let report = store.seal(&base.layers[0], &Here).unwrap();
    assert!(!report.was_sealed);
    assert_eq!((report.sealed.files, report.sealed.bytes), (2, 4));
    let again = store.seal(&base.layers[0], &Nowhere).unwrap();
    assert!(again.was_sealed);
    assert_eq!(again.sealed, report.sealed);
    let deep = store.verify_deep(&Here, 10, |_| {}).unwrap();
    assert_eq!(deep, DeepReport { good: vec![base.layers[0].clone()], different: vec![], unsealed: vec![top.layers[1].clone()] });
    assert!(store.verify().unwrap().is_clean());

    fs::write(store.layer(&base.layers[0]).unwrap().path.join("base"), "evil").unwrap();
    let deep = store.verify_deep(&Here, 10, |_| {}).unwrap();
    assert_eq!(deep.different.len(), 1);
    assert_eq!(deep.different[0].first, [Difference { path: "base".into(), what: "contents differ".into() }]);
    assert!(!deep.different[0].manifest_changed);
    // Somebody who makes the list fit the contents is found by the digest.
    let manifest = store.layer(&base.layers[0]).unwrap().manifest();
    fs::remove_file(&manifest).unwrap();
    tasks::function(tasks::SEAL).unwrap()(json!({ "tree": manifest.with_file_name("fs"), "manifest": manifest })).unwrap();
    let deep = store.verify_deep(&Here, 10, |_| {}).unwrap();
    assert!(deep.different[0].manifest_changed);
    fs::remove_file(&manifest).unwrap();
    assert_eq!(store.verify().unwrap().findings, [Finding::ManifestMissing { layer: base.layers[0].clone() }]);
    assert!(store.recover(&Nowhere).unwrap().is_nothing());
}

#[test]
fn a_failed_seal_leaves_the_layer_unsealed_and_no_litter() {
    let fixture = Fixture::new();
    let base = fixture.commit(None, "base");
    let layer = fixture.store.layer(&base.layers[0]).unwrap();
    fs::remove_dir_all(&layer.path).unwrap();
    let error = fixture.store.seal(&layer.id, &Here).unwrap_err();
    assert_eq!(error.to_string(), "`store.seal` failed inside the id map");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, format!("cannot open `{}`", layer.path.display()));
    assert!(fixture.store.layer(&layer.id).unwrap().meta.sealed.is_none());
    assert!(fixture.store.recover(&Nowhere).unwrap().is_nothing());
}

#[test]
fn a_lock_that_cannot_be_looked_at_is_named() {
    let fixture = Fixture::new();
    let lock = fixture.store.path("tmp").join("area/lock");
    fs::create_dir(lock.parent().unwrap()).unwrap();
    symlink("lock", &lock).unwrap();
    assert_eq!(fixture.store.verify().unwrap_err().to_string(), format!("cannot open `{}`", lock.display()));
}

/// Everything that becomes visible, or goes, in several steps, by threads that hold locks as processes do.
#[test]
fn what_others_are_making_or_removing_is_no_damage() {
    let fixture = Fixture::new();
    let base = fixture.commit(None, "base");
    let working = std::sync::atomic::AtomicUsize::new(4);
    let seen = std::thread::scope(|scope| {
        for worker in 0..4 {
            let (store, base, working) = (fixture.reopen(), &base, &working);
            scope.spawn(move || {
                for round in 0..40 {
                    let key = format!("{worker}-{round}");
                    let session = store.session_create(Some(base), Purpose::Stage, &key).unwrap();
                    // Enough that its removal takes a while.
                    for at in 0..20 {
                        fs::write(session.path("scratch").join(at.to_string()), &key).unwrap();
                    }
                    match round % 4 {
                        0 => session.discard(&Here).unwrap(),
                        1 => {
                            session.suspend("interrupted").unwrap();
                            let again = store.session_find_suspended(&key).unwrap().unwrap();
                            again.discard(&Here).unwrap();
                        }
                        _ => {
                            let state = session.commit(new_state(Some(base), &key)).unwrap();
                            store.ref_set(&format!("kept/{worker}"), &state.id).unwrap();
                            store.seal(&state.layers[1], &Here).unwrap();
                        }
                    }
                    let tree = store.tree_begin().unwrap().commit_tree(Value::Null).unwrap();
                    store.tree_ref_set("gentoo", &tree).unwrap();
                }
                working.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            });
        }
        let mut seen = Vec::new();
        while working.load(std::sync::atomic::Ordering::SeqCst) > 0 {
            seen.extend(fixture.store.verify().unwrap().findings);
        }
        seen
    });
    assert_eq!(seen, []);
}
