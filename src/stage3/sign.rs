//! Signs with the user's `gpg`, which knows agents, smartcards and passphrases.
//!
//! One function starts `gpg`. Locale, environment and options are pinned, and standard input is never the terminal. The status lines for
//! programs come on standard error together with the messages; they begin with `[GNUPG:] `. The agent's own pinentry asks for a
//! passphrase. It finds the terminal by `GPG_TTY` in the environment that the caller passes in.

use std::ffi::{OsStr, OsString};
use std::io;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use super::fingerprint::Fingerprint;
use crate::terminal_text::sanitize_line;

/// How many of gpg's last messages an error has.
const LAST_LINES: usize = 8;

/// How to run `gpg`.
#[derive(Debug, Clone)]
pub struct Gpg {
    /// `gpg`, to be searched in `PATH`, or a path.
    pub program: PathBuf,
    /// Its whole environment: `HOME`, `GNUPGHOME`, `GPG_TTY`, `PATH`, and what pinentry needs (`DISPLAY`, …).
    pub environment: Vec<(OsString, OsString)>,
    /// The key to sign with, as for `--local-user`. Without it gpg takes its default key.
    pub key: Option<String>,
}

/// A secret key that can sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretKey {
    pub primary: Fingerprint,
    /// Its first user id.
    pub uid: Option<String>,
}

/// A signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Armoured signature, or the clear-signed document.
    pub bytes: Vec<u8>,
    /// The key or subkey that signed, according to gpg.
    pub fingerprint: Fingerprint,
}

/// Why there is no signature.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// gpg could not be started.
    #[error("cannot run `{program}`")]
    Start {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    /// gpg could not be written to or read from.
    #[error("lost the connection to `{program}`")]
    Pipe {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    /// No such key.
    #[error("gpg has no secret key{}", for_key(.key.as_deref()))]
    NoSecretKey { key: Option<String> },
    /// The key exists, but it is expired, revoked or disabled, or its secret part is elsewhere.
    #[error("gpg has no usable signing key{}: {reason}", for_key(.key.as_deref()))]
    Unusable {
        key: Option<String>,
        /// `expired`, `revoked`, …
        reason: &'static str,
    },
    /// The user closed the pinentry.
    #[error("the passphrase was not entered")]
    Cancelled { last_lines: Vec<String> },
    /// There is no terminal or no pinentry, so gpg cannot ask for the passphrase.
    #[error("gpg cannot ask for the passphrase of its key{}", for_key(.key.as_deref()))]
    CannotAsk { key: Option<String>, last_lines: Vec<String> },
    /// The passphrase was wrong.
    #[error("the passphrase was wrong")]
    BadPassphrase { last_lines: Vec<String> },
    /// gpg failed.
    #[error("`{argv}` failed with {status}")]
    Failed { argv: String, status: ExitStatus, last_lines: Vec<String> },
    /// gpg reported success but made no signature.
    #[error("`{argv}` made no signature")]
    Nothing { argv: String, last_lines: Vec<String> },
}

fn for_key(key: Option<&str>) -> String {
    key.map(|key| format!(" `{key}`")).unwrap_or_default()
}

impl SignError {
    /// gpg's last messages without terminal escapes. Empty if there are none.
    pub fn last_lines(&self) -> &[String] {
        match self {
            Self::Cancelled { last_lines }
            | Self::CannotAsk { last_lines, .. }
            | Self::BadPassphrase { last_lines }
            | Self::Failed { last_lines, .. }
            | Self::Nothing { last_lines, .. } => last_lines,
            _ => &[],
        }
    }

    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Start { .. } => Some("install GnuPG, or go without a signature with `--no-sign`"),
            Self::NoSecretKey { key: None } => Some(
                "make a key with `gpg --quick-generate-key 'NAME <MAIL>' ed25519 sign never`, or go without a signature with `--no-sign`",
            ),
            Self::NoSecretKey { .. } | Self::Unusable { .. } => {
                Some("put the fingerprint of a key that can sign into `env/sign_key`, or go without a signature with `--no-sign`")
            }
            Self::Cancelled { .. } | Self::BadPassphrase { .. } => Some("run the command again; everything built so far is kept"),
            Self::CannotAsk { .. } => Some(
                "run the command in a terminal, or give gpg-agent the passphrase first (`gpg --clearsign` asks for it), or sign \
                 with a key without a passphrase",
            ),
            Self::Failed { .. } => Some("correct what gpg complains about, or go without a signature with `--no-sign`"),
            _ => None,
        }
    }
}

