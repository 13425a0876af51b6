//! Who we are to a registry, from the files that `podman login`, `skopeo login` and `docker login` write.
//!
//! ```json
//! { "auths": { "ghcr.io": { "auth": "BASE64 OF user:password" }, "quay.io/team": { "identitytoken": "…" } },
//!   "credHelpers": { "gcr.io": "gcloud" },
//!   "credsStore": "secretservice" }
//! ```
//!
//! The first file that knows the registry counts, and in it the longest name that fits. `docker-credential-NAME` is run for the names
//! behind `credHelpers` and `credsStore`. What they say is never logged, and no error carries it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

use super::address::OciAddress;
use crate::path_error::PathError;
use crate::program;
use crate::program::{Attendance, Heard};
use crate::terminal_text::sanitize_line;

/// Such files have a few kilobytes.
const MAX_BYTES: u64 = 1 << 20;
/// What docker calls its own registry.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// In place of a user: the secret is a token that the token server takes.
const TOKEN_USER: &str = "<token>";

/// Where credentials are looked up.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The files, the first one first. One that does not exist is passed over.
    pub files: Vec<PathBuf>,
    /// What helpers get: `HOME`, `PATH`, and what they reach a keyring by.
    pub environment: Vec<(OsString, OsString)>,
}

/// What nobody should see.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    Password {
        user: String,
        secret: Secret,
    },
    /// For the token server, which gives a token for it that the registry takes.
    Identity(Secret),
    /// The registry itself takes it.
    Token(Secret),
}

impl Credentials {
    /// For messages.
    pub(super) fn user(&self) -> &str {
        match self {
            Self::Password { user, .. } => user,
            Self::Identity(_) | Self::Token(_) => "the holder of a token",
        }
    }
}

/// Why credentials cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BadCredentials {
    #[error(transparent)]
    Io(#[from] PathError),
    /// It is not what `podman login` writes. What is in it is not shown.
    #[error("cannot read credentials from `{}`: {reason}", path.display())]
    Form { path: PathBuf, reason: String },
    #[error("cannot get credentials for `{host}` from `{helper}`")]
    Helper {
        host: String,
        helper: String,
        #[source]
        source: program::Error,
    },
    #[error("`{helper}` gives no credentials for `{host}` that can be read")]
    HelperAnswer { host: String, helper: String },
}

impl BadCredentials {
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Io(_) | Self::Form { .. } => "log in again, or name another file: `REGISTRY_AUTH_FILE=FILE`",
            Self::Helper { source: program::Error::NotInstalled { .. }, .. } => {
                "install it, or take it out of `credHelpers` and `credsStore` in the file of credentials"
            }
            Self::Helper { .. } | Self::HelperAnswer { .. } => {
                "see what it says in a shell: `echo HOST | docker-credential-NAME get`"
            }
        }
        .to_owned()
    }
}

