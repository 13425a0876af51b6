//! Packages in a remote: merged where no state fits, and refused unless they are what somebody who counts has signed.

use std::collections::BTreeSet;
use std::fs;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::folder::{Folder, names};
use crate::gpg::Gpg;
use crate::place::{Place, Ran, copy, packages_below};
use crate::shared::small_world;

const GREETER: &str = "app-misc/greeter-1.0";
const ODDFILES: &str = "app-misc/oddfiles-1.0";

/// A folder to which a state was pushed with its packages, and a place that trusts who signed it.
pub(crate) struct Packages<'a> {
    pub(crate) folder: &'a Folder,
    pub(crate) second: &'a Place,
    /// The keyring of who signs, and its key.
    pub(crate) keyring: PathBuf,
    pub(crate) signer: &'a str,
    /// What the second place can compile from.
    pub(crate) distfiles: &'a Path,
    /// The rows of the state's own packages: the builder has others of the same names.
    pub(crate) own: Value,
}

impl Packages<'_> {
    /// All that the list says of packages.
    fn listed(&self) -> Vec<Value> {
        let listed = self.folder.json(self.second, &["remote", "ls", "--packages", "--json"]);
        let rows = listed["package_rows"].as_array().unwrap().clone();
        assert_eq!(listed["packages"], rows.len());
        rows
    }

    /// The key of one of the state's packages.
    fn key(&self, name: &str) -> String {
        let rows: Vec<&Value> = self.own.as_array().unwrap().iter().filter(|row| row["name"] == name).collect();
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows[0]["key"].as_str().unwrap().to_owned()
    }

    fn manifest(&self, key: &str) -> PathBuf {
        self.folder.dir.join(format!("manifests/package-{key}"))
    }

    /// The files in the pools of the second place, without their build numbers.
    fn pooled(&self) -> BTreeSet<String> {
        let files = packages_below(&self.second.path("cache/binpkgs"), "");
        files.iter().map(|file| file.file_name().unwrap().to_str().unwrap().rsplit_once('-').unwrap().0.to_owned()).collect()
    }

    /// Has the manifest of `key` name another origin and another file, signed by `gpg`.
    fn forge(&self, key: &str, gpg: &Gpg, signer: &str, change: impl Fn(&mut Value, &mut Value)) {
        let mut manifest: Value = serde_json::from_slice(&fs::read(self.manifest(key)).unwrap()).unwrap();
        let of = |descriptor: &Value| fs::read(self.folder.blob(descriptor["digest"].as_str().unwrap())).unwrap();
        let statement = String::from_utf8(of(&manifest["layers"][0])).unwrap();
        let text = statement.split_once("\n\n").unwrap().1.split_once("-----BEGIN PGP SIGNATURE").unwrap().0;
        let mut statement: Value = serde_json::from_str(text).unwrap();
        let mut origin: Value = serde_json::from_slice(&of(&manifest["config"])).unwrap();
        let signed = statement["packages"].as_array_mut().unwrap().iter_mut().find(|signed| signed["key"] == key).unwrap();
        change(signed, &mut origin);
        let (digest, size) = self.folder.put(origin.to_string().as_bytes());
        (signed["origin"], manifest["config"]["digest"], manifest["config"]["size"]) = (json!(digest), json!(digest), json!(size));
        let file = self.second.path("statement");
        drop(fs::remove_file(&file));
        gpg.clear_sign(signer, &(statement.to_string() + "\n"), &file, None);
        let (digest, size) = self.folder.put(&fs::read(file).unwrap());
        (manifest["layers"][0]["digest"], manifest["layers"][0]["size"]) = (json!(digest), json!(size));
        fs::write(self.manifest(key), manifest.to_string()).unwrap();
    }

    /// Defines a stage3 that rebuilds `greeter`, whose state nobody has, and builds it. Returns what it said and the log of emerge.
    fn build(&self, name: &str) -> (Ran, String) {
        small_world(&self.second.config, "app-misc/greeter");
        let config = |file: &str| format!("config/{file}");
        for (file, text) in [("cpu", "generic-amd64"), ("portage.local", ""), ("packages", "")] {
            self.second.write(&config(&format!("stage3.defines/{name}/{file}")), format!("{text}\n"));
        }
        for (file, text) in [("profile", "demo"), ("stage3", name), ("packages", "")] {
            self.second.write(&config(&format!("stage4.defines/{name}/{file}")), format!("{text}\n"));
        }
        let ran = self.second.run(&["pipeline", "node", &format!("stage3/demo/{name}")]).ok();
        let logs = self.second.path("data/logs");
        let is_it = |run: &String| run.contains(name) && logs.join(run).join("emerge.log").exists();
        let run = names(&logs).into_iter().find(is_it).unwrap_or_else(|| panic!("no log in {:?}", names(&logs)));
        let log = fs::read_to_string(logs.join(run).join("emerge.log")).unwrap();
        (ran, log)
    }

    fn forget_pools(&self) {
        fs::remove_dir_all(self.second.path("cache/binpkgs")).unwrap();
    }

    /// What is refused leaves nothing behind.
    fn assert_nothing_came(&self) {
        assert_eq!(self.pooled(), BTreeSet::new());
        let left: Vec<String> = names(&self.second.path("cache/remote"))
            .into_iter()
            .filter(|name| Path::new(name).extension() != Some("json".as_ref()))
            .collect();
        assert_eq!(left, Vec::<String>::new());
    }
}

