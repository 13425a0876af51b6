//! What the store holds, and what refers to it.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt::Display;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::history;
use crate::history::clean::orphans::Defined;
use crate::history::clean::{CleanItem, CleanKind, CleanOptions, Forgettable, Forgotten, Thing};
use crate::store::{
    LayerId, Reached, RefEntry, Result, SessionId, SessionRecord, SessionStatus, State, StateId, Store, Tree, TreeId,
};

/// Names that somebody gave to states to keep them. What was made of such a state stays, too.
const KEEPING: [&str; 2] = ["kept/", "tag/"];
/// Names whose earlier values are never cleaned. What was kept is replaced only by who says so.
const KEEPING_EARLIER: &str = "tag/";
const TREE: &str = "tree/";

/// Everything in the store, read once.
#[derive(Debug)]
pub(crate) struct Survey {
    /// Oldest first.
    pub(crate) states: BTreeMap<StateId, State>,
    histories: Vec<(String, Vec<RefEntry>)>,
    tree_histories: Vec<(String, Vec<RefEntry<TreeId>>)>,
    layers: BTreeSet<LayerId>,
    trees: Vec<Tree>,
    /// Sessions that stay.
    staying: Vec<SessionRecord>,
    /// Suspended sessions that are removed.
    leaving: Vec<SessionRecord>,
    used: BTreeMap<StateId, i64>,
    /// What cannot be read, or does not match its id. Nobody knows what it needs.
    damaged: BTreeSet<String>,
    /// Text of the configuration's `env/tree`.
    pins: String,
    /// If set, nothing else may be forgotten.
    shown: Option<Forgettable>,
    /// Names that go, and why.
    orphans: BTreeMap<String, String>,
}

/// Positions of values to forget, by name.
pub(crate) type Positions = BTreeMap<String, BTreeSet<usize>>;

/// What is not needed once those values are forgotten.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) states: Vec<StateId>,
    /// States that stay.
    pub(crate) kept: BTreeSet<StateId>,
    /// Layers that are removed with a state: with the first that has them.
    with_state: BTreeMap<StateId, BTreeSet<LayerId>>,
    /// Layers that no state has.
    layers: BTreeSet<LayerId>,
    trees: Vec<TreeId>,
    sessions: Vec<SessionId>,
    pub(crate) forgotten: Vec<Forgotten>,
    /// What something refers to, but is missing or damaged. While there is such, no state, layer or tree is removed.
    doubts: BTreeSet<String>,
}

impl Survey {
    /// Reads the store; `pins` is the configuration's `env/tree`, `shown` limits what may be forgotten.
    pub(crate) fn read(store: &Store, options: &CleanOptions, pins: String, shown: Option<Forgettable>) -> Result<Self> {
        let mut damaged: BTreeSet<String> = store.doubts()?.into_iter().map(|path| format!("`{}`", path.display())).collect();
        let mut states = BTreeMap::new();
        for state in store.states()? {
            if !state.has_id(&state.id)? {
                damaged.insert(format!("build state {}", state.id));
            }
            states.insert(state.id.clone(), state);
        }
        let (mut staying, mut leaving) = (Vec::new(), Vec::new());
        for record in store.sessions()? {
            let goes = match &record.status {
                SessionStatus::Suspended { at, .. } => {
                    let old = options.older_than_secs.is_none_or(|secs| seconds(at) < options.now_secs - secs);
                    options.suspended && old && !store.session_is_busy(&record.id)?
                }
                SessionStatus::Active => false,
            };
            if goes { leaving.push(record) } else { staying.push(record) }
        }
        Ok(Self {
            used: states.keys().map(|id| (id.clone(), store.last_used(id))).collect(),
            states,
            damaged,
            histories: store.readable_histories()?,
            tree_histories: store.readable_tree_histories()?,
            layers: store.layer_ids()?.into_iter().collect(),
            trees: store.trees()?,
            staying,
            leaving,
            pins,
            shown,
            orphans: BTreeMap::new(),
        })
    }

