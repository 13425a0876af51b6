//! Updates the builder of a profile in place, instead of building a new one.
//!
//! The new state has the key that a bootstrap from the same inputs would have. So both are the same for what stands on them.

pub(crate) mod pretend;
pub(crate) mod stale;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use crate::build_key::Inputs;
use crate::config::hooks::Phase;
use crate::config::{BUILDER, ConfigDir, MAKE_CONF, PortageDir};
use crate::context::Context;
use crate::inventory::{packages_in, packages_of};
use crate::names::refs::{definition_lock, ref_name};
use crate::origin::Origin;
use crate::portage::binpkgs::{PackageKey, PoolInputs};
use crate::portage::emerge::request::{Existing, Goal, Mode, Request};
use crate::portage::package_files::LineFile;
use crate::portage::untrusted;
use crate::portage::vdb::Package;
use crate::recipe::definition::{Filled, HOSTS_INPUT, Hosts, Stage3, definition_words, profile_link};
use crate::recipe::merge::live_goal;
use crate::recipe::patches::applied;
use crate::recipe::realise::{Built, InSession, Recipe, in_session};
use crate::recipe::{Result, consult, definition, merge};
use crate::sandbox::plan::Network;
use crate::session::binhost::OF_HOSTS;
use crate::session::keys::pools::PoolUse;
use crate::session::keys::{learn, pools};
use crate::session::work::{Given, StepsDone, Subject};
use crate::session::{Work, emerge, emerge_argv, hooks, run, work};
use crate::store::{Purpose, Session, State};

/// Portage's record of libraries that it keeps for programs that were not rebuilt.
pub(crate) const PRESERVED_LIBS: &str = "/var/lib/portage/preserved_libs_registry";

/// How much of that file is read.
pub(crate) const PRESERVED_LIMIT_BYTES: u64 = 4 << 20;

/// How much is read of a file of the stage3's `/etc/portage` that is brought back.
pub(crate) const CONF_LIMIT_BYTES: u64 = 1 << 20;

/// The new builder of a profile, made from the present one.
pub(crate) struct UpdateRecipe<'a> {
    pub(crate) config: &'a ConfigDir,
    pub(crate) profile: &'a str,
    pub(crate) stage3: &'a Stage3,
    pub(crate) base: &'a State,
    pub(crate) upstream: &'a State,
    pub(crate) before: Vec<Package>,
    /// The keys of these packages.
    pub(crate) keys: BTreeMap<String, PackageKey>,
    /// Files below `/etc/portage` that an earlier configuration had and this one does not have.
    pub(crate) retired: Vec<PathBuf>,
    /// Packages that the definition named earlier.
    pub(crate) dropped: Vec<String>,
    pub(crate) depclean: bool,
}

impl<'a> UpdateRecipe<'a> {
    pub(crate) fn of(
        cx: &Context<'_>,
        config: &'a ConfigDir,
        profile: &'a str,
        stage3: &'a Stage3,
        [base, upstream]: [&'a State; 2],
        depclean: bool,
    ) -> Result<Self> {
        let before = packages_of(cx, base)?;
        let (retired, dropped) = (retired(base, stage3), dropped(base, stage3));
        Ok(Self { config, profile, stage3, base, upstream, before, keys: base.origin.package_keys(), retired, dropped, depclean })
    }
}

impl Recipe for UpdateRecipe<'_> {
    fn name(&self) -> Option<String> {
        Some(ref_name(self.profile, BUILDER))
    }

    fn lock(&self) -> String {
        definition_lock(self.profile, BUILDER)
    }

    fn words(&self) -> String {
        definition_words(self.profile, BUILDER)
    }

    fn inputs(&self) -> Inputs {
        self.stage3.inputs(self.upstream)
    }

    fn accepts(&self, _state: &State) -> bool {
        // A key does not say whether unneeded packages are there, so with depclean no state is good enough.
        !self.depclean
    }

