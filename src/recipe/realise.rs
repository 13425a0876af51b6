//! From a recipe to a state. This is the only place that does it.
//!
//! ```text
//! build key -> a state has it? ------------------------------------------------.
//!           -> another state stands, since no change concerns it? -------------|
//!           -> a remote has one, signed by who counts? fetched ----------------|
//!           -> checked, before an hour is spent                                |
//!           -> made: session, new or suspended -> filled -> settled, committed-'-> its name leads there
//!                                                                                -> published, if it was made and the user wants that
//! ```

use crate::build_key::Inputs;
use crate::context;
use crate::context::Context;
use crate::recipe::settle::settle;
use crate::recipe::standing::Standing;
use crate::recipe::{Result, failed, said};
use crate::remote;
use crate::session::binhost::note_packages;
use crate::session::messages;
use crate::session::open::open_session;
use crate::store::{NewState, Purpose, Session, State};

#[derive(Debug, Clone)]
pub(crate) struct Built {
    pub state: State,
    /// The state existed already, here or in a remote.
    pub reused: bool,
}

/// Something that can be built, with everything that decides the result.
pub(crate) trait Recipe {
    /// The ref that leads to the state, if it has one.
    fn name(&self) -> Option<String>;

    /// The lock that is held while the state is searched, made and named. A second process that waits for it finds the state done.
    fn lock(&self) -> String;

    /// In words for users.
    fn words(&self) -> String;

    /// Everything that decides the result.
    fn inputs(&self) -> Inputs;

    /// Whether only the configuration decides which state the name leads to.
    fn is_configured(&self) -> bool {
        true
    }

    /// Whether a state with the right key is good enough.
    fn accepts(&self, _state: &State) -> bool {
        true
    }

    /// Whether a state with another key is still what would be built.
    fn standing(&self, _cx: &Context<'_>, _inputs: &Inputs) -> Result<Standing> {
        Ok(Standing::Other)
    }

    /// Finds errors before any work is done.
    fn check(&self, _cx: &Context<'_>) -> Result<()> {
        Ok(())
    }

    /// Makes the state. If that needs a session, it calls [`in_session`].
    fn make(&self, cx: &Context<'_>) -> Result<Built>;
}

/// A recipe whose state is made in a session.
pub(crate) trait InSession: Recipe {
    /// What filling a session gives for the record.
    type Filled;

