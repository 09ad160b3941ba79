//! What is kept while a registry that is not the known one fills again. Pure, time is data.
//!
//! Invariants: what the new registry tells counts at once; what it does not tell of is kept until
//! the time is over, and then it is not simply gone: instances become suspects first.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::link::Doubt;
use crate::instance::InstanceId;

/// A row that the new registry has not told of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Row {
    Instance(InstanceId),
    Child(InstanceId),
    Host(Arc<str>),
}

/// The time in which removals are not believed.
#[derive(Debug)]
pub(super) struct Protection {
    pub(super) why: Doubt,
    pub(super) since: Instant,
    pub(super) until: Instant,
    grace: Duration,
    kept: HashSet<Row>,
}

impl Protection {
    pub(super) fn begin(why: Doubt, grace: Duration, now: Instant) -> Self {
        Self {
            why,
            since: now,
            until: now + grace,
            grace,
            kept: HashSet::new(),
        }
    }

    /// The registry was away, and nobody could register: the time begins again.
    pub(super) fn prolong(&mut self, now: Instant) {
        self.until = self.until.max(now + self.grace);
    }

    pub(super) fn keep(&mut self, row: Row) {
        self.kept.insert(row);
    }

    /// The registry was listed anew: only what is missing in that is kept from then on.
    pub(super) fn confirm_all(&mut self) {
        self.kept.clear();
    }

    /// The registry tells of the row.
    pub(super) fn confirm(&mut self, row: &Row) {
        self.kept.remove(row);
    }

    pub(super) fn keeps(&self, row: &Row) -> bool {
        self.kept.contains(row)
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// What never came back.
    pub(super) fn into_kept(self) -> HashSet<Row> {
        self.kept
    }
}
