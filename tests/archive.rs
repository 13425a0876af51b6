//! Import and export as tasks inside a real id map, compared with what other programs see.
//!
//! Needs an ordinary user with subordinate ids; where that is missing the tests are skipped aloud.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "failing tests may panic, and skipped ones say so")]

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use gentoomuch::internals::archive::digest::Algorithm;
use gentoomuch::internals::archive::tasks::{self, ExportInput, ImportInput};
use gentoomuch::internals::archive::{Format, decode};
use gentoomuch::internals::progress::Silent;
use gentoomuch::internals::sandbox::{self, HelperSource, IdMap, Launcher};

/// A launcher with the user's whole id range, or the reason why there is none.
fn launcher() -> Option<Launcher> {
    let uid = nix::unistd::getuid();
    let user = nix::unistd::User::from_uid(uid).unwrap().unwrap();
    let map = IdMap::of_host(Path::new("/"), uid.as_raw(), user.gid.as_raw(), &user.name, &[], None);
    let reason = match map {
        _ if uid.is_root() => "root needs no id map".to_owned(),
        Err(error) => error.to_string(),
        Ok(map) => {
            let program = PathBuf::from(env!("CARGO_BIN_EXE_gentoomuch"));
            return Some(Launcher::new(HelperSource::Path(program), map));
        }
    };
    assert!(std::env::var_os("GENTOOMUCH_TEST_STRICT").is_none(), "cannot test: {reason}");
    println!("skipped: {reason}");
    None
}

