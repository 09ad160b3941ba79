//! How a call through the cluster fails, and what is then known of its outcome.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::hint::{Hint, Retry};
use crate::rpc::typed::TypedError;
use crate::rpc::{CallFailure, Outcome};

/// Which call failed: what every error of a call names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallId {
    /// The method that was called.
    pub method: Arc<str>,
    /// The request's id, as it stands in the logs of both sides.
    pub request_id: Arc<str>,
}

/// A failed call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No instance that the query chooses could be reached before the deadline.
    #[error(
        "no instance of `{query}` could be reached within {within:?} for `{}` ({known} known, request {})",
        call.method, call.request_id
    )]
    NoInstance {
        /// The call.
        call: CallId,
        /// Which instances were wanted.
        query: String,
        /// How many match and are registered and ready, as far as is known.
        known: usize,
        /// How long was waited.
        within: Duration,
    },
    /// The service ran the method, and the method failed.
    #[error("`{}` of `{service}` at {address} failed: {message} (request {})", call.method, call.request_id)]
    Service {
        /// The call.
        call: CallId,
        /// The service's name.
        service: Arc<str>,
        /// The instance's address.
        address: SocketAddr,
        /// The method's own words.
        message: String,
    },
    /// The call failed on its way; `source` tells what is known of the outcome.
    #[error("`{}` failed after {attempts} attempts (request {})", call.method, call.request_id)]
    Failed {
        /// The call.
        call: CallId,
        /// How many attempts reached an instance.
        attempts: u32,
        /// The attempt that decides what is known of the call: of several, the one that most likely
        /// ran, and of equals the last.
        #[source]
        source: Box<CallFailure>,
    },
    /// The parameter does not become a document; nothing was sent.
    #[error("the parameter of `{}` does not become a document (request {})", call.method, call.request_id)]
    Parameter {
        /// The call.
        call: CallId,
        /// What does not fit.
        #[source]
        source: Box<TypedError>,
    },
    /// The method ran, and its result is not what was wanted.
    #[error("the result of `{}` is not what was wanted (request {})", call.method, call.request_id)]
    Result {
        /// The call.
        call: CallId,
        /// What does not fit.
        #[source]
        source: Box<TypedError>,
    },
    /// The query asks for measurements, which a client does not have.
    #[error("`{query}` asks for measurements, by which a client cannot choose")]
    Measurements {
        /// The query.
        query: String,
    },
}

impl CallError {
    /// What is known of the call.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::NoInstance { .. } | Self::Parameter { .. } | Self::Measurements { .. } => {
                Outcome::NotSent
            }
            Self::Failed { source, .. } => source.outcome(),
            Self::Service { .. } | Self::Result { .. } => Outcome::Failed,
        }
    }

    /// Whether the same call may be made again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::NoInstance { .. } => Retry::Safe,
            Self::Failed { source, .. } => source.retry(),
            Self::Service { .. }
            | Self::Parameter { .. }
            | Self::Result { .. }
            | Self::Measurements { .. } => Retry::Never,
        }
    }
}

impl Hint for CallError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NoInstance { known: 0, .. } => Some(
                "`sky instances` lists what is registered; start one, or check the query".into(),
            ),
            Self::NoInstance { .. } => {
                Some("they are known but do not answer: are they cut off?".into())
            }
            Self::Failed { source, .. } => source.hint(),
            Self::Parameter { source, .. } | Self::Result { source, .. } => source.hint(),
            Self::Measurements { .. } => {
                Some("choose by service, version, region, host, tag or state".into())
            }
            // The service's own words are the best advice there is.
            Self::Service { .. } => None,
        }
    }
}
