//! Histories of names, differences of states, and states exported as images: read by skopeo, umoci and squashfs-tools, which know nothing
//! of overlays.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::child::{check, in_ids};
use crate::host;
use crate::place::Place;
use crate::shared::shared;
use crate::tiny::tiny;

/// What makes every kind of thing that a layer can say about those below it.
const FIRST: &str = "mkdir -p /srv/d/sub /srv/e; echo one >/srv/d/one; echo two >/srv/d/sub/two; echo keep >/srv/e/keep
    ln /srv/e/keep /srv/e/link; echo x >/srv/plain; chown 250:250 /srv/plain; cp /bin/true /srv/cap; setcap cap_net_raw+ep /srv/cap
    echo built >/var/log/built.log; echo odd >'/srv/with space'";
const SECOND: &str =
    "rm -r /srv/d; mkdir /srv/d; echo new >/srv/d/new; rm /srv/e/keep; chmod 700 /srv/e; rm /srv/plain; mkdir /srv/plain
    echo in >/srv/plain/in; chmod 4755 /srv/cap; ln -s one '/srv/a link'";
const DIFFERENCE: &str = "\
A /srv/a link     link 0777 root:root -> one
M /srv/cap        mode 0755 -> 4755
A /srv/d/new      file 0644 root:root 4 B
D /srv/d/one      file 0644 root:root 4 B
D /srv/d/sub      directory 0755 root:root
D /srv/d/sub/two  file 0644 root:root 4 B
M /srv/e          mode 0755 -> 0700
D /srv/e/keep     file 0644 root:root 5 B
M /srv/plain      directory 0755 root:root, was file 0644 portage:portage 2 B
A /srv/plain/in   file 0644 root:root 3 B
";
/// What the topmost layer says, as OCI readers expect it.
const LAYER: &str = "\
./srv/
./srv/a link
./srv/cap
./srv/d/
./srv/d/.wh..wh..opq
./srv/d/new
./srv/e/
./srv/e/.wh.keep
./srv/plain/
./srv/plain/.wh..wh..opq
./srv/plain/in
";

