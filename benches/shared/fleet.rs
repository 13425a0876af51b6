//! A fleet whose store and artifacts are made by hand under the keys that the plan asks for; nothing is built.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use gentoomuch::internals::artifact::exclusions;
use gentoomuch::internals::config::ConfigDir;
use gentoomuch::internals::context::{Context, Settings, Told};
use gentoomuch::internals::pipeline;
use gentoomuch::internals::pipeline::run::{NodeReport, Watcher};
use gentoomuch::internals::pipeline::{Node, NodeKind, PipelineOptions};
use gentoomuch::internals::places::Places;
use gentoomuch::internals::progress::{Event, Silent};
use gentoomuch::internals::sandbox::{HelperSource, IdMap, IdRange, Interrupt, Launcher};
use gentoomuch::internals::stage3::publish::FileDigests;
use gentoomuch::internals::store::{NewState, Purpose, State, Store};

pub(crate) const STAGES: usize = 20;
pub(crate) const BASES: usize = 5;
/// States of earlier configurations, which a lookup has to pass by.
pub(crate) const OLD_STATES: usize = 200;

struct Nobody;

impl Watcher for Nobody {
    fn begun(&self, _: &Node) {}
    fn event(&self, _: &Node, _: &Event<'_>) {}
    fn ended(&self, _: &Node, _: &NodeReport) {}
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn configure(root: &Path) {
    write(root, "portage.global/make.conf", "COMMON_FLAGS=\"-O2 -pipe\"\nUSE=\"nls -X\"\n");
    for base in 0..BASES {
        let flags: Vec<String> = (0..100).map(|n| format!("cat-{n}/lib{base}x flag{n} -other\n")).collect();
        write(root, &format!("portage.locals/local{base}/package.use"), &flags.concat());
        write(root, &format!("stage3.defines/base{base}/portage.local"), &format!("local{base}\n"));
    }
    for stage in 0..STAGES {
        let at = format!("stage4.defines/stage{stage:02}");
        write(root, &format!("{at}/profile"), "demo\n");
        write(root, &format!("{at}/stage3"), &format!("base{}\n", stage % BASES));
        let packages: Vec<String> = (0..30).map(|n| format!("cat-{n}/lib{stage}x\n")).collect();
        write(root, &format!("{at}/packages"), &packages.concat());
    }
}

/// A state of about the size that real ones have.
fn commit(store: &Store, key: &str, base: Option<&State>) -> State {
    let session = store.session_create(base, Purpose::Stage, key).unwrap();
    let filler: Vec<String> = (0..100).map(|n| format!("package.use/{n}-of-many")).collect();
    let origin = serde_json::json!({ "portage_files": filler, "inputs": {} });
    session
        .commit(NewState { key: key.to_owned(), origin: origin.into(), newest_input: 1, parent: base.map(|base| base.id.clone()) })
        .unwrap()
}

/// The files that `stages/NAME/` has of a state; as many packages in its inventory as a small server has.
fn export(places: &Places, name: &str, state: &State) {
    let packages: Vec<_> =
        (0..400).map(|n| serde_json::json!({ "package": format!("cat/p{n}"), "use": ["a", "b", "c"] })).collect();
    let archive = format!("stage4-amd64-{name}-19700101T000001Z-{}.tar.xz", &state.id.as_str()[..12]);
    let beside = [("CONTENTS.gz", ""), ("DIGESTS", ""), ("sha256", "")];
    let hash = |text: &str| FileDigests::read("", text.as_bytes(), |_| ()).unwrap().blake2b;
    let mark = |text: &str| serde_json::json!({ "size": text.len(), "BLAKE2B": hash(text) });
    let files: BTreeMap<_, _> = beside.map(|(suffix, text)| (format!("{archive}.{suffix}"), mark(text))).into();
    let metadata = serde_json::json!({
        "state": state.id, "form": "tar.xz", "source_date_epoch": 1, "signed_by": null, "sign_key": null, "keep": [], "size": 1, "entries": 1,
        "leaves_out": exclusions::DEFAULT, "packer": "1", "digests": { "BLAKE2B": hash("x") }, "files": files, "packages": packages,
    });
    let dir = places.stages().join(name);
    write(&dir, &archive, "x");
    for (suffix, text) in beside.iter().copied().chain([("json", metadata.to_string().as_str())]) {
        write(&dir, &format!("{archive}.{suffix}"), text);
    }
}

/// Makes the fleet in a temporary directory. `measure` gets what runs its unchanged pipeline and returns the number of nodes.
pub(crate) fn with_fleet(measure: impl FnOnce(&dyn Fn() -> usize)) {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let places = Places { config: at("config"), data: at("data"), cache: at("cache") };
    configure(&places.config);
    let config = ConfigDir::open(&places.config).unwrap();
    let own = |outside| vec![IdRange { inside: 0, outside, count: 1 }];
    let map = IdMap { uids: own(rustix::process::getuid().as_raw()), gids: own(rustix::process::getgid().as_raw()) };
    let store = Store::open(&places.store(), &map).unwrap();
    let area = store.tree_begin().unwrap();
    write(&area.tree(), "profiles/repo_name", "gentoo\n");
    let tree = area.commit_tree(serde_json::json!({ "name": "gentoo", "digest": "0", "newest": 1 })).unwrap();
    store.tree_ref_set("gentoo", &tree).unwrap();
    let upstream = commit(&store, "upstream", None);
    store.ref_set("profile/demo/upstream", &upstream.id).unwrap();
    for old in 0..OLD_STATES {
        drop(commit(&store, &format!("old {old}"), Some(&upstream)));
    }
    let launcher = Launcher::new(HelperSource::CurrentExe, map);
    let interrupt = Interrupt::install().unwrap();
    let settings = Settings { no_wait: true, ..Settings::new("amd64", 2) };
    let (places, store) = (&places, &store);
    let told = Told::default();
    let (launcher, interrupt) = (&launcher, &interrupt);
    let cx = Context { places, store, launcher, observer: &Silent, interrupt, jobserver: None, told: &told, settings };
    for kind in [NodeKind::Stage3, NodeKind::Stage4] {
        let pipeline = pipeline::pipeline(&cx, &config, PipelineOptions::default()).unwrap();
        for node in pipeline.nodes().filter(|node| node.kind == kind) {
            let state = commit(store, node.key.as_deref().unwrap(), Some(&upstream));
            if kind == NodeKind::Stage4 {
                export(places, &node.name, &state);
            }
        }
    }
    let run = || {
        let pipeline = pipeline::pipeline(&cx, &config, PipelineOptions::default()).unwrap();
        let built: Vec<_> = pipeline.nodes().filter(|node| node.build).map(|node| (&node.id, &node.why)).collect();
        assert!(built.is_empty(), "{built:?}");
        pipeline.run(false, &Nobody).unwrap().nodes.len()
    };
    assert_eq!(run(), BASES + 2 * STAGES);
    measure(&run);
}
