//! `gentoomuch init [DIR]`

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::init;
use crate::config::init::{Choices, Initialised, Machine, SIGN_KEY, SigningKey, Status, THIS_HOST};
use crate::names::profiles::check_profile_name;
use crate::terminal_text::sanitize_line;

use super::Outcome;
use crate::cli::invocation::Invocation;
use crate::cli::invocation::{host_arch, processors};
use crate::cli::report::{Failure, Kind};
use crate::cli::screen::Shown as _;
use crate::cli::table::{count, human_bytes, print, print_json};
use crate::places;

/// Make a documented configuration directory for this machine
///
/// The directory gets the shipped definitions and examples, and a README.md that says what is where. `cpu.defines/this-host` and `env`
/// describe this machine: architecture, CPU flags, number of jobs. `env/sign_key` gets the key that gpg signs with, if it has one. You are
/// asked nothing. Existing files are not changed; missing ones are added.
///
/// With `--binhost`, the first builder of a profile and what is built on it take Gentoo's own binary packages. They are verified with Gentoo's
/// release key. `gentoomuch profile update` compiles them anew with your flags.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gentoomuch init
  gentoomuch init --profile server --binhost
  gentoomuch init ~/fleet
  gentoomuch --config ~/fleet doctor")]
pub(crate) struct Args {
    /// Where to make it [default: the configuration directory in use]
    dir: Option<PathBuf>,
    /// Profile that the stage4s are for; bootstrap makes it [default: demo]
    #[arg(short, long, value_name = "NAME")]
    profile: Option<String>,
    /// Take Gentoo's binary packages for the first builder
    #[arg(long)]
    binhost: bool,
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
    let choices = choices(args, &dir, &machine)?;
    let done = init::init(&dir, &machine, &choices)?;
    if args.json {
        print_json(&done)?;
    } else {
        let in_use = done.dir == invocation.places.config;
        let complete = done.items.iter().all(|item| item.status != Status::Written);
        let last = if complete { "complete already: nothing was written\n".to_owned() } else { next_steps(&done, in_use) };
        print(format!("{}{}{last}", render(&done), without_host(&done)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn choices(args: &Args, dir: &Path, machine: &Machine) -> Result<Choices, Failure> {
    if let Some(profile) = &args.profile {
        check_profile_name(profile)?;
    }
    let binhost = if args.binhost {
        Some(Choices::gentoo_host(&machine.arch).ok_or_else(|| {
            Failure::message(Kind::Usage, format!("Gentoo publishes no binary packages for every machine of `{}`", machine.arch))
                .hint("go without `--binhost`, or name a host in `portage.global/binrepos.conf`")
        })?)
    } else {
        None
    };
    // A directory that says which key signs is not asked about another one.
    let said = [SIGN_KEY, "env/stage_key"].iter().any(|file| dir.join(file).exists());
    let signing_key = if said || !Invocation::has_gnupg() { None } else { found_key() };
    Ok(Choices { profile: args.profile.clone(), signing_key, binhost })
}

/// The key that gpg signs with. Nobody is asked for a passphrase.
fn found_key() -> Option<SigningKey> {
    let key = Invocation::gpg().secret_key_available().inspect_err(|error| tracing::debug!(%error, "no signing key")).ok()?;
    Some(SigningKey { fingerprint: key.primary.to_string(), uid: key.uid.map(|uid| sanitize_line(uid.as_bytes(), 200)) })
}

/// If the files that `--binhost` wants were others, or could not be added.
fn without_host(done: &Initialised) -> String {
    let Some(address) = &done.binhost else { return String::new() };
    let kept: Vec<String> = ["env/binhost", "portage.global"]
        .into_iter()
        .filter(|path| done.items.iter().any(|item| item.path == Path::new(path) && item.status == Status::Kept))
        .map(|path| format!("`{path}`"))
        .collect();
    if kept.is_empty() {
        return String::new();
    }
    format!(
        "\n{} stayed as before. For Gentoo's packages, env/binhost says `first`, and a file in portage.global/binrepos.conf:\n  \
        [gentoobinhost]\n  sync-uri = {address}\n",
        kept.join(" and ")
    )
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
    if let Some(SigningKey { fingerprint, uid }) = &done.signing_key {
        let _ = writeln!(text, "signing key    {fingerprint}{}", uid.as_ref().map_or_else(String::new, |uid| format!("  {uid}")));
    }
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
    let profile = &done.profile;
    // On other architectures one has to choose.
    let variant = match done.machine.arch.as_str() {
        arch @ ("amd64" | "arm64") => format!("{arch}-openrc"),
        _ => "VARIANT".to_owned(),
    };
    let bootstrap = format!("gentoomuch bootstrap {profile} {variant}");
    let mut steps = vec![
        ("gentoomuch doctor".to_owned(), "can this machine build?"),
        ("gentoomuch keys fetch --gentoo".to_owned(), "Gentoo's release keys"),
        ("gentoomuch sync".to_owned(), "the ebuild tree, its signed snapshot"),
        ("gentoomuch stage3 ls".to_owned(), "which stage3s there are"),
        (bootstrap, "one of them becomes the profile; or a file of yours"),
        ("gentoomuch stage build server".to_owned(), "one of stage4.defines"),
    ];
    if done.binhost.is_some() {
        steps.push((format!("gentoomuch profile update {profile}"), "later: compiles what came from Gentoo's host"));
    }
    let width = steps.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    for (command, what) in steps {
        let _ = writeln!(text, "  {command:<width$}  {what}");
    }
    let is_said = done.items.iter().any(|item| item.path == Path::new(SIGN_KEY));
    if done.signing_key.is_none() && !is_said {
        text.push_str(
            "A stage4 is signed with gpg's default key, or with the one whose fingerprint is in env/sign_key. If you have none, this makes one:
  gpg --quick-generate-key 'NAME <MAIL>' ed25519 sign never
",
        );
    }
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
        let done = Initialised {
            dir: "/home/user/fleet".into(),
            machine,
            profile: "demo".to_owned(),
            signing_key: None,
            binhost: None,
            items: Vec::new(),
        };
        assert_eq!(
            render(&done),
            "configuration  /home/user/fleet\nthis machine   sparc64, unknown processor, no CPU flags known, 2 jobs\n"
        );
        let next = next_steps(&done, true);
        assert!(next.contains("Gentoo has no architecture `sparc64`: write what it is into env/arch.\n"), "{next}");
    }
}
