//! SIGTERM, and SIGINT once and twice: what is asked to stop stops, and says so with 130.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::tally::is_long;
use crate::testbed::Testbed;
use crate::trial::{self, Phase};

const SOON: Duration = Duration::from_millis(700);

const RUNNING: Phase = Phase { name: "a session", begin: &[r#""message":"session""#, r#""pid1":"#], end: None, marks: &[] };
const EMERGING: Phase =
    Phase { name: "emerge", begin: &[r#""kind":"step""#, r#""message":"emerging packages""#], end: None, marks: &[] };

pub(crate) fn signals(testbed: &Testbed) {
    let place = &testbed.place;
    let freshroot =
        |script: &str| place.traced(&["freshroot", "--profile", "kills", "--network", "none", "--", "sh", "-c", script]);

    let (status, log) = trial::signal(freshroot("sleep 1000"), &RUNNING, &[(SOON, Signal::SIGTERM)]);
    assert_eq!(status.code(), Some(130), "SIGTERM: {log}");
    place.nothing_lives();
    place.all_is_clean();

    let stubborn = "trap '' INT TERM; while :; do sleep 1; done";
    let twice = [(SOON, Signal::SIGINT), (SOON, Signal::SIGINT)];
    let (status, log) = trial::signal(freshroot(stubborn), &RUNNING, &twice);
    assert_eq!(status.code(), Some(130), "SIGINT twice: {log}");
    place.nothing_lives();
    place.all_is_clean();

    for (what, number, signals) in [
        // Of a build, `tests/it/interruption.rs` has it: here in the long run only.
        ("SIGINT", 1001, vec![(SOON, Signal::SIGINT)]),
        // Late enough for Portage to compile on most machines, early enough for it not to be done on a quick one.
        ("SIGTERM", 1002, vec![(Duration::from_millis(1500), Signal::SIGTERM)]),
        ("SIGINT twice", 1003, vec![(Duration::from_millis(1500), Signal::SIGINT), (Duration::from_millis(50), Signal::SIGINT)]),
    ]
    .into_iter()
    .skip(usize::from(!is_long()))
    {
        testbed.change(number);
        let build = || place.traced(&["stage", "build", "emerged", "--format", "tar.zst", "--no-sign"]);
        let (status, log) = trial::signal(build(), &EMERGING, &signals);
        assert_eq!(status.code(), Some(130), "{what}: {log}");
        place.nothing_lives();
        let sessions = place.run(&["store", "ls", "--json"]);
        assert!(sessions.contains("suspended"), "{what}: no suspended session in {sessions}");
        let again = build().output().unwrap();
        assert!(again.status.success(), "{what}: {}", crate::place::both(&again));
        let said = String::from_utf8_lossy(&again.stderr).into_owned();
        assert!(said.contains("resuming stage4 emerged"), "{what}: {said}");
        place.nothing_lives();
        place.all_is_clean();
    }
    println!("SIGTERM, SIGINT and SIGINT twice: stopped with 130, resumed, nothing left");
}
