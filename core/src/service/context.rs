//! What a method is told beside its parameter, and the error that it may answer with.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use serde::Serialize;
use tokio::time::Instant;

use super::method::Entry;
use crate::instance::{Identity, InstanceId};
use crate::rpc::handler::{Client, Incoming};
use crate::rpc::typed::{self, TypedError};

/// Who and where this instance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceInfo {
    /// Service, version, region, host and id.
    pub identity: Identity,
    /// Where it answers.
    pub address: SocketAddr,
    /// Where it answers `Admin` requests, when it does.
    pub admin_address: Option<SocketAddr>,
}

/// Who we are: as we began, and as we go on where another machine has our id. That happens once at
/// most, because the new id is a random one.
#[derive(Debug)]
pub(super) struct Who {
    first: ServiceInfo,
    renamed: OnceLock<ServiceInfo>,
}

impl Who {
    pub(super) fn new(first: ServiceInfo) -> Self {
        Self {
            first,
            renamed: OnceLock::new(),
        }
    }

    pub(super) fn info(&self) -> &ServiceInfo {
        self.renamed.get().unwrap_or(&self.first)
    }

    pub(super) fn set_id(&self, id: InstanceId) {
        let mut renamed = self.first.clone();
        renamed.identity.id = id;
        let _once = self.renamed.set(renamed);
    }
}

/// One call, as its method sees it. Clones share it.
#[derive(Clone)]
pub struct Context {
    call: Arc<Call>,
}

/// What is kept of a request while its method runs.
pub(super) struct Call {
    pub(super) entry: Arc<Entry>,
    request_id: String,
    origin: Option<Box<str>>,
    traceparent: Option<Box<str>>,
    retry_count: u32,
    deadline: Option<Instant>,
    client: Arc<Client>,
    seq: i64,
}

impl Context {
    pub(super) fn new(entry: &Arc<Entry>, incoming: &Incoming<'_>) -> Self {
        let text = |bytes| match str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_replaced) => String::from_utf8_lossy(bytes).into_owned(),
        };
        let info = &incoming.info;
        let address = incoming.client.address().ip();
        let believed = !info.origin_address.is_empty() && entry.trusts(address);
        let traceparent = (!info.traceparent.is_empty()).then(|| text(info.traceparent).into());
        Self {
            call: Arc::new(Call {
                entry: Arc::clone(entry),
                request_id: text(info.request_id),
                origin: believed.then(|| text(info.origin_address).into()),
                traceparent,
                retry_count: u32::try_from(info.retry_count.max(0)).unwrap_or(u32::MAX),
                deadline: incoming.deadline,
                client: Arc::clone(incoming.client),
                seq: incoming.seq,
            }),
        }
    }

    pub(super) fn entry(&self) -> &Arc<Entry> {
        &self.call.entry
    }

    /// The request's id: the same through a chain of services, and in every log about it.
    pub fn request_id(&self) -> &str {
        &self.call.request_id
    }

    /// Where the first request of the chain came from, `ip:port`: what the client says if it is
    /// [trusted](crate::service::Builder::trust), and otherwise, as in the original, the client
    /// itself.
    pub fn origin(&self) -> &str {
        let said = self.call.origin.as_deref();
        said.unwrap_or_else(|| self.call.client.address_text())
    }

    /// How many times the client had tried before.
    pub fn retry_count(&self) -> u32 {
        self.call.retry_count
    }

    /// When nobody waits for the answer any more; `None` when the client did not say.
    pub fn deadline(&self) -> Option<Instant> {
        self.call.deadline
    }

    /// The W3C trace context that the client sent.
    pub fn traceparent(&self) -> Option<&str> {
        self.call.traceparent.as_deref()
    }

    /// Where the client connects from.
    pub fn client(&self) -> SocketAddr {
        self.call.client.address()
    }

    /// The method's name.
    pub fn method(&self) -> &str {
        self.call.entry.name()
    }

    /// Who and where this instance is.
    pub fn service(&self) -> &ServiceInfo {
        self.call.entry.service()
    }

    /// Whether nobody waits for the answer any more: the client hung up or gave the call up, or the
    /// deadline passed.
    /// The method runs on all the same unless it looks.
    pub fn is_cancelled(&self) -> bool {
        self.call.client.has_hung_up(self.call.seq)
            || self
                .call
                .deadline
                .is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Waits until nobody waits for the answer any more.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn cancelled(&self) {
        let gone = self.call.client.hung_up(self.call.seq);
        match self.call.deadline {
            Some(deadline) => {
                let _either = tokio::time::timeout_at(deadline, gone).await;
            }
            None => gone.await,
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Context")
            .field("method", &self.method())
            .field("request_id", &self.request_id())
            .field("client", &self.client())
            .finish_non_exhaustive()
    }
}

/// A method's own error: a text for the caller, and what of the result was filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ServiceError {
    message: String,
    output: Option<Vec<u8>>,
}

impl ServiceError {
    /// An error with a text; an empty one would read as a success.
    pub fn new(message: impl fmt::Display) -> Self {
        let mut message = message.to_string();
        if message.is_empty() {
            message.push_str("the method failed");
        }
        Self {
            message,
            output: None,
        }
    }

    /// The error with a result beside it, as far as it was filled in.
    ///
    /// # Errors
    /// When the result does not become a document.
    pub fn with_output<O: Serialize>(mut self, output: &O) -> Result<Self, TypedError> {
        self.output = Some(typed::encode(output)?);
        Ok(self)
    }

    /// The text.
    pub fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn output(&self) -> Option<&[u8]> {
        self.output.as_deref()
    }
}

impl From<String> for ServiceError {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl From<&str> for ServiceError {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl From<TypedError> for ServiceError {
    fn from(error: TypedError) -> Self {
        Self::new(error)
    }
}
