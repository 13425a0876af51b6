use std::process::Command;

use super::*;
use crate::config::Error as ConfigError;

fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, ConfigDir) {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config");
    for (path, text) in files {
        let path = config.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let config = ConfigDir::open(&config).unwrap();
    (dir, config)
}

fn want(file: LineFile, line: &str) -> WantedLine {
    let mut words = line.split_whitespace().map(str::to_owned);
    let atom = words.next().unwrap().parse().unwrap();
    WantedLine { file, atom, words: words.collect(), because: vec!["needed by x/y-1".to_owned()], masked_by_configuration: false }
}

fn use_line(line: &str) -> WantedLine {
    want(LineFile::Use, line)
}

fn proposed(config: &ConfigDir, wanted: &[WantedLine], into: Option<&str>) -> Result<(Vec<Edit>, Vec<Placed>), Error> {
    let stage3 = config.stage3("web").unwrap();
    propose(&config.fragments(&stage3, into)?, wanted, into)
}

/// The diff, after it was found that `patch` and `git apply` make of the files what we would.
fn diff(config: &ConfigDir, wanted: &[WantedLine], into: Option<&str>) -> String {
    let (edits, _) = proposed(config, wanted, into).unwrap();
    let text = unified(&edits);
    for program in [&["patch", "-p1", "--quiet", "-i"][..], &["git", "apply"]] {
        let copy = tempfile::tempdir().unwrap();
        let ok = Command::new("cp").arg("-RT").arg(config.root()).arg(copy.path()).status().unwrap();
        assert!(ok.success());
        let file = copy.path().join(".diff");
        std::fs::write(&file, &text).unwrap();
        // A host without one of them still has the other.
        let Ok(status) = Command::new(program[0]).args(&program[1..]).arg(&file).current_dir(copy.path()).status() else {
            continue;
        };
        assert!(status.success(), "{program:?} refused:\n{text}");
        for edit in &edits {
            assert_eq!(std::fs::read_to_string(copy.path().join(&edit.path)).unwrap(), edit.after, "{program:?}");
        }
    }
    write(config.root(), &edits).unwrap();
    for edit in &edits {
        assert_eq!(std::fs::read_to_string(config.root().join(&edit.path)).unwrap(), edit.after);
    }
    let again = proposed(config, wanted, into).unwrap().0;
    assert!(again.is_empty(), "made once, nothing is left to do: {again:?}");
    text
}

const PLAIN: [(&str, &str); 4] = [
    ("stage3.defines/web/portage.local", "base\nown\nbase2\n"),
    ("stage3.defines/other/portage.local", "base\nbase2\n"),
    ("portage.locals/base/make.conf", ""),
    ("portage.locals/base2/make.conf", ""),
];

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    PLAIN.iter().chain(&[("portage.locals/own/make.conf", "")]).chain(more).copied().collect()
}

