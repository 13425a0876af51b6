//! Packages of binary package hosts, asked for as a session asks: of servers, and of directories of this machine.

use std::fs;
use std::path::PathBuf;

use gentoomuch::internals::fetch::{BinHost, Missing, Reason};

use crate::broker::{Desk, targets, words};
use crate::server::{Answer, Server};

pub(crate) fn binhost() -> Server {
    Server::new(|asked| match asked.target.as_str() {
        "/pool/Packages" => Answer::whole(
            b"PACKAGES: 2\nTIMESTAMP: 1700000000\nVERSION: 0\n\nCPV: a/b-1\nPATH: a/b/b-1-1.gpkg.tar\nSIZE: 7\n\n\
              CPV: a/c-1\nPATH: a/c/c-1-1.gpkg.tar\nSIZE: 9\n\n",
        ),
        "/pool/a/b/b-1-1.gpkg.tar" | "/pool/a/c/c-1-1.gpkg.tar" | "/secret" => Answer::whole(b"package"),
        _ => Answer::status(404),
    })
}

#[test]
fn packages_of_a_binhost_are_those_that_its_index_lists() {
    let server = binhost();
    let mut desk = Desk::new(&[]);
    desk.sources.hosts = vec![BinHost { name: "own".into(), sync_uri: server.url("/pool/"), configured: true }];
    let serving = desk.serve();
    assert_eq!(words(&serving.package(&server.url("/pool/Packages.gz"))), "the host has `Packages`");
    let copy = |answer: &str| {
        let place = answer.strip_prefix("copy ").unwrap_or_else(|| panic!("{answer}"));
        fs::read(desk.path("packages").join(place)).unwrap()
    };
    assert!(copy(&serving.package(&server.url("/pool/Packages"))).starts_with(b"PACKAGES: 2\n"));
    assert_eq!(copy(&serving.package(&server.url("/pool/a/b/b-1-1.gpkg.tar"))), b"package");
    let wrong = serving.package(&server.url("/pool/a/c/c-1-1.gpkg.tar"));
    assert!(words(&wrong).contains("the file has 7 bytes on the server, but should have 9"), "{wrong}");
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
}

/// A binhost as a directory below `desk`.
fn directory(desk: &mut Desk, header: &str) -> (PathBuf, String) {
    let pool = desk.path("pool");
    let package = |cpv: &str, size| {
        let (category, name) = cpv.split_once('/').unwrap();
        let pn = name.rsplit_once('-').unwrap().0;
        format!("CPV: {cpv}\nPATH: {category}/{pn}/{name}-1.gpkg.tar\nSIZE: {size}\n\n")
    };
    let stanzas: String = [("u/b-1", 4), ("g/b-1", 4), ("a/long-1", 4), ("a/out-1", 6), ("a/pipe-1", 4), ("a/none-1", 1)]
        .map(|(cpv, size)| package(cpv, size))
        .concat();
    desk.write("pool/Packages", format!("PACKAGES: 6\n{header}VERSION: 0\n\n{stanzas}"));
    for (path, contents) in [("u/b/b-1-1", "user"), ("g/b/b-1-1", "team"), ("a/long/long-1-1", "longer"), ("secret", "secret")] {
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
    let mut desk = Desk::new(&[]);
    desk.settings.offline = true;
    let (pool, asked) = directory(&mut desk, "");
    let serving = desk.serve();
    let copy = |answer: &str| {
        let place = answer.strip_prefix("copy ").unwrap_or_else(|| panic!("{answer}"));
        fs::read_to_string(desk.path("packages").join(place)).unwrap()
    };
    assert_eq!(words(&serving.package(&format!("{asked}/Packages.gz"))), "the host has `Packages`");
    assert!(copy(&serving.package(&format!("{asked}/Packages"))).starts_with("PACKAGES: 6\n"));
    // Of one name and size, and Portage's index has no hash that counts: each is its own.
    assert_eq!(copy(&serving.package(&format!("{asked}/u/b/b-1-1.gpkg.tar"))), "user");
    assert_eq!(copy(&serving.package(&format!("{asked}/g/b/b-1-1.gpkg.tar"))), "team");
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
    let mut desk = Desk::new(&[]);
    let (pool, asked) = directory(&mut desk, "URI: /elsewhere\n");
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
    let server = Server::new(|asked| match asked.target.as_str() {
        "/pool/Packages" => Answer::whole(
            b"VERSION: 0\n\nCPV: u/b-0\nPATH: u/b/b-0-1.gpkg.tar\nSIZE: 4\n\nCPV: g/b-0\nPATH: g/b/b-0-1.gpkg.tar\nSIZE: 4\n\n",
        ),
        "/pool/u/b/b-0-1.gpkg.tar" => Answer::whole(b"user"),
        "/pool/g/b/b-0-1.gpkg.tar" => Answer::whole(b"team"),
        _ => Answer::status(404),
    });
    let mut desk = Desk::new(&[]);
    desk.sources.hosts = vec![BinHost { name: "own".into(), sync_uri: server.url("/pool"), configured: true }];
    let serving = desk.serve();
    for (category, contents) in [("u", "user"), ("g", "team")] {
        let answer = serving.package(&server.url(&format!("/pool/{category}/b/b-0-1.gpkg.tar")));
        let place = answer.strip_prefix("copy ").unwrap_or_else(|| panic!("{answer}"));
        assert_eq!(fs::read_to_string(desk.path("packages").join(place)).unwrap(), contents);
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
