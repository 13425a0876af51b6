use super::super::contents::tests::package;
use super::super::{PoolInputs, PoolKind, open_pool};
use super::*;
use crate::progress::Silent;
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const NOW: i64 = 1_800_000_000;

struct Place {
    _tmp: tempfile::TempDir,
    session: PathBuf,
    pool: PathBuf,
}

fn place() -> Place {
    let tmp = tempfile::tempdir().expect("tempdir");
    let session = tmp.path().join("session");
    std::fs::create_dir(&session).expect("mkdir");
    let pool = open_pool(&tmp.path().join("binpkgs"), PoolKind::Release, &PoolInputs::default(), &Silent).expect("pool");
    Place { session, pool, _tmp: tmp }
}

fn key(digit: char) -> PackageKey {
    PackageKey::parse(&digit.to_string().repeat(32)).expect("a key")
}

/// Publishes under the same key whatever the index names.
fn put(p: &Place, now_secs: i64) -> Published {
    publish(&p.session, &p.pool, &|_| Some(key('1').into()), Transfer::Move, now_secs, &Silent, &Examiner::default())
        .expect("publish")
}

/// Writes a package into the session, and what Portage's index says of it.
fn build(p: &Place, path: &str, contents: &str, mtime: i64) {
    write(&p.session, path, contents, mtime);
    let mut index = std::fs::read_to_string(p.session.join(INDEX)).unwrap_or_else(|_| HEADER.to_owned());
    let mut index_now = Index::parse(&index);
    index_now.packages.remove(path);
    index = index_now.render(0);
    let cpv = PackageFile::parse(path).expect("a name").cpv;
    let size = std::fs::metadata(p.session.join(path)).expect("stat").len();
    index += &format!("CPV: {cpv}\nMTIME: {mtime}\nPATH: {path}\nSIZE: {size}\n\n");
    std::fs::write(p.session.join(INDEX), index).expect("write");
}

/// Writes `contents`; below a package's name, a package that holds them.
fn write(dir: &Path, path: &str, contents: &str, mtime: i64) {
    let bytes = if path.ends_with(".gpkg.tar") && !contents.is_empty() { package(contents) } else { contents.as_bytes().to_vec() };
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
    std::fs::write(&path, bytes).expect("write");
    set_mtime(&File::options().write(true).open(&path).expect("open"), mtime, 0).expect("utimens");
}

/// `grown`: by how much the stanza lies about the size.
fn stanza(path: &str, cpv: &str, grown: usize, mtime: i64) -> String {
    let size = package("12345").len() + grown;
    format!("CPV: {cpv}\nMTIME: {mtime}\nPATH: {path}\nSIZE: {size}\n\n")
}

fn index_of(pool: &Path) -> Index {
    Index::parse(&std::fs::read_to_string(pool.join(INDEX)).expect("index"))
}

const HELLO: &str = "app-misc/hello/hello-2.10-1.gpkg.tar";
const LIBX: &str = "dev-libs/libx/libx-1.0-1.gpkg.tar";
const HEADER: &str = "ARCH: amd64\nVERSION: 0\n\n";

#[test]
fn what_an_index_says_without_end_is_not_taken() {
    let p = place();
    build(&p, HELLO, "x", 100);
    build(&p, LIBX, "x", 100);
    let index = std::fs::read_to_string(p.session.join(INDEX)).expect("index");
    let long = format!("CPV: app-misc/hello-2.10\nDESC: {}\n", "x".repeat(300 << 10));
    std::fs::write(p.session.join(INDEX), index.replace("CPV: app-misc/hello-2.10\n", &long)).expect("write");
    let published = put(&p, NOW);
    assert_eq!(published.added, [LIBX]);
    assert_eq!(published.skipped, [Skipped { path: HELLO.to_owned(), reason: Reason::TooBig }]);
}

#[test]
fn a_package_in_the_pool_is_a_plain_file_whatever_its_session_made_of_it() {
    use std::os::unix::fs::PermissionsExt;
    for transfer in [Transfer::Move, Transfer::Copy] {
        let p = place();
        for (package, mode) in [(HELLO, 0o6755), (LIBX, 0o666)] {
            build(&p, package, "x", 100);
            std::fs::set_permissions(p.session.join(package), std::fs::Permissions::from_mode(mode)).expect("chmod");
        }
        publish(&p.session, &p.pool, &|_| Some(key('1').into()), transfer, NOW, &Silent, &Examiner::default()).expect("publish");
        for package in [HELLO, LIBX] {
            assert_eq!(std::fs::metadata(p.pool.join(package)).expect("stat").mode() & 0o7777, 0o644, "{package}");
        }
    }
}

