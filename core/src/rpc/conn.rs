//! A client's connection: many calls at once on one socket.
//!
//! One task per connection reads answers and sends what has gathered; a call has no task. Callers
//! encode straight into the shared send buffer, and a caller that is alone sends it itself.
//! Invariants: nothing is sent before the peer's handshake was judged; a call whose future is
//! dropped is forgotten at once; when the connection ends every call gets its outcome; no lock is
//! held across an await or a system call.

mod driver;
mod state;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use self::driver::Driver;
use self::state::{Admitted, Outcome, Shared};
use super::error::{CallFailure, Called, Code, ConnectError, Ended, Peer, Why};
use super::frame::{FrameBuffer, MAX_FRAME};
use super::message::{ClientHandshake, ServiceHandshake};
use super::server::poll_read;
use super::socket;
use crate::instance::InstanceId;

/// Who must answer at an address. A peer of 2012 names neither, and is believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// The service's name.
    pub service: Option<Arc<str>>,
    /// The instance's id.
    pub id: Option<InstanceId>,
}

/// How to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Who must be there; `None` takes whoever is.
    pub expect: Option<Expected>,
    /// How long connecting and the handshake may take together.
    pub timeout: Duration,
    /// The largest document, in bytes, in both directions.
    pub max_frame: usize,
    /// Calls at once, and no more than the service runs; further ones wait for a place.
    pub max_in_flight: usize,
    /// Bytes of requests that wait to be sent; beyond it further calls wait.
    pub max_unsent: usize,
    /// Whether the service may tell us that it is going.
    pub notices: bool,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            expect: None,
            timeout: Duration::from_secs(5),
            max_frame: MAX_FRAME,
            max_in_flight: 4096,
            max_unsent: 4 * 1024 * 1024,
            notices: true,
        }
    }
}

/// What goes with a request beside its parameter.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestInfo<'a> {
    /// The request's id, the same through a chain of services.
    pub request_id: &'a str,
    /// Where the first request of the chain came from; empty for the first.
    pub origin: &'a str,
    /// How many times it was tried before.
    pub retry_count: u32,
    /// When nobody waits for the answer any more.
    pub deadline: Option<Instant>,
    /// The W3C trace context.
    pub traceparent: Option<&'a str>,
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The service's name.
    pub service: &'a str,
    /// The method's name.
    pub method: &'a str,
    /// What goes with it.
    pub info: RequestInfo<'a>,
    /// The parameter: a BSON document.
    pub input: &'a [u8],
}

/// The answer of a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The result: a BSON document, as [`crate::rpc::typed::decode`] reads it.
    pub output: Bytes,
    /// The method's own error; the result beside it is what it had filled in.
    pub service_error: Option<String>,
}

/// A connection to one instance; clones share it. It closes when the last clone is dropped.
#[derive(Clone)]
pub struct Connection {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close(Ended::ByUs);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("address", &self.address())
            .field("in_flight", &self.in_flight())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects to `address`, and closes again, sending nothing, if somebody else than expected
    /// is there.
    ///
    /// # Errors
    /// When nobody is reached, the handshake does not come in time or does not read, the peer is
    /// not who was expected, or it is not registered.
    ///
    /// # Cancel safety
    /// Dropping the future closes what was opened.
    pub async fn open(address: SocketAddr, options: &ConnectOptions) -> Result<Self, ConnectError> {
        let limit = options.timeout;
        timeout(limit, shake_hands(address, options))
            .await
            .unwrap_or(Err(ConnectError::TimedOut { address, limit }))
    }

