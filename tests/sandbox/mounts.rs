//! Mounts: locked for the session, the same with the older calls, and gone afterwards.

use std::path::PathBuf;

use gentoomuch::internals::sandbox::{Error, Exit, MountCalls, Step};

use crate::fixture::{chain, fixture, place_in, plan};

const ATTACK: &str = "mount -o remount,rw,bind /usr 2>&1; umount /usr 2>&1; umount -l /proc 2>&1; touch /usr/x 2>&1; \
                      mount -o remount,rw,bind /sys 2>&1; mkdir /n; mount --bind / /n && touch /n/usr/y 2>&1; \
                      unshare --mount sh -c 'umount /usr; mount -o remount,rw,bind /usr; touch /usr/z' 2>&1; ls -d /usr/[xyz]; echo end";

#[test]
fn the_session_cannot_undo_a_mount() {
    let Some(fixture) = fixture() else { return };
    for calls in [MountCalls::Newest, MountCalls::Oldest] {
        let (plan, place) = fixture.plan(&["sh", "-c", ATTACK]);
        let output = fixture.run_plan(&plan, &place, calls).unwrap();
        assert!(output.text.ends_with("end\n"), "{output:?}");
        assert!(!output.text.lines().any(|line| ["/usr/x", "/usr/y", "/usr/z"].contains(&line)), "{output:?}");
        assert!(!PathBuf::from("/usr/x").exists());
    }
}

#[test]
fn layers_stack_top_first_and_upper_takes_the_changes() {
    let Some(fixture) = fixture() else { return };
    for calls in [MountCalls::Newest, MountCalls::Oldest] {
        let (mut plan, place) = fixture.plan(&["sh", "-c", "cat /a /b; rm /b; echo changed > /a; ls / | grep -x b; true"]);
        let names = ["top", "middle", "bottom", "odd, name:with \\signs"];
        for (index, name) in names.iter().enumerate() {
            std::fs::create_dir(place.join(name)).unwrap();
            std::fs::write(place.join(name).join(if index == 0 { "a" } else { "b" }), format!("{index}\n")).unwrap();
        }
        let Step::Overlay { lower, .. } = &mut plan.steps[0] else { panic!("the first step is the overlay") };
        lower.splice(0..0, names.iter().map(|name| place.join(name)));
        // Looked at before it is removed.
        let upper = place.join("upper");
        let (mut running, mut reader) = {
            let (reader, mut options) = crate::fixture::options(place.clone(), calls);
            options.remove_after.clear();
            (fixture.launcher.session(&plan, options).unwrap_or_else(|error| panic!("{}", chain(&error))), reader)
        };
        let mut text = String::new();
        std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
        assert_eq!((text.as_str(), running.wait().unwrap()), ("0\n1\n", Exit::Code(0)), "{calls:?}");
        assert_eq!(std::fs::read_to_string(upper.join("a")).unwrap(), "changed\n");
        let whiteout = std::fs::symlink_metadata(upper.join("b")).unwrap();
        assert!(std::os::unix::fs::FileTypeExt::is_char_device(&whiteout.file_type()));
        fixture.remove(&place);
    }
}

#[test]
fn paths_longer_than_the_kernel_takes_are_no_trouble() {
    let Some(fixture) = fixture() else { return };
    for calls in [MountCalls::Newest, MountCalls::Oldest] {
        let deep = fixture.dir.path().join("d".repeat(200)).join("e".repeat(200));
        let place = place_in(&deep, "run");
        let mut plan = plan(&place, &["sh", "-c", "cat /f; echo hi > /g; cat /g"]);
        let Step::Overlay { lower, .. } = &mut plan.steps[0] else { panic!("the first step is the overlay") };
        for index in 0..40 {
            let layer = place.join(format!("layer-{index}"));
            std::fs::create_dir(&layer).unwrap();
            std::fs::write(layer.join("f"), format!("{index}\n")).unwrap();
            lower.push(layer);
        }
        let output = fixture.run_plan(&plan, &place, calls).unwrap_or_else(|error| panic!("{calls:?}: {}", chain(&error)));
        assert_eq!(output.text, "0\nhi\n");
    }
}

