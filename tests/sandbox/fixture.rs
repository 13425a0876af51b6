//! A launcher, a place, and sessions in it.

use std::cell::Cell;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use gentoomuch::internals::sandbox::{
    CommandLine, Error, Exit, HelperSource, IdMap, Launcher, MountCalls, Network, Plan, Proc, Running, SessionOptions, Stdio, Step,
};

pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) launcher: Launcher,
    runs: Cell<u32>,
}

/// The end of a session and all that it printed.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) exit: Exit,
    pub(crate) text: String,
}

impl Output {
    /// The value that the probe printed for a name.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
    }
}

/// Says why a test does nothing here.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("GENTOOMUCH_TEST_STRICT").is_none_or(|value| value != "1"), "must not be skipped: {why}");
    eprintln!("skipped: {why}");
}

/// `None`, said aloud, where this user has no subordinate ids.
pub(crate) fn fixture() -> Option<Fixture> {
    let map = match id_map() {
        Ok(map) => map,
        Err(why) => {
            skip(&why);
            return None;
        }
    };
    Some(Fixture { dir: tempfile::tempdir().unwrap(), launcher: launcher(map), runs: Cell::new(0) })
}

pub(crate) fn id_map() -> Result<IdMap, String> {
    let uid = nix::unistd::getuid();
    if uid.is_root() {
        return Err("these tests run as an ordinary user, and this is root".to_owned());
    }
    let user = nix::unistd::User::from_uid(uid).unwrap().ok_or("this user has no name")?;
    IdMap::of_host(Path::new("/"), uid.as_raw(), user.gid.as_raw(), &user.name, &[], None).map_err(|error| error.to_string())
}

pub(crate) fn launcher(map: IdMap) -> Launcher {
    Launcher::new(HelperSource::Path(PathBuf::from(env!("CARGO_BIN_EXE_gentoomuch"))), map)
}

impl Fixture {
    /// A new directory with what one overlay needs.
    pub(crate) fn place(&self) -> PathBuf {
        self.runs.set(self.runs.get() + 1);
        place_in(self.dir.path(), &format!("run-{}", self.runs.get()))
    }

    pub(crate) fn plan(&self, argv: &[&str]) -> (Plan, PathBuf) {
        let place = self.place();
        (plan(&place, argv), place)
    }

    /// Starts a session that writes into a pipe.
    pub(crate) fn start(&self, plan: &Plan, place: &Path, calls: MountCalls) -> Result<(Running, std::io::PipeReader), Error> {
        let (reader, options) = options(place.to_owned(), calls);
        Ok((self.launcher.session(plan, options)?, reader))
    }

    /// Removes what belongs to ids of the map and was left by a session that could or should not do it itself.
    pub(crate) fn remove(&self, place: &Path) {
        let own = self.place();
        let (_reader, mut options) = options(own.clone(), MountCalls::Newest);
        options.remove_after.push(place.to_owned());
        self.launcher.session(&plan(&own, &["true"]), options).unwrap().wait().unwrap();
    }

    pub(crate) fn run_plan(&self, plan: &Plan, place: &Path, calls: MountCalls) -> Result<Output, Error> {
        let (mut running, mut reader) = self.start(plan, place, calls)?;
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let exit = running.wait()?;
        assert!(!place.exists(), "{} was to be removed", place.display());
        Ok(Output { exit, text })
    }

    pub(crate) fn run(&self, argv: &[&str]) -> Output {
        let (plan, place) = self.plan(argv);
        self.run_plan(&plan, &place, MountCalls::Newest).unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    pub(crate) fn sh(&self, script: &str) -> Output {
        self.run(&["sh", "-c", script])
    }

    /// Runs a part of `probe.c`, compiled here.
    pub(crate) fn probe(&self, part: &str, edit: impl FnOnce(&mut Plan)) -> Option<Output> {
        let (plan, place) = self.probe_plan(&[part], edit)?;
        Some(self.run_plan(&plan, &place, MountCalls::Newest).unwrap_or_else(|error| panic!("{}", chain(&error))))
    }

    /// The plan of a session that runs `/probe` with these words.
    pub(crate) fn probe_plan(&self, words: &[&str], edit: impl FnOnce(&mut Plan)) -> Option<(Plan, PathBuf)> {
        let program = self.dir.path().join("probe");
        if !program.exists() {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sandbox/probe.c");
            match Command::new("cc").arg("-Wall").arg("-o").arg(&program).arg(source).status() {
                Ok(status) => assert!(status.success(), "probe.c does not compile"),
                Err(error) => {
                    skip(&format!("no C compiler: {error}"));
                    return None;
                }
            }
        }
        let (mut plan, place) = self.plan(&[&["/probe"], words].concat());
        let last = plan.steps.len() - 1;
        plan.steps.insert(last, Step::Bind { source: program, target: "/probe".into(), read_only: true });
        edit(&mut plan);
        Some((plan, place))
    }
}

pub(crate) fn place_in(dir: &Path, name: &str) -> PathBuf {
    let place = dir.join(name);
    for part in ["lower", "upper", "work", "root"] {
        std::fs::create_dir_all(place.join(part)).unwrap();
    }
    place
}

pub(crate) fn options(place: PathBuf, calls: MountCalls) -> (std::io::PipeReader, SessionOptions) {
    let (reader, writer) = std::io::pipe().unwrap();
    let stdout = OwnedFd::from(writer);
    let stderr = stdout.try_clone().unwrap();
    let stdin = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let mut options = SessionOptions::new(Stdio::Pipes { stdin, stdout, stderr });
    options.remove_after = vec![place];
    options.mount_calls = calls;
    (reader, options)
}

/// The host's programs in an overlay of their own.
pub(crate) fn plan(place: &Path, argv: &[&str]) -> Plan {
    let mut steps = vec![Step::Overlay {
        lower: vec![place.join("lower")],
        upper: place.join("upper"),
        work: place.join("work"),
        mountpoint: place.join("root"),
        volatile: true,
    }];
    steps.push(Step::Bind { source: "/usr".into(), target: "/usr".into(), read_only: true });
    for name in ["/bin", "/sbin", "/lib", "/lib32", "/lib64"] {
        match std::fs::read_link(name) {
            Ok(to) => steps.push(Step::Symlink { path: name.into(), to }),
            Err(_) if Path::new(name).is_dir() => {
                steps.push(Step::Bind { source: name.into(), target: name.into(), read_only: true });
            }
            Err(_) => {}
        }
    }
    for name in ["/etc/passwd", "/etc/group", "/etc/ld.so.cache"] {
        steps.push(Step::Bind { source: name.into(), target: name.into(), read_only: true });
    }
    steps.extend(Step::standard(Proc::New));
    steps.push(Step::PivotRoot);
    let command = CommandLine {
        argv: argv.iter().map(ToString::to_string).collect(),
        env: vec![("PATH".to_owned(), "/usr/bin:/usr/sbin:/bin:/sbin".to_owned()), ("LC_ALL".to_owned(), "C".to_owned())],
        login: false,
        cwd: "/".into(),
    };
    Plan { hostname: "testhost".to_owned(), network: Network::None, steps, command, terminal: false }
}

/// An error with its causes, one a line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes: Vec<String> = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
    causes.join("\ncaused by: ")
}
