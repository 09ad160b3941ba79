//! What a server needs of the methods behind it: begin a call, poll it, let it write its answer.
//!
//! Invariants: a request's bytes are only borrowed while a call begins, so the connection keeps its
//! buffer; an answer is written once, straight into a send buffer. Knows nothing of sockets and
//! nothing of how methods are declared.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};

use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::Code;
use super::message::{
    EMPTY_DOCUMENT, RequestInfo, ResponseBody, ResponseHeader, leading_document, write_output,
};

/// The client at the other end of a connection.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    text: String,
    id: String,
    gone: CancellationToken,
    /// The calls that it gave up of late, by their `seq`.
    given_up: Mutex<VecDeque<i64>>,
    /// Told whenever one is added to them.
    gave_up: Notify,
}

/// How many calls of a connection are remembered as given up: as many as it usually may have.
const MOST_GIVEN_UP: usize = 1024;

impl Client {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            text: address.to_string(),
            id: uuid::Uuid::new_v4().to_string(),
            gone: CancellationToken::new(),
            given_up: Mutex::default(),
            gave_up: Notify::new(),
        }
    }

    /// Where it connects from.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as requests name it, `ip:port`.
    pub fn address_text(&self) -> &str {
        &self.text
    }

    /// What its handshake gave it, and what its requests must repeat.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Is cancelled when the connection ends.
    pub fn gone(&self) -> &CancellationToken {
        &self.gone
    }

    /// Notes that it waits for call `seq` no more.
    pub(super) fn give_up(&self, seq: i64) {
        let mut given_up = self.given_up();
        if given_up.len() >= MOST_GIVEN_UP {
            given_up.pop_front();
        }
        given_up.push_back(seq);
        drop(given_up);
        self.gave_up.notify_waiters();
    }

    /// Whether it waits for call `seq` no more: it said so, or its connection ended.
    pub fn has_hung_up(&self, seq: i64) -> bool {
        self.gone.is_cancelled() || self.given_up().contains(&seq)
    }

    /// Waits until it waits for call `seq` no more.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn hung_up(&self, seq: i64) {
        let given_up = async {
            loop {
                let gave_up = self.gave_up.notified();
                tokio::pin!(gave_up);
                // From here on, nothing is missed.
                gave_up.as_mut().enable();
                if self.has_hung_up(seq) {
                    return;
                }
                gave_up.await;
            }
        };
        self.gone.run_until_cancelled(given_up).await;
    }

    fn given_up(&self) -> std::sync::MutexGuard<'_, VecDeque<i64>> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is about to be begun.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// Its number on its connection.
    pub seq: i64,
    /// The method's name.
    pub method: &'a [u8],
    /// What came with it.
    pub info: RequestInfo<'a>,
    /// The parameter as it came; [`Incoming::document`] judges it.
    pub input: &'a [u8],
    /// Who asks.
    pub client: &'a Arc<Client>,
    /// When it was read.
    pub received: Instant,
    /// When nobody waits for the answer any more.
    pub deadline: Option<Instant>,
}

impl<'a> Incoming<'a> {
    /// The parameter's document, its structure judged; what follows it is ignored.
    ///
    /// # Errors
    /// With the original's texts when it is no document that can be decoded safely.
    pub fn document(&self) -> Result<&'a [u8], Refusal> {
        leading_document(self.input)
            .map_err(|error| Refusal::new(Code::BadRequest, error.to_string()))
    }
}

/// Why a call does not begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The word for programs.
    pub code: Code,
    /// The text for the header, as the original writes it.
    pub text: Vec<u8>,
}

impl Refusal {
    /// A refusal with a text.
    pub fn new(code: Code, text: impl Into<Vec<u8>>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }
}

/// A call that has begun.
pub trait RunningCall: Send {
    /// Goes on with the call and, when it is done, writes its one answer.
    fn poll_answer(
        self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
        reply: &mut Answer<'_>,
    ) -> Poll<()>;

