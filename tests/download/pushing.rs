//! A repository of a real registry.

use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gentoomuch::internals::download::{Downloader, Settings};
use gentoomuch::internals::progress::Silent;
use gentoomuch::internals::registry::{Access, Address, Blob, Error, Repository, Sources, open};
use sha2::{Digest as _, Sha256};

use crate::registry::{Kind, PASSWORD, Registry};
use crate::release::skip;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// As who, and how.
pub(crate) struct Desk {
    dir: tempfile::TempDir,
    pub(crate) settings: Settings,
    pub(crate) sources: Sources,
}

impl Desk {
    pub(crate) fn new() -> Self {
        // No server counts as stalled because this machine is busy, and attempts follow one another at once.
        let settings = Settings {
            stall_timeout: Duration::from_hours(1),
            connect_timeout: Duration::from_mins(1),
            pause: Duration::from_millis(10),
            ..Settings::default()
        };
        Self { dir: tempfile::tempdir().unwrap(), settings, sources: Sources::default() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn open(&self, address: &str) -> Box<dyn Repository + '_> {
        self.open_until(address, || false)
    }

    pub(crate) fn open_until(
        &self,
        address: &str,
        cancelled: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Box<dyn Repository + '_> {
        let address: Address = address.parse().unwrap();
        let downloader = Downloader::new(self.settings.clone(), Arc::new(cancelled));
        open(&address, &Access { downloader, credentials: &self.sources, observer: &Silent })
    }

    /// A file and what names it.
    pub(crate) fn blob(&self, bytes: &[u8]) -> (Blob, File) {
        let blob = blob(bytes);
        let path = self.path(&blob.digest);
        fs::write(&path, bytes).unwrap();
        (blob, File::open(path).unwrap())
    }
}

pub(crate) fn blob(bytes: &[u8]) -> Blob {
    Blob { digest: digest(bytes), size: bytes.len() as u64 }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Not the same anywhere.
pub(crate) fn content(bytes: u32) -> Vec<u8> {
    (0..bytes.div_ceil(4)).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).take(bytes as usize).collect()
}

/// Words of an error with those of its causes.
pub(crate) fn words(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text += &format!("; {error}");
        source = error.source();
    }
    text
}

fn registry(kind: Kind) -> Option<Registry> {
    Registry::new(kind).map_err(|why| skip(&why)).ok()
}

/// A manifest whose configuration is `config`, with an annotation.
fn manifest(config: &Blob, layers: &[&Blob], word: &str) -> Vec<u8> {
    let descriptor = |kind: &str, blob: &Blob| serde_json::json!({"mediaType": kind, "digest": blob.digest, "size": blob.size});
    let layers: Vec<_> = layers.iter().map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar+zstd", layer)).collect();
    let config = descriptor("application/vnd.oci.image.config.v1+json", config);
    let value = serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers, "annotations": {"word": word}});
    serde_json::to_vec(&value).unwrap()
}

fn set(tags: &[&str]) -> BTreeSet<String> {
    tags.iter().map(|tag| (*tag).to_owned()).collect()
}

#[test]
fn what_is_pushed_comes_back() {
    let Some(registry) = registry(Kind::Secure) else { return };
    let mut desk = Desk::new();
    desk.settings.authorities = vec![registry.authority()];
    desk.sources.files = vec![registry.login(PASSWORD)];
    let place = desk.open(&format!("oci://{}/team/states", registry.host()));
    // Nothing was ever pushed.
    assert_eq!(place.tags().unwrap(), Vec::<String>::new());
    assert_eq!(place.has(&["a".into(), "b".into()]).unwrap(), set(&[]));
    assert_eq!(place.manifest("a").unwrap(), None);
    assert!(!place.remove("a").unwrap());

    let contents = [content(0), content(1), content(3_000_001)];
    let blobs: Vec<(Blob, File)> = contents.iter().map(|bytes| desk.blob(bytes)).collect();
    for (blob, file) in &blobs {
        assert!(!place.has_blob(blob).unwrap());
        place.put_blob(blob, file).unwrap();
        assert!(place.has_blob(blob).unwrap());
        place.put_blob(blob, file).unwrap();
    }
    for ((blob, _), bytes) in blobs.iter().zip(&contents) {
        let target = desk.path("back");
        place.get_blob(blob, &target).unwrap();
        assert!(fs::read(&target).unwrap() == *bytes);
        fs::remove_file(target).unwrap();
    }
    // One of another size is not it.
    let liar = Blob { size: 5, ..blobs[2].0.clone() };
    assert!(!place.has_blob(&liar).unwrap());
    let error = place.get_blob(&liar, &desk.path("back")).unwrap_err();
    assert!(matches!(error, Error::WrongDigest { .. }), "{error:?}");

    let bytes = manifest(&blobs[1].0, &[&blobs[2].0], "x");
    place.put_manifest("a", MANIFEST, &bytes).unwrap();
    assert_eq!(place.manifest("a").unwrap(), Some(bytes.clone()));
    assert_eq!(place.manifest(&digest(&bytes)).unwrap(), Some(bytes));
    assert_eq!((place.tags().unwrap(), place.has(&["a".into(), "b".into()]).unwrap()), (vec!["a".to_owned()], set(&["a"])));
    // Its blobs are not there.
    let error = place.put_manifest("b", MANIFEST, &manifest(&blob(b"no"), &[], "x")).unwrap_err();
    assert!(matches!(error, Error::NotAccepted { .. }) && words(&error).contains("did not accept manifest `b`"), "{error:?}");
    let error = place.get_blob(&blob(b"no"), &desk.path("back")).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    assert!(place.remove("a").unwrap());
    assert_eq!((place.manifest("a").unwrap(), place.remove("a").unwrap()), (None, false));
    // Nothing lies about but what was asked for.
    assert!(!desk.path("back").exists() && !desk.path("back.fetched").exists());
}

