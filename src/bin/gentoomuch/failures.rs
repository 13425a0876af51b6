//! Each library error's kind and hints: the table behind `report.rs`.

use std::error::Error as StdError;

use gentoomuch::config::explain::ExplainError;
use gentoomuch::config::init::InitError;
use gentoomuch::git::GitError;
use gentoomuch::portage::emerge::Failure as EmergeFailure;
use gentoomuch::portage::emerge::resolution::Problem;
use gentoomuch::sandbox::UserNamespaceBlock;
use gentoomuch::sandbox::idmap::IdMapError;
use gentoomuch::{archive, build, config, sandbox, store};

use crate::report::{Failure, Kind};

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        let hint = match &error {
            config::Error::Missing(_) => Some("choose one with `--config DIR`, or make one with `gentoomuch init`".to_owned()),
            config::Error::Unknown { nearest: Some(nearest), .. } => Some(format!("did you mean `{nearest}`?")),
            config::Error::Unknown { known, .. } if known.is_empty() => Some("there are none".to_owned()),
            config::Error::Unknown { known, .. } => Some(format!("there are: {}", known.join(", "))),
            _ => None,
        };
        let failure = Self::new(Kind::Config, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<InitError> for Failure {
    fn from(error: InitError) -> Self {
        let hint = match &error {
            InitError::NotADirectory(_) => "name another directory, or move the file away",
            InitError::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                    "name a directory that you may write: `gentoomuch init DIR`"
                }
                std::io::ErrorKind::NotADirectory => "a file has the name of a directory: move it away, or name another directory",
                _ => "correct the cause and repeat the command: what is there by now stays",
            },
        };
        Self::new(Kind::Other, error).hint(hint)
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        use store::Error as E;
        if matches!(error, E::InMap { .. })
            && let Some(sandbox) = StdError::source(&error).and_then(|source| source.downcast_ref::<sandbox::Error>())
        {
            let (kind, hints) = sandbox_words(sandbox);
            return hints.into_iter().fold(Self::new(kind, error), Self::hint);
        }
        let (kind, hint) = match &error {
            E::NoSuchRef { .. }
            | E::NoSuchRefEntry { .. }
            | E::NoSuchState(_)
            | E::NoSuchLayer(_)
            | E::NoSuchTree(_)
            | E::Ambiguous { .. } => (Kind::Usage, Some("`gentoomuch store ls` shows what there is")),
            E::Name { .. } | E::Id { .. } => (Kind::Usage, None),
            E::Busy(_) => (Kind::Other, Some("leave out `--no-wait` to wait for it")),
            E::Cancelled { .. } => (Kind::Interrupted, None),
            E::IdMapChanged { .. } => (
                Kind::Host,
                Some(
                    "ask the administrator to restore the range in `/etc/subuid` and `/etc/subgid`, or use another `--data` directory",
                ),
            ),
            E::NotOwner { .. } => (Kind::Other, Some("choose a directory of your own with `--data`")),
            E::WriteBack { .. } => (Kind::Other, Some("free some space, check the disk, and repeat the command")),
            E::Damaged { .. } | E::DamagedRef { .. } => (Kind::Other, Some("`gentoomuch store verify` tells what is affected")),
            E::Version { .. } => (Kind::Other, Some("use the program that made it, or another `--data` directory")),
            _ => (Kind::Other, None),
        };
        let failure = Self::new(kind, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// Kind and hints of a sandbox that could not be made.
fn sandbox_words(error: &sandbox::Error) -> (Kind, Vec<String>) {
    use sandbox::Error as E;
    let one = |hint: &str| vec![hint.to_owned()];
    match error {
        E::IdMap(error) => (Kind::Host, one(id_map_hint(error))),
        E::UserNamespace { block, .. } | E::Namespaces { block, .. } => (Kind::Host, vec![block_hint(*block), doctor_hint()]),
        E::MapToolMissing { .. } => (
            Kind::Host,
            one(
                "as the administrator: install `uidmap` (Debian, Ubuntu), `shadow-utils` (Fedora), `shadow` (openSUSE, Arch) or `sys-apps/shadow` (Gentoo)",
            ),
        ),
        E::MapToolPowerless { program, .. } => {
            (Kind::Host, vec![format!("as the administrator: `chmod u+s {}`", program.display())])
        }
        E::MapRefused { .. } => (Kind::Host, one("compare the range with your lines in `/etc/subuid` and `/etc/subgid`")),
        E::Overlay { .. } => (
            Kind::Host,
            vec![
                "put the data directory on ext4, xfs, btrfs or tmpfs with `--data` or `GENTOOMUCH_DATA`".to_owned(),
                doctor_hint(),
            ],
        ),
        E::Proc { .. } | E::NestedNamespace { .. } | E::MapFailed { .. } | E::MapWrite { .. } => (Kind::Host, vec![doctor_hint()]),
        E::CommandNotFound { .. } | E::CommandNotExecutable { .. } => (Kind::Usage, Vec::new()),
        E::Died { .. } => (Kind::Other, one("it was killed, or the machine ran out of memory; repeat the command")),
        E::Task { failure, .. } => match failure.kind.as_str() {
            "archive-changed" | "archive-refused" => (Kind::Verification, Vec::new()),
            "archive-damaged" => (Kind::Verification, one("fetch the file again")),
            "archive-unmapped-owner" => (Kind::Host, one("ask the administrator for 65536 subordinate ids")),
            _ => (Kind::Other, Vec::new()),
        },
        _ => (Kind::Other, Vec::new()),
    }
}

fn doctor_hint() -> String {
    "`gentoomuch doctor` checks everything".to_owned()
}

fn block_hint(block: UserNamespaceBlock) -> String {
    match block {
        UserNamespaceBlock::MaxIsZero => "as the administrator: `sysctl -w user.max_user_namespaces=65536`",
        UserNamespaceBlock::CloneDisabled => "as the administrator: `sysctl -w kernel.unprivileged_userns_clone=1`",
        UserNamespaceBlock::AppArmor => {
            "as the administrator: `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or an AppArmor profile with `userns`"
        }
        UserNamespaceBlock::Unknown => "in a container: start it with `--security-opt seccomp=unconfined`",
    }
    .to_owned()
}

/// What to do about missing subordinate ids.
pub(crate) fn id_map_hint(error: &IdMapError) -> &'static str {
    match error {
        IdMapError::NoRange { .. } | IdMapError::Read { .. } => {
            "as the administrator: `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER` (any free range will do)"
        }
        IdMapError::Line { .. } => "as the administrator: correct that line; see subuid(5)",
    }
}

impl From<IdMapError> for Failure {
    fn from(error: IdMapError) -> Self {
        let hint = id_map_hint(&error);
        Self::new(Kind::Host, error).about("this host cannot sandbox").hint(hint).hint(doctor_hint())
    }
}

impl From<sandbox::Error> for Failure {
    fn from(error: sandbox::Error) -> Self {
        let (kind, hints) = sandbox_words(&error);
        hints.into_iter().fold(Self::new(kind, error), Self::hint)
    }
}

impl From<archive::Error> for Failure {
    fn from(error: archive::Error) -> Self {
        Self::new(Kind::Other, error)
    }
}

impl From<build::Error> for Failure {
    fn from(error: build::Error) -> Self {
        use build::Error as E;
        match error {
            E::Config(error) => error.into(),
            E::Store(error) => error.into(),
            E::Sandbox(error) => error.into(),
            E::Untrusted(error) => crate::commands::verify_failure(error),
            E::Emerge { failure, log, resumable } => emerge(&failure, &log.display().to_string(), resumable),
            E::Unconfigured { stage: _, ref arguments, ref resolved, ref log } => {
                let log = log.display().to_string();
                let diff: Vec<String> = config::proposal::unified(&resolved.edits).lines().map(str::to_owned).collect();
                let resolve = format!("`gentoomuch resolve {arguments} --write FRAGMENT` writes it; then repeat the command");
                let failure = diff.into_iter().fold(Self::new(Kind::Emerge, error), Self::detail);
                failure.hint(resolve).hint(format!("the whole output is in {log}"))
            }
            E::Unresolvable { ref problems, ref contradiction, ref last_lines, ref log, .. } => {
                let mut lines: Vec<String> = contradiction.iter().cloned().collect();
                lines.extend(problems.iter().flat_map(Problem::explained));
                if lines.is_empty() {
                    lines.clone_from(last_lines);
                }
                let mut hints: Vec<String> = problems.iter().filter_map(Problem::way_out).collect();
                hints.dedup();
                let log = format!("the whole output is in {}", log.display());
                lines.into_iter().fold(Self::new(Kind::Emerge, error), Self::detail).hints(hints).hint(log)
            }
            E::Proposal(error) => proposal(error),
            E::Naming(error) => naming(error),
            E::History(error) => history(error),
            E::Squashfs(ref squashfs) => {
                let (lines, hint) = match squashfs {
                    build::SquashfsError::NotInstalled => {
                        (Vec::new(), "install squashfs-tools (`sys-fs/squashfs-tools` on Gentoo), or choose another `--format`")
                    }
                    build::SquashfsError::Start(_) => (Vec::new(), "`mksquashfs -version` in a shell tells whether it works"),
                    build::SquashfsError::Failed { last_lines, .. } => {
                        (last_lines.clone(), "squashfs-tools 4.5 or later with zstd is needed: `mksquashfs -version`")
                    }
                };
                lines.into_iter().fold(Self::new(Kind::Other, error), Self::detail).hint(hint)
            }
            E::ArtifactExists { .. } => Self::new(Kind::Usage, error).hint("move it away, or choose another name with `-o`"),
            E::Copy(error) => copy(error),
            E::Command { ref log, ref last_lines, .. } => {
                let (log, last_lines) = (log.display().to_string(), last_lines.clone());
                let failure = last_lines.into_iter().fold(Self::new(Kind::Other, error), Self::detail);
                failure.hint(format!("the whole output is in {log}")).hint("correct the cause and repeat the command to go on")
            }
            E::Interrupted { resumable } => {
                let failure = Self::new(Kind::Interrupted, error);
                if resumable { failure.hint("repeat the command to go on where it stopped") } else { failure }
            }
            E::NoProfile { ref known, .. } => {
                let hint = there_are(known);
                Self::new(Kind::Usage, error).hints(hint).hint("make it with `gentoomuch bootstrap PROFILE STAGE3`")
            }
            E::NoProfileState { kept, ref profile, .. } => {
                let hint = format!("{kept} are kept, the present one included: `gentoomuch profile show {profile}` lists them");
                Self::new(Kind::Usage, error).hint(hint)
            }
            E::StateGone { .. } => Self::new(Kind::Usage, error)
                .hint("`gentoomuch profile show` lists the states that can be gone back to")
                .hint("if nobody has removed it on purpose: `gentoomuch store verify`"),
            E::NoBuilder { ref profile } | E::OtherStage3 { ref profile } => {
                let hint = format!("build it from the profile's stage3: `gentoomuch bootstrap {profile} STAGE3`");
                Self::new(Kind::Usage, error).hint(hint)
            }
            E::ProfileInUse { ref by, may_force, .. } => {
                let by = by.clone();
                let failure = by.into_iter().fold(Self::new(Kind::Usage, error), Self::detail);
                if may_force {
                    failure.hint("`--force` removes its names nevertheless; what was built on it stays")
                } else {
                    failure.hint("end it first")
                }
            }
            E::ProfileExists { .. } => Self::new(Kind::Usage, error).hint("choose another name, or remove that one first"),
            E::NoDefaultProfile => Self::new(Kind::Usage, error)
                .hint("name one with `--profile`, or make one with `gentoomuch bootstrap PROFILE STAGE3`"),
            E::NoTree => Self::new(Kind::Usage, error).hint("import one with `gentoomuch sync --from FILE|DIR`"),
            E::NoPortageProfile { .. } => Self::new(Kind::Config, error).hint("`profiles/profiles.desc` of the tree lists them"),
            E::NotATree { .. } => Self::new(Kind::Usage, error),
            E::Cpu { ref reasons, .. } => {
                let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                let failure = reasons.into_iter().fold(Self::new(Kind::Config, error), Self::detail);
                failure.hint("build it on a machine that has them, or choose another `cpu` for the definition")
            }
            E::Sign(ref sign) => {
                let (hint, lines) = (sign.hint(), sign.last_lines().to_vec());
                let failure = lines.into_iter().fold(Self::new(Kind::Usage, error), Self::detail);
                match hint {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
            }
            E::NoKept { ref known, .. } => {
                let hint = there_are(known);
                Self::new(Kind::Usage, error).hints(hint).hint("keep a session with `gentoomuch freshroot --keep NAME`")
            }
            E::KeptExists { .. } => Self::new(Kind::Usage, error).hint("choose another name"),
            E::Name { .. } => Self::new(Kind::Usage, error).hint("letters, digits and `._+-`, not beginning with `.` or `-`"),
            E::Hooks(_) => Self::new(Kind::Config, error),
            E::Repository(_) => Self::new(Kind::Other, error).hint("import the tree again with `gentoomuch sync`"),
            E::RootFile(_) => Self::new(Kind::Other, error).hint("`gentoomuch store verify` tells whether the store is damaged"),
            other => Self::new(Kind::Other, other),
        }
    }
}

impl From<ExplainError> for Failure {
    fn from(error: ExplainError) -> Self {
        use ExplainError as E;
        let nearest_or = |nearest: &Option<String>, otherwise: Option<String>| match nearest {
            Some(nearest) => Some(format!("did you mean `{nearest}`?")),
            None => otherwise,
        };
        let hint = match &error {
            E::Subject { packages, .. } if !packages.is_empty() => Some(format!("did you mean {}?", packages.join(" or "))),
            E::Subject { word, .. } => Some(format!("a flag for all packages is `USE:{word}`, a package has a category before it")),
            E::Atom { .. } => Some("for example `app-misc/hello`, `app-misc/hello:nls` or `=app-misc/hello-2.10`".to_owned()),
            E::NoVariable { nearest, known, .. } | E::NoEntry { nearest, known, .. } | E::NoFlag { nearest, known, .. } => {
                nearest_or(nearest, there_are(known))
            }
            E::NoPackage { nearest, .. } => nearest_or(nearest, Some("`gentoomuch sync` imports a newer tree".to_owned())),
            E::NoVersion { known, .. } => there_are(known),
            E::Repository(_) => Some("import the tree again with `gentoomuch sync`".to_owned()),
        };
        Self::new(Kind::Usage, error).hints(hint)
    }
}

impl From<GitError> for Failure {
    fn from(error: GitError) -> Self {
        use GitError as E;
        let (kind, hint, lines) = match &error {
            E::NotInstalled { .. } => (Kind::Other, Some("install git, or compare two stages instead".to_owned()), &[][..]),
            E::NotARepository(_) => {
                (Kind::Usage, Some("put the configuration directory under version control with `git init`".to_owned()), &[][..])
            }
            E::UnknownRevision { nearest: Some(nearest), .. } => (Kind::Usage, Some(format!("did you mean `{nearest}`?")), &[][..]),
            E::UnknownRevision { known, .. } => {
                let known: Vec<&str> = known.iter().take(12).map(String::as_str).collect();
                (Kind::Usage, Some(format!("branches and tags: {}; `git log` lists commits", known.join(", "))), &[][..])
            }
            E::NoSuchDirectory { .. } => {
                (Kind::Usage, Some("`git log -- .` in the directory lists the commits that have it".to_owned()), &[][..])
            }
            E::Failed { last_lines, .. } => {
                (Kind::Other, Some("correct what git complains about".to_owned()), last_lines.as_slice())
            }
            E::Scratch { .. } => (Kind::Other, Some("name a directory that can be written to in `TMPDIR`".to_owned()), &[][..]),
            E::Run { .. } => (Kind::Other, Some("`git --version` in a shell tells whether git works".to_owned()), &[][..]),
        };
        let lines = lines.to_vec();
        lines.into_iter().fold(Self::new(kind, error), Self::detail).hints(hint)
    }
}

fn naming(error: build::NamingError) -> Failure {
    use build::NamingError as E;
    let hint = match &error {
        E::Unknown { nearest: Some(nearest), .. } => Some(format!("did you mean `{nearest}`?")),
        E::Unknown { known, .. } if known.is_empty() => Some("nothing has been built yet".to_owned()),
        E::Unknown { known, .. } => there_are(known),
        E::NoEntry { name, kept: 1, .. } => Some(format!("`{name}` has its present value only, `{name}@{{0}}`")),
        E::NoEntry { name, kept, .. } => Some(format!("`{name}@{{0}}`, the present one, to `{name}@{{{}}}` are kept", kept - 1)),
        E::Ambiguous { fits, .. } => {
            let fits: Vec<String> = fits.iter().take(8).map(|id| id.as_str().chars().take(12).collect()).collect();
            Some(format!("give more digits: {}", fits.join(", ")))
        }
        E::NotAName { names, .. } if names.is_empty() => Some("no name leads to it; `gentoomuch store ls` lists names".to_owned()),
        E::NotAName { names, .. } => Some(format!("it is called {}", names.join(", "))),
        E::Gone { .. } => Some("`gentoomuch store verify` tells what is missing".to_owned()),
    };
    Failure::new(Kind::Usage, error).hints(hint)
}

fn history(error: build::HistoryError) -> Failure {
    use build::HistoryError as E;
    let hint = match &error {
        E::NoValue { kept: 1, .. } => "it has its present value only".to_owned(),
        E::NoValue { name, kept, .. } => {
            format!("`gentoomuch log {name}` lists what there is: 1, the one before, to {}", kept - 1)
        }
        E::TwoPositions(_) => "leave one of them out".to_owned(),
        E::Upstream { profile, .. } => format!("`gentoomuch rollback profile/{profile}` takes both back"),
        E::Tagged { .. } => "`--force` moves it; `gentoomuch log` remembers what it was".to_owned(),
        E::NoTag { known, .. } => there_are(known).unwrap_or_else(|| "there are none".to_owned()),
        E::TagName { .. } => "letters, digits and `._+-`, with `/` between parts".to_owned(),
    };
    Failure::new(Kind::Usage, error).hint(hint)
}

fn copy(error: build::CopyError) -> Failure {
    use build::CopyError as E;
    let hint = match &error {
        E::Missing { state, .. } => Some(format!("`gentoomuch shell {state}` looks around in it")),
        E::Special { .. } => None,
        E::Directory { .. } => Some("name a directory to copy it to".to_owned()),
        E::NoName { .. } => Some("name a path that is not there yet, which becomes the copy".to_owned()),
        E::Exists(_) => Some("move it away, or name another directory".to_owned()),
        E::NoDirectory(_) => Some("make it first".to_owned()),
    };
    Failure::new(Kind::Usage, error).hints(hint)
}

fn proposal(error: config::proposal::Error) -> Failure {
    use config::proposal::Error as E;
    match error {
        E::Contradiction(ref contradiction) => {
            let wanted = contradiction.wanted.clone();
            let reasons = contradiction.because.clone();
            let may_override = contradiction.may_override;
            let failure = reasons.into_iter().fold(Failure::new(Kind::Config, error), Failure::detail);
            let failure = failure.hint("drop that line, or what needs the other");
            if may_override {
                failure
                    .hint(format!("or write `{wanted} # override` in a fragment that is merged later"))
                    .hint("or move both to one fragment")
            } else {
                failure
            }
        }
        E::Foreign { ref known, .. } => {
            let known = there_are(known);
            Failure::new(Kind::Usage, error).hints(known)
        }
        E::Name(_) => Failure::new(Kind::Usage, error).hint("a fragment is a folder of `portage.locals`, such as `web`"),
        E::Changed(_) => Failure::new(Kind::Other, error).hint("repeat the command"),
        E::Outside(_) => Failure::new(Kind::Config, error).hint("write to another fragment, or make it a file of its own"),
        E::Io { .. } => Failure::new(Kind::Other, error),
    }
}

/// What could have been meant.
fn there_are(known: &[String]) -> Option<String> {
    (!known.is_empty()).then(|| format!("there are: {}", known.join(", ")))
}

fn emerge(failure: &EmergeFailure, log: &str, resumable: bool) -> Failure {
    let mut shown = Failure::new(Kind::Emerge, failure.to_string());
    // What emerge says about dependencies is the end of its output, too, and holds its proposals.
    let lines = if failure.explanation.is_empty() { &failure.last_lines } else { &failure.explanation };
    for line in lines {
        shown = shown.detail(line.clone());
    }
    shown = shown.hint(format!("the whole output is in {log}"));
    if resumable { shown.hint("correct the cause and repeat the command to go on where it stopped") } else { shown }
}
