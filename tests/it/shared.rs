//! One place for all tests that need Portage: tree imported, builder built, a stage4 made. Whoever is the last to use it checks that
//! nothing but states is left in it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::child;
use crate::gpg::Gpg;
use crate::host::{self, Testbed};
use crate::place::{Place, Ran, copy, shipped_config};

static SHARED: OnceLock<Option<Shared>> = OnceLock::new();
static USERS: Mutex<usize> = Mutex::new(0);

/// The shared place, and what making it has said.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) place: Place,
    pub(crate) testbed: Testbed,
    /// Fingerprint of the key that signs artifacts.
    pub(crate) key: String,
    pub(crate) sync: Ran,
    pub(crate) bootstrap: Ran,
    pub(crate) build: Ran,
    _gpg: Option<Gpg>,
}

/// Use of the shared place by one test.
#[derive(Debug)]
pub(crate) struct User(&'static Shared);

impl std::ops::Deref for User {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        self.0
    }
}

/// The shared place, unless this host cannot have it.
pub(crate) fn shared() -> Option<User> {
    let shared = SHARED.get_or_init(make).as_ref();
    if shared.is_none() {
        host::skip("no shared place");
    }
    let user = User(shared?);
    *USERS.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    Some(user)
}

impl Drop for User {
    fn drop(&mut self) {
        let mut users = USERS.lock().unwrap_or_else(PoisonError::into_inner);
        *users -= 1;
        if *users == 0 && !std::thread::panicking() {
            self.0.place.assert_tidy();
        }
    }
}

impl Shared {
    /// The archive that `stage build hello` made.
    pub(crate) fn artifact(&self) -> PathBuf {
        self.build.value("artifact").trim_end_matches("  (unchanged)").into()
    }

    /// A configuration of one test's own, beginning as the shared one.
    pub(crate) fn config(&self, name: &str) -> PathBuf {
        let config = self.place.path(&format!("configs/{name}"));
        if config.exists() {
            std::fs::remove_dir_all(&config).unwrap();
        }
        copy(&self.place.config, &config);
        config
    }
}

fn make() -> Option<Shared> {
    let testbed = host::testbed()?;
    if !host::has("gpg") || !host::has("zstd") {
        return None;
    }
    let (place, gpg) = match std::env::var_os("GENTOOMUCH_TEST_PLACE") {
        // With a keyring of its own, which stays.
        Some(dir) if host::has_ids() => (Place::at(dir.into()), None),
        _ => (Place::new()?, Some(Gpg::new())),
    };
    let home = match &gpg {
        Some(gpg) => gpg.home.clone(),
        None => PathBuf::from(format!("/tmp/gmkept-{}", nix::unistd::getuid())),
    };
    std::fs::create_dir_all(&home).unwrap();
    std::fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    if !place.path("gnupg").is_symlink() {
        std::os::unix::fs::symlink(&home, place.path("gnupg")).unwrap();
    }
    if !place.config.exists() {
        copy(&shipped_config(), &place.config);
        let keyring = Gpg { home };
        let key = keyring.key("Shared <shared@example.org>", "never");
        keyring.export(&key, &place.path("sign_key.asc"));
        std::mem::forget(keyring);
        place.write("config/env/sign_key", format!("{key}\n"));
        // For tests of kernels: a builder of their own is a builder more.
        let keywords = "config/portage.locals/gentoomuch/builder/package.accept_keywords";
        place.write(keywords, "sys-kernel/testbed-sources ~amd64\n");
    }
    let key = std::fs::read_to_string(place.path("config/env/sign_key")).unwrap().trim().to_owned();
    std::fs::create_dir_all(place.path("cache")).unwrap();
    child::check(Command::new("cp").arg("-R").arg(&testbed.distfiles).arg(place.path("cache")));
    let testbed_key = testbed.key.to_str().unwrap();
    place.run(&["keys", "import", "--trust", "--comment", "testbed", testbed_key]).ok();
    let sync = place.run(&["sync", "--from", testbed.tree.to_str().unwrap()]).ok();
    let bootstrap = place.run(&["bootstrap", "demo", testbed.stage3.to_str().unwrap()]).ok();
    let build = place.run(&["stage", "build", "hello", "--format", "tar.zst"]).ok();
    Some(Shared { place, testbed, key, sync, bootstrap, build, _gpg: gpg })
}
