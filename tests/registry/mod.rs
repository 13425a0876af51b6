//! A real registry on loopback: Debian's `docker-registry`, with TLS by an authority of its own and a password, or without both.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The one user, and how its password is written down.
pub(crate) const USER: &str = "maker";
pub(crate) const PASSWORD: &str = "s3cret:x";
const HTPASSWD: &str = "maker:$2b$04$PhjgK6BGqlsnspPc/UpQS.NmZSUnfSWHQtcq1W4hy1KXktOqcQUZa\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// TLS and a password.
    Secure,
    /// http, and anybody may do everything.
    Open,
}

/// Runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Registry {
    child: Child,
    dir: tempfile::TempDir,
    pub(crate) port: u16,
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Makes `ca.pem`, and `tls.pem` with `tls.key` for `names` (`DNS:localhost,IP:127.0.0.1`).
pub(crate) fn certificates(dir: &Path, names: &str) -> Result<(), String> {
    fs::write(dir.join("names"), format!("subjectAltName={names}\n")).unwrap();
    let script =
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca \
                      -addext basicConstraints=critical,CA:TRUE &&
             openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout tls.key -out tls.csr -subj /CN=tls &&
             openssl x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -days 2 -out tls.pem -extfile names";
    let made = Command::new("sh").args(["-c", script]).current_dir(dir).output().unwrap();
    if made.status.success() {
        Ok(())
    } else {
        Err(format!("openssl makes no certificates: {}", String::from_utf8_lossy(&made.stderr)))
    }
}

impl Registry {
    /// The error is why this host cannot have one.
    pub(crate) fn new(kind: Kind) -> Result<Self, String> {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let mut config = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  \
             delete: {{enabled: true}}\nhttp:\n  addr: 127.0.0.1:0\n  secret: tests\n",
            at("root")
        );
        if kind == Kind::Secure {
            certificates(dir.path(), "DNS:localhost,IP:127.0.0.1")?;
            fs::write(dir.path().join("htpasswd"), HTPASSWD).unwrap();
            config += &format!("  tls: {{certificate: {}, key: {}}}\n", at("tls.pem"), at("tls.key"));
            config += &format!("auth:\n  htpasswd: {{realm: tests, path: {}}}\n", at("htpasswd"));
        }
        fs::write(dir.path().join("config.yml"), config).unwrap();
        let mut command = Command::new("docker-registry");
        command.args(["serve", &at("config.yml")]).env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| format!("docker-registry cannot be run: {error}"))?;
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut registry = Self { child, dir, port: 0 };
        let (mut lines, mut log) = (stderr.lines(), String::new());
        // `… msg="listening on 127.0.0.1:35873, tls" …`
        while let Some(Ok(line)) = lines.next() {
            if let Some((_, rest)) = line.split_once("listening on 127.0.0.1:") {
                registry.port = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
                // It blocks when nobody reads what it says.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(registry);
            }
            log += &format!("{line}\n");
        }
        Err(format!("docker-registry does not start:\n{log}"))
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its authority's certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// A file of credentials, as `podman login` writes it.
    pub(crate) fn login(&self, password: &str) -> PathBuf {
        let script = format!("printf %s '{USER}:{password}' | base64 -w0");
        let auth = Command::new("sh").args(["-c", &script]).output().unwrap().stdout;
        let path = self.path(&format!("auth-{}.json", password.len()));
        let auth = String::from_utf8(auth).unwrap();
        fs::write(&path, format!(r#"{{"auths": {{"{}": {{"auth": "{auth}"}}}}}}"#, self.host())).unwrap();
        path
    }
}
