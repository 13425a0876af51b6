//! The settings of a running session: the text of the last file of the `make.conf` directory.
//!
//! ```text
//! /etc/portage/make.conf/00-…          the merged configuration, part of the layer
//! /etc/portage/make.conf/99-session.conf   this file; removed before the commit
//! ```
//!
//! It is a file because `FEATURES` in the environment do not always win over `make.conf`. Portage reads the files of the directory in
//! order, and a later assignment replaces an earlier one, even of an incremental variable. So a setting that extends the user's value
//! begins with a self-reference (`portage/util/__init__.py`, `getconfig`, which uses one substitution map for all files).

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Portage's full build logs, inside the root.
pub(crate) const DEFAULT_LOGDIR: &str = "/var/log/portage";

/// Where compilers of a session write, and the configuration of ccache.
pub(crate) const CCACHE_DIR: &str = "/run/gentoomuch/ccache/own";
pub(crate) const CCACHE_CONFIGPATH: &str = "/run/gentoomuch/hooks/ccache.conf";

/// How binary packages are packed.
const BINPKG_FORMAT: &str = "gpkg";

/// Where a session has the settings of packages by their number of jobs. Portage takes an absolute path for what it is.
const JOBS_DIR: &str = "/run/gentoomuch/jobs";

/// How many jobs a package has that is not to have those of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageJobs {
    /// As in `package.env`.
    pub atom: String,
    pub jobs: u32,
}

/// The settings that differ between sessions. All paths are inside the session's root.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SessionConf {
    /// Packages built at the same time.
    pub jobs: u32,
    /// `-j` of each `make`. Together with [`jobs`](Self::jobs) it is bounded by [`load`](Self::load).
    pub make_jobs: u32,
    /// Load average above which neither emerge nor make start more.
    pub load: Option<f32>,
    /// Packages with jobs of their own number.
    pub package_jobs: Vec<PackageJobs>,
    /// The pipe of a job server that also limits emerge and its makes.
    pub jobserver: Option<String>,
    /// Binary packages, the session's own place.
    pub pkgdir: String,
    /// Source archives.
    pub distdir: String,
    /// Work directories; on disk unless the user chose a tmpfs.
    pub portage_tmpdir: String,
    /// Full build logs.
    pub logdir: String,
    /// Whether this Portage knows `FEATURES=observability` (3.0.83 and later); older ones warn about it.
    pub observability: bool,
    /// Whether Portage can mount a `/proc` of its own, which its `pid-sandbox` does.
    pub own_proc: bool,
    /// Whether compilers run through ccache, whose configuration and directory the session has.
    pub ccache: bool,
    /// How the session downloads; `None`: as the configuration says.
    pub fetching: Option<Fetching>,
}

/// Who downloads for Portage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetching {
    /// The command that asks us for a file: `FETCHCOMMAND` after Portage has parsed it.
    pub command: String,
    /// The only mirror.
    pub mirror: String,
    /// Source archives that exist already; read-only for the session.
    pub read_only: String,
    /// Protocols for which the configuration has commands, in capitals, besides [`PROTOCOLS`].
    pub protocols: BTreeSet<String>,
}

/// Protocols with commands of their own in `make.globals` or from an administrator (`FETCHCOMMAND_SFTP`), which win over `FETCHCOMMAND`.
pub(crate) const PROTOCOLS: [&str; 8] = ["FILE", "FTP", "FTPS", "HTTP", "HTTPS", "RSYNC", "SFTP", "SSH"];
/// Which variables name commands that download.
const COMMANDS: [&str; 2] = ["FETCHCOMMAND", "RESUMECOMMAND"];

/// The protocol in `FETCHCOMMAND_HTTPS`.
pub(crate) fn protocol_of(name: &str) -> Option<&str> {
    let rest = COMMANDS.iter().find_map(|command| name.strip_prefix(command)?.strip_prefix('_'))?;
    (!rest.is_empty()).then_some(rest)
}

