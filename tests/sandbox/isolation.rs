//! What a session can see and do.

use std::os::fd::AsRawFd;

use gentoomuch::internals::sandbox::capabilities::kept_mask;
use gentoomuch::internals::sandbox::{Exit, MountCalls, Network, Step};

use crate::fixture::{fixture, skip};

#[test]
fn ids_are_those_of_the_whole_range() {
    let Some(fixture) = fixture() else { return };
    let script = "id -u; id -g; id -G; cat /proc/self/uid_map; touch /a /b; chown 250:250 /a; chown 65534:65534 /b; \
                  chmod 4755 /a; stat -c '%u:%g %a' /a /b; cat /proc/self/setgroups";
    let output = fixture.sh(script);
    let words: Vec<String> = output.text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(&words[..4], ["0", "0", "0", "0 0 1"], "{output:?}");
    assert!(words[4].starts_with("1 1 "), "{output:?}");
    assert_eq!(&words[words.len() - 3..], ["250:250 4755", "65534:65534 644", "allow"], "{output:?}");
    assert_eq!(output.exit, Exit::Code(0));
}

#[test]
fn capabilities_are_the_documented_ones() {
    let Some(fixture) = fixture() else { return };
    let output = fixture.run(&["grep", "-E", "^(Cap|NoNewPrivs|Seccomp:)", "/proc/self/status"]);
    let kept = format!("{:016x}", kept_mask());
    let none = format!("{:016x}", 0);
    for (name, wanted) in [
        ("CapInh:", &none),
        ("CapPrm:", &kept),
        ("CapEff:", &kept),
        ("CapBnd:", &kept),
        ("CapAmb:", &none),
        ("NoNewPrivs:", &"1".to_owned()),
        ("Seccomp:", &"2".to_owned()),
    ] {
        let line = output.text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {output:?}"));
        assert_eq!(line.split_whitespace().nth(1), Some(wanted.as_str()), "{name}");
    }
}

#[test]
fn the_filter_answers_for_every_way_into_the_kernel() {
    let Some(fixture) = fixture() else { return };
    let Some(output) = fixture.probe("calls", |_| {}) else { return };
    for (name, wanted) in [
        ("keyctl", "ENOSYS"),
        ("add_key", "ENOSYS"),
        ("io_uring_setup", "ENOSYS"),
        ("userfaultfd", "ENOSYS"),
        ("bpf", "EPERM"),
        ("perf_event_open", "EACCES"),
        // Without the filter the kernel says ENOSYS and EINVAL to the next two.
        ("lookup_dcookie", "EPERM"),
        ("quotactl", "EPERM"),
        ("reboot", "EPERM"),
        // And ENOTTY to these, since they are asked of a pipe.
        ("tiocsti", "EPERM"),
        ("tiocsti-high", "EPERM"),
        ("tioclinux", "EPERM"),
        ("tiocgwinsz", "ENOTTY"),
        ("getpid", "ok"),
    ] {
        assert_eq!(output.value(name), Some(wanted), "{name} in {output:?}");
    }
    if cfg!(target_arch = "x86_64") {
        assert_eq!(output.value("x32-lookup_dcookie"), Some("EPERM"), "{output:?}");
        assert_eq!(output.value("x32-tiocsti"), Some("EPERM"), "{output:?}");
        if output.value("i386-none").is_some() {
            skip("this kernel runs no 32-bit programs");
        } else {
            assert_eq!(output.value("i386-getpid"), Some("ok"), "{output:?}");
            assert_eq!(output.value("i386-lookup_dcookie"), Some("EPERM"), "{output:?}");
            assert_eq!(output.value("i386-keyctl"), Some("ENOSYS"), "{output:?}");
            assert_eq!(output.value("i386-tiocsti"), Some("EPERM"), "{output:?}");
        }
    }
}

#[test]
fn sockets_and_namespaces_are_those_that_a_build_needs() {
    let Some(fixture) = fixture() else { return };
    for network in [Network::None, Network::Host] {
        let Some(output) = fixture.probe("sockets", |plan| plan.network = network) else { return };
        for (names, wanted) in [
            ("unix inet inet6 route uevent pair-unix", "ok"),
            ("vsock netfilter generic usersock sock-diag audit xfrm packet alg tipc", "EAFNOSUPPORT"),
            ("pair-vsock vsock-high netfilter-high", "EAFNOSUPPORT"),
            ("unshare-cgroup clone-cgroup setns-cgroup", "EPERM"),
            ("unshare-user clone-user", "ENOSPC"),
            ("clone3", "ENOSYS"),
        ] {
            for name in names.split(' ') {
                assert_eq!(output.value(name), Some(wanted), "{name} with network {network} in {output:?}");
            }
        }
        if cfg!(target_arch = "x86_64") {
            // Refused before the kernel says that it has no x32.
            assert_eq!(output.value("x32-vsock"), Some("EAFNOSUPPORT"), "{output:?}");
            assert_eq!(output.value("x32-unshare-cgroup"), Some("EPERM"), "{output:?}");
            if output.value("i386-getpid").is_none() {
                skip("this kernel runs no 32-bit programs");
                continue;
            }
            for (name, wanted) in [
                ("i386-socketcall", "ENOSYS"),
                ("i386-vsock", "EAFNOSUPPORT"),
                ("i386-unix", "ok"),
                ("i386-unshare-cgroup", "EPERM"),
                ("i386-unshare-user", "ENOSPC"),
            ] {
                assert_eq!(output.value(name), Some(wanted), "{name} in {output:?}");
            }
        }
    }
}

