//! How long a session takes to run `true`, beside bubblewrap doing the like: a root of one's own, the host's `/usr`, new
//! namespaces. Run as an ordinary user with subordinate ids.
//!
//! bubblewrap maps one id, makes no nested namespace and installs no filter.
#![expect(clippy::print_stderr, clippy::unwrap_used, reason = "a program of its own, for people")]

use std::path::{Path, PathBuf};
use std::process::Command;

use criterion::{Criterion, criterion_group, criterion_main};
use gentoomuch::internals::sandbox::{
    CommandLine, HelperSource, IdMap, Launcher, Network, Plan, Proc, SessionOptions, Stdio, Step,
};

fn place(dir: &Path) -> PathBuf {
    for part in ["lower", "upper", "work", "root"] {
        std::fs::create_dir_all(dir.join(part)).unwrap();
    }
    dir.to_owned()
}

fn plan(place: &Path) -> Plan {
    let mut steps = vec![
        Step::FreshDirectory { path: place.join("work") },
        Step::Overlay {
            lower: vec![place.join("lower")],
            upper: place.join("upper"),
            work: place.join("work"),
            mountpoint: place.join("root"),
            volatile: true,
        },
        Step::Bind { source: "/usr".into(), target: "/usr".into(), read_only: true },
    ];
    for name in ["/bin", "/sbin", "/lib", "/lib64"] {
        if let Ok(to) = std::fs::read_link(name) {
            steps.push(Step::Symlink { path: name.into(), to });
        }
    }
    steps.extend(Step::standard(Proc::New));
    steps.push(Step::PivotRoot);
    let command = CommandLine {
        argv: vec!["true".to_owned()],
        env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
        login: false,
        cwd: "/".into(),
    };
    Plan { hostname: "bench".to_owned(), network: Network::None, steps, command, terminal: false }
}

/// With an overlay where bubblewrap can make one (0.11), else with an empty root in memory.
fn bubblewrap(place: &Path) -> Option<(&'static str, Command)> {
    let path = |name: &str| place.join(name).display().to_string();
    let overlay = ["--overlay-src".to_owned(), path("lower"), "--overlay".to_owned(), path("upper"), path("work"), "/".to_owned()];
    let memory = ["--tmpfs".to_owned(), "/".to_owned()];
    [("bwrap true, one id, overlay", overlay.as_slice()), ("bwrap true, one id, tmpfs", memory.as_slice())].into_iter().find_map(
        |(name, root)| {
            let mut command = Command::new("bwrap");
            command.arg("--unshare-all").args(root).args(["--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin"]);
            command.args(["--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev"]);
            command.args(["--tmpfs", "/run", "--tmpfs", "/tmp", "true"]);
            command.output().is_ok_and(|output| output.status.success()).then_some((name, command))
        },
    )
}

fn start(criterion: &mut Criterion) {
    let uid = nix::unistd::getuid();
    let user = nix::unistd::User::from_uid(uid).unwrap().unwrap();
    let map = IdMap::of_host(Path::new("/"), uid.as_raw(), user.gid.as_raw(), &user.name, &["/usr/bin".into()], None);
    let Ok(map) = map.inspect_err(|error| eprintln!("skipped: {error}")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let launcher = |map: IdMap| Launcher::new(HelperSource::Path(env!("CARGO_BIN_EXE_gentoomuch").into()), map);
    let run = |launcher: &Launcher, plan: &Plan| {
        let mut session = launcher.session(plan, SessionOptions::new(Stdio::Null)).unwrap();
        assert!(session.wait().unwrap().success());
    };
    let mut group = criterion.benchmark_group("session");
    group.sample_size(50);
    let ours = plan(&place(&dir.path().join("ours")));
    group.bench_function("true, as a whole command", |bencher| bencher.iter(|| run(&launcher(map.clone()), &ours)));
    let kept = launcher(map.clone());
    group.bench_function("true, helper copied before", |bencher| bencher.iter(|| run(&kept, &ours)));
    if let Some((name, mut bwrap)) = bubblewrap(&place(&dir.path().join("bwrap"))) {
        group.bench_function(name, |bencher| bencher.iter(|| assert!(bwrap.status().unwrap().success())));
    }
    group.finish();
    // The work directories hold one that nobody may enter.
    let mut options = SessionOptions::new(Stdio::Null);
    options.remove_after = vec![dir.path().join("bwrap"), dir.path().join("ours")];
    kept.session(&ours, options).unwrap().wait().unwrap();
}

criterion_group!(benches, start);
criterion_main!(benches);
