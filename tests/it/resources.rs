//! What a build takes of the machine, seen from inside: niceness, class of input and output, jobs of single packages.

use std::fs;
use std::process::Command;

use crate::place::{Ran, run};
use crate::shared::shared;

const SESSION_FILE: &str = "/etc/portage/package.env/00-gentoomuch-session";

/// The niceness of the shell that runs this: field 19 of `/proc/PID/stat`.
const NICE: &str = "read -r stat </proc/self/stat; fields=(${stat##*) }); echo \"nice ${fields[16]}\"";

/// A package that says what it is built with, and Portage's word on others.
const SCRIPT: &str = "cat >/etc/portage/bashrc <<'END'
if [ \"$EBUILD_PHASE\" = compile ]; then
    {
        NICE
        echo \"io $(ionice -p $$)\"
        [ ! -e /proc/self/autogroup ] || sed 's/.*nice/group/' /proc/self/autogroup
        echo \"jobs $MAKEOPTS\"
    } >>/tmp/said
fi
END
mkdir -p /etc/portage/env
echo 'app-text/tree own' >/etc/portage/package.env/own
echo 'MAKEOPTS=\"-j9\"' >/etc/portage/env/own
emerge --quiet-build=y --usepkg=n -1 app-misc/hello >&2 || exit 1
cat /tmp/said
python3 - <<'END'
import portage
trees = portage.db[portage.root][\"porttree\"].dbapi
for name in [\"app-misc/slow\", \"app-text/tree\", \"dev-build/gnumake\"]:
    settings = portage.config(clone=portage.settings)
    settings.setcpv(trees.match(name)[-1], mydb=trees)
    print(name, settings[\"MAKEOPTS\"])
END
";

fn line<'a>(ran: &'a str, label: &str) -> &'a str {
    let mut all = ran.lines().filter_map(|line| line.strip_prefix(label));
    all.next().unwrap_or_else(|| panic!("{label:?} is not in {ran}")).trim()
}

#[test]
fn builds_stand_back_for_others_and_packages_have_jobs_of_their_own() {
    let Some(shared) = shared() else { return };
    let place = shared.place.with_config(shared.config("resources"));
    let set = |file: &str, text: &str| fs::write(place.config.join("env").join(file), text).unwrap();
    set("nice", "7\n");
    set("ionice", "best-effort 6\n");
    set("jobs", "4\napp-misc/* 3\n=app-misc/slow-1.0 2\napp-text/tree 1\n");
    let freshroot = |script: &str| ["freshroot", "--network", "none", "--", "bash", "-c", script].map(str::to_owned);

    let said = place.run(&freshroot(&SCRIPT.replace("NICE", NICE))).ok().text();
    assert_eq!(line(&said, "nice "), "7");
    assert_eq!(line(&said, "io "), "best-effort: prio 6");
    // A kernel may be built without such groups.
    if fs::exists("/proc/self/autogroup").unwrap() {
        assert_eq!(line(&said, "group "), "7");
    }
    assert_eq!(line(&said, "jobs "), "-j3", "by the wildcard");
    assert_eq!(line(&said, "app-misc/slow "), "-j2", "by the version");
    assert_eq!(line(&said, "app-text/tree "), "-j9", "a line of the user's own for the same atom wins");
    assert_eq!(line(&said, "dev-build/gnumake "), "-j4");

    // It is the session's alone.
    let kept = format!("resources-{}", std::process::id());
    place.run(&["freshroot", "--network", "none", "--keep", &kept, "--", "test", "-f", SESSION_FILE]).ok();
    let copy = place.path(&kept);
    fs::create_dir(&copy).unwrap();
    place.run(&["cp", &format!("kept/{kept}:/etc/portage"), copy.to_str().unwrap()]).ok();
    assert!(copy.join("portage/make.conf").exists() && !copy.join("portage/package.env").exists());
    fs::remove_dir_all(&copy).unwrap();
    place.run(&["rm", "--yes", &format!("kept/{kept}")]).ok();

    // Who starts gentoomuch itself as something nicer is not made less nice.
    let known = place.command(&freshroot(NICE));
    let mut nicer = Command::new("nice");
    nicer.args(["-n", "12"]).arg(known.get_program()).args(known.get_args()).env_clear();
    nicer.envs(known.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran: Ran = run(&mut nicer).ok();
    assert_eq!(line(&ran.text(), "nice "), "12");

    set("nice", "20\n");
    place.run(&["stage", "build", "hello"]).fails(3).says("env/nice:1: `20` is no niceness: a number from 0 to 19, such as `10`");
}
