//! Whether this machine can run what a definition compiles.
//!
//! Builds run natively, so they also run the programs that they make: test suites, code generators, the rebuilt compiler itself. A single
//! instruction that the processor lacks ends them with SIGILL, hours later. So we refuse such a definition before, and name the line.
//!
//! The instructions of a `-march=` are from GCC 15 (`gcc/config/i386/i386.h`, `PTA_*`), levels from the x86-64 psABI, names of processor
//! flags from Linux (`arch/x86/include/asm/cpufeatures.h`, `arch/arm64/kernel/cpuinfo.c`). Instructions that a compiler never emits by
//! itself are left out (`xsave*`, `clwb`, `pku`, `fsgsbase`, …), since virtual machines often hide those.

use std::collections::BTreeMap;
use std::fmt;

use super::diagnostic::{Located, Place};
use super::portage_dir::PortageDir;
use crate::cpu_flags::{arm64_needs, x86_needs};

pub(crate) use crate::cpu_flags::CpuInfo;

/// A compiler or CPU flag that this machine cannot run, or that we do not know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    /// The line with the flag.
    pub place: Place,
    /// The variable that it is part of.
    pub variable: String,
    /// The flag as written: `-march=znver5`, `avx2`.
    pub flag: String,
    /// The missing flags by the kernel's names; empty for a flag that we do not know.
    pub missing: Vec<String>,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, variable, flag, missing } = self;
        if missing.is_empty() {
            return write!(f, "{place}: cannot tell whether this CPU supports `{flag}` of `{variable}`");
        }
        let missing: Vec<String> = missing.iter().map(|flag| format!("`{flag}`")).collect();
        write!(f, "{place}: `{flag}` of `{variable}` needs {}, which this CPU does not have", missing.join(", "))
    }
}

/// Checks compiler flags and `CPU_FLAGS_*` of a merged Portage directory. `Ok` has the flags that we do not know, `Err` those that the
/// machine cannot run.
pub(crate) fn host_can_run(dir: &PortageDir, cpu: &CpuInfo) -> Result<Vec<Reason>, Vec<Reason>> {
    let mut check = Check { cpu, refused: Vec::new(), unknown: Vec::new() };
    for variable in ["COMMON_FLAGS", "CFLAGS", "CXXFLAGS", "FCFLAGS", "FFLAGS", "RUSTFLAGS", "GOAMD64"] {
        if let Some(words) = dir.located_words(variable) {
            check.compiler_flags(variable, &words);
        }
    }
    for (variable, flag) in dir.cpu_flags() {
        let needed = match variable.as_str() {
            "CPU_FLAGS_X86" => x86_use_flag(&flag.value),
            "CPU_FLAGS_ARM" => arm64_needs(&flag.value).unwrap_or(""),
            _ => "",
        };
        check.require(&variable, &flag, needed.split_whitespace());
    }
    if check.refused.is_empty() { Ok(check.unknown) } else { Err(check.refused) }
}

struct Check<'a> {
    cpu: &'a CpuInfo,
    refused: Vec<Reason>,
    unknown: Vec<Reason>,
}

impl Check<'_> {
    fn compiler_flags(&mut self, variable: &str, words: &[Located<String>]) {
        // The needed processor flags, each with its reason. A later `-march=` replaces an earlier one, `-mno-avx` removes a flag.
        let mut by_march: Option<(&Located<String>, Vec<&str>)> = None;
        let mut by_flag: BTreeMap<&str, &Located<String>> = BTreeMap::new();
        for word in words {
            let text = word.value.as_str();
            if let Some(name) = target_name(variable, text) {
                by_march = requirements(name).map(|needed| (word, needed));
                if by_march.is_none() {
                    self.push(false, variable, word, Vec::new());
                }
            } else if let Some(name) = text.strip_prefix("-mno-") {
                if let Some(flag) = instruction_set(name) {
                    by_flag.remove(flag);
                    if let Some((_, needed)) = &mut by_march {
                        needed.retain(|needed| *needed != flag);
                    }
                }
            } else if let Some(flag) = text.strip_prefix("-m").and_then(instruction_set) {
                by_flag.insert(flag, word);
            }
        }
        if let Some((word, needed)) = by_march {
            self.require(variable, word, needed.into_iter());
        }
        for (flag, word) in by_flag {
            self.require(variable, word, std::iter::once(flag));
        }
    }

    fn require<'f>(&mut self, variable: &str, word: &Located<String>, needed: impl Iterator<Item = &'f str>) {
        let missing: Vec<String> = needed.filter(|flag| !self.cpu.has(flag)).map(str::to_owned).collect();
        if !missing.is_empty() {
            self.push(true, variable, word, missing);
        }
    }

    fn push(&mut self, refuse: bool, variable: &str, word: &Located<String>, missing: Vec<String>) {
        let list = if refuse { &mut self.refused } else { &mut self.unknown };
        // `CFLAGS` and its relatives usually repeat `COMMON_FLAGS`, so each line is reported once.
        if list.iter().any(|known| known.place == word.place() && known.flag == word.value) {
            return;
        }
        list.push(Reason { place: word.place(), variable: variable.to_owned(), flag: word.value.clone(), missing });
    }
}

