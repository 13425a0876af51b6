//! A kernel in a stage4: its payload is a layer below, and its headers are there for modules of other packages.

use std::path::Path;

use crate::build_key::Inputs;
use crate::context::Context;
use crate::origin::{Kernel, KernelRecord, Origin};
use crate::portage::cpv::Cpv;
use crate::portage::emerge::request::{Existing, Goal, Mode, Request};
use crate::recipe::kernel::{give, script};
use crate::recipe::{Result, merge};
use crate::sandbox::plan::{Network, Source};
use crate::session::work::StepsDone;
use crate::session::{Work, given, run};
use crate::store::{NewState, State};

/// Made at the beginning of a stage4. Whatever is older was installed before. It lies in the session's scratch directory, so it goes with
/// the session.
const MARKER: &str = "/var/tmp/portage/.gentoomuch-begun";
const LIST_LIMIT_BYTES: u64 = 1 << 20;

/// `base` with the payload of `kernel` on top. Nothing is copied: the state has the layers of both.
pub(crate) fn with_kernel(cx: &Context<'_>, base: &State, kernel: &State) -> Result<State> {
    let key = Inputs::new("base with kernel").with("parent", &base.key).with("kernel", &kernel.key).key();
    let layers: Vec<_> = base.layers.iter().chain(&kernel.layers).cloned().collect();
    if let Some(state) = cx.store.state_by_key(&key)?.filter(|state| state.layers == layers) {
        return Ok(state);
    }
    // What is built on it finds the base's trees, pools and hosts there.
    let origin = Origin::on_kernel(&base.origin, kernel_record(kernel)).into();
    let newest_input = base.newest_input.max(kernel.newest_input);
    Ok(cx.store.state_of_layers(layers, NewState { key, origin, newest_input, parent: Some(base.id.clone()) })?)
}

/// Shows a session the headers of a kernel as `/usr/src`. What the session writes there goes with it.
pub(crate) fn show_headers(cx: &Context<'_>, work: &mut Work<'_>, kernel: &State) -> Result<()> {
    let Some(lower) = headers_of(cx, kernel)? else { return Ok(()) };
    let kernel_tree = given::kernel_tree(&work.session.borrow(), vec![lower])?;
    work.root.kernel_tree = Some(kernel_tree);
    Ok(())
}

/// `usr/src` of a kernel's headers. The kernel's state stands on the payload's, and that one on the headers'.
fn headers_of(cx: &Context<'_>, kernel: &State) -> Result<Option<Source>> {
    let mut at = kernel.clone();
    while let Some(parent) = at.parent.clone() {
        at = cx.store.state(&parent)?;
        if matches!(*at.origin, Origin::KernelHeaders(_)) {
            return Ok(cx.store.lower_dirs(&at).first().map(|layer| Source::inside(layer.clone(), "usr/src")));
        }
    }
    Ok(None)
}

/// Notes when a stage4 began.
pub(crate) fn mark_modules(cx: &Context<'_>, work: &Work<'_>) -> Result<()> {
    Ok(run::command(cx, work, vec!["/bin/touch".to_owned(), MARKER.to_owned()], Network::None)?)
}

/// Recompiles the kernel modules of packages, unless this session has compiled them for this kernel.
pub(crate) fn rebuild_modules(
    cx: &Context<'_>,
    work: &Work<'_>,
    steps: &mut StepsDone,
    kernel: &State,
    resumed: bool,
) -> Result<()> {
    give(work, &[])?;
    let list = run::output_of(cx, work, script(&["modules", MARKER]), LIST_LIMIT_BYTES)?;
    let (stale, all) = modules(&list);
    if all.is_empty() {
        return Ok(());
    }
    if !stale.is_empty() {
        cx.observer.note(&format!("kernel modules of {} are compiled for this kernel", stale.join(", ")));
        let names: Vec<String> = all.iter().map(|package| Cpv::name_of(package).to_owned()).collect();
        let goal = Goal::Packages { atoms: vec!["@module-rebuild".to_owned()], existing: Existing::Rebuild, oneshot: true };
        let request = Request { usepkg_exclude: names.clone(), buildpkg_exclude: names, ..Request::new(goal, Mode::Run) };
        merge::emerge_request(cx, work, steps, "kernel modules", request, resumed, false)?;
    }
    let release = kernel.origin.as_kernel().map(|kernel| kernel.release.clone()).unwrap_or_default();
    Ok(steps.once("depmod", || run::command(cx, work, script(&["depend", &release]), Network::None))?)
}

pub(crate) fn kernel_record(kernel: &State) -> KernelRecord {
    let Kernel { name, release, package, configuration, .. } = kernel.origin.as_kernel().cloned().unwrap_or_default();
    KernelRecord { name, release, package, configuration, state: kernel.id.to_string(), ..KernelRecord::default() }
}

/// The packages with kernel modules that must be recompiled, and all packages with modules.
fn modules(list: &str) -> (Vec<String>, Vec<String>) {
    let lines = || list.lines().filter_map(|line| line.split_once(' '));
    let packages = |wanted: fn(&str) -> bool| {
        lines().filter(|(word, _)| wanted(word)).map(|(_, package)| package.trim().to_owned()).collect::<Vec<String>>()
    };
    (packages(|word| word == "stale"), packages(|word| ["stale", "fresh"].contains(&word)))
}

/// Whether the user keeps sources below `/usr/src`. Ours must not cover them.
pub(crate) fn keeps_sources(mut keep: impl Iterator<Item = String>) -> bool {
    keep.any(|pattern| Path::new(&pattern).starts_with("/usr/src"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_modules_are_compiled_again() {
        let (stale, all) = modules("fresh a/b-1\nstale c/d-2-r1\nnoise\n");
        assert_eq!((stale, all), (vec!["c/d-2-r1".to_owned()], vec!["a/b-1".to_owned(), "c/d-2-r1".to_owned()]));
    }

    #[test]
    fn sources_that_are_to_stay() {
        assert!(keeps_sources(["/var/log/x", "/usr/src/linux"].map(str::to_owned).into_iter()));
        assert!(!keeps_sources(["/var/log/x", "/usr/srcs"].map(str::to_owned).into_iter()));
    }
}
