//! Hooks of the user: added, replaced, switched off and failing, as rootfs-hooks/README.md shows them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::place::{Place, Ran};
use crate::shared::{Shared, shared};

/// The examples of the document: path below the configuration directory, contents.
fn documented() -> Vec<(String, String)> {
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("rootfs-hooks/README.md")).unwrap();
    let blocks = document.split("\n```sh\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    blocks
        .map(|block| {
            let (path, contents) = block.split_once('\n').unwrap();
            (path.strip_prefix("# ").unwrap().to_owned(), format!("{contents}\n"))
        })
        .collect()
}

/// A place whose configuration has a stage4 `name` without packages, and `hooks`.
fn with_hooks(shared: &Shared, name: &str, hooks: &[(String, String)]) -> Place {
    let config = shared.config(name);
    for (path, contents) in [("profile", "demo\n"), ("stage3", "plain\n"), ("format", "tar.zst\n")] {
        let file = config.join("stage4.defines").join(name).join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, contents).unwrap();
    }
    for (path, contents) in hooks {
        let file = config.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, contents).unwrap();
        // Whether it may be executed does not matter: it is copied into the session.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    }
    shared.place.with_config(config)
}

fn build(place: &Place, name: &str) -> Ran {
    place.run(&["stage", "build", name, "--no-export"])
}

/// The topmost layer of what was built, in which the hooks have left their traces.
fn layer(place: &Place) -> PathBuf {
    let show = place.run(&["store", "show", "stage4/hooked", "--json"]).ok().text();
    let show: serde_json::Value = serde_json::from_str(&show).unwrap();
    let layers = show["layers"].as_array().unwrap();
    let top = layers.last().unwrap();
    let id = top.as_str().or_else(|| top["id"].as_str()).unwrap_or_else(|| panic!("{show}"));
    place.store().join("layers").join(id).join("fs")
}

#[test]
fn hooks_are_added_replaced_and_switched_off_as_documented() {
    let Some(shared) = shared() else { return };
    let examples = documented();
    let names: Vec<&str> = examples.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(names, ["hooks/stage.d/50-motd.sh", "hooks/stage.d/10-env-update.sh"]);
    let place = with_hooks(&shared, "hooked", &examples);
    let first = build(&place, "hooked").ok().value("state").replace("  (unchanged)", "");
    let root = layer(&place);
    assert_eq!(fs::read_to_string(root.join("etc/motd")).unwrap(), "hooked for amd64, of demo (stage)\n");
    assert_eq!(fs::read_to_string(root.join("etc/env-update.note")).unwrap(), "replaced\n");
    // A changed hook is a changed input.
    let off = with_hooks(&shared, "hooked", &[("hooks/stage.d/10-env-update.sh".to_owned(), String::new())]);
    let second = build(&off, "hooked").ok().value("state").replace("  (unchanged)", "");
    assert_ne!(first, second);
    let root = layer(&off);
    assert!(!root.join("etc/env-update.note").exists() && !root.join("etc/motd").exists());
    let graph = off.run(&["config", "graph", "hooked"]).ok().text();
    assert!(!graph.contains("stage.d/10-env-update.sh") && graph.contains("finish.d/90-env-update.sh"), "{graph}");
    assert!(build(&off, "hooked").ok().value("state").contains("unchanged"));
}

#[test]
fn a_hook_that_fails_fails_the_build_and_is_tried_again() {
    let Some(shared) = shared() else { return };
    let hook = |text: &str| vec![("hooks/stage.d/60-fails.sh".to_owned(), format!("#!/bin/sh\n{text}\n"))];
    let place = with_hooks(&shared, "failing", &hook("echo before it fails; exit 9"));
    let failed = build(&place, "failing").fails(1).says("60-fails.sh").says("9").says("before it fails").says("hint: ");
    assert!(!failed.stderr.contains("panicked"), "{failed}");
    // Corrected, it is another build; what was kept of the first is not in the way.
    build(&with_hooks(&shared, "failing", &hook("echo right >/etc/note")), "failing").ok();
}

/// What a hook sees of the packages that come before and after it, and what of the root's own environment.
const WITNESS: &str = "#!/bin/sh
there() { [ -n \"$(ls -d /var/db/pkg/$1-[0-9]* 2>/dev/null)\" ] && printf 1 || printf 0; }
echo \"$GENTOOMUCH_PHASE definition=$(there app-misc/manyfiles) stage4=$(there app-resolve/loner) script=$([ -e /etc/scripted ] && printf 1 || printf 0) \\
$(slotted) $SLOTTED $LANG\" >>/etc/phases
";

/// Installs a program where only `env.d` leads to, as slotted compilers are.
const SLOTTED: &str = "#!/bin/sh
mkdir -p /usr/lib/slotted/1/bin /etc/env.d
printf '#!/bin/sh\\necho slot-1\\n' >/usr/lib/slotted/1/bin/slotted
chmod 755 /usr/lib/slotted/1/bin/slotted
printf 'PATH=\"/usr/lib/slotted/1/bin\"\\nSLOTTED=\"it is\"\\nLANG=\"xx_XX\"\\n' >/etc/env.d/60slotted
env-update
";

#[test]
fn each_phase_has_its_place_and_the_environment_of_a_login() {
    let Some(shared) = shared() else { return };
    let config = shared.config("phases");
    let write = |path: &str, text: &str| {
        let file = config.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    for (file, text) in [("cpu", "generic-amd64\n"), ("packages", "app-misc/manyfiles\n"), ("scripts", "scripted\n")] {
        write(&format!("stage3.defines/phased/{file}"), text);
    }
    let files = [("profile", "demo\n"), ("stage3", "phased\n"), ("packages", "app-resolve/loner\n"), ("format", "tar.zst\n")];
    for (file, text) in files {
        write(&format!("stage4.defines/phased/{file}"), text);
    }
    // Twice in the same place it would be built already.
    let own = format!("# {}\n", std::process::id());
    write("user.scripts/scripted", &format!("#!/bin/sh\n{own}slotted >/etc/scripted\n"));
    write("hooks/prepare.d/10-slotted.sh", SLOTTED);
    for phase in ["prepare", "after-world", "stage", "finish"] {
        write(&format!("hooks/{phase}.d/60-witness.sh"), &format!("{WITNESS}{own}"));
    }
    let place = shared.place.with_config(config);
    build(&place, "phased").ok();
    let read = |path: &str| place.run(&["shell", "stage4/phased", "--", "cat", path]).ok().text();
    let rest = "slot-1 it is C.UTF-8\n";
    assert_eq!(
        read("/etc/phases"),
        [
            format!("prepare definition=0 stage4=0 script=0 {rest}"),
            format!("after-world definition=0 stage4=0 script=0 {rest}"),
            format!("finish definition=1 stage4=0 script=1 {rest}"),
            format!("stage definition=1 stage4=0 script=1 {rest}"),
            format!("finish definition=1 stage4=1 script=1 {rest}"),
        ]
        .concat()
    );
    assert_eq!(read("/etc/scripted"), "slot-1\n");
    // Typed by hand, in any session.
    assert_eq!(place.run(&["shell", "stage4/phased", "--", "slotted"]).ok().text(), "slot-1\n");
    assert_eq!(place.run(&["shell", "stage4/phased", "--", "sh", "-c", "echo $SLOTTED; slotted"]).ok().text(), "it is\nslot-1\n");
}
