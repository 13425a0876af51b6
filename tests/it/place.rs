//! A user's directories, and the program run in them with an environment of nothing else.
//!
//! ```text
//! ~/.cache/gentoomuch-it/PID-N a place/    a space, since paths have some
//!   home/ config/ data/ cache/
//!   gnupg -> /tmp/gmXXXXXX                 its sockets need a short path
//! ```

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::child::{self, Known};
use crate::host;
use crate::times::Times;

static NUMBER: AtomicU32 = AtomicU32::new(0);

#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    /// Which of the directory's configurations is used.
    pub(crate) config: PathBuf,
    /// Holds the pipe whose end tells the sweeper that this process is gone; `None` for a place that stays.
    sweeper: Option<Known>,
}

/// How the directories of places end that are one test's own.
const OWN: &str = " a place";

/// What a run of the program came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) what: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    /// It ran in a place that no other test looks at.
    pub(crate) own: bool,
}

impl Place {
    /// A new place, unless this host has no ids to work with.
    pub(crate) fn new() -> Option<Self> {
        Self::called(OWN)
    }

    /// A new place whose directory ends in these words.
    pub(crate) fn called(words: &str) -> Option<Self> {
        if !host::has_ids() {
            return None;
        }
        let name = format!("{}-{}{words}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut place = Self::at(host::cache().join("gentoomuch-it").join(name));
        // It removes the directory even when this process is killed, since a test that fails must not fill the disk.
        // A shared place's keyring, too, whose agent would stay.
        let remove = "cat >/dev/null
            keys=$(readlink \"$1/gnupg\") && { gpgconf --homedir \"$keys\" --kill all; rm -rf -- \"$keys\"; }
            exec unshare --map-auto --map-root-user -- rm -rf -- \"$1\"";
        let mut sweeper = Command::new("setsid");
        sweeper.args(["sh", "-c", remove, "sh"]).arg(&place.dir).stdin(Stdio::piped());
        let sweeper = child::start(sweeper.stdout(Stdio::null()).stderr(Stdio::null()));
        place.sweeper = Some(sweeper);
        Some(place)
    }

    /// A place that stays, in `dir`.
    pub(crate) fn at(dir: PathBuf) -> Self {
        for name in ["home", "data", "cache", "xdg"] {
            fs::create_dir_all(dir.join(name)).unwrap();
            // As the program makes them; else it would say that it closes them.
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o700)).unwrap();
        }
        Self { config: dir.join("config"), dir, sweeper: None }
    }

    /// The same place with another configuration.
    pub(crate) fn with_config(&self, config: PathBuf) -> Self {
        Self { config, dir: self.dir.clone(), sweeper: None }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("data/store")
    }

    /// Writes a file below the place, with its directories.
    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    /// The program with `args`, in the scrubbed environment.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        self.wrapped(Command::new(env!("CARGO_BIN_EXE_gentoomuch")), args)
    }

    /// The same with files made with another umask.
    pub(crate) fn command_with_umask<S: AsRef<OsStr>>(&self, umask: &str, args: &[S]) -> Command {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "umask \"$1\" && shift && exec \"$@\"", "sh", umask, env!("CARGO_BIN_EXE_gentoomuch")]);
        self.wrapped(shell, args)
    }

    /// A program of `examples/`, as an embedding program would be started.
    pub(crate) fn example<S: AsRef<OsStr>>(&self, name: &str, args: &[S]) -> Command {
        let program = Path::new(env!("CARGO_BIN_EXE_gentoomuch")).with_file_name("examples").join(name);
        assert!(program.exists(), "{} is not there: `cargo build --examples` makes it", program.display());
        self.wrapped(Command::new(program), args)
    }

    fn wrapped<S: AsRef<OsStr>>(&self, mut command: Command, args: &[S]) -> Command {
        command.args(args).env_clear().envs(self.environment()).current_dir(&self.dir).stdin(Stdio::null());
        command
    }

    pub(crate) fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut environment: Vec<(OsString, OsString)> = [
            ("HOME", self.path("home")),
            ("XDG_CONFIG_HOME", self.path("xdg")),
            ("GENTOOMUCH_CONFIG", self.config.clone()),
            ("GENTOOMUCH_DATA", self.path("data")),
            ("GENTOOMUCH_CACHE", self.path("cache")),
            ("GNUPGHOME", self.path("gnupg")),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
        environment.push(("PATH".into(), "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".into()));
        if let Ok(target) = fs::read_link(self.path("gnupg")) {
            environment.retain(|(name, _)| name != "GNUPGHOME");
            environment.push(("GNUPGHOME".into(), target.into()));
        }
        environment
    }

    /// Runs the program with `args`.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Ran {
        run(&mut self.command(args))
    }

    /// Everything that the store lists, as text.
    pub(crate) fn listing(&self) -> String {
        self.run(&["store", "ls", "--json"]).ok().text()
    }

    /// The same as a value.
    pub(crate) fn list(&self) -> serde_json::Value {
        serde_json::from_str(&self.listing()).unwrap()
    }

    /// The sessions in the store: purpose and what is with them.
    pub(crate) fn sessions(&self) -> Vec<serde_json::Value> {
        self.list()["sessions"].as_array().unwrap().clone()
    }

    /// What is written about each session.
    pub(crate) fn session_records(&self) -> Vec<serde_json::Value> {
        let entries = fs::read_dir(self.store().join("sessions")).into_iter().flatten().flatten();
        let records = entries.filter_map(|entry| fs::read(entry.path().join("session.json")).ok());
        records.filter_map(|text| serde_json::from_slice(&text).ok()).collect()
    }

    /// What is written about the session in which `subject` is made, such as `stage4/web`.
    pub(crate) fn session_of(&self, subject: &str) -> Option<serde_json::Value> {
        let prefix = format!("{subject} ");
        self.session_records()
            .into_iter()
            .find(|record| record["subject"].as_str().is_some_and(|other| other == subject || other.starts_with(&prefix)))
    }

    /// Fails unless nothing runs any more, and nothing half-made is in the store.
    pub(crate) fn assert_tidy(&self) {
        child::assert_no_strangers();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let dir = self.dir.display().to_string().replace(' ', "\\040");
        assert!(!mounts.contains(&dir), "mounts are left:\n{mounts}");
        for name in ["tmp", "sessions"] {
            let Ok(entries) = fs::read_dir(self.store().join(name)) else { continue };
            for entry in entries.flatten() {
                let record = fs::read_to_string(entry.path().join("session.json")).unwrap_or_default();
                assert!(record.contains("suspended"), "left in the store: {} {record}", entry.path().display());
            }
        }
        let verified = self.run(&["store", "verify"]);
        assert!(verified.status.success(), "{verified:?}");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(sweeper) = self.sweeper.take() else { return };
        let failed = std::thread::panicking();
        if !failed && self.store().exists() {
            self.assert_tidy();
        }
        let mut sweeper = sweeper;
        drop(sweeper.child().stdin.take());
        sweeper.output();
        // Everything in it can be removed by its user without root.
        assert!(failed || !self.dir.exists(), "{} cannot be removed", self.dir.display());
    }
}

