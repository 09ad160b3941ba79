//! Ways back and out.
//!
//! Invariants: Esc peels one layer and never ends the console; ending by a key asks once.

use std::time::Duration;

use super::{line, list};
use crate::tui::effect::Effect;
use crate::tui::rows::{self, Cause};
use crate::tui::state::layer::{Completions, Layer};
use crate::tui::state::{State, Tone};

/// How long `q` waits for the second.
const QUIT_WITHIN: Duration = Duration::from_millis(1_500);

/// How long Ctrl-c waits for the second.
const INTERRUPT_WITHIN: Duration = Duration::from_secs(1);

/// Peels one layer: completions, then the layer on top, then the filter's text, then a drill-down.
pub(super) fn back(state: &mut State) -> Vec<Effect> {
    match state.layers.last_mut() {
        Some(Layer::Filter(completions)) if !completions.candidates.is_empty() => {
            *completions = Completions::default();
        }
        Some(Layer::Statement(statement)) if !statement.completions.candidates.is_empty() => {
            statement.completions = Completions::default();
        }
        Some(_) => close(state),
        None if !state.filter.line().text().is_empty() => clear_text(state),
        None if !state.filter.terms().is_empty() => return list::drill_out(state),
        None => {}
    }
    Vec::new()
}

fn clear_text(state: &mut State) {
    if state.filter.set_text("") {
        state.table_mut().forget_widths();
        rows::rebuild(state, Cause::Filter);
    }
}

fn close(state: &mut State) {
    match state.layers.pop() {
        Some(Layer::Confirm(_)) => state.toast(Tone::Good, "nothing was done"),
        Some(Layer::Filter(_)) => line::finish_filter(state),
        _ => {}
    }
}

/// Back one level; at the root it ends the console, when asked twice.
pub(super) fn quit(state: &mut State) -> Vec<Effect> {
    if state.quit_until.is_some() {
        return vec![Effect::Quit];
    }
    if !state.filter.terms().is_empty() {
        return list::drill_out(state);
    }
    state.quit_until = Some(state.now.mono + QUIT_WITHIN);
    Vec::new()
}

/// Ctrl-c: closes what is on top, breaks off what runs; twice ends the console.
pub(super) fn interrupt(state: &mut State) -> Vec<Effect> {
    if state.interrupt_until.is_some() {
        return vec![Effect::Quit];
    }
    state.interrupt_until = Some(state.now.mono + INTERRUPT_WITHIN);
    if !state.layers.is_empty() {
        close(state);
        return Vec::new();
    }
    let running: Vec<_> = state.running.drain(..).collect();
    if running.is_empty() {
        return Vec::new();
    }
    state.toast(
        Tone::Warning,
        "broken off: what had begun may still be done, the rows will tell",
    );
    running
        .into_iter()
        .map(|it| Effect::Cancel(it.ticket))
        .collect()
}
