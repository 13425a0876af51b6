//! `why`: what pulls a package into a state, and what the state could lose without it.
//!
//! ```text
//! stage4.defines/web/packages:3   app-misc/greeter           a line of the configuration, or of the Portage profile
//!   app-misc/greeter-1.0          needs dev-libs/greet:=     an installed package, and the atom in its dependencies
//!     dev-libs/greet-1.0
//! ```

use std::collections::BTreeMap;

use serde::Serialize;

use crate::config::{ConfigDir, Package as Wanted, Place};
use crate::context;
use crate::context::Context;
use crate::did_you_mean::nearest;
use crate::installed::audit::is_package;
use crate::installed::chains::{Chain, Chains};
use crate::installed::whose::{Contents, whose};
use crate::installed::{Error, Read, Result, asked, read};
use crate::portage::atom::Atom;
use crate::portage::vdb::Package;
use crate::query;
use crate::query::why::{Built, Graph};
use crate::store::{State, StateId};
use crate::trees::choose::trees_of_state;

/// More ways to a package are counted only.
const MAX_WAYS: usize = 200;

/// Why one package is there.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Explained {
    /// Whose package it is: a name that commands take, or the path of an artifact.
    pub of: String,
    pub state: StateId,
    pub package: Sized,
    /// Ways to it: short ones first.
    pub ways: Vec<Way>,
    /// Further ones, which are left out.
    pub more_ways: usize,
    /// The package, and what nothing else leads to; largest first.
    pub could_go: Vec<Sized>,
    /// Their size.
    pub could_go_bytes: u64,
    /// What Portage could not read, so that something may be missing here.
    pub unread: Vec<String>,
}

/// An installed package with its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Sized {
    pub package: String,
    /// As Portage noted it; `None` if it did not.
    pub size_bytes: Option<u64>,
}

/// A way from a line to the package.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Way {
    /// `system`, `profile`, `selected` for a line of world, or another set.
    pub set: String,
    /// What that names.
    pub atom: String,
    /// Where the configuration says so, or the Portage profile: `FILE:LINE`. None: it is only in the state's world file.
    pub places: Vec<String>,
    /// Packages from the one that is named to the one in question.
    pub packages: Vec<Step>,
}

/// A package on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Step {
    #[serde(flatten)]
    pub package: Sized,
    /// The atom in the dependencies of the package before; `None` for the first.
    pub by: Option<String>,
    /// Whether it is needed only to build the one before.
    pub only_to_build: bool,
}

/// Says why `word`, a package or an atom, is in what `words` name; without words in the default profile's builder.
pub(crate) fn why(cx: &Context<'_>, word: &str, words: Option<&str>) -> Result<Vec<Explained>> {
    let _shared = context::share_store(cx)?;
    let subject = whose(cx, words)?;
    let state = match &subject.contents {
        Contents::State(state) => state,
        Contents::Listed { path, .. } => return Err(Error::NoDependencies { path: path.clone() }),
    };
    let read = cleaned(read(cx, &subject.name, state, true)?);
    let atom = meant(word, &subject.name, &read.packages)?;
    let trees = trees_of_state(cx, &subject.base)?;
    cx.observer.step(&format!("asking Portage about {}", subject.name));
    let built: Vec<Built<'_>> = read.packages.iter().zip(&read.needs).map(built).collect();
    let question = query::why::Why { packages: &built, world: &read.world, atom: &atom.to_string() };
    let graph = asked(cx, &subject.base, &trees, "why", vec![question])?.pop().unwrap_or_default();
    // Who has changed Portage's modules in the base can answer anything.
    let graph = if graph.is_within(read.packages.len()) { graph } else { Graph::default() };
    if graph.targets.is_empty() {
        return Err(not_installed(&atom, &subject.name, &read.packages));
    }
    let lines = Lines::of(cx, state);
    Ok(graph.targets.iter().map(|target| explained(&subject.name, state, &read.packages, &graph, *target, &lines)).collect())
}

/// Without what has no name of a package.
fn cleaned(read: Read) -> Read {
    let rows = read.packages.into_iter().zip(read.needs).filter(|(package, _)| is_package(package));
    let (packages, needs) = rows.unzip();
    Read { packages, needs, ..read }
}

