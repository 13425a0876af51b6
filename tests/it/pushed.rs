//! Images in a registry: what `export --to` pushes, skopeo reads.

use std::fs;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use gentoomuch::internals::download::{Downloader, Settings};
use gentoomuch::internals::progress::Silent;
use gentoomuch::internals::registry::{Access, Blob, Repository, Sources, open};
use serde_json::Value;

use crate::child::check;
use crate::host;
use crate::place::{Ran, run};
use crate::registry::{Kind, PASSWORD, Registry, USER};
use crate::tiny::{Tiny, sum, tiny};

/// A place with a state `first`, and a registry that knows us, unless this host cannot have one.
fn with_registry() -> Option<(Tiny, Registry)> {
    let tiny = tiny()?;
    let registry = Registry::new(Kind::Secure).map_err(|why| host::skip(&why)).ok()?;
    tiny.place.run(&["bootstrap", "--no-rebuild", "small", tiny.stage3.to_str().unwrap()]).ok();
    tiny.place.run(&["tag", "profile/small/upstream", "first"]).ok();
    Some((tiny, registry))
}

/// `export --no-sign first`, as who logs in with `password`.
fn export(tiny: &Tiny, registry: &Registry, password: &str, args: &[&str]) -> Ran {
    let mut command = tiny.place.command(&[&["export", "--no-sign", "first"], args].concat());
    run(command.env("REGISTRY_AUTH_FILE", registry.login(password)).env("SSL_CERT_FILE", registry.authority()))
}

/// Looks at a repository of the registry, without the program.
fn looking<T>(registry: &Registry, repository: &str, look: impl FnOnce(&dyn Repository) -> T) -> T {
    let downloader =
        Downloader::new(Settings { authorities: vec![registry.authority()], ..Settings::default() }, Arc::new(|| false));
    let credentials = Sources { files: vec![registry.login(PASSWORD)], ..Sources::default() };
    let address = format!("oci://{}/{repository}", registry.host()).parse().unwrap();
    look(&*open(&address, &Access { downloader, credentials: &credentials, observer: &Silent }))
}

fn index(registry: &Registry, tag: &str) -> Value {
    serde_json::from_slice(&looking(registry, "team/web", |place| place.manifest(tag).unwrap().unwrap())).unwrap()
}

fn json(ran: Ran) -> Value {
    serde_json::from_str(&ran.ok().text()).unwrap()
}

fn skopeo(registry: &Registry, args: &[&str]) -> Vec<u8> {
    let certificates = registry.path("certs");
    fs::create_dir_all(&certificates).unwrap();
    fs::copy(registry.authority(), certificates.join("ca.crt")).unwrap();
    let args = args.iter().map(|arg| arg.replace("CERTS", certificates.to_str().unwrap()).replace("HOST", &registry.host()));
    check(Command::new("skopeo").args(args))
}

