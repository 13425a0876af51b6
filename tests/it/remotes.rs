//! Remotes: a state that comes from one is the one that was pushed, what does not count is refused, and no failure of a remote is one of a
//! build.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::child;
use crate::folder::{Folder, Lent, another, builder, digests, names, trust};
use crate::host;
use crate::place::{Place, Ran, command_line, finish, run};
use crate::registry::{Kind, PASSWORD, Registry};
use crate::remote_packages::{self, Packages};
use crate::shared::shared;
use crate::tiny::{Tiny, tiny};

/// Fails unless both states make the same artifact.
fn same_exports(one: (&Place, &str), other: (&Place, &str), format: &str) {
    let [one, other] = [one, other].map(|(place, state)| {
        let dir = place.path("exported");
        drop(fs::remove_dir_all(&dir));
        fs::create_dir(&dir).unwrap();
        let file = dir.join("it");
        place.run(&["export", state, "--no-sign", "--format", format, "-o", file.to_str().unwrap()]).ok();
        // An image is a directory.
        let packed = ["--sort=name", "--mtime=@0", "-cf", "-", "."];
        if file.is_dir() { child::check(Command::new("tar").arg("-C").arg(file).args(packed)) } else { fs::read(file).unwrap() }
    });
    assert!(one == other, "{format} differs");
}

/// What layers can have: what they hide, owners, modes, attributes, links, a pipe, names.
const EVERYTHING: &str = "
    mkdir /data /data/sub '/data/with space'; echo one > /data/one; ln /data/one /data/two; ln -s one /data/three
    chown 250:250 /data/one; chmod 4711 /data/one; mkfifo /data/pipe; echo x > '/data/with space/ü'; chmod 0 /data/sub
    truncate -s 3M /data/hole; echo tail >> /data/hole
    python3 -c 'import os; os.setxattr(\"/data/two\", \"user.note\", b\"v\")'
    rm /etc/motd; rm -r /etc/perl; mkdir /etc/perl; echo new > /etc/perl/file
    touch -d '1969-01-02 03:04:05' /data/three /data/one";

#[test]
fn a_state_that_was_pulled_is_the_one_that_was_pushed() {
    let Some(shared) = shared() else { return };
    let first = shared.place.with_config(shared.config("remotes"));
    fs::write(first.config.join("env/remote_key"), format!("{}\n", shared.key)).unwrap();
    trust(&first, &shared.key, &shared.place.path("sign_key.asc"));
    let folder = Folder::new(&shared.place, "remote-same");
    let kept = "kept/remote-everything";
    first.run(&["freshroot", "--network", "none", "--force", "--keep", &kept[5..], "--", "sh", "-ec", EVERYTHING]).ok();

    // A name that leads nowhere is told before anything is pushed.
    folder.run(&first, &["remote", "push", kept, "kept/of-nobody"]).fails(2);
    // All of its layers, and a name for each state that it was made from.
    let pushed = folder.json(&first, &["remote", "push", kept, "--json"]);
    assert_eq!(pushed["there"], 0);
    let states = pushed["states"].as_array().unwrap().len();
    assert!(states >= 3 && pushed["signer"].as_str().unwrap().ends_with(&shared.key[24..]), "{pushed}");
    let again = folder.json(&first, &["remote", "push", kept, "--json"]);
    assert_eq!((again["states"].as_array().unwrap().len(), again["there"].as_u64().unwrap()), (0, states as u64));
    let listed = folder.json(&first, &["remote", "ls", "--json"]);
    let row = listed["states"].as_array().unwrap().iter().find(|row| row["name"] == kept).unwrap().clone();
    assert_eq!((&row["here"], listed["states"].as_array().unwrap().len()), (&json!(true), states));
    let text = folder.run(&first, &["remote", "ls"]).ok().text();
    assert!(text.contains(kept) && text.contains("HERE"), "{text}");

    let Some(second) = another(&first.config) else { return };
    let pulled = folder.json(&second, &["remote", "pull", kept, "--tag", "got", "--json"]);
    assert_eq!((&pulled["state"], &pulled["signer"]), (&row["state"], &json!(shared.key)));
    assert_eq!(pulled["layers"], row["layers"]);
    assert_eq!(digests(&second, "got"), digests(&first, kept));
    same_exports((&first, kept), (&second, "got"), "tar.zst");
    // Nothing is fetched twice, and the same layers make the same blobs wherever they are packed.
    assert_eq!(folder.json(&second, &["remote", "pull", kept, "--json"])["layers"], 0);
    let other = Folder::new(&second, "other");
    let _lent = Lent::new(&first, &second);
    fs::remove_dir_all(second.path("cache/remote")).unwrap();
    other.run(&second, &["remote", "push", "got"]).ok();
    let layers = |folder: &Folder| -> Vec<Value> {
        let manifest = folder.parsed(&row["key"].as_str().unwrap().replace(':', "."));
        manifest["layers"].as_array().unwrap()[1..].to_vec()
    };
    assert_eq!(layers(&folder), layers(&other));
    second.run(&["tag", "rm", "got"]).ok();
    second.run(&["clean", "--yes"]).ok();
    first.run(&["rm", "--yes", kept]).ok();
}

