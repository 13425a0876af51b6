//! Asks the session's Portage.

use crate::context::Context;
use crate::path_error::OfFile as _;
use crate::query;
use crate::query::{OUTPUT_LIMIT_BYTES, PROGRAM, Question, START};
use crate::session::readable_files::{create_open, write_public};
use crate::session::root::HOOKS_DIR;
use crate::session::{Error, Result, Work, run};

/// The program and its request lie here, beside the hooks.
const DIR: &str = "query";
const REQUEST: &str = "request.json";

/// The answers to `questions`, in their order. If packages have run in the session, the answers may be hostile.
///
/// # Errors
///
/// [`Error::NoAnswer`], and a program that fails.
pub(crate) fn ask<Q: Question>(
    cx: &Context<'_>,
    work: &Work<'_>,
    questions: impl IntoIterator<Item = Q>,
) -> Result<Vec<Q::Answer>> {
    let questions: Vec<Q> = questions.into_iter().collect();
    if questions.is_empty() {
        return Ok(Vec::new());
    }
    let output = output_for(cx, work, query::request(&questions))?;
    Ok(query::answers::<Q>(&output, questions.len())?)
}

/// As [`ask`], with questions of two kinds, which Portage answers in one start.
pub(crate) fn ask_both<A: Question, B: Question>(
    cx: &Context<'_>,
    work: &Work<'_>,
    first: &A,
    then: &[B],
) -> Result<(A::Answer, Vec<B::Answer>)> {
    let output = output_for(cx, work, query::request_of_two(first, then))?;
    Ok(query::answers_of_two::<A, B>(&output, then.len())?)
}

fn output_for(cx: &Context<'_>, work: &Work<'_>, request: serde_json::Result<Vec<u8>>) -> Result<Vec<u8>> {
    let dir = work.root.hooks.join(DIR);
    create_open(&dir)?;
    for (name, text) in PROGRAM {
        write_public(&dir.join(name), text.as_bytes(), 0o644)?;
    }
    let path = dir.join(REQUEST);
    let request = request.map_err(|source| Error::io("write", &path)(source.into()))?;
    write_public(&path, &request, 0o644)?;
    // `-B`: Python writes no bytecode, which would end up in the layer.
    let argv = ["python3", "-B", &format!("{HOOKS_DIR}/{DIR}/{START}"), &format!("{HOOKS_DIR}/{DIR}/{REQUEST}")];
    run::output_and_put_back(cx, work, argv.map(str::to_owned).into(), OUTPUT_LIMIT_BYTES + 1)
}
