//! Kinds and hints of ebuild trees that were not brought, found or removed, and of the programs that bring them.

use crate::git::GitError;
use crate::{program, trees};

use super::{proposal, there_are};
use crate::cli::report::{Failure, Kind};
use crate::cli::screen::Shown as _;

impl From<trees::Error> for Failure {
    fn from(error: trees::Error) -> Self {
        use trees::Error as E;
        let again = |name: &str| format!("fetch it with `gentoomuch sync {name}`");
        match error {
            E::Context(error) => error.into(),
            E::Config(error) => error.into(),
            E::Download(error) => error.into(),
            E::Git(GitError::Program(error)) | E::Program(error) => error.into(),
            E::Git(error) => error.into(),
            E::Untrusted(error) => error.into(),
            E::Pin(error) => proposal(error),
            E::Offline { .. } => Self::new(Kind::Other, error).hint("repeat the command without `--offline`"),
            E::Source(_) => Self::new(Kind::Usage, error)
                .hint("for example `git+https://github.com/gentoo-mirror/gentoo.git`; `gentoomuch sync --help` has more"),
            E::BadSource { .. } | E::TwoSources { .. } => Self::new(Kind::Config, error),
            E::Unsigned { ref digest, .. } => {
                let pin = digest.as_ref().map(|digest| {
                    format!("or pin it, if you know from another source that this digest is right: `--pin sha256:{digest}`")
                });
                Self::new(Kind::Verification, error)
                    .hint("import the key that signs it with `gentoomuch keys import FILE`, if there is one")
                    .hint("accept it anyway with `--allow-unsigned REASON`")
                    .hints(pin)
            }
            E::Manifest { .. } | E::NotAsSigned { .. } => Self::new(Kind::Verification, error)
                .hint("the server may be in the middle of an update: try again, or use another mirror"),
            E::OtherContents { ref found, .. } => {
                let found = format!("it has {found}");
                Self::new(Kind::Verification, error)
                    .detail(found)
                    .hint("if the repository has moved on, pin its newest state with `--pin latest`")
            }
            E::NotConfigured { ref known, .. } => {
                let hint = there_are(known);
                Self::new(Kind::Usage, error).hints(hint).hint("name others in a section of `repos.conf` or a line of `env/tree`")
            }
            E::NoSource { ref name } => {
                let hint = format!(
                    "say it with `sync-type` and `sync-uri` in its section of `repos.conf`, or with `gentoomuch sync --name \
                     {name} --from SOURCE`"
                );
                Self::new(Kind::Config, error).hint(hint)
            }
            E::NotHere { ref name, .. } | E::PinNotHere { ref name, .. } => {
                let hint = again(name);
                Self::new(Kind::Config, error).hint(hint)
            }
            E::OtherName { .. } => Self::new(Kind::Config, error).hint(
                "use the name in the repository's `profiles/repo_name` for its section of \
                    `repos.conf`",
            ),
            E::InUse { ref by, ref name, .. } => {
                let (by, name) = (by.clone(), name.clone());
                let hint = match name {
                    Some(name) if name.contains('/') => format!(
                        "remove the pinned name and the tree with `gentoomuch tree rm \
                        {name}`"
                    ),
                    Some(name) => {
                        format!(
                            "it is the latest of `{name}`: fetch a newer one, or remove the name, too, with `gentoomuch tree rm \
                             {name}`"
                        )
                    }
                    None => "remove states that nothing needs, and then their trees, with `gentoomuch clean`".to_owned(),
                };
                by.into_iter().fold(Self::new(Kind::Usage, error), Self::detail).hint(hint)
            }
            E::Unknown { ref known, .. } => {
                let hint = there_are(known);
                Self::new(Kind::Usage, error).hints(hint).hint("`gentoomuch tree ls` shows their ids")
            }
            E::NoTree => Self::new(Kind::Usage, error).hint(
                "`gentoomuch sync` fetches the trees that the configuration names, `gentoomuch sync --from SOURCE` any \
                    other",
            ),
            E::NotATree { .. } => Self::new(Kind::Usage, error).hint("name the address of an ebuild repository, or of its archive"),
            E::Repository(_) => Self::new(Kind::Other, error).hint("fetch the tree again with `gentoomuch sync`"),
            E::Unpack { .. } => Self::new(Kind::Other, error),
            E::Lock { .. } => Self::new(Kind::Other, error).hint("leave out `--no-wait` to wait for the other command"),
        }
    }
}

impl From<program::Error> for Failure {
    fn from(error: program::Error) -> Self {
        use program::Error as E;
        let (kind, hint, lines) = match &error {
            E::NotInstalled { program } => (Kind::Other, Some(format!("install {}", program.shown())), Vec::new()),
            E::Failed { last_lines, .. } => (
                Kind::Other,
                Some("the lines above are its own: correct the cause, and repeat the command".to_owned()),
                last_lines.clone(),
            ),
            E::Run { .. } => (Kind::Other, Some("see whether it runs in a shell with `--version`".to_owned()), Vec::new()),
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
            E::Program(program::Error::Run { .. }) => (Kind::Other, "see whether `git --version` works in a shell".to_owned()),
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
                (Kind::Other, "it may have been removed there; use another repository that has the commit".to_owned())
            }
            E::Offline { .. } => (Kind::Other, "repeat the command without `--offline`".to_owned()),
            E::Mirror { .. } => (Kind::Other, "it is a cache: you can remove it".to_owned()),
            E::Scratch { .. } => (Kind::Other, "set `TMPDIR` to a directory that you can write".to_owned()),
        };
        Self::new(kind, error).hint(hint)
    }
}
