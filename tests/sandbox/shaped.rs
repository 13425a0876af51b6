//! What a layer holds does not decide what a session is shown of the host.

use gentoomuch::internals::sandbox::plan::Source;
use gentoomuch::internals::sandbox::{MountCalls, Step};

use crate::fixture::{chain, fixture};

/// A kernel source package left `usr/src` of its layer as a link to the user's home.
#[test]
fn a_mount_from_inside_of_a_layer_follows_no_link() {
    let Some(fixture) = fixture() else { return };
    for calls in [MountCalls::Newest, MountCalls::Oldest] {
        for link in ["usr/src", "usr"] {
            let (mut plan, place) = fixture.plan(&["sh", "-c", "cat /shown/src/secret /shown/secret"]);
            let home = place.join("home");
            std::fs::create_dir_all(home.join("src")).unwrap();
            std::fs::write(home.join("src/secret"), "of the host").unwrap();
            std::fs::write(home.join("secret"), "of the host").unwrap();
            let layer = place.join("layer");
            for directory in [&layer.join("usr"), &place.join("shown"), &place.join("shown.work")] {
                std::fs::create_dir_all(directory).unwrap();
            }
            if link == "usr" {
                std::fs::remove_dir(layer.join("usr")).unwrap();
            }
            std::os::unix::fs::symlink(&home, layer.join(link)).unwrap();
            let at = plan.steps.len() - 1;
            plan.steps.insert(
                at,
                Step::OverlayAt {
                    lower: vec![Source::inside(layer, "usr/src")],
                    upper: place.join("shown"),
                    work: place.join("shown.work"),
                    target: "/shown".into(),
                },
            );
            let error = match fixture.run_plan(&plan, &place, calls) {
                Ok(output) => panic!("{calls:?} {link}: the session saw {output:?}"),
                Err(error) => chain(&error),
            };
            assert!(error.contains("is a symbolic link or lies behind one"), "{error}");
        }
    }
}