#[test]
fn what_another_has_built_is_not_built_again() {
    let Some(shared) = shared() else { return };
    let first = shared.place.with_config(shared.config("remote-built"));
    fs::write(first.config.join("env/remote_key"), format!("{}\n", shared.key)).unwrap();
    trust(&first, &shared.key, &shared.place.path("sign_key.asc"));
    let folder = Folder::new(&shared.place, "remote-built");
    // By their keys: the names lead to what other tests have built last.
    let json = |args: &[&str]| serde_json::from_str::<Value>(&first.run(args).ok().text()).unwrap();
    let builder = builder(&shared, &first);
    let (plan, stored) = (json(&["pipeline", "plan", "--format", "json", "hello"]), json(&["store", "ls", "--json"]));
    let node = plan["nodes"].as_array().unwrap().iter().find(|node| node["id"] == "stage4/hello").unwrap();
    let hello = stored["states"].as_array().unwrap().iter().find(|state| state["key"] == node["key"]).unwrap();
    let push = |state: &str| folder.json(&first, &["remote", "push", state, "--json"]);
    let hello = hello["id"].as_str().unwrap();
    let (pushed, again) = (push(hello), push(hello));
    let count = pushed["packages"].as_array().unwrap().len();
    assert!(count >= 3 && again["packages_there"] == count && again["packages"] == json!([]), "{pushed} {again}");
    let own = folder.json(&first, &["remote", "ls", "--packages", "--json"])["package_rows"].clone();
    push(&builder);

    let Some(second) = another(&first.config) else { return };
    fs::write(second.config.join("env/remote"), format!("{}\n", folder.address)).unwrap();
    second.run(&["sync", "--from", shared.testbed.tree.to_str().unwrap()]).ok();
    let bootstrap = second.run(&["bootstrap", "demo", shared.testbed.stage3.to_str().unwrap()]).ok();
    for what in ["the stage3", "gentoomuch/builder"] {
        assert!(bootstrap.stderr.contains(&folder.address), "{what}: {bootstrap}");
    }
    assert_eq!(bootstrap.text().matches("  (fetched)").count(), 2, "{bootstrap}");
    let _lent = Lent::new(&first, &second);
    let planned = second.run(&["pipeline", "--dry-run", "hello"]).ok().text();
    let plans: Vec<&str> = planned.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(plans[..4], ["PLAN", "fetch", "fetch", "build"], "{planned}");
    assert!(planned.ends_with("2 to fetch and 1 to build of 3 nodes\n"), "{planned}");
    // One node of another engine, on a machine that has none of those before it.
    let ran = second.run(&["pipeline", "node", "stage4/hello"]).ok().says("came from dir:").text();
    let row = ran.lines().find(|line| line.starts_with("stage4/hello ")).unwrap_or_else(|| panic!("{ran}"));
    assert_eq!(row.split_whitespace().nth(1), Some("fetched"), "{ran}");
    let built = second.run(&["stage", "build", "hello", "--format", "tar.zst"]).ok();
    let [ours, theirs] = [&shared.artifact(), Path::new(&built.value("artifact"))].map(|path| fs::read(path).unwrap());
    assert!(ours == theirs, "the artifacts differ");
    let logs = names(&second.path("data/logs"));
    let emerged = logs.iter().filter(|run| second.path("data/logs").join(run).join("emerge.log").exists());
    assert_eq!(emerged.count(), 0, "{logs:?}");
    // What is here is not asked for.
    second.run(&["stage", "build", "hello", "--format", "tar.zst"]).ok().says_nothing_of("came from");
    let keyring = fs::read_link(shared.place.path("gnupg")).unwrap();
    let packages =
        Packages { folder: &folder, second: &second, keyring, signer: &shared.key, distfiles: &shared.testbed.distfiles, own };
    remote_packages::replaced(&packages, || push(hello));
    remote_packages::refused(&packages);
    remote_packages::merged(&packages);
}

