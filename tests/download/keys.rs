//! `keys fetch`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::registry::certificates;
use crate::release::{Home, Release, skip};
use crate::server::{Answer, Server};

/// Serves keys as a keyserver does, over HTTP.
fn keyserver(key: Vec<u8>) -> (Server, String) {
    let server = Server::new(move |asked| {
        if asked.target.starts_with("/pks/lookup?op=get&options=mr&search=0x") { Answer::whole(&key) } else { Answer::status(404) }
    });
    let address = format!("hkp://127.0.0.1:{}", server.port());
    (server, address)
}

#[test]
fn only_the_pinned_key_is_taken() {
    let Some(release) = Release::new() else { return };
    let Some(other) = Release::new() else { return };
    let key = fs::read(release.path("key.asc")).unwrap();
    let (_server, address) = keyserver([fs::read(other.path("key.asc")).unwrap(), key].concat());
    let home = Home::empty();
    let words = home.says(&["keys", "fetch", "--hkps", &address, &release.fingerprint], 4);
    let fingerprint = &release.fingerprint;
    let expected = format!(
        "error: the key {fingerprint} is not pinned\nhint: if you know that it is the right key, trust it: `gentoomuch keys trust \
         {fingerprint}`\n"
    );
    assert!(words.contains(&expected), "{words}");
    assert!(!home.path(".config/gentoomuch/keys").exists());

    home.says(&["keys", "trust", fingerprint], 0);
    let words = home.says(&["keys", "fetch", "--hkps", &address, fingerprint], 0);
    assert!(words.starts_with(&format!("stored {fingerprint} in `")), "{words}");
    assert!(words.contains(&format!("\n{fingerprint}  unlimited  Test <test@download.example>\n")), "{words}");
    let json = home.json(&["keys", "fetch", "--hkps", &address, fingerprint]);
    assert!(json.to_string().contains(fingerprint), "{json}");
    // The other key, which came with it, was not asked for.
    assert!(!home.says(&["keys", "ls"], 0).contains(&other.fingerprint));

    let (_server, address) = keyserver(fs::read(other.path("key.asc")).unwrap());
    let words = home.says(&["keys", "fetch", "--hkps", &address, fingerprint], 1);
    assert!(words.contains(&format!(": it has another key: {}\nhint: ", other.fingerprint)), "{words}");
    let (_server, address) = keyserver(b"no such key".to_vec());
    let words = home.says(&["keys", "fetch", "--hkps", &address, fingerprint], 1);
    assert!(words.contains(": not an OpenPGP public key\n"), "{words}");
    let words = home.says(&["keys", "fetch", "--offline", fingerprint], 1);
    let expected =
        format!("error: `key {fingerprint}` is not here, and downloads are switched off\nhint: repeat the command without");
    assert!(words.contains(&expected), "{words}");
}

#[test]
fn an_expired_copy_is_refreshed() {
    let Some(release) = Release::new() else { return };
    let fingerprint = &release.fingerprint;
    let root = release.path("");
    let server = Server::new(move |asked| Release::serve(&root, asked));
    let mirror = server.url("/");
    // A copy that expires at once.
    release.gpg(&["--quick-set-expire", fingerprint, "seconds=1"]);
    fs::write(release.path("key.asc"), release.gpg(&["--armor", "--export"])).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let home = Home::of(&release);
    let ls = |code| home.says(&["stage3", "ls", "amd64", "--mirror", &mirror], code);
    let words = ls(4);
    assert!(words.contains("signature good, key expired on "), "{words}");
    // What the key says of itself from now on.
    release.gpg(&["--quick-set-expire", fingerprint, "2099-01-01"]);
    let (_server, address) = keyserver(release.gpg(&["--armor", "--export"]));
    let words = home.says(&["keys", "fetch", "--hkps", &address, fingerprint], 0);
    assert!(words.starts_with(&format!("refreshed {fingerprint} in `")), "{words}");
    assert!(words.contains("  until 2099-01-01  "), "{words}");
    ls(0);
    // An older copy takes nothing away.
    let (_server, address) = keyserver(fs::read(release.path("key.asc")).unwrap());
    assert!(home.says(&["keys", "fetch", "--hkps", &address, fingerprint], 0).contains("  until 2099-01-01  "));
    ls(0);
}

/// A web server for `hosts`, and what its certificates are signed by.
struct Tls {
    child: Child,
    port: String,
    dir: tempfile::TempDir,
}

impl Drop for Tls {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Tls {
    fn new(hosts: &[&str]) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let names = hosts.iter().map(|host| format!("DNS:{host}")).collect::<Vec<_>>().join(",");
        if let Err(why) = certificates(dir.path(), &names) {
            skip(&why);
            return None;
        }
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/download/tls.py");
        let mut child = Command::new("python3")
            .arg(program)
            .args(["tls.pem", "tls.key"])
            .arg(&root)
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Some(Self { child, port: port.trim().to_owned(), dir })
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.dir.path().join("root").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn command(&self, home: &Home, args: &[&str]) -> Command {
        let mut command = home.command(args);
        command.env("https_proxy", format!("http://127.0.0.1:{}", self.port)).env("SSL_CERT_FILE", self.dir.path().join("ca.pem"));
        command
    }
}

/// `test` in a web key directory.
const HASH: &str = "iffe93qcsgp4c8ncbb378rxjo6cn9q6u";

#[test]
fn from_a_web_key_directory_through_tls_and_a_proxy() {
    let Some(release) = Release::new() else { return };
    let Some(tls) = Tls::new(&["openpgpkey.download.example", "download.example"]) else { return };
    let fingerprint = &release.fingerprint;
    let home = Home::empty();
    home.says(&["keys", "trust", fingerprint], 0);
    let args = ["keys", "fetch", "--wkd", "Test@Download.example", fingerprint];

    // Direct: the other host does not exist. Binary, as directories have keys.
    let key = release.gpg(&["--export"]);
    tls.write(&format!("download.example/.well-known/openpgpkey/hu/{HASH}"), &key);
    let words = Home::ended(tls.command(&home, &args).output().unwrap(), 0);
    assert!(words.starts_with(&format!("stored {fingerprint} ")), "{words}");
    assert!(words.contains("  asking openpgpkey.download.example for "), "{words}");

    // Advanced comes first.
    tls.write(&format!("openpgpkey.download.example/.well-known/openpgpkey/download.example/hu/{HASH}"), &key);
    let words = Home::ended(tls.command(&home, &args).output().unwrap(), 0);
    assert!(!words.contains("  asking download.example for "), "{words}");

    // Nobody vouches for the server.
    let mut command = tls.command(&home, &args);
    let empty = home.path("none.pem");
    fs::write(&empty, "").unwrap();
    let words = Home::ended(command.env("SSL_CERT_FILE", &empty).output().unwrap(), 1);
    assert!(words.contains("none.pem`: no certificate in it\n"), "{words}");
    let Some(stranger) = Tls::new(&["elsewhere.example"]) else { return };
    let mut command = tls.command(&home, &args);
    let words = Home::ended(command.env("SSL_CERT_FILE", stranger.dir.path().join("ca.pem")).output().unwrap(), 1);
    assert!(words.contains("cannot make a secure connection: "), "{words}");

    // From https to http nobody follows.
    let mirror = "https://download.example/downgrade?";
    let words = Home::ended(tls.command(&home, &["stage3", "ls", "--mirror", mirror]).output().unwrap(), 1);
    assert!(words.contains(": redirected from `https` to `http://127.0.0.1:9/`, which is refused\nhint: "), "{words}");
}
