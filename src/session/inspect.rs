//! What the root says of that which decides which binary package pool fits.

use std::collections::BTreeMap;

use crate::context::Context;
use crate::origin::Origin;
use crate::portage::binpkgs::PoolInputs;
use crate::query::toolset::Toolset;
use crate::session::root::HOOKS_DIR;
use crate::terminal_text::sanitize_uncut;

/// The script that finds out what Portage does not know. It is written beside the hooks of every session.
pub(crate) const SCRIPT: &str = include_str!("inspect.sh");
pub(crate) const SCRIPT_NAME: &str = "inspect.sh";

/// What a root builds with, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts(BTreeMap<String, String>);

impl Facts {
    /// Reads lines of `NAME=VALUE`. Values may have quotes, as Portage writes them.
    pub(crate) fn parse(answer: &str) -> Self {
        // It comes in JSON, whose escapes hide from the check of the output what a terminal obeys.
        let text = sanitize_uncut(answer.as_bytes());
        let unquote = |value: &str| {
            let value = value.trim();
            let inner = value.strip_prefix(['"', '\'']).and_then(|value| value.strip_suffix(['"', '\'']));
            inner.unwrap_or(value).trim().to_owned()
        };
        Self(text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.to_owned(), unquote(value))).collect())
    }

    /// One answer. Empty if there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn with_prefix(&self, prefix: &str) -> BTreeMap<String, String> {
        self.0
            .iter()
            .filter(|(name, value)| name.starts_with(prefix) && !value.is_empty())
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect()
    }

    /// Whether this Portage publishes its status. It does since 3.0.83.
    pub(crate) fn has_observability(&self) -> bool {
        numbers(self.get("VERSION_PORTAGE")) >= vec![3, 0, 83]
    }

    /// Whether emerge and the makes that it starts can share one budget of jobs through a named pipe. Since 3.0.76 Portage takes a token
    /// for each package, and since 4.4 make knows named pipes.
    pub(crate) fn has_jobserver(&self) -> bool {
        let make = self.get("MAKE_IS").strip_prefix("GNU Make ").unwrap_or_default();
        numbers(self.get("VERSION_PORTAGE")) >= vec![3, 0, 76] && numbers(make) >= vec![4, 4]
    }

    /// Name and version of the installed libc. No part of a pool's inputs: a newer one runs what was built against an older one.
    pub(crate) fn libc(&self) -> Option<String> {
        Some(self.get("LIBC").to_owned()).filter(|libc| !libc.is_empty())
    }

    /// What decides which pool fits.
    pub(crate) fn pool_inputs(&self, PoolOf { portage_profile, own }: PoolOf) -> PoolInputs {
        let flags = |name: &str| self.get(name).to_owned();
        PoolInputs {
            chost: flags("CHOST"),
            portage_profile,
            toolchain: self.get("VERSION_CC").split('.').next().unwrap_or_default().to_owned(),
            flags: ["CFLAGS", "CXXFLAGS", "CPPFLAGS", "FCFLAGS", "FFLAGS", "LDFLAGS", "RUSTFLAGS", "GOFLAGS"]
                .into_iter()
                .map(|name| (name.to_owned(), flags(name)))
                .collect(),
            cpu_flags: self
                .with_prefix("CPU_FLAGS_")
                .into_iter()
                .map(|(name, value)| (name, value.split_whitespace().map(str::to_owned).collect()))
                .collect(),
            own,
        }
    }
}

/// The part of a pool's inputs that the configuration decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PoolOf {
    pub(crate) portage_profile: String,
    pub(crate) own: Option<String>,
}

impl PoolOf {
    /// As recorded in the state below.
    pub(crate) fn recorded(origin: &Origin) -> Self {
        Self {
            portage_profile: origin.portage_profile().unwrap_or_default().to_owned(),
            own: origin.pool().and_then(|pool| pool.own.clone()),
        }
    }
}

/// The numbers at the beginning of a version.
pub(crate) fn numbers(version: &str) -> Vec<u32> {
    version.split(['.', '_', '-']).map_while(|part| part.parse().ok()).collect()
}

/// The question for [`Facts`].
pub(crate) fn question(cx: &Context<'_>) -> Toolset {
    Toolset { script: format!("{HOOKS_DIR}/{SCRIPT_NAME}"), ccache: cx.settings.ccache.is_some() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_portageq_quotes_them() {
        let facts =
            Facts::parse("CHOST='x86_64-pc-linux-gnu'\nCFLAGS=\"-O2 -pipe\"\nVERSION_CC=12.2.0\nnoise\nVERSION_PORTAGE=3.0.83\n");
        assert_eq!(facts.get("CHOST"), "x86_64-pc-linux-gnu");
        assert_eq!(facts.get("CFLAGS"), "-O2 -pipe");
        assert_eq!(facts.get("VERSION_CC"), "12.2.0");
        assert_eq!(facts.get("NONE"), "");
        assert_eq!(facts.libc(), None);
        assert_eq!(Facts::parse("LIBC=sys-libs/glibc-2.40-r5\n").libc().as_deref(), Some("sys-libs/glibc-2.40-r5"));
    }

    #[test]
    fn make_and_portage_have_to_know_named_pipes() {
        for (portage, make, has) in [
            ("3.0.83", "GNU Make 4.4.1", true),
            ("3.0.76", "GNU Make 4.4", true),
            ("3.0.75", "GNU Make 4.4.1", false),
            ("3.0.83", "GNU Make 4.3", false),
            ("3.0.83", "bmake", false),
            ("3.0.83", "", false),
        ] {
            let facts = Facts::parse(&format!("VERSION_PORTAGE={portage}\nMAKE_IS={make}\n"));
            assert_eq!(facts.has_jobserver(), has, "{portage} {make}");
        }
    }

    #[test]
    fn only_new_enough_portages_publish_their_status() {
        for (version, has) in
            [("3.0.83", true), ("3.0.84_p1", true), ("3.1", true), ("3.0.9", false), ("2.3.103", false), ("", false)]
        {
            assert_eq!(Facts::parse(&format!("VERSION_PORTAGE={version}")).has_observability(), has, "{version}");
        }
    }
}
