//! What a query selects of a snapshot, and the rows of group views.
//!
//! Invariants: what is selected stands in the snapshot's order; a query for exact services or ids
//! reads only those. Pure: measurements and the time are handed in.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::instance::{Instance, InstanceId};
use crate::registry::snapshot::Snapshot;
use crate::stats::InstanceStats;

use super::{Facts, Query};

mod group;

pub use group::{GroupKey, GroupRow, Groups};

/// The measurements of instances by their id, as far as they came.
pub type StatsTable = HashMap<InstanceId, InstanceStats>;

/// All that is known of the cluster at a time: what queries are asked of.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The instances and hosts.
    pub snapshot: &'a Snapshot,
    /// Their measurements.
    pub stats: &'a StatsTable,
    /// The present time.
    pub now: Timestamp,
    /// Requests per second, where somebody counts them.
    pub rps: Option<&'a HashMap<InstanceId, f64>>,
    /// What the operator has marked.
    pub marked: Option<&'a HashSet<InstanceId>>,
    /// What has just come.
    pub new: Option<&'a HashSet<InstanceId>>,
}

impl<'a> Known<'a> {
    /// A snapshot and measurements at a time, without rates and marks.
    pub fn new(snapshot: &'a Snapshot, stats: &'a StatsTable, now: Timestamp) -> Self {
        Self {
            snapshot,
            stats,
            now,
            rps: None,
            marked: None,
            new: None,
        }
    }

    /// What is known of one instance. The host's address is looked up only when `query` asks for
    /// hosts.
    pub fn facts(&self, query: &Query, instance: &Instance) -> Facts<'a> {
        let host_address = query.asks_for_hosts().then(|| self.host_address(instance));
        self.facts_at(instance, host_address.flatten())
    }

    fn host_address(&self, instance: &Instance) -> Option<IpAddr> {
        let host = self.snapshot.host(instance.host())?;
        Some(host.address.ip())
    }

    fn facts_at(&self, instance: &Instance, host_address: Option<IpAddr>) -> Facts<'a> {
        let id = instance.id();
        let is_in = |ids: Option<&HashSet<InstanceId>>| ids.is_some_and(|ids| ids.contains(&id));
        Facts {
            stats: if self.stats.is_empty() {
                None
            } else {
                self.stats.get(&id)
            },
            rps: self.rps.and_then(|rps| rps.get(&id).copied()),
            now: self.now,
            host_address,
            marked: is_in(self.marked),
            new: is_in(self.new),
        }
    }

    /// Hands every instance that `query` selects to `take`, in the snapshot's order.
    pub fn each_match(&self, query: &Query, mut take: impl FnMut(&'a Arc<Instance>)) {
        let asks_for_hosts = query.asks_for_hosts();
        let mut test = |instance: &'a Arc<Instance>| {
            let host_address = if asks_for_hosts {
                self.host_address(instance)
            } else {
                None
            };
            if query.matches(instance, &self.facts_at(instance, host_address)) {
                take(instance);
            }
        };
        if let Some(ids) = query.plan().and_then(super::plan::Plan::ids) {
            let mut found: Vec<_> = ids
                .into_iter()
                .filter_map(|id| self.snapshot.instance(InstanceId::from_u128(id)))
                .collect();
            found.sort_unstable_by(|left, right| left.identity.cmp(&right.identity));
            found.into_iter().for_each(test);
        } else if let Some(services) = query.plan().and_then(super::plan::Plan::services) {
            for service in services {
                self.snapshot.of_service(service).for_each(&mut test);
            }
        } else {
            self.snapshot.instances().for_each(test);
        }
    }

    /// The instances that `query` selects, in the snapshot's order.
    pub fn select(&self, query: &Query) -> Vec<Arc<Instance>> {
        let mut selected = Vec::new();
        self.each_match(query, |instance| selected.push(Arc::clone(instance)));
        selected
    }

    /// How many instances `query` selects.
    pub fn count(&self, query: &Query) -> usize {
        let mut count = 0;
        self.each_match(query, |_| count += 1);
        count
    }
}

/// The instances that `query` selects, in the snapshot's order, without rates and marks.
pub fn select(
    query: &Query,
    snapshot: &Snapshot,
    stats: &StatsTable,
    now: Timestamp,
) -> Vec<Arc<Instance>> {
    Known::new(snapshot, stats, now).select(query)
}
