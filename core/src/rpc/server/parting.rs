//! How a connection's client is parted with when its service goes. Pure, time is data.
//!
//! Clients that understand notices were told, and what they send all the same is refused by a word
//! that they understand. One of 2012 takes a refusal for an error of its call, and its connection for
//! broken: it is served for as long as it goes on, and half of the grace later the connection is
//! closed right behind an answer. Nothing of it is on its way then, because it asks one thing at a
//! time.

use std::time::Duration;

use tokio::time::Instant;

/// One connection's way to its end.
#[derive(Debug)]
pub(super) struct Parting {
    understands: bool,
    since: Option<Instant>,
    due: bool,
}

impl Parting {
    /// Of a client that understands notices, or does not.
    pub(super) fn new(understands: bool) -> Self {
        Self {
            understands,
            since: None,
            due: false,
        }
    }

    /// The service has told everybody, and waits for those who know no better.
    pub(super) fn begin(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// Whether new calls are refused.
    pub(super) fn refuses(&self) -> bool {
        self.since.is_some() && self.understands
    }

    /// Notes that everything was answered; `grace` is how long the service waits for all.
    pub(super) fn answered(&mut self, grace: Duration, now: Instant) {
        let long_enough = |since| now >= since + grace / 2;
        self.due = !self.understands && self.since.is_some_and(long_enough);
    }

    /// Whether the connection is closed, unless something has come.
    pub(super) fn is_due(&self) -> bool {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_understands_is_refused_and_who_does_not_is_left_behind_an_answer() {
        const GRACE: Duration = Duration::from_secs(30);
        let start = Instant::now();
        let (before, after) = (start + GRACE / 3, start + GRACE / 2);
        for understands in [true, false] {
            let mut parting = Parting::new(understands);
            parting.answered(GRACE, after);
            assert!(!parting.refuses() && !parting.is_due(), "nobody goes");
            parting.begin(start);
            parting.begin(after);
            assert_eq!(parting.refuses(), understands);
            parting.answered(GRACE, before);
            assert!(!parting.is_due());
            parting.answered(GRACE, after);
            assert_eq!(parting.is_due(), !understands);
        }
    }
}
