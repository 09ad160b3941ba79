//! The part of the rows that is on the screen, and the cursor's moves.
//!
//! Invariants: the cursor's row is on the screen whenever there are rows and room; an offset never
//! leaves empty lines at the end while rows above are hidden; moving forgets what lingered only
//! because the cursor was on it.

use std::time::Duration;

use super::super::action::Motion;
use super::super::cells::cell;
use super::super::columns::Column;
use super::super::format;
use super::super::layout::{Shape, layout};
use super::super::state::State;
use super::super::state::row::{Lingering, Row};
use crate::theme::Glyphs;

/// How long an untouched console stays at its first row.
const FRESH: Duration = Duration::from_secs(3);

/// The rows on the screen.
pub fn visible(state: &State) -> &[Row] {
    let height = usize::from(layout(state).body.height);
    let offset = state.table().offset.min(state.rows.list.len());
    let end = (offset + height).min(state.rows.list.len());
    &state.rows.list[offset..end]
}

/// The row under the cursor.
pub fn under_cursor(state: &State) -> Option<&Row> {
    state.rows.list.get(state.table().selected?)
}

/// Makes index, offset and widths follow from the cursor's identity and its row on the screen.
pub fn settle(state: &mut State) {
    let height = usize::from(layout(state).body.height);
    let len = state.rows.list.len();
    let table = state.table();
    let found = table
        .cursor
        .as_ref()
        .and_then(|key| state.rows.list.iter().position(|row| row.is(key)));
    // A console that has just been opened and that nobody has touched stays at the first row, while
    // the cluster is read or comes up; after that the cursor keeps its identity, moved or not.
    let fresh = state.now.mono.saturating_duration_since(state.opened) < FRESH;
    let found = found.filter(|_| table.touched || !fresh);
    let index = found.or((len > 0).then_some(0));
    let key = index
        .and_then(|index| state.rows.list.get(index))
        .map(Row::key);
    let touched = table.touched && found.is_some();
    let anchor = table.anchor.min(height.saturating_sub(1));
    let last_offset = len.saturating_sub(height);
    let offset = match index {
        Some(index) if touched => index.saturating_sub(anchor).min(last_offset),
        Some(index) => index
            .saturating_sub(height.saturating_sub(1))
            .min(last_offset),
        None => 0,
    };
    let table = state.table_mut();
    table.cursor = key;
    table.selected = index;
    table.offset = offset;
    if let Some(index) = index {
        table.anchor = index - offset;
    }
    widen(state);
}

/// Moves the cursor.
pub fn go(state: &mut State, motion: Motion) {
    let len = state.rows.list.len();
    let Some(last) = len.checked_sub(1) else {
        return;
    };
    let height = usize::from(layout(state).body.height).max(1);
    let half = (height / 2).max(1);
    let at = state.table().selected.unwrap_or(0);
    let target = match motion {
        Motion::Down => at.saturating_add(1),
        Motion::Up => at.saturating_sub(1),
        Motion::First => 0,
        Motion::Last => last,
        Motion::HalfDown => at.saturating_add(half),
        Motion::HalfUp => at.saturating_sub(half),
        Motion::PageDown => at.saturating_add(height),
        Motion::PageUp => at.saturating_sub(height),
    }
    .min(last);
    move_to(state, target);
}

/// Puts the cursor on the row with this index.
pub fn move_to(state: &mut State, target: usize) {
    let height = usize::from(layout(state).body.height).max(1);
    let now = state.now.mono;
    let Some(key) = state.rows.list.get(target).map(Row::key) else {
        return;
    };
    let table = state.table_mut();
    let offset = table
        .offset
        .clamp((target + 1).saturating_sub(height), target);
    let left = (table.cursor.as_ref() != Some(&key))
        .then(|| table.cursor.replace(key))
        .flatten();
    table.trace = None;
    table.touched = true;
    table.moved = Some(now);
    table.selected = Some(target);
    table.offset = offset;
    table.anchor = target - offset;
    // A row that stayed only because the cursor was on it goes with the next order.
    if left.is_some_and(|key| state.rows.lingering(&key) == Some(Lingering::Unmatched)) {
        state.rows.pending = true;
    }
    widen(state);
}

/// Lets columns grow to what is on the screen.
fn widen(state: &mut State) {
    if layout(state).shape == Shape::Tiny {
        return;
    }
    let view = state.view;
    let mut widths = state.table().widths;
    for row in visible(state) {
        for column in Column::of(view) {
            // The glyphs of Unicode are never wider than those of ASCII by more than what the
            // least widths allow for; both sets are measured so that either fits.
            let unicode = format::width(&cell(state, row, *column, Glyphs::Unicode).text);
            let ascii = match column {
                Column::Registered => format::width(&cell(state, row, *column, Glyphs::Ascii).text),
                _ => 0,
            };
            let widest = &mut widths[*column as usize];
            *widest = (*widest).max(unicode).max(ascii);
        }
    }
    state.table_mut().widths = widths;
}
