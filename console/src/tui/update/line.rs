//! Lines that are edited: the filter, statements, typed answers; and their completions.
//!
//! Invariants: the rows follow the filter at every key, and a filter that is broken leaves them as
//! they are; a statement does nothing before Enter.

use skynet::query::complete::{Candidate, Completer};
use skynet::query::rows::{Known, StatsTable};
use skynet::query::{Grammar, Listing, Query, Statement, parse};

use super::{change, list};
use crate::tui::action::{Edit, Motion};
use crate::tui::effect::Effect;
use crate::tui::rows::{self, Cause};
use crate::tui::state::layer::{Completions, Layer, Reading, StatementLine};
use crate::tui::state::line::Line;
use crate::tui::state::{State, Tone, ViewKind};
use crate::tui::topology;

pub(super) fn edit_filter(state: &mut State) -> Vec<Effect> {
    state.layers.push(Layer::Filter(Completions::default()));
    Vec::new()
}

pub(super) fn edit_statement(state: &mut State) -> Vec<Effect> {
    state.layers.push(Layer::Statement(Box::default()));
    statement_changed(state);
    Vec::new()
}

pub(super) fn insert(state: &mut State, text: &str) -> Vec<Effect> {
    match state.layers.last_mut() {
        Some(Layer::Filter(_)) => {
            let changed = state.filter.insert(text);
            filter_changed(state, changed);
        }
        Some(Layer::Statement(statement)) => {
            statement.line.insert(text);
            statement_changed(state);
        }
        Some(Layer::Confirm(confirm)) => confirm.typed.insert(text),
        Some(Layer::Deploy(prompt)) => {
            prompt.line.insert(text);
            prompt.problem = None;
        }
        Some(Layer::Help(_) | Layer::Reading(_) | Layer::Sort(_) | Layer::Menu(_)) | None => {}
    }
    Vec::new()
}

pub(super) fn edit(state: &mut State, edit: Edit) -> Vec<Effect> {
    match state.layers.last_mut() {
        Some(Layer::Filter(_)) => {
            let changed = state.filter.edit(edit);
            filter_changed(state, changed);
        }
        Some(Layer::Statement(statement)) => {
            if edit == Edit::Backspace && statement.line.text().is_empty() {
                state.layers.pop();
            } else {
                statement.line.edit(edit);
                statement_changed(state);
            }
        }
        Some(Layer::Confirm(confirm)) => confirm.typed.edit(edit),
        Some(Layer::Deploy(prompt)) => prompt.line.edit(edit),
        Some(Layer::Help(_) | Layer::Reading(_) | Layer::Sort(_) | Layer::Menu(_)) | None => {}
    }
    Vec::new()
}

/// The filter's text may have changed: rows and completions follow.
fn filter_changed(state: &mut State, changed: bool) {
    if changed {
        state.table_mut().forget_widths();
        rows::rebuild(state, Cause::Filter);
    }
    let line = state.filter.line();
    let offered = if line.text().is_empty() {
        Vec::new()
    } else {
        offer(state, line, Grammar::Query)
    };
    if let Some(Layer::Filter(completions)) = state.layers.last_mut() {
        *completions = Completions {
            candidates: offered,
            chosen: None,
        };
    }
}

/// The statement's text may have changed: parse and completions follow.
fn statement_changed(state: &mut State) {
    let Some(Layer::Statement(statement)) = state.layers.last() else {
        return;
    };
    let offered = offer(state, &statement.line, Grammar::Statement);
    if let Some(Layer::Statement(statement)) = state.layers.last_mut() {
        statement.refused = false;
        statement.parsed = parse(statement.line.text());
        statement.completions = Completions {
            candidates: offered,
            chosen: None,
        };
    }
}

/// What could stand at the cursor, unless it stands there already; narrowed by the steps down.
fn offer(state: &State, line: &Line, grammar: Grammar) -> Vec<Candidate> {
    let unasked = StatsTable::new();
    let known = Known::new(&state.snapshot, &unasked, state.now.wall);
    let steps = state.filter.steps();
    let offered =
        Completer::new(known)
            .within(&steps)
            .complete(line.text(), line.cursor(), grammar);
    match offered.as_slice() {
        [only] if only.span.of(line.text()) == only.text => Vec::new(),
        _ => offered,
    }
}

