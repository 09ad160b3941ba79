//! One instance as a client sees it: its connection, its health, what is in flight.
//!
//! Invariants: one connection is opened at a time; an end of file, a reset or a refusal takes the
//! instance out of the choice at once, until a connection stands again; while it is out, one task
//! tries to connect, and ends with the peer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use super::balance::{Availability, Candidate, Nearness};
use super::figures::Totals;
use super::health::Health;
use crate::backoff::Backoff;
use crate::instance::Instance;
use crate::metrics::{InstanceMetrics, signed};
use crate::registry::snapshot::Snapshot;
use crate::rpc::{ConnectError, ConnectOptions, Connection, Expected};

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an instance that has just come, or come back, gets less than its share.
const WARM_UP: Duration = Duration::from_secs(10);
/// The share that it gets at first.
const COLDEST: f64 = 0.1;

/// The longest wait between two attempts to connect again.
const MOST_WAIT: Duration = Duration::from_secs(5);

/// An instance that calls may go to.
pub(super) struct Peer {
    pub(super) instance: Arc<Instance>,
    pub(super) address: SocketAddr,
    in_flight: AtomicUsize,
    attempts: AtomicU64,
    ejections: AtomicU64,
    totals: Arc<Totals>,
    state: Mutex<PeerState>,
    /// Held while a connection is opened, so that many callers open one.
    connecting: tokio::sync::Mutex<()>,
    /// The cluster as it is known: nobody connects to what is not in it.
    cluster: watch::Receiver<Arc<Snapshot>>,
    /// Told whenever a connection stands again.
    news: Arc<Notify>,
}

struct PeerState {
    health: Health,
    connection: Option<Connection>,
    /// A connection failed, and a task tries to open another.
    down: bool,
    /// Since when it can be called: it came then, or came back.
    since: Instant,
}

/// A call that is under way; dropping it ends the count.
pub(super) struct InFlight<'peer> {
    peer: &'peer Peer,
    is_probe: bool,
}

