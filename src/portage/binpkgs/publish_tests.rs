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
fn a_package_in_the_pool_is_a_plain_file_whatever_its_session_made_of_it() {
    use std::os::unix::fs::PermissionsExt;
    let p = place();
    for (package, mode) in [(HELLO, 0o6755), (LIBX, 0o666)] {
        write(&p.session, package, "x", 100);
        std::fs::set_permissions(p.session.join(package), std::fs::Permissions::from_mode(mode)).expect("chmod");
    }
    publish(&p.session, &p.pool, NOW, &Silent).expect("publish");
    for package in [HELLO, LIBX] {
        assert_eq!(std::fs::metadata(p.pool.join(package)).expect("stat").mode() & 0o7777, 0o644, "{package}");
    }
}

#[test]
fn packages_and_index_arrive() {
    let p = place();
    write(&p.session, HELLO, "hello", 100);
    write(&p.session, INDEX, &format!("{HEADER}{}", stanza(HELLO, "app-misc/hello-2.10", 0, 100)), 1);
    let published = publish(&p.session, &p.pool, NOW, &Silent).expect("publish");
    assert_eq!(published, Published { added: vec![HELLO.to_owned()], ..Published::default() });
    assert!(!p.session.join(HELLO).exists(), "moved, not copied");
    assert_eq!(std::fs::metadata(p.pool.join(HELLO)).expect("stat").mtime(), 100);
    let text = std::fs::read_to_string(p.pool.join(INDEX)).expect("index");
    assert_eq!(
        text,
        format!("ARCH: amd64\nPACKAGES: 1\nTIMESTAMP: {NOW}\nVERSION: 0\n\n{}", stanza(HELLO, "app-misc/hello-2.10", 0, 100))
    );
    assert_eq!(std::fs::metadata(p.pool.join(INDEX)).expect("stat").mtime(), NOW);
    assert!(!p.pool.join(INCOMING).exists());

    // A second session adds; what the first brought stays, although its index does not name it.
    write(&p.session, LIBX, "libx!", 200);
    write(&p.session, INDEX, &format!("{HEADER}{}", stanza(LIBX, "dev-libs/libx-1.0", 0, 200)), 1);
    publish(&p.session, &p.pool, NOW + 1, &Silent).expect("publish");
    assert_eq!(index_of(&p.pool).packages.keys().collect::<Vec<_>>(), [HELLO, LIBX]);

    // Nothing new: nothing is written.
    publish(&p.session, &p.pool, NOW + 2, &Silent).expect("publish");
    assert!(std::fs::read_to_string(p.pool.join(INDEX)).expect("index").contains(&format!("TIMESTAMP: {}", NOW + 1)));
}

#[test]
fn newer_replaces_older_and_equal_is_left() {
    let p = place();
    write(&p.pool, HELLO, "old", 100);
    write(&p.pool, LIBX, "same", 100);
    write(&p.pool, "a/b/b-1-1.gpkg.tar", "newer", 500);
    write(&p.session, HELLO, "new build", 200);
    write(&p.session, LIBX, "same", 300);
    write(&p.session, "a/b/b-1-1.gpkg.tar", "older", 400);
    let published = publish(&p.session, &p.pool, NOW, &Silent).expect("publish");
    assert_eq!(published.replaced, [HELLO]);
    let skipped = |path: &str, reason| Skipped { path: path.to_owned(), reason };
    assert_eq!(published.skipped, [skipped("a/b/b-1-1.gpkg.tar", Reason::Older), skipped(LIBX, Reason::AlreadyThere)]);
    let read = |path: &str| std::fs::read(p.pool.join(path)).expect("read");
    assert_eq!((read(HELLO), read("a/b/b-1-1.gpkg.tar")), (package("new build"), package("newer")));
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
    std::fs::write(p.session.join("a/b/b-2-1.gpkg.tar"), "no package").expect("write");
    File::create(p.session.join("a/huge-1.tbz2")).expect("create").set_len(MAX_PACKAGE_BYTES + 1).expect("sparse");
    let published = publish(&p.session, &p.pool, NOW, &Silent).expect("publish");
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
    ];
    assert_eq!(told, want.map(|(path, reason)| (path.to_owned(), reason)));
    assert_eq!((published.added.len(), published.replaced.len()), (0, 0));
}

#[test]
fn an_index_that_lies_is_not_believed() {
    let p = place();
    write(&p.session, HELLO, "hello", 100);
    let lies = [
        stanza(HELLO, "app-misc/hello-2.10", 1, 100),
        stanza(LIBX, "dev-libs/libx-1.0", 0, 100),
        stanza("../../../etc/passwd", "a/b-1", 0, 100),
    ];
    write(&p.session, INDEX, &format!("{HEADER}{}", lies.concat()), 1);
    publish(&p.session, &p.pool, NOW, &Silent).expect("publish");
    assert_eq!(index_of(&p.pool).packages.len(), 0);
    // Another package's name on a file that is there.
    write(&p.session, INDEX, &format!("{HEADER}{}", stanza(HELLO, "sys-devel/gcc-14", 0, 100)), 1);
    publish(&p.session, &p.pool, NOW, &Silent).expect("publish");
    assert_eq!(index_of(&p.pool).packages.len(), 0);
    // The truth, learned by a later session that opened the package.
    write(&p.session, INDEX, &format!("{HEADER}{}", stanza(HELLO, "app-misc/hello-2.10", 0, 100)), 1);
    publish(&p.session, &p.pool, NOW, &Silent).expect("publish");
    assert_eq!(index_of(&p.pool).packages.len(), 1);
}

