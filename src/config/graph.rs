//! What a stage uses, and what no stage uses: the configuration directory as a graph of names.
//!
//! ```text
//! stage4 web ─┬─ stage3 server ─┬─ cpu, fragments
//!             │                 └─ sets ── sets, scripts
//!             ├─ sets, scripts, removals, kernel
//!             └─ patches, hooks            what every stage gets
//! ```
//!
//! A name that leads nowhere is part of the graph, too, and marked. So a directory with errors has a graph; `config check` reports the
//! errors.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::diagnostic::{Findings, Located, Place};
use super::hooks::Hooks;
use super::names::Shape;
use super::{ConfigDir, Result, kernel, names, packages, reading, stage};

/// What a [`Node`] stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum NodeKind {
    Stage4,
    Stage3,
    /// The profile that a stage4 starts from.
    Profile,
    PortageProfile,
    /// One of `cpu.defines`.
    Cpu,
    /// `portage.global`, or one of `portage.locals`.
    Fragment,
    /// One of `package.sets`, or a set of Portage's.
    Set,
    /// One of `user.scripts`.
    Script,
    /// One of `user.removes`.
    Removes,
    /// One of `kernel.configs`.
    Kernel,
    /// One of `user.patches`.
    Patch,
    /// A hook, the user's or a shipped one.
    Hook,
    /// What every stage gets.
    Everyone,
}

impl NodeKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stage4 => "stage4",
            Self::Stage3 => "stage3",
            Self::Profile => "profile",
            Self::PortageProfile => "Portage profile",
            Self::Cpu => "cpu",
            Self::Fragment => "fragment",
            Self::Set => "set",
            Self::Script => "script",
            Self::Removes => "removes",
            Self::Kernel => "kernel",
            Self::Patch => "patch",
            Self::Hook => "hook",
            Self::Everyone => "every stage",
        }
    }
}

/// Something with a name, and what it uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Node {
    pub kind: NodeKind,
    pub name: String,
    /// The line that names it; `None` if it is used without being named.
    pub named_at: Option<Place>,
    /// Its place; `None` if it is not part of the configuration directory.
    pub path: Option<PathBuf>,
    /// Whether nothing has this name.
    pub missing: bool,
    /// For a list: how many packages or paths it contains directly.
    pub entries: Option<usize>,
    /// Whether its contents are shown at an earlier place.
    pub told_before: bool,
    /// What it uses, in order.
    pub uses: Vec<Node>,
}

/// Something that no stage uses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Unused {
    pub kind: NodeKind,
    pub name: String,
    pub path: PathBuf,
}

/// The graph of one stage or of all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Graph {
    /// The stage, or all stages and what is common to them.
    pub roots: Vec<Node>,
    /// What no stage of the directory uses, by kind and name.
    pub unused: Vec<Unused>,
}

impl ConfigDir {
    /// What the stage `name`, or every stage, uses, and what none uses.
    pub fn graph(&self, name: Option<&str>) -> Result<Graph> {
        let all = self.graph_of_all();
        let mut used = BTreeSet::new();
        for root in &all {
            collect(root, &mut used);
        }
        let unused = self.unused(&used);
        let Some(name) = name else { return Ok(Graph { roots: all, unused }) };
        let mut reader = Reader::new(self.root());
        let mut root = match self.find_stage(name)? {
            stage::Found::Stage4(name) => reader.stage4(&name),
            stage::Found::Stage3(name) => reader.stage3(&name, None),
        };
        let is_stage4 = root.kind == NodeKind::Stage4;
        root.uses.extend(reader.patches());
        root.uses.extend(reader.hooks(is_stage4));
        Ok(Graph { roots: vec![root], unused })
    }

    fn graph_of_all(&self) -> Vec<Node> {
        let mut reader = Reader::new(self.root());
        let mut roots: Vec<Node> = self.stage4_names().iter().map(|name| reader.stage4(name)).collect();
        for name in self.stage3_names() {
            if !reader.told.contains(&name) {
                roots.push(reader.stage3(&name, None));
            }
        }
        let mut common = node(NodeKind::Everyone, "", None, None);
        common.uses = reader.patches();
        common.uses.extend(reader.hooks(true));
        if !common.uses.is_empty() {
            roots.push(common);
        }
        roots
    }