/// Two states on the stage4, and their names.
fn chain(place: &Place) -> [String; 2] {
    let names = ["below", "above"].map(|name| format!("{name}-{}", std::process::id()));
    if !place.listing().contains(&names[1]) {
        place.run(&["shell", "stage4/hello", "--keep", &names[0], "--", "sh", "-ec", FIRST]).ok();
        place.run(&["shell", &format!("kept/{}", names[0]), "--keep", &names[1], "--", "sh", "-ec", SECOND]).ok();
    }
    names.map(|name| format!("kept/{name}"))
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn blob(image: &Path, descriptor: &Value) -> PathBuf {
    image.join("blobs").join(descriptor["digest"].as_str().unwrap().replace(':', "/"))
}

fn manifest(image: &Path) -> Value {
    json(&blob(image, &json(&image.join("index.json"))["manifests"][0]))
}

fn fresh(place: &Place, name: &str) -> PathBuf {
    let dir = place.path(&format!("{name} {}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn layers_become_layers_of_an_image_and_differences_are_told() {
    let Some(shared) = shared() else { return };
    if !host::has("skopeo") || !host::has("umoci") {
        return;
    }
    let place = &shared.place;
    let [below, above] = chain(place);

    // The same two states, three ways: told, in history, as an image.
    let told = place.run(&["diff", &below, &above, "--files", "/srv", "--exit-code"]).fails(1).text();
    assert_eq!(told, format!("{DIFFERENCE}10 paths: 3 added, 3 changed, 4 removed, -8 B\n"));
    assert_eq!(place.run(&["diff", &below, &above, "--packages", "--exit-code"]).ok().text(), "no difference\n");
    assert_eq!(place.run(&["diff", &above, &above, "--exit-code"]).ok().text(), "no difference\n");
    let packages = place.run(&["diff", "profile/demo/upstream", "stage4/hello"]).ok().text();
    assert!(packages.contains("app-misc/greeter") && packages.contains(" removed, "), "{packages}");
    let log = place.run(&["log", &above]).ok().text();
    assert!(log.contains(&format!("  {below}  ")), "{log}");

    let tag = format!("release-{}", std::process::id());
    place.run(&["tag", &below, &tag]).ok();
    place.run(&["tag", &above, &tag]).fails(2).says("is at").says("--force");
    place.run(&["tag", &above, &tag, "--force"]).ok();
    assert_eq!(place.run(&["log", &tag]).ok().text().lines().count(), 3);
    for stands_for in [&below, &above] {
        place.run(&["rollback", &tag]).ok();
        place.run(&["diff", &tag, stands_for, "--exit-code"]).ok();
    }
    place.run(&["tag", "rm", &tag]).ok();

    let dir = fresh(place, "images");
    let config = shared.config("oci");
    let oci = "entrypoint /usr/bin/hello\ncmd --greeting \"Hello, container!\"\nenv LANG=C.UTF-8\nlabel org.example.role=demo\n\
               user nobody\nworkdir /tmp\nexpose 80\nvolume /data\n";
    fs::write(config.join("stage4.defines/hello/oci"), oci).unwrap();
    let configured = place.with_config(config);
    let (image, again, stage) = (dir.join("above.oci"), dir.join("again.oci"), dir.join("hello.oci"));
    for (state, to) in [(above.as_str(), &image), (&above, &again), ("stage4/hello", &stage)] {
        configured.run(&["export", state, "--format", "oci", "-o", to.to_str().unwrap()]).ok();
    }
    check(Command::new("diff").arg("-r").args([&image, &again]));

    // What is shared below has the same digests, and the stage4 says how it is started.
    let (top, hello) = (manifest(&image), manifest(&stage));
    let layers = |manifest: &Value| manifest["layers"].as_array().unwrap().clone();
    let (all, fewer) = (layers(&top), layers(&hello));
    assert_eq!((all.len(), &all[..fewer.len()]), (fewer.len() + 2, &fewer[..]));
    let started = &json(&blob(&stage, &hello["config"]));
    assert_eq!(started["config"]["Entrypoint"], serde_json::json!(["/usr/bin/hello"]));
    assert_eq!(started["config"]["Cmd"], serde_json::json!(["--greeting", "Hello, container!"]));
    assert_eq!(started["config"]["User"], "nobody");
    assert_eq!(started["config"]["Labels"]["org.example.role"], "demo");
    assert_eq!(started["history"].as_array().unwrap().len(), fewer.len());
    let created = started["created"].as_str().unwrap().to_owned();
    assert_eq!(hello["annotations"]["org.opencontainers.image.created"], created.as_str());
    let listing = check(Command::new("tar").arg("-tzf").arg(blob(&image, all.last().unwrap())));
    let listing = String::from_utf8(listing).unwrap();
    // Besides, the directories of a session's mounts.
    let ours: String = listing.split_inclusive('\n').filter(|line| line.starts_with("./srv")).collect();
    assert_eq!(ours, LAYER);

    // Signed: index.json leads to everything else by digests.
    let mut verify = Command::new("gpg");
    verify.env_clear().envs(place.environment()).arg("--verify").arg(dir.join("hello.oci.asc")).arg(stage.join("index.json"));
    check(&mut verify);
    let digests = fs::read_to_string(dir.join("hello.oci.DIGESTS")).unwrap();
    assert!(digests.contains("hello.oci/index.json") && digests.contains("BEGIN PGP SIGNATURE"), "{digests}");

    let skopeo = |args: &[&str], from: String| check(Command::new("skopeo").args(args).arg(from));
    let inspected = skopeo(&["inspect"], format!("oci:{}", stage.display()));
    assert!(String::from_utf8_lossy(&inspected).contains("\"Created\""));
    let copied = dir.join("copied");
    check(
        Command::new("skopeo")
            .args(["copy", "-q"])
            .arg(format!("oci:{}", stage.display()))
            .arg(format!("dir:{}", copied.display())),
    );
    let tar = dir.join("hello.tar");
    let to = format!("oci-archive:{}", tar.display());
    configured.run(&["export", "stage4/hello", "-o", &to, "--no-sign", "--json"]).ok();
    skopeo(&["inspect"], format!("oci-archive:{}", tar.display()));

    // Whoever applies the layers gets the tree that the tarball has, and its program starts.
    let tarball = dir.join("above.tar.zst");
    configured.run(&["export", &above, "--no-sign", "-o", tarball.to_str().unwrap()]).ok();
    let name = json(&image.join("index.json"))["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"].clone();
    let script = r#"cd "$1"; umoci unpack --image "above.oci:$2" bundle >/dev/null 2>&1
        mkdir tree; tar --zstd -C tree --xattrs --xattrs-include='*' --numeric-owner -xpf above.tar.zst
        listed() { (
            cd "$1"; find . -type d -printf '%P %y %m %U %G %T@\n' -o -printf '%P %y %m %U %G %n %T@ %l\n' | sort; getcap -r . | sort
        ); }
        listed bundle/rootfs >one; listed tree >other; diff one other >&2; diff -r --exclude=pipe --no-dereference bundle/rootfs tree >&2
        grep -q 'srv/cap .*cap_net_raw' one
        exec chroot bundle/rootfs /usr/bin/hello"#;
    let said = in_ids(&format!("set -e; {script}"), &[&dir, Path::new(name.as_str().unwrap())]);
    let said = String::from_utf8(said).unwrap();
    assert!(said.ends_with("Hello, world!\n"), "{said}");
    in_ids("rm -rf \"$1\"", &[&dir]);
}

#[test]
fn names_go_back_and_tags_stay() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    assert_eq!(place.run(&["log"]).ok().text(), "nothing has been built yet\n");
    assert_eq!(place.run(&["tag", "ls"]).ok().text(), "there are no tags; make one with `gentoomuch tag STATE NAME`\n");
    place.run(&["bootstrap", "--no-rebuild", "small", tiny.stage3.to_str().unwrap()]).ok();
    let upstream = "profile/small/upstream";
    assert!(place.run(&["log", "profile/small"]).ok().text().contains("stage3-amd64-tiny-20260811T083102Z.tar.xz"));

    place.run(&["tag", upstream, "first"]).ok();
    place.run(&["tag", upstream, "first"]).ok();
    assert!(place.run(&["tag", "ls"]).ok().text().contains("first  "), "listed");
    assert!(place.run(&["log", upstream]).ok().text().contains(" (first)  "));
    place.run(&["tag", upstream, "no/../tag"]).fails(2).says("cannot be the name of a tag");
    place.run(&["tag", upstream, "stage4/web"]).fails(2).says("`stage4/web` is the name of a state, but not of a tag");
    place.run(&["tag", "none", "second"]).fails(2).says("no build state is called `none`");
    place.run(&["rollback", "first"]).fails(2).says("`tag/first` has no earlier state 1").says("only its present value");
    place.run(&["rollback", "first@{0}", "1"]).fails(2).says("are both a state to go back to");
    place.run(&["rollback", "profile/small", "3"]).fails(2).says("has no earlier state 3");
    place.run(&["diff", "first", upstream, "--files", "etc"]).fails(2).says("is not an absolute path");

    // Every form, of a system of a few kilobytes.
    for format in ["tar.zst", "tar.gz", "oci", "squashfs"] {
        if format == "squashfs" && !host::has("mksquashfs") {
            continue;
        }
        let (one, other) = (format!("one.{format}"), format!("other.{format}"));
        for to in [&one, &other] {
            place.run(&["export", "first", "--no-sign", "-o", to]).ok();
        }
        check(Command::new("diff").arg("-r").args([place.path(&one), place.path(&other)]));
        assert!(place.run(&["export", "first", "--no-sign", "-o", &one]).ok().text().contains("(unchanged)"), "{format}");
    }
    if place.path("one.squashfs").exists() {
        let listed = check(Command::new("unsquashfs").args(["-lln", "-d", ""]).arg(place.path("one.squashfs")));
        let listed = String::from_utf8(listed).unwrap();
        assert!(listed.contains("0/0") && listed.contains("/var/empty dir") && listed.contains("2026-"), "{listed}");
    }
    fs::write(place.path("taken.tar.gz"), "mine").unwrap();
    place.run(&["export", "first", "--no-sign", "-o", "taken.tar.gz"]).fails(2).says("`").says("already exists");
    assert_eq!(fs::read(place.path("taken.tar.gz")).unwrap(), b"mine");
    // In its own place, and beside it with layers of another compression.
    let usual = place.run(&["export", "first", "--no-sign", "--format", "oci"]).ok().value("artifact");
    let other = place.run(&["export", "first", "--no-sign", "--format", "oci", "--compression", "zstd"]).ok().value("artifact");
    assert_eq!(other, usual.replace(".oci", "-2.oci"));
    let (gzip, zstd) = (manifest(Path::new(&usual)), manifest(Path::new(&other)));
    assert!(gzip["layers"][0]["mediaType"].as_str().unwrap().ends_with("tar+gzip"));
    assert!(zstd["layers"][0]["mediaType"].as_str().unwrap().ends_with("tar+zstd"));

    place.run(&["tag", "rm", "none"]).fails(2).says("there are: first");
    place.run(&["tag", "rm", "first"]).ok();
    place.run(&["export", "first"]).fails(2).says("no build state is called `first`");
}

#[test]
fn an_export_to_a_place_of_the_users_replaces_nothing() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    tiny.another("small", "a");
    let dir = place.path("exported");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("report.json"), "mine").unwrap();
    let export = |name: &str, format: &str| {
        let to = dir.join(name);
        place.run(&["export", "profile/small/upstream", "--no-sign", "--format", format, "-o", to.to_str().unwrap()])
    };
    export("report", "tar.zst").fails(2).says("report.json` already exists").says("hint: move it away");
    assert_eq!(fs::read_to_string(dir.join("report.json")).unwrap(), "mine");
    assert!(!dir.join("report").exists());
    export("out", "tar.zst").ok();
    assert!(export("out", "tar.zst").ok().text().contains("(unchanged)"));
    let bytes = fs::read(dir.join("out")).unwrap();
    export("out", "tar.gz").fails(2).says("out` already exists");
    assert_eq!(fs::read(dir.join("out")).unwrap(), bytes);
}

