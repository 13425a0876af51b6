//! Lists of switches: USE flags, keywords, licences, and the variables of `make.conf` that hold such lists.
//!
//! An entry switches on (`foo`), off (`-foo`) or clears everything before it (`-*`). Which variables are such lists comes from
//! Portage: `INCREMENTALS` of `portage/const.py` (3.0.83), the `ACCEPT_*` variables that `portage/package/ebuild/config.py` unites
//! in the same way, and `USE_EXPAND` of the Gentoo repository's `profiles/base/make.defaults`.

use std::fmt;

use crate::portage::atom::is_flag;

/// One entry of a list of switches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Switch {
    /// `foo`
    On(String),
    /// `-foo`
    Off(String),
    /// `-*`, or `-video_cards_*` for the flags with that prefix, which ends in `_`
    Clear(String),
}

impl Switch {
    /// Reads one word. `-~*` and `-**` are keywords to switch off; they clear nothing.
    pub fn parse(word: &str) -> Self {
        match word.strip_prefix('-') {
            Some(name) => match name.strip_suffix('*') {
                Some(prefix) if prefix.is_empty() || prefix.ends_with('_') => Self::Clear(prefix.to_owned()),
                _ => Self::Off(name.to_owned()),
            },
            None => Self::On(word.to_owned()),
        }
    }

    /// Whether it is allowed in `USE`: a flag, or `linguas_*` for all flags with that prefix.
    pub fn is_flag(&self) -> bool {
        match self {
            Self::On(name) => is_flag(name.strip_suffix("_*").unwrap_or(name)),
            Self::Off(name) => is_flag(name),
            Self::Clear(prefix) => prefix.is_empty() || is_flag(prefix),
        }
    }

    /// The flag; the prefix for entries that clear.
    pub fn name(&self) -> &str {
        match self {
            Self::On(name) | Self::Off(name) | Self::Clear(name) => name,
        }
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On(name) => f.write_str(name),
            Self::Off(name) => write!(f, "-{name}"),
            Self::Clear(prefix) => write!(f, "-{prefix}*"),
        }
    }
}

/// How values of a variable from several fragments are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// United entry by entry.
    Switches,
    /// The last value wins.
    Single,
}

/// `INCREMENTALS` and the `ACCEPT_*` lists.
pub const INCREMENTAL: [&str; 15] = [
    "ACCEPT_KEYWORDS",
    "ACCEPT_LICENSE",
    "ACCEPT_PROPERTIES",
    "ACCEPT_RESTRICT",
    "CONFIG_PROTECT",
    "CONFIG_PROTECT_MASK",
    "ENV_UNSET",
    "FEATURES",
    "IUSE_IMPLICIT",
    "PROFILE_ONLY_VARIABLES",
    "USE",
    "USE_EXPAND",
    "USE_EXPAND_HIDDEN",
    "USE_EXPAND_IMPLICIT",
    "USE_EXPAND_UNPREFIXED",
];

/// Members of `USE_EXPAND` with several values, present and former ones.
const MULTI_VALUED: [&str; 52] = [
    "ABI_MIPS",
    "ABI_PPC",
    "ABI_S390",
    "ABI_X86",
    "ALSA_CARDS",
    "AMDGPU_TARGETS",
    "APACHE2_MODULES",
    "CALLIGRA_EXPERIMENTAL_FEATURES",
    "CALLIGRA_FEATURES",
    "CAMERAS",
    "COLLECTD_PLUGINS",
    "CPU_FLAGS_ARM",
    "CPU_FLAGS_LOONG",
    "CPU_FLAGS_PPC",
    "CPU_FLAGS_RISCV",
    "CPU_FLAGS_X86",
    "ENLIGHTENMENT_MODULES",
    "FFTOOLS",
    "GPSD_PROTOCOLS",
    "GRUB_PLATFORMS",
    "GUILE_TARGETS",
    "INPUT_DEVICES",
    "L10N",
    "LCD_DEVICES",
    "LIBREOFFICE_EXTENSIONS",
    "LINGUAS",
    "LIRC_DEVICES",
    "LLVM_TARGETS",
    "LUA_TARGETS",
    "MONKEYD_PLUGINS",
    "NETBEANS_MODULES",
    "NGINX_MODULES_HTTP",
    "NGINX_MODULES_MAIL",
    "NGINX_MODULES_STREAM",
    "OFED_DRIVERS",
    "OPENMPI_FABRICS",
    "OPENMPI_OFED_FEATURES",
    "OPENMPI_RM",
    "PHP_TARGETS",
    "POSTGRES_TARGETS",
    "PYTHON_TARGETS",
    "QEMU_SOFTMMU_TARGETS",
    "QEMU_USER_TARGETS",
    "ROS_MESSAGES",
    "RUBY_TARGETS",
    "RUST_SYSROOTS",
    "SANE_BACKENDS",
    "UWSGI_PLUGINS",
    "VIDEO_CARDS",
    "VOICEMAIL_STORAGE",
    "XFCE_PLUGINS",
    "XTABLES_ADDONS",
];