/// The result of a run of gpg.
#[derive(Debug)]
struct Run {
    argv: String,
    status: ExitStatus,
    stdout: Vec<u8>,
    /// Status lines, without their prefix.
    statuses: Vec<String>,
    last_lines: Vec<String>,
}

impl Gpg {
    /// Checks that there is a key to sign with, without asking for a passphrase. Called before a long build.
    ///
    /// Without a configured key this is the first one that can sign. That is gpg's default, unless `gpg.conf` says otherwise.
    pub fn secret_key_available(&self) -> Result<SecretKey, SignError> {
        let mut arguments = vec!["--list-secret-keys".into(), "--with-colons".into(), "--fixed-list-mode".into(), "--".into()];
        arguments.extend(self.key.as_ref().map(OsString::from));
        let run = self.run(&arguments, None)?;
        if !run.status.success() && self.key.is_none() {
            return Err(run.failed());
        }
        let listing = String::from_utf8_lossy(&run.stdout);
        let mut unusable = None;
        for key in listed_keys(&listing) {
            match key.problem {
                None => return Ok(SecretKey { primary: key.primary, uid: key.uid }),
                Some(problem) => unusable = unusable.or(Some(problem)),
            }
        }
        Err(match unusable {
            Some(reason) => SignError::Unusable { key: self.key.clone(), reason },
            None => SignError::NoSecretKey { key: self.key.clone() },
        })
    }

    /// Signs a text that nobody needs. So a problem with the key shows before a long build, and gpg asks for the passphrase while the
    /// user is still there.
    pub fn try_out(&self) -> Result<(), SignError> {
        self.sign(&["--detach-sign".as_ref()], Some("gentoomuch tries whether this key can sign\n")).map(drop)
    }

