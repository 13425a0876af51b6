//! Ctrl-C while a package compiles: the session is kept, and repeating the command goes on where it stopped.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::child::{self, Known};
use crate::place::{Place, command_line, finish};
use crate::shared::{BULK, User, shared, small_world};

/// Portage takes user patches into account when it picks binary packages: with one of its own, no test installs what another has built.
const PATCH: &str = "--- /dev/null\n+++ b/NAME\n@@ -0,0 +1 @@\n+built for one test\n";

/// The shared place with a configuration of its own, in which app-misc/slow takes `secs` and is not yet built.
pub(crate) fn slow(name: &str, secs: u32) -> Option<(User, Place)> {
    let shared = shared()?;
    let config = shared.config(name);
    // For these two alone: all other packages would be made from something else, too.
    let settings = format!("SLOW_UNITS=\"2\"\nSLOW_SECONDS=\"{secs}\"\nMANY_FILES=\"3\"\n");
    let local = config.join("portage.locals/slow");
    fs::create_dir_all(local.join("env")).unwrap();
    fs::write(local.join("env/slow"), settings).unwrap();
    fs::write(local.join("package.env"), "app-misc/slow slow\napp-misc/manyfiles slow\n").unwrap();
    let patches = config.join("user.patches/own/app-misc/slow");
    fs::create_dir_all(&patches).unwrap();
    let patch_name = name.replace(' ', "-");
    fs::write(patches.join(format!("{patch_name}.patch")), PATCH.replace("NAME", &patch_name)).unwrap();
    let place = shared.place.with_config(config);
    Some((shared, place))
}

