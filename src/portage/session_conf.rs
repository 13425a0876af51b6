//! The settings that hold only while a session runs: the text of the last file of the `make.conf` directory.
//!
//! ```text
//! /etc/portage/make.conf/00-…          the merged configuration, part of the layer
//! /etc/portage/make.conf/99-session.conf   this file; gone before commit
//! ```
//!
//! A file, and not the environment, because `FEATURES` in the environment do not always win over `make.conf`. Portage reads the files of
//! the directory one after the other and a later assignment replaces an earlier one, even of an incremental variable; what must extend the
//! user's value therefore starts with a self-reference (`portage/util/__init__.py`, `getconfig`, which carries one substitution map through
//! all of them).

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Name of the file below `etc/portage/make.conf/`: sorts after everything that a configuration would bring.
pub const FILE_NAME: &str = "99-session.conf";

/// Where Portage keeps its full build logs, inside the root.
pub const DEFAULT_LOGDIR: &str = "/var/log/portage";

/// What differs between sessions. All paths are paths inside the session's root.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionConf {
    /// Packages built at the same time.
    pub jobs: u32,
    /// `-j` of each `make`; together with [`jobs`](Self::jobs) bounded by [`load`](Self::load).
    pub make_jobs: u32,
    /// Load average above which neither emerge nor make start more.
    pub load: Option<f32>,
    /// The pipe of a job server that emerge and its makes take their jobs from, besides what is said above.
    pub jobserver: Option<String>,
    /// Binary packages, the session's own place.
    pub pkgdir: String,
    /// Source archives.
    pub distdir: String,
    /// Work directories; on disk unless the user chose a tmpfs.
    pub portage_tmpdir: String,
    /// Full build logs.
    pub logdir: String,
    /// Whether the session has a network.
    pub network: bool,
    /// Whether this Portage knows `FEATURES=observability` (3.0.83 and later); an older one only warns about it.
    pub observability: bool,
    /// What the host cannot do.
    pub limits: Limits,
    /// Mirrors asked before the user's own, such as `file:///var/cache/mirror`.
    pub mirrors: Vec<String>,
}

/// Parts of Portage's own isolation that this host cannot provide, found by probing. Everything is `false` where nothing is missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent findings of independent probes")]
pub struct Limits {
    /// Only one id is mapped: nothing can be owned by, or run as, the `portage` user.
    pub single_id: bool,
    /// A new `/proc` cannot be mounted (a container that masks parts of it), which is fatal to `pid-sandbox`.
    pub no_new_proc: bool,
    /// `ptrace` or `process_vm_readv` are refused, which `sandbox` needs for static and set-id programs.
    pub no_ptrace: bool,
    /// The session already has no network namespace of its own to make one in.
    pub no_network_namespace: bool,
}

impl SessionConf {
    /// A session with a network or without, at the usual places, for a machine with `jobs` processors.
    pub fn new(jobs: u32, network: bool) -> Self {
        Self {
            jobs,
            make_jobs: jobs,
            load: None,
            jobserver: None,
            pkgdir: "/var/cache/binpkgs".to_owned(),
            distdir: "/var/cache/distfiles".to_owned(),
            portage_tmpdir: "/var/tmp".to_owned(),
            logdir: DEFAULT_LOGDIR.to_owned(),
            network,
            observability: true,
            limits: Limits::default(),
            mirrors: Vec::new(),
        }
    }

    /// The text of the file.
    pub fn render(&self) -> String {
        let mut conf = Conf::default();
        conf.comment("Settings of this session only, written by gentoomuch and removed before anything is committed.");
        self.features(&mut conf);
        self.places(&mut conf);
        Self::behaviour(&mut conf);
        self.parallelism(&mut conf);
        conf.text
    }