impl Sources {
    /// The credentials for a repository; `None` if nothing knows its registry.
    pub(super) fn of(&self, place: &OciAddress, cancelled: &dyn Fn() -> bool) -> Result<Option<Credentials>, BadCredentials> {
        let names = names(place);
        for path in &self.files {
            let Some(file) = read(path)? else { continue };
            let found = match entry(&file, &names) {
                Entry::Helper(helper, host) => self.ask(&helper, &host, cancelled)?,
                Entry::Here(value) => Some(written(value, path)?),
                Entry::Nothing => None,
            };
            if found.is_some() {
                tracing::debug!(path = %path.display(), registry = place.host, "credentials found");
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Asks a helper. It knows a registry, or not.
    fn ask(&self, name: &str, host: &str, cancelled: &dyn Fn() -> bool) -> Result<Option<Credentials>, BadCredentials> {
        let helper = format!("docker-credential-{}", sanitize_line(name.as_bytes(), 80));
        // A name with a slash would be a path.
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        let bad = || BadCredentials::HelperAnswer { host: host.to_owned(), helper: helper.clone() };
        if name.is_empty() || !is_name {
            return Err(bad());
        }
        let mut command = Command::new(&helper);
        command.arg("get").env_clear().envs(self.environment.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str())));
        let attendance = Attendance { heard: Heard::Stderr, line: &mut |_| {}, cancelled, reaches_out: true };
        let failed = |source| BadCredentials::Helper { host: host.to_owned(), helper: helper.clone(), source };
        let ended = program::run(command, format!("{host}\n").as_bytes(), attendance).map_err(failed)?;
        if !ended.status.success() {
            // This is how it says that it has none; the words are the same in all of them.
            return if String::from_utf8_lossy(&ended.stdout).contains("credentials not found") {
                Ok(None)
            } else {
                Err(failed(ended.ok().err().unwrap_or(program::Error::Interrupted)))
            };
        }
        let answer: Value = serde_json::from_slice(&ended.stdout).map_err(|_| bad())?;
        let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
        match (text("Username"), text("Secret")) {
            (Some(user), Some(secret)) if user == TOKEN_USER => Ok(Some(Credentials::Identity(Secret(secret)))),
            (Some(user), Some(secret)) => Ok(Some(Credentials::Password { user, secret: Secret(secret) })),
            _ => Err(bad()),
        }
    }
}

/// Where a file says that credentials are.
enum Entry<'a> {
    /// A helper, and what it calls the registry.
    Helper(String, String),
    Here(&'a Value),
    Nothing,
}

fn entry<'a>(file: &'a Value, names: &Names) -> Entry<'a> {
    let helper = |value: Option<&Value>| value.and_then(Value::as_str).filter(|name| !name.is_empty()).map(str::to_owned);
    let helpers = file.get("credHelpers");
    if let Some(name) = names.registry.iter().find_map(|registry| helper(helpers?.get(registry))) {
        return Entry::Helper(name, names.asked.clone());
    }
    let auths = file.get("auths").and_then(Value::as_object);
    let of = |wanted: &str| {
        // docker writes addresses here, podman names.
        let found = auths?.iter().find(|(key, value)| plain(key) == wanted && is_something(value));
        found.map(|(_, value)| value)
    };
    if let Some(value) = names.spaces.iter().chain(&names.registry).find_map(|name| of(name)) {
        return Entry::Here(value);
    }
    helper(file.get("credsStore")).map_or(Entry::Nothing, |name| Entry::Helper(name, names.asked.clone()))
}

/// docker leaves an empty entry where a helper has the secret.
fn is_something(value: &Value) -> bool {
    ["auth", "username", "identitytoken", "registrytoken"]
        .iter()
        .any(|name| value.get(name).and_then(Value::as_str).is_some_and(|text| !text.is_empty()))
}

/// `https://ghcr.io/v2/` is `ghcr.io`.
fn plain(key: &str) -> String {
    match key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")) {
        Some(address) => address.split('/').next().unwrap_or_default().to_ascii_lowercase(),
        None => key.to_ascii_lowercase(),
    }
}

/// What a repository is called in such files.
struct Names {
    /// `HOST/a/b`, `HOST/a`: the longest first.
    spaces: Vec<String>,
    /// Names of the registry.
    registry: Vec<String>,
    /// What a helper is asked for.
    asked: String,
}

fn names(place: &OciAddress) -> Names {
    let mut spaces = Vec::new();
    let mut space = format!("{}/{}", place.host, place.repository);
    while space != place.host {
        spaces.push(space.clone());
        space.truncate(space.rfind('/').unwrap_or(0));
    }
    let (mut registry, mut asked) = (vec![place.host.clone()], place.host.clone());
    if place.host == "docker.io" {
        registry.push("index.docker.io".to_owned());
        registry.push(DOCKER_HUB.to_owned());
        DOCKER_HUB.clone_into(&mut asked);
    }
    Names { spaces, registry, asked }
}

/// The file, if it is there.
fn read(path: &Path) -> Result<Option<Value>, BadCredentials> {
    let form = |reason: String| BadCredentials::Form { path: path.to_owned(), reason };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(PathError::new("read credentials from", path, error).into()),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(PathError::of("read credentials from", path))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(form(format!("it is larger than {MAX_BYTES} bytes")));
    }
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    // The words of `serde_json` may quote what is there.
    serde_json::from_slice(&bytes).map(Some).map_err(|error| form(format!("line {} is not JSON", error.line())))
}

