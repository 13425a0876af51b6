//! The examples of the shipped configuration: that they build, hold what they should, and share what they have in common.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::child::{check, in_ids};
use crate::shared::{Shared, shared};

/// Builds the stage4 `name` of the shipped configuration.
fn build(shared: &Shared, name: &str, more: &[&str]) -> PathBuf {
    let built = shared.place.run(&[&["stage", "build", name, "--no-sign"], more].concat()).ok();
    built.value("artifact").trim_end_matches("  (unchanged)").into()
}

/// The archive's entries, without the leading `./`.
fn entries(artifact: &Path) -> Vec<String> {
    let listing = String::from_utf8(check(Command::new("tar").args(["--zstd", "-tf"]).arg(artifact))).unwrap();
    listing.lines().map(|line| line.trim_start_matches("./").trim_end_matches('/').to_owned()).collect()
}

/// What `command` prints in the unpacked archive.
fn inside(shared: &Shared, artifact: &Path, command: &str) -> String {
    let root = shared.place.path(&format!("example {}", artifact.file_name().unwrap().display()));
    let script = "mkdir \"$2\" && tar --zstd -C \"$2\" --xattrs --xattrs-include='*' --numeric-owner -xpf \"$1\"
        mount --rbind /dev \"$2/dev\" && mount -t proc proc \"$2/proc\"
        status=0; chroot \"$2\" /bin/sh -ec \"$3\" || status=$?
        umount -l \"$2/dev\" \"$2/proc\" && rm -rf -- \"$2\"; exit $status";
    String::from_utf8(in_ids(script, &[artifact, &root, Path::new(command)])).unwrap()
}

/// The stage4 `name` is one layer on what the examples have in common. (The name `profile/demo/plain` follows whoever built it last.)
fn is_on_plain(shared: &Shared, name: &str) {
    let show = |name: &str| -> serde_json::Value {
        serde_json::from_str(&shared.place.run(&["store", "show", name, "--json"]).ok().text()).unwrap()
    };
    let own = show(&format!("stage4/{name}"));
    let base = show(own["parent"].as_str().unwrap());
    assert_eq!(base["origin"]["inputs"]["definition"], "plain", "{name}: {base}");
    let layers = |state: &serde_json::Value| state["layers"].as_array().unwrap().clone();
    let (base, own) = (layers(&base), layers(&own));
    assert_eq!((&own[..base.len()], own.len()), (&base[..], base.len() + 1), "{name}");
}

#[test]
#[ignore = "long: an example that compiles for half a minute"]
fn the_server_answers_names_and_can_be_entered() {
    let Some(shared) = shared() else { return };
    let artifact = build(&shared, "server", &["--format", "tar.zst"]);
    is_on_plain(&shared, "server");
    let entries = entries(&artifact);
    for there in ["usr/sbin/dnsmasq", "usr/bin/dropbearmulti", "etc/conf.d/net", "root/.ssh", "usr/include"] {
        assert!(entries.iter().any(|entry| entry == there), "{there}");
    }
    for gone in ["usr/share/doc", "usr/share/man", "usr/bin/scp"] {
        assert!(!entries.iter().any(|entry| entry == gone), "{gone}");
    }
    let said = inside(
        &shared,
        &artifact,
        "dnsmasq --test 2>&1; dnsmasq --version | grep -o 'no-DHCP '; dropbear -V 2>&1 | cut -d ' ' -f 1
         dropbearkey -t ed25519 -f /tmp/key | grep -o ^ssh-ed25519; stat -c %a /root/.ssh; . /etc/conf.d/dropbear; echo \"$DROPBEAR_OPTS\"",
    );
    assert_eq!(said, "dnsmasq: syntax check OK.\nno-DHCP \nDropbear\nssh-ed25519\n700\n-s\n");
}

#[test]
fn the_container_has_an_init_and_a_shell_and_no_compiler_s_files() {
    let Some(shared) = shared() else { return };
    let artifact = build(&shared, "container", &[]);
    is_on_plain(&shared, "container");
    assert!(artifact.extension().is_some_and(|suffix| suffix == "zst"), "{}", artifact.display());
    let entries = entries(&artifact);
    assert!(entries.iter().any(|entry| entry == "usr/bin/dumb-init"));
    for gone in ["usr/include", "usr/share/doc", "usr/share/aclocal"] {
        assert!(!entries.iter().any(|entry| entry == gone), "{gone}");
    }
    let archives: Vec<&String> =
        entries.iter().filter(|entry| entry.starts_with("usr/lib") && Path::new(entry).extension() == Some("a".as_ref())).collect();
    assert!(archives.is_empty(), "{archives:?}");
    // The init passes its child's end on.
    assert_eq!(inside(&shared, &artifact, "dumb-init dash -c 'echo $0; exit 3' || echo $?"), "dash\n3\n");
}