    fn features(&self, conf: &mut Conf) {
        let mut on = BTreeSet::from(["buildpkg", "binpkg-multi-instance", "pkgdir-index-trusted", "xattr", "notitles"]);
        let mut off = BTreeSet::from([
            "binpkg-signing",
            "binpkg-request-signature",
            "merge-sync",
            "news",
            "userfetch",
            "usersync",
            "compress-build-logs",
            "clean-logs",
            "compress-index",
            "getbinpkg",
        ]);
        if self.observability {
            on.insert("observability");
        }
        if self.jobserver.is_some() {
            on.insert("jobserver-token");
        }
        if !self.network {
            off.insert("parallel-fetch");
        }
        if self.limits.single_id {
            off.extend(["userpriv", "usersandbox"]);
        }
        if self.limits.no_new_proc {
            off.insert("pid-sandbox");
        }
        if self.limits.no_network_namespace {
            off.insert("network-sandbox");
        }
        conf.comment("buildpkg: what is compiled here is never compiled twice; also for an emerge typed by hand.");
        conf.comment("binpkg-multi-instance: builds with other USE flags live side by side in a pool.");
        conf.comment("pkgdir-index-trusted: without it Portage 3.0.83 opens every package of the pool at each start; the index is ours, and right.");
        conf.comment("xattr: file capabilities must survive the way from the image to the root.");
        conf.comment("notitles, -news: for terminals with somebody in front of them.");
        if self.observability {
            conf.comment("observability: live status below /run/portage.");
        }
        conf.comment("-binpkg-signing, -binpkg-request-signature: our own packages come from our own pool; nothing is downloaded unverified.");
        conf.comment("-compress-index: Packages.gz is for those who download from a pool.");
        conf.comment("-merge-sync: the session is synced once, when it is committed.");
        conf.comment("-userfetch, -usersync: distfiles stay the invoking user's, who must be able to delete them.");
        conf.comment("-compress-build-logs, -clean-logs: the log of a failure is shown.");
        conf.comment("-getbinpkg: our own runs ask for binary packages of hosts themselves, which wins over this.");
        if !self.network {
            conf.comment("-parallel-fetch: everything was fetched before; here is no network.");
        }
        if self.limits != Limits::default() {
            conf.comment("-userpriv, -usersandbox, -pid-sandbox, -network-sandbox: what of these is named, this host cannot do.");
        }
        let words: Vec<String> = on.iter().map(|f| (*f).to_owned()).chain(off.iter().map(|f| format!("-{f}"))).collect();
        conf.extend("FEATURES", &words.join(" "));
        if self.limits.no_ptrace {
            conf.comment("Without ptrace, static and set-id programs go untraced.");
            conf.assign("SANDBOX_METHOD", "preload");
        }
        if self.limits.single_id {
            conf.comment("Only one id is mapped: Portage must not try to become anybody else.");
            conf.assign("PORTAGE_USERNAME", "root");
            conf.assign("PORTAGE_GRPNAME", "root");
        }
    }

    fn places(&self, conf: &mut Conf) {
        conf.blank();
        conf.comment("Hosts are those of binrepos.conf: of one that is named here Portage would take what nobody has signed.");
        conf.assign("PORTAGE_BINHOST", "");
        conf.assign("PKGDIR", &self.pkgdir);
        conf.assign("DISTDIR", &self.distdir);
        conf.assign("PORTAGE_TMPDIR", &self.portage_tmpdir);
        conf.comment("One complete log per package, whatever is shown.");
        conf.assign("PORTAGE_LOGDIR", &self.logdir);
        if !self.mirrors.is_empty() {
            let mirrors = self.mirrors.iter().map(|m| quoted(m)).collect::<Vec<_>>().join(" ");
            conf.raw("GENTOO_MIRRORS", &format!("{mirrors} ${{GENTOO_MIRRORS}}"));
        }
    }

    fn behaviour(conf: &mut Conf) {
        conf.blank();
        conf.comment("Nobody is there to merge ._cfg files, and --emptytree would leave them all over the image.");
        conf.comment("The null device stands for an empty list, of which emerge would warn at each start.");
        conf.assign("CONFIG_PROTECT", "-* /dev/null");
        conf.comment("Speed over size: a pool is read far more often than it is carried around.");
        conf.assign("BINPKG_FORMAT", "gpkg");
        conf.assign("BINPKG_COMPRESS", "zstd");
        conf.assign("BINPKG_COMPRESS_FLAGS", "-1");
        conf.comment("Messages go to the output and to a summary; never by mail.");
        conf.assign("PORTAGE_ELOG_SYSTEM", "echo save_summary:log,warn,error,qa");
        conf.comment("Countdowns are for terminals with somebody in front of them.");
        conf.assign("CLEAN_DELAY", "0");
        conf.assign("EMERGE_WARNING_DELAY", "0");
    }

    fn parallelism(&self, conf: &mut Conf) {
        conf.blank();
        conf.comment("For an emerge typed by hand; our own runs name every option. The last mention of an option wins.");
        let mut opts = format!("--ask=n --jobs={} --usepkg=y", self.jobs.max(1));
        let mut make = format!("-j{}", self.make_jobs.max(1));
        if let Some(load) = self.load.filter(|load| load.is_finite() && *load > 0.0) {
            let _ = write!(opts, " --load-average={load:.1}");
            let _ = write!(make, " -l{load:.1}");
        }
        conf.extend("EMERGE_DEFAULT_OPTS", &opts);
        conf.assign("MAKEOPTS", &make);
        if let Some(pipe) = &self.jobserver {
            conf.comment("jobserver-token: one budget of jobs for each emerge and make of several sessions. MAKEOPTS is then for what is no make.");
            conf.assign("MAKEFLAGS", &format!("--jobserver-auth=fifo:{pipe}"));
            conf.raw("SANDBOX_WRITE", &format!("${{SANDBOX_WRITE}}:{}", quoted(pipe)));
        }
    }
}

