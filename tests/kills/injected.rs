//! Commands of which one call fails, or is the last one.
//!
//! `strace` follows the program's first thread, which does all that changes names, states and artifacts; with it, set-id programs that the
//! helpers start would have no rights. A run that is only watched tells how often each call is made. Each further run has one of them fail
//! with an error that the kernel could give, or the program killed at it. Afterwards the store verifies, what was there is intact, the
//! same command succeeds, and nothing lies around.
//!
//! ```text
//! GENTOOMUCH_FAULTS=250          points of each command (1), and a fifth of it of those that need Portage; `make test-faults` sets it
//! GENTOOMUCH_FAULTS_ONLY=tag,clean     some of the commands (all)
//! GENTOOMUCH_KILLS_SEED=N        repeats the points of an earlier run
//! ```

use std::collections::BTreeMap;
use std::process::Command;

use crate::cases::{BESIDE_PORTAGE, CASES, Case, World, words};
use crate::place::{Place, both, expect_success};
use crate::tally::Moments;

/// What is watched: calls that change files, that open or lock one, and that start a process or thread; with the errors that each may give.
const CALLS: [(&str, &[&str]); 18] = [
    ("openat", &["EMFILE", "EIO", "ENOSPC", "EDQUOT"]),
    ("write", &["EIO", "ENOSPC", "EDQUOT"]),
    ("ftruncate", &["EIO", "ENOSPC"]),
    ("fallocate", &["EIO", "ENOSPC", "EOPNOTSUPP"]),
    ("rename", &["EIO", "ENOSPC", "EDQUOT"]),
    ("renameat2", &["EIO", "ENOSPC", "EDQUOT"]),
    ("linkat", &["EIO", "ENOSPC", "EMLINK"]),
    ("mkdir", &["EIO", "ENOSPC", "EDQUOT"]),
    ("unlink", &["EIO"]),
    ("unlinkat", &["EIO"]),
    ("rmdir", &["EIO"]),
    ("fsync", &["EIO", "ENOSPC", "EDQUOT"]),
    ("syncfs", &["EIO", "ENOSPC"]),
    ("chmod", &["EIO"]),
    ("fchmod", &["EIO"]),
    ("utimensat", &["EIO"]),
    ("flock", &["EIO", "ENOLCK"]),
    ("clone3", &["EAGAIN", "ENOMEM"]),
];

/// A call, the how-manyeth of its name, and what becomes of it.
#[derive(Debug, Clone)]
struct Point {
    call: &'static str,
    number: usize,
    /// `None`: the program is killed.
    error: Option<&'static str>,
}

impl Point {
    fn words(&self) -> String {
        format!("{} {}: {}", self.call, self.number, self.error.unwrap_or("SIGKILL"))
    }
}

/// The program under `strace`.
fn traced(place: &Place, options: &[String], args: &[String]) -> Command {
    let mut command = place.command("strace");
    command.args(["-qq", "-e", "signal=none"]).args(options).arg(env!("CARGO_BIN_EXE_gentoomuch")).args(args);
    command
}

/// All points of a command. Calls before the program itself runs, those of the linker, are none.
fn points(world: &World, case: &Case) -> Vec<Point> {
    let log = world.place.path("tmp/trace");
    let all: Vec<&str> = CALLS.iter().map(|(call, _)| *call).collect();
    let options = [format!("-etrace={}", all.join(",")), "-o".to_owned(), log.to_str().unwrap().to_owned()];
    (case.prepare)(world);
    expect_success(&mut traced(&world.place, &options, &(case.args)(world)));
    (case.after)(world);
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((call, errors)) = CALLS.iter().find(|(call, _)| line.strip_prefix(call).is_some_and(|rest| rest.starts_with('(')))
        else {
            continue;
        };
        let number = counts.entry(call).or_default();
        *number += 1;
        let is_linker = line.contains("/ld.so") || line.contains(".so.") || line.contains("\"/proc/") || line.contains("\"/sys/");
        if !is_linker {
            let errors = errors.iter().map(|error| Some(*error)).chain([None]);
            found.extend(errors.map(|error| Point { call, number: *number, error }));
        }
    }
    assert!(found.len() > 20, "{}: {text}", case.name);
    found
}

