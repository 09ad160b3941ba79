//! What a query selects of a snapshot, and the rows of group views.
//!
//! Invariants: what is selected stands in the snapshot's order; a query for exact services or ids
//! reads only those. Pure: measurements and the time are handed in.

use std::collections::{HashMap, HashSet};
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

    /// What is known of one instance, as far as `query` asks for it.
    pub fn facts(&self, query: &Query, instance: &Instance) -> Facts<'a> {
        self.facts_for(Asked::by(query), instance)
    }

    fn facts_for(&self, asked: Asked, instance: &Instance) -> Facts<'a> {
        let mut facts = Facts::at(self.now);
        if asked.nothing {
            return facts;
        }
        let id = instance.id();
        let is_in = |ids: Option<&HashSet<InstanceId>>| ids.is_some_and(|ids| ids.contains(&id));
        if asked.stats {
            facts.stats = self.stats.get(&id);
            facts.rps = self.rps.and_then(|rps| rps.get(&id).copied());
        }
        if asked.host_addresses {
            let host = self.snapshot.host(instance.host());
            facts.host_address = host.map(|host| host.address.ip());
        }
        facts.marked = is_in(self.marked);
        facts.new = is_in(self.new);
        facts
    }

    /// Hands every instance that `query` selects to `take`, in the snapshot's order.
    pub fn each_match(&self, query: &Query, mut take: impl FnMut(&'a Arc<Instance>)) {
        let asked = Asked::by(query);
        let mut test = |instance: &'a Arc<Instance>| {
            if query.matches(instance, &self.facts_for(asked, instance)) {
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
            let mut ahead = Vec::with_capacity(AHEAD);
            for instance in self.snapshot.instances() {
                ahead.push(instance);
                if ahead.len() == AHEAD {
                    touch(&ahead);
                    ahead.drain(..).for_each(&mut test);
                }
            }
            ahead.into_iter().for_each(test);
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

/// How many instances are fetched from memory before they are tested.
const AHEAD: usize = 64;

/// Reads a little of each instance in a loop so short that the processor waits for many of them at
/// once. A test is too long for that: it would wait for one instance after the other, and a scan of
/// 100,000 scattered ones is mostly waiting.
fn touch(instances: &[&Arc<Instance>]) {
    let touched = instances.iter().fold(0, |sum: u64, instance| {
        let names = u64::from(instance.service().as_bytes().first().copied().unwrap_or(0))
            ^ u64::from(instance.region().as_bytes().first().copied().unwrap_or(0));
        sum ^ u64::from(instance.registered) ^ names
    });
    std::hint::black_box(touched);
}

/// Which facts a query asks for: looking up the others would cost more than most tests.
#[derive(Debug, Clone, Copy)]
struct Asked {
    stats: bool,
    host_addresses: bool,
    nothing: bool,
}

impl Asked {
    fn by(query: &Query) -> Self {
        let (stats, host_addresses) = (query.needs_stats(), query.asks_for_hosts());
        let nothing = !stats && !host_addresses && !query.asks_for_marks();
        Self {
            stats,
            host_addresses,
            nothing,
        }
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
