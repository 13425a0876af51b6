//! Many commands at once on one store, for a long time: nobody waits for ever, no name is lost, and who needs the store alone gets it.
//!
//! ```text
//! GENTOOMUCH_CROWD_SECS=60      how long (600)
//! GENTOOMUCH_CROWD=32           how many at a time (32)
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::cases::{World, binds, words};
use crate::place::both;
use crate::tally::Moments;

/// Who has not come to an end by then never will.
const HANGS: &str = "300";

/// States that each keeps at most.
const MOST_KEPT: usize = 2;

/// How long commands of a kind took.
#[derive(Debug, Default)]
struct Took {
    count: usize,
    waited: usize,
    all: Duration,
    longest: Duration,
}

/// One of the crowd: what it has done, and so what has to be there.
struct Member<'a> {
    world: &'a World,
    number: usize,
    took: &'a Mutex<BTreeMap<&'static str, Took>>,
    /// The values of its tag, oldest first.
    values: Vec<&'static str>,
    kept: Vec<String>,
}

/// Two states that are there, and a file that tells them apart.
const STATES: [&str; 2] = ["profile/kills/upstream", "kept/more"];

impl Member<'_> {
    fn run(&self, kind: &'static str, args: &[String]) -> String {
        let begin = Instant::now();
        let mut command = self.world.place.command("timeout");
        command.args(["--kill-after=5", HANGS, env!("CARGO_BIN_EXE_gentoomuch")]).args(args);
        let output = command.output().unwrap();
        assert!(output.status.code() != Some(124), "a command hangs: {args:?}\n{}", both(&output));
        assert!(output.status.success(), "{args:?}\n{}", both(&output));
        let spent = begin.elapsed();
        let mut all = self.took.lock().unwrap();
        let took = all.entry(kind).or_default();
        took.count += 1;
        took.waited += usize::from(String::from_utf8_lossy(&output.stderr).contains("waiting: "));
        took.all += spent;
        took.longest = took.longest.max(spent);
        String::from_utf8(output.stdout).unwrap()
    }

    fn tag(&self) -> String {
        format!("crowd/{}", self.number)
    }

    fn session(&self, keep: &[&str]) {
        let mut args = words(&[&["freshroot", "--profile", "kills"], keep].concat());
        args.extend(binds());
        // What is kept is changed.
        let command = if keep.is_empty() { ["/usr/bin/true", "/"] } else { ["/usr/bin/touch", "/etc/new"] };
        args.extend(words(&["--", command[0], command[1]]));
        self.run(if keep.is_empty() { "session" } else { "keep" }, &args);
    }

    fn move_tag(&mut self, to: &'static str) {
        self.run("tag", &words(&["tag", "--force", to, &self.tag()]));
        if self.values.last() != Some(&to) {
            self.values.push(to);
        }
    }

    fn roll_back(&mut self) {
        let Some(before) = self.values.len().checked_sub(2).map(|at| self.values[at]) else { return };
        self.run("rollback", &words(&["rollback", &format!("tag/{}", self.tag())]));
        self.values.push(before);
    }

    fn out(&self, name: &str) -> PathBuf {
        self.world.place.path("out").join(format!("{name}-{}", self.number))
    }

    /// One command, chosen by chance.
    fn act(&mut self, chance: usize) {
        match chance % 16 {
            0..3 => self.session(&[]),
            3 if self.kept.len() < MOST_KEPT => {
                let name = format!("crowd-{}-{}", self.number, self.kept.len());
                self.session(&["--keep", &name]);
                self.kept.push(name);
            }
            3..6 => self.move_tag(STATES[chance / 16 % 2]),
            6..8 => self.roll_back(),
            8 => drop(self.run("log", &words(&["log", "profile/kills"]))),
            9 => drop(self.run("ls", &words(&["store", "ls", "--json"]))),
            10 => drop(self.run("verify", &words(&["store", "verify"]))),
            11 | 12 => drop(self.run("clean", &words(&["clean", "--yes"]))),
            13 => {
                let file = self.out("a").with_extension("tar.gz");
                self.run("export", &words(&["export", "--no-sign", "-o", file.to_str().unwrap(), "kept/more"]));
            }
            14 => {
                let copy = self.out("copy");
                drop(std::fs::remove_file(&copy));
                self.run("cp", &words(&["cp", "kept/more:/more", copy.to_str().unwrap()]));
            }
            _ => self.holds(),
        }
    }

    /// Its names are there, and mean what it has given them.
    fn holds(&self) {
        if let Some(value) = self.values.last() {
            let shown = |name: &str| {
                let text = self.run("show", &words(&["store", "show", "--json", name]));
                serde_json::from_str::<serde_json::Value>(&text).unwrap()["id"].clone()
            };
            let (found, wanted) = (shown(&format!("tag/{}", self.tag())), shown(value));
            assert!(found.is_string() && found == wanted, "{}: {found}, not {wanted}", self.tag());
        }
        for name in &self.kept {
            self.run("cp", &words(&["cp", &format!("kept/{name}:/etc/new"), "-"]));
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

pub(crate) fn all() {
    let world = World::new();
    let end = Instant::now() + Duration::from_secs(number("GENTOOMUCH_CROWD_SECS", 600));
    let took = Mutex::new(BTreeMap::new());
    let seeds: Vec<Moments> = (0..number("GENTOOMUCH_CROWD", 32)).map(|_| Moments::new("crowd")).collect();
    std::thread::scope(|scope| {
        for (number, mut moments) in seeds.into_iter().enumerate() {
            let mut member = Member { world: &world, number, took: &took, values: Vec::new(), kept: Vec::new() };
            scope.spawn(move || {
                while Instant::now() < end {
                    member.act(moments.below(1 << 16));
                }
                member.holds();
            });
        }
    });
    println!("{:<10}{:>8}{:>8}{:>12}{:>12}", "command", "times", "waited", "mean", "longest");
    for (kind, took) in took.into_inner().unwrap() {
        let mean = took.all.as_secs_f64() / f64::from(u32::try_from(took.count).unwrap());
        println!("{kind:<10}{:>8}{:>8}{mean:>10.2} s{:>10.2} s", took.count, took.waited, took.longest.as_secs_f64());
        assert!(took.count > 0);
    }
    world.place.nothing_lives();
    world.is_intact("after the crowd");
}