    fn check(&self, cx: &Context<'_>) -> Result<()> {
        for unknown in definition::check_cpu(cx, self.stage3)? {
            cx.observer.note(&unknown.to_string());
        }
        consult::assert_known(cx, self.config, self.profile, &self.stage3.definition, &[])
    }

    fn make(&self, cx: &Context<'_>) -> Result<Built> {
        in_session(cx, self)
    }
}

impl InSession for UpdateRecipe<'_> {
    /// With the packages that are installed in the end, and what of a host was not merged anew.
    type Filled = (Filled, Vec<Package>, Vec<String>);

    fn base(&self, _cx: &Context<'_>) -> Result<Option<State>> {
        Ok(Some(self.base.clone()))
    }

    fn purpose(&self) -> Purpose {
        Purpose::Bootstrap
    }

    fn subject(&self) -> Option<String> {
        Some(format!("the update of {}", self.profile))
    }

    fn session_key(&self) -> String {
        // A bootstrap's session for the same key stands on the stage3. It must not be found here.
        Inputs::new("update")
            .with("key", self.inputs().key())
            .with("base", self.base.id.as_str())
            .with("depclean", self.depclean.to_string())
            .key()
    }

    fn step(&self, resumed: bool) -> String {
        format!("{} {}", if resumed { "resuming the update of" } else { "updating" }, self.words())
    }

    fn fill(&self, cx: &Context<'_>, session: &mut Session, _base: Option<&State>) -> Result<Self::Filled> {
        let subject = Subject {
            log_name: format!("{}-update", self.profile),
            profile: self.profile.to_owned(),
            definition: BUILDER.to_owned(),
        };
        let mut filled = fill_update(cx, session, self, &subject)?;
        let after = packages_in(cx, [vec![session.upper()], cx.store.lower_dirs(self.base)].concat())?;
        // A package that could not be rebuilt keeps the key that it had.
        let left_alone = stale::not_merged(&session.upper(), &after)?;
        let of_hosts = still_there(from_hosts(self.base), &left_alone);
        filled.keys.extend(left_alone.into_iter().filter_map(|package| {
            let name = stale::name_of(package);
            let key = self.keys.get(&name)?.clone();
            Some((name, key))
        }));
        Ok((filled, after, of_hosts))
    }

    fn unchanged(&self, (_, after, _): &Self::Filled) -> Option<State> {
        (self.inputs().key() == self.base.key && *after == self.before).then(|| self.base.clone())
    }

    fn origin(&self, _base: Option<&State>, (filled, _, of_hosts): &Self::Filled) -> serde_json::Value {
        let mut origin = self.stage3.origin(self.profile, filled, self.upstream);
        if !of_hosts.is_empty() {
            origin[OF_HOSTS] = serde_json::json!(of_hosts);
        }
        origin["updated_from"] = serde_json::json!(self.base.id);
        origin
    }

    fn newest_input(&self, _base: Option<&State>, _filled: &Self::Filled) -> i64 {
        self.stage3.newest_input(self.upstream)
    }
}

