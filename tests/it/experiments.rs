//! `try`: combinations of flags, each really built; `shell` and `cp` on any build state.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::child;
use crate::place::{Place, Ran, command_line, finish};
use crate::shared::shared;
use crate::terminal::Terminal;

fn tried(place: &Place, args: &[&str], code: i32) -> Value {
    let ran = place.run(&[&["try", "--json"], args].concat()).fails(code);
    serde_json::from_str(&ran.text()).unwrap_or_else(|error| panic!("{error} in {ran}"))
}

#[test]
fn every_combination_that_may_be_is_built_and_compared() {
    let Some(shared) = shared() else { return };
    let place = &shared.place;
    let fragment = place.config.join("portage.locals/gentoomuch/builder/package.use");
    let done = tried(place, &["app-misc/greeter", "--matrix", "color json"], 0);
    let all = done["combinations"].as_array().unwrap();
    let names: Vec<&str> = all.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 4, "{done}");
    let of = |name: &str| all.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("{name} is not in {names:?}"));
    let refused = of("color json");
    assert_eq!(refused["result"], "left-out", "{refused}");
    assert!(refused["reason"].as_str().unwrap().contains("REQUIRED_USE of app-misc/greeter-1.0: json? ( !color )"), "{refused}");
    for name in ["color -json", "-color json", "-color -json"] {
        let one = of(name);
        assert_eq!(one["result"], "built", "{one}");
        assert!(one["size_bytes"].as_u64().unwrap() > 1000, "{one}");
        assert!(one["libraries"].to_string().contains("libgreet.so"), "{one}");
    }
    assert_eq!(names[0], "color -json", "as it is configured");
    let changed = &of("-color json")["differences"]["changed"];
    assert_eq!(*changed, serde_json::json!(["/usr/bin/greeter"]), "the program alone differs: {done}");
    assert!(done.to_string().contains("portage.locals/gentoomuch/builder/package.use"), "{done}");
    assert!(!fragment.exists(), "the configuration is only read");
}

#[test]
fn a_flag_of_the_matrix_may_name_the_package_that_is_tried() {
    let Some(shared) = shared() else { return };
    let args = ["=app-misc/greeter-1.0", "--use", "json -color", "--matrix", "app-misc/greeter:ascii"];
    let done = tried(&shared.place, &args, 0);
    assert_eq!(done["packages"], serde_json::json!(["app-misc/greeter-1.0"]), "{done}");
    let all = done["combinations"].as_array().unwrap();
    let built: Vec<&Value> = all.iter().filter(|one| one["result"] == "built").collect();
    assert_eq!((all.len(), built.len()), (2, 1), "REQUIRED_USE wants one of them: {done}");
    assert_eq!(built[0]["use"], serde_json::json!({ "app-misc/greeter": ["json", "-color", "ascii"] }), "{done}");
    assert_eq!(built[0]["packages"].as_array().unwrap().len(), 1, "{done}");
}

#[test]
fn a_combination_that_does_not_build_is_told_with_phase_and_log() {
    let Some(shared) = shared() else { return };
    let place = &shared.place;
    let ran = place.run(&["try", "app-misc/broken"]).fails(6).says("building 1 combination");
    let text = ran.text();
    assert!(text.contains("failed: compile") && text.contains("`app-misc/broken-1.0` failed in its compile phase"), "{ran}");
    let log = text.lines().find_map(|line| line.trim().strip_prefix("log: ")).unwrap();
    assert!(fs::metadata(log).unwrap().len() > 0, "{log}");
    for (args, code, words) in [
        (&["app-misc/brokn"][..], 2, "there is no package `app-misc/brokn`\nhint: did you mean app-misc/broken?"),
        (&["app-misc/newcomer"], 2, "no version of `app-misc/newcomer` can be installed: app-misc/newcomer-0.1 is masked"),
        (&["app-misc/greeter", "--use", "jsn"], 2, "no package that is tried has the flag `jsn`\nhint: did you mean `json`?"),
        (&["app-misc/greeter", "--use", "json color"], 2, "no combination can be built"),
        (&["app-misc/greeter", "--cflags", "$(id)"], 2, "`$(id)` cannot be compiler flags"),
        (&["app-misc/greeter[json]"], 2, "hint: flags go into `--use` or `--matrix`"),
        (&["app-misc/greeter", "--matrix", "a b c d e f g"], 2, "has the flag `a`"),
    ] {
        place.run(&[&["try"], args].concat()).fails(code).says(words);
    }
}

