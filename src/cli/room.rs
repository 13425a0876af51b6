//! What there is to do where nothing more could be written: which place has no room, and of what.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use crate::archive::NO_INODES;
use rustix::fs::StatVfs;

use crate::cli::screen::Shown as _;

/// What ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    /// `ENOSPC`
    Space,
    /// The same, and it is known that there was room for bytes.
    Names,
    /// `EDQUOT`
    Quota,
    /// `EFBIG`
    FileSize,
}

const LACKS: [(i32, Lack); 3] = [(libc::ENOSPC, Lack::Space), (libc::EDQUOT, Lack::Quota), (libc::EFBIG, Lack::FileSize)];
/// As programs say it that we start.
const SAID: [(&str, Lack); 3] =
    [("No space left on device", Lack::Space), ("Disk quota exceeded", Lack::Quota), ("File too large", Lack::FileSize)];

impl Lack {
    /// What this very error says: of what came from a helper process only the words are left, which end as those of each [`io::Error`] do.
    fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let code = match error.downcast_ref::<io::Error>() {
            Some(error) => error.raw_os_error(),
            None => None,
        };
        let words = error.to_string();
        let is = |number: i32| code == Some(number) || words.ends_with(&format!("(os error {number})"));
        LACKS.into_iter().find(|(number, _)| is(*number)).map(|(_, lack)| lack)
    }
}

/// What to do about a failure that has `chain`, with what programs said; it was in `data` if nothing names another place.
pub(crate) fn hint<'e>(
    chain: impl Iterator<Item = &'e (dyn Error + 'static)>,
    about: Option<&str>,
    said: &[String],
    data: &Path,
) -> Option<String> {
    let (mut place, mut names) = (about.and_then(named), false);
    for error in chain {
        if let Some(lack) = Lack::of(error) {
            return Some(remedy(if names { Lack::Names } else { lack }, place.as_deref(), data));
        }
        let words = error.to_string();
        names |= words == NO_INODES;
        place = named(&words).or(place);
    }
    let lack = said.iter().find_map(|line| SAID.into_iter().find(|(words, _)| line.contains(words)))?.1;
    Some(remedy(lack, place.as_deref(), data))
}

/// The last absolute path between backticks. Nothing is kept in `/proc`: what names it is a copy of our program.
fn named(words: &str) -> Option<PathBuf> {
    let is_place = |word: &&str| word.starts_with('/') && !word.starts_with("/proc/");
    words.split('`').skip(1).step_by(2).filter(is_place).last().map(PathBuf::from)
}

/// `data` is where we keep things: what lies in it is told by its name.
fn remedy(lack: Lack, place: Option<&Path>, data: &Path) -> String {
    let place = place.unwrap_or(data);
    // What was to be made has gone by now.
    let there = place.ancestors().find(|path| path.is_dir()).unwrap_or(place);
    let shown = if place.starts_with(data) { data } else { there };
    let on = format!("the file system of `{}`", shown.shown());
    let again = "and repeat the command: no half-made files are left";
    match lack {
        Lack::Names => no_inodes(&on, again),
        Lack::Space if rustix::fs::statvfs(there).is_ok_and(|stat| lacks_inodes(&stat)) => no_inodes(&on, again),
        Lack::Space => format!("free some space on {on} (`df` shows how much is left), {again}"),
        Lack::Quota => {
            format!("your quota on {on} is used up (`quota` shows it): free some space there or have it raised, {again}")
        }
        Lack::FileSize => format!(
            "a file on {on} would be larger than allowed: raise the limit (`ulimit -f unlimited`), or choose a file system that \
             allows it, {again}"
        ),
    }
}

fn no_inodes(on: &str, again: &str) -> String {
    format!("{on} has no inodes left (`df -i` shows them): remove files there, many small ones first, {again}")
}

fn lacks_inodes(stat: &StatVfs) -> bool {
    stat.f_files > 0 && stat.f_favail == 0 && stat.f_bavail > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{words}")]
    struct Words {
        words: String,
        #[source]
        source: Option<Box<dyn Error>>,
    }

    fn said(words: &[&str], code: i32) -> Option<String> {
        let io: Box<dyn Error> = Box::new(io::Error::from_raw_os_error(code));
        let error =
            words.iter().rev().fold(io, |source, words| Box::new(Words { words: (*words).to_owned(), source: Some(source) }));
        let chain = std::iter::successors(Some(error.as_ref() as &(dyn Error + 'static)), |error| (*error).source());
        hint(chain, None, &[], Path::new("/nonexistent/data"))
    }

    #[test]
    fn the_place_that_was_full_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().to_str().unwrap();
        let words = format!("cannot write `{top}/a/b`");
        let hinted = said(&["cannot make `/else`", &words], libc::ENOSPC).unwrap();
        assert!(hinted.starts_with(&format!("free some space on the file system of `{top}` (")), "{hinted}");
        assert!(said(&[&words, "cannot write the archive"], libc::ENOSPC).unwrap().contains(top));
        // A path inside of a session is no place of this host.
        let none = said(&["cannot write `./a`"], libc::ENOSPC).unwrap();
        assert!(none.starts_with("free some space on the file system of `/nonexistent/data` ("), "{none}");
        let below = said(&["cannot write `/nonexistent/data/store/x`"], libc::ENOSPC).unwrap();
        assert_eq!(below, none);
        assert_eq!(said(&[&words], libc::EIO), None);
    }

    #[test]
    fn what_ran_out_is_told_apart() {
        for (code, words) in [
            (libc::ENOSPC, "free some space on the file system of `/tmp`"),
            (libc::EDQUOT, "your quota on the file system of `/tmp` is used up"),
            (
                libc::EFBIG,
                "a file on the file system of `/tmp` would be larger than allowed: raise the limit (`ulimit -f unlimited`)",
            ),
        ] {
            let hinted = said(&["cannot write `/tmp/no-such-file`"], code).unwrap();
            assert!(hinted.starts_with(words), "{hinted}");
        }
        let names = said(&[NO_INODES, "cannot write `./a`"], libc::ENOSPC).unwrap();
        assert!(names.starts_with("the file system of `/nonexistent/data` has no inodes left (`df -i`"), "{names}");
        let lines = ["Write failed because No space left on device".to_owned()];
        let hinted = hint(std::iter::empty(), Some("cannot make `/tmp/no-such-file`"), &lines, Path::new("/nonexistent")).unwrap();
        assert!(hinted.starts_with("free some space on the file system of `/tmp`"), "{hinted}");
    }
}