/// Chooses among completions.
pub(super) fn choose(completions: &mut Completions, motion: Motion) {
    let Some(last) = completions.candidates.len().checked_sub(1) else {
        return;
    };
    completions.chosen = match (motion, completions.chosen) {
        (Motion::Down, None) | (Motion::First, _) => Some(0),
        (Motion::Down, Some(at)) => Some(if at == last { 0 } else { at + 1 }),
        (Motion::Up, None) | (Motion::Last, _) => Some(last),
        (Motion::Up, Some(at)) => Some(at.checked_sub(1).unwrap_or(last)),
        (Motion::HalfDown | Motion::PageDown, at) => Some(at.map_or(0, |at| at + 8).min(last)),
        (Motion::HalfUp | Motion::PageUp, at) => Some(at.map_or(0, |at| at.saturating_sub(8))),
    };
}

/// Tab: takes the chosen completion, or the best; asks for completions when none are shown.
pub(super) fn complete(state: &mut State) -> Vec<Effect> {
    if let Some(candidate) = chosen(state, true) {
        take(state, &candidate);
        return Vec::new();
    }
    let offered = offer(state, state.filter.line(), Grammar::Query);
    if let Some(Layer::Filter(completions)) = state.layers.last_mut() {
        completions.candidates = offered;
    } else {
        statement_changed(state);
    }
    Vec::new()
}

fn chosen(state: &State, or_best: bool) -> Option<Candidate> {
    let completions = match state.layers.last()? {
        Layer::Filter(completions) => completions,
        Layer::Statement(statement) => &statement.completions,
        _ => return None,
    };
    let index = completions.chosen.or(or_best.then_some(0))?;
    completions.candidates.get(index).cloned()
}

fn take(state: &mut State, candidate: &Candidate) {
    let (start, end) = (candidate.span.start, candidate.span.end);
    match state.layers.last_mut() {
        Some(Layer::Filter(_)) => {
            let changed = state.filter.replace(start, end, &candidate.text);
            filter_changed(state, changed);
        }
        Some(Layer::Statement(statement)) => {
            statement.line.replace(start, end, &candidate.text);
            statement_changed(state);
        }
        _ => {}
    }
}

/// Enter: takes the chosen completion, or else leaves the filter or carries the statement out.
pub(super) fn accept(state: &mut State) -> Vec<Effect> {
    if let Some(candidate) = chosen(state, false) {
        take(state, &candidate);
        return Vec::new();
    }
    match state.layers.pop() {
        Some(Layer::Statement(statement)) => carry_out(state, statement),
        Some(Layer::Filter(_)) | None => {
            finish_filter(state);
            Vec::new()
        }
        Some(other) => {
            state.layers.push(other);
            Vec::new()
        }
    }
}

/// The filter's line is left: what waited counts.
pub(super) fn finish_filter(state: &mut State) {
    if state.filter.finish() {
        state.table_mut().forget_widths();
        rows::rebuild(state, Cause::Filter);
    }
}

fn carry_out(state: &mut State, mut statement: Box<StatementLine>) -> Vec<Effect> {
    match statement.line.text().trim() {
        "" => return Vec::new(),
        "q" | "quit" | "exit" => return vec![Effect::Quit],
        "help" => return list::help(state),
        _ => {}
    }
    match statement.parsed.statement.clone() {
        None => {
            statement.refused = true;
            statement.completions = Completions::default();
            state.layers.push(Layer::Statement(statement));
            Vec::new()
        }
        Some(Statement::Change { verb, query }) if query.is_all() => {
            change::under_cursor(state, verb)
        }
        Some(Statement::Change { verb, query }) => change::matching(state, verb, &query),
        Some(Statement::Listing { listing, query }) => {
            show(state, listing, &query);
            Vec::new()
        }
        Some(Statement::Query(query)) => {
            state.filter.set_text(&query.to_string());
            rows::rebuild(state, Cause::Filter);
            Vec::new()
        }
    }
}

/// A listing shows its view; with a query it replaces the whole filter.
fn show(state: &mut State, listing: Listing, query: &Query) {
    if !query.is_all() {
        state.filter.clear_terms();
        state.filter.set_text(&query.to_string());
    }
    if let Some(view) = ViewKind::of(listing) {
        state.view = view;
        list::rebuild(state);
        return;
    }
    rows::rebuild(state, Cause::Filter);
    let lines = topology::lines(rows::selected(state));
    if lines.is_empty() {
        state.toast(Tone::Warning, "nothing matches the filter");
    } else {
        state.layers.push(Layer::Reading(Box::new(Reading {
            title: "Topology".to_owned(),
            lines,
            offset: 0,
        })));
    }
}
