//! The page about a run: what is in it, whoever's words those are, and that a browser shows it as it is meant.
//!
//! Pictures of it are kept in `target/tmp/report-WIDTH.png`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::host;
use crate::package_keys::define;
use crate::place::Place;
use crate::shared::{BULK, shared};
use crate::traced;

const HEAD: &str = "EAPI=8\nDESCRIPTION=\"said\"\nSLOT=\"0\"\nKEYWORDS=\"amd64\"\nLICENSE=\"GPL-2\"\nS=\"${WORKDIR}\"\n";
/// Markup, an attribute's end, the direction of text, and a terminal's codes.
const TALKER: &str = r#"
IUSE="report"
src_install() { dodir /usr/share/talker; use report && head -c 40000 /dev/zero >"${ED}"/usr/share/talker/more; }
pkg_postinst() {
    elog "<script>document.title='owned'</script><img src=x onerror=alert(1)>"
    ewarn "\" onmouseover=\"alert(1)"
    printf 'WARN an \342\200\256override\033]0;owned\007\n' >> "${T}/logging/postinst"
}
"#;
const FAILS: &str = "\nsrc_compile() { die \"<b>no luck</b>\"; }\n";

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn tree(place: &Place, name: &str, version: u32) -> PathBuf {
    let tree = place.path(&format!("report-trees/{name}"));
    if tree.exists() {
        fs::remove_dir_all(&tree).unwrap();
    }
    write(&tree.join("profiles/repo_name"), &format!("{name}\n"));
    write(&tree.join("profiles/categories"), "app-report\n");
    write(&tree.join("metadata/layout.conf"), "masters = gentoo\nthin-manifests = true\n");
    for (package, text) in [("talker", TALKER), ("fails", FAILS)] {
        let dir = tree.join("app-report").join(package);
        write(&dir.join(format!("{package}-{version}.ebuild")), &format!("{HEAD}{text}"));
        write(&dir.join("Manifest"), "");
    }
    tree
}

/// Records of runs that have built the stage.
fn records(place: &Place, name: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(&place.run(&["report", "--json"]).ok().text()).unwrap();
    let all = all.as_array().unwrap().iter();
    all.filter(|run| run["wanted"].as_array().unwrap().iter().any(|id| *id == format!("artifact/{name}"))).cloned().collect()
}