impl InFlight<'_> {
    /// Notes that its request is about to be sent.
    pub(super) fn sending(&self) {
        self.peer.attempts.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes an answer of the method, or an error of its own.
    pub(super) fn answered(&self, latency: Duration) {
        self.peer.state().health.answered(latency, Instant::now());
    }

    /// Notes a time-out or a refusal to execute.
    pub(super) fn failed(&self) {
        if self.peer.state().health.failed(Instant::now()) {
            self.peer.ejections.fetch_add(1, Ordering::Relaxed);
            self.peer.totals.ejections.fetch_add(1, Ordering::Relaxed);
            tracing::info!(
                service = %self.peer.instance.service(), address = %self.peer.address,
                "the instance fails, it is left alone for a while"
            );
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.peer.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.is_probe {
            self.peer.state().health.abandoned();
        }
    }
}

impl Peer {
    /// `None` for an instance without an address.
    pub(super) fn new(
        instance: Arc<Instance>,
        cluster: watch::Receiver<Arc<Snapshot>>,
        news: Arc<Notify>,
        totals: Arc<Totals>,
    ) -> Option<Self> {
        Some(Self {
            address: instance.address?,
            instance,
            in_flight: AtomicUsize::new(0),
            attempts: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
            totals,
            state: Mutex::new(PeerState {
                health: Health::new(Instant::now()),
                connection: None,
                down: false,
                since: Instant::now(),
            }),
            connecting: tokio::sync::Mutex::new(()),
            cluster,
            news,
        })
    }

    /// Whether this is still the process that `instance` tells of.
    pub(super) fn is_of(&self, instance: &Instance) -> bool {
        Some(self.address) == instance.address && self.instance.process == instance.process
    }

    /// Whether a connection stands, so that a suspect instance may still be called.
    pub(super) fn is_connected(&self) -> bool {
        self.state()
            .connection
            .as_ref()
            .is_some_and(|connection| !connection.is_closed())
    }

    /// What is measured of it.
    pub(super) fn metrics(&self) -> InstanceMetrics {
        let now = Instant::now();
        let (connected, state) = (self.is_connected(), self.state());
        let expected = Duration::try_from_secs_f64(state.health.latency_s(now));
        let expected = expected.unwrap_or(Duration::MAX).as_micros();
        InstanceMetrics {
            service: self.instance.service().to_string(),
            uuid: self.instance.id().to_string(),
            address: self.address.to_string(),
            attempts: signed(self.attempts.load(Ordering::Relaxed)),
            in_flight: i64::try_from(self.in_flight.load(Ordering::Relaxed)).unwrap_or(i64::MAX),
            ejections: signed(self.ejections.load(Ordering::Relaxed)),
            ejected: state.health.is_ejected(now),
            connected,
            expected_us: i64::try_from(expected).unwrap_or(i64::MAX),
        }
    }

    /// What the choice needs to know.
    pub(super) fn candidate(&self, nearness: Nearness, tried: bool, now: Instant) -> Candidate {
        let state = self.state();
        let warm = now.saturating_duration_since(state.since).as_secs_f64() / WARM_UP.as_secs_f64();
        Candidate {
            id: self.instance.id().as_u128(),
            warmth: warm.clamp(COLDEST, 1.0),
            latency_s: state.health.latency_s(now),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            weight: self.instance.weight,
            nearness,
            availability: if state.down {
                Availability::Unreachable
            } else if state.health.is_ejected(now) {
                Availability::Ejected
            } else {
                Availability::Usable
            },
            tried,
            last: false,
        }
    }

    /// Counts a call that goes out.
    pub(super) fn begin(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let is_probe = self.state().health.calling(Instant::now());
        InFlight {
            peer: self,
            is_probe,
        }
    }

    /// The connection that stands, or a new one.
    ///
    /// # Cancel safety
    /// Dropping the future leaves no connection half open.
    pub(super) async fn connection(self: &Arc<Self>) -> Result<Connection, ConnectError> {
        if let Some(connection) = self.standing() {
            return Ok(connection);
        }
        let _one_at_a_time = self.connecting.lock().await;
        if let Some(connection) = self.standing() {
            return Ok(connection);
        }
        match self.open().await {
            Ok(connection) => Ok(connection),
            Err(error) => {
                self.take_out(Some(&error));
                Err(error)
            }
        }
    }

    /// Notes that a connection ended under a call: out of the choice until another stands.
    pub(super) fn lost(self: &Arc<Self>, connection: &Connection) {
        // Another may stand already, opened while this one was drained.
        if connection.is_closed() && !self.is_connected() {
            self.take_out(None);
        }
    }

    fn standing(&self) -> Option<Connection> {
        self.state()
            .connection
            .as_ref()
            .filter(|connection| !connection.is_closed())
            .cloned()
    }

    async fn open(&self) -> Result<Connection, ConnectError> {
        let options = ConnectOptions {
            expect: Some(Expected {
                service: Some(Arc::clone(self.instance.service())),
                id: Some(self.instance.id()),
            }),
            timeout: CONNECT_TIMEOUT,
            ..ConnectOptions::default()
        };
        let opened = Connection::open(self.address, &options).await;
        let totals = &self.totals;
        let counted = match &opened {
            Ok(_) => &totals.connected,
            Err(_) => &totals.connect_failures,
        };
        counted.fetch_add(1, Ordering::Relaxed);
        let connection = opened?;
        let mut state = self.state();
        state.connection = Some(connection.clone());
        if std::mem::take(&mut state.down) {
            state.since = Instant::now();
        }
        drop(state);
        self.news.notify_waiters();
        Ok(connection)
    }

    /// Out of the choice; one task tries to connect until it stands or the peer is forgotten.
    fn take_out(self: &Arc<Self>, why: Option<&ConnectError>) {
        let mut state = self.state();
        state.connection = None;
        if std::mem::replace(&mut state.down, true) {
            return;
        }
        drop(state);
        let service = self.instance.service();
        let mut backoff = Backoff::new(Duration::from_millis(100), MOST_WAIT);
        match why {
            // Its entry is old: whoever has the address now is not called, and seldom asked.
            Some(error @ ConnectError::Mismatch { .. }) => {
                tracing::warn!(%service, %error, "an instance is not who it should be");
                backoff = Backoff::new(MOST_WAIT, MOST_WAIT);
            }
            Some(error) => tracing::debug!(%service, %error, "out of the choice"),
            None => tracing::debug!(%service, address = %self.address, "its connection ended"),
        }
        tokio::spawn(reconnect(Arc::downgrade(self), backoff));
    }

    fn state(&self) -> std::sync::MutexGuard<'_, PeerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tries until a connection stands or nobody wants the peer any more; while its instance is not
/// listed, it waits.
async fn reconnect(peer: Weak<Peer>, mut backoff: Backoff) {
    loop {
        sleep(backoff.next_wait()).await;
        let Some(peer) = peer.upgrade() else { return };
        let (id, mut cluster) = (peer.instance.id(), peer.cluster.clone());
        if cluster.borrow().instance(id).is_none() {
            drop(peer);
            let listed = cluster.wait_for(|snapshot| snapshot.instance(id).is_some());
            if listed.await.is_err() {
                // The view has ended, and with it everybody who could call.
                return;
            }
            continue;
        }
        let _one_at_a_time = peer.connecting.lock().await;
        if peer.is_connected() || peer.open().await.is_ok() {
            return;
        }
    }
}
