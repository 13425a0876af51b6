//! Targets of which what is read has to lie in a directory.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gentoomuch::internals::config::{ConfigDir, OciConfig, pin_line, write_pin};
use gentoomuch::internals::download::{Downloader, Request, Settings, Url};
use gentoomuch::internals::portage::make_conf;
use gentoomuch::internals::progress::Silent;

/// The one directory. The fuzzer ends its process without unwinding, so that this is never dropped: who started it removes it (`scripts/fuzz`).
fn root() -> &'static Path {
    static ROOT: OnceLock<tempfile::TempDir> = OnceLock::new();
    ROOT.get_or_init(|| tempfile::tempdir().expect("there is room for it")).path()
}

fn write(file: &str, text: impl AsRef<[u8]>) {
    let path = root().join(file);
    fs::create_dir_all(path.parent().expect("it has one")).expect("the directory can be written");
    fs::write(path, text).expect("the directory can be written");
}

fn config() -> ConfigDir {
    ConfigDir::open(root()).expect("it is there")
}

/// Files of a whole directory, one after the other, each after a line with a number that names it.
pub(crate) fn directory(text: &str) {
    const FILES: [&str; 25] = [
        "env/arch",
        "env/jobs",
        "env/tmpfs",
        "env/tree",
        "stage3.defines/base/cpu",
        "stage3.defines/base/portage.local",
        "stage3.defines/base/packages",
        "stage3.defines/base/portage.profile",
        "stage3.defines/base/network",
        "stage3.defines/base/scripts",
        "stage4.defines/web/stage3",
        "stage4.defines/web/profile",
        "stage4.defines/web/removes",
        "stage4.defines/web/keep",
        "stage4.defines/web/kconf",
        "kernel.configs/web.kconf",
        "package.sets/web",
        "package.sets/base",
        "user.removes/docs",
        "portage.global/make.conf",
        "portage.global/package.use",
        "portage.locals/one/make.conf",
        "portage.locals/one/package.mask",
        "portage.locals/one/package.env",
        "portage.locals/one/env/x",
    ];
    let root = root();
    let mut written = BTreeSet::new();
    for part in text.split('\u{1}') {
        let mut chars = part.chars();
        let Some(first) = chars.next() else { continue };
        let file = FILES[first as usize % FILES.len()];
        if written.insert(file) {
            write(file, chars.as_str());
        }
    }
    let config = ConfigDir::open(root).expect("it is there");
    config.check("amd64");
    if let Ok(definition) = config.stage3("base") {
        if let Ok(merged) = config.portage_dir(&definition) {
            make_conf::parse(merged.make_conf()).unwrap_or_else(|error| panic!("{error} in {}", merged.make_conf()));
        }
    }
    for file in written {
        fs::remove_file(root.join(file)).expect("the directory can be written");
    }
}

/// What is pinned stays pinned when it is printed, and when one more is.
pub(crate) fn tree_pins(text: &str) {
    write("env/tree", text);
    let Ok(env) = config().env("amd64") else { return };
    let pins: Vec<_> = env.tree.iter().map(|(name, pin)| (name.clone(), pin.value.clone())).collect();
    let read = || {
        let env = config().env("amd64").expect("it was just written");
        env.tree.into_iter().map(|(name, pin)| (name, pin.value)).collect::<Vec<_>>()
    };
    for (name, pin) in &pins {
        write_pin(root(), name, pin).expect("the directory can be written");
    }
    assert_eq!(read(), pins, "{text:?}");
    let printed: String = pins.iter().map(|(name, pin)| pin_line(name, pin) + "\n").collect();
    write("env/tree", printed);
    assert_eq!(read(), pins, "{text:?}");
}

pub(crate) fn repos_conf_file(text: &str) {
    write("portage.global/repos.conf", text);
    write("stage3.defines/base/packages", "app-misc/hello\n");
    let config = config();
    let definition = config.stage3("base").expect("nothing is wrong with it");
    let Ok(merged) = config.portage_dir(&definition) else { return };
    let mut names = BTreeSet::new();
    for entry in &merged.repositories.entries {
        assert!(entry.location.is_absolute() && names.insert(&entry.name.value), "{entry:?}");
        assert_eq!(merged.repositories.get(&entry.name.value), Some(entry));
    }
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The file that says the same.
fn oci_lines(config: &OciConfig) -> String {
    let mut text = String::new();
    let mut line = |key: &str, words: &[String]| {
        if !words.is_empty() {
            let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            text.push_str(&format!("{key} {}\n", words.join(" ")));
        }
    };
    let pairs = |map: &std::collections::BTreeMap<String, String>| -> Vec<String> {
        map.iter().map(|(name, value)| format!("{name}={value}")).collect()
    };
    line("entrypoint", &config.entrypoint);
    line("cmd", &config.cmd);
    line("env", &pairs(&config.env));
    line("label", &pairs(&config.labels));
    line("user", config.user.as_slice());
    line("workdir", config.workdir.as_slice());
    line("expose", &config.expose);
    line("volume", &config.volumes);
    line("stop-signal", config.stop_signal.as_slice());
    line("compression", config.compression.map(|compression| compression.name().to_owned()).as_slice());
    text
}

pub(crate) fn oci_file(text: &str) {
    write("stage4.defines/web/profile", "demo\n");
    write("stage4.defines/web/oci", text);
    let Ok(definition) = config().stage4("web") else { return };
    let read = definition.oci.expect("there is one");
    let written = oci_lines(&read);
    write("stage4.defines/web/oci", &written);
    let again = config().stage4("web").unwrap_or_else(|error| panic!("{error:?} in {written:?}"));
    assert_eq!(again.oci, Some(read), "{written:?}");
}

/// What is known of a partial file, and the file itself, after a number: its size if that is known from elsewhere. Nobody has the rest.
pub(crate) fn partial_download(text: &str) {
    static DOWNLOADER: OnceLock<Downloader> = OnceLock::new();
    let settings = || Settings { attempts: 1, pause: Duration::ZERO, ..Settings::default() };
    let downloader = DOWNLOADER.get_or_init(|| Downloader::new(settings(), Arc::new(|| false)));
    let mut parts = text.splitn(3, '\u{1}');
    let size = parts.next().and_then(|size| size.parse().ok());
    let (origin, part) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    write("file.part.json", origin);
    write("file.part", part);
    // Port 1 of this machine: nobody listens.
    let urls: [Url; 1] = ["http://127.0.0.1:1/file".parse().expect("it is one")];
    let target = root().join("file");
    let request = Request { urls: &urls, target: &target, size, limit: 1 << 20, afresh: false, no_wait: true };
    let outcome = downloader.file(&request, &Silent);
    let left = fs::read(root().join("file.part")).ok();
    match outcome {
        Ok(downloaded) => {
            assert_eq!(fs::read(&target).expect("it is there"), part.as_bytes());
            assert_eq!((downloaded.bytes, left), (part.len() as u64, None));
            assert!(size.is_none_or(|size| size == downloaded.bytes));
            fs::remove_file(&target).expect("the directory can be written");
        }
        // Nothing, or what there was.
        Err(_) => assert!(left.is_none_or(|left| left == part.as_bytes())),
    }
}
