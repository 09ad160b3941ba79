//! What is said of the link to the registry, in the console and in the shell.
//!
//! Invariants: a live link has no age; a lost one says how old the data are and when it is tried; one
//! that is protected says for how long. Pure, time is data; knows no signs and no colors.

use std::time::Duration;

use jiff::Timestamp;
use skynet::registry::link::{Doubt, Link};
use tokio::time::Instant;

use crate::tui::format::ago;

/// A silent link is called slow after so long.
pub(crate) const SLOW_AFTER: Duration = Duration::from_secs(8);

/// How the link stands, in words: the whole, and shorter ones for less room.
pub(crate) fn words(link: &Link, now: Instant, wall: Timestamp) -> Vec<String> {
    let age = link.age(now);
    let seconds = age.as_secs();
    match link {
        Link::Connecting { .. } => vec![format!("connecting {seconds}s")],
        Link::Live { .. } if age < SLOW_AFTER => vec!["live".to_owned()],
        Link::Live { .. } => vec![format!("slow {seconds}s")],
        Link::Cached { written, .. } => {
            let old = Duration::try_from(wall.duration_since(*written)).unwrap_or_default();
            let old = ago(old);
            vec![format!("no answer, data {old} old"), format!("{old} old")]
        }
        Link::Protected { until, why, .. } => {
            let left = until.saturating_duration_since(now).as_secs();
            let why = match why {
                Doubt::AnotherRegistry => "another registry",
                Doubt::Wiped => "wiped",
                Doubt::WentBack => "put back",
            };
            vec![
                format!("{why}, nothing is removed for {left}s"),
                format!("{why} {left}s"),
            ]
        }
        Link::Unknown {
            retry_at, format, ..
        } => {
            let retry = retry(*retry_at, now);
            vec![
                format!("format {format} is not known here, {retry}"),
                format!("format {format} is not known"),
                format!("format {format}"),
            ]
        }
        Link::Lost { retry_at, .. } => {
            let retry = retry(*retry_at, now);
            vec![
                format!("lost {seconds}s, {retry}"),
                format!("lost {seconds}s"),
            ]
        }
    }
}

fn retry(at: Instant, now: Instant) -> String {
    match at.saturating_duration_since(now).as_secs() {
        0 => "trying".to_owned(),
        seconds => format!("retry in {seconds}s"),
    }
}
