//! Machines as recorded: the registers that CPUID gave, or the hardware capabilities of ARM, are turned into the kernel's names, and must
//! give what cpuid2cpuflags prints for the same machine (its own tests have these records).

use super::*;

/// `(leaf and subleaf, register, bit, name)`: where the kernel takes its names from (`arch/x86/include/asm/cpufeatures.h`).
const CPUID: [(&str, usize, u32, &str); 51] = [
    ("1", 2, 0, "pni"),
    ("1", 2, 1, "pclmulqdq"),
    ("1", 2, 9, "ssse3"),
    ("1", 2, 12, "fma"),
    ("1", 2, 13, "cx16"),
    ("1", 2, 19, "sse4_1"),
    ("1", 2, 20, "sse4_2"),
    ("1", 2, 22, "movbe"),
    ("1", 2, 23, "popcnt"),
    ("1", 2, 25, "aes"),
    ("1", 2, 28, "avx"),
    ("1", 2, 29, "f16c"),
    ("1", 2, 30, "rdrand"),
    ("1", 3, 23, "mmx"),
    ("1", 3, 25, "sse"),
    ("1", 3, 26, "sse2"),
    ("7.0", 1, 3, "bmi1"),
    ("7.0", 1, 5, "avx2"),
    ("7.0", 1, 8, "bmi2"),
    ("7.0", 1, 16, "avx512f"),
    ("7.0", 1, 17, "avx512dq"),
    ("7.0", 1, 21, "avx512ifma"),
    ("7.0", 1, 26, "avx512pf"),
    ("7.0", 1, 27, "avx512er"),
    ("7.0", 1, 28, "avx512cd"),
    ("7.0", 1, 29, "sha_ni"),
    ("7.0", 1, 30, "avx512bw"),
    ("7.0", 1, 31, "avx512vl"),
    ("7.0", 2, 1, "avx512vbmi"),
    ("7.0", 2, 6, "avx512_vbmi2"),
    ("7.0", 2, 8, "gfni"),
    ("7.0", 2, 9, "vaes"),
    ("7.0", 2, 10, "vpclmulqdq"),
    ("7.0", 2, 11, "avx512_vnni"),
    ("7.0", 2, 12, "avx512_bitalg"),
    ("7.0", 2, 14, "avx512_vpopcntdq"),
    ("7.0", 3, 2, "avx512_4vnniw"),
    ("7.0", 3, 3, "avx512_4fmaps"),
    ("7.0", 3, 8, "avx512_vp2intersect"),
    ("7.0", 3, 23, "avx512_fp16"),
    ("7.1", 0, 4, "avx_vnni"),
    ("7.1", 0, 5, "avx512_bf16"),
    ("80000001", 2, 5, "abm"),
    ("80000001", 2, 6, "sse4a"),
    ("80000001", 2, 11, "xop"),
    ("80000001", 2, 16, "fma4"),
    ("80000001", 3, 22, "mmxext"),
    ("80000001", 3, 29, "lm"),
    ("80000001", 3, 30, "3dnowext"),
    ("80000001", 3, 31, "3dnow"),
    ("c0000001", 3, 10, "phe"),
];

/// Names of `AT_HWCAP`'s bits, from bit 0 (`arch/arm64/include/uapi/asm/hwcap.h`).
const HWCAP: &str = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 sm3 sm4 \
                     asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm";

