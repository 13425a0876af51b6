//! States that are gone although something leads to them: a file system check, or a user, has taken their files.

use super::*;
use crate::store::recover::Recovered;

/// Two states on a base, and a third that has no name.
struct Lost {
    fixture: Fixture,
    base: State,
    old: State,
    top: State,
}

impl Lost {
    fn new() -> Self {
        let fixture = Fixture::new();
        let base = fixture.commit(None, "base");
        let (old, top) = (fixture.commit(Some(&base), "old"), fixture.commit(Some(&base), "top"));
        fixture.store.ref_set("stage4/web", &old.id).unwrap();
        fixture.store.ref_set("stage4/web", &top.id).unwrap();
        Self { fixture, base, old, top }
    }

    fn path(&self, state: &State) -> std::path::PathBuf {
        self.fixture.store.state_path(&state.id)
    }
}

#[test]
fn layers_stay_as_long_as_something_leads_to_a_missing_state() {
    type Spoil = fn(&Lost) -> (std::path::PathBuf, Vec<u8>);
    fn gone(path: &Path) -> (std::path::PathBuf, Vec<u8>) {
        let bytes = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        (path.to_owned(), bytes)
    }
    fn spoilt(path: &Path, change: impl Fn(String) -> String) -> (std::path::PathBuf, Vec<u8>) {
        let bytes = fs::read(path).unwrap();
        fs::write(path, change(String::from_utf8(bytes.clone()).unwrap())).unwrap();
        (path.to_owned(), bytes)
    }
    let cases: [(&str, Spoil, &str); 6] = [
        ("the present value", |lost| gone(&lost.path(&lost.top)), "`stage4/web` names build state `"),
        ("an earlier value", |lost| gone(&lost.path(&lost.old)), "`stage4/web` once named build state `"),
        ("what a state was made from", |lost| gone(&lost.path(&lost.base)), "was made from `"),
        ("a state that is damaged", |lost| spoilt(&lost.path(&lost.top), |_| "[]".to_owned()), "cannot be read"),
        (
            "a state that was changed",
            |lost| spoilt(&lost.path(&lost.top), |text| text.replace(lost.top.layers[1].as_str(), "0123456789abcdef0123")),
            "does not match its id",
        ),
        (
            "a name that is damaged",
            |lost| spoilt(&lost.fixture.store.root().join("refs/stage4/web.ref"), |_| String::new()),
            "is damaged: line 1 is not an id and a time",
        ),
    ];
    for (what, spoil, words) in cases {
        let lost = Lost::new();
        let store = &lost.fixture.store;
        let unnamed = lost.fixture.commit(None, "unnamed");
        let (path, bytes) = spoil(&lost);
        // An orphan, as a killed process leaves it: recovery has something to do.
        drop(store.session_create(None, Purpose::Throwaway, "").unwrap());
        let recovered = store.recover(&Here).unwrap();
        assert_eq!(recovered, Recovered { sessions: 1, layers: 0, temporary: 0 }, "{what}");
        // A cleaning that was cut off.
        let area = store.temp_area().unwrap();
        fs::write(area.path().join(super::super::clean::MARK), "").unwrap();
        drop(area);
        assert_eq!(store.recover(&Here).unwrap(), Recovered { sessions: 0, layers: 0, temporary: 1 }, "{what}");
        let all = Unused {
            states: store.state_ids().unwrap().into_iter().collect(),
            layers: store.ids::<LayerId>("layers", "").unwrap().into_iter().collect(),
            ..Unused::default()
        };
        let exclusive = store.lock_exclusive(Wait::NoWait).unwrap();
        // What cannot be read at all ends it.
        drop(store.remove_unused(&exclusive, &all, &Here));
        assert_eq!(store.ids::<LayerId>("layers", "").unwrap().len(), 4, "{what}");

        store.recover(&Here).unwrap();
        let report = store.verify().unwrap();
        let found = report.findings.iter().find(|finding| finding.to_string().contains(words));
        let found = found.unwrap_or_else(|| panic!("{what}: {:?}", report.findings));
        assert_eq!(found.severity(), Severity::Error, "{what}");
        assert!(found.remedy().contains("from a backup"), "{what}: {}", found.remedy());

        fs::write(&path, bytes).unwrap();
        assert!(store.verify().unwrap().is_clean(), "{what}: {:?}", store.verify().unwrap().findings);
        store.remove_unused(&exclusive, &all, &Here).unwrap();
        let mut left = store.ids::<LayerId>("layers", "").unwrap();
        left.retain(|id| unnamed.layers.contains(id));
        assert_eq!((left.len(), store.state_ids().unwrap().len()), (0, 3), "{what}");
    }
}

