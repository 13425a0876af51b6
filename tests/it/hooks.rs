//! Hooks of the user: added, replaced, switched off and failing, as rootfs-hooks/README.md shows them.

use std::collections::BTreeSet;
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

/// Writes down what there is in /etc/portage.
const LISTING: &str = "#!/bin/sh
cd /etc/portage
{ find . ! -name '99-session.conf' -printf '%p %y %m %U:%G %l\\n'; find . -type f ! -name '99-session.conf' -exec sha256sum {} +; } |
    sort >/etc/listing
file=/etc/listing-$GENTOOMUCH_PHASE
[ ! -e $file ] || file=$file-2
mv /etc/listing $file
";

/// A package that changes the configuration, as those with savedconfig.eclass do, and in all ways that there are.
const INTRUDER: &str = r#"EAPI=8
DESCRIPTION="changes the configuration"
SLOT="0"
KEYWORDS="amd64"
LICENSE="GPL-2"
S="${WORKDIR}"

src_install() {
    insinto /etc/portage/savedconfig/app-phased
    newins - "${PF}" <<<"CONFIG_X=y"
    # Two packages cannot have one file, whatever becomes of it.
    insinto /etc/portage/package.use
    [[ ${PN} != intruder ]] || newins - 50-gentoomuch <<<"app-misc/manyfiles -*"
    keepdir /etc/portage/patches
}

pkg_postinst() {
    cd "${EROOT}/etc/portage" || die
    rm env/kept savedconfig/app-phased/empty || die
    chmod 0600 package.env/* || die
    chown 1:1 package.env || die
    ln -sfn /nowhere make.profile || die
    rm -r sets && echo none >sets || die
    mkdir bashrc && touch bashrc/x || die
    ln -s bashrc env/link && mkfifo env/pipe || die
    echo "USE=\"evil\"" >>make.conf/50-gentoomuch.conf || die
}
"#;

/// The tree of the two intruders, of a version that no run before had.
fn intruders(place: &Place, version: u32) -> PathBuf {
    let tree = place.path("phased-tree");
    if tree.exists() {
        fs::remove_dir_all(&tree).unwrap();
    }
    let write = |path: &str, text: &str| {
        let file = tree.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    write("profiles/repo_name", "phased\n");
    write("profiles/categories", "app-phased\n");
    write("metadata/layout.conf", "masters = gentoo\nthin-manifests = true\n");
    for name in ["intruder", "another"] {
        write(&format!("app-phased/{name}/{name}-{version}.ebuild"), INTRUDER);
        write(&format!("app-phased/{name}/Manifest"), "");
    }
    tree
}

#[test]
fn each_phase_has_its_place_and_the_environment_of_a_login() {
    let Some(shared) = shared() else { return };
    let config = shared.config("phases");
    let write = |path: &str, text: &str| {
        let file = config.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    let packages = "app-misc/manyfiles\napp-phased/intruder\n";
    let files = [("cpu", "generic-amd64\n"), ("packages", packages), ("scripts", "scripted\n"), ("portage.local", "phased\n")];
    for (file, text) in files {
        write(&format!("stage3.defines/phased/{file}"), text);
    }
    let packages = "app-resolve/loner\napp-phased/another\n";
    let files = [("profile", "demo\n"), ("stage3", "phased\n"), ("packages", packages), ("format", "tar.zst\n")];
    for (file, text) in files {
        write(&format!("stage4.defines/phased/{file}"), text);
    }
    for (file, text) in [
        ("repos.conf/phased.conf", "[phased]\nlocation = /var/db/repos/phased\nmasters = gentoo\n"),
        ("package.use", "app-misc/manyfiles many\n"),
        ("package.env", "app-misc/manyfiles kept\n"),
        ("env/kept", "KEPT=\"1\"\n"),
        ("savedconfig/app-phased/empty", ""),
        ("sets/phased", "app-misc/manyfiles\n"),
    ] {
        write(&format!("portage.locals/phased/{file}"), text);
    }
    // Twice in the same place it would be built already.
    let own = format!("# {}\n", std::process::id());
    write("user.scripts/scripted", &format!("#!/bin/sh\n{own}slotted >/etc/scripted\necho x >/etc/portage/by-script\n"));
    write("hooks/prepare.d/10-slotted.sh", SLOTTED);
    for phase in ["prepare", "after-world", "stage", "finish"] {
        write(&format!("hooks/{phase}.d/60-witness.sh"), &format!("{WITNESS}{own}"));
        write(&format!("hooks/{phase}.d/99-listing.sh"), LISTING);
    }
    write("hooks/after-world.d/70-own.sh", "#!/bin/sh\necho x >/etc/portage/by-hook\n");
    let place = shared.place.with_config(config.clone());
    place.run(&["sync", "--from", intruders(&place, std::process::id()).to_str().unwrap()]).ok();
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
    the_configuration_is_no_package_s(&read);
    // Typed by hand, in any session.
    assert_eq!(place.run(&["shell", "stage4/phased", "--", "slotted"]).ok().text(), "slot-1\n");
    assert_eq!(place.run(&["shell", "stage4/phased", "--", "sh", "-c", "echo $SLOTTED; slotted"]).ok().text(), "it is\nslot-1\n");
}

/// What hooks and scripts write to /etc/portage stays, what packages do there does not.
fn the_configuration_is_no_package_s(read: &dyn Fn(&str) -> String) {
    let listing = |name: &str| -> BTreeSet<String> { read(&format!("/etc/listing-{name}")).lines().map(str::to_owned).collect() };
    let (before, after_world) = (listing("prepare"), listing("after-world"));
    assert!(before.iter().any(|line| line.starts_with("./make.profile l ")), "{before:?}");
    let own = |name: &str| {
        let line = format!("./{name} f 644 0:0 ");
        assert!(!before.contains(&line));
        line
    };
    let by = |names: &[&str]| -> BTreeSet<String> {
        let digest = "73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac";
        before.iter().cloned().chain(names.iter().flat_map(|name| [own(name), format!("{digest}  ./{name}")])).collect()
    };
    assert_eq!(after_world, by(&["by-hook"]));
    // Whatever the definition's packages did, and those of the stage4.
    assert_eq!(listing("finish"), by(&["by-hook", "by-script"]));
    assert_eq!(listing("finish-2"), by(&["by-hook", "by-script"]));
}
