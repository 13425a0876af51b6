//! What a stage4 leaves out by default: the identity of a machine, and what can be made again. A definition's `keep` file brings paths
//! back. Of a directory written as `DIR/*` the empty directory stays.

/// [Patterns](crate::patterns).
pub const DEFAULT: &[&str] = &[
    // Identity: two machines made from one stage4 must not share it.
    "/etc/machine-id",
    "/var/lib/dbus/machine-id",
    "/etc/ssh/ssh_host_*",
    "/etc/dropbear/dropbear_*_host_key",
    "/var/lib/systemd/random-seed",
    "/var/lib/misc/random-seed",
    "/var/lib/seedrng/*",
    "/etc/hostid",
    // Traces of the build.
    "/var/log/**",
    "/root/.bash_history",
    "/root/.python_history",
    "/root/.lesshst",
    "/root/.viminfo",
    "/home/*/.bash_history",
    // Caches and scratch.
    "/var/cache/**",
    "/var/tmp/*",
    "/tmp/*",
    "/run/*",
    "/root/.cache",
    "/home/*/.cache",
    // Trees and sources.
    "/var/db/repos/*",
    "/usr/src/*",
    // A running system mounts these.
    "/dev/*",
    "/proc/*",
    "/sys/*",
    "/lost+found",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::exclude::Excludes;

    #[test]
    fn identity_and_scratch_stay_out_and_the_system_comes_along() {
        let excludes = Excludes::new(DEFAULT, [] as [&str; 0]).unwrap();
        for out in [
            "/etc/machine-id",
            "/etc/ssh/ssh_host_ed25519_key",
            "/etc/dropbear/dropbear_rsa_host_key",
            "/var/tmp/portage/x",
            "/usr/src/linux",
            "/var/db/repos/gentoo/profiles",
            "/var/log/emerge.log",
        ] {
            assert!(excludes.matches(out), "{out}");
        }
        for stays in [
            "/etc/passwd",
            "/etc/ssh/sshd_config",
            "/var/tmp",
            "/usr/src",
            "/var/db/pkg/app-misc/hello-2.10",
            "/var/lib/portage/world",
            "/etc/portage/make.conf",
        ] {
            assert!(!excludes.matches(stays), "{stays}");
        }
    }

    #[test]
    fn keep_brings_back() {
        let excludes = Excludes::new(DEFAULT, ["/var/log/wtmp"]).unwrap();
        assert!(!excludes.matches("/var/log/wtmp"));
        assert!(excludes.matches("/var/log/lastlog"));
    }
}
