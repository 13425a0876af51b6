//! What others fell for, tried here: one test for each class, by the name of the hole.
//!
//! `tests/it/hostile.rs` tries the same from the phases of a package.

use std::io::{BufRead as _, IoSliceMut, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use gentoomuch::internals::sandbox::{Error, Exit, MountCalls, Network, Plan, Running, SessionOptions, Stdio, Step};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::fixture::{Fixture, chain, fixture, options, plan, skip};

const BOTH: [MountCalls; 2] = [MountCalls::Newest, MountCalls::Oldest];

/// The error of a session whose command starts in `/root`, which the layer has made what `shape` does.
fn start_in_root(fixture: &Fixture, calls: MountCalls, shape: impl Fn(&Path)) -> Result<String, Error> {
    let (mut plan, place) = fixture.plan(&["sh", "-c", "pwd; ls"]);
    shape(&place.join("lower/root"));
    plan.command.cwd = "/root".into();
    fixture.run_plan(&plan, &place, calls).map(|output| output.text)
}

/// runc entered a working directory that was a link to `/proc/self/fd/N`, a descriptor of the host's that it had not closed.
#[test]
fn cve_2024_21626_a_descriptor_as_working_directory() {
    let Some(fixture) = fixture() else { return };
    let host = fixture.dir.path().join("host");
    std::fs::create_dir_all(host.join("secret")).unwrap();
    // What a careless program has open when it starts a session.
    let leaked = std::fs::File::open(&host).unwrap();
    let leaked = rustix::io::fcntl_dupfd_cloexec(&leaked, 70).unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let number = leaked.as_raw_fd();
    for calls in BOTH {
        for to in [
            format!("/proc/self/fd/{number}"),
            format!("/proc/1/fd/{number}"),
            "/proc/self/fd/3".to_owned(),
            "/proc/1/cwd".to_owned(),
        ] {
            let error = start_in_root(&fixture, calls, |root| symlink(&to, root).unwrap()).expect_err(&to);
            assert!(matches!(error, Error::Directory { .. }), "{to} with {calls:?}: {}", chain(&error));
            assert!(chain(&error).starts_with("cannot enter `/root` in the session\ncaused by: "), "{}", chain(&error));
        }
        // These lead to the session's own root, if the calls follow them at all.
        for to in ["/proc/self/cwd", "/proc/self/root"] {
            if let Ok(text) = start_in_root(&fixture, calls, |root| symlink(to, root).unwrap()) {
                assert!(text.contains("usr") && !text.contains("secret"), "{to} with {calls:?}: {text}");
            }
        }
    }
}

#[test]
fn a_working_directory_that_is_none_is_named() {
    let Some(fixture) = fixture() else { return };
    for calls in BOTH {
        let words = |shape: &dyn Fn(&Path)| chain(&start_in_root(&fixture, calls, shape).unwrap_err());
        let file = words(&|root| std::fs::write(root, "").unwrap());
        assert_eq!(
            file,
            "cannot enter `/root` in the session\ncaused by: `fchdir(/root)` failed\ncaused by: Not a directory (os error 20)"
        );
        let missing = words(&|_| {});
        assert!(missing.ends_with("caused by: No such file or directory (os error 2)"), "{missing}");
        let circle = words(&|root| symlink("root", root).unwrap());
        assert!(circle.ends_with("caused by: `/root` is a symbolic link or lies behind one"), "{circle}");
        // A link inside of the root is what a layer may have, also one that is written for the host's root.
        for to in ["usr/bin", "/usr/bin", "../../../../usr/bin"] {
            let text = start_in_root(&fixture, calls, |root| symlink(to, root).unwrap()).unwrap();
            assert!(text.lines().any(|name| name == "env"), "{to}: {text}");
        }
    }
}

#[test]
fn no_standard_descriptor_is_a_directory() {
    let Some(fixture) = fixture() else { return };
    for at in 0..3 {
        let (plan, place) = fixture.plan(&["true"]);
        let mut ends: Vec<OwnedFd> = (0..3).map(|_| std::fs::File::open("/dev/null").unwrap().into()).collect();
        ends[at] = std::fs::File::open(fixture.dir.path()).unwrap().into();
        let [stdin, stdout, stderr] = <[OwnedFd; 3]>::try_from(ends).unwrap();
        let error = fixture.launcher.session(&plan, SessionOptions::new(Stdio::Pipes { stdin, stdout, stderr })).unwrap_err();
        assert_eq!(chain(&error), format!("standard {} is a directory", ["input", "output", "error"][at]));
        fixture.remove(&place);
    }
}

/// runc was overwritten through `/proc/PID/exe` by the container that it had started.
#[test]
fn cve_2019_5736_the_program_through_proc() {
    let Some(fixture) = fixture() else { return };
    let program = Path::new(env!("CARGO_BIN_EXE_gentoomuch"));
    let before = std::fs::metadata(program).unwrap();
    // What executes the command, begun again by the session as if it were its own: a script's interpreter, and a link. It is not our
    // program, which would tell its version, and does nothing for whoever executes it again.
    for (name, contents) in [("script", Some("#!/proc/self/exe\n")), ("link", None)] {
        let (mut plan, place) = fixture.plan(&["/evil", "--version"]);
        std::fs::create_dir_all(place.join("lower")).unwrap();
        match contents {
            Some(text) => {
                let last = plan.steps.len() - 1;
                plan.steps.insert(last, Step::File { path: "/evil".into(), contents: text.to_owned(), mode: 0o755 });
            }
            None => symlink("/proc/self/exe", place.join("lower/evil")).unwrap(),
        }
        let output = fixture.run_plan(&plan, &place, MountCalls::Newest);
        let output = output.unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
        assert_eq!((output.text.as_str(), output.exit), ("", Exit::Code(1)), "{name}");
    }
    let output = fixture.sh(
        "for pid in /proc/[0-9]*; do echo hostile > $pid/exe; chmod 777 $pid/exe; cp $pid/exe /copy-${pid#/proc/}; done 2>/dev/null; \
         ls / | grep -x copy-1; echo end",
    );
    assert_eq!(output.text, "end\n", "PID 1 is our program, and nobody may read it");
    let after = std::fs::metadata(program).unwrap();
    assert_eq!((before.len(), before.modified().unwrap()), (after.len(), after.modified().unwrap()));
}

/// runc looked a mount's target up twice, and somebody exchanged it for a link in between.
#[test]
fn cve_2021_30465_a_target_that_changes_while_the_root_is_made() {
    let Some(fixture) = fixture() else { return };
    let outside = fixture.dir.path().join("outside");
    let shared = fixture.dir.path().join("shared");
    std::fs::create_dir_all(shared.join("real")).unwrap();
    std::fs::create_dir(&outside).unwrap();
    symlink(&outside, shared.join("link")).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Another session with the same directory, or a program of the host.
        scope.spawn(|| {
            std::fs::create_dir(shared.join("target")).unwrap();
            while !over.load(Ordering::Relaxed) {
                for other in ["real", "link"] {
                    let (here, there) = (shared.join("target"), shared.join(other));
                    rustix::fs::renameat_with(rustix::fs::CWD, &here, rustix::fs::CWD, &there, rustix::fs::RenameFlags::EXCHANGE)
                        .unwrap();
                }
            }
        });
        for _ in 0..20 {
            let (mut plan, place) = fixture.plan(&[
                "sh",
                "-c",
                "grep -c \" /shared/\" /proc/self/mountinfo; grep outside /proc/self/mountinfo; echo end",
            ]);
            let last = plan.steps.len() - 1;
            let steps = [
                Step::Bind { source: shared.clone(), target: "/shared".into(), read_only: false },
                Step::Bind { source: "/usr/lib".into(), target: "/shared/target/deep/lib".into(), read_only: true },
                Step::File { path: "/shared/target/file".into(), contents: "x".to_owned(), mode: 0o644 },
            ];
            plan.steps.splice(last..last, steps);
            // It may fail, as when the link leads nowhere in the root; but never does it lead out of it.
            if let Ok(output) = fixture.run_plan(&plan, &place, MountCalls::Newest) {
                assert!(output.text.ends_with("end\n") && !output.text.contains("outside/"), "{output:?}");
            } else if place.exists() {
                fixture.remove(&place);
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "nothing was made where the link leads on the host");
}

/// runc masked paths, opened `/dev/console` and wrote settings below `/proc` by paths that the container had made links.
#[test]
fn cve_2025_31133_52565_52881_proc_and_dev_that_are_links() {
    let Some(fixture) = fixture() else { return };
    let outside = fixture.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let up = format!("../../../../../../../../../..{}", outside.display());
    for calls in BOTH {
        for to in [outside.to_str().unwrap(), &up, "elsewhere", "/tmp", "/proc/self/attr", "/dev/shm"] {
            let (plan, place) = fixture.plan(&[
                "sh",
                "-c",
                "stat -f -c %T /proc/self/; stat -c %t:%T /dev/null; cat /proc/sys/user/max_user_namespaces; unshare -U true 2>&1; echo end",
            ]);
            let lower = place.join("lower");
            for name in ["proc", "dev", "sys", "run"] {
                symlink(format!("{to}/{name}"), lower.join(name)).unwrap();
            }
            // What our helper would write to, if it looked it up in the root.
            for made in [&outside, &lower.join("elsewhere"), &lower.join("tmp")] {
                std::fs::create_dir_all(made.join("proc/sys/user")).unwrap();
                std::fs::write(made.join("proc/sys/user/max_user_namespaces"), "9").unwrap();
            }
            let result = fixture.run_plan(&plan, &place, calls);
            assert_eq!(std::fs::read_to_string(outside.join("proc/sys/user/max_user_namespaces")).unwrap(), "9");
            assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1, "{to} with {calls:?}");
            match result {
                Ok(output) if output.text.starts_with("proc\n1:3\n") => {
                    assert!(
                        output.text.contains("\n0\n") && output.text.contains("No space left"),
                        "{to} with {calls:?}: {output:?}"
                    );
                }
                // Where no `/proc` of ours is found, no other may be there.
                Ok(output) => assert!(!output.text.starts_with("proc") && output.text.ends_with("end\n"), "{to}: {output:?}"),
                Err(_) if place.exists() => fixture.remove(&place),
                Err(_) => {}
            }
        }
    }
}

/// bubblewrap left the user's terminal to its command, which typed into it (TIOCSTI). See `terminal.rs` for who gets a terminal.
#[test]
fn cve_2017_5226_typing_for_the_user() {
    let Some(fixture) = fixture() else { return };
    let Some(output) = fixture.probe("calls", |_| {}) else { return };
    for name in ["tiocsti", "tiocsti-high", "tioclinux", "x32-tiocsti", "i386-tiocsti"] {
        if let Some(answer) = output.value(name) {
            assert_eq!(answer, "EPERM", "{name} in {output:?}");
        }
    }
    assert!(output.value("tiocsti").is_some());
}

fn name(what: &str) -> String {
    format!("gentoomuch-test-{what}-{}", std::process::id())
}

fn address(name: &str) -> SocketAddr {
    SocketAddr::from_abstract_name(name).unwrap()
}

fn has_scopes() -> bool {
    let has =
        gentoomuch::internals::sys::landlock::abi().is_some_and(|abi| abi >= gentoomuch::internals::sys::landlock::SCOPES_ABI);
    if !has {
        skip("this kernel has no Landlock scopes");
    }
    has
}

/// containerd's shim listened on an abstract socket, which containers with the host's network could reach, as root.
#[test]
fn cve_2020_15257_abstract_sockets_of_the_host() {
    let Some(fixture) = fixture() else { return };
    let name = name("host");
    let listener = UnixListener::bind_addr(&address(&name)).unwrap();
    let datagrams = UnixDatagram::bind_addr(&address(&format!("{name}-d"))).unwrap();
    listener.set_nonblocking(true).unwrap();
    datagrams.set_nonblocking(true).unwrap();
    if !has_scopes() {
        return;
    }
    for (network, wanted) in [(Network::Host, "EPERM"), (Network::None, "ECONNREFUSED")] {
        let Some((plan, place)) = fixture.probe_plan(&["reach", &name], |plan| plan.network = network) else { return };
        let output = fixture.run_plan(&plan, &place, MountCalls::Newest).unwrap_or_else(|error| panic!("{}", chain(&error)));
        for call in ["connect", "datagram", "datagram-connect"] {
            assert_eq!(output.value(call), Some(wanted), "{call} with network {network}: {output:?}");
        }
        assert_eq!(output.value("signal"), Some("EPERM"), "{output:?}");
        for own in ["own-bind", "own-connect", "own-pass", "own-signal"] {
            assert_eq!(output.value(own), Some("ok"), "{own} with network {network}: {output:?}");
        }
        assert_eq!(output.value("pass"), None, "{output:?}");
    }
    assert!(listener.accept().is_err() && datagrams.recv(&mut [0]).is_err());
}

/// Receives what a session passes on.
fn receive(stream: &UnixStream) -> Vec<OwnedFd> {
    let mut space = [std::mem::MaybeUninit::uninit(); 64];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    recvmsg(stream, &mut [IoSliceMut::new(&mut [0; 8])], &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap();
    let messages = ancillary.drain();
    messages
        .flat_map(|message| if let RecvAncillaryMessage::ScmRights(fds) = message { fds.collect() } else { Vec::new() })
        .collect()
}

/// A session that serves on `name`, and what somebody outside, who connects to `address`, was given by it.
fn served(fixture: &Fixture, name: &str, address: &SocketAddr, edit: impl FnOnce(&mut Plan)) -> Option<(Served, Vec<OwnedFd>)> {
    let (plan, place) = fixture.probe_plan(&["serve", name], edit)?;
    std::fs::write(place.join("upper/used"), "").unwrap();
    let (reader, mut options) = options(place.clone(), MountCalls::Newest);
    options.shows_host = plan.network == Network::None;
    let running = fixture.launcher.session(&plan, options).unwrap();
    let mut reader = std::io::BufReader::new(reader);
    let mut line = String::new();
    while line != "ready ok\n" {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "no socket");
    }
    let accomplice = UnixStream::connect_addr(address).unwrap();
    let held = receive(&accomplice);
    assert_eq!(held.len(), 2);
    Some((Served { running, reader, place, accomplice }, held))
}

struct Served {
    running: Running,
    reader: std::io::BufReader<std::io::PipeReader>,
    place: PathBuf,
    /// The session goes on until this is dropped.
    accomplice: UnixStream,
}

fn held_words(place: &Path) -> String {
    format!("a process outside the session has files of `{}` open", place.join("upper").display())
}

/// A build of Nix passed a descriptor to another user through an abstract socket, who changed the output after it was registered.
#[test]
fn cve_2024_27297_a_descriptor_that_outlives_the_session() {
    let Some(fixture) = fixture() else { return };
    let name = name("session");
    let meeting = tempfile::tempdir().unwrap();
    let by_path = SocketAddr::from_pathname(meeting.path().join("socket")).unwrap();
    for (is_abstract, keep) in [(true, true), (true, false), (false, true)] {
        let served = if is_abstract {
            served(&fixture, &name, &address(&name), |plan| plan.network = Network::Host)
        } else {
            served(&fixture, "/meeting/socket", &by_path, |plan| {
                let last = plan.steps.len() - 1;
                let bind = Step::Bind { source: meeting.path().to_owned(), target: "/meeting".into(), read_only: false };
                plan.steps.insert(last, bind);
            })
        };
        let Some((Served { mut running, mut reader, place, accomplice }, held)) = served else { return };
        drop(accomplice);
        if keep {
            reader.read_to_string(&mut String::new()).unwrap();
            assert_eq!(chain(&running.wait().unwrap_err()), held_words(&place));
        } else {
            drop(held);
            assert_eq!(running.wait().unwrap(), Exit::Code(0));
        }
        assert!(!place.exists());
    }
}

/// The same where nobody could look at the end, and the session goes on.
#[test]
fn cve_2024_27297_a_descriptor_of_a_session_whose_helper_was_killed() {
    let Some(fixture) = fixture() else { return };
    let name = name("killed");
    let Some((Served { mut running, place, accomplice, .. }, held)) =
        served(&fixture, &name, &address(&name), |plan| plan.network = Network::Host)
    else {
        return;
    };
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.pid1())).unwrap();
    let helper = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
    kill(Pid::from_raw(helper), Signal::SIGKILL).unwrap();
    running.wait().unwrap_err();
    drop(accomplice);

    let mut again = plan(&place, &["true"]);
    // A volatile overlay that was not unmounted leaves a mark there.
    again.steps.insert(0, Step::FreshDirectory { path: place.join("work") });
    let again = || fixture.run_plan(&again, &place, MountCalls::Newest);
    assert_eq!(chain(&again().unwrap_err()), held_words(&place));
    drop(held);
    assert_eq!(again().unwrap().exit, Exit::Code(0));
}

