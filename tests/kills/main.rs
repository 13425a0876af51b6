//! The real program killed at random moments, and everything that must hold afterwards.
//!
//! An ordinary user, an environment built from nothing, and SIGKILL for the program, its helper, PID 1 of the session or all of
//! them, while it imports, emerges, commits, exports and cleans. Each kill is followed by: no process, no mount and no lock left; a normal
//! run that succeeds; a store that verifies without any remark; nothing half-made anywhere.
//!
//! ```text
//! GENTOOMUCH_KILLS=50           kills in each phase (one of each victim); `make kills` sets it
//! GENTOOMUCH_KILLS_SEED=N       repeats the moments of an earlier run, as far as the machine does
//! GENTOOMUCH_KILLS_ONLY=export,commit,signals,emerge     some of what works on the testbed (all)
//! GENTOOMUCH_TESTBED=DIR        the release that emerge, commit and export work on (tests/testbed/README.md)
//! cargo test --test kills -- --nocapture     prints the tables
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, reason = "tables are the result, and tests may panic")]

mod cases;
mod crowd;
mod ending;
mod full;
mod injected;
mod phases;
mod place;
mod processes;
mod release;
mod tally;
mod testbed;
mod trial;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Each test looks at all descendants of this process, so they take turns.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says why a test does nothing here.
fn skip(why: &str) {
    assert!(std::env::var_os("GENTOOMUCH_TEST_STRICT").is_none_or(|value| value != "1"), "must not be skipped: {why}");
    eprintln!("skipped: {why}");
}

/// Whether this user can run the product at all; says so if not.
fn able() -> bool {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap();
    if nix::unistd::getuid().is_root() {
        skip("these tests run as an ordinary user, and this is root");
        return false;
    }
    let name = user.map(|user| user.name).unwrap_or_default();
    let granted =
        |file: &str| std::fs::read_to_string(file).is_ok_and(|text| text.lines().any(|line| line.starts_with(&format!("{name}:"))));
    if !granted("/etc/subuid") || !granted("/etc/subgid") {
        skip("this user has no subordinate ids");
        return false;
    }
    true
}

#[test]
fn import_survives_sigkill() {
    let _turn = turn();
    if able() {
        phases::import();
    }
}

#[test]
fn clean_survives_sigkill() {
    let _turn = turn();
    if able() {
        phases::clean();
    }
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing() {
    let _turn = turn();
    if able() {
        full::import();
    }
}

#[test]
fn a_full_disk_at_either_end_of_a_remote_loses_nothing() {
    let _turn = turn();
    if able() {
        full::remote();
    }
}

#[test]
fn a_full_disk_can_be_cleaned() {
    let _turn = turn();
    if able() {
        full::clean();
    }
}

#[test]
fn who_only_looks_needs_no_writable_file_system() {
    let _turn = turn();
    if able() {
        full::read_only();
    }
}

#[test]
fn everything_goes_in_one_run_although_the_disk_is_full_half_way() {
    let _turn = turn();
    if !able() {
        return;
    }
    if std::process::Command::new("strace").arg("-V").output().is_err() {
        return skip("there is no strace");
    }
    injected::everything_goes_at_once();
}

#[test]
fn a_call_that_fails_or_is_the_last_one_loses_nothing() {
    let _turn = turn();
    if !able() {
        return;
    }
    if std::process::Command::new("strace").arg("-V").output().is_err() {
        return skip("there is no strace");
    }
    injected::all();
}

#[test]
#[ignore = "long: each point takes seconds"]
fn a_call_that_fails_beside_portage_loses_nothing() {
    let _turn = turn();
    if !able() {
        return;
    }
    if std::process::Command::new("strace").arg("-V").output().is_err() {
        return skip("there is no strace");
    }
    injected::beside_portage();
}

#[test]
#[ignore = "long: ten minutes"]
fn a_crowd_of_commands_loses_no_name_and_nobody_waits_for_ever() {
    let _turn = turn();
    if able() {
        crowd::all();
    }
}

/// One test, since making what they work on takes minutes.
#[test]
fn emerge_commit_and_export_survive_sigkill_and_signals() {
    let _turn = turn();
    if !able() {
        return;
    }
    let Some(testbed) = testbed::Testbed::new() else { return };
    let only = std::env::var("GENTOOMUCH_KILLS_ONLY").ok();
    let parts: [(&str, fn(&testbed::Testbed)); 4] =
        [("export", phases::export), ("commit", phases::commit), ("signals", ending::signals), ("emerge", phases::emerge)];
    for (name, part) in parts {
        // Builds that are killed while they emerge have end-to-end tests (`interruption`, `pipeline`): more moments are for the long run.
        if name == "emerge" && !tally::is_long() {
            continue;
        }
        if only.as_ref().is_none_or(|only| only.split(',').any(|wanted| wanted == name)) {
            part(&testbed);
        }
    }
}
