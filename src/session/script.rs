//! Runs the user's scripts and removals in a session.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::config::{PathPattern, UserScript};
use crate::context::Context;
use crate::path_error::OfFile as _;
use crate::sandbox::plan::Network;
use crate::session::keys::record;
use crate::session::readable_files::write_public;
use crate::session::root::HOOKS_DIR;
use crate::session::{Error, Result, Work, run};

/// Removes what matches its arguments, pairs of [`PathPattern::search`]. The shell's own globs do not know `**`, or follow links with it.
pub(crate) const REMOVE: &str = r#"set -e
while [ $# -gt 0 ]; do
    if [ -z "$2" ]; then
        rm -rf -- "$1"
    elif [ -e "$1" ]; then
        LC_ALL=C.UTF-8 find -H "$1" -xdev -regextype posix-extended -regex "$2" -prune -exec rm -rf -- {} +
    fi
    shift 2
done"#;

/// Runs a script of `user.scripts/` as root of the session.
pub(crate) fn script(cx: &Context<'_>, work: &Work<'_>, script: &UserScript, network: bool) -> Result<()> {
    cx.observer.step(&format!("running script {}", script.name.value));
    record::close_keys(work)?;
    let contents = &script.contents;
    let dir = work.root.hooks.join("scripts");
    fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).map_err(Error::io("change the mode of", &dir))?;
    let file_name = script.name.value.replace('/', "-");
    write_public(&dir.join(&file_name), contents, 0o755)?;
    let inside = format!("{HOOKS_DIR}/scripts/{file_name}");
    // A script without an interpreter line is for the shell, as when a user starts it there.
    let argv = if contents.starts_with(b"#!") { vec![inside] } else { vec!["/bin/sh".to_owned(), inside] };
    run::command(cx, work, argv, if network { Network::Host } else { Network::None })
}

/// Removes what `patterns` match.
pub(crate) fn remove(cx: &Context<'_>, work: &Work<'_>, patterns: &[PathPattern]) -> Result<()> {
    if patterns.is_empty() {
        return Ok(());
    }
    record::close_keys(work)?;
    let mut argv: Vec<String> = ["/bin/sh", "-c", REMOVE, "sh"].map(str::to_owned).into();
    argv.extend(patterns.iter().flat_map(|pattern| {
        let (begin, expression) = pattern.search();
        [begin, expression.unwrap_or_default()]
    }));
    run::command(cx, work, argv, Network::None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn what_patterns_mean_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| format!("{}/{name}", dir.path().display());
        let files = [
            "lib/a.a",
            "lib/b c/a.a",
            "lib/b c/d/e.a",
            "lib/x.so",
            "lib/xxa",
            "lib/.h/f.a",
            "else/g.a",
            "doc/.dot",
            "doc/all",
            "n1",
            "n2",
        ];
        for file in files {
            fs::create_dir_all(std::path::Path::new(&at(file)).parent().unwrap()).unwrap();
            fs::write(at(file), "").unwrap();
        }
        std::os::unix::fs::symlink("../else", at("lib/link")).unwrap();
        std::os::unix::fs::symlink("lib", at("lib64")).unwrap();
        let mut remove = Command::new("/bin/sh");
        remove.args(["-c", REMOVE, "sh"]);
        for pattern in ["lib64/**/*.a", "doc/*", "n[!2]", "none/*", "none", "**/all"] {
            let (begin, expression) = at(pattern).parse::<PathPattern>().unwrap().search();
            remove.args([begin, expression.unwrap_or_default()]);
        }
        assert!(remove.status().unwrap().success());
        let mut left: Vec<String> = Vec::new();
        let mut dirs = vec![dir.path().to_owned()];
        while let Some(next) = dirs.pop() {
            for entry in fs::read_dir(next).unwrap().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    dirs.push(entry.path());
                } else {
                    left.push(entry.path().strip_prefix(dir.path()).unwrap().display().to_string());
                }
            }
        }
        left.sort();
        assert_eq!(left, ["else/g.a", "lib/link", "lib/x.so", "lib/xxa", "lib64", "n2"]);
    }
}