/// Podman and Buildah took mount options out of what was a path.
#[test]
fn cve_2024_9407_options_in_paths() {
    let Some(fixture) = fixture() else { return };
    let odd = ["a,ro", "b:/etc", "c,lowerdir=/etc,upperdir=/tmp", "d\\,index=on", "e=f,dev,suid,exec", "g\nh"];
    for calls in BOTH {
        let (mut plan, place) = fixture.plan(&[
            "sh",
            "-c",
            "cat /layer; for n in 0 1 2 3 4 5; do cat /bound/$n/name; done; ls /etc; cat /proc/self/mountinfo",
        ]);
        let last = plan.steps.len() - 1;
        for (number, name) in odd.iter().enumerate() {
            let source = place.join(name.replace('/', "%"));
            std::fs::create_dir(&source).unwrap();
            std::fs::write(source.join("name"), format!("{number}\n")).unwrap();
            std::fs::write(source.join("layer"), "layer\n").unwrap();
            plan.steps
                .insert(last, Step::Bind { source: source.clone(), target: format!("/bound/{number}").into(), read_only: true });
            let Step::Overlay { lower, .. } = &mut plan.steps[0] else { panic!("the first step is the overlay") };
            lower.push(source);
        }
        let output = fixture.run_plan(&plan, &place, calls).unwrap_or_else(|error| panic!("{calls:?}: {}", chain(&error)));
        assert!(output.text.starts_with("layer\n0\n1\n2\n3\n4\n5\ngroup\nld.so.cache\npasswd\n"), "{calls:?}: {output:?}");
        let bound: Vec<&str> = output.text.lines().filter(|line| line.contains(" /bound/")).collect();
        assert_eq!(bound.len(), odd.len());
        assert!(bound.iter().all(|line| line.split(' ').nth(5).unwrap().split(',').any(|option| option == "ro")), "{bound:?}");
    }
}