/// Lines of a `make.conf` under construction.
#[derive(Debug, Default)]
struct Conf {
    text: String,
}

impl Conf {
    fn blank(&mut self) {
        self.text.push('\n');
    }

    fn comment(&mut self, comment: &str) {
        let _ = writeln!(self.text, "# {comment}");
    }

    fn assign(&mut self, name: &str, value: &str) {
        self.raw(name, &quoted(value));
    }

    fn extend(&mut self, name: &str, value: &str) {
        self.raw(name, &format!("${{{name}}} {}", quoted(value)));
    }

    fn raw(&mut self, name: &str, inside_quotes: &str) {
        let _ = writeln!(self.text, "{name}=\"{inside_quotes}\"");
    }
}

/// `value` for use between double quotes, where Portage's reader expands `$` and takes `\` as an escape; a backtick means nothing to it,
/// and an escaped one would keep its backslash. Line breaks and other control characters, which no setting of ours has a use for, become
/// spaces.
fn quoted(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '"' | '\\' | '$' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(text: &'a str, name: &str) -> &'a str {
        text.lines().find(|l| l.starts_with(&format!("{name}="))).unwrap_or_default()
    }

    #[test]
    fn offline_session() {
        let mut conf = SessionConf::new(4, false);
        conf.load = Some(4.0);
        insta::assert_snapshot!(conf.render());
    }

    #[test]
    fn a_job_server_is_for_emerge_and_for_make() {
        let conf = SessionConf { jobserver: Some("/dev/shm/j".to_owned()), ..SessionConf::new(4, false) };
        let text = conf.render();
        assert_eq!(line(&text, "MAKEFLAGS"), "MAKEFLAGS=\"--jobserver-auth=fifo:/dev/shm/j\"");
        assert_eq!(line(&text, "SANDBOX_WRITE"), "SANDBOX_WRITE=\"${SANDBOX_WRITE}:/dev/shm/j\"");
        assert!(line(&text, "FEATURES").contains(" jobserver-token "), "{text}");
        assert!(!SessionConf::new(4, false).render().contains("jobserver"));
    }

    #[test]
    fn a_network_leaves_parallel_downloads_to_the_user() {
        let features = line(&SessionConf::new(1, true).render(), "FEATURES").to_owned();
        assert!(!features.contains("parallel-fetch"), "{features}");
        assert!(features.starts_with("FEATURES=\"${FEATURES} "), "{features}");
    }

    #[test]
    fn no_host_is_asked_that_binrepos_conf_does_not_name() {
        for network in [true, false] {
            let text = SessionConf::new(1, network).render();
            assert_eq!(line(&text, "PORTAGE_BINHOST"), "PORTAGE_BINHOST=\"\"", "network: {network}");
            assert!(line(&text, "FEATURES").contains(" -getbinpkg "), "network: {network}: {text}");
        }
    }

    #[test]
    fn limits_switch_off_only_what_the_host_cannot_do() {
        let all = Limits { single_id: true, no_new_proc: true, no_ptrace: true, no_network_namespace: true };
        let text = SessionConf { limits: all, ..SessionConf::new(1, false) }.render();
        for word in ["-userpriv", "-pid-sandbox", "-network-sandbox"] {
            assert!(line(&text, "FEATURES").contains(word), "{word} in {text}");
        }
        assert_eq!(line(&text, "SANDBOX_METHOD"), "SANDBOX_METHOD=\"preload\"");
        assert_eq!(line(&text, "PORTAGE_USERNAME"), "PORTAGE_USERNAME=\"root\"");
        let none = SessionConf::new(1, false).render();
        assert!(!none.contains("SANDBOX_METHOD=") && !line(&none, "FEATURES").contains("pid-sandbox"));
    }

    #[test]
    fn values_cannot_leave_their_quotes() {
        let conf = SessionConf { pkgdir: "/a\"; FEATURES=\"$(id)`\\\nX".to_owned(), ..SessionConf::new(1, false) };
        assert_eq!(line(&conf.render(), "PKGDIR"), "PKGDIR=\"/a\\\"; FEATURES=\\\"\\$(id)`\\\\ X\"");
    }

    #[test]
    fn mirrors_come_before_the_users() {
        let conf = SessionConf { mirrors: vec!["file:///m".to_owned()], ..SessionConf::new(1, true) };
        assert_eq!(line(&conf.render(), "GENTOO_MIRRORS"), "GENTOO_MIRRORS=\"file:///m ${GENTOO_MIRRORS}\"");
    }
}