    /// The state below the session. `None` for an import.
    fn base(&self, cx: &Context<'_>) -> Result<Option<State>>;

    fn purpose(&self) -> Purpose;

    /// What the session makes. A suspended session with this subject and another key is useless and is removed.
    fn subject(&self) -> Option<String>;

    /// The key by which a suspended session is found.
    fn session_key(&self) -> String {
        self.inputs().key()
    }

    /// What the user reads when the session begins or goes on.
    fn step(&self, resumed: bool) -> String;

    fn fill(&self, cx: &Context<'_>, session: &mut Session, base: Option<&State>) -> Result<Self::Filled>;

    /// If the filled session does not differ from an existing state, that state.
    fn unchanged(&self, _filled: &Self::Filled) -> Option<State> {
        None
    }

    /// The origin of the state.
    fn origin(&self, base: Option<&State>, filled: &Self::Filled) -> serde_json::Value;

    /// See [`State::newest_input`].
    fn newest_input(&self, base: Option<&State>, filled: &Self::Filled) -> i64;

    fn keep(&self, _cx: &Context<'_>, session: Session, base: Option<&State>, filled: Self::Filled) -> Result<State> {
        let mut origin = self.origin(base, &filled);
        note_packages(&mut origin, &session);
        messages::note_in(&mut origin, &session);
        let newest_input = self.newest_input(base, &filled);
        let parent = base.map(|base| base.id.clone());
        Ok(session.commit(NewState { key: self.inputs().key(), origin: origin.into(), newest_input, parent })?)
    }
}

/// The state of a recipe: found or made. In the end its name leads there.
pub(crate) fn realise(cx: &Context<'_>, recipe: &impl Recipe) -> Result<Built> {
    let _lock = context::lock(cx, &recipe.lock())?;
    let built = found_or_made(cx, recipe)?;
    if let Some(name) = recipe.name() {
        let words = recipe.is_configured().then(|| recipe.words());
        name_state(cx, &name, words.as_deref(), &built)?;
    }
    if !built.reused {
        remote::publish(cx, &built.state, recipe.name().as_deref())?;
    }
    Ok(built)
}

/// The state of a recipe that somebody else has made, if it is here or in the remote. In the end its name leads there.
pub(crate) fn brought(cx: &Context<'_>, recipe: &impl Recipe) -> Result<Option<Built>> {
    let _lock = context::lock(cx, &recipe.lock())?;
    let built = found(cx, recipe, &recipe.inputs())?;
    if let (Some(name), Some(built)) = (recipe.name(), &built) {
        name_state(cx, &name, None, built)?;
    }
    Ok(built)
}

/// The same without a name that leads there.
pub(crate) fn realise_unnamed(cx: &Context<'_>, recipe: &impl Recipe) -> Result<Built> {
    let _lock = context::lock(cx, &recipe.lock())?;
    let built = found_or_made(cx, recipe)?;
    if !built.reused {
        remote::publish(cx, &built.state, None)?;
    }
    Ok(built)
}

fn found_or_made(cx: &Context<'_>, recipe: &impl Recipe) -> Result<Built> {
    if let Some(built) = found(cx, recipe, &recipe.inputs())? {
        return Ok(built);
    }
    recipe.check(cx)?;
    remote::foresee(cx)?;
    recipe.make(cx)
}

fn found(cx: &Context<'_>, recipe: &impl Recipe, inputs: &Inputs) -> Result<Option<Built>> {
    if let Some(state) = cx.store.state_by_key(&inputs.key())?.filter(|state| recipe.accepts(state)) {
        return Ok(Some(Built { state, reused: true }));
    }
    if let Standing::Same(state) = recipe.standing(cx, inputs)? {
        cx.observer.note(&format!("the changes do not affect {}", recipe.words()));
        return Ok(Some(Built { state, reused: true }));
    }
    let fetched = remote::bring(cx, &inputs.key(), &recipe.words())?;
    Ok(fetched.filter(|state| recipe.accepts(state)).map(|state| Built { state, reused: true }))
}

/// Makes a state in a new session or in a suspended one.
pub(crate) fn in_session<R: InSession>(cx: &Context<'_>, recipe: &R) -> Result<Built> {
    let base = recipe.base(cx)?;
    let (key, subject) = (recipe.session_key(), recipe.subject());
    let (mut session, resumed) = open_session(cx, base.as_ref(), recipe.purpose(), &key, subject.as_deref())?;
    cx.observer.step(&recipe.step(resumed));
    failed::forget(&session);
    let filled = recipe.fill(cx, &mut session, base.as_ref());
    if let Err(error) = &filled {
        failed::note(&session, recipe, error);
        said::tell_of_failed(cx, &session, error);
    }
    if let Some(state) = filled.as_ref().ok().and_then(|filled| recipe.unchanged(filled)) {
        session.discard(cx.launcher)?;
        return Ok(Built { state, reused: true });
    }
    let settled = settle(cx, filled, session, |session, filled| recipe.keep(cx, session, base.as_ref(), filled));
    let state = settled.map_err(|error| failed::named(error, recipe))?;
    said::tell(cx, recipe.name().as_deref(), base.as_ref(), &state)?;
    Ok(Built { state, reused: false })
}

/// Makes a state with the layers of another one and with this `origin`.
pub(crate) fn under_another_key(cx: &Context<'_>, same: &State, inputs: &Inputs, mut origin: serde_json::Value) -> Result<Built> {
    origin["inputs"] = serde_json::json!(inputs);
    let new = NewState { key: inputs.key(), origin: origin.into(), newest_input: same.newest_input, parent: Some(same.id.clone()) };
    Ok(Built { state: cx.store.state_of_layers(same.layers.clone(), new)?, reused: false })
}

/// Points a name at a state. If nothing was built, a note says that the name moves: after a rollback it moves back to what the
/// configuration says.
pub(crate) fn name_state(cx: &Context<'_>, name: &str, words: Option<&str>, built: &Built) -> Result<()> {
    let state = &built.state;
    let before = cx.store.ref_get(name)?.filter(|before| *before != state.id);
    if let (Some(before), Some(words)) = (before.filter(|_| built.reused), words) {
        cx.observer.note(&format!("{words} is {}, as the configuration says (it was {before})", state.id));
    }
    Ok(cx.store.ref_set(name, &state.id)?)
}