    /// Calls a method. Calls on one connection run at the same time and are answered in any order.
    ///
    /// # Errors
    /// When there is no answer of the method; see [`CallFailure`] for what is then known. A
    /// method's own error is not one of them: it is in [`Reply::service_error`].
    ///
    /// # Cancel safety
    /// Dropping the future forgets the call, and tells the service, where it understands that; the
    /// method may run all the same.
    pub async fn call(&self, request: Request<'_>) -> Result<Reply, CallFailure> {
        let shared = &*self.handle.shared;
        let place = match shared.room.try_acquire() {
            Ok(place) => place,
            Err(_busy) => {
                let place = within(&request, shared.room.acquire()).await;
                place
                    .and_then(|place| place.map_err(|_closed| Why::Ended(shared.why_ended())))
                    .map_err(|why| self.not_sent(&request, why))?
            }
        };
        let mut call = CallGuard { shared, seq: None };
        let outcome = loop {
            match std::future::poll_fn(|task| call.poll(&request, task)).await {
                Admitted::Yes(outcome) => break outcome,
                Admitted::NotNow => within(&request, shared.wait_for_room())
                    .await
                    .map_err(|why| self.not_sent(&request, why))?,
            }
        };
        drop(place);
        self.judge(&request, outcome)
    }

    /// What the service said first.
    pub fn handshake(&self) -> &ServiceHandshake {
        &self.handle.shared.handshake
    }

    /// Where the instance is.
    pub fn address(&self) -> SocketAddr {
        self.handle.shared.address
    }

    /// Whether no new call should be sent here: it has ended, or the service said that it is going.
    pub fn is_closed(&self) -> bool {
        self.handle.shared.is_closed()
    }

    /// Whether the service runs as many calls of this connection as it may, as far as is known
    /// here. Then it may read nothing, and answers no ping.
    pub fn is_full(&self) -> bool {
        let most = usize::try_from(self.handshake().max_calls).unwrap_or(0);
        most > 0 && self.in_flight() >= most
    }

    /// Waits until the connection has ended.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn closed(&self) {
        self.handle.shared.over.cancelled().await;
    }

    /// Calls that have been sent, or are about to be, and have no answer.
    pub fn in_flight(&self) -> usize {
        self.handle.shared.in_flight.load(Ordering::Relaxed)
    }

    /// Ends the connection now; calls in flight get their outcome.
    pub fn close(&self) {
        self.handle.shared.close(Ended::ByUs);
    }

    /// Ends the connection because its peer is taken for gone; calls in flight get their outcome.
    pub fn give_up(&self) {
        self.handle.shared.close(Ended::Silent);
    }

    /// Asks the peer for a sign of life, which then shows in [`Connection::heard`]: services of ours
    /// answer it, and those of 2012 refuse it, which proves as much.
    pub fn ping(&self) {
        self.handle.shared.ping();
    }

    /// Whether both are handles to one connection.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.handle, &other.handle)
    }

    /// A number that grows whenever something is read from the peer.
    pub fn heard(&self) -> u64 {
        self.handle.shared.heard.load(Ordering::Relaxed)
    }

    /// Why the connection has ended; `None` while it stands, also while it takes no new calls.
    pub fn ended(&self) -> Option<Ended> {
        self.handle.shared.ended()
    }

    /// What errors name.
    fn called(&self, request: &Request<'_>) -> Called {
        Called {
            service: request.service.to_owned(),
            method: request.method.to_owned(),
            instance: self.handshake().uuid.parse().ok(),
            address: self.address(),
            request_id: request.info.request_id.to_owned(),
        }
    }

    fn not_sent(&self, request: &Request<'_>, why: Why) -> CallFailure {
        let called = Box::new(self.called(request));
        CallFailure::NotSent { called, why }
    }

    fn judge(&self, request: &Request<'_>, outcome: Outcome) -> Result<Reply, CallFailure> {
        let called = || Box::new(self.called(request));
        Err(match outcome {
            Outcome::Answer(reply) => return Ok(reply),
            Outcome::NotSent(why) => self.not_sent(request, why),
            Outcome::Unknown(why) => CallFailure::Unknown {
                called: called(),
                why,
            },
            Outcome::Refused { code, message } => {
                match code.filter(|code| code.is_not_executed()) {
                    Some(code) => CallFailure::NotExecuted {
                        called: called(),
                        code,
                        message,
                    },
                    None => CallFailure::Rejected {
                        called: called(),
                        code,
                        message,
                    },
                }
            }
        })
    }
}

