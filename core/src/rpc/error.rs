//! How a call or a connection fails, and what the caller then knows of its outcome.
//!
//! Invariant: `NotSent` and `NotExecuted` are only said when the method certainly did not run, and
//! `Failed` when it certainly did; everything that is not certain is `Unknown`.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::frame::{FrameError, ScanError};
use super::socket;
use crate::hint::{Hint, Retry};
use crate::instance::InstanceId;

/// Why a service did not run a method: the word beside the text of a header error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// The service is going; not executed.
    Draining,
    /// The service has too much to do; not executed.
    Overloaded,
    /// The deadline had passed before it began; not executed.
    Expired,
    /// The service takes no calls from clients that chose it; not executed.
    Unregistered,
    /// There is no such method or service at this address.
    NoMethod,
    /// The request or its parameter does not read.
    BadRequest,
    /// The method panicked, or its result could not be written.
    Internal,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 7] = [
        Self::Draining,
        Self::Overloaded,
        Self::Expired,
        Self::Unregistered,
        Self::NoMethod,
        Self::BadRequest,
        Self::Internal,
    ];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Overloaded => "overloaded",
            Self::Expired => "expired",
            Self::Unregistered => "unregistered",
            Self::NoMethod => "no_method",
            Self::BadRequest => "bad_request",
            Self::Internal => "internal",
        }
    }

    /// The code that a word on the wire means; `None` for the empty word and for newer ones.
    pub fn from_wire(word: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|code| code.as_str().as_bytes() == word)
    }

    /// Whether it promises that the method did not run and that another instance may run it.
    pub const fn is_not_executed(self) -> bool {
        matches!(
            self,
            Self::Draining | Self::Overloaded | Self::Expired | Self::Unregistered
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// What is known of a call that brought no result. They are in order: of several attempts at one
/// call, the greatest is what is known of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// No instance got the whole request.
    NotSent,
    /// An instance got it, and certainly did not run the method.
    NotExecuted,
    /// The method may have run.
    Unknown,
    /// The method ran, and failed or brought nothing that can be used.
    Failed,
}

impl Outcome {
    /// Every outcome, in order.
    pub const ALL: [Self; 4] = [
        Self::NotSent,
        Self::NotExecuted,
        Self::Unknown,
        Self::Failed,
    ];

    /// The words for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not sent",
            Self::NotExecuted => "not executed",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// Why a connection ended or could not be used.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Ended {
    /// The peer closed it.
    #[error("the peer closed the connection")]
    ByPeer,
    /// Every handle was dropped, or somebody closed it on this side.
    #[error("the connection was closed on this side")]
    ByUs,
    /// The peer said that it is going, and takes no new request here.
    #[error("the peer is draining")]
    Draining,
    /// The peer answers nothing any more, pings neither.
    #[error("the peer fell silent")]
    Silent,
    /// Reading or writing failed.
    #[error("the connection broke")]
    Broken(#[source] Arc<std::io::Error>),
    /// What the peer sent is not a stream of documents.
    #[error("the peer sent a frame that cannot be read")]
    Frame(#[from] FrameError),
    /// What the peer sent is not a document.
    #[error("the peer sent a document that cannot be read")]
    Document(#[from] ScanError),
}

/// Which request, of which instance: what every failure of a call names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// The service.
    pub service: String,
    /// The method.
    pub method: String,
    /// The instance's id; `None` where the peer does not say it.
    pub instance: Option<InstanceId>,
    /// Where the instance is.
    pub address: SocketAddr,
    /// The request's id, as it stands in the logs of both sides; empty where it had none.
    pub request_id: String,
}

impl fmt::Display for Called {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            service,
            method,
            instance,
            address,
            request_id,
        } = self;
        write!(formatter, "`{method}` of `{service}` at {address}")?;
        match instance {
            Some(instance) if request_id.is_empty() => write!(formatter, " (instance {instance})"),
            Some(instance) => write!(formatter, " (instance {instance}, request {request_id})"),
            None if request_id.is_empty() => Ok(()),
            None => write!(formatter, " (request {request_id})"),
        }
    }
}

/// Why a call brought no answer of the method.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CallFailure {
    /// No whole request reached the socket.
    #[error("{called} was not sent: {why}")]
    NotSent {
        /// Which request, and to whom.
        called: Box<Called>,
        /// What came between.
        why: Why,
    },
    /// The service says that it did not run the method.
    #[error("{called} was not executed: {message}")]
    NotExecuted {
        /// Which request, and of whom.
        called: Box<Called>,
        /// Which promise it made.
        code: Code,
        /// Its words.
        message: String,
    },
    /// The request was sent, or may have been, and there is no answer.
    #[error("the outcome of {called} is unknown: {why}")]
    Unknown {
        /// Which request, and of whom.
        called: Box<Called>,
        /// What came between.
        why: Why,
    },
    /// The service refused the request itself; it would refuse it again.
    #[error("{called} was refused ({}): {message}", self.outcome())]
    Rejected {
        /// Which request, and of whom.
        called: Box<Called>,
        /// Why; `None` from peers that do not say it in a word.
        code: Option<Code>,
        /// Its words.
        message: String,
    },
}

/// What came between a request and its answer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Why {
    /// The deadline passed.
    Deadline,
    /// The connection ended.
    Ended(Ended),
    /// The request is larger than a frame may be.
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// There is an answer, and it does not read.
    Garbled(ScanError),
}

