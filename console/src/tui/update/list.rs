//! Views, moves, drilling, the order, and the texts over the table.

use std::sync::Arc;

use skynet::query::Field;

use crate::tui::action::Motion;
use crate::tui::columns::Column;
use crate::tui::effect::Effect;
use crate::tui::layout::layout;
use crate::tui::rows::{self, Cause, window};
use crate::tui::state::layer::Layer;
use crate::tui::state::row::{Row, RowKey};
use crate::tui::state::table::Sort;
use crate::tui::state::{State, Tone, ViewKind};

pub(super) fn show(state: &mut State, view: ViewKind) -> Vec<Effect> {
    if state.view != view {
        state.view = view;
        rebuild(state);
    }
    Vec::new()
}

/// Another view, other rows: nothing of the old ones lingers.
pub(super) fn rebuild(state: &mut State) {
    state.rows.list.clear();
    state.rows.ghosts.clear();
    state.table_mut().forget_widths();
    rows::rebuild(state, Cause::View);
}

/// Moves in whatever lies on top.
pub(super) fn go(state: &mut State, motion: Motion) -> Vec<Effect> {
    let page = usize::from(state.size.1.saturating_sub(4)).max(1);
    let columns = Column::of(state.view)
        .iter()
        .filter(|column| column.sorts())
        .count();
    match state.layers.last_mut() {
        None => window::go(state, motion),
        Some(Layer::Help(offset)) => *offset = moved(*offset, motion, usize::MAX, page),
        Some(Layer::Reading(reading)) => {
            reading.offset = moved(reading.offset, motion, reading.lines.len(), page);
        }
        Some(Layer::Confirm(confirm)) => {
            confirm.offset = moved(confirm.offset, motion, confirm.lines.len(), page);
        }
        Some(Layer::Sort(chosen)) => *chosen = moved(*chosen, motion, columns, page),
        Some(Layer::Menu(chosen)) => {
            *chosen = moved(*chosen, motion, super::change::MENU.len(), page);
        }
        Some(Layer::Filter(completions)) => super::line::choose(completions, motion),
        Some(Layer::Statement(statement)) => {
            super::line::choose(&mut statement.completions, motion);
        }
        Some(Layer::Deploy(_)) => {}
    }
    clamp_help(state);
    Vec::new()
}

/// Help is as long as the table of keys; its end is known only from there.
fn clamp_help(state: &mut State) {
    let len = crate::tui::view::help::lines().len();
    if let Some(Layer::Help(offset)) = state.layers.last_mut() {
        *offset = (*offset).min(len.saturating_sub(1));
    }
}

fn moved(at: usize, motion: Motion, len: usize, page: usize) -> usize {
    let last = len.saturating_sub(1);
    let half = (page / 2).max(1);
    match motion {
        Motion::Down => at.saturating_add(1),
        Motion::Up => at.saturating_sub(1),
        Motion::First => 0,
        Motion::Last => last,
        Motion::HalfDown => at.saturating_add(half),
        Motion::HalfUp => at.saturating_sub(half),
        Motion::PageDown => at.saturating_add(page),
        Motion::PageUp => at.saturating_sub(page),
    }
    .min(last)
}

pub(super) fn drill_in(state: &mut State) -> Vec<Effect> {
    let Some(key) = window::under_cursor(state).map(Row::key) else {
        return Vec::new();
    };
    let (added, to): (Vec<(Field, Arc<str>)>, ViewKind) = match key {
        RowKey::Instance(_) => {
            if layout(state).detail.height == 0 {
                state.preview = true;
                window::settle(state);
            }
            state.toast(
                Tone::Good,
                "an instance has nothing below it: `x` acts on it",
            );
            return Vec::new();
        }
        RowKey::Region(region) => (vec![(Field::Region, region)], ViewKind::Hosts),
        RowKey::Host(host) => (vec![(Field::Host, host)], ViewKind::Instances),
        RowKey::Service(service) => (vec![(Field::Service, service)], ViewKind::Versions),
        RowKey::Version(service, version) => (
            vec![(Field::Service, service), (Field::Version, version)],
            ViewKind::Instances,
        ),
    };
    // What an earlier step has said already is not said twice.
    let said = |field: Field, value: &Arc<str>| {
        state
            .filter
            .terms()
            .iter()
            .any(|term| term.field == field && term.value == *value)
    };
    let added: Vec<(Field, Arc<str>)> = added
        .into_iter()
        .filter(|(field, value)| !said(*field, value))
        .collect();
    let from = state.view;
    state.filter.drill(from, &added);
    state.view = to;
    let table = state.table_mut();
    table.cursor = None;
    table.touched = false;
    table.anchor = 0;
    rebuild(state);
    Vec::new()
}

pub(super) fn drill_out(state: &mut State) -> Vec<Effect> {
    match state.filter.undrill() {
        Some(view) => {
            state.view = view;
            rebuild(state);
        }
        None => state.toast(
            Tone::Good,
            "nothing to go back to: the whole cluster is shown",
        ),
    }
    Vec::new()
}

pub(super) fn choose_sort(state: &mut State) -> Vec<Effect> {
    let sort = state.table().sort.column;
    let chosen = sortable(state.view)
        .iter()
        .position(|column| *column == sort);
    state.layers.push(Layer::Sort(chosen.unwrap_or(0)));
    Vec::new()
}

/// The columns by which the view can be ordered.
pub fn sortable(view: ViewKind) -> Vec<Column> {
    Column::of(view)
        .iter()
        .copied()
        .filter(|column| column.sorts())
        .collect()
}

pub(super) fn accept_sort(state: &mut State) -> Vec<Effect> {
    if let Some(Layer::Sort(chosen)) = state.layers.pop()
        && let Some(column) = sortable(state.view).get(chosen).copied()
    {
        let sort = state.table().sort;
        // The chosen column once more turns it round; of a measured one the greatest come first.
        let descending = if sort.column == column {
            !sort.descending
        } else {
            column.is_measured() && column != Column::Last
        };
        set_sort(state, Sort { column, descending });
    }
    Vec::new()
}

pub(super) fn invert_sort(state: &mut State) -> Vec<Effect> {
    let sort = state.table().sort;
    set_sort(
        state,
        Sort {
            descending: !sort.descending,
            ..sort
        },
    );
    Vec::new()
}

fn set_sort(state: &mut State, sort: Sort) {
    let table = state.table_mut();
    table.sort = sort;
    table.forget_widths();
    rows::rebuild(state, Cause::View);
}

pub(super) fn toggle_preview(state: &mut State) -> Vec<Effect> {
    state.preview = !state.preview;
    window::settle(state);
    if state.preview && layout(state).detail.height == 0 {
        state.toast(Tone::Warning, "the screen is too small for details");
    }
    Vec::new()
}

pub(super) fn help(state: &mut State) -> Vec<Effect> {
    state.layers.push(Layer::Help(0));
    Vec::new()
}
