//! `gentoomuch init [DIR]`

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::init;
use crate::config::init::{Initialised, Machine, Status, THIS_HOST};

use super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::invocation::{host_arch, processors};
use crate::cli::screen::Shown as _;
use crate::cli::table::{count, human_bytes, print, print_json};
use crate::places;

/// Make a documented configuration directory for this machine
///
/// The directory gets the shipped definitions and examples, and a README.md that says what is where. `cpu.defines/this-host` and `env`
/// describe this machine: architecture, CPU flags, number of jobs. You are asked nothing. Existing files are not changed; missing ones are
/// added.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch init
  gentoomuch init ~/fleet
  gentoomuch --config ~/fleet doctor")]
pub(crate) struct Args {
    /// Where to make it [default: the configuration directory in use]
    dir: Option<PathBuf>,
    /// Print what was found and written as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args, invocation: &Invocation) -> Outcome {
    let dir = args.dir.as_ref().map_or_else(|| invocation.places.config.clone(), |dir| invocation.path(dir));
    if dir.to_str().is_none() {
        return Err(places::Unsafe::NotText { path: dir }.into());
    }
    // A system without /proc has nothing to say; what is not known is left out, and said.
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let machine = Machine::of(host_arch(), &read("/proc/cpuinfo"), &read("/proc/meminfo"), processors());
    let done = init::init(&dir, &machine)?;
    if args.json {
        print_json(&done)?;
    } else {
        let in_use = done.dir == invocation.places.config;
        let complete = done.items.iter().all(|item| item.status != Status::Written);
        let last = if complete { "complete already: nothing was written\n".to_owned() } else { next_steps(&done, in_use) };
        print(format!("{}{last}", render(&done)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn render(done: &Initialised) -> String {
    let Machine { arch, model, march, cpu_flags, jobs, memory_bytes, .. } = &done.machine;
    let mut facts = vec![arch.clone()];
    facts.extend((!model.is_empty()).then(|| model.clone()));
    facts.push(march.as_ref().map_or_else(|| "unknown processor".to_owned(), |march| format!("-march={march}")));
    facts.push(if cpu_flags.is_empty() { "no CPU flags known".to_owned() } else { count(cpu_flags.len() as u64, "CPU flag") });
    let memory = memory_bytes.map_or_else(String::new, |bytes| format!(" ({} of memory)", human_bytes(bytes)));
    facts.push(format!("{}{memory}", count(u64::from(*jobs), "job")));
    let mut text = format!("configuration  {}\nthis machine   {}\n", done.dir.shown(), facts.join(", "));
    for (status, label) in [(Status::Written, "written"), (Status::Kept, "kept as it is")] {
        for (number, line) in by_folder(done, status).into_iter().enumerate() {
            let _ = writeln!(text, "{:<13}  {line}", if number == 0 { label } else { "" });
        }
    }
    text
}

/// A line for each folder with what is in it, files of the directory itself first.
fn by_folder(done: &Initialised, status: Status) -> Vec<String> {
    let mut folders: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for item in done.items.iter().filter(|item| item.status == status) {
        let mut parts = item.path.iter();
        let first = parts.next().unwrap_or_default().to_string_lossy().into_owned();
        let rest = parts.as_path().shown();
        if rest.is_empty() {
            folders.entry(String::new()).or_default().push(first);
        } else {
            folders.entry(first).or_default().push(rest);
        }
    }
    folders.into_iter().flat_map(|(folder, names)| wrapped(&folder, &names)).collect()
}

/// The names of one folder, in lines that fit beside their label.
fn wrapped(folder: &str, names: &[String]) -> Vec<String> {
    const WIDTH: usize = 84;
    let mut lines = Vec::new();
    let mut line = if folder.is_empty() { String::new() } else { format!("{folder}:") };
    for name in names {
        if !line.is_empty() && line.len() + 1 + name.len() > WIDTH {
            lines.push(std::mem::replace(&mut line, " ".to_owned()));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(name);
    }
    lines.push(line);
    lines
}

fn next_steps(done: &Initialised, in_use: bool) -> String {
    let dir = done.dir.shown();
    let mut text = String::from("\nnext:\n");
    if !in_use {
        let _ = writeln!(text, "  export GENTOOMUCH_CONFIG='{dir}'");
    }
    text.push_str(
        "  gentoomuch doctor                   can this machine build?
  gentoomuch keys fetch --gentoo      Gentoo's release keys
  gentoomuch sync                     the ebuild tree, its signed snapshot
  gentoomuch stage3 ls                which stage3s there are
  gentoomuch bootstrap NAME VARIANT   one of them becomes the profile NAME; or a file of yours
  gentoomuch stage build STAGE        one of stage4.defines; its file `profile` holds that NAME
A stage4 is signed with gpg's default key, or with the one whose fingerprint is in env/sign_key. If you have none, this makes one:
  gpg --quick-generate-key 'NAME <MAIL>' ed25519 sign never
",
    );
    let _ = writeln!(text, "To build for this machine's own CPU, write `{THIS_HOST}` into stage3.defines/gentoomuch/builder/cpu.");
    if !done.machine.known_arch {
        let _ = writeln!(text, "Gentoo has no architecture `{}`: write what it is into env/arch.", done.machine.arch);
    }
    let _ = writeln!(text, "README.md in it says what is where, and gentoomuch-config(5) explains every folder and file.");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_little_is_known_about() {
        let machine = Machine::of("sparc64", "cpu : TI UltraSparc\n", "", 2);
        let done = Initialised { dir: "/home/user/fleet".into(), machine, items: Vec::new() };
        assert_eq!(
            render(&done),
            "configuration  /home/user/fleet\nthis machine   sparc64, unknown processor, no CPU flags known, 2 jobs\n"
        );
        let next = next_steps(&done, true);
        assert!(next.contains("Gentoo has no architecture `sparc64`: write what it is into env/arch.\n"), "{next}");
    }
}