/// The digests in an image layout's manifest: layers, and that of the manifest itself.
fn layout(dir: &Path) -> (Vec<String>, String) {
    let read = |path: PathBuf| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let digest = read(dir.join("index.json"))["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let manifest = read(dir.join("blobs/sha256").join(digest.trim_start_matches("sha256:")));
    let layers = manifest["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].as_str().unwrap().to_owned());
    (layers.collect(), digest)
}

/// A file, and what names it.
fn blob(tiny: &Tiny, bytes: &[u8]) -> (Blob, File) {
    let path = tiny.place.path("a blob");
    fs::write(&path, bytes).unwrap();
    let sum = sum("sha256sum", &path);
    (Blob { digest: format!("sha256:{}", &sum[..64]), size: bytes.len() as u64 }, File::open(path).unwrap())
}

#[test]
fn what_is_pushed_is_what_others_pull() {
    let Some((tiny, registry)) = with_registry() else { return };
    let place = &tiny.place;
    let to = format!("oci://{}/team/web:1.0", registry.host());
    let ran = export(&tiny, &registry, PASSWORD, &["--to", &to]).ok();
    assert_eq!(
        (ran.value("pushed"), ran.value("runs on").as_str(), ran.value("format").as_str()),
        (to.clone(), "linux/amd64", "oci")
    );
    assert!(ran.value("sent").starts_with("2 of 2 blobs, "), "{ran}");
    let again = json(export(&tiny, &registry, PASSWORD, &["--format", "oci", "--to", &to, "--json"]));
    let (amd64, first) = (again["pushed"]["manifest"].clone(), index(&registry, "1.0"));
    assert_eq!((&again["pushed"]["unchanged"], &again["pushed"]["blobs_there"]), (&true.into(), &2.into()));
    assert_eq!((first["manifests"].as_array().unwrap().len(), &first["manifests"][0]["digest"]), (1, &amd64));

    // Another architecture comes beside it, and takes the place of nothing but itself.
    fs::write(place.config.join("env/arch"), "arm64\n").unwrap();
    let arm64 = json(export(&tiny, &registry, PASSWORD, &["--to", &to, "--json"]));
    assert_eq!(arm64["pushed"]["platforms"], serde_json::json!(["linux/amd64", "linux/arm64"]));
    // Only its configuration is another one.
    assert_eq!((&arm64["pushed"]["blobs_sent"], &arm64["pushed"]["unchanged"]), (&1.into(), &false.into()));
    let other = json(export(&tiny, &registry, PASSWORD, &["--to", &to, "--compression", "zstd", "--json"]));
    let both = index(&registry, "1.0");
    let digests = [&both["manifests"][0]["digest"], &both["manifests"][1]["digest"]];
    assert_eq!((digests, both["manifests"].as_array().unwrap().len()), ([&amd64, &other["pushed"]["manifest"]], 2));
    assert_ne!(other["pushed"]["manifest"], arm64["pushed"]["manifest"]);
    // A registry of this machine that knows neither TLS nor passwords, and without a tag.
    let Ok(open) = Registry::new(Kind::Open) else { panic!("there was one") };
    let mut command = place.command(&["export", "--no-sign", "first", "--to", &format!("oci://{}/web", open.host()), "--json"]);
    let there = json(run(&mut command));
    assert_eq!((&there["pushed"]["blobs_sent"], &there["pushed"]["platforms"]), (&2.into(), &serde_json::json!(["linux/arm64"])));
    let latest = json(export(&tiny, &registry, PASSWORD, &["--to", to.trim_end_matches(":1.0"), "--json"]));
    assert_eq!(latest["pushed"]["address"], format!("{}:latest", to.trim_end_matches(":1.0")));
    assert_eq!(latest["pushed"]["blobs_sent"], 0);

    if !host::has("skopeo") {
        return;
    }
    fs::remove_file(place.config.join("env/arch")).unwrap();
    let back = place.path("back");
    let login = registry.login(PASSWORD);
    let how = ["--authfile", login.to_str().unwrap()];
    for (arch, digest) in [("amd64", &amd64), ("arm64", &other["pushed"]["manifest"])] {
        let dir = format!("oci:{}:x", back.join(arch).display());
        fs::create_dir_all(&back).unwrap();
        let args =
            ["copy", "-q", "--src-cert-dir", "CERTS", how[0], how[1], "--override-arch", arch, "docker://HOST/team/web:1.0", &dir];
        skopeo(&registry, &args);
        assert_eq!(layout(&back.join(arch)).1, digest.as_str().unwrap());
    }
    // A single image, as others push it, becomes part of an index.
    let from = format!("oci:{}:x", back.join("arm64").display());
    let credentials = format!("{USER}:{PASSWORD}");
    skopeo(
        &registry,
        &["copy", "-q", "--dest-cert-dir", "CERTS", "--dest-creds", &credentials, &from, "docker://HOST/team/web:single"],
    );
    assert!(index(&registry, "single")["manifests"].is_null());
    let joined = json(export(&tiny, &registry, PASSWORD, &["--to", &to.replace(":1.0", ":single"), "--json"]));
    assert_eq!(joined["pushed"]["platforms"], serde_json::json!(["linux/arm64", "linux/amd64"]));
    assert_eq!(index(&registry, "single")["manifests"][0]["digest"], other["pushed"]["manifest"]);
}

#[test]
fn what_cannot_be_pushed_is_said_before_anything_is_made() {
    let Some((tiny, registry)) = with_registry() else { return };
    let to = format!("oci://{}/team/web", registry.host());
    let fails = |args: &[&str], code| export(&tiny, &registry, PASSWORD, args).fails(code);
    fails(&["--to", &to, "--format", "tar.zst"], 2).says("`tar.zst` cannot be pushed to a registry, only an OCI image");
    fails(&["--to", &to, "-o", "oci-archive:one.img"], 2).says("is an image in one file, which cannot be pushed");
    fails(&["--to", &to, "-o", "one.tar.xz"], 2).says("does not fit the format `oci`");
    fails(&["--to", "ghcr.io/team/web"], 2).says("`ghcr.io/team/web` is not the address of a repository");
    fails(&["--to", "oci://ghcr.io/Team/web"], 2).says("`Team/web` is not the name of a repository");
    fails(&["--to", &to, "--offline"], 1).says("since downloads are switched off");
    export(&tiny, &registry, "wrong", &["--to", &to]).fails(1).says("refuses access to `maker`").says("podman login");
    // Something else than an image is under the tag.
    let artifact = looking(&registry, "team/web", |place| {
        let empty = blob(&tiny, b"{}");
        place.put_blob(&empty.0, &empty.1).unwrap();
        let config = serde_json::json!({"mediaType": "application/vnd.example", "digest": empty.0.digest, "size": 2});
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": []}).to_string();
        place.put_manifest("latest", kind, manifest.as_bytes()).unwrap();
        manifest
    });
    fails(&["--to", &to], 2).says("is no image, and nothing else is replaced");
    assert_eq!(looking(&registry, "team/web", |place| place.manifest("latest").unwrap()), Some(artifact.into_bytes()));
    assert!(fs::read_dir(tiny.place.path("data/stages")).is_ok_and(|mut all| all.next().is_none()));
    assert!(!tiny.place.path("one.img").exists() && !tiny.place.path("one.tar.xz").exists());
}