#[test]
fn what_is_missing_is_named_with_its_file() {
    let lost = Lost::new();
    let store = &lost.fixture.store;
    fs::remove_file(lost.path(&lost.old)).unwrap();
    let report = store.verify().unwrap();
    let words: Vec<String> = report.findings.iter().map(|finding| format!("{finding}: {}", finding.remedy())).collect();
    assert_eq!(
        words,
        [
            format!(
                "`stage4/web` once named build state `{0}`, but `states/{0}.json` is missing: restore that file from a backup, or give up the \
                 earlier value with `gentoomuch clean --keep N`; until then all states and layers stay",
                lost.old.id
            ),
            format!(
                "no build state has layer `{}`: it stays, since a missing or damaged state may need it: see the other findings",
                lost.old.layers[1]
            ),
        ]
    );
    // Given up.
    let exclusive = store.lock_exclusive(Wait::NoWait).unwrap();
    store.ref_forget(&exclusive, "stage4/web", &[1].into()).unwrap();
    let unused = Unused { layers: lost.old.layers.iter().cloned().collect(), ..Unused::default() };
    store.remove_unused(&exclusive, &unused, &Here).unwrap();
    assert_eq!(store.layers().unwrap().len(), 2);
    assert!(store.verify().unwrap().is_clean());
}

#[test]
fn a_suspended_session_waits_for_the_state_below_it() {
    let lost = Lost::new();
    let store = &lost.fixture.store;
    let below = lost.fixture.commit(Some(&lost.base), "below");
    let session = store.session_create(Some(&below), Purpose::Bootstrap, "key").unwrap();
    fs::write(session.upper().join("compiled"), "for hours").unwrap();
    let id = session.id().clone();
    session.suspend("interrupted").unwrap();
    let bytes = fs::read(lost.path(&below)).unwrap();
    fs::remove_file(lost.path(&below)).unwrap();
    assert!(store.recover(&Nowhere).unwrap().is_nothing());
    assert!(store.session_find_suspended("key").unwrap().is_none());
    let report = store.verify().unwrap();
    let words = format!("suspended session `{id}` is on build state `{0}`, but `states/{0}.json` is missing", below.id);
    assert!(report.findings.iter().any(|finding| finding.to_string() == words), "{:?}", report.findings);
    fs::write(lost.path(&below), bytes).unwrap();
    assert_eq!(*store.session_find_suspended("key").unwrap().unwrap().id(), id);
}

#[test]
fn a_state_that_could_not_be_read_again_is_not_made() {
    let fixture = Fixture::new();
    let base = fixture.commit(None, "base");
    let mut origin = Value::Null;
    for _ in 0..200 {
        origin = json!({ "parent": origin });
    }
    let new = NewState { origin: origin.into(), ..new_state(Some(&base), "deep") };
    let session = fixture.store.session_create(Some(&base), Purpose::Throwaway, "deep").unwrap();
    let error = session.commit(new.clone()).unwrap_err();
    assert!(error.to_string().starts_with("cannot write the contents of `"), "{error}");
    assert!(crate::causes::all(&error).last().unwrap().contains("recursion limit"), "{error:?}");
    assert!(fixture.store.state_of_layers(base.layers.clone(), new).is_err());
    assert_eq!(fixture.store.states().unwrap(), [base]);
}
