//! A shared folder as a remote, and other users who have the same configuration.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::child;
use crate::place::{Place, Ran, copy};
use crate::shared::User;
use crate::tiny::sum;

/// A shared folder in a place.
pub(crate) struct Folder {
    pub(crate) dir: PathBuf,
    pub(crate) address: String,
}

impl Folder {
    pub(crate) fn new(place: &Place, name: &str) -> Self {
        let dir = place.path(name);
        // A place that is kept has that of an earlier run.
        drop(fs::remove_dir_all(&dir));
        fs::create_dir(&dir).unwrap();
        Self { address: format!("dir:{}", dir.display()), dir }
    }

    /// Runs the program with this remote.
    pub(crate) fn run(&self, place: &Place, args: &[&str]) -> Ran {
        place.run(&[&["--remote", &self.address], args].concat())
    }

    pub(crate) fn json(&self, place: &Place, args: &[&str]) -> Value {
        serde_json::from_str(&self.run(place, args).ok().text()).unwrap()
    }

    /// The files in it, with their digests.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut files: Vec<String> = String::from_utf8(child::check(
            Command::new("sh").args(["-c", "cd \"$1\" && find . -type f -exec sha256sum {} +", "sh"]).arg(&self.dir),
        ))
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
        files.sort();
        files
    }

    /// The digests of the blobs that are there.
    pub(crate) fn blobs(&self) -> Vec<String> {
        names(&self.dir.join("blobs/sha256"))
    }

    pub(crate) fn manifest(&self, key: &str) -> PathBuf {
        self.dir.join(format!("manifests/state-{key}"))
    }

    pub(crate) fn parsed(&self, key: &str) -> Value {
        serde_json::from_slice(&fs::read(self.manifest(key)).unwrap()).unwrap()
    }

    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())
    }

    /// Puts a blob, as anybody may who can write here. Returns its digest and size.
    pub(crate) fn put(&self, bytes: &[u8]) -> (String, usize) {
        let new = self.dir.join("new");
        fs::write(&new, bytes).unwrap();
        let digest = format!("sha256:{}", sum("sha256sum", &new).split(' ').next().unwrap());
        fs::rename(new, self.blob(&digest)).unwrap();
        (digest, bytes.len())
    }
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The keyring of one place, lent to another. It goes back before that place goes, which would remove the keyring with itself.
pub(crate) struct Lent(PathBuf);

impl Lent {
    pub(crate) fn new(of: &Place, to: &Place) -> Self {
        let link = to.path("gnupg");
        std::os::unix::fs::symlink(fs::read_link(of.path("gnupg")).unwrap(), &link).unwrap();
        Self(link)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

/// Another user's place with the same configuration, and keys of nobody who signs.
pub(crate) fn another(config: &Path) -> Option<Place> {
    let place = Place::new()?;
    copy(config, &place.config);
    Some(place)
}

pub(crate) fn trust(place: &Place, key: &str, public: &Path) {
    place.run(&["keys", "import", public.to_str().unwrap()]).ok();
    place.run(&["keys", "trust", key, "--for", "remote", "--comment", "our states"]).ok();
}

/// The state of the profile `demo`, as this configuration has it: another test may have given its name to another one.
pub(crate) fn builder(shared: &User, place: &Place) -> String {
    let done = place.run(&["bootstrap", "demo", shared.testbed.stage3.to_str().unwrap(), "--json"]).ok();
    let done: Value = serde_json::from_str(&done.text()).unwrap();
    done["builder"].as_str().unwrap().to_owned()
}

/// Of each layer of a state, its digest.
pub(crate) fn digests(place: &Place, state: &str) -> Vec<String> {
    place.run(&["store", "seal", state]).ok();
    let shown: Value = serde_json::from_str(&place.run(&["store", "show", state, "--json"]).ok().text()).unwrap();
    shown["layer_rows"].as_array().unwrap().iter().map(|row| row["digest"].as_str().unwrap().to_owned()).collect()
}
