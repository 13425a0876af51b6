//! Kernel configurations, as a stage4's `kconf` names them.
//!
//! ```text
//! kernel.configs/NAME.kconf      the configuration, as `make menuconfig` saves it
//! kernel.defines/NAME/config     of older layouts: the configuration itself, or the name of one of kernel.configs
//!                    /sources    the package of sources it is for: `gentoo-sources-6.12.4`
//! ```

use std::path::{Path, PathBuf};

use super::diagnostic::{Findings, Located, Place};
use super::names::{self, Shape};
use super::reading;
use crate::portage::atom::{Atom, AtomError};

/// Where kernel configurations lie.
pub(crate) const CONFIGS: &str = "kernel.configs";
/// Where older layouts have them.
pub(crate) const DEFINES: &str = "kernel.defines";

/// Of one file so many lines are named that are no configuration: more says no more.
const MAX_LINES: usize = 5;

/// A kernel configuration that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// The configuration, relative to the configuration directory.
    pub(crate) path: Located<PathBuf>,
    /// The sources that an older layout pins for it.
    pub(crate) sources: Option<Located<Atom>>,
}

/// Finds what `kconf` names, and reads it.
pub(crate) fn find(findings: &mut Findings<'_>, kconf: &Located<String>) -> Option<Kernel> {
    let name = kconf.value.strip_suffix(".kconf").unwrap_or(&kconf.value);
    let (new, old) = (Path::new(CONFIGS).join(format!("{name}.kconf")), Path::new(DEFINES).join(name));
    let is_old = names::is_name(name) && !findings.root().join(&new).is_file() && findings.root().join(&old).is_dir();
    if is_old {
        let (path, sources) = read_define(findings, &old)?;
        return Some(Kernel { path: kconf.with(path), sources });
    }
    let file = kconf.with(format!("{name}.kconf"));
    let path = names::find(findings, CONFIGS, Shape::File, "kernel configuration", &file)?;
    check_text(findings, &path);
    // What an older layout has under the same name may know which sources it is for.
    let sources = findings.root().join(&old).is_dir().then(|| read_define(findings, &old)).flatten();
    Some(Kernel { sources: sources.filter(|(other, _)| *other == path).and_then(|(_, sources)| sources), path: kconf.with(path) })
}

/// Reads `kernel.defines/NAME`: the configuration, relative to the configuration directory, and the sources.
pub(crate) fn read_define(findings: &mut Findings<'_>, dir: &Path) -> Option<(PathBuf, Option<Located<Atom>>)> {
    let sources = reading::single(findings, &dir.join("sources")).and_then(|entry| parse_sources(findings, &entry));
    let config = dir.join("config");
    if !findings.root().join(&config).exists() {
        findings.error_with_hint(
            &Place::whole(&config),
            "the kernel definition lacks this file",
            "write the name of one of `kernel.configs` into it, or save the configuration there",
        );
        return None;
    }
    let text = reading::text(findings, &config)?;
    if text.lines().any(|line| line.starts_with("CONFIG_") || line.starts_with("# CONFIG_")) {
        check_text(findings, &config);
        return Some((config, sources));
    }
    let Some(name) = reading::single(findings, &config) else {
        findings.error(&Place::whole(&config), "the file is empty");
        return None;
    };
    let name = name.with(format!("{}.kconf", name.value.strip_suffix(".kconf").unwrap_or(&name.value)));
    let path = names::find(findings, CONFIGS, Shape::File, "kernel configuration", &name)?;
    check_text(findings, &path);
    Some((path, sources))
}

/// `gentoo-sources-6.12.4-r1`, `sys-kernel/gentoo-sources-6.12.4`, or any atom.
fn parse_sources(findings: &mut Findings<'_>, entry: &Located<String>) -> Option<Located<Atom>> {
    let text = if entry.value.contains('/') { entry.value.clone() } else { format!("sys-kernel/{}", entry.value) };
    let atom = match Atom::parse_target(&text) {
        Err(AtomError::NoOperator(text)) => Atom::parse_target(&format!("={text}")),
        other => other,
    };
    match atom {
        Ok(atom) => Some(entry.with(atom)),
        Err(error) => {
            findings.error(&entry.place(), format!("this names no kernel sources: {error}"));
            None
        }
    }
}

/// Says which lines of a kernel configuration are none.
pub(crate) fn check_text(findings: &mut Findings<'_>, file: &Path) {
    const AS_SAVED: &str =
        "a kernel configuration has lines `CONFIG_NAME=VALUE` and `# CONFIG_NAME is not set`, as `make menuconfig` saves them";
    let Some((bytes, _)) = reading::bytes(findings, file) else { return };
    if bytes.starts_with(&[0x1f, 0x8b]) {
        findings.error_with_hint(
            &Place::whole(file),
            "the kernel configuration is compressed",
            "unpack it: `zcat /proc/config.gz`",
        );
        return;
    }
    let Some(text) = reading::text(findings, file) else { return };
    let (mut options, mut wrong) = (0_usize, Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_end();
        if is_option(line) {
            options += 1;
        } else if !line.is_empty() && !line.starts_with('#') {
            wrong.push((number, line));
        }
    }
    if options == 0 {
        findings.error_with_hint(&Place::whole(file), "the kernel configuration sets nothing", AS_SAVED);
        return;
    }
    let more = wrong.len().saturating_sub(MAX_LINES);
    for (index, (number, line)) in wrong.into_iter().take(MAX_LINES).enumerate() {
        let shown: String = line.chars().take(60).collect();
        let others = if index + 1 == MAX_LINES && more > 0 { format!(", nor are {more} more") } else { String::new() };
        findings.error_with_hint(
            &Place::new(file, number),
            format!("`{}` is no line of a kernel configuration{others}", shown.escape_debug()),
            AS_SAVED,
        );
    }
}

