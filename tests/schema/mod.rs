//! Holds what the program prints with `--json` against the schemas of `docs/json`.
//!
//! The schemas are made from the program's types, and use few words of JSON Schema. All of them are known here; a word that is not known
//! fails.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// Words that say nothing about what is valid.
const TOLD: [&str; 7] = ["$schema", "$id", "$defs", "title", "description", "default", "uniqueItems"];

/// Fails if `args` ask for JSON, and `stdout` is not what the schema of that command says. A command that failed need not have printed any.
#[track_caller]
pub(crate) fn check<S: AsRef<str>>(args: &[S], succeeded: bool, stdout: &[u8]) {
    let args: Vec<&str> = args.iter().map(AsRef::as_ref).take_while(|word| *word != "--").collect();
    let format = args.iter().position(|word| *word == "--format").and_then(|at| args.get(at + 1));
    let Some(name) = command(&args) else {
        assert!(!args.contains(&"--json"), "`{}` has no schema in docs/json", args.join(" "));
        return;
    };
    // This one prints JSON unless it is told otherwise.
    let by_default = name == "pipeline-plan" && format.is_none();
    if !args.contains(&"--json") && format != Some(&"json") && !by_default || args.contains(&"--help") {
        return;
    }
    let value: Value = match serde_json::from_slice(stdout) {
        Ok(value) => value,
        Err(_) if !succeeded => return,
        Err(error) => panic!("{error}: `{}` printed {:?}", args.join(" "), String::from_utf8_lossy(stdout)),
    };
    valid(&name, &value);
}

/// Fails if `value` is not what the schema `name` says.
#[track_caller]
pub(crate) fn valid(name: &str, value: &Value) {
    let path = directory().join(format!("{name}.json"));
    let root: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    if let Err(wrong) = (Schema { root: &root }).check(&root, value, "") {
        panic!("not as docs/json/{name}.json says: {wrong}\n{value:#}");
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json")
}

/// The schema of the command in `args`: that of its first words for which there is one.
fn command(args: &[&str]) -> Option<String> {
    let long = |word: &str| match word {
        "list" => "ls".to_owned(),
        "remove" => "rm".to_owned(),
        word => word.to_owned(),
    };
    let exists = |name: &String| directory().join(format!("{name}.json")).exists();
    (0..args.len()).find_map(|at| {
        let two = args.get(at + 1).map(|second| format!("{}-{}", args[at], long(second))).filter(exists);
        two.or_else(|| Some(args[at].to_owned()).filter(exists))
    })
}

struct Schema<'s> {
    root: &'s Value,
}

/// Names of the fields that a schema has looked at; or what is wrong, and where.
type Seen = Result<BTreeSet<String>, String>;