fn fill_update(cx: &Context<'_>, session: &mut Session, update: &UpdateRecipe<'_>, subject: &Subject) -> Result<Filled> {
    let recipe = update.stage3;
    let (portage, retired) = bring_back(cx, recipe, update);
    let mut steps = StepsDone::of(session)?;
    let mut work = work::work(cx, session, update.base, subject, Given { portage: Some(&portage), ..recipe.given() })?;
    let resumed = steps.any();
    steps.once("retire", || retire(cx, &work, &retired))?;
    steps.once("apply", || definition::apply(cx, &work, recipe))?;
    steps.once("portage profile", || select_profile(cx, &work, recipe, update))?;
    steps.once("hooks:prepare", || hooks::hooks(cx, &work, &recipe.hooks, Phase::Prepare))?;
    let inputs = pools::choose_pool(cx, &mut work, recipe.pool_of(), PoolUse::Publish, &recipe.packages)?;
    let network = recipe.definition.network.everything.is_some();
    if !update.dropped.is_empty() {
        steps.once("deselect", || deselect(cx, &work, &update.dropped))?;
    }
    let updated = |atoms| Goal::Packages { atoms, existing: Existing::Update, oneshot: false };
    let world = vec!["@world".to_owned()];
    let anew = Anew::of(update, &inputs);
    let rebuild = anew.map(|_| Goal::RebuildWorld);
    work.keys.plan_again(&update.keys);
    // All goals are foreseen at once: no key is made after something of the run was executed.
    let all = updated([world.clone(), recipe.packages.clone()].concat());
    for goal in live_goal(&recipe.definition.network).iter().chain(&rebuild).chain([&all]) {
        learn::foresee_and_learn(cx, &work, &emerge_argv::request_in(cx, &work, goal.clone()))?;
    }
    merge::emerge_live(cx, &work, &mut steps, &recipe.definition.network, resumed)?;
    if let Some((why, goal)) = anew.zip(rebuild) {
        cx.observer.note(match why {
            Anew::OfHosts => "packages came from a binary package host: rebuilding all packages that were not built here",
            Anew::Flags => "compiler flags have changed: rebuilding all packages, since Portage does not compare flags",
        });
        merge::emerge_goal(cx, &work, &mut steps, "world anew", goal, resumed, network)?;
    }
    merge::emerge_goal(cx, &work, &mut steps, "world", updated(world), resumed, network)?;
    stale::rebuild_stale(cx, &work, &mut steps, recipe, &update.keys, resumed)?;
    rebuild_for_libraries(cx, &work, &mut steps, "packages that use preserved libraries", resumed, network)?;
    // After world and before the definition's packages, as in a build.
    steps.once("hooks:after-world", || hooks::hooks(cx, &work, &recipe.hooks, Phase::AfterWorld))?;
    if !recipe.packages.is_empty() {
        merge::emerge_goal(cx, &work, &mut steps, "packages", updated(recipe.packages.clone()), resumed, network)?;
        rebuild_for_libraries(cx, &work, &mut steps, "packages that use libraries preserved since then", resumed, network)?;
    }
    let patched = applied::bring_patches(cx, &work, &mut steps, resumed, network)?;
    if update.depclean {
        steps.once("depclean", || {
            cx.observer.step("removing packages that nothing needs");
            let request = Request::new(Goal::Depclean, Mode::Run);
            emerge::emerge_with(cx, &work, &request, Network::None, &work.log_dir.join("emerge.log"))
        })?;
    }
    Ok(Filled { patched, ..definition::finish_definition(cx, &work, &mut steps, recipe, inputs)? })
}

/// What is applied: the configuration, with the stage3's own files in place of retired ones. The second value is the retired files that
/// nothing replaces.
pub(crate) fn bring_back(cx: &Context<'_>, recipe: &Stage3, update: &UpdateRecipe<'_>) -> (PortageDir, Vec<PathBuf>) {
    let layers = cx.store.lower_dirs(update.upstream);
    let (mut portage, mut gone) = (recipe.portage.clone(), Vec::new());
    for path in &update.retired {
        match original(&layers, path) {
            Some(bytes) => {
                portage.files.insert(path.clone(), bytes);
                portage.modes.insert(path.clone(), 0o644);
            }
            None => gone.push(path.clone()),
        }
    }
    (portage, gone)
}

/// Takes packages out of the world file.
pub(crate) fn deselect(cx: &Context<'_>, work: &Work<'_>, dropped: &[String]) -> Result<()> {
    if dropped.is_empty() {
        return Ok(());
    }
    let words = ["emerge", "--color=n", "--ask=n", "--deselect=y"].map(str::to_owned).into_iter();
    Ok(run::command(cx, work, words.chain(dropped.iter().cloned()).collect(), Network::None)?)
}