/// Nobody knows what a layer held that was never sealed.
#[test]
fn what_was_never_sealed_is_not_called_clean() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    tiny.another("one", "a");
    tiny.keep("kept", "profile/one/upstream", 1);
    assert!(place.run(&["store", "verify"]).ok().text().ends_with("\nclean     yes\n"));
    let told = place.run(&["store", "verify", "--deep"]).ok().text();
    assert!(
        told.ends_with("so that the next check can compare them\nclean     yes, but the contents of 2 layers were not checked\n"),
        "{told}"
    );
    assert_eq!(told.matches("  never sealed: it may have changed\n").count(), 2, "{told}");
    let json: Value = serde_json::from_str(&place.run(&["store", "verify", "--deep", "--json"]).ok().text()).unwrap();
    assert_eq!((&json["clean"], json["contents"]["unsealed"].as_array().unwrap().len()), (&Value::Null, 2), "{json}");
    place.run(&["store", "verify", "--seal"]).fails(2);
    let told = place.run(&["store", "verify", "--deep", "--seal"]).ok().text();
    assert_eq!(told.matches("  sealed now, as it is\n").count(), 2, "{told}");
    let told = place.run(&["store", "verify", "--deep"]).ok().text();
    assert!(told.ends_with("contents  2 layers as sealed, 0 different\nclean     yes\n"), "{told}");
    // A difference says what to do.
    let shown: Value = serde_json::from_str(&place.run(&["store", "show", "kept/kept", "--json"]).ok().text()).unwrap();
    let top = shown["layers"][1].as_str().unwrap();
    fs::write(place.store().join("layers").join(top).join("fs/etc/kept"), "otherwise").unwrap();
    let told = place.run(&["store", "verify", "--deep"]).fails(4).text();
    let words = format!("error     layer {top} has 1 difference\n          etc/kept: ");
    assert!(told.contains(&words), "{told}");
    assert!(
        told.contains("\n          restore it from a backup, or build again the states that have it: kept/kept\nclean     no\n"),
        "{told}"
    );
}