impl SessionConf {
    /// A session with the usual paths, for a machine with `jobs` processors.
    pub(crate) fn new(jobs: u32) -> Self {
        Self {
            jobs,
            make_jobs: jobs,
            load: None,
            package_jobs: Vec::new(),
            jobserver: None,
            pkgdir: "/var/cache/binpkgs".to_owned(),
            distdir: "/var/cache/distfiles".to_owned(),
            portage_tmpdir: "/var/tmp".to_owned(),
            logdir: DEFAULT_LOGDIR.to_owned(),
            observability: true,
            own_proc: true,
            ccache: false,
            fetching: None,
        }
    }

    /// Environment variables of each command in a session. They win over files that `package.env` names, which the session's `make.conf`
    /// does not.
    pub(crate) fn environment(&self) -> [(&'static str, &str); 5] {
        [
            ("BINPKG_FORMAT", BINPKG_FORMAT),
            ("DISTDIR", &self.distdir),
            ("PKGDIR", &self.pkgdir),
            ("PORTAGE_LOGDIR", &self.logdir),
            ("PORTAGE_TMPDIR", &self.portage_tmpdir),
        ]
    }

    /// The text of the file.
    pub(crate) fn render(&self) -> String {
        let mut conf = Conf::default();
        conf.comment("Settings of this session only, written by gentoomuch and removed before anything is committed.");
        self.features(&mut conf);
        self.places(&mut conf);
        self.fetching(&mut conf);
        Self::behaviour(&mut conf);
        self.parallelism(&mut conf);
        conf.text
    }

    /// The numbers of jobs that packages of their own have, never more than all have, smallest first.
    pub(crate) fn numbers_of_packages(&self) -> BTreeSet<u32> {
        self.package_jobs.iter().map(|package| self.jobs_of(package)).collect()
    }

    fn jobs_of(&self, package: &PackageJobs) -> u32 {
        package.jobs.min(self.make_jobs).max(1)
    }

    /// Where a package with so many jobs takes them from, if there is a job server: one job comes with the package itself.
    pub(crate) fn pipe_of(pipe: &str, jobs: u32) -> Option<String> {
        (jobs > 1).then(|| format!("{pipe}-{jobs}"))
    }

    /// The lines of `package.env`, if there are any.
    pub(crate) fn package_env(&self) -> Option<String> {
        let mut lines = Conf::default();
        lines.comment("`env/jobs`, for this session only.");
        for package in &self.package_jobs {
            let _ = writeln!(lines.text, "{} {JOBS_DIR}/{}", package.atom, self.jobs_of(package));
        }
        (!self.package_jobs.is_empty()).then_some(lines.text)
    }

    /// The files that they name, with their texts.
    pub(crate) fn package_env_files(&self) -> Vec<(String, String)> {
        self.numbers_of_packages().into_iter().map(|jobs| (format!("{JOBS_DIR}/{jobs}"), self.jobs_of_one_package(jobs))).collect()
    }

    fn jobs_of_one_package(&self, jobs: u32) -> String {
        let mut conf = Conf::default();
        conf.assign("MAKEOPTS", &self.make_opts(jobs));
        if let Some(pipe) = &self.jobserver {
            conf.comment("A make that knows a job server is given no MAKEOPTS by Portage.");
            let flags = Self::pipe_of(pipe, jobs).map(|pipe| format!("--jobserver-auth=fifo:{pipe}"));
            conf.assign("MAKEFLAGS", &flags.unwrap_or_default());
        }
        conf.text
    }

    fn make_opts(&self, jobs: u32) -> String {
        let load = self.load().map(|load| format!(" -l{load:.1}")).unwrap_or_default();
        format!("-j{}{load}", jobs.max(1))
    }

    fn load(&self) -> Option<f32> {
        self.load.filter(|load| load.is_finite() && *load > 0.0)
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
        if self.fetching.is_some() {
            off.extend(["force-mirror", "parallel-fetch"]);
        }
        if !self.own_proc {
            off.insert("pid-sandbox");
        }
        if self.observability {
            on.insert("observability");
        }
        if self.ccache {
            on.insert("ccache");
        }
        if self.jobserver.is_some() {
            on.insert("jobserver-token");
        }
        conf.comment("buildpkg: what is compiled here is never compiled twice; also for an emerge typed by hand.");
        conf.comment("binpkg-multi-instance: builds with other USE flags live side by side in a pool.");
        conf.comment("pkgdir-index-trusted: without it Portage 3.0.83 opens every package of the pool at each start; the index is ours, and right.");
        conf.comment("xattr: file capabilities must survive the way from the image to the root.");
        conf.comment("notitles, -news: for terminals with somebody in front of them.");
        if self.observability {
            conf.comment("observability: live status below /run/portage.");
        }
        if !self.own_proc {
            conf.comment("-pid-sandbox: this host does not let Portage mount a /proc of its own; the session has its own PID namespace all the same.");
        }
        if self.ccache {
            conf.comment("ccache: what was compiled before is taken from the cache of this package.");
        }
        conf.comment("-binpkg-signing, -binpkg-request-signature: our own packages come from our own pool; nothing is downloaded unverified.");
        conf.comment("-compress-index: Packages.gz is for those who download from a pool.");
        conf.comment("-merge-sync: the session is synced once, when it is committed.");
        conf.comment("-userfetch, -usersync: nobody but root of the session writes there.");
        conf.comment("-compress-build-logs, -clean-logs: the log of a failure is shown.");
        conf.comment("-getbinpkg: our own runs ask for binary packages of hosts themselves, which wins over this.");
        if self.fetching.is_some() {
            conf.comment("-parallel-fetch, -force-mirror: what a run needs is fetched outside, from the first moment on; here is no network.");
        }
        let words: Vec<String> = on.iter().map(|f| (*f).to_owned()).chain(off.iter().map(|f| format!("-{f}"))).collect();
        conf.extend("FEATURES", &words.join(" "));
    }

    fn places(&self, conf: &mut Conf) {
        conf.blank();
        conf.comment("Hosts are those of binrepos.conf: of one that is named here Portage would take what nobody has signed.");
        conf.assign("PORTAGE_BINHOST", "");
        conf.comment(
            "What a configuration says of these was told to its author; a stage is built for / from the trees of repos.conf.",
        );
        conf.assign("ROOT", "/");
        conf.assign("PORTDIR", "");
        conf.assign("PORTDIR_OVERLAY", "");
        conf.assign("PKGDIR", &self.pkgdir);
        conf.assign("DISTDIR", &self.distdir);
        conf.assign("PORTAGE_TMPDIR", &self.portage_tmpdir);
        if self.ccache {
            conf.assign("CCACHE_DIR", CCACHE_DIR);
            conf.assign("CCACHE_CONFIGPATH", CCACHE_CONFIGPATH);
            conf.comment("Portage would write it into a configuration; the cache is bounded outside.");
            conf.assign("CCACHE_SIZE", "");
        }
        conf.comment("One complete log per package, whatever is shown.");
        conf.assign("PORTAGE_LOGDIR", &self.logdir);
    }

    fn fetching(&self, conf: &mut Conf) {
        let Some(Fetching { command, mirror, read_only, protocols }) = &self.fetching else { return };
        conf.blank();
        conf.comment("Nothing is downloaded in here: gentoomuch is asked, outside, for a file by its name and digests.");
        conf.comment("make.globals has commands for single protocols, and they would win.");
        let all: BTreeSet<&str> = PROTOCOLS.into_iter().chain(protocols.iter().map(String::as_str)).collect();
        for name in COMMANDS {
            conf.assign(name, command);
            for protocol in &all {
                conf.assign(&format!("{name}_{protocol}"), command);
            }
        }
        conf.assign("FETCH_WRAPPER", "");
        conf.comment("One mirror, or Portage would ask once for each.");
        conf.assign("GENTOO_MIRRORS", mirror);
        conf.comment(
            "What is here is linked from there if it is what the Manifest says, also where the ebuild wants it fetched by hand.",
        );
        conf.assign("PORTAGE_RO_DISTDIRS", read_only);
    }

    fn behaviour(conf: &mut Conf) {
        conf.blank();
        conf.comment("Nobody is there to merge ._cfg files, and --emptytree would leave them all over the image.");
        conf.comment("The null device stands for an empty list, of which emerge would warn at each start.");
        conf.assign("CONFIG_PROTECT", "-* /dev/null");
        conf.comment("Speed over size: a pool is read far more often than it is carried around.");
        conf.assign("BINPKG_FORMAT", BINPKG_FORMAT);
        conf.assign("BINPKG_COMPRESS", "zstd");
        conf.assign("BINPKG_COMPRESS_FLAGS", "-1");
        conf.comment("Messages go to the output and to a file for each package; never by mail.");
        conf.assign("PORTAGE_ELOG_SYSTEM", "echo save:log,warn,error,qa");
        conf.comment("Countdowns are for terminals with somebody in front of them.");
        conf.assign("CLEAN_DELAY", "0");
        conf.assign("EMERGE_WARNING_DELAY", "0");
    }

    fn parallelism(&self, conf: &mut Conf) {
        conf.blank();
        conf.comment("For an emerge typed by hand; our own runs name every option. The last mention of an option wins.");
        let mut opts = format!("--ask=n --jobs={} --usepkg=y", self.jobs.max(1));
        if let Some(load) = self.load() {
            let _ = write!(opts, " --load-average={load:.1}");
        }
        conf.extend("EMERGE_DEFAULT_OPTS", &opts);
        conf.assign("MAKEOPTS", &self.make_opts(self.make_jobs));
        if let Some(pipe) = &self.jobserver {
            conf.comment("jobserver-token: one budget of jobs for each emerge and make of several sessions. MAKEOPTS is then for what is no make.");
            conf.assign("MAKEFLAGS", &format!("--jobserver-auth=fifo:{pipe}"));
            let limited = self.numbers_of_packages().into_iter().filter_map(|jobs| Self::pipe_of(pipe, jobs));
            let pipes: Vec<String> = std::iter::once(pipe.clone()).chain(limited).map(|pipe| quoted(&pipe)).collect();
            conf.raw("SANDBOX_WRITE", &format!("${{SANDBOX_WRITE}}:{}", pipes.join(":")));
        }
    }
}

/// Lines of a `make.conf`.
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

/// `value` for double quotes. Portage's reader expands `$` and treats `\` as an escape; a backtick is an ordinary character, and an
/// escaped one would keep its backslash. Control characters, which none of our settings needs, become spaces.
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
    use crate::portage::variables::{self, Class};

