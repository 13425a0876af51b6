//! All that a hostile program in a session can see and touch, as an exact list: whoever adds something has to change the snapshots.
//!
//! Numbers that differ from machine to machine are shown as `N`.

use gentoomuch::internals::sandbox::{MountCalls, Network};

use crate::fixture::{fixture, skip};

const LOOK: &str = r#"
section() { echo; echo "== $1"; }
section "ids, capabilities, filters"
grep -E '^(Uid|Gid|Groups|NoNewPrivs|Seccomp|Cap)[A-Za-z]*:' /proc/self/status | tr -s '\t ' ' ' | sed 's/ $//'
section "id maps: first line, and whether setgroups may be called"
head -n 1 /proc/self/uid_map | tr -s ' '; head -n 1 /proc/self/gid_map | tr -s ' '; cat /proc/self/setgroups
section "namespaces of the host"
for link in $HOST; do [ "$(readlink /proc/self/ns/${link%%:*})" = "$link" ] && echo ${link%%:*}; done
section "mounts: point, type, options"
mounts() { sed -E 's/^[^ ]+ [^ ]+ [^ ]+ [^ ]+ ([^ ]+) ([^ ]+) .*- ([^ ]+) .*/\1 \3 \2/' /proc/self/mountinfo; }
mounts | grep -v -E '^(/sys/|/(bin|sbin|lib[a-z0-9]*) )' | sort
section "what can be written below /sys"
find /sys -maxdepth 3 -writable -type f 2>/dev/null | while read file; do ( : >> $file ) 2>/dev/null && echo $file; done
section "/dev"
(cd /dev && find . -printf '%y %m %p %l\n' | sed 's/ $//' | sort -k 3)
section "files of the root"
find / -maxdepth 1 | grep -v -E '^/(bin|sbin|lib[a-z0-9]*)$' | sort
section "descriptors"
for fd in 0 1 2 3 4 5 6 7 8 9 10 11 12; do [ -e /proc/$$/fd/$fd ] && readlink /proc/$$/fd/$fd; done
section "environment"
env | grep -v -E '^(_|PWD|OLDPWD|SHLVL|HOST|DEVICES)=' | sort
section "working directory, umask, host name, controlling terminal"
pwd; umask; hostname; (: < /dev/tty) 2>&1 | sed 's/.*: //'
section "processes of ours"
grep -l -a '^gentoomuch-' /proc/[0-9]*/cmdline
section "PID 1: what may be read of it (of the descriptors, the numbers)"
for file in environ maps mem exe cwd root fd ns/user io stack auxv; do ls /proc/1/$file/ >/dev/null 2>&1 || head -c 1 /proc/1/$file >/dev/null 2>&1 && echo $file; done
section "kernel files that show something"
for file in kcore kmsg timer_list kpageflags kpagecount vmallocinfo slabinfo sched_debug sysrq-trigger mtrr; do
  head -c 1 /proc/$file 2>/dev/null | grep -q . && echo $file
done
grep -v ' keyring ' /proc/keys; grep -v -E '^0+ ' /proc/kallsyms | head -n 1; grep -v -E '^ *0+-0+ ' /proc/iomem | head -n 1
section "settings below /proc/sys that can be written, besides those of its own IPC and PID namespaces"
find /proc/sys -type f 2>/dev/null | sort | while read file; do ( : >> $file ) 2>/dev/null && echo $file; done | grep -v -E '/sys/(net|fs/mqueue)/|/sys/kernel/(auto_msgmni|msg(max|mn[bi](_next_id)?)|(sem|shm|msg)_next_id|sem|shm(_rmid_forced|all|max|mni)|ns_last_pid|pid_max)$'
section "settings of the network that can be written"
find /proc/sys/net -type f 2>/dev/null | while read file; do ( : >> $file ) 2>/dev/null && echo $file; done | wc -l
section "set-id and file capabilities"
cp /usr/bin/id /set-id; chown 250:250 /set-id; chmod 6755 /set-id; /set-id -u; /set-id -g
section "network devices"
ls /sys/class/net | sort | head -n "$DEVICES"
section "what can be made outside of the root, of /proc, /dev, /tmp and /run"
mounts | cut -d' ' -f1 | grep -v -E '^/((proc|sys|dev|tmp|run)(/|$)|$)' | while read point; do
  ( : >> "$point/new" ) 2>/dev/null && echo "in $point"; ( : >> "$point" ) 2>/dev/null && echo "$point"