/// Two places and a folder to which the first has pushed its profile, and whose signer the second trusts.
struct Pair {
    first: Tiny,
    second: Place,
    folder: Folder,
    /// Of the imported stage3.
    key: String,
}

fn pair() -> Option<Pair> {
    let first = tiny()?;
    std::os::unix::fs::symlink(&first.gpg.home, first.place.path("gnupg")).unwrap();
    let signer = first.gpg.key("States <states@example.org>", "never");
    first.gpg.export(&signer, &first.place.path("states.asc"));
    fs::write(first.place.path("config/env/remote_key"), format!("{signer}\n")).unwrap();
    let second = another(&first.place.config)?;
    trust(&second, &signer, &first.place.path("states.asc"));
    trust(&first.place, &signer, &first.place.path("states.asc"));
    let folder = Folder::new(&first.place, "folder");
    let stage3 = first.stage3.to_str().unwrap().to_owned();
    folder.run(&first.place, &["--push", "bootstrap", "--no-rebuild", "demo", &stage3]).ok().says("pushed ");
    let listed = folder.json(&first.place, &["remote", "ls", "--json"]);
    let key = listed["states"][0]["key"].as_str().unwrap().to_owned();
    Some(Pair { first, second, folder, key })
}

impl Pair {
    fn pull(&self) -> Ran {
        self.folder.run(&self.second, &["remote", "pull", &self.key])
    }

    /// Signs a changed statement, as somebody would who counts, and has the manifest name it.
    fn restate(&self, change: impl Fn(&mut Value), signer: &str) {
        let mut manifest = self.folder.parsed(&self.key);
        let statement = fs::read_to_string(self.folder.blob(manifest["layers"][0]["digest"].as_str().unwrap())).unwrap();
        let text = statement.split_once("\n\n").unwrap().1.split_once("-----BEGIN PGP SIGNATURE").unwrap().0;
        let mut value: Value = serde_json::from_str(text).unwrap();
        change(&mut value);
        let signed = self.first.place.path("statement");
        drop(fs::remove_file(&signed));
        self.first.gpg.clear_sign(signer, &(serde_json::to_string_pretty(&value).unwrap() + "\n"), &signed, None);
        let (digest, size) = self.folder.put(&fs::read(signed).unwrap());
        manifest["layers"][0]["digest"] = json!(digest);
        manifest["layers"][0]["size"] = json!(size);
        fs::write(self.folder.manifest(&self.key), manifest.to_string()).unwrap();
    }

    /// Has the state's only layer be this tar, signed by who counts.
    fn with_layer(&self, tar: &Path, signer: &str) {
        let packed = self.first.place.path("layer.tar.zst");
        child::check(Command::new("zstd").args(["-qf"]).arg(tar).arg("-o").arg(&packed));
        let (digest, size) = self.folder.put(&fs::read(packed).unwrap());
        self.restate(
            |statement| {
                statement["states"][0]["layers"][0]["blob"] = json!(digest);
                statement["states"][0]["layers"][0]["size"] = json!(size);
            },
            signer,
        );
    }
}

