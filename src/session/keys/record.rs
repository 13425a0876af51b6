//! What a session has found out about packages, noted beside its directories. A resumed session has the keys that it began with.
//!
//! Once something has run in the session, Portage may answer differently, so no more keys are made. If nothing has run yet, a resumed
//! session makes the missing ones: it was interrupted before it could ask for everything that its goals need.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::session::keys::{Entry, Keys, Package, replace};
use crate::session::{Result, Work};

/// Beside the session's directories, and never visible in the session.
const RECORD: &str = "package-keys.json";

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// Something in the session has run.
    is_closed: bool,
    packages: Vec<Entry>,
}

impl Record {
    /// An incomplete record is left only by a crash of the machine, and one of another form by another version of ours. Then nothing is
    /// known, and nothing is published.
    fn read(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or(Self { is_closed: true, packages: Vec::new() })
    }
}

impl Keys {
    fn record(&self) -> Record {
        Record { is_closed: self.is_closed.get(), packages: self.entries() }
    }

    fn restore(&self, record: Record) {
        let Record { is_closed, packages } = record;
        let those = |which: fn(&Entry) -> bool| -> BTreeSet<Package> {
            let entries = packages.iter().filter(|entry| which(entry));
            entries.map(|entry| (entry.cpv.clone(), entry.repository.clone())).collect()
        };
        *self.own.borrow_mut() = those(|entry| entry.own);
        *self.planned.borrow_mut() = those(|entry| entry.planned);
        *self.known.borrow_mut() = packages.into_iter().map(Entry::apart).collect();
        self.is_closed.set(is_closed);
    }
}

pub(crate) fn write_down(work: &Work<'_>) -> Result<()> {
    replace(&work.session.borrow().path(RECORD), &work.keys.record())
}

pub(crate) fn recall(work: &Work<'_>) {
    if !work.keys.known.borrow().is_empty() {
        return;
    }
    let Ok(bytes) = std::fs::read(work.session.borrow().path(RECORD)) else { return };
    work.keys.restore(Record::read(&bytes));
}

/// From now on things run that could change what Portage answers. This is noted before they run. So a resumed session knows it, whatever
/// happens to this process.
pub(crate) fn close_keys(work: &Work<'_>) -> Result<()> {
    work.keys.foreseen.borrow_mut().clear();
    recall(work);
    if !work.keys.is_closed.replace(true) {
        write_down(work)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portage::binpkgs::Described;

    fn of(cpv: &str) -> Package {
        (cpv.to_owned(), "r".to_owned())
    }

    fn add(keys: &Keys, cpv: &str) {
        let described = Described { cpv: cpv.to_owned(), repository: "r".to_owned(), ..Described::default() };
        keys.add(vec![of(cpv)], vec![described]);
    }

    /// What a session that goes on knows after this one.
    fn resumed(keys: &Keys) -> Keys {
        let later = Keys::default();
        later.restore(Record::read(&serde_json::to_vec(&keys.record()).unwrap()));
        later
    }

    fn publishes(keys: &Keys, cpv: &str) -> bool {
        let stanza = [("CPV", cpv), ("REPO", "r")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        keys.of_planned(&stanza).is_some()
    }

    #[test]
    fn a_session_that_was_interrupted_before_anything_ran_makes_further_keys() {
        let keys = Keys::default();
        add(&keys, "a/pool-1");
        let later = resumed(&keys);
        assert!(!later.is_closed.get());
        assert_eq!(later.unknown(&[of("a/pool-1"), of("a/new-1")]), [of("a/new-1")]);
        add(&later, "a/new-1");
        later.planned.borrow_mut().insert(of("a/new-1"));
        assert!(publishes(&later, "a/new-1") && !publishes(&later, "a/pool-1"));
        // Interrupted once more, between its goals.
        let last = resumed(&later);
        assert!(!last.is_closed.get() && publishes(&last, "a/new-1"));
    }

    #[test]
    fn once_something_ran_a_session_that_goes_on_has_the_keys_that_it_began_with() {
        let keys = Keys::default();
        add(&keys, "a/new-1");
        keys.planned.borrow_mut().insert(of("a/new-1"));
        keys.own.borrow_mut().insert(of("a/new-1"));
        keys.is_closed.set(true);
        let later = resumed(&keys);
        assert!(later.is_closed.get() && publishes(&later, "a/new-1"));
        assert_eq!(later.recorded(), keys.recorded());
    }

    #[test]
    fn of_a_record_that_cannot_be_read_nothing_is_known_and_nothing_follows() {
        for text in ["", "{\"is_closed\": false, \"packa", "[]", "{\"packages\": []}"] {
            let record = Record::read(text.as_bytes());
            assert!(record.is_closed && record.packages.is_empty(), "{text}");
        }
    }
}
