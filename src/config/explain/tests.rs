//! A small tree with an overlay, a profile, a stage3's `make.conf`, and two fragments: all layers, without a store.

use super::*;
use crate::config::tests::merged;

const TREE: &[(&str, &str)] = &[
    ("gentoo/metadata/layout.conf", "masters =\nprofile-formats = portage-2\n"),
    ("gentoo/profiles/eapi", "8\n"),
    ("gentoo/profiles/categories", "app\n"),
    ("gentoo/profiles/package.mask", "app/masked\napp/tool:9\n"),
    (
        "gentoo/profiles/base/make.defaults",
        "USE_EXPAND=\"L10N\"\nUSE=\"a\"\nL10N=\"en\"\nACCEPT_KEYWORDS=\"amd64\"\nIUSE_IMPLICIT=\"prefix\"\n",
    ),
    ("gentoo/profiles/base/package.use", "app/tool profiled\n"),
    ("gentoo/profiles/base/package.use.stable.mask", "app/tool young\n"),
    ("gentoo/profiles/base/eapi", "8\n"),
    ("gentoo/app/tool/x", ""),
    ("gentoo/metadata/md5-cache/app/tool-1", "EAPI=8\nSLOT=0\nKEYWORDS=amd64\nIUSE=+a profiled young l10n_de l10n_en 0\n"),
    ("gentoo/metadata/md5-cache/app/tool-2", "EAPI=8\nSLOT=0\nKEYWORDS=~amd64\nIUSE=+a profiled young\n"),
    ("gentoo/metadata/md5-cache/app/tool-9", "EAPI=8\nSLOT=9\nKEYWORDS=amd64\nIUSE=\n"),
    ("gentoo/metadata/md5-cache/app/live-9999", "EAPI=8\nSLOT=stable\nKEYWORDS=\nIUSE=\n"),
    (
        "gentoo/metadata/md5-cache/app/shop-1",
        "EAPI=8\nSLOT=0\nKEYWORDS=amd64\nIUSE=+pay\nLICENSE=MIT pay? ( Shop-EULA ) prefix? ( Root ) !prefix? ( MIT ) other? ( Other )\n",
    ),
    ("gentoo/profiles/license_groups", "EULA Shop-EULA # and no more\n"),
    ("gentoo/metadata/md5-cache/app/masked-1", "EAPI=8\nSLOT=0\nKEYWORDS=amd64\nIUSE=\n"),
    ("over/metadata/layout.conf", "masters = gentoo\n"),
    ("over/profiles/package.mask", "-app/masked\n"),
    ("over/profiles/make.defaults", "USE=\"over\"\n"),
    ("over/metadata/md5-cache/app/masked-2", "EAPI=8\nSLOT=0\nKEYWORDS=amd64\nIUSE=over\n"),
];

const FRAGMENTS: &[(&str, &str)] = &[
    ("stage3.defines/base/portage.local", "one\ntwo\n"),
    ("portage.locals/one/make.conf", "USE=\"b\"\nL10N=\"de\"\n"),
    ("portage.locals/one/package.use", "app/tool -a young\n"),
    ("portage.locals/two/package.accept_keywords", "=app/tool-2\napp/live **\n"),
    ("portage.locals/two/package.unmask", "app/tool:9\n"),
];

