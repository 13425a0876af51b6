//! Tells, after a build, what its packages have said, which news are new, and which configuration files wait for a decision.

use crate::context::Context;
use crate::portage::messages::{Messages, NewsItem, Said};
use crate::progress::Event;
use crate::recipe::{Error, Result};
use crate::session;
use crate::session::messages;
use crate::store::{Session, State};
use crate::terminal_text::sanitize_line;

/// Of one package so many lines are told. All are kept.
const MOST_LINES: usize = 25;
/// Of all packages together.
const MOST_LINES_IN_ALL: usize = 300;
/// Of a line so much is told.
const MOST_CHARS: usize = 200;
/// News of a tree go years back, and at first all of them are unread.
const MOST_NEWS: usize = 5;

/// Tells what a new state has to say. News and files that the state below it, or the one before it, had already, were told then.
pub(crate) fn tell(cx: &Context<'_>, name: Option<&str>, base: Option<&State>, state: &State) -> Result<()> {
    let mut new = state.origin.messages();
    if new.is_empty() {
        return Ok(());
    }
    let before = match name.map(|name| cx.store.ref_get(name)).transpose()?.flatten() {
        // One that is gone has told all it had to tell.
        Some(id) => cx.store.state(&id).ok(),
        None => None,
    };
    for known in base.into_iter().chain(&before).map(|state| state.origin.messages()) {
        new.news.retain(|item| !known.news.contains(item));
        new.pending_config.retain(|file| !known.pending_config.contains(file));
    }
    tell_all(cx, &new, name.unwrap_or(state.id.as_str()));
    Ok(())
}

/// Tells what the package has said that did not build: often the reason.
pub(crate) fn tell_of_failed(cx: &Context<'_>, session: &Session, error: &Error) {
    let Error::Session(session::Error::Emerge { failure, .. }) = error else { return };
    let Some(package) = &failure.package else { return };
    for mut said in messages::of(session).packages.into_iter().filter(|said| said.package == *package) {
        // From here on it is `die` that speaks, and what that says is the error.
        let dies = format!("ERROR: {package}");
        for message in &mut said.messages {
            let end = message.lines.iter().position(|line| line.starts_with(&dies) && line.contains(" failed ("));
            message.lines.truncate(end.unwrap_or(message.lines.len()));
        }
        tell_of(cx, &said, MOST_LINES);
    }
}

fn tell_all(cx: &Context<'_>, new: &Messages, name: &str) {
    let (mut left, mut all) = (MOST_LINES_IN_ALL, true);
    for said in &new.packages {
        let (told, whole) = tell_of(cx, said, left.min(MOST_LINES));
        left -= told;
        all &= whole;
    }
    for NewsItem { name, title, .. } in new.news.iter().take(MOST_NEWS) {
        cx.observer.note(&format!("news: {name}: {title}"));
    }
    if new.news.len() > MOST_NEWS {
        cx.observer.note(&format!("news: and {} older items that are relevant and unread", new.news.len() - MOST_NEWS));
    }
    for file in &new.pending_config {
        cx.observer.note(&format!("configuration: `{file}` waits for `dispatch-conf`"));
    }
    if !(all && new.news.is_empty()) {
        cx.observer.note(&format!("all of it: `gentoomuch logs elog {name}`"));
    }
}

/// Tells at most `most` lines of a package. Returns how many, and whether they were all.
fn tell_of(cx: &Context<'_>, said: &Said, most: usize) -> (usize, bool) {
    let all = said.messages.iter().flat_map(|message| message.lines.iter().map(|line| (message.class.word(), line)));
    let cut: Vec<(&'static str, String)> =
        all.take(most + 1).map(|(word, line)| (word, sanitize_line(line.as_bytes(), MOST_CHARS))).collect();
    let whole = cut.len() <= most && !said.more;
    let mut lines: Vec<(&'static str, &str)> = cut.iter().take(most).map(|(word, line)| (*word, line.as_str())).collect();
    let told = lines.len();
    if !whole {
        lines.push(("", "…"));
    }
    if most > 0 && told > 0 {
        cx.observer.event(&Event::Said { package: &said.package, lines: &lines });
    }
    (told, whole)
}
