//! The line about services of which more than half vanished at once.
//!
//! Invariants: it stands wherever a table does; of several alarms the worst is told and the others are
//! counted; what has no room is left out from the end of the sentence and then from the name, never
//! from the numbers.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use skynet::registry::snapshot::Alarm;

use super::pen::Pen;
use crate::theme::{Glyphs, Role, Theme};
use crate::tui::format::{clean, fit, width};
use crate::tui::state::State;

/// So many cells of a name are worth more than the end of the sentence.
const NAME: u16 = 16;

/// What an alarm begins with.
pub(super) fn sign(glyphs: Glyphs) -> &'static str {
    glyphs.pick("▲", "!")
}

pub(super) fn draw(state: &State, theme: &Theme, buffer: &mut Buffer, area: Rect) {
    let Some((service, alarm)) = state.snapshot.worst_alarm() else {
        return;
    };
    let style = theme.style(Role::Bad);
    let mut pen = Pen::new(buffer, area);
    pen.skip(1);
    let others = state.snapshot.alarms().len() - 1;
    if others > 0 {
        pen.right(&format!("  +{others} "), style);
    }
    pen.text(sign(theme.glyphs), style).skip(1);
    let name = clean(service);
    let told = told(state, alarm);
    // A long name gives way before the sentence does.
    let least = width(&name).min(NAME);
    let fits = |text: &&String| least.saturating_add(width(text)) <= pen.room();
    let text = told.iter().find(fits).or(told.last());
    let text = text.map_or("", String::as_str);
    let room = pen.room().saturating_sub(width(text));
    pen.text(&fit(&name, room), style).text(text, style);
}

/// What is said behind the name, the whole first.
fn told(state: &State, alarm: Alarm) -> Vec<String> {
    let Alarm {
        vanished,
        of,
        since,
    } = alarm;
    let age = state.now.mono.saturating_duration_since(since);
    let hold = humantime::format_duration(Alarm::HOLD);
    let since = state.wall_before(age).strftime("%H:%M:%SZ");
    // Only a registry that answers can be believed.
    let key = if state.link.is_connected() {
        " (r: believe it)"
    } else {
        ""
    };
    vec![
        format!(": {vanished} of {of} vanished at once at {since}, kept {hold} at most{key}"),
        format!(": {vanished} of {of} vanished at once at {since}, kept{key}"),
        format!(": {vanished} of {of} vanished at once, kept{key}"),
        format!(": {vanished} of {of} vanished{key}"),
        format!(": {vanished} of {of} vanished"),
        format!(": {vanished} of {of}"),
    ]
}