/// The first flag of a `make.conf` that means the processor of the compiling machine.
pub(crate) fn native_flag(make_conf: &str) -> Option<&str> {
    let lines = make_conf.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut words = lines.flat_map(|line| line.split(|c: char| c.is_whitespace() || c == '"' || c == '\''));
    words.find_map(|word| {
        let flag =
            word.find("-march=").or_else(|| word.find("-mcpu=")).or_else(|| word.find("target-cpu=")).map(|at| &word[at..])?;
        flag.split_once('=').is_some_and(|(_, name)| name == "native").then_some(flag)
    })
}

/// The processor that a compiler flag names.
fn target_name<'w>(variable: &str, word: &'w str) -> Option<&'w str> {
    match variable {
        "GOAMD64" => Some(word),
        "RUSTFLAGS" => word.strip_prefix("target-cpu=").or_else(|| word.strip_prefix("-Ctarget-cpu=")),
        _ => word.strip_prefix("-march=").or_else(|| word.strip_prefix("-mcpu=")),
    }
}

/// `(name, what it builds upon, what it adds)`. The kernel calls SSE3 `pni`, LZCNT `abm` and PCLMUL `pclmulqdq`.
const X86: [(&str, &str, &str); 53] = [
    ("x86-64", "", "lm cmov cx8 fpu fxsr mmx sse sse2"),
    ("x86-64-v2", "x86-64", "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"),
    ("x86-64-v3", "x86-64-v2", "avx avx2 bmi1 bmi2 f16c fma abm movbe"),
    ("x86-64-v4", "x86-64-v3", "avx512f avx512bw avx512cd avx512dq avx512vl"),
    ("nocona", "x86-64", "pni cx16"),
    ("core2", "nocona", "ssse3 lahf_lm"),
    ("nehalem", "core2", "sse4_1 sse4_2 popcnt"),
    ("corei7", "nehalem", ""),
    ("westmere", "nehalem", "pclmulqdq"),
    ("sandybridge", "westmere", "avx"),
    ("corei7-avx", "sandybridge", ""),
    ("ivybridge", "sandybridge", "rdrand f16c"),
    ("core-avx-i", "ivybridge", ""),
    ("haswell", "ivybridge", "avx2 bmi1 bmi2 abm fma movbe"),
    ("core-avx2", "haswell", ""),
    ("broadwell", "haswell", "adx rdseed"),
    ("skylake", "broadwell", "aes"),
    ("skylake-avx512", "skylake", "avx512f avx512cd avx512vl avx512bw avx512dq"),
    ("cascadelake", "skylake-avx512", "avx512_vnni"),
    ("cooperlake", "cascadelake", "avx512_bf16"),
    ("cannonlake", "skylake-avx512", "avx512vbmi avx512ifma sha_ni"),
    ("icelake-client", "cannonlake", "avx512_vnni avx512_vbmi2 avx512_bitalg avx512_vpopcntdq gfni vaes vpclmulqdq"),
    ("rocketlake", "icelake-client", ""),
    ("icelake-server", "icelake-client", ""),
    ("tigerlake", "icelake-client", "avx512_vp2intersect"),
    ("sapphirerapids", "icelake-server", "avx512_bf16 avx512_fp16 avx_vnni amx_tile amx_int8 amx_bf16"),
    ("emeraldrapids", "sapphirerapids", ""),
    ("graniterapids", "sapphirerapids", "amx_fp16"),
    ("bonnell", "core2", "movbe"),
    ("atom", "bonnell", ""),
    ("silvermont", "westmere", "movbe rdrand"),
    ("goldmont", "silvermont", "aes sha_ni rdseed"),
    ("goldmont-plus", "goldmont", ""),
    ("tremont", "goldmont-plus", "gfni"),
    ("alderlake", "tremont", "adx avx avx2 bmi1 bmi2 f16c fma abm vaes vpclmulqdq avx_vnni"),
    ("raptorlake", "alderlake", ""),
    ("meteorlake", "alderlake", ""),
    ("gracemont", "alderlake", ""),
    ("k8", "x86-64", "3dnow 3dnowext"),
    ("k8-sse3", "k8", "pni"),
    ("amdfam10", "k8-sse3", "sse4a cx16 abm popcnt"),
    ("barcelona", "amdfam10", ""),
    ("btver1", "x86-64", "pni ssse3 sse4a cx16 abm popcnt lahf_lm"),
    ("btver2", "btver1", "sse4_1 sse4_2 aes pclmulqdq avx bmi1 f16c movbe"),
    ("bdver1", "btver1", "sse4_1 sse4_2 aes pclmulqdq avx fma4 xop"),
    ("bdver2", "bdver1", "bmi1 tbm f16c fma"),
    ("bdver3", "bdver2", ""),
    ("bdver4", "bdver3", "avx2 bmi2 rdrand movbe"),
    ("znver1", "x86-64-v3", "sse4a aes pclmulqdq sha_ni rdrand rdseed adx"),
    ("znver2", "znver1", ""),
    ("znver3", "znver2", "vaes vpclmulqdq"),
    (
        "znver4",
        "znver3",
        "avx512f avx512dq avx512ifma avx512cd avx512bw avx512vl avx512_bf16 avx512vbmi avx512_vbmi2 gfni avx512_vnni avx512_bitalg \
         avx512_vpopcntdq",
    ),
    ("znver5", "znver4", "avx_vnni avx512_vp2intersect"),
];