#[test]
fn an_interrupted_experiment_leaves_nothing() {
    let Some(shared) = shared() else { return };
    let place = &shared.place;
    let mut command = place.command(&["try", "app-misc/greeter", "--matrix", "hardened json"]);
    let mut running = child::spawn(&mut command);
    let mut said = String::new();
    let mut stderr = std::io::BufReader::new(running.child().stderr.take().unwrap());
    while !said.contains("building ") {
        assert_ne!(std::io::BufRead::read_line(&mut stderr, &mut said).unwrap(), 0, "{said}");
    }
    kill(Pid::from_raw(i32::try_from(running.id()).unwrap()), Signal::SIGINT).unwrap();
    finish(command_line(&command), running).fails(130);
    // That no session is left is seen by whoever uses the place last.
    child::assert_no_strangers();
}

#[test]
fn a_shell_opens_on_every_state_and_changes_none() {
    let Some(shared) = shared() else { return };
    let place = &shared.place;
    let id = shared.build.value("state").trim_end_matches("  (unchanged)").to_owned();
    for name in ["profile/demo/upstream", "profile/demo", "profile/demo/gentoomuch/builder@{0}", "stage4/hello", &id, &id[..12]] {
        let script = "echo mine >/etc/mine && exit 7";
        place.run(&["shell", name, "--network", "none", "--", "sh", "-c", script]).fails(7);
    }
    let there = place.run(&["shell", "stage4/hello", "--network", "none", "--", "test", "-e", "/etc/mine"]);
    there.fails(1);
    place.run(&["shell", "stage4/hello", "--network", "none", "--", "/no/such/program"]).fails(127).says("/no/such/program");
    for (name, words) in [
        ("profile/dmo", "no build state is called `profile/dmo`\nhint: did you mean `profile/demo"),
        ("stage4/hello@{99}", "has no value 99"),
        ("0123456789", "no build state is called `0123456789`"),
    ] {
        place.run(&["shell", name, "--", "true"]).fails(125).says(words);
        place.run(&["cp", &format!("{name}:/etc"), "."]).fails(2).says(words);
    }
}

#[test]
fn files_are_copied_out_of_a_state_and_links_lead_nowhere() {
    let Some(shared) = shared() else { return };
    let place = &shared.place;
    let script = "mkdir -p /srv/out/sub && cd /srv/out && echo text >sub/file && chmod 4755 sub/file && ln -s /etc/hostname inside \
                  && ln -s ../../../../../../etc/passwd outside && ln -s /srv/out/sub through && mkfifo pipe";
    let kept = format!("copied-{}", std::process::id());
    place.run(&["freshroot", "--network", "none", "--keep", &kept, "--", "sh", "-c", script]).ok();
    let to = place.path(&kept);
    fs::create_dir_all(&to).unwrap();
    let into = to.to_str().unwrap();
    let ran = place.run(&["cp", &format!("kept/{kept}:/srv/out"), into]).ok();
    ran.says("left out: ").says("pipe");
    let file = to.join("out/sub/file");
    assert_eq!(fs::read_to_string(&file).unwrap(), "text\n");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o755, "no set-id bit");
    assert!(to.join("out/outside").is_symlink() && !to.join("out/pipe").exists());

    // A path through a link stays in the state, wherever the link leads.
    let root = |path: &str| place.run(&["cp", &format!("kept/{kept}:{path}"), "-"]);
    assert_eq!(root("/srv/out/through/file").ok().text(), "text\n");
    let inside = root("/srv/out/outside").ok().text();
    assert_ne!(inside, fs::read_to_string("/etc/passwd").unwrap(), "the host's");
    assert!(inside.contains("portage"), "the state's: {inside}");
    // Nothing is overwritten.
    place.run(&["cp", &format!("kept/{kept}:/srv/out"), into]).fails(2).says("already exists\nhint: move it away");
    root("/srv/none").fails(2).says("/srv/none");
    place.run(&["cp", "kept", "."]).fails(2).says("hint: write `STATE:PATH`");
    let reader =
        place.command(&["cp", &format!("kept/{kept}:/srv/out"), "-"]).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(!reader.success(), "a directory is no stream");
}

