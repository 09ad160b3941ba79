//! A service's port: accepting, the handshake, and the phases of a drain.
//!
//! Invariants: no connection can hold up another or the accept loop; a client that stays silent has
//! a deadline of its own; when descriptors run short, idle connections make room; client ids are
//! valid on their own connection only; every task of a server is tracked, so that its end can be
//! waited for. Knows nothing of the registry and nothing of what methods there are.

mod call;
mod calls;
mod connection;
mod crowd;
mod parting;
mod pause;
mod phases;
mod refused;
mod request;
mod serving;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::crowd::{Crowd, Stage};
use self::pause::Pauses;
use self::refused::Refused;
use super::frame::MAX_FRAME;
use super::handler::Dispatch;
use super::message::FORWARD;
use super::socket;
use crate::backoff::Backoff;
use crate::instance::InstanceId;

pub(crate) use serving::poll_read;

/// How long a connection of a draining service must have been quiet before it is closed: a request
/// may be on its way.
const QUIET: Duration = Duration::from_millis(100);

/// Waits of the accept loop while the system has no more descriptors.
const ACCEPT_WAITS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// How long a connection must have been silent before it makes room for another.
const SILENT: Duration = Duration::from_secs(1);

/// When descriptors run short, this part of the connections makes room at once, and at least
/// [`MAKE_ROOM`] of them.
const MAKE_ROOM_PART: usize = 16;
const MAKE_ROOM: usize = 4;

/// How often idle connections are looked for, as a part of how long they may be idle, and at most.
const IDLE_LOOKS: u32 = 8;
const IDLE_LOOK: Duration = Duration::from_millis(10);

/// What a service takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest document, in bytes.
    pub frame: usize,
    /// Calls of one connection that run at once; beyond it the connection is not read.
    pub per_connection: usize,
    /// Calls of all connections that run at once; beyond it calls are refused as `overloaded`.
    pub per_service: usize,
    /// Connections at once; beyond it new ones are closed, and idle ones make room for the next.
    pub connections: usize,
    /// Bytes of answers that wait for a client to take them; beyond it the connection is not read.
    pub unsent: usize,
    /// How long a client may take for its handshake.
    pub handshake: Duration,
    /// How long the rest of a document, or a client that does not read, is waited for.
    pub partial_frame: Duration,
    /// How long a client that understands notices may be silent before it is told that its
    /// connection is going. Clients of 2012 are not: they would lose their next call.
    pub idle: Duration,
    /// What drain notices promise: for how long calls in flight are answered.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame: MAX_FRAME,
            per_connection: 1024,
            per_service: 8192,
            connections: 20_000,
            unsent: 4 * 1024 * 1024,
            handshake: Duration::from_secs(10),
            partial_frame: Duration::from_secs(30),
            idle: Duration::from_mins(15),
            grace: Duration::from_secs(30),
        }
    }
}

/// Who answers at a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identification {
    /// The service's name.
    pub service: Arc<str>,
    /// The service's version.
    pub version: Arc<str>,
    /// The instance's id.
    pub id: InstanceId,
}

/// How far a server has gone towards its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It serves.
    Serving,
    /// It serves, and has told its clients that it is going.
    Draining,
    /// It answers what runs, refuses what is new, and closes what is quiet.
    Refusing,
}

/// What the connections of a server share.
struct Shared {
    service: Arc<str>,
    /// The `servicemethod` of every call that runs.
    forward: Box<[u8]>,
    version: Arc<str>,
    id: Mutex<InstanceId>,
    limits: Limits,
    dispatch: Arc<dyn Dispatch>,
    registered: AtomicBool,
    phase: watch::Sender<Phase>,
    in_flight: AtomicUsize,
    refused: Refused,
    crowd: Arc<Crowd>,
    /// When this process stood still.
    pauses: Pauses,
    tasks: TaskTracker,
    /// Is cancelled when no more connections are accepted.
    accepting: CancellationToken,
    /// Ends every connection, whatever it is doing.
    cut: CancellationToken,
    /// Whether it does, without the lock that all connections share.
    is_cut: AtomicBool,
}