#[test]
fn what_nobody_who_counts_has_signed_is_refused() {
    let Some(pair) = pair() else { return };
    let Pair { first, second, folder, key } = &pair;
    let good = fs::read(folder.manifest(key)).unwrap();
    let manifest = folder.parsed(key);
    let digest = |at: usize| manifest["layers"][at]["digest"].as_str().unwrap().to_owned();
    let signer = fs::read_to_string(first.place.path("config/env/remote_key")).unwrap().trim().to_owned();
    let back = || fs::write(folder.manifest(key), &good).unwrap();

    // Trusted for stage3s is not trusted for remotes.
    pair.restate(|_| (), &first.key);
    pair.pull().fails(4).says("has a state that does not count");
    back();
    // Nothing else of it is believed either.
    let edited = |change: &dyn Fn(&mut Value)| {
        let mut edited = manifest.clone();
        change(&mut edited);
        fs::write(folder.manifest(key), edited.to_string()).unwrap();
    };
    edited(&|manifest| drop(manifest["layers"].as_array_mut().unwrap().remove(0)));
    pair.pull().fails(4).says("nobody has signed it");
    edited(&|manifest| manifest["artifactType"] = json!("application/vnd.example"));
    pair.pull().fails(4).says("another kind of thing");
    edited(&|manifest| manifest["config"]["size"] = json!(1_u64 << 40));
    pair.pull().fails(4).says("is larger than");
    edited(&|manifest| manifest["config"] = manifest["layers"][0].clone());
    pair.pull().fails(4).says("its origin is not the one that was signed");
    fs::write(folder.manifest(key), "{").unwrap();
    pair.pull().fails(4).says("the manifest cannot be read");
    let row = folder.json(second, &["remote", "ls", "--json"])["states"][0].clone();
    assert_eq!(row["flaw"], "the manifest cannot be read");
    fs::remove_file(folder.manifest(key)).unwrap();
    child::check(Command::new("mkfifo").arg(folder.manifest(key)));
    pair.pull().fails(1).says("is not a regular file");
    let row = folder.json(second, &["remote", "ls", "--json"])["states"][0].clone();
    assert!(row["flaw"].as_str().is_some_and(|flaw| flaw.ends_with("is not a regular file")), "{row}");
    fs::remove_file(folder.manifest(key)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.manifest(key)).unwrap();
    pair.pull().fails(1);
    fs::remove_file(folder.manifest(key)).unwrap();
    back();
    // The state of one key in the place of another one.
    let other = "0".repeat(64);
    fs::write(folder.manifest(&other), &good).unwrap();
    let mut forged: Value = manifest.clone();
    let pull_other = || folder.run(second, &["remote", "pull", &other]);
    pull_other().fails(4).says(&format!("it is of another key: {key}"));
    forged["annotations"]["vnd.gentoomuch.key"] = json!(other);
    fs::write(folder.manifest(&other), forged.to_string()).unwrap();
    pull_other().fails(4).says(&format!("it is of another key: {key}"));
    fs::remove_file(folder.manifest(&other)).unwrap();
    pull_other().fails(2).says("has no state");
    // A statement of something else, and one whose origin has more than is signed.
    pair.restate(|statement| statement["statement"] = json!("gentoomuch remote packages 1"), &signer);
    pair.pull().fails(4).says("another kind of thing");
    back();
    pair.restate(|statement| statement["states"][0]["layers"] = json!([]), &signer);
    pair.pull().fails(4).says("it lacks a part");
    back();
    pair.restate(|statement| statement["states"][0]["layers"][0]["contents"] = json!(digest(1)), &signer);
    pair.pull().fails(4).says("it lacks a part");
    back();
    // Garbled, cut and missing blobs.
    let layer = folder.blob(&digest(1));
    let whole = fs::read(&layer).unwrap();
    fs::set_permissions(&layer, fs::Permissions::from_mode(0o644)).unwrap();
    let mut garbled = whole.clone();
    garbled[100] ^= 1;
    for bytes in [garbled.as_slice(), &whole[..whole.len() - 1]] {
        fs::write(&layer, bytes).unwrap();
        pair.pull().fails(4).says("sent other bytes than");
    }
    // One that has the right size is found out when it is sent again.
    fs::write(&layer, &garbled).unwrap();
    folder.run(&first.place, &["remote", "rm", "--yes", key]).ok();
    folder.run(&first.place, &["remote", "push", "profile/demo/upstream"]).ok();
    assert_eq!(fs::read(&layer).unwrap(), whole);
    fs::rename(&layer, first.place.path("away")).unwrap();
    pair.pull().fails(1).says("has no blob");
    // A build only says so.
    let stage3 = first.stage3.to_str().unwrap();
    folder.run(second, &["bootstrap", "--no-rebuild", "demo", stage3]).ok().says("warning: ").says("is built here: ");
    // And a push mends what is not whole.
    let pushed = folder.json(&first.place, &["remote", "push", "profile/demo/upstream", "--json"]);
    assert_eq!(pushed["states"].as_array().unwrap().len(), 1);
    assert_eq!(fs::read(&layer).unwrap(), whole);
    pair.pull().ok();
}

/// Somebody who never answers keeps nobody else waiting.
#[test]
fn a_slow_remote_keeps_nobody_from_cleaning() {
    let Some(first) = tiny() else { return };
    let place = &first.place;
    std::os::unix::fs::symlink(&first.gpg.home, place.path("gnupg")).unwrap();
    fs::write(place.path("config/env/remote_key"), format!("{}\n", first.key)).unwrap();
    first.another("demo", "x");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("oci+http://{}/team/states", listener.local_addr().unwrap());
    for verb in ["pull", "push"] {
        // Without anything to remove, nobody would wait.
        first.another(verb, verb);
        place.run(&["profile", "rm", verb]).ok();
        let mut command = place.command(&["--remote", &address, "remote", verb, "profile/demo/upstream"]);
        let mut running = child::spawn(&mut command);
        let (_asked, _) = listener.accept().unwrap();
        place.run(&["--no-wait", "clean", "--yes"]).ok();
        assert_eq!(place.list()["states"].as_array().unwrap().len(), 1);
        running.child().kill().unwrap();
        drop(running.output());
    }
}