/// Records: `leaf eax ebx ecx edx`, hexadecimal, of each leaf that the processor has.
const X86_MACHINES: [(&str, &[&str], &str); 7] = [
    (
        "AMD Athlon 64 X2 (Windsor)",
        &["1 00040fb2 01020800 00002001 178bfbff", "80000001 00040fb2 0000090d 0000001f ebd3fbff"],
        "3dnow 3dnowext mmx mmxext sse sse2 sse3",
    ),
    (
        "AMD Opteron 6272 (Bulldozer)",
        &[
            "1 00600f12 06100800 1e98220b 178bfbff",
            "7.0 00000000 00000000 00000000 00000000",
            "80000001 00600f12 30000000 01c9bfff 2fd3fbff",
        ],
        "aes avx fma4 mmx mmxext pclmul popcnt sse sse2 sse3 sse4_1 sse4_2 sse4a ssse3 xop",
    ),
    (
        "AMD Threadripper 2000 (Colfax)",
        &[
            "1 00800f82 0b400800 7ed8320b 178bfbff",
            "7.0 00000000 209c01a9 00000000 00000000",
            "80000001 00800f82 70000000 35c233ff 2fd3fbff",
        ],
        "aes avx avx2 bmi1 bmi2 f16c fma3 mmx mmxext pclmul popcnt rdrand sha sse sse2 sse3 sse4_1 sse4_2 sse4a ssse3",
    ),
    (
        "AMD Ryzen 7 PRO 7840U (Zen 4)",
        &[
            "1 00a70f41 06100800 7ef8320b 178bfbff",
            "7.0 00000001 f1bf97a9 00405fde 10000000",
            "7.1 00000020 00000000 00000000 00000000",
            "80000001 00a70f41 40000000 75c237ff 2fd3fbff",
        ],
        "aes avx avx2 avx512_bf16 avx512_bitalg avx512_vbmi2 avx512_vnni avx512_vpopcntdq avx512bw avx512cd avx512dq avx512f avx512ifma \
         avx512vbmi avx512vl bmi1 bmi2 f16c fma3 mmx mmxext pclmul popcnt rdrand sha sse sse2 sse3 sse4_1 sse4_2 sse4a ssse3 vpclmulqdq",
    ),
    (
        "Intel Core i5 (Ivy Bridge)",
        &[
            "1 000306a9 01100800 3dbae3bf bfebfbff",
            "7.0 00000000 00000281 00000000 00000000",
            "80000001 00000000 00000000 00000001 28100800",
        ],
        "avx f16c mmx mmxext pclmul popcnt sse sse2 sse3 sse4_1 sse4_2 ssse3",
    ),
    (
        // The recorded list is of a version that did not know `bmi1`, `bmi2` and `avx_vnni` yet.
        "Intel Xeon Platinum 8480+ (Sapphire Rapids)",
        &[
            "1 000806f8 8b800800 7ffefbff bfebfbff",
            "7.0 00000002 f3bfb7ef fb417ffe ffdd4432",
            "7.1 00001c30 00000000 00000000 00040000",
            "80000001 00000000 00000000 00000121 2c100800",
        ],
        "aes avx avx2 avx512_bf16 avx512_bitalg avx512_fp16 avx512_vbmi2 avx512_vnni avx512_vpopcntdq avx512bw avx512cd avx512dq avx512f \
         avx512ifma avx512vbmi avx512vl avx_vnni bmi1 bmi2 f16c fma3 mmx mmxext pclmul popcnt rdrand sha sse sse2 sse3 sse4_1 sse4_2 ssse3 \
         vpclmulqdq",
    ),
    (
        "VIA, of which only the random generator's leaf counts",
        &["1 0 0 1 06800000", "c0000001 0 0 0 00000400"],
        "mmx mmxext padlock sse sse2 sse3",
    ),
];

fn of_registers(records: &[&str]) -> CpuInfo {
    let mut cpu = CpuInfo::default();
    for record in records {
        let words: Vec<&str> = record.split(' ').collect();
        let registers: Vec<u32> = words[1..].iter().map(|word| u32::from_str_radix(word, 16).unwrap()).collect();
        let here = CPUID.iter().filter(|(leaf, ..)| *leaf == words[0]);
        cpu.flags
            .extend(here.filter(|(_, register, bit, _)| registers[*register] >> bit & 1 == 1).map(|(.., name)| (*name).to_owned()));
    }
    cpu
}

#[test]
fn intel_amd_and_via_as_cpuid2cpuflags_prints_them() {
    for (machine, records, expected) in X86_MACHINES {
        let (variable, flags) = detect("amd64", &of_registers(records)).unwrap();
        assert_eq!((variable, flags.join(" ").as_str()), ("CPU_FLAGS_X86", expected), "{machine}");
    }
}

