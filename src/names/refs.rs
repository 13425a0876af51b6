//! Names of refs, and of the locks on what they stand for.
//!
//! Locks are taken in this order: profile, definition, kernel, stage4.

/// The name of the imported stage3 among the definitions on a profile.
pub(crate) const UPSTREAM: &str = "upstream";

/// The lock on a profile as a whole: shared by what builds on it, exclusive for what changes which stage3 or builder it has.
pub(crate) fn profile_lock(profile: &str) -> String {
    format!("profile/{profile}")
}

/// The lock on one definition on a profile; taken after that on the profile, and so named to follow it.
pub(crate) fn definition_lock(profile: &str, definition: &str) -> String {
    format!("stage3/{profile}/{definition}")
}

/// Name of the ref of a profile's state.
pub(crate) fn ref_name(profile: &str, definition: &str) -> String {
    format!("profile/{profile}/{definition}")
}

/// The lock on a stage4's name and artifacts; taken after those on the profile and the definition, and so named to follow them.
pub(crate) fn stage4_lock(name: &str) -> String {
    format!("stage4/{name}")
}

/// Name of the ref of a stage4's state.
pub(crate) fn stage4_ref(name: &str) -> String {
    format!("stage4/{name}")
}

/// The lock on a kernel's name; taken after those on the profile and the builder, and before that on a stage4.
pub(crate) fn kernel_lock(profile: &str, label: &str) -> String {
    format!("kernel/{profile}/{label}")
}

/// Name of the ref of a kernel's state.
pub(crate) fn kernel_ref(profile: &str, label: &str) -> String {
    format!("kernel/{profile}/{label}")
}

/// Below these are the names of a profile's kernels.
pub(crate) fn kernel_prefixes(profile: &str) -> [String; 2] {
    [format!("kernel/{profile}"), format!("kernel-sources/{profile}")]
}

pub(crate) fn kept_ref(name: &str) -> String {
    format!("kept/{name}")
}