fn around(dir: &Path) -> Surroundings {
    for (path, text) in TREE {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let repositories: Vec<Repository> = ["gentoo", "over"].map(|name| Repository::read(name, &dir.join(name)).unwrap()).into();
    Surroundings {
        profile: Some(ProfileStack::read(&repositories, "gentoo", "base").unwrap()),
        repositories,
        make_globals: Some("CFLAGS=\"\"\nFEATURES=\"news\"\n".to_owned()),
        make_conf: Some("USE=\"seeded\"\nCFLAGS=\"-O2\"\nFEATURES=\"${FEATURES} -news\"\n".to_owned()),
    }
}

fn told(steps: &[Step]) -> Vec<String> {
    steps.iter().map(|step| format!("{} | {} | {} | {:?}", step.origin, step.about, step.said, step.outcome)).collect()
}

fn with(check: impl Fn(&Explainer<'_>)) {
    let dir = tempfile::tempdir().unwrap();
    let (around, portage) = (around(dir.path()), merged(FRAGMENTS));
    check(&Explainer::new(&portage, &around));
}

#[test]
fn all_layers_are_heard_in_order() {
    with(|explainer| {
        let atom: Atom = "app/tool".parse().unwrap();
        let flag = explainer.package_flag(&"=app/tool-1".parse().unwrap(), "a").unwrap();
        assert!(!flag.enabled && flag.exists == Some(true));
        insta::assert_snapshot!(told(&flag.steps).join("\n"), @r"
        app/tool-1 | IUSE | a | Overridden
        gentoo:base/make.defaults:2 | USE | a | Overridden
        portage.locals/one/package.use:1 | package.use app/tool | -a | Decides
        ");
        // Of a stable version only.
        let young = explainer.package_flag(&"=app/tool-1".parse().unwrap(), "young").unwrap();
        insta::assert_snapshot!(told(&young.steps).join("\n"), @r"
        portage.locals/one/package.use:1 | package.use app/tool | young | Overridden
        gentoo:base/package.use.stable.mask:1 | package.use.stable.mask app/tool | young | Decides
        ");
        assert!(explainer.package_flag(&"=app/tool-2".parse().unwrap(), "young").unwrap().enabled);
        let english = explainer.package_flag(&"=app/tool-1".parse().unwrap(), "l10n_en").unwrap();
        insta::assert_snapshot!(told(&english.steps).join("\n"), @r#"
        gentoo:base/make.defaults:3 | L10N | l10n_en | Overridden
        portage.locals/one/make.conf:2 | L10N | L10N="de" | Decides
        "#);
        assert!(explainer.package_flag(&atom, "profiled").unwrap().enabled);
        assert_eq!(explainer.package_flag(&atom, "seeded").unwrap().exists, Some(false));
        assert_eq!(explainer.package_flag(&"app/masked".parse().unwrap(), "over").unwrap().steps.len(), 1);
    });
}

/// What is told about `words` where the profile's `make.defaults` is `base` and its child's is `child`.
fn told_of(base: &str, child: &str, stage3: &str, word: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut around = around(dir.path());
    let profiles = dir.path().join("gentoo/profiles");
    for (name, text) in [("base/make.defaults", base), ("child/make.defaults", child), ("child/parent", "../base\n")] {
        std::fs::create_dir_all(profiles.join(name).parent().unwrap()).unwrap();
        std::fs::write(profiles.join(name), text).unwrap();
    }
    around.profile = Some(ProfileStack::read(&around.repositories, "gentoo", "child").unwrap());
    around.make_conf = Some(stage3.to_owned());
    let portage = merged(&[("stage3.defines/base/portage.local", "")]);
    let explainer = Explainer::new(&portage, &around);
    let steps = match explainer.subject(word).unwrap() {
        Subject::Flag(flag) => explainer.flag(&flag).unwrap().steps,
        Subject::Entry(name, entry) => explainer.entry(&name, &entry).unwrap().steps,
        other => panic!("{other:?}"),
    };
    told(&steps).join("\n")
}

#[test]
fn the_line_that_was_written_decides_however_often_it_is_appended_to() {
    let base = "USE=\"one\"\nUSE=\"${USE} two\"\nOWN=\"three\"\nUSE=\"${USE} ${OWN}\n four\"\nUSE_EXPAND=\"L10N\"\nL10N=\"en\"\n\
                L10N=\"${L10N} de\"\nACCEPT_KEYWORDS=\"amd64\"\n";
    let child = "USE=\"${USE} five\"\nACCEPT_KEYWORDS=\"${ACCEPT_KEYWORDS} ~amd64\"\nUSE=\"${USE} -one\"\n";
    let stage3 =
        "USE=\"six\"\nUSE=\"${USE} seven\"\nFEATURES=\"lost\"\nFEATURES=\"buildpkg\"\nFEATURES=\"${FEATURES} parallel-fetch\"\n";
    let of = |word: &str| told_of(base, child, stage3, word);
    for (flag, lines) in [
        ("one", "gentoo:base/make.defaults:1 | USE | one | Overridden\ngentoo:child/make.defaults:3 | USE | -one | Decides"),
        ("two", "gentoo:base/make.defaults:2 | USE | two | Decides"),
        ("three", "gentoo:base/make.defaults:3 | USE | three | Decides"),
        ("four", "gentoo:base/make.defaults:5 | USE | four | Decides"),
        ("five", "gentoo:child/make.defaults:1 | USE | five | Decides"),
        ("six", "/etc/portage/make.conf:1 | USE | six | Decides"),
        ("seven", "/etc/portage/make.conf:2 | USE | seven | Decides"),
    ] {
        assert_eq!(of(&format!("USE:{flag}")), lines, "{flag}");
    }
    assert_eq!(of("L10N:en"), "gentoo:base/make.defaults:7 | L10N | l10n_en | Decides");
    assert_eq!(of("ACCEPT_KEYWORDS:amd64"), "gentoo:base/make.defaults:9 | ACCEPT_KEYWORDS | amd64 | Decides");
    assert_eq!(of("ACCEPT_KEYWORDS:~amd64"), "gentoo:child/make.defaults:2 | ACCEPT_KEYWORDS | ~amd64 | Decides");
    assert_eq!(of("FEATURES:buildpkg"), "/etc/portage/make.conf:4 | FEATURES | buildpkg | Decides");
    // What a fragment replaces of the stage3's does not take along what it refers to.
    let dir = tempfile::tempdir().unwrap();
    let around = Surroundings { make_conf: Some("ACCEPT_KEYWORDS=\"${ACCEPT_KEYWORDS} x86\"\n".to_owned()), ..around(dir.path()) };
    let portage =
        merged(&[("stage3.defines/base/portage.local", "a\n"), ("portage.locals/a/make.conf", "ACCEPT_KEYWORDS=\"~amd64\"\n")]);
    assert_eq!(Explainer::new(&portage, &around).variable("ACCEPT_KEYWORDS").unwrap().value, "amd64 ~amd64");
}

#[test]
fn licences_are_accepted_or_not() {
    for (fragments, missing) in [
        // Portage's default is `* -@EULA`.
        (&[][..], Some("Shop-EULA")),
        (&[("portage.locals/one/package.license", "app/shop Shop-EULA\n")], None),
        (&[("portage.locals/one/package.license", "app/shop Shop-EULA\n=app/shop-1 -*\n")], Some("MIT Shop-EULA")),
        (&[("portage.locals/one/package.use", "app/shop -pay\n")], None),
        (&[("portage.locals/one/make.conf", "ACCEPT_LICENSE=\"-* Shop-EULA\"\n")], Some("MIT")),
        (
            &[
                ("portage.locals/one/make.conf", "ACCEPT_LICENSE=\"-* @OURS\"\n"),
                ("portage.locals/one/license_groups", "OURS MIT @EULA\n"),
            ],
            None,
        ),
        // Every package has `prefix`, by IUSE_IMPLICIT, and nobody has `other`.
        (&[("portage.locals/one/make.conf", "USE=\"prefix other\"\nACCEPT_LICENSE=\"-* MIT @EULA\"\n")], Some("Root")),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let all = [&[("stage3.defines/base/portage.local", "one\n"), ("portage.locals/one/make.conf", "")], fragments].concat();
        let (around, portage) = (around(dir.path()), merged(&all));
        let explainer = Explainer::new(&portage, &around);
        let shop = explainer.package(&"app/shop".parse().unwrap()).unwrap();
        let lacking = shop.versions[0].missing_licences.as_ref().map(|all| all.join(" "));
        assert_eq!(lacking.as_deref(), missing, "{fragments:?}");
        assert_eq!(shop.versions[0].is_visible(), missing.is_none());
    }
}

#[test]
fn versions_are_masked_unmasked_and_accepted() {
    with(|explainer| {
        let versions = |atom: &str| -> Vec<String> {
            let package = explainer.package(&atom.parse().unwrap()).unwrap();
            let told = package.versions.iter().map(|version| {
                let mask = |mask: &Option<package::Mask>| mask.as_ref().map(|mask| format!("{} {}", mask.atom, mask.origin));
                format!(
                    "{} {:?} {:?} {:?}",
                    version.version,
                    version.missing_keywords,
                    mask(&version.masked_by),
                    mask(&version.unmasked)
                )
            });
            told.chain(package.version.iter().map(|version| format!("> {version}"))).collect()
        };
        insta::assert_snapshot!(versions("app/tool").join("\n"), @r#"
        app/tool-1 None None None
        app/tool-2 None None None
        app/tool-9 None None Some("app/tool:9 portage.locals/two/package.unmask:1")
        > 9
        "#);
        insta::assert_snapshot!(versions("app/masked").join("\n"), @r#"
        app/masked-1 None Some("app/masked gentoo:package.mask:1") None
        app/masked-2 None None None
        > 2
        "#);
        assert_eq!(versions("app/live"), ["app/live-9999 None None None", "> 9999"]);
    });
}

#[test]
fn a_colon_may_be_followed_by_a_slot_or_a_flag() {
    with(|explainer| {
        let flag = |atom: &str, flag: &str| Subject::PackageFlag(atom.parse().unwrap(), flag.to_owned());
        for (word, subject) in [
            ("app/tool", Subject::Package("app/tool".parse().unwrap())),
            ("app/tool:a", flag("app/tool", "a")),
            // It has a flag of this name, too.
            ("app/tool:0", flag("app/tool", "0")),
            ("app/tool:9", Subject::Package("app/tool:9".parse().unwrap())),
            ("app/tool:0:a", flag("app/tool:0", "a")),
            ("app/tool:3.12", Subject::Package("app/tool:3.12".parse().unwrap())),
            ("app/live:stable", Subject::Package("app/live:stable".parse().unwrap())),
            ("=app/tool-1:0::gentoo", Subject::Package("=app/tool-1:0::gentoo".parse().unwrap())),
            ("app/tool::gentoo", Subject::Package("app/tool::gentoo".parse().unwrap())),
            ("USE:a", Subject::Flag("a".to_owned())),
            ("L10N:de", Subject::Flag("l10n_de".to_owned())),
            ("VIDEO_CARDS:x", Subject::Entry("VIDEO_CARDS".to_owned(), "x".to_owned())),
            ("FEATURES:news", Subject::Entry("FEATURES".to_owned(), "news".to_owned())),
            ("CFLAGS", Subject::Variable("CFLAGS".to_owned())),
            ("CFLAGS:", Subject::Variable("CFLAGS".to_owned())),
        ] {
            assert_eq!(explainer.subject(word).unwrap(), subject, "{word}");
        }
        let ExplainError::Subject { packages, .. } = explainer.subject("tool").unwrap_err() else { panic!() };
        assert_eq!(packages, ["app/tool"]);
    });
}

#[test]
fn what_the_stage3_says_counts_as_far_as_it_is_kept() {
    with(|explainer| {
        // A fragment assigns `USE` anew.
        let seeded = explainer.flag("seeded").unwrap();
        assert_eq!(told(&seeded.steps), ["/etc/portage/make.conf:1 | USE | seeded | Overridden"]);
        let flags = explainer.variable("CFLAGS").unwrap();
        assert_eq!(flags.value, "-O2");
        // Portage's own list, and what the stage3 takes out of it.
        let news = explainer.entry("FEATURES", "news").unwrap();
        assert_eq!(news.value, "off");
        let ExplainError::NoVariable { everywhere: true, .. } = explainer.variable("CFALGS").unwrap_err() else { panic!() };
    });
}
