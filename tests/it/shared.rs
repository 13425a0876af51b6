//! One place for all tests that need Portage: tree imported, builder built, a stage4 made. Whoever is the last to use it checks that
//! nothing but states is left in it.
//!
//! ```text
//! $GENTOOMUCH_TEST_PLACE     kept, for several processes one after the other or side by side
//!   making.lock              held by the one that makes it
//!   made.json                what making it has said, and from what it was made: who comes later runs nothing again
//! ```

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::child;
use crate::gpg::Gpg;
use crate::host::{self, Testbed};
use crate::place::{Place, Ran, build_quickly, copy, shipped_config};

static SHARED: OnceLock<Option<Shared>> = OnceLock::new();
static USERS: Mutex<usize> = Mutex::new(0);

/// What a definition rebuilds before anything else is the world of the stage3. That is done for the two definitions that all share; others
/// have a small one, because each of its packages costs as much as a package that the test is about.
const SMALL_WORLD: &str =
    "#!/bin/sh\ncase $GENTOOMUCH_DEFINITION in gentoomuch/builder | plain) ;; *) : >/var/lib/portage/world ;; esac\n";
const SMALL_WORLD_HOOK: &str = "hooks/prepare.d/50-small-world.sh";

/// What is of no use in an artifact that is only exported: nine tenths of it.
pub(crate) const BULK: &str = include_str!("../kills/bulk.removes");

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
        // With nextest each test is a process of its own, and others are still at work.
        if *users == 0 && !std::thread::panicking() && std::env::var_os("NEXTEST").is_none() {
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

    /// The same, in which each definition rebuilds nothing but `package` and what it needs, the builder as well.
    pub(crate) fn config_with_world(&self, name: &str, package: &str) -> PathBuf {
        let config = self.config(name);
        small_world(&config, package);
        config
    }
}

/// Has the definitions of a configuration rebuild nothing but `package` and what it needs.
pub(crate) fn small_world(config: &Path, package: &str) {
    let hook = config.join(SMALL_WORLD_HOOK);
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(hook, format!("#!/bin/sh\necho {package} >/var/lib/portage/world\n")).unwrap();
}

/// What the place is made from: the release, and the program.
fn made_from(testbed: &Testbed) -> String {
    let program = std::fs::metadata(env!("CARGO_BIN_EXE_gentoomuch")).unwrap();
    format!("{} {} {:?}", testbed.stage3.display(), program.len(), program.modified().unwrap())
}

/// What making a place that is kept has said, if it was made from the same.
fn recorded(place: &Place, from: &str) -> Option<[Ran; 3]> {
    let record = std::fs::read(place.path("made.json")).ok()?;
    let (made_from, said): (String, [(String, String, String); 3]) = serde_json::from_slice(&record).unwrap();
    let ran = |(what, stdout, stderr): (String, String, String)| Ran {
        what,
        status: ExitStatus::default(),
        stdout: stdout.into_bytes(),
        stderr,
        own: false,
    };
    (made_from == from).then(|| said.map(ran))
}

/// The configuration, and the keyring with the key that it signs by. Whoever removes the place removes both.
fn configure(place: &Place) {
    for stale in ["config", "gnupg", "made.json"].map(|name| place.path(name)).iter().filter(|path| path.symlink_metadata().is_ok())
    {
        child::check(Command::new("rm").arg("-r").arg(stale));
    }
    let keyring = Gpg::new();
    std::os::unix::fs::symlink(&keyring.home, place.path("gnupg")).unwrap();
    copy(&shipped_config(), &place.config);
    build_quickly(&place.config);
    place.write(&format!("config/{SMALL_WORLD_HOOK}"), SMALL_WORLD);
    let key = keyring.key("Shared <shared@example.org>", "never");
    keyring.export(&key, &place.path("sign_key.asc"));
    std::mem::forget(keyring);
    place.write("config/env/sign_key", format!("{key}\n"));
    // For tests of kernels: a builder of their own is a builder more.
    let keywords = "config/portage.locals/gentoomuch/builder/package.accept_keywords";
    place.write(keywords, "sys-kernel/testbed-sources ~amd64\n");
}

fn make() -> Option<Shared> {
    let testbed = host::testbed()?;
    if !host::has("gpg") || !host::has("zstd") {
        return None;
    }
    let place = match std::env::var_os("GENTOOMUCH_TEST_PLACE") {
        Some(dir) if host::has_ids() => Place::at(dir.into()),
        _ => Place::called(" the shared place")?,
    };
    let making = std::fs::File::create(place.path("making.lock")).unwrap();
    making.lock().unwrap();
    // A place that is kept may have lost it, since it is in /tmp.
    if !place.path("gnupg").exists() {
        configure(&place);
    }
    let key = std::fs::read_to_string(place.path("config/env/sign_key")).unwrap().trim().to_owned();
    let from = made_from(&testbed);
    if let Some([sync, bootstrap, build]) = recorded(&place, &from) {
        return Some(Shared { place, testbed, key, sync, bootstrap, build });
    }
    std::fs::create_dir_all(place.path("cache")).unwrap();
    child::check(Command::new("cp").arg("-R").arg(&testbed.distfiles).arg(place.path("cache")));
    let testbed_key = testbed.key.to_str().unwrap();
    place.run(&["keys", "import", "--trust", "--comment", "testbed", testbed_key]).ok();
    let sync = place.run(&["sync", "--from", testbed.tree.to_str().unwrap()]).ok();
    let bootstrap = place.run(&["bootstrap", "demo", testbed.stage3.to_str().unwrap()]).ok();
    let build = place.run(&["stage", "build", "hello", "--format", "tar.zst"]).ok();
    let said = [&sync, &bootstrap, &build].map(|ran| (ran.what.clone(), ran.text(), ran.stderr.clone()));
    place.write("made.json", serde_json::to_vec(&(from, said)).unwrap());
    Some(Shared { place, testbed, key, sync, bootstrap, build })
}