/// Like [`X86`]; `+extension` is looked up in [`arm_extension`].
const ARM64: [(&str, &str, &str); 17] = [
    ("armv8-a", "", "fp asimd"),
    ("armv8.1-a", "armv8-a", "crc32 atomics asimdrdm"),
    ("armv8.2-a", "armv8.1-a", "dcpop"),
    ("armv8.3-a", "armv8.2-a", "jscvt fcma lrcpc paca"),
    ("armv8.4-a", "armv8.3-a", "asimddp flagm ilrcpc uscat"),
    ("armv9-a", "armv8.4-a", "sve sve2"),
    ("cortex-a53", "armv8-a", "crc32"),
    ("cortex-a57", "armv8-a", "crc32"),
    ("cortex-a72", "armv8-a", "crc32"),
    ("cortex-a73", "armv8-a", "crc32"),
    ("cortex-a55", "armv8.2-a", "fphp asimdhp lrcpc asimddp"),
    ("cortex-a76", "cortex-a55", ""),
    ("cortex-a78", "cortex-a76", ""),
    ("neoverse-n1", "cortex-a76", ""),
    ("neoverse-v1", "armv8.4-a", "sve i8mm bf16"),
    ("neoverse-n2", "armv9-a", "i8mm bf16"),
    ("neoverse-v2", "armv9-a", "i8mm bf16"),
];

/// The `-march=` for a machine of this architecture (Gentoo's keyword) of which only the flags are known: on amd64 the highest level of
/// the psABI, on arm64 the latest version of the architecture in the table, with the optional cryptography and CRC instructions.
///
/// The compiler's name of the model would allow more, but not every compiler knows it (a stage3's may not know `znver5`), and it stands
/// for everything that the model has, while a virtual machine may hide some of it.
pub(crate) fn best_march(arch: &str, cpu: &CpuInfo) -> Option<String> {
    let runs = |name: &str| requirements(name).is_some_and(|needed| needed.iter().all(|flag| cpu.has(flag)));
    match arch {
        "amd64" => ["x86-64-v4", "x86-64-v3", "x86-64-v2", "x86-64"].into_iter().find(|name| runs(name)).map(str::to_owned),
        "arm64" => {
            let versions = ["armv9-a", "armv8.4-a", "armv8.3-a", "armv8.2-a", "armv8.1-a", "armv8-a"];
            let version = versions.into_iter().find(|name| runs(name))?;
            let extensions: String = [("+crc", version == "armv8-a"), ("+crypto", true)]
                .into_iter()
                .filter(|(extension, wanted)| *wanted && runs(&format!("{version}{extension}")))
                .map(|(extension, _)| extension)
                .collect();
            Some(format!("{version}{extensions}"))
        }
        _ => None,
    }
}