impl fmt::Display for Why {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline => formatter.write_str("the deadline passed"),
            Self::Ended(Ended::Broken(error)) => write!(formatter, "the connection broke: {error}"),
            Self::Ended(ended) => ended.fmt(formatter),
            Self::Garbled(error) => write!(formatter, "its answer does not read: {error}"),
            Self::TooLarge { bytes, limit } => write!(
                formatter,
                "the request has {bytes} bytes, the limit of a frame is {limit}"
            ),
        }
    }
}

impl CallFailure {
    /// Which request failed, and of whom.
    pub fn called(&self) -> &Called {
        match self {
            Self::NotSent { called, .. }
            | Self::NotExecuted { called, .. }
            | Self::Unknown { called, .. }
            | Self::Rejected { called, .. } => called,
        }
    }

    /// Whether the same request may be sent again, here or elsewhere.
    pub fn retry(&self) -> Retry {
        match self {
            Self::NotSent {
                why: Why::TooLarge { .. },
                ..
            }
            | Self::Rejected { .. } => Retry::Never,
            Self::NotSent { .. } | Self::NotExecuted { .. } => Retry::Safe,
            Self::Unknown { .. } => Retry::IfIdempotent,
        }
    }

    /// What is known of the method's execution.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::NotSent { .. } => Outcome::NotSent,
            Self::NotExecuted { .. } => Outcome::NotExecuted,
            Self::Unknown { .. } => Outcome::Unknown,
            Self::Rejected { code, .. } => match code {
                Some(Code::NoMethod | Code::BadRequest) => Outcome::NotExecuted,
                // It panicked, or what it gave could not be written.
                Some(Code::Internal) => Outcome::Failed,
                // Peers of 2012 refuse before they run anything, but a newer one may mean something
                // else by a word that we do not know.
                _ => Outcome::Unknown,
            },
        }
    }

    /// Whether the deadline came between.
    pub fn is_deadline(&self) -> bool {
        matches!(
            self,
            Self::NotSent {
                why: Why::Deadline,
                ..
            } | Self::Unknown {
                why: Why::Deadline,
                ..
            } | Self::NotExecuted {
                code: Code::Expired,
                ..
            }
        )
    }
}

impl Hint for CallFailure {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotSent {
                why: Why::TooLarge { .. },
                ..
            } => "send less, or raise the limit of frames on both sides".to_owned(),
            Self::NotSent { .. } => "it is safe to try again".to_owned(),
            Self::NotExecuted { code, .. } => match code {
                Code::Expired => "give the call a longer deadline".to_owned(),
                Code::Unregistered => "`sky register` puts the instance back to work".to_owned(),
                _ => "it is safe to try again, on another instance if there is one".to_owned(),
            },
            Self::Unknown { .. } => {
                "it may have run: try again only what may be done twice".to_owned()
            }
            Self::Rejected { code, .. } => match code {
                Some(Code::NoMethod) => "check the names of the service and the method".to_owned(),
                Some(Code::Internal) => {
                    "the service's log tells more, under the request's id".to_owned()
                }
                _ => "check the parameter, and that the address is the service's".to_owned(),
            },
        })
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nothing was reached.
    #[error("cannot connect to {address}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// It took too long.
    #[error("{address} did not complete the handshake within {limit:?}")]
    TimedOut {
        /// Where.
        address: SocketAddr,
        /// How long was waited.
        limit: Duration,
    },
    /// It was reached, and its handshake did not come or does not read.
    #[error("{address} sent no handshake that can be read")]
    Handshake {
        /// Where.
        address: SocketAddr,
        /// What was wrong.
        #[source]
        source: Ended,
    },
    /// Another service, or another instance, has the address now. Nothing was sent to it.
    #[error("{address} belongs to {found}, not to {expected}")]
    Mismatch {
        /// Where.
        address: SocketAddr,
        /// Who was expected.
        expected: Peer,
        /// Who is there.
        found: Peer,
    },
    /// The service is there and takes no calls.
    #[error("the service at {address} is not registered")]
    Unregistered {
        /// Where.
        address: SocketAddr,
    },
}

/// A service or an instance as a handshake names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The service's name, when it is known.
    pub service: Option<Arc<str>>,
    /// The instance's id, when it is known.
    pub id: Option<InstanceId>,
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.service, self.id) {
            (Some(service), Some(id)) => write!(formatter, "`{service}` {id}"),
            (Some(service), None) => write!(formatter, "`{service}`"),
            (None, Some(id)) => write!(formatter, "instance {id}"),
            (None, None) => formatter.write_str("an unnamed service"),
        }
    }
}

impl ConnectError {
    /// Whether connecting again may help; nothing was sent in any case.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Mismatch { .. } => Retry::Never,
            _ => Retry::Safe,
        }
    }
}

impl Hint for ConnectError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { source, .. } if socket::is_out_of_files(source) => {
                "this process may open no more files: raise its limit (`ulimit -Hn`)".to_owned()
            }
            Self::Unreachable { .. } => {
                "is the service running, and is the address its own?".to_owned()
            }
            Self::TimedOut { .. } | Self::Handshake { .. } => {
                "is it a Skynet service's port, and not its admin port?".to_owned()
            }
            Self::Mismatch { .. } => {
                "the registry's entry is old; `sky instances` shows who is where".to_owned()
            }
            Self::Unregistered { .. } => "`sky register` puts the instance back to work".to_owned(),
        })
    }
}