    fn unused(&self, used: &BTreeSet<PathBuf>) -> Vec<Unused> {
        let folders = [
            (NodeKind::Cpu, "cpu.defines", Shape::Fragment),
            (NodeKind::Fragment, "portage.locals", Shape::Fragment),
            (NodeKind::Set, "package.sets", Shape::File),
            (NodeKind::Script, "user.scripts", Shape::File),
            (NodeKind::Removes, "user.removes", Shape::File),
            (NodeKind::Kernel, "kernel.configs", Shape::File),
        ];
        let mut unused = Vec::new();
        for (kind, folder, shape) in folders {
            for name in names::list(self.root(), folder, shape) {
                let path = Path::new(folder).join(&name);
                // dracut's arguments belong to the configuration of the same name.
                if kind == NodeKind::Kernel && path.extension().is_some_and(|extension| extension == "dracut") {
                    continue;
                }
                if !used.contains(&path) {
                    unused.push(Unused { kind, name, path });
                }
            }
        }
        unused
    }
}

fn collect(node: &Node, used: &mut BTreeSet<PathBuf>) {
    used.extend(node.path.clone());
    for below in &node.uses {
        collect(below, used);
    }
}

fn node(kind: NodeKind, name: &str, named_at: Option<Place>, path: Option<PathBuf>) -> Node {
    Node { kind, name: name.to_owned(), named_at, path, missing: false, entries: None, told_before: false, uses: Vec::new() }
}

struct Reader<'a> {
    findings: Findings<'a>,
    /// Stage3 definitions that are in the graph already.
    told: BTreeSet<String>,
}

impl<'a> Reader<'a> {
    fn new(root: &'a Path) -> Self {
        Self { findings: Findings::new(root), told: BTreeSet::new() }
    }

    fn list(&mut self, file: &Path) -> Vec<Located<String>> {
        reading::list(&mut self.findings, file).unwrap_or_default()
    }

    /// What is called `name` in `folder`.
    fn named(&self, kind: NodeKind, folder: &str, shape: Shape, name: &Located<String>) -> Node {
        let path = Path::new(folder).join(&name.value);
        let full = self.findings.root().join(&path);
        let there = names::is_name(&name.value) && if shape == Shape::File { full.is_file() } else { full.is_dir() };
        let mut node = node(kind, &name.value, Some(name.place()), there.then_some(path));
        node.missing = !there;
        node
    }

    fn stage4(&mut self, name: &str) -> Node {
        let dir = Path::new("stage4.defines").join(name);
        let mut root = node(NodeKind::Stage4, name, None, Some(dir.clone()));
        let profiles = self.list(&dir.join("profile"));
        root.uses.extend(profiles.iter().map(|profile| node(NodeKind::Profile, &profile.value, Some(profile.place()), None)));
        for stage3 in self.list(&dir.join("stage3")) {
            root.uses.push(self.stage3(&stage3.value, Some(&stage3)));
        }
        self.common(&dir, &mut root);
        for entry in self.list(&dir.join("removes")).iter().filter(|entry| !entry.value.starts_with('/')) {
            let mut removes = self.named(NodeKind::Removes, "user.removes", Shape::File, entry);
            removes.entries = removes.path.clone().map(|path| self.list(&path).len());
            root.uses.push(removes);
        }
        for kconf in self.list(&dir.join("kconf")) {
            let name = kconf.value.strip_suffix(".kconf").unwrap_or(&kconf.value);
            let new = self.named(NodeKind::Kernel, kernel::CONFIGS, Shape::File, &kconf.with(format!("{name}.kconf")));
            let old = self.named(NodeKind::Kernel, kernel::DEFINES, Shape::Directory, &kconf.with(name.to_owned()));
            root.uses.push(if new.missing && !old.missing { old } else { new });
        }
        root
    }

