//! Directories made in temporary places, for machines described by their `/proc`.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::config::{ConfigDir, cpu};
use crate::cpu_flags::CpuInfo;

const HASWELL: &str = "model name : Intel(R) Core(TM) i7-4770\nflags : fpu cx8 cmov mmx fxsr sse sse2 lm pni pclmulqdq ssse3 fma cx16 sse4_1 \
    sse4_2 movbe popcnt aes avx f16c rdrand lahf_lm abm bmi1 avx2 bmi2\n";
const PI: &str = "processor : 0\nFeatures : fp asimd evtstrm crc32 cpuid\n";
const EIGHT_GIB: &str = "MemTotal:        8005284 kB\nMemFree: 1 kB\n";

fn haswell() -> Machine {
    Machine::of("amd64", HASWELL, EIGHT_GIB, 8)
}

fn statuses(done: &Initialised, status: Status) -> Vec<String> {
    done.items.iter().filter(|item| item.status == status).map(|item| item.path.display().to_string()).collect()
}

fn tree(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.push((path.clone(), fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn the_whole_directory_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("a/config");
    let done = init(&config, &haswell(), &Choices::default()).unwrap();
    assert_eq!(statuses(&done, Status::Written).len(), done.items.len());
    for (path, executable, contents) in SHIPPED {
        if *path != "stage4.defines/hello/packages" {
            assert_eq!(fs::read(config.join(path)).unwrap(), *contents, "{path}");
        }
        assert_eq!(fs::metadata(config.join(path)).unwrap().permissions().mode() & 0o100 != 0, *executable, "{path}");
    }
    assert!(SHIPPED.iter().any(|(path, ..)| *path == "README.md") && SHIPPED.len() > 20);
    assert_eq!(fs::read_to_string(config.join("env/arch")).unwrap(), "amd64\n");
    assert_eq!(fs::read_to_string(config.join("env/jobs")).unwrap(), "4\n");
    assert!(!config.join(STAGING).exists());
    let before = tree(&config);
    let again = init(&config, &haswell(), &Choices::default()).unwrap();
    assert_eq!(statuses(&again, Status::Same).len(), done.items.len());
    assert_eq!(tree(&config), before);
}

#[test]
fn it_is_in_order_and_this_machine_can_run_what_it_asks_for() {
    // The very machine of this test as well, if it is of a kind that is detected.
    let here = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let here_arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    for (arch, cpuinfo) in [("amd64", HASWELL), ("arm64", PI), (here_arch, here.as_str())] {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), &Machine::of(arch, cpuinfo, EIGHT_GIB, 4), &Choices::default()).unwrap();
        for name in [THIS_HOST, "generic"] {
            if name == THIS_HOST {
                fs::write(dir.path().join("stage3.defines/plain/cpu"), format!("{THIS_HOST}\n")).unwrap();
            }
            let config = ConfigDir::open(dir.path()).unwrap();
            assert_eq!(config.env("none").unwrap().arch, arch);
            for stage3 in config.stage3_names() {
                let merged = config.portage_dir(&config.stage3(&stage3).unwrap()).unwrap();
                assert_eq!(cpu::host_can_run(&merged, &CpuInfo::parse(cpuinfo)), Ok(Vec::new()), "{arch} {stage3}");
            }
            let errors: Vec<String> = config.check(arch).iter().map(ToString::to_string).collect();
            assert_eq!(errors, [""; 0], "{arch} {name}");
        }
    }
}