/// What the states of two profiles have in common is nothing but the code that looks at them.
#[test]
fn every_command_takes_states_of_two_stage3s() {
    let Some(tiny) = tiny() else { return };
    let place = &tiny.place;
    tiny.another("one", "a");
    tiny.another("two", "b");
    let (one, two) = (tiny.keep("one", "profile/one/upstream", 1), tiny.keep("two", "profile/two/upstream", 1));
    // More layers than are held open at the same time.
    tiny.keep("deep", "profile/one/upstream", 140);
    let mark = "M /etc/mark  content, 97.7 KiB\n";
    let (had, has) = ("D /etc/one   file 0644 root:root 3 B\n", "A /etc/two   file 0644 root:root 3 B\n");
    let cases = [
        ("profile/one", "profile/two", mark.to_owned()),
        ("kept/one", "kept/two", [mark, had, has].concat()),
        ("kept/one", "profile/two", [mark, had].concat()),
        (one.id.as_str(), two.id.as_str(), [mark, had, has].concat()),
    ];
    let files = |before: &str, after: &str, below: &str| {
        let told = place.run(&["diff", before, after, "--files", below, "--exit-code"]).fails(1).text();
        told.trim_start_matches("no package differs\n\n").to_owned()
    };
    for (before, after, lines) in cases {
        let told = files(before, after, "/");
        assert!(told.starts_with(&lines), "{before} {after}: {told}");
        assert_eq!(told.lines().count(), lines.lines().count() + 1, "{before} {after}: {told}");
    }
    for other in ["kept/one", "kept/two", "profile/two"] {
        let told = files(other, "kept/deep", "/etc/layer-7");
        assert_eq!(told, "A /etc/layer-7  file 0644 root:root 4 B\n1 path: 1 added, 0 changed, 0 removed, +4 B\n", "{other}");
        assert_eq!(files("kept/deep", other, "/etc").matches("\nD /etc/layer-").count(), 139, "{other}");
    }
    assert_eq!(place.run(&["diff", "kept/one", "kept/two", "--packages"]).ok().text(), "no difference\n");

    // A name that goes from one to the other and back.
    place.run(&["tag", "kept/one", "moved"]).ok();
    place.run(&["tag", "kept/two", "moved", "--force"]).ok();
    assert!(files("moved", "moved@{1}", "/etc/one").starts_with("A /etc/one"));
    let log = place.run(&["log", "moved"]).ok().text();
    assert!(log.contains("profile/one/upstream") && log.contains("profile/two/upstream"), "{log}");
    place.run(&["rollback", "moved"]).ok();
    for (from, file) in [("moved", "one"), ("moved@{1}", "two"), ("kept/deep", "deep"), ("profile/two", "mark")] {
        place.run(&["cp", &format!("{from}:/etc/{file}"), &format!("out-{file}")]).ok();
        let bytes = fs::read_to_string(place.path(&format!("out-{file}"))).unwrap();
        assert_eq!(bytes, if file == "mark" { "b".repeat(100_000) } else { file.to_owned() });
    }
    for state in ["kept/one", "kept/two", "profile/one", "profile/two", "kept/deep"] {
        let shown: Value = serde_json::from_str(&place.run(&["store", "show", state, "--json"]).ok().text()).unwrap();
        assert!(shown["layer_rows"].as_array().is_some_and(|rows| !rows.is_empty()), "{shown}");
        assert!(place.run(&["shell", state, "--print-plan", "--", "true"]).ok().text().contains("overlay"), "{state}");
        place.run(&["store", "seal", state]).ok();
        for format in ["tar.zst", "oci"] {
            let to = format!("{}.{format}", state.replace('/', "-"));
            place.run(&["export", state, "--no-sign", "--format", format, "-o", &to]).ok();
        }
    }
    let listed = String::from_utf8(check(Command::new("tar").arg("-tf").arg(place.path("kept-deep.tar.zst")))).unwrap();
    assert_eq!(listed.lines().filter(|line| line.starts_with("./etc/layer-")).count(), 139, "{listed}");
    let deep = place.run(&["store", "verify", "--deep"]).ok().text();
    assert!(deep.contains("144 layers as sealed, 0 different"), "{deep}");

    // One profile's stage3 becomes the other's.
    place.run(&["bootstrap", "--no-rebuild", "one", tiny.stage3.to_str().unwrap()]).ok();
    assert_eq!(place.run(&["diff", "profile/one", "profile/two", "--exit-code"]).ok().text(), "no difference\n");
    assert!(files("profile/one@{1}", "profile/one", "/etc/mark").starts_with(mark));
    place.run(&["profile", "rollback", "one"]).ok();
    place.run(&["profile", "set", "two"]).ok();
    place.run(&["profile", "rename", "one", "three"]).ok();
    assert!(files("profile/three", "profile/two", "/etc/mark").starts_with(mark));
    place.run(&["profile", "rm", "--force", "three"]).ok();
    place.run(&["tag", "rm", "moved"]).ok();
    place.run(&["clean", "--yes", "--keep", "1"]).ok();
    place.run(&["store", "verify"]).ok();
}

