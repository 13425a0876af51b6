//! Explains variables of `make.conf`: all assignments, from Portage's defaults to the last fragment.

use std::collections::BTreeSet;

use serde::Serialize;

use super::super::fate::{Fate, fates};
use super::super::history::Said;
use super::{ExplainError, Explainer, Known, MAKE_GLOBALS, Origin, Result, Step, outside, source_of};
use crate::did_you_mean::nearest;
use crate::portage::effective_use::{Action, Outcome, verdict};
use crate::portage::profile_stack::{Default, evaluate};
use crate::portage::use_flags::is_incremental;

/// A variable with its assignments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct VariableExplained {
    pub name: String,
    /// Portage's value, as far as its references are known.
    pub value: String,
    /// Whether Portage unites all values word by word, instead of taking the last one.
    pub is_list: bool,
    /// Every assignment; for a list every word.
    pub steps: Vec<Step>,
    /// The variables that its value refers to.
    pub refers_to: Vec<VariableExplained>,
}

/// A word of a list: which, on or off, and where.
struct ListWord {
    word: String,
    origin: Origin,
    /// A later assignment replaced the one that it is part of.
    replaced: bool,
}

impl Explainer<'_> {
    /// Explains the variable `name`.
    pub(crate) fn variable(&self, name: &str) -> Result<VariableExplained> {
        self.variable_within(name, &mut Vec::new())
    }

    /// `within` are the variables whose references led to this one, to stop at a circle.
    fn variable_within(&self, name: &str, within: &mut Vec<String>) -> Result<VariableExplained> {
        let is_list = is_incremental(name);
        let (value, steps) = match name {
            "USE" => self.use_variable()?,
            _ if is_list => {
                let heard = self.heard(name)?;
                let mut value: Vec<&str> = Vec::new();
                for word in heard.iter().filter(|heard| !heard.replaced).map(|heard| heard.word.as_str()) {
                    match word.strip_prefix('-') {
                        Some("*") => value.clear(),
                        Some(word) => value.retain(|known| *known != word),
                        None if value.contains(&word) => {}
                        None => value.push(word),
                    }
                }
                (value.join(" "), outcomes(name, &heard))
            }
            _ => self.single(name)?,
        };
        if steps.is_empty() {
            let known: Vec<String> = self.portage.variables().into_iter().map(|(name, _)| name).collect();
            let nearest = nearest(name, &known).map(str::to_owned);
            let everywhere = self.stack.is_some() && self.around.make_conf.is_some();
            return Err(ExplainError::NoVariable { name: name.to_owned(), everywhere, nearest, known });
        }
        within.push(name.to_owned());
        let mut refers_to = Vec::new();
        for reference in references(&self.portage.written(name).unwrap_or_default()) {
            if !within.contains(&reference) {
                // An unset variable is empty.
                refers_to.extend(self.variable_within(&reference, within).ok());
            }
        }
        within.pop();
        Ok(VariableExplained { name: name.to_owned(), value, is_list, steps, refers_to })
    }

    /// The statements about the entry `entry` of the list `name`.
    pub(crate) fn entry(&self, name: &str, entry: &str) -> Result<VariableExplained> {
        let steps = self.entry_steps(name, entry)?;
        if steps.is_empty() {
            let known: BTreeSet<String> =
                self.heard(name)?.iter().map(|heard| heard.word.trim_start_matches('-').to_owned()).collect();
            let nearest = nearest(entry, &known).map(str::to_owned);
            let (variable, known) = (name.to_owned(), known.into_iter().collect());
            return Err(ExplainError::NoEntry { variable, entry: entry.to_owned(), nearest, known });
        }
        let decides = steps.iter().rev().find(|step| step.outcome == Outcome::Decides);
        let value = if decides.is_some_and(|step| step.said == entry) { "on" } else { "off" };
        Ok(VariableExplained {
            name: format!("{name}:{entry}"),
            value: value.to_owned(),
            is_list: true,
            steps,
            refers_to: Vec::new(),
        })
    }

    pub(super) fn entry_steps(&self, name: &str, entry: &str) -> Result<Vec<Step>> {
        let mut heard = self.heard(name)?;
        heard.retain(|heard| heard.word == "-*" || heard.word.trim_start_matches('-') == entry);
        // Clearing a list is no statement about an entry that was never in it.
        if heard.iter().all(|heard| heard.word == "-*") {
            heard.clear();
        }
        Ok(outcomes(name, &heard))
    }

    /// The words of a list whose assignments were not replaced, in Portage's order.
    pub(super) fn words_in_force(&self, name: &str) -> Result<Vec<String>> {
        Ok(self.heard(name)?.into_iter().filter(|heard| !heard.replaced).map(|heard| heard.word).collect())
    }

    /// Every word of a list, in Portage's order.
    fn heard(&self, name: &str) -> Result<Vec<ListWord>> {
        let mut heard = Vec::new();
        let mut add = |default: &Default, replaced: bool| {
            heard.extend(default.words.iter().map(|(word, source)| ListWord {
                word: word.clone(),
                origin: outside(source),
                replaced,
            }));
        };
        let (globals, defaults, stage3) = self.others(name)?;
        // Of several assignments in one file the last one counts.
        for default in globals.last().into_iter().chain(&defaults) {
            add(default, false);
        }
        let own = self.portage.touches(name);
        let reference = format!("${{{name}}}");
        let kept = own.is_empty() || self.portage.written(name).is_some_and(|value| value.contains(&reference));
        for default in &stage3 {
            add(default, !kept);
        }
        for touch in own {
            let (word, replaced) = match &touch.said {
                Said::Switch(switch) => (switch.to_string(), false),
                Said::Replaced(text) => (text.to_string(), true),
                _ => continue,
            };
            for word in word.split_whitespace().filter(|word| !word.contains("${")) {
                heard.push(ListWord { word: word.to_owned(), origin: self.fragment(touch), replaced });
            }
        }
        // A value that refers to its former one, as `FEATURES="${FEATURES} x"`, repeats those words.
        let mut later = BTreeSet::new();
        let mut last: Vec<ListWord> = heard
            .into_iter()
            .rev()
            .filter(|heard| later.insert((heard.replaced, heard.word.clone(), heard.origin.to_string())))
            .collect();
        last.reverse();
        Ok(last)
    }

    /// Assignments outside of the fragments: Portage's defaults, the profile, the stage3.
    fn others(&self, name: &str) -> Result<(Vec<Default>, Vec<Default>, Vec<Default>)> {
        let of = |defaults: Vec<Default>| defaults.into_iter().filter(|default| default.name == name).collect::<Vec<_>>();
        let mut known = Known::new();
        let globals = match &self.around.make_globals {
            Some(text) => of(evaluate(text, &source_of(MAKE_GLOBALS), &mut known).unwrap_or_default()),
            None => Vec::new(),
        };
        let mut defaults = Vec::new();
        for node in self.stack.iter().flat_map(|stack| &stack.nodes) {
            defaults.extend(of(node.make_defaults(&mut known)?));
        }
        Ok((globals, defaults, of(self.stage3_make_conf()?)))
    }

    fn single(&self, name: &str) -> Result<(String, Vec<Step>)> {
        let (globals, defaults, stage3) = self.others(name)?;
        let step = |default: &Default, origin: Origin| Step {
            origin,
            about: name.to_owned(),
            said: default.value.clone(),
            outcome: Outcome::Overridden,
        };
        let mut steps: Vec<Step> = globals.iter().map(|default| step(default, outside(&default.source))).collect();
        steps.extend(defaults.iter().map(|default| step(default, outside(&default.source))));
        steps.extend(stage3.iter().map(|default| step(default, outside(&default.source))));
        let before = steps.len();
        let touches = self.portage.touches(name);
        // Fragments unite their values of `VIDEO_CARDS` and the like; together they replace all earlier ones.
        let is_united = self.portage.list(name).is_some();
        for (touch, fate) in touches.iter().zip(fates(name, touches)) {
            let outcome = match fate {
                Fate::Wins if is_united => Outcome::Decides,
                Fate::Repeated if is_united => Outcome::Agrees,
                Fate::Extended => Outcome::Agrees,
                _ => Outcome::Overridden,
            };
            let said = touch.said.to_string();
            steps.push(Step { origin: self.fragment(touch), about: name.to_owned(), said, outcome });
        }
        let written = self.portage.written(name);
        // The fragments set `COMMON_FLAGS`, so also the variables that every stage3 derives from it.
        if let Some(written) = written.as_ref().filter(|_| touches.is_empty()) {
            let place = self.portage.touches("COMMON_FLAGS").last();
            let origin = place.map(|touch| self.fragment(touch));
            steps.extend(origin.map(|origin| Step {
                origin,
                about: name.to_owned(),
                said: written.clone(),
                outcome: Outcome::Overridden,
            }));
        }
        // Earlier values count if the fragments refer to them.
        if before > 0 && written.as_ref().is_some_and(|value| value.contains(&format!("${{{name}}}"))) {
            steps[before - 1].outcome = Outcome::Agrees;
        }
        if let Some(last) = steps.last_mut().filter(|_| !is_united) {
            last.outcome = Outcome::Decides;
        }
        Ok((self.value(name)?, steps))
    }

    /// Portage's value of a variable.
    fn value(&self, name: &str) -> Result<String> {
        let mut known = self.known()?;
        // It was merged before, so it is well-formed.
        drop(evaluate(self.portage.make_conf(), &source_of(super::super::MAKE_CONF), &mut known));
        Ok(known.remove(name).unwrap_or_default())
    }

    /// `USE` for all packages: every word, and the resulting flags.
    fn use_variable(&self) -> Result<(String, Vec<Step>)> {
        let words = self.global_words()?;
        let mut flags: BTreeSet<String> = super::flags_named(&words).into_iter().collect();
        for word in &words {
            if let Action::Replace { prefix, values } = &word.action {
                flags.extend(values.iter().map(|value| format!("{prefix}{value}")));
            }
        }
        let mut outcomes = vec![Outcome::Overridden; words.len()];
        let mut on = Vec::new();
        for flag in &flags {
            let verdict = verdict(&words, flag, &flags);
            if verdict.enabled {
                on.push(flag.as_str());
            }
            for (index, outcome) in verdict.said {
                outcomes[index] = if outcomes[index] == Outcome::Decides { Outcome::Decides } else { outcome };
            }
        }
        let steps = words.iter().zip(outcomes).map(|(word, outcome)| super::step(word, outcome)).collect();
        Ok((on.join(" "), steps))
    }
}

