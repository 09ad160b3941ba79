//! One instance as a client sees it: its connection, its health, what is in flight.
//!
//! Invariants: one connection is opened at a time, by a task of its own, whatever becomes of the
//! calls that wait for it; an end of file, a reset, a refusal or silence takes the instance out of
//! the choice at once, until a connection stands again; while it is out, one task tries to connect,
//! and ends with the peer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::balance::{Availability, Candidate, Nearness};
use super::error::CallId;
use super::figures::Totals;
use super::health::{Health, Trouble};
use crate::instance::{Instance, State};
use crate::metrics::{InstanceMetrics, signed};
use crate::registry::snapshot::Snapshot;
use crate::rpc::{Called, ConnectError, Connection, Ended};

mod connecting;

/// How long an instance that has just come, or come back, gets less than its share.
const WARM_UP: Duration = Duration::from_secs(10);
/// The share that it gets at first.
const COLDEST: f64 = 0.1;

/// For how long an instance that said that it is going is called only when no other can be: the
/// registry tells the same by then, or it was not the instance that went, but the connection.
const LEAVING: Duration = Duration::from_secs(2);

/// Whoever has had no call for so long, and closes a connection, is not missed.
const UNUSED: Duration = Duration::from_secs(10);

/// An instance that calls may go to.
pub(super) struct Peer {
    pub(super) instance: Arc<Instance>,
    pub(super) address: SocketAddr,
    in_flight: AtomicUsize,
    attempts: AtomicU64,
    ejections: AtomicU64,
    totals: Arc<Totals>,
    /// The methods of which its process says that they may run twice, once it was asked.
    idempotent: OnceLock<Box<[String]>>,
    state: Mutex<PeerState>,
    /// Told when an attempt to connect is over, however it went.
    settled: Notify,
    /// The cluster as it is known: nobody connects to what is not in it.
    cluster: watch::Receiver<Arc<Snapshot>>,
    /// Told whenever a connection stands again.
    news: Arc<Notify>,
}

struct PeerState {
    health: Health,
    standing: Option<Standing>,
    way: Way,
    /// Since when it can be called: it came then, or came back.
    since: Instant,
    /// When a call went out last.
    used: Instant,
    /// It said that it is going.
    leaving_until: Option<Instant>,
    /// Since when the registry has not told of it, though it said no word.
    vanished: Option<Instant>,
}

/// Whether there is a way to the instance, while no connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Nobody has tried.
    Untried,
    /// A task tries.
    Tried,
    /// The last attempt failed; a task tries on.
    Down,
}

