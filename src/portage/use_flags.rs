//! Lists of switches: USE flags, keywords, licences, and the variables of `make.conf` that hold such lists.
//!
//! An entry switches on (`foo`), off (`-foo`) or clears everything before it (`-*`). Which variables are such lists comes from
//! Portage: `INCREMENTALS` of `portage/const.py` (3.0.83), the `ACCEPT_*` variables that `portage/package/ebuild/config.py` unites
//! in the same way, and `USE_EXPAND` of the Gentoo repository's `profiles/base/make.defaults`.

use std::fmt;

/// One entry of a list of switches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Switch {
    /// `foo`
    On(String),
    /// `-foo`
    Off(String),
    /// `-*`, or `-video_cards_*` for the flags with that prefix
    Clear(String),
}

impl Switch {
    /// Reads one word.
    pub fn parse(word: &str) -> Self {
        match word.strip_prefix('-') {
            Some(name) => match name.strip_suffix('*') {
                Some(prefix) => Self::Clear(prefix.to_owned()),
                None => Self::Off(name.to_owned()),
            },
            None => Self::On(word.to_owned()),
        }
    }

    /// What is switched; the prefix where entries are cleared.
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

/// How values of a variable from several fragments come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// United entry by entry.
    Switches,
    /// The last value wins.
    Single,
}

/// `INCREMENTALS` and the `ACCEPT_*` lists.
const INCREMENTAL: [&str; 15] = [
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

/// Members of `USE_EXPAND` that hold several values. Those with one (`*_SINGLE_TARGET`, `ELIBC`, `CURL_SSL`, …) are left out: the last wins.
const MULTI_VALUED: [&str; 45] = [
    "ABI_MIPS",
    "ABI_S390",
    "ABI_X86",
    "ALSA_CARDS",
    "AMDGPU_TARGETS",
    "APACHE2_MODULES",
    "CALLIGRA_FEATURES",
    "CAMERAS",
    "COLLECTD_PLUGINS",
    "CPU_FLAGS_ARM",
    "CPU_FLAGS_PPC",
    "CPU_FLAGS_X86",
    "FFTOOLS",
    "GPSD_PROTOCOLS",
    "GRUB_PLATFORMS",
    "GUILE_TARGETS",
    "INPUT_DEVICES",
    "L10N",
    "LCD_DEVICES",
    "LIBREOFFICE_EXTENSIONS",
    "LINGUAS",
    "LLVM_TARGETS",
    "LUA_TARGETS",
    "MONKEYD_PLUGINS",
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
    "XFCE_PLUGINS",
    "XTABLES_ADDONS",
    "NETBEANS_MODULES",
];

/// How values of the variable `name` come together.
pub fn kind(name: &str) -> Kind {
    if INCREMENTAL.contains(&name) || MULTI_VALUED.contains(&name) || name.starts_with("CPU_FLAGS_") {
        Kind::Switches
    } else {
        Kind::Single
    }
}

/// The words of a `package.use` line after the atom, with `VIDEO_CARDS: amdgpu -nouveau` written out as `video_cards_amdgpu
/// -video_cards_nouveau`, as Portage does when it reads them.
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
        for name in ["CFLAGS", "PYTHON_SINGLE_TARGET", "ELIBC", "MAKEOPTS", "GENTOO_MIRRORS", "EMERGE_DEFAULT_OPTS"] {
            assert_eq!(kind(name), Kind::Single, "{name}");
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
