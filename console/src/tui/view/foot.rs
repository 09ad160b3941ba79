//! The lines below the table: the demo's traffic, and the keys that count now.
//!
//! Invariants: the keys are those of the table of bindings; what does not fit is left out whole.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::pen::Pen;
use crate::theme::{Role, Theme};
use crate::tui::action::{BINDINGS, Mode};
use crate::tui::format::{grouped, width};
use crate::tui::layout::{Regions, Shape};
use crate::tui::state::State;
use crate::tui::update::mode;

pub(super) fn draw(state: &State, theme: &Theme, buffer: &mut Buffer, regions: &Regions) {
    traffic(state, theme, buffer, regions.traffic);
    hints(state, theme, buffer, regions);
}

fn traffic(state: &State, theme: &Theme, buffer: &mut Buffer, area: Rect) {
    let Some(traffic) = &state.traffic else {
        return;
    };
    let muted = theme.style(Role::Muted);
    let mut pen = Pen::new(buffer, area);
    pen.skip(1).text("traffic  ", muted);
    pen.text(&grouped(traffic.sent), theme.style(Role::Text))
        .text(" sent  ", muted);
    pen.text(&grouped(traffic.ok), theme.style(Role::Ok))
        .text(" ok  ", muted);
    let role = if traffic.failed > 0 {
        Role::Bad
    } else {
        Role::Text
    };
    pen.text(&grouped(traffic.failed), theme.style(role))
        .text(" failed", muted);
    if let Some(error) = &traffic.last_error {
        pen.text("  last error: ", muted)
            .text(error, theme.style(Role::Text));
    }
}

fn hints(state: &State, theme: &Theme, buffer: &mut Buffer, regions: &Regions) {
    let mut pen = Pen::new(buffer, regions.hints);
    let total = state.rows.list.len();
    let row = state.table().selected.map_or(0, |index| index + 1);
    let text = match regions.shape {
        Shape::Wide => format!("row {row} of {total} "),
        Shape::Narrow | Shape::Tiny => format!("{row}/{total} "),
    };
    pen.right(&text, theme.style(Role::Muted));
    let unreadable = state.snapshot.unreadable();
    if unreadable > 0 {
        let text = format!(" {unreadable} unreadable  ");
        pen.right(&text, theme.style(Role::Warn));
    }
    pen.skip(1);
    if state.quit_until.is_some() {
        pen.text("q again to quit", theme.style(Role::Warn));
        return;
    }
    if state.interrupt_until.is_some() {
        pen.text("Ctrl-c again to quit", theme.style(Role::Warn));
        return;
    }
    for key in &state.pending {
        pen.text(&format!("{key}…"), theme.style(Role::Warn))
            .skip(1);
    }
    for (key, word) in keys(mode(state)) {
        let needed = width(&key) + width(word) + 1;
        if needed + 1 > pen.room() {
            break;
        }
        pen.text(&key, theme.style(Role::Key))
            .text(":", theme.style(Role::Muted))
            .text(word, theme.style(Role::Muted))
            .skip(2);
    }
}

/// The keys that are told at the foot in a mode.
fn keys(mode: Mode) -> impl Iterator<Item = (String, &'static str)> {
    BINDINGS
        .iter()
        .filter(move |binding| binding.mode == mode)
        .filter_map(|binding| {
            let key = binding.keys.first()?;
            Some((key.replace(' ', ""), binding.hint?))
        })
}
