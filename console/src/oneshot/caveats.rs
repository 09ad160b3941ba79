//! What is said beside a listing, so that it is not taken for more than it is.
//!
//! Invariants: said on standard error, so that a script still reads what was asked for; nothing is
//! said of a view that is whole. Knows no registry: it judges what was read.

use std::time::Duration;

use jiff::Timestamp;
use skynet::registry::QUORUM_WITHIN;
use skynet::registry::link::Link;
use skynet::registry::snapshot::{Alarm, Snapshot};
use tokio::time::Instant;

use crate::link::words;
use crate::report;
use crate::tui::format::plural;

/// Says what one node of a registry without a quorum is worth.
pub fn note_stale() {
    report::note(&format!(
        "No quorum of the registry answered within {QUORUM_WITHIN:?}: this is what one node of it \
         knew last, and may be old."
    ));
}

/// Says how a link stands over which nothing may be acted on.
pub fn note_link(link: &Link) {
    if let Some(why) = link.refusal() {
        let words = words(link, Instant::now(), Timestamp::now());
        let how = words.first().map_or("", String::as_str);
        report::note(&format!("Careful: {why} ({how})."));
    }
}

/// Says what is missing in a snapshot, and what in it may be gone.
pub fn note(snapshot: &Snapshot) {
    for line in of(snapshot, Instant::now()) {
        report::note(&line);
    }
}

fn of(snapshot: &Snapshot, now: Instant) -> Vec<String> {
    let mut lines = Vec::new();
    for (service, alarm) in snapshot.alarms() {
        let Alarm {
            vanished,
            of,
            since,
        } = alarm;
        let age = now.saturating_duration_since(*since);
        let age = humantime::format_duration(Duration::from_secs(age.as_secs()));
        lines.push(format!(
            "{vanished} of {of} instances of `{service}` vanished at once {age} ago: they are kept, \
             and may be gone."
        ));
    }
    let unreadable = snapshot.unreadable();
    if unreadable > 0 {
        let values = plural(unreadable, "value", "values");
        lines.push(format!(
            "{values} of the registry cannot be read: left out."
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_whole_is_not_spoken_of() {
        assert!(of(&Snapshot::default(), Instant::now()).is_empty());
    }

    #[test]
    fn what_is_missing_and_what_may_be_gone_is_said() {
        let mut snapshot = Snapshot::default();
        let since = Instant::now();
        let alarm = Alarm {
            vanished: 7,
            of: 9,
            since,
        };
        snapshot.set_alarms([("payments".into(), alarm)].into());
        snapshot.set_unreadable(2);
        let lines = of(&snapshot, since + Duration::from_millis(12_345));
        assert_eq!(
            lines,
            [
                "7 of 9 instances of `payments` vanished at once 12s ago: they are kept, and may be gone.",
                "2 values of the registry cannot be read: left out.",
            ]
        );
    }
}