/// Removes files from `/etc/portage`.
pub(crate) fn retire(cx: &Context<'_>, work: &Work<'_>, paths: &[PathBuf]) -> Result<()> {
    // The kernel limits the length of an argument list. This many surely fit.
    for paths in paths.chunks(500) {
        let words = ["rm", "-f", "--"].map(str::to_owned).into_iter();
        let argv = words.chain(paths.iter().map(|path| format!("/etc/portage/{}", path.display()))).collect();
        run::command(cx, work, argv, Network::None)?;
    }
    Ok(())
}

/// Sets the link to the stage3's own Portage profile again if the definition no longer names one. (Applying the earlier definition had
/// changed the link.)
pub(crate) fn select_profile(cx: &Context<'_>, work: &Work<'_>, recipe: &Stage3, update: &UpdateRecipe<'_>) -> Result<()> {
    if recipe.definition.portage_profile.is_some() || update.base.origin.portage_profile() == Some(&recipe.portage_profile) {
        return Ok(());
    }
    let layers = cx.store.lower_dirs(update.upstream);
    let Some(link) = profile_link(&layers) else { return Ok(()) };
    let words = ["ln", "-sfn", "--"].map(str::to_owned).into_iter();
    let argv = words.chain([link, "/etc/portage/make.profile".to_owned()]).collect();
    Ok(run::command(cx, work, argv, Network::None)?)
}

/// Rebuilds the packages for which Portage keeps old libraries.
pub(crate) fn rebuild_for_libraries(
    cx: &Context<'_>,
    work: &Work<'_>,
    steps: &mut StepsDone,
    name: &str,
    resumed: bool,
    network: bool,
) -> Result<()> {
    if !preserves_libraries(cx, work)? {
        return Ok(());
    }
    let goal = Goal::Packages { atoms: vec!["@preserved-rebuild".to_owned()], existing: Existing::Rebuild, oneshot: true };
    // A binary package may have been built against the old library.
    let request = Request { usepkg: false, ..Request::new(goal, Mode::Run) };
    merge::emerge_request(cx, work, steps, name, request, resumed, network)
}

pub(crate) fn preserves_libraries(cx: &Context<'_>, work: &Work<'_>) -> Result<bool> {
    let script = format!("[ ! -f {PRESERVED_LIBS} ] || cat {PRESERVED_LIBS}");
    let argv = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
    Ok(has_preserved(&run::output_of(cx, work, argv, PRESERVED_LIMIT_BYTES)?))
}

/// The files that the configuration of `base` had and this one does not have.
pub(crate) fn retired(base: &State, recipe: &Stage3) -> Vec<PathBuf> {
    let before: Vec<PathBuf> = match base.origin.portage_files() {
        Some(recorded) => recorded.iter().filter(|path| is_plain(path)).cloned().collect(),
        // The state was made by an earlier version of gentoomuch. The files that we write ourselves have known names.
        None => LineFile::ALL
            .iter()
            .map(|kind| Path::new(kind.file_name()).join("50-gentoomuch"))
            .chain([PathBuf::from(MAKE_CONF)])
            .collect(),
    };
    before.into_iter().filter(|path| !recipe.portage.files.contains_key(path)).collect()
}

/// The path is neither absolute nor has `..`. The record is ours, but the path ends up in an `rm`.
pub(crate) fn is_plain(path: &Path) -> bool {
    path.components().all(|part| matches!(part, std::path::Component::Normal(_))) && path.as_os_str() != OsStr::new("")
}

/// The packages that the definition named when `base` was built and does not name now.
pub(crate) fn dropped(base: &State, recipe: &Stage3) -> Vec<String> {
    let before = base.origin.inputs().and_then(|inputs| serde_json::from_str::<Vec<String>>(inputs.get("packages")?).ok());
    before
        .unwrap_or_default()
        .into_iter()
        .filter(|package| !recipe.packages.contains(package) && !package.starts_with('-'))
        .collect()
}

