//! Names of definitions, fragments, sets and scripts: which are valid, and where they are.

use std::path::{Path, PathBuf};

use super::diagnostic::{Findings, Located, Place};
use super::reading;
use crate::did_you_mean::{nearest, question};

/// Why a word is not a name.
pub(crate) fn fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("is empty")
    } else if name.chars().any(char::is_control) {
        Some("has a control character")
    } else if name.starts_with('/') {
        Some("is an absolute path")
    } else if name.split('/').any(|part| part == "..") {
        Some("leads out of its folder with `..`")
    } else if name.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
        Some("has an empty or hidden component")
    } else {
        None
    }
}

/// Whether `name` is valid in a folder of the configuration directory.
pub(crate) fn is_name(name: &str) -> bool {
    fault(name).is_none()
}

/// Why no build state can have a definition's name: the store allows fewer characters than file names.
pub(crate) fn definition_fault(name: &str) -> Option<&'static str> {
    let usable = |c: char| c.is_ascii_alphanumeric() || "._+-/".contains(c);
    if !name.chars().all(usable) {
        Some("has a character other than letters, digits and `._+-`")
    } else if name.split('/').any(|part| part.starts_with('-') || part.contains("..")) {
        Some("has a part that begins with `-` or contains `..`")
    } else if name.split('/').any(|part| Path::new(part).extension().is_some_and(|extension| extension == "ref")) {
        Some("ends in `.ref`")
    } else if name.len() > 150 {
        Some("is longer than 150 characters")
    } else {
        None
    }
}

/// Whether it is a valid name in the store.
pub(crate) fn is_definition_name(name: &str) -> bool {
    is_name(name) && definition_fault(name).is_none()
}

/// Whether a profile can be bootstrapped under this name.
pub(crate) fn is_profile_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && !name.starts_with(['.', '-'])
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c))
        && !name.contains("..")
}

/// The shape of what a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A directory with files of its own, not only further directories.
    Directory,
    /// A directory shaped like `/etc/portage`. Subdirectories that Portage knows are parts of it, others are fragments of their own.
    Fragment,
    File,
}

/// What Portage reads below `/etc/portage` (portage(5) and `USER_CONFIG_PATH` in its sources, 3.0.83).
pub(crate) const PORTAGE_NAMES: [&str; 32] = [
    "bashrc",
    "bin",
    "binrepos.conf",
    "categories",
    "color.map",
    "env",
    "gnupg",
    "license_groups",
    "make.conf",
    "make.profile",
    "mirrors",
    "modules",
    "package.accept_keywords",
    "package.accept_restrict",
    "package.bashrc",
    "package.env",
    "package.keywords",
    "package.license",
    "package.mask",
    "package.properties",
    "package.unmask",
    "package.use",
    "patches",
    "postsync.d",
    "profile",
    "repo.postsync.d",
    "repos.conf",
    "savedconfig",
    "sets",
    "sets.conf",
    "sync",
    "virtuals",
];

/// Whether the directory `dir`, or one below, contains a file that Portage reads.
pub(crate) fn is_fragment(dir: &Path) -> bool {
    reading::entries(dir).is_ok_and(|entries| {
        entries.iter().any(|entry| is_portage_name(&entry.name))
            || entries.iter().any(|entry| entry.is_dir && is_fragment(&dir.join(&entry.name)))
    })
}

fn is_portage_name(name: &str) -> bool {
    PORTAGE_NAMES.contains(&name)
}

/// Everything of one shape below `folder`, nested names with `/`, sorted. `README.md` and hidden files do not count.
pub(crate) fn list(root: &Path, folder: &str, shape: Shape) -> Vec<String> {
    let mut names = Vec::new();
    if shape == Shape::Fragment {
        collect_fragments(&root.join(folder), "", &mut names);
    } else {
        collect(&root.join(folder), "", shape, &mut names);
    }
    names.sort();
    names
}

/// Whether [`list`] has a directory of this name. The others are not looked at: there may be a thousand.
pub(crate) fn is_listed(root: &Path, folder: &str, name: &str) -> bool {
    let has_files = |dir: &Path| reading::entries(dir).is_ok_and(|entries| entries.iter().any(|entry| !entry.is_dir));
    is_name(name) && name.split('/').all(|part| reading::counts(part, true)) && has_files(&root.join(folder).join(name))
}