/// Whether Portage stacks a variable's values from `make.defaults` and `make.conf` instead of taking the last one.
pub(crate) fn is_incremental(name: &str) -> bool {
    INCREMENTAL.contains(&name)
}

/// Members of `USE_EXPAND` with one value: their flags exclude each other.
const SINGLE_VALUED: [&str; 9] =
    ["ADA_TARGET", "APACHE2_MPMS", "ARCH", "CURL_QUIC", "CURL_SSL", "ELIBC", "KERNEL", "OFFICE_IMPLEMENTATION", "USERLAND"];

/// Whether it is a member of `USE_EXPAND` with one value, by name or by the usual ending.
pub fn is_single_valued(name: &str) -> bool {
    SINGLE_VALUED.contains(&name) || name.ends_with("_SINGLE_TARGET") || name.ends_with("_SLOT")
}

/// Whether it is a member of `USE_EXPAND` with several values. In `make.conf` it replaces the Portage profile's value, and `-` has no
/// meaning (`portage/package/ebuild/config.py`, `regenerate`).
pub fn is_use_expand(name: &str) -> bool {
    MULTI_VALUED.contains(&name) || name.starts_with("CPU_FLAGS_")
}

/// How values of the variable `name` are combined.
pub fn kind(name: &str) -> Kind {
    if INCREMENTAL.contains(&name) || is_use_expand(name) { Kind::Switches } else { Kind::Single }
}

/// The words of a `package.use` line after the atom. `VIDEO_CARDS: amdgpu -nouveau` becomes `video_cards_amdgpu -video_cards_nouveau`, as
/// in Portage.
pub fn written_out<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut prefix = String::new();
    let mut out = Vec::new();
    for word in words {
        if let Some(variable) = word.strip_suffix(':') {
            prefix = format!("{}_", variable.to_ascii_lowercase());
        } else if let Some(flag) = word.strip_prefix('-') {
            out.push(format!("-{prefix}{flag}"));
        } else {
            out.push(format!("{prefix}{word}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_lists_from_single_values() {
        for name in ["USE", "FEATURES", "ACCEPT_LICENSE", "VIDEO_CARDS", "CPU_FLAGS_ARM", "PYTHON_TARGETS", "L10N"] {
            assert_eq!(kind(name), Kind::Switches, "{name}");
        }
        assert!(!MULTI_VALUED.iter().any(|name| is_single_valued(name)));
        for name in ["CFLAGS", "PYTHON_SINGLE_TARGET", "ELIBC", "MAKEOPTS", "GENTOO_MIRRORS", "EMERGE_DEFAULT_OPTS"] {
            assert_eq!(kind(name), Kind::Single, "{name}");
        }
    }

    #[test]
    fn tells_what_clears_from_what_only_looks_so() {
        for (word, clears, flag) in [
            ("-*", true, true),
            ("-video_cards_*", true, true),
            ("-**", false, false),
            ("-~*", false, false),
            ("linguas_*", false, true),
            ("+x", false, false),
            ("-x*", false, false),
        ] {
            let switch = Switch::parse(word);
            assert_eq!((matches!(switch, Switch::Clear(_)), switch.is_flag()), (clears, flag), "{word}");
            assert_eq!(switch.to_string(), word);
        }
    }

    #[test]
    fn writes_expanded_flags_out() {
        assert_eq!(
            written_out("a -b VIDEO_CARDS: amdgpu -nouveau -* L10N: de".split(' ')),
            ["a", "-b", "video_cards_amdgpu", "-video_cards_nouveau", "-video_cards_*", "l10n_de"]
        );
    }
}
