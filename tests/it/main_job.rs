//! From a signed stage3 to a signed stage4, with the tools of the distribution as judges.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::child;
use crate::gpg::beside;
use crate::place::{Ran, packages_below, run};
use crate::shared::{Shared, shared};
use crate::tiny::sum;

/// Standard output of the tool that `gpg` is, with the keys of the place.
fn gpg(shared: &Shared, args: &[&str], file: &Path) -> String {
    let mut command = Command::new("gpg");
    command.env_clear().envs(shared.place.environment()).args(["--batch", "--status-fd", "1"]).args(args).arg(file);
    String::from_utf8_lossy(&child::check(&mut command)).into_owned()
}

fn pool_files(shared: &Shared, below: &str) -> Vec<String> {
    let files = packages_below(&shared.place.path("cache/binpkgs"), "");
    files.iter().map(|path| path.display().to_string()).filter(|path| path.contains(below)).collect()
}

#[test]
fn a_signed_stage3_becomes_a_builder_whose_packages_are_in_the_pool() {
    let Some(shared) = shared() else { return };
    assert!(shared.sync.text().contains("tree    gentoo\n"), "{}", shared.sync);
    assert_eq!(shared.bootstrap.value("profile"), "demo");
    let show = shared.place.run(&["store", "show", "profile/demo/gentoomuch/builder", "--json"]).ok();
    let show: serde_json::Value = serde_json::from_str(&show.text()).unwrap();
    assert_eq!(show["origin"]["kind"], "stage3 definition");
    assert_eq!(show["origin"]["portage_profile"], "gentoo:default/linux/amd64/testbed");
    assert!(show["origin"]["stage3"]["signer"]["primary"].is_string(), "{show}");
    assert_eq!(show["layers"].as_array().unwrap().len(), 2);
    let pool = pool_files(&shared, "binpkgs");
    for package in ["app-misc/hello/hello-2.10", "dev-libs/greet/greet-1.0", "app-misc/oddfiles/oddfiles-1.0"] {
        assert!(pool.iter().any(|file| file.contains(package) && !file.contains("throwaway")), "no {package} in {pool:?}");
    }
    let profiles = shared.place.run(&["profile", "ls"]).ok().text();
    let stage3 = shared.testbed.stage3.file_name().unwrap().to_str().unwrap();
    let row = profiles.lines().find(|line| line.starts_with("demo ")).unwrap_or_else(|| panic!("{profiles}"));
    assert!(row.contains(" yes ") && row.contains(stage3), "{profiles}");
}

#[test]
fn what_was_rebuilt_runs_in_a_freshroot() {
    let Some(shared) = shared() else { return };
    let hello = shared.place.run(&["freshroot", "--", "hello"]).ok();
    assert_eq!(hello.text(), "Hello, world!\n");
    let flags = shared.place.run(&["freshroot", "--", "greeter", "--flags"]).ok();
    assert!(flags.text().starts_with("ascii=1"), "{flags}");
}

#[test]
fn the_artifact_is_signed_three_times_and_its_digests_agree() {
    let Some(shared) = shared() else { return };
    let artifact = shared.artifact();
    let contents = beside(&artifact, "CONTENTS.gz");
    let good = |status: &str| status.contains("GOODSIG") && status.contains(&format!("VALIDSIG {}", shared.key));
    assert!(good(&gpg(&shared, &["--verify", beside(&artifact, "asc").to_str().unwrap()], &artifact)));
    let digests = gpg(&shared, &["--decrypt"], &beside(&artifact, "DIGESTS"));
    let sha256 = gpg(&shared, &["--decrypt"], &beside(&artifact, "sha256"));
    assert!(good(&digests) && good(&sha256), "{digests}{sha256}");
    for file in [&artifact, &contents] {
        for program in ["b2sum", "sha512sum"] {
            let line = sum(program, file);
            assert!(digests.contains(line.trim_end()), "{line} is not in {digests}");
        }
    }
    assert!(sha256.contains(sum("sha256sum", &artifact).trim_end()), "{sha256}");

    let metadata: serde_json::Value = serde_json::from_slice(&fs::read(beside(&artifact, "json")).unwrap()).unwrap();
    crate::schema::valid("artifact", &metadata);
    assert_eq!(metadata["signed_by"], shared.key.as_str());
    assert_eq!(metadata["size"], fs::metadata(&artifact).unwrap().len());
    assert!(
        metadata["isolation"].is_string()
            && metadata["rung"].is_string()
            && metadata["origin"]["base"]["stage3"]["sha512"].is_string(),
        "{metadata}"
    );
    assert!(metadata["packages"].to_string().contains("hello"), "{}", metadata["packages"]);
    assert_eq!(metadata["origin"]["inputs"]["definition"], "hello", "{metadata}");
    // One line for each entry of the archive, as its own listing has them.
    let listed = child::check(Command::new("gzip").arg("-cd").arg(&contents));
    let members = child::check(Command::new("tar").arg("-tf").arg(&artifact));
    let count = |bytes: &[u8]| bytes.split(|byte| *byte == b'\n').count() - 1;
    assert_eq!(count(&listed), count(&members));
    assert_eq!(metadata["entries"], count(&members));
}