/// The packages of a state that were downloaded from hosts of binary packages: `HOST/CATEGORY/NAME/FILE`.
fn from_hosts(base: &State) -> &[String] {
    match &*base.origin {
        Origin::Definition(made) => made.binhost_packages.as_deref().unwrap_or_default(),
        _ => &[],
    }
}

/// Whether a state has such packages and was made when hosts were still asked: what is left of them after that is needed by nothing.
fn is_of_hosts(base: &State) -> bool {
    let asked = base.origin.inputs().and_then(|inputs| inputs.get(HOSTS_INPUT)) != Some(Hosts::NONE);
    asked && !from_hosts(base).is_empty()
}

/// Those of them that are in `packages`.
fn still_there(of_hosts: &[String], packages: &[&Package]) -> Vec<String> {
    // The number of the build, `-3.gpkg.tar`; older formats have none.
    let is_build = |rest: &str| {
        let end = rest.strip_prefix('-').map_or(rest, |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
        [".gpkg.tar", ".xpak", ".tbz2"].contains(&end)
    };
    let is = |file: &str, package: &Package| {
        let (category, pf) = package.cpv.split_once('/').unwrap_or_default();
        let mut parts = file.split('/').skip(1);
        parts.next() == Some(category) && parts.nth(1).and_then(|file| file.strip_prefix(pf)).is_some_and(is_build)
    };
    of_hosts.iter().filter(|file| packages.iter().any(|package| is(file, package))).cloned().collect()
}

/// Why all of world is merged anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anew {
    /// Some of it came from a host, and no host is asked any more.
    OfHosts,
    Flags,
}

impl Anew {
    /// `None` if it is not. `now` is what would be built with.
    pub(crate) fn of(update: &UpdateRecipe<'_>, now: &PoolInputs) -> Option<Self> {
        if update.stage3.hosts == Hosts::None && is_of_hosts(update.base) {
            return Some(Self::OfHosts);
        }
        compiles_otherwise(update.base, now).then_some(Self::Flags)
    }
}

/// Whether the compiler gets other options now. Portage does not rebuild packages for that.
fn compiles_otherwise(base: &State, now: &PoolInputs) -> bool {
    base.origin.pool().is_some_and(|before| before.chost != now.chost || before.flags != now.flags)
}

/// A regular file of the stage3's `/etc/portage`. `layers` are a state's, the topmost first, and may be hostile.
pub(crate) fn original(layers: &[PathBuf], path: &Path) -> Option<Vec<u8>> {
    let path = Path::new("etc/portage").join(path);
    layers.iter().find_map(|layer| untrusted::read_in(untrusted::open_root(layer).ok()?.as_fd(), &path, CONF_LIMIT_BYTES).ok())
}