/// Buildah's cache mounts led out of the root by `..` and links in their names.
#[test]
fn cve_2024_9675_targets_that_lead_out() {
    let Some(fixture) = fixture() else { return };
    let outside = fixture.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let up = format!("../../../../../../../../../..{}", outside.display());
    for calls in BOTH {
        for target in [format!("/cache/{up}/a"), format!("/{up}/b"), "/up/c".to_owned(), "/absolute/d".to_owned()] {
            let (mut plan, place) = fixture.plan(&["sh", "-c", "cat /proc/self/mountinfo"]);
            symlink(&up, place.join("lower/up")).unwrap();
            symlink(&outside, place.join("lower/absolute")).unwrap();
            let source = place.join("source");
            std::fs::create_dir(&source).unwrap();
            let last = plan.steps.len() - 1;
            let target = std::path::PathBuf::from(target);
            let steps = [
                Step::Bind { source, target: target.clone(), read_only: false },
                Step::Tmpfs { target: target.join("t"), size: None, mode: 0o755 },
                Step::File { path: target.join("f"), contents: "x".to_owned(), mode: 0o644 },
            ];
            plan.steps.splice(last..last, steps);
            if fixture.run_plan(&plan, &place, calls).is_err() && place.exists() {
                fixture.remove(&place);
            }
            assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{} with {calls:?}", target.display());
        }
    }
}

