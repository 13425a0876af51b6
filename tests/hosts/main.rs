//! The real program on real hosts: each climbs the same ladder (`doctor`, import, session, commit, export, `clean`), and one table says what
//! has to come of it.
//!
//! ```text
//! table      which hosts there are, and what the program has to do on each
//! climb      what one climb of the ladder printed, and how that differs from the table
//! here       hosts made of this one, for one process: a container's ids, masked /proc, seccomp
//! machines   hosts in virtual machines, with Debian's kernels and an initrd of ours
//! cuts       power cuts, in a virtual machine for each file system
//! record     what came of it, as target/hosts/*.json
//!
//! stage3 ladder here filter.c    scripts: the tiny stage3, the ladder, the making of a host from this one
//! image guest boot directory.c   scripts: kernels and initrds, the machine's PID 1, its start
//! power replay.c                 what is done and looked at there; the replay of a log of writes
//! ```
//!
//! `make test` climbs where no machine is needed; `make test-long` boots them. `GENTOOMUCH_HOSTS_ONLY=WORD,WORD` takes the hosts whose
//! names have one of the words.
#![expect(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, reason = "the outcome is printed, and tests may panic")]

mod climb;
mod cuts;
mod here;
mod machines;
mod record;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use climb::Climb;
use table::{Host, Place};

const PROGRAM: &str = env!("CARGO_BIN_EXE_gentoomuch");

/// One host at a time: each may want the whole machine.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says why a test does nothing here.
fn skip(why: &str) {
    assert!(std::env::var_os("GENTOOMUCH_TEST_STRICT").is_none_or(|value| value != "1"), "must not be skipped: {why}");
    eprintln!("skipped: {why}");
}

/// A script beside this file.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts").join(name)
}

/// Makes the tiny stage3, with no owner above `highest`.
fn stage3(dir: &Path, highest: u32) -> PathBuf {
    let output = Command::new(script("stage3")).arg(dir).arg(highest.to_string()).output().unwrap();
    assert!(output.status.success(), "stage3: {}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
}

/// The hosts of a place, or those of them that were asked for.
fn hosts(place: Place) -> Vec<&'static Host> {
    let only = std::env::var("GENTOOMUCH_HOSTS_ONLY").unwrap_or_default();
    table::HOSTS
        .iter()
        .filter(|host| host.places.contains(&place) && only.split(',').any(|word| host.name.contains(word)))
        .collect()
}

/// Compares all climbs of a place with the table, after they are recorded and printed.
fn judge(place: Place, climbs: &[(&'static Host, Climb)]) {
    let mut wrong = Vec::new();
    for (host, climb) in climbs {
        let differences = climb.differences(&host.expected);
        let verdict = if differences.is_empty() {
            "as expected".to_owned()
        } else {
            wrong.push(format!("{}: {}\n{climb}", host.name, differences.join("; ")));
            format!("WRONG: {}", differences.join("; "))
        };
        println!("{place:<5} {:<44} {:<28} {verdict}", host.name, climb.outcome());
    }
    record::write(place, climbs);
    assert!(wrong.is_empty(), "on {} of {} hosts:\n{}", wrong.len(), climbs.len(), wrong.join("\n"));
}

#[test]
fn hosts_made_of_this_one() {
    let _turn = turn();
    here::climb_all();
}

#[test]
#[ignore = "long: virtual machines whose power is cut"]
fn a_power_cut_loses_nothing() {
    let _turn = turn();
    cuts::all();
}

#[test]
#[ignore = "long: a virtual machine with Linux 6.1"]
fn hosts_with_linux_6_1() {
    let _turn = turn();
    machines::climb_all(Place::Linux6_1);
}

#[test]
#[ignore = "long: a virtual machine with Linux 6.12"]
fn hosts_with_linux_6_12() {
    let _turn = turn();
    machines::climb_all(Place::Linux6_12);
}
