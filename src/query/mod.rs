//! What we ask Portage, and how its answers are read: one protocol for all questions.
//!
//! ```text
//! request    a JSON file, a list of questions: {"kind": "set", "name": "system"} …
//! ask.py     asks the Portage of the root in which it runs; each file beside it answers a few kinds of questions
//! output     @gentoomuch JSON             one line for each question, in their order; other lines are what Portage says besides
//!            @gentoomuch-done COUNT       the number of questions
//! ```
//!
//! Nothing is run here. Packages may have run in the root where Portage answers, so the answers may be hostile. They are limited in size,
//! and only the fields that a question expects are accepted.

pub(crate) mod audit;
pub(crate) mod fulfilled;
pub(crate) mod keys;
pub(crate) mod names;
#[cfg(test)]
mod tests;
pub(crate) mod toolset;
pub(crate) mod versions;
pub(crate) mod why;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::terminal_text::{sanitize_uncut, visible_line};

/// The program: names and texts of its files.
pub(crate) const PROGRAM: [(&str, &str); 10] = [
    (START, include_str!("ask.py")),
    ("root.py", include_str!("root.py")),
    ("given.py", include_str!("given.py")),
    ("audit.py", include_str!("audit.py")),
    ("fulfilled.py", include_str!("fulfilled.py")),
    ("keys.py", include_str!("keys.py")),
    ("names.py", include_str!("names.py")),
    ("toolset.py", include_str!("toolset.py")),
    ("versions.py", include_str!("versions.py")),
    ("why.py", include_str!("why.py")),
];
/// The file that is started. Its argument is the path of the request.
pub(crate) const START: &str = "ask.py";
/// Portage's answers to ten thousand questions, or about thirty thousand packages, are shorter.
pub(crate) const OUTPUT_LIMIT_BYTES: u64 = 64 << 20;
/// The program sends no longer words.
const MAX_WORD_CHARS: usize = 300;
const ANSWER: &str = "@gentoomuch ";
const DONE: &str = "@gentoomuch-done ";

/// A question. It is written with its `kind`, by which the program finds the function that answers.
pub trait Question: Serialize {
    type Answer: DeserializeOwned;
    /// A longer answer is refused before it is parsed.
    const ANSWER_LIMIT_BYTES: usize = 1 << 20;
}

/// The output does not answer the questions.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("line {line} of its output is not an answer")]
    Line {
        /// From 1.
        line: usize,
        #[source]
        source: serde_json::Error,
    },
    #[error("line {line} of its output has {bytes} bytes, but an answer has at most {limit}")]
    Long { line: usize, bytes: usize, limit: usize },
    #[error("line {line} of its output is one answer too many: there were {count} questions")]
    Unasked { line: usize, count: usize },
    #[error("its output ends after {answers} answers to {count} questions")]
    Unfinished { answers: usize, count: usize },
    #[error("its output is longer than {} MiB", OUTPUT_LIMIT_BYTES >> 20)]
    TooMuch,
}

pub fn request<Q: Question>(questions: &[Q]) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(questions)
}

/// A request with questions of two kinds.
pub(crate) fn request_of_two<A: Question, B: Question>(first: &A, then: &[B]) -> serde_json::Result<Vec<u8>> {
    let mut questions = vec![serde_json::to_value(first)?];
    for question in then {
        questions.push(serde_json::to_value(question)?);
    }
    serde_json::to_vec(&questions)
}

/// Reads the program's output: an answer for each of `count` questions, in their order.
pub fn answers<Q: Question>(output: &[u8], count: usize) -> Result<Vec<Q::Answer>, Error> {
    let mut answers = Vec::new();
    each_answer(output, count, &mut |line, json| {
        answers.push(answer::<Q>(line, json)?);
        Ok(())
    })?;
    Ok(answers)
}

/// As [`answers`], to a request of [`request_of_two`] with `count` questions of the second kind.
pub(crate) fn answers_of_two<A: Question, B: Question>(output: &[u8], count: usize) -> Result<(A::Answer, Vec<B::Answer>), Error> {
    let (mut first, mut then) = (None, Vec::new());
    each_answer(output, 1 + count, &mut |line, json| {
        if first.is_none() {
            first = Some(answer::<A>(line, json)?);
        } else {
            then.push(answer::<B>(line, json)?);
        }
        Ok(())
    })?;
    Ok((first.ok_or(Error::Unfinished { answers: 0, count: 1 + count })?, then))
}

/// Calls `take` with each answer and the number of its line, from 1.
fn each_answer(output: &[u8], count: usize, take: &mut dyn FnMut(usize, &str) -> Result<(), Error>) -> Result<(), Error> {
    if output.len() as u64 > OUTPUT_LIMIT_BYTES {
        return Err(Error::TooMuch);
    }
    // Other lines are what Portage itself prints, so they are skipped and not an error.
    let (text, mut answers) = (sanitize_uncut(output), 0);
    for (line, text) in (1..).zip(text.lines()) {
        if let Some(json) = text.strip_prefix(ANSWER) {
            if answers == count {
                return Err(Error::Unasked { line, count });
            }
            take(line, json)?;
            answers += 1;
        // The last line proves that the program came to its end, and was not cut off by an exception or a signal.
        } else if text.strip_prefix(DONE).is_some_and(|done| answers == count && done.trim() == count.to_string()) {
            return Ok(());
        }
    }
    Err(Error::Unfinished { answers, count })
}

fn answer<Q: Question>(line: usize, json: &str) -> Result<Q::Answer, Error> {
    let limit = Q::ANSWER_LIMIT_BYTES;
    if json.len() > limit {
        return Err(Error::Long { line, bytes: json.len(), limit });
    }
    serde_json::from_str(json).map_err(|source| Error::Line { line, source })
}

/// Somebody else's words, for people. They come in JSON, whose escapes hide control characters from the check of the output, so they are
/// checked here.
fn printable(words: &str) -> String {
    visible_line(&words.chars().take(MAX_WORD_CHARS).collect::<String>())
}

/// For a field that is shown to people.
fn shown<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(printable(&String::deserialize(from)?))
}

fn all_shown<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Vec::<String>::deserialize(from)?.iter().map(|words| printable(words)).collect())
}
