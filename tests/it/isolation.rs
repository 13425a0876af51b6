//! Rungs of isolation that can be demanded on any host, with the real Portage.

use crate::shared::shared;

#[test]
fn portage_builds_with_the_proc_that_is_there() {
    let Some(shared) = shared() else { return };
    // As users have it, not as the other tests have it.
    let shipped = format!("as-shipped-{}", std::process::id());
    let edit = "sed -i /^FEATURES=.*pid-sandbox/d /etc/portage/make.conf/*";
    shared.place.run(&["freshroot", "--keep", &shipped, "--", "sh", "-c", edit]).ok();
    let features = shared.place.run(&["freshroot", "--from", &shipped, "--", "portageq", "envvar", "FEATURES"]).ok().text();
    assert!(features.split_whitespace().any(|feature| feature == "pid-sandbox"), "{features}");
    let script = "case \" $(portageq envvar FEATURES) \" in *' pid-sandbox '*) exit 9;; esac
        emerge --usepkg=n --buildpkg=n -1q app-misc/greeter >&2 && grep -c ' /proc proc ro,' /proc/mounts";
    let name = format!("shared-proc-{}", std::process::id());
    let args = ["--isolation", "shared-proc", "freshroot", "--from", &shipped, "--keep", &name, "--", "sh", "-c", script];
    let ran = shared.place.run(&args).ok().says("isolation `shared-proc`: sessions have the /proc that is there");
    assert_eq!(ran.stdout, b"1\n", "{ran}");
    let shown = shared.place.run(&["store", "show", "--json", &format!("kept/{name}")]).ok();
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let isolation = shown["state"]["origin"]["isolation"].as_str().or_else(|| shown["origin"]["isolation"].as_str());
    assert!(isolation.is_some_and(|recorded| recorded.starts_with("subordinate-ids+shared-proc+nested-userns")), "{shown}");
}

#[test]
fn a_rung_that_this_host_does_not_have_is_refused_around_a_command_too() {
    let Some(shared) = shared() else { return };
    let ran = shared.place.run(&["--isolation", "own-ids", "freshroot", "--", "true"]).fails(125);
    ran.says("caused by: only root, of a host or of a user namespace, has ids of its own to give\n");
    shared.place.run(&["--isolation", "own-ids", "store", "ls"]).fails(5);
    shared.place.run(&["--isolation", "subordinate-ids", "store", "ls"]).ok();
    shared.place.run(&["--isolation", "none", "store", "ls"]).fails(2).says("there is no isolation `none`");
}
