//! The command line's grammar. Shell completions and man pages are made from it.

use std::path::PathBuf;
use std::str::FromStr;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, ValueEnum};

use crate::registry::{Address, NotAnAddress};
use crate::sandbox::Rung;

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line, each on its own")]
pub(crate) struct Global {
    /// Configuration directory [default: `$XDG_CONFIG_HOME/gentoomuch`]
    #[arg(long, global = true, value_name = "DIR", env = "GENTOOMUCH_CONFIG", hide_env = true)]
    pub(crate) config: Option<PathBuf>,
    /// Data directory: store, artifacts, logs [default: `$XDG_DATA_HOME/gentoomuch`]
    #[arg(long, global = true, value_name = "DIR", env = "GENTOOMUCH_DATA", hide_env = true)]
    pub(crate) data: Option<PathBuf>,
    /// Cache directory: distfiles, binary packages [default: `$XDG_CACHE_HOME/gentoomuch`]
    #[arg(long, global = true, value_name = "DIR", env = "GENTOOMUCH_CACHE", hide_env = true)]
    pub(crate) cache: Option<PathBuf>,
    /// Print more: -v shows what is done, -vv each step of the sandbox
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Print only results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Format of messages on standard error: text for people, or one JSON object a line
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// When to use colour; `auto`: on a terminal, unless `NO_COLOR` is set
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = Color::Auto)]
    pub(crate) color: Color,
    /// Do not wait for other commands: fail at once if one holds a lock that this one needs
    #[arg(long, global = true)]
    pub(crate) no_wait: bool,
    /// Accept this isolation of sessions only: `subordinate-ids`, `own-ids` or `shared-proc`
    #[arg(long, global = true, value_name = "RUNG", env = "GENTOOMUCH_ISOLATION", hide_env = true)]
    pub(crate) isolation: Option<Rung>,
    /// Ask here for what would be built: `oci://HOST/REPOSITORY`, `dir:/PATH`, or `none` [default: `env/remote`]
    #[arg(long, global = true, value_name = "ADDRESS", env = "GENTOOMUCH_REMOTE", hide_env = true)]
    pub(crate) remote: Option<Wanted>,
    /// Publish there what was built
    #[arg(long, global = true)]
    pub(crate) push: bool,
    /// Do not use the network, also not for emerge: a file that is missing is an error
    #[arg(long, global = true)]
    pub(crate) offline: bool,
    /// Options of places, remote and isolation that stand on the command line, with values as they were typed.
    #[arg(skip)]
    given: Vec<(&'static str, String)>,
}

impl Global {
    /// Notes what stands on the command line, which the values do not tell from what the environment says.
    pub(crate) fn note_given(&mut self, matches: &ArgMatches) {
        let is_given = |option: &&str| matches.value_source(option) == Some(ValueSource::CommandLine);
        let value = |option| Some((option, matches.get_raw(option)?.next()?.to_string_lossy().into_owned()));
        self.given = ["config", "data", "cache", "remote", "isolation"].into_iter().filter(is_given).filter_map(value).collect();
    }

    /// Names and values of these options, without those that only the environment sets.
    pub(crate) fn given(&self) -> &[(&'static str, String)] {
        &self.given
    }
}

/// The remote that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    None,
    At(Address),
}

impl FromStr for Wanted {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        if text == "none" { Ok(Self::None) } else { text.parse().map(Self::At) }
    }
}

/// Form of the diagnostics on standard error. (Comments on the values would make clap spread every help text.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    /// Whether to colour a stream that is, or is not, a terminal.
    pub(crate) fn enabled(self, is_terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => is_terminal && obeys() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }
}

/// Whether the terminal in use, if it is one, understands more than lines.
pub(crate) fn obeys() -> bool {
    std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}