    /// Whether signing would ask for a passphrase. It does not ask.
    pub fn asks(&self) -> Result<bool, SignError> {
        // With this mode gpg fails where it would ask for a passphrase.
        match self.sign(&["--pinentry-mode", "error", "--detach-sign"].map(AsRef::as_ref), Some("")) {
            Ok(_) => Ok(false),
            Err(SignError::CannotAsk { .. } | SignError::Cancelled { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Makes an armoured detached signature of the file.
    pub fn detach_sign(&self, file: &Path) -> Result<Signed, SignError> {
        self.sign(&["--armor".as_ref(), "--detach-sign".as_ref(), "--".as_ref(), file.as_os_str()], None)
    }

    /// Makes a clear-signed document of the text.
    pub fn clear_sign(&self, text: &str) -> Result<Signed, SignError> {
        self.sign(&["--clearsign".as_ref()], Some(text))
    }

    /// The armoured public key, for those who verify.
    pub fn public_key(&self, primary: &Fingerprint) -> Result<Vec<u8>, SignError> {
        // `export-minimal` leaves out the signatures of others on the key.
        let arguments = ["--armor", "--export-options", "export-minimal", "--export", "--"].map(OsString::from);
        let run = self.run(&[&arguments[..], &[format!("{primary}").into()]].concat(), None)?;
        match (run.status.success(), run.stdout.is_empty()) {
            (true, false) => Ok(run.stdout),
            (true, true) => Err(SignError::NoSecretKey { key: Some(primary.to_string()) }),
            (false, _) => Err(run.failed()),
        }
    }

    fn sign(&self, action: &[&OsStr], input: Option<&str>) -> Result<Signed, SignError> {
        // Pinned: `gpg.conf` may name another hash, such as SHA-1, which verifiers refuse.
        let mut arguments: Vec<OsString> = vec!["--digest-algo".into(), "SHA512".into(), "--output".into(), "-".into()];
        if let Some(key) = &self.key {
            arguments.extend(["--local-user".into(), key.into()]);
        }
        arguments.extend(action.iter().map(Into::into));
        let run = self.run(&arguments, input)?;
        if !run.status.success() {
            return Err(self.explain(run));
        }
        run.signed()
    }

    /// The only place where gpg is started.
    fn run(&self, arguments: &[OsString], input: Option<&str>) -> Result<Run, SignError> {
        const PINNED: [&str; 7] = ["--batch", "--no-tty", "--status-fd", "2", "--display-charset", "utf-8", "--no-greeting"];
        let program = || self.program.clone();
        let mut command = Command::new(&self.program);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value))).env("LC_ALL", "C");
        command.args(PINNED).args(arguments);
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let argv = std::iter::once(self.program.as_os_str()).chain(arguments.iter().map(OsString::as_os_str));
        let argv = argv.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
        tracing::debug!(argv, "running gpg");
        let mut child = command.spawn().map_err(|source| SignError::Start { program: program(), source })?;
        let stdin = child.stdin.take();
        let (output, written) = std::thread::scope(|scope| {
            // In a thread: gpg may wait until its output is read before it has read all of its input.
            let writer = crate::threads::scoped(scope, "write to gpg with", move || match (stdin, input) {
                (Some(mut stdin), Some(text)) => stdin.write_all(text.as_bytes()),
                _ => Ok(()),
            });
            // If there is no thread, gpg's input is closed and gpg ends.
            let output = child.wait_with_output();
            let written = match writer {
                Ok(writer) => writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                Err(error) => Err(error.into()),
            };
            (output, written)
        });
        let output = output.map_err(|source| SignError::Pipe { program: program(), source })?;
        // If gpg gives up early, it closes its input. Its own message is more useful than our write error.
        if output.status.success() {
            written.map_err(|source| SignError::Pipe { program: program(), source })?;
        }
        let (statuses, last_lines) = split_stderr(&String::from_utf8_lossy(&output.stderr));
        Ok(Run { argv, status: output.status, stdout: output.stdout, statuses, last_lines })
    }

    /// Why signing failed, as far as the status lines say.
    fn explain(&self, run: Run) -> SignError {
        // Codes of libgpg-error. The low 16 bits say what happened: 9 and 17 no key, 11 bad passphrase, 62 timeout, 85 no pinentry, 99
        // and 198 cancelled. The highest byte says where: 5 is pinentry, which then has no terminal.
        let code = run.statuses.iter().find_map(|status| status.strip_prefix("FAILURE sign ")?.trim().parse::<u32>().ok());
        match code.map(|code| (code >> 24 & 0x7f, code & 0xffff)) {
            Some((_, 62 | 99 | 198)) => SignError::Cancelled { last_lines: run.last_lines },
            Some((_, 9 | 17)) => SignError::NoSecretKey { key: self.key.clone() },
            Some((_, 11)) => SignError::BadPassphrase { last_lines: run.last_lines },
            Some((_, 85) | (5, _)) => SignError::CannotAsk { key: self.key.clone(), last_lines: run.last_lines },
            _ => run.failed(),
        }
    }
}

impl Run {
    fn signed(self) -> Result<Signed, SignError> {
        // SIG_CREATED <type> <algorithm> <hash> <class> <time> <fingerprint>
        let created = self.statuses.iter().find_map(|status| status.strip_prefix("SIG_CREATED "));
        match created.and_then(|created| created.split(' ').nth(5)).and_then(|word| word.parse().ok()) {
            Some(fingerprint) if !self.stdout.is_empty() => Ok(Signed { bytes: self.stdout, fingerprint }),
            _ => Err(SignError::Nothing { argv: self.argv, last_lines: self.last_lines }),
        }
    }

    fn failed(self) -> SignError {
        SignError::Failed { argv: self.argv, status: self.status, last_lines: self.last_lines }
    }
}

/// Separates gpg's status lines from its messages.
fn split_stderr(text: &str) -> (Vec<String>, Vec<String>) {
    let clean = |line: &str| sanitize_line(line.as_bytes(), 400);
    let (statuses, messages): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("[GNUPG:] "));
    let statuses = statuses.iter().map(|line| clean(line.trim_start_matches("[GNUPG:] "))).collect();
    let last = messages.len().saturating_sub(LAST_LINES);
    (statuses, messages[last..].iter().map(|line| clean(line)).collect())
}

#[derive(Debug, PartialEq, Eq)]
struct ListedKey {
    primary: Fingerprint,
    uid: Option<String>,
    /// Why it cannot sign. `None` if it can.
    problem: Option<&'static str>,
}

