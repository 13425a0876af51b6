//! `oci` of a stage4 definition: the container configuration of the image.
//!
//! ```text
//! entrypoint /usr/sbin/nginx -g "daemon off;"
//! env LANG=C.UTF-8
//! expose 80/tcp
//! label org.example.role=web
//! ```
//!
//! Each line has a key and words, quoted as in a shell; the keys are those of the OCI image specification (`config.md`) in lower case.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::diagnostic::{Findings, Located};
use super::reading;
use crate::did_you_mean::{nearest, question};

/// The configuration of a container started from the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OciConfig {
    /// The program and its first arguments, which the user's arguments follow.
    pub entrypoint: Vec<String>,
    /// Arguments that the user's arguments replace; without an entrypoint the program with its arguments.
    pub cmd: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// Who runs the program: name or number, optionally with `:GROUP`.
    pub user: Option<String>,
    /// Where it starts.
    pub workdir: Option<String>,
    /// Ports with their protocol, sorted.
    pub expose: Vec<String>,
    /// Directories whose contents outlive a container, sorted.
    pub volumes: Vec<String>,
    /// The signal that asks it to end.
    pub stop_signal: Option<String>,
    /// How layers are compressed.
    pub compression: Option<LayerCompression>,
}

/// Compression of the layers of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerCompression {
    /// Supported everywhere.
    #[default]
    Gzip,
    /// Smaller and faster; supported by containerd 1.5, Docker 23, Podman 3 and later.
    Zstd,
}

impl LayerCompression {
    pub const ALL: [Self; 2] = [Self::Gzip, Self::Zstd];

    /// As in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

const KEYS: [&str; 10] = ["entrypoint", "cmd", "env", "label", "user", "workdir", "expose", "volume", "stop-signal", "compression"];

/// Why a line is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("`{0}` is no setting of an image")]
    Key(String),
    #[error("a quotation mark is not closed")]
    Quote,
    #[error("`{0}` lacks its value")]
    NoValue(&'static str),
    #[error("`{0}` takes one value")]
    OneValue(&'static str),
    #[error("`{0}` is set twice")]
    Twice(String),
    #[error("`{text}` is no {what}")]
    Malformed { text: String, what: &'static str },
}

/// Reads the file; `None` if there is none.
pub(crate) fn read(findings: &mut Findings<'_>, file: &Path) -> Option<OciConfig> {
    let lines = reading::list(findings, file)?;
    let mut config = OciConfig::default();
    for line in &lines {
        if let Err(problem) = add(&mut config, &line.value) {
            report(findings, line, &problem);
        }
    }
    config.expose.sort();
    config.volumes.sort();
    Some(config)
}

fn report(findings: &mut Findings<'_>, line: &Located<String>, problem: &Problem) {
    let hint = match problem {
        Problem::Key(key) => Some(match nearest(key, KEYS) {
            Some(near) => question(near),
            None => format!("there are {}", KEYS.join(", ")),
        }),
        Problem::Quote => Some("quote as in a shell: `cmd \"two words\"`".to_owned()),
        Problem::NoValue(key) | Problem::OneValue(key) => Some(format!("for example `{}`", example(key))),
        Problem::Malformed { what, .. } => Some(match *what {
            "port" => "a number up to 65535, with `/tcp`, `/udp` or `/sctp` after it if needed".to_owned(),
            "absolute path" => "it begins with `/`".to_owned(),
            "compression" => "there are `gzip` and `zstd`".to_owned(),
            "signal" => "for example `SIGTERM`".to_owned(),
            "user" => "a name or a number, with `:GROUP` after it if needed".to_owned(),
            _ => "write `NAME=VALUE`".to_owned(),
        }),
        Problem::Twice(_) => None,
    };
    match hint {
        Some(hint) => findings.error_with_hint(&line.place(), problem.to_string(), hint),
        None => findings.error(&line.place(), problem.to_string()),
    }
}

fn example(key: &str) -> &'static str {
    match key {
        "entrypoint" => "entrypoint /usr/bin/hello --traditional",
        "cmd" => "cmd /bin/bash -l",
        "env" => "env LANG=C.UTF-8",
        "label" => "label org.example.role=web",
        "user" => "user nobody",
        "workdir" => "workdir /srv",
        "expose" => "expose 80/tcp",
        "volume" => "volume /var/lib/data",
        "stop-signal" => "stop-signal SIGTERM",
        _ => "compression zstd",
    }
}

fn add(config: &mut OciConfig, line: &str) -> Result<(), Problem> {
    let mut words = words(line)?.into_iter();
    let key = words.next().unwrap_or_default();
    let Some(key) = KEYS.into_iter().find(|known| *known == key) else { return Err(Problem::Key(key)) };
    let values: Vec<String> = words.collect();
    let Some(first) = values.first().cloned() else { return Err(Problem::NoValue(key)) };
    let all = |valid: fn(&str) -> bool, what| match values.iter().find(|value| !valid(value)) {
        Some(bad) => Err(Problem::Malformed { text: bad.clone(), what }),
        None => Ok(()),
    };
    let single = |slot: &mut Option<String>, valid: fn(&str) -> bool, what| {
        all(valid, what)?;
        match (slot.is_some(), values.len()) {
            (true, _) => Err(Problem::Twice(key.to_owned())),
            (_, 1) => {
                *slot = Some(first.clone());
                Ok(())
            }
            _ => Err(Problem::OneValue(key)),
        }
    };
    match key {
        "entrypoint" | "cmd" => {
            let slot = if key == "cmd" { &mut config.cmd } else { &mut config.entrypoint };
            if !slot.is_empty() {
                return Err(Problem::Twice(key.to_owned()));
            }
            *slot = values;
            Ok(())
        }
        "env" => pairs(&mut config.env, &values, is_variable, "variable with its value"),
        "label" => pairs(&mut config.labels, &values, |name| !name.is_empty(), "label with its value"),
        "user" => single(&mut config.user, is_user, "user"),
        "workdir" => single(&mut config.workdir, is_absolute, "absolute path"),
        "stop-signal" => single(&mut config.stop_signal, is_signal, "signal"),
        "expose" => {
            all(|text| port(text).is_some(), "port")?;
            unique(&mut config.expose, values.iter().filter_map(|text| port(text)))
        }
        "volume" => {
            all(is_absolute, "absolute path")?;
            unique(&mut config.volumes, values)
        }
        _ => {
            let mut name = config.compression.map(|compression| compression.name().to_owned());
            single(&mut name, |text| LayerCompression::ALL.iter().any(|known| known.name() == text), "compression")?;
            config.compression = LayerCompression::ALL.into_iter().find(|known| Some(known.name()) == name.as_deref());
            Ok(())
        }
    }
}

fn pairs(
    into: &mut BTreeMap<String, String>,
    values: &[String],
    valid: fn(&str) -> bool,
    what: &'static str,
) -> Result<(), Problem> {
    for text in values {
        let Some((name, value)) = text.split_once('=').filter(|(name, _)| valid(name)) else {
            return Err(Problem::Malformed { text: text.clone(), what });
        };
        if into.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(Problem::Twice(name.to_owned()));
        }
    }
    Ok(())
}

fn unique(into: &mut Vec<String>, values: impl IntoIterator<Item = String>) -> Result<(), Problem> {
    for value in values {
        if into.contains(&value) {
            return Err(Problem::Twice(value));
        }
        into.push(value);
    }
    Ok(())
}

fn is_variable(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_absolute(path: &str) -> bool {
    path.starts_with('/')
}

fn is_user(text: &str) -> bool {
    let name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    match text.split_once(':') {
        Some((user, group)) => name(user) && name(group),
        None => name(text),
    }
}

fn is_signal(text: &str) -> bool {
    match text.strip_prefix("SIG") {
        Some(name) => !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || "+-".contains(c)),
        None => text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number)),
    }
}

