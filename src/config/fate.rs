//! What became of each statement: which ones decide, and which were undone by a later one.
//!
//! ```text
//! USE="X nls"              X  overridden     nls  cleared
//! USE="-X" # override      -X wins
//! USE="-* ssl" # override  -* wins           ssl  wins
//! ```

use std::collections::BTreeMap;

use super::history::{Said, Touch};
use crate::portage::use_flags::Switch;

/// The fate of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It is in force, and no later statement repeats or contradicts it.
    Wins,
    /// A later statement repeats it.
    Repeated,
    /// A later value contains it by reference.
    Extended,
    /// A later statement contradicts it.
    Overridden,
    /// A later `-*` cleared it.
    Cleared,
}

impl Fate {
    /// Whether it contributes to the result.
    pub fn counts(self) -> bool {
        matches!(self, Self::Wins | Self::Repeated | Self::Extended)
    }
}

/// The fate of each of `touches`, which are all statements about the variable `name` or about one atom.
pub(crate) fn fates(name: &str, touches: &[Touch]) -> Vec<Fate> {
    let mut later = Later::default();
    let mut fates: Vec<Fate> = touches.iter().rev().map(|touch| later.add(name, &touch.said)).collect();
    fates.reverse();
    fates
}

/// The statements seen so far, from the last to the first.
#[derive(Debug, Default)]
struct Later<'a> {
    /// List entries: the final value, and whether all statements since agree with it.
    entries: BTreeMap<&'a str, (bool, bool)>,
    cleared: Vec<&'a str>,
    /// The next whole value, if everything since refers to the one before.
    value: Option<Fate>,
    listed: Option<(bool, bool)>,
}

impl<'a> Later<'a> {
    fn add(&mut self, name: &str, said: &'a Said) -> Fate {
        match said {
            Said::Switch(Switch::Clear(prefix)) => {
                let repeated = self.cleared.iter().any(|later| prefix.starts_with(later));
                // Statements before such a value have no effect on those after it.
                self.entries.retain(|name, _| !name.starts_with(prefix.as_str()));
                self.cleared.push(prefix);
                if repeated { Fate::Repeated } else { Fate::Wins }
            }
            Said::Switch(switch) => self.switch(matches!(switch, Switch::On(_)), switch.name()),
            Said::Replaced(_) => Fate::Overridden,
            Said::Value(text) => {
                let fate = self.value.unwrap_or(Fate::Wins);
                let extends = text.contains(&format!("${{{name}}}"));
                self.value = Some(if extends && fate.counts() { Fate::Extended } else { Fate::Overridden });
                fate
            }
            Said::Listed => run(&mut self.listed, true),
            Said::TakenBack => run(&mut self.listed, false),
        }
    }

    fn switch(&mut self, on: bool, name: &'a str) -> Fate {
        if let Some(known) = self.entries.get_mut(name) {
            let mut slot = Some(*known);
            let fate = run(&mut slot, on);
            if let Some(slot) = slot {
                *known = slot;
            }
            return fate;
        }
        let cleared = self.cleared.iter().any(|prefix| name.starts_with(prefix));
        self.entries.insert(name, (false, false));
        if !cleared {
            self.entries.insert(name, (on, true));
            return Fate::Wins;
        }
        Fate::Cleared
    }
}

/// The fate of `on`. `later` is the value in force, and whether all statements seen so far agree with it.
fn run(later: &mut Option<(bool, bool)>, on: bool) -> Fate {
    match later {
        None => {
            *later = Some((on, true));
            Fate::Wins
        }
        Some((last, true)) if *last == on => Fate::Repeated,
        Some((_, agrees)) => {
            *agrees = false;
            Fate::Overridden
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::merged;

    #[test]
    fn the_last_word_wins() {
        for (variable, one, two, expected) in [
            ("USE", "X nls", "-X", "X overridden, nls wins, -X wins"),
            ("USE", "X", "X", "X repeated, X wins"),
            ("USE", "X", "-* X", "X cleared, -* wins, X wins"),
            ("USE", "X -y", "-* -y", "X cleared, -y cleared, -* wins, -y wins"),
            ("USE", "X -X", "X", "X overridden, -X overridden, X wins"),
            ("FEATURES", "-*", "-*", "-* repeated, -* wins"),
            ("A", "1", "2", "1 overridden, 2 wins"),
            ("A", "1", "${A} 2", "1 extended, ${A} 2 wins"),
        ] {
            let dir = merged(&[
                ("stage3.defines/base/portage.local", "one\ntwo\n"),
                ("portage.locals/one/make.conf", &format!("{variable}=\"{one}\" # override\n")),
                ("portage.locals/two/make.conf", &format!("{variable}=\"{two}\" # override\n")),
            ]);
            let touches = dir.touches(variable);
            let told: Vec<String> = touches
                .iter()
                .zip(fates(variable, touches))
                .map(|(touch, fate)| format!("{} {}", touch.said, serde_json::to_value(fate).unwrap().as_str().unwrap()))
                .collect();
            assert_eq!(told.join(", "), expected, "{one:?} {two:?}");
        }
    }
}
