//! The CPU flags in `/proc/cpuinfo`, and the `CPU_FLAGS_X86` and `CPU_FLAGS_ARM` that follow from them.
//!
//! The result is what `cpuid2cpuflags` prints. That program reads CPUID, or the auxiliary vector's hardware capabilities on ARM. The
//! kernel's list comes from the same bits, but leaves out those that it has switched off (a mitigation, a boot option, a register file
//! that it does not save). An instruction behind such a bit kills the program, so we use the kernel's list. The names beside each flag
//! are the kernel's (`arch/x86/include/asm/cpufeatures.h`, `arch/arm64/kernel/cpuinfo.c`); the flags, and the names where the two differ,
//! are from `profiles/desc/cpu_flags_x86.desc` and `cpu_flags_arm.desc`.

use std::collections::BTreeSet;

/// The parts of `/proc/cpuinfo` that we use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CpuInfo {
    /// Name of the model, for messages.
    pub model: String,
    /// Flags that every processor of the machine has.
    pub flags: BTreeSet<String>,
}

impl CpuInfo {
    /// Reads the text of `/proc/cpuinfo`.
    pub(crate) fn parse(text: &str) -> Self {
        let mut info = Self::default();
        let mut first = true;
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            match key.trim() {
                "model name" | "Processor" if info.model.is_empty() => value.trim().clone_into(&mut info.model),
                // `flags` on x86, `Features` on arm64, one line for each processor. big.LITTLE cores may differ, so the intersection
                // counts.
                "flags" | "Features" => {
                    let flags: BTreeSet<String> = value.split_whitespace().map(str::to_owned).collect();
                    if first {
                        info.flags = flags;
                        first = false;
                    } else {
                        info.flags.retain(|flag| flags.contains(flag));
                    }
                }
                _ => {}
            }
        }
        info
    }

    /// Whether the processor has what `needed` names: a flag of the kernel's, or several with `|` between them, of which one is enough. A
    /// need of nothing is always met.
    pub(crate) fn has(&self, needed: &str) -> bool {
        needed.is_empty() || needed.split('|').any(|flag| self.flags.contains(flag))
    }
}

/// Members of `CPU_FLAGS_X86` in the order in which cpuid2cpuflags 16 prints them, and what the kernel calls them.
const X86: [(&str, &str); 45] = [
    ("3dnow", "3dnow"),
    ("3dnowext", "3dnowext"),
    ("aes", "aes"),
    ("avx", "avx"),
    ("avx2", "avx2"),
    ("avx512_4fmaps", "avx512_4fmaps"),
    ("avx512_4vnniw", "avx512_4vnniw"),
    ("avx512_bf16", "avx512_bf16"),
    ("avx512_bitalg", "avx512_bitalg"),
    ("avx512_fp16", "avx512_fp16"),
    ("avx512_vbmi2", "avx512_vbmi2"),
    ("avx512_vnni", "avx512_vnni"),
    ("avx512_vp2intersect", "avx512_vp2intersect"),
    ("avx512_vpopcntdq", "avx512_vpopcntdq"),
    ("avx512bw", "avx512bw"),
    ("avx512cd", "avx512cd"),
    ("avx512dq", "avx512dq"),
    ("avx512er", "avx512er"),
    ("avx512f", "avx512f"),
    ("avx512ifma", "avx512ifma"),
    ("avx512pf", "avx512pf"),
    ("avx512vbmi", "avx512vbmi"),
    ("avx512vl", "avx512vl"),
    ("avx_vnni", "avx_vnni"),
    ("bmi1", "bmi1"),
    ("bmi2", "bmi2"),
    ("f16c", "f16c"),
    ("fma3", "fma"),
    ("fma4", "fma4"),
    ("mmx", "mmx"),
    // AMD's extension of MMX; SSE includes it.
    ("mmxext", "mmxext|sse"),
    ("padlock", "phe"),
    ("pclmul", "pclmulqdq"),
    ("popcnt", "abm|popcnt"),
    ("rdrand", "rdrand"),
    ("sha", "sha_ni"),
    ("sse", "sse"),
    ("sse2", "sse2"),
    ("sse3", "pni"),
    ("sse4_1", "sse4_1"),
    ("sse4_2", "sse4_2"),
    ("sse4a", "sse4a"),
    ("ssse3", "ssse3"),
    ("vpclmulqdq", "vpclmulqdq"),
    ("xop", "xop"),
];

/// Members of `CPU_FLAGS_ARM` in the order of cpuid2cpuflags, and the kernel's names on arm64, where an empty one is always there.
const ARM64: [(&str, &str); 27] = [
    ("edsp", ""),
    ("neon", "asimd|neon"),
    ("neon-fp16", ""),
    ("thumb", ""),
    ("vfp", ""),
    ("vfpv3", ""),
    ("vfpv4", ""),
    ("vfp-d32", ""),
    ("aes", "aes"),
    ("sha1", "sha1"),
    ("sha2", "sha2"),
    ("crc32", "crc32"),
    ("sm4", "sm4"),
    ("asimd", "asimd"),
    ("asimddp", "asimddp"),
    ("asimdfhm", "asimdfhm"),
    ("asimdhp", "asimdhp"),
    ("bf16", "bf16"),
    ("i8mm", "i8mm"),
    ("sve", "sve"),
    ("sve2", "sve2"),
    ("v4", ""),
    ("v5", ""),
    ("v6", ""),
    ("v7", ""),
    ("v8", ""),
    ("thumb2", ""),
];

/// What the kernel must name for a member of `CPU_FLAGS_X86` to be usable, as [`CpuInfo::has`] takes it; `None` for one that is not known.
pub(crate) fn x86_needs(flag: &str) -> Option<&'static str> {
    needs(&X86, flag)
}

/// The same for `CPU_FLAGS_ARM` on arm64.
pub(crate) fn arm64_needs(flag: &str) -> Option<&'static str> {
    needs(&ARM64, flag)
}

fn needs(table: &[(&str, &'static str)], flag: &str) -> Option<&'static str> {
    table.iter().find(|(name, _)| *name == flag).map(|(_, needed)| *needed)
}

/// Variable and values that Gentoo has for the processor of a machine of this architecture (Gentoo's keyword), as `cpuid2cpuflags` prints
/// them; `None` for an architecture without such a variable, or one that `/proc/cpuinfo` has nothing about.
pub(crate) fn detect(arch: &str, cpu: &CpuInfo) -> Option<(&'static str, Vec<&'static str>)> {
    let (variable, table) = match arch {
        "amd64" | "x86" => ("CPU_FLAGS_X86", &X86[..]),
        "arm64" => ("CPU_FLAGS_ARM", &ARM64[..]),
        _ => return None,
    };
    let flags: Vec<&str> = table.iter().filter(|(_, needed)| cpu.has(needed)).map(|(flag, _)| *flag).collect();
    (!cpu.flags.is_empty() && !flags.is_empty()).then_some((variable, flags))
}

#[cfg(test)]
#[path = "cpu_flags_tests.rs"]
mod tests;