/// `CONFIG_X=y` or `# CONFIG_X is not set`.
fn is_option(line: &str) -> bool {
    let name = match line.strip_prefix("# CONFIG_") {
        Some(rest) => rest.strip_suffix(" is not set"),
        None => line.strip_prefix("CONFIG_").and_then(|rest| rest.split_once('=')).map(|(name, _)| name),
    };
    name.is_some_and(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn found(files: &[(&str, &str)], kconf: &str) -> (Option<String>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut findings = Findings::new(dir.path());
        let name = Located { value: kconf.to_owned(), file: Path::new("stage4.defines/web/kconf").into(), line: 1 };
        let kernel = find(&mut findings, &name).map(|kernel| {
            let sources = kernel.sources.map_or_else(|| "-".to_owned(), |atom| atom.value.to_string());
            format!("{} {sources}", kernel.path.value.display())
        });
        let root = format!("{}/", dir.path().display());
        (kernel, findings.into_all().iter().map(|diagnostic| diagnostic.to_string().replace(&root, "")).collect())
    }

    const KCONF: &str = "#\n# Linux/x86 6.12\n#\nCONFIG_64BIT=y\n# CONFIG_BPF is not set\nCONFIG_NAME=\"x=y\"\n";

    #[test]
    fn is_found_by_name_in_either_layout() {
        for (files, kconf, expected) in [
            (vec![("kernel.configs/server.kconf", KCONF)], "server", "kernel.configs/server.kconf -"),
            (vec![("kernel.configs/server.kconf", KCONF)], "server.kconf", "kernel.configs/server.kconf -"),
            (vec![("kernel.configs/amd/server.kconf", KCONF)], "amd/server", "kernel.configs/amd/server.kconf -"),
            (
                vec![("kernel.defines/server/config", KCONF), ("kernel.defines/server/sources", "gentoo-sources-6.12.4-r1")],
                "server",
                "kernel.defines/server/config =sys-kernel/gentoo-sources-6.12.4-r1",
            ),
            (
                vec![
                    ("kernel.defines/amd/server/config", "amd-2026\n"),
                    ("kernel.defines/amd/server/sources", "sys-kernel/vanilla-sources-6.12.4\n"),
                    ("kernel.configs/amd-2026.kconf", KCONF),
                ],
                "amd/server",
                "kernel.configs/amd-2026.kconf =sys-kernel/vanilla-sources-6.12.4",
            ),
            (
                vec![
                    ("kernel.configs/server.kconf", KCONF),
                    ("kernel.defines/server/config", "server"),
                    ("kernel.defines/server/sources", "sys-kernel/gentoo-sources"),
                ],
                "server",
                "kernel.configs/server.kconf sys-kernel/gentoo-sources",
            ),
        ] {
            assert_eq!(found(&files, kconf), (Some(expected.to_owned()), Vec::new()), "{kconf}");
        }
    }

    #[test]
    fn says_what_is_none() {
        for (files, kconf, expected) in [
            (
                vec![("kernel.configs/server.kconf", KCONF)],
                "sever",
                "stage4.defines/web/kconf:1: there is no kernel configuration `sever.kconf`\n  hint: did you mean `server.kconf`? looked \
                 for `kernel.configs/sever.kconf`; there is `server.kconf`",
            ),
            (
                vec![],
                "../x",
                "stage4.defines/web/kconf:1: the name of a kernel configuration leads out of its folder with `..`: `../x.kconf`\n  hint: \
                 write what comes after `kernel.configs/`",
            ),
            (
                vec![("kernel.defines/x/sources", "gentoo-sources")],
                "x",
                "kernel.defines/x/config: the kernel definition lacks this file\n  hint: write the name of one of `kernel.configs` into \
                 it, or save the configuration there",
            ),
            (vec![("kernel.defines/x/config", "\n")], "x", "kernel.defines/x/config: the file is empty"),
            (
                vec![("kernel.defines/x/config", KCONF), ("kernel.defines/x/sources", "gentoo-sources:")],
                "x",
                "kernel.defines/x/sources:1: this names no kernel sources: `` is no slot",
            ),
            (
                vec![("kernel.configs/x.kconf", "\u{1f}")],
                "x",
                "kernel.configs/x.kconf: the kernel configuration sets nothing\n  hint: a kernel configuration has lines \
                 `CONFIG_NAME=VALUE` and `# CONFIG_NAME is not set`, as `make menuconfig` saves them",
            ),
        ] {
            assert_eq!(found(&files, kconf).1, [expected], "{kconf}");
        }
        let (_, said) = found(&[("kernel.configs/x.kconf", "CONFIG_A=y\nb\nc\nd\ne\nf\ng\nCONFIG-B=y\n")], "x");
        assert_eq!(said.len(), MAX_LINES);
        assert!(
            said[4].starts_with("kernel.configs/x.kconf:6: `f` is no line of a kernel configuration, nor are 2 more\n"),
            "{said:?}"
        );
    }

    #[test]
    fn a_copy_of_proc_config_gz_is_recognised() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x.kconf"), [0x1f, 0x8b, 8]).unwrap();
        let mut findings = Findings::new(dir.path());
        check_text(&mut findings, Path::new("x.kconf"));
        assert_eq!(findings.into_all()[0].message, "the kernel configuration is compressed");
    }
}
