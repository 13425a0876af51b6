//! Sessions without a network, and the sources that are brought for them: from a mirror on loopback, for packages of two overlays.
//!
//! ```text
//! fetching/app-fetch/…    forty (40 sources), twin, byhand, live, pair, one      no metadata cache: Portage is asked
//!                         late, which needs early                                its source waits for the test
//! other/app-fetch/…       twin-2 with a source of the same name and other bytes
//! mirrors                 a bad one, which lies, cuts, and lacks files, then a good one
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::child;
use crate::place::{Place, Ran, command_line, finish};
use crate::shared::{User, shared};

/// The mirrors, and the paths that they were asked for.
#[derive(Debug)]
struct Mirrors {
    address: String,
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
}

#[derive(Debug)]
struct World {
    place: Place,
    mirrors: Mirrors,
    /// What the good mirror has.
    sources: PathBuf,
}

const STAGE3: &str = "fetching";
/// Beside the sources: late's comes quickly from now on.
const RELEASED: &str = "released";
const PATIENCE: Duration = Duration::from_mins(4);
const HEAD: &str = "EAPI=8\nDESCRIPTION=\"For tests of fetching\"\nHOMEPAGE=\"https://example.org\"\nS=\"${WORKDIR}\"\nLICENSE=\"MIT\"\n\
                    SLOT=\"0\"\nKEYWORDS=\"amd64 arm64\"\n";
/// Portage itself lets this phase have the network of the session.
const NETWORK: &str = "pkg_setup() { readlink /proc/self/ns/net >\"${T}\"/network || die; }\n\
                       pkg_preinst() { cp \"${T}\"/network \"${D}\"/usr/share/fetched/network || die; }\n";
// Compiling is not done by root.
const INSTALL: &str = "src_compile() { (cd \"${DISTDIR}\" && cat ${A} >/dev/null) || die; }\nsrc_install() { cd \"${DISTDIR}\" && cat ${A} >\"${T}\"/all || die; cd \"${T}\"; insinto /usr/share/fetched; newins all ${PN}; }\n";

/// Serves `dir` twice: below `/good/` as it is, below `/bad/` not at all, or wrong.
fn serve(dir: &Path) -> Mirrors {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let (dir, counts) = (dir.to_owned(), Arc::clone(&asked));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (dir, counts) = (dir.clone(), Arc::clone(&counts));
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let first = lines.next().unwrap_or_default();
                let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
                lines.take_while(|line| !line.is_empty()).for_each(drop);
                if path.contains("/endless-") {
                    drop(write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n"));
                    while stream.write_all(b"x").is_ok() {
                        std::thread::sleep(Duration::from_secs(1));
                    }
                    return;
                }
                *counts.lock().unwrap().entry(path.clone()).or_default() += 1;
                let name = path.rsplit('/').next().unwrap_or_default();
                let bytes = fs::read(dir.join(name))
                    .ok()
                    .map(|bytes| if path.starts_with("/bad/") { spoilt(name, bytes) } else { (bytes, 0) });
                // Who breaks off has tested that.
                let _ = match bytes {
                    Some((bytes, 404)) => {
                        write!(stream, "HTTP/1.1 404 No\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len())
                    }
                    Some((bytes, cut)) => {
                        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len() + cut);
                        let is_held = || path.contains("/late-") && !dir.join(RELEASED).exists();
                        stream.write_all(head.as_bytes()).and_then(|()| dribble(&mut stream, &bytes, is_held))
                    }
                    None => write!(stream, "HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
                };
            });
        }
    });
    Mirrors { address, asked }
}