/// Whether the command failed.
fn strike(world: &World, case: &Case, point: &Point) -> bool {
    let what = format!("{}, {}", case.name, point.words());
    (case.prepare)(world);
    let fate = point.error.map_or_else(|| "signal=SIGKILL".to_owned(), |error| format!("error={error}"));
    let options = [
        format!("-etrace={}", point.call),
        format!("-einject={}:{fate}:when={}", point.call, point.number),
        "-o/dev/null".to_owned(),
    ];
    let output = traced(&world.place, &options, &(case.args)(world)).output().unwrap();
    let said = both(&output);
    assert!(output.status.code() != Some(70) && !said.contains("panicked"), "{what}: {said}");
    assert!(output.status.success() || output.status.code().is_none() || said.contains("error: "), "{what}: no word of it: {said}");
    // What signs leaves its agent.
    expect_success(world.place.command("gpgconf").args(["--kill", "all"]));
    world.place.nothing_lives();
    (case.between)(world);
    let again = world.place.program(&(case.args)(world).iter().map(String::as_str).collect::<Vec<_>>()).output().unwrap();
    assert!(again.status.success(), "{what}: {said}\nand again: {}", both(&again));
    (case.after)(world);
    world.is_intact(&format!("{what}: {said}"));
    !output.status.success()
}

/// A disk that is full half-way through `clean --everything` costs the ballast, and no second run.
pub(crate) fn everything_goes_at_once() {
    let world = World::new();
    let log = world.place.path("tmp/trace");
    // Names have gone by then, and one of two layers.
    for number in [4, 7] {
        let inject = format!("-einject=rename:error=ENOSPC:when={number}");
        let options = ["-etrace=rename".to_owned(), inject, format!("-o{}", log.display())];
        expect_success(&mut traced(&world.place, &options, &words(&["clean", "--everything", "--yes"])));
        assert!(!world.place.path("data/store").exists(), "the {number}th rename failed");
        let trace = std::fs::read_to_string(&log).unwrap();
        assert!(trace.lines().any(|call| call.ends_with("(INJECTED)")), "{trace}");
        world.make();
    }
}

fn wanted() -> usize {
    std::env::var("GENTOOMUCH_FAULTS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Those of the cases that were asked for.
fn chosen(cases: &'static [Case]) -> Vec<&'static Case> {
    let only = std::env::var("GENTOOMUCH_FAULTS_ONLY").ok();
    cases.iter().filter(|case| only.as_ref().is_none_or(|only| only.split(',').any(|name| name == case.name))).collect()
}

pub(crate) fn all() {
    let cases = chosen(CASES);
    if !cases.is_empty() {
        strike_all(&World::new(), &cases, wanted());
    }
}

/// The same for commands that ask Portage or compile: on the testbed, and with fewer points since each takes seconds.
pub(crate) fn beside_portage() {
    let cases = chosen(BESIDE_PORTAGE);
    if !cases.is_empty()
        && let Some(world) = World::with_portage()
    {
        strike_all(&world, &cases, wanted().div_ceil(5));
    }
}

fn strike_all(world: &World, cases: &[&Case], wanted: usize) {
    let mut faults = Vec::new();
    let mut all_failed = 0;
    for case in cases {
        let begin = std::time::Instant::now();
        let mut moments = Moments::new(case.name);
        let points = points(world, case);
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let mut failed = 0;
        for _ in 0..wanted {
            let point = &points[moments.below(points.len())];
            *counts.entry(point.error.unwrap_or("SIGKILL")).or_default() += 1;
            let struck = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| strike(world, case, point)));
            match struck {
                Ok(has_failed) => failed += usize::from(has_failed),
                Err(_) => faults.push(format!("{}, {}", case.name, point.words())),
            }
        }
        all_failed += failed;
        let counts: Vec<String> = counts.iter().map(|(fate, count)| format!("{fate} {count}")).collect();
        let counts = counts.join(", ");
        let secs = begin.elapsed().as_secs();
        println!("{:<10}{wanted:>5} of {:>5} points in {secs} s, {failed:>4} made it fail: {counts}", case.name, points.len());
    }
    assert!(all_failed > 0, "nothing was injected");
    assert_eq!(faults, Vec::<String>::new(), "points at which something was lost, left or not told");
}
