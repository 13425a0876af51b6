//! The Portage that the ebuild tree has as its stable one: it records no patches, and has no live status. Packages are reused, patched and
//! told of as with the newer one. What of it costs little is in `make test`; `make test-long` runs the rest, and everything on it.

use std::process::Command;

use gentoomuch::internals::store::{NewState, Purpose, Store};

use crate::child;
use crate::package_keys::{define, expected, patch, records, tree};
use crate::place::Place;
use crate::shared::{Shared, shared};

/// The profile that has it: the stage3 of `demo` with this Portage as a layer on it, or `demo` itself if it is that stage3's own.
fn older(shared: &Shared) -> &'static str {
    if !shared.testbed.older.exists() {
        return "demo";
    }
    let place = &shared.place;
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(place.store().join("store.json")).unwrap()).unwrap();
    let store = Store::open(&place.store(), &serde_json::from_value(record["idmap"].clone()).unwrap()).unwrap();
    if store.ref_get("profile/older/upstream").unwrap().is_some() {
        return "older";
    }
    let base = store.state(&store.ref_get("profile/demo/upstream").unwrap().unwrap()).unwrap();
    let session = store.session_create(Some(&base), Purpose::Throwaway, "").unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--xattrs", "--xattrs-include=user.*", "-I", "zstd", "-xpf"]).arg(&shared.testbed.older).arg("-C");
    child::check(tar.arg(session.upper()));
    let key = format!("older:{}", session.id());
    let new = NewState { key, origin: base.origin.clone(), newest_input: 1, parent: Some(base.id.clone()) };
    let state = session.commit(new).unwrap();
    store.ref_set("profile/older/upstream", &state.id).unwrap();
    "older"
}

/// Builds the definition `name` on it.
fn build(place: &Place, name: &str) -> crate::place::Ran {
    place.run(&["stage", "build", name, "--no-sign", "--format", "tar.zst"]).ok()
}

#[test]
#[ignore = "long: a definition and two stages on another Portage"]
fn packages_and_patches_are_right_with_the_stable_portage() {
    let Some(shared) = shared() else { return };
    let profile = older(&shared);
    let version = std::process::id().wrapping_add(2_000_000);
    let config = shared.config("older");
    let place = shared.place.with_config(config.clone());
    let said =
        place.run(&["shell", &format!("profile/{profile}/upstream"), "--network", "none", "--", "emerge", "--version"]).ok().text();
    assert!(said.starts_with("Portage 3.0.81.2 "), "{said}");
    place.run(&["sync", "--from", tree(&place, "older", version, "text").to_str().unwrap()]).ok();
    let packages = "app-keys/plain\napp-keys/flags\napp-keys/patched\n";
    let with_patch = patch("after");
    let with = [
        ("package.env", "app-keys/flags slow\n"),
        ("env/slow", "CFLAGS=\"-O0 -g0\"\nEXTRA_ECONF=\"--with-keys\"\n"),
        ("patches/app-keys/patched/change.patch", &*with_patch),
    ];
    let plain = expected(&[("plain", "plain"), ("flags", "-O2 -pipe -march=x86-64 "), ("patched", "before")]);
    let other = expected(&[("plain", "plain"), ("flags", "-O0 -g0 --with-keys"), ("patched", "after")]);
    define(&config, (profile, "older"), "older-one", packages, &[]);
    let ran = build(&place, "older-one");
    // Read from what emerge prints: nothing else tells.
    let told = |ran: &crate::place::Ran| {
        ran.stderr.lines().filter(|line| line.contains("emerge: ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(told(&ran).iter().any(|line| line.contains(" of 3 packages done") && line.contains("app-keys/")), "{ran}");
    assert_eq!(records(&place, &format!("{profile}/older-one")), plain);
    define(&config, (profile, "older"), "older-two", packages, &with);
    build(&place, "older-two");
    assert_eq!(records(&place, &format!("{profile}/older-two")), other, "with the patch, from the pool that has it without");
}

#[test]
fn a_saved_patch_is_proven_with_the_stable_portage() {
    let Some(shared) = shared() else { return };
    let profile = older(&shared);
    let config = shared.config("older-patch");
    let place = shared.place.with_config(config.clone());
    let folder = config.join("user.patches/mine/app-misc/recorder");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("text.patch"), "--- a/text\n+++ b/text\n@@ -1 +1 @@\n-unpatched\n+patched\n").unwrap();
    let text = place.run(&["patch", "compile", "mine", "--profile", profile]).ok().text();
    assert!(text.contains("app-misc/recorder-1.0") && text.contains("built"), "{text}");
}