#[test]
fn what_the_kernel_tells_of_itself_is_not_for_a_session() {
    let Some(fixture) = fixture() else { return };
    // Nothing is mounted over them: Portage's own proc mount would be refused then. The kernel lists the names of the user's keyrings to all his
    // processes, and `keyctl`, by which one gets at what they hold, is refused.
    let output = fixture.sh(
        "grep -v ' keyring ' /proc/keys | wc -l; cat /proc/kmsg /proc/kcore /proc/timer_list 2>/dev/null | head -c 1 | wc -c; \
         cut -d' ' -f1 /proc/kallsyms | sort -u | tr '\n' ' '; dmesg 2>/dev/null | wc -l; grep -c ' /proc/' /proc/self/mountinfo; echo end",
    );
    let text = output.text.replace("0000000000000000 ", "");
    assert_eq!(text, "0\n0\n0\n0\nend\n", "{output:?}");
}

/// A lock that the session's programs held would outlive us, and could be given away.
#[test]
fn a_session_keeps_no_lock_and_no_socket_of_ours() {
    let Some(fixture) = fixture() else { return };
    let (plan, place) = fixture.plan(&["sh", "-c", "exec 9</dev/null; for fd in /proc/$$/fd/*; do readlink $fd; done"]);
    let lock = std::fs::File::create(fixture.dir.path().join("lock")).unwrap();
    let (mut reader, mut options) = options(place, MountCalls::Newest);
    options.hold = vec![lock.as_fd().try_clone_to_owned().unwrap()];
    let mut running = fixture.launcher.session(&plan, options).unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(running.wait().unwrap(), Exit::Code(0));
    assert!(text.lines().all(|line| line == "/dev/null" || line.starts_with("pipe:")), "{text}");
}