/// An entry of `auths`.
fn written(value: &Value, path: &Path) -> Result<Credentials, BadCredentials> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let form = |reason: &str| BadCredentials::Form { path: path.to_owned(), reason: reason.to_owned() };
    if let Some(token) = text("identitytoken") {
        return Ok(Credentials::Identity(Secret(token.to_owned())));
    }
    if let Some(token) = text("registrytoken") {
        return Ok(Credentials::Token(Secret(token.to_owned())));
    }
    if let Some(user) = text("username") {
        let secret = Secret(text("password").unwrap_or_default().to_owned());
        return Ok(Credentials::Password { user: user.to_owned(), secret });
    }
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let auth = text("auth").unwrap_or_default().trim();
    let pair = GeneralPurpose::new(&STANDARD, lenient).decode(auth).ok().and_then(|pair| String::from_utf8(pair).ok());
    let pair = pair.ok_or_else(|| form("an `auth` is not base64"))?;
    let (user, secret) = pair.trim_end_matches('\0').split_once(':').ok_or_else(|| form("an `auth` has no `:`"))?;
    if user == TOKEN_USER {
        return Ok(Credentials::Identity(Secret(secret.to_owned())));
    }
    Ok(Credentials::Password { user: user.to_owned(), secret: Secret(secret.to_owned()) })
}

