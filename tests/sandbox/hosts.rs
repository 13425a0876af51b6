//! The real program on hosts of other kinds, imitated by namespaces: root of a namespace, a masked `/proc`, settings that forbid.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Output};

use gentoomuch::internals::limits::{Exceeded, Limits};
use gentoomuch::internals::sandbox::{Error, Exit, MountCalls, Plan, Proc, Step};

use crate::fixture::{Fixture, fixture, id_map, options, skip};

/// Runs a shell script as root of a new user namespace, made as `how` says. `gentoomuch` there is the program, with a home of its own.
fn root_of(how: &[&str], script: &str) -> Option<(String, Output)> {
    if let Err(why) = id_map() {
        skip(&why);
        return None;
    }
    let home = tempfile::tempdir().unwrap();
    let script = format!("gentoomuch() {{ \"$PROGRAM\" \"$@\"; }}\n{script}");
    let output = Command::new("unshare")
        .args(how)
        .args(["sh", "-c", &script])
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .env("LC_ALL", "C")
        .env("HOME", home.path())
        .env("PROGRAM", env!("CARGO_BIN_EXE_gentoomuch"))
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            skip(&format!("no unshare(1): {error}"));
            return None;
        }
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("unshare: unrecognized option") || said.contains("unshare: could not parse") {
        skip(&said);
        return None;
    }
    let left: Vec<_> = walk(home.path());
    assert!(!left.iter().any(|name| name.contains("gentoomuch-doctor")), "{left:?}");
    Some((said, output))
}