/// Log directories whose names begin with `what`.
fn logs(place: &Place, what: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(place.path("data/logs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(what))
        .collect();
    found.sort_by_key(|path| fs::metadata(path).unwrap().created().unwrap());
    found
}

/// All that emerge said in the logs of one run.
fn emerge_log(dir: &Path) -> String {
    fs::read_to_string(dir.join("emerge.log")).unwrap_or_default()
}

/// Waits until the newest of the logs that were not there `before` says `words`.
fn wait_for(place: &Place, what: &str, before: &[PathBuf], words: &str, running: &mut Known) -> PathBuf {
    let since = Instant::now();
    loop {
        if let Some(log) = logs(place, what).into_iter().rfind(|log| !before.contains(log))
            && emerge_log(&log).contains(words)
        {
            return log;
        }
        let ended = running.child().try_wait().unwrap();
        assert!(ended.is_none() && since.elapsed() < Duration::from_mins(4), "{words:?} never came; ended: {ended:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn interrupt(running: &Known) {
    kill(Pid::from_raw(i32::try_from(running.id()).unwrap()), Signal::SIGINT).unwrap();
}

/// Whether an interruption has left the session in which `subject` is made for being resumed. Other tests have theirs in the same store.
fn is_suspended(place: &Place, subject: &str) -> bool {
    place.session_of(subject).is_some_and(|session| session["status"]["note"] == "interrupted")
}

const SLOW_STARTED: &str = "app-misc/slow-1.0::gentoo";

/// A stage4 of a package that is quick, and of one that takes its time.
pub(crate) fn define_slow(place: &Place, name: &str) {
    for (dir, files) in [
        (
            format!("stage4.defines/{name}"),
            [("profile", "demo"), ("stage3", "slow"), ("packages", "app-misc/manyfiles\napp-misc/slow"), ("removes", BULK)]
                .as_slice(),
        ),
        ("stage3.defines/slow".to_owned(), [("cpu", "generic-amd64"), ("portage.local", "slow")].as_slice()),
    ] {
        let dir = place.config.join(dir);
        fs::create_dir_all(&dir).unwrap();
        for (file, text) in files {
            fs::write(dir.join(file), format!("{text}\n")).unwrap();
        }
    }
}

#[test]
fn an_interrupted_stage_build_goes_on_where_it_stopped() {
    let Some((_shared, place)) = slow("slow stage", 12) else { return };
    let name = format!("slow{}", std::process::id());
    define_slow(&place, &name);

    let log_name = format!("stage-{name}-");
    let args = ["stage", "build", &name, "--no-sign", "--format", "tar.zst", "--jobs", "1"];
    let subject = format!("stage4/{name}");
    let mut command = place.command(&args);
    let mut running = child::spawn(&mut command);
    let emerging = format!(">>> Emerging (2 of 2) {SLOW_STARTED}");
    let first = wait_for(&place, &log_name, &[], &emerging, &mut running);
    std::thread::sleep(Duration::from_secs(1));
    interrupt(&running);
    let ran =
        finish(command_line(&command), running).fails(130).says("error: interrupted\n").says("hint: repeat the command to go on");
    assert!(!emerge_log(&first).contains(">>> Installing (2 of 2)"), "it waited for the package: {}", emerge_log(&first));
    assert!(ran.stderr.contains("interrupted: waiting for the build to stop"), "{ran}");
    assert!(is_suspended(&place, &subject));
    child::assert_no_strangers();

    let again = place.run(&args).ok().says("* resuming stage4");
    let second = logs(&place, &log_name).into_iter().find(|log| *log != first).unwrap();
    let (first, second) = (emerge_log(&first), emerge_log(&second));
    assert!(first.contains("(1 of 2) app-misc/manyfiles") && second.contains("app-misc/slow"), "{second}");
    assert!(!second.contains(") app-misc/manyfiles"), "built twice: {second}");
    assert!(!is_suspended(&place, &subject), "{again}");
    let metadata = fs::read_to_string(format!("{}.json", again.value("artifact"))).unwrap();
    assert!(metadata.contains("manyfiles") && metadata.contains("slow"), "both are in it");
}

#[test]
#[ignore = "long: a package compiles as long as two other commands come and go"]
fn an_interrupted_bootstrap_goes_on_and_others_wait_for_its_profile_or_not() {
    // Long enough for two other commands to come and go while it compiles, on a busy machine as well.
    let Some((shared, place)) = slow("slow builder", 40) else { return };
    small_world(&place.config, "app-misc/greeter");
    fs::write(place.config.join("package.sets/gentoomuch/builder"), "app-misc/slow\n").unwrap();
    fs::write(place.config.join("stage3.defines/gentoomuch/builder/portage.local"), "gentoomuch/builder\nslow\n").unwrap();
    let profile = format!("slow{}", std::process::id());
    let args = ["bootstrap", &profile, shared.testbed.stage3.to_str().unwrap()];
    let mut command = place.command(&args);
    let mut running = child::spawn(&mut command);
    let log_name = format!("{profile}-gentoomuch-builder");
    wait_for(&place, &log_name, &[], &format!("(1 of 1) {SLOW_STARTED}"), &mut running);

    // A second one says who holds the profile, and waits or does not.
    let refused = place.run(&[&args[..], &["--no-wait"]].concat()).fails(1);
    assert!(running.child().try_wait().unwrap().is_none(), "it waited: {refused}");
    let pid = running.id().to_string();
    assert!(refused.stderr.contains(&pid) && refused.stderr.contains("leave out `--no-wait`"), "{pid} is not named in {refused}");
    let mut waiting = place.command(&args);
    let mut second = child::spawn(&mut waiting);
    let mut said = String::new();
    let mut stderr = std::io::BufReader::new(second.child().stderr.take().unwrap());
    while !said.contains("waiting: ") {
        assert_ne!(std::io::BufRead::read_line(&mut stderr, &mut said).unwrap(), 0, "{said}");
    }
    assert!(said.contains(&pid), "{said}");
    interrupt(&second);
    finish(command_line(&waiting), second).fails(130);

    interrupt(&running);
    finish(command_line(&command), running).fails(130).says("hint: repeat the command to go on where it stopped");
    let subject = format!("profile/{profile}/gentoomuch/builder");
    assert!(is_suspended(&place, &subject));
    // A store with a suspended session is in order.
    place.run(&["store", "verify"]).ok();
    let ls = place.run(&["store", "ls"]).ok().text();
    assert!(ls.contains("suspended: interrupted"), "{ls}");

    let before = logs(&place, &log_name);
    place.run(&args).ok().says("* resuming gentoomuch/builder");
    let resumed = logs(&place, &log_name).into_iter().find(|log| !before.contains(log)).unwrap();
    let resumed = emerge_log(&resumed);
    assert!(resumed.contains(SLOW_STARTED) && !resumed.contains("app-misc/greeter"), "world was built twice: {resumed}");
    assert!(!is_suspended(&place, &subject));
    let hello = place.run(&["freshroot", "--profile", &profile, "--network", "none", "--", "slow"]);
    assert_ne!(hello.status.code(), Some(127), "{hello}");
}

#[test]
#[ignore = "long: the same for an update"]
fn an_interrupted_profile_update_moves_nothing_and_goes_on() {
    let Some((shared, place)) = slow("slow update", 12) else { return };
    let profile = format!("slow-update{}", std::process::id());
    place.run(&["bootstrap", &profile, shared.testbed.stage3.to_str().unwrap()]).ok();
    let builder = || {
        let shown = place.run(&["profile", "show", "--json", &profile]).ok().text();
        serde_json::from_str::<serde_json::Value>(&shown).unwrap()["history"].clone()
    };
    let before = builder();
    fs::write(place.config.join("stage3.defines/gentoomuch/builder/portage.local"), "gentoomuch/builder\nslow\n").unwrap();
    fs::write(place.config.join("package.sets/gentoomuch/builder"), "app-misc/manyfiles\napp-misc/slow\n").unwrap();
    let args = ["profile", "update", &profile, "--jobs", "1"];
    let mut command = place.command(&args);
    let mut running = child::spawn(&mut command);
    let log_name = format!("{profile}-update");
    let first = wait_for(&place, &log_name, &[], &format!(">>> Emerging (2 of 2) {SLOW_STARTED}"), &mut running);
    interrupt(&running);
    finish(command_line(&command), running).fails(130).says("hint: repeat the command to go on where it stopped");
    assert_eq!(builder(), before);
    child::assert_no_strangers();

    place.run(&args).ok().says("* resuming the update of gentoomuch/builder");
    let second = logs(&place, &log_name).into_iter().rfind(|log| *log != first).unwrap();
    assert!(!emerge_log(&second).contains(") app-misc/manyfiles"), "built twice: {}", emerge_log(&second));
    assert_eq!(builder().as_array().unwrap().len(), before.as_array().unwrap().len() + 1);
    place.run(&["freshroot", "--profile", &profile, "--network", "none", "--", "slow"]).ok();
}

/// The kernel's way with whoever is in its way when memory is short.
#[test]
fn a_build_whose_first_process_or_helper_is_killed_goes_on() {
    let Some((_shared, place)) = slow("killed stage", 12) else { return };
    let name = format!("killed{}", std::process::id());
    define_slow(&place, &name);
    let subject = format!("stage4/{name}");
    let own = || place.session_of(&subject).unwrap_or_else(|| panic!("no session of {subject}"));

    let log_name = format!("stage-{name}-");
    let args = ["stage", "build", &name, "--no-export", "--jobs", "1"];
    let mut before = Vec::new();
    for (helper, words) in
        [(false, "error: the session's PID 1 died unexpectedly\n"), (true, "error: the outer helper died unexpectedly\n")]
    {
        let mut command = place.command(&args);
        let mut running = child::spawn(&mut command);
        let log = wait_for(&place, &log_name, &before, &format!(") {SLOW_STARTED}"), &mut running);
        before.push(log);
        let pid1 = own()["pid1"]["pid"].as_i64().unwrap();
        let stat = fs::read_to_string(format!("/proc/{pid1}/stat")).unwrap();
        let parent = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
        kill(Pid::from_raw(if helper { parent } else { i32::try_from(pid1).unwrap() }), Signal::SIGKILL).unwrap();
        let ran = finish(command_line(&command), running).fails(6).says(words);
        ran.says("hint: the packages built so far are kept: repeat the command to go on where it stopped\n");
        assert_eq!(own()["status"]["is"], "suspended");
        child::assert_no_strangers();
    }
    place.run(&args).ok().says("* resuming stage4");
    let last = logs(&place, &log_name).into_iter().find(|log| !before.contains(log)).unwrap();
    assert!(!emerge_log(&last).contains(") app-misc/manyfiles"), "built twice: {}", emerge_log(&last));
}

#[test]
fn ctrl_c_twice_ends_at_once_what_does_not_listen() {
    let Some(shared) = shared() else { return };
    let script = "trap '' INT; echo up; sleep 1000";
    let mut command = shared.place.command(&["freshroot", "--network", "none", "--", "sh", "-c", script]);
    let mut running = child::spawn(&mut command);
    let mut stdout = running.child().stdout.take().unwrap();
    std::io::Read::read_exact(&mut stdout, &mut [0; 3]).unwrap();
    interrupt(&running);
    std::thread::sleep(Duration::from_millis(300));
    assert!(running.child().try_wait().unwrap().is_none(), "once is not enough");
    interrupt(&running);
    finish(command_line(&command), running).fails(130).says("error: interrupted\n");
    child::assert_no_strangers();
    // But where somebody has worked by hand, which others do.
    let subject = |record: &serde_json::Value| record["subject"].as_str().unwrap_or_default().to_owned();
    let mut left = shared.place.session_records();
    left.retain(|record| {
        record["purpose"] == "throwaway" && record.to_string().contains("suspended") && !subject(record).starts_with("by-hand:")
    });
    assert!(left.is_empty(), "{left:?}");
}
