//! What comes, changes and goes among the instances that a query chooses.
//!
//! Invariants: news are judged against what was told before, so nothing is told twice and a slow
//! reader hears the sum of what it missed; only what changed is looked at, unless time or a host's
//! address can change what the query chooses.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::watch;

use crate::instance::{Instance, InstanceId};
use crate::query::{Known, Query, StatsTable};
use crate::registry::View;
use crate::registry::snapshot::Snapshot;

/// One piece of news of an [`InstanceListener`].
#[derive(Debug, Clone, PartialEq)]
pub enum InstanceChange {
    /// It came, or changed so that the query chooses it now.
    Added(Arc<Instance>),
    /// It is another than before.
    Changed(Arc<Instance>),
    /// It went, or changed so that the query no longer chooses it; as it was last.
    Removed(Arc<Instance>),
}

/// Tells the instances that match a query, first those that are there, then every change.
///
/// A slow reader misses no final state: what happened meanwhile is told as its sum.
pub struct InstanceListener {
    changes: watch::Receiver<Arc<Snapshot>>,
    told: Told,
    _view: Arc<View>,
}

impl InstanceListener {
    pub(super) fn new(view: Arc<View>, query: Query) -> Self {
        let mut changes = view.changes();
        changes.mark_changed();
        Self {
            changes,
            told: Told::new(query),
            _view: view,
        }
    }

    /// The next piece of news; waits for one. `None` never comes while the view lives.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<InstanceChange> {
        loop {
            if let Some(change) = self.told.pending.pop_front() {
                return Some(change);
            }
            self.changes.changed().await.ok()?;
            let snapshot = Arc::clone(&self.changes.borrow_and_update());
            self.told.compare(snapshot);
        }
    }
}

/// What a reader has been told, and what it will hear next: pure.
struct Told {
    query: Query,
    /// Whether time or hosts matter, so that everything must be looked at every time.
    restless: bool,
    seen: Arc<Snapshot>,
    known: HashMap<InstanceId, Arc<Instance>>,
    /// At most one entry per instance of the cluster: nothing is compared before it is empty.
    pending: VecDeque<InstanceChange>,
}

impl Told {
    fn new(query: Query) -> Self {
        Self {
            restless: query.asks_for_age() || query.asks_for_hosts(),
            query,
            seen: Arc::default(),
            known: HashMap::new(),
            pending: VecDeque::new(),
        }
    }

    fn compare(&mut self, snapshot: Arc<Snapshot>) {
        let (stats, now) = (StatsTable::new(), jiff::Timestamp::now());
        let cluster = Known::new(&snapshot, &stats, now);
        let mut judge = |id: InstanceId| {
            let chosen = snapshot.instance(id).filter(|instance| {
                let facts = cluster.facts(&self.query, instance);
                self.query.matches(instance, &facts)
            });
            match (chosen, self.known.get(&id)) {
                (Some(now), before) if before != Some(now) => {
                    let news = if before.is_none() {
                        InstanceChange::Added
                    } else {
                        InstanceChange::Changed
                    };
                    self.pending.push_back(news(Arc::clone(now)));
                    self.known.insert(id, Arc::clone(now));
                }
                (None, Some(_)) => {
                    let before = self.known.remove(&id);
                    self.pending.extend(before.map(InstanceChange::Removed));
                }
                (Some(_), _) | (None, None) => {}
            }
        };
        if self.restless {
            let gone: Vec<InstanceId> = self
                .seen
                .instances()
                .map(|instance| instance.id())
                .filter(|id| snapshot.instance(*id).is_none())
                .collect();
            gone.into_iter().for_each(&mut judge);
            snapshot.instances().map(|it| it.id()).for_each(judge);
        } else {
            snapshot.changed_since(&self.seen).for_each(judge);
        }
        self.seen = snapshot;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::query::Facts;
    use crate::registry::snapshot::Change;

    /// What a reader knows who takes every piece of news.
    fn take_news(told: &mut Told, known: &mut BTreeMap<InstanceId, Arc<Instance>>) {
        for news in told.pending.drain(..) {
            match news {
                InstanceChange::Added(instance) => {
                    assert_eq!(known.insert(instance.id(), instance), None);
                }
                InstanceChange::Changed(instance) => {
                    let before = known.insert(instance.id(), Arc::clone(&instance));
                    assert!(before.is_some_and(|before| before != instance));
                }
                InstanceChange::Removed(instance) => {
                    assert_eq!(known.remove(&instance.id()), Some(instance));
                }
            }
        }
    }

    fn change() -> impl Strategy<Value = Change> {
        (0..40_u128, 0..4_u8, 0..3_u8, any::<bool>()).prop_map(|(id, version, kind, registered)| {
            if kind == 0 {
                return Change::RemoveInstance(InstanceId::from_u128(id));
            }
            let mut instance = crate::testing::instance(id);
            instance.identity.version = version.to_string().into();
            instance.registered = registered;
            Change::PutInstance(Arc::new(instance))
        })
    }

    proptest! {
        #[test]
        fn news_add_up_to_what_the_query_chooses(
            batches in prop::collection::vec(prop::collection::vec(change(), 0..20), 1..10),
            text in prop::sample::select(vec![
                "", "registered", "version=1 registered", "service=s", "!version=2", "uptime>1s",
            ]),
        ) {
            let query: Query = text.parse().unwrap();
            let mut told = Told::new(query.clone());
            let mut known = BTreeMap::new();
            let mut snapshot = Snapshot::default();
            for batch in batches {
                for change in batch {
                    snapshot.apply(change);
                }
                told.compare(Arc::new(snapshot.clone()));
                take_news(&mut told, &mut known);
                let facts = Facts::at(jiff::Timestamp::now());
                let chosen: BTreeMap<InstanceId, Arc<Instance>> = snapshot
                    .instances()
                    .filter(|instance| query.matches(instance, &facts))
                    .map(|instance| (instance.id(), Arc::clone(instance)))
                    .collect();
                prop_assert_eq!(&known, &chosen);
            }
        }
    }
}
