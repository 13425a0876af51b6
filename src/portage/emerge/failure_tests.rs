use super::*;

fn failure_of(output: &str, log: Option<&str>) -> Failure {
    let mut evidence = Evidence::new();
    for line in output.lines() {
        evidence.line(line.as_bytes());
    }
    evidence.into_failure(|_| log.map(|text| text.as_bytes().to_vec()))
}

/// Each real transcript, what it must be understood as, and in which words.
#[test]
fn real_transcripts() {
    use FailureKind::{BinpkgUnusable, BuildFailed, FetchFailed, ManifestMismatch, OutOfSpace, RequiredUse, Unsatisfied};
    let cases = [
        (include_str!("transcripts/build-failed.txt"), BuildFailed, "`app-misc/broken-1.0` failed in its compile phase"),
        (include_str!("transcripts/fetch-failed.txt"), FetchFailed, "cannot fetch `tree-2.1.0.tar.gz` for `app-text/tree-2.1.0`"),
        (include_str!("transcripts/wrong-distfile.txt"), ManifestMismatch, "`tree-2.1.0.tar.gz` does not match its Manifest"),
        (include_str!("transcripts/no-space.txt"), OutOfSpace, "no space left during the build of `app-arch/lz4-1.9.4`"),
        (
            include_str!("transcripts/binpkg-refused.txt"),
            BinpkgUnusable,
            "the binary package `/var/cache/binpkgs/app-misc/oddfiles/oddfiles-1.0-1.gpkg.tar` cannot be installed",
        ),
        (include_str!("transcripts/no-such-package.txt"), Unsatisfied, "nothing visible satisfies `app-misc/none-at-all`"),
        (
            include_str!("transcripts/keyword-change.txt"),
            Unsatisfied,
            "the configuration has to change first: `package.accept_keywords`",
        ),
        (include_str!("transcripts/use-change.txt"), Unsatisfied, "the configuration has to change first: `package.use`"),
        (include_str!("transcripts/required-use.txt"), RequiredUse, "USE flags of `app-misc/greeter` contradict its REQUIRED_USE"),
    ];
    for (output, kind, words) in cases {
        let failure = failure_of(output, None);
        assert_eq!((failure.kind, failure.to_string().as_str()), (kind, words));
    }
}

#[test]
fn a_real_failure_shows_the_compiler_and_names_its_log() {
    let failure = failure_of(include_str!("transcripts/build-failed.txt"), None);
    assert_eq!(failure.build_log.as_deref(), Some(Path::new("/var/log/portage/app-misc:broken-1.0:20261122-090852.log")));
    assert!(failure.last_lines.iter().any(|line| line.starts_with("broken.c:5:24: error:")), "{:#?}", failure.last_lines);
    assert_eq!(failure.last_lines.last().map(String::as_str), Some(" *   emake failed"));
    assert!(failure.last_lines.len() <= LAST_LINES && !failure.last_lines.iter().any(|line| line.starts_with(">>> Jobs:")));
}

#[test]
fn a_real_proposal() {
    let failure = failure_of(include_str!("transcripts/use-change.txt"), None);
    assert_eq!(failure.proposals.len(), 1);
    assert_eq!(failure.proposals[0].lines.last().map(String::as_str), Some(">=dev-libs/greet-1.0 static-libs"));
    assert!(!failure.explanation.iter().any(|line| line.contains("autounmask-write") || line.contains("experimental")));
    let log = failure_of(include_str!("transcripts/wrong-distfile.txt"), None).build_log;
    assert!(log.is_some(), "named although a count stands between the two lines that name it");
}

