use super::*;

/// A change or a problem in a line.
fn told(output: &[u8]) -> Vec<String> {
    let resolution = Resolution::parse(output);
    let mut lines: Vec<String> = resolution.changes.iter().map(change).collect();
    lines.extend(resolution.problems.iter().map(problem));
    lines
}

fn change(change: &Change) -> String {
    let words = change.words.join(" ");
    let comments = if change.comments.is_empty() { String::new() } else { format!(" | {}", change.comments.join(" | ")) };
    format!("{:?} {} {words} <- {}{comments}", change.kind, change.atom, change.required_by.join(" <- "))
}

fn pulled(pulled: &Pulled) -> String {
    let by = pulled.by.iter().map(|(atom, by)| format!("{atom} of {}", by.as_deref().unwrap_or("the user")));
    format!("{}{} ({})", pulled.package, if pulled.installed { " installed" } else { "" }, by.collect::<Vec<_>>().join(", "))
}

fn problem(problem: &Problem) -> String {
    match problem {
        Problem::RequiredUse { wanted, package, flags, unsatisfied, expression, required_by } => {
            let flags = flags.iter().map(|(name, flag)| {
                let sign = if flag.on { "" } else { "-" };
                if flag.fixed { format!("({sign}{name})") } else { format!("{sign}{name}") }
            });
            let flags = flags.collect::<Vec<_>>().join(" ");
            format!(
                "required use of {package} for {wanted}: {unsatisfied} of {expression} with {flags} <- {}",
                required_by.join(" <- ")
            )
        }
        Problem::SlotConflict { slot, instances } => {
            format!("slot {slot}: {}", instances.iter().map(pulled).collect::<Vec<_>>().join("; "))
        }
        Problem::Blocked { blocks, instances } => {
            let blocks = blocks.iter().map(|(atom, by)| format!("{by} blocks {atom}")).collect::<Vec<_>>().join(", ");
            format!("{blocks}: {}", instances.iter().map(pulled).collect::<Vec<_>>().join("; "))
        }
        Problem::Circle { packages, ways_out } => format!("circle {} {ways_out:?}", packages.join(" -> ")),
        Problem::Unsatisfied { wanted, candidates, similar, required_by } => {
            format!("nothing for {wanted} {candidates:?} {similar:?} <- {}", required_by.join(" <- "))
        }
    }
}