/// A store can hold more than the importer of others takes.
#[test]
fn what_nobody_could_pull_is_not_pushed() {
    let Some(pair) = pair() else { return };
    let Pair { first, folder, .. } = &pair;
    let push = |name: &str, make: &str| {
        let state = first.keep(name, "profile/demo/upstream", 1);
        let etc = first.place.store().join(format!("layers/{}/fs/etc", state.layers.last().unwrap()));
        child::check(Command::new("python3").args(["-c", make]).arg(etc));
        folder.run(&first.place, &["remote", "push", &format!("kept/{name}")])
    };
    let deep = "import os, sys\nos.chdir(sys.argv[1])\nfor n in range(520): os.mkdir('d'); os.chdir('d')";
    push("deep", deep).fails(1).says("refused entry `etc/d/d").says("it lies deeper than 512 directories");
    let attributes = |name: &str, count: u32| {
        format!("import os, sys\nfor n in range({count}): os.setxattr(sys.argv[1] + '/{name}', f'user.{{n}}', b'')")
    };
    let before = folder.files();
    push("many", &attributes("many", 129)).fails(1).says("refused entry `etc/many`").says("attributes exceed 128");
    assert_eq!(folder.files(), before, "nothing half is left");
    push("some", &attributes("some", 128)).ok();
    folder.run(&pair.second, &["remote", "pull", "kept/some"]).ok();
}

/// Who may write to the folder, and has no key, gives an old state the name, the id, the date of another one.
#[test]
fn names_that_nobody_has_signed_lead_nowhere() {
    let Some(pair) = pair() else { return };
    let Pair { first, second, folder, key } = &pair;
    first.another("other", "x");
    folder.run(&first.place, &["remote", "push", "profile/other"]).ok();
    let rows = folder.json(second, &["remote", "ls", "--json"])["states"].as_array().unwrap().clone();
    let row = rows.iter().find(|row| row["name"] == "profile/other/upstream").unwrap();
    let (other, state) = (row["key"].as_str().unwrap(), row["state"].as_str().unwrap());
    let manifest = folder.parsed(key);
    let pull = |wanted: &str| folder.run(second, &["remote", "pull", wanted, "--tag", "got"]);
    let relabelled = |name: &str, value: &str| {
        let mut changed = folder.parsed(key);
        changed["annotations"][name] = json!(value);
        fs::write(folder.manifest(key), changed.to_string()).unwrap();
    };
    let back = || fs::write(folder.manifest(key), manifest.to_string()).unwrap();

    relabelled("vnd.gentoomuch.name", "profile/other/upstream");
    relabelled("org.opencontainers.image.created", "9999-01-01T00:00:00Z");
    pull("profile/other/upstream").fails(4).says("it is not `profile/other/upstream`, but says so");
    pull("profile/demo/upstream").fails(2);
    back();
    relabelled("org.opencontainers.image.created", "9999-01-01T00:00:00Z");
    pull("profile/demo/upstream").fails(4).says("it is not `profile/demo/upstream of 9999-");
    // What looks like the beginning of a key is no name.
    back();
    relabelled("vnd.gentoomuch.name", &other[..12]);
    pull(&other[..12]).ok().says_nothing_of(key.as_str());
    // Two say that they are this state.
    back();
    relabelled("vnd.gentoomuch.state", state);
    pull(state).fails(2);
    fs::rename(folder.manifest(other), first.place.path("away")).unwrap();
    pull(state).fails(4).says(&format!("it is not `{state}`, but says so"));
}

/// A state that comes from a remote may bring others along, and says itself when it was built.
#[test]
fn what_was_built_here_goes_before_what_came() {
    let Some(pair) = pair() else { return };
    let Pair { first, second, folder, .. } = &pair;
    first.replace("y");
    let stage3 = first.stage3.to_str().unwrap();
    let own = || {
        second.run(&["bootstrap", "--no-rebuild", "own", stage3]).ok();
        let shown: Value = serde_json::from_str(&second.run(&["store", "show", "profile/own", "--json"]).ok().text()).unwrap();
        (shown["id"].clone(), shown["key"].as_str().unwrap().to_owned())
    };
    let before = own();
    folder.run(&first.place, &["--push", "bootstrap", "--no-rebuild", "own", stage3]).ok().says("pushed ");
    let pulled = folder.json(second, &["remote", "pull", &before.1, "--json"]);
    assert_ne!(pulled["state"], before.0, "the test is about two states with one key");
    assert_eq!(own(), before);
}

