//! Stage3s of a few kilobytes, for everything that needs no Portage.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use gentoomuch::internals::store::{NewState, Purpose, State, Store};

use crate::child;
use crate::gpg::{Gpg, beside};
use crate::place::{Place, copy, shipped_config};

/// A place with a signed stage3 and the key that signed it.
#[derive(Debug)]
pub(crate) struct Tiny {
    pub(crate) place: Place,
    pub(crate) gpg: Gpg,
    pub(crate) key: String,
    pub(crate) stage3: PathBuf,
}

/// A place whose configuration is the shipped one and trusts the key of its stage3.
pub(crate) fn tiny() -> Option<Tiny> {
    let place = Place::new()?;
    if !crate::host::has("gpg") {
        return None;
    }
    copy(&shipped_config(), &place.config);
    let gpg = Gpg::new();
    let key = gpg.key("Tiny <tiny@example.org>", "never");
    let stage3 = place.path("release/stage3-amd64-tiny-20260811T083102Z.tar.xz");
    let root = place.path("tiny");
    for dir in ["etc/portage", "usr/bin", "var/empty dir"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    fs::write(root.join("usr/bin/tool"), "#!/bin/sh\n".repeat(4000)).unwrap();
    fs::create_dir_all(stage3.parent().unwrap()).unwrap();
    child::check(Command::new("tar").arg("-C").arg(&root).args(["--owner=0", "--group=0", "-cJf"]).arg(&stage3).arg("."));
    let tiny = Tiny { place, gpg, key, stage3 };
    tiny.sign(&tiny.key, None);
    tiny.gpg.export(&tiny.key, &tiny.place.path("tiny.asc"));
    tiny.place.run(&["keys", "import", "--trust", "tiny.asc"]).ok();
    Some(tiny)
}

impl Tiny {
    /// Replaces the stage3 by another one and bootstraps it as `profile`.
    pub(crate) fn another(&self, profile: &str, mark: &str) {
        self.replace(mark);
        self.place.run(&["bootstrap", "--no-rebuild", profile, self.stage3.to_str().unwrap()]).ok();
    }

    /// Replaces the stage3 by another one.
    pub(crate) fn replace(&self, mark: &str) {
        let stage3 = self.stage3.to_str().unwrap();
        fs::write(self.place.path("tiny/etc/mark"), mark.repeat(100_000)).unwrap();
        let mut tar = Command::new("tar");
        child::check(tar.arg("-C").arg(self.place.path("tiny")).args(["--owner=0", "--group=0", "-cJf", stage3, "."]));
        self.sign(&self.key, None);
    }

    /// Keeps `layers` more layers on the state `base` as `kept/NAME`; the last of them has `/etc/NAME`. As sessions would, with files of one
    /// owner.
    pub(crate) fn keep(&self, name: &str, base: &str, layers: usize) -> State {
        let record: serde_json::Value = serde_json::from_slice(&fs::read(self.place.store().join("store.json")).unwrap()).unwrap();
        let store = Store::open(&self.place.store(), &serde_json::from_value(record["idmap"].clone()).unwrap()).unwrap();
        let mut state = store.state(&store.ref_get(base).unwrap().unwrap()).unwrap();
        for layer in 1..=layers {
            let session = store.session_create(Some(&state), Purpose::Throwaway, "").unwrap();
            fs::create_dir(session.upper().join("etc")).unwrap();
            let file = if layer == layers { name.to_owned() } else { format!("layer-{layer}") };
            fs::write(session.upper().join("etc").join(file), name).unwrap();
            let origin = serde_json::json!({ "kind": "kept session", "name": name, "parent": state.origin.json()["stage3"] });
            let key = format!("kept:{}", session.id());
            let new = NewState { key, origin: origin.into(), newest_input: 1, parent: Some(state.id.clone()) };
            state = session.commit(new).unwrap();
        }
        store.ref_set(&format!("kept/{name}"), &state.id).unwrap();
        state
    }

    /// Signs the stage3 as upstream does, by `key`.
    pub(crate) fn sign(&self, key: &str, time: Option<&str>) {
        let name = self.stage3.file_name().unwrap().to_str().unwrap();
        let contents = beside(&self.stage3, "CONTENTS.gz");
        if !contents.exists() {
            let list = child::check(Command::new("tar").arg("-tvf").arg(&self.stage3));
            fs::write(self.place.path("CONTENTS"), list).unwrap();
            let zipped = child::check(Command::new("gzip").args(["-n", "-c"]).arg(self.place.path("CONTENTS")));
            fs::write(&contents, zipped).unwrap();
        }
        let mut digests = String::new();
        for file in [&self.stage3, &contents] {
            for (title, program) in [("BLAKE2B", "b2sum"), ("SHA512", "sha512sum")] {
                digests.push_str(&format!("# {title} HASH\n{}", sum(program, file)));
            }
        }
        self.gpg.detach(key, &self.stage3, time);
        self.gpg.clear_sign(key, &digests, &beside(&self.stage3, "DIGESTS"), time);
        self.gpg.clear_sign(
            key,
            &format!("# SHA256 HASH\n{}", sum("sha256sum", &self.stage3)),
            &beside(&self.stage3, "sha256"),
            time,
        );
        assert!(digests.contains(name));
    }
}

/// What a digest program prints, with the name of the file alone.
pub(crate) fn sum(program: &str, file: &Path) -> String {
    let (dir, name) = (file.parent().unwrap(), file.file_name().unwrap());
    String::from_utf8(child::check(Command::new(program).arg(name).current_dir(dir))).unwrap()
}