/// A push leaves what is there, but for what is not whole or is older.
pub(crate) fn replaced(packages: &Packages<'_>, push: impl Fn() -> Value) {
    let Packages { keyring, signer, .. } = packages;
    let gpg = ManuallyDrop::new(Gpg { home: keyring.clone() });
    let key = packages.key(GREETER);
    let only_it = || {
        let pushed = push();
        assert_eq!(pushed["packages"], json!([GREETER]), "{pushed}");
        assert_eq!(pushed["packages_there"], json!(packages.own.as_array().unwrap().len() - 1), "{pushed}");
        assert_eq!(push()["packages"], json!([]));
    };
    fs::write(packages.manifest(&key), "{}").unwrap();
    only_it();
    packages.forge(&key, &gpg, signer, |_, origin| origin["entry"]["MTIME"] = json!("1000000000"));
    only_it();
    // Somebody has built it later: that stays.
    let soon = (jiff::Timestamp::now().as_second() + 60).to_string();
    packages.forge(&key, &gpg, signer, |_, origin| origin["entry"]["MTIME"] = json!(soon));
    assert_eq!(push()["packages"], json!([]));
    fs::write(packages.manifest(&key), "{}").unwrap();
    only_it();
}

/// What the folder has of `greeter` in place of the package that was pushed.
pub(crate) fn refused(packages: &Packages<'_>) {
    let Packages { folder, second, keyring, signer, distfiles, .. } = packages;
    // It belongs to who lends it.
    let gpg = ManuallyDrop::new(Gpg { home: keyring.clone() });
    let (greeter, oddfiles) = (packages.key(GREETER), packages.key(ODDFILES));
    let good = fs::read(packages.manifest(&greeter)).unwrap();
    let pull = || folder.run(second, &["remote", "pull", &greeter]);
    let refused = |words: &str| {
        pull().fails(4).says(words);
        fs::write(packages.manifest(&greeter), &good).unwrap();
        packages.assert_nothing_came();
    };
    drop(fs::remove_dir_all(second.path("cache/binpkgs")));

    let stranger = Gpg::new();
    let unknown = stranger.key("Stranger <stranger@example.org>", "never");
    packages.forge(&greeter, &stranger, &unknown, |_, _| ());
    refused("has a package that does not count");
    // Another package in its place, as it was signed, under its own key or under this one.
    let other = fs::read_to_string(packages.manifest(&oddfiles)).unwrap();
    let renamed = other.replace(ODDFILES, GREETER);
    fs::write(packages.manifest(&greeter), &renamed).unwrap();
    refused("it is of another key: ");
    fs::write(packages.manifest(&greeter), renamed.replace(&oddfiles, &greeter)).unwrap();
    refused("its origin is not the one that was signed");
    // By a name that nobody has signed.
    fs::write(
        packages.manifest(&greeter),
        fs::read_to_string(packages.manifest(&greeter)).unwrap().replace(GREETER, "app-misc/alias-1"),
    )
    .unwrap();
    folder
        .run(second, &["remote", "rm", "--yes", "app-misc/alias-1"])
        .ok()
        .says("stays: it is not `app-misc/alias-1`, but says so");
    folder.run(second, &["remote", "pull", "app-misc/alias-1"]).fails(4).says("it is not `app-misc/alias-1`, but says so");
    fs::write(packages.manifest(&greeter), &good).unwrap();
    packages.assert_nothing_came();
    // Signed by who counts, and still not what it says.
    let file_of = |key: &str| -> (Value, u64) {
        let manifest: Value = serde_json::from_slice(&fs::read(packages.manifest(key)).unwrap()).unwrap();
        (manifest["layers"][1]["digest"].clone(), manifest["layers"][1]["size"].as_u64().unwrap())
    };
    let with_file = |(digest, size): (Value, u64)| {
        packages.forge(&greeter, &gpg, signer, |signed, origin| {
            (signed["blob"], signed["size"], origin["entry"]["SIZE"]) = (digest.clone(), json!(size), json!(size.to_string()));
        });
    };
    with_file(file_of(&oddfiles));
    refused(&format!("the package says that it is `{ODDFILES}::"));
    let (digest, size) = folder.put(b"no package");
    with_file((json!(digest), size as u64));
    refused("the package cannot be used");
    packages.forge(&greeter, &gpg, signer, |_, origin| origin["package_key"] = json!("0".repeat(32)));
    refused("it is of another key: ");
    for never in ["4000000000", "18446744073709551615"] {
        packages.forge(&greeter, &gpg, signer, |_, origin| origin["entry"]["MTIME"] = json!(never));
        refused("it says that it was built in the future");
    }
    packages.forge(&greeter, &gpg, signer, |_, origin| origin["entry"]["GENTOOMUCH_LIBC"] = json!("sys-libs/glibc-99"));
    refused("it is of another key: ");
    packages.forge(&greeter, &gpg, signer, |_, origin| origin["entry"]["CPV"] = json!(ODDFILES));
    refused("its entry in the index is not the one that was signed");
    packages.forge(&greeter, &gpg, signer, |_, origin| origin["entry"]["DESC"] = json!("x\n\nCPV: app-misc/other-1"));
    refused("its entry in the index is not the one that was signed");
    // Others' bytes.
    let blob = folder.blob(file_of(&greeter).0.as_str().unwrap());
    let whole = fs::read(&blob).unwrap();
    let mut garbled = whole.clone();
    garbled[2000] ^= 1;
    fs::write(&blob, &garbled).unwrap();
    refused("sent other bytes than");

    // A build says so, and compiles that package and no other one.
    copy(distfiles, &second.path("cache"));
    let (ran, log) = packages.build("garbled");
    ran.says(&format!("warning: {GREETER} is compiled here: `dir:")).says("sent other bytes than");
    assert_eq!(compiled(&log), BTreeSet::from([GREETER.to_owned()]), "{log}");
    fs::write(&blob, &whole).unwrap();
}

