//! Completion of words that only this machine knows: profiles, stages, states, patches, kernels, packages, USE flags.
//!
//! The scripts of `gentoomuch completions` start the program with [`VARIABLE`] set, and it prints what could come next. It only reads small
//! files and lists directories: no sandbox, no lock, nothing is made. What cannot be read offers nothing, and nobody is told.
//!
//! The engine of `clap_complete` is marked unstable, so its version is pinned in `Cargo.toml`, and only this file uses it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::{env, io};

use clap::{Arg, Command, CommandFactory as _};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};

use crate::beneath::{RootDir, TreeDir};
use crate::cli::Cli;
use crate::cli::invocation::place;
use crate::config::ConfigDir;
use crate::portage::cpv::Cpv;
use crate::slurm;
use crate::stage3::keys::{GENTOO, TrustedKeys};
use crate::store::refs;

/// Set by the scripts, to the name of the shell.
const VARIABLE: &str = "GENTOOMUCH_COMPLETE";
const PROGRAM: &str = "gentoomuch";
/// A category of Gentoo has fewer packages, and a tree fewer categories.
const MOST_ENTRIES: usize = 20_000;
/// A line of `metadata/md5-cache` is shorter.
const CACHE_LIMIT_BYTES: u64 = 1 << 20;
/// What an atom may begin with.
const OPERATORS: [char; 5] = ['<', '>', '=', '~', '!'];
/// Whoever types so few characters wants to see categories, and not thousands of packages.
const SHORTEST_NAME: usize = 2;

/// What kind of word an argument takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Words {
    Profiles,
    Stage4s,
    Stages,
    StagesAndProfiles,
    StagesAndPackages,
    /// Ids of the pipeline's nodes.
    Nodes,
    /// All names of states.
    States,
    /// The same, and then a path: `NAME:`.
    StatesWithPath,
    Tags,
    Kept,
    /// What `rm` takes.
    Removable,
    Trees,
    WorkSets,
    /// Of `user.patches`.
    Patches,
    Kernels,
    Keys,
    Packages,
    /// USE flags of the package that was named before.
    Flags,
    Logs,
    /// What a recorded run has built, or its own name.
    Runs,
    /// Runs on a cluster.
    ClusterRuns,
    /// Nothing on this machine has the answer, or clap knows it: files, shells, numbers, free text.
    Other,
}

/// What the argument `id` of the command `path` takes. A test looks that each argument is decided.
fn words(path: &str, id: &str) -> Words {
    use Words::{
        ClusterRuns, Flags, Kept, Kernels, Keys, Logs, Nodes, Other, Packages, Patches, Profiles, Removable, Runs, Stage4s, Stages,
        StagesAndPackages, StagesAndProfiles, States, StatesWithPath, Tags, Trees, WorkSets,
    };
    match (path, id) {
        (_, "profile")
        | ("profile set" | "profile show" | "profile update" | "profile rollback" | "profile rm", "name")
        | ("profile rename", "old") => Profiles,
        ("stage build" | "stage show" | "stage rm", "name") => Stage4s,
        ("config check" | "pipeline" | "pipeline plan", "names")
        | ("config show" | "config explain" | "config diff" | "config graph" | "resolve", "stage")
        | ("config diff", "other") => Stages,
        ("shell", "failed") | ("audit" | "why", "what") => StagesAndProfiles,
        ("resolve", "targets") => StagesAndPackages,
        ("pipeline node", "id") => Nodes,
        ("shell" | "export" | "tag" | "store show", "state")
        | ("store seal" | "remote push", "states")
        | ("diff", "before" | "after")
        | ("log" | "rollback", "name") => States,
        ("cp", "from") => StatesWithPath,
        ("tag rm", "name") => Tags,
        ("freshroot", "from") => Kept,
        ("rm", "names") => Removable,
        ("tree rm", "trees") | ("tree diff", "from" | "to") | ("sync", "names") => Trees,
        ("patch try" | "patch shell" | "patch save" | "patch show" | "patch rm", "name") => WorkSets,
        ("patch refresh", "name") | ("patch compile", "names") => Patches,
        ("kernel prep" | "kernel build" | "kernel update", "name") | ("kernel diff", "from" | "to") => Kernels,
        ("keys rm" | "keys trust" | "keys fetch", "fingerprint") => Keys,
        ("try", "atoms")
        | ("patch prep", "atom")
        | ("patch refresh", "to")
        | ("kernel prep", "sources")
        | ("stage build", "skip")
        | ("config explain", "subject")
        | ("why", "package") => Packages,
        ("try", "uses" | "matrix") => Flags,
        ("logs", "run") => Logs,
        ("report", "run") => Runs,
        ("pipeline attach", "run") => ClusterRuns,
        _ => Other,
    }
}

