//! What one climb of the ladder printed.

use std::fmt::{Display, Formatter};

use crate::table::Expected;

/// One command of the ladder.
#[derive(Debug)]
struct Step {
    name: String,
    exit: i32,
    output: String,
}

/// A climb, up to its end or to that of the machine.
#[derive(Debug, Default)]
pub(crate) struct Climb {
    steps: Vec<Step>,
    /// What was said outside of any step.
    aside: String,
}

/// What a session has to see of the tiny stage3: the ids of all its owners, and the modes.
fn seen(highest: u32) -> String {
    let user = highest.min(1000);
    format!(
        "0\n/var/lib/portage/world 250:250 644\n/var/lib/portage 250:250 2775\n/etc/users {user}:100 644\n\
         /var/empty/nobody {highest}:{highest} 644\n/usr/bin/set-id 0:0 4711\n"
    )
}
/// All steps that have to succeed.
const LADDER: [&str; 12] =
    ["init", "doctor", "import", "session", "commit", "kept", "verify", "export", "artifact", "together", "clean", "left"];

impl Climb {
    /// Reads what `ladder` prints.
    pub(crate) fn read(text: &str) -> Self {
        let mut climb = Self::default();
        for line in text.lines() {
            if let Some(step) = line.strip_prefix("@step ") {
                let (name, exit) = step.rsplit_once(' ').unwrap_or_else(|| panic!("`{line}`"));
                let exit = exit.parse().unwrap_or_else(|_| panic!("`{line}`"));
                climb.steps.push(Step { name: name.to_owned(), exit, output: String::new() });
            } else if let (Some(said), Some(step)) = (line.strip_prefix('|'), climb.steps.last_mut()) {
                step.output.push_str(said);
                step.output.push('\n');
            } else {
                climb.aside.push_str(line);
                climb.aside.push('\n');
            }
        }
        climb
    }

    fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.name == name)
    }

    fn output(&self, name: &str) -> &str {
        self.step(name).map_or("", |step| &step.output)
    }

    /// What `doctor --json` said, if it was JSON.
    fn report(&self) -> Option<serde_json::Value> {
        serde_json::from_str(self.output("doctor")).ok()
    }

    /// The isolation that `doctor` names.
    pub(crate) fn isolation(&self) -> Option<String> {
        self.report()?["isolation"].as_str().map(ToOwned::to_owned)
    }

    /// The first command that failed, but for `doctor`, which only says so.
    fn failed(&self) -> Option<&Step> {
        self.steps.iter().find(|step| step.exit != 0 && step.name != "doctor")
    }

    /// In a few words.
    pub(crate) fn outcome(&self) -> String {
        match self.failed() {
            Some(step) => format!("{} fails with {}", step.name, step.exit),
            None if self.steps.last().is_some_and(|step| step.name == "left") => "works".to_owned(),
            None => "does not come to an end".to_owned(),
        }
    }

    /// How this differs from what it has to be.
    pub(crate) fn differences(&self, expected: &Expected) -> Vec<String> {
        let mut differences = Vec::new();
        if let Some(made) = self.step("made") {
            differences.push(format!("the host could not be made: {}", made.exit));
        }
        let report = self.report();
        if report.is_none() {
            differences.push("doctor prints no JSON".to_owned());
        }
        let ready = report.as_ref().is_some_and(|report| report["ready"] == true);
        let said = report.as_ref().and_then(|report| report["condition"].as_str());
        match expected {
            Expected::Works => differences.extend(self.unlike_a_success(ready && said.is_none(), expected)),
            Expected::WorksUpTo(highest) => {
                let condition = said.is_some_and(|said| said.ends_with(&format!(" above {highest}")));
                differences.extend(self.unlike_a_success(ready && condition, expected));
            }
            Expected::Refused { condition, says, never } => {
                if said != *condition {
                    differences.push(format!("doctor's condition is {said:?}"));
                }
                differences.extend(self.unlike_a_refusal(ready, condition.is_some(), says, never));
            }
        }
        if !self.output("left").is_empty() {
            differences.push("files are left".to_owned());
        }
        differences
    }

    fn unlike_a_success(&self, ready: bool, expected: &Expected) -> Vec<String> {
        let mut differences = Vec::new();
        if !ready {
            differences.push("doctor does not say `ready`, or another condition".to_owned());
        }
        for name in LADDER {
            match self.step(name) {
                Some(step) if step.exit == 0 => {}
                Some(step) => differences.push(format!("{name} fails with {}", step.exit)),
                None => differences.push(format!("{name} is missing")),
            }
        }
        let seen = seen(expected.highest_owner());
        for (name, wanted) in [
            ("session", seen.as_str()),
            ("kept", "kept\n"),
            ("artifact", "./etc/kept\n./var/lib/portage/world\n"),
            ("together", "two.tar.zst\n"),
        ] {
            if self.step(name).is_some_and(|step| step.exit == 0) && self.output(name) != wanted {
                differences.push(format!("{name} prints something else"));
            }
        }
        differences
    }

    fn unlike_a_refusal(&self, ready: bool, wanted: bool, says: &[&str], never: &[&str]) -> Vec<String> {
        let mut differences = Vec::new();
        if ready != wanted {
            differences.push(format!("doctor says {}", if ready { "`ready`" } else { "that it is not ready" }));
        }
        for (name, exit) in [("doctor", if wanted { 0 } else { 5 }), ("import", 5)] {
            let found = self.step(name).map(|step| step.exit);
            if found != Some(exit) {
                differences.push(format!("{name} ends with {found:?} instead of {exit}"));
            }
        }
        let said = self.output("import");
        if !said.contains("hint: ") {
            differences.push("import gives no hint".to_owned());
        }
        differences
            .extend(says.iter().filter(|words| !said.contains(**words)).map(|words| format!("import does not say `{words}`")));
        let all = [said, self.output("doctor")];
        differences.extend(
            never.iter().filter(|words| all.iter().any(|text| text.contains(**words))).map(|words| format!("`{words}` is said")),
        );
        differences
    }
}

impl Display for Climb {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.aside)?;
        for Step { name, exit, output } in &self.steps {
            writeln!(formatter, "--- {name}: {exit}")?;
            write!(formatter, "{output}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Expected = Expected::Refused { condition: None, says: &["newuidmap"], never: &["ext4"] };

    fn refused(doctor: &str, import: &str, left: &str) -> Vec<String> {
        let text = format!("@step doctor 5\n|{doctor}\n@step import 5\n|{import}\n@step left 0\n{left}");
        Climb::read(&text).differences(&NOTHING)
    }

    #[test]
    fn a_refusal_is_one_with_a_hint_and_without_harm() {
        let ready = r#"{"ready": false}"#;
        assert_eq!(refused(ready, "hint: newuidmap", ""), Vec::<String>::new());
        assert_eq!(refused("error:", "hint: newuidmap", ""), ["doctor prints no JSON"]);
        assert_eq!(refused(r#"{"ready": true}"#, "hint: newuidmap", ""), ["doctor says `ready`"]);
        assert_eq!(refused(ready, "newuidmap", ""), ["import gives no hint"]);
        assert_eq!(refused(ready, "hint: x", ""), ["import does not say `newuidmap`"]);
        assert_eq!(refused(ready, "hint: newuidmap on ext4", ""), ["`ext4` is said"]);
        assert_eq!(refused(ready, "hint: newuidmap", "|/data/file\n"), ["files are left"]);
    }

    #[test]
    fn a_machine_that_ends_early_has_not_worked() {
        let climb = Climb::read("@step init 0\n@step doctor 0\n|{\"ready\": true}\n");
        assert_eq!(climb.outcome(), "does not come to an end");
        assert!(climb.differences(&Expected::Works).contains(&"import is missing".to_owned()));
    }
}
