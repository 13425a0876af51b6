//! Kernel configurations, as a stage4's `kconf` names them.
//!
//! ```text
//! kernel.configs/NAME.kconf      the configuration, as `make menuconfig` saves it
//!                                # gentoomuch: sources sys-kernel/gentoo-sources    which package of sources it is for
//!                                # gentoomuch: version 6.12.4                       and which version of it
//! kernel.configs/NAME.dracut     arguments of dracut, one a line: the kernel gets an initramfs
//! stage4.defines/NAME/kernel.sources   sources for this stage4, whatever the configuration says
//! kernel.defines/NAME/config     of older layouts: the configuration itself, or the name of one of kernel.configs
//!                    /sources    the package of sources it is for: `gentoo-sources-6.12.4`
//! ```

use std::path::{Path, PathBuf};

use super::diagnostic::{Findings, Located, Place};
use super::kconfig::{Symbols, is_option};
use super::names::Shape;
use super::{ConfigDir, Error, Result, Stage4Definition, names, reading};
use crate::did_you_mean::nearest;
use crate::portage::atom::{Atom, AtomError, Operator};

/// Where kernel configurations lie.
pub(crate) const CONFIGS: &str = "kernel.configs";
/// Where older layouts have them.
pub(crate) const DEFINES: &str = "kernel.defines";

/// Of one file at most so many invalid lines are reported.
const MAX_LINES: usize = 5;

/// The default sources.
pub(crate) const DEFAULT_SOURCES: &str = "sys-kernel/gentoo-sources";
/// The prefix of header lines.
const HEADER: &str = "# gentoomuch:";

/// What the header of a kernel configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelHeader {
    /// The package of sources.
    pub sources: Option<Located<Atom>>,
    /// Its version, as Portage has it: `6.12.4-r1`.
    pub version: Option<Located<String>>,
}

/// A kernel: its configuration, and the sources it is built from.
#[derive(Debug, Clone)]
pub struct KernelConfig {
    /// As `kconf` has it.
    pub name: String,
    /// The configuration, relative to the configuration directory.
    pub path: PathBuf,
    pub text: String,
    /// Its symbols.
    pub symbols: Symbols,
    /// Its header.
    pub header: KernelHeader,
    /// The package of sources to build.
    pub sources: Atom,
    /// Where that is said; `None`: it is the default.
    pub sources_at: Option<Place>,
    /// Whether a stage4 chose other sources than the configuration.
    pub chosen: bool,
    /// Arguments of dracut; `None`: no initramfs.
    pub dracut: Option<Vec<String>>,
}

impl KernelConfig {
    /// Distinguishes it from other kernels of a profile: its name, with the sources if a stage4 chose them.
    pub fn label(&self) -> String {
        if self.chosen { format!("{}+{}", self.name, sources_label(&self.sources)) } else { self.name.clone() }
    }
}

/// An atom in the characters that the store's names allow; the most common category is left out.
pub(crate) fn sources_label(atom: &Atom) -> String {
    let operator = match atom.operator {
        None | Some(Operator::Equal) => "",
        Some(Operator::AnyRevision) => "any-",
        Some(Operator::Less) => "below-",
        Some(Operator::LessOrEqual) => "upto-",
        Some(Operator::GreaterOrEqual) => "from-",
        Some(Operator::Greater) => "above-",
    };
    let text = atom.to_string();
    let text = text.trim_start_matches(['<', '>', '=', '~']);
    let text = text.strip_prefix("sys-kernel/").unwrap_or(text);
    let usable = |c: char| if c.is_ascii_alphanumeric() || "._+-".contains(c) { c } else { '+' };
    format!("{operator}{}", text.chars().map(usable).collect::<String>().replace("..", ".+"))
}

impl ConfigDir {
    /// Names of all kernel configurations, sorted.
    pub fn kernel_names(&self) -> Vec<String> {
        let mut names: Vec<String> = names::list(self.root(), CONFIGS, Shape::File)
            .into_iter()
            .filter_map(|name| name.strip_suffix(".kconf").map(str::to_owned))
            .collect();
        let old = names::list(self.root(), DEFINES, Shape::Directory);
        names.extend(old.into_iter().filter(|name| self.root().join(DEFINES).join(name).join("config").is_file()));
        names.sort();
        names.dedup();
        names
    }