/// Answers a shell that asks what could come next. `false`: nobody asks.
pub(crate) fn answered() -> bool {
    CompleteEnv::with_factory(command).var(VARIABLE).bin(PROGRAM).try_complete(env::args_os(), None).unwrap_or(true)
}

/// The script by which `shell` asks.
///
/// # Errors
///
/// Of writing.
pub(crate) fn write_script(shell: &str, out: &mut dyn io::Write) -> io::Result<()> {
    let shells = Shells::builtins();
    let shell = shells.completer(shell).ok_or(io::ErrorKind::Unsupported)?;
    shell.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, out)
}

fn command() -> Command {
    with_words(Cli::command(), "")
}

fn with_words(command: Command, path: &str) -> Command {
    let command = command.mut_args(|arg| match words(path, arg.get_id().as_str()) {
        Words::Other => arg,
        kind => with(arg, kind),
    });
    command.mut_subcommands(|sub| {
        let below = format!("{path} {}", sub.get_name());
        with_words(sub, below.trim_start())
    })
}

/// Besides letters and digits, what names have that no shell obeys.
const PLAIN: &[u8] = b"%+,-./:=@^_{}~";

fn with(arg: Arg, kind: Words) -> Arg {
    arg.add(ArgValueCompleter::new(move |current: &OsStr| {
        let Some(current) = current.to_str() else { return Vec::new() };
        let mut found: Vec<String> = Machine::of_command_line().offer(kind, current);
        // What somebody else has named might be a command to the shell, which takes a word as it is offered.
        found.retain(|word| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || PLAIN.contains(&byte)));
        if found.len() > 1 {
            found.retain(|word| word.starts_with(current));
        }
        found.sort();
        found.dedup();
        found.into_iter().map(CompletionCandidate::new).collect()
    }))
}

/// Where this machine keeps what can be named.
#[derive(Debug)]
struct Machine {
    config: Option<PathBuf>,
    data: Option<PathBuf>,
    /// The words before the one that is completed.
    line: Vec<String>,
}

impl Machine {
    /// As the options on the command line say that is being written, else the environment.
    fn of_command_line() -> Self {
        let words = env::args_os().skip_while(|word| word != "--").skip(1);
        let line: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        let cwd = env::current_dir().unwrap_or_default();
        let find = |option: &str, variable: &str, xdg: &str, below_home: &str| {
            let given = line.iter().position(|word| word == option).and_then(|at| line.get(at + 1)).map(OsString::from);
            let given = given.or_else(|| line.iter().find_map(|word| word.strip_prefix(&format!("{option}=")).map(Into::into)));
            let given = given.or_else(|| env::var_os(variable)).map(PathBuf::from);
            place(given.as_deref(), &cwd, xdg, below_home)
        };
        Self {
            config: find("--config", "GENTOOMUCH_CONFIG", "XDG_CONFIG_HOME", ".config"),
            data: find("--data", "GENTOOMUCH_DATA", "XDG_DATA_HOME", ".local/share"),
            line,
        }
    }

    fn offer(&self, kind: Words, current: &str) -> Vec<String> {
        match kind {
            Words::Profiles => self.profiles(),
            Words::Stage4s => self.configured(ConfigDir::stage4_names),
            Words::Stages => self.stages(),
            Words::StagesAndProfiles => [self.stages(), self.profiles()].concat(),
            Words::StagesAndPackages => [self.stages(), self.packages(current)].concat(),
            Words::Nodes => self.nodes(),
            Words::States => self.states(""),
            Words::StatesWithPath => self.states("").into_iter().map(|name| name + ":").collect(),
            Words::Tags => self.below("tag/"),
            Words::Kept => self.below("kept/"),
            Words::Removable => [self.states("tag/"), self.states("kept/"), self.states("kernel"), self.states("stage4/")].concat(),
            Words::Trees => self.trees().into_iter().map(|(name, _)| name).collect(),
            Words::WorkSets => directories(self.data.as_deref(), "patches"),
            Words::Patches => directories(self.config.as_deref(), "user.patches"),
            Words::Kernels => {
                let files = names(self.config.as_deref(), "kernel.configs", false);
                files.iter().filter_map(|name| Some(name.strip_suffix(".kconf")?.to_owned())).collect()
            }
            Words::Keys => {
                let keys = self.config.as_deref().and_then(|config| TrustedKeys::load(&config.join("keys"), GENTOO).ok());
                keys.iter().flat_map(|keys| keys.list(0)).map(|key| key.fingerprint.to_string()).collect()
            }
            Words::Packages => self.packages(current),
            Words::Flags => self.flags(current),
            Words::Logs => [self.stages(), self.profiles(), self.logs(false)].concat(),
            Words::Runs => [self.stages(), self.profiles(), self.nodes(), self.logs(true)].concat(),
            Words::ClusterRuns => self.cluster_runs(),
            Words::Other => Vec::new(),
        }
    }