/// Each real transcript, and what it says.
#[test]
fn real_transcripts() {
    let cases: [(&[u8], &[&str]); 16] = [
        (include_bytes!("transcripts/eula.txt"), &["License >=app-resolve/eula-1.0 testbed-EULA <- app-resolve/eula"]),
        (
            include_bytes!("transcripts/shunned.txt"),
            &[
                "Unmask =app-resolve/shunned-1.0  <- app-resolve/shunned | The gentoomuch authors <testbed@distfiles.example> (2026-11-22) | Masked to try what unmasking takes.",
            ],
        ),
        (
            include_bytes!("transcripts/several.txt"),
            &[
                "Keywords =app-misc/newcomer-0.1 ~amd64 <- app-misc/newcomer",
                "Use >=dev-libs/greet-1.0 static-libs <- app-misc/picky-1.0 <- app-misc/picky",
                "License >=app-resolve/eula-1.0 testbed-EULA <- app-resolve/eula",
            ],
        ),
        (
            include_bytes!("transcripts/needkw.txt"),
            &[
                "Keywords =app-resolve/link-1.0 ~amd64 <- app-resolve/link[left]",
                "Use >=app-resolve/link-1.0 left <- app-resolve/link[left]",
                "Use >=dev-libs/greet-1.0 static-libs <- app-misc/picky-1.0 <- app-resolve/link-1.0 <- app-resolve/link[left]",
                "License >=app-resolve/link-1.0 testbed-EULA <- app-resolve/link[left]",
            ],
        ),
        (
            include_bytes!("transcripts/chooser.txt"),
            &[
                "required use of app-resolve/chooser-1.0 for app-resolve/chooser: exactly-one-of ( readline editline ) at-most-one-of ( openssl gnutls ) web? ( any-of ( wsgi fastcgi ) ) of exactly-one-of ( readline editline ) at-most-one-of ( openssl gnutls ) web? ( any-of ( wsgi fastcgi ) ) with -editline -fastcgi gnutls openssl -readline web (-wsgi) <- ",
            ],
        ),
        (
            include_bytes!("transcripts/change-use.txt"),
            &[
                "Use >=app-misc/greeter-1.0 json <- app-misc/greeter[json]",
                "required use of app-misc/greeter-1.0 for app-misc/greeter[json]: json? ( !color ) of any-of ( ascii color ) json? ( !color ) with ascii color -hardened -json <- ",
            ],
        ),
        (
            include_bytes!("transcripts/link.txt"),
            &[
                "Keywords =app-resolve/link-1.0 ~amd64 <- app-resolve/link",
                "License >=app-resolve/link-1.0 testbed-EULA <- app-resolve/link",
                "required use of app-resolve/link-1.0 for app-resolve/link: any-of ( left right ) of any-of ( left right ) with -left -right <- ",
            ],
        ),
        (
            include_bytes!("transcripts/slot.txt"),
            &[
                "slot app-resolve/gear:0: app-resolve/gear-2.0 (>=app-resolve/gear-2 of app-resolve/newmill-1.0); app-resolve/gear-1.0 (<app-resolve/gear-2 of app-resolve/oldmill-1.0)",
            ],
        ),
        (
            include_bytes!("transcripts/subslot.txt"),
            &[
                "Keywords =dev-libs/greet-1.1 ~amd64 <- >=dev-libs/greet-1.1",
                "slot dev-libs/greet:0: dev-libs/greet-1.1 (>=dev-libs/greet-1.1 of the user); dev-libs/greet-1.0-1 installed (dev-libs/greet:0/1=[utf8] of app-misc/greeter-1.0-1)",
            ],
        ),
        (
            include_bytes!("transcripts/blocker.txt"),
            &[
                "app-resolve/loner-1.0 blocks app-resolve/shy: app-resolve/shy-1.0 (app-resolve/shy of the user); app-resolve/loner-1.0 (app-resolve/loner of the user)",
            ],
        ),
        (
            include_bytes!("transcripts/egg.txt"),
            &["circle app-resolve/hen-1.0 -> app-resolve/egg-1.0 [(\"app-resolve/hen-1.0\", [\"-docs\"])]"],
        ),
        (include_bytes!("transcripts/head.txt"), &["circle app-resolve/tail-1.0 -> app-resolve/head-1.0 []"]),
        (
            include_bytes!("transcripts/stubborn.txt"),
            &["nothing for app-resolve/chooser[wsgi] [] [] <- app-resolve/stubborn-1.0 <- app-resolve/stubborn"],
        ),
        (
            include_bytes!("transcripts/none.txt"),
            &["nothing for app-misc/none-at-all [] [\"app-misc/hello\", \"app-misc/broken\", \"app-misc/greeter\"] <- "],
        ),
        (
            include_bytes!("transcripts/missing-iuse.txt"),
            &["nothing for app-misc/hello[foo] [(\"app-misc/hello-2.10\", \"Missing IUSE: foo\")] [] <- "],
        ),
        (
            include_bytes!("transcripts/masked.txt"),
            &["nothing for app-resolve/shunned [(\"app-resolve/shunned-1.0\", \"masked by: package.mask\")] [] <- "],
        ),
    ];
    for (output, want) in cases {
        assert_eq!(told(output), want);
    }
    assert_eq!(told(include_bytes!("transcripts/badset.txt")), ["nothing for @nosuch [] [] <- "]);
}

#[test]
fn packages_of_a_graph_that_resolves_are_counted() {
    let resolution = Resolution::parse(include_bytes!("transcripts/ok.txt"));
    let merges = |resolution: &Resolution| resolution.merges.clone().into_iter().collect::<Vec<_>>();
    assert_eq!(merges(&resolution), [("app-arch/lz4-1.9.4".to_owned(), false), ("app-misc/slow-1.0".to_owned(), false)]);
    assert!(resolution.changes.is_empty() && resolution.problems.is_empty());
    let output = b"[ebuild  N     ] a/b-1::x\n[binary   R    ] c/d-1::x\n[blocks b      ] <a/b-1\n[nomerge       ] e/f-1\n";
    let resolution = Resolution::parse(output);
    assert_eq!(merges(&resolution), [("a/b-1".to_owned(), false), ("c/d-1".to_owned(), true)]);
}

#[test]
fn flags_of_expanded_variables_get_their_prefix() {
    let output = b"!!! The ebuild selected to satisfy \"dev-python/x\" has unmet requirements.\n\
        - dev-python/x-1::gentoo USE=\"test* -doc%\" PYTHON_TARGETS=\"(python3_12) -python3_11 (-pypy3)\"\n\n  \
        The following REQUIRED_USE flag constraints are unsatisfied:\n    python_targets_python3_11\n\n\
        (dependency required by \"dev-python/y-2::gentoo\" [ebuild])\n(dependency required by \"@selected\" [set])\n";
    assert_eq!(
        told(output),
        ["required use of dev-python/x-1 for dev-python/x: python_targets_python3_11 of python_targets_python3_11 with -doc \
          (-python_targets_pypy3) -python_targets_python3_11 (python_targets_python3_12) test <- dev-python/y-2 <- @selected"]
    );
}