/// A port with its protocol.
fn port(text: &str) -> Option<String> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let number: u16 = number.parse().ok().filter(|number| *number > 0)?;
    ["tcp", "udp", "sctp"].contains(&protocol).then(|| format!("{number}/{protocol}"))
}

/// Words as a shell would split them, without any expansion.
fn words(line: &str) -> Result<Vec<String>, Problem> {
    shlex::split(line).ok_or(Problem::Quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        for (line, expected) in [
            ("cmd a  b\tc", vec!["cmd", "a", "b", "c"]),
            (r#"cmd -g "daemon off;" 'it is' x\ y """#, vec!["cmd", "-g", "daemon off;", "it is", "x y", ""]),
            (r#"env A="say \"hi\" \n" B='$x'"#, vec!["env", r#"A=say "hi" \n"#, "B=$x"]),
        ] {
            assert_eq!(words(line).unwrap(), expected, "{line}");
        }
        for open in ["cmd 'open", "cmd \"open", "cmd open\\"] {
            assert_eq!(words(open).unwrap_err(), Problem::Quote, "{open}");
        }
    }

    #[test]
    fn every_key_has_its_form() {
        let mut config = OciConfig::default();
        for line in KEYS.iter().map(|key| example(key)) {
            add(&mut config, line).unwrap();
        }
        add(&mut config, "expose 53/udp 8080").unwrap();
        assert_eq!(config.expose, ["80/tcp", "53/udp", "8080/tcp"]);
        assert_eq!(config.env["LANG"], "C.UTF-8");
        assert_eq!(config.compression, Some(LayerCompression::Zstd));
        for (line, message) in [
            ("entrypiont /x", "`entrypiont` is no setting of an image"),
            ("user", "`user` lacks its value"),
            ("user root", "`user` is set twice"),
            ("cmd a", "`cmd` is set twice"),
            ("env LANG=C", "`LANG` is set twice"),
            ("env 1A=x", "`1A=x` is no variable with its value"),
            ("env A", "`A` is no variable with its value"),
            ("label x", "`x` is no label with its value"),
            ("expose 0", "`0` is no port"),
            ("expose 70000/tcp", "`70000/tcp` is no port"),
            ("expose 80/http", "`80/http` is no port"),
            ("expose 80", "`80/tcp` is set twice"),
            ("volume data", "`data` is no absolute path"),
            ("cmd 'x", "a quotation mark is not closed"),
        ] {
            assert_eq!(add(&mut config, line).unwrap_err().to_string(), message, "{line}");
        }
        let fresh = |line: &str| add(&mut OciConfig::default(), line).unwrap_err().to_string();
        assert_eq!(fresh("user a b"), "`user` takes one value");
        assert_eq!(fresh("user a:"), "`a:` is no user");
        assert_eq!(fresh("workdir srv"), "`srv` is no absolute path");
        assert_eq!(fresh("stop-signal TERM"), "`TERM` is no signal");
        assert_eq!(fresh("compression lz4"), "`lz4` is no compression");
    }
}