/// The usual files: `REGISTRY_AUTH_FILE` alone if it is set.
pub(crate) fn usual_files(variable: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(file) = variable("REGISTRY_AUTH_FILE") {
        return vec![file];
    }
    let home = variable("HOME");
    let below = |name: &str| home.as_deref().map(|home| home.join(name));
    let config = variable("XDG_CONFIG_HOME").filter(|dir| dir.is_absolute()).or_else(|| below(".config"));
    let docker = variable("DOCKER_CONFIG").or_else(|| below(".docker"));
    let file = |dir: Option<PathBuf>, name: &str| dir.map(|dir| dir.join(OsStr::new(name)));
    let runtime = variable("XDG_RUNTIME_DIR").filter(|dir| dir.is_absolute());
    [file(runtime, "containers/auth.json"), file(config, "containers/auth.json"), file(docker, "config.json")]
        .into_iter()
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn place(text: &str) -> OciAddress {
        text.parse::<super::super::ImageAddress>().unwrap().place
    }

    fn password(user: &str, secret: &str) -> Credentials {
        Credentials::Password { user: user.to_owned(), secret: Secret(secret.to_owned()) }
    }

    /// A directory with files of credentials and helpers.
    struct Desk {
        dir: tempfile::TempDir,
        sources: Sources,
    }

    impl Desk {
        fn new(files: &[&str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let mut sources = Sources::default();
            for (number, text) in files.iter().enumerate() {
                let path = dir.path().join(format!("{number}.json"));
                fs::write(&path, text).unwrap();
                sources.files.push(path);
            }
            let path = format!("{}:/usr/bin:/bin", dir.path().display());
            sources.environment.push(("PATH".into(), path.into()));
            Self { dir, sources }
        }

        fn helper(&self, name: &str, script: &str) {
            let path = self.dir.path().join(format!("docker-credential-{name}"));
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }

        fn of(&self, address: &str) -> Result<Option<Credentials>, BadCredentials> {
            self.sources.of(&place(address), &|| false)
        }
    }

    #[test]
    fn the_longest_name_of_the_first_file_that_knows_the_registry() {
        let first = r#"{"auths": {"a.org/team": {"auth": "dGVhbTpzZWNyZXQ="}, "a.org": {"auth": "YTpi"}, "empty.org": {}}}"#;
        let second = r#"{"auths": {"a.org": {"auth": "eDp5"}, "https://b.org/v1/": {"auth": "YjpjOmQ"}, "empty.org": {"username": "u", "password": "p"},
            "https://index.docker.io/v1/": {"auth": "aHViOnB3"}, "id.org": {"identitytoken": "t"}}}"#;
        let desk = Desk::new(&[first, second]);
        let table = [
            ("oci://a.org/team/x", Some(password("team", "secret"))),
            ("oci://a.org/team", Some(password("team", "secret"))),
            ("oci://a.org/teams", Some(password("a", "b"))),
            ("oci://b.org/x", Some(password("b", "c:d"))),
            ("oci://empty.org/x", Some(password("u", "p"))),
            ("oci://docker.io/x/y", Some(password("hub", "pw"))),
            ("oci://id.org/x", Some(Credentials::Identity(Secret("t".into())))),
            ("oci://a.org:5000/x", None),
            ("oci://c.org/x", None),
        ];
        for (address, expected) in table {
            assert_eq!(desk.of(address).unwrap(), expected, "{address}");
        }
    }

    #[test]
    fn helpers_are_asked() {
        let text = r#"{"auths": {"store.org": {}}, "credHelpers": {"one.org": "one", "none.org": "none", "token.org": "token",
            "bad.org": "bad", "gone.org": "gone", "path.org": "../x"}, "credsStore": "store"}"#;
        let desk = Desk::new(&[text]);
        desk.helper("one", r#"[ "$1" = get ] && read host && echo "{\"Username\": \"me@$host\", \"Secret\": \"s\"}""#);
        desk.helper("none", "echo credentials not found in native keychain; exit 1");
        desk.helper("token", r#"echo '{"Username": "<token>", "Secret": "t"}'"#);
        desk.helper("bad", "echo 'secret' ; echo 'keyring is locked' >&2; exit 1");
        desk.helper("store", r#"read host; echo "{\"Username\": \"stored\", \"Secret\": \"$host\"}""#);
        assert_eq!(desk.of("oci://one.org/x").unwrap(), Some(password("me@one.org", "s")));
        assert_eq!(desk.of("oci://none.org/x").unwrap(), None);
        assert_eq!(desk.of("oci://token.org/x").unwrap(), Some(Credentials::Identity(Secret("t".into()))));
        assert_eq!(desk.of("oci://store.org/x").unwrap(), Some(password("stored", "store.org")));
        assert_eq!(desk.of("oci://docker.io/x").unwrap(), Some(password("stored", DOCKER_HUB)));
        let words = |address: &str| {
            let error = desk.of(address).unwrap_err();
            let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            format!("{error}; {source}; {error:?}")
        };
        assert!(
            words("oci://gone.org/x")
                .starts_with("cannot get credentials for `gone.org` from `docker-credential-gone`; cannot find")
        );
        assert!(words("oci://bad.org/x").contains("keyring is locked"));
        assert!(!words("oci://bad.org/x").contains("secret"));
        assert_eq!(
            desk.of("oci://path.org/x").unwrap_err().to_string(),
            "`docker-credential-../x` gives no credentials for `path.org` that can be read"
        );
    }

    #[test]
    fn nothing_of_a_bad_file_is_shown() {
        let table = [
            ("{\"auths\": {\"a.org\": \n secret}}", "line 2 is not JSON"),
            (r#"{"auths": {"a.org": {"auth": "sec%ret"}}}"#, "an `auth` is not base64"),
            (r#"{"auths": {"a.org": {"auth": "c2VjcmV0"}}}"#, "an `auth` has no `:`"),
        ];
        for (text, expected) in table {
            let desk = Desk::new(&[text]);
            let error = desk.of("oci://a.org/x").unwrap_err();
            assert!(error.to_string().ends_with(expected), "{error}");
            assert!(!format!("{error:?}").contains("sec"), "{error:?}");
        }
        let mut desk = Desk::new(&["", "{}", "[]"]);
        desk.sources.files.push("/nonexistent/auth.json".into());
        assert_eq!(desk.of("oci://a.org/x").unwrap(), None);
        assert_eq!(format!("{:?}", password("me", "secret")), r#"Password { user: "me", secret: … }"#);
    }

    #[test]
    fn the_usual_files() {
        let of = |set: &[(&str, &str)]| {
            let set: Vec<(String, OsString)> = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
            let files = usual_files(&move |name| set.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()));
            files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(&[("HOME", "/h")]), "/h/.config/containers/auth.json /h/.docker/config.json");
        assert_eq!(
            of(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/run/user/1"), ("XDG_CONFIG_HOME", "/c"), ("DOCKER_CONFIG", "/d")]),
            "/run/user/1/containers/auth.json /c/containers/auth.json /d/config.json"
        );
        assert_eq!(of(&[("HOME", "/h"), ("REGISTRY_AUTH_FILE", "/a.json")]), "/a.json");
        assert_eq!(of(&[]), "");
    }
}