/// A connection, and the task that looks after it.
struct Standing {
    connection: Connection,
    since: Instant,
    keeper: AbortHandle,
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.keeper.abort();
    }
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
        let now = Instant::now();
        let mut state = self.peer.state();
        if state.health.answered(latency, now) {
            // It gets its share by and by.
            state.since = now;
        }
    }

    /// Notes a time-out or a refusal to execute.
    pub(super) fn failed(&self) {
        if self.peer.state().health.failed(Instant::now()) {
            self.peer.count_ejection();
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
    /// `None` for an instance without an address. `trouble` is what its processes had before.
    pub(super) fn new(
        instance: Arc<Instance>,
        trouble: Trouble,
        cluster: watch::Receiver<Arc<Snapshot>>,
        news: Arc<Notify>,
        totals: Arc<Totals>,
    ) -> Option<Self> {
        let now = Instant::now();
        Some(Self {
            address: instance.address?,
            instance,
            in_flight: AtomicUsize::new(0),
            attempts: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
            totals,
            idempotent: OnceLock::new(),
            state: Mutex::new(PeerState {
                health: Health::new(trouble, now),
                standing: None,
                way: Way::Untried,
                since: now,
                used: now,
                leaving_until: None,
                vanished: None,
            }),
            settled: Notify::new(),
            cluster,
            news,
        })
    }

    /// Whether this is still the process that `instance` tells of.
    pub(super) fn is_of(&self, instance: &Instance) -> bool {
        Some(self.address) == instance.address && self.instance.process == instance.process
    }

    /// What is to be remembered of it when its process is gone.
    pub(super) fn trouble(&self) -> Trouble {
        self.state().health.trouble()
    }

    /// Notes what the registry tells; since when it tells nothing of the instance.
    pub(super) fn vanished_since(&self, told: State) -> Option<Instant> {
        let mut state = self.state();
        if told == State::Suspect {
            state.vanished.get_or_insert_with(Instant::now);
        } else {
            state.vanished = None;
        }
        state.vanished
    }

    /// Whether a connection stands, so that a suspect instance may still be called.
    pub(super) fn is_connected(&self) -> bool {
        self.state().open_connection().is_some()
    }

    /// Whether its service declares that `method` may run twice.
    pub(super) fn declares_idempotent(&self, method: &str) -> bool {
        let declared = self.idempotent.get();
        declared.is_some_and(|declared| declared.iter().any(|name| name == method))
    }

    /// What errors of a call that it answered name.
    pub(super) fn called(&self, call: &CallId) -> Called {
        Called {
            service: self.instance.service().to_string(),
            method: call.method.to_string(),
            instance: Some(self.instance.id()),
            address: self.address,
            request_id: call.request_id.to_string(),
        }
    }

    /// What is measured of it.
    pub(super) fn metrics(&self) -> InstanceMetrics {
        let now = Instant::now();
        let state = self.state();
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
            connected: state.open_connection().is_some(),
            expected_us: i64::try_from(expected).unwrap_or(i64::MAX),
        }
    }

    fn count_ejection(&self) {
        self.ejections.fetch_add(1, Ordering::Relaxed);
        self.totals.ejections.fetch_add(1, Ordering::Relaxed);
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
            availability: if state.way == Way::Down {
                Availability::Unreachable
            } else if state.health.is_ejected(now) {
                Availability::Ejected
            } else if state.health.awaits_probe(now) {
                Availability::Due
            } else {
                Availability::Usable
            },
            tried,
            last: state.is_leaving(now),
        }
    }

    /// Counts a call that goes out.
    pub(super) fn begin(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let mut state = self.state();
        state.used = now;
        let is_probe = state.health.calling(now);
        InFlight {
            peer: self,
            is_probe,
        }
    }

    /// The connection that stands, or a new one; `None` when none can be had now.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing: what was begun goes on for others.
    pub(super) async fn connection(self: &Arc<Self>) -> Option<Connection> {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            {
                let mut state = self.state();
                if let Some(connection) = state.open_connection() {
                    return Some(connection.clone());
                }
                match state.way {
                    Way::Down => return None,
                    Way::Tried => {}
                    Way::Untried => {
                        state.way = Way::Tried;
                        tokio::spawn(connecting::connect(Arc::downgrade(self)));
                    }
                }
            }
            settled.await;
        }
    }

    /// Notes that the instance said that it is going.
    pub(super) fn is_going(&self) {
        self.state().leaving_until = Some(Instant::now() + LEAVING);
    }

    /// Notes that a connection takes no more calls: out of the choice until another stands, if it
    /// broke.
    pub(super) fn lost(self: &Arc<Self>, connection: &Connection) {
        let now = Instant::now();
        let mut state = self.state();
        let stood = match &state.standing {
            Some(standing) if standing.connection.is_same(connection) => {
                now.saturating_duration_since(standing.since)
            }
            // Another stands already, or this end was noted before.
            _ => return,
        };
        let ended = connection.ended();
        if ended.is_some() {
            state.standing = None;
        }
        match ended {
            None | Some(Ended::Draining) => state.leaving_until = Some(now + LEAVING),
            Some(Ended::ByUs) => {}
            Some(Ended::ByPeer | Ended::Broken(_)) if self.is_unused(&state, now) => {}
            Some(why) => {
                if state.health.broke(stood, now) {
                    self.count_ejection();
                    tracing::info!(
                        service = %self.instance.service(), address = %self.address,
                        "its connections break again and again, it is left alone for a while"
                    );
                }
                tracing::debug!(
                    service = %self.instance.service(), address = %self.address, %why,
                    "a connection ended, out of the choice"
                );
                self.take_out(&mut state);
            }
        }
    }

    fn is_unused(&self, state: &PeerState, now: Instant) -> bool {
        let idle = self.in_flight.load(Ordering::Relaxed) == 0;
        idle && now.saturating_duration_since(state.used) >= UNUSED
    }

    /// A connection stands: it can be called.
    fn stands(self: &Arc<Self>, connection: Connection) {
        let now = Instant::now();
        self.idempotent
            .get_or_init(|| connection.handshake().idempotent.clone().into());
        let mut state = self.state();
        if state.way == Way::Down {
            state.since = now;
        }
        state.way = Way::Untried;
        self.totals.connected.fetch_add(1, Ordering::Relaxed);
        let keeper = connecting::keep(Arc::downgrade(self), connection.clone());
        state.standing = Some(Standing {
            connection,
            since: now,
            keeper: tokio::spawn(keeper).abort_handle(),
        });
        drop(state);
        self.settled.notify_waiters();
        self.news.notify_waiters();
    }

    /// An attempt to connect failed: out of the choice while the same task tries on.
    fn failed_to_connect(&self, error: &ConnectError) {
        let service = self.instance.service();
        self.totals.connect_failures.fetch_add(1, Ordering::Relaxed);
        if self.state().way == Way::Down {
            tracing::debug!(%service, error = error as &dyn std::error::Error, "still no way");
            return;
        }
        if let ConnectError::Mismatch { .. } = error {
            tracing::warn!(%service, %error, "an instance is not who it should be");
        } else {
            let error = error as &dyn std::error::Error;
            tracing::debug!(%service, error, "no connection, out of the choice");
        }
        self.state().way = Way::Down;
        self.settled.notify_waiters();
    }

    /// Out of the choice; one task tries to connect until it stands or the peer is forgotten.
    fn take_out(self: &Arc<Self>, state: &mut PeerState) {
        let had_task = state.way != Way::Untried;
        state.way = Way::Down;
        self.settled.notify_waiters();
        if !had_task {
            let breaks = state.health.breaks();
            tokio::spawn(connecting::connect_again(Arc::downgrade(self), breaks));
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, PeerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PeerState {
    fn open_connection(&self) -> Option<&Connection> {
        self.standing
            .as_ref()
            .map(|standing| &standing.connection)
            .filter(|connection| !connection.is_closed())
    }

    fn is_leaving(&self, now: Instant) -> bool {
        self.leaving_until.is_some_and(|until| now < until)
            // It said so, and nobody has noted it.
            || self.standing.as_ref().is_some_and(|standing| standing.connection.is_closed())
    }
}
