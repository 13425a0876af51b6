//! Explains problems in a few lines each, instead of emerge's screenful.

use super::{Problem, Pulled};
use crate::did_you_mean::question_of;
use crate::portage::cpv::Cpv;

/// How many packages that require another one are named.
const SHOWN: usize = 3;

impl Problem {
    /// The problem in one line, then a line for each package involved.
    pub fn explained(&self) -> Vec<String> {
        match self {
            Self::RequiredUse { package, expression, flags, required_by, .. } => {
                let fixed: Vec<String> = flags
                    .iter()
                    .filter(|(_, flag)| flag.fixed)
                    .map(|(name, flag)| format!("`{}{name}`", if flag.on { "" } else { "-" }))
                    .collect();
                let mut lines = vec![format!("no flags of `{package}` satisfy its REQUIRED_USE: {expression}")];
                if !fixed.is_empty() {
                    lines.push(format!("  flags that are decided already: {}", fixed.join(", ")));
                }
                lines.extend(needed_by(required_by));
                lines
            }
            Self::SlotConflict { slot, instances } => {
                let mut lines = vec![format!("`{slot}` can hold one package, but several are needed:")];
                lines.extend(instances.iter().map(|pulled| format!("  {}", wanted_by(pulled))));
                lines
            }
            Self::Blocked { blocks, instances } => {
                let mut lines: Vec<String> =
                    blocks.iter().map(|(atom, by)| format!("`{by}` cannot be installed beside `{atom}`:")).collect();
                if lines.is_empty() {
                    lines.push("packages cannot be installed beside each other:".to_owned());
                }
                lines.extend(instances.iter().map(|pulled| format!("  {}", wanted_by(pulled))));
                lines
            }
            Self::Circle { packages, .. } => {
                let mut circle: Vec<String> = packages.iter().map(|package| format!("`{package}`")).collect();
                circle.extend(circle.first().cloned());
                vec![format!("packages that need each other to be built first: {}", circle.join(" needs "))]
            }
            Self::Unsatisfied { wanted, candidates, required_by, .. } => {
                let mut lines = vec![format!("nothing satisfies `{wanted}`")];
                lines.extend(candidates.iter().map(|(package, why)| format!("  {package}: {why}")));
                lines.extend(needed_by(required_by));
                lines
            }
        }
    }

    /// What the user can do about it, if anything.
    pub fn way_out(&self) -> Option<String> {
        match self {
            Self::Circle { ways_out, .. } => {
                let ways: Vec<String> =
                    ways_out.iter().map(|(package, flags)| format!("`{} {}`", Cpv::name_of(package), flags.join(" "))).collect();
                (!ways.is_empty()).then(|| {
                    format!(
                        "{} in `package.use` breaks the circle; you can remove it again once they are \
                        built",
                        ways.join(" or ")
                    )
                })
            }
            Self::Unsatisfied { similar, .. } if !similar.is_empty() => question_of(similar),
            Self::Unsatisfied { wanted, candidates, .. } if candidates.is_empty() && wanted.contains('[') => {
                Some("the flag may be masked or forced by the Portage profile".to_owned())
            }
            Self::Unsatisfied { wanted, .. } if wanted.starts_with('@') => {
                Some("sets are files in `package.sets/`, or the tree's".to_owned())
            }
            Self::SlotConflict { .. } | Self::Blocked { .. } => {
                Some("leave out one of the packages that need them, or choose versions that fit together".to_owned())
            }
            _ => None,
        }
    }
}

fn needed_by(chain: &[String]) -> Option<String> {
    (!chain.is_empty())
        .then(|| format!("  needed by {}", chain.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", for ")))
}

/// `app-misc/gear-2.0 for app-misc/newmill-1.0 (>=app-misc/gear-2)`
fn wanted_by(pulled: &Pulled) -> String {
    let mut by: Vec<String> = pulled
        .by
        .iter()
        .take(SHOWN)
        .map(|(atom, by)| match by {
            Some(by) => format!("{by} ({atom})"),
            None => format!("{atom}, which you asked for"),
        })
        .collect();
    if pulled.by.len() > SHOWN {
        by.push(format!("{} more", pulled.by.len() - SHOWN));
    }
    let there = if pulled.installed { " (installed)" } else { "" };
    let by = if by.is_empty() { String::new() } else { format!(" for {}", by.join("; ")) };
    format!("{}{there}{by}", pulled.package)
}

#[cfg(test)]
mod tests {
    use super::super::Resolution;

    #[test]
    fn each_problem_takes_a_few_lines() {
        let cases: [(&[u8], &[&str], Option<&str>); 6] = [
            (
                include_bytes!("transcripts/slot.txt"),
                &[
                    "`app-resolve/gear:0` can hold one package, but several are needed:",
                    "  app-resolve/gear-2.0 for app-resolve/newmill-1.0 (>=app-resolve/gear-2)",
                    "  app-resolve/gear-1.0 for app-resolve/oldmill-1.0 (<app-resolve/gear-2)",
                ],
                Some("leave out one of the packages that need them, or choose versions that fit together"),
            ),
            (
                include_bytes!("transcripts/blocker.txt"),
                &[
                    "`app-resolve/loner-1.0` cannot be installed beside `app-resolve/shy`:",
                    "  app-resolve/shy-1.0 for app-resolve/shy, which you asked for",
                    "  app-resolve/loner-1.0 for app-resolve/loner, which you asked for",
                ],
                Some("leave out one of the packages that need them, or choose versions that fit together"),
            ),
            (
                include_bytes!("transcripts/egg.txt"),
                &[
                    "packages that need each other to be built first: `app-resolve/hen-1.0` needs `app-resolve/egg-1.0` needs `app-resolve/hen-1.0`",
                ],
                Some("`app-resolve/hen -docs` in `package.use` breaks the circle; you can remove it again once they are built"),
            ),
            (
                include_bytes!("transcripts/stubborn.txt"),
                &[
                    "nothing satisfies `app-resolve/chooser[wsgi]`",
                    "  needed by app-resolve/stubborn-1.0, for app-resolve/stubborn",
                ],
                Some("the flag may be masked or forced by the Portage profile"),
            ),
            (
                include_bytes!("transcripts/none.txt"),
                &["nothing satisfies `app-misc/none-at-all`"],
                Some("did you mean `app-misc/hello` or `app-misc/broken` or `app-misc/greeter`?"),
            ),
            (
                include_bytes!("transcripts/missing-iuse.txt"),
                &["nothing satisfies `app-misc/hello[foo]`", "  app-misc/hello-2.10: Missing IUSE: foo"],
                None,
            ),
        ];
        for (output, lines, way_out) in cases {
            let problems = Resolution::parse(output).problems;
            assert_eq!(problems.len(), 1);
            assert_eq!(problems[0].explained(), lines);
            assert_eq!(problems[0].way_out().as_deref(), way_out);
        }
    }
}