/// Reads a listing in colon format (GnuPG's `doc/DETAILS`): field 2 is the validity, 10 fingerprint or user id, 12 capabilities, 15 where
/// the secret part is (`#` means elsewhere).
fn listed_keys(listing: &str) -> Vec<ListedKey> {
    let mut keys: Vec<ListedKey> = Vec::new();
    let mut primary_next = false;
    for line in listing.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let field = |number: usize| fields.get(number - 1).copied().unwrap_or_default();
        match field(1) {
            "sec" => {
                primary_next = true;
                keys.push(ListedKey { primary: Fingerprint::from_bytes(&[0; 20]), uid: None, problem: problem(&fields) });
            }
            "ssb" => {
                if let Some(key) = keys.last_mut() {
                    // One subkey that can sign is enough, unless the primary key is void.
                    let void = matches!(key.problem, Some("revoked" | "expired" | "disabled" | "invalid"));
                    if !void && problem(&fields).is_none() {
                        key.problem = None;
                    }
                }
            }
            "fpr" if primary_next => {
                primary_next = false;
                match (keys.last_mut(), field(10).parse()) {
                    (Some(key), Ok(fingerprint)) => key.primary = fingerprint,
                    _ => drop(keys.pop()),
                }
            }
            "uid" => {
                if let Some(key) = keys.last_mut().filter(|key| key.uid.is_none()) {
                    key.uid = Some(sanitize_line(field(10).as_bytes(), 400));
                }
            }
            _ => {}
        }
    }
    keys
}