fn built<'a>((package, values): (&'a Package, &'a BTreeMap<String, String>)) -> Built<'a> {
    Built { cpv: &package.cpv, slot: &package.slot, repository: &package.repo, values }
}

/// The atom that `word` means: a name without a category is that of an installed package.
fn meant(word: &str, name: &str, packages: &[Package]) -> Result<Atom> {
    let parse = |text: &str| Atom::parse_target(text).map_err(|source| Error::Word { word: word.to_owned(), source });
    if word.contains('/') {
        // `category/name-version`, as everything else prints it.
        let is_version = packages.iter().any(|package| package.cpv == word);
        return parse(&if is_version { format!("={word}") } else { word.to_owned() });
    }
    let mut named: Vec<&str> = packages.iter().map(Package::name).filter(|known| known.rsplit('/').next() == Some(word)).collect();
    named.dedup();
    match named.as_slice() {
        [only] => parse(only),
        [] => {
            let bare = |package: &Package| package.name().rsplit('/').next().unwrap_or_default().to_owned();
            let known: Vec<String> = packages.iter().map(bare).collect();
            let at = nearest(word, &known).and_then(|near| known.iter().position(|name| name == near));
            let nearest = at.map(|at| packages[at].name().to_owned());
            Err(Error::NotInstalled { package: word.to_owned(), name: name.to_owned(), versions: Vec::new(), nearest })
        }
        several => Err(Error::Several { word: word.to_owned(), packages: several.iter().map(|name| (*name).to_owned()).collect() }),
    }
}

fn not_installed(atom: &Atom, name: &str, packages: &[Package]) -> Error {
    let of_name = packages.iter().filter(|package| package.name() == atom.name());
    let versions: Vec<String> = of_name.map(|package| package.cpv.clone()).collect();
    let known = packages.iter().map(Package::name);
    let nearest = if versions.is_empty() { nearest(&atom.name(), known).map(str::to_owned) } else { None };
    Error::NotInstalled { package: atom.to_string(), name: name.to_owned(), versions, nearest }
}

/// Lines of the configuration that name packages, for a state.
struct Lines(Vec<(Place, Wanted)>);

impl Lines {
    /// Those of its definitions as they are now. A configuration that is gone, or wrong, has none: then the world file is the answer.
    fn of(cx: &Context<'_>, state: &State) -> Self {
        let Ok(config) = ConfigDir::open(&cx.places.config) else { return Self(Vec::new()) };
        let mut lines = Vec::new();
        let origin = state.origin.made_from();
        let definition = origin.definition().map(str::to_owned);
        let (stage4, stage3) = match origin.as_stage4() {
            Some(_) => {
                let stage4 = definition.and_then(|name| config.stage4(&name).ok());
                (stage4.clone(), stage4.map(|stage4| stage4.stage3.value))
            }
            None => (None, definition),
        };
        let stage3 = stage3.and_then(|name| config.stage3(&name).ok());
        let stage4 = stage4.into_iter().flat_map(|stage4| stage4.packages);
        for package in stage4.chain(stage3.into_iter().flat_map(|stage3| stage3.packages)) {
            lines.push((package.place(), package.value));
        }
        Self(lines)
    }

    /// Where a package of world is named. World has no versions, so only names and slots are compared.
    fn places(&self, set: &str, atom: &str) -> Vec<String> {
        let main = |slot: &str| slot.split('/').next().map(str::to_owned);
        let wanted = Atom::parse_target(atom).ok();
        let is_meant = |line: &Wanted| match (line, &wanted) {
            (Wanted::Set(name), _) if set != "selected" => name == set,
            (Wanted::Atom(line), Some(wanted)) => {
                let slots = (&line.slot, &wanted.slot);
                line.name() == wanted.name() && !matches!(slots, (Some(line), Some(wanted)) if main(line) != main(wanted))
            }
            _ => false,
        };
        self.0.iter().filter(|(_, line)| is_meant(line)).map(|(place, _)| place.to_string()).collect()
    }
}

fn sized(package: &Package) -> Sized {
    Sized { package: package.cpv.clone(), size_bytes: package.size_bytes }
}