impl Ran {
    pub(crate) fn of(what: String, output: Output) -> Self {
        Self {
            what,
            status: output.status,
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            own: false,
        }
    }

    /// Fails unless it succeeded, and shows what it showed before.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(self.status.success(), "{self}");
        crate::transcript::compare_output(&self);
        self
    }

    /// Fails unless it ended with `code`, and said what it said before.
    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        crate::transcript::compare_error(&self);
        self
    }

    /// Fails unless its diagnostics contain `words`.
    #[track_caller]
    pub(crate) fn says(self, words: &str) -> Self {
        assert!(self.stderr.contains(words), "{words:?} is not in\n{self}");
        self
    }

    #[track_caller]
    pub(crate) fn says_nothing_of(self, words: &str) -> Self {
        assert!(!self.stderr.contains(words), "{words:?} is in\n{self}");
        self
    }

    /// What it printed.
    #[track_caller]
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap_or_else(|error| panic!("{error} in {self}"))
    }

    /// The value in the line of its output that begins with `label`.
    #[track_caller]
    pub(crate) fn value(&self, label: &str) -> String {
        let text = self.text();
        let line = text.lines().find_map(|line| line.strip_prefix(label)).unwrap_or_else(|| panic!("no {label:?} in {self}"));
        line.trim().to_owned()
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (out, status) = (String::from_utf8_lossy(&self.stdout), self.status);
        write!(f, "$ {}\n{out}{}# {status}, signal {:?}", self.what, self.stderr, status.signal())
    }
}

/// Runs `command` to its end. What it prints as JSON has to be as documented.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Ran {
    let times = Times::new();
    let mut ran = finish(command_line(command), child::spawn(command));
    ran.own = command.get_current_dir().is_some_and(|dir| dir.to_string_lossy().ends_with(OWN));
    times.note(&ran.what);
    let args: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    crate::schema::check(&args, ran.status.success(), &ran.stdout);
    ran
}

/// Waits for the end of what `what` started.
pub(crate) fn finish(what: String, running: Known) -> Ran {
    Ran::of(what, running.output())
}

pub(crate) fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Copies a directory with everything in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    child::check(Command::new("cp").arg("-R").arg(from).arg(to));
}

/// Binary packages of `name` below `dir`. Not what sessions see of the pools while they run, and what they are about to add.
pub(crate) fn packages_below(dir: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    // What another process removes meanwhile is none.
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let file = entry.file_name().into_string().unwrap();
        if [".views", ".claims", ".incoming"].contains(&file.as_str()) {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(packages_below(&entry.path(), name));
        } else if (name.is_empty() || file.starts_with(&format!("{name}-"))) && file.ends_with(".gpkg.tar") {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// A Python for each phase is a fifth of what a small package costs.
const QUICK: &str = "FEATURES=\"-pid-sandbox\"\n";
const MAKE_CONF: &str = "portage.global/make.conf";

/// Has Portage build without its `pid-sandbox`, in a configuration that is a copy of the shipped one.
pub(crate) fn build_quickly(config: &Path) {
    let file = config.join(MAKE_CONF);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(file, format!("{text}{QUICK}")).unwrap();
}

/// The configuration directory that is shipped.
pub(crate) fn shipped_config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}