/// The packages that emerge compiled, by its log.
fn compiled(log: &str) -> BTreeSet<String> {
    let lines = log.lines().filter_map(|line| line.split_once(">>> Emerging (").map(|(_, rest)| rest));
    lines.filter_map(|rest| Some(rest.split_once(") ")?.1.split("::").next()?.to_owned())).collect()
}

/// Nothing is compiled where all is there, whatever the state is that is built.
pub(crate) fn merged(packages: &Packages<'_>) {
    let Packages { folder, second, signer, .. } = packages;
    packages.forget_pools();
    let (ran, log) = packages.build("merged");
    let ran = ran.says("came from dir:").says(signer);
    assert_eq!(compiled(&log), BTreeSet::new(), "{ran}\n{log}");
    assert!(log.contains(">>> Emerging binary ("), "{log}");
    let pooled = packages.pooled();
    assert!(pooled.contains("greeter-1.0"), "{pooled:?}");
    // Nobody needs it.
    assert!(!pooled.iter().any(|file| file.starts_with("oddfiles-")), "{pooled:?}");
    assert!(packages.listed().iter().any(|row| row["name"] == ODDFILES && row["here"] == false));
    assert!(packages.listed().iter().any(|row| row["name"] == GREETER && row["here"] == true));

    // Nothing is used of somebody who does not count any more.
    let trusted = second.config.join("keys/trusted");
    let before = fs::read_to_string(&trusted).unwrap();
    let others: String = before.split_inclusive('\n').filter(|line| !line.contains(*signer)).collect();
    assert_ne!(others, before);
    fs::write(&trusted, others).unwrap();
    folder.run(second, &["remote", "ls", "--packages"]).ok().says(signer).says("does not count for remotes any more");
    assert!(packages.listed().iter().all(|row| row["here"] == false));
    fs::write(&trusted, before).unwrap();

    // By hand: what is here is not fetched. The builder's is another one, of the same name.
    let pulled = |what: &str| folder.json(second, &["remote", "pull", what, "--json"])["packages"].clone();
    let key = packages.key(GREETER);
    assert_eq!(pulled(&key), json!([]));
    packages.forget_pools();
    assert_eq!([&key[..12], GREETER, &key].map(pulled), [json!([GREETER]), json!([GREETER]), json!([])]);
    folder.run(second, &["remote", "pull", GREETER, "--tag", "x"]).fails(2).says("packages have no tags");
    let removed = folder.json(second, &["remote", "rm", "--yes", GREETER, "--json"])["keys"].clone();
    assert!(removed.as_array().unwrap().len() == 2 && removed.as_array().unwrap().contains(&json!(key)), "{removed}");
    folder.run(second, &["remote", "pull", &key]).fails(2).says("has no state or package");
}