    /// Whether there is a configuration of the kernel with this label. It fails if that cannot be known.
    pub(crate) fn has_kernel(&self, label: &str) -> Result<bool> {
        // A name may have a `+`, too.
        let names = label.match_indices('+').map(|(at, _)| &label[..at]).chain([label]);
        for name in names.filter(|name| names::is_name(name)) {
            let files = [Path::new(CONFIGS).join(format!("{name}.kconf")), Path::new(DEFINES).join(name).join("config")];
            for file in files {
                if self.is_there(&file)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The kernel configuration called `name`.
    pub fn kernel(&self, name: &str) -> Result<KernelConfig> {
        let name = name.strip_suffix(".kconf").unwrap_or(name);
        let known = self.kernel_names();
        if !known.iter().any(|known| known == name) {
            let nearest = nearest(name, &known).map(str::to_owned);
            let folder = self.root().join(CONFIGS);
            return Err(Error::Unknown { what: "kernel configuration", name: name.to_owned(), folder, nearest, known });
        }
        let mut findings = Findings::new(self.root());
        let asked = Located { value: name.to_owned(), file: Path::new(CONFIGS).into(), line: 0 };
        let kernel = find(&mut findings, &asked).and_then(|kernel| load(&mut findings, &kernel.path.value, kernel.sources, false));
        finished(findings, kernel)
    }

    /// The same, `None` if there is none yet.
    pub fn kernel_if_any(&self, name: &str) -> Result<Option<KernelConfig>> {
        match self.kernel(name) {
            Err(Error::Unknown { .. }) => Ok(None),
            kernel => kernel.map(Some),
        }
    }

    /// The kernel of a stage4, if it has one.
    pub fn kernel_of(&self, stage4: &Stage4Definition) -> Result<Option<KernelConfig>> {
        let Some(kconf) = &stage4.kconf else { return Ok(None) };
        let mut findings = Findings::new(self.root());
        let chosen = stage4.kernel_sources.as_ref().is_some_and(|sources| sources.file.ends_with(SOURCES));
        let kernel = load(&mut findings, &kconf.value, stage4.kernel_sources.clone(), chosen);
        finished(findings, kernel).map(Some)
    }
}

fn finished(findings: Findings<'_>, kernel: Option<KernelConfig>) -> Result<KernelConfig> {
    match findings.finish(kernel)? {
        (Some(kernel), _) => Ok(kernel),
        // An unreadable one is an error, so `finish` has failed before.
        (None, notes) => Err(Error::Invalid(notes.into())),
    }
}

/// The name of the configuration in the file `path`.
pub(crate) fn name_of(path: &Path) -> String {
    let text = path.to_string_lossy();
    let new = text.strip_prefix(&format!("{CONFIGS}/")).and_then(|name| name.strip_suffix(".kconf"));
    let old = || text.strip_prefix(&format!("{DEFINES}/")).and_then(|name| name.strip_suffix("/config"));
    new.or_else(old).unwrap_or(&text).to_owned()
}

/// Reads the configuration in `path`, for the sources that something else names, if any.
fn load(findings: &mut Findings<'_>, path: &Path, sources: Option<Located<Atom>>, chosen: bool) -> Option<KernelConfig> {
    let name = name_of(path);
    if let Some(fault) = names::definition_fault(&name) {
        findings.error_with_hint(&Place::whole(path), format!("the name of the kernel configuration {fault}"), "rename it");
    }
    let text = reading::text(findings, path)?;
    let header = read_header(findings, path, &text);
    let dracut = Path::new(CONFIGS).join(format!("{name}.dracut"));
    let dracut = reading::list(findings, &dracut).map(|lines| lines.into_iter().map(|line| line.value).collect());
    let own = header.sources.clone().map(|sources| match &header.version {
        Some(version) => version.with(with_version(&sources.value, &version.value)),
        None => sources,
    });
    let said = sources.or(own.clone());
    let chosen = chosen && said.as_ref().map(|atom| &atom.value) != own.as_ref().map(|atom| &atom.value);
    let atom = match &said {
        Some(said) => said.value.clone(),
        None => Atom::parse_target(DEFAULT_SOURCES).ok()?,
    };
    let symbols = Symbols::parse(&text);
    let sources_at = said.map(|said| said.place());
    Some(KernelConfig { name, path: path.to_owned(), text, symbols, header, sources: atom, sources_at, chosen, dracut })
}

/// Exactly this version of a package of sources.
fn with_version(sources: &Atom, version: &str) -> Atom {
    Atom { operator: Some(Operator::Equal), version: Some(version.to_owned()), ..sources.clone() }
}

/// The values of the header lines, which may be anywhere in the file.
fn read_header(findings: &mut Findings<'_>, path: &Path, text: &str) -> KernelHeader {
    let mut header = KernelHeader::default();
    for (number, line) in (1..).zip(text.lines()) {
        let Some(rest) = line.strip_prefix(HEADER) else { continue };
        let (word, value) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
        let entry = Located { value: value.trim().to_owned(), file: path.into(), line: number };
        match word {
            "sources" => header.sources = parse_sources(findings, &entry),
            "version" if crate::portage::cpv::is_version(&entry.value) => header.version = Some(entry),
            "version" => findings.error_with_hint(
                &entry.place(),
                format!("`{}` is no version", entry.value.escape_debug()),
                "such as `6.12.4` or `6.12.4-r1`, as Portage has it",
            ),
            other => findings.error_with_hint(
                &entry.place(),
                format!("the header of a kernel configuration has no `{}`", other.escape_debug()),
                "it has `sources CATEGORY/PACKAGE` and `version VERSION`",
            ),
        }
    }
    if let (Some(version), None) = (&header.version, &header.sources) {
        findings.error_with_hint(
            &version.place(),
            "this version has no package",
            format!("write `{HEADER} sources {DEFAULT_SOURCES}` above it, or name another package of sources"),
        );
    }
    if let (Some(version), Some(sources)) = (&header.version, &header.sources)
        && sources.value.version.is_some()
    {
        findings.error_with_hint(&version.place(), "the `sources` line has a version already", "remove one of the two");
    }
    header
}

/// `text` with this header instead of its own.
pub fn with_header(text: &str, sources: &str, version: Option<&str>) -> String {
    let mut new = format!("{HEADER} sources {sources}\n");
    if let Some(version) = version {
        new.push_str(&format!("{HEADER} version {version}\n"));
    }
    for line in text.lines().filter(|line| !line.starts_with(HEADER)) {
        new.push_str(line.trim_end());
        new.push('\n');
    }
    new
}

/// The file with a stage4's choice of kernel sources.
pub(crate) const SOURCES: &str = "kernel.sources";

pub(crate) fn read_chosen(findings: &mut Findings<'_>, dir: &Path) -> Option<Located<Atom>> {
    let entry = reading::single(findings, &dir.join(SOURCES))?;
    let atom = parse_sources(findings, &entry);
    if !findings.root().join(dir).join("kconf").exists() {
        findings.warning(
            &entry.place(),
            "without `kconf` beside it there is no kernel to build",
            "name a kernel configuration in `kconf`",
        );
    }
    atom
}

/// A kernel configuration that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// The configuration, relative to the configuration directory.
    pub(crate) path: Located<PathBuf>,
    /// The sources that an older layout pins for it.
    pub(crate) sources: Option<Located<Atom>>,
}

/// Finds and reads the configuration that `kconf` names.
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
    // A folder of an older layout with the same name may say which sources it is for.
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

/// Sources as users name them: `gentoo-sources-6.12.4-r1`, `sys-kernel/gentoo-sources-6.12.4`, or any atom.
pub(crate) fn parse_kernel_sources(text: &str) -> std::result::Result<Atom, AtomError> {
    let text = if text.contains('/') { text.to_owned() } else { format!("sys-kernel/{text}") };
    match Atom::parse_target(&text) {
        Err(AtomError::NoOperator(text)) => Atom::parse_target(&format!("={text}")),
        other => other,
    }
}

fn parse_sources(findings: &mut Findings<'_>, entry: &Located<String>) -> Option<Located<Atom>> {
    match parse_kernel_sources(&entry.value) {
        Ok(atom) => Some(entry.with(atom)),
        Err(error) => {
            findings.error(&entry.place(), format!("this is not a package of kernel sources: {error}"));
            None
        }
    }
}

/// Reports lines that a kernel configuration cannot have.
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
    read_header(findings, file, &text);
    let more = wrong.len().saturating_sub(MAX_LINES);
    for (index, (number, line)) in wrong.into_iter().take(MAX_LINES).enumerate() {
        let shown: String = line.chars().take(60).collect();
        let others = if index + 1 == MAX_LINES && more > 0 {
            format!(
                ", and neither are {more} more \
            lines"
            )
        } else {
            String::new()
        };
        findings.error_with_hint(
            &Place::new(file, number),
            format!("`{}` is no line of a kernel configuration{others}", shown.escape_debug()),
            AS_SAVED,
        );
    }
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
                "kernel.defines/x/sources:1: this is not a package of kernel sources: `` is no slot",
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
            said[4].starts_with(
                "kernel.configs/x.kconf:6: `f` is no line of a kernel configuration, and neither are 2 more \
                lines\n"
            ),
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

    fn kernel(text: &str, chosen: Option<&str>) -> std::result::Result<KernelConfig, Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("kernel.configs")).unwrap();
        fs::create_dir_all(dir.path().join("stage4.defines/web")).unwrap();
        fs::write(dir.path().join("kernel.configs/x.kconf"), text).unwrap();
        for (file, text) in [("profile", "demo"), ("stage3", "x"), ("kconf", "x")] {
            fs::write(dir.path().join("stage4.defines/web").join(file), text).unwrap();
        }
        fs::create_dir_all(dir.path().join("stage3.defines/x")).unwrap();
        fs::write(dir.path().join("stage3.defines/x/packages"), "").unwrap();
        if let Some(chosen) = chosen {
            fs::write(dir.path().join("stage4.defines/web/kernel.sources"), chosen).unwrap();
        }
        let config = ConfigDir::open(dir.path()).unwrap();
        let read = config.stage4("web").and_then(|stage4| config.kernel_of(&stage4));
        read.map(Option::unwrap).map_err(|error| {
            error.to_string().lines().map(|line| line.replace(&format!("{}/", dir.path().display()), "")).collect()
        })
    }

    #[test]
    fn which_sources_a_kernel_is_built_from() {
        let header = "# gentoomuch: sources sys-kernel/vanilla-sources\n";
        let versioned = format!("{header}# gentoomuch: version 6.12.4-r1\n");
        for (text, chosen, sources, label) in [
            ("", None, "sys-kernel/gentoo-sources", "x"),
            (header, None, "sys-kernel/vanilla-sources", "x"),
            (&versioned, None, "=sys-kernel/vanilla-sources-6.12.4-r1", "x"),
            ("", Some("gentoo-sources-6.6.1"), "=sys-kernel/gentoo-sources-6.6.1", "x+gentoo-sources-6.6.1"),
            (&versioned, Some("gentoo-sources:6.6.1"), "sys-kernel/gentoo-sources:6.6.1", "x+gentoo-sources+6.6.1"),
            (&versioned, Some("~sys-kernel/a-sources-6"), "~sys-kernel/a-sources-6", "x+any-a-sources-6"),
            (&versioned, Some("vanilla-sources-6.12.4-r1"), "=sys-kernel/vanilla-sources-6.12.4-r1", "x"),
        ] {
            let kernel = kernel(&format!("{text}{KCONF}"), chosen).unwrap();
            assert_eq!((kernel.sources.to_string().as_str(), kernel.label().as_str()), (sources, label), "{text} {chosen:?}");
        }
    }

    #[test]
    fn a_header_that_is_wrong() {
        for (text, expected) in [
            (
                "# gentoomuch: sources x y\n",
                "kernel.configs/x.kconf:1: this is not a package of kernel sources: `x y` is no \
                package name",
            ),
            ("# gentoomuch: source a/b\n", "kernel.configs/x.kconf:1: the header of a kernel configuration has no `source`"),
            ("# gentoomuch: sources a/b\n# gentoomuch: version ten\n", "kernel.configs/x.kconf:2: `ten` is no version"),
            ("# gentoomuch: version 6.1\n", "kernel.configs/x.kconf:1: this version has no package"),
            (
                "# gentoomuch: sources =a/b-1\n# gentoomuch: version 6.1\n",
                "kernel.configs/x.kconf:2: the `sources` line has a version already",
            ),
        ] {
            assert_eq!(kernel(&format!("{text}{KCONF}"), None).unwrap_err()[0], expected);
        }
    }

    #[test]
    fn a_header_is_replaced() {
        let once = with_header(KCONF, "a/b", Some("1.0"));
        assert!(once.starts_with("# gentoomuch: sources a/b\n# gentoomuch: version 1.0\n#\n# Linux"), "{once}");
        assert_eq!(with_header(&once, "a/b", Some("1.0")), once);
        assert_eq!(with_header(&once, "c/d", None), format!("# gentoomuch: sources c/d\n{KCONF}"));
    }
}
