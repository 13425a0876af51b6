//! Packages of binary package hosts, asked for as a session asks: of servers, and of directories of this machine.

use std::fs;
use std::path::PathBuf;

use gentoomuch::TrustedKeys;
use gentoomuch::internals::fetch::{BinHost, Missing, Reason};

use crate::broker::{Desk, hash, targets, words};
use crate::packages::{Owner, unsigned};
use crate::server::{Answer, Server};

/// A host with `package` as `a/b-1`, and as `a/c-1`, of which its index says another size.
pub(crate) fn binhost(package: Vec<u8>) -> Server {
    let size = package.len();
    let index = format!(
        "PACKAGES: 2\nTIMESTAMP: 1700000000\nVERSION: 0\n\nCPV: a/b-1\nPATH: a/b/b-1-1.gpkg.tar\nSIZE: {size}\n\n\
         CPV: a/c-1\nPATH: a/c/c-1-1.gpkg.tar\nSIZE: {}\n\n",
        size + 2
    );
    Server::new(move |asked| match asked.target.as_str() {
        "/pool/Packages" => Answer::whole(index.as_bytes()),
        "/pool/a/b/b-1-1.gpkg.tar" | "/pool/a/c/c-1-1.gpkg.tar" | "/secret" => Answer::whole(&package),
        _ => Answer::status(404),
    })
}

#[test]
fn packages_of_a_binhost_are_those_that_its_index_lists() {
    let Some(owner) = Owner::new() else { return };
    let package = owner.package(b"image");
    let server = binhost(package.clone());
    let mut desk = Desk::new(&[]);
    desk.keys = owner.keys();
    desk.sources.hosts = vec![BinHost { name: "own".into(), sync_uri: server.url("/pool/"), configured: true }];
    let serving = desk.serve();
    assert_eq!(words(&serving.package(&server.url("/pool/Packages.gz"))), "the host has `Packages`");
    assert!(copy(&desk, &serving.package(&server.url("/pool/Packages"))).starts_with(b"PACKAGES: 2\n"));
    assert_eq!(copy(&desk, &serving.package(&server.url("/pool/a/b/b-1-1.gpkg.tar"))), package);
    let wrong = serving.package(&server.url("/pool/a/c/c-1-1.gpkg.tar"));
    let sizes = format!("the file has {} bytes on the server, but should have {}", package.len(), package.len() + 2);
    assert!(words(&wrong).contains(&sizes), "{wrong}");
    for path in [
        "/secret",
        "/pool/../secret",
        "/pool/x",
        "/pool/a/b/b-1-1.gpkg.tar?x",
        "/pool//a/b/b-1-1.gpkg.tar",
        "/pool/a/b/../b/b-1-1.gpkg.tar",
    ] {
        assert_eq!(words(&serving.package(&server.url(path))), "no host in binrepos.conf lists this package", "{path}");
    }
    assert_eq!(targets(&server), ["/pool/Packages.gz", "/pool/Packages", "/pool/a/b/b-1-1.gpkg.tar", "/pool/a/c/c-1-1.gpkg.tar"]);
    // A session that goes on may have other keys.
    desk.keys = TrustedKeys::default();
    let answer = desk.serve().package(&server.url("/pool/a/b/b-1-1.gpkg.tar"));
    assert!(words(&answer).contains(&format!("signed by {}, which is not a release key", owner.fingerprint)), "{answer}");
}

/// What the broker has given out.
fn copy(desk: &Desk, answer: &str) -> Vec<u8> {
    let place = answer.strip_prefix("copy ").unwrap_or_else(|| panic!("{answer}"));
    fs::read(desk.path("packages").join(place)).unwrap()
}

/// A package with a name of its own, what its index says besides its size, and why it is not given out.
struct Bad {
    name: &'static str,
    bytes: Vec<u8>,
    more: String,
    why: String,
}