    fn stage3(&mut self, name: &str, named: Option<&Located<String>>) -> Node {
        let mut root = match named {
            Some(named) => self.named(NodeKind::Stage3, "stage3.defines", Shape::Directory, named),
            None => node(NodeKind::Stage3, name, None, Some(Path::new("stage3.defines").join(name))),
        };
        let Some(dir) = root.path.clone() else { return root };
        if !self.told.insert(name.to_owned()) {
            root.told_before = true;
            return root;
        }
        for profile in self.list(&dir.join("portage.profile")) {
            root.uses.push(node(NodeKind::PortageProfile, &profile.value, Some(profile.place()), None));
        }
        for cpu in self.list(&dir.join("cpu")) {
            root.uses.push(self.named(NodeKind::Cpu, "cpu.defines", Shape::Fragment, &cpu));
        }
        let global = PathBuf::from("portage.global");
        if self.findings.root().join(&global).is_dir() {
            root.uses.push(node(NodeKind::Fragment, "portage.global", None, Some(global)));
        }
        for file in ["portage.local", "flags"] {
            for local in self.list(&dir.join(file)) {
                root.uses.push(self.named(NodeKind::Fragment, "portage.locals", Shape::Fragment, &local));
            }
        }
        self.common(&dir, &mut root);
        root
    }

    /// What stage3 and stage4 definitions both have.
    fn common(&mut self, dir: &Path, root: &mut Node) {
        let (sets, atoms) = self.sets(&dir.join("packages"), &mut Vec::new());
        root.entries = (atoms > 0).then_some(atoms);
        root.uses.extend(sets);
        for script in self.list(&dir.join("scripts")) {
            root.uses.push(self.named(NodeKind::Script, "user.scripts", Shape::File, &script));
        }
    }

    /// The sets that a list of packages names, and how many packages it names directly.
    fn sets(&mut self, file: &Path, within: &mut Vec<String>) -> (Vec<Node>, usize) {
        let (mut sets, mut atoms) = (Vec::new(), 0);
        for entry in packages::entries(&mut self.findings, file) {
            let name = entry.value.strip_prefix('@');
            let named = entry.with(name.unwrap_or(&entry.value).to_owned());
            let mut set = self.named(NodeKind::Set, "package.sets", Shape::File, &named);
            match (name, set.path.clone()) {
                (None, None) => {
                    atoms += 1;
                    continue;
                }
                // It may be one of Portage's sets.
                (Some(_), None) => {
                    let root = self.findings.root();
                    set.missing = !packages::is_portage_set(&set.name) && !packages::is_brought(root, &set.name);
                }
                (_, Some(_)) if within.contains(&set.name) => set.told_before = true,
                (_, Some(path)) => {
                    within.push(set.name.clone());
                    let (below, own) = self.sets(&path, within);
                    within.pop();
                    (set.uses, set.entries) = (below, Some(own));
                }
            }
            sets.push(set);
        }
        (sets, atoms)
    }

    fn patches(&mut self) -> Vec<Node> {
        let folder = Path::new("user.patches");
        let Ok(entries) = reading::entries(&self.findings.root().join(folder)) else { return Vec::new() };
        let mut patches = Vec::new();
        for entry in entries.iter().filter(|entry| entry.is_dir) {
            let path = folder.join(&entry.name);
            let files = reading::files_below(&mut self.findings, &path);
            let mut patch = node(NodeKind::Patch, &entry.name, None, Some(path));
            patch.entries = Some(files.len());
            patches.push(patch);
        }
        patches
    }

    /// The hooks of all phases, or of those of a stage3 definition.
    fn hooks(&self, is_stage4: bool) -> Vec<Node> {
        // `config check` reports their errors.
        let hooks = Hooks::with_config(self.findings.root()).unwrap_or_else(|_| Hooks::shipped());
        let hooks = hooks.iter().filter(|hook| is_stage4 || hook.phase != super::hooks::Phase::Stage);
        let node = |hook: &super::hooks::Hook| {
            let name = format!("{}.d/{}", hook.phase, hook.name);
            let path = hook.path.is_some().then(|| Path::new("hooks").join(&name));
            node(NodeKind::Hook, &name, None, path)
        };
        hooks.map(node).collect()
    }
}