    /// Has the names go that have no definition any more, if that is asked for. Returns how many there are. None goes while something
    /// is in doubt.
    pub(crate) fn take_orphans(&mut self, options: &CleanOptions, defined: Option<&Defined>) -> history::Result<usize> {
        let Some(defined) = defined.filter(|_| options.kinds.contains(&CleanKind::States) && !self.is_in_doubt()) else {
            return Ok(0);
        };
        let orphans = defined.orphans(self.histories.iter().map(|(name, _)| name.as_str()))?;
        let count = orphans.len();
        if options.orphans {
            self.orphans = orphans;
        }
        Ok(count)
    }

    /// The values to forget by the limits of `options`, and missing trees. A missing state may come back from a backup, so it is treated
    /// as any other value.
    pub(crate) fn beyond(&self, options: &CleanOptions) -> Positions {
        let mut positions = Positions::new();
        if options.kinds.contains(&CleanKind::States) {
            for (name, history) in self.histories.iter().filter(|(name, _)| self.orphans.contains_key(name)) {
                let all = history.iter().enumerate().filter(|(_, entry)| self.was_shown(name, entry));
                let all: BTreeSet<usize> = all.map(|(at, _)| at).collect();
                if !all.is_empty() {
                    positions.insert(name.clone(), all);
                }
            }
            for (name, history) in &self.histories {
                let keeps = name.starts_with(KEEPING_EARLIER);
                for (at, pair) in history.windows(2).enumerate() {
                    if !keeps && options.beyond(at + 1, seconds(&pair[0].since)) && self.was_shown(name, &pair[1]) {
                        positions.entry(name.clone()).or_default().insert(at + 1);
                    }
                }
            }
        }
        if options.kinds.contains(&CleanKind::Trees) {
            for (name, history) in &self.tree_histories {
                for (at, pair) in history.windows(2).enumerate() {
                    let name = format!("{TREE}{name}");
                    let gone = !self.is_in_doubt() && !self.trees.iter().any(|tree| tree.id == pair[1].value);
                    if (gone || options.beyond(at + 1, seconds(&pair[0].since))) && self.was_shown(&name, &pair[1]) {
                        positions.entry(name).or_default().insert(at + 1);
                    }
                }
            }
        }
        positions
    }

    /// Whether `shown` allows to forget a value.
    fn was_shown<T: Display>(&self, name: &str, entry: &RefEntry<T>) -> bool {
        let known = |shown: &Forgettable| shown.contains(&(name.to_owned(), entry.value.to_string(), entry.since.clone()));
        self.shown.as_ref().is_none_or(known)
    }

    /// Further values that could be forgotten: when the state was last used, or the tree was replaced; name, position.
    pub(crate) fn forgettable(&self, options: &CleanOptions) -> Vec<(i64, String, usize)> {
        let mut found = Vec::new();
        // It would free nothing.
        if self.is_in_doubt() {
            return found;
        }
        if options.kinds.contains(&CleanKind::States) {
            for (name, history) in self.histories.iter().filter(|(name, _)| !name.starts_with(KEEPING_EARLIER)) {
                let there = |entry: &RefEntry| self.states.contains_key(&entry.value) && self.was_shown(name, entry);
                for (at, entry) in history.iter().enumerate().skip(1).filter(|(_, entry)| there(entry)) {
                    found.push((self.last_used(&entry.value), name.clone(), at));
                }
            }
        }
        if options.kinds.contains(&CleanKind::Trees) {
            for (name, history) in &self.tree_histories {
                let name = format!("{TREE}{name}");
                let pairs = history.windows(2).enumerate().filter(|(_, pair)| self.was_shown(&name, &pair[1]));
                found.extend(pairs.map(|(at, pair)| (seconds(&pair[0].since), name.clone(), at + 1)));
            }
        }
        found
    }