/// The flags that a `-march=` needs; `None` for a name that is not in the tables.
fn requirements(name: &str) -> Option<Vec<&'static str>> {
    let mut parts = name.split('+');
    let name = match parts.next()? {
        // The compiler examines the processor that will run the result.
        "native" => return Some(Vec::new()),
        "v1" => "x86-64",
        "v2" => "x86-64-v2",
        "v3" => "x86-64-v3",
        "v4" => "x86-64-v4",
        "opteron" | "athlon64" | "athlon-fx" => "k8",
        "slm" => "silvermont",
        "generic" => "armv8-a",
        name => name,
    };
    let mut needed = Vec::new();
    let mut at = name;
    while !at.is_empty() {
        let (_, parent, adds) = X86.iter().chain(&ARM64).find(|(known, _, _)| *known == at)?;
        needed.extend(adds.split_whitespace());
        at = parent;
    }
    for extension in parts {
        let adds = arm_extension(extension.strip_prefix("no").unwrap_or(extension));
        if extension.starts_with("no") {
            needed.retain(|flag| !adds.split_whitespace().any(|removed| removed == *flag));
        } else {
            needed.extend(adds.split_whitespace());
        }
    }
    Some(needed)
}

fn arm_extension(name: &str) -> &'static str {
    match name {
        "crc" => "crc32",
        "lse" => "atomics",
        "crypto" => "aes pmull sha1 sha2",
        "aes" => "aes pmull",
        "sha2" => "sha1 sha2",
        "sha3" => "sha3 sha512",
        "sm4" => "sm3 sm4",
        "dotprod" => "asimddp",
        "fp16" => "fphp asimdhp",
        "rdma" => "asimdrdm",
        "rcpc" => "lrcpc",
        "sve" => "sve",
        "sve2" => "sve sve2",
        "i8mm" => "i8mm",
        "bf16" => "bf16",
        _ => "",
    }
}

/// The kernel's name of the instruction set that `-mNAME` enables.
fn instruction_set(name: &str) -> Option<&'static str> {
    const SAME: [&str; 27] = [
        "3dnow",
        "adx",
        "aes",
        "avx",
        "avx2",
        "avx512f",
        "avx512bw",
        "avx512cd",
        "avx512dq",
        "avx512vl",
        "avx512ifma",
        "avx512vbmi",
        "bmi2",
        "f16c",
        "fma",
        "fma4",
        "gfni",
        "mmx",
        "movbe",
        "popcnt",
        "rdseed",
        "sse",
        "sse2",
        "sse4a",
        "ssse3",
        "vaes",
        "vpclmulqdq",
    ];
    Some(match name {
        "sse3" => "pni",
        "sse4" | "sse4.2" => "sse4_2",
        "sse4.1" => "sse4_1",
        "lzcnt" | "abm" => "abm",
        "bmi" => "bmi1",
        "pclmul" => "pclmulqdq",
        "rdrnd" => "rdrand",
        "sha" => "sha_ni",
        "cx16" => "cx16",
        "xop" => "xop",
        "tbm" => "tbm",
        "avxvnni" => "avx_vnni",
        "avx512bf16" => "avx512_bf16",
        "avx512fp16" => "avx512_fp16",
        "avx512vnni" => "avx512_vnni",
        "avx512vbmi2" => "avx512_vbmi2",
        "avx512bitalg" => "avx512_bitalg",
        "avx512vpopcntdq" => "avx512_vpopcntdq",
        "amx-tile" => "amx_tile",
        "amx-int8" => "amx_int8",
        "amx-bf16" => "amx_bf16",
        name => return SAME.into_iter().find(|same| *same == name),
    })
}

