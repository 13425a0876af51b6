//! The four phases: what is run, when a kill counts, what a normal run must give afterwards.

use std::process::Command;
use std::time::Instant;

use crate::place::Place;
use crate::processes::Victim;
use crate::release::Release;
use crate::tally::{Moments, Tally, wanted};
use crate::testbed::Testbed;
use crate::trial::{self, Phase, Struck};

const IMPORT: Phase = Phase {
    name: "import",
    begin: &[r#""kind":"step""#, r#""message":"unpacking""#],
    end: Some(&[r#""message":"committing""#]),
    marks: &[],
};
const EMERGE: Phase = Phase {
    name: "emerge",
    begin: &[r#""kind":"step""#, r#""message":"emerging packages""#],
    end: Some(&[r#""kind":"step""#, r#""message":"running script"#]),
    marks: &[],
};
const COMMIT: Phase = Phase {
    name: "commit",
    begin: &["task in the id map", "session.tidy"],
    end: None,
    marks: &[
        ("while tidying", &["session.tidy"]),
        ("while syncing", &[r#""message":"committing""#]),
        ("while publishing", &[r#""message":"synced""#]),
        ("before or at the name", &[r#""message":"committed""#]),
    ],
};
const CLEAN: Phase = Phase {
    name: "clean",
    begin: &[r#""kind":"step""#, r#""message":"removing""#],
    end: None,
    marks: &[("while states or layers go", &["states are gone"]), ("while removing", &["removing from the disk"])],
};
const EXPORT: Phase = Phase {
    name: "export",
    begin: &[r#""kind":"step""#, r#""message":"exporting "#],
    end: None,
    marks: &[("while packing", &["archive.export"]), ("while taking stock", &["inventory.list"])],
};

/// Kills until enough kills have hit the phase. `next` prepares and makes a command, `recover` runs it normally and checks.
fn kill(
    phase: &Phase,
    place: &Place,
    victims: &[Victim],
    mut next: impl FnMut(usize) -> Command,
    mut recover: impl FnMut(usize, &Struck),
) {
    let mut moments = Moments::new(phase.name);
    let length = trial::measure(next(0), phase);
    place.all_is_clean();
    let mut tally = Tally::new(phase.name, length, wanted(victims.len()));
    // How long the phase seems to take now: other work on the machine comes and goes.
    let mut span = length;
    while tally.goes_on() {
        let number = tally.attempts() + 1;
        // Whoever was missed is aimed at again.
        let victim = victims[tally.hits() % victims.len()];
        let struck = trial::strike(next(number), phase, moments.within(span), victim);
        place.nothing_lives();
        match struck.hit {
            Some((who, at)) => {
                tally.hit(who, at, span, struck.mark);
                span = span * 21 / 20;
            }
            None => {
                tally.missed();
                span = span * 4 / 5;
            }
        }
        let begin = Instant::now();
        recover(number, &struck);
        tally.recovered(begin.elapsed());
        println!(
            "{} {number}: {:?} {}, recovered in {:.1} s",
            phase.name,
            struck.hit,
            struck.mark.unwrap_or_default(),
            begin.elapsed().as_secs_f64()
        );
        place.nothing_lives();
        place.all_is_clean();
    }
    tally.finish();
}

pub(crate) fn import() {
    let place = Place::new();
    let release = Release::new(&place);
    let tarball = release.tarball.to_str().unwrap();
    let command = || place.traced(&["bootstrap", "--no-rebuild", "kills", tarball]);
    let next = |_| {
        place.forget();
        command()
    };
    let recover = |number: usize, _: &Struck| {
        crate::place::expect_success(&mut command());
        release.must_be_in(&place);
        if number == 1 {
            place.run(&["store", "seal"]);
            place.run(&["store", "verify", "--deep"]);
        }
    };
    kill(&IMPORT, &place, &[Victim::Program, Victim::Helper, Victim::All], next, recover);
}

pub(crate) fn clean() {
    let place = Place::new();
    let release = Release::new(&place);
    let tarball = release.tarball.to_str().unwrap();
    let next = |_| {
        place.run(&["bootstrap", "--no-rebuild", "kills", tarball]);
        release.must_be_in(&place);
        place.run(&["profile", "rm", "kills"]);
        place.traced(&["clean", "--yes"])
    };
    let recover = |_: usize, _: &Struck| {
        // Whatever was cut off, the next command has the store whole again, and the next cleaning has the rest.
        place.run(&["store", "verify"]);
        place.run(&["clean", "--yes"]);
        assert_eq!(place.run(&["store", "ls"]), "the store is empty\n");
    };
    kill(&CLEAN, &place, &[Victim::Program, Victim::Helper, Victim::All], next, recover);
}

/// How many files the session makes, and how many bytes in one more.
const MANY: usize = 3000;
const BIG_BYTES: usize = 40_000_000;

pub(crate) fn commit(testbed: &Testbed) {
    let place = &testbed.place;
    let make = format!(
        "set -e; mkdir /srv/many; i=0; while [ $i -lt {MANY} ]; do echo $i >/srv/many/$i; i=$((i + 1)); done; head -c {BIG_BYTES} /dev/zero >/srv/big"
    );
    let command = |number: usize| {
        place.traced(&[
            "freshroot",
            "--profile",
            "kills",
            "--network",
            "none",
            "--keep",
            &format!("k{number}"),
            "--",
            "sh",
            "-c",
            &make,
        ])
    };
    let recover = |number: usize, _: &Struck| {
        let name = format!("k{number}");
        // Once the name is there, so is all that belongs to it; until then the same command makes it.
        if !place.run(&["store", "ls", "--json"]).contains(&format!("\"kept/{name}\"")) {
            crate::place::expect_success(&mut command(number));
        }
        let count = "ls /srv/many | wc -l; cat /srv/many/* | sort -n | tail -n 1; stat -c %s /srv/big";
        let found = place.run(&["freshroot", "--network", "none", "--from", &name, "--", "sh", "-c", count]);
        assert_eq!(found, format!("{MANY}\n{}\n{BIG_BYTES}\n", MANY - 1));
    };
    kill(&COMMIT, place, &[Victim::Program, Victim::Helper, Victim::All], command, recover);
}

pub(crate) fn emerge(testbed: &Testbed) {
    let place = &testbed.place;
    let command = || place.traced(&["stage", "build", "emerged", "--format", "tar.zst", "--no-sign"]);
    let next = |number: usize| {
        testbed.change(number);
        command()
    };
    let recover = |_: usize, _: &Struck| {
        let built = place.run(&["stage", "build", "emerged", "--format", "tar.zst", "--no-sign", "--json"]);
        let built: serde_json::Value = serde_json::from_str(&built).unwrap();
        let metadata = std::fs::read_to_string(format!("{}.json", built["artifact"]["path"].as_str().unwrap())).unwrap();
        assert!(metadata.contains("app-misc/slow"), "the package is not in {metadata}");
    };
    kill(&EMERGE, place, &Victim::ALL, next, recover);
}

pub(crate) fn export(testbed: &Testbed) {
    let place = &testbed.place;
    let arguments = ["stage", "build", "exported", "--format", "tar.zst", "--no-sign"];
    let json: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    let digest = || {
        let built: serde_json::Value = serde_json::from_str(&place.run(&json)).unwrap();
        let path = built["artifact"]["path"].as_str().unwrap().to_owned();
        let sum = crate::place::expect_success(place.command("sha512sum").arg(&path));
        let sum = sum.split(' ').next().unwrap().to_owned();
        assert_eq!(built["artifact"]["sha512"], sum.as_str(), "what the program says of {path}");
        sum
    };
    let expected = digest();
    let next = |_| {
        std::fs::remove_dir_all(place.path("data/stages")).unwrap();
        place.traced(&arguments)
    };
    let recover = |_: usize, _: &Struck| assert_eq!(digest(), expected, "the artifact is another one");
    kill(&EXPORT, place, &[Victim::Program, Victim::Helper, Victim::All], next, recover);
}
