//! The sandbox in real namespaces, as an ordinary user with subordinate ids.
//!
//! What runs in the sessions are small C programs, compiled statically by these tests, so that any host with a C compiler will do.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use gentoomuch::sandbox::{CommandLine, Exit, HelperSource, IdMap, Launcher, Network, Plan, SessionOptions, Stdio, Step};

#[test]
fn runs_a_command_on_an_overlay() {
    let uid = nix::unistd::getuid();
    let user = nix::unistd::User::from_uid(uid).unwrap().unwrap();
    let map =
        IdMap::for_user(uid.as_raw(), user.gid.as_raw(), &user.name, Path::new("/etc/subuid"), Path::new("/etc/subgid")).unwrap();
    let launcher = Launcher::new(HelperSource::Path(PathBuf::from(env!("CARGO_BIN_EXE_gentoomuch"))), map).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let (lower, upper, work, root) = (make("lower"), make("upper"), make("work"), make("root"));
    let mut steps = vec![Step::Overlay { lower: vec![lower], upper, work, mountpoint: root, volatile: true }];
    steps.push(Step::Bind { source: "/usr".into(), target: "/usr".into(), read_only: true });
    for name in ["bin", "sbin", "lib", "lib64"] {
        steps.push(Step::Symlink { path: Path::new("/").join(name), to: Path::new("usr").join(name) });
    }
    steps.extend(Step::standard());
    steps.push(Step::PivotRoot);
    let command = CommandLine {
        argv: vec![
            "sh".into(),
            "-c".into(),
            "id; cat /proc/self/uid_map; ls -la /dev /proc/self/fd; cat /proc/self/mountinfo; umount /proc; exit 3".into(),
        ],
        env: vec![("PATH".into(), "/usr/bin:/usr/sbin".into())],
        cwd: "/".into(),
    };
    let plan = Plan { hostname: "test".into(), network: Network::None, steps, command, terminal: false };
    let (mut read, write) = std::io::pipe().unwrap();
    let stdout = OwnedFd::from(write);
    let stderr = stdout.try_clone().unwrap();
    let stdin = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let mut running = launcher.session(&plan, SessionOptions::new(Stdio::Pipes { stdin, stdout, stderr })).unwrap();
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    println!("{text}");
    assert_eq!(running.wait().unwrap(), Exit::Code(3));
}
