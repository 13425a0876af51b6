//! Commands of which one call fails, or is the last one.
//!
//! `strace` follows the program's first thread, which does all that changes names, states and artifacts; with it, set-id programs that the
//! helpers start would have no rights. A run that is only watched tells how often each call is made. Each further run has one of them fail
//! with an error that the kernel could give, or the program killed at it. Afterwards the store verifies, what was there is intact, the
//! same command succeeds, and nothing lies around.
//!
//! ```text
//! GENTOOMUCH_FAULTS=400          points of each command (4); `make test-faults` sets it
//! GENTOOMUCH_FAULTS_ONLY=tag,clean     some of the commands (all)
//! GENTOOMUCH_KILLS_SEED=N        repeats the points of an earlier run
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use gentoomuch::internals::store::{NewState, Purpose, State, Store};

use crate::place::{Place, both, expect_success, names};
use crate::release::Release;
use crate::tally::Moments;

/// What is watched: calls that change files, that open or lock one, and that start a process or thread; with the errors that each may give.
const CALLS: [(&str, &[&str]); 18] = [
    ("openat", &["EMFILE", "EIO", "ENOSPC", "EDQUOT"]),
    ("write", &["EIO", "ENOSPC", "EDQUOT"]),
    ("ftruncate", &["EIO", "ENOSPC"]),
    ("fallocate", &["EIO", "ENOSPC", "EOPNOTSUPP"]),
    ("rename", &["EIO", "ENOSPC", "EDQUOT"]),
    ("renameat2", &["EIO", "ENOSPC", "EDQUOT"]),
    ("linkat", &["EIO", "ENOSPC", "EMLINK"]),
    ("mkdir", &["EIO", "ENOSPC", "EDQUOT"]),
    ("unlink", &["EIO"]),
    ("unlinkat", &["EIO"]),
    ("rmdir", &["EIO"]),
    ("fsync", &["EIO", "ENOSPC", "EDQUOT"]),
    ("syncfs", &["EIO", "ENOSPC"]),
    ("chmod", &["EIO"]),
    ("fchmod", &["EIO"]),
    ("utimensat", &["EIO"]),
    ("flock", &["EIO", "ENOLCK"]),
    ("clone3", &["EAGAIN", "ENOMEM"]),
];

/// A command, and what has to be there before and after it.
struct Case {
    name: &'static str,
    /// Makes what it works on.
    prepare: fn(&World),
    args: fn(&World) -> Vec<String>,
    /// Looks at what was half done, before the command runs again.
    between: fn(&World),
    /// Looks at what it has done.
    after: fn(&World),
}

/// A profile `kills` of one state, a state `kept/more` on it, and a tag that nobody touches.
struct World {
    place: Place,
    release: Release,
}

impl World {
    fn new() -> Self {
        let place = Place::new();
        let release = Release::new(&place);
        let world = Self { place, release };
        world.place.run(&["bootstrap", "--no-rebuild", "kills", world.release.tarball.to_str().unwrap()]);
        world.more("more");
        world.place.run(&["tag", "kept/more", "stays"]);
        world.place.run(&["store", "seal"]);
        std::fs::create_dir(world.place.path("out")).unwrap();
        world
    }

    /// A state on that of the profile, `kept/NAME`, as a session would leave it.
    fn more(&self, name: &str) -> State {
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
        store.ref_set(&format!("kept/{name}"), &state.id).unwrap();
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
    fn is_intact(&self, what: &str) {
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
            let left: Vec<String> =
                names(&self.place.path(&dir)).into_iter().filter(|name| name.starts_with('.') || name.contains(".new")).collect();
            assert_eq!(left, Vec::<String>::new(), "{what}: in `{dir}`");
        }
    }
}

