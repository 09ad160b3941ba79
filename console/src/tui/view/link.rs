//! What is said of the link to the registry.
//!
//! Invariants: a live link has no age; a lost one says how old the data are and when it is tried;
//! one that is protected says for how long.

use skynet::registry::link::{Doubt, Link};
use tokio::time::Instant;

use crate::theme::{Glyphs, Role};
use crate::tui::format::ago;
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
        Link::Cached { written, .. } => {
            let sign = glyphs.pick("◌", "o");
            let old = ago(state.age(written));
            (
                format!("{sign} no answer, data {old} old (r: now)"),
                format!("{sign} {old} old"),
                Role::Warn,
            )
        }
        Link::Protected { until, why, .. } => {
            let sign = glyphs.pick("◑", "%");
            let left = until.saturating_duration_since(now).as_secs();
            let why = match why {
                Doubt::AnotherRegistry => "another registry",
                Doubt::Wiped => "wiped",
                Doubt::WentBack => "put back",
            };
            (
                format!("{sign} {why}, nothing is removed for {left}s"),
                format!("{sign} {why} {left}s"),
                Role::Warn,
            )
        }
        Link::Unknown {
            retry_at, format, ..
        } => {
            let sign = glyphs.pick("✗", "x");
            let retry = retry(retry_at, now);
            (
                format!("{sign} format {format} is not known here, {retry}"),
                format!("{sign} format {format}"),
                Role::Bad,
            )
        }
        Link::Lost { retry_at, .. } => {
            let sign = glyphs.pick("○", "o");
            let retry = retry(retry_at, now);
            (
                format!("{sign} lost {seconds}s, {retry} (r: now)"),
                format!("{sign} lost {seconds}s"),
                Role::Bad,
            )
        }
    }
}

fn retry(at: Instant, now: Instant) -> String {
    match at.saturating_duration_since(now).as_secs() {
        0 => "trying".to_owned(),
        seconds => format!("retry in {seconds}s"),
    }
}

/// When the data were whole for the last time, as a time in UTC; `None` when there are none.
pub(super) fn data_of(state: &State) -> Option<String> {
    if state.snapshot.is_empty() && state.totals.hosts == 0 {
        return None;
    }
    if let Link::Cached { written, .. } = state.link {
        return Some(written.strftime("%F %H:%M:%SZ").to_string());
    }
    let age = state.link.age(state.now.mono);
    let then = jiff::SignedDuration::try_from(age)
        .ok()
        .and_then(|age| state.now.wall.checked_sub(age).ok())
        .unwrap_or(state.now.wall);
    Some(then.strftime("%H:%M:%SZ").to_string())
}
