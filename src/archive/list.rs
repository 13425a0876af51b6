//! Looks at an archive without unpacking it.

use std::io::BufRead;

use super::contents::{Line, Lines};
use super::error::Result;
use super::member::{Limits, Member, Members};

/// The entries of a tar stream, read one by one.
#[derive(Debug)]
pub struct Listed<R> {
    members: Members<R>,
    lines: Lines,
    failed: bool,
}

/// Starts listing the uncompressed tar stream `input`. The iterator ends after the end marker, or after the first error.
pub fn list<R: BufRead>(input: R, limits: Limits) -> Listed<R> {
    Listed { members: Members::new(input, limits), lines: Lines::new(), failed: false }
}

impl<R> Listed<R> {
    /// The line that `tar tvf` prints for `member` in UTC, without its newline. Columns depend on the lines before.
    pub fn line(&mut self, member: &Member) -> Vec<u8> {
        let mut out = Vec::new();
        self.lines.append(
            &mut out,
            &Line {
                kind: &member.kind,
                mode: member.mode,
                uid: member.uid,
                gid: member.gid,
                user: &member.user,
                group: &member.group,
                size: member.size,
                mtime_secs: member.mtime.secs,
                path: &member.path,
            },
        );
        out.pop();
        out
    }
}

impl<R: BufRead> Iterator for Listed<R> {
    type Item = Result<Member>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.members.next_member();
        self.failed = next.is_err();
        next.transpose()
    }
}