#[test]
fn arm64_as_cpuid2cpuflags_prints_them() {
    let always = "edsp neon neon-fp16 thumb vfp vfpv3 vfpv4 vfp-d32";
    for (machine, hwcap, expected) in [
        ("AWS A1", 0x8ff, "aes sha1 sha2 crc32 asimd"),
        ("Raspberry Pi 4", 0x887, "crc32 asimd"),
        ("ThunderX2", 0x19ff, "aes sha1 sha2 crc32 asimd"),
        ("Neoverse N1", 0x1011_9fff_u32, "aes sha1 sha2 crc32 asimd asimddp asimdhp"),
    ] {
        let names = HWCAP.split_whitespace().enumerate().filter(|(bit, _)| hwcap >> bit & 1 == 1).map(|(_, name)| name);
        let text = format!("Features : {}\n", names.collect::<Vec<_>>().join(" "));
        let (variable, flags) = detect("arm64", &CpuInfo::parse(&text)).unwrap();
        assert_eq!(variable, "CPU_FLAGS_ARM");
        assert_eq!(flags.join(" "), format!("{always} {expected} v4 v5 v6 v7 v8 thumb2"), "{machine}");
    }
}

/// This very text was read on a virtual machine, where CPUID says `phe`'s leaf is absent and the rest as listed.
const EPYC: &str = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\nflags\t\t: fpu vme de pse tsc msr pae mce cx8 apic sep \
    mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ht syscall nx mmxext fxsr_opt pdpe1gb rdtscp lm constant_tsc rep_good nopl \
    xtopology nonstop_tsc cpuid extd_apicid tsc_known_freq pni pclmulqdq ssse3 fma cx16 pcid sse4_1 sse4_2 x2apic movbe popcnt \
    tsc_deadline_timer aes xsave avx f16c rdrand hypervisor lahf_lm cmp_legacy cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw topoext \
    vmmcall fsgsbase tsc_adjust bmi1 avx2 smep bmi2 erms invpcid avx512f avx512dq rdseed adx smap avx512ifma clflushopt clwb avx512cd sha_ni \
    avx512bw avx512vl xsaveopt xsavec xgetbv1 xsaves avx512_bf16 clzero xsaveerptr arat avx512vbmi umip avx512_vbmi2 gfni vaes vpclmulqdq \
    avx512_vnni avx512_bitalg avx512_vpopcntdq rdpid fsrm\nbugs\t\t: sysret_ss_attrs null_seg\n\nprocessor\t: 1\n";

#[test]
fn a_whole_cpuinfo_gives_what_its_registers_give() {
    let cpu = CpuInfo::parse(EPYC);
    assert_eq!(cpu.model, "AMD EPYC");
    let registers = of_registers(&[
        "1 00a10f11 00020800 fffa3203 178bfbff",
        "7.0 00000001 f1bf07ab 00405fc6 00000010",
        "7.1 00000020 00000000 00000000 00000000",
        "80000001 00a10f11 40000000 004003f3 2fd3fbff",
    ]);
    assert_eq!(detect("amd64", &cpu), detect("amd64", &registers));
    assert_eq!(detect("amd64", &cpu).unwrap().1.len(), 33);
}

#[test]
fn what_the_kernel_has_switched_off_is_not_used() {
    // As with the mitigation of Gather Data Sampling, or `clearcpuid=avx`.
    let off = EPYC.replace(" avx ", " ").replace(" avx2 ", " ");
    let flags = detect("amd64", &CpuInfo::parse(&off)).unwrap().1;
    assert!(!flags.contains(&"avx") && !flags.contains(&"avx2") && flags.contains(&"aes"), "{flags:?}");
}

#[test]
fn nothing_is_said_about_other_machines() {
    assert_eq!(detect("riscv", &CpuInfo::parse("isa : rv64imafdc\n")), None);
    assert_eq!(detect("amd64", &CpuInfo::default()), None, "no /proc");
    assert_eq!(detect("arm64", &CpuInfo::default()), None, "no /proc");
}

#[test]
fn flags_are_those_that_all_processors_share() {
    let info = CpuInfo::parse("processor : 0\nFeatures : fp asimd sve\n\nprocessor : 1\nFeatures : fp asimd\n");
    assert_eq!(info.flags.iter().map(String::as_str).collect::<Vec<_>>(), ["asimd", "fp"]);
}
