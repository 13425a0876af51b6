//! The facts about a machine that `init` needs, and the files with them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::SHIPPED;
use crate::config::cpu::best_march;
use crate::config::env;
use crate::cpu_flags;
use crate::cpu_flags::CpuInfo;
use crate::terminal_text::sanitize_line;

/// Name of the definition in `cpu.defines` that is written for this machine.
pub(crate) const THIS_HOST: &str = "this-host";
/// The machine that the shipped definitions are for.
const SHIPPED_CPU: &str = "generic-amd64";
/// Memory that a compiler may need for one job: Gentoo's handbook counts with 2 GiB.
const BYTES_PER_JOB: u64 = 2 << 30;

/// A machine, as far as it matters for building on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Machine {
    /// Gentoo's keyword, `amd64`; or the system's own name where Gentoo has none.
    pub arch: String,
    /// Whether that is a keyword of Gentoo's.
    pub known_arch: bool,
    /// The processor's name for itself; may be empty.
    pub model: String,
    /// For `-march=`.
    pub march: Option<String>,
    /// `CPU_FLAGS_X86` or `CPU_FLAGS_ARM`.
    pub cpu_flags_variable: Option<String>,
    /// Its values.
    pub cpu_flags: Vec<String>,
    pub processors: u32,
    /// Memory in bytes; `None` if unknown.
    pub memory_bytes: Option<u64>,
    /// Parallel jobs: one for each processor, but at most one for every 2 GiB of memory.
    pub jobs: u32,
}

impl Machine {
    /// From the texts of `/proc/cpuinfo` and `/proc/meminfo`; `arch` is Gentoo's keyword where there is one.
    pub(crate) fn of(arch: &str, cpuinfo: &str, meminfo: &str, processors: u32) -> Self {
        let cpu = CpuInfo::parse(cpuinfo);
        let (variable, flags) = cpu_flags::detect(arch, &cpu).unzip();
        let memory_bytes = total_memory(meminfo);
        let fitting = memory_bytes.map(|bytes| u32::try_from(bytes.div_ceil(BYTES_PER_JOB)).unwrap_or(u32::MAX));
        Self {
            known_arch: env::ARCHITECTURES.contains(&arch),
            arch: arch.to_owned(),
            model: sanitize_line(cpu.model.as_bytes(), 80),
            march: best_march(arch, &cpu),
            cpu_flags_variable: variable.map(str::to_owned),
            cpu_flags: flags.unwrap_or_default().into_iter().map(str::to_owned).collect(),
            processors,
            memory_bytes,
            jobs: fitting.map_or(processors, |fitting| processors.min(fitting)).max(1),
        }
    }

    /// `cpu.defines/this-host/make.conf`.
    pub(super) fn make_conf(&self) -> String {
        let mut text = String::from("# The machine on which `gentoomuch init` ran");
        let _ = writeln!(text, "{}{}.", if self.model.is_empty() { "" } else { ": " }, self.model);
        match (self.march.as_deref(), self.arch.as_str()) {
            (Some(march), "amd64") => {
                text.push_str(
                    "# The level of the x86-64 psABI; every GCC since 11 knows it. The compiler's name for this model \
                    may make programs a little faster.\n",
                );
                let _ = writeln!(text, "COMMON_FLAGS=\"-O2 -pipe -march={march}\"");
            }
            (Some(march), _) => {
                let _ = writeln!(text, "COMMON_FLAGS=\"-O2 -pipe -march={march}\"");
            }
            (None, _) => text.push_str(
                "# The model of its processor is not known: add `-march=` to use its features.\nCOMMON_FLAGS=\"-O2 \
                    -pipe\"\n",
            ),
        }
        if let Some(variable) = &self.cpu_flags_variable {
            let _ = writeln!(text, "# As cpuid2cpuflags prints them.");
            let _ = writeln!(text, "{variable}=\"{}\"", wrapped(&self.cpu_flags, variable.len() + 2));
        }
        text
    }

    /// The files that are made for this machine.
    pub(super) fn files(&self) -> Vec<(PathBuf, String)> {
        let mut files = vec![(Path::new("cpu.defines").join(THIS_HOST).join("make.conf"), self.make_conf())];
        // An unknown keyword would be an error in every command.
        if self.known_arch {
            files.push((PathBuf::from("env/arch"), format!("{}\n", self.arch)));
        }
        files.push((PathBuf::from("env/jobs"), format!("{}\n", self.jobs)));
        files
    }

    /// A shipped file adapted to this machine: on another architecture, definitions for any amd64 machine become those for any machine of
    /// that kind.
    pub(super) fn adapt(&self, path: &Path, contents: &[u8]) -> Vec<u8> {
        let is_cpu = path.starts_with("stage3.defines") && path.file_name().is_some_and(|name| name == "cpu");
        if self.arch == "amd64" || !is_cpu {
            return contents.to_vec();
        }
        let generic = format!("generic-{}", self.arch);
        let has_generic = SHIPPED.iter().any(|(path, ..)| Path::new(path).starts_with(Path::new("cpu.defines").join(&generic)));
        let name = if has_generic { &generic } else { THIS_HOST };
        String::from_utf8_lossy(contents).replace(SHIPPED_CPU, name).into_bytes()
    }
}

/// `MemTotal` of `/proc/meminfo`, which is in KiB, in bytes.
fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Words in lines of up to 120 columns, with `indent` blanks before each but the first.
fn wrapped(words: &[String], indent: usize) -> String {
    let mut text = String::new();
    let mut column = indent;
    for word in words {
        if !text.is_empty() && column + 1 + word.len() > 120 {
            let _ = write!(text, "\n{}", " ".repeat(indent));
            column = indent;
        } else if !text.is_empty() {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += word.len();
    }
    text
}
