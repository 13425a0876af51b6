//! The programs of `examples/`, which use nothing but the public part of the library.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::child;
use crate::interruption::{define_slow, slow};
use crate::place::run;
use crate::shared::shared;

#[test]
fn a_program_verifies_a_stage3() {
    let Some(shared) = shared() else { return };
    let keys = shared.place.config.join("keys");
    let (keys, tarball) = (keys.to_str().unwrap(), shared.testbed.stage3.to_str().unwrap());
    let verified = run(&mut shared.place.example("verify", &[keys, tarball])).ok().text();
    assert!(verified.contains(": signature\n") && verified.contains(": BLAKE2B\n"), "{verified}");
    // Keys that do not count for it.
    let nobody = shared.place.path("no keys");
    let refused = run(&mut shared.place.example("verify", &[nobody.to_str().unwrap(), tarball])).fails(1);
    assert!(refused.stderr.contains("Rejected"), "{refused}");
}

#[test]
fn a_program_runs_a_session_keeps_a_snapshot_and_exports_it() {
    let Some(shared) = shared() else { return };
    let place = &shared.place;
    let name = format!("embedded{}", std::process::id());
    let output = place.path(&format!("{name}.tar.zst"));
    let session = |script: &str| {
        let (config, dir, output) = (place.config.to_str().unwrap(), place.dir.to_str().unwrap(), output.to_str().unwrap());
        run(&mut place.example("session", &[config, dir, "demo", &name, output, "sh", "-c", script]))
    };
    let made = session("echo embedded >/etc/motd").ok();
    assert_eq!(made.text(), format!("{}\n", output.display()));
    assert!(made.stderr.contains("exporting"), "{made}");
    let motd = child::check(Command::new("tar").args(["-xOf", output.to_str().unwrap(), "./etc/motd"]));
    assert_eq!(String::from_utf8_lossy(&motd), "embedded\n");
    // The name is taken now.
    let taken = session("true").fails(1);
    assert!(taken.stderr.contains(&format!("KeptExists {{ name: \"{name}\" }}")), "{taken}");
    fs::remove_file(&output).unwrap();
}

/// A layer holds set-id files. Whoever embeds the library gets the same walls as a user of the command line, whatever the umask.
#[test]
fn what_a_program_keeps_is_closed_to_others_and_is_not_kept_where_they_could_replace_it() {
    let Some(shared) = shared() else { return };
    let place = &shared.place;
    let session = |directory: &Path| {
        let (config, dir) = (place.config.to_str().unwrap(), directory.to_str().unwrap());
        run(&mut place.example("session", &[config, dir, "nobody", "none", "none.tar", "true"])).fails(1)
    };
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let set = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let top = place.path(&format!("walls{}", std::process::id()));
    fs::create_dir_all(top.join("own/data")).unwrap();
    for (name, bits) in [("", 0o700), ("own", 0o755), ("own/data", 0o755)] {
        set(&top.join(name), bits);
    }
    session(&top.join("own"));
    assert_eq!((mode(&top.join("own/data")), mode(&top.join("own/cache"))), (0o700, 0o700));

    fs::create_dir(top.join("open")).unwrap();
    set(&top.join("open"), 0o777);
    let refused = session(&top.join("open"));
    assert!(refused.stderr.contains("Places(OpenWay"), "{refused}");
    assert!(!top.join("open/data/store").exists());
    fs::remove_dir_all(top).unwrap();
}

#[test]
fn a_program_builds_a_pipeline_stops_it_and_goes_on() {
    let Some((_shared, place)) = slow("slow embedded", 8) else { return };
    let name = format!("embedded{}", std::process::id());
    define_slow(&place, &name);
    fs::write(place.config.join(format!("stage4.defines/{name}/format")), "tar.zst\n").unwrap();
    let (config, dir) = (place.config.to_str().unwrap(), place.dir.to_str().unwrap());
    let stopped = run(&mut place.example("pipeline", &[config, dir, "4", &name])).fails(1);
    assert!(stopped.stderr.contains("not all of it is done"), "{stopped}");
    child::assert_no_strangers();
    let done = run(&mut place.example("pipeline", &[config, dir, "1200", &name])).ok();
    let done = done.text();
    assert!(done.ends_with(&format!("stage4/{name} \"built\"\nartifact/{name} \"built\"\n")), "{done}");
}