/// The flags that a member of `CPU_FLAGS_X86` needs: those of cpuid2cpuflags, and names of instruction sets. Unknown ones need nothing.
fn x86_use_flag(name: &str) -> &'static str {
    let further = || match name {
        "amx_tile" => "amx_tile",
        "amx_int8" => "amx_int8",
        "amx_bf16" => "amx_bf16",
        name => instruction_set(name).unwrap_or(""),
    };
    x86_needs(name).unwrap_or_else(further)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigDir;
    use std::fs;

    /// A virtual machine on a fourth-generation EPYC: some flags of the real one are hidden.
    const EPYC: &str = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu cx8 cmov mmx fxsr sse sse2 syscall mmxext lm pni pclmulqdq \
        ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt aes avx f16c rdrand lahf_lm abm sse4a 3dnowprefetch bmi1 avx2 bmi2 avx512f avx512dq \
        rdseed adx avx512ifma avx512cd sha_ni avx512bw avx512vl avx512_bf16 avx512vbmi avx512_vbmi2 gfni vaes vpclmulqdq avx512_vnni \
        avx512_bitalg avx512_vpopcntdq\n\n";
    const HASWELL: &str = "flags : fpu cx8 cmov mmx fxsr sse sse2 lm pni pclmulqdq ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt aes avx f16c \
        rdrand lahf_lm abm bmi1 avx2 bmi2\n";
    const GRAVITON2: &str =
        "processor : 0\nFeatures : fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp\n";

    fn check(make_conf: &str, cpu: &str) -> Result<Vec<String>, Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [("portage.global/make.conf", make_conf), ("stage3.defines/base/packages", "")] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let config = ConfigDir::open(dir.path()).unwrap();
        let merged = config.portage_dir(&config.stage3("base").unwrap()).unwrap();
        let texts = |reasons: Vec<Reason>| reasons.iter().map(ToString::to_string).collect();
        host_can_run(&merged, &CpuInfo::parse(cpu)).map(texts).map_err(texts)
    }

    #[test]
    fn the_processor_of_the_builder() {
        for (text, flag) in [
            ("CFLAGS=\"-O2 -march=native\"\n", Some("-march=native")),
            ("CFLAGS=-march=native\n", Some("-march=native")),
            ("# CFLAGS=\"-march=native\"\nCFLAGS=\"-march=znver3 -mtune=native\"\n", None),
            ("CFLAGS='-mcpu=native'\n", Some("-mcpu=native")),
            ("RUSTFLAGS=\"-C target-cpu=native\"\n", Some("target-cpu=native")),
            ("RUSTFLAGS=\"-Ctarget-cpu=native\"\n", Some("target-cpu=native")),
            ("CFLAGS=\"-march=native-ish\"\n", None),
            ("", None),
        ] {
            assert_eq!(native_flag(text), flag, "{text}");
        }
    }

    #[test]
    fn knows_what_a_processor_can_run() {
        for (flags, cpu, ok) in [
            ("-O2", HASWELL, true),
            ("-march=native", HASWELL, true),
            ("-march=x86-64", HASWELL, true),
            ("-march=x86-64-v3", HASWELL, true),
            ("-march=x86-64-v4", HASWELL, false),
            ("-march=haswell", HASWELL, true),
            ("-march=skylake", HASWELL, false),
            ("-march=znver1", HASWELL, false),
            ("-march=znver4", EPYC, true),
            ("-march=znver5", EPYC, false),
            ("-march=x86-64-v4", EPYC, true),
            ("-march=icelake-server", EPYC, true),
            ("-march=sapphirerapids", EPYC, false),
            ("-march=alderlake", EPYC, false),
            ("-march=k8", EPYC, false),
            ("-march=x86-64 -mavx512f", HASWELL, false),
            ("-march=x86-64 -mavx512f -mno-avx512f", HASWELL, true),
            ("-march=x86-64-v4 -march=x86-64", HASWELL, true),
            ("-mtune=znver5", HASWELL, true),
            ("-march=armv8-a", HASWELL, false),
            ("-march=armv8-a+crc+crypto", GRAVITON2, true),
            ("-mcpu=neoverse-n1", GRAVITON2, true),
            ("-march=armv8.2-a+sve", GRAVITON2, false),
            ("-march=x86-64", GRAVITON2, false),
        ] {
            let result = check(&format!("COMMON_FLAGS=\"{flags}\"\n"), cpu);
            assert_eq!(result.is_ok(), ok, "{flags}: {result:?}");
        }
    }

    #[test]
    fn names_the_line_and_what_is_missing() {
        let reasons = check(
            "# c\nCOMMON_FLAGS=\"-O2\n -march=x86-64-v4\"\nRUSTFLAGS=\"-C target-cpu=znver3\"\nGOAMD64=\"v4\"\nCPU_FLAGS_X86=\"avx2 fma3 sha mmxext\"\n",
            HASWELL,
        );
        insta::assert_snapshot!(reasons.unwrap_err().join("\n"), @r"
        portage.global/make.conf:3: `-march=x86-64-v4` of `COMMON_FLAGS` needs `avx512f`, `avx512bw`, `avx512cd`, `avx512dq`, `avx512vl`, which this CPU does not have
        portage.global/make.conf:4: `target-cpu=znver3` of `RUSTFLAGS` needs `vaes`, `vpclmulqdq`, `sse4a`, `sha_ni`, `rdseed`, `adx`, which this CPU does not have
        portage.global/make.conf:5: `v4` of `GOAMD64` needs `avx512f`, `avx512bw`, `avx512cd`, `avx512dq`, `avx512vl`, which this CPU does not have
        portage.global/make.conf:6: `sha` of `CPU_FLAGS_X86` needs `sha_ni`, which this CPU does not have
        ");
    }

    #[test]
    fn what_is_not_known_is_no_reason_to_refuse() {
        let notes = check("COMMON_FLAGS=\"-march=znver99\"\n", HASWELL).unwrap();
        assert_eq!(notes, ["portage.global/make.conf:1: cannot tell whether this CPU supports `-march=znver99` of `COMMON_FLAGS`"]);
    }

    #[test]
    fn tables_name_only_what_is_in_them() {
        for (name, parent, _) in X86.iter().chain(&ARM64) {
            assert!(requirements(name).is_some(), "{name} builds upon `{parent}`");
        }
    }

    #[test]
    fn the_best_that_a_processor_runs() {
        let bare = "flags : lm cmov cx8 fpu fxsr mmx sse sse2\n";
        let pi = "Features : fp asimd evtstrm crc32 cpuid\n";
        for (arch, cpu, march) in [
            ("amd64", EPYC, Some("x86-64-v4")),
            ("amd64", HASWELL, Some("x86-64-v3")),
            ("amd64", bare, Some("x86-64")),
            ("amd64", "", None),
            ("arm64", GRAVITON2, Some("armv8.2-a+crypto")),
            ("arm64", pi, Some("armv8-a+crc")),
            ("riscv", "", None),
        ] {
            assert_eq!(best_march(arch, &CpuInfo::parse(cpu)).as_deref(), march, "{arch} {cpu}");
        }
    }

    #[test]
    fn the_flags_of_every_shipped_processor_are_those_of_what_is_compiled_for() {
        let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/cpu.defines");
        let mut seen = 0;
        for entry in fs::read_dir(shipped).unwrap().flatten() {
            let (name, text) = (entry.file_name(), fs::read_to_string(entry.path().join("make.conf")).unwrap());
            let march = text.split(['"', ' ']).find_map(|word| target_name("CFLAGS", word)).unwrap();
            let needed = requirements(march).unwrap_or_else(|| panic!("{march} is not known"));
            // A machine that has just that.
            let flags = needed.join(" ");
            let cpu = CpuInfo { model: String::new(), flags: flags.split_whitespace().map(str::to_owned).collect() };
            let arch = if text.contains("CPU_FLAGS_ARM=") { "arm64" } else { "amd64" };
            let (variable, detected) = crate::cpu_flags::detect(arch, &cpu).unwrap();
            let shipped: Vec<&str> = text.split_once(variable).unwrap().1.split('"').nth(1).unwrap().split_whitespace().collect();
            assert_eq!(shipped, detected, "{}", name.display());
            assert_eq!(check(&text, &format!("flags : {flags}\n")), Ok(Vec::new()), "{}", name.display());
            seen += 1;
        }
        assert!(seen >= 15, "{seen}");
    }
}