/// Whether Portage's registry (JSON) names any library.
pub(crate) fn has_preserved(registry: &str) -> bool {
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(registry).is_ok_and(|libraries| !libraries.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use serde_json::Value;

    fn made_from(origin: Value) -> State {
        State {
            id: "0".repeat(32).parse().unwrap(),
            layers: Vec::new(),
            parent: None,
            key: String::new(),
            origin: origin.into(),
            created: String::new(),
            newest_input: 0,
            adopted: false,
        }
    }

    #[test]
    fn only_what_the_compiler_is_told_has_everything_built_anew() {
        let pool = |cflags: &str, toolchain: &str, profile: &str| PoolInputs {
            chost: "x86_64-pc-linux-gnu".to_owned(),
            portage_profile: profile.to_owned(),
            toolchain: toolchain.to_owned(),
            flags: [("CFLAGS".to_owned(), cflags.to_owned())].into(),
            cpu_flags: BTreeMap::new(),
            own: None,
        };
        let before = pool("-O2", "gcc-14", "gentoo:a");
        let recorded = made_from(serde_json::json!({ "kind": "stage3 definition", "pool": before }));
        assert!(compiles_otherwise(&recorded, &pool("-O3", "gcc-14", "gentoo:a")));
        assert!(!compiles_otherwise(&recorded, &before));
        // These Portage does compare, as packages and USE flags.
        assert!(!compiles_otherwise(&recorded, &pool("-O2", "gcc-15", "gentoo:b")));
        assert!(!compiles_otherwise(&made_from(Value::Null), &before), "nothing is known");
    }

    #[test]
    fn what_came_from_a_host_is_compiled_once() {
        let base = |hosts: Option<&str>, packages: &[&str]| {
            let inputs = hosts.map_or_else(|| Inputs::new("stage3"), |hosts| Inputs::new("stage3").with(HOSTS_INPUT, hosts));
            let origin = serde_json::json!({ "kind": "stage3 definition", "binhost_packages": packages, "inputs": inputs });
            made_from(origin)
        };
        let file = ["own/a/b/b-1-1.gpkg.tar"];
        assert!(is_of_hosts(&base(Some("first"), &file)) && is_of_hosts(&base(None, &file)));
        assert!(!is_of_hosts(&base(Some("first"), &[])));
        assert!(!is_of_hosts(&base(Some("none"), &file)), "nothing needs what is left");
    }

    #[test]
    fn what_a_host_made_is_told_from_what_was_merged_since() {
        let package = |cpv: &str| Package { cpv: cpv.to_owned(), ..Package::default() };
        let of_host = ["own/app-misc/greeter/greeter-1.0-1.gpkg.tar", "own/a/b/b-2-r1-3.gpkg.tar"].map(str::to_owned);
        let left = |cpvs: &[&str]| {
            let packages: Vec<Package> = cpvs.iter().map(|cpv| package(cpv)).collect();
            still_there(&of_host, &packages.iter().collect::<Vec<_>>())
        };
        assert_eq!(left(&["app-misc/greeter-1.0", "a/b-2-r1"]), of_host);
        assert_eq!(left(&["a/b-2", "a/b-2-r1", "b/b-2-r1"]), of_host[1..]);
        assert_eq!(left(&["app-misc/greeter-1.1", "x/greeter-1.0"]), [""; 0]);
    }

    #[test]
    fn preserved_libraries() {
        assert!(has_preserved(r#"{"app-arch/lz4:0": ["app-arch/lz4-1.9", "7", ["/usr/lib64/liblz4.so.1"]]}"#));
        for none in ["", "{}", "\n", "[]", "half {"] {
            assert!(!has_preserved(none), "{none:?}");
        }
    }

    #[test]
    fn a_record_cannot_lead_out_of_the_directory() {
        for (path, plain) in
            [("make.conf/50", true), ("../passwd", false), ("/etc/passwd", false), ("", false), ("a/../../b", false)]
        {
            assert_eq!(is_plain(Path::new(path)), plain, "{path}");
        }
    }

    #[test]
    fn the_file_of_the_stage3_is_found_in_its_layers() {
        let dir = tempfile::tempdir().unwrap();
        let (top, bottom) = (dir.path().join("top"), dir.path().join("bottom"));
        std::fs::create_dir_all(top.join("etc/portage")).unwrap();
        std::fs::create_dir_all(bottom.join("etc/portage/repos.conf")).unwrap();
        std::fs::write(bottom.join("etc/portage/repos.conf/gentoo.conf"), "[gentoo]\n").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", bottom.join("etc/portage/bashrc")).unwrap();
        let layers = [top, bottom];
        assert_eq!(original(&layers, Path::new("repos.conf/gentoo.conf")).as_deref(), Some(&b"[gentoo]\n"[..]));
        assert_eq!(original(&layers, Path::new("bashrc")), None);
        assert_eq!(original(&layers, Path::new("none")), None);
    }
}