#[test]
fn a_run_has_a_page_that_shows_what_it_did_and_obeys_nobody() {
    let Some(shared) = shared() else { return };
    // States of earlier runs in a kept place must not be reused.
    let version = std::process::id();
    let name = &format!("report-{version}");
    let place = shared.place.with_config(shared.config("report"));
    place.run(&["sync", "--from", tree(&place, name, version).to_str().unwrap()]).ok();
    define(&place.config, ("demo", name), name, "", &[]);
    let stage = |file: &str, text: &str| write(&place.config.join(format!("stage4.defines/{name}/{file}")), &format!("{text}\n"));
    stage("packages", "app-report/talker");
    stage("format", "tar.zst");
    stage("removes", BULK);
    let file = place.path("report page.html");
    let run = |more: &[&str]| place.run(&[&["pipeline", "--no-sign", "--report", "report page.html", name], more].concat());
    let page = || fs::read_to_string(&file).unwrap();

    run(&[]).ok().says("report: ");
    let first = page();
    let package = format!("app-report/talker-{version}");
    for words in [
        "<section id=\"timeline\">",
        "<section id=\"audit\">",
        &format!("<span class=\"tag\">not audited</span> <code>gentoomuch audit {name}</code>"),
        &format!("<title>stage4/{name}: built, "),
        &format!("<title>{package}: compiled, "),
        &format!("<code>stage3/demo/{name}</code>"),
        "never built",
        "<span class=\"tag new\">new</span>",
        "&lt;script&gt;document.title=&#39;owned&#39;&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;",
        "&quot; onmouseover=&quot;alert(1)",
        ">emerge</a>",
        &format!("talker-{version}%3A"),
    ] {
        assert!(first.contains(words), "{words:?} is not in {first}");
    }
    holds_nothing_foreign(&first);
    let kept = records(&place, name);
    assert_eq!((kept.len(), &kept[0]["failed"]), (1, &0.into()), "{kept:?}");

    // With nothing to do nothing is started, and nothing but the page is written.
    let (again, started) = traced::run(&mut place.command(&["pipeline", "--no-sign", "--report", "report page.html", name]));
    assert_eq!(started, 0, "{}", again.ok());
    let idle = page();
    assert!(idle.contains("up to date") && idle.contains("nothing has changed") && idle.contains(&package), "{idle}");
    holds_nothing_foreign(&idle);
    assert_eq!(records(&place, name).len(), 1);

    // Another USE flag, and beside it a stage with a package that does not build: a page all the same.
    write(&place.config.join(format!("portage.locals/{name}/package.use")), "app-report/talker report\n");
    let bad = &format!("{name}-bad");
    for (file, text) in [("profile", "demo"), ("stage3", name), ("packages", "app-report/fails"), ("format", "tar.zst")] {
        write(&place.config.join(format!("stage4.defines/{bad}/{file}")), &format!("{text}\n"));
    }
    run(&["--keep-going", bad]).fails(6);
    let changed = page();
    for words in [
        "<section id=\"changes\">",
        "<code>app-report/talker</code>",
        "<span class=\"on\">+report</span>",
        "1 new file",
        "<section id=\"failures\">",
        &format!("<title>app-report/fails-{version}: did not end well, "),
        &format!("stage4/{bad} failed"),
    ] {
        assert!(changed.contains(words), "{words:?} is not in {changed}");
    }
    // An audit is in the pages from then on. The testbed's tree has no advisories.
    place.run(&["audit", name]).ok();
    place.run(&["report", name, "-o", "audited.html"]).ok();
    let audited = fs::read_to_string(place.path("audited.html")).unwrap();
    for words in ["<span class=\"tag warn\">unknown</span> the tree had none", "against <code>gentoo</code> of "] {
        assert!(audited.contains(words), "{words:?} is not in {audited}");
    }
    holds_nothing_foreign(&audited);
    place.run(&["clean", "--sessions", "--yes"]);

    // Earlier runs have theirs by any name.
    for words in [&["report", bad, "-o", "other.html"][..], &["report", "-o", "other.html", &format!("stage4/{bad}")]] {
        place.run(words).ok();
        assert!(fs::read_to_string(place.path("other.html")).unwrap().contains("<section id=\"failures\">"));
    }
    let record: Value = serde_json::from_str(&place.run(&["report", bad, "--json"]).ok().text()).unwrap();
    let node = record["nodes"].as_array().unwrap().iter().find(|node| node["id"] == format!("stage4/{bad}")).unwrap();
    assert_eq!((&node["result"], &record["version"]), (&"failed".into(), &1.into()));
    place.run(&["report", "stage4/of-nobody-at-all"]).fails(2).says("no record of a run that has built");
    place.run(&["pipeline", "--report", "none/x.html", name]).fails(2).says("there is no directory");
    in_a_browser(&place, &audited);
}

