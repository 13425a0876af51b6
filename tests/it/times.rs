//! What the commands of a test cost: with `GENTOOMUCH_TEST_TIMES=FILE`, a line for each, with its processor time, how long it took, the test and
//! the command. Meant for nextest, where a test is a process of its own: what else this process has started meanwhile is counted, too.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::time::Instant;

#[derive(Debug)]
pub(crate) struct Times {
    file: Option<OsString>,
    processor: f64,
    begun: Instant,
}

impl Times {
    pub(crate) fn new() -> Self {
        let file = std::env::var_os("GENTOOMUCH_TEST_TIMES");
        Self { processor: file.as_ref().map_or(0.0, |_| children_secs()), file, begun: Instant::now() }
    }

    pub(crate) fn note(self, command: &str) {
        let Some(file) = self.file else { return };
        let (processor, took) = (children_secs() - self.processor, self.begun.elapsed().as_secs_f64());
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        let command = command.replace('\n', " ").replace(env!("CARGO_BIN_EXE_gentoomuch"), "gentoomuch");
        let line = format!("{processor:.2} {took:.2} {test} {command}\n");
        File::options().append(true).create(true).open(file).unwrap().write_all(line.as_bytes()).unwrap();
    }
}

/// Processor time of all children that have ended, in seconds (`cutime` and `cstime` of proc(5), in ticks of 10 ms).
fn children_secs() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u32 = fields[13].parse::<u32>().unwrap() + fields[14].parse::<u32>().unwrap();
    f64::from(ticks) / 100.0
}