fn explained(of: &str, state: &State, packages: &[Package], graph: &Graph, target: usize, lines: &Lines) -> Explained {
    let chains = Chains::new(graph, packages.len());
    let ways = chains.to(target);
    let more_ways = ways.len().saturating_sub(MAX_WAYS);
    let mut could_go: Vec<Sized> = chains.only_by(target).into_iter().map(|at| sized(&packages[at])).collect();
    could_go.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.package.cmp(&b.package)));
    Explained {
        of: of.to_owned(),
        state: state.id.clone(),
        package: sized(&packages[target]),
        ways: ways.into_iter().take(MAX_WAYS).map(|chain| way(&chain, packages, lines)).collect(),
        more_ways,
        could_go_bytes: could_go.iter().filter_map(|one| one.size_bytes).fold(0, u64::saturating_add),
        could_go,
        unread: graph.unread.clone(),
    }
}

fn way(chain: &Chain<'_>, packages: &[Package], lines: &Lines) -> Way {
    let root = chain.root;
    let first = Step { package: sized(&packages[root.package]), by: None, only_to_build: false };
    let others = chain.needs.iter().map(|need| Step {
        package: sized(&packages[need.to]),
        by: Some(need.atom.clone()),
        only_to_build: !need.run,
    });
    let places = if root.place.is_empty() { lines.places(&root.set, &root.atom) } else { vec![root.place.clone()] };
    Way { set: root.set.clone(), atom: root.atom.clone(), places, packages: std::iter::once(first).chain(others).collect() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn package(cpv: &str, size: u64) -> Package {
        Package { cpv: cpv.to_owned(), slot: "0".to_owned(), size_bytes: Some(size), ..Package::default() }
    }

    #[test]
    fn a_word_is_a_package_that_is_installed() {
        let packages = [package("app-misc/hello-2.10", 1), package("dev-libs/greet-1.0", 1), package("x-libs/greet-1.0", 1)];
        let said = |word: &str| match meant(word, "stage4/web", &packages) {
            Ok(atom) => atom.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(said("hello"), "app-misc/hello");
        assert_eq!(said("app-misc/hello-2.10"), "=app-misc/hello-2.10");
        assert_eq!(said(">=app-misc/hello-3"), ">=app-misc/hello-3");
        assert_eq!(said("app-misc/other"), "app-misc/other");
        assert_eq!(said("greet"), "several packages are called `greet`");
        assert_eq!(said("hallo"), "`hallo` is not installed in `stage4/web`");
        let near = |word: &str| match meant(word, "x", &packages) {
            Err(Error::NotInstalled { nearest, .. }) => nearest,
            other => panic!("{other:?}"),
        };
        assert_eq!((near("hallo").as_deref(), near("nothing-like-it")), (Some("app-misc/hello"), None));
        assert_eq!(said("app-misc/hello world"), "`app-misc/hello world` cannot be a package");
        let error = not_installed(&Atom::parse_target(">=app-misc/hello-3").unwrap(), "x", &packages);
        assert!(matches!(error, Error::NotInstalled { versions, .. } if versions == ["app-misc/hello-2.10"]));
        let error = not_installed(&Atom::parse_target("app-misc/hallo").unwrap(), "x", &packages);
        assert!(matches!(error, Error::NotInstalled { nearest: Some(near), .. } if near == "app-misc/hello"));
    }

    #[test]
    fn a_package_of_world_is_found_in_the_configuration() {
        let line = |text: &str, number| {
            let wanted = text
                .strip_prefix('@')
                .map_or_else(|| Wanted::Atom(Atom::parse_target(text).unwrap()), |name| Wanted::Set(name.to_owned()));
            (Place::new(Path::new("stage4.defines/x/packages"), number), wanted)
        };
        let lines = Lines(vec![line(">=app-misc/hello-2", 1), line("dev-lang/python:3.12", 2), line("@tools", 3), line("a/b", 4)]);
        for (set, atom, places) in [
            ("selected", "app-misc/hello", &["stage4.defines/x/packages:1"][..]),
            ("selected", "dev-lang/python:3.12", &["stage4.defines/x/packages:2"]),
            ("selected", "dev-lang/python:3.13", &[]),
            ("tools", "x/y", &["stage4.defines/x/packages:3"]),
            ("selected", "x/y", &[]),
        ] {
            assert_eq!(lines.places(set, atom), places, "{set} {atom}");
        }
    }
}