    /// What is not needed once `positions` are forgotten.
    pub(crate) fn unused(&self, options: &CleanOptions, positions: &Positions) -> Found {
        let wants = |kind| options.kinds.contains(&kind);
        let Reached { there, missing } = self.reached(positions);
        let missing = missing.into_iter().map(|id| format!("build state {id}"));
        let doubts: BTreeSet<String> = self.damaged.iter().cloned().chain(missing).collect();
        let in_doubt = !doubts.is_empty();
        let kept = if wants(CleanKind::States) && !in_doubt { there } else { self.states.keys().cloned().collect() };
        let mut found = Found { sessions: self.leaving.iter().map(|record| record.id.clone()).collect(), ..Found::default() };
        let mut gone: Vec<&State> = self.states.values().filter(|state| !kept.contains(&state.id)).collect();
        gone.sort_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id)));
        let needed: BTreeSet<&LayerId> =
            self.states.values().filter(|state| kept.contains(&state.id)).flat_map(|state| &state.layers).collect();
        let mut taken: BTreeSet<&LayerId> = BTreeSet::new();
        for state in gone {
            let own = state.layers.iter().filter(|layer| !needed.contains(layer) && taken.insert(layer)).cloned().collect();
            found.with_state.insert(state.id.clone(), own);
            found.states.push(state.id.clone());
        }
        if wants(CleanKind::Layers) && !in_doubt {
            let named: BTreeSet<&LayerId> = self.states.values().flat_map(|state| &state.layers).collect();
            found.layers = self.layers.iter().filter(|layer| !named.contains(layer)).cloned().collect();
        }
        // A missing state may have been built with any of the trees.
        if wants(CleanKind::Trees) && !in_doubt {
            let origins: Vec<String> = kept.iter().filter_map(|id| self.states.get(id)).map(|s| s.origin.to_string()).collect();
            for tree in &self.trees {
                let named = self.tree_histories.iter().any(|(name, history)| {
                    let forgotten = positions.get(&format!("{TREE}{name}"));
                    history.iter().enumerate().any(|(at, e)| e.value == tree.id && forgotten.is_none_or(|all| !all.contains(&at)))
                });
                // Searched as text, so that it is found in origins of any version.
                let digest = tree.meta.origin["digest"].as_str().unwrap_or(tree.id.as_str());
                if !named && !self.is_pinned(tree) && !origins.iter().any(|origin| origin.contains(digest)) {
                    found.trees.push(tree.id.clone());
                }
            }
        }
        found.kept = kept;
        found.doubts = doubts;
        found.forgotten = positions.iter().map(|(name, positions)| self.forgotten(name, positions)).collect();
        found
    }

    /// What is at `positions` of a name.
    fn forgotten(&self, name: &str, positions: &BTreeSet<usize>) -> Forgotten {
        fn at<T: Display>(history: &[RefEntry<T>], positions: &BTreeSet<usize>) -> (Vec<String>, Vec<String>) {
            let entries = positions.iter().filter_map(|at| history.get(*at));
            entries.map(|entry| (entry.value.to_string(), entry.since.clone())).unzip()
        }
        let tree = name.strip_prefix(TREE);
        let of_state = || self.histories.iter().find(|(known, _)| known == name).map(|(_, history)| at(history, positions));
        let of_tree = |name| self.tree_histories.iter().find(|(known, _)| known == name).map(|(_, history)| at(history, positions));
        let (values, since) = tree.map_or_else(of_state, of_tree).unwrap_or_default();
        let whole = self.orphans.contains_key(name) && values.len() == self.values_of(name);
        Forgotten { name: name.to_owned(), positions: positions.clone(), whole, values, since }
    }

    /// How many values a name has.
    fn values_of(&self, name: &str) -> usize {
        self.histories.iter().find(|(known, _)| known == name).map_or(0, |(_, history)| history.len())
    }

    /// The states that a name or session refers to, with all that they were made from.
    fn reached(&self, positions: &Positions) -> Reached {
        let mut ids: Vec<&StateId> = self.staying.iter().filter_map(|record| record.base.as_ref()).collect();
        for (name, history) in &self.histories {
            let forgotten = positions.get(name);
            ids.extend(
                history.iter().enumerate().filter(|(at, _)| forgotten.is_none_or(|all| !all.contains(at))).map(|(_, e)| &e.value),
            );
        }
        let parent = |id: &StateId| Ok::<_, Infallible>(self.states.get(id).map(|state| state.parent.clone()));
        let Ok(reached) = Reached::from(ids.into_iter().cloned(), parent);
        reached
    }

    /// Whether something cannot be read that says what is needed.
    pub(crate) fn is_in_doubt(&self) -> bool {
        !self.damaged.is_empty()
    }

    /// Whether the configuration pins this tree, by its digest or revision.
    fn is_pinned(&self, tree: &Tree) -> bool {
        ["digest", "rev"].iter().filter_map(|field| tree.meta.origin[*field].as_str()).any(|text| {
            let text = text.rsplit(':').next().unwrap_or(text);
            text.len() >= 8 && self.pins.contains(text)
        })
    }

    /// The trees that stay.
    pub(crate) fn kept_trees(&self, found: &Found) -> Vec<&Tree> {
        self.trees.iter().filter(|tree| !found.trees.contains(&tree.id)).collect()
    }

    /// Whether a suspended session is kept: its packages are in no state yet.
    pub(crate) fn is_something_suspended(&self) -> bool {
        self.staying.iter().any(|record| matches!(record.status, SessionStatus::Suspended { .. }))
    }

    pub(crate) fn suspended_note(&self) -> Option<String> {
        let count = self.staying.iter().filter(|record| matches!(record.status, SessionStatus::Suspended { .. })).count();
        let sessions =
            if count == 1 { "1 suspended session that can go on stays" } else { "suspended sessions that can go on stay" };
        match count {
            0 => None,
            1 => Some(format!("{sessions}; `--sessions` takes it too")),
            _ => Some(format!("{count} {sessions}; `--sessions` takes them too")),
        }
    }

    /// All directories that take space, to measure the whole.
    pub(crate) fn all_paths(&self, root: &Path) -> Vec<PathBuf> {
        let layers = self.layers.iter().map(|id| root.join("layers").join(id.as_str()));
        let trees = self.trees.iter().map(|tree| root.join("trees").join(tree.id.as_str()));
        let sessions = self.staying.iter().chain(&self.leaving).map(|record| root.join("sessions").join(record.id.as_str()));
        layers.chain(trees).chain(sessions).chain([root.join("states")]).collect()
    }

    /// When a state was last used, seconds since 1970.
    pub(crate) fn last_used(&self, id: &StateId) -> i64 {
        self.used.get(id).copied().unwrap_or(0)
    }

    /// What a name stands for now.
    pub(crate) fn present(&self, name: &str) -> Option<&StateId> {
        let (_, history) = self.histories.iter().find(|(known, _)| known == name)?;
        history.first().map(|entry| &entry.value)
    }

    /// Whether a name that protects its values has this state among them.
    pub(crate) fn keeps(&self, state: &str) -> bool {
        let mut keeping = self.histories.iter().filter(|(name, _)| KEEPING.iter().any(|prefix| name.starts_with(prefix)));
        keeping.any(|(_, history)| history.iter().any(|entry| entry.value.as_str() == state))
    }

    /// Why a state is not needed.
    fn why(&self, id: &StateId, forgotten: &[Forgotten]) -> String {
        let was = forgotten.iter().find_map(|Forgotten { name, positions, .. }| {
            let (_, history) = self.histories.iter().find(|(known, _)| known == name)?;
            let at = history.iter().enumerate().find(|(at, entry)| positions.contains(at) && entry.value == *id)?.0;
            if let Some(why) = self.orphans.get(name) {
                return Some(why.clone());
            }
            Some(format!("earlier state `{name}@{{{at}}}`, last used {}", day(self.last_used(id))))
        });
        was.unwrap_or_else(|| "it has no name".to_owned())
    }
}