/// Waits for `future` until the request's deadline.
async fn within<T>(request: &Request<'_>, future: impl Future<Output = T>) -> Result<T, Why> {
    match request.info.deadline {
        None => Ok(future.await),
        Some(deadline) => timeout_at(deadline, future)
            .await
            .map_err(|_elapsed| Why::Deadline),
    }
}

/// A call's place in the table of those that wait; given back when the future is dropped.
struct CallGuard<'a> {
    shared: &'a Shared,
    seq: Option<i64>,
}

impl CallGuard<'_> {
    fn poll(&mut self, request: &Request<'_>, task: &TaskContext<'_>) -> Poll<Admitted> {
        if let Some(seq) = self.seq {
            let outcome = std::task::ready!(self.shared.poll_outcome(seq, task));
            self.seq = None;
            return Poll::Ready(Admitted::Yes(outcome));
        }
        match self.shared.begin(request, task) {
            Ok(seq) => {
                self.seq = Some(seq);
                Poll::Pending
            }
            Err(refused) => Poll::Ready(refused),
        }
    }
}

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        if let Some(seq) = self.seq {
            self.shared.forget(seq);
        }
    }
}

/// Connects, reads the peer's handshake, judges it, answers it.
async fn shake_hands(
    address: SocketAddr,
    options: &ConnectOptions,
) -> Result<Connection, ConnectError> {
    let unreachable = |source| ConnectError::Unreachable { address, source };
    let failed = |source| ConnectError::Handshake { address, source };
    let broken = |error| failed(Ended::Broken(Arc::new(error)));
    let mut stream = TcpStream::connect(address).await.map_err(unreachable)?;
    socket::prepare(&stream);
    socket::limit_unacknowledged(&stream);
    let mut frames = FrameBuffer::new(options.max_frame);
    let document = loop {
        if let Some(document) = frames.take().map_err(|error| failed(error.into()))? {
            break document;
        }
        let read = std::future::poll_fn(|task| poll_read(&mut stream, &mut frames, task));
        if read.await.map_err(broken)? == 0 {
            return Err(failed(Ended::ByPeer));
        }
    };
    let handshake = ServiceHandshake::read(&document).map_err(|error| failed(error.into()))?;
    judge_peer(address, &handshake, options.expect.as_ref())?;
    if !handshake.registered {
        return Err(ConnectError::Unregistered { address });
    }
    let mut greeting = Vec::new();
    ClientHandshake {
        client_id: String::new(),
        notices: options.notices,
    }
    .write(&mut greeting);
    stream.write_all(&greeting).await.map_err(broken)?;
    let (reading, writing) = stream.into_split();
    let shared = Arc::new(Shared::new(address, handshake, options, writing));
    let driver = Driver::new(Arc::clone(&shared), reading, frames);
    tokio::spawn(driver.run());
    Ok(Connection {
        handle: Arc::new(Handle { shared }),
    })
}

/// Compares who is there with who was expected, as far as the peer says it.
fn judge_peer(
    address: SocketAddr,
    handshake: &ServiceHandshake,
    expected: Option<&Expected>,
) -> Result<(), ConnectError> {
    let Some(expected) = expected else {
        return Ok(());
    };
    let other_service = expected
        .service
        .as_deref()
        .is_some_and(|name| !handshake.name.is_empty() && *name != *handshake.name);
    let found = handshake.uuid.parse().ok();
    let other_instance =
        expected.id.is_some() && !handshake.uuid.is_empty() && expected.id != found;
    if !other_service && !other_instance {
        return Ok(());
    }
    Err(ConnectError::Mismatch {
        address,
        expected: Peer {
            service: expected.service.clone(),
            id: expected.id,
        },
        found: Peer {
            service: (!handshake.name.is_empty()).then(|| handshake.name.as_str().into()),
            id: found,
        },
    })
}

impl Outcome {
    fn refused(code: &[u8], message: &[u8]) -> Self {
        Self::Refused {
            code: Code::from_wire(code),
            message: String::from_utf8_lossy(message).into_owned(),
        }
    }
}
