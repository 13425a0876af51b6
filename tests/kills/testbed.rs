//! A data directory with a profile made from the testbed's release, and stage4 definitions to build on it.

use std::path::{Path, PathBuf};

use crate::place::{Place, names};
use crate::skip;

/// Made once for all that work on it.
#[derive(Debug)]
pub(crate) struct Testbed {
    pub(crate) place: Place,
    pub(crate) stage3: PathBuf,
}

/// What is of no use in an artifact that is only exported again and again: nine tenths of it.
const REMOVES: &str = include_str!("bulk.removes");

impl Testbed {
    /// `None`, said aloud, where there is no testbed.
    pub(crate) fn new() -> Option<Self> {
        let Some(release) = std::env::var_os("GENTOOMUCH_TESTBED").map(PathBuf::from).filter(|dir| dir.join("current").exists())
        else {
            skip("GENTOOMUCH_TESTBED names no testbed; tests/testbed/make makes one");
            return None;
        };
        let place = Place::new();
        let tree = newest(&release.join("snapshots"), ".tar.xz");
        place.run(&["keys", "import", "--trust", "--comment", "testbed", release.join("keys/testbed.asc").to_str().unwrap()]);
        place.run(&["sync", "--from", tree.to_str().unwrap()]);
        for name in names(&release.join("distfiles")) {
            std::fs::copy(release.join("distfiles").join(&name), place.path("cache/distfiles").join(&name)).unwrap();
        }
        let stamp = std::fs::read_to_string(release.join("current")).unwrap();
        let autobuilds = release.join("releases/amd64/autobuilds").join(stamp.trim());
        let stage3 = newest(&autobuilds, ".tar.xz");
        // Nothing of the world is rebuilt: that is no phase that is hit.
        place.configure("hooks/prepare.d/50-small-world.sh", "#!/bin/sh\n: >/var/lib/portage/world\n");
        place.run(&["bootstrap", "--no-rebuild", "kills", stage3.to_str().unwrap()]);
        // A package that is compiled, but not for long.
        place.configure("portage.global/make.conf", "SLOW_UNITS=\"4\"\nACCEPT_LICENSE=\"*\"\n");
        place.configure("user.removes/bulk", REMOVES);
        for name in ["exported", "emerged"] {
            for (file, text) in [("profile", "kills"), ("stage3", "plain"), ("removes", "bulk"), ("scripts", name)] {
                place.configure(&format!("stage4.defines/{name}/{file}"), &format!("{text}\n"));
            }
            place.configure(&format!("user.scripts/{name}"), "#!/bin/sh\necho 0 >/etc/stamp\n");
        }
        place.configure("stage4.defines/exported/packages", "");
        place.configure("stage4.defines/emerged/packages", "app-misc/slow\n");
        let testbed = Self { place, stage3 };
        testbed.place.run(&["stage", "build", "exported", "--format", "tar.zst", "--no-sign"]);
        testbed.place.all_is_clean();
        Some(testbed)
    }

    /// Makes the next build of `emerged` start from nothing: another key, and no binary package to take.
    pub(crate) fn change(&self, number: usize) {
        self.place.configure("user.scripts/emerged", &format!("#!/bin/sh\necho {number} >/etc/stamp\n"));
        self.place.in_map(&["rm", "-rf", "--", self.place.path("cache/binpkgs").to_str().unwrap()]);
    }
}

fn newest(dir: &Path, ending: &str) -> PathBuf {
    let names = names(dir);
    dir.join(names.iter().rfind(|name| name.ends_with(ending)).unwrap_or_else(|| panic!("no {ending} in {}", dir.display())))
}
