//! The link to the registry on the status line: its words with their sign and color.

use skynet::registry::link::Link;

use crate::link::{SLOW_AFTER, words};
use crate::theme::{Glyphs, Role};
use crate::tui::state::State;

/// The words for the status line, the whole first, the shortest last.
pub(super) fn texts(state: &State, glyphs: Glyphs) -> (Vec<String>, Role) {
    let now = state.now.mono;
    let (sign, role) = match state.link {
        Link::Live { .. } if state.link.age(now) < SLOW_AFTER => (glyphs.pick("●", "*"), Role::Ok),
        Link::Live { .. } => (glyphs.pick("◐", "%"), Role::Warn),
        Link::Connecting { .. } | Link::Cached { .. } => (glyphs.pick("◌", "o"), Role::Warn),
        Link::Protected { .. } => (glyphs.pick("◑", "%"), Role::Warn),
        Link::Unknown { .. } => (glyphs.pick("✗", "x"), Role::Bad),
        Link::Lost { .. } => (glyphs.pick("○", "o"), Role::Bad),
    };
    let words = words(&state.link, now, state.now.wall);
    let mut texts: Vec<String> = words
        .iter()
        .map(|words| format!("{sign} {words}"))
        .collect();
    if matches!(
        state.link,
        Link::Lost { .. } | Link::Cached { .. } | Link::Unknown { .. }
    ) {
        let with_key: Vec<String> = texts
            .iter()
            .map(|text| format!("{text} (r: now)"))
            .collect();
        texts = with_key
            .into_iter()
            .zip(texts)
            .flat_map(|(with, without)| [with, without])
            .collect();
    }
    if matches!(state.link, Link::Live { .. } | Link::Connecting { .. }) {
        texts.push(sign.to_owned());
    }
    (texts, role)
}

/// When the data were whole for the last time, as a time in UTC; `None` when there are none.
pub(super) fn data_of(state: &State) -> Option<String> {
    if state.snapshot.is_empty() && state.totals.hosts == 0 {
        return None;
    }
    if let Link::Cached { written, .. } = state.link {
        return Some(written.strftime("%F %H:%M:%SZ").to_string());
    }
    let then = state.wall_before(state.link.age(state.now.mono));
    Some(then.strftime("%H:%M:%SZ").to_string())
}