/// Sends so much that it is no stall, and all once it is not held any more.
fn dribble(stream: &mut TcpStream, bytes: &[u8], is_held: impl Fn() -> bool) -> io::Result<()> {
    for chunk in bytes.chunks(1024) {
        stream.write_all(chunk)?;
        if is_held() {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    Ok(())
}

/// What the bad mirror makes of a file, and how many bytes of it never come; 404: it has none.
fn spoilt(name: &str, mut bytes: Vec<u8>) -> (Vec<u8>, usize) {
    match name {
        name if name.starts_with("forty-7-") => {
            bytes[0] ^= 0xff;
            (bytes, 0)
        }
        name if name.starts_with("forty-9-") => {
            bytes.truncate(2);
            (bytes, 40)
        }
        _ => (Vec::new(), 404),
    }
}

impl Mirrors {
    fn count(&self, path: &str) -> usize {
        self.asked.lock().unwrap().get(path).copied().unwrap_or(0)
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn sum(program: &str, file: &Path) -> String {
    let text = String::from_utf8(child::check(Command::new(program).arg(file))).unwrap();
    text.split(' ').next().unwrap().to_owned()
}

/// A package of a tree, whose sources are `files`, with their Manifest.
fn package(tree: &Path, name: &str, ebuild: &str, files: &[(String, String)], sources: &Path) {
    let dir = tree.join("app-fetch").join(name);
    write(&dir.join(format!("{name}-{}.ebuild", run())), &format!("{HEAD}{ebuild}"));
    let mut manifest = String::new();
    for (file, text) in files {
        let path = sources.join(file);
        write(&path, text);
        let (size, blake, sha) = (text.len(), sum("b2sum", &path), sum("sha512sum", &path));
        writeln!(manifest, "DIST {file} {size} BLAKE2B {blake} SHA512 {sha}").unwrap();
    }
    write(&dir.join("Manifest"), &manifest);
}

fn uris(files: &[(String, String)]) -> String {
    let all: Vec<String> = files.iter().map(|(file, _)| format!("https://upstream.invalid/{file}")).collect();
    format!("SRC_URI=\"{}\"\n", all.join(" "))
}

/// In a place that stays there are packages and sources of the last run.
fn run() -> u32 {
    std::process::id()
}

/// The name of a source of this run.
fn named(name: &str) -> String {
    format!("{name}-{}.txt", run())
}

fn file(name: &str, text: &str) -> (String, String) {
    (named(name), format!("{text} of {}\n", run()))
}

fn trees(place: &Place, sources: &Path, mirrors: &Mirrors) {
    for (name, masters) in [("fetching", "gentoo"), ("other", "gentoo")] {
        let tree = place.path(&format!("fetching-trees/{name}"));
        if tree.exists() {
            fs::remove_dir_all(&tree).unwrap();
        }
        write(&tree.join("profiles/repo_name"), &format!("{name}\n"));
        write(&tree.join("profiles/categories"), "app-fetch\n");
        write(&tree.join("metadata/layout.conf"), &format!("masters = {masters}\nthin-manifests = true\n"));
    }
    let (tree, other) = (place.path("fetching-trees/fetching"), place.path("fetching-trees/other"));
    let forty: Vec<_> = (0..40).map(|number| file(&format!("forty-{number}"), &format!("source {number}"))).collect();
    package(&tree, "forty", &format!("{}{NETWORK}{INSTALL}", uris(&forty)), &forty, sources);
    for name in ["one", "pair", "hidden"] {
        let files = [file(&format!("{name}-a"), name), file(&format!("{name}-b"), name)];
        package(&tree, name, &format!("{}{NETWORK}{INSTALL}", uris(&files)), &files, sources);
    }
    // Of the same name in both trees; the good mirror can have only one, and the other is where its ebuild says.
    let twin = [file("twin", "the other twin")];
    let there = format!("SRC_URI=\"{}/good/twins/second.txt -> {}\"\nRESTRICT=\"mirror\"\n", mirrors.address, named("twin"));
    package(&other, "twin", &format!("{there}{INSTALL}"), &twin, sources);
    fs::rename(sources.join(named("twin")), sources.join("second.txt")).unwrap();
    let twin = [file("twin", "one twin")];
    package(&tree, "twin", &format!("{}{INSTALL}", uris(&twin)), &twin, sources);
    let byhand = [file("byhand", "by hand")];
    let nofetch = "RESTRICT=\"fetch\"\npkg_nofetch() { einfo \"carry it here\"; }\n";
    package(&tree, "byhand", &format!("{}{nofetch}{INSTALL}", uris(&byhand)), &byhand, sources);
    // Asked for its sources it asks for one of them, and says what came of it by an address.
    let deep = [file("deep", "deep")];
    let ask = format!(
        "SRC_URI=\"{0}/good/twins/asked.txt -> {1}\"\nRESTRICT=\"mirror\"\n/usr/bin/python3 - 2>/dev/null <<'P' || \
         SRC_URI=\"{0}/good/twins/mute.txt -> {1}\"\nimport socket\ns = socket.socket(socket.AF_UNIX)\n\
         s.connect(\"/run/gentoomuch/fetch/socket\")\ns.sendall(b\"source\\0{1}\\0\\0x\\n\")\nwhile s.recv(4096): pass\nP\n",
        mirrors.address,
        named("deep")
    );
    package(&tree, "deep", &format!("{ask}{INSTALL}"), &deep, sources);
    fs::rename(sources.join(named("deep")), sources.join("mute.txt")).unwrap();
    // More than comes while the test waits.
    let (early, late) = ([file("early", "early")], [file("late", &"late ".repeat(100_000))]);
    package(&tree, "early", &format!("{}{INSTALL}", uris(&early)), &early, sources);
    package(&tree, "late", &format!("DEPEND=\"app-fetch/early\"\n{}{INSTALL}", uris(&late)), &late, sources);
    // Never whole.
    let endless = [(named("endless"), "x".repeat(10_000))];
    package(&tree, "endless", &format!("{}{INSTALL}", uris(&endless)), &endless, sources);
    let unpack = format!(
        "PROPERTIES=\"live\"\nsrc_unpack() {{ python3 -c 'import urllib.request; \
         open(\"live\", \"wb\").write(urllib.request.urlopen(\"{}/good/{}\").read())' || die; }}\n\
         src_install() {{ insinto /usr/share/fetched; doins live; }}\n",
        mirrors.address,
        named("one-a")
    );
    package(&tree, "live", &unpack, &[], sources);
}

/// Trees, mirrors and a definition that knows both.
fn make(user: &User) -> World {
    let config = user.config("fetching");
    let place = user.place.with_config(config.clone());
    let sources = place.path("fetching-sources");
    if sources.exists() {
        fs::remove_dir_all(&sources).unwrap();
    }
    fs::create_dir_all(&sources).unwrap();
    let mirrors = serve(&sources);
    trees(&place, &sources, &mirrors);
    let section = |name| format!("[{name}]\nlocation = /var/db/repos/{name}\nmasters = gentoo\n\n");
    let overlays = section("fetching") + &section("other");
    write(
        &config.join("portage.locals/fetching/repos.conf/overlays.conf"),
        &format!("[DEFAULT]\nmain-repo = gentoo\n\n{overlays}"),
    );
    // What an administrator may have, and has no effect.
    let conf = format!(
        "GENTOO_MIRRORS=\"{0}/bad {0}/good\"\nFETCHCOMMAND=\"/bin/false ${{FILE}}\"\nFETCHCOMMAND_HTTP=\"/bin/false ${{FILE}}\"\n\
         RESUMECOMMAND_HTTPS=\"/bin/false ${{FILE}}\"\nFETCH_WRAPPER=\"/bin/false\"\nFEATURES=\"force-mirror userfetch parallel-fetch\"\n",
        mirrors.address
    );
    write(&config.join("portage.locals/fetching/make.conf"), &conf.replace("${FILE}", "\\${FILE}"));
    for (name, text) in [
        ("cpu", "generic-amd64\n"),
        ("portage.local", "fetching\n"),
        ("packages", "app-fetch/live\n"),
        ("network", "app-fetch/live\n"),
    ] {
        write(&config.join(format!("stage3.defines/{STAGE3}/{name}")), text);
    }
    write(&config.join("portage.locals/fetching/package.accept_keywords"), "app-fetch/live **\n");
    for name in ["fetching", "other"] {
        place.run(&["sync", "--from", place.path(&format!("fetching-trees/{name}")).to_str().unwrap()]).ok();
    }
    World { place, mirrors, sources }
}

fn world(user: &User) -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let world = make(user);
        // The live ebuild has the network that its definition gives it.
        world.stage("base", "app-fetch/live", &[]).ok();
        world
    })
}

impl World {
    /// Builds a stage4 with `packages`.
    fn stage(&self, name: &str, packages: &str, options: &[&str]) -> Ran {
        let args = self.stage_args(name, packages);
        self.place.run(&args.iter().map(String::as_str).chain(options.iter().copied()).collect::<Vec<_>>())
    }

    fn stage_args(&self, name: &str, packages: &str) -> Vec<String> {
        let name = format!("fetching-{name}");
        let dir = self.place.config.join("stage4.defines").join(&name);
        for (file, text) in [("profile", "demo\n"), ("stage3", "fetching\n"), ("packages", &format!("{packages}\n"))] {
            write(&dir.join(file), text);
        }
        ["stage", "build", &name, "--no-export"].map(str::to_owned).into()
    }

    /// A file of a stage4.
    fn text(&self, stage: &str, path: &str) -> String {
        self.place.run(&["cp", &format!("stage4/fetching-{stage}:{path}"), "-"]).ok().text()
    }

    /// Runs a script in a session on the definition.
    fn shell(&self, script: &str) -> Ran {
        self.place.run(&["shell", &format!("profile/demo/{STAGE3}"), "--", "sh", "-c", script])
    }

    fn distfile(&self, name: &str) -> PathBuf {
        self.place.path("cache/distfiles").join(name)
    }
}

#[test]
fn forty_sources_come_without_a_network_from_mirrors_that_lie_and_cut() {
    let Some(shared) = shared() else { return };
    let world = world(&shared);
    let ran = world.stage("forty", "app-fetch/forty", &[]).ok();
    let all = world.text("forty", "/usr/share/fetched/forty");
    assert_eq!(all.lines().count(), 40, "{ran}");
    for number in 0..40 {
        let name = named(&format!("forty-{number}"));
        assert_eq!(world.mirrors.count(&format!("/good/distfiles/{name}")), 1, "{name}");
        assert!(fs::read(world.distfile(&name)).unwrap() == fs::read(world.sources.join(&name)).unwrap());
    }
    ran.says(&format!("/bad/distfiles/{}`: the file is not the one that the Manifest describes", named("forty-7")));
    let host = fs::read_link("/proc/self/ns/net").unwrap();
    assert_ne!(world.text("forty", "/usr/share/fetched/network").trim(), host.to_str().unwrap());
    // Nothing of it is in the layer.
    let layer = world.place.run(&["store", "show", "--json", "stage4/fetching-forty"]).ok().text();
    let layer: serde_json::Value = serde_json::from_str(&layer).unwrap();
    let layer = world.place.store().join("layers").join(layer["layers"].as_array().unwrap().last().unwrap().as_str().unwrap());
    assert!(!layer.join("fs/var/cache/distfiles").exists() && !layer.join("fs/run").exists());
}

#[test]
fn a_name_that_two_trees_give_to_different_bytes_is_no_obstacle() {
    let Some(shared) = shared() else { return };
    let world = world(&shared);
    world.stage("twin-1", "app-fetch/twin::fetching", &[]).ok();
    let first = fs::read(world.distfile(&named("twin"))).unwrap();
    world.stage("twin-2", "app-fetch/twin::other", &[]).ok();
    assert!(world.text("twin-1", "/usr/share/fetched/twin").starts_with("one twin of "));
    assert!(world.text("twin-2", "/usr/share/fetched/twin").starts_with("the other twin of "));
    assert!(fs::read(world.distfile(&named("twin"))).unwrap() == first, "nobody's bytes change");
}

/// Runs a command that a fault would have run for ever.
fn in_time(command: &mut Command) -> Ran {
    let mut running = child::spawn(command.stdin(std::process::Stdio::null()));
    for _ in 0..1800 {
        if running.child().try_wait().unwrap().is_some() {
            return Ran::of(format!("{command:?}"), running.output());
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    running.child().kill().unwrap();
    panic!("{command:?} does not end: {}", String::from_utf8_lossy(&running.output().stderr));
}

#[test]
fn an_ebuild_that_is_asked_for_its_sources_can_ask_for_none() {
    let Some(shared) = shared() else { return };
    let world = world(&shared);
    let script = "emerge -1 --quiet app-fetch/deep && cat /usr/share/fetched/deep";
    let ran = in_time(&mut world.place.command(&["shell", &format!("profile/demo/{STAGE3}"), "--", "sh", "-c", script])).ok();
    assert!(ran.text().contains("deep of "), "{ran}");
    let count = |name: &str| world.mirrors.count(&format!("/good/twins/{name}.txt"));
    assert_eq!((count("mute"), count("asked")), (1, 0));
}

/// What comes first is compiled and installed while the last source is not here.
#[test]
fn the_first_package_does_not_wait_for_the_last_source() {
    let Some(shared) = shared() else { return };
    let world = world(&shared);
    let args = world.stage_args("late", "app-fetch/late");
    let mut command = world.place.command(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let mut running = child::spawn(&mut command);
    let since = Instant::now();
    let installed = || {
        let logs = fs::read_dir(world.place.path("data/logs")).unwrap().flatten();
        let mut logs = logs.filter(|log| log.file_name().to_string_lossy().starts_with("stage-fetching-late-"));
        logs.any(|log| {
            let text = fs::read_to_string(log.path().join("emerge.log")).unwrap_or_default();
            text.contains(&format!(">>> Installing (1 of 2) app-fetch/early-{}", run()))
        })
    };
    while !installed() {
        let ended = running.child().try_wait().unwrap();
        assert!(ended.is_none() && since.elapsed() < PATIENCE, "nothing was installed before the last source came: {ended:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(!world.distfile(&named("late")).exists());
    write(&world.sources.join(RELEASED), "");
    finish(command_line(&command), running).ok();
    assert!(world.text("late", "/usr/share/fetched/late").ends_with(&format!("late  of {}\n", run())));
}

/// Whatever holds the other side of its output by then: here our own socket, in which nobody reads.
#[test]
fn a_build_ends_with_its_session() {
    let Some(shared) = shared() else { return };
    let world = world(&shared);
    // The questions have been read when the descriptors come.
    let script = format!(
        "#!/usr/bin/python3\nimport socket, time\nkept = []\nfor n in range(100):\n    s = socket.socket(socket.AF_UNIX)\n    \
         s.connect('/run/gentoomuch/fetch/socket')\n    s.sendall(b'source\\0{}\\0\\0x\\n')\n    kept.append(s)\ntime.sleep(3)\n\
         for s in kept: socket.send_fds(s, [b'x'], [1, 2])\nprint('all is said', flush=True)\nraise SystemExit(3)\n",
        named("endless")
    );
    let args = world.stage_args("endless", "");
    write(&world.place.config.join("stage4.defines/fetching-endless/scripts"), "endless\n");
    write(&world.place.config.join("user.scripts/endless"), &script);
    in_time(&mut world.place.command(&args.iter().map(String::as_str).collect::<Vec<_>>())).fails(1).says("all is said");
}

#[test]
fn whoever_unpacks_may_read_sources_whatever_the_umask() {
    let Some(shared) = shared() else { return };
    let world = world(&shared);
    let cache = world.place.path(&format!("fetching-cache-{}", run()));
    let build = |name: &str, packages: &str| {
        let args = world.stage_args(name, packages);
        let args: Vec<&str> = args.iter().map(String::as_str).chain(["--cache", cache.to_str().unwrap()]).collect();
        crate::place::run(&mut world.place.command_with_umask("077", &args)).ok()
    };
    build("closed-1", "app-fetch/twin::fetching");
    build("closed-2", "app-fetch/twin::other");
    assert!(world.text("closed-2", "/usr/share/fetched/twin").starts_with("the other twin of "));
    fs::remove_dir_all(&cache).unwrap();
}

#[test]
fn what_is_to_be_fetched_by_hand_says_what_portage_says() {
    let Some(shared) = shared() else { return };
    let world = world(&shared);
    drop(fs::remove_file(world.distfile(&named("byhand"))));
    world.stage("byhand", "app-fetch/byhand", &[]).fails(6).says("carry it here");
    assert_eq!(world.mirrors.count(&format!("/good/distfiles/{}", named("byhand"))), 0, "mirrors may not have it");
    fs::copy(world.sources.join(named("byhand")), world.distfile(&named("byhand"))).unwrap();
    world.stage("byhand", "app-fetch/byhand", &[]).ok();
    assert!(world.text("byhand", "/usr/share/fetched/byhand").starts_with("by hand of "));
}

#[test]
fn all_that_is_missing_is_named_before_anything_is_built_and_the_build_goes_on() {
    let Some(shared) = shared() else { return };
    let world = world(&shared);
    let offline = world.stage("pair", "app-fetch/pair", &["--offline"]).fails(6);
    let words = format!("error: cannot fetch 2 files, and downloads are switched off\n  {}  ", named("pair-a"));
    offline.says(&words).says(&format!("\n  {}  ", named("pair-b")));
    let offline = world.stage("pair", "app-fetch/pair", &["--offline"]).fails(6);
    offline.says("resuming stage4 fetching-pair").says(&format!("app-fetch/pair-{}\n", run()));
    world.stage("pair", "app-fetch/pair", &[]).ok().says("resuming stage4 fetching-pair");
    assert_eq!(world.text("pair", "/usr/share/fetched/pair").lines().count(), 2);
}

#[test]
fn what_nobody_has_is_told_with_everybody_who_was_asked() {
    let Some(shared) = shared() else { return };
    let world = world(&shared);
    fs::rename(world.sources.join(named("hidden-a")), world.sources.join("hidden")).unwrap();
    let ran = world.stage("hidden", "app-fetch/hidden", &[]).fails(6);
    let name = named("hidden-a");
    let ran = ran.says(&format!("cannot fetch `{name}` for `app-fetch/hidden-{}`", run()));
    ran.says(&format!("/good/distfiles/{name}: ")).says(&format!("https://upstream.invalid/{name}: "));
    fs::rename(world.sources.join("hidden"), world.sources.join(named("hidden-a"))).unwrap();
    world.stage("hidden", "app-fetch/hidden", &[]).ok();
}

#[test]
fn a_hand_typed_emerge_gets_its_sources_without_a_network() {
    let Some(shared) = shared() else { return };
    let world = world(&shared);
    let script = "readlink /proc/self/ns/net; emerge --oneshot app-fetch/one && cat /usr/share/fetched/one";
    let ran = world.shell(script).ok();
    let host = fs::read_link("/proc/self/ns/net").unwrap();
    assert!(!ran.text().starts_with(host.to_str().unwrap()) && ran.text().contains("\none of "), "{ran}");
    assert!(!ran.stderr.contains("warning: "), "{ran}");
    let host = ["shell", &format!("profile/demo/{STAGE3}"), "--network", "host", "--", "true"];
    world.place.run(&host).ok().says("warning: the session has the host's network");
}

#[test]
fn source_archives_of_others_cannot_be_changed_and_ones_own_are_nobody_elses() {
    let Some(shared) = shared() else { return };
    let world = world(&shared);
    let name = named("one-a");
    let theirs = world.distfile(&name);
    fs::copy(world.sources.join(&name), &theirs).unwrap();
    let before = fs::read(&theirs).unwrap();
    let script = format!(
        "emerge --fetchonly --usepkg=n --quiet app-fetch/one >/dev/null 2>&1 || exit 9
         for dir in /run/gentoomuch/distfiles /var/cache/distfiles; do
             echo changed 2>/dev/null >$dir/{name} && echo wrote $dir
             mv $dir/{name} $dir/x 2>/dev/null && echo moved $dir
             echo new 2>/dev/null >$dir/planted && echo planted $dir
         done
         mount -o remount,rw /run/gentoomuch/distfiles 2>/dev/null && echo remounted
         echo x 2>/dev/null >/run/gentoomuch/fetch/fetch && echo script
         exit 0"
    );
    let ran = world.shell(&script).ok();
    assert_eq!(ran.text(), "moved /var/cache/distfiles\nplanted /var/cache/distfiles\n", "a link into what is read-only: {ran}");
    assert_eq!(fs::read(&theirs).unwrap(), before);
    assert!(!world.distfile("planted").exists() && !world.distfile("x").exists());
    world.shell("test ! -e /var/cache/distfiles/planted").ok();
}

/// Asks in a session for what it is not to have, and says how often it was told anything but no.
const ASK: &str = r#"
import socket, sys
def refused(*fields):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect("/run/gentoomuch/fetch/socket")
    connection.sendall("\0".join(fields).encode() + b"\n")
    return connection.makefile().read().split(" ")[0] in ("no", "empty")
address = sys.argv[1]
wrong = 0
for number in range(10000):
    name = "no-%d.txt" % number if number % 2 else "../../../etc/passwd"
    wrong += not refused("source", name, "blake2b:00", address + "/good/secret-%d" % number)
for uri in (address + "/good/secret", "file:///etc/passwd", "http://169.254.169.254/x", "http://[::1]/x"):
    wrong += not refused("source", sys.argv[2], "blake2b:00", uri)
    wrong += not refused("package", "x.gpkg.tar", "", uri)
print(wrong)
"#;

#[test]
fn a_session_gets_nothing_that_no_manifest_has_and_from_nowhere_else() {
    let Some(shared) = shared() else { return };
    let world = world(&shared);
    let before: usize = world.mirrors.asked.lock().unwrap().keys().filter(|path| path.contains("secret")).count();
    let state = format!("profile/demo/{STAGE3}");
    let ran = world.place.run(&["shell", &state, "--", "python3", "-c", ASK, &world.mirrors.address, &named("one-a")]).ok();
    assert_eq!(ran.text(), "0\n", "{ran}");
    let after: usize = world.mirrors.asked.lock().unwrap().keys().filter(|path| path.contains("secret")).count();
    assert_eq!((before, after), (0, 0));
}

#[test]
fn nobody_outside_can_be_handed_a_descriptor() {
    let Some(shared) = shared() else { return };
    let world = world(&shared);
    let name = format!("gentoomuch-test-{}", std::process::id());
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let python =
        format!("import socket; s = socket.socket(socket.AF_UNIX); s.connect('\\0{name}'); socket.send_fds(s, [b'x'], [0])");
    let reach = |command: &[&str]| world.place.run(&[command, &["--", "python3", "-c", &python]].concat());
    let ran = reach(&["freshroot"]).fails(1);
    // Its network namespace has no such name.
    assert!(ran.stderr.contains("ConnectionRefusedError"), "{ran}");
    assert!(listener.accept().is_err(), "nobody came");
    // Nor by the socket that it has: what is sent with a question is dropped.
    let python = "import socket, os; s = socket.socket(socket.AF_UNIX); s.connect('/run/gentoomuch/fetch/socket'); \
                  socket.send_fds(s, [b'source\\0x\\0\\0\\n'], [os.open('/', os.O_RDONLY)]); print(s.makefile().readline().strip())";
    let ran = world.place.run(&["freshroot", "--", "python3", "-c", python]).ok();
    assert!(ran.text().starts_with("no "), "{ran}");
}

#[test]
fn commands_that_download_are_findings() {
    let Some(shared) = shared() else { return };
    let world = world(&shared);
    let out = world.place.run(&["config", "check", STAGE3]);
    let mut text = String::new();
    out.stdout.as_slice().read_to_string(&mut text).unwrap();
    for (line, name) in [(2, "FETCHCOMMAND"), (3, "FETCHCOMMAND_HTTP"), (4, "RESUMECOMMAND_HTTPS"), (5, "FETCH_WRAPPER")] {
        let words = format!("portage.locals/fetching/make.conf:{line}: warning: `{name}` has no effect");
        assert!(text.contains(&words), "{words} is not in {text}");
    }
}
