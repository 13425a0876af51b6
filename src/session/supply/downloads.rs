//! What a configuration says about downloads, and what a state keeps of it for builds on top of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use rustix::fs::FileType;
use serde_json::Value;

use crate::beneath::TreeDir;
use crate::config::PortageDir;
use crate::fetch::{BinHost, Sources, Tree, dictionary};
use crate::origin::Origin;
use crate::portage::binrepos;
use crate::portage::session_conf::protocol_of;
use crate::release::OFFICIAL;
use crate::trees::choose::PinnedTree;

pub(crate) use crate::origin::Downloads;

/// The field of a state's origin.
const RECORD: &str = "downloads";
/// Below `/etc/portage`: hosts, and named mirrors.
const BINREPOS: &str = "binrepos.conf";
const MIRRORS: &str = "mirrors";
/// How many files are read from a stage3.
const MOST_FILES: usize = 100;
const FILE_LIMIT_BYTES: u64 = 64 * 1024;

impl Default for Downloads {
    fn default() -> Self {
        Self {
            mirrors: vec![OFFICIAL.to_owned()],
            named_mirrors: BTreeMap::new(),
            hosts: BTreeMap::new(),
            stage3_hosts: BTreeMap::new(),
            protocols: BTreeSet::new(),
        }
    }
}

impl Downloads {
    /// From a merged configuration, and from the stage3 (its layers) that it is applied to.
    pub(crate) fn of(portage: &PortageDir, stage3: &[PathBuf]) -> Self {
        let texts = |top: &'static str| {
            let files = portage.files.iter().filter(move |(path, _)| path.starts_with(top));
            files.map(|(_, contents)| String::from_utf8_lossy(contents).into_owned())
        };
        let mirrors = portage.variable("GENTOO_MIRRORS");
        let mirrors = mirrors.map(|text| text.split_whitespace().map(str::to_owned).collect());
        let mut named_mirrors: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, addresses) in texts(MIRRORS).flat_map(|text| dictionary(&text)) {
            named_mirrors.entry(name).or_default().extend(addresses);
        }
        Self {
            mirrors: mirrors.unwrap_or_else(|| Self::default().mirrors),
            named_mirrors,
            hosts: binrepos::hosts(texts(BINREPOS).collect::<Vec<_>>().iter().map(String::as_str)),
            stage3_hosts: hosts_of(stage3),
            protocols: portage.variables().iter().filter_map(|(name, _)| protocol_of(name).map(str::to_owned)).collect(),
        }
    }

    /// From the configuration that a state was made with. A stage4 has its base's.
    pub(crate) fn recorded(origin: &Origin) -> Self {
        origin.downloads().cloned().unwrap_or_default()
    }

    /// Notes it in a state's origin.
    pub(crate) fn note(&self, origin: &mut Value) {
        origin[RECORD] = serde_json::json!(self);
    }

    /// From now on no host of binary packages is asked.
    pub(crate) fn forget_hosts(&mut self) {
        self.hosts.clear();
        self.stage3_hosts.clear();
    }

    /// The hosts of binary packages. Those of a stage3 are asked only if the configuration names some, too. If a stage3 names a
    /// directory, that is not a directory of this machine, so it is left out.
    pub(crate) fn hosts(&self) -> Vec<BinHost> {
        let host = |(name, uri): (&String, &String), configured| BinHost { name: name.clone(), sync_uri: uri.clone(), configured };
        let stage3 = self.stage3_hosts.iter().map(|known| host(known, false));
        let stage3 = stage3.filter(|host| !self.hosts.is_empty() && host.directory().is_none());
        let own = self.hosts.iter().map(|known| host(known, true));
        let hosts: BTreeMap<String, BinHost> = stage3.chain(own).map(|host| (host.name.clone(), host)).collect();
        hosts.into_values().collect()
    }

    /// The protocols for which it sets commands.
    pub(crate) fn protocols(&self) -> &BTreeSet<String> {
        &self.protocols
    }

    /// All sources for a session with these trees.
    pub(crate) fn sources(&self, trees: &[PinnedTree]) -> Sources {
        let tree = |tree: &PinnedTree| Tree { name: tree.name.clone(), dir: tree.path.clone() };
        Sources {
            trees: trees.iter().map(tree).collect(),
            mirrors: self.mirrors.clone(),
            custom_mirrors: self.named_mirrors.clone(),
            hosts: self.hosts(),
        }
    }
}