impl Schema<'_> {
    fn check(&self, schema: &Value, value: &Value, at: &str) -> Seen {
        let words = match schema {
            Value::Bool(true) => return Ok(BTreeSet::new()),
            Value::Object(words) => words,
            _ => return Err(format!("{at}: nothing is allowed here")),
        };
        let mut seen = BTreeSet::new();
        for (word, wanted) in words {
            match word.as_str() {
                "type" => is_type(wanted, value).then_some(()).ok_or_else(|| format!("{at}: {value} is not {wanted}"))?,
                "const" => (wanted == value).then_some(()).ok_or_else(|| format!("{at}: {value} is not {wanted}"))?,
                "enum" => {
                    let known = wanted.as_array().is_some_and(|all| all.contains(value));
                    known.then_some(()).ok_or_else(|| format!("{at}: {value} is none of {wanted}"))?;
                }
                "minimum" => {
                    let enough = value.as_f64().is_none_or(|value| wanted.as_f64().is_none_or(|wanted| value >= wanted));
                    enough.then_some(()).ok_or_else(|| format!("{at}: {value} is less than {wanted}"))?;
                }
                "minItems" | "maxItems" => {
                    let length = value.as_array().map(|items| items.len() as u64).zip(wanted.as_u64());
                    let fits = length.is_none_or(|(is, limit)| if word == "minItems" { is >= limit } else { is <= limit });
                    fits.then_some(()).ok_or_else(|| format!("{at}: {word} is {wanted}"))?;
                }
                "$ref" => {
                    let pointer = wanted.as_str().and_then(|text| text.strip_prefix('#')).unwrap_or_default();
                    let target = self.root.pointer(pointer).ok_or_else(|| format!("{wanted} leads nowhere"))?;
                    seen.extend(self.check(target, value, at)?);
                }
                "allOf" | "anyOf" | "oneOf" => seen.extend(self.joined(word, wanted, value, at)?),
                "items" | "prefixItems" => self.items(word, words, value, at)?,
                "properties" | "required" => seen.extend(self.fields(word, wanted, value, at)?),
                // After all others.
                "additionalProperties" | "unevaluatedProperties" => {}
                word if TOLD.contains(&word) => {}
                word => return Err(format!("{at}: this test does not know `{word}`")),
            }
        }
        self.others(words, value, &mut seen, at)?;
        Ok(seen)
    }

    fn joined(&self, word: &str, schemas: &Value, value: &Value, at: &str) -> Seen {
        let all: Vec<Seen> = schemas.as_array().into_iter().flatten().map(|schema| self.check(schema, value, at)).collect();
        let good = all.iter().filter(|seen| seen.is_ok()).count();
        if word == "allOf" && good == all.len() || word == "anyOf" && good > 0 || word == "oneOf" && good == 1 {
            return Ok(all.into_iter().flatten().flatten().collect());
        }
        let wrong: Vec<String> = all.into_iter().filter_map(Result::err).collect();
        Err(format!("{at}: {good} of `{word}` fit: {}", wrong.join("; ")))
    }

    fn items(&self, word: &str, words: &Map<String, Value>, value: &Value, at: &str) -> Result<(), String> {
        let Some(values) = value.as_array() else { return Ok(()) };
        let first = words.get("prefixItems").and_then(Value::as_array);
        for (number, value) in values.iter().enumerate() {
            let own = first.and_then(|first| first.get(number));
            let schema = if word == "prefixItems" { own } else { words.get("items").filter(|_| own.is_none()) };
            if let Some(schema) = schema {
                self.check(schema, value, &format!("{at}/{number}"))?;
            }
        }
        Ok(())
    }

    fn fields(&self, word: &str, wanted: &Value, value: &Value, at: &str) -> Seen {
        let Some(fields) = value.as_object() else { return Ok(BTreeSet::new()) };
        if word == "required" {
            let names = wanted.as_array().into_iter().flatten().filter_map(Value::as_str);
            let missing: Vec<&str> = names.filter(|name| !fields.contains_key(*name)).collect();
            return if missing.is_empty() { Ok(BTreeSet::new()) } else { Err(format!("{at}: lacks {}", missing.join(", "))) };
        }
        let mut seen = BTreeSet::new();
        for (name, schema) in wanted.as_object().into_iter().flatten() {
            if let Some(value) = fields.get(name) {
                self.check(schema, value, &format!("{at}/{name}"))?;
                seen.insert(name.clone());
            }
        }
        Ok(seen)
    }

    /// The fields that nothing else has looked at.
    fn others(&self, words: &Map<String, Value>, value: &Value, seen: &mut BTreeSet<String>, at: &str) -> Result<(), String> {
        let Some(fields) = value.as_object() else { return Ok(()) };
        let own: BTreeSet<&String> =
            words.get("properties").and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name).collect();
        for word in ["additionalProperties", "unevaluatedProperties"] {
            let Some(schema) = words.get(word) else { continue };
            for (name, value) in fields {
                let known = if word == "additionalProperties" { own.contains(name) } else { seen.contains(name) };
                if !known {
                    self.check(schema, value, &format!("{at}/{name}"))?;
                    seen.insert(name.clone());
                }
            }
        }
        Ok(())
    }
}

fn is_type(wanted: &Value, value: &Value) -> bool {
    match wanted {
        Value::Array(all) => all.iter().any(|wanted| is_type(wanted, value)),
        wanted => match wanted.as_str().unwrap_or_default() {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ => false,
        },
    }
}
