//! The purpose of each of Portage's own variables: one table for what a configuration may set and for what counts in a package key.
//!
//! The names are those of `special_env_vars.py` (Portage 3.0.83), and others that Portage or emerge reads from its settings. A test
//! compares the table with the testbed's Portage and fails on a missing name. All other variables are for ebuilds and build systems, and
//! count.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The purpose of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Selects the system: `ROOT`, `EPREFIX`. Ours is always `/`.
    Root,
    /// Places of ebuild repositories, which `repos.conf` sets.
    Repositories,
    /// A place inside the session, which has its own value; the finished system has the configured one.
    Place,
    /// Another setting for which the session has its own value.
    Session,
    /// Set by Portage itself, which ignores the configuration's value.
    Portage,
    /// Options of `emerge`: [`super::emerge::default_opts`] reads them.
    EmergeOptions,
    /// Number of jobs, niceness, compiler cache: without effect on the result.
    Resources,
    /// Download commands. Sessions do not download.
    FetchCommands,
    /// Old ways to name binary package hosts, without verification.
    OldHosts,
    /// Other settings of fetching and verifying trees, sources and packages.
    Fetching,
    /// Terminal, editor, names of users, search paths, options of Portage's other tools.
    Surroundings,
    /// Which messages are kept, and their format.
    Messages,
    /// Which versions may be chosen; no effect on their contents.
    Selection,
    /// What is done while a package is merged, after it was built.
    Merging,
    /// An input of the build.
    Content,
}

impl Class {
    /// Whether two values can give two different packages.
    pub fn counts(self) -> bool {
        self == Self::Content
    }
}