fn walk(directory: &Path) -> Vec<String> {
    std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

fn report(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

const ROOT: [&str; 3] = ["--user", "--map-auto", "--map-root-user"];

/// As [`ROOT`], where mounts can be made.
const WITH_MOUNTS: [&str; 6] = ["--user", "--map-auto", "--map-root-user", "--mount", "--pid", "--fork"];

/// The parts of the report that depend on the namespace.
fn works(report: &serde_json::Value, rung: &str) -> bool {
    report["rungs"].as_array().unwrap().iter().any(|one| one["rung"] == rung && one["works"] == true)
}

fn check<'a>(report: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    report["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name}: {report}"))
}

#[test]
fn root_of_a_namespace_gives_its_own_ids() {
    let Some((said, output)) = root_of(&ROOT, "gentoomuch doctor --json") else { return };
    let report = report(&output);
    assert_eq!(report["ready"], true, "{report:#} {said}");
    assert!(report["isolation"].as_str().unwrap().starts_with("own-ids+nested-userns"), "{report:#}");
    assert!(works(&report, "own-ids") && works(&report, "shared-proc") && !works(&report, "subordinate-ids"), "{report:#}");
}

#[test]
fn one_id_is_too_few() {
    let Some((said, output)) = root_of(&["--user", "--map-root-user"], "gentoomuch store ls; echo $?; gentoomuch doctor --json")
    else {
        return;
    };
    assert!(said.contains("this user namespace has 1 ids, and Portage needs at least 251"), "{said}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (code, json) = text.split_once('\n').unwrap();
    assert_eq!(code, "5");
    let report: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(check(&report, "ids")["status"], "failed");
    // What needs ids could not be tried, and nobody is told to use another file system.
    for name in ["user namespace", "overlayfs", "session"] {
        assert_eq!(
            (&check(&report, name)["status"], &check(&report, name)["remedy"]),
            (&"not-tried".into(), &serde_json::Value::Null)
        );
    }
}

#[test]
fn a_capability_that_is_missing_for_maps_is_named() {
    let script =
        "setpriv --bounding-set=-setfcap \"$PROGRAM\" store ls; setpriv --bounding-set=-setuid,-setgid \"$PROGRAM\" store ls";
    let Some((said, _)) = root_of(&ROOT, script) else { return };
    let words = "error: root of this user namespace cannot give ids to a new one: this process lacks ";
    assert!(said.contains(&format!("{words}`CAP_SETFCAP`\n")), "{said}");
    assert!(said.contains(&format!("{words}`CAP_SETUID`, `CAP_SETGID`\n")), "{said}");
    assert!(said.contains("--cap-add SETFCAP"), "{said}");
}

#[test]
fn a_masked_proc_is_shared_and_that_is_said() {
    // As in a container: parts of its /proc are mounted over, so the kernel refuses a new one.
    let masked = "mount -t proc proc /proc && mount --bind /dev/null /proc/interrupts && ";
    let script = format!("{masked} gentoomuch doctor --json");
    let Some((said, output)) = root_of(&WITH_MOUNTS, &script) else { return };
    let report = report(&output);
    assert_eq!(report["ready"], true, "{report:#} {said}");
    assert!(report["isolation"].as_str().unwrap().starts_with("own-ids+shared-proc+nested-userns"), "{report:#}");
    assert_eq!(check(&report, "session")["status"], "warning");
    assert!(works(&report, "shared-proc") && !works(&report, "own-ids"), "{report:#}");
    // A demand fails rather than falls.
    let script = format!("{masked} gentoomuch store ls; echo $?; gentoomuch --isolation own-ids store ls; echo $?");
    let Some((said, output)) = root_of(&WITH_MOUNTS, &script) else { return };
    assert_eq!(String::from_utf8_lossy(&output.stdout), "the store is empty\n0\n5\n", "{said}");
    assert!(said.contains("caused by: the isolation is `shared-proc` here, and `own-ids` was demanded"), "{said}");
}

#[test]
fn a_demand_that_no_host_of_this_user_meets_is_refused() {
    let Some((said, output)) = root_of(&ROOT, "gentoomuch --isolation subordinate-ids store ls; echo $?") else { return };
    assert_eq!(String::from_utf8_lossy(&output.stdout), "5\n", "{said}");
    assert!(said.contains("`root` has no range of ids in `/etc/subuid`"), "{said}");
}

#[test]
fn settings_that_forbid_are_named_before_anything_is_kept() {
    let script = "echo 0 >/proc/sys/user/max_user_namespaces; gentoomuch store ls; echo $?; test -e \"$HOME/.local/share/gentoomuch/store/store.json\"; echo $?";
    let Some((said, output)) = root_of(&ROOT, script) else { return };
    assert_eq!(String::from_utf8_lossy(&output.stdout), "5\n1\n", "{said}");
    assert!(said.contains("error: cannot make a user namespace: `user.max_user_namespaces` is 0"), "{said}");
    assert!(!said.contains("ext4"), "{said}");
    let script = "mount -t proc proc /proc; echo 2 >/proc/sys/vm/memfd_noexec || exit 77; gentoomuch store ls";
    let Some((said, output)) = root_of(&WITH_MOUNTS, script) else { return };
    // Not every kernel has it for a PID namespace, and no test may set it for the whole machine.
    if output.status.code() == Some(77) {
        return eprintln!("skipped: the kernel has no `vm.memfd_noexec` for a PID namespace");
    }
    assert!(said.contains("hint: `vm.memfd_noexec` is 2, which forbids programs in memory"), "{said}");
}

#[test]
fn commands_that_need_sessions_are_refused_before_they_work_and_others_are_not() {
    let script = "gentoomuch store ls; echo 0 >/proc/sys/user/max_user_namespaces
        gentoomuch store ls; echo $?; gentoomuch export nothing; echo $?; gentoomuch doctor >/dev/null; echo $?";
    let Some((said, output)) = root_of(&ROOT, script) else { return };
    assert_eq!(String::from_utf8_lossy(&output.stdout), "the store is empty\nthe store is empty\n0\n5\n5\n", "{said}");
    assert!(said.starts_with("error: cannot make a user namespace: `user.max_user_namespaces` is 0\n"), "{said}");
}

#[test]
fn a_store_is_not_made_where_layers_cannot_lie() {
    // A container's own root is an overlay.
    let script = "mkdir \"$HOME\"/l \"$HOME\"/u \"$HOME\"/w \"$HOME\"/m && mount -t overlay overlay \
        -o userxattr,lowerdir=\"$HOME\"/l,upperdir=\"$HOME\"/u,workdir=\"$HOME\"/w \"$HOME\"/m || exit 77
        gentoomuch --data \"$HOME\"/m/data store ls; echo $?; ls \"$HOME\"/m/data/store; umount \"$HOME\"/m";
    let Some((said, output)) = root_of(&WITH_MOUNTS, script) else { return };
    if output.status.code() == Some(77) {
        return skip(&said);
    }
    assert_eq!(String::from_utf8_lossy(&output.stdout), "5\n", "{said}");
    assert!(said.contains("/m/data`, which is on overlay\n"), "{said}");
    assert!(said.contains("these would do: `/") && said.contains("a volume (`-v`) would do"), "{said}");
}

#[test]
fn a_parent_that_ignores_its_children_changes_nothing() {
    let Some((said, output)) = root_of(&ROOT, "trap '' CHLD; \"$PROGRAM\" store ls") else { return };
    assert_eq!(String::from_utf8_lossy(&output.stdout), "the store is empty\n", "{said}");
}

#[test]
fn a_changed_root_is_named() {
    let script = "mkdir \"$HOME\"/root && cd / && for entry in *; do
            if [ -L $entry ]; then cp -P $entry \"$HOME\"/root/; continue; fi
            [ -d $entry ] || continue
            mkdir \"$HOME\"/root/$entry && mount --rbind /$entry \"$HOME\"/root/$entry
        done
        exec chroot \"$HOME\"/root \"$PROGRAM\" store ls";
    let Some((said, _)) = root_of(&WITH_MOUNTS, script) else { return };
    assert!(said.starts_with("error: cannot make a user namespace: this process is in a changed root (chroot)\n"), "{said}");
}

/// A plan with another `/proc`.
fn with_proc(fixture: &Fixture, proc: Proc, script: &str) -> (Plan, std::path::PathBuf) {
    let (mut plan, place) = fixture.plan(&["sh", "-c", script]);
    for step in &mut plan.steps {
        if let Step::Proc { proc: kind, .. } = step {
            *kind = proc;
        }
    }
    (plan, place)
}

#[test]
fn a_shared_proc_shows_processes_that_nobody_can_touch() {
    let Some(fixture) = fixture() else { return };
    let me = std::process::id();
    let script = format!(
        "[ -d /proc/{me} ] && echo seen; kill -0 {me} 2>/dev/null || echo safe; cat /proc/{me}/environ >/dev/null 2>&1 || echo closed
        (echo x >/proc/self/comm) 2>/dev/null || echo read-only; mount -o remount,rw /proc 2>/dev/null || echo locked
        [ $(readlink /proc/self) -gt 0 ] && echo self
        for process in /proc/[0-9]*; do
            case $(tr '\\0' ' ' <$process/cmdline) in
                gentoomuch-helper*) helper=seen ;;
                gentoomuch-init*) init=seen ;;
                *) continue ;;
            esac
            for program in $process/exe $process/map_files/*; do head -c 1 $program >/dev/null && echo open; done
        done 2>/dev/null
        echo $helper $init"
    );
    let (plan, place) = with_proc(&fixture, Proc::Shared, &script);
    let output = fixture.run_plan(&plan, &place, MountCalls::Newest).unwrap();
    assert_eq!((output.text.as_str(), output.exit), ("seen\nsafe\nclosed\nread-only\nlocked\nself\nseen seen\n", Exit::Code(0)));
}

#[test]
fn limits_count_the_processes_of_the_session_alone_by_a_shared_proc() {
    let Some(fixture) = fixture() else { return };
    let run = |script: &str, limits| {
        let (plan, place) = with_proc(&fixture, Proc::Shared, script);
        let (_reader, mut options) = options(place.clone(), MountCalls::Newest);
        options.limits = limits;
        let ended = fixture.launcher.session(&plan, options).and_then(|mut running| running.wait());
        assert!(!place.exists());
        ended
    };
    let few = Limits { pids: Some(10), ..Limits::default() };
    assert_eq!(run("sleep 0.5", few).unwrap(), Exit::Code(0));
    let many = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do sleep 60 & done; wait";
    // Those in a PID namespace of the session's own count as well.
    for script in [many, &format!("unshare --pid --fork sh -c '{many}'")] {
        let error = run(script, few).unwrap_err();
        assert!(matches!(error, Error::Exceeded(Exceeded::Pids { limit: 10 })), "{script}: {error:?}");
    }
}

#[test]
fn a_read_only_proc_stays_so() {
    let Some(fixture) = fixture() else { return };
    let script = "[ -d /proc/1 ] && echo own; (echo x >/proc/self/comm) 2>/dev/null || echo read-only
        mount -o remount,rw /proc 2>/dev/null || echo locked; mount -t proc proc /mnt 2>/dev/null || echo only";
    let (plan, place) = with_proc(&fixture, Proc::NewReadOnly, script);
    let output = fixture.run_plan(&plan, &place, MountCalls::Newest).unwrap();
    assert_eq!(output.text, "own\nread-only\nlocked\nonly\n");
}

/// What the kernel says of a process's supplementary groups.
fn groups(process: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap().trim().to_owned()
}

#[test]
fn groups_open_the_way_to_the_data_and_are_not_the_session_s() {
    let Some(fixture) = fixture() else { return };
    if groups("self").is_empty() {
        return eprintln!("skipped: this user has no supplementary groups");
    }
    let (plan, place) = fixture.plan(&["sh", "-c", "grep Groups: /proc/self/status; sleep 60"]);
    let (mut running, mut reader) = fixture.start(&plan, &place, MountCalls::Newest).unwrap();
    assert_eq!(groups(&running.pid1().to_string()), groups("self"));
    let mut line = [0; 8];
    reader.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"Groups:\t");
    let mut rest = [0; 2];
    let length = reader.read(&mut rest).unwrap();
    assert_eq!(String::from_utf8_lossy(&rest[..length]).trim(), "");
    running.kill().unwrap();
    running.wait().unwrap();
}

/// NFS and FUSE keep a file that is removed while a process has it open, and answer EBUSY to whoever removes it again. So does the kernel
/// for what something is mounted on.
#[test]
fn what_is_removed_and_still_open_is_left_for_later() {
    let script = r#"
        mount -t proc proc /proc
        store=$HOME/.local/share/gentoomuch/store held=.nfs0000000000a1b2c300000001
        gentoomuch store ls >/dev/null; cd "$store/tmp" || exit
        mkdir -p area/deep/below other && : >"$held" && : >area/other
        : >area/lock && : >"area/deep/$held" && : >other/.fuse_hidden0000004200000001
        mount --bind /dev/null "area/deep/$held"
        for round in 1 2 3; do
            gentoomuch store ls || echo "fails with $?"
            find . -name '.[nf]*' -o -name other -o -name below | sed 's|^.*/||' | sort | tr '\n' ' '
            find . | wc -l >>"$HOME/sizes"
        done
        gentoomuch store verify >/dev/null || echo "verify fails with $?"
        sort -u "$HOME/sizes" | wc -l
        umount "$(find "$PWD" -name "$held" -path '*/deep/*')"
        find . -name '.[nf]*' -delete
        gentoomuch store ls && ls -A
    "#;
    let Some((said, output)) = root_of(&WITH_MOUNTS, script) else { return };
    let round = "the store is empty\n.fuse_hidden0000004200000001 .nfs0000000000a1b2c300000001 .nfs0000000000a1b2c300000001 other ";
    let wanted = format!("{round}{round}{round}1\nthe store is empty\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), wanted, "{said}");
}
