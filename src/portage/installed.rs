//! The files of an installed package, and the libraries that its programs need: `CONTENTS` and `NEEDED.ELF.2` of Portage's database.
//!
//! ```text
//! CONTENTS       dir /usr/bin                                       NEEDED.ELF.2   ARCH;FILE;SONAME;RPATH;NEEDED,NEEDED[;ABI]
//!                obj /usr/bin/a b MD5 MTIME
//!                sym /usr/lib/libx.so -> libx.so.1 MTIME
//!                fif /run/pipe, dev /dev/x
//! ```
//!
//! Portage wrote both, but in a session, where anything could have changed them: lines of another form are skipped, and all results are
//! safe to print.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::terminal_text::sanitize_line;

/// No package has more lines (the kernel's sources: 90,000).
const MAX_LINES: usize = 1_000_000;
/// The kernel accepts no longer paths.
const MAX_PATH_BYTES: usize = 4096;
/// No program is linked with more libraries.
const MAX_LIBRARIES: usize = 10_000;

/// The files and links of a package by path, each with what identifies its contents: `obj MD5`, `sym TARGET`.
pub(crate) type Contents = BTreeMap<String, String>;

/// Libraries that a package needs and provides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Linked {
    /// Sonames that its files need and that it does not contain, sorted.
    pub needs: BTreeSet<String>,
    /// Sonames of its own libraries, sorted.
    pub provides: BTreeSet<String>,
}

/// Reads `CONTENTS`; directories are left out.
pub(crate) fn contents(bytes: &[u8]) -> Contents {
    let mut found = Contents::new();
    for line in bytes.split(|byte| *byte == b'\n').take(MAX_LINES) {
        let line = sanitize_line(line, 2 * MAX_PATH_BYTES);
        let Some((kind, rest)) = line.split_once(' ') else { continue };
        let entry = match kind {
            "obj" => {
                rest.rsplit_once(' ').and_then(|(rest, _)| rest.rsplit_once(' ')).map(|(path, md5)| (path, format!("obj {md5}")))
            }
            "sym" => rest
                .rsplit_once(' ')
                .and_then(|(rest, _)| rest.split_once(" -> "))
                .map(|(path, target)| (path, format!("sym {target}"))),
            "fif" | "dev" => Some((rest, kind.to_owned())),
            _ => None,
        };
        if let Some((path, value)) = entry.filter(|(path, _)| path.starts_with('/')) {
            found.insert(path.to_owned(), value);
        }
    }
    found
}

/// Reads `NEEDED.ELF.2`.
pub(crate) fn linked(bytes: &[u8]) -> Linked {
    let mut linked = Linked::default();
    for line in bytes.split(|byte| *byte == b'\n').take(MAX_LINES) {
        let line = sanitize_line(line, 64 * 1024);
        let fields: Vec<&str> = line.split(';').collect();
        let [_, _, soname, _, needed, ..] = fields.as_slice() else { continue };
        if !soname.is_empty() {
            linked.provides.insert((*soname).to_owned());
        }
        linked.needs.extend(needed.split(',').filter(|name| !name.is_empty()).map(str::to_owned));
        if linked.needs.len() + linked.provides.len() > MAX_LIBRARIES {
            break;
        }
    }
    linked.needs.retain(|name| !linked.provides.contains(name));
    linked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_with_spaces_and_arrows() {
        let text = "dir /usr/bin\nobj /usr/bin/a b d41d8cd98f00b204e9800998ecf8427e 1700000000\n\
                    sym /usr/lib/libx.so -> libx.so.1 1700000000\nsym /usr/x -> a -> b 1\nfif /run/pipe\nobj broken\n\n";
        let found = contents(text.as_bytes());
        let shown: Vec<String> = found.iter().map(|(path, value)| format!("{path}: {value}")).collect();
        assert_eq!(
            shown,
            [
                "/run/pipe: fif",
                "/usr/bin/a b: obj d41d8cd98f00b204e9800998ecf8427e",
                "/usr/lib/libx.so: sym libx.so.1",
                "/usr/x: sym a -> b",
            ]
        );
    }

    #[test]
    fn libraries_that_a_package_brings_itself_are_none_that_it_needs() {
        let text =
            "X86_64;/usr/bin/x;;;libx.so.1,libc.so.6;x86_64\nX86_64;/usr/lib/libx.so.1;libx.so.1;;libc.so.6\nnonsense\n;;;;\n";
        let linked = linked(text.as_bytes());
        assert_eq!(linked.needs.iter().map(String::as_str).collect::<Vec<_>>(), ["libc.so.6"]);
        assert_eq!(linked.provides.iter().map(String::as_str).collect::<Vec<_>>(), ["libx.so.1"]);
    }

    #[test]
    fn hostile_lines_are_tamed() {
        let found = contents(b"obj /usr/\x1b]0;owned\x07bin/x d41d 1\nobj relative d41d 1\n\xff\xfe\nsym /a -> \x1b[2Jb 1\n");
        assert!(found.iter().all(|(path, value)| !format!("{path}{value}").chars().any(char::is_control)), "{found:?}");
        assert_eq!(found.len(), 2);
        let linked = linked(b";;\x1b[1mlibx.so;;a,\x07b\x00\xc2\x9b2J;\n;;\x1b]0;owned\x07;;c;\n");
        let names: Vec<&String> = linked.needs.iter().chain(&linked.provides).collect();
        assert!(names.iter().all(|name| !name.chars().any(char::is_control)), "{names:?}");
        assert!(linked.provides.contains("libx.so") && linked.needs.contains("a"), "{names:?}");
    }
}
