//! The JSON Schemas of `docs/json`: one for each command with `--json`, made from the types that it prints.
//!
//! A schema that differs from its file fails the test; `INSTA_UPDATE=always` writes the files anew. `tests/schema` holds all that the
//! program prints in tests against the files. So whoever adds a field adds it there, too, and whoever takes one away raises [`VERSION`].

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::CommandFactory as _;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value};

use crate::cli::Cli;

/// Rises when a field goes, or changes its type or its meaning; not when one is added.
const VERSION: u32 = 1;

/// A name, and how its schema is made.
type Entry = (&'static str, fn(&mut SchemaGenerator) -> Schema);

/// What one command prints in different cases.
#[derive(serde::Serialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "for its schema only")]
enum Either<A, B> {
    One(A),
    Other(B),
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.root_schema_for::<T>()
}

/// An object a line, as `--log-format json` has the messages. `progress.rs` and `report.rs` make them.
#[expect(dead_code, reason = "for its schema only")]
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Line {
    /// Why the command failed.
    Failure {
        kind: Failure,
        message: Option<String>,
        /// The causes of the cause.
        causes: Vec<String>,
        /// Lines such as the end of a log.
        detail: Vec<String>,
        hints: Vec<String>,
        exit_code: u8,
    },
    /// A line that an ebuild said.
    Said {
        kind: Elog,
        class: Said,
        /// `category/name-version`
        package: String,
        message: String,
        /// In a pipeline.
        #[serde(skip_serializing_if = "Option::is_none")]
        node: Option<String>,
    },
    /// What goes on.
    Told {
        kind: Kind,
        message: String,
        /// In a pipeline.
        #[serde(skip_serializing_if = "Option::is_none")]
        node: Option<String>,
        /// With the progress of emerge.
        #[serde(skip_serializing_if = "Option::is_none")]
        emerge: Option<crate::cli::progress::EmergeRun<'static>>,
    },
    /// Of the program's own log, with `-v`.
    #[schemars(extend("additionalProperties" = true))]
    Log { timestamp: String, level: String, target: String, fields: Map<String, Value> },
}

#[expect(dead_code, reason = "for its schema only")]
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Failure {
    Error,
}

#[expect(dead_code, reason = "for its schema only")]
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Elog {
    Elog,
}

#[expect(dead_code, reason = "for its schema only")]
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Said {
    Elog,
    Ewarn,
    Eerror,
}

#[expect(dead_code, reason = "for its schema only")]
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Kind {
    Note,
    Output,
    Progress,
    Step,
    Warning,
}

/// What no `--json` prints, by the title of its schema.
const OTHERS: [(&str, &str, fn(&mut SchemaGenerator) -> Schema); 2] = [
    ("artifact", "the .json beside an artifact of gentoomuch", of::<crate::artifact::metadata::Metadata<'_>>),
    ("messages", "a line of gentoomuch --log-format json", of::<Line>),
];

/// By the words of the command.
fn table() -> Vec<Entry> {
    use crate::config::init::Initialised;
    use crate::history::{cp, diff, log, logs, messages, rollback, stages};
    use crate::kernel::{prep as kernel_prep, rows as kernel_rows, update as kernel_update};
    use crate::patch::{attempt, compile, prep, refresh, rows as patches, save};
    use crate::pipeline::{kernel, run, stage};
    use crate::profile::{ProfileRow, names, show, update};
    use crate::recipe::pretend::Pretended;
    use crate::stage3::keys;
    use crate::trees;
    use crate::{artifact, binhost, config, host, installed, release, store, try_it};
    type Trees = Either<trees::Synced, Vec<trees::Synced>>;
    type Logs = Either<Either<logs::Run, Vec<logs::Run>>, Either<logs::Log, Vec<messages::Told>>>;
    type Updated = Either<Either<update::UpdatedProfile, Vec<update::UpdatedProfile>>, Either<Pretended, Vec<Pretended>>>;
    type Kernels = Either<kernel_update::KernelNews, Vec<kernel_update::KernelNews>>;
    vec![
        ("audit", of::<super::audit::Report<'_>>),
        ("binhost export", of::<binhost::export::Exported>),
        ("bootstrap", of::<Either<super::bootstrap::Done<'_>, Pretended>>),
        ("clean", of::<super::clean::Cleaned<'_>>),
        ("config check", of::<super::config::findings::Report>),
        ("config diff", of::<super::config::diff::Compared>),
        ("config explain", of::<super::config::explain::Told<'_>>),
        ("config graph", of::<config::Graph>),
        ("config show", of::<super::config::show::Shown<'_>>),
        ("cp", of::<cp::CopiedOut>),
        ("diff", of::<diff::StateDiff>),
        ("doctor", of::<host::Report>),
        ("export", of::<artifact::of_state::ExportedState>),
        ("init", of::<Initialised>),
        ("kernel build", of::<kernel::KernelBuilt>),
        ("kernel diff", of::<super::kernel::diff::Report<'_>>),
        ("kernel ls", of::<Vec<kernel_rows::KernelRow>>),
        ("kernel prep", of::<kernel_prep::KernelPrepared>),
        ("kernel update", of::<Kernels>),
        ("keys fetch", of::<Vec<keys::Change>>),
        ("keys import", of::<Vec<keys::Change>>),
        ("keys ls", of::<Vec<keys::KeyInfo>>),
        ("keys rm", of::<Vec<keys::Change>>),
        ("keys trust", of::<Vec<keys::Change>>),
        ("log", of::<Vec<log::LogEntry>>),
        ("logs", of::<Logs>),
        ("patch compile", of::<compile::Compiled>),
        ("patch ls", of::<Vec<patches::PatchRow>>),
        ("patch prep", of::<prep::Prepared>),
        ("patch refresh", of::<refresh::Refreshed>),
        ("patch rm", of::<patches::RemovedPatch>),
        ("patch save", of::<save::SavedAs>),
        ("patch show", of::<patches::PatchRow>),
        ("patch try", of::<attempt::Attempt>),
        ("pipeline", of::<Either<run::Report, super::pipeline::Planned<'_>>>),
        ("pipeline attach", of::<run::Report>),
        ("pipeline node", of::<run::Report>),
        ("pipeline plan", of::<super::pipeline::Planned<'_>>),
        ("profile ls", of::<Vec<ProfileRow>>),
        ("profile rename", of::<names::RenamedProfile>),
        ("profile rm", of::<names::RemovedProfile>),
        ("profile rollback", of::<rollback::RolledBack>),
        ("profile show", of::<show::ProfileShown>),
        ("profile update", of::<Updated>),
        ("remote gc", of::<super::remote::Collected>),
        ("remote ls", of::<super::remote::Listed>),
        ("remote pull", of::<super::remote::Brought>),
        ("remote push", of::<super::remote::Published>),
        ("remote rm", of::<super::remote::Gone>),
        ("report", of::<Either<Vec<super::report::Row<'_>>, crate::record::Run>>),
        ("resolve", of::<Either<super::resolve::Report<'_>, Pretended>>),
        ("rm", of::<super::rm::Removed<'_>>),
        ("rollback", of::<rollback::Rollback>),
        ("stage build", of::<Either<stage::StageBuilt, Pretended>>),
        ("stage ls", of::<Vec<stages::StageRow>>),
        ("stage rm", of::<super::stage::Removed<'_>>),
        ("stage show", of::<stages::StageShown>),
        ("stage3 fetch", of::<super::stage3::fetch::FetchReport<'_>>),
        ("stage3 ls", of::<release::Listing>),
        ("stage3 verify", of::<Vec<super::stage3::Report<'_>>>),
        ("store du", of::<store::DiskUsage>),
        ("store ls", of::<super::store::Listed<'_>>),
        ("store seal", of::<Vec<store::SealReport>>),
        ("store show", of::<store::ShowReport>),
        ("store verify", of::<super::store::Verified<'_>>),
        ("sync", of::<Trees>),
        ("tag", of::<log::Tag>),
        ("tag ls", of::<Vec<log::Tag>>),
        ("tag rm", of::<log::Tag>),
        ("tree diff", of::<trees::compare::TreeDifference>),
        ("tree ls", of::<Vec<trees::rows::TreeListRow>>),
        ("tree rm", of::<Vec<trees::rows::RemovedTree>>),
        ("try", of::<try_it::Experiment>),
        ("why", of::<Vec<installed::why::Explained>>),
    ]
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/json")
}

/// `stage-build.json` for `stage build`.
fn file_name(command: &str) -> String {
    format!("{}.json", command.replace(' ', "-"))
}

fn schema(name: &str, title: &str, make: fn(&mut SchemaGenerator) -> Schema) -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut value = Value::from(make(&mut generator));
    let mut parts = BTreeSet::new();
    parts_in(&value, false, &mut parts);
    close(&mut value, false, &parts);
    let fields = value.as_object_mut().expect("a schema of a type is an object");
    fields.insert("$id".to_owned(), format!("urn:gentoomuch:json:{VERSION}:{}", name.replace(' ', "-")).into());
    fields.insert("title".to_owned(), title.into());
    value
}

/// The definitions that are parts of an object.
fn parts_in(value: &Value, is_part: bool, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| parts_in(value, is_part, found)),
        Value::Object(fields) => {
            let is_part = is_part || fields.contains_key("properties");
            for (word, value) in fields {
                if let (true, "$ref", Some(name)) = (is_part, word.as_str(), value.as_str()) {
                    found.insert(name.trim_start_matches("#/$defs/").to_owned());
                }
                parts_in(value, is_part && JOINTS.contains(&word.as_str()), found);
            }
        }
        _ => {}
    }
}

/// Has every object whose fields are ours refuse others. A part of an object leaves that to the whole.
fn close(value: &mut Value, is_part: bool, parts: &BTreeSet<String>) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| close(value, is_part, parts)),
        Value::Object(fields) => {
            // The sizes of Rust's numbers and what is never read back say nothing to a reader. (There are fields of these names, too.)
            for word in ["format", "readOnly"] {
                if fields.get(word).is_some_and(|value| value.is_string() || value.is_boolean()) {
                    fields.remove(word);
                }
            }
            let has_fields = fields.contains_key("properties");
            let joined = JOINTS.iter().any(|word| fields.contains_key(*word));
            for (word, value) in fields.iter_mut() {
                match value {
                    Value::Object(definitions) if word == "$defs" => {
                        definitions.iter_mut().for_each(|(name, value)| close(value, parts.contains(name), parts));
                    }
                    value => close(value, (has_fields || is_part) && JOINTS.contains(&word.as_str()), parts),
                }
            }
            if has_fields && !is_part {
                // Beside the fields of parts, `additionalProperties` would refuse those.
                let word = if joined { "unevaluatedProperties" } else { "additionalProperties" };
                if !fields.contains_key("additionalProperties") {
                    fields.insert(word.to_owned(), false.into());
                }
            }
        }
        _ => {}
    }
}

/// What joins the parts of an object.
const JOINTS: [&str; 4] = ["allOf", "anyOf", "oneOf", "$ref"];

/// The words of every command that has `--json`, or `--format json`.
fn commands_with_json(command: &clap::Command, words: &str, found: &mut BTreeSet<String>) {
    for sub in command.get_subcommands() {
        let words = if words.is_empty() { sub.get_name().to_owned() } else { format!("{words} {}", sub.get_name()) };
        let is_json = |argument: &clap::Arg| {
            argument.get_id() == "json"
                || argument.get_id() == "format" && argument.get_possible_values().iter().any(|value| value.get_name() == "json")
        };
        if sub.get_arguments().any(is_json) {
            found.insert(words.clone());
        }
        commands_with_json(sub, &words, found);
    }
}

#[test]
fn every_command_with_json_has_a_schema() {
    let mut found = BTreeSet::new();
    commands_with_json(&Cli::command(), "", &mut found);
    assert_eq!(table().into_iter().map(|(command, _)| command.to_owned()).collect::<BTreeSet<_>>(), found);
}

#[test]
fn the_schemas_in_the_documentation_are_those_of_the_program() {
    let update = std::env::var_os("INSTA_UPDATE").is_some_and(|value| value == "always");
    let commands = table().into_iter().map(|(command, make)| (command, format!("gentoomuch {command} --json"), make));
    let others = OTHERS.into_iter().map(|(name, title, make)| (name, title.to_owned(), make));
    let mut wanted = BTreeSet::new();
    for (name, title, make) in commands.chain(others) {
        let text = serde_json::to_string_pretty(&schema(name, &title, make)).unwrap() + "\n";
        let path = directory().join(file_name(name));
        if update {
            std::fs::write(&path, &text).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("docs/json/{}: {error}", file_name(name)));
        assert!(there == text, "docs/json/{} is not what the program prints: INSTA_UPDATE=always writes it anew", file_name(name));
        wanted.insert(file_name(name));
    }
    let page = std::fs::read_to_string(directory().join("../src/reference/json.md")).unwrap();
    assert_eq!(wanted.iter().find(|name| !page.contains(&format!("(../json/{name})"))), None, "the book does not link to it");
    let there = std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(there.collect::<BTreeSet<_>>(), wanted);
}