#[test]
fn files_for_machines() {
    insta::assert_snapshot!(haswell().make_conf(), @r#"
    # The machine on which `gentoomuch init` ran: Intel(R) Core(TM) i7-4770.
    # The level of the x86-64 psABI; every GCC since 11 knows it. The compiler's name for this model may make programs a little faster.
    COMMON_FLAGS="-O2 -pipe -march=x86-64-v3"
    # As cpuid2cpuflags prints them.
    CPU_FLAGS_X86="aes avx avx2 bmi1 bmi2 f16c fma3 mmx mmxext pclmul popcnt rdrand sse sse2 sse3 sse4_1 sse4_2 ssse3"
    "#);
    insta::assert_snapshot!(Machine::of("arm64", PI, "", 4).make_conf(), @r#"
    # The machine on which `gentoomuch init` ran.
    COMMON_FLAGS="-O2 -pipe -march=armv8-a+crc"
    # As cpuid2cpuflags prints them.
    CPU_FLAGS_ARM="edsp neon neon-fp16 thumb vfp vfpv3 vfpv4 vfp-d32 crc32 asimd v4 v5 v6 v7 v8 thumb2"
    "#);
    let unknown = Machine::of("sparc64", "cpu : TI UltraSparc\n", "", 0);
    insta::assert_snapshot!(unknown.make_conf(), @r#"
    # The machine on which `gentoomuch init` ran.
    # The model of its processor is not known: add `-march=` to use its features.
    COMMON_FLAGS="-O2 -pipe"
    "#);
    assert!(!unknown.known_arch);
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), &unknown, &Choices::default()).unwrap();
    assert!(!dir.path().join("env/arch").exists());
    assert_eq!(fs::read_to_string(dir.path().join("env/jobs")).unwrap(), "1\n");
}

#[test]
fn memory_bounds_the_jobs() {
    for (kib, processors, jobs) in [(8_005_284, 8, 4), (8_005_284, 2, 2), (500_000, 4, 1), (0, 0, 1), (263_000_000, 64, 64)] {
        let machine = Machine::of("amd64", "", &format!("MemTotal: {kib} kB\n"), processors);
        assert_eq!(machine.jobs, jobs, "{kib} KiB, {processors} processors");
    }
    assert_eq!(Machine::of("amd64", "", "", 3).jobs, 3);
}

#[test]
fn what_is_there_stays_and_units_are_not_mixed() {
    let dir = tempfile::tempdir().unwrap();
    let mine = [
        ("README.md", "mine"),
        ("stage4.defines/hello/packages", "app-misc/mine\n"),
        ("portage.locals/gentoomuch/builder/package.use", "a/b c\n"),
        ("portage.global/package.use", "a/b c\n"),
    ];
    for (path, text) in mine {
        fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
        fs::write(dir.path().join(path), text).unwrap();
    }
    let done = init(dir.path(), &haswell(), &Choices::default()).unwrap();
    assert_eq!(
        statuses(&done, Status::Kept),
        ["README.md", "portage.global", "portage.locals/gentoomuch/builder", "stage4.defines/hello"]
    );
    for (path, text) in mine {
        assert_eq!(fs::read_to_string(dir.path().join(path)).unwrap(), text);
    }
    assert_eq!(fs::read_dir(dir.path().join("stage4.defines/hello")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(dir.path().join("portage.global")).unwrap().count(), 1);
    assert!(dir.path().join("portage.locals/container/make.conf").exists());
}

#[test]
fn a_killed_run_is_completed_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join(STAGING).join("3/portage")).unwrap();
    fs::write(dir.path().join(STAGING).join("3/portage/half"), "").unwrap();
    init(dir.path(), &haswell(), &Choices::default()).unwrap();
    assert!(!dir.path().join(STAGING).exists());
    fs::create_dir(dir.path().join(STAGING)).unwrap();
    init(dir.path(), &haswell(), &Choices::default()).unwrap();
    assert!(!dir.path().join(STAGING).exists(), "also when nothing is missing");
}

#[test]
fn places_where_it_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(
        init(&file, &haswell(), &Choices::default()).unwrap_err().to_string(),
        format!("`{}` is not a directory", file.display())
    );
    let below = file.join("below");
    assert_eq!(
        init(&below, &haswell(), &Choices::default()).unwrap_err().to_string(),
        format!("cannot examine `{}`", below.display())
    );
    // A file of the user's where a folder has to be.
    let odd = dir.path().join("odd");
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join("user.scripts"), "mine").unwrap();
    let error = init(&odd, &haswell(), &Choices::default()).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot examine `{}`", odd.join("user.scripts/build-info").display()));
    assert!(!odd.join(STAGING).exists() && fs::read_dir(&odd).unwrap().count() == 1, "nothing is half done");
    let error = init(Path::new("/proc/none/such"), &haswell(), &Choices::default()).unwrap_err();
    assert_eq!(error.to_string(), "cannot create `/proc/none/such`");
}

#[test]
fn what_is_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let signing_key = Some(SigningKey { fingerprint: "AB".repeat(20), uid: Some("A <a@b>".to_owned()) });
    let binhost = Choices::gentoo_host("amd64");
    let choices = Choices { profile: Some("lab".to_owned()), signing_key: signing_key.clone(), binhost: binhost.clone() };
    let done = init(dir.path(), &haswell(), &choices).unwrap();
    assert_eq!((done.profile.as_str(), &done.signing_key, &done.binhost), ("lab", &signing_key, &binhost));
    let config = ConfigDir::open(dir.path()).unwrap();
    for name in config.stage4_names() {
        let stage4 = config.stage4(&name).unwrap();
        assert_eq!(stage4.profile.value, "lab");
        let here: Vec<String> = stage4.packages.iter().map(|package| package.value.to_string()).collect();
        assert!(!here.iter().any(|package| package.starts_with("app-misc/greeter")), "{here:?} are in the Gentoo repository");
    }
    assert_eq!(config.env("none").unwrap().sign_key.unwrap().value, "AB".repeat(20));
    let builder = config.stage3("gentoomuch/builder").unwrap();
    assert!(builder.binary_packages.first_hosts.is_some());
    let hosts = &config.portage_dir(&builder).unwrap().files[Path::new("binrepos.conf/gentoobinhost.conf")];
    let address = "https://distfiles.gentoo.org/releases/amd64/binpackages/23.0/x86-64/";
    assert!(String::from_utf8_lossy(hosts).contains(&format!("[gentoobinhost]\nsync-uri = {address}\n")));
    assert_eq!(config.check("amd64").iter().map(ToString::to_string).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(Choices::gentoo_host("sparc64"), None);
}