/// The table. A name that ends in `*` stands for all names with that prefix.
const TABLE: &[(Class, &str)] = &[
    (Class::Root, "BROOT EPREFIX EROOT ESYSROOT PORTAGE_CONFIGROOT PORTAGE_OVERRIDE_EPREFIX ROOT SYSROOT"),
    (Class::Repositories, "PORTAGE_REPOSITORIES PORTDIR PORTDIR_OVERLAY SYNC"),
    (Class::Place, "DISTDIR PKGDIR PORTAGE_LOGDIR PORTAGE_RO_DISTDIRS PORTAGE_TMPDIR"),
    (
        Class::Session,
        "BINPKG_COMPRESS BINPKG_COMPRESS_FLAGS BINPKG_FORMAT CLEAN_DELAY EMERGE_WARNING_DELAY MAKEOPTS PORTAGE_ELOG_SYSTEM",
    ),
    // Set by `doebuild`, `setcpv` and the ebuild's metadata. Variables like `D` and `T` are replaced rather than ignored.
    (
        Class::Portage,
        "A AA BASH_ENV BASH_FUNC____in_portage_iuse%% BDEPEND BUILD_ID BUILD_PREFIX CATEGORY D DEPEND DESCRIPTION DOCS EAPI EBUILD \
         EBUILD_FORCE_TEST EBUILD_PHASE EBUILD_PHASE_FUNC EBUILD_SKIP_MANIFEST ECLASSDIR ECLASS_DEPTH ED EMERGE_FROM FILESDIR \
         GREP_OPTIONS HOME HOMEPAGE IDEPEND INHERITED IUSE IUSE_EFFECTIVE KEYWORDS LICENSE MERGE_TYPE O P PDEPEND PF PKGUSE PKG_LOGDIR \
         PKG_TMPDIR PM_EBUILD_HOOK_DIR PN PORTAGE_ACTUAL_DISTDIR PORTAGE_ARCHLIST PORTAGE_BACKGROUND PORTAGE_BACKGROUND_UNMERGE \
         PORTAGE_BASHRC PORTAGE_BASHRC_FILES PORTAGE_BINPKG_FILE PORTAGE_BINPKG_FORMAT PORTAGE_BINPKG_TMPFILE PORTAGE_BIN_PATH \
         PORTAGE_BUILDDIR PORTAGE_BUILDDIR_LOCKED PORTAGE_BUILD_GROUP PORTAGE_BUILD_USER PORTAGE_BUILT_USE PORTAGE_COLORMAP \
         PORTAGE_COMPRESSION_COMMAND PORTAGE_DEPCACHEDIR PORTAGE_EBUILD_EXIT_FD PORTAGE_EBUILD_EXIT_FILE PORTAGE_ECLASS_LOCATIONS \
         PORTAGE_EXPLICIT_INHERIT PORTAGE_FEATURES PORTAGE_INTERNAL_CALLER PORTAGE_IPC_ALIVE_FD PORTAGE_IPC_DAEMON PORTAGE_IUSE \
         PORTAGE_LOG_FILE PORTAGE_NONFATAL PORTAGE_PIPE_FD PORTAGE_PROPERTIES PORTAGE_PYM_PATH PORTAGE_PYTHON PORTAGE_PYTHONPATH \
         PORTAGE_REPO_NAME PORTAGE_REPO_REVISIONS PORTAGE_RESTRICT PORTAGE_UPDATE_ENV PORTAGE_USE PR PROPERTIES PV PVR \
         PYTHONDONTWRITEBYTECODE PYTHONUTF8 RDEPEND REPLACED_BY_VERSION REPLACING_VERSIONS REPOSITORY REQUIRED_USE RESTRICT SANDBOX_LOG \
         SLOT SRC_URI T TEMP TMP TMPDIR WORKDIR XARGS _ __PORTAGE_HELPER __PORTAGE_TEST_HARDLINK_LOCKS",
    ),
    (Class::EmergeOptions, "EMERGE_DEFAULT_OPTS"),
    (
        Class::Resources,
        "CCACHE_* DISTCC_* NINJAOPTS PORTAGE_BUNZIP2_COMMAND PORTAGE_IONICE_COMMAND PORTAGE_NICENESS PORTAGE_SCHEDULING_POLICY \
         PORTAGE_SCHEDULING_PRIORITY",
    ),
    (Class::FetchCommands, "FETCHCOMMAND FETCHCOMMAND_* FETCH_WRAPPER RESUMECOMMAND RESUMECOMMAND_*"),
    (Class::OldHosts, "PORTAGE_BINHOST"),
    (
        Class::Fetching,
        "BINPKG_GPG_* GENTOO_MIRRORS GPG_VERIFY_GROUP_DROP GPG_VERIFY_USER_DROP PORTAGE_BINHOST_HEADER_URI PORTAGE_BINHOST_TTL \
         PORTAGE_CHECKSUM_FILTER PORTAGE_FETCH_CHECKSUM_TRY_MIRRORS PORTAGE_FETCH_RESUME_MIN_SIZE PORTAGE_RSYNC_EXTRA_OPTS \
         PORTAGE_RSYNC_INITIAL_TIMEOUT PORTAGE_RSYNC_OPTS PORTAGE_RSYNC_RETRIES PORTAGE_SOCKS5_PROXY PORTAGE_SSH_OPTS PORTAGE_SYNC_STALE \
         PORTAGE_TRUST_HELPER ftp_proxy http_proxy https_proxy no_proxy",
    ),
    (
        Class::Surroundings,
        "COLORTERM COLUMNS COLUMNWIDTH CVS_RSH DISPLAY ECHANGELOG_USER EDITOR EGENCACHE_DEFAULT_OPTS EMIRRORDIST_DEFAULT_OPTS \
         GPG_AGENT_INFO INFODIR INFOPATH LESS LESSOPEN LOGNAME LS_COLORS MANPATH NOCOLOR NO_COLOR PAGER PATH PORTAGE_BINPKG_TAR_OPTS \
         PORTAGE_CGROUP_ROOT PORTAGE_DEBUG PORTAGE_GID PORTAGE_GPG_DIR PORTAGE_GPG_KEY PORTAGE_GPG_SIGNING_COMMAND PORTAGE_GRPNAME \
         PORTAGE_QUIET PORTAGE_USERNAME PORTAGE_VERBOSE PORTAGE_WORKDIR_MODE PREROOTPATH \
         QUICKPKG_DEFAULT_OPTS REPOMAN_DEFAULT_OPTS ROOTPATH RPMDIR SSH_AGENT_PID SSH_AUTH_SOCK STY TERM TERMCAP USER WINDOW XAUTHORITY",
    ),
    (
        Class::Messages,
        "EMERGE_LOG_DIR PORTAGE_ELOG_CLASSES PORTAGE_ELOG_COMMAND PORTAGE_ELOG_MAILFROM PORTAGE_ELOG_MAILSUBJECT PORTAGE_ELOG_MAILURI \
         PORTAGE_LOGDIR_CLEAN PORTAGE_LOG_FILTER_FILE_CMD PORTAGE_REPO_DUPLICATE_WARN",
    ),
    (
        Class::Selection,
        "ACCEPT_CHOSTS ACCEPT_KEYWORDS ACCEPT_LICENSE ACCEPT_PROPERTIES ACCEPT_RESTRICT PORTAGE_CIRCULAR_MAX_USE_FLAGS",
    ),
    (
        Class::Merging,
        "AUTOCLEAN COLLISION_IGNORE CONFIG_PROTECT CONFIG_PROTECT_MASK INSTALL_MASK NOCONFMEM PORTAGE_PACKAGE_EMPTY_ABORT \
         UNINSTALL_IGNORE",
    ),
    // `BZIP2` and `COMPRESS` make files of the package; locales sort their contents; variables that break bash break build systems, too.
    // Options of make may contain assignments, such as `CFLAGS=-O3`. `INST_UID` and `INST_GID` own what `dobin` installs.
    (
        Class::Content,
        "DOC_SYMLINKS_DIR ENV_UNSET FEATURES GLOBSORT GNUMAKEFLAGS HISTFILE LANG LC_ALL LC_COLLATE LC_CTYPE LC_MESSAGES LC_MONETARY \
         LC_NUMERIC LC_PAPER LC_TIME LD_PRELOAD LOCPATH MAKEFLAGS PKG_INSTALL_MASK PORTAGE_BZIP2_COMMAND PORTAGE_COMPRESS \
         PORTAGE_COMPRESS_EXCLUDE_SUFFIXES PORTAGE_COMPRESS_FLAGS PORTAGE_DOHTML_UNWARNED_SKIPPED_EXTENSIONS \
         PORTAGE_DOHTML_UNWARNED_SKIPPED_FILES PORTAGE_DOHTML_WARN_ON_SKIPPED_FILES PORTAGE_INST_GID PORTAGE_INST_UID \
         PORTAGE_XATTR_EXCLUDE POSIXLY_CORRECT QEMU_* USE USERLAND USE_EXPAND USE_EXPAND_HIDDEN USE_EXPAND_IMPLICIT \
         USE_EXPAND_UNPREFIXED USE_ORDER",
    ),
];