#[test]
fn a_hostile_layer_is_refused_by_the_importer() {
    let Some(pair) = pair() else { return };
    let signer = fs::read_to_string(pair.first.place.path("config/env/remote_key")).unwrap().trim().to_owned();
    let tar = pair.first.place.path("hostile.tar");
    let script = |entry: &str| {
        format!(
            "import tarfile, io\nt = tarfile.open({:?}, 'w', format=tarfile.PAX_FORMAT)\n\
             d = tarfile.TarInfo('./'); d.type = tarfile.DIRTYPE; d.mode = 0o755; t.addfile(d)\n{entry}\nt.addfile(i)\nt.close()\n",
            tar.display().to_string()
        )
    };
    let table = [
        ("i = tarfile.TarInfo('./a'); i.pax_headers = {'SCHILY.xattr.user.overlay.redirect': '/etc'}", "would speak to overlayfs"),
        ("i = tarfile.TarInfo('./a'); i.pax_headers = {'SCHILY.xattr.user.overlay.opaque': 'y'}", "would speak to overlayfs"),
        (
            "i = tarfile.TarInfo('./a'); i.type = tarfile.DIRTYPE; i.pax_headers = {'SCHILY.xattr.user.overlay.opaque': 'x'}",
            "would speak to overlayfs",
        ),
        ("i = tarfile.TarInfo('./a'); i.pax_headers = {'SCHILY.xattr.trusted.overlay.metacopy': ''}", "would speak to overlayfs"),
        ("i = tarfile.TarInfo('./dev/sda'); i.type = tarfile.BLKTYPE; i.devmajor = 8", "device node"),
        ("i = tarfile.TarInfo('./kmem'); i.type = tarfile.CHRTYPE; i.devmajor = 1; i.devminor = 2", "device node"),
        ("i = tarfile.TarInfo('../../up')", "`..` component"),
        ("i = tarfile.TarInfo('/etc/x')", "absolute"),
        (
            "i = tarfile.TarInfo('./l'); i.type = tarfile.SYMTYPE; i.linkname = '/'; t.addfile(i); i = tarfile.TarInfo('./l/x')",
            "not a directory",
        ),
        ("i = tarfile.TarInfo('./l'); i.type = tarfile.LNKTYPE; i.linkname = '/etc/passwd'", "hard link"),
        // All of it is allowed, and it is not what was sealed.
        ("i = tarfile.TarInfo('./more')", "has the digest sha256:"),
    ];
    for (entry, words) in table {
        child::check(Command::new("python3").args(["-c", &script(entry)]));
        pair.with_layer(&tar, &signer);
        let ran = pair.pull();
        assert!(!ran.status.success(), "{entry}: {ran}");
        ran.says(words);
        assert!(names(&pair.second.store().join("layers")).is_empty() && names(&pair.second.store().join("states")).is_empty());
    }
    // Larger than a layer of this size can be.
    child::check(
        Command::new("sh").args(["-c", "truncate -s 5G \"$1\" && tar -C / -rf \"$1\" etc/passwd || true", "sh"]).arg(&tar),
    );
    fs::remove_file(&tar).unwrap();
}

