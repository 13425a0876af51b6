//! From a recipe to a state: the one place where that is done.
//!
//! ```text
//! build key -> a state has it? ------------------------------------------------.
//!           -> another state stands, since no change concerns it? -------------|
//!           -> checked, before an hour is spent                                |
//!           -> made: session, new or suspended -> filled -> settled, committed-'-> its name leads there
//! ```

use crate::build_key::Inputs;
use crate::context;
use crate::context::Context;
use crate::recipe::Result;
use crate::recipe::settle::settle;
use crate::recipe::standing::Standing;
use crate::session::binhost::note_packages;
use crate::session::open::open_session;
use crate::store::{NewState, Purpose, Session, State};

/// A state that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    pub state: State,
    /// Whether it was there already.
    pub reused: bool,
}

/// What can be built, and all that decides it.
pub(crate) trait Recipe {
    /// The ref that leads to the state, if it has one of its own.
    fn name(&self) -> Option<String>;

    /// The lock that is held while the state is looked for, made and named, so that whoever comes second finds it done.
    fn lock(&self) -> String;

    /// What users call it.
    fn words(&self) -> String;

    /// All that decides the result.
    fn inputs(&self) -> Inputs;

    /// Whether the configuration alone says which state the name leads to.
    fn is_configured(&self) -> bool {
        true
    }

    /// Whether a state with the right key will do.
    fn accepts(&self, _state: &State) -> bool {
        true
    }

    /// Whether a state with another key is what would be built.
    fn standing(&self, _cx: &Context<'_>, _inputs: &Inputs) -> Result<Standing> {
        Ok(Standing::Other)
    }

    /// What can be found out before any work.
    fn check(&self, _cx: &Context<'_>) -> Result<()> {
        Ok(())
    }

    /// Makes the state. A recipe that does it in a session calls [`in_session`].
    fn make(&self, cx: &Context<'_>) -> Result<Built>;
}

/// A recipe whose state is made in a session.
pub(crate) trait InSession: Recipe {
    /// What filling a session leaves to be recorded.
    type Filled;

    /// What the session stands on; nothing for what is unpacked.
    fn base(&self, cx: &Context<'_>) -> Result<Option<State>>;

    /// What the session is for.
    fn purpose(&self) -> Purpose;

    /// What the session makes. One that was left behind with this subject, and another key, is of no use any more.
    fn subject(&self) -> Option<String>;

    /// The key under which a suspended session is found.
    fn session_key(&self) -> String {
        self.inputs().key()
    }

    /// What is told when the session begins, or goes on.
    fn step(&self, resumed: bool) -> String;

    /// Does the work.
    fn fill(&self, cx: &Context<'_>, session: &mut Session, base: Option<&State>) -> Result<Self::Filled>;

    /// The state that a filled session is no different from.
    fn unchanged(&self, _filled: &Self::Filled) -> Option<State> {
        None
    }

    /// What the state says of itself.
    fn origin(&self, base: Option<&State>, filled: &Self::Filled) -> serde_json::Value;

    /// See [`State::newest_input`].
    fn newest_input(&self, base: Option<&State>, filled: &Self::Filled) -> i64;

    /// Makes a state of a filled session.
    fn keep(&self, _cx: &Context<'_>, session: Session, base: Option<&State>, filled: Self::Filled) -> Result<State> {
        let mut origin = self.origin(base, &filled);
        note_packages(&mut origin, &session);
        let newest_input = self.newest_input(base, &filled);
        let parent = base.map(|base| base.id.clone());
        Ok(session.commit(NewState { key: self.inputs().key(), origin: origin.into(), newest_input, parent })?)
    }
}

/// The state of a recipe: found, or made. Its name leads there in the end.
pub(crate) fn realise(cx: &Context<'_>, recipe: &impl Recipe) -> Result<Built> {
    let _lock = context::lock(cx, &recipe.lock())?;
    let built = found_or_made(cx, recipe)?;
    if let Some(name) = recipe.name() {
        let words = recipe.is_configured().then(|| recipe.words());
        name_state(cx, &name, words.as_deref(), &built)?;
    }
    Ok(built)
}

fn found_or_made(cx: &Context<'_>, recipe: &impl Recipe) -> Result<Built> {
    let inputs = recipe.inputs();
    if let Some(state) = cx.store.state_by_key(&inputs.key())?.filter(|state| recipe.accepts(state)) {
        return Ok(Built { state, reused: true });
    }
    if let Standing::Same(state) = recipe.standing(cx, &inputs)? {
        cx.observer.note(&format!("nothing that has changed concerns {}", recipe.words()));
        return Ok(Built { state, reused: true });
    }
    recipe.check(cx)?;
    recipe.make(cx)
}

/// Makes a state in a session of its own, or in one that was suspended.
pub(crate) fn in_session<R: InSession>(cx: &Context<'_>, recipe: &R) -> Result<Built> {
    let base = recipe.base(cx)?;
    let (key, subject) = (recipe.session_key(), recipe.subject());
    let (mut session, resumed) = open_session(cx, base.as_ref(), recipe.purpose(), &key, subject.as_deref())?;
    cx.observer.step(&recipe.step(resumed));
    let filled = recipe.fill(cx, &mut session, base.as_ref());
    if let Some(state) = filled.as_ref().ok().and_then(|filled| recipe.unchanged(filled)) {
        session.discard(cx.launcher)?;
        return Ok(Built { state, reused: true });
    }
    let state = settle(cx, filled, session, |session, filled| recipe.keep(cx, session, base.as_ref(), filled))?;
    Ok(Built { state, reused: false })
}

/// Makes a state of the layers of another one, which says `origin` of itself.
pub(crate) fn under_another_key(cx: &Context<'_>, same: &State, inputs: &Inputs, mut origin: serde_json::Value) -> Result<Built> {
    origin["inputs"] = serde_json::json!(inputs);
    let new = NewState { key: inputs.key(), origin: origin.into(), newest_input: same.newest_input, parent: Some(same.id.clone()) };
    Ok(Built { state: cx.store.state_of_layers(same.layers.clone(), new)?, reused: false })
}

/// Points a name at a state. Where nothing was built, nothing else would tell that it moves, as it does after a rollback.
pub(crate) fn name_state(cx: &Context<'_>, name: &str, words: Option<&str>, built: &Built) -> Result<()> {
    let state = &built.state;
    let before = cx.store.ref_get(name)?.filter(|before| *before != state.id);
    if let (Some(before), Some(words)) = (before.filter(|_| built.reused), words) {
        cx.observer.note(&format!("{words} is {}, as the configuration says (it was {before})", state.id));
    }
    Ok(cx.store.ref_set(name, &state.id)?)
}