#[test]
fn a_new_file_in_the_fragment_of_ones_own() {
    let (_dir, config) = tree(&with(&[]));
    let wanted =
        [use_line("dev-libs/greet static-libs"), want(LineFile::AcceptKeywords, "=a/b-1 ~amd64"), want(LineFile::Unmask, "=a/b-1")];
    insta::assert_snapshot!(diff(&config, &wanted, None), @r#"
    --- /dev/null
    +++ b/portage.locals/own/package.accept_keywords
    @@ -0,0 +1,2 @@
    +# needed by x/y-1
    +=a/b-1 ~amd64
    --- /dev/null
    +++ b/portage.locals/own/package.unmask
    @@ -0,0 +1,2 @@
    +# needed by x/y-1
    +=a/b-1
    --- /dev/null
    +++ b/portage.locals/own/package.use
    @@ -0,0 +1,2 @@
    +# needed by x/y-1
    +dev-libs/greet static-libs
    "#);
}

#[test]
fn a_line_that_is_there_is_extended() {
    let text = "# flags\ndev-libs/greet utf8 VIDEO_CARDS: intel   # mine\napp-misc/last x";
    let (_dir, config) = tree(&with(&[("portage.locals/base/package.use", text)]));
    let wanted = [use_line("dev-libs/greet static-libs"), use_line("app-misc/last -y x")];
    insta::assert_snapshot!(diff(&config, &wanted, None), @r#"
    --- a/portage.locals/base/package.use
    +++ b/portage.locals/base/package.use
    @@ -1,3 +1,5 @@
     # flags
    -dev-libs/greet utf8 VIDEO_CARDS: intel   # mine
    -app-misc/last x
    \ No newline at end of file
    +# static-libs: needed by x/y-1
    +dev-libs/greet utf8 static-libs VIDEO_CARDS: intel   # mine
    +# -y: needed by x/y-1
    +app-misc/last x -y
    \ No newline at end of file
    "#);
}

#[test]
fn a_line_for_another_version_is_followed() {
    let text = "dev-libs/a x\n=dev-libs/greet-0.9 utf8\ndev-libs/z x\n";
    let (_dir, config) = tree(&with(&[("portage.locals/own/package.use/flags", text)]));
    insta::assert_snapshot!(diff(&config, &[use_line("dev-libs/greet static-libs")], None), @r#"
    --- a/portage.locals/own/package.use/flags
    +++ b/portage.locals/own/package.use/flags
    @@ -1,3 +1,5 @@
     dev-libs/a x
     =dev-libs/greet-0.9 utf8
    +# needed by x/y-1
    +dev-libs/greet static-libs
     dev-libs/z x
    "#);
}

#[test]
fn a_text_without_a_last_newline_gets_one() {
    let (_dir, config) = tree(&with(&[("portage.locals/own/package.use", "dev-libs/a x")]));
    insta::assert_snapshot!(diff(&config, &[use_line("dev-libs/greet static-libs")], None), @r#"
    --- a/portage.locals/own/package.use
    +++ b/portage.locals/own/package.use
    @@ -1 +1,3 @@
    -dev-libs/a x
    \ No newline at end of file
    +dev-libs/a x
    +# needed by x/y-1
    +dev-libs/greet static-libs
    "#);
}

#[test]
fn each_directory_has_its_habits() {
    for (files, path) in [
        (vec![("portage.locals/own/package.use/b", "a/b x\n")], "portage.locals/own/package.use/greet"),
        (vec![("portage.locals/own/package.use/own", "a/b x\n")], "portage.locals/own/package.use/own"),
        (
            vec![("portage.locals/own/package.use/b", "a/b x\n"), ("portage.locals/own/package.use/c", "a/c x\n")],
            "portage.locals/own/package.use/greet",
        ),
        (
            vec![("portage.locals/own/package.use/b", "a/b x\n"), ("portage.locals/own/package.use/c", "dev-libs/greet x\n")],
            "portage.locals/own/package.use/c",
        ),
        (vec![("portage.locals/own/package.license/b", "a/b X\n")], "portage.locals/own/package.use/greet"),
        (vec![("portage.locals/own/package.license", "a/b X\n")], "portage.locals/own/package.use"),
        (vec![("portage.global/package.use", "dev-libs/greet utf8\n")], "portage.global/package.use"),
        (
            vec![("portage.global/package.use", "dev-libs/greet a\n"), ("portage.locals/base/package.use/x", "dev-libs/greet b\n")],
            "portage.locals/base/package.use/x",
        ),
    ] {
        let (_dir, config) = tree(&with(&files));
        let (edits, _) = proposed(&config, &[use_line("dev-libs/greet static-libs")], None).unwrap();
        assert_eq!(edits.len(), 1);
        assert_eq!(edits[0].path, Path::new(path), "{files:?}");
    }
}

#[test]
fn says_which_fragment_and_why() {
    let chosen = |files: &[(&str, &str)], into| {
        let (_dir, config) = tree(files);
        let (_, placed) = proposed(&config, &[use_line("dev-libs/greet static-libs")], into).unwrap();
        (placed[0].fragment.display().to_string(), placed[0].chosen.clone().unwrap_or_default())
    };
    assert_eq!(chosen(&with(&[]), None), ("portage.locals/own".to_owned(), String::new()));
    let none = [("stage3.defines/web/cpu", "c\n"), ("cpu.defines/c/make.conf", ""), ("portage.global/make.conf", "")];
    assert_eq!(
        chosen(&none, None),
        (
            "portage.global".to_owned(),
            "`web` lists no fragment: `portage.global` changes every stage (`--write NAME` makes one)".to_owned()
        )
    );
    let shared: Vec<_> = PLAIN
        .iter()
        .map(|(path, text)| if *path == "stage3.defines/web/portage.local" { (*path, "base\nbase2\n") } else { (*path, *text) })
        .collect();
    assert_eq!(
        chosen(&shared, None),
        (
            "portage.locals/base2".to_owned(),
            "`web` has no fragment of its own: the lines go to `portage.locals/base2`, the last one that it lists, which `other` \
             lists as well"
                .to_owned()
        )
    );
    assert_eq!(
        chosen(&with(&[("portage.global/package.use", "dev-libs/greet x\n")]), None).1,
        "`portage.global` has a line for `dev-libs/greet` already: the new one goes there, which is for every stage"
    );
    for into in ["base", "portage.locals/base", "portage.locals/base/"] {
        assert_eq!(chosen(&with(&[]), Some(into)).0, "portage.locals/base");
    }
    assert_eq!(chosen(&with(&[]), Some("portage.global")).0, "portage.global");
}

#[test]
fn a_fragment_that_nobody_lists_is_made_and_listed() {
    let (_dir, config) = tree(&with(&[]));
    insta::assert_snapshot!(diff(&config, &[use_line("dev-libs/greet static-libs")], Some("web/extra")), @r#"
    --- /dev/null
    +++ b/portage.locals/web/extra/package.use
    @@ -0,0 +1,2 @@
    +# needed by x/y-1
    +dev-libs/greet static-libs
    --- a/stage3.defines/web/portage.local
    +++ b/stage3.defines/web/portage.local
    @@ -1,3 +1,4 @@
     base
     own
     base2
    +web/extra
    "#);
    assert!(config.stage3("web").unwrap().portage_locals.iter().any(|local| local.value == "web/extra"));
    for (into, message) in [
        ("../up", "`../up` cannot be the name of a fragment"),
        ("/etc", "`/etc` cannot be the name of a fragment"),
        ("cpu.defines/x", "`cpu.defines/x` is no fragment of `web`"),
        ("stage3.defines/web", "`stage3.defines/web` is no fragment of `web`"),
        ("portage.locals", "`portage.locals` is no fragment of `web`"),
    ] {
        assert_eq!(proposed(&config, &[use_line("a/b x")], Some(into)).unwrap_err().to_string(), message);
    }
}

#[test]
fn what_says_the_opposite_is_a_contradiction() {
    let message = |files: &[(&str, &str)], wanted: WantedLine| {
        let (_dir, config) = tree(&with(files));
        proposed(&config, &[wanted], None)
            .map(|_| ())
            .map_err(|error| error.to_string().replace(&format!("{}/", config.root().display()), ""))
    };
    let global = |text| [("portage.global/package.use", text)];
    assert_eq!(
        message(&global("# no\ndev-libs/greet -static-libs # small\n"), use_line("dev-libs/greet static-libs")),
        Err("portage.global/package.use:2: `dev-libs/greet -static-libs` contradicts what is needed: `dev-libs/greet static-libs` in `portage.global/package.use`".to_owned())
    );
    for (text, wanted, contradicts) in [
        ("dev-libs/greet static-libs\n", "dev-libs/greet -static-libs", true),
        (">=dev-libs/greet-1 -static-libs\n", "dev-libs/greet static-libs", true),
        ("=dev-libs/greet-1 -static-libs\n", "=dev-libs/greet-2 static-libs", false),
        ("=dev-libs/greet-1* -static-libs\n", "=dev-libs/greet-1.2 static-libs", true),
        ("dev-libs/greet:1 -static-libs\n", "dev-libs/greet:2 static-libs", false),
        ("*/* -static-libs\n", "dev-libs/greet static-libs", false),
        ("dev-libs/other -static-libs\n", "dev-libs/greet static-libs", false),
        ("dev-libs/greet VIDEO_CARDS: -intel\n", "dev-libs/greet video_cards_intel", true),
        ("dev-libs/greet -static-libs\ndev-libs/greet static-libs # override\n", "dev-libs/greet static-libs", false),
    ] {
        assert_eq!(message(&global(text), use_line(wanted)).is_err(), contradicts, "{text} {wanted}");
    }
    let mut unmask = want(LineFile::Unmask, "=dev-libs/greet-1");
    let mask = [("portage.global/package.mask", "dev-libs/greet\n")];
    assert_eq!(message(&mask, unmask.clone()), Ok(()), "masked by the tree: the other mask is about something else");
    unmask.masked_by_configuration = true;
    assert_eq!(
        message(&mask, unmask),
        Err("portage.global/package.mask:1: `dev-libs/greet` contradicts what is needed: `=dev-libs/greet-1` in `portage.locals/own/package.unmask`".to_owned())
    );
}

#[test]
fn files_that_changed_meanwhile_are_left_alone() {
    let (_dir, config) = tree(&with(&[("portage.locals/own/package.use", "a/b x\n")]));
    let (edits, _) = proposed(&config, &[use_line("dev-libs/greet static-libs")], None).unwrap();
    let path = config.root().join("portage.locals/own/package.use");
    std::fs::write(&path, "a/b y\n").unwrap();
    let error = write(config.root(), &edits).unwrap_err().to_string();
    assert_eq!(error, format!("`{}` has changed meanwhile", path.display()));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a/b y\n");
    std::fs::remove_file(&path).unwrap();
    let outside = config.root().parent().unwrap().join("outside");
    std::fs::write(&outside, "a/b x\n").unwrap();
    std::os::unix::fs::symlink(&outside, &path).unwrap();
    let error = write(config.root(), &edits).unwrap_err().to_string();
    assert_eq!(error, format!("`{}` is a link that leads out of the configuration directory", path.display()));
}

#[test]
fn a_mode_and_a_link_inside_stay() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_dir, config) = tree(&with(&[("portage.locals/own/real", "a/b x\n")]));
    let path = config.root().join("portage.locals/own/package.use");
    std::os::unix::fs::symlink("real", &path).unwrap();
    let real = config.root().join("portage.locals/own/real");
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (edits, _) = proposed(&config, &[use_line("dev-libs/greet static-libs")], None).unwrap();
    assert_eq!(write(config.root(), &edits).unwrap(), [PathBuf::from("portage.locals/own/package.use")]);
    assert!(path.is_symlink());
    assert!(std::fs::read_to_string(&real).unwrap().ends_with("dev-libs/greet static-libs\n"));
    assert_eq!(std::fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(real.parent().unwrap()).unwrap().count(), 3, "nothing is left beside it");
}

#[test]
fn hunks_are_those_of_diff() {
    let lines = |numbers: std::ops::Range<u32>| numbers.map(|n| format!("l{n}\n")).collect::<Vec<_>>();
    let before = lines(0..40);
    let mut after = before.clone();
    after[5] = "five\n".to_owned();
    after.insert(12, "new\n".to_owned());
    after.remove(30);
    let edit = Edit { path: "f".into(), before: Some(before.concat()), after: after.concat() };
    insta::assert_snapshot!(unified(&[edit]), @r#"
    --- a/f
    +++ b/f
    @@ -3,13 +3,14 @@
     l2
     l3
     l4
    -l5
    +five
     l6
     l7
     l8
     l9
     l10
     l11
    +new
     l12
     l13
     l14
    @@ -27,7 +28,6 @@
     l26
     l27
     l28
    -l29
     l30
     l31
     l32
    "#);
    assert_eq!(unified(&[Edit { path: "f".into(), before: Some("x".into()), after: "x".into() }]), "");
}

#[test]
fn a_definition_that_is_wrong_elsewhere_does_not_matter() {
    let (_dir, config) = tree(&with(&[("stage3.defines/broken/portage.local", "../x\n\u{7}\n")]));
    assert!(matches!(config.stage3("broken"), Ok(_) | Err(ConfigError::Invalid(_))));
    assert!(proposed(&config, &[use_line("a/b x")], None).is_ok());
}

/// What a person has written: each kind of line, a comment at its end, blank lines, no order, and a list of fragments with words of its own.
const WRITTEN: &str = "# zlib first, since it is needed first\n\nsys-libs/zlib  minizip\t# for unzip\n  \n# greet\ndev-libs/greet \
                       utf8    -old # ours, not theirs\n=dev-libs/greet-0.9 utf8\napp-a/z x\n\n# the end";

#[test]
fn what_is_written_keeps_comments_and_order() {
    let list = "# what all have\nbase  # first\n\n# and its own\n";
    for ending in ["\n", "\r\n"] {
        let of_system = |text: &str| text.replace('\n', ending);
        let (text, list) = (of_system(WRITTEN), of_system(list));
        let files = [("portage.locals/base/package.use", text.as_str()), ("stage3.defines/web/portage.local", list.as_str())];
        for (line, into, extended) in [
            ("dev-libs/greet static-libs", None, Some("dev-libs/greet utf8    -old static-libs # ours, not theirs")),
            ("sys-libs/zlib -x", None, Some("sys-libs/zlib  minizip -x\t# for unzip")),
            ("~dev-libs/greet-1.0 y", None, None),
            ("app-b/new y", None, None),
            ("app-b/new y", Some("fresh"), None),
        ] {
            let (_dir, config) = tree(&with(&files));
            let (edits, _) = proposed(&config, &[use_line(line)], into).unwrap();
            write(config.root(), &edits).unwrap();
            for edit in &edits {
                let after = std::fs::read_to_string(config.root().join(&edit.path)).unwrap();
                let before = edit.before.clone().unwrap_or_default();
                // Without what is new it is what it was, but for the line that was extended.
                let mut new = after.split_inclusive('\n');
                for old in before.split_inclusive('\n') {
                    let old = old.trim_end_matches(['\r', '\n']);
                    let is = |line: &str| {
                        let line = line.trim_end_matches(['\r', '\n']);
                        line == old || (Some(line) == extended && line.starts_with(old.get(..10).unwrap_or("none")))
                    };
                    assert!(new.any(is), "{line}: {old:?} is not in its place in\n{after}");
                }
                // And has one kind of line ends.
                if !before.is_empty() {
                    assert_eq!(after.matches('\n').count(), after.matches(ending).count(), "{line}: {after:?}");
                }
            }
        }
    }
}