impl Shared {
    fn id(&self) -> InstanceId {
        *self.id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Asks those who have been silent longest to leave; tells how many it asked.
    fn make_room(&self) -> usize {
        let most = MAKE_ROOM.max(self.crowd.len() / MAKE_ROOM_PART);
        self.crowd.ask(most, Stage::Untold, SILENT, Instant::now())
    }

    /// Sends idle clients away, one look after the other; never returns.
    #[expect(clippy::infinite_loop, reason = "it is cancelled with its server")]
    async fn limit_idleness(&self) {
        let idle = self.limits.idle;
        loop {
            tokio::time::sleep((idle / IDLE_LOOKS).max(IDLE_LOOK)).await;
            let now = Instant::now();
            let asked = self.crowd.ask(usize::MAX, Stage::Told, idle, now);
            if asked > 0 {
                tracing::debug!(
                    service = &*self.service,
                    asked,
                    "idle connections are closed"
                );
            }
        }
    }
}

/// A port that is served. Dropping it cuts every connection.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Server {
    /// Serves `listener` from now on, in tasks of the current runtime.
    ///
    /// # Errors
    /// When the listener's own address cannot be told.
    pub fn start(
        listener: TcpListener,
        who: Identification,
        limits: Limits,
        dispatch: Arc<dyn Dispatch>,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let forward = format!("{}.{FORWARD}", who.service);
        let cut = CancellationToken::new();
        let shared = Arc::new(Shared {
            forward: forward.into_bytes().into_boxed_slice(),
            service: who.service,
            version: who.version,
            id: Mutex::new(who.id),
            limits,
            dispatch,
            registered: AtomicBool::new(true),
            phase: watch::Sender::new(Phase::Serving),
            in_flight: AtomicUsize::new(0),
            refused: Refused::default(),
            crowd: Crowd::new(Instant::now()),
            pauses: Pauses::new(Instant::now()),
            tasks: TaskTracker::new(),
            accepting: cut.child_token(),
            cut,
            is_cut: AtomicBool::new(false),
        });
        shared.tasks.spawn(accept(listener, Arc::clone(&shared)));
        let noticing = Arc::clone(&shared);
        tokio::spawn(async move {
            let over = noticing.cut.clone();
            let both = async { tokio::join!(noticing.pauses.notice(), noticing.limit_idleness()) };
            over.run_until_cancelled(both).await;
        });
        Ok(Self { shared, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What handshakes say from now on; connections that stand are served as before.
    pub fn set_registered(&self, registered: bool) {
        self.shared.registered.store(registered, Ordering::Release);
    }

    /// The id that handshakes say from now on; connections that stand are served as before.
    pub fn set_id(&self, id: InstanceId) {
        *self
            .shared
            .id
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = id;
    }

    /// Whether handshakes say that the service is registered.
    pub fn is_registered(&self) -> bool {
        self.shared.registered.load(Ordering::Acquire)
    }

    /// Calls that run and wait for something.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight()
    }

    /// Connections that are served.
    pub fn connections(&self) -> usize {
        self.shared.crowd.len()
    }

    /// Serves a connection that was accepted elsewhere, from its handshake to its end, as one of
    /// `address`.
    pub fn adopt<S>(&self, stream: S, address: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        admit(stream, address, &self.shared);
    }

    /// Requests that were not begun, by the word of their code.
    pub fn refused(&self) -> BTreeMap<String, i64> {
        self.shared.refused.read()
    }

    /// Tells every client that understands it to send nothing more here; serves on.
    pub fn announce_drain(&self) {
        self.advance(Phase::Draining);
    }

    /// Accepts no more, refuses new calls as `draining`, closes connections as they fall quiet.
    pub fn refuse_new(&self) {
        self.shared.accepting.cancel();
        self.advance(Phase::Refusing);
        self.shared.tasks.close();
    }

    fn advance(&self, next: Phase) {
        self.shared.phase.send_if_modified(|phase| {
            let forward = (*phase as u8) < next as u8;
            if forward {
                *phase = next;
            }
            forward
        });
    }

    /// Waits until the last connection has ended; call [`Server::refuse_new`] first.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn ended(&self) {
        self.shared.tasks.wait().await;
    }

    /// Ends every connection at once, answered or not.
    pub fn cut(&self) {
        self.refuse_new();
        self.shared.is_cut.store(true, Ordering::Release);
        self.shared.cut.cancel();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cut();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let accepting = shared.accepting.clone();
    let mut waits = Backoff::new(ACCEPT_WAITS.0, ACCEPT_WAITS.1);
    while let Some(accepted) = accepting.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, address)) => {
                waits.reset();
                socket::prepare(&stream);
                admit(stream, address, &shared);
            }
            Err(error) if socket::concerns_one_connection(&error) => {}
            Err(error) => {
                let wait = waits.next_wait();
                let out_of_files = socket::is_out_of_files(&error);
                let asked_to_leave = if out_of_files { shared.make_room() } else { 0 };
                tracing::warn!(
                    service = &*shared.service,
                    error = &error as &dyn std::error::Error,
                    ?wait,
                    asked_to_leave,
                    "cannot accept connections, waiting"
                );
                let _over = accepting
                    .run_until_cancelled(tokio::time::sleep(wait))
                    .await;
            }
        }
    }
}

fn admit<S>(stream: S, address: SocketAddr, shared: &Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let served = shared.crowd.len();
    if served >= shared.limits.connections {
        let asked_to_leave = shared.make_room();
        tracing::warn!(
            client = %address,
            served,
            asked_to_leave,
            "too many connections, closing a new one"
        );
        return;
    }
    let seat = shared.crowd.enter(Instant::now());
    let connection = connection::serve(stream, address, Arc::clone(shared), seat);
    shared.tasks.spawn(until_cut(shared, connection));
}

/// Goes on with `connection` until its end or that of the server. The token is asked once: it keeps
/// the task's waker, which stays the same, and asking takes a lock that all connections share.
fn until_cut(
    shared: &Arc<Shared>,
    connection: impl Future<Output = ()> + Send + 'static,
) -> impl Future<Output = ()> + Send + 'static {
    let mut connection = Box::pin(connection);
    let mut cut = Box::pin(shared.cut.clone().cancelled_owned());
    let mut has_asked = false;
    let shared = Arc::clone(shared);
    std::future::poll_fn(move |task| {
        let is_cut = if std::mem::replace(&mut has_asked, true) {
            shared.is_cut.load(Ordering::Acquire)
        } else {
            cut.as_mut().poll(task).is_ready()
        };
        if is_cut {
            return Poll::Ready(());
        }
        connection.as_mut().poll(task)
    })
}