#[test]
fn packages_and_index_arrive() {
    let p = place();
    build(&p, HELLO, "12345", 100);
    assert_eq!(put(&p, NOW), Published { added: vec![HELLO.to_owned()], ..Published::default() });
    assert!(!p.session.join(HELLO).exists(), "moved, not copied");
    assert_eq!(std::fs::metadata(p.pool.join(HELLO)).expect("stat").mtime(), 100);
    let text = std::fs::read_to_string(p.pool.join(INDEX)).expect("index");
    let hello = stanza(HELLO, "app-misc/hello-2.10", 0, 100);
    let head = format!("ARCH: amd64\nPACKAGES: 1\nTIMESTAMP: {NOW}\nVERSION: 0\n\n");
    assert_eq!(text, format!("{head}BUILD_ID: 1\n{}", hello.replace("MTIME", &format!("GENTOOMUCH_KEY: {}\nMTIME", key('1')))));
    assert_eq!(std::fs::metadata(p.pool.join(INDEX)).expect("stat").mtime(), NOW);
    assert!(!p.pool.join(INCOMING).exists());

    // A second session adds; what the first brought stays, although its index does not name it.
    build(&p, LIBX, "12345", 200);
    put(&p, NOW + 1);
    assert_eq!(index_of(&p.pool).packages.keys().collect::<Vec<_>>(), [HELLO, LIBX]);

    // Nothing new: nothing is written.
    build(&p, LIBX, "12345", 200);
    put(&p, NOW + 2);
    assert!(std::fs::read_to_string(p.pool.join(INDEX)).expect("index").contains(&format!("TIMESTAMP: {}", NOW + 1)));
}

#[test]
fn of_one_key_the_newer_replaces_the_older_and_an_equal_one_is_left() {
    let p = place();
    for (path, contents, mtime) in [(HELLO, "old", 100), (LIBX, "same", 100), ("a/b/b-1-1.gpkg.tar", "newer", 500)] {
        build(&p, path, contents, mtime);
    }
    put(&p, NOW);
    for (path, contents, mtime) in [(HELLO, "new build", 200), (LIBX, "same", 300), ("a/b/b-1-1.gpkg.tar", "older", 400)] {
        build(&p, path, contents, mtime);
    }
    let published = put(&p, NOW);
    let second = "app-misc/hello/hello-2.10-2.gpkg.tar";
    assert_eq!(published.replaced, [second]);
    let skipped = |path: &str, reason| Skipped { path: path.to_owned(), reason };
    assert_eq!(published.skipped, [skipped("a/b/b-1-1.gpkg.tar", Reason::Older), skipped(LIBX, Reason::AlreadyThere)]);
    let read = |path: &str| std::fs::read(p.pool.join(path)).expect("read");
    assert_eq!((read(second), read("a/b/b-1-1.gpkg.tar")), (package("new build"), package("newer")));
    assert!(!p.pool.join(HELLO).exists(), "what is replaced is gone");
    assert_eq!(index_of(&p.pool).packages.len(), 3);
}

#[test]
fn builds_of_other_keys_lie_side_by_side() {
    let p = place();
    let of = |digit| move |_: &Stanza| Some(key(digit).into());
    for (digit, contents) in [('1', "one"), ('2', "two"), ('1', "one")] {
        build(&p, HELLO, contents, 100);
        publish(&p.session, &p.pool, &of(digit), Transfer::Copy, NOW, &Silent, &Examiner::default()).expect("publish");
    }
    let index = index_of(&p.pool);
    let told: Vec<_> =
        index.packages.iter().map(|(path, stanza)| (path.as_str(), key_in(stanza), stanza["BUILD_ID"].as_str())).collect();
    assert_eq!(told, [(HELLO, Some(key('1')), "1"), ("app-misc/hello/hello-2.10-2.gpkg.tar", Some(key('2')), "2")]);
    assert!(p.session.join(HELLO).exists(), "who goes on building keeps it");
}