#[test]
fn nothing_that_is_copied_out_is_obeyed_by_git_or_a_terminal() {
    let Some(shared) = shared() else { return };
    let place = &shared.place;
    let kept = format!("obeyed-{}", std::process::id());
    let script = "mkdir -p /srv/out/sub/.git/objects /srv/out/sub/.git/refs /srv/out/bare/objects /srv/out/bare/refs
        cd /srv/out && echo text >sub/file && echo 'ref: x' >sub/.git/HEAD && echo 'ref: x' >bare/HEAD
        printf '[core]\\nfsmonitor = touch obeyed; false\\n' | tee sub/.git/config >bare/config
        printf 'one\\033]52;c;x\\007\\ntwo\\n' >words";
    place.run(&["freshroot", "--network", "none", "--keep", &kept, "--", "sh", "-ec", script]).ok();
    let to = place.path(&kept);
    let ran = place.run(&["cp", &format!("kept/{kept}:/srv/out"), to.to_str().unwrap()]).ok();
    ran.says("left out: sub/.git is a git repository").says("left out: bare/HEAD is a git repository");
    assert!(to.join("sub/file").exists() && !to.join("sub/.git").exists() && to.join("bare/config").exists());

    let words = format!("kept/{kept}:/srv/out/words");
    assert_eq!(place.run(&["cp", &words, "-"]).ok().text(), "one\u{1b}]52;c;x\u{7}\ntwo\n");
    let Some(terminal) = Terminal::start(place, &["cp", &words, "-"]) else { return };
    let (code, seen) = terminal.end();
    assert_eq!((code, &*seen), (Some(0), "one\\u{1b}]52;c;x\\u{7}\r\ntwo\r\n"));
}

/// The program with no more descriptors than a login has by default.
fn with_few_descriptors(place: &Place, args: &[&str]) -> Ran {
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "ulimit -n 1024 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_gentoomuch")]).args(args);
    command.env_clear().envs(place.environment()).current_dir(&place.dir).stdin(Stdio::null());
    crate::place::run(&mut command)
}

#[test]
fn directories_that_are_too_deep_are_refused() {
    let Some(shared) = shared() else { return };
    let place = &shared.place;
    let kept = format!("deep-{}", std::process::id());
    let script = "import os; [os.makedirs(name + '/d' * levels) for name, levels in (('/srv/deep', 190), ('/srv/deeper', 450))]";
    place.run(&["freshroot", "--network", "none", "--keep", &kept, "--", "python3", "-c", script]).ok();
    let to = place.path(&kept);
    fs::create_dir_all(&to).unwrap();
    let (state, into) = (format!("kept/{kept}"), to.to_str().unwrap());
    with_few_descriptors(place, &["cp", &format!("{state}:/srv/deep"), into]).ok();
    with_few_descriptors(place, &["cp", &format!("{state}:/srv/deeper"), into])
        .fails(1)
        .says("is nested too deep: at most 200 levels of directories are copied");
    assert_eq!(fs::read_dir(&to).unwrap().count(), 1, "nothing unfinished is left");
    let told = with_few_descriptors(place, &["diff", "profile/demo", &state, "--files", "/srv/deep"]).ok().text();
    assert!(told.contains(&format!("/srv/deep{}  directory ", "/d".repeat(190))), "{}", told.lines().last().unwrap());
    with_few_descriptors(place, &["diff", "profile/demo", &state, "--files", "/srv/deeper"]).fails(1).says("` is nested too deep");
}