#[test]
fn nobody_raises_the_limit_of_user_namespaces_again() {
    let Some(fixture) = fixture() else { return };
    let output = fixture.sh(
        "limit=/proc/sys/user/max_user_namespaces; cat $limit; echo 5 2>&1 > $limit || chmod 666 $limit 2>&1 || mount -o remount,rw /proc 2>&1 || \
         unshare --pid --fork --mount --mount-proc sh -c \"echo 5 > $limit\" 2>&1; cat $limit; unshare --user true 2>&1; echo end",
    );
    assert_eq!(output.text.lines().next(), Some("0"), "{output:?}");
    assert!(
        output.text.contains("\n0\n") && output.text.contains("No space left on device") && output.text.ends_with("end\n"),
        "{output:?}"
    );
}

#[test]
fn the_network_is_loopback_alone_and_it_is_up() {
    let Some(fixture) = fixture() else { return };
    let output = fixture.sh("ls /sys/class/net; cat /sys/class/net/lo/flags; grep -c : /proc/net/dev");
    assert_eq!(output.text, "lo\n0x9\n1\n");
}

#[test]
fn the_hosts_network_is_there_when_asked_for() {
    let Some(fixture) = fixture() else { return };
    let (mut plan, place) = fixture.plan(&["sh", "-c", "readlink /proc/self/ns/net; touch /sys/x 2>&1; cat /proc/self/mountinfo"]);
    plan.network = Network::Host;
    for calls in [MountCalls::Newest, MountCalls::Oldest] {
        let place = if calls == MountCalls::Newest { place.clone() } else { fixture.plan(&[]).1 };
        let mut plan = crate::fixture::plan(&place, &["sh", "-c", &plan.command.argv[2]]);
        plan.network = Network::Host;
        let output = fixture.run_plan(&plan, &place, calls).unwrap();
        let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
        assert_eq!(output.text.lines().next(), ours.to_str());
        // All of `/sys` is read-only, also what is mounted below it.
        let sys: Vec<&str> = output.text.lines().filter(|line| line.contains(" /sys")).collect();
        assert!(!sys.is_empty(), "{output:?}");
        for mount in sys {
            let options = mount.split(' ').nth(5).unwrap();
            assert!(options.split(',').any(|option| option == "ro"), "{mount} with {calls:?}");
        }
    }
}

#[test]
fn no_descriptor_and_no_variable_comes_in() {
    let Some(fixture) = fixture() else { return };
    // One that a careless parent left open over exec.
    let stray = std::fs::File::open("/dev/null").unwrap();
    let stray = rustix::io::fcntl_dupfd_cloexec(&stray, 50).unwrap();
    rustix::io::fcntl_setfd(&stray, rustix::io::FdFlags::empty()).unwrap();
    let output = fixture.sh("ls /proc/$$/fd; env; ulimit -n >/dev/null; umask; pwd; hostname");
    assert!(stray.as_raw_fd() >= 50);
    let lines: Vec<&str> = output.text.lines().collect();
    let descriptors: Vec<&&str> = lines.iter().take_while(|line| line.parse::<u32>().is_ok()).collect();
    // The shell's own copies of its script's descriptors count from 10.
    assert!(descriptors.iter().all(|fd| fd.parse::<u32>().unwrap() < 3), "{output:?}");
    let mut env: Vec<&str> = lines.iter().filter(|line| line.contains('=')).copied().collect();
    env.sort_unstable();
    env.retain(|line| {
        !line.starts_with("PWD=") && !line.starts_with("OLDPWD=") && !line.starts_with("_=") && !line.starts_with("SHLVL=")
    });
    assert_eq!(env, ["LC_ALL=C", "PATH=/usr/bin:/usr/sbin:/bin:/sbin"]);
    assert_eq!(&lines[lines.len() - 3..], ["0022", "/", "testhost"]);
}

