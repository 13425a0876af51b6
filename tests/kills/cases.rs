//! Commands that `injected` has fail, each with what it works on and what has to come of it.

use std::path::{Path, PathBuf};

use gentoomuch::internals::store::{NewState, Purpose, State, Store};

use crate::place::{Place, expect_success, names};
use crate::release::Release;
use crate::testbed::Testbed;

/// A command, and what has to be there before and after it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Makes what it works on.
    pub(crate) prepare: fn(&World),
    pub(crate) args: fn(&World) -> Vec<String>,
    /// Looks at what was half done, before the command runs again.
    pub(crate) between: fn(&World),
    /// Looks at what it has done.
    pub(crate) after: fn(&World),
}

/// A profile `kills` of one state, a state `kept/more` on it, and a tag that nobody touches.
pub(crate) struct World {
    pub(crate) place: Place,
    /// What the profile was made from; none on the testbed.
    release: Option<Release>,
}

impl World {
    pub(crate) fn new() -> Self {
        let place = Place::new();
        let release = Release::new(&place);
        let world = Self { place, release: Some(release) };
        world.make();
        world
    }

    /// All that is there without Portage.
    pub(crate) fn make(&self) {
        self.import("kills");
        self.furnish();
    }

    /// On the testbed, with a builder that has installed a package, and a work set with a change. `None`, said aloud, where there is none.
    pub(crate) fn with_portage() -> Option<Self> {
        let testbed = Testbed::new()?;
        testbed.place.configure("package.sets/gentoomuch/builder", "app-text/tree\n");
        testbed.place.run(&["bootstrap", "kills", testbed.stage3.to_str().unwrap()]);
        let world = Self { place: testbed.place, release: None };
        let key = expect_success(&mut world.gpg(&[
            "--status-fd",
            "1",
            "--quick-gen-key",
            "Kills <kills@example.org>",
            "ed25519",
            "sign",
            "1y",
        ]));
        let key = key.split_whitespace().last().unwrap();
        world.place.configure("env/sign_key", &format!("{key}\n"));
        world.place.run(&["patch", "prep", "mend", "app-misc/broken"]);
        let file = world.place.path("data/patches/mend/broken.c");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, text.replace("undeclared_on_purpose", "42")).unwrap();
        for (file, text) in
            [("profile", "kills"), ("stage3", "plain"), ("packages", "app-misc/newcomer"), ("portage.local", "needy")]
        {
            world.place.configure(&format!("stage4.defines/needy/{file}"), &format!("{text}\n"));
        }
        world.furnish();
        Some(world)
    }

    fn furnish(&self) {
        self.more("more");
        self.place.run(&["tag", "kept/more", "stays"]);
        self.place.run(&["store", "seal"]);
        std::fs::create_dir_all(self.place.path("out")).unwrap();
    }

    /// The small release, where it is what the world is made from.
    fn release(&self) -> &Release {
        self.release.as_ref().unwrap()
    }

    fn import(&self, profile: &str) {
        self.place.run(&["bootstrap", "--no-rebuild", profile, self.release().tarball.to_str().unwrap()]);
    }

    fn gpg(&self, arguments: &[&str]) -> std::process::Command {
        let mut gpg = self.place.command("gpg");
        gpg.args(["--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback"]).args(arguments);
        gpg
    }

    fn trust(&self) {
        let key = self.place.path("release/key.asc");
        self.place.run(&["keys", "import", "--trust", "--comment", "kills", key.to_str().unwrap()]);
    }

    /// The fingerprint of the key that signed the release.
    fn key(&self) -> String {
        let listed = expect_success(&mut self.gpg(&["--with-colons", "--list-keys", "kills@example.org"]));
        let line = listed.lines().find(|line| line.starts_with("fpr:")).unwrap();
        line.split(':').nth(9).unwrap().to_owned()
    }

    /// A state on that of the profile, `kept/NAME`, as a session would leave it.
    fn more(&self, name: &str) -> State {
        self.state("kept", name)
    }

    /// Makes such a state, unless the name is there.
    fn has(&self, group: &str, name: &str) {
        if !self.place.path(&format!("data/store/refs/{group}/{name}.ref")).exists() {
            self.state(group, name);
        }
    }

    fn lacks(&self, group: &str, name: &str) {
        let left = self.place.path(&format!("data/store/refs/{group}/{name}.ref"));
        assert!(!left.exists(), "{}", left.display());
    }

    /// A state on that of the profile with the name `GROUP/NAME`.
    fn state(&self, group: &str, name: &str) -> State {
        let record = std::fs::read(self.place.path("data/store/store.json")).unwrap();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        let store = Store::open(&self.place.path("data/store"), &serde_json::from_value(record["idmap"].clone()).unwrap()).unwrap();
        let base = store.state(&store.ref_get("profile/kills/upstream").unwrap().unwrap()).unwrap();
        let session = store.session_create(Some(&base), Purpose::Throwaway, "").unwrap();
        std::fs::write(session.upper().join(name), name).unwrap();
        let origin = serde_json::json!({ "kind": "kept session", "name": name });
        let key = format!("kept:{}", session.id());
        let state =
            session.commit(NewState { key, origin: origin.into(), newest_input: 1, parent: Some(base.id.clone()) }).unwrap();
        store.ref_set(&format!("{group}/{name}"), &state.id).unwrap();
        state
    }

    fn out(&self, name: &str) -> PathBuf {
        self.place.path("out").join(name)
    }

    fn tag(&self, name: &str) -> Option<String> {
        let tags: serde_json::Value = serde_json::from_str(&self.place.run(&["tag", "ls", "--json"])).unwrap();
        let tag = tags.as_array().unwrap().iter().find(|tag| tag["name"] == name)?;
        Some(tag["state"].as_str().unwrap().to_owned())
    }

    /// What no command here may change, and what none may leave.
    pub(crate) fn is_intact(&self, what: &str) {
        self.place.all_is_clean();
        let kept = self.place.run(&["cp", "stays:/more", "-"]);
        assert_eq!(kept, "more", "{what}");
        let dirs = [
            "data",
            "cache",
            "config",
            "config/keys",
            "home",
            "out",
            "data/store/refs",
            "data/store/refs/tag",
            "data/store/states",
        ];
        let below = names(&self.place.path("cache")).into_iter().map(|name| format!("cache/{name}"));
        for dir in dirs.map(str::to_owned).into_iter().chain(below) {
            // The pools' own.
            let stays = |name: &String| dir == "cache/binpkgs" && [".claims", ".keys", ".views"].contains(&name.as_str());
            let is_litter = |name: &String| (name.starts_with('.') || name.contains(".new")) && !stays(name);
            let left: Vec<String> = names(&self.place.path(&dir)).into_iter().filter(is_litter).collect();
            assert_eq!(left, Vec::<String>::new(), "{what}: in `{dir}`");
        }
    }
}