/// What emerge prints ends up in the user's configuration: a hostile build must not slip something else in.
#[test]
fn only_what_belongs_there_is_taken_for_a_change() {
    let use_changes = |line: &str| {
        let output =
            format!("The following USE changes are necessary to proceed:\n (see …)\n# required by a/b (argument)\n{line}\n\n");
        Resolution::parse(output.as_bytes()).changes.len()
    };
    assert_eq!(use_changes(">=a/b-1 flag -other"), 1);
    for line in [
        ">=a/b-1",
        ">=a/b-1 fl;ag",
        ">=a/b-1 # override",
        ">=a/b-1 $(reboot)",
        "*/* flag",
        "a/b[x] flag",
        "../../etc/passwd flag",
        ">=a/b-1 VIDEO_CARDS: intel",
        "-flag",
        "",
    ] {
        assert_eq!(use_changes(line), 0, "{line}");
    }
    for (what, line, count) in [
        ("mask", "=a/b-1", 1),
        ("mask", "=a/b-1 flag", 0),
        ("keyword", "=a/b-1 ~amd64", 1),
        ("keyword", "=a/b-1 **", 1),
        ("keyword", "=a/b-1 ~*", 1),
        ("keyword", "=a/b-1 ~amd64;x", 0),
        ("license", ">=a/b-1 Some-Licence_1.0+", 1),
        ("license", ">=a/b-1 @EULA", 0),
        ("weather", ">=a/b-1 x", 0),
    ] {
        let output = format!("The following {what} changes are necessary to proceed:\n (see …)\n{line}\n\n");
        assert_eq!(Resolution::parse(output.as_bytes()).changes.len(), count, "{what} {line}");
    }
}

/// Whatever is thrown at it: no panic, and little kept.
#[test]
fn hostile_output_stays_small() {
    let beginnings = [
        "The following USE changes are necessary to proceed:",
        "!!! The ebuild selected to satisfy \"",
        "- a/b-1::x USE=\"",
        "  The following REQUIRED_USE flag constraints are unsatisfied:",
        "!!! Multiple package instances within a single package slot have been pulled",
        "a/b:0",
        "  (a/b-1:0/0::x, installed) pulled in by",
        "    >=a/b-1 required by (",
        " * Error: circular dependencies:",
        "(a/b-",
        "- a/b-1 (Change USE: ",
        "emerge: there are no ebuilds to satisfy ",
        "emerge: Maybe you meant",
        "[blocks B      ] \"",
        "(dependency required by \"",
        "# required by ",
        ">=a/b-1 flag",
        "",
        "\u{1b}]0;x\u{7}",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..2000 {
        let mut text = String::new();
        for _ in 0..state % 40 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let word = beginnings[usize::try_from(state >> 8).unwrap() % beginnings.len()];
            let end = word.char_indices().nth(usize::try_from(state % 60).unwrap()).map_or(word.len(), |(at, _)| at);
            text.push_str(if state.is_multiple_of(5) { &word[..end] } else { word });
            text.push_str(["\n", "\"", ") ", "\n\n", &"y".repeat(500)][usize::try_from(state >> 40).unwrap() % 5]);
        }
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        _ = told(text.as_bytes());
    }
    let many = "The following USE changes are necessary to proceed:\n".to_owned()
        + &(0..100_000).map(|n| format!(">=a/b{n}x-1 flag")).collect::<Vec<_>>().join("\n");
    assert_eq!(Resolution::parse(many.as_bytes()).changes.len(), MAX_KEPT);
    let long = format!("emerge: there are no ebuilds to satisfy \"{}\".\n", "x".repeat(100_000));
    let told = told(long.repeat(3).as_bytes());
    assert!(told.len() == 1 && told[0].len() < 1000, "{}", told.len());
}

#[test]
fn a_package_has_all_its_flags_however_many() {
    let flags: Vec<String> = (0..600).map(|number| format!("{}flag_{number}", if number % 2 == 0 { "" } else { "-" })).collect();
    let line = format!("[ebuild  N     ] media-video/many-1.0::gentoo  USE=\"{}\" 1,234 KiB\n", flags.join(" "));
    let list = Resolution::parse(line.as_bytes()).list;
    assert_eq!((list[0].flags.len(), list[0].off.len()), (300, 300));
    assert!(list[0].flags.contains("flag_598") && list[0].off.contains("flag_599"));
}