/// A client obeys these: it downloads from the address, and runs the command.
#[test]
fn a_session_tells_clients_neither_commands_nor_addresses() {
    let p = place();
    build(&p, HELLO, "12345", 100);
    let index = std::fs::read_to_string(p.session.join(INDEX)).expect("index");
    let evil = index
        .replacen("ARCH: amd64\n", "ARCH: amd64\nURI: http://evil.example/\nGENTOO_MIRRORS: http://evil.example/\n", 1)
        .replacen(
            "CPV: ",
            "FETCHCOMMAND: touch /pwned\nBASE_URI: http://evil.example/\nRESUMECOMMAND: x\nPKGINDEX_URI: x\nCPV: ",
            1,
        );
    std::fs::write(p.session.join(INDEX), evil).expect("write");
    put(&p, NOW);
    let told = index_of(&p.pool);
    assert_eq!(told.header.keys().collect::<Vec<_>>(), ["ARCH", "VERSION"]);
    let keys: Vec<&str> = told.packages[HELLO].keys().map(String::as_str).collect();
    assert_eq!(keys, ["BUILD_ID", "CPV", "GENTOOMUCH_KEY", "MTIME", "PATH", "SIZE"]);
}

#[test]
fn what_nobody_was_to_build_or_is_not_listed_stays() {
    let p = place();
    build(&p, HELLO, "hello", 100);
    write(&p.session, LIBX, "not listed", 100);
    let published = publish(&p.session, &p.pool, &|_| None, Transfer::Copy, NOW, &Silent, &Examiner::default()).expect("publish");
    let told: Vec<_> = published.skipped.iter().map(|it| (it.path.as_str(), it.reason)).collect();
    assert_eq!(told, [(HELLO, Reason::NoKey), (LIBX, Reason::Unlisted)]);
    assert!(!p.pool.join(INDEX).exists());
}

#[test]
fn hostile_files_stay_where_they_are() {
    let p = place();
    let secret = p.session.join("secret");
    std::fs::write(&secret, "secret").expect("write");
    for path in ["a/link-1.gpkg.tar", "a/link/link-1-1.gpkg.tar"] {
        std::fs::create_dir_all(p.session.join(path).parent().expect("parent")).expect("mkdir");
        symlink(&secret, p.session.join(path)).expect("symlink");
    }
    symlink("/", p.session.join("rootdir")).expect("symlink");
    rustix::fs::mkfifoat(rustix::fs::CWD, p.session.join("a/fifo-1.tbz2"), Mode::RWXU).expect("mkfifo");
    write(&p.session, "a/b/c-1-1.gpkg.tar", "name of another package", 1);
    write(&p.session, "a/b/.hidden.gpkg.tar", "x", 1);
    write(&p.session, "a/reserved/reserved-1-1.gpkg.tar", "", 1);
    write(&p.session, "a/deep/er/still-1-1.gpkg.tar", "too deep", 1);
    build(&p, "a/b/b-2-1.gpkg.tar", "no package", 1);
    std::fs::write(p.session.join("a/b/b-2-1.gpkg.tar"), vec![b'x'; package("no package").len()]).expect("write");
    let file = File::options().write(true).open(p.session.join("a/b/b-2-1.gpkg.tar")).expect("open");
    set_mtime(&file, 1, 0).expect("utimens");
    build(&p, "a/single-1.gpkg.tar", "a name without a number", 1);
    File::create(p.session.join("a/huge-1.tbz2")).expect("create").set_len(MAX_PACKAGE_BYTES + 1).expect("sparse");
    let published = put(&p, NOW);
    let told: Vec<(String, Reason)> = published.skipped.into_iter().map(|s| (s.path, s.reason)).collect();
    let want = [
        ("a/b/.hidden.gpkg.tar", Reason::BadName),
        ("a/b/b-2-1.gpkg.tar", Reason::Broken),
        ("a/b/c-1-1.gpkg.tar", Reason::BadName),
        ("a/fifo-1.tbz2", Reason::NotAFile),
        ("a/huge-1.tbz2", Reason::TooBig),
        ("a/link-1.gpkg.tar", Reason::NotAFile),
        ("a/link/link-1-1.gpkg.tar", Reason::NotAFile),
        ("a/reserved/reserved-1-1.gpkg.tar", Reason::Empty),
        ("a/single-1.gpkg.tar", Reason::BadName),
    ];
    assert_eq!(told, want.map(|(path, reason)| (path.to_owned(), reason)));
    assert_eq!((published.added.len(), published.replaced.len()), (0, 0));
}