    /// The request's id, for the log.
    fn request_id(&self) -> &str;

    /// The method's name, for the log.
    fn method(&self) -> &str;

    /// When it was done, if it has looked at the clock then: nobody else has to look again.
    fn ended(&self) -> Option<Instant> {
        None
    }

    /// Tells that one poll took long: its method is better not polled between reads.
    fn was_slow(&self);
}

/// How a call is to be run.
pub enum Begun {
    /// Polled once between reads; only what waits gets a task.
    Inline(Pin<Box<dyn RunningCall>>),
    /// Known to compute for long: gets a task at once, so that reads go on.
    Task(Pin<Box<dyn RunningCall>>),
}

impl fmt::Debug for Begun {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, call) = match self {
            Self::Inline(call) => ("Inline", call),
            Self::Task(call) => ("Task", call),
        };
        write!(formatter, "{kind}({} {})", call.method(), call.request_id())
    }
}

/// The methods of a service.
pub trait Dispatch: Send + Sync + 'static {
    /// The methods that may run twice, which handshakes tell.
    fn idempotent(&self) -> Vec<String> {
        Vec::new()
    }

    /// Begins a call.
    ///
    /// # Errors
    /// When there is no such method or its parameter does not read.
    fn begin(&self, incoming: Incoming<'_>) -> Result<Begun, Refusal>;
}

/// The place for one answer at the end of a send buffer.
#[derive(Debug)]
pub struct Answer<'a> {
    buffer: &'a mut Vec<u8>,
    service_method: &'a [u8],
    seq: i64,
    start: usize,
    limit: usize,
}

impl<'a> Answer<'a> {
    /// The answer to request `seq`, of at most `limit` bytes.
    pub fn new(buffer: &'a mut Vec<u8>, service_method: &'a [u8], seq: i64, limit: usize) -> Self {
        let start = buffer.len();
        Self {
            buffer,
            service_method,
            seq,
            start,
            limit,
        }
    }

    fn header(&mut self, code: &[u8], error: &[u8]) {
        self.buffer.truncate(self.start);
        ResponseHeader {
            service_method: self.service_method,
            seq: self.seq,
            error,
            code,
        }
        .write(self.buffer);
    }

    /// Writes the method's result, and its error when there is one.
    pub fn output<T: Serialize + ?Sized>(&mut self, output: &T, service_error: &str) {
        self.header(b"", b"");
        if let Err(error) = write_output(output, service_error, self.buffer) {
            tracing::error!(
                kind = std::any::type_name::<T>(),
                error = &error as &dyn std::error::Error,
                "a result does not become a document"
            );
            self.refuse(&Refusal::new(
                Code::Internal,
                "the result does not become a document",
            ));
        }
        self.limit_size();
    }

    /// A peer that gets a larger document than it reads closes the connection, and every call on
    /// it fails: better that only this one does.
    fn limit_size(&mut self) {
        let size = self.buffer.len() - self.start;
        if size > self.limit {
            let limit = self.limit;
            self.refuse(&Refusal::new(
                Code::Internal,
                format!("the answer has {size} bytes, the limit is {limit}"),
            ));
        }
    }

    /// Writes a method's error beside a result that is a document already.
    pub fn service_error(&mut self, text: &str, out: Option<&[u8]>) {
        self.header(b"", b"");
        ResponseBody {
            out: Some(out.unwrap_or(&EMPTY_DOCUMENT)),
            error: text.as_bytes(),
        }
        .write(self.buffer);
        self.limit_size();
    }

    /// Writes that the method was not run, or not to its end.
    pub fn refuse(&mut self, refusal: &Refusal) {
        self.header(refusal.code.as_str().as_bytes(), &refusal.text);
        self.buffer.extend_from_slice(&EMPTY_DOCUMENT);
    }

    /// Writes an answer that says nothing, as to a ping.
    pub fn empty(&mut self) {
        self.header(b"", b"");
        self.buffer.extend_from_slice(&EMPTY_DOCUMENT);
    }
}