/// The hosts in a stage3's `/etc/portage/binrepos.conf`. The stage3 was verified, but is read like any tree that somebody else has made.
fn hosts_of(layers: &[PathBuf]) -> BTreeMap<String, String> {
    let texts = layers.iter().rev().flat_map(|layer| {
        let dir = TreeDir::open(layer).and_then(|top| top.open_dir("etc/portage/binrepos.conf"));
        let read = dir.and_then(|dir| {
            let mut names = dir.entries(MOST_FILES)?;
            names.retain(|entry| entry.kind == FileType::RegularFile);
            names.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(names.iter().filter_map(|entry| dir.read(entry.os(), FILE_LIMIT_BYTES).ok()).collect::<Vec<_>>())
        });
        read.unwrap_or_default()
    });
    let texts: Vec<String> = texts.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect();
    binrepos::hosts(texts.iter().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigDir;
    use crate::origin::Recorded;

    fn names(said: &Downloads) -> Vec<String> {
        said.hosts().into_iter().map(|host| host.name).collect()
    }

    fn of(files: &[(&str, &str)]) -> Downloads {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files.iter().chain(&[("stage3.defines/x/portage.local", "")]) {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let config = ConfigDir::open(dir.path()).unwrap();
        Downloads::of(&config.portage_dir(&config.stage3("x").unwrap()).unwrap(), &[dir.path().join("stage3")])
    }

    #[test]
    fn all_that_names_a_place_counts() {
        let said = of(&[
            ("portage.global/make.conf", "M=http://b\nGENTOO_MIRRORS=\"http://a ${M}\"\nFETCHCOMMAND_GOPHER=\"x\"\n"),
            ("portage.global/mirrors/one", "# local\ngnu http://g/1 # rest\nlocal http://l\nempty\n"),
            ("portage.global/mirrors/two", "gnu http://g/2\n"),
            ("portage.global/binrepos.conf", "[own]\nsync-uri = http://h/p/\n"),
        ]);
        assert_eq!(said.mirrors, ["http://a", "http://b"]);
        let named: Vec<(&str, String)> = said.named_mirrors.iter().map(|(name, all)| (name.as_str(), all.join(" "))).collect();
        assert_eq!(named, [("gnu", "http://g/1 http://g/2".to_owned()), ("local", "http://l".to_owned())]);
        assert_eq!(names(&said), ["own"]);
        assert_eq!(said.protocols, BTreeSet::from(["GOPHER".to_owned()]));
        assert_eq!(of(&[("portage.global/make.conf", "GENTOO_MIRRORS=\"\"\n")]).mirrors, Vec::<String>::new());
        assert_eq!(of(&[]), Downloads::default());
        let stage3 = (
            "stage3/etc/portage/binrepos.conf/gentoo.conf",
            "[gentoo]\nsync-uri = http://g/\n[own]\nsync-uri = http://no\n[dir]\nsync-uri = file:///var\n",
        );
        assert_eq!(names(&of(&[stage3])), [""; 0], "not where the configuration names none");
        let mut said = of(&[stage3, ("portage.global/binrepos.conf", "[own]\nsync-uri = http://h\n")]);
        let hosts: Vec<_> = said.sources(&[]).hosts.into_iter().map(|host| (host.name, host.sync_uri)).collect();
        assert_eq!(hosts, [("gentoo", "http://g"), ("own", "http://h")].map(|(name, uri)| (name.to_owned(), uri.to_owned())));
        said.forget_hosts();
        assert!(names(&said).is_empty(), "neither those of the stage3");
    }

    #[test]
    fn a_state_keeps_it_for_what_is_built_on_it() {
        let said = Downloads { mirrors: vec!["http://a".to_owned()], ..Downloads::default() };
        let mut origin = serde_json::json!({ "kind": "stage3 definition" });
        said.note(&mut origin);
        let kept = serde_json::json!({ "kind": "kept session", "parent": { "kind": "stage4 definition", "base": origin } });
        assert_eq!(Downloads::recorded(&Recorded::from(kept)), said);
        assert_eq!(Downloads::recorded(&Recorded::from(serde_json::json!({}))), Downloads::default());
    }
}
