//! From the state to cells: nothing here can change the state.
//!
//! Invariants: everything stands where [`layout`] says; only rows on the
//! screen are built; no control character reaches a cell, whoever wrote the text (all text goes
//! through [`pen`]). Knows no terminal: it draws into a buffer.

mod alarm;
mod detail;
mod foot;
mod head;
pub mod help;
mod link;
mod modal;
mod pen;
mod query_bar;
mod table;
mod toast;

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use super::format;
use super::layout::{Shape, layout};
use super::state::State;
use super::state::layer::Layer;
use crate::theme::{Role, Theme};
use pen::Pen;

/// Draws the whole screen; returns where the terminal's cursor stands, if it is to be seen.
///
/// The buffer's area is the state's size, from the upper left corner.
pub fn view(state: &State, theme: &Theme, buffer: &mut Buffer) -> Option<Position> {
    let regions = layout(state);
    if regions.shape == Shape::Tiny {
        tiny(state, theme, buffer, regions.status);
        return None;
    }
    head::draw(state, theme, buffer, &regions);
    table::draw(state, theme, buffer, &regions);
    detail::draw(state, theme, buffer, &regions);
    foot::draw(state, theme, buffer, &regions);
    alarm::draw(state, theme, buffer, regions.alarm);
    // A message must not hide an alarm.
    let toasts_end = regions.hints.y - regions.alarm.height;
    let mut cursor = query_bar::draw(state, theme, buffer, &regions);
    toast::draw(state, theme, buffer, toasts_end);
    let screen = *buffer.area();
    for layer in &state.layers {
        match layer {
            Layer::Filter(_) | Layer::Statement(_) => {}
            Layer::Help(offset) => help::draw(*offset, theme, buffer, screen),
            other => cursor = modal::draw(state, other, theme, buffer, regions.body),
        }
    }
    // A toast that answers a key in a dialog must not hide below it.
    if !state.layers.is_empty() {
        toast::draw(state, theme, buffer, toasts_end);
    }
    if let Some(layer) = state.layers.last() {
        query_bar::draw_completions(state, layer, theme, buffer, &regions);
    }
    cursor.filter(|position| screen.contains(*position))
}

/// What is left of the console on a screen that is too small.
fn tiny(state: &State, theme: &Theme, buffer: &mut Buffer, area: Rect) {
    let real = state.rows.real();
    let total = state.totals.of(state.view);
    let mut pen = Pen::new(buffer, area);
    if !state.snapshot.alarms().is_empty() {
        let sign = alarm::sign(theme.glyphs);
        pen.text(sign, theme.style(Role::Bad)).skip(1);
    }
    let text = format!("sky {real}/{total} — enlarge");
    pen.text(&text, theme.style(Role::Text));
}

/// The screen as text, one line for each row, for `sky top --snapshot` and tests. The state's own
/// size is the screen's.
pub fn snapshot_frame(state: &State, theme: &Theme) -> String {
    let (width, height) = state.size;
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    view(state, theme, &mut buffer);
    let mut text = String::new();
    for y in 0..height {
        let mut line = String::new();
        let mut skipped = 0;
        for x in 0..width {
            if skipped > 0 {
                skipped -= 1;
                continue;
            }
            let Some(cell) = buffer.cell(Position::new(x, y)) else {
                continue;
            };
            skipped = format::width(cell.symbol()).saturating_sub(1);
            line.push_str(cell.symbol());
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