#[test]
fn what_no_trusted_key_has_signed_as_it_is_is_not_given_out() {
    let (Some(owner), Some(other)) = (Owner::new(), Owner::new()) else { return };
    let good = owner.package(b"image of a package");
    let image = good.windows(18).position(|bytes| bytes == b"image of a package").unwrap();
    let mut flipped = good.clone();
    flipped[image] ^= 1;
    let foreign =
        format!("the signature of its `Manifest` does not count: signed by {}, which is not a release key", other.fingerprint);
    let bad = |name, bytes: &[u8], why: &str| Bad { name, bytes: bytes.to_vec(), more: String::new(), why: why.to_owned() };
    let table = [
        bad("unsigned", &unsigned(b"image"), "it is not signed"),
        bad("foreign", &other.package(b"image"), &foreign),
        bad("flipped", &flipped, "`image.tar` in it does not match its Manifest"),
        bad("cut", &good[..image + 3], "its Manifest is missing or cannot be read"),
        bad("longer", &[&good[..], b"more"].concat(), "something follows behind its last part"),
        bad("zeros", &[0; 2048], "its Manifest is missing or cannot be read"),
        bad("odd", b"no archive", "it is not a tar archive that can be read"),
        Bad {
            more: format!("SHA1: {}\n", "0".repeat(40)),
            ..bad("digest", &good, "the file is not the one that the index describes")
        },
    ];
    let stanza = |name: &str, path: &str, size: usize, more: &str| format!("CPV: a/{name}-1\nPATH: {path}\nSIZE: {size}\n{more}\n");
    let path = |name: &str| format!("a/{name}/{name}-1-1.gpkg.tar");
    let mut index = "VERSION: 0\n\n".to_owned() + &stanza("old", "a/old/old-1-1.xpak", 3, "");
    let digests = format!("MD5: {}\nSHA1: {}\n", hash("md5sum", &good).to_uppercase(), hash("sha1sum", &good));
    index += &stanza("good", &path("good"), good.len(), &digests);
    for Bad { name, bytes, more, .. } in &table {
        index += &stanza(name, &path(name), bytes.len(), more);
    }
    // Of a server, and of a directory.
    let mut desk = Desk::new(&[]);
    desk.keys = owner.keys();
    desk.write("pool/Packages", &index);
    desk.write("pool/a/old/old-1-1.xpak", "old");
    desk.write(&format!("pool/{}", path("good")), &good);
    for Bad { name, bytes, .. } in &table {
        desk.write(&format!("pool/{}", path(name)), bytes);
    }
    let root = desk.path("");
    let server = Server::new(move |asked| match fs::read(root.join(asked.target.trim_start_matches('/'))) {
        Ok(body) => Answer::whole(&body),
        Err(_) => Answer::status(404),
    });
    for uri in [server.url("/pool"), format!("file://{}", desk.path("pool").display())] {
        let host = BinHost { name: "own".into(), sync_uri: uri.clone(), configured: true };
        let asked = host.asked_as();
        desk.sources.hosts = vec![host];
        fs::remove_dir_all(desk.path("packages")).unwrap_or_default();
        let serving = desk.serve();
        for Bad { name, why, .. } in &table {
            let answer = serving.package(&format!("{asked}/{}", path(name)));
            assert!(words(&answer).contains(&path(name)) && answer.contains(why.as_str()), "{uri} {name}: {answer}");
        }
        let old = serving.package(&format!("{asked}/a/old/old-1-1.xpak"));
        assert!(words(&old).contains("it is in the old format (xpak), which has no signatures"), "{old}");
        let names: Vec<_> = fs::read_dir(desk.path("packages")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.iter().all(|name| name == ".incoming"), "{names:?}");
        assert_eq!(copy(&desk, &serving.package(&format!("{asked}/{}", path("good")))), good);
        let missing = serving.broker.missing();
        let distrusted = missing.iter().filter(|missing| matches!(missing.reason, Reason::Distrusted(..))).count();
        assert_eq!((distrusted, missing.len()), (table.len(), table.len() + 1), "{missing:?}");
        assert_eq!(serving.broker.take_notes().len(), missing.len());
    }
    assert!(!targets(&server).contains(&"/pool/a/old/old-1-1.xpak".to_owned()));
}