#[derive(Default)]
struct Names {
    whole: BTreeMap<&'static str, Class>,
    beginnings: Vec<(&'static str, Class)>,
}

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let mut names = Names::default();
    for (class, name) in TABLE.iter().flat_map(|(class, text)| text.split_whitespace().map(move |name| (*class, name))) {
        match name.strip_suffix('*') {
            Some(beginning) => names.beginnings.push((beginning, class)),
            None => {
                names.whole.insert(name, class);
            }
        }
    }
    names
});

/// The purpose of a variable; `None` if Portage itself does not use it.
pub fn class_of(name: &str) -> Option<Class> {
    let names = &*NAMES;
    let by_beginning =
        || names.beginnings.iter().find(|(beginning, _)| name.len() > beginning.len() && name.starts_with(beginning));
    names.whole.get(name).copied().or_else(|| by_beginning().map(|(_, class)| *class))
}

/// Whether two values of the variable can give two different packages. Variables that Portage does not know are for the package, and
/// count.
///
/// `USE` and `FEATURES` count, although not each of their words does. Of the variables that Portage sets itself, a package's name and
/// version, USE flags and bashrc files have to be counted separately.
pub(crate) fn counts_for_what_is_built(name: &str) -> bool {
    class_of(name).is_none_or(Class::counts)
}

/// All names of a class without wildcards, sorted.
#[cfg(test)]
pub(super) fn names_of(class: Class) -> impl Iterator<Item = &'static str> {
    NAMES.whole.iter().filter(move |(_, of)| **of == class).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_name_stands_in_the_table_twice() {
        let mut seen = BTreeSet::new();
        for name in TABLE.iter().flat_map(|(_, names)| names.split_whitespace()) {
            assert!(seen.insert(name), "{name}");
        }
    }

    #[test]
    fn names_are_known_whole_or_by_their_beginning() {
        for (name, class, counts) in [
            ("ROOT", Some(Class::Root), false),
            ("PORTDIR", Some(Class::Repositories), false),
            ("MAKEOPTS", Some(Class::Session), false),
            ("CCACHE_DIR", Some(Class::Resources), false),
            ("FETCHCOMMAND", Some(Class::FetchCommands), false),
            ("RESUMECOMMAND_SFTP", Some(Class::FetchCommands), false),
            ("RESUMECOMMAND_", None, true),
            ("FETCHCOMMANDS", None, true),
            ("PORTAGE_FETCH_RESUME_MIN_SIZE", Some(Class::Fetching), false),
            ("INSTALL_MASK", Some(Class::Merging), false),
            ("PKG_INSTALL_MASK", Some(Class::Content), true),
            ("LC_ALL", Some(Class::Content), true),
            ("MAKEFLAGS", Some(Class::Content), true),
            ("PORTAGE_INST_UID", Some(Class::Content), true),
            ("CFLAGS", None, true),
            ("EXTRA_ECONF", None, true),
        ] {
            assert_eq!((class_of(name), counts_for_what_is_built(name)), (class, counts), "{name}");
        }
    }

    #[test]
    fn the_names_of_a_class_can_be_listed() {
        assert_eq!(names_of(Class::OldHosts).collect::<Vec<_>>(), ["PORTAGE_BINHOST"]);
        assert_eq!(names_of(Class::FetchCommands).collect::<Vec<_>>(), ["FETCHCOMMAND", "FETCH_WRAPPER", "RESUMECOMMAND"]);
    }
}