/// Why a primary key or subkey cannot sign.
fn problem(fields: &[&str]) -> Option<&'static str> {
    let field = |number: usize| fields.get(number - 1).copied().unwrap_or_default();
    let capabilities = field(12);
    match field(2).chars().next() {
        Some('r') => Some("revoked"),
        Some('e') => Some("expired"),
        Some('i') => Some("invalid"),
        Some('d') => Some("disabled"),
        _ if capabilities.contains('D') => Some("disabled"),
        _ if !capabilities.contains('s') => Some("not made for signing"),
        _ if field(15) == "#" => Some("its secret part is not on this machine"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage3::test_gpg::TestGpg;

    fn gpg(test: &TestGpg, key: Option<&str>) -> Gpg {
        Gpg { program: "gpg".into(), environment: test.environment(), key: key.map(str::to_owned) }
    }

    fn ended(code: i32, stdout: &[u8], statuses: &[String]) -> Run {
        let status = std::os::unix::process::ExitStatusExt::from_raw(code << 8);
        Run { argv: "gpg".to_owned(), status, stdout: stdout.to_vec(), statuses: statuses.to_vec(), last_lines: Vec::new() }
    }

    #[test]
    fn a_signature_of_no_bytes_is_none() {
        let created = [format!("SIG_CREATED D 22 10 00 1 {}", "A".repeat(40))];
        assert_eq!(ended(0, b"signature", &created).signed().unwrap().bytes, b"signature");
        for run in [ended(0, b"", &created), ended(0, b"signature", &[])] {
            assert_eq!(run.signed().unwrap_err().to_string(), "`gpg` made no signature");
        }
    }

    #[test]
    fn why_gpg_did_not_sign_is_told() {
        let gpg = Gpg { program: "gpg".into(), environment: Vec::new(), key: None };
        let told = |code: u32| {
            let statuses = vec!["PINENTRY_LAUNCHED 1".to_owned(), format!("FAILURE sign {code}")];
            gpg.explain(ended(2, b"", &statuses))
        };
        // As gpg prints them: where it happened is in the highest byte.
        for code in [67_108_963, 83_886_179, 83_886_142, 198] {
            assert!(matches!(told(code), SignError::Cancelled { .. }), "{code}");
        }
        for code in [17, 67_108_873, 67_108_881] {
            assert!(matches!(told(code), SignError::NoSecretKey { .. }), "{code}");
        }
        assert!(matches!(told(67_108_875), SignError::BadPassphrase { .. }));
        for code in [67_108_949, 83_918_950, 83_886_081] {
            assert!(matches!(told(code), SignError::CannotAsk { .. }), "{code}");
        }
        for code in [0, 1, 67_108_865, 16_777_217] {
            assert!(matches!(told(code), SignError::Failed { .. }), "{code}");
        }
    }

    #[test]
    fn why_a_key_cannot_sign_is_told() {
        for (validity, capabilities, token, told) in [
            ("u", "scESC", "+", None),
            ("r", "scESC", "+", Some("revoked")),
            ("e", "scESC", "+", Some("expired")),
            ("i", "scESC", "+", Some("invalid")),
            ("d", "scESC", "+", Some("disabled")),
            ("u", "scESCD", "+", Some("disabled")),
            ("u", "cESC", "+", Some("not made for signing")),
            ("u", "scESC", "#", Some("its secret part is not on this machine")),
        ] {
            let fields = ["sec", validity, "255", "22", "", "", "", "", "", "", "", capabilities, "", "", token];
            assert_eq!(problem(&fields), told, "{fields:?}");
        }
    }

    #[test]
    fn a_key_is_found_and_signs() {
        let Some(test) = TestGpg::new() else { return };
        assert_eq!(gpg(&test, None).secret_key_available().unwrap_err().to_string(), "gpg has no secret key");
        let key = test.key("Someone <s@x>", "ed25519", "sign", "never");
        for wanted in [None, Some(key.as_str()), Some("s@x")] {
            let found = gpg(&test, wanted).secret_key_available().unwrap();
            assert_eq!((found.primary.as_str(), found.uid.as_deref()), (key.as_str(), Some("Someone <s@x>")));
        }
        let file = test.path("a file");
        std::fs::write(&file, "content").unwrap();
        let signed = gpg(&test, Some(&key)).detach_sign(&file).unwrap();
        assert!(signed.bytes.starts_with(b"-----BEGIN PGP SIGNATURE-----"));
        assert_eq!(signed.fingerprint.as_str(), key);
        let signed = gpg(&test, None).clear_sign("- a\nb\n").unwrap();
        assert!(signed.bytes.starts_with(b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n- - a\nb\n"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let Some(test) = TestGpg::new() else { return };
        let error = gpg(&test, Some("nobody@x")).secret_key_available().unwrap_err();
        assert_eq!(error.to_string(), "gpg has no secret key `nobody@x`");
        assert!(error.hint().unwrap().contains("--no-sign"));
        let error = gpg(&test, Some("nobody@x")).clear_sign("x").unwrap_err();
        assert_eq!(error.to_string(), "gpg has no secret key `nobody@x`");

        let old = test.key_at("20200101T000000", "Old <old@x>", "ed25519", "sign", "1y");
        let error = gpg(&test, Some(&old)).secret_key_available().unwrap_err();
        assert_eq!(error.to_string(), format!("gpg has no usable signing key `{old}`: expired"));
        let error = gpg(&test, Some(&old)).clear_sign("x").unwrap_err();
        assert!(!error.to_string().is_empty());

        let certify = test.key("Certify <c@x>", "ed25519", "cert", "never");
        let error = gpg(&test, Some(&certify)).secret_key_available().unwrap_err();
        assert_eq!(error.to_string(), format!("gpg has no usable signing key `{certify}`: not made for signing"));

        let missing = Gpg { program: "/nonexistent/gpg".into(), environment: Vec::new(), key: None };
        assert_eq!(missing.secret_key_available().unwrap_err().to_string(), "cannot run `/nonexistent/gpg`");

        let key = test.key("Someone <s@x>", "ed25519", "sign", "never");
        let error = gpg(&test, Some(&key)).detach_sign(&test.path("missing")).unwrap_err();
        assert!(matches!(&error, SignError::Failed { .. }), "{error:?}");
        assert!(error.last_lines().iter().any(|line| line.contains("No such file")), "{error:?}");
    }

    #[test]
    fn a_subkey_is_enough() {
        let fpr = "0123456789ABCDEF0123456789ABCDEF01234567";
        let listing = format!(
            "sec:u:255:22:89ABCDEF01234567:1:::u:::cESC:::#:::23::0:\nfpr:::::::::{fpr}:\nuid:u::::1::H::Some One::::::::::0:\n\
             ssb:u:255:22:89ABCDEF01234568:1::::::s:::+:::23:\nfpr:::::::::{}:\n",
            fpr.replace('7', "8")
        );
        let key = ListedKey { primary: fpr.parse().unwrap(), uid: Some("Some One".to_owned()), problem: None };
        assert_eq!(listed_keys(&listing), [key]);
        let expired = listing.replace("sec:u", "sec:e");
        assert_eq!(listed_keys(&expired)[0].problem, Some("expired"));
        let offline = listing.replace(":s:::+:", ":s:::#:");
        assert_eq!(listed_keys(&offline)[0].problem, Some("not made for signing"));
    }
}