    fn line<'a>(text: &'a str, name: &str) -> &'a str {
        text.lines().find(|l| l.starts_with(&format!("{name}="))).unwrap_or_default()
    }

    #[test]
    fn a_session_that_asks_for_what_it_needs() {
        let fetching = Fetching {
            command: "ask \"${DISTDIR}\" \"${FILE}\"".to_owned(),
            mirror: "http://m.invalid".to_owned(),
            read_only: "/run/d".to_owned(),
            protocols: BTreeSet::from(["GOPHER".to_owned()]),
        };
        let conf = SessionConf { load: Some(4.0), fetching: Some(fetching), ..SessionConf::new(4) };
        insta::assert_snapshot!(conf.render());
    }

    #[test]
    fn a_job_server_is_for_emerge_and_for_make() {
        let conf = SessionConf { jobserver: Some("/dev/shm/j".to_owned()), ..SessionConf::new(4) };
        let text = conf.render();
        assert_eq!(line(&text, "MAKEFLAGS"), "MAKEFLAGS=\"--jobserver-auth=fifo:/dev/shm/j\"");
        assert_eq!(line(&text, "SANDBOX_WRITE"), "SANDBOX_WRITE=\"${SANDBOX_WRITE}:/dev/shm/j\"");
        assert!(line(&text, "FEATURES").contains(" jobserver-token "), "{text}");
        assert!(!SessionConf::new(4).render().contains("jobserver"));
    }

    #[test]
    fn compilers_run_through_ccache_where_there_is_a_cache() {
        let text = SessionConf { ccache: true, ..SessionConf::new(4) }.render();
        assert!(line(&text, "FEATURES").contains(" ccache "), "{text}");
        assert_eq!(line(&text, "CCACHE_CONFIGPATH"), "CCACHE_CONFIGPATH=\"/run/gentoomuch/hooks/ccache.conf\"");
        assert_eq!(line(&text, "CCACHE_SIZE"), "CCACHE_SIZE=\"\"");
        assert!(!SessionConf::new(4).render().contains("ccache"));
    }

    #[test]
    fn packages_have_their_own_number_of_jobs_and_never_more_than_all() {
        let package = |atom: &str, jobs| PackageJobs { atom: atom.to_owned(), jobs };
        let package_jobs = vec![package("dev-qt/*", 2), package("=net-libs/big-1*", 1), package("a/b", 64)];
        let conf = SessionConf { load: Some(4.0), package_jobs, ..SessionConf::new(4) };
        let all = |conf: &SessionConf| -> String {
            let files = conf.package_env_files().into_iter().map(|(name, text)| format!("==> {name} <==\n{text}"));
            conf.package_env().into_iter().chain(files).collect()
        };
        insta::assert_snapshot!(all(&conf));
        assert!(!line(&conf.render(), "MAKEFLAGS").contains("jobserver"));
        let shared = SessionConf { jobserver: Some("/dev/shm/j".to_owned()), ..conf };
        let flags: Vec<String> = all(&shared).lines().filter(|line| line.starts_with("MAKEFLAGS")).map(str::to_owned).collect();
        let pipe = |jobs: u32| format!("MAKEFLAGS=\"--jobserver-auth=fifo:/dev/shm/j-{jobs}\"");
        assert_eq!(flags, ["MAKEFLAGS=\"\"".to_owned(), pipe(2), pipe(4)]);
        let writable = "SANDBOX_WRITE=\"${SANDBOX_WRITE}:/dev/shm/j:/dev/shm/j-2:/dev/shm/j-4\"";
        assert_eq!(line(&shared.render(), "SANDBOX_WRITE"), writable);
        assert_eq!(all(&SessionConf::new(4)), "");
    }

    #[test]
    fn no_host_is_asked_that_binrepos_conf_does_not_name() {
        let text = SessionConf::new(1).render();
        assert_eq!(line(&text, "PORTAGE_BINHOST"), "PORTAGE_BINHOST=\"\"");
        assert!(line(&text, "FEATURES").contains(" -getbinpkg "), "{text}");
    }

    #[test]
    fn values_cannot_leave_their_quotes() {
        let conf = SessionConf { pkgdir: "/a\"; FEATURES=\"$(id)`\\\nX".to_owned(), ..SessionConf::new(1) };
        assert_eq!(line(&conf.render(), "PKGDIR"), "PKGDIR=\"/a\\\"; FEATURES=\\\"\\$(id)`\\\\ X\"");
    }

    #[test]
    fn protocols_with_commands_of_their_own_are_known() {
        for (name, protocol) in [
            ("FETCHCOMMAND", None),
            ("FETCHCOMMAND_SFTP", Some("SFTP")),
            ("RESUMECOMMAND_x", Some("x")),
            ("FETCH_WRAPPER", None),
            ("FETCHCOMMAND_", None),
            ("FETCHCOMMANDS", None),
        ] {
            assert_eq!(protocol_of(name), protocol, "{name}");
        }
    }

    #[test]
    fn a_session_has_its_own_value_for_all_that_the_table_calls_so() {
        let fetching = Fetching {
            command: "ask".to_owned(),
            mirror: "http://m.invalid".to_owned(),
            read_only: "/run/d".to_owned(),
            protocols: BTreeSet::new(),
        };
        let text = SessionConf { fetching: Some(fetching), ..SessionConf::new(1) }.render();
        for class in [Class::Place, Class::Session, Class::FetchCommands, Class::OldHosts] {
            for name in variables::names_of(class) {
                assert!(!line(&text, name).is_empty(), "{name} is not in {text}");
            }
        }
        for (name, value) in [("ROOT", "/"), ("PORTDIR", ""), ("PORTDIR_OVERLAY", "")] {
            assert_eq!(line(&text, name), format!("{name}=\"{value}\""));
        }
    }
}