fn collect(dir: &Path, prefix: &str, shape: Shape, names: &mut Vec<String>) {
    // A missing or unreadable folder has no names; whoever needs one of them says where it looked.
    let Ok(entries) = reading::entries(dir) else { return };
    if shape == Shape::Directory && !prefix.is_empty() && entries.iter().any(|entry| !entry.is_dir) {
        names.push(prefix.to_owned());
    }
    for entry in entries {
        let name = below(prefix, &entry.name);
        if entry.is_dir {
            collect(&dir.join(&entry.name), &name, shape, names);
        } else if shape == Shape::File {
            names.push(name);
        }
    }
}

/// Returns whether anything was found.
fn collect_fragments(dir: &Path, prefix: &str, names: &mut Vec<String>) -> bool {
    let Ok(entries) = reading::entries(dir) else { return false };
    let known = !prefix.is_empty() && entries.iter().any(|entry| is_portage_name(&entry.name));
    if known {
        names.push(prefix.to_owned());
    }
    let mut found = known;
    for entry in entries.iter().filter(|entry| entry.is_dir && (prefix.is_empty() || !is_portage_name(&entry.name))) {
        found |= collect_fragments(&dir.join(&entry.name), &below(prefix, &entry.name), names);
    }
    // Without anything that Portage knows, the whole directory is one fragment.
    if !found && !prefix.is_empty() && !prefix.contains('/') && !entries.is_empty() {
        names.push(prefix.to_owned());
        found = true;
    }
    found
}

fn below(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") }
}

/// Finds `name` in `folder`, or reports what is there instead. `what` is its kind, as in "cpu definition".
pub(crate) fn find(findings: &mut Findings<'_>, folder: &str, shape: Shape, what: &str, name: &Located<String>) -> Option<PathBuf> {
    find_at(findings, folder, shape, what, &name.value, &name.place())
}

/// As [`find`], for a name that was asked for at `place`.
pub(crate) fn find_at(
    findings: &mut Findings<'_>,
    folder: &str,
    shape: Shape,
    what: &str,
    name: &str,
    place: &Place,
) -> Option<PathBuf> {
    if let Some(fault) = fault(name) {
        findings.error_with_hint(
            place,
            format!("the name of a {what} {fault}: `{}`", name.escape_debug()),
            format!("write what comes after `{folder}/`"),
        );
        return None;
    }
    let path = Path::new(folder).join(name);
    let full = findings.root().join(&path);
    let there = match shape {
        Shape::Directory | Shape::Fragment => full.is_dir(),
        Shape::File => full.is_file(),
    };
    // A directory with nothing but subdirectories is none; an empty one is.
    let is_one = |entries: Vec<reading::Entry>| entries.iter().any(|entry| is_portage_name(&entry.name));
    let only_outer = there && shape == Shape::Fragment && !reading::entries(&full).is_ok_and(is_one) && is_fragment(&full);
    if there && !only_outer {
        return Some(path);
    }
    let known = list(findings.root(), folder, shape);
    let message = if only_outer {
        format!("`{name}` is not a {what}, but a folder that contains some")
    } else if full.exists() {
        format!("`{}` is no {what}: it is {}", path.display(), if full.is_dir() { "a directory" } else { "a file" })
    } else {
        format!("there is no {what} `{name}`")
    };
    findings.error_with_hint(place, message, alternatives(folder, name, &known));
    None
}

