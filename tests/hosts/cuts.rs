//! Power cuts: crash images of three file systems, made from a log of all writes; `power` has the commands and says what has to hold.
//!
//! ```text
//! GENTOOMUCH_CUTS=170              cuts on each file system (6); `make test-faults` sets it
//! GENTOOMUCH_CUTS_ONLY=ext4,xfs    some of the file systems (all)
//! GENTOOMUCH_CUTS_SEED=N           repeats the cuts of an earlier run, as far as the machine writes the same
//! ```

use std::fmt::Write as _;

use crate::machines::Image;
use crate::table::Place;

const FILE_SYSTEMS: [&str; 3] = ["ext4", "xfs", "btrfs"];

/// What a machine wrote.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    cuts: usize,
    /// Whether it came to its end.
    is_whole: bool,
    took_secs: String,
    /// Each with its cut.
    wrong: Vec<String>,
}

fn read(output: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let mut cut = "before the first cut";
    for line in output.lines() {
        if let Some(said) = line.strip_prefix('|') {
            outcome.wrong.push(format!("{cut}: {said}"));
        } else if line.starts_with("@cut ") {
            cut = line;
            outcome.cuts += 1;
        } else if let Some(secs) = line.strip_prefix("@took ") {
            secs.clone_into(&mut outcome.took_secs);
        } else if line == "@end" {
            outcome.is_whole = true;
        }
    }
    outcome
}

fn number(name: &str) -> Option<u32> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

pub(crate) fn all() {
    let Some(image) = Image::new(Place::Linux6_12) else { return };
    let only = std::env::var("GENTOOMUCH_CUTS_ONLY").unwrap_or_default();
    let wanted = number("GENTOOMUCH_CUTS").unwrap_or(6);
    let clock = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    let seed = number("GENTOOMUCH_CUTS_SEED").unwrap_or_else(clock);
    println!("power cuts: GENTOOMUCH_CUTS_SEED={seed}");
    let mut failures = String::new();
    for kind in FILE_SYSTEMS.into_iter().filter(|kind| only.split(',').any(|word| kind.contains(word))) {
        let outcome = read(&image.boot_with(&format!("{kind} {wanted} {seed}\n"), &[kind]));
        let failed = outcome.wrong.iter().filter_map(|line| line.split_once(": ")).map(|(cut, _)| cut);
        let failed = failed.collect::<std::collections::BTreeSet<_>>().len();
        println!("{kind:<6}{:>4} cuts, {failed} with a fault, {} s", outcome.cuts, outcome.took_secs);
        if !outcome.is_whole || outcome.cuts != wanted as usize || !outcome.wrong.is_empty() {
            let _ = writeln!(failures, "{kind}: {} of {wanted} cuts\n{}", outcome.cuts, outcome.wrong.join("\n"));
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn what_a_machine_says_is_read() {
    let read = read("6.12\n@cut 5 1 0\n@cut 7 1 99\n|lost: `x`\n@took 12\n@end\n");
    let wrong = vec!["@cut 7 1 99: lost: `x`".to_owned()];
    assert_eq!(read, Outcome { cuts: 2, is_whole: true, took_secs: "12".to_owned(), wrong });
}