pub(crate) fn words(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

fn nothing(_: &World) {}

/// Exports `kept/more` as a file in `out`.
fn exporting(world: &World, kind: &str, name: &str, more: &[&str]) -> Vec<String> {
    words(&[&["export", "kept/more", "-o", &format!("{kind}{}", world.out(name).display())][..], more].concat())
}

/// An artifact that was named is complete, and so is its signature.
fn out_is_whole(world: &World) {
    for name in names(&world.place.path("out")) {
        let path = world.out(&name);
        match name.split_once('.').map_or("", |(_, ending)| ending) {
            "tar.zst" | "img" => drop(expect_success(world.place.command("tar").arg("-tf").arg(&path))),
            "squashfs" => drop(expect_success(world.place.command("unsquashfs").arg("-l").arg(&path))),
            "tar.zst.asc" => {
                let signed = world.out("a.tar.zst");
                expect_success(world.gpg(&["--verify"]).arg(&path).arg(signed));
            }
            _ => {}
        }
    }
    for name in names(&world.place.path("out")).into_iter().filter(|name| !name.starts_with('.')) {
        std::fs::remove_file(world.out(&name)).unwrap();
    }
}

/// A directory of `out` goes, with all that is in it.
fn forget_out(world: &World, name: &str) {
    drop(std::fs::remove_dir_all(world.out(name)));
}

/// A kept state that is to be made again.
fn forget_kept(world: &World) {
    drop(std::fs::remove_file(world.place.path("data/store/refs/kept/kept.ref")));
}

/// Shows a session the programs of the host: the image has none.
pub(crate) fn binds() -> Vec<String> {
    let binds = ["/usr:/usr:ro", "/lib:/lib:ro", "/lib64:/lib64:ro"];
    let there = binds.into_iter().filter(|bind| Path::new(bind.split(':').next().unwrap()).exists());
    there.flat_map(|bind| words(&["--bind", bind])).collect()
}

/// A session that changes a file and is kept.
fn keeping(command: &[&str]) -> Vec<String> {
    [words(command), words(&["--keep", "kept"]), binds(), words(&["--", "/usr/bin/touch", "/etc/new"])].concat()
}

fn kept_is_there(world: &World) {
    world.place.run(&["cp", "kept/kept:/etc/new", "-"]);
    forget_kept(world);
    world.place.run(&["clean", "--yes"]);
}

/// A state with a layer that has no seal goes again.
fn forget_unsealed(world: &World) {
    world.place.run(&["store", "verify", "--deep"]);
    std::fs::remove_file(world.place.path("data/store/refs/kept/unsealed.ref")).unwrap();
    world.place.run(&["clean", "--yes"]);
}

/// The profile has one of its two names, and gets the first one back.
fn named_kills(world: &World) {
    let names = world.place.run(&["store", "ls", "--json"]);
    let has = |name: &str| names.contains(&format!("\"profile/{name}/upstream\""));
    assert!(has("kills") != has("renamed"), "{names}");
    if has("renamed") {
        world.place.run(&["profile", "rename", "renamed", "kills"]);
    }
}

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "tag",
        prepare: |world| drop(world.tag("new").map(|_| world.place.run(&["tag", "rm", "new"]))),
        args: |_| words(&["tag", "profile/kills/upstream", "new"]),
        between: nothing,
        after: |world| assert!(world.tag("new").is_some()),
    },
    Case {
        name: "untag",
        prepare: |world| drop(world.place.run(&["tag", "profile/kills/upstream", "old"])),
        args: |_| words(&["tag", "rm", "old"]),
        // It may be gone already.
        between: |world| drop(world.place.run(&["tag", "profile/kills/upstream", "old"])),
        after: |world| assert_eq!(world.tag("old"), None),
    },
    Case {
        name: "rollback",
        prepare: |world| {
            for state in ["profile/kills/upstream", "kept/more"] {
                world.place.run(&["tag", "--force", state, "back"]);
            }
        },
        args: |_| words(&["rollback", "tag/back"]),
        between: |world| drop(world.place.run(&["tag", "--force", "kept/more", "back"])),
        after: |world| assert_ne!(world.tag("back"), world.tag("stays")),
    },
    Case {
        name: "clean",
        prepare: |world| {
            world.more("gone");
            std::fs::remove_file(world.place.path("data/store/refs/kept/gone.ref")).unwrap();
        },
        args: |_| words(&["clean", "--yes"]),
        between: nothing,
        after: |world| assert_eq!(names(&world.place.path("data/store/layers")).len(), 2),
    },
    Case {
        name: "rm",
        prepare: |world| {
            world.has("kept", "one");
            world.has("kept", "other");
        },
        args: |_| words(&["rm", "kept/one", "kept/other", "--yes"]),
        // One may be gone already.
        between: |world| {
            world.has("kept", "one");
            world.has("kept", "other");
        },
        after: |world| {
            world.lacks("kept", "one");
            world.lacks("kept", "other");
            world.place.run(&["clean", "--yes"]);
        },
    },
    Case {
        name: "orphans",
        // A stage4 without a definition.
        prepare: |world| world.has("stage4", "orphan"),
        args: |_| words(&["clean", "--orphans", "--yes"]),
        between: nothing,
        after: |world| {
            world.lacks("stage4", "orphan");
            assert_eq!(names(&world.place.path("data/store/layers")).len(), 2);
        },
    },
    Case {
        name: "seal",
        prepare: |world| drop(world.more("unsealed")),
        args: |_| words(&["store", "seal"]),
        between: nothing,
        after: forget_unsealed,
    },
    Case {
        name: "verify",
        prepare: |world| drop(world.more("unsealed")),
        args: |_| words(&["store", "verify", "--deep", "--seal"]),
        between: nothing,
        after: forget_unsealed,
    },
    Case {
        name: "session",
        prepare: forget_kept,
        args: |_| keeping(&["shell", "profile/kills/upstream"]),
        between: forget_kept,
        after: kept_is_there,
    },
    Case {
        name: "freshroot",
        prepare: forget_kept,
        args: |_| keeping(&["freshroot", "--profile", "kills"]),
        between: forget_kept,
        after: kept_is_there,
    },
    Case {
        name: "rename",
        prepare: nothing,
        args: |_| words(&["profile", "rename", "kills", "renamed"]),
        between: named_kills,
        after: named_kills,
    },
    Case {
        name: "default",
        prepare: |world| drop(std::fs::remove_file(world.place.path("data/default-profile"))),
        args: |_| words(&["profile", "set", "kills"]),
        between: nothing,
        after: |world| assert!(world.place.run(&["profile", "show"]).contains("kills")),
    },
    Case {
        name: "forget",
        prepare: |world| world.import("second"),
        args: |_| words(&["profile", "rm", "second"]),
        // It may be gone already.
        between: |world| world.import("second"),
        after: |world| assert!(!world.place.run(&["profile", "ls"]).contains("second")),
    },
    Case {
        name: "sync",
        prepare: |world| {
            for (file, text) in [
                ("profiles/repo_name", "gentoo\n".to_owned()),
                ("metadata/layout.conf", "masters =\n".to_owned()),
                // Another tree each time.
                ("app-misc/a/a-1.ebuild", format!("{:?}\n", std::time::Instant::now())),
            ] {
                let path = world.place.path("tmp-tree").join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
        },
        args: |world| words(&["sync", "--from", world.place.path("tmp-tree").to_str().unwrap()]),
        between: nothing,
        after: |world| {
            let newest = world.place.run(&["tree", "ls", "--json"]);
            let newest: serde_json::Value = serde_json::from_str(&newest).unwrap();
            let tree = newest.as_array().unwrap().iter().find(|tree| !tree["names"].as_array().unwrap().is_empty()).unwrap();
            let ebuild = format!("data/store/trees/{}/fs/app-misc/a/a-1.ebuild", tree["id"].as_str().unwrap());
            let wanted = std::fs::read(world.place.path("tmp-tree/app-misc/a/a-1.ebuild")).unwrap();
            assert_eq!(std::fs::read(world.place.path(&ebuild)).unwrap(), wanted);
        },
    },
    Case {
        name: "export",
        prepare: out_is_whole,
        args: |world| exporting(world, "", "a.tar.zst", &["--no-sign"]),
        between: out_is_whole,
        after: |world| assert!(world.out("a.tar.zst").is_file()),
    },
    Case {
        name: "signed",
        prepare: out_is_whole,
        args: |world| exporting(world, "", "a.tar.zst", &[]),
        between: nothing,
        after: |world| assert!(world.out("a.tar.zst.asc").is_file()),
    },
    Case {
        name: "squashfs",
        prepare: out_is_whole,
        args: |world| exporting(world, "", "a.squashfs", &["--no-sign"]),
        between: out_is_whole,
        after: |world| assert!(world.out("a.squashfs").is_file()),
    },
    Case {
        name: "archive",
        prepare: out_is_whole,
        args: |world| exporting(world, "oci-archive:", "a.img", &["--no-sign"]),
        between: out_is_whole,
        after: |world| assert!(world.out("a.img").is_file()),
    },
    Case {
        name: "copy",
        prepare: |world| {
            out_is_whole(world);
            forget_out(world, "copy");
        },
        args: |world| words(&["cp", "profile/kills/upstream:/usr/lib/3", world.out("copy").to_str().unwrap()]),
        // It is named when it is complete.
        between: |world| {
            let path = world.out("copy");
            assert!(!path.exists() || names(&path).len() == 100);
            drop(std::fs::remove_dir_all(path));
        },
        after: |world| {
            assert_eq!(names(&world.out("copy")).len(), 100);
            forget_out(world, "copy");
        },
    },
    Case {
        name: "init",
        prepare: |world| forget_out(world, "config"),
        args: |world| words(&["init", world.out("config").to_str().unwrap()]),
        between: nothing,
        after: |world| {
            world.place.run(&["--config", world.out("config").to_str().unwrap(), "config", "check"]);
            forget_out(world, "config");
        },
    },
    Case {
        name: "image",
        prepare: |world| {
            for dir in ["data/stages", "cache/oci-layers"] {
                drop(std::fs::remove_dir_all(world.place.path(dir)));
            }
        },
        args: |_| words(&["export", "--no-sign", "--format", "oci", "kept/more"]),
        between: nothing,
        after: nothing,
    },
    Case {
        name: "keys",
        prepare: |world| {
            drop(std::fs::remove_dir_all(world.place.path("config/keys")));
            crate::place::copy_tree(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config/keys"), &world.place.path("config/keys"));
        },
        args: |world| {
            let key = world.place.path("release/key.asc");
            words(&["keys", "import", "--trust", "--comment", "kills", key.to_str().unwrap()])
        },
        between: nothing,
        after: |world| drop(world.place.run(&["stage3", "verify", world.release().tarball.to_str().unwrap()])),
    },
    Case {
        name: "untrust",
        prepare: World::trust,
        args: |world| words(&["keys", "rm", &world.key()]),
        // It may be gone already.
        between: World::trust,
        after: |world| {
            assert!(!world.place.run(&["keys", "ls"]).contains(&world.key()));
            world.trust();
        },
    },
    Case {
        name: "everything",
        prepare: nothing,
        args: |_| words(&["clean", "--everything", "--yes"]),
        between: nothing,
        after: |world| {
            // The user's own work stays.
            assert_eq!(names(&world.place.data()), ["patches"]);
            world.make();
        },
    },
    Case {
        name: "import",
        prepare: |world| {
            world.place.forget();
        },
        args: |world| words(&["bootstrap", "--no-rebuild", "kills", world.release().tarball.to_str().unwrap()]),
        between: nothing,
        after: |world| {
            world.release().must_be_in(&world.place);
            world.furnish();
        },
    },
];

/// Those that ask Portage, or run programs of the image.
pub(crate) const BESIDE_PORTAGE: &[Case] = &[
    Case {
        name: "resolve",
        prepare: |world| {
            drop(std::fs::remove_dir_all(world.place.path("config/portage.locals/needy")));
            world.place.configure("portage.locals/needy/make.conf", "# nothing yet\n");
        },
        args: |_| words(&["resolve", "--write", "needy", "needy"]),
        between: nothing,
        after: |world| drop(world.place.run(&["resolve", "--check", "needy"])),
    },
    Case {
        name: "binhost",
        prepare: |world| forget_out(world, "binhost"),
        args: |world| words(&["binhost", "export", "--profile", "kills", world.out("binhost").to_str().unwrap()]),
        // What the index names is there.
        between: binhost_is_whole,
        after: |world| {
            assert!(binhost_is_whole_with(world) > 0);
            forget_out(world, "binhost");
        },
    },
    Case {
        name: "prep",
        prepare: |world| drop(world.place.program(&["patch", "rm", "greet", "--force"]).output()),
        args: |_| words(&["patch", "prep", "greet", "app-misc/greeter"]),
        between: |world| drop(world.place.program(&["patch", "rm", "greet", "--force"]).output()),
        after: |world| assert!(world.place.path("data/patches/greet/.git").is_dir()),
    },
    Case {
        name: "save",
        prepare: |world| drop(std::fs::remove_dir_all(world.place.path("config/user.patches"))),
        args: |_| words(&["patch", "save", "mend"]),
        between: nothing,
        after: |world| {
            let saved =
                std::fs::read_to_string(world.place.path("config/user.patches/mend/app-misc/broken-1.0/mend.patch")).unwrap();
            assert!(saved.ends_with('\n') && saved.contains("42"), "{saved}");
        },
    },
    Case {
        name: "kernel",
        prepare: |world| drop(std::fs::remove_file(world.place.path("config/kernel.configs/tiny.kconf"))),
        args: |_| {
            let what = ["kernel", "prep", "tiny", "--profile", "kills", "--sources", "testbed-sources", "--target", "tinyconfig"];
            words(&what)
        },
        between: nothing,
        after: |world| {
            let written = std::fs::read_to_string(world.place.path("config/kernel.configs/tiny.kconf")).unwrap();
            assert!(written.contains("\nCONFIG_CC_OPTIMIZE_FOR_SIZE=y\n"), "{written}");
        },
    },
    Case {
        name: "stage",
        prepare: |world| {
            // Another key each time.
            let now = format!("#!/bin/sh\necho '{:?}' >/etc/stamp\n", std::time::Instant::now());
            world.place.configure("user.scripts/exported", &now);
        },
        args: |_| words(&["stage", "build", "exported", "--format", "tar.zst", "--no-sign"]),
        between: nothing,
        after: |world| {
            let script = std::fs::read_to_string(world.place.path("config/user.scripts/exported")).unwrap();
            let stamp = world.place.run(&["cp", "stage4/exported:/etc/stamp", "-"]);
            assert!(script.contains(stamp.trim()), "{stamp}");
            // Artifacts and states of earlier points.
            world.place.run(&["clean", "--yes", "--keep", "1"]);
        },
    },
];

/// Every package that the index of an exported binhost names is there with its size. How many there are.
fn binhost_is_whole_with(world: &World) -> usize {
    let dir = world.out("binhost");
    let Ok(index) = std::fs::read_to_string(dir.join("Packages")) else { return 0 };
    let stanzas = index.split("\n\n").skip(1).filter(|stanza| !stanza.trim().is_empty());
    let value = |stanza: &str, key: &str| stanza.lines().find_map(|line| Some(line.strip_prefix(key)?.to_owned())).unwrap();
    stanzas
        .map(|stanza| {
            let file = dir.join(value(stanza, "PATH: "));
            assert_eq!(std::fs::metadata(&file).unwrap().len().to_string(), value(stanza, "SIZE: "), "{}", file.display());
        })
        .count()
}

fn binhost_is_whole(world: &World) {
    binhost_is_whole_with(world);
}
