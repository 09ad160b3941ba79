//! Every instance that any service client of this process has chosen, by id.
//!
//! Invariants: a peer is forgotten with its instance, or when its process is another one; what is in
//! flight on it is answered all the same, because its calls hold the peer. That an instance was in
//! trouble is remembered for as long as it counts, so that one whose processes die again and again
//! does not begin anew each time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::figures::Totals;
use super::health::Trouble;
use super::peer::Peer;
use crate::instance::{Instance, InstanceId};
use crate::metrics::{ClientMetrics, signed};
use crate::registry::snapshot::Snapshot;

/// The peers of one client.
pub(super) struct Pool {
    peers: Mutex<Peers>,
    cluster: watch::Receiver<Arc<Snapshot>>,
    /// Told whenever a connection stands again.
    news: Arc<Notify>,
    totals: Arc<Totals>,
}

#[derive(Default)]
struct Peers {
    known: HashMap<InstanceId, Arc<Peer>>,
    /// The trouble of those that are gone.
    troubles: HashMap<InstanceId, Trouble>,
}

impl Pool {
    /// A pool without peers; `cluster` tells which instances there are.
    pub(super) fn new(cluster: watch::Receiver<Arc<Snapshot>>) -> Self {
        Self {
            peers: Mutex::default(),
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
        let id = instance.id();
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = peers.known.get(&id);
        if let Some(known) = known.filter(|known| known.is_of(instance)) {
            return Some(Arc::clone(known));
        }
        let trouble = known.map(|known| known.trouble());
        let trouble = trouble.or_else(|| peers.troubles.remove(&id));
        let news = Arc::clone(&self.news);
        let trouble = trouble.unwrap_or_default();
        let (cluster, totals) = (self.cluster.clone(), Arc::clone(&self.totals));
        let peer = Peer::new(Arc::clone(instance), trouble, cluster, news, totals)?;
        let peer = Arc::new(peer);
        peers.known.insert(id, Arc::clone(&peer));
        Some(peer)
    }

    /// What is measured of all instances and of each, by service and id.
    pub(super) fn metrics(&self) -> ClientMetrics {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut instances: Vec<_> = peers.known.values().map(|peer| peer.metrics()).collect();
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
        let now = Instant::now();
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let Peers { known, troubles } = &mut *peers;
        troubles.retain(|_, trouble| !trouble.is_over(now));
        known.retain(|id, peer| {
            let stays = snapshot.instance(*id).is_some();
            if !stays {
                let trouble = peer.trouble();
                if !trouble.is_over(now) {
                    troubles.insert(*id, trouble);
                }
            }
            stays
        });
    }
}
