//! How several sessions at a time look while they run: a line for each session on a terminal, and everywhere a line for each that has ended.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::progress::{Event, Observer as _};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::progress::{Progress, tick};
use crate::cli::screen;

/// Draws, or prints, what it is told.
#[derive(Debug)]
pub(super) struct Live<'a> {
    progress: &'a Progress,
    bars: Option<MultiProgress>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    names: Vec<String>,
    /// How many are built, and how many have come to their end.
    total: usize,
    done: usize,
    running: BTreeMap<usize, ProgressBar>,
}

impl<'a> Live<'a> {
    pub(super) fn new(progress: &'a Progress) -> Self {
        let bars = progress.draws().then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        Self { progress, bars, state: Mutex::default() }
    }

    /// Removes what is drawn.
    pub(super) fn clear(&self) {
        let mut state = self.lock();
        for bar in std::mem::take(&mut state.running).into_values() {
            bar.finish_and_clear();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, text: &str) {
        let tell = || self.progress.event(&Event::Note(text));
        match &self.bars {
            Some(bars) => bars.suspend(tell),
            None => tell(),
        }
    }
}

impl Live<'_> {
    /// Says what is begun: all by name, of which `total` are built.
    pub(super) fn begin(&self, names: Vec<String>, total: usize, step: &str) {
        let mut state = self.lock();
        state.names = names;
        state.total = total;
        self.progress.event(&Event::Step(step));
    }

    /// Shows what is done for one of them now.
    pub(super) fn show(&self, index: usize, what: &str) {
        let Some(bars) = &self.bars else { return };
        let mut state = self.lock();
        let name = state.names.get(index).cloned().unwrap_or_default();
        let bar = state.running.entry(index).or_insert_with(|| {
            let style = ProgressStyle::with_template("  {prefix}  {elapsed}  {wide_msg}");
            let bar = bars.add(ProgressBar::new_spinner());
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_prefix(screen::line(&name));
            tick(&bar);
            bar
        });
        bar.set_message(screen::line(what));
    }

    /// Says how one of them ended.
    pub(super) fn end(&self, index: usize, how: &str) {
        let (line, bar) = {
            let mut state = self.lock();
            state.done += 1;
            let name = state.names.get(index).cloned().unwrap_or_default();
            (format!("{} of {}  {name}: {how}", state.done, state.total), state.running.remove(&index))
        };
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        self.note(&line);
    }
}
