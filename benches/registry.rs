//! Push and pull of an image beside `skopeo copy` of the same bytes, to and from Debian's docker-registry with TLS and a password.
//!
//!     cargo bench --bench registry [MIB [RUNS]]      an image of MIB (96) in three layers; medians of RUNS (5), taken in turn
//!
//! What both do: ask for what is there, send or fetch, verify, name. Ours brings a pulled blob to the disk before it has its name.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark may panic, and prints")]

use std::fs;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use gentoomuch::internals::download::{Downloader, Settings};
use gentoomuch::internals::progress::Silent;
use gentoomuch::internals::registry::{Access, Blob, Sources, open};
use sha2::{Digest as _, Sha256};

#[path = "../tests/registry/mod.rs"]
mod registry;

use registry::{Kind, PASSWORD, Registry};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// What a compressed layer begins with. skopeo compresses others, which is not what this is about.
const GZIP: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
/// As many as `export --to` sends at the same time.
const PARALLEL: usize = 4;

/// An image layout, as `oci:DIR:x` names it.
struct Layout {
    dir: PathBuf,
    manifest: Vec<u8>,
    blobs: Vec<Blob>,
}

fn blob_file(dir: &Path, blob: &Blob) -> PathBuf {
    dir.join("blobs/sha256").join(blob.digest.trim_start_matches("sha256:"))
}

impl Layout {
    fn new(dir: PathBuf, mib: usize) -> Self {
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        let add = |bytes: &[u8]| {
            let blob = Blob { digest: format!("sha256:{}", hex::encode(Sha256::digest(bytes))), size: bytes.len() as u64 };
            fs::write(blob_file(&dir, &blob), bytes).unwrap();
            blob
        };
        let mut state = 1u64;
        // Nobody can compress it.
        let mut noise = |bytes: usize| -> Vec<u8> {
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33).to_le_bytes()
            };
            (0..bytes.div_ceil(4)).flat_map(|_| next()[..4].to_vec()).collect()
        };
        let layers: Vec<Blob> =
            [mib / 2, mib / 3, mib - mib / 2 - mib / 3].map(|part| add(&[GZIP, &noise(part << 20)].concat())).into();
        let ids: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
        let config = serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}});
        let config = add(config.to_string().as_bytes());
        let descriptor = |kind: &str, blob: &Blob| serde_json::json!({"mediaType": kind, "digest": blob.digest, "size": blob.size});
        let described: Vec<_> = layers.iter().map(|layer| descriptor(LAYER, layer)).collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, &config), "layers": described,
        });
        let manifest = manifest.to_string().into_bytes();
        let mut entry = descriptor(MANIFEST, &add(&manifest));
        entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "x"});
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
        fs::write(dir.join("index.json"), serde_json::json!({"schemaVersion": 2, "manifests": [entry]}).to_string()).unwrap();
        let blobs = layers.into_iter().chain([config]).collect();
        Self { dir, manifest, blobs }
    }
}

/// Several at a time.
fn each(blobs: &[Blob], work: impl Fn(&Blob) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(blob);
                }
            });
        }
    });
}

struct Bench<'a> {
    kind: Kind,
    registry: &'a Registry,
    layout: &'a Layout,
    sources: Sources,
    place: PathBuf,
}

impl Bench<'_> {
    fn ours(&self, repository: &str, push: bool) {
        let authorities = if self.kind == Kind::Secure { vec![self.registry.authority()] } else { Vec::new() };
        let settings = Settings { authorities, ..Settings::default() };
        let downloader = Downloader::new(settings, Arc::new(|| false));
        let address = format!("oci://{}/{repository}", self.registry.host()).parse().unwrap();
        let place = open(&address, &Access { downloader, credentials: &self.sources, observer: &Silent });
        if push {
            each(&self.layout.blobs, |blob| place.put_blob(blob, &File::open(blob_file(&self.layout.dir, blob)).unwrap()).unwrap());
            place.put_manifest("x", MANIFEST, &self.layout.manifest).unwrap();
        } else {
            assert_eq!(place.manifest("x").unwrap().as_ref(), Some(&self.layout.manifest));
            let back = self.place.join("ours");
            fs::create_dir_all(back.join("blobs/sha256")).unwrap();
            each(&self.layout.blobs, |blob| place.get_blob(blob, &blob_file(&back, blob)).unwrap());
        }
    }

    fn skopeo(&self, repository: &str, push: bool) {
        let there = format!("docker://{}/{repository}:x", self.registry.host());
        let here = format!("oci:{}:x", if push { self.layout.dir.clone() } else { self.place.join("skopeo") }.display());
        let certificates = self.place.join("certs");
        fs::create_dir_all(&certificates).unwrap();
        if self.kind == Kind::Secure {
            fs::copy(self.registry.authority(), certificates.join("ca.crt")).unwrap();
        }
        let side = if push { "--dest-cert-dir" } else { "--src-cert-dir" };
        let mut command = Command::new("skopeo");
        // It remembers where blobs are, and would ask the registry to take them from there.
        command.env("HOME", self.place.join(format!("home of {repository}"))).args(["copy", "-q"]);
        match self.kind {
            Kind::Secure => command.arg("--authfile").arg(&self.sources.files[0]).arg(side).arg(certificates),
            Kind::Open => command.arg(format!("{}-tls-verify=false", side.trim_end_matches("-cert-dir"))),
        };
        command.args(if push { [here, there] } else { [there, here] });
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Milliseconds of one run.
    fn time(&self, run: usize, ours: bool, push: bool) -> u128 {
        let repository = format!("{}-{run}", if ours { "ours" } else { "skopeo" });
        for name in ["ours", "skopeo"] {
            drop(fs::remove_dir_all(self.place.join(name)));
        }
        // A registry shares blobs between repositories, and so a push would only look.
        if push {
            drop(fs::remove_dir_all(self.registry.path("root/docker/registry/v2/blobs")));
        }
        rustix::fs::sync();
        let since = Instant::now();
        if ours {
            self.ours(&repository, push);
        } else {
            self.skopeo(&repository, push);
        }
        since.elapsed().as_millis()
    }
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<usize>().ok());
    let (mib, runs) = (numbers.next().unwrap_or(96), numbers.next().unwrap_or(5));
    if Command::new("skopeo").arg("--version").output().is_err() {
        return println!("skopeo is not installed: left out");
    }
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path().join("layout"), mib);
    for kind in [Kind::Secure, Kind::Open] {
        let registry = match Registry::new(kind) {
            Ok(registry) => registry,
            Err(why) => return println!("left out: {why}"),
        };
        let sources = Sources { files: vec![registry.login(PASSWORD)], ..Sources::default() };
        let bench = Bench { kind, registry: &registry, layout: &layout, sources, place: dir.path().to_owned() };
        let (mut pushed, mut pulled) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for run in 0..runs {
            for (which, ours) in [(0, true), (1, false)] {
                pushed[which].push(bench.time(run, ours, true));
                pulled[which].push(bench.time(run, ours, false));
            }
        }
        for (what, [mut ours, mut skopeo]) in [("push", pushed), ("pull", pulled)] {
            ours.sort_unstable();
            skopeo.sort_unstable();
            let (ours, skopeo) = (ours[runs / 2], skopeo[runs / 2]);
            let ratio = ours as f64 / skopeo as f64;
            println!("{what} of {mib} MiB, {kind:?}: ours {ours} ms, skopeo copy {skopeo} ms, ours / skopeo = {ratio:.2}");
        }
    }
}
