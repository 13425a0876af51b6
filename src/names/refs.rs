//! Names of refs, and of the locks on them.
//!
//! Locks are taken in this order: profile, definition, kernel, stage4. Their names sort in the same order.

/// The name of the imported stage3 among the definitions on a profile.
pub(crate) const UPSTREAM: &str = "upstream";

/// The lock on a whole profile: shared for building on it, exclusive for changing its stage3 or builder.
pub(crate) fn profile_lock(profile: &str) -> String {
    format!("profile/{profile}")
}

/// The lock on one definition on a profile; taken after the profile's, so its name sorts after that.
pub(crate) fn definition_lock(profile: &str, definition: &str) -> String {
    format!("stage3/{profile}/{definition}")
}

/// Name of the ref of a profile's state.
pub(crate) fn ref_name(profile: &str, definition: &str) -> String {
    format!("profile/{profile}/{definition}")
}

/// The lock on a stage4's name and artifacts; taken after those of profile and definition, so its name sorts after them.
pub(crate) fn stage4_lock(name: &str) -> String {
    format!("stage4/{name}")
}

/// Name of the ref of a stage4's state.
pub(crate) fn stage4_ref(name: &str) -> String {
    format!("stage4/{name}")
}

/// The lock on a kernel's name; taken after those of profile and builder, and before a stage4's.
pub(crate) fn kernel_lock(profile: &str, label: &str) -> String {
    format!("kernel/{profile}/{label}")
}

/// Name of the ref of a kernel's state.
pub(crate) fn kernel_ref(profile: &str, label: &str) -> String {
    format!("kernel/{profile}/{label}")
}

/// The prefixes of the names of a profile's kernels and kernel sources.
pub(crate) fn kernel_prefixes(profile: &str) -> [String; 2] {
    [format!("kernel/{profile}"), format!("kernel-sources/{profile}")]
}

pub(crate) fn kept_ref(name: &str) -> String {
    format!("kept/{name}")
}