#[test]
fn our_own_artifact_verifies_and_a_profile_can_start_from_it() {
    let Some(shared) = shared() else { return };
    let artifact = shared.artifact();
    let artifact = artifact.to_str().unwrap();
    let own = shared.place.with_config(shared.config("verify"));
    own.run(&["stage3", "verify", artifact]).fails(4).says("which is not a release key this configuration trusts").says("hint: ");
    own.run(&["keys", "import", "--trust", "sign_key.asc"]).ok();
    let verified = own.run(&["stage3", "verify", artifact]).ok().text();
    assert!(verified.contains(&shared.key) && verified.contains("CONTENTS.gz"), "{verified}");
    let second = own.run(&["bootstrap", "second", artifact, "--no-rebuild"]).ok();
    assert!(second.text().contains("profile   second"), "{second}");
    let hello = own.run(&["freshroot", "--profile", "second", "--network", "none", "--", "hello"]).ok();
    assert_eq!(hello.text(), "Hello, world!\n");
}

#[test]
fn nothing_is_done_again() {
    let Some(shared) = shared() else { return };
    // The output has a line `* STEP` for each step that is done. Another test may build on the same profile: a line `waiting: ` is no step.
    let steps = |ran: &Ran| ran.stderr.lines().filter(|line| line.starts_with("* ")).map(str::to_owned).collect::<Vec<_>>();
    let again = shared.place.run(&["stage", "build", "hello", "--format", "tar.zst"]).ok();
    assert_eq!(again.text().matches("(unchanged)").count(), 2, "{again}");
    assert_eq!(steps(&again), [""; 0], "{again}");
    let again = shared.place.run(&["bootstrap", "demo", shared.testbed.stage3.to_str().unwrap()]).ok();
    assert_eq!(again.text().matches("(unchanged)").count(), 2, "{again}");
    assert_eq!(steps(&again), [format!("* verifying {}", shared.testbed.stage3.display())], "{again}");
    let again = shared.place.run(&["sync", "--from", shared.testbed.tree.to_str().unwrap()]).ok();
    assert!(again.text().contains("(unchanged)"), "{again}");
}

#[test]
fn two_exports_of_one_state_are_the_same_bytes_whatever_the_umask() {
    let Some(shared) = shared() else { return };
    // Its artifacts have a directory of their own.
    let args = ["export", "profile/demo/plain", "--format", "tar.zst", "--no-sign"];
    let mut seen: Vec<BTreeMap<PathBuf, String>> = Vec::new();
    for umask in ["022", "077"] {
        let built = run(&mut shared.place.command_with_umask(umask, &args)).ok();
        let artifact = PathBuf::from(built.value("artifact"));
        let files = ["", ".CONTENTS.gz", ".DIGESTS", ".sha256", ".json"];
        let mut sums = BTreeMap::new();
        for suffix in files {
            let file = PathBuf::from(format!("{}{suffix}", artifact.display()));
            sums.insert(file.clone(), sum("sha512sum", &file));
            fs::remove_file(&file).unwrap();
        }
        seen.push(sums);
    }
    assert_eq!(seen[0], seen[1]);
}