/// No script, nothing from elsewhere, one policy, and every character that is invisible or turns text around is written out.
fn holds_nothing_foreign(page: &str) {
    for tag in [
        "<script",
        "<img",
        "<link",
        "<iframe",
        "<object",
        "<embed",
        "<form",
        "<base",
        " src=",
        " style=",
        "@import",
        "url(",
        "javascript:",
    ] {
        let in_words = page.matches(tag).count();
        assert!(in_words == 0 || tag == " src=" && page.matches("&lt;img src=x").count() == in_words, "{tag} is in {page}");
    }
    assert_eq!(page.matches("Content-Security-Policy").count(), 1);
    assert!(page.contains("content=\"default-src 'none'; style-src 'sha256-"));
    let links = page.matches("href=").count();
    assert_eq!(page.matches("href=\"file:///").count(), links, "a link leads elsewhere");
    assert!(!page.contains("http://") && !page.contains("https://"));
    assert!(page.chars().all(|c| c == '\n' || !c.is_control() && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')));
}

/// What Chromium makes of it. It has nothing to complain about; an element that is not there, or that came from an ebuild, is seen here.
fn in_a_browser(place: &Place, page: &str) {
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let is_there = |name: &&str| {
        let found = Command::new("sh").args(["-c", "command -v \"$1\"", "sh", name]).stdout(Stdio::null()).status();
        found.is_ok_and(|status| status.success())
    };
    let Some(chromium) = names.iter().find(|name| is_there(name)) else { return host::skip("no Chromium") };
    let file = place.path("in a browser.html");
    fs::write(&file, page).unwrap();
    let url = format!("file://{}", file.display().to_string().replace(' ', "%20"));
    // Its own sandbox needs rights that a test's host may not give; the page is ours.
    let ran = |more: &[&str]| {
        let mut command = Command::new(chromium);
        command
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"])
            .args(more)
            .arg(&url);
        command.env("HOME", place.path("home")).env_remove("DBUS_SESSION_BUS_ADDRESS");
        let out = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{said}");
        assert!(!said.contains(":CONSOLE"), "{said}");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let dom = ran(&["--dump-dom"]);
    for element in [
        "<section id=\"timeline\">",
        "<section id=\"nodes\">",
        "<section id=\"audit\">",
        "<section id=\"changes\">",
        "<section id=\"sizes\">",
        "<section id=\"messages\">",
    ] {
        assert!(dom.contains(element), "{element} is not in {dom}");
    }
    assert!(!dom.contains("<script") && !dom.contains("<img") && dom.contains("– gentoomuch</title>"), "{dom}");
    for (width, height) in [(390, 2600), (1280, 2200)] {
        let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("report-{width}.png"));
        drop(fs::remove_file(&picture));
        ran(&[&format!("--window-size={width},{height}"), &format!("--screenshot={}", picture.display())]);
        // A page whose style is refused, or that shows nothing, is a few hundred bytes.
        assert!(fs::metadata(&picture).unwrap().len() > 20_000, "{}", picture.display());
    }
}

#[test]
fn records_are_forgotten_as_logs_are() {
    let Some(place) = Place::new() else { return };
    let old = SystemTime::now() - Duration::from_hours(40 * 24);
    for (name, began) in [("pipeline-20200101T000000Z", 1_577_836_800_000_u64), ("pipeline-20260101T000000Z-1", 1_767_225_600_000)]
    {
        let node = serde_json::json!({
            "id": "stage4/<web>", "kind": "stage4", "profile": "demo", "name": "<web>", "needs": [], "result": "built", "resumed": false,
            "why": [], "slot": 0, "began": began, "ended": began + 5000, "state": null, "before": null, "layer_bytes": null,
            "artifact": null, "artifact_before": null, "packages": [],
        });
        let run = serde_json::json!({
            "version": 1, "program": "0.1.0", "began": began, "ended": began + 5000, "jobs": 2, "wanted": ["stage4/<web>"], "nodes": [node],
        });
        place.write(&format!("data/logs/{name}/run.json"), run.to_string());
    }
    // What is none, or of a later version, is no run.
    place.write("data/logs/pipeline-20260101T000000Z-2/run.json", "{");
    place.write("data/logs/pipeline-20260101T000000Z-3/run.json", "{\"version\": 99}");
    let list = place.run(&["report"]).ok().text();
    let names: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["RUN", "pipeline-20260101T000000Z-1", "pipeline-20200101T000000Z"], "{list}");
    assert_eq!(place.run(&["logs"]).ok().text(), "nothing has been logged yet\n");
    let page = place.run(&["report", "pipeline-20200101T000000Z"]).ok().text();
    assert!(page.contains("<h1><span>&lt;web&gt;</span>") && page.contains("2020-01-01 00:00:00 UTC"), "{page}");
    holds_nothing_foreign(&page);

    let dir = place.path("data/logs/pipeline-20200101T000000Z");
    fs::File::open(&dir).unwrap().set_modified(old).unwrap();
    place.run(&["clean", "logs", "--yes"]).ok();
    assert!(!dir.exists());
    place.run(&["report", "pipeline-20200101T000000Z", "-o", "x.html"]).fails(2).says("no record of a run");
    place.run(&["report", "-o", "x.html"]).ok();
}