#[test]
fn an_index_that_lies_is_not_believed() {
    let p = place();
    write(&p.session, HELLO, "12345", 100);
    let lies = [
        stanza(HELLO, "app-misc/hello-2.10", 1, 100),
        stanza(LIBX, "dev-libs/libx-1.0", 0, 100),
        stanza("../../../etc/passwd", "a/b-1", 0, 100),
    ];
    for lie in [lies.concat(), stanza(HELLO, "sys-devel/gcc-14", 0, 100), stanza(HELLO, "app-misc/hello-2.10", 0, 101)] {
        write(&p.session, INDEX, &format!("{HEADER}{lie}"), 1);
        put(&p, NOW);
        assert!(!p.pool.join(INDEX).exists() && !p.pool.join(HELLO).exists(), "{lie}");
    }
    // The truth.
    write(&p.session, INDEX, &format!("{HEADER}{}", stanza(HELLO, "app-misc/hello-2.10", 0, 100)), 1);
    put(&p, NOW);
    assert_eq!(index_of(&p.pool).packages.len(), 1);
}

#[test]
fn a_package_deleted_by_hand_leaves_the_index() {
    let p = place();
    build(&p, HELLO, "12345", 100);
    put(&p, NOW);
    std::fs::remove_file(p.pool.join(HELLO)).expect("rm");
    build(&p, LIBX, "12345", 100);
    put(&p, NOW);
    assert_eq!(index_of(&p.pool).packages.keys().collect::<Vec<_>>(), [LIBX]);
}

#[test]
fn what_a_killed_run_left_is_removed() {
    let p = place();
    write(&p.pool, ".incoming/hello-2.10-1.gpkg.tar", "half", 1);
    build(&p, HELLO, "hello", 100);
    put(&p, NOW);
    assert!(!p.pool.join(INCOMING).exists());
}

/// What happens when a rename cannot do it: another file system, another owner.
#[test]
fn a_copy_is_whole_and_keeps_its_time() {
    let p = place();
    write(&p.session, HELLO, "hello", 100);
    let source = untrusted::open_root(&p.session).expect("open");
    let (file, _) = untrusted::open_file_in(source.as_fd(), Path::new(HELLO)).expect("open");
    let stat = rustix::fs::fstat(&file).expect("stat");
    let pool = LockedPool::lock(&p.pool, &Silent).expect("lock");
    std::fs::create_dir_all(p.pool.join("app-misc/hello")).expect("mkdir");
    assert!(pool.copy(file, &stat, Path::new(HELLO)).expect("copy"));
    assert_eq!(std::fs::read(p.pool.join(HELLO)).expect("read"), package("hello"));
    assert_eq!(std::fs::metadata(p.pool.join(HELLO)).expect("stat").mtime(), 100);
    assert!(p.session.join(HELLO).exists());
}

#[test]
fn a_second_publisher_waits_and_says_so() {
    struct Waiting(AtomicBool);
    impl Observer for Waiting {
        fn event(&self, event: &Event<'_>) {
            self.0.store(matches!(event, Event::Note(words) if words.contains("waiting")), Ordering::SeqCst);
        }
    }
    let p = place();
    build(&p, HELLO, "hello", 100);
    let held = LockedPool::lock(&p.pool, &Silent).expect("lock");
    let observer = Waiting(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            publish(&p.session, &p.pool, &|_| Some(key('1').into()), Transfer::Move, NOW, &observer, &Examiner::default())
        });
        while !observer.0.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!p.pool.join(HELLO).exists());
        drop(held);
        assert_eq!(second.join().expect("thread").expect("publish").added, [HELLO]);
    });
}

#[test]
fn words_of_errors() {
    let p = place();
    let to = |session: &Path, pool: &Path| publish(session, pool, &|_| None, Transfer::Move, NOW, &Silent, &Examiner::default());
    let missing = to(Path::new("/nonexistent/session"), &p.pool).expect_err("no session");
    assert_eq!(missing.to_string(), "cannot list the binary packages in `/nonexistent/session`");
    build(&p, HELLO, "hello", 100);
    let no_pool = to(&p.session, Path::new("/nonexistent/pool")).expect_err("no pool");
    assert_eq!(no_pool.to_string(), "cannot list the binary packages in `/nonexistent/pool`");
}

/// A session that goes on would write to the pool's package by the other name.
#[test]
fn a_package_with_another_name_in_the_session_is_copied() {
    let p = place();
    build(&p, HELLO, "hello", 100);
    std::fs::hard_link(p.session.join(HELLO), p.session.join("kept")).expect("link");
    assert_eq!(put(&p, NOW).added, [HELLO]);
    std::fs::write(p.session.join("kept"), "changed").expect("write");
    assert_eq!(std::fs::read(p.pool.join(HELLO)).expect("read"), package("hello"));
    assert_eq!(std::fs::metadata(p.pool.join(HELLO)).expect("stat").nlink(), 1);
}