#[test]
fn who_may_not() {
    let Some(registry) = registry(Kind::Secure) else { return };
    let address = format!("oci://{}/states", registry.host());
    let mut desk = Desk::new();
    let fails = |desk: &Desk, address: &str| {
        let error = desk.open(address).tags().unwrap_err();
        (words(&error).replace(&registry.port.to_string(), "PORT"), error)
    };
    // An authority that nobody knows here. http is no way around it.
    let other = tempfile::tempdir().unwrap();
    if let Err(why) = crate::registry::certificates(other.path(), "DNS:localhost") {
        return skip(&why);
    }
    desk.settings.authorities = vec![other.path().join("ca.pem")];
    let (text, _) = fails(&desk, &address);
    assert!(text.starts_with("cannot ask `oci://127.0.0.1:PORT/states`; cannot make a secure connection: "), "{text}");
    desk.settings.authorities = vec![registry.authority()];
    let (text, _) = fails(&desk, &format!("oci+http://{}/states", registry.host()));
    assert!(text.starts_with("`oci+http://127.0.0.1:PORT/states` does not answer as a registry does: it says 400"), "{text}");

    let (text, error) = fails(&desk, &address);
    assert_eq!(text, "`oci://127.0.0.1:PORT/states` refuses access without a login");
    assert!(matches!(error, Error::Refused { forbidden: false, .. }));
    desk.sources.files = vec![registry.login("wrong")];
    let (text, error) = fails(&desk, &address);
    assert_eq!(text, "`oci://127.0.0.1:PORT/states` refuses access to `maker`");
    assert!(!format!("{error:?}").contains("wrong"));
    desk.sources.files = vec![registry.login(PASSWORD)];
    assert_eq!(desk.open(&address).tags().unwrap(), Vec::<String>::new());
    desk.settings.offline = true;
    let (text, _) = fails(&desk, &address);
    assert_eq!(text, "cannot ask `oci://127.0.0.1:PORT/states`, since downloads are switched off");
}

/// Hands connections on to a registry. The first one that brings more than `bytes` is cut there.
fn cutting(registry: &Registry, bytes: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, target) = (listener.local_addr().unwrap().port(), registry.host());
    std::thread::spawn(move || {
        let done = Arc::new(AtomicBool::new(false));
        for here in listener.incoming() {
            let (mut here, mut there) = (here.unwrap(), TcpStream::connect(&target).unwrap());
            let (mut back, mut front) = (there.try_clone().unwrap(), here.try_clone().unwrap());
            std::thread::spawn(move || drop(std::io::copy(&mut back, &mut front)));
            let done = Arc::clone(&done);
            std::thread::spawn(move || {
                let (mut piece, mut sum) = (vec![0; 64 << 10], 0);
                while let Ok(count) = here.read(&mut piece) {
                    sum += count;
                    let cut = sum > bytes && !done.swap(true, Ordering::SeqCst);
                    if count == 0 || cut || there.write_all(&piece[..count]).is_err() {
                        break;
                    }
                }
                drop(there.shutdown(Shutdown::Both));
                drop(here.shutdown(Shutdown::Both));
            });
        }
    });
    port
}

#[test]
fn without_tls_on_this_machine() {
    let Some(registry) = registry(Kind::Open) else { return };
    let mut desk = Desk::new();
    for authorities in [Vec::new(), vec![PathBuf::from("/etc/ssl/certs/ca-certificates.crt")]] {
        desk.settings.authorities = authorities.into_iter().filter(|path| Path::new(path).exists()).collect();
        let place = desk.open(&format!("oci://{}/states", registry.host()));
        let (blob, file) = desk.blob(b"config");
        place.put_blob(&blob, &file).unwrap();
    }
    // All of them come in one answer, whatever was asked for.
    let place = desk.open(&format!("oci://localhost:{}/states", registry.port));
    let tags: Vec<String> = (0..301).map(|number| format!("key-{number:03}")).collect();
    for tag in ["key-000", "key-007"] {
        place.put_manifest(tag, MANIFEST, &manifest(&blob(b"config"), &[], tag)).unwrap();
    }
    // It takes a tenth of a second for each: so the rest is put where it would put them.
    let held = registry.path("root/docker/registry/v2/repositories/states/_manifests/tags");
    let link = fs::read(held.join("key-000/current/link")).unwrap();
    for tag in &tags {
        fs::create_dir_all(held.join(tag).join("current")).unwrap();
        if tag != "key-007" {
            fs::write(held.join(tag).join("current/link"), &link).unwrap();
        }
    }
    assert_eq!(place.tags().unwrap(), tags);
    let asked: Vec<String> = (200..500).map(|number| format!("key-{number:03}")).collect();
    assert_eq!(place.has(&asked).unwrap().into_iter().collect::<Vec<_>>(), tags[200..]);
    // The others stay.
    assert!(place.remove("key-007").unwrap());
    assert_eq!(place.tags().unwrap().len(), 300);
    // An upload that is cut.
    let bytes = content(20_000_000);
    let (blob, file) = desk.blob(&bytes);
    let cut = desk.open(&format!("oci://127.0.0.1:{}/states", cutting(&registry, 5_000_000)));
    cut.put_blob(&blob, &file).unwrap();
    place.get_blob(&blob, &desk.path("back")).unwrap();
    assert!(fs::read(desk.path("back")).unwrap() == bytes);
}