    fn configured(&self, names: fn(&ConfigDir) -> Vec<String>) -> Vec<String> {
        self.config.as_deref().and_then(|root| ConfigDir::open(root).ok()).as_ref().map(names).unwrap_or_default()
    }

    /// Directories of logs, or those with the record of a run.
    fn logs(&self, of_runs: bool) -> Vec<String> {
        let begin = format!("{}-", crate::record::WHAT);
        let all = directories(self.data.as_deref(), "logs").into_iter();
        all.filter(|name| name.starts_with(&begin) == of_runs).collect()
    }

    fn cluster_runs(&self) -> Vec<String> {
        let config = self.config.as_deref().and_then(|root| ConfigDir::open(root).ok());
        let settings = config.and_then(|config| config.slurm().ok()).unwrap_or_default();
        let runs = |data: &Path| slurm::run_names(&slurm::shared_dir(data, &settings));
        self.data.as_deref().map(runs).unwrap_or_default()
    }

    fn stages(&self) -> Vec<String> {
        self.configured(ConfigDir::stage_names)
    }

    /// The ids that can be told without drawing the graph.
    fn nodes(&self) -> Vec<String> {
        let stage4s = self.configured(ConfigDir::stage4_names);
        stage4s.iter().flat_map(|name| [format!("stage4/{name}"), format!("artifact/{name}")]).collect()
    }

    /// Names of states that begin with `prefix`.
    fn states(&self, prefix: &str) -> Vec<String> {
        let names = self.data.as_deref().map(|data| refs::names_in(&data.join("store"))).unwrap_or_default();
        names.into_iter().filter(|name| name.starts_with(prefix) && !name.starts_with(refs::TREE_PREFIX)).collect()
    }

    /// The same without the prefix.
    fn below(&self, prefix: &str) -> Vec<String> {
        self.states(prefix).into_iter().filter_map(|name| Some(name.strip_prefix(prefix)?.to_owned())).collect()
    }

    fn profiles(&self) -> Vec<String> {
        self.below("profile/").iter().filter_map(|name| Some(name.split_once('/')?.0.to_owned())).collect()
    }

    /// Names of ebuild trees, and where they lie.
    fn trees(&self) -> Vec<(String, PathBuf)> {
        self.data.as_deref().map(|data| refs::trees_in(&data.join("store"))).unwrap_or_default()
    }

    fn roots(&self) -> Vec<RootDir> {
        self.trees().iter().filter_map(|(_, path)| RootDir::open(path).ok()).collect()
    }

    /// Packages in the trees: categories, and the packages of one that is written already. A name alone is completed if it is the only one,
    /// since shells that list several would replace it by what those begin with.
    fn packages(&self, current: &str) -> Vec<String> {
        let bare = current.trim_start_matches(OPERATORS);
        let operator = &current[..current.len() - bare.len()];
        let (mut found, mut by_name) = (Vec::new(), Vec::new());
        for root in self.roots() {
            let Ok(top) = root.tree() else { continue };
            if let Some((category, _)) = bare.split_once('/') {
                found.extend(packages_in(&top, category).map(|package| format!("{operator}{category}/{package}")));
                continue;
            }
            for category in listed(&top, ".").into_iter().filter(|name| is_category(name)) {
                if bare.len() >= SHORTEST_NAME {
                    let named = packages_in(&top, &category).filter(|package| package.starts_with(bare));
                    by_name.extend(named.map(|package| format!("{operator}{category}/{package}")));
                }
                found.push(format!("{operator}{category}/"));
            }
        }
        by_name.sort();
        by_name.dedup();
        found.retain(|word| word.starts_with(current));
        if let ([], [only]) = (&*found, &*by_name) { vec![only.clone()] } else { found }
    }

