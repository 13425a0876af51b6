//! One command that is killed at a moment of our choice.
//!
//! It is made by [`Place::traced`](crate::place::Place::traced); lines of its standard error tell when a phase begins and ends, so that a kill is only counted
//! for the phase that it fell into.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::processes::{self, Victim};

/// Longer than any of the commands takes on a busy machine.
const LIMIT: Duration = Duration::from_mins(5);

/// What tells of a phase in the log: substrings of one line, all of them.
pub(crate) type Sign = &'static [&'static str];

/// The phase of a command that is to be hit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) begin: Sign,
    /// The end of the command if `None`.
    pub(crate) end: Option<Sign>,
    /// Parts within it, in order: the last one that was seen tells where a kill fell.
    pub(crate) marks: &'static [(&'static str, Sign)],
}

type Lines = Arc<(Mutex<Log>, Condvar)>;

#[derive(Debug, Default)]
struct Log {
    lines: Vec<(Instant, String)>,
    ended: bool,
}

/// The running command.
#[derive(Debug)]
struct Started {
    child: Child,
    lines: Lines,
    reader: JoinHandle<()>,
}

/// What became of a command.
#[derive(Debug)]
pub(crate) struct Struck {
    /// Who died, and when after the beginning of the phase; `None` if the phase was over.
    pub(crate) hit: Option<(Victim, Duration)>,
    /// Where in the phase.
    pub(crate) mark: Option<&'static str>,
}

fn is(line: &str, sign: Sign) -> bool {
    sign.iter().all(|part| line.contains(part))
}

fn start(mut command: Command) -> Started {
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stderr = child.stderr.take().unwrap();
    let lines = Lines::default();
    let shared = Arc::clone(&lines);
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            shared.0.lock().unwrap().lines.push((Instant::now(), String::from_utf8_lossy(&line).into_owned()));
            shared.1.notify_all();
        }
        shared.0.lock().unwrap().ended = true;
        shared.1.notify_all();
    });
    Started { child, lines, reader }
}

impl Started {
    /// Waits for a line; `None` if the command ended without it.
    fn until(&self, sign: Sign) -> Option<Instant> {
        let deadline = Instant::now() + LIMIT;
        let mut log = self.lines.0.lock().unwrap();
        loop {
            if let Some((at, _)) = log.lines.iter().find(|(_, line)| is(line, sign)) {
                return Some(*at);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if log.ended || left.is_zero() {
                return None;
            }
            log = self.lines.1.wait_timeout(log, left).unwrap().0;
        }
    }

    fn end(mut self) -> (ExitStatus, Vec<(Instant, String)>) {
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                let log = text(&self.lines.0.lock().unwrap().lines);
                self.child.kill().unwrap();
                panic!("the program does not end:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        self.reader.join().unwrap();
        let lines = std::mem::take(&mut self.lines.0.lock().unwrap().lines);
        (status, lines)
    }
}

fn text(lines: &[(Instant, String)]) -> String {
    lines.iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>().join("\n")
}

/// Lets the command run and answers how long the phase took.
pub(crate) fn measure(command: Command, phase: &Phase) -> Duration {
    let started = start(command);
    let begin = started.until(phase.begin);
    let (status, lines) = started.end();
    let end = Instant::now();
    assert!(status.success(), "{status}\n{}", text(&lines));
    let begin = begin.unwrap_or_else(|| panic!("no {:?} in\n{}", phase.begin, text(&lines)));
    let end = match phase.end {
        Some(sign) => lines.iter().find(|(_, line)| is(line, sign)).unwrap_or_else(|| panic!("no {sign:?} in\n{}", text(&lines))).0,
        None => end,
    };
    end - begin
}

/// Starts the command and kills `victim` this long after the phase has begun.
pub(crate) fn strike(command: Command, phase: &Phase, after: Duration, victim: Victim) -> Struck {
    let mut started = start(command);
    let Some(begin) = started.until(phase.begin) else {
        let (status, lines) = started.end();
        panic!("{}: {status} before it began\n{}", phase.name, text(&lines));
    };
    std::thread::sleep((begin + after).saturating_duration_since(Instant::now()));
    let at = begin.elapsed();
    // A program that has ended, but is not waited for, can still be "killed".
    let ended = started.child.try_wait().unwrap().is_some();
    let struck = if ended { None } else { processes::strike(started.child.id().cast_signed(), victim) };
    let (status, lines) = started.end();
    let over = status.success() || phase.end.is_some_and(|sign| lines.iter().any(|(_, line)| is(line, sign)));
    let mark = phase.marks.iter().rev().find(|(_, sign)| lines.iter().any(|(_, line)| is(line, sign))).map(|(name, _)| *name);
    Struck { hit: struck.filter(|_| !over).map(|who| (who, at)), mark }
}

/// Starts the command, sends `signals` (with a pause before each) once the phase has begun, and waits for its end.
pub(crate) fn signal(command: Command, phase: &Phase, signals: &[(Duration, nix::sys::signal::Signal)]) -> (ExitStatus, String) {
    let started = start(command);
    let Some(_) = started.until(phase.begin) else {
        let (status, lines) = started.end();
        panic!("{}: {status} before it began\n{}", phase.name, text(&lines));
    };
    for (pause, signal) in signals {
        std::thread::sleep(*pause);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(started.child.id().cast_signed()), *signal).unwrap();
    }
    let (status, lines) = started.end();
    (status, text(&lines))
}