#[test]
fn processes_are_our_own_and_pid_1_is_closed() {
    let Some(fixture) = fixture() else { return };
    let output = fixture.sh(
        "echo $$; cat /proc/1/cmdline | tr '\\0' '\\n'; echo; readlink /proc/1/exe; ls /proc/1/fd; cat /proc/1/maps; kill -9 1; \
         ls -d /proc/[0-9]* | wc -l; readlink /proc/1/root; echo end",
    );
    let first: u32 = output.text.lines().next().unwrap().parse().unwrap();
    assert!(first < 10, "{output:?}");
    assert!(output.text.contains("gentoomuch-init"), "{output:?}");
    assert!(!output.text.contains("memfd"), "{output:?}");
    assert!(output.text.ends_with("end\n"), "PID 1 survives what the session sends: {output:?}");
    assert!(output.text.contains("Permission denied"), "{output:?}");
}

/// Who counts what a session uses is not to be held up or blinded by it. The first user of a session is the one who PID 1 was.
#[test]
fn nobody_changes_what_pid_1_may_have() {
    let Some(fixture) = fixture() else { return };
    let Some(output) = fixture.probe("watcher", |_| {}) else { return };
    for call in [
        "prlimit",
        "setpriority",
        "setpriority-user",
        "ioprio_set",
        "sched_setaffinity",
        "sched_setscheduler",
        "kill-stop",
        "move_pages",
    ] {
        let wanted = if call == "setpriority-user" { "ok" } else { "EPERM" };
        assert_eq!(output.value(call), Some(wanted), "{call} in {output:?}");
    }
    assert_eq!(output.value("nice-of-1"), Some("same"), "{output:?}");
    assert_eq!((output.value("own-prlimit"), output.value("own-setrlimit")), (Some("ok"), Some("ok")), "{output:?}");
}

#[test]
fn portage_can_make_its_own_sandboxes() {
    let Some(fixture) = fixture() else { return };
    let output = fixture.sh(
        "unshare --pid --fork --mount --net --ipc --mount-proc sh -c 'echo $$; ls -d /proc/[0-9]* | wc -l' && \
         mkdir /mnt && unshare --mount sh -c 'mount -t tmpfs none /mnt && mkdir /mnt/l /mnt/u /mnt/w /mnt/m && echo x > /mnt/l/f && \
         mount -t overlay -o userxattr,lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w none /mnt/m && cat /mnt/m/f && \
         mkdir /mnt/b && mount --bind /usr /mnt/b && ls -d /mnt/b/bin && mount -o bind,ro /mnt/u /mnt/u && chroot / true && echo done'",
    );
    // sh, ls and wc at most; what counts is that it is a small number of its own.
    let lines: Vec<&str> = output.text.lines().collect();
    assert_eq!(lines.first(), Some(&"1"), "{output:?}");
    assert!(lines[1].parse::<u32>().unwrap() <= 3, "{output:?}");
    assert_eq!(&lines[2..], ["x", "/mnt/b/bin", "done"], "{output:?}");
    let Some(output) = fixture.probe("network", |_| {}) else { return };
    assert_eq!((output.value("unshare-net"), output.value("lo-up")), (Some("ok"), Some("ok")));
    let Some(output) = fixture.probe("capability", |_| {}) else { return };
    assert_eq!(output.value("setcap"), Some("ok"));
}

#[test]
fn devices_work_and_no_other_is_there() {
    let Some(fixture) = fixture() else { return };
    let output = fixture.sh(
        "ls /dev | tr '\\n' ' '; echo; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; echo x > /dev/null; \
         cat /etc/passwd > /dev/full; stat -c %a /dev/shm /tmp /run; cat <<END\n$(readlink /dev/fd /dev/stdin /dev/ptmx | tr '\\n' ' ')\nEND\n\
         mknod /x b 8 0; echo y > /dev/shm/f && cat /dev/shm/f",
    );
    let devices = output.text.lines().next().unwrap();
    assert_eq!(devices, "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ", "{output:?}");
    for wanted in
        ["\n3\n3\n", "No space left on device", "1777\n1777\n755\n", "/proc/self/fd /proc/self/fd/0 pts/ptmx ", "mknod:", "\ny\n"]
    {
        assert!(output.text.contains(wanted), "{wanted:?} in {output:?}");
    }
}

#[test]
fn a_bound_file_keeps_its_hosts_owner_away() {
    let Some(fixture) = fixture() else { return };
    let file = fixture.dir.path().join("file");
    std::fs::write(&file, "host").unwrap();
    let (mut plan, place) =
        fixture.plan(&["sh", "-c", "cat /deep/er/file; echo session > /deep/er/file; echo new > /deep/rw; cat /deep/rw"]);
    let last = plan.steps.len() - 1;
    plan.steps.insert(last, Step::Bind { source: file.clone(), target: "/deep/er/file".into(), read_only: true });
    let output = fixture.run_plan(&plan, &place, MountCalls::Newest).unwrap();
    assert!(output.text.starts_with("host") && output.text.contains("Read-only file system"), "{output:?}");
    assert!(output.text.ends_with("new\n"), "{output:?}");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "host");
}