fn words(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

fn nothing(_: &World) {}

/// An artifact that was named is complete.
fn out_is_whole(world: &World) {
    for name in names(&world.place.path("out")) {
        let path = world.out(&name);
        if name == "a.tar.zst" {
            expect_success(world.place.command("tar").arg("-tf").arg(&path));
        }
        if !name.starts_with('.') {
            std::fs::remove_file(path).unwrap();
        }
    }
}

/// A kept state that is to be made again.
fn forget_kept(world: &World) {
    drop(std::fs::remove_file(world.place.path("data/store/refs/kept/kept.ref")));
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

const CASES: [Case; 13] = [
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
        name: "seal",
        prepare: |world| drop(world.more("unsealed")),
        args: |_| words(&["store", "seal"]),
        between: nothing,
        after: |world| {
            world.place.run(&["store", "verify", "--deep"]);
            std::fs::remove_file(world.place.path("data/store/refs/kept/unsealed.ref")).unwrap();
            world.place.run(&["clean", "--yes"]);
        },
    },
    Case {
        name: "session",
        prepare: forget_kept,
        args: |_| {
            // The image has no program, so it is shown those of the host.
            let binds = ["/usr:/usr:ro", "/lib:/lib:ro", "/lib64:/lib64:ro"]
                .into_iter()
                .filter(|bind| Path::new(bind.split(':').next().unwrap()).exists());
            let mut args = words(&["shell", "profile/kills/upstream", "--keep", "kept"]);
            args.extend(binds.flat_map(|bind| words(&["--bind", bind])));
            args.extend(words(&["--", "/usr/bin/touch", "/etc/new"]));
            args
        },
        between: forget_kept,
        after: |world| {
            world.place.run(&["cp", "kept/kept:/etc/new", "-"]);
            forget_kept(world);
            world.place.run(&["clean", "--yes"]);
        },
    },
    Case {
        name: "rename",
        prepare: nothing,
        args: |_| words(&["profile", "rename", "kills", "renamed"]),
        between: named_kills,
        after: named_kills,
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
        args: |world| words(&["export", "--no-sign", "-o", world.out("a.tar.zst").to_str().unwrap(), "kept/more"]),
        between: out_is_whole,
        after: |world| assert!(world.out("a.tar.zst").is_file()),
    },
    Case {
        name: "copy",
        prepare: |world| drop(std::fs::remove_dir_all(world.out("copy"))),
        args: |world| words(&["cp", "profile/kills/upstream:/usr/lib/3", world.out("copy").to_str().unwrap()]),
        // It is named when it is complete.
        between: |world| {
            let path = world.out("copy");
            assert!(!path.exists() || names(&path).len() == 100);
            drop(std::fs::remove_dir_all(path));
        },
        after: |world| assert_eq!(names(&world.out("copy")).len(), 100),
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
        after: |world| drop(world.place.run(&["stage3", "verify", world.release.tarball.to_str().unwrap()])),
    },
    Case {
        name: "import",
        prepare: |world| {
            world.place.forget();
        },
        args: |world| words(&["bootstrap", "--no-rebuild", "kills", world.release.tarball.to_str().unwrap()]),
        between: nothing,
        after: |world| {
            world.release.must_be_in(&world.place);
            world.more("more");
            world.place.run(&["tag", "kept/more", "stays"]);
        },
    },
];

/// A call, the how-manyeth of its name, and what becomes of it.
#[derive(Debug, Clone)]
struct Point {
    call: &'static str,
    number: usize,
    /// `None`: the program is killed.
    error: Option<&'static str>,
}

impl Point {
    fn words(&self) -> String {
        format!("{} {}: {}", self.call, self.number, self.error.unwrap_or("SIGKILL"))
    }
}

/// The program under `strace`.
fn traced(place: &Place, options: &[String], args: &[String]) -> Command {
    let mut command = place.command("strace");
    command.args(["-qq", "-e", "signal=none"]).args(options).arg(env!("CARGO_BIN_EXE_gentoomuch")).args(args);
    command
}

/// All points of a command. Calls before the program itself runs, those of the linker, are none.
fn points(world: &World, case: &Case) -> Vec<Point> {
    let log = world.place.path("tmp/trace");
    let all: Vec<&str> = CALLS.iter().map(|(call, _)| *call).collect();
    let options = [format!("-etrace={}", all.join(",")), "-o".to_owned(), log.to_str().unwrap().to_owned()];
    (case.prepare)(world);
    expect_success(&mut traced(&world.place, &options, &(case.args)(world)));
    (case.after)(world);
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((call, errors)) = CALLS.iter().find(|(call, _)| line.strip_prefix(call).is_some_and(|rest| rest.starts_with('(')))
        else {
            continue;
        };
        let number = counts.entry(call).or_default();
        *number += 1;
        let is_linker = line.contains("/ld.so") || line.contains(".so.") || line.contains("\"/proc/") || line.contains("\"/sys/");
        if !is_linker {
            let errors = errors.iter().map(|error| Some(*error)).chain([None]);
            found.extend(errors.map(|error| Point { call, number: *number, error }));
        }
    }
    assert!(found.len() > 20, "{}: {text}", case.name);
    found
}

/// Whether the command failed.
fn strike(world: &World, case: &Case, point: &Point) -> bool {
    let what = format!("{}, {}", case.name, point.words());
    (case.prepare)(world);
    let fate = point.error.map_or_else(|| "signal=SIGKILL".to_owned(), |error| format!("error={error}"));
    let options = [
        format!("-etrace={}", point.call),
        format!("-einject={}:{fate}:when={}", point.call, point.number),
        "-o/dev/null".to_owned(),
    ];
    let output = traced(&world.place, &options, &(case.args)(world)).output().unwrap();
    let said = both(&output);
    assert!(output.status.code() != Some(70) && !said.contains("panicked"), "{what}: {said}");
    assert!(output.status.success() || output.status.code().is_none() || said.contains("error: "), "{what}: no word of it: {said}");
    world.place.nothing_lives();
    (case.between)(world);
    let again = world.place.program(&(case.args)(world).iter().map(String::as_str).collect::<Vec<_>>()).output().unwrap();
    assert!(again.status.success(), "{what}: {said}\nand again: {}", both(&again));
    (case.after)(world);
    world.is_intact(&format!("{what}: {said}"));
    !output.status.success()
}

pub(crate) fn all() {
    let wanted = std::env::var("GENTOOMUCH_FAULTS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let only = std::env::var("GENTOOMUCH_FAULTS_ONLY").ok();
    let world = World::new();
    let mut faults = Vec::new();
    let mut all_failed = 0;
    for case in &CASES {
        if only.as_ref().is_some_and(|only| !only.split(',').any(|name| name == case.name)) {
            continue;
        }
        let mut moments = Moments::new(case.name);
        let points = points(&world, case);
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let mut failed = 0;
        for _ in 0..wanted {
            let point = &points[moments.below(points.len())];
            *counts.entry(point.error.unwrap_or("SIGKILL")).or_default() += 1;
            let struck = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| strike(&world, case, point)));
            match struck {
                Ok(has_failed) => failed += usize::from(has_failed),
                Err(_) => faults.push(format!("{}, {}", case.name, point.words())),
            }
        }
        all_failed += failed;
        let counts: Vec<String> = counts.iter().map(|(fate, count)| format!("{fate} {count}")).collect();
        let counts = counts.join(", ");
        println!("{:<10}{wanted:>5} of {:>5} points, {failed:>4} made it fail: {counts}", case.name, points.len());
    }
    assert!(all_failed > 0, "nothing was injected");
    assert_eq!(faults, Vec::<String>::new(), "points at which something was lost, left or not told");
}