done
section "and with a mount namespace of its own"
unshare --mount sh -c 'for point in /usr /etc/passwd /sys; do mount -o remount,rw,bind $point 2>/dev/null && echo "$point can be made writable"; done
for point in /usr /etc/passwd /sys /proc /dev; do umount -l $point 2>/dev/null && echo "$point can be taken away"; done'
section "device nodes"
mknod /node c 1 3 2>&1 | sed 's/.*: //'; mknod /node b 8 0 2>&1 | sed 's/.*: //'
section "cgroups"
(mkdir /cgroup; mount -t cgroup2 none /cgroup) 2>&1 | head -n 1 | sed 's/.*: //'; cut -d: -f3 /proc/self/cgroup | tail -n 1
echo
"#;

fn look(network: Network) -> Option<String> {
    let fixture = fixture()?;
    let (mut plan, place) = fixture.plan(&["sh", "-c", LOOK]);
    plan.network = network;
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let links = kinds.iter().filter_map(|kind| std::fs::read_link(format!("/proc/self/ns/{kind}")).ok());
    let links: Vec<String> = links.map(|link| link.display().to_string()).collect();
    plan.command.env.push(("HOST".to_owned(), links.join(" ")));
    // The devices of this host are not ours to list.
    plan.command.env.push(("DEVICES".to_owned(), if network == Network::None { "9" } else { "0" }.to_owned()));
    let output = fixture.run_plan(&plan, &place, MountCalls::Newest).unwrap();
    let shown = output.text.lines().map(redacted).collect::<Vec<_>>().join("\n");
    let probe = fixture.probe("sockets", |plan| plan.network = network)?;
    // What the other ways into the kernel answer differs with the kernel; `isolation.rs` has them.
    let sockets: Vec<&str> = probe.text.lines().filter(|line| !line.starts_with("i386") && !line.starts_with("x32")).collect();
    let (plan, place) = fixture.probe_plan(&["reach", "gentoomuch-test-nobody"], |plan| plan.network = network)?;
    let reach = fixture.run_plan(&plan, &place, MountCalls::Newest).unwrap().text;
    Some(format!(
        "{}\n\n== sockets and namespaces\n{}\n\n== sockets and processes outside\n{reach}",
        shown.trim(),
        sockets.join("\n")
    ))
}

/// Pipes, and the options of mounts that come from the host's own.
fn redacted(line: &str) -> String {
    if let Some((kind, _)) = line.split_once(":[") {
        return format!("{kind}:[N]");
    }
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        // The host decides on these for what it lends us.
        [point, kind, options] if line.starts_with('/') && options.contains("time") => {
            let host = ["/usr", "/etc/", "/bin", "/lib", "/sbin"].iter().any(|own| point.starts_with(own));
            let options: Vec<&str> =
                options.split(',').filter(|option| !option.ends_with("atime")).filter(|option| !host || *option == "ro").collect();
            let kind = if host || (point.starts_with("/dev/") && !point.starts_with("/dev/pts") && kind == "devtmpfs") {
                "host"
            } else {
                kind
            };
            let kind = if point.starts_with("/dev/") && kind == "tmpfs" && point != "/dev/shm" { "host" } else { kind };
            let options = if kind == "host" && point.starts_with("/dev/") { String::new() } else { options.join(",") };
            format!("{point} {kind} {options}").trim().to_owned()
        }
        _ => line.to_owned(),
    }
}

#[test]
fn what_a_session_sees_and_touches() {
    let Some(text) = look(Network::None) else { return };
    insta::assert_snapshot!(text);
}

#[test]
fn what_a_session_with_the_hosts_network_sees_and_touches() {
    if gentoomuch::internals::sys::landlock::abi().is_none_or(|abi| abi < gentoomuch::internals::sys::landlock::SCOPES_ABI) {
        skip("this kernel has no Landlock scopes");
        return;
    }
    let Some(text) = look(Network::Host) else { return };
    insta::assert_snapshot!(text);
}