impl Found {
    /// Why states, layers and trees stay although nothing complete needs them.
    pub(crate) fn doubt(&self) -> Option<String> {
        let first = self.doubts.first()?;
        let others = match self.doubts.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!(
            "{first}{others} is needed, but missing or damaged: all states, layers and trees stay, and what they may need; \
             `gentoomuch store verify` says what to do"
        ))
    }

    /// The directories to be removed, to measure them.
    pub(crate) fn paths(&self, root: &Path) -> Vec<PathBuf> {
        let layers = self.with_state.values().flatten().chain(&self.layers).map(|id| root.join("layers").join(id.as_str()));
        let trees = self.trees.iter().map(|id| root.join("trees").join(id.as_str()));
        let sessions = self.sessions.iter().map(|id| root.join("sessions").join(id.as_str()));
        layers.chain(trees).chain(sessions).collect()
    }

    /// Everything to be removed, as items; `sizes` has what [`Found::paths`] take.
    pub(crate) fn items(&self, survey: &Survey, sizes: &BTreeMap<PathBuf, u64>, root: &Path) -> Vec<CleanItem> {
        let mut items = Vec::new();
        let size = |path: &Path| sizes.get(path).copied().unwrap_or(0);
        for id in &self.states {
            let layers = self.with_state.get(id).cloned().unwrap_or_default();
            let path = root.join("states").join(format!("{id}.json"));
            let own = allocated(&path) + layers.iter().map(|id| size(&root.join("layers").join(id.as_str()))).sum::<u64>();
            let name = survey.states.get(id).map_or_else(|| id.to_string(), state_name);
            let why = survey.why(id, &self.forgotten);
            items.push(CleanItem { kind: CleanKind::States, name, path, bytes: own, why, thing: Thing::State(id.clone(), layers) });
        }
        let mut directory = |kind, sub: &str, id: &str, name: String, why: String, thing| {
            let path = root.join(sub).join(id);
            items.push(CleanItem { kind, name, bytes: size(&path), path, why, thing });
        };
        for id in &self.layers {
            let why = "no build state has it".to_owned();
            directory(CleanKind::Layers, "layers", id.as_str(), id.to_string(), why, Thing::Layer(id.clone()));
        }
        for tree in survey.trees.iter().filter(|tree| self.trees.contains(&tree.id)) {
            let name = format!("{} {}", tree.id, tree.meta.origin["name"].as_str().unwrap_or_default());
            let why = "it has no name, and no kept state was built with it".to_owned();
            directory(CleanKind::Trees, "trees", tree.id.as_str(), name.trim().to_owned(), why, Thing::Tree(tree.id.clone()));
        }
        for record in survey.leaving.iter().filter(|record| self.sessions.contains(&record.id)) {
            let what = record.subject.clone().unwrap_or_else(|| record.purpose.to_string());
            let why = match &record.status {
                SessionStatus::Suspended { note, .. } => format!("suspended: {note}"),
                SessionStatus::Active => "no process works in it".to_owned(),
            };
            let name = format!("{} {what}", record.id);
            directory(CleanKind::Sessions, "sessions", record.id.as_str(), name, why, Thing::Session(record.id.clone()));
        }
        items
    }
}

/// A state for people: the start of its id, its kind and its profile.
fn state_name(state: &State) -> String {
    let origin = &state.origin;
    let id = &state.id.as_str()[..12];
    let what = origin.definition().or_else(|| origin.name()).or_else(|| origin.kind()).unwrap_or("state");
    let on = origin.profile().map(|profile| format!(" on {profile}")).unwrap_or_default();
    format!("{id} {what}{on}")
}

/// Seconds since 1970 of an RFC 3339 time; 0 if it is invalid, so that it counts as old.
fn seconds(rfc3339: &str) -> i64 {
    rfc3339.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second)
}

/// A day for people, UTC.
pub(crate) fn day(secs: i64) -> String {
    jiff::Timestamp::from_second(secs).unwrap_or(jiff::Timestamp::UNIX_EPOCH).strftime("%Y-%m-%d").to_string()
}

/// What a file takes on the disk, bytes.
fn allocated(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).map_or(0, |meta| meta.blocks() * 512)
}