    /// USE flags of the package on the command line, as the cache of its tree has them, after what is written already.
    fn flags(&self, current: &str) -> Vec<String> {
        let start = current.rfind([' ', ',']).map_or(0, |at| at + 1);
        let (before, last) = current.split_at(start);
        let minus = if last.starts_with('-') { "-" } else { "" };
        let package = self.line.iter().find_map(|word| {
            let name = Cpv::name_of(word.trim_start_matches(OPERATORS));
            let (category, package) = name.split_once('/')?;
            is_category(category).then(|| (category.to_owned(), package.to_owned()))
        });
        let Some((category, package)) = package else { return Vec::new() };
        let mut found = Vec::new();
        for root in self.roots() {
            let dir = format!("metadata/md5-cache/{category}");
            let Ok(cache) = root.tree().and_then(|top| top.open_dir(&dir)) else { continue };
            for file in listed(&cache, ".") {
                if Cpv::name_of(&format!("{category}/{file}")) != format!("{category}/{package}") {
                    continue;
                }
                let Ok(text) = cache.read(&file, CACHE_LIMIT_BYTES) else { continue };
                let text = String::from_utf8_lossy(&text).into_owned();
                let flags = text.lines().find_map(|line| line.strip_prefix("IUSE=")).unwrap_or_default().split_whitespace();
                found.extend(flags.map(|flag| format!("{before}{minus}{}", flag.trim_start_matches(['+', '-']))));
            }
        }
        found
    }
}

fn packages_in(top: &TreeDir, category: &str) -> impl Iterator<Item = String> {
    let known = if is_category(category) { listed(top, category) } else { Vec::new() };
    known.into_iter().filter(|package| package != "metadata.xml" && package != "Manifest")
}

/// Whether a directory of a tree holds packages: `app-misc`, and not `metadata`.
fn is_category(name: &str) -> bool {
    name == "virtual" || name.contains('-') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_+.".contains(&byte))
}

/// The names in a directory of a tree.
fn listed(top: &TreeDir, path: &str) -> Vec<String> {
    let entries = top.open_dir(path).and_then(|dir| dir.entries(MOST_ENTRIES)).unwrap_or_default();
    entries.iter().filter_map(|entry| entry.text().map(str::to_owned)).collect()
}

/// The directories in `base/path`.
fn directories(base: Option<&Path>, path: &str) -> Vec<String> {
    names(base, path, true)
}

fn names(base: Option<&Path>, path: &str, directories: bool) -> Vec<String> {
    let dir = base.and_then(|base| TreeDir::open(&base.join(path)).ok());
    let entries = dir.and_then(|dir| dir.entries(MOST_ENTRIES).ok()).unwrap_or_default();
    let found = entries.iter().filter(|entry| entry.is_dir() == directories).filter_map(|entry| entry.text().map(str::to_owned));
    found.filter(|name| !name.starts_with('.')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arguments for which nothing on this machine has an answer.
    const OTHER: &[&str] = &[
        "init dir",
        "keys import file",
        "stage3 ls arch",
        "stage3 fetch variant",
        "stage3 verify files",
        "bootstrap stage3",
        "profile rename new",
        "patch prep name",
        "patch prep version",
        "patch shell command",
        "freshroot command",
        "shell command",
        "cp to",
        "logs log",
        "rollback to",
        "tag name",
        // No remote is asked while somebody types.
        "remote pull state",
        "remote rm states",
        "binhost export dir",
        "clean what",
        "completions shell",
        "man dir",
    ];

    #[test]
    fn each_argument_is_decided() {
        fn walk(command: &Command, path: &str, undecided: &mut Vec<String>) {
            let positionals = command.get_arguments().filter(|arg| arg.is_positional());
            for arg in positionals.filter(|arg| words(path, arg.get_id().as_str()) == Words::Other) {
                undecided.push(format!("{path} {}", arg.get_id()));
            }
            for sub in command.get_subcommands() {
                walk(sub, format!("{path} {}", sub.get_name()).trim_start(), undecided);
            }
        }
        let mut undecided = Vec::new();
        walk(&Cli::command(), "", &mut undecided);
        assert_eq!(undecided, OTHER);
    }
}
