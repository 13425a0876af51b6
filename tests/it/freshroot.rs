//! Throw-away sessions as scripts use them: exit status, pipes, binds, network, what is kept and what is not.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::Stdio;

use crate::child;
use crate::place::{command_line, finish, packages_below, run};
use crate::shared::{Shared, shared};

/// Binary packages of `name` in the release pool and in that of throw-away sessions.
fn packages(shared: &Shared, name: &str) -> (usize, usize) {
    let files = packages_below(&shared.place.path("cache/binpkgs"), name);
    let throwaway = files.iter().filter(|file| file.to_str().unwrap().contains("binpkgs/throwaway/")).count();
    (files.len() - throwaway, throwaway)
}

#[test]
fn the_exit_status_is_the_command_s_own() {
    let Some(shared) = shared() else { return };
    for (script, code) in [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", 143), ("kill -KILL $$", 137), ("exit 130", 130)] {
        let ran = shared.place.run(&["freshroot", "--network", "none", "--", "sh", "-c", script]);
        assert_eq!((ran.status.code(), ran.stderr.as_str()), (Some(code), ""), "{script}: {ran}");
    }
}

#[test]
fn our_own_failures_are_told_from_the_command_s() {
    let Some(shared) = shared() else { return };
    let freshroot = |args: &[&str]| shared.place.run(&[&["freshroot"], args].concat());
    freshroot(&["--from", "nothing", "--", "true"]).fails(125).says("error: nothing is kept as `nothing`\n").says("hint: ");
    freshroot(&["--bind", "/no/such/place:/mnt", "--", "true"]).fails(125).says("the source does not exist");
    freshroot(&["--bind", "/etc:relative", "--", "true"]).fails(125).says("must be an absolute path");
    // As env(1), chroot(1) and every shell have it.
    freshroot(&["--", "no-such-command"]).fails(127).says("no command `no-such-command` in the session");
    freshroot(&["--", "/etc/passwd"]).fails(126).says("/etc/passwd");
}

#[test]
fn pipes_are_clean_in_both_directions() {
    let Some(shared) = shared() else { return };
    let bytes: Vec<u8> = (0..1_500_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut command = shared.place.command(&["freshroot", "--network", "none", "--", "cat"]);
    command.stdin(Stdio::piped());
    let mut running = child::spawn(&mut command);
    let mut stdin = running.child().stdin.take().unwrap();
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
    let ran = finish(command_line(&command), running);
    writer.join().unwrap();
    assert!(ran.status.success() && ran.stderr.is_empty(), "{ran}");
    assert!(ran.stdout == bytes, "{} bytes came back of {}", ran.stdout.len(), bytes.len());
}

#[test]
fn standard_error_is_kept_apart_and_a_reader_may_leave_early() {
    let Some(shared) = shared() else { return };
    let ran = shared.place.run(&["freshroot", "--network", "none", "--", "sh", "-c", "echo out; echo err >&2"]).ok();
    assert_eq!((ran.text().as_str(), ran.stderr.as_str()), ("out\n", "err\n"));
    let mut command = shared.place.command(&["freshroot", "--network", "none", "--", "yes"]);
    let mut running = child::spawn(&mut command);
    running.child().stdout.take().unwrap().read_exact(&mut [0; 100]).unwrap();
    // `yes` gets SIGPIPE, as anywhere else.
    finish(command_line(&command), running).fails(141);
}

#[test]
fn environment_and_descriptors_are_made_from_nothing() {
    let Some(shared) = shared() else { return };
    let mut command = shared.place.command(&["freshroot", "--network", "none", "--", "sh", "-c", "env; ls /proc/self/fd"]);
    command.env("SECRET_OF_THE_HOST", "1");
    let text = run(&mut command).ok().text();
    assert!(!text.contains("SECRET") && !text.contains("XDG_") && text.contains("HOME=/root\n"), "{text}");
    let descriptors: Vec<&str> = text.lines().filter(|line| line.parse::<u32>().is_ok()).collect();
    // The fourth is the directory that `ls` reads.
    assert_eq!(descriptors, ["0", "1", "2", "3"], "{text}");
}

#[test]
fn what_is_kept_can_be_started_from_and_what_is_not_is_gone() {
    let Some(shared) = shared() else { return };
    let name = format!("kept-{}", std::process::id());
    let freshroot = |args: &[&str]| shared.place.run(&[&["freshroot", "--network", "none"], args].concat());
    freshroot(&["--", "touch", "/root/lost"]).ok();
    freshroot(&["--", "test", "-e", "/root/lost"]).fails(1);
    // A command that failed has not done what is to be kept, unless somebody wants to look at that.
    let ran = freshroot(&["--keep", &name, "--", "false"]).fails(1);
    ran.says(&format!("nothing is kept as `{name}`, since the command failed; `--keep-failed` keeps it all the same"));
    freshroot(&["--from", &name, "--", "true"]).fails(125).says(&format!("nothing is kept as `{name}`"));
    let script = "echo of mine >/root/kept; rm /etc/gentoo-release; exit 5";
    freshroot(&["--keep", &name, "--keep-failed", "--", "sh", "-c", script]).fails(5).says("kept as");
    let text =
        freshroot(&["--from", &name, "--", "sh", "-c", "cat /root/kept; test -e /etc/gentoo-release || echo removed"]).ok().text();
    assert_eq!(text, "of mine\nremoved\n");
    freshroot(&["--keep", &name, "--", "true"]).fails(125).says("is already kept").says("hint: choose another name");
    freshroot(&["--", "test", "-e", "/etc/gentoo-release"]).ok();
    // A layer has what was changed, and nothing that only the session needed.
    let show = shared.place.run(&["store", "show", &format!("kept/{name}"), "--json"]).ok().text();
    let show: serde_json::Value = serde_json::from_str(&show).unwrap();
    let top = show["layers"].as_array().unwrap().last().unwrap().as_str().unwrap().to_owned();
    let layer = shared.place.store().join("layers").join(top).join("fs");
    let files = child::in_ids("cd \"$1\" && find . ! -type d | sort", &[&layer]);
    assert_eq!(String::from_utf8_lossy(&files), "./etc/gentoo-release\n./root/kept\n");
}

#[test]
fn directories_of_the_host_are_shown_read_only_or_not() {
    let Some(shared) = shared() else { return };
    let dir = shared.place.path("shown to the session");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("file"), "from the host\n").unwrap();
    let bind = |form: &str, script: &str| {
        let bind = format!("{}:/mnt/in here{form}", dir.display());
        shared.place.run(&["freshroot", "--network", "none", "--bind", &bind, "--", "sh", "-c", script])
    };
    assert_eq!(bind(":ro", "cat '/mnt/in here/file'").ok().text(), "from the host\n");
    bind(":ro", "echo x >'/mnt/in here/file'").fails(2).says("Read-only file system");
    bind(":ro", "mount -o remount,rw '/mnt/in here' 2>/dev/null; echo x >'/mnt/in here/file'").fails(2);
    bind("", "echo from inside >'/mnt/in here/new'").ok();
    assert_eq!(fs::read_to_string(dir.join("new")).unwrap(), "from inside\n");
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "from the host\n");
    // Owned by the user, whom root inside is.
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(dir.join("new")).unwrap());
    assert_eq!(owner, nix::unistd::getuid().as_raw());
    let write = shared.place.run(&["freshroot", "--", "touch", "/var/db/repos/gentoo/x"]);
    write.fails(1).says("Read-only file system");
}