/// Runs a shell script inside the id map as its root, with a user namespace made by another program than ours.
fn inside(script: &str, directory: &Path) -> String {
    let output = Command::new("unshare")
        .args(["--map-auto", "--map-root-user", "--mount", "sh", "-euc", script])
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn import(launcher: &Launcher, archive: &Path, into: &Path) -> sandbox::Result<gentoomuch::internals::archive::Unpacked> {
    fs::create_dir(into).unwrap();
    let digests =
        decode::open_file(File::open(archive).unwrap(), 1, &[Algorithm::Sha512, Algorithm::Blake2b]).unwrap().finish().unwrap();
    let input = ImportInput {
        source: archive.to_owned(),
        into: into.to_owned(),
        size: digests.size,
        sha512: digests.get(Algorithm::Sha512).to_owned(),
        blake2b: digests.get(Algorithm::Blake2b).to_owned(),
        threads: 2,
        layer_sha256: None,
    };
    tasks::import(launcher, &input, OwnedFd::from(File::open(archive).unwrap()), Vec::new(), None, &Silent)
}

fn export(launcher: &Launcher, layers: &[PathBuf], out: &Path, format: Format) -> sandbox::Result<tasks::Exported> {
    let input = ExportInput {
        as_layer: false,
        exact: false,
        layers: layers.to_vec(),
        format,
        level: Some(1),
        threads: 2,
        exclude: vec!["/etc/machine-id".into()],
        keep: Vec::new(),
        mtime_clamp: 1_700_000_000,
        mtime_floor: i64::MIN,
    };
    let contents = OwnedFd::from(File::create(out.with_extension("contents.gz")).unwrap());
    tasks::export(launcher, &input, OwnedFd::from(File::create(out).unwrap()), Some(contents), Vec::new(), None, &Silent)
}

const LISTING: &str = "find . -printf '%y %m %U:%G %n %T@ %p %l\\n' | sed '/^d/s/^\\(d [0-9]* [0-9:]*\\) [0-9]*/\\1 -/' | LC_ALL=C sort; \
    find . -type f -exec sha256sum {} + | LC_ALL=C sort -k2; getcap -r . | LC_ALL=C sort";

/// A tree with owners, set-id files, capabilities and hard links, archived by GNU tar inside the map.
const MAKE_TREE: &str = "
    mkdir -p tree/etc tree/bin tree/var/empty
    printf 'root:x:0:0::/:/bin/sh\\nportage:x:250:250::/:/bin/sh\\n' > tree/etc/passwd
    printf 'root:x:0:\\nportage:x:250:\\n' > tree/etc/group
    echo 1 > tree/etc/machine-id
    cp /bin/true tree/bin/capable; setcap cap_net_raw+ep tree/bin/capable
    cp /bin/true tree/bin/su; chmod 4711 tree/bin/su
    echo p > tree/bin/owned; chown 250:250 tree/bin/owned; chmod 2750 tree/bin/owned
    ln tree/bin/owned tree/bin/owned2
    echo high > tree/high; chown 65530:65000 tree/high
    ln -s ../etc/passwd tree/bin/link; chown -h 250:0 tree/bin/link
    chown 250:250 tree/var/empty; chmod 3770 tree/var/empty
    find tree -exec touch -h -d @1600000000 {} +
    tar --xattrs --xattrs-include='*' --format=posix -C tree -cJf tree.tar.xz .
";

#[test]
fn owners_modes_and_capabilities_survive_import_and_export() {
    let Some(launcher) = launcher() else { return };
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    inside(MAKE_TREE, place.path());
    let unpacked = import(&launcher, &at("tree.tar.xz"), &at("layer")).unwrap();
    assert_eq!((unpacked.hardlinks, unpacked.symlinks, unpacked.newest_mtime), (1, 1, 1_600_000_000));
    let expected = inside(LISTING, &at("tree"));
    assert!(expected.contains("f 2750 250:250 2"), "{expected}");
    assert!(expected.contains("./bin/capable cap_net_raw=ep"), "{expected}");
    assert_eq!(inside(LISTING, &at("layer")), expected);
    // From outside, mapped root is the user, and id 250 is in the subordinate range.
    assert_eq!(fs::metadata(at("layer/bin/su")).unwrap().uid(), nix::unistd::getuid().as_raw());
    assert!(fs::metadata(at("layer/bin/owned")).unwrap().uid() > 65535);

    for format in [Format::TarXz, Format::TarZst, Format::TarGz] {
        let out = at(&format!("out.{format:?}"));
        let exported = export(&launcher, &[at("layer")], &out, format).unwrap();
        let again = export(&launcher, &[at("layer")], &at("again"), format).unwrap();
        assert_eq!(exported, again);
        let sum = Command::new("sha512sum").arg(&out).output().unwrap().stdout;
        assert!(String::from_utf8_lossy(&sum).starts_with(exported.archive.get(Algorithm::Sha512)));
        inside(&format!("rm -rf back; mkdir back; tar --xattrs --xattrs-include='*' -xpf {} -C back", out.display()), place.path());
        inside("rm -f tree/etc/machine-id; touch -d @1600000000 tree/etc", place.path());
        assert_eq!(inside(LISTING, &at("back")), inside(LISTING, &at("tree")), "{format:?}");
        let listed = inside(&format!("TZ=UTC LC_ALL=C.UTF-8 tar -tvf {}", out.display()), place.path());
        assert!(listed.contains("portage/portage"), "{listed}");
        let contents = inside(&format!("gzip -dc {}", out.with_extension("contents.gz").display()), place.path());
        assert_eq!(contents, listed);
    }
    inside("rm -rf tree layer back", place.path());
}

#[test]
fn access_control_lists_survive() {
    let Some(launcher) = launcher() else { return };
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let list = "find . | LC_ALL=C sort | getfacl -n -";
    // GNU tar writes them as text; ours are attributes.
    inside(
        "mkdir -p tree/d; echo x > tree/f
         setfacl -m u:61234:r-x,g:61235:rw- tree/f; setfacl -m u:61234:rwx tree/d; setfacl -d -m g:61235:r-x tree/d
         tar --acls --format=posix -C tree -cf tree.tar .",
        place.path(),
    );
    import(&launcher, &at("tree.tar"), &at("layer")).unwrap();
    let expected = inside(list, &at("tree"));
    assert!(expected.contains("user:61234:r-x") && expected.contains("default:group:61235:r-x"), "{expected}");
    assert_eq!(inside(list, &at("layer")), expected);
    export(&launcher, &[at("layer")], &at("out.tar.zst"), Format::TarZst).unwrap();
    import(&launcher, &at("out.tar.zst"), &at("again")).unwrap();
    assert_eq!(inside(list, &at("again")), expected);
    inside("rm -rf tree layer again", place.path());
}

#[test]
fn whiteouts_and_opaque_directories_are_resolved() {
    let Some(launcher) = launcher() else { return };
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    // The upper directory is written by the kernel's own overlay.
    inside(
        "mkdir -p a/d a/gone a/swap b c w m; echo 1 > a/d/keep; echo 2 > a/d/drop; echo 3 > a/gone/x; echo 4 > a/swap/old
         ln a/d/keep a/d/other
         for upper in b c; do
             lower=a; test $upper = b || lower=b:a
             rm -rf w; mkdir w
             mount -t overlay -o userxattr,lowerdir=$lower,upperdir=$upper,workdir=w none m
             if test $upper = b; then
                 rm m/d/drop; rm -r m/gone; rm -r m/swap; mkdir m/swap; echo 5 > m/swap/new
             else
                 echo 6 > m/d/added; echo 7 >> m/swap/new
             fi
             umount m
         done
         find . -exec touch -h -d @1600000000 {} +",
        place.path(),
    );
    let layers = [at("c"), at("b"), at("a")];
    export(&launcher, &layers, &at("out.tar.zst"), Format::TarZst).unwrap();
    let names = inside("tar -tf out.tar.zst", place.path());
    assert_eq!(names, "./\n./d/\n./d/added\n./d/keep\n./d/other\n./swap/\n./swap/new\n");
    assert_eq!(inside("tar -xOf out.tar.zst ./swap/new", place.path()), "5\n7\n");
    let headers = inside("zstd -dcq out.tar.zst | grep -ac overlay || true", place.path());
    assert_eq!(headers.trim(), "0", "an attribute of the overlay was written");
    // A bare layer with whiteouts in it is not a tree.
    let error = export(&launcher, &[at("b")], &at("bare"), Format::TarGz).unwrap_err();
    let sandbox::Error::Task { failure, .. } = error else { panic!("{error}") };
    assert_eq!(failure.causes, ["cannot pack `d/drop`: it is a whiteout of an overlay; pack the merged view instead"]);
    inside("rm -rf a b c w m", place.path());
}

#[test]
fn a_file_exchanged_after_its_verification_is_named() {
    let Some(launcher) = launcher() else { return };
    let place = tempfile::tempdir().unwrap();
    let archive = place.path().join("a.tar");
    fs::write(place.path().join("f"), "x").unwrap();
    inside("tar cf a.tar f", place.path());
    let good = fs::read(&archive).unwrap();
    let digests =
        decode::open_file(File::open(&archive).unwrap(), 1, &[Algorithm::Sha512, Algorithm::Blake2b]).unwrap().finish().unwrap();
    let flip = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    for (n, (bytes, words)) in [
        (flip(512), "changed after it was verified: its SHA512 is"),
        (flip(0), "changed after it was verified: its SHA512 is"),
        (good[..600].to_vec(), "changed after it was verified: it has 600 bytes, not 10240"),
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(&archive, bytes).unwrap();
        let into = place.path().join(format!("into{n}"));
        fs::create_dir(&into).unwrap();
        let input = ImportInput {
            source: archive.clone(),
            into,
            size: digests.size,
            sha512: digests.get(Algorithm::Sha512).to_owned(),
            blake2b: digests.get(Algorithm::Blake2b).to_owned(),
            threads: 1,
            layer_sha256: None,
        };
        let fd = OwnedFd::from(File::open(&archive).unwrap());
        let error = tasks::import(&launcher, &input, fd, Vec::new(), None, &Silent).unwrap_err();
        let sandbox::Error::Task { failure, .. } = error else { panic!("{error}") };
        assert_eq!(failure.kind, "archive-changed");
        assert!(failure.causes[0].contains(words), "{:?}", failure.causes);
    }
}

#[test]
fn an_owner_outside_the_map_is_named() {
    let Some(launcher) = launcher() else { return };
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("f"), "x").unwrap();
    inside("tar --owner=:3000000 --group=:5 -cf a.tar f", place.path());
    let error = import(&launcher, &place.path().join("a.tar"), &place.path().join("into")).unwrap_err();
    let sandbox::Error::Task { failure, .. } = error else { panic!("{error}") };
    assert_eq!(failure.kind, "archive-unmapped-owner");
    assert_eq!(failure.causes, ["cannot give `f` to 3000000:5, which is not in the id map"]);
}