#[test]
fn sessions_kept_on_sessions_that_were_kept_say_where_the_first_came_from() {
    let Some(shared) = shared() else { return };
    let place = &shared.place;
    let name = |at: usize| format!("chain-{}-{at}", std::process::id());
    place.run(&["shell", "profile/demo", "--keep", &name(0), "--", "true"]).ok();
    for at in 1..3 {
        place.run(&["shell", &format!("kept/{}", name(at - 1)), "--keep", &name(at), "--", "true"]).ok();
    }
    let shown = place.run(&["store", "show", &format!("kept/{}", name(2)), "--json"]).ok().text();
    let origin = &serde_json::from_str::<Value>(&shown).unwrap()["origin"];
    assert_eq!((&origin["name"], &origin["parent"]["kind"]), (&name(2).into(), &"stage3 definition".into()), "{origin}");
    // Packages of two profiles, of which one is the other's artifact, and a program in each.
    let second = format!("second-{}", std::process::id());
    let artifact = shared.artifact();
    let own = place.with_config(shared.config("two-profiles"));
    own.run(&["keys", "import", "--trust", "sign_key.asc"]).ok();
    own.run(&["bootstrap", &second, artifact.to_str().unwrap(), "--no-rebuild"]).ok();
    let second = format!("profile/{second}");
    let packages = place.run(&["diff", "profile/demo/upstream", &second, "--packages"]).ok().text();
    assert!(packages.contains("app-misc/greeter"), "{packages}");
    // The artifact has no logs.
    let files = place.run(&["diff", &format!("kept/{}", name(2)), &second, "--files", "/var/log"]).ok().text();
    assert!(files.contains("D /var/log/"), "{files}");
    for state in [&second, &format!("kept/{}", name(2))] {
        assert_eq!(place.run(&["shell", state, "--", "hello"]).ok().text(), "Hello, world!\n", "{state}");
    }
}
