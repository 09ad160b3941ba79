//! A service's port: accepting, the handshake, and the phases of a drain.
//!
//! Invariants: no connection can hold up another or the accept loop; a client that stays silent has
//! a deadline of its own; client ids are valid on their own connection only; every task of a server
//! is tracked, so that its end can be waited for. Knows nothing of the registry and nothing of what
//! methods there are.

mod call;
mod pause;
mod refused;
mod request;
mod serving;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::pause::Pauses;
use self::refused::Refused;
use self::serving::Serving;
use super::error::Ended;
use super::frame::{FrameBuffer, MAX_FRAME};
use super::handler::{Client, Dispatch};
use super::message::{ClientHandshake, FORWARD, ServiceHandshake};
use super::socket;
use crate::backoff::Backoff;
use crate::instance::InstanceId;

pub(crate) use serving::poll_read;

/// How long a closed connection is read on, so that its last answers are not lost to a reset.
const LINGER: Duration = Duration::from_millis(250);

/// How long a connection of a draining service must have been quiet before it is closed: a request
/// may be on its way.
const QUIET: Duration = Duration::from_millis(100);

/// Waits of the accept loop while the system has no more descriptors.
const ACCEPT_WAITS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// What a service takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest document, in bytes.
    pub frame: usize,
    /// Calls of one connection that run at once; beyond it the connection is not read.
    pub per_connection: usize,
    /// Calls of all connections that run at once; beyond it calls are refused as `overloaded`.
    pub per_service: usize,
    /// Connections at once; beyond it new ones are closed.
    pub connections: usize,
    /// Bytes of answers that wait for a client to take them; beyond it the connection is not read.
    pub unsent: usize,
    /// How long a client may take for its handshake.
    pub handshake: Duration,
    /// How long the rest of a document, or a client that does not read, is waited for.
    pub partial_frame: Duration,
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
    connections: AtomicUsize,
    refused: Refused,
    /// When this process stood still.
    pauses: Pauses,
    tasks: TaskTracker,
    /// Is cancelled when no more connections are accepted.
    accepting: CancellationToken,
    /// Ends every connection, whatever it is doing.
    cut: CancellationToken,
}

impl Shared {
    fn id(&self) -> InstanceId {
        *self.id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
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
            connections: AtomicUsize::new(0),
            refused: Refused::default(),
            pauses: Pauses::new(Instant::now()),
            tasks: TaskTracker::new(),
            accepting: cut.child_token(),
            cut,
        });
        shared.tasks.spawn(accept(listener, Arc::clone(&shared)));
        let noticing = Arc::clone(&shared);
        tokio::spawn(async move {
            let over = noticing.cut.clone();
            over.run_until_cancelled(noticing.pauses.notice()).await;
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
        self.shared.connections.load(Ordering::Acquire)
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
                admit(stream, address, &shared);
            }
            Err(error) if socket::concerns_one_connection(&error) => {}
            Err(error) => {
                let wait = waits.next_wait();
                tracing::warn!(
                    service = &*shared.service,
                    error = &error as &dyn std::error::Error,
                    ?wait,
                    "cannot accept connections, waiting"
                );
                let _over = accepting
                    .run_until_cancelled(tokio::time::sleep(wait))
                    .await;
            }
        }
    }
}

/// A connection's place among those that are served.
struct Admission(Arc<Shared>);

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

fn admit(stream: TcpStream, address: SocketAddr, shared: &Arc<Shared>) {
    let served = shared.connections.fetch_add(1, Ordering::AcqRel);
    let admission = Admission(Arc::clone(shared));
    if served >= shared.limits.connections {
        tracing::warn!(client = %address, served, "too many connections, closing a new one");
        return;
    }
    socket::prepare(&stream);
    let connection = async move {
        let shared = Arc::clone(&admission.0);
        serve(stream, address, shared).await;
        drop(admission);
    };
    let cut = shared.cut.clone();
    shared
        .tasks
        .spawn(cut.run_until_cancelled_owned(connection));
}

/// Serves one connection to its end.
async fn serve(stream: TcpStream, address: SocketAddr, shared: Arc<Shared>) {
    let client = Arc::new(Client::new(address));
    // Whatever ends this task, also being cut, tells the methods that nobody waits any more.
    let _gone = client.gone().clone().drop_guard();
    let limit = shared.limits.handshake;
    let greeting = timeout(limit, greet(stream, &client, &shared));
    let greeted = tokio::select! {
        greeted = greeting => greeted,
        // Silent clients do not hold up the end of a service.
        () = quiet_after(&shared.accepting) => return,
    };
    let mut serving = match greeted {
        Ok(Ok(Some(serving))) => serving,
        Ok(Ok(None)) => return,
        Ok(Err(ended)) => {
            tracing::debug!(
                client = %address,
                error = &ended as &dyn std::error::Error,
                "a connection ended in its handshake"
            );
            return;
        }
        Err(_elapsed) => {
            tracing::debug!(client = %address, ?limit, "no handshake came, closing");
            return;
        }
    };
    let ended = std::future::poll_fn(|task| serving.poll(task)).await;
    match &ended {
        Ended::Frame(_) | Ended::Document(_) => tracing::warn!(
            client = %address,
            error = &ended as &dyn std::error::Error,
            "closing a connection that cannot be read on"
        ),
        _ => tracing::debug!(client = %address, why = %ended, "a connection ended"),
    }
    if !matches!(ended, Ended::Broken(_)) {
        linger(serving.into_stream()).await;
    }
}

/// Waits until no more is accepted, and then for what may be on its way.
async fn quiet_after(accepting: &CancellationToken) {
    accepting.cancelled().await;
    tokio::time::sleep(QUIET).await;
}

/// Both handshakes; `None` when the service is not registered and the client was told so.
async fn greet(
    mut stream: TcpStream,
    client: &Arc<Client>,
    shared: &Arc<Shared>,
) -> Result<Option<Serving>, Ended> {
    let broken = |error| Ended::Broken(Arc::new(error));
    let registered = shared.registered.load(Ordering::Acquire);
    let mut bytes = Vec::new();
    ServiceHandshake {
        registered,
        client_id: client.id().to_owned(),
        name: shared.service.to_string(),
        version: shared.version.to_string(),
        uuid: shared.id().to_string(),
        max_calls: i64::try_from(shared.limits.per_connection).unwrap_or(i64::MAX),
    }
    .write(&mut bytes);
    stream.write_all(&bytes).await.map_err(broken)?;
    if !registered {
        linger(stream).await;
        return Ok(None);
    }
    let mut frames = FrameBuffer::new(shared.limits.frame);
    let document = loop {
        if let Some(document) = frames.take()? {
            break document;
        }
        let read = std::future::poll_fn(|task| poll_read(&mut stream, &mut frames, task));
        if read.await.map_err(broken)? == 0 {
            return Err(Ended::ByPeer);
        }
    };
    let handshake = ClientHandshake::read(&document)?;
    let (shared, client) = (Arc::clone(shared), Arc::clone(client));
    let notices = handshake.notices;
    Ok(Some(Serving::new(shared, stream, client, frames, notices)))
}

/// Closes the sending side and reads what still comes for a moment: closing with unread bytes
/// resets the connection, and the peer may lose what was sent last.
async fn linger(mut stream: TcpStream) {
    let rest = async {
        stream.shutdown().await?;
        let mut waste = [0; 4096];
        while stream.read(&mut waste).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    let _over = timeout(LINGER, rest).await;
}