#[test]
fn without_the_network_there_is_only_loopback() {
    let Some(shared) = shared() else { return };
    let devices = |network| {
        let ran =
            shared.place.run(&["freshroot", "--network", network, "--", "sed", "-n", "s/^ *\\([^ ]*\\):.*/\\1/p", "/proc/net/dev"]);
        ran.ok().text()
    };
    assert_eq!(devices("none"), "lo\n");
    let host = fs::read_to_string("/proc/self/net/dev").unwrap();
    assert_eq!(devices("host").lines().count(), host.lines().count() - 2);
    let resolver = shared.place.run(&["freshroot", "--network", "host", "--", "cat", "/etc/resolv.conf"]);
    if let Ok(host) = fs::read_to_string("/etc/resolv.conf") {
        assert_eq!(resolver.ok().text(), host);
    }
}

#[test]
fn a_plan_is_printed_and_nothing_runs() {
    let Some(shared) = shared() else { return };
    let marker = shared.place.path("shown to nobody");
    fs::create_dir_all(&marker).unwrap();
    let bind = format!("{}:/mnt/plan:ro", marker.display());
    let ran =
        shared.place.run(&["freshroot", "--print-plan", "--keep", "planned", "--bind", &bind, "--", "touch", "/mnt/plan/ran"]).ok();
    let plan = ran.text();
    for part in ["overlay", "/proc", "/mnt/plan", "/var/db/repos/gentoo", r#"run ["touch", "/mnt/plan/ran"] in /root"#] {
        assert!(plan.contains(part), "no {part:?} in {plan}");
    }
    assert!(!marker.join("ran").exists());
    let names = shared.place.list()["names"].clone();
    assert!(!names.to_string().contains("planned"), "nothing is kept of what did not run: {names}");
}

/// A finished image need have neither Portage nor a compiler, so that nobody can say which binary packages would fit.
#[test]
fn a_root_that_can_build_nothing_is_entered_all_the_same() {
    let Some(shared) = shared() else { return };
    let name = format!("bare-{}", std::process::id());
    for remove in ["rm -f /usr/bin/*gcc* /usr/bin/cc /usr/bin/*clang*", "rm -rf /usr/lib/python3*"] {
        let name = format!("{name}-{}", remove.len());
        shared.place.run(&["freshroot", "--keep", &name, "--", "sh", "-c", remove]).ok();
        let ran = shared.place.run(&["freshroot", "--from", &name, "--", "echo", "entered"]).ok();
        assert_eq!((ran.text().as_str(), ran.stderr.as_str()), ("entered\n", ""), "{remove}: {ran}");
        shared.place.run(&["shell", &format!("kept/{name}"), "--", "true"]).ok();
    }
}

#[test]
fn packages_built_in_it_stay_among_its_own_until_they_are_promoted() {
    let Some(shared) = shared() else { return };
    // From nothing, also in a place that was kept. Nobody else builds this package.
    for old in packages_below(&shared.place.path("cache/binpkgs"), "terms") {
        fs::remove_file(old).unwrap();
    }
    let emerge = ["emerge", "--quiet"];
    let freshroot = |args: &[&str], more: &[&str]| {
        shared.place.run(&[&["freshroot"], args, &["--"], &emerge, more, &["app-resolve/terms"]].concat()).ok()
    };
    freshroot(&[], &["--usepkg=n"]);
    assert_eq!(packages(&shared, "terms"), (0, 1));
    // The next session takes it as it is.
    let again = shared.place.run(&["freshroot", "--", "emerge", "app-resolve/terms"]).ok();
    assert!(again.text().contains("Emerging binary (1 of 1) app-resolve/terms"), "{again}");
    freshroot(&["--promote"], &["--usepkg=n"]);
    assert_eq!(packages(&shared, "terms").0, 1);
}
