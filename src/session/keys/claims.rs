//! If several sessions are about to compile the same package, one does it, and the others wait until it is in the pool.
//!
//! ```text
//! emerge --pretend     what would be compiled --key--> claimed, all of it or nothing
//! another has some     wait until nobody has any of it; look at the pool and ask emerge again
//! emerge               each package's claim ends when it is published, the rest when the run ends, however that came
//! ```
//!
//! Claims only save work. If a package does not get into the pool, the session that waited for it compiles it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::context;
use crate::context::Context;
use crate::portage::binpkgs;
use crate::portage::binpkgs::PackageKey;
use crate::portage::binpkgs::claims::{Claims, Held, Taken, Wanted};
use crate::portage::cpv::Cpv;
use crate::portage::emerge::request::Request;
use crate::remote::Signers;
use crate::session::foreseen::Foreseen;
use crate::session::keys::pools::remove_index;
use crate::session::keys::{Keys, learn, pools};
use crate::session::{Error, Result, Work};
use crate::terminal_text::sanitize_line;

/// How often a waiting session looks.
const LOOK: Duration = Duration::from_millis(250);

/// Claims of a run. They end when this is dropped.
#[must_use = "claims end when this is dropped"]
pub(crate) struct Compiling<'w>(&'w Keys);

impl Drop for Compiling<'_> {
    fn drop(&mut self) {
        self.0.claims.replace(None);
    }
}

impl Keys {
    /// What a run is going to compile and other sessions could use.
    pub(super) fn to_compile(&self, foreseen: &Foreseen, request: &Request) -> Wanted {
        if self.pool.is_none() || !request.usepkg {
            return Wanted::new();
        }
        let known = self.known.borrow();
        let compiled = foreseen.list.iter().filter(|merge| !merge.binary);
        let ours = compiled.filter(|merge| !request.usepkg_exclude.iter().any(|name| name == Cpv::name_of(&merge.cpv)));
        ours.filter_map(|merge| {
            let package = (merge.cpv.clone(), merge.repository.clone()?);
            Some((known.get(&package)?.as_ref()?.key.clone(), sanitize_line(merge.cpv.as_bytes(), 200)))
        })
        .collect()
    }
}

/// As [`crate::session::keys::learn::foresee_and_learn`], but waits until nobody else compiles one of the packages that are to be compiled.
pub(crate) fn foresee_and_claim<'w>(cx: &Context<'_>, work: &'w Work<'_>, request: &Request) -> Result<(Foreseen, Compiling<'w>)> {
    // A package that emerge was offered and did not take is compiled in any case. So is one that could not be offered, for instance
    // because somebody has removed it from the pool by hand.
    let mut seen = work.keys.view.borrow().as_ref().map(|view| view.offered.clone()).unwrap_or_default();
    loop {
        let foreseen = learn::foresee_and_learn(cx, work, request)?;
        let wanted = work.keys.to_compile(&foreseen, request);
        let Some(pool) = work.keys.pool.as_deref().filter(|_| !wanted.is_empty()) else {
            return Ok((foreseen, Compiling(&work.keys)));
        };
        if claim(cx, work, pool, &wanted)? {
            let there = keys_in(pool)?;
            if there.iter().all(|key| seen.contains(key) || !wanted.contains_key(key)) {
                return Ok((foreseen, Compiling(&work.keys)));
            }
            work.keys.claims.replace(None);
            // Read before the next look. What comes into the pool during that look counts as new next time, at worst without need.
            seen.extend(there);
        }
        look_at_pools_again(cx, work)?;
    }
}

/// Whether the session has its claims now. If not, others had some of them but no longer have. A session that must not wait goes on
/// without claims.
fn claim(cx: &Context<'_>, work: &Work<'_>, pool: &Path, wanted: &Wanted) -> Result<bool> {
    let binpkgs = cx.places.binpkgs();
    let held = match Claims::take(&binpkgs, pool, &name_of(work), wanted.clone())? {
        Taken::All(claims) => {
            work.keys.claims.replace(Some(claims));
            return Ok(true);
        }
        Taken::Held(_) if cx.settings.no_wait => return Ok(true),
        Taken::Held(held) => held,
    };
    cx.observer.note(&words_of(&held));
    loop {
        std::thread::sleep(LOOK);
        context::not_interrupted(cx)?;
        if Claims::held(&binpkgs, pool, wanted)?.is_empty() {
            return Ok(false);
        }
    }
}

/// Shows the session what has come into the pools. Its own packages are published first, so they are there, too.
pub(super) fn look_at_pools_again(cx: &Context<'_>, work: &Work<'_>) -> Result<()> {
    pools::publish_rest(cx, work)?;
    if let Some(packages) = &work.root.packages {
        remove_index(&packages.own)?;
    }
    if let Some(view) = &mut *work.keys.view.borrow_mut() {
        let signers = Signers::new(cx);
        view.refresh(&work.keys.pools, &|stanza| work.keys.of_usable(stanza, &signers), crate::session::keys::pools::now())?;
    }
    work.keys.foreseen.borrow_mut().clear();
    Ok(())
}

/// A name for what a session makes, for the sessions that wait for it.
fn name_of(work: &Work<'_>) -> String {
    let session = work.session.borrow();
    let subject = session.record().subject.as_deref().unwrap_or_default();
    subject.split_once(" of /").map_or(subject, |(name, _)| name).to_owned()
}

fn words_of(held: &[Held]) -> String {
    let Some(first) = held.first() else { return String::new() };
    let more = match held.len() - 1 {
        0 => String::new(),
        1 => ", and for 1 more package".to_owned(),
        more => format!(", and for {more} more packages"),
    };
    format!("waiting for {}, which {} is compiling{more}", first.package, first.by)
}

fn keys_in(pool: &Path) -> Result<BTreeSet<PackageKey>> {
    let mut keys = BTreeSet::new();
    let note = |stanza: &_| {
        keys.extend(binpkgs::key_in(stanza));
        false
    };
    binpkgs::publish::index_of_those(pool, note).map_err(Error::from)?;
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_compiles_what_is_said_in_a_line() {
        let held = |count: usize| -> Vec<Held> {
            (0..count).map(|n| Held { package: format!("a/b-{n}"), by: "stage4/one".to_owned() }).collect()
        };
        assert_eq!(words_of(&held(1)), "waiting for a/b-0, which stage4/one is compiling");
        assert_eq!(words_of(&held(2)), "waiting for a/b-0, which stage4/one is compiling, and for 1 more package");
        assert_eq!(words_of(&held(3)), "waiting for a/b-0, which stage4/one is compiling, and for 2 more packages");
    }
}