#[test]
fn a_remote_that_is_not_there_or_takes_nothing_is_no_failure_of_a_build() {
    let Some(first) = tiny() else { return };
    let stage3 = first.stage3.to_str().unwrap();
    let gone = format!("dir:{}", first.place.path("not-mounted").display());
    let ran = first.place.run(&["--remote", &gone, "--push", "bootstrap", "--no-rebuild", "demo", stage3]).ok();
    let ran = ran.says("the remote is not used: the folder of `dir:").says_nothing_of("warning");
    assert_eq!(ran.stderr.matches("is not there").count(), 1, "{ran}");
    assert!(!first.place.path("not-mounted").exists());
    first.place.run(&["--remote", &gone, "remote", "ls"]).fails(1).says("hint: mount it");
    first.place.run(&["remote", "ls"]).fails(2).says("hint: name it with");
    first.place.run(&["--remote", "nowhere", "remote", "ls"]).fails(2);

    // Nobody can sign.
    let folder = Folder::new(&first.place, "folder");
    folder.run(&first.place, &["remote", "push", "profile/demo"]).fails(7).says("env/remote_key");
    assert!(names(&folder.dir.join("manifests")).is_empty());
    // That is said before anything is built, once, and all is built.
    first.replace("z");
    let unsigned = folder.run(&first.place, &["--push", "bootstrap", "--no-rebuild", "unsigned", stage3]).ok();
    let words = "warning: what is built is not pushed: cannot sign for `dir:";
    assert_eq!(unsigned.stderr.matches(words).count(), 1, "{unsigned}");
    assert!(unsigned.stderr.find(words) < unsigned.stderr.find("unpacking"), "{unsigned}");
    assert!(names(&folder.dir.join("blobs/sha256")).is_empty());
    // The signature is what comes last but for the name.
    std::os::unix::fs::symlink(&first.gpg.home, first.place.path("gnupg")).unwrap();
    fs::write(first.place.path("config/env/remote_key"), format!("{}\n", first.key)).unwrap();
    folder.run(&first.place, &["remote", "push", "profile/demo"]).ok();
    // Who finds all there needs no key, only to know whose counts.
    first.place.run(&["keys", "trust", &first.key, "--for", "remote"]).ok();
    fs::write(first.place.path("config/env/remote_key"), format!("{}\n", "0".repeat(40))).unwrap();
    let again = folder.run(&first.place, &["remote", "push", "profile/demo"]).ok().text();
    assert_eq!(again, "there    1 state\n");
    fs::write(first.place.path("config/env/remote_key"), format!("{}\n", first.key)).unwrap();
    // What others may only read is read.
    fs::set_permissions(folder.dir.join("manifests"), fs::Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(folder.dir.join("blobs/sha256"), fs::Permissions::from_mode(0o555)).unwrap();
    first.another("other", "x");
    folder.run(&first.place, &["remote", "push", "profile/other"]).fails(1).says("Permission denied");
    folder.run(&first.place, &["remote", "pull", "profile/demo/upstream"]).ok();
    for dir in ["manifests", "blobs/sha256"] {
        fs::set_permissions(folder.dir.join(dir), fs::Permissions::from_mode(0o755)).unwrap();
    }
    // `env/remote` is asked, and told to publish; `none` is nobody.
    fs::write(first.place.path("config/env/remote"), format!("{} push  # ours\n", folder.address)).unwrap();
    let listed = |args: &[&str]| first.place.run(&[args, &["remote", "ls"]].concat());
    listed(&[]).ok();
    listed(&["--remote", "none"]).fails(2);
    fs::write(first.place.path("config/env/remote"), "dir:relative\n").unwrap();
    listed(&[]).fails(3).says("env/remote:1").says("is not an absolute path");
}

#[test]
fn what_is_removed_goes_and_only_what_nobody_needs_is_collected() {
    let Some(pair) = pair() else { return };
    let Pair { first, folder, key, .. } = &pair;
    let place = &first.place;
    first.another("other", "y");
    folder.run(place, &["remote", "push", "profile/other"]).ok();
    let blobs = folder.blobs().len();
    folder.run(place, &["remote", "rm", key]).fails(2);
    let removed = folder.json(place, &["remote", "rm", "--yes", key, "--json"]);
    assert_eq!(removed["keys"], json!([key]));
    // Young ones may belong to a push that goes on.
    assert_eq!(folder.json(place, &["remote", "gc", "--json"])["blobs"], 0);
    let planned = folder.json(place, &["remote", "gc", "--older-than", "0h", "--dry-run", "--json"]);
    assert_eq!((&planned["blobs"], &planned["removed"], folder.blobs().len()), (&json!(3), &json!(false), blobs));
    assert_eq!(folder.run(place, &["remote", "gc", "--older-than", "0h"]).ok().text().split(',').next(), Some("removed  3 blobs"));
    assert_eq!(folder.blobs().len(), blobs - 3);
    folder.run(place, &["remote", "pull", "profile/other/upstream"]).ok();
    fs::write(folder.dir.join("manifests/latest"), "not a manifest").unwrap();
    folder.run(place, &["remote", "gc", "--older-than", "0h"]).fails(4).says("`latest` in `dir:");
}

#[test]
fn pushes_that_are_killed_or_race_leave_nothing_half_there() {
    let Some(pair) = pair() else { return };
    let Pair { first, second, folder, .. } = &pair;
    let place = &first.place;
    let files = folder.files();
    // Killed where its first blob has come.
    first.another("large", "z");
    let empty = Folder::new(place, "killed");
    let args = ["--remote", &empty.address, "remote", "push", "profile/large"];
    let mut command = place.command(&args);
    let mut running = child::spawn(&mut command);
    while empty.blobs().is_empty() && running.child().try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    running.child().kill().unwrap();
    drop(running.output());
    let manifests = names(&empty.dir.join("manifests"));
    if manifests.is_empty() {
        empty.run(second, &["remote", "pull", "profile/large/upstream"]).fails(2);
    }
    empty.run(place, &args[2..]).ok();
    empty.run(second, &["remote", "pull", "profile/large/upstream"]).ok();
    // Two at once, of the same.
    let raced = Folder::new(place, "raced");
    let args = ["--remote", &raced.address, "remote", "push", "profile/demo"];
    let both = [0, 1].map(|_| {
        let mut command = place.command(&args);
        (command_line(&command), child::spawn(&mut command))
    });
    for (what, running) in both {
        finish(what, running).ok();
    }
    let hidden: Vec<String> = raced.blobs().into_iter().filter(|name| name.starts_with('.')).collect();
    assert!(hidden.is_empty(), "{hidden:?}");
    raced.run(second, &["remote", "pull", "profile/demo/upstream"]).ok();
    // Times in images depend on the states that each layer was made for.
    first.keep("more", "profile/demo/upstream", 2);
    raced.run(place, &["remote", "push", "kept/more"]).ok();
    raced.run(second, &["remote", "pull", "kept/more", "--tag", "more"]).ok();
    // An image has the name by which it was exported.
    place.run(&["tag", "kept/more", "more"]).ok();
    same_exports((place, "more"), (second, "more"), "oci");
    assert_eq!(folder.files(), files);
    assert!(host::has("zstd"));
}

#[test]
fn a_registry_is_a_remote_as_a_folder_is() {
    let Some(first) = tiny() else { return };
    let Ok(registry) = Registry::new(Kind::Secure).map_err(|why| host::skip(&why)) else { return };
    std::os::unix::fs::symlink(&first.gpg.home, first.place.path("gnupg")).unwrap();
    fs::write(first.place.path("config/env/remote_key"), format!("{}\n", first.key)).unwrap();
    first.place.run(&["keys", "trust", &first.key, "--for", "remote"]).ok();
    let Some(second) = another(&first.place.config) else { return };
    let address = format!("oci://{}/team/states", registry.host());
    let asked = |place: &Place, password: &str, args: &[&str]| {
        let mut command = place.command(&[&["--remote", &address], args].concat());
        run(command.env("REGISTRY_AUTH_FILE", registry.login(password)).env("SSL_CERT_FILE", registry.authority()))
    };
    let json = |ran: Ran| -> Value { serde_json::from_str(&ran.ok().text()).unwrap() };
    let bootstrap = ["--push", "bootstrap", "--no-rebuild", "demo", first.stage3.to_str().unwrap()];
    // Who is not let in builds.
    asked(&first.place, "wrong", &bootstrap).ok().says("warning: ").says("refuses access");
    let pushed = json(asked(&first.place, PASSWORD, &["remote", "push", "profile/demo/upstream", "--json"]));
    assert_eq!(pushed["states"].as_array().unwrap().len(), 1);
    assert_eq!(json(asked(&first.place, PASSWORD, &["remote", "push", "profile/demo", "--json"]))["there"], 1);
    let row = json(asked(&second, PASSWORD, &["remote", "ls", "--json"]))["states"][0].clone();
    assert_eq!((&row["name"], &row["here"]), (&json!("profile/demo/upstream"), &json!(false)));
    asked(&second, PASSWORD, &bootstrap[1..]).ok().says("came from oci://").says_nothing_of("unpacking the stage3");
    assert_eq!(second.list()["states"][0]["id"], first.place.list()["states"][0]["id"]);
    assert_eq!(json(asked(&second, PASSWORD, &["remote", "gc", "--json"]))["by_registry"], true);
    asked(&second, PASSWORD, &["remote", "rm", "--yes", "profile/demo/upstream"]).ok();
    asked(&second, PASSWORD, &["remote", "ls"]).ok();
    let port = registry.host();
    drop(registry);
    let ran = second.run(&["--remote", &format!("oci://{port}/team/states"), "remote", "ls"]);
    assert!(!ran.status.success() && ran.stderr.contains("cannot ask `oci://"), "{ran}");
}