/// A binhost as a directory below `desk`, with two packages of `owner`.
fn directory(desk: &mut Desk, owner: &Owner, header: &str) -> (PathBuf, String) {
    let pool = desk.path("pool");
    let (user, team) = (owner.package(b"user"), owner.package(b"team"));
    desk.keys = owner.keys();
    let package = |cpv: &str, size| {
        let (category, name) = cpv.split_once('/').unwrap();
        let pn = name.rsplit_once('-').unwrap().0;
        format!("CPV: {cpv}\nPATH: {category}/{pn}/{name}-1.gpkg.tar\nSIZE: {size}\n\n")
    };
    let stanzas: String =
        [("u/b-1", user.len()), ("g/b-1", team.len()), ("a/long-1", 4), ("a/out-1", 6), ("a/pipe-1", 4), ("a/none-1", 1)]
            .map(|(cpv, size)| package(cpv, size))
            .concat();
    desk.write("pool/Packages", format!("PACKAGES: 6\n{header}VERSION: 0\n\n{stanzas}"));
    for (path, contents) in [("u/b/b-1-1", &user[..]), ("g/b/b-1-1", &team), ("a/long/long-1-1", b"longer"), ("secret", b"secret")]
    {
        desk.write(&format!("pool/{path}.gpkg.tar"), contents);
    }
    desk.write("secret", "secret");
    for dir in ["out", "pipe"] {
        fs::create_dir_all(pool.join("a").join(dir)).unwrap();
    }
    std::os::unix::fs::symlink(desk.path("secret"), pool.join("a/out/out-1-1.gpkg.tar")).unwrap();
    nix::unistd::mkfifo(&pool.join("a/pipe/pipe-1-1.gpkg.tar"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let host = BinHost { name: "own".into(), sync_uri: format!("file://{}/", pool.display()), configured: true };
    let asked = host.asked_as();
    desk.sources.hosts = vec![host];
    (pool, asked)
}

#[test]
fn a_binhost_that_is_a_directory_is_read_here_and_also_without_a_network() {
    let Some(owner) = Owner::new() else { return };
    let mut desk = Desk::new(&[]);
    desk.settings.offline = true;
    let (pool, asked) = directory(&mut desk, &owner, "");
    let serving = desk.serve();
    assert_eq!(words(&serving.package(&format!("{asked}/Packages.gz"))), "the host has `Packages`");
    assert!(copy(&desk, &serving.package(&format!("{asked}/Packages"))).starts_with(b"PACKAGES: 6\n"));
    // Of one name: each is its own.
    for path in ["u/b/b-1-1.gpkg.tar", "g/b/b-1-1.gpkg.tar"] {
        assert_eq!(copy(&desk, &serving.package(&format!("{asked}/{path}"))), fs::read(pool.join(path)).unwrap());
    }
    for (path, why) in [
        ("a/long/long-1-1", "the file has 6 bytes on the server, but should have 4"),
        ("a/out/out-1-1", "No such file"),
        ("a/pipe/pipe-1-1", "is not a regular file"),
        ("a/none/none-1-1", "No such file"),
    ] {
        let said = serving.package(&format!("{asked}/{path}.gpkg.tar"));
        let place = format!("{}/{path}.gpkg.tar: ", pool.display());
        assert!(words(&said).contains(&place) && said.contains(why), "{said}");
    }
    for path in ["secret.gpkg.tar", "../secret", "secret"] {
        assert_eq!(words(&serving.package(&format!("{asked}/{path}"))), "no host in binrepos.conf lists this package", "{path}");
    }
    let name = |missing: &Missing| {
        desk.sources.hosts[0]
            .path_of(match &missing.reason {
                Reason::Another(tried) | Reason::Nobody(tried) => &tried[0].0,
                other => panic!("{other:?}"),
            })
            .map(str::to_owned)
    };
    let mut missing: Vec<_> = serving.broker.missing().iter().filter_map(name).collect();
    missing.sort();
    assert_eq!(missing, ["long", "none", "out", "pipe"].map(|name| format!("/a/{name}/{name}-1-1.gpkg.tar")));
}

#[test]
fn a_directory_that_is_no_binhost_is_said() {
    let Some(owner) = Owner::new() else { return };
    let mut desk = Desk::new(&[]);
    let (pool, asked) = directory(&mut desk, &owner, "URI: /elsewhere\n");
    let said = |desk: &mut Desk| {
        let serving = desk.serve();
        assert!(serving.package(&format!("{asked}/Packages")).starts_with("empty binhost `own`: "));
        assert!(serving.broker.a_host_failed());
        serving.broker.take_notes().concat()
    };
    let end = "; packages that it may have are built from source";
    assert_eq!(
        said(&mut desk),
        format!("binhost `own`: its index says that the packages are at another address: `/elsewhere` is not a URL{end}")
    );
    desk.write("pool/Packages.gz", "not packed");
    assert_eq!(said(&mut desk), format!("binhost `own`: its index cannot be unpacked{end}"));
    for name in ["Packages", "Packages.gz"] {
        fs::remove_file(pool.join(name)).unwrap();
    }
    assert_eq!(said(&mut desk), format!("binhost `own`: `{}` has no index{end}", pool.display()));
    fs::create_dir(pool.join("Packages")).unwrap();
    assert_eq!(said(&mut desk), format!("binhost `own`: `{}/Packages` is not a regular file{end}", pool.display()));
    fs::remove_dir_all(&pool).unwrap();
    let gone = said(&mut desk);
    assert!(gone.contains(&format!("`{}`: No such file or directory", pool.display())), "{gone}");
}

#[test]
fn packages_of_one_name_and_size_are_their_own() {
    let Some(owner) = Owner::new() else { return };
    let packages = [b"user", b"team"].map(|image| owner.package(image));
    assert_eq!(packages[0].len(), packages[1].len());
    let stanza =
        |category: &str| format!("CPV: {category}/b-0\nPATH: {category}/b/b-0-1.gpkg.tar\nSIZE: {}\n\n", packages[0].len());
    let index = format!("VERSION: 0\n\n{}{}", stanza("u"), stanza("g"));
    let bodies = packages.clone();
    let server = Server::new(move |asked| match asked.target.as_str() {
        "/pool/Packages" => Answer::whole(index.as_bytes()),
        "/pool/u/b/b-0-1.gpkg.tar" => Answer::whole(&bodies[0]),
        "/pool/g/b/b-0-1.gpkg.tar" => Answer::whole(&bodies[1]),
        _ => Answer::status(404),
    });
    let mut desk = Desk::new(&[]);
    desk.keys = owner.keys();
    desk.sources.hosts = vec![BinHost { name: "own".into(), sync_uri: server.url("/pool"), configured: true }];
    let serving = desk.serve();
    for (category, contents) in ["u", "g"].into_iter().zip(packages) {
        assert_eq!(copy(&desk, &serving.package(&server.url(&format!("/pool/{category}/b/b-0-1.gpkg.tar")))), contents);
    }
}

#[test]
fn a_binhost_that_is_not_there_is_passed_over_and_said() {
    let mut desk = Desk::new(&[]);
    desk.settings.attempts = 1;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let uri = format!("http://127.0.0.1:{gone}/pool");
    desk.sources.hosts = vec![BinHost { name: "own".into(), sync_uri: uri.clone(), configured: true }];
    let serving = desk.serve();
    let first = serving.package(&format!("{uri}/Packages.gz"));
    let second = serving.package(&format!("{uri}/Packages"));
    assert!(words(&first).starts_with("binhost `own`: cannot download `Packages.gz`"), "{first}");
    assert_eq!(second, format!("empty {}", words(&first)));
    assert_eq!(serving.broker.take_notes(), [format!("{}; packages that it may have are built from source", words(&first))]);
}
