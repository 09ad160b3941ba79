//! What comes, changes and goes among the instances that a query chooses.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::watch;

use crate::instance::{Instance, InstanceId};
use crate::query::{Facts, Query};
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
    query: Query,
    changes: watch::Receiver<Arc<Snapshot>>,
    known: HashMap<InstanceId, Arc<Instance>>,
    /// At most one entry per instance of the cluster.
    pending: VecDeque<InstanceChange>,
    _view: Arc<View>,
}

impl InstanceListener {
    pub(super) fn new(view: Arc<View>, query: Query) -> Self {
        let mut changes = view.changes();
        changes.mark_changed();
        Self {
            query,
            changes,
            known: HashMap::new(),
            pending: VecDeque::new(),
            _view: view,
        }
    }

    /// The next piece of news; waits for one. `None` never comes while the view lives.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<InstanceChange> {
        loop {
            if let Some(change) = self.pending.pop_front() {
                return Some(change);
            }
            self.changes.changed().await.ok()?;
            let snapshot = Arc::clone(&self.changes.borrow_and_update());
            self.compare(&snapshot);
        }
    }

    fn compare(&mut self, snapshot: &Snapshot) {
        let facts = Facts::at(jiff::Timestamp::now());
        let mut gone = std::mem::take(&mut self.known);
        for instance in snapshot.instances() {
            if !self.query.matches(instance, &facts) {
                continue;
            }
            match gone.remove(&instance.id()) {
                None => self
                    .pending
                    .push_back(InstanceChange::Added(Arc::clone(instance))),
                Some(before) if before != *instance => {
                    self.pending
                        .push_back(InstanceChange::Changed(Arc::clone(instance)));
                }
                Some(_same) => {}
            }
            self.known.insert(instance.id(), Arc::clone(instance));
        }
        self.pending
            .extend(gone.into_values().map(InstanceChange::Removed));
    }
}
