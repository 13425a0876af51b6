//! A hostile package (`app-misc/hostile` of the testbed): what it tries in its phases comes to nothing.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::process::Command;

use crate::place::{Place, Ran, run};
use crate::shared::shared;

/// How many things `files/attempts.py` tries.
const ATTEMPTS: usize = 21;

/// What the phases found, from the lists that they left in the root.
fn found(ran: &Ran) -> Vec<String> {
    let text = ran.text();
    let lines = text.lines().filter(|line| ["setup: ", "compile: ", "postinst: "].iter().any(|phase| line.starts_with(phase)));
    lines.map(str::to_owned).collect()
}

fn nothing() -> Vec<String> {
    ["setup", "compile", "postinst"].map(|phase| format!("{phase}: tried {ATTEMPTS}")).to_vec()
}

/// Runs the program with descriptors of a directory of the host's open from 3 on, as `flock DIR gentoomuch …` does.
fn with_open_directory(place: &Place, args: &[&str]) -> Ran {
    let directory = place.path("secret");
    std::fs::create_dir_all(directory.join("of-the-host")).unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec 3<\"$0\" 4<\"$0\" 5<\"$0\" 9<\"$0\"; exec \"$@\""])
        .arg(directory)
        .arg(env!("CARGO_BIN_EXE_gentoomuch"))
        .args(args);
    command.env_clear().envs(place.environment()).stdin(std::process::Stdio::null());
    run(&mut command)
}

const LISTS: &str = "cat /usr/share/hostile/setup /usr/share/hostile/compile /usr/share/hostile/postinst";

#[test]
fn a_hostile_package_achieves_nothing_in_any_phase() {
    let Some(shared) = shared() else { return };
    // Somebody to be reached: the package finds the names in `/proc/net/unix`.
    let name = format!("gentoomuch-hostile-{}", std::process::id());
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let datagrams = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(format!("{name}-d")).unwrap()).unwrap();
    listener.set_nonblocking(true).unwrap();
    datagrams.set_nonblocking(true).unwrap();
    // In a freshroot, once with the host's network.
    for network in ["none", "host"] {
        let script = format!("emerge --quiet --usepkg=n app-misc/hostile >&2 && {LISTS}");
        let ran = with_open_directory(&shared.place, &["freshroot", "--network", network, "--", "sh", "-c", &script]).ok();
        assert_eq!(found(&ran), nothing(), "network {network}: {ran}");
    }
    // In a stage.
    let config = shared.config("hostile");
    for example in ["server", "container", "hello"] {
        std::fs::remove_dir_all(config.join("stage4.defines").join(example)).unwrap();
    }
    let name = format!("hostile-stage-{}", std::process::id());
    for (file, text) in [("profile", "demo"), ("stage3", "plain"), ("packages", "app-misc/hostile")] {
        let path = config.join("stage4.defines").join(&name).join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("{text}\n")).unwrap();
    }
    let place = shared.place.with_config(config);
    with_open_directory(&place, &["stage", "build", &name, "--no-export"]).ok();
    let mut look = vec!["cp".to_owned()];
    look.push(format!("stage4/{name}:/usr/share/hostile"));
    let target = place.path("hostile-found");
    look.push(target.to_str().unwrap().to_owned());
    place.run(&look).ok();
    let lists: Vec<String> = ["setup", "compile", "postinst"]
        .iter()
        .flat_map(|phase| std::fs::read_to_string(target.join(phase)).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert_eq!(lists, nothing());
    std::fs::remove_dir_all(target).unwrap();
    assert!(listener.accept().is_err() && datagrams.recv(&mut [0]).is_err(), "somebody was reached");
}

/// CVE-2024-21626 from one `pkg_postinst`: with `/root` a link to `/proc/self/fd/3`, the next command started in whatever directory the user had
/// open, as with `flock DIR gentoomuch …`.
#[test]
fn a_link_in_place_of_root_s_home_leads_nowhere() {
    let Some(shared) = shared() else { return };
    let kept = format!("hostile-{}", std::process::id());
    let emerge = "USE=root-link emerge --quiet --usepkg=n app-misc/hostile >&2";
    with_open_directory(&shared.place, &["freshroot", "--network", "none", "--keep", &kept, "--", "sh", "-c", emerge]).ok();
    for command in ["pwd; ls", "cat /proc/self/cwd/of-the-host"] {
        let ran =
            with_open_directory(&shared.place, &["freshroot", "--network", "none", "--from", &kept, "--", "sh", "-c", command]);
        let ran = ran.fails(125).says("error: cannot enter `/root` in the session\n");
        assert!(!ran.text().contains("of-the-host"), "{ran}");
    }
    // A directory as one of the standard descriptors is refused as such.
    let mut command = shared.place.command(&["freshroot", "--network", "none", "--from", &kept, "--", "pwd"]);
    run(command.stdin(std::fs::File::open(shared.place.path("secret")).unwrap()))
        .fails(125)
        .says("error: standard input is a directory\n");
}
