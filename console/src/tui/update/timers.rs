//! When the state changes by itself: the loop sleeps until then, and no longer.
//!
//! Invariants: nothing on the screen changes by time alone but what is asked for here; when nothing
//! is asked for, the console sleeps until something happens. Pure.

use std::time::Duration;

use skynet::registry::link::Link;
use tokio::time::Instant;

use super::data;
use crate::link::SLOW_AFTER;
use crate::tui::cells::present;
use crate::tui::format::until_next_minute;
use crate::tui::rows::{self, NEW_FOR, window};
use crate::tui::state::State;
use crate::tui::state::row::Row;

/// A little more than needed, so that a wake is never a moment too early.
const SLACK: Duration = Duration::from_millis(2);

/// When the next action of time is due, if time alone changes anything.
pub fn next_wake(state: &State) -> Option<Instant> {
    let measures = data::needs_measures(state).then(|| state.measures.due());
    [
        measures,
        data::settles_at(state),
        rows::next_ghost_end(state),
        state.toasts.iter().map(|toast| toast.until).min(),
        state.quit_until,
        state.interrupt_until,
        Some(link_change(state)),
        age_change(state),
    ]
    .into_iter()
    .flatten()
    .min()
    .map(|at| at.max(state.now.mono) + SLACK)
}

/// When the words about the link change: only one that is not live counts seconds.
fn link_change(state: &State) -> Instant {
    let now = state.now.mono;
    let since = match state.link {
        Link::Live { heard } if now < heard + SLOW_AFTER => return heard + SLOW_AFTER,
        Link::Live { heard } => heard,
        // Counts down.
        Link::Protected { until, .. } => {
            let left = until.saturating_duration_since(now);
            return now + Duration::from_nanos(u64::from(left.subsec_nanos()).max(1));
        }
        Link::Connecting { since }
        | Link::Cached { since, .. }
        | Link::Lost { since, .. }
        | Link::Unknown { since, .. } => since,
    };
    let age = now.saturating_duration_since(since);
    since + Duration::from_secs(age.as_secs() + 1)
}

/// When the age of a row on the screen changes.
fn age_change(state: &State) -> Option<Instant> {
    let now = state.now.mono;
    window::visible(state)
        .iter()
        .filter_map(|row| match row {
            Row::Instance(instance) => Some(present(state, instance)),
            Row::Group(_) => None,
        })
        .map(|instance| {
            let age = state.age(instance.started);
            let last = state
                .measures
                .of(instance.id())
                .and_then(|measure| measure.last)
                .map(|last| until_next_minute(state.age(last)));
            let own = if age < NEW_FOR {
                NEW_FOR.saturating_sub(age)
            } else {
                until_next_minute(age)
            };
            now + last.map_or(own, |last| last.min(own))
        })
        .min()
}
