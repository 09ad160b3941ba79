//! What is said of the link to the registry.
//!
//! Invariants: a live link has no age; a lost one says how old the data are and when it is tried.

use skynet::registry::link::Link;

use crate::theme::{Glyphs, Role};
use crate::tui::state::State;
use crate::tui::update::timers::SLOW_AFTER;

/// The words for the status line, the whole and the short.
pub(super) fn words(state: &State, glyphs: Glyphs) -> (String, String, Role) {
    let now = state.now.mono;
    let age = state.link.age(now);
    let seconds = age.as_secs();
    match state.link {
        Link::Connecting { .. } => {
            let sign = glyphs.pick("◌", "o");
            (
                format!("{sign} connecting {seconds}s"),
                sign.to_owned(),
                Role::Warn,
            )
        }
        Link::Live { .. } if age < SLOW_AFTER => {
            let sign = glyphs.pick("●", "*");
            (format!("{sign} live"), sign.to_owned(), Role::Ok)
        }
        Link::Live { .. } => {
            let sign = glyphs.pick("◐", "%");
            (
                format!("{sign} slow {seconds}s"),
                sign.to_owned(),
                Role::Warn,
            )
        }
        Link::Lost { retry_at, .. } => {
            let sign = glyphs.pick("○", "o");
            let retry = retry_at.saturating_duration_since(now).as_secs();
            let retry = if retry == 0 {
                "trying".to_owned()
            } else {
                format!("retry in {retry}s")
            };
            (
                format!("{sign} lost {seconds}s, {retry} (r: now)"),
                format!("{sign} lost {seconds}s"),
                Role::Bad,
            )
        }
    }
}

/// When the data were whole for the last time, as a time of day in UTC.
pub(super) fn data_of(state: &State) -> String {
    let age = state.link.age(state.now.mono);
    let then = jiff::SignedDuration::try_from(age)
        .ok()
        .and_then(|age| state.now.wall.checked_sub(age).ok())
        .unwrap_or(state.now.wall);
    then.strftime("%H:%M:%SZ").to_string()
}