/// "did you mean …", or the existing names.
pub(crate) fn alternatives(folder: &str, name: &str, known: &[String]) -> String {
    let looked = format!("looked for `{folder}/{name}`");
    if known.is_empty() {
        return format!("{looked}; nothing is there yet");
    }
    let nearest = nearest(name, known);
    let all: Vec<String> = known.iter().take(12).map(|name| format!("`{name}`")).collect();
    let more = if known.len() > 12 { format!(" and {} more", known.len() - 12) } else { String::new() };
    let there = if known.len() == 1 { "there is" } else { "there are" };
    match nearest {
        Some(near) => format!("{} {looked}; {there} {}{more}", question(near), all.join(", ")),
        None => format!("{looked}; {there} {}{more}", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        for (name, ok) in [
            ("hello", true),
            ("gentoomuch/builder", true),
            ("x86-64-v3", true),
            ("", false),
            ("/etc", false),
            ("a/../b", false),
            ("..", false),
            ("a//b", false),
            (".git", false),
            ("a\nb", false),
        ] {
            assert_eq!(is_name(name), ok, "{name:?}");
        }
    }

    #[test]
    fn names_of_profiles_and_of_what_the_store_will_hold() {
        for (name, fault) in [
            ("web", None),
            ("gentoomuch/builder", None),
            ("my web", Some("has a character other than letters, digits and `._+-`")),
            ("a/-b", Some("has a part that begins with `-` or contains `..`")),
            ("web.ref", Some("ends in `.ref`")),
        ] {
            assert_eq!(definition_fault(name), fault, "{name}");
        }
        assert_eq!(definition_fault(&"a".repeat(151)), Some("is longer than 150 characters"));
        for (name, ok) in [("musl-hardened", true), ("a/b", false), ("", false), ("-x", false), ("a b", false), ("a..b", false)] {
            assert_eq!(is_profile_name(name), ok, "{name}");
        }
    }

    #[test]
    fn what_is_looked_up_is_what_is_listed() {
        let dir = tempfile::tempdir().unwrap();
        let files =
            ["web/stage3", "outer/inner/stage3", "old~/stage3", "CVS/Entries", "hidden/.keep", "README.md/x", "empty/README.md"];
        for file in files {
            let path = dir.path().join("stage4.defines").join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let listed = list(dir.path(), "stage4.defines", Shape::Directory);
        assert_eq!(listed, ["outer/inner", "web"]);
        for name in
            ["web", "outer", "outer/inner", "old~", "CVS", "hidden", "README.md", "empty", "", "web/../web", "web/stage3", "nix"]
        {
            assert_eq!(is_listed(dir.path(), "stage4.defines", name), listed.iter().any(|known| known == name), "{name:?}");
        }
    }

    #[test]
    fn nested_fragments_are_told_from_parts_of_one() {
        let dir = tempfile::tempdir().unwrap();
        for file in [
            "desktop/package.use/x",
            "desktop/env/gcc",
            "desktop/kde/make.conf",
            "desktop/bashrc.d/x",
            "amd/znver4/make.conf",
            "use/package.use/a",
            "logo/x/logo.png",
        ] {
            let path = dir.path().join("portage.locals").join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        assert_eq!(list(dir.path(), "portage.locals", Shape::Fragment), ["amd/znver4", "desktop", "desktop/kde", "logo", "use"]);
    }

    #[test]
    fn says_what_is_wrong_with_a_name_or_what_there_is() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["user.scripts/setup", "user.scripts/nested/clean", "cpu.defines/amd/k8/make.conf", "stage3.defines/base/cpu"] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let write = |folder: &str| format!("write what comes after `{folder}/`");
        for (folder, shape, what, name, message, hint) in [
            ("user.scripts", Shape::File, "script", "", "the name of a script is empty: ``", write("user.scripts")),
            (
                "user.scripts",
                Shape::File,
                "script",
                "a\u{1}",
                "the name of a script has a control character: `a\\u{1}`",
                write("user.scripts"),
            ),
            (
                "user.scripts",
                Shape::File,
                "script",
                "/etc/x",
                "the name of a script is an absolute path: `/etc/x`",
                write("user.scripts"),
            ),
            (
                "user.scripts",
                Shape::File,
                "script",
                "a/../../x",
                "the name of a script leads out of its folder with `..`: `a/../../x`",
                write("user.scripts"),
            ),
            (
                "user.scripts",
                Shape::File,
                "script",
                "a//x",
                "the name of a script has an empty or hidden component: `a//x`",
                write("user.scripts"),
            ),
            (
                "user.scripts",
                Shape::File,
                "script",
                "stup",
                "there is no script `stup`",
                "did you mean `setup`? looked for `user.scripts/stup`; there are `nested/clean`, `setup`".to_owned(),
            ),
            (
                "user.scripts",
                Shape::File,
                "script",
                "nested",
                "`user.scripts/nested` is no script: it is a directory",
                "looked for `user.scripts/nested`; there are `nested/clean`, `setup`".to_owned(),
            ),
            (
                "cpu.defines",
                Shape::Fragment,
                "CPU definition",
                "amd",
                "`amd` is not a CPU definition, but a folder that contains some",
                "looked for `cpu.defines/amd`; there is `amd/k8`".to_owned(),
            ),
            (
                "stage3.defines",
                Shape::Directory,
                "stage3 definition",
                "base/cpu",
                "`stage3.defines/base/cpu` is no stage3 definition: it is a file",
                "looked for `stage3.defines/base/cpu`; there is `base`".to_owned(),
            ),
            (
                "user.removes",
                Shape::File,
                "list of removals",
                "docs",
                "there is no list of removals `docs`",
                "looked for `user.removes/docs`; nothing is there yet".to_owned(),
            ),
        ] {
            let mut findings = Findings::new(dir.path());
            let place = Place::new(Path::new("x"), 1);
            assert_eq!(find_at(&mut findings, folder, shape, what, name, &place), None, "{name}");
            let said = findings.into_all();
            assert_eq!((said[0].message.as_str(), said[0].hint.as_deref()), (message, Some(hint.as_str())), "{name}");
        }
    }
}