/// The names in `${NAME}`, each once.
fn references(written: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for part in written.split("${").skip(1) {
        if let Some((name, _)) = part.split_once('}')
            && !names.iter().any(|known| known == name)
        {
            names.push(name.to_owned());
        }
    }
    names
}

/// The fate of each word: the last one about an entry decides.
fn outcomes(name: &str, heard: &[ListWord]) -> Vec<Step> {
    let mut decided: Vec<(&str, bool)> = Vec::new();
    let mut cleared = false;
    let mut steps: Vec<Step> = Vec::new();
    for heard in heard.iter().rev() {
        let (on, entry) = heard.word.strip_prefix('-').map_or((true, heard.word.as_str()), |entry| (false, entry));
        let known = decided.iter().find(|(known, _)| *known == entry).map(|(_, on)| *on);
        let outcome = match known {
            _ if heard.replaced => Outcome::Overridden,
            None if cleared && on => Outcome::Overridden,
            None if cleared => Outcome::Agrees,
            None => Outcome::Decides,
            Some(known) if known == on => Outcome::Agrees,
            Some(_) => Outcome::Overridden,
        };
        if !heard.replaced {
            cleared |= heard.word == "-*";
            if known.is_none() {
                decided.push((entry, on && outcome == Outcome::Decides));
            }
        }
        steps.push(Step { origin: heard.origin.clone(), about: name.to_owned(), said: heard.word.clone(), outcome });
    }
    steps.reverse();
    steps
}
