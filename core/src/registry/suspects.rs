//! The instances that vanished without a word, and when each is given up. Pure, time is data.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::instance::InstanceId;

/// How long an instance that vanished unmarked is shown, and may be called on standing connections.
pub(super) const SUSPECT_FOR: Duration = Duration::from_secs(30);

/// Suspects in the order in which they are given up.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    since: HashMap<InstanceId, Instant>,
    /// May hold entries that count no more; the map says which do.
    queue: VecDeque<(Instant, InstanceId)>,
}

impl Suspects {
    /// Suspected from now on; one that was suspected before gets the whole time again.
    pub(super) fn add(&mut self, id: InstanceId, now: Instant) {
        self.since.insert(id, now);
        self.queue.push_back((now, id));
    }

    /// It came back, or is gone for certain.
    pub(super) fn forget(&mut self, id: InstanceId) {
        self.since.remove(&id);
        if self.since.is_empty() {
            self.queue.clear();
        }
    }

    /// Everybody gets the whole time again.
    pub(super) fn prolong(&mut self, now: Instant) {
        self.queue.clear();
        for (id, since) in &mut self.since {
            *since = now;
            self.queue.push_back((now, *id));
        }
    }

    /// When there may be something to give up.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.front().map(|(since, _)| *since + SUSPECT_FOR)
    }

    /// The next one whose time is over. It is forgotten here, whatever becomes of it.
    pub(super) fn pop(&mut self, now: Instant) -> Option<InstanceId> {
        loop {
            let (since, id) = self.queue.front().copied()?;
            if since + SUSPECT_FOR > now {
                return None;
            }
            self.queue.pop_front();
            // It may have come back and vanished again since; then a later entry stands for it.
            if self.since.get(&id) == Some(&since) {
                self.since.remove(&id);
                return Some(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_given_up_once_and_after_its_whole_time() {
        let start = Instant::now();
        let second = |number| start + Duration::from_secs(number);
        let (one, two) = (InstanceId::from_u128(1), InstanceId::from_u128(2));
        let mut suspects = Suspects::default();
        suspects.add(one, start);
        suspects.add(two, start);
        suspects.forget(two);
        suspects.add(one, second(10));
        assert_eq!(suspects.pop(second(39)), None);
        assert_eq!(suspects.pop(second(40)), Some(one));
        assert_eq!(suspects.pop(second(99)), None);
        assert_eq!(suspects.next(), None);
    }
}
