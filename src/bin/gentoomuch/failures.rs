//! Each library error's kind and hints: the table behind `report.rs`.

use std::error::Error as StdError;

use gentoomuch::artifact::{of_state, squashfs};
use gentoomuch::config::explain::ExplainError;
use gentoomuch::config::init::InitError;
use gentoomuch::fetch::Missing;
use gentoomuch::git::GitError;
use gentoomuch::history::{cp, log};
use gentoomuch::names::named;
use gentoomuch::pipeline::PipelineError;
use gentoomuch::portage::emerge::resolution::Problem;
use gentoomuch::portage::emerge::{Failure as EmergeFailure, FailureKind};
use gentoomuch::session::binhost::BinhostError;
use gentoomuch::threads::NoThread;
use gentoomuch::trees::error::TreeError;
use gentoomuch::{archive, config, download, error as build, program, release, resolve, sandbox, store, try_it};

use crate::failures_sandbox::sandbox_words;
use crate::report::{Failure, Kind};
use crate::screen::Shown as _;
use crate::table::human_bytes;

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
            InitError::Io(error) => match error.source.kind() {
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
            E::NoSuchRef { name } if name.len() < 4 && name.bytes().all(|b| b.is_ascii_hexdigit()) => {
                (Kind::Usage, Some("give at least 4 digits of an id; `gentoomuch store ls` shows what there is"))
            }
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

impl From<NoThread> for Failure {
    fn from(error: NoThread) -> Self {
        Self::new(Kind::Other, error)
    }
}

impl From<archive::Error> for Failure {
    fn from(error: archive::Error) -> Self {
        Self::new(Kind::Other, error)
    }
}

impl From<download::Error> for Failure {
    fn from(error: download::Error) -> Self {
        use download::Error as E;
        let (kind, lines) = match &error {
            E::Interrupted => (Kind::Interrupted, Vec::new()),
            E::Url(_) | E::NoUrls { .. } => (Kind::Usage, Vec::new()),
            E::Failed { tried, .. } => (Kind::Other, tried.iter().map(|tried| format!("{}: {}", tried.url, tried.cause)).collect()),
            E::Offline { .. } | E::NothingHere { .. } | E::Io { .. } | E::Busy { .. } => (Kind::Other, Vec::new()),
        };
        let hint = error.hint();
        lines.into_iter().fold(Self::new(kind, error), Self::detail).hints(hint)
    }
}

impl From<release::Error> for Failure {
    fn from(error: release::Error) -> Self {
        use release::Error as E;
        let (kind, hint) = match &error {
            E::Untrusted { reason, .. } => (Kind::Verification, Some(reason.hint())),
            E::Index { .. } => (Kind::Other, Some("name another mirror with `--mirror`".to_owned())),
            E::Replayed { .. } => (
                Kind::Verification,
                Some(
                    "somebody may wish to hide newer builds: name another mirror with `--mirror`, or a build with `--date`"
                        .to_owned(),
                ),
            ),
            E::NoSuchVariant { known, .. } => (Kind::Usage, there_are(known)),
            E::Variant { .. } => (Kind::Usage, Some("`gentoomuch stage3 ls` shows what there is".to_owned())),
            E::Arch { .. } => (Kind::Usage, Some("such as amd64, arm64, riscv, x86".to_owned())),
            E::Date { .. } => (Kind::Usage, Some("it is in the file's name, such as 20260811T083102Z".to_owned())),
            E::Download(_) | E::Verify(_) | E::Io { .. } => (Kind::Other, None),
        };
        match error {
            E::Download(error) => error.into(),
            E::Verify(error) => crate::commands::verify_failure(error),
            error => Self::new(kind, error).hints(hint),
        }
    }
}

impl From<release::keys::Error> for Failure {
    fn from(error: release::keys::Error) -> Self {
        use release::keys::Error as E;
        match error {
            E::Download(error) => error.into(),
            E::Keys(error) => crate::commands::keys_failure(error),
            E::NotPinned(ref fingerprint) => {
                let hint = format!("if you know that it is the right one: `gentoomuch keys trust {fingerprint}`");
                Self::new(Kind::Verification, error).hint(hint)
            }
            E::Nowhere { ref tried, .. } => {
                let lines: Vec<String> = tried.iter().map(|(url, unusable)| format!("{url}: {unusable}")).collect();
                let failure = lines.into_iter().fold(Self::new(Kind::Other, error), Self::detail);
                failure.hint(
                    "name where it is with `--wkd ADDRESS` or `--hkps SERVER`, or get its file and `gentoomuch keys import FILE`",
                )
            }
        }
    }
}

impl Failure {
    /// The same with the change that would help, as a diff.
    fn proposed(self, arguments: &str, resolved: &resolve::Resolved) -> Self {
        let diff = config::proposal::unified(&resolved.edits);
        let failure = diff.lines().map(str::to_owned).fold(self, Self::detail);
        failure.hint(format!("`gentoomuch resolve {arguments} --write FRAGMENT` writes it; then repeat the command"))
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
            E::Download(error) => error.into(),
            E::Missing { ref missing } => {
                let file =
                    |missing: &Missing| format!("{}  {}  {}", missing.name, human_bytes(missing.bytes), missing.packages.join(" "));
                let lines: Vec<String> = missing.iter().map(file).collect();
                lines.into_iter().fold(Self::new(Kind::Emerge, error), Self::detail).hint("repeat the command without `--offline`")
            }
            E::Emerge { failure, log, resumable } => emerge(&failure, &log.shown(), resumable),
            E::Unmet { ref unmet, ref log, .. } => {
                let (log, lines) = (log.shown(), unmet.iter().map(ToString::to_string).collect::<Vec<_>>());
                let failure = lines.into_iter().fold(Self::new(Kind::Emerge, error), Self::detail);
                failure
                    .hint("look for what changes emerge's options, environment or database: hooks, scripts, `bashrc`")
                    .hint(format!("the whole output is in {log}"))
            }
            E::Unchecked { .. } => Self::new(Kind::Emerge, error),
            E::Refused { findings, proposal } => {
                let failure = Self::from(config::Error::Invalid(findings));
                proposal.iter().fold(failure, |failure, (arguments, resolved)| failure.proposed(arguments, resolved))
            }
            E::Unconfigured { stage: _, ref arguments, ref resolved, ref log } => {
                let (log, arguments, resolved) = (log.shown(), arguments.clone(), resolved.clone());
                Self::new(Kind::Emerge, error).proposed(&arguments, &resolved).hint(format!("the whole output is in {log}"))
            }
            E::Unresolvable { ref problems, ref contradiction, ref last_lines, ref log, .. } => {
                let mut lines: Vec<String> = contradiction.iter().cloned().collect();
                lines.extend(problems.iter().flat_map(Problem::explained));
                if lines.is_empty() {
                    lines.clone_from(last_lines);
                }
                let mut hints: Vec<String> = problems.iter().filter_map(Problem::way_out).collect();
                hints.dedup();
                let log = format!("the whole output is in {}", log.shown());
                lines.into_iter().fold(Self::new(Kind::Emerge, error), Self::detail).hints(hints).hint(log)
            }
            E::Proposal(error) => proposal(error),
            E::Kernel(error) => error.into(),
            E::Naming(error) => naming(error),
            E::History(error) => history(error),
            E::Squashfs(ref squashfs) => {
                let (lines, hint) = match squashfs {
                    squashfs::SquashfsError::NotInstalled => {
                        (Vec::new(), "install squashfs-tools (`sys-fs/squashfs-tools` on Gentoo), or choose another `--format`")
                    }
                    squashfs::SquashfsError::Start(_) => (Vec::new(), "`mksquashfs -version` in a shell tells whether it works"),
                    squashfs::SquashfsError::Failed { last_lines, .. } => {
                        (last_lines.clone(), "squashfs-tools 4.5 or later with zstd is needed: `mksquashfs -version`")
                    }
                };
                lines.into_iter().fold(Self::new(Kind::Other, error), Self::detail).hint(hint)
            }
            E::Making { path, source } => Self::from(*source).about(format!("cannot make `{}`", path.shown())),
            E::Export(ref export) => {
                let hint = match export {
                    of_state::ExportError::Ending { .. } => {
                        "artifacts end in .tar.xz, .tar.zst, .tar.gz, .tar, .oci, .squashfs or .sqfs; what a file with another name is to be, \
                         `--format` says"
                    }
                    of_state::ExportError::OtherForm { .. } => "leave out `--format`, or name the file otherwise",
                };
                Self::new(Kind::Usage, error).hint(hint)
            }
            E::ArtifactExists { .. } => Self::new(Kind::Usage, error).hint("move it away, or choose another name with `-o`"),
            E::Copy(error) => copy(error),
            E::Experiment(error) => experiment(error),
            E::DoesNotApply(misfit) => {
                let hints = [
                    format!("the whole output is in {}", misfit.log.shown()),
                    format!("`gentoomuch patch refresh {}` brings it to the version that is built now", misfit.name),
                ];
                let lines = misfit.last_lines.clone();
                lines.into_iter().fold(Self::new(Kind::Config, *misfit), Self::detail).hints(hints.to_vec())
            }
            E::Patch(error) => crate::failures_patch::patch(error),
            E::Suspended(error) => suspended(*error),
            E::Command { ref log, ref last_lines, .. } => {
                let (log, last_lines) = (log.shown(), last_lines.clone());
                let failure = last_lines.into_iter().fold(Self::new(Kind::Other, error), Self::detail);
                failure.hint(format!("the whole output is in {log}")).hint("correct the cause and repeat the command")
            }
            E::Interrupted { resumable } => {
                let failure = Self::new(Kind::Interrupted, error);
                if resumable { failure.hint("repeat the command to go on where it stopped") } else { failure }
            }
            E::NoCompiler { .. } => {
                Self::new(Kind::Config, error).hint("the stage3 has to bring gcc or clang; `CC` in make.conf names another one")
            }
            E::NoProfile { ref known, ref named_in, .. } => {
                let hint = there_are(known);
                let named = named_in.as_ref().map(|place| format!("it is named in `{place}`"));
                Self::new(Kind::Usage, error).hints(named).hints(hint).hint("make it with `gentoomuch bootstrap PROFILE STAGE3`")
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
            E::Tree(error) => tree(error),
            E::NoTree => Self::new(Kind::Usage, error)
                .hint("`gentoomuch sync` brings what the configuration names, `gentoomuch sync --from SOURCE` any other"),
            E::NoPortageProfile { .. } => Self::new(Kind::Config, error).hint("`profiles/profiles.desc` of the tree lists them"),
            E::NotATree { .. } => Self::new(Kind::Usage, error),
            E::Cpu { ref reasons, .. } => {
                let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                let failure = reasons.into_iter().fold(Self::new(Kind::Config, error), Self::detail);
                failure.hint("build it on a machine that has them, or choose another `cpu` for the definition")
            }
            E::Binhost(error) => binhost(error),
            E::Sign(ref sign) => {
                let (hint, lines) = (sign.hint(), sign.last_lines().to_vec());
                lines.into_iter().fold(Self::new(Kind::Signing, error), Self::detail).hints(hint.map(str::to_owned))
            }
            E::NoKept { ref known, .. } => {
                let hint = there_are(known);
                Self::new(Kind::Usage, error).hints(hint).hint("keep a session with `gentoomuch freshroot --keep NAME`")
            }
            E::Pipeline(PipelineError::UnknownNode { ref known, .. }) => {
                let hint = there_are(known);
                Self::new(Kind::Usage, error).hints(hint)
            }
            E::Pipeline(PipelineError::Unbuilt { ref needs, .. }) => {
                let needs: Vec<String> = needs.iter().map(|id| format!("`gentoomuch pipeline node {id}` first")).collect();
                Self::new(Kind::Usage, error).hints(needs)
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

/// A build that has ended early and can go on.
fn suspended(error: build::Error) -> Failure {
    // Whoever was killed in the middle of an emerge has it failed.
    let died = matches!(error, build::Error::Sandbox(sandbox::Error::Died { .. }));
    let failure = Failure::from(error);
    let failure = if died { failure.of_kind(Kind::Emerge) } else { failure };
    failure.hint("what was built so far is kept: repeat the command to go on where it stopped")
}

/// A binary package host, ours or another's.
fn binhost(error: BinhostError) -> Failure {
    use BinhostError as E;
    use gentoomuch::portage::binpkgs::gpkg;
    use gentoomuch::portage::emerge::Distrust;
    let (kind, hint) = match &error {
        E::NoPool { profile } => {
            (Kind::Usage, Some(format!("build its builder with `gentoomuch bootstrap {profile} STAGE3`, which fills a pool")))
        }
        E::NotOurs(_) => (Kind::Usage, Some("name a new directory, or one that was exported before".to_owned())),
        E::OtherProfile { profile, .. } => {
            (Kind::Usage, Some(format!("name another directory, or export `{profile}` with `--profile {profile}`")))
        }
        E::NotExported(_) => (Kind::Usage, Some("make it with `gentoomuch binhost export DIR`".to_owned())),
        E::Listen { source, .. } => match source.kind() {
            std::io::ErrorKind::AddrInUse => (Kind::Usage, Some("choose another one with `--port`; 0 takes any".to_owned())),
            std::io::ErrorKind::PermissionDenied => (Kind::Usage, Some("ports below 1024 are the administrator's".to_owned())),
            _ => (Kind::Usage, None),
        },
        E::Untrusted { log, why, .. } => {
            let log = format!("the whole output is in {}", log.shown());
            let hint = match why {
                Distrust::UnknownKey => "if that key is right, import it with `gentoomuch keys import --for binpkg FILE`",
                Distrust::Expired => "import a newer copy of the key with `gentoomuch keys import FILE`",
                _ => "nothing of it was installed; ask whoever runs the binhost, or take it out of `binrepos.conf`",
            };
            return Failure::new(Kind::Verification, error).hint(hint).hint(log);
        }
        E::NoKeys => (Kind::Config, Some("import the host's key with `gentoomuch keys import --for binpkg FILE`".to_owned())),
        E::Keys(_) => (Kind::Config, None),
        E::Keyring(_) => (Kind::Other, Some("the stage3 needs `app-crypt/gnupg` to verify what a binhost has".to_owned())),
        E::Sign(sign) | E::Package(gpkg::Error::Sign { source: sign, .. }) => {
            let (lines, hint) = (sign.last_lines().to_vec(), "put the fingerprint of a key that can sign into `env/sign_key`");
            return lines.into_iter().fold(Failure::new(Kind::Signing, error), Failure::detail).hint(hint);
        }
        _ => (Kind::Other, None),
    };
    Failure::new(kind, error).hints(hint)
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

impl From<program::Error> for Failure {
    fn from(error: program::Error) -> Self {
        use program::Error as E;
        let (kind, hint, lines) = match &error {
            E::NotInstalled { program } => (Kind::Other, Some(format!("install {}", program.shown())), Vec::new()),
            E::Failed { last_lines, .. } => (Kind::Other, None, last_lines.clone()),
            E::Run { .. } => (Kind::Other, Some("try it in a shell with `--version`".to_owned()), Vec::new()),
            E::Interrupted => (Kind::Interrupted, None, Vec::new()),
        };
        lines.into_iter().fold(Self::new(kind, error), Self::detail).hints(hint)
    }
}

impl From<GitError> for Failure {
    fn from(error: GitError) -> Self {
        use GitError as E;
        let (kind, hint) = match &error {
            E::Program(program::Error::NotInstalled { .. }) => {
                (Kind::Other, "install git, or compare two stages instead".to_owned())
            }
            E::Program(program::Error::Failed { last_lines, .. }) => {
                let lines = last_lines.clone();
                let failure = Self::new(Kind::Other, error).hint("correct what git complains about");
                return lines.into_iter().fold(failure, Self::detail);
            }
            E::Program(program::Error::Interrupted) => return Self::new(Kind::Interrupted, error),
            E::Program(program::Error::Run { .. }) => {
                (Kind::Other, "`git --version` in a shell tells whether git works".to_owned())
            }
            E::NotARepository(_) => {
                (Kind::Usage, "put the configuration directory under version control with `git init`".to_owned())
            }
            E::UnknownRevision { nearest: Some(nearest), .. } => (Kind::Usage, format!("did you mean `{nearest}`?")),
            E::UnknownRevision { known, .. } => {
                let known: Vec<&str> = known.iter().take(12).map(String::as_str).collect();
                (Kind::Usage, format!("branches and tags: {}; `git log` lists commits", known.join(", ")))
            }
            E::NoSuchDirectory { .. } => (Kind::Usage, "`git log -- .` in the directory lists the commits that have it".to_owned()),
            E::NotGiven { .. } => {
                (Kind::Other, "it may have been removed there; another repository with the same commit will do".to_owned())
            }
            E::Offline { .. } => (Kind::Other, "repeat the command without `--offline`".to_owned()),
            E::Mirror { .. } => (Kind::Other, "it is a cache: it can be removed".to_owned()),
            E::Scratch { .. } => (Kind::Other, "name a directory that can be written to in `TMPDIR`".to_owned()),
        };
        Self::new(kind, error).hint(hint)
    }
}

fn tree(error: TreeError) -> Failure {
    use TreeError as E;
    let again = |name: &str| format!("`gentoomuch sync {name}` brings it");
    match error {
        E::Git(GitError::Program(error)) | E::Program(error) => error.into(),
        E::Git(error) => error.into(),
        E::Untrusted(error) => crate::commands::verify_failure(error),
        E::Pin(error) => proposal(error),
        E::Offline { .. } => Failure::new(Kind::Other, error).hint("repeat the command without `--offline`"),
        E::Source(_) => Failure::new(Kind::Usage, error)
            .hint("for example `git+https://github.com/gentoo-mirror/gentoo.git`; `gentoomuch sync --help` has more"),
        E::BadSource { .. } | E::TwoSources { .. } => Failure::new(Kind::Config, error),
        E::Unsigned { ref digest, .. } => {
            let pin = digest
                .as_ref()
                .map(|digest| format!("or pin what it is, if you know from elsewhere that this is right: `--pin sha256:{digest}`"));
            Failure::new(Kind::Verification, error)
                .hint("import the key that signs it with `gentoomuch keys import FILE`, if there is one")
                .hint("take it all the same with `--allow-unsigned REASON`")
                .hints(pin)
        }
        E::Manifest { .. } | E::NotAsSigned { .. } => Failure::new(Kind::Verification, error)
            .hint("the server may be in the middle of an update: try again, or another mirror"),
        E::OtherContents { ref found, .. } => {
            let found = format!("it has {found}");
            Failure::new(Kind::Verification, error)
                .detail(found)
                .hint("if the repository has moved on: `--pin latest` pins what it has now")
        }
        E::NotConfigured { ref known, .. } => {
            let hint = there_are(known);
            Failure::new(Kind::Usage, error).hints(hint).hint("a section of `repos.conf` or a line of `env/tree` names others")
        }
        E::NoSource { ref name } => {
            let hint = format!(
                "`sync-type` and `sync-uri` in its section of `repos.conf` do, or `gentoomuch sync --name {name} --from SOURCE`"
            );
            Failure::new(Kind::Config, error).hint(hint)
        }
        E::NotHere { ref name, .. } | E::PinNotHere { ref name, .. } => {
            let hint = again(name);
            Failure::new(Kind::Config, error).hint(hint)
        }
        E::OtherName { .. } => {
            Failure::new(Kind::Config, error).hint("a section of `repos.conf` has the name that the repository gives itself")
        }
        E::InUse { ref by, ref name, .. } => {
            let (by, name) = (by.clone(), name.clone());
            let hint = match name {
                Some(name) if name.contains('/') => format!("`gentoomuch tree rm {name}` removes the pinned name and the tree"),
                Some(name) => {
                    format!("it is the latest of `{name}`: bring a newer one, or `gentoomuch tree rm {name}` removes the name, too")
                }
                None => "`gentoomuch clean` removes states that nothing needs, and then their trees".to_owned(),
            };
            by.into_iter().fold(Failure::new(Kind::Usage, error), Failure::detail).hint(hint)
        }
        E::Unknown { ref known, .. } => {
            let hint = there_are(known);
            Failure::new(Kind::Usage, error).hints(hint).hint("`gentoomuch tree ls` shows their ids")
        }
        E::Lock { .. } => Failure::new(Kind::Other, error).hint("leave out `--no-wait` to wait for another command that fetches"),
    }
}

fn naming(error: named::NamingError) -> Failure {
    use named::NamingError as E;
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

fn experiment(error: try_it::ExperimentError) -> Failure {
    use gentoomuch::session::visible::NotVisible as N;
    use try_it::ExperimentError as E;
    let did_you_mean = |near: &[String]| (!near.is_empty()).then(|| format!("did you mean {}?", near.join(" or ")));
    let (mut details, mut kind) = (Vec::new(), Kind::Usage);
    let hints: Vec<String> = match &error {
        E::Word { .. } => vec!["for example `--matrix \"ipv6 ssl dev-libs/openssl:ktls\"`".to_owned()],
        E::Cflags(_) => vec![
            "write them as a compiler takes them, without quotes; one that begins with `+` is added to those configured".to_owned(),
        ],
        E::NotVisible(N::NoPackage { near, .. }) => {
            did_you_mean(near).into_iter().chain(["`gentoomuch sync` imports a newer tree".to_owned()]).collect()
        }
        E::NotVisible(N::Masked { reasons, .. }) if reasons.iter().any(|reason| reason.contains("keyword")) => {
            vec![format!("`--keyword '{}'` accepts it for this experiment", accepting(reasons))]
        }
        E::NotVisible(N::Masked { atom, .. }) => {
            vec![format!("`gentoomuch resolve {atom}` shows what the configuration would have to say")]
        }
        E::NoFlag { nearest: Some(nearest), .. } => vec![format!("did you mean `{nearest}`?")],
        E::NoFlag { known, packages, .. } if known.is_empty() => vec![format!("{} has no flags", packages.join(", "))],
        E::NoFlag { known, .. } => there_are(known).into_iter().collect(),
        E::TooMany { .. } => vec!["each flag doubles them: try fewer at a time".to_owned()],
        E::AllLeftOut { reasons, ways } => {
            details.clone_from(reasons);
            ways.iter().map(|way| format!("`--use \"{way}\"` satisfies it")).collect()
        }
        E::Answer(_) => {
            kind = Kind::Other;
            vec!["see whether `gentoomuch freshroot -- emerge --info` works".to_owned()]
        }
    };
    details.into_iter().fold(Failure::new(kind, error), Failure::detail).hints(hints)
}

/// The keyword that accepts what Portage masks for these reasons: `~amd64 keyword`, but also `missing keyword` and `-amd64 keyword`.
pub(crate) fn accepting(reasons: &[String]) -> &str {
    let words = reasons.iter().filter_map(|reason| reason.strip_suffix(" keyword"));
    words.into_iter().find(|word| word.starts_with('~')).unwrap_or("**")
}

fn history(error: log::HistoryError) -> Failure {
    use log::HistoryError as E;
    let hint = match &error {
        E::NoValue { kept: 1, .. } => "it has its present value only".to_owned(),
        E::NoValue { name, kept, .. } => {
            format!("`gentoomuch log {name}` lists what there is: 1, the one before, to {}", kept - 1)
        }
        E::TwoPositions(_) => "leave one of them out".to_owned(),
        E::Upstream { profile, .. } => format!("`gentoomuch rollback profile/{profile}` takes both back"),
        E::Tagged { .. } => "`--force` moves it; `gentoomuch log` remembers what it was".to_owned(),
        E::NoTag { known, .. } => there_are(known).unwrap_or_else(|| "there are none".to_owned()),
        E::TagTaken(_) => "any other name: `gentoomuch tag STATE release-1`".to_owned(),
        E::TagName { .. } => "letters, digits and `._+-`, with `/` between parts".to_owned(),
    };
    Failure::new(Kind::Usage, error).hint(hint)
}

fn copy(error: cp::CopyError) -> Failure {
    use cp::CopyError as E;
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
pub(crate) fn there_are(known: &[String]) -> Option<String> {
    (!known.is_empty()).then(|| format!("there are: {}", known.join(", ")))
}

fn emerge(failure: &EmergeFailure, log: &str, resumable: bool) -> Failure {
    let mut shown = Failure::new(Kind::Emerge, failure.to_string());
    // What emerge says about dependencies is the end of its output, too, and holds its proposals.
    let lines = if failure.explanation.is_empty() { &failure.last_lines } else { &failure.explanation };
    for line in lines {
        shown = shown.detail(line.clone());
    }
    if failure.kind == FailureKind::SandboxViolation {
        shown = shown
            .hint("that is a mistake of the package; a file of `env/` with `SANDBOX_WRITE`, or a patch, helps until it is mended");
    }
    shown = shown.hint(format!("the whole output is in {log}"));
    if resumable { shown.hint("correct the cause and repeat the command to go on where it stopped") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keyword_that_accepts_a_version() {
        for (reasons, word) in [
            (&["~amd64 keyword"][..], "~amd64"),
            (&["missing keyword"], "**"),
            (&["-amd64 keyword"], "**"),
            (&["package.mask", "~arm64 keyword"], "~arm64"),
            (&["package.mask"], "**"),
        ] {
            let reasons: Vec<String> = reasons.iter().map(|reason| (*reason).to_owned()).collect();
            assert_eq!(accepting(&reasons), word, "{reasons:?}");
        }
    }
}