#[test]
fn files_links_and_directories_are_made_inside_the_root() {
    let Some(fixture) = fixture() else { return };
    let path = PathBuf::from;
    for calls in [MountCalls::Newest, MountCalls::Oldest] {
        let (mut plan, place) = fixture.plan(&[
            "sh",
            "-c",
            "cat /etc/new /etc/portage/make.conf/*; stat -c '%a %u' /d/e /etc/new; readlink /l; ls /etc/gone; cat /escape/inside; ls -d /var/tmp/t; touch /var/tmp/t/bound/seen; ls /tmp/bound; [ -e /etc/deep ] || touch /var/tmp/t/linked/x; ls /tmp/linked/deep",
        ]);
        std::fs::create_dir_all(place.join("lower/etc/portage")).unwrap();
        std::fs::write(place.join("lower/etc/portage/make.conf"), "first\n").unwrap();
        std::fs::create_dir_all(place.join("lower/etc/gone/below")).unwrap();
        // A hostile layer: its link would lead out of the root, were it followed from the host's.
        std::os::unix::fs::symlink("../../../../../../../../../../tmp", place.join("lower/escape")).unwrap();
        let marker = format!("/tmp/inside-{}", std::process::id());
        let steps = [
            Step::File { path: path("/etc/new"), contents: "text\n".to_owned(), mode: 0o640 },
            Step::ConfigurationDirectory { name: "make.conf".to_owned() },
            Step::File { path: path("/etc/portage/make.conf/99-session"), contents: "last\n".to_owned(), mode: 0o644 },
            Step::Directory { path: path("/d/e"), mode: 0o1770 },
            Step::Symlink { path: path("/l"), to: path("anywhere") },
            Step::Remove { path: path("/etc/gone") },
            Step::Remove { path: path("/not/there") },
            Step::File { path: path("/escape/inside"), contents: "caught\n".to_owned(), mode: 0o644 },
            Step::Tmpfs { target: path("/var/tmp/t"), size: Some(1 << 20), mode: 0o755 },
            // Nor are the places of a bind.
            Step::BindInside { top: path("/escape"), inside: path("bound"), target: path("/var/tmp/t/bound") },
            // What a session has put in their way goes, and is not followed.
            Step::Symlink { path: path("/escape/linked"), to: path("/etc") },
            Step::BindInside { top: path("/escape"), inside: path("linked/deep"), target: path("/var/tmp/t/linked") },
        ];
        let last = plan.steps.len() - 1;
        plan.steps.splice(last..last, steps);
        let output = fixture.run_plan(&plan, &place, calls).unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert!(output.text.starts_with("text\nfirst\nlast\n1770 0\n640 0\nanywhere\n"), "{calls:?} {output:?}");
        assert!(output.text.contains("/etc/gone") && output.text.ends_with("caught\n/var/tmp/t\nseen\nx\n"), "{output:?}");
        assert!(!PathBuf::from("/tmp/inside").exists() && !PathBuf::from("/tmp/bound").exists() && !PathBuf::from(marker).exists());
    }
}

#[test]
fn a_directory_can_be_the_root_by_itself() {
    let Some(fixture) = fixture() else { return };
    let (mut plan, place) = fixture.plan(&["sh", "-c", "touch /x; ls /; cat /proc/self/mountinfo"]);
    let tree = place.join("tree");
    for name in ["usr", "etc", "proc", "sys", "dev", "run", "tmp"] {
        std::fs::create_dir_all(tree.join(name)).unwrap();
    }
    for name in ["passwd", "group", "ld.so.cache"] {
        std::fs::write(tree.join("etc").join(name), "").unwrap();
    }
    plan.steps[0] = Step::BindRoot { source: tree.clone(), read_only: false };
    let output = fixture.run_plan(&plan, &place, MountCalls::Newest).unwrap();
    assert!(output.text.contains("\nx\n"), "{output:?}");
    assert!(!output.text.contains("overlay"), "{output:?}");
}

#[test]
fn a_step_that_fails_names_itself_and_its_call() {
    let Some(fixture) = fixture() else { return };
    let (mut plan, place) = fixture.plan(&["true"]);
    let last = plan.steps.len() - 1;
    plan.steps.insert(last, Step::Bind { source: "/nonexistent/source".into(), target: "/x".into(), read_only: true });
    let error = fixture.run_plan(&plan, &place, MountCalls::Newest).unwrap_err();
    assert_eq!(
        chain(&error),
        "cannot bind /nonexistent/source on /x read-only\n\
         caused by: `open(/nonexistent/source)` failed\n\
         caused by: No such file or directory (os error 2)"
    );
    assert!(!place.exists(), "what a failed session leaves is removed too");
}

#[test]
fn an_overlay_that_the_kernel_refuses_names_the_file_system() {
    let Some(fixture) = fixture() else { return };
    let (mut plan, place) = fixture.plan(&["true"]);
    let Step::Overlay { upper, .. } = &mut plan.steps[0] else { panic!("the first step is the overlay") };
    *upper = "/proc/self".into();
    let error = fixture.run_plan(&plan, &place, MountCalls::Newest).unwrap_err();
    assert!(matches!(error, Error::Overlay { .. }), "{error:?}");
    assert!(chain(&error).starts_with("cannot mount an overlay with `/proc/self` on top, which is on "), "{}", chain(&error));
}
