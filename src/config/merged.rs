//! A variable as all fragments together set it, and the text of its value.

use super::diagnostic::Place;
use super::history::{Part, Touch};
use super::switches::Switches;

/// The merged value of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Single(Vec<Part>),
    Switches(Switches),
}

/// A merged variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Merged {
    pub(crate) name: String,
    pub(crate) value: Value,
    /// The assignment that decided a single value; the first of a list.
    pub(crate) place: Place,
    /// All statements about it.
    pub(crate) history: Vec<Touch>,
}

impl Merged {
    /// Every line that contributed, in order.
    pub(crate) fn places(&self) -> Vec<Place> {
        match &self.value {
            Value::Switches(switches) => switches.places(),
            Value::Single(parts) => {
                let mut places = Vec::new();
                for part in parts {
                    let (Part::Text(_, place) | Part::Reference(_, place) | Part::Earlier(_, place)) = part;
                    if !places.contains(place) {
                        places.push(place.clone());
                    }
                }
                if places.is_empty() { vec![self.place.clone()] } else { places }
            }
        }
    }

    /// The variables to which it refers.
    pub(crate) fn references(&self) -> Vec<&str> {
        let mut names = Vec::new();
        match &self.value {
            Value::Single(parts) => names.extend(parts.iter().filter_map(|part| match part {
                Part::Reference(name, _) => Some(name.as_str()),
                Part::Text(..) | Part::Earlier(..) => None,
            })),
            Value::Switches(_) => {}
        }
        names
    }
}

/// The value of a variable with references replaced, each piece with its line. A value that only the stage3's own `make.conf` could set
/// is empty.
pub(crate) fn expanded(variables: &[Merged], name: &str) -> Vec<(String, Place)> {
    expand(variables, name, &mut Vec::new())
}

fn expand(variables: &[Merged], name: &str, within: &mut Vec<String>) -> Vec<(String, Place)> {
    let Some(merged) = variables.iter().find(|merged| merged.name == name) else { return Vec::new() };
    if within.iter().any(|outer| outer == name) {
        return Vec::new();
    }
    within.push(name.to_owned());
    let mut out = Vec::new();
    match &merged.value {
        Value::Switches(switches) => {
            for entry in switches.entries.iter().filter(|entry| !entry.switch.name().contains("${")) {
                let place = entry.places.last().unwrap_or(&merged.place).clone();
                let space = if out.is_empty() { "" } else { " " };
                out.push((format!("{space}{}", entry.switch), place));
            }
        }
        Value::Single(parts) => {
            for part in parts {
                match part {
                    Part::Text(text, place) => out.push((text.clone(), place.clone())),
                    Part::Reference(name, _) | Part::Earlier(name, _) => out.extend(expand(variables, name, within)),
                }
            }
        }
    }
    within.pop();
    out
}