#[test]
fn what_the_sandbox_denies_is_named_with_package_phase_and_path() {
    let output = "\
>>> Emerging (1 of 1) app-misc/curious-1::testbed
>>> Failed to emerge app-misc/curious-1, Log file:
>>>  '/var/log/portage/app-misc:curious-1:20261122-090000.log'
";
    // The phase itself succeeded, and nothing dies.
    let summary = "\
>>> Unpacking source...
>>> Compiling source in /var/tmp/portage/app-misc/curious-1/work ...
>>> Source compiled.
>>> Install app-misc/curious-1 into /var/tmp/portage/app-misc/curious-1/image
>>> Completed installing app-misc/curious-1 into /var/tmp/portage/app-misc/curious-1/image

 * --------------------------- ACCESS VIOLATION SUMMARY ---------------------------
 * LOG FILE: \"/var/log/sandbox/sandbox-42.log\"
 *\x20
VERSION 1.0
FORMAT: F - Function called
FORMAT: S - Access Status
FORMAT: P - Path as passed to function
FORMAT: A - Absolute Path (not canonical)
FORMAT: R - Canonical Path
FORMAT: C - Command Line

F: mkdir
S: deny
P: ../../../.config
A: /var/../root/.config
R: /root/.con\x1b[1mfig
C: tool --quiet

F: open_wr
S: deny
P: /etc/other
A: /etc/other
R: /etc/other
C: touch /etc/other
 * --------------------------------------------------------------------------------
";
    let failure = failure_of(output, Some(summary));
    let words = "the sandbox denied `app-misc/curious-1` access to `/root/.config` in its install phase";
    assert_eq!((failure.kind, failure.to_string().as_str()), (FailureKind::SandboxViolation, words));
    assert!(failure.last_lines.iter().any(|line| line == "C: tool --quiet"), "{:#?}", failure.last_lines);

    // The program that was denied fails, and the phase with it.
    let died = "\
>>> Configuring source in /var/tmp/portage/app-misc/curious-1/work ...
>>> Compiling source in /var/tmp/portage/app-misc/curious-1/work ...
 \x1b[31;01m*\x1b[0m ACCESS DENIED:  symlink:      /usr/bin/tool
ln: failed to create symbolic link
 * ERROR: app-misc/curious-1::testbed failed (compile phase):
 *   emake failed
";
    let failure = failure_of(output, Some(died));
    assert_eq!(failure.to_string(), "the sandbox denied `app-misc/curious-1` access to `/usr/bin/tool` in its compile phase");
    // Without the log, the output tells.
    let failure = failure_of(&format!("{died}{output}"), None);
    assert_eq!(failure.kind, FailureKind::SandboxViolation, "{failure:?}");
    // What only looks like a part of it.
    let other = "P: x\nR: /etc/x\nC: x\n * ERROR: app-misc/curious-1::testbed failed (compile phase):\n";
    assert_eq!(failure_of(output, Some(other)).kind, FailureKind::BuildFailed);
    assert_eq!(failure_of(&format!("{died}No space left on device\n"), None).kind, FailureKind::OutOfSpace);
}

const BROKEN: &str = "\
>>> Verifying ebuild manifests
>>> Emerging (1 of 1) app-misc/broken-1::testbed
>>> Failed to emerge app-misc/broken-1, Log file:
>>>  '/var/log/portage/app-misc:broken-1:20261122-090000.log'
>>> Jobs: 0 of 1 complete, 1 failed                 Load avg: 0.1, 0.1, 0.1
";

#[test]
fn a_build_that_failed() {
    let log = "\
>>> Compiling source in /var/tmp/portage/app-misc/broken-1/work/broken-1 ...
cc -O2 -c broken.c
\x1b[1mbroken.c:1:2: \x1b[31merror:\x1b[0m no luck
make: *** [Makefile:2: broken.o] Error 1
 \x1b[31;01m*\x1b[0m ERROR: app-misc/broken-1::testbed failed (compile phase):
 * \x20\x20emake failed
 * \x20
 * Call stack:
 * \x20\x20\x20\x20ebuild.sh, line  136:  Called src_compile
 * The complete build log is located at '/var/log/portage/app-misc:broken-1:20261122-090000.log'.
";
    let failure = failure_of(BROKEN, Some(log));
    assert_eq!(failure.kind, FailureKind::BuildFailed);
    assert_eq!(failure.package.as_deref(), Some("app-misc/broken-1"));
    assert_eq!(failure.build_log.as_deref(), Some(Path::new("/var/log/portage/app-misc:broken-1:20261122-090000.log")));
    assert_eq!(failure.last_lines[2], "broken.c:1:2: error: no luck");
    assert_eq!(failure.last_lines.last().map(String::as_str), Some(" *   emake failed"));

    // What emerge shows of the log does when the log itself cannot be read.
    let shown = failure_of(&format!("{BROKEN}{log}"), None);
    assert_eq!(shown.phase.as_deref(), Some("compile"));
    assert_eq!(shown.to_string(), "`app-misc/broken-1` failed in its compile phase");
    assert_eq!(shown.last_lines.last().map(String::as_str), Some(" *   emake failed"));
    assert!(shown.last_lines.contains(&"broken.c:1:2: error: no luck".to_owned()));
}

#[test]
fn only_the_last_lines_are_kept() {
    let log = (0..100).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\n");
    let failure = failure_of(BROKEN, Some(&log));
    assert_eq!(failure.last_lines.len(), LAST_LINES);
    assert_eq!(failure.last_lines[0], "line 70");
}

#[test]
fn kinds_and_their_words() {
    use FailureKind::{
        BuildFailed, CircularDependencies, Conflict, FetchFailed, ManifestMismatch, Other, OutOfSpace, RequiredUse, Unsatisfied,
    };
    let merging = ">>> Emerging (1 of 1) a/b-1::x\n";
    let cases = [
        (format!("{merging} * ERROR: a/b-1::x failed (test phase):\n"), BuildFailed, "`a/b-1` failed in its test phase"),
        (format!("{merging}>>> Failed to install a/b-1, Log file:\n"), BuildFailed, "`a/b-1` failed"),
        (format!("{merging}!!! Couldn't download 'b-1.tar.gz'. Aborting.\n * Fetch failed for 'a/b-1', Log file:\n"), FetchFailed, "cannot fetch `b-1.tar.gz` for `a/b-1`"),
        (format!("{merging} * Fetch failed for 'a/b-1'\n"), FetchFailed, "cannot fetch the sources of `a/b-1`"),
        (
            format!("{merging}!!! Fetched file: b-1.tar.gz VERIFY FAILED!\n!!! Reason: Filesize does not match recorded size\n!!! Couldn't download 'b-1.tar.gz'. Aborting.\n * Fetch failed for 'a/b-1'\n"),
            ManifestMismatch,
            "`b-1.tar.gz` does not match its Manifest",
        ),
        (
            "\n!!! Digest verification failed:\n!!! /var/db/repos/t/a/b/b-1.ebuild\n!!! Reason: Filesize does not match recorded size\n".to_owned(),
            ManifestMismatch,
            "`/var/db/repos/t/a/b/b-1.ebuild` does not match its Manifest",
        ),
        (
            format!("{merging}cc1: error: write: No space left on device\n * ERROR: a/b-1::x failed (compile phase):\n"),
            OutOfSpace,
            "no space left during the build of `a/b-1`",
        ),
        ("emerge: there are no ebuilds to satisfy \"a/none\".\n".to_owned(), Unsatisfied, "nothing visible satisfies `a/none`"),
        ("!!! All ebuilds that could satisfy \">=a/b-2\" have been masked.\n".to_owned(), Unsatisfied, "nothing visible satisfies `>=a/b-2`"),
        (
            "!!! The ebuild selected to satisfy \"a/b\" has unmet requirements.\n- a/b-1::x USE=\"x y\"\n\n  The following REQUIRED_USE flag constraints are unsatisfied:\n    exactly-one-of ( x y )\n".to_owned(),
            RequiredUse,
            "USE flags of `a/b` contradict its REQUIRED_USE",
        ),
        (
            " * Error: The above package list contains packages which cannot be\n * installed at the same time on the same system.\n".to_owned(),
            Conflict,
            "some packages cannot be installed together",
        ),
        (
            "!!! Multiple package instances within a single package slot have been pulled\n!!! into the dependency graph, resulting in a slot conflict:\n".to_owned(),
            Conflict,
            "some packages cannot be installed together",
        ),
        (" * Error: circular dependencies:\n".to_owned(), CircularDependencies, "some packages need each other to be built first"),
        ("something new\n".to_owned(), Other, "emerge failed"),
    ];
    for (output, kind, words) in cases {
        let failure = failure_of(&output, None);
        assert_eq!((failure.kind, failure.to_string().as_str()), (kind, words), "{output}");
    }
}

#[test]
fn proposals_are_typed_and_explained() {
    let output = "\
These are the packages that would be merged, in order:

[ebuild  N     ] app-misc/needs-1::testbed

The following keyword changes are necessary to proceed:
 (see \"package.accept_keywords\" in the portage(5) man page for more details)
# required by app-misc/needs (argument)
=app-misc/needs-1 ~amd64

The following USE changes are necessary to proceed:
 (see \"package.use\" in the portage(5) man page for more details)
# required by app-misc/needs-1::testbed
# required by app-misc/needs (argument)
>=dev-libs/libx-1.0 extra

Use --autounmask-write to write changes to config files (honoring
CONFIG_PROTECT).
";
    let failure = failure_of(output, None);
    assert_eq!(failure.kind, FailureKind::Unsatisfied);
    let proposal =
        |file: &str, lines: &[&str]| Proposal { file: file.to_owned(), lines: lines.iter().map(|l| (*l).to_owned()).collect() };
    assert_eq!(
        failure.proposals,
        [
            proposal("package.accept_keywords", &["# required by app-misc/needs (argument)", "=app-misc/needs-1 ~amd64"]),
            proposal(
                "package.use",
                &[
                    "# required by app-misc/needs-1::testbed",
                    "# required by app-misc/needs (argument)",
                    ">=dev-libs/libx-1.0 extra"
                ]
            ),
        ]
    );
    assert_eq!(failure.explanation[0], "The following keyword changes are necessary to proceed:");
    assert!(!failure.explanation.iter().any(|line| line.starts_with("Use --autounmask-write")));
}

#[test]
fn what_was_said_before_merging_explains_no_later_failure() {
    let output = format!("!!! Multiple package instances within a single package slot have been pulled\n{BROKEN}");
    let failure = failure_of(&output, None);
    assert_eq!(failure.kind, FailureKind::BuildFailed);
    assert!(failure.explanation.is_empty());
}

#[test]
fn hostile_output_stays_small_and_plain() {
    let mut evidence = Evidence::new();
    for n in 0..10_000 {
        evidence.line(b"The following USE changes are necessary to proceed:");
        evidence.line(format!("\x1b]0;{n}\x07{}", "y".repeat(10_000)).as_bytes());
    }
    let failure = evidence.into_failure(|_| None);
    let size: usize = failure.explanation.iter().chain(&failure.last_lines).map(String::len).sum();
    assert!(size < 1 << 20, "{size} bytes kept");
    assert!(failure.last_lines.iter().all(|line| !line.contains('\x1b')));
}

/// As Portage 3.0.83 says it, of packages from a binary package host.
#[test]
fn a_package_that_cannot_be_verified_is_told_from_one_that_cannot_be_installed() {
    let unsigned = "\
 * Binary package is not usable (verification failed):
 *  Summary:
 * \tbinpkg appears unsigned (missing any signature)
 *  Raw GnuPG output:
 * \t[GNUPG:] NODATA 1
>>> Failed to emerge app-misc/greeter-1.0, Log file:
!!! Error extracting '/var/cache/binhost/own/app-misc/greeter/greeter-1.0-1.gpkg.tar', GnuPG verification failed
";
    let tampered = "\
 * \t[GNUPG:] BADSIG 9FD44A5F442A4D9E Shared <shared@example.org>
 * \tgpg: BAD signature from \"Shared <shared@example.org>\" [ultimate]
!!! Error extracting '/var/cache/binhost/own/app-misc/greeter/greeter-1.0-1.gpkg.tar', GnuPG verification failed
";
    let unknown = "\
 * \tbinpkg signed with at least one unknown key.
!!! Error extracting '/var/cache/binhost/own/a/b/b-1-1.gpkg.tar', GnuPG verification failed
";
    let digest = "!!! Error extracting '/var/cache/binhost/own/a/b/b-1-1.gpkg.tar', b/image.tar checksum mismatched in x\n";
    let zeros = "!!! Error extracting '/var/cache/binhost/own/a/b/b-1-1.gpkg.tar', Unsupported binary package format from 'x'\n";
    let odd = "!!! Error extracting '/var/cache/binhost/own/a/b/b-1-1.gpkg.tar', Unsupported file type\n";
    let ours = "!!! Error extracting '/var/cache/binpkgs/a/b/b-1-1.gpkg.tar', GnuPG verification failed\n";
    for (output, distrust) in [
        (unsigned, Some(Distrust::Unsigned)),
        (tampered, Some(Distrust::Changed)),
        (unknown, Some(Distrust::UnknownKey)),
        (digest, Some(Distrust::Unverified)),
        (zeros, Some(Distrust::Unverified)),
        (odd, None),
        (ours, None),
    ] {
        let failure = failure_of(output, None);
        assert_eq!((failure.kind, failure.distrust), (FailureKind::BinpkgUnusable, distrust), "{output}");
    }
    let fetched = failure_of(
        "!!! Digest verification failed:\n!!! /var/cache/binhost/own/a/b/b-1-1.gpkg.tar.partial\n!!! Reason: Failed on SHA1 verification\n",
        None,
    );
    assert_eq!((fetched.kind, fetched.distrust), (FailureKind::ManifestMismatch, Some(Distrust::Damaged)));
}