#[test]
fn a_package_deleted_by_hand_leaves_the_index() {
    let p = place();
    for (path, cpv) in [(HELLO, "app-misc/hello-2.10"), (LIBX, "dev-libs/libx-1.0")] {
        write(&p.session, path, "12345", 100);
        write(&p.session, INDEX, &format!("{HEADER}{}", stanza(path, cpv, 0, 100)), 1);
        publish(&p.session, &p.pool, NOW, &Silent).expect("publish");
    }
    std::fs::remove_file(p.pool.join(HELLO)).expect("rm");
    publish(&p.session, &p.pool, NOW, &Silent).expect("publish");
    assert_eq!(index_of(&p.pool).packages.keys().collect::<Vec<_>>(), [LIBX]);
}

#[test]
fn promotion_copies_what_is_chosen() {
    let p = place();
    let throwaway =
        open_pool(p.pool.parent().expect("root"), PoolKind::Throwaway, &PoolInputs::default(), &Silent).expect("throw-away pool");
    assert!(throwaway.parent().expect("parent").ends_with(super::super::THROWAWAY));
    write(&p.session, HELLO, "hello", 100);
    write(&p.session, LIBX, "libx!", 200);
    let stanzas = stanza(HELLO, "app-misc/hello-2.10", 0, 100) + &stanza(LIBX, "dev-libs/libx-1.0", 0, 200);
    write(&p.session, INDEX, &format!("{HEADER}{stanzas}"), 1);
    publish(&p.session, &throwaway, NOW, &Silent).expect("publish");
    let published =
        promote(&throwaway, &p.pool, &mut |package| package.cpv.starts_with("dev-libs/"), NOW, &Silent).expect("promote");
    assert_eq!(published.added, [LIBX]);
    assert!(throwaway.join(LIBX).exists() && p.pool.join(LIBX).exists());
    assert_eq!(index_of(&p.pool).packages.keys().collect::<Vec<_>>(), [LIBX]);
    let stacked = session_index(&[&throwaway, &p.pool, Path::new("/nonexistent/pool")], NOW).expect("index").expect("some");
    assert_eq!(Index::parse(&stacked).packages.keys().collect::<Vec<_>>(), [HELLO, LIBX]);
    std::fs::remove_file(throwaway.join(HELLO)).expect("rm");
    let stacked = session_index(&[&throwaway, &p.pool], NOW).expect("index").expect("some");
    assert_eq!(Index::parse(&stacked).packages.keys().collect::<Vec<_>>(), [LIBX], "what was deleted by hand is not promised");
}

#[test]
fn what_a_killed_run_left_is_removed() {
    let p = place();
    write(&p.pool, ".incoming/hello-2.10-1.gpkg.tar", "half", 1);
    publish(&p.session, &p.pool, NOW, &Silent).expect("publish");
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
    pool.copy(file, &stat, Path::new(HELLO)).expect("copy");
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
    write(&p.session, HELLO, "hello", 100);
    let held = LockedPool::lock(&p.pool, &Silent).expect("lock");
    let observer = Waiting(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let second = scope.spawn(|| publish(&p.session, &p.pool, NOW, &observer));
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
    let missing = publish(Path::new("/nonexistent/session"), &p.pool, NOW, &Silent).expect_err("no session");
    assert_eq!(missing.to_string(), "cannot list the binary packages in `/nonexistent/session`");
    let no_pool = publish(&p.session, Path::new("/nonexistent/pool"), NOW, &Silent).expect_err("no pool");
    assert_eq!(no_pool.to_string(), "cannot list the binary packages in `/nonexistent/pool`");
}

/// A session that goes on would write to the pool's package by the other name.
#[test]
fn a_package_with_another_name_in_the_session_is_copied() {
    let p = place();
    write(&p.session, HELLO, "hello", 100);
    std::fs::hard_link(p.session.join(HELLO), p.session.join("kept")).expect("link");
    assert_eq!(publish(&p.session, &p.pool, NOW, &Silent).expect("publish").added, [HELLO]);
    std::fs::write(p.session.join("kept"), "changed").expect("write");
    assert_eq!(std::fs::read(p.pool.join(HELLO)).expect("read"), package("hello"));
    assert_eq!(std::fs::metadata(p.pool.join(HELLO)).expect("stat").nlink(), 1);
}
