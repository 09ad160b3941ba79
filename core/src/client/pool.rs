//! Every instance that any service client of this process has chosen, by id.
//!
//! Invariants: a peer is forgotten with its instance, or when its process is another one; what is in
//! flight on it is answered all the same, because its calls hold the peer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, watch};

use super::figures::Totals;
use super::peer::Peer;
use crate::instance::{Instance, InstanceId};
use crate::metrics::{ClientMetrics, signed};
use crate::registry::snapshot::Snapshot;

/// The peers of one client.
pub(super) struct Pool {
    peers: Mutex<HashMap<InstanceId, Arc<Peer>>>,
    cluster: watch::Receiver<Arc<Snapshot>>,
    /// Told whenever a connection stands again.
    news: Arc<Notify>,
    totals: Arc<Totals>,
}

impl Pool {
    /// A pool without peers; `cluster` tells which instances there are.
    pub(super) fn new(cluster: watch::Receiver<Arc<Snapshot>>) -> Self {
        Self {
            peers: Mutex::new(HashMap::new()),
            cluster,
            news: Arc::new(Notify::new()),
            totals: Arc::default(),
        }
    }

    pub(super) fn news(&self) -> &Notify {
        &self.news
    }

    /// The peer of this instance, the one that is known if its process is still the same.
    pub(super) fn peer(&self, instance: &Arc<Instance>) -> Option<Arc<Peer>> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = peers
            .get(&instance.id())
            .filter(|known| known.is_of(instance))
        {
            return Some(Arc::clone(known));
        }
        let news = Arc::clone(&self.news);
        let totals = Arc::clone(&self.totals);
        let peer = Peer::new(Arc::clone(instance), self.cluster.clone(), news, totals)?;
        let peer = Arc::new(peer);
        peers.insert(instance.id(), Arc::clone(&peer));
        Some(peer)
    }

    /// What is measured of all instances and of each, by service and id.
    pub(super) fn metrics(&self) -> ClientMetrics {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut instances: Vec<_> = peers.values().map(|peer| peer.metrics()).collect();
        drop(peers);
        instances
            .sort_by(|left, right| (&left.service, &left.uuid).cmp(&(&right.service, &right.uuid)));
        let count = |total: &AtomicU64| signed(total.load(Ordering::Relaxed));
        ClientMetrics {
            connected: count(&self.totals.connected),
            connect_failures: count(&self.totals.connect_failures),
            ejections: count(&self.totals.ejections),
            instances,
            ..ClientMetrics::default()
        }
    }

    /// Forgets the peers whose instances are gone.
    pub(super) fn retain(&self, snapshot: &Snapshot) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|id, _| snapshot.instance(*id).is_some());
    }
}
