//! What `kernel` says where nothing has to be built for it.

use crate::program::Home;

const SERVER: &str =
    "# gentoomuch: sources sys-kernel/gentoo-sources\n# gentoomuch: version 6.12.4\nCONFIG_64BIT=y\nCONFIG_VETH=m\n";

fn home() -> Home {
    let home = Home::with_shipped_config();
    home.write("kernel.configs/server.kconf", SERVER);
    home.write("kernel.configs/desktop.kconf", "CONFIG_64BIT=y\nCONFIG_DRM=y\n# CONFIG_VETH is not set\n");
    home
}

macro_rules! assert_transcript {
    ($text:expr) => {
        insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!($text) })
    };
}

#[test]
fn configurations_are_compared() {
    assert_transcript!(home().transcripts(&[
        "kernel diff server desktop",
        "kernel diff server desktop --json",
        "kernel diff server server",
        "kernel diff server dekstop",
    ]));
}

#[test]
fn what_cannot_be_done() {
    assert_transcript!(home().transcripts(&[
        "kernel build sever",
        "kernel update sever",
        "kernel prep server",
        "kernel prep server --sources gentoo-sources:",
        "kernel prep server --target xconfig",
    ]));
}

#[test]
fn headers_that_are_wrong() {
    let home = home();
    home.write("kernel.configs/desktop.kconf", "# gentoomuch: sources gentoo-sources\n# gentoomuch: version six\nCONFIG_A=y\n");
    home.write("kernel.configs/laptop.dracut", "--add crypt\n");
    home.write("stage4.defines/hello/kernel.sources", "gentoo-sources\n");
    assert_transcript!(home.transcripts(&["config check --no-portage", "kernel diff server desktop", "kernel build desktop"]));
}
